//! What does the stand-in API server answer? Lists in pages, watches with bookmarks, streaming
//! lists, and what client-go wants to know before it asks for any of them.
//!
//! All answers are JSON, whatever `Accept` says: clients read what Content-Type tells.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response, Uri};
use futures_util::stream;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::store::{Kind, Opened, Store, now_us};

/// The server: what it holds, how it answers, and what it was asked.
pub struct Answers {
    pub store: Arc<Store>,
    /// Whether streaming lists are given; without, they are refused as by an old server.
    pub is_streaming: AtomicBool,
    asked: Mutex<Vec<Asked>>,
}

/// A request for objects.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    pub kind: Kind,
    pub style: Style,
    /// When the first octet of the answer was ready, in µs since the epoch.
    pub begun_us: u64,
}

/// What was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Style {
    /// A list as a stream that goes on as a watch.
    Stream,
    Page,
    Watch,
    /// A streaming list that was not given.
    Refused,
}

/// An open watch.
struct Watch {
    kind: Kind,
    answers: Arc<Answers>,
    first: std::vec::IntoIter<Bytes>,
    /// What each of the first objects needs to be a line; empty when they are lines.
    head: String,
    /// The bookmark that ends a streaming list.
    mark: Option<Bytes>,
    events: mpsc::Receiver<Bytes>,
    ends_at: Instant,
    bookmark_at: Instant,
}

/// Octets that are sent as one piece.
const PIECE_BYTES: usize = 256 * 1024;
/// Lines that are sent as one piece.
const LINES_MAX: usize = 256;
/// Time between bookmarks (about that of a real API server).
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Duration of a watch that names none.
const WATCH_MAX: Duration = Duration::from_secs(1800);

impl Answers {
    pub fn new(store: Arc<Store>) -> Arc<Self> {
        Arc::new(Self { store, is_streaming: AtomicBool::new(true), asked: Mutex::default() })
    }

    /// What was asked since the last call.
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock())
    }

    /// The service.
    pub fn router(self: &Arc<Self>) -> Router {
        let answers = Arc::clone(self);
        Router::new().fallback_service(tower::service_fn(move |request: Request<Body>| {
            let response = answers.answer(request.uri());
            async move { Ok::<_, Infallible>(response) }
        }))
    }

    fn answer(self: &Arc<Self>, uri: &Uri) -> Response<Body> {
        let query = Parameters::of(uri);
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.path() == uri.path()) else {
            return discovery(uri.path());
        };
        match (query.is("sendInitialEvents"), query.is("watch")) {
            (true, _) if !self.is_streaming.load(Ordering::Relaxed) => self.refuse(kind),
            (true, _) => self.stream(kind, &query),
            (false, true) => self.watch(kind, &query),
            (false, false) => self.page(kind, &query),
        }
    }

    fn note(&self, kind: Kind, style: Style) {
        self.asked.lock().push(Asked { kind, style, begun_us: now_us() });
    }

    fn refuse(&self, kind: Kind) -> Response<Body> {
        self.note(kind, Style::Refused);
        let message = "sendInitialEvents is forbidden for watch unless the WatchList feature gate \
                       is enabled";
        json(422, status(422, "Invalid", message))
    }

    /// All objects, a bookmark, and then changes.
    fn stream(self: &Arc<Self>, kind: Kind, query: &Parameters) -> Response<Body> {
        let opened = self.store.open(kind);
        let mark = bookmark(
            kind,
            opened.version,
            r#","annotations":{"k8s.io/initial-events-end":"true"}"#,
        );
        self.note(kind, Style::Stream);
        self.follow(kind, opened, kind.line_head("ADDED"), Some(mark), query)
    }

    /// Changes after a version.
    fn watch(self: &Arc<Self>, kind: Kind, query: &Parameters) -> Response<Body> {
        self.note(kind, Style::Watch);
        let after = query.number("resourceVersion").unwrap_or_else(|| self.store.version());
        match self.store.resume(kind, after) {
            Ok(opened) => self.follow(kind, opened, String::new(), None, query),
            Err(_) => json(200, gone()),
        }
    }

    fn follow(
        self: &Arc<Self>,
        kind: Kind,
        opened: Opened,
        head: String,
        mark: Option<Bytes>,
        query: &Parameters,
    ) -> Response<Body> {
        let now = Instant::now();
        let longest = query.number("timeoutSeconds").map(Duration::from_secs);
        let watch = Watch {
            kind,
            answers: Arc::clone(self),
            first: opened.objects.into_iter(),
            head,
            mark,
            events: opened.events,
            ends_at: now + longest.unwrap_or(WATCH_MAX),
            bookmark_at: now + BOOKMARK_EVERY,
        };
        let pieces = stream::unfold(watch, |mut watch| async move {
            let piece = watch.next().await?;
            Some((Ok::<_, Infallible>(piece), watch))
        });
        json(200, Body::from_stream(pieces))
    }

    /// A page of a list. The whole list has the version of its first page: what happens between two
    /// pages is told again by the watch that follows.
    fn page(&self, kind: Kind, query: &Parameters) -> Response<Body> {
        let token = query.text("continue").and_then(|token| token.split_once('-'));
        let begun =
            token.and_then(|(version, from)| Some((version.parse().ok()?, from.parse().ok()?)));
        // As a real API server, which serves version 0 whole out of its cache.
        let is_cached = query.text("resourceVersion") == Some("0");
        let limit = query.number("limit").filter(|limit| *limit > 0 && !is_cached);
        let from = begun.map_or(0, |(_, from)| from);
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        let (objects, newest, left) = self.store.page(kind, from, limit);
        let version: u64 = begun.map_or(newest, |(version, _)| version);
        let token = match left {
            0 => String::new(),
            _ => format!(
                r#","continue":"{version}-{}","remainingItemCount":{left}"#,
                from + objects.len()
            ),
        };
        let (name, api_version) = kind.names();
        let mut body = format!(
            r#"{{"kind":"{name}List","apiVersion":"{api_version}","metadata":{{"resourceVersion":"{version}"{token}}},"items":["#
        )
        .into_bytes();
        body.reserve(objects.iter().map(|object| object.len() + 2).sum());
        for (at, object) in objects.iter().enumerate() {
            body.extend_from_slice(if at == 0 { b"{" } else { b",{" });
            body.extend_from_slice(object);
        }
        body.extend_from_slice(b"]}");
        self.note(kind, Style::Page);
        json(200, body)
    }
}

impl Watch {
    /// The next piece of the body.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.first_piece() {
            return Some(piece);
        }
        if let Some(mark) = self.mark.take() {
            return Some(mark);
        }
        let mut lines = Vec::new();
        let until = self.ends_at.min(self.bookmark_at);
        match timeout_at(until, self.events.recv_many(&mut lines, LINES_MAX)).await {
            Ok(0) => None,
            Ok(1) => lines.pop(),
            Ok(_) => Some(lines.concat().into()),
            Err(_) if Instant::now() >= self.ends_at => None,
            Err(_) => {
                self.bookmark_at += BOOKMARK_EVERY;
                Some(bookmark(self.kind, self.answers.store.version(), ""))
            }
        }
    }

    /// Some of the objects that the watch begins with.
    fn first_piece(&mut self) -> Option<Bytes> {
        let mut piece = Vec::new();
        while piece.len() < PIECE_BYTES
            && let Some(object) = self.first.next()
        {
            piece.extend_from_slice(self.head.as_bytes());
            piece.extend_from_slice(&object);
            if !self.head.is_empty() {
                piece.extend_from_slice(b"}\n");
            }
        }
        (!piece.is_empty()).then(|| piece.into())
    }
}

/// The parameters of a URL. None that counts here needs its escapes resolved.
struct Parameters(HashMap<String, String>);

impl Parameters {
    fn of(uri: &Uri) -> Self {
        let pairs = uri.query().unwrap_or_default().split('&');
        let pairs = pairs.filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|text| !text.is_empty())
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.text(key)?.parse().ok()
    }

    fn is(&self, key: &str) -> bool {
        matches!(self.text(key), Some("true" | "1"))
    }
}

/// The last line of a watch whose version is forgotten.
pub fn gone() -> Bytes {
    let status = status(410, "Expired", "too old resource version");
    format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n").into()
}

fn status(code: u16, reason: &str, message: &str) -> String {
    format!(
        r#"{{"kind":"Status","apiVersion":"v1","metadata":{{}},"status":"Failure","message":"{message}","reason":"{reason}","code":{code}}}"#
    )
}

fn bookmark(kind: Kind, version: u64, more: &str) -> Bytes {
    let head = kind.line_head("BOOKMARK");
    // Typed clients want a spec where the type has one.
    format!("{head}\"metadata\":{{\"resourceVersion\":\"{version}\"{more}}}}}}}\n").into()
}

fn json(status: u16, body: impl Into<Body>) -> Response<Body> {
    let response = Response::builder().status(status).header("content-type", "application/json");
    response.body(body.into()).expect("its parts are valid")
}

/// What clients look up before they ask for objects.
fn discovery(path: &str) -> Response<Body> {
    let body = match path {
        "/version" => {
            r#"{"major":"1","minor":"33","gitVersion":"v1.33.1","goVersion":"go1.24.2","compiler":"gc","platform":"linux/amd64"}"#
        }
        "/api" => r#"{"kind":"APIVersions","versions":["v1"],"serverAddressByClientCIDRs":[]}"#,
        "/apis" => {
            r#"{"kind":"APIGroupList","apiVersion":"v1","groups":[{"name":"discovery.k8s.io","versions":[{"groupVersion":"discovery.k8s.io/v1","version":"v1"}],"preferredVersion":{"groupVersion":"discovery.k8s.io/v1","version":"v1"}}]}"#
        }
        "/api/v1" => {
            r#"{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"namespaces","singularName":"namespace","namespaced":false,"kind":"Namespace","verbs":["get","list","watch"]},{"name":"services","singularName":"service","namespaced":true,"kind":"Service","verbs":["get","list","watch"]},{"name":"pods","singularName":"pod","namespaced":true,"kind":"Pod","verbs":["get","list","watch"]}]}"#
        }
        "/apis/discovery.k8s.io/v1" => {
            r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"discovery.k8s.io/v1","resources":[{"name":"endpointslices","singularName":"endpointslice","namespaced":true,"kind":"EndpointSlice","verbs":["get","list","watch"]}]}"#
        }
        "/readyz" | "/livez" | "/healthz" => "ok",
        _ => {
            return json(
                404,
                status(404, "NotFound", "the server could not find the requested resource"),
            );
        }
    };
    json(200, body)
}

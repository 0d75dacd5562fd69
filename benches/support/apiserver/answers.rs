//! What does the stand-in API server answer? Lists in pages, watches with bookmarks, streaming
//! lists, and what client-go wants to know before it asks for any of them.
//!
//! Objects are JSON, or protobuf for those who ask for it, as client-go does; all else is JSON.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{Request, Response};
use futures_util::stream;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::protobuf::{self, MEDIA_TYPE};
use super::store::{Kind, Object, Opened, Store, now_us};

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
    query: Parameters,
    /// The objects that there are.
    first: std::vec::IntoIter<Object>,
    /// Lines that come next: what was missed, and the bookmark that ends a streaming list.
    told: Vec<Bytes>,
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
            let response = answers.answer(&request);
            async move { Ok::<_, Infallible>(response) }
        }))
    }

    fn answer(self: &Arc<Self>, request: &Request<Body>) -> Response<Body> {
        let uri = request.uri();
        let query = Parameters::of(request);
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
        self.follow(kind, opened, Some(mark), query)
    }

    /// Changes after a version.
    fn watch(self: &Arc<Self>, kind: Kind, query: &Parameters) -> Response<Body> {
        self.note(kind, Style::Watch);
        let after = query.number("resourceVersion").unwrap_or_else(|| self.store.version());
        match self.store.resume(kind, after) {
            Ok(opened) => self.follow(kind, opened, None, query),
            Err(_) => query.pieces(query.lines(&[gone()])),
        }
    }

    fn follow(
        self: &Arc<Self>,
        kind: Kind,
        opened: Opened,
        mark: Option<Bytes>,
        query: &Parameters,
    ) -> Response<Body> {
        let now = Instant::now();
        let longest = query.number("timeoutSeconds").map(Duration::from_secs);
        let watch = Watch {
            kind,
            answers: Arc::clone(self),
            query: query.clone(),
            first: opened.objects.into_iter(),
            told: opened.missed.into_iter().chain(mark).collect(),
            events: opened.events,
            ends_at: now + longest.unwrap_or(WATCH_MAX),
            bookmark_at: now + BOOKMARK_EVERY,
        };
        let pieces = stream::unfold(watch, |mut watch| async move {
            let piece = watch.next().await?;
            Some((Ok::<_, Infallible>(piece), watch))
        });
        query.pieces(Body::from_stream(pieces))
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
        self.note(kind, Style::Page);
        let meta = format!(r#"{{"resourceVersion":"{version}"{token}}}"#);
        match query.is_protobuf {
            true => {
                let objects = objects.iter().map(|object| &object.protobuf(kind)[..]);
                answer(200, MEDIA_TYPE, protobuf::list(kind, &meta, objects))
            }
            false => json(200, list(kind, &meta, &objects)),
        }
    }
}

impl Watch {
    /// The next piece of the body.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.first_piece() {
            return Some(piece);
        }
        if !self.told.is_empty() {
            return Some(self.query.lines(&std::mem::take(&mut self.told)));
        }
        let mut lines = Vec::new();
        let until = self.ends_at.min(self.bookmark_at);
        match timeout_at(until, self.events.recv_many(&mut lines, LINES_MAX)).await {
            Ok(0) => None,
            Ok(_) => Some(self.query.lines(&lines)),
            Err(_) if Instant::now() >= self.ends_at => None,
            Err(_) => {
                self.bookmark_at += BOOKMARK_EVERY;
                let mark = bookmark(self.kind, self.answers.store.version(), "");
                Some(self.query.lines(&[mark]))
            }
        }
    }

    /// Some of the objects that the watch begins with.
    fn first_piece(&mut self) -> Option<Bytes> {
        let (mut piece, head) = (Vec::new(), self.kind.line_head("ADDED"));
        while piece.len() < PIECE_BYTES
            && let Some(object) = self.first.next()
        {
            if self.query.is_protobuf {
                piece.extend(protobuf::frame(self.kind, "ADDED", object.protobuf(self.kind)));
            } else {
                piece.extend_from_slice(head.as_bytes());
                piece.extend_from_slice(&object.json);
                piece.extend_from_slice(b"}\n");
            }
        }
        (!piece.is_empty()).then(|| piece.into())
    }
}

/// What a request says: the parameters of its URL, none of which needs its escapes resolved here,
/// and the encoding that it accepts.
#[derive(Clone)]
struct Parameters {
    values: HashMap<String, String>,
    is_protobuf: bool,
}

impl Parameters {
    fn of(request: &Request<Body>) -> Self {
        let pairs = request.uri().query().unwrap_or_default().split('&');
        let pairs = pairs.filter_map(|pair| pair.split_once('='));
        let values = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let accepted = request.headers().get(ACCEPT).and_then(|it| it.to_str().ok());
        // Clients name first what they want most.
        let is_protobuf = accepted.is_some_and(|accepted| accepted.starts_with(MEDIA_TYPE));
        Self { values, is_protobuf }
    }

    /// Lines of a watch in the encoding that is accepted.
    fn lines(&self, lines: &[Bytes]) -> Bytes {
        match (self.is_protobuf, lines) {
            (true, _) => {
                let frames: Vec<_> = lines.iter().map(|it| protobuf::frame_of_line(it)).collect();
                frames.concat().into()
            }
            (false, [line]) => line.clone(),
            (false, _) => lines.concat().into(),
        }
    }

    /// The answer that is a watch.
    fn pieces(&self, body: impl Into<Body>) -> Response<Body> {
        match self.is_protobuf {
            true => answer(200, &format!("{MEDIA_TYPE};stream=watch"), body),
            false => json(200, body),
        }
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str).filter(|text| !text.is_empty())
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

/// A list as JSON.
fn list(kind: Kind, meta: &str, objects: &[Object]) -> Vec<u8> {
    let (name, version) = kind.names();
    let head =
        format!(r#"{{"kind":"{name}List","apiVersion":"{version}","metadata":{meta},"items":["#);
    let mut body = head.into_bytes();
    body.reserve(objects.iter().map(|object| object.json.len() + 2).sum());
    for (at, object) in objects.iter().enumerate() {
        body.extend_from_slice(if at == 0 { b"{" } else { b",{" });
        body.extend_from_slice(&object.json);
    }
    body.extend_from_slice(b"]}");
    body
}

fn json(status: u16, body: impl Into<Body>) -> Response<Body> {
    answer(status, "application/json", body)
}

fn answer(status: u16, media_type: &str, body: impl Into<Body>) -> Response<Body> {
    let response = Response::builder().status(status).header(CONTENT_TYPE, media_type);
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

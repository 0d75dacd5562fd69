//! What goes over the wire: lists, pages, single objects, and streams.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use futures_util::stream;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until};

use super::objects::kind_of;
use super::store::{Key, Store, bookmark, line};
use super::{BOOKMARK_EVERY, Fault, View};
use crate::api::Ask;

/// Pages that a client may still ask for, by their token.
type Pages = Mutex<HashMap<u64, (u64, VecDeque<Arc<str>>)>>;

/// Octets of a page that are sent at a time when they drip.
const DRIP_OCTETS: usize = 1024;

/// The API.
pub fn router(view: View) -> Router {
    let pages = Arc::<Pages>::default();
    Router::new().fallback_service(tower::service_fn(move |request: Request<Body>| {
        let (view, pages) = (view.clone(), Arc::clone(&pages));
        async move { Ok::<_, Infallible>(answer(view, &pages, request.uri()).await) }
    }))
}

/// What a request wants.
struct Wanted {
    resource: &'static str,
    /// Namespace and name of a single object.
    single: Option<(String, String)>,
    query: HashMap<String, String>,
}

impl Wanted {
    /// Reads a path such as `/api/v1/namespaces/shop/services/web`.
    fn read(uri: &axum::http::Uri) -> Option<Self> {
        let path: Vec<&str> = uri.path().split('/').skip(1).collect();
        let path = match path[..] {
            ["api", _, ref rest @ ..] | ["apis", _, _, ref rest @ ..] => rest,
            _ => return None,
        };
        let (resource, single) = match *path {
            ["namespaces", name] => ("namespaces", Some((String::new(), name.to_owned()))),
            ["namespaces", space, it, name] => (it, Some((space.to_owned(), name.to_owned()))),
            [it] => (it, None),
            _ => return None,
        };
        let all = ["namespaces", "services", "endpointslices", "pods", "serviceimports"];
        let resource = all.into_iter().find(|it| *it == resource)?;
        let pairs = uri.query().unwrap_or_default().split('&');
        let query = pairs
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Some(Self { resource, single, query })
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.query.get(key)?.parse().ok()
    }

    fn ask(&self) -> Ask {
        match (self.query.contains_key("sendInitialEvents"), self.query.contains_key("watch")) {
            (true, _) => Ask::Stream,
            (false, true) => Ask::Watch,
            (false, false) => Ask::Page,
        }
    }

    /// Whether an object is chosen by the fields that we know.
    fn matches(&self, key: &Key) -> bool {
        let Some(fields) = self.query.get("fieldSelector") else { return true };
        let fields = fields.replace("%3D", "=").replace("%2C", ",").replace("%21", "!");
        fields.split(',').all(|field| match field.split_once('=') {
            Some(("metadata.name", name)) => key.2 == name,
            Some(("metadata.namespace", name)) => key.1 == name,
            _ => true,
        })
    }
}

async fn answer(view: View, pages: &Pages, uri: &axum::http::Uri) -> Response<Body> {
    let Some(wanted) = Wanted::read(uri) else { return refusal(404, 0) };
    let (ask, version) = (wanted.ask(), wanted.number("resourceVersion"));
    let resource = wanted.resource.to_owned();
    let request = super::Request { ask, resource, version, at: Instant::now() };
    if let Some(mut switches) = view.switches() {
        switches.requests.push(request);
    }
    view.thawed().await;
    let fault = view.fault(wanted.resource);
    match fault {
        Some(Fault::Refuse(status, after)) => return refusal(status, after),
        Some(Fault::Hold) => std::future::pending().await,
        Some(Fault::NoStreams) if ask == Ask::Stream => return refusal(422, 0),
        _ => {}
    }
    match ask {
        Ask::Page | Ask::Count => page(&view, pages, &wanted, fault),
        Ask::Stream | Ask::Watch => Flow::open(view, wanted, fault),
    }
}

/// A `Status`.
fn refusal(status: u16, retry_after: u32) -> Response<Body> {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status,
        "message": "as the test wants it"});
    let mut response = Response::builder().status(status);
    if retry_after > 0 {
        response = response.header("retry-after", retry_after);
    }
    response.body(Body::from(body.to_string())).expect("its parts are valid")
}

/// A single object, or a page of a list.
fn page(view: &View, pages: &Pages, wanted: &Wanted, fault: Option<Fault>) -> Response<Body> {
    let old = view.old();
    let live = view.shared.store.lock();
    let store = old.as_ref().unwrap_or(&live);
    if let Some((namespace, name)) = &wanted.single {
        let object = store.get(wanted.resource, namespace, name);
        return object.map_or_else(|| refusal(404, 0), |text| body(text.to_string(), fault));
    }
    let asked = wanted.number("resourceVersion").unwrap_or_default();
    if asked > store.version {
        return refusal(504, 1); // Too large resource version.
    }
    let (version, mut items) = match wanted.number("continue") {
        Some(token) => match pages.lock().get(&token).cloned() {
            Some(rest) => rest,
            None => return refusal(410, 0),
        },
        None => {
            let all = store.list(wanted.resource).filter(|(key, _)| wanted.matches(key));
            (store.version, all.map(|(_, text)| Arc::clone(text)).collect())
        }
    };
    let limit = wanted.number("limit").filter(|limit| *limit > 0).unwrap_or(u64::MAX);
    let rest = items.split_off(items.len().min(usize::try_from(limit).unwrap_or(usize::MAX)));
    let (kind, api_version) = kind_of(wanted.resource);
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if !rest.is_empty() {
        let mut pages = pages.lock();
        let token = pages.len() as u64 + 1;
        metadata["continue"] = token.to_string().into();
        metadata["remainingItemCount"] = rest.len().into();
        pages.insert(token, (version, rest));
    }
    let items: Vec<&str> = items.iter().map(|text| &**text).collect();
    let list = format!(
        r#"{{"kind":"{kind}List","apiVersion":"{api_version}","metadata":{metadata},"items":[{}]}}"#,
        items.join(",")
    );
    body(list, fault)
}

/// A body that comes at once, drips or breaks.
fn body(text: String, fault: Option<Fault>) -> Response<Body> {
    let pieces: VecDeque<Bytes> = match fault {
        None | Some(Fault::NoStreams) => return Response::new(Body::from(text)),
        Some(_) => text.as_bytes().chunks(DRIP_OCTETS).map(Bytes::copy_from_slice).collect(),
    };
    let flow = stream::unfold((pieces, 0), move |(mut pieces, sent)| {
        let fault = fault.clone();
        async move {
            let piece = pieces.pop_front()?;
            match fault {
                Some(Fault::Drip(pause)) => sleep(pause).await,
                Some(Fault::Cut(after)) if sent >= after => {
                    return Some((Err(std::io::Error::other("cut")), (VecDeque::new(), sent)));
                }
                _ => {}
            }
            Some((Ok(piece), (pieces, sent + 1)))
        }
    });
    Response::new(Body::from_stream(flow))
}

/// A watch that is open.
struct Flow {
    view: View,
    wanted: Wanted,
    fault: Option<Fault>,
    lines: VecDeque<Arc<str>>,
    /// The event to send next.
    position: u64,
    sent: usize,
    /// `cut`, `ended` and `muted` when it was opened.
    opened: (u64, u64, u64),
    pulse: watch::Receiver<u64>,
    bookmark_every: Duration,
    bookmark_at: tokio::time::Instant,
    ends_at: tokio::time::Instant,
}

/// What a flow does next.
enum Turn {
    Line(Arc<str>),
    Wait,
    Break,
    End,
}

impl Flow {
    /// Opens a stream of what is there and of changes, or of changes after a version.
    fn open(view: View, wanted: Wanted, fault: Option<Fault>) -> Response<Body> {
        let is_list = wanted.ask() == Ask::Stream;
        let old = view.old();
        let store = view.shared.store.lock();
        let version = wanted.number("resourceVersion").unwrap_or_default();
        if version > store.version {
            return refusal(504, 1); // Too large resource version.
        }
        let mut lines = VecDeque::new();
        // Version 0 is "any": what there is, and then changes.
        let position = match is_list || version == 0 {
            true => Some(store.end((view.side, wanted.resource))),
            false => store.position((view.side, wanted.resource), version),
        };
        if position.is_none() {
            lines.push_back(expired());
        } else if is_list {
            lines = initial(old.as_ref().unwrap_or(&store), &wanted);
        }
        drop(store);
        let opened = view.switches().map(|it| (it.cut, it.ended, it.muted)).unwrap_or_default();
        let bookmark_every = view.switches().and_then(|it| it.bookmark_every);
        let bookmark_every = bookmark_every.unwrap_or(BOOKMARK_EVERY);
        let now = tokio::time::Instant::now();
        let lifetime = wanted.number("timeoutSeconds").map_or(3600, |seconds| seconds.min(3600));
        let is_expired = position.is_none();
        let flow = Self {
            pulse: view.shared.pulse.subscribe(),
            view,
            wanted,
            fault,
            lines,
            position: position.unwrap_or_default(),
            sent: 0,
            opened,
            bookmark_every,
            bookmark_at: now + bookmark_every,
            ends_at: if is_expired { now } else { now + Duration::from_secs(lifetime) },
        };
        Response::new(Body::from_stream(stream::unfold(flow, Self::next)))
    }

    /// The next line.
    async fn next(mut self) -> Option<(Result<Bytes, std::io::Error>, Self)> {
        loop {
            self.view.thawed().await;
            match self.turn() {
                Turn::End => return None,
                Turn::Break => return Some((Err(std::io::Error::other("cut")), self)),
                Turn::Line(line) => {
                    if let Some(Fault::Drip(pause)) = self.fault {
                        sleep(pause).await;
                    }
                    self.sent += 1;
                    return Some((Ok(Bytes::copy_from_slice(line.as_bytes())), self));
                }
                Turn::Wait => {
                    let until = self.bookmark_at.min(self.ends_at);
                    tokio::select! {
                        changed = self.pulse.changed() => changed.ok()?,
                        () = sleep_until(until) => {}
                    }
                }
            }
        }
    }

    fn turn(&mut self) -> Turn {
        let (cut, ended, muted) = self.opened;
        let now = self.view.switches().map(|it| (it.cut, it.ended, it.muted));
        let (was_cut, has_ended, is_mute) =
            now.map(|now| (now.0 > cut, now.1 > ended, now.2 > muted)).unwrap_or_default();
        let is_through = matches!(self.fault, Some(Fault::Cut(after)) if self.sent >= after);
        if was_cut || is_through {
            return Turn::Break;
        }
        if is_mute {
            let far = tokio::time::Instant::now() + Duration::from_secs(3600);
            (self.bookmark_at, self.ends_at) = (far, far);
            return Turn::Wait;
        }
        if has_ended {
            return Turn::End;
        }
        if let Some(line) = self.lines.pop_front() {
            return Turn::Line(line);
        }
        let now = tokio::time::Instant::now();
        if now >= self.ends_at {
            return Turn::End;
        }
        self.look(now)
    }

    /// Takes the events that are new.
    fn look(&mut self, now: tokio::time::Instant) -> Turn {
        let store = self.view.shared.store.lock();
        match store.since((self.view.side, self.wanted.resource), self.position) {
            None => {
                self.ends_at = now;
                return Turn::Line(expired());
            }
            Some(events) => {
                self.position += events.len() as u64;
                let chosen = events.into_iter().filter(|it| is_chosen(&self.wanted, &it.line));
                self.lines.extend(chosen.map(|event| event.line));
            }
        }
        if let Some(line) = self.lines.pop_front() {
            return Turn::Line(line);
        }
        if now >= self.bookmark_at {
            self.bookmark_at = now + self.bookmark_every;
            return Turn::Line(bookmark(self.wanted.resource, store.version, false));
        }
        Turn::Wait
    }
}

/// What there is, and the bookmark that ends it.
fn initial(store: &Store, wanted: &Wanted) -> VecDeque<Arc<str>> {
    let all = store.list(wanted.resource).filter(|(key, _)| wanted.matches(key));
    let end = bookmark(wanted.resource, store.version, true);
    all.map(|(_, text)| line("ADDED", text)).chain([end]).collect()
}

/// Whether an event is of an object that the fields choose.
fn is_chosen(wanted: &Wanted, line: &str) -> bool {
    if !wanted.query.contains_key("fieldSelector") {
        return true;
    }
    let event: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    let text = |name: &str| event["object"]["metadata"][name].as_str().unwrap_or("").to_owned();
    wanted.matches(&(wanted.resource, text("namespace"), text("name")))
}

/// The event that tells that a version is forgotten.
fn expired() -> Arc<str> {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": "Expired", "code": 410, "message": "too old resource version"});
    line("ERROR", &status.to_string())
}

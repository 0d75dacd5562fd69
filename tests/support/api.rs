//! An API server that says what a test tells it to, and remembers what it was asked.
//!
//! It is a tower service, so that a client can call it without a socket and on a paused clock;
//! [`Script::listen`] puts it on a loopback port for the few tests that want one.

#![allow(dead_code, reason = "each test uses what it needs")]

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use futures_util::stream;
use parking_lot::Mutex;
use tokio::time::Instant;

/// What a request wants.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ask {
    /// A streaming list.
    Stream,
    /// A page of a list.
    Page,
    /// One object of a list, and how many there are besides.
    Count,
    /// Changes after a version.
    Watch,
}

/// A request that was made.
#[derive(Clone, Debug)]
pub struct Asked {
    pub ask: Ask,
    pub resource: String,
    pub query: HashMap<String, String>,
    pub at: Instant,
}

/// One step of a body.
#[derive(Clone, Debug)]
pub enum Step {
    Send(String),
    Wait(Duration),
    /// Says nothing until the client goes away.
    Hold,
    /// Breaks the connection.
    Break,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    retry_after: Option<u32>,
    steps: VecDeque<Step>,
}

/// The answers to come. A question without one is held open in silence.
#[derive(Default)]
pub struct Script {
    replies: Mutex<HashMap<(Ask, String), VecDeque<Reply>>>,
    asked: Mutex<Vec<Asked>>,
}

impl Reply {
    /// An answer with status 200 and these lines, which then ends.
    pub fn lines(lines: impl IntoIterator<Item = String>) -> Self {
        let steps = lines.into_iter().map(|line| Step::Send(line + "\n")).collect();
        Self { status: 200, retry_after: None, steps }
    }

    /// An answer with status 200 and this body.
    pub fn body(text: impl Into<String>) -> Self {
        let steps = VecDeque::from([Step::Send(text.into())]);
        Self { status: 200, retry_after: None, steps }
    }

    /// A refusal.
    pub fn status(status: u16) -> Self {
        let text = format!(r#"{{"kind":"Status","code":{status},"message":"as scripted"}}"#);
        Self { status, ..Self::body(text) }
    }

    pub fn retry_after(self, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// Goes on with another step.
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push_back(step);
        self
    }

    fn into_response(self) -> Response<Body> {
        let body = stream::unfold(self.steps, |mut steps| async move {
            loop {
                match steps.pop_front()? {
                    Step::Send(text) => return Some((Ok(Bytes::from(text)), steps)),
                    Step::Break => return Some((Err(std::io::Error::other("broken")), steps)),
                    Step::Wait(time) => tokio::time::sleep(time).await,
                    Step::Hold => std::future::pending().await,
                }
            }
        });
        let mut response = Response::builder().status(self.status);
        if let Some(seconds) = self.retry_after {
            response = response.header("retry-after", seconds);
        }
        response.body(Body::from_stream(body)).expect("scripted parts are valid")
    }
}

impl Script {
    /// Adds an answer for the next such question about `resource`.
    pub fn on(&self, ask: Ask, resource: &str, reply: Reply) {
        self.replies.lock().entry((ask, resource.to_owned())).or_default().push_back(reply);
    }

    /// The questions so far about `resource`.
    pub fn asked(&self, resource: &str) -> Vec<Asked> {
        self.asked.lock().iter().filter(|asked| asked.resource == resource).cloned().collect()
    }

    /// The service.
    pub fn router(self: &Arc<Self>) -> Router {
        let script = Arc::clone(self);
        Router::new().fallback_service(tower::service_fn(move |request: Request<Body>| {
            let response = script.answer(request.uri());
            async move { Ok::<_, Infallible>(response) }
        }))
    }

    /// Serves on a loopback port until the runtime ends.
    pub async fn listen(self: &Arc<Self>) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let router = self.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    fn answer(&self, uri: &axum::http::Uri) -> Response<Body> {
        let query = uri.query().unwrap_or_default().split('&');
        let query: HashMap<_, _> = query
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let ask = match (query.contains_key("sendInitialEvents"), query.contains_key("watch")) {
            (true, _) => Ask::Stream,
            (false, true) => Ask::Watch,
            (false, false) if query.get("limit").is_some_and(|limit| limit == "1") => Ask::Count,
            (false, false) => Ask::Page,
        };
        let resource = uri.path().rsplit('/').next().unwrap_or_default().to_owned();
        let reply =
            self.replies.lock().get_mut(&(ask, resource.clone())).and_then(VecDeque::pop_front);
        self.asked.lock().push(Asked { ask, resource, query, at: Instant::now() });
        reply.unwrap_or_else(|| Reply::lines([]).then(Step::Hold)).into_response()
    }
}

//! The three requests of a watch, and what they cost.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use kube::api::{ListParams, VersionMatch, WatchParams};
use kube::client::Body;
use kube::core::Request;
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::time::{Instant, timeout};

use crate::cluster::config::Scope;
use crate::cluster::connect::ApiServer;
use crate::cluster::feed::Feed;
use crate::cluster::object::Kind;
use crate::cluster::watch::Timing;
use crate::cluster::watch::canary::Count;
use crate::cluster::watch::lines::Lines;
use crate::cluster::watch::trouble::{Trouble, chain};

/// Largest page of a list, in bytes. A larger one makes us ask for fewer objects per page.
const PAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest answer to the question how many objects there are; it has one of them, and etcd takes
/// objects of 1.5 MiB.
const COUNT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest wait for that answer.
const COUNT_MAX: Duration = Duration::from_secs(20);
/// Most of an error body that is read, in bytes.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// Pods that have not ended: the others keep an address that may be another's by then (as CoreDNS).
const PODS_AT_WORK: &str = "status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown";

/// Where an API server keeps objects. Slices may be found in either of two places.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Resource {
    /// Its name, in URLs and RBAC rules.
    pub name: &'static str,
    /// The API group, empty for the core.
    pub group: &'static str,
    path: &'static str,
}

/// The answer to the question how many objects there are.
#[derive(Deserialize)]
struct Counted {
    metadata: CountedMetadata,
    items: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
struct CountedMetadata {
    #[serde(rename = "resourceVersion")]
    version: String,
    #[serde(rename = "continue")]
    token: Option<String>,
    #[serde(rename = "remainingItemCount")]
    remaining: Option<u64>,
}

/// One resource of one API server.
#[derive(Clone)]
pub(super) struct Api {
    server: Arc<ApiServer>,
    feed: Arc<Feed>,
    resource: Resource,
    label_selector: Option<String>,
    field_selector: Option<String>,
    timing: Timing,
}

impl Resource {
    pub(super) const SLICES: Self = Self {
        name: "endpointslices",
        group: "discovery.k8s.io",
        path: "/apis/discovery.k8s.io/v1/endpointslices",
    };
    /// What API servers without the discovery API have instead.
    pub(super) const ENDPOINTS: Self =
        Self { name: "endpoints", group: "", path: "/api/v1/endpoints" };

    /// Where objects of `kind` are found first.
    pub(super) fn of(kind: Kind) -> Self {
        let (group, path) = match kind {
            Kind::Namespace => ("", "/api/v1/namespaces"),
            Kind::Service => ("", "/api/v1/services"),
            Kind::Slice => return Self::SLICES,
            Kind::Pod => ("", "/api/v1/pods"),
            Kind::Import => {
                ("multicluster.x-k8s.io", "/apis/multicluster.x-k8s.io/v1alpha1/serviceimports")
            }
        };
        Self { name: kind.resource(), group, path }
    }
}

impl Api {
    /// What `scope` counts of the objects of `kind`.
    pub(super) fn new(
        kind: Kind,
        scope: &Scope,
        server: Arc<ApiServer>,
        feed: Arc<Feed>,
        timing: Timing,
    ) -> Self {
        let label_selector = scope.selector(kind).map(ToString::to_string);
        let field_selector = field_selector(kind, scope);
        let resource = Resource::of(kind);
        Self { server, feed, resource, label_selector, field_selector, timing }
    }

    /// What is asked for.
    pub(super) fn resource(&self) -> Resource {
        self.resource
    }

    /// The same for whoever waits only so long for an answer.
    pub(super) fn within(&self, answer: Duration) -> Self {
        Self { timing: Timing { answer, ..self.timing }, ..self.clone() }
    }

    /// Asks for another resource from here on.
    pub(super) fn turn_to(&mut self, resource: Resource) {
        self.resource = resource;
    }

    /// Whether the server has a resource and lets us see it.
    pub(super) async fn has(&self, resource: Resource) -> bool {
        let params = ListParams::default().limit(1);
        self.ask(Request::new(resource.path).list(&params)).await.is_ok()
    }

    /// Asks for all objects, a bookmark, and then changes, as one stream (WatchList); not older
    /// than a version, if there is one.
    pub(super) async fn stream(&self, not_older: Option<&str>) -> Result<Lines, Trouble> {
        // The empty version asks for the most recent state, so no old replica can answer.
        let version = not_older.unwrap_or_default();
        self.watch(&self.watch_params().initial_events(), version).await
    }

    /// Whether the server tells how many objects there are: of those that it chooses for us, it
    /// does not.
    pub(super) fn is_countable(&self) -> bool {
        self.label_selector.is_none() && self.field_selector.is_none()
    }

    /// Asks how many objects there are, for the price of one.
    pub(super) async fn count(self) -> Option<Count> {
        let request = self.request().list(&ListParams::default().limit(1));
        let asked = async {
            let answer = self.ask(request).await.ok()?;
            collect(answer.into_body(), COUNT_BYTES_MAX, COUNT_MAX).await.ok()
        };
        let body = timeout(COUNT_MAX, asked).await.ok()??;
        let head: Counted = serde_json::from_slice(&body).ok()?;
        let items = head.items.map_or(0, |items| items.len() as u64);
        let is_all = head.metadata.token.is_none_or(|token| token.is_empty());
        let more = head.metadata.remaining.or(is_all.then_some(0))?;
        Some(Count { version: head.metadata.version.parse().ok()?, objects: items + more })
    }

    /// Asks for the changes after `version`.
    pub(super) async fn resume(&self, version: &str) -> Result<Lines, Trouble> {
        self.watch(&self.watch_params(), version).await
    }

    /// Asks for a page of a list, most recent state; the first one not older than a version, if
    /// there is one.
    pub(super) async fn page(
        &self,
        limit: u32,
        token: Option<&str>,
        not_older: Option<&str>,
    ) -> Result<Vec<u8>, Trouble> {
        let mut params = ListParams::default().limit(limit);
        if let Some(version) = not_older.filter(|_| token.is_none()) {
            params = params.at(version).matching(VersionMatch::NotOlderThan);
        }
        params.label_selector.clone_from(&self.label_selector);
        params.field_selector.clone_from(&self.field_selector);
        params.continue_token = token.map(str::to_owned);
        let answer = self.ask(self.request().list(&params)).await?;
        collect(answer.into_body(), PAGE_BYTES_MAX, self.timing.answer).await
    }

    /// Has the credentials read again.
    pub(super) async fn renew(&self) {
        self.server.renew().await;
    }

    /// What to do when the credentials are refused.
    pub(super) fn remedy(&self) -> String {
        self.server.remedy()
    }

    /// A watch with bookmarks that ends at a random time.
    fn watch_params(&self) -> WatchParams {
        let (shortest, longest) = self.timing.watch_s;
        let mut params = WatchParams::default().timeout(rand::random_range(shortest..=longest));
        params.label_selector.clone_from(&self.label_selector);
        params.field_selector.clone_from(&self.field_selector);
        params
    }

    fn request(&self) -> Request {
        Request::new(self.resource.path)
    }

    /// Opens a watch.
    async fn watch(&self, params: &WatchParams, version: &str) -> Result<Lines, Trouble> {
        let answer = self.ask(self.request().watch(params, version)).await?;
        Ok(Lines::new(answer.into_body()))
    }

    /// Sends a request, counts it, and turns every answer but 200 into a Trouble.
    async fn ask(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Response<Body>, Trouble> {
        let request = request.map_err(|error| Trouble::Garbage(chain(&error)))?.map(Body::from);
        self.feed.requests.waits.record(self.server.limits().turn().await);
        // It is given back when the head of the answer is there: a watch is open for minutes, and a
        // page may take long, so with their bodies the watches would lock each other out.
        let place = self.server.limits().place().await;
        let asked = Instant::now();
        let answer = timeout(self.timing.answer, self.server.client().send(request)).await;
        drop(place);
        let code = answer.as_ref().ok().and_then(|a| a.as_ref().ok()).map(|a| a.status().as_u16());
        self.feed.requests.count(code.unwrap_or(0), asked.elapsed());
        let answer = answer.map_err(|_| self.no_answer())?;
        let answer = answer.map_err(|error| Trouble::Unreachable(chain(&error)))?;
        if answer.status().is_success() { Ok(answer) } else { Err(self.refusal(answer).await) }
    }

    /// The head of the answer did not come in time.
    fn no_answer(&self) -> Trouble {
        Trouble::Unreachable(format!("no answer within {} s", self.timing.answer.as_secs_f32()))
    }

    /// Reads why the server refused.
    async fn refusal(&self, answer: Response<Body>) -> Trouble {
        let (parts, body) = answer.into_parts();
        let body = collect(body, ERROR_BYTES_MAX, self.timing.answer).await.unwrap_or_default();
        Trouble::from_answer(parts.status, &parts.headers, &body)
    }
}

/// What the server is to choose by other things than labels.
fn field_selector(kind: Kind, scope: &Scope) -> Option<String> {
    let field = if kind == Kind::Namespace { "metadata.name" } else { "metadata.namespace" };
    let namespace = only_namespace(scope).map(|namespace| format!("{field}={namespace}"));
    let pods = (kind == Kind::Pod).then(|| PODS_AT_WORK.to_owned());
    let fields: Vec<String> = namespace.into_iter().chain(pods).collect();
    (!fields.is_empty()).then(|| fields.join(","))
}

/// The one exposed Namespace, if it is one: the server can choose it for us then.
fn only_namespace(scope: &Scope) -> Option<&str> {
    match &scope.namespaces[..] {
        [only] => Some(only),
        _ => None,
    }
}

/// Reads a body of at most `bytes_max`, as long as something arrives every `patience`.
async fn collect(mut body: Body, bytes_max: usize, patience: Duration) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    loop {
        let frame = timeout(patience, body.frame()).await;
        match frame.map_err(|_| Trouble::Stalled(patience))? {
            None => return Ok(bytes),
            Some(Err(error)) => return Err(Trouble::Cut(chain(&error))),
            Some(Ok(frame)) => {
                bytes.extend_from_slice(frame.data_ref().map_or(&[], |piece| piece));
                if bytes.len() > bytes_max {
                    return Err(Trouble::PageTooLarge(bytes_max));
                }
            }
        }
    }
}

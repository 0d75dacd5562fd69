//! The three requests of a watch, and what they cost.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use kube::api::{ListParams, WatchParams};
use kube::client::Body;
use kube::core::Request;
use tokio::time::{Instant, timeout};

use crate::cluster::connect::ApiServer;
use crate::cluster::feed::Feed;
use crate::cluster::object::Kind;
use crate::cluster::watch::Timing;
use crate::cluster::watch::lines::Lines;
use crate::cluster::watch::trouble::{Trouble, chain};

/// Largest page of a list, in bytes. A larger one makes us ask for fewer objects per page.
const PAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most of an error body that is read, in bytes.
const ERROR_BYTES_MAX: usize = 64 * 1024;

/// One resource of one API server.
pub(super) struct Api {
    server: Arc<ApiServer>,
    feed: Arc<Feed>,
    request: Request,
    /// Restricts all requests to one Namespace.
    field_selector: Option<String>,
    timing: Timing,
}

impl Api {
    /// The resource of `kind`, in all Namespaces or in one.
    pub(super) fn new(
        kind: Kind,
        only_namespace: Option<&str>,
        server: Arc<ApiServer>,
        feed: Arc<Feed>,
        timing: Timing,
    ) -> Self {
        let field = if kind == Kind::Namespace { "metadata.name" } else { "metadata.namespace" };
        let field_selector = only_namespace.map(|namespace| format!("{field}={namespace}"));
        Self { server, feed, request: Request::new(path(kind)), field_selector, timing }
    }

    /// Asks for all objects, a bookmark, and then changes, as one stream (WatchList).
    pub(super) async fn stream(&self) -> Result<Lines, Trouble> {
        // The empty version asks for the most recent state, so no old replica can answer.
        self.watch(&self.watch_params().initial_events(), "").await
    }

    /// Asks for the changes after `version`.
    pub(super) async fn resume(&self, version: &str) -> Result<Lines, Trouble> {
        self.watch(&self.watch_params(), version).await
    }

    /// Asks for a page of a list, most recent state.
    pub(super) async fn page(&self, limit: u32, token: Option<&str>) -> Result<Vec<u8>, Trouble> {
        let mut params = ListParams::default().limit(limit);
        params.field_selector.clone_from(&self.field_selector);
        params.continue_token = token.map(str::to_owned);
        let answer = self.ask(self.request.list(&params)).await?;
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
        params.field_selector.clone_from(&self.field_selector);
        params
    }

    /// Opens a watch.
    async fn watch(&self, params: &WatchParams, version: &str) -> Result<Lines, Trouble> {
        let answer = self.ask(self.request.watch(params, version)).await?;
        Ok(Lines::new(answer.into_body()))
    }

    /// Sends a request, counts it, and turns every answer but 200 into a Trouble.
    async fn ask(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Response<Body>, Trouble> {
        let request = request.map_err(|error| Trouble::Garbage(chain(&error)))?.map(Body::from);
        let asked = Instant::now();
        let answer = timeout(self.timing.answer, self.server.client().send(request)).await;
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

/// The URL path of the resource.
fn path(kind: Kind) -> &'static str {
    match kind {
        Kind::Namespace => "/api/v1/namespaces",
        Kind::Service => "/api/v1/services",
        Kind::Slice => "/apis/discovery.k8s.io/v1/endpointslices",
        Kind::Pod => "/api/v1/pods",
        Kind::Import => "/apis/multicluster.x-k8s.io/v1alpha1/serviceimports",
    }
}

/// The RBAC group of the resource.
pub(super) fn group(kind: Kind) -> &'static str {
    match kind {
        Kind::Namespace | Kind::Service | Kind::Pod => "",
        Kind::Slice => "discovery.k8s.io",
        Kind::Import => "multicluster.x-k8s.io",
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

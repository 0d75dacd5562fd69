//! APIs that a server may not have, or may not show us: what takes their place, and what is told.
//!
//! ```text
//! endpointslices  404 ──────► endpoints, until the others are found and listed
//! serviceimports  404 ──────► an empty list: the cluster set has no Services
//! serviceimports, pods  403 ► nothing: nobody knows whether there are any
//! ```
//!
//! Each is told once, and looked for ever more slowly. The watches of other kinds do not notice.
//! Proxies before API servers say 404 at times, so what was listed before is not given up at once.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::cluster::feed::Fault;
use crate::cluster::object::Kind;
use crate::cluster::watch::Watcher;
use crate::cluster::watch::api::Resource;
use crate::cluster::watch::lines::Lines;
use crate::cluster::watch::trouble::Trouble;

/// Longest wait for the answer whether EndpointSlices are there: meanwhile no change is taken from
/// the open watch of what is in their place.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// What is known of an API that is missing.
#[derive(Debug, Default)]
pub(super) struct Lack {
    /// The fault that was told.
    told: Option<Fault>,
    /// The first 404 of those that nothing else came between.
    absent_since: Option<Instant>,
    /// The Index was told that there is nothing.
    is_listed: bool,
    /// When EndpointSlices are looked for again, while Endpoints are in their place.
    look_at: Option<Instant>,
}

impl Watcher {
    /// The name of what is asked for.
    pub(super) fn resource(&self) -> &'static str {
        self.api.resource().name
    }

    /// Lists all objects, or what is in their place.
    pub(super) async fn list_what_is_there(&mut self) -> Result<Option<Lines>, Trouble> {
        if self.kind == Kind::Slice {
            return self.list_slices().await;
        }
        let listed = self.list().await;
        if self.kind == Kind::Import && matches!(listed, Err(Trouble::Absent(_))) {
            self.list_nothing().await?;
        }
        listed
    }

    /// Lists EndpointSlices, or the Endpoints of a server without the discovery API.
    async fn list_slices(&mut self) -> Result<Option<Lines>, Trouble> {
        let was_replaced = self.api.resource() == Resource::ENDPOINTS;
        if was_replaced && self.has_slices().await {
            tracing::info!("the API server has endpointslices; watching them again");
            self.turn_to(Resource::SLICES);
        }
        let listed = self.list().await;
        let Err(why) = &listed else { return listed };
        let is_replaced = match why {
            Trouble::Hangup => false,
            _ if self.api.resource() == Resource::ENDPOINTS => false,
            // Endpoints stay in their place until a whole list of the others has come.
            _ if was_replaced => true,
            Trouble::Absent(_) => self.is_surely_absent(),
            _ => false,
        };
        if !is_replaced {
            return listed;
        }
        tracing::info!("no endpointslices ({why}); watching endpoints instead");
        self.turn_to(Resource::ENDPOINTS);
        self.list().await
    }

    /// Asks for another resource from here on. What was seen of the first says nothing of it.
    fn turn_to(&mut self, resource: Resource) {
        self.api.turn_to(resource);
        let is_replaced = resource == Resource::ENDPOINTS;
        self.lack.look_at = is_replaced.then(|| Instant::now() + self.timing.missing.1);
        self.forget();
    }

    /// Looks for EndpointSlices, when it is time to; true when a full list is to bring them back.
    pub(super) async fn finds_slices(&mut self) -> bool {
        let now = Instant::now();
        if self.lack.look_at.is_none_or(|at| now < at) {
            return false;
        }
        self.lack.look_at = Some(now + self.timing.missing.1);
        self.has_slices().await
    }

    /// When that is to be done.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.lack.look_at
    }

    async fn has_slices(&self) -> bool {
        timeout(LOOK_MAX, self.api.has(Resource::SLICES)).await.unwrap_or(false)
    }

    /// Whether a 404 is to be believed: at once where nothing was listed. EndpointSlices of a
    /// Snapshot are not enough to wait for: Endpoints are in their place. Nothing
    /// is in the place of the others.
    fn is_surely_absent(&mut self) -> bool {
        let state = self.feed.kind(self.kind);
        let is_known = match self.kind {
            Kind::Slice => state.relists.value() > 0,
            _ => state.is_synced(),
        };
        if !is_known {
            return true;
        }
        let since = *self.lack.absent_since.get_or_insert_with(Instant::now);
        since.elapsed() >= self.timing.missing.1
    }

    /// Something else than a 404 came, so one that comes now is the first. What was absent was as
    /// it is known until here, however long ago it was looked for.
    pub(super) fn forget_absence(&mut self) {
        self.lack.absent_since = None;
        if self.feed.kind(self.kind).is_absent() {
            self.feed.hear(self.kind, Instant::now());
            self.feed.kind(self.kind).set_absent(false);
        }
    }

    fn forget(&mut self) {
        (self.version, self.passed) = (None, None);
        self.seen = super::Seen::default();
    }

    /// Says that there are no objects, once that is sure.
    async fn list_nothing(&mut self) -> Result<(), Trouble> {
        let is_sure = self.is_surely_absent();
        // Until it is sure, what is known is an old picture, and no word of it is one of its age.
        if !is_sure && !self.lack.is_listed {
            return Ok(());
        }
        self.feed.hear(self.kind, Instant::now());
        if self.lack.is_listed {
            self.feed.kind(self.kind).set_absent(true);
            return Ok(());
        }
        if self.listed_at.take().is_some() {
            tracing::warn!(resource = self.resource(), "it stays away; what was there is gone");
        }
        self.forget();
        self.outlet.begin(self.kind).await?;
        self.outlet.end(self.kind).await?;
        self.feed.kind(self.kind).listed();
        self.feed.kind(self.kind).set_absent(true);
        self.lack.is_listed = true;
        Ok(())
    }

    /// A full list is complete, so nothing is missing (any more).
    pub(super) fn recover_lack(&mut self) {
        let lack = Lack { look_at: self.lack.look_at, ..Lack::default() };
        if std::mem::replace(&mut self.lack, lack).told.is_some() {
            tracing::info!(resource = self.resource(), "it is there; listed");
        }
        self.lacks.succeed();
    }

    /// Whether only names of its own need what is missing: a server without it is sound.
    pub(super) fn is_bearable(&self, why: &Trouble) -> bool {
        match self.kind {
            Kind::Import => matches!(why, Trouble::Absent(_) | Trouble::Forbidden(_)),
            Kind::Pod => matches!(why, Trouble::Forbidden(_)),
            Kind::Namespace | Kind::Service | Kind::Slice => false,
        }
    }

    /// Tells what is missing and what to do, once while that lasts.
    pub(super) fn tell_lack(&mut self, why: &Trouble, fault: Fault) {
        if self.lack.told.replace(fault) == Some(fault) {
            return;
        }
        let remedy = match why {
            Trouble::Absent(_) => format!(
                "; install the CustomResourceDefinition {}.{}",
                self.resource(),
                self.api.resource().group
            ),
            _ => self.remedy(fault),
        };
        let meanwhile = self.meanwhile(why);
        tracing::warn!(resource = self.resource(), "{why}{remedy}; until then {meanwhile}");
    }

    /// What clients get while it is missing.
    fn meanwhile(&self, why: &Trouble) -> &'static str {
        match (self.kind, why) {
            _ if self.listed_at.is_some() => "the last picture of them is served",
            (_, Trouble::Absent(_)) => "the cluster set has no names",
            (Kind::Pod, _) => "names of Pods are SERVFAIL",
            _ => "names of the cluster set are SERVFAIL",
        }
    }

    /// How long to wait before EndpointSlices, or what is in their place, are listed again.
    pub(super) fn pause_of_slices(&mut self, why: &Trouble) -> Duration {
        if self.lack.absent_since.is_none() {
            return self.pause_before_list();
        }
        // They were there: their last picture is served, and a moment may be all.
        self.pause_of_lack(why).min(self.timing.relist_backoff.1)
    }

    /// How long to wait before it is looked for again.
    pub(super) fn pause_of_lack(&mut self, why: &Trouble) -> Duration {
        if matches!(why, Trouble::Absent(_)) {
            self.version = None;
        }
        self.lacks.fail()
    }
}

//! A cluster at work: its source, the task that owns the Index, the newest Zone.
//!
//! ```text
//! live ─► source (tried until it can start) ─► Changes ─► keep: Index ─► Published
//!   └──── begins anew when the keeper ends; the last Zone is served meanwhile
//! ```
//!
//! Nobody waits for the API server here, and nothing that is wrong with it ends the server.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::age;
use super::config::{Config, Scope, Source};
use super::feed::Feed;
use super::index::Index;
use super::object::{CHANGES_MAX, Change, Kind, Object, ObjectKey, Role};
use super::positions::Positions;
use super::programming::{Programming, ServiceKind};
use super::published::Published;
use super::snapshot::{self, Confirmed, Keeping, Place, Restored, Saver, Wake};
use super::source;
use super::zone::Zone;
use crate::wire::serial;

/// Changes that one publish may bring together. Under churn this coalesces; on an idle server a
/// change is published alone, at once.
const PUBLISH_MAX: usize = 1024;
/// Pause before a source that cannot start is tried again, and a keeper that ended begins anew.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// How much older than the clock the serial is of what is not known yet, in seconds: far enough to
/// be old to every secondary, and less than half of all serials (RFC 1982 §3.2).
const UNKNOWN_AGE_S: u32 = 1 << 30;
/// How often it is told why a source cannot start.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

/// One cluster. Dropping it ends its tasks.
pub struct Cluster {
    pub identity: Identity,
    pub published: Arc<Published>,
    pub feed: Arc<Feed>,
    pub programming: Arc<Programming>,
    pub keeping: Arc<Keeping>,
    task: JoinHandle<()>,
}

/// What makes two directives show the same cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    pub source: Source,
    pub scope: Scope,
}

/// What the tasks of a cluster share.
#[derive(Clone)]
struct Shared {
    identity: Identity,
    published: Arc<Published>,
    feed: Arc<Feed>,
    programming: Arc<Programming>,
    keeping: Arc<Keeping>,
    /// What the Snapshot brought, until somebody takes it.
    restored: Arc<Mutex<Option<Restored>>>,
}

impl Identity {
    /// The cluster that a directive shows.
    pub fn of(config: &Config) -> Self {
        Self { source: config.source.clone(), scope: config.scope.clone() }
    }
}

impl Cluster {
    /// Starts the source and the task that owns the Index.
    pub fn start(identity: Identity) -> Self {
        Self::start_after(None, identity, None)
    }

    /// The same, with serials that are newer than this one, and with the Snapshot in a place.
    pub fn start_after(serial: Option<u32>, identity: Identity, place: Option<Place>) -> Self {
        Self::with(serial, identity, place, |shared| {
            tokio::spawn(async move {
                // One task, so that dropping it ends all; none of them ends the others.
                tokio::join!(
                    survive(|| live(shared.clone())),
                    survive(|| age::tend(shared.feed.clone(), shared.published.clone())),
                    survive(|| tell_each_time(&shared)),
                    survive(|| snapshot::learn(&shared.identity, &shared.feed, &shared.keeping)),
                );
            })
        })
    }

    /// A cluster without a source: whoever holds the Sender tells it what there is.
    pub fn told(identity: Identity) -> (Self, Sender<Change>) {
        let (sender, changes) = mpsc::channel(CHANGES_MAX);
        let start = |shared: Shared| {
            let index = fresh_index(&shared);
            tokio::spawn(keep(shared, index, changes))
        };
        (Self::with(None, identity, None, start), sender)
    }

    fn with(
        serial: Option<u32>,
        identity: Identity,
        place: Option<Place>,
        start: impl FnOnce(Shared) -> JoinHandle<()>,
    ) -> Self {
        let serial = serial.unwrap_or_else(|| now_unix_s().wrapping_sub(UNKNOWN_AGE_S));
        let (keeping, restored) = Keeping::begin(place, |place| {
            snapshot::restore(place, &identity.scope, serial, snapshot::now_s())
        });
        let kept_serial = restored.as_ref().map(|it| it.index.zone().serial);
        let serial = kept_serial.map_or(serial, |kept| serial::newest(kept, serial));
        let shared = Shared {
            identity: identity.clone(),
            published: Arc::new(Published::after(serial)),
            feed: Arc::new(Feed::new(Instant::now(), &identity.scope)),
            programming: Arc::default(),
            keeping: Arc::new(keeping),
            restored: Arc::default(),
        };
        if let Some(mut restored) = restored {
            show(&mut restored, &shared);
            *shared.restored.lock() = Some(restored);
        }
        Self {
            identity,
            published: shared.published.clone(),
            feed: shared.feed.clone(),
            programming: shared.programming.clone(),
            keeping: shared.keeping.clone(),
            task: start(shared),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Does some work to its end. A panic, which is a bug of ours, begins it anew.
async fn survive<F: Future<Output = ()>>(work: impl Fn() -> F) {
    while AssertUnwindSafe(work()).catch_unwind().await.is_err() {
        tracing::error!(
            plugin = "kubernetes",
            "bug: a task of the cluster panicked; it begins anew"
        );
        sleep(RETRY_INTERVAL).await;
    }
}

/// Keeps a source and an Index at work for ever.
async fn live(shared: Shared) {
    loop {
        let (sender, changes) = mpsc::channel(CHANGES_MAX);
        let restored = shared.restored.lock().take();
        let (index, positions) = match restored {
            Some(restored) => (restored.index, Some(restored.positions)),
            None => (fresh_index(&shared), None),
        };
        let mut keeping = pin!(async {
            // A panic was counted and told when it happened; it must not freeze the Zone for good.
            let _ = AssertUnwindSafe(keep(shared.clone(), index, changes)).catch_unwind().await;
        });
        // What was restored is kept while the source is still to come.
        let opened = tokio::select! {
            () = &mut keeping => None,
            opened = open(&shared, sender, positions) => Some(opened),
        };
        match opened {
            Some(Opened::Running(running)) => {
                keeping.await;
                running.stop().await;
            }
            Some(Opened::Foreign) => {
                forget(&shared);
                continue;
            }
            None => {}
        }
        tracing::error!(
            plugin = "kubernetes",
            "the task that keeps the cluster ended; it begins anew, the last picture is served"
        );
        sleep(RETRY_INTERVAL).await;
    }
}

/// An Index that goes on after the last Zone.
fn fresh_index(shared: &Shared) -> Index {
    let mut index = Index::after(&shared.published.zone(), &shared.identity.scope);
    index.keep_serials();
    index
}

/// Takes back what the Snapshot brought, for it is of another cluster. Nobody polls the task that
/// keeps its Index any more.
fn forget(shared: &Shared) {
    tracing::warn!(
        plugin = "kubernetes",
        "the Snapshot is of another cluster than the API server; it is forgotten, and names of the \
         cluster are SERVFAIL until full lists have come"
    );
    shared.feed.forget();
    shared.published.set_stale(false);
    let last = shared.published.zone();
    let serial = serial::newest(now_unix_s(), last.serial.wrapping_add(1));
    let zone = Zone { generation: last.generation + 1, serial, ..last.emptied() };
    shared.published.store(Arc::new(zone));
}

/// Publishes what the Snapshot brought: known, but old until the source says more.
fn show(restored: &mut Restored, shared: &Shared) {
    shared.published.set_stale(true);
    for kind in &restored.kinds {
        let position = restored.positions.get(*kind).unwrap_or_default();
        shared.feed.restore(*kind, position);
        // That there are none is written without a position: their API was missing, and what is
        // not there is not old. Any word but that it is missing still takes that back.
        let is_absent = *kind == Kind::Import && position.is_empty();
        shared.feed.kind(*kind).set_absent(is_absent && is_without(&restored.index, *kind));
    }
    restored.index.keep_serials();
    publish(&mut restored.index, &shared.published, now_unix_s());
}

/// Whether there is no object of a kind.
fn is_without(index: &Index, kind: Kind) -> bool {
    let mut is_without = true;
    index.each(kind, &mut |_| is_without = false);
    is_without
}

/// Tells it each time that the cluster stays unknown: at the start, and when its picture was taken
/// back.
async fn tell_each_time(shared: &Shared) {
    loop {
        tell_late(shared.clone()).await;
        shared.published.synced().await;
        shared.published.forgotten().await;
    }
}

/// Tells once that the cluster is still unknown. Nothing waits for it, so that is all.
async fn tell_late(shared: Shared) {
    let patience = shared.identity.scope.startup_timeout;
    // Who sets 0 does not want to hear of it.
    if patience.is_zero() || timeout(patience, shared.published.synced()).await.is_ok() {
        return;
    }
    tracing::warn!(plugin = "kubernetes", "{}", late(&shared.feed, patience));
}

/// What is unknown, and what that means for clients.
fn late(feed: &Feed, patience: Duration) -> String {
    let unknown: Vec<&str> = feed.awaited().map(Kind::resource).collect();
    format!(
        "the cluster is not known after {} s: no full list of {}; names of the cluster are \
         SERVFAIL until there is one, all others are answered",
        patience.as_secs_f32(),
        unknown.join(", "),
    )
}

/// What [`open`] came to.
enum Opened {
    Running(source::Running),
    /// What was restored is of another cluster.
    Foreign,
}

/// Starts the source, however long that takes: credentials may come later. What was restored counts
/// if it is of the cluster that the API server shows; there may be no position in it.
async fn open(shared: &Shared, sender: Sender<Change>, restored: Option<Positions>) -> Opened {
    let mut positions = Positions::default();
    if let Some(restored) = restored {
        match shared.keeping.confirm().await {
            Confirmed::Same => positions = restored,
            Confirmed::Other => return Opened::Foreign,
            Confirmed::Untold => {
                tracing::warn!(
                    plugin = "kubernetes",
                    "the API server does not tell whether the Snapshot is of its cluster; full \
                     lists replace what the Snapshot says"
                );
                shared.feed.watched().iter().for_each(|it| shared.feed.kind(*it).set_version(""));
            }
        }
    }
    let mut told: Option<Instant> = None;
    loop {
        let Identity { source, scope } = &shared.identity;
        match source::start(source, scope, sender.clone(), shared.feed.clone(), &positions).await {
            Ok(running) => return Opened::Running(running),
            Err(error) if told.is_none_or(|told| told.elapsed() >= TELL_INTERVAL) => {
                tracing::error!(plugin = "kubernetes", "{error}; trying again");
                told = Some(Instant::now());
            }
            Err(_) => {}
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// Owns the Index: takes changes in and publishes, until the source is gone.
async fn keep(shared: Shared, mut index: Index, mut changes: Receiver<Change>) {
    let mut saver = Saver::new(shared.keeping.clone(), &shared.feed);
    let mut batch = Vec::with_capacity(PUBLISH_MAX);
    let mut triggers = Vec::new();
    loop {
        tokio::select! {
            received = changes.recv_many(&mut batch, PUBLISH_MAX) => if received == 0 { return },
            () = shared.published.renewal_wanted() => {
                if index.zone().is_synced {
                    shared.published.store(index.renumber(now_unix_s()));
                }
            }
            () = until(index.due()) => {}
            wake = saver.wake() => if let Wake::Look = wake {
                saver.look(&index, &shared.published, || changes.len());
            }
        }
        let (was_synced, taken) = (index.zone().is_synced, batch.len());
        for change in batch.drain(..) {
            // What a first list brings was changed before we lived: that is no latency of ours.
            triggers.extend(trigger(&change).filter(|_| was_synced));
            index.take(change);
        }
        index.turn_clock(Instant::now());
        if let Some(zone) = publish(&mut index, &shared.published, now_unix_s()) {
            let services = zone.service_count();
            if !was_synced {
                tracing::info!(plugin = "kubernetes", services, "cluster is known");
            }
        }
        shared.feed.kind(Kind::Slice).held.add(index.take_lingered());
        saver.took(taken, &index, &shared.published);
        for (service, triggered_ms) in triggers.drain(..) {
            let took = since_epoch().as_millis().saturating_sub(u128::from(triggered_ms));
            shared.programming.record(kind_of(&index, &service), took as u64);
        }
    }
}

/// Waits until a time, or for ever.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Publishes what has changed.
fn publish(index: &mut Index, published: &Published, now_unix_s: u32) -> Option<Arc<Zone>> {
    let last = index.zone().serial;
    let mut zone = index.publish(now_unix_s)?;
    if published.take_copied() && zone.serial == last {
        zone = index.renumber(now_unix_s);
    }
    published.store(zone.clone());
    if published.take_copied() {
        zone = index.renumber(now_unix_s);
        published.store(zone.clone());
    }
    Some(zone)
}

/// The Service and the time of the change behind a slice.
fn trigger(change: &Change) -> Option<(ObjectKey, u64)> {
    let Change::Apply(Object::Slice(slice)) = change else { return None };
    let name = slice.service.clone()?;
    Some((ObjectKey { namespace: slice.key.namespace.clone(), name }, slice.triggered_ms?))
}

fn kind_of(index: &Index, key: &ObjectKey) -> ServiceKind {
    match index.service(key) {
        Some(service) if service.role != Role::Headless => ServiceKind::ClusterIp,
        Some(service) if service.has_selector => ServiceKind::HeadlessWithSelector,
        Some(_) | None => ServiceKind::HeadlessWithoutSelector,
    }
}

/// The clock as a serial: it wraps in 2106, as serials do.
fn now_unix_s() -> u32 {
    since_epoch().as_secs() as u32
}

/// Wall-clock time: the serial of the SOA and the programming latency are told in it, and no
/// decision depends on it.
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests;

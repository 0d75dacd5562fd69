//! A `kubernetes` directive at work: its source, the task that owns the Index, the newest Zone.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::config::Config;
use super::error::Error;
use super::feed::Feed;
use super::index::Index;
use super::object::{CHANGES_MAX, Change, Object, ObjectKey, Role};
use super::programming::{Programming, ServiceKind};
use super::published::Published;
use super::schema;
use super::source::{self, Running};
use super::zone::Settings;

/// Changes that one publish may bring together. Under churn this coalesces; on an idle server a
/// change is published alone, at once.
const PUBLISH_MAX: usize = 1024;

/// One `kubernetes` directive at run time. Dropping it ends its tasks.
pub struct Cluster {
    pub config: Config,
    pub published: Arc<Published>,
    pub feed: Arc<Feed>,
    pub programming: Arc<Programming>,
    /// `None` when somebody else tells the changes.
    _source: Option<Running>,
    keeper: JoinHandle<()>,
}

impl Cluster {
    /// Starts the source and the task that owns the Index. Nobody waits for the API server here.
    ///
    /// # Errors
    /// What the operator must mend: credentials, URLs, files.
    pub async fn start(config: Config, own_addresses: Vec<IpAddr>) -> Result<Self, Error> {
        let feed = Arc::new(Feed::new(Instant::now()));
        let (sender, changes) = mpsc::channel(CHANGES_MAX);
        let source =
            source::start(&config.source, &config.namespaces, sender, feed.clone()).await?;
        let mut cluster = Self::keeping(config, own_addresses, feed, changes);
        cluster._source = Some(source);
        Ok(cluster)
    }

    /// A Cluster without a source: it knows what is sent.
    pub fn told(config: Config, own_addresses: Vec<IpAddr>) -> (Self, Sender<Change>) {
        let (sender, changes) = mpsc::channel(CHANGES_MAX);
        let feed = Arc::new(Feed::new(Instant::now()));
        (Self::keeping(config, own_addresses, feed, changes), sender)
    }

    /// Starts the task that owns the Index.
    fn keeping(
        config: Config,
        own_addresses: Vec<IpAddr>,
        feed: Arc<Feed>,
        changes: Receiver<Change>,
    ) -> Self {
        let settings = settings(&config, own_addresses);
        let published = Arc::new(Published::new(settings.clone()));
        let programming = Arc::new(Programming::default());
        let exposed = config.namespaces.iter().map(|name| name.as_str().into());
        let index = Index::new(settings, exposed);
        let keeper = tokio::spawn(keep(index, changes, published.clone(), programming.clone()));
        Self { config, published, feed, programming, _source: None, keeper }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// What of a directive rules the answers.
pub fn settings(config: &Config, own_addresses: Vec<IpAddr>) -> Settings {
    let primary = config.zones.iter().find(|zone| !schema::is_reverse(zone.as_ref()));
    let primary = primary.unwrap_or(&config.zones[0]).clone();
    Settings { ttl_s: config.ttl_s, pods: config.pods, primary, own_addresses }
}

/// Owns the Index: takes changes in and publishes, until the source is gone.
async fn keep(
    mut index: Index,
    mut changes: Receiver<Change>,
    published: Arc<Published>,
    programming: Arc<Programming>,
) {
    let mut batch = Vec::with_capacity(PUBLISH_MAX);
    let mut triggers = Vec::new();
    while changes.recv_many(&mut batch, PUBLISH_MAX).await > 0 {
        for change in batch.drain(..) {
            triggers.extend(trigger(&change));
            index.take(change);
        }
        let was_synced = index.zone().is_synced;
        let now = since_epoch();
        // Good until 2106, and then the serial still grows with each publish.
        let Some(zone) = index.publish(now.as_secs() as u32) else { continue };
        published.store(zone);
        // What a first list brings was changed before we lived: that is no latency of ours.
        for (service, triggered_ms) in triggers.drain(..).filter(|_| was_synced) {
            let took = since_epoch().as_millis().saturating_sub(u128::from(triggered_ms));
            programming.record(kind_of(&index, &service), took as u64);
        }
        if !was_synced {
            let services = index.zone().service_count();
            tracing::info!(plugin = "kubernetes", services, "cluster is known");
        }
    }
}

/// The Service and the time of the change behind a slice.
fn trigger(change: &Change) -> Option<(ObjectKey, u64)> {
    let Change::Apply(Object::Slice(slice)) = change else { return None };
    let key = ObjectKey { namespace: slice.key.namespace.clone(), name: slice.service.clone() };
    Some((key, slice.triggered_ms?))
}

fn kind_of(index: &Index, key: &ObjectKey) -> ServiceKind {
    match index.service(key) {
        Some(service) if service.role != Role::Headless => ServiceKind::ClusterIp,
        Some(service) if service.has_selector => ServiceKind::HeadlessWithSelector,
        Some(_) | None => ServiceKind::HeadlessWithoutSelector,
    }
}

/// Wall-clock time: the serial of the SOA and the programming latency are told in it, and no
/// decision depends on it.
fn since_epoch() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

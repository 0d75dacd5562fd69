//! How old the picture of a cluster is: a source that is away freezes it, and those who are
//! answered from it are told so.
//!
//! A watch that is open keeps a kind fresh, however quiet it is; so does whatever arrives beside
//! one. Dead connections are the business of the watch, which ends them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::feed::Feed;
use super::object::Kind;
use super::published::Published;

/// How long a kind may be neither followed nor heard of before answers are called stale. Restarts
/// and fail-overs of an API server are shorter, and nobody wants to read of each.
pub const STALE_AFTER: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// When each kind was last known to be as in the cluster. Pods and imports do not count: an API
/// that does not have them, or does not show them, says nothing of Services.
struct Ages([Instant; Kind::OF_SERVICES.len()]);

impl Ages {
    fn new(now: Instant) -> Self {
        Self([now; Kind::OF_SERVICES.len()])
    }

    /// Looks at the source, and tells whether a kind is too old.
    fn look(&mut self, feed: &Feed, now: Instant) -> bool {
        for (kind, fresh_at) in Kind::OF_SERVICES.into_iter().zip(&mut self.0) {
            let is_followed = feed.kind(kind).is_following();
            let heard_at = if is_followed { Some(now) } else { feed.heard_at(kind) };
            *fresh_at = heard_at.unwrap_or(*fresh_at).max(*fresh_at);
        }
        if feed.is_restored() {
            return true;
        }
        // A kind that was never listed has no old word: it is not known yet, or nobody wants it.
        let is_listed = |kind: &Kind| feed.kind(*kind).is_synced();
        let ages = Kind::OF_SERVICES.into_iter().zip(&self.0).filter(|(kind, _)| is_listed(kind));
        ages.into_iter().any(|(_, fresh_at)| now.saturating_duration_since(*fresh_at) > STALE_AFTER)
    }
}

/// Marks what is published as stale while the source is away, and tells the operator of both ends.
pub(super) async fn tend(feed: Arc<Feed>, published: Arc<Published>) {
    let mut ages = Ages::new(Instant::now());
    loop {
        let is_stale = ages.look(&feed, Instant::now());
        match (published.set_stale(is_stale), is_stale) {
            (false, true) if feed.is_restored() => tracing::info!(
                plugin = "kubernetes",
                "the picture from before the start is served, marked stale until the cluster is heard"
            ),
            (false, true) => tracing::warn!(
                plugin = "kubernetes",
                "nothing heard of the cluster for {} s; its last picture is served, marked stale",
                STALE_AFTER.as_secs()
            ),
            (true, false) => tracing::info!(plugin = "kubernetes", "the cluster is heard again"),
            _ => {}
        }
        sleep(LOOK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::cluster::config::{Scope, Source};
    use crate::cluster::live::{Cluster, Identity};

    /// A source that listed everything at `now`, and follows it or not.
    fn feed(now: Instant, is_following: bool) -> Feed {
        let feed = Feed::new(now, &Scope::default());
        for kind in Kind::OF_SERVICES {
            feed.kind(kind).listed();
            feed.kind(kind).set_following(is_following);
            feed.hear(kind, now);
        }
        feed
    }

    const SECOND: Duration = Duration::from_secs(1);
    const NAMESPACE: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}";

    #[test]
    fn a_quiet_cluster_that_is_followed_is_never_stale() {
        let now = Instant::now();
        let (feed, mut ages) = (feed(now, true), Ages::new(now));
        let later = now + 100 * STALE_AFTER;
        assert!(!ages.look(&feed, later));
        // Watches end by themselves all the time; that is no outage.
        feed.kind(Kind::Slice).set_following(false);
        assert!(!ages.look(&feed, later + SECOND));
        assert!(!ages.look(&feed, later + STALE_AFTER));
        assert!(ages.look(&feed, later + STALE_AFTER + SECOND), "one kind is enough");
        feed.kind(Kind::Slice).set_following(true);
        assert!(!ages.look(&feed, later + STALE_AFTER + 2 * SECOND));
    }

    #[test]
    fn what_arrives_without_a_watch_keeps_fresh() {
        let now = Instant::now();
        let (feed, mut ages) = (feed(now, false), Ages::new(now));
        assert!(!ages.look(&feed, now + STALE_AFTER));
        Kind::OF_SERVICES.iter().for_each(|kind| feed.hear(*kind, now + STALE_AFTER));
        assert!(!ages.look(&feed, now + 2 * STALE_AFTER));
        assert!(ages.look(&feed, now + 2 * STALE_AFTER + SECOND));
    }

    #[test]
    fn what_is_from_before_the_start_is_stale_until_each_kind_is_followed_or_heard() {
        let now = Instant::now();
        let (feed, mut ages) = (Feed::new(now, &Scope::default()), Ages::new(now));
        Kind::OF_SERVICES.into_iter().for_each(|kind| feed.restore(kind, "7"));
        assert!(ages.look(&feed, now), "at once");
        feed.kind(Kind::Namespace).set_following(true);
        feed.kind(Kind::Service).set_following(true);
        assert!(ages.look(&feed, now + SECOND));
        feed.hear(Kind::Slice, now + SECOND);
        assert!(!ages.look(&feed, now + SECOND));
        assert!(ages.look(&feed, now + STALE_AFTER + 3 * SECOND), "heard once, and then away");
    }

    #[test]
    fn what_was_never_listed_is_not_stale() {
        let now = Instant::now();
        let mut ages = Ages::new(now);
        assert!(!ages.look(&Feed::new(now, &Scope::default()), now + 100 * STALE_AFTER));
    }

    fn start(source: Source) -> Cluster {
        Cluster::start(Identity { source, scope: Scope::default() })
    }

    #[tokio::test(start_paused = true)]
    async fn manifests_are_stale_when_they_cannot_be_seen() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("objects.yaml");
        std::fs::write(&path, NAMESPACE).unwrap();
        let cluster = start(Source::Manifests(vec![path.clone()]));
        cluster.published.synced().await;
        sleep(2 * STALE_AFTER).await;
        assert!(!cluster.published.is_stale());
        std::fs::remove_file(&path).unwrap();
        sleep(2 * STALE_AFTER).await;
        assert!(cluster.published.is_stale());
        std::fs::write(&path, NAMESPACE).unwrap();
        sleep(10 * SECOND).await;
        assert!(!cluster.published.is_stale());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_program_brings_along_is_never_stale() {
        let cluster = start(Source::Embedded(&[("objects.yaml", NAMESPACE)]));
        cluster.published.synced().await;
        sleep(10 * STALE_AFTER).await;
        assert!(!cluster.published.is_stale());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_published_is_marked_while_the_source_is_away() {
        let feed = Arc::new(feed(Instant::now(), true));
        let published = Arc::new(Published::new());
        let tending = tokio::spawn(tend(feed.clone(), published.clone()));
        sleep(STALE_AFTER).await;
        Kind::OF_SERVICES.iter().for_each(|kind| feed.kind(*kind).set_following(false));
        sleep(STALE_AFTER - 2 * LOOK_INTERVAL).await;
        assert!(!published.is_stale());
        sleep(4 * LOOK_INTERVAL).await;
        assert!(published.is_stale());
        Kind::OF_SERVICES.iter().for_each(|kind| feed.kind(*kind).set_following(true));
        sleep(2 * LOOK_INTERVAL).await;
        assert!(!published.is_stale());
        tending.abort();
    }
}

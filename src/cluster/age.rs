//! How old the picture of a cluster is: a source that is away freezes it, and those who are
//! answered from it are told so.
//!
//! A watch that is open keeps a kind fresh, however quiet it is; so does whatever arrives beside
//! one. Dead connections are the business of the watch, which ends them: one that fell silent was
//! fresh when it was last heard.

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

/// Kinds that only some names come from. An API that does not have them, or does not show them,
/// says nothing of Services, so these names alone are stale then.
const OF_SOME: [Kind; 2] = [Kind::Pod, Kind::Import];

/// Whether a kind that all names of Services need was last known too long ago.
fn is_old(feed: &Feed, now: Instant) -> bool {
    Kind::OF_SERVICES.into_iter().any(|kind| is_kind_old(feed, kind, now))
}

/// Whether a kind was last known to be as in the cluster too long ago.
fn is_kind_old(feed: &Feed, kind: Kind, now: Instant) -> bool {
    let state = feed.kind(kind);
    // A kind that was never listed has no old word: it is not known yet, or nobody wants it.
    if !state.is_synced() || state.is_absent() {
        return false;
    }
    let age = |at: Instant| now.saturating_duration_since(at);
    state.is_restored() || feed.fresh_at(kind, now).is_some_and(|at| age(at) > STALE_AFTER)
}

/// Marks what is published as stale while the source is away, and tells the operator of both ends.
pub(super) async fn tend(feed: Arc<Feed>, published: Arc<Published>) {
    loop {
        let now = Instant::now();
        // What is wrong with these is told by their watches, and first here: what is published at
        // the start is stale as a whole, and nothing of it may pass for fresh in between.
        for kind in OF_SOME {
            published.set_kind_stale(kind, is_kind_old(&feed, kind, now));
        }
        let is_stale = is_old(&feed, now);
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
    use crate::cluster::feed::Following;
    use crate::cluster::live::{Cluster, Identity};

    /// A source that has listed everything now.
    fn feed() -> Arc<Feed> {
        let feed = Feed::new(Instant::now(), &Scope::default());
        for kind in Kind::OF_SERVICES {
            feed.kind(kind).listed();
            feed.hear(kind, Instant::now());
        }
        Arc::new(feed)
    }

    const SECOND: Duration = Duration::from_secs(1);
    const NAMESPACE: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}";

    /// Opens the watches of these kinds.
    fn follow(feed: &Arc<Feed>, kinds: impl IntoIterator<Item = Kind>) -> Vec<Following> {
        kinds.into_iter().map(|kind| feed.follow(kind)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_cluster_that_is_followed_is_never_stale() {
        let feed = feed();
        let mut watches = follow(&feed, Kind::OF_SERVICES);
        sleep(100 * STALE_AFTER).await;
        assert!(!is_old(&feed, Instant::now()));
        // Watches end by themselves all the time; that is no outage.
        drop(watches.pop());
        sleep(STALE_AFTER).await;
        assert!(!is_old(&feed, Instant::now()));
        sleep(SECOND).await;
        assert!(is_old(&feed, Instant::now()), "one kind is enough");
        let _watch = follow(&feed, Kind::OF_SERVICES);
        assert!(!is_old(&feed, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a3_a_watch_that_fell_silent_is_as_old_as_its_last_sign() {
        let feed = feed();
        let mut watches = follow(&feed, Kind::OF_SERVICES);
        sleep(STALE_AFTER + SECOND).await;
        let silent = watches.pop().unwrap();
        assert!(!is_old(&feed, Instant::now()));
        silent.end_silent();
        assert!(is_old(&feed, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_arrives_without_a_watch_keeps_fresh() {
        let feed = feed();
        let now = Instant::now();
        assert!(!is_old(&feed, now + STALE_AFTER));
        Kind::OF_SERVICES.iter().for_each(|kind| feed.hear(*kind, now + STALE_AFTER));
        assert!(!is_old(&feed, now + 2 * STALE_AFTER));
        assert!(is_old(&feed, now + 2 * STALE_AFTER + SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_from_before_the_start_is_stale_until_each_kind_is_confirmed() {
        let now = Instant::now();
        let feed = Arc::new(Feed::new(now, &Scope::default()));
        Kind::OF_SERVICES.into_iter().for_each(|kind| feed.restore(kind, "7"));
        assert!(is_old(&feed, now), "at once");
        let _watches = follow(&feed, [Kind::Namespace, Kind::Service]);
        Kind::OF_SERVICES.into_iter().for_each(|kind| feed.hear(kind, now + SECOND));
        assert!(is_old(&feed, now + SECOND), "an open watch may still be refused");
        [Kind::Namespace, Kind::Service].into_iter().for_each(|kind| feed.kind(kind).confirm());
        assert!(is_old(&feed, now + SECOND), "one kind is enough");
        feed.kind(Kind::Slice).confirm();
        assert!(!is_old(&feed, now + SECOND));
        assert!(is_old(&feed, now + STALE_AFTER + 3 * SECOND), "heard once, and then away");
    }

    #[test]
    fn what_was_never_listed_is_not_stale() {
        let now = Instant::now();
        assert!(!is_old(&Feed::new(now, &Scope::default()), now + 100 * STALE_AFTER));
    }

    #[tokio::test(start_paused = true)]
    async fn a3_what_pods_and_imports_say_is_marked_alone_while_they_are_not_heard() {
        let (feed, published) = (feed(), Arc::new(Published::new()));
        let _watches = follow(&feed, Kind::OF_SERVICES);
        let tending = tokio::spawn(tend(feed.clone(), published.clone()));
        let stale = || {
            let kinds = Kind::ALL.into_iter();
            kinds.filter(|kind| published.is_stale_for(|| Some(*kind))).collect::<Vec<_>>()
        };
        sleep(2 * STALE_AFTER).await;
        assert_eq!(stale(), [], "what was never listed says nothing");
        for kind in OF_SOME {
            feed.kind(kind).listed();
            let watch = feed.follow(kind);
            sleep(2 * STALE_AFTER).await;
            assert_eq!(stale(), []);
            drop(watch);
            sleep(STALE_AFTER - SECOND).await;
            assert_eq!(stale(), []);
            sleep(3 * SECOND).await;
            assert_eq!((stale(), published.is_stale()), (vec![kind], false));
            assert!(published.is_any_stale() && !published.is_stale_for(|| None));
            // An API that is known to be missing has nothing that could be old.
            feed.kind(kind).set_absent(true);
            sleep(2 * SECOND).await;
            assert_eq!(stale(), []);
        }
        tending.abort();
    }

    #[test]
    fn a3_pods_from_before_the_start_are_old_until_they_are_confirmed() {
        let (now, feed) = (Instant::now(), feed());
        feed.restore(Kind::Pod, "7");
        feed.hear(Kind::Pod, now);
        assert!(is_kind_old(&feed, Kind::Pod, now) && !is_old(&feed, now));
        feed.kind(Kind::Pod).confirm();
        assert!(!is_kind_old(&feed, Kind::Pod, now));
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
    async fn a3_what_is_published_is_marked_while_the_source_is_away() {
        let (feed, published) = (feed(), Arc::new(Published::new()));
        let watches = follow(&feed, Kind::OF_SERVICES);
        let tending = tokio::spawn(tend(feed.clone(), published.clone()));
        sleep(STALE_AFTER).await;
        drop(watches);
        sleep(STALE_AFTER - 2 * LOOK_INTERVAL).await;
        assert!(!published.is_stale());
        sleep(4 * LOOK_INTERVAL).await;
        assert!(published.is_stale());
        let _watches = follow(&feed, Kind::OF_SERVICES);
        sleep(2 * LOOK_INTERVAL).await;
        assert!(!published.is_stale());
        tending.abort();
    }
}

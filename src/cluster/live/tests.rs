//! Serials, tasks that panic, and pictures that are taken back.

use std::cell::Cell;

use super::*;
use crate::cluster::index::tests::{empty_index, list};
use crate::cluster::object::Kind;
use crate::cluster::published::COPY_INTERVAL;
use crate::wire::serial::is_newer;

/// A cluster that nothing is told of, and what it shares.
fn shared(startup_timeout: Duration) -> Shared {
    let scope = Scope { startup_timeout, pods: true, imports: true, ..Scope::default() };
    let feed = Arc::new(Feed::new(Instant::now(), &scope));
    Shared {
        identity: Identity { source: Source::Embedded(&[]), scope },
        published: Arc::default(),
        feed,
        programming: Arc::default(),
        keeping: Arc::new(Keeping::begin(None, |_| Ok(None)).0),
        restored: Arc::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_stays_unknown_is_told_after_its_time() {
    let shared = shared(Duration::from_millis(1500));
    let start = Instant::now();
    tell_late(shared.clone()).await;
    assert!(start.elapsed() >= Duration::from_millis(1500), "{:?}", start.elapsed());
    shared.feed.kind(Kind::Service).listed();
    let text = late(&shared.feed, Duration::from_millis(1500));
    assert!(
        text.starts_with(
            "the cluster is not known after 1.5 s: no full list of namespaces, endpointslices; "
        ),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_begins_a_task_anew_and_ends_no_other() {
    let (begun, is_done) = (Cell::new(0), Cell::new(false));
    let panics_twice = || async {
        begun.set(begun.get() + 1);
        assert!(begun.get() > 2, "a bug");
    };
    let other = || async {
        sleep(3 * RETRY_INTERVAL).await;
        is_done.set(true);
    };
    tokio::join!(survive(panics_twice), survive(other));
    assert_eq!((begun.get(), is_done.get()), (3, true));
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_known_in_time_is_not_waited_for() {
    let shared = shared(Duration::from_secs(5));
    let start = Instant::now();
    let mut zone = crate::cluster::zone::Zone::unsynced();
    (zone.generation, zone.is_synced) = (1, true);
    shared.published.store(Arc::new(zone));
    tell_late(shared).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// The clock when [`begun`] begins.
const BEGIN_S: u32 = 1_700_000_000;

/// An Index that was published once, as [`keep`] has it.
fn begun() -> (Index, Published) {
    let published = Published::after(BEGIN_S.wrapping_sub(UNKNOWN_AGE_S));
    let mut index = empty_index();
    index.keep_serials();
    list(&mut index, []);
    publish(&mut index, &published, BEGIN_S).unwrap();
    (index, published)
}

fn change(index: &mut Index, n: usize) {
    index.take(Change::Apply(Object::Namespace(format!("ns{n}").into())));
}

#[test]
fn a_cluster_that_changes_all_the_time_does_not_count_ahead_of_the_clock() {
    let (mut index, published) = begun();
    for n in 0..100 {
        change(&mut index, n);
        publish(&mut index, &published, BEGIN_S).unwrap();
    }
    assert_eq!(published.zone().serial, BEGIN_S);
}

/// What three zones, each asked for by a secondary and by pollers that never rest, cost in
/// serials: each asks between any two of 100 changes per second.
#[test]
fn however_many_ask_for_copies_serials_keep_to_the_clock() {
    const ASKERS: u64 = 9;
    let (mut index, published) = begun();
    let begin = std::time::Instant::now();
    for n in 0..3_000u64 {
        let now_s = BEGIN_S + n as u32 / 100;
        for asker in 0..ASKERS {
            let now = begin + Duration::from_micros(n * 10_000 + asker * 1_000);
            let copy = published.copy(now);
            assert!(!is_newer(copy.serial, published.zone().serial));
        }
        change(&mut index, n as usize);
        publish(&mut index, &published, now_s).unwrap();
        let ahead = published.zone().serial.wrapping_sub(now_s) as i32;
        assert!((0..=1).contains(&ahead), "{ahead} s ahead at change {n}");
    }
}

#[test]
fn what_somebody_has_a_copy_of_never_changes_under_its_serial() {
    let (mut index, published) = begun();
    let begin = std::time::Instant::now();
    for n in 0..100 {
        let copy = published.copy(begin + COPY_INTERVAL * n);
        assert_eq!(copy.generation, published.generation(), "the newest");
        change(&mut index, n as usize);
        let next = publish(&mut index, &published, BEGIN_S).unwrap();
        assert!(is_newer(next.serial, copy.serial));
        assert_eq!(published.zone().serial, next.serial);
    }
}

#[test]
fn p7_the_picture_of_another_cluster_is_taken_back_under_a_newer_serial() {
    let shared = shared(Duration::ZERO);
    let (mut index, _) = begun();
    shared.published.store(index.renumber(BEGIN_S));
    Kind::OF_SERVICES.into_iter().for_each(|kind| shared.feed.restore(kind, "7"));
    shared.published.set_stale(true);
    let before = shared.published.zone().clone();
    assert!(before.is_synced);
    forget(&shared);
    let after = shared.published.zone().clone();
    assert!(!after.is_synced && after.generation > before.generation);
    assert!(is_newer(after.serial, before.serial));
    assert_eq!(shared.feed.awaited().collect::<Vec<_>>(), Kind::OF_SERVICES);
    assert!(!shared.published.is_stale() && !shared.feed.is_restored());
    assert_eq!(shared.feed.kind(Kind::Slice).version(), "");
    // What the next Index publishes goes on after it.
    let mut index = fresh_index(&shared);
    list(&mut index, []);
    let zone = index.publish(BEGIN_S).unwrap();
    assert!(zone.is_synced && zone.generation > after.generation);
}

/// A Snapshot of another cluster without any object.
fn restored(kinds: Vec<Kind>, positions: Positions) -> Restored {
    let (index, uid) = (empty_index(), "theirs".to_owned());
    Restored { index, positions, uid, written_s: 0, kinds, objects: 0, octets: 0 }
}

#[test]
fn a3_imports_of_a_snapshot_without_their_api_are_absent_and_not_old() {
    let shared = shared(Duration::ZERO);
    let is_absent = |positions: Positions| {
        show(&mut restored(vec![Kind::Pod, Kind::Import], positions), &shared);
        [Kind::Pod, Kind::Import].map(|kind| shared.feed.kind(kind).is_absent())
    };
    assert_eq!(is_absent(Positions::default()), [false, true]);
    let mut positions = Positions::default();
    positions.set(Kind::Import, "7");
    assert_eq!(is_absent(positions), [false, false], "there are none, but they are watched");
}

#[tokio::test]
async fn p7_a_snapshot_without_any_position_is_of_another_cluster_all_the_same() {
    let mut shared = shared(Duration::ZERO);
    let identity = Identity { source: Source::InCluster, scope: Scope::default() };
    let place = Place::new(std::path::Path::new("/nowhere"), &identity, &[]);
    let restored = restored(Vec::new(), Positions::default());
    shared.keeping = Arc::new(Keeping::begin(place, |_| Ok(Some(restored))).0);
    shared.keeping.tell_uid(snapshot::Uid::Is("ours".to_owned()));
    let (sender, _changes) = mpsc::channel(CHANGES_MAX);
    let opened = open(&shared, sender.clone(), Some(Positions::default())).await;
    assert!(matches!(opened, Opened::Foreign));
    // Once it is forgotten nothing stands in the way of a start.
    let opened = open(&shared, sender, None).await;
    assert!(matches!(opened, Opened::Running(_)));
}

#[tokio::test]
async fn a_zone_that_is_shown_otherwise_gets_another_serial() {
    let (cluster, sender) =
        Cluster::told(Identity { source: Source::Embedded(&[]), scope: Scope::default() });
    for kind in Scope::default().kinds() {
        sender.send(Change::ListBegin(kind)).await.unwrap();
        sender.send(Change::ListEnd(kind)).await.unwrap();
    }
    cluster.published.synced().await;
    let before = cluster.published.copy(std::time::Instant::now());
    cluster.published.renew();
    let mut generations = cluster.published.generations();
    generations.wait_for(|generation| *generation > before.generation).await.unwrap();
    assert!(is_newer(cluster.published.zone().serial, before.serial));
}

//! Round trips, damage of every kind, and when a file is written.

use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep};

use super::*;
use crate::cluster::config::Kept;
use crate::cluster::index::tests::{any_object, list, picture, scope};
use crate::cluster::live::Cluster;
use crate::cluster::object::{
    Endpoint, External, Import, Object, ObjectKey, Part, Port, Protocol, Role, Service, Slice,
};

const NOW_S: u64 = 1_800_000_000;
const IDENTITY: &str = "zones cluster.local.; source in-cluster";

fn index_of(objects: impl IntoIterator<Item = Object>) -> Index {
    let mut index = Index::after(&Zone::unsynced(), &scope());
    list(&mut index, objects);
    index.publish(7);
    index
}

fn sealed(index: &Index, positions: &Positions) -> Vec<u8> {
    let about = About { uid: "u-1", written_s: NOW_S };
    encode(IDENTITY, &about, index, positions).seal()
}

fn standing() -> Positions {
    let mut positions = Positions::default();
    Kind::ALL.into_iter().for_each(|kind| positions.set(kind, "4711"));
    positions
}

fn opened(octets: &[u8]) -> Result<Restored, Reject> {
    decode(octets, IDENTITY, &scope(), 0, NOW_S)
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "shop".into(), name: name.into() }
}

/// One object of every shape.
fn all_shapes() -> Vec<Object> {
    let port = Port { name: "http".into(), protocol: Protocol::Sctp, number: 65_535 };
    let service = |name: &str, role, externals: Vec<External>| Service {
        key: key(name),
        role,
        ports: vec![port.clone()],
        has_selector: true,
        externals: externals.into(),
    };
    let endpoint = |address: IpAddr, hostname: &str| Endpoint {
        addresses: vec![address],
        ready: true,
        hostname: Some(hostname.into()),
        zone: Some("eu-1a".into()),
    };
    let endpoints =
        [endpoint([10, 0, 0, 1].into(), "a"), endpoint([0xfd, 0, 0, 0, 0, 0, 0, 1].into(), "b")];
    let slice = |name: &str, service: Option<&str>, import: Option<&str>| Slice {
        key: key(name),
        service: service.map(Into::into),
        import: import.map(|it| Import { service: it.into(), cluster: "west".into() }),
        parts: [Part {
            endpoints: endpoints.iter().cloned().collect(),
            ports: [port.clone()].into(),
        }]
        .into(),
        triggered_ms: None,
    };
    let host = External::Host(Name::parse("lb.example.").unwrap());
    let address = External::Address([192, 0, 2, 1].into());
    vec![
        Object::Namespace("shop".into()),
        Object::Service(service("web", Role::ClusterIp(vec![[10, 96, 0, 1].into()]), vec![host])),
        Object::Service(service("db", Role::Headless, vec![address])),
        Object::Service(service("old", Role::ExternalName("db.example.com".into()), vec![])),
        Object::Import(service("db", Role::Headless, vec![])),
        Object::Slice(slice("db-1", Some("db"), None)),
        Object::Slice(slice("db-2", Some("db"), Some("db"))),
        Object::Slice(slice("db-3", None, Some("db"))),
        Object::Pod(crate::cluster::object::Pod {
            key: key("web-0"),
            addresses: [[10, 0, 0, 1].into()].into(),
        }),
    ]
}

#[test]
fn every_shape_of_object_comes_back_as_it_was() {
    let index = index_of(all_shapes());
    let octets = sealed(&index, &standing());
    let mut restored = opened(&octets).ok().unwrap();
    assert_eq!((&*restored.uid, restored.written_s, restored.objects), ("u-1", NOW_S, 9));
    assert_eq!((restored.kinds.len(), &restored.positions), (5, &standing()));
    assert_eq!(restored.index.zone().serial, 7, "serials go on");
    restored.index.publish(8).unwrap();
    assert_eq!(picture(restored.index.zone()), picture(index.zone()));
    assert_eq!(sealed(&restored.index, &standing()).len(), octets.len());
}

proptest! {
    #[test]
    fn any_cluster_comes_back_as_it_was(
        objects in proptest::collection::vec(any_object(), 0..60),
    ) {
        let index = index_of(objects);
        let mut restored = opened(&sealed(&index, &standing())).ok().unwrap();
        restored.index.publish(8);
        prop_assert_eq!(picture(restored.index.zone()), picture(index.zone()));
    }
}

/// Changes some octets of a file.
fn mutate(octets: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..4) {
        let at = random.random_range(0..octets.len());
        match random.random_range(0..4) {
            0 => octets[at] = random.random(),
            1 => octets[at] ^= 1 << random.random_range(0..8),
            2 => octets.truncate(at.max(1)),
            _ => octets.insert(at, random.random()),
        }
    }
}

#[test]
fn p11_of_100_000_damaged_files_not_one_is_taken_and_nothing_panics() {
    let whole = sealed(&index_of(all_shapes()), &standing());
    let mut random = StdRng::seed_from_u64(11);
    for _ in 0..100_000 {
        let mut octets = whole.clone();
        mutate(&mut octets, &mut random);
        assert!(octets == whole || opened(&octets).is_err());
    }
}

/// The same with the right checksum, as a bug of ours or somebody with a plan would write it.
#[test]
fn p11_what_makes_no_sense_under_a_right_checksum_panics_nowhere() {
    let whole = sealed(&index_of(all_shapes()), &standing());
    let body = &whole[..whole.len() - 32];
    let mut random = StdRng::seed_from_u64(12);
    let mut taken = 0;
    for _ in 0..10_000 {
        let mut octets = body.to_vec();
        mutate(&mut octets, &mut random);
        if octets.len() < 32 {
            continue;
        }
        let length = (octets.len() + 32) as u64;
        octets[12..20].copy_from_slice(&length.to_le_bytes());
        let checksum = Sha256::digest(&octets);
        octets.extend(checksum);
        if let Ok(mut restored) = opened(&octets) {
            restored.index.publish(8);
            taken += 1;
        }
    }
    assert!(taken > 100, "{taken} still made sense");
}

#[test]
fn a_kind_that_was_never_whole_is_left_out_and_one_under_way_has_no_position() {
    let mut index = Index::after(&Zone::unsynced(), &scope());
    for kind in Kind::OF_SERVICES {
        index.take(Change::ListBegin(kind));
        index.take(Change::ListEnd(kind));
    }
    index.take(Change::ListBegin(Kind::Pod));
    index.take(Change::ListBegin(Kind::Service));
    let restored = opened(&sealed(&index, &standing())).ok().unwrap();
    assert_eq!(restored.kinds, Kind::OF_SERVICES);
    let position = |kind| restored.positions.get(kind);
    assert_eq!((position(Kind::Slice), position(Kind::Service)), (Some("4711"), None));
}

#[test]
fn what_the_corefile_says_makes_another_place() {
    let source = Source::Endpoint { url: "https://192.0.2.1:6443".into(), tls: None };
    let zone = |text| Name::parse(text).unwrap();
    let folder = Path::new("state");
    let place = |source: &Source, scope: Scope, zones: &[Name]| {
        Place::new(folder, &Identity { source: source.clone(), scope }, zones)
    };
    let (here, there) = (zone("cluster.local."), zone("in-addr.arpa."));
    let first = place(&source, Scope::default(), &[here.clone(), there.clone()]).unwrap();
    let again = place(&source, Scope::default(), &[there.clone(), here.clone()]).unwrap();
    assert_eq!(first, again, "the order of zones changes nothing");
    let named = Scope { namespaces: vec!["shop".into()], ..Scope::default() };
    let zonal = Scope { kept: Kept { zones: true, ..Kept::default() }, ..Scope::default() };
    let others = [
        place(&source, Scope::default(), std::slice::from_ref(&here)),
        place(&source, named, &[here.clone(), there.clone()]),
        place(&source, zonal, &[here.clone(), there.clone()]),
        place(&Source::InCluster, Scope::default(), &[here.clone(), there]),
    ];
    others.into_iter().for_each(|other| assert_ne!(first.path(), other.unwrap().path()));
    assert_eq!(place(&Source::Embedded(&[]), Scope::default(), &[here]), None);
}

/// A cluster of which a test says what there is, kept in a folder.
fn told(folder: &TempDir) -> (Cluster, Sender<Change>) {
    let identity = Identity { source: Source::InCluster, scope: scope() };
    let place = Place::new(folder.path(), &identity, &[Name::root()]);
    let (cluster, sender) = Cluster::told(identity);
    cluster.keeping.move_to(place);
    (cluster, sender)
}

fn kept(folder: &TempDir, cluster: &Cluster) -> Option<Restored> {
    let place = Place::new(folder.path(), &cluster.identity, &[Name::root()]).unwrap();
    restore(&place, &scope(), 0, now_s()).ok().unwrap()
}

async fn tell(sender: &Sender<Change>, objects: &[Object]) {
    for kind in Kind::ALL {
        sender.send(Change::ListBegin(kind)).await.unwrap();
    }
    for object in objects {
        sender.send(Change::Apply(object.clone())).await.unwrap();
    }
    for kind in Kind::ALL {
        sender.send(Change::ListEnd(kind)).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_asked_for_is_on_the_disk_when_it_is_answered_and_is_not_written_twice() {
    let folder = TempDir::new().unwrap();
    let (cluster, sender) = told(&folder);
    cluster.keeping.save_now().await;
    assert!(kept(&folder, &cluster).is_none(), "nothing is known yet");
    tell(&sender, &all_shapes()).await;
    cluster.feed.kind(Kind::Slice).set_version("9");
    // The versions cover what is queued, however much of it was taken by then.
    cluster.keeping.save_now().await;
    let restored = kept(&folder, &cluster).unwrap();
    assert_eq!(restored.objects, 9);
    assert_eq!(restored.positions.get(Kind::Slice), Some("9"));
    cluster.keeping.save_now().await;
    let written = cluster.keeping.counters.written.load(Relaxed);
    assert_eq!(written, 1);
}

#[tokio::test(start_paused = true)]
async fn changes_are_written_every_half_a_minute_at_most() {
    let folder = TempDir::new().unwrap();
    let (cluster, sender) = told(&folder);
    tell(&sender, &all_shapes()).await;
    let written = || cluster.keeping.counters.written.load(Relaxed);
    let begun = Instant::now();
    for n in 0..300 {
        sender.send(Change::Apply(Object::Namespace(format!("n{n}").into()))).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        // The thread is outside of the paused clock.
        while written() == 0 && begun.elapsed() > Duration::from_secs(6) {
            std::thread::sleep(Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
    }
    assert!((1..=12).contains(&written()), "{}", written());
    assert!(kept(&folder, &cluster).is_some());
}

#[tokio::test]
async fn p10_a_disk_that_takes_nothing_is_counted_and_holds_up_nothing() {
    let folder = TempDir::new().unwrap();
    let (cluster, sender) = told(&folder);
    tell(&sender, &all_shapes()).await;
    cluster.keeping.save_now().await;
    let before = kept(&folder, &cluster).unwrap().objects;
    // A folder in the place of the file cannot be replaced by one.
    let elsewhere = folder.path().join("missing");
    cluster.keeping.move_to(Place::new(&elsewhere, &cluster.identity, &[Name::root()]));
    for n in 0..3 {
        let object = Object::Namespace(format!("n{n}").into());
        sender.send(Change::Apply(object)).await.unwrap();
        cluster.keeping.save_now().await;
    }
    let failures = cluster.keeping.counters.failures.load(Relaxed);
    assert_eq!((failures, cluster.published.zone().is_synced), (3, true));
    assert_eq!(kept(&folder, &cluster).unwrap().objects, before, "the old file stays");
}

/// Prints what a start costs, for a look; time itself is not judged here.
#[test]
fn a_large_cluster_takes_octets_as_it_has_objects() {
    let took = |services: u32| {
        let octets = sealed(&index_of(large(services)), &standing());
        let begun = std::time::Instant::now();
        let mut restored = opened(&octets).ok().unwrap();
        restored.index.publish(8).unwrap();
        (begun.elapsed(), octets.len())
    };
    let (small, large) = (took(500), took(10_000));
    println!("500 Services: {small:?}; 10 000 Services, 150 000 endpoints: {large:?}");
    assert!(large.1 < 21 * small.1);
}

/// Services with 15 endpoints each.
fn large(services: u32) -> Vec<Object> {
    let mut objects = vec![Object::Namespace("shop".into())];
    for n in 0..services {
        let address = |m: u32| IpAddr::from((0x0a00_0000 + n * 16 + m).to_be_bytes());
        let port = Port { name: "http".into(), protocol: Protocol::Tcp, number: 80 };
        let endpoint =
            |m| Endpoint { addresses: vec![address(m)], ready: true, hostname: None, zone: None };
        objects.push(Object::Service(Service {
            key: key(&format!("service-{n}")),
            role: Role::ClusterIp(vec![IpAddr::from((0x6000_0000 + n).to_be_bytes())]),
            ports: vec![port.clone()],
            has_selector: true,
            externals: Box::default(),
        }));
        objects.push(Object::Slice(Slice {
            key: key(&format!("service-{n}-abcde")),
            service: Some(format!("service-{n}").into()),
            import: None,
            parts: [Part { endpoints: (0..15).map(endpoint).collect(), ports: [port].into() }]
                .into(),
            triggered_ms: None,
        }));
    }
    objects
}

#[tokio::test]
async fn who_waits_is_told_even_without_a_place() {
    let folder = TempDir::new().unwrap();
    let (cluster, sender) = told(&folder);
    tell(&sender, &all_shapes()).await;
    cluster.keeping.move_to(None);
    cluster.keeping.save_now().await;
    assert!(kept(&folder, &cluster).is_none());
}

/// What a watch does between the two looks must not get in: its Change is not in the queue yet.
#[tokio::test]
async fn versions_are_read_before_the_queue_is_counted() {
    let folder = TempDir::new().unwrap();
    let (cluster, _sender) = told(&folder);
    let (feed, published) = (&cluster.feed, &cluster.published);
    feed.kind(Kind::Slice).set_version("9");
    let index = index_of(all_shapes());
    let mut saver = Saver::new(cluster.keeping.clone(), feed);
    saver.look(&index, published, || {
        feed.kind(Kind::Slice).set_version("10");
        0
    });
    assert!(matches!(saver.wake().await, Wake::Ended));
    assert_eq!(kept(&folder, &cluster).unwrap().positions.get(Kind::Slice), Some("9"));
}

/// A file says how long its picture was known to be true, whenever it is written.
#[tokio::test]
async fn a_picture_is_as_old_as_its_last_confirmation() {
    let folder = TempDir::new().unwrap();
    let (cluster, _sender) = told(&folder);
    let (feed, published, index) = (&cluster.feed, &cluster.published, index_of(all_shapes()));
    let mut saver = Saver::new(cluster.keeping.clone(), feed);
    // What is from before the start and not confirmed gets no new date, though nothing is stale.
    feed.restore(Kind::Slice, "9");
    saver.took(1, &index, published);
    saver.look(&index, published, || 0);
    saver.wake().await;
    let place = cluster.keeping.place().unwrap();
    let written_s = || {
        let octets = file::read(&place.path()).unwrap().unwrap();
        u64::from_le_bytes(octets[20..28].try_into().unwrap())
    };
    assert_eq!(written_s(), 0);
    // Taken while fresh and written when it is stale: it was true until then.
    feed.kind(Kind::Slice).confirm();
    saver.took(1, &index, published);
    published.set_stale(true);
    saver.look(&index, published, || 0);
    saver.wake().await;
    assert!(now_s() - written_s() < 60);
}

#[tokio::test]
async fn another_place_and_a_file_that_is_gone_are_reasons_to_write() {
    let folder = TempDir::new().unwrap();
    let (cluster, sender) = told(&folder);
    tell(&sender, &all_shapes()).await;
    cluster.keeping.save_now().await;
    let elsewhere = TempDir::new().unwrap();
    cluster.keeping.move_to(Place::new(elsewhere.path(), &cluster.identity, &[Name::root()]));
    cluster.keeping.save_now().await;
    assert!(kept(&elsewhere, &cluster).is_some(), "though no object has changed");
    let path = cluster.keeping.place().unwrap().path();
    std::fs::remove_file(&path).unwrap();
    // The first look sends somebody to see, and a later one hears of it.
    let begun = std::time::Instant::now();
    while !path.exists() {
        cluster.keeping.save_now().await;
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}

#[test]
fn a_list_that_is_given_up_leaves_its_kind_the_position() {
    let mut index = index_of(all_shapes());
    let service = |index: &Index| {
        let restored = opened(&sealed(index, &standing())).unwrap();
        restored.positions.get(Kind::Service).map(str::to_owned)
    };
    index.take(Change::ListBegin(Kind::Service));
    assert_eq!(service(&index), None, "of no one version");
    index.take(Change::ListGiveUp(Kind::Service));
    assert_eq!(service(&index).as_deref(), Some("4711"));
}

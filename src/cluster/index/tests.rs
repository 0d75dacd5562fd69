//! The model: after any history of changes the Zone equals one built from scratch.

use std::collections::BTreeMap;
use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::cluster::config::Kept;
use crate::cluster::object::{Endpoint, External, Import, Pod, Port, Protocol, Role};
use crate::cluster::trie::{Leaf, Trie};

const KINDS: [Kind; 5] = Kind::ALL;

pub(in crate::cluster) fn scope() -> Scope {
    let kept = Kept { externals: true, ..Kept::default() };
    Scope { imports: true, pods: true, kept, ..Scope::default() }
}

pub(in crate::cluster) fn empty_index() -> Index {
    Index::after(&Zone::unsynced(), &scope())
}

/// Feeds the objects as one full list of every kind.
pub(in crate::cluster) fn list(index: &mut Index, objects: impl IntoIterator<Item = Object>) {
    KINDS.into_iter().for_each(|kind| index.take(Change::ListBegin(kind)));
    objects.into_iter().for_each(|object| index.take(Change::Apply(object)));
    KINDS.into_iter().for_each(|kind| index.take(Change::ListEnd(kind)));
}

fn from_scratch(objects: &BTreeMap<(Kind, ObjectKey), Object>) -> Index {
    let mut index = empty_index();
    list(&mut index, objects.values().cloned());
    index.publish(1);
    index
}

/// Leaves of a trie as text, by key.
pub(in crate::cluster) type Leaves = BTreeMap<Vec<u8>, String>;

pub(in crate::cluster) fn picture(zone: &Zone) -> [Leaves; 7] {
    [
        pictures(&zone.services),
        pictures(&zone.imports),
        pictures(&zone.addresses),
        pictures(&zone.externals),
        pictures(&zone.external_addresses),
        pictures(&zone.namespaces),
        pictures(&zone.pods),
    ]
}

fn pictures<V: std::fmt::Debug>(trie: &Trie<V>) -> Leaves {
    let picture =
        |leaf: &Leaf<V>| (leaf.key().to_vec(), format!("{:?} {:?}", leaf.value(), leaf.tail()));
    trie.iter().map(picture).collect()
}

fn key(namespace: u8, name: u8) -> ObjectKey {
    let namespace = if namespace == 255 { String::new() } else { format!("ns{namespace}") };
    ObjectKey { namespace: namespace.into(), name: format!("o{name}").into() }
}

fn any_port() -> impl Strategy<Value = Port> {
    (0u8..3, 80u16..83).prop_map(|(name, number)| Port {
        name: ["", "http", "grpc"][usize::from(name)].into(),
        protocol: Protocol::Tcp,
        number,
    })
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    (0u8..12, any::<bool>()).prop_map(|(last, is_v4)| {
        if is_v4 {
            IpAddr::from([10, 0, 0, last])
        } else {
            IpAddr::from([0xfd, 0, 0, 0, 0, 0, 0, u16::from(last)])
        }
    })
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let hostname = proptest::option::of("[ab]|10-0-0-[1-3]|fd00--[1-3]");
    (proptest::collection::vec(any_address(), 0..3), any::<bool>(), hostname).prop_map(
        |(addresses, ready, hostname)| Endpoint {
            addresses,
            ready,
            hostname: hostname.map(Into::into),
            zone: None,
        },
    )
}

fn any_owner() -> impl Strategy<Value = Option<Box<str>>> {
    proptest::option::of((0u8..4).prop_map(|name| format!("o{name}").into()))
}

fn any_service_key() -> impl Strategy<Value = ObjectKey> {
    (0u8..3, 0u8..4).prop_map(|(namespace, name)| key(namespace, name))
}

fn any_externals() -> impl Strategy<Value = Box<[External]>> {
    let host = Just(External::Host(crate::wire::Name::parse("lb.example.org").unwrap()));
    let external = prop_oneof![3 => any_address().prop_map(External::Address), 1 => host];
    proptest::collection::vec(external, 0..3).prop_map(Into::into)
}

pub(in crate::cluster) fn any_object() -> impl Strategy<Value = Object> {
    let role = prop_oneof![
        proptest::collection::vec(any_address(), 0..3).prop_map(Role::ClusterIp),
        Just(Role::Headless),
        Just(Role::ExternalName("example.org".into())),
        Just(Role::ExternalName("10.0.0.1".into())),
    ];
    let ports = || proptest::collection::vec(any_port(), 0..3);
    let endpoints = proptest::collection::vec(any_endpoint(), 0..4)
        .prop_map(|endpoints| endpoints.into_iter().collect());
    prop_oneof![
        (0u8..3).prop_map(|name| Object::Namespace(format!("ns{name}").into())),
        (any_service_key(), role.clone(), ports(), any_externals()).prop_map(
            |(key, role, ports, externals)| {
                Object::Service(Service { key, role, ports, has_selector: true, externals })
            }
        ),
        (any_service_key(), role.clone(), ports()).prop_map(|(key, role, ports)| {
            let externals = Box::default();
            Object::Import(Service { key, role, ports, has_selector: false, externals })
        }),
        (0u8..3, 0u8..6, proptest::collection::vec(any_address(), 1..3)).prop_map(
            |(namespace, name, addresses)| {
                Object::Pod(Pod { key: key(namespace, name), addresses: addresses.into() })
            }
        ),
        (0u8..3, 0u8..6, any_owner(), any_owner(), endpoints, ports()).prop_map(
            |(namespace, name, service, import, endpoints, ports)| {
                let import = import.map(|service| Import { service, cluster: "c1".into() });
                let parts = [Part { endpoints, ports: ports.into() }].into();
                let key = key(namespace, name);
                Object::Slice(Slice { key, service, import, parts, triggered_ms: None })
            }
        ),
    ]
}

fn identity(object: &Object) -> (Kind, ObjectKey) {
    (object.kind(), object.key())
}

#[derive(Clone, Debug)]
enum Event {
    Apply(Object),
    Delete(Object),
    Publish,
    /// A full list that no longer brings every n-th object.
    Relist(usize),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => any_object().prop_map(Event::Apply),
        3 => any_object().prop_map(Event::Delete),
        1 => Just(Event::Publish),
        1 => (2usize..5).prop_map(Event::Relist),
    ]
}

proptest! {
    #[test]
    fn any_history_ends_in_the_zone_built_from_scratch(
        history in proptest::collection::vec(any_event(), 0..80),
    ) {
        let mut index = empty_index();
        let mut objects: BTreeMap<(Kind, ObjectKey), Object> = BTreeMap::new();
        list(&mut index, []);
        for event in history {
            match event {
                Event::Apply(object) => {
                    objects.insert(identity(&object), object.clone());
                    index.take(Change::Apply(object));
                }
                Event::Delete(object) => {
                    let (kind, key) = identity(&object);
                    objects.remove(&(kind, key.clone()));
                    index.take(Change::Delete(kind, key));
                }
                Event::Publish => drop(index.publish(1)),
                Event::Relist(n) => {
                    let mut count = 0;
                    objects.retain(|_, _| { count += 1; count % n != 0 });
                    list(&mut index, objects.values().cloned());
                }
            }
        }
        index.publish(1);
        prop_assert_eq!(picture(index.zone()), picture(from_scratch(&objects).zone()));
    }
}

#[test]
fn nothing_is_published_before_every_kind_is_listed() {
    let mut index = empty_index();
    for kind in [Kind::Namespace, Kind::Service, Kind::Slice] {
        assert!(index.publish(1).is_none());
        index.take(Change::ListBegin(kind));
        index.take(Change::ListEnd(kind));
    }
    assert_eq!(index.publish(7).map(|zone| (zone.generation, zone.serial)), Some((1, 7)));
    assert!(index.publish(8).is_none(), "nothing changed");
}

#[test]
fn pods_and_imports_hold_up_only_their_own_names() {
    let mut index = empty_index();
    list_kinds(&mut index, &[Kind::Namespace, Kind::Service, Kind::Slice]);
    let zone = index.publish(1).unwrap();
    assert!(zone.is_synced && !zone.knows_pods && !zone.knows_imports);
    list_kinds(&mut index, &[Kind::Pod]);
    let zone = index.publish(2).unwrap();
    assert!(zone.knows_pods && !zone.knows_imports);
    list_kinds(&mut index, &[Kind::Import]);
    assert!(index.publish(3).unwrap().knows_imports);
}

fn list_kinds(index: &mut Index, kinds: &[Kind]) {
    for kind in kinds {
        index.take(Change::ListBegin(*kind));
        index.take(Change::ListEnd(*kind));
    }
}

#[test]
fn a_published_zone_never_changes() {
    let service = Service {
        key: key(0, 0),
        role: Role::ClusterIp(vec!["10.0.0.9".parse().unwrap()]),
        ports: vec![],
        has_selector: true,
        externals: Box::default(),
    };
    let mut index = empty_index();
    list(&mut index, [Object::Namespace("ns0".into()), Object::Service(service)]);
    let first = index.publish(5).unwrap();
    let before = picture(&first);
    list(&mut index, []);
    let second = index.publish(5).unwrap();
    assert_eq!(picture(&first), before);
    assert_eq!((second.service_count(), second.serial), (0, 6), "the serial grows");
}

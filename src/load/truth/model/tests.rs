//! Any history ends in what the objects say from scratch, at each instant of it; and what grows.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::cluster::object::{Endpoint, Part, Port, Protocol, Service, Slice};
use crate::load::truth::history::HISTORY;
use crate::load::truth::question::Family;

/// The objects at one instant.
type Objects = BTreeMap<(Kind, ObjectKey), Object>;

fn domain() -> Name {
    Name::parse("d").unwrap()
}

fn key(namespace: u8, name: u8) -> ObjectKey {
    let namespace = if namespace == 255 { String::new() } else { format!("ns{namespace}") };
    ObjectKey { namespace: namespace.into(), name: format!("o{name}").into() }
}

fn address(last: u8, is_v4: bool) -> IpAddr {
    match is_v4 {
        true => IpAddr::from([10, 0, 0, last]),
        false => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)]),
    }
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    (0u8..6, any::<bool>()).prop_map(|(last, is_v4)| address(last, is_v4))
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let hostname = proptest::option::of("[ab]|10-0-0-[1-3]|fd00--[1-3]");
    let addresses = proptest::collection::vec(any_address(), 1..3);
    (addresses, any::<bool>(), hostname).prop_map(|(addresses, ready, hostname)| Endpoint {
        addresses,
        ready,
        hostname: hostname.map(Into::into),
        zone: None,
    })
}

fn any_ports() -> impl Strategy<Value = Vec<Port>> {
    let port = (0u8..2, 80u16..82).prop_map(|(name, number)| Port {
        name: ["", "http"][usize::from(name)].into(),
        protocol: if number == 80 { Protocol::Tcp } else { Protocol::Udp },
        number,
    });
    proptest::collection::vec(port, 0..3)
}

fn any_object() -> impl Strategy<Value = Object> {
    let role = prop_oneof![
        1 => proptest::collection::vec(any_address(), 0..3).prop_map(Role::ClusterIp),
        3 => Just(Role::Headless),
        1 => Just(Role::ExternalName("example.org".into())),
    ];
    let endpoints = proptest::collection::vec(any_endpoint(), 0..4);
    prop_oneof![
        1 => (0u8..2).prop_map(|name| Object::Namespace(format!("ns{name}").into())),
        3 => (0u8..2, 0u8..2, role, any_ports()).prop_map(|(namespace, name, role, ports)| {
            let (key, externals) = (key(namespace, name), Box::default());
            Object::Service(Service { key, role, ports, has_selector: true, externals })
        }),
        3 => (0u8..2, 0u8..4, proptest::option::weighted(0.9, 0u8..2), endpoints, any_ports())
            .prop_map(|(namespace, name, service, endpoints, ports)| {
                let endpoints = endpoints.into_iter().collect();
                let parts = [Part { endpoints, ports: ports.into() }].into();
                let service = service.map(|name| format!("o{name}").into());
                let key = key(namespace, name);
                Object::Slice(Slice { key, service, import: None, parts, triggered_ms: None })
            }),
    ]
}

#[derive(Clone, Debug)]
enum Event {
    Apply(Object),
    Delete(Object),
    /// A full list that no longer brings every n-th object.
    Relist(usize),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => any_object().prop_map(Event::Apply),
        3 => any_object().prop_map(Event::Delete),
        1 => (2usize..5).prop_map(Event::Relist),
    ]
}

/// Feeds the objects as one full list of every kind.
fn list(model: &mut Model, objects: &Objects, now: Instant) {
    Kind::OF_SERVICES.into_iter().for_each(|kind| model.take(Change::ListBegin(kind), now));
    objects.values().for_each(|object| model.take(Change::Apply(object.clone()), now));
    Kind::OF_SERVICES.into_iter().for_each(|kind| model.take(Change::ListEnd(kind), now));
}

fn happen(model: &mut Model, objects: &mut Objects, event: Event, now: Instant) {
    match event {
        Event::Apply(object) => {
            objects.insert((object.kind(), object.key()), object.clone());
            model.take(Change::Apply(object), now);
        }
        Event::Delete(object) => {
            objects.remove(&(object.kind(), object.key()));
            model.take(Change::Delete(object.kind(), object.key()), now);
        }
        Event::Relist(n) => {
            let mut count = 0;
            objects.retain(|_, _| {
                count += 1;
                count % n != 0
            });
            list(model, objects, now);
        }
    }
}

/// Every question that the objects above may answer, and some that they do not.
fn questions() -> Vec<(Name, Sought)> {
    let mut names = vec!["ns0.svc.d".into(), "ns1.svc.d".into(), "ns2.svc.d".into()];
    for service in ["o0.ns0", "o1.ns0", "o0.ns1", "o1.ns1", "o2.ns0"] {
        let labels = ["", "a.", "b.", "10-0-0-1.", "fd00--1.", "_http._tcp.", "_http._udp."];
        names.extend(labels.map(|label| format!("{label}{service}.svc.d")));
    }
    names.extend((0..6).map(|last| format!("{last}.0.0.10.in-addr.arpa")));
    names.push(format!("1.{}0.0.d.f.ip6.arpa", "0.".repeat(27)));
    let sought = [Sought::Addresses(Family::Both), Sought::Srv, Sought::Ptr, Sought::Other];
    let names = names.iter().map(|text| Name::parse(text).unwrap());
    names.flat_map(|name| sought.map(|sought| (name.clone(), sought))).collect()
}

/// What the model says was right for a question at an instant.
fn right(model: &Model, (name, sought): &(Name, Sought), at: Instant) -> String {
    match model.past(name.as_ref(), *sought) {
        // An address that is not in the cluster, and one that once was.
        None => format!("{:?}", Expected::Elsewhere),
        Some(past) => format!("{:?}", past.expected(past.last_until(at))),
    }
}

proptest! {
    #[test]
    fn each_instant_of_any_history_is_what_the_objects_said(
        history in proptest::collection::vec(any_event(), 0..40),
        begun in 0usize..10,
    ) {
        let start = Instant::now();
        let at = |step: usize| start + Duration::from_millis(step as u64);
        let mut model = Model::new(domain());
        let mut objects = Objects::new();
        let mut pictures = Vec::new();
        for (step, event) in history.into_iter().enumerate() {
            // Some of it before all is known.
            if step == begun {
                list(&mut model, &objects, at(step));
            }
            happen(&mut model, &mut objects, event, at(step));
            pictures.push((step, objects.clone()));
        }
        for (step, objects) in pictures.into_iter().skip(begun) {
            let mut fresh = Model::new(domain());
            list(&mut fresh, &objects, at(step));
            for question in questions() {
                let (expected, got) =
                    (right(&fresh, &question, at(step)), right(&model, &question, at(step)));
                prop_assert_eq!(expected, got, "{:?} at step {}", question, step);
            }
        }
        let held: Vec<Object> = model.objects().iter().map(|object| (**object).clone()).collect();
        let of_services = objects.values().filter(|it| is_of_a_service(it));
        let of_services: Vec<Object> = of_services.cloned().collect();
        prop_assert_eq!(held, of_services);
    }

    #[test]
    fn what_is_gone_is_forgotten(history in proptest::collection::vec(any_event(), 0..40)) {
        let start = Instant::now();
        let mut model = Model::new(domain());
        let mut objects = Objects::new();
        list(&mut model, &objects, start);
        for event in history {
            happen(&mut model, &mut objects, event, start);
        }
        list(&mut model, &Objects::new(), start);
        prop_assert_eq!(model.objects().len(), 0);
        prop_assert_eq!(model.own_addresses().len(), 0);
        model.age(start + HISTORY);
        prop_assert_eq!(model.remembered(), [0; 4]);
    }
}

/// Slices of no Service make no name.
fn is_of_a_service(object: &Object) -> bool {
    !matches!(object, Object::Slice(Slice { service: None, .. }))
}

fn headless(name: u8) -> Object {
    let (key, role, ports) = (key(0, name), Role::Headless, Vec::new());
    Object::Service(Service { key, role, ports, has_selector: true, externals: Box::default() })
}

fn slice(name: u8, endpoint: IpAddr) -> Object {
    let addresses = vec![endpoint];
    let endpoint = Endpoint { addresses, ready: true, hostname: None, zone: None };
    let parts =
        [Part { endpoints: [endpoint].into_iter().collect(), ports: Box::default() }].into();
    let (key, service) = (key(0, name), Some(format!("o{name}").into()));
    Object::Slice(Slice { key, service, import: None, parts, triggered_ms: None })
}

#[test]
fn churn_does_not_grow_and_forgets_only_what_it_has_no_room_for() {
    const ROOM: usize = 100;
    let start = Instant::now();
    let mut model = Model::with_room(domain(), ROOM);
    list(&mut model, &Objects::new(), start);
    model.take(Change::Apply(Object::Namespace("ns0".into())), start);
    (0..10).for_each(|name| model.take(Change::Apply(headless(name)), start));
    let mut largest = [0; 4];
    for step in 0u32..5_000 {
        let now = start + Duration::from_millis(u64::from(step));
        let [_, a, b, c] = step.to_be_bytes();
        model.take(Change::Apply(slice((step % 10) as u8, IpAddr::from([10, a, b, c]))), now);
        let remembered = model.remembered();
        largest = std::array::from_fn(|at| largest[at].max(remembered[at]));
    }
    assert_eq!(largest[0..2], [1, 10]);
    assert!(largest[2] <= ROOM + 10 && largest[3] == ROOM, "{largest:?}");
    assert!(model.overflowed() > 4_000);
    // Two notes for each change: a version, and an address that went.
    let known_from = model.known_from().unwrap();
    let kept = start + Duration::from_millis(4_999) - known_from;
    assert!((40..=50).contains(&kept.as_millis()), "{kept:?}");
}

#[test]
fn a_list_that_brings_nothing_new_makes_no_version() {
    let start = Instant::now();
    let mut model = Model::new(domain());
    let objects = [Object::Namespace("ns0".into()), headless(1), slice(1, address(1, true))];
    let objects: Objects =
        objects.into_iter().map(|object| ((object.kind(), object.key()), object)).collect();
    list(&mut model, &objects, start);
    let before = (model.generation(), model.remembered());
    list(&mut model, &objects, start + HISTORY / 2);
    assert_eq!((model.generation(), model.remembered()), before);
}

//! The model that `mainstay load` judges by, against the Zone that answers: two readings of one
//! specification, which share no code. After each change of any history both say the same of every
//! name, or the model leaves it open, as its documentation says.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use mainstay::cluster::config::{Pods, Scope};
use mainstay::cluster::index::Index;
use mainstay::cluster::object::{
    Change, Endpoint, Kind, Object, ObjectKey, Part, Port, Protocol, Role, Service, Slice,
};
use mainstay::cluster::zone::{Asked, Outcome, Style, View, Zone};
use mainstay::load::truth::{Said, Sought, Truth, Verdict};
use mainstay::wire::name::Labels;
use mainstay::wire::{Name, Query, RecordType, Reply, message};
use proptest::prelude::*;
use tokio::time::Instant;

const DOMAIN: &str = "cluster.local";
const TYPES: [RecordType; 5] =
    [RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::PTR, RecordType::TXT];

/// The server's side and ours, told the same.
struct Both {
    index: Index,
    truth: Truth,
    now: Instant,
}

impl Both {
    fn new() -> Self {
        let index = Index::after(&Zone::unsynced(), &Scope::default());
        let truth = Truth::told(name(DOMAIN), Duration::ZERO, Duration::ZERO);
        let mut both = Self { index, truth, now: Instant::now() };
        both.tell(Kind::OF_SERVICES.map(Change::ListBegin));
        both.tell(Kind::OF_SERVICES.map(Change::ListEnd));
        both
    }

    fn tell(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.now += Duration::from_millis(1);
        for change in changes {
            self.index.take(change.clone());
            self.truth.hear([change], self.now);
        }
        self.index.publish(1);
    }

    /// What the Zone answers; nothing for an alias.
    fn said(&self, name: &Name, rtype: RecordType) -> Option<Said> {
        let packet = message::question(&name.to_string(), rtype, None);
        let query = Query::parse(&packet).unwrap();
        let (view, mut out) = (view(), vec![0; 65_535]);
        let mut reply = Reply::to(&query, out.len(), &mut out);
        let zones = [DOMAIN, "in-addr.arpa", "ip6.arpa"].map(crate::name);
        let zone =
            zones.iter().find(|zone| name.as_ref().is_within(zone.as_ref())).unwrap().as_ref();
        let prefix = name.as_ref().without_suffix(zone).unwrap();
        let asked =
            Asked { view: &view, zone, in_clusterset: false, prefix, query: &query, turn: 0 };
        match self.index.zone().lookup(&asked, &mut reply) {
            Outcome::Found => {
                let length = reply.finish();
                Some(read(&message::read(&out[..length]).unwrap()))
            }
            Outcome::NoData => Some(Said::NoData),
            Outcome::NxDomain | Outcome::NoneReady(_) => Some(Said::NxDomain),
            Outcome::Alias(_) => None,
            Outcome::NotReady => panic!("{name} is not ready"),
        }
    }

    fn verdict(&self, name: &Name, rtype: RecordType, said: &Said) -> Option<Verdict> {
        let sought = Sought::by_packet(rtype);
        self.truth.judge(name, sought, said, self.now, self.now).map(|it| it.verdict)
    }

    /// Compares both on every name. Answers how many were judged.
    fn check(&self) -> Result<usize, TestCaseError> {
        let mut judged = 0;
        for name in names() {
            for rtype in TYPES {
                let Some(said) = self.said(&name, rtype) else { continue };
                let verdict = self.verdict(&name, rtype, &said);
                let is_open = is_left_open(&name, rtype);
                let expected = Some(Verdict::Ok).filter(|_| !is_open || verdict.is_some());
                prop_assert_eq!(verdict, expected, "{} {}: {:?}", name, rtype, said);
                judged += usize::from(verdict.is_some());
                for wrong in wrong(&said, rtype) {
                    let verdict = self.verdict(&name, rtype, &wrong);
                    prop_assert_ne!(verdict, Some(Verdict::Ok), "{} {}: {:?}", name, rtype, wrong);
                }
            }
        }
        Ok(judged)
    }
}

/// What the documentation of the model leaves open: addresses under names of ports, SRV of
/// endpoints, what else the domain itself has, and addresses that nobody has.
fn is_left_open(name: &Name, rtype: RecordType) -> bool {
    let Some(prefix) = name.as_ref().without_suffix(crate::name(DOMAIN).as_ref()) else {
        return true;
    };
    match Labels::of(prefix).count() {
        0 => rtype == RecordType::TXT,
        4 => rtype == RecordType::SRV,
        5 => rtype != RecordType::SRV || !prefix.starts_with(b"\x05_http"),
        _ => false,
    }
}

/// Answers that are not this one.
fn wrong(said: &Said, rtype: RecordType) -> Vec<Said> {
    let stranger = match rtype {
        RecordType::AAAA => IpAddr::from([0xfd, 9, 9, 9, 9, 9, 9, 9]),
        _ => IpAddr::from([192, 0, 2, 1]),
    };
    match said {
        Said::Addresses { set, .. } => {
            let more = set.iter().copied().chain([stranger]).collect();
            let fewer: BTreeSet<IpAddr> = set.iter().skip(1).copied().collect();
            let set = |set| Said::Addresses { set, is_cut: false };
            vec![Said::NxDomain, Said::NoData, set(more), set(fewer)]
        }
        Said::Names { .. } => vec![Said::NxDomain, Said::NoData],
        Said::NoData => vec![Said::NxDomain],
        _ if rtype.is_address() => vec![Said::Addresses { set: [stranger].into(), is_cut: false }],
        _ => Vec::new(),
    }
}

fn view() -> View {
    View {
        ttl_s: 5,
        pods: Pods::Disabled,
        is_zonal: false,
        watches_endpoints: true,
        ignores_empty: false,
        primary: name(DOMAIN),
        own_addresses: Arc::new([]),
        style: Style::cluster(),
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// The answer section, by an oracle of its own.
fn read(message: &Message) -> Said {
    let (mut addresses, mut names) = (BTreeSet::new(), BTreeSet::new());
    for record in &message.answers {
        match &record.data {
            RData::A(it) => drop(addresses.insert(IpAddr::from(it.0))),
            RData::AAAA(it) => drop(addresses.insert(IpAddr::from(it.0))),
            RData::SRV(it) => drop(names.insert(name(&it.target.to_ascii()))),
            RData::PTR(it) => drop(names.insert(name(&it.0.to_ascii()))),
            other => panic!("{other:?}"),
        }
    }
    match names.is_empty() {
        true => Said::Addresses { set: addresses, is_cut: false },
        false => Said::Names { set: names, is_cut: false },
    }
}

/// Names that the objects below may make, and some that they do not.
fn names() -> Vec<Name> {
    let mut below: Vec<String> =
        ["", "svc.", "ns0.svc.", "ns9.svc.", "o0.ns0.", "x.", "a.b.c.d.o0.ns0.svc."]
            .map(String::from)
            .into();
    for service in ["o0.ns0", "o1.ns0", "o0.ns1", "o1.ns1", "o9.ns0"] {
        let labels = ["", "a.", "b.", "10-0-0-1.", "fd00--1.", "10-0-0.", "fd00--2."];
        below.extend(labels.map(|label| format!("{label}{service}.svc.")));
        let ports = ["_http._tcp.", "_http._udp.", "_dns._udp.", "http.tcp.", "_http.x."];
        below.extend(ports.map(|port| format!("{port}{service}.svc.")));
    }
    let forward = below.iter().map(|below| format!("{below}{DOMAIN}"));
    let v4 = (0..6).map(|last| format!("{last}.0.0.10.in-addr.arpa"));
    let v6 = (0..6).map(|last| format!("{last}.{}0.0.d.f.ip6.arpa", "0.".repeat(27)));
    forward.chain(v4).chain(v6).map(|text| name(&text)).collect()
}

fn key(namespace: u8, name: u8) -> ObjectKey {
    ObjectKey { namespace: format!("ns{namespace}").into(), name: format!("o{name}").into() }
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    (0u8..6, any::<bool>()).prop_map(|(last, is_v4)| match is_v4 {
        true => IpAddr::from([10, 0, 0, last]),
        false => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last)]),
    })
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
    let ports = [("", Protocol::Tcp, 80), ("http", Protocol::Tcp, 81), ("dns", Protocol::Udp, 53)];
    let ports = ports.map(|(name, protocol, number)| Port { name: name.into(), protocol, number });
    proptest::sample::subsequence(ports.to_vec(), 0..=3)
}

fn any_change() -> impl Strategy<Value = Change> {
    let role = prop_oneof![
        1 => proptest::collection::btree_set(any_address(), 0..3)
            .prop_map(|set| Role::ClusterIp(set.into_iter().collect())),
        3 => Just(Role::Headless),
        1 => Just(Role::ExternalName("example.org".into())),
    ];
    let endpoints = proptest::collection::vec(any_endpoint(), 0..4);
    let object = prop_oneof![
        1 => (0u8..2).prop_map(|name| Object::Namespace(format!("ns{name}").into())),
        3 => (0u8..2, 0u8..2, role, any_ports()).prop_map(|(namespace, name, role, ports)| {
            let (key, externals) = (key(namespace, name), Box::default());
            Object::Service(Service { key, role, ports, has_selector: true, externals })
        }),
        3 => (0u8..2, 0u8..4, 0u8..2, endpoints, any_ports()).prop_map(
            |(namespace, name, service, endpoints, ports)| {
                let endpoints = endpoints.into_iter().collect();
                let parts = [Part { endpoints, ports: ports.into() }].into();
                let service = Some(format!("o{service}").into());
                let key = key(namespace, name);
                Object::Slice(Slice { key, service, import: None, parts, triggered_ms: None })
            }
        ),
    ];
    (object, 0u8..4).prop_map(|(object, is_gone)| match is_gone {
        0 => Change::Delete(object.kind(), object.key()),
        _ => Change::Apply(object),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn the_model_and_the_zone_agree_on_every_name(
        changes in proptest::collection::vec(any_change(), 1..25),
    ) {
        let mut both = Both::new();
        both.tell(["ns0", "ns1"].map(|name| Change::Apply(Object::Namespace(name.into()))));
        for change in changes {
            both.tell([change]);
            let judged = both.check()?;
            prop_assert!(judged > names().len(), "only {} were judged", judged);
        }
    }
}

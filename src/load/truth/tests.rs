//! Verdicts, with instants that are told.

use super::*;
use crate::cluster::object::{
    Endpoint, Kind, ObjectKey, Part, Port, Protocol, Role, Service, Slice,
};
use crate::wire::RecordType;

const BOUND: Duration = Duration::from_secs(1);
const EARLY: Duration = Duration::from_millis(250);
const A: Sought = Sought::Addresses(Family::V4);
const AAAA: Sought = Sought::Addresses(Family::V6);
const BOTH: Sought = Sought::Addresses(Family::Both);

/// A truth with a clock of its own.
struct World {
    truth: Truth,
    start: Instant,
}

impl World {
    /// A cluster with the Namespace `shop` and nothing in it, which is known at 0 s.
    fn new() -> Self {
        let truth = Truth::told(name("d"), BOUND, EARLY);
        let world = Self { truth, start: Instant::now() };
        let lists = |end: fn(Kind) -> Change| Kind::OF_SERVICES.map(end);
        world.hear(0, lists(Change::ListBegin));
        world.hear(0, [Change::Apply(Object::Namespace("shop".into()))]);
        world.hear(0, lists(Change::ListEnd));
        world
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    fn hear(&self, ms: u64, changes: impl IntoIterator<Item = Change>) {
        self.truth.hear(changes, self.at(ms));
    }

    /// Judges an answer that came 10 ms after its question.
    fn judge(&self, ms: u64, name_: &str, sought: Sought, said: Said) -> Option<Judgement> {
        self.truth.judge(&name(name_), sought, &said, self.at(ms - 10), self.at(ms))
    }

    fn verdict(&self, ms: u64, name: &str, sought: Sought, said: Said) -> Option<Verdict> {
        self.judge(ms, name, sought, said).map(|it| it.verdict)
    }

    fn fresh(&self, ms: u64, name: &str, sought: Sought, said: Said) -> Option<u128> {
        let judgement = self.judge(ms, name, sought, said).unwrap();
        assert_eq!(judgement.verdict, Verdict::Ok);
        judgement.fresh_after.map(|it| it.as_millis())
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "shop".into(), name: name.into() }
}

fn port(name: &str) -> Port {
    Port { name: name.into(), protocol: Protocol::Tcp, number: 80 }
}

fn service(name: &str, role: Role) -> Change {
    let (key, ports) = (key(name), vec![port("http")]);
    let externals = Box::default();
    Change::Apply(Object::Service(Service { key, role, ports, has_selector: true, externals }))
}

fn cluster_ip(name: &str, addresses: &str) -> Change {
    service(name, Role::ClusterIp(list(addresses).collect()))
}

/// A slice `NAME-1` with endpoints: `10.0.0.1 10.0.0.2=db-0 !10.0.0.3`, the last one not ready.
fn slice(of: &str, endpoints: &str) -> Change {
    let endpoints = endpoints.split_whitespace().map(|text| {
        let (ready, text) = (!text.starts_with('!'), text.trim_start_matches('!'));
        let (addresses, hostname) = text.split_once('=').unzip();
        let addresses = list(addresses.unwrap_or(text)).collect();
        Endpoint { addresses, ready, hostname: hostname.map(Into::into), zone: None }
    });
    let parts = [Part { endpoints: endpoints.collect(), ports: [port("http")].into() }].into();
    let (key, service) = (key(&format!("{of}-1")), Some(of.into()));
    Change::Apply(Object::Slice(Slice { key, service, import: None, parts, triggered_ms: None }))
}

fn delete(kind: Kind, name: &str) -> Change {
    Change::Delete(kind, key(name))
}

fn list(addresses: &str) -> impl Iterator<Item = IpAddr> {
    addresses.split(',').map(|text| text.parse().unwrap())
}

fn addresses(text: &str) -> Said {
    Said::Addresses { set: list(text).collect(), is_cut: false }
}

fn cut(text: &str) -> Said {
    Said::Addresses { set: list(text).collect(), is_cut: true }
}

fn names(text: &str) -> Said {
    Said::Names { set: text.split(',').map(name).collect(), is_cut: false }
}

const WEB: &str = "web.shop.svc.d";

#[test]
fn an_answer_is_ok_while_the_objects_say_so_and_a_bound_longer() {
    let world = World::new();
    world.hear(2000, [cluster_ip("web", "10.96.0.1")]);
    world.hear(9000, [cluster_ip("web", "10.96.0.2")]);
    let old = |ms| world.verdict(ms, WEB, A, addresses("10.96.0.1"));
    assert_eq!(old(2000), Some(Verdict::Ok));
    assert_eq!(old(9000), Some(Verdict::Ok));
    assert_eq!(old(10_005), Some(Verdict::Ok), "the bound counts from the question");
    assert_eq!(old(10_011), Some(Verdict::Stale));
    assert_eq!(world.verdict(10_011, WEB, A, addresses("10.96.0.2")), Some(Verdict::Ok));
    assert_eq!(world.verdict(10_011, WEB, A, addresses("10.96.0.3")), Some(Verdict::WrongPositive));
    let both = addresses("10.96.0.1,10.96.0.2");
    assert_eq!(world.verdict(9500, WEB, A, both), Some(Verdict::WrongPositive), "a mixture");
}

#[test]
fn a_server_may_hear_of_a_change_before_we_do() {
    let world = World::new();
    world.hear(2000, [cluster_ip("web", "10.96.0.1")]);
    let new = || world.judge(5000, WEB, A, addresses("10.96.0.2"));
    let before = new();
    assert_eq!(before.map(|it| it.verdict), Some(Verdict::WrongPositive));
    assert!(!Truth::is_final(before));
    world.hear(5200, [cluster_ip("web", "10.96.0.2")]);
    let after = new();
    assert!(Truth::is_final(after));
    let ok = Judgement { verdict: Verdict::Ok, fresh_after: Some(Duration::ZERO) };
    assert_eq!(after, Some(ok));
    world.hear(5300, [cluster_ip("web", "10.96.0.3")]);
    let much_newer = world.verdict(5000, WEB, A, addresses("10.96.0.3"));
    assert_eq!(much_newer, Some(Verdict::WrongPositive), "nobody is so much earlier");
}

#[test]
fn a_denial_of_what_exists_is_a_wrong_negative() {
    let world = World::new();
    world.hear(2000, [cluster_ip("web", "10.96.0.1")]);
    let denied = |ms, sought, said| world.verdict(ms, WEB, sought, said);
    assert_eq!(denied(2900, A, Said::NxDomain), Some(Verdict::Ok), "it may be so old");
    for said in [Said::NxDomain, Said::NoData, Said::NoAddress] {
        assert_eq!(denied(4000, A, said.clone()), Some(Verdict::WrongNegative), "{said:?}");
        assert_eq!(denied(4000, BOTH, said.clone()), Some(Verdict::WrongNegative), "{said:?}");
    }
    assert_eq!(denied(4000, AAAA, Said::NoData), Some(Verdict::Ok));
    assert_eq!(denied(4000, AAAA, Said::NoAddress), Some(Verdict::Ok));
    assert_eq!(denied(4000, AAAA, Said::NxDomain), Some(Verdict::WrongNegative), "it kills A");
    assert_eq!(denied(4000, Sought::Other, Said::NoData), Some(Verdict::Ok));
    assert_eq!(denied(4000, Sought::Other, Said::NxDomain), Some(Verdict::WrongNegative));
}

#[test]
fn records_of_what_does_not_exist_are_stale_if_they_were_once_true() {
    let world = World::new();
    world.hear(2000, [cluster_ip("web", "10.96.0.1")]);
    world.hear(3000, [delete(Kind::Service, "web")]);
    let said = |said| world.verdict(9000, WEB, A, said);
    assert_eq!(said(Said::NxDomain), Some(Verdict::Ok));
    assert_eq!(said(addresses("10.96.0.1")), Some(Verdict::Stale));
    assert_eq!(said(addresses("10.96.0.2")), Some(Verdict::WrongPositive));
    assert_eq!(said(Said::NoData), Some(Verdict::WrongPositive), "there is no such name");
    assert_eq!(said(Said::NoAddress), Some(Verdict::Ok));
    let never = world.verdict(9000, "other.shop.svc.d", A, addresses("10.96.0.1"));
    assert_eq!(never, Some(Verdict::WrongPositive));
}

#[test]
fn no_answer_is_lost_and_stays_so() {
    let world = World::new();
    world.hear(2000, [service("ext", Role::ExternalName("example.org".into()))]);
    for name in [WEB, "ext.shop.svc.d", "nothing.d"] {
        let lost = world.judge(9000, name, A, Said::Nothing);
        assert_eq!(lost.map(|it| it.verdict), Some(Verdict::Lost), "{name}");
        assert!(Truth::is_final(lost));
    }
    assert_eq!(world.verdict(9000, "example.org", A, Said::Nothing), None);
    assert_eq!(world.verdict(9000, "1.0.0.10.in-addr.arpa", Sought::Ptr, Said::Nothing), None);
}

#[test]
fn headless_services_are_the_union_of_their_ready_endpoints() {
    let world = World::new();
    let endpoints = "10.0.0.1,fd00::1=db-0 10.0.0.2 !10.0.0.3=db-2";
    world.hear(2000, [service("db", Role::Headless), slice("db", endpoints)]);
    let ok = |name: &str, sought, said| {
        assert_eq!(world.verdict(9000, name, sought, said), Some(Verdict::Ok), "{name}");
    };
    ok("db.shop.svc.d", A, addresses("10.0.0.1,10.0.0.2"));
    ok("db.shop.svc.d", AAAA, addresses("fd00::1"));
    ok("db.shop.svc.d", BOTH, addresses("10.0.0.1,10.0.0.2,fd00::1"));
    ok("db-0.db.shop.svc.d", A, addresses("10.0.0.1"));
    ok("10-0-0-2.db.shop.svc.d", A, addresses("10.0.0.2"));
    ok("10-0-0-2.db.shop.svc.d", AAAA, Said::NoData);
    ok("10-0-0-1.db.shop.svc.d", A, Said::NxDomain);
    ok("db-2.db.shop.svc.d", A, Said::NxDomain);
    let targets = "db-0.db.shop.svc.d,10-0-0-2.db.shop.svc.d";
    ok("_http._tcp.db.shop.svc.d", Sought::Srv, names(targets));
    ok("db.shop.svc.d", Sought::Srv, names(targets));
    ok("_http._udp.db.shop.svc.d", Sought::Srv, Said::NxDomain);
    ok("1.0.0.10.in-addr.arpa", Sought::Ptr, names("db-0.db.shop.svc.d"));
    ok("3.0.0.10.in-addr.arpa", Sought::Ptr, Said::NxDomain);
    world.hear(9000, [slice("db", "!10.0.0.1,fd00::1=db-0")]);
    let later = |sought, said| world.verdict(12_000, "db.shop.svc.d", sought, said);
    assert_eq!(later(A, Said::NxDomain), Some(Verdict::Ok), "no endpoint is ready");
    assert_eq!(later(A, addresses("10.0.0.1,10.0.0.2")), Some(Verdict::Stale));
    let ptr = |said| world.verdict(12_000, "2.0.0.10.in-addr.arpa", Sought::Ptr, said);
    assert_eq!(ptr(names("10-0-0-2.db.shop.svc.d")), Some(Verdict::Stale));
    assert_eq!(ptr(names("host.example.org")), None, "somebody else has the address");
    assert_eq!(ptr(Said::NxDomain), Some(Verdict::Ok));
}

#[test]
fn a_service_with_an_address_has_ports_and_a_name_by_address() {
    let world = World::new();
    world.hear(2000, [cluster_ip("web", "10.96.0.1,fd00::1"), slice("web", "10.0.0.1")]);
    let verdict = |name: &str, sought, said| world.verdict(9000, name, sought, said);
    let ok = Some(Verdict::Ok);
    assert_eq!(verdict("_http._tcp.web.shop.svc.d", Sought::Srv, names(WEB)), ok);
    assert_eq!(verdict(WEB, Sought::Srv, names(WEB)), ok);
    assert_eq!(verdict("1.0.96.10.in-addr.arpa", Sought::Ptr, names(WEB)), ok);
    assert_eq!(
        verdict("1.0.96.10.in-addr.arpa", Sought::Ptr, Said::NxDomain),
        Some(Verdict::WrongNegative)
    );
    assert_eq!(verdict("10-0-0-1.web.shop.svc.d", A, addresses("10.0.0.1")), ok);
    let addresses: Vec<String> = world.truth.addresses().iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.0.0.1", "10.96.0.1", "fd00::1"]);
}

#[test]
fn both_families_of_an_application_may_be_of_two_instants() {
    let world = World::new();
    world.hear(2000, [cluster_ip("web", "10.96.0.1,fd00::1")]);
    world.hear(5000, [cluster_ip("web", "10.96.0.2,fd00::2")]);
    let verdict = |ms, said| world.verdict(ms, WEB, BOTH, said);
    assert_eq!(verdict(5500, addresses("10.96.0.1,fd00::2")), Some(Verdict::Ok));
    assert_eq!(verdict(9000, addresses("10.96.0.1,fd00::2")), Some(Verdict::Stale));
    assert_eq!(verdict(9000, addresses("10.96.0.2")), Some(Verdict::Ok), "one family suffices");
    assert_eq!(verdict(9000, addresses("10.96.0.3")), Some(Verdict::WrongPositive));
    assert_eq!(verdict(9000, cut("10.96.0.2")), Some(Verdict::Ok));
    let none = Said::Addresses { set: BTreeSet::new(), is_cut: false };
    assert_eq!(verdict(9000, none), Some(Verdict::WrongNegative), "no address is a denial");
}

#[test]
fn any_part_of_a_cut_answer_is_right() {
    let world = World::new();
    world.hear(2000, [cluster_ip("web", "10.96.0.1,10.96.0.2,10.96.0.3")]);
    let verdict = |said| world.verdict(9000, WEB, A, said);
    assert_eq!(verdict(cut("10.96.0.1,10.96.0.3")), Some(Verdict::Ok));
    assert_eq!(verdict(cut("10.96.0.1,10.96.0.4")), Some(Verdict::WrongPositive));
    assert_eq!(verdict(addresses("10.96.0.1")), Some(Verdict::WrongPositive), "not cut");
    let empty = Said::Addresses { set: BTreeSet::new(), is_cut: true };
    assert_eq!(verdict(empty.clone()), Some(Verdict::Ok), "it asks for TCP");
    assert_eq!(world.verdict(9000, "no.shop.svc.d", A, empty), Some(Verdict::WrongPositive));
}

#[test]
fn the_first_answer_that_shows_a_change_tells_how_fresh_it_is() {
    let world = World::new();
    world.hear(2000, [cluster_ip("web", "10.96.0.1")]);
    world.hear(3000, [slice("web", "10.0.0.1")]);
    let fresh = |ms, address| world.fresh(ms, WEB, A, addresses(address));
    assert_eq!(fresh(3500, "10.96.0.1"), Some(1500), "what the slice says is another name's");
    assert_eq!(fresh(3600, "10.96.0.1"), None);
    world.hear(4000, [cluster_ip("web", "10.96.0.2")]);
    assert_eq!(fresh(4100, "10.96.0.1"), None, "what was before");
    assert_eq!(fresh(4300, "10.96.0.2"), Some(300));
    assert_eq!(fresh(4400, "10.96.0.2"), None);
    world.hear(5000, [delete(Kind::Service, "web")]);
    assert_eq!(world.fresh(5020, WEB, A, Said::NxDomain), Some(20));
    assert_eq!(world.fresh(5030, WEB, AAAA, Said::NxDomain), Some(30), "another question");
}

#[test]
fn nothing_is_judged_that_nobody_can_know() {
    let truth = Truth::told(name("d"), BOUND, EARLY);
    let now = Instant::now();
    assert_eq!(truth.judge(&name(WEB), A, &Said::NxDomain, now, now), None);
    assert_eq!(truth.skips().unknown, 1);
    assert!(!truth.is_known());
    let world = World::new();
    assert!(world.truth.is_known());
    world.hear(500, [service("ext", Role::ExternalName("example.org".into()))]);
    world.hear(500, [cluster_ip("web", "10.96.0.1")]);
    assert_eq!(world.verdict(600, WEB, A, addresses("10.96.0.7")), None, "before it was known?");
    assert_eq!(world.verdict(600, WEB, A, addresses("10.96.0.1")), Some(Verdict::Ok));
    assert_eq!(world.truth.skips().forgotten, 1);
    for said in [Said::NxDomain, Said::NoAddress, addresses("192.0.2.1")] {
        assert_eq!(world.verdict(9000, "ext.shop.svc.d", A, said.clone()), None, "{said:?}");
        assert_eq!(world.verdict(9000, "10-0-0-1.shop.pod.d", A, said.clone()), None);
        assert_eq!(world.verdict(9000, "_http._tcp.web.shop.svc.d", A, said.clone()), None);
        assert_eq!(world.verdict(9000, "example.org", A, said), None);
    }
    assert!(world.truth.skips().uncovered > 0);
}

#[test]
fn names_that_only_have_others_below_them_have_no_records() {
    let world = World::new();
    for name in ["d", "svc.d", "shop.svc.d"] {
        assert_eq!(world.verdict(9000, name, A, Said::NoData), Some(Verdict::Ok), "{name}");
        let denied = world.verdict(9000, name, A, Said::NxDomain);
        assert_eq!(denied, Some(Verdict::WrongNegative), "{name}");
    }
    for name in ["web.d", "web.shop.d", "other.svc.d", "a.b.c.d.shop.svc.d"] {
        assert_eq!(world.verdict(9000, name, A, Said::NxDomain), Some(Verdict::Ok), "{name}");
    }
}

#[test]
fn without_a_watch_only_what_was_there_is_judged() {
    let world = World::new();
    world.hear(2000, [cluster_ip("web", "10.96.0.1")]);
    world.truth.tend(false, world.at(5000));
    assert_eq!(world.verdict(5100, WEB, A, addresses("10.96.0.2")), None);
    assert_eq!(world.verdict(5100, WEB, A, Said::NxDomain), Some(Verdict::WrongNegative));
    assert_eq!(world.truth.skips().blind, 1);
    let later = world.verdict(6100, WEB, A, addresses("10.96.0.2"));
    assert_eq!(later, Some(Verdict::WrongPositive));
    world.hear(9000, [Change::ListBegin(Kind::Service)]);
    assert_eq!(world.verdict(19_000, WEB, A, addresses("10.96.0.2")), None, "a list is under way");
}

#[test]
fn what_applications_and_packets_seek() {
    assert_eq!(Sought::by_packet(RecordType::AAAA), AAAA);
    assert_eq!(Sought::by_application(RecordType::A), BOTH);
    assert_eq!(Sought::by_application(RecordType::SRV), Sought::Srv);
    assert_eq!(Sought::by_packet(RecordType::TXT), Sought::Other);
}

fn case(world: &World, ms: u64, said: Said) -> Case {
    let (asked, answered) = (world.at(ms), world.at(ms));
    Case { name: name(WEB), sought: A, said, asked, answered }
}

#[test]
fn a_retrial_keeps_what_seems_wrong_until_it_is_sure() {
    let world = World::new();
    world.hear(2000, [cluster_ip("web", "10.96.0.1")]);
    let mut retrial = Retrial::default();
    let ok = retrial.judge(&world.truth, case(&world, 5000, addresses("10.96.0.1")), 1);
    assert_eq!(ok.map(|(carried, it)| (carried, it.unwrap().verdict)), Some((1, Verdict::Ok)));
    for (ms, address) in [(5000, "10.96.0.2"), (5001, "10.96.0.3")] {
        let case = case(&world, ms, addresses(address));
        assert_eq!(retrial.judge(&world.truth, case, ms), None);
    }
    world.hear(5100, [cluster_ip("web", "10.96.0.2")]);
    assert_eq!(retrial.next_due(&world.truth), Some(world.at(5250)));
    assert_eq!(retrial.due(&world.truth, world.at(5249)), None);
    let mut due =
        || retrial.due(&world.truth, world.at(5251)).map(|(n, it)| (n, it.unwrap().verdict));
    assert_eq!(due(), Some((5000, Verdict::Ok)));
    assert_eq!(due(), Some((5001, Verdict::WrongPositive)));
    assert_eq!(due(), None);
    assert!(retrial.is_empty());
}

#[test]
fn a_denial_without_a_watch_waits_for_one() {
    for (is_gone, expected, blind) in [(true, None, 1), (false, Some(Verdict::WrongNegative), 0)] {
        let world = World::new();
        world.hear(2000, [cluster_ip("web", "10.96.0.1")]);
        world.truth.tend(false, world.at(5000));
        let mut retrial = Retrial::default();
        assert_eq!(retrial.judge(&world.truth, case(&world, 5100, Said::NxDomain), ()), None);
        world.truth.tend(false, world.at(8900));
        assert_eq!(retrial.due(&world.truth, world.at(8950)), None);
        world.hear(9000, [Change::ListBegin(Kind::Service)]);
        if !is_gone {
            world.hear(9000, [Change::Keep(Kind::Service, key("web"))]);
        }
        world.hear(9000, [Change::ListEnd(Kind::Service)]);
        world.truth.tend(true, world.at(9050));
        if !is_gone {
            assert_eq!(retrial.due(&world.truth, world.at(9249)), None, "we may be behind");
        }
        let judged = retrial.due(&world.truth, world.at(9250));
        assert_eq!(judged.map(|((), it)| it.map(|it| it.verdict)), Some(expected));
        assert_eq!(world.truth.skips().blind, blind);
    }
}

#[test]
fn a_denial_whose_watch_never_comes_is_not_judged() {
    let world = World::new();
    world.hear(2000, [cluster_ip("web", "10.96.0.1")]);
    let mut retrial = Retrial::default();
    world.truth.tend(false, world.at(5000));
    assert_eq!(retrial.judge(&world.truth, case(&world, 5100, Said::NxDomain), ()), None);
    let given_up = world.at(5100) + BLIND_MAX;
    world.truth.tend(false, given_up);
    assert_eq!(retrial.due(&world.truth, given_up - EARLY), None);
    assert_eq!(retrial.due(&world.truth, given_up), Some(((), None)));
    assert_eq!((retrial.len(), world.truth.skips().blind), (0, 1));
}

#[test]
fn only_addresses_that_the_cluster_gave_are_its_own() {
    let world = World::new();
    world.hear(2000, [cluster_ip("web", "10.96.0.1"), slice("web", "10.0.0.1 !10.0.0.2")]);
    let foreign = Service {
        key: key("ext"),
        role: Role::ClusterIp(list("10.96.0.9").collect()),
        ports: Vec::new(),
        has_selector: false,
        externals: Box::default(),
    };
    let orphan = slice("orphan", "10.7.7.7");
    world.hear(2000, [Change::Apply(Object::Service(foreign)), slice("ext", "8.8.8.8"), orphan]);
    let own: Vec<String> = world.truth.addresses().iter().map(ToString::to_string).collect();
    assert_eq!(own, ["10.0.0.1", "10.0.0.2", "10.96.0.1", "10.96.0.9"]);
}

#[test]
fn what_finds_no_room_to_wait_is_judged_at_once_and_counted() {
    let world = World::new();
    world.hear(2000, [cluster_ip("web", "10.96.0.1")]);
    let mut retrial = Retrial::with_room(1);
    let wrong = || case(&world, 5000, addresses("10.96.0.2"));
    assert_eq!(retrial.judge(&world.truth, wrong(), 1), None);
    let judged = retrial.judge(&world.truth, wrong(), 2).map(|(n, it)| (n, it.unwrap().verdict));
    assert_eq!(judged, Some((2, Verdict::WrongPositive)));
    assert_eq!(world.truth.skips(), Skips { overflowed: 1, ..Skips::default() });
}

#[tokio::test(start_paused = true)]
async fn who_can_wait_gets_the_final_judgement() {
    let world = World::new();
    world.hear(2000, [cluster_ip("web", "10.96.0.1")]);
    let case = case(&world, 5000, addresses("10.96.0.2"));
    let (judgement, ()) = tokio::join!(world.truth.judge_later(&case), async {
        sleep_until(world.at(5100)).await;
        world.hear(5100, [cluster_ip("web", "10.96.0.2")]);
    });
    assert_eq!(judgement.map(|it| it.verdict), Some(Verdict::Ok));
    assert_eq!(Instant::now(), world.at(5250));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_cluster_that_does_not_come_is_told_what_to_do() {
    let truth = Truth::told(name("d"), BOUND, EARLY);
    let error = truth.known(Duration::from_secs(3)).await.unwrap_err().to_string();
    assert!(error.contains("did not come within 3 s; check that its API server"), "{error}");
    let known = World::new().truth.known(Duration::ZERO).await;
    assert!(known.is_ok());
}

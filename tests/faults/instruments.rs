//! What the other tests rely on: the scripted API server and the evil upstream do what they say.

use std::io::Read;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use mainstay::load::truth::Verdict;

use crate::api::Ask;
use crate::asker::{ask, eventually, until};
use crate::evil::{Evil, Over, Way};
use crate::fake_cluster::objects::service;
use crate::fake_cluster::{FakeCluster, Fault, Lies};
use crate::oracle::Oracle;
use crate::query;
use crate::stand::Stand;

/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(30);
/// After so long nothing more comes.
const SILENCE: Duration = Duration::from_millis(500);

/// A cluster with one Service, and a server of it.
fn cluster() -> FakeCluster {
    let cluster = FakeCluster::start();
    cluster.apply(service("shop", "web", &["10.96.0.1"]));
    cluster
}

/// What the scripted API server sends until it says nothing for a while, or ends it. Before all is
/// there that `is_whole` wants, no silence is long enough.
fn get(cluster: &FakeCluster, path: &str, is_whole: impl Fn(&str) -> bool) -> String {
    let mut stream = TcpStream::connect(cluster.address()).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: api\r\nconnection: close\r\n\r\n");
    std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
    let (mut octets, mut room) = (Vec::new(), [0; 4096]);
    loop {
        let longest = if is_whole(&String::from_utf8_lossy(&octets)) { SILENCE } else { PATIENCE };
        stream.set_read_timeout(Some(longest)).unwrap();
        match stream.read(&mut room) {
            Ok(length) if length > 0 => octets.extend(&room[..length]),
            _ => return String::from_utf8(octets).unwrap(),
        }
    }
}

/// The same where `wanted` is the last that is to come.
fn get_until(cluster: &FakeCluster, path: &str, wanted: &str) -> String {
    get(cluster, path, |text| text.contains(wanted))
}

/// All of an answer that has an end.
fn get_all(cluster: &FakeCluster, path: &str) -> String {
    get(cluster, path, |_| false)
}

#[test]
fn the_api_server_lists_streams_and_resumes() {
    let cluster = cluster();
    let first = cluster.version();
    let page = get_all(&cluster, "/api/v1/namespaces?limit=2");
    assert!(page.contains(r#""remainingItemCount":1"#) && page.contains("kube-system"), "{page}");
    let page = get_all(&cluster, "/api/v1/namespaces?limit=2&continue=1");
    assert!(page.contains(r#""name":"shop""#) && !page.contains("kube-system"), "{page}");
    let page = get_all(&cluster, "/api/v1/namespaces/kube-system");
    assert!(page.contains(r#""uid":"00000000"#), "{page}");
    let path = "/api/v1/services?watch=true&sendInitialEvents=true";
    let stream = get_until(&cluster, path, "initial-events-end");
    assert!(stream.contains("ADDED") && stream.contains("initial-events-end"), "{stream}");
    cluster.apply(service("shop", "web", &["10.96.0.2"]));
    let path = format!("/api/v1/services?watch=true&resourceVersion={first}");
    let stream = get_until(&cluster, &path, "10.96.0.2");
    assert!(stream.contains("MODIFIED") && stream.contains("10.96.0.2"), "{stream}");
    assert!(!stream.contains("ADDED"), "{stream}");
    cluster.compact();
    let stream = get_until(&cluster, &path, r#""code":410"#);
    assert!(stream.contains(r#""code":410"#), "{stream}");
    cluster.fail("services", Fault::Refuse(429, 7));
    let refusal = get_all(&cluster, &path);
    assert!(refusal.starts_with("HTTP/1.1 429") && refusal.contains("retry-after: 7"), "{refusal}");
    cluster.heal();
    cluster.freeze();
    assert_eq!(get(&cluster, &path, |_| true), "");
    assert_eq!(cluster.count(Ask::Watch, "services"), 4);
}

#[test]
fn the_api_server_lies_about_events_when_it_is_told_to() {
    let cluster = cluster();
    let from = cluster.version();
    let names = |stream: &str| {
        let lines = stream.lines().filter(|line| line.contains(r#""type""#));
        let names = lines.filter_map(|line| line.split(r#""name":"n"#).nth(1)?.chars().next());
        names.collect::<String>()
    };
    let tells = |expected: &str| {
        let path = format!("/api/v1/services?watch=true&resourceVersion={from}");
        let is_whole = |text: &str| names(text).len() >= expected.len();
        assert_eq!(names(&get(&cluster, &path, is_whole)), expected);
    };
    cluster.lie("services", Lies { omit: 1, ..Lies::default() });
    (1..=2).for_each(|n| cluster.apply(service("shop", &format!("n{n}"), &["10.96.0.1"])));
    tells("2");
    cluster.lie("services", Lies { repeat: 1, ..Lies::default() });
    cluster.apply(service("shop", "n3", &["10.96.0.3"]));
    tells("233");
    cluster.lie("services", Lies { swap: 1, ..Lies::default() });
    (4..=5).for_each(|n| cluster.apply(service("shop", &format!("n{n}"), &["10.96.0.1"])));
    tells("23354");
    let old = cluster.photograph();
    cluster.apply(service("shop", "n6", &["10.96.0.6"]));
    cluster.list_old(&old);
    assert!(!get_all(&cluster, "/api/v1/services").contains(r#""n6""#));
    cluster.heal();
    assert!(get_all(&cluster, "/api/v1/services").contains(r#""n6""#));
}

#[test]
fn the_api_server_can_go_and_come_back() {
    let cluster = cluster();
    let server = Stand::of(&cluster).start_ready("comes-back");
    let port = server.ports.dns;
    until(port, "web.shop.svc A", "NOERROR 10.96.0.1");
    cluster.stop();
    assert!(TcpStream::connect(cluster.address()).is_err());
    cluster.apply(service("shop", "web", &["10.96.0.2"]));
    assert_eq!(ask(port, "web.shop.svc A"), "NOERROR 10.96.0.1");
    cluster.resume();
    until(port, "web.shop.svc A", "NOERROR 10.96.0.2");
    cluster.cut();
    cluster.apply(service("shop", "web", &["10.96.0.3"]));
    until(port, "web.shop.svc A", "NOERROR 10.96.0.3");
}

#[test]
fn the_upstream_does_what_it_is_told() {
    let cluster = cluster();
    let upstream = Evil::start(Ipv4Addr::new(192, 0, 2, 1), Way::Good);
    let server = Stand::of(&cluster).upstream(&upstream).start_ready("evil");
    let direct = upstream.address().port();
    let code = |way| {
        upstream.set(way);
        query::udp_within(direct, "a.example. A", Duration::from_secs(2))
            .map(|reply| query::code(&reply))
    };
    assert_eq!(code(Way::Good).as_deref(), Some("NOERROR"));
    assert_eq!(code(Way::Code(2)).as_deref(), Some("SERVFAIL"));
    assert_eq!(code(Way::NxDomainBare).as_deref(), Some("NXDOMAIN"));
    upstream.set(Way::Cut);
    assert!(query::udp(direct, "a.example. A").unwrap().metadata.truncation);
    assert_eq!(query::values(&query::tcp(direct, "a.example. A").unwrap()), ["192.0.2.1"]);
    upstream.set(Way::NxDomain(7));
    assert_eq!(query::ttl(&query::udp(direct, "a.example. A").unwrap()), Some(7));
    assert_eq!(upstream.asked_over("a.example.", Over::Tcp), 1);
    assert!(upstream.asked_over("a.example.", Over::Udp) >= 5);
    upstream.close();
    assert_eq!(ask(direct, "a.example. A"), "lost");
    upstream.open();
    upstream.set_for("b.example.", Way::Code(5));
    upstream.set(Way::Slow(Duration::from_millis(1)));
    assert_eq!(ask(direct, "b.example. A"), "REFUSED");
    assert_eq!(ask(direct, "c.example. A"), "NOERROR 192.0.2.1");
    for way in [Way::WrongIdFirst, Way::GarbageFirst] {
        upstream.set(way);
        upstream.forget();
        let name = format!("{way:?}.example.");
        eventually(|| match ask(server.ports.dns, &format!("{name} A")).as_str() {
            "NOERROR 192.0.2.1" => Ok(()),
            other => Err(other.to_owned()),
        });
        assert!(upstream.asked(&name) >= 1);
    }
}

#[test]
fn the_oracle_sees_what_is_untrue() {
    let cluster = cluster();
    let oracle = Arc::new(Oracle::of(&cluster, Duration::ZERO));
    let server = Stand::of(&cluster).start_ready("oracle");
    let port = server.ports.dns;
    let questions = ["web.shop.svc A", "new.shop.svc A", "web.shop.svc SRV", "web.shop.svc AAAA"];
    let watching = oracle.watch(port, questions.map(str::to_owned).to_vec());
    until(port, "web.shop.svc A", "NOERROR 10.96.0.1");
    watching.stop().all_true();
    // The server is not told of either.
    cluster.lie("services", Lies { omit: 2, ..Lies::default() });
    cluster.apply(service("shop", "new", &["10.96.0.9"]));
    cluster.delete("services", "shop", "web");
    std::thread::sleep(Duration::from_secs(1));
    let verdict = |question| oracle.ask(port, question).0;
    assert_eq!(verdict("new.shop.svc A"), Some(Verdict::WrongNegative));
    assert_eq!(verdict("web.shop.svc A"), Some(Verdict::Stale));
    assert_eq!(verdict("none.shop.svc A"), Some(Verdict::Ok));
}

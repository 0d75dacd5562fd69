//! A12 to A17: what the cluster does itself, however fast and in whatever order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::asker::{Steady, ask, until};
use crate::fake_cluster::FakeCluster;
use crate::fake_cluster::objects::{endpoint, headless, ready, service, slice};
use crate::oracle::Oracle;
use crate::query;
use crate::stand::Stand;

/// Services of the Namespace that is deleted.
const DOOMED: usize = 1000;
/// How old an answer may be. It is no time that is measured: only what hangs is so old.
const STALENESS: Duration = Duration::from_secs(20);
/// Headless Services that change all the time, and how often each does in a round.
const CHURNED: usize = 20;
const CHANGES: usize = 120;
/// Endpoints of the largest Service, in slices of so many.
const XL: usize = 5000;
const XL_SLICE: usize = 100;
/// Octets that may be left over: an A record whose owner is a pointer takes 16.
const SPARE: usize = 32;

/// The address with a number.
fn address(number: usize) -> String {
    format!("10.{}.{}.{}", 1 + number / 62_500, number / 250 % 250, 1 + number % 250)
}

#[test]
fn a12_a_deleted_namespace_is_gone_and_no_other() {
    let cluster = FakeCluster::start();
    let name = |number: usize| format!("s{number}");
    cluster.apply(service("shop", "web", &["10.96.0.1"]));
    cluster.apply_all((0..DOOMED).map(|n| service("doomed", &name(n), &[&address(n)])));
    let oracle = Arc::new(Oracle::of(&cluster, STALENESS));
    let server = Stand::of(&cluster).start_ready("a12");
    let port = server.ports.dns;
    until(port, "s999.doomed.svc A", &format!("NOERROR {}", address(999)));
    let steady = Steady::start(port, "web.shop.svc A", "NOERROR 10.96.0.1");
    let asked = ["s0.doomed.svc A", "s999.doomed.svc SRV", "web.shop.svc A", "doomed.svc A"];
    let watching = oracle.watch(port, asked.map(str::to_owned).to_vec());
    cluster.delete_namespace("doomed");
    until(port, "doomed.svc A", "NXDOMAIN");
    // The kinds have watches of their own, so the last Service may be heard of a little later.
    for number in 0..DOOMED {
        until(port, &format!("s{number}.doomed.svc A"), "NXDOMAIN");
    }
    assert_eq!(ask(port, "1.0.1.10.in-addr.arpa. PTR"), "SERVFAIL", "no PTR is left");
    watching.stop().all_true();
    steady.all_right();
}

/// One round of churn: each Service gets other endpoints, again and again.
fn churn(cluster: &FakeCluster, round: usize) {
    for change in 0..CHANGES {
        for of in 0..CHURNED {
            let number = (round * CHANGES + change) * CHURNED + of;
            let endpoints = [ready(&address(number)), ready(&address(number + 1))];
            let name = format!("db{of}");
            cluster.apply(slice("churn", &format!("{name}-1"), &name, &endpoints));
        }
    }
}

#[test]
fn a13_churn_makes_no_answer_wrong_and_memory_stays() {
    let cluster = FakeCluster::start();
    cluster.apply(service("shop", "web", &["10.96.0.1"]));
    cluster.apply_all((0..CHURNED).map(|of| headless("churn", &format!("db{of}"))));
    churn(&cluster, 0);
    let oracle = Arc::new(Oracle::of(&cluster, STALENESS));
    let server = Stand::of(&cluster).start_ready("a13");
    let port = server.ports.dns;
    let steady = Steady::start(port, "web.shop.svc A", "NOERROR 10.96.0.1");
    let asked = ["db0.churn.svc A", "db7.churn.svc SRV", "web.shop.svc A", "db99.churn.svc A"];
    let watching = oracle.watch(port, asked.map(str::to_owned).to_vec());
    let settle = |round: usize| {
        for of in 0..CHURNED {
            let last = (round * CHANGES + CHANGES - 1) * CHURNED + of;
            let mut addresses = [address(last), address(last + 1)];
            addresses.sort();
            until(
                port,
                &format!("db{of}.churn.svc A"),
                &format!("NOERROR {}", addresses.join(" ")),
            );
        }
        server.metrics().value("process_resident_memory_bytes", &[])
    };
    churn(&cluster, 1);
    let first = settle(1);
    let last = (2..5).map(|round| {
        churn(&cluster, round);
        settle(round)
    });
    let last = last.last().unwrap();
    // Far more than pages that come and go, far less than what is kept of each change.
    assert!(last < first * 1.25 + f64::from(8 << 20), "{first} octets, then {last}");
    watching.stop().all_true();
    steady.all_right();
}

#[test]
fn a15_a_service_that_is_made_again_has_its_new_address_only() {
    let cluster = FakeCluster::start();
    cluster.apply(service("shop", "web", &["10.96.0.1"]));
    let server = Stand::of(&cluster).start_ready("a15");
    let port = server.ports.dns;
    until(port, "web.shop.svc A", "NOERROR 10.96.0.1");
    for number in 2..12 {
        cluster.delete("services", "shop", "web");
        cluster.apply(service("shop", "web", &[&format!("10.96.0.{number}")]));
        let new = format!("10.96.0.{number}");
        until(port, "web.shop.svc A", &format!("NOERROR {new}"));
        // Nothing that answers, over whatever, has kept what was before.
        for _ in 0..50 {
            let replies = [query::udp(port, "web.shop.svc A"), query::tcp(port, "web.shop.svc A")];
            for reply in replies {
                assert_eq!(query::values(&reply.unwrap()), [&*new]);
            }
        }
        assert_eq!(ask(port, &format!("{number}.0.96.10.in-addr.arpa. PTR")), WEB);
        let old = format!("{}.0.96.10.in-addr.arpa. PTR", number - 1);
        assert_ne!(ask(port, &old), WEB);
    }
}

/// What the address of the Service is.
const WEB: &str = "NOERROR web.shop.svc.cluster.local.";

#[test]
fn a16_a_headless_service_has_those_that_are_ready() {
    let cluster = FakeCluster::start();
    cluster.apply(headless("shop", "db"));
    let server = Stand::of(&cluster).start_ready("a16");
    let port = server.ports.dns;
    let with = |endpoints: &[serde_json::Value]| {
        cluster.apply(slice("shop", "db-1", "db", endpoints));
    };
    // Without any, the name does not exist (Kubernetes DNS specification 1.1.0 §2.4.1).
    until(port, "db.shop.svc A", "NXDOMAIN");
    with(&[ready("10.0.0.1"), endpoint("10.0.0.2", false, false, false)]);
    until(port, "db.shop.svc A", "NOERROR 10.0.0.1");
    // One that ends and still serves is not ready: as CoreDNS, and as the API defines `ready`.
    with(&[ready("10.0.0.3"), endpoint("10.0.0.1", false, true, true)]);
    until(port, "db.shop.svc A", "NOERROR 10.0.0.3");
    with(&[endpoint("10.0.0.1", false, true, true)]);
    until(port, "db.shop.svc A", "NXDOMAIN");
    // With publishNotReadyAddresses the API server calls all of them ready, one that ends too.
    let mut all = headless("shop", "db");
    all["spec"]["publishNotReadyAddresses"] = json!(true);
    cluster.apply(all);
    with(&[endpoint("10.0.0.1", true, false, false), endpoint("10.0.0.2", true, true, true)]);
    until(port, "db.shop.svc A", "NOERROR 10.0.0.1 10.0.0.2");
    // No condition at all counts as ready.
    with(&[json!({"addresses": ["10.0.0.4"]})]);
    until(port, "db.shop.svc A", "NOERROR 10.0.0.4");
}

#[test]
fn a17_of_5000_endpoints_as_many_are_told_as_fit() {
    let cluster = FakeCluster::start();
    cluster.apply(headless("shop", "xl"));
    cluster.apply_all((0..XL / XL_SLICE).map(|part| {
        let of = (0..XL_SLICE).map(|n| ready(&address(part * XL_SLICE + n)));
        slice("shop", &format!("xl-{part}"), "xl", &of.collect::<Vec<_>>())
    }));
    let server = Stand::of(&cluster).start_ready("a17");
    let port = server.ports.dns;
    let all: BTreeSet<String> = (0..XL).map(address).collect();
    for (reply, octets_max) in [
        (query::udp(port, "xl.shop.svc A").unwrap(), 1232),
        (query::tcp(port, "xl.shop.svc A").unwrap(), 65_535),
    ] {
        let told: BTreeSet<String> = query::values(&reply).into_iter().collect();
        assert!(told.is_subset(&all) && told.len() == reply.answers.len(), "no other, none twice");
        let octets = reply.to_vec().unwrap().len();
        assert!(octets <= octets_max, "{octets} of {octets_max}");
        assert!(octets + SPARE > octets_max, "one more would fit: {octets} of {octets_max}");
        assert!(reply.metadata.truncation, "there are more");
    }
    cluster.delete("services", "shop", "xl");
    until(port, "xl.shop.svc A", "NXDOMAIN");
}

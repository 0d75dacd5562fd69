//! A3 to A11, A14: the API server is away, lies or stalls.
//!
//! What takes minutes is in the unit tests of `src/cluster/watch`, on a paused clock: rows A4, A7
//! and A8, and how fast the others are noticed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::api::Ask;
use crate::asker::{Steady, ask, eventually, until};
use crate::fake_cluster::objects::{headless, namespace, ready, service, slice};
use crate::fake_cluster::{FakeCluster, Fault};
use crate::oracle::Oracle;
use crate::query;
use crate::server::Server;
use crate::stand::Stand;

/// How old an answer may be. It is no time that is measured: only what hangs is so old.
const STALENESS: Duration = Duration::from_secs(20);
/// Services of the larger clusters.
const MANY: usize = 2000;
/// How often endpoints move.
const MOVES: u8 = 20;
/// Moves that may be made in all: one that a busy machine made too slowly counts for nothing.
const MOVES_MAX: u8 = 100;
/// The last endpoint is kept for half a second. What is seen to be over sooner never outlasts it.
const MOVE_MAX: Duration = Duration::from_millis(450);
/// Pause between the two halves of a move: the watch tells of each alone.
const HALF: Duration = Duration::from_millis(40);
/// How long the steady answers are watched while nothing can be waited for.
const WHILE: Duration = Duration::from_millis(1500);

/// A cluster with a Service `web` and a headless one `db`, both with one endpoint.
fn cluster() -> FakeCluster {
    let cluster = FakeCluster::start();
    cluster.apply_all([
        service("shop", "web", &["10.96.0.1"]),
        headless("shop", "db"),
        slice("shop", "db-1", "db", &[ready("10.0.0.1")]),
    ]);
    cluster
}

/// Asks for both all the time, and for what there is not.
fn steady(server: &Server) -> [Steady; 3] {
    [
        Steady::start(server.ports.dns, "web.shop.svc A", "NOERROR 10.96.0.1"),
        Steady::start(server.ports.dns, "db.shop.svc A", "NOERROR 10.0.0.1"),
        Steady::start(server.ports.dns, "none.shop.svc A", "NXDOMAIN"),
    ]
}

fn all_right(steady: [Steady; 3]) {
    steady.into_iter().for_each(|steady| drop(steady.all_right()));
}

fn count(server: &Server, name: &str, labels: &[&str]) -> f64 {
    server.metrics().value(name, labels)
}

/// Waits until a counter has come to this.
fn until_counted(server: &Server, name: &str, labels: &[&str], least: f64) {
    eventually(|| match count(server, name, labels) {
        value if value >= least => Ok(()),
        value => Err(format!("{name} {labels:?}: {value}, not {least}")),
    });
}

#[test]
fn a3_answers_stay_while_the_api_server_is_away() {
    let cluster = cluster();
    let server = Stand::of(&cluster).kubernetes("ttl 30").start_ready("a3");
    let asked = steady(&server);
    cluster.stop();
    let unreachable = ["fault=\"unreachable\"", "kind=\"services\""];
    until_counted(&server, "mainstay_cluster_errors_total", &unreachable, 2.0);
    cluster.apply(service("shop", "new", &["10.96.0.2"]));
    sleep(WHILE);
    assert_eq!(ask(server.ports.dns, "new.shop.svc A"), "NXDOMAIN");
    let reply = query::udp(server.ports.dns, "none.shop.svc A").unwrap();
    assert!(query::ttl(&reply).unwrap() <= 5);
    cluster.resume();
    until(server.ports.dns, "new.shop.svc A", "NOERROR 10.96.0.2");
    all_right(asked);
    for resource in ["namespaces", "services", "endpointslices"] {
        assert_eq!(cluster.count(Ask::Stream, resource), 1, "{resource} resumed where it was");
    }
}

#[test]
fn a5_a_list_after_410_empties_nothing_and_takes_away_what_is_gone() {
    let cluster = cluster();
    let name = |number: usize| format!("s{number}");
    let address = |number: usize| format!("10.97.{}.{}", number / 250, 1 + number % 250);
    cluster.apply_all((0..MANY).map(|n| service("many", &name(n), &[&address(n)])));
    let oracle = Arc::new(Oracle::of(&cluster, STALENESS));
    let server = Stand::of(&cluster).start_ready("a5");
    until(server.ports.dns, "s7.many.svc A", &format!("NOERROR {}", address(7)));
    let memory = || count(&server, "process_resident_memory_bytes", &[]);
    let (before, asked) = (memory(), steady(&server));
    let questions = ["s7.many.svc A", "s8.many.svc A", "db.shop.svc SRV", "s9999.many.svc A"];
    let watching = oracle.watch(server.ports.dns, questions.map(str::to_owned).to_vec());
    // Nobody can tell what happens now but a full list.
    cluster.stop();
    cluster.delete("services", "many", "s7");
    cluster.apply(service("many", "new", &["10.97.200.1"]));
    cluster.compact();
    cluster.resume();
    until(server.ports.dns, "s7.many.svc A", "NXDOMAIN");
    until(server.ports.dns, "new.many.svc A", "NOERROR 10.97.200.1");
    watching.stop().all_true();
    all_right(asked);
    let after = memory();
    // Far more than pages that come and go, far less than a second picture.
    assert!(after < before * 1.3 + f64::from(8 << 20), "{before} octets, then {after}");
    let expired = ["fault=\"expired\"", "kind=\"services\""];
    until_counted(&server, "mainstay_cluster_errors_total", &expired, 1.0);
    assert_eq!(count(&server, "mainstay_cluster_repairs_total", &[]), 0.0, "nobody has lied");
}

#[test]
fn a6_a_server_that_is_overloaded_or_slow_takes_nothing_away() {
    let cluster = cluster();
    let server = Stand::of(&cluster).start_ready("a6");
    let asked = steady(&server);
    let cut_off = || {
        cluster.compact();
        cluster.cut();
    };
    let fault = |label: &str, least| {
        let labels = [&*format!("fault=\"{label}\""), "kind=\"services\""];
        until_counted(&server, "mainstay_cluster_errors_total", &labels, least);
    };
    cluster.fail("*", Fault::Refuse(503, 0));
    cut_off();
    fault("server", 2.0);
    cluster.fail("*", Fault::Refuse(429, 1));
    fault("throttled", 1.0);
    // Its lists come slowly, and break.
    cluster.fail("*", Fault::Cut(1));
    fault("cut", 1.0);
    cluster.fail("*", Fault::Drip(Duration::from_millis(50)));
    cluster.apply(service("shop", "new", &["10.96.0.2"]));
    until(server.ports.dns, "new.shop.svc A", "NOERROR 10.96.0.2");
    all_right(asked);
}

#[test]
fn a9_a_list_of_a_replica_that_lags_is_refused() {
    let cluster = cluster();
    let server = Stand::of(&cluster).start_ready("a9");
    let port = server.ports.dns;
    let past = cluster.photograph();
    cluster.apply(slice("shop", "db-1", "db", &[ready("10.0.0.2")]));
    cluster.apply(service("shop", "web", &["10.96.0.9"]));
    cluster.apply(service("shop", "new", &["10.96.0.3"]));
    // So that no other watch stands at the last version.
    cluster.apply(namespace("late"));
    until(port, "late.svc A", "NOERROR");
    until(port, "new.shop.svc A", "NOERROR 10.96.0.3");
    until(port, "db.shop.svc A", "NOERROR 10.0.0.2");
    let asked = [
        Steady::start(port, "web.shop.svc A", "NOERROR 10.96.0.9"),
        Steady::start(port, "db.shop.svc A", "NOERROR 10.0.0.2"),
        Steady::start(port, "new.shop.svc A", "NOERROR 10.96.0.3"),
    ];
    cluster.list_old(&past);
    cluster.compact();
    cluster.cut();
    for kind in ["kind=\"services\"", "kind=\"endpointslices\""] {
        until_counted(&server, "mainstay_cluster_outdated_total", &[kind], 1.0);
    }
    cluster.heal();
    cluster.apply(service("shop", "newer", &["10.96.0.4"]));
    until(port, "newer.shop.svc A", "NOERROR 10.96.0.4");
    all_right(asked);
}

#[test]
fn a10_a_partial_picture_is_no_answer() {
    let cluster = cluster();
    cluster.fail("endpointslices", Fault::Refuse(503, 0));
    let server = Stand::of(&cluster).start("a10");
    let port = server.ports.dns;
    eventually(|| match server.health() {
        200 => Ok(()),
        status => Err(format!("health: {status}")),
    });
    until_counted(&server, "mainstay_cluster_synced", &["kind=\"services\""], 1.0);
    let mut seen = BTreeSet::new();
    for question in ["db.shop.svc A", "db.shop.svc SRV", "web.shop.svc A", "none.shop.svc A"] {
        let reply = query::udp(port, question).unwrap();
        seen.insert((query::code(&reply), query::extended_error(&reply)));
    }
    assert_eq!(seen, BTreeSet::from([("SERVFAIL".to_owned(), Some(14))]));
    assert_eq!(server.ready(), 503);
    cluster.heal();
    until(port, "db.shop.svc A", "NOERROR 10.0.0.1");
    crate::stand::until_ready(&server);
}

#[test]
fn a11_answers_stay_while_rights_are_gone_and_one_line_says_so() {
    let cluster = cluster();
    let server = Stand::of(&cluster).start_ready("a11");
    let asked = steady(&server);
    for (status, label) in [(401, "unauthorized"), (403, "forbidden")] {
        cluster.fail("*", Fault::Refuse(status, 0));
        cluster.compact();
        cluster.cut();
        let labels = [&*format!("fault=\"{label}\""), "kind=\"services\""];
        until_counted(&server, "mainstay_cluster_errors_total", &labels, 2.0);
        let code = format!("({status}");
        let told = server.complaints().into_iter();
        let told = told.filter(|line| line.contains(&code) && line.contains("=services")).count();
        assert_eq!(told, 1, "however often it is refused\n{:#?}", server.complaints());
    }
    cluster.heal();
    cluster.apply(service("shop", "new", &["10.96.0.2"]));
    until(server.ports.dns, "new.shop.svc A", "NOERROR 10.96.0.2");
    all_right(asked);
}

#[test]
fn a14_endpoints_that_move_between_slices_are_never_gone() {
    let cluster = cluster();
    let server = Stand::of(&cluster).start_ready("a14");
    let port = server.ports.dns;
    let others = [
        Steady::start(port, "web.shop.svc A", "NOERROR 10.96.0.1"),
        Steady::start(port, "none.shop.svc A", "NXDOMAIN"),
    ];
    cluster.apply(headless("shop", "mark"));
    let of = |name: &str, addresses: &[&str]| {
        let endpoints: Vec<_> = addresses.iter().map(|address| ready(address)).collect();
        cluster.apply(slice("shop", name, "db", &endpoints));
        sleep(HALF);
    };
    let (mut moved, mut turn) = (0, 0);
    while moved < MOVES {
        assert!(turn < MOVES_MAX, "only {moved} of {turn} moves were quick enough to be judged");
        let (from, to) = if turn % 2 == 0 { ("db-1", "db-2") } else { ("db-2", "db-1") };
        turn += 1;
        let asked = Steady::start(port, "db.shop.svc A", "NOERROR 10.0.0.1");
        let begun = Instant::now();
        if moved % 4 < 2 {
            of(from, &[]);
            of(to, &["10.0.0.1"]);
        } else {
            // For a moment it is in both.
            of(to, &["10.0.0.1"]);
            of(from, &[]);
        }
        // The watch tells of it last: who knows it knows both halves.
        let mark = format!("10.0.1.{turn}");
        cluster.apply(slice("shop", "mark-1", "mark", &[ready(&mark)]));
        until(port, "mark.shop.svc A", &format!("NOERROR {mark}"));
        let took = begun.elapsed();
        let tally = asked.end();
        if took < MOVE_MAX && tally.asked > 0 {
            assert!(tally.wrong.is_empty(), "move {turn}, {took:?}: {tally:?}");
            moved += 1;
        }
    }
    others.into_iter().for_each(|steady| drop(steady.all_right()));
    until_counted(&server, "mainstay_cluster_held_total", &["kind=\"endpointslices\""], 1.0);
    // What stays empty is empty.
    of("db-1", &[]);
    of("db-2", &[]);
    until(server.ports.dns, "db.shop.svc A", "NXDOMAIN");
}

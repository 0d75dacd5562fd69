//! Servers that are bad in every way: each is counted as what it is, and none makes us panic or
//! hang.

use std::collections::HashSet;
use std::time::Duration;

use mainstay::load::report::Report;

use crate::fake::{Fake, address, at_once, closed, code, framed};
use crate::running::{Ended, run_with_names};

/// A short run: 100 lookups.
const SHORT: &str = "--rate 200 --duration 500ms --timeout 200ms --clients 4 --slo failed=0";

/// Asks a server with packets, whose lookups all fail.
fn ask(server: std::net::SocketAddr, more: &str) -> Ended {
    let ended = run_with_names("web.example. A\n", &format!("{server} {SHORT} {more}"));
    assert_eq!(ended.code, Some(1), "the goal is missed: {}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended
}

/// All lookups were to be tried again.
fn check_all_failed(report: &Report) {
    assert_eq!(report.ended, "complete");
    assert_eq!(report.total.lookups, 100);
    assert_eq!(report.total.outcomes.try_again, 100, "{:?}", report.total.outcomes);
    assert_eq!(report.total.recovery.failed, 100);
    assert!(report.total.recovery.stuck_clients > 0);
    assert_eq!(report.total.recovery.stuck_clients, report.total.recovery.clients);
}

#[test]
fn silence_is_lost() {
    let server = Fake::silent();
    let ended = ask(server.address, "");
    let report = ended.report();
    check_all_failed(report);
    assert_eq!((report.packets.sent, report.packets.lost, report.packets.answered), (100, 100, 0));
    server.wait_for(100);
    assert_eq!(server.asked().len(), 100);
    assert!(!report.slo[0].is_met);
}

#[test]
fn garbage_is_garbage() {
    let mut octet = 0_u8;
    let server = Fake::udp(move |_| {
        octet = octet.wrapping_mul(5).wrapping_add(3);
        at_once(vec![octet; usize::from(octet % 12)])
    });
    let ended = ask(server.address, "");
    let report = ended.report();
    check_all_failed(report);
    assert_eq!((report.packets.garbage, report.packets.lost), (100, 100));
}

#[test]
fn another_id_or_another_name_is_no_reply() {
    let other_id = Fake::udp(|question| {
        let mut reply = address(question);
        reply[0] ^= 0xFF;
        at_once(reply)
    });
    let other_name = Fake::udp(|question| {
        let mut reply = address(question);
        reply[13] ^= 1;
        at_once(reply)
    });
    // A name for each lookup: where two lookups wait for one name, the other id of the one may be
    // that of the other, once in a few dozen runs.
    for server in [other_id, other_name] {
        let ended = ask(server.address, "--mix random=100");
        let report = ended.report();
        server.wait_for(100);
        let asked: HashSet<String> = server.asked().into_iter().collect();
        assert_eq!(asked.len(), 100, "each name is asked once");
        check_all_failed(report);
        assert_eq!((report.packets.mismatched, report.packets.lost), (100, 100));
        assert_eq!(report.packets.answered, 0);
    }
}

#[test]
fn a_reply_behind_the_time_out_is_too_late() {
    let server = Fake::udp(|question| vec![(Duration::from_millis(400), address(question))]);
    let ended = ask(server.address, "");
    let report = ended.report();
    check_all_failed(report);
    assert_eq!((report.packets.lost, report.packets.answered), (100, 0));
    // The last ones come when nobody listens any more.
    assert!(report.packets.too_late > 0 && report.packets.too_late <= 100, "{:?}", report.packets);
}

#[test]
fn a_closed_port_is_unreachable() {
    let ended = ask(closed(), "");
    let report = ended.report();
    check_all_failed(report);
    assert!(report.packets.unreachable > 0, "{:?}", report.packets);
}

#[test]
fn refused_connections_are_counted() {
    let ended = ask(closed(), "--transport tcp");
    let report = ended.report();
    check_all_failed(report);
    assert!(report.packets.tcp_failed > 0, "{:?}", report.packets);
    assert_eq!(report.plan.transport, "tcp");
}

#[test]
fn cut_connections_are_counted() {
    for server in [Fake::tcp(|_| None), Fake::tcp(|question| Some(framed(question)[..9].into()))] {
        let ended = ask(server.address, "--transport tcp");
        check_all_failed(ended.report());
    }
    let server = Fake::tcp(|_| None);
    let ended = ask(server.address, "--transport tcp");
    assert!(ended.report().packets.tcp_failed > 0, "{:?}", ended.report().packets);
}

#[test]
fn garbage_over_tcp_is_garbage() {
    let server = Fake::tcp(|_| Some(framed(b"garbage")));
    let ended = ask(server.address, "--transport tcp");
    check_all_failed(ended.report());
    assert!(ended.report().packets.garbage > 0, "{:?}", ended.report().packets);
}

#[test]
fn a_doubled_reply_is_one_reply() {
    let server =
        Fake::udp(|question| [at_once(address(question)), at_once(address(question))].concat());
    let words = format!("{} --rate 200 --duration 500ms --timeout 5s", server.address);
    let ended = run_with_names("web.example. A\n", &words);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report = ended.report();
    assert_eq!((report.total.outcomes.ok, report.packets.answered), (100, 100));
    assert!(report.packets.mismatched <= 100 && report.packets.lost == 0, "{:?}", report.packets);
}

#[test]
fn codes_are_counted_and_mean_what_they_mean() {
    for (number, packets, outcome) in [
        (2, "servfail", "try_again"),
        (5, "refused", "try_again"),
        (1, "other_code", "try_again"),
        (3, "nxdomain", "ok"),
        (0, "noerror", "ok"),
    ] {
        let server = Fake::udp(move |question| at_once(code(question, number)));
        let words = format!("{} --rate 200 --duration 200ms", server.address);
        let ended = run_with_names("web.example. A\n", &words);
        let report = serde_json::to_value(ended.report()).unwrap();
        assert_eq!(report["packets"][packets], 40, "{number}");
        assert_eq!(report["total"]["outcomes"][outcome], 40, "{number}");
    }
}

#[test]
fn resolvers_end_their_lookups_on_every_bad_server() {
    // musl 1.2.3 knows no TCP: what was cut has no addresses, and nobody says that it should.
    let servers = [
        (Fake::silent(), 20),
        (Fake::udp(|_| at_once(b"garbage".to_vec())), 20),
        (Fake::udp(|question| at_once(code(question, 2))), 20),
        (Fake::udp(|question| at_once(cut(question))), 10),
    ];
    for (server, failed) in servers {
        let folder = tempfile::tempdir().unwrap();
        let conf = folder.path().join("resolv.conf");
        std::fs::write(&conf, "options timeout:1 attempts:1\n").unwrap();
        let words = format!(
            "{} --resolver glibc,musl --rate 50 --duration 400ms --timeout 1s --resolv-conf {}",
            server.address,
            conf.display()
        );
        let ended = run_with_names("web.example. A\n", &words);
        let report = ended.report();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(report.total.outcomes.try_again, failed, "{:?}", report.total.outcomes);
        assert_eq!(report.by_resolver.len(), 2);
    }
}

/// A reply with TC and no records.
fn cut(question: &[u8]) -> Vec<u8> {
    let mut reply = code(question, 0);
    reply[2] |= 2;
    reply
}

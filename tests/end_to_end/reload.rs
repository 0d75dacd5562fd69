//! Another Corefile is taken over under load: by signal and by itself.

use std::net::UdpSocket;

use crate::asker::{Steady, ask, eventually, until};
use crate::dig::{self, Over};
use crate::server::Server;
use crate::{World, measured, ports};

const HASH: &str = "coredns_reload_version_info";
const FAILED: &str = "coredns_reload_failed_total";

pub fn loses_nothing(world: &mut World) {
    let live = &world.live;
    let port = live.ports.dns;
    let relists = live.metrics().value("mainstay_cluster_relists_total", &[]);
    let steady = [
        Steady::start(port, "web.shop.svc A", "NOERROR 10.96.100.1"),
        Steady::start(port, "www.example.org. A", "NOERROR 192.0.2.1"),
        Steady::start(
            port,
            "front.staging.svc A",
            "NOERROR 10.96.100.1 web.shop.svc.cluster.local.",
        ),
    ];
    for (from, to) in [("cache 30", "cache 20"), ("cache 20", "cache 25")] {
        let before = reloads(live);
        live.edit(|text| text.replace(&format!("{from} {{"), &format!("{to} {{")));
        live.signal("USR1");
        eventually_reloaded(live, before);
    }
    assert_eq!(live.metrics().value(HASH, &[]), 1.0, "one Corefile is in force");
    by_itself_with_another_port(live);
    another_ttl(live);
    let after = live.metrics().value("mainstay_cluster_relists_total", &[]);
    assert_eq!(after, relists, "the Index was kept");
    let tallies = steady.map(Steady::all_right);
    measured("answers meanwhile", tallies.iter().map(|tally| tally.asked).sum::<usize>());
    measured("slowest of them", tallies.iter().map(|tally| tally.slowest).max());
}

/// A changed `kubernetes` directive shows what is known already in another way.
pub fn another_ttl(live: &Server) {
    let ask = || dig::ask(live.ports.dns, "web.shop.svc A", Over::Udp).answer[0].ttl_s;
    for (from, to) in [(30, 31), (31, 30)] {
        let before = reloads(live);
        live.edit(|text| text.replace(&format!("ttl {from}\n"), &format!("ttl {to}\n")));
        live.signal("USR1");
        eventually_reloaded(live, before);
        // The interval may have taken the edit first; then the signal takes the next one.
        eventually(|| match ask() {
            ttl_s if ttl_s == to => Ok(()),
            ttl_s => Err(format!("TTL {ttl_s}")),
        });
    }
}

/// Adds a server block on another port, and takes it away again.
fn by_itself_with_another_port(live: &Server) {
    let other = ports::free();
    let block = format!("example.net:{other} {{\n    forward . 127.0.0.1:9\n}}\n");
    live.edit(|text| text + &block);
    until(other, "www.example.org. A", "REFUSED");
    live.edit(|text| text.replace(&block, ""));
    eventually(|| match UdpSocket::bind(("127.0.0.1", other)) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the old port is still held: {error}")),
    });
}

pub fn of_a_bad_corefile_changes_nothing(world: &mut World) {
    let live = &mut world.live;
    let port = live.ports.dns;
    let before = live.metrics().value(FAILED, &[]);
    let good = std::fs::read_to_string(live.corefile()).unwrap();
    for (number, bad) in ["", ".:53 {", "nonsense {\n    frobnicate\n}\n"].into_iter().enumerate() {
        let failed = live.metrics().value(FAILED, &[]);
        live.edit(|_| bad.to_owned());
        live.signal("USR1");
        eventually(|| match live.metrics().value(FAILED, &[]) > failed {
            true => Ok(()),
            false => Err(format!("refusal {number}")),
        });
        assert_eq!(ask(port, "web.shop.svc A"), "NOERROR 10.96.100.1");
    }
    a_port_that_is_taken(live, &good);
    let reloaded = reloads(live);
    live.edit(|_| good.replace("cache 25", "cache 30"));
    eventually_reloaded(live, reloaded);
    assert!(live.metrics().value(FAILED, &[]) >= before + 4.0);
    assert!(live.is_alive());
}

/// It reads well, but its socket cannot be had.
fn a_port_that_is_taken(live: &Server, good: &str) {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let other = taken.local_addr().unwrap().port();
    let failed = live.metrics().value(FAILED, &[]);
    live.edit(|_| format!("{good}example.net:{other} {{\n    forward . 127.0.0.1:9\n}}\n"));
    live.signal("USR1");
    eventually(|| match live.metrics().value(FAILED, &[]) > failed {
        true => Ok(()),
        false => Err("the refusal of a port".to_owned()),
    });
    assert!(live.log().iter().any(|line| line.contains("is in use")));
    assert_eq!(ask(live.ports.dns, "web.shop.svc A"), "NOERROR 10.96.100.1");
}

fn reloads(live: &Server) -> usize {
    live.log().iter().filter(|line| line.contains("Reloading complete")).count()
}

fn eventually_reloaded(live: &Server, before: usize) {
    eventually(|| match reloads(live) > before {
        true => Ok(()),
        false => Err("no reload".to_owned()),
    });
}

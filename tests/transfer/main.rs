//! The real `mainstay` as the primary of a real Knot DNS and a real NSD: they load the zone, follow
//! what changes, and have the very records that we have. `dig` asks for what they would.
//!
//! What of these programs is missing makes its test SKIPPED, but not in CI.
#![allow(dead_code, reason = "some of what is shared is for others")]

#[path = "../support/asker.rs"]
mod asker;
#[path = "../support/dig.rs"]
mod dig;
#[path = "../support/ports.rs"]
mod ports;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/skip.rs"]
mod skip;

mod cluster;
mod notify;
mod requests;
mod secondary;
mod transferred;

use asker::eventually;
use cluster::Cluster;
use secondary::{Secondary, is_here};
use server::{Ports, Server};
use skip::skip;
use transferred::{Transferred, transfer, transfer_from};

/// The zones that are transferred.
pub const ZONES: [&str; 2] = ["cluster.local.", "10.in-addr.arpa."];
/// Services that do not change: enough for many messages.
const STEADY: usize = 1500;

/// Whether a test must be left out, which is told.
fn skips(programs: &[&str]) -> bool {
    let missing: Vec<&&str> = programs.iter().filter(|program| !is_here(program)).collect();
    if missing.is_empty() {
        return false;
    }
    skip(&format!("{missing:?} not found; install bind9-dnsutils, knot and nsd"));
    true
}

/// A server that shows `cluster` and lets these addresses have it.
fn primary(cluster: &Cluster, to: &str) -> Server {
    primary_with(cluster, &format!("transfer {{\n        to {to}\n    }}"))
}

/// A server that shows `cluster`, with these `transfer` directives.
fn primary_with(cluster: &Cluster, directives: &str) -> Server {
    let ports = Ports::free();
    let Ports { dns, ready, metrics, .. } = ports;
    let corefile = format!(
        ".:{dns} {{
    errors
    ready 127.0.0.1:{ready}
    prometheus 127.0.0.1:{metrics}
    kubernetes {} {{
        manifests {}
        ttl 7
    }}
    {directives}
}}
",
        ZONES.join(" "),
        cluster.path().display()
    );
    let server = Server::start("mainstay", ports, &corefile);
    // A secondary that comes before the cluster is known is sent away, and complains of that.
    eventually(|| match asker::ask(dns, "web.shop.svc A") {
        answer if answer == "NOERROR 10.96.1.1" => Ok(()),
        answer => Err(format!("{answer}: {:?}", server.log())),
    });
    server
}

/// Waits until a secondary has every record of every zone that the primary has.
fn follows(secondary: &Secondary, primary: &Server) {
    for zone in ZONES {
        eventually(|| {
            let ours = transfer(primary.ports.dns, zone, "AXFR");
            let theirs = transfer(secondary.port, zone, "AXFR");
            match ours.sorted() == theirs.sorted() {
                true => Ok(()),
                false => Err(format!(
                    "{zone}: serial {:?} with {} records, and {:?} with {}",
                    ours.serial(),
                    ours.records.len(),
                    theirs.serial(),
                    theirs.records.len()
                )),
            }
        });
    }
}

/// Changes the cluster, and waits until the primary knows.
fn change(cluster: &Cluster, primary: &Server, change: &str) {
    let before = transfer(primary.ports.dns, ZONES[0], "AXFR");
    cluster.write(change);
    eventually(|| match transfer(primary.ports.dns, ZONES[0], "AXFR").sorted() {
        same if same == before.sorted() => Err("the primary has not changed yet".to_owned()),
        _ => Ok(()),
    });
}

/// Starts a secondary, and shows that it loads the zones and follows changes of Services by
/// differences.
fn loads_and_follows(start: fn(u16, u16) -> Secondary) {
    let cluster = Cluster::new(STEADY);
    let port = ports::free();
    let primary = primary(&cluster, &format!("127.0.0.1:{port}"));
    let secondary = start(port, primary.ports.dns);
    follows(&secondary, &primary);
    for next in cluster::CHANGES {
        change(&cluster, &primary, next);
        follows(&secondary, &primary);
    }
    let metrics = primary.metrics();
    let count = |name: &str, label: &str| metrics.value(name, &[label]);
    let (sent, whole) = ("mainstay_transfers_total", "kind=\"ixfr_whole\"");
    assert!(count(sent, "kind=\"ixfr\"") >= cluster::CHANGES.len() as f64, "by differences");
    assert_eq!(count(sent, whole), 0.0, "we knew what it had each time");
    assert_eq!(count("mainstay_transfers_cut_total", ""), 0.0);
    assert!(
        count("mainstay_notifies_total", "") >= cluster::CHANGES.len() as f64,
        "told each time"
    );
    assert_eq!(primary.complaints(), [""; 0]);
    secondary.check(&primary);
}

#[test]
fn knot_loads_the_zones_and_follows_by_differences() {
    if !skips(&["dig", "knotd"]) {
        loads_and_follows(Secondary::knot);
    }
}

#[test]
fn nsd_loads_the_zones_and_follows_by_differences() {
    if !skips(&["dig", "nsd"]) {
        loads_and_follows(Secondary::nsd);
    }
}

#[test]
fn dig_gets_what_it_may_and_nothing_else() {
    if skips(&["dig"]) {
        return;
    }
    let cluster = Cluster::new(3);
    let primary = primary(&cluster, "127.0.0.1:9");
    let port = primary.ports.dns;
    let (first, serial) = at_rest(port);
    assert_eq!(first.records.first(), first.records.last(), "between two SOA");
    assert!(first.has("web.shop.svc.cluster.local. 7 IN A 10.96.1.1"), "{first:?}");
    assert!(first.has("dns-version.cluster.local. 28800 IN TXT \"1.1.0\""), "{first:?}");
    let reverse = transfer(port, ZONES[1], "AXFR");
    assert!(
        reverse.has("1.1.96.10.in-addr.arpa. 7 IN PTR web.shop.svc.cluster.local."),
        "{reverse:?}"
    );
    // Nothing is newer, and over UDP there is only the SOA.
    for (asked, over) in [(serial, "+tcp"), (serial.wrapping_add(9), "+tcp"), (1, "+notcp")] {
        let same =
            transfer_from(port, ZONES[0], &format!("IXFR={asked}"), &[over, "+noall", "+answer"]);
        assert_eq!(same.serials(), [serial], "{asked} {over}: {same:?}");
        assert_eq!(same.records.len(), 1, "{same:?}");
    }
    // A version that nobody has.
    let whole = transfer(port, ZONES[0], &format!("IXFR={}", serial.wrapping_sub(1000)));
    assert_eq!(whole.sorted(), first.sorted());
    cluster.write(cluster::CHANGES[1]);
    eventually(|| match transfer(port, ZONES[0], &format!("IXFR={serial}")) {
        same if same.records.len() == 1 => Err("no change yet".to_owned()),
        changes => {
            let [new, old, again, last] = changes.serials()[..] else { panic!("{changes:?}") };
            assert_eq!((old, new), (serial, again));
            assert_eq!(new, last);
            assert!(changes.records.len() < first.records.len(), "{changes:?}");
            Ok(())
        }
    });
    for (zone, rtype, more, reason) in [
        (ZONES[0], "AXFR", &["-b", "127.0.0.2"][..], "peer"),
        (ZONES[0], "IXFR=1", &["-b", "127.0.0.2", "+tcp"], "peer"),
        (ZONES[0], "IXFR=1", &["-b", "127.0.0.2", "+notcp"], "peer"),
        ("svc.cluster.local.", "AXFR", &[], "zone"),
        ("example.org.", "AXFR", &[], "zone"),
    ] {
        let reason = format!("reason=\"{reason}\"");
        let refused = || primary.metrics().value("mainstay_transfers_refused_total", &[&reason]);
        let before = refused();
        let answer = transfer_from(port, zone, rtype, more);
        assert!(answer.records.is_empty(), "{answer:?}");
        assert_eq!(refused(), before + 1.0, "{zone} {rtype} {more:?}: {}", answer.text);
    }
}

#[test]
fn a_reload_keeps_what_is_known_of_secondaries_while_the_zones_look_the_same() {
    if skips(&["dig", "knotd"]) {
        return;
    }
    let cluster = Cluster::new(3);
    let port = ports::free();
    let primary = primary(&cluster, &format!("127.0.0.1:{port}"));
    let secondary = Secondary::knot(port, primary.ports.dns);
    follows(&secondary, &primary);
    let whole = || primary.metrics().sum("mainstay_transfers_total", &["kind=\"ixfr_whole\""]);
    reload(&primary, "    errors", "    errors\n    loadbalance");
    change(&cluster, &primary, cluster::CHANGES[0]);
    follows(&secondary, &primary);
    assert_eq!(whole(), Some(0.0), "the versions were kept");
    // Every record has another TTL, which no difference between Zones tells.
    reload(&primary, "ttl 7", "ttl 8");
    let has_new_ttl = |zone: Transferred| match zone {
        zone if zone.has("web.shop.svc.cluster.local. 8 IN A 10.96.1.1") => Ok(()),
        zone => Err(format!("{zone:?}")),
    };
    eventually(|| has_new_ttl(transfer(port, ZONES[0], "AXFR")));
    follows(&secondary, &primary);
    assert!(whole() >= Some(1.0), "what it had was made with another TTL");
}

/// The zone and its serial when the first lists are all in.
fn at_rest(port: u16) -> (Transferred, u32) {
    let mut found = None;
    eventually(|| {
        let zone = transfer(port, ZONES[0], "AXFR");
        let serial = zone.serial().ok_or_else(|| format!("no SOA: {zone:?}"))?;
        let is_same = |_| transfer(port, ZONES[0], "AXFR").serial() == Some(serial);
        // A datagram has the newest serial, a transfer one that may be a second old.
        let over_udp = ["+notcp", "+noall", "+answer"];
        let newest = transfer_from(port, ZONES[0], "IXFR=1", &over_udp).serials();
        let is_at_rest = newest == [serial] && (0..5).all(is_same);
        found = Some((zone, serial));
        if is_at_rest { Ok(()) } else { Err(format!("{serial} has passed")) }
    });
    found.expect("it was found")
}

/// Changes the Corefile, and waits until that has an effect.
fn reload(server: &Server, from: &str, to: &str) {
    let complete =
        || server.log().iter().filter(|line| line.contains("Reloading complete")).count();
    let before = complete();
    server.edit(|text| text.replace(from, to));
    server.signal("USR1");
    eventually(|| match complete() > before {
        true => Ok(()),
        false => Err(format!("{:?}", server.log())),
    });
}

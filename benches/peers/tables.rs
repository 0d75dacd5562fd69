//! The tables that set Mainstay beside its peers.

use crate::World;
use crate::contest::{Contest, Entrant, How, IN_FLIGHT, SATURATED, STEADY, run, saturated, steady};
use crate::programs::{Peer, echo};
use crate::questions::Kind;
use crate::site::{Site, ask_all};
use crate::support::asker::Pace;
use crate::support::packets::{Edns, Packets};
use crate::support::report::Table;
use crate::{authorities, recursors};

const SATURATION: How = How::Udp(Pace::InFlight(IN_FLIGHT));

const COREDNS: &str = "\
Both with the Corefile of kubeadm and the same 10 000 Services from the same API server, on one \
CPU. *× first* is CPU time against Mainstay in the same round, which is how many times as many \
queries Mainstay answers with one core. *CPU used* is that of the server; far below 100 means that \
it waited for the questions, or for the CPU.";

/// Five kinds of questions to CoreDNS.
pub fn coredns(world: &World, sites: &[Site]) -> Result<Table, String> {
    let site = &sites[0];
    let coredns = site.coredns(world);
    let works = packets(site, &Kind::ALL);
    let mut contests = Vec::new();
    for (kind, packets) in &works {
        let mut entrants = mainstays(site, packets);
        entrants.push(Entrant::maybe("CoreDNS", &coredns, packets));
        if *kind == Kind::Foreign {
            entrants = entrants.into_iter().map(Entrant::cached).collect();
        }
        contests.push(Contest { title: kind.title().to_owned(), how: SATURATION, entrants });
    }
    run(world, &mut contests);
    let mut table = Table::new("UDP, beside CoreDNS", COREDNS, "work", &SATURATED);
    saturated(&mut table, &contests);
    Ok(table)
}

const CACHES: &str = "\
Foreign names that are in the cache, asked for at random, without EDNS. Each server has one \
thread on one CPU. *× first* is CPU time against Mainstay in the same round: above 1, Mainstay \
needs less.";

/// Cached names.
pub fn caches(world: &World, sites: &[Site]) -> Result<Table, String> {
    let peers = start_recursors(world);
    let works: Vec<Packets> =
        sites.iter().map(|site| site.packets(Kind::Foreign, Edns::Without)).collect();
    let mut contests = Vec::new();
    for (site, packets) in sites.iter().zip(&works) {
        let entrants = foreign_entrants(site, packets, &peers);
        let title = format!("cached foreign name, {}", site.title());
        contests.push(Contest { title, how: SATURATION, entrants });
    }
    run(world, &mut contests);
    let mut table = Table::new("UDP, beside caches", CACHES, "work", &SATURATED);
    saturated(&mut table, &contests);
    Ok(table)
}

const AUTHORITIES: &str = "\
The same names in a zone file, without EDNS. Each server has one worker on one CPU. *× first* is \
CPU time against Mainstay in the same round: above 1, Mainstay needs less.";

/// Names that a server is authoritative for, existing and not.
pub fn authorities(world: &World, sites: &[Site]) -> Result<Table, String> {
    let mut works = Vec::new();
    for site in sites {
        let peers = start_authorities(site);
        works.push((site, peers, packets(site, &[Kind::ClusterIp, Kind::NxDomain])));
    }
    let mut contests = Vec::new();
    for (site, peers, works) in &works {
        for (kind, packets) in works {
            let mut entrants = mainstays(site, packets);
            entrants.extend(peers.iter().map(|(name, it)| Entrant::maybe(name, it, packets)));
            let title = format!("{}, {}", kind.title(), site.title());
            contests.push(Contest { title, how: SATURATION, entrants });
        }
    }
    run(world, &mut contests);
    let title = "UDP, beside authoritative servers";
    let mut table = Table::new(title, AUTHORITIES, "work", &SATURATED);
    saturated(&mut table, &contests);
    Ok(table)
}

const TCP: &str = "\
1 000 names. The client looks for replies every 50 µs; questions that become due together leave in \
one write. *× first* is CPU time against \
Mainstay in the same round, which is how many times as many queries Mainstay answers with one \
core. *Asked again* counts questions on connections that the server closed or left hanging.";

/// One connection with 100 questions in flight, and 50 with 5 each.
pub fn tcp(world: &World, sites: &[Site]) -> Result<Table, String> {
    let site = &sites[0];
    let (recursors, authorities) = (start_recursors(world), start_authorities(site));
    let coredns = site.coredns(world);
    let [cluster, foreign] =
        [Kind::ClusterIp, Kind::Foreign].map(|kind| site.packets(kind, Edns::Without));
    let mut contests = Vec::new();
    for (connections, in_flight) in [(1, 100), (50, 5)] {
        let how = How::Tcp { connections, in_flight };
        let title = |kind: Kind| format!("{}, {connections} × {in_flight}", kind.title());
        let mut entrants = mainstays(site, &cluster);
        entrants.extend(authorities.iter().map(|(name, it)| Entrant::maybe(name, it, &cluster)));
        entrants.push(Entrant::maybe("CoreDNS", &coredns, &cluster));
        contests.push(Contest { title: title(Kind::ClusterIp), how, entrants });
        let entrants = foreign_entrants(site, &foreign, &recursors);
        contests.push(Contest { title: title(Kind::Foreign), how, entrants });
    }
    run(world, &mut contests);
    let mut table = Table::new("TCP", TCP, "work", &SATURATED);
    saturated(&mut table, &contests);
    Ok(table)
}

const RATES: &str = "\
ClusterIP A, 1 000 names, at a fixed rate. Latency counts from when a question was due, over all \
questions of a round. *× first* is against the echo in the same round, *× Mainstay* against \
Mainstay: for CoreDNS that is how many times as much CPU time and latency it has. *kq/s* were \
answered; below 99 % of the rate a server did not keep up. *Lost* counts questions without a reply \
for 100 ms, which were asked again; *left late* those that left the client more than 100 µs after \
they were due.";

/// Fixed rates.
pub fn rates(world: &World, sites: &[Site]) -> Result<Table, String> {
    let site = &sites[0];
    let coredns = site.coredns(world);
    let bare = echo(&world.echo, None)?;
    let packets = site.packets(Kind::ClusterIp, Edns::Without);
    let mut contests = Vec::new();
    for rate in [20_000.0, 2_000.0] {
        let mut entrants = vec![Entrant::new(&bare, &packets)];
        entrants.extend(mainstays(site, &packets));
        entrants.push(Entrant::maybe("CoreDNS", &coredns, &packets));
        let (title, how) = (format!("{rate} q/s"), How::Udp(Pace::PerSecond(rate)));
        contests.push(Contest { title, how, entrants });
    }
    run(world, &mut contests);
    let mut table = Table::new("UDP at a fixed rate", RATES, "work", &STEADY);
    steady(&mut table, &contests);
    Ok(table)
}

/// Questions of some kinds, without EDNS.
fn packets(site: &Site, kinds: &[Kind]) -> Vec<(Kind, Packets)> {
    kinds.iter().map(|kind| (*kind, site.packets(*kind, Edns::Without))).collect()
}

fn mainstays<'a>(site: &'a Site, packets: &'a Packets) -> Vec<Entrant<'a>> {
    site.mainstays.iter().map(|peer| Entrant::new(peer, packets)).collect()
}

/// All that keep foreign names, which are asked for before each round.
fn foreign_entrants<'a>(
    site: &'a Site,
    packets: &'a Packets,
    peers: &'a [(&str, Result<Peer, String>)],
) -> Vec<Entrant<'a>> {
    let mut entrants = mainstays(site, packets);
    entrants.extend(peers.iter().map(|(name, peer)| Entrant::maybe(name, peer, packets)));
    entrants.into_iter().map(Entrant::cached).collect()
}

/// A server, or why there is none.
type Named = (&'static str, Result<Peer, String>);

/// The caches, with one right answer of each.
fn start_recursors(world: &World) -> Vec<Named> {
    let start = |recursor: &recursors::Recursor| {
        let mut peer = recursor.start(world.upstream)?;
        peer.wait(&Kind::Foreign.samples(&crate::questions::cluster(1_000), 100))?;
        Ok(peer)
    };
    recursors::ALL.iter().map(|recursor| (recursor.name, start(recursor))).collect()
}

/// The authoritative servers of a site, with every answer checked.
fn start_authorities(site: &Site) -> Vec<Named> {
    let zone = authorities::zone(site);
    let works = packets(site, &[Kind::ClusterIp, Kind::NxDomain]);
    let start = |authority: &authorities::Authority| {
        let peer = authority.start(site, &zone)?;
        works.iter().try_for_each(|(_, packets)| ask_all(&peer, packets))?;
        Ok(peer)
    };
    authorities::ALL.iter().map(|authority| (authority.name, start(authority))).collect()
}

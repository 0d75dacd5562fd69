//! What does a query cost, beside a server that only sends it back?

use std::collections::btree_map::{BTreeMap, Entry};

use crate::World;
use crate::contest::IN_FLIGHT;
use crate::programs::{Peer, echo};
use crate::questions::Kind;
use crate::site::{Site, ask_all};
use crate::support::asker::Pace;
use crate::support::packets::{Edns, Packets};
use crate::support::report::{Cell, Table};
use crate::support::server;

const ABOUT: &str = "\
CPU time per query at saturation, of the server on one CPU, in microseconds. The echo sends each \
packet back as it came; it is measured just before. *Ratio* is the median of the ratios of such \
pairs. The echo *of that size* sends as many octets as the answer has: what the kernel takes for \
longer packets. 1 000 names are those of a cluster of 10 000 Services, 100 000 names those of one \
of 202 000, each with 5 endpoints; they are asked for at random. Foreign names are in the cache.";

/// One kind of question at one size.
struct Case<'a> {
    kind: Kind,
    site: &'a Site,
    edns: Edns,
    packets: Packets,
    /// Octets of the answer.
    octets: usize,
    echo: Vec<f64>,
    padded: Vec<f64>,
    ours: Vec<Ours>,
}

/// What one binary needed.
#[derive(Default)]
struct Ours {
    cpu_us: Vec<f64>,
    ratio: Vec<f64>,
    padded_ratio: Vec<f64>,
    kqps: Vec<f64>,
    used: Vec<f64>,
}

pub fn measure(world: &World, sites: &[Site]) -> Result<Table, String> {
    let mut cases = Vec::new();
    for site in sites {
        for (kind, edns) in wanted(world, site.names) {
            cases.push(Case::new(kind, edns, site)?);
        }
    }
    let bare = echo(&world.echo, None)?;
    let mut padded = BTreeMap::new();
    for case in &cases {
        if let Entry::Vacant(place) = padded.entry(case.octets) {
            place.insert(echo(&world.echo, Some(case.octets))?);
        }
    }
    for round in 0..world.times.rounds {
        for case in &mut cases {
            case.round(world, round, &bare, &padded[&case.octets])?;
        }
    }
    Ok(table(&cases))
}

fn wanted(world: &World, names: usize) -> Vec<(Kind, Edns)> {
    let size = names.to_string();
    let both = [(Edns::Without, "plain"), (Edns::With, "edns")];
    let all = Kind::ALL.into_iter().flat_map(|kind| both.map(|(edns, word)| (kind, edns, word)));
    let is_wanted = |kind: Kind, word| world.options.wants(&["udp", kind.word(), &size, word]);
    all.filter(|(kind, _, word)| is_wanted(*kind, word))
        .map(|(kind, edns, _)| (kind, edns))
        .collect()
}

impl<'a> Case<'a> {
    /// Asks all questions once: fills the caches, and checks every reply.
    fn new(kind: Kind, edns: Edns, site: &'a Site) -> Result<Self, String> {
        let packets = site.packets(kind, edns);
        site.mainstays.iter().try_for_each(|peer| ask_all(peer, &packets))?;
        let reply = server::ask(site.mainstays[0].address, packets.packet(0));
        let octets = reply.map_err(|error| error.to_string())?.len();
        let ours = site.mainstays.iter().map(|_| Ours::default()).collect();
        let (echo, padded) = (Vec::new(), Vec::new());
        Ok(Self { kind, site, edns, packets, octets, echo, padded, ours })
    }

    fn title(&self) -> String {
        let edns = if self.edns == Edns::With { ", EDNS" } else { "" };
        format!("{}, {}{edns}", self.kind.title(), self.site.title())
    }

    fn round(
        &mut self,
        world: &World,
        round: usize,
        bare: &Peer,
        padded: &Peer,
    ) -> Result<(), String> {
        let ask = |peer: &Peer| world.ask(peer, &self.packets, Pace::InFlight(IN_FLIGHT), round);
        let padded = ask(padded)?.cpu_us();
        let mut outcomes = Vec::new();
        for peer in &self.site.mainstays {
            if self.kind == Kind::Foreign && self.site.setting.foreign_names.is_none() {
                // The stock Corefile keeps them for 30 s.
                ask_all(peer, &self.packets)?;
            }
            outcomes.push((ask(bare)?.cpu_us(), ask(peer)?));
        }
        self.padded.push(padded);
        let mut line = format!("round {round}: {}:", self.title());
        for ((bare, outcome), ours) in outcomes.into_iter().zip(&mut self.ours) {
            let cpu_us = outcome.cpu_us();
            self.echo.push(bare);
            ours.cpu_us.push(cpu_us);
            ours.ratio.push(cpu_us / bare);
            ours.padded_ratio.push(cpu_us / padded);
            ours.kqps.push(outcome.rate() / 1e3);
            ours.used.push(outcome.utilisation() * 100.0);
            line += &format!(" {cpu_us:.3} / {bare:.3} µs = {:.3}", cpu_us / bare);
        }
        eprintln!("{line}");
        Ok(())
    }
}

fn table(cases: &[Case<'_>]) -> Table {
    let columns = [
        ("ratio to echo", 3),
        ("CPU µs/query", 3),
        ("echo µs", 3),
        ("echo of that size µs", 3),
        ("ratio to that", 3),
        ("kq/s", 0),
        ("CPU used %", 0),
        ("octets", 0),
    ];
    let mut table = Table::new("UDP, beside a bare echo", ABOUT, "work", &columns);
    for case in cases {
        let peers = &case.site.mainstays;
        for (peer, ours) in peers.iter().zip(&case.ours) {
            let name = match peers.len() {
                1 => case.title(),
                _ => format!("{}: {}", case.title(), peer.name()),
            };
            let Ours { cpu_us, ratio, padded_ratio, kqps, used } = ours;
            let measured = [ratio, cpu_us, &case.echo, &case.padded, padded_ratio, kqps, used];
            let mut cells: Vec<Cell> =
                measured.into_iter().map(|values| Cell::Measured(values.clone())).collect();
            cells.push(Cell::Measured(vec![case.octets as f64]));
            table.row(&name, cells);
        }
    }
    table
}

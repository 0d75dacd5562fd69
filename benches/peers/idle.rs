//! What does a server cost that nobody asks, and what does a second worker bring?

use std::fs;
use std::thread;

use crate::World;
use crate::contest::IN_FLIGHT;
use crate::programs::{CLIENT_CPU, Peer, Setting, echo, mainstay};
use crate::questions::Kind;
use crate::site::Site;
use crate::support::asker::{Load, Pace};
use crate::support::machine::{memory, pin};
use crate::support::packets::{Edns, Packets};
use crate::support::report::{Cell, Table};

const IDLE: &str = "\
CPU time of servers that nobody asks, with 10 000 Services, in per cent of one core; and their \
resident memory. All have rested for the same time when it begins.";

pub fn idle(world: &World, sites: &[Site]) -> Result<Table, String> {
    let site = &sites[0];
    let (coredns, bare) = (site.coredns(world), echo(&world.echo, None)?);
    let peers: Vec<&Peer> = site.mainstays.iter().chain(&coredns).chain([&bare]).collect();
    // A server that has just read its cluster still tidies up.
    eprintln!("all rest for {:?}", world.times.rest);
    thread::sleep(world.times.rest);
    let before: Vec<_> = peers.iter().map(|peer| peer.server.cpu_time()).collect();
    eprintln!("idle for {:?}", world.times.idle);
    thread::sleep(world.times.idle);
    let columns = [("CPU %", 3), ("resident MiB", 1)];
    let mut table = Table::new("Idle", IDLE, "server", &columns);
    for (peer, before) in peers.iter().zip(before) {
        let used = peer.server.cpu_time().saturating_sub(before);
        let percent = used.as_secs_f64() / world.times.idle.as_secs_f64() * 100.0;
        let mib = memory(peer.server.pid()).now as f64 / f64::from(1 << 20);
        table.row(peer.name(), vec![Cell::Measured(vec![percent]), Cell::Measured(vec![mib])]);
    }
    if let Err(why) = coredns {
        table.row("CoreDNS", vec![Cell::Skipped(why), Cell::Empty]);
    }
    Ok(table)
}

const SCALING: &str = "\
ClusterIP A, 1 000 names. Client and server share both CPUs, so throughput cannot double here; \
what can be seen is whether a query costs more CPU time when there are two workers. *Scaling* is \
2 × CPU time per query with one worker ÷ that with two, with the client on the same CPUs: a proxy \
for the throughput of two cores, not a measurement of it. 2 would be no loss at all.";

/// Sockets of the client: the kernel spreads them over the workers.
const SOCKETS: usize = 64;

pub fn scaling(world: &World, sites: &[Site]) -> Result<Table, String> {
    let site = &sites[0];
    let columns = [("workers", 0), ("CPU µs/query", 3), ("kq/s", 0), ("scaling", 2)];
    let mut table = Table::new("From one worker to two", SCALING, "server", &columns);
    for (label, program) in &world.binaries {
        let start = |cpus, workers| {
            let setting = Setting { cpus, workers, ..site.setting.clone() };
            let mut peer = mainstay(label, program, &setting)?;
            site.check(&mut peer, &[Kind::ClusterIp])?;
            Ok::<Peer, String>(peer)
        };
        for (what, cpus) in [("on one CPU", "0"), ("on two CPUs", "0,1")] {
            let count = vec![workers(&start(cpus, None)?) as f64];
            let cells = vec![Cell::Measured(count), Cell::Empty, Cell::Empty, Cell::Empty];
            table.row(&format!("{label}, by default {what}"), cells);
        }
        let peers = [start("0,1", Some(1))?, start("0,1", Some(2))?];
        pin(&[0, 1])?;
        let measured = compare(world, site, &peers);
        pin(&[CLIENT_CPU])?;
        let [one, two] = measured?;
        let scaling = one.0.iter().zip(&two.0).map(|(one, two)| 2.0 * one / two).collect();
        let scalings = [Cell::Empty, Cell::Measured(scaling)];
        for ((peer, (cpu_us, kqps)), scaling) in peers.iter().zip([one, two]).zip(scalings) {
            let count = workers(peer) as f64;
            let [cpu_us, kqps] = [cpu_us, kqps].map(Cell::Measured);
            let cells = vec![Cell::Measured(vec![count]), cpu_us, kqps, scaling];
            table.row(&format!("{label}, {count} of them on two CPUs"), cells);
        }
    }
    Ok(table)
}

/// CPU µs per query and kq/s of each round.
type Rounds = (Vec<f64>, Vec<f64>);

fn compare(world: &World, site: &Site, peers: &[Peer; 2]) -> Result<[Rounds; 2], String> {
    let packets = site.packets(Kind::ClusterIp, Edns::Without);
    let mut rounds: [Rounds; 2] = Default::default();
    for round in 0..world.times.rounds {
        for (peer, (cpu_us, kqps)) in peers.iter().zip(&mut rounds) {
            let load = spread(world, peer, &packets, round);
            let outcome = load.run(|| peer.server.cpu_time())?;
            eprintln!("round {round}: {} workers: {:.3} µs", workers(peer), outcome.cpu_us());
            cpu_us.push(outcome.cpu_us());
            kqps.push(outcome.rate() / 1e3);
        }
    }
    Ok(rounds)
}

fn spread<'a>(world: &World, peer: &Peer, packets: &'a Packets, round: usize) -> Load<'a> {
    Load {
        target: peer.address,
        packets,
        is_echo: false,
        sockets: SOCKETS,
        pace: Pace::InFlight(2 * IN_FLIGHT),
        warm_up: world.times.warm_up,
        window: world.times.window,
        seed: round as u64,
    }
}

/// How many UDP workers a Mainstay has, by the names of its threads.
fn workers(peer: &Peer) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", peer.server.pid()));
    let names = tasks.into_iter().flatten().flatten().map(|task| task.path().join("comm"));
    names
        .filter_map(|path| fs::read_to_string(path).ok())
        .filter(|it| it.starts_with("udp-"))
        .count()
}

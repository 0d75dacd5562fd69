//! Does a busy cluster make answers late?

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::World;
use crate::contest::{Contest, Entrant, How, STEADY, steady};
use crate::programs::{Peer, echo};
use crate::questions::Kind;
use crate::site::Site;
use crate::support::apiserver::Churn;
use crate::support::asker::{Outcome, Pace};
use crate::support::packets::{A, Edns, Expected, NOERROR, Packets, question};
use crate::support::report::Table;
use crate::support::server::{Probe, until};

const ABOUT: &str = "\
ClusterIP A, 1 000 names, at 20 000 q/s. *With changes*: the API server makes 1 000 changes of \
EndpointSlices each second, which Mainstay takes over, and its metrics are read each second. The \
API server shares its CPU with the questions, and Mainstay shares that of the echo: the second row \
is what the changes cost any server on this machine. *× first* is against the quiet echo, *× \
Mainstay* against the quiet Mainstay. *Lost* counts questions without a reply for 100 ms.";

const RATE: f64 = 20_000.0;
const CHANGES_PER_SECOND: u64 = 1_000;
/// Every change of this number can be seen from outside: to check that they are taken over.
const PROBE_EVERY: u64 = 100;
const SCRAPE_EVERY: Duration = Duration::from_secs(1);
/// Time until the last change must be answered.
const VISIBLE_MAX: Duration = Duration::from_secs(5);

pub fn measure(world: &World, sites: &[Site]) -> Result<Table, String> {
    let site = &sites[0];
    let bare = echo(&world.echo, None)?;
    let packets = site.packets(Kind::ClusterIp, Edns::Without);
    let mut entrants = Vec::new();
    for peer in [&bare].into_iter().chain(&site.mainstays) {
        entrants.push(Entrant::new(peer, &packets).called("quiet"));
        entrants.push(Entrant::new(peer, &packets).called("with changes"));
    }
    let how = How::Udp(Pace::PerSecond(RATE));
    let mut contest = Contest { title: format!("{RATE} q/s"), how, entrants };
    for round in 0..world.times.rounds {
        for (place, entrant) in contest.entrants.iter_mut().enumerate() {
            let Ok(peer) = entrant.peer else { continue };
            let outcome = match place % 2 {
                0 => world.ask(peer, &packets, Pace::PerSecond(RATE), round)?,
                _ => changing(world, site, peer, &packets, round)?,
            };
            entrant.add(outcome, how, round);
        }
    }
    let mut table = Table::new("UDP while the cluster changes", ABOUT, "work", &STEADY);
    steady(&mut table, &[contest]);
    Ok(table)
}

/// Asks while the cluster changes.
fn changing(
    world: &World,
    site: &Site,
    peer: &Peer,
    packets: &Packets,
    round: usize,
) -> Result<Outcome, String> {
    let mut api = site.api.borrow_mut();
    let time = world.times.warm_up + world.times.steady;
    api.begin_churn(Churn {
        per_second: CHANGES_PER_SECOND,
        time,
        probe_every: PROBE_EVERY,
        probes: 1,
    });
    let is_over = AtomicBool::new(false);
    let outcome = thread::scope(|scope| {
        let scraper = scope.spawn(|| scrape(peer.metrics, &is_over));
        let outcome = world.ask(peer, packets, Pace::PerSecond(RATE), round);
        is_over.store(true, Ordering::Relaxed);
        scraper.join().map_err(|_| "the scraper panicked".to_owned())??;
        outcome
    })?;
    let churned = api.end_churn();
    let last = churned.moves.last().ok_or("no change was made")?;
    let probe = Probe {
        packet: question(&site.cluster.dns_name(site.cluster.services), A, Edns::Without),
        expected: Expected { rcode: NOERROR, answers: 1 },
        holds: vec![last.address.octets().to_vec()],
    };
    for mainstay in &site.mainstays {
        until(mainstay.address, &probe, VISIBLE_MAX)?;
    }
    Ok(outcome)
}

/// Reads the metrics each second, if the server has some.
fn scrape(metrics: Option<SocketAddr>, is_over: &AtomicBool) -> Result<(), String> {
    let Some(address) = metrics else { return Ok(()) };
    let mut next = Instant::now();
    while !is_over.load(Ordering::Relaxed) {
        if Instant::now() >= next {
            next += SCRAPE_EVERY;
            read(address).map_err(|error| format!("metrics of {address}: {error}"))?;
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn read(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: mainstay\r\nConnection: close\r\n\r\n")?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    let is_right = text.starts_with(b"HTTP/1.1 200");
    is_right.then_some(()).ok_or_else(|| std::io::Error::other("no page"))
}

//! Several servers, one kind of work: each round asks all of them, one after the other.

use std::time::Duration;

use crate::World;
use crate::programs::Peer;
use crate::site::ask_all;
use crate::support::asker::{Outcome, Pace};
use crate::support::packets::Packets;
use crate::support::report::{Cell, Table};
use crate::support::tcp;

/// Questions in flight at saturation.
pub const IN_FLIGHT: usize = 128;

/// What the servers have to do.
pub struct Contest<'a> {
    pub title: String,
    pub how: How,
    pub entrants: Vec<Entrant<'a>>,
}

impl<'a> Contest<'a> {
    /// The first Mainstay, if there is one.
    fn ours(&self) -> Option<&Entrant<'a>> {
        self.entrants.iter().find(|entrant| entrant.name.starts_with("Mainstay"))
    }
}

/// How questions come.
#[derive(Clone, Copy, Debug)]
pub enum How {
    Udp(Pace),
    Tcp { connections: usize, in_flight: usize },
}

/// A server, or why there is none.
pub struct Entrant<'a> {
    pub name: String,
    pub peer: Result<&'a Peer, String>,
    pub packets: &'a Packets,
    /// Ask every name before each round, so that it is in the cache.
    pub is_cached: bool,
    outcomes: Vec<Outcome>,
}

impl<'a> Entrant<'a> {
    pub fn new(peer: &'a Peer, packets: &'a Packets) -> Self {
        let name = peer.name().to_owned();
        Self { name, peer: Ok(peer), packets, is_cached: false, outcomes: Vec::new() }
    }

    /// A server that may not have started.
    pub fn maybe(name: &str, peer: &'a Result<Peer, String>, packets: &'a Packets) -> Self {
        let peer = peer.as_ref().map_err(Clone::clone);
        Self { name: name.to_owned(), peer, packets, is_cached: false, outcomes: Vec::new() }
    }

    /// Tells entrants of one server apart.
    pub fn called(self, what: &str) -> Self {
        Self { name: format!("{}, {what}", self.name), ..self }
    }

    /// The names are foreign ones.
    pub fn cached(self) -> Self {
        Self { is_cached: true, ..self }
    }

    fn round(&mut self, world: &World, how: How, round: usize) -> Result<(), String> {
        let Ok(peer) = self.peer else { return Ok(()) };
        if self.is_cached {
            ask_all(peer, self.packets)?;
        }
        let outcome = match how {
            How::Udp(pace) => world.ask(peer, self.packets, pace, round)?,
            How::Tcp { connections, in_flight } => {
                world.ask_tcp(peer, self.packets, connections, in_flight, round)?
            }
        };
        self.add(outcome, how, round);
        Ok(())
    }

    /// Adds what a round came to.
    pub fn add(&mut self, outcome: Outcome, how: How, round: usize) {
        eprintln!("round {round}: {}: {}", self.name, told(&outcome, how));
        self.outcomes.push(outcome);
    }

    fn each(&self, value: impl Fn(&Outcome) -> f64) -> Vec<f64> {
        self.outcomes.iter().map(value).collect()
    }
}

fn told(outcome: &Outcome, how: How) -> String {
    let (cpu_us, kqps) = (outcome.cpu_us(), outcome.rate() / 1e3);
    let p99_us = micros(outcome.latency.quantile(0.99));
    match how {
        How::Udp(Pace::PerSecond(_)) => format!("{cpu_us:.2} µs/query, p99 {p99_us:.0} µs"),
        _ => format!("{cpu_us:.3} µs/query, {kqps:.0} kq/s"),
    }
}

/// In microseconds.
pub fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Runs all rounds. A server that fails in one of them is out from then on.
pub fn run(world: &World, contests: &mut [Contest<'_>]) {
    for round in 0..world.times.rounds {
        for contest in &mut *contests {
            eprintln!("{}", contest.title);
            for entrant in &mut contest.entrants {
                if let Err(problem) = entrant.round(world, contest.how, round) {
                    eprintln!("{problem}");
                    entrant.peer = Err(problem);
                }
            }
        }
    }
}

/// Columns of [`saturated`].
pub const SATURATED: [(&str, usize); 5] =
    [("CPU µs/query", 2), ("× first", 2), ("kq/s", 0), ("CPU used %", 0), ("asked again", 0)];

/// Columns of [`steady`].
pub const STEADY: [(&str, usize); 13] = [
    ("CPU µs/query", 2),
    ("× first", 2),
    ("× Mainstay", 2),
    ("p50 µs", 0),
    ("p50 × first", 2),
    ("p99 µs", 0),
    ("p99 × first", 2),
    ("p99 × Mainstay", 2),
    ("max µs", 0),
    ("kq/s", 2),
    ("lost", 0),
    ("left late", 0),
    ("verdict", 0),
];

/// A server that answers less of a fixed rate than this part did not keep up.
const KEPT_UP_MIN: f64 = 0.99;

/// Adds rows about work at saturation.
pub fn saturated(table: &mut Table, contests: &[Contest<'_>]) {
    rows(table, contests, |entrant, contest| {
        let measured = [
            entrant.each(Outcome::cpu_us),
            ratios(entrant, contest.entrants.first(), Outcome::cpu_us),
            entrant.each(|outcome| outcome.rate() / 1e3),
            entrant.each(|outcome| outcome.utilisation() * 100.0),
            entrant.each(|outcome| outcome.lost as f64),
        ];
        measured.map(Cell::Measured).to_vec()
    });
}

/// Adds rows about work at a fixed rate.
pub fn steady(table: &mut Table, contests: &[Contest<'_>]) {
    let quantile = |part| move |outcome: &Outcome| micros(outcome.latency.quantile(part));
    rows(table, contests, |entrant, contest| {
        let (first, ours) = (contest.entrants.first(), contest.ours());
        let measured = [
            entrant.each(Outcome::cpu_us),
            ratios(entrant, first, Outcome::cpu_us),
            ratios(entrant, ours, Outcome::cpu_us),
            entrant.each(quantile(0.5)),
            ratios(entrant, first, quantile(0.5)),
            entrant.each(quantile(0.99)),
            ratios(entrant, first, quantile(0.99)),
            ratios(entrant, ours, quantile(0.99)),
            entrant.each(|outcome| micros(outcome.latency.max())),
            entrant.each(|outcome| outcome.rate() / 1e3),
            entrant.each(|outcome| outcome.lost as f64),
            entrant.each(|outcome| outcome.late as f64),
        ];
        let mut cells = measured.map(Cell::Measured).to_vec();
        cells.push(verdict(entrant, contest.how));
        cells
    });
}

/// Whether a server answered at the rate at which it was asked, by the median of its rounds.
fn verdict(entrant: &Entrant<'_>, how: How) -> Cell {
    let How::Udp(Pace::PerSecond(rate)) = how else { return Cell::Empty };
    let answered = Cell::Measured(entrant.each(Outcome::rate)).median();
    match answered {
        Some(answered) if answered < rate * KEPT_UP_MIN => Cell::Text("did not keep up".to_owned()),
        Some(_) => Cell::Text("kept up".to_owned()),
        None => Cell::Empty,
    }
}

/// A value against that of another server in the same round.
fn ratios(
    entrant: &Entrant<'_>,
    other: Option<&Entrant<'_>>,
    value: impl Fn(&Outcome) -> f64,
) -> Vec<f64> {
    let others = other.into_iter().flat_map(|other| &other.outcomes);
    entrant.outcomes.iter().zip(others).map(|(mine, theirs)| value(mine) / value(theirs)).collect()
}

fn rows(
    table: &mut Table,
    contests: &[Contest<'_>],
    measured: impl Fn(&Entrant<'_>, &Contest<'_>) -> Vec<Cell>,
) {
    for contest in contests {
        for entrant in &contest.entrants {
            let mut cells = measured(entrant, contest);
            if let Err(why) = &entrant.peer {
                cells.fill(Cell::Empty);
                cells[0] = Cell::Skipped(why.clone());
            }
            table.row(&format!("{}: {}", contest.title, entrant.name), cells);
        }
    }
}

impl World {
    /// Asks a server over TCP.
    ///
    /// # Errors
    /// It does not take part, or answers wrongly.
    fn ask_tcp(
        &self,
        peer: &Peer,
        packets: &Packets,
        connections: usize,
        in_flight: usize,
        round: usize,
    ) -> Result<Outcome, String> {
        let (warm_up, window) = (self.times.warm_up, self.times.window);
        let (target, seed) = (peer.address, round as u64);
        let load = tcp::Load { target, packets, connections, in_flight, warm_up, window, seed };
        load.run(|| peer.server.cpu_time()).map_err(|error| format!("{}: {error}", peer.name()))
    }
}

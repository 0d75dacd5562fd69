//! What does a query cost Mainstay, and what does it cost its peers?
//!
//! Servers run on one CPU, one at a time, and the questions come from the other. Rounds are
//! interleaved, each reply is checked, and what could not be measured is told with the reason.
//! `benches/peers/run` does all of it; `--help` says how to measure a part.

#[path = "../support/mod.rs"]
mod support;

mod authorities;
mod changes;
mod contest;
mod idle;
mod options;
mod programs;
mod questions;
mod recursors;
mod site;
mod summary;
mod tables;
mod udp;
mod upstream;
mod versions;

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;

use tempfile::TempDir;

use options::{Options, Times};
use programs::{CLIENT_CPU, Peer, compile_echo, folder};
use site::Site;
use support::apiserver;
use support::asker::{Load, Outcome, Pace};
use support::binaries::mainstays;
use support::machine::{pin, waited};
use support::packets::Packets;
use support::report::{Report, Table};

/// Sockets that questions come from.
const SOCKETS: usize = 8;
/// A measurement at saturation in which server or client waited for their CPUs for this part of
/// the time is made again: another program ran.
const DISTURBED_MIN: f64 = 0.05;
/// How often a measurement is made until it counts as it is, and the pause before it is made again.
const TRIES_MAX: usize = 5;
const PAUSE: Duration = Duration::from_millis(200);
/// Measurements that are made again, of a whole run: they must not make it much longer.
const AGAIN_MAX: usize = 100;

/// What all tables share.
pub struct World {
    pub options: Options,
    pub times: Times,
    /// Labels and paths of Mainstay.
    pub binaries: Vec<(String, PathBuf)>,
    pub echo: PathBuf,
    /// Has an address for every name.
    pub upstream: SocketAddr,
    /// Measurements that were made again.
    disturbed: Cell<usize>,
    _folder: TempDir,
}

/// A table and how it comes about.
type Chapter = (&'static str, fn(&World, &[Site]) -> Result<Table, String>);

/// `changes` is the last, as it leaves headless Services with fewer endpoints.
const CHAPTERS: [Chapter; 9] = [
    ("udp", udp::measure),
    ("coredns", tables::coredns),
    ("caches", tables::caches),
    ("authorities", tables::authorities),
    ("tcp", tables::tcp),
    ("rates", tables::rates),
    ("scaling", idle::scaling),
    ("idle", idle::idle),
    ("changes", changes::measure),
];

fn main() -> ExitCode {
    apiserver::run();
    match World::new(Options::parse()).and_then(|world| world.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("peers: {problem}");
            ExitCode::FAILURE
        }
    }
}

impl World {
    fn new(options: Options) -> Result<Self, String> {
        pin(&[CLIENT_CPU])?;
        let (times, folder) = (options.times(), folder()?);
        let binaries = mainstays(&options.mainstay, "Mainstay");
        let echo = compile_echo(folder.path())?;
        let upstream = upstream::start().map_err(|error| format!("no upstream: {error}"))?;
        Ok(Self {
            options,
            times,
            binaries,
            echo,
            upstream,
            disturbed: Cell::new(0),
            _folder: folder,
        })
    }

    fn run(&self) -> Result<(), String> {
        let sites = site::start(self)?;
        let mut report = Report {
            title: "Mainstay and its peers".to_owned(),
            versions: versions::all(self),
            tables: Vec::new(),
        };
        let mut failed = Vec::new();
        for (name, measure) in CHAPTERS {
            if self.options.wants_table(name) {
                // What was measured before and comes after is not thrown away.
                let table = measure(self, &sites).unwrap_or_else(|problem| {
                    eprintln!("{name}: {problem}");
                    failed.push(name);
                    Table::failed(name, &problem)
                });
                println!("{}", table.markdown());
                report.tables.push(table);
            }
        }
        self.write(report)?;
        match failed.as_slice() {
            [] => Ok(()),
            _ => Err(format!("failed: {}", failed.join(", "))),
        }
    }

    /// Writes the report, if a folder for it was named.
    fn write(&self, mut report: Report) -> Result<(), String> {
        let disturbed = self.disturbed.get().to_string();
        report.versions.push(("measured again, because something else ran".into(), disturbed));
        let Some(out) = &self.options.out else { return Ok(()) };
        let panels = summary::panels(&report.tables);
        report.write(out, "results", &panels).map_err(|error| error.to_string())
    }

    /// Asks a server, from random names of `packets`; again, when something else ran meanwhile.
    pub fn ask(
        &self,
        peer: &Peer,
        packets: &Packets,
        pace: Pace,
        round: usize,
    ) -> Result<Outcome, String> {
        let is_saturated = matches!(pace, Pace::InFlight(_));
        let load = Load {
            target: peer.address,
            packets,
            is_echo: peer.is_echo,
            sockets: SOCKETS,
            pace,
            warm_up: self.times.warm_up,
            window: if is_saturated { self.times.window } else { self.times.steady },
            seed: round as u64,
        };
        let mut tries = 1;
        loop {
            let (before, began) = (self.waited(peer), Instant::now());
            let outcome = load.run(|| peer.server.cpu_time());
            let outcome = outcome.map_err(|error| format!("{}: {error}", peer.name()))?;
            let waited = self.waited(peer).saturating_sub(before);
            let is_quiet = waited < began.elapsed().mul_f64(DISTURBED_MIN);
            let again = self.disturbed.get();
            if is_quiet || !is_saturated || tries == TRIES_MAX || again == AGAIN_MAX {
                return Ok(outcome);
            }
            self.disturbed.set(again + 1);
            thread::sleep(PAUSE);
            tries += 1;
        }
    }

    /// How long the server and we were kept from our CPUs.
    fn waited(&self, peer: &Peer) -> Duration {
        waited(peer.server.pid()) + waited(std::process::id())
    }
}

//! How much does one thread ask, with every reply matched? Against an echo in C, on the other CPU.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use mainstay::load::arrivals::{Arrivals, Profile};
use mainstay::load::packets::{Notes, Settings, drive_noting};
use mainstay::load::record::{Outcome, PacketCounts, Recorder, Sample};
use mainstay::load::run::{Course, Run};
use mainstay::load::target::{Target, Transport};
use mainstay::load::tasks::{Class, Expect, Task, Work};
use mainstay::wire::{Name, RecordType};
use tempfile::TempDir;

use super::support::histogram::Histogram;
use super::support::report::{Cell, Table};
use super::support::server::{Server, Start};
use super::{SERVER_CPU, START_MAX, World, echo_source, free_port};

/// Lookups per second that are tried.
const RATES: [u32; 5] = [50_000, 100_000, 150_000, 200_000, 250_000];
/// Length of one try.
const WINDOW: Duration = Duration::from_secs(3);

const COLUMNS: [(&str, usize); 8] = [
    ("q/s begun", 0),
    ("matched", 0),
    ("lost", 0),
    ("not begun", 0),
    ("late p99 µs", 0),
    ("p50 µs", 0),
    ("p99 µs", 0),
    ("CPU µs each", 2),
];

/// What a driver wrote down.
#[derive(Default)]
struct Seen {
    counts: PacketCounts,
    ok: u64,
    latency: Histogram,
    lateness: Histogram,
    begun: u64,
    not_begun: u64,
}

impl Notes for Seen {
    fn lookups(&mut self, samples: &[Sample]) {
        for sample in samples {
            self.ok += u64::from(sample.outcome == Outcome::Ok);
            self.latency.record(sample.took.as_nanos() as u64);
        }
    }

    fn packets(&mut self, counts: &PacketCounts) {
        self.counts.lost += counts.lost;
        self.counts.mismatched += counts.mismatched + counts.garbage;
    }

    fn began_late(&mut self, by: Duration) {
        self.begun += 1;
        self.lateness.record(by.as_nanos() as u64);
    }

    fn not_begun(&mut self, count: u64) {
        self.not_begun += count;
    }
}

/// The table.
pub fn measure(world: &World) -> Result<Table, String> {
    let about = "One thread on one CPU, 16 sockets, the echo on the other CPU. Replies without a \
                 match were none, or the table fails.";
    let mut table = Table::new("Highest rate of one thread", about, "wanted q/s", &COLUMNS);
    let (_echo, address) = echo(world)?;
    for rate in RATES {
        let rounds: Vec<(Seen, Duration)> =
            (0..world.options.rounds).map(|_| ask(address, rate)).collect::<Result<_, _>>()?;
        if let Some((seen, _)) = rounds.iter().find(|(seen, _)| seen.counts.mismatched > 0) {
            return Err(format!("{} replies did not fit", seen.counts.mismatched));
        }
        let us = |time: Duration| time.as_secs_f64() * 1e6;
        let cell = |of: &dyn Fn(&Seen, Duration) -> f64| {
            Cell::Measured(rounds.iter().map(|(seen, cpu)| of(seen, *cpu)).collect())
        };
        table.row(
            &rate.to_string(),
            vec![
                cell(&|seen, _| seen.begun as f64 / WINDOW.as_secs_f64()),
                cell(&|seen, _| seen.ok as f64),
                cell(&|seen, _| seen.counts.lost as f64),
                cell(&|seen, _| seen.not_begun as f64),
                cell(&|seen, _| us(seen.lateness.quantile(0.99))),
                cell(&|seen, _| us(seen.latency.quantile(0.5))),
                cell(&|seen, _| us(seen.latency.quantile(0.99))),
                cell(&|seen, cpu| us(cpu) / seen.begun as f64),
            ],
        );
    }
    Ok(table)
}

fn echo(world: &World) -> Result<(Server, SocketAddr), String> {
    let program = world.folder.path().join("echo");
    let built = Command::new("cc").args(["-O2", "-o"]).arg(&program).arg(echo_source()).status();
    if !built.is_ok_and(|status| status.success()) {
        return Err("cannot build the echo; install a C compiler".to_owned());
    }
    let port = free_port();
    let server = Server::start(Start {
        name: "echo",
        cpus: &SERVER_CPU.to_string(),
        program: &program,
        arguments: vec![port.to_string()],
        folder: TempDir::new().map_err(|error| error.to_string())?,
        environment: Vec::new(),
    })?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let began = Instant::now();
    while super::support::server::ask(address, &[0; 12]).is_err() {
        if began.elapsed() > START_MAX {
            return Err(format!("the echo does not answer: {}", server.log()));
        }
    }
    Ok((server, address))
}

/// Asks for [`WINDOW`], and answers with the CPU time that took.
fn ask(server: SocketAddr, rate: u32) -> Result<(Seen, Duration), String> {
    let profile = Profile::Constant(f64::from(rate));
    let course = Course::new(tokio::time::Instant::now(), Some(WINDOW));
    let run = Arc::new(Run {
        target: Target { servers: vec![server], transport: Transport::Udp },
        work: ArcSwap::from_pointee(Work::uniform((0..1000).map(task).collect())),
        truth: None,
        recorder: Recorder::new(course.clone(), Duration::from_secs(1)),
        course,
        timeout: Duration::from_secs(1),
        seed: 1,
    });
    let settings = Settings { sockets: 16, payload_bytes: Some(1232), first_client: 0 };
    let arrivals = Arrivals::new(&profile, Some(WINDOW), 0, 1, 1);
    let before = super::support::machine::cpu_time(std::process::id());
    let seen = drive_noting(&run, arrivals, &settings, Seen::default());
    let cpu = super::support::machine::cpu_time(std::process::id()).saturating_sub(before);
    seen.map(|seen| (seen, cpu)).map_err(|error| error.to_string())
}

fn task(number: u32) -> Arc<Task> {
    let host = format!("name-{number}.harness.example");
    let name = Name::parse(&host).expect("a name that is short enough");
    let (class, expect) = (Class::Listed, Expect::Any);
    Arc::new(Task { host: host.into(), name, rtype: RecordType::A, class, expect })
}

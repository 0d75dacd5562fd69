//! Does `mainstay load` tell the same as dnsperf, what do they hide, and how much
//! does one thread ask?
//!
//! The server, Mainstay with manifests, has one CPU, the tools in turns the other. A tool
//! that is not there is SKIPPED. The last table needs no report: it drives packets against the
//! echo of `benches/peers` and matches every reply.

#[path = "../support/mod.rs"]
mod support;

mod highest;
mod tools;

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use support::binaries::mainstays;
use support::machine::{description, pin};
use support::packets::{Edns, Expected, question};
use support::report::{Cell, Report, Table};
use support::server::{Probe, Server, Start};
use tools::{Figures, Plan, Tool};

/// Where the server runs, and where the tools do.
const SERVER_CPU: usize = 0;
const TOOL_CPU: usize = 1;
/// Names that are asked for.
const NAMES: u32 = 1000;
/// Time that the server may take to answer.
const START_MAX: Duration = Duration::from_secs(10);
/// How long the server is stopped.
const PAUSE: Duration = Duration::from_millis(300);
/// Lookups per second while it is: what waits fits into its receive buffer.
const PAUSE_RATE: u32 = 2000;

#[derive(Parser)]
#[command(about = "Compares `mainstay load` with dnsperf")]
pub struct Options {
    /// Lookups per second
    #[arg(long, value_delimiter = ',', default_value = "2000,20000,50000")]
    rates: Vec<u32>,
    /// Seconds of each run
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// How often each is measured; the median counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these tables: agreement, pause, highest
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Measure this binary instead of the one just built
    #[arg(long, value_name = "PATH")]
    mainstay: Vec<String>,
    /// Folder for results.md, results.json and results.svg [default: only print]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What all tables share.
pub struct World {
    options: Options,
    mainstay: PathBuf,
    folder: TempDir,
}

/// A table and how it comes about.
type Chapter = (&'static str, fn(&World) -> Result<Table, String>);

const CHAPTERS: [Chapter; 3] =
    [("agreement", agreement), ("pause", pause), ("highest", highest::measure)];

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("harness: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let options = Options::parse();
    pin(&[TOOL_CPU])?;
    let mainstay = mainstays(&options.mainstay, "Mainstay").swap_remove(0).1;
    let folder = TempDir::new().map_err(|error| error.to_string())?;
    let world = World { options, mainstay, folder };
    let mut report = Report {
        title: "mainstay load and its peers".to_owned(),
        versions: vec![("machine".to_owned(), description())],
        tables: Vec::new(),
    };
    let mut failed = Vec::new();
    let is_wanted = |name: &str| {
        world.options.only.is_empty() || world.options.only.iter().any(|only| only == name)
    };
    for (name, measure) in CHAPTERS.into_iter().filter(|(name, _)| is_wanted(name)) {
        let table = measure(&world).unwrap_or_else(|problem| {
            failed.push(name);
            Table::failed(name, &problem)
        });
        println!("{}", table.markdown());
        report.tables.push(table);
    }
    if let Some(out) = &world.options.out {
        report.write(out, "results", &[]).map_err(|error| error.to_string())?;
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

const COLUMNS: [(&str, usize); 8] = [
    ("wanted q/s", 0),
    ("q/s", 0),
    ("lost", 0),
    ("mean ms", 3),
    ("p50 ms", 3),
    ("p90 ms", 3),
    ("p99 ms", 3),
    ("max ms", 3),
];

/// Rates and percentiles of the tools, in turns.
fn agreement(world: &World) -> Result<Table, String> {
    let (server, address) = world.start()?;
    let about = "The same server, names and rate; what a tool does not tell is empty.";
    let mut table = Table::new("Agreement", about, "tool", &COLUMNS);
    for rate in &world.options.rates {
        measure(world, &mut table, &world.plan(address, *rate), || ())?;
    }
    drop(server);
    Ok(table)
}

/// What the tools tell of a server that stands still for [`PAUSE`] in the middle of the run.
fn pause(world: &World) -> Result<Table, String> {
    let (server, address) = world.start()?;
    let about = "The server is stopped for 300 ms in the middle. Of all lookups, 300 ms of each run \
                 waited: a tool that counts from when they were due says so in its p99.";
    let mut table = Table::new("Pause", about, "tool", &COLUMNS);
    let plan = Plan { seconds: world.options.seconds.min(10), ..world.plan(address, PAUSE_RATE) };
    let pid = Pid::from_raw(server.pid().cast_signed()).ok_or("the server has no number")?;
    measure(world, &mut table, &plan, || {
        std::thread::sleep(Duration::from_secs(u64::from(plan.seconds)) / 2);
        let _ = kill_process(pid, Signal::STOP);
        std::thread::sleep(PAUSE);
        let _ = kill_process(pid, Signal::CONT);
    })?;
    Ok(table)
}

/// Measures all tools in turns; `meanwhile` runs beside each.
fn measure(
    world: &World,
    table: &mut Table,
    plan: &Plan<'_>,
    meanwhile: impl Fn() + Sync,
) -> Result<(), String> {
    let mut figures: Vec<(Tool, Result<Vec<Figures>, String>)> =
        Tool::ALL.into_iter().map(|tool| (tool, Ok(Vec::new()))).collect();
    for _ in 0..world.options.rounds {
        for (tool, so_far) in &mut figures {
            let Ok(all) = so_far else { continue };
            let told = std::thread::scope(|scope| {
                scope.spawn(&meanwhile);
                tool.run(plan)
            });
            match told {
                Ok(told) => all.push(told),
                Err(problem) => *so_far = Err(problem),
            }
        }
    }
    for (tool, told) in figures {
        table.row(tool.name(), cells(plan, told));
    }
    Ok(())
}

/// The cells of one tool.
fn cells(plan: &Plan<'_>, told: Result<Vec<Figures>, String>) -> Vec<Cell> {
    let wanted = Cell::Text(plan.rate.to_string());
    let told = match told {
        Ok(told) => told,
        Err(problem) => {
            let empty = std::iter::repeat_with(|| Cell::Empty).take(COLUMNS.len() - 2);
            return [wanted, Cell::Skipped(problem)].into_iter().chain(empty).collect();
        }
    };
    let cell = |pick: fn(&Figures) -> Option<f64>| {
        let values: Vec<f64> = told.iter().filter_map(pick).collect();
        if values.is_empty() { Cell::Empty } else { Cell::Measured(values) }
    };
    vec![
        wanted,
        cell(|it| Some(it.rate)),
        cell(|it| Some(it.lost)),
        cell(|it| it.mean_ms),
        cell(|it| it.p50_ms),
        cell(|it| it.p90_ms),
        cell(|it| it.p99_ms),
        cell(|it| it.max_ms),
    ]
}

impl World {
    fn plan(&self, server: SocketAddr, rate: u32) -> Plan<'_> {
        let (mainstay, folder) = (&self.mainstay, self.folder.path());
        Plan { mainstay, server, names: self.names(), folder, rate, seconds: self.options.seconds }
    }

    fn names(&self) -> PathBuf {
        self.folder.path().join("names")
    }

    /// Starts Mainstay with names of its own, and writes the file that tools ask from.
    fn start(&self) -> Result<(Server, SocketAddr), String> {
        let port = free_port();
        let mut names = String::new();
        let mut services: Vec<_> = (0..NAMES).map(service).collect();
        let namespace = json!({ "name": "harness" });
        services.push(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": namespace }));
        for number in 0..NAMES {
            writeln!(names, "name-{number}.harness.svc.cluster.local A").expect("memory");
        }
        let services = json!({ "apiVersion": "v1", "kind": "List", "items": services });
        let objects = self.folder.path().join("objects.yaml");
        let kubernetes =
            format!("kubernetes cluster.local {{\n manifests {}\n }}", objects.display());
        let conf = format!(".:{port} {{\n    {kubernetes}\n}}\n");
        let written = fs::write(self.names(), names)
            .and_then(|()| fs::write(&objects, services.to_string()))
            .and_then(|()| fs::write(self.folder.path().join("Corefile"), conf));
        written.map_err(|error| error.to_string())?;
        let conf = self.folder.path().join("Corefile");
        let mut server = Server::start(Start {
            name: "Mainstay",
            cpus: &SERVER_CPU.to_string(),
            program: &self.mainstay,
            arguments: ["--bind", "127.0.0.1", "--conf", &conf.display().to_string()]
                .map(str::to_owned)
                .to_vec(),
            folder: TempDir::new().map_err(|error| error.to_string())?,
            environment: Vec::new(),
        })?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let packet = question("name-7.harness.svc.cluster.local", 1, Edns::Without);
        let expected = Expected { rcode: 0, answers: 1 };
        server.wait(
            address,
            &Probe { packet, expected, holds: vec![vec![10, 0, 0, 7]] },
            START_MAX,
        )?;
        Ok((server, address))
    }
}

/// A Service with an address of its own.
fn service(number: u32) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": format!("name-{number}"), "namespace": "harness" },
        "spec": { "clusterIP": Ipv4Addr::from(0x0A00_0000 + number).to_string(), "ports": [] },
    })
}

/// A port of 127.0.0.1 that nobody has, neither for UDP nor for TCP.
pub fn free_port() -> u16 {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port of loopback");
        let address = socket.local_addr().expect("the port that it was bound to");
        if TcpListener::bind(address).is_ok() {
            return address.port();
        }
    }
}

/// The C source of the echo.
pub fn echo_source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/echo.c")
}

//! What does a large cluster cost: in memory, in time to know it, and while it changes?
//!
//! The server runs on one CPU; a stand-in API server and the clients share the other. Mainstay and
//! CoreDNS are told of the same objects and asked the same questions, and replies are checked.
//! `benches/cluster/run` does all of it; `--help` says how to measure a part.

#[path = "../support/mod.rs"]
mod support;

mod churn;
mod flaps;
mod floods;
mod huge;
mod options;
mod starts;
mod steady;
mod subject;
mod sync;
mod visible;

use std::process::ExitCode;

use clap::Parser;

use options::{Options, TABLES};
use subject::{Program, Subject, program};
use support::apiserver::{self, ApiServer, objects::Cluster};
use support::binaries::mainstays;
use support::machine::pin;
use support::report::{Report, Table};

/// Where the API server and the clients run.
pub const CLIENT_CPU: usize = 1;

/// What all tables share.
pub struct World {
    pub options: Options,
    pub cluster: Cluster,
}

/// How a table comes about.
type Chapter = fn(&World) -> Result<Table, String>;

const CHAPTERS: [Chapter; TABLES.len()] = [
    starts::measure,
    sync::measure,
    churn::measure_one,
    churn::measure_many,
    churn::measure_publish,
    flaps::measure,
    huge::measure,
    floods::measure,
];

/// What the picture shows: the main column of each table, and its title there.
const PICTURE: [(&str, &str, &str); TABLES.len()] = [
    ("Starts", "foreign, ms", "From the start to the first foreign answer, in ms"),
    ("Memory and sync", "steady, MiB", "Resident memory at rest, in MiB"),
    ("One change", "median", "One change, until it is seen: median, in ms"),
    ("Churn", "visible p99, ms", "Changes under queries, until they are seen: p99, in ms"),
    ("Cost of a change", "10 000 Services, µs", "CPU time of a change, 10 000 Services, in µs"),
    ("A flapping API server", "ratio", "CPU time while the API server comes and goes, as a ratio"),
    ("The huge answer", "CPU, UDP", "CPU time of the answer with 5 000 endpoints over UDP, in µs"),
    ("Floods", "p99", "Latency of cluster names under floods: p99, in µs"),
];

fn main() -> ExitCode {
    apiserver::run();
    match World::new(Options::parse()).and_then(|world| world.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("cluster: {problem}");
            ExitCode::FAILURE
        }
    }
}

impl World {
    fn new(options: Options) -> Result<Self, String> {
        pin(&[CLIENT_CPU])?;
        let cluster = options.services.map_or_else(Cluster::large, Cluster::of);
        Ok(Self { options, cluster })
    }

    fn run(&self) -> Result<(), String> {
        let mut report = Report {
            title: "A large cluster".to_owned(),
            versions: self.versions(),
            tables: Vec::new(),
        };
        let mut failed = Vec::new();
        for (name, measure) in TABLES.into_iter().zip(CHAPTERS) {
            if self.options.wants(name) {
                // What was measured before and comes after is not thrown away.
                let table = measure(self).unwrap_or_else(|problem| {
                    eprintln!("{name}: {problem}");
                    failed.push(name);
                    Table::failed(name, &problem)
                });
                println!("{}", table.markdown());
                report.tables.push(table);
            }
        }
        self.write(&report)?;
        match failed.as_slice() {
            [] => Ok(()),
            _ => Err(format!("failed: {}", failed.join(", "))),
        }
    }

    /// Writes the report, if a folder for it was named.
    fn write(&self, report: &Report) -> Result<(), String> {
        let Some(out) = &self.options.out else { return Ok(()) };
        let panels = PICTURE.into_iter().filter_map(|(table, column, title)| {
            let table = report.tables.iter().find(|it| it.title == table)?;
            Some(table.panel(title, column, "mainstay")).filter(|panel| !panel.bars.is_empty())
        });
        let panels: Vec<_> = panels.collect();
        report.write(out, "results", &panels).map_err(|error| error.to_string())
    }

    fn versions(&self) -> Vec<(String, String)> {
        let Cluster { services, namespaces, .. } = self.cluster;
        let endpoints = self.cluster.endpoint_total();
        let cluster =
            format!("{services} Services in {namespaces} Namespaces, {endpoints} endpoints");
        let programs = self.programs();
        let versions = programs.iter().map(|program| (program.name.clone(), program.version()));
        versions.chain([("cluster".to_owned(), cluster)]).collect()
    }

    /// The servers to measure: ours first.
    pub fn programs(&self) -> Vec<Program> {
        let ours = mainstays(&self.options.mainstay, "mainstay");
        let mut programs: Vec<_> = ours.iter().map(|(name, path)| program(name, path)).collect();
        programs.extend(self.options.coredns.as_ref().map(|path| program("CoreDNS", path)));
        programs
    }

    /// A stand-in API server with the cluster.
    pub fn api(&self) -> ApiServer {
        ApiServer::start(&self.cluster, CLIENT_CPU, 0)
    }

    /// A server that knows the cluster and is at rest.
    pub fn ready(&self, program: &Program, api: &ApiServer) -> Result<Subject, String> {
        let subject = program.start(&api.url(), None)?;
        subject.wait_known(&self.cluster)?;
        subject.wait_rest();
        Ok(subject)
    }

    /// How often what is quick is measured.
    pub fn rounds(&self) -> usize {
        if self.options.quick { 1 } else { 3 }
    }
}

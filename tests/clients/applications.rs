//! The applications: a program for each resolver, which looks names up all the time.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::process::Process;
use crate::programs::{self, Program};
use crate::world;

/// Where the sources of the programs are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/programs");
/// Pause between two lookups of a thread, of which there is one for each name.
const EVERY_MS: u32 = 250;
/// What is looked up: by the search list, as a whole, a headless Service, one of many Services,
/// a name elsewhere, one of many elsewhere.
const NAMES: [&str; 7] = [
    "web",
    "web.shop",
    "api.shop.svc.cluster.local",
    "db.shop",
    "s%.shop",
    "www.example.org",
    "{client}%.example.org",
];
/// The same, for who has no search list.
const WHOLE_NAMES: [&str; 5] = [
    "web.shop.svc.cluster.local",
    "db.shop.svc.cluster.local",
    "s%.shop.svc.cluster.local",
    "www.example.org",
    "{client}%.example.org",
];
/// How long a program goes on after the end, at most, and then some to tell.
const END_MAX: Duration = Duration::from_secs(20);

/// An application.
#[derive(Clone, Serialize, Deserialize)]
pub struct Application {
    pub name: String,
    pub version: String,
    command: Vec<String>,
    has_search_list: bool,
}

/// What one has seen.
#[derive(Clone, Default, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    pub lookups: u64,
    pub failed: u64,
    /// Since the epoch.
    pub last_failure_s: f64,
    pub slowest_s: f64,
}

/// Makes all of them in a folder.
///
/// # Errors
/// What is missing on this machine.
pub fn make(folder: &Path) -> Result<Vec<Application>, String> {
    let source = |file: &str| format!("{SOURCES}/{file}");
    let node = source("lookups.js");
    let mut all: Vec<Application> = [
        programs::glibc(&source("lookups.c"), folder)?,
        programs::musl(&source("lookups.c"), folder)?,
        programs::jvm(&source("Lookups.java"), folder)?,
        programs::go(&source("go"), folder)?,
        programs::netty(&source("NettyLookups.java"), folder)?,
    ]
    .map(|program| application(program.name, program, true))
    .into();
    for (name, way, has_search_list) in
        [("node lookup", "lookup", true), ("node resolve", "resolve", false)]
    {
        let mut program = programs::node(&node)?;
        program.command.push(way.to_owned());
        all.push(application(name, program, has_search_list));
    }
    Ok(all)
}

fn application(name: &str, program: Program, has_search_list: bool) -> Application {
    let Program { version, command, .. } = program;
    Application { name: name.to_owned(), version, command, has_search_list }
}

impl Application {
    /// Starts it for so many seconds.
    pub fn start(&self, seconds: u64) -> Process {
        let names = if self.has_search_list { &NAMES[..] } else { &WHOLE_NAMES };
        let own = self.name.replace(' ', "-");
        let names = names.iter().map(|name| name.replace("{client}", &own));
        let mut command = world::in_applications();
        command.args(&self.command).args([seconds.to_string(), EVERY_MS.to_string()]).args(names);
        Process::start(&self.name, &mut command)
    }
}

/// Waits for the end of one; answers its sums and all that it wrote.
pub fn end(mut process: Process) -> (Sums, String) {
    process.wait(END_MAX);
    let log = process.log();
    let sums = log.iter().rev().find_map(|line| serde_json::from_str(line).ok());
    let log = log.join("\n") + "\n";
    (sums.unwrap_or_else(|| panic!("it told no sums: {log}")), log)
}

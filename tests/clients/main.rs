//! Real applications look names up while servers, API server and upstreams fail: who notices?
//!
//! ```text
//! for Mainstay and for CoreDNS, in namespaces of their own (see world.rs):
//!   for each fault and lag:  two servers behind the DNAT of a Service
//!                            seven real programs ask; something breaks
//!                            ► failed lookups, and when the last one failed
//! ```
//!
//! `cargo test --test clients` runs some, short, and fails when an application of Mainstay's does.
//! `tests/clients/run` runs all at full length and writes `results.md` and the table of the README.

mod applications;
mod cases;
#[allow(dead_code, reason = "not all of it is used here")]
#[path = "../support/control_plane.rs"]
mod control_plane;
#[path = "../support/coredns.rs"]
mod coredns;
#[path = "../support/kubeapi.rs"]
mod kubeapi;
mod kubelet;
mod objects;
#[path = "../support/ports.rs"]
mod ports;
#[allow(dead_code, reason = "nothing is run to its end here")]
#[path = "../support/process.rs"]
mod process;
#[path = "../support/programs.rs"]
mod programs;
mod results;
mod runs;
#[allow(dead_code, reason = "nothing is measured here")]
#[path = "../support/steps.rs"]
mod steps;
mod upstream;
mod world;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use applications::Application;
use runs::{Job, Outcome};
use tempfile::TempDir;

/// What cargo calls this test.
const NAME: &str = "clients";
/// Where the program runs inside of a world: what it does there.
const INSIDE: &str = "MAINSTAY_CLIENTS_INSIDE";
/// Names the folder for results and logs of all runs at full length.
const WRITE: &str = "CLIENTS_WRITE";
/// Names the Mainstay to measure, where that is not the one just built.
const MAINSTAY: &str = "CLIENTS_MAINSTAY";
/// Names how many worlds of each server there are at a time, at full length.
const SHARES: &str = "CLIENTS_SHARES";
/// Names the programs of the control plane, as its build script tells them.
const CONTROL_PLANE: &str = "KUBEBUILDER_ASSETS";
/// Our server, in results.
const OURS: &str = "mainstay";
/// The other one.
const THEIRS: &str = "coredns";
/// Longest time of a world, in seconds.
const WORLD_MAX_S: u64 = 1_500;
/// Exit code of a build script: cannot be had here.
const NOT_HERE: i32 = 77;

fn main() {
    if let Ok(job) = std::env::var(INSIDE) {
        let job: Job = serde_json::from_str(&job).expect("we wrote it");
        job.run();
        return;
    }
    if !steps::is_wanted(NAME) {
        return;
    }
    let folder = TempDir::new().unwrap();
    let Some(needed) = steps::or_skipped(Needed::find(folder.path())) else { return };
    match std::env::var_os(WRITE) {
        Some(to) => full(&needed, Path::new(&to)),
        None => short(&needed, folder.path()),
    }
}

/// What all worlds need.
struct Needed {
    coredns: PathBuf,
    control_plane: PathBuf,
    applications: Vec<Application>,
    /// What stands in for files of /etc.
    files: PathBuf,
}

impl Needed {
    fn find(folder: &Path) -> Result<Self, String> {
        let files = folder.join("etc");
        world::write_files(&files);
        world::is_possible(&files)?;
        let (coredns, control_plane) = (coredns::coredns()?, control_plane()?);
        let applications = applications::make(folder)?;
        Ok(Self { coredns, control_plane, applications, files })
    }

    /// Starts a world for one of the servers.
    fn start(&self, server: &str, of: (usize, usize), is_short: bool, folder: &Path) -> World {
        let ours = || std::env::var_os(MAINSTAY).map(PathBuf::from);
        let ours = || ours().unwrap_or_else(|| env!("CARGO_BIN_EXE_mainstay").into());
        let (share, shares) = of;
        let job = Job {
            server: server.to_owned(),
            program: if server == OURS { ours() } else { self.coredns.clone() },
            is_short,
            share,
            shares,
            applications: self.applications.clone(),
            folder: folder.to_owned(),
        };
        let mut command = world::unshare(&self.files, WORLD_MAX_S);
        command.arg(std::env::current_exe().unwrap());
        command.env(INSIDE, serde_json::to_string(&job).unwrap());
        command.env(CONTROL_PLANE, &self.control_plane);
        // It ends when nobody holds the other end of its input.
        let child = command.stdin(Stdio::piped()).spawn().unwrap();
        World { job, child }
    }
}

/// The programs of the control plane: built once, before worlds do so at the same time.
fn control_plane() -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/controlplane/build");
    let output = Command::new(script).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("tests/controlplane/build: {error}"))?;
    match output.status.code() {
        Some(0) => {}
        Some(NOT_HERE) => return Err("no control plane on this machine, as told above".to_owned()),
        code => panic!("tests/controlplane/build failed: {code:?}"),
    }
    let text = String::from_utf8(output.stdout).unwrap();
    Ok(PathBuf::from(text.lines().last().expect("the last line is the folder")))
}

/// A world that runs.
struct World {
    job: Job,
    child: Child,
}

impl World {
    fn end(mut self) -> Vec<Outcome> {
        let input = self.child.stdin.take();
        let status = self.child.wait().unwrap();
        drop(input);
        assert!(status.success(), "the world of {} failed: {status}", self.job.server);
        serde_json::from_str(&std::fs::read_to_string(self.job.results()).unwrap()).unwrap()
    }
}

/// Some runs: no application of ours fails; those of both do when nobody answers, so that they can.
fn short(needed: &Needed, folder: &Path) {
    let start = |server| needed.start(server, (0, 1), true, folder);
    let worlds = [OURS, THEIRS].map(start);
    let outcomes: Vec<Outcome> = worlds.into_iter().flat_map(World::end).collect();
    println!("{}", results::details(&outcomes));
    let kinds = needed.applications.len();
    assert_eq!(outcomes.len(), 2 * kinds * cases::short().len(), "a run is missing");
    let mut lost = Vec::new();
    for outcome in &outcomes {
        assert!(outcome.sums.lookups > 0, "nothing was looked up: {outcome:?}");
        if outcome.fault == cases::NONE {
            assert!(outcome.sums.failed > 0, "it cannot fail: {outcome:?}");
        } else if outcome.server == OURS && outcome.sums.failed > 0 {
            lost.push(outcome);
        }
    }
    let told: String = lost.iter().map(|outcome| failures(folder, outcome)).collect();
    assert!(lost.is_empty(), "lookups failed with Mainstay:\n{told}");
}

/// The lines of lookups that failed.
fn failures(folder: &Path, outcome: &Outcome) -> String {
    let name = outcome.log();
    let log = std::fs::read_to_string(folder.join(&name)).unwrap();
    let failed = log.lines().filter(|line| line.starts_with("failed "));
    failed.map(|line| format!("{name}: {line}\n")).collect()
}

/// All runs, into a folder: `table.md`, `details.md`, `versions`, and logs.
fn full(needed: &Needed, folder: &Path) {
    let shares = std::env::var(SHARES).map_or(2, |text| text.parse().expect("a number"));
    let start = |server, share| needed.start(server, (share, shares), false, folder);
    let of = |server| (0..shares).map(move |share| (server, share));
    let places = of(OURS).chain(of(THEIRS));
    let worlds: Vec<World> = places.map(|(server, share)| start(server, share)).collect();
    let outcomes: Vec<Outcome> = worlds.into_iter().flat_map(World::end).collect();
    let table = results::table(&outcomes);
    println!("{table}");
    let versions: Vec<String> =
        needed.applications.iter().map(|it| format!("{} ({})", it.name, it.version)).collect();
    for (file, text) in [
        ("table.md", table),
        ("details.md", results::details(&outcomes)),
        ("versions", versions.join(", ") + "\n"),
    ] {
        std::fs::write(folder.join(file), text).unwrap();
    }
}

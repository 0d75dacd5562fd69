//! Drills run: servers are started, faults happen, and both reports are whole.
//!
//! `cargo test --test drills` runs some, short, to show that they work. `tests/drills/run` runs
//! all at full length and writes `results.md` and the table of the README.
//!
//! Where CoreDNS or the API server cannot be had, the test is skipped, but not in CI.

#[allow(dead_code, reason = "nothing is stopped here")]
#[path = "../support/control_plane.rs"]
mod control_plane;
#[path = "../support/coredns.rs"]
mod coredns;
#[path = "../support/kubeapi.rs"]
mod kubeapi;
#[path = "../support/ports.rs"]
mod ports;
#[allow(dead_code, reason = "nothing is stopped here")]
#[path = "../support/process.rs"]
mod process;
#[allow(dead_code, reason = "nothing is measured here")]
#[path = "../support/steps.rs"]
mod steps;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use control_plane::ControlPlane;
use mainstay::load::report::Report;
use process::Process;

/// What cargo calls this test.
const NAME: &str = "drills";
/// Names the folder for the reports of all drills at full length.
const WRITE: &str = "DRILLS_WRITE";
/// Names the Mainstay to measure, where that is not the one just built.
const MAINSTAY: &str = "DRILLS_MAINSTAY";
/// Names the drills to run, with commas between.
const CHOSEN: &str = "DRILLS";
/// Those that a test runs, and the part of their length: one of the process, one of the cluster.
const SHORT: [(&str, f64); 3] =
    [("kill9-node", 0.5), ("headless-churn", 0.3), ("rollout-deploy", 0.5)];
/// Longest time of one drill, both servers together.
const DRILL_MAX: Duration = Duration::from_secs(600);
/// How often a drill is tried on a machine that stands still.
const TRIES: usize = 3;
/// Longest pause of who looks up that leaves answers comparable: it follows the cluster for itself,
/// and waits 500 ms for what a server has heard of first.
const PAUSE_MS_MAX: f64 = 400.0;
/// What runs, beside Mainstay.
const PEER: &str = "coredns";

fn main() {
    if !steps::is_wanted(NAME) {
        return;
    }
    let Some((coredns, plane)) = steps::or_skipped(prepare()) else { return };
    match std::env::var_os(WRITE) {
        Some(folder) => all(&coredns, &plane, Path::new(&folder)),
        None => short(&coredns, &plane),
    }
}

fn prepare() -> Result<(PathBuf, ControlPlane), String> {
    let coredns = coredns::coredns()?;
    Ok((coredns, ControlPlane::without_controllers()?))
}

/// Some drills, short: each server's report is whole, and no answer of ours was untrue.
fn short(coredns: &Path, plane: &ControlPlane) {
    let folder = tempfile::tempdir().unwrap();
    for (drill, scale) in SHORT {
        steps::step(drill, || {
            let [ours, theirs] = undisturbed(|| {
                run(drill, scale, coredns, plane, folder.path());
                ["mainstay", PEER].map(|server| report(folder.path(), drill, server))
            });
            for report in [&ours, &theirs] {
                assert_eq!(report.ended, "complete");
                assert!(report.total.lookups > 0, "nothing was looked up");
                assert!(!report.faults.is_empty(), "nothing was done to the server");
                assert!(report.faults.iter().all(|fault| fault.error.is_none()));
                assert_eq!(report.by_resolver.len(), 6, "a resolver is missing");
                assert!(report.total.truth.ok > 0, "nothing was compared with the objects");
            }
            assert_eq!(ours.total.outcomes.wrong, 0, "untrue answers");
            assert_eq!(ours.total.truth.wrong_negative, 0, "denied what was there");
        });
    }
}

/// The reports of a drill; those of another try where the machine stood still for so long that who
/// compares answers cannot know what the server had heard of when it answered.
fn undisturbed(mut drill: impl FnMut() -> [Report; 2]) -> [Report; 2] {
    for _ in 1..TRIES {
        let reports = drill();
        let ours = &reports[0];
        let is_untrue = ours.total.outcomes.wrong > 0 || ours.total.truth.wrong_negative > 0;
        if !is_untrue || ours.generator.lateness.max <= PAUSE_MS_MAX {
            return reports;
        }
        println!("once more: the machine stood still for {} ms", ours.generator.lateness.max);
    }
    drill()
}

/// All drills at full length, into a folder.
fn all(coredns: &Path, plane: &ControlPlane, folder: &Path) {
    let chosen = std::env::var(CHOSEN).ok();
    for drill in mainstay::load::drill::file::Drill::built_in() {
        if chosen.as_ref().is_none_or(|names| names.split(',').any(|name| name == drill.name)) {
            let output = run(&drill.name, 1.0, coredns, plane, folder);
            let table = output.find("### ").map_or(&*output, |begin| &output[begin..]);
            std::fs::write(folder.join(format!("{}.md", drill.name)), table).unwrap();
            println!("{output}");
        }
    }
}

/// Runs a drill on both servers; answers what it printed.
fn run(drill: &str, scale: f64, coredns: &Path, plane: &ControlPlane, folder: &Path) -> String {
    let mainstay = std::env::var_os(MAINSTAY);
    let mainstay = mainstay.unwrap_or_else(|| env!("CARGO_BIN_EXE_mainstay").into());
    let mut command = Command::new(mainstay);
    command
        .args(["load", "drill", drill, "--scale", &scale.to_string()])
        .arg("--peer")
        .arg(format!("{PEER}={} -conf {{conf}}", coredns.display()))
        .arg("--kubeconfig")
        .arg(plane.admin_kubeconfig())
        .arg("--out")
        .arg(folder);
    let (code, output) = Process::run("mainstay load drill", &mut command, DRILL_MAX);
    assert_eq!(code, Some(0), "{output}");
    output
}

fn report(folder: &Path, drill: &str, server: &str) -> Report {
    let path = folder.join(format!("{drill}.{server}.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

//! Our profiles of resolvers send what the real ones send.
//!
//! ```text
//! for each resolver, in a network and mount namespace of its own:
//!   for each case:   scripted servers on 127.0.0.11:53, .12:53 ◄── the real program
//!                    the same servers                          ◄── our profile
//!                    the same packets in the same order, the same outcome
//! ```
//!
//! The program runs itself once more inside of each namespace; all resolvers run at once.

#[path = "../support/programs.rs"]
mod programs;
#[path = "../support/steps.rs"]
#[allow(dead_code)] // Nothing is measured.
mod steps;

mod cases;
mod octets;
mod ours;
mod real;
mod servers;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use cases::{CASES, Case};
use programs::Program;
use servers::Servers;
use steps::{skip::skip, step};
use tempfile::TempDir;

/// What cargo calls this test.
const NAME: &str = "resolvers";
/// Set to the profile's name where the program runs inside of a namespace.
const INSIDE: &str = "MAINSTAY_RESOLVERS_INSIDE";
/// Set to show the packets of all cases, also those that are the same.
const SHOW: &str = "MAINSTAY_RESOLVERS_SHOW";
/// Set to the name of a real resolver, to try that one alone.
const ONLY: &str = "MAINSTAY_RESOLVERS_ONLY";
/// Longest time for a program and its case, in seconds: some wait for silent servers.
const PROGRAM_MAX_S: &str = "60";
/// Longest time for all cases of a resolver, in seconds. On 2026-11-22 the slowest took
/// 65 s on a machine of two busy cores.
const RUN_MAX_S: &str = "600";
/// What a case is that does not differ.
const SAME: &str = "same";
/// How often a case is tried before a difference counts: a program that the machine stopped for
/// longer than a round looks as if it had waited for a reply, and what c-ares does next depends on
/// whether it finds two replies at once, or is woken between them.
const TRIES: usize = 10;
/// Furnishes a namespace, with what stands in for files of /etc in place, and runs the arguments.
/// Netty asks for AAAA where an interface has an IPv6 address that is not of the loopback.
const PREPARE: &str = r#"
ip link set lo up && ip addr add fd53::1/128 dev lo || exit
for file in "$0"/*; do mount --bind "$file" "/etc/${file##*/}" || exit; done
exec "$@""#;

fn main() -> ExitCode {
    if let Ok(profile) = std::env::var(INSIDE) {
        return inside(&profile);
    }
    if !steps::is_wanted(NAME) {
        return ExitCode::SUCCESS;
    }
    if let Err(why) = namespaces_are_here() {
        skip(&why);
        return ExitCode::SUCCESS;
    }
    let folder = TempDir::new().unwrap();
    let only = std::env::var(ONLY);
    let is_wanted = |name: &str| only.as_ref().map_or(true, |only| only == name);
    let wanted = real::ALL.into_iter().filter(|(name, _)| is_wanted(name));
    let runs: Vec<_> = wanted
        .map(|(name, make)| step(name, || make(folder.path())))
        .collect::<Vec<_>>()
        .into_iter()
        .filter_map(steps::or_skipped)
        .map(|real| Run::start(real, folder.path()))
        .collect();
    let ended: Vec<Ended> = runs.into_iter().map(Run::end).collect();
    table(&ended);
    let is_same = ended.iter().all(|one| one.is_same);
    if is_same { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How all cases of a resolver went.
struct Ended {
    name: &'static str,
    told: String,
    is_same: bool,
}

/// What a case came to, behind its name, in a line of what is told.
fn head(case: &Case) -> String {
    format!("  {:<28} ", case.name)
}

/// Tells it all once more: a line for each case, a column for each resolver.
fn table(ended: &[Ended]) {
    let names: String = ended.iter().map(|one| format!("{:<8}", one.name)).collect();
    println!("\n{:<31}{names}", "");
    for case in CASES {
        let head = head(case);
        let of = |one: &Ended| {
            let came_to = one.told.lines().find_map(|line| line.strip_prefix(&head));
            format!("{:<8}", came_to.unwrap_or("-"))
        };
        println!("{head}{}", ended.iter().map(of).collect::<String>());
    }
}

fn namespaces_are_here() -> Result<(), String> {
    let output = unshare().args(["ip", "link", "set", "lo", "up"]).output();
    let output = output.map_err(|error| format!("unshare: {error}; install util-linux"))?;
    let why = String::from_utf8_lossy(&output.stderr);
    let failed = || format!("no namespaces: {}; run as root, install iproute2", why.trim());
    output.status.success().then_some(()).ok_or_else(failed)
}

fn unshare() -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", RUN_MAX_S, "unshare", "--mount", "--net", "--"]);
    command
}

/// All cases of one resolver, on their way.
struct Run {
    real: Program,
    child: std::process::Child,
}

impl Run {
    fn start(real: Program, folder: &Path) -> Self {
        let files = folder.join(format!("etc-{}", real.name));
        stand_ins(&files);
        let mut command = unshare();
        command.args(["sh", "-c", PREPARE]).arg(files).arg(std::env::current_exe().unwrap());
        command.args(&real.command).env(INSIDE, real.name);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        Self { real, child }
    }

    /// Tells what differs.
    fn end(self) -> Ended {
        let output = self.child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("{}: {}", self.real.name, self.real.version);
        let is_shown = |line: &&str| !line.ends_with(SAME) || std::env::var_os(SHOW).is_some();
        told.lines().filter(is_shown).for_each(|line| println!("{line}"));
        Ended { name: self.real.name, told, is_same: output.status.success() }
    }
}

/// Files for those of /etc that resolvers read, where the machine has them.
fn stand_ins(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    let files = [
        ("resolv.conf", ""),
        // A daemon of the host, such as systemd-resolved, would answer from outside.
        ("nsswitch.conf", "hosts: files dns\n"),
        ("hosts", "127.0.0.1 localhost\n"),
        ("gai.conf", ""),
    ];
    for (file, text) in files {
        if Path::new("/etc").join(file).exists() {
            std::fs::write(folder.join(file), text).unwrap();
        }
    }
}

/// Inside of the namespace: all cases, one after the other.
#[tokio::main]
async fn inside(profile: &str) -> ExitCode {
    let command: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let servers = Servers::start().await;
    let mut is_same = true;
    for case in CASES.iter().filter(|case| case.is_for(profile)) {
        is_same &= is_case_same(&servers, profile, &command, case).await;
    }
    if is_same { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn is_case_same(servers: &Servers, profile: &str, command: &[PathBuf], case: &Case) -> bool {
    let (mut real, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..TRIES {
        servers.begin(case.script);
        let outcomes = run_real(command, case).await;
        real = [servers::lines(servers.events().await), outcomes].concat();
        servers.begin(case.script);
        let outcomes = ours::run(profile, case).await;
        ours = [servers::lines(servers.events().await), outcomes].concat();
        if real == ours {
            break;
        }
    }
    let is_same = real == ours;
    println!("{}{}", head(case), if is_same { SAME } else { "DIFFERS" });
    if !is_same || std::env::var_os(SHOW).is_some() {
        beside(&real, &ours);
    }
    is_same
}

/// Prints both lists side by side.
fn beside(real: &[String], ours: &[String]) {
    let width = real.iter().map(String::len).max().unwrap_or(0).max(40);
    for at in 0..real.len().max(ours.len()) {
        let [one, other] = [real, ours].map(|lines| lines.get(at).map_or("", String::as_str));
        let mark = if one == other { ' ' } else { '|' };
        println!("      {one:<width$} {mark} {other}");
    }
}

/// What the real program says of each name.
async fn run_real(command: &[PathBuf], case: &Case) -> Vec<String> {
    std::fs::write("/etc/resolv.conf", case.conf).unwrap();
    let mut program = tokio::process::Command::new("timeout");
    program.args(["--signal=KILL", PROGRAM_MAX_S]).args(command).args(case.hosts);
    let output = program.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let lines = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<String> = lines.lines().map(normal).collect();
    if lines.len() == case.hosts.len() {
        return lines;
    }
    // Killed, or broken: no outcome of ours is like that, and the next try may go better.
    let errors = String::from_utf8_lossy(&output.stderr);
    vec![format!("{} of {} outcomes: {errors}", lines.len(), case.hosts.len())]
}

/// An outcome without its reason, addresses sorted.
fn normal(line: &str) -> String {
    let mut words = line.split(' ');
    let outcome = words.next().unwrap_or_default();
    if outcome != "ok" {
        return outcome.to_owned();
    }
    let addresses: BTreeSet<IpAddr> = words.filter_map(|word| word.parse().ok()).collect();
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    format!("ok {}", addresses.join(" "))
}

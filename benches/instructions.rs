//! How many instructions does `answer_now` take for one query: a packet in, a reply out?
//!
//! Time is noise on a shared machine; instructions are not. valgrind counts them, and the counts
//! are compared with those on file: more than 3 % above is a failure, and so is more than 3 %
//! below, because a gain that is not written down can be lost unseen. A change that is worth more
//! instructions, and another compiler, write the file anew, in a commit of its own.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, ExitCode};
use std::time::Instant;

use mainstay::resolve::now::{Client, Now, answer_now};
use mainstay::resolve::step::Desk;
use mainstay::resolve::tally::Proto;
use mainstay::wire::{RecordType, UDP_MAX};

#[path = "../tests/support/plan.rs"]
mod plan;

/// Services in the Zone, and names asked for.
const NAMES: usize = 1_000;
/// Queries that are counted; every other one brings OPT.
const ASKED: usize = 10_000;
/// Runs of which the least count is taken.
const RUNS: usize = 5;
/// Largest difference that is no failure, in percent.
const CHANGE_MAX: f64 = 3.0;
const ON_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");
const CLIENT: Client = Client { proto: Proto::Udp, address: IpAddr::V4(Ipv4Addr::LOCALHOST) };

/// A kind of question about the Service with a number.
type Question = fn(usize) -> (String, RecordType);

/// The cases of the fast path.
const CASES: [(&str, Question); 5] = [
    ("cluster-ip", |n| (format!("s{n}.n{}.svc.cluster.local.", n % 16), RecordType::A)),
    ("headless-5", |n| (format!("h{n}.n{}.svc.cluster.local.", n % 16), RecordType::A)),
    ("search-list-nxdomain", |n| {
        (format!("s{n}.n1.svc.cluster.local.n1.svc.cluster.local."), RecordType::A)
    }),
    ("ptr", |n| {
        let [a, b, c, d] = (0x6000_0000 + n as u32 * 8).to_be_bytes();
        (format!("{d}.{c}.{b}.{a}.in-addr.arpa."), RecordType::PTR)
    }),
    ("cached-foreign", |n| (format!("www{n}.example.org."), RecordType::A)),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--ask", case] => {
            ask(case);
            ExitCode::SUCCESS
        }
        // cargo bench passes --bench; cargo test does not, and would count a debug build.
        ["--bench"] => compare(),
        ["--write", "--bench"] => write(),
        _ => {
            eprintln!("cargo bench --bench instructions              compares with the file");
            eprintln!("cargo bench --bench instructions -- --write   writes it anew");
            ExitCode::FAILURE
        }
    }
}

/// Compares each case with its count on file.
fn compare() -> ExitCode {
    let on_file = read();
    let mut is_good = true;
    for (case, _) in CASES {
        let Some(counted) = count(case) else { return ExitCode::FAILURE };
        let Some(known) = on_file.get(case) else {
            eprintln!("{case}: {counted} instructions, and none on file; run with --write");
            is_good = false;
            continue;
        };
        let rise = (counted as f64 / *known as f64 - 1.0) * 100.0;
        println!("{case}: {counted} instructions per query, {known} on file ({rise:+.1} %)");
        if rise > CHANGE_MAX {
            eprintln!("{case}: {counted} instructions are {rise:.1} % more than {known} on file");
            is_good = false;
        } else if rise < -CHANGE_MAX {
            eprintln!("{case}: {counted} instructions are {:.1} % less; write them down", -rise);
            is_good = false;
        }
    }
    if !is_good {
        eprintln!("if this is wanted: cargo bench --bench instructions -- --write");
        eprintln!("the file is of {}; this is {}", of_file(), compiler());
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Writes the counts of this build down.
fn write() -> ExitCode {
    let mut text = format!("# Instructions per query, of {}\n", compiler());
    for (case, _) in CASES {
        let Some(counted) = count(case) else { return ExitCode::FAILURE };
        text += &format!("{case} {counted}\n");
    }
    print!("{text}");
    fs::write(ON_FILE, text).expect("the file beside the bench can be written");
    ExitCode::SUCCESS
}

/// What decides the instructions beside our code.
fn compiler() -> String {
    let version = Command::new("rustc").arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    format!("{}, {}", version.unwrap_or_else(|_| "an unknown rustc".into()), env::consts::ARCH)
}

/// The same of the counts on file.
fn of_file() -> String {
    let text = fs::read_to_string(ON_FILE).unwrap_or_default();
    let head = text.lines().next().and_then(|line| line.split_once(", of "));
    head.map_or_else(|| "an unknown rustc".into(), |(_, compiler)| compiler.to_owned())
}

fn read() -> BTreeMap<String, u64> {
    let text = fs::read_to_string(ON_FILE).unwrap_or_default();
    let line = |line: &str| {
        let (case, count) = line.split_once(' ')?;
        Some((case.to_owned(), count.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// Has valgrind count one case. The tables have random seeds, so the least of some runs is taken.
fn count(case: &str) -> Option<u64> {
    (0..RUNS).map(|_| count_once(case)).min()?
}

fn count_once(case: &str) -> Option<u64> {
    let program = env::current_exe().expect("a running program has a path");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=*counted_pass*")
        .arg(program)
        .args(["--ask", case])
        // The same copies and compares on every processor.
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-ERMS,-FSRM")
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            eprintln!("valgrind cannot be run ({error}); install it and run again");
            return None;
        }
    };
    let told = String::from_utf8_lossy(&output.stderr);
    let collected = told.lines().find_map(|line| line.split_once("Collected :"));
    let total: Option<u64> = collected.and_then(|(_, total)| total.trim().parse().ok());
    if total.is_none_or(|total| total == 0) || !output.status.success() {
        eprintln!("{case}: valgrind counted nothing:\n{told}");
        return None;
    }
    total.map(|total| total / ASKED as u64)
}

/// Answers the questions of one case, under valgrind.
fn ask(case: &str) {
    let Some((_, question)) = CASES.iter().find(|(name, _)| *name == case) else {
        panic!("{case} is no case");
    };
    let fixture = plan::fixture(NAMES, None);
    let requests: Vec<Vec<u8>> = (0..ASKED)
        .map(|n| {
            let (name, rtype) = question(n % NAMES);
            plan::request(&name, rtype, n.is_multiple_of(2).then_some(1232))
        })
        .collect();
    let now = Instant::now();
    if case == "cached-foreign" {
        requests.iter().for_each(|request| fixture.keep(request, [192, 0, 2, 1], now));
    }
    let mut desk = Desk::new();
    // Once beforehand, so that the worker's own table is filled.
    assert!(pass(&fixture, &requests, &mut desk, now) > 0);
    assert!(black_box(counted_pass(&fixture, &requests, &mut desk, now)) > 0);
}

/// What valgrind counts; it is told so by this name, which nothing inside may have in its own.
#[inline(never)]
fn counted_pass(
    fixture: &plan::Fixture,
    requests: &[Vec<u8>],
    desk: &mut Desk,
    now: Instant,
) -> usize {
    pass(fixture, requests, desk, now)
}

/// Answers every request, and tells how many octets that made.
#[inline(always)]
fn pass(fixture: &plan::Fixture, requests: &[Vec<u8>], desk: &mut Desk, now: Instant) -> usize {
    let port = fixture.plan.port(plan::PORT).expect("the Plan of the fixture");
    let mut out = [0; UDP_MAX];
    let mut reply_bytes = 0;
    for request in requests {
        match answer_now(port, request, CLIENT, now, desk, &mut out) {
            Now::Send { served, .. } => reply_bytes += served.reply_bytes,
            _ => panic!("a case is not answered at once"),
        }
    }
    reply_bytes
}

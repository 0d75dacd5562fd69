//! A canary with its metrics, two reports side by side, and the list of drills.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::fake::{Fake, at_once, code};
use crate::ports;
use crate::running::{Ended, Load, run_with_names, start_with_names, wait_until};

const NAMES: &str = "web.example. A\n";

/// The page at a path; `None` while nobody answers.
fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    Some(reply)
}

/// The sum of the samples of a metric.
fn sum(page: &str, name: &str) -> f64 {
    let samples = page.lines().filter(|line| line.starts_with(name));
    samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

#[test]
fn a_canary_runs_until_it_is_told_to_end() {
    let server = Fake::good();
    let port = ports::free();
    let words = format!("{} --canary 50 --metrics 127.0.0.1:{port} --quiet", server.address);
    let load = start_with_names(NAMES, &words);
    server.wait_for(20);
    wait_until("lookups are counted", || {
        let page = get(port, "/metrics").unwrap();
        assert!(page.starts_with("HTTP/1.1 200"), "{page}");
        sum(&page, "mainstay_load_lookups_total") >= 20.0
    });
    load.signal(Signal::TERM);
    let ended = load.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    // It has no end of its own, so this was all of it.
    assert_eq!(ended.report().ended, "complete");
    assert_eq!(ended.report().plan.arrivals, "poisson:50");
    assert!(get(port, "/metrics").is_none());
}

#[test]
fn any_run_may_serve_metrics() {
    let server = Fake::good();
    let port = ports::free();
    let words = format!("{} --rate 100 --duration 1h --metrics 127.0.0.1:{port}", server.address);
    let load = start_with_names(NAMES, &words);
    server.wait_for(10);
    assert!(get(port, "/metrics").unwrap().contains("mainstay_load_"));
    assert!(!get(port, "/banana").unwrap().starts_with("HTTP/1.1 200"));
    let other = run_with_names(NAMES, &words);
    assert_eq!(other.code, Some(2), "{}", other.stderr);
    assert!(other.stderr.contains("--metrics") && other.stderr.contains(&port.to_string()));
    load.signal(Signal::INT);
    assert_eq!(load.end().code, Some(0));
}

/// Runs with these words alone.
fn load(words: &[&str]) -> Ended {
    Load::start_in(TempDir::new().unwrap(), words).end()
}

#[test]
fn two_reports_are_laid_side_by_side() {
    let good = Fake::good();
    let bad = Fake::udp(|question| at_once(code(question, 2)));
    let reports = [good.address, bad.address]
        .map(|server| run_with_names(NAMES, &format!("{server} --rate 200 --duration 500ms")));
    let paths = [0, 1].map(|at: usize| reports[at].path("report.json").display().to_string());
    let text = load(&["compare", &paths[0], &paths[1]]);
    assert_eq!(text.code, Some(0), "{}", text.stderr);
    assert!(text.stdout.contains("p99") && text.stdout.contains("100"), "{}", text.stdout);
    let json = load(&["compare", &paths[0], &paths[1], "--json"]);
    assert_eq!(json.code, Some(0), "{}", json.stderr);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert!(json.is_object(), "{json}");
}

#[test]
fn drills_are_listed_and_others_are_refused() {
    let listed = load(&["drill"]);
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    assert!(listed.stdout.contains("kill9-node"), "{}", listed.stdout);
    let refused = load(&["drill", "banana"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("banana"), "{}", refused.stderr);
    assert_eq!(refused.stderr.trim_end().lines().count(), 1, "{}", refused.stderr);
}

//! Workers that start together and make one report, as the Pods of an Indexed Job do.

use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::fake::{Fake, address};
use crate::ports;
use crate::running::{Ended, Load};

/// One worker; with its own arguments last.
fn start(server: &Fake, port: u16, index: u32, words: &str) -> Load {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("names"), "web.example. A\nmail.example. AAAA\n").unwrap();
    let line = format!(
        "{} --names names --json report.json --coordinator 127.0.0.1:{port} --index {index} {words}",
        server.address
    );
    Load::start_in(folder, &line.split_whitespace().collect::<Vec<_>>())
}

fn start_three(server: &Fake, words: &str) -> Vec<Load> {
    let port = ports::free();
    (0..3).map(|index| start(server, port, index, &format!("--workers 3 {words}"))).collect()
}

#[test]
fn three_workers_make_one_report() {
    let server = Fake::good();
    let workers =
        start_three(&server, "--rate 300 --duration 1s --clients 6 --slo failed=0,ok>=300");
    let ended: Vec<Ended> = workers.into_iter().map(Load::end).collect();
    let codes: Vec<_> = ended.iter().map(|ended| ended.code).collect();
    assert_eq!(codes, [Some(0); 3], "{}", ended[0].stderr);
    let report = ended[0].report();
    assert_eq!((report.workers, &*report.ended), (3, "complete"));
    assert_eq!((report.total.lookups, report.total.outcomes.ok), (300, 300));
    assert_eq!((report.total.latency.count, report.packets.sent), (300, 300));
    assert_eq!(report.timeline.slots.iter().map(|slot| slot.due).sum::<u64>(), 300);
    assert_eq!((report.plan.name_count, report.slo.len()), (2, 2));
    assert_eq!(server.asked().len(), 300);
    assert!(ended[1].report.is_none() && ended[2].report.is_none(), "only worker 0 reports");
}

#[test]
fn a_worker_with_another_load_is_refused() {
    let server = Fake::good();
    let port = ports::free();
    let first = start(&server, port, 0, "--workers 2 --rate 100 --duration 500ms");
    for (words, why) in [
        ("--workers 2 --rate 200 --duration 500ms", "all but --index must be equal"),
        ("--workers 3 --rate 100 --duration 500ms", "it has --workers 3, worker 0 has 2"),
    ] {
        let other = start(&server, port, 1, words).end();
        assert_eq!(other.code, Some(2), "{words}: {}", other.stderr);
        assert!(other.stderr.contains("worker 0 refuses this worker"), "{}", other.stderr);
        assert!(other.stderr.contains(why), "{words}: {}", other.stderr);
    }
    let second = start(&server, port, 1, "--workers 2 --rate 100 --duration 500ms").end();
    let first = first.end();
    assert_eq!((first.code, second.code), (Some(0), Some(0)), "{}", first.stderr);
    assert_eq!(first.report().total.lookups, 50);
}

#[test]
fn a_worker_that_vanishes_is_named() {
    let server = Fake::good();
    let mut workers = start_three(&server, "--rate 300 --duration 2s");
    server.wait_for(100);
    let vanishing = workers.pop().unwrap();
    vanishing.signal(Signal::KILL);
    assert_eq!(vanishing.end().code, None);
    let ended = workers.remove(0).end();
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let report = ended.report();
    assert_eq!((report.workers, &*report.ended), (2, "without worker 2, which vanished"));
    assert_eq!(report.total.lookups, 400);
}

#[test]
fn all_workers_end_when_the_first_is_interrupted() {
    let server = Fake::good();
    let workers = start_three(&server, "--rate 300 --duration 1h");
    server.wait_for(100);
    workers[0].signal(Signal::TERM);
    let ended: Vec<Ended> = workers.into_iter().map(Load::end).collect();
    assert!(ended.iter().all(|ended| ended.code == Some(0)), "{ended:?}");
    let report = ended[0].report();
    assert_eq!((report.workers, &*report.ended), (3, "interrupted"));
    assert_eq!(report.total.outcomes.ok, server.asked().len() as u64);
}

#[test]
fn a_worker_that_is_done_early_leaves_the_others_their_time() {
    // Worker 0 has its one lookup at once; worker 1 is answered late.
    let server = Fake::udp(|question| vec![(Duration::from_millis(800), address(question))]);
    let port = ports::free();
    let words = "--workers 2 --rate 2 --duration 600ms";
    let workers = [0, 1].map(|index| start(&server, port, index, words));
    let ended = workers.map(Load::end);
    let report = ended[0].report();
    assert_eq!((report.workers, &*report.ended), (2, "complete"));
    assert_eq!((report.total.lookups, report.total.outcomes.ok), (2, 2));
}

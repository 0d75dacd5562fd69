//! Faults under load: they are done at their time, undone, and told with what came of them.

use mainstay::load::report::{FaultMark, Report};
use rustix::process::Signal;

use crate::fake::Fake;
use crate::mainstay::{Mainstay, Site};
use crate::ports;
use crate::running::{Load, run, run_with_names, wait_until};

/// Names of the cluster, answered from memory.
const CLUSTER: &str = "web.shop.svc.cluster.local. A\n";
/// Names that go to the upstream, each another one: no cache helps.
const FOREIGN: &[&str] = &["--mix", "foreign=100", "--popularity", "uniform"];

/// The only fault, which was done.
fn only(report: &Report) -> &FaultMark {
    let [fault] = &report.faults[..] else { panic!("{:?}", report.faults) };
    assert_eq!(fault.error, None, "{fault:?}");
    fault
}

/// Loads a server of its own, which is started by the run.
fn load_own(words: &str) -> Report {
    let site = Site::new("");
    let command = site.words().join(" ");
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("names"), CLUSTER).unwrap();
    let address = site.address();
    let mut all = vec![&*address, "--names", "names", "--json", "report.json"];
    all.extend(["--server-command", &command]);
    all.extend(words.split_whitespace());
    let ended = Load::start_in(folder, &all).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.report().clone()
}

#[test]
fn a_killed_server_is_started_again_and_its_recovery_told() {
    let report = load_own("--rate 100 --duration 8s --timeout 500ms --fault kill9@500ms");
    let (fault, recovery) = (only(&report), &report.total.recovery);
    assert_eq!((&*fault.what, fault.until_s), ("kill9@500ms", None));
    assert!(fault.at_s >= 0.5, "{fault:?}");
    assert_eq!(report.total.lookups, 800);
    // It is away for two seconds at least.
    assert!(fault.failed >= 100 && fault.failed < 800, "{fault:?}");
    // None failed before.
    assert_eq!(fault.failed, recovery.failed);
    assert!(fault.first_failure_after_s.unwrap() <= fault.last_failure_after_s.unwrap());
    assert_eq!((recovery.stuck_clients, recovery.clients), (0, 20));
    assert!(recovery.longest_outage_s >= 1.0);
}

#[test]
fn a_server_that_is_told_to_end_or_to_restart_comes_again() {
    for fault in ["term", "restart"] {
        let report =
            load_own(&format!("--rate 50 --duration 5s --timeout 200ms --fault {fault}@500ms"));
        only(&report);
        assert_eq!(report.total.lookups, 250);
        assert!(report.total.outcomes.ok >= 50, "{fault}: {:?}", report.total.outcomes);
        assert_eq!(report.total.recovery.stuck_clients, 0, "{fault}");
    }
}

#[test]
fn a_stop_shows_in_the_latency_of_those_that_were_due() {
    let report = load_own("--rate 200 --duration 3s --slow 100ms --fault stop@500ms..2s");
    let fault = only(&report);
    let stopped_s = fault.until_s.unwrap() - fault.at_s;
    assert!(stopped_s >= 0.75, "{fault:?}");
    assert_eq!((report.total.lookups, report.total.outcomes.try_again), (600, 0));
    // An open loop: those due while it is stopped, but for the last 100 ms, wait for longer.
    let are_slow = report.total.outcomes.slow as f64;
    assert!(are_slow >= (stopped_s - 0.1) * 200.0 / 2.0, "{:?}", report.total.outcomes);
    assert!(report.total.latency.max >= stopped_s * 1e3 - 100.0, "{:?}", report.total.latency);
    let (at, until) = (slot(&report, fault.at_s), slot(&report, fault.until_s.unwrap()));
    let due: u64 = report.timeline.slots[at..=until].iter().map(|slot| slot.due).sum();
    assert!(due >= 50, "lookups went on becoming due: {due}");
}

/// The slot of a time.
fn slot(report: &Report, time_s: f64) -> usize {
    (time_s / report.timeline.slot_s) as usize
}

/// A load without an end that has stopped a server which it did not start.
fn load_that_stops(server: &Mainstay, timeout: &str) -> Load {
    let (address, manifests, pid) = (server.address(), server.manifests(), server.pid());
    let words = format!("--rate 100 --duration 1h --pid {pid} --fault stop@300ms");
    let mut arguments = vec![&*address, "--manifests", &manifests, "--timeout", timeout];
    arguments.extend(words.split(' '));
    let load = Load::start(&arguments);
    wait_until("it is stopped", || server.is_stopped());
    load
}

#[test]
fn another_process_is_signalled_and_goes_on_when_the_run_is_interrupted() {
    let server = Mainstay::start("");
    let load = load_that_stops(&server, "500ms");
    load.signal(Signal::INT);
    let ended = load.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(only(ended.report()).until_s.is_some());
    wait_until("it goes on", || !server.is_stopped());
}

#[test]
fn another_process_goes_on_after_a_second_signal() {
    let server = Mainstay::start("");
    let load = load_that_stops(&server, "1h");
    load.signal(Signal::TERM);
    load.signal(Signal::INT);
    assert_eq!(load.end().report().ended, "interrupted");
    wait_until("it goes on", || !server.is_stopped());
}

#[test]
fn another_process_that_is_told_to_end_stays_away() {
    let mut server = Mainstay::start("");
    let (address, pid) = (server.address(), server.pid().to_string());
    let manifests = server.manifests();
    let ended = run(&[
        &address,
        "--manifests",
        &manifests,
        "--rate",
        "100",
        "--duration",
        "4s",
        "--pid",
        &pid,
        "--fault",
        "term@500ms",
        "--fault",
        "kill9@1500ms",
        "--timeout",
        "200ms",
        "--slo",
        "stuck_clients=0",
    ]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    wait_until("it has ended", || server.has_ended());
    let [term, kill] = &ended.report().faults[..] else { panic!("{:?}", ended.report().faults) };
    assert!(term.error.is_none(), "{term:?}");
    // It may still take its time to end.
    let is_gone = kill.error.as_ref().is_none_or(|why| why.contains(&pid));
    assert!(is_gone, "{kill:?}");
    assert_eq!(ended.report().total.recovery.stuck_clients, 20);
}

#[test]
fn a_command_is_run_at_its_time() {
    let server = Fake::good();
    let words = format!(
        "{} --rate 100 --duration 2s --fault command:'touch${{IFS}}done'@300ms",
        server.address
    );
    let words = words.replace('\'', "");
    let ended = run_with_names("web.example. A\n", &words);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.path("done").exists());
    assert!(only(ended.report()).at_s >= 0.3);
}

#[test]
fn a_command_that_fails_is_told_and_the_run_goes_on() {
    let server = Fake::good();
    let words = format!(
        "{} --rate 100 --duration 500ms --fault command:exit${{IFS}}3@100ms",
        server.address
    );
    let ended = run_with_names("web.example. A\n", &words);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let [fault] = &ended.report().faults[..] else { panic!("{:?}", ended.report().faults) };
    assert!(fault.error.as_ref().is_some_and(|why| why.contains("exit status: 3")), "{fault:?}");
    assert_eq!(ended.report().total.outcomes.ok, 50);
}

/// Lookups per second of those below.
const RATE: f64 = 100.0;

/// How long a fault lasted.
fn seconds(fault: &FaultMark) -> f64 {
    fault.until_s.unwrap() - fault.at_s
}

/// Whether at least every other lookup failed that was due while the fault lasted.
fn is_half_failed(report: &Report) -> bool {
    let fault = only(report);
    fault.failed as f64 >= seconds(fault) * RATE / 2.0
}

/// A server that may ask again, over TCP in the end, rides out what these tests want to see.
const ONCE: &str = "{\n max_connect_attempts 1\n }";

/// Loads a Mainstay that forwards to the relay of the run, whose upstream is a stub.
fn load_upstream(fault: &str, more: &[&str]) -> Report {
    load_upstream_of("", fault, more)
}

/// The same, with options of `forward`.
fn load_upstream_of(options: &str, fault: &str, more: &[&str]) -> Report {
    let relay = ports::free();
    let server = Mainstay::start(&format!("forward . 127.0.0.1:{relay} {options}"));
    let (address, upstream) = (server.address(), format!("127.0.0.1:{relay}=stub"));
    let mut words =
        vec![&*address, "--upstream", &upstream, "--fault", fault, "--timeout", "300ms"];
    words.extend(["--rate", "100", "--duration", "3s"]);
    words.extend([FOREIGN, more].concat());
    let ended = run(&words);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report = ended.report();
    assert!(only(report).until_s.is_some(), "{:?}", report.faults);
    assert_eq!(report.total.lookups, 300);
    report.clone()
}

#[test]
fn an_upstream_that_swallows_or_refuses_makes_lookups_fail_meanwhile() {
    for fault in ["blackhole-upstream", "servfail-upstream", "loss-upstream:100%"] {
        let report = load_upstream_of(ONCE, &format!("{fault}@500ms..2s"), &[]);
        assert!(is_half_failed(&report), "{fault}: {:?}", report.faults);
        assert!(report.total.outcomes.ok >= 40, "{fault}: {:?}", report.total.outcomes);
    }
}

#[test]
fn an_upstream_that_is_slow_makes_lookups_slow() {
    let report = load_upstream("delay-upstream:200ms@500ms..2s", &["--slow", "150ms"]);
    assert!(report.total.outcomes.slow > 30, "{:?}", report.total.outcomes);
}

#[test]
fn an_upstream_that_cuts_is_asked_over_tcp() {
    let report = load_upstream("truncate-upstream@500ms..2s", &[]);
    assert!(report.total.outcomes.ok >= 200, "{:?}", report.total.outcomes);
}

#[test]
fn an_upstream_with_a_limit_loses_what_is_above() {
    // The limit is one of datagrams: over TCP a server would get round it.
    let report = load_upstream_of(ONCE, "pps-upstream:10@500ms..2s", &[]);
    assert!(is_half_failed(&report), "{:?}", report.faults);
}

//! How runs end: by themselves, by signals, on a full disk, on a machine that is too slow.

use rustix::process::Signal;
use tempfile::TempDir;

use crate::fake::{Fake, address, at_once};
use crate::running::{Load, run_with_names, start_with_names, wait_until};

const NAMES: &str = "web.example. A\n";

#[test]
fn a_rate_that_no_machine_makes_is_told_and_ends_in_time() {
    let server = Fake::good();
    let words = format!("{} --rate 3000000 --duration 1s --timeout 500ms", server.address);
    let ended = run_with_names(NAMES, &words);
    assert_eq!(ended.code, Some(0), "no goals: {}", ended.stderr);
    let report = ended.report();
    let generator = &report.generator;
    let saturated = generator.saturated.as_deref().unwrap_or_default();
    assert!(saturated.starts_with("client saturated: "), "{generator:?}");
    assert!(generator.not_begun > 0, "{generator:?}");
    let all = report.total.lookups + generator.not_begun;
    assert_eq!(all, 3_000_000, "{} ended, {} not begun", report.total.lookups, generator.not_begun);
    assert!(ended.stdout.contains("client saturated"), "{}", ended.stdout);
}

#[test]
fn a_signal_ends_the_run_and_the_report_is_written() {
    for (signal, goals, code) in [
        // Half of a run meets no goal, whatever its figures are.
        (Signal::INT, "--slo failed=0", 1),
        (Signal::INT, "--slo ok>1000000", 1),
        (Signal::TERM, "", 0),
    ] {
        let server = Fake::good();
        let words = format!("{} --rate 200 --duration 1h {goals}", server.address);
        let load = start_with_names(NAMES, &words);
        server.wait_for(50);
        load.signal(signal);
        let ended = load.end();
        assert_eq!(ended.code, Some(code), "{signal:?} {goals}: {}", ended.stderr);
        assert!(ended.stderr.contains("interrupted"), "{}", ended.stderr);
        let report = ended.report();
        assert_eq!(report.ended, "interrupted");
        assert_eq!(report.slo.iter().any(|goal| goal.goal == "run complete"), code == 1);
        assert!(report.total.outcomes.ok >= 49, "{:?}", report.total.outcomes);
        assert_eq!(report.total.outcomes.ok, report.total.lookups);
        assert_eq!(report.generator.not_begun, 0);
        assert!(report.generator.wanted_per_s < 400.0, "{:?}", report.generator);
    }
}

#[test]
fn a_second_signal_leaves_what_is_under_way() {
    for more in ["", "--resolver glibc,musl", "--transport tcp"] {
        let server = match more {
            "--transport tcp" => Fake::tcp(|_| Some(Vec::new())),
            _ => Fake::silent(),
        };
        let words = format!("{} --rate 50 --duration 1h --timeout 1h {more}", server.address);
        let load = start_with_names(NAMES, &words);
        server.wait_for(20);
        load.signal(Signal::INT);
        wait_until("the first is heard", || load.stderr().contains("Ctrl-C again"));
        load.signal(Signal::INT);
        let ended = load.end();
        assert_eq!(ended.code, Some(0), "{more}: {}", ended.stderr);
        assert_eq!(ended.report().ended, "interrupted", "{more}");
    }
}

#[test]
fn after_one_signal_what_is_under_way_is_waited_for() {
    // The first ten questions are answered when the run was told to end.
    let server = Fake::udp(|question| vec![(std::time::Duration::from_secs(1), address(question))]);
    let words = format!("{} --rate 100 --duration 1h", server.address);
    let load = start_with_names(NAMES, &words);
    server.wait_for(10);
    load.signal(Signal::INT);
    let report = load.end();
    let report = report.report();
    assert!(report.total.lookups >= 10);
    assert_eq!(report.total.outcomes.ok + report.total.outcomes.slow, report.total.lookups);
}

#[test]
fn a_signal_before_the_first_lookup_leaves_no_server_behind() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("names"), NAMES).unwrap();
    let pid_file = folder.path().join("pid");
    // It never answers, so that the run does not begin.
    let server = format!("sh -c 'echo $$ > {}; sleep 100; true'", pid_file.display());
    let address = crate::fake::closed().to_string();
    let words = [&*address, "--names", "names", "--server-command", &server];
    let load = Load::start_in(folder, &words);
    let pid = || std::fs::read_to_string(&pid_file).ok()?.trim().parse::<u32>().ok();
    wait_until("the server runs", || pid().is_some());
    let pid = pid().unwrap();
    load.signal(Signal::INT);
    let ended = load.end();
    wait_until("the server is killed", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("interrupted"), "{}", ended.stderr);
}

#[test]
fn a_second_signal_leaves_what_undoes_a_fault_too() {
    let server = Fake::silent();
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("names"), NAMES).unwrap();
    let address = server.address.to_string();
    // What undoes it takes longer than we wait for anything.
    let fault = "command:echo $MAINSTAY_FAULT >> halves; \
                 test $MAINSTAY_FAULT = begin || sleep 20@200ms..1h";
    let words = [
        &*address,
        "--names",
        "names",
        "--duration",
        "2h",
        "--json",
        "report.json",
        "--timeout",
        "1h",
        "--fault",
        fault,
    ];
    let load = Load::start_in(folder, &words);
    wait_until("the fault is done", || load.file("halves").starts_with("begin"));
    load.signal(Signal::INT);
    wait_until("the first is heard", || load.stderr().contains("Ctrl-C again"));
    load.signal(Signal::INT);
    let ended = load.end();
    assert_eq!(ended.report().ended, "interrupted");
    wait_until("it is undone", || ended.file("halves").contains("end"));
}

#[test]
fn a_server_that_does_not_start_is_told_with_its_last_words() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("names"), NAMES).unwrap();
    let address = crate::fake::closed().to_string();
    let server = "sh -c 'echo no such zone >&2; exit 3'";
    let words = [&*address, "--names", "names", "--server-command", server];
    let ended = Load::start_in(folder, &words).end();
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert_eq!(ended.stderr.trim_end().lines().count(), 1, "{}", ended.stderr);
    for part in ["--server-command", "exit status: 3", "no such zone"] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
}

#[test]
fn a_server_is_not_started_where_another_one_answers() {
    let other = Fake::good();
    let words = format!("{} --server-command sleep${{IFS}}100", other.address);
    let ended = run_with_names(NAMES, &words);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("before the server is started"), "{}", ended.stderr);
}

#[test]
fn a_full_disk_costs_one_report_alone() {
    let server = Fake::udp(|question| at_once(address(question)));
    for (json, parts) in [
        ("/dev/full", ["/dev/full", "No space left"]),
        ("/nonexistent/folder/r.json", ["/nonexistent/folder/r.json", "No such file"]),
        ("/", ["/", "other reports are not touched"]),
    ] {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("names"), NAMES).unwrap();
        let address = server.address.to_string();
        let words = [
            &*address,
            "--names",
            "names",
            "--rate",
            "100",
            "--duration",
            "100ms",
            "--quiet",
            "--json",
            json,
            "--html",
            "r.html",
            "--junit",
            "r.xml",
        ];
        let ended = Load::start_in(folder, &words).end();
        assert_eq!(ended.code, Some(2), "{json}: {}", ended.stderr);
        assert_eq!(ended.stderr.trim_end().lines().count(), 1, "{}", ended.stderr);
        parts.iter().for_each(|part| assert!(ended.stderr.contains(part), "{}", ended.stderr));
        assert!(ended.file("r.html").contains("</html>"), "the others are written");
        assert!(ended.file("r.xml").contains("</testsuite"));
        assert!(ended.stdout.contains("10 lookups"), "{}", ended.stdout);
    }
}

#[test]
fn a_report_that_cannot_be_written_leaves_the_one_before() {
    let server = Fake::good();
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("names"), NAMES).unwrap();
    std::fs::create_dir(folder.path().join("taken")).unwrap();
    let address = server.address.to_string();
    let words =
        [&*address, "--names", "names", "--rate", "100", "--duration", "100ms", "--json", "taken"];
    let ended = Load::start_in(folder, &words).end();
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("taken: "), "{}", ended.stderr);
    let left = std::fs::read_dir(ended.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with('.')).collect();
    assert!(left.is_empty(), "nothing half written is left: {left:?}");
}

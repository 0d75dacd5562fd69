//! Runs where all is well: what is counted, what is written, and that a seed repeats a run.

use mainstay::load::report::{Report, SCHEMA};

use crate::fake::{self, Fake, at_once};
use crate::mainstay::Mainstay;
use crate::running::{Ended, Load, run, run_with_names};

/// Three names, one of them twice as often.
const NAMES: &str =
    "; a comment\nweb.example. A\nweb.example.\nmail.example. AAAA\ndb.example. SRV\n";

#[test]
fn a_good_run_counts_all_and_writes_all_reports() {
    let server = Fake::good();
    let words = format!(
        "{} --rate 200 --duration 1s --slo failed=0,p50<1s --html r.html --hdr r.hdr --junit r.xml",
        server.address
    );
    let ended = run_with_names(NAMES, &words);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report = ended.report();
    check_counts(report, server.asked().len() as u64);
    check_plan(report, &server.address.to_string());
    check_files(&ended);
    assert!(ended.stdout.contains("200"), "a summary: {}", ended.stdout);
}

fn check_counts(report: &Report, asked: u64) {
    assert_eq!((&*report.schema, &*report.ended, report.workers), (SCHEMA, "complete", 1));
    assert_eq!((report.total.lookups, report.total.outcomes.ok, asked), (200, 200, 200));
    assert_eq!((report.packets.sent, report.packets.answered), (200, 200));
    assert_eq!((report.total.packets, report.total.latency.count), (200, 200));
    assert_eq!(report.timeline.slots.iter().map(|slot| slot.due).sum::<u64>(), 200);
    assert_eq!(report.by_class.values().map(|group| group.lookups).sum::<u64>(), 200);
    assert_eq!(report.by_resolver["packet"].lookups, 200);
    assert_eq!(report.total.recovery.first_failure_s, None);
    assert!(report.slo.len() == 2 && report.slo.iter().all(|goal| goal.is_met));
}

fn check_plan(report: &Report, server: &str) {
    let plan = &report.plan;
    assert_eq!((&*plan.servers, &*plan.transport), (&[server.to_owned()][..], "udp"));
    assert_eq!((&*plan.arrivals, plan.name_count, plan.seed), ("constant:200", 3, 1));
    assert!(plan.names.starts_with("names names"), "{}", plan.names);
    assert_eq!(plan.staleness_ms, None);
}

fn check_files(ended: &Ended) {
    assert!(ended.file("r.html").contains("<html"));
    assert!(ended.file("r.hdr").contains("HIST"));
    assert!(ended.file("r.xml").contains("<testsuite"));
    let json: serde_json::Value = serde_json::from_str(&ended.file("report.json")).unwrap();
    assert_eq!(json["schema"], SCHEMA);
}

#[test]
fn a_seed_repeats_a_run() {
    let asked = |seed: u32, more: &str| {
        let server = Fake::good();
        let words = format!(
            "{} --rate 300 --duration 500ms --seed {seed} --clients 1 {more}",
            server.address
        );
        assert_eq!(run_with_names(NAMES, &words).code, Some(0));
        server.asked()
    };
    let chance = "--popularity uniform --mix foreign=20,missing=10,random=10";
    let first = asked(7, chance);
    assert_eq!(first.len(), 150);
    assert_eq!(asked(7, chance), first);
    assert_ne!(asked(8, chance), first);
    // As listed: one name has half of the lines.
    let web = asked(7, "").iter().filter(|title| *title == "web.example. 1").count();
    assert!((50..100).contains(&web), "{web} of 150");
}

#[test]
fn answers_of_a_cluster_are_true_and_counted_by_class() {
    let server = Mainstay::start("");
    let mix = "missing=20,ptr=20,srv=20,random=10";
    let manifests = server.manifests();
    let ended = run(&[
        &*server.address(),
        "--manifests",
        &manifests,
        "--mix",
        mix,
        "--rate",
        "300",
        "--duration",
        "1s",
        "--slo",
        "failed=0,wrong=0,lost=0,wrong_negative=0",
    ]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    let report = ended.report();
    let truth = report.total.truth;
    assert_eq!((truth.ok, truth.wrong_negative, truth.wrong_positive), (300, 0, 0), "{truth:?}");
    for class in ["missing", "ptr", "srv", "random"] {
        let group = report.by_class.get(class);
        assert!(
            group.is_some_and(|group| group.lookups > 0),
            "{class}: {:?}",
            report.by_class.keys()
        );
    }
    assert_eq!(report.plan.staleness_ms, Some(1000.0));
}

#[test]
fn a_server_that_denies_and_invents_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.yaml");
    std::fs::write(&path, crate::mainstay::OBJECTS).unwrap();
    let asked = |server: &Fake| {
        run(&[
            &*server.address.to_string(),
            "--manifests",
            path.to_str().unwrap(),
            "--rate",
            "200",
            "--duration",
            "500ms",
            "--slo",
            "failed=0",
            // What was before the run nobody knows.
            "--staleness",
            "0s",
        ])
    };
    let ended = asked(&Fake::udp(|question| at_once(fake::code(question, 3))));
    assert_eq!(ended.code, Some(1));
    let total = &ended.report().total;
    assert_eq!((total.outcomes.unknown_host, total.truth.wrong_negative), (100, 100));
    assert!(total.recovery.last_unknown_host_s.is_some());
    let ended = asked(&Fake::udp(|question| {
        let is_a = question.windows(5).any(|octets| octets == [0, 0, 1, 0, 1]);
        at_once(if is_a { fake::address(question) } else { fake::code(question, 0) })
    }));
    assert_eq!(ended.code, Some(1));
    let total = &ended.report().total;
    assert!(total.truth.wrong_positive > 0 && total.outcomes.wrong > 0, "{total:?}");
}

#[test]
fn a_report_goes_to_standard_output_alone() {
    let server = Fake::good();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("names"), NAMES).unwrap();
    let address = server.address.to_string();
    let words =
        [&*address, "--names", "names", "--rate", "100", "--duration", "100ms", "--json", "-"];
    let ended = Load::start_in(folder, &words).end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let report: Report = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report.total.outcomes.ok, 10);
}

#[test]
fn resolvers_search_and_ask_for_both_families() {
    let server = Mainstay::start("");
    let manifests = server.manifests();
    let ended = run(&[
        &*server.address(),
        "--manifests",
        &manifests,
        "--resolver",
        "glibc,musl",
        "--namespace",
        "shop",
        "--rate",
        "100",
        "--duration",
        "1s",
        "--slo",
        "failed=0",
    ]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
    let report = ended.report();
    assert_eq!(report.total.lookups, 100);
    assert!(report.total.packets >= 200, "A and AAAA: {}", report.total.packets);
    for resolver in ["glibc", "musl"] {
        assert_eq!(report.by_resolver[resolver].outcomes.ok, 50, "{resolver}");
    }
}

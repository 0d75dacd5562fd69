//! Tests of goals against reports.

use proptest::prelude::*;

use super::super::{FaultMark, Truths, sample};
use super::*;

fn judged(goals: &str, report: &Report) -> Vec<(String, bool)> {
    let goals = evaluate(&parse(goals).unwrap(), report);
    goals.into_iter().map(|goal| (goal.seen, goal.is_met)).collect()
}

fn is_met(goal: &str, report: &Report) -> bool {
    judged(goal, report)[0].1
}

#[test]
fn goals_are_judged_by_what_was_seen() {
    // 1000 lookups up to 10 ms, of which 7 failed, from 10 s on until 2.5 s after the fault.
    let report = sample::report();
    for (goal, met) in [
        ("p50<=5.01ms", true),
        ("p50<5ms", false),
        ("p99<10ms", true),
        ("p99<1ms", false),
        ("max>9ms", true),
        ("unknown_host=7", true),
        ("unknown_host=0", false),
        ("unknown_host<0.7%", false),
        ("unknown_host<=0.7%", true),
        ("ok>=99%", true),
        ("failed<8", true),
        ("wrong_negative=7", true),
        ("stale=0", true),
        ("recovery<2s", false),
        ("recovery<=2500ms", true),
        ("longest_outage<2.3s", true),
        ("stuck_clients=1", true),
        ("stuck_clients<=5%", true),
        ("fresh_after<300ms", true),
        ("rate>33", true),
        ("amplification=2", true),
        ("late=0", true),
        ("not_begun<0.1%", true),
        ("service.p99<10ms", true),
        ("glibc.failed=7", true),
    ] {
        assert_eq!(is_met(goal, &report), met, "{goal}: {:?}", judged(goal, &report));
    }
    let told = judged("p99<1ms, unknown_host<0.1%", &report);
    assert_eq!(told[1].0, "0.7000 % (7 of 1000)");
    assert!(told[0].0.ends_with(" ms"), "{told:?}");
}

#[test]
fn what_was_not_measured_is_not_met() {
    let mut report = sample::with(0);
    report.total.truth = Truths::default();
    report.total.recovery.fresh_after_max_s = None;
    report.faults[0].error = Some("no such process".to_owned());
    for (goal, why) in [
        ("stale=0", "the truth of no answer is known"),
        ("fresh_after<1s", "no change of an object was seen"),
        ("jvm.failed=0", "no lookup of jvm ended"),
        ("recovery<2s", "kill9@10s could not be done"),
    ] {
        let (seen, is_met) = judged(goal, &report).remove(0);
        assert!(!is_met && seen.starts_with("not measured: ") && seen.contains(why), "{seen}");
    }
    for (name, _) in measure::METRICS {
        for value in ["<1ms", ">=0", "=0%", ">=0s"] {
            if let Ok(goals) = parse(&format!("{name}{value}")) {
                assert!(!evaluate(&goals, &Report::default())[0].is_met, "{name}{value}");
            }
        }
    }
}

#[test]
fn recovery_without_faults_is_the_time_of_failures() {
    let mut report = sample::report();
    report.faults.clear();
    assert!(is_met("recovery=2.5s", &report));
    assert!(is_met("recovery=0", &Report { faults: Vec::new(), ..sample::with(0) }));
    assert!(is_met("recovery=0", &sample::with(0)));
}

#[test]
fn recovery_is_that_of_the_worst_fault() {
    let mut report = sample::report();
    let quick =
        FaultMark { at_s: 20.0, last_failure_after_s: Some(0.5), ..report.faults[0].clone() };
    report.faults.extend([quick, FaultMark { at_s: 25.0, ..FaultMark::default() }]);
    assert!(is_met("recovery=2.5s", &report));
}

#[test]
fn a_run_that_did_not_come_to_its_end_meets_no_goals() {
    let goals = parse("failed=0").unwrap();
    let whole = evaluate(&goals, &sample::with(0));
    assert_eq!((whole.len(), whole[0].is_met), (1, true));
    let ended = "without worker 3, which vanished".to_owned();
    let part = evaluate(&goals, &Report { ended, ..sample::with(0) });
    assert!(part[0].is_met && !part[1].is_met);
    assert_eq!(part[1].seen, "without worker 3, which vanished");
    let ended = "interrupted".to_owned();
    assert!(evaluate(&[], &Report { ended, ..sample::with(0) }).is_empty());
}

#[test]
fn a_saturated_client_is_said_with_its_latencies() {
    let mut report = sample::report();
    report.generator.saturated = Some("client saturated: late".to_owned());
    assert!(judged("p99<5ms", &report)[0].0.contains("client saturated"));
    assert!(!judged("failed=0", &report)[0].0.contains("client saturated"));
}

#[test]
fn empty_and_endless_lists_are_refused() {
    assert!(parse(" , ").unwrap_err().contains("no goal"));
    assert!(parse(&"p99<5ms,".repeat(GOALS_MAX + 1)).unwrap_err().contains("more than 100"));
    assert_eq!(parse("p99<5ms, failed=0,").unwrap().len(), 2);
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(text in ".{0,80}", like in "[a-z0-9_.<>=%µ, ]{0,40}") {
        for text in [text, like] {
            match parse(&text) {
                Ok(goals) => {
                    let judged = evaluate(&goals, &sample::report());
                    prop_assert_eq!(judged.len(), goals.len());
                }
                Err(error) => prop_assert_eq!(error.lines().count(), 1),
            }
        }
    }

    #[test]
    fn a_goal_and_its_opposite_disagree(ms in 0_u32..20_000, of in 0..6_usize) {
        let name = measure::METRICS[of].0;
        let report = sample::report();
        let less = is_met(&format!("{name}<{ms}us"), &report);
        prop_assert_ne!(less, is_met(&format!("{name}>={ms}us"), &report));
    }
}

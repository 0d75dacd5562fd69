//! Tests of the whole record: what goes in comes out, however it is shared out.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::super::report::{Plan, Report};
use super::super::truth::Verdict;
use super::*;

const SLOW: Duration = Duration::from_secs(1);

fn recorder(duration: Option<Duration>) -> Arc<Recorder> {
    Recorder::new(Course::new(Instant::now(), duration), SLOW)
}

fn sample(due_ms: u64, took_ms: u64, outcome: Outcome) -> Sample {
    Sample {
        due: Duration::from_millis(due_ms),
        took: Duration::from_millis(took_ms),
        outcome,
        judgement: None,
        class: Class::Service,
        resolver: Resolver::Glibc,
        client: 0,
        packets: 2,
    }
}

fn report(recorder: &Recorder) -> Report {
    recorder.report(Plan::default(), "load", COMPLETE)
}

/// Any lookup.
fn any_sample() -> impl Strategy<Value = Sample> {
    let outcome = prop_oneof![
        Just(Outcome::Ok),
        Just(Outcome::UnknownHost),
        Just(Outcome::TryAgain),
        Just(Outcome::Wrong)
    ];
    let verdict = prop_oneof![Just(Verdict::Ok), Just(Verdict::Stale), Just(Verdict::Lost)];
    let class = prop_oneof![Just(Class::Service), Just(Class::Foreign), Just(Class::Srv)];
    let resolver = prop_oneof![Just(Resolver::Glibc), Just(Resolver::Jvm)];
    let times = (0_u64..600_000, 0_u64..6000);
    let judgement = prop::option::of((verdict, prop::option::of(0_u64..5000)));
    (times, outcome, judgement, class, resolver, 0_u32..4, 0_u32..9).prop_map(
        |((due, took), outcome, judgement, class, resolver, client, packets)| Sample {
            class,
            resolver,
            client,
            packets,
            judgement: judgement.map(|(verdict, after)| Judgement {
                verdict,
                fresh_after: after.map(Duration::from_millis),
            }),
            ..sample(due, took, outcome)
        },
    )
}

/// The report of these lookups through so many shards, without what the machine adds.
fn through(samples: &[Sample], shards: usize) -> Report {
    let recorder = recorder(Some(Duration::from_secs(600)));
    recorder.fault("kill9@100s", Duration::from_secs(100), None);
    let shards: Vec<Shard> = (0..shards).map(|_| recorder.shard()).collect();
    for (index, sample) in samples.iter().enumerate() {
        let shard = &shards[index % shards.len()];
        shard.lookups(&[*sample]);
        shard.packets(&PacketCounts { sent: 2, answered: 1, ..PacketCounts::default() });
        shard.began_late(sample.took / 3000);
        shard.not_begun(1);
    }
    let mut report = report(&recorder);
    report.generator.cores = 0.0;
    report.started_unix_ms = 0;
    if samples.is_empty() {
        // It lasted until it was asked for.
        report.duration_s = 0.0;
    }
    report
}

proptest! {
    #[test]
    fn any_number_of_shards_makes_the_same_report(
        samples in prop::collection::vec(any_sample(), 0..120),
        shards in 2_usize..40,
    ) {
        let (one, many) = (through(&samples, 1), through(&samples, shards));
        let text = |report: &Report| serde_json::to_string_pretty(report).unwrap();
        prop_assert_eq!(text(&one), text(&many));
    }

    #[test]
    fn figures_agree_with_one_another(samples in prop::collection::vec(any_sample(), 1..200)) {
        let report = through(&samples, 3);
        let total = &report.total;
        prop_assert_eq!(total.lookups, samples.len() as u64);
        prop_assert_eq!(total.outcomes.all(), total.lookups);
        prop_assert_eq!(total.latency.count, total.lookups);
        let packets: u64 = samples.iter().map(|sample| u64::from(sample.packets)).sum();
        prop_assert_eq!(total.packets, packets);
        for groups in [&report.by_class, &report.by_resolver] {
            prop_assert_eq!(groups.values().map(|it| it.lookups).sum::<u64>(), total.lookups);
            let failed: u64 = groups.values().map(|it| it.recovery.failed).sum();
            prop_assert_eq!(failed, total.recovery.failed);
        }
        let slots = &report.timeline.slots;
        prop_assert_eq!(slots.iter().map(|slot| slot.due).sum::<u64>(), total.lookups);
        prop_assert_eq!(slots.iter().map(|it| it.outcomes.all()).sum::<u64>(), total.lookups);
        let failures = samples.iter().filter(|sample| sample.outcome.is_failure());
        let last = failures.map(|it| (it.due + it.took).as_secs_f64()).reduce(f64::max);
        prop_assert_eq!(total.recovery.last_failure_s, last);
        prop_assert!(total.recovery.longest_outage_s <= report.duration_s);
    }
}

#[test]
fn right_and_late_is_slow_and_no_failure() {
    let recorder = recorder(Some(Duration::from_secs(10)));
    let shard = recorder.shard();
    shard.lookups(&[sample(0, 1000, Outcome::Ok), sample(0, 1001, Outcome::Ok)]);
    shard.lookups(&[sample(0, 3000, Outcome::TryAgain), sample(4000, 1, Outcome::Ok)]);
    let report = report(&recorder);
    let outcomes = report.total.outcomes;
    assert_eq!((outcomes.ok, outcomes.slow, outcomes.try_again), (2, 1, 1));
    assert_eq!(report.total.recovery.failed, 1);
    assert_eq!(report.total.recovery.stuck_clients, 0);
    assert_eq!(report.total.recovery.clients, 1);
    assert_eq!(report.duration_s, 4.001);
    assert_eq!(report.total.recovery.longest_outage_s, 1.0, "until the first success ended");
}

#[test]
fn latencies_beyond_the_histogram_are_counted_and_the_longest_is_told() {
    let recorder = recorder(None);
    recorder.shard().lookups(&[sample(0, 0, Outcome::Ok), sample(0, 250_000, Outcome::TryAgain)]);
    let latency = report(&recorder).total.latency;
    assert_eq!((latency.count, latency.clamped, latency.max), (2, 1, 250_000.0));
    assert!(latency.p999 < 100_100.0);
}

#[test]
fn rates_count_over_the_time_in_which_lookups_were_due() {
    let run = |ended: &str| {
        let recorder = recorder(Some(Duration::from_secs(10)));
        let samples: Vec<_> = (1..=50).map(|at| sample(at * 100, 5000, Outcome::Ok)).collect();
        let shard = recorder.shard();
        shard.lookups(&samples);
        shard.not_begun(50);
        recorder.report(Plan::default(), "load", ended).generator
    };
    let whole = run(COMPLETE);
    assert_eq!((whole.begun_per_s, whole.wanted_per_s), (5.0, 10.0));
    assert!(whole.saturated.unwrap().contains("50.00 % of the lookups were never begun"));
    assert_eq!(run("interrupted").begun_per_s, 10.0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_falls_behind_has_a_lower_rate() {
    let recorder = recorder(Some(Duration::from_secs(10)));
    let samples: Vec<_> = (0..1000).map(|at| sample(at * 10, 5000, Outcome::Ok)).collect();
    let shard = recorder.shard();
    shard.lookups(&samples);
    assert_eq!(report(&recorder).generator.begun_per_s, 100.0);
    tokio::time::advance(Duration::from_secs(20)).await;
    shard.began_late(Duration::ZERO);
    assert_eq!(report(&recorder).generator.begun_per_s, 100.0);
    shard.began_late(Duration::from_secs(10));
    assert_eq!(report(&recorder).generator.begun_per_s, 50.0);
}

#[test]
fn nothing_at_all_is_a_report_too() {
    let report = report(&recorder(Some(Duration::from_secs(1))));
    assert_eq!(report.total, Default::default());
    assert_eq!(report.generator.saturated, None);
    assert!(report.timeline.slots.is_empty());
}

#[test]
fn a_week_takes_no_more_memory_than_an_hour() {
    let recorder = recorder(None);
    let shard = recorder.shard();
    let run = |seconds: std::ops::Range<u64>| {
        for at in seconds.step_by(20) {
            let outcome = if at % 7 == 0 { Outcome::UnknownHost } else { Outcome::Ok };
            let client = (at / 20 % 50) as u32;
            shard.lookups(&[Sample { client, ..sample(at * 1000, at % 900, outcome) }]);
        }
        let report = report(&recorder);
        let octets = serde_json::to_string(&report).unwrap().len();
        (report.timeline.slots.len(), report.total.recovery.clients, octets)
    };
    let week = 7 * 24 * 3600;
    let (slots, clients, octets) = run(0..week);
    assert!(slots <= timeline::SLOTS_MAX && clients == 50);
    let (slots, clients, later) = run(week..4 * week);
    assert!(slots <= timeline::SLOTS_MAX && clients == 50);
    assert!(later < 2 * octets, "{octets} octets became {later}");
}

#[test]
fn threads_lose_nothing() {
    let recorder = recorder(None);
    std::thread::scope(|threads| {
        for thread in 0..2 * CELLS_MAX as u64 {
            let shard = recorder.shard();
            let reader = &recorder;
            threads.spawn(move || {
                for at in 0..50 {
                    let outcome = if at == thread { Outcome::Wrong } else { Outcome::Ok };
                    let client = thread as u32;
                    shard.lookups(&[Sample { client, ..sample(at * 40, at, outcome) }; 4]);
                    shard.not_begun(1);
                }
                reader.snapshot();
            });
        }
    });
    let threads = 2 * CELLS_MAX as u64;
    let report = report(&recorder);
    assert_eq!(report.total.lookups, threads * 200);
    assert_eq!(report.total.recovery.failed, threads * 4);
    assert_eq!(report.total.recovery.clients, threads);
    assert_eq!(report.generator.not_begun, threads * 50);
    let ended = report.timeline.slots.iter().map(|slot| slot.outcomes.all()).sum::<u64>();
    assert_eq!(ended, threads * 200);
}

#[test]
fn a_snapshot_tells_how_the_run_stands() {
    let recorder = recorder(Some(Duration::from_secs(10)));
    let shard = recorder.shard();
    let before = recorder.snapshot();
    shard.lookups(&[sample(0, 10, Outcome::Ok), sample(10, 20, Outcome::UnknownHost)]);
    shard.lookups(&[sample(15, 10, Outcome::UnknownHost)]);
    shard.lookups(&[Sample { resolver: Resolver::Jvm, ..sample(0, 10, Outcome::Ok) }]);
    shard.packets(&PacketCounts { sent: 6, ..PacketCounts::default() });
    shard.not_begun(4);
    let snapshot = recorder.snapshot();
    assert_eq!(snapshot.outcomes.all(), 4);
    assert_eq!(snapshot.groups.len(), 2);
    assert_eq!((snapshot.clients, snapshot.stuck_clients), (2, 1));
    assert_eq!(snapshot.last_failure, Some(Duration::from_millis(30)));
    assert_eq!((snapshot.packets.sent, snapshot.not_begun), (6, 4));
    assert_eq!(snapshot.latencies.since(&before.latencies).count(), 4);
    assert_eq!(snapshot.groups[0].by_bound.iter().sum::<u64>(), 3);
}

#[test]
fn faults_are_told_with_what_came_of_them() {
    let recorder = recorder(Some(Duration::from_secs(60)));
    recorder.fault("kill9@10s", Duration::from_secs(10), None);
    recorder.fault_failed("stop@30s", Duration::from_secs(30), "no such process");
    recorder.fault_missed("kill9@10s", Duration::from_secs(11), "never");
    recorder.fault_missed("term@50s", Duration::from_secs(50), "the run ended before");
    let failed = [sample(10_100, 50, Outcome::UnknownHost), sample(11_000, 1000, Outcome::Wrong)];
    recorder.shard().lookups(&failed);
    let faults = report(&recorder).faults;
    assert_eq!((faults[0].failed, faults[0].last_failure_after_s), (2, Some(2.0)));
    assert_eq!(faults[0].last_unknown_host_after_s, Some(0.15));
    assert_eq!(faults[1].error.as_deref(), Some("no such process"));
    assert_eq!(faults.len(), 3, "what was done was not missed");
    assert_eq!(faults[2].error.as_deref(), Some("the run ended before"));
}

#[test]
fn classes_are_named_as_their_json_is() {
    for class in [Class::Service, Class::ExternalName, Class::Listed, Class::Ptr] {
        let json = serde_json::to_value(class).unwrap();
        assert_eq!(json.as_str(), Some(class_name(class)));
    }
}

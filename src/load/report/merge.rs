//! Reports of workers that ran together become one.
//!
//! Clients and sockets of workers are different ones, so their numbers add up; of faults and of
//! generators the worst counts. Percentiles of the whole come from the added histograms; those of
//! slots, of which no histogram is kept, are the worst of the workers'.

use std::collections::BTreeMap;

use super::generator::SATURATED;
use super::{
    FaultMark, Generator, Group, Latency, Recovery, Report, SCHEMA, Slot, Timeline, histogram,
};

/// Two faults of workers are the same one when they were done within this, in seconds: workers
/// start together, each by its own clock.
const SAME_FAULT_S: f64 = 1.0;

/// Merges the reports of workers. One that is broken is left out, and the end of the run says so.
///
/// # Errors
/// There is none.
pub fn merge(reports: Vec<Report>) -> Result<Report, String> {
    let mut reports = reports.into_iter();
    let mut sum = reports.next().ok_or("no report to merge")?;
    sum.workers = sum.workers.max(1);
    for report in reports {
        let before = sum.clone();
        match add(&mut sum, &report) {
            Ok(()) => sum.workers = sum.workers.saturating_add(report.workers.max(1)),
            Err(why) => {
                sum = before;
                sum.ended = format!("without the report of a worker, which is broken: {why}");
            }
        }
    }
    sum.schema = SCHEMA.to_owned();
    Ok(sum)
}

fn add(sum: &mut Report, other: &Report) -> Result<(), String> {
    // Workers start together; what one of them was late by is not seen in the times of the run.
    sum.started_unix_ms = sum.started_unix_ms.min(other.started_unix_ms);
    sum.duration_s = sum.duration_s.max(other.duration_s);
    if other.ended != sum.ended {
        sum.ended = worse_end(&sum.ended, &other.ended);
    }
    plan(sum, other);
    group(&mut sum.total, &other.total)?;
    groups(&mut sum.by_class, &other.by_class)?;
    groups(&mut sum.by_resolver, &other.by_resolver)?;
    sum.packets.add(&other.packets);
    sum.unjudged.add(&other.unjudged);
    timeline(&mut sum.timeline, &other.timeline);
    faults(&mut sum.faults, &other.faults);
    generator(&mut sum.generator, &other.generator)?;
    // Goals are of the whole: they are judged again.
    sum.slo.clear();
    Ok(())
}

/// The end of a run of which one part came to its end.
fn worse_end(one: &str, other: &str) -> String {
    let incomplete =
        [one, other].into_iter().find(|ended| *ended != super::super::record::COMPLETE);
    incomplete.unwrap_or(one).to_owned()
}

fn plan(sum: &mut Report, other: &Report) {
    let (plan, other) = (&mut sum.plan, &other.plan);
    plan.clients = plan.clients.saturating_add(other.clients);
    plan.name_count = plan.name_count.max(other.name_count);
    for (all, others) in
        [(&mut plan.servers, &other.servers), (&mut plan.resolvers, &other.resolvers)]
    {
        let missing: Vec<String> = others.iter().filter(|it| !all.contains(it)).cloned().collect();
        all.extend(missing);
    }
}

fn groups(
    sum: &mut BTreeMap<String, Group>,
    other: &BTreeMap<String, Group>,
) -> Result<(), String> {
    for (name, theirs) in other {
        match sum.get_mut(name) {
            Some(ours) => group(ours, theirs).map_err(|why| format!("{name}: {why}"))?,
            None => {
                sum.insert(name.clone(), theirs.clone());
            }
        }
    }
    Ok(())
}

fn group(sum: &mut Group, other: &Group) -> Result<(), String> {
    sum.lookups = sum.lookups.saturating_add(other.lookups);
    sum.outcomes.add(&other.outcomes);
    sum.truth.add(&other.truth);
    sum.packets = sum.packets.saturating_add(other.packets);
    latency(&mut sum.latency, &other.latency)?;
    recovery(&mut sum.recovery, &other.recovery);
    Ok(())
}

/// Adds the histograms; the longest is told exactly by those who saw it.
fn latency(sum: &mut Latency, other: &Latency) -> Result<(), String> {
    let mut histogram = histogram::empty();
    histogram::add(&mut histogram, &histogram::decode(&sum.histogram)?);
    histogram::add(&mut histogram, &histogram::decode(&other.histogram)?);
    let added = histogram::latency(&histogram);
    let max = sum.max.max(other.max);
    let clamped = sum.clamped.saturating_add(other.clamped);
    *sum = Latency { max, clamped, ..added };
    Ok(())
}

fn recovery(sum: &mut Recovery, other: &Recovery) {
    sum.failed = sum.failed.saturating_add(other.failed);
    sum.first_failure_s = earliest(sum.first_failure_s, other.first_failure_s);
    sum.last_failure_s = latest(sum.last_failure_s, other.last_failure_s);
    sum.last_unknown_host_s = latest(sum.last_unknown_host_s, other.last_unknown_host_s);
    sum.longest_outage_s = sum.longest_outage_s.max(other.longest_outage_s);
    sum.stuck_clients = sum.stuck_clients.saturating_add(other.stuck_clients);
    sum.clients = sum.clients.saturating_add(other.clients);
    sum.fresh_after_max_s = latest(sum.fresh_after_max_s, other.fresh_after_max_s);
}

fn earliest(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.into_iter().chain(other).reduce(f64::min)
}

fn latest(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.into_iter().chain(other).reduce(f64::max)
}

/// Adds slot by slot, in the longer of the two slots.
fn timeline(sum: &mut Timeline, other: &Timeline) {
    if sum.slots.is_empty() {
        *sum = other.clone();
        return;
    }
    let mut other = other.clone();
    coarsen(sum, other.slot_s);
    coarsen(&mut other, sum.slot_s);
    if sum.slots.len() < other.slots.len() {
        sum.slots.resize(other.slots.len(), Slot::default());
    }
    for (slot, other) in sum.slots.iter_mut().zip(&other.slots) {
        add_slot(slot, other);
    }
}

/// Makes slots of this length of shorter ones. Lengths are powers of two of the shortest.
fn coarsen(timeline: &mut Timeline, slot_s: f64) {
    // A little less, because lengths have gone through text.
    while timeline.slot_s > 0.0 && timeline.slot_s < slot_s * 0.99 {
        timeline.slot_s *= 2.0;
        let pairs = timeline.slots.chunks(2).map(|pair| {
            let mut slot = pair[0];
            pair[1..].iter().for_each(|other| add_slot(&mut slot, other));
            slot
        });
        timeline.slots = pairs.collect();
    }
}

fn add_slot(slot: &mut Slot, other: &Slot) {
    slot.due = slot.due.saturating_add(other.due);
    slot.outcomes.add(&other.outcomes);
    slot.p50 = slot.p50.max(other.p50);
    slot.p90 = slot.p90.max(other.p90);
    slot.p99 = slot.p99.max(other.p99);
    slot.max = slot.max.max(other.max);
}

/// Adds the faults of another worker: one that all of them have is one.
fn faults(sum: &mut Vec<FaultMark>, other: &[FaultMark]) {
    for theirs in other {
        let is_same = |it: &&mut FaultMark| {
            it.what == theirs.what && (it.at_s - theirs.at_s).abs() < SAME_FAULT_S
        };
        match sum.iter_mut().find(is_same) {
            Some(ours) => fault(ours, theirs),
            None => sum.push(theirs.clone()),
        }
    }
    sum.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
}

fn fault(sum: &mut FaultMark, other: &FaultMark) {
    sum.at_s = sum.at_s.min(other.at_s);
    sum.until_s = latest(sum.until_s, other.until_s);
    sum.error = sum.error.take().or_else(|| other.error.clone());
    sum.first_failure_after_s = earliest(sum.first_failure_after_s, other.first_failure_after_s);
    sum.last_failure_after_s = latest(sum.last_failure_after_s, other.last_failure_after_s);
    sum.last_unknown_host_after_s =
        latest(sum.last_unknown_host_after_s, other.last_unknown_host_after_s);
    sum.failed = sum.failed.saturating_add(other.failed);
}

fn generator(sum: &mut Generator, other: &Generator) -> Result<(), String> {
    sum.late = sum.late.saturating_add(other.late);
    latency(&mut sum.lateness, &other.lateness)?;
    sum.not_begun = sum.not_begun.saturating_add(other.not_begun);
    sum.wanted_per_s = histogram::rounded(sum.wanted_per_s + other.wanted_per_s);
    sum.begun_per_s = histogram::rounded(sum.begun_per_s + other.begun_per_s);
    // Each worker has a machine of its own: what counts is the busiest.
    sum.cores = sum.cores.max(other.cores);
    sum.saturated = saturated(sum.saturated.take(), other.saturated.as_deref());
    Ok(())
}

/// The reasons of all workers, each once.
fn saturated(one: Option<String>, other: Option<&str>) -> Option<String> {
    let (Some(one), Some(other)) = (&one, other) else {
        return one.or_else(|| other.map(str::to_owned));
    };
    let reason = other.strip_prefix(SATURATED).unwrap_or(other).trim_start();
    let is_known = one.contains(reason);
    Some(if is_known { one.clone() } else { format!("{one}; another worker: {reason}") })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Outcomes, Unjudged, json, sample};
    use super::*;

    fn timeline_of(slot_s: f64, due: &[u64]) -> Timeline {
        let slot = |due: &u64| Slot {
            due: *due,
            outcomes: Outcomes { ok: *due, ..Outcomes::default() },
            p99: *due as f64,
            ..Slot::default()
        };
        Timeline { slot_s, slots: due.iter().map(slot).collect() }
    }

    fn due(timeline: &Timeline) -> u64 {
        timeline.slots.iter().map(|slot| slot.due).sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn lookups_of_all_workers_add_up(
            workers in prop::collection::vec(
                (prop::collection::vec(1_u64..10_000_000, 1..50), 0_u64..2), 1..6)
        ) {
            let of = |values: &[u64], failed| {
                let total = sample::group(values, failed);
                let by_class = BTreeMap::from([(format!("class{failed}"), total.clone())]);
                Report { total, by_class, ..sample::with(failed) }
            };
            let reports = workers.iter().map(|(values, failed)| of(values, *failed)).collect();
            let merged = merge(reports).unwrap();
            let all: Vec<u64> = workers.iter().flat_map(|(values, _)| values.clone()).collect();
            let failed = workers.iter().map(|(_, failed)| failed).sum::<u64>();
            let whole = sample::group(&all, failed);
            prop_assert_eq!(merged.workers as usize, workers.len());
            prop_assert_eq!(merged.total.outcomes, whole.outcomes);
            prop_assert_eq!(merged.total.latency.count, whole.latency.count);
            for (one, other) in [
                (merged.total.latency.p50, whole.latency.p50),
                (merged.total.latency.p99, whole.latency.p99),
                (merged.total.latency.max, whole.latency.max),
            ] {
                prop_assert!((one - other).abs() <= other * 0.001, "{} {}", one, other);
            }
            prop_assert_eq!(merged.total.recovery.failed, failed);
            prop_assert_eq!(merged.total.recovery.clients, 20 * workers.len() as u64);
            let lookups = merged.by_class.values().map(|it| it.lookups).sum::<u64>();
            prop_assert_eq!(lookups, all.len() as u64);
            prop_assert_eq!(merged.faults.len(), 1);
            prop_assert_eq!(merged.faults[0].failed, failed);
            prop_assert!(json::parse(&json::to_line(&merged)).unwrap() == merged, "not read as written");
        }

        #[test]
        fn slots_keep_their_sums(
            one in prop::collection::vec(0_u64..100, 0..40),
            other in prop::collection::vec(0_u64..100, 0..40),
            doublings in (0_i32..4, 0_i32..4),
        ) {
            let slot_s = |doublings| 0.1 * 2_f64.powi(doublings);
            let first = timeline_of(slot_s(doublings.0), &one);
            let second = timeline_of(slot_s(doublings.1), &other);
            let mut sum = first.clone();
            timeline(&mut sum, &second);
            prop_assert_eq!(due(&sum), due(&first) + due(&second));
            if !one.is_empty() && !other.is_empty() {
                let longest = slot_s(doublings.0.max(doublings.1));
                prop_assert!((sum.slot_s - longest).abs() < 1e-9);
                let ends = |it: &Timeline| it.slots.len() as f64 * it.slot_s;
                prop_assert!(ends(&sum) >= ends(&first).max(ends(&second)) - 1e-9);
            }
        }
    }

    #[test]
    fn times_of_failures_are_the_outermost() {
        let mut early = sample::with(3);
        early.total.recovery.first_failure_s = Some(4.0);
        early.generator.saturated = Some("client saturated: late".to_owned());
        early.unjudged = Unjudged { blind: 2, overflowed: u64::MAX, ..Unjudged::default() };
        let mut late = sample::with(0);
        late.ended = "interrupted".to_owned();
        late.unjudged = Unjudged { blind: 3, overflowed: 1, unknown: 1, ..Unjudged::default() };
        late.generator.saturated = Some("client saturated: busy".to_owned());
        let merged = merge(vec![early, late, sample::with(7)]).unwrap();
        let recovery = merged.total.recovery;
        assert_eq!((recovery.first_failure_s, recovery.last_failure_s), (Some(4.0), Some(12.5)));
        assert_eq!(recovery.stuck_clients, 1);
        assert_eq!(merged.ended, "interrupted");
        let unjudged =
            Unjudged { blind: 5, overflowed: u64::MAX, unknown: 1, ..Unjudged::default() };
        assert_eq!(merged.unjudged, unjudged);
        let saturated = merged.generator.saturated.unwrap();
        assert_eq!(saturated, "client saturated: late; another worker: busy");
        assert_eq!(merged.workers, 3);
    }

    #[test]
    fn nothing_is_refused_and_a_broken_report_is_left_out() {
        assert_eq!(merge(Vec::new()).unwrap_err(), "no report to merge");
        let mut broken = sample::report();
        broken.total.latency.histogram = "HIST".to_owned();
        let merged = merge(vec![sample::report(), broken, sample::report()]).unwrap();
        assert_eq!((merged.workers, merged.total.lookups), (2, 2000));
        assert!(merged.ended.contains("which is broken: no histogram"), "{}", merged.ended);
    }

    #[test]
    fn slots_of_length_zero_end() {
        let mut sum = timeline_of(0.0, &[1, 2]);
        timeline(&mut sum, &timeline_of(f64::INFINITY, &[3]));
        assert_eq!(due(&sum), 6);
        let mut sum = timeline_of(0.1, &[1, 2]);
        timeline(&mut sum, &timeline_of(f64::INFINITY, &[3]));
        assert_eq!(due(&sum), 6);
    }
}

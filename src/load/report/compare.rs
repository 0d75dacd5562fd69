//! Two reports side by side: what differs by more than chance would have it.
//!
//! Percentiles have intervals by order statistics (the counts below a percentile are binomial),
//! proportions those of Newcombe's method 10, of two Wilson intervals. Both take lookups for
//! independent of each other; those that wait in the same queue are not, so each percentile also
//! has its spread over the slots of the timeline, and a difference that is smaller than this is
//! none.

use serde::Serialize;

use super::shown::{Paint, Table, line, ms};
use super::{Group, Report, Slot, histogram, slo};

mod intervals;

use intervals::{newcombe, order_statistics, spread};

/// What nobody should read these tables without.
const CAVEAT: &str = "\
Lookups that wait in the same queue are not independent of each other, which makes intervals of
outcomes too narrow; those of percentiles allow for it by their spread over the run. Repeat runs
before you believe a small difference. Recovery, outages and stuck clients are one figure per run.
";

/// What a row says of the second report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Better,
    Worse,
    /// Not the same: no difference that chance would not make.
    NoDifferenceSeen,
}

/// One figure of both reports.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// `p99`, `unknown_host`, …, after the kind of client where there are several.
    pub what: String,
    /// `ms`, `s`, `%`, `/s`, or nothing for a count.
    pub unit: &'static str,
    /// In the first report.
    pub before: f64,
    /// In the second one.
    pub after: f64,
    /// 95 % interval of the difference, after less before.
    pub difference: (f64, f64),
    /// What that says.
    pub verdict: Verdict,
}

/// Two reports side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// What makes the two hard to compare: other rates, names, clients.
    pub differences_of_plan: Vec<String>,
    /// All figures.
    pub rows: Vec<Row>,
}

/// Lays two reports side by side.
///
/// # Errors
/// A histogram of one of them is broken.
pub fn compare(before: &Report, after: &Report) -> Result<Comparison, String> {
    let mut rows = vec![rate(before, after)];
    if before.total.lookups > 0 && after.total.lookups > 0 {
        rows.extend(outages(before, after));
    }
    of_group(&mut rows, "", (&before.total, before), (&after.total, after))?;
    if before.by_resolver.len() > 1 {
        for (name, group) in &before.by_resolver {
            if let Some(other) = after.by_resolver.get(name) {
                let prefix = format!("{}.", line(name));
                of_group(&mut rows, &prefix, (group, before), (other, after))?;
            }
        }
    }
    Ok(Comparison { differences_of_plan: plans(before, after), rows })
}

/// Lookups per second. What is wanted says what it should be, so more is neither better nor worse
/// unless one of them fell short.
fn rate(before: &Report, after: &Report) -> Row {
    let (one, other) = (&before.generator, &after.generator);
    let difference = other.begun_per_s - one.begun_per_s;
    let short = |it: &super::Generator| it.begun_per_s < it.wanted_per_s * 0.99;
    let verdict = match (short(one), short(other)) {
        (true, false) => Verdict::Better,
        (false, true) => Verdict::Worse,
        _ => Verdict::NoDifferenceSeen,
    };
    Row {
        what: "rate".to_owned(),
        unit: "/s",
        before: one.begun_per_s,
        after: other.begun_per_s,
        difference: (difference, difference),
        verdict,
    }
}

/// Percentiles and outcomes of the same lookups in both.
fn of_group(
    rows: &mut Vec<Row>,
    prefix: &str,
    before: (&Group, &Report),
    after: (&Group, &Report),
) -> Result<(), String> {
    if before.0.lookups == 0 || after.0.lookups == 0 {
        return Ok(());
    }
    let histograms = (
        histogram::decode(&before.0.latency.histogram)?,
        histogram::decode(&after.0.latency.histogram)?,
    );
    for (name, part, of_slot) in PERCENTILES {
        let one = estimate(&histograms.0, *part, before.1, *of_slot);
        let other = estimate(&histograms.1, *part, after.1, *of_slot);
        rows.push(percentile(format!("{prefix}{name}"), one, other));
    }
    let outcomes = before.0.outcomes.each().into_iter().zip(after.0.outcomes.each());
    let all = (before.0.lookups, after.0.lookups);
    for ((name, one), (_, other)) in outcomes {
        rows.push(proportion(
            format!("{prefix}{name}"),
            (one, all.0),
            (other, all.1),
            name == "ok",
        ));
    }
    let failed = (before.0.outcomes.failed(), after.0.outcomes.failed());
    rows.push(proportion(format!("{prefix}failed"), (failed.0, all.0), (failed.1, all.1), false));
    Ok(())
}

/// Runs whose lengths differ by more than this part are not the same.
const DURATION_PART: f64 = 0.05;

/// How outages ended: figures that a run has one of. Without repetitions nobody knows their chance,
/// so any difference is told, with itself as its interval; runs without faults have no recovery.
fn outages(before: &Report, after: &Report) -> Vec<Row> {
    let seconds = |unit: &'static str, what: &str, before: f64, after: f64| {
        let difference = after - before;
        let difference = (difference, difference);
        let verdict = verdict(difference, false);
        Row { what: what.to_owned(), unit, before, after, difference, verdict }
    };
    let (one, other) = (&before.total.recovery, &after.total.recovery);
    let mut rows = Vec::new();
    if let (Some(one), Some(other)) = (slo::recovery(before), slo::recovery(after)) {
        rows.push(seconds("s", "recovery", one, other));
    }
    rows.push(seconds("s", "longest outage", one.longest_outage_s, other.longest_outage_s));
    rows.push(seconds("", "stuck clients", one.stuck_clients as f64, other.stuck_clients as f64));
    rows
}

/// Percentiles with the same of each slot, where it has it.
type OfSlot = Option<fn(&Slot) -> f64>;
const PERCENTILES: &[(&str, f64, OfSlot)] = &[
    ("p50", 0.5, Some(|slot| slot.p50)),
    ("p90", 0.9, Some(|slot| slot.p90)),
    ("p99", 0.99, Some(|slot| slot.p99)),
    ("p999", 0.999, None),
];

/// A percentile in milliseconds with how far it may be off, downwards and upwards.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Estimate {
    value: f64,
    below: f64,
    above: f64,
}

fn estimate(
    histogram: &hdrhistogram::Histogram<u64>,
    part: f64,
    report: &Report,
    of_slot: OfSlot,
) -> Estimate {
    let value = histogram.value_at_quantile(part) as f64 / 1000.0;
    let (low, high) = order_statistics(histogram, part);
    let values = of_slot.map(|of_slot| {
        let slots = report.timeline.slots.iter().filter(|slot| slot.outcomes.all() > 0);
        slots.map(of_slot).collect::<Vec<f64>>()
    });
    let spread = values.map_or(0.0, |values| spread(&values));
    let below = (value - low / 1000.0).max(spread);
    let above = (high / 1000.0 - value).max(spread);
    Estimate { value, below, above }
}

/// The row of a percentile: differences of estimates add up by their squares.
fn percentile(what: String, before: Estimate, after: Estimate) -> Row {
    let difference = after.value - before.value;
    let low = difference - after.below.hypot(before.above);
    let high = difference + after.above.hypot(before.below);
    let verdict = verdict((low, high), false);
    let (before, after) = (before.value, after.value);
    Row { what, unit: "ms", before, after, difference: (low, high), verdict }
}

/// The row of a part of the lookups, in percent.
fn proportion(what: String, before: (u64, u64), after: (u64, u64), is_good: bool) -> Row {
    let percent = |(part, of): (u64, u64)| part as f64 * 100.0 / of as f64;
    let (low, high) = newcombe(before, after);
    let difference = (low * 100.0, high * 100.0);
    let verdict = verdict(difference, is_good);
    Row { what, unit: "%", before: percent(before), after: percent(after), difference, verdict }
}

/// What an interval of a difference says; `is_good` where more is better.
fn verdict((low, high): (f64, f64), is_good: bool) -> Verdict {
    match (low > 0.0, high < 0.0) {
        (true, _) if is_good => Verdict::Better,
        (true, _) => Verdict::Worse,
        (_, true) if is_good => Verdict::Worse,
        (_, true) => Verdict::Better,
        _ => Verdict::NoDifferenceSeen,
    }
}

/// In what the plans differ.
fn plans(before: &Report, after: &Report) -> Vec<String> {
    let (one, other) = (&before.plan, &after.plan);
    let mut differences = Vec::new();
    let mut note = |what: &str, one: String, other: String| {
        if one != other {
            differences.push(line(&format!("{what}: {one}, then {other}")));
        }
    };
    note("arrivals", one.arrivals.clone(), other.arrivals.clone());
    note("names", one.names.clone(), other.names.clone());
    note("number of names", one.name_count.to_string(), other.name_count.to_string());
    note("seed", one.seed.to_string(), other.seed.to_string());
    note("resolvers", one.resolvers.join(","), other.resolvers.join(","));
    note("clients", one.clients.to_string(), other.clients.to_string());
    note("transport", one.transport.clone(), other.transport.clone());
    note("slow from", ms(one.slow_ms), ms(other.slow_ms));
    let staleness = |ms_max: Option<f64>| ms_max.map_or("none known".to_owned(), ms);
    note("truth up to the age of", staleness(one.staleness_ms), staleness(other.staleness_ms));
    // Runs end when their last lookup does: a second more or less is no other plan.
    let (long, longer) = (before.duration_s, after.duration_s);
    if (long - longer).abs() > 1.0_f64.max(DURATION_PART * long.max(longer)) {
        note("duration", format!("{long:.1} s"), format!("{longer:.1} s"));
    }
    note("workers", before.workers.to_string(), after.workers.to_string());
    note("end", before.ended.clone(), after.ended.clone());
    let faults = |report: &Report| {
        report.faults.iter().map(|fault| fault.what.clone()).collect::<Vec<_>>().join(" ")
    };
    note("faults", faults(before), faults(after));
    for (name, report) in [("first", before), ("second", after)] {
        let saturated = report.generator.saturated.iter();
        differences.extend(saturated.map(|why| line(&format!("{name} report: {why}"))));
    }
    differences
}

impl Comparison {
    /// For a terminal.
    pub fn text(&self, paint: Paint) -> String {
        let mut text = String::new();
        for difference in &self.differences_of_plan {
            text.push_str(&paint.doubtful(&format!("not the same: {difference}")));
            text.push('\n');
        }
        let mut table = Table::new(&["", "before", "after", "difference, 95 %", ""]);
        for row in &self.rows {
            table.row(row.cells());
        }
        text.push_str(&table.text(paint));
        text.push_str(CAVEAT);
        text
    }

    /// For machines.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a comparison has only text as keys")
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let unit = self.unit;
        let (low, high) = self.difference;
        let verdict = match self.verdict {
            Verdict::Better => "better",
            Verdict::Worse => "WORSE",
            Verdict::NoDifferenceSeen => "no difference seen",
        };
        vec![
            self.what.clone(),
            format!("{:.3} {unit}", self.before).trim_end().to_owned(),
            format!("{:.3} {unit}", self.after).trim_end().to_owned(),
            format!("{low:+.3} … {high:+.3} {unit}").trim_end().to_owned(),
            verdict.to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    /// A run of 2000 lookups whose latencies are these, in microseconds, in turns.
    fn run(latencies: &[u64], failed: u64) -> Report {
        let values: Vec<u64> = (0..2000).map(|at| latencies[at % latencies.len()]).collect();
        let mut report = sample::with(failed);
        report.total = sample::group(&values, failed);
        report
    }

    fn row(comparison: &Comparison, what: &str) -> Row {
        comparison.rows.iter().find(|row| row.what == what).unwrap().clone()
    }

    #[test]
    fn the_same_run_has_no_differences() {
        let report = sample::report();
        let comparison = compare(&report, &report).unwrap();
        assert!(comparison.differences_of_plan.is_empty());
        assert!(comparison.rows.iter().all(|row| row.verdict == Verdict::NoDifferenceSeen));
        assert!(comparison.rows.iter().all(|row| row.before == row.after));
    }

    #[test]
    fn what_is_slower_and_fails_more_is_worse() {
        let before = run(&[1000, 1100, 1200], 0);
        let after = run(&[2000, 2100, 2200], 50);
        let comparison = compare(&before, &after).unwrap();
        for (what, verdict) in [
            ("p50", Verdict::Worse),
            ("p99", Verdict::Worse),
            ("unknown_host", Verdict::Worse),
            ("failed", Verdict::Worse),
            ("ok", Verdict::Worse),
            ("try_again", Verdict::NoDifferenceSeen),
            ("rate", Verdict::NoDifferenceSeen),
        ] {
            assert_eq!(row(&comparison, what).verdict, verdict, "{what}");
        }
        let back = compare(&after, &before).unwrap();
        assert_eq!(row(&back, "p99").verdict, Verdict::Better);
        assert_eq!(row(&back, "ok").verdict, Verdict::Better);
    }

    #[test]
    fn one_failure_more_is_chance() {
        let comparison = compare(&run(&[1000], 1), &run(&[1000], 2)).unwrap();
        assert_eq!(row(&comparison, "failed").verdict, Verdict::NoDifferenceSeen);
    }

    #[test]
    fn a_difference_smaller_than_the_spread_over_time_is_none() {
        let (mut before, mut after) = (run(&[1000, 1100], 0), run(&[1150, 1250], 0));
        for report in [&mut before, &mut after] {
            for (index, slot) in report.timeline.slots.iter_mut().enumerate() {
                slot.p50 = if index % 2 == 0 { 0.1 } else { 9.0 };
            }
        }
        let comparison = compare(&before, &after).unwrap();
        assert_eq!(row(&comparison, "p50").verdict, Verdict::NoDifferenceSeen);
        assert_eq!(row(&comparison, "p99").verdict, Verdict::Worse);
    }

    #[test]
    fn other_plans_are_pointed_out() {
        let mut other = sample::report();
        other.plan.arrivals = "constant:99".to_owned();
        other.plan.seed = 2;
        other.generator.saturated = Some("client saturated: slow".to_owned());
        let comparison = compare(&sample::report(), &other).unwrap();
        let wanted = [
            "arrivals: poisson:33, then constant:99",
            "seed: 1, then 2",
            "second report: client saturated: slow",
        ];
        assert_eq!(comparison.differences_of_plan, wanted);
        let text = comparison.text(Paint::PLAIN);
        assert!(text.starts_with("not the same: arrivals"), "{text}");
        assert!(text.contains("no difference seen") && text.contains("p999"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&comparison.json()).unwrap();
        assert_eq!(json["rows"][1]["verdict"], "no-difference-seen");
    }

    #[test]
    fn how_outages_ended_is_compared() {
        let (before, mut after) = (sample::report(), sample::report());
        after.faults[0].last_failure_after_s = Some(12.5);
        after.total.recovery.longest_outage_s = 1.25;
        after.total.recovery.stuck_clients = 0;
        let comparison = compare(&before, &after).unwrap();
        for (what, difference, verdict) in [
            ("recovery", 10.0, Verdict::Worse),
            ("longest outage", -1.0, Verdict::Better),
            ("stuck clients", -1.0, Verdict::Better),
        ] {
            let row = row(&comparison, what);
            assert_eq!(
                (row.difference, row.verdict),
                ((difference, difference), verdict),
                "{what}"
            );
        }
    }

    #[test]
    fn another_length_or_staleness_is_another_plan() {
        let mut other = sample::report();
        (other.duration_s, other.plan.staleness_ms) = (60.0, None);
        let differences = compare(&sample::report(), &other).unwrap().differences_of_plan;
        assert_eq!(
            differences,
            ["truth up to the age of: 1.00 s, then none known", "duration: 30.0 s, then 60.0 s"]
        );
        other = sample::report();
        other.duration_s = 30.9;
        assert!(compare(&sample::report(), &other).unwrap().differences_of_plan.is_empty());
    }

    #[test]
    fn an_empty_report_has_only_its_rate() {
        let comparison = compare(&Report::default(), &sample::report()).unwrap();
        assert_eq!(comparison.rows.len(), 1);
    }
}

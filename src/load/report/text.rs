//! The summary for a terminal. Its first line says how many lookups failed, and when the last one
//! did.

use super::shown::{Paint, Table, clock, count, line, many, ms, percent, seconds};
use super::{FaultMark, Group, Report};

/// Everything that a person wants to know of a run.
pub fn summary(report: &Report, paint: Paint) -> String {
    let parts = [
        head(report, paint),
        plan(report),
        outcomes(report, paint),
        failures(report, paint),
        latencies(report, paint),
        faults(report, paint),
        rest(report),
        goals(report, paint),
    ];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("\n")
}

/// How many failed, and when the last one did; and whether to believe it.
fn head(report: &Report, paint: Paint) -> String {
    let total = &report.total;
    let failed = total.recovery.failed;
    let mut text = if total.lookups == 0 {
        paint.bad("NOTHING WAS MEASURED: no lookup ended.")
    } else if failed == 0 {
        paint.good(&format!("No lookup failed: {}.", many(total.lookups, "lookup")))
    } else {
        paint.bad(&failed_line(report))
    };
    text.push('\n');
    if let Some(saturated) = &report.generator.saturated {
        text.push_str(&paint.doubtful(&line(saturated)));
        text.push('\n');
    }
    text
}

fn failed_line(report: &Report) -> String {
    let recovery = &report.total.recovery;
    let (failed, all) = (recovery.failed, report.total.lookups);
    let last = recovery.last_failure_s.unwrap_or_default();
    let of =
        format!("{} of {} lookups failed ({})", count(failed), count(all), percent(failed, all));
    let clock = clock(report.started_unix_ms, last);
    let stuck = match recovery.stuck_clients {
        0 => String::new(),
        stuck => format!("; {} stuck at the end", many(stuck, "client")),
    };
    format!("{of}, the last one at {} ({clock}){}{stuck}.", seconds(last), since_fault(report))
}

/// How long after its fault the last failure was.
fn since_fault(report: &Report) -> String {
    let fault = report.faults.iter().rev().find(|fault| fault.last_failure_after_s.is_some());
    fault.map_or_else(String::new, |fault| {
        let after = seconds(fault.last_failure_after_s.unwrap_or_default());
        format!(", {after} after {}", line(&fault.what))
    })
}

fn plan(report: &Report) -> String {
    let plan = &report.plan;
    let workers = match report.workers {
        0 | 1 => String::new(),
        workers => format!(", {workers} workers"),
    };
    line(&format!(
        "{}: {} of {} names from {}, by {} ({}){workers}, to {} for {:.1} s, {}; seed {}",
        report.title,
        plan.arrivals,
        count(plan.name_count),
        plan.names,
        many(plan.clients, "client"),
        plan.resolvers.join(", "),
        plan.servers.join(", "),
        report.duration_s,
        report.ended,
        plan.seed
    )) + "\n"
}

/// All lookups, and their parts where there are several.
fn groups(report: &Report) -> Vec<(&str, &Group)> {
    let mut groups = vec![("all", &report.total)];
    for parts in [&report.by_resolver, &report.by_class] {
        if parts.len() > 1 {
            groups.extend(parts.iter().map(|(name, group)| (&**name, group)));
        }
    }
    groups
}

fn outcomes(report: &Report, paint: Paint) -> String {
    let heads =
        ["", "lookups", "ok", "slow", "unknown host", "try again", "wrong", "packets/lookup"];
    let mut table = Table::new(&heads);
    for (name, group) in groups(report) {
        let all = group.lookups;
        let part = |part: u64| match part {
            0 => "0".to_owned(),
            part => format!("{} ({})", count(part), percent(part, all)),
        };
        let outcomes = &group.outcomes;
        let amplification = group.packets as f64 / all.max(1) as f64;
        table.row(vec![
            name.to_owned(),
            count(all),
            percent(outcomes.ok, all),
            part(outcomes.slow),
            part(outcomes.unknown_host),
            part(outcomes.try_again),
            part(outcomes.wrong),
            format!("{amplification:.2}"),
        ]);
    }
    table.text(paint)
}

fn failures(report: &Report, paint: Paint) -> String {
    let heads =
        ["failures", "failed", "first", "last", "last unknown host", "longest outage", "stuck"];
    let mut table = Table::new(&heads);
    for (name, group) in groups(report) {
        let recovery = &group.recovery;
        if recovery.failed == 0 {
            continue;
        }
        let at = |at: Option<f64>| at.map_or_else(|| "-".to_owned(), seconds);
        table.row(vec![
            name.to_owned(),
            count(recovery.failed),
            at(recovery.first_failure_s),
            at(recovery.last_failure_s),
            at(recovery.last_unknown_host_s),
            seconds(recovery.longest_outage_s),
            format!("{} of {}", count(recovery.stuck_clients), count(recovery.clients)),
        ]);
    }
    if table.is_empty() { String::new() } else { table.text(paint) }
}

fn latencies(report: &Report, paint: Paint) -> String {
    let mut table = Table::new(&["latency", "p50", "p90", "p99", "p99.9", "max", "mean"]);
    for (name, group) in groups(report).into_iter().filter(|(_, group)| group.lookups > 0) {
        let it = &group.latency;
        let figures = [it.p50, it.p90, it.p99, it.p999, it.max, it.mean].map(ms);
        table.row(std::iter::once(name.to_owned()).chain(figures).collect());
    }
    if table.is_empty() { String::new() } else { table.text(paint) }
}

fn faults(report: &Report, paint: Paint) -> String {
    let mut table = Table::new(&["fault", "at", "failed", "first after", "last after", "", ""]);
    for fault in &report.faults {
        table.row(fault_row(fault));
    }
    if table.is_empty() { String::new() } else { table.text(paint) }
}

fn fault_row(fault: &FaultMark) -> Vec<String> {
    let after = |at: Option<f64>| at.map_or_else(|| "-".to_owned(), seconds);
    let mut row = vec![
        fault.what.clone(),
        seconds(fault.at_s),
        count(fault.failed),
        after(fault.first_failure_after_s),
        after(fault.last_failure_after_s),
    ];
    row.extend(
        fault
            .last_unknown_host_after_s
            .map(|at| format!("last unknown host after {}", seconds(at))),
    );
    row.extend(fault.error.as_ref().map(|why| format!("COULD NOT BE DONE: {why}")));
    row
}

/// Truth, packets and the client, a line each.
fn rest(report: &Report) -> String {
    let mut text = String::new();
    let truth = &report.total.truth;
    if truth.all() > 0 {
        text.push_str(&format!("  truth      {}", counts(&truth.each())));
        if let Some(fresh) = report.total.recovery.fresh_after_max_s {
            text.push_str(&format!("; a change was seen after {} at most", seconds(fresh)));
        }
        text.push('\n');
    }
    let unjudged = report.unjudged.each();
    if unjudged.iter().any(|(_, number)| *number > 0) {
        text.push_str(&format!("  not judged {}\n", counts(&unjudged)));
    }
    text.push_str(&format!("  packets    {}\n", counts(&report.packets.each())));
    let it = &report.generator;
    text.push_str(&format!(
        "  client     {:.1} of {:.1} lookups/s begun, {} late by more than 1 ms (p99 {}), {} never \
         begun, {:.2} cores\n",
        it.begun_per_s,
        it.wanted_per_s,
        count(it.late),
        ms(it.lateness.p99),
        count(it.not_begun),
        it.cores
    ));
    text
}

/// What there is any of.
fn counts(counts: &[(&str, u64)]) -> String {
    let some = counts.iter().filter(|(_, number)| *number > 0);
    let some: Vec<String> = some
        .map(|(name, number)| format!("{} {}", count(*number), name.replace('_', " ")))
        .collect();
    if some.is_empty() { "none".to_owned() } else { some.join(", ") }
}

fn goals(report: &Report, paint: Paint) -> String {
    let width = report.slo.iter().map(|goal| goal.goal.chars().count()).max().unwrap_or_default();
    let row = |goal: &super::Goal| {
        let word = if goal.is_met { paint.good("met   ") } else { paint.bad("MISSED") };
        format!("  {word}  {:<width$}  seen {}\n", line(&goal.goal), line(&goal.seen))
    };
    report.slo.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Goal, Truths, Unjudged, sample};
    use super::*;

    fn first_line(report: &Report) -> String {
        summary(report, Paint::PLAIN).lines().next().unwrap().to_owned()
    }

    #[test]
    fn the_first_line_says_how_many_failed_and_when_the_last_one_did() {
        assert_eq!(
            first_line(&sample::report()),
            "7 of 1,000 lookups failed (0.70 %), the last one at 12.500 s (22:13:32 UTC), 2.500 s \
             after kill9@10s; 1 client stuck at the end."
        );
        assert_eq!(first_line(&sample::with(0)), "No lookup failed: 1,000 lookups.");
        assert!(first_line(&Report::default()).starts_with("NOTHING WAS MEASURED"));
    }

    #[test]
    fn a_saturated_client_is_said_before_any_figure() {
        let mut report = sample::with(0);
        report.generator.saturated = Some("client saturated: too slow".to_owned());
        let text = summary(&report, Paint::PLAIN);
        assert_eq!(text.lines().nth(1), Some("client saturated: too slow"));
    }

    #[test]
    fn every_part_is_told() {
        let mut report = sample::report();
        let goal =
            |goal: &str, is_met| Goal { goal: goal.to_owned(), seen: "7".to_owned(), is_met };
        report.slo = vec![goal("p99<5ms", true), goal("unknown_host=0", false)];
        report.by_class.insert("foreign".to_owned(), sample::group(&[2000], 0));
        report.unjudged = Unjudged { unknown: 3, blind: 1200, ..Unjudged::default() };
        report.faults[0].error = Some("no such\nprocess".to_owned());
        let text = summary(&report, Paint::PLAIN);
        for part in [
            "load: poisson:33 of 100 names from names.txt, by 20 clients (glibc), to 10.96.0.10:53",
            "unknown host",
            "7 (0.70 %)",
            "12.500 s",
            "1 of 20",
            "p99.9",
            "COULD NOT BE DONE: no such process",
            "truth      993 ok, 7 wrong negative; a change was seen after 0.250 s at most",
            "not judged 3 unknown, 1,200 blind\n",
            "packets    2,000 sent, 1,990 answered, 10 lost",
            "client     33.3 of 33.3 lookups/s begun",
            "  met     p99<5ms         seen 7\n",
            "  MISSED  unknown_host=0  seen 7\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        // The kind of name that had no failure has no line among the failures.
        assert_eq!(text.lines().filter(|it| it.trim().starts_with("foreign")).count(), 2);
        assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
    }

    #[test]
    fn what_is_not_known_has_no_line() {
        let mut report = sample::with(0);
        report.total.truth = Truths::default();
        report.faults.clear();
        let text = summary(&report, Paint::PLAIN);
        for part in ["truth", "not judged", "failures", "fault"] {
            assert!(!text.contains(part), "{part}\n{text}");
        }
    }
}

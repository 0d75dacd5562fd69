//! What is printed of drills: the list, and one table for the servers of each.

use std::fmt::Write as _;

use super::file::Drill;
use crate::load::report::{Group, Report};

/// All drills with their questions.
pub fn list(drills: &[Drill]) -> String {
    let width = drills.iter().map(|drill| drill.name.len()).max().unwrap_or(0);
    let mut text = "Drills, for `mainstay load drill NAME`:\n\n".to_owned();
    for drill in drills {
        let _ = writeln!(text, "  {:width$}  {}", drill.name, drill.question);
    }
    text
}

/// The servers beside each other, as a table of Markdown, which people can read as it is.
pub fn results(drill: &Drill, reports: &[(String, Report)]) -> String {
    let mut text = format!("### {}\n\n{}\n\n", drill.name, drill.question);
    let first = drill.steps.first().map_or(0.0, |step| step.at.as_secs_f64());
    text += "| clients |";
    for (name, _) in reports {
        let _ = write!(text, " {name} |");
    }
    text += "\n|---|";
    text += &"---|".repeat(reports.len());
    text.push('\n');
    for resolver in &drill.resolvers {
        let groups = reports.iter().map(|(_, report)| report.by_resolver.get(resolver.name()));
        row(&mut text, resolver.name(), groups, first);
    }
    row(&mut text, "**all**", reports.iter().map(|(_, report)| Some(&report.total)), first);
    for (name, report) in reports {
        notes(&mut text, name, report);
    }
    text
}

fn row<'r>(
    text: &mut String,
    name: &str,
    groups: impl Iterator<Item = Option<&'r Group>>,
    first: f64,
) {
    let _ = write!(text, "| {name} |");
    for group in groups {
        let cell = group.map_or_else(|| "nothing".to_owned(), |group| cell(group, first));
        let _ = write!(text, " {cell} |");
    }
    text.push('\n');
}

/// Failed lookups of all, when the last one failed, and who is stuck.
fn cell(group: &Group, first: f64) -> String {
    let mut cell = format!("{} of {} failed", group.recovery.failed, group.lookups);
    if let Some(last) = group.recovery.last_failure_s {
        let _ = write!(cell, ", the last {:+.1} s", last - first);
    }
    if group.recovery.stuck_clients > 0 {
        let _ =
            write!(cell, ", {} of {} stuck", group.recovery.stuck_clients, group.recovery.clients);
    }
    if group.outcomes.wrong > 0 {
        let _ = write!(cell, ", {} untrue", group.outcomes.wrong);
    }
    if group.outcomes.slow > 0 {
        let _ = write!(cell, ", {} slow", group.outcomes.slow);
    }
    cell
}

/// What is to be known beside the figures.
fn notes(text: &mut String, name: &str, report: &Report) {
    let faults = report.faults.iter();
    for (fault, error) in faults.filter_map(|it| it.error.as_ref().map(|error| (it, error))) {
        let _ = writeln!(text, "\n{name}: {} was not done: {error}", fault.what);
    }
    if let Some(why) = &report.generator.saturated {
        let _ = writeln!(text, "\n{name}: {why}");
    }
}

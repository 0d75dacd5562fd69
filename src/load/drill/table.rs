//! What is printed of drills: the list, and one table for the servers of each.

use std::fmt::Write as _;

use super::Measured;
use super::file::Drill;
use super::site::Site;
use super::step::{Act, Illness};
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
pub fn results(drill: &Drill, measured: &[(String, Measured)]) -> String {
    let first = drill.first_step().map_or(0.0, |step| step.at.as_secs_f64());
    let since = drill.first_step().map_or("the start", |step| &step.text);
    let mut text = format!("### {}\n\n{}\n\n", drill.name, drill.question);
    let _ = writeln!(text, "Failed lookups, and when the last one ended, since `{since}`:\n");
    text += "| clients |";
    for (name, _) in measured {
        let _ = write!(text, " {name} |");
    }
    text += "\n|---|";
    text += &"---|".repeat(measured.len());
    text.push('\n');
    for resolver in &drill.resolvers {
        let group = |report: &Report| report.by_resolver.get(resolver.name()).cloned();
        row(&mut text, resolver.name(), measured, first, group);
    }
    row(&mut text, "**all**", measured, first, |report| Some(report.total.clone()));
    for (name, measured) in measured {
        for note in &measured.notes {
            let _ = writeln!(text, "\n{name}: {note}");
        }
    }
    text
}

fn row(
    text: &mut String,
    name: &str,
    measured: &[(String, Measured)],
    first: f64,
    group: impl Fn(&Report) -> Option<Group>,
) {
    let _ = write!(text, "| {name} |");
    for (_, measured) in measured {
        let group = group(&measured.report);
        let cell = group.map_or_else(|| "nothing".to_owned(), |group| cell(&group, first));
        let _ = write!(text, " {cell} |");
    }
    text.push('\n');
}

/// Failed lookups of all, when the last one failed, and who is stuck.
fn cell(group: &Group, first: f64) -> String {
    let recovery = &group.recovery;
    let mut cell = format!("{} of {}", recovery.failed, group.lookups);
    if let Some(last) = recovery.last_failure_s {
        let _ = write!(cell, ", last {:.1} s", last - first);
    }
    let outcomes = &group.outcomes;
    let slow = (outcomes.slow, "slow");
    for (count, what) in
        [(recovery.stuck_clients, "clients stuck"), (outcomes.wrong, "untrue"), slow]
    {
        if count > 0 {
            let _ = write!(cell, ", {count} {what}");
        }
    }
    cell
}

/// What is to be known beside the figures.
pub fn notes(drill: &Drill, report: &Report, site: &Site) -> Vec<String> {
    let mut notes = site.own_losses();
    let (questions, taken) = site.upstream_questions();
    if drill.steps.iter().any(|step| is_illness(&step.act)) {
        notes.push(format!(
            "the upstream got {questions} questions, of which {taken} were ill-treated"
        ));
    }
    for fault in &report.faults {
        if let Some(error) = &fault.error {
            notes.push(format!("{} was not done: {error}", fault.what));
        }
    }
    let after: u64 = report.faults.iter().map(|fault| fault.failed).sum();
    let early = report.total.recovery.failed.saturating_sub(after);
    notes.extend((early > 0).then(|| format!("{early} lookups failed before anything was done")));
    notes.extend(report.generator.saturated.clone());
    notes
        .extend((report.ended != super::COMPLETE).then(|| format!("the run was {}", report.ended)));
    notes
}

fn is_illness(act: &Act) -> bool {
    matches!(act, Act::Upstream(illness) if *illness != Illness::Well)
}

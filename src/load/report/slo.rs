//! Goals: `p99<5ms,unknown_host=0,recovery<2s` decides whether a run was good.
//!
//! ```text
//! goal   = [scope "."] metric ("<" | "<=" | "=" | ">=" | ">") value
//! scope  = kind of name | kind of client           service.unknown_host=0, glibc.p99<5ms
//! value  = time | count | percent | number         5ms, 0, 0.1%, 2.5
//! ```
//!
//! What could not be measured is not met: a run that says nothing is no proof, and neither is one
//! that did not come to its end.

mod measure;
mod parse;

use super::{Goal, Group, Report};
use crate::load::record::COMPLETE;
pub use measure::{METRICS, Metric};

/// Most goals of a run.
pub const GOALS_MAX: usize = 100;

/// One goal, as it is understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// As written.
    text: String,
    /// A kind of name or client; all lookups without one.
    scope: Option<String>,
    metric: Metric,
    operator: Operator,
    value: Value,
}

/// How what is seen has to stand to the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Less,
    AtMost,
    Equal,
    AtLeast,
    More,
}

impl Operator {
    fn holds(self, seen: f64, wanted: f64) -> bool {
        match self {
            Self::Less => seen < wanted,
            Self::AtMost => seen <= wanted,
            Self::Equal => seen == wanted,
            Self::AtLeast => seen >= wanted,
            Self::More => seen > wanted,
        }
    }
}

/// What a goal compares with.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Seconds(f64),
    Number(f64),
    /// A part of all lookups.
    Percent(f64),
}

/// Reads the goals of a command line.
///
/// # Errors
/// One line: which goal is wrong, and what to write.
pub fn parse(text: &str) -> Result<Vec<Objective>, String> {
    let goals = text.split(',').map(str::trim).filter(|goal| !goal.is_empty());
    let goals: Vec<Objective> = goals.map(parse::goal).collect::<Result<_, _>>()?;
    match goals.len() {
        0 => Err("--slo: no goal; write one as p99<5ms or unknown_host=0".to_owned()),
        count if count > GOALS_MAX => Err(format!("--slo: more than {GOALS_MAX} goals")),
        _ => Ok(goals),
    }
}

/// Judges a run. Where it did not come to its end, that is a goal of its own, which was missed.
pub fn evaluate(goals: &[Objective], report: &Report) -> Vec<Goal> {
    let mut judged: Vec<Goal> = goals.iter().map(|goal| goal.judge(report)).collect();
    if !goals.is_empty() && report.ended != COMPLETE {
        let (goal, seen) = ("run complete".to_owned(), report.ended.clone());
        judged.push(Goal { goal, seen, is_met: false });
    }
    judged
}

impl Objective {
    fn judge(&self, report: &Report) -> Goal {
        let seen = self.group(report).and_then(|group| self.metric.measure(report, group));
        let (seen, is_met) = match seen {
            Err(why) => (format!("not measured: {why}"), false),
            Ok(seen) => self.compare(seen),
        };
        Goal { goal: self.text.clone(), seen: seen + self.doubt(report), is_met }
    }

    /// The lookups that it is about.
    fn group<'r>(&self, report: &'r Report) -> Result<&'r Group, String> {
        let Some(scope) = &self.scope else { return Ok(&report.total) };
        let group = report.by_class.get(scope).or_else(|| report.by_resolver.get(scope));
        group.ok_or_else(|| format!("no lookup of {scope} ended"))
    }

    /// What was seen, and whether it is as wanted.
    fn compare(&self, seen: measure::Seen) -> (String, bool) {
        use measure::Seen;
        match (seen, self.value) {
            (Seen::Seconds(seen), Value::Seconds(wanted)) => {
                (time(seen), self.operator.holds(seen, wanted))
            }
            (Seen::Count { count, of }, Value::Percent(wanted)) if of > 0 => {
                // Divided last, so that 7 of 1000 are 0.7 %, exactly.
                let is_met = self.operator.holds(count as f64, wanted * of as f64 / 100.0);
                (format!("{} ({count} of {of})", percent(count as f64 / of as f64)), is_met)
            }
            (Seen::Count { count, .. }, Value::Number(wanted)) => {
                (count.to_string(), self.operator.holds(count as f64, wanted))
            }
            (Seen::Number(seen), Value::Number(wanted)) => {
                (format!("{seen:.2}"), self.operator.holds(seen, wanted))
            }
            _ => ("not measured: no lookups to take a part of".to_owned(), false),
        }
    }

    /// Latencies of a client that could not keep up are not those of the server.
    fn doubt(&self, report: &Report) -> &'static str {
        let is_saturated = report.generator.saturated.is_some();
        if is_saturated && self.metric.is_of_time() {
            "; client saturated, so this may not be the server's doing"
        } else {
            ""
        }
    }
}

/// How long a run took to recover, in seconds, where that is known.
pub(super) fn recovery(report: &Report) -> Option<f64> {
    match Metric::Recovery.measure(report, &report.total) {
        Ok(measure::Seen::Seconds(seconds)) => Some(seconds),
        _ => None,
    }
}

/// A time with its unit.
fn time(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.3} ms", seconds * 1000.0) } else { format!("{seconds:.3} s") }
}

/// A part as percent, with as many digits as small parts need.
fn percent(part: f64) -> String {
    format!("{:.4} %", part * 100.0)
}

#[cfg(test)]
mod tests;

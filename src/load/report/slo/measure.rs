//! What goals can be about, and how a report tells it.

use super::super::{Group, Report};

/// What a goal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    P50,
    P90,
    P99,
    P999,
    Max,
    Mean,
    OkLookups,
    UnknownHost,
    TryAgain,
    Slow,
    Wrong,
    Failed,
    Lost,
    WrongNegative,
    Stale,
    WrongPositive,
    StuckClients,
    Late,
    NotBegun,
    Recovery,
    LongestOutage,
    FreshAfter,
    Rate,
    Amplification,
}

use Metric::*;

/// All metrics, as they are written.
pub const METRICS: &[(&str, Metric)] = &[
    ("p50", P50),
    ("p90", P90),
    ("p99", P99),
    ("p999", P999),
    ("max", Max),
    ("mean", Mean),
    ("ok", OkLookups),
    ("unknown_host", UnknownHost),
    ("try_again", TryAgain),
    ("slow", Slow),
    ("wrong", Wrong),
    ("failed", Failed),
    ("lost", Lost),
    ("wrong_negative", WrongNegative),
    ("stale", Stale),
    ("wrong_positive", WrongPositive),
    ("stuck_clients", StuckClients),
    ("late", Late),
    ("not_begun", NotBegun),
    ("recovery", Recovery),
    ("longest_outage", LongestOutage),
    ("fresh_after", FreshAfter),
    ("rate", Rate),
    ("amplification", Amplification),
];

/// What the values of a metric are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Time,
    /// A count, or a percent of all.
    Count,
    Number,
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Seen {
    Seconds(f64),
    Count { count: u64, of: u64 },
    Number(f64),
}

impl Metric {
    /// What its values are.
    pub fn unit(self) -> Unit {
        match self {
            P50 | P90 | P99 | P999 | Max | Mean | Recovery | LongestOutage | FreshAfter => {
                Unit::Time
            }
            Rate | Amplification => Unit::Number,
            _ => Unit::Count,
        }
    }

    /// Whether it is a latency, which a slow client makes longer.
    pub fn is_of_time(self) -> bool {
        matches!(self, P50 | P90 | P99 | P999 | Max | Mean | Slow | Rate)
    }

    /// Whether only the whole run has it.
    pub fn is_of_the_run(self) -> bool {
        matches!(self, Late | NotBegun | Recovery | Rate)
    }

    /// What the report says of it.
    ///
    /// # Errors
    /// Why it says nothing.
    pub fn measure(self, report: &Report, group: &Group) -> Result<Seen, String> {
        // Lookups that were never begun are known without any that ended.
        if group.lookups == 0 && self != NotBegun {
            return Err("no lookup ended".to_owned());
        }
        let latency = &group.latency;
        match self {
            P50 => Ok(ms(latency.p50)),
            P90 => Ok(ms(latency.p90)),
            P99 => Ok(ms(latency.p99)),
            P999 => Ok(ms(latency.p999)),
            Max => Ok(ms(latency.max)),
            Mean => Ok(ms(latency.mean)),
            Recovery => recovery(report),
            LongestOutage => Ok(Seen::Seconds(group.recovery.longest_outage_s)),
            FreshAfter => fresh_after(group),
            Rate => Ok(Seen::Number(report.generator.begun_per_s)),
            Amplification => Ok(Seen::Number(group.packets as f64 / group.lookups as f64)),
            _ => self.count(report, group),
        }
    }

    /// Those that are counts.
    fn count(self, report: &Report, group: &Group) -> Result<Seen, String> {
        let (outcomes, truth) = (&group.outcomes, &group.truth);
        let of = group.lookups;
        let count = match self {
            OkLookups => outcomes.ok,
            UnknownHost => outcomes.unknown_host,
            TryAgain => outcomes.try_again,
            Slow => outcomes.slow,
            Wrong => outcomes.wrong,
            Failed => outcomes.failed(),
            StuckClients => return clients(group),
            Late => report.generator.late,
            NotBegun => return not_begun(report),
            _ if truth.all() == 0 => return Err(NO_TRUTH.to_owned()),
            _ => {
                let count = match self {
                    Lost => truth.lost,
                    WrongNegative => truth.wrong_negative,
                    WrongPositive => truth.wrong_positive,
                    _ => truth.stale,
                };
                return Ok(Seen::Count { count, of: truth.all() });
            }
        };
        Ok(Seen::Count { count, of })
    }
}

/// Why there are no verdicts.
const NO_TRUTH: &str = "the truth of no answer is known; it is with --cluster or --manifests";

fn ms(ms: f64) -> Seen {
    Seen::Seconds(ms / 1000.0)
}

fn clients(group: &Group) -> Result<Seen, String> {
    let recovery = &group.recovery;
    Ok(Seen::Count { count: recovery.stuck_clients, of: recovery.clients })
}

fn not_begun(report: &Report) -> Result<Seen, String> {
    let count = report.generator.not_begun;
    let of = report.total.lookups.saturating_add(count);
    if of == 0 {
        return Err("no lookup was due".to_owned());
    }
    Ok(Seen::Count { count, of })
}

/// The longest time from a fault to the last failure before the next one, over all faults; without
/// faults, from the first failure to the last. A fault that could not be done proves nothing.
fn recovery(report: &Report) -> Result<Seen, String> {
    if let Some(fault) = report.faults.iter().find(|fault| fault.error.is_some()) {
        return Err(format!("{} could not be done", fault.what));
    }
    let of_faults =
        report.faults.iter().filter_map(|fault| fault.last_failure_after_s).reduce(f64::max);
    let recovery = &report.total.recovery;
    let span =
        recovery.last_failure_s.zip(recovery.first_failure_s).map(|(last, first)| last - first);
    let seconds = if report.faults.is_empty() { span } else { of_faults };
    Ok(Seen::Seconds(seconds.unwrap_or(0.0)))
}

fn fresh_after(group: &Group) -> Result<Seen, String> {
    let seen = group.recovery.fresh_after_max_s;
    seen.map(Seen::Seconds).ok_or_else(|| "no change of an object was seen".to_owned())
}

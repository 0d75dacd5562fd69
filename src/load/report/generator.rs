//! Whether the client could do what it was told. If not, its figures are no fault of the server.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{Generator, histogram};

/// More lookups than this part that began over 1 ms late, and [`LATE_P99_MS_MAX`]: what is told of
/// latencies below some milliseconds is about the client.
const LATE_MAX: f64 = 0.01;
/// How late one lookup in a hundred may begin, in milliseconds. A thread that wakes up for a lookup
/// is late by one or two on any machine; this one is short of time.
const LATE_P99_MS_MAX: f64 = 5.0;
/// More lookups than this part that were never begun: the load was another one than was wanted.
const NOT_BEGUN_MAX: f64 = 0.001;
/// A few late lookups of a short run say nothing about the client.
const LATE_FEW: u64 = 10;
/// What the verdict begins with.
pub const SATURATED: &str = "client saturated:";

/// What the client began, and how.
#[derive(Debug)]
pub struct Begun {
    /// Lookups that were begun, and ended.
    pub lookups: u64,
    /// Those that began over 1 ms late.
    pub late: u64,
    /// How late lookups began, in microseconds.
    pub lateness: Histogram<u64>,
    /// Lookups that were due and never begun.
    pub not_begun: u64,
    /// For how long lookups became due.
    pub span: Duration,
}

impl Default for Begun {
    fn default() -> Self {
        let lateness = histogram::empty();
        Self { lookups: 0, late: 0, lateness, not_begun: 0, span: Duration::ZERO }
    }
}

/// The part of the report, with a verdict.
pub fn judge(begun: &Begun, cores: f64) -> Generator {
    let span_s = begun.span.as_secs_f64();
    let per_s = |count: u64| {
        if span_s > 0.0 { histogram::rounded(count as f64 / span_s) } else { 0.0 }
    };
    let mut generator = Generator {
        late: begun.late,
        lateness: histogram::latency(&begun.lateness),
        not_begun: begun.not_begun,
        wanted_per_s: per_s(begun.lookups + begun.not_begun),
        begun_per_s: per_s(begun.lookups),
        cores: histogram::rounded(cores),
        saturated: None,
    };
    generator.saturated = saturated(&generator, begun.lookups);
    generator
}

/// `client saturated: …`, with what to do.
fn saturated(generator: &Generator, lookups: u64) -> Option<String> {
    let part = |count: u64, of: u64| if of == 0 { 0.0 } else { count as f64 / of as f64 };
    let not_begun = part(generator.not_begun, lookups + generator.not_begun);
    let late = part(generator.late, lookups);
    let mut reasons = Vec::new();
    if not_begun > NOT_BEGUN_MAX {
        reasons.push(format!(
            "{:.2} % of the lookups were never begun, because too many were under way",
            not_begun * 100.0
        ));
    }
    let is_short_of_time = generator.lateness.p99 > LATE_P99_MS_MAX || generator.not_begun > 0;
    if late > LATE_MAX && generator.late > LATE_FEW && is_short_of_time {
        reasons.push(format!(
            "{:.1} % of the lookups began more than 1 ms late (p99 {:.1} ms)",
            late * 100.0,
            generator.lateness.p99
        ));
    }
    let remedy = "lower the rate, add --threads, --clients or --workers, or use an idle machine";
    let is_any = !reasons.is_empty();
    is_any.then(|| format!("{SATURATED} {}; {remedy}", reasons.join(", and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(lookups: u64, late: u64, not_begun: u64) -> Generator {
        late_by(6000, lookups, late, not_begun)
    }

    fn late_by(us: u64, lookups: u64, late: u64, not_begun: u64) -> Generator {
        let mut begun =
            Begun { lookups, late, not_begun, span: Duration::from_secs(10), ..Begun::default() };
        (0..late).for_each(|_| histogram::record(&mut begun.lateness, us));
        judge(&begun, 0.5)
    }

    #[test]
    fn a_client_that_keeps_up_is_not_saturated() {
        let generator = begun(100_000, 900, 90);
        assert_eq!(generator.saturated, None);
        assert_eq!((generator.begun_per_s, generator.wanted_per_s), (10_000.0, 10_009.0));
        assert_eq!(begun(0, 0, 0).saturated, None);
        assert_eq!(begun(100, 5, 0).saturated, None, "five late ones say nothing");
    }

    #[test]
    fn threads_that_wake_up_a_little_late_are_no_saturation() {
        assert_eq!(late_by(2000, 100_000, 90_000, 0).saturated, None);
        let dropped = late_by(2000, 100_000, 90_000, 1).saturated;
        assert!(dropped.unwrap().contains("began more than 1 ms late"));
    }

    #[test]
    fn what_is_late_or_never_begun_is_said_with_a_remedy() {
        let late = begun(100_000, 3200, 0).saturated.unwrap();
        assert!(late.starts_with("client saturated: 3.2 % of the lookups began more than 1 ms"));
        assert!(late.contains("p99 6.0 ms") && late.contains("lower the rate"), "{late}");
        let both = begun(90_000, 3200, 10_000).saturated.unwrap();
        assert!(both.contains("10.00 % of the lookups were never begun"), "{both}");
        assert!(both.contains(", and 3.6 %"), "{both}");
    }
}

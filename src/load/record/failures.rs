//! When lookups failed, and which fault that came of.
//!
//! Failures are kept in bins of 10 ms, only where there are any, so that faults may be told of
//! afterwards. When bins are too many, each two become one. A failure belongs to the last fault
//! that was done before it ended: a lookup that was under way dies of the fault.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::report::FaultMark;

/// The shortest bin.
const GRAIN: Duration = Duration::from_millis(10);
/// Most bins: 200 s of nothing but failures before bins are 20 ms long.
const BINS_MAX: usize = 20_000;
/// Most faults of a run that are told of.
pub const FAULTS_MAX: usize = 1000;

/// The failures that ended in one bin.
#[derive(Clone, Copy, Debug)]
struct Bin {
    count: u64,
    first_due: Duration,
    last_end: Duration,
    last_unknown_host: Option<Duration>,
}

impl Bin {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.first_due = self.first_due.min(other.first_due);
        self.last_end = self.last_end.max(other.last_end);
        self.last_unknown_host = self.last_unknown_host.max(other.last_unknown_host);
    }
}

/// The failures of a run.
#[derive(Debug, Default)]
pub struct Failures {
    doublings: u32,
    bins: BTreeMap<u64, Bin>,
}

impl Failures {
    /// Notes one.
    pub fn record(&mut self, due: Duration, ended: Duration, is_unknown_host: bool) {
        let index = self.index(ended);
        let last_unknown_host = is_unknown_host.then_some(ended);
        let bin = Bin { count: 1, first_due: due, last_end: ended, last_unknown_host };
        self.bins.entry(index).and_modify(|it| it.add(&bin)).or_insert(bin);
        while self.bins.len() > BINS_MAX {
            self.double();
        }
    }

    fn index(&self, at: Duration) -> u64 {
        ((at.as_nanos() / GRAIN.as_nanos()) as u64) >> self.doublings
    }

    fn double(&mut self) {
        self.doublings += 1;
        for (index, bin) in std::mem::take(&mut self.bins) {
            self.bins.entry(index / 2).and_modify(|it| it.add(&bin)).or_insert(bin);
        }
    }

    /// The faults with what came of each.
    pub fn marks(&self, faults: &Faults) -> Vec<FaultMark> {
        let noted = &faults.noted;
        let end = |index: usize| noted.get(index + 1).map_or(Duration::MAX, |next| next.at);
        (0..noted.len()).map(|index| self.mark(&noted[index], end(index))).collect()
    }

    /// One fault, with the failures until the next one.
    fn mark(&self, fault: &Fault, next: Duration) -> FaultMark {
        let to = if next == Duration::MAX { u64::MAX } else { self.index(next) };
        // Two faults of the same bin: its failures belong to the later one.
        let bins = self.bins.range(self.index(fault.at).min(to)..to).map(|(_, bin)| bin);
        let mut sum: Option<Bin> = None;
        for bin in bins.filter(|bin| bin.last_end >= fault.at) {
            sum.get_or_insert(Bin { count: 0, ..*bin }).add(bin);
        }
        let after = |at: Duration| at.saturating_sub(fault.at).as_secs_f64();
        FaultMark {
            what: fault.what.clone(),
            at_s: fault.at.as_secs_f64(),
            until_s: fault.until.map(|until| until.as_secs_f64()),
            error: fault.error.clone(),
            first_failure_after_s: sum.map(|sum| after(sum.first_due)),
            last_failure_after_s: sum.map(|sum| after(sum.last_end)),
            last_unknown_host_after_s: sum.and_then(|sum| sum.last_unknown_host).map(after),
            failed: sum.map_or(0, |sum| sum.count),
        }
    }
}

/// A fault that was done, or tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// As written.
    pub what: String,
    /// When it was done.
    pub at: Duration,
    /// When it was undone.
    pub until: Option<Duration>,
    /// Why it could not be done.
    pub error: Option<String>,
}

/// The faults of a run, by time.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    noted: Vec<Fault>,
    /// Those beyond [`FAULTS_MAX`].
    pub refused: u64,
}

impl Faults {
    /// Notes a fault, or what is new about one that was noted with the same text and time.
    pub fn note(&mut self, fault: Fault) {
        let known = |it: &&mut Fault| it.what == fault.what && it.at == fault.at;
        if let Some(known) = self.noted.iter_mut().find(known) {
            known.until = fault.until.or(known.until);
            known.error = fault.error.or(known.error.take());
        } else if self.noted.len() == FAULTS_MAX {
            self.refused += 1;
        } else {
            let place = self.noted.partition_point(|it| it.at <= fault.at);
            self.noted.insert(place, fault);
        }
    }

    /// Whether anything is known of that fault.
    pub fn is_noted(&self, what: &str) -> bool {
        self.noted.iter().any(|it| it.what == what)
    }

    /// Those that go on at `now`: begun, and neither undone nor failed. What has no end is not told
    /// here: nobody knows when it is over.
    pub fn under_way(&self, now: Duration) -> Vec<String> {
        let is_on = |it: &&Fault| {
            it.error.is_none() && it.at <= now && it.until.is_some_and(|until| until > now)
        };
        self.noted.iter().filter(is_on).map(|it| it.what.clone()).collect()
    }

    /// How many were done.
    pub fn done(&self) -> u64 {
        self.noted.iter().filter(|it| it.error.is_none()).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn s(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn fault(what: &str, at: f64) -> Fault {
        Fault { what: what.to_owned(), at: s(at), until: None, error: None }
    }

    #[test]
    fn each_failure_belongs_to_the_fault_before_its_end() {
        let mut failures = Failures::default();
        for (due, ended, is_unknown) in
            [(1.0, 1.2, true), (9.9, 14.9, false), (12.0, 12.5, true), (59.0, 64.0, false)]
        {
            failures.record(s(due), s(ended), is_unknown);
        }
        let mut faults = Faults::default();
        faults.note(fault("stop@60s", 60.0));
        faults.note(fault("kill9@10s", 10.0));
        faults.note(fault("term@70s", 70.0));
        let marks = failures.marks(&faults);
        assert_eq!(marks[0].what, "kill9@10s");
        assert_eq!((marks[0].failed, marks[1].failed, marks[2].failed), (2, 1, 0));
        let first = &marks[0];
        assert_eq!(first.first_failure_after_s, Some(0.0), "it was under way");
        assert!((first.last_failure_after_s.unwrap() - 4.9).abs() < 1e-9);
        assert!((first.last_unknown_host_after_s.unwrap() - 2.5).abs() < 1e-9);
        assert_eq!(marks[2].last_failure_after_s, None);
    }

    #[test]
    fn a_fault_is_noted_once_and_learns_its_end() {
        let mut faults = Faults::default();
        faults.note(fault("stop@10s..20s", 10.0));
        assert!(faults.under_way(s(11.0)).is_empty(), "no end is known");
        faults.note(Fault { until: Some(s(20.0)), ..fault("stop@10s..20s", 10.0) });
        assert_eq!(faults.noted.len(), 1);
        assert_eq!(faults.under_way(s(11.0)), ["stop@10s..20s"]);
        assert!(faults.under_way(s(21.0)).is_empty());
        faults.note(Fault { error: Some("no such process".into()), ..fault("kill9@30s", 30.0) });
        assert_eq!(faults.done(), 1);
        let marks = Failures::default().marks(&faults);
        assert_eq!((marks[0].until_s, marks[0].failed), (Some(20.0), 0));
        assert_eq!(marks[1].error.as_deref(), Some("no such process"));
    }

    #[test]
    fn faults_beyond_the_bound_are_counted() {
        let mut faults = Faults::default();
        (0..FAULTS_MAX + 3).for_each(|at| faults.note(fault("kill9", at as f64)));
        assert_eq!((faults.noted.len(), faults.refused), (FAULTS_MAX, 3));
    }

    proptest! {
        #[test]
        fn no_failure_is_lost_however_often_bins_are_merged(
            ends in prop::collection::vec(0_u64..1_000_000, 1..200),
            doublings in 0..12_u32,
        ) {
            let mut failures = Failures::default();
            let mut faults = Faults::default();
            faults.note(fault("kill9@0s", 0.0));
            for end in &ends {
                failures.record(Duration::ZERO, Duration::from_millis(*end), true);
            }
            (0..doublings).for_each(|_| failures.double());
            let mark = &failures.marks(&faults)[0];
            prop_assert_eq!(mark.failed, ends.len() as u64);
            let last = *ends.iter().max().unwrap() as f64 / 1000.0;
            prop_assert!((mark.last_failure_after_s.unwrap() - last).abs() < 1e-9);
        }
    }

    #[test]
    fn failures_without_an_end_keep_to_their_bound() {
        let mut failures = Failures::default();
        let week_ms = 7 * 24 * 3600 * 1000;
        for end in (0..week_ms).step_by(5000) {
            failures.record(Duration::ZERO, Duration::from_millis(end), false);
        }
        assert!(failures.bins.len() <= BINS_MAX);
        let count: u64 = failures.bins.values().map(|bin| bin.count).sum();
        assert_eq!(count, week_ms.div_ceil(5000));
    }
}

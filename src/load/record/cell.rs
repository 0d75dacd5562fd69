//! What one thread writes into.

use std::time::Duration;

use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::super::report::histogram;
use super::buckets::Buckets;
use super::tally::Tally;
use super::timeline::{Pending, Timeline};
use super::{PacketCounts, Sample};

/// From when on a lookup began late.
pub(super) const LATE: Duration = Duration::from_millis(1);

/// The counts of one thread, or of a few that share it.
#[derive(Debug)]
pub(super) struct Cell {
    /// By kind of name and client: at most as many as there are pairs of those.
    pub tallies: Vec<Tally>,
    pub packets: PacketCounts,
    /// All latencies, for the figures of the last second.
    pub latencies: Buckets,
    pub lateness: Histogram<u64>,
    pub late: u64,
    pub not_begun: u64,
    /// When the last lookup was due, and when the last one ended.
    pub last_due: Duration,
    /// See `last_due`.
    pub last_end: Duration,
    /// When the last one of those began that began late.
    pub last_late_begin: Duration,
    pub pending: Pending,
}

impl Default for Cell {
    fn default() -> Self {
        Self {
            tallies: Vec::new(),
            packets: PacketCounts::default(),
            latencies: Buckets::default(),
            lateness: histogram::empty(),
            late: 0,
            not_begun: 0,
            last_due: Duration::ZERO,
            last_end: Duration::ZERO,
            last_late_begin: Duration::ZERO,
            pending: Pending::default(),
        }
    }
}

impl Cell {
    /// Counts one lookup.
    pub fn record(&mut self, sample: &Sample, timeline: &Mutex<Timeline>) {
        let ended = sample.due + sample.took;
        self.last_due = self.last_due.max(sample.due);
        self.last_end = self.last_end.max(ended);
        self.latencies.record(sample.took.as_micros() as u64);
        self.tally(sample).record(sample);
        if self.pending.is_full_for(sample.due, ended) {
            timeline.lock().take(&mut self.pending);
        }
        self.pending.record(sample.due, ended, |outcomes| outcomes.count(sample.outcome));
    }

    /// Notes how much later than due a lookup began, which is at `now`.
    pub fn began_late(&mut self, by: Duration, now: impl Fn() -> Duration) {
        if by > LATE {
            self.late += 1;
            self.last_late_begin = self.last_late_begin.max(now());
        }
        histogram::record(&mut self.lateness, by.as_micros() as u64);
    }

    /// The tally of this kind of lookup.
    fn tally(&mut self, sample: &Sample) -> &mut Tally {
        let (class, resolver) = (sample.class, sample.resolver);
        let is_it = |it: &Tally| it.counts.class == class && it.counts.resolver == resolver;
        let index = self.tallies.iter().position(is_it).unwrap_or_else(|| {
            self.tallies.push(Tally::new(class, resolver));
            self.tallies.len() - 1
        });
        &mut self.tallies[index]
    }
}

//! The course of time in slots whose number is bounded: when they are too many, each two become
//! one. A run may last for ever.

use std::time::Duration;

use super::super::report::{self, Outcomes};
use super::buckets::Buckets;

/// The shortest slot.
pub const GRAIN: Duration = Duration::from_millis(100);
/// Most slots of a run. An hour has slots of 1.6 s, a week slots of 205 s. At most 5 MB.
pub const SLOTS_MAX: usize = 3000;
/// Slots whose lookups a [`Pending`] counts by when they were due, before it hands them over.
const DUE_MAX: usize = 64;

/// What happened in one slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Span {
    due: u64,
    outcomes: Outcomes,
    /// None as long as nothing ended here.
    latencies: Option<Buckets>,
    max_us: u64,
}

impl Span {
    fn add(&mut self, other: &Self) {
        self.due += other.due;
        self.outcomes.add(&other.outcomes);
        self.max_us = self.max_us.max(other.max_us);
        if let Some(latencies) = &other.latencies {
            self.latencies.get_or_insert_default().add(latencies);
        }
    }

    /// As the report has it.
    fn slot(&self) -> report::Slot {
        let max = self.max_us as f64;
        // The middle of a bucket may be beyond what was measured.
        let ms =
            |part| self.latencies.as_ref().map_or(0.0, |it| it.quantile(part).min(max) / 1000.0);
        report::Slot {
            due: self.due,
            outcomes: self.outcomes,
            p50: ms(0.5),
            p90: ms(0.9),
            p99: ms(0.99),
            max: max / 1000.0,
        }
    }
}

/// All slots of a run.
#[derive(Debug, Default)]
pub struct Timeline {
    /// A slot is so many times as long as the shortest, as a power of two.
    doublings: u32,
    spans: Vec<Span>,
}

impl Timeline {
    /// Takes over what one thread has counted.
    pub fn take(&mut self, pending: &mut Pending) {
        if pending.span.latencies.is_some() {
            self.span(pending.grain).add(&pending.span);
        }
        for (grain, count) in pending.due.drain(..) {
            self.span(grain).due += count;
        }
        pending.span = Span::default();
    }

    /// As the report has it.
    pub fn report(&self) -> report::Timeline {
        let slot_s = GRAIN.as_secs_f64() * f64::from(2_u32.pow(self.doublings));
        report::Timeline { slot_s, slots: self.spans.iter().map(Span::slot).collect() }
    }

    /// The slot of this grain (from the start, in [`GRAIN`]).
    fn span(&mut self, grain: u64) -> &mut Span {
        while grain >> self.doublings >= SLOTS_MAX as u64 {
            self.double();
        }
        let index = (grain >> self.doublings) as usize;
        if index >= self.spans.len() {
            self.spans.resize_with(index + 1, Span::default);
        }
        &mut self.spans[index]
    }

    /// Makes each two slots one.
    fn double(&mut self) {
        self.doublings += 1;
        let mut spans = std::mem::take(&mut self.spans).into_iter();
        while let Some(mut span) = spans.next() {
            if let Some(next) = spans.next() {
                span.add(&next);
            }
            self.spans.push(span);
        }
    }
}

/// What one thread counted in the slot that it is in, so that it seldom needs the [`Timeline`].
#[derive(Debug, Default)]
pub struct Pending {
    grain: u64,
    span: Span,
    due: Vec<(u64, u64)>,
}

impl Pending {
    /// Whether a lookup with these times has no place here before [`Timeline::take`].
    pub fn is_full_for(&self, due: Duration, ended: Duration) -> bool {
        let is_elsewhere = self.span.latencies.is_some() && grain(ended) != self.grain;
        let due = grain(due);
        is_elsewhere || self.due.len() == DUE_MAX && self.due.iter().all(|(at, _)| *at != due)
    }

    /// Counts a lookup that ended.
    pub fn record(&mut self, due: Duration, ended: Duration, count: impl FnOnce(&mut Outcomes)) {
        self.grain = grain(ended);
        count(&mut self.span.outcomes);
        let us = ended.saturating_sub(due).as_micros() as u64;
        self.span.latencies.get_or_insert_default().record(us);
        self.span.max_us = self.span.max_us.max(us);
        let due = grain(due);
        match self.due.iter_mut().find(|(at, _)| *at == due) {
            Some((_, count)) => *count += 1,
            None => self.due.push((due, 1)),
        }
    }
}

/// Which of the shortest slots it is.
fn grain(at: Duration) -> u64 {
    (at.as_nanos() / GRAIN.as_nanos()) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(timeline: &mut Timeline, pending: &mut Pending, due: Duration, took: Duration) {
        if pending.is_full_for(due, due + took) {
            timeline.take(pending);
        }
        pending.record(due, due + took, |outcomes| outcomes.ok += 1);
    }

    fn filled(times: &[(u64, u64)]) -> report::Timeline {
        let (mut timeline, mut pending) = (Timeline::default(), Pending::default());
        for (due, took) in times {
            let (due, took) = (Duration::from_millis(*due), Duration::from_millis(*took));
            record(&mut timeline, &mut pending, due, took);
        }
        timeline.take(&mut pending);
        timeline.report()
    }

    proptest! {
        #[test]
        fn no_lookup_is_lost_however_often_slots_are_merged(
            times in prop::collection::vec((0_u64..100_000_000, 0_u64..10_000), 0..300),
        ) {
            let timeline = filled(&times);
            prop_assert!(timeline.slots.len() <= SLOTS_MAX);
            let sum = |of: fn(&report::Slot) -> u64| timeline.slots.iter().map(of).sum::<u64>();
            prop_assert_eq!(sum(|slot| slot.due), times.len() as u64);
            prop_assert_eq!(sum(|slot| slot.outcomes.ok), times.len() as u64);
            let longest = times.iter().map(|(_, took)| *took as f64).fold(0.0, f64::max);
            let max = timeline.slots.iter().map(|slot| slot.max).fold(0.0, f64::max);
            prop_assert_eq!(max, longest);
        }
    }

    #[test]
    fn a_lookup_is_due_in_one_slot_and_ends_in_another() {
        let timeline = filled(&[(50, 10), (60, 500)]);
        assert_eq!(timeline.slot_s, 0.1);
        assert_eq!(timeline.slots.len(), 6);
        assert_eq!((timeline.slots[0].due, timeline.slots[0].outcomes.ok), (2, 1));
        assert_eq!((timeline.slots[5].due, timeline.slots[5].outcomes.ok), (0, 1));
        assert_eq!(timeline.slots[5].p99, 500.0_f64.min(timeline.slots[5].p99));
        assert!((timeline.slots[0].p50 - 10.0).abs() < 0.4);
    }

    #[test]
    fn slots_become_longer_with_the_run() {
        let week = 7 * 24 * 3600 * 1000;
        let timeline = filled(&[(0, 1), (week, 1)]);
        assert_eq!(timeline.slot_s, 204.8);
        assert!(timeline.slots.len() <= SLOTS_MAX);
        assert_eq!(timeline.slots[0].due, 1);
    }
}

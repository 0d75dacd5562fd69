//! Says a repeated thing at most once per period, with how often it happened.
//!
//! Pure state: the time is a parameter. A user keeps it beside what may repeat, under its own lock.

use std::time::{Duration, Instant};

/// How often the same warning is told.
const PERIOD: Duration = Duration::from_secs(60);

/// Counts what happens between two tellings.
#[derive(Debug)]
pub struct Throttle {
    period: Duration,
    told: Option<Instant>,
    untold: u64,
}

impl Throttle {
    /// A Throttle that lets one event in `period` through.
    pub const fn new(period: Duration) -> Self {
        Self { period, told: None, untold: 0 }
    }

    /// Counts one event. `Some(times)` means: tell it, it happened so often since it was last told.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told.is_some_and(|told| now.duration_since(told) < self.period) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

impl Default for Throttle {
    /// Once a minute.
    fn default() -> Self {
        Self::new(PERIOD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_event_is_told_at_once_and_repeats_once_a_minute_with_their_count() {
        let mut throttle = Throttle::default();
        let start = Instant::now();
        assert_eq!(throttle.admit(start), Some(1));
        assert_eq!(throttle.admit(start + Duration::from_secs(1)), None);
        assert_eq!(throttle.admit(start + Duration::from_secs(59)), None);
        assert_eq!(throttle.admit(start + Duration::from_secs(60)), Some(3));
        assert_eq!(throttle.admit(start + Duration::from_secs(61)), None);
    }

    #[test]
    fn time_that_runs_backwards_tells_nothing_and_panics_not() {
        let mut throttle = Throttle::default();
        let start = Instant::now() + Duration::from_secs(10);
        throttle.admit(start);
        assert_eq!(throttle.admit(start - Duration::from_secs(5)), None);
    }
}

//! How long to wait before a server is started again: not at all the first time, so that nobody
//! notices, then twice as long each time, so that one that cannot live costs little.

use std::time::Duration;

/// The second pause.
const FIRST: Duration = Duration::from_millis(100);
/// The longest one.
const LONGEST: Duration = Duration::from_secs(10);
/// A server that lived so long, and so many times as long as the last pause, was well: the next
/// pause is none.
const WELL_AFTER: Duration = Duration::from_secs(10);
const WELL_AFTER_PAUSES: u32 = 10;

/// The pauses so far.
#[derive(Default)]
pub struct Backoff {
    deaths: u32,
    last: Duration,
}

impl Backoff {
    /// The pause after a server that has lived for so long.
    pub fn next(&mut self, lived: Duration) -> Duration {
        if lived >= WELL_AFTER.max(self.last.saturating_mul(WELL_AFTER_PAUSES)) {
            self.deaths = 0;
        }
        let pause = match self.deaths.checked_sub(1) {
            None => Duration::ZERO,
            Some(doubled) => FIRST.saturating_mul(1 << doubled.min(16)).min(LONGEST),
        };
        (self.deaths, self.last) = (self.deaths.saturating_add(1), pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_is_at_once_and_a_loop_is_slowed_down() {
        let mut backoff = Backoff::default();
        let mut pauses = || backoff.next(Duration::from_millis(5)).as_millis();
        let begin: Vec<_> = std::iter::repeat_with(&mut pauses).take(9).collect();
        assert_eq!(begin, [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000]);
        assert_eq!(std::iter::repeat_with(&mut pauses).nth(1000), Some(10_000));
        assert_eq!(backoff.next(WELL_AFTER), LONGEST, "short beside the pauses");
        assert_eq!(backoff.next(LONGEST * WELL_AFTER_PAUSES), Duration::ZERO);
        assert_eq!(backoff.next(Duration::ZERO), FIRST);
        assert_eq!(backoff.next(WELL_AFTER), Duration::ZERO, "pauses were short");
    }
}

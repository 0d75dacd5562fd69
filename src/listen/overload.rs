//! When a worker has more to answer than it can, and what it leaves out then: what waited longest.
//!
//! ```text
//! every batch full for STANDING ─► overloaded ─► what waited longer than WAIT_MAX is thrown away
//!          no batch full for CALM ─► as before
//! ```
//!
//! A queue that grows for a moment is answered whole: what waited while a server was restarted is
//! still worth an answer. One that stands longer than that will not go away by working, and whoever
//! is answered from its end has long asked again. Throwing the oldest away costs a tenth of an
//! answer, so the rest of the time goes to those who still wait.

use std::time::{Duration, Instant};

/// How long every batch has to be full. Longer than a supervised restart takes, whose backlog must
/// be answered, and as long as half of the patience of the least patient resolvers (2 s).
pub const STANDING: Duration = Duration::from_secs(1);
/// How long no batch may be full until it is over: longer than the period of a CPU quota (100 ms).
pub const CALM: Duration = Duration::from_secs(1);
/// Longest that a packet may have waited and still be answered under overload.
pub const WAIT_MAX: Duration = Duration::from_millis(100);
/// Longest that a packet may have waited when others are thrown away. Less than [`WAIT_MAX`], so
/// that there is something to do until the next time.
pub const WAIT_KEPT: Duration = Duration::from_millis(50);
/// What has waited longer than this was not stamped by the clock that we read.
const WAIT_PLAUSIBLE: Duration = Duration::from_secs(10);

/// What one worker has seen of its socket.
#[derive(Default, Debug)]
pub struct Overload {
    full_since: Option<Instant>,
    full_last: Option<Instant>,
    is_on: bool,
}

/// What changes with a batch.
#[derive(PartialEq, Eq, Debug)]
pub enum Change {
    None,
    Begins,
    Ends,
}

impl Overload {
    /// Notes a batch, and whether it was full.
    pub fn saw(&mut self, is_full: bool, now: Instant) -> Change {
        if !is_full {
            self.full_since = None;
            let is_calm = |last: Instant| now.saturating_duration_since(last) >= CALM;
            if self.is_on && self.full_last.is_none_or(is_calm) {
                self.is_on = false;
                return Change::Ends;
            }
            return Change::None;
        }
        self.full_last = Some(now);
        let since = *self.full_since.get_or_insert(now);
        if !self.is_on && now.saturating_duration_since(since) >= STANDING {
            self.is_on = true;
            return Change::Begins;
        }
        Change::None
    }

    /// Whether the worker is overloaded.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Since when a packet has to be there to be answered, when the newest at hand came at
    /// `newest`; both and `now` since the epoch. `None` while nothing is to be thrown away.
    pub fn limit(&self, newest: Duration, now: Duration) -> Option<Duration> {
        let waited = now.saturating_sub(newest);
        let is_late = self.is_on && waited > WAIT_MAX && waited < WAIT_PLAUSIBLE;
        is_late.then(|| now.saturating_sub(WAIT_KEPT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Full batches, one each millisecond, for so long.
    fn full(overload: &mut Overload, from: Instant, ms: u32) -> Vec<Change> {
        (0..=ms).map(|n| overload.saw(true, from + MS * n)).collect()
    }

    #[test]
    fn p15_a_queue_that_stands_is_overload_and_a_burst_is_none() {
        let (mut overload, start) = (Overload::default(), Instant::now());
        let almost = full(&mut overload, start, STANDING.as_millis() as u32 - 1);
        assert!(almost.iter().all(|change| *change == Change::None));
        assert_eq!(overload.saw(false, start + STANDING), Change::None);
        let mut later = full(&mut overload, start + STANDING, STANDING.as_millis() as u32);
        assert_eq!(later.pop(), Some(Change::Begins));
        assert!(overload.is_on());
    }

    #[test]
    fn it_lasts_over_the_pauses_of_a_quota_and_ends_when_no_batch_is_full() {
        let (mut overload, start) = (Overload::default(), Instant::now());
        full(&mut overload, start, STANDING.as_millis() as u32);
        let end = start + STANDING;
        for n in [1, 100, 999] {
            assert_eq!(overload.saw(false, end + MS * n), Change::None);
        }
        assert_eq!(overload.saw(false, end + CALM), Change::Ends);
        assert!(!overload.is_on());
    }

    #[test]
    fn p15_only_what_waited_too_long_goes_and_only_under_overload() {
        let (mut overload, start) = (Overload::default(), Instant::now());
        let now = Duration::from_secs(1_700_000_000);
        assert_eq!(overload.limit(now - WAIT_MAX * 2, now), None);
        full(&mut overload, start, STANDING.as_millis() as u32);
        assert_eq!(overload.limit(now - WAIT_MAX, now), None);
        assert_eq!(overload.limit(now - WAIT_MAX - MS, now), Some(now - WAIT_KEPT));
        assert_eq!(overload.limit(now + MS, now), None, "a clock that was set back");
        assert_eq!(overload.limit(now - WAIT_PLAUSIBLE, now), None, "and one that was set forward");
    }
}

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
/// How far the wall clock may be from the monotonic one between two looks. Packets are stamped by
/// the wall clock, so where it was set, their stamps tell nothing of how long they have waited.
const CLOCK_OFF: Duration = Duration::from_millis(100);
/// How long after that nothing is thrown away: longer than it takes to answer a full buffer.
const CLOCK_REST: Duration = Duration::from_secs(1);

/// What one worker has seen of its socket.
#[derive(Default, Debug)]
pub struct Overload {
    full_since: Option<Instant>,
    full_last: Option<Instant>,
    is_on: bool,
    /// Both clocks at the last look: monotonic, and since the epoch.
    clocks: Option<(Instant, Duration)>,
    /// Until when stamps are not believed.
    rests_until: Option<Instant>,
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
    /// `newest`; both and `wall` since the epoch. `None` while nothing is to be thrown away.
    pub fn limit(
        &mut self,
        newest: Option<Duration>,
        wall: Duration,
        now: Instant,
    ) -> Option<Duration> {
        let is_believed = self.is_clock_believed(wall, now);
        let waited = wall.saturating_sub(newest?);
        let is_late = self.is_on && waited > WAIT_MAX && waited < WAIT_PLAUSIBLE;
        (is_believed && is_late).then(|| wall.saturating_sub(WAIT_KEPT))
    }

    /// Whether both clocks went on alike of late.
    fn is_clock_believed(&mut self, wall: Duration, now: Instant) -> bool {
        let last = self.clocks.replace((now, wall));
        if let Some((then, wall_then)) = last {
            let expected = wall_then.saturating_add(now.saturating_duration_since(then));
            if expected.abs_diff(wall) > CLOCK_OFF {
                self.rests_until = now.checked_add(CLOCK_REST);
            }
        }
        self.rests_until.is_none_or(|until| now >= until)
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
        let limit = |overload: &mut Overload, newest| overload.limit(Some(newest), now, start);
        assert_eq!(limit(&mut overload, now - WAIT_MAX * 2), None);
        full(&mut overload, start, STANDING.as_millis() as u32);
        assert_eq!(limit(&mut overload, now - WAIT_MAX), None);
        assert_eq!(limit(&mut overload, now - WAIT_MAX - MS), Some(now - WAIT_KEPT));
        assert_eq!(limit(&mut overload, now + MS), None, "a clock that was set back");
        assert_eq!(limit(&mut overload, now - WAIT_PLAUSIBLE), None, "one that was set forward");
        assert_eq!(overload.limit(None, now, start), None, "nobody told when it came");
    }

    #[test]
    fn p8_a_clock_that_is_set_throws_nothing_away() {
        let (mut overload, start) = (Overload::default(), Instant::now());
        full(&mut overload, start, STANDING.as_millis() as u32);
        let wall = Duration::from_secs(1_700_000_000);
        // A queue that waits, by clocks that have gone on for `ms` and are `off` apart.
        let mut is_late = |ms: u32, off: Duration| {
            let now = wall + off + MS * ms;
            overload.limit(Some(now - WAIT_MAX * 2), now, start + MS * ms).is_some()
        };
        let (right, set) = (Duration::ZERO, Duration::from_secs(5));
        assert!(is_late(0, right) && is_late(500, right + MS), "it is adjusted all the time");
        assert!(!is_late(600, set), "it was set");
        assert!(!is_late(1599, set), "what came before still has its old stamps");
        assert!(is_late(1600, set));
        assert!(!is_late(1700, right), "and set back");
    }
}

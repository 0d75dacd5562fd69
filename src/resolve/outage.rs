//! Whether any upstream of a `forward` directive answers at all, and how fast expired Entries are
//! asked for again meanwhile and afterwards.
//!
//! ```text
//! well ── nobody has answered for SILENCE_MIN, and a question failed ──► out: 2 refreshes a second
//!   ▲                                                                       │ confirmed by a look,
//!   └────────── RAMP later ──────── recovering: 200 refreshes a second ◄────┘ then anybody answers
//! ```
//!
//! What is not asked for is served stale, so an outage costs its end no crowd of questions. Time is
//! passed in.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long nobody may have answered before a failed question makes an outage of it: so a name that
/// always fails does not, on a server that is asked for others.
const SILENCE_MIN: Duration = Duration::from_secs(1);
/// How long refreshes are bounded after an outage.
const RAMP: Duration = Duration::from_secs(60);
/// Time between two refreshes in an outage: they find its end and are no load.
const GAP_OUT: Duration = Duration::from_millis(500);
/// The same after it: with what may come at once, 200 in any second.
const GAP_RECOVERING: Duration = Duration::from_micros(5_600);
/// How far refreshes may be ahead of their rate: what comes in one batch.
const AHEAD_MAX: Duration = Duration::from_millis(100);

/// What is known about the upstreams of one directive as a whole.
#[derive(Default)]
pub struct Outage {
    state: Mutex<State>,
    /// Whether a task looks for the end.
    is_looked_at: AtomicBool,
}

#[derive(Default)]
struct State {
    /// When anybody answered last.
    answered: Option<Instant>,
    is_out: bool,
    /// Whether a look of ours failed too, so that it is not the names.
    is_confirmed: bool,
    /// When the last outage ended.
    ended: Option<Instant>,
    /// When the next refresh is due.
    next_refresh: Option<Instant>,
}

impl Outage {
    /// Notes that somebody answered. Whether that ends an outage which was confirmed.
    pub fn answered(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        state.answered = Some(now);
        state.is_out = false;
        let was_out = std::mem::take(&mut state.is_confirmed);
        if was_out {
            (state.ended, state.next_refresh) = (Some(now), None);
        }
        was_out
    }

    /// Notes that nobody answered a question. Whether an outage begins with it.
    pub fn failed(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let silence = |last| now.saturating_duration_since(last) >= SILENCE_MIN;
        let begins = !state.is_out && state.answered.is_none_or(silence);
        state.is_out |= begins;
        begins
    }

    /// Whether nobody has answered lately.
    pub fn is_silent(&self, now: Instant) -> bool {
        let silence = |last| now.saturating_duration_since(last) >= SILENCE_MIN;
        self.state.lock().answered.is_none_or(silence)
    }

    /// Notes that a look at whether it lasts failed.
    pub fn confirm(&self) {
        let mut state = self.state.lock();
        state.is_confirmed = state.is_out;
    }

    /// Whether the caller is the one who looks for the end from now on.
    pub fn claim_look(&self) -> bool {
        !self.is_looked_at.swap(true, Ordering::Relaxed)
    }

    /// Nobody looks any more.
    pub fn end_look(&self) {
        self.is_looked_at.store(false, Ordering::Relaxed);
    }

    /// Whether it lasts and is confirmed.
    pub fn is_confirmed(&self) -> bool {
        self.state.lock().is_confirmed
    }

    /// Whether it lasts.
    pub fn is_on(&self) -> bool {
        self.state.lock().is_out
    }

    /// Takes the right to ask for what is known and has expired: always, while all is well.
    pub fn may_refresh(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let is_ramp = |ended| now.saturating_duration_since(ended) < RAMP;
        let gap = match state.ended {
            _ if state.is_confirmed => GAP_OUT,
            Some(ended) if is_ramp(ended) => GAP_RECOVERING,
            _ => return true,
        };
        let due = state.next_refresh.map_or(now, |next| next.max(now));
        let may = due.saturating_duration_since(now) <= AHEAD_MAX;
        if may {
            state.next_refresh = Some(due + gap);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refreshes allowed in ten seconds from `begin`, when one is wanted each millisecond.
    fn allowed(outage: &Outage, begin: Instant) -> Vec<usize> {
        let may = |ms| outage.may_refresh(begin + Duration::from_millis(ms));
        (0..10).map(|s| (s * 1_000..(s + 1) * 1_000).filter(|ms| may(*ms)).count()).collect()
    }

    #[test]
    fn refreshes_are_free_while_all_is_well() {
        assert_eq!(allowed(&Outage::default(), Instant::now()), [1_000; 10]);
    }

    #[test]
    fn u9_refreshes_come_back_slowly_after_an_outage() {
        let (outage, now) = (Outage::default(), Instant::now());
        assert!(outage.failed(now) && !outage.failed(now) && outage.is_on());
        outage.confirm();
        let out = allowed(&outage, now);
        assert!(out.iter().all(|count| (1..=3).contains(count)), "{out:?}");
        let back = now + Duration::from_secs(20);
        assert!(outage.answered(back) && !outage.answered(back) && !outage.is_on());
        let recovering = allowed(&outage, back);
        assert!(recovering.iter().all(|count| (150..=200).contains(count)), "{recovering:?}");
        assert_eq!(allowed(&outage, back + RAMP), [1_000; 10]);
    }

    #[test]
    fn one_task_looks_for_the_end() {
        let outage = Outage::default();
        assert!(outage.claim_look() && !outage.claim_look());
        outage.end_look();
        assert!(outage.claim_look());
    }

    #[test]
    fn what_no_look_confirms_was_no_outage() {
        let (outage, now) = (Outage::default(), Instant::now());
        assert!(outage.failed(now));
        assert_eq!(allowed(&outage, now), [1_000; 10], "one name that fails bounds nobody");
        assert!(!outage.answered(now) && !outage.is_on());
        assert_eq!(allowed(&outage, now), [1_000; 10]);
    }

    #[test]
    fn a_name_that_fails_beside_others_that_do_not_is_no_outage() {
        let (outage, now) = (Outage::default(), Instant::now());
        for ms in (0..10_000).step_by(500) {
            let at = now + Duration::from_millis(ms);
            outage.answered(at);
            assert!(!outage.failed(at + Duration::from_millis(400)));
        }
        assert!(outage.failed(now + Duration::from_secs(11)));
    }
}

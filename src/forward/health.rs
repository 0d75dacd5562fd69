//! Whether an upstream is up. Reads no clock and opens no socket.
//!
//! ```text
//!           silent twice in a row       probe fails, more than max_fails in a row
//! healthy ────────────────────────► suspect ─────────────────────────────────────► down
//!    ▲    failed once: it is probed    │ probed each interval                        │
//!    └───────── one response in time ──┴─────────────────────────────────────────────┘
//! ```
//!
//! Suspect is what we see ourselves, down is what probes say, as in CoreDNS. Only silence makes
//! suspect: neither one lost packet, nor an error of the network, nor a datagram that fits nothing
//! may change the order, for they can be forged. They start a probe, which cannot. Nothing is
//! probed while all goes well. With `max_fails 0` nothing is ever probed, suspect or down.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Times in a row that an upstream must be silent until others are asked first.
pub const SILENCES_MAX: u32 = 2;

/// Who is asked first: the healthy before the suspect before those that are down.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Standing {
    Healthy,
    Suspect,
    Down,
}

/// The health of one upstream.
#[derive(Debug)]
pub struct Health {
    fails: AtomicU32,
    fails_max: u32,
    silences: AtomicU32,
    is_probed: AtomicBool,
}

impl Health {
    /// Healthy, until told otherwise. With `fails_max` 0 it stays so.
    pub fn new(fails_max: u32) -> Self {
        Self {
            fails: AtomicU32::new(0),
            fails_max,
            silences: AtomicU32::new(0),
            is_probed: AtomicBool::new(false),
        }
    }

    /// An exchange failed. Whether probing has to begin.
    pub fn exchange_failed(&self) -> bool {
        self.fails_max != 0 && !self.is_probed.swap(true, Ordering::Relaxed)
    }

    /// It was not answered in time. Whether probing has to begin.
    pub fn was_silent(&self) -> bool {
        more(&self.silences);
        self.exchange_failed()
    }

    /// Another upstream, asked later, was faster. Whether probing has to begin: once may be chance.
    pub fn was_outrun(&self) -> bool {
        more(&self.silences) >= SILENCES_MAX && self.exchange_failed()
    }

    /// A probe failed.
    pub fn probe_failed(&self) {
        more(&self.fails);
    }

    /// Something was answered in time, whatever it says.
    pub fn answered(&self) {
        self.fails.store(0, Ordering::Relaxed);
        self.silences.store(0, Ordering::Relaxed);
        self.is_probed.store(false, Ordering::Relaxed);
    }

    /// Something was answered too late: it lives, and others are better.
    pub fn answered_late(&self) {
        self.fails.store(0, Ordering::Relaxed);
    }

    /// Whether it has to be probed.
    pub fn is_probed(&self) -> bool {
        self.is_probed.load(Ordering::Relaxed)
    }

    /// Where it stands in the order.
    pub fn standing(&self) -> Standing {
        let silences = self.silences.load(Ordering::Relaxed);
        match self.fails_max {
            0 => Standing::Healthy,
            _ if self.is_down() => Standing::Down,
            _ if silences >= SILENCES_MAX => Standing::Suspect,
            _ => Standing::Healthy,
        }
    }

    /// Whether probes say that it is down.
    pub fn is_down(&self) -> bool {
        self.fails_max != 0 && self.fails() > self.fails_max
    }

    /// Failed probes in a row.
    pub fn fails(&self) -> u32 {
        self.fails.load(Ordering::Relaxed)
    }
}

/// Counts one more, and tells how many there are.
fn more(count: &AtomicU32) -> u32 {
    let one_more = |count: u32| Some(count.saturating_add(1));
    let before = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
    // The closure never declines.
    before.unwrap_or(u32::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_more_failed_probes_than_allowed_take_an_upstream_down() {
        let health = Health::new(2);
        assert!(health.exchange_failed());
        for _ in 0..2 {
            health.probe_failed();
            assert!(!health.is_down());
        }
        health.probe_failed();
        assert_eq!((health.is_down(), health.standing()), (true, Standing::Down));
        health.answered();
        assert_eq!((health.is_probed(), health.standing()), (false, Standing::Healthy));
    }

    #[test]
    fn u1_two_silences_in_a_row_make_suspect_and_one_response_heals() {
        let health = Health::new(2);
        assert!(health.was_silent(), "the first one starts probes");
        assert_eq!(health.standing(), Standing::Healthy);
        health.answered();
        health.was_silent();
        assert_eq!(health.standing(), Standing::Healthy, "not in a row");
        health.was_silent();
        assert_eq!(health.standing(), Standing::Suspect);
        health.answered_late();
        assert_eq!(health.standing(), Standing::Suspect, "late is not healthy");
        health.answered();
        assert_eq!(health.standing(), Standing::Healthy);
    }

    #[test]
    fn u2_errors_of_the_network_start_probes_and_change_no_order() {
        let health = Health::new(2);
        let begun = (0..100).filter(|_| health.exchange_failed()).count();
        assert_eq!((begun, health.standing()), (1, Standing::Healthy));
    }

    #[test]
    fn to_be_outrun_once_is_chance() {
        let health = Health::new(2);
        assert!(!health.was_outrun() && !health.is_probed());
        assert!(health.was_outrun() && health.is_probed());
        assert_eq!(health.standing(), Standing::Suspect);
    }

    #[test]
    fn an_upstream_without_max_fails_is_never_probed_and_never_down() {
        let health = Health::new(0);
        assert!(!health.exchange_failed() && !health.was_silent() && !health.was_outrun());
        (0..10).for_each(|_| health.probe_failed());
        (0..10).for_each(|_| assert!(!health.was_silent()));
        assert_eq!((health.is_down(), health.standing()), (false, Standing::Healthy));
    }
}

//! Whether an upstream is up: a count of failed probes. Reads no clock and opens no socket.
//!
//! ```text
//!            exchange fails             probe fails, more than max_fails in a row
//! healthy ───────────────────► suspect ──────────────────────────────────────────► down
//!    ▲                            │ probed each interval                             │
//!    └──────── any response ──────┴──────────────────────────────────────────────────┘
//! ```
//!
//! As CoreDNS, only probes count: what a client asks for must not be able to take an upstream
//! out, and one forged ICMP message neither. Nothing is probed while all goes well.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The health of one upstream.
#[derive(Debug)]
pub struct Health {
    fails: AtomicU32,
    fails_max: u32,
    is_suspect: AtomicBool,
}

impl Health {
    /// Healthy, until told otherwise. With `fails_max` 0 it stays so.
    pub fn new(fails_max: u32) -> Self {
        Self { fails: AtomicU32::new(0), fails_max, is_suspect: AtomicBool::new(false) }
    }

    /// An exchange failed. Whether probing has to begin.
    pub fn exchange_failed(&self) -> bool {
        self.fails_max != 0 && !self.is_suspect.swap(true, Ordering::Relaxed)
    }

    /// A probe failed.
    pub fn probe_failed(&self) {
        let more = |fails: u32| Some(fails.saturating_add(1));
        // The closure never declines, so there is nothing to learn from the result.
        let _ = self.fails.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Something was answered, whatever it says.
    pub fn answered(&self) {
        self.fails.store(0, Ordering::Relaxed);
        self.is_suspect.store(false, Ordering::Relaxed);
    }

    /// Whether it has to be probed.
    pub fn is_suspect(&self) -> bool {
        self.is_suspect.load(Ordering::Relaxed)
    }

    /// Whether others should be asked first.
    pub fn is_down(&self) -> bool {
        self.fails_max != 0 && self.fails() > self.fails_max
    }

    /// Failed probes in a row.
    pub fn fails(&self) -> u32 {
        self.fails.load(Ordering::Relaxed)
    }
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
        assert!(health.is_down());
        health.answered();
        assert!(!health.is_down() && !health.is_suspect());
    }

    #[test]
    fn probing_begins_once_however_many_exchanges_fail() {
        let health = Health::new(2);
        let begun = (0..100).filter(|_| health.exchange_failed()).count();
        assert_eq!((begun, health.is_down()), (1, false));
    }

    #[test]
    fn an_upstream_without_max_fails_is_never_probed_and_never_down() {
        let health = Health::new(0);
        assert!(!health.exchange_failed());
        (0..10).for_each(|_| health.probe_failed());
        assert!(!health.is_down());
    }
}

//! What one client query may cost: time, tries and octets, over everything that is done for it.
//!
//! A Budget travels with the query through aliases, repeats and second opinions, and nothing ever
//! fills it up again (CVE-2026-50045 did): composed tricks cost no more than one question.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Longest that anybody works for one query: stub resolvers give up after 5 s.
pub const TIME_MAX: Duration = Duration::from_millis(4500);
/// Most messages to upstreams for one query.
pub const TRIES_MAX: u32 = 8;
/// Most octets received from upstreams for one query: one whole message over TCP.
pub const OCTETS_MAX: u32 = 64 << 10;

/// What is left for one client query. Shared by all who work for it.
#[derive(Debug)]
pub struct Budget {
    deadline: Instant,
    tries: AtomicU32,
    octets: AtomicU32,
}

impl Budget {
    /// The Budget of a query that came at `arrived`.
    pub fn new(arrived: Instant) -> Self {
        Self::until(arrived + TIME_MAX)
    }

    /// The Budget of a query that all work ends for at `deadline`.
    pub fn until(deadline: Instant) -> Self {
        Self { deadline, tries: AtomicU32::new(TRIES_MAX), octets: AtomicU32::new(OCTETS_MAX) }
    }

    /// When all work for the query ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Takes one try, if there is one left.
    pub fn take_try(&self) -> bool {
        take(&self.tries, 1)
    }

    /// Whether more may be received.
    pub fn has_octets(&self) -> bool {
        self.octets.load(Ordering::Relaxed) > 0
    }

    /// Takes octets that were received. When they are more than what is left, nothing is left.
    pub fn take_octets(&self, octets: usize) -> bool {
        let octets = u32::try_from(octets).unwrap_or(u32::MAX);
        let is_enough = take(&self.octets, octets);
        if !is_enough {
            self.octets.store(0, Ordering::Relaxed);
        }
        is_enough
    }
}

fn take(left: &AtomicU32, amount: u32) -> bool {
    let order = Ordering::Relaxed;
    left.fetch_update(order, order, |left| left.checked_sub(amount)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_spent_never_comes_back() {
        let budget = Budget::new(Instant::now());
        assert_eq!((0..100).filter(|_| budget.take_try()).count(), TRIES_MAX as usize);
        assert!(budget.take_octets(OCTETS_MAX as usize - 1));
        assert!(!budget.take_octets(2) && !budget.take_octets(1), "too much takes all");
        assert!(!budget.has_octets());
        assert_eq!(budget.deadline(), Instant::now() + TIME_MAX);
    }
}

//! How long to wait before the next try: doubling, with jitter, within bounds.

use std::time::Duration;

/// Failures in a row, and the wait that follows from them.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    failures: u32,
    shortest: Duration,
    longest: Duration,
}

impl Backoff {
    /// No failures yet, waits between `shortest` and `longest`.
    pub(super) fn new(shortest: Duration, longest: Duration) -> Self {
        Self { failures: 0, shortest, longest }
    }

    /// Failures since the last success.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Begins anew.
    pub(super) fn succeed(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure and tells how long to wait.
    pub(super) fn fail(&mut self) -> Duration {
        let pause = delay(self.failures, rand::random(), self.shortest, self.longest);
        self.failures = self.failures.saturating_add(1);
        pause
    }
}

/// The wait after `failures` earlier ones; `jitter` is in 0..1 and spreads it over ±25 %, so that
/// all replicas do not come back at once.
fn delay(failures: u32, jitter: f64, shortest: Duration, longest: Duration) -> Duration {
    let doubled = shortest.saturating_mul(2_u32.saturating_pow(failures));
    doubled.min(longest).mul_f64(0.75 + jitter / 2.0).clamp(shortest.min(longest), longest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHORTEST: Duration = Duration::from_millis(800);
    const LONGEST: Duration = Duration::from_secs(30);

    #[test]
    fn the_wait_doubles_up_to_its_bound() {
        let waits = [0, 1, 2, 3, 4, 5, 6, 60].map(|n| delay(n, 0.5, SHORTEST, LONGEST).as_millis());
        assert_eq!(waits, [800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
    }

    #[test]
    fn a_success_begins_anew() {
        let mut backoff = Backoff::new(SHORTEST, LONGEST);
        for _ in 0..10 {
            backoff.fail();
        }
        backoff.succeed();
        assert!(backoff.fail() <= SHORTEST.mul_f64(1.25));
    }

    proptest! {
        #[test]
        fn no_wait_is_out_of_bounds(failures: u32, jitter in 0.0..1.0) {
            let wait = delay(failures, jitter, SHORTEST, LONGEST);
            prop_assert!((SHORTEST..=LONGEST).contains(&wait));
        }
    }
}

//! How hard an API server may be asked: requests per second, and requests without an answer.
//!
//! tower has layers for both, which do not fit: its rate counts in fixed windows, is not shared by
//! the clones of a service, forgets all when the client is made again with new credentials, and
//! does not tell how long it held somebody up. And who waits inside of the client seems to wait for
//! the server.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep};

use crate::cluster::config::ApiLimits;

/// Requests at once where only a rate is given (as client-go).
const BURST_DEFAULT: u32 = 10;
/// Longest time between two requests that a rate can mean.
const INTERVAL_MAX: Duration = Duration::from_secs(3600);

/// The limits of one API server, for all its watches together.
#[derive(Default)]
pub(super) struct Limits {
    bucket: Option<Bucket>,
    places: Option<Semaphore>,
}

/// A token bucket: it holds `burst` tokens, and one comes every `interval`.
struct Bucket {
    interval: Duration,
    burst: u32,
    /// When it is full again.
    full_at: Mutex<Instant>,
}

impl Limits {
    /// The limits of a directive; 0 is none.
    pub(super) fn new(limits: ApiLimits, now: Instant) -> Self {
        let places = (limits.in_flight > 0).then(|| Semaphore::new(limits.in_flight as usize));
        Self { bucket: Bucket::new(limits, now), places }
    }

    /// Waits until the rate allows a request, and tells how long that took.
    pub(super) async fn turn(&self) -> Duration {
        let wait = self.bucket.as_ref().map_or(Duration::ZERO, |it| it.take(Instant::now()));
        if !wait.is_zero() {
            sleep(wait).await;
        }
        wait
    }

    /// Waits until a request may be in flight, which it is while the place is held.
    pub(super) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed, so that this cannot fail.
        self.places.as_ref()?.acquire().await.ok()
    }
}

impl Bucket {
    /// A full bucket, if there is a rate. A burst alone limits nothing.
    fn new(limits: ApiLimits, now: Instant) -> Option<Self> {
        let is_limited = limits.qps > 0.0;
        let interval = Duration::try_from_secs_f32(1.0 / limits.qps).unwrap_or(INTERVAL_MAX);
        let burst = if limits.burst == 0 { BURST_DEFAULT } else { limits.burst };
        let full_at = Mutex::new(now);
        is_limited.then(|| Self { interval: interval.min(INTERVAL_MAX), burst, full_at })
    }

    /// Takes a token, perhaps one that is still to come; tells how long to wait for it.
    fn take(&self, now: Instant) -> Duration {
        let mut full_at = self.full_at.lock();
        *full_at = (*full_at).max(now) + self.interval;
        let missing = full_at.duration_since(now);
        missing.saturating_sub(self.interval.saturating_mul(self.burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(qps: f32, burst: u32, in_flight: u32) -> Limits {
        Limits::new(ApiLimits { qps, burst, in_flight }, Instant::now())
    }

    /// How long each of so many requests at once waits, in milliseconds.
    fn waits(limits: &Limits, count: usize, now: Instant) -> Vec<u128> {
        let bucket = limits.bucket.as_ref().unwrap();
        (0..count).map(|_| bucket.take(now).as_millis()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_burst_requests_come_at_the_rate() {
        let limits = limits(2.0, 3, 0);
        let now = Instant::now();
        assert_eq!(waits(&limits, 5, now), [0, 0, 0, 500, 1000]);
        assert_eq!(waits(&limits, 1, now + Duration::from_secs(1)), [500]);
        // A pause fills it up to the burst and not further.
        assert_eq!(waits(&limits, 4, now + Duration::from_secs(60)), [0, 0, 0, 500]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_takes_its_wait() {
        let limits = limits(4.0, 1, 0);
        let start = Instant::now();
        let mut waited = Vec::new();
        for _ in 0..3 {
            waited.push(limits.turn().await.as_millis());
        }
        // The clock of tokio counts in milliseconds, and rounds up.
        assert_eq!(waited[0], 0);
        assert!(waited[1..].iter().all(|ms| (245..=250).contains(ms)), "{waited:?}");
        assert!(start.elapsed() >= Duration::from_millis(500));
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_no_limit_and_a_rate_alone_has_the_burst_of_client_go() {
        for none in
            [limits(0.0, 0, 0), limits(0.0, 5, 0), limits(-1.0, 5, 0), limits(f32::NAN, 1, 0)]
        {
            assert!(none.bucket.is_none());
            assert_eq!(none.turn().await, Duration::ZERO);
            assert!(none.place().await.is_none());
        }
        let waits = waits(&limits(1.0, 0, 0), 12, Instant::now());
        assert_eq!(waits[..10], [0; 10]);
        assert_eq!(waits[10..], [1000, 2000]);
    }

    #[tokio::test(start_paused = true)]
    async fn absurd_rates_overflow_nothing() {
        for (qps, burst) in [(f32::MIN_POSITIVE, u32::MAX), (f32::MAX, u32::MAX), (1e-9, 1)] {
            waits(&limits(qps, burst, 1), 100, Instant::now());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_given_when_another_is_given_back() {
        let limits = limits(0.0, 0, 2);
        let (first, second) = (limits.place().await, limits.place().await);
        assert!(first.is_some() && second.is_some());
        let third = tokio::time::timeout(Duration::from_secs(9), limits.place());
        assert!(third.await.is_err());
        drop(first);
        assert!(limits.place().await.is_some());
    }
}

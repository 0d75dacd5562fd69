//! When to stop answering: after the lameduck, and once nobody asks any more.
//!
//! A Service's tables on other nodes lag behind (kube-proxy was seen 8 s late), and a short
//! lameduck knows nothing of it. Whoever still asks has not heard that we end.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Time without a query after which nobody asks any more. Clients behind a table that lags may be
/// few and ask seldom, and one that is not answered asks again after 5 s.
const QUIET: Duration = Duration::from_secs(5);
/// The end of the wait, since the signal, unless the lameduck is longer: with the drain after it,
/// it fits the 30 s that Kubernetes gives.
pub const LATEST: Duration = Duration::from_secs(20);
/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Waits at least for the lameduck, then until `answered` stands still.
pub async fn until_quiet(lameduck: Duration, answered: impl Fn() -> u64) {
    let begun = Instant::now();
    let (mut count, mut since) = (answered(), begun);
    loop {
        let waited = begun.elapsed();
        let is_quiet = since.elapsed() >= QUIET;
        if waited >= lameduck.max(LATEST) || waited >= lameduck && is_quiet {
            return;
        }
        sleep(LOOK_EVERY).await;
        if count != answered() {
            (count, since) = (answered(), Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration as D;

    /// Seconds that the end waits for, when somebody asks each `every` for so long.
    async fn waits(lameduck: D, every: D, asked_for: D) -> f64 {
        let begun = Instant::now();
        let answered = || match begun.elapsed() {
            time if time < asked_for => (time.as_millis() / every.as_millis()) as u64,
            _ => u64::MAX,
        };
        until_quiet(lameduck, answered).await;
        begun.elapsed().as_secs_f64().round()
    }

    #[tokio::test(start_paused = true)]
    async fn p5_new_queries_are_answered_for_the_lameduck_and_until_nobody_asks() {
        let (none, often) = (D::ZERO, D::from_millis(200));
        let seldom = D::from_secs(4);
        assert_eq!(waits(none, often, none).await, 5.0);
        assert_eq!(waits(D::from_secs(5), often, none).await, 5.0);
        assert_eq!(waits(D::from_secs(5), often, D::from_secs(8)).await, 13.0);
        assert_eq!(waits(none, seldom, D::from_secs(12)).await, 17.0);
        assert_eq!(waits(D::from_secs(5), often, D::from_secs(600)).await, 20.0);
        assert_eq!(waits(D::from_secs(25), often, D::from_secs(600)).await, 25.0);
    }
}

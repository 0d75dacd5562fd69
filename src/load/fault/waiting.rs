//! Waits of tests, which end: with what was waited for, or with a panic that names it.

use std::time::{Duration, Instant};

/// Until a test that waits for something is given up. No test asks how long it took.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so, which the kernel or another process brings about.
#[track_caller]
pub fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        std::thread::yield_now();
    }
}

/// The same where tasks of this runtime have a part in it. A paused clock stands still meanwhile.
pub async fn until_tasks(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}");
        tokio::task::yield_now().await;
    }
}

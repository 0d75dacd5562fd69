//! What all parts of a run share: its clock, its end, its work and its records.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;

use super::record::Recorder;
use super::target::Target;
use super::tasks::Work;
use super::truth::Truth;

/// One run, as its drivers see it.
pub struct Run {
    /// The server.
    pub target: Target,
    /// What is asked. Replaced when the cluster it was made from has changed much.
    pub work: ArcSwap<Work>,
    /// What the right answers are, where that is known.
    pub truth: Option<Arc<Truth>>,
    /// Where all that happens is written down.
    pub recorder: Arc<Recorder>,
    /// When it begins and ends.
    pub course: Course,
    /// A packet without an answer for so long is lost. Default 5 s.
    pub timeout: Duration,
    /// Seed of all chance, so that a run can be repeated.
    pub seed: u64,
}

/// The clock of a run and its end.
#[derive(Clone)]
pub struct Course {
    /// The instant that all times of the run count from. May be ahead: workers start together.
    pub started: Instant,
    /// The same on the wall clock.
    pub started_at: SystemTime,
    /// For how long lookups become due; `None` until it is stopped.
    pub duration: Option<Duration>,
    stop: Arc<watch::Sender<bool>>,
}

impl Course {
    /// A run that begins at `started`.
    pub fn new(started: Instant, duration: Option<Duration>) -> Self {
        let ahead = started.saturating_duration_since(Instant::now());
        let started_at = SystemTime::now() + ahead;
        Self { started, started_at, duration, stop: Arc::new(watch::Sender::new(false)) }
    }

    /// Time since the start, zero before it.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Makes no more lookups due. Those under way still end.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Whether no more lookups are due.
    pub fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits until the run is stopped.
    pub async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives as long as `self`.
        let _ = stop.wait_for(|is_stopped| *is_stopped).await;
    }
}

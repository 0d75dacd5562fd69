//! Whether we want traffic: `/ready`, one verdict over named parts.
//!
//! A part (such as `kubernetes`) registers, and is waited for until it says that it is ready or its
//! [`Part`] is dropped: a Plan that a reload discards takes its parts along. `/ready` is 200 when
//! no part is missing, else 503 with the names of those that are (as CoreDNS plugin/ready). From
//! [`Readiness::begin_shutdown`] on it is 503 for good, so that load balancers turn away while we
//! still answer (lameduck).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use axum::http::StatusCode;
use parking_lot::Mutex;

use super::Throttle;

/// Whether a part that was ready once may take us out of service again (`monitor`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Monitor {
    /// No: ready once is ready for good. A lost API server must not remove the whole cluster's DNS.
    #[default]
    UntilReady,
    /// Yes.
    Continuously,
}

/// Something that must be ready before we are. Dropping the last handle ends the waiting for it.
#[derive(Debug)]
pub struct Part {
    name: String,
    is_ready: AtomicBool,
    was_ready: AtomicBool,
}

impl Part {
    /// Says that the part can serve.
    pub fn became_ready(&self) {
        self.is_ready.store(true, Ordering::Relaxed);
        self.was_ready.store(true, Ordering::Relaxed);
    }

    /// Says that the part cannot serve for the moment; counts only under [`Monitor::Continuously`].
    pub fn became_unready(&self) {
        self.is_ready.store(false, Ordering::Relaxed);
    }

    /// Whether nobody has to wait for this part.
    fn is_settled(&self, monitor: Monitor) -> bool {
        match monitor {
            Monitor::UntilReady => self.was_ready.load(Ordering::Relaxed),
            Monitor::Continuously => self.is_ready.load(Ordering::Relaxed),
        }
    }
}

/// The parts and the phase of life of the process.
#[derive(Debug, Default)]
pub struct Readiness {
    parts: Mutex<Vec<Weak<Part>>>,
    monitor: Mutex<Monitor>,
    is_shutting_down: AtomicBool,
    complaints: Mutex<Throttle>,
}

impl Readiness {
    /// Adds a part, not ready yet. Names may repeat: two zones are two parts.
    pub fn register(&self, name: impl Into<String>) -> Arc<Part> {
        let part = Arc::new(Part {
            name: name.into(),
            is_ready: AtomicBool::new(false),
            was_ready: AtomicBool::new(false),
        });
        let mut parts = self.parts.lock();
        parts.retain(|known| known.strong_count() > 0);
        parts.push(Arc::downgrade(&part));
        part
    }

    /// Sets what the Plan says about `monitor`.
    pub fn set_monitor(&self, monitor: Monitor) {
        *self.monitor.lock() = monitor;
    }

    /// Turns `/ready` to 503 for the rest of the process.
    pub fn begin_shutdown(&self) {
        self.is_shutting_down.store(true, Ordering::Relaxed);
    }

    /// Whether `/ready` is 200.
    pub fn is_ready(&self) -> bool {
        !self.is_shutting_down.load(Ordering::Relaxed) && self.missing().is_empty()
    }

    /// The names of the parts that are waited for, each once and sorted.
    pub fn missing(&self) -> Vec<String> {
        let monitor = *self.monitor.lock();
        let parts = self.parts.lock();
        let mut names: Vec<_> = parts
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|part| !part.is_settled(monitor))
            .map(|part| part.name.clone())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The page.
    pub(super) fn page(&self, now: Instant) -> (StatusCode, String) {
        if self.is_shutting_down.load(Ordering::Relaxed) {
            return (StatusCode::SERVICE_UNAVAILABLE, "Shutting down".to_owned());
        }
        let missing = self.missing().join(",");
        if missing.is_empty() {
            return (StatusCode::OK, "OK".to_owned());
        }
        self.complain(&missing, now);
        (StatusCode::SERVICE_UNAVAILABLE, missing)
    }

    /// Tells whoever reads the log what is missing, in CoreDNS's words.
    fn complain(&self, missing: &str, now: Instant) {
        if let Some(times) = self.complaints.lock().admit(now) {
            tracing::info!(plugin = "ready", times, "Plugins not ready: {missing:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(readiness: &Readiness) -> (u16, String) {
        let (status, text) = readiness.page(Instant::now());
        (status.as_u16(), text)
    }

    fn ok() -> (u16, String) {
        (200, "OK".to_owned())
    }

    fn missing(names: &str) -> (u16, String) {
        (503, names.to_owned())
    }

    #[test]
    fn server_without_parts_is_ready() {
        assert_eq!(page(&Readiness::default()), ok());
    }

    #[test]
    fn missing_parts_are_named_once_sorted_and_separated_by_commas() {
        let readiness = Readiness::default();
        let kubernetes = readiness.register("kubernetes");
        let second = readiness.register("kubernetes");
        let file = readiness.register("file");
        assert_eq!(page(&readiness), missing("file,kubernetes"));
        file.became_ready();
        kubernetes.became_ready();
        assert_eq!(page(&readiness), missing("kubernetes"));
        second.became_ready();
        assert_eq!(page(&readiness), ok());
    }

    #[test]
    fn part_that_was_ready_once_stays_ready_until_monitored_continuously() {
        let readiness = Readiness::default();
        let kubernetes = readiness.register("kubernetes");
        kubernetes.became_ready();
        kubernetes.became_unready();
        assert_eq!(page(&readiness), ok());
        readiness.set_monitor(Monitor::Continuously);
        assert_eq!(page(&readiness), missing("kubernetes"));
    }

    #[test]
    fn part_that_is_dropped_is_not_waited_for() {
        let readiness = Readiness::default();
        let kubernetes = readiness.register("kubernetes");
        assert!(!readiness.is_ready());
        drop(kubernetes);
        assert!(readiness.is_ready());
    }

    #[test]
    fn shutdown_is_unready_for_good() {
        let readiness = Readiness::default();
        readiness.begin_shutdown();
        assert_eq!(page(&readiness), missing("Shutting down"));
        assert!(!readiness.is_ready());
    }
}

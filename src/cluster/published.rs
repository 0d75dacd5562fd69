//! Where the Index leaves its newest Zone, and where every worker finds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use super::zone::Zone;

/// The newest Zone. One task stores, everybody loads, nobody waits for the other.
pub struct Published {
    zone: ArcSwap<Zone>,
    generation: watch::Sender<u64>,
    is_stale: AtomicBool,
}

impl Published {
    /// Begins with a Zone that knows nothing.
    pub fn new() -> Self {
        let zone = ArcSwap::from_pointee(Zone::unsynced());
        Self { zone, generation: watch::Sender::new(0), is_stale: AtomicBool::new(false) }
    }

    /// The newest Zone.
    pub fn zone(&self) -> Guard<Arc<Zone>> {
        self.zone.load()
    }

    /// Puts a Zone in place of the last one. Called by the task that owns the Index.
    pub fn store(&self, zone: Arc<Zone>) {
        let generation = zone.generation;
        self.zone.store(zone);
        self.generation.send_replace(generation);
    }

    /// The generation of the newest Zone.
    pub fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// Whether the source has been away for so long that the newest Zone may be an old one.
    #[inline]
    pub fn is_stale(&self) -> bool {
        self.is_stale.load(Relaxed)
    }

    /// Notes whether the newest Zone may be an old one; answers what was noted before.
    pub fn set_stale(&self, is_stale: bool) -> bool {
        self.is_stale.swap(is_stale, Relaxed)
    }

    /// Waits until something has been published.
    pub async fn synced(&self) {
        self.newer_than(0).await;
    }

    /// Waits for a Zone after that of a generation.
    pub async fn newer_than(&self, seen: u64) {
        let mut generation = self.generation.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = generation.wait_for(|generation| *generation > seen).await;
    }
}

impl Default for Published {
    fn default() -> Self {
        Self::new()
    }
}

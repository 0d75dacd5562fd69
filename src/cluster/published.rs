//! Where the Index leaves its newest Zone, and where every worker finds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, Ordering::Relaxed};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{Notify, watch};

use super::zone::Zone;

/// The newest Zone. One task stores, everybody loads, nobody waits for the other.
pub struct Published {
    zone: ArcSwap<Zone>,
    generation: watch::Sender<u64>,
    is_stale: AtomicBool,
    /// Whether somebody got a copy of a Zone with the newest serial.
    is_copied: AtomicBool,
    /// Somebody shows the Zone in another way, and so needs another serial.
    renewal: Notify,
}

impl Published {
    /// Begins with a Zone that knows nothing.
    pub fn new() -> Self {
        Self::after(Zone::unsynced().serial)
    }

    /// Begins with a Zone that knows nothing. Those that follow have newer serials.
    pub fn after(serial: u32) -> Self {
        let zone = ArcSwap::from_pointee(Zone { serial, ..Zone::unsynced() });
        Self {
            zone,
            generation: watch::Sender::new(0),
            is_copied: AtomicBool::new(true),
            is_stale: AtomicBool::new(false),
            renewal: Notify::new(),
        }
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

    /// The newest Zone for somebody who keeps a copy: from now on a change needs a new serial.
    pub fn copy(&self) -> Arc<Zone> {
        // Before the look, so that whoever stores after it sees the mark. See `take_copied`.
        self.is_copied.store(true, Ordering::SeqCst);
        self.zone.load_full()
    }

    /// Whether somebody got a copy since this was last asked. Whoever publishes asks before and
    /// after: a copy that was made in between may be of the last Zone under the serial of the new
    /// one, which then needs another.
    pub fn take_copied(&self) -> bool {
        self.is_copied.swap(false, Ordering::SeqCst)
    }

    /// Asks for the newest Zone under a newer serial: its records are shown in another way from now
    /// on, such as with another TTL.
    pub fn renew(&self) {
        self.renewal.notify_one();
    }

    /// Waits until that is asked for.
    pub async fn renewal_wanted(&self) {
        self.renewal.notified().await;
    }

    /// Tells each generation that is published from now on, and the newest at once.
    pub fn generations(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Waits until something has been published.
    pub async fn synced(&self) {
        self.newer_than(0).await;
    }

    /// Waits for a Zone that is as asked for.
    pub async fn until(&self, is_right: impl Fn(&Zone) -> bool) {
        loop {
            let seen = self.generation();
            if is_right(&self.zone()) {
                return;
            }
            self.newer_than(seen).await;
        }
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

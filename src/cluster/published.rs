//! Where the Index leaves its newest Zone, and where every worker finds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::object::Kind;
use super::zone::Zone;

/// How long everybody who keeps a copy gets the same one. A copy costs a serial, and serials must
/// not outrun the seconds that they count: after a restart ours would be old to every secondary.
pub const COPY_INTERVAL: Duration = Duration::from_secs(1);

/// The newest Zone. One task stores, everybody loads, nobody waits for the other.
pub struct Published {
    zone: ArcSwap<Zone>,
    generation: watch::Sender<u64>,
    /// What of the Zone may be old: a bit for all of it, and one for each kind.
    stale: AtomicU8,
    /// Whether somebody got a copy of a Zone with the newest serial.
    is_copied: AtomicBool,
    /// The last copy, and since when it is handed out.
    copy: Mutex<Option<(Instant, Arc<Zone>)>>,
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
            copy: Mutex::default(),
            stale: AtomicU8::new(0),
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
        // Nobody gets it any more, so it need not stay in memory.
        let now = Instant::now();
        self.copy.lock().take_if(|(at, _)| !is_current(*at, now));
        self.generation.send_replace(generation);
    }

    /// The generation of the newest Zone.
    pub fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// Whether the source has been away for so long that the newest Zone may be an old one.
    #[inline]
    pub fn is_stale(&self) -> bool {
        self.stale.load(Relaxed) & ALL_STALE != 0
    }

    /// The same for an answer, which may come from a kind that is away alone.
    #[inline]
    pub fn is_stale_for(&self, source: impl FnOnce() -> Option<Kind>) -> bool {
        match self.stale.load(Relaxed) {
            0 => false,
            stale if stale & ALL_STALE != 0 => true,
            stale => source().is_some_and(|kind| stale & bit_of(kind) != 0),
        }
    }

    /// Whether any answers may be old.
    pub fn is_any_stale(&self) -> bool {
        self.stale.load(Relaxed) != 0
    }

    /// Notes whether the newest Zone may be an old one; answers what was noted before.
    pub fn set_stale(&self, is_stale: bool) -> bool {
        self.mark(ALL_STALE, is_stale)
    }

    /// Notes whether what comes from a kind may be old, although the rest is not.
    pub fn set_kind_stale(&self, kind: Kind, is_stale: bool) {
        self.mark(bit_of(kind), is_stale);
    }

    fn mark(&self, bit: u8, is_stale: bool) -> bool {
        let before = match is_stale {
            true => self.stale.fetch_or(bit, Relaxed),
            false => self.stale.fetch_and(!bit, Relaxed),
        };
        before & bit != 0
    }

    /// A Zone for somebody who keeps a copy: from then on a change needs a new serial. It is the
    /// newest one, unless another was handed out within [`COPY_INTERVAL`]; so all copies together
    /// cost one serial in that time, whoever asks how often.
    pub fn copy(&self, now: Instant) -> Arc<Zone> {
        let mut copy = self.copy.lock();
        if let Some((_, last)) = copy.as_ref().filter(|(at, _)| is_current(*at, now)) {
            return last.clone();
        }
        // Before the look, so that whoever stores after it sees the mark. See `take_copied`.
        self.is_copied.store(true, Ordering::SeqCst);
        let zone = self.zone.load_full();
        *copy = Some((now, zone.clone()));
        zone
    }

    /// When the newest Zone can be copied, if that is not now.
    pub fn next_copy(&self, now: Instant) -> Option<Instant> {
        let copy = self.copy.lock();
        let (at, last) = copy.as_ref().filter(|(at, _)| is_current(*at, now))?;
        (last.generation != self.zone.load().generation).then(|| *at + COPY_INTERVAL)
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

    /// Waits until the cluster is known.
    pub async fn synced(&self) {
        self.until(|zone| zone.is_synced).await;
    }

    /// Waits until it is not known any more: its picture was that of another one.
    pub async fn forgotten(&self) {
        self.until(|zone| !zone.is_synced).await;
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

/// The bit of what may be old, as a whole.
const ALL_STALE: u8 = 1 << 7;

/// The bit of a kind.
const fn bit_of(kind: Kind) -> u8 {
    1 << kind as u8
}

/// Whether a copy that was made then is still the one that everybody gets.
fn is_current(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < COPY_INTERVAL
}

impl Default for Published {
    fn default() -> Self {
        Self::new()
    }
}

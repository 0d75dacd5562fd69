//! What the transfers of all directives share: places, and what they came to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::wire::Rcode;

/// Transfers under way, over all secondaries. Each holds one message and the records of one name.
pub const TRANSFERS_MAX: usize = 8;

/// What all directives of the process share: the places for transfers, and the counters.
pub struct Shared {
    places: Arc<Semaphore>,
    pub counters: Counters,
}

/// What transfers came to.
#[derive(Default)]
pub struct Counters {
    sent: [AtomicU64; Kind::ALL.len()],
    refused: [AtomicU64; Refusal::ALL.len()],
    /// Transfers that ended before the last record: the client went, or was too slow.
    pub cut: AtomicU64,
    /// Versions that older secondaries would have needed, given up to stay within the bounds.
    pub forgotten: AtomicU64,
    /// NOTIFY messages that were answered.
    pub notified: AtomicU64,
    /// NOTIFY messages that were answered with a refusal.
    pub declined: AtomicU64,
    /// NOTIFY messages that nobody answered after all tries.
    pub unanswered: AtomicU64,
}

/// What a secondary gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// All records, because that was asked.
    Axfr,
    /// What changed since a version.
    Ixfr,
    /// All records, because we do not know what the secondary has.
    IxfrWhole,
    /// One SOA, because there is nothing newer, or because this is UDP.
    Soa,
}

/// Why a secondary gets nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Its address is not listed.
    Peer,
    /// AXFR over UDP.
    Udp,
    /// There is no such zone here.
    Zone,
    /// [`TRANSFERS_MAX`] are under way.
    Busy,
    /// The cluster is not known yet, or has no serial yet for the way that it is shown.
    NotReady,
    /// IXFR without the serial that the secondary has.
    Malformed,
}

/// The place of one transfer, given back when it ends.
pub(super) struct Place {
    shared: Arc<Shared>,
    has_ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Shared {
    /// Places for [`TRANSFERS_MAX`] transfers.
    pub fn new() -> Self {
        let places = Arc::new(Semaphore::new(TRANSFERS_MAX));
        Self { places, counters: Counters::default() }
    }

    /// A place for one more transfer, if there is one.
    pub(super) fn place(self: &Arc<Self>) -> Option<Place> {
        let permit = self.places.clone().try_acquire_owned().ok()?;
        Some(Place { shared: self.clone(), has_ended: false, _permit: permit })
    }

    /// Transfers under way.
    pub fn under_way(&self) -> usize {
        TRANSFERS_MAX - self.places.available_permits()
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// Notes that the last record was written.
    pub(super) fn end(&mut self) {
        self.has_ended = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.has_ended {
            self.shared.counters.cut.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Counters {
    pub(super) fn count_sent(&self, kind: Kind) {
        self.sent[kind as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_refused(&self, refusal: Refusal) {
        self.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Transfers by what was sent.
    pub fn sent(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Kind::ALL.iter().zip(&self.sent).map(|(kind, count)| (kind.label(), load(count)))
    }

    /// Refusals by their reason.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Refusal::ALL.iter().zip(&self.refused).map(|(why, count)| (why.label(), load(count)))
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Kind {
    const ALL: [Self; 4] = [Self::Axfr, Self::Ixfr, Self::IxfrWhole, Self::Soa];

    fn label(self) -> &'static str {
        match self {
            Self::Axfr => "axfr",
            Self::Ixfr => "ixfr",
            Self::IxfrWhole => "ixfr_whole",
            Self::Soa => "soa",
        }
    }
}

impl Refusal {
    const ALL: [Self; 6] =
        [Self::Peer, Self::Udp, Self::Zone, Self::Busy, Self::NotReady, Self::Malformed];

    fn label(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Udp => "udp",
            Self::Zone => "zone",
            Self::Busy => "busy",
            Self::NotReady => "not_ready",
            Self::Malformed => "malformed",
        }
    }

    pub(super) fn rcode(self) -> Rcode {
        match self {
            Self::Peer | Self::Udp | Self::Busy => Rcode::REFUSED,
            // RFC 5936 §2.2.1.
            Self::Zone => Rcode::NOTAUTH,
            Self::NotReady => Rcode::SERVFAIL,
            Self::Malformed => Rcode::FORMERR,
        }
    }
}

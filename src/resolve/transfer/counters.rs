//! What the transfers of all directives share: places, and what they came to.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::wire::Rcode;

/// Transfers under way, over all secondaries. Each holds one message and the records of one name.
pub const TRANSFERS_MAX: usize = 16;
/// Transfers under way of one address, so that one that reads slowly leaves places for others.
pub const PER_PEER_MAX: usize = 4;

/// What all directives of the process share: the places for transfers, and the counters.
pub struct Shared {
    /// Who has a place.
    peers: Mutex<Vec<IpAddr>>,
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
    /// [`TRANSFERS_MAX`] are under way, or [`PER_PEER_MAX`] of this peer.
    Busy,
    /// The cluster is not known yet, or has no serial yet for the way that it is shown.
    NotReady,
    /// IXFR without the serial that the secondary has.
    Malformed,
}

/// The place of one transfer, given back when it ends.
pub(super) struct Place {
    shared: Arc<Shared>,
    peer: IpAddr,
    has_ended: bool,
}

impl Shared {
    /// Places for [`TRANSFERS_MAX`] transfers.
    pub fn new() -> Self {
        Self { peers: Mutex::default(), counters: Counters::default() }
    }

    /// A place for one more transfer of this peer, if there is one.
    pub(super) fn place(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let mut peers = self.peers.lock();
        let own = peers.iter().filter(|it| **it == peer).count();
        if peers.len() >= TRANSFERS_MAX || own >= PER_PEER_MAX {
            return None;
        }
        peers.push(peer);
        Some(Place { shared: self.clone(), peer, has_ended: false })
    }

    /// Transfers under way.
    pub fn under_way(&self) -> usize {
        self.peers.lock().len()
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
        let mut peers = self.shared.peers.lock();
        if let Some(at) = peers.iter().position(|it| *it == self.peer) {
            peers.swap_remove(at);
        }
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

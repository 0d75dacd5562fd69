//! What a Corefile compiles to: immutable, shared by all workers, swapped whole on reload.
//!
//! ```text
//! Plan ─► Port 53 ─► Block "cluster.local" ─► Step, Step, Step    the longest matching zone wins
//!                 └► Block "."             ─► Step, Step
//! ```

use std::sync::Arc;

use super::errors::ErrorLog;
use super::step::{Large, Step};
use super::tally::Tally;
use super::transfer::Transfer;
use crate::wire::{Name, Query, RecordType};

/// Everything that decides an answer.
pub struct Plan {
    pub ports: Vec<Port>,
}

/// The Blocks of one listen port.
pub struct Port {
    pub number: u16,
    /// Longest name first.
    zones: Vec<Zoned>,
    /// Counts queries that no Block is for.
    pub unserved: Arc<Tally>,
}

/// A zone with its Block and its counters.
pub struct Zoned {
    pub zone: Name,
    pub block: Arc<Block>,
    pub tally: Arc<Tally>,
}

/// One server block: Steps in CoreDNS's fixed order of plugins.
pub struct Block {
    pub steps: Vec<Step>,
    /// Who may have which zones as a whole (`transfer`).
    pub transfers: Vec<Arc<Transfer>>,
    /// Turn the addresses of each reply (`loadbalance`).
    pub turns_addresses: bool,
    /// Where errors are told (`errors`), if anywhere.
    pub errors: Option<Arc<ErrorLog>>,
    /// Whether `prometheus` is in the block, so that its counters are published.
    pub is_published: bool,
}

impl Plan {
    /// The Blocks of a listen port.
    pub fn port(&self, number: u16) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// Every zone of every port.
    pub fn zones(&self) -> impl Iterator<Item = &Zoned> {
        self.ports.iter().flat_map(|port| &port.zones)
    }
}

impl Port {
    /// A port with its zones.
    pub fn new(number: u16, mut zones: Vec<Zoned>, unserved: Arc<Tally>) -> Self {
        zones.sort_by_key(|zoned| std::cmp::Reverse(zoned.zone.octets().len()));
        Self { number, zones, unserved }
    }

    /// The number of the Block with the longest zone that holds the name. DS lives on the parent's
    /// side of a cut (RFC 4035 §3.1.4.1), so it is asked one label higher (as CoreDNS).
    pub fn block_number(&self, query: &Query<'_>) -> Option<usize> {
        let name = match query.rtype {
            RecordType::DS => query.name().parent().unwrap_or(query.name()),
            _ => query.name(),
        };
        self.zones.iter().position(|zoned| name.is_within(zoned.zone.as_ref()))
    }

    /// Every place where queries are counted: that of the unserved ones first.
    pub fn tallies(&self) -> impl Iterator<Item = &Arc<Tally>> {
        [&self.unserved].into_iter().chain(self.zones.iter().map(|zoned| &zoned.tally))
    }

    /// The first large Zone that a Block answers from: a server rarely has two.
    pub fn large(&self) -> Option<Large<'_>> {
        self.zones.iter().find_map(|zoned| zoned.block.large())
    }

    /// A Block by its number.
    pub fn block(&self, number: usize) -> &Arc<Block> {
        &self.zones[number].block
    }

    /// Where a query is counted.
    pub fn tally(&self, block: Option<usize>) -> &Arc<Tally> {
        block.map_or(&self.unserved, |number| &self.zones[number].tally)
    }
}

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

    /// Takes back what the `loop` of an older Plan has cut out of Blocks that have none: only a
    /// `loop` would do that. To be called when the Plan is in use.
    pub fn take_upstreams_back(&self) {
        self.zones().for_each(|zoned| zoned.block.take_upstreams_back());
    }
}

impl Block {
    fn take_upstreams_back(&self) {
        if self.steps.iter().any(|step| matches!(step, Step::Loop(_))) {
            return;
        }
        for step in &self.steps {
            if let Step::Forward(forwarding) = step {
                forwarding.forward.take_all_back();
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::config::Target;
    use crate::forward::{Config, Forward, LoopProbe};
    use crate::resolve::flight::Flights;
    use crate::resolve::step::Forwarding;

    #[tokio::test(start_paused = true)]
    async fn upstreams_that_a_loop_cut_out_come_back_when_the_block_has_none() {
        let target = Target::Address("192.0.2.53:53".parse().unwrap());
        let forward = Forward::start(Config::new(Name::root(), vec![target])).unwrap();
        let upstream = forward.upstreams().remove(0);
        upstream.cut_out(true);
        let probe = LoopProbe::start(Name::root(), ":53", &forward);
        let forward = Step::Forward(Forwarding { forward, flights: Arc::new(Flights::default()) });
        let (transfers, errors) = (Vec::new(), None);
        let steps = vec![Step::Loop(Arc::new(probe)), forward];
        let mut block =
            Block { steps, transfers, turns_addresses: false, errors, is_published: false };
        block.take_upstreams_back();
        assert!(upstream.is_cut_out(), "the probe decides");
        block.steps.remove(0);
        block.take_upstreams_back();
        assert!(!upstream.is_cut_out());
    }
}

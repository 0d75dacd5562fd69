//! Which Services have an address, or had it not long ago.

use std::collections::HashMap;
use std::net::IpAddr;

use tokio::time::Instant;

use super::model::Key;

/// The addresses of all Services and endpoints, ready or not.
#[derive(Debug, Default)]
pub(super) struct Addresses(HashMap<IpAddr, Vec<Owner>>);

/// A Service that has an address.
#[derive(Debug)]
struct Owner {
    key: Key,
    /// In how many places: as its own, and in slices.
    places: u32,
    /// When the last one went.
    gone: Option<Instant>,
}

impl Addresses {
    /// Notes that a Service has an address, at one place more.
    pub(super) fn come(&mut self, address: &IpAddr, key: &Key) {
        let owners = self.0.entry(*address).or_default();
        match owners.iter_mut().find(|owner| owner.key == *key) {
            Some(owner) => (owner.places, owner.gone) = (owner.places + 1, None),
            None => owners.push(Owner { key: key.clone(), places: 1, gone: None }),
        }
    }

    /// Notes that it has it at one place less. Answers whether that was the last one.
    pub(super) fn go(&mut self, address: &IpAddr, key: &Key, now: Instant) -> bool {
        let owners = self.0.get_mut(address);
        let owner = owners.and_then(|owners| owners.iter_mut().find(|owner| owner.key == *key));
        let Some(owner) = owner else { return false };
        owner.places = owner.places.saturating_sub(1);
        owner.gone = (owner.places == 0).then_some(now);
        owner.gone.is_some()
    }

    /// Forgets that a Service had an address which it lost at `until` or before.
    pub(super) fn forget(&mut self, address: &IpAddr, key: &Key, until: Instant) {
        let Some(owners) = self.0.get_mut(address) else { return };
        owners.retain(|owner| owner.key != *key || owner.gone.is_none_or(|gone| gone > until));
        if owners.is_empty() {
            self.0.remove(address);
        }
    }

    /// The Services that have an address, or had it.
    pub(super) fn owners(&self, address: &IpAddr) -> impl Iterator<Item = &Key> {
        self.0.get(address).into_iter().flatten().map(|owner| &owner.key)
    }

    /// How many addresses are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

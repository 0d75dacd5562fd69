//! Reads ahead what a whole batch of queries will ask of a large Zone.
//!
//! A Zone of some ten thousand names does not fit the processor's cache, so each look-up waits for
//! memory several times. The packets of a batch can wait together: their names go down the tries
//! in step, before the first one is answered. No answer depends on it.

use super::{Zone, octets_of};
use crate::cluster::schema::{self, Meaning};
use crate::wire::NameRef;

/// Names of a Zone from which on reading ahead pays: with their leaves some MiB.
const NAMES_MIN: usize = 1 << 14;

/// What the packets of a batch will look up.
#[derive(Default)]
pub struct Ahead {
    /// Hashes of keys.
    services: Vec<u64>,
    addresses: Vec<u64>,
}

impl Zone {
    /// Whether this Zone is too large to be near the processor anyway.
    pub fn is_large(&self) -> bool {
        self.services.len() + self.addresses.len() >= NAMES_MIN
    }

    /// Notes what a name in `zone` will be looked up by; `prefix` is what stands before it.
    pub fn foresee(&self, zone: NameRef<'_>, prefix: &[u8], name: NameRef<'_>, ahead: &mut Ahead) {
        if schema::is_reverse(zone) {
            if let Some(address) = schema::reverse_address(name) {
                ahead.addresses.push(self.addresses.hash(octets_of(&address).as_ref()));
            }
        } else if let Some(key) = service_of(prefix) {
            ahead.services.push(self.services.hash(key));
        }
    }

    /// Reads what was noted.
    pub fn read_ahead(&self, ahead: &mut Ahead) {
        self.services.read_ahead(&ahead.services);
        self.addresses.read_ahead(&ahead.addresses);
        ahead.services.clear();
        ahead.addresses.clear();
    }
}

/// The key of the Service that a name belongs to.
fn service_of(prefix: &[u8]) -> Option<&[u8]> {
    match schema::meaning(prefix) {
        Meaning::Service(key) => Some(key),
        Meaning::Endpoint { service, .. } | Meaning::Port { service, .. } => Some(service),
        _ => None,
    }
}

//! The immutable records that a Service has outside of the cluster (`k8s_external`).
//!
//! ```text
//! Leaf: ExternalHead: ports, host names │ key 3web4shop │ IPv4 … IPv6 …
//! ```
//!
//! They have tries of their own, so that a cluster without `k8s_external` keeps nothing of them and
//! the names inside cost what they cost.

use std::net::IpAddr;
use std::sync::Arc;

use super::hosts::sorted_ports;
use super::object::{External, Port, Service};
use super::packed::{self, Addresses};
use super::trie::Leaf;
use crate::wire::{Name, RecordType};

/// What a Zone holds of a Service outside, beside its key and its addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExternalHead {
    /// How much of the tail is IPv4.
    v4_octets: u32,
    ports: Arc<[Port]>,
    /// Names of load balancers, in the order of the API.
    hosts: Box<[Name]>,
}

/// The same before it is put into a Zone.
pub struct Draft {
    pub head: ExternalHead,
    /// The addresses, those of IPv4 first: the tail of its Leaf.
    pub addresses: Vec<u8>,
}

/// The records where they lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExternalRecords<'z> {
    /// The two labels of the name, `3web4shop`.
    pub key: &'z [u8],
    head: &'z ExternalHead,
    addresses: &'z [u8],
}

impl Draft {
    /// The records of a Service; `None` when it is not to be reached from outside.
    pub fn of(service: &Service) -> Option<Self> {
        let (mut all, mut hosts) = (Vec::new(), Vec::new());
        for external in &service.externals {
            match external {
                External::Address(address) => all.push(*address),
                External::Host(name) => hosts.push(name.clone()),
            }
        }
        if all.is_empty() && hosts.is_empty() {
            return None;
        }
        let (addresses, v4_octets) = packed::pack(all);
        let ports = sorted_ports(service.ports.iter().cloned());
        let head = ExternalHead { v4_octets, ports, hosts: hosts.into() };
        Some(Self { head, addresses })
    }
}

impl<'z> From<&'z Leaf<ExternalHead>> for ExternalRecords<'z> {
    fn from(leaf: &'z Leaf<ExternalHead>) -> Self {
        Self { key: leaf.key(), head: leaf.value(), addresses: leaf.tail() }
    }
}

impl<'z> ExternalRecords<'z> {
    /// The ports of the Service.
    pub fn ports(&self) -> &'z [Port] {
        &self.head.ports
    }

    /// Names of load balancers.
    pub fn hosts(&self) -> &'z [Name] {
        &self.head.hosts
    }

    /// The name that this one is an alias of. RFC 2181 §10.1: an alias is one, and has no records
    /// beside it, so where there are addresses they are what is told.
    pub fn alias(&self) -> Option<&'z Name> {
        self.head.hosts.first().filter(|_| self.addresses.is_empty())
    }

    /// The octets of all addresses of one family.
    pub fn octets(&self, rtype: RecordType) -> &'z [u8] {
        Addresses::of(self.addresses, self.head.v4_octets).octets(rtype)
    }

    /// All addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + Clone + use<'z> {
        Addresses::of(self.addresses, self.head.v4_octets).iter()
    }
}

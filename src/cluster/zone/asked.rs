//! One query inside a zone, and how records of the asked name are written.

use std::net::IpAddr;

use super::{Outcome, View, octets_of};
use crate::cluster::config::Pods;
use crate::cluster::hosts::Host;
use crate::cluster::object::Kind;
use crate::cluster::records::ServiceRecords;
use crate::cluster::schema::{self, Meaning};
use crate::wire::name::NAME_MAX;
use crate::wire::reply::Owner;
use crate::wire::{HEADER_LEN, NameRef, Query, RecordType, Reply, Section};

/// A query inside one of the zones of a directive.
pub struct Asked<'q> {
    pub view: &'q View,
    /// The zone that matched.
    pub zone: NameRef<'q>,
    /// Whether that is the zone of a cluster set (`multicluster`).
    pub in_clusterset: bool,
    /// The octets of the name before the zone.
    pub prefix: &'q [u8],
    pub query: &'q Query<'q>,
    /// Which address comes first.
    pub turn: u32,
}

impl<'q> Asked<'q> {
    /// The kind that the answer comes from, where that is none of those that all Services need.
    pub fn source(&self) -> Option<Kind> {
        if schema::is_reverse(self.zone) {
            return None;
        }
        match schema::meaning(self.prefix) {
            Meaning::Pod { .. } if self.view.pods == Pods::Verified => Some(Kind::Pod),
            Meaning::Service(_) | Meaning::Endpoint { .. } | Meaning::Port { .. }
                if self.in_clusterset =>
            {
                Some(Kind::Import)
            }
            _ => None,
        }
    }

    /// Whether the Service has no name here, because no endpoint is ready.
    pub(super) fn hides(&self, service: &ServiceRecords<'_>) -> bool {
        self.view.hides(service)
    }

    /// The labels before the key of a Service.
    pub(super) fn before(&self, service: &[u8]) -> &'q [u8] {
        &self.prefix[..self.prefix.len() - self.view.style.below.len() - service.len()]
    }

    /// Where the zone begins in the message: compression pointers to it keep the client's spelling.
    pub(super) fn zone_at(&self) -> usize {
        HEADER_LEN + self.prefix.len()
    }

    /// The zone as the client spelled it.
    pub(super) fn zone_as_asked(&self) -> &'q [u8] {
        let question = self.query.question();
        &question[self.prefix.len()..question.len() - 4]
    }

    /// Writes one record of the asked name. Answers where its RDATA begins.
    pub(super) fn write(
        &self,
        reply: &mut Reply<'_>,
        rtype: RecordType,
        rdata: &[&[u8]],
    ) -> Option<usize> {
        reply.record(Section::Answer, Owner::Question, rtype, self.view.ttl_s, rdata)
    }

    /// Writes PTR records to those names that the zone can hold.
    pub(super) fn write_ptrs<'n>(
        &self,
        reply: &mut Reply<'_>,
        names: impl Iterator<Item = &'n [u8]>,
    ) -> Outcome<'static> {
        let targets = names.map(|name| [name, self.view.style.below, self.view.primary.octets()]);
        let mut outcome = Outcome::NxDomain;
        for target in targets.filter(|target| is_name(target)) {
            outcome = Outcome::Found;
            if self.write(reply, RecordType::PTR, &target).is_none() {
                break;
            }
        }
        outcome
    }

    /// Writes those addresses that have the asked family.
    pub(super) fn write_addresses(
        &self,
        reply: &mut Reply<'_>,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Outcome<'static> {
        let mut outcome = Outcome::NoData;
        let rtype = self.query.rtype;
        for address in addresses.into_iter().filter(|address| rtype_of(address) == rtype) {
            outcome = Outcome::Found;
            if !self.write_address(reply, Section::Answer, Owner::Question, &address) {
                break;
            }
        }
        outcome
    }

    /// The same for the addresses of hosts, of which another one comes first at each turn.
    pub(super) fn write_addresses_of<'z>(
        &self,
        reply: &mut Reply<'_>,
        hosts: impl Iterator<Item = Host<'z>> + Clone,
    ) -> Outcome<'static> {
        let mut outcome = Outcome::NoData;
        let first = match self.turn {
            0 => 0,
            turn => turn as usize % hosts.clone().count().max(1),
        };
        for host in hosts.clone().skip(first).chain(hosts.take(first)) {
            match self.write_addresses(reply, host.addresses().iter().copied()) {
                Outcome::Found => outcome = Outcome::Found,
                _ => continue,
            }
            if reply.is_truncated() {
                break;
            }
        }
        outcome
    }

    /// Writes one address. Answers whether it fitted.
    pub(super) fn write_address(
        &self,
        reply: &mut Reply<'_>,
        section: Section,
        owner: Owner<'_>,
        address: &IpAddr,
    ) -> bool {
        let (rtype, octets) = (rtype_of(address), octets_of(address));
        reply.record(section, owner, rtype, self.view.ttl_s, &[octets.as_ref()]).is_some()
    }
}

/// Whether parts make a name. With a long zone the names of some endpoints would have too many
/// octets (RFC 1035 §2.3.4): nobody can ask for these, and no record may carry them.
pub(super) fn is_name(parts: &[&[u8]]) -> bool {
    parts.iter().map(|part| part.len()).sum::<usize>() <= NAME_MAX
}

/// The type of an address's record.
pub(super) fn rtype_of(address: &IpAddr) -> RecordType {
    if address.is_ipv4() { RecordType::A } else { RecordType::AAAA }
}

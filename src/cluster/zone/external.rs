//! The zones of `k8s_external`: Services by their addresses outside of the cluster.
//!
//! ```text
//! (apex) | ns1.<apex>              SOA and NS; the server itself
//! <ns>                             a Namespace
//! <svc>.<ns>                       a Service
//! <label>.<svc>.<ns>               the same (as CoreDNS); with `headless` also an endpoint
//! <port>.<proto>.<svc>.<ns>        a port; the underscores may be left out (as CoreDNS)
//! ```
//!
//! A Service without an address outside has no name here, unless `headless` is given: then a
//! headless one has the addresses of its endpoints, and every endpoint has a name.

use std::net::IpAddr;

use super::{Asked, Outcome, Zone, octets_of, srv};
use crate::cluster::externals::ExternalRecords;
use crate::cluster::records::{AddressRecords, AskedPort, FoundBy, ServiceRecords};
use crate::cluster::schema;
use crate::wire::reply::Owner;
use crate::wire::{Rcode, RecordType, Reply, Section};

/// Labels that a name has before the zone, at most.
const LABELS_MAX: usize = 4;
/// Addresses of this server that are told, at most.
const OWN_MAX: usize = 16;
/// The name server below the apex.
const NAME_SERVER: &[u8] = b"\x03ns1";

/// What a `k8s_external` directive says of its zones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outside {
    /// The label below which the server itself is, with its length octet.
    pub apex: Box<[u8]>,
    /// Whether endpoints have names, and headless Services their addresses (`headless`).
    pub shows_endpoints: bool,
}

/// What a name means in these zones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Meaning<'n> {
    Apex,
    /// `<apex>`: `ns1` is below it.
    EmptyNonTerminal,
    NameServer,
    /// Anything else below `<apex>`, where no Service is.
    Reserved,
    Namespace(&'n [u8]),
    Service(&'n [u8]),
    Below {
        /// With its length octet.
        label: &'n [u8],
        service: &'n [u8],
    },
    Port(AskedPort<'n>, &'n [u8]),
    Impossible,
}

impl Zone {
    /// Looks a name of a `k8s_external` up and writes what is found.
    pub fn lookup_external(
        &self,
        outside: &Outside,
        asked: &Asked<'_>,
        reply: &mut Reply<'_>,
    ) -> Outcome<'_> {
        let name = asked.query.name();
        let meaning = meaning(asked.prefix, &outside.apex);
        match meaning {
            Meaning::Apex => return self.external_apex(outside, asked, reply),
            Meaning::EmptyNonTerminal => return Outcome::NoData,
            Meaning::NameServer if !self.is_synced => return Outcome::NotReady,
            Meaning::NameServer => {
                return asked.write_addresses(reply, self.own_externals(outside, asked).iter());
            }
            Meaning::Reserved => {
                // What is left to others are names of Services (as CoreDNS).
                reply.set_rcode(Rcode::NXDOMAIN);
                self.deny(asked, reply);
                return Outcome::Found;
            }
            _ if schema::is_reverse(name) => {
                return self.external_address(asked, reply);
            }
            Meaning::Impossible => return Outcome::NxDomain,
            _ if !self.is_synced => return Outcome::NotReady,
            Meaning::Namespace(label) => return self.namespace(label),
            Meaning::Service(_) | Meaning::Below { .. } | Meaning::Port(..) => {}
        }
        let (Meaning::Service(key) | Meaning::Below { service: key, .. } | Meaning::Port(_, key)) =
            meaning
        else {
            return Outcome::NxDomain;
        };
        match self.externals.get(key).map(ExternalRecords::from) {
            Some(external) => outside_of(asked, reply, &external, meaning),
            None if outside.shows_endpoints => self.endpoints_of(asked, reply, meaning),
            None => Outcome::NxDomain,
        }
    }

    fn external_apex(
        &self,
        outside: &Outside,
        asked: &Asked<'_>,
        reply: &mut Reply<'_>,
    ) -> Outcome<'_> {
        match asked.query.rtype {
            RecordType::SOA | RecordType::NS if !self.is_synced => return Outcome::NotReady,
            RecordType::SOA => self.soa(asked, reply, Section::Answer),
            RecordType::NS => {
                let rdata = [&*asked.view.style.name_server, asked.zone_as_asked()];
                let at = asked.write(reply, RecordType::NS, &rdata);
                for address in self.own_externals(outside, asked).iter() {
                    let Some(at) = at else { break };
                    asked.write_address(reply, Section::Additional, Owner::At(at), &address);
                }
            }
            _ => return Outcome::NoData,
        }
        Outcome::Found
    }

    /// Every Service that has the address (as CoreDNS).
    fn external_address(&self, asked: &Asked<'_>, reply: &mut Reply<'_>) -> Outcome<'_> {
        let records = match self.address(&self.external_addresses, asked) {
            Ok(records) => records,
            Err(outcome) => return outcome,
        };
        asked.write_ptrs(reply, records.services())
    }

    /// A Service by its endpoints, or one of them, as it is inside.
    fn endpoints_of(
        &self,
        asked: &Asked<'_>,
        reply: &mut Reply<'_>,
        meaning: Meaning<'_>,
    ) -> Outcome<'_> {
        let is_headless = |key: &[u8]| {
            let service = self.services.get(key).map(ServiceRecords::from);
            service.is_some_and(|service| matches!(service.found_by(), FoundBy::Hosts))
        };
        match meaning {
            Meaning::Service(key) if is_headless(key) => self.service(asked, reply, key),
            Meaning::Port(port, key) if is_headless(key) => self.port(asked, reply, port, key),
            Meaning::Below { label, service } => self.endpoint(asked, reply, label, service),
            _ => Outcome::NxDomain,
        }
    }

    /// The addresses outside of the Services whose endpoints we are, else our own. A Service that
    /// has none adds none: the address of a Pod means nothing outside (as CoreDNS).
    fn own_externals(&self, outside: &Outside, asked: &Asked<'_>) -> OwnExternals {
        let mut own = OwnExternals { addresses: [None; OWN_MAX], leads_here: false };
        for address in asked.view.own_addresses.iter() {
            let Some(records) = self.addresses.get(octets_of(address).as_ref()) else { continue };
            for endpoint in AddressRecords::from(records).endpoints() {
                own.leads_here = true;
                let key = &endpoint[1 + usize::from(endpoint[0])..];
                let service = self.services.get(key).map(ServiceRecords::from);
                let headless = service.filter(|it| matches!(it.found_by(), FoundBy::Hosts));
                if let Some(service) = headless.filter(|_| outside.shows_endpoints) {
                    service.hosts().for_each(|host| own.extend(host.addresses().iter().copied()));
                } else if let Some(external) = self.externals.get(key) {
                    own.extend(ExternalRecords::from(external).addresses());
                }
            }
        }
        if !own.leads_here {
            own.extend(asked.view.own_addresses.iter().copied());
        }
        own
    }
}

/// Addresses of this server, each once; on the stack.
struct OwnExternals {
    addresses: [Option<IpAddr>; OWN_MAX],
    leads_here: bool,
}

impl OwnExternals {
    fn extend(&mut self, addresses: impl IntoIterator<Item = IpAddr>) {
        for address in addresses {
            let free = self.addresses.iter_mut().find(|slot| slot.is_none_or(|it| it == address));
            let Some(slot) = free else { return };
            *slot = Some(address);
        }
    }

    fn iter(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.into_iter().flatten()
    }
}

/// A Service by its addresses outside.
fn outside_of<'z>(
    asked: &Asked<'_>,
    reply: &mut Reply<'_>,
    external: &ExternalRecords<'z>,
    meaning: Meaning<'_>,
) -> Outcome<'z> {
    let port = match meaning {
        Meaning::Port(port, _) if port.is_in(external.ports()) => Some(port),
        Meaning::Port(..) => return Outcome::NxDomain,
        _ => None,
    };
    // RFC 1034 §3.6.2: an alias has no other records, but a port has SRV; so that is none.
    if let Some(target) = external.alias().filter(|_| port.is_none()) {
        return Outcome::Alias(target);
    }
    match asked.query.rtype {
        rtype @ (RecordType::A | RecordType::AAAA) => match external.octets(rtype) {
            [] => Outcome::NoData,
            octets => {
                reply.addresses(rtype, octets, asked.view.ttl_s, asked.turn);
                Outcome::Found
            }
        },
        RecordType::SRV => srv::of_external(asked, reply, external, port.unwrap_or(AskedPort::ANY)),
        _ => Outcome::NoData,
    }
}

/// Reads the labels before the zone.
fn meaning<'n>(prefix: &'n [u8], apex: &[u8]) -> Meaning<'n> {
    let (mut starts, mut count, mut at) = ([0; LABELS_MAX], 0, 0);
    let mut last = 0;
    while at < prefix.len() {
        if let Some(start) = starts.get_mut(count) {
            *start = at;
        }
        last = at;
        count += 1;
        at += usize::from(prefix[at]) + 1;
    }
    if count > 0 && &prefix[last..] == apex {
        return match &prefix[..last] {
            [] => Meaning::EmptyNonTerminal,
            NAME_SERVER => Meaning::NameServer,
            _ => Meaning::Reserved,
        };
    }
    let label = |index: usize| {
        let label = &prefix[starts[index] + 1..starts[index + 1]];
        label.strip_prefix(b"_").unwrap_or(label)
    };
    match count {
        0 => Meaning::Apex,
        1 => Meaning::Namespace(prefix),
        2 => Meaning::Service(prefix),
        3 => Meaning::Below { label: &prefix[..starts[1]], service: &prefix[starts[1]..] },
        4 => {
            let port = AskedPort { name: label(0), protocol: label(1) };
            Meaning::Port(port, &prefix[starts[2]..])
        }
        _ => Meaning::Impossible,
    }
}

//! The zone itself: SOA, NS, `ns.dns` and `dns-version`.

use std::net::IpAddr;

use super::{Asked, Outcome, View, Zone, octets_of};
use crate::cluster::records::{AddressRecords, FoundBy, ServiceRecords};
use crate::wire::name::NAME_MAX;
use crate::wire::reply::Owner;
use crate::wire::{RecordType, Reply, Section};

/// TTL of the `dns-version` record, in seconds (as CoreDNS).
pub(super) const VERSION_TTL_S: u32 = 28_800;
/// Version of the specification that we follow, as TXT RDATA.
pub(super) const VERSION_TXT: &[u8] = b"\x051.1.0";
/// Longest TTL of a SOA record, in seconds (as CoreDNS).
pub(super) const SOA_TTL_MAX_S: u32 = 300;
/// REFRESH, RETRY and EXPIRE of the SOA, in seconds (as CoreDNS).
const SOA_TIMERS_S: [u32; 3] = [7200, 1800, 86_400];
/// Most names of this server that the apex lists.
const NAMES_MAX: usize = 16;

impl Zone {
    pub(super) fn apex(&self, asked: &Asked<'_>, reply: &mut Reply<'_>) -> Outcome<'_> {
        match asked.query.rtype {
            RecordType::SOA => self.soa(asked, reply, Section::Answer),
            RecordType::NS => self.name_servers(asked, reply),
            _ => return Outcome::NoData,
        }
        Outcome::Found
    }

    /// `NS.Z HOSTMASTER.Z serial 7200 1800 86400 ttl`, names in the client's spelling.
    pub(super) fn soa(&self, asked: &Asked<'_>, reply: &mut Reply<'_>, section: Section) {
        let ttl_s = asked.view.ttl_s;
        let to_zone = (0xC000 | asked.zone_at() as u16).to_be_bytes();
        let numbers = soa_numbers(self.serial, asked.view);
        let style = &asked.view.style;
        let (name_server, hostmaster) = (&*style.name_server, &*style.hostmaster);
        let rdata: [&[u8]; 5] = [name_server, &to_zone, hostmaster, &to_zone, &numbers];
        let owner = Owner::At(asked.zone_at());
        reply.record(section, owner, RecordType::SOA, ttl_s.min(style.soa_ttl_max_s), &rdata);
    }

    /// NS of the apex: the Services whose endpoints we are, else `ns.dns` (as CoreDNS ns.go).
    fn name_servers(&self, asked: &Asked<'_>, reply: &mut Reply<'_>) {
        let zone = asked.zone_as_asked();
        let own = self.own_names(asked.view);
        if own.names().count() == 0 {
            let name_server = &asked.view.style.name_server;
            let at = asked.write(reply, RecordType::NS, &[name_server, zone]);
            for address in asked.view.own_addresses.iter() {
                let Some(at) = at else { return };
                asked.write_address(reply, Section::Additional, Owner::At(at), address);
            }
            return;
        }
        let below = asked.view.style.below;
        for (name, _) in own.names() {
            asked.write(reply, RecordType::NS, &[name, below, zone]);
        }
        for (name, addresses) in own.names() {
            let mut owner = [0u8; NAME_MAX];
            let Some(slot) = owner.get_mut(..name.len() + below.len()) else { continue };
            slot[..name.len()].copy_from_slice(name);
            slot[name.len()..].copy_from_slice(below);
            for address in addresses.iter() {
                let owner = Owner::Name(slot, zone);
                asked.write_address(reply, Section::Additional, owner, &address);
            }
        }
    }

    /// Addresses of `ns.dns`: those of our Services, else our own.
    pub(super) fn name_server(&self, asked: &Asked<'_>, reply: &mut Reply<'_>) -> Outcome<'_> {
        let own = self.own_names(asked.view);
        if own.names().count() == 0 {
            return asked.write_addresses(reply, asked.view.own_addresses.iter().copied());
        }
        asked.write_addresses(reply, own.names().flat_map(|(_, addresses)| addresses.iter()))
    }

    /// The names that Services give to this server: by its Service where that has an address, by
    /// its own endpoint where the Service is headless.
    pub(super) fn own_names<'z>(&'z self, view: &View) -> OwnNames<'z> {
        let mut own = OwnNames { names: [(&[], OwnAddresses::None); NAMES_MAX], count: 0 };
        for address in view.own_addresses.iter() {
            let Some(records) = self.addresses.get(octets_of(address).as_ref()) else { continue };
            for endpoint in AddressRecords::from(records).endpoints() {
                let key = &endpoint[1 + usize::from(endpoint[0])..];
                let Some(service) = self.services.get(key).map(ServiceRecords::from) else {
                    continue;
                };
                match service.found_by() {
                    FoundBy::ClusterIp(_) => own.add(service.key, OwnAddresses::Of(service)),
                    FoundBy::Hosts => own.add(endpoint, OwnAddresses::One(*address)),
                    FoundBy::Name(_) => {}
                }
            }
        }
        own
    }
}

/// What stands behind the names of a SOA: serial, timers, and the TTL of denials.
pub(super) fn soa_numbers(serial: u32, view: &View) -> [u8; 20] {
    let mut numbers = [0u8; 20];
    let [refresh, retry, expire] = SOA_TIMERS_S;
    for (slot, number) in
        numbers.chunks_exact_mut(4).zip([serial, refresh, retry, expire, view.ttl_s])
    {
        slot.copy_from_slice(&number.to_be_bytes());
    }
    numbers
}

/// Names without the zone, each once, with their addresses; on the stack.
pub(super) struct OwnNames<'z> {
    names: [(&'z [u8], OwnAddresses<'z>); NAMES_MAX],
    count: usize,
}

/// The addresses of one of them.
#[derive(Clone, Copy)]
pub(super) enum OwnAddresses<'z> {
    None,
    One(IpAddr),
    Of(ServiceRecords<'z>),
}

impl<'z> OwnNames<'z> {
    fn add(&mut self, name: &'z [u8], addresses: OwnAddresses<'z>) {
        let is_known = self.names().any(|(known, _)| known == name);
        if !is_known && self.count < NAMES_MAX {
            self.names[self.count] = (name, addresses);
            self.count += 1;
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (&'z [u8], OwnAddresses<'z>)> {
        self.names[..self.count].iter().copied()
    }
}

impl<'z> OwnAddresses<'z> {
    pub(super) fn iter(self) -> impl Iterator<Item = IpAddr> + use<'z> {
        let (one, service) = match self {
            Self::None => (None, None),
            Self::One(address) => (Some(address), None),
            Self::Of(service) => (None, Some(service)),
        };
        let cluster_ips = service.into_iter().flat_map(|service| service.cluster_ips());
        one.into_iter().chain(cluster_ips)
    }
}

/// TXT of `dns-version` (Kubernetes DNS specification §2.2).
pub(super) fn version(asked: &Asked<'_>, reply: &mut Reply<'_>) -> Outcome<'static> {
    if asked.query.rtype != RecordType::TXT {
        return Outcome::NoData;
    }
    let owner = Owner::Question;
    reply.record(Section::Answer, owner, RecordType::TXT, VERSION_TTL_S, &[VERSION_TXT]);
    Outcome::Found
}

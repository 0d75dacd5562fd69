//! The zone itself: SOA, NS, `ns.dns` and `dns-version`.

use super::{Asked, Outcome, View, Zone, is_name};
use crate::wire::reply::Owner;
use crate::wire::{RecordType, Reply, Section};

/// TTL of the `dns-version` record, in seconds (as CoreDNS).
pub(super) const VERSION_TTL_S: u32 = 28_800;
/// Version of the specification that we follow, as TXT RDATA.
pub(super) const VERSION_TXT: &[u8] = b"\x051.1.0";
/// Longest TTL of a SOA record, in seconds (as CoreDNS).
pub(super) const SOA_TTL_MAX_S: u32 = 300;
/// Longest TTL of a denial, in seconds, as long as CoreDNS's when no TTL is written: a cache before
/// us keeps it, and the name may exist a moment later. kubeadm writes `ttl 30`.
pub(super) const DENIAL_TTL_MAX_S: u32 = 5;
/// REFRESH, RETRY and EXPIRE of the SOA, in seconds (as CoreDNS).
const SOA_TIMERS_S: [u32; 3] = [7200, 1800, 86_400];
/// Most names of this server whose addresses the apex tells beside them.
const GLUED_MAX: usize = 64;
/// Where a name must begin to be pointed to (RFC 1035 §4.1.4).
const POINTER_MAX: usize = 0x3FFF;

impl Zone {
    pub(super) fn apex(&self, asked: &Asked<'_>, reply: &mut Reply<'_>) -> Outcome<'_> {
        match asked.query.rtype {
            // The serial and our Services are not known yet.
            RecordType::SOA | RecordType::NS if !self.is_synced => return Outcome::NotReady,
            RecordType::SOA => self.soa(asked, reply, Section::Answer),
            RecordType::NS => self.name_servers(asked, reply),
            _ => return Outcome::NoData,
        }
        Outcome::Found
    }

    /// `NS.Z HOSTMASTER.Z serial 7200 1800 86400 ttl`, names in the client's spelling. It is the
    /// SOA of a denial in the authority section.
    pub(super) fn soa(&self, asked: &Asked<'_>, reply: &mut Reply<'_>, section: Section) {
        let ttl_s = match section {
            Section::Authority => asked.view.denial_ttl_s(),
            _ => asked.view.ttl_s.min(asked.view.style.soa_ttl_max_s),
        };
        let to_zone = (0xC000 | asked.zone_at() as u16).to_be_bytes();
        let numbers = soa_numbers(self.serial, asked.view);
        let style = &asked.view.style;
        let (name_server, hostmaster) = (&*style.name_server, &*style.hostmaster);
        let rdata: [&[u8]; 5] = [name_server, &to_zone, hostmaster, &to_zone, &numbers];
        let owner = Owner::At(asked.zone_at());
        reply.record(section, owner, RecordType::SOA, ttl_s, &rdata);
    }

    /// NS of the apex: the Services that lead here, else `ns.dns`.
    fn name_servers(&self, asked: &Asked<'_>, reply: &mut Reply<'_>) {
        let zone = asked.zone_as_asked();
        let own = self.own_services(asked.view);
        if own.is_empty() {
            let name_server = &asked.view.style.name_server;
            let at = asked.write(reply, RecordType::NS, &[name_server, zone]);
            for address in asked.view.own_addresses.iter() {
                let Some(at) = at else { return };
                asked.write_address(reply, Section::Additional, Owner::At(at), address);
            }
            return;
        }
        let below = asked.view.style.below;
        let mut ats = [None; GLUED_MAX];
        let mut room = [0; 64];
        for (number, name) in own.names().enumerate() {
            let [label, key] = name.labels(&mut room);
            let target = [label, key, below, zone];
            if !is_name(&target) {
                continue;
            }
            let Some(at) = asked.write(reply, RecordType::NS, &target) else { break };
            if let Some(slot) = ats.get_mut(number) {
                *slot = Some(at).filter(|at| *at <= POINTER_MAX);
            }
        }
        for (name, at) in own.names().zip(ats) {
            let Some(at) = at else { continue };
            for address in name.addresses() {
                asked.write_address(reply, Section::Additional, Owner::At(at), &address);
            }
        }
    }

    /// Addresses of `ns.dns`: those of our Services, else our own.
    pub(super) fn name_server(&self, asked: &Asked<'_>, reply: &mut Reply<'_>) -> Outcome<'_> {
        let own = self.own_services(asked.view);
        if own.is_empty() {
            return asked.write_addresses(reply, asked.view.own_addresses.iter().copied());
        }
        asked.write_addresses(reply, own.addresses())
    }
}

/// What stands behind the names of a SOA: serial, timers, and the TTL of denials.
pub(super) fn soa_numbers(serial: u32, view: &View) -> [u8; 20] {
    let mut numbers = [0u8; 20];
    let [refresh, retry, expire] = SOA_TIMERS_S;
    for (slot, number) in
        numbers.chunks_exact_mut(4).zip([serial, refresh, retry, expire, view.denial_ttl_s()])
    {
        slot.copy_from_slice(&number.to_be_bytes());
    }
    numbers
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

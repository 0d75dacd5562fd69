//! The immutable picture of the cluster at one generation, and how it answers.
//!
//! ```text
//! name ─► schema::meaning ─► services │ addresses │ namespaces ─► records into the Reply
//!              Impossible ─► NXDOMAIN, synced or not
//! ```
//!
//! We are authoritative for every name in the zones of the directive. NODATA and NXDOMAIN are told
//! apart exactly: musl ends its search at NODATA, and goes on at NXDOMAIN. Nothing here allocates.

use std::net::IpAddr;
use std::sync::Arc;

use super::config::Pods;
use super::records::{
    AddressRecords, FoundBy, Host, ServiceRecords, addresses_of, namesakes, numbers, port_matches,
};
use super::schema::{self, Meaning};
use super::trie::Trie;
use crate::wire::reply::Owner;
use crate::wire::{Name, NameRef, Query, RecordType, Reply, Section};

/// TTL of the `dns-version` record, in seconds (as CoreDNS).
const VERSION_TTL_S: u32 = 28_800;
/// Version of the specification that we follow, as TXT RDATA.
const VERSION_TXT: &[u8] = b"\x051.1.0";
/// Longest TTL of a SOA record, in seconds (as CoreDNS).
const SOA_TTL_MAX_S: u32 = 300;
/// REFRESH, RETRY and EXPIRE of the SOA, in seconds (as CoreDNS).
const SOA_TIMERS_S: [u32; 3] = [7200, 1800, 86_400];
/// Most name servers that the apex lists.
const NS_MAX: usize = 16;

/// The published picture of a cluster. It never changes.
#[derive(Clone)]
pub struct Zone {
    /// Count of published Zones, from 1; 0 before the first.
    pub generation: u64,
    /// Serial of the SOA.
    pub serial: u32,
    /// Whether every kind has been listed. Before that, what is missing may only be unknown.
    pub is_synced: bool,
    pub(super) settings: Arc<Settings>,
    pub(super) namespaces: Trie<()>,
    pub(super) services: Trie<Arc<ServiceRecords>>,
    pub(super) addresses: Trie<Arc<AddressRecords>>,
}

/// What of the directive rules the answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// TTL of all records, in seconds.
    pub ttl_s: u32,
    pub pods: Pods,
    /// The zone of PTR targets: the first that is not a reverse zone.
    pub primary: Name,
    /// Addresses of this server, for `ns.dns` and the NS records.
    pub own_addresses: Vec<IpAddr>,
}

/// A query inside one of the zones.
pub struct Asked<'q> {
    /// The zone that matched.
    pub zone: NameRef<'q>,
    /// The octets of the name before the zone.
    pub prefix: &'q [u8],
    pub query: &'q Query<'q>,
    /// Which address comes first.
    pub turn: u32,
}

/// What the Zone says. `Found` has written its records; a denial is written by [`Zone::deny`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome<'z> {
    Found,
    NoData,
    NxDomain,
    /// The name may exist, but the cluster is not known yet.
    NotReady,
    /// The name is an alias of this one.
    Alias(&'z Name),
}

impl Zone {
    /// The Zone before anything is known.
    pub fn unsynced(settings: Settings) -> Self {
        Self {
            generation: 0,
            serial: 1,
            is_synced: false,
            settings: Arc::new(settings),
            namespaces: Trie::default(),
            services: Trie::default(),
            addresses: Trie::default(),
        }
    }

    /// Services with a name.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// Looks the name up and writes what is found.
    pub fn lookup(&self, asked: &Asked<'_>, reply: &mut Reply<'_>) -> Outcome<'_> {
        if schema::is_reverse(asked.zone) {
            return self.lookup_reverse(asked, reply);
        }
        match schema::meaning(asked.prefix) {
            Meaning::Impossible => Outcome::NxDomain,
            Meaning::Apex => self.apex(asked, reply),
            Meaning::Version => version(asked, reply),
            Meaning::NameServer => self.name_server(asked, reply),
            Meaning::EmptyNonTerminal => Outcome::NoData,
            Meaning::Pod { .. } | Meaning::PodNamespace(_)
                if self.settings.pods == Pods::Disabled =>
            {
                Outcome::NxDomain
            }
            _ if !self.is_synced => Outcome::NotReady,
            Meaning::Namespace(label) | Meaning::PodNamespace(label) => self.namespace(label),
            Meaning::Pod { address, namespace } => self.pod(asked, reply, address, namespace),
            Meaning::Service(key) => self.service(asked, reply, key),
            Meaning::Endpoint { label, service } => self.endpoint(asked, reply, label, service),
            Meaning::Port { port, protocol, service } => {
                self.port(asked, reply, (port, protocol), service)
            }
        }
    }

    /// Writes a denial: the SOA of the zone, in the authority section (RFC 2308 §3).
    pub fn deny(&self, asked: &Asked<'_>, reply: &mut Reply<'_>) {
        self.soa(asked, reply, Section::Authority);
    }

    fn apex(&self, asked: &Asked<'_>, reply: &mut Reply<'_>) -> Outcome<'_> {
        match asked.query.rtype {
            RecordType::SOA => self.soa(asked, reply, Section::Answer),
            RecordType::NS => self.name_servers(asked, reply),
            _ => return Outcome::NoData,
        }
        Outcome::Found
    }

    /// `ns.dns.Z hostmaster.Z serial 7200 1800 86400 ttl`, names in the client's spelling.
    fn soa(&self, asked: &Asked<'_>, reply: &mut Reply<'_>, section: Section) {
        let ttl_s = self.settings.ttl_s;
        let to_zone = (0xC000 | asked.zone_at() as u16).to_be_bytes();
        let mut numbers = [0u8; 20];
        let [refresh, retry, expire] = SOA_TIMERS_S;
        for (slot, number) in
            numbers.chunks_exact_mut(4).zip([self.serial, refresh, retry, expire, ttl_s])
        {
            slot.copy_from_slice(&number.to_be_bytes());
        }
        let rdata: [&[u8]; 5] = [b"\x02ns\x03dns", &to_zone, b"\x0ahostmaster", &to_zone, &numbers];
        let owner = Owner::At(asked.zone_at());
        reply.record(section, owner, RecordType::SOA, ttl_s.min(SOA_TTL_MAX_S), &rdata);
    }

    fn namespace(&self, label: &[u8]) -> Outcome<'_> {
        match self.namespaces.get(label) {
            Some(()) => Outcome::NoData,
            None => Outcome::NxDomain,
        }
    }

    fn pod(
        &self,
        asked: &Asked<'_>,
        reply: &mut Reply<'_>,
        address: IpAddr,
        namespace: &[u8],
    ) -> Outcome<'_> {
        if self.namespaces.get(namespace).is_none() {
            return Outcome::NxDomain;
        }
        self.write_addresses(asked.query.rtype, reply, std::iter::once(&address))
    }

    fn service(&self, asked: &Asked<'_>, reply: &mut Reply<'_>, key: &[u8]) -> Outcome<'_> {
        let Some(service) = self.services.get(key).filter(|service| service.exists()) else {
            return Outcome::NxDomain;
        };
        if let FoundBy::Name(target) = &service.found_by {
            return Outcome::Alias(target);
        }
        match asked.query.rtype {
            rtype @ (RecordType::A | RecordType::AAAA) => match service.addresses(rtype) {
                Some(answer) => {
                    reply.answer(answer, None, asked.turn);
                    Outcome::Found
                }
                None => Outcome::NoData,
            },
            RecordType::SRV => self.srv(asked, reply, service, (b"", b"")),
            _ => Outcome::NoData,
        }
    }

    fn endpoint(
        &self,
        asked: &Asked<'_>,
        reply: &mut Reply<'_>,
        label: &[u8],
        key: &[u8],
    ) -> Outcome<'_> {
        let Some(service) = self.services.get(key) else { return Outcome::NxDomain };
        let hosts = service.hosts_named(label);
        if hosts.is_empty() {
            return Outcome::NxDomain;
        }
        if asked.query.rtype == RecordType::SRV {
            return self.srv_of_hosts(asked, reply, &service.key, hosts, (b"", b""));
        }
        self.write_addresses(asked.query.rtype, reply, addresses_of(hosts, |_| true))
    }

    /// A name with port and protocol in front: SRV, and the addresses too (as CoreDNS).
    fn port(
        &self,
        asked: &Asked<'_>,
        reply: &mut Reply<'_>,
        port: (&[u8], &[u8]),
        key: &[u8],
    ) -> Outcome<'_> {
        let Some(service) = self.services.get(key) else { return Outcome::NxDomain };
        let asks_for = |candidate: &_| port_matches(candidate, port.0, port.1);
        let exists = match &service.found_by {
            FoundBy::ClusterIp { ports, .. } => ports.iter().any(asks_for),
            FoundBy::Hosts => service.hosts.iter().any(|host| host.ports.iter().any(asks_for)),
            FoundBy::Name(_) => false,
        };
        if !exists {
            return Outcome::NxDomain;
        }
        match (&service.found_by, asked.query.rtype) {
            (_, RecordType::SRV) => self.srv(asked, reply, service, port),
            (FoundBy::Hosts, rtype) => {
                let has_port = |host: &Host| host.ports.iter().any(asks_for);
                self.write_addresses(rtype, reply, addresses_of(&service.hosts, has_port))
            }
            (_, rtype) => self.write_addresses(rtype, reply, service.cluster_ips()),
        }
    }

    /// SRV records of a Service whose ports match (RFC 2782; Kubernetes DNS specification §2.3.2).
    fn srv(
        &self,
        asked: &Asked<'_>,
        reply: &mut Reply<'_>,
        service: &ServiceRecords,
        port: (&[u8], &[u8]),
    ) -> Outcome<'_> {
        let FoundBy::ClusterIp { addresses, ports } = &service.found_by else {
            return self.srv_of_hosts(asked, reply, &service.key, &service.hosts, port);
        };
        let hits = ports.iter().filter(|candidate| port_matches(candidate, port.0, port.1)).count();
        let weight = weight(hits * addresses.len());
        let target = [&*service.key, asked.below_svc()];
        let mut target_at = None;
        for number in numbers(ports, port) {
            let at = self.srv_record(reply, weight, number, &target, asked);
            target_at = target_at.or(at);
        }
        let Some(target_at) = target_at else { return Outcome::NoData };
        self.glue(reply, target_at, addresses);
        Outcome::Found
    }

    /// One SRV record per host and port; equal ones are written once.
    fn srv_of_hosts(
        &self,
        asked: &Asked<'_>,
        reply: &mut Reply<'_>,
        key: &[u8],
        hosts: &[Host],
        port: (&[u8], &[u8]),
    ) -> Outcome<'_> {
        let matching = |host: &Host| {
            host.ports.iter().filter(|candidate| port_matches(candidate, port.0, port.1)).count()
        };
        let hits = hosts.iter().map(|host| matching(host) * host.addresses.len()).sum();
        if hits == 0 {
            return Outcome::NoData;
        }
        for (index, host) in hosts.iter().enumerate() {
            for number in numbers(&host.ports, port) {
                let has_it = |other: &Host| numbers(&other.ports, port).any(|same| same == number);
                if !namesakes(hosts, index).any(has_it) {
                    let target: [&[u8]; 3] = [&host.label, key, asked.below_svc()];
                    self.srv_record(reply, weight(hits), number, &target, asked);
                }
            }
        }
        for (index, host) in hosts.iter().enumerate().filter(|(_, host)| matching(host) > 0) {
            let has_it = |address: &IpAddr| {
                let mut before = namesakes(hosts, index).filter(|other| matching(other) > 0);
                before.any(|other| other.addresses.contains(address))
            };
            let new = host.addresses.iter().filter(|address| !has_it(address));
            self.host_glue(asked, reply, key, &host.label, new);
        }
        Outcome::Found
    }

    /// Writes one SRV record and answers where its target begins. RFC 2782: the target is not
    /// compressed, so the zone is repeated as the client spelled it.
    fn srv_record(
        &self,
        reply: &mut Reply<'_>,
        weight: u16,
        port: u16,
        target: &[&[u8]],
        asked: &Asked<'_>,
    ) -> Option<usize> {
        let mut fixed = [0u8; 6];
        fixed[2..4].copy_from_slice(&weight.to_be_bytes());
        fixed[4..].copy_from_slice(&port.to_be_bytes());
        let zone = asked.zone_as_asked();
        let mut rdata: [&[u8]; 5] = [&fixed, &[], &[], &[], zone];
        rdata[1..1 + target.len()].copy_from_slice(target);
        let ttl_s = self.settings.ttl_s;
        let rdata_at =
            reply.record(Section::Answer, Owner::Question, RecordType::SRV, ttl_s, &rdata)?;
        Some(rdata_at + fixed.len())
    }

    /// Additional addresses of a target that lies at `target_at`.
    fn glue(&self, reply: &mut Reply<'_>, target_at: usize, addresses: &[IpAddr]) {
        for address in addresses {
            self.write_address(reply, Section::Additional, Owner::At(target_at), address);
        }
    }

    /// Additional addresses of a host; the first carries its name, the others point to it.
    fn host_glue<'a>(
        &self,
        asked: &Asked<'_>,
        reply: &mut Reply<'_>,
        key: &[u8],
        label: &[u8],
        addresses: impl Iterator<Item = &'a IpAddr>,
    ) {
        let mut name = [0u8; 255];
        let mut len = 0;
        for part in [label, key, asked.below_svc(), asked.zone_as_asked()] {
            let Some(slot) = name.get_mut(len..len + part.len()) else { return };
            slot.copy_from_slice(part);
            len += part.len();
        }
        for address in addresses {
            let owner = Owner::Name(&name[..len], &[]);
            self.write_address(reply, Section::Additional, owner, address);
        }
    }

    /// Writes those addresses that have the asked family.
    fn write_addresses<'a>(
        &self,
        rtype: RecordType,
        reply: &mut Reply<'_>,
        addresses: impl IntoIterator<Item = &'a IpAddr>,
    ) -> Outcome<'_> {
        let mut outcome = Outcome::NoData;
        for address in addresses.into_iter().filter(|address| rtype_of(address) == rtype) {
            self.write_address(reply, Section::Answer, Owner::Question, address);
            outcome = Outcome::Found;
        }
        outcome
    }

    fn write_address(
        &self,
        reply: &mut Reply<'_>,
        section: Section,
        owner: Owner<'_>,
        address: &IpAddr,
    ) {
        let ttl_s = self.settings.ttl_s;
        match address {
            IpAddr::V4(v4) => reply.record(section, owner, RecordType::A, ttl_s, &[&v4.octets()]),
            IpAddr::V6(v6) => {
                reply.record(section, owner, RecordType::AAAA, ttl_s, &[&v6.octets()])
            }
        };
    }

    /// NS of the apex: the Services whose endpoints we are, else `ns.dns` (as CoreDNS ns.go).
    fn name_servers(&self, asked: &Asked<'_>, reply: &mut Reply<'_>) {
        let ttl_s = self.settings.ttl_s;
        let zone = asked.zone_as_asked();
        let mut count = 0;
        self.each_own_name(&mut |name, _, is_new| {
            if is_new && count < NS_MAX {
                let rdata: [&[u8]; 3] = [name, b"\x03svc", zone];
                reply.record(Section::Answer, Owner::Question, RecordType::NS, ttl_s, &rdata);
                count += 1;
            }
        });
        if count == 0 {
            let rdata: [&[u8]; 2] = [b"\x02ns\x03dns", zone];
            let owner = Owner::Question;
            let at = reply.record(Section::Answer, owner, RecordType::NS, ttl_s, &rdata);
            if let Some(at) = at {
                self.glue(reply, at, &self.settings.own_addresses);
            }
            return;
        }
        self.each_own_name(&mut |name, address, _| {
            let mut owner = [0u8; 255];
            let Some(slot) = owner.get_mut(..name.len() + 4) else { return };
            slot[..name.len()].copy_from_slice(name);
            slot[name.len()..].copy_from_slice(b"\x03svc");
            let owner = Owner::Name(slot, zone);
            self.write_address(reply, Section::Additional, owner, address);
        });
    }

    /// Addresses of `ns.dns`: those of our Services, else our own.
    fn name_server(&self, asked: &Asked<'_>, reply: &mut Reply<'_>) -> Outcome<'_> {
        let rtype = asked.query.rtype;
        let mut is_known = false;
        let mut outcome = Outcome::NoData;
        self.each_own_name(&mut |_, address, _| {
            is_known = true;
            if rtype_of(address) == rtype {
                self.write_address(reply, Section::Answer, Owner::Question, address);
                outcome = Outcome::Found;
            }
        });
        if is_known {
            return outcome;
        }
        self.write_addresses(rtype, reply, &self.settings.own_addresses)
    }

    /// Calls `each(name without zone, address, first of its name)` for the names of this server.
    fn each_own_name(&self, each: &mut dyn FnMut(&[u8], &IpAddr, bool)) {
        let mut last: &[u8] = &[];
        for own in &self.settings.own_addresses {
            let Some(records) = self.addresses.get(octets_of(own).as_ref()) else { continue };
            for endpoint in &records.endpoints {
                let key = &endpoint[1 + usize::from(endpoint[0])..];
                let Some(service) = self.services.get(key).filter(|_| key != last) else {
                    continue;
                };
                last = key;
                for (index, address) in service.cluster_ips().iter().enumerate() {
                    each(key, address, index == 0);
                }
                if service.found_by == FoundBy::Hosts {
                    each(endpoint, own, true);
                }
            }
        }
    }

    fn lookup_reverse(&self, asked: &Asked<'_>, reply: &mut Reply<'_>) -> Outcome<'_> {
        if asked.prefix.is_empty() {
            return self.apex(asked, reply);
        }
        let Some(address) = schema::reverse_address(asked.query.name()) else {
            return Outcome::NxDomain;
        };
        if !self.is_synced {
            return Outcome::NotReady;
        }
        let Some(records) = self.addresses.get(octets_of(&address).as_ref()) else {
            return Outcome::NxDomain;
        };
        if asked.query.rtype != RecordType::PTR {
            return Outcome::NoData;
        }
        let primary = self.settings.primary.octets();
        let names = match records.services.first() {
            Some(service) => std::slice::from_ref(service),
            None => &records.endpoints[..],
        };
        for name in names {
            let rdata: [&[u8]; 3] = [name, b"\x03svc", primary];
            let ttl_s = self.settings.ttl_s;
            reply.record(Section::Answer, Owner::Question, RecordType::PTR, ttl_s, &rdata);
        }
        Outcome::Found
    }
}

impl<'q> Asked<'q> {
    /// Where the zone begins in the message: compression pointers to it keep the client's spelling.
    fn zone_at(&self) -> usize {
        crate::wire::HEADER_LEN + self.prefix.len()
    }

    /// The zone as the client spelled it.
    fn zone_as_asked(&self) -> &'q [u8] {
        let question = self.query.question();
        &question[self.prefix.len()..question.len() - 4]
    }

    /// The label between a Service and its zone.
    fn below_svc(&self) -> &'static [u8] {
        b"\x03svc"
    }
}

fn version(asked: &Asked<'_>, reply: &mut Reply<'_>) -> Outcome<'static> {
    if asked.query.rtype != RecordType::TXT {
        return Outcome::NoData;
    }
    let owner = Owner::Question;
    reply.record(Section::Answer, owner, RecordType::TXT, VERSION_TTL_S, &[VERSION_TXT]);
    Outcome::Found
}

/// Weight of one of `hits` SRV records (as CoreDNS: they share 100, and none goes below 1).
fn weight(hits: usize) -> u16 {
    (100 / hits.max(1)).max(1) as u16
}

fn rtype_of(address: &IpAddr) -> RecordType {
    if address.is_ipv4() { RecordType::A } else { RecordType::AAAA }
}

/// The key of an address in the Zone: its 4 or 16 octets.
pub(super) fn octets_of(address: &IpAddr) -> AddressKey {
    match address {
        IpAddr::V4(v4) => AddressKey::V4(v4.octets()),
        IpAddr::V6(v6) => AddressKey::V6(v6.octets()),
    }
}

/// Octets of an address, on the stack.
pub(super) enum AddressKey {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl AsRef<[u8]> for AddressKey {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::V4(octets) => octets,
            Self::V6(octets) => octets,
        }
    }
}

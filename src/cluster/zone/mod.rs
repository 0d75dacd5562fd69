//! The immutable picture of the cluster at one generation, and how it answers.
//!
//! ```text
//! name ─► schema::meaning ─► services │ addresses │ namespaces ─► records into the Reply
//!              Impossible ─► NXDOMAIN, synced or not
//! ```
//!
//! We are authoritative for every name in the zones of the directive. NODATA and NXDOMAIN are told
//! apart exactly: musl ends its search at NODATA, and goes on at NXDOMAIN. Nothing here allocates.

mod ahead;
mod apex;
mod asked;
mod external;
mod own;
mod srv;
mod style;
mod transfer;

use std::net::IpAddr;
use std::sync::Arc;

pub use ahead::Ahead;
pub use asked::Asked;
use asked::{is_name, rtype_of};
pub use external::Outside;
pub use style::Style;
pub use transfer::{Record, Records, Version};

use super::config::Pods;
use super::externals::ExternalHead;
use super::hosts::Hosts;
use super::object::Protocol;
use super::records::{
    AddressHead, AddressRecords, AskedPort, FoundBy, ServiceHead, ServiceRecords,
};
use super::schema::{self, Meaning, Zonal};
use super::trie::Trie;
use crate::wire::name::LABEL_MAX;
use crate::wire::{Name, RecordType, Reply, Section};

/// The published picture of a cluster. It never changes.
#[derive(Clone)]
pub struct Zone {
    /// Count of published Zones, from 1; 0 before the first.
    pub generation: u64,
    /// Serial of the SOA.
    pub serial: u32,
    /// Whether Namespaces, Services and slices have been listed. Before that, what is missing may
    /// only be unknown.
    pub is_synced: bool,
    /// The same for Pods, where they are watched.
    pub knows_pods: bool,
    /// The same for ServiceImports.
    pub knows_imports: bool,
    pub(super) namespaces: Trie<()>,
    pub(super) services: Trie<ServiceHead>,
    /// The Services of the cluster set.
    pub(super) imports: Trie<ServiceHead>,
    pub(super) addresses: Trie<AddressHead>,
    /// The Services that are to be reached from outside, and their addresses there.
    pub(super) externals: Trie<ExternalHead>,
    pub(super) external_addresses: Trie<AddressHead>,
    /// How many Pods have an address, by the label of their Namespace and the address.
    pub(super) pods: Trie<u32>,
}

/// How a directive shows a cluster. Several may show the same one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// TTL of all records, in seconds.
    pub ttl_s: u32,
    pub pods: Pods,
    /// Whether names with a zone exist (`zonal`).
    pub is_zonal: bool,
    /// Whether endpoints are known at all (not with `noendpoints`).
    pub watches_endpoints: bool,
    /// Whether a Service with a cluster IP has no name without a ready endpoint
    /// (`ignore empty_service`).
    pub ignores_empty: bool,
    /// The zone of PTR targets: the first that is not a reverse zone.
    pub primary: Name,
    /// Addresses of this server, for `ns.dns` and the NS records.
    pub own_addresses: Arc<[IpAddr]>,
    pub style: Style,
}

/// What the Zone says. `Found` has written its records; a denial is written by [`Zone::deny`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome<'z> {
    Found,
    NoData,
    NxDomain,
    /// The name does not exist because none of so many endpoints is ready.
    NoneReady(u32),
    /// The name may exist, but the cluster is not known yet.
    NotReady,
    /// The name is an alias of this one.
    Alias(&'z Name),
}

impl Zone {
    /// The Zone before anything is known.
    pub fn unsynced() -> Self {
        Self {
            generation: 0,
            serial: 1,
            is_synced: false,
            knows_pods: false,
            knows_imports: false,
            namespaces: Trie::default(),
            services: Trie::default(),
            imports: Trie::default(),
            addresses: Trie::default(),
            externals: Trie::default(),
            external_addresses: Trie::default(),
            pods: Trie::default(),
        }
    }

    /// A Zone that knows nothing yet and can be compared with this one.
    pub fn emptied(&self) -> Self {
        Self {
            services: self.services.emptied(),
            imports: self.imports.emptied(),
            addresses: self.addresses.emptied(),
            ..Self::unsynced()
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
            Meaning::Version => apex::version(asked, reply),
            Meaning::NameServer if !self.is_synced => Outcome::NotReady,
            Meaning::NameServer => self.name_server(asked, reply),
            Meaning::EmptyNonTerminal => Outcome::NoData,
            Meaning::Pod { .. } | Meaning::PodNamespace(_) if asked.view.pods == Pods::Disabled => {
                Outcome::NxDomain
            }
            Meaning::Long => self.zonal(asked, reply),
            // A search list makes names of four labels, too.
            Meaning::Port { protocol, .. }
                if !asked.in_clusterset && !Protocol::is_asked_by(protocol) =>
            {
                Outcome::NxDomain
            }
            _ if !self.is_synced => Outcome::NotReady,
            Meaning::Namespace(label) | Meaning::PodNamespace(label) => self.namespace(label),
            Meaning::Pod { address, namespace } => self.pod(asked, reply, address, namespace),
            _ if asked.in_clusterset && !self.knows_imports => Outcome::NotReady,
            Meaning::Service(key) => self.service(asked, reply, key),
            Meaning::Endpoint { label, service } => self.endpoint(asked, reply, label, service),
            Meaning::Port { service, .. }
                if asked.in_clusterset && !schema::has_underscore(asked.before(service)) =>
            {
                self.endpoint(asked, reply, asked.before(service), service)
            }
            Meaning::Port { port, protocol, service, .. } => {
                self.port(asked, reply, AskedPort { name: port, protocol }, service)
            }
        }
    }

    /// Writes a denial: the SOA of the zone, in the authority section (RFC 2308 §3).
    pub fn deny(&self, asked: &Asked<'_>, reply: &mut Reply<'_>) {
        self.soa(asked, reply, Section::Authority);
    }

    /// What is known of a Service: of the cluster, or of the cluster set.
    fn service_records(&self, asked: &Asked<'_>, key: &[u8]) -> Option<ServiceRecords<'_>> {
        let services = if asked.in_clusterset { &self.imports } else { &self.services };
        services.get(key).map(ServiceRecords::from)
    }

    fn namespace(&self, label: &[u8]) -> Outcome<'_> {
        match self.namespaces.get(label) {
            Some(_) => Outcome::NoData,
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
        if asked.view.pods == Pods::Verified {
            if !self.knows_pods {
                return Outcome::NotReady;
            }
            let mut room = [0; POD_KEY_MAX];
            if self.pods.get(pod_key(namespace, &address, &mut room)).is_none() {
                return Outcome::NxDomain;
            }
        }
        asked.write_addresses(reply, [address])
    }

    fn service(&self, asked: &Asked<'_>, reply: &mut Reply<'_>, key: &[u8]) -> Outcome<'_> {
        let Some(service) = self.service_records(asked, key) else { return Outcome::NxDomain };
        if !service.exists() || asked.hides(&service) {
            return Outcome::NoneReady(service.unready());
        }
        if let Some(target) = service.alias() {
            return Outcome::Alias(target);
        }
        match asked.query.rtype {
            rtype @ (RecordType::A | RecordType::AAAA) => match service.octets(rtype) {
                [] => Outcome::NoData,
                octets => {
                    reply.addresses(rtype, octets, asked.view.ttl_s, asked.turn);
                    Outcome::Found
                }
            },
            RecordType::SRV => srv::of_service(asked, reply, &service, AskedPort::ANY),
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
        let Some(service) = self.service_records(asked, key) else { return Outcome::NxDomain };
        let hosts = service.hosts_named(label);
        if hosts.clone().next().is_none() {
            return Outcome::NxDomain;
        }
        if asked.query.rtype == RecordType::SRV {
            return srv::of_hosts(asked, reply, service.key, hosts, AskedPort::ANY);
        }
        asked.write_addresses_of(reply, hosts)
    }

    /// A name with port and protocol in front: SRV, and the addresses too (as CoreDNS).
    fn port(
        &self,
        asked: &Asked<'_>,
        reply: &mut Reply<'_>,
        port: AskedPort<'_>,
        key: &[u8],
    ) -> Outcome<'_> {
        let Some(service) = self.service_records(asked, key) else { return Outcome::NxDomain };
        if asked.hides(&service) {
            return Outcome::NoneReady(service.unready());
        }
        let hosts = service.hosts_once().filter(|host| port.is_in(host.ports));
        let exists = match service.found_by() {
            FoundBy::ClusterIp(ports) => port.is_in(ports),
            FoundBy::Hosts => hosts.clone().next().is_some(),
            FoundBy::Name(_) => false,
        };
        if !exists && !service.exists() {
            return Outcome::NoneReady(service.unready());
        }
        if !exists {
            return Outcome::NxDomain;
        }
        match (service.found_by(), asked.query.rtype) {
            (_, RecordType::SRV) => srv::of_service(asked, reply, &service, port),
            (FoundBy::Hosts, _) => asked.write_addresses_of(reply, hosts),
            _ => asked.write_addresses(reply, service.cluster_ips()),
        }
    }

    /// A headless Service as one zone has it. The name exists whether or not the zone is known, so
    /// that a zone that is drained is NODATA (as CoreDNS).
    fn zonal(&self, asked: &Asked<'_>, reply: &mut Reply<'_>) -> Outcome<'_> {
        let is_shown = asked.view.is_zonal && !asked.in_clusterset;
        let name = is_shown.then(|| schema::zonal(asked.prefix)).flatten();
        let Some(Zonal { zone, prefers, service }) = name else { return Outcome::NxDomain };
        if !self.is_synced {
            return Outcome::NotReady;
        }
        let service = self.service_records(asked, service);
        let Some(service) = service.filter(|it| matches!(it.found_by(), FoundBy::Hosts)) else {
            return Outcome::NxDomain;
        };
        let hosts = service.hosts_in(zone).or(service.all_hosts().filter(|_| prefers));
        let hosts = hosts.into_iter();
        match asked.query.rtype {
            RecordType::SRV => {
                let hosts = hosts.flat_map(Hosts::iter);
                srv::of_hosts(asked, reply, service.key, hosts, AskedPort::ANY)
            }
            _ => asked.write_addresses_of(reply, hosts.flat_map(Hosts::each_once)),
        }
    }

    fn lookup_reverse(&self, asked: &Asked<'_>, reply: &mut Reply<'_>) -> Outcome<'_> {
        let records = match self.address(&self.addresses, asked) {
            Ok(records) => records,
            Err(Outcome::NxDomain) => return self.of_the_zone(asked, reply),
            Err(outcome) => return outcome,
        };
        let service = records.services().next();
        let endpoints = records.endpoints().filter(|_| service.is_none());
        asked.write_ptrs(reply, service.into_iter().chain(endpoints))
    }

    /// The names of the zone itself, which are the same in every zone (as CoreDNS).
    fn of_the_zone(&self, asked: &Asked<'_>, reply: &mut Reply<'_>) -> Outcome<'_> {
        match schema::meaning(asked.prefix) {
            Meaning::Apex => self.apex(asked, reply),
            Meaning::Version => apex::version(asked, reply),
            Meaning::NameServer => self.name_server(asked, reply),
            Meaning::EmptyNonTerminal => Outcome::NoData,
            _ => Outcome::NxDomain,
        }
    }

    /// What is known of the address whose PTR is asked for.
    fn address<'z>(
        &self,
        addresses: &'z Trie<AddressHead>,
        asked: &Asked<'_>,
    ) -> Result<AddressRecords<'z>, Outcome<'static>> {
        let Some(address) = schema::reverse_address(asked.query.name()) else {
            return Err(Outcome::NxDomain);
        };
        if !self.is_synced {
            return Err(Outcome::NotReady);
        }
        match addresses.get(octets_of(&address).as_ref()) {
            None => Err(Outcome::NxDomain),
            Some(_) if asked.query.rtype != RecordType::PTR => Err(Outcome::NoData),
            Some(leaf) => Ok(AddressRecords::from(leaf)),
        }
    }
}

impl View {
    /// TTL of denials, in seconds: also of those that a secondary makes of the SOA.
    fn denial_ttl_s(&self) -> u32 {
        self.ttl_s.min(self.style.denial_ttl_max_s)
    }

    /// Whether a Service has no name, because nobody is behind its cluster IP.
    fn hides(&self, service: &ServiceRecords<'_>) -> bool {
        self.ignores_empty
            && matches!(service.found_by(), FoundBy::ClusterIp(_))
            && !service.has_hosts()
    }
}

/// Longest key of a Pod: a label with its length octet, and an address.
pub(super) const POD_KEY_MAX: usize = LABEL_MAX + 1 + 16;

/// The key of a Pod's address: the label of its Namespace, with its length octet, and the address.
pub(super) fn pod_key<'r>(
    namespace: &[u8],
    address: &IpAddr,
    room: &'r mut [u8; POD_KEY_MAX],
) -> &'r [u8] {
    let address = octets_of(address);
    let (address, label) = (address.as_ref(), namespace.len());
    room[..label].copy_from_slice(namespace);
    room[label..label + address.len()].copy_from_slice(address);
    &room[..label + address.len()]
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

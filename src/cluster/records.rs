//! The immutable records of one Service and of one address, as a Zone holds them.
//!
//! ```text
//! Leaf of a Service:   ServiceHead: found by, hosts │ key 3web4shop │ IPv4 … IPv6 …
//! Leaf of an address:  AddressHead                  │ key 10.0.0.1  │ Services … endpoints …
//! ```
//!
//! Addresses are packed, one behind the other, in the allocation that also holds the key: a
//! look-up that has found its Leaf has found its answer. SRV and PTR records are composed while
//! the reply is written, because their targets repeat the zone as the client spelled it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::endpoints::{Endpoint, Endpoints};
use super::hosts::{Host, Hosts, Part, sorted_ports};
use super::object::{Port, Role, Service};
use super::packed::{self, Addresses};
use super::schema;
use super::trie::Leaf;
use crate::wire::{Name, RecordType};

/// Labels of a Service's name and of an endpoint's name, without the zone.
const SERVICE_LABELS: usize = 2;
const ENDPOINT_LABELS: usize = 3;

/// What a Zone holds of a Service beside its key and its addresses: small, so that a common Leaf is
/// one cache line. What only other questions need is behind a pointer.
#[derive(PartialEq, Eq, Debug)]
pub struct ServiceHead {
    kind: Kind,
    /// How much of the tail is IPv4.
    v4_octets: u32,
    rest: Box<Rest>,
}

/// [`FoundBy`] without its values.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    ClusterIp,
    Hosts,
    Name,
}

#[derive(PartialEq, Eq, Debug)]
struct Rest {
    found_by: FoundBy,
    /// `None` without ready endpoints.
    hosts: Option<Hosts>,
    /// Endpoints that are not ready, counted where none is.
    unready: u32,
    /// The hosts of each zone, by its labels in wire form, sorted; kept for `zonal` only.
    zones: Box<[(Box<[u8]>, Hosts)]>,
}

/// How clients reach a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FoundBy {
    /// By its own addresses and these ports.
    ClusterIp(Arc<[Port]>),
    /// By the addresses of its hosts.
    Hosts,
    /// By another name.
    Name(Name),
}

/// The records of a Service before they are put into a Zone.
#[derive(PartialEq, Eq, Debug)]
pub struct Draft {
    pub head: ServiceHead,
    /// All addresses of the name, those of IPv4 first: the tail of its Leaf.
    pub addresses: Vec<u8>,
}

/// The records of a Service where they lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServiceRecords<'z> {
    /// The two labels of the name, `3web4shop`.
    pub key: &'z [u8],
    head: &'z ServiceHead,
    addresses: &'z [u8],
}

/// What a Zone holds of an address beside its octets and its names.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AddressHead {
    /// How much of the tail are names of Services.
    service_octets: u32,
}

/// The names that the PTR records of an address may carry, without the zone.
#[derive(Clone, Copy, Default)]
pub struct AddressRecords<'z> {
    services: &'z [u8],
    endpoints: &'z [u8],
}

impl Draft {
    /// The records of a Service with its slices; `None` when no name of it exists.
    pub fn of<'s>(
        service: &Service,
        parts: impl Iterator<Item = Part<'s>> + Clone,
    ) -> Option<Self> {
        let hosts = || Hosts::of(parts.clone());
        let (found_by, hosts, zones) = match &service.role {
            Role::ExternalName(target) => (external(target)?, None, Box::default()),
            Role::Headless => (FoundBy::Hosts, hosts(), by_zone(parts.clone())),
            Role::ClusterIp(addresses) if addresses.is_empty() => return None,
            Role::ClusterIp(_) => {
                let ports = sorted_ports(service.ports.iter().cloned());
                (FoundBy::ClusterIp(ports), hosts(), Box::default())
            }
        };
        let (addresses, v4_octets) = match (&service.role, &hosts) {
            (Role::ClusterIp(addresses), _) => packed::pack(addresses.iter().copied()),
            (Role::Headless, Some(hosts)) => packed::pack(hosts.addresses()),
            _ => Default::default(),
        };
        let kind = match found_by {
            FoundBy::ClusterIp(_) => Kind::ClusterIp,
            FoundBy::Hosts => Kind::Hosts,
            FoundBy::Name(_) => Kind::Name,
        };
        let unready = if hosts.is_some() { 0 } else { count_unready(parts) };
        let rest = Box::new(Rest { found_by, hosts, unready, zones });
        let head = ServiceHead { kind, v4_octets, rest };
        Some(Self { head, addresses })
    }
}

impl ServiceHead {
    /// Whether a Service is as it was, but for its endpoints, of which none is ready any more.
    pub(super) fn is_emptied_since(&self, old: &Self) -> bool {
        let is_same = self.kind == old.kind && self.rest.found_by == old.rest.found_by;
        is_same && old.rest.hosts.is_some() && self.rest.hosts.is_none()
    }

    /// Whether its addresses are those of its endpoints.
    pub(super) fn is_of_hosts(&self) -> bool {
        self.kind == Kind::Hosts
    }
}

/// How many endpoints are not ready.
fn count_unready<'s>(parts: impl Iterator<Item = Part<'s>>) -> u32 {
    let endpoints = parts.flat_map(|part| part.endpoints.iter());
    endpoints.filter(|endpoint| !endpoint.ready).count() as u32
}

/// The hosts of each zone that is told, in one pass: zones may be as many as endpoints.
fn by_zone<'s>(parts: impl Iterator<Item = Part<'s>>) -> Box<[(Box<[u8]>, Hosts)]> {
    let mut zones: BTreeMap<&str, Vec<(Part<'s>, Vec<Endpoint>)>> = BTreeMap::new();
    for part in parts {
        for endpoint in part.endpoints.iter() {
            let Some(zone) = endpoint.zone else { continue };
            let of_zone = zones.entry(zone).or_default();
            match of_zone
                .last_mut()
                .filter(|(last, _)| std::ptr::eq(last.endpoints, part.endpoints))
            {
                Some((_, endpoints)) => endpoints.push(endpoint.into()),
                None => of_zone.push((part, vec![endpoint.into()])),
            }
        }
    }
    let mut by_zone: Vec<_> = zones
        .into_iter()
        .filter_map(|(zone, parts)| {
            let parts = parts.into_iter().map(|(part, all)| (part, all.into_iter().collect()));
            let parts: Vec<(Part<'s>, Endpoints)> = parts.collect();
            let parts = parts.iter().map(|(part, endpoints)| Part { endpoints, ..*part });
            Some((schema::labels_key(zone)?, Hosts::of(parts)?))
        })
        .collect();
    by_zone.sort_by(|a, b| a.0.cmp(&b.0));
    by_zone.into()
}

/// The target of an ExternalName Service. An address is no name (row 23: NXDOMAIN).
fn external(target: &str) -> Option<FoundBy> {
    if target.parse::<IpAddr>().is_ok() {
        return None;
    }
    let name = Name::parse(target).ok().filter(|name| !name.as_ref().is_root())?;
    Some(FoundBy::Name(name))
}

impl<'z> From<&'z Leaf<ServiceHead>> for ServiceRecords<'z> {
    fn from(leaf: &'z Leaf<ServiceHead>) -> Self {
        Self { key: leaf.key(), head: leaf.value(), addresses: leaf.tail() }
    }
}

impl<'z> ServiceRecords<'z> {
    /// How clients reach the Service.
    pub fn found_by(&self) -> &'z FoundBy {
        &self.head.rest.found_by
    }

    /// The name that this one is an alias of.
    pub fn alias(&self) -> Option<&'z Name> {
        match self.head.kind {
            Kind::Name => match &self.head.rest.found_by {
                FoundBy::Name(name) => Some(name),
                _ => None,
            },
            Kind::ClusterIp | Kind::Hosts => None,
        }
    }

    /// Whether the name of the Service exists: a headless one without ready endpoints does not
    /// (Kubernetes DNS specification §2.4.1).
    pub fn exists(&self) -> bool {
        self.head.kind != Kind::Hosts || !self.addresses.is_empty()
    }

    /// The octets of all addresses of one family.
    pub fn octets(&self, rtype: RecordType) -> &'z [u8] {
        Addresses::of(self.addresses, self.head.v4_octets).octets(rtype)
    }

    /// The addresses of the Service itself: those of a headless one are its hosts'.
    pub fn cluster_ips(&self) -> impl Iterator<Item = IpAddr> + Clone + use<'z> {
        let own = match self.head.kind {
            Kind::ClusterIp => Addresses::of(self.addresses, self.head.v4_octets),
            Kind::Hosts | Kind::Name => Addresses::default(),
        };
        own.iter()
    }

    /// The ready endpoints.
    pub fn hosts(&self) -> impl Iterator<Item = Host<'z>> + Clone + use<'z> {
        self.head.rest.hosts.iter().flat_map(Hosts::iter)
    }

    /// Whether an endpoint is ready.
    pub fn has_hosts(&self) -> bool {
        self.head.rest.hosts.is_some()
    }

    /// Endpoints that are not ready; 0 where another one is.
    pub fn unready(&self) -> u32 {
        self.head.rest.unready
    }

    /// All of them, if there is one.
    pub fn all_hosts(&self) -> Option<&'z Hosts> {
        self.head.rest.hosts.as_ref()
    }

    /// The same with each address once.
    pub fn hosts_once(&self) -> impl Iterator<Item = Host<'z>> + Clone + use<'z> {
        self.head.rest.hosts.iter().flat_map(Hosts::each_once)
    }

    /// The ready endpoints in the zone with these labels.
    pub fn hosts_in(&self, zone: &[u8]) -> Option<&'z Hosts> {
        let zones = &self.head.rest.zones;
        let at = zones.binary_search_by(|(labels, _)| (**labels).cmp(zone)).ok()?;
        Some(&zones[at].1)
    }

    /// The hosts with this label, which comes with its length octet.
    pub fn hosts_named(&self, label: &[u8]) -> impl Iterator<Item = Host<'z>> + Clone + use<'z> {
        self.head.rest.hosts.as_ref().map(|hosts| hosts.named(label)).into_iter().flatten()
    }
}

impl<'z> From<&'z Leaf<AddressHead>> for AddressRecords<'z> {
    fn from(leaf: &'z Leaf<AddressHead>) -> Self {
        let (services, endpoints) = leaf.tail().split_at(leaf.value().service_octets as usize);
        Self { services, endpoints }
    }
}

impl<'z> AddressRecords<'z> {
    /// Whether nothing has this address.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.endpoints.is_empty()
    }

    /// Names of the Services that own the address, sorted.
    pub fn services(&self) -> impl Iterator<Item = &'z [u8]> + use<'z> {
        names(self.services, SERVICE_LABELS)
    }

    /// Names of the endpoints that have the address, sorted.
    pub fn endpoints(&self) -> impl Iterator<Item = &'z [u8]> + use<'z> {
        names(self.endpoints, ENDPOINT_LABELS)
    }

    /// The head and tail of a Leaf that has one name more, or one less.
    pub fn changed(&self, change: Change, is_service: bool, name: &[u8]) -> (AddressHead, Vec<u8>) {
        let (services, endpoints) = match is_service {
            true => (rewritten(self.services(), change, name), self.endpoints.to_vec()),
            false => (self.services.to_vec(), rewritten(self.endpoints(), change, name)),
        };
        (AddressHead { service_octets: services.len() as u32 }, [services, endpoints].concat())
    }
}

/// What happens to one name of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Change {
    Comes,
    Goes,
}

/// Sorted names with one more, or without one.
fn rewritten<'h: 'n, 'n>(
    held: impl Iterator<Item = &'h [u8]>,
    change: Change,
    name: &'n [u8],
) -> Vec<u8> {
    let others = held.filter(|held| *held != name);
    let mut names: Vec<&'n [u8]> = others.map(|held| held as &'n [u8]).collect();
    if change == Change::Comes {
        let at = names.partition_point(|held| *held < name);
        names.insert(at, name);
    }
    names.concat()
}

/// Splits octets into names of so many labels each.
fn names(mut octets: &[u8], labels: usize) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let mut end = 0;
        for _ in 0..labels {
            end += usize::from(*octets.get(end)?) + 1;
        }
        let (name, rest) = octets.split_at_checked(end)?;
        octets = rest;
        Some(name)
    })
}

/// The port that a name asks for; an empty label asks for any.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AskedPort<'n> {
    pub name: &'n [u8],
    pub protocol: &'n [u8],
}

impl<'n> AskedPort<'n> {
    /// Asks for every port.
    pub const ANY: AskedPort<'static> = AskedPort { name: b"", protocol: b"" };

    fn matches(self, port: &Port) -> bool {
        (self.name.is_empty() || port.name.as_bytes().eq_ignore_ascii_case(self.name))
            && (self.protocol.is_empty() || port.protocol.label() == self.protocol)
    }

    /// Whether one of these ports is asked for.
    pub fn is_in(self, ports: &[Port]) -> bool {
        ports.iter().any(|port| self.matches(port))
    }

    /// How many of these ports are asked for.
    pub fn hits(self, ports: &[Port]) -> usize {
        ports.iter().filter(|port| self.matches(port)).count()
    }

    /// The numbers of those that are asked for, each once: `ports` are sorted by number.
    pub fn numbers(self, ports: &'n [Port]) -> impl Iterator<Item = u16> + 'n {
        let mut last = None;
        let matching = ports.iter().filter(move |port| self.matches(port));
        matching.map(|port| port.number).filter(move |&number| last.replace(number) != Some(number))
    }
}

//! The immutable records of one Service and of one address, as a Zone holds them.
//!
//! Address Answers are prebuilt; SRV and PTR records are composed from these parts while the
//! reply is written, because their targets repeat the zone as the client spelled it.

use std::net::IpAddr;
use std::sync::Arc;

use super::object::{Endpoint, Port, Role, Service, Slice};
use super::schema;
use crate::wire::{Answer, Name, RecordType};

/// What a Zone knows of one Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceRecords {
    /// The two labels of the name, `3web4shop`.
    pub key: Box<[u8]>,
    pub found_by: FoundBy,
    /// All A and all AAAA records of the name; `None` is no record of that family.
    pub a: Option<Answer>,
    pub aaaa: Option<Answer>,
    /// The ready endpoints, sorted by label.
    pub hosts: Box<[Host]>,
}

/// How clients reach a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FoundBy {
    /// By its own addresses and ports.
    ClusterIp { addresses: Box<[IpAddr]>, ports: Box<[Port]> },
    /// By the addresses of its hosts.
    Hosts,
    /// By another name.
    Name(Name),
}

/// One name below a Service: a hostname or a dashed address, with its addresses.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Host {
    /// In wire form, with the length octet.
    pub label: Box<[u8]>,
    pub addresses: Box<[IpAddr]>,
    pub ports: Arc<[Port]>,
}

/// What a Zone knows of one address: the names that its PTR records may carry, without the zone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AddressRecords {
    /// Services that own the address, sorted.
    pub services: Vec<Box<[u8]>>,
    /// Endpoints that have the address, sorted.
    pub endpoints: Vec<Box<[u8]>>,
}

impl ServiceRecords {
    /// The records of a Service with its slices; `None` when no name of it exists.
    pub fn build<'s>(
        service: &Service,
        slices: impl Iterator<Item = &'s Slice>,
        ttl_s: u32,
    ) -> Option<Self> {
        let key = schema::service_key(&service.key.name, &service.key.namespace)?;
        let (found_by, hosts) = match &service.role {
            Role::ExternalName(target) => (external(target)?, Box::default()),
            Role::Headless => (FoundBy::Hosts, hosts(slices)),
            Role::ClusterIp(addresses) if addresses.is_empty() => return None,
            Role::ClusterIp(addresses) => {
                let ports = service.ports.clone().into();
                (FoundBy::ClusterIp { addresses: addresses.clone().into(), ports }, hosts(slices))
            }
        };
        let addresses: Vec<IpAddr> = match &found_by {
            FoundBy::ClusterIp { addresses, .. } => addresses.to_vec(),
            FoundBy::Hosts => distinct(hosts.iter().flat_map(|host| &host.addresses)),
            FoundBy::Name(_) => Vec::new(),
        };
        let a = family(RecordType::A, ttl_s, &addresses);
        let aaaa = family(RecordType::AAAA, ttl_s, &addresses);
        Some(Self { key, found_by, a, aaaa, hosts })
    }

    /// Whether the name of the Service exists: a headless one without ready endpoints does not
    /// (Kubernetes DNS specification §2.4.1).
    pub fn exists(&self) -> bool {
        !matches!(self.found_by, FoundBy::Hosts) || !self.hosts.is_empty()
    }

    /// The prebuilt addresses of one family.
    pub fn addresses(&self, rtype: RecordType) -> Option<&Answer> {
        if rtype == RecordType::A { self.a.as_ref() } else { self.aaaa.as_ref() }
    }

    /// The hosts with this label.
    pub fn hosts_named(&self, label: &[u8]) -> &[Host] {
        // Sorted by wire form: by length first, then by letters.
        let place =
            |host: &Host| (usize::from(host.label[0]), &host.label[1..]) < (label.len(), label);
        let start = self.hosts.partition_point(place);
        let rest = &self.hosts[start..];
        let count = rest.iter().take_while(|host| &host.label[1..] == label).count();
        &rest[..count]
    }

    /// The addresses of the Service itself.
    pub fn cluster_ips(&self) -> &[IpAddr] {
        match &self.found_by {
            FoundBy::ClusterIp { addresses, .. } => addresses,
            _ => &[],
        }
    }

    /// All pairs of a host name, without the zone, and an address.
    pub fn host_names(&self) -> impl Iterator<Item = (Box<[u8]>, IpAddr)> {
        self.hosts.iter().flat_map(|host| {
            let name: Box<[u8]> = [&*host.label, &*self.key].concat().into();
            host.addresses.iter().map(move |address| (name.clone(), *address))
        })
    }
}

impl AddressRecords {
    /// Whether nothing has this address.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.endpoints.is_empty()
    }
}

/// Whether a port is asked for by these labels; an empty label asks for any.
pub fn port_matches(port: &Port, name: &[u8], protocol: &[u8]) -> bool {
    let protocol_name = port.protocol.label();
    (name.is_empty() || port.name.as_bytes().eq_ignore_ascii_case(name))
        && (protocol.is_empty() || protocol_name == protocol)
}

/// The numbers of the ports that are asked for, each once.
pub(super) fn numbers<'p>(
    ports: &'p [Port],
    (name, protocol): (&'p [u8], &'p [u8]),
) -> impl Iterator<Item = u16> + 'p {
    let is_asked = move |candidate: &Port| port_matches(candidate, name, protocol);
    let is_new = move |index: usize, number: u16| {
        !ports[..index].iter().any(|other| other.number == number && is_asked(other))
    };
    let wanted = ports.iter().enumerate().filter(move |(_, candidate)| is_asked(candidate));
    wanted
        .map(|(index, candidate)| (index, candidate.number))
        .filter(move |(index, number)| is_new(*index, *number))
        .map(|(_, number)| number)
}

/// The hosts before this one that have its label, but other ports.
pub(super) fn namesakes(hosts: &[Host], index: usize) -> impl Iterator<Item = &Host> {
    hosts[..index].iter().rev().take_while(move |other| other.label == hosts[index].label)
}

/// The addresses of some hosts, those of namesakes once.
pub(super) fn addresses_of<'h>(
    hosts: &'h [Host],
    is_wanted: impl Fn(&Host) -> bool + Copy + 'h,
) -> impl Iterator<Item = &'h IpAddr> {
    let is_new = move |index: usize, address: &IpAddr| {
        let mut before = namesakes(hosts, index).filter(|other| is_wanted(other));
        !before.any(|other| other.addresses.contains(address))
    };
    let wanted = hosts.iter().enumerate().filter(move |(_, host)| is_wanted(host));
    wanted.flat_map(move |(index, host)| {
        host.addresses.iter().filter(move |address| is_new(index, address))
    })
}

/// The target of an ExternalName Service. An address is no name (row 23: NXDOMAIN).
fn external(target: &str) -> Option<FoundBy> {
    if target.parse::<IpAddr>().is_ok() {
        return None;
    }
    let name = Name::parse(target).ok().filter(|name| !name.as_ref().is_root())?;
    Some(FoundBy::Name(name))
}

/// The ready endpoints of all slices, one Host per label and set of ports.
fn hosts<'s>(slices: impl Iterator<Item = &'s Slice>) -> Box<[Host]> {
    let mut hosts: Vec<Host> = Vec::new();
    for slice in slices {
        let ports: Arc<[Port]> = slice.ports.clone().into();
        let ready = slice.endpoints.iter().filter(|endpoint| endpoint.ready);
        hosts.extend(ready.flat_map(|endpoint| named(endpoint, &ports)));
    }
    hosts.sort_by(|a, b| (&a.label, &a.ports).cmp(&(&b.label, &b.ports)));
    let mut merged: Vec<Host> = Vec::with_capacity(hosts.len());
    for host in hosts {
        match merged
            .last_mut()
            .filter(|last| (&last.label, &last.ports) == (&host.label, &host.ports))
        {
            Some(last) => {
                last.addresses = distinct(last.addresses.iter().chain(&host.addresses)).into();
            }
            None => merged.push(host),
        }
    }
    merged.into()
}

/// An endpoint by its hostname, or by each address where it has none.
fn named(endpoint: &Endpoint, ports: &Arc<[Port]>) -> Vec<Host> {
    let host = |label: &str, addresses: &[IpAddr]| {
        let label = schema::label_key(label)?;
        Some(Host { label, addresses: addresses.into(), ports: ports.clone() })
    };
    match endpoint.hostname.as_deref().filter(|hostname| !hostname.is_empty()) {
        Some(hostname) => host(hostname, &endpoint.addresses).into_iter().collect(),
        None => {
            let by_address = |address: &IpAddr| host(&schema::dashed(address), &[*address]);
            endpoint.addresses.iter().filter_map(by_address).collect()
        }
    }
}

/// The addresses in order, each once.
fn distinct<'a>(addresses: impl Iterator<Item = &'a IpAddr>) -> Vec<IpAddr> {
    let mut all: Vec<IpAddr> = addresses.copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn family(rtype: RecordType, ttl_s: u32, addresses: &[IpAddr]) -> Option<Answer> {
    let answer = Answer::addresses(rtype, ttl_s, addresses);
    (answer.answer_count() > 0).then_some(answer)
}

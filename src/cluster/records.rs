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
    pub fn build<'s>(service: &Service, slices: impl Iterator<Item = &'s Slice>) -> Option<Self> {
        let key = schema::service_key(&service.key.name, &service.key.namespace)?;
        let (found_by, hosts) = match &service.role {
            Role::ExternalName(target) => (external(target)?, Box::default()),
            Role::Headless => (FoundBy::Hosts, hosts(slices)),
            Role::ClusterIp(addresses) if addresses.is_empty() => return None,
            Role::ClusterIp(addresses) => {
                let ports = sorted(service.ports.iter().cloned()).into();
                (FoundBy::ClusterIp { addresses: addresses.clone().into(), ports }, hosts(slices))
            }
        };
        let addresses: Vec<IpAddr> = match &found_by {
            FoundBy::ClusterIp { addresses, .. } => addresses.to_vec(),
            FoundBy::Hosts => distinct(hosts.iter().flat_map(|host| &host.addresses)),
            FoundBy::Name(_) => Vec::new(),
        };
        let a = family(RecordType::A, &addresses);
        let aaaa = family(RecordType::AAAA, &addresses);
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

    /// The host with this label, which comes with its length octet.
    pub fn host(&self, label: &[u8]) -> Option<&Host> {
        let at = self.hosts.binary_search_by(|host| (*host.label).cmp(label)).ok()?;
        Some(&self.hosts[at])
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

/// The port that a name asks for; an empty label asks for any.
#[derive(Clone, Copy)]
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

/// Ports by number, each once.
fn sorted(ports: impl IntoIterator<Item = Port>) -> Vec<Port> {
    let mut ports: Vec<Port> = ports.into_iter().collect();
    ports.sort_by(|a, b| (a.number, a).cmp(&(b.number, b)));
    ports.dedup();
    ports
}

/// The target of an ExternalName Service. An address is no name (row 23: NXDOMAIN).
fn external(target: &str) -> Option<FoundBy> {
    if target.parse::<IpAddr>().is_ok() {
        return None;
    }
    let name = Name::parse(target).ok().filter(|name| !name.as_ref().is_root())?;
    Some(FoundBy::Name(name))
}

/// The ready endpoints of all slices, one Host per label: slices are united (row 19), whatever
/// their ports and families are.
fn hosts<'s>(slices: impl Iterator<Item = &'s Slice>) -> Box<[Host]> {
    let mut hosts: Vec<Host> = Vec::new();
    for slice in slices {
        let ports: Arc<[Port]> = sorted(slice.ports.iter().cloned()).into();
        let ready = slice.endpoints.iter().filter(|endpoint| endpoint.ready);
        hosts.extend(ready.flat_map(|endpoint| named(endpoint, &ports)));
    }
    hosts.sort_by(|a, b| a.label.cmp(&b.label));
    hosts.chunk_by(|a, b| a.label == b.label).map(unite).collect()
}

/// Hosts of one label as one.
fn unite(hosts: &[Host]) -> Host {
    let [first, others @ ..] = hosts else { unreachable!("chunk_by makes no empty chunk") };
    if others.is_empty() {
        return first.clone();
    }
    let addresses = distinct(hosts.iter().flat_map(|host| &host.addresses));
    let ports = if others.iter().all(|other| other.ports == first.ports) {
        first.ports.clone()
    } else {
        sorted(hosts.iter().flat_map(|host| host.ports.iter().cloned())).into()
    };
    Host { label: first.label.clone(), addresses: addresses.into(), ports }
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

fn family(rtype: RecordType, addresses: &[IpAddr]) -> Option<Answer> {
    let answer = Answer::addresses(rtype, addresses);
    (answer.answer_count() > 0).then_some(answer)
}

//! The ready endpoints of one Service, packed: the names below it, with their addresses and ports.
//!
//! ```text
//! Hosts ─┬─ Group: ports │ 10.0.0.1 10.0.0.2 …     endpoints without hostname; their labels are
//!        ├─ Group: ports │ fd00::1 …               their addresses with dashes, so not stored
//!        └─ Named: label │ addresses │ ports
//! ```
//!
//! Slices are united, whatever their ports and families are (row 19): one Host per label and set of
//! ports, for each address has the ports of its own slices only. The thousands of endpoints of a
//! large Service mostly share their ports and take 4 octets each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::endpoints::Endpoints;
use super::object::Port;
use super::schema::{self, LabelRoom};

/// Endpoints of one slice that have the same ports.
#[derive(Clone, Copy)]
pub struct Part<'s> {
    pub endpoints: &'s Endpoints,
    pub ports: &'s [Port],
    /// Where imported endpoints come from, which stands behind their label; else empty.
    pub cluster: &'s str,
}

/// All ready endpoints of a Service; at least one.
#[derive(PartialEq, Eq, Debug)]
pub struct Hosts {
    groups: Box<[Group]>,
    /// Sorted by label, then by ports.
    named: Box<[Named]>,
    /// All addresses, each once, where several hosts have one: without labels, by ports.
    each_once: Box<[Named]>,
}

/// Endpoints without hostname that have the same ports.
#[derive(PartialEq, Eq, Debug)]
struct Group {
    ports: Arc<[Port]>,
    v4: Box<[Ipv4Addr]>,
    v6: Box<[Ipv6Addr]>,
}

/// An endpoint with a hostname.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Named {
    /// With the length octet.
    label: Box<[u8]>,
    addresses: Box<[IpAddr]>,
    ports: Arc<[Port]>,
}

/// One name below a Service.
#[derive(Clone, Copy)]
pub struct Host<'z> {
    pub name: HostName<'z>,
    own: Own<'z>,
    pub ports: &'z [Port],
}

/// The label of a host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostName<'z> {
    /// Its hostname, with the length octet.
    Label(&'z [u8]),
    /// Its address, with dashes.
    Dashed(IpAddr),
}

/// The addresses of a host.
#[derive(Clone, Copy)]
enum Own<'z> {
    One(IpAddr),
    Many(&'z [IpAddr]),
}

impl Hosts {
    /// Unites the ready endpoints of slices; `None` when there is none.
    pub fn of<'s>(parts: impl Iterator<Item = Part<'s>>) -> Option<Self> {
        let mut collected = Collected::default();
        parts.for_each(|part| collected.add(part));
        collected.settle();
        let named = united(std::mem::take(&mut collected.named));
        let mut hosts = Self { groups: collected.groups(), named, each_once: Box::default() };
        // Dashed labels are one for each address.
        if !hosts.named.is_empty() && hosts.entries().count() > hosts.addresses().len() {
            hosts.each_once = unite(&[], hosts.entries()).collect();
        }
        (!hosts.groups.is_empty() || !hosts.named.is_empty()).then_some(hosts)
    }

    /// All hosts.
    pub fn iter(&self) -> impl Iterator<Item = Host<'_>> + Clone {
        self.groups.iter().flat_map(Group::iter).chain(self.named.iter().map(Host::from))
    }

    /// The same with each address once, for those who ask for addresses only: the labels are not to
    /// be used.
    pub fn each_once(&self) -> impl Iterator<Item = Host<'_>> + Clone {
        let is_unique = self.each_once.is_empty();
        let hosts = self.iter().take(if is_unique { usize::MAX } else { 0 });
        self.each_once.iter().map(Host::from).chain(hosts)
    }

    /// Every address of every host, with its ports.
    fn entries(&self) -> impl Iterator<Item = (IpAddr, &Arc<[Port]>)> {
        let unnamed = self
            .groups
            .iter()
            .flat_map(|group| group.addresses().map(move |address| (address, &group.ports)));
        let named = self.named.iter();
        unnamed.chain(named.flat_map(|it| it.addresses.iter().map(|address| (*address, &it.ports))))
    }

    /// The hosts with this label, which comes with its length octet: one, unless its addresses have
    /// different ports. That of an imported endpoint has a second label, its cluster.
    pub fn named(&self, label: &[u8]) -> impl Iterator<Item = Host<'_>> + Clone + use<'_> {
        let from = self.named.partition_point(|named| *named.label < *label);
        let same = self.named[from..].iter().take_while(|named| *named.label == *label).count();
        let dashed = if same == 0 { self.dashed(label) } else { None };
        self.named[from..from + same].iter().map(Host::from).chain(dashed)
    }

    /// The host without hostname that has this label.
    fn dashed(&self, label: &[u8]) -> Option<Host<'_>> {
        let address = schema::dashed_address(label.get(1..)?)?;
        let group = self.groups.iter().find(|group| group.has(&address))?;
        // An address has one spelling, and so has its name.
        let host = Host::dashed(address, &group.ports);
        (host.name.label(&mut [0; 64]) == label).then_some(host)
    }

    /// The addresses of all hosts in order, each once.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = Vec::new();
        self.iter().for_each(|host| all.extend(host.addresses()));
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Group {
    fn iter(&self) -> impl Iterator<Item = Host<'_>> + Clone {
        self.addresses().map(|address| Host::dashed(address, &self.ports))
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> + Clone {
        let v4 = self.v4.iter().map(|address| IpAddr::V4(*address));
        v4.chain(self.v6.iter().map(|address| IpAddr::V6(*address)))
    }

    fn has(&self, address: &IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.binary_search(address).is_ok(),
            IpAddr::V6(address) => self.v6.binary_search(address).is_ok(),
        }
    }
}

impl<'z> Host<'z> {
    fn dashed(address: IpAddr, ports: &'z [Port]) -> Self {
        Self { name: HostName::Dashed(address), own: Own::One(address), ports }
    }

    /// Its addresses.
    pub fn addresses(&self) -> &[IpAddr] {
        match &self.own {
            Own::One(address) => std::slice::from_ref(address),
            Own::Many(addresses) => addresses,
        }
    }
}

impl<'z> Host<'z> {
    /// Its addresses, for longer than the Host.
    pub fn into_addresses(self) -> impl Iterator<Item = IpAddr> + use<'z> {
        let (one, many): (_, &[IpAddr]) = match self.own {
            Own::One(address) => (Some(address), &[]),
            Own::Many(addresses) => (None, addresses),
        };
        one.into_iter().chain(many.iter().copied())
    }
}

impl<'z> From<&'z Named> for Host<'z> {
    fn from(named: &'z Named) -> Self {
        let Named { label, addresses, ports } = named;
        Self { name: HostName::Label(label), own: Own::Many(addresses), ports }
    }
}

impl<'z> HostName<'z> {
    /// The label, with its length octet.
    pub fn label<'r>(&self, room: &'r mut LabelRoom) -> &'r [u8]
    where
        'z: 'r,
    {
        match self {
            Self::Label(label) => label,
            Self::Dashed(address) => schema::dashed(address, room),
        }
    }
}

/// Ports by number, each once.
pub fn sorted_ports(ports: impl IntoIterator<Item = Port>) -> Arc<[Port]> {
    let mut ports: Vec<Port> = ports.into_iter().collect();
    ports.sort_by(|a, b| (a.number, a).cmp(&(b.number, b)));
    ports.dedup();
    ports.into()
}

/// Endpoints on their way into Hosts.
#[derive(Default)]
struct Collected {
    /// The different sets of ports, and where each is.
    ports: Vec<Arc<[Port]>>,
    numbers: HashMap<Arc<[Port]>, usize>,
    /// Endpoints without hostname, and the number of their ports.
    unnamed: Vec<(IpAddr, usize)>,
    named: Vec<Named>,
}

impl Collected {
    fn add(&mut self, part: Part<'_>) {
        let set = self.set(sorted_ports(part.ports.iter().cloned()));
        for endpoint in part.endpoints.iter().filter(|endpoint| endpoint.ready) {
            match (endpoint.hostname, part.cluster) {
                (Some(hostname), cluster) => {
                    let Some(label) = schema::label_key(hostname) else { continue };
                    self.name(within(&label, cluster), endpoint.addresses().collect(), set);
                }
                (None, "") => {
                    self.unnamed.extend(endpoint.addresses().map(|address| (address, set)));
                }
                (None, cluster) => endpoint.addresses().for_each(|address| {
                    let label = within(schema::dashed(&address, &mut [0; 64]), cluster);
                    self.name(label, [address].into(), set);
                }),
            }
        }
    }

    fn name(&mut self, label: Box<[u8]>, addresses: Box<[IpAddr]>, set: usize) {
        self.named.push(Named { label, addresses, ports: self.ports[set].clone() });
    }

    /// The number of a set of ports.
    fn set(&mut self, ports: Arc<[Port]>) -> usize {
        let next = self.ports.len();
        let number = *self.numbers.entry(ports.clone()).or_insert(next);
        if number == next {
            self.ports.push(ports);
        }
        number
    }

    /// Leaves each address once, with all its ports, and none whose label is also a hostname.
    fn settle(&mut self) {
        let labels = self.named.iter().map(|named| &named.label[1..]);
        let taken: BTreeSet<IpAddr> = labels.filter_map(schema::dashed_address).collect();
        let mut unnamed = std::mem::take(&mut self.unnamed);
        unnamed.sort_unstable();
        unnamed.dedup();
        for same in unnamed.chunk_by(|a, b| a.0 == b.0) {
            let (address, first) = same[0];
            let set = if same.len() == 1 { first } else { self.union(same) };
            if taken.contains(&address) {
                let label = schema::dashed(&address, &mut [0; 64]).into();
                self.name(label, [address].into(), set);
            } else {
                self.unnamed.push((address, set));
            }
        }
    }

    /// The number of the ports that an address has in several slices.
    fn union(&mut self, same: &[(IpAddr, usize)]) -> usize {
        let all = same.iter().flat_map(|(_, set)| self.ports[*set].to_vec());
        self.set(sorted_ports(all))
    }

    /// One Group for each set of ports, in an order that does not depend on that of the slices.
    fn groups(&mut self) -> Box<[Group]> {
        self.unnamed.sort_by_key(|(_, set)| *set);
        let same_ports = self.unnamed.chunk_by(|a, b| a.1 == b.1);
        let mut groups: Vec<Group> = same_ports
            .map(|same| {
                let v4 = same.iter().filter_map(|(address, _)| match address {
                    IpAddr::V4(address) => Some(*address),
                    IpAddr::V6(_) => None,
                });
                let v6 = same.iter().filter_map(|(address, _)| match address {
                    IpAddr::V6(address) => Some(*address),
                    IpAddr::V4(_) => None,
                });
                let ports = self.ports[same[0].1].clone();
                Group { ports, v4: v4.collect(), v6: v6.collect() }
            })
            .collect();
        groups.sort_by(|a, b| a.ports.cmp(&b.ports));
        groups.into()
    }
}

/// A label with that of its cluster, if it has one.
fn within(label: &[u8], cluster: &str) -> Box<[u8]> {
    let cluster = schema::label_key(cluster).unwrap_or_default();
    [label, &cluster].concat().into()
}

/// One Named for each label and set of ports.
fn united(mut named: Vec<Named>) -> Box<[Named]> {
    named.sort_by(|a, b| a.label.cmp(&b.label));
    let same_label = named.chunk_by(|a, b| a.label == b.label);
    let united = same_label.flat_map(|same| {
        let entries = same
            .iter()
            .flat_map(|named| named.addresses.iter().map(|address| (*address, &named.ports)));
        unite(&same[0].label, entries)
    });
    united.collect()
}

/// Endpoints as hosts of one label: each address once, with the ports of all its slices.
fn unite<'p>(
    label: &[u8],
    entries: impl Iterator<Item = (IpAddr, &'p Arc<[Port]>)>,
) -> impl Iterator<Item = Named> {
    let mut by_address: BTreeMap<IpAddr, Arc<[Port]>> = BTreeMap::new();
    for (address, ports) in entries {
        let held = by_address.entry(address).or_insert_with(|| ports.clone());
        if held != ports {
            *held = sorted_ports([&held[..], ports].concat());
        }
    }
    let mut by_ports: BTreeMap<Arc<[Port]>, Vec<IpAddr>> = BTreeMap::new();
    for (address, ports) in by_address {
        by_ports.entry(ports).or_default().push(address);
    }
    by_ports.into_iter().map(move |(ports, addresses)| Named {
        label: label.into(),
        addresses: addresses.into(),
        ports,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::endpoints::Endpoint;
    use crate::cluster::object::Protocol;

    /// Port numbers by label and address.
    type Model = BTreeMap<Vec<u8>, BTreeMap<IpAddr, BTreeSet<u16>>>;

    fn port(number: u16) -> Port {
        Port { name: "".into(), protocol: Protocol::Tcp, number }
    }

    fn model(slices: &[(Vec<Endpoint>, Vec<Port>)]) -> Model {
        let mut model = Model::new();
        let mut add = |label: &[u8], address: &IpAddr, ports: &[Port]| {
            let held = model.entry(label.to_vec()).or_default().entry(*address).or_default();
            held.extend(ports.iter().map(|port| port.number));
        };
        for (endpoints, ports) in slices {
            for endpoint in endpoints.iter().filter(|endpoint| endpoint.ready) {
                for address in &endpoint.addresses {
                    match &endpoint.hostname {
                        Some(name) => add(&schema::label_key(name).unwrap(), address, ports),
                        None => add(schema::dashed(address, &mut [0; 64]), address, ports),
                    }
                }
            }
        }
        model
    }

    fn any_endpoint() -> impl Strategy<Value = Endpoint> {
        let address = prop_oneof![
            (0u8..6).prop_map(|n| IpAddr::from([10, 0, 0, n])),
            (0u16..6).prop_map(|n| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n])),
        ];
        let addresses = proptest::collection::vec(address, 1..3);
        let hostname = proptest::option::of("[ab]|10-0-0-[0-3]|fd00--[1-3]|fd00-0--1");
        (addresses, any::<bool>(), hostname).prop_map(|(addresses, ready, hostname)| Endpoint {
            addresses,
            ready,
            hostname: hostname.map(Into::into),
            zone: None,
        })
    }

    proptest! {
        #[test]
        fn hosts_are_the_united_slices_and_each_is_found_by_its_label(
            slices in proptest::collection::vec(
                (
                    proptest::collection::vec(any_endpoint(), 0..6),
                    proptest::collection::vec((80u16..83).prop_map(port), 0..3),
                ),
                0..4,
            ),
        ) {
            let model = model(&slices);
            let packed: Vec<(Endpoints, Vec<Port>)> = slices
                .into_iter()
                .map(|(endpoints, ports)| (endpoints.into_iter().collect(), ports))
                .collect();
            let part = |(endpoints, ports)| Part { endpoints, ports, cluster: "" };
            let parts = packed.iter().map(|(endpoints, ports)| part((endpoints, &**ports)));
            let hosts = Hosts::of(parts);
            prop_assert_eq!(hosts.is_none(), model.is_empty());
            let Some(hosts) = hosts else { return Ok(()) };
            let expected: usize = model.values().map(BTreeMap::len).sum();
            let held: usize = hosts.iter().map(|host| host.addresses().len()).sum();
            prop_assert_eq!(held, expected);
            for (label, expected) in &model {
                let mut held = BTreeMap::new();
                for host in hosts.named(label) {
                    let mut room = [0; 64];
                    prop_assert_eq!(host.name.label(&mut room), &label[..]);
                    let ports: BTreeSet<u16> = host.ports.iter().map(|port| port.number).collect();
                    held.extend(host.addresses().iter().map(|address| (*address, ports.clone())));
                }
                prop_assert_eq!(&held, expected);
            }
            let addresses = hosts.addresses();
            let mut once: Vec<IpAddr> = Vec::new();
            for host in hosts.each_once() {
                once.extend(host.addresses());
                let ports: BTreeSet<u16> = host.ports.iter().map(|port| port.number).collect();
                for address in host.addresses() {
                    let all = model.values().filter_map(|hosts| hosts.get(address)).flatten();
                    prop_assert_eq!(&ports, &all.copied().collect::<BTreeSet<u16>>());
                }
            }
            once.sort_unstable();
            prop_assert_eq!(once, addresses);
            prop_assert!(hosts.named(b"\x0910-0-0-99").next().is_none());
            prop_assert!(hosts.named(b"\x0b010-0-0-001").next().is_none(), "another spelling");
        }
    }
}

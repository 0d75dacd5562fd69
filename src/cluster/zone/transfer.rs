//! A zone as a list of records, and as what changed between two of its versions (RFC 5936, RFC
//! 1995).
//!
//! ```text
//! whole     SOA │ NS, ns.dns, dns-version │ each Service, or each PTR │ SOA
//! changes   new SOA │ old SOA, what went │ new SOA, what came │ new SOA
//! ```
//!
//! Each record is what a query for its name and type gives too. What has no record of its own is
//! not transferred: names of Pods, names of endpoints behind a cluster IP, SRV of a name of an
//! endpoint, addresses of `_port._proto` names, names with a zone, labels `*`, empty
//! Namespaces. Reverse zones have their PTR records, unlike CoreDNS's.
//!
//! The lists are lazy and own what they walk, so a slow client holds one version of the Zone and
//! the records of one Service.

use std::collections::BTreeSet;
use std::iter::once;
use std::net::IpAddr;
use std::sync::Arc;

use super::{View, Zone, apex, is_name, octets_of, rtype_of, srv};
use crate::cluster::hosts::Host;
use crate::cluster::object::Port;
use crate::cluster::records::{AddressHead, AddressRecords, AskedPort, FoundBy};
use crate::cluster::records::{ServiceHead, ServiceRecords};
use crate::cluster::schema;
use crate::cluster::trie::{Leaf, Trie};
use crate::wire::name::{LABEL_MAX, NAME_MAX};
use crate::wire::{Name, RecordType};

/// One record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Record {
    /// The labels before the zone, in lower case.
    pub owner: Box<[u8]>,
    pub rtype: RecordType,
    pub ttl_s: u32,
    pub rdata: Box<[u8]>,
}

/// Records one after the other.
pub type Records = Box<dyn Iterator<Item = Record> + Send>;

/// One version of one zone, as a directive shows it.
#[derive(Clone)]
pub struct Version {
    pub zone: Arc<Zone>,
    pub view: Arc<View>,
    pub apex: Name,
    /// Whether that is the zone of a cluster set (`multicluster`).
    pub in_clusterset: bool,
}

impl Zone {
    /// How many names two Zones have otherwise, counted up to `max`; `None` when they cannot be
    /// compared.
    pub fn distance(&self, other: &Self, max: usize) -> Option<usize> {
        let services = self.services.difference(&other.services)?.take(max).count();
        let imports = self.imports.difference(&other.imports)?.take(max).count();
        let addresses = self.addresses.difference(&other.addresses)?.take(max).count();
        Some(services + imports + addresses)
    }

    /// Names of all kinds.
    pub fn name_count(&self) -> usize {
        self.services.len() + self.imports.len() + self.addresses.len()
    }
}

impl Version {
    /// Whether everything is known that the zone shows.
    pub fn is_known(&self) -> bool {
        self.zone.is_synced && (self.zone.knows_imports || !self.in_clusterset)
    }

    /// The SOA of the zone.
    pub fn soa(&self) -> Record {
        let apex = self.apex.octets();
        let numbers = apex::soa_numbers(self.zone.serial, &self.view);
        let style = &self.view.style;
        let rdata = [&*style.name_server, apex, &*style.hostmaster, apex, &numbers].concat();
        let ttl_s = self.view.ttl_s.min(style.soa_ttl_max_s);
        Record { owner: Box::default(), rtype: RecordType::SOA, ttl_s, rdata: rdata.into() }
    }

    /// All records of the zone, between two SOA (RFC 5936 §2.2).
    pub fn whole(self) -> Records {
        let (soa, apex) = (self.soa(), self.apex_records());
        let names: Records = if self.is_reverse() {
            let leaves = self.zone.addresses.leaves();
            Box::new(leaves.flat_map(move |leaf| self.records_of_address(&leaf)))
        } else {
            let leaves = self.services().leaves();
            Box::new(leaves.flat_map(move |leaf| self.records_of_service(&leaf)))
        };
        Box::new(once(soa.clone()).chain(apex).chain(names).chain(once(soa)))
    }

    /// What changed since `old`, as one sequence of differences (RFC 1995 §4). `None` when the two
    /// cannot be compared.
    pub fn changes_since(self, old: Self) -> Option<Records> {
        let (new_soa, old_soa) = (self.soa(), old.soa());
        let went = old.clone().lacked_by(self.clone())?;
        let came = self.lacked_by(old)?;
        let went = once(new_soa.clone()).chain(once(old_soa)).chain(went);
        let came = once(new_soa.clone()).chain(came).chain(once(new_soa));
        Some(Box::new(went.chain(came)))
    }

    /// The records that another version has not, without SOA.
    fn lacked_by(self, other: Self) -> Option<Records> {
        let apex = only_in(self.apex_records(), other.apex_records());
        let names: Records = if self.is_reverse() {
            let pairs = self.zone.addresses.difference(&other.zone.addresses)?;
            Box::new(pairs.flat_map(move |(own, others)| {
                let own = own.map(|leaf| self.records_of_address(&leaf));
                let others = others.map(|leaf| other.records_of_address(&leaf));
                only_in(own.unwrap_or_default(), others.unwrap_or_default())
            }))
        } else {
            let pairs = self.services().difference(other.services())?;
            Box::new(pairs.flat_map(move |(own, others)| {
                let own = own.map(|leaf| self.records_of_service(&leaf));
                let others = others.map(|leaf| other.records_of_service(&leaf));
                only_in(own.unwrap_or_default(), others.unwrap_or_default())
            }))
        };
        Some(Box::new(apex.into_iter().chain(names)))
    }

    fn is_reverse(&self) -> bool {
        schema::is_reverse(self.apex.as_ref())
    }

    /// The Services that this zone shows.
    fn services(&self) -> &Trie<ServiceHead> {
        if self.in_clusterset { &self.zone.imports } else { &self.zone.services }
    }

    /// NS, the addresses of `ns.dns` and the version. The addresses of an own Service are among
    /// its records.
    fn apex_records(&self) -> BTreeSet<Record> {
        let mut list = self.list();
        let own = self.zone.own_services(&self.view);
        let mut room = [0; 64];
        for name in own.names() {
            let [label, key] = name.labels(&mut room);
            let target = [label, key, self.view.style.below, self.apex.octets()];
            if is_name(&target) {
                list.add(&[], RecordType::NS, &target);
            }
        }
        if own.is_empty() {
            list.add(&[], RecordType::NS, &[&self.view.style.name_server, self.apex.octets()]);
        }
        let server: &[&[u8]] = &[&self.view.style.name_server];
        match own.is_empty() {
            true => self.view.own_addresses.iter().for_each(|it| list.add_address(server, it)),
            false => own.addresses().for_each(|it| list.add_address(server, &it)),
        }
        list.ttl_s = apex::VERSION_TTL_S;
        list.add(&[b"\x0bdns-version"], RecordType::TXT, &[apex::VERSION_TXT]);
        list.records
    }

    fn records_of_service(&self, leaf: &Leaf<ServiceHead>) -> BTreeSet<Record> {
        let service = ServiceRecords::from(leaf);
        let mut list = self.list();
        if !service.exists() || self.view.hides(&service) || is_wildcard(service.key) {
            return list.records;
        }
        let name: &[&[u8]] = &[service.key, self.view.style.below];
        match service.found_by() {
            FoundBy::Name(target) => list.add(name, RecordType::CNAME, &[target.octets()]),
            FoundBy::ClusterIp(ports) => {
                service.cluster_ips().for_each(|address| list.add_address(name, &address));
                list.add_services(&service, ports, AskedPort::ANY, name);
                for Named { labels, port, protocol } in named(ports.iter()) {
                    let asked = AskedPort { name: &port, protocol };
                    list.add_services(
                        &service,
                        ports,
                        asked,
                        &[&labels, service.key, self.view.style.below],
                    );
                }
            }
            FoundBy::Hosts => self.add_hosts(&mut list, &service),
        }
        list.records
    }

    /// The records of a headless Service.
    fn add_hosts(&self, list: &mut List<'_>, service: &ServiceRecords<'_>) {
        let name: &[&[u8]] = &[service.key, self.view.style.below];
        let mut room = [0; LABEL_MAX + 1];
        for host in service.hosts() {
            let label = host.name.label(&mut room);
            let is_wildcard = is_wildcard(label);
            for address in host.addresses() {
                list.add_address(name, address);
                if !is_wildcard {
                    list.add_address(&[label, service.key, self.view.style.below], address);
                }
            }
        }
        list.add_endpoints(service, AskedPort::ANY, name);
        let ports = service.hosts().flat_map(|host| host.ports);
        for Named { labels, port, protocol } in named(ports) {
            let asked = AskedPort { name: &port, protocol };
            list.add_endpoints(service, asked, &[&labels, service.key, self.view.style.below]);
        }
    }

    /// The PTR records of an address whose name is in this zone.
    fn records_of_address(&self, leaf: &Leaf<AddressHead>) -> BTreeSet<Record> {
        let mut list = self.list();
        let Some(name) = reverse_name(leaf.key()) else { return list.records };
        let Some(owner) = name.as_ref().without_suffix(self.apex.as_ref()) else {
            return list.records;
        };
        let records = AddressRecords::from(leaf);
        let primary = self.view.primary.octets();
        let (service, endpoints) = (records.services().next(), records.endpoints());
        let endpoints = endpoints.filter(|_| service.is_none());
        let is_name =
            |name: &&[u8]| name.len() + self.view.style.below.len() + primary.len() <= NAME_MAX;
        for name in service.into_iter().chain(endpoints).filter(is_name) {
            list.add(&[owner], RecordType::PTR, &[name, self.view.style.below, primary]);
        }
        list.records
    }

    fn list(&self) -> List<'_> {
        let (apex, below) = (self.apex.octets(), self.view.style.below);
        List { apex, below, ttl_s: self.view.ttl_s, records: BTreeSet::new() }
    }
}

/// Records of a zone under construction, each once.
struct List<'v> {
    apex: &'v [u8],
    /// What stands between a Service and the zone.
    below: &'v [u8],
    ttl_s: u32,
    records: BTreeSet<Record>,
}

impl List<'_> {
    /// Adds a record, unless its name is too long to be asked for.
    fn add(&mut self, owner: &[&[u8]], rtype: RecordType, rdata: &[&[u8]]) {
        let owner = owner.concat();
        if owner.len() + self.apex.len() <= NAME_MAX {
            let (owner, rdata) = (owner.into(), rdata.concat().into());
            self.records.insert(Record { owner, rtype, ttl_s: self.ttl_s, rdata });
        }
    }

    fn add_address(&mut self, owner: &[&[u8]], address: &IpAddr) {
        self.add(owner, rtype_of(address), &[octets_of(address).as_ref()]);
    }

    /// The SRV records that lead to a Service itself.
    fn add_services(
        &mut self,
        service: &ServiceRecords<'_>,
        ports: &[Port],
        port: AskedPort<'_>,
        owner: &[&[u8]],
    ) {
        let weight = srv::weight(port.hits(ports) * service.cluster_ips().count());
        for number in port.numbers(ports) {
            self.add_srv(owner, weight, number, &[service.key, self.below]);
        }
    }

    /// The SRV records that lead to endpoints.
    fn add_endpoints(
        &mut self,
        service: &ServiceRecords<'_>,
        port: AskedPort<'_>,
        owner: &[&[u8]],
    ) {
        let hits = |host: Host<'_>| port.hits(host.ports) * host.addresses().len();
        let weight = srv::weight(service.hosts().map(hits).sum());
        let mut room = [0; LABEL_MAX + 1];
        for host in service.hosts() {
            let label = host.name.label(&mut room);
            for number in port.numbers(host.ports) {
                self.add_srv(owner, weight, number, &[label, service.key, self.below]);
            }
        }
    }

    fn add_srv(&mut self, owner: &[&[u8]], weight: u16, port: u16, target: &[&[u8]]) {
        let target = [&target.concat(), self.apex].concat();
        // RFC 1035 §2.3.4: a secondary would refuse the whole zone for one name that is too long.
        if target.len() <= NAME_MAX {
            let fixed = srv::fixed(weight, port);
            self.add(owner, RecordType::SRV, &[&fixed, &target]);
        }
    }
}

/// A named port, as it is asked for.
struct Named {
    /// `_http._tcp` in wire form.
    labels: Vec<u8>,
    port: Vec<u8>,
    protocol: &'static [u8],
}

/// The names of ports, each once. A port without a name has no SRV record of its own (Kubernetes
/// DNS specification §2.3.2).
fn named<'p>(ports: impl IntoIterator<Item = &'p Port>) -> impl Iterator<Item = Named> {
    let name = |port: &Port| (port.name.to_ascii_lowercase().into_bytes(), port.protocol.label());
    let names: BTreeSet<_> = ports.into_iter().map(name).collect();
    let fits = |name: &Vec<u8>| (1..LABEL_MAX).contains(&name.len());
    names.into_iter().filter(move |(name, _)| fits(name)).map(|(port, protocol)| {
        let mut labels = Vec::new();
        for label in [&port, protocol] {
            labels.push(label.len() as u8 + 1);
            labels.push(b'_');
            labels.extend_from_slice(label);
        }
        Named { labels, port, protocol }
    })
}

/// Whether a name begins with the label `*`: here it is a label as any other, but a secondary would
/// answer for all names beside it (RFC 4592).
fn is_wildcard(name: &[u8]) -> bool {
    name.starts_with(b"\x01*")
}

/// What is in the first set and not in the second.
fn only_in(mut these: BTreeSet<Record>, others: BTreeSet<Record>) -> BTreeSet<Record> {
    these.retain(|record| !others.contains(record));
    these
}

/// The name of an address under `in-addr.arpa` or `ip6.arpa`. An IPv4-mapped address has none of
/// its own: what is found there is the IPv4 address.
fn reverse_name(octets: &[u8]) -> Option<Name> {
    if octets.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]) {
        return None;
    }
    let mut wire = Vec::new();
    let mut push = |label: &[u8]| {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label);
    };
    if octets.len() == 4 {
        octets.iter().rev().for_each(|octet| push(octet.to_string().as_bytes()));
        wire.extend_from_slice(b"\x07in-addr\x04arpa\x00");
    } else {
        let digit = |bits: u8| b"0123456789abcdef"[usize::from(bits & 0x0F)];
        for octet in octets.iter().rev() {
            push(&[digit(*octet)]);
            push(&[digit(octet >> 4)]);
        }
        wire.extend_from_slice(b"\x03ip6\x04arpa\x00");
    }
    Name::from_wire(&wire)
}

#[cfg(test)]
mod tests;

//! What a right answer is while the objects are so: one Service with its slices, looked at by the
//! Kubernetes DNS specification 1.1.0, and by what CoreDNS answers where that is silent.
//!
//! ExternalName Services exist, and what their targets are is not for the cluster to say.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use super::Said;
use super::question::{self, Family, Part, Sought};
use crate::cluster::object::{self, Endpoint, Object, Port, Role, Service, Slice};
use crate::wire::name::Labels;
use crate::wire::{Name, NameRef};

/// A Service with its slices, as they were for some time.
#[derive(Debug)]
pub(super) struct State {
    service: Arc<Object>,
    slices: Box<[Arc<Object>]>,
    /// Made when it is asked for.
    addresses: OnceLock<Box<[IpAddr]>>,
}

/// A right answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expected<'s> {
    /// There is no such name.
    Missing,
    /// The name exists, without such records.
    Empty,
    /// All of these, sorted; at least one. That of one family may be none.
    Addresses(Cow<'s, [IpAddr]>),
    /// All of these.
    Names(BTreeSet<Name>),
    /// One of these, at least.
    OneOf(BTreeSet<Name>),
    /// A denial, or whatever a server elsewhere says.
    Elsewhere,
    /// It exists, but the model does not say what is right.
    Unknown,
}

impl PartialEq for State {
    /// Whether it is made of the very same objects: what has come again is not compared twice.
    fn eq(&self, other: &Self) -> bool {
        let same = |(one, other): (&Arc<Object>, &Arc<Object>)| Arc::ptr_eq(one, other);
        Arc::ptr_eq(&self.service, &other.service)
            && self.slices.len() == other.slices.len()
            && self.slices.iter().zip(&other.slices).all(same)
    }
}

impl State {
    /// A Service, which `service` is, and its slices.
    pub(super) fn new(service: Arc<Object>, slices: Box<[Arc<Object>]>) -> Self {
        Self { service, slices, addresses: OnceLock::new() }
    }

    /// How much memory a version may come to take: its list of slices, the sorted addresses, and
    /// what is new in it.
    pub(super) fn octets(&self) -> usize {
        let count = |part: &object::Part| part.endpoints.len();
        let endpoints: usize = self.slices().flat_map(|slice| &slice.parts).map(count).sum();
        size_of::<Self>() + self.slices.len() * 16 + endpoints * size_of::<IpAddr>()
    }

    /// What is right for a part of the Service, whose key this is.
    pub(super) fn expected(
        &self,
        (part, sought): (Part<'_>, Sought),
        key: &[u8],
        domain: NameRef<'_>,
    ) -> Expected<'_> {
        match (part, &self.role()) {
            (Part::Whole, Role::ExternalName(_)) => Expected::Unknown,
            (_, Role::ExternalName(_)) => Expected::Missing,
            _ if self.addresses().is_empty() => Expected::Missing,
            (Part::Whole, _) => match sought {
                Sought::Addresses(_) => Expected::Addresses(Cow::Borrowed(self.addresses())),
                Sought::Srv => self.targets(None, key, domain),
                Sought::Ptr | Sought::Other => Expected::Empty,
            },
            (Part::Host(label), _) => self.host(label, sought),
            (Part::Port { port, protocol, is_plain }, _) => {
                let targets = self.targets(Some((port, protocol)), key, domain);
                // Addresses under the name of a port are CoreDNS's own.
                let is_covered = sought == Sought::Srv && !is_plain;
                if targets == Expected::Missing || is_covered { targets } else { Expected::Unknown }
            }
        }
    }

    /// The names that the PTR records of an address may have: that of the Service, and those of
    /// endpoints.
    pub(super) fn names_of(
        &self,
        address: IpAddr,
        key: &[u8],
        domain: NameRef<'_>,
    ) -> (Option<Name>, BTreeSet<Name>) {
        if matches!(self.role(), Role::ExternalName(_)) || self.addresses().is_empty() {
            return (None, BTreeSet::new());
        }
        let own = matches!(self.role(), Role::ClusterIp(own) if own.contains(&address));
        let hosts = self.ready().filter(|(endpoint, _)| endpoint.addresses.contains(&address));
        let hosts = hosts.filter_map(|(endpoint, _)| {
            let label = endpoint.hostname.as_deref().map_or(question::dashed(&address), Into::into);
            name(Some(label.as_bytes()), key, domain)
        });
        (if own { name(None, key, domain) } else { None }, hosts.collect())
    }

    /// All addresses of the name of the Service, sorted, each once.
    pub(super) fn addresses(&self) -> &[IpAddr] {
        self.addresses.get_or_init(|| {
            let mut all: Vec<IpAddr> = match self.role() {
                Role::ClusterIp(own) => own.clone(),
                Role::Headless => {
                    self.ready().flat_map(|(endpoint, _)| endpoint.addresses).collect()
                }
                Role::ExternalName(_) => Vec::new(),
            };
            all.sort_unstable();
            all.dedup();
            all.into()
        })
    }

    /// An endpoint by its label.
    fn host(&self, label: &[u8], sought: Sought) -> Expected<'_> {
        let own = question::undashed(label);
        let mut all: Vec<IpAddr> = Vec::new();
        for (endpoint, _) in self.ready() {
            match &endpoint.hostname {
                Some(hostname) if hostname.as_bytes().eq_ignore_ascii_case(label) => {
                    all.extend(endpoint.addresses);
                }
                Some(_) => {}
                None => all.extend(own.filter(|own| endpoint.addresses.contains(own))),
            }
        }
        all.sort_unstable();
        all.dedup();
        match sought {
            _ if all.is_empty() => Expected::Missing,
            Sought::Addresses(_) => Expected::Addresses(Cow::Owned(all)),
            Sought::Srv => Expected::Unknown,
            Sought::Ptr | Sought::Other => Expected::Empty,
        }
    }

    /// The targets of the SRV records of a port, or of all.
    fn targets(
        &self,
        asked: Option<(&[u8], &[u8])>,
        key: &[u8],
        domain: NameRef<'_>,
    ) -> Expected<'_> {
        let is_asked = |port: &Port| {
            asked.is_none_or(|(name, protocol)| {
                port.name.as_bytes().eq_ignore_ascii_case(name) && port.protocol.label() == protocol
            })
        };
        let names: BTreeSet<Name> = match self.role() {
            Role::ClusterIp(_) => {
                let is_found = self.service().is_some_and(|it| it.ports.iter().any(is_asked));
                is_found.then(|| name(None, key, domain)).flatten().into_iter().collect()
            }
            _ => {
                let hosts = self.ready().filter(|(_, ports)| ports.iter().any(is_asked));
                hosts.flat_map(|(endpoint, _)| names_of(&endpoint, key, domain)).collect()
            }
        };
        match (names.is_empty(), asked) {
            (false, _) => Expected::Names(names),
            (true, None) => Expected::Empty,
            (true, Some(_)) => Expected::Missing,
        }
    }

    fn service(&self) -> Option<&Service> {
        match &*self.service {
            Object::Service(service) => Some(service),
            _ => None,
        }
    }

    fn role(&self) -> &Role {
        self.service().map_or(&Role::Headless, |service| &service.role)
    }

    fn slices(&self) -> impl Iterator<Item = &Slice> {
        self.slices.iter().filter_map(|object| match &**object {
            Object::Slice(slice) => Some(slice),
            _ => None,
        })
    }

    /// The ready endpoints, each with its ports.
    fn ready(&self) -> impl Iterator<Item = (Endpoint, &[Port])> {
        let parts = self.slices().flat_map(|slice| &slice.parts);
        let endpoints = parts.flat_map(|part| {
            let ports: &[Port] = &part.ports;
            part.endpoints.iter().filter(|it| it.ready).map(move |it| (it.into(), ports))
        });
        endpoints.filter(|(endpoint, _): &(Endpoint, _)| !endpoint.addresses.is_empty())
    }
}

/// The names of an endpoint: without a hostname, one for each address.
fn names_of(endpoint: &Endpoint, key: &[u8], domain: NameRef<'_>) -> Vec<Name> {
    let labels: Vec<String> = match &endpoint.hostname {
        Some(hostname) => vec![hostname.to_string()],
        None => endpoint.addresses.iter().map(question::dashed).collect(),
    };
    labels.iter().filter_map(|label| name(Some(label.as_bytes()), key, domain)).collect()
}

/// A name of a Service. One that is too long is none.
fn name(host: Option<&[u8]>, key: &[u8], domain: NameRef<'_>) -> Option<Name> {
    let labels = host.into_iter().chain(Labels::of(key));
    Name::from_labels(labels.chain([&b"svc"[..]]), domain).ok()
}

impl Expected<'_> {
    /// Whether an answer says this.
    pub(super) fn fits(&self, said: &Said, family: Family) -> bool {
        match (self, said) {
            (Self::Missing, Said::NxDomain | Said::NoAddress) => true,
            (Self::Empty, Said::NoData | Said::NoAddress) => true,
            (Self::Elsewhere, Said::NxDomain | Said::NoData | Said::NoAddress) => true,
            (Self::Addresses(all), Said::NoData | Said::NoAddress) => {
                !all.iter().any(|address| family.has(address))
            }
            (Self::Addresses(all), Said::Addresses { set, is_cut: false }) => {
                !set.is_empty() && all.iter().filter(|address| family.has(address)).eq(set)
            }
            (Self::Addresses(all), Said::Addresses { set, is_cut: true }) => {
                let is_part = |said: &IpAddr| family.has(said) && all.binary_search(said).is_ok();
                set.iter().all(is_part) && all.iter().any(|address| family.has(address))
            }
            (Self::Names(all), Said::Names { set, is_cut }) => {
                set == all || *is_cut && set.is_subset(all)
            }
            (Self::OneOf(all), Said::Names { set, .. }) => !set.is_empty() && set.is_subset(all),
            _ => false,
        }
    }

    /// Whether another expectation lets the same answers be right.
    pub(super) fn is_same(&self, other: &Self, family: Family) -> bool {
        match (self, other) {
            (Self::Addresses(one), Self::Addresses(other)) => {
                let of_family = |address: &&IpAddr| family.has(address);
                one.iter().filter(of_family).eq(other.iter().filter(of_family))
            }
            _ => self == other,
        }
    }
}

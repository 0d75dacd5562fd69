//! The names that Services give to this server (as CoreDNS plugin/kubernetes/ns.go): of a Service
//! with cluster IPs its own, of a headless one those of all its endpoints, which are servers too.

use std::net::IpAddr;

use super::{View, Zone, octets_of};
use crate::cluster::hosts::Host;
use crate::cluster::records::{AddressRecords, FoundBy, ServiceRecords};
use crate::cluster::schema::LabelRoom;

/// Most Services that count, and most addresses that are told of them.
const SERVICES_MAX: usize = 16;
const ADDRESSES_MAX: usize = 64;

/// The Services that lead to this server, each once; on the stack.
pub(super) struct OwnServices<'z> {
    services: [Option<ServiceRecords<'z>>; SERVICES_MAX],
    count: usize,
}

/// One name of this server, or of another one beside it.
#[derive(Clone, Copy)]
pub(super) struct OwnName<'z> {
    service: ServiceRecords<'z>,
    host: Option<Host<'z>>,
}

impl Zone {
    /// Finds the Services whose endpoints have an address of this server.
    pub(super) fn own_services<'z>(&'z self, view: &View) -> OwnServices<'z> {
        let mut own = OwnServices { services: [None; SERVICES_MAX], count: 0 };
        for address in view.own_addresses.iter() {
            let Some(records) = self.addresses.get(octets_of(address).as_ref()) else { continue };
            for endpoint in AddressRecords::from(records).endpoints() {
                if own.count == SERVICES_MAX {
                    return own;
                }
                let key = &endpoint[1 + usize::from(endpoint[0])..];
                if let Some(leaf) = self.services.get(key) {
                    own.add(ServiceRecords::from(leaf));
                }
            }
        }
        own
    }
}

impl<'z> OwnServices<'z> {
    fn add(&mut self, service: ServiceRecords<'z>) {
        let is_known = self.services().any(|known| known.key == service.key);
        if !is_known && !matches!(service.found_by(), FoundBy::Name(_)) {
            self.services[self.count] = Some(service);
            self.count += 1;
        }
    }

    /// Whether no Service leads here.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn services(&self) -> impl Iterator<Item = ServiceRecords<'z>> {
        self.services[..self.count].iter().flatten().copied()
    }

    /// All names.
    pub(super) fn names(&self) -> impl Iterator<Item = OwnName<'z>> {
        self.services().flat_map(|service| {
            let is_headless = matches!(service.found_by(), FoundBy::Hosts);
            let hosts = service.hosts().filter(move |_| is_headless);
            let itself = (!is_headless).then_some(OwnName { service, host: None });
            itself.into_iter().chain(hosts.map(move |host| OwnName { service, host: Some(host) }))
        })
    }

    /// The addresses behind all names, each once.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let mut told = [None; ADDRESSES_MAX];
        let all = self.names().flat_map(OwnName::addresses).take(ADDRESSES_MAX).enumerate();
        all.filter_map(move |(at, address)| {
            let is_news = !told[..at].contains(&Some(address));
            told[at] = Some(address);
            is_news.then_some(address)
        })
    }
}

impl<'z> OwnName<'z> {
    /// Its labels before `svc`, the first of which may be missing.
    pub(super) fn labels<'r>(&self, room: &'r mut LabelRoom) -> [&'r [u8]; 2]
    where
        'z: 'r,
    {
        let label = self.host.map_or(&[][..], |host| host.name.label(room));
        [label, self.service.key]
    }

    /// Its addresses.
    pub(super) fn addresses(self) -> impl Iterator<Item = IpAddr> + use<'z> {
        let host = self.host.into_iter().flat_map(Host::into_addresses);
        host.chain(self.service.cluster_ips())
    }
}

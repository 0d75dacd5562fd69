//! The names that addresses are found by (PTR), moved when a Service changes.

use std::net::IpAddr;

use crate::cluster::externals::{ExternalHead, ExternalRecords};
use crate::cluster::hosts::HostName;
use crate::cluster::records::{AddressHead, AddressRecords, Change, ServiceHead, ServiceRecords};
use crate::cluster::trie::{Leaf, Trie};
use crate::cluster::zone::octets_of;

/// One name that an address may be found by: that of an endpoint, or of the Service itself.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PtrName<'z> {
    address: IpAddr,
    host: Option<HostName<'z>>,
}

impl<'z> PtrName<'z> {
    /// The names of a Service, sorted.
    pub(super) fn all(leaf: Option<&'z Leaf<ServiceHead>>) -> Vec<Self> {
        let mut names = Vec::new();
        let Some(records) = leaf.map(ServiceRecords::from) else { return names };
        names.extend(records.cluster_ips().map(|address| Self { address, host: None }));
        for host in records.hosts() {
            let name = |address: &IpAddr| Self { address: *address, host: Some(host.name) };
            names.extend(host.addresses().iter().map(name));
        }
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The names that it gives to its addresses outside, sorted.
    pub(super) fn outside(leaf: Option<&'z Leaf<ExternalHead>>) -> Vec<Self> {
        let addresses = leaf.into_iter().flat_map(|leaf| ExternalRecords::from(leaf).addresses());
        let mut names: Vec<Self> = addresses.map(|address| Self { address, host: None }).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Moves the PTR names of a Service from its old addresses to its new ones.
pub(super) fn renew_addresses(
    addresses: &mut Trie<AddressHead>,
    key: &[u8],
    old: &[PtrName<'_>],
    new: &[PtrName<'_>],
) {
    for gone in only_in(old, new) {
        change_address(addresses, key, gone, Change::Goes);
    }
    for come in only_in(new, old) {
        change_address(addresses, key, come, Change::Comes);
    }
}

fn change_address(
    addresses: &mut Trie<AddressHead>,
    key: &[u8],
    ptr: &PtrName<'_>,
    change: Change,
) {
    let octets = octets_of(&ptr.address);
    let held = addresses.get(octets.as_ref());
    let records = held.map(AddressRecords::from).unwrap_or_default();
    let mut room = [0; 64];
    let label = ptr.host.as_ref().map_or(&[][..], |host| host.label(&mut room));
    let (head, tail) = records.changed(change, ptr.host.is_none(), &[label, key].concat());
    if tail.is_empty() {
        addresses.remove(octets.as_ref());
    } else {
        addresses.insert(octets.as_ref(), head, &tail);
    }
}

/// What is in the first of two sorted lists and not in the second.
fn only_in<'l, T: Ord>(these: &'l [T], others: &'l [T]) -> impl Iterator<Item = &'l T> {
    let mut others = others.iter().peekable();
    these.iter().filter(move |it| {
        while others.next_if(|other| other < it).is_some() {}
        others.peek() != Some(it)
    })
}

//! SRV records with the addresses of their targets (RFC 2782; Kubernetes DNS specification §2.3.2).
//!
//! RFC 2782: a target is not compressed, so each repeats the zone as the client spelled it. Writing
//! ends at the first record that does not fit: what follows would cost a worker and tell nobody.

use std::net::IpAddr;

use super::{Asked, Outcome, is_name};
use crate::cluster::externals::ExternalRecords;
use crate::cluster::hosts::Host;
use crate::cluster::object::Port;
use crate::cluster::records::{AskedPort, FoundBy, ServiceRecords};
use crate::wire::name::{LABEL_MAX, NAME_MAX};
use crate::wire::reply::Owner;
use crate::wire::{Name, RecordType, Reply, Section};

/// Priority, weight and port.
const FIXED_LEN: usize = 6;

/// One record per port that is asked for, with the Service itself or its hosts as targets.
pub(super) fn of_service(
    asked: &Asked<'_>,
    reply: &mut Reply<'_>,
    service: &ServiceRecords<'_>,
    port: AskedPort<'_>,
) -> Outcome<'static> {
    let FoundBy::ClusterIp(ports) = service.found_by() else {
        return of_hosts(asked, reply, service.key, service.hosts(), port);
    };
    let target = Target { key: service.key, ports, hosts: &[] };
    of_addresses(asked, reply, target, service.cluster_ips(), port)
}

/// The same for the addresses outside of the cluster, and for load balancers that have names. The
/// addresses of those are for the client to find: they are not ours.
pub(super) fn of_external(
    asked: &Asked<'_>,
    reply: &mut Reply<'_>,
    external: &ExternalRecords<'_>,
    port: AskedPort<'_>,
) -> Outcome<'static> {
    let (key, ports, hosts) = (external.key, external.ports(), external.hosts());
    of_addresses(asked, reply, Target { key, ports, hosts }, external.addresses(), port)
}

/// A Service that has addresses, and the names of hosts beside it.
#[derive(Clone, Copy)]
struct Target<'z> {
    key: &'z [u8],
    ports: &'z [Port],
    hosts: &'z [Name],
}

/// One record per port for a Service with addresses, and one for each of its hosts.
fn of_addresses(
    asked: &Asked<'_>,
    reply: &mut Reply<'_>,
    target: Target<'_>,
    addresses: impl Iterator<Item = IpAddr> + Clone,
    port: AskedPort<'_>,
) -> Outcome<'static> {
    let Target { key, ports, hosts } = target;
    let itself: [&[u8]; 4] = [key, asked.view.style.below, b"", asked.zone_as_asked()];
    let count = if is_name(&itself) { addresses.clone().count() } else { 0 };
    let weight = weight(port.hits(ports) * (count + hosts.len()));
    let mut outcome = Outcome::NoData;
    let mut target_at = None;
    for number in port.numbers(ports) {
        let itself = (count > 0).then_some(itself);
        let others = hosts.iter().map(|host| [host.octets(), b"", b"", b""]);
        for target in itself.into_iter().chain(others) {
            outcome = Outcome::Found;
            match record(asked, reply, weight, number, target) {
                Some(at) => target_at = target_at.or(Some(at)),
                None => return Outcome::Found,
            }
        }
    }
    let Some(target_at) = target_at else { return outcome };
    for address in addresses.take(count) {
        asked.write_address(reply, Section::Additional, Owner::At(target_at), &address);
    }
    outcome
}

/// One record per host and port.
pub(super) fn of_hosts<'z>(
    asked: &Asked<'_>,
    reply: &mut Reply<'_>,
    key: &[u8],
    hosts: impl Iterator<Item = Host<'z>> + Clone,
    port: AskedPort<'_>,
) -> Outcome<'static> {
    let (below, zone) = (asked.view.style.below, asked.zone_as_asked());
    // Two labels are the longest that a host has.
    let is_short = 2 * (LABEL_MAX + 1) + key.len() + below.len() + zone.len() <= NAME_MAX;
    let hosts = hosts.filter(move |host| {
        is_short || is_name(&[host.name.label(&mut [0; LABEL_MAX + 1]), key, below, zone])
    });
    let hits = |host: Host<'_>| port.hits(host.ports) * host.addresses().len();
    let hits: usize = hosts.clone().map(hits).sum();
    if hits == 0 {
        return Outcome::NoData;
    }
    let weight = weight(hits);
    // Hosts of one name follow each other; a record that the ones before have is not repeated.
    let (mut rest, mut run, mut before, mut name) = (hosts.clone(), hosts.clone(), 0, None);
    loop {
        let here = rest.clone();
        let Some(host) = rest.next() else { break };
        match name == Some(host.name) {
            true => before += 1,
            false => (run, before, name) = (here, 0, Some(host.name)),
        }
        let earlier = run.clone().take(before);
        let is_new = |number: &u16| {
            !earlier.clone().any(|host| port.numbers(host.ports).any(|it| it == *number))
        };
        let mut room = [0; 64];
        let label = host.name.label(&mut room);
        let target = [label, key, below, zone];
        for number in port.numbers(host.ports).filter(is_new) {
            if record(asked, reply, weight, number, target).is_none() {
                return Outcome::Found;
            }
        }
    }
    for host in hosts.filter(|host| port.is_in(host.ports)) {
        if !glue(asked, reply, key, &host) {
            break;
        }
    }
    Outcome::Found
}

/// Writes one record and answers where its target begins.
fn record(
    asked: &Asked<'_>,
    reply: &mut Reply<'_>,
    weight: u16,
    port: u16,
    target: [&[u8]; 4],
) -> Option<usize> {
    let fixed = fixed(weight, port);
    let [first, second, third, fourth] = target;
    let rdata: [&[u8]; 5] = [&fixed, first, second, third, fourth];
    asked.write(reply, RecordType::SRV, &rdata).map(|rdata_at| rdata_at + FIXED_LEN)
}

/// Writes the addresses of a host under its whole name. Answers whether they fitted.
fn glue(asked: &Asked<'_>, reply: &mut Reply<'_>, key: &[u8], host: &Host<'_>) -> bool {
    let mut room = [0; 64];
    let mut name = [0u8; NAME_MAX];
    let mut len = 0;
    for part in [host.name.label(&mut room), key, asked.view.style.below] {
        let Some(slot) = name.get_mut(len..len + part.len()) else { return true };
        slot.copy_from_slice(part);
        len += part.len();
    }
    let owner = Owner::Name(&name[..len], asked.zone_as_asked());
    let write = |address: &IpAddr| asked.write_address(reply, Section::Additional, owner, address);
    host.addresses().iter().all(write)
}

/// What stands before the target: priority 0, weight and port.
pub(super) fn fixed(weight: u16, port: u16) -> [u8; FIXED_LEN] {
    let ([w0, w1], [p0, p1]) = (weight.to_be_bytes(), port.to_be_bytes());
    [0, 0, w0, w1, p0, p1]
}

/// Weight of one of `hits` records (as CoreDNS: they share 100, and none goes below 1).
pub(super) fn weight(hits: usize) -> u16 {
    (100 / hits.max(1)).max(1) as u16
}

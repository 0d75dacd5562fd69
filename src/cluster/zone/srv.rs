//! SRV records with the addresses of their targets (RFC 2782; Kubernetes DNS specification §2.3.2).
//!
//! RFC 2782: a target is not compressed, so each repeats the zone as the client spelled it. Writing
//! ends at the first record that does not fit: what follows would cost a worker and tell nobody.

use std::net::IpAddr;

use super::{Asked, Outcome, SVC};
use crate::cluster::hosts::Host;
use crate::cluster::records::{AskedPort, FoundBy, ServiceRecords};
use crate::wire::name::NAME_MAX;
use crate::wire::reply::Owner;
use crate::wire::{RecordType, Reply, Section};

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
    let weight = weight(port.hits(ports) * service.cluster_ips().count());
    let mut target_at = None;
    let target: [&[u8]; 3] = [service.key, SVC, b""];
    let is_name = asked.is_name(target);
    for number in port.numbers(ports).filter(|_| is_name) {
        match record(asked, reply, weight, number, target) {
            Some(at) => target_at = target_at.or(Some(at)),
            None => return Outcome::Found,
        }
    }
    let Some(target_at) = target_at else { return Outcome::NoData };
    for address in service.cluster_ips() {
        asked.write_address(reply, Section::Additional, Owner::At(target_at), &address);
    }
    Outcome::Found
}

/// One record per host and port.
pub(super) fn of_hosts<'z>(
    asked: &Asked<'_>,
    reply: &mut Reply<'_>,
    key: &[u8],
    hosts: impl Iterator<Item = Host<'z>> + Clone,
    port: AskedPort<'_>,
) -> Outcome<'static> {
    let hits = |host: Host<'_>| port.hits(host.ports) * host.addresses().len();
    let hits: usize = hosts.clone().map(hits).sum();
    if hits == 0 {
        return Outcome::NoData;
    }
    let weight = weight(hits);
    for host in hosts.clone() {
        let mut room = [0; 64];
        let label = host.name.label(&mut room);
        let target: [&[u8]; 3] = [label, key, SVC];
        let is_name = asked.is_name(target);
        for number in port.numbers(host.ports).filter(|_| is_name) {
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
    target: [&[u8]; 3],
) -> Option<usize> {
    let mut fixed = [0u8; FIXED_LEN];
    fixed[2..4].copy_from_slice(&weight.to_be_bytes());
    fixed[4..].copy_from_slice(&port.to_be_bytes());
    let [first, second, third] = target;
    let rdata: [&[u8]; 5] = [&fixed, first, second, third, asked.zone_as_asked()];
    asked.write(reply, RecordType::SRV, &rdata).map(|rdata_at| rdata_at + FIXED_LEN)
}

/// Writes the addresses of a host under its whole name. Answers whether they fitted.
fn glue(asked: &Asked<'_>, reply: &mut Reply<'_>, key: &[u8], host: &Host<'_>) -> bool {
    let mut room = [0; 64];
    let mut name = [0u8; NAME_MAX];
    let mut len = 0;
    for part in [host.name.label(&mut room), key, SVC] {
        let Some(slot) = name.get_mut(len..len + part.len()) else { return true };
        slot.copy_from_slice(part);
        len += part.len();
    }
    let owner = Owner::Name(&name[..len], asked.zone_as_asked());
    let write = |address: &IpAddr| asked.write_address(reply, Section::Additional, owner, address);
    host.addresses().iter().all(write)
}

/// Weight of one of `hits` records (as CoreDNS: they share 100, and none goes below 1).
fn weight(hits: usize) -> u16 {
    (100 / hits.max(1)).max(1) as u16
}

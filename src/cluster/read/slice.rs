//! EndpointSlices: which Service they belong to, and which of their addresses may be served.

use std::net::IpAddr;

use super::raw::{RawEndpoint, RawLabels, RawSlice};
use super::{Found, Odd, Reading, endpoint_ports, is_label, label, push_unique, subdomain};
use crate::cluster::config::Kept;
use crate::cluster::object::{
    ENDPOINT_ADDRESSES_MAX, Endpoint, Endpoints, Import, Object, ObjectKey, Part, Slice,
};

/// Checks an EndpointSlice, and whether any name depends on it.
pub(super) fn read(raw: RawSlice<'_>, kept: Kept) -> Result<Reading, String> {
    let namespace = label("metadata.namespace", raw.metadata.namespace.unwrap_or_default())?;
    let key = ObjectKey { namespace, name: subdomain(raw.metadata.name.unwrap_or_default())? };
    let labels = raw.metadata.labels.as_ref();
    // Each half stands for itself: a label that can be no name costs only the names that it makes.
    let mut odd = Odd::default();
    let service = odd.pass(owner(labels.and_then(|labels| labels.service_name)));
    let import = import(labels, &mut odd);
    let is_v6 = match raw.address_type {
        Some("IPv4") => false,
        Some("IPv6") => true,
        Some("FQDN") => return Ok(raw.metadata.reading(Found::Foreign(key), 0)),
        other => return Err(format!("addressType is {:?}", other.unwrap_or_default())),
    };
    if service.is_none() && import.is_none() {
        return Ok(Reading { odd: odd.0, ..raw.metadata.reading(Found::Foreign(key), 0) });
    }
    let listed = raw.endpoints.as_deref().unwrap_or_default();
    let (endpoints, dropped) = endpoints(listed, is_v6, kept)?;
    let ports = endpoint_ports(raw.ports.as_deref(), &mut odd);
    let triggered_ms = raw.metadata.triggered_ms();
    let parts = [Part { endpoints, ports }].into();
    let slice = Slice { key, service, import, parts, triggered_ms };
    let found = Found::Object(Object::Slice(slice));
    Ok(Reading { odd: odd.0, ..raw.metadata.reading(found, dropped) })
}

/// Reads endpoints and counts the addresses left out; an endpoint without any is left out too.
fn endpoints(raw: &[RawEndpoint<'_>], is_v6: bool, kept: Kept) -> Result<(Endpoints, u32), String> {
    let mut endpoints = Vec::with_capacity(raw.len());
    let mut dropped = 0;
    for raw in raw {
        let mut addresses = Vec::new();
        for text in raw.addresses.as_deref().unwrap_or_default() {
            match servable(text, is_v6) {
                Some(address) if addresses.len() < ENDPOINT_ADDRESSES_MAX => {
                    push_unique(&mut addresses, address);
                }
                _ => dropped += 1,
            }
        }
        let hostname = match raw.hostname.unwrap_or_default() {
            "" => pod_name(raw).filter(|_| kept.pod_names),
            name => Some(label("hostname", name)?),
        };
        // In lower case, because names are compared so (as CoreDNS).
        let zone = raw.zone.as_deref().filter(|_| kept.zones);
        let zone = zone.map(|zone| zone.to_ascii_lowercase().into());
        let ready = raw.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
        if !addresses.is_empty() {
            endpoints.push(Endpoint { addresses, ready, hostname, zone });
        }
    }
    Ok((endpoints.into_iter().collect(), dropped))
}

/// The name of the Pod behind an endpoint, if it can be a label.
fn pod_name(raw: &RawEndpoint<'_>) -> Option<Box<str>> {
    let name = raw.target.as_ref()?.name.as_deref()?;
    is_label(name).then(|| name.into())
}

/// Checks the name of the Service that a slice belongs to.
fn owner(service: Option<&str>) -> Result<Option<Box<str>>, String> {
    let service = service.filter(|service| !service.is_empty());
    service.map(|service| label("label kubernetes.io/service-name", service)).transpose()
}

/// Reads what a slice says of the cluster set.
fn import(labels: Option<&RawLabels<'_>>, odd: &mut Odd) -> Option<Import> {
    let labels = labels?;
    let name = labels.import_name.filter(|name| !name.is_empty())?;
    let service = label("label multicluster.kubernetes.io/service-name", name).map(Some);
    let service = odd.pass(service)?;
    let cluster = labels.source_cluster.filter(|name| !name.is_empty()).and_then(|name| {
        // A label of an object may have capital letters; in DNS they are the small ones. One with a
        // dot in it can be no label of a name, but the endpoints have addresses all the same.
        let lower = name.to_ascii_lowercase();
        odd.pass(label("label multicluster.kubernetes.io/source-cluster", &lower).map(Some))
    });
    Some(Import { service, cluster: cluster.unwrap_or_default() })
}

/// Reads an address that may be an endpoint. Whoever may write EndpointSlices must not be able to
/// point a name at the host of the client (CVE-2021-25740 and its kin), so loopback, link-local,
/// unspecified and multicast addresses are refused, in IPv4-mapped spelling too.
pub(super) fn servable(text: &str, is_v6: bool) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().ok()?.to_canonical();
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let is_local = address.is_loopback() || address.is_unspecified() || is_link_local;
    (address.is_ipv6() == is_v6 && !is_local && !address.is_multicast()).then_some(address)
}

//! EndpointSlices: which Service they belong to, and which of their addresses may be served.

use std::net::IpAddr;

use super::raw::{RawEndpoint, RawLabels, RawSlice};
use super::{Found, Reading, is_label, label, port, push_unique, subdomain};
use crate::cluster::config::Kept;
use crate::cluster::object::{
    ENDPOINT_ADDRESSES_MAX, Endpoint, Endpoints, Import, Object, ObjectKey, Part, Slice,
};

/// Checks an EndpointSlice, and whether any name depends on it.
pub(super) fn read(raw: RawSlice<'_>, kept: Kept) -> Result<Reading, String> {
    let namespace = label("metadata.namespace", raw.metadata.namespace.unwrap_or_default())?;
    let key = ObjectKey { namespace, name: subdomain(raw.metadata.name.unwrap_or_default())? };
    let labels = raw.metadata.labels.as_ref();
    let service = owner(labels.and_then(|labels| labels.service_name))?;
    let import = import(labels)?;
    let is_v6 = match raw.address_type {
        Some("IPv4") => false,
        Some("IPv6") => true,
        Some("FQDN") => return Ok(raw.metadata.reading(Found::Foreign(key), 0)),
        other => return Err(format!("addressType is {:?}", other.unwrap_or_default())),
    };
    if service.is_none() && import.is_none() {
        return Ok(raw.metadata.reading(Found::Foreign(key), 0));
    }
    let listed = raw.endpoints.as_deref().unwrap_or_default();
    let (endpoints, dropped) = endpoints(listed, is_v6, kept)?;
    let mut ports = Vec::new();
    for listed in raw.ports.as_deref().unwrap_or_default() {
        ports.extend(port(listed)?);
    }
    let triggered_ms = raw.metadata.triggered_ms();
    let parts = [Part { endpoints, ports: ports.into() }].into();
    let slice = Slice { key, service, import, parts, triggered_ms };
    Ok(raw.metadata.reading(Found::Object(Object::Slice(slice)), dropped))
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

/// Checks what a slice says of the cluster set.
fn import(labels: Option<&RawLabels<'_>>) -> Result<Option<Import>, String> {
    let Some(labels) = labels else { return Ok(None) };
    let Some(name) = labels.import_name.filter(|name| !name.is_empty()) else { return Ok(None) };
    let service = label("label multicluster.kubernetes.io/service-name", name)?;
    let cluster = match labels.source_cluster.unwrap_or_default() {
        "" => Box::default(),
        // A label of an object may have capital letters; in DNS they are the small ones.
        name => {
            label("label multicluster.kubernetes.io/source-cluster", &name.to_ascii_lowercase())?
        }
    };
    Ok(Some(Import { service, cluster }))
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

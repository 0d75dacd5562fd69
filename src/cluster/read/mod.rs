//! JSON → Object: what we keep of a Namespace, Service, EndpointSlice, Pod or ServiceImport, and
//! what is refused.
//!
//! Text is borrowed from the input until an Object is built. An object that does not make sense is
//! a [`Flaw`] with its name: it costs itself and nothing else. Strings with JSON escapes are flaws
//! too, for the API server lets no character that needs one into the fields that we read, but for
//! three that it does not check: those are read with escapes (Go escapes `&`, `<` and `>` as well).

mod endpoints;
mod external;
mod raw;
mod slice;

use std::net::IpAddr;

use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

use crate::cluster::config::Kept;
use crate::cluster::object::{Kind, Object, ObjectKey, Pod, Port, Protocol, Role, Service, Slice};
pub use crate::cluster::read::endpoints::read_endpoints;
use crate::cluster::read::raw::{
    RawHead, RawImport, RawMetadata, RawNamespace, RawPod, RawPort, RawService, RawSpec,
};
use crate::cluster::schema::{is_label, is_subdomain};
use crate::wire::Name;
use crate::wire::name::LABEL_MAX;

/// What one JSON object is to us.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reading {
    /// `metadata.resourceVersion`; empty when there is none.
    pub version: Box<str>,
    pub found: Found,
    /// Endpoint addresses that were left out: wrong family, loopback, link-local, unspecified,
    /// multicast, or no address at all.
    pub dropped: u32,
    /// Why something else of it was left out; at most [`REASON_MAX`] characters.
    pub odd: Option<String>,
}

/// What is left out of an object because it makes no sense, while the rest is read: the first
/// reason of them.
#[derive(Default)]
struct Odd(Option<String>);

/// Whether an object can change an answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    Object(Object),
    /// An EndpointSlice of no Service, or of host names (`addressType: FQDN`); a Pod without an
    /// address, or one that has ended or is about to.
    Foreign(ObjectKey),
}

/// Why an object is skipped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flaw {
    pub kind: Kind,
    /// Its name, as far as that can be read.
    pub key: Option<ObjectKey>,
    pub version: Option<Box<str>>,
    /// Only what makes no sense is left out, and the rest is taken.
    pub is_partial: bool,
    /// At most [`REASON_MAX`] characters.
    pub reason: String,
}

/// The identity of an object, read without looking at the rest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Head {
    pub key: ObjectKey,
    pub version: Box<str>,
}

/// The position that a bookmark reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bookmark {
    pub version: Box<str>,
    /// All objects that existed when a streaming list began have been sent.
    pub ends_list: bool,
}

/// Longest reason of a Flaw, in characters: parser messages quote their input.
pub const REASON_MAX: usize = 200;

/// Reads one object of `kind`, and of it also what is to be kept beyond the rule.
///
/// # Errors
/// A Flaw when the object is not what the API server would accept.
pub fn read(kind: Kind, kept: Kept, json: &str) -> Result<Reading, Flaw> {
    let reading = match kind {
        Kind::Namespace => parse(json).and_then(read_namespace),
        Kind::Service => parse(json).and_then(|raw| read_service(raw, kept)),
        Kind::Slice => parse(json).and_then(|raw| slice::read(raw, kept)),
        Kind::Pod => parse(json).and_then(read_pod),
        Kind::Import => parse(json).and_then(read_import),
    };
    reading.map_err(|reason| Flaw::new(kind, json, &reason))
}

/// Reads only the identity, from objects of any shape.
pub fn read_head(json: &str) -> Option<Head> {
    let raw: RawHead<'_> = serde_json::from_str(json).ok()?;
    let name = raw.metadata.name.filter(|name| !name.is_empty())?;
    let namespace = raw.metadata.namespace.unwrap_or_default();
    Some(Head {
        key: ObjectKey { namespace: namespace.into(), name: name.into() },
        version: raw.metadata.resource_version.unwrap_or_default().into(),
    })
}

/// Reads the object of a BOOKMARK event.
pub fn read_bookmark(json: &str) -> Option<Bookmark> {
    let raw: RawNamespace<'_> = serde_json::from_str(json).ok()?;
    let version = raw.metadata.resource_version.filter(|version| !version.is_empty())?;
    let ends_list = raw.metadata.annotations.is_some_and(|a| a.initial_events_end == Some("true"));
    Some(Bookmark { version: version.into(), ends_list })
}

impl Found {
    /// Namespace and name; the namespace of a Namespace is empty.
    pub fn identity(&self) -> (&str, &str) {
        match self {
            Self::Object(Object::Namespace(name)) => ("", name),
            Self::Object(
                Object::Service(Service { key, .. })
                | Object::Import(Service { key, .. })
                | Object::Slice(Slice { key, .. })
                | Object::Pod(Pod { key, .. }),
            )
            | Self::Foreign(key) => (&key.namespace, &key.name),
        }
    }
}

impl Reading {
    /// What was left out of an object of `kind`.
    pub fn flaw(&self, kind: Kind) -> Option<Flaw> {
        let reason = self.odd.clone()?;
        let (namespace, name) = self.found.identity();
        let key = Some(ObjectKey { namespace: namespace.into(), name: name.into() });
        Some(Flaw { kind, key, version: Some(self.version.clone()), is_partial: true, reason })
    }
}

impl Odd {
    /// Passes on what makes sense.
    fn pass<T>(&mut self, read: Result<Option<T>, String>) -> Option<T> {
        read.unwrap_or_else(|reason| {
            self.0.get_or_insert_with(|| shortened(&reason));
            None
        })
    }
}

impl Flaw {
    /// Names the object as far as its identity can be read.
    fn new(kind: Kind, json: &str, reason: &str) -> Self {
        let head = read_head(json);
        let (key, version) = head.map(|head| (head.key, head.version)).unzip();
        Self { kind, key, version, is_partial: false, reason: shortened(reason) }
    }
}

/// A reason of at most [`REASON_MAX`] characters.
fn shortened(reason: &str) -> String {
    reason.chars().take(REASON_MAX).collect()
}

/// Reads the fields that we know, with the parser's reason as text.
fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|flaw| flaw.to_string())
}

/// Checks a Namespace. One that terminates still exists.
fn read_namespace(raw: RawNamespace<'_>) -> Result<Reading, String> {
    let name = label("metadata.name", raw.metadata.name.unwrap_or_default())?;
    Ok(raw.metadata.reading(Found::Object(Object::Namespace(name)), 0))
}

/// Checks a Service.
fn read_service(raw: RawService<'_>, kept: Kept) -> Result<Reading, String> {
    let namespace = label("metadata.namespace", raw.metadata.namespace.unwrap_or_default())?;
    let name = label("metadata.name", raw.metadata.name.unwrap_or_default())?;
    let spec = raw.spec.ok_or("spec is missing")?;
    let role = role(&spec)?;
    let ports = spec.ports.unwrap_or_default();
    let ports = ports.iter().map(service_port).collect::<Result<_, _>>()?;
    let has_selector = spec.selector.is_some();
    let externals = match kept.externals {
        true => external::read(spec.external_ips, raw.status),
        false => Box::default(),
    };
    let key = ObjectKey { namespace, name };
    let service = Service { key, role, ports, has_selector, externals };
    Ok(raw.metadata.reading(Found::Object(Object::Service(service)), 0))
}

/// Tells how a Service is found. Unknown types count as ClusterIP, as CoreDNS has it.
fn role(spec: &RawSpec<'_>) -> Result<Role, String> {
    if spec.kind == Some("ExternalName") {
        return external_name(spec.external_name.unwrap_or_default());
    }
    let listed = spec.cluster_ips.as_deref().unwrap_or_default();
    let listed = if listed.is_empty() { spec.cluster_ip.as_slice() } else { listed };
    if listed.contains(&"None") {
        return Ok(Role::Headless);
    }
    Ok(Role::ClusterIp(cluster_ips(listed)?))
}

/// Reads addresses, each once; an empty one is not allocated yet.
fn cluster_ips(listed: &[&str]) -> Result<Vec<IpAddr>, String> {
    let mut addresses = Vec::with_capacity(listed.len());
    for text in listed.iter().filter(|text| !text.is_empty()) {
        let address: IpAddr = text.parse().map_err(|_| format!("\"{text}\" is no cluster IP"))?;
        push_unique(&mut addresses, address);
    }
    Ok(addresses)
}

/// Checks a name outside of the cluster; its spelling stays.
fn external_name(text: &str) -> Result<Role, String> {
    let name = Name::parse(text).map_err(|reason| format!("spec.externalName: {reason}"))?;
    if name == Name::root() {
        return Err("spec.externalName is empty".into());
    }
    Ok(Role::ExternalName(text.into()))
}

/// Checks a port of a Service, which must have a number.
fn service_port(raw: &RawPort<'_>) -> Result<Port, String> {
    port(raw)?.ok_or_else(|| "a port has no number".into())
}

/// Reads a port; one without a number means "all ports" in an EndpointSlice and names none.
fn port(raw: &RawPort<'_>) -> Result<Option<Port>, String> {
    let name = match raw.name.unwrap_or_default() {
        "" => Box::default(),
        name => label("port name", name)?,
    };
    let protocol = match raw.protocol.unwrap_or("TCP") {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "SCTP" => Protocol::Sctp,
        other => return Err(format!("\"{other}\" is no protocol")),
    };
    let Some(number) = raw.port else { return Ok(None) };
    let in_range = u16::try_from(number).ok().filter(|number| *number > 0);
    let number = in_range.ok_or_else(|| format!("a port has the number {number}"))?;
    Ok(Some(Port { name, protocol, number }))
}

/// Reads the ports of endpoints. The API server lets any number pass in a slice, and its endpoints
/// have addresses all the same, so what makes no sense costs its port only.
fn endpoint_ports(listed: Option<&[RawPort<'_>]>, odd: &mut Odd) -> Box<[Port]> {
    listed.unwrap_or_default().iter().filter_map(|raw| odd.pass(port(raw))).collect()
}

/// Checks a Pod. One that has ended has no name. One that is about to is there until it has gone:
/// CoreDNS keeps what it knows of it too, unless it starts meanwhile.
fn read_pod(raw: RawPod<'_>) -> Result<Reading, String> {
    let namespace = label("metadata.namespace", raw.metadata.namespace.unwrap_or_default())?;
    let key = ObjectKey { namespace, name: subdomain(raw.metadata.name.unwrap_or_default())? };
    let status = raw.status.as_ref();
    let phase = status.and_then(|status| status.phase).unwrap_or_default();
    let has_ended = matches!(phase, "Succeeded" | "Failed" | "Unknown");
    let mut addresses = Vec::new();
    if !has_ended {
        let listed = status.and_then(|status| status.pod_ips.as_deref()).unwrap_or_default();
        let first = status.and_then(|status| status.pod_ip);
        for text in first.into_iter().chain(listed.iter().filter_map(|listed| listed.ip)) {
            let address = text.parse().map_err(|_| format!("\"{text}\" is no address of a Pod"))?;
            push_unique(&mut addresses, address);
        }
    }
    let found = match addresses.is_empty() {
        true => Found::Foreign(key),
        false => Found::Object(Object::Pod(Pod { key, addresses: addresses.into() })),
    };
    Ok(raw.metadata.reading(found, 0))
}

/// Checks a ServiceImport (Multi-Cluster Services API, `ServiceImport`).
fn read_import(raw: RawImport<'_>) -> Result<Reading, String> {
    let namespace = label("metadata.namespace", raw.metadata.namespace.unwrap_or_default())?;
    let name = label("metadata.name", raw.metadata.name.unwrap_or_default())?;
    let spec = raw.spec.ok_or("spec is missing")?;
    let role = match spec.kind {
        Some("Headless") => Role::Headless,
        _ => Role::ClusterIp(cluster_ips(spec.ips.as_deref().unwrap_or_default())?),
    };
    let ports = spec.ports.unwrap_or_default();
    let ports = ports.iter().map(service_port).collect::<Result<_, _>>()?;
    let key = ObjectKey { namespace, name };
    let externals = Box::default();
    let import = Service { key, role, ports, has_selector: false, externals };
    Ok(raw.metadata.reading(Found::Object(Object::Import(import)), 0))
}

/// Appends an address that is not there yet; lists are short (100 at most in Kubernetes).
fn push_unique(addresses: &mut Vec<IpAddr>, address: IpAddr) {
    if !addresses.contains(&address) {
        addresses.push(address);
    }
}

/// Checks an RFC 1123 label.
fn label(field: &str, text: &str) -> Result<Box<str>, String> {
    if is_label(text) {
        return Ok(text.into());
    }
    Err(format!("{field} \"{text}\" is no label of at most {LABEL_MAX} lower-case characters"))
}

/// Checks an RFC 1123 subdomain.
fn subdomain(text: &str) -> Result<Box<str>, String> {
    if is_subdomain(text) {
        return Ok(text.into());
    }
    Err(format!("metadata.name \"{text}\" is no lower-case domain name"))
}

impl RawMetadata<'_> {
    /// Adds the version of the object to what it is.
    fn reading(&self, found: Found, dropped: u32) -> Reading {
        let version = self.resource_version.unwrap_or_default().into();
        Reading { version, found, dropped, odd: None }
    }

    /// Only measured, never answered from: a wrong spelling is no flaw.
    fn triggered_ms(&self) -> Option<u64> {
        let at: Timestamp = self.annotations.as_ref()?.last_change.as_deref()?.parse().ok()?;
        u64::try_from(at.as_millisecond()).ok()
    }
}

#[cfg(test)]
mod tests;

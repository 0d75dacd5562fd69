//! Core `Endpoints`: what API servers without the discovery API have in the place of slices, and
//! what is still written by hand. Each is a [`Slice`] of the Service of its own name.

use serde::Deserialize;

use super::raw::{RawMetadata, RawPort, RawTarget};
use super::slice::servable;
use super::{Flaw, Found, Odd, Reading, endpoint_ports, is_label, label, parse, subdomain};
use crate::cluster::config::Kept;
use crate::cluster::object::{Endpoint, Kind, Object, ObjectKey, Part, Slice};

/// An object `Endpoints`.
#[derive(Deserialize)]
struct RawEndpoints<'a> {
    #[serde(borrow)]
    metadata: RawMetadata<'a>,
    subsets: Option<Vec<RawSubset<'a>>>,
}

/// Endpoints with the same ports.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSubset<'a> {
    #[serde(borrow)]
    addresses: Option<Vec<RawAddress<'a>>>,
    #[serde(borrow)]
    not_ready_addresses: Option<Vec<RawAddress<'a>>>,
    #[serde(borrow)]
    ports: Option<Vec<RawPort<'a>>>,
}

/// One endpoint.
#[derive(Deserialize)]
struct RawAddress<'a> {
    #[serde(borrow)]
    ip: Option<&'a str>,
    #[serde(borrow)]
    hostname: Option<&'a str>,
    #[serde(borrow, rename = "targetRef")]
    target: Option<RawTarget<'a>>,
}

/// Reads an object `Endpoints`.
///
/// # Errors
/// A Flaw when the object is not what the API server would accept.
pub fn read_endpoints(kept: Kept, json: &str) -> Result<Reading, Flaw> {
    let reading = parse(json).and_then(|raw| reading(raw, kept));
    reading.map_err(|reason| Flaw::new(Kind::Slice, json, &reason))
}

/// Checks one. A Service has a label for a name, so what has another is of none.
fn reading(raw: RawEndpoints<'_>, kept: Kept) -> Result<Reading, String> {
    let namespace = label("metadata.namespace", raw.metadata.namespace.unwrap_or_default())?;
    let name = subdomain(raw.metadata.name.unwrap_or_default())?;
    let service = is_label(&name).then(|| name.clone());
    let key = ObjectKey { namespace, name };
    if service.is_none() {
        return Ok(raw.metadata.reading(Found::Foreign(key), 0));
    }
    let (mut dropped, mut odd) = (0, Odd::default());
    let subsets = raw.subsets.as_deref().unwrap_or_default().iter();
    let parts = subsets
        .map(|subset| part(subset, kept, &mut dropped, &mut odd))
        .collect::<Result<_, _>>()?;
    let triggered_ms = raw.metadata.triggered_ms();
    let slice = Slice { key, service, import: None, parts, triggered_ms };
    let found = Found::Object(Object::Slice(slice));
    Ok(Reading { odd: odd.0, ..raw.metadata.reading(found, dropped) })
}

/// Checks a subset, and counts the addresses left out.
fn part(raw: &RawSubset<'_>, kept: Kept, dropped: &mut u32, odd: &mut Odd) -> Result<Part, String> {
    let ready = raw.addresses.iter().flatten().map(|address| (address, true));
    let unready = raw.not_ready_addresses.iter().flatten().map(|address| (address, false));
    let mut endpoints = Vec::new();
    for (address, ready) in ready.chain(unready) {
        match endpoint(address, ready, kept)? {
            Some(endpoint) => endpoints.push(endpoint),
            None => *dropped += 1,
        }
    }
    let ports = endpoint_ports(raw.ports.as_deref(), odd);
    Ok(Part { endpoints: endpoints.into_iter().collect(), ports })
}

/// Checks an endpoint, which may be of either family; `None` if it must not be served.
fn endpoint(raw: &RawAddress<'_>, ready: bool, kept: Kept) -> Result<Option<Endpoint>, String> {
    let text = raw.ip.unwrap_or_default();
    let Some(address) = servable(text, false).or_else(|| servable(text, true)) else {
        return Ok(None);
    };
    let pod = raw.target.as_ref().and_then(|target| target.name.as_deref());
    let pod = pod.filter(|name| is_label(name));
    let hostname = match raw.hostname.unwrap_or_default() {
        "" => pod.filter(|_| kept.pod_names).map(Into::into),
        name => Some(label("hostname", name)?),
    };
    // The zone of an endpoint is known to slices only.
    Ok(Some(Endpoint { addresses: vec![address], ready, hostname, zone: None }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::object::{Port, Protocol};

    const ENDPOINTS: &str = r#"{"metadata":{"name":"db","namespace":"shop","resourceVersion":"9",
        "annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"1970-01-01T00:00:02Z"}},
        "subsets":[
          {"addresses":[{"ip":"10.1.0.1","hostname":"db-0","nodeName":"n"},
                        {"ip":"fd00::1","targetRef":{"kind":"Pod","name":"db-x7"}}],
           "notReadyAddresses":[{"ip":"10.1.0.2"},{"ip":"127.0.0.1"},{"ip":"::1"},{"ip":"db"},{}],
           "ports":[{"name":"sql","port":5432,"protocol":"TCP"}]},
          {"addresses":null,"notReadyAddresses":[{"ip":"10.1.0.3"}],"ports":null}]}"#;

    fn slice(kept: Kept, json: &str) -> (Slice, u32) {
        let reading = read_endpoints(kept, json).unwrap();
        match reading.found {
            Found::Object(Object::Slice(slice)) => (slice, reading.dropped),
            other => panic!("{other:?}"),
        }
    }

    /// Address, readiness and name of the endpoints of a part.
    fn endpoints(part: &Part) -> Vec<(String, bool, Option<&str>)> {
        let told = part.endpoints.iter().map(|endpoint| {
            let address = endpoint.addresses().next().unwrap().to_string();
            (address, endpoint.ready, endpoint.hostname)
        });
        told.collect()
    }

    #[test]
    fn each_subset_is_a_part_of_the_slice_of_the_service_of_that_name() {
        let (slice, dropped) = slice(Kept::default(), ENDPOINTS);
        assert_eq!((slice.service.as_deref(), &*slice.key.name, dropped), (Some("db"), "db", 4));
        assert_eq!(
            endpoints(&slice.parts[0]),
            [
                ("10.1.0.1".into(), true, Some("db-0")),
                ("fd00::1".into(), true, None),
                ("10.1.0.2".into(), false, None),
            ]
        );
        let sql = Port { name: "sql".into(), protocol: Protocol::Tcp, number: 5432 };
        assert_eq!(*slice.parts[0].ports, [sql]);
        assert_eq!(endpoints(&slice.parts[1]), [("10.1.0.3".into(), false, None)]);
        assert_eq!((slice.parts.len(), slice.parts[1].ports.len()), (2, 0));
        assert_eq!(slice.triggered_ms, Some(2000));
    }

    #[test]
    fn names_of_pods_are_kept_where_they_are_wanted() {
        let (slice, _) = slice(Kept { pod_names: true, ..Kept::default() }, ENDPOINTS);
        let names = endpoints(&slice.parts[0]).into_iter().map(|(_, _, name)| name);
        assert_eq!(names.collect::<Vec<_>>(), [Some("db-0"), Some("db-x7"), None]);
    }

    #[test]
    fn endpoints_without_subsets_are_empty_and_those_of_no_service_foreign() {
        for subsets in ["", r#","subsets":null"#, r#","subsets":[]"#, r#","subsets":[{}]"#] {
            let json = format!(r#"{{"metadata":{{"name":"a","namespace":"b"}}{subsets}}}"#);
            let (slice, _) = slice(Kept::default(), &json);
            assert!(slice.parts.iter().all(|part| part.endpoints.is_empty()), "{json}");
        }
        let foreign = r#"{"metadata":{"name":"a.b","namespace":"b"}}"#;
        let found = read_endpoints(Kept::default(), foreign).unwrap().found;
        assert!(matches!(found, Found::Foreign(_)));
    }

    #[test]
    fn what_no_server_would_send_is_a_flaw() {
        for (sound, flawed) in [
            (r#""hostname":"db-0""#, r#""hostname":"DB""#),
            (r#""namespace":"shop""#, r#""namespace":"""#),
            (r#""ip":"10.1.0.1""#, r#""ip":7"#),
        ] {
            let json = ENDPOINTS.replace(sound, flawed);
            let flaw = read_endpoints(Kept::default(), &json).expect_err(flawed);
            assert_eq!((flaw.kind, flaw.key.is_some()), (Kind::Slice, true), "{flawed}");
        }
    }
}

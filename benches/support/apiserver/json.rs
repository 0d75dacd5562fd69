//! How does an API server write objects as JSON? With all that clients pass over, for reading that
//! is part of what a sync costs.
//!
//! Each object is written from `"metadata"` on: a watch puts the kind before it, a list does not.

use std::fmt::Write;

use k8s_openapi::jiff::Timestamp;

use super::objects::{Cluster, Endpoint, Role, SLICE_MAX, Slice, mix, suffix, uid};

/// The end of `metadata` that tells which manager owns which fields.
const SERVICE_FIELDS: &str = include_str!("fields/service.txt");
const SLICE_FIELDS: &str = include_str!("fields/endpointslice.txt");

/// Writes a Namespace, from `"metadata"` on.
pub fn write_namespace(out: &mut String, at: usize, version: u64) {
    let name = format!("team-{at:03}");
    let uid = uid(1, at as u64);
    write!(
        out,
        r#""metadata":{{"name":"{name}","uid":"{uid}","resourceVersion":"{version}","creationTimestamp":"2025-03-01T09:21:07Z","labels":{{"kubernetes.io/metadata.name":"{name}","team":"{name}"}}}},"spec":{{"finalizers":["kubernetes"]}},"status":{{"phase":"Active"}}}}"#
    )
    .expect("a String takes all");
}

/// Writes a Service, from `"metadata"` on.
pub fn write_service(cluster: &Cluster, out: &mut String, n: usize, version: u64) {
    let (name, namespace, uid) = (cluster.name(n), cluster.namespace(n), uid(2, n as u64));
    let labels = labels(&name);
    let fields = fields(cluster, SERVICE_FIELDS);
    let ip = match cluster.role(n) {
        Role::ClusterIp => cluster.cluster_ip(n).to_string(),
        _ => "None".to_owned(),
    };
    write!(
        out,
        r#""metadata":{{"name":"{name}","namespace":"{namespace}","uid":"{uid}","resourceVersion":"{version}","creationTimestamp":"2025-03-01T09:21:07Z","labels":{{{labels}}},"annotations":{{"meta.helm.sh/release-name":"{name}","meta.helm.sh/release-namespace":"{namespace}"}}{fields}}},"spec":{{"ports":[{{"name":"http","protocol":"TCP","port":80,"targetPort":"http"}},{{"name":"metrics","protocol":"TCP","port":9090,"targetPort":"metrics"}}],"selector":{{"app.kubernetes.io/instance":"{name}","app.kubernetes.io/name":"{name}"}},"clusterIP":"{ip}","clusterIPs":["{ip}"],"type":"ClusterIP","sessionAffinity":"None","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","internalTrafficPolicy":"Cluster"}},"status":{{"loadBalancer":{{}}}}}}"#
    )
    .expect("a String takes all");
}

/// Writes an EndpointSlice, from `"metadata"` on.
pub fn write_slice(cluster: &Cluster, out: &mut String, slice: &Slice, version: u64) {
    let n = slice.service;
    let (name, namespace, owner) = (cluster.name(n), cluster.namespace(n), uid(2, n as u64));
    let number = (n * 1000 + slice.part) as u64;
    let (suffix, uid, labels) = (suffix(number), uid(3, number), labels(&name));
    let headless = match cluster.role(n) {
        Role::ClusterIp => "",
        _ => r#","service.kubernetes.io/headless":"""#,
    };
    let changed = slice.changed.map(spelled);
    let changed = changed.as_deref().unwrap_or("2026-02-11T16:02:44Z");
    let fields = fields(cluster, SLICE_FIELDS);
    write!(
        out,
        r#""metadata":{{"name":"{name}-{suffix}","generateName":"{name}-","namespace":"{namespace}","uid":"{uid}","resourceVersion":"{version}","generation":7,"creationTimestamp":"2025-03-01T09:21:07Z","labels":{{{labels},"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"{name}"{headless}}},"annotations":{{"endpoints.kubernetes.io/last-change-trigger-time":"{changed}"}},"ownerReferences":[{{"apiVersion":"v1","kind":"Service","name":"{name}","uid":"{owner}","controller":true,"blockOwnerDeletion":true}}]{fields}}},"addressType":"IPv4","endpoints":["#
    )
    .expect("a String takes all");
    let place = Place {
        name: &name,
        namespace: &namespace,
        has_hostnames: cluster.role(n) == Role::Stateful,
    };
    for (at, endpoint) in slice.endpoints.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        out.push_str(comma);
        place.write_endpoint(out, slice.part * SLICE_MAX + at, endpoint);
    }
    out.push_str(r#"],"ports":[{"name":"http","port":8080,"protocol":"TCP"},{"name":"metrics","port":9090,"protocol":"TCP"}]}"#);
}

/// Changes what was written of a slice: the readiness of one endpoint, and what tells of a change.
/// Ten times cheaper than to write it anew. Nothing moves, for all of this has one length.
pub fn overwrite_slice(text: &mut String, slice: &Slice, endpoint: usize, version: u64) {
    let conditions = conditions(slice.endpoints[endpoint].is_ready);
    overwrite(text, VERSION, 0, &version.to_string());
    overwrite(text, CHANGED, 0, &slice.changed.map(spelled).unwrap_or_default());
    overwrite(text, CONDITIONS, endpoint, conditions);
}

/// Writes over what stands behind a marker, where it is for the `nth` time, from 0.
fn overwrite(text: &mut String, marker: &str, nth: usize, value: &str) {
    let (at, _) = text.match_indices(marker).nth(nth).expect("it was written with all markers");
    let start = at + marker.len();
    text.replace_range(start..start + value.len(), value);
}

/// What stands before that which changes.
const VERSION: &str = r#""resourceVersion":""#;
const CHANGED: &str = r#"/last-change-trigger-time":""#;
const CONDITIONS: &str = r#""conditions":{"#;

/// Both have the same length.
fn conditions(is_ready: bool) -> &'static str {
    if is_ready {
        r#""ready":true ,"serving":true ,"terminating":false"#
    } else {
        r#""ready":false,"serving":false,"terminating":false"#
    }
}

/// A time as Kubernetes writes it.
fn spelled(at: Timestamp) -> String {
    at.strftime("%FT%TZ").to_string()
}

/// The end of `metadata` that tells who owns which fields.
fn fields(cluster: &Cluster, text: &'static str) -> &'static str {
    if cluster.has_managed_fields { text.trim_end() } else { "" }
}

/// What the endpoints of a slice share.
struct Place<'a> {
    name: &'a str,
    namespace: &'a str,
    has_hostnames: bool,
}

impl Place<'_> {
    fn write_endpoint(&self, out: &mut String, at: usize, endpoint: &Endpoint) {
        let Self { name, namespace, has_hostnames } = self;
        let Endpoint { address, is_ready } = endpoint;
        let number = u64::from(address.to_bits());
        let (suffix, uid, node) = (suffix(number), uid(4, number), mix(number) % 1000);
        let (third, fourth) = (node / 250, node % 250);
        let zone = ["a", "b", "c"][node as usize % 3];
        let conditions = conditions(*is_ready);
        write!(out, r#"{{"addresses":["{address}"],"conditions":{{{conditions}}},"#)
            .expect("a String takes all");
        let pod = if *has_hostnames {
            write!(out, r#""hostname":"{name}-{at}","#).expect("a String takes all");
            format!("{name}-{at}")
        } else {
            format!("{name}-6d9f7c5b84-{suffix}")
        };
        write!(
            out,
            r#""targetRef":{{"kind":"Pod","namespace":"{namespace}","name":"{pod}","uid":"{uid}"}},"nodeName":"ip-10-0-{third}-{fourth}.eu-central-1.compute.internal","zone":"eu-central-1{zone}"}}"#
        )
        .expect("a String takes all");
    }
}

/// The labels that most charts give to what they make.
fn labels(name: &str) -> String {
    format!(
        r#""app.kubernetes.io/instance":"{name}","app.kubernetes.io/managed-by":"Helm","app.kubernetes.io/name":"{name}","helm.sh/chart":"{name}-1.4.2""#
    )
}

//! Kubernetes objects, written short: `port` is `http/TCP/80` (no name: `/TCP/80`), an endpoint is
//! its addresses and what is said of it: `10.244.1.11 hostname=db-0 zone=eu.West-1a ready=false`.

use serde_json::{Value, json};

/// The label of a slice that names its Service.
pub const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// The same for a slice that was imported from another cluster.
pub const IMPORT_LABEL: &str = "multicluster.kubernetes.io/service-name";
/// The label that names that cluster.
pub const CLUSTER_LABEL: &str = "multicluster.kubernetes.io/source-cluster";

pub fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

/// A Service with cluster IPs.
pub fn service(path: &str, ips: &[&str], ports: &[&str]) -> Value {
    let families: Vec<&str> =
        ips.iter().map(|ip| if ip.contains(':') { "IPv6" } else { "IPv4" }).collect();
    let policy = if ips.len() > 1 { "RequireDualStack" } else { "SingleStack" };
    let spec = json!({
        "clusterIP": ips[0], "clusterIPs": ips, "ipFamilies": families, "ipFamilyPolicy": policy,
        "ports": service_ports(ports),
    });
    object("v1", "Service", path, json!({ "spec": spec }))
}

/// A Service without cluster IP. It needs no ports.
pub fn headless(path: &str, ports: &[&str]) -> Value {
    let spec = json!({
        "clusterIP": "None", "clusterIPs": ["None"], "ipFamilies": ["IPv4", "IPv6"],
        "ipFamilyPolicy": "RequireDualStack", "ports": service_ports(ports),
    });
    object("v1", "Service", path, json!({ "spec": spec }))
}

/// A Service of the type ExternalName.
pub fn alias(path: &str, target: &str) -> Value {
    let spec = json!({ "type": "ExternalName", "externalName": target });
    object("v1", "Service", path, json!({ "spec": spec }))
}

/// A slice of a Service. The family is that of its endpoints.
pub fn slice(path: &str, service: &str, ports: &[&str], endpoints: &[&str]) -> Value {
    labelled(path, json!({ SERVICE_LABEL: service }), ports, endpoints)
}

/// A slice that another cluster exports.
pub fn imported(
    path: &str,
    service: &str,
    cluster: &str,
    ports: &[&str],
    endpoints: &[&str],
) -> Value {
    let labels = json!({ IMPORT_LABEL: service, CLUSTER_LABEL: cluster });
    labelled(path, labels, ports, endpoints)
}

/// A slice with these labels.
pub fn labelled(path: &str, labels: Value, ports: &[&str], endpoints: &[&str]) -> Value {
    let is_v6 = endpoints.first().is_some_and(|text| text.contains(':'));
    let endpoints: Vec<Value> = endpoints.iter().map(|text| endpoint(text)).collect();
    let ports: Vec<Value> = ports.iter().map(|text| port(text)).collect();
    let family = if is_v6 { "IPv6" } else { "IPv4" };
    let fields = json!({ "addressType": family, "endpoints": endpoints, "ports": ports });
    let mut slice = object("discovery.k8s.io/v1", "EndpointSlice", path, fields);
    slice["metadata"]["labels"] = labels;
    slice
}

/// A Pod. The status has a path of its own in the API.
pub fn pod(path: &str, ips: &[&str], phase: &str) -> Value {
    let container = json!({ "name": "main", "image": "none.invalid/none" });
    let spec = json!({ "nodeName": "n1", "containers": [container] });
    let all: Vec<Value> = ips.iter().map(|ip| json!({ "ip": ip })).collect();
    let mut status = json!({ "phase": phase, "podIPs": all });
    if let Some(first) = ips.first() {
        status["podIP"] = json!(first);
    }
    object("v1", "Pod", path, json!({ "spec": spec, "status": status }))
}

/// A ServiceImport: `ips` for the type ClusterSetIP, none for Headless.
pub fn import(path: &str, ips: &[&str], ports: &[&str]) -> Value {
    let kind = if ips.is_empty() { "Headless" } else { "ClusterSetIP" };
    let mut spec = json!({ "type": kind, "ports": service_ports(ports) });
    if !ips.is_empty() {
        spec["ips"] = json!(ips);
    }
    object("multicluster.x-k8s.io/v1alpha1", "ServiceImport", path, json!({ "spec": spec }))
}

/// The namespace and the name of an object.
pub fn name_of(object: &Value) -> (&str, &str) {
    let metadata = &object["metadata"];
    (metadata["namespace"].as_str().unwrap_or_default(), metadata["name"].as_str().unwrap())
}

/// The kind of an object.
pub fn kind_of(object: &Value) -> &str {
    object["kind"].as_str().unwrap()
}

/// The Service that a slice belongs to, of this cluster or imported.
pub fn service_of(slice: &Value) -> Option<&str> {
    let labels = &slice["metadata"]["labels"];
    labels[SERVICE_LABEL].as_str().or_else(|| labels[IMPORT_LABEL].as_str())
}

/// The items of a list that may be missing.
pub fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// An endpoint from its text.
pub fn endpoint(text: &str) -> Value {
    let mut words = text.split(' ');
    let mut endpoint = json!({ "addresses": [words.next().unwrap()], "conditions": {} });
    for word in words {
        match word.split_once('=').unwrap_or((word, "true")) {
            ("pod", name) => endpoint["targetRef"] = json!({ "kind": "Pod", "name": name }),
            ("ready", "null") => {}
            (condition @ ("ready" | "serving" | "terminating"), value) => {
                endpoint["conditions"][condition] = json!(value == "true");
            }
            (field, value) => endpoint[field] = json!(value),
        }
    }
    endpoint
}

/// `namespace/name` becomes the metadata of an object.
fn object(version: &str, kind: &str, path: &str, fields: Value) -> Value {
    let (namespace, name) = path.split_once('/').expect("a path is namespace/name");
    let mut object = json!({
        "apiVersion": version, "kind": kind,
        "metadata": { "namespace": namespace, "name": name },
    });
    for (field, value) in fields.as_object().unwrap() {
        object[field] = value.clone();
    }
    object
}

fn service_ports(ports: &[&str]) -> Vec<Value> {
    // The API server wants the names of several ports; a port of one protocol may be there once.
    ports.iter().map(|text| port(text)).collect()
}

fn port(text: &str) -> Value {
    let mut words = text.split('/');
    let (name, protocol) = (words.next().unwrap(), words.next().unwrap());
    let number: u16 = words.next().unwrap().parse().unwrap();
    let mut port = json!({ "protocol": protocol, "port": number });
    if !name.is_empty() {
        port["name"] = json!(name);
    }
    port
}

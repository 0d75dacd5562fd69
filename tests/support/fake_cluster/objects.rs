//! Objects as an API server has them, short to write.

use serde_json::{Value, json};

/// A Namespace.
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name},
        "status": {"phase": "Active"}})
}

/// A Service with these cluster IPs (`"None"` for a headless one), and the port `http` 80.
pub fn service(namespace: &str, name: &str, cluster_ips: &[&str]) -> Value {
    let families: Vec<&str> =
        cluster_ips.iter().map(|ip| if ip.contains(':') { "IPv6" } else { "IPv4" }).collect();
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"type": "ClusterIP", "clusterIP": cluster_ips[0], "clusterIPs": cluster_ips,
            "ipFamilies": families, "selector": {"app": name},
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]}})
}

/// A headless Service.
pub fn headless(namespace: &str, name: &str) -> Value {
    service(namespace, name, &["None"])
}

/// A Service that is another name.
pub fn external(namespace: &str, name: &str, target: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"type": "ExternalName", "externalName": target}})
}

/// An EndpointSlice of IPv4 of a Service.
pub fn slice(namespace: &str, name: &str, service: &str, endpoints: &[Value]) -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": namespace, "name": name,
            "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}]})
}

/// A ready endpoint.
pub fn ready(address: &str) -> Value {
    endpoint(address, true, true, false)
}

/// An endpoint with these conditions.
pub fn endpoint(address: &str, ready: bool, serving: bool, terminating: bool) -> Value {
    json!({"addresses": [address],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": {"kind": "Pod", "name": format!("pod-{}", address.replace('.', "-"))}})
}

/// Where objects of a kind are: the resource and its `apiVersion`.
pub fn resource_of(kind: &str) -> (&'static str, &'static str) {
    match kind {
        "Namespace" => ("namespaces", "v1"),
        "Service" => ("services", "v1"),
        "Pod" => ("pods", "v1"),
        "EndpointSlice" => ("endpointslices", "discovery.k8s.io/v1"),
        "ServiceImport" => ("serviceimports", "multicluster.x-k8s.io/v1alpha1"),
        other => panic!("objects of kind {other} are not kept here"),
    }
}

/// The kind of what a resource holds, for bookmarks.
pub fn kind_of(resource: &str) -> (&'static str, &'static str) {
    ["Namespace", "Service", "Pod", "EndpointSlice", "ServiceImport"]
        .into_iter()
        .map(|kind| (kind, resource_of(kind)))
        .find(|(_, (name, _))| *name == resource)
        .map(|(kind, (_, version))| (kind, version))
        .unwrap_or_else(|| panic!("no resource {resource}"))
}

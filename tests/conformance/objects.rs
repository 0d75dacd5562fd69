//! What the steps create: the shapes that the tests of Kubernetes use.

use serde_json::{Value, json};

const NODE: &str = "n1";

/// A Namespace.
pub fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

/// The node of all Pods: the EndpointSlice controller leaves out a Pod whose node is not there.
pub fn node() -> Value {
    json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE } })
}

/// A Service with this spec.
pub fn service(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": namespace }, "spec": spec,
    })
}

/// A Service of the Pods of this group, with the port `http`.
pub fn selecting(namespace: &str, name: &str, group: &str) -> Value {
    let port = json!({ "name": "http", "port": 80, "protocol": "TCP" });
    service(namespace, name, &json!({ "selector": { "group": group }, "ports": [port] }))
}

/// The same without an address of its own.
pub fn headless(namespace: &str, name: &str, group: &str) -> Value {
    let mut service = selecting(namespace, name, group);
    service["spec"]["clusterIP"] = json!("None");
    service
}

/// A ready Pod of a group. There is no kubelet: its status is what stands here.
pub fn pod(namespace: &str, name: &str, group: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace, "labels": { "group": group } },
        "spec": { "nodeName": NODE, "containers": [{ "name": "c", "image": "i" }] },
        "status": {
            "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    })
}

/// The same Pod with the hostname that is its name, below a headless Service.
pub fn pod_below(
    namespace: &str,
    name: &str,
    subdomain: &str,
    group: &str,
    address: &str,
) -> Value {
    let mut pod = pod(namespace, name, group, address);
    pod["spec"]["hostname"] = json!(name);
    pod["spec"]["subdomain"] = json!(subdomain);
    pod
}

/// The first cluster IP of a Service as the API server keeps it.
pub fn cluster_ip(service: &Value) -> String {
    let address = service["spec"]["clusterIP"].as_str();
    address.unwrap_or_else(|| panic!("{service} has no cluster IP")).to_owned()
}

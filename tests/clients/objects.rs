//! What the cluster has: the Services that applications look up.

use serde_json::{Value, json};

use crate::kubeapi::Kubeapi;

/// How many Services `s0`, `s1`, … there are, so that no application's own cache has them all.
const MANY: usize = 200;

/// Creates all of them.
pub fn create(admin: &Kubeapi) {
    admin.create(&json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" }
    }));
    for name in ["web", "api"] {
        admin.create(&service(name));
    }
    (0..MANY).for_each(|number| drop(admin.create(&service(&format!("s{number}")))));
    let mut headless = service("db");
    headless["spec"]["clusterIP"] = json!("None");
    admin.create(&headless);
    admin.create(&endpoints("db"));
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "shop" },
        "spec": { "ports": [{ "name": "http", "port": 80 }] },
    })
}

fn endpoints(service: &str) -> Value {
    let addresses = ["10.244.100.1", "10.244.100.2", "10.244.100.3"];
    let endpoints =
        addresses.map(|address| json!({ "addresses": [address], "conditions": { "ready": true } }));
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-1"), "namespace": "shop",
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{ "name": "http", "port": 80 }],
    })
}

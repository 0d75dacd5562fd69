//! What happens in the cluster is answered as soon as the watch tells of it.

use serde_json::json;

use crate::asker::{ask, until};
use crate::kubeapi::Kubeapi;
use crate::{World, measured};

const SERVICES: &str = "/api/v1/namespaces/shop/services";
const PODS: &str = "/api/v1/namespaces/shop/pods";

pub fn reach_the_answers(world: &mut World) {
    let (api, port) = (&world.api, world.live.ports.dns);
    readiness(api, port);
    scale(api, port);
    a_service_after_a_negative_answer(api, port);
    another_cluster_ip(api, port);
    an_alias_becomes_a_service(api, port);
    a_namespace_goes(api, port);
}

fn readiness(api: &Kubeapi, port: u16) {
    let set = |status: &str| {
        let conditions = json!([{ "type": "Ready", "status": status }]);
        api.patch(
            &format!("{PODS}/db-1/status"),
            &json!({ "status": { "conditions": conditions } }),
        );
    };
    set("False");
    measured("Pod not ready to answer", until(port, "db.shop.svc A", "NOERROR 10.244.1.21"));
    assert_eq!(ask(port, "db-1.db.shop.svc A"), "NXDOMAIN");
    set("True");
    let both = "NOERROR 10.244.1.21 10.244.1.22";
    measured("Pod ready to answer", until(port, "db.shop.svc A", both));
    assert_eq!(ask(port, "db-1.db.shop.svc A"), "NOERROR 10.244.1.22");
}

fn scale(api: &Kubeapi, port: u16) {
    let pod = api.apply(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": "db-2", "namespace": "shop", "labels": { "app": "db" } },
        "spec": {
            "nodeName": "n1", "hostname": "db-2", "subdomain": "db",
            "containers": [{ "name": "c", "image": "i" }],
        },
    }));
    // The controller tells when an endpoint changed by this time of its Pod.
    let since = &pod["metadata"]["creationTimestamp"];
    let ready = json!([{ "type": "Ready", "status": "True", "lastTransitionTime": since }]);
    let addresses = json!([{ "ip": "10.244.1.23" }]);
    let status = json!({
        "phase": "Running", "podIP": "10.244.1.23", "podIPs": addresses, "conditions": ready,
    });
    api.patch(&format!("{PODS}/db-2/status"), &json!({ "status": status }));
    let three = "NOERROR 10.244.1.21 10.244.1.22 10.244.1.23";
    measured("Pod added to answer", until(port, "db.shop.svc A", three));
    api.delete(&format!("{PODS}/db-2"));
    let two = "NOERROR 10.244.1.21 10.244.1.22";
    measured("Pod deleted to answer", until(port, "db.shop.svc A", two));
    assert_eq!(ask(port, "db-2.db.shop.svc A"), "NXDOMAIN");
}

/// No client has to wait for the end of a negative answer of ours.
fn a_service_after_a_negative_answer(api: &Kubeapi, port: u16) {
    let mut took = Vec::new();
    for number in 1..=10 {
        let question = format!("late-{number}.shop.svc A");
        assert_eq!(ask(port, &question), "NXDOMAIN");
        let address = format!("10.96.110.{number}");
        create(api, &format!("late-{number}"), &address);
        took.push(until(port, &question, &format!("NOERROR {address}")));
    }
    took.sort();
    measured("Service created to answer, slowest of ten", took.last());
    measured("Service created to answer, median of ten", took[took.len() / 2]);
}

fn another_cluster_ip(api: &Kubeapi, port: u16) {
    api.delete(&format!("{SERVICES}/late-1"));
    measured("Service deleted to answer", until(port, "late-1.shop.svc A", "NXDOMAIN"));
    create(api, "late-1", "10.96.111.1");
    until(port, "late-1.shop.svc A", "NOERROR 10.96.111.1");
    let pointer = |address: &str| ask(port, &format!("{address}.in-addr.arpa. PTR"));
    assert_eq!(pointer("1.111.96.10"), "NOERROR late-1.shop.svc.cluster.local.");
    assert_eq!(pointer("1.110.96.10"), "NXDOMAIN", "the old address is nobody's");
}

fn an_alias_becomes_a_service(api: &Kubeapi, port: u16) {
    let alias = json!({ "type": "ExternalName", "externalName": "old.example.com" });
    api.apply(&service("moving", &alias));
    until(port, "moving.shop.svc CNAME", "NOERROR old.example.com.");
    let change = json!({ "spec": {
        "type": "ClusterIP", "externalName": null, "clusterIP": "10.96.112.1",
        "ports": [{ "port": 80 }],
    } });
    api.patch(&format!("{SERVICES}/moving"), &change);
    until(port, "moving.shop.svc A", "NOERROR 10.96.112.1");
    assert_eq!(ask(port, "moving.shop.svc CNAME"), "NOERROR");
}

fn a_namespace_goes(api: &Kubeapi, port: u16) {
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "brief" } });
    api.apply(&namespace);
    let mut inside =
        service("web", &json!({ "clusterIP": "10.96.113.1", "ports": [{ "port": 80 }] }));
    inside["metadata"]["namespace"] = json!("brief");
    api.apply(&inside);
    until(port, "web.brief.svc A", "NOERROR 10.96.113.1");
    assert_eq!(ask(port, "10-1-1-1.brief.pod A"), "NOERROR 10.1.1.1");
    api.delete("/api/v1/namespaces/brief");
    until(port, "web.brief.svc A", "NXDOMAIN");
    // The Namespace itself goes seconds after its content.
    until(port, "brief.svc A", "NXDOMAIN");
    assert_eq!(ask(port, "10-1-1-1.brief.pod A"), "NXDOMAIN");
}

/// Creates a Service with this address.
pub fn create(api: &Kubeapi, name: &str, address: &str) {
    api.apply(&service(name, &json!({ "clusterIP": address, "ports": [{ "port": 80 }] })));
}

fn service(name: &str, spec: &serde_json::Value) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": name, "namespace": "shop" }, "spec": spec,
    })
}

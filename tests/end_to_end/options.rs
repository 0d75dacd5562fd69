//! Options that choose what is watched: labels, Pods and the Services of a cluster set, with rights
//! that come late and a CustomResourceDefinition that does not come.

use crate::asker::{ask, eventually, until};
use crate::kubeapi::documents;
use crate::server::{Ports, Server};
use crate::{World, measured};

/// Two of everything: one with the labels, and one without.
const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: chosen, labels: {team: web}}
---
apiVersion: v1
kind: Service
metadata: {name: kept, namespace: chosen, labels: {app: web}}
spec: {clusterIP: 10.96.131.1, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: dropped, namespace: chosen, labels: {app: db}}
spec: {clusterIP: 10.96.131.2, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: runs, namespace: chosen, labels: {app: web}}
spec: {nodeName: n1, containers: [{name: c, image: i}]}
status: {phase: Running, podIP: 10.244.9.1, podIPs: [{ip: 10.244.9.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: ended, namespace: chosen, labels: {app: web}}
spec: {nodeName: n1, containers: [{name: c, image: i}]}
status: {phase: Succeeded, podIP: 10.244.9.2, podIPs: [{ip: 10.244.9.2}]}
";

/// The rights that the options need besides.
const RIGHTS: [&str; 2] = [
    include_str!("../../deploy/kustomize/components/pods-verified/rbac.yaml"),
    include_str!("../../deploy/kustomize/components/multicluster/rbac.yaml"),
];

pub fn choose_what_is_watched(world: &mut World) {
    world.api.apply_all(OBJECTS);
    let server = start(world);
    eventually(|| match server.ready() {
        200 => Ok(()),
        status => Err(format!("/ready is {status}")),
    });
    let port = server.ports.dns;
    for (question, answer) in [
        ("kept.chosen.svc A", "NOERROR 10.96.131.1"),
        ("dropped.chosen.svc A", "NXDOMAIN"),
        ("web.shop.svc A", "NXDOMAIN"),
        ("10-244-9-1.chosen.pod A", "SERVFAIL"),
        ("kept.chosen.svc.clusterset.local. A", "SERVFAIL"),
    ] {
        assert_eq!(ask(port, question), answer, "{question}");
    }
    check_complaints(&server, &["resource pods of", "resource serviceimports of"]);

    RIGHTS.iter().for_each(|rights| world.api.apply_all(rights));
    let took = eventually(|| match ask(port, "10-244-9-1.chosen.pod A") {
        answer if answer == "NOERROR 10.244.9.1" => Ok(()),
        answer => Err(answer),
    });
    measured("rights given to Pods known", took);
    assert_eq!(ask(port, "10-244-9-2.chosen.pod A"), "NXDOMAIN", "it has ended");
    until(port, "kept.chosen.svc.clusterset.local. A", "NXDOMAIN");
    let crd = "install the CustomResourceDefinition serviceimports.multicluster.x-k8s.io";
    check_complaints(&server, &["resource pods of", "resource serviceimports of", crd]);
    take_rights_back(world);
}

/// A server with the rights of the base, and options that want more.
fn start(world: &World) -> Server {
    let ports = Ports::free();
    let corefile = ports.kubeadm(&world.source(), &world.upstream());
    let options =
        "pods verified\n       labels app=web\n       namespace_labels team in (web, shop)
       multicluster clusterset.local";
    let corefile = corefile
        .replace("pods insecure", options)
        .replace("kubernetes cluster.local", "kubernetes cluster.local clusterset.local");
    Server::start("options", ports, &corefile)
}

/// Checks that there is one line for each, in any order, and no other.
fn check_complaints(server: &Server, expected: &[&str]) {
    let lines = server.complaints();
    let is_told = |part: &&&str| lines.iter().filter(|line| line.contains(**part)).count() == 1;
    let told = expected.iter().filter(is_told).count();
    assert_eq!((told, lines.len()), (expected.len(), expected.len()), "{lines:#?}");
}

fn take_rights_back(world: &World) {
    for object in RIGHTS.iter().flat_map(|rights| documents(rights)) {
        let kind = object["kind"].as_str().unwrap().to_lowercase();
        let name = object["metadata"]["name"].as_str().unwrap();
        world.api.delete(&format!("/apis/rbac.authorization.k8s.io/v1/{kind}s/{name}"));
    }
}

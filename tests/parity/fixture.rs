//! The cluster that both servers watch: every kind of Service, slice, Pod and import.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::objects::{alias, headless, import, imported, labelled, namespace, pod, service, slice};

/// Where the targets of aliases are that are not in the cluster. The upstream knows three of them.
pub const OUTSIDE: [&str; 5] = [
    "www.example.org",
    "alias.example.org",
    "gone.example.org",
    "broken.example.org",
    "empty.example.org",
];

/// Names with so many records that it matters how much of them fits.
pub const LARGE: [&str; 2] = ["many.peers.svc.cluster.local", "some.peers.svc.cluster.local"];

/// What multicluster needs of a ServiceImport, in the words of its specification (KEP-1645).
pub fn definition() -> Value {
    let schema = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "serviceimports.multicluster.x-k8s.io", "annotations": {
            // Groups of Kubernetes may only be defined with the word of its reviewers.
            "api-approved.kubernetes.io": "unapproved, for a test",
        } },
        "spec": {
            "group": "multicluster.x-k8s.io", "scope": "Namespaced",
            "names": { "kind": "ServiceImport", "listKind": "ServiceImportList",
                "plural": "serviceimports", "singular": "serviceimport" },
            "versions": [{ "name": "v1alpha1", "served": true, "storage": true,
                "subresources": { "status": {} }, "schema": { "openAPIV3Schema": schema } }],
        },
    })
}

/// All objects, in the order in which they are created.
pub fn objects() -> Vec<Value> {
    let mut all: Vec<Value> =
        ["shop", "staging", "empty", "peers", "h0", "h1", "h2", "h3"].map(namespace).into();
    all.extend(services());
    all.extend(headless_services());
    all.extend(aliases());
    all.extend(pods());
    all.extend(imports());
    all
}

/// Services whose endpoint is this host, as that of a DNS server in the cluster is: with cluster
/// IPs, and without.
pub fn own_services(own: &Ipv4Addr) -> [Vec<Value>; 2] {
    let (own, ports) = (format!("{own} hostname=me"), &["dns/UDP/53", "dns-tcp/TCP/53"]);
    [
        vec![
            service("shop/own", &["10.96.100.200", "fd00:10:96::c8"], ports),
            slice("shop/own-1", "own", ports, &[&own, "10.244.7.1"]),
        ],
        vec![
            headless("shop/own-less", ports),
            slice("shop/own-less-1", "own-less", ports, &[&own]),
        ],
    ]
}

/// Services with cluster IPs, with endpoints and without.
fn services() -> Vec<Value> {
    let web = &["http/TCP/80", "https/TCP/443"];
    let dns = &["dns/UDP/53", "dns-tcp/TCP/53", "metrics/TCP/9153"];
    let mut balanced = service("shop/lb", &["10.96.100.5"], &["https/TCP/443"]);
    balanced["spec"]["type"] = json!("LoadBalancer");
    let mut node = service("shop/node", &["10.96.100.4"], &["/TCP/8080"]);
    node["spec"]["type"] = json!("NodePort");
    vec![
        service("shop/web", &["10.96.100.1"], web),
        slice(
            "shop/web-1",
            "web",
            &["http/TCP/8080", "https/TCP/8443"],
            &[
                "10.244.1.11 pod=web-7d4f-x zone=eu-west-1a ready=true",
                "10.244.1.12 pod=web-7d4f-y zone=eu-west-1b ready=false",
            ],
        ),
        service("shop/dual", &["10.96.100.2", "fd00:10:96::a02"], dns),
        slice("shop/dual-4", "dual", &["dns/UDP/53"], &["10.244.1.21"]),
        slice("shop/dual-6", "dual", &["dns/UDP/53"], &["fd00:10:244::21 hostname=six"]),
        service("shop/six-first", &["fd00:10:96::a03", "10.96.100.6"], &["x/SCTP/132"]),
        service("staging/six", &["fd00:10:96::b01"], &["/TCP/80"]),
        service("staging/web", &["10.96.101.1"], &["http/TCP/80"]),
        service("shop/plain", &["10.96.100.3"], &["/TCP/8000"]),
        node,
        balanced,
        service("shop/both", &["10.96.100.7"], &["a/TCP/53", "b/UDP/53", "c/SCTP/53"]),
        // Nobody behind it; only not ready ones; a slice that says nothing of readiness.
        service("shop/idle", &["10.96.100.8"], &["http/TCP/80"]),
        service("shop/waking", &["10.96.100.9"], &["http/TCP/80"]),
        slice("shop/waking-1", "waking", &["http/TCP/80"], &["10.244.1.31 ready=false"]),
        service("shop/silent", &["10.96.100.10"], &["http/TCP/80"]),
        slice("shop/silent-1", "silent", &["http/TCP/80"], &["10.244.1.32 ready=null"]),
        // Two Services lead to one address; a third one by its dashed name.
        service("shop/twin-a", &["10.96.100.11"], &["http/TCP/80"]),
        service("shop/twin-b", &["10.96.100.12"], &["http/TCP/80"]),
        slice("shop/twin-a-1", "twin-a", &["http/TCP/80"], &["10.244.1.40"]),
        slice("shop/twin-b-1", "twin-b", &["http/TCP/80"], &["10.244.1.40 hostname=twin"]),
        slice("shop/twin-c-1", "db", &["sql/TCP/5432"], &["10.244.1.40 hostname=db-9"]),
        // An endpoint with the address of a Service: the PTR is that of the Service.
        slice("shop/odd-1", "idle-not", &["http/TCP/80"], &["10.96.100.3"]),
        // A slice whose Service does not exist, and one of no Service.
        slice("shop/orphan-1", "orphan", &["http/TCP/80"], &["10.244.1.41 hostname=lost"]),
        labelled("shop/nobody-1", json!({}), &["http/TCP/80"], &["10.244.1.42"]),
    ]
}

fn headless_services() -> Vec<Value> {
    let sql = &["sql/TCP/5432"];
    let many: Vec<String> = (1..=40).map(|n| format!("10.244.9.{n} pod=many-{n}")).collect();
    let some: Vec<String> = (1..=25).map(|n| format!("10.244.8.{n} hostname=some-{n}")).collect();
    let some: Vec<&str> = some.iter().map(String::as_str).collect();
    let many_6: Vec<String> =
        (1..=40).map(|n| format!("fd00:10:244::9:{n:x} hostname=many-{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let many_6: Vec<&str> = many_6.iter().map(String::as_str).collect();
    vec![
        headless("shop/db", sql),
        slice(
            "shop/db-1",
            "db",
            sql,
            &[
                "10.244.2.1 hostname=db-0 pod=db-0 zone=eu-west-1a ready=true serving=true",
                "10.244.2.2 hostname=db-1 pod=db-1 zone=EU.West-1B ready=true",
                "10.244.2.3 hostname=db-2 pod=db-2 zone=eu-west-1c ready=false serving=true terminating",
                "10.244.2.4 zone=EU.West-1B ready=true terminating",
            ],
        ),
        // What another slice says too, and with a second port.
        slice(
            "shop/db-2",
            "db",
            &["sql/TCP/5432", "admin/TCP/8000"],
            &[
                "10.244.2.1 hostname=db-0 zone=eu-west-1a",
                "10.244.2.5 hostname=db-0 zone=eu-west-1a",
            ],
        ),
        slice(
            "shop/db-6",
            "db",
            sql,
            &["fd00:10:244::201 hostname=db-0 zone=eu-west-1a", "fd00:10:244::202 zone=eu-west-1c"],
        ),
        headless("shop/portless", &[]),
        slice("shop/portless-1", "portless", &[], &["10.244.2.20 hostname=p-0", "10.244.2.21"]),
        // One slice has no ports, the other has.
        headless("shop/mixed", &["http/TCP/80"]),
        slice("shop/mixed-1", "mixed", &[], &["10.244.2.30 hostname=none"]),
        slice("shop/mixed-2", "mixed", &["http/TCP/80"], &["10.244.2.31 hostname=some"]),
        headless("shop/asleep", sql),
        slice("shop/asleep-1", "asleep", sql, &["10.244.2.40 hostname=z ready=false"]),
        headless("shop/void", sql),
        headless("shop/four", &["a/UDP/1", "b/TCP/1", "c/TCP/2"]),
        slice(
            "shop/four-1",
            "four",
            &["a/UDP/1", "b/TCP/1", "/TCP/2"],
            &["10.244.2.50 pod=four-0", "10.244.2.51 pod=four-1 hostname=four"],
        ),
        headless("shop/six-only", &["http/TCP/80"]),
        slice(
            "shop/six-only-1",
            "six-only",
            &["http/TCP/80"],
            &[
                "fd00:10:244::",
                "fd00:10:244::ffff pod=a-name-that-is-longer-than-a-label-of-a-domain-name-may-be-and-so-not-used",
            ],
        ),
        // Large replies: some fit into 4096 octets, but not into 1232.
        headless("peers/some", &["gossip/TCP/7946"]),
        slice("peers/some", "some", &["gossip/TCP/7946"], &some),
        headless("peers/many", &["gossip/TCP/7946", "gossip-udp/UDP/7946"]),
        slice("peers/many-4", "many", &["gossip/TCP/7946", "gossip-udp/UDP/7946"], &many),
        slice("peers/many-6", "many", &["gossip/TCP/7946"], &many_6),
    ]
}

fn aliases() -> Vec<Value> {
    let mut all = vec![
        alias("shop/to-web", "web.shop.svc.cluster.local"),
        alias("shop/to-dual", "dual.shop.svc.cluster.local"),
        alias("shop/to-db", "db.shop.svc.cluster.local"),
        alias("shop/to-db-0", "db-0.db.shop.svc.cluster.local"),
        alias("shop/to-nothing", "nothing.shop.svc.cluster.local"),
        alias("shop/to-nowhere", "web.nowhere.svc.cluster.local"),
        alias("shop/to-namespace", "shop.svc.cluster.local"),
        alias("shop/to-apex", "cluster.local"),
        alias("shop/to-void", "void.shop.svc.cluster.local"),
        alias("shop/to-pod", "10-244-3-1.shop.pod.cluster.local"),
        alias("shop/to-version", "dns-version.cluster.local"),
        alias("shop/to-clusterset", "web.shop.svc.clusterset.local"),
        alias("shop/to-reverse", "1.100.96.10.in-addr.arpa"),
        alias("shop/to-itself", "to-itself.shop.svc.cluster.local"),
        alias("shop/to-below", "x.to-below.shop.svc.cluster.local"),
        alias("shop/ring-a", "ring-b.shop.svc.cluster.local"),
        alias("shop/ring-b", "ring-c.shop.svc.cluster.local"),
        alias("shop/ring-c", "ring-a.shop.svc.cluster.local"),
        alias("shop/to-address", "192.0.2.7"),
        alias("shop/to-dot", "www.example.org."),
        alias("staging/hop-0", "web.shop.svc.cluster.local"),
    ];
    // Chains of up to twelve aliases: the limit is between.
    all.extend((1..=12).map(|n| {
        let target = format!("hop-{}.staging.svc.cluster.local", n - 1);
        alias(&format!("staging/hop-{n}"), &target)
    }));
    all.extend(OUTSIDE.iter().map(|target| {
        let name = target.split('.').next().unwrap();
        alias(&format!("shop/out-{name}"), target)
    }));
    all
}

fn pods() -> Vec<Value> {
    vec![
        pod("shop/runner", &["10.244.3.1", "fd00:10:244::301"], "Running"),
        pod("shop/second", &["fd00:10:244::302", "10.244.3.2"], "Running"),
        pod("shop/waiting", &[], "Pending"),
        pod("shop/starting", &["10.244.3.3"], "Pending"),
        pod("shop/finished", &["10.244.3.4"], "Succeeded"),
        pod("shop/crashed", &["10.244.3.5"], "Failed"),
        pod("staging/runner", &["10.244.3.1"], "Running"),
        pod("shop/twin", &["10.244.3.1"], "Running"),
    ]
}

fn imports() -> Vec<Value> {
    vec![
        import("shop/web", &["10.97.0.1"], &["http/TCP/80", "https/TCP/443"]),
        imported("shop/mc-web-1", "web", "east", &["http/TCP/8080"], &["10.245.1.1 hostname=w"]),
        import("shop/dual", &["10.97.0.2", "fd00:10:97::2"], &["/UDP/53"]),
        import("shop/no-ports", &["10.97.0.3"], &[]),
        import("shop/db", &[], &["sql/TCP/5432"]),
        imported(
            "shop/mc-db-1",
            "db",
            "east",
            &["sql/TCP/5432"],
            &["10.245.2.1 hostname=db-0 pod=db-0", "10.245.2.2 pod=db-1", "10.245.2.3 ready=false"],
        ),
        imported("shop/mc-db-2", "db", "West", &["sql/TCP/5432"], &["10.245.3.1 hostname=db-0"]),
        imported("shop/mc-db-6", "db", "west", &["sql/TCP/5432"], &["fd00:10:245::1"]),
        import("shop/db-idle", &[], &["sql/TCP/5432"]),
        imported("shop/mc-orphan", "mc-orphan", "east", &["sql/TCP/5432"], &["10.245.4.1"]),
        // A slice of both kinds.
        labelled(
            "shop/mc-both",
            json!({
                crate::objects::SERVICE_LABEL: "four", crate::objects::IMPORT_LABEL: "db",
                crate::objects::CLUSTER_LABEL: "north",
            }),
            &["sql/TCP/5432"],
            &["10.245.5.1 hostname=both"],
        ),
        import("staging/lonely", &["10.97.0.4"], &["http/TCP/80"]),
    ]
}

//! As many Services as Kubernetes supports in one cluster: programs find each of them at its
//! address, `getent` and `dig` each twentieth.
//!
//! The API server creates a tenth of them and finds the others in its store, as after a restore of
//! etcd: it counts all addresses each time that it gives one away, so its time grows with the
//! square of their number. On 2026-11-22 it created 10 000 in 223 s, on a machine of two busy
//! cores, over eight connections.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::clients::Client;
use crate::control_plane::ADMIN;
use crate::kubeapi::Kubeapi;
use crate::sandbox::Network;
use crate::{NAMESPACE, World, etcd, measured, objects};

/// What Kubernetes promises to hold.
const SERVICES: usize = 10_000;
/// In as many Namespaces as that takes, at 5 000 each.
const NAMESPACES: [&str; 2] = ["performancedns-0", "performancedns-1"];
/// Those that the API server creates.
const CREATED: usize = SERVICES / 10;
/// Connections that it is asked over.
const CREATORS: usize = 8;
/// `getent` and `dig` ask for each of so many.
const EVERY: usize = 20;
/// Behind this one come the addresses of those that it does not create.
const BEFORE_FIRST: Ipv4Addr = Ipv4Addr::new(10, 96, 128, 0);

/// Cluster IPs by name in full.
type Named = BTreeMap<String, String>;

pub fn ten_thousand_services(world: &World) {
    for namespace in NAMESPACES {
        world.api.apply(&objects::namespace(namespace));
    }
    let begun = Instant::now();
    create(world);
    measured("1 000 Services created", begun.elapsed());
    let begun = Instant::now();
    let all: Vec<_> = (CREATED..SERVICES).flat_map(|i| [service(i), address(i)]).collect();
    etcd::put(world.plane.etcd_port, &all);
    measured("9 000 Services restored", begun.elapsed());
    one_more(world);
    check(world);
}

/// Asks for Services by what the API server says of them.
fn check(world: &World) {
    let all = addresses(world);
    for client in [Client::Glibc, Client::Musl] {
        by_program(world, client, &all);
    }
    let sampled: Named = all.into_iter().step_by(EVERY).collect();
    by_program(world, Client::Getent, &sampled);
    for transport in ["+notcp", "+tcp"] {
        by_dig(world, transport, &sampled);
    }
}

/// All Services as the API server has them.
fn addresses(world: &World) -> Named {
    let mut named = Named::new();
    for namespace in NAMESPACES {
        let list = world.api.read(&format!("/api/v1/namespaces/{namespace}/services")).unwrap();
        for service in list["items"].as_array().unwrap() {
            let name = service["metadata"]["name"].as_str().unwrap();
            let full = format!("{name}.{namespace}.svc.cluster.local");
            named.insert(full, objects::cluster_ip(service));
        }
    }
    assert_eq!(named.len(), SERVICES);
    named
}

fn by_program(world: &World, client: Client, sampled: &Named) {
    let names: Vec<&str> = sampled.keys().map(|name| &**name).collect();
    let begun = Instant::now();
    let found = world.programs.find(client, &world.sandbox, Network::Pod, &names);
    measured(&format!("{} names by {client:?}", names.len()), begun.elapsed());
    assert_eq!(found.len(), sampled.len(), "by {client:?}");
    for ((name, address), found) in sampled.iter().zip(found) {
        assert_eq!(found.addresses, [address.parse::<Ipv4Addr>().unwrap()], "{name} by {client:?}");
    }
}

/// One `dig` for all names: it prints one address per line, in the order of the names.
fn by_dig(world: &World, transport: &str, sampled: &Named) {
    let mut words = vec!["+search", "+short", "+tries=1", "+time=10", transport];
    words.extend(sampled.keys().flat_map(|name| [&**name, "A"]));
    let output = world.sandbox.run(Network::Pod, Path::new("dig"), &words);
    let expected: Vec<&str> = sampled.values().map(|address| &**address).collect();
    assert_eq!(output.lines().collect::<Vec<_>>(), expected, "dig {transport}");
}

/// Beside so many, one that the API server creates is found as ever; and as a watch keeps the order
/// of changes, all before it have arrived.
fn one_more(world: &World) {
    let spec = json!({ "ports": [{ "port": 80 }] });
    let service = world.api.create(&objects::service(NAMESPACE, "one-more", &spec));
    world.finds("one-more", &[&objects::cluster_ip(&service)]);
}

/// Has the API server create the first ones.
fn create(world: &World) {
    let kubeconfig = world.plane.kubeconfig("creator", ADMIN);
    let create = |first: usize| {
        let api = Kubeapi::new(&kubeconfig);
        let spec = json!({ "ports": [{ "port": 80 }] });
        for number in (first..CREATED).step_by(CREATORS) {
            let (namespace, name) = identity(number);
            api.create(&objects::service(namespace, &name, &spec));
        }
    };
    let create = &create;
    std::thread::scope(|scope| {
        for first in 0..CREATORS {
            scope.spawn(move || create(first));
        }
    });
}

fn identity(number: usize) -> (&'static str, String) {
    (NAMESPACES[number % NAMESPACES.len()], format!("svc-{number}"))
}

/// The address of one that is restored.
fn restored(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(BEFORE_FIRST.to_bits() + 1 + number as u32)
}

/// A Service as the API server would have kept it, with its key.
fn service(number: usize) -> (String, Value) {
    let (namespace, name) = identity(number);
    let ip = restored(number);
    let mut object = objects::service(
        namespace,
        &name,
        &json!({
            "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip],
            "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
            "ports": [{ "port": 80, "protocol": "TCP", "targetPort": 80 }],
        }),
    );
    object["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{number:012}"));
    object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    (format!("/registry/services/specs/{namespace}/{name}"), object)
}

/// The record that its address is taken, without which the API server would write one.
fn address(number: usize) -> (String, Value) {
    let (namespace, name) = identity(number);
    let ip = restored(number);
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": ip, "creationTimestamp": "2026-01-01T00:00:00Z",
            "uid": format!("00000000-0000-4000-8001-{number:012}"),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": "IPv4",
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
            },
        },
        "spec": { "parentRef": {
            "group": "", "resource": "services", "namespace": namespace, "name": name,
        } },
    });
    (format!("/registry/ipaddresses/{ip}"), object)
}

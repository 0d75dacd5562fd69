//! Names of Services: in full, in part, from the host, and with a digit in front.

use serde_json::json;

use crate::clients::{self, Client};
use crate::dig::Over;
use crate::sandbox::Network;
use crate::{NAMESPACE, World, objects, upstream};

const HEADLESS: &str = "dns-test-service";
const REGULAR: &str = "test-service-2";
/// The Pods behind both.
const GROUP: &str = "dns-test";
const PODS: [&str; 2] = ["10.244.2.11", "10.244.2.12"];

/// The API server's own Service has its name.
pub fn of_the_cluster(world: &World) {
    world.finds("kubernetes.default.svc.cluster.local", &[&kubernetes(world)]);
}

/// And so it has from inside of every Namespace.
pub fn partial_of_the_cluster(world: &World) {
    partial(world, &clients::ALL);
}

/// As [`partial_of_the_cluster`], for these clients.
pub fn partial(world: &World, by: &[Client]) {
    for name in ["kubernetes.default", "kubernetes.default.svc"] {
        world.finds_in(Network::Pod, by, name, &[&kubernetes(world)]);
    }
}

fn kubernetes(world: &World) -> String {
    objects::cluster_ip(&world.api.read("/api/v1/namespaces/default/services/kubernetes").unwrap())
}

/// What the cluster does not have is asked of others, behind the whole search list.
pub fn outside(world: &World) {
    let address = upstream::ADDRESS.to_string();
    for name in ["example.org", "www.example.org", "www.example.org."] {
        world.finds(name, &[&address]);
    }
    for name in ["gone", "gone.default", "www.example.net"] {
        world.finds(name, &[]);
    }
}

/// A headless Service has the addresses of its Pods, another one its own; both have their ports,
/// and an address has its name.
pub fn of_services(world: &World) {
    world.api.apply(&objects::headless(NAMESPACE, HEADLESS, GROUP));
    world.api.apply(&objects::selecting(NAMESPACE, REGULAR, GROUP));
    for (number, address) in PODS.into_iter().enumerate() {
        world.api.apply(&objects::pod(NAMESPACE, &format!("dns-test-{number}"), GROUP, address));
    }
    let full = |name: &str| format!("{name}.{NAMESPACE}.svc.cluster.local");
    let regular = regular(world);
    world.finds(&full(HEADLESS), &PODS);
    world.finds(&full(REGULAR), &[&regular]);
    ports(world, |service| full(&format!("_http._tcp.{service}")));
    world.programs.find_name(&world.sandbox, &regular, &full(REGULAR));
}

/// A Pod needs to write no more than what tells a Service from others of its own Namespace.
pub fn partial_of_services(world: &World) {
    let regular = regular(world);
    for end in ["", &format!(".{NAMESPACE}"), &format!(".{NAMESPACE}.svc")] {
        world.finds(&format!("{HEADLESS}{end}"), &PODS);
        world.finds(&format!("{REGULAR}{end}"), &[&regular]);
    }
    ports(world, |service| format!("_http._tcp.{service}"));
    ports(world, |service| format!("_http._tcp.{service}.{NAMESPACE}"));
    ports(world, |service| format!("_http._tcp.{service}.{NAMESPACE}.svc"));
}

/// A Pod in the network of its node asks from another address, with the same resolv.conf.
pub fn from_the_host(world: &World) {
    for end in ["", &format!(".{NAMESPACE}"), &format!(".{NAMESPACE}.svc")] {
        world.finds_in(Network::Host, &clients::ALL, &format!("{HEADLESS}{end}"), &PODS);
    }
    for (service, answers) in [(HEADLESS, PODS.len()), (REGULAR, 1)] {
        let question = format!("_http._tcp.{service}.{NAMESPACE}.svc SRV");
        for over in [Over::Udp, Over::Tcp] {
            let reply = clients::ask(&world.sandbox, Network::Host, &question, over);
            assert_eq!(reply.status, "NOERROR", "{question} over {over:?}: {reply:?}");
            assert_eq!(reply.answer.len(), answers, "{question} over {over:?}: {reply:?}");
        }
    }
}

/// Kubernetes 1.36 lets them begin so; before, a feature gate does.
pub fn that_begin_with_a_digit(world: &World) {
    for name in ["1kubernetes", "007"] {
        let spec = json!({ "ports": [{ "port": 443 }] });
        let service = world.api.apply(&objects::service(NAMESPACE, name, &spec));
        let address = objects::cluster_ip(&service);
        world.finds(&format!("{name}.{NAMESPACE}.svc.cluster.local"), &[&address]);
        world.finds(&format!("{name}.{NAMESPACE}"), &[&address]);
    }
    let address = objects::cluster_ip(&read(world, "1kubernetes"));
    world.finds_in(Network::Pod, &clients::ALL, "1kubernetes", &[&address]);
    // A bare number is an address to getaddrinfo(3): it never asks.
    let address = objects::cluster_ip(&read(world, "007"));
    world.finds_in(Network::Pod, &[Client::Dig(Over::Tcp)], "007", &[&address]);
}

/// The ports of both Services, under a name made of the Service's.
fn ports(world: &World, name: impl Fn(&str) -> String) {
    let below = format!("{HEADLESS}.{NAMESPACE}.svc");
    let headless = PODS.map(|address| format!("SRV 0 50 80 {}.{below}", address.replace('.', "-")));
    world.answers(&format!("{} SRV", name(HEADLESS)), &format!("NOERROR, {}", headless.join(", ")));
    let regular = format!("NOERROR, SRV 0 100 80 {REGULAR}.{NAMESPACE}.svc");
    world.answers(&format!("{} SRV", name(REGULAR)), &regular);
}

fn regular(world: &World) -> String {
    objects::cluster_ip(&read(world, REGULAR))
}

fn read(world: &World, service: &str) -> serde_json::Value {
    world.api.read(&format!("/api/v1/namespaces/{NAMESPACE}/services/{service}")).unwrap()
}

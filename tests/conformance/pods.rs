//! Names of Pods: hostname, and subdomain, which is a headless Service.

use crate::{NAMESPACE, World, objects};

const SERVICE: &str = "dns-test-service-2";
const POD: &str = "dns-querier-2";
const ADDRESS: &str = "10.244.3.2";

/// A kubelet writes this name into the Pod's /etc/hosts; other Pods have it from DNS alone.
pub fn full_name(world: &World) {
    let (service, pod, address) = ("dns-test-service-1", "dns-querier-1", "10.244.3.1");
    world.api.apply(&objects::headless(NAMESPACE, service, "querier-1"));
    world.api.apply(&objects::pod_below(NAMESPACE, pod, service, "querier-1", address));
    let full = format!("{pod}.{service}.{NAMESPACE}.svc.cluster.local");
    world.finds(&full, &[address]);
    world.programs.find_name(&world.sandbox, address, &full);
}

/// A Pod with a hostname and a Service's name as subdomain has its own name below the Service.
pub fn by_hostname(world: &World) {
    world.api.apply(&objects::headless(NAMESPACE, SERVICE, "querier-2"));
    world.api.apply(&objects::pod_below(NAMESPACE, POD, SERVICE, "querier-2", ADDRESS));
    world.finds(&format!("{POD}.{SERVICE}.{NAMESPACE}.svc.cluster.local"), &[ADDRESS]);
    world.finds(&format!("{POD}.{SERVICE}"), &[ADDRESS]);
}

/// So does every Pod of the Service, which has the addresses of all. A Pod of another subdomain has
/// no name there.
pub fn by_subdomain(world: &World) {
    let (second, other) = ("10.244.3.3", "10.244.3.4");
    let pod = |name: &str, subdomain: &str, address: &str| {
        world.api.apply(&objects::pod_below(NAMESPACE, name, subdomain, "querier-2", address));
    };
    pod("dns-querier-3", SERVICE, second);
    pod("dns-querier-4", "elsewhere", other);
    let below = format!("{SERVICE}.{NAMESPACE}.svc.cluster.local");
    world.finds(&below, &[ADDRESS, second, other]);
    world.finds(&format!("{POD}.{below}"), &[ADDRESS]);
    world.finds(&format!("dns-querier-3.{below}"), &[second]);
    world.finds(&format!("dns-querier-4.{below}"), &[]);
}

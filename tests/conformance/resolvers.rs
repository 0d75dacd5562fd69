//! What a Pod may set of its resolver (`dnsPolicy`, `dnsConfig`), and that names are found with it.

use crate::clients::{self, Client};
use crate::dig::Over;
use crate::sandbox::{cluster_searches, resolv_conf};
use crate::server::{Ports, Server};
use crate::upstream::{self, Act, LoopbackUpstream};
use crate::{NAMESPACE, World, names, ready};

/// Another nameserver, which alone knows the name, one search path, and `ndots:2`.
pub fn of_ones_own(world: &World) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let all = |asked: &upstream::Asked| vec![Act::Send(upstream::good(&asked.packet))];
    let upstream = runtime.block_on(LoopbackUpstream::scripted(all));
    let _other = other_server(world, &upstream);
    let server = world.sandbox.servers[1];
    world.sandbox.configure(&resolv_conf(server, "resolv.conf.local", 2));
    let address = upstream::ADDRESS.to_string();
    world.finds("notexistname", &[&address]);
    // Fewer dots than `ndots`, so the search path comes first, and it is not the cluster's.
    world.finds("kubernetes.default", &[&address]);
    let asked = upstream.asked();
    assert!(!asked.is_empty());
    // The root is asked for by probes, which follow when a question had to wait.
    let is_probe = |packet: &[u8]| packet[12] == 0;
    let is_fine = |packet: &[u8]| is_probe(packet) || is_below_the_path(packet);
    assert!(asked.iter().all(|asked| is_fine(&asked.packet)), "{asked:?}");
    assert!(asked.iter().any(|asked| !is_probe(&asked.packet)), "nothing but probes came");
    world.sandbox.configure(&world.sandbox.cluster_first(NAMESPACE));
    // The server of the cluster does not know it.
    world.finds("notexistname", &[]);
}

/// Serves the zone of the search path and nothing else.
fn other_server(world: &World, upstream: &LoopbackUpstream) -> Server {
    let ports = Ports { dns: 53, ..Ports::free() };
    let corefile = format!(
        "resolv.conf.local:53 {{\n    forward . {}\n    ready 127.0.0.1:{}\n}}\n",
        upstream.address, ports.ready
    );
    let bind = format!("--bind={}", world.sandbox.servers[1]);
    let arguments = |path: &std::path::Path| vec!["-conf".into(), path.into(), bind.into()];
    let server = Server::start_with("another server", ports, &corefile, arguments);
    ready(&server);
    server
}

/// Whether a request asks for a name of the search path.
fn is_below_the_path(packet: &[u8]) -> bool {
    packet.windows(19).any(|octets| octets == b"\x06resolv\x04conf\x05local\x00")
}

/// Six more search paths and 256 characters, as kubelets allow since 1.26, behind those of the
/// cluster as a kubelet puts them. In front of them, each name is denied six times first.
pub fn many_search_paths(world: &World) {
    let cluster = cluster_searches(NAMESPACE).join(" ");
    let more: Vec<String> = (1..=6).map(|number| format!("{number:038}.k8s.io")).collect();
    let more = more.join(" ");
    assert!(more.len() > 256);
    world.sandbox.configure(&world.sandbox.resolv_conf(&format!("{cluster} {more}"), 5));
    names::partial(world, &WITHOUT_MUSL);
    world.sandbox.configure(&world.sandbox.resolv_conf(&format!("{more} {cluster}"), 5));
    names::partial(world, &GLIBC);
    // musl ignores a line of more than 255 octets, and dig what is behind eight paths.
    let five = "a.k8s.io b.k8s.io c.k8s.io d.k8s.io e.k8s.io";
    world.sandbox.configure(&world.sandbox.resolv_conf(&format!("{five} {cluster}"), 5));
    names::partial(world, &clients::ALL);
    world.sandbox.configure(&world.sandbox.cluster_first(NAMESPACE));
}

/// A name with an underscore, and the root, in the list: behind, as a kubelet puts them, and in
/// front.
pub fn odd_search_paths(world: &World) {
    let cluster = cluster_searches(NAMESPACE).join(" ");
    let (underscore, root) = ("_sip._tcp.abc_d.example.com", ".");
    for (searches, clients) in [
        (format!("{cluster} {root} {underscore}"), &clients::ALL[..]),
        (format!("{underscore} {cluster}"), &clients::ALL),
        // musl makes a name with an empty label of it, which is no question.
        (format!("{root} {underscore} {cluster}"), &WITHOUT_MUSL),
    ] {
        world.sandbox.configure(&world.sandbox.resolv_conf(&searches, 5));
        names::partial(world, clients);
    }
    world.sandbox.configure(&world.sandbox.cluster_first(NAMESPACE));
}

/// Those that read a search list of any length.
const GLIBC: [Client; 2] = [Client::Getent, Client::Glibc];
/// Those that read lines of any length, and the root as a search path.
const WITHOUT_MUSL: [Client; 4] =
    [Client::Getent, Client::Glibc, Client::Dig(Over::Udp), Client::Dig(Over::Tcp)];

//! The DNS tests of Kubernetes itself, in our words: a real API server, the real `mainstay`, and
//! clients in a Pod's sandbox: glibc, musl, `getent` and `dig`, each with the search list.
//!
//! One control plane and one sandbox serve all steps; README.md says which test of Kubernetes each
//! step stands for. Where namespaces, compilers or the control plane cannot be had, the test is
//! skipped, but not in CI.

#[allow(dead_code)] // Only what waits for a change.
#[path = "../support/asker.rs"]
mod asker;
#[path = "../support/control_plane.rs"]
#[allow(dead_code)] // Nothing dies here.
mod control_plane;
#[path = "../support/dig.rs"]
#[allow(dead_code)] // Questions go through the search list.
mod dig;
#[path = "../support/kubeapi.rs"]
mod kubeapi;
#[path = "../support/ports.rs"]
mod ports;
#[path = "../support/process.rs"]
#[allow(dead_code)]
mod process;
#[path = "../support/server.rs"]
#[allow(dead_code)] // No reload, no end.
mod server;
#[path = "../support/steps.rs"]
mod steps;
#[path = "../support/upstream.rs"]
mod upstream;

mod aliases;
mod clients;
mod etcd;
mod leftovers;
mod names;
mod objects;
mod pods;
mod resolvers;
mod sandbox;
mod scale;

use std::net::IpAddr;
use std::time::Duration;

use clients::{Client, Found, Programs};
use control_plane::ControlPlane;
use dig::Over;
use hickory_proto::op::Message;
use kubeapi::Kubeapi;
use sandbox::{Network, Sandbox};
use server::{Ports, Server};
use steps::{measured, step};
use tokio::runtime::Runtime;
use upstream::{Act, Asked, LoopbackUpstream};

/// What cargo calls this test.
const NAME: &str = "conformance";
/// Longest time for all steps. On 2026-11-22 they took 55 s on a machine of two busy cores.
const RUN_MAX: Duration = Duration::from_secs(20 * 60);
/// The Namespace of the Pod that asks.
const NAMESPACE: &str = "dns-4711";

/// What the steps share.
pub struct World {
    /// The server of the cluster, at the first address of the sandbox.
    pub live: Server,
    pub sandbox: Sandbox,
    pub programs: Programs,
    pub api: Kubeapi,
    pub plane: ControlPlane,
    /// Has an A record for every name that ends in one of [`OUTSIDE`].
    pub upstream: LoopbackUpstream,
    _runtime: Runtime,
}

/// Names that exist outside of the cluster, with all below them.
const OUTSIDE: [&str; 3] = ["example.org.", "foo.example.com.", "bar.example.com."];
/// What the upstream says of all others.
const NXDOMAIN: u8 = 3;

/// A name and what it does.
type Step = (&'static str, fn(&World));

const STEPS: [Step; 15] = [
    ("DNS for the cluster", names::of_the_cluster),
    ("partial names for the cluster", names::partial_of_the_cluster),
    ("names outside of the cluster", names::outside),
    ("DNS for Services", names::of_services),
    ("partial names for Services", names::partial_of_services),
    ("the same from the network of the host", names::from_the_host),
    ("the name that /etc/hosts of a Pod has", pods::full_name),
    ("DNS for Pods by hostname", pods::by_hostname),
    ("DNS for Pods by subdomain", pods::by_subdomain),
    ("DNS for ExternalName Services", aliases::change),
    ("a nameserver and a resolv.conf of one's own", resolvers::of_ones_own),
    ("more than six search paths", resolvers::many_search_paths),
    ("a search path with an underscore, and a dot", resolvers::odd_search_paths),
    ("a Service whose name begins with a digit", names::that_begin_with_a_digit),
    ("10 000 Services", scale::ten_thousand_services),
];

fn main() {
    if !steps::is_wanted(NAME) {
        return;
    }
    leftovers::mark();
    leftovers::remove();
    let Some((sandbox, programs, plane)) = steps::or_skipped(prepare()) else { return };
    leftovers::end_after(RUN_MAX);
    let world = step("a server on port 53 of the sandbox", || World::new(sandbox, programs, plane));
    for (name, run) in STEPS {
        step(name, || run(&world));
    }
    drop(world);
    println!("conformance: ok");
}

fn prepare() -> Result<(Sandbox, Programs, ControlPlane), String> {
    if !dig::is_here() {
        return Err("no dig; install bind9-dnsutils".to_owned());
    }
    let programs = Programs::compile()?;
    let sandbox = Sandbox::new()?;
    Ok((sandbox, programs, step("a control plane", ControlPlane::start)?))
}

impl World {
    fn new(sandbox: Sandbox, programs: Programs, plane: ControlPlane) -> Self {
        let api = plane.admin();
        api.apply(&objects::node());
        api.apply(&objects::namespace(NAMESPACE));
        let runtime = Runtime::new().unwrap();
        let upstream = runtime.block_on(LoopbackUpstream::scripted(answer));
        let ports = Ports { dns: 53, ..Ports::free() };
        let source =
            format!("kubeconfig {}", plane.kubeconfig("mainstay", control_plane::ADMIN).display());
        let corefile = ports.kubeadm(&source, &upstream.address.to_string());
        let bind = format!("--bind={}", sandbox.servers[0]);
        let live = Server::start_with("mainstay", ports, &corefile, |path| {
            vec!["-conf".into(), path.into(), bind.into()]
        });
        ready(&live);
        sandbox.configure(&sandbox.cluster_first(NAMESPACE));
        Self { live, sandbox, programs, api, plane, upstream, _runtime: runtime }
    }

    /// Waits until a name has these addresses; then every client must find them.
    pub fn finds(&self, name: &str, addresses: &[&str]) {
        self.finds_in(Network::Pod, &clients::ALL, name, addresses);
    }

    /// As [`World::finds`], for these clients in that network.
    pub fn finds_in(&self, network: Network, by: &[Client], name: &str, addresses: &[&str]) {
        let mut expected: Vec<IpAddr> =
            addresses.iter().map(|text| text.parse().unwrap()).collect();
        expected.sort();
        let find = |client| self.programs.find(client, &self.sandbox, network, &[name]).remove(0);
        asker::eventually(|| {
            let found = find(by[0]);
            is(&found, &expected)
                .then_some(())
                .ok_or(format!("{name}: {found:?}, not {expected:?}"))
        });
        for &client in by {
            let found = find(client);
            let who = format!("{name}, by {client:?} in {network:?}");
            assert!(is(&found, &expected), "{who}: {found:?}, not {expected:?}");
        }
    }

    /// Waits until `dig` with the search list answers so over UDP, and checks TCP: `NOERROR, A
    /// 10.96.0.1`, owners left out, names without the zone of the cluster.
    pub fn answers(&self, question: &str, expected: &str) {
        let ask = |over| {
            let reply = clients::ask(&self.sandbox, Network::Pod, question, over);
            let values = reply.answer.into_iter().map(|record| record.value);
            std::iter::once(reply.status).chain(values).collect::<Vec<_>>().join(", ")
        };
        asker::eventually(|| {
            let answer = ask(Over::Udp);
            let is_there = answer == expected;
            is_there.then_some(()).ok_or(format!("{question}: {answer}, not {expected}"))
        });
        assert_eq!(ask(Over::Tcp), expected, "{question} over TCP");
    }
}

/// Whether these addresses were found. None is what the server must have said: that nothing could
/// be found out is no answer.
fn is(found: &Found, expected: &[IpAddr]) -> bool {
    found.addresses == expected && found.failure.is_none()
}

/// Waits until a server may be asked.
pub fn ready(server: &Server) {
    let took = asker::eventually(|| match server.ready() {
        200 => Ok(()),
        status => Err(format!("/ready is {status}")),
    });
    measured("start to ready", took);
}

/// The script of the upstream.
fn answer(asked: &Asked) -> Vec<Act> {
    let name = Message::from_vec(&asked.packet).unwrap().queries[0].name().to_string();
    let exists = OUTSIDE.iter().any(|known| name.ends_with(known));
    let reply = match exists {
        true => upstream::good(&asked.packet),
        false => upstream::bare(&asked.packet, NXDOMAIN, true),
    };
    vec![Act::Send(reply)]
}

//! The real `mainstay`, watching a real API server, asked by the real `dig`.
//!
//! One control plane serves all steps. A step that fails ends the run, and shows the logs.
//! Where etcd, the API server or `dig` cannot be had, the test is skipped, but not in CI.

#[path = "../support/asker.rs"]
mod asker;
#[path = "../support/control_plane.rs"]
mod control_plane;
#[path = "../support/dig.rs"]
mod dig;
#[path = "../support/kubeapi.rs"]
mod kubeapi;
#[path = "../support/ports.rs"]
mod ports;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/server.rs"]
mod server;
#[path = "../support/steps.rs"]
mod steps;
#[path = "../support/upstream.rs"]
mod upstream;

mod changes;
mod manifests;
mod names;
mod options;
mod outage;
mod refusals;
mod reload;
mod rights;
mod scrape;
mod shutdown;

use std::path::PathBuf;

use control_plane::ControlPlane;
use kubeapi::Kubeapi;
use server::{Ports, Server};
pub use steps::measured;
use steps::step;
use tokio::runtime::Runtime;
use upstream::LoopbackUpstream;

/// What cargo calls this test.
const NAME: &str = "end_to_end";

/// What the steps share.
pub struct World {
    /// The server that most steps ask. Ended by the last one.
    pub live: Server,
    pub api: Kubeapi,
    pub plane: ControlPlane,
    /// Has an A record for every name outside of the cluster.
    pub upstream: LoopbackUpstream,
    /// With the rights of our ServiceAccount.
    pub kubeconfig: PathBuf,
    _runtime: Runtime,
}

/// A name and what it does.
type Step = (&'static str, fn(&mut World));

const STEPS: [Step; 12] = [
    ("names of every kind of Service", names::every_kind_of_service),
    ("names that do not exist", names::that_do_not_exist),
    ("changes reach the answers", changes::reach_the_answers),
    ("manifests answer as the API server does", manifests::answer_as_the_api_server_does),
    ("options of the kubernetes directive", options::choose_what_is_watched),
    ("metrics", scrape::moves),
    ("a reload loses nothing", reload::loses_nothing),
    ("a bad Corefile changes nothing", reload::of_a_bad_corefile_changes_nothing),
    ("an API server that is away", outage::freezes_the_answers),
    ("a start without an API server", outage::start_without_an_api_server),
    ("refusals", refusals::say_what_to_do),
    ("the end", shutdown::answers_to_the_end),
];

fn main() {
    if !steps::is_wanted(NAME) {
        return;
    }
    let Some(plane) = steps::or_skipped(prepare()) else { return };
    let mut world = step("rights of deploy/kustomize/base", || rights::first_server(plane));
    for (name, run) in STEPS {
        step(name, || run(&mut world));
    }
    println!("end to end: ok");
}

fn prepare() -> Result<ControlPlane, String> {
    if !dig::is_here() {
        return Err("no dig; install bind9-dnsutils".to_owned());
    }
    step("a control plane", ControlPlane::start)
}

/// Checks the answer to each question over both transports.
pub fn check_all(server: &Server, expected: &[(&str, &str)]) {
    for (question, answer) in expected {
        for over in [dig::Over::Udp, dig::Over::Tcp] {
            let reply = dig::ask(server.ports.dns, question, over);
            assert_eq!(reply.short(question), *answer, "{question} over {over:?}: {reply:#?}");
        }
    }
}

impl World {
    /// Another server with the Corefile of kubeadm and our rights.
    pub fn server(&self, name: &str) -> Server {
        let ports = Ports::free();
        Server::start(name, ports, &ports.kubeadm(&self.source(), &self.upstream()))
    }

    /// The line of the `kubernetes` directive that names the API server.
    pub fn source(&self) -> String {
        format!("kubeconfig {}", self.kubeconfig.display())
    }

    /// The upstream as `forward` takes it.
    pub fn upstream(&self) -> String {
        self.upstream.address.to_string()
    }
}

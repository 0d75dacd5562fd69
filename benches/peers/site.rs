//! A cluster, and the servers that answer for it.

use std::cell::RefCell;

use crate::World;
use crate::programs::{Peer, SERVER_CPU, Setting, coredns, mainstay};
use crate::questions::{Kind, cluster};
use crate::support::apiserver::ApiServer;
use crate::support::apiserver::objects::Cluster;
use crate::support::asker::ask_each;
use crate::support::packets::{Edns, Packets};

/// A cluster with its API server and Mainstay in front of it.
pub struct Site {
    /// Names of each kind that are asked for.
    pub names: usize,
    pub cluster: Cluster,
    pub api: RefCell<ApiServer>,
    pub setting: Setting,
    /// One for each binary.
    pub mainstays: Vec<Peer>,
}

/// Names that are asked for, and Services that there are. Half of these are headless, give or take
/// a few, so there are some more than twice the names.
const SIZES: [(usize, usize); 2] = [(1_000, 10_000), (100_000, 202_000)];
/// The CPU of the API server: that of the questions.
const API_CPU: usize = 1;

/// The sites that are needed.
///
/// # Errors
/// A server does not start, or answers wrongly.
pub fn start(world: &World) -> Result<Vec<Site>, String> {
    let wanted = SIZES.into_iter().filter(|(names, _)| world.options.wants_names(*names));
    wanted.map(|(names, services)| Site::start(world, names, services)).collect()
}

impl Site {
    fn start(world: &World, names: usize, services: usize) -> Result<Self, String> {
        eprintln!("a cluster of {services} Services");
        let cluster = cluster(services);
        let api = ApiServer::start(&cluster, API_CPU, 0);
        let setting = Setting {
            api: api.url(),
            upstream: world.upstream,
            cpus: SERVER_CPU,
            workers: None,
            // The stock Corefile, where it can hold the names.
            foreign_names: (names > 9_000).then_some(2 * names),
        };
        let mut site =
            Self { names, cluster, api: RefCell::new(api), setting, mainstays: Vec::new() };
        for (label, program) in &world.binaries {
            let mut peer = mainstay(label, program, &site.setting)?;
            site.check(&mut peer, &Kind::ALL)?;
            site.mainstays.push(peer);
        }
        Ok(site)
    }

    /// CoreDNS with the same Corefile and objects.
    ///
    /// # Errors
    /// There is none, or it does not answer rightly.
    pub fn coredns(&self, world: &World) -> Result<Peer, String> {
        let program = world.options.coredns.as_ref();
        let program = program.ok_or("no CoreDNS given; say --coredns PATH")?;
        let mut peer = coredns(program, &self.setting)?;
        self.check(&mut peer, &Kind::ALL)?;
        Ok(peer)
    }

    /// Waits until a server answers rightly: code, number of answers, and what is in them.
    ///
    /// # Errors
    /// It does not.
    pub fn check(&self, peer: &mut Peer, kinds: &[Kind]) -> Result<(), String> {
        kinds.iter().try_for_each(|kind| peer.wait(&kind.samples(&self.cluster, self.names)))
    }

    /// The questions of one kind.
    pub fn packets(&self, kind: Kind, edns: Edns) -> Packets {
        kind.packets(&self.cluster, self.names, edns)
    }

    /// Names of the size, for tables.
    pub fn title(&self) -> String {
        format!("{} 000 names", self.names / 1000)
    }
}

/// Fills the cache of a server, and checks every reply.
///
/// # Errors
/// A wrong one.
pub fn ask_all(peer: &Peer, packets: &Packets) -> Result<(), String> {
    ask_each(peer.address, packets).map_err(|error| format!("{}: {error}", peer.name()))
}

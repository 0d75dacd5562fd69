//! The only file that knows all rooms: builds them, starts them in order, reloads, drains.
//!
//! ```text
//! start    Corefile ─► Plan ─► pages (/health …) ─► sockets ─► answering
//! reload   Corefile ─► Plan' with the parts that stay ─► new sockets ─► swap ─► close old sockets
//! drain    not ready ─► lameduck, all goes on until it is quiet ─► errands end ─► TCP and workers
//!          end ─► exit
//! ```
//!
//! Nothing waits for the API server. A reload that fails leaves everything as it was.

mod announce;
pub mod arguments;
pub mod check;
pub mod compile;
pub mod demo;
mod keeping;
mod last_good;
mod limits;
pub mod load;
mod memory;
pub mod parts;
mod quiet;
mod readings;
pub mod serve;
mod start;
pub mod state;
pub mod supervise;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::published::Published;
use crate::corefile::{Corefile, Monitor as MonitorWord, Problem};
use crate::listen::journal::Journal;
use crate::listen::kept::{Kept, Message};
use crate::listen::{Exchange, Listening, local, socket};
use crate::ops::dns::Scene;
use crate::ops::{
    self, Build, Listen, Monitor, Page, Pages, Part, PluginEnabled, Readiness, RunningPlan, Sources,
};
use crate::resolve::config::set_cache_bytes_max;
use crate::resolve::plan::{Plan, Port};
use crate::resolve::tally::Tally;
use compile::{Setting, compile, enabled, server_name};
use memory::{Limit, Memory};
use parts::Parts;
use state::State;

/// Time that errands and TCP connections get to end once nobody asks any more: an exchange with
/// upstreams takes at most 5 s. `terminationGracePeriodSeconds` must hold this and before it the
/// lameduck or [`quiet::LATEST`], whichever is longer: 25 s of its 30 with a lameduck up to 20 s.
pub const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Time that a new cluster gets to be known before a reload that names it is refused.
pub const SYNC_MAX: Duration = Duration::from_secs(20);
/// How often the periods of `errors` rules are looked at.
const TICK: Duration = Duration::from_secs(1);

/// Why the server cannot start or reload.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Corefile is wrong; every problem is told.
    #[error("{}", lines(.0))]
    Corefile(Vec<Problem>),
    #[error("a cluster of the new Corefile is not known after {0:?}; the log tells why")]
    Unknown(Duration),
    #[error(transparent)]
    Forward(#[from] crate::forward::Error),
    #[error(transparent)]
    Listen(#[from] socket::Error),
    #[error(transparent)]
    Ops(#[from] ops::Error),
    /// The command line asks for what cannot be.
    #[error("{0}")]
    Usage(&'static str),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
}

/// What the command line says about serving.
#[derive(Clone)]
pub struct Options {
    /// Addresses to listen on; empty is all.
    pub bind: Vec<IpAddr>,
    /// UDP workers per listen address.
    pub workers: usize,
    /// Where to keep what the next start may use; `None` keeps nothing.
    pub state: Option<State>,
    /// Where a parent keeps our sockets, if there is one.
    pub kept: Option<Arc<Kept>>,
}

impl Options {
    /// UDP workers of one port: without `bind`, one address of each family or of both.
    fn workers_in_all(&self) -> usize {
        self.workers * self.bind.len().max(2)
    }
}

/// The running server.
pub struct Server {
    options: Options,
    setting: Setting,
    corefile: Corefile,
    parts: Parts,
    exchange: Arc<Exchange>,
    listening: ByPort,
    pages: Pages,
    /// Where each page is, ports filled in.
    page_addresses: Vec<Listen>,
    readiness: Arc<Readiness>,
    counters: ops::Counters,
    scene: Arc<ArcSwap<Scene>>,
    /// Waits for each cluster of the Plan and then says that we are ready; tells secondaries.
    waiting: JoinSet<()>,
}

impl Server {
    /// Starts to serve.
    ///
    /// # Errors
    /// Everything that keeps us from answering; the text says what to do.
    pub async fn start(
        corefile: Corefile,
        options: Options,
        counters: ops::Counters,
    ) -> Result<Self, Error> {
        let kept = options.kept.clone();
        let started = Self::try_start(corefile, options, counters).await;
        if let Some(kept) = kept.filter(|_| started.is_err()) {
            Journal::give_back(&kept);
        }
        started
    }

    /// The same; where it fails, another start with the same `options` may be tried.
    async fn try_start(
        corefile: Corefile,
        options: Options,
        counters: ops::Counters,
    ) -> Result<Self, Error> {
        let limit = Limit::find();
        limit.tell();
        set_cache_bytes_max(limit.cache_bytes());
        let setting =
            Setting { workers: options.workers_in_all(), own_addresses: local::addresses().into() };
        let state = options.state.as_ref().map(|state| state.folder().to_owned());
        let (plan, parts) = compile(&corefile, &Parts::kept_in(state), &setting)?;
        keeping::restore(&corefile, &parts);
        let places = limits::places(&limit);
        let exchange =
            Exchange::within(plan.clone(), Handle::current(), places, options.kept.clone());
        let memory = Memory::new(limit);
        let source = |source| Error::Io { what: "cannot watch the memory".into(), source };
        memory.watch(&exchange).map_err(source)?;
        let scene = Arc::new(ArcSwap::from_pointee(Scene::default()));
        let readiness = Arc::new(Readiness::default());
        let exposition = readings::exposition(&counters, &scene, &exchange, &memory);
        let sources = Sources { readiness: readiness.clone(), exposition: Arc::new(exposition) };
        let pages = Pages::start(sources)?;
        let listening = open(&exchange, &options, &BTreeMap::new(), &plan)?;
        let mut server = Self {
            options,
            setting,
            corefile,
            parts,
            exchange,
            listening,
            pages,
            page_addresses: Vec::new(),
            readiness,
            counters,
            scene,
            waiting: JoinSet::new(),
        };
        // Before anybody can ask whether we are ready, all that is waited for is there to be told.
        server.publish(&plan);
        match listen(&mut server.pages, &server.corefile) {
            Ok(addresses) => server.page_addresses = addresses,
            Err(error) => {
                close(server.listening, Instant::now()).await;
                return Err(error);
            }
        }
        // Only now: a start that fails must leave to the next one what a dead server has left.
        begin(&mut server.listening);
        if let Some(kept) = &server.options.kept {
            kept.release_rest();
            server.exchange.journal.iter().for_each(|journal| journal.release_rest());
            let fingerprint = server.corefile().fingerprint.to_string();
            let _ = kept.channel.send(&Message::Serves(fingerprint));
            let _ = kept.channel.send(&Message::Serving);
        }
        Ok(server)
    }

    /// Serves another Corefile from here on. Sockets, Entries and Indexes that it asks for again
    /// are kept; no query is lost.
    ///
    /// # Errors
    /// As [`Server::start`]; then everything is as it was.
    pub async fn apply(&mut self, corefile: Corefile) -> Result<(), Error> {
        let (plan, parts) = compile(&corefile, &self.parts, &self.setting)?;
        let known = parts.known_as_before(&self.parts);
        if tokio::time::timeout(SYNC_MAX, known).await.is_err() {
            return Err(Error::Unknown(SYNC_MAX));
        }
        let mut opened = open(&self.exchange, &self.options, &self.listening, &plan)?;
        match listen(&mut self.pages, &corefile) {
            Ok(addresses) => self.page_addresses = addresses,
            Err(error) => {
                close(opened, Instant::now()).await;
                return Err(error);
            }
        }
        self.exchange.plan.store(plan.clone());
        plan.take_upstreams_back();
        let now = Instant::now().into_std();
        self.parts.errors_gone(&parts).for_each(|log| log.end(now));
        // Only from here on there is an answer to what has come to the new ports.
        begin(&mut opened);
        self.listening.extend(opened);
        // Everything is in place before the next wait: a signal that ends it leaves nothing half.
        (self.corefile, self.parts) = (corefile, parts);
        self.publish(&plan);
        let is_gone = |port: &u16| plan.port(*port).is_none();
        let gone: Vec<u16> = self.listening.keys().copied().filter(is_gone).collect();
        let gone: ByPort =
            gone.iter().filter_map(|port| self.listening.remove_entry(port)).collect();
        close(gone, Instant::now() + DRAIN_MAX).await;
        Ok(())
    }

    /// Notes that a process before this one knew the clusters: another Corefile has to know its
    /// own, as if this server knew them already.
    pub fn knew_clusters(&mut self) {
        self.parts.were_known = true;
    }

    /// The Corefile that is being served.
    pub fn corefile(&self) -> &Corefile {
        &self.corefile
    }

    /// The addresses that are listened on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listening.values().flatten().map(|listening| listening.address).collect()
    }

    /// Where each page is.
    pub fn pages(&self) -> &[Listen] {
        &self.page_addresses
    }

    /// Stops wanting traffic: `/ready` is 503 for good. Everything else goes on.
    pub fn begin_shutdown(&self) {
        self.readiness.begin_shutdown();
    }

    /// How long to go on after that.
    pub fn lameduck(&self) -> Duration {
        let healths = self.corefile.blocks.iter().filter_map(|block| block.health);
        healths.map(|health| health.lameduck).max().unwrap_or_default()
    }

    /// How many queries have been answered; stands still when nobody asks any more.
    pub fn answered(&self) -> u64 {
        let plan = self.exchange.plan.load();
        let tallies = plan.ports.iter().flat_map(Port::tallies);
        let replies =
            |tally: &Arc<Tally>| tally.totals().responses.as_flattened().iter().sum::<u64>();
        tallies.map(replies).sum()
    }

    /// Ends: errands and connections get [`DRAIN_MAX`] together; the workers answer while errands
    /// end. Answers how many queries are left.
    pub async fn drain(self) -> usize {
        let deadline = Instant::now() + DRAIN_MAX;
        tokio::join!(self.save_now(), self.exchange.errands.drained(DRAIN_MAX / 2));
        close(self.listening, deadline).await;
        let left = deadline.saturating_duration_since(Instant::now());
        self.exchange.errands.drained(left).await
    }

    /// Tells metrics and readiness which Plan answers.
    fn publish(&mut self, plan: &Arc<Plan>) {
        let shared = self.parts.shared_by_transfers.clone();
        let scene = Scene {
            plan: Some(plan.clone()),
            clusters: self.parts.clusters.clone(),
            transfers: (!self.parts.transfers.is_empty()).then_some(shared),
        };
        self.scene.store(Arc::new(scene));
        let plugins = self.corefile.blocks.iter().flat_map(|block| {
            block.keys.iter().flat_map(move |key| {
                enabled(block).into_iter().map(move |name| PluginEnabled {
                    server: server_name(key.port),
                    zone: key.zone.to_string(),
                    view: String::new(),
                    name: name.to_owned(),
                })
            })
        });
        let plugins = plugins.collect();
        let sha512 = self.corefile.fingerprint.to_string();
        self.counters.publish(RunningPlan { sha512, plugins });
        self.waiting = self.wait_for_clusters(plan);
    }

    /// Registers each cluster with `/ready`, tells secondaries of changes, and ticks the error logs
    /// of this Plan.
    fn wait_for_clusters(&self, plan: &Arc<Plan>) -> JoinSet<()> {
        let readies = || self.corefile.blocks.iter().filter_map(|block| block.ready);
        if let Some(ready) = readies().next() {
            self.readiness.set_monitor(match ready.monitor {
                MonitorWord::UntilReady => Monitor::UntilReady,
                MonitorWord::Continuously => Monitor::Continuously,
            });
        }
        let mut waiting = JoinSet::new();
        keeping::arrange(&self.corefile, &self.parts, &mut waiting);
        for cluster in self.parts.clusters.iter().cloned() {
            let part: Arc<Part> = self.readiness.register("kubernetes");
            // A reload that keeps the cluster must not flicker.
            if cluster.published.zone().is_synced {
                part.became_ready();
            }
            waiting.spawn(follow(cluster.published.clone(), part));
        }
        for (_, transfer) in &self.parts.transfers {
            announce::start(transfer, &mut waiting);
        }
        let plan = plan.clone();
        waiting.spawn(async move {
            loop {
                tokio::time::sleep(TICK).await;
                let now = Instant::now().into_std();
                let logs = plan.zones().filter_map(|zoned| zoned.block.errors.as_ref());
                logs.for_each(|log| log.tick(now));
            }
        });
        waiting
    }
}

/// Says for ever whether a cluster is known. The part is waited for as long as somebody holds it.
async fn follow(published: Arc<Published>, part: Arc<Part>) {
    loop {
        published.synced().await;
        part.became_ready();
        // A Snapshot may turn out to be of another cluster.
        published.forgotten().await;
        part.became_unready();
    }
}

/// The sockets of each port.
type ByPort = BTreeMap<u16, Vec<Listening>>;

/// Opens the sockets of ports that are not open yet, and answers nothing yet.
fn open(
    exchange: &Arc<Exchange>,
    options: &Options,
    known: &ByPort,
    plan: &Plan,
) -> Result<ByPort, Error> {
    let mut opened = BTreeMap::new();
    let ports = plan.ports.iter().map(|port| port.number);
    for port in ports.filter(|port| !known.contains_key(port)) {
        let addresses: Vec<SocketAddr> = match &options.bind[..] {
            [] => vec![socket::wildcard(port)],
            bind => bind.iter().map(|&address| SocketAddr::new(address, port)).collect(),
        };
        let open = |address| Listening::prepare(exchange, address, port, options.workers);
        let listening: Result<_, _> = addresses.into_iter().map(open).collect();
        opened.insert(port, listening?);
    }
    Ok(opened)
}

/// Starts to answer.
fn begin(ports: &mut ByPort) {
    ports.values_mut().flatten().for_each(Listening::begin);
}

/// Closes all sockets of some ports, side by side.
async fn close(ports: ByPort, deadline: Instant) {
    let patience = deadline.saturating_duration_since(Instant::now());
    let all = ports.into_values().flatten().map(|listening| listening.close(patience));
    futures_util::future::join_all(all).await;
}

/// Listens for pages where the Corefile wants them, and tells where that is.
fn listen(pages: &mut Pages, corefile: &Corefile) -> Result<Vec<Listen>, Error> {
    let mut wishes = wishes(corefile);
    let addresses = pages.listen(&wishes)?;
    for (wish, address) in wishes.iter_mut().zip(addresses) {
        wish.address = address;
    }
    Ok(wishes)
}

/// Which page is wanted where.
fn wishes(corefile: &Corefile) -> Vec<Listen> {
    let of = |page, address: Option<SocketAddr>| address.map(|address| Listen { page, address });
    let wishes = corefile.blocks.iter().flat_map(|block| {
        [
            of(Page::Health, block.health.map(|health| health.listen)),
            of(Page::Ready, block.ready.map(|ready| ready.listen)),
            of(Page::Metrics, block.prometheus),
        ]
    });
    wishes.flatten().collect()
}

/// What was built.
pub const BUILD: Build = Build {
    version: env!("CARGO_PKG_VERSION"),
    revision: match option_env!("MAINSTAY_REVISION") {
        Some(revision) => revision,
        None => "unknown",
    },
};

/// Problems, one to a line.
fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;
    use crate::cluster::zone::Zone;

    #[tokio::test]
    async fn a_cluster_whose_picture_is_taken_back_is_unready_where_that_is_monitored() {
        let (readiness, published) = (Readiness::default(), Arc::new(Published::new()));
        let following = tokio::spawn(follow(published.clone(), readiness.register("kubernetes")));
        yield_now().await;
        assert!(!readiness.is_ready());
        for (generation, is_synced) in [(1, true), (2, false), (3, true)] {
            let mut zone = Zone::unsynced();
            (zone.generation, zone.is_synced) = (generation, is_synced);
            published.store(Arc::new(zone));
            for _ in 0..9 {
                yield_now().await;
            }
            readiness.set_monitor(Monitor::Continuously);
            assert_eq!(readiness.is_ready(), is_synced);
            readiness.set_monitor(Monitor::UntilReady);
            assert!(readiness.is_ready(), "ready once");
        }
        following.abort();
    }
}

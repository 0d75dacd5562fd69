//! An API server for a plain `#[test]`: correct by default, and told to fail or to lie.
//!
//! ```text
//! test ─► FakeCluster ─► Store: objects, versions, events ─► http: lists, pages, watches ─► server
//!              └───────► Switches: frozen, refusing, dripping, mute, cut …  ───┘
//! ```
//!
//! It runs on a thread of its own, on a loopback port that stays the same when it is stopped and
//! started. Right are: lists and pages at one version, streaming lists with their last bookmark,
//! watches from a version on, bookmarks, 410 for what is compacted, `fieldSelector` of names and
//! Namespaces, single objects. There are no selectors of labels: all objects match.
//!
//! The oracle has a port of its own, where nothing fails and nobody lies.

#![allow(dead_code, reason = "each test uses what it needs")]

mod http;
pub mod objects;
mod store;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::api::Ask;
use crate::ports;
pub use store::Lies;
use store::{Side, Store};

/// How often a watch tells its version, as API servers do.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Longest wait for the end of its threads.
const STOP_MAX: Duration = Duration::from_secs(10);

/// A request that was made.
#[derive(Clone, Debug)]
pub struct Request {
    pub ask: Ask,
    pub resource: String,
    /// The resourceVersion that it named.
    pub version: Option<u64>,
    pub at: Instant,
}

/// What is wrong with all answers about a resource.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status, with `Retry-After` in seconds if it is more than 0: 403, 404, 429, 500, 503 …
    Refuse(u16, u32),
    /// So long before each line, or each kilobyte of a page.
    Drip(Duration),
    /// Requests are taken and never answered.
    Hold,
    /// Each answer breaks after so many lines.
    Cut(usize),
    /// No streaming lists, as before Kubernetes 1.32.
    NoStreams,
}

/// What is wrong.
#[derive(Default)]
struct Switches {
    is_frozen: bool,
    faults: HashMap<String, Fault>,
    /// Lists come from here.
    old: Option<Store>,
    /// How often streams were cut, ended or made mute: those from before are.
    cut: u64,
    ended: u64,
    muted: u64,
    bookmark_every: Option<Duration>,
    requests: Vec<Request>,
}

/// What handlers and tests share.
struct Shared {
    store: Mutex<Store>,
    switches: Mutex<Switches>,
    /// Counts changes of either.
    pulse: watch::Sender<u64>,
}

/// The API server. Dropping it stops it.
pub struct FakeCluster {
    address: SocketAddr,
    oracle: SocketAddr,
    shared: Arc<Shared>,
    runtime: Mutex<Option<Runtime>>,
    _oracle: Runtime,
}

impl FakeCluster {
    /// Starts one, with the Namespaces `default` and `kube-system`.
    pub fn start() -> Self {
        let cluster = Self::stopped();
        cluster.resume();
        cluster
    }

    /// One that nobody can reach until [`FakeCluster::resume`].
    pub fn stopped() -> Self {
        let shared = Shared {
            store: Mutex::new(Store::new()),
            switches: Mutex::default(),
            pulse: watch::Sender::new(0),
        };
        let shared = Arc::new(shared);
        let [address, oracle] = [(); 2].map(|()| (Ipv4Addr::LOCALHOST, ports::free()).into());
        let runtime = serve(&shared, Side::Oracle, oracle);
        Self { address, oracle, shared, runtime: Mutex::new(None), _oracle: runtime }
    }

    /// Where it is, for the option `endpoint`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the truth is told.
    pub fn url_of_truth(&self) -> String {
        format!("http://{}", self.oracle)
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections and listens no more. Objects can change meanwhile.
    pub fn stop(&self) {
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_timeout(STOP_MAX);
        }
    }

    /// Listens again, on the same port.
    pub fn resume(&self) {
        let mut running = self.runtime.lock();
        assert!(running.is_none(), "it runs already");
        *running = Some(serve(&self.shared, Side::Tested, self.address));
    }

    /// Connections stay, requests are taken, nothing is sent: as a process that was stopped.
    pub fn freeze(&self) {
        self.switch(|switches| switches.is_frozen = true);
    }

    /// Goes on.
    pub fn thaw(&self) {
        self.switch(|switches| switches.is_frozen = false);
    }

    /// Streams that are open say nothing from here on; new ones do.
    pub fn mute(&self) {
        self.switch(|switches| switches.muted += 1);
    }

    /// Breaks the streams that are open.
    pub fn cut(&self) {
        self.switch(|switches| switches.cut += 1);
    }

    /// Ends the streams that are open in peace.
    pub fn end_streams(&self) {
        self.switch(|switches| switches.ended += 1);
    }

    /// Lets requests about a resource (`services`, …; `*` for all) fail like this.
    pub fn fail(&self, resource: &str, fault: Fault) {
        self.switch(|switches| {
            switches.faults.insert(resource.to_owned(), fault);
        });
    }

    /// Ends all faults and lies; what was not told stays so.
    pub fn heal(&self) {
        self.switch(|switches| {
            switches.faults.clear();
            switches.old = None;
            switches.is_frozen = false;
        });
        self.change(|store| store.lies.clear());
    }

    /// Tells the next events of a resource wrongly.
    pub fn lie(&self, resource: &'static str, lies: Lies) {
        self.change(|store| {
            store.lies.insert(resource, lies);
        });
    }

    /// The state as it is, for [`FakeCluster::list_old`] and [`FakeCluster::restore`].
    pub fn photograph(&self) -> Photograph {
        Photograph(self.shared.store.lock().clone())
    }

    /// Lists from here on show this old state, as a replica that lags; watches are not concerned.
    pub fn list_old(&self, old: &Photograph) {
        self.switch(|switches| switches.old = Some(old.0.clone()));
    }

    /// Becomes what it was, versions included, as after a backup was restored. The oracle cannot
    /// follow that.
    pub fn restore(&self, old: Photograph) {
        self.change(|store| *store = old.0);
        self.cut();
    }

    /// Forgets the events so far: 410 for whoever resumes from before.
    pub fn compact(&self) {
        self.change(Store::compact);
    }

    /// Sends bookmarks this often, from the next stream on.
    pub fn bookmark_every(&self, every: Duration) {
        self.switch(|switches| switches.bookmark_every = Some(every));
    }

    /// Makes or replaces an object, and its Namespace where that is missing.
    pub fn apply(&self, object: Value) {
        self.change(|store| store.apply(object));
    }

    /// The same of many at once.
    pub fn apply_all(&self, objects: impl IntoIterator<Item = Value>) {
        self.change(|store| objects.into_iter().for_each(|object| store.apply(object)));
    }

    /// Deletes an object: `("services", "shop", "web")`.
    pub fn delete(&self, resource: &'static str, namespace: &str, name: &str) {
        self.change(|store| store.delete(&(resource, namespace.to_owned(), name.to_owned())));
    }

    /// Deletes a Namespace with all that is in it.
    pub fn delete_namespace(&self, name: &str) {
        self.change(|store| store.delete_namespace(name));
    }

    /// Sends a line to the watches of a resource, whatever it says.
    pub fn tell_as_is(&self, resource: &'static str, line: &str) {
        self.change(|store| store.tell_as_is(resource, line));
    }

    /// The version of the last change.
    pub fn version(&self) -> u64 {
        self.shared.store.lock().version
    }

    /// The requests so far about a resource.
    pub fn requests(&self, resource: &str) -> Vec<Request> {
        let switches = self.shared.switches.lock();
        switches.requests.iter().filter(|it| it.resource == resource).cloned().collect()
    }

    /// How often a resource was asked for in this way.
    pub fn count(&self, ask: Ask, resource: &str) -> usize {
        self.requests(resource).iter().filter(|request| request.ask == ask).count()
    }

    fn switch(&self, change: impl FnOnce(&mut Switches)) {
        change(&mut self.shared.switches.lock());
        self.shared.beat();
    }

    fn change(&self, change: impl FnOnce(&mut Store)) {
        change(&mut self.shared.store.lock());
        self.shared.beat();
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Serves one side on a thread of its own.
fn serve(shared: &Arc<Shared>, side: Side, address: SocketAddr) -> Runtime {
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    let runtime = threads.worker_threads(1).enable_all().build().unwrap();
    let listening = tokio::net::TcpListener::bind(address);
    let listener = runtime.block_on(listening).expect("its port is free");
    let router = http::router(View { shared: Arc::clone(shared), side });
    runtime.spawn(async move { axum::serve(listener, router).await });
    runtime
}

/// What one side is shown.
#[derive(Clone)]
struct View {
    shared: Arc<Shared>,
    side: Side,
}

/// A state of the past.
#[derive(Clone)]
pub struct Photograph(Store);

impl Shared {
    /// Wakes all streams.
    fn beat(&self) {
        self.pulse.send_modify(|beats| *beats += 1);
    }
}

impl View {
    /// What is wrong with answers about a resource.
    fn fault(&self, resource: &str) -> Option<Fault> {
        let switches = self.switches()?;
        switches.faults.get(resource).or_else(|| switches.faults.get("*")).cloned()
    }

    /// Where lists come from, if not from what there is.
    fn old(&self) -> Option<Store> {
        self.switches()?.old.clone()
    }

    /// Waits while it is frozen.
    async fn thawed(&self) {
        let mut pulse = self.shared.pulse.subscribe();
        while self.switches().is_some_and(|switches| switches.is_frozen) {
            if pulse.changed().await.is_err() {
                return;
            }
        }
    }

    /// What is wrong; nothing ever for the oracle.
    fn switches(&self) -> Option<MutexGuard<'_, Switches>> {
        (self.side == Side::Tested).then(|| self.shared.switches.lock())
    }
}

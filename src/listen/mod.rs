//! Packets in and out.
//!
//! ```text
//! listen address ─┬─ UDP: one worker thread per core, each with its own SO_REUSEPORT socket
//!                 └─ TCP: one listener on the runtime
//!                        both ─► resolve::now ─► reply
//!                                    └─► errand on the runtime ─► reply
//! ```
//!
//! Unsafe code is in [`batch`] alone. Listeners come and go with the ports of the Plan;
//! one that stays keeps its sockets over a reload, and where there is a parent ([`kept`]) over the
//! end of the process too.

pub mod batch;
pub mod beat;
pub mod connections;
pub mod drops;
pub mod errands;
pub mod journal;
pub mod kept;
pub mod local;
pub mod overload;
pub mod socket;
pub mod tcp;
pub mod udp;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::resolve::plan::Plan;
use batch::tray::{self, Tray};
use beat::{Beat, Beats};
use errands::Errands;
use journal::Journal;
use kept::{Kept, Key, Proto};

pub use socket::Error;

/// How long a worker may stand still. It wakes twice a second when nothing comes.
const WORKER_PATIENCE: Duration = Duration::from_secs(2);

/// What all listeners share: the Plan, the errands, the counters.
pub struct Exchange {
    pub plan: ArcSwap<Plan>,
    pub errands: Errands,
    pub connections: Arc<tcp::Connections>,
    pub counters: Counters,
    /// Where errands are written for the next server.
    pub journal: Option<Arc<Journal>>,
    /// Where sockets are kept for the next server.
    kept: Option<Arc<Kept>>,
    beats: Arc<Beats>,
}

/// How much may wait at once. The defaults are the most; a small machine has fewer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Places {
    /// Errands that wait for upstreams.
    pub upstream: usize,
    /// Errands that wait for the cluster.
    pub cluster: usize,
    /// TCP connections, over all listeners.
    pub connections: usize,
}

impl Default for Places {
    fn default() -> Self {
        let (upstream, cluster) = (errands::UPSTREAM_MAX, errands::CLUSTER_MAX);
        Self { upstream, cluster, connections: tcp::CONNECTIONS_MAX }
    }
}

/// What the listeners count.
#[derive(Default)]
pub struct Counters {
    /// Packets that nobody can answer: too short, responses, from port 0, to a port that has gone.
    pub ignored: AtomicU64,
    pub receive_errors: AtomicU64,
    pub send_errors: AtomicU64,
    pub accept_errors: AtomicU64,
    /// Connections closed because there were too many.
    pub tcp_refused: AtomicU64,
    /// Idle connections closed to make room for others.
    pub tcp_idle_closed: AtomicU64,
    /// Packets that found no room in a socket's buffer.
    pub receive_drops: drops::ReceiveDrops,
    /// Packets thrown away under overload.
    pub shed: drops::Shed,
}

/// One listen address, UDP and TCP.
pub struct Listening {
    pub address: SocketAddr,
    pub workers: usize,
    exchange: Arc<Exchange>,
    /// Of the sockets that are kept.
    keys: Vec<Key>,
    duties: Duties,
    threads: Vec<JoinHandle<()>>,
    /// The listener, until it is listened to.
    listener: Option<(tokio::net::TcpListener, u16)>,
    stop_tcp: watch::Sender<bool>,
    tcp: Option<tokio::task::JoinHandle<()>>,
}

/// When the workers of an address begin and end.
#[derive(Clone, Default)]
struct Duties {
    begin: Arc<OnceLock<()>>,
    stop: Arc<AtomicBool>,
}

/// What a worker asks before each turn.
pub struct Duty {
    duties: Duties,
    beats: Arc<Beats>,
    name: String,
    beat: Option<Beat>,
}

impl Duty {
    /// Whether there is another turn; the first one waits until the Plan serves the port. Tells
    /// whoever watches that the worker moves.
    pub fn goes_on(&mut self) -> bool {
        let start = || {
            self.duties.begin.wait();
            self.beats.start(self.name.clone(), WORKER_PATIENCE, Instant::now())
        };
        self.beat.get_or_insert_with(start).turn();
        !self.duties.stop.load(Ordering::Relaxed)
    }
}

impl Exchange {
    /// Begins with a Plan.
    pub fn new(plan: Arc<Plan>, runtime: Handle) -> Arc<Self> {
        Self::within(plan, runtime, Places::default(), None)
    }

    /// The same, with so many places, and with the sockets that a parent has kept.
    pub fn within(
        plan: Arc<Plan>,
        runtime: Handle,
        places: Places,
        kept: Option<Arc<Kept>>,
    ) -> Arc<Self> {
        let beats = kept.as_ref().map(|kept| kept.beats.clone()).unwrap_or_default();
        let errands = Errands::new(runtime, places);
        let connections = Arc::new(tcp::Connections::new(places.connections));
        let (plan, counters) = (ArcSwap::new(plan), Counters::default());
        let journal = kept.as_deref().and_then(Journal::of);
        Arc::new(Self { plan, errands, connections, counters, journal, kept, beats })
    }

    /// The socket that was kept, or a new one, which is kept from here on.
    fn socket<S: From<OwnedFd> + AsFd>(
        &self,
        key: &Key,
        open: impl FnOnce() -> Result<S, Error>,
    ) -> Result<S, Error> {
        let Some(kept) = &self.kept else { return open() };
        if let Some(socket) = kept.take(key) {
            return Ok(socket.into());
        }
        let socket = open()?;
        kept.keep(key, &socket);
        Ok(socket)
    }

    /// Where a worker takes packets: kept as its socket is. Without a parent, or where there can be
    /// none, what a worker has at hand dies with the server.
    fn tray(&self, key: &Key) -> Tray {
        let Some(kept) = &self.kept else { return Tray::default() };
        let open = || {
            if let Some(file) = kept.take(key) {
                return Tray::over(file);
            }
            let file = tray::file()?;
            let tray = Tray::over(&file)?;
            kept.keep(key, &file);
            Ok(tray)
        };
        open().unwrap_or_else(|error| {
            tracing::warn!("packets that {key} takes die with the server: {error}");
            Tray::default()
        })
    }
}

impl Listening {
    /// Opens the sockets of an address and starts to answer. `address` with port 0 takes a free
    /// port; the Plan's Blocks of `plan_port` serve it.
    ///
    /// # Errors
    /// [`Error`] names the address and the remedy.
    pub fn open(
        exchange: &Arc<Exchange>,
        address: SocketAddr,
        plan_port: u16,
        workers: usize,
    ) -> Result<Self, Error> {
        let mut listening = Self::prepare(exchange, address, plan_port, workers)?;
        listening.begin();
        Ok(listening)
    }

    /// Opens the sockets of an address; what comes waits in them until [`Listening::begin`].
    ///
    /// # Errors
    /// As [`Listening::open`].
    pub fn prepare(
        exchange: &Arc<Exchange>,
        address: SocketAddr,
        plan_port: u16,
        workers: usize,
    ) -> Result<Self, Error> {
        let other = |source: io::Error| Error::Other { address, proto: "tcp", source };
        let key = Key { proto: Proto::Tcp, address, number: 0 };
        let listener: std::net::TcpListener = exchange.socket(&key, || socket::tcp(address))?;
        // From here on, dropping it stops what has been started.
        let mut listening = Self {
            address,
            workers,
            exchange: exchange.clone(),
            keys: vec![key],
            duties: Duties::default(),
            threads: Vec::new(),
            listener: None,
            stop_tcp: watch::channel(false).0,
            tcp: None,
        };
        listener.set_nonblocking(true).map_err(other)?;
        let address = listener.local_addr().map_err(other)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(other)?;
        listening.address = address;
        listening.listener = Some((listener, plan_port));
        for socket in listening.udp_sockets()? {
            listening.start_worker(socket, plan_port).map_err(other)?;
        }
        Ok(listening)
    }

    /// The sockets of the workers. All are open before the first worker starts.
    fn udp_sockets(&mut self) -> Result<Vec<UdpSocket>, Error> {
        let address = self.address;
        let kept = self.exchange.kept.as_ref().map_or(0, |kept| kept.workers(address));
        self.workers = self.workers.max(kept);
        let mut sockets = Vec::new();
        for number in 0..self.workers {
            let key = Key { proto: Proto::Udp, address, number };
            let socket = self.exchange.socket(&key, || socket::udp(address))?;
            self.keys.push(key);
            socket::make_waiting(&socket).map_err(|source| Error::Other {
                address,
                proto: "udp",
                source,
            })?;
            sockets.push(socket);
        }
        Ok(sockets)
    }

    /// Starts a worker, which waits for [`Listening::begin`].
    fn start_worker(&mut self, socket: UdpSocket, plan_port: u16) -> io::Result<()> {
        let number = self.threads.len();
        let key = Key { proto: Proto::Udp, address: self.address, number };
        let name = format!("udp-{}-{number}", self.address.port());
        let (duties, beats) = (self.duties.clone(), self.exchange.beats.clone());
        let duty = Duty { duties, beats, name, beat: None };
        self.keys.push(key.of_tray());
        let thread = udp::start(self.exchange.clone(), socket, plan_port, key, duty)?;
        self.threads.push(thread);
        Ok(())
    }

    /// Starts to answer.
    pub fn begin(&mut self) {
        let _ = self.duties.begin.set(());
        if let Some((listener, plan_port)) = self.listener.take() {
            let (exchange, stop) = (self.exchange.clone(), self.stop_tcp.subscribe());
            self.tcp = Some(tokio::spawn(tcp::serve(exchange, listener, plan_port, stop)));
        }
    }

    /// Stops: TCP connections get the answers in flight, UDP workers answer what has arrived.
    /// Waits at most `patience` for connections.
    pub async fn close(mut self, patience: Duration) {
        self.stop();
        let threads = std::mem::take(&mut self.threads);
        let join = || threads.into_iter().for_each(|thread| drop(thread.join()));
        let joined = tokio::task::spawn_blocking(join);
        if let Some(tcp) = self.tcp.take()
            && tokio::time::timeout(patience, tcp).await.is_err()
        {
            tracing::warn!("connections on {} did not end in time", self.address);
        }
        let _ = joined.await;
    }

    fn stop(&mut self) {
        // First of all: a socket that a parent still holds would go on to take packets.
        if let Some(kept) = &self.exchange.kept {
            self.keys.drain(..).for_each(|key| kept.release(key));
        }
        self.stop_tcp.send_replace(true);
        self.duties.stop.store(true, Ordering::Relaxed);
        let _ = self.duties.begin.set(());
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop();
    }
}

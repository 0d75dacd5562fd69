//! Packets in and out.
//!
//! ```text
//! listen address ─┬─ UDP: one worker thread per core, each with its own SO_REUSEPORT socket
//!                 └─ TCP: one listener on the runtime
//!                        both ─► resolve::now ─► reply
//!                                    └─► errand on the runtime ─► reply
//! ```
//!
//! [`batch`] is the only file with unsafe code. Listeners come and go with the ports of the Plan;
//! one that stays keeps its sockets over a reload.

pub mod batch;
pub mod connections;
pub mod drops;
pub mod errands;
pub mod local;
pub mod overload;
pub mod socket;
pub mod tcp;
pub mod udp;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::resolve::plan::Plan;
use errands::Errands;

pub use socket::Error;

/// What all listeners share: the Plan, the errands, the counters.
pub struct Exchange {
    pub plan: ArcSwap<Plan>,
    pub errands: Errands,
    pub connections: Arc<tcp::Connections>,
    pub counters: Counters,
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
    stop_workers: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    stop_tcp: watch::Sender<bool>,
    tcp: Option<tokio::task::JoinHandle<()>>,
}

impl Exchange {
    /// Begins with a Plan.
    pub fn new(plan: Arc<Plan>, runtime: Handle) -> Arc<Self> {
        Self::within(plan, runtime, Places::default())
    }

    /// The same, with so many places.
    pub fn within(plan: Arc<Plan>, runtime: Handle, places: Places) -> Arc<Self> {
        let errands = Errands::new(runtime, places);
        let connections = Arc::new(tcp::Connections::new(places.connections));
        let counters = Counters::default();
        Arc::new(Self { plan: ArcSwap::new(plan), errands, connections, counters })
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
        let other = |source: io::Error| Error::Other { address, proto: "tcp", source };
        let listener = socket::tcp(address)?;
        let address = listener.local_addr().map_err(other)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(other)?;
        let sockets: Vec<UdpSocket> =
            (0..workers).map(|_| socket::udp(address)).collect::<Result<_, _>>()?;
        let (stop_tcp, stop) = watch::channel(false);
        let tcp = tokio::spawn(tcp::serve(exchange.clone(), listener, plan_port, stop));
        let stop_workers = Arc::new(AtomicBool::new(false));
        // From here on, dropping it stops what has been started.
        let mut listening =
            Self { address, workers, stop_workers, threads: Vec::new(), stop_tcp, tcp: Some(tcp) };
        for (number, socket) in sockets.into_iter().enumerate() {
            let stop = listening.stop_workers.clone();
            let thread = udp::start(exchange.clone(), socket, plan_port, number, stop);
            listening.threads.push(thread.map_err(other)?);
        }
        Ok(listening)
    }

    /// Stops: TCP connections get the answers in flight, UDP workers answer what has arrived.
    /// Waits at most `patience` for connections.
    pub async fn close(mut self, patience: Duration) {
        let _ = self.stop_tcp.send(true);
        self.stop_workers.store(true, Ordering::Relaxed);
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
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.stop_tcp.send(true);
        self.stop_workers.store(true, Ordering::Relaxed);
    }
}

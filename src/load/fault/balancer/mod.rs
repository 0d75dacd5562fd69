//! A stand-in for kube-proxy and conntrack where there is no cluster: one address in front of
//! several servers, each client socket pinned to one of them.
//!
//! It reproduces what makes applications fail long after the servers are back: a client that keeps
//! one UDP port stays with a server that is gone, because each retry refreshes its entry.
//!
//! * UDP: a flow is a client address and port. It is pinned to a server by chance, for
//!   [`UDP_TIMEOUT`] after its last packet in either direction, and for [`UDP_STREAM_TIMEOUT`]
//!   once it was answered and is more than 2 s old.
//! * A server that is removed gets no new flows. Those that it has stay for the [`Cleanup`] lag.
//! * What a server says to a flow that has left it is dropped.
//! * A server whose process is gone is silence: no refusal reaches a client.
//! * Without servers, new flows are silence, as where a proxy drops them. kube-proxy refuses them
//!   (REJECT: ICMP, and so ECONNREFUSED at once instead of a time-out). A socket cannot refuse one
//!   client and keep another, and clients that are pinned must keep theirs; so lookups of that time
//!   take longer and fail later here than there.
//! * TCP: a connection is pinned as it begins, and stays when its server is removed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::io::{AsyncReadExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::relay::line::{LINES, Line, Sent};
use super::relay::{count, listen};
use crate::load::Error;
use crate::wire::{HEADER_LEN, TCP_MAX};

mod flows;

pub use flows::{Cleanup, FLOWS_MAX, UDP_STREAM_TIMEOUT, UDP_TIMEOUT};
use flows::{Flows, Route};

/// Servers that one balancer ever has.
pub const BACKENDS_MAX: usize = 64;
/// Connections at a time.
const CONNECTIONS_MAX: usize = 4096;
/// Longest handshake with a server.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a connection to nowhere is left without an answer.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A balancer at work. Dropping it ends it.
pub struct Balancer {
    listen: SocketAddr,
    shared: Arc<Shared>,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// What its tasks share.
struct Shared {
    socket: UdpSocket,
    flows: Mutex<Flows>,
    /// To each server that it ever had.
    lines: RwLock<HashMap<SocketAddr, Arc<[Line]>>>,
    counters: Counters,
}

/// What became of packets and connections.
#[derive(Debug, Default)]
pub struct Counters {
    /// Packets of clients.
    pub packets: AtomicU64,
    /// Packets that were sent back to clients.
    pub answers: AtomicU64,
    /// Answers of servers that their flow has left.
    pub strays: AtomicU64,
    /// Packets that were no DNS.
    pub garbage: AtomicU64,
    /// Packets and connections for which there was no server.
    pub nowhere: AtomicU64,
    /// Packets of new flows that were dropped because the table was full.
    pub table_full: AtomicU64,
    /// Packets that the kernel would not send, and connections that a server refused.
    pub unreachable: AtomicU64,
    /// Packets whose answer will not find back: too many were under way.
    pub overrun: AtomicU64,
    /// Connections.
    pub connections: AtomicU64,
    /// Connections that were refused because there were too many.
    pub refused: AtomicU64,
}

impl Balancer {
    /// Listens, over UDP and TCP. `seed` decides who gets which server.
    ///
    /// # Errors
    /// A port that cannot be had, or too many servers.
    pub async fn start(
        at: SocketAddr,
        backends: &[SocketAddr],
        cleanup: Cleanup,
        seed: u64,
    ) -> Result<Self, Error> {
        let system = |error| Error::System { what: format!("balancer on {at}"), error };
        let (socket, listener) = listen(at).await.map_err(system)?;
        let listen = socket.local_addr().map_err(system)?;
        let shared = Arc::new(Shared {
            socket,
            flows: Mutex::new(Flows::new(cleanup, seed)),
            lines: RwLock::default(),
            counters: Counters::default(),
        });
        let tasks = [
            tokio::spawn(take_packets(Arc::clone(&shared))).abort_handle(),
            tokio::spawn(take_connections(listener, Arc::clone(&shared))).abort_handle(),
        ];
        let balancer = Self { listen, shared, tasks: Mutex::new(tasks.into()) };
        for backend in backends {
            balancer.add(*backend).await?;
        }
        Ok(balancer)
    }

    /// Where clients ask.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// What became of packets so far.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Lets new flows go to a server.
    ///
    /// # Errors
    /// More than [`BACKENDS_MAX`] servers over time, or sockets that cannot be opened.
    pub async fn add(&self, backend: SocketAddr) -> Result<(), Error> {
        let is_known = self.shared.lines.read().contains_key(&backend);
        if !is_known {
            self.open_lines(backend).await?;
        }
        self.shared.flows.lock().add(backend, Instant::now());
        Ok(())
    }

    /// Lets no new flows go to a server. Those that it has stay for the lag.
    pub fn remove(&self, backend: SocketAddr) {
        self.shared.flows.lock().remove(backend, Instant::now());
    }

    async fn open_lines(&self, backend: SocketAddr) -> Result<(), Error> {
        if self.shared.lines.read().len() >= BACKENDS_MAX {
            let text = format!("a balancer has at most {BACKENDS_MAX} servers");
            return Err(Error::Config(text));
        }
        let mut lines = Vec::new();
        for _ in 0..LINES {
            let line = Line::open(backend).await;
            let what = || format!("balancer to {backend}");
            lines.push(line.map_err(|error| Error::System { what: what(), error })?);
        }
        let lines: Arc<[Line]> = lines.into();
        for number in 0..LINES {
            let from = (backend, Arc::clone(&lines), number);
            let task = take_answers(from, Arc::clone(&self.shared));
            self.tasks.lock().push(tokio::spawn(task).abort_handle());
        }
        self.shared.lines.write().insert(backend, lines);
        Ok(())
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.tasks.lock().iter().for_each(AbortHandle::abort);
    }
}

impl Shared {
    /// Sends a packet where its flow goes.
    async fn packet(&self, packet: &mut [u8], client: SocketAddr) {
        count(&self.counters.packets);
        if packet.len() < HEADER_LEN {
            return count(&self.counters.garbage);
        }
        let route = self.flows.lock().route(client, Instant::now());
        let backend = match route {
            Route::To(backend) => backend,
            Route::Nowhere => return count(&self.counters.nowhere),
            Route::Full => return count(&self.counters.table_full),
        };
        let Some(lines) = self.lines.read().get(&backend).cloned() else { return };
        match lines[usize::from(client.port()) % LINES].ask(packet, client).await {
            Sent::Ok => {}
            Sent::Overrun => count(&self.counters.overrun),
            Sent::Unreachable => count(&self.counters.unreachable),
        }
    }
}

async fn take_packets(shared: Arc<Shared>) {
    let mut buffer = vec![0; TCP_MAX];
    loop {
        match shared.socket.recv_from(&mut buffer).await {
            Ok((length, client)) => shared.packet(&mut buffer[..length], client).await,
            // Out of memory, or the like: others are to run first.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

async fn take_answers(
    (backend, lines, number): (SocketAddr, Arc<[Line]>, usize),
    shared: Arc<Shared>,
) {
    let mut buffer = vec![0; TCP_MAX];
    loop {
        let Some((client, length)) = lines[number].answer(&mut buffer).await else { continue };
        if !shared.flows.lock().answered(client, backend, Instant::now()) {
            count(&shared.counters.strays);
            continue;
        }
        if shared.socket.send_to(&buffer[..length], client).await.is_ok() {
            count(&shared.counters.answers);
        }
    }
}

async fn take_connections(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(_) if connections.len() >= CONNECTIONS_MAX => count(&shared.counters.refused),
                Ok((client, _)) => {
                    count(&shared.counters.connections);
                    connections.spawn(connection(client, Arc::clone(&shared)));
                }
                // Out of files: some will be given back.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Relays a connection to a server by chance. To nowhere, it is silent.
async fn connection(mut client: TcpStream, shared: Arc<Shared>) {
    let backend = shared.flows.lock().choose();
    let Some(backend) = backend else {
        count(&shared.counters.nowhere);
        return silence(client).await;
    };
    match timeout(CONNECT_MAX, TcpStream::connect(backend)).await {
        Ok(Ok(mut server)) => {
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            // Either side may end it in any way.
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
        _ => {
            count(&shared.counters.unreachable);
            silence(client).await;
        }
    }
}

/// Reads what a client says until it gives up.
async fn silence(mut client: TcpStream) {
    let mut heard = [0; 512];
    let until_end = async { while let Ok(1..) = client.read(&mut heard).await {} };
    let _ = timeout(SILENCE_MAX, until_end).await;
}

#[cfg(test)]
mod tests;

//! Relays between the server under test and what it depends on, which can be made worse at any
//! time.
//!
//! ```text
//! server under test ─► LISTEN  Relay, UDP and TCP ─► an upstream, or a stub that answers by itself
//!                          ▲ questions and answers meet their fate: [`impair`]
//! server under test ─► LISTEN  ByteRelay ─► API server
//! ```
//!
//! A relay is no path of packets: it reads DNS messages and sends them on. Over UDP it lends each
//! question another id, so that a server that takes a fresh port per question costs it no socket.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use crate::load::Error;

pub mod bytes;
pub mod impair;
mod late;
pub(super) mod line;
pub mod stub;
mod tcp;
mod udp;

pub use bytes::ByteRelay;
pub use impair::Impairment;
use impair::Impairments;

/// Tries to find one port that is free over UDP and TCP, when any will do.
const PORT_TRIES: usize = 20;

/// A relay as written: `LISTEN=TO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Between {
    /// Where the server under test sends its questions.
    pub listen: SocketAddr,
    /// Who answers them.
    pub to: To,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// A DNS server.
    Server(SocketAddr),
    /// We: [`stub`].
    Stub,
}

/// A relay at work. Dropping it ends it.
pub struct Relay {
    listen: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

/// What its tasks share.
struct Shared {
    to: To,
    impairments: Impairments,
    counters: Counters,
}

/// What became of messages.
#[derive(Debug, Default)]
pub struct Counters {
    /// Questions that came, over UDP and TCP.
    pub questions: AtomicU64,
    /// Answers that were sent back, our own too.
    pub answers: AtomicU64,
    /// What was no question.
    pub garbage: AtomicU64,
    /// Questions and answers that a black hole swallowed.
    pub swallowed: AtomicU64,
    /// Questions that were lost by chance.
    pub lost: AtomicU64,
    /// Questions beyond the allowed rate.
    pub beyond_rate: AtomicU64,
    /// Answers that we made ourselves: SERVFAIL, TC, and those of the stub.
    pub made: AtomicU64,
    /// Answers that were held back for a while.
    pub delayed: AtomicU64,
    /// Answers that were dropped because too many were held back.
    pub delayed_full: AtomicU64,
    /// Questions whose id was lent to another one before an answer came.
    pub overrun: AtomicU64,
    /// Questions that could not be sent, and connections that the upstream refused.
    pub unreachable: AtomicU64,
    /// Connections that were refused, because there were too many.
    pub refused: AtomicU64,
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Between {
    /// Reads `LISTEN=TO` of `--upstream`.
    ///
    /// # Errors
    /// One line: what is wrong, and how it is written.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let fail = |what: &str| {
            Error::Config(format!(
                "--upstream {text:?}: {what}; write it as 127.0.0.1:5300=10.0.0.2:53 or \
                 127.0.0.1:5300=stub"
            ))
        };
        let (listen, to) = text.split_once('=').ok_or_else(|| fail("there is no `=`"))?;
        let listen = listen.parse().map_err(|_| fail("LISTEN is no ADDRESS:PORT"))?;
        let to = match to {
            "stub" => To::Stub,
            to => To::Server(server(to).ok_or_else(|| fail("TO is neither an address nor stub"))?),
        };
        if to == To::Server(listen) {
            return Err(fail("it would ask itself"));
        }
        Ok(Self { listen, to })
    }
}

/// Reads `ADDRESS[:PORT]`.
fn server(text: &str) -> Option<SocketAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    bare.map(|address| SocketAddr::new(address, 53)).or_else(|_| text.parse()).ok()
}

impl Relay {
    /// Listens, over UDP and TCP. `seed` decides what is lost by chance.
    ///
    /// # Errors
    /// A port that cannot be had.
    pub async fn start(between: Between, seed: u64) -> Result<Self, Error> {
        let (udp, tcp) = listen(between.listen).await.map_err(|error| {
            let what = format!("--upstream: listen on {}", between.listen);
            Error::System { what, error }
        })?;
        let system = |error| Error::System { what: "--upstream: open sockets".to_owned(), error };
        let listen = udp.local_addr().map_err(system)?;
        let impairments = Impairments::new(seed);
        let shared =
            Arc::new(Shared { to: between.to, impairments, counters: Counters::default() });
        let mut tasks = JoinSet::new();
        udp::start(udp, &shared, &mut tasks).await.map_err(system)?;
        tasks.spawn(tcp::serve(tcp, Arc::clone(&shared)));
        Ok(Self { listen, shared, _tasks: tasks })
    }

    /// Where it listens.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Makes it worse. The number is for [`Relay::end`].
    pub fn begin(&self, impairment: Impairment) -> u64 {
        self.shared.impairments.begin(impairment)
    }

    /// Takes an impairment back.
    pub fn end(&self, number: u64) {
        self.shared.impairments.end(number);
    }

    /// What became of the messages so far.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }
}

/// One port over both transports.
pub(super) async fn listen(at: SocketAddr) -> std::io::Result<(UdpSocket, TcpListener)> {
    let mut tries = if at.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let tcp = TcpListener::bind(at).await?;
        match UdpSocket::bind(tcp.local_addr()?).await {
            Ok(udp) => return Ok((udp, tcp)),
            Err(error) if tries == 0 => return Err(error),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;

//! One packet per lookup, at up to 200 000 a second from one core, each reply matched.
//!
//! ```text
//! arrivals ─ due ─► driver ─► under_way: id ─► due, sent, task ─► udp, tcp ─► server
//!                     ▲            │                                 │
//!  notes ◄─ samples ──┴─── judge ◄─┴──────────── replies, ICMP ◄─────┘
//! ```
//!
//! One thread per driver, which waits for nobody: it sleeps while nothing is due for 200 µs, and
//! looks again and again while something is. Latency counts from when a
//! lookup was due, so what the server, the network or this thread made late shows.

use std::sync::Arc;
use std::time::Duration;

use super::Error;
use super::arrivals::Arrivals;
use super::record::{PacketCounts, Sample, Shard};
use super::run::Run;
use super::target::Transport;

mod desk;
mod driver;
pub mod judge;
mod question;
mod tcp;
mod udp;
mod under_way;

pub use udp::PAYLOAD_MAX;

#[cfg(test)]
mod tests;

/// Most sockets of one driver. Each needs 256 KiB for its ids, and a port.
pub const SOCKETS_MAX: usize = 256;

/// How packets are sent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Sockets, each with a port of its own: each counts as a client. Default 16, at most
    /// [`SOCKETS_MAX`].
    pub sockets: usize,
    /// EDNS payload size that is offered, at most [`PAYLOAD_MAX`]; `None` for no OPT.
    /// Default 1232.
    pub payload_bytes: Option<u16>,
    /// The number of the first socket as a client; the others follow.
    pub first_client: u32,
}

impl Settings {
    /// Whether one driver can have as many sockets.
    ///
    /// # Errors
    /// More than [`SOCKETS_MAX`].
    fn check(&self) -> Result<(), Error> {
        if self.sockets <= SOCKETS_MAX {
            return Ok(());
        }
        Err(Error::Config(format!(
            "--clients: {} sockets for one thread that sends packets; give at most {SOCKETS_MAX} \
             for each of --threads",
            self.sockets
        )))
    }

    /// How many sockets there are.
    fn count(&self) -> usize {
        self.sockets.max(1)
    }
}

/// Where a driver writes down what happened: a [`Shard`] of the run's record.
pub trait Notes {
    /// Lookups that ended.
    fn lookups(&mut self, samples: &[Sample]);
    /// What went over the wire since the last time.
    fn packets(&mut self, counts: &PacketCounts);
    /// How much later than due a lookup began.
    fn began_late(&mut self, by: Duration);
    /// Lookups that were due and could not be begun.
    fn not_begun(&mut self, count: u64);
}

impl Notes for Shard {
    fn lookups(&mut self, samples: &[Sample]) {
        Shard::lookups(self, samples);
    }

    fn packets(&mut self, counts: &PacketCounts) {
        Shard::packets(self, counts);
    }

    fn began_late(&mut self, by: Duration) {
        Shard::began_late(self, by);
    }

    fn not_begun(&mut self, count: u64) {
        Shard::not_begun(self, count);
    }
}

/// Asks as `arrivals` say until they end or the run is stopped; then waits for what is under way.
/// Blocks its thread.
///
/// # Errors
/// Sockets that cannot be opened, or too many of them.
pub fn drive(run: &Arc<Run>, arrivals: Arrivals, settings: &Settings) -> Result<(), Error> {
    drive_noting(run, arrivals, settings, run.recorder.shard()).map(drop)
}

/// The same, with notes of its own, which it gives back.
///
/// # Errors
/// As [`drive`].
pub fn drive_noting<N: Notes>(
    run: &Arc<Run>,
    arrivals: Arrivals,
    settings: &Settings,
    notes: N,
) -> Result<N, Error> {
    let server = *run.target.servers.first().ok_or_else(|| {
        Error::Config("no server to ask; name one, such as 127.0.0.1:5353".to_owned())
    })?;
    settings.check()?;
    let desk = desk::Desk::new(run, settings, notes);
    let fails = |error| Error::System { what: format!("cannot open a socket to {server}"), error };
    match run.target.transport {
        Transport::Udp => {
            let sockets = udp::Sockets::open(server, settings.count()).map_err(fails)?;
            Ok(driver::Driver::new(sockets, desk, arrivals).drive())
        }
        Transport::Tcp => {
            let connections = tcp::Connections::new(server, settings.count(), run.timeout);
            Ok(driver::Driver::new(connections, desk, arrivals).drive())
        }
    }
}

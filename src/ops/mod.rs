//! Above the packet: how operators and machines see the server, and how it speaks.
//!
//! ```text
//! kubelet ───► /health /ready ┐                      ┌─ Readiness: which parts are ready
//! Prometheus ─► /metrics      ├─ Pages: one thread ──┤
//!                             ┘   of its own         └─ Exposition: Counters, process, other rooms
//! every room ─► tracing ─► log ─► Outlet: one thread of its own ─► standard output
//! ```
//!
//! Two threads, so that neither direction can be stopped from outside: [`Pages`] answers while
//! every worker and the main runtime are saturated, and a standard output that nobody reads stops
//! nobody. A room counts, this room publishes; only what is of the process as a whole is counted
//! here ([`Counters`]).

mod connections;
mod counters;
pub mod dns;
mod exposition;
mod health;
pub mod http;
mod listeners;
pub mod log;
mod outlet;
mod process;
mod ready;
mod throttle;

use std::io;
use std::net::SocketAddr;

pub use counters::{Counters, PluginEnabled, RunningPlan};
pub use exposition::{Build, Exposition};
pub use http::{Listen, Page, Pages, Sources};
pub use outlet::Flush;
pub use ready::{Monitor, Part, Readiness};
pub use throttle::Throttle;

/// What can go wrong here, by who must act: the operator, except for [`Error::Bug`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another program, or another part of this one, has the address.
    #[error(
        "{directive} {address}: address in use; stop the program that listens there, \
         or give {directive} another address"
    )]
    AddressInUse { directive: &'static str, address: SocketAddr },
    /// The address cannot be listened on, for instance because this host does not have it.
    #[error("{directive} {address}: {source}; give {directive} an address of this host")]
    Listen { directive: &'static str, address: SocketAddr, source: io::Error },
    /// The system gives us no thread, or no file descriptor for its runtime.
    #[error("cannot start the thread \"{name}\": {source}; raise the limits of threads and files")]
    Thread { name: &'static str, source: io::Error },
    /// We did what must not happen.
    #[error("bug: {0}")]
    Bug(&'static str),
}

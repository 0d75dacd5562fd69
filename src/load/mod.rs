//! The load-testing harness: how many lookups failed, and when did the last one?
//!
//! ```text
//! arrivals ─ when ─┐            ┌─► packets   one datagram each, 200 000/s ───┐
//!                  ├─► a lookup ┤                                             ├─► record ─► report
//! work ──── what ──┘            └─► lookups ─► resolver   as glibc, the JVM do ┘      ▲
//! truth ─── what the objects said at the time of each answer ────────────────────────┤
//! fault ─── what is done to servers and upstreams meanwhile ─────────────────────────┘
//! ```
//!
//! Open loop: a lookup is due when the [`arrivals`] say so, whatever the server does, and its
//! latency counts from then. Nothing here shares code with what is tested but the DNS octets and
//! the reading of Kubernetes objects.

use std::path::PathBuf;

pub mod arguments;
pub mod awake;
pub mod command;
pub mod drive;
pub mod names;
pub mod run;
pub mod settings;
pub(crate) mod signals;

pub mod arrivals;
pub mod capture;
pub mod target;
pub mod tasks;

pub mod packets;

pub mod lookups;
pub mod resolver;

pub mod truth;

pub mod fault;

pub mod record;
pub mod report;

pub mod drill;
pub mod place;

/// Why a run cannot be made, or its report not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line, or a file that it names, is wrong: what, where and what to do.
    #[error("{0}")]
    Config(String),
    /// A file cannot be read or written.
    #[error("{}: {error}; {remedy}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The system refused sockets, threads or processes.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The cluster cannot be watched or changed.
    #[error("{0}")]
    Cluster(String),
}

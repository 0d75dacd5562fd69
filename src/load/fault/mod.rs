//! What is done to servers and upstreams while lookups go on, and when.
//!
//! ```text
//! --fault stop@10s..20s ─► Fault ─► Stage::check, before the run ─► Stage::play
//!                                                                      │
//!        process   the server under test: signals, new starts ◄────────┤
//!        relay     between it and its upstreams and API server ◄───────┤
//!        pods      through the Kubernetes API ◄────────────────────────┤
//!        command   anything else ◄─────────────────────────────────────┘
//! ```
//!
//! Whatever is done is undone: at its time, when the run is stopped, and when it is dropped.
//! [`balancer`] stands in for kube-proxy where there is no cluster.

use std::fmt;
use std::time::Duration;

pub mod balancer;
pub mod command;
mod parse;
pub mod pods;
pub mod process;
pub mod relay;
pub mod stage;
#[cfg(test)]
mod waiting;

pub use stage::Stage;

/// One fault of a run, as written on the command line (`stop@10s..20s`).
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What is done.
    pub action: Action,
    /// When, since the start.
    pub at: Duration,
    /// When it is undone; `None` for what has no end, and for what lasts to the end of the run.
    pub until: Option<Duration>,
    /// As written, for reports.
    pub written: Box<str>,
}

/// What is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// SIGKILL to the server.
    Kill9,
    /// SIGSTOP, and SIGCONT at the end.
    Stop,
    /// SIGTERM.
    Term,
    /// SIGTERM, and a new start.
    Restart,
    /// The relay in front of the upstream swallows everything.
    BlackholeUpstream,
    /// Each answer of the upstream comes later by this.
    DelayUpstream(Duration),
    /// This part of the questions is lost, 0 to 1.
    LossUpstream(f64),
    /// Each answer is SERVFAIL.
    ServfailUpstream,
    /// Each UDP answer is empty with TC.
    TruncateUpstream,
    /// At most so many questions per second go through.
    PpsUpstream(u32),
    /// The relay in front of the API server cuts and refuses connections.
    ApiDown,
    /// Deletes the Pods of a selector.
    DeletePod { namespace: String, selector: String },
    /// Restarts a Deployment, DaemonSet or StatefulSet.
    RolloutRestart { namespace: String, kind: String, name: String },
    /// Any command of the shell.
    Command(String),
}

impl Action {
    /// Whether it lasts: what has no end of its own, and refuses one, does not.
    pub fn lasts(&self) -> bool {
        use Action::*;
        !matches!(
            self,
            Kill9 | Term | Restart | DeletePod { .. } | RolloutRestart { .. } | Command(_)
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

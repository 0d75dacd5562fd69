//! What is done to servers and upstreams while lookups go on, and when.

use std::time::Duration;

/// One fault of a run, as written on the command line (`stop@10s..20s`).
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// What is done.
    pub action: Action,
    /// When, since the start.
    pub at: Duration,
    /// When it is undone; `None` for what has no end.
    pub until: Option<Duration>,
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
    /// This part of the packets is lost, 0 to 1.
    LossUpstream(f64),
    /// Each answer is SERVFAIL.
    ServfailUpstream,
    /// Each UDP answer is empty with TC.
    TruncateUpstream,
    /// At most so many packets per second go through.
    PpsUpstream(u32),
    /// The relay in front of the API server cuts and refuses connections.
    ApiDown,
    /// Deletes the Pods of a selector (`namespace/label=value`).
    DeletePod(String),
    /// Restarts a Deployment or DaemonSet (`namespace/kind/name`).
    RolloutRestart(String),
    /// Any command of the shell.
    Command(String),
}

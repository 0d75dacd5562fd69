//! What happens to the servers, and when.

use std::time::Duration;

/// What is done, at the time that is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// SIGKILL for the process that serves, of the first server or the second.
    Crash(usize),
    /// SIGKILL for all processes of its container.
    KillContainer(usize),
    /// All servers are replaced, one after the other.
    Roll,
    ApiDown,
    ApiUp,
    /// One of two upstreams is never heard of again.
    UpstreamDead,
    /// Half of the replies of both upstreams come 3 s late.
    UpstreamSlow,
    /// All servers end and do not come back.
    StopAll,
}

/// A run: what happens, and how long applications look names up.
#[derive(Clone, Copy)]
pub struct Case {
    /// Names it in the results.
    pub fault: &'static str,
    /// How late the rules of the node follow what became of a server.
    pub lag_s: u64,
    /// In seconds since the applications began, in order; the first is the fault.
    pub acts: &'static [(u64, Act)],
    pub seconds: u64,
}

impl Case {
    /// The lag as a length of time.
    pub fn lag(&self) -> Duration {
        Duration::from_secs(self.lag_s)
    }

    /// Whether what kube-proxy does matters: the rules change.
    pub fn has_lag(&self) -> bool {
        let moves = |act: &Act| matches!(act, Act::Crash(_) | Act::KillContainer(_) | Act::Roll);
        let is_frozen = self.acts.iter().any(|(_, act)| *act == Act::ApiDown);
        !is_frozen && self.acts.iter().any(|(_, act)| moves(act))
    }
}

/// A server crashes: by an error, or for lack of memory.
pub const CRASH: &str = "`kill -9` of a serving process";
/// A container ends, with all that is in it.
const CONTAINER: &str = "`kill -9` of a container, back after 4 s";
/// New servers come, old ones go.
const ROLLING: &str = "rolling replacement of both";
/// No API server while both servers crash.
pub const API_DOWN: &str = "API server down, both serving processes killed";
/// The same, with their containers.
const API_DOWN_CONTAINERS: &str = "API server down, both containers killed";
/// One of the upstreams is dead.
pub const DEAD: &str = "one of two upstreams dead";
/// The upstreams are slow.
const SLOW: &str = "upstreams slow: 3 s on half of the replies";
/// Nobody answers.
pub const NONE: &str = "no server at all";

/// All of them, at full length.
pub fn all() -> Vec<Case> {
    const LAGS_S: [u64; 3] = [0, 2, 8];
    let crash: &[_] = &[(5, Act::Crash(0))];
    let container: &[_] = &[(5, Act::KillContainer(0))];
    let moving = [(CRASH, crash), (CONTAINER, container), (ROLLING, &[(5, Act::Roll)])];
    let mut cases = Vec::new();
    for (fault, acts) in moving {
        cases.extend(LAGS_S.map(|lag_s| Case { fault, lag_s, acts, seconds: 35 }));
    }
    let away: &[_] =
        &[(5, Act::ApiDown), (7, Act::Crash(0)), (13, Act::Crash(1)), (25, Act::ApiUp)];
    let away_containers: &[_] = &[
        (5, Act::ApiDown),
        (7, Act::KillContainer(0)),
        (16, Act::KillContainer(1)),
        (28, Act::ApiUp),
    ];
    let still = [
        (API_DOWN, away, 45),
        (API_DOWN_CONTAINERS, away_containers, 50),
        (DEAD, &[(5, Act::UpstreamDead)], 30),
        (SLOW, &[(5, Act::UpstreamSlow)], 30),
    ];
    cases.extend(still.map(|(fault, acts, seconds)| Case { fault, lag_s: 0, acts, seconds }));
    cases
}

/// Some, as short as they can be, and one that no client can bear.
pub fn short() -> Vec<Case> {
    let away: &[_] = &[(2, Act::ApiDown), (3, Act::Crash(0)), (6, Act::Crash(1)), (10, Act::ApiUp)];
    vec![
        Case { fault: CRASH, lag_s: 2, acts: &[(2, Act::Crash(0))], seconds: 10 },
        Case { fault: API_DOWN, lag_s: 0, acts: away, seconds: 11 },
        Case { fault: DEAD, lag_s: 0, acts: &[(1, Act::UpstreamDead)], seconds: 8 },
        Case { fault: NONE, lag_s: 0, acts: &[(1, Act::StopAll)], seconds: 3 },
    ]
}

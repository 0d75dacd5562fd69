//! What the process and its threads may have of the machine: open files, and their turn on a core.
//!
//! Each question upstream has a socket of its own and each TCP client one, so the usual soft limit
//! of 1024 would end in SERVFAIL long before our own bounds. The hard limit is what was granted.

use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};

/// Nice value of every thread of the runtime. A UDP worker that wakes up for a packet is then
/// let onto its core at once, where it would wait for the time slice of a thread that reads a list
/// of Services: with one core and 1 000 changes/s, p99 of cluster names was 6 times that of a quiet
/// server, and with this it is the same (2026-11). Where the workers want every core whole, what
/// is behind them keeps some 15 ms of each second. Threads inherit it and cannot take it back, so
/// workers are started from the main thread only.
const BACKGROUND_NICE: i32 = 19;

/// Below this many files a busy server may run out: room for the errands of a node.
const FILES_MIN: u64 = 4096;

/// Raises the soft limit to the hard one, and warns when that is little.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    if let Some(files) = files.filter(|files| *files < FILES_MIN) {
        tracing::warn!(
            "only {files} open files are allowed; raise the limit to {FILES_MIN} or more"
        );
    }
}

/// Lets the UDP workers go before the calling thread.
pub fn go_behind_workers() {
    // A thread may always be nicer than it is; where it may not, answers are later and no worse.
    let _ = setpriority_process(None, BACKGROUND_NICE);
}

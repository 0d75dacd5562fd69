//! What the process and its threads may have of the machine: open files, and their turn on a core.
//!
//! Each question upstream has a socket of its own and each TCP client one, so the usual soft limit
//! of 1024 would end in SERVFAIL long before our own bounds. The hard limit is what was granted.

use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};

use super::memory::Limit;
use crate::listen::Places;

/// Nice value of every thread of the runtime. A UDP worker that wakes up for a packet is then
/// let onto its core at once, where it would wait for the time slice of a thread that reads a list
/// of Services: with one core and 1 000 changes/s, p99 of cluster names was 6 times that of a quiet
/// server, and with this it is the same (2026-11). Where the workers want every core whole, what
/// is behind them keeps some 15 ms of each second. Threads inherit it and cannot take it back, so
/// workers are started from the main thread only.
const BACKGROUND_NICE: i32 = 19;

/// Below this many files a busy server may run out: room for the errands of a node.
const FILES_MIN: u64 = 4096;

/// Files that are for nobody but questions upstream, the API server, the Snapshot and ourselves.
const FILES_RESERVED: u64 = 64;
/// Fewest places of each kind, however few files there are.
const PLACES_MIN: usize = 16;

/// Raises the soft limit to the hard one, and warns when that is little.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = setrlimit(Resource::Nofile, raised);
    if let Some(files) = open_files().filter(|files| *files < FILES_MIN) {
        tracing::warn!(
            "only {files} open files are allowed; raise the limit to {FILES_MIN} or more"
        );
    }
}

/// How many files may be open; `None` is any number.
fn open_files() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// How much may wait at once, by what memory and open files allow.
pub fn places(memory: &Limit) -> Places {
    within_files(memory.places(), open_files())
}

/// Connections and questions upstream share the files that are not reserved: half for each, so that
/// neither can starve the other.
fn within_files(places: Places, files: Option<u64>) -> Places {
    let Some(files) = files else { return places };
    let half = usize::try_from(files.saturating_sub(FILES_RESERVED) / 2).unwrap_or(usize::MAX);
    let half = half.max(PLACES_MIN);
    Places {
        upstream: places.upstream.min(half),
        connections: places.connections.min(half),
        ..places
    }
}

/// Lets the UDP workers go before the calling thread.
pub fn go_behind_workers() {
    // A thread may always be nicer than it is; where it may not, answers are later and no worse.
    let _ = setpriority_process(None, BACKGROUND_NICE);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p13_connections_leave_files_for_questions_upstream_and_for_ourselves() {
        for files in [256_u64, 1024, 4096, 20_000] {
            let Places { upstream, connections, .. } = within_files(Places::default(), Some(files));
            assert!(upstream as u64 + connections as u64 + FILES_RESERVED <= files, "{files}");
            assert!(upstream >= 96 && connections >= 96, "{files}");
        }
        let few = within_files(Places::default(), Some(32));
        assert_eq!((few.upstream, few.connections), (PLACES_MIN, PLACES_MIN));
        assert_eq!(within_files(Places::default(), None), Places::default());
        let many = within_files(Places::default(), Some(1 << 20));
        assert_eq!(many, Places::default());
    }
}

//! What the process and its threads may have of the machine: open files, and their turn on a core.
//!
//! Each question upstream has a socket of its own and each TCP client one, so the usual soft limit
//! of 1024 would end in SERVFAIL long before our own bounds. The hard limit is what was granted.

use std::io;
use std::num::NonZero;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
use tokio::runtime::{Builder, EnterGuard, Runtime};

use super::memory::Limit;
use crate::listen::Places;

/// Nice value of the threads of the runtime: errands, TCP, signals. Each piece of work is short,
/// so a UDP worker hardly ever waits for one; and where the workers want every core whole, what is
/// behind them keeps a quarter of it, so that foreign names are still asked for. At 19 it kept some
/// 15 ms of each second. Threads inherit it and cannot take it back, so workers are started from
/// the main thread only.
const ERRANDS_NICE: i32 = 5;
/// Nice value of the threads that know clusters: watches, lists, the Index. Their work comes in
/// pieces of many milliseconds. A UDP worker that wakes up for a packet is let onto its core at
/// once, where it would wait for the time slice of a thread that reads a list of Services: with one
/// core and 1 000 changes/s, p99 of cluster names was 6 times that of a quiet server, and with this
/// it is the same (2026-11).
const CLUSTERS_NICE: i32 = 19;
/// Most threads that know clusters: one reads, one indexes, and a relist of several kinds is no
/// reason to take more cores.
const CLUSTER_THREADS_MAX: usize = 4;

/// The runtime of the clusters, as long as the process.
static CLUSTERS: OnceLock<Runtime> = OnceLock::new();

/// Below this many files a busy server may run out: room for the errands of a node.
const FILES_MIN: u64 = 4096;

/// Files that are for nobody but questions upstream, the API server, the Snapshot and ourselves.
const FILES_RESERVED: u64 = 64;
/// Fewest places of each kind, however few files there are.
const PLACES_MIN: usize = 16;

/// Raises the soft limit to the hard one.
pub fn lift_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = setrlimit(Resource::Nofile, raised);
}

/// The same, and warns when that is little.
pub fn raise_open_files() {
    lift_open_files();
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
    go_behind(ERRANDS_NICE);
}

fn go_behind(nice: i32) {
    // A thread may always be nicer than it is; where it may not, answers are later and no worse.
    let _ = setpriority_process(None, nice);
}

/// Starts the threads for clusters, which go behind all others.
///
/// # Errors
/// When the threads cannot be started.
pub fn start_cluster_threads() -> io::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut builder = Builder::new_multi_thread();
    let builder = builder.worker_threads(threads.min(CLUSTER_THREADS_MAX)).enable_all();
    let builder = builder.thread_name("cluster").on_thread_start(|| go_behind(CLUSTERS_NICE));
    if CLUSTERS.get().is_none() {
        let _ = CLUSTERS.set(builder.build()?);
    }
    Ok(())
}

/// While this is held, tasks are spawned on the threads for clusters, if they have been started:
/// one who embeds a server, as tests do, may want all on one runtime.
pub fn on_cluster_threads() -> Option<EnterGuard<'static>> {
    CLUSTERS.get().map(Runtime::enter)
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

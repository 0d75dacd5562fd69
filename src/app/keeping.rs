//! What survives a restart: Snapshots of clusters, and the hot Answers of upstreams beside them.
//!
//! A cluster writes its own file, as `cluster::snapshot` says. The Answers have one of the same
//! form for all caches, for there may be several clusters, or none.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::Server;
use super::compile::place;
use super::parts::Parts;
use crate::cluster::snapshot::file::{self, ANSWERS, Draft, Reject};
use crate::cluster::snapshot::{complain, now_s};
use crate::corefile::{Corefile, ServerBlock};
use crate::resolve::keep::{self, Route};

/// Time between two writes of hot Answers. Who asks for them says so by the minute.
const ANSWERS_INTERVAL: Duration = Duration::from_secs(60);
/// Longest that the end of the process waits for the disk.
const SAVE_MAX: Duration = Duration::from_secs(2);
/// The one section of that file.
const ROUTES: u8 = 1;

impl Server {
    /// Writes what is known and not yet on the disk, within [`SAVE_MAX`].
    pub async fn save_now(&self) {
        let clusters = self.parts.clusters.iter().map(|cluster| cluster.keeping.save_now());
        let clusters = futures_util::future::join_all(clusters);
        let answers = async {
            if let Some(path) = answers_path(&self.corefile, &self.parts) {
                let routes = routes(&self.corefile, &self.parts);
                tell(&path, write(path.clone(), routes).await);
            }
        };
        let saved = timeout(SAVE_MAX, async { tokio::join!(clusters, answers) }).await;
        if saved.is_err() {
            tracing::warn!(
                "the disk takes more than {SAVE_MAX:?}; what was written before it stays"
            );
        }
    }
}

/// Puts the hot Answers of the last process into the caches of this one.
pub(super) fn restore(corefile: &Corefile, parts: &Parts) {
    let Some(path) = answers_path(corefile, parts) else { return };
    let routes = routes(corefile, parts);
    match read(&path, &routes) {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "Answers of upstreams are known from before"),
        Err(reject) => {
            tracing::warn!("{} is not used: {reject}; starting without it", path.display());
        }
    }
}

fn read(path: &Path, routes: &[Route]) -> Result<usize, Reject> {
    let path = path.to_owned();
    let Some(octets) = file::in_time(move || file::read(&path))?? else { return Ok(0) };
    let now_s = now_s();
    // Its name is its identity, too: each route in it has its own.
    let mut opened = file::open(&octets, ANSWERS, now_s)?;
    let age = Duration::from_secs(now_s.saturating_sub(opened.written_s));
    match opened.section()? {
        Some((ROUTES, mut section)) => {
            Ok(keep::read(&mut section, routes, age, Instant::now().into_std()))
        }
        _ => Err(Reject::Garbled),
    }
}

/// Keeps all of a Plan from here on, where its Corefile says, as long as `tasks` live.
pub(super) fn arrange(corefile: &Corefile, parts: &Parts, tasks: &mut JoinSet<()>) {
    parts.keep_clusters(corefile.blocks.iter().filter_map(|block| block.kubernetes.as_ref()));
    if let Some(path) = answers_path(corefile, parts) {
        tasks.spawn(keep_answers(path, routes(corefile, parts)));
    }
}

/// Writes the hot Answers whenever somebody was asked for more.
async fn keep_answers(path: PathBuf, routes: Vec<Route>) {
    let asked =
        || routes.iter().map(|route| route.cache.counters.misses.load(Relaxed)).sum::<u64>();
    let mut written = asked();
    loop {
        sleep(ANSWERS_INTERVAL.mul_f64(rand::random_range(0.9..1.1))).await;
        if asked() == written {
            continue;
        }
        written = asked();
        tell(&path, write(path.clone(), routes.clone()).await);
    }
}

/// Writes the hot Answers, in a thread of its own: it may look at many, and the disk may hang.
async fn write(path: PathBuf, routes: Vec<Route>) -> io::Result<()> {
    let (end, ended) = oneshot::channel();
    let now = Instant::now().into_std();
    let write = move || {
        let mut draft = Draft::new(ANSWERS, now_s());
        draft.section(ROUTES, |writer| {
            keep::write(writer, &routes, now);
        });
        // Nobody may wait for it any more.
        let _ = end.send(file::write(&path, &draft.seal()));
    };
    std::thread::Builder::new().name("snapshot".to_owned()).spawn(write)?;
    ended.await.unwrap_or_else(|_| Err(io::Error::other("bug: the thread for it panicked")))
}

fn tell(path: &Path, written: io::Result<()>) {
    if let Err(error) = written {
        complain(path, &error);
    }
}

/// Where the hot Answers are: beside the Snapshot of the first cluster, or with the state of the
/// server. Who wants no Snapshot wants none of this either.
fn answers_path(corefile: &Corefile, parts: &Parts) -> Option<PathBuf> {
    let first = corefile.blocks.iter().find_map(|block| block.kubernetes.as_ref());
    let folder = match first {
        Some(config) => config.snapshot.folder(parts.state()),
        None => parts.state(),
    };
    folder.map(|folder| file::path(folder, ANSWERS))
}

/// The caches of a Plan, each named by its place and by what its Answers come from: those of other
/// upstreams would be another truth.
fn routes(corefile: &Corefile, parts: &Parts) -> Vec<Route> {
    let route = |server: &ServerBlock| {
        let place = place(server.keys.first()?, "cache", 0);
        let (_, cache) = parts.caches.iter().find(|(its, _)| *its == place)?;
        let sources = server.forward.iter().map(|forward| {
            format!("{} from {:?} except {:?}", forward.from, forward.to, forward.except)
        });
        let sources: Vec<String> = sources.collect();
        let name = format!("{place}; {:?}; {}", cache.zones, sources.join("; "));
        Some(Route { name, cache: cache.clone() })
    };
    corefile.blocks.iter().filter_map(route).collect()
}

//! The server's end of the channel to its parent: sockets that were kept, and signs of life.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::Notify;

use super::super::{Error, limits};
use super::death::read_restarts;
use super::{SERVED_VARIABLE, VARIABLE};
use crate::corefile::Fingerprint;
use crate::listen::beat::{Beat, LOOK_EVERY};
use crate::listen::kept::{Channel, Kept, Message};

/// How often the runtime is to move.
const TICK: Duration = Duration::from_millis(500);
/// How long the runtime may stand still: longer than a worker, because it goes behind the workers,
/// and where those want every core whole it has little left.
const RUNTIME_PATIENCE: Duration = Duration::from_secs(10);
/// The same of the one for clusters, which goes behind everything and reads lists that are long.
const CLUSTERS_PATIENCE: Duration = Duration::from_secs(60);

/// What a server has of its parent.
pub struct Parent {
    pub kept: Arc<Kept>,
    /// How often a server was started again, by the reason.
    pub restarts: Vec<(&'static str, u64)>,
    /// What the last server served, by its fingerprint; empty where none did.
    pub served: String,
    gone: Arc<Notify>,
}

/// Whether this process was started by a parent.
pub fn has_parent() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

impl Parent {
    /// Takes what the parent has kept, and begins to show that we live. `None` without a parent.
    ///
    /// # Errors
    /// Standard input is no channel of a parent.
    pub fn meet() -> Result<Option<Self>, Error> {
        let Ok(told) = std::env::var(VARIABLE) else { return Ok(None) };
        let io = |source| Error::Io {
            what: format!("standard input is not from a supervisor; unset {VARIABLE}"),
            source,
        };
        // As the shell would have it: the path was the one of our own program in /proc.
        let _ = rustix::thread::set_name(c"mainstay");
        let end = std::io::stdin().as_fd().try_clone_to_owned().map_err(io)?;
        let kept = Channel::of_server(end).and_then(Kept::receive).map_err(io)?;
        let served = std::env::var(SERVED_VARIABLE).unwrap_or_default();
        let (restarts, kept) = (read_restarts(&told), Arc::new(kept));
        let parent = Self { kept, restarts, served, gone: Arc::default() };
        let (kept, gone) = (parent.kept.clone(), parent.gone.clone());
        let show = move || show_life(&kept, &gone);
        thread::Builder::new().name("beats".into()).spawn(show).map_err(io)?;
        Ok(Some(parent))
    }

    /// Shows that both runtimes move, for as long as they do.
    pub fn watch_runtimes(&self) {
        let start = |name: &str, patience| {
            let beat = self.kept.beats.start(name.into(), patience, Instant::now());
            // Ends with its runtime, and nobody waits for it.
            tokio::spawn(turns(beat));
        };
        start("runtime", RUNTIME_PATIENCE);
        let _entered = limits::on_cluster_threads();
        start("clusters", CLUSTERS_PATIENCE);
    }

    /// Tells what is served from now on, so that the next server knows. A parent that takes nothing
    /// knows what was served before, which then has no copy any more.
    pub fn tell_served(&self, fingerprint: &Fingerprint) {
        let _ = self.kept.channel.send(&Message::Serves(fingerprint.to_string()));
    }

    /// Waits for the end of the parent.
    pub async fn gone(&self) {
        self.gone.notified().await;
    }
}

/// Turns as long as the runtime does.
async fn turns(beat: Beat) {
    loop {
        beat.turn();
        tokio::time::sleep(TICK).await;
    }
}

/// Tells the parent that we live, or which thread does not, until it is gone.
fn show_life(kept: &Kept, gone: &Notify) {
    loop {
        let mut fds = [PollFd::new(&kept.channel, PollFlags::IN)];
        let wait = LOOK_EVERY.try_into().ok();
        let is_readable =
            poll(&mut fds, wait.as_ref()).map(|count| count > 0).unwrap_or_else(|_| {
                thread::sleep(LOOK_EVERY);
                false
            });
        if is_readable && !matches!(kept.channel.receive(), Ok(Some(_))) {
            gone.notify_one();
            return;
        }
        kept.retry_releases();
        let message = kept.beats.stuck(Instant::now()).map_or(Message::Beat, Message::Stuck);
        // A parent that takes nothing for a while is not ours to judge.
        let _ = kept.channel.try_send(&message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn p16_each_runtime_that_does_not_move_is_named() {
        let (parent, end) = Channel::pair().unwrap();
        parent.send(&Message::Given).unwrap();
        let kept = Kept::receive(Channel::of_server(end).unwrap()).unwrap();
        let (kept, restarts, served) = (Arc::new(kept), Vec::new(), String::new());
        let parent = Parent { kept, restarts, served, gone: Arc::default() };
        // No task of this thread has a turn while the test looks, at a time that flies.
        parent.watch_runtimes();
        let (begun, mut named) = (Instant::now(), Vec::new());
        for look in 0..=CLUSTERS_PATIENCE.as_millis() / LOOK_EVERY.as_millis() + 2 {
            let name = parent.kept.beats.stuck(begun + LOOK_EVERY * look as u32);
            named.extend(name.filter(|name| !named.contains(name)));
        }
        assert_eq!(named, ["runtime", "clusters"]);
    }
}

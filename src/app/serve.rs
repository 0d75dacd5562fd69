//! `mainstay serve`: from the arguments to a running server, its reloads and its end.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until, timeout};

use super::arguments::ServeArguments;
use super::last_good::LastGood;
use super::quiet::until_quiet;
use super::start::{ConfSource, Served, Start, tell_warnings};
use super::state::State;
use super::supervise::server_end::{Parent, has_parent};
use super::{BUILD, Error, Options, Server, limits, supervise};
use crate::corefile::{Reload, directive_names};
use crate::ops::{self, log};

/// Most UDP workers unless more are asked for: without a CPU limit a Pod sees all cores of its
/// node, and each worker holds half a MiB, and up to 4 MiB more where it is asked for very many
/// foreign names.
const WORKERS_MAX: usize = 16;
/// How often a Corefile that was bad at the start is looked at, if it does not say itself.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Within this the signals of a parent are one: it hands them on some 100 µs later, or later where
/// the machine is busy.
const ECHO_MAX: Duration = Duration::from_secs(1);
/// How long the end waits for threads that wait for a disk or a resolver themselves.
const THREADS_END_MAX: Duration = Duration::from_secs(1);

/// Serves until it is told to end.
pub fn run(arguments: &ServeArguments) -> ExitCode {
    if arguments.plugins {
        directive_names().for_each(|name| println!("dns.{name}"));
        return ExitCode::SUCCESS;
    }
    if arguments.supervised && !has_parent() {
        return supervise::run(arguments);
    }
    let counters = ops::Counters::default();
    counters.watch_panics();
    let flush = match log::start(&counters) {
        Ok(flush) => flush,
        Err(error) => return fail(&error),
    };
    let code = match serve(arguments, counters) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    };
    drop(flush);
    code
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}

fn serve(arguments: &ServeArguments, counters: ops::Counters) -> Result<(), Error> {
    let runtime = runtime()?;
    let served = runtime.block_on(async {
        // First of all: as process 1, a signal that nobody listens for does nothing.
        let signals = Signals::listen()?;
        limits::raise_open_files();
        let parent = Parent::meet()?.map(Arc::new);
        let signals = Signals { parent: parent.clone(), ..signals };
        if let Some(parent) = &parent {
            counters.tell_restarts(parent.restarts.clone());
            parent.watch_runtimes();
        }
        let source = ConfSource::new(arguments)?;
        // The one of a parent stays when we end.
        let _pidfile = PidFile::write(arguments.pidfile.as_deref().filter(|_| parent.is_none()))?;
        let options = options(arguments, parent.as_deref());
        let mut last_good = LastGood::new(options.state.as_ref(), &source.origin, source.options);
        let served_before = parent.as_ref().map_or("", |parent| &parent.served);
        let start = Start { source: &source, options, counters: &counters, last_good: &last_good };
        let (server, served) = start.start(served_before).await?;
        announce(&server, arguments.quiet);
        let (mut refused, mut insist) = (None, Insist::No);
        match served {
            Served::File => last_good.keep(server.corefile()),
            Served::CopyFirst => insist = Insist::Yes,
            Served::Copy(why) => refused = Some(why),
        }
        let parent = signals.parent.clone();
        let reloads = Reloads { source: &source, counters: &counters, last_good, refused, parent };
        live(server, reloads, signals, insist).await;
        Ok(())
    });
    runtime.shutdown_timeout(THREADS_END_MAX);
    served
}

/// The runtime for what waits: errands and TCP; and that of the clusters.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let builder = builder.enable_all().on_thread_start(limits::go_behind_workers);
    let started = limits::start_cluster_threads().and_then(|()| builder.build());
    started.map_err(|source| Error::Io { what: "cannot start the runtime".into(), source })
}

fn options(arguments: &ServeArguments, parent: Option<&Parent>) -> Options {
    let workers = arguments.workers.map_or_else(default_workers, usize::from);
    let state = State::open(arguments.state.as_deref());
    let kept = parent.map(|parent| parent.kept.clone());
    Options { bind: arguments.bind.clone(), workers, state, kept }
}

/// One UDP worker per core that we may use, up to [`WORKERS_MAX`].
pub(super) fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(WORKERS_MAX)
}

/// The file with our process id; taken away in the end, however that comes.
pub(super) struct PidFile<'p>(Option<&'p Path>);

impl<'p> PidFile<'p> {
    /// Writes it, if it is wanted.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(path: Option<&'p Path>) -> Result<Self, Error> {
        if let Some(path) = path {
            let what = format!("cannot write pidfile {}", path.display());
            let write = std::fs::write(path, format!("{}\n", std::process::id()));
            write.map_err(|source| Error::Io { what, source })?;
        }
        Ok(Self(path))
    }
}

impl Drop for PidFile<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Tells what is served, as CoreDNS does.
fn announce(server: &Server, quiet: bool) {
    if !quiet {
        let keys = server.corefile().blocks.iter().flat_map(|block| &block.keys);
        let mut text: String = keys.map(|key| format!("{}:{}\n", key.zone, key.port)).collect();
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        text += &format!("Mainstay-{}\n{os}/{arch}, {}\n", BUILD.version, BUILD.revision);
        // Nobody has to read it.
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
    told_fingerprint(server);
}

fn told_fingerprint(server: &Server) {
    if server.corefile().blocks.iter().any(|block| block.reload.is_some()) {
        let fingerprint = &server.corefile().fingerprint;
        tracing::info!(plugin = "reload", "Running configuration SHA512 = {fingerprint}");
    }
}

/// The signals that steer us.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
    hangup: Signal,
    quit: Signal,
    parent: Option<Arc<Parent>>,
}

/// What a signal asks for.
enum Wish {
    Reload,
    Drain,
    /// Finish what is under way, and end.
    Finish,
    EndNow,
}

impl Signals {
    fn listen() -> Result<Self, Error> {
        let listen = |kind| {
            let what = "cannot listen for signals".to_owned();
            signal(kind).map_err(|source| Error::Io { what, source })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            reload: listen(SignalKind::user_defined1())?,
            hangup: listen(SignalKind::hangup())?,
            quit: listen(SignalKind::quit())?,
            parent: None,
        })
    }

    /// The next wish. SIGHUP is none (as CoreDNS): a terminal that closes ends nothing.
    async fn next(&mut self) -> Wish {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Wish::Drain,
                _ = self.interrupt.recv() => return Wish::Drain,
                _ = self.reload.recv() => return Wish::Reload,
                _ = self.quit.recv() => return Wish::EndNow,
                _ = self.hangup.recv() => {}
                () = gone(self.parent.as_deref()) => {
                    self.parent = None;
                    return Wish::Finish;
                }
            }
        }
    }
}

/// Waits for the end of the parent; for ever without one.
async fn gone(parent: Option<&Parent>) {
    match parent {
        Some(parent) => parent.gone().await,
        None => std::future::pending().await,
    }
}

/// Lives until a signal ends it.
async fn live(
    mut server: Server,
    mut reloads: Reloads<'_>,
    mut signals: Signals,
    mut insist: Insist,
) {
    loop {
        let look = match insist {
            Insist::No => reloads.next_look(&server),
            Insist::Yes => Instant::now(),
        };
        // A reload may wait for a cluster; a signal ends that wait, and nothing has changed then.
        let wish = tokio::select! {
            wish = signals.next() => wish,
            () = async { sleep_until(look).await; reloads.look(&mut server, insist).await } => {
                insist = Insist::No;
                continue;
            }
        };
        match wish {
            Wish::Reload => insist = Insist::Yes,
            Wish::EndNow => return,
            Wish::Drain => return drain(server, &mut signals, Patience::UntilQuiet).await,
            Wish::Finish => {
                tracing::warn!("the supervisor has gone, ending too");
                return drain(server, &mut signals, Patience::None).await;
            }
        }
    }
}

/// Whether a Corefile that has not changed is applied too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Insist {
    Yes,
    No,
}

/// Takes over what has changed on disk.
struct Reloads<'s> {
    source: &'s ConfSource,
    counters: &'s ops::Counters,
    last_good: LastGood,
    /// Why the Corefile on disk is not the one that is served. Told once and not at every look.
    refused: Option<String>,
    parent: Option<Arc<Parent>>,
}

impl Reloads<'_> {
    /// When to look at the Corefile again: after the shortest interval of the `reload` directives.
    fn next_look(&self, server: &Server) -> Instant {
        let reloads = server.corefile().blocks.iter().filter_map(|block| block.reload);
        let Some(Reload { interval, jitter }) = reloads.min_by_key(|reload| reload.interval) else {
            return match self.counters.last_good_in_use.get() {
                // Nobody wants it; SIGUSR1 still does.
                0 => Instant::now() + Duration::from_secs(u64::from(u32::MAX)),
                _ => Instant::now() + LOOK_AGAIN,
            };
        };
        Instant::now() + interval + jitter.mul_f64(rand::rng().random_range(0.0..=1.0))
    }

    /// Serves the Corefile as it is on disk; a bad one changes nothing.
    async fn look(&mut self, server: &mut Server, insist: Insist) {
        let corefile = match self.source.load().await {
            Ok(corefile) => corefile,
            Err(error) => return self.refuse(&error, insist),
        };
        let is_same = corefile.fingerprint == server.corefile().fingerprint;
        if is_same && insist == Insist::No {
            return self.accept(server);
        }
        tracing::info!("Reloading");
        tell_warnings(&corefile);
        match server.apply(corefile).await {
            Ok(()) => {
                self.accept(server);
                if let Some(parent) = &self.parent {
                    parent.tell_served(&server.corefile().fingerprint);
                }
                told_fingerprint(server);
                tracing::info!("Reloading complete");
            }
            Err(error) => self.refuse(&error, insist),
        }
    }

    /// What is on disk is served.
    fn accept(&mut self, server: &Server) {
        self.refused = None;
        self.counters.last_good_in_use.set(0);
        self.last_good.keep(server.corefile());
    }

    fn refuse(&mut self, error: &Error, insist: Insist) {
        self.counters.reload_failed.inc();
        let text = error.to_string();
        if insist == Insist::Yes || self.refused.as_ref() != Some(&text) {
            tracing::error!(plugin = "reload", "Corefile changed but reload failed: {text}");
        }
        self.refused = Some(text);
    }
}

/// How long to go on before the end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// For the lameduck, and for as long as somebody asks.
    UntilQuiet,
    None,
}

/// Waits for a second signal, which ends at once. A service manager sends the first one to parent
/// and child, and the parent hands its own on: so with a parent, what comes soon after the first is
/// that again.
async fn second(mut next: impl AsyncFnMut() -> Wish, has_parent: bool) {
    if has_parent {
        let quit = async { while !matches!(next().await, Wish::EndNow) {} };
        if timeout(ECHO_MAX, quit).await.is_ok() {
            return;
        }
    }
    while matches!(next().await, Wish::Reload | Wish::Finish) {}
}

/// Goes on as before for a while, but not ready; then finishes. A second signal ends at once.
async fn drain(server: Server, signals: &mut Signals, patience: Patience) {
    server.begin_shutdown();
    let has_parent = signals.parent.is_some();
    if patience == Patience::UntilQuiet {
        let lameduck = server.lameduck();
        tracing::info!(
            plugin = "health",
            "Going into lameduck mode for {lameduck:?}; queries are still answered"
        );
    }
    let finish = async {
        if patience == Patience::UntilQuiet {
            until_quiet(server.lameduck(), || server.answered()).await;
        }
        server.drain().await
    };
    tokio::select! {
        left = finish => match left {
            0 => tracing::info!("every accepted query was answered, ending"),
            left => tracing::warn!("ending, {left} queries did not get their answer in time"),
        },
        () = second(async || signals.next().await, has_parent) => {
            tracing::warn!("second signal, ending at once");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    /// The milliseconds after which a drain ends at once, when wishes come at these.
    async fn ends_after(has_parent: bool, wishes: Vec<(u64, Wish)>) -> u128 {
        let begun = Instant::now();
        let mut wishes = wishes.into_iter();
        let mut coming = wishes.next();
        let next = async || {
            let Some((at, _)) = coming.as_ref() else { return std::future::pending().await };
            sleep_until(begun + Duration::from_millis(*at)).await;
            let (_, wish) = coming.take().expect("it was there");
            coming = wishes.next();
            wish
        };
        tokio::select! {
            () = second(next, has_parent) => begun.elapsed().as_millis(),
            () = sleep(Duration::from_secs(60)) => u128::MAX,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn p5_a_signal_that_a_parent_hands_on_is_no_second_one() {
        let twice = || vec![(1, Wish::Drain), (900, Wish::Drain)];
        assert_eq!(ends_after(false, twice()).await, 1);
        assert_eq!(ends_after(true, twice()).await, u128::MAX);
        let third = (2000, Wish::Drain);
        let all = twice().into_iter().chain([(1500, Wish::Reload), third]).collect();
        assert_eq!(ends_after(true, all).await, 2000);
        assert_eq!(ends_after(true, vec![(5, Wish::EndNow)]).await, 5, "SIGQUIT is meant");
        assert_eq!(ends_after(true, vec![(5, Wish::Finish)]).await, u128::MAX);
    }
}

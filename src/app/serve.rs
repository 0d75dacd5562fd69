//! `mainstay serve`: from the arguments to a running server, its reloads and its end.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rand::RngExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};

use super::arguments::ServeArguments;
use super::{BUILD, Error, Options, Server};
use crate::corefile::{self, Corefile, Origin, Reload, builtin, directive_names};
use crate::ops::{self, log};

/// Corefile that is read when none is named (as CoreDNS).
const COREFILE_DEFAULT: &str = "Corefile";
/// Largest Corefile from standard input, in octets.
const STDIN_MAX: u64 = 1 << 20;

/// Serves until it is told to end.
pub fn run(arguments: &ServeArguments) -> ExitCode {
    if arguments.plugins {
        directive_names().for_each(|name| println!("dns.{name}"));
        return ExitCode::SUCCESS;
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
    runtime.block_on(async {
        let source = ConfSource::new(arguments)?;
        let corefile = source.load()?;
        write_pid(arguments.pidfile.as_deref())?;
        let options = options(arguments);
        let server = Server::start(corefile, options, counters.clone()).await?;
        announce(&server, arguments.quiet);
        let result = live(server, &source, &counters).await;
        remove_pid(arguments.pidfile.as_deref());
        result
    })
}

/// The runtime for what waits: errands, TCP, watches.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    let builder = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    builder.map_err(|source| Error::Io { what: "cannot start the runtime".into(), source })
}

fn options(arguments: &ServeArguments) -> Options {
    let workers = arguments.workers.map_or_else(default_workers, usize::from);
    Options { bind: arguments.bind.clone(), workers }
}

/// One UDP worker per core that we may use.
pub(super) fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Where the Corefile comes from, to read it again.
struct ConfSource {
    origin: Origin,
    options: corefile::Options,
}

impl ConfSource {
    fn new(arguments: &ServeArguments) -> Result<Self, Error> {
        let options = corefile::Options { port: arguments.port, ..corefile::Options::default() };
        Ok(Self { origin: origin(arguments.conf.as_deref())?, options })
    }

    fn load(&self) -> Result<Corefile, Error> {
        let corefile = corefile::load(&self.origin, &self.options).map_err(Error::Corefile)?;
        for warning in &corefile.warnings {
            tracing::warn!("{warning}");
        }
        Ok(corefile)
    }
}

/// Finds the Corefile: the named one, `stdin`, the one in this folder, or in a cluster our own.
///
/// # Errors
/// When there is none, or standard input cannot be read.
pub(super) fn origin(named: Option<&Path>) -> Result<Origin, Error> {
    match named {
        Some(path) if path == Path::new("stdin") => {
            let mut text = Vec::new();
            let read = std::io::stdin().take(STDIN_MAX + 1).read_to_end(&mut text);
            read.map_err(|source| Error::Io { what: "cannot read stdin".into(), source })?;
            Ok(Origin::Stdin(text))
        }
        Some(path) => Ok(Origin::File(path.to_owned())),
        None if Path::new(COREFILE_DEFAULT).exists() => {
            Ok(Origin::File(PathBuf::from(COREFILE_DEFAULT)))
        }
        None if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => {
            Ok(Origin::Builtin(builtin::CLUSTER))
        }
        None => Err(Error::Usage(
            "there is no Corefile here, and this is no cluster; name one with -conf FILE, \
             or try `mainstay demo`",
        )),
    }
}

fn write_pid(path: Option<&Path>) -> Result<(), Error> {
    let Some(path) = path else { return Ok(()) };
    let write = std::fs::write(path, format!("{}\n", std::process::id()));
    let what = format!("cannot write pidfile {}", path.display());
    write.map_err(|source| Error::Io { what, source })
}

fn remove_pid(path: Option<&Path>) {
    if let Some(path) = path {
        let _ = std::fs::remove_file(path);
    }
}

/// Tells what is served, as CoreDNS does.
fn announce(server: &Server, quiet: bool) {
    if !quiet {
        for key in server.corefile().blocks.iter().flat_map(|block| &block.keys) {
            println!("{}:{}", key.zone, key.port);
        }
        println!("Mainstay-{}", BUILD.version);
        println!("{}/{}, {}", std::env::consts::OS, std::env::consts::ARCH, BUILD.revision);
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
}

/// What a signal asks for.
enum Wish {
    Reload,
    Drain,
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
            }
        }
    }
}

/// Lives until a signal ends it.
async fn live(
    mut server: Server,
    source: &ConfSource,
    counters: &ops::Counters,
) -> Result<(), Error> {
    let mut signals = Signals::listen()?;
    loop {
        let look = next_look(&server);
        let wish = tokio::select! {
            wish = signals.next() => wish,
            () = sleep_until(look) => {
                reload(&mut server, source, counters, Insist::No).await;
                continue;
            }
        };
        match wish {
            Wish::Reload => reload(&mut server, source, counters, Insist::Yes).await,
            Wish::EndNow => return Ok(()),
            Wish::Drain => {
                drain(server, &mut signals).await;
                return Ok(());
            }
        }
    }
}

/// When to look at the Corefile again: after the shortest interval of the `reload` directives.
fn next_look(server: &Server) -> Instant {
    let reloads = server.corefile().blocks.iter().filter_map(|block| block.reload);
    let Some(Reload { interval, jitter }) = reloads.min_by_key(|reload| reload.interval) else {
        // Nobody wants it; SIGUSR1 still does.
        return Instant::now() + Duration::from_secs(u64::from(u32::MAX));
    };
    Instant::now() + interval + jitter.mul_f64(rand::rng().random_range(0.0..=1.0))
}

/// Whether a Corefile that has not changed is applied too.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Insist {
    Yes,
    No,
}

/// Serves the Corefile as it is on disk; a bad one changes nothing.
async fn reload(
    server: &mut Server,
    source: &ConfSource,
    counters: &ops::Counters,
    insist: Insist,
) {
    let corefile = match source.load() {
        Ok(corefile) => corefile,
        Err(error) => return refuse_reload(counters, &error),
    };
    let is_same = corefile.fingerprint == server.corefile().fingerprint;
    if is_same && insist == Insist::No {
        return;
    }
    tracing::info!("Reloading");
    match server.apply(corefile).await {
        Ok(()) => {
            told_fingerprint(server);
            tracing::info!("Reloading complete");
        }
        Err(error) => refuse_reload(counters, &error),
    }
}

fn refuse_reload(counters: &ops::Counters, error: &Error) {
    counters.reload_failed.inc();
    tracing::error!(plugin = "reload", "Corefile changed but reload failed: {error}");
}

/// Goes on as before for the lameduck, but not ready; then finishes. A second signal ends at once.
async fn drain(server: Server, signals: &mut Signals) {
    let lameduck = server.lameduck();
    server.begin_shutdown();
    tracing::info!(
        plugin = "health",
        "Going into lameduck mode for {lameduck:?}; queries are still answered"
    );
    let finish = async {
        sleep(lameduck).await;
        server.drain().await
    };
    tokio::select! {
        left = finish => match left {
            0 => tracing::info!("every accepted query was answered, ending"),
            left => tracing::warn!("ending, {left} queries did not get their answer in time"),
        },
        _ = async { while matches!(signals.next().await, Wish::Reload) {} } => {
            tracing::warn!("second signal, ending at once");
        }
    }
}

//! Workers that start together and make one report: worker 0 listens, the others come to it.
//!
//! Worker 0 starts when all are there. If one goes during the run, the report is made of those that
//! stay, and says who is missing.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{info, warn};

use super::super::Error;
use super::super::arguments::RunArguments;
use super::super::lookups::LOOKUP_MAX;
use super::super::report::{Report, SCHEMA};
use super::call::{Call, Hello, REPORT_OCTETS_MAX, hear, hear_call, say};
use super::gather::{Workers, gather};

/// Most workers, as each is a connection and a report of worker 0.
pub const WORKERS_MAX: u32 = 1000;
/// How long workers wait for each other before the start: images are pulled, nodes come up.
pub const JOIN_TIME_MAX: Duration = Duration::from_secs(300);
/// How long worker 0 waits for reports after its own run has ended: another may have begun a lookup
/// in the last moment, and then has to judge and send.
pub const REPORT_TIME_MAX: Duration = Duration::from_secs(LOOKUP_MAX.as_secs() + 30);
/// Between tries to reach worker 0: this, then twice as much each time up to the maximum.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Longest try to reach one address.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Which worker this is, and where the others are.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where worker 0 is. Its name is looked up before the load starts, by the system.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Which worker, from 0.
    pub index: u32,
    /// How many.
    pub workers: u32,
    /// Of what all workers must agree on: [`digest`].
    pub digest: u64,
    /// How long to wait for the others. [`JOIN_TIME_MAX`].
    pub join_within: Duration,
    /// How long to wait for reports. [`REPORT_TIME_MAX`].
    pub report_within: Duration,
}

impl Settings {
    /// What the command line says; `None` for a worker that is alone.
    ///
    /// # Errors
    /// An option that is missing or wrong.
    pub fn new(arguments: &RunArguments) -> Result<Option<Self>, Error> {
        let (workers, index) = (arguments.workers, arguments.index);
        let wrong = |what: String| Err(Error::Config(what));
        if workers == 0 || workers > WORKERS_MAX {
            return wrong(format!("--workers {workers}: give a number from 1 to {WORKERS_MAX}"));
        }
        if workers == 1 {
            return Ok(None);
        }
        if index >= workers {
            return wrong(format!("--index {index}: give a number from 0 to {}", workers - 1));
        }
        let Some(place) = &arguments.coordinator else {
            return wrong(format!(
                "--workers {workers}: say where worker 0 is, --coordinator HOST:PORT"
            ));
        };
        let (host, port) = host_and_port(place)?;
        let digest = digest(arguments);
        let (join_within, report_within) = (JOIN_TIME_MAX, REPORT_TIME_MAX);
        Ok(Some(Self { host, port, index, workers, digest, join_within, report_within }))
    }

    /// How this worker introduces itself.
    fn hello(&self) -> Hello {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Hello { version, index: self.index, workers: self.workers, digest: self.digest }
    }

    /// Where worker 0 is, as written.
    fn place(&self) -> String {
        format!("--coordinator {}:{}", self.host, self.port)
    }
}

/// Reads HOST:PORT, where an IPv6 address is in brackets.
fn host_and_port(place: &str) -> Result<(String, u16), Error> {
    let parts = place.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match parts {
        Some((host, port)) if !host.is_empty() && port != 0 => {
            Ok((host.trim_start_matches('[').trim_end_matches(']').to_owned(), port))
        }
        _ => Err(Error::Config(format!(
            "--coordinator {place:?}: write it as HOST:PORT, such as load-0.load:9254"
        ))),
    }
}

/// A number that is equal for command lines that make the same load.
pub fn digest(arguments: &RunArguments) -> u64 {
    // Each worker may write its own report where it likes.
    let mut arguments = RunArguments { index: 0, quiet: false, metrics: None, ..arguments.clone() };
    for file in [&mut arguments.json, &mut arguments.html, &mut arguments.hdr, &mut arguments.junit]
    {
        *file = None;
    }
    // Without keys by chance, and workers of other versions are refused.
    let mut hasher = DefaultHasher::new();
    format!("{arguments:?}").hash(&mut hasher);
    hasher.finish()
}

/// All are there.
#[derive(Debug)]
pub struct Start {
    /// When the run begins, here. Ahead of now.
    pub at: Instant,
    /// Where its report goes.
    pub delivery: Delivery,
}

/// The way of a report when the run has ended.
#[derive(Debug)]
pub struct Delivery {
    settings: Settings,
    end: End,
}

/// The other ends.
#[derive(Debug)]
enum End {
    /// Of worker 0.
    Others(Workers),
    /// Of another.
    First(TcpStream),
}

/// Waits until all workers are there, as worker 0 or as another.
///
/// # Errors
/// Who is missing, who refuses us, or what the system said.
pub async fn join(settings: Settings) -> Result<Start, Error> {
    if settings.index > 0 {
        return come(settings).await;
    }
    let listener = listen(settings.port).await.map_err(|error| Error::System {
        what: format!("{}: listening for the other workers", settings.place()),
        error,
    })?;
    receive(&listener, settings).await
}

/// Listens on all addresses, of IPv6 too where there is any.
async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    }
}

/// Worker 0: waits for the others.
async fn receive(listener: &TcpListener, settings: Settings) -> Result<Start, Error> {
    info!(workers = settings.workers, "waiting for the other workers");
    let until = Instant::now() + settings.join_within;
    let gathered = gather(listener, &settings.hello(), until).await;
    let (at, workers) = gathered.map_err(|missing| {
        let within = settings.join_within.as_secs_f64();
        Error::Config(format!(
            "{} did not come within {within} s; look at their logs, or lower --workers",
            name(&missing)
        ))
    })?;
    Ok(Start { at, delivery: Delivery { settings, end: End::Others(workers) } })
}

/// `worker 3`, or `workers 3, 5`.
fn name(indices: &[u32]) -> String {
    let list: Vec<String> = indices.iter().map(u32::to_string).collect();
    format!("worker{} {}", if list.len() == 1 { "" } else { "s" }, list.join(", "))
}

/// Another worker: comes to worker 0, again and again where it is not there yet.
async fn come(settings: Settings) -> Result<Start, Error> {
    let until = Instant::now() + settings.join_within;
    let mut last = "nobody answers".to_owned();
    let mut pause = RETRY_PAUSE;
    while Instant::now() < until {
        match timeout_at(until, try_to_join(&settings)).await {
            Ok(Ok(start)) => return Ok(start),
            Ok(Err(Missed::Refused(why))) => {
                return Err(Error::Config(format!("worker 0 refuses this worker: {why}")));
            }
            Ok(Err(Missed::Io(error))) => last = error.to_string(),
            Err(_) => last = "others are missing".to_owned(),
        }
        // Without dice: Pods do not start in the same instant, and worker 0 hears many at once.
        sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
        pause = (2 * pause).min(RETRY_PAUSE_MAX);
    }
    let within = settings.join_within.as_secs_f64();
    Err(Error::Config(format!(
        "{}: no start within {within} s: {last}; see whether worker 0 runs and its name has an \
         address",
        settings.place()
    )))
}

/// Why a try to join came to nothing.
enum Missed {
    /// Trying again will not help.
    Refused(String),
    /// It may.
    Io(io::Error),
}

impl From<io::Error> for Missed {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Connects, introduces itself and waits for the start.
async fn try_to_join(settings: &Settings) -> Result<Start, Missed> {
    let mut stream = connect(settings).await?;
    say(&mut stream, &Call::Hello(settings.hello())).await?;
    loop {
        match hear_call(&mut stream).await? {
            Call::Ping => say(&mut stream, &Call::Pong).await?,
            Call::Refused(why) => return Err(Missed::Refused(why)),
            Call::Start { in_us } => {
                // Nobody is told to start later than this.
                let left = Duration::from_micros(in_us).min(JOIN_TIME_MAX);
                let delivery = Delivery { settings: settings.clone(), end: End::First(stream) };
                return Ok(Start { at: Instant::now() + left, delivery });
            }
            _ => return Err(Missed::Io(io::ErrorKind::InvalidData.into())),
        }
    }
}

/// Reaches worker 0 at any address of its name.
async fn connect(settings: &Settings) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "its name has no address");
    for address in lookup_host((&*settings.host, settings.port)).await? {
        match timeout(CONNECT_TIME_MAX, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failure)
}

impl Delivery {
    /// Waits until worker 0 has had enough, or is gone: then this worker should stop, too. Never
    /// ends for worker 0 itself. May be dropped at any time.
    pub async fn called_off(&self) {
        match &self.end {
            End::Others(_) => std::future::pending().await,
            // Nothing else comes before a report was sent; an error is an end, too.
            End::First(stream) => _ = stream.peek(&mut [0]).await,
        }
    }

    /// Brings the report of this worker to worker 0, which makes one of all with `merge`. The
    /// result is that report; `None` for the others, which are done.
    ///
    /// # Errors
    /// Worker 0 is gone.
    pub async fn deliver(
        self,
        own: Report,
        merge: impl FnOnce(Vec<Report>) -> Report,
    ) -> Result<Option<Report>, Error> {
        let within = self.settings.report_within;
        match self.end {
            End::Others(workers) => Ok(Some(collect(workers, own, within, merge).await)),
            End::First(stream) => {
                let sent = timeout(2 * within, send(stream, &own)).await;
                let sent = sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
                sent.map(|()| None).map_err(|error| Error::System {
                    what: format!(
                        "worker 0 did not take the report of worker {}",
                        self.settings.index
                    ),
                    error,
                })
            }
        }
    }
}

/// Sends a report and waits until it has come.
async fn send(mut stream: TcpStream, report: &Report) -> io::Result<()> {
    say(&mut stream, report).await?;
    while hear_call(&mut stream).await? != Call::Thanks {}
    Ok(())
}

/// Collects the reports of all and makes one of them. Whose does not come is named in its `ended`.
async fn collect(
    workers: Workers,
    own: Report,
    within: Duration,
    merge: impl FnOnce(Vec<Report>) -> Report,
) -> Report {
    let taking = workers.into_iter().map(|(index, stream)| async move {
        let taken = timeout(within, take(stream)).await;
        (index, taken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())))
    });
    let (mut reports, mut missing) = (vec![own], Vec::new());
    for (index, taken) in join_all(taking).await {
        match taken {
            Ok(report) => reports.push(report),
            Err(error) => {
                warn!(index, "the report of a worker is missing: {error}");
                missing.push(index);
            }
        }
    }
    let mut report = merge(reports);
    if !missing.is_empty() {
        let before = std::mem::take(&mut report.ended);
        let without = format!("without {}, which vanished", name(&missing));
        let is_new = before.is_empty() || before == "complete";
        report.ended = if is_new { without } else { format!("{before}, {without}") };
    }
    report
}

/// Asks a worker for its report.
async fn take(mut stream: TcpStream) -> io::Result<Report> {
    say(&mut stream, &Call::Enough).await?;
    let report: Report = hear(&mut stream, REPORT_OCTETS_MAX).await?;
    // Any JSON object is a report without figures.
    if report.schema != SCHEMA {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no report of ours"));
    }
    // It has done its part; whether it hears the thanks is no matter of the report.
    let _ = say(&mut stream, &Call::Thanks).await;
    Ok(report)
}

#[cfg(test)]
mod tests;

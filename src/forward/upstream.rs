//! One server that we forward to: its address, its health, its connections, its counters.
//!
//! An Upstream outlives the set it is in for as long as an exchange needs it, so a change of
//! resolv.conf harms nobody. Its one background task probes it while it is suspect, and ends
//! with it.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::allowance::Pace;
use super::counters::UpstreamCounters;
use super::failure::{Act, Cause, Failure, Path, Proto};
use super::health::Health;
use super::request::{Received, Request};
use super::rtt::Rtt;
use super::stream::{Connections, Limits};
use super::{Config, exchange, stream};
use crate::wire::{Answer, Question};

/// How long a health probe waits (as CoreDNS).
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Shortest time between two probes, whatever the Corefile says: a server that is in trouble
/// must not be asked more than five times a second by each of us.
pub const PROBE_INTERVAL_MIN: Duration = Duration::from_millis(200);
/// How long what an upstream denies is doubted after it has failed.
pub const DOUBT: Duration = Duration::from_secs(10);

/// Where an Upstream is, and which file says so.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    pub address: SocketAddr,
    /// `None` if the Corefile names the address itself.
    pub file: Option<PathBuf>,
}

/// One server that we forward to.
#[derive(Debug)]
pub struct Upstream {
    place: Place,
    config: Config,
    health: Health,
    rtt: Mutex<Rtt>,
    pace: Option<Pace>,
    /// When it last did not answer.
    failed_at: Mutex<Option<Instant>>,
    /// Errors of the network in a row.
    broken: AtomicU32,
    is_cut_out: AtomicBool,
    connections: Connections,
    /// What it did.
    pub counters: UpstreamCounters,
    /// Wakes the prober.
    suspected: Arc<Notify>,
    /// Holds the prober, and ends it on drop.
    _prober: JoinSet<()>,
}

/// What is needed for a probe, so that a probe under way does not keep its Upstream alive.
#[derive(Debug)]
struct Probe {
    request: Request,
    config: Config,
    address: SocketAddr,
}

impl Upstream {
    /// An Upstream of this directive, and its prober. To be called inside a runtime.
    pub(super) fn start(place: Place, config: &Config) -> Arc<Self> {
        let suspected = Arc::new(Notify::new());
        let probe = Probe::new(place.address, config);
        let limits = Limits {
            expire: config.expire,
            age_max: config.max_age,
            idle_max: config.max_idle_conns,
            source: config.source_address,
        };
        Arc::new_cyclic(|this| {
            let mut prober = JoinSet::new();
            prober.spawn(probe_while_wanted(this.clone(), suspected.clone(), probe));
            Self {
                health: Health::new(config.max_fails),
                rtt: Mutex::default(),
                pace: Pace::of(place.address.ip(), config.packets_per_second),
                failed_at: Mutex::default(),
                broken: AtomicU32::new(0),
                is_cut_out: AtomicBool::new(false),
                connections: Connections::new(place.address, limits),
                counters: UpstreamCounters::default(),
                config: config.clone(),
                place,
                suspected,
                _prober: prober,
            }
        })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.place.address
    }

    /// The file that names it, if not the Corefile.
    pub fn file(&self) -> Option<&FilePath> {
        self.place.file.as_deref()
    }

    /// Where it is, and which file says so.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Whether others are asked first.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// How long it takes to answer.
    pub fn rtt(&self) -> Rtt {
        *self.rtt.lock()
    }

    /// Whether it has failed within [`DOUBT`], so that its denials want a second opinion.
    pub fn is_suspect(&self) -> bool {
        self.failed_at.lock().is_some_and(|at| at.elapsed() < DOUBT)
    }

    /// Whether it sends our own queries back to us and is asked no more.
    pub fn is_cut_out(&self) -> bool {
        self.is_cut_out.load(Ordering::Relaxed)
    }

    /// Takes it out of the choice, or back in. The result is what was before.
    pub(crate) fn cut_out(&self, is_cut_out: bool) -> bool {
        self.is_cut_out.swap(is_cut_out, Ordering::Relaxed)
    }

    /// TCP connections that are kept for the next exchange.
    pub fn idle_connections(&self) -> usize {
        self.connections.idle_count()
    }

    /// The transport of probes: what is not to be asked over UDP is not to be probed so either.
    pub(super) fn probe_proto(&self) -> Proto {
        probe_proto(&self.config)
    }

    /// Closes connections that have been idle for too long.
    pub(super) fn sweep(&self, now: Instant) {
        self.connections.sweep(now);
    }

    /// Takes one of its packets per second.
    ///
    /// # Errors
    /// When there will be one.
    pub(super) fn take_packet(&self, now: Instant) -> Result<(), Instant> {
        let Some(pace) = &self.pace else { return Ok(()) };
        pace.take(now).inspect_err(|_| self.counters.packet_waits.add())
    }

    /// A response that fits came after so long. `is_late` if the try had been given up: then it
    /// lives, but that is no reason to ask it first. Over another transport than usual it says
    /// nothing about the time.
    pub(super) fn responded(&self, took: Duration, proto: Proto, is_late: bool) {
        self.broken.store(0, Ordering::Relaxed);
        if proto == self.probe_proto() {
            self.rtt.lock().observe(took);
        }
        if is_late {
            self.counters.late_answers.add();
            self.health.answered_late();
        } else {
            self.health.answered();
        }
    }

    /// A try was not answered in time.
    pub(super) fn was_silent(&self, failure: &Failure) {
        self.counters.time_outs.add();
        let must_probe = self.health.was_silent();
        self.failed(failure, must_probe);
    }

    /// The network failed, or the upstream hung up.
    pub(super) fn broke(&self, failure: &Failure) {
        if failure.is_local() {
            self.counters.failures.add();
            tracing::debug!(%failure, "nothing can be sent");
            return;
        }
        // One may have been forged.
        if self.broken.fetch_add(1, Ordering::Relaxed) > 0 {
            self.doubt(Instant::now());
        }
        let must_probe = self.health.exchange_failed();
        self.failed(failure, must_probe);
    }

    /// A question was lost here, and not only slow.
    pub(super) fn doubt(&self, now: Instant) {
        *self.failed_at.lock() = Some(now);
    }

    /// Another upstream, asked later, has answered first.
    pub(super) fn was_outrun(&self) {
        self.counters.outrun.add();
        if self.health.was_outrun() {
            self.suspected.notify_one();
        }
    }

    fn failed(&self, failure: &Failure, must_probe: bool) {
        self.counters.failures.add();
        tracing::debug!(%failure, "upstream failed");
        if must_probe {
            self.suspected.notify_one();
        }
    }

    /// A socket for one query over UDP.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn open(&self) -> Result<(UdpSocket, Path), Failure> {
        self.counters.udp_opened.add();
        exchange::open(self.place.address, self.config.source_address)
    }

    /// Sends the request over this socket and waits for what it may be answered with.
    ///
    /// # Errors
    /// The network's.
    pub(super) async fn ask_over_udp(
        &self,
        request: &Request,
        open: (UdpSocket, Path),
    ) -> Result<Received, Failure> {
        exchange::ask(open, request, &self.counters.mismatched).await
    }

    /// Sends the request over a connection, an idle one or a new one, and waits for what it may be
    /// answered with.
    ///
    /// # Errors
    /// The network's, and the time-out at `until`.
    pub(super) async fn ask_over_tcp(
        &self,
        request: &Request,
        until: Instant,
        is_new: bool,
    ) -> Result<Received, Failure> {
        self.connections.ask(request, until, is_new, &self.counters).await
    }

    /// Closes connections that have been idle since before: one of them was silent.
    pub(super) fn distrust_connections(&self, before: Instant) {
        self.connections.distrust(before);
    }

    /// Asks this upstream and no other, for a question of our own: over TCP if the response is
    /// truncated or has another id, without EDNS if that is refused.
    ///
    /// # Errors
    /// There was no response by `until`, or the network failed.
    pub(super) async fn ask_alone(
        &self,
        question: &Question,
        until: Instant,
    ) -> Result<Answer, Failure> {
        let mut request = Request::of(question);
        let mut proto = self.probe_proto();
        loop {
            let asked = Instant::now();
            let received = match proto {
                Proto::Udp => {
                    let open = self.open()?;
                    let timed_out = open.1.failed(Act::Read, Cause::TimedOut);
                    let ask = self.ask_over_udp(&request, open);
                    timeout_at(until, ask).await.unwrap_or(Err(timed_out))
                }
                Proto::Tcp => self.ask_over_tcp(&request, until, false).await,
            };
            match received.inspect_err(|failure| self.broke(failure))? {
                Received::Answer(answer) => {
                    self.counters.response(answer.rcode, asked.elapsed());
                    return Ok(answer);
                }
                Received::EdnsRefused => request = request.without_edns(),
                // Over TCP none of these leaves the wait, so this happens once.
                Received::Truncated | Received::NearMiss | Received::Ignored => proto = Proto::Tcp,
            }
        }
    }

    /// What a probe showed.
    fn probed(&self, result: Result<(), Failure>) {
        match result {
            Ok(()) => self.health.answered(),
            Err(failure) if failure.is_local() => {
                tracing::debug!(%failure, "no health probe can be sent");
            }
            Err(failure) => {
                self.counters.probe_failures.add();
                self.doubt(Instant::now());
                self.health.probe_failed();
                tracing::debug!(%failure, "health probe failed");
            }
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place.address)
    }
}

impl Probe {
    fn new(address: SocketAddr, config: &Config) -> Self {
        let check = &config.health_check;
        let request = Request::probe(&check.domain, check.recursion);
        Self { request, config: config.clone(), address }
    }

    /// Asks for the probe name. Any response is a sign of life (as CoreDNS).
    async fn send(&self) -> Result<(), Failure> {
        let until = Instant::now() + PROBE_TIMEOUT;
        let way = (self.address, self.config.source_address);
        match probe_proto(&self.config) {
            Proto::Udp => exchange::probe(&self.request, way, until).await,
            Proto::Tcp => stream::probe(&self.request, way, until).await,
        }
    }

    fn interval(&self) -> Duration {
        self.config.health_check.interval.max(PROBE_INTERVAL_MIN)
    }
}

fn probe_proto(config: &Config) -> Proto {
    if config.force_tcp { Proto::Tcp } else { Proto::Udp }
}

/// Waits until the upstream has failed, then probes it until it has answered. A probe is sent each
/// interval, whether the one before was answered or not: what comes back is found within one.
async fn probe_while_wanted(upstream: Weak<Upstream>, suspected: Arc<Notify>, probe: Probe) {
    loop {
        suspected.notified().await;
        // As many as fit into PROBE_TIMEOUT, so at most five.
        let mut under_way = FuturesUnordered::new();
        while is_wanted(&upstream) {
            under_way.push(probe.send());
            let next = Instant::now() + probe.interval();
            while let Ok(result) = timeout_at(next, results(&mut under_way)).await {
                let Some(upstream) = upstream.upgrade() else { return };
                upstream.probed(result);
                if !upstream.health.is_probed() {
                    break;
                }
            }
        }
    }
}

/// The next result of a probe; never, while none is under way.
async fn results<F>(under_way: &mut FuturesUnordered<F>) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    match under_way.next().await {
        Some(result) => result,
        None => std::future::pending().await,
    }
}

/// Whether the upstream is still there and still to be probed: an exchange may have succeeded.
fn is_wanted(upstream: &Weak<Upstream>) -> bool {
    upstream.upgrade().is_some_and(|upstream| upstream.health.is_probed())
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;
    use crate::forward::Forward;
    use crate::forward::scripted::{Act, LoopbackUpstream, bare, good};
    use crate::forward::tests::{config, question};
    use crate::wire::{Query, Rcode, RecordType};

    /// An upstream that answers while the flag is set.
    async fn switched(answers: &Arc<AtomicBool>) -> LoopbackUpstream {
        let answers = answers.clone();
        LoopbackUpstream::scripted(move |asked| match answers.load(Ordering::Relaxed) {
            true => vec![Act::Send(good(&asked.packet))],
            false => Vec::new(),
        })
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_upstream_is_down_after_failed_probes_and_up_after_one_response() {
        let answers = Arc::new(AtomicBool::new(false));
        let server = switched(&answers).await;
        let forward = Forward::start(config(&[server.address])).unwrap();
        let upstream = &forward.upstreams()[0];
        sleep(Duration::from_secs(60)).await;
        assert!(server.asked().is_empty(), "nothing is probed while all goes well");

        forward.ask(&question(), false).await.unwrap_err();
        sleep(Duration::from_secs(10)).await;
        assert!(upstream.health().is_down());
        forward.ask(&question(), false).await.unwrap_err();
        assert_eq!(forward.counters.all_down.value(), 1, "it is asked all the same");

        answers.store(true, Ordering::Relaxed);
        sleep(Duration::from_secs(2)).await;
        assert!(!upstream.health().is_down());
        let probes = server.asked().len();
        sleep(Duration::from_secs(60)).await;
        assert_eq!(server.asked().len(), probes, "probing has stopped");
        assert!(upstream.counters.probe_failures.value() >= 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_asks_for_the_configured_name_and_any_code_will_do() {
        let server = LoopbackUpstream::scripted(|asked| {
            let is_probe = Query::parse(&asked.packet).ok().unwrap().rtype == RecordType::NS;
            let refused = || Act::Send(bare(&asked.packet, 5, false));
            is_probe.then(refused).into_iter().collect()
        })
        .await;
        let mut config = config(&[server.address]);
        config.health_check.domain = crate::wire::Name::parse("probe.example").unwrap();
        config.health_check.recursion = false;
        let forward = Forward::start(config).unwrap();
        forward.ask(&question(), false).await.unwrap_err();
        let asked = server.asked();
        let probe = asked
            .iter()
            .map(|asked| Query::parse(&asked.packet).ok().unwrap())
            .find(|query| query.rtype == RecordType::NS)
            .unwrap();
        assert_eq!(probe.name().to_string(), "probe.example.");
        assert!(!probe.recursion_desired());
        assert_eq!(forward.upstreams()[0].health().fails(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_does_not_know_edns_is_asked_once_more_without() {
        for rcode in [1, 4] {
            let old = LoopbackUpstream::scripted(move |asked| {
                let has_edns = Query::parse(&asked.packet).ok().unwrap().edns.is_some();
                vec![Act::Send(match has_edns {
                    true => bare(&asked.packet, rcode, false),
                    false => good(&asked.packet),
                })]
            })
            .await;
            let forward = Forward::start(config(&[old.address])).unwrap();
            let answer = forward.ask(&question(), false).await.unwrap();
            assert_eq!((answer.rcode, old.asked().len()), (Rcode::NOERROR, 2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn formerr_without_edns_is_the_answer() {
        let picky =
            LoopbackUpstream::scripted(|asked| vec![Act::Send(bare(&asked.packet, 1, false))]);
        let picky = picky.await;
        let forward = Forward::start(config(&[picky.address])).unwrap();
        let answer = forward.ask(&question(), false).await.unwrap();
        assert_eq!((answer.rcode, picky.asked().len()), (Rcode::FORMERR, 2));
    }
}

//! One server that we forward to: its address, its health, its connections, its counters.
//!
//! An Upstream outlives the set it is in for as long as an exchange needs it, so a change of
//! resolv.conf harms nobody. Its one background task probes it while it is suspect, and ends
//! with it.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::config::HealthCheck;
use super::counters::UpstreamCounters;
use super::failure::{Failure, Proto};
use super::health::Health;
use super::request::{Received, Request};
use super::stream::Connections;
use super::{Config, exchange};
use crate::wire::{Answer, Question};

/// How long one send waits for its response (as CoreDNS's `read_timeout`).
pub const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a health probe waits (as CoreDNS).
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Shortest time between two probes, whatever the Corefile says: a server that is in trouble
/// must not be asked more than five times a second by each of us.
pub const PROBE_INTERVAL_MIN: Duration = Duration::from_millis(200);

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
    health: Health,
    health_check: HealthCheck,
    probe_proto: Proto,
    is_cut_out: AtomicBool,
    connections: Connections,
    /// What it did.
    pub counters: UpstreamCounters,
    /// Wakes the prober.
    suspected: Arc<Notify>,
    /// Holds the prober, and ends it on drop.
    _prober: JoinSet<()>,
}

impl Upstream {
    /// An Upstream of this directive, and its prober. To be called inside a runtime.
    pub(super) fn start(place: Place, config: &Config) -> Arc<Self> {
        let suspected = Arc::new(Notify::new());
        let interval = config.health_check.interval.max(PROBE_INTERVAL_MIN);
        Arc::new_cyclic(|this| {
            let mut prober = JoinSet::new();
            prober.spawn(probe_while_suspect(this.clone(), suspected.clone(), interval));
            Self {
                health: Health::new(config.max_fails),
                health_check: config.health_check.clone(),
                probe_proto: if config.force_tcp { Proto::Tcp } else { Proto::Udp },
                is_cut_out: AtomicBool::new(false),
                connections: Connections::new(place.address, config.expire),
                counters: UpstreamCounters::default(),
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
    pub fn file(&self) -> Option<&Path> {
        self.place.file.as_deref()
    }

    /// Where it is, and which file says so.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Failed probes, and whether others are asked first.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Whether it sends our own queries back to us and is asked no more.
    pub fn is_cut_out(&self) -> bool {
        self.is_cut_out.load(Ordering::Relaxed)
    }

    /// Takes it out of the choice, or back in. The result is what was before.
    pub(super) fn cut_out(&self, is_cut_out: bool) -> bool {
        self.is_cut_out.swap(is_cut_out, Ordering::Relaxed)
    }

    /// One try: asks, over TCP if the response is truncated, without EDNS if that is refused.
    ///
    /// # Errors
    /// The last send had no response in [`READ_TIMEOUT`] or by the deadline, or the network failed.
    pub(super) async fn ask(
        &self,
        question: &Question,
        proto: Proto,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let asked = Instant::now();
        let result = self.ask_as_far_as_needed(question, proto, deadline).await;
        match &result {
            Ok(answer) => {
                self.counters.response(answer.rcode, asked.elapsed());
                self.health.answered();
            }
            Err(failure) => self.suspect(failure),
        }
        result
    }

    /// TCP connections that are kept for the next exchange.
    pub fn idle_connections(&self) -> usize {
        self.connections.idle_count()
    }

    /// The transport of probes: what is not to be asked over UDP is not to be probed so either.
    pub(super) fn probe_proto(&self) -> Proto {
        self.probe_proto
    }

    /// Closes connections that have been idle for too long.
    pub(super) fn sweep(&self, now: Instant) {
        self.connections.sweep(now);
    }

    /// At most three sends: each turn of the loop ends it, or gives up UDP, or gives up EDNS.
    async fn ask_as_far_as_needed(
        &self,
        question: &Question,
        mut proto: Proto,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let mut request = Request::of(question);
        loop {
            let until = deadline.min(Instant::now() + READ_TIMEOUT);
            match self.send(&request, proto, until).await? {
                Received::Answer(answer) => return Ok(answer),
                Received::EdnsRefused => request = request.without_edns(),
                // Over TCP a truncated response is a failure, so this happens once; what is
                // ignored never leaves the wait.
                Received::Truncated | Received::Ignored => proto = Proto::Tcp,
            }
        }
    }

    async fn send(
        &self,
        request: &Request,
        proto: Proto,
        until: Instant,
    ) -> Result<Received, Failure> {
        match proto {
            Proto::Udp => {
                self.counters.udp_opened.add();
                exchange::ask(request, self.place.address, until, &self.counters.mismatched).await
            }
            Proto::Tcp => self.connections.ask(request, until, &self.counters).await,
        }
    }

    fn suspect(&self, failure: &Failure) {
        self.counters.failures.add();
        tracing::debug!(%failure, "upstream failed");
        if self.health.exchange_failed() {
            self.suspected.notify_one();
        }
    }

    /// Asks for the probe name. Any response is a sign of life (as CoreDNS).
    async fn probe(&self) {
        let request = Request::probe(&self.health_check.domain, self.health_check.recursion);
        let until = Instant::now() + PROBE_TIMEOUT;
        let result = match self.probe_proto {
            Proto::Udp => exchange::probe(&request, self.place.address, until).await,
            Proto::Tcp => self.connections.probe(&request, until).await,
        };
        match result {
            Ok(()) => self.health.answered(),
            Err(failure) => {
                self.counters.probe_failures.add();
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

/// Waits until the upstream is suspect, then probes it each interval until it is not.
async fn probe_while_suspect(upstream: Weak<Upstream>, suspected: Arc<Notify>, interval: Duration) {
    loop {
        suspected.notified().await;
        while probe_once(&upstream).await {
            sleep(interval).await;
        }
    }
}

/// Probes the upstream. Whether another probe is due: it is suspect still, and wanted still.
async fn probe_once(upstream: &Weak<Upstream>) -> bool {
    let Some(upstream) = upstream.upgrade() else { return false };
    // An exchange may have succeeded during the interval.
    if upstream.health.is_suspect() {
        upstream.probe().await;
    }
    upstream.health.is_suspect()
}

#[cfg(test)]
mod tests {
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

    #[tokio::test]
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

    #[tokio::test]
    async fn formerr_without_edns_is_the_answer() {
        let picky =
            LoopbackUpstream::scripted(|asked| vec![Act::Send(bare(&asked.packet, 1, false))]);
        let picky = picky.await;
        let forward = Forward::start(config(&[picky.address])).unwrap();
        let answer = forward.ask(&question(), false).await.unwrap();
        assert_eq!((answer.rcode, picky.asked().len()), (Rcode::FORMERR, 2));
    }
}

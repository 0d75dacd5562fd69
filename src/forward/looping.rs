//! The `loop` directive: finds upstreams that send our own queries back to us.
//!
//! ```text
//! LoopProbe ── HINFO <random>.<random>.<zone> ──► upstream ──► … ──► our listener ──► seen()
//! ```
//!
//! Unlike CoreDNS we never exit: the upstream is cut out of the choice, one ERROR line says where
//! to look, and all else is served on. The name cannot be guessed, or anybody could cut upstreams
//! out (CoreDNS CVE-2026-26018). An upstream that was cut out is probed again, so that a repaired
//! resolver comes back without a restart.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::config::READ_TIMEOUT;
use super::directive::UpstreamSet;
use super::{Failure, Forward, Upstream, entropy};
use crate::wire::name::NameError;
use crate::wire::{Answer, Name, NameRef, Question, RecordType};

/// How often a probe must come back until its upstream is cut out. One return may be a packet
/// that somebody replays.
pub const RETURNS_MAX: u32 = 2;
/// The pauses before the tries, in seconds: 30 s in all (as CoreDNS), for upstreams that are
/// slow to start. The first try that is answered without a return ends the probing.
const PAUSES_S: [u64; 6] = [0, 1, 2, 4, 8, 15];
/// How often upstreams that were cut out are probed again.
pub const RECHECK_INTERVAL: Duration = Duration::from_secs(30);

/// The probes of one `loop` directive through one Forward. Its task ends on drop.
#[derive(Debug)]
pub struct LoopProbe {
    probes: Arc<Probes>,
    _task: JoinSet<()>,
}

/// What is shared with the task.
#[derive(Debug)]
struct Probes {
    zone: Name,
    /// How we print where we listen, such as `:53`.
    listen: String,
    /// One for each upstream: as many as the directive has, so at most 15.
    list: RwLock<Vec<Arc<Probe>>>,
}

/// The probe of one upstream.
#[derive(Debug)]
struct Probe {
    upstream: Arc<Upstream>,
    /// A new one for each try, so that no cache on the way can answer: as many as there are
    /// [`PAUSES_S`].
    names: RwLock<Vec<Name>>,
    /// How often one of them came back.
    returns: AtomicU32,
}

impl LoopProbe {
    /// Probes each upstream of `forward`, those of a changed resolv.conf too. `listen` is how the
    /// listener is told in the log, such as `:53`. To be called inside a runtime.
    pub fn start(zone: Name, listen: impl Into<String>, forward: &Forward) -> Self {
        if let Err(error) = probe_name(&zone) {
            tracing::warn!(%zone, "no loop detection in this zone: {error}");
        }
        let probes = Arc::new(Probes { zone, listen: listen.into(), list: RwLock::default() });
        let mut task = JoinSet::new();
        task.spawn(probes.clone().run(forward.watch_upstreams()));
        Self { probes, _task: task }
    }

    /// Notes that `name` was asked for. If it is a probe of ours, answers its upstream, which is
    /// cut out by the second return. To be called for HINFO queries only; allocates nothing.
    pub fn seen(&self, name: NameRef<'_>) -> Option<Arc<Upstream>> {
        let list = self.probes.list.read();
        let probe = list.iter().find(|probe| probe.sent(name))?;
        let returns = probe.returns.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if returns >= RETURNS_MAX && !probe.upstream.cut_out(true) {
            tracing::error!("{}", self.probes.verdict(probe, name));
        }
        Some(probe.upstream.clone())
    }
}

impl Probes {
    /// Probes what is new or cut out, again whenever the upstreams change, until there are none.
    async fn run(self: Arc<Self>, mut upstreams: watch::Receiver<UpstreamSet>) {
        loop {
            let set = upstreams.borrow_and_update().clone();
            let due = self.follow(&set);
            join_all(due.iter().map(|probe| probe.run(&self.zone))).await;
            let is_any_cut_out = set.iter().any(|upstream| upstream.is_cut_out());
            let pause = if is_any_cut_out { RECHECK_INTERVAL } else { Duration::MAX };
            if let Ok(Err(_gone)) = timeout(pause, upstreams.changed()).await {
                return;
            }
        }
    }

    /// Makes the list follow the upstreams. The result are the probes to be sent.
    fn follow(&self, set: &UpstreamSet) -> Vec<Arc<Probe>> {
        let mut list = self.list.write();
        list.retain(|probe| set.iter().any(|upstream| Arc::ptr_eq(upstream, &probe.upstream)));
        let mut due: Vec<_> =
            list.iter().filter(|probe| probe.upstream.is_cut_out()).cloned().collect();
        for upstream in set.iter() {
            if list.iter().any(|probe| Arc::ptr_eq(upstream, &probe.upstream)) {
                continue;
            }
            let probe = Arc::new(Probe::new(upstream.clone()));
            list.push(probe.clone());
            due.push(probe);
        }
        due
    }

    /// The line that operators of CoreDNS know, with what to do.
    fn verdict(&self, probe: &Probe, name: NameRef<'_>) -> String {
        let Self { zone, listen, .. } = self;
        let upstream = &probe.upstream;
        format!(
            "Loop ({upstream} -> {listen}) detected for zone \"{zone}\", see \
             https://coredns.io/plugins/loop#troubleshooting. Query: \"HINFO {name}\". \
             Upstream {upstream} sends our queries back to us and is asked no more; {}",
            remedy(upstream.file())
        )
    }
}

impl Probe {
    fn new(upstream: Arc<Upstream>) -> Self {
        Self { upstream, names: RwLock::default(), returns: AtomicU32::new(0) }
    }

    fn sent(&self, name: NameRef<'_>) -> bool {
        self.names.read().iter().any(|sent| sent.as_ref() == name)
    }

    /// Sends the probe until it is answered without coming back, or the upstream is cut out, or
    /// the tries are used up. An upstream that was cut out is taken back in the first case.
    async fn run(&self, zone: &Name) {
        self.names.write().clear();
        self.returns.store(0, Ordering::Relaxed);
        for pause_s in PAUSES_S {
            sleep(Duration::from_secs(pause_s)).await;
            // A zone without room for the labels has been told of.
            let Ok(name) = probe_name(zone) else { return };
            match (self.send(name).await, self.returns.load(Ordering::Relaxed)) {
                (Ok(_), 0) => return self.take_back(),
                (_, RETURNS_MAX..) => return,
                _ => {}
            }
        }
    }

    async fn send(&self, name: Name) -> Result<Answer, Failure> {
        let question = Question::new(&name, RecordType::HINFO);
        self.names.write().push(name);
        self.upstream.ask_alone(&question, Instant::now() + READ_TIMEOUT).await
    }

    fn take_back(&self) {
        if self.upstream.cut_out(false) {
            tracing::info!(upstream = %self.upstream, "loop is gone; the upstream is asked again");
        }
    }
}

/// A name that nobody can guess. Two labels before the zone (as CoreDNS): some resolvers never
/// pass on a name of one label, and would hide a loop of the zone `.`.
fn probe_name(zone: &Name) -> Result<Name, NameError> {
    let labels = [entropy::label(), entropy::label()];
    Name::from_labels(labels.iter().map(String::as_bytes), zone.as_ref())
}

/// Where the operator has to look.
fn remedy(file: Option<&Path>) -> String {
    match file {
        Some(file) => format!(
            "{} names an address that leads back here: with systemd-resolved, point kubelet's \
             resolvConf or the forward directive at /run/systemd/resolve/resolv.conf",
            file.display()
        ),
        None => "name another address in the forward directive".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::forward::scripted::{Act, LoopbackUpstream, bare, good};
    use crate::forward::tests::{config, nameserver_lines, question, resolv_conf};
    use crate::forward::{Config, Error};
    use crate::wire::Query;

    /// A resolver that sends everything back to us, as long as it `is_looping`: what comes back
    /// is shown to the probe and then refused.
    struct Looping {
        upstream: LoopbackUpstream,
        probe: Arc<OnceLock<LoopProbe>>,
        is_looping: Arc<AtomicBool>,
    }

    impl Looping {
        async fn start() -> Self {
            let probe: Arc<OnceLock<LoopProbe>> = Arc::default();
            let is_looping = Arc::new(AtomicBool::new(true));
            let (back, loops) = (probe.clone(), is_looping.clone());
            let upstream = LoopbackUpstream::scripted(move |asked| {
                let query = Query::parse(&asked.packet).ok().unwrap();
                let returned = loops.load(Ordering::Relaxed)
                    && back.get().is_some_and(|probe| probe.seen(query.name()).is_some());
                vec![Act::Send(if returned {
                    bare(&asked.packet, 5, true)
                } else {
                    good(&asked.packet)
                })]
            });
            Self { upstream: upstream.await, probe, is_looping }
        }

        /// Starts the probes of `forward`, to which this resolver sends back what it gets.
        fn watch(&self, forward: &Forward) {
            self.probe.set(LoopProbe::start(Name::root(), ":53", forward)).unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_leads_back_is_cut_out_even_if_it_is_the_only_one() {
        let looping = Looping::start().await;
        let forward = Forward::start(config(&[looping.upstream.address])).unwrap();
        looping.watch(&forward);
        sleep(Duration::from_secs(5)).await;
        assert!(forward.upstreams()[0].is_cut_out());
        assert_eq!(forward.ask(&question(), false).await, Err(Error::Loop));
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_whose_loop_is_repaired_is_asked_again() {
        let looping = Looping::start().await;
        let forward = Forward::start(config(&[looping.upstream.address])).unwrap();
        looping.watch(&forward);
        sleep(Duration::from_secs(5)).await;
        looping.is_looping.store(false, Ordering::Relaxed);
        sleep(RECHECK_INTERVAL).await;
        assert!(!forward.upstreams()[0].is_cut_out());
        assert!(forward.ask(&question(), false).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_leads_elsewhere_is_probed_once_and_stays() {
        let honest = LoopbackUpstream::honest().await;
        let forward = Forward::start(config(&[honest.address])).unwrap();
        let probe = LoopProbe::start(Name::parse("example.org").unwrap(), ":53", &forward);
        sleep(Duration::from_secs(60)).await;
        assert!(!forward.upstreams()[0].is_cut_out());
        let asked = honest.asked();
        assert_eq!(asked.len(), 1);
        let query = Query::parse(&asked[0].packet).ok().unwrap();
        assert_eq!(query.rtype, RecordType::HINFO);
        let labels: Vec<&[u8]> = query.name().labels().collect();
        assert_eq!((labels[0].len(), labels[1].len()), (16, 16));
        assert_eq!(labels[2..], [&b"example"[..], b"org"]);
        assert!(probe.seen(question().name()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_a_changed_file_brings_is_probed_too() {
        let honest = LoopbackUpstream::honest().await;
        let looping = Looping::start().await;
        let (file, target) = resolv_conf(&[honest.address]);
        let forward = Forward::start(Config::new(Name::root(), vec![target])).unwrap();
        looping.watch(&forward);
        sleep(Duration::from_secs(1)).await;
        std::fs::write(file.path(), nameserver_lines(&[looping.upstream.address])).unwrap();
        sleep(Duration::from_secs(20)).await;
        assert!(forward.upstreams()[0].is_cut_out());
    }

    #[tokio::test]
    async fn the_log_names_the_loop_the_file_and_the_remedy() {
        let (file, target) = resolv_conf(&["127.0.0.53:53".parse().unwrap()]);
        let forward = Forward::start(Config::new(Name::root(), vec![target])).unwrap();
        let probe = LoopProbe::start(Name::root(), ":53", &forward);
        let due = probe.probes.follow(&forward.watch_upstreams().borrow().clone());
        let told = probe.probes.verdict(&due[0], question().name());
        assert!(told.starts_with(
            "Loop (127.0.0.53:53 -> :53) detected for zone \".\", see \
             https://coredns.io/plugins/loop#troubleshooting. Query: \"HINFO "
        ));
        assert!(told.contains(file.path().to_str().unwrap()) && told.contains("resolvConf"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_remembers_names_is_found_out_all_the_same() {
        let looping = Looping::start().await;
        let forward = Forward::start(config(&[looping.upstream.address])).unwrap();
        looping.watch(&forward);
        sleep(Duration::from_secs(5)).await;
        let asked = looping.upstream.asked();
        let names: HashSet<String> = asked
            .iter()
            .map(|asked| Query::parse(&asked.packet).ok().unwrap().name().to_string())
            .collect();
        assert_eq!(names.len(), asked.len(), "no name is asked for twice");
    }
}

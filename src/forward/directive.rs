//! One `forward` directive at run time.
//!
//! It holds its upstreams as one immutable set, which is replaced when resolv.conf changes: an
//! exchange goes on with the upstream it has. One task tends the directive: it reads the files
//! again and closes idle connections. It does not keep the Forward alive, and ends with it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep};

use super::choose::{self, Candidate};
use super::config::{TARGETS_MAX, Target};
use super::counters::ForwardCounters;
use super::failure::Proto;
use super::resolv::{self, Places, Unusable};
use super::{Answered, Budget, Config, Error, Opinion, Upstream, entropy};
use crate::wire::{Answer, NameRef, Question};

/// How long one question may take, over all tries (as CoreDNS): stub resolvers give up after 5 s.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the files are read again. They are small and compared by what they say, so that no
/// change is missed that keeps size or time.
pub const TEND_INTERVAL: Duration = Duration::from_secs(5);

/// The upstreams of a directive, in the order of the Corefile.
pub(super) type UpstreamSet = Arc<[Arc<Upstream>]>;

/// One `forward` directive at run time.
#[derive(Debug)]
pub struct Forward {
    config: Config,
    upstreams: watch::Sender<UpstreamSet>,
    /// One for each query that may be in flight; `None` without `max_concurrent`.
    slots: Option<Semaphore>,
    /// Questions asked, for `round_robin`.
    turn: AtomicUsize,
    /// What it did.
    pub counters: ForwardCounters,
    /// Whether the files could not be used when they were last read.
    is_stuck: AtomicBool,
    /// Holds the task that tends, and ends it on drop.
    _tending: JoinSet<()>,
}

impl Forward {
    /// Reads the files and begins to tend. To be called inside a runtime.
    ///
    /// # Errors
    /// [`Error::Config`] if there is no upstream, or a file cannot be read or names none.
    pub fn start(config: Config) -> Result<Arc<Self>, Error> {
        let places = resolv::places(&config.to)?;
        let forward = Self::start_without(config);
        forward.replace(places);
        Ok(forward)
    }

    /// Begins without upstreams, and takes them from the files when these can be used.
    pub fn start_without(config: Config) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| {
            let mut tending = JoinSet::new();
            tending.spawn(tend(this.clone()));
            Self {
                upstreams: watch::Sender::new(Arc::default()),
                slots: config.max_concurrent.map(slots),
                turn: AtomicUsize::new(0),
                counters: ForwardCounters::default(),
                is_stuck: AtomicBool::new(false),
                _tending: tending,
                config,
            }
        })
    }

    /// The directive as written.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether this directive is for `name`: within `from`, and within no `except`.
    pub fn covers(&self, name: NameRef<'_>) -> bool {
        name.is_within(self.config.from.as_ref())
            && !self.config.except.iter().any(|except| name.is_within(except.as_ref()))
    }

    /// The upstreams at this moment.
    pub fn upstreams(&self) -> Vec<Arc<Upstream>> {
        self.upstreams.borrow().to_vec()
    }

    /// Asks one upstream after another until one answers, whatever it says.
    ///
    /// # Errors
    /// [`Error::TooMany`] and [`Error::Loop`] at once; [`Error::Upstream`] when all tries failed
    /// or [`QUERY_TIMEOUT`] is over.
    pub async fn ask(&self, question: &Question, client_used_tcp: bool) -> Result<Answer, Error> {
        let _slot = self.take_slot()?;
        if self.upstreams.borrow().is_empty() {
            return Err(Error::NoUpstream);
        }
        let order = self.order();
        let proto = self.proto(client_used_tcp);
        let deadline = Instant::now() + QUERY_TIMEOUT;
        let (mut error, mut all_by_network) = (Error::Loop, true);
        for upstream in order.iter().cycle().take(choose::tries(order.len())) {
            match upstream.ask(question, proto, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(last) => {
                    all_by_network &= last.is_of_network();
                    error = Error::Upstream { last, all_by_network };
                }
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Err(error)
    }

    /// The same, within what is left of the Budget of a query, and tells who answered.
    ///
    /// # Errors
    /// As [`Forward::ask`]; also when the Budget is spent.
    pub async fn ask_within(
        &self,
        question: &Question,
        client_used_tcp: bool,
        _budget: &Budget,
    ) -> Result<Answered, Error> {
        let answer = self.ask(question, client_used_tcp).await?;
        let upstream = self.upstreams().into_iter().next().ok_or(Error::NoUpstream)?;
        Ok(Answered { answer, upstream })
    }

    /// Asks for a second opinion on a denial of something that was known to exist: another
    /// upstream, or the only one again, over TCP and a second later.
    pub async fn second_opinion(
        &self,
        _question: &Question,
        _denied: &Answered,
        _budget: &Budget,
    ) -> Opinion {
        Opinion::Unknown
    }

    /// The upstreams, to be told when they change. Does not keep the Forward alive.
    pub(super) fn watch_upstreams(&self) -> watch::Receiver<UpstreamSet> {
        self.upstreams.subscribe()
    }

    fn take_slot(&self) -> Result<Option<SemaphorePermit<'_>>, Error> {
        let Some(slots) = &self.slots else { return Ok(None) };
        slots.try_acquire().map(Some).map_err(|_| {
            self.counters.rejects.add();
            Error::TooMany(self.config.max_concurrent.unwrap_or_default())
        })
    }

    /// The upstreams in the order in which they are asked; empty if all are cut out.
    fn order(&self) -> Vec<Arc<Upstream>> {
        let upstreams = self.upstreams.borrow().clone();
        let candidates: Vec<_> = upstreams
            .iter()
            .filter(|upstream| !upstream.is_cut_out())
            .map(|upstream| Candidate {
                upstream: upstream.clone(),
                is_down: upstream.health().is_down(),
            })
            .collect();
        if !candidates.is_empty() && choose::all_down(&candidates) {
            self.counters.all_down.add();
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        choose::order(candidates, self.config.policy, turn, &mut entropy::source())
    }

    /// The transport: that of the client, unless the directive says otherwise (as CoreDNS).
    fn proto(&self, client_used_tcp: bool) -> Proto {
        let wants_tcp = client_used_tcp && !self.config.prefer_udp;
        if self.config.force_tcp || wants_tcp { Proto::Tcp } else { Proto::Udp }
    }

    /// Puts the upstreams of these places in use. Those that stay keep health and connections.
    fn replace(&self, places: Places) {
        let old = self.upstreams.borrow().clone();
        if old.iter().map(|upstream| upstream.place()).eq(&places.kept) {
            return;
        }
        for word in places.unread {
            tracing::warn!(nameserver = word, "not an address in resolv.conf; left out");
        }
        if places.surplus > 0 {
            tracing::warn!(surplus = places.surplus, "only {TARGETS_MAX} upstreams are used");
            self.counters.surplus_targets.add_many(places.surplus as u64);
        }
        let reuse_or_start = |place| match old.iter().find(|upstream| *upstream.place() == place) {
            Some(same) => same.clone(),
            None => Upstream::start(place, &self.config),
        };
        self.upstreams.send_replace(places.kept.into_iter().map(reuse_or_start).collect());
    }

    /// Reads the files again. What they said stays in use if they cannot be used.
    async fn reread(&self) {
        let targets = self.config.to.clone();
        // A panic or the end of the runtime leaves the old set, as an unreadable file does.
        let Ok(read) = spawn_blocking(move || resolv::places(&targets)).await else { return };
        match read {
            Ok(places) => {
                self.is_stuck.store(false, Ordering::Relaxed);
                self.replace(places);
            }
            Err(unusable) => self.keep_what_is(&unusable),
        }
    }

    /// Counts, and tells the operator once for each time that the files become unusable.
    fn keep_what_is(&self, unusable: &Unusable) {
        self.counters.resolv_failures.add();
        if !self.is_stuck.swap(true, Ordering::Relaxed) {
            tracing::warn!("{unusable}; the upstreams of before stay in use");
        }
    }

    fn has_files(&self) -> bool {
        self.config.to.iter().any(|target| matches!(target, Target::ResolvConf(_)))
    }
}

/// A slot for each query in flight; more than a semaphore can count is no limit in practice.
fn slots(max_concurrent: usize) -> Semaphore {
    Semaphore::new(max_concurrent.min(Semaphore::MAX_PERMITS))
}

/// Tends the directive until it is dropped.
async fn tend(forward: Weak<Forward>) {
    loop {
        sleep(TEND_INTERVAL).await;
        let Some(forward) = forward.upgrade() else { return };
        if forward.has_files() {
            forward.reread().await;
        }
        let now = Instant::now();
        forward.upstreams().iter().for_each(|upstream| upstream.sweep(now));
    }
}

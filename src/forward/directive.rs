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
use tokio::time::{Instant, sleep, timeout_at};

use super::allowance::Share;
use super::asking::{Asking, Shared};
use super::budget::TRIES_MAX;
use super::choose::{self, Candidate};
use super::config::{TARGETS_MAX, Target};
use super::counters::ForwardCounters;
use super::course::Rules;
use super::resolv::{self, Places, Unusable};
use super::{Answered, Budget, Config, Error, Opinion, Upstream, entropy};
use crate::wire::answer::Kind;
use crate::wire::{Answer, NameRef, Question, Rcode};

/// How long a question may take while all upstreams are down. They are asked all the same, for
/// probes may be what does not get through.
pub const ALL_DOWN_TIME_MAX: Duration = Duration::from_millis(1900);
/// How long the only upstream is left alone until it is asked for its second opinion.
pub const SECOND_OPINION_AFTER: Duration = Duration::from_secs(1);
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
    /// What may be asked twice.
    hedges: Share,
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
                hedges: Share::new(config.hedge_percent),
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

    /// Asks those again that were cut out of the choice: nobody looks for loops any more.
    pub fn take_all_back(&self) {
        for upstream in self.upstreams.borrow().iter().filter(|upstream| upstream.cut_out(false)) {
            tracing::info!(%upstream, "no loop is looked for; the upstream is asked again");
        }
    }

    /// Asks upstreams until one answers, within what is left of the Budget of a query, and tells
    /// who it was. A poor answer (SERVFAIL, REFUSED, …) is the answer if nobody has a better one.
    ///
    /// # Errors
    /// [`Error::TooMany`], [`Error::Loop`] and [`Error::AllDown`] at once; [`Error::Upstream`] when
    /// all tries failed or the time is over; what the Budget or the packets per second forbid.
    pub async fn ask_within(
        &self,
        question: &Question,
        client_used_tcp: bool,
        budget: &Budget,
    ) -> Result<Answered, Error> {
        self.ask_by(question, budget, self.rules(client_used_tcp, budget)).await
    }

    /// The same for a question of which nothing is known: where all refuse to listen, who may be
    /// restarted is waited for (see [`course::PAUSES`](super::course::PAUSES)).
    ///
    /// # Errors
    /// As [`Self::ask_within`].
    pub async fn ask_patiently(
        &self,
        question: &Question,
        client_used_tcp: bool,
        budget: &Budget,
    ) -> Result<Answered, Error> {
        let rules = Rules { rides_out: true, ..self.rules(client_used_tcp, budget) };
        self.ask_by(question, budget, rules).await
    }

    async fn ask_by(
        &self,
        question: &Question,
        budget: &Budget,
        mut rules: Rules,
    ) -> Result<Answered, Error> {
        let _slot = self.take_slot()?;
        let all = self.upstreams.borrow().clone();
        if all.is_empty() {
            return Err(Error::NoUpstream);
        }
        let order = self.order(&all, self.turn.fetch_add(1, Ordering::Relaxed));
        if order.is_empty() {
            return Err(Error::Loop);
        }
        if is_all_down(&order) {
            self.counters.all_down.add();
            if self.config.fails_fast {
                return Err(Error::AllDown);
            }
            rules.deadline = rules.deadline.min(Instant::now() + ALL_DOWN_TIME_MAX);
        }
        self.asking(question, budget, &order, rules).run().await
    }

    /// Whether anybody but this upstream can be asked.
    pub fn has_another(&self, than: &Upstream) -> bool {
        self.upstreams.borrow().iter().any(|upstream| can_vote(upstream, than))
    }

    /// Whether an upstream is known to take longer for an answer than most clients wait.
    pub fn is_slow(&self) -> bool {
        let is_slow = |upstream: &Arc<Upstream>| {
            upstream.rtt().smoothed().is_some_and(|rtt| rtt >= SECOND_OPINION_AFTER)
        };
        self.upstreams.borrow().iter().any(is_slow)
    }

    /// Whether each upstream has missed a probe and said nothing since. Without probes nobody
    /// knows.
    pub fn seems_dead(&self) -> bool {
        let is_unprobed = self.config.max_fails == 0;
        let seems_dead = |upstream: &Arc<Upstream>| {
            is_unprobed || upstream.is_cut_out() || upstream.health().fails() > 0
        };
        self.upstreams.borrow().iter().all(seems_dead)
    }

    /// Asks for a second opinion on a denial of something that was known to exist: another
    /// upstream, or, where no other can or wants to tell, the same again over TCP and a second
    /// later.
    pub async fn second_opinion(
        &self,
        question: &Question,
        denied: &Answered,
        budget: &Budget,
    ) -> Opinion {
        let Ok(_slot) = self.take_slot() else { return Opinion::Unknown };
        let all = self.upstreams.borrow().clone();
        // No question of its own, so nobody's turn is over.
        let mut others = self.order(&all, self.turn.load(Ordering::Relaxed));
        others.retain(|upstream| can_vote(upstream, &denied.upstream));
        if !others.is_empty() {
            let rules = self.rules(false, budget);
            match self.asking(question, budget, &others, rules).run().await {
                Ok(other) if is_refusal(&other.answer) => {}
                opinion => return compare(&denied.answer, opinion),
            }
        }
        timeout_at(budget.deadline(), sleep(SECOND_OPINION_AFTER)).await.ok();
        let rules = Rules { over_tcp: true, ..self.rules(false, budget) };
        let same = [denied.upstream.clone()];
        let opinion = self.asking(question, budget, &same, rules).run().await;
        compare(&denied.answer, opinion)
    }

    fn asking<'a>(
        &'a self,
        question: &'a Question,
        budget: &'a Budget,
        order: &'a [Arc<Upstream>],
        rules: Rules,
    ) -> Asking<'a> {
        let (config, counters, hedges) = (&self.config, &self.counters, &self.hedges);
        Asking::new(Shared { config, counters, hedges }, question, budget, order, rules)
    }

    fn rules(&self, client_used_tcp: bool, budget: &Budget) -> Rules {
        let tries_max = match self.config.max_connect_attempts {
            0 => TRIES_MAX,
            some => some.min(TRIES_MAX),
        };
        Rules {
            over_tcp: self.is_over_tcp(client_used_tcp),
            is_tcp_only: self.config.force_tcp,
            deadline: budget.deadline(),
            tries_max: tries_max as usize,
            time_out_max: self.config.read_timeout,
            rides_out: false,
        }
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

    /// The upstreams in the order in which they are asked first; empty if all are cut out.
    fn order(&self, all: &[Arc<Upstream>], turn: usize) -> Vec<Arc<Upstream>> {
        let candidates: Vec<_> = all
            .iter()
            .filter(|upstream| !upstream.is_cut_out())
            .map(|upstream| Candidate {
                upstream: upstream.clone(),
                standing: upstream.health().standing(),
            })
            .collect();
        choose::order(candidates, self.config.policy, turn, &mut entropy::source())
    }

    /// The transport: that of the client, unless the directive says otherwise (as CoreDNS).
    fn is_over_tcp(&self, client_used_tcp: bool) -> bool {
        self.config.force_tcp || (client_used_tcp && !self.config.prefer_udp)
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

/// Whether this upstream can tell more than that one.
fn can_vote(upstream: &Arc<Upstream>, than: &Upstream) -> bool {
    let is_there = !upstream.is_cut_out() && !upstream.health().is_down();
    is_there && upstream.address() != than.address()
}

/// Whether an upstream says nothing of the name: it was not willing, or not able, to look.
fn is_refusal(answer: &Answer) -> bool {
    answer.kind() == Kind::Failure && answer.rcode != Rcode::SERVFAIL
}

/// What another answer means for a denial.
fn compare(denied: &Answer, other: Result<Answered, Error>) -> Opinion {
    let Ok(other) = other else { return Opinion::Unknown };
    match (denied.kind(), other.answer.kind()) {
        // Both say that this type has nothing, and one that the name exists.
        (Kind::NxDomain, Kind::NoData) | (_, Kind::Found) => Opinion::Differs(other),
        (_, Kind::NoData | Kind::NxDomain) => Opinion::Agrees,
        (_, Kind::Failure) => Opinion::Unknown,
    }
}

fn is_all_down(order: &[Arc<Upstream>]) -> bool {
    order.iter().all(|upstream| upstream.health().is_down())
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

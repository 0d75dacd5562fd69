//! The asynchronous half of the journey: errands wait for the cluster, for the end of a chain of
//! aliases, or for an upstream, and then write the reply.
//!
//! ```text
//! Errand ─► Steps ─┬─ Cluster   until the first Zone, at most HOLD_MAX; then SERVFAIL (EDE 14)
//!                  ├─ Alias     an errand of its own for the target, through the whole Plan
//!                  └─ Upstream  cache again ─► Flight ─► cache
//! ```
//!
//! An internal failure never becomes NXDOMAIN or NODATA here: it is SERVFAIL.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::cache::Cache;
use super::config::Refresh;
use super::entry::{Entry, Freshness};
use super::fetch::Fetch;
use super::flight::Landing;
use super::now::{Client, gate};
use super::plan::{Block, Plan};
use super::step::{
    ClusterStep, Desk, Forwarding, Step, Verdict, Wait, answer_from, serve_stale, tell_age,
};
use super::tally::{Author, Served, Tally};
use crate::forward::budget::TIME_MAX;
use crate::forward::failure::{Act, Cause, Path, Proto};
use crate::forward::{Budget, Error};
use crate::wire::answer::CHAIN_MAX;
use crate::wire::{Answer, Ede, Name, NameRef, Query, Question, Rcode, Reply, TCP_MAX, message};

/// How long a name that may exist is held before the first sync. musl asks again after 2.5 s and
/// glibc after 5 s, so a later answer would come too late for the first try.
pub const HOLD_MAX: Duration = Duration::from_millis(1500);

/// How long a query waits when no upstream has answered others lately, nor a probe: a failure in
/// time lets the client ask another server. The question stays on its way.
const OUTAGE_PATIENCE: Duration = Duration::from_millis(1900);

/// Shortest time that an errand has, however long ago its query came: that of one exchange, for
/// what the last server had under way when it died.
const EXCHANGE_MIN: Duration = Duration::from_millis(500);

/// A query that has to be waited for.
pub struct Errand {
    pub plan: Arc<Plan>,
    /// The listen port that it came to.
    pub port: u16,
    pub packet: Vec<u8>,
    pub client: Client,
    /// When it came.
    pub arrived: Instant,
    /// How long it waits while no upstream answers anybody.
    outage_end: Instant,
    pub purpose: Purpose,
    /// Aliases followed so far. The reply to the target of one is put together whole; the chain is
    /// cut to the client's size in the end.
    pub depth: usize,
    /// What may be spent on it. Aliases share that of the query.
    pub budget: Arc<Budget>,
}

/// What an errand is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Somebody waits for the reply.
    Reply,
    /// The cache is to be refreshed; nobody waits.
    Refresh,
}

/// The end of an errand: the reply and what to count.
pub struct Done {
    pub reply: Vec<u8>,
    /// Why it is no better one.
    pub ede: Option<Ede>,
    pub served: Served,
    pub tally: Arc<Tally>,
}

/// A reply under way.
struct Written {
    out: Vec<u8>,
    rcode: Rcode,
    ede: Option<Ede>,
    author: Author,
}

type Running<'e> = Pin<Box<dyn Future<Output = Option<Done>> + Send + 'e>>;

impl Errand {
    /// A packet that has just come and has to be waited for.
    pub fn new(
        plan: Arc<Plan>,
        port: u16,
        packet: Vec<u8>,
        client: Client,
        arrived: Instant,
        purpose: Purpose,
    ) -> Self {
        let fair = Instant::now() + EXCHANGE_MIN;
        let outage_end = fair.max(arrived + OUTAGE_PATIENCE);
        let budget = Arc::new(Budget::until(fair.max(arrived + TIME_MAX)));
        Self { plan, port, packet, client, arrived, outage_end, purpose, depth: 0, budget }
    }

    /// Runs to the end. `None` when the packet is no query or its port is gone.
    pub fn run(&self) -> Running<'_> {
        // Boxed, because an alias is an errand inside this one.
        Box::pin(async move {
            let query = Query::parse(&self.packet).ok()?;
            let port = self.plan.port(self.port)?;
            let number = port.block_number(&query)?;
            let block = port.block(number);
            let Written { out, rcode, ede, author } = self.answer(block, &query).await;
            let (block, reply_bytes) = (Some(number), out.len());
            let served = Served { block, author, rcode, reply_bytes, ..self.client.asks(&query) };
            Some(Done { reply: out, ede, served, tally: port.tally(block).clone() })
        })
    }

    async fn answer(&self, block: &Block, query: &Query<'_>) -> Written {
        let refused = gate(query, block);
        if let Some(rcode) = refused {
            return self.write(query, Author::None, |reply| reply.set_rcode(rcode));
        }
        let mut cache = None;
        for step in &block.steps {
            match step {
                Step::External(external) => {
                    let turn = turn(block, query);
                    if let Some(written) = self.answer_from_cluster(external, query, turn).await {
                        return written;
                    }
                }
                Step::Kubernetes(kubernetes) => {
                    let turn = turn(block, query);
                    if let Some(written) = self.answer_from_cluster(kubernetes, query, turn).await {
                        return written;
                    }
                }
                Step::Cache(here) if here.covers(query.name()) => {
                    cache = Some(here);
                    if self.purpose == Purpose::Refresh {
                        continue;
                    }
                    if let Some(written) = self.answer_from_cache(here, query) {
                        return written;
                    }
                }
                Step::Forward(forwarding) if forwarding.forward.covers(query.name()) => {
                    let written = self.answer_from_upstream(block, cache, forwarding, query).await;
                    // What has expired and is served counts as a hit.
                    if self.purpose == Purpose::Reply && written.author != Author::Cache {
                        cache.inspect(|cache| cache.counters.missed());
                    }
                    return written;
                }
                _ => {}
            }
        }
        self.fail(query, Author::None, None)
    }

    /// A Step that answers from a Zone, with all that it has to wait for. `None` is Next.
    async fn answer_from_cluster<S: ClusterStep>(
        &self,
        step: &S,
        query: &Query<'_>,
        turn: u32,
    ) -> Option<Written> {
        let deadline = self.arrived + HOLD_MAX;
        loop {
            let seen = step.published().generation();
            let was_synced = step.published().zone().is_synced;
            let mut verdict = Verdict::Next;
            let written = self.write(query, S::AUTHOR, |reply| {
                verdict = step.answer_now(query, turn, reply);
            });
            match verdict {
                Verdict::Reply(_) | Verdict::ReplyAndRefresh(_) => return Some(written),
                Verdict::Next | Verdict::Ask(Wait::Upstream) => return None,
                Verdict::Ask(Wait::Alias(target)) => {
                    return Some(self.follow(query, &target, step).await);
                }
                // Pods and imports may stay unknown for want of a right, and nobody may be held for
                // that again and again.
                Verdict::Ask(Wait::Cluster) if was_synced => {
                    return Some(self.fail(query, S::AUTHOR, Some(Ede::NOT_READY)));
                }
                Verdict::Ask(Wait::Cluster) => {
                    let wait = timeout_at(deadline, step.published().newer_than(seen));
                    if wait.await.is_err() {
                        return Some(self.fail(query, S::AUTHOR, Some(Ede::NOT_READY)));
                    }
                }
            }
        }
    }

    /// Answers with the alias and with what its target says (Kubernetes DNS specification §2.5).
    async fn follow<S: ClusterStep>(&self, query: &Query<'_>, target: &Name, step: &S) -> Written {
        let inner = match self.errand_for(query, target.as_ref()) {
            Some(errand) if self.depth < CHAIN_MAX => errand.run().await,
            _ => None,
        };
        let ede = inner.as_ref().and_then(|done| done.ede);
        let inner = inner.as_ref().map(|done| &done.reply[..]);
        match message::chained(query.name(), query.rtype, step.ttl_s(), target, inner) {
            Some(mut answer) => {
                // The reason of the end is that of the chain, as its response code is.
                answer.ede = ede;
                self.write(query, S::AUTHOR, |reply| {
                    reply.answer(&answer, None, 0);
                    // Aliases are of Services.
                    if step.published().is_stale() {
                        tell_age(reply);
                    }
                })
            }
            None => self.fail(query, S::AUTHOR, None),
        }
    }

    fn errand_for(&self, query: &Query<'_>, name: NameRef<'_>) -> Option<Errand> {
        Some(Errand {
            plan: self.plan.clone(),
            port: self.port,
            packet: message::question_for(query, name)?,
            client: self.client,
            arrived: self.arrived,
            outage_end: self.outage_end,
            purpose: Purpose::Reply,
            depth: self.depth + 1,
            budget: self.budget.clone(),
        })
    }

    /// What another query may have brought into the cache meanwhile.
    fn answer_from_cache(&self, cache: &Cache, query: &Query<'_>) -> Option<Written> {
        let mut verdict = Verdict::Next;
        let written = self.write(query, Author::Cache, |reply| {
            verdict = answer_from(cache, query, now(), &mut Desk::small(), reply);
        });
        if matches!(verdict, Verdict::ReplyAndRefresh(_)) {
            self.refresh_behind();
        }
        matches!(verdict, Verdict::Reply(_) | Verdict::ReplyAndRefresh(_)).then_some(written)
    }

    /// Refreshes the Entry that was served, for the right to do so was taken with it. Each Entry
    /// gives that right once in a while, and Flights are bounded.
    fn refresh_behind(&self) {
        let (plan, packet, arrived) = (self.plan.clone(), self.packet.clone(), Instant::now());
        let refresh = Self::new(plan, self.port, packet, self.client, arrived, Purpose::Refresh);
        tokio::spawn(async move { refresh.run().await });
    }

    async fn answer_from_upstream(
        &self,
        block: &Block,
        cache: Option<&Arc<Cache>>,
        forwarding: &Forwarding,
        query: &Query<'_>,
    ) -> Written {
        let question = Question::of(query);
        let stale = cache.filter(|_| query.recursion_desired());
        let stale = stale.and_then(|cache| stale_entry(cache, &question).map(|it| (cache, it)));
        // RFC 9520 §3.2: while a failure is kept nobody is asked, before an Entry expires neither.
        if self.purpose == Purpose::Refresh
            && stale.is_none()
            && cache.is_some_and(|cache| cache.has_failed(&question, now()))
        {
            return self.fail(query, Author::Cache, None);
        }
        if let Some((cache, entry)) = &stale
            && !self.may_refresh(cache, entry, &question, forwarding)
        {
            return self.write_stale(query, cache, entry);
        }
        let landing = self.fly(cache, forwarding, &question, stale.is_some()).await;
        match (landing, &stale) {
            // RFC 8767 §4: an expired Answer is better than a failure, whoever reports it, and than
            // a denial that is doubted.
            (Some(Some(Ok(landed))), stale)
                if stale.is_none() || !landed.is_failure() && !landed.is_kept =>
            {
                self.write(query, Author::Forward, |reply| {
                    reply.answer(&landed.answer, landed.ttl_s, turn(block, query));
                })
            }
            (failure, Some((cache, entry))) => {
                entry.refresh_failed(now());
                self.tell(block, &question, failure.flatten());
                self.write_stale(query, cache, entry)
            }
            (Some(failure), None) => self.tell_and_fail(block, query, &question, failure),
            (None, None) => self.fail(query, Author::Forward, Some(Ede::NO_REACHABLE_AUTHORITY)),
        }
    }

    /// Serves what has expired, to somebody who waits for it.
    fn write_stale(&self, query: &Query<'_>, cache: &Cache, entry: &Entry) -> Written {
        match self.purpose {
            Purpose::Reply => {
                self.write(query, Author::Cache, |reply| serve_stale(cache, entry, reply))
            }
            Purpose::Refresh => self.fail(query, Author::Cache, None),
        }
    }

    /// Whether upstreams are to be asked for what has expired.
    fn may_refresh(
        &self,
        cache: &Cache,
        entry: &Entry,
        question: &Question,
        forwarding: &Forwarding,
    ) -> bool {
        // RFC 9520 §3.2: while a failure is kept nobody is asked; what expired is served meanwhile.
        if cache.has_failed(question, now()) {
            return false;
        }
        let may = forwarding.flights.outage.may_refresh(now());
        if !may {
            entry.refresh_failed(now());
            cache.counters.put_off();
        }
        may
    }

    /// Waits for the Flight of a question: `None` when it brings what is doubted while something is
    /// known; `Some(None)` when there are too many. One that takes too long is a time-out. The time
    /// is that of this query, whoever began the Flight.
    async fn fly(
        &self,
        cache: Option<&Arc<Cache>>,
        forwarding: &Forwarding,
        question: &Question,
        has_stale: bool,
    ) -> Option<Option<Landing>> {
        let doubted = Arc::new(Notify::new());
        let fetch = Fetch {
            forwarding: forwarding.clone(),
            cache: cache.cloned(),
            question: question.clone(),
            proto: self.client.proto,
            budget: self.budget.clone(),
            has_stale,
            doubted: doubted.clone(),
        };
        let landing = forwarding.flights.join(question, fetch.run());
        let waits = has_stale && self.purpose == Purpose::Reply;
        let patience = cache.filter(|_| waits).and_then(|cache| patience(cache));
        // RFC 8767 §5: the client response timer runs from when the query came.
        let until = patience.map(|patience| self.arrived + patience);
        let end = match forwarding.flights.outage.is_confirmed() {
            true => self.budget.deadline().min(self.outage_end),
            false => self.budget.deadline(),
        };
        let until = until.map_or(end, |until| until.min(end));
        // Nobody waits for a refresh, so that it has the time of its Flight.
        let early = match self.purpose {
            Purpose::Reply => self.outage_end,
            Purpose::Refresh => until,
        };
        let in_time = in_time(landing, early, until, forwarding);
        let timed_out = || Some(Err(Arc::new(late(forwarding))));
        tokio::select! {
            landing = in_time => Some(landing.unwrap_or_else(timed_out)),
            () = doubted.notified(), if waits => None,
        }
    }

    fn tell(&self, block: &Block, question: &Question, landing: Option<Landing>) {
        let (Some(log), Some(Err(error))) = (&block.errors, landing) else { return };
        log.tell(question, Rcode::SERVFAIL, &error, now());
    }

    fn tell_and_fail(
        &self,
        block: &Block,
        query: &Query<'_>,
        question: &Question,
        landing: Option<Landing>,
    ) -> Written {
        let error = landing.as_ref().and_then(|landing| landing.as_ref().err());
        let is_too_many = error.is_some_and(|error| matches!(**error, Error::TooMany(_)));
        let ede = error.map_or(Some(Ede::NOT_ASKED), |error| error.ede());
        self.tell(block, question, landing);
        if is_too_many {
            // As CoreDNS: a client with another server asks it at once.
            return self.write(query, Author::Forward, |reply| reply.set_rcode(Rcode::REFUSED));
        }
        self.fail(query, Author::Forward, ede)
    }

    fn fail(&self, query: &Query<'_>, author: Author, ede: Option<Ede>) -> Written {
        let answer = Answer::bare(Rcode::SERVFAIL, ede);
        self.write(query, author, |reply| reply.answer(&answer, None, 0))
    }

    /// Writes a reply of the client's size.
    fn write(
        &self,
        query: &Query<'_>,
        author: Author,
        fill: impl FnOnce(&mut Reply<'_>),
    ) -> Written {
        let limit = if self.depth > 0 { TCP_MAX } else { self.client.limit(query) };
        let mut out = vec![0; limit];
        let mut reply = Reply::to(query, limit, &mut out);
        fill(&mut reply);
        let (rcode, ede) = (reply.rcode(), reply.ede());
        let len = reply.finish();
        out.truncate(len);
        out.shrink_to_fit();
        Written { out, rcode, ede, author }
    }
}

/// Waits for a Flight until then, and no longer than `early` while no upstream answers anybody, nor
/// probes: a failure in time lets the client ask another server. The question stays on its way.
async fn in_time(
    landing: impl Future<Output = Option<Landing>>,
    early: Instant,
    until: Instant,
    forwarding: &Forwarding,
) -> Option<Option<Landing>> {
    let mut landing = std::pin::pin!(landing);
    if early < until {
        if let Ok(landing) = timeout_at(early, &mut landing).await {
            return Some(landing);
        }
        // Whoever is known to be slow is waited for, and so is whoever answers probes: behind a
        // cache that is rarely missed, silence says nothing.
        let forward = &forwarding.forward;
        let is_silent = forwarding.flights.outage.is_silent(now());
        if is_silent && !forward.is_slow() && forward.seems_dead() {
            return None;
        }
    }
    timeout_at(until, landing).await.ok()
}

/// What the operator is told of a question that is still on its way: whom it waits for.
fn late(forwarding: &Forwarding) -> Error {
    let Some(first) = forwarding.forward.upstreams().into_iter().next() else {
        return Error::NoUpstream;
    };
    let path = Path { proto: Proto::Udp, local: None, remote: first.address() };
    let last = path.failed(Act::Read, Cause::TimedOut);
    Error::Upstream { last, all_by_network: false }
}

/// Which address comes first. The id of a query is random enough.
fn turn(block: &Block, query: &Query<'_>) -> u32 {
    if block.turns_addresses { query.id().into() } else { 0 }
}

/// An expired Entry that may still be served.
fn stale_entry(cache: &Cache, question: &Question) -> Option<Arc<Entry>> {
    let (entry, freshness) = cache.get(question.octets(), now())?;
    (freshness == Freshness::Stale).then_some(entry)
}

/// How long an upstream is waited for while a stale Entry is at hand (`serve_stale verify`).
fn patience(cache: &Cache) -> Option<Duration> {
    match cache.config.serve_stale?.refresh {
        Refresh::Verify(patience) if !patience.is_zero() => Some(patience),
        _ => None,
    }
}

/// The clock of the runtime, which tests can stop.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

#[cfg(test)]
mod tests;

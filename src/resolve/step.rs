//! The Steps of a Block: each looks at a Query and returns a Verdict.
//!
//! The order is that of CoreDNS's plugins, with one difference on purpose: `kubernetes` comes
//! before `cache`, so that a name of the cluster is looked up in the Zone each time and a denial
//! cannot outlive its cause (kubernetes#92559).

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::Guard;

use super::cache::Cache;
use super::config::Refresh;
use super::entry::{Entry, Freshness};
use super::external::External;
use super::flight::Flights;
use super::hot::Hot;
use super::kubernetes::Kubernetes;
use super::plan::Block;
use super::tally::Author;
use crate::cluster::published::Published;
use crate::cluster::zone::{Ahead, Asked, Zone};
use crate::forward::{Forward, LoopProbe};
use crate::wire::{Ede, Name, Query, Rcode, RecordType, Reply};

/// One compiled directive.
pub enum Step {
    External(External),
    Kubernetes(Kubernetes),
    Cache(Arc<Cache>),
    Loop(Arc<LoopProbe>),
    Forward(Forwarding),
}

/// A `forward` directive with its Flights.
#[derive(Clone)]
pub struct Forwarding {
    pub forward: Arc<Forward>,
    pub flights: Arc<Flights>,
}

/// A Step that answers from the Zone of a cluster.
pub trait ClusterStep {
    /// Who is counted for its replies.
    const AUTHOR: Author;

    /// Where the newest Zone is.
    fn published(&self) -> &Published;

    /// TTL of an alias, in seconds.
    fn ttl_s(&self) -> u32;

    /// Answers from the newest Zone.
    fn answer_now(&self, query: &Query<'_>, turn: u32, reply: &mut Reply<'_>) -> Verdict;

    /// Whether the answer comes from what may be old.
    fn is_old(&self, _asked: &Asked<'_>) -> bool {
        self.published().is_stale()
    }
}

/// Marks a reply from what may be old. A failure says nothing that could be.
pub(super) fn tell_age(reply: &mut Reply<'_>) {
    if matches!(reply.rcode(), Rcode::NOERROR | Rcode::NXDOMAIN) {
        reply.set_ede(Ede::frozen(reply.rcode()));
    }
}

/// What a Step says about a Query.
pub enum Verdict {
    /// The reply is written.
    Reply(Author),
    /// The same, and the Entry behind it wants to be refreshed.
    ReplyAndRefresh(Author),
    /// Not mine.
    Next,
    /// Somebody has to be waited for.
    Ask(Wait),
}

/// For whom the Query waits.
pub enum Wait {
    /// The cluster, which is not known yet.
    Cluster,
    /// The end of the chain that begins with this alias.
    Alias(Name),
    /// An upstream.
    Upstream,
}

/// What a worker keeps between queries.
pub struct Desk {
    pub hot: Hot,
    /// Whether the Block at hand turns addresses (`loadbalance`).
    pub turns_addresses: bool,
    /// State of the generator that turns them.
    state: u32,
    /// Where hits of caches are counted.
    shard: usize,
    /// What the packets at hand will look up.
    ahead: Noted,
}

/// What [`Block::foresee`] notes: tags in the worker's own table, and names of a large Zone.
#[derive(Default)]
struct Noted {
    tags: Vec<u32>,
    zone: Ahead,
}

impl Step {
    /// Answers at once, if that is possible. Takes no lock and allocates nothing on a hit in the
    /// Zone or in the worker's own table; the shared cache, asked after a lease, may.
    pub fn answer_now(
        &self,
        query: &Query<'_>,
        now: Instant,
        desk: &mut Desk,
        reply: &mut Reply<'_>,
    ) -> Verdict {
        match self {
            Step::Kubernetes(kubernetes) => kubernetes.answer_now(query, desk.turn(), reply),
            Step::External(external) => external.answer_now(query, desk.turn(), reply),
            Step::Cache(cache) => answer_from(cache, query, now, desk, reply),
            Step::Loop(probe) => {
                if query.rtype == RecordType::HINFO {
                    probe.seen(query.name());
                }
                Verdict::Next
            }
            Step::Forward(forwarding) if forwarding.forward.covers(query.name()) => {
                Verdict::Ask(Wait::Upstream)
            }
            Step::Forward(_) => Verdict::Next,
        }
    }
}

impl Block {
    /// Notes what the Steps will look up for a Query, to be read ahead together with that of other
    /// packets by [`Desk::read_ahead`].
    pub fn foresee(&self, query: &Query<'_>, large: Option<&Large<'_>>, desk: &mut Desk) {
        for step in &self.steps {
            match step {
                Step::External(external) if external.keeps(query.name()) => return,
                Step::Kubernetes(kubernetes) => {
                    let large = large.filter(|it| ptr::eq(it.kubernetes, kubernetes));
                    let zone = large.map(|it| &**it.zone);
                    if kubernetes.foresee(query, zone, &mut desk.ahead.zone) {
                        return;
                    }
                }
                Step::Cache(cache) if cache.covers(query.name()) => {
                    desk.ahead.tags.push(desk.hot.tag(cache, query.key()));
                    return;
                }
                Step::External(_) | Step::Cache(_) | Step::Loop(_) | Step::Forward(_) => {}
            }
        }
    }

    /// The first Step that answers from a large Zone.
    pub fn large(&self) -> Option<Large<'_>> {
        self.steps.iter().find_map(|step| match step {
            Step::Kubernetes(kubernetes) => {
                kubernetes.large_zone().map(|zone| Large { kubernetes, zone })
            }
            Step::External(_) | Step::Cache(_) | Step::Loop(_) | Step::Forward(_) => None,
        })
    }
}

/// A Zone that is worth reading ahead.
pub struct Large<'b> {
    kubernetes: &'b Kubernetes,
    zone: Guard<Arc<Zone>>,
}

/// Answers from the cache.
pub(super) fn answer_from(
    cache: &Cache,
    query: &Query<'_>,
    now: Instant,
    desk: &mut Desk,
    reply: &mut Reply<'_>,
) -> Verdict {
    if !cache.covers(query.name()) {
        return Verdict::Next;
    }
    let (turn, shard) = (desk.turn(), desk.shard);
    let serve = |entry: &Entry, freshness| {
        let verdict = serve(cache, query, (entry, freshness), now, turn, reply);
        if !matches!(verdict, Verdict::Next) {
            cache.counters.hit(shard, entry.space);
        }
        verdict
    };
    desk.hot.with(cache, query.key(), now, serve).unwrap_or(Verdict::Next)
}

/// Serves an Entry, fresh or stale, as the directive says.
fn serve(
    cache: &Cache,
    query: &Query<'_>,
    (entry, freshness): (&Entry, Freshness),
    now: Instant,
    turn: u32,
    reply: &mut Reply<'_>,
) -> Verdict {
    match freshness {
        Freshness::Fresh(left_s) => {
            let ttl_s = (!cache.config.keep_ttl).then_some(left_s);
            reply.answer(&entry.answer, ttl_s, turn);
            let prefetch = cache.config.prefetch.as_ref();
            if prefetch.is_some_and(|prefetch| entry.wants_prefetch(prefetch, now))
                && entry.claim_refresh(now, cache.round())
            {
                cache.counters.prefetched();
                return Verdict::ReplyAndRefresh(Author::Cache);
            }
            Verdict::Reply(Author::Cache)
        }
        // RFC 8767 §4: a query without RD wants what we have, and what has expired we have not.
        Freshness::Stale if query.recursion_desired() && cache.serves_stale_at_once(entry, now) => {
            write_stale(cache, entry, turn, reply);
            if entry.claim_refresh(now, cache.round()) {
                return Verdict::ReplyAndRefresh(Author::Cache);
            }
            Verdict::Reply(Author::Cache)
        }
        Freshness::Stale | Freshness::Gone => Verdict::Next,
    }
}

/// Serves an expired Answer to an errand.
pub fn serve_stale(cache: &Cache, entry: &Entry, reply: &mut Reply<'_>) {
    write_stale(cache, entry, 0, reply);
    cache.counters.hit(0, entry.space);
}

/// Writes an expired Answer (RFC 8767 §4), marked so for those who can read it.
fn write_stale(cache: &Cache, entry: &Entry, turn: u32, reply: &mut Reply<'_>) {
    reply.answer(&entry.answer, cache.config.serve_stale.map(|stale| stale.ttl_s), turn);
    reply.set_ede(Ede::stale(entry.answer.rcode));
    cache.counters.stale();
}

impl Cache {
    fn serves_stale_at_once(&self, entry: &Entry, now: Instant) -> bool {
        self.config.serve_stale.is_some_and(|stale| {
            stale.refresh == Refresh::Immediate || entry.has_failed_within(stale.recheck, now)
        })
    }
}

impl Desk {
    /// The desk of a UDP worker.
    pub fn new() -> Self {
        static NEXT_SHARD: AtomicUsize = AtomicUsize::new(0);
        let shard = NEXT_SHARD.fetch_add(1, Ordering::Relaxed);
        Self { hot: Hot::new(), shard, ..Self::small() }
    }

    /// A desk for those who answer rarely, without a table of its own.
    pub fn small() -> Self {
        let (hot, state) = (Hot::none(), rand::random());
        Self { hot, turns_addresses: false, state, shard: 0, ahead: Noted::default() }
    }

    /// Whether it pays to look ahead.
    pub fn looks_ahead(&self) -> bool {
        self.hot.is_large()
    }

    /// Reads what [`Block::foresee`] noted.
    pub fn read_ahead(&mut self, large: Option<&Large<'_>>) {
        self.hot.read_ahead(&self.ahead.tags);
        self.ahead.tags.clear();
        if let Some(large) = large {
            large.zone.read_ahead(&mut self.ahead.zone);
        }
    }

    /// Which address comes first. Not a counter: clients ask for A and AAAA in turns, so a counter
    /// would show each of them every second address only. (Numerical Recipes' generator; the high
    /// bits are the good ones.)
    fn turn(&mut self) -> u32 {
        if !self.turns_addresses {
            return 0;
        }
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.state >> 8
    }
}

impl Default for Desk {
    fn default() -> Self {
        Self::new()
    }
}

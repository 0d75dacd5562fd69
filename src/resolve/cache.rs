//! Forwarded Answers, in three separately bounded spaces on moka. The door to moka.
//!
//! ```text
//! worker ─► Hot (own table, no lock) ─► Cache: positive │ negative │ failure ─► Ask
//! ```
//!
//! A read of moka costs some 150 ns and is shared by all workers, so each worker keeps the Entries
//! that it serves in a table of its own ([`super::hot`]) and asks moka again after a lease, which
//! also tells moka what is popular. Names of the cluster never come here.

use std::cmp::Reverse;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use equivalent::Equivalent;
use foldhash::fast::RandomState;
use moka::notification::RemovalCause;
use moka::sync::Cache as Shared;

use super::config::{self, CacheConfig};
use super::entry::{Entry, Freshness, Space};
use crate::wire::answer::Kind;
use crate::wire::{Answer, Name, NameRef, Question};

/// Octets that an Entry counts at least. `success 9984` so means at most 9984 Entries, and at most
/// 5 MB however large they are.
const ENTRY_BYTES_MIN: u32 = 512;
/// Entries that [`Cache::positives`] looks at.
const EXPORT_SCAN_MAX: usize = 1 << 17;
/// Most failures that are kept: enough for an outage, and too few to be worth a flood of names that
/// fail (RFC 9520 §3.2). Popular ones stay, as in each space.
const FAILURES_MAX: u64 = 4096;
/// Parts of [`config::cache_bytes_max`] that the spaces may take, in percent.
const SHARES: Shares = Shares { positive: 70, negative: 25, failure: 5 };
type Entries = Shared<Question, Arc<Entry>, RandomState>;

/// A number for each space.
struct Shares {
    positive: u64,
    negative: u64,
    failure: u64,
}

/// The cache of one Block.
pub struct Cache {
    pub config: CacheConfig,
    /// Names at or below are cached.
    pub zones: Vec<Name>,
    /// Tells caches apart in a worker's table.
    pub(super) id: u32,
    positive: Entries,
    negative: Entries,
    failure: Entries,
    /// Most Entries of the first two.
    capacity: u64,
    /// Counts the ends of outages: each begins a new round of refreshes.
    round: AtomicU16,
    pub counters: Arc<CacheCounters>,
}

/// Shards for hits, which workers count with each reply. More workers than that share.
const HIT_SHARDS: usize = 16;

/// What a cache counts.
#[derive(Default)]
#[allow(missing_docs)]
pub struct CacheCounters {
    hits: [Hits; HIT_SHARDS],
    pub misses: AtomicU64,
    pub prefetches: AtomicU64,
    pub served_stale: AtomicU64,
    pub evictions_success: AtomicU64,
    pub evictions_denial: AtomicU64,
    /// Denials of what was known to exist, or from an upstream that had failed: another upstream
    /// agreed, had an Answer, or nobody else could be asked.
    pub doubts: [AtomicU64; 3],
    /// Refreshes that had to wait because of an outage, or after one.
    pub refreshes_put_off: AtomicU64,
}

/// What became of a denial that was doubted: a place in [`CacheCounters::doubts`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Doubt {
    Agreed,
    Differed,
    Unknown,
}

/// Hits that one worker counts, on cache lines of their own: positive Entries, and all others.
#[repr(align(128))]
#[derive(Default)]
struct Hits([AtomicU64; 2]);

impl CacheCounters {
    /// Counts an Entry that was served, in any shard.
    pub fn hit(&self, shard: usize, space: Space) {
        let Hits(counters) = &self.hits[shard % HIT_SHARDS];
        counters[usize::from(space != Space::Positive)].fetch_add(1, Ordering::Relaxed);
    }

    /// Hits so far: positive Entries, and all others.
    pub fn hits(&self) -> [u64; 2] {
        let sum = |kind: usize| {
            self.hits.iter().map(|Hits(counters)| counters[kind].load(Ordering::Relaxed)).sum()
        };
        [sum(0), sum(1)]
    }

    /// Counts a question that went upstream.
    pub fn missed(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an Entry that is refreshed before it expires.
    pub fn prefetched(&self) {
        self.prefetches.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a denial that was doubted.
    pub fn doubted(&self, doubt: Doubt) {
        self.doubts[doubt as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a refresh that has to wait.
    pub fn put_off(&self) {
        self.refreshes_put_off.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an Entry that was served after it expired.
    pub fn stale(&self) {
        self.served_stale.fetch_add(1, Ordering::Relaxed);
    }
}

/// A key that is looked up without owning it.
struct Key<'k>(&'k [u8]);

impl Hash for Key<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Equivalent<Question> for Key<'_> {
    fn equivalent(&self, question: &Question) -> bool {
        question.octets() == self.0
    }
}

impl Cache {
    /// An empty cache for these zones.
    pub fn new(config: CacheConfig, zones: Vec<Name>) -> Self {
        Self::within(config::cache_bytes_max(), config, zones)
    }

    /// The same, of so many octets at most.
    fn within(bytes_max: u64, config: CacheConfig, zones: Vec<Name>) -> Self {
        static NEXT_ID: AtomicU32 = AtomicU32::new(1);
        let counters = Arc::new(CacheCounters::default());
        let bytes = |entries: u64, share: u64| {
            let wanted = entries.saturating_mul(u64::from(ENTRY_BYTES_MIN));
            // Divided first: the bound may be all that a number holds.
            wanted.min(bytes_max / 100 * share)
        };
        let positive = bytes(config.success.capacity, SHARES.positive);
        let negative = bytes(config.denial.capacity, SHARES.negative);
        Self {
            positive: entries(positive, counters.clone()),
            negative: entries(negative, counters.clone()),
            failure: entries(bytes(FAILURES_MAX, SHARES.failure), counters.clone()),
            capacity: (positive + negative) / u64::from(ENTRY_BYTES_MIN),
            round: AtomicU16::new(0),
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            config,
            zones,
            counters,
        }
    }

    /// Whether this name may be kept here.
    pub fn covers(&self, name: NameRef<'_>) -> bool {
        self.zones.iter().any(|zone| name.is_within(zone.as_ref()))
    }

    /// The best Entry for a question, if one may be served now: a fresh positive one, a fresh
    /// denial, a stale positive one, a fresh failure, in this order.
    pub fn get(&self, key: &[u8], now: Instant) -> Option<(Arc<Entry>, Freshness)> {
        let mut stale = None;
        for space in [&self.positive, &self.negative, &self.failure] {
            let Some(entry) = space.get(&Key(key)) else { continue };
            match entry.freshness(now) {
                // A failure only tells why the stale Entry was not refreshed.
                Freshness::Fresh(_) if entry.space == Space::Failure && stale.is_some() => {}
                fresh @ Freshness::Fresh(_) => return Some((entry, fresh)),
                Freshness::Stale => stale = Some((entry, Freshness::Stale)),
                Freshness::Gone => {}
            }
        }
        stale
    }

    /// Whether a failure of this question is still kept (RFC 9520: nobody is asked meanwhile).
    pub fn has_failed(&self, question: &Question, now: Instant) -> bool {
        let entry = self.failure.get(question);
        entry.is_some_and(|entry| matches!(entry.freshness(now), Freshness::Fresh(_)))
    }

    /// What is known to exist, so that a denial of it needs a second opinion: a positive Entry that
    /// is fresh or has expired lately.
    pub fn doubts(&self, question: &Question, now: Instant) -> Option<Arc<Entry>> {
        self.positive.get(question).filter(|entry| entry.makes_doubt(now))
    }

    /// Whether an address of the name is known, so that the name exists whatever it is asked for.
    pub fn knows_name(&self, question: &Question, now: Instant) -> bool {
        question.addresses().any(|question| self.doubts(&question, now).is_some())
    }

    /// Notes that the positive Entry could not be refreshed: it is served at once for a while.
    pub fn refresh_failed(&self, question: &Question, now: Instant) {
        if let Some(entry) = self.positive.get(question) {
            entry.refresh_failed(now);
        }
    }

    /// After an outage: forgets failures, which it may have caused, and lets every Entry be
    /// refreshed.
    pub fn outage_ended(&self) {
        self.round.fetch_add(1, Ordering::Relaxed);
        for (question, _) in &self.failure {
            if let Some(entry) = self.failure.remove(&*question) {
                entry.retire();
            }
        }
    }

    /// The round that refreshes are claimed in.
    pub(super) fn round(&self) -> u16 {
        self.round.load(Ordering::Relaxed)
    }

    /// Keeps an Answer, if it may be kept, in place of what was known. A failure leaves a positive
    /// Entry where it is, to be served stale. The caller doubts denials ([`Cache::doubts`]).
    pub fn store(&self, question: &Question, answer: &Answer, now: Instant) -> Option<Arc<Entry>> {
        let Some(mut entry) = Entry::new(question, answer, &self.config, now) else {
            // What must not be kept may still say that what we know is no longer so.
            if answer.kind() == Kind::Found {
                self.forget(question, &[&self.positive, &self.negative, &self.failure]);
            }
            return None;
        };
        entry.cache = self.id;
        if entry.space == Space::Failure
            && let Some(before) = self.failure.get(question)
        {
            entry.back_off(&before, self.config.servfail, now);
        }
        let entry = Arc::new(entry);
        let replaced: &[&Entries] = match entry.space {
            Space::Positive => &[&self.negative, &self.failure],
            Space::Negative => &[&self.positive, &self.failure],
            Space::Failure => &[],
        };
        self.forget(question, replaced);
        let space = self.space(entry.space);
        if let Some(old) = space.get(question) {
            old.retire();
        }
        space.insert(question.clone(), entry.clone());
        Some(entry)
    }

    /// Positive Entries, at most `max`, those first that most workers serve, and of these the
    /// youngest. Looks at [`EXPORT_SCAN_MAX`] of them at most; not for the hit path.
    pub fn positives(&self, max: usize) -> Vec<(Question, Arc<Entry>)> {
        let mut all: Vec<_> = self.positive.iter().take(EXPORT_SCAN_MAX).collect();
        // Each worker that serves an Entry holds it in a table of its own.
        all.sort_by_cached_key(|(_, entry)| Reverse((Arc::strong_count(entry), entry.stored)));
        let first = all.into_iter().take(max);
        first.map(|(question, entry)| (Question::clone(&question), entry)).collect()
    }

    /// Puts a positive Answer back that was kept elsewhere, with what is left of its time. What is
    /// known already stays, and what must not be kept is not.
    pub fn restore(
        &self,
        question: Question,
        answer: Answer,
        ttl_left_s: u32,
        stale_left: Duration,
        now: Instant,
    ) {
        let is_known = || self.get(question.octets(), now).is_some();
        if !self.covers(question.name()) || is_known() {
            return;
        }
        let left = Duration::from_secs(ttl_left_s.into());
        let Some(mut entry) = Entry::new(&question, &answer, &self.config, now) else { return };
        entry.cache = self.id;
        if entry.shorten(left, stale_left) {
            self.positive.insert(question, Arc::new(entry));
        }
    }

    fn forget(&self, question: &Question, spaces: &[&Entries]) {
        for old in spaces.iter().filter_map(|space| space.remove(question)) {
            old.retire();
        }
    }

    /// Most Entries that it holds.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Entries held: positive and negative.
    pub fn entry_counts(&self) -> [u64; 2] {
        [self.positive.entry_count(), self.negative.entry_count()]
    }

    /// Gives memory back, if it holds more than `floor` octets: all negative Entries and failures,
    /// and every other positive one. Answers whether it did.
    pub fn shrink(&self, floor: u64) -> bool {
        let spaces = [&self.positive, &self.negative, &self.failure];
        if spaces.iter().map(|space| space.weighted_size()).sum::<u64>() <= floor {
            return false;
        }
        for (space, step) in [(&self.negative, 1), (&self.failure, 1), (&self.positive, 2)] {
            let keys: Vec<_> = space.iter().step_by(step).map(|(question, _)| question).collect();
            keys.iter().for_each(|question| space.invalidate(&**question));
            space.run_pending_tasks();
        }
        true
    }

    fn space(&self, space: Space) -> &Entries {
        match space {
            Space::Positive => &self.positive,
            Space::Negative => &self.negative,
            Space::Failure => &self.failure,
        }
    }
}

/// One space, bounded in octets.
fn entries(bytes_max: u64, counters: Arc<CacheCounters>) -> Entries {
    let weigh = |_: &Question, entry: &Arc<Entry>| {
        u32::try_from(entry.size_bytes()).unwrap_or(u32::MAX).max(ENTRY_BYTES_MIN)
    };
    Shared::builder()
        .max_capacity(bytes_max)
        .weigher(weigh)
        .expire_after(Retention)
        .eviction_listener(move |_, entry: Arc<Entry>, cause| {
            entry.retire();
            if cause == RemovalCause::Size {
                let counter = match entry.space {
                    Space::Positive => &counters.evictions_success,
                    _ => &counters.evictions_denial,
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        })
        .build_with_hasher(RandomState::default())
}

/// Lets moka drop what nobody may see any more. Whether an Entry is fresh is the Entry's own rule.
struct Retention;

impl moka::Expiry<Question, Arc<Entry>> for Retention {
    fn expire_after_create(
        &self,
        _: &Question,
        entry: &Arc<Entry>,
        _: Instant,
    ) -> Option<Duration> {
        Some(entry.retention())
    }

    fn expire_after_update(
        &self,
        _: &Question,
        entry: &Arc<Entry>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.retention())
    }
}

#[cfg(test)]
#[path = "cache/tests/model.rs"]
mod model;

#[cfg(test)]
mod tests;

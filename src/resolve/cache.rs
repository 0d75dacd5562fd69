//! Forwarded Answers, in three separately bounded spaces on moka. The door to moka.
//!
//! ```text
//! worker ─► Hot (own table, no lock) ─► Cache: positive │ negative │ failure ─► Ask
//! ```
//!
//! A read of moka costs some 150 ns and is shared by all workers, so each worker keeps the Entries
//! that it serves in a table of its own ([`Hot`]) and asks moka again after a short lease, which
//! also tells moka what is popular. Names of the cluster never come here.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use equivalent::Equivalent;
use foldhash::fast::RandomState;
use moka::notification::RemovalCause;
use moka::sync::Cache as Shared;

use super::config::{CacheConfig, Keep};
use super::entry::{Entry, Freshness, Space};
use crate::wire::{Answer, Name, NameRef, Question, QuestionKey};

/// Octets that an Entry counts at least. `success 9984` so means at most 9984 Entries, and at most
/// 5 MB however large they are.
const ENTRY_BYTES_MIN: u32 = 512;
/// Slots of a worker's table.
const HOT_SLOTS: usize = 4096;
/// Largest Entry that a worker keeps, in octets: what fits a reply over UDP does, and a table full
/// of them stays below 8 MiB.
const HOT_BYTES_MAX: usize = 2048;
/// How long a worker serves an Entry before it asks the shared cache again.
const HOT_LEASE: Duration = Duration::from_secs(5);

type Entries = Shared<Question, Arc<Entry>, RandomState>;

/// The cache of one Block.
pub struct Cache {
    pub config: CacheConfig,
    /// Names at or below are cached.
    pub zones: Vec<Name>,
    /// Tells caches apart in a worker's table.
    id: u32,
    positive: Entries,
    negative: Entries,
    failure: Entries,
    pub counters: Arc<CacheCounters>,
}

/// What a cache counts.
#[derive(Default)]
#[allow(missing_docs)]
pub struct CacheCounters {
    pub hits_success: AtomicU64,
    pub hits_denial: AtomicU64,
    pub misses: AtomicU64,
    pub prefetches: AtomicU64,
    pub served_stale: AtomicU64,
    pub evictions_success: AtomicU64,
    pub evictions_denial: AtomicU64,
}

impl CacheCounters {
    /// Counts an Entry that was served.
    pub fn hit(&self, space: Space) {
        let counter = match space {
            Space::Positive => &self.hits_success,
            Space::Negative | Space::Failure => &self.hits_denial,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a question that went upstream.
    pub fn missed(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an Entry that is refreshed before it expires.
    pub fn prefetched(&self) {
        self.prefetches.fetch_add(1, Ordering::Relaxed);
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
        let octets: &[u8] = std::borrow::Borrow::borrow(question);
        octets == self.0
    }
}

impl Cache {
    /// An empty cache for these zones.
    pub fn new(config: CacheConfig, zones: Vec<Name>) -> Self {
        static NEXT_ID: AtomicU32 = AtomicU32::new(1);
        let counters = Arc::new(CacheCounters::default());
        Self {
            positive: entries(config.success, counters.clone()),
            negative: entries(config.denial, counters.clone()),
            failure: entries(config.denial, counters.clone()),
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

    /// Keeps an Answer, if it may be kept, in place of what was known. A failure leaves a positive
    /// Entry where it is, to be served stale.
    pub fn store(&self, question: &Question, answer: &Answer, now: Instant) -> Option<Arc<Entry>> {
        let entry = Entry::new(question.clone(), answer.clone(), &self.config, now)?;
        let entry = Arc::new(entry);
        let replaced: &[&Entries] = match entry.space {
            Space::Positive => &[&self.negative, &self.failure],
            Space::Negative => &[&self.positive, &self.failure],
            Space::Failure => &[],
        };
        for space in replaced {
            if let Some(old) = space.remove(question) {
                old.retire();
            }
        }
        let space = self.space(entry.space);
        if let Some(old) = space.get(question) {
            old.retire();
        }
        space.insert(question.clone(), entry.clone());
        Some(entry)
    }

    /// Entries held: positive and negative.
    pub fn entry_counts(&self) -> [u64; 2] {
        [self.positive.entry_count(), self.negative.entry_count()]
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
fn entries(keep: Keep, counters: Arc<CacheCounters>) -> Entries {
    let weigh = |_: &Question, entry: &Arc<Entry>| {
        u32::try_from(entry.size_bytes()).unwrap_or(u32::MAX).max(ENTRY_BYTES_MIN)
    };
    Shared::builder()
        .max_capacity(keep.capacity.saturating_mul(u64::from(ENTRY_BYTES_MIN)))
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

/// The Entries that one worker serves: no lock, no allocation.
pub struct Hot {
    slots: Vec<Option<Slot>>,
    state: RandomState,
}

struct Slot {
    cache: u32,
    entry: Arc<Entry>,
    until: Instant,
}

impl Hot {
    /// A table for a worker.
    pub fn new() -> Self {
        Self { slots: (0..HOT_SLOTS).map(|_| None).collect(), state: RandomState::default() }
    }

    /// A table that holds nothing, for those who ask rarely.
    pub fn none() -> Self {
        Self { slots: Vec::new(), state: RandomState::default() }
    }

    /// Forgets everything, when the Plan was swapped.
    pub fn clear(&mut self) {
        self.slots.fill_with(|| None);
    }

    /// Calls `serve` with the Entry for a question that is fresh or may be served stale.
    pub fn with<T>(
        &mut self,
        cache: &Cache,
        key: &QuestionKey,
        now: Instant,
        serve: impl FnOnce(&Arc<Entry>, Freshness) -> T,
    ) -> Option<T> {
        let octets = key.octets();
        let slot = match self.slots.len() {
            0 => None,
            count => Some(self.state.hash_one(octets) as usize % count),
        };
        if let Some(Some(held)) = slot.map(|slot| &self.slots[slot])
            && held.serves(cache, octets, now)
            && let Freshness::Fresh(left_s) = held.entry.freshness(now)
        {
            return Some(serve(&held.entry, Freshness::Fresh(left_s)));
        }
        let (entry, freshness) = match cache.get(octets, now) {
            Some(found) => found,
            None => {
                self.release(slot, octets);
                return None;
            }
        };
        let answer = serve(&entry, freshness);
        if let Some(slot) = slot.filter(|_| entry.size_bytes() <= HOT_BYTES_MAX) {
            self.slots[slot] = Some(Slot { cache: cache.id, entry, until: now + HOT_LEASE });
        }
        Some(answer)
    }
}

impl Hot {
    /// Lets an Entry go that the shared cache no longer has.
    fn release(&mut self, slot: Option<usize>, key: &[u8]) {
        let Some(slot) = slot else { return };
        if self.slots[slot].as_ref().is_some_and(|held| held.is_for(key)) {
            self.slots[slot] = None;
        }
    }
}

impl Default for Hot {
    fn default() -> Self {
        Self::new()
    }
}

impl Slot {
    fn serves(&self, cache: &Cache, key: &[u8], now: Instant) -> bool {
        self.cache == cache.id && now < self.until && !self.entry.is_retired() && self.is_for(key)
    }

    fn is_for(&self, key: &[u8]) -> bool {
        let question: &[u8] = std::borrow::Borrow::borrow(&self.entry.question);
        question == key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::config::{Refresh, Stale};
    use crate::wire::message::{self, tests::response};
    use crate::wire::{Ede, Query, Rcode, RecordType};

    fn cache() -> Cache {
        let config = CacheConfig {
            serve_stale: Some(Stale { keep: Duration::from_secs(60), refresh: Refresh::Immediate }),
            ..CacheConfig::default()
        };
        Cache::new(config, vec![Name::root()])
    }

    fn question(name: &str) -> (Vec<u8>, Question) {
        let packet = message::question(name, RecordType::A, None);
        let question = QuestionKey::of(&Query::parse(&packet).ok().unwrap()).to_question();
        (packet, question)
    }

    fn answer(text: &str) -> Answer {
        let (section, response) = response(text);
        Answer::from_response(&response, &section).unwrap()
    }

    fn key(question: &Question) -> &[u8] {
        std::borrow::Borrow::borrow(question)
    }

    const FOUND: &str = "w.example. A NOERROR\nw.example. 10 A 192.0.2.1";
    const DENIED: &str =
        "w.example. A NXDOMAIN\n; authority\nexample. 10 SOA ns.example. root.example. 1 2 3 4 60";

    #[test]
    fn a_denial_takes_the_place_of_an_answer_and_back() {
        let (cache, now) = (cache(), Instant::now());
        let (_, question) = question("w.example.");
        let first = cache.store(&question, &answer(FOUND), now).unwrap();
        cache.store(&question, &answer(DENIED), now);
        assert!(first.is_retired());
        assert_eq!(cache.get(key(&question), now).unwrap().0.space, Space::Negative);
        cache.store(&question, &answer(FOUND), now);
        assert_eq!(cache.get(key(&question), now).unwrap().0.space, Space::Positive);
    }

    #[test]
    fn a_stale_answer_is_better_than_a_fresh_failure() {
        let (cache, now) = (cache(), Instant::now());
        let (_, question) = question("w.example.");
        cache.store(&question, &answer(FOUND), now);
        let later = now + Duration::from_secs(20);
        let failure = Answer::bare(Rcode::SERVFAIL, Some(Ede::NO_REACHABLE_AUTHORITY));
        cache.store(&question, &failure, later);
        let (entry, freshness) = cache.get(key(&question), later).unwrap();
        assert_eq!((entry.space, freshness), (Space::Positive, Freshness::Stale));
        assert!(cache.has_failed(&question, later));
        assert!(!cache.has_failed(&question, later + Duration::from_secs(2)));
    }

    #[test]
    fn a_worker_never_serves_an_entry_that_was_replaced() {
        let (cache, now, mut hot) = (cache(), Instant::now(), Hot::new());
        let (packet, question) = question("w.example.");
        let query = Query::parse(&packet).ok().unwrap();
        let key = QuestionKey::of(&query);
        let space = |hot: &mut Hot| hot.with(&cache, &key, now, |entry, _| entry.space);
        assert_eq!(space(&mut hot), None);
        cache.store(&question, &answer(FOUND), now);
        assert_eq!(space(&mut hot), Some(Space::Positive));
        cache.store(&question, &answer(DENIED), now);
        assert_eq!(space(&mut hot), Some(Space::Negative));
    }

    #[test]
    fn a_flood_of_denials_evicts_no_answer() {
        let mut config = CacheConfig::default();
        config.denial.capacity = 100;
        let (cache, now) = (Cache::new(config, vec![Name::root()]), Instant::now());
        let (_, kept) = question("w.example.");
        cache.store(&kept, &answer(FOUND), now);
        for n in 0..2_000 {
            let (_, question) = question(&format!("{n}.example."));
            cache.store(&question, &answer(DENIED), now);
        }
        cache.negative.run_pending_tasks();
        assert!(cache.negative.entry_count() <= 100);
        assert!(cache.get(key(&kept), now).is_some());
    }
}

//! The Entries that one worker serves: a table of its own, without lock and without allocation.
//!
//! ```text
//! hash of the key ─► Set (one cache line: 4 slots) ─► Entry ─► key, records, offsets of TTLs
//!                    tag, lease, Arc
//! ```
//!
//! The slot keeps 32 bits of the hash, so a wrong slot costs no look at its Entry. The table grows
//! with what is asked and shrinks when that is over; a lease that has run out gives its slot back,
//! so that nothing that the shared cache dropped lives on here for long.

use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;

use super::cache::Cache;
use super::entry::{Entry, Freshness};

/// Slots of one set: as many as a cache line holds.
const WAYS: usize = 4;
/// Fewest and most sets. 2^18 slots take 4 MiB and hold 100 000 names with room to spare.
const SETS_MIN: usize = 1 << 6;
const SETS_MAX: usize = 1 << 16;
/// Largest Entry that a worker keeps, in octets: what fits a reply over UDP does.
const ENTRY_BYTES_MAX: usize = 2048;
/// How long a worker serves an Entry before it asks the shared cache again, at least, in seconds.
const LEASE_S: u32 = 5;
/// Sets per second of lease: a large table asks the shared cache some 8 000 times a second for
/// leases, and not for every name each [`LEASE_S`].
const SETS_PER_LEASE_S: usize = 1 << 11;
/// Sets that are looked through with each batch: each Entry is touched, so these are few.
const SWEEP_BATCH: usize = 1 << 4;
/// Sets that are looked through when nothing came: an idle worker, which wakes twice a second, is
/// through the largest table in eight seconds.
const SWEEP_IDLE: usize = 1 << 12;

/// Entries from which on [`Hot::read_ahead`] pays: with their octets some 800 KiB.
const LARGE_MIN: usize = 1 << 11;
/// Questions that are looked ahead for at once.
const AHEAD_MAX: usize = 64;

/// The table.
pub struct Hot {
    sets: Vec<Set>,
    state: RandomState,
    /// Slots that are taken.
    held: usize,
    clock: Option<Clock>,
    /// The next set to be swept, and up to which second sets have been.
    swept: usize,
    swept_s: u32,
}

/// Leases count seconds from when the table was first asked.
#[derive(Clone, Copy)]
struct Clock {
    born: Instant,
    /// The last instant that was asked about, which a batch shares, and its seconds.
    last: Instant,
    last_s: u32,
}

/// The places that an Entry may have.
#[repr(align(64))]
#[derive(Default, Clone)]
struct Set([Slot; WAYS]);

#[derive(Default, Clone)]
struct Slot {
    /// The lower half of the hash, of which the lowest bits tell the set.
    tag: u32,
    /// Until which second the Entry is served.
    until_s: u32,
    entry: Option<Arc<Entry>>,
}

impl Hot {
    /// A table for a worker.
    pub fn new() -> Self {
        Self { sets: vec![Set::default(); SETS_MIN], ..Self::none() }
    }

    /// A table that holds nothing, for those who ask rarely.
    pub fn none() -> Self {
        let state = RandomState::default();
        Self { sets: Vec::new(), state, held: 0, clock: None, swept: 0, swept_s: 0 }
    }

    /// Forgets everything, when the Plan was swapped.
    pub fn clear(&mut self) {
        if !self.sets.is_empty() {
            self.sets = vec![Set::default(); SETS_MIN];
        }
        (self.held, self.swept) = (0, 0);
    }

    /// Calls `serve` with the Entry for a question that is fresh or may be served stale.
    pub fn with<T>(
        &mut self,
        cache: &Cache,
        key: &[u8],
        now: Instant,
        serve: impl FnOnce(&Entry, Freshness) -> T,
    ) -> Option<T> {
        let (tag, now_s) = (self.tag(cache, key), self.seconds(now));
        if let Some(entry) = self.find(cache, key, tag, now_s)
            && let Freshness::Fresh(left_s) = entry.freshness(now)
        {
            return Some(serve(entry, Freshness::Fresh(left_s)));
        }
        self.ask(cache, key, now, serve)
    }

    /// The Entry for a question, while its lease runs and nobody has replaced it.
    fn find(&self, cache: &Cache, key: &[u8], tag: u32, now_s: u32) -> Option<&Entry> {
        let Set(slots) = self.sets.get(tag as usize & self.sets.len().wrapping_sub(1))?;
        let is_leased = |slot: &&Slot| slot.tag == tag && now_s < slot.until_s;
        let entries = slots.iter().filter(is_leased).filter_map(|slot| slot.entry.as_deref());
        entries.into_iter().find(|entry| entry.is_for(cache.id, key) && !entry.is_retired())
    }

    /// Asks the shared cache and keeps what it says.
    #[cold]
    fn ask<T>(
        &mut self,
        cache: &Cache,
        key: &[u8],
        now: Instant,
        serve: impl FnOnce(&Entry, Freshness) -> T,
    ) -> Option<T> {
        let (tag, now_s) = (self.tag(cache, key), self.seconds(now));
        let found = cache.get(key, now);
        let answer = found.as_ref().map(|(entry, freshness)| serve(entry, *freshness));
        if self.sets.is_empty() {
            return answer;
        }
        self.release(cache, key, tag);
        if let Some((entry, _)) = found.filter(|(it, _)| it.size_bytes() <= ENTRY_BYTES_MAX) {
            self.keep(cache, Slot { tag, until_s: now_s + self.lease_s(), entry: Some(entry) });
        }
        answer
    }

    /// Gives an Entry a slot: a free one, that of an Entry which was dropped, or that of the lease
    /// which ends first.
    fn keep(&mut self, cache: &Cache, slot: Slot) {
        let slots = self.sets.len() * WAYS;
        let slots_max = usize::try_from(cache.capacity()).unwrap_or(usize::MAX).saturating_mul(2);
        if self.held * 2 >= slots && slots < slots_max && self.sets.len() < SETS_MAX {
            self.resize(self.sets.len() * 2);
        }
        let Set(slots) = self.set(slot.tag);
        let is_used = |slot: &Slot| slot.entry.as_ref().is_some_and(|entry| !entry.is_retired());
        let order = |slot: &&mut Slot| (is_used(slot), slot.until_s);
        let Some(place) = slots.iter_mut().min_by_key(order) else { return };
        let is_new = place.entry.is_none();
        *place = slot;
        self.held += usize::from(is_new);
    }

    /// Lets an Entry go that may no longer be what the shared cache has.
    fn release(&mut self, cache: &Cache, key: &[u8], tag: u32) {
        let is_it = |slot: &Slot| {
            slot.tag == tag && slot.entry.as_ref().is_some_and(|it| it.is_for(cache.id, key))
        };
        let Set(slots) = self.set(tag);
        let gone = slots.iter_mut().filter(|slot| is_it(slot)).map(std::mem::take).count();
        self.held -= gone;
    }

    /// Lets Entries go in some sets, with each batch. A round begins once a second at most.
    pub fn tidy(&mut self, now: Instant) {
        self.tidy_some(now, SWEEP_BATCH);
    }

    /// The same in many sets, when nothing else is to be done.
    pub fn tidy_idle(&mut self, now: Instant) {
        self.tidy_some(now, SWEEP_IDLE);
    }

    fn tidy_some(&mut self, now: Instant, sets: usize) {
        let now_s = self.seconds(now);
        if self.swept > 0 || now_s > self.swept_s {
            self.sweep(now_s, sets);
        }
    }

    /// Lets Entries go whose lease has run out, and those that the shared cache has dropped: what
    /// is left is bounded there, in octets. In the end of a round, lets room go that nobody needs.
    fn sweep(&mut self, now_s: u32, sets: usize) {
        self.swept_s = now_s;
        let end = (self.swept + sets).min(self.sets.len());
        for Set(slots) in &mut self.sets[self.swept..end] {
            let is_over = |slot: &Slot| {
                let is_dropped = |entry: &Arc<Entry>| slot.until_s <= now_s || entry.is_retired();
                slot.entry.as_ref().is_some_and(is_dropped)
            };
            let gone = slots.iter_mut().filter(|slot| is_over(slot)).map(std::mem::take).count();
            self.held -= gone;
        }
        self.swept = if end == self.sets.len() { 0 } else { end };
        if self.swept == 0 && self.sets.len() > SETS_MIN && self.held * 4 < self.sets.len() {
            self.resize(self.sets.len() / 2);
        }
    }

    /// Gives every slot its set in a table of another size.
    fn resize(&mut self, sets: usize) {
        let old = std::mem::replace(&mut self.sets, vec![Set::default(); sets]);
        (self.held, self.swept) = (0, 0);
        let held = old.into_iter().flat_map(|Set(slots)| slots);
        for slot in held.filter(|slot| slot.entry.is_some()) {
            let Set(slots) = self.set(slot.tag);
            if let Some(place) = slots.iter_mut().find(|place| place.entry.is_none()) {
                *place = slot;
                self.held += 1;
            }
        }
    }

    fn set(&mut self, tag: u32) -> &mut Set {
        let mask = self.sets.len() - 1;
        &mut self.sets[tag as usize & mask]
    }

    /// Whether looking ahead pays: what is held does not fit the second cache of a core.
    pub fn is_large(&self) -> bool {
        self.held >= LARGE_MIN
    }

    /// Touches what the answers to these questions will need, given by their tags: the sets, then
    /// the Entries, then their octets. Loads of one round do not depend on each other, so the
    /// processor waits for many of them at once, and not for one after the other.
    pub fn read_ahead(&self, tags: &[u32]) {
        let mask = self.sets.len().wrapping_sub(1);
        let mut entries = [None; AHEAD_MAX];
        for tags in tags.chunks(AHEAD_MAX).filter(|_| !self.sets.is_empty()) {
            let set = |tag: &u32| &self.sets[*tag as usize & mask].0;
            let mut seen = tags.iter().map(|tag| u64::from(set(tag)[0].tag)).sum::<u64>();
            for (tag, entry) in tags.iter().zip(&mut entries) {
                let slot = set(tag).iter().find(|slot| slot.tag == *tag);
                *entry = slot.and_then(|slot| slot.entry.as_deref());
            }
            let entries = || entries[..tags.len()].iter().flatten();
            seen += entries().map(|entry| u64::from(entry.is_retired())).sum::<u64>();
            seen += entries().map(|entry| u64::from(entry.answer.touch())).sum::<u64>();
            black_box(seen);
        }
    }

    /// The tag of a question.
    #[inline]
    pub fn tag(&self, cache: &Cache, key: &[u8]) -> u32 {
        self.state.hash_one(key) as u32 ^ cache.id
    }

    fn lease_s(&self) -> u32 {
        LEASE_S.max((self.sets.len() / SETS_PER_LEASE_S) as u32)
    }

    /// Seconds since the table was first asked.
    #[inline]
    fn seconds(&mut self, now: Instant) -> u32 {
        let clock = self.clock.get_or_insert(Clock { born: now, last: now, last_s: 0 });
        if clock.last != now {
            clock.last = now;
            clock.last_s = now.saturating_duration_since(clock.born).as_secs() as u32;
        }
        clock.last_s
    }
}

impl Default for Hot {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::config::CacheConfig;
    use crate::resolve::entry::Space;
    use crate::wire::message::tests::response;
    use crate::wire::{Answer, Name, Question, RecordType};
    use std::time::Duration;

    fn cache(capacity: u64) -> Cache {
        let mut config = CacheConfig::default();
        config.success.capacity = capacity;
        Cache::new(config, vec![Name::root()])
    }

    fn question(n: usize) -> Question {
        Question::new(&Name::parse(&format!("w{n}.example")).unwrap(), RecordType::A)
    }

    fn found() -> Answer {
        let (section, response) = response("w.example. A NOERROR\nw.example. 3000 A 192.0.2.1");
        Answer::from_response(&response, &section).unwrap()
    }

    fn denied() -> Answer {
        let text = "w.example. A NXDOMAIN\n; authority\n\
            example. 3000 SOA ns.example. root.example. 1 2 3 4 3000";
        let (section, response) = response(text);
        Answer::from_response(&response, &section).unwrap()
    }

    /// What the table says about a question, and whether it had to ask.
    fn look(hot: &mut Hot, cache: &Cache, question: &Question, now: Instant) -> Option<Space> {
        let key = question.octets();
        hot.with(cache, key, now, |entry, _| {
            assert_eq!(entry.answer.key(), key);
            entry.space
        })
    }

    #[test]
    fn a_slot_is_small_and_a_set_is_one_cache_line() {
        assert_eq!((size_of::<Slot>(), size_of::<Set>()), (16, 64));
    }

    #[test]
    fn a_worker_never_serves_an_entry_that_was_replaced() {
        let (cache, now, mut hot) = (cache(100), Instant::now(), Hot::new());
        let question = question(1);
        assert_eq!(look(&mut hot, &cache, &question, now), None);
        cache.store(&question, &found(), now);
        assert_eq!(look(&mut hot, &cache, &question, now), Some(Space::Positive));
        cache.store(&question, &denied(), now);
        assert_eq!(look(&mut hot, &cache, &question, now), Some(Space::Negative));
        assert_eq!(hot.held, 1);
    }

    #[test]
    fn two_caches_share_a_table_and_no_entry() {
        let (one, other, mut hot) = (cache(100), cache(100), Hot::new());
        let (question, now) = (question(1), Instant::now());
        one.store(&question, &found(), now);
        other.store(&question, &denied(), now);
        for _ in 0..2 {
            assert_eq!(look(&mut hot, &one, &question, now), Some(Space::Positive));
            assert_eq!(look(&mut hot, &other, &question, now), Some(Space::Negative));
        }
    }

    #[test]
    fn the_table_says_what_the_shared_cache_says_whatever_happens() {
        let (cache, mut hot, mut now) = (cache(4_000), Hot::new(), Instant::now());
        let answers = [found(), denied()];
        let questions: Vec<Question> = (0..3_000).map(question).collect();
        let mut state = 1u32;
        let mut random = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % below
        };
        for _ in 0..60_000 {
            let question = &questions[random(questions.len())];
            match random(20) {
                0..=5 => drop(cache.store(question, &answers[random(2)], now)),
                6 => now += Duration::from_millis(random(900) as u64),
                7 => hot.tidy(now),
                8 if random(3_000) == 0 => hot.clear(),
                _ => {
                    let expected = cache.get(question.octets(), now).map(|(it, _)| it.space);
                    assert_eq!(look(&mut hot, &cache, question, now), expected);
                }
            }
            let held = hot.sets.iter().flat_map(|Set(slots)| slots);
            assert!(held.filter(|slot| slot.entry.is_some()).count() == hot.held);
        }
        assert!(hot.held > 0);
    }

    #[test]
    fn the_table_grows_with_what_is_asked_within_the_capacity_of_the_cache() {
        let (large, now) = (cache(100_000), Instant::now());
        let mut hot = Hot::new();
        for n in 0..3_000 {
            large.store(&question(n), &found(), now);
        }
        for n in (0..3_000).chain(0..3_000) {
            assert!(look(&mut hot, &large, &question(n), now).is_some());
        }
        assert!(hot.held > 2_900 && hot.sets.len() * WAYS >= 2 * hot.held, "{}", hot.held);
    }

    #[test]
    fn the_table_of_a_small_cache_stays_small() {
        let mut config = CacheConfig::default();
        (config.success.capacity, config.denial.capacity) = (200, 200);
        let (small, now, mut hot) =
            (Cache::new(config, vec![Name::root()]), Instant::now(), Hot::new());
        for n in 0..3_000 {
            small.store(&question(n), &found(), now);
            look(&mut hot, &small, &question(n), now);
        }
        let slots_max = (small.capacity() as usize * 2).next_power_of_two();
        assert!(hot.sets.len() * WAYS <= slots_max, "{} of {slots_max}", hot.sets.len() * WAYS);
    }

    #[test]
    fn what_the_shared_cache_dropped_is_let_go_before_its_lease_ends() {
        let (cache, now, mut hot) = (cache(1_000), Instant::now(), Hot::new());
        cache.store(&question(1), &found(), now);
        assert!(look(&mut hot, &cache, &question(1), now).is_some());
        cache.store(&question(1), &denied(), now);
        assert_eq!(hot.held, 1);
        hot.tidy_idle(now + Duration::from_secs(1));
        assert_eq!(hot.held, 0);
    }

    #[test]
    fn an_entry_that_nobody_asks_for_is_let_go_and_so_is_its_room() {
        let (cache, now, mut hot) = (cache(10_000), Instant::now(), Hot::new());
        let entries: Vec<_> =
            (0..2_000).filter_map(|n| cache.store(&question(n), &found(), now)).collect();
        let mut ask = |n| assert!(look(&mut hot, &cache, &question(n), now).is_some());
        (0..2_000).for_each(&mut ask);
        // One holds the test, one moka.
        let pinned = || entries.iter().filter(|entry| Arc::strong_count(entry) > 2).count();
        assert!(pinned() > 1_800 && hot.sets.len() > SETS_MIN, "{} of {}", pinned(), hot.held);
        (0..60).for_each(|s| hot.tidy_idle(now + Duration::from_secs(s)));
        assert_eq!((hot.held, pinned()), (0, 0));
        assert_eq!(hot.sets.len(), SETS_MIN);
    }
}

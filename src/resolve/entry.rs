//! A cached Answer, and the rules by which it is kept, counted down and served stale.
//!
//! ```text
//! stored ───────── ttl ─────────►│◄────── stale window ──────►│ gone
//!          Fresh(seconds left)   │           Stale            │
//! ```
//!
//! Everything here is a function of the time that the caller passes in (a monotonic clock), so
//! that a jump of the wall clock expires nothing and revives nothing.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::config::{CacheConfig, DENIAL_TTL_MAX_S, Keep, Prefetch};
use crate::wire::answer::Kind;
use crate::wire::{Answer, Ede, Name, NameRef, Question, Rcode};

/// How long a failure is kept that comes for the first time (RFC 9520 §3.2: at least 1 s).
const FAILURE_FIRST: Duration = Duration::from_secs(1);
/// Response codes that say that a resolution failed (RFC 9520 §2): they are kept, each as it is.
const FAILURES: [Rcode; 4] = [Rcode::SERVFAIL, Rcode::REFUSED, Rcode::NOTIMP, Rcode::FORMERR];
/// How long a failure is remembered after its time, besides as long again: whether the next one is
/// the same that comes back.
const FAILURE_MEMORY: Duration = Duration::from_secs(30);
/// How long a refresh may be under way before another one may set out: longer than an exchange with
/// upstreams takes, and short enough to find the end of an outage (RFC 8767 §5: at most 30 s).
const REFRESH_LAPSE: Duration = Duration::from_secs(6);
/// Longest TTL that is believed, in seconds: one day. RFC 8767 §4: one with the high bit set is
/// large, not zero, and a week is the most to believe.
const TTL_MAX_S: u32 = 86_400;
/// How long after its time a positive Entry still makes us doubt a denial.
const DOUBT_WINDOW: Duration = Duration::from_secs(3600);
/// Bits of [`Entry::refreshed`] that hold milliseconds: 8 900 years; the others hold the round.
const ROUND_SHIFT: u32 = 48;

/// The space that an Entry lives in. A flood of one kind cannot evict another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    Positive,
    Negative,
    Failure,
}

/// One cached Answer.
pub struct Entry {
    /// With the key of its question in front.
    pub answer: Answer,
    /// Which cache it is of.
    pub(super) cache: u32,
    pub space: Space,
    pub stored: Instant,
    pub ttl: Duration,
    /// How long after the TTL it may still be served (RFC 8767).
    pub stale: Duration,
    /// Set when another Entry took its place or it was evicted, for tables that still hold it.
    retired: AtomicBool,
    /// When somebody last set out to refresh it, in ms after `stored` plus one, and in which round
    /// in the highest bits; 0 is never.
    refreshed: AtomicU64,
    /// When that last failed, in ms after `stored` plus one; 0 is never.
    failed_ms: AtomicU64,
    /// Hits without a gap, and when the last one was, in ms after `stored` (prefetch).
    hits: AtomicU32,
    last_hit_ms: AtomicU64,
}

/// What an Entry is good for at an instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freshness {
    /// Seconds left, at least 1.
    Fresh(u32),
    Stale,
    Gone,
}

impl Entry {
    /// An Entry for this Answer, or `None` where it must not be kept.
    pub fn new(
        question: &Question,
        answer: &Answer,
        config: &CacheConfig,
        now: Instant,
    ) -> Option<Self> {
        let (space, ttl) = keep(question.name(), answer, config)?;
        let stale = match (space, config.serve_stale) {
            // A denial that has run out is never served: it may hide what exists by now.
            (Space::Positive, Some(stale)) => stale.keep,
            _ => Duration::ZERO,
        };
        let mut answer = answer.behind(question.octets());
        if space == Space::Failure {
            answer.ede = Some(Ede::cached(answer.ede));
        }
        Some(Self {
            answer,
            cache: 0,
            space,
            stored: now,
            ttl,
            stale,
            retired: AtomicBool::new(false),
            refreshed: AtomicU64::new(0),
            failed_ms: AtomicU64::new(0),
            hits: AtomicU32::new(0),
            last_hit_ms: AtomicU64::new(0),
        })
    }

    /// Whether it answers this question, by its key, in a cache.
    #[inline]
    pub(super) fn is_for(&self, cache: u32, key: &[u8]) -> bool {
        self.cache == cache && self.answer.key() == key
    }

    /// What this Entry is good for.
    #[inline]
    pub fn freshness(&self, now: Instant) -> Freshness {
        let age = now.saturating_duration_since(self.stored);
        if age < self.ttl {
            let left = self.ttl - age;
            return Freshness::Fresh(left.as_secs() as u32 + u32::from(left.subsec_nanos() > 0));
        }
        if age < self.ttl + self.stale { Freshness::Stale } else { Freshness::Gone }
    }

    /// Time after which nobody may see this Entry any more.
    pub fn retention(&self) -> Duration {
        match self.space {
            Space::Failure => self.ttl * 2 + FAILURE_MEMORY,
            _ => self.ttl + self.stale,
        }
    }

    /// Keeps a failure longer than the same one before it, up to `longest`: twice as long when that
    /// was over, as long when somebody asked meanwhile (RFC 9520 §3.2, exponential back-off).
    pub(super) fn back_off(&mut self, before: &Self, longest: Duration, now: Instant) {
        let times = match now.saturating_duration_since(before.stored) {
            age if age < before.ttl => 1,
            age if age < before.retention() => 2,
            _ => return,
        };
        self.ttl = (before.ttl * times).clamp(self.ttl, longest.max(self.ttl));
    }

    /// Whether a denial of what this Entry says needs a second opinion.
    pub fn makes_doubt(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.stored);
        self.space == Space::Positive && age < self.ttl + self.stale.min(DOUBT_WINDOW)
    }

    /// Takes time away from a positive Entry that was kept elsewhere before. Whether there is any
    /// left.
    pub(super) fn shorten(&mut self, ttl: Duration, stale: Duration) -> bool {
        self.ttl = self.ttl.min(ttl);
        self.stale = self.stale.min(stale);
        self.space == Space::Positive && !self.retention().is_zero()
    }

    /// Marks the Entry as replaced.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Whether another Entry took its place.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Whether the caller is the one who refreshes it. A claim lapses by itself, so an errand that
    /// fails, or is dropped, delays the next one and no more. A new round, after an outage, ends
    /// all claims.
    pub fn claim_refresh(&self, now: Instant, round: u16) -> bool {
        let claimed = u64::from(round) << ROUND_SHIFT | self.age_ms(now);
        let last = self.refreshed.load(Ordering::Relaxed);
        let is_free = last == 0
            || last >> ROUND_SHIFT != u64::from(round)
            || claimed >= last + REFRESH_LAPSE.as_millis() as u64;
        let claim = || {
            let order = Ordering::Relaxed;
            self.refreshed.compare_exchange(last, claimed, order, order)
        };
        is_free && claim().is_ok()
    }

    /// Notes that a refresh failed, or is late, or brought what is doubted.
    pub fn refresh_failed(&self, now: Instant) {
        self.failed_ms.store(self.age_ms(now), Ordering::Relaxed);
    }

    /// Whether a refresh failed not longer ago than this, so that nobody is to wait for another
    /// one (RFC 8767 §5, the failure recheck timer).
    pub fn has_failed_within(&self, recheck: Duration, now: Instant) -> bool {
        let failed_ms = self.failed_ms.load(Ordering::Relaxed);
        failed_ms > 0
            && u128::from(self.age_ms(now) - failed_ms.min(self.age_ms(now))) < recheck.as_millis()
    }

    /// Milliseconds since it was stored, plus one.
    fn age_ms(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.stored).as_millis() as u64 + 1
    }

    /// Counts a hit, and tells whether a popular Entry that soon expires is to be refreshed.
    pub fn wants_prefetch(&self, prefetch: &Prefetch, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.stored);
        let age_ms = age.as_millis() as u64;
        let last_ms = self.last_hit_ms.swap(age_ms, Ordering::Relaxed);
        let is_gap = u128::from(age_ms.saturating_sub(last_ms)) > prefetch.window.as_millis();
        if is_gap {
            self.hits.store(0, Ordering::Relaxed);
        }
        let hits = self.hits.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let left = self.ttl.saturating_sub(age);
        hits >= prefetch.amount && left < self.ttl * prefetch.percentage / 100
    }

    /// Octets in memory, with the cost of the cache around it.
    pub fn size_bytes(&self) -> usize {
        size_of::<Self>() + self.answer.key().len() + self.answer.heap_bytes()
    }
}

/// Where and how long an Answer is kept (RFC 2308 §5, §7; RFC 9520 §3.2).
fn keep(name: NameRef<'_>, answer: &Answer, config: &CacheConfig) -> Option<(Space, Duration)> {
    let is_disabled = |zones: &[Name]| zones.iter().any(|zone| name.is_within(zone.as_ref()));
    let (space, ttl) = match answer.kind() {
        Kind::Found if is_disabled(&config.disable_success) => return None,
        Kind::Found => (Space::Positive, clamp(answer.ttl_min()?, config.success, TTL_MAX_S)?),
        Kind::NoData | Kind::NxDomain if is_disabled(&config.disable_denial) => return None,
        Kind::NoData | Kind::NxDomain => {
            (Space::Negative, clamp(answer.negative_ttl()?, config.denial, DENIAL_TTL_MAX_S)?)
        }
        Kind::Failure if FAILURES.contains(&answer.rcode) => {
            (Space::Failure, config.servfail.min(FAILURE_FIRST))
        }
        Kind::Failure => return None,
    };
    (!ttl.is_zero()).then_some((space, ttl))
}

/// A TTL inside the bounds of the directive and our own. RFC 1035 §3.2.1: what has TTL 0 is for
/// the query at hand alone, so no shortest TTL makes it longer.
fn clamp(ttl_s: u32, keep: Keep, most_s: u32) -> Option<Duration> {
    let clamped_s = ttl_s.clamp(keep.ttl_min_s, keep.ttl_max_s.max(keep.ttl_min_s)).min(most_s);
    (ttl_s > 0).then(|| Duration::from_secs(clamped_s.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::config::{STALE_DEFAULT, Stale};
    use crate::wire::message::tests::response;
    use crate::wire::{Ede, Name, RecordType};

    fn entry(text: &str, config: &CacheConfig) -> Option<Entry> {
        let (section, response) = response(text);
        let answer = Answer::from_response(&response, &section).unwrap();
        let name = text.split(' ').next().unwrap();
        let question = Question::new(&Name::parse(name).unwrap(), RecordType::A);
        Entry::new(&question, &answer, config, Instant::now())
    }

    const NXDOMAIN: &str = "x.example.org. A NXDOMAIN\n; authority\n\
        example.org. 900 SOA ns.example.org. root.example.org. 1 2 3 4 60";

    #[test]
    fn an_entry_counts_down_and_is_then_stale_and_then_gone() {
        let config = CacheConfig {
            serve_stale: Some(Stale { keep: Duration::from_secs(60), ..STALE_DEFAULT }),
            ..CacheConfig::default()
        };
        let entry =
            entry("w.example.org. A NOERROR\nw.example.org. 300 A 192.0.2.1", &config).unwrap();
        let after = |ms| entry.freshness(entry.stored + Duration::from_millis(ms));
        assert_eq!(after(0), Freshness::Fresh(300));
        assert_eq!(after(1_500), Freshness::Fresh(299));
        assert_eq!(after(299_999), Freshness::Fresh(1));
        assert_eq!(after(300_000), Freshness::Stale);
        assert_eq!(after(360_000), Freshness::Gone);
        assert_eq!(entry.freshness(entry.stored - Duration::from_secs(9)), Freshness::Fresh(300));
    }

    #[test]
    fn ttls_stay_inside_the_bounds_of_the_directive() {
        let ttl = |text, config: &CacheConfig| entry(text, config).unwrap().ttl.as_secs();
        let mut config = CacheConfig::default();
        config.success.ttl_max_s = 30;
        assert_eq!(ttl("w.example. A NOERROR\nw.example. 300 A 192.0.2.1", &config), 30);
        assert_eq!(ttl("w.example. A NOERROR\nw.example. 1 A 192.0.2.1", &config), 5);
        assert_eq!(ttl(NXDOMAIN, &config), 60, "the lesser of TTL and MINIMUM");
    }

    #[test]
    fn what_must_not_be_kept_is_not() {
        let config = CacheConfig::default();
        assert!(entry("x.example.org. A NXDOMAIN", &config).is_none(), "no SOA");
        assert!(entry("x.example.org. A NOERROR", &config).is_none(), "no SOA");
        let refused = entry("x.example.org. A REFUSED", &config).unwrap();
        assert_eq!((refused.space, refused.answer.rcode), (Space::Failure, Rcode::REFUSED));
        assert!(entry("x.example.org. A NOTAUTH", &config).is_none());
        let zone = vec![Name::parse("example.org").unwrap()];
        let disabled = CacheConfig { disable_denial: zone, ..CacheConfig::default() };
        assert!(entry(NXDOMAIN, &disabled).is_none());
    }

    #[test]
    fn denials_are_never_served_stale() {
        let config = CacheConfig {
            serve_stale: Some(Stale { keep: Duration::from_secs(60), ..STALE_DEFAULT }),
            ..CacheConfig::default()
        };
        assert_eq!(entry(NXDOMAIN, &config).unwrap().stale, Duration::ZERO);
    }

    #[test]
    fn u13_what_has_ttl_0_is_used_once_and_what_is_too_long_is_capped() {
        let config = CacheConfig { success: LONG, denial: LONG, ..CacheConfig::default() };
        let found = |ttl: u32| {
            entry(&format!("w.example. A NOERROR\nw.example. {ttl} A 192.0.2.1"), &config)
        };
        assert!(found(0).is_none());
        for ttl_s in [1 << 31, u32::MAX, 86_401] {
            assert_eq!(found(ttl_s).unwrap().ttl.as_secs(), 86_400, "{ttl_s}");
        }
        let denied = |ttl: u32| {
            let soa = format!("example. {ttl} SOA ns.example. root.example. 1 2 3 4 {ttl}");
            entry(&format!("w.example. A NXDOMAIN\n; authority\n{soa}"), &config)
        };
        assert!(denied(0).is_none());
        assert_eq!(denied(u32::MAX).unwrap().ttl.as_secs(), 10_800);
    }

    const LONG: Keep = Keep { capacity: 9, ttl_max_s: u32::MAX, ttl_min_s: 0 };

    #[test]
    fn a_denial_is_kept_for_a_minute_at_most_by_default() {
        let text = NXDOMAIN.replace(" 60", " 600");
        assert_eq!(entry(&text, &CacheConfig::default()).unwrap().ttl.as_secs(), 60);
    }

    #[test]
    fn a_failure_that_comes_back_is_kept_twice_as_long() {
        let question = Question::new(&Name::root(), RecordType::NS);
        let failure = |now| {
            let answer = Answer::bare(Rcode::SERVFAIL, Some(Ede::NO_REACHABLE_AUTHORITY));
            Entry::new(&question, &answer, &CacheConfig::default(), now).unwrap()
        };
        let longest = Duration::from_secs(30);
        let mut last = failure(Instant::now());
        assert_eq!(last.answer.ede, Some(Ede::cached(Some(Ede::NO_REACHABLE_AUTHORITY))));
        for expected_s in [2, 4, 8, 16, 30, 30] {
            let mut meanwhile = failure(last.stored);
            meanwhile.back_off(&last, longest, last.stored);
            assert_eq!(meanwhile.ttl, last.ttl, "the same one");
            let end = last.stored + last.ttl;
            let mut next = failure(end);
            next.back_off(&last, longest, end);
            assert_eq!(next.ttl.as_secs(), expected_s);
            assert!(next.retention() > next.ttl);
            last = next;
        }
        let end = last.stored + last.retention();
        let mut late = failure(end);
        late.back_off(&last, longest, end);
        assert_eq!(late.ttl.as_secs(), 1, "forgotten");
    }

    #[test]
    fn popular_entries_are_refreshed_before_they_expire() {
        let prefetch = Prefetch { amount: 2, window: Duration::from_secs(60), percentage: 10 };
        let entry =
            entry("w.example. A NOERROR\nw.example. 100 A 192.0.2.1", &CacheConfig::default())
                .unwrap();
        let hit = |s| entry.wants_prefetch(&prefetch, entry.stored + Duration::from_secs(s));
        assert!(!hit(20));
        assert!(!hit(50), "popular, and still good for a while");
        assert!(hit(95));
        let claim = |s| entry.claim_refresh(entry.stored + Duration::from_secs(s), 0);
        assert!(claim(95) && !claim(95) && !claim(100));
        assert!(claim(101), "the first one did not come back");
        let next_round = entry.claim_refresh(entry.stored + Duration::from_secs(102), 1);
        assert!(next_round, "an outage has ended");
    }
}

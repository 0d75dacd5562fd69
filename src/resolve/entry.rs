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

use super::config::{CacheConfig, Prefetch, SERVFAIL_MAX};
use crate::wire::answer::Kind;
use crate::wire::{Answer, NameRef, Question, Rcode};

/// How long a failure of the network is kept: RFC 9520 §3.2 wants at least 1 s, and more would
/// keep clients in an outage that is over.
const NETWORK_FAILURE: Duration = Duration::from_secs(1);
/// How long a refresh may be under way before another one may set out: longer than an exchange with
/// upstreams takes, and short enough to find the end of an outage (RFC 8767 §5: at most 30 s).
const REFRESH_LAPSE: Duration = Duration::from_secs(6);
/// Longest TTL that is believed: one day (reliability limits; RFC 8767 §4 allows a week).
const TTL_MAX: Duration = Duration::from_secs(86_400);
/// TTL of a stale Answer, in seconds (RFC 8767 §5.2 recommends 30).
pub const STALE_TTL_S: u32 = 30;

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
    /// When somebody last set out to refresh it, in ms after `stored` plus one; 0 is never.
    refreshed_ms: AtomicU64,
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
        Some(Self {
            answer: answer.behind(question.octets()),
            cache: 0,
            space,
            stored: now,
            ttl,
            stale,
            retired: AtomicBool::new(false),
            refreshed_ms: AtomicU64::new(0),
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
        self.ttl + self.stale
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
    /// fails, or is dropped, delays the next one and no more.
    pub fn claim_refresh(&self, now: Instant) -> bool {
        let age_ms = now.saturating_duration_since(self.stored).as_millis() as u64 + 1;
        let last_ms = self.refreshed_ms.load(Ordering::Relaxed);
        let is_free = last_ms == 0 || age_ms >= last_ms + REFRESH_LAPSE.as_millis() as u64;
        let claim = || {
            let order = Ordering::Relaxed;
            self.refreshed_ms.compare_exchange(last_ms, age_ms, order, order)
        };
        is_free && claim().is_ok()
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
    let is_disabled =
        |zones: &[crate::wire::Name]| zones.iter().any(|zone| name.is_within(zone.as_ref()));
    let clamp = |ttl_s: u32, keep: &super::config::Keep| {
        let ttl_s = ttl_s.clamp(keep.ttl_min_s, keep.ttl_max_s.max(keep.ttl_min_s));
        Duration::from_secs(u64::from(ttl_s)).min(TTL_MAX)
    };
    match answer.kind() {
        Kind::Found => {
            let ttl_s = answer.ttl_min().filter(|_| !is_disabled(&config.disable_success))?;
            Some((Space::Positive, clamp(ttl_s, &config.success)))
        }
        Kind::NoData | Kind::NxDomain => {
            let ttl_s = answer.negative_ttl().filter(|_| !is_disabled(&config.disable_denial))?;
            Some((Space::Negative, clamp(ttl_s, &config.denial)))
        }
        Kind::Failure if answer.rcode == Rcode::SERVFAIL && !config.servfail.is_zero() => {
            let is_ours = answer.ede.is_some_and(|ede| !ede.is_told());
            let most = if is_ours { NETWORK_FAILURE } else { SERVFAIL_MAX };
            Some((Space::Failure, config.servfail.min(most)))
        }
        Kind::Failure => None,
    }
    .filter(|(_, ttl)| !ttl.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::config::{Refresh, Stale};
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
            serve_stale: Some(Stale { keep: Duration::from_secs(60), refresh: Refresh::Immediate }),
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
        assert!(entry("x.example.org. A REFUSED", &config).is_none());
        let zone = vec![Name::parse("example.org").unwrap()];
        let disabled = CacheConfig { disable_denial: zone, ..CacheConfig::default() };
        assert!(entry(NXDOMAIN, &disabled).is_none());
    }

    #[test]
    fn denials_are_never_served_stale() {
        let config = CacheConfig {
            serve_stale: Some(Stale { keep: Duration::from_secs(60), refresh: Refresh::Immediate }),
            ..CacheConfig::default()
        };
        assert_eq!(entry(NXDOMAIN, &config).unwrap().stale, Duration::ZERO);
    }

    #[test]
    fn a_failure_of_our_own_is_kept_for_a_second_only() {
        let (section, mut response) = response("w.example. A SERVFAIL");
        response[11] = 1;
        response.extend_from_slice(b"\0\0\x29\x04\xD0\0\0\0\0\0\x06\0\x0F\0\x02\0\x16");
        let told = Answer::from_response(&response, &section).unwrap().ede;

        let question = Question::new(&Name::root(), RecordType::NS);
        let keep = |ede| {
            let answer = Answer::bare(Rcode::SERVFAIL, ede);
            Entry::new(&question, &answer, &CacheConfig::default(), Instant::now())
        };
        assert_eq!(keep(None).unwrap().ttl, Duration::from_secs(5));
        assert_eq!(keep(Some(Ede::NO_REACHABLE_AUTHORITY)).unwrap().ttl, Duration::from_secs(1));
        assert_eq!(told.unwrap().code, Ede::NO_REACHABLE_AUTHORITY.code);
        assert_eq!(keep(told).unwrap().ttl, Duration::from_secs(5), "that of an upstream");
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
        let claim = |s| entry.claim_refresh(entry.stored + Duration::from_secs(s));
        assert!(claim(95) && !claim(95) && !claim(100));
        assert!(claim(101), "the first one did not come back");
    }
}

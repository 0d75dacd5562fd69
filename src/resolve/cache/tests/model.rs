//! The policy against a model: a list of what upstreams said, and the rules read off it.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::resolve::config::{Keep, STALE_DEFAULT, Stale};
use crate::wire::message::tests::response;
use crate::wire::{Rcode, RecordType};

const QUESTIONS: usize = 3;
/// Bounds that the random TTLs lie on both sides of, in seconds.
const FOUND_MAX_S: u32 = 300;
const DENIED_MAX_S: u32 = 60;
const TTL_MIN_S: u32 = 5;
const STALE: Duration = Duration::from_secs(2 * 3600);
const DOUBT: Duration = Duration::from_secs(3600);
const SERVFAIL_MAX: Duration = Duration::from_secs(30);

/// What happens to one question.
#[derive(Clone, Copy, Debug)]
enum Event {
    Found { ttl_s: u32 },
    Denied { ttl_s: u32, has_soa: bool, is_agreed: bool },
    Failed,
    Waited(Duration),
    Asked,
}

fn event() -> impl Strategy<Value = Event> {
    let ttl = || prop_oneof![Just(0), 1..900u32, Just(1 << 31), Just(u32::MAX)];
    prop_oneof![
        3 => ttl().prop_map(|ttl_s| Event::Found { ttl_s }),
        3 => (ttl(), any::<bool>(), any::<bool>())
            .prop_map(|(ttl_s, has_soa, is_agreed)| Event::Denied { ttl_s, has_soa, is_agreed }),
        3 => Just(Event::Failed),
        4 => prop_oneof![1..4_000u64, 4_000..100_000u64, 100_000..8_000_000u64]
            .prop_map(|ms| Event::Waited(Duration::from_millis(ms))),
        6 => Just(Event::Asked),
    ]
}

/// What one question's history amounts to.
#[derive(Clone, Copy, Default)]
struct Model {
    /// The last word that counts: when it came, its TTL, and whether it is a denial.
    word: Option<(Instant, Duration, bool)>,
    /// Failures since then: when the last came and how long it counts.
    failure: Option<(Instant, Duration)>,
}

fn clamped(ttl_s: u32, most_s: u32) -> Duration {
    Duration::from_secs(ttl_s.clamp(TTL_MIN_S, most_s).into())
}

impl Model {
    fn is_known(&self, now: Instant) -> bool {
        self.word.is_some_and(|(at, ttl, is_denial)| !is_denial && now - at < ttl + DOUBT)
    }

    fn found(&mut self, ttl_s: u32, now: Instant) {
        let word = (now, clamped(ttl_s, FOUND_MAX_S), false);
        *self = Self { word: (ttl_s > 0).then_some(word), failure: None };
    }

    fn denied(&mut self, ttl_s: u32, has_soa: bool, now: Instant) {
        if ttl_s > 0 && has_soa {
            *self = Self { word: Some((now, clamped(ttl_s, DENIED_MAX_S), true)), failure: None };
        }
    }

    /// A second first, then the same while it counts, twice as much soon after, a second later on.
    fn failed(&mut self, now: Instant) {
        let first = Duration::from_secs(1);
        let kept = match self.failure {
            Some((at, kept)) if now - at < kept => kept,
            Some((at, kept)) if now - at < 2 * kept + Duration::from_secs(30) => 2 * kept,
            _ => first,
        };
        self.failure = Some((now, kept.min(SERVFAIL_MAX)));
    }

    /// What is served now.
    fn served(&self, now: Instant) -> Option<(Space, Freshness)> {
        let fresh = |left: Duration| Freshness::Fresh(left.as_millis().div_ceil(1_000) as u32);
        if let Some((at, ttl, is_denial)) = self.word {
            let age = now - at;
            let space = if is_denial { Space::Negative } else { Space::Positive };
            if age < ttl {
                return Some((space, fresh(ttl - age)));
            }
            if !is_denial && age < ttl + STALE {
                return Some((space, Freshness::Stale));
            }
        }
        let (at, kept) = self.failure?;
        (now - at < kept).then(|| (Space::Failure, fresh(kept - (now - at))))
    }
}

fn cache() -> Cache {
    let keep = |ttl_max_s| Keep { capacity: 100, ttl_max_s, ttl_min_s: TTL_MIN_S };
    let config = CacheConfig {
        success: keep(FOUND_MAX_S),
        denial: keep(DENIED_MAX_S),
        servfail: SERVFAIL_MAX,
        serve_stale: Some(Stale { keep: STALE, ..STALE_DEFAULT }),
        ..CacheConfig::default()
    };
    Cache::new(config, vec![Name::root()])
}

fn name(number: usize) -> String {
    format!("{number}.example.")
}

fn answer(text: &str) -> Answer {
    let (section, response) = response(text);
    Answer::from_response(&response, &section).unwrap()
}

/// Does to the cache what a Flight does (`fetch`), and to the model what it says.
fn happen(cache: &Cache, model: &mut Model, number: usize, event: Event, now: Instant) {
    let question = Question::new(&Name::parse(&name(number)).unwrap(), RecordType::A);
    let name = name(number);
    match event {
        Event::Found { ttl_s } => {
            let text = format!("{name} A NOERROR\n{name} {ttl_s} A 192.0.2.1");
            cache.store(&question, &answer(&text), now);
            model.found(ttl_s, now);
        }
        Event::Denied { ttl_s, has_soa, is_agreed } => {
            let is_doubted = cache.doubts(&question, now).is_some();
            assert_eq!(is_doubted, model.is_known(now));
            if is_doubted && !is_agreed {
                return;
            }
            let soa = format!("example. {ttl_s} SOA ns.example. root.example. 1 2 3 4 {ttl_s}");
            let proof = if has_soa { format!("\n; authority\n{soa}") } else { String::new() };
            cache.store(&question, &answer(&format!("{name} A NXDOMAIN{proof}")), now);
            model.denied(ttl_s, has_soa, now);
        }
        Event::Failed => {
            cache.store(&question, &Answer::bare(Rcode::SERVFAIL, None), now);
            model.failed(now);
        }
        Event::Waited(_) | Event::Asked => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn what_is_served_is_what_the_history_allows(
        events in proptest::collection::vec((0..QUESTIONS, event()), 1..120)
    ) {
        let (cache, mut now) = (cache(), Instant::now());
        let mut models = [Model::default(); QUESTIONS];
        for (number, event) in events {
            if let Event::Waited(wait) = event {
                now += wait;
            }
            happen(&cache, &mut models[number], number, event, now);
            for (number, model) in models.iter().enumerate() {
                let question = Question::new(&Name::parse(&name(number)).unwrap(), RecordType::A);
                let got = cache.get(question.octets(), now);
                let got = got.map(|(entry, freshness)| (entry.space, freshness));
                prop_assert_eq!(got, model.served(now));
                prop_assert!(got != Some((Space::Negative, Freshness::Stale)));
                let has_failed = model.failure.is_some_and(|(at, kept)| now - at < kept);
                prop_assert_eq!(cache.has_failed(&question, now), has_failed);
            }
        }
    }
}

//! What is kept, what replaces what, and what is given back.

use super::*;
use crate::resolve::config::{STALE_DEFAULT, Stale};
use crate::wire::message::tests::response;
use crate::wire::{Ede, Rcode, RecordType};

fn cache() -> Cache {
    let config = CacheConfig {
        serve_stale: Some(Stale { keep: Duration::from_secs(60), ..STALE_DEFAULT }),
        ..CacheConfig::default()
    };
    Cache::new(config, vec![Name::root()])
}

fn question(name: &str) -> Question {
    Question::new(&Name::parse(name).unwrap(), RecordType::A)
}

fn answer(text: &str) -> Answer {
    let (section, response) = response(text);
    Answer::from_response(&response, &section).unwrap()
}

const FOUND: &str = "w.example. A NOERROR\nw.example. 10 A 192.0.2.1";
const DENIED: &str =
    "w.example. A NXDOMAIN\n; authority\nexample. 10 SOA ns.example. root.example. 1 2 3 4 60";

#[test]
fn a_denial_takes_the_place_of_an_answer_and_back() {
    let (cache, now) = (cache(), Instant::now());
    let question = question("w.example.");
    let first = cache.store(&question, &answer(FOUND), now).unwrap();
    cache.store(&question, &answer(DENIED), now);
    assert!(first.is_retired());
    assert_eq!(cache.get(question.octets(), now).unwrap().0.space, Space::Negative);
    cache.store(&question, &answer(FOUND), now);
    assert_eq!(cache.get(question.octets(), now).unwrap().0.space, Space::Positive);
}

#[test]
fn a_stale_answer_is_better_than_a_fresh_failure() {
    let (cache, now) = (cache(), Instant::now());
    let question = question("w.example.");
    cache.store(&question, &answer(FOUND), now);
    let later = now + Duration::from_secs(20);
    let failure = Answer::bare(Rcode::SERVFAIL, Some(Ede::NO_REACHABLE_AUTHORITY));
    cache.store(&question, &failure, later);
    let (entry, freshness) = cache.get(question.octets(), later).unwrap();
    assert_eq!((entry.space, freshness), (Space::Positive, Freshness::Stale));
    assert!(cache.has_failed(&question, later));
    assert!(!cache.has_failed(&question, later + Duration::from_secs(2)));
}

#[test]
fn positive_entries_are_taken_out_and_put_back_with_what_is_left_of_their_time() {
    let (cache, copy, now) = (cache(), self::cache(), Instant::now());
    let question = question("w.example.");
    cache.store(&question, &answer(FOUND), now);
    let (out, later) = (cache.positives(10), now + Duration::from_secs(4));
    let [(found, entry)] = &out[..] else { panic!("{}", out.len()) };
    let left = |s| copy.get(question.octets(), later + Duration::from_secs(s));
    copy.restore(found.clone(), entry.answer.clone(), 6, Duration::from_secs(20), later);
    assert_eq!(left(0).unwrap().1, Freshness::Fresh(6));
    assert_eq!(left(25).unwrap().1, Freshness::Stale);
    assert!(left(26).is_none());
}

#[test]
fn what_is_put_back_lives_no_longer_than_what_is_asked_for_and_replaces_nothing() {
    let (cache, now) = (cache(), Instant::now());
    let put = |text| {
        cache.restore(question("w.example."), answer(text), u32::MAX, Duration::MAX, now);
    };
    put(DENIED);
    assert!(cache.get(question("w.example.").octets(), now).is_none());
    put(FOUND);
    let (entry, freshness) = cache.get(question("w.example.").octets(), now).unwrap();
    assert_eq!((freshness, entry.stale), (Freshness::Fresh(10), Duration::from_secs(60)));
    cache.store(&question("w.example."), &answer(DENIED), now);
    put(FOUND);
    assert_eq!(cache.get(question("w.example.").octets(), now).unwrap().0.space, Space::Negative);
}

#[test]
fn what_workers_serve_is_taken_out_first() {
    let (cache, now) = (cache(), Instant::now());
    let keep = |n: u64| {
        let later = now + Duration::from_secs(n);
        cache.store(&question(&format!("{n}.example.")), &answer(FOUND), later).unwrap()
    };
    let _served = keep(1);
    (2..5).for_each(|n| drop(keep(n)));
    let first: Vec<_> = cache.positives(2).into_iter().map(|(it, _)| it).collect();
    assert_eq!(first, [question("1.example."), question("4.example.")]);
}

#[test]
fn a_flood_of_failures_evicts_no_denial_and_has_a_bound() {
    let (cache, now) = (cache(), Instant::now());
    let kept = question("w.example.");
    cache.store(&kept, &answer(DENIED), now);
    let failure = Answer::bare(Rcode::SERVFAIL, Some(Ede::NO_REACHABLE_AUTHORITY));
    for n in 0..2 * FAILURES_MAX {
        cache.store(&question(&format!("{n}.example.")), &failure, now);
    }
    cache.failure.run_pending_tasks();
    assert!(cache.failure.entry_count() <= FAILURES_MAX);
    assert_eq!(cache.get(kept.octets(), now).unwrap().0.space, Space::Negative);
}

#[test]
fn the_host_bounds_each_space() {
    let within = |bytes_max| Cache::within(bytes_max, CacheConfig::default(), vec![Name::root()]);
    let (small, now) = (within(100 << 10), Instant::now());
    for n in 0..1_000 {
        small.store(&question(&format!("{n}.example.")), &answer(FOUND), now);
        small.store(&question(&format!("n{n}.example.")), &answer(DENIED), now);
    }
    small.positive.run_pending_tasks();
    small.negative.run_pending_tasks();
    let [positive, negative] = small.entry_counts();
    assert!((1..=140).contains(&positive) && (1..=50).contains(&negative));
    assert_eq!((small.capacity(), within(u64::MAX).capacity()), (190, 2 * 9984));
}

#[test]
fn after_an_outage_failures_are_forgotten_and_refreshes_begin_anew() {
    let (cache, now) = (cache(), Instant::now());
    let question = question("w.example.");
    cache.store(&question, &answer(FOUND), now);
    let later = now + Duration::from_secs(20);
    cache.store(&question, &Answer::bare(Rcode::SERVFAIL, None), later);
    let (entry, _) = cache.get(question.octets(), later).unwrap();
    let claims = || entry.claim_refresh(later, cache.round());
    assert!(claims() && !claims() && cache.has_failed(&question, later));
    cache.outage_ended();
    assert!(claims() && !cache.has_failed(&question, later));
}

#[test]
fn what_is_for_one_query_only_ends_what_was_known() {
    let (cache, now) = (cache(), Instant::now());
    let question = question("w.example.");
    let old = cache.store(&question, &answer(FOUND), now).unwrap();
    let once = answer(&FOUND.replace(" 10 ", " 0 "));
    assert!(cache.store(&question, &once, now).is_none() && old.is_retired());
    assert!(cache.get(question.octets(), now).is_none());
    cache.store(&question, &answer(FOUND), now);
    cache.store(&question, &answer("w.example. A NXDOMAIN"), now);
    assert!(cache.get(question.octets(), now).is_some(), "a denial without SOA ends nothing");
}

#[test]
fn a_flood_of_denials_evicts_no_answer() {
    let mut config = CacheConfig::default();
    config.denial.capacity = 100;
    let (cache, now) = (Cache::new(config, vec![Name::root()]), Instant::now());
    let kept = question("w.example.");
    cache.store(&kept, &answer(FOUND), now);
    for n in 0..2_000 {
        let question = question(&format!("{n}.example."));
        cache.store(&question, &answer(DENIED), now);
    }
    cache.negative.run_pending_tasks();
    assert!(cache.negative.entry_count() <= 100);
    assert!(cache.get(kept.octets(), now).is_some());
}

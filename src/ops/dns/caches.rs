//! `coredns_cache_…` and `mainstay_cache_…`: what the caches hold and did.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Labels, Page, Value, steps, with};
use crate::resolve::cache::{Cache, CacheCounters, Doubt};
use crate::resolve::plan::Plan;
use crate::resolve::step::Step;

/// Counters of one kind of Entry each: name, help, and those of positive and negative Entries.
type ByType = (&'static str, &'static str, fn(&CacheCounters) -> [u64; 2]);
const BY_TYPE: [ByType; 2] = [
    ("coredns_cache_hits", "Queries answered from the cache", CacheCounters::hits),
    ("coredns_cache_evictions", "Entries evicted for want of room", |counters| {
        [&counters.evictions_success, &counters.evictions_denial].map(value)
    }),
];

/// Counters of a cache as a whole.
type Whole = (&'static str, &'static str, fn(&CacheCounters) -> u64);
const WHOLE: [Whole; 6] = [
    ("coredns_cache_requests", "Queries to the cache", requests),
    ("coredns_cache_misses", "Queries that the cache could not answer", |counters| {
        value(&counters.misses)
    }),
    ("coredns_cache_prefetch", "Entries refreshed before they expired", |counters| {
        value(&counters.prefetches)
    }),
    // CoreDNS counts responses to another question here; ours do not get that far.
    ("coredns_cache_drops", "Answers to another question", |_| 0),
    ("coredns_cache_served_stale", "Queries answered from an expired Entry", |counters| {
        value(&counters.served_stale)
    }),
    (
        "mainstay_cache_refreshes_put_off",
        "Refreshes that had to wait in an outage of all upstreams, or after one",
        |counters| value(&counters.refreshes_put_off),
    ),
];

/// What becomes of a denial that is doubted, as the label `outcome`.
const DOUBTS: [(Doubt, &str); 3] =
    [(Doubt::Agreed, "agreed"), (Doubt::Differed, "differed"), (Doubt::Unknown, "unknown")];

/// Writes the families of all caches.
pub(super) fn write(page: &mut Page<'_, '_>, plan: &Plan) -> fmt::Result {
    let all = caches(plan);
    let entries = all.iter().flat_map(|(labels, cache)| by_type(labels, cache.entry_counts()));
    let entries = entries.map(|(labels, count)| (labels, Value::Gauge(count as f64)));
    page.family("coredns_cache_entries", "Entries in the cache", entries)?;
    for (name, help, pick) in BY_TYPE {
        let lines = all.iter().flat_map(|(labels, cache)| by_type(labels, pick(&cache.counters)));
        page.family(name, help, lines.map(|(labels, count)| (labels, Value::Counter(count))))?;
    }
    for (name, help, pick) in WHOLE {
        let line = |(labels, cache): &(Labels, &Arc<Cache>)| {
            (labels.clone(), Value::Counter(pick(&cache.counters)))
        };
        page.family(name, help, all.iter().map(line))?;
    }
    let doubts = all.iter().flat_map(|(labels, cache)| {
        let line = |(doubt, outcome)| {
            let count = value(&cache.counters.doubts[doubt as usize]);
            (with(labels, "outcome", outcome), Value::Counter(count))
        };
        DOUBTS.map(line)
    });
    let help = "Denials that were asked about elsewhere before they were believed";
    page.family("mainstay_cache_denials_doubted", help, doubts)
}

/// Each cache once, though it serves several zones.
fn caches(plan: &Plan) -> Vec<(Labels, &Arc<Cache>)> {
    let mut all: Vec<(Labels, &Arc<Cache>)> = Vec::new();
    let found = steps(plan, |step| match step {
        Step::Cache(cache) => Some(cache),
        _ => None,
    });
    for (zoned, cache) in found {
        if !all.iter().any(|(_, known)| Arc::ptr_eq(known, cache)) {
            let zones: Vec<String> = cache.zones.iter().map(ToString::to_string).collect();
            all.push((labels(&zoned.tally.server, &zones.join(",")), cache));
        }
    }
    all
}

fn by_type(labels: &Labels, counts: [u64; 2]) -> [(Labels, u64); 2] {
    let [success, denial] = counts;
    [(with(labels, "type", "success"), success), (with(labels, "type", "denial"), denial)]
}

fn requests(counters: &CacheCounters) -> u64 {
    counters.hits().into_iter().sum::<u64>() + value(&counters.misses)
}

fn value(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn labels(server: &str, zones: &str) -> Labels {
    vec![("server", server.to_owned()), ("zones", zones.to_owned()), ("view", String::new())]
}

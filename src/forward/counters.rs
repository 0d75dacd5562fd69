//! What upstreams did, counted. The room counts, `ops` publishes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::wire::Rcode;

/// Upper bounds of the buckets, in seconds: 0.25 ms·2ⁿ, as in `coredns_proxy_*`.
pub const DURATION_BOUNDS_S: [f64; 16] = bounds();
/// The response codes that are told apart, as the label `rcode`; all others are [`OTHER`].
pub const RCODES: [Rcode; 6] = [
    Rcode::NOERROR,
    Rcode::FORMERR,
    Rcode::SERVFAIL,
    Rcode::NXDOMAIN,
    Rcode::NOTIMP,
    Rcode::REFUSED,
];
/// The label of the response codes that are not in [`RCODES`].
pub const OTHER: &str = "OTHER";

/// A number that only grows.
#[derive(Default, Debug)]
pub struct Counter(AtomicU64);

/// How long exchanges took.
#[derive(Default, Debug)]
pub struct Histogram {
    /// The last one is for what took longer than the highest bound.
    buckets: [AtomicU64; DURATION_BOUNDS_S.len() + 1],
    sum_us: AtomicU64,
}

/// A [`Histogram`] at one moment.
#[derive(Clone, PartialEq, Debug)]
pub struct Durations {
    /// Exchanges up to each of [`DURATION_BOUNDS_S`], the shorter ones included.
    pub cumulative: [u64; DURATION_BOUNDS_S.len()],
    pub count: u64,
    pub sum_s: f64,
}

/// What one upstream did.
#[derive(Default, Debug)]
pub struct UpstreamCounters {
    durations: [Histogram; RCODES.len() + 1],
    /// Tries that ended without a response.
    pub failures: Counter,
    /// Tries that were not answered in time.
    pub time_outs: Counter,
    /// Answers to tries that had been given up.
    pub late_answers: Counter,
    /// Tries that another upstream, asked later, was faster than.
    pub outrun: Counter,
    /// Questions that came here because the answer of another upstream was late.
    pub hedges: Counter,
    /// Questions that came here because another try had failed or was answered poorly.
    pub failovers: Counter,
    /// Responses with another id, after which the question goes over TCP.
    pub near_misses: Counter,
    /// Times that its packets per second were spent.
    pub packet_waits: Counter,
    /// `coredns_proxy_healthcheck_failures_total`.
    pub probe_failures: Counter,
    /// Datagrams and TCP messages that did not fit the question they came for.
    pub mismatched: Counter,
    /// UDP sockets opened: `conn_cache_misses_total{proto="udp"}`. Each query has its own.
    pub udp_opened: Counter,
    /// TCP connections opened: `conn_cache_misses_total{proto="tcp"}`.
    pub tcp_opened: Counter,
    /// TCP connections used again: `conn_cache_hits_total{proto="tcp"}`.
    pub tcp_reused: Counter,
    /// TCP connections closed after use because enough idle ones were kept.
    pub tcp_surplus: Counter,
}

/// What one directive did.
#[derive(Default, Debug)]
pub struct ForwardCounters {
    /// `coredns_forward_max_concurrent_rejects_total`.
    pub rejects: Counter,
    /// Questions that found all upstreams down: `coredns_forward_healthcheck_broken_total`.
    pub all_down: Counter,
    /// Late answers for which no hedge was left.
    pub hedges_forgone: Counter,
    /// Queries that ended because their [`super::Budget`] was spent.
    pub budgets_spent: Counter,
    /// Questions that failed because all packets per second were spent.
    pub paced: Counter,
    /// Times that resolv.conf was read again and could not be used.
    pub resolv_failures: Counter,
    /// Nameservers left out because there were too many.
    pub surplus_targets: Counter,
}

impl Counter {
    /// Counts one.
    pub fn add(&self) {
        self.add_many(1);
    }

    /// Counts several.
    pub fn add_many(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The count.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Histogram {
    /// Counts one exchange.
    pub fn record(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = DURATION_BOUNDS_S.iter().position(|&bound| seconds <= bound);
        let bucket = bucket.unwrap_or(DURATION_BOUNDS_S.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// The counts at this moment.
    pub fn durations(&self) -> Durations {
        let mut count = 0;
        let mut running = |bucket: &AtomicU64| {
            count += bucket.load(Ordering::Relaxed);
            count
        };
        let mut cumulative = [0; DURATION_BOUNDS_S.len()];
        for (sum, bucket) in cumulative.iter_mut().zip(&self.buckets) {
            *sum = running(bucket);
        }
        let count = running(&self.buckets[DURATION_BOUNDS_S.len()]);
        let sum_s = self.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        Durations { cumulative, count, sum_s }
    }
}

impl UpstreamCounters {
    /// Counts a response.
    pub fn response(&self, rcode: Rcode, took: Duration) {
        let row = RCODES.iter().position(|&known| known == rcode).unwrap_or(RCODES.len());
        self.durations[row].record(took);
    }

    /// The durations by response code; their counts are the numbers of responses.
    pub fn durations(&self) -> impl Iterator<Item = (String, Durations)> + '_ {
        let labels = RCODES.iter().map(Rcode::to_string).chain([OTHER.to_string()]);
        labels.zip(self.durations.iter().map(Histogram::durations))
    }
}

/// Doubles from 0.25 ms on.
const fn bounds() -> [f64; 16] {
    let mut bounds = [0.000_25; 16];
    let mut at = 1;
    while at < bounds.len() {
        bounds[at] = bounds[at - 1] * 2.0;
        at += 1;
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buckets_are_those_of_coredns() {
        assert_eq!(DURATION_BOUNDS_S[..3], [0.000_25, 0.000_5, 0.001]);
        assert_eq!(DURATION_BOUNDS_S[15], 8.192);
    }

    #[test]
    fn a_duration_counts_in_its_bucket_and_all_above() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_micros(250));
        histogram.record(Duration::from_micros(800));
        histogram.record(Duration::from_secs(9));
        let durations = histogram.durations();
        assert_eq!(durations.cumulative[..3], [1, 1, 2]);
        assert_eq!((durations.cumulative[15], durations.count), (2, 3));
        assert!((durations.sum_s - 9.001_05).abs() < 1e-9);
    }

    #[test]
    fn responses_are_told_apart_by_their_code() {
        let counters = UpstreamCounters::default();
        counters.response(Rcode::NXDOMAIN, Duration::ZERO);
        counters.response(Rcode::BADVERS, Duration::ZERO);
        let counted: Vec<String> = counters
            .durations()
            .filter(|(_, durations)| durations.count == 1)
            .map(|(label, _)| label)
            .collect();
        assert_eq!(counted, ["NXDOMAIN", OTHER]);
    }
}

//! Counts of the lookups of one kind of name by one kind of client.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::super::report::histogram::{self, LONGEST_US};
use super::super::report::{Group, Outcomes, Recovery, Truths};
use super::super::resolver::Resolver;
use super::super::tasks::Class;
use super::{Outcome, Sample};

/// Upper bounds of the latencies that metrics tell apart, in microseconds: from a hit in the
/// memory of a neighbour to the time-outs of resolvers.
pub const BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// What is small enough to be copied once a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Kind of name.
    pub class: Class,
    /// Kind of client.
    pub resolver: Resolver,
    /// By outcome.
    pub outcomes: Outcomes,
    /// By verdict.
    pub truths: Truths,
    /// Packets that were sent.
    pub packets: u64,
    /// Sum of latencies in microseconds.
    pub sum_us: u64,
    /// Lookups by latency: up to each of [`BOUNDS_US`], and beyond.
    pub by_bound: [u64; BOUNDS_US.len() + 1],
}

impl Counts {
    fn new(class: Class, resolver: Resolver) -> Self {
        Self {
            class,
            resolver,
            outcomes: Outcomes::default(),
            truths: Truths::default(),
            packets: 0,
            sum_us: 0,
            by_bound: [0; BOUNDS_US.len() + 1],
        }
    }

    /// Adds another of the same kind.
    pub fn add(&mut self, other: &Self) {
        self.outcomes.add(&other.outcomes);
        self.truths.add(&other.truths);
        self.packets += other.packets;
        self.sum_us += other.sum_us;
        for (count, other) in self.by_bound.iter_mut().zip(other.by_bound) {
            *count += other;
        }
    }
}

/// Everything about them.
#[derive(Debug)]
pub struct Tally {
    /// See there.
    pub counts: Counts,
    latency: Histogram<u64>,
    /// Those longer than a histogram holds, which are in it as the longest.
    clamped: u64,
    max_us: u64,
    first_failure: Option<Duration>,
    last_failure: Option<Duration>,
    last_unknown_host: Option<Duration>,
    fresh_after_max: Option<Duration>,
}

impl Tally {
    /// Nothing so far.
    pub fn new(class: Class, resolver: Resolver) -> Self {
        Self {
            counts: Counts::new(class, resolver),
            latency: histogram::empty(),
            clamped: 0,
            max_us: 0,
            first_failure: None,
            last_failure: None,
            last_unknown_host: None,
            fresh_after_max: None,
        }
    }

    /// Counts one lookup.
    pub fn record(&mut self, sample: &Sample) {
        let us = sample.took.as_micros() as u64;
        let counts = &mut self.counts;
        counts.outcomes.count(sample.outcome);
        counts.packets += u64::from(sample.packets);
        counts.sum_us += us;
        counts.by_bound[BOUNDS_US.partition_point(|bound| *bound < us)] += 1;
        if let Some(judgement) = sample.judgement {
            counts.truths.count(judgement.verdict);
            self.fresh_after_max = self.fresh_after_max.max(judgement.fresh_after);
        }
        histogram::record(&mut self.latency, us);
        self.clamped += u64::from(us > LONGEST_US);
        self.max_us = self.max_us.max(us);
        if sample.outcome.is_failure() {
            self.fail(sample);
        }
    }

    fn fail(&mut self, sample: &Sample) {
        let ended = Some(sample.due + sample.took);
        self.first_failure = earlier(self.first_failure, Some(sample.due));
        self.last_failure = self.last_failure.max(ended);
        if sample.outcome == Outcome::UnknownHost {
            self.last_unknown_host = self.last_unknown_host.max(ended);
        }
    }

    /// Adds another, of whatever kind.
    pub fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        histogram::add(&mut self.latency, &other.latency);
        self.clamped += other.clamped;
        self.max_us = self.max_us.max(other.max_us);
        self.first_failure = earlier(self.first_failure, other.first_failure);
        self.last_failure = self.last_failure.max(other.last_failure);
        self.last_unknown_host = self.last_unknown_host.max(other.last_unknown_host);
        self.fresh_after_max = self.fresh_after_max.max(other.fresh_after_max);
    }

    /// When the last failure ended.
    pub fn last_failure(&self) -> Option<Duration> {
        self.last_failure
    }

    /// As the report has it. What is known of clients is for others to add.
    pub fn group(&self) -> Group {
        let counts = &self.counts;
        let seconds = |at: Option<Duration>| at.map(|at| at.as_secs_f64());
        let mut latency = histogram::latency(&self.latency);
        latency.max = self.max_us as f64 / 1000.0;
        latency.clamped = self.clamped;
        Group {
            lookups: counts.outcomes.all(),
            outcomes: counts.outcomes,
            truth: counts.truths,
            packets: counts.packets,
            latency,
            recovery: Recovery {
                failed: counts.outcomes.failed(),
                first_failure_s: seconds(self.first_failure),
                last_failure_s: seconds(self.last_failure),
                last_unknown_host_s: seconds(self.last_unknown_host),
                fresh_after_max_s: seconds(self.fresh_after_max),
                ..Recovery::default()
            },
        }
    }
}

/// The earlier of two instants that may not be known.
fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

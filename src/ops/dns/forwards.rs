//! `coredns_forward_…` and `coredns_proxy_…`: what was asked of upstreams.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Labels, Page, Value, steps, with};
use crate::forward::Upstream;
use crate::forward::counters::{Counter, DURATION_BOUNDS_S, Durations, UpstreamCounters};
use crate::resolve::plan::Plan;
use crate::resolve::step::{Forwarding, Step};

/// Counters of a directive: name, help, and where it is.
type Whole = (&'static str, &'static str, fn(&Forwarding) -> u64);
const WHOLE: [Whole; 8] = [
    ("coredns_forward_healthcheck_broken", "Queries while every upstream was down", |it| {
        it.forward.counters.all_down.value()
    }),
    ("coredns_forward_max_concurrent_rejects", "Queries refused by max_concurrent", |it| {
        it.forward.counters.rejects.value()
    }),
    ("mainstay_forward_hedges_forgone", "Late answers for which no hedge was left", |it| {
        it.forward.counters.hedges_forgone.value()
    }),
    ("mainstay_forward_budgets_spent", "Queries that spent all tries or octets", |it| {
        it.forward.counters.budgets_spent.value()
    }),
    ("mainstay_forward_paced", "Queries failed as packets_per_second was spent", |it| {
        it.forward.counters.paced.value()
    }),
    ("mainstay_resolv_failures", "Times that a changed resolv.conf could not be used", |it| {
        it.forward.counters.resolv_failures.value()
    }),
    ("mainstay_flights_joined", "Queries that joined another's Flight", |it| {
        it.flights.joined.load(Ordering::Relaxed)
    }),
    ("mainstay_flights_refused", "Queries refused as too many Flights", |it| {
        it.flights.refused.load(Ordering::Relaxed)
    }),
];

/// Counters of an upstream: name, help, label `proto` where it has one, and where it is.
type OfUpstream = (&'static str, &'static str, &'static str, fn(&UpstreamCounters) -> &Counter);
const OF_UPSTREAM: [OfUpstream; 13] = [
    ("coredns_proxy_healthcheck_failures", "Failed probes", "", |it| &it.probe_failures),
    ("coredns_proxy_conn_cache_hits", REUSED, "tcp", |it| &it.tcp_reused),
    ("coredns_proxy_conn_cache_misses", OPENED, "tcp", |it| &it.tcp_opened),
    ("coredns_proxy_conn_cache_misses", OPENED, "udp", |it| &it.udp_opened),
    ("mainstay_upstream_failures", "Exchanges that failed", "", |it| &it.failures),
    ("mainstay_upstream_mismatched", "Datagrams that fit no question", "", |it| &it.mismatched),
    ("mainstay_forward_time_outs", "Tries without an answer in time", "", |it| &it.time_outs),
    ("mainstay_forward_late_answers", "Answers to tries given up", "", |it| &it.late_answers),
    ("mainstay_forward_outrun", "Tries that a hedge was faster than", "", |it| &it.outrun),
    ("mainstay_forward_hedges", "Questions asked here as a hedge", "", |it| &it.hedges),
    ("mainstay_forward_failovers", "Questions asked here after a failure", "", |it| &it.failovers),
    ("mainstay_forward_near_misses", "Responses with a wrong id", "", |it| &it.near_misses),
    ("mainstay_forward_packet_waits", "Times no packet was left", "", |it| &it.packet_waits),
];
const REUSED: &str = "Exchanges on a connection that was open";
const OPENED: &str = "Exchanges on a new socket or connection";

/// Numbers of an upstream that come and go.
type GaugeOf = (&'static str, &'static str, fn(&Upstream) -> f64);
const GAUGES: [GaugeOf; 3] = [
    ("mainstay_forward_rtt_seconds", "Mean time of an answer, lately", |it| {
        it.rtt().smoothed().unwrap_or_default().as_secs_f64()
    }),
    ("mainstay_forward_rtt_p95_seconds", "Time that 19 of 20 answers keep, lately", |it| {
        it.rtt().p95().unwrap_or_default().as_secs_f64()
    }),
    ("mainstay_forward_standing", "0 healthy, 1 suspect, 2 down", |it| {
        f64::from(it.health().standing() as u8)
    }),
];

/// Writes the families of all directives and their upstreams.
pub(super) fn write(page: &mut Page<'_, '_>, plan: &Plan) -> fmt::Result {
    let all = forwardings(plan);
    if all.is_empty() {
        return Ok(());
    }
    for (name, help, pick) in WHOLE {
        let total = all.iter().map(|forwarding| pick(forwarding)).sum();
        page.family(name, help, [(vec![], Value::Counter(total))])?;
    }
    let upstreams: Vec<Arc<Upstream>> =
        all.iter().flat_map(|forwarding| forwarding.forward.upstreams()).collect();
    durations(page, &upstreams)?;
    for (name, help, read) in GAUGES {
        page.family(name, help, worst(&upstreams, read))?;
    }
    for counters in OF_UPSTREAM.chunk_by(|one, other| one.0 == other.0) {
        let lines = counters.iter().flat_map(|(_, _, proto, pick)| {
            sums(&upstreams, *pick).into_iter().map(move |(to, count)| {
                let labels = labels(&to);
                let labels = if proto.is_empty() { labels } else { with(&labels, "proto", proto) };
                (labels, Value::Counter(count))
            })
        });
        page.family(counters[0].0, counters[0].1, lines)?;
    }
    Ok(())
}

/// Each directive once, though it serves several zones.
fn forwardings(plan: &Plan) -> Vec<&Forwarding> {
    let mut all: Vec<&Forwarding> = Vec::new();
    let found = steps(plan, |step| match step {
        Step::Forward(forwarding) => Some(forwarding),
        _ => None,
    });
    for (_, forwarding) in found {
        if !all.iter().any(|known| Arc::ptr_eq(&known.forward, &forwarding.forward)) {
            all.push(forwarding);
        }
    }
    all
}

/// A counter by address: one upstream may stand in several directives.
fn sums(
    upstreams: &[Arc<Upstream>],
    pick: fn(&UpstreamCounters) -> &Counter,
) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for upstream in upstreams {
        *sums.entry(upstream.address().to_string()).or_default() +=
            pick(&upstream.counters).value();
    }
    sums
}

/// A gauge by address: the highest, where one upstream stands in several directives.
fn worst(upstreams: &[Arc<Upstream>], read: fn(&Upstream) -> f64) -> Vec<(Labels, Value)> {
    let mut worst: BTreeMap<String, f64> = BTreeMap::new();
    for upstream in upstreams {
        let entry = worst.entry(upstream.address().to_string()).or_default();
        *entry = entry.max(read(upstream));
    }
    worst.into_iter().map(|(to, value)| (labels(&to), Value::Gauge(value))).collect()
}

/// Writes the time of exchanges by address and response code.
fn durations(page: &mut Page<'_, '_>, upstreams: &[Arc<Upstream>]) -> fmt::Result {
    let mut totals: BTreeMap<(String, String), Durations> = BTreeMap::new();
    for upstream in upstreams {
        for (rcode, took) in upstream.counters.durations().filter(|(_, took)| took.count > 0) {
            let key = (upstream.address().to_string(), rcode);
            add(totals.entry(key).or_insert_with(empty), &took);
        }
    }
    let lines = totals
        .into_iter()
        .map(|((to, rcode), took)| (with(&labels(&to), "rcode", &rcode), histogram(&took)));
    page.family("coredns_proxy_request_duration_seconds", "Time of an exchange", lines)
}

fn histogram(took: &Durations) -> Value {
    let mut below = 0;
    let mut counts = Vec::new();
    for cumulative in took.cumulative.into_iter().chain([took.count]) {
        counts.push(cumulative - below);
        below = cumulative;
    }
    Value::Histogram(DURATION_BOUNDS_S.to_vec(), counts, took.sum_s)
}

fn empty() -> Durations {
    Durations { cumulative: [0; DURATION_BOUNDS_S.len()], count: 0, sum_s: 0.0 }
}

fn add(total: &mut Durations, took: &Durations) {
    for (sum, count) in total.cumulative.iter_mut().zip(took.cumulative) {
        *sum += count;
    }
    total.count += took.count;
    total.sum_s += took.sum_s;
}

fn labels(to: &str) -> Labels {
    vec![("proxy_name", "forward".to_owned()), ("to", to.to_owned())]
}

//! The metrics of the packet path, under CoreDNS's names and labels (see its metrics plugin), so
//! that dashboards and alerts keep working. What CoreDNS does not have is named `mainstay_…`.
//!
//! Rooms count; here their counters are read when Prometheus asks, and written as families.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;

use crate::cluster::feed::{self, Fault, Feed};
use crate::cluster::live::Cluster;
use crate::cluster::object::Kind;
use crate::cluster::programming::{BOUNDS_MS, ServiceKind};
use crate::forward::Forward;
use crate::forward::counters::{DURATION_BOUNDS_S, Durations};
use crate::resolve::cache::Cache;
use crate::resolve::plan::{Plan, Zoned};
use crate::resolve::step::{Forwarding, Step};
use crate::resolve::tally::{
    AUTHORS, DURATION_US, FAMILIES, HistogramTotal, RCODES, SIZE_BYTES, TYPES, Totals,
};
use crate::wire::Rcode;

/// What is shown: the Plan that answers and its clusters.
#[derive(Default)]
pub struct Scene {
    pub plan: Option<Arc<Plan>>,
    pub clusters: Vec<Arc<Cluster>>,
}

/// A counter of a room that this one does not know.
pub struct Reading {
    /// Without `_total`.
    pub name: &'static str,
    pub help: &'static str,
    pub read: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// Reads the counters of all rooms.
pub struct DnsCollector {
    pub scene: Arc<ArcSwap<Scene>>,
    pub readings: Vec<Reading>,
}

type Labels = Vec<(&'static str, String)>;

/// The value of one line.
enum Value {
    Counter(u64),
    Gauge(f64),
    /// Upper bounds, counts that are not cumulative (the last one without bound), and the sum.
    Histogram(Vec<f64>, Vec<u64>, f64),
}

impl Collector for DnsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let scene = self.scene.load();
        let page = &mut Page { encoder: &mut encoder };
        if let Some(plan) = &scene.plan {
            queries(page, plan)?;
            caches(page, plan)?;
            forwards(page, plan)?;
        }
        clusters(page, &scene.clusters)?;
        for reading in &self.readings {
            page.family(reading.name, reading.help, [(vec![], Value::Counter((reading.read)()))])?;
        }
        Ok(())
    }
}

impl fmt::Debug for DnsCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DnsCollector")
    }
}

/// The page being written.
struct Page<'p, 'e> {
    encoder: &'p mut DescriptorEncoder<'e>,
}

impl Page<'_, '_> {
    /// Writes one family; its type is that of its first line, and without a line it is left out.
    fn family(
        &mut self,
        name: &str,
        help: &str,
        lines: impl IntoIterator<Item = (Labels, Value)>,
    ) -> fmt::Result {
        let mut lines = lines.into_iter().peekable();
        let kind = match lines.peek() {
            Some((_, Value::Counter(_))) => MetricType::Counter,
            Some((_, Value::Gauge(_))) => MetricType::Gauge,
            Some((_, Value::Histogram(..))) => MetricType::Histogram,
            None => return Ok(()),
        };
        let mut family = self.encoder.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in lines {
            let labels = labels.as_slice();
            let mut line = family.encode_family(&labels)?;
            match value {
                Value::Counter(count) => {
                    line.encode_counter(&count, None::<&Exemplar<NoLabelSet, u64>>)?;
                }
                Value::Gauge(value) => line.encode_gauge(&value)?,
                Value::Histogram(bounds, counts, sum) => {
                    let bounds = bounds.into_iter().chain([f64::INFINITY]);
                    let buckets: Vec<_> = bounds.zip(counts).collect();
                    let count = buckets.iter().map(|(_, count)| count).sum();
                    line.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
                }
            }
        }
        Ok(())
    }
}

/// `coredns_dns_…`: one tally per zone and listen port.
fn queries(page: &mut Page<'_, '_>, plan: &Plan) -> fmt::Result {
    let published = plan.zones().filter(|zoned| zoned.block.is_published);
    let mut tallies: Vec<_> = published.map(|zoned| &zoned.tally).collect();
    if !tallies.is_empty() {
        tallies.extend(plan.ports.iter().map(|port| &port.unserved));
    }
    let all: Vec<(Labels, Totals)> = tallies
        .into_iter()
        .map(|tally| (server_labels(&tally.server, &tally.zone), tally.totals()))
        .collect();
    let lines = || all.iter().flat_map(|(labels, totals)| requests(labels, totals));
    page.family("coredns_dns_requests", "Queries received", lines())?;
    let lines = || all.iter().flat_map(|(labels, totals)| responses(labels, totals));
    page.family("coredns_dns_responses", "Replies sent", lines())?;
    let lines =
        all.iter().map(|(labels, totals)| (labels.clone(), Value::Counter(totals.dnssec_ok)));
    page.family("coredns_dns_do_requests", "Queries with the DO bit", lines)?;
    let lines = all.iter().map(|(labels, totals)| {
        let bounds = DURATION_US.map(|us| us as f64 / 1e6).to_vec();
        (labels.clone(), histogram(bounds, &totals.duration_us, 1e6))
    });
    page.family("coredns_dns_request_duration_seconds", "Time to a reply", lines)?;
    let sizes = |pick: fn(&Totals) -> &[HistogramTotal; 2]| {
        all.iter().flat_map(move |(labels, totals)| {
            PROTOS.iter().zip(pick(totals)).map(move |(proto, total)| {
                let bounds = SIZE_BYTES.map(|bytes| bytes as f64).to_vec();
                (with(labels, "proto", proto), histogram(bounds, total, 1.0))
            })
        })
    };
    let lines = sizes(|totals| &totals.request_bytes);
    page.family("coredns_dns_request_size_bytes", "Size of queries, in octets", lines)?;
    let lines = sizes(|totals| &totals.reply_bytes);
    page.family("coredns_dns_response_size_bytes", "Size of replies, in octets", lines)
}

/// The values of label `proto`, in the order of `tally::Proto`.
const PROTOS: [&str; 2] = ["udp", "tcp"];

fn requests(labels: &Labels, totals: &Totals) -> Vec<(Labels, Value)> {
    let mut lines = Vec::new();
    for (proto, families) in PROTOS.iter().zip(&totals.requests) {
        for (family, types) in FAMILIES.iter().zip(families) {
            for (number, &count) in types.iter().enumerate().filter(|(_, count)| **count > 0) {
                let rtype = TYPES.get(number).map_or("other".to_owned(), ToString::to_string);
                let labels = with(&with(labels, "proto", proto), "family", family);
                lines.push((with(&labels, "type", &rtype), Value::Counter(count)));
            }
        }
    }
    lines
}

fn responses(labels: &Labels, totals: &Totals) -> Vec<(Labels, Value)> {
    let mut lines = Vec::new();
    for (number, authors) in totals.responses.iter().enumerate() {
        let rcode = if number == RCODES - 1 { Rcode::BADVERS } else { Rcode(number as u16) };
        for (author, &count) in AUTHORS.iter().zip(authors).filter(|(_, count)| **count > 0) {
            let labels = with(&with(labels, "rcode", &rcode.to_string()), "plugin", author);
            lines.push((labels, Value::Counter(count)));
        }
    }
    lines
}

/// `coredns_cache_…`.
fn caches(page: &mut Page<'_, '_>, plan: &Plan) -> fmt::Result {
    let mut all: Vec<(Labels, &Arc<Cache>)> = Vec::new();
    for (zoned, cache) in steps(plan, |step| match step {
        Step::Cache(cache) => Some(cache),
        _ => None,
    }) {
        if !all.iter().any(|(_, known)| Arc::ptr_eq(known, cache)) {
            let zones: Vec<String> = cache.zones.iter().map(ToString::to_string).collect();
            all.push((cache_labels(&zoned.tally.server, &zones.join(",")), cache));
        }
    }
    let by_type = |pick: fn(&Cache) -> [u64; 2]| {
        all.iter().flat_map(move |(labels, cache)| {
            ["success", "denial"]
                .into_iter()
                .zip(pick(cache))
                .map(move |(kind, count)| (with(labels, "type", kind), count))
        })
    };
    let entries = by_type(|cache| cache.entry_counts());
    let entries = entries.map(|(labels, count)| (labels, Value::Gauge(count as f64)));
    page.family("coredns_cache_entries", "Entries in the cache", entries)?;
    let hits = by_type(|cache| {
        [&cache.counters.hits_success, &cache.counters.hits_denial]
            .map(|counter| counter.load(Ordering::Relaxed))
    });
    let hits = hits.map(|(labels, count)| (labels, Value::Counter(count)));
    page.family("coredns_cache_hits", "Queries answered from the cache", hits)?;
    let evictions = by_type(|cache| {
        [&cache.counters.evictions_success, &cache.counters.evictions_denial]
            .map(|counter| counter.load(Ordering::Relaxed))
    });
    let evictions = evictions.map(|(labels, count)| (labels, Value::Counter(count)));
    page.family("coredns_cache_evictions", "Entries evicted for want of room", evictions)?;
    let counted = |pick: fn(&Cache) -> u64| {
        all.iter().map(move |(labels, cache)| (labels.clone(), Value::Counter(pick(cache))))
    };
    page.family("coredns_cache_requests", "Queries to the cache", counted(requests_of))?;
    page.family(
        "coredns_cache_misses",
        "Queries that the cache could not answer",
        counted(|cache| cache.counters.misses.load(Ordering::Relaxed)),
    )?;
    page.family(
        "coredns_cache_prefetch",
        "Entries refreshed before they expired",
        counted(|cache| cache.counters.prefetches.load(Ordering::Relaxed)),
    )?;
    page.family(
        "coredns_cache_drops",
        "Answers not kept",
        counted(|cache| cache.counters.drops.load(Ordering::Relaxed)),
    )?;
    page.family(
        "coredns_cache_served_stale",
        "Queries answered from an expired Entry",
        counted(|cache| cache.counters.served_stale.load(Ordering::Relaxed)),
    )
}

fn requests_of(cache: &Cache) -> u64 {
    let counters = &cache.counters;
    [&counters.hits_success, &counters.hits_denial, &counters.misses]
        .iter()
        .map(|counter| counter.load(Ordering::Relaxed))
        .sum()
}

/// `coredns_forward_…` and `coredns_proxy_…`.
fn forwards(page: &mut Page<'_, '_>, plan: &Plan) -> fmt::Result {
    let mut all: Vec<&Forwarding> = Vec::new();
    for (_, forwarding) in steps(plan, |step| match step {
        Step::Forward(forwarding) => Some(forwarding),
        _ => None,
    }) {
        if !all.iter().any(|known| Arc::ptr_eq(&known.forward, &forwarding.forward)) {
            all.push(forwarding);
        }
    }
    if all.is_empty() {
        return Ok(());
    }
    let sum = |pick: fn(&Forward) -> u64| {
        let total = all.iter().map(|forwarding| pick(&forwarding.forward)).sum();
        [(vec![], Value::Counter(total))]
    };
    page.family(
        "coredns_forward_healthcheck_broken",
        "Queries while every upstream was down",
        sum(|forward| forward.counters.all_down.value()),
    )?;
    page.family(
        "coredns_forward_max_concurrent_rejects",
        "Queries refused by max_concurrent",
        sum(|forward| forward.counters.rejects.value()),
    )?;
    page.family(
        "mainstay_resolv_failures",
        "Times that a changed resolv.conf could not be used",
        sum(|forward| forward.counters.resolv_failures.value()),
    )?;
    let joined = all.iter().map(|forwarding| forwarding.flights.joined.load(Ordering::Relaxed));
    let joined = [(vec![], Value::Counter(joined.sum()))];
    page.family("mainstay_flights_joined", "Queries that joined another's Flight", joined)?;
    let refused = all.iter().map(|forwarding| forwarding.flights.refused.load(Ordering::Relaxed));
    let refused = [(vec![], Value::Counter(refused.sum()))];
    page.family("mainstay_flights_refused", "Queries refused as too many Flights", refused)?;
    upstreams(page, &all)
}

fn upstreams(page: &mut Page<'_, '_>, all: &[&Forwarding]) -> fmt::Result {
    // One upstream may stand in several directives; its lines are summed by address.
    let mut durations: BTreeMap<(String, String), Durations> = BTreeMap::new();
    let mut counts: BTreeMap<(&'static str, String, &'static str), u64> = BTreeMap::new();
    for upstream in all.iter().flat_map(|forwarding| forwarding.forward.upstreams()) {
        let to = upstream.address().to_string();
        let counters = &upstream.counters;
        for (rcode, took) in counters.durations().filter(|(_, took)| took.count > 0) {
            add(durations.entry((to.clone(), rcode)).or_insert_with(empty), &took);
        }
        for (name, proto, counter) in [
            (HEALTHCHECKS, "", &counters.probe_failures),
            (CONN_HITS, "tcp", &counters.tcp_reused),
            (CONN_MISSES, "tcp", &counters.tcp_opened),
            (CONN_MISSES, "udp", &counters.udp_opened),
            (FAILURES, "", &counters.failures),
            (MISMATCHED, "", &counters.mismatched),
        ] {
            *counts.entry((name, to.clone(), proto)).or_default() += counter.value();
        }
    }
    let lines = durations.into_iter().map(|((to, rcode), took)| {
        let labels = with(&proxy_labels(&to), "rcode", &rcode);
        let mut counts = Vec::new();
        let mut below = 0;
        for cumulative in took.cumulative.into_iter().chain([took.count]) {
            counts.push(cumulative - below);
            below = cumulative;
        }
        (labels, Value::Histogram(DURATION_BOUNDS_S.to_vec(), counts, took.sum_s))
    });
    page.family("coredns_proxy_request_duration_seconds", "Time of an exchange", lines)?;
    for (name, help) in [
        (HEALTHCHECKS, "Failed probes"),
        (CONN_HITS, "Exchanges on a connection that was open"),
        (CONN_MISSES, "Exchanges on a new socket or connection"),
        (FAILURES, "Exchanges that failed"),
        (MISMATCHED, "Datagrams that did not fit their question"),
    ] {
        let lines = counts.iter().filter(|((other, ..), _)| *other == name);
        let lines = lines.map(|((_, to, proto), &count)| {
            let labels = proxy_labels(to);
            let labels = if proto.is_empty() { labels } else { with(&labels, "proto", proto) };
            (labels, Value::Counter(count))
        });
        page.family(name, help, lines)?;
    }
    Ok(())
}

const HEALTHCHECKS: &str = "coredns_proxy_healthcheck_failures";
const CONN_HITS: &str = "coredns_proxy_conn_cache_hits";
const CONN_MISSES: &str = "coredns_proxy_conn_cache_misses";
const FAILURES: &str = "mainstay_upstream_failures";
const MISMATCHED: &str = "mainstay_upstream_mismatched";

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

/// `coredns_kubernetes_…`, and how fresh each picture is.
fn clusters(page: &mut Page<'_, '_>, clusters: &[Arc<Cluster>]) -> fmt::Result {
    let zone = |cluster: &Cluster| vec![("zone", cluster.config.zones[0].to_string())];
    let gauges = |pick: fn(&Cluster) -> f64| {
        clusters.iter().map(move |cluster| (zone(cluster), Value::Gauge(pick(cluster))))
    };
    let generation = gauges(|cluster| cluster.published.zone().generation as f64);
    page.family("mainstay_cluster_generation", "Zones published", generation)?;
    let services = gauges(|cluster| cluster.published.zone().service_count() as f64);
    page.family("mainstay_cluster_services", "Services with a name", services)?;
    feeds(page, clusters)?;
    let Some(cluster) = clusters.first() else { return Ok(()) };
    let programming = ServiceKind::ALL.into_iter().map(|kind| {
        let latencies = cluster.programming.kind(kind);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = latencies.buckets.iter().map(load).collect();
        let bounds = BOUNDS_MS.map(|ms| ms as f64 / 1e3).to_vec();
        let labels = vec![("service_kind", kind.label().to_owned())];
        (labels, Value::Histogram(bounds, counts, load(&latencies.sum_ms) as f64 / 1e3))
    });
    let name = "coredns_kubernetes_dns_programming_duration_seconds";
    page.family(name, "Time from a change to its answer", programming)?;
    rest_client(page, &cluster.feed)
}

fn feeds(page: &mut Page<'_, '_>, clusters: &[Arc<Cluster>]) -> fmt::Result {
    let all = || {
        clusters.iter().flat_map(|cluster| {
            Kind::ALL.into_iter().map(move |kind| {
                let zone = cluster.config.zones[0].to_string();
                let labels = vec![("zone", zone), ("kind", kind.resource().to_owned())];
                (labels, cluster.feed.kind(kind), cluster.feed.heard_at(kind))
            })
        })
    };
    let ages = all().filter_map(|(labels, _, heard)| {
        Some((labels, Value::Gauge(heard?.elapsed().as_secs_f64())))
    });
    page.family("mainstay_cluster_age_seconds", "Since the source was heard last", ages)?;
    let synced = all().map(|(labels, feed, _)| (labels, Value::Gauge(feed.is_synced().into())));
    page.family("mainstay_cluster_synced", "Whether a full list arrived", synced)?;
    let relists = all().map(|(labels, feed, _)| (labels, Value::Counter(feed.relists.value())));
    page.family("mainstay_cluster_relists", "Full lists", relists)?;
    let restarts = all().map(|(labels, feed, _)| (labels, Value::Counter(feed.restarts.value())));
    page.family("mainstay_cluster_watch_restarts", "Watches opened again", restarts)?;
    let skipped = all().map(|(labels, feed, _)| (labels, Value::Counter(feed.skipped.value())));
    page.family("mainstay_cluster_objects_skipped", "Objects that made no sense", skipped)?;
    let dropped =
        all().map(|(labels, feed, _)| (labels, Value::Counter(feed.dropped_addresses.value())));
    page.family("mainstay_cluster_addresses_dropped", "Addresses left out", dropped)?;
    let errors = all().flat_map(|(labels, feed, _)| {
        Fault::ALL.into_iter().map(move |fault| {
            (with(&labels, "fault", fault.label()), Value::Counter(feed.errors(fault)))
        })
    });
    page.family("mainstay_cluster_errors", "What went wrong with the source", errors)
}

fn rest_client(page: &mut Page<'_, '_>, feed: &Feed) -> fmt::Result {
    let host = ("host", feed.requests.host().to_owned());
    let requests = feed.requests.by_code().into_iter().map(|(code, count)| {
        let code = if code == 0 { "<error>".to_owned() } else { code.to_string() };
        let method = ("method", feed::METHOD.to_owned());
        (vec![("code", code), host.clone(), method], Value::Counter(count))
    });
    let name = "coredns_kubernetes_rest_client_requests";
    page.family(name, "Requests to the API server", requests)?;
    let (count, sum) = feed.requests.total();
    if count == 0 {
        return Ok(());
    }
    let labels = vec![host.clone(), ("verb", feed::METHOD.to_owned())];
    let counts = feed.requests.buckets().to_vec();
    let over = count - counts.iter().sum::<u64>().min(count);
    let counts = counts.into_iter().chain([over]).collect();
    let value = Value::Histogram(feed::BUCKETS_S.to_vec(), counts, sum.as_secs_f64());
    let name = "coredns_kubernetes_rest_client_request_duration_seconds";
    page.family(name, "Time to the headers of the API server", [(labels, value)])
}

/// The Steps of one kind, with the zone that each stands in.
fn steps<'p, T: 'p>(
    plan: &'p Plan,
    pick: impl Fn(&'p Step) -> Option<&'p T> + Copy,
) -> impl Iterator<Item = (&'p Zoned, &'p T)> {
    let published = plan.zones().filter(|zoned| zoned.block.is_published);
    published.flat_map(move |zoned| {
        zoned.block.steps.iter().filter_map(pick).map(move |step| (zoned, step))
    })
}

fn histogram(bounds: Vec<f64>, total: &HistogramTotal, divisor: f64) -> Value {
    Value::Histogram(bounds, total.buckets.clone(), total.sum as f64 / divisor)
}

fn server_labels(server: &str, zone: &str) -> Labels {
    vec![("server", server.to_owned()), ("zone", zone.to_owned()), ("view", String::new())]
}

fn cache_labels(server: &str, zones: &str) -> Labels {
    vec![("server", server.to_owned()), ("zones", zones.to_owned()), ("view", String::new())]
}

fn proxy_labels(to: &str) -> Labels {
    vec![("proxy_name", "forward".to_owned()), ("to", to.to_owned())]
}

fn with(labels: &Labels, name: &'static str, value: &str) -> Labels {
    let mut labels = labels.clone();
    labels.push((name, value.to_owned()));
    labels
}

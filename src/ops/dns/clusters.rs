//! `coredns_kubernetes_…`, and how fresh the picture of each cluster is. Label `cluster` counts the
//! clusters of the Corefile from 0; almost everybody has one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Labels, Page, Value, with};
use crate::cluster::feed::{self, Count, Durations, Fault, Feed, KindFeed};
use crate::cluster::live::Cluster;
use crate::cluster::programming::{BOUNDS_MS, Programming, ServiceKind};
use crate::cluster::snapshot::Counters;

/// Counters of a feed: name, help, and where it is.
type OfFeed = (&'static str, &'static str, fn(&KindFeed) -> &Count);
const OF_FEED: [OfFeed; 8] = [
    ("mainstay_cluster_relists", "Full lists", |feed| &feed.relists),
    ("mainstay_cluster_watch_restarts", "Watches opened again", |feed| &feed.restarts),
    ("mainstay_cluster_objects_skipped", "Objects that made no sense", |feed| &feed.skipped),
    ("mainstay_cluster_objects_foreign", "Objects that no name needs", |feed| &feed.foreign),
    ("mainstay_cluster_addresses_dropped", "Addresses left out", |feed| &feed.dropped_addresses),
    ("mainstay_cluster_repairs", "Changes that no watch had told", |feed| &feed.repairs),
    ("mainstay_cluster_outdated", "Lists and objects older than ours", |feed| &feed.outdated),
    ("mainstay_cluster_held", "Services that kept their last endpoint", |feed| &feed.held),
];

/// Writes the families of all clusters.
pub(super) fn write(page: &mut Page<'_, '_>, clusters: &[Arc<Cluster>]) -> fmt::Result {
    let gauges = |pick: fn(&Cluster) -> f64| {
        let line = move |(number, cluster): (usize, &Arc<Cluster>)| {
            (vec![("cluster", number.to_string())], Value::Gauge(pick(cluster)))
        };
        clusters.iter().enumerate().map(line)
    };
    let generation = gauges(|cluster| cluster.published.zone().generation as f64);
    page.family("mainstay_cluster_generation", "Zones published", generation)?;
    let services = gauges(|cluster| cluster.published.zone().service_count() as f64);
    page.family("mainstay_cluster_services", "Services with a name", services)?;
    let stale = gauges(|cluster| f64::from(u8::from(cluster.published.is_any_stale())));
    page.family("mainstay_cluster_stale", "Whether answers are marked as old", stale)?;
    feeds(page, clusters)?;
    snapshots(page, clusters)?;
    // CoreDNS has no label for the cluster here; more than one is rare and the first is ours.
    let Some(cluster) = clusters.first() else { return Ok(()) };
    programming(page, &cluster.programming)?;
    rest_client(page, &cluster.feed)
}

fn feeds(page: &mut Page<'_, '_>, clusters: &[Arc<Cluster>]) -> fmt::Result {
    let all = || {
        clusters.iter().enumerate().flat_map(|(number, cluster)| {
            cluster.feed.watched().iter().map(move |&kind| {
                let kind_label = ("kind", kind.resource().to_owned());
                (vec![("cluster", number.to_string()), kind_label], cluster, kind)
            })
        })
    };
    let ages = all().filter_map(|(labels, cluster, kind)| {
        let heard = cluster.feed.heard_at(kind)?;
        Some((labels, Value::Gauge(heard.elapsed().as_secs_f64())))
    });
    page.family("mainstay_cluster_age_seconds", "Since the source was heard last", ages)?;
    let synced = all().map(|(labels, cluster, kind)| {
        (labels, Value::Gauge(cluster.feed.kind(kind).is_synced().into()))
    });
    page.family("mainstay_cluster_synced", "Whether a full list arrived", synced)?;
    for (name, help, pick) in OF_FEED {
        let lines = all().map(|(labels, cluster, kind)| {
            (labels, Value::Counter(pick(cluster.feed.kind(kind)).value()))
        });
        page.family(name, help, lines)?;
    }
    let errors = all().flat_map(|(labels, cluster, kind)| faults(labels, cluster.feed.kind(kind)));
    page.family("mainstay_cluster_errors", "What went wrong with the source", errors)
}

/// Counters of Snapshots: name, help, and where it is.
type OfSnapshot = (&'static str, &'static str, fn(&Counters) -> &AtomicU64);
const OF_SNAPSHOT: [OfSnapshot; 2] = [
    ("mainstay_snapshot_written", "Snapshots written", |counters| &counters.written),
    ("mainstay_snapshot_failures", "Snapshots that could not be written", |it| &it.failures),
];

fn snapshots(page: &mut Page<'_, '_>, clusters: &[Arc<Cluster>]) -> fmt::Result {
    let all = || {
        clusters.iter().enumerate().map(|(number, cluster)| {
            (vec![("cluster", number.to_string())], &cluster.keeping.counters)
        })
    };
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    for (name, help, pick) in OF_SNAPSHOT {
        let lines = all().map(|(labels, it)| (labels, Value::Counter(load(pick(it)))));
        page.family(name, help, lines)?;
    }
    let rejected = all().flat_map(|(labels, it)| {
        it.rejected()
            .map(move |(reason, count)| (with(&labels, "reason", reason), Value::Counter(count)))
    });
    page.family("mainstay_snapshot_rejected", "Snapshots not used at the start", rejected)?;
    let restored =
        all().map(|(labels, it)| (labels, Value::Gauge(load(&it.restored_objects) as f64)));
    page.family("mainstay_snapshot_restored_objects", "Objects known at the start", restored)?;
    let octets = all().map(|(labels, it)| (labels, Value::Gauge(load(&it.octets) as f64)));
    page.family("mainstay_snapshot_bytes", "Size of the Snapshot on the disk", octets)?;
    let ages =
        all().filter_map(|(labels, it)| Some((labels, Value::Gauge(it.age()?.as_secs_f64()))));
    page.family("mainstay_snapshot_age_seconds", "Age of what the Snapshot on the disk says", ages)
}

fn faults(labels: Labels, feed: &KindFeed) -> impl Iterator<Item = (Labels, Value)> {
    Fault::ALL.into_iter().map(move |fault| {
        (with(&labels, "fault", fault.label()), Value::Counter(feed.errors(fault)))
    })
}

fn programming(page: &mut Page<'_, '_>, programming: &Programming) -> fmt::Result {
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let lines = ServiceKind::ALL.into_iter().map(|kind| {
        let latencies = programming.kind(kind);
        let counts = latencies.buckets.iter().map(load).collect();
        let bounds = BOUNDS_MS.map(|ms| ms as f64 / 1e3).to_vec();
        let labels = vec![("service_kind", kind.label().to_owned())];
        (labels, Value::Histogram(bounds, counts, load(&latencies.sum_ms) as f64 / 1e3))
    });
    let name = "coredns_kubernetes_dns_programming_duration_seconds";
    page.family(name, "Time from a change to its answer", lines)
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
    let answers = "coredns_kubernetes_rest_client_request_duration_seconds";
    durations(
        page,
        answers,
        "Time to the headers of the API server",
        feed,
        &feed.requests.answers,
    )?;
    let waits = "coredns_kubernetes_rest_client_rate_limiter_duration_seconds";
    durations(
        page,
        waits,
        "Time for which our rate limit held requests up",
        feed,
        &feed.requests.waits,
    )
}

/// Writes how long requests took, if there were any.
fn durations(
    page: &mut Page<'_, '_>,
    name: &str,
    help: &str,
    feed: &Feed,
    durations: &Durations,
) -> fmt::Result {
    let (count, sum) = durations.total();
    if count == 0 {
        return Ok(());
    }
    let host = ("host", feed.requests.host().to_owned());
    let labels = vec![host, ("verb", feed::METHOD.to_owned())];
    let counts = durations.buckets().to_vec();
    let over = count - counts.iter().sum::<u64>().min(count);
    let counts = counts.into_iter().chain([over]).collect();
    let value = Value::Histogram(feed::BUCKETS_S.to_vec(), counts, sum.as_secs_f64());
    page.family(name, help, [(labels, value)])
}

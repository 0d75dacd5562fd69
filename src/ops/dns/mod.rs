//! The metrics of the packet path, under CoreDNS's names and labels (see its metrics plugin), so
//! that dashboards and alerts keep working. What CoreDNS does not have is named `mainstay_…`.
//!
//! Rooms count; here their counters are read when Prometheus asks, and written as families.

mod caches;
mod clusters;
mod forwards;
mod queries;
mod transfers;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;

use crate::cluster::live::Cluster;
use crate::resolve::plan::{Plan, Zoned};
use crate::resolve::step::Step;
use crate::resolve::transfer::Shared;

/// What is shown: the Plan that answers and its clusters.
#[derive(Default)]
pub struct Scene {
    pub plan: Option<Arc<Plan>>,
    pub clusters: Vec<Arc<Cluster>>,
    /// What all transfers share, where a directive lets any.
    pub transfers: Option<Arc<Shared>>,
}

/// A metric of a room that this one does not know.
pub struct Reading {
    /// Without `_total`.
    pub name: &'static str,
    pub help: &'static str,
    pub read: Box<dyn Fn() -> Vec<Line> + Send + Sync>,
}

/// One line of a metric.
pub type Line = (Labels, Value);

/// Reads the counters of all rooms.
pub struct DnsCollector {
    pub scene: Arc<ArcSwap<Scene>>,
    pub readings: Vec<Reading>,
}

/// The labels of a line.
pub type Labels = Vec<(&'static str, String)>;

/// The value of one line.
pub enum Value {
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
            queries::write(page, plan)?;
            caches::write(page, plan)?;
            forwards::write(page, plan)?;
        }
        clusters::write(page, &scene.clusters)?;
        if let Some(shared) = &scene.transfers {
            transfers::write(page, shared)?;
        }
        for reading in &self.readings {
            page.family(reading.name, reading.help, (reading.read)())?;
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

fn with(labels: &Labels, name: &'static str, value: &str) -> Labels {
    let mut labels = labels.clone();
    labels.push((name, value.to_owned()));
    labels
}

//! What no other room counts: the numbers of the process as a whole, and what is running.
//!
//! Clones share the numbers. The names are CoreDNS's, so that its dashboards and alerts keep
//! working; what CoreDNS does not have is named `mainstay_…`. A counter is registered without
//! `_total`, which the encoder adds.

use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Shared counters.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Panics that were caught, in any room.
    pub panics: Counter,
    /// Reloads that kept the old Plan because the new Corefile was refused.
    pub reload_failed: Counter,
    /// 1 while the last Corefile that was right is served, for the one on disk is not.
    pub last_good_in_use: Gauge,
    /// Lines that the log lost because standard output was slow or closed.
    pub log_lines_lost: Counter,
    pub(super) health_seconds: Histogram,
    pub(super) health_failures: Counter,
    pub(super) http_crowded_out: Counter,
    pub(super) http_timeouts: Counter,
    pub(super) http_accept_errors: Counter,
    running: Arc<ArcSwap<RunningPlan>>,
    restarts: Arc<ArcSwap<Vec<Restarts>>>,
}

/// A reason, and how often a supervisor started a server anew for it.
pub type Restarts = (&'static str, u64);

/// The Plan that answers, as `/metrics` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RunningPlan {
    /// SHA-512 of the Corefile, in hex; empty before the first.
    pub sha512: String,
    pub plugins: Vec<PluginEnabled>,
}

/// One directive of one block, with the labels of CoreDNS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PluginEnabled {
    /// Where the block listens: `dns://:53`.
    pub server: String,
    pub zone: String,
    /// Empty without a `view`.
    pub view: String,
    /// The directive.
    pub name: String,
}

impl Default for Counters {
    fn default() -> Self {
        // As CoreDNS plugin.SlimTimeBuckets: 0.25 ms, 2.5 ms, …, 2.5 s.
        let slim_time_buckets = exponential_buckets(0.00025, 10.0, 5);
        Self {
            panics: Counter::default(),
            reload_failed: Counter::default(),
            last_good_in_use: Gauge::default(),
            log_lines_lost: Counter::default(),
            health_seconds: Histogram::new(slim_time_buckets),
            health_failures: Counter::default(),
            http_crowded_out: Counter::default(),
            http_timeouts: Counter::default(),
            http_accept_errors: Counter::default(),
            running: Arc::default(),
            restarts: Arc::default(),
        }
    }
}

impl Counters {
    /// Counts and tells every panic of the process, with its place. Who catches it goes on.
    pub fn watch_panics(&self) {
        let panics = self.panics.clone();
        std::panic::set_hook(Box::new(move |panic| {
            panics.inc();
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(plugin = "errors", "panic at {place}; please report it");
        }));
    }

    /// Says how often a supervisor has started a server before this one.
    pub fn tell_restarts(&self, restarts: Vec<Restarts>) {
        self.restarts.store(Arc::new(restarts));
    }

    /// Says which Plan answers from here on.
    pub fn publish(&self, plan: RunningPlan) {
        self.running.store(Arc::new(plan));
    }

    /// Adds all to `registry`.
    pub(super) fn register(&self, registry: &mut Registry) {
        for (name, text, counter) in [
            ("coredns_panics", "Panics that were caught", &self.panics),
            ("coredns_reload_failed", "Reloads that failed", &self.reload_failed),
            ("coredns_health_request_failures", "Failed health requests", &self.health_failures),
            ("mainstay_log_lines_lost", "Log lines that were not written", &self.log_lines_lost),
            (
                "mainstay_http_crowded_out",
                "Connections closed to make room",
                &self.http_crowded_out,
            ),
            ("mainstay_http_timeouts", "Connections out of time", &self.http_timeouts),
            ("mainstay_http_accept_errors", "Failed accepts", &self.http_accept_errors),
        ] {
            registry.register(name, text, counter.clone());
        }
        let text = "Time that a request of our own to /health took, in seconds";
        registry.register(
            "coredns_health_request_duration_seconds",
            text,
            self.health_seconds.clone(),
        );
        let text = "Whether the last Corefile that was right is served instead of the one on disk";
        registry.register("mainstay_config_last_good_in_use", text, self.last_good_in_use.clone());
        registry.register_collector(Box::new(Running(Arc::clone(&self.running))));
        registry.register_collector(Box::new(Restarted(Arc::clone(&self.restarts))));
    }
}

/// Publishes what a supervisor has told; nothing without one.
#[derive(Debug)]
struct Restarted(Arc<ArcSwap<Vec<Restarts>>>);

impl Collector for Restarted {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let restarts = self.0.load();
        if restarts.is_empty() {
            return Ok(());
        }
        let text = "Servers that the supervisor started anew, by why the last one ended";
        let mut metric =
            encoder.encode_descriptor("mainstay_restarts", text, None, MetricType::Counter)?;
        for (reason, count) in restarts.iter() {
            let labels = [("reason", *reason)];
            metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        Ok(())
    }
}

/// Publishes the RunningPlan whole: a scrape sees one Plan, never half of two.
#[derive(Debug)]
struct Running(Arc<ArcSwap<RunningPlan>>);

impl Collector for Running {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let plan = self.0.load();
        if !plan.sha512.is_empty() {
            let labels = [("hash", "sha512"), ("value", plan.sha512.as_str())];
            let text = "The Corefile that is running";
            let name = "coredns_reload_version_info";
            present(&mut encoder, name, text, std::iter::once(labels))?;
        }
        let text = "Whether a plugin is enabled for a server, zone and view";
        let plugins = plan.plugins.iter().map(PluginEnabled::labels);
        present(&mut encoder, "coredns_plugin_enabled", text, plugins)
    }
}

impl PluginEnabled {
    /// The labels, in CoreDNS's order.
    fn labels(&self) -> [(&str, &str); 4] {
        [("server", &self.server), ("zone", &self.zone), ("view", &self.view), ("name", &self.name)]
    }
}

/// Writes one gauge of value 1 per set of labels.
pub(super) fn present<'a, const N: usize>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    text: &str,
    labels: impl Iterator<Item = [(&'a str, &'a str); N]>,
) -> Result<(), std::fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, text, None, MetricType::Gauge)?;
    for set in labels {
        metric.encode_family(&set)?.encode_gauge(&1_i64)?;
    }
    Ok(())
}

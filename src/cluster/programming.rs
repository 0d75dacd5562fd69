//! From a change in the cluster to its answer:
//! `coredns_kubernetes_dns_programming_duration_seconds`.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds, in ms: 2ⁿ (as CoreDNS: 0.001·2ⁿ s).
pub const BOUNDS_MS: [u64; 20] = {
    let mut bounds = [1; 20];
    let mut n = 1;
    while n < bounds.len() {
        bounds[n] = bounds[n - 1] * 2;
        n += 1;
    }
    bounds
};

/// The label `service_kind`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum ServiceKind {
    ClusterIp,
    HeadlessWithSelector,
    HeadlessWithoutSelector,
}

impl ServiceKind {
    /// All kinds.
    pub const ALL: [Self; 3] =
        [Self::ClusterIp, Self::HeadlessWithSelector, Self::HeadlessWithoutSelector];

    /// The value of the label.
    pub fn label(self) -> &'static str {
        match self {
            Self::ClusterIp => "cluster_ip",
            Self::HeadlessWithSelector => "headless_with_selector",
            Self::HeadlessWithoutSelector => "headless_without_selector",
        }
    }
}

/// One histogram per kind of Service.
#[derive(Default)]
pub struct Programming([Latencies; 3]);

/// A histogram of latencies.
#[derive(Default)]
pub struct Latencies {
    /// Not cumulative; the last is without bound.
    pub buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    pub sum_ms: AtomicU64,
}

impl Programming {
    /// Counts one change.
    pub fn record(&self, kind: ServiceKind, took_ms: u64) {
        let latencies = self.kind(kind);
        let bucket = BOUNDS_MS.iter().position(|&bound| took_ms <= bound);
        let bucket = bucket.unwrap_or(BOUNDS_MS.len());
        latencies.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        latencies.sum_ms.fetch_add(took_ms, Ordering::Relaxed);
    }

    /// The histogram of a kind.
    pub fn kind(&self, kind: ServiceKind) -> &Latencies {
        &self.0[kind as usize]
    }
}

//! Carries packets that have to wait from the workers to the runtime, and their replies back.
//!
//! Two lanes, each bounded: names of the cluster keep places of their own, so that slow upstreams
//! cannot starve them. A packet without a place is dropped and counted; its client asks again,
//! which is kinder than a quick failure that Java keeps for ten seconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::resolve::later::{Done, Errand};
use crate::resolve::now::Lane;

/// Errands that may wait for upstreams at once.
pub const UPSTREAM_MAX: usize = 8192;
/// Errands that may wait for the cluster at once.
pub const CLUSTER_MAX: usize = 4096;

/// How often the end looks whether all errands have ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// The places for errands.
pub struct Errands {
    runtime: Handle,
    upstream: Arc<Semaphore>,
    cluster: Arc<Semaphore>,
    /// Packets dropped because their lane was full.
    pub refused: AtomicU64,
}

impl Errands {
    /// Errands on this runtime.
    pub fn new(runtime: Handle) -> Self {
        Self {
            runtime,
            upstream: Arc::new(Semaphore::new(UPSTREAM_MAX)),
            cluster: Arc::new(Semaphore::new(CLUSTER_MAX)),
            refused: AtomicU64::new(0),
        }
    }

    /// Takes a place in a lane, if there is one.
    pub fn place(&self, lane: Lane) -> Option<OwnedSemaphorePermit> {
        let lane = match lane {
            Lane::Upstream => &self.upstream,
            Lane::Cluster => &self.cluster,
        };
        let place = lane.clone().try_acquire_owned().ok();
        if place.is_none() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        place
    }

    /// Runs an errand and hands its end to `deliver`. Nothing happens when its lane is full.
    pub fn run(
        &self,
        lane: Lane,
        errand: impl FnOnce() -> Errand,
        deliver: impl FnOnce(Done) + Send + 'static,
    ) {
        let Some(place) = self.place(lane) else { return };
        let errand = errand();
        // Ends by itself: every wait of an errand has a time-out. `drained` waits for it.
        self.runtime.spawn(async move {
            if let Some(done) = errand.run().await {
                deliver(done);
            }
            drop(place);
        });
    }

    /// Errands under way in both lanes.
    pub fn under_way(&self) -> usize {
        let free = self.upstream.available_permits() + self.cluster.available_permits();
        UPSTREAM_MAX + CLUSTER_MAX - free
    }

    /// Waits until no errand is under way, at most `patience`. Answers how many are left.
    pub async fn drained(&self, patience: Duration) -> usize {
        let none = async {
            while self.under_way() > 0 {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        let _ = tokio::time::timeout(patience, none).await;
        self.under_way()
    }
}

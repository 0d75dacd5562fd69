//! The live parts behind a Plan: clusters, caches, upstreams, transfers, counters.
//!
//! A reload asks for its parts here. A directive that is written as before gets the part that it
//! had, with its Index, its Entries and its connections; what no directive asks for any more is
//! dropped when the old Plan is.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Error, limits};
use crate::cluster::config::Config as ClusterConfig;
use crate::cluster::live::{Cluster, Identity};
use crate::cluster::snapshot::Place;
use crate::cluster::zone::Zone;
use crate::forward::{Config as ForwardConfig, Forward};
use crate::resolve::cache::Cache;
use crate::resolve::config::{CacheConfig, ErrorsConfig, TransferConfig};
use crate::resolve::errors::ErrorLog;
use crate::resolve::flight::Flights;
use crate::resolve::kubernetes::Kubernetes;
use crate::resolve::step::Forwarding;
use crate::resolve::tally::Tally;
use crate::resolve::transfer::{Shared, Transfer};
use crate::wire::{Name, serial};

/// How long a reload waits for Pods and imports once the Services of a new cluster are known.
const EXTRAS_MAX: Duration = Duration::from_secs(3);

/// Parts by what is written of them. The text names the block and the place in it, so that equal
/// directives of two blocks have parts of their own.
#[derive(Default, Clone)]
pub struct Parts {
    pub clusters: Vec<Arc<Cluster>>,
    pub forwards: Vec<(String, Forwarding)>,
    pub caches: Vec<(String, Arc<Cache>)>,
    pub transfers: Vec<(String, Arc<Transfer>)>,
    errors: Vec<(String, Arc<ErrorLog>)>,
    /// The places and counters of all transfers, which live as long as the process.
    pub shared_by_transfers: Arc<Shared>,
    tallies: HashMap<(String, String), Arc<Tally>>,
    /// Whether clusters were known to the process before this one.
    pub were_known: bool,
    /// Where the server keeps its state.
    state: Option<PathBuf>,
}

impl Parts {
    /// The parts of no Plan yet, of a server that keeps its state in a folder.
    pub fn kept_in(state: Option<PathBuf>) -> Self {
        Self { state, ..Self::default() }
    }

    /// Where the server keeps its state.
    pub fn state(&self) -> Option<&Path> {
        self.state.as_deref()
    }

    /// What a new Plan may take over: the counters always, the rest when it is asked for.
    pub fn next(&self) -> Self {
        Self {
            tallies: self.tallies.clone(),
            state: self.state.clone(),
            shared_by_transfers: self.shared_by_transfers.clone(),
            ..Self::default()
        }
    }

    /// The cluster of a directive: the one that this Plan or the old one has, or a new one.
    pub fn cluster(&mut self, old: &Self, config: &ClusterConfig) -> Arc<Cluster> {
        let identity = Identity::of(config);
        let is_same = |known: &&Arc<Cluster>| known.identity == identity;
        if let Some(known) = self.clusters.iter().find(is_same) {
            return known.clone();
        }
        let known = old.clusters.iter().find(is_same).cloned();
        let _entered = limits::on_cluster_threads();
        let cluster = known.unwrap_or_else(|| {
            // A reload waits for what is true; only a start has to make do with what was.
            let place = self.place(config).filter(|_| old.is_first());
            Arc::new(Cluster::start_after(old.serial(), identity, place))
        });
        self.clusters.push(cluster.clone());
        cluster
    }

    /// Where the Snapshot of a directive's cluster is.
    fn place(&self, config: &ClusterConfig) -> Option<Place> {
        let folder = config.snapshot.folder(self.state.as_deref())?;
        Place::new(folder, &Identity::of(config), &config.zones)
    }

    /// Keeps clusters where their directives say. Of several with one cluster the first counts.
    pub fn keep_clusters<'c>(&self, configs: impl DoubleEndedIterator<Item = &'c ClusterConfig>) {
        for config in configs.rev() {
            let identity = Identity::of(config);
            let its = self.clusters.iter().filter(|cluster| cluster.identity == identity);
            its.for_each(|cluster| cluster.keeping.move_to(self.place(config)));
        }
    }

    /// The newest serial of all clusters: another one that takes over a zone must go on from it.
    fn serial(&self) -> Option<u32> {
        let serials = self.clusters.iter().map(|cluster| cluster.published.zone().serial);
        serials.reduce(serial::newest)
    }

    /// The transfers of a directive: with the versions that secondaries have, as long as they show
    /// the same.
    pub fn transfer(
        &mut self,
        old: &Self,
        place: String,
        config: &TransferConfig,
        apexes: Vec<Name>,
        kubernetes: Kubernetes,
    ) -> Arc<Transfer> {
        let known = old
            .transfers
            .iter()
            .find(|(other, known)| *other == place && known.is_same(config, &apexes, &kubernetes));
        let transfer = match known {
            Some((_, known)) => known.clone(),
            None => {
                let shared = self.shared_by_transfers.clone();
                Arc::new(Transfer::new(config.clone(), apexes, kubernetes, shared))
            }
        };
        self.transfers.push((place, transfer.clone()));
        transfer
    }

    /// Waits until the clusters that are new here are known, if one of `old` is or was: a reload
    /// must not turn a server that knows its cluster into one that does not.
    pub async fn known_as_before(&self, old: &Self) {
        let is_old =
            |cluster: &Arc<Cluster>| old.clusters.iter().any(|it| Arc::ptr_eq(it, cluster));
        let knew = |knows: fn(&Zone) -> bool| {
            old.clusters.iter().any(|cluster| knows(&cluster.published.zone()))
        };
        let (pods, imports) = (knew(|zone| zone.knows_pods), knew(|zone| zone.knows_imports));
        let wait = async |cluster: &Arc<Cluster>| {
            let scope = &cluster.identity.scope;
            let as_before = |zone: &Zone| {
                zone.is_synced
                    && (zone.knows_pods || !pods || !scope.pods)
                    && (zone.knows_imports || !imports || !scope.imports)
            };
            cluster.published.until(as_before).await;
            // A right that is missing must not hold up the reload, for it may never come.
            let known = cluster.published.until(|zone| scope.is_known(zone));
            let _ = tokio::time::timeout(EXTRAS_MAX, known).await;
        };
        if old.were_known || knew(|zone| zone.is_synced) {
            let new = self.clusters.iter().filter(|cluster| !is_old(cluster));
            futures_util::future::join_all(new.map(wait)).await;
        }
    }

    /// The upstreams of a directive. At the first start a file that cannot be used yet is no reason
    /// not to serve the cluster.
    pub fn forward(
        &mut self,
        old: &Self,
        place: String,
        config: &ForwardConfig,
    ) -> Result<Forwarding, Error> {
        let known = old
            .forwards
            .iter()
            .find(|(other, known)| *other == place && known.forward.config() == config);
        let forwarding = match known {
            Some((_, known)) => known.clone(),
            None => Forwarding {
                forward: match Forward::start(config.clone()) {
                    Err(error) if old.is_first() => {
                        tracing::error!(plugin = "forward", "{error}; trying again");
                        Forward::start_without(config.clone())
                    }
                    started => started?,
                },
                flights: Arc::new(Flights::default()),
            },
        };
        self.forwards.push((place, forwarding.clone()));
        Ok(forwarding)
    }

    /// Whether this directive is one of these parts.
    pub fn has_forward(&self, forwarding: &Forwarding) -> bool {
        self.forwards.iter().any(|(_, known)| Arc::ptr_eq(&known.forward, &forwarding.forward))
    }

    /// The cache of a block.
    pub fn cache(
        &mut self,
        old: &Self,
        place: String,
        config: &CacheConfig,
        zones: Vec<Name>,
    ) -> Arc<Cache> {
        let known = old.caches.iter().find(|(other, known)| {
            *other == place && known.config == *config && known.zones == zones
        });
        let cache = match known {
            Some((_, known)) => known.clone(),
            None => Arc::new(Cache::new(config.clone(), zones)),
        };
        self.caches.push((place, cache.clone()));
        cache
    }

    /// The error log of a block, with what it has counted in periods that have not ended.
    pub fn error_log(&mut self, old: &Self, place: String, config: &ErrorsConfig) -> Arc<ErrorLog> {
        let is_same =
            |(other, known): &&(String, Arc<ErrorLog>)| *other == place && known.is_of(config);
        let log = match old.errors.iter().find(is_same) {
            Some((_, known)) => known.clone(),
            None => Arc::new(ErrorLog::new(config.clone())),
        };
        self.errors.push((place, log.clone()));
        log
    }

    /// The error logs that `next` has not.
    pub fn errors_gone<'s>(&'s self, next: &'s Self) -> impl Iterator<Item = &'s Arc<ErrorLog>> {
        let is_kept = |log: &Arc<ErrorLog>| next.errors.iter().any(|it| Arc::ptr_eq(&it.1, log));
        self.errors.iter().map(|(_, log)| log).filter(move |log| !is_kept(log))
    }

    /// Whether these are the parts of no Plan: the server starts.
    fn is_first(&self) -> bool {
        self.tallies.is_empty()
    }

    /// The counters of a zone; they live as long as the process, as counters must.
    pub fn tally(&mut self, server: &str, zone: &str, workers: usize) -> Arc<Tally> {
        let key = (server.to_owned(), zone.to_owned());
        let new = || Arc::new(Tally::new(server.to_owned(), zone.to_owned(), workers));
        self.tallies.entry(key).or_insert_with(new).clone()
    }
}

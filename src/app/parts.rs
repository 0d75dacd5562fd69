//! The live parts behind a Plan: clusters, caches, upstreams, counters.
//!
//! A reload asks for its parts here. A directive that is written as before gets the part that it
//! had, with its Index, its Entries and its connections; what no directive asks for any more is
//! dropped when the old Plan is.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::Error;
use crate::cluster::config::Config as ClusterConfig;
use crate::cluster::live::Cluster;
use crate::forward::{Config as ForwardConfig, Forward};
use crate::resolve::cache::Cache;
use crate::resolve::config::CacheConfig;
use crate::resolve::flight::Flights;
use crate::resolve::step::Forwarding;
use crate::resolve::tally::Tally;
use crate::wire::Name;

/// Parts by what is written of them. The text names the block and the place in it, so that equal
/// directives of two blocks have parts of their own.
#[derive(Default, Clone)]
pub struct Parts {
    pub clusters: Vec<Arc<Cluster>>,
    pub forwards: Vec<(String, Forwarding)>,
    pub caches: Vec<(String, Arc<Cache>)>,
    tallies: HashMap<(String, String), Arc<Tally>>,
}

impl Parts {
    /// What a new Plan may take over: the counters always, the rest when it is asked for.
    pub fn next(&self) -> Self {
        Self { tallies: self.tallies.clone(), ..Self::default() }
    }

    /// The cluster of a directive: the one that `old` has, or a new one.
    pub async fn cluster(
        &mut self,
        old: &Self,
        config: &ClusterConfig,
        own_addresses: &[IpAddr],
    ) -> Result<Arc<Cluster>, Error> {
        let known = self.clusters.iter().chain(&old.clusters);
        if let Some(cluster) = known.into_iter().find(|known| known.config == *config).cloned() {
            if !self.clusters.iter().any(|known| Arc::ptr_eq(known, &cluster)) {
                self.clusters.push(cluster.clone());
            }
            return Ok(cluster);
        }
        let cluster = Arc::new(Cluster::start(config.clone(), own_addresses.to_vec()).await?);
        self.clusters.push(cluster.clone());
        Ok(cluster)
    }

    /// The upstreams of a directive.
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
                forward: Forward::start(config.clone())?,
                flights: Arc::new(Flights::default()),
            },
        };
        self.forwards.push((place, forwarding.clone()));
        Ok(forwarding)
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

    /// The counters of a zone; they live as long as the process, as counters must.
    pub fn tally(&mut self, server: &str, zone: &str, workers: usize) -> Arc<Tally> {
        let key = (server.to_owned(), zone.to_owned());
        let new = || Arc::new(Tally::new(server.to_owned(), zone.to_owned(), workers));
        self.tallies.entry(key).or_insert_with(new).clone()
    }
}

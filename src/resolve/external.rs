//! The `k8s_external` Step: the Zone's word about the addresses outside of the cluster.
//!
//! It stands before `kubernetes`, as in CoreDNS, and shows the same Zone.

use std::net::IpAddr;
use std::sync::Arc;

use super::config::ExternalConfig;
use super::kubernetes::conclude;
use super::step::{ClusterStep, Verdict};
use super::tally::Author;
use crate::cluster::config::{Fallthrough, Pods};
use crate::cluster::published::Published;
use crate::cluster::zone::{Asked, Outside, Style, View};
use crate::wire::{Class, Name, NameRef, Query, Reply};

/// A `k8s_external` directive at run time.
pub struct External {
    /// Longest first.
    zones: Vec<Name>,
    fallthrough: Fallthrough,
    outside: Outside,
    view: View,
    published: Arc<Published>,
}

impl External {
    /// A Step that shows `published` as the directive says.
    pub fn new(
        config: &ExternalConfig,
        own_addresses: Arc<[IpAddr]>,
        published: Arc<Published>,
    ) -> Self {
        let mut zones = config.zones.clone();
        zones.sort_by_key(|zone| std::cmp::Reverse(zone.octets().len()));
        let view = View {
            ttl_s: config.ttl_s,
            pods: Pods::Disabled,
            is_zonal: false,
            watches_endpoints: true,
            ignores_empty: false,
            primary: config.primary_zone().clone(),
            own_addresses,
            style: Style::external(&config.apex),
        };
        let outside = Outside { apex: config.apex.clone(), shows_endpoints: config.headless };
        Self { zones, fallthrough: config.fallthrough.clone(), outside, view, published }
    }

    /// The zone that holds `name`, and what stands before it.
    fn split<'s, 'n>(&'s self, name: NameRef<'n>) -> Option<(NameRef<'s>, &'n [u8])> {
        self.zones.iter().find_map(|zone| {
            let zone = zone.as_ref();
            name.without_suffix(zone).map(|prefix| (zone, prefix))
        })
    }

    /// Whether no later Step will see a Query for this name.
    pub fn keeps(&self, name: NameRef<'_>) -> bool {
        self.split(name).is_some() && !self.fallthrough.covers(name)
    }
}

impl ClusterStep for External {
    const AUTHOR: Author = Author::External;

    fn published(&self) -> &Published {
        &self.published
    }

    fn ttl_s(&self) -> u32 {
        self.view.ttl_s
    }

    fn answer_now(&self, query: &Query<'_>, turn: u32, reply: &mut Reply<'_>) -> Verdict {
        let Some((zone, prefix)) = self.split(query.name()).filter(|_| query.class == Class::IN)
        else {
            return Verdict::Next;
        };
        let asked = Asked { view: &self.view, zone, in_clusterset: false, prefix, query, turn };
        let published = self.published.zone();
        let outcome = published.lookup_external(&self.outside, &asked, reply);
        conclude(self, outcome, &published, &asked, &self.fallthrough, reply)
    }
}

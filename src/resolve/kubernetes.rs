//! The `kubernetes` Step: the Zone's word, in our reply.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::Guard;

use super::step::{ClusterStep, Verdict, Wait, tell_age};
use super::tally::Author;
use crate::cluster::config::{Config, Fallthrough};
use crate::cluster::published::Published;
use crate::cluster::zone::{Ahead, Asked, Outcome, Style, Version, View, Zone};
use crate::wire::reply::Owner;
use crate::wire::{Class, Ede, Name, NameRef, Query, Rcode, RecordType, Reply, Section};

/// Longest TTL of what may be old, in seconds: it is to be asked for again when the source is back.
const STALE_TTL_MAX_S: u32 = 5;

/// A `kubernetes` directive at run time.
pub struct Kubernetes {
    /// Longest first.
    zones: Vec<Shown>,
    fallthrough: Fallthrough,
    view: View,
    /// The same while what is published may be old.
    stale_view: View,
    pub published: Arc<Published>,
}

/// A zone of the directive.
#[derive(PartialEq, Eq)]
struct Shown {
    name: Name,
    /// Whether it holds the Services of a cluster set.
    is_clusterset: bool,
}

impl Kubernetes {
    /// A Step that shows `published` as the directive says.
    pub fn new(config: &Config, own_addresses: Arc<[IpAddr]>, published: Arc<Published>) -> Self {
        let shown = |name: &Name| Shown {
            name: name.clone(),
            // Zones below one of them, too (as CoreDNS).
            is_clusterset: config
                .multicluster
                .iter()
                .any(|zone| name.as_ref().is_within(zone.as_ref())),
        };
        let mut zones: Vec<Shown> = config.zones.iter().map(shown).collect();
        zones.sort_by_key(|zone| std::cmp::Reverse(zone.name.octets().len()));
        let view = View {
            ttl_s: config.ttl_s,
            pods: config.pods,
            is_zonal: config.scope.kept.zones,
            watches_endpoints: config.scope.endpoints,
            ignores_empty: config.ignores_empty,
            primary: config.primary_zone().clone(),
            own_addresses,
            style: Style::cluster(),
        };
        let stale_view = View { ttl_s: view.ttl_s.min(STALE_TTL_MAX_S), ..view.clone() };
        Self { zones, fallthrough: config.fallthrough.clone(), view, stale_view, published }
    }

    /// One version of one of the zones, as this directive shows it.
    pub fn version(&self, zone: Arc<Zone>, apex: &Name) -> Version {
        let in_clusterset = self.zones.iter().any(|it| it.is_clusterset && it.name == *apex);
        let (view, apex) = (Arc::new(self.view.clone()), apex.clone());
        Version { zone, view, apex, in_clusterset }
    }

    /// Whether another directive gives the same answers from the same Zones.
    pub fn shows_as(&self, other: &Self) -> bool {
        let is_same = self.zones == other.zones && self.view == other.view;
        is_same && Arc::ptr_eq(&self.published, &other.published)
    }

    /// The zone that holds `name`, and what stands before it.
    fn split<'s, 'n>(&'s self, name: NameRef<'n>) -> Option<(&'s Shown, &'n [u8])> {
        self.zones
            .iter()
            .find_map(|zone| name.without_suffix(zone.name.as_ref()).map(|prefix| (zone, prefix)))
    }

    /// The newest Zone, if it is so large that reading ahead pays.
    pub fn large_zone(&self) -> Option<Guard<Arc<Zone>>> {
        Some(self.published.zone()).filter(|zone| zone.is_large())
    }

    /// Notes what a Query will look up in a Zone of this directive, if that is large. Answers
    /// whether no later Step will see the Query.
    pub fn foresee(&self, query: &Query<'_>, zone: Option<&Zone>, ahead: &mut Ahead) -> bool {
        let Some((shown, prefix)) = self.split(query.name()) else { return false };
        if let Some(zone) = zone.filter(|_| !shown.is_clusterset) {
            zone.foresee(shown.name.as_ref(), prefix, query.name(), ahead);
        }
        !self.fallthrough.covers(query.name())
    }
}

impl ClusterStep for Kubernetes {
    const AUTHOR: Author = Author::Kubernetes;

    fn published(&self) -> &Published {
        &self.published
    }

    fn ttl_s(&self) -> u32 {
        self.view.ttl_s
    }

    fn is_old(&self, asked: &Asked<'_>) -> bool {
        self.published.is_stale_for(|| asked.source())
    }

    fn answer_now(&self, query: &Query<'_>, turn: u32, reply: &mut Reply<'_>) -> Verdict {
        let name = query.name();
        let Some((shown, prefix)) = self.split(name).filter(|_| query.class == Class::IN) else {
            return Verdict::Next;
        };
        let (zone, in_clusterset) = (shown.name.as_ref(), shown.is_clusterset);
        let mut asked = Asked { view: &self.view, zone, in_clusterset, prefix, query, turn };
        if self.is_old(&asked) {
            asked.view = &self.stale_view;
        }
        let published = self.published.zone();
        let outcome = published.lookup(&asked, reply);
        conclude(self, outcome, &published, &asked, &self.fallthrough, reply)
    }
}

/// Makes a Verdict of what the Zone says; finishes the reply if it is one.
#[inline]
pub(super) fn conclude<S: ClusterStep>(
    step: &S,
    outcome: Outcome<'_>,
    published: &Zone,
    asked: &Asked<'_>,
    fallthrough: &Fallthrough,
    reply: &mut Reply<'_>,
) -> Verdict {
    let query = asked.query;
    match outcome {
        Outcome::Found => {}
        Outcome::NotReady => return Verdict::Ask(Wait::Cluster),
        Outcome::NxDomain | Outcome::NoneReady(_) if fallthrough.covers(query.name()) => {
            return Verdict::Next;
        }
        Outcome::NxDomain => {
            reply.set_rcode(Rcode::NXDOMAIN);
            published.deny(asked, reply);
        }
        Outcome::NoneReady(endpoints) => {
            reply.set_rcode(Rcode::NXDOMAIN);
            published.deny(asked, reply);
            if asked.view.watches_endpoints {
                reply.set_ede(Ede::none_ready(endpoints));
            }
        }
        Outcome::NoData => published.deny(asked, reply),
        // RFC 1034 §3.6.2: these two ask for the alias itself.
        Outcome::Alias(target) if matches!(query.rtype, RecordType::CNAME | RecordType::ANY) => {
            let (owner, rdata) = (Owner::Question, [target.octets()]);
            let ttl_s = asked.view.ttl_s;
            reply.record(Section::Answer, owner, RecordType::CNAME, ttl_s, &rdata);
        }
        Outcome::Alias(target) => return Verdict::Ask(Wait::Alias(target.clone())),
    }
    reply.set_authoritative();
    if step.is_old(asked) {
        tell_age(reply);
    }
    Verdict::Reply(S::AUTHOR)
}

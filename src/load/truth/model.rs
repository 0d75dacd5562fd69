//! The objects as they are, and what was so of each Service, Namespace and address.
//!
//! ```text
//! Change ─► namespaces ─┐
//!           services  ──┼─► the touched Service: one more version ─► Aging forgets old ones
//!           slices    ──┘    addresses: which Services have them
//! ```
//!
//! A version is a list of pointers to objects, so it costs what has changed. What a version means
//! for a name is worked out when somebody asks for that name.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::expected::{Expected, State};
use super::history::{Aging, History, VERSION_OCTETS_MAX, VERSIONS_MAX};
use super::question::{self, Meaning, Sought};
use super::reverse::Addresses;
use super::weigh::{Held, OfAddress, OfService, Past};
use crate::cluster::object::{Change, Kind, Object, ObjectKey, Role};
use crate::wire::{Name, NameRef};

/// The key of a Service: `3web4shop`.
pub(super) type Key = Arc<[u8]>;

/// Everything known of the cluster.
#[derive(Debug)]
pub(super) struct Model {
    domain: Name,
    namespaces: HashMap<Box<[u8]>, Namespace>,
    services: HashMap<Key, Known>,
    /// The Service of each slice.
    owners: HashMap<ObjectKey, Key>,
    addresses: Addresses,
    lists: HashMap<Kind, List>,
    aging: Aging<Aged>,
    synced: Option<Instant>,
    /// Until when changes may have come that were not heard of.
    blind: Option<Instant>,
    /// No watch is open.
    is_closed: bool,
    /// Counts changes of what is there.
    generation: u64,
}

/// A Namespace, or only what is in it.
#[derive(Debug)]
struct Namespace {
    exists: History<bool>,
    object: Option<Arc<Object>>,
    services: BTreeSet<Key>,
}

/// A Service with its slices. Either may come first.
#[derive(Debug)]
struct Known {
    service: Option<Arc<Object>>,
    /// By name.
    slices: Vec<(Box<str>, Arc<Object>)>,
    history: History<Held>,
}

/// How far the lists of a kind have come.
#[derive(Debug, Default)]
struct List {
    seen: Option<HashSet<ObjectKey>>,
    was_complete: bool,
}

/// What has something to forget.
#[derive(Debug)]
enum Aged {
    Service(Key),
    Namespace(Box<[u8]>),
    Address(IpAddr, Key),
}

impl Model {
    /// A model of nothing.
    pub(super) fn new(domain: Name) -> Self {
        Self::with_room(domain, VERSIONS_MAX)
    }

    /// The same with another bound of what is remembered.
    pub(super) fn with_room(domain: Name, versions_max: usize) -> Self {
        Self {
            domain,
            namespaces: HashMap::new(),
            services: HashMap::new(),
            owners: HashMap::new(),
            addresses: Addresses::default(),
            lists: HashMap::new(),
            aging: Aging::new(versions_max, VERSION_OCTETS_MAX),
            synced: None,
            blind: None,
            is_closed: false,
            generation: 0,
        }
    }

    /// What was so before is not known; `None` until all is known.
    pub(super) fn known_from(&self) -> Option<Instant> {
        let synced = self.synced?;
        Some(self.aging.known_from.map_or(synced, |known_from| known_from.max(synced)))
    }

    /// Whether changes since `from` may not have been heard of: no watch was open, or a list, which
    /// makes a mixture of what was and what is, was under way.
    pub(super) fn was_blind(&self, from: Instant) -> bool {
        let is_listing = self.lists.values().any(|list| list.seen.is_some());
        is_listing || self.blind.is_some_and(|until| until >= from)
    }

    /// Until when changes since `from` were not heard of, if that was so.
    pub(super) fn missed_until(&self, from: Instant) -> Option<Instant> {
        self.blind.filter(|until| *until >= from)
    }

    /// Whether changes since `from` may still be on their way, because we do not listen, or did not
    /// until less than `early` ago.
    pub(super) fn misses(&self, from: Instant, early: Duration, now: Instant) -> bool {
        let is_listing = self.lists.values().any(|list| list.seen.is_some());
        let is_late = || self.missed_until(from).is_some_and(|until| until + early > now);
        self.is_closed || is_listing || is_late()
    }

    /// Notes whether the watches are open.
    pub(super) fn watch(&mut self, is_open: bool, now: Instant) {
        self.is_closed = !is_open;
        if self.is_closed {
            self.blind = Some(now);
        }
    }

    /// Counts changes.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Versions that were forgotten early, for want of room.
    pub(super) fn overflowed(&self) -> u64 {
        self.aging.overflowed
    }

    /// The addresses of Services, and of the endpoints of those that select Pods.
    pub(super) fn own_addresses(&self) -> BTreeSet<IpAddr> {
        let selects_pods = |known: &Known| {
            let service = known.service.as_deref();
            matches!(service, Some(Object::Service(service)) if service.has_selector)
        };
        let own = |known: &Known| {
            let slices = known.slices.iter().filter(|_| selects_pods(known)).map(|(_, it)| it);
            let objects = known.service.iter().chain(slices);
            objects.flat_map(|object| addresses_of(object)).collect::<Vec<_>>()
        };
        self.services.values().flat_map(own).collect()
    }

    /// All objects that are there.
    pub(super) fn objects(&self) -> Vec<Arc<Object>> {
        let namespaces = self.namespaces.values().filter_map(|it| it.object.clone());
        let services = self.services.values().flat_map(|known| {
            known.service.iter().cloned().chain(known.slices.iter().map(|(_, it)| it.clone()))
        });
        let mut objects: Vec<_> = namespaces.chain(services).collect();
        // The same cluster makes the same work, so that a run can be repeated.
        objects.sort_by_cached_key(|object| (object.kind(), object.key()));
        objects
    }

    /// What was right for a question; `None` outside of the cluster.
    pub(super) fn past<'m>(&'m self, name: NameRef<'m>, sought: Sought) -> Option<Past<'m>> {
        if let Some(address) = question::reverse_address(name) {
            let owners: Vec<_> = self
                .addresses
                .owners(&address)
                .filter_map(|key| Some((&**key, &self.services.get(key)?.history)))
                .collect();
            let past = || OfAddress::new(owners.clone(), (address, sought), self.domain.as_ref());
            return (!owners.is_empty()).then(|| Past::Address(past()));
        }
        let prefix = name.without_suffix(self.domain.as_ref())?;
        Some(match question::meaning(prefix) {
            // SOA, NS and TXT of the domain are as the server is set up.
            Meaning::Apex if sought == Sought::Other => Past::Steady(Expected::Unknown),
            Meaning::Apex | Meaning::Container => Past::Steady(Expected::Empty),
            Meaning::Impossible => Past::Steady(Expected::Missing),
            Meaning::Uncovered => return None,
            Meaning::Namespace(label) => match self.namespaces.get(label) {
                Some(namespace) => Past::Namespace(&namespace.exists),
                None => Past::Steady(Expected::Missing),
            },
            Meaning::Service { key, part } => match self.services.get(key) {
                Some(Known { history, .. }) => {
                    let (asked, domain) = ((part, sought), self.domain.as_ref());
                    Past::Service(OfService { history, key, asked, domain })
                }
                None => Past::Steady(Expected::Missing),
            },
        })
    }

    /// Takes one change in, which was heard of at `now`.
    pub(super) fn take(&mut self, change: Change, now: Instant) {
        match change {
            Change::Apply(object) => {
                self.see(object.kind(), object.key());
                self.apply(object, now);
            }
            Change::Keep(kind, key) => self.see(kind, key),
            Change::Delete(kind, key) => self.delete(kind, &key, now),
            Change::ListBegin(kind) => {
                self.lists.entry(kind).or_default().seen = Some(HashSet::new());
            }
            Change::ListEnd(kind) => self.end_list(kind, now),
            Change::ListGiveUp(kind) => self.lists.entry(kind).or_default().seen = None,
        }
        self.age(now);
    }

    /// Forgets what is old.
    pub(super) fn age(&mut self, now: Instant) {
        while let Some((aged, until)) = self.aging.next(now) {
            match aged {
                Aged::Service(key) => self.forget_service(&key, until),
                Aged::Namespace(label) => self.forget_namespace(&label, until),
                Aged::Address(address, key) => self.addresses.forget(&address, &key, until),
            }
        }
    }

    fn see(&mut self, kind: Kind, key: ObjectKey) {
        if let Some(seen) = self.lists.get_mut(&kind).and_then(|list| list.seen.as_mut()) {
            seen.insert(key);
        }
    }

    fn apply(&mut self, object: Object, now: Instant) {
        match &object {
            Object::Namespace(name) => self.change_namespace(&name.clone(), Some(object), now),
            Object::Service(service) => {
                self.change_service(&service.key.clone(), Some(object), now)
            }
            Object::Slice(slice) => {
                let key = slice.key.clone();
                let owner = slice.service.as_deref();
                let owner = owner.and_then(|owner| question::service_key(&key.namespace, owner));
                self.change_slice(&key, owner.map(|owner| (owner.into(), object)), now);
            }
            Object::Pod(_) | Object::Import(_) => {}
        }
    }

    fn delete(&mut self, kind: Kind, key: &ObjectKey, now: Instant) {
        match kind {
            Kind::Namespace => self.change_namespace(&key.name, None, now),
            Kind::Service => self.change_service(key, None, now),
            Kind::Slice => self.change_slice(key, None, now),
            Kind::Pod | Kind::Import => {}
        }
    }

    /// Sweeps what a full list did not bring.
    fn end_list(&mut self, kind: Kind, now: Instant) {
        let list = self.lists.entry(kind).or_default();
        let Some(seen) = list.seen.take() else { return };
        list.was_complete = true;
        self.blind = Some(now);
        for key in self.keys(kind).into_iter().filter(|key| !seen.contains(key)) {
            self.delete(kind, &key, now);
        }
        let is_listed = |kind: Kind| self.lists.get(&kind).is_some_and(|list| list.was_complete);
        if self.synced.is_none() && Kind::OF_SERVICES.into_iter().all(is_listed) {
            self.synced = Some(now);
            self.generation += 1;
        }
    }

    fn keys(&self, kind: Kind) -> Vec<ObjectKey> {
        let namespaces = || self.namespaces.values().filter_map(|it| it.object.as_ref());
        let services = || self.services.values().filter_map(|known| known.service.as_ref());
        match kind {
            Kind::Namespace => namespaces().map(|object| object.key()).collect(),
            Kind::Service => services().map(|object| object.key()).collect(),
            Kind::Slice => self.owners.keys().cloned().collect(),
            Kind::Pod | Kind::Import => Vec::new(),
        }
    }

    fn change_namespace(&mut self, name: &str, object: Option<Object>, now: Instant) {
        let Some(label) = question::label_key(name) else { return };
        let (is_synced, exists) = (self.synced.is_some(), object.is_some());
        let is_known = self.namespaces.get(&*label).is_some_and(|it| it.object.is_some());
        if is_known == exists {
            return;
        }
        let namespace = namespace(&mut self.namespaces, &label, now);
        namespace.object = object.map(Arc::new);
        let services: Vec<Key> = namespace.services.iter().cloned().collect();
        if is_synced {
            namespace.exists.push(exists, now);
            self.aging.note(Aged::Namespace(label.into()), label_octets(), now);
        } else {
            namespace.exists.reset(exists, now);
        }
        self.generation += 1;
        services.iter().for_each(|key| self.renew(key, 0, now));
    }

    fn change_service(&mut self, key: &ObjectKey, object: Option<Object>, now: Instant) {
        let Some(key) = question::service_key(&key.namespace, &key.name) else { return };
        let Some(known) = self.known(&key, object.is_some(), now) else { return };
        if known.service.as_deref() == object.as_ref() {
            return;
        }
        let old = std::mem::replace(&mut known.service, object.map(Arc::new));
        let new = known.service.clone();
        self.move_addresses(&key.into(), old, new, now);
    }

    /// Gives a slice to its Service, and takes it from the one that it belonged to before.
    fn change_slice(&mut self, key: &ObjectKey, slice: Option<(Key, Object)>, now: Instant) {
        let before = self.owners.get(key).cloned();
        if let Some(before) = before.filter(|it| slice.as_ref().is_none_or(|(new, _)| new != it)) {
            self.owners.remove(key);
            self.hold_slice(&before, &key.name, None, now);
        }
        if let Some((owner, object)) = slice {
            self.owners.insert(key.clone(), owner.clone());
            self.hold_slice(&owner, &key.name, Some(object), now);
        }
    }

    fn hold_slice(&mut self, owner: &Key, name: &str, object: Option<Object>, now: Instant) {
        let Some(known) = self.known(owner, object.is_some(), now) else { return };
        let found = known.slices.binary_search_by(|(held, _)| (**held).cmp(name));
        let old = found.ok().map(|at| known.slices[at].1.clone());
        if old.as_deref() == object.as_ref() {
            return;
        }
        let new = object.map(Arc::new);
        match (found, new.clone()) {
            (Ok(at), Some(new)) => known.slices[at].1 = new,
            (Ok(at), None) => drop(known.slices.remove(at)),
            (Err(at), Some(new)) => known.slices.insert(at, (name.into(), new)),
            (Err(_), None) => {}
        }
        self.move_addresses(owner, old, new, now);
    }

    /// What is held of a Service, made if it `is_needed`.
    fn known(&mut self, key: &[u8], is_needed: bool, now: Instant) -> Option<&mut Known> {
        if !self.services.contains_key(key) && is_needed {
            let key: Key = key.into();
            let of = namespace(&mut self.namespaces, question::namespace_of(&key), now);
            of.services.insert(key.clone());
            let history = History::always(None, now);
            self.services.insert(key, Known { service: None, slices: Vec::new(), history });
        }
        self.services.get_mut(key)
    }

    /// Notes which addresses a Service has now, and what is so of it.
    fn move_addresses(
        &mut self,
        key: &Key,
        old: Option<Arc<Object>>,
        new: Option<Arc<Object>>,
        now: Instant,
    ) {
        let of = |object: &Option<Arc<Object>>| object.as_deref().map(addresses_of);
        let (old, come) = (of(&old).unwrap_or_default(), of(&new).unwrap_or_default());
        come.iter().for_each(|address| self.addresses.come(address, key));
        for address in &old {
            if self.addresses.go(address, key, now) {
                self.aging.note(Aged::Address(*address, key.clone()), 0, now);
            }
        }
        self.generation += 1;
        self.renew(key, come.len() * size_of::<IpAddr>(), now);
    }

    /// Adds a version of a Service. What is `new` in it takes so many octets.
    fn renew(&mut self, key: &Key, new: usize, now: Instant) {
        let namespace = self.namespaces.get(question::namespace_of(key));
        let exists = namespace.is_some_and(|namespace| namespace.object.is_some());
        let Some(known) = self.services.get_mut(key) else { return };
        let service = known.service.clone().filter(|_| exists);
        let slices = || known.slices.iter().map(|(_, slice)| slice.clone()).collect();
        let state = service.map(|service| Arc::new(State::new(service, slices())));
        let octets = state.as_ref().map_or(0, |state| state.octets()) + new;
        let is_gone = known.service.is_none() && known.slices.is_empty();
        let is_version = match self.synced {
            Some(_) => known.history.push(state, now),
            None => {
                known.history.reset(state, now);
                false
            }
        };
        if is_version || is_gone {
            self.aging.note(Aged::Service(key.clone()), octets, now);
        }
    }

    fn forget_service(&mut self, key: &Key, until: Instant) {
        let Some(known) = self.services.get_mut(key) else { return };
        known.history.forget(until);
        let is_gone = known.service.is_none() && known.slices.is_empty();
        if is_gone && known.history.len() == 1 {
            self.services.remove(key);
            let label = question::namespace_of(key);
            if let Some(namespace) = self.namespaces.get_mut(label) {
                namespace.services.remove(key);
            }
            self.forget_namespace(label, until);
        }
    }

    fn forget_namespace(&mut self, label: &[u8], until: Instant) {
        let Some(namespace) = self.namespaces.get_mut(label) else { return };
        namespace.exists.forget(until);
        let is_gone = namespace.object.is_none() && namespace.services.is_empty();
        if is_gone && namespace.exists.len() == 1 {
            self.namespaces.remove(label);
        }
    }

    /// Things that are remembered, for tests of what grows.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> [usize; 4] {
        let addresses = self.addresses.len();
        [self.namespaces.len(), self.services.len(), addresses, self.aging.len()]
    }
}

/// What is held of a Namespace, made if it is not there.
fn namespace<'m>(
    namespaces: &'m mut HashMap<Box<[u8]>, Namespace>,
    label: &[u8],
    now: Instant,
) -> &'m mut Namespace {
    namespaces.entry(label.into()).or_insert_with(|| Namespace {
        exists: History::always(false, now),
        object: None,
        services: BTreeSet::new(),
    })
}

/// Octets of a version of a Namespace: its label and its note.
fn label_octets() -> usize {
    size_of::<Namespace>()
}

/// The addresses that an object brings: of a Service, or of all endpoints of a slice.
fn addresses_of(object: &Object) -> Vec<IpAddr> {
    match object {
        Object::Service(service) => match &service.role {
            Role::ClusterIp(addresses) => addresses.clone(),
            Role::Headless | Role::ExternalName(_) => Vec::new(),
        },
        Object::Slice(slice) => {
            let endpoints = slice.parts.iter().flat_map(|part| part.endpoints.iter());
            endpoints.flat_map(|endpoint| endpoint.addresses().collect::<Vec<_>>()).collect()
        }
        Object::Namespace(_) | Object::Pod(_) | Object::Import(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests;

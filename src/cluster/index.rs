//! The one mutable structure: takes changes, keeps the objects, publishes Zones.
//!
//! ```text
//! Change ─► apply, delete, list ─► touched Services ─► their records anew ─► Zone n+1
//! ```
//!
//! One task owns it. A publish costs the time of what was touched: tries are copied by one pointer
//! each, and only the records of touched Services are built again. A full list marks what it
//! brings and sweeps what it does not, so there is never an empty picture in between.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::object::{Change, Kind, Object, ObjectKey, Service, Slice};
use super::records::{AddressRecords, ServiceRecords};
use super::schema;
use super::zone::{Zone, octets_of};

/// Everything known of the cluster, and the Zone that it makes.
pub struct Index {
    /// The only Namespaces to expose; empty exposes all.
    exposed: BTreeSet<Box<str>>,
    namespaces: BTreeSet<Box<str>>,
    services: BTreeMap<ObjectKey, Held>,
    /// The Service of each slice.
    owners: HashMap<ObjectKey, Box<str>>,
    lists: HashMap<Kind, List>,
    touched: BTreeSet<ObjectKey>,
    is_touched: bool,
    zone: Zone,
}

/// A Service with its slices. Either may come first.
#[derive(Default)]
struct Held {
    service: Option<Service>,
    slices: BTreeMap<Box<str>, Slice>,
}

/// How far the lists of a kind have come.
#[derive(Default)]
struct List {
    /// Objects of the list under way.
    seen: Option<HashSet<ObjectKey>>,
    was_complete: bool,
}

impl Index {
    /// An Index that knows nothing yet, and publishes after `last`: generation and serial go on.
    pub fn after(last: &Zone, exposed: impl IntoIterator<Item = Box<str>>) -> Self {
        let (generation, serial) = (last.generation, last.serial);
        let zone = Zone { generation, serial, ..Zone::unsynced() };
        Self {
            exposed: exposed.into_iter().collect(),
            namespaces: BTreeSet::new(),
            services: BTreeMap::new(),
            owners: HashMap::new(),
            lists: HashMap::new(),
            touched: BTreeSet::new(),
            is_touched: false,
            zone,
        }
    }

    /// The Zone that was published last.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The role of a Service, for the metrics of its slices.
    pub fn service(&self, key: &ObjectKey) -> Option<&Service> {
        self.services.get(key)?.service.as_ref()
    }

    /// Takes one change in. [`Index::publish`] makes it visible.
    pub fn take(&mut self, change: Change) {
        match change {
            Change::Apply(object) => self.apply(object),
            Change::Delete(kind, key) => self.delete(kind, &key),
            Change::ListBegin(kind) => {
                self.lists.entry(kind).or_default().seen = Some(HashSet::new())
            }
            Change::ListEnd(kind) => self.end_list(kind),
        }
    }

    fn apply(&mut self, object: Object) {
        let (kind, key) = match &object {
            Object::Namespace(name) => {
                (Kind::Namespace, ObjectKey { namespace: "".into(), name: name.clone() })
            }
            Object::Service(service) => (Kind::Service, service.key.clone()),
            Object::Slice(slice) => (Kind::Slice, slice.key.clone()),
        };
        if let Some(seen) = self.lists.get_mut(&kind).and_then(|list| list.seen.as_mut()) {
            seen.insert(key.clone());
        }
        match object {
            Object::Namespace(name) => self.apply_namespace(name),
            Object::Service(service) => {
                self.touched.insert(key.clone());
                self.services.entry(key).or_default().service = Some(service);
            }
            Object::Slice(slice) => self.apply_slice(slice),
        }
    }

    fn apply_namespace(&mut self, name: Box<str>) {
        let is_exposed = self.exposed.is_empty() || self.exposed.contains(&name);
        if is_exposed && self.namespaces.insert(name.clone()) {
            if let Some(label) = schema::label_key(&name) {
                self.zone.namespaces.insert(&label, ());
            }
            self.touch_namespace(&name);
        }
    }

    fn apply_slice(&mut self, slice: Slice) {
        let owner = self.owners.get(&slice.key);
        if owner.is_some_and(|owner| *owner != slice.service) {
            self.delete(Kind::Slice, &slice.key.clone());
        }
        let key = ObjectKey { namespace: slice.key.namespace.clone(), name: slice.service.clone() };
        self.owners.insert(slice.key.clone(), slice.service.clone());
        self.touched.insert(key.clone());
        self.services.entry(key).or_default().slices.insert(slice.key.name.clone(), slice);
    }

    fn delete(&mut self, kind: Kind, key: &ObjectKey) {
        match kind {
            Kind::Namespace => {
                if self.namespaces.remove(&key.name) {
                    if let Some(label) = schema::label_key(&key.name) {
                        self.zone.namespaces.remove(&label);
                    }
                    self.touch_namespace(&key.name);
                }
            }
            Kind::Service => self.change_held(key, |held| held.service = None),
            Kind::Slice => {
                let Some(service) = self.owners.remove(key) else { return };
                let owner = ObjectKey { namespace: key.namespace.clone(), name: service };
                self.change_held(&owner, |held| {
                    held.slices.remove(&key.name);
                });
            }
        }
    }

    /// Changes what is held of a Service, and forgets it when nothing is left.
    fn change_held(&mut self, key: &ObjectKey, change: impl FnOnce(&mut Held)) {
        let Some(held) = self.services.get_mut(key) else { return };
        change(held);
        if held.service.is_none() && held.slices.is_empty() {
            self.services.remove(key);
        }
        self.touched.insert(key.clone());
    }

    fn touch_namespace(&mut self, namespace: &str) {
        self.is_touched = true;
        let first = ObjectKey { namespace: namespace.into(), name: "".into() };
        let keys = self.services.range(first..).map(|(key, _)| key);
        let keys = keys.take_while(|key| *key.namespace == *namespace).cloned();
        self.touched.extend(keys);
    }

    /// Sweeps what a complete list did not bring.
    fn end_list(&mut self, kind: Kind) {
        let list = self.lists.entry(kind).or_default();
        let Some(seen) = list.seen.take() else { return };
        self.is_touched |= !list.was_complete;
        list.was_complete = true;
        for key in self.keys(kind).into_iter().filter(|key| !seen.contains(key)) {
            self.delete(kind, &key);
        }
    }

    fn keys(&self, kind: Kind) -> Vec<ObjectKey> {
        match kind {
            Kind::Namespace => {
                let key = |name: Box<str>| ObjectKey { namespace: "".into(), name };
                self.namespaces.iter().cloned().map(key).collect()
            }
            Kind::Service => {
                let with_service = self.services.iter().filter(|(_, held)| held.service.is_some());
                with_service.map(|(key, _)| key.clone()).collect()
            }
            Kind::Slice => self.owners.keys().cloned().collect(),
        }
    }

    /// Whether every kind has been listed at least once.
    pub fn is_synced(&self) -> bool {
        [Kind::Namespace, Kind::Service, Kind::Slice]
            .iter()
            .all(|kind| self.lists.get(kind).is_some_and(|list| list.was_complete))
    }

    /// The next Zone, if anything changed and every kind is known: a partial picture is never
    /// published. `now_unix_s` becomes the serial, which only grows.
    pub fn publish(&mut self, now_unix_s: u32) -> Option<Arc<Zone>> {
        if !self.is_synced() || self.touched.is_empty() && !self.is_touched {
            return None;
        }
        let mut is_changed = std::mem::take(&mut self.is_touched);
        for key in std::mem::take(&mut self.touched) {
            is_changed |= self.renew(&key);
        }
        if !is_changed {
            return None;
        }
        self.zone.is_synced = true;
        self.zone.generation += 1;
        self.zone.serial = now_unix_s.max(self.zone.serial.wrapping_add(1));
        Some(Arc::new(self.zone.clone()))
    }

    /// Builds the records of one Service anew. Answers whether they have changed.
    fn renew(&mut self, key: &ObjectKey) -> bool {
        let Some(zone_key) = schema::service_key(&key.name, &key.namespace) else { return false };
        let old = self.zone.services.get(&zone_key).cloned();
        let new = self.records(key).map(Arc::new);
        if old == new {
            return false;
        }
        self.renew_addresses(old.as_deref(), new.as_deref());
        match new {
            Some(new) => self.zone.services.insert(&zone_key, new),
            None => self.zone.services.remove(&zone_key),
        }
        true
    }

    fn records(&self, key: &ObjectKey) -> Option<ServiceRecords> {
        if !self.namespaces.contains(&key.namespace) {
            return None;
        }
        let held = self.services.get(key)?;
        ServiceRecords::build(held.service.as_ref()?, held.slices.values())
    }

    /// Moves the PTR names of a Service from its old addresses to its new ones.
    fn renew_addresses(&mut self, old: Option<&ServiceRecords>, new: Option<&ServiceRecords>) {
        let names = |records: Option<&ServiceRecords>| -> BTreeSet<PtrName> {
            records.into_iter().flat_map(ptr_names).collect()
        };
        let (old, new) = (names(old), names(new));
        for gone in old.difference(&new) {
            self.change_address(gone, |names, name| names.retain(|other| other != name));
        }
        for come in new.difference(&old) {
            self.change_address(come, |names, name| {
                if let Err(at) = names.binary_search(name) {
                    names.insert(at, name.clone());
                }
            });
        }
    }

    fn change_address(
        &mut self,
        ptr: &PtrName,
        change: impl FnOnce(&mut Vec<Box<[u8]>>, &Box<[u8]>),
    ) {
        let key = octets_of(&ptr.address);
        let held = self.zone.addresses.get(key.as_ref());
        let mut records: AddressRecords = held.map(|held| (**held).clone()).unwrap_or_default();
        let names = if ptr.is_service { &mut records.services } else { &mut records.endpoints };
        change(names, &ptr.name);
        if records.is_empty() {
            self.zone.addresses.remove(key.as_ref());
        } else {
            self.zone.addresses.insert(key.as_ref(), Arc::new(records));
        }
    }
}

/// One name that an address may be found by.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct PtrName {
    address: std::net::IpAddr,
    is_service: bool,
    name: Box<[u8]>,
}

fn ptr_names(records: &ServiceRecords) -> Vec<PtrName> {
    let own = records.cluster_ips().iter().map(|address| PtrName {
        address: *address,
        is_service: true,
        name: records.key.clone(),
    });
    let endpoint = |(name, address)| PtrName { address, is_service: false, name };
    own.chain(records.host_names().map(endpoint)).collect()
}

#[cfg(test)]
mod tests;

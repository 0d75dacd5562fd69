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
use std::net::IpAddr;
use std::sync::Arc;

use super::config::Scope;
use super::externals;
use super::hosts;
use super::object::{Change, Kind, Object, ObjectKey, Part, Service, Slice};
use super::records::Draft;
use super::schema;
use super::trie::{Leaf, Trie};
use super::zone::{POD_KEY_MAX, Zone, pod_key};
use crate::wire::serial;

mod kept;
mod lingering;
mod ptr;

pub use kept::{Kept, KeptSlice, Listed};
use lingering::Lingering;
use ptr::{PtrName, renew_addresses};

/// Everything known of the cluster, and the Zone that it makes.
pub struct Index {
    scope: Scope,
    namespaces: BTreeSet<Box<str>>,
    local: Side,
    imported: Side,
    /// The addresses of each Pod.
    pods: HashMap<ObjectKey, Box<[IpAddr]>>,
    lists: HashMap<Kind, List>,
    is_touched: bool,
    /// Whether a Zone may have the serial of the last one.
    keeps_serial: bool,
    zone: Zone,
}

/// The Services of the cluster, or those of the cluster set.
#[derive(Default)]
struct Side {
    services: BTreeMap<ObjectKey, Held>,
    /// The Service of each slice.
    owners: HashMap<ObjectKey, Box<str>>,
    touched: BTreeSet<ObjectKey>,
    /// Services whose last endpoint stays for a moment.
    lingering: Lingering,
}

/// A Service with its slices. Either may come first.
#[derive(Default)]
struct Held {
    service: Option<Service>,
    /// Sorted by name; nearly every Service has one or two.
    slices: Vec<HeldSlice>,
}

/// What of a slice is needed to build the records of its Service anew.
#[derive(PartialEq, Eq)]
struct HeldSlice {
    name: Box<str>,
    /// Where the endpoints of an imported Service are; else empty.
    cluster: Box<str>,
    parts: Box<[Part]>,
}

impl HeldSlice {
    fn parts(&self) -> impl Iterator<Item = hosts::Part<'_>> + Clone {
        self.parts.iter().map(|part| hosts::Part {
            endpoints: &part.endpoints,
            ports: &part.ports,
            cluster: &self.cluster,
        })
    }
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
    pub fn after(last: &Zone, scope: &Scope) -> Self {
        let (generation, serial) = (last.generation, last.serial);
        let zone = Zone { generation, serial, ..last.emptied() };
        Self {
            scope: scope.clone(),
            namespaces: BTreeSet::new(),
            local: Side::default(),
            imported: Side::default(),
            pods: HashMap::new(),
            lists: HashMap::new(),
            is_touched: false,
            keeps_serial: false,
            zone,
        }
    }

    /// Lets Zones of one second have one serial; whoever publishes asks for a newer one if somebody
    /// has a copy of the last ([`Index::renumber`]). Else a cluster that changes all the time would
    /// count ahead of the clock, and after a restart our serial would be old to every secondary.
    pub fn keep_serials(&mut self) {
        self.keeps_serial = true;
    }

    /// The last Zone, published again under a newer serial: that of the clock, unless it is ahead.
    pub fn renumber(&mut self, now_unix_s: u32) -> Arc<Zone> {
        self.zone.generation += 1;
        self.zone.serial = serial::newest(now_unix_s, self.zone.serial.wrapping_add(1));
        Arc::new(self.zone.clone())
    }

    /// The Zone that was published last.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The role of a Service, for the metrics of its slices.
    pub fn service(&self, key: &ObjectKey) -> Option<&Service> {
        self.local.services.get(key)?.service.as_ref()
    }

    /// Takes one change in. [`Index::publish`] makes it visible. Kinds that are not watched count
    /// for nothing.
    pub fn take(&mut self, change: Change) {
        let kind = match &change {
            Change::Apply(object) => object.kind(),
            Change::Keep(kind, _) | Change::Delete(kind, _) => *kind,
            Change::ListBegin(kind) | Change::ListEnd(kind) | Change::ListGiveUp(kind) => *kind,
        };
        if !self.scope.watches(kind) {
            return;
        }
        match change {
            Change::Apply(object) => self.apply(object),
            Change::Keep(kind, key) => self.see(kind, key),
            Change::Delete(kind, key) => self.delete(kind, &key),
            Change::ListBegin(kind) => {
                self.lists.entry(kind).or_default().seen = Some(HashSet::new())
            }
            Change::ListEnd(kind) => self.end_list(kind),
            Change::ListGiveUp(kind) => self.lists.entry(kind).or_default().seen = None,
        }
    }

    fn apply(&mut self, object: Object) {
        self.see(object.kind(), object.key());
        match object {
            Object::Namespace(name) => self.apply_namespace(name),
            Object::Service(service) => self.local.apply(service),
            Object::Import(service) => self.imported.apply(service),
            Object::Slice(slice) => self.apply_slice(slice),
            Object::Pod(pod) => self.change_pod(pod.key, pod.addresses),
        }
    }

    /// Notes that a list under way has an object, so that it is not swept.
    fn see(&mut self, kind: Kind, key: ObjectKey) {
        if let Some(seen) = self.lists.get_mut(&kind).and_then(|list| list.seen.as_mut()) {
            seen.insert(key);
        }
    }

    fn apply_namespace(&mut self, name: Box<str>) {
        let exposed = &self.scope.namespaces;
        let is_exposed = exposed.is_empty() || exposed.iter().any(|it| **it == *name);
        if is_exposed && self.namespaces.insert(name.clone()) {
            if let Some(label) = schema::label_key(&name) {
                self.zone.namespaces.insert(&label, (), b"");
            }
            self.touch_namespace(&name);
        }
    }

    fn apply_slice(&mut self, slice: Slice) {
        let Slice { key, service, import, parts, .. } = slice;
        let import = import.filter(|_| self.scope.imports);
        let (imported, cluster) = import.map(|it| (it.service, it.cluster)).unzip();
        let imported = imported.map(|service| {
            let cluster = cluster.unwrap_or_default();
            (service, HeldSlice { name: key.name.clone(), cluster, parts: parts.clone() })
        });
        let local = service.map(|service| {
            (service, HeldSlice { name: key.name.clone(), cluster: "".into(), parts })
        });
        self.local.apply_slice(&key, local);
        self.imported.apply_slice(&key, imported);
    }

    /// Gives a Pod these addresses, or none.
    fn change_pod(&mut self, key: ObjectKey, addresses: Box<[IpAddr]>) {
        let Some(namespace) = schema::label_key(&key.namespace) else { return };
        let old = self.pods.remove(&key).unwrap_or_default();
        if old != addresses {
            addresses.iter().for_each(|address| self.count_pod(&namespace, address, 1));
            old.iter().for_each(|address| self.count_pod(&namespace, address, -1));
            self.is_touched = true;
        }
        if !addresses.is_empty() {
            self.pods.insert(key, addresses);
        }
    }

    /// Counts the Pods of a Namespace that have an address: those in the network of the host share
    /// it.
    fn count_pod(&mut self, namespace: &[u8], address: &IpAddr, change: i32) {
        let mut room = [0; POD_KEY_MAX];
        let key = pod_key(namespace, address, &mut room);
        let count = self.zone.pods.get(key).map_or(0, |leaf| *leaf.value());
        match count.saturating_add_signed(change) {
            0 => self.zone.pods.remove(key),
            count => self.zone.pods.insert(key, count, b""),
        }
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
            Kind::Service => self.local.delete(key),
            Kind::Import => self.imported.delete(key),
            Kind::Slice => {
                self.local.apply_slice(key, None);
                self.imported.apply_slice(key, None);
            }
            Kind::Pod => self.change_pod(key.clone(), Box::default()),
        }
    }

    fn touch_namespace(&mut self, namespace: &str) {
        self.is_touched = true;
        self.local.touch_namespace(namespace);
        self.imported.touch_namespace(namespace);
    }

    /// Sweeps what a complete list did not bring.
    fn end_list(&mut self, kind: Kind) {
        let list = self.lists.entry(kind).or_default();
        let Some(seen) = list.seen.take() else { return };
        self.is_touched |= !list.was_complete;
        list.was_complete = true;
        match kind {
            Kind::Pod => self.zone.knows_pods = true,
            Kind::Import => self.zone.knows_imports = true,
            // A list is no change in two parts.
            Kind::Slice => self.sides().into_iter().for_each(|side| side.lingering.end()),
            Kind::Namespace | Kind::Service => {}
        }
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
            Kind::Service => self.local.known(),
            Kind::Import => self.imported.known(),
            Kind::Slice => {
                let imported = self.imported.owners.keys();
                let only_imported = imported.filter(|key| !self.local.owners.contains_key(*key));
                self.local.owners.keys().chain(only_imported).cloned().collect()
            }
            Kind::Pod => self.pods.keys().cloned().collect(),
        }
    }

    /// Whether every kind that names of Services depend on has been listed at least once. Pods and
    /// imports come when they come: a missing permission for them costs only their names.
    pub fn is_synced(&self) -> bool {
        let needed = Kind::OF_SERVICES.into_iter();
        needed
            .filter(|kind| self.scope.watches(*kind))
            .all(|kind| self.lists.get(&kind).is_some_and(|list| list.was_complete))
    }

    /// The next Zone, if anything changed and every kind is known: a partial picture is never
    /// published. `now_unix_s` becomes the serial, which only grows (RFC 1982).
    pub fn publish(&mut self, now_unix_s: u32) -> Option<Arc<Zone>> {
        self.sides().into_iter().for_each(Side::touch_over);
        let is_touched = self.is_touched || self.local.is_touched() || self.imported.is_touched();
        if !self.is_synced() || !is_touched {
            // A list that changed nothing is over, too.
            self.sides().into_iter().for_each(|side| side.lingering.begin());
            return None;
        }
        let mut is_changed = std::mem::take(&mut self.is_touched);
        for key in std::mem::take(&mut self.local.touched) {
            is_changed |= self.renew(&key) | self.renew_external(&key);
        }
        for key in std::mem::take(&mut self.imported.touched) {
            is_changed |= self.renew_import(&key);
        }
        self.sides().into_iter().for_each(|side| side.lingering.begin());
        if !is_changed {
            return None;
        }
        self.zone.is_synced = true;
        self.zone.generation += 1;
        let step = u32::from(!self.keeps_serial);
        self.zone.serial = serial::newest(now_unix_s, self.zone.serial.wrapping_add(step));
        Some(Arc::new(self.zone.clone()))
    }

    /// Builds the records of one Service anew. Answers whether they have changed.
    fn renew(&mut self, key: &ObjectKey) -> bool {
        let Some(zone_key) = schema::service_key(&key.name, &key.namespace) else { return false };
        let new = self.draft(&self.local, key).map(|draft| (draft.head, draft.addresses));
        if self.local.lingering.keeps(key, self.zone.services.get(&zone_key), new.as_ref()) {
            return false;
        }
        let Some((old, new)) = replace(&mut self.zone.services, &zone_key, new) else {
            return false;
        };
        let (gone, come) = (PtrName::all(old.as_ref()), PtrName::all(new.as_ref()));
        renew_addresses(&mut self.zone.addresses, &zone_key, &gone, &come);
        true
    }

    /// The same for an imported Service, which has no PTR names.
    fn renew_import(&mut self, key: &ObjectKey) -> bool {
        let Some(zone_key) = schema::service_key(&key.name, &key.namespace) else { return false };
        let new = self.draft(&self.imported, key).map(|draft| (draft.head, draft.addresses));
        if self.imported.lingering.keeps(key, self.zone.imports.get(&zone_key), new.as_ref()) {
            return false;
        }
        replace(&mut self.zone.imports, &zone_key, new).is_some()
    }

    /// The same for what it is outside of the cluster.
    fn renew_external(&mut self, key: &ObjectKey) -> bool {
        if !self.scope.kept.externals {
            return false;
        }
        let Some(zone_key) = schema::service_key(&key.name, &key.namespace) else { return false };
        let held = self.local.services.get(key);
        let held = held.filter(|_| self.namespaces.contains(&key.namespace));
        let new = held.and_then(|held| externals::Draft::of(held.service.as_ref()?));
        let new = new.map(|draft| (draft.head, draft.addresses));
        let Some((old, new)) = replace(&mut self.zone.externals, &zone_key, new) else {
            return false;
        };
        let (gone, come) = (PtrName::outside(old.as_ref()), PtrName::outside(new.as_ref()));
        renew_addresses(&mut self.zone.external_addresses, &zone_key, &gone, &come);
        true
    }

    /// The Services of the cluster, and those of the cluster set.
    fn sides(&mut self) -> [&mut Side; 2] {
        [&mut self.local, &mut self.imported]
    }

    fn draft(&self, side: &Side, key: &ObjectKey) -> Option<Draft> {
        if !self.namespaces.contains(&key.namespace) {
            return None;
        }
        let held = side.services.get(key)?;
        Draft::of(held.service.as_ref()?, held.slices.iter().flat_map(HeldSlice::parts))
    }
}

/// The entry of a key before and after a change.
type OldAndNew<V> = (Option<Leaf<V>>, Option<Leaf<V>>);

/// Puts records in the place of those of `key`. Answers the old and the new ones, unless they are
/// the same.
fn replace<V: PartialEq>(
    trie: &mut Trie<V>,
    key: &[u8],
    new: Option<(V, Vec<u8>)>,
) -> Option<OldAndNew<V>> {
    let old = trie.get(key).cloned();
    let is_same = match (&old, &new) {
        (Some(old), Some((value, tail))) => old.value() == value && old.tail() == &**tail,
        (None, None) => true,
        _ => false,
    };
    if is_same {
        return None;
    }
    match new {
        Some((value, tail)) => trie.insert(key, value, &tail),
        None => trie.remove(key),
    }
    Some((old, trie.get(key).cloned()))
}

impl Side {
    /// Takes a Service in.
    fn apply(&mut self, service: Service) {
        let key = service.key.clone();
        let held = self.services.entry(key.clone()).or_default();
        // A full list brings what is known already; that costs no records.
        if held.service.as_ref() != Some(&service) {
            held.service = Some(service);
            self.touched.insert(key);
        }
    }

    /// Gives a slice to its Service, and takes it from the one that it belonged to before.
    fn apply_slice(&mut self, key: &ObjectKey, slice: Option<(Box<str>, HeldSlice)>) {
        let owner = slice.as_ref().map(|(service, _)| service);
        if let Some(old) = self.owners.get(key)
            && Some(old) != owner
        {
            let old = ObjectKey { namespace: key.namespace.clone(), name: old.clone() };
            self.owners.remove(key);
            self.change(&old, |held| held.slices.retain(|held| held.name != key.name));
        }
        let Some((service, slice)) = slice else { return };
        let owner = ObjectKey { namespace: key.namespace.clone(), name: service.clone() };
        self.owners.entry(key.clone()).or_insert(service);
        if self.services.entry(owner.clone()).or_default().hold(slice) {
            self.touched.insert(owner);
        }
    }

    /// Takes a Service out. What comes in its place is another one.
    fn delete(&mut self, key: &ObjectKey) {
        self.lingering.delete(key);
        self.change(key, |held| held.service = None);
    }

    /// Has the Services renewed whose last endpoint has stayed for its time.
    fn touch_over(&mut self) {
        self.touched.extend(self.lingering.over());
    }

    /// Changes what is held of a Service, and forgets it when nothing is left.
    fn change(&mut self, key: &ObjectKey, change: impl FnOnce(&mut Held)) {
        let Some(held) = self.services.get_mut(key) else { return };
        change(held);
        if held.service.is_none() && held.slices.is_empty() {
            self.services.remove(key);
        }
        self.touched.insert(key.clone());
    }

    fn touch_namespace(&mut self, namespace: &str) {
        let first = ObjectKey { namespace: namespace.into(), name: "".into() };
        let keys = self.services.range(first..).map(|(key, _)| key);
        let keys = keys.take_while(|key| *key.namespace == *namespace).cloned();
        self.touched.extend(keys);
    }

    fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// The Services that are there, and not only their slices.
    fn known(&self) -> Vec<ObjectKey> {
        let with_service = self.services.iter().filter(|(_, held)| held.service.is_some());
        with_service.map(|(key, _)| key.clone()).collect()
    }
}

impl Held {
    /// Takes a slice in. Answers whether it changes anything.
    fn hold(&mut self, slice: HeldSlice) -> bool {
        match self.slices.binary_search_by(|held| held.name.cmp(&slice.name)) {
            Ok(at) if self.slices[at] == slice => return false,
            Ok(at) => self.slices[at] = slice,
            Err(at) => {
                self.slices.reserve_exact(1);
                self.slices.insert(at, slice);
            }
        }
        true
    }
}

#[cfg(test)]
pub(super) mod tests;

//! The objects, the version of each, and the events that made them: what etcd is to an API server.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::objects::{kind_of, namespace, resource_of};

/// Events that are kept of each resource; older ones count as compacted.
const EVENTS_MAX: usize = 100_000;
/// The version of an empty store. Not 0, which has a meaning of its own.
const FIRST_VERSION: u64 = 1000;

/// Resource, Namespace (empty for Namespaces), name.
pub type Key = (&'static str, String, String);

/// Who is told.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// The server under test, which may be lied to.
    Tested,
    /// The oracle, which never is.
    Oracle,
}

/// An event, as the line of a watch.
#[derive(Clone, Debug)]
pub struct Event {
    pub version: u64,
    pub line: Arc<str>,
}

/// The next events of a resource are told wrongly.
#[derive(Clone, Copy, Default, Debug)]
pub struct Lies {
    /// So many are not told.
    pub omit: usize,
    /// So many are told twice.
    pub repeat: usize,
    /// So many are told after the one that follows them.
    pub swap: usize,
}

/// All objects.
#[derive(Clone)]
pub struct Store {
    pub version: u64,
    objects: BTreeMap<Key, (u64, Arc<str>)>,
    events: HashMap<(Side, &'static str), History>,
    pub lies: HashMap<&'static str, Lies>,
    uids: u64,
}

/// The events of one resource, numbered without a gap.
#[derive(Clone, Default)]
struct History {
    /// Number of the first one that is kept.
    first: u64,
    events: VecDeque<Event>,
    /// Changes up to this version are forgotten.
    compacted: u64,
    /// Told after the next one.
    held_back: Option<Event>,
}

impl Store {
    /// A store with the Namespaces that every cluster has.
    pub fn new() -> Self {
        let mut store = Self {
            version: FIRST_VERSION,
            objects: BTreeMap::new(),
            events: HashMap::new(),
            lies: HashMap::new(),
            uids: 0,
        };
        store.apply(namespace("default"));
        store.apply(namespace("kube-system"));
        store
    }

    /// Makes or replaces an object, and its Namespace where that is missing.
    pub fn apply(&mut self, mut object: Value) {
        let key = key(&object);
        let home = namespace(&key.1);
        if !key.1.is_empty() && !self.objects.contains_key(&self::key(&home)) {
            self.apply(home);
        }
        let before = self.objects.get(&key).map(|(_, text)| uid(text));
        let event = if before.is_some() { "MODIFIED" } else { "ADDED" };
        let uid = before.unwrap_or_else(|| self.next_uid());
        self.version += 1;
        let metadata = &mut object["metadata"];
        if metadata["uid"].is_null() {
            metadata["uid"] = uid.into();
        }
        metadata["resourceVersion"] = self.version.to_string().into();
        let text: Arc<str> = object.to_string().into();
        self.objects.insert(key.clone(), (self.version, Arc::clone(&text)));
        self.tell(key.0, line(event, &text));
    }

    /// Deletes an object that is there.
    pub fn delete(&mut self, key: &Key) {
        let (_, text) = self.objects.remove(key).unwrap_or_else(|| panic!("there is no {key:?}"));
        self.version += 1;
        let mut object: Value = serde_json::from_str(&text).unwrap();
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.tell(key.0, line("DELETED", &object.to_string()));
    }

    /// Deletes all that is in a Namespace, and then itself, as its controller does.
    pub fn delete_namespace(&mut self, name: &str) {
        let keys: Vec<Key> = self.objects.keys().filter(|key| key.1 == name).cloned().collect();
        keys.iter().for_each(|key| self.delete(key));
        self.delete(&("namespaces", String::new(), name.to_owned()));
    }

    /// Whether there is such an object.
    pub fn has(&self, key: &Key) -> bool {
        self.objects.contains_key(key)
    }

    /// One object.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<str>> {
        let mut objects = self.list(resource);
        objects.find(|(key, _)| key.1 == namespace && key.2 == name).map(|(_, text)| text.clone())
    }

    /// All objects of a resource, in order.
    pub fn list<'s>(&'s self, resource: &'s str) -> impl Iterator<Item = (&'s Key, &'s Arc<str>)> {
        let of = self.objects.iter().filter(move |(key, _)| key.0 == resource);
        of.map(|(key, (_, text))| (key, text))
    }

    /// Forgets how things came to be as they are: whoever resumes from before must list.
    pub fn compact(&mut self) {
        let version = self.version;
        for resource in ["namespaces", "services", "endpointslices", "pods", "serviceimports"] {
            let history = self.events.entry((Side::Tested, resource)).or_default();
            history.first += history.events.len() as u64;
            history.events.clear();
            history.compacted = version;
        }
    }

    /// The number of the event that is the first after `version`; `None` if it is forgotten.
    pub fn position(&self, of: (Side, &'static str), version: u64) -> Option<u64> {
        let Some(history) = self.events.get(&of) else { return Some(0) };
        if version < history.compacted {
            return None;
        }
        // Lies may have put them out of order.
        let at = history.events.iter().rposition(|event| event.version <= version);
        Some(history.first + at.map_or(0, |at| at as u64 + 1))
    }

    /// The events from a position on; `None` if some are forgotten.
    pub fn since(&self, of: (Side, &'static str), position: u64) -> Option<Vec<Event>> {
        let Some(history) = self.events.get(&of) else { return Some(Vec::new()) };
        let from = position.checked_sub(history.first)?;
        Some(history.events.iter().skip(from as usize).cloned().collect())
    }

    /// The number of the event to come.
    pub fn end(&self, of: (Side, &'static str)) -> u64 {
        self.events.get(&of).map_or(0, |it| it.first + it.events.len() as u64)
    }

    /// Writes a line into the events of a resource, as it is.
    pub fn tell_as_is(&mut self, resource: &'static str, line: &str) {
        let event = Event { version: self.version, line: line.into() };
        self.events.entry((Side::Tested, resource)).or_default().push(event);
    }

    /// Tells an event, or lies about it.
    fn tell(&mut self, resource: &'static str, line: Arc<str>) {
        let event = Event { version: self.version, line };
        self.events.entry((Side::Oracle, resource)).or_default().push(event.clone());
        let history = self.events.entry((Side::Tested, resource)).or_default();
        let lies = self.lies.entry(resource).or_default();
        if take_one(&mut lies.omit) {
            return;
        }
        if history.held_back.is_none() && take_one(&mut lies.swap) {
            history.held_back = Some(event);
            return;
        }
        if take_one(&mut lies.repeat) {
            history.push(event.clone());
        }
        history.push(event);
        if let Some(event) = history.held_back.take() {
            history.push(event);
        }
    }

    fn next_uid(&mut self) -> String {
        self.uids += 1;
        format!("00000000-0000-4000-8000-{:012}", self.uids)
    }
}

impl History {
    fn push(&mut self, event: Event) {
        self.events.push_back(event);
        if self.events.len() > EVENTS_MAX
            && let Some(oldest) = self.events.pop_front()
        {
            self.first += 1;
            self.compacted = self.compacted.max(oldest.version);
        }
    }
}

/// Takes one of so many.
fn take_one(count: &mut usize) -> bool {
    let is_there = *count > 0;
    *count = count.saturating_sub(1);
    is_there
}

/// Where an object is kept.
pub fn key(object: &Value) -> Key {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (resource, _) = resource_of(&text(&object["kind"]));
    let metadata = &object["metadata"];
    (resource, text(&metadata["namespace"]), text(&metadata["name"]))
}

/// An event as a line.
pub fn line(event: &str, object: &str) -> Arc<str> {
    format!("{{\"type\":\"{event}\",\"object\":{object}}}\n").into()
}

/// A bookmark as a line.
pub fn bookmark(resource: &str, version: u64, ends_list: bool) -> Arc<str> {
    let (kind, api_version) = kind_of(resource);
    let mut object = json!({"kind": kind, "apiVersion": api_version,
        "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null}});
    if ends_list {
        object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    line("BOOKMARK", &object.to_string())
}

fn uid(text: &str) -> String {
    let object: Value = serde_json::from_str(text).unwrap();
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

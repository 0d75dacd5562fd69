//! What does the stand-in API server hold? All objects as octets, the changes that a watch may
//! resume from, and the open watches.
//!
//! One lock covers a change from its version to the queues of the watches, so that each gets all
//! changes in order. A watch that does not keep up is ended, as a real API server does.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::objects::{Cluster, Slice};
use super::{json, protobuf};

/// The kinds that are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Kind {
    Namespace,
    Service,
    Slice,
    /// There are none; CoreDNS asks for them with `pods verified`.
    Pod,
}

/// A change of one EndpointSlice.
#[derive(Clone, Copy, Debug)]
pub enum Edit {
    /// The endpoint becomes ready, or not ready.
    Flip { slice: usize, endpoint: usize },
    /// The endpoint of a probe gets an address that it did not have before.
    Move { probe: usize },
}

/// What an edit did, and when it went to the watches.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Edited {
    pub version: u64,
    /// The address of the endpoint that was changed.
    pub address: std::net::Ipv4Addr,
    /// µs since the epoch.
    pub at_us: u64,
}

/// All that there is.
pub struct Store {
    pub cluster: Cluster,
    inner: Mutex<Inner>,
}

struct Inner {
    version: u64,
    /// Versions below are forgotten.
    floor: u64,
    slices: Vec<Slice>,
    shelves: [Shelf; 4],
    moves: u32,
}

/// One object, as the octets of both encodings.
#[derive(Clone)]
pub struct Object {
    /// From `"metadata"` to the closing brace.
    pub json: Bytes,
    /// Made when somebody wants it.
    protobuf: Arc<OnceLock<Bytes>>,
}

/// The objects of one kind.
#[derive(Default)]
struct Shelf {
    objects: Vec<Object>,
    /// Lines of a watch, by version.
    history: VecDeque<(u64, Bytes)>,
    watches: Vec<mpsc::Sender<Bytes>>,
}

/// What a list or a watch begins with.
pub struct Opened {
    pub version: u64,
    pub objects: Vec<Object>,
    /// Lines of what happened since.
    pub missed: Vec<Bytes>,
    pub events: mpsc::Receiver<Bytes>,
}

/// The version that was asked for is forgotten.
pub struct Gone;

/// The version of the first list: as long as those of real clusters that have lived for years.
const FIRST_VERSION: u64 = 1_000_000_000;
/// Changes per kind that a watch may resume from.
const HISTORY_MAX: usize = 20_000;
/// Changes that may wait for one watch.
const QUEUE_MAX: usize = 20_000;

impl Kind {
    pub const ALL: [Self; 4] = [Self::Namespace, Self::Service, Self::Slice, Self::Pod];

    /// The path of the resource.
    pub fn path(self) -> &'static str {
        match self {
            Self::Namespace => "/api/v1/namespaces",
            Self::Service => "/api/v1/services",
            Self::Slice => "/apis/discovery.k8s.io/v1/endpointslices",
            Self::Pod => "/api/v1/pods",
        }
    }

    /// The name and the API version of the kind.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Namespace => ("Namespace", "v1"),
            Self::Service => ("Service", "v1"),
            Self::Slice => ("EndpointSlice", "discovery.k8s.io/v1"),
            Self::Pod => ("Pod", "v1"),
        }
    }

    /// What stands before an object in a line of a watch.
    pub fn line_head(self, event: &str) -> String {
        let (kind, version) = self.names();
        format!(r#"{{"type":"{event}","object":{{"kind":"{kind}","apiVersion":"{version}","#)
    }
}

impl Object {
    fn new(json: Bytes) -> Self {
        Self { json, protobuf: Arc::default() }
    }

    /// The octets of the object as protobuf, without an envelope.
    pub fn protobuf(&self, kind: Kind) -> &Bytes {
        let whole = || [b"{", &self.json[..]].concat();
        self.protobuf.get_or_init(|| protobuf::object(kind, &whole()).into())
    }
}

impl Store {
    /// All objects of a cluster, at the first version.
    pub fn new(cluster: Cluster) -> Self {
        let slices = cluster.slices();
        let mut inner = Inner {
            version: FIRST_VERSION,
            floor: FIRST_VERSION,
            shelves: Default::default(),
            moves: cluster.probes as u32,
            slices,
        };
        inner.fill(&cluster);
        Self { cluster, inner: Mutex::new(inner) }
    }

    /// Makes the protobuf of all objects, so that the first who wants it does not wait.
    pub fn prepare(&self) {
        for kind in Kind::ALL {
            let objects = self.inner.lock().shelves[kind as usize].objects.clone();
            objects.iter().for_each(|object| {
                object.protobuf(kind);
            });
        }
    }

    /// The version of the latest change.
    pub fn version(&self) -> u64 {
        self.inner.lock().version
    }

    /// How many slices there are.
    pub fn slice_count(&self) -> usize {
        self.inner.lock().slices.len()
    }

    /// Takes all objects of a kind, and all changes from here on.
    pub fn open(&self, kind: Kind) -> Opened {
        let mut inner = self.inner.lock();
        let events = inner.shelves[kind as usize].watch();
        let objects = inner.shelves[kind as usize].objects.clone();
        Opened { version: inner.version, objects, missed: Vec::new(), events }
    }

    /// Takes the changes after a version: what has happened, and what will.
    pub fn resume(&self, kind: Kind, after: u64) -> Result<Opened, Gone> {
        let mut inner = self.inner.lock();
        if after < inner.floor {
            return Err(Gone);
        }
        let shelf = &mut inner.shelves[kind as usize];
        let missed = shelf.history.iter().filter(|(version, _)| *version > after);
        let missed = missed.map(|(_, line)| line.clone()).collect();
        let events = shelf.watch();
        Ok(Opened { version: inner.version, objects: Vec::new(), missed, events })
    }

    /// Objects `from..from + limit` of a kind, the version, and how many are left.
    pub fn page(&self, kind: Kind, from: usize, limit: usize) -> (Vec<Object>, u64, usize) {
        let inner = self.inner.lock();
        let objects = &inner.shelves[kind as usize].objects;
        let from = from.min(objects.len());
        let end = objects.len().min(from.saturating_add(limit));
        (objects[from..end].to_vec(), inner.version, objects.len() - end)
    }

    /// Changes a slice and tells all watches.
    pub fn edit(&self, edit: Edit) -> Edited {
        let mut inner = self.inner.lock();
        let (at, place) = inner.change(&self.cluster, edit);
        let Inner { version, floor, slices, shelves, .. } = &mut *inner;
        *version += 1;
        let shelf = &mut shelves[Kind::Slice as usize];
        let mut line = Kind::Slice.line_head("MODIFIED");
        let head = line.len();
        let slice = &slices[at];
        if let Edit::Flip { .. } = edit {
            line.push_str(str::from_utf8(&shelf.objects[at].json).expect("it was text"));
            json::overwrite_slice(&mut line, slice, place, *version);
        } else {
            json::write_slice(&self.cluster, &mut line, slice, *version);
        }
        line.push_str("}\n");
        let line = Bytes::from(line);
        shelf.objects[at] = Object::new(line.slice(head..line.len() - 2));
        let at_us = now_us();
        if let Some(forgotten) = shelf.tell(*version, line) {
            *floor = forgotten;
        }
        Edited { version: *version, address: slice.endpoints[place].address, at_us }
    }

    /// Forgets all changes and ends all watches with `last`, so that everybody lists anew.
    pub fn expire(&self, last: &Bytes) {
        let mut inner = self.inner.lock();
        inner.version += 1;
        inner.floor = inner.version;
        for shelf in &mut inner.shelves {
            shelf.history.clear();
            for watch in shelf.watches.drain(..) {
                let _ = watch.try_send(last.clone());
            }
        }
    }
}

impl Inner {
    fn fill(&mut self, cluster: &Cluster) {
        let version = self.version;
        let object = |write: &dyn Fn(&mut String)| {
            let mut text = String::new();
            write(&mut text);
            Object::new(text.into())
        };
        let namespaces = (0..cluster.namespaces)
            .map(|at| object(&|out| json::write_namespace(out, at, version)));
        let services = (0..cluster.all_services())
            .map(|n| object(&|out| json::write_service(cluster, out, n, version)));
        let slices = self
            .slices
            .iter()
            .map(|slice| object(&|out| json::write_slice(cluster, out, slice, version)));
        self.shelves[Kind::Namespace as usize].objects = namespaces.collect();
        self.shelves[Kind::Service as usize].objects = services.collect();
        self.shelves[Kind::Slice as usize].objects = slices.collect();
    }

    /// Changes the model; answers which slice it was, and which of its endpoints.
    fn change(&mut self, cluster: &Cluster, edit: Edit) -> (usize, usize) {
        let at = match edit {
            Edit::Flip { slice, .. } => slice,
            Edit::Move { probe } => self.slices.len() - cluster.probes + probe,
        };
        let slice = &mut self.slices[at];
        slice.changed = Some(Timestamp::now());
        let place = match edit {
            Edit::Flip { endpoint, .. } => {
                let place = endpoint % slice.endpoints.len();
                slice.endpoints[place].is_ready ^= true;
                place
            }
            Edit::Move { .. } => {
                slice.endpoints[0].address = Cluster::probe_address(self.moves);
                self.moves += 1;
                0
            }
        };
        (at, place)
    }
}

impl Shelf {
    fn watch(&mut self) -> mpsc::Receiver<Bytes> {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        self.watches.push(sender);
        receiver
    }

    /// Gives a line to all watches; the version that is forgotten for it, if one is.
    fn tell(&mut self, version: u64, line: Bytes) -> Option<u64> {
        self.watches.retain(|watch| watch.try_send(line.clone()).is_ok());
        self.history.push_back((version, line));
        let oldest = (self.history.len() > HISTORY_MAX).then(|| self.history.pop_front());
        oldest.flatten().map(|(version, _)| version)
    }
}

/// The time that all processes of this machine share, in µs since the epoch.
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_micros() as u64
}

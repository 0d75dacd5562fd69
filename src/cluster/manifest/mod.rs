//! Files of manifests as a source of objects: for clusters without an API server, for tests, and
//! for what the program brings along.
//!
//! Files are looked at every second. When one has changed, everything is sent again as full lists,
//! which costs nothing at the sizes that files have. A file that cannot be read any more, or is
//! half written, keeps its last good objects; a folder that is gone keeps those of its files.

mod files;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cluster::config::Scope;
use crate::cluster::feed::{Fault, Feed};
use crate::cluster::flaws::Flaws;
use crate::cluster::manifest::files::{Stamp, scan};
use crate::cluster::manifest::text::{Broken, parse};
use crate::cluster::object::{Kind, Object};
use crate::cluster::outlet::{Hangup, Outlet};

/// Time between two looks at the files.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// Sends the objects of `paths`, and again after each change, until nobody receives any more.
pub(super) async fn watch_files(paths: Vec<PathBuf>, outlet: Outlet, feed: Arc<Feed>) {
    let mut manifests = Manifests::new(paths, outlet.scope().clone(), Arc::clone(&feed));
    loop {
        // Disks may hang; the threads of the runtime must not.
        let polled = tokio::task::spawn_blocking(move || {
            let changed = manifests.poll();
            (manifests, changed)
        });
        // It ended early: the runtime shuts down, or it panicked and the cluster begins anew.
        let Ok((back, changed)) = polled.await else { return };
        manifests = back;
        if let Some(objects) = changed
            && send(objects, &outlet, &feed).await.is_err()
        {
            return;
        }
        tokio::select! {
            () = sleep(POLL_EVERY) => {}
            () = outlet.closed() => return,
        }
    }
}

/// Sends the objects of texts that the program brings along, once.
pub(super) async fn send_embedded(
    texts: &'static [(&'static str, &'static str)],
    outlet: Outlet,
    feed: Arc<Feed>,
) {
    let mut manifests = Manifests::new(Vec::new(), outlet.scope().clone(), Arc::clone(&feed));
    let mut objects = Vec::new();
    for (name, text) in texts {
        objects.extend(manifests.read(Path::new(name), text).unwrap_or_default());
    }
    // When nobody receives any more there is nobody to tell either.
    let _ = send(objects, &outlet, &feed).await;
    // What cannot change is as good as followed.
    Kind::ALL.iter().for_each(|kind| feed.kind(*kind).set_following(true));
    // A source that ends is one that broke; this one has only nothing more to say.
    outlet.closed().await;
}

/// Sends everything as full lists. A Namespace exists too when only its objects are given.
async fn send(objects: Vec<Object>, outlet: &Outlet, feed: &Feed) -> Result<(), Hangup> {
    let scope = outlet.scope();
    let mut by_kind: BTreeMap<Kind, Vec<Object>> = BTreeMap::new();
    for object in objects {
        if scope.namespace_labels.is_none() {
            let namespace = Object::Namespace(object.namespace().into());
            by_kind.entry(Kind::Namespace).or_default().push(namespace);
        }
        by_kind.entry(object.kind()).or_default().push(object);
    }
    for kind in scope.kinds() {
        send_list(kind, by_kind.remove(&kind).unwrap_or_default(), outlet, feed).await?;
    }
    Ok(())
}

/// Sends one kind as a full list.
async fn send_list(
    kind: Kind,
    objects: impl IntoIterator<Item = Object>,
    outlet: &Outlet,
    feed: &Feed,
) -> Result<(), Hangup> {
    outlet.begin(kind).await?;
    for object in objects {
        outlet.apply(object).await?;
    }
    outlet.end(kind).await?;
    feed.kind(kind).listed();
    feed.hear(kind, Instant::now());
    Ok(())
}

/// The files and what was last read from them.
struct Manifests {
    roots: Vec<PathBuf>,
    scope: Scope,
    feed: Arc<Feed>,
    files: BTreeMap<PathBuf, File>,
    /// Paths whose fault was told and still lasts.
    told: BTreeSet<PathBuf>,
    flaws: Flaws,
    has_polled: bool,
}

/// One file.
struct File {
    stamp: Stamp,
    /// A newer stamp that was seen once.
    coming: Option<Stamp>,
    /// The last good ones.
    objects: Vec<Object>,
}

impl Manifests {
    /// Begins without having looked yet.
    fn new(roots: Vec<PathBuf>, scope: Scope, feed: Arc<Feed>) -> Self {
        Self {
            roots,
            scope,
            feed,
            files: BTreeMap::new(),
            told: BTreeSet::new(),
            flaws: Flaws::default(),
            has_polled: false,
        }
    }

    /// Looks at the files; all objects if there was a change, or if this is the first look.
    fn poll(&mut self) -> Option<Vec<Object>> {
        let scan = scan(&self.roots);
        self.tell_missing(&scan.missing);
        let known = self.files.len();
        let is_kept = |path: &Path| scan.missing.keys().any(|gone| path.starts_with(gone));
        self.files.retain(|path, _| scan.files.contains_key(path) || is_kept(path));
        let mut is_changed = !self.has_polled || self.files.len() != known;
        for (path, stamp) in scan.files {
            is_changed |= self.refresh(path, stamp);
        }
        self.has_polled = true;
        self.note_freshness(&scan.missing);
        is_changed.then(|| self.collect())
    }

    /// Reads a file if its stamp changed; true when its objects did.
    fn refresh(&mut self, path: PathBuf, stamp: Stamp) -> bool {
        let had_objects = match self.files.get_mut(&path) {
            Some(file) if file.stamp == stamp => return false,
            // Somebody may be writing still: what is there counts when it has stayed for a look.
            Some(file) if file.coming != Some(stamp) => {
                file.coming = Some(stamp);
                return false;
            }
            Some(file) => !file.objects.is_empty(),
            None => false,
        };
        let read = match files::read(&path) {
            // `kubectl get … > FILE` empties the file before it asks.
            Ok(text) if had_objects && text.trim().is_empty() => {
                self.tell_broken(&path, &Broken { line: None, reason: "it is empty".into() })
            }
            Ok(text) => self.read(&path, &text),
            Err(reason) => self.tell_broken(&path, &Broken { line: None, reason }),
        };
        let new = File { stamp, coming: None, objects: Vec::new() };
        let file = self.files.entry(path).or_insert(new);
        file.stamp = stamp;
        let Some(objects) = read else { return false };
        let is_changed = objects != file.objects;
        file.objects = objects;
        is_changed
    }

    /// Reads a text, counts and tells what is wrong in it; `None` when it is broken as a whole.
    fn read(&mut self, path: &Path, text: &str) -> Option<Vec<Object>> {
        let parsed = match parse(path, text, &self.scope) {
            Ok(parsed) => parsed,
            Err(broken) => return self.tell_broken(path, &broken),
        };
        for flaw in &parsed.flaws {
            self.feed.kind(flaw.kind).skipped.add(1);
            self.flaws.tell(flaw);
        }
        let slices = self.feed.kind(Kind::Slice);
        slices.foreign.add(parsed.foreign);
        slices.dropped_addresses.add(parsed.dropped);
        Some(parsed.objects)
    }

    /// Tells of a file whose last good objects stay. Once per change, for only those are read.
    fn tell_broken(&self, path: &Path, broken: &Broken) -> Option<Vec<Object>> {
        let place = broken.line.map_or(String::new(), |line| format!(":{line}"));
        let (path, reason) = (path.display(), &broken.reason);
        tracing::warn!("{path}{place}: {reason}; its last good objects stay");
        for kind in self.scope.kinds() {
            self.feed.kind(kind).fail(Fault::Garbage);
        }
        None
    }

    /// Warns of paths that cannot be looked at, once while that lasts.
    fn tell_missing(&mut self, missing: &BTreeMap<PathBuf, String>) {
        for (path, reason) in missing.iter().filter(|(path, _)| !self.told.contains(*path)) {
            tracing::warn!("{}: {reason}; it is looked for every second", path.display());
        }
        self.told = missing.keys().cloned().collect();
    }

    /// Paths that can be seen are as fresh as a watch that gets bookmarks.
    fn note_freshness(&self, missing: &BTreeMap<PathBuf, String>) {
        if self.roots.iter().all(|root| !missing.contains_key(root)) {
            for kind in self.scope.kinds() {
                self.feed.hear(kind, Instant::now());
            }
        }
    }

    /// The objects of all files, in the order of their paths.
    fn collect(&self) -> Vec<Object> {
        let objects: Vec<_> = self.files.values().flat_map(|file| &file.objects).cloned().collect();
        if objects.is_empty() {
            tracing::warn!(paths = ?self.roots, "no Namespace, Service or EndpointSlice in there");
        } else {
            let (objects, files) = (objects.len(), self.files.len());
            tracing::info!(objects, files, "manifests read");
        }
        objects
    }
}

#[cfg(test)]
mod tests;

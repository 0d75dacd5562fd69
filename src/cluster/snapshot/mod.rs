//! The Snapshot: what the Index knows, in a file, so that a start needs no API server.
//!
//! ```text
//! start   file ─► checked ─► Index ─► Zone, marked stale ─► same cluster? ─► watches resume
//! later   Index and versions ─► octets ─► a thread of its own ─► file
//! ```
//!
//! A file is of one cluster: of a source, a scope and zones, which the Corefile says, and of the
//! UID of the Namespace `kube-system`, which only the API server can confirm. Until it does, what
//! the file says is served as known, but old; if it is of another cluster, it is taken back, and
//! nothing is known until full lists have come.

pub mod file;
mod identity;
mod keep;
mod object;
pub mod octets;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub(super) use identity::{Uid, learn};
pub(super) use keep::{Confirmed, Saver, Wake};
pub use keep::{Counters, Keeping, complain};

use super::config::{Scope, Source};
use super::feed::Feed;
use super::index::{Index, Listed};
use super::live::Identity;
use super::object::{Change, Kind};
use super::positions::Positions;
use super::zone::Zone;
use crate::wire::{Name, serial};
use file::{Draft, Reject, STEM};
use octets::{Cursor, Writer};

/// Tags of sections: what is known of the cluster itself, and the objects of each kind.
const CLUSTER: u8 = 1;
const OBJECTS: u8 = 16;

/// Where the Snapshot of a cluster is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    folder: PathBuf,
    /// What the Corefile says of the cluster, in words that do not change between versions.
    identity: String,
}

impl Place {
    /// The place in a folder for a cluster that is shown in `zones`. Files and what the program
    /// brings along need none.
    pub fn new(folder: &Path, identity: &Identity, zones: &[Name]) -> Option<Self> {
        let identity = describe(identity, zones)?;
        Some(Self { folder: folder.to_owned(), identity })
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        file::path(&self.folder, &format!("{STEM}{}", file::short_name(&self.identity)))
    }
}

/// Names a cluster by all that decides what is known of it.
fn describe(Identity { source, scope }: &Identity, zones: &[Name]) -> Option<String> {
    let source = match source {
        Source::InCluster => "in-cluster".to_owned(),
        Source::Kubeconfig { path, context } => {
            format!("kubeconfig {} {}", path.display(), context.as_deref().unwrap_or_default())
        }
        Source::Endpoint { url, .. } => url.clone(),
        Source::Manifests(_) | Source::Embedded(_) => return None,
    };
    let mut zones: Vec<String> = zones.iter().map(Name::to_string).collect();
    zones.sort_unstable();
    let selector = |kind| scope.selector(kind).map(ToString::to_string).unwrap_or_default();
    let kinds: Vec<&str> = scope.kinds().map(Kind::resource).collect();
    let kept = scope.kept;
    Some(format!(
        "zones {}; source {source}; kinds {}; namespaces {}; namespace labels {}; labels {}; \
         kept {} {} {}",
        zones.join(" "),
        kinds.join(" "),
        scope.namespaces.join(" "),
        selector(Kind::Namespace),
        selector(Kind::Service),
        kept.zones,
        kept.pod_names,
        kept.externals,
    ))
}

/// What a file brought.
pub(super) struct Restored {
    pub index: Index,
    /// Where watches may go on, if it is the same cluster.
    pub positions: Positions,
    /// The UID of `kube-system`; empty when nobody knew.
    pub uid: String,
    /// When it was true, in seconds since the epoch.
    pub written_s: u64,
    /// Kinds of which all objects are there.
    pub kinds: Vec<Kind>,
    pub objects: u64,
    pub octets: u64,
}

/// Reads the file of a place, if it is there. `serial` is one that serials have to be newer than.
///
/// # Errors
/// Why it is not used.
pub(super) fn restore(
    place: &Place,
    scope: &Scope,
    serial: u32,
    now_s: u64,
) -> Result<Option<Restored>, Reject> {
    let (folder, path) = (place.folder.clone(), place.path());
    let read = move || match file::read(&path)? {
        None if file::has_others(&folder, &path, STEM) => Err(Reject::OnlyOthers),
        found => Ok(found),
    };
    let Some(octets) = file::in_time(read)?? else { return Ok(None) };
    decode(&octets, &place.identity, scope, serial, now_s).map(Some)
}

/// Makes an Index of a file.
fn decode(
    octets: &[u8],
    identity: &str,
    scope: &Scope,
    serial: u32,
    now_s: u64,
) -> Result<Restored, Reject> {
    let mut opened = file::open(octets, identity, now_s)?;
    let written_s = opened.written_s;
    let (tag, mut cluster) = opened.section()?.ok_or(Reject::Garbled)?;
    let mut head = || Some((cluster.text()?.to_owned(), cluster.number()?));
    let (uid, kept) = head().filter(|_| tag == CLUSTER).ok_or(Reject::Garbled)?;
    let serial = serial::newest(u32::try_from(kept).map_err(|_| Reject::Garbled)?, serial);
    let mut restored = Restored {
        index: Index::after(&Zone { serial, ..Zone::unsynced() }, scope),
        positions: Positions::default(),
        uid,
        written_s,
        kinds: Vec::new(),
        objects: 0,
        octets: octets.len() as u64,
    };
    while let Some((tag, section)) = opened.section()? {
        let kind = Kind::ALL.into_iter().find(|kind| tag == OBJECTS + *kind as u8);
        let kind = kind.ok_or(Reject::Garbled)?;
        restored.take(kind, section).ok_or(Reject::Garbled)?;
    }
    Ok(restored)
}

impl Restored {
    /// Takes all objects of a kind in, as one full list.
    fn take(&mut self, kind: Kind, mut section: Cursor<'_>) -> Option<()> {
        self.positions.set(kind, section.text()?);
        self.index.take(Change::ListBegin(kind));
        while !section.is_empty() {
            self.index.take(Change::Apply(object::read(kind, &mut section)?));
            self.objects += 1;
        }
        self.index.take(Change::ListEnd(kind));
        self.kinds.push(kind);
        Some(())
    }
}

/// What is said of the cluster in a file.
struct About<'a> {
    uid: &'a str,
    written_s: u64,
}

/// Writes an Index whose kinds stand at `positions` at least. A kind that was never listed whole is
/// left out, and one of which a list is under way gets no position.
fn encode(identity: &str, about: &About<'_>, index: &Index, positions: &Positions) -> Draft {
    let mut draft = Draft::new(identity, about.written_s);
    draft.section(CLUSTER, |writer| {
        writer.text(about.uid);
        writer.number(index.zone().serial.into());
    });
    for kind in Kind::ALL {
        let listed = index.listed(kind);
        if listed == Listed::Never {
            continue;
        }
        let position = positions.get(kind).filter(|_| listed == Listed::Whole);
        draft.section(OBJECTS + kind as u8, |writer: &mut Writer| {
            writer.text(position.unwrap_or_default());
            index.each(kind, &mut |object| object::write(writer, object));
        });
    }
    draft
}

/// Where the watches stand.
fn positions(feed: &Feed) -> Positions {
    let mut positions = Positions::default();
    feed.watched().iter().for_each(|kind| positions.set(*kind, &feed.kind(*kind).version()));
    positions
}

/// The wall clock, which only tells how old a file is: no decision about an answer depends on it.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

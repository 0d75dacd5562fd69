//! When a Snapshot is written, and by whom.
//!
//! ```text
//! due ─► versions read ─► what was queued by then is applied ─► octets ─► a thread writes ─► next
//! ```
//!
//! A version in the file must not be newer than the objects beside it, or a resumed watch would
//! leave out what lies between. A watch sends a Change first and says its version after that, so
//! whatever a version covers has been applied or is in the queue when the version is read: we read
//! the versions, note how many Changes are queued, and wait until as many have been taken. Objects
//! may be newer than the versions; the watch then tells some things again. In the end that changes
//! nothing, but what was deleted and made again in between goes for the moment until the watch is
//! there: milliseconds of versions, in the first second after a start.
//!
//! The disk has a thread for each write, never more than one: neither queries nor the Index wait
//! for it, and a disk that hangs holds up no end of the process.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::file::{self, Draft, Reject};
use super::{About, Place, Restored, Uid, encode, now_s, positions};
use crate::cluster::feed::Feed;
use crate::cluster::index::Index;
use crate::cluster::object::Kind;
use crate::cluster::positions::Positions;
use crate::cluster::published::Published;

/// Shortest time between two writes, ±10 %, so that replicas do not write together.
pub const INTERVAL: Duration = Duration::from_secs(30);
/// Time to the first look after a start: a process that ends young leaves a file too.
const FIRST_INTERVAL: Duration = Duration::from_secs(5);
/// How old the versions of a file may grow in a cluster that does not change: an API server
/// forgets old ones after some five minutes.
const QUIET_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Most that wait for a write at once; others are told that it is done.
const WAITERS_MAX: usize = 16;
/// How often it is told that a write failed.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

/// What all who keep a cluster share.
pub struct Keeping {
    place: Mutex<Option<Place>>,
    uid: watch::Sender<Uid>,
    /// What the file of the start says of the UID, if it was used.
    restored_uid: Option<String>,
    /// Until when what the file said is true, in seconds since the epoch.
    restored_s: Option<u64>,
    waiters: Mutex<Vec<oneshot::Sender<()>>>,
    wanted: Notify,
    /// The file was not there when somebody looked last, and whether somebody looks now.
    is_gone: Arc<AtomicBool>,
    is_looked_for: Arc<AtomicBool>,
    pub counters: Counters,
}

/// What is counted of Snapshots.
#[derive(Default)]
#[allow(missing_docs)]
pub struct Counters {
    pub written: AtomicU64,
    pub failures: AtomicU64,
    /// Octets of the file in place, as far as we know it.
    pub octets: AtomicU64,
    pub restored_objects: AtomicU64,
    rejected: [AtomicU64; Reject::LABELS.len()],
    /// Since when the file is in place, less how old it was then.
    written_at: Mutex<Option<(Instant, Duration)>>,
}

impl Counters {
    /// How old what is on the disk is.
    pub fn age(&self) -> Option<Duration> {
        let (at, before) = (*self.written_at.lock())?;
        Some(at.elapsed() + before)
    }

    /// Files that were not used, by reason.
    pub fn rejected(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Reject::LABELS.into_iter().zip(self.rejected.iter().map(|count| count.load(Relaxed)))
    }

    fn stands(&self, octets: u64, age: Duration) {
        self.octets.store(octets, Relaxed);
        *self.written_at.lock() = Some((Instant::now(), age));
    }
}

impl Keeping {
    /// Keeps a cluster in a place, which may be none. Answers with what the file there brought.
    pub(in crate::cluster) fn begin(
        place: Option<Place>,
        restore: impl FnOnce(&Place) -> Result<Option<Restored>, Reject>,
    ) -> (Self, Option<Restored>) {
        let counters = Counters::default();
        let restored = place.as_ref().and_then(|place| match restore(place) {
            Ok(restored) => restored,
            Err(reject) => {
                counters.rejected[reject.label()].fetch_add(1, Relaxed);
                let path = place.path();
                tracing::warn!(
                    plugin = "kubernetes",
                    "Snapshot {} is not used: {reject}; starting without it",
                    path.display()
                );
                None
            }
        });
        if let Some(restored) = &restored {
            let age = Duration::from_secs(now_s().saturating_sub(restored.written_s));
            counters.restored_objects.store(restored.objects, Relaxed);
            counters.stands(restored.octets, age);
            tracing::info!(
                plugin = "kubernetes",
                objects = restored.objects,
                age_s = age.as_secs(),
                "the cluster is known from its Snapshot"
            );
        }
        let keeping = Self {
            place: Mutex::new(place),
            uid: watch::Sender::new(Uid::Unknown),
            restored_uid: restored.as_ref().map(|it| it.uid.clone()),
            restored_s: restored.as_ref().map(|it| it.written_s),
            waiters: Mutex::default(),
            wanted: Notify::new(),
            is_gone: Arc::default(),
            is_looked_for: Arc::default(),
            counters,
        };
        (keeping, restored)
    }

    /// Where the file is.
    pub fn place(&self) -> Option<Place> {
        self.place.lock().clone()
    }

    /// Keeps the cluster elsewhere from here on, or no longer.
    pub fn move_to(&self, place: Option<Place>) {
        *self.place.lock() = place;
    }

    /// What the file of the start says of the UID, if there was one.
    pub(super) fn restored_uid(&self) -> Option<&str> {
        self.restored_uid.as_deref()
    }

    /// Says which cluster it is.
    pub(in crate::cluster) fn tell_uid(&self, uid: Uid) {
        self.uid.send_replace(uid);
    }

    /// Waits until the API server is there, and answers whether it shows the cluster that the file
    /// of the start is of.
    pub(in crate::cluster) async fn confirm(&self) -> Confirmed {
        if self.restored_uid() == Some("") {
            // Nobody knows whose it is, so nothing that is told could confirm it.
            return Confirmed::Untold;
        }
        let mut uid = self.uid.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let told = uid.wait_for(|uid| *uid != Uid::Unknown).await;
        match told.as_deref() {
            Ok(Uid::Is(uid)) if Some(&**uid) == self.restored_uid() => Confirmed::Same,
            Ok(Uid::Is(_)) => Confirmed::Other,
            _ => Confirmed::Untold,
        }
    }

    /// Whether the file of the start is of another cluster than the API server.
    fn was_foreign(&self) -> bool {
        let restored = self.restored_uid().filter(|uid| !uid.is_empty());
        match &*self.uid.borrow() {
            Uid::Is(uid) => restored.is_some_and(|restored| restored != uid),
            Uid::Unknown | Uid::Untold => false,
        }
    }

    /// Writes what is not on the disk yet, and waits for that.
    pub async fn save_now(&self) {
        let (done, is_done) = oneshot::channel();
        {
            let mut waiters = self.waiters.lock();
            if waiters.len() >= WAITERS_MAX {
                return;
            }
            waiters.push(done);
        }
        self.wanted.notify_one();
        // Whoever drops the sender will not write any more.
        let _ = is_done.await;
    }

    /// Looks whether somebody took the file away; what that finds counts at the next look. One
    /// thread at most, for the disk may hang.
    fn look_for_file(&self) {
        let Some(place) = self.place() else { return };
        if self.is_looked_for.swap(true, Relaxed) {
            return;
        }
        let (is_gone, is_over) = (self.is_gone.clone(), self.is_looked_for.clone());
        let look = move || {
            is_gone.store(matches!(place.path().try_exists(), Ok(false)), Relaxed);
            is_over.store(false, Relaxed);
        };
        if std::thread::Builder::new().name("snapshot".to_owned()).spawn(look).is_err() {
            self.is_looked_for.store(false, Relaxed);
        }
    }

    /// The UID to write: what is known, or what was known before.
    fn uid(&self) -> String {
        match &*self.uid.borrow() {
            Uid::Is(uid) => uid.clone(),
            Uid::Unknown => self.restored_uid.clone().unwrap_or_default(),
            Uid::Untold => String::new(),
        }
    }
}

/// What [`Keeping::confirm`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cluster) enum Confirmed {
    /// The file of the start is of the cluster that the API server shows.
    Same,
    /// It is of another one.
    Other,
    /// Nobody knows.
    Untold,
}

/// What [`Saver::wake`] found.
pub(in crate::cluster) enum Wake {
    /// It is time to look whether something is to be written.
    Look,
    /// A write has ended.
    Ended,
}

/// Writes the Index of the task that owns it.
pub(in crate::cluster) struct Saver {
    keeping: Arc<Keeping>,
    feed: Arc<Feed>,
    next_look: Instant,
    work: Work,
    /// Something was taken since the last write began.
    is_changed: bool,
    last: Option<Last>,
    /// Until when the Index was true, in seconds since the epoch.
    known_s: u64,
    told: Option<Instant>,
}

/// What the file in place says, as far as that can change without a change of objects.
struct Last {
    at: Instant,
    place: Option<Place>,
    versions: Positions,
    uid: String,
}

/// What is under way.
enum Work {
    Nothing,
    /// So many Changes are to be taken before these versions are covered.
    Waiting {
        versions: Positions,
        queued: usize,
        waiters: Vec<oneshot::Sender<()>>,
    },
    /// Those who wait are told by dropping their senders.
    Writing {
        ended: oneshot::Receiver<io::Result<u64>>,
        /// When it is told that the disk hangs. Changes that come meanwhile put it off by nothing.
        tell_at: Instant,
        versions: Positions,
        place: Place,
        uid: String,
        _waiters: Vec<oneshot::Sender<()>>,
    },
}

impl Saver {
    /// A Saver for an Index that is as the file in place says, if one was used.
    pub(in crate::cluster) fn new(keeping: Arc<Keeping>, feed: &Arc<Feed>) -> Self {
        let (at, known_s) = (Instant::now(), keeping.restored_s.unwrap_or_default());
        let restored = keeping.restored_uid.clone();
        Self {
            next_look: at + FIRST_INTERVAL,
            work: Work::Nothing,
            is_changed: false,
            last: restored.map(|uid| Last {
                at,
                place: keeping.place(),
                versions: positions(feed),
                uid,
            }),
            known_s,
            told: None,
            feed: feed.clone(),
            keeping,
        }
    }

    /// Waits until there is something to do. Dropping it loses nothing.
    pub(in crate::cluster) async fn wake(&mut self) -> Wake {
        let result = match &mut self.work {
            // The Changes that are waited for are in the queue; taking them goes on.
            Work::Waiting { .. } => return std::future::pending().await,
            Work::Nothing => {
                tokio::select! {
                    () = self.keeping.wanted.notified() => {}
                    () = sleep_until(self.next_look) => {}
                }
                return Wake::Look;
            }
            Work::Writing { ended, tell_at, .. } => {
                let result = timeout_at(*tell_at, ended).await;
                if result.is_err() {
                    *tell_at += TELL_INTERVAL;
                }
                result
            }
        };
        match result {
            Ok(Ok(result)) => self.end(result),
            Ok(Err(_)) => self.end(Err(io::Error::other("bug: the thread for it panicked"))),
            // The thread goes on; until it ends no other one begins.
            Err(_) => self.fail(&io::Error::other("the disk takes more than a minute")),
        }
        Wake::Ended
    }

    /// Looks whether something is to be written. `queued` tells how many Changes are waiting to be
    /// taken; it is asked after the versions are read.
    pub(in crate::cluster) fn look(
        &mut self,
        index: &Index,
        published: &Published,
        queued: impl FnOnce() -> usize,
    ) {
        let now = Instant::now();
        self.next_look = now + INTERVAL.mul_f64(rand::random_range(0.9..1.1));
        let waiters = std::mem::take(&mut *self.keeping.waiters.lock());
        let versions = positions(&self.feed);
        let queued = queued();
        let is_quiet = waiters.is_empty();
        let has_moved = self.last.as_ref().is_none_or(|last| {
            let is_due = !is_quiet || now.duration_since(last.at) >= QUIET_INTERVAL;
            last.uid != self.keeping.uid()
                || last.place != self.keeping.place()
                || is_due && last.versions != versions
        });
        let has_moved = has_moved || self.keeping.is_gone.swap(false, Relaxed);
        self.is_changed |= queued > 0;
        // Dropping the waiters tells them that all is there.
        if self.keeping.place().is_none() || !(self.is_changed || has_moved) {
            self.keeping.look_for_file();
            return;
        }
        self.work = Work::Waiting { versions, queued, waiters };
        self.took(0, index, published);
    }

    /// Notes that so many Changes were taken; begins to write when they were what was waited for.
    pub(in crate::cluster) fn took(&mut self, count: usize, index: &Index, published: &Published) {
        self.is_changed |= count > 0;
        self.mark_known(index, published);
        if let Work::Waiting { queued, .. } = &mut self.work {
            *queued = queued.saturating_sub(count);
            if *queued > 0 {
                return;
            }
            if let Work::Waiting { versions, waiters, .. } =
                std::mem::replace(&mut self.work, Work::Nothing)
            {
                self.begin(index, published, versions, waiters);
            }
        }
    }

    /// Whether some of the Index may be of another cluster than the API server: that would be kept
    /// under a wrong name.
    fn holds_foreign(&self) -> bool {
        let is_listed = |kind: &Kind| self.feed.kind(*kind).relists.value() > 0;
        let mut watched = self.feed.watched().iter();
        self.keeping.was_foreign()
            && !watched.all(|kind| !Kind::OF_SERVICES.contains(kind) || is_listed(kind))
    }

    /// The Index is true now, unless the source is away or has not confirmed what it is from.
    fn mark_known(&mut self, index: &Index, published: &Published) {
        if index.is_synced() && !published.is_stale() && !self.feed.is_restored() {
            self.known_s = now_s();
        }
    }

    /// Makes the octets and hands them to a thread. What is not known as a whole is not written.
    fn begin(
        &mut self,
        index: &Index,
        published: &Published,
        versions: Positions,
        waiters: Vec<oneshot::Sender<()>>,
    ) {
        if !index.is_synced() || self.holds_foreign() {
            return;
        }
        let Some(place) = self.keeping.place() else { return };
        self.mark_known(index, published);
        let uid = self.keeping.uid();
        let about = About { uid: &uid, written_s: self.known_s };
        let draft = encode(&place.identity, &about, index, &versions);
        self.is_changed = false;
        let (end, ended) = oneshot::channel();
        let (here, tell_at) = (place.clone(), Instant::now() + TELL_INTERVAL);
        self.work = Work::Writing { ended, tell_at, versions, place: here, uid, _waiters: waiters };
        if let Err(error) = write_aside(draft, place, end) {
            self.end(Err(error));
        }
    }

    /// Counts a write that has ended, and tells of one that failed.
    fn end(&mut self, result: io::Result<u64>) {
        let work = std::mem::replace(&mut self.work, Work::Nothing);
        let Work::Writing { versions, place, uid, .. } = work else { return };
        match result {
            Ok(octets) => {
                let counters = &self.keeping.counters;
                counters.written.fetch_add(1, Relaxed);
                let age = Duration::from_secs(now_s().saturating_sub(self.known_s));
                counters.stands(octets, age);
                self.last = Some(Last { at: Instant::now(), place: Some(place), versions, uid });
            }
            Err(error) => {
                self.is_changed = true;
                self.fail(&error);
            }
        }
    }

    /// Counts a failure, and tells of it once a minute.
    fn fail(&mut self, error: &io::Error) {
        self.keeping.counters.failures.fetch_add(1, Relaxed);
        if self.told.is_some_and(|told| told.elapsed() < TELL_INTERVAL) {
            return;
        }
        self.told = Some(Instant::now());
        let place = self.keeping.place();
        complain(&place.map(|place| place.path()).unwrap_or_default(), error);
    }
}

/// Says that a file could not be written.
pub fn complain(path: &Path, error: &io::Error) {
    tracing::warn!(
        "Snapshot {} cannot be written: {error}; what is there stays, and a restart knows no more \
         than that; make room for it, or name another folder",
        path.display()
    );
}

/// Lets a thread of its own write a file.
fn write_aside(
    draft: Draft,
    place: Place,
    end: oneshot::Sender<io::Result<u64>>,
) -> io::Result<()> {
    let write = move || {
        let octets = draft.seal();
        let written = file::write(&place.path(), &octets);
        // Nobody may wait for it any more.
        let _ = end.send(written.map(|()| octets.len() as u64));
    };
    std::thread::Builder::new().name("snapshot".to_owned()).spawn(write).map(drop)
}

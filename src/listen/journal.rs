//! Queries that have been taken and wait for their answers, where they outlive the process: a file
//! in memory that the parent holds as it holds the sockets ([`super::kept`]).
//!
//! ```text
//! errand sets out ─► record into a free slot      errand ends ─► slot free: one octet
//! next server ─► slots in use ─┬─ first time, at most AGE_MAX old ─► try + 1 ─► errand again
//!                              └─ else ─► free, and counted
//! ```
//!
//! A query that kills the server is thus asked once more, and never again. Two short writes for an
//! errand, which opens a socket anyway; no write for what is answered at once: what a worker holds
//! between taking a batch and answering it is in its tray ([`super::batch::tray`]). Not written is
//! what comes over TCP, for the connection dies with the process.

mod record;

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::time::{ClockId, clock_gettime};

use super::errands::{CLUSTER_MAX, UPSTREAM_MAX};
use super::kept::{Kept, Key, Proto};
use record::{FREE, SLOT_OCTETS, TRIES_AT, TRIES_MAX};

pub use record::{Left, Record};

/// As many as there are places for errands. Those of low numbers are used first, so that the file
/// takes no more memory than has ever been needed at once.
const SLOTS: usize = UPSTREAM_MAX + CLUSTER_MAX;
/// Slots that are read at once.
const READ_SLOTS: usize = 128;
/// What came longer ago is not asked again: its client has given up before there is an answer.
const AGE_MAX: Duration = Duration::from_secs(4);

/// The file, and which of its slots are free.
pub struct Journal {
    file: File,
    free: Mutex<Vec<usize>>,
    /// Not taken yet.
    left: Mutex<Vec<Left>>,
    /// Queries of the last server that were asked again.
    pub resumed: AtomicU64,
    /// Queries of the last server that were not.
    pub abandoned: AtomicU64,
    /// Queries that found no slot, or do not fit into one.
    pub unwritten: AtomicU64,
}

/// A slot in use. What is dropped before its [`Slot::end`], such as by an end of the runtime, is
/// still there for the next server.
pub struct Slot {
    journal: Arc<Journal>,
    number: usize,
}

/// The monotonic clock, which all processes share.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

impl Journal {
    /// The one that a parent has kept, or a new one, which is kept from here on. `None` where there
    /// can be none: then a query that waits dies with the server.
    pub fn of(kept: &Kept) -> Option<Arc<Self>> {
        let key = key();
        let open = || {
            if let Some(file) = kept.take(&key) {
                return Self::open(file, now());
            }
            let file = memfd_create(c"errands", MemfdFlags::CLOEXEC)?;
            kept.keep(&key, &file);
            Self::open(file, now())
        };
        let tell = |error| tracing::warn!("queries that wait die with the server: {error}");
        open().map_err(tell).ok().map(Arc::new)
    }

    /// Leaves it to another try of a start that has failed.
    pub fn give_back(kept: &Kept) {
        kept.release(key());
    }

    /// Reads what the last server left.
    fn open(file: OwnedFd, now: Duration) -> io::Result<Self> {
        let file = File::from(file);
        file.set_len((SLOTS * SLOT_OCTETS) as u64)?;
        let journal = Self {
            file,
            free: Mutex::default(),
            left: Mutex::default(),
            resumed: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            unwritten: AtomicU64::new(0),
        };
        let mut octets = vec![0; READ_SLOTS * SLOT_OCTETS];
        for first in (0..SLOTS).step_by(READ_SLOTS) {
            journal.file.read_exact_at(&mut octets, place(first))?;
            for (number, slot) in (first..).zip(octets.chunks_exact(SLOT_OCTETS)) {
                journal.look_at(number, slot, now);
            }
        }
        journal.free.lock().reverse();
        Ok(journal)
    }

    /// Sorts a slot of the last server.
    fn look_at(&self, number: usize, slot: &[u8], now: Duration) {
        if slot.first() == Some(&FREE) {
            return self.free.lock().push(number);
        }
        let left = Left::read(number, slot);
        match left.filter(|left| left.age(now).is_some_and(|age| age <= AGE_MAX)) {
            Some(left) => self.left.lock().push(left),
            None => self.abandon(number),
        }
    }

    /// What the last server had under way at a socket.
    pub fn take(&self, key: &Key) -> Vec<Left> {
        self.left.lock().extract_if(.., |left| left.record.key == *key).collect()
    }

    /// Forgets what came to sockets that nobody has opened.
    pub fn release_rest(&self) {
        let rest = std::mem::take(&mut *self.left.lock());
        rest.into_iter().for_each(|left| self.abandon(left.number));
    }

    fn abandon(&self, number: usize) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
        self.erase(number);
        self.free.lock().push(number);
    }

    fn erase(&self, number: usize) {
        // A write into memory that is there cannot fail; if it did, the query would be asked twice.
        let _ = self.file.write_all_at(&[FREE], place(number));
    }

    /// Notes that a query is asked again, so that it is not once more. `None` when that cannot be
    /// noted; then it must not be asked.
    pub fn again(self: &Arc<Self>, left: &Left) -> Option<Slot> {
        let slot = Slot { journal: self.clone(), number: left.number };
        self.file.write_all_at(&[TRIES_MAX], place(left.number) + TRIES_AT).ok()?;
        Some(slot)
    }

    /// Writes a query that waits from now on. `None` when there is no room, which is counted.
    pub fn note(self: &Arc<Self>, record: &Record, now: Duration) -> Option<Slot> {
        let slot = record.write(now).and_then(|octets| self.store(&octets));
        if slot.is_none() {
            self.unwritten.fetch_add(1, Ordering::Relaxed);
        }
        slot
    }

    fn store(self: &Arc<Self>, octets: &[u8]) -> Option<Slot> {
        let number = self.free.lock().pop()?;
        let slot = Slot { journal: self.clone(), number };
        self.file.write_all_at(octets, place(number)).ok()?;
        Some(slot)
    }
}

/// What a parent has it by.
fn key() -> Key {
    Key { proto: Proto::Journal, address: (Ipv4Addr::UNSPECIFIED, 0).into(), number: 0 }
}

/// Where a slot begins.
fn place(number: usize) -> u64 {
    (number * SLOT_OCTETS) as u64
}

impl Slot {
    /// The query has its answer, or gets none.
    pub fn end(self) {
        self.journal.erase(self.number);
    }

    /// The query of the last server is not asked after all.
    pub fn abandon(self) {
        self.journal.abandoned.fetch_add(1, Ordering::Relaxed);
        self.end();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.journal.free.lock().push(self.number);
    }
}

#[cfg(test)]
mod tests;

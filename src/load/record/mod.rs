//! Writes down what happened: outcomes, latencies, the course of time, who is stuck.
//!
//! ```text
//! thread ─ Shard ─┬─ its Cell: a Tally per kind of name and client, lateness, the slot under way
//!                 ├─ Clients, in stripes: who is without names, and since when
//!                 ├─ Failures, where there are any: for the faults
//!                 └─ Timeline, ten times a second
//! ```
//!
//! All of it is bounded, however long a run lasts. A lock is held for a batch, and seldom waited
//! for: cells and stripes are many, and the reader comes once a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use serde::{Deserialize, Serialize};

use super::resolver::Resolver;
use super::run::Course;
use super::tasks::Class;
use super::truth::Judgement;
use cell::Cell;
use clients::Clients;
use cpu::CpuTime;
use failures::{Failures, Fault, Faults};
use timeline::Timeline;

pub mod buckets;
mod cell;
mod clients;
mod closing;
mod cpu;
mod failures;
mod snapshot;
pub mod tally;
mod timeline;

pub use closing::{COMPLETE, class_name};
pub use snapshot::Snapshot;

/// How one lookup ended, as the application sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// In time and right.
    Ok,
    /// It was told that there is no such name, or threw UnknownHostException; and there is one.
    UnknownHost,
    /// No answer, or a failure that says to try again.
    TryAgain,
    /// Right, but later than `--slow`.
    Slow,
    /// An answer that was not true.
    Wrong,
}

impl Outcome {
    /// Whether the application could go on: not the ones that are `Slow`, which is late but right.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::UnknownHost | Self::TryAgain | Self::Wrong)
    }
}

/// One lookup that ended.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// When it was due, since the start of the run.
    pub due: Duration,
    /// From then to its end.
    pub took: Duration,
    /// How it ended. [`Recorder`] makes `Slow` of an `Ok` that took too long.
    pub outcome: Outcome,
    /// Whether the answer was true, where that is known.
    pub judgement: Option<Judgement>,
    /// Kind of name.
    pub class: Class,
    /// Kind of client.
    pub resolver: Resolver,
    /// Which client, from 0.
    pub client: u32,
    /// Packets that were sent for it.
    pub packets: u32,
}

/// What went over the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PacketCounts {
    /// Questions sent, over UDP and TCP.
    pub sent: u64,
    /// Replies that fit a question under way.
    pub answered: u64,
    /// Questions without a reply in time.
    pub lost: u64,
    /// Replies that came after that.
    pub too_late: u64,
    /// Datagrams that are no reply to what was asked: other id or other question.
    pub mismatched: u64,
    /// Datagrams that are no DNS.
    pub garbage: u64,
    /// Replies by code.
    pub noerror: u64,
    /// See `noerror`.
    pub nxdomain: u64,
    /// See `noerror`.
    pub servfail: u64,
    /// See `noerror`.
    pub refused: u64,
    /// FORMERR, NOTIMP and all others.
    pub other_code: u64,
    /// Replies with TC.
    pub truncated: u64,
    /// Questions over TCP, which `sent` counts too.
    pub tcp: u64,
    /// Connections that were refused or cut.
    pub tcp_failed: u64,
    /// Datagrams that the network refused (ICMP), or that could not be sent.
    pub unreachable: u64,
}

/// Most cells: shards beyond share them. Bounds memory where every task has a shard of its own.
const CELLS_MAX: usize = 16;

/// Where everything is written down. Shared; each thread writes through a [`Shard`] of its own.
pub struct Recorder {
    course: Course,
    slow: Duration,
    /// Made as shards need them.
    cells: Mutex<Vec<Arc<Mutex<Cell>>>>,
    shards: AtomicUsize,
    clients: Clients,
    timeline: Mutex<Timeline>,
    failures: Mutex<Failures>,
    faults: Mutex<Faults>,
    cpu: CpuTime,
}

impl Recorder {
    /// An empty one. An `Ok` slower than `slow` is `Slow`.
    pub fn new(course: Course, slow: Duration) -> Arc<Self> {
        Arc::new(Self {
            course,
            slow,
            cells: Mutex::default(),
            shards: AtomicUsize::new(0),
            clients: Clients::default(),
            timeline: Mutex::default(),
            failures: Mutex::default(),
            faults: Mutex::default(),
            cpu: CpuTime::start(),
        })
    }

    /// A place to write for one thread or task.
    pub fn shard(self: &Arc<Self>) -> Shard {
        let index = self.shards.fetch_add(1, Ordering::Relaxed) % CELLS_MAX;
        let mut cells = self.cells.lock();
        while cells.len() <= index {
            cells.push(Arc::default());
        }
        Shard { cell: Arc::clone(&cells[index]), recorder: Arc::clone(self) }
    }

    /// Notes that a fault began or ended: called again with the same text and `at`, it tells the
    /// end.
    pub fn fault(&self, what: &str, at: Duration, until: Option<Duration>) {
        self.faults.lock().note(Fault { what: what.to_owned(), at, until, error: None });
    }

    /// Notes that a fault could not be done, and why.
    pub fn fault_failed(&self, what: &str, at: Duration, why: &str) {
        let error = Some(why.to_owned());
        self.faults.lock().note(Fault { what: what.to_owned(), at, until: None, error });
    }

    /// Notes why a fault was not even tried, unless it was.
    pub fn fault_missed(&self, what: &str, at: Duration, why: &str) {
        let mut faults = self.faults.lock();
        if !faults.is_noted(what) {
            let error = Some(why.to_owned());
            faults.note(Fault { what: what.to_owned(), at, until: None, error });
        }
    }
}

/// One thread's place to write. Nobody else waits for it but the reader, once a second.
pub struct Shard {
    cell: Arc<Mutex<Cell>>,
    recorder: Arc<Recorder>,
}

impl Shard {
    /// Writes down lookups that ended.
    pub fn lookups(&self, samples: &[Sample]) {
        let recorder = &*self.recorder;
        let mut cell = self.cell.lock();
        for sample in samples {
            let sample = Sample { outcome: self.judge(sample), ..*sample };
            cell.record(&sample, &recorder.timeline);
            recorder.clients.record(&sample);
            if sample.outcome.is_failure() {
                let is_unknown_host = sample.outcome == Outcome::UnknownHost;
                let ended = sample.due + sample.took;
                recorder.failures.lock().record(sample.due, ended, is_unknown_host);
            }
        }
    }

    /// The outcome, with `Slow` for what was right and took too long.
    fn judge(&self, sample: &Sample) -> Outcome {
        match sample.outcome {
            Outcome::Ok if sample.took > self.recorder.slow => Outcome::Slow,
            outcome => outcome,
        }
    }

    /// Adds what went over the wire since the last time.
    pub fn packets(&self, counts: &PacketCounts) {
        self.cell.lock().packets.add(counts);
    }

    /// Notes how much later than due a lookup began. The generator's own fault.
    pub fn began_late(&self, by: Duration) {
        self.cell.lock().began_late(by, || self.recorder.course.elapsed());
    }

    /// Counts lookups that were due and could not be begun: too many are under way.
    pub fn not_begun(&self, count: u64) {
        self.cell.lock().not_begun += count;
    }
}

#[cfg(test)]
mod tests;

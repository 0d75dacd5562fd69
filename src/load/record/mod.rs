//! Writes down what happened: outcomes, latencies, the course of time, who is stuck.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::resolver::Resolver;
use super::run::Course;
use super::truth::Judgement;
use super::work::Class;

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

/// Where everything is written down. Shared; each thread writes through a [`Shard`] of its own.
pub struct Recorder {
    _course: Course,
}

impl Recorder {
    /// An empty one. An `Ok` slower than `slow` is `Slow`.
    pub fn new(course: Course, _slow: Duration) -> Arc<Self> {
        Arc::new(Self { _course: course })
    }

    /// A place to write for one thread or task.
    pub fn shard(self: &Arc<Self>) -> Shard {
        Shard { _recorder: Arc::clone(self) }
    }

    /// Notes that a fault began or ended.
    pub fn fault(&self, _what: &str, _at: Duration, _until: Option<Duration>) {}
}

/// One thread's place to write. Nobody else waits for it but the reader, once a second.
pub struct Shard {
    _recorder: Arc<Recorder>,
}

impl Shard {
    /// Writes down lookups that ended.
    pub fn lookups(&self, _samples: &[Sample]) {}

    /// Adds what went over the wire since the last time.
    pub fn packets(&self, _counts: &PacketCounts) {}

    /// Notes how much later than due a lookup began. The generator's own fault.
    pub fn began_late(&self, _by: Duration) {}

    /// Counts lookups that were due and could not be begun: too many are under way.
    pub fn not_begun(&self, _count: u64) {}
}

//! What the objects of the cluster said at each instant, and so which answers were true.
//!
//! A model of its own, small on purpose: it shares the reading of objects with the server and
//! nothing of how that makes answers.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::wire::{Name, RecordType};

/// What an answer said, of both families together for addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Addresses. `is_cut` when the server could not send all (TC): any part of them is right.
    Addresses { set: BTreeSet<IpAddr>, is_cut: bool },
    /// Names: of a PTR, or targets of SRV.
    Names { set: BTreeSet<Name>, is_cut: bool },
    /// The name exists, without such records.
    NoData,
    /// The name does not exist.
    NxDomain,
    /// Nothing: no answer in time, or a failure of the server.
    Nothing,
}

/// Whether an answer was true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// True at some instant between the question, less the bound, and the answer.
    Ok,
    /// True once, but not within the bound.
    Stale,
    /// A denial, while the name existed all the time.
    WrongNegative,
    /// Records, while there were none, or that never were.
    WrongPositive,
    /// No answer.
    Lost,
}

/// A verdict, and how soon a change was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Whether it was true.
    pub verdict: Verdict,
    /// This is the first answer that shows the last change of that name, so long after it.
    pub fresh_after: Option<Duration>,
}

/// The history of the cluster's names.
pub struct Truth {}

impl Truth {
    /// Judges an answer. `None` where nothing is known of the name: it is outside of the cluster, or
    /// the cluster is not known yet.
    pub fn judge(
        &self,
        _name: &Name,
        _rtype: RecordType,
        _said: &Said,
        _asked: Instant,
        _answered: Instant,
    ) -> Option<Judgement> {
        None
    }
}

//! What is told of a run: one [`Report`], which every form of it (JSON, page, table, JUnit,
//! metrics) is made from, and which two runs are compared by.
//!
//! Times are seconds since the start of the run, latencies milliseconds from when a lookup was due.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::PacketCounts;

pub mod compare;
pub mod generator;
pub mod hdr;
pub mod histogram;
pub mod json;
pub mod junit;
pub mod live;
pub mod merge;
pub mod metrics;
pub mod page;
#[cfg(test)]
mod sample;
pub mod shown;
pub mod slo;
mod sums;
pub mod text;

/// The version of the JSON. Its number grows when a field changes its meaning or goes.
pub const SCHEMA: &str = "mainstay.load/1";

/// A run, whole or so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// Program and version.
    pub made_by: String,
    /// What was run: `load`, or the name of a drill.
    pub title: String,
    /// Unix time of the start, in milliseconds.
    pub started_unix_ms: u64,
    /// Until the last lookup ended.
    pub duration_s: f64,
    /// `complete`, `interrupted`, or why it ended.
    pub ended: String,
    /// What was wanted.
    pub plan: Plan,
    /// All lookups.
    pub total: Group,
    /// By kind of name.
    pub by_class: BTreeMap<String, Group>,
    /// By kind of client.
    pub by_resolver: BTreeMap<String, Group>,
    /// What went over the wire.
    pub packets: PacketCounts,
    /// The course of time, all lookups together.
    pub timeline: Timeline,
    /// What was done meanwhile.
    pub faults: Vec<FaultMark>,
    /// Answers of which truth knows less than it should.
    pub unjudged: Unjudged,
    /// How the generator itself did.
    pub generator: Generator,
    /// The goals, and whether they were met.
    pub slo: Vec<Goal>,
    /// Workers whose reports were merged into this.
    pub workers: u32,
}

/// What a run was to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// Servers, in order.
    pub servers: Vec<String>,
    /// `udp` or `tcp`, of packets without a resolver.
    pub transport: String,
    /// As written: `constant:5000`, `ramp:1000..50000/60s`.
    pub arrivals: String,
    /// Where names came from.
    pub names: String,
    /// How many different ones.
    pub name_count: u64,
    /// Kinds of client.
    pub resolvers: Vec<String>,
    /// Clients in all.
    pub clients: u64,
    /// Of all chance.
    pub seed: u64,
    /// From when on a right answer is slow, in milliseconds.
    pub slow_ms: f64,
    /// How old an answer may be and still true, in milliseconds, where truth is known.
    pub staleness_ms: Option<f64>,
}

/// Figures of some of the lookups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// That ended.
    pub lookups: u64,
    /// How.
    pub outcomes: Outcomes,
    /// Whether the answers were true.
    pub truth: Truths,
    /// Packets sent for them. Divided by `lookups`: the amplification.
    pub packets: u64,
    /// From when they were due, of all that ended.
    pub latency: Latency,
    /// The failures, and how they ended.
    pub recovery: Recovery,
}

/// Lookups by outcome; together they are all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcomes {
    /// Right and in time.
    pub ok: u64,
    /// Told that there is no such name.
    pub unknown_host: u64,
    /// Told to try again, or not answered.
    pub try_again: u64,
    /// Right, but slow.
    pub slow: u64,
    /// Not true.
    pub wrong: u64,
}

/// Lookups by verdict; those of which nothing is known are in none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Truths {
    /// True.
    pub ok: u64,
    /// True once.
    pub stale: u64,
    /// Denied, though there.
    pub wrong_negative: u64,
    /// There, though gone or never true.
    pub wrong_positive: u64,
    /// No answer.
    pub lost: u64,
}

/// Answers within the cluster that were not judged, by reason. Where there are many, no `wrong`
/// answers say little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Unjudged {
    /// The cluster was not known yet.
    pub unknown: u64,
    /// What is right depends on more than the objects.
    pub uncovered: u64,
    /// Seemed wrong, but not enough is known of that time.
    pub forgotten: u64,
    /// Seemed wrong, but no watch was open.
    pub blind: u64,
    /// Judged, but too early to be sure, because too many seemed wrong at once.
    pub overflowed: u64,
}

/// Percentiles, in milliseconds; zeros where there was nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub deviation: f64,
    /// Percentiles.
    pub p50: f64,
    /// See `p50`.
    pub p90: f64,
    /// See `p50`.
    pub p99: f64,
    /// See `p50`.
    pub p999: f64,
    /// The longest.
    pub max: f64,
    /// The whole histogram in microseconds: HdrHistogram V2, deflated, base64.
    pub histogram: String,
    /// Those that were longer than it holds (100 s); they are in it as the longest.
    pub clamped: u64,
}

/// When lookups failed. Failed are those that were `unknown_host`, `try_again` or `wrong`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Recovery {
    /// How many failed.
    pub failed: u64,
    /// When the first failed lookup was due.
    pub first_failure_s: Option<f64>,
    /// When the last one ended.
    pub last_failure_s: Option<f64>,
    /// When the last UnknownHost was told.
    pub last_unknown_host_s: Option<f64>,
    /// The longest time of one client from a failure to its next success, or the end.
    pub longest_outage_s: f64,
    /// Clients that were stuck at the end: of each the last two lookups or more failed, and none
    /// that was due later succeeded. Failures of foreign, ExternalName and random names, which need
    /// an upstream, count only for clients that look up nothing else.
    pub stuck_clients: u64,
    /// Clients that looked up anything.
    pub clients: u64,
    /// The longest time from a change of an object to the first answer that shows it, where truth
    /// is known and a change was seen.
    pub fresh_after_max_s: Option<f64>,
}

/// What happened, slot by slot.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeline {
    /// Length of a slot. 0.1 s, and twice that each time there would be too many.
    pub slot_s: f64,
    /// From the start on, without gaps. A lookup is in the slot in which it ended.
    pub slots: Vec<Slot>,
}

/// One slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Slot {
    /// Lookups that were due in it.
    pub due: u64,
    /// Those that ended in it, by outcome.
    pub outcomes: Outcomes,
    /// Latency of those, in milliseconds.
    pub p50: f64,
    /// See `p50`.
    pub p90: f64,
    /// See `p50`.
    pub p99: f64,
    /// See `p50`.
    pub max: f64,
}

/// A fault and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FaultMark {
    /// As written: `stop@10s..20s`.
    pub what: String,
    /// When it was done.
    pub at_s: f64,
    /// When it was undone.
    pub until_s: Option<f64>,
    /// Why it could not be done.
    pub error: Option<String>,
    /// From the fault to the first failure after it.
    pub first_failure_after_s: Option<f64>,
    /// From the fault to the last failure before the next fault.
    pub last_failure_after_s: Option<f64>,
    /// The same for UnknownHost.
    pub last_unknown_host_after_s: Option<f64>,
    /// Failed lookups from the fault to the next one, or the end.
    pub failed: u64,
}

/// Whether the generator could do what it was told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Generator {
    /// Lookups that began later than due, by more than 1 ms.
    pub late: u64,
    /// How much later lookups began.
    pub lateness: Latency,
    /// Lookups that were due and never begun.
    pub not_begun: u64,
    /// Lookups per second that were wanted, and that began.
    pub wanted_per_s: f64,
    /// See `wanted_per_s`.
    pub begun_per_s: f64,
    /// CPU time of this process, in cores.
    pub cores: f64,
    /// `client saturated: …` and why; then do not blame the server. Said when over 0.1 % of the
    /// lookups were never begun, or over 1 % began late and either the p99 of that is over 5 ms or
    /// some were never begun.
    pub saturated: Option<String>,
}

/// One goal of `--slo`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Goal {
    /// As written: `p99<5ms`.
    pub goal: String,
    /// What was seen, with its unit.
    pub seen: String,
    /// Whether it was met.
    pub is_met: bool,
}

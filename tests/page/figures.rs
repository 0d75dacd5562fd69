//! Reports with known numbers.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use mainstay::load::record::PacketCounts;
use mainstay::load::report::{
    FaultMark, Generator, Goal, Group, Latency, Outcomes, Plan, Recovery, Report, SCHEMA, Slot,
    Timeline, Truths,
};

/// A run of 30 s with a stop and a kill, at 500 lookups a second.
pub fn busy() -> Report {
    let slots: Vec<Slot> = (0..300).map(slot).collect();
    let by_resolver = ["glibc", "jvm", "musl", "netty"].iter().zip(1..).map(|(name, part)| {
        let failed = if part == 4 { 930 } else { 100 * part };
        ((*name).to_owned(), group(30_000 + part, failed, part))
    });
    let by_class = ["service", "headless", "host", "external-name", "foreign", "missing", "srv"]
        .iter()
        .zip(1..)
        .map(|(name, part)| ((*name).to_owned(), group(20_000, 60 * (part % 3), part)));
    Report {
        schema: SCHEMA.to_owned(),
        made_by: "mainstay 0.1.0".to_owned(),
        title: "load".to_owned(),
        started_unix_ms: 1_784_710_860_000,
        duration_s: 30.0,
        ended: "complete".to_owned(),
        plan: plan(),
        total: group(123_456, 1530, 4),
        by_class: by_class.collect(),
        by_resolver: by_resolver.collect(),
        packets: PacketCounts {
            sent: 312_345,
            answered: 311_000,
            lost: 1_345,
            too_late: 12,
            noerror: 150_000,
            nxdomain: 160_990,
            servfail: 10,
            truncated: 3,
            tcp: 3,
            ..PacketCounts::default()
        },
        timeline: Timeline { slot_s: 0.1, slots },
        faults: vec![
            fault("stop@10s..13s", 10.0, Some(13.0), 1200),
            fault("kill9@20s", 20.0, None, 330),
        ],
        unjudged: Default::default(),
        generator: Generator {
            late: 3,
            lateness: Latency { p99: 0.2, max: 2.5, ..Latency::default() },
            wanted_per_s: 4115.2,
            begun_per_s: 4115.2,
            cores: 0.12,
            ..Generator::default()
        },
        slo: vec![goal("p99<5ms", "4.21ms", true), goal("unknown_host=0", "1020", false)],
        workers: 1,
    }
}

fn plan() -> Plan {
    Plan {
        servers: vec!["10.96.0.10:53".to_owned()],
        transport: "udp".to_owned(),
        arrivals: "poisson:4115".to_owned(),
        names: "the cluster".to_owned(),
        name_count: 10_000,
        resolvers: ["glibc", "jvm", "musl", "netty"].map(str::to_owned).to_vec(),
        clients: 20,
        seed: 1,
        slow_ms: 1000.0,
        staleness_ms: Some(1000.0),
    }
}

/// Slot number `at`: nothing ends from 10 s to 13 s, then all that waited; failures from 20 s on.
fn slot(at: u64) -> Slot {
    let wave = (at as f64 / 7.0).sin() * 0.2 + 1.0;
    let mut slot = Slot { due: 411 + at % 5, ..Slot::default() };
    let is_after = (130..140).contains(&at);
    if (100..130).contains(&at) {
        return slot;
    }
    slot.outcomes.ok = if is_after { 1100 } else { 411 };
    (slot.p50, slot.p90, slot.p99, slot.max) = (0.21 * wave, 0.4 * wave, 1.9 * wave, 6.5 * wave);
    if is_after {
        let left = f64::from(140 - at as u32) * 100.0;
        slot.outcomes = Outcomes { ok: 500, slow: 480, try_again: 120, ..Outcomes::default() };
        (slot.p50, slot.p90, slot.p99, slot.max) = (left, left * 1.5, left * 2.0, 3000.0);
    }
    if (200..215).contains(&at) {
        slot.outcomes = Outcomes { ok: 300, unknown_host: 20, wrong: 2, ..slot.outcomes };
        (slot.p99, slot.max) = (900.0, 2000.0);
    }
    slot
}

fn group(lookups: u64, failed: u64, part: u64) -> Group {
    let has_failed = failed > 0;
    Group {
        lookups,
        outcomes: Outcomes {
            ok: lookups - failed - 17,
            unknown_host: failed / 3 * 2,
            try_again: failed - failed / 3 * 2 - failed / 10,
            slow: 17,
            wrong: failed / 10,
        },
        truth: Truths { ok: lookups - 12, stale: 7, wrong_negative: 5, ..Truths::default() },
        packets: lookups.saturating_mul(5) / 2,
        latency: latency(part),
        recovery: Recovery {
            failed,
            first_failure_s: has_failed.then_some(10.02),
            last_failure_s: has_failed.then_some(21.37),
            last_unknown_host_s: has_failed.then_some(21.37),
            longest_outage_s: if has_failed { 3.25 } else { 0.0 },
            stuck_clients: u64::from(part == 4) * 2,
            clients: 20,
            fresh_after_max_s: Some(0.18),
        },
    }
}

/// 100 000 latencies from 0.2 ms on, the longest `part` × 1000 ms.
fn latency(part: u64) -> Latency {
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    for (value_us, count) in [(200, 60_000), (400, 30_000), (900, 9_000), (4_210, 900)] {
        histogram.record_n(value_us * part, count).unwrap();
    }
    histogram.record_n(80_000 * part, 99).unwrap();
    histogram.record(1_000_000 * part).unwrap();
    let factor = part as f64;
    Latency {
        count: 100_000,
        mean: 0.4 * factor,
        deviation: 0.1,
        p50: 0.2 * factor,
        p90: 0.4 * factor,
        p99: 0.9 * factor,
        p999: 4.21 * factor,
        max: 1000.0 * factor,
        histogram: encoded(&histogram),
        clamped: 0,
    }
}

/// A histogram as reports have it.
fn encoded(histogram: &Histogram<u64>) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut octets = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut octets).unwrap();
    let mut text = String::new();
    for three in octets.chunks(3) {
        let bits = (0..3).fold(0, |bits, i| bits << 8 | three.get(i).map_or(0, |it| *it as usize));
        let letters = (0..4).map(|i| LETTERS[bits >> (18 - 6 * i) & 63] as char);
        text.extend(letters.take(three.len() + 1));
        text.push_str(&"=="[..3 - three.len()]);
    }
    text
}

fn fault(what: &str, at_s: f64, until_s: Option<f64>, failed: u64) -> FaultMark {
    FaultMark {
        what: what.to_owned(),
        at_s,
        until_s,
        first_failure_after_s: Some(0.02),
        last_failure_after_s: Some(1.37),
        last_unknown_host_after_s: Some(1.37),
        failed,
        ..FaultMark::default()
    }
}

fn goal(goal: &str, seen: &str, is_met: bool) -> Goal {
    Goal { goal: goal.to_owned(), seen: seen.to_owned(), is_met }
}

/// A run in which all went well, of one slot.
pub fn one_slot() -> Report {
    let latency = Latency { histogram: String::new(), ..latency(1) };
    let slot =
        Slot { due: 1, outcomes: Outcomes { ok: 1, ..Outcomes::default() }, p50: 1.0, ..slot(1) };
    let total = Group {
        lookups: 1,
        outcomes: slot.outcomes,
        packets: 1,
        latency,
        recovery: Recovery { clients: 1, ..Recovery::default() },
        ..Group::default()
    };
    Report {
        duration_s: 0.1,
        total,
        timeline: Timeline { slot_s: 0.1, slots: vec![slot] },
        slo: vec![goal("failed=0", "0", true)],
        ..Report::default()
    }
}

/// A long run with as many slots as there can be, by an exhausted generator, cut short.
pub fn long() -> Report {
    let mut report = busy();
    report.timeline.slots = (0..3000).map(|at| slot(at % 300)).collect();
    report.timeline.slot_s = 25.6;
    report.duration_s = 76_800.0;
    report.faults = (0..40)
        .map(|at| fault(&format!("command:'turn {at}'"), f64::from(at) * 2000.0, None, 9))
        .collect();
    report.faults[7].error =
        Some("no process 4711; start the server with --server-command".to_owned());
    report.generator.saturated =
        Some("client saturated: 12 % of the lookups began late".to_owned());
    report.ended = "interrupted".to_owned();
    report
}

/// The largest numbers and the longest names that there can be.
pub fn huge() -> Report {
    let name = format!("</script><b>&amp;{}", "w".repeat(250));
    let mut group = group(u64::MAX, u64::MAX / 3, 4);
    group.packets = u64::MAX;
    group.latency.max = f64::MAX;
    group.latency.p999 = f64::NAN;
    group.recovery.last_failure_s = Some(1e9);
    group.recovery.stuck_clients = u64::MAX;
    let slot =
        Slot { due: u64::MAX, outcomes: group.outcomes, p50: 1e-9, max: 1e300, ..Slot::default() };
    Report {
        title: name.clone(),
        started_unix_ms: u64::MAX,
        duration_s: 1e9,
        ended: name.clone(),
        total: group.clone(),
        by_class: BTreeMap::from([(name.clone(), group.clone())]),
        by_resolver: BTreeMap::from([(name.clone(), group)]),
        timeline: Timeline { slot_s: 1e9 / 3.0, slots: vec![slot; 3] },
        faults: vec![fault(&name, 1e300, None, u64::MAX), fault(&name, -1.0, Some(f64::NAN), 0)],
        slo: vec![goal(&name, &name, false)],
        plan: Plan { servers: vec![name.clone(); 3], seed: u64::MAX, ..plan() },
        ..busy()
    }
}

//! Reports for tests: small, and with something in every part.

use std::collections::BTreeMap;

use super::generator::{self, Begun};
use super::*;

/// Figures of lookups that took so long, in microseconds.
pub fn latency(values: &[u64]) -> Latency {
    let mut histogram = histogram::empty();
    values.iter().for_each(|us| histogram::record(&mut histogram, *us));
    histogram::latency(&histogram)
}

/// Lookups of which `failed` were told that there is no such name, from 10 s to 12.5 s.
pub fn group(values: &[u64], failed: u64) -> Group {
    let lookups = values.len() as u64;
    let at = |s: f64| (failed > 0).then_some(s);
    Group {
        lookups,
        outcomes: Outcomes { ok: lookups - failed, unknown_host: failed, ..Default::default() },
        truth: Truths { ok: lookups - failed, wrong_negative: failed, ..Default::default() },
        packets: 2 * lookups,
        latency: latency(values),
        recovery: Recovery {
            failed,
            first_failure_s: at(10.0),
            last_failure_s: at(12.5),
            last_unknown_host_s: at(12.5),
            longest_outage_s: at(2.25).unwrap_or_default(),
            stuck_clients: u64::from(failed > 5),
            clients: 20,
            fresh_after_max_s: Some(0.25),
        },
    }
}

/// A run of 30 s in which a server was killed after ten: 1000 lookups, of which 7 failed.
pub fn report() -> Report {
    with(7)
}

/// The same with so many failures.
pub fn with(failed: u64) -> Report {
    let values: Vec<u64> = (1..=1000).map(|at| at * 10).collect();
    let total = group(&values, failed);
    let slot = Slot { due: 40, outcomes: Outcomes { ok: 40, ..Default::default() }, ..latencies() };
    let begun =
        Begun { lookups: 1000, span: std::time::Duration::from_secs(30), ..Begun::default() };
    let after = |s: f64| (failed > 0).then_some(s);
    Report {
        schema: SCHEMA.to_owned(),
        made_by: "mainstay test".to_owned(),
        title: "load".to_owned(),
        started_unix_ms: 1_700_000_000_000,
        duration_s: 30.0,
        ended: "complete".to_owned(),
        plan: plan(),
        by_class: BTreeMap::from([("service".to_owned(), total.clone())]),
        by_resolver: BTreeMap::from([("glibc".to_owned(), total.clone())]),
        total,
        packets: PacketCounts { sent: 2000, answered: 1990, lost: 10, ..Default::default() },
        timeline: Timeline { slot_s: 1.6, slots: vec![slot; 25] },
        faults: vec![FaultMark {
            what: "kill9@10s".to_owned(),
            at_s: 10.0,
            first_failure_after_s: after(0.0),
            last_failure_after_s: after(2.5),
            last_unknown_host_after_s: after(2.5),
            failed,
            ..FaultMark::default()
        }],
        unjudged: Default::default(),
        generator: generator::judge(&begun, 0.25),
        slo: Vec::new(),
        workers: 1,
    }
}

fn latencies() -> Slot {
    Slot { p50: 1.0, p90: 2.0, p99: 3.0, max: 4.0, ..Slot::default() }
}

fn plan() -> Plan {
    Plan {
        servers: vec!["10.96.0.10:53".to_owned()],
        transport: "udp".to_owned(),
        arrivals: "poisson:33".to_owned(),
        names: "names.txt".to_owned(),
        name_count: 100,
        resolvers: vec!["glibc".to_owned()],
        clients: 20,
        seed: 1,
        slow_ms: 1000.0,
        staleness_ms: Some(1000.0),
    }
}

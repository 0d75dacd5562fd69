//! What the picture shows: the main figures, as bars.

use crate::support::machine::spread;
use crate::support::plot::{Bar, Panel};
use crate::support::report::Table;

/// Where a bar comes from: table, row, column; and its name.
type Source = (&'static str, String, &'static str, &'static str);

/// The column of CPU time.
const CPU: &str = "CPU µs/query";

/// Bars of those figures that were measured.
pub fn panels(tables: &[Table]) -> Vec<Panel> {
    let panel = |title: &str, decimals, sources: Vec<Source>, shown: fn(f64) -> f64| {
        let bars = sources.into_iter().filter_map(|source| bar(tables, source, shown)).collect();
        Panel { title: title.to_owned(), decimals, bars }
    };
    let same = |value: f64| value;
    // Not the kq/s of the table: a server may have waited for the client.
    let per_core = |cpu_us: f64| 1_000.0 / cpu_us;
    let over_tcp = "Queries over TCP per second of CPU, 100 in flight, in thousands";
    let panels = [
        panel("CPU time per UDP query at saturation, 1 000 names, in µs", 2, udp(), same),
        panel(over_tcp, 0, tcp(), per_core),
        panel("p99 latency over UDP at 20 000 q/s, in µs", 0, latency(), same),
    ];
    panels.into_iter().filter(|panel| !panel.bars.is_empty()).collect()
}

fn udp() -> Vec<Source> {
    const AUTHORITIES: &str = "UDP, beside authoritative servers";
    const CACHES: &str = "UDP, beside caches";
    const ECHO: &str = "UDP, beside a bare echo";
    let authority = |name| format!("ClusterIP A, 1 000 names: {name}");
    let cache = |name| format!("cached foreign name, 1 000 names: {name}");
    vec![
        (ECHO, "ClusterIP A, 1 000 names".into(), "echo µs", "bare echo"),
        (ECHO, "ClusterIP A, 1 000 names".into(), CPU, "Mainstay, cluster name"),
        (ECHO, "cached foreign name, 1 000 names".into(), CPU, "Mainstay, cached name"),
        (AUTHORITIES, authority("NSD"), CPU, "NSD"),
        (AUTHORITIES, authority("Knot DNS"), CPU, "Knot DNS"),
        (CACHES, cache("Unbound"), CPU, "Unbound, cached name"),
        (CACHES, cache("PowerDNS Recursor"), CPU, "PowerDNS Recursor, cached"),
        (CACHES, cache("Knot Resolver"), CPU, "Knot Resolver, cached"),
        (CACHES, cache("dnsmasq"), CPU, "dnsmasq, cached name"),
        ("UDP, beside CoreDNS", "ClusterIP A: CoreDNS".into(), CPU, "CoreDNS, cluster name"),
    ]
}

fn tcp() -> Vec<Source> {
    let cluster = |name| format!("ClusterIP A, 1 × 100: {name}");
    let cache = |name| format!("cached foreign name, 1 × 100: {name}");
    vec![
        ("TCP", cluster("Mainstay"), CPU, "Mainstay, cluster name"),
        ("TCP", cache("Mainstay"), CPU, "Mainstay, cached name"),
        ("TCP", cluster("NSD"), CPU, "NSD"),
        ("TCP", cluster("Knot DNS"), CPU, "Knot DNS"),
        ("TCP", cache("Unbound"), CPU, "Unbound, cached name"),
        ("TCP", cache("PowerDNS Recursor"), CPU, "PowerDNS Recursor, cached"),
        ("TCP", cache("Knot Resolver"), CPU, "Knot Resolver, cached"),
        ("TCP", cache("dnsmasq"), CPU, "dnsmasq, cached name"),
        ("TCP", cluster("CoreDNS"), CPU, "CoreDNS, cluster name"),
    ]
}

fn latency() -> Vec<Source> {
    let row = |name| format!("20000 q/s: {name}");
    vec![
        ("UDP at a fixed rate", row("echo"), "p99 µs", "bare echo"),
        ("UDP at a fixed rate", row("Mainstay"), "p99 µs", "Mainstay"),
        ("UDP at a fixed rate", row("CoreDNS"), "p99 µs", "CoreDNS"),
    ]
}

/// The bar of a source, if that was measured.
fn bar(tables: &[Table], (table, row, column, name): Source, shown: fn(f64) -> f64) -> Option<Bar> {
    let table = tables.iter().find(|it| it.title == table)?;
    let row = table.rows.iter().find(|it| it.name == row)?;
    let values: Vec<f64> = table.measured(row, column)?.iter().copied().map(shown).collect();
    let is_ours = name.starts_with("Mainstay");
    Some(Bar { name: name.to_owned(), spread: spread(&values)?, is_ours })
}

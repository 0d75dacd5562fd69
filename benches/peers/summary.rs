//! What the picture shows: the main figures, as bars.

use crate::support::machine::spread;
use crate::support::plot::{Bar, Panel};
use crate::support::report::{Cell, Table};

/// Where a bar comes from: table, row, column; and its name.
type Source = (&'static str, String, usize, &'static str);

/// Bars of those figures that were measured.
pub fn panels(tables: &[Table]) -> Vec<Panel> {
    let panel = |title: &str, decimals, sources: Vec<Source>| {
        let bars = sources.into_iter().filter_map(|source| bar(tables, source)).collect();
        Panel { title: title.to_owned(), decimals, bars }
    };
    let panels = [
        panel("CPU time per UDP query at saturation, 1 000 names, in µs", 2, udp()),
        panel("Queries per second and core over TCP, 100 in flight, in thousands", 0, tcp()),
        panel("p99 latency over UDP at 20 000 q/s, in µs", 0, latency()),
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
        (ECHO, "ClusterIP A, 1 000 names".into(), 2, "bare echo"),
        (ECHO, "ClusterIP A, 1 000 names".into(), 1, "Mainstay, cluster name"),
        (ECHO, "cached foreign name, 1 000 names".into(), 1, "Mainstay, cached name"),
        (AUTHORITIES, authority("NSD"), 0, "NSD"),
        (AUTHORITIES, authority("Knot DNS"), 0, "Knot DNS"),
        (CACHES, cache("Unbound"), 0, "Unbound, cached name"),
        (CACHES, cache("PowerDNS Recursor"), 0, "PowerDNS Recursor, cached"),
        (CACHES, cache("Knot Resolver"), 0, "Knot Resolver, cached"),
        (CACHES, cache("dnsmasq"), 0, "dnsmasq, cached name"),
        ("UDP, beside CoreDNS", "ClusterIP A: CoreDNS".into(), 0, "CoreDNS, cluster name"),
    ]
}

fn tcp() -> Vec<Source> {
    let cluster = |name| format!("ClusterIP A, 1 × 100: {name}");
    let cache = |name| format!("cached foreign name, 1 × 100: {name}");
    vec![
        ("TCP", cluster("Mainstay"), 2, "Mainstay, cluster name"),
        ("TCP", cache("Mainstay"), 2, "Mainstay, cached name"),
        ("TCP", cluster("NSD"), 2, "NSD"),
        ("TCP", cluster("Knot DNS"), 2, "Knot DNS"),
        ("TCP", cache("Unbound"), 2, "Unbound, cached name"),
        ("TCP", cache("PowerDNS Recursor"), 2, "PowerDNS Recursor, cached"),
        ("TCP", cache("Knot Resolver"), 2, "Knot Resolver, cached"),
        ("TCP", cache("dnsmasq"), 2, "dnsmasq, cached name"),
        ("TCP", cluster("CoreDNS"), 2, "CoreDNS, cluster name"),
    ]
}

fn latency() -> Vec<Source> {
    let row = |name| format!("20000 q/s: {name}");
    vec![
        ("UDP at a fixed rate", row("echo"), 3, "bare echo"),
        ("UDP at a fixed rate", row("Mainstay"), 3, "Mainstay"),
        ("UDP at a fixed rate", row("CoreDNS"), 3, "CoreDNS"),
    ]
}

fn bar(tables: &[Table], (table, row, column, name): Source) -> Option<Bar> {
    let table = tables.iter().find(|it| it.title == table)?;
    let row = table.rows.iter().find(|it| it.name == row)?;
    let Cell::Measured(values) = row.cells.get(column)? else { return None };
    let is_ours = name.starts_with("Mainstay");
    Some(Bar { name: name.to_owned(), spread: spread(values)?, is_ours })
}

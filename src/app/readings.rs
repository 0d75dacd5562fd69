//! The counters of the listeners as metrics, and all metrics as one page.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::BUILD;
use super::compile::server_name;
use super::memory::Memory;
use crate::listen::Exchange;
use crate::ops::dns::{DnsCollector, Line, Reading, Scene, Value};
use crate::ops::{self, Exposition};

/// A counter of the listeners: name without `_total`, help, and where it is.
type OfExchange = (&'static str, &'static str, fn(&Exchange) -> u64);
const READINGS: [OfExchange; 12] = [
    ("mainstay_packets_ignored", "Packets that are no queries", |it| load(&it.counters.ignored)),
    ("mainstay_receive_errors", "Errors of receiving sockets", |it| {
        load(&it.counters.receive_errors)
    }),
    ("mainstay_receive_drops", "Packets without room in a receive buffer", |it| {
        it.counters.receive_drops.total()
    }),
    ("mainstay_send_errors", "Replies that could not be sent", |it| load(&it.counters.send_errors)),
    ("mainstay_accept_errors", "Connections not accepted", |it| load(&it.counters.accept_errors)),
    ("mainstay_tcp_refused", "Connections closed as too many", |it| load(&it.counters.tcp_refused)),
    ("mainstay_tcp_idle_closed", "Idle connections closed to make room", |it| {
        load(&it.counters.tcp_idle_closed)
    }),
    ("mainstay_errands_refused", "Queries dropped as too many", |it| load(&it.errands.refused)),
    ("mainstay_errands_refused_by_client", "Queries dropped as too many of one client", |it| {
        load(&it.errands.refused_by_client)
    }),
    ("mainstay_errands_resumed", "Queries of a server that died, asked again", |it| {
        it.journal.as_ref().map_or(0, |journal| load(&journal.resumed))
    }),
    ("mainstay_errands_abandoned", "Queries of a server that died, not asked again", |it| {
        it.journal.as_ref().map_or(0, |journal| load(&journal.abandoned))
    }),
    ("mainstay_errands_unwritten", "Queries that the next server could not ask again", |it| {
        it.journal.as_ref().map_or(0, |journal| load(&journal.unwritten))
    }),
];

/// What is told of the memory.
type OfMemory = (&'static str, &'static str, fn(&Memory) -> Value);
const MEMORY: [OfMemory; 4] = [
    ("mainstay_memory_limit_bytes", "Memory that may be used", |it| {
        Value::Gauge(it.limit_bytes() as f64)
    }),
    ("mainstay_memory_used_bytes", "Memory in use that counts against the limit", |it| {
        Value::Gauge(load(&it.used_bytes) as f64)
    }),
    ("mainstay_memory_pressure", "1 while memory is short and caches give way", |it| {
        Value::Gauge(it.is_short.load(Ordering::Relaxed).into())
    }),
    ("mainstay_memory_shrinks", "Times that a cache gave memory back", |it| {
        Value::Counter(load(&it.shrinks))
    }),
];

fn of_memory((name, help, read): OfMemory, memory: &Arc<Memory>) -> Reading {
    let memory = memory.clone();
    Reading { name, help, read: Box::new(move || vec![(vec![], read(&memory))]) }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// The metrics of all rooms.
pub(super) fn exposition(
    counters: &ops::Counters,
    scene: &Arc<ArcSwap<Scene>>,
    exchange: &Arc<Exchange>,
    memory: &Arc<Memory>,
) -> Exposition {
    let mut exposition = Exposition::new(counters.clone(), BUILD);
    let mut readings: Vec<Reading> = READINGS.map(|reading| of_exchange(reading, exchange)).into();
    readings.push(shed(exchange));
    readings.extend(MEMORY.map(|reading| of_memory(reading, memory)));
    let collector = DnsCollector { scene: scene.clone(), readings };
    exposition.registry_mut().register_collector(Box::new(collector));
    exposition
}

fn of_exchange((name, help, read): OfExchange, exchange: &Arc<Exchange>) -> Reading {
    let exchange = exchange.clone();
    let line = move || vec![(vec![], Value::Counter(read(&exchange)))];
    Reading { name, help, read: Box::new(line) }
}

/// As CoreDNS's `shed`, which also drops replies; ours always leave.
fn shed(exchange: &Arc<Exchange>) -> Reading {
    let exchange = exchange.clone();
    let line = |(port, count)| -> Line {
        let labels = vec![("server", server_name(port)), ("reason", "query".to_owned())];
        (labels, Value::Counter(count))
    };
    Reading {
        name: "coredns_shed_dropped",
        help: "Queries dropped under overload, because they waited longest",
        read: Box::new(move || exchange.counters.shed.totals().into_iter().map(line).collect()),
    }
}

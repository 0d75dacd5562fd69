//! `coredns_dns_…`: what the queries of each zone came to.

use std::fmt;

use super::{Labels, Page, Value, with};
use crate::resolve::plan::Plan;
use crate::resolve::tally::{
    AUTHORS, DURATION_US, FAMILIES, HistogramTotal, RCODES, SIZE_BYTES, TYPES, Totals,
};
use crate::wire::Rcode;

/// `coredns_dns_…`: one tally per zone and listen port.
pub(super) fn write(page: &mut Page<'_, '_>, plan: &Plan) -> fmt::Result {
    let published = plan.zones().filter(|zoned| zoned.block.is_published);
    let mut tallies: Vec<_> = published.map(|zoned| &zoned.tally).collect();
    if !tallies.is_empty() {
        tallies.extend(plan.ports.iter().map(|port| &port.unserved));
    }
    let all: Vec<(Labels, Totals)> = tallies
        .into_iter()
        .map(|tally| (server_labels(&tally.server, &tally.zone), tally.totals()))
        .collect();
    let lines = || all.iter().flat_map(|(labels, totals)| requests(labels, totals));
    page.family("coredns_dns_requests", "Queries received", lines())?;
    let lines = || all.iter().flat_map(|(labels, totals)| responses(labels, totals));
    page.family("coredns_dns_responses", "Replies sent", lines())?;
    let lines =
        all.iter().map(|(labels, totals)| (labels.clone(), Value::Counter(totals.dnssec_ok)));
    page.family("coredns_dns_do_requests", "Queries with the DO bit", lines)?;
    let lines = all.iter().map(|(labels, totals)| {
        let bounds = DURATION_US.map(|us| us as f64 / 1e6).to_vec();
        (labels.clone(), histogram(bounds, &totals.duration_us, 1e6))
    });
    page.family("coredns_dns_request_duration_seconds", "Time to a reply", lines)?;
    let sizes = |pick: fn(&Totals) -> &[HistogramTotal; 2]| {
        all.iter().flat_map(move |(labels, totals)| {
            PROTOS.iter().zip(pick(totals)).map(move |(proto, total)| {
                let bounds = SIZE_BYTES.map(|bytes| bytes as f64).to_vec();
                (with(labels, "proto", proto), histogram(bounds, total, 1.0))
            })
        })
    };
    let lines = sizes(|totals| &totals.request_bytes);
    page.family("coredns_dns_request_size_bytes", "Size of queries, in octets", lines)?;
    let lines = sizes(|totals| &totals.reply_bytes);
    page.family("coredns_dns_response_size_bytes", "Size of replies, in octets", lines)
}

/// The values of label `proto`, in the order of `tally::Proto`.
const PROTOS: [&str; 2] = ["udp", "tcp"];

fn requests(labels: &Labels, totals: &Totals) -> Vec<(Labels, Value)> {
    let mut lines = Vec::new();
    for (proto, families) in PROTOS.iter().zip(&totals.requests) {
        for (family, types) in FAMILIES.iter().zip(families) {
            for (number, &count) in types.iter().enumerate().filter(|(_, count)| **count > 0) {
                let rtype = TYPES.get(number).map_or("other".to_owned(), ToString::to_string);
                let labels = with(&with(labels, "proto", proto), "family", family);
                lines.push((with(&labels, "type", &rtype), Value::Counter(count)));
            }
        }
    }
    lines
}

fn responses(labels: &Labels, totals: &Totals) -> Vec<(Labels, Value)> {
    let mut lines = Vec::new();
    for (number, authors) in totals.responses.iter().enumerate() {
        let rcode = if number == RCODES - 1 { Rcode::BADVERS } else { Rcode(number as u16) };
        for (author, &count) in AUTHORS.iter().zip(authors).filter(|(_, count)| **count > 0) {
            let labels = with(&with(labels, "rcode", &rcode.to_string()), "plugin", author);
            lines.push((labels, Value::Counter(count)));
        }
    }
    lines
}

fn histogram(bounds: Vec<f64>, total: &HistogramTotal, divisor: f64) -> Value {
    Value::Histogram(bounds, total.buckets.clone(), total.sum as f64 / divisor)
}

fn server_labels(server: &str, zone: &str) -> Labels {
    vec![("server", server.to_owned()), ("zone", zone.to_owned()), ("view", String::new())]
}

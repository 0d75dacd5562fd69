//! Records that one of the servers has, or has otherwise.

use std::collections::BTreeSet;

use super::{A, AAAA, Difference, NS, PTR, Rule, SRV};
use crate::questions::text;
use crate::reply::{AA, NOERROR, NXDOMAIN, Record, Reply};

pub const RULES: [Rule; 6] = [
    ("ptr-to-a-service-that-is-not", ptr_to_a_service_that_is_not),
    ("ptr-of-a-longer-name", ptr_of_a_longer_name),
    ("import-without-ports-exists", import_without_ports_exists),
    ("pod-has-all-its-addresses", pod_has_all_its_addresses),
    ("link-local-addresses-are-left-out", link_local_addresses_are_left_out),
    ("srv-weight-of-what-is-there", srv_weight_of_what_is_there),
];

/// All targets that only CoreDNS knows are names below Services that do not exist, or that are
/// aliases.
fn ptr_to_a_service_that_is_not(it: &Difference<'_>) -> bool {
    let theirs: BTreeSet<&Record> = it.theirs.answer.iter().collect();
    let ours: BTreeSet<&Record> = it.ours.answer.iter().collect();
    let is_known = |record: &&&Record| {
        let target = text(&record.rdata);
        let labels: Vec<&str> = target.split('.').collect();
        matches!(labels[..], [_, service, namespace, "svc", ..]
            if it.facts.has_endpoints(&format!("{service}.{namespace}")))
    };
    let is_ours = if ours.is_empty() {
        it.is_nxdomain(it.ours)
    } else {
        it.ours.has(AA) && it.ours.rcode == NOERROR
    };
    it.asks_for(&[PTR])
        && it.theirs.has(AA)
        && ours.is_subset(&theirs)
        && ours.len() < theirs.len()
        && !theirs.difference(&ours).any(|record| is_known(&record))
        && is_ours
}

fn ptr_of_a_longer_name(it: &Difference<'_>) -> bool {
    let name = it.question.name_text();
    it.asks_for(&[PTR])
        && name.ends_with(".ip6.arpa.")
        && (35..=37).contains(&name.matches('.').count())
        && it.theirs.has(AA)
        && !it.theirs.answer.is_empty()
        && it.is_nxdomain(it.ours)
}

/// A ServiceImport with addresses, but no ports.
fn import_without_ports_exists(it: &Difference<'_>) -> bool {
    let Some(prefix) = it.prefix() else { return false };
    let Some(name) = prefix.strip_suffix(".svc") else { return false };
    let is_import = it.facts.portless_imports.contains(name.strip_prefix("_._.").unwrap_or(name));
    let is_address = |record: &Record| {
        record.owner == it.question.name
            && record.rtype == it.question.rtype
            && [A, AAAA].contains(&record.rtype)
    };
    let is_found = it.ours.rcode == NOERROR
        && !it.ours.answer.is_empty()
        && it.ours.answer.iter().all(is_address)
        && it.ours.records().count() == it.ours.answer.len()
        && it.ours.flags == it.theirs.flags;
    it.question.name_text().ends_with(".clusterset.local.")
        && is_import
        && it.is_own_denial(it.theirs, NXDOMAIN)
        && (is_found || it.is_own_denial(it.ours, NOERROR))
}

/// The names of imported endpoints in lower case, with the id of their cluster.
pub fn in_lower_case(it: &Difference<'_>) -> Option<(Reply, Reply)> {
    let lower = |reply: &Reply| {
        let mut reply = reply.clone();
        for record in reply.answer.iter_mut().chain(&mut reply.additional) {
            record.owner.make_ascii_lowercase();
            if record.rtype == SRV {
                record.rdata[6..].make_ascii_lowercase();
            }
        }
        reply.answer.sort_unstable();
        reply.additional.sort_unstable();
        reply
    };
    let is_import = it.question.name_text().ends_with(".clusterset.local.");
    (is_import && it.asks_for(&[SRV])).then(|| (lower(it.theirs), lower(it.ours)))
}

/// `pods verified`, and an address that is not the first of its Pod.
fn pod_has_all_its_addresses(it: &Difference<'_>) -> bool {
    let Some(prefix) = it.prefix() else { return false };
    let Some(name) = prefix.strip_suffix(".pod") else { return false };
    // Labels in front are ignored.
    let mut labels: Vec<&str> = name.rsplit('.').take(2).collect();
    labels.reverse();
    let is_address =
        |record: &Record| record.owner == it.question.name && record.rtype == it.question.rtype;
    let is_found = it.asks_for(&[A, AAAA])
        && it.ours.rcode == NOERROR
        && it.ours.answer.len() == 1
        && it.ours.answer.iter().all(is_address)
        && it.ours.authority.is_empty()
        && it.ours.flags == it.theirs.flags;
    it.facts.second_addresses.contains(&labels.join("."))
        && it.is_own_denial(it.theirs, NXDOMAIN)
        && (is_found || it.is_own_denial(it.ours, NOERROR))
}

/// Addresses of the server itself: nobody else can ask those of a link.
fn link_local_addresses_are_left_out(it: &Difference<'_>) -> bool {
    let is_link_local = |record: &Record| match record.rtype {
        A => record.rdata[..2] == [169, 254],
        AAAA => record.rdata[0] == 0xFE && record.rdata[1] & 0xC0 == 0x80,
        _ => false,
    };
    let mut theirs = it.theirs.clone();
    theirs.answer.retain(|record| !is_link_local(record));
    theirs.additional.retain(|record| !is_link_local(record));
    let is_server = it.question.name_text().starts_with("ns.dns.");
    let is_apex = it.asks_for(&[NS]) && it.theirs.answer.iter().all(|record| record.rtype == NS);
    (is_server || is_apex) && theirs == *it.ours
}

/// The same records, of one weight in each reply; ours is not the lower one.
fn srv_weight_of_what_is_there(it: &Difference<'_>) -> bool {
    let weights = |records: &[Record]| -> BTreeSet<[u8; 2]> {
        records.iter().map(|record| [record.rdata[2], record.rdata[3]]).collect()
    };
    let without = |records: &[Record]| -> Vec<Record> {
        let mut records = records.to_vec();
        records.iter_mut().for_each(|record| record.rdata[2..4].fill(0));
        records.sort_unstable();
        records
    };
    let (theirs, ours) = (weights(&it.theirs.answer), weights(&it.ours.answer));
    it.asks_for(&[SRV])
        && theirs.len() == 1
        && ours.len() == 1
        && ours > theirs
        && without(&it.theirs.answer) == without(&it.ours.answer)
        && it.theirs.additional == it.ours.additional
        && it.theirs.flags == it.ours.flags
        && it.theirs.rcode == it.ours.rcode
}

//! NODATA and NXDOMAIN: whether a name exists.

use super::{A, AAAA, Difference, NS, PTR, Rule, SOA, SRV, TXT};
use crate::reply::{AA, NOERROR, Record, Reply};

pub const RULES: [Rule; 9] = [
    ("soa-below-the-apex", soa_below_the_apex),
    ("txt-of-an-empty-non-terminal", txt_of_an_empty_non_terminal),
    ("dns-is-an-empty-non-terminal", dns_is_an_empty_non_terminal),
    ("dns-version-has-other-types", dns_version_has_other_types),
    ("ns-dns-has-other-types", ns_dns_has_other_types),
    ("ns-dns-in-capitals", ns_dns_in_capitals),
    ("ns-of-the-apex-in-capitals", ns_of_the_apex_in_capitals),
    ("reverse-name-has-other-types", reverse_name_has_other_types),
    ("srv-of-a-pod", srv_of_a_pod),
];

/// A rule that may come on top of each other one.
pub const SHORT: &str = "denial-is-short";
/// Longest TTL of a denial of Mainstay, in seconds.
const DENIAL_TTL_MAX_S: u32 = 5;

/// CoreDNS's reply with the SOA that Mainstay has in such a reply: in a denial with another TTL,
/// and always with another MINIMUM. None where that changes nothing, or Mainstay has no SOA.
pub fn of_short_denials(it: &Difference<'_>) -> Option<Reply> {
    let mut theirs = it.theirs.clone();
    theirs.authority.iter_mut().filter(|it| is_own_soa(it)).for_each(|soa| {
        soa.ttl_s = soa.ttl_s.min(DENIAL_TTL_MAX_S);
    });
    let all = theirs.answer.iter_mut().chain(&mut theirs.authority);
    all.filter(|it| is_own_soa(it)).for_each(shorten_minimum);
    let has_soa = it.ours.answer.iter().chain(&it.ours.authority).any(is_own_soa);
    (theirs != *it.theirs && has_soa).then_some(theirs)
}

/// Whether a SOA is that of a zone of the cluster, and not that of an upstream.
fn is_own_soa(record: &Record) -> bool {
    let name_server = [b"\x02ns\x03dns", &record.owner[..]].concat();
    record.rtype == SOA
        && record.rdata.to_ascii_lowercase().starts_with(&name_server.to_ascii_lowercase())
}

fn shorten_minimum(soa: &mut Record) {
    let at = soa.rdata.len() - 4;
    let minimum = u32::from_be_bytes(soa.rdata[at..].try_into().expect("four octets"));
    soa.rdata[at..].copy_from_slice(&minimum.min(DENIAL_TTL_MAX_S).to_be_bytes());
}

/// CoreDNS says NXDOMAIN, Mainstay NODATA.
fn is_nodata_for_nxdomain(it: &Difference<'_>) -> bool {
    it.is_nxdomain(it.theirs) && it.is_own_denial(it.ours, NOERROR)
}

fn soa_below_the_apex(it: &Difference<'_>) -> bool {
    it.asks_for(&[SOA]) && it.is_own_denial(it.theirs, NOERROR) && it.is_nxdomain(it.ours)
}

fn txt_of_an_empty_non_terminal(it: &Difference<'_>) -> bool {
    let Some(prefix) = it.prefix() else { return false };
    let labels: Vec<&str> = prefix.split('.').collect();
    let is_empty = matches!(labels[..], ["" | "svc" | "pod"] | [_, "svc" | "pod"]);
    it.asks_for(&[TXT]) && is_empty && is_nodata_for_nxdomain(it)
}

fn dns_is_an_empty_non_terminal(it: &Difference<'_>) -> bool {
    it.prefix().is_some_and(|prefix| prefix == "dns") && is_nodata_for_nxdomain(it)
}

fn dns_version_has_other_types(it: &Difference<'_>) -> bool {
    let is_version = it.prefix().is_some_and(|prefix| prefix == "dns-version");
    is_version && !it.asks_for(&[TXT]) && is_nodata_for_nxdomain(it)
}

fn ns_dns_has_other_types(it: &Difference<'_>) -> bool {
    let is_server = it.prefix().is_some_and(|prefix| prefix == "ns.dns");
    is_server && it.asks_for(&[TXT, PTR]) && is_nodata_for_nxdomain(it)
}

/// CoreDNS compares the end of a name with its zone letter by letter.
fn ns_dns_in_capitals(it: &Difference<'_>) -> bool {
    let is_server = it.prefix().is_some_and(|prefix| prefix == "ns.dns");
    let is_address =
        |record: &Record| record.owner == it.question.name && record.rtype == it.question.rtype;
    let is_found = it.ours.rcode == NOERROR
        && it.ours.has(AA)
        && it.asks_for(&[A, AAAA])
        && it.ours.answer.iter().all(is_address)
        && it.ours.authority.is_empty();
    is_server
        && it.has_capitals()
        && it.is_nxdomain(it.theirs)
        && (is_found || it.is_own_denial(it.ours, NOERROR))
}

/// The same at the apex.
fn ns_of_the_apex_in_capitals(it: &Difference<'_>) -> bool {
    let is_server = |record: &Record| record.owner == it.question.name && record.rtype == NS;
    let is_glue = |record: &Record| [A, AAAA].contains(&record.rtype);
    it.prefix().is_some_and(|prefix| prefix.is_empty())
        && it.asks_for(&[NS])
        && it.has_capitals()
        && it.is_own_denial(it.theirs, NOERROR)
        && it.ours.flags == it.theirs.flags
        && it.ours.rcode == NOERROR
        && !it.ours.answer.is_empty()
        && it.ours.answer.iter().all(is_server)
        && it.ours.additional.iter().all(is_glue)
}

fn reverse_name_has_other_types(it: &Difference<'_>) -> bool {
    let name = it.question.name_text();
    let labels = name.matches('.').count();
    let is_address = name.ends_with(".in-addr.arpa.") && labels == 6
        || name.ends_with(".ip6.arpa.") && labels == 34;
    is_address && !it.asks_for(&[PTR]) && is_nodata_for_nxdomain(it)
}

fn srv_of_a_pod(it: &Difference<'_>) -> bool {
    let [srv] = &it.theirs.answer[..] else { return false };
    let [glue] = &it.theirs.additional[..] else { return false };
    it.prefix().is_some_and(|prefix| prefix.ends_with(".pod"))
        && it.asks_for(&[SRV])
        && it.theirs.has(AA)
        // Priority 0, some weight, and a port that nobody can listen on.
        && srv.rdata[..2] == [0, 0]
        && srv.rdata[4..6] == [0, 0]
        && srv.rdata[6..] == glue.owner
        && it.is_own_denial(it.ours, NOERROR)
}

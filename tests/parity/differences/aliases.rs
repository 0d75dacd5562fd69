//! Services of the type ExternalName.

use super::{A, AAAA, ANY, CNAME, Difference, Rule, SOA};
use crate::questions::{Question, text};
use crate::reply::{AA, NOERROR, RA, Record, Reply, SERVFAIL};

/// Octets behind the names of a SOA.
const SOA_NUMBERS: usize = 20;

pub const RULES: [Rule; 7] = [
    ("alias-without-end-fails", without_end_fails),
    ("alias-is-what-any-finds", is_what_any_finds),
    ("alias-has-every-type", has_every_type),
    ("alias-tells-the-code-of-its-end", tells_the_code_of_its_end),
    ("alias-is-told-before-a-denial", is_told_before_a_denial),
    ("alias-has-the-soa-of-a-denial", has_the_soa_of_a_denial),
    ("alias-outside-is-recursion", outside_is_recursion),
];

/// The aliases from the name on, in order, and what else the answer has.
fn chain<'r>(it: &Difference<'_>, reply: &'r Reply) -> (usize, Vec<&'r Record>) {
    let mut rest: Vec<&Record> = reply.answer.iter().collect();
    let (mut at, mut hops) = (it.question.name.to_ascii_lowercase(), 0);
    let is_next = |record: &&Record, at: &[u8]| {
        record.rtype == CNAME && record.owner.to_ascii_lowercase() == at
    };
    while let Some(next) = rest.iter().position(|record| is_next(record, &at)) {
        at = rest.remove(next).rdata.to_ascii_lowercase();
        hops += 1;
    }
    rest.retain(|record| {
        record.owner.to_ascii_lowercase() != at || record.rtype != it.question.rtype
    });
    (hops, rest)
}

/// Whether a reply begins with an alias and has nothing that the chain does not lead to.
fn is_chain(it: &Difference<'_>, reply: &Reply) -> bool {
    let (hops, rest) = chain(it, reply);
    let is_alone = reply.authority.iter().all(|record| record.rtype == SOA)
        && reply.authority.len() <= 1
        && reply.additional.is_empty();
    it.is_of_alias() && hops > 0 && rest.is_empty() && is_alone && reply.has(AA)
}

/// Whether the flags are equal but for RA, which the end of the chain may bring.
fn has_equal_flags(it: &Difference<'_>) -> bool {
    it.theirs.flags == it.ours.flags & !RA
}

/// Where the aliases from the asked name on lead to, in lower case.
pub fn end(question: &Question, reply: &Reply) -> Vec<u8> {
    let mut end = question.name.to_ascii_lowercase();
    for _ in &reply.answer {
        let next = reply
            .answer
            .iter()
            .find(|record| record.rtype == CNAME && record.owner.to_ascii_lowercase() == end);
        match next {
            Some(next) => end = next.rdata.to_ascii_lowercase(),
            None => break,
        }
    }
    end
}

fn is_what_any_finds(it: &Difference<'_>) -> bool {
    it.asks_for(&[ANY])
        && it.is_own_denial(it.theirs, NOERROR)
        && is_chain(it, it.ours)
        && it.ours.records().count() == 1
        && it.ours.rcode == NOERROR
        && it.ours.flags == it.theirs.flags
}

fn has_every_type(it: &Difference<'_>) -> bool {
    !it.asks_for(&[A, AAAA, CNAME, ANY])
        && it.is_own_denial(it.theirs, NOERROR)
        && is_chain(it, it.ours)
        && has_equal_flags(it)
}

fn tells_the_code_of_its_end(it: &Difference<'_>) -> bool {
    it.asks_for(&[A, AAAA])
        && is_chain(it, it.theirs)
        && it.theirs.rcode == NOERROR
        && it.theirs.authority.is_empty()
        && it.theirs.answer.iter().all(|record| record.rtype == CNAME)
        && is_chain(it, it.ours)
        && it.ours.answer == it.theirs.answer
        && it.ours.rcode != NOERROR
        && has_equal_flags(it)
}

/// The target is in the cluster, and has no records of the type.
fn is_told_before_a_denial(it: &Difference<'_>) -> bool {
    it.asks_for(&[A, AAAA])
        && it.is_own_denial(it.theirs, NOERROR)
        && is_chain(it, it.ours)
        && it.ours.answer.iter().all(|record| record.rtype == CNAME)
        && it.ours.authority.len() == 1
        && has_equal_flags(it)
}

/// The target is outside, and has no records of the type.
fn has_the_soa_of_a_denial(it: &Difference<'_>) -> bool {
    it.asks_for(&[A, AAAA])
        && is_chain(it, it.theirs)
        && it.theirs.authority.is_empty()
        && it.theirs.answer.iter().all(|record| record.rtype == CNAME)
        && it.ours.answer == it.theirs.answer
        && is_chain(it, it.ours)
        && (it.theirs.rcode, it.ours.rcode) == (NOERROR, NOERROR)
        && it.ours.authority.len() == 1
        && has_equal_flags(it)
}

fn without_end_fails(it: &Difference<'_>) -> bool {
    let is_empty = it.ours.records().next().is_none() && it.ours.flags == it.theirs.flags & !AA;
    let end = text(&end(it.question, it.ours));
    let end = end.strip_suffix(".svc.cluster.local.").unwrap_or_default();
    let is_alias = it.facts.aliases.contains(end)
        && it.ours.answer.iter().all(|record| record.rtype == CNAME)
        && it.ours.authority.is_empty()
        && it.ours.additional.is_empty()
        && it.ours.flags == it.theirs.flags;
    it.is_of_alias()
        && !it.asks_for(&[CNAME])
        && it.is_own_denial(it.theirs, NOERROR)
        && it.ours.rcode == SERVFAIL
        && (is_empty || is_alias)
}

fn outside_is_recursion(it: &Difference<'_>) -> bool {
    is_chain(it, it.theirs)
        && it.asks_for(&[A, AAAA])
        && it.ours.has(RA)
        && Reply { flags: it.theirs.flags | RA, ..it.theirs.clone() } == *it.ours
}

/// Both replies in lower case, if ours has capital letters only where the question has them: names
/// are compressed to those of the question.
pub fn in_lower_case(it: &Difference<'_>) -> Option<(Reply, Reply)> {
    let is_ours = it.is_of_alias() || !it.ours.has(AA);
    let asked = &it.question.name;
    let mut names = it.ours.records().flat_map(|record| {
        let has_names = [CNAME, SOA].contains(&record.rtype);
        std::iter::once(&record.owner[..]).chain(has_names.then_some(&record.rdata[..]))
    });
    let is_spelled = names.all(|name| is_spelled_as(asked, name));
    (is_ours && is_spelled && it.has_capitals()).then(|| (in_lower(it.theirs), in_lower(it.ours)))
}

/// Whether the labels that a name has in common with the end of the question are spelled as there
/// or in lower case, and the rest in lower case. RDATA may have another name behind.
fn is_spelled_as(asked: &[u8], names: &[u8]) -> bool {
    let is_lower = |octets: &[u8]| !octets.iter().any(u8::is_ascii_uppercase);
    let (lower, len) = (asked.to_ascii_lowercase(), name_len(names));
    let (name, others) = names.split_at(len);
    let mut at = 0;
    while !lower.ends_with(&name[at..].to_ascii_lowercase()) {
        at += 1 + usize::from(name[at]);
    }
    let is_so = is_lower(&name[..at]) && (asked.ends_with(&name[at..]) || is_lower(&name[at..]));
    // The numbers of a SOA are no name.
    is_so && (others.len() <= SOA_NUMBERS || is_spelled_as(asked, others))
}

/// Octets of the name at the beginning.
fn name_len(octets: &[u8]) -> usize {
    let mut at = 0;
    while octets[at] != 0 {
        at += 1 + usize::from(octets[at]);
    }
    at + 1
}

fn in_lower(reply: &Reply) -> Reply {
    let mut reply = reply.clone();
    for section in [&mut reply.answer, &mut reply.authority, &mut reply.additional] {
        for record in section.iter_mut() {
            record.owner.make_ascii_lowercase();
            if [CNAME, SOA].contains(&record.rtype) {
                record.rdata.make_ascii_lowercase();
            }
        }
        section.sort_unstable();
    }
    reply
}

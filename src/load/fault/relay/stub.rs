//! Answers that a relay makes by itself: those of a stub in place of an upstream, and those of a
//! broken one.
//!
//! The stub knows every name below a few top-level domains ([`TOP`]): A and AAAA are addresses that
//! follow from the name, for ever the same; a name with a label that begins with `missing` or
//! `no-such` does not exist; all other types have no records. Nothing else exists, as with the real
//! root: resolvers ask for `web-0` as written when the search list failed, and an address for it
//! would turn a server's silence into a wrong answer. TTLs are [`TTL_S`].

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::query::Unanswerable;
use crate::wire::reply::{Owner, Section, refuse, refuse_with_opt};
use crate::wire::{Class, HEADER_LEN, NameRef, Query, Rcode, RecordType, Reply, UDP_MAX};

/// Of all records, and of denials, in seconds: short, so that caches do not outlive a fault, and
/// what is asked while it lasts does reach it.
pub const TTL_S: u32 = 2;
/// Top-level domains that there are: those of names that runs ask for, and of RFC 2606.
pub const TOP: [&[u8]; 6] = [b"com", b"example", b"io", b"net", b"org", b"test"];

/// Where a label begins so, there is no such name.
const MISSING: [&[u8]; 2] = [b"missing", b"no-such"];
/// Primary server and mailbox of a SOA, in wire form, and its serial and timers but the last.
const SOA_NAMES: [&[u8]; 2] = [b"\x04stub\x07invalid\x00", b"\x04stub\x07invalid\x00"];
const SOA_NUMBERS: [u32; 4] = [1, 7200, 1800, 86_400];

/// Whether something can be a question: a header that is none of a response.
pub(super) fn is_question(packet: &[u8]) -> bool {
    packet.len() >= HEADER_LEN && packet[2] & 0x80 == 0
}

/// The IPv4 address of a name: in TEST-NET-3 (RFC 5737 §3).
pub fn address_v4(name: NameRef<'_>) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, 1 + (hash(name) % 254) as u8)
}

/// The IPv6 address of a name: in the documentation prefix (RFC 3849).
pub fn address_v6(name: NameRef<'_>) -> Ipv6Addr {
    Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | u128::from(hash(name)))
}

/// Answers a question, which [`is_question`].
pub(super) fn answer(packet: &[u8]) -> Vec<u8> {
    reply(packet, |query, reply| {
        if query.class != Class::IN {
            return reply.set_rcode(Rcode::REFUSED);
        }
        let (name, ttl_s) = (query.name(), TTL_S);
        if !exists(name) {
            reply.set_rcode(Rcode::NXDOMAIN);
            return soa(query, reply);
        }
        match query.rtype {
            // The root and top-level domains are no hosts.
            _ if name.labels().count() < 2 => soa(query, reply),
            RecordType::A => reply.addresses(query.rtype, &address_v4(name).octets(), ttl_s, 0),
            RecordType::AAAA => reply.addresses(query.rtype, &address_v6(name).octets(), ttl_s, 0),
            _ => soa(query, reply),
        }
    })
}

/// Whether there is such a name; the root is one.
fn exists(name: NameRef<'_>) -> bool {
    let is_missing = |label: &[u8]| MISSING.iter().any(|missing| label.starts_with(missing));
    has_zone(name) && !name.labels().any(is_missing)
}

/// Whether the top-level domain of a name is there, or none is needed.
fn has_zone(name: NameRef<'_>) -> bool {
    name.labels().last().is_none_or(|top| TOP.contains(&top))
}

/// Says that it failed.
pub(super) fn servfail(packet: &[u8]) -> Vec<u8> {
    reply(packet, |_, reply| reply.set_rcode(Rcode::SERVFAIL))
}

/// Says to come again over TCP.
pub(super) fn truncated(packet: &[u8]) -> Vec<u8> {
    let mut reply = reply(packet, |_, _| {});
    reply[2] |= 0x02;
    reply
}

/// Replies to a question as a recursive server does, with what `write` adds.
fn reply(packet: &[u8], write: impl FnOnce(&Query<'_>, &mut Reply<'_>)) -> Vec<u8> {
    let mut out = vec![0; UDP_MAX];
    let length = match Query::parse(packet) {
        Ok(query) => {
            let mut reply = Reply::to(&query, query.udp_limit(), &mut out);
            match query.edns {
                Some(edns) if edns.version > 0 => reply.set_rcode(Rcode::BADVERS),
                _ => write(&query, &mut reply),
            }
            reply.finish()
        }
        Err(Unanswerable::RefuseWithOpt { question_end }) => {
            refuse_with_opt(packet, question_end, &mut out)
        }
        Err(Unanswerable::Refuse(rcode)) => refuse(packet, rcode, &mut out),
        // Not with a whole header and without QR.
        Err(Unanswerable::Ignore) => refuse(packet, Rcode::FORMERR, &mut out),
    };
    out.truncate(length);
    out[3] |= 0x80; // RA
    out
}

/// The SOA of the top-level domain, a zone that every denial below it may name; of the root where
/// there is no such domain.
fn soa(query: &Query<'_>, reply: &mut Reply<'_>) {
    let labels: Vec<usize> = query.name().labels().map(|label| label.len() + 1).collect();
    let zone_labels = usize::from(has_zone(query.name()));
    let above: usize = labels.iter().rev().skip(zone_labels).sum();
    let numbers = SOA_NUMBERS.map(u32::to_be_bytes).concat();
    let rdata = [SOA_NAMES[0], SOA_NAMES[1], &numbers, &TTL_S.to_be_bytes()];
    let root: &[u8] = &[0];
    let is_root = above + 1 == query.name().octets().len();
    let owner = if is_root { Owner::Name(&[], root) } else { Owner::At(HEADER_LEN + above) };
    reply.record(Section::Authority, owner, RecordType::SOA, TTL_S, &rdata);
}

/// FNV-1a: the same in every version of this program and on every machine.
fn hash(name: NameRef<'_>) -> u64 {
    name.octets().iter().fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::answer::Kind;
    use crate::wire::{Answer, Name, message};

    fn asked(name: &str, rtype: RecordType, payload_bytes: Option<u16>) -> (Vec<u8>, Answer) {
        let question = message::question(name, rtype, payload_bytes);
        let answer = answer(&question);
        assert!(message::read(&answer).is_some(), "{name}");
        let name_len = Name::parse(name).unwrap().octets().len();
        let section = &question[HEADER_LEN..HEADER_LEN + name_len + 4];
        let read = Answer::from_response(&answer, section).unwrap();
        assert!(read.recursion_available);
        (answer, read)
    }

    #[test]
    fn addresses_follow_from_the_name_in_any_spelling() {
        let (octets, answer) = asked("WWW.example.org.", RecordType::A, Some(1232));
        assert_eq!((answer.kind(), answer.ttl_min()), (Kind::Found, Some(TTL_S)));
        let name = Name::parse("www.example.org").unwrap();
        let message = message::read(&octets).unwrap();
        assert_eq!(message.answers[0].data.to_string(), address_v4(name.as_ref()).to_string());
        assert_eq!(address_v4(name.as_ref()).to_string(), "203.0.113.220");
        let (octets, _) = asked("www.example.org.", RecordType::AAAA, None);
        let message = message::read(&octets).unwrap();
        assert_eq!(message.answers[0].data.to_string(), address_v6(name.as_ref()).to_string());
    }

    #[test]
    fn denials_have_a_soa_that_covers_them() {
        for (name, rtype, kind) in [
            ("missing-7.example.org.", RecordType::A, Kind::NxDomain),
            ("www.no-such.org.", RecordType::AAAA, Kind::NxDomain),
            ("missing.", RecordType::A, Kind::NxDomain),
            ("www.example.org.", RecordType::MX, Kind::NoData),
            ("org.", RecordType::NS, Kind::NoData),
            ("org.", RecordType::A, Kind::NoData),
            (".", RecordType::NS, Kind::NoData),
            ("web-0.", RecordType::A, Kind::NxDomain),
            ("web.shop.", RecordType::AAAA, Kind::NxDomain),
            ("web-0.web.shop.svc.", RecordType::A, Kind::NxDomain),
        ] {
            let (_, answer) = asked(name, rtype, Some(1232));
            assert_eq!((answer.kind(), answer.negative_ttl()), (kind, Some(TTL_S)), "{name}");
        }
    }

    #[test]
    fn a_broken_upstream_echoes_the_question() {
        let question = message::question("www.example.org.", RecordType::A, Some(1232));
        let failed = message::read(&servfail(&question)).unwrap();
        assert_eq!(failed.metadata.response_code.to_string(), "Server Failure");
        assert_eq!((failed.queries.len(), failed.answers.len()), (1, 0));
        let cut = message::read(&truncated(&question)).unwrap();
        assert!(cut.metadata.truncation && cut.queries.len() == 1 && cut.answers.is_empty());
    }

    #[test]
    fn whatever_comes_is_answered_without_a_panic() {
        let question = message::question("www.example.org.", RecordType::A, Some(1232));
        for at in 0..question.len() {
            for octet in 0..=255 {
                let mut broken = question.clone();
                broken[at] = octet;
                if is_question(&broken) {
                    let replies = [answer(&broken), servfail(&broken), truncated(&broken)];
                    assert!(replies.iter().all(|reply| reply.len() >= HEADER_LEN));
                }
            }
        }
        for length in 0..question.len() {
            if is_question(&question[..length]) {
                assert!(answer(&question[..length]).len() >= HEADER_LEN);
            }
        }
    }
}

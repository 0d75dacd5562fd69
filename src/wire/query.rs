//! One request: the gate that every packet passes, on every transport, before anything else looks.
//!
//! The order of the checks is the order of the RFCs: what is not a request is ignored, what is
//! not a QUERY is NOTIMP, what has not exactly one question is FORMERR (RFC 9619 §4), and only
//! then is the question read. Parsing borrows the packet and costs time linear in its length.

use super::name::NAME_MAX;
use super::{Class, HEADER_LEN, NameRef, PLAIN_UDP_MAX, Rcode, RecordType, UDP_MAX, u16_at, walk};

/// Additional records that a request may carry: OPT and TSIG.
const ADDITIONAL_MAX: u16 = 2;

/// One request with exactly one question. Borrows the packet; the name is a lower-cased copy.
pub struct Query<'p> {
    packet: &'p [u8],
    question_end: usize,
    name: [u8; NAME_MAX],
    /// The type asked for.
    pub rtype: RecordType,
    /// The class asked for.
    pub class: Class,
    /// What the OPT record says, if there is one.
    pub edns: Option<Edns>,
}

/// What we need of an OPT record (RFC 6891 §6.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edns {
    /// The largest UDP payload that the client takes, in octets; at least 512 (RFC 6891 §6.2.3).
    pub payload_bytes: u16,
    /// The DO bit (RFC 3225).
    pub dnssec_ok: bool,
    /// Version of EDNS. Only 0 exists.
    pub version: u8,
}

/// Why a packet has no [`Query`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unanswerable {
    /// Nothing may be sent: too short for a header, or itself a response.
    Ignore,
    /// A reply of the header alone, with this code.
    Refuse(Rcode),
}

impl<'p> Query<'p> {
    /// Reads a request.
    ///
    /// # Errors
    /// [`Unanswerable`] tells whether and what to reply.
    pub fn parse(packet: &'p [u8]) -> Result<Self, Unanswerable> {
        let (question, additionals) = Self::gate(packet)?;
        Self::read(packet, question, additionals).ok_or(Unanswerable::Refuse(Rcode::FORMERR))
    }

    /// Checks the header. The result is the number of authority and additional records.
    fn gate(packet: &[u8]) -> Result<(u16, u16), Unanswerable> {
        let header = packet.get(..HEADER_LEN).ok_or(Unanswerable::Ignore)?;
        // RFC 1035 §4.1.1: QR=1 is a response. Replying to one lets two servers talk for ever.
        if header[2] & 0x80 != 0 {
            return Err(Unanswerable::Ignore);
        }
        if header[2] & 0x78 != 0 {
            return Err(Unanswerable::Refuse(Rcode::NOTIMP));
        }
        let count = |at| u16::from_be_bytes([header[at], header[at + 1]]);
        let (questions, answers, authorities, additionals) =
            (count(4), count(6), count(8), count(10));
        // RFC 9619 §4: a QUERY has exactly one question. IXFR brings its SOA (RFC 1995 §3).
        if questions != 1 || answers != 0 || authorities > 1 || additionals > ADDITIONAL_MAX {
            return Err(Unanswerable::Refuse(Rcode::FORMERR));
        }
        Ok((authorities, additionals))
    }

    /// Reads the question and the OPT record.
    fn read(packet: &'p [u8], authorities: u16, additionals: u16) -> Option<Self> {
        let mut name = [0u8; NAME_MAX];
        let fixed = copy_name(packet, &mut name)?;
        let question_end = fixed + 4;
        let mut query = Self {
            packet,
            question_end,
            name,
            rtype: RecordType(u16_at(packet, fixed)?),
            class: Class(u16_at(packet, fixed + 2)?),
            edns: None,
        };
        let mut at = question_end;
        for _ in 0..authorities {
            at = walk::record(packet, at)?.end;
        }
        if authorities != 0 && query.rtype != RecordType::IXFR {
            return None;
        }
        for _ in 0..additionals {
            at = query.read_additional(at)?;
        }
        Some(query)
    }

    /// Reads one additional record and keeps it if it is OPT. A second OPT is an error (RFC 6891
    /// §6.1.1).
    fn read_additional(&mut self, at: usize) -> Option<usize> {
        let record = walk::record(self.packet, at)?;
        if record.rtype != RecordType::OPT {
            return Some(record.end);
        }
        if self.edns.is_some() || self.packet[at] != 0 {
            return None;
        }
        let [_, version, flags, _] = self.packet[record.ttl_at..record.ttl_at + 4] else {
            return None;
        };
        self.edns = Some(Edns {
            payload_bytes: record.class.max(PLAIN_UDP_MAX as u16),
            dnssec_ok: flags & 0x80 != 0,
            version,
        });
        options_are_whole(&self.packet[record.rdata..record.end]).then_some(record.end)
    }

    /// The name asked for, in lower case.
    pub fn name(&self) -> NameRef<'_> {
        NameRef::trusted(&self.name[..self.question_end - HEADER_LEN - 4])
    }

    /// The question as the client spelled it: name, type and class.
    pub fn question(&self) -> &'p [u8] {
        &self.packet[HEADER_LEN..self.question_end]
    }

    /// The whole packet.
    pub fn packet(&self) -> &'p [u8] {
        self.packet
    }

    /// The id to echo.
    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.packet[0], self.packet[1]])
    }

    /// Recursion desired.
    pub fn recursion_desired(&self) -> bool {
        self.packet[2] & 0x01 != 0
    }

    /// Checking disabled (RFC 4035 §3.2.2).
    pub fn checking_disabled(&self) -> bool {
        self.packet[3] & 0x10 != 0
    }

    /// Authentic data wanted (RFC 6840 §5.7).
    pub fn authentic_wanted(&self) -> bool {
        self.packet[3] & 0x20 != 0 || self.dnssec_ok()
    }

    /// The DO bit of the OPT record.
    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// Largest reply over UDP that this client may get, in octets.
    pub fn udp_limit(&self) -> usize {
        self.edns.map_or(PLAIN_UDP_MAX, |edns| usize::from(edns.payload_bytes).min(UDP_MAX))
    }
}

/// Copies the name of the question, lower-cased, and answers the offset after it.
/// The first name of a message has nothing to point to, so a pointer here is an error.
fn copy_name(packet: &[u8], name: &mut [u8; NAME_MAX]) -> Option<usize> {
    let mut at = HEADER_LEN;
    loop {
        let length = usize::from(*packet.get(at)?);
        if length == 0 {
            break;
        }
        at += length + 1;
        if length >= 0x40 || at - HEADER_LEN >= NAME_MAX {
            return None;
        }
    }
    let wire = &packet[HEADER_LEN..=at];
    let name = &mut name[..wire.len()];
    name.copy_from_slice(wire);
    // Length octets are at most 63 and so are never letters.
    name.make_ascii_lowercase();
    Some(at + 1)
}

/// Whether RDATA of an OPT record is a sequence of whole options (RFC 6891 §6.1.2).
fn options_are_whole(mut options: &[u8]) -> bool {
    while !options.is_empty() {
        let Some(length) = u16_at(options, 2) else { return false };
        let Some(rest) = options.get(4 + usize::from(length)..) else { return false };
        options = rest;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message;

    fn packet() -> Vec<u8> {
        message::question("Web.Shop.svc.cluster.local.", RecordType::A, Some(4096))
    }

    #[test]
    fn a_question_is_read_and_its_name_lower_cased() {
        let packet = packet();
        let query = Query::parse(&packet).ok().unwrap();
        assert_eq!(query.name().to_string(), "web.shop.svc.cluster.local.");
        assert_eq!(query.rtype, RecordType::A);
        assert_eq!(query.udp_limit(), UDP_MAX);
        assert_eq!(&query.question()[..4], b"\x03Web");
    }

    #[test]
    fn what_is_not_a_query_is_told_apart() {
        let refused = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut packet = packet();
            edit(&mut packet);
            Query::parse(&packet).err()
        };
        assert_eq!(refused(&|p| p.truncate(11)), Some(Unanswerable::Ignore));
        assert_eq!(refused(&|p| p[2] |= 0x80), Some(Unanswerable::Ignore));
        let notimp = Some(Unanswerable::Refuse(Rcode::NOTIMP));
        assert_eq!(refused(&|p| p[2] |= 0x28), notimp, "UPDATE");
        let formerr = Some(Unanswerable::Refuse(Rcode::FORMERR));
        assert_eq!(refused(&|p| p[5] = 0), formerr, "no question");
        assert_eq!(refused(&|p| p[5] = 2), formerr, "two questions");
        assert_eq!(refused(&|p| p[7] = 1), formerr, "an answer");
        assert_eq!(refused(&|p| p[9] = 1), formerr, "an authority record");
        assert_eq!(refused(&|p| p[11] = 9), formerr, "nine additional records");
        assert_eq!(refused(&|p| p[12] = 0xC0), formerr, "a pointer in the question");
        assert_eq!(refused(&|p| p.truncate(20)), formerr, "half a name");
    }

    #[test]
    fn a_second_opt_is_a_format_error() {
        let mut packet = packet();
        let opt = packet[packet.len() - 11..].to_vec();
        packet.extend_from_slice(&opt);
        packet[11] = 2;
        assert_eq!(Query::parse(&packet).err(), Some(Unanswerable::Refuse(Rcode::FORMERR)));
    }
}

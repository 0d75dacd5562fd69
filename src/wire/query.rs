//! One request: the gate that every packet passes, on every transport, before anything else looks.
//!
//! The order of the checks is the order of the RFCs: what is not a request is ignored, what is
//! not a QUERY is NOTIMP, what has not exactly one question is FORMERR (RFC 9619 §4), and only
//! then is the question read. Parsing borrows the packet and costs time linear in its length.

use std::borrow::Cow;

use super::name::NAME_MAX;
use super::{
    Class, HEADER_LEN, NameRef, PLAIN_UDP_MAX, Rcode, RecordType, UDP_MAX, u16_at, u32_at, walk,
};

/// Additional records that a request may carry: OPT and TSIG.
const ADDITIONAL_MAX: u16 = 2;

/// Octets of the longest key: name, type, class and one octet of flags.
const KEY_MAX: usize = NAME_MAX + KEY_FIXED;
/// Octets of a key behind the name.
pub(super) const KEY_FIXED: usize = 5;
/// The flags of a key.
pub(super) const DNSSEC_OK: u8 = 1;
pub(super) const CHECKING_DISABLED: u8 = 2;
pub(super) const RECURSION_DESIRED: u8 = 4;

/// One request with exactly one question. Borrows the packet, and room for a lower-cased copy of
/// the question.
pub struct Query<'p> {
    packet: &'p [u8],
    /// What tells this question from others: the name in lower case, type, class, flags.
    key: Cow<'p, [u8]>,
    /// The type asked for.
    pub rtype: RecordType,
    /// The class asked for.
    pub class: Class,
    /// What the OPT record says, if there is one.
    pub edns: Option<Edns>,
}

/// Room for the key of one Query, kept by those who read many.
pub struct Scratch([u8; KEY_MAX]);

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
    /// FORMERR with the question, which ends at this offset, and with OPT: the request has one too
    /// (RFC 6891 §7). Without it a client would take us for a server that does not know EDNS.
    RefuseWithOpt { question_end: usize },
}

impl<'p> Query<'p> {
    /// Reads a request, with room of its own for the key.
    ///
    /// # Errors
    /// [`Unanswerable`] tells whether and what to reply.
    pub fn parse(packet: &'p [u8]) -> Result<Self, Unanswerable> {
        let mut scratch = Scratch::new();
        let Query { key, rtype, class, edns, .. } = Query::parse_in(packet, &mut scratch)?;
        Ok(Self { packet, key: Cow::Owned(key.into_owned()), rtype, class, edns })
    }

    /// Reads a request without an allocation.
    ///
    /// # Errors
    /// [`Unanswerable`] tells whether and what to reply.
    #[inline]
    pub fn parse_in(packet: &'p [u8], scratch: &'p mut Scratch) -> Result<Self, Unanswerable> {
        let (authorities, additionals) = Self::gate(packet)?;
        Self::read(packet, scratch, authorities, additionals)
            .ok_or_else(|| broken(packet, authorities, additionals))
    }

    /// Checks the header. The result is the number of authority and additional records.
    #[inline]
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
    #[inline]
    fn read(
        packet: &'p [u8],
        scratch: &'p mut Scratch,
        authorities: u16,
        additionals: u16,
    ) -> Option<Self> {
        let name_end = end_of_name(packet)?;
        let question_end = name_end + 4;
        let fixed = packet.get(name_end..question_end)?;
        let rtype = RecordType(u16::from_be_bytes([fixed[0], fixed[1]]));
        let class = Class(u16::from_be_bytes([fixed[2], fixed[3]]));
        let mut at = question_end;
        for _ in 0..authorities {
            at = walk::record(packet, at)?.end;
        }
        if authorities != 0 && rtype != RecordType::IXFR {
            return None;
        }
        let mut edns = None;
        for _ in 0..additionals {
            at = read_additional(packet, at, &mut edns)?;
        }
        let flags = key_flags(packet, edns);
        let key = scratch.write(&packet[HEADER_LEN..name_end], fixed, flags);
        Some(Self { packet, key: Cow::Borrowed(key), rtype, class, edns })
    }

    /// The name asked for, in lower case.
    pub fn name(&self) -> NameRef<'_> {
        NameRef::trusted(&self.key[..self.key.len() - KEY_FIXED])
    }

    /// The question as the client spelled it: name, type and class.
    pub fn question(&self) -> &'p [u8] {
        &self.packet[HEADER_LEN..HEADER_LEN + self.key.len() - 1]
    }

    /// The octets that identify the question: the name in lower case, type, class, and one octet
    /// of flags (DO, CD, RD).
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The whole packet.
    pub fn packet(&self) -> &'p [u8] {
        self.packet
    }

    /// Whether a zone is asked for, and no name.
    pub fn is_transfer(&self) -> bool {
        matches!(self.rtype, RecordType::AXFR | RecordType::IXFR)
    }

    /// The serial that an IXFR request says its sender has (RFC 1995 §3).
    pub fn known_serial(&self) -> Option<u32> {
        let has_soa = u16_at(self.packet, 8)? == 1;
        let at = HEADER_LEN + self.question().len();
        let record = walk::record(self.packet, at).filter(|_| has_soa)?;
        let is_soa = record.rtype == RecordType::SOA && walk::rdata_is_sound(self.packet, &record);
        // Serial and four timers end the record.
        is_soa.then(|| u32_at(self.packet, record.end - 20)).flatten()
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

impl Scratch {
    /// Empty room.
    pub fn new() -> Self {
        Self([0; KEY_MAX])
    }

    /// Writes a key: a name, type and class in wire form, flags.
    #[inline]
    fn write(&mut self, name: &[u8], fixed: &[u8], flags: u8) -> &[u8] {
        let end = name.len() + KEY_FIXED;
        let key = &mut self.0[..end];
        lower(name, &mut key[..name.len()]);
        key[name.len()..end - 1].copy_from_slice(fixed);
        key[end - 1] = flags;
        key
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// Copies a name in lower case, eight octets at a time. Length octets are at most 63 and so are
/// never letters.
#[inline]
fn lower(name: &[u8], out: &mut [u8]) {
    let (words, rest) = name.as_chunks::<8>();
    let (out_words, out_rest) = out.as_chunks_mut::<8>();
    for (word, out) in words.iter().zip(out_words) {
        *out = lower_word(u64::from_le_bytes(*word)).to_le_bytes();
    }
    for (octet, out) in rest.iter().zip(out_rest) {
        *out = octet.to_ascii_lowercase();
    }
}

/// Eight octets in lower case. Adding to the low seven bits of each octet lets its high bit tell
/// whether it is at least `A`, and whether it is beyond `Z`; no carry leaves an octet.
#[inline]
fn lower_word(word: u64) -> u64 {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let low = word & !HIGH;
    let from_a = low + ONES * (0x80 - b'A' as u64);
    let beyond_z = low + ONES * (0x7F - b'Z' as u64);
    let is_upper = (from_a ^ beyond_z) & !word & HIGH;
    word | is_upper >> 2
}

/// The offset after the name of the question. The first name of a message has nothing to point to,
/// so a pointer here is an error.
#[inline]
fn end_of_name(packet: &[u8]) -> Option<usize> {
    let mut at = HEADER_LEN;
    loop {
        let length = usize::from(*packet.get(at)?);
        at += length + 1;
        if length == 0 {
            return Some(at);
        }
        if length >= 0x40 || at - HEADER_LEN >= NAME_MAX {
            return None;
        }
    }
}

/// What to say of a request that could not be read.
#[cold]
fn broken(packet: &[u8], authorities: u16, additionals: u16) -> Unanswerable {
    match question_of_request_with_opt(packet, authorities, additionals) {
        Some(question_end) => Unanswerable::RefuseWithOpt { question_end },
        None => Unanswerable::Refuse(Rcode::FORMERR),
    }
}

/// Where the question ends, if an OPT record can be reached behind it.
fn question_of_request_with_opt(
    packet: &[u8],
    authorities: u16,
    additionals: u16,
) -> Option<usize> {
    let question_end = end_of_name(packet)? + 4;
    let mut at = question_end;
    for number in 0..authorities + additionals {
        let record = walk::record(packet, at)?;
        if number >= authorities && record.rtype == RecordType::OPT {
            return Some(question_end);
        }
        at = record.end;
    }
    None
}

/// Reads one additional record and keeps it if it is OPT. A second OPT is an error (RFC 6891
/// §6.1.1).
fn read_additional(packet: &[u8], at: usize, edns: &mut Option<Edns>) -> Option<usize> {
    let record = walk::record(packet, at)?;
    if record.rtype != RecordType::OPT {
        return Some(record.end);
    }
    if edns.is_some() || packet[at] != 0 {
        return None;
    }
    let [_, version, flags, _] = packet[record.ttl_at..record.ttl_at + 4] else {
        return None;
    };
    *edns = Some(Edns {
        payload_bytes: record.class.max(PLAIN_UDP_MAX as u16),
        dnssec_ok: flags & 0x80 != 0,
        version,
    });
    options_are_whole(&packet[record.rdata..record.end]).then_some(record.end)
}

/// Everything of a request beside its question that can change the answer.
fn key_flags(packet: &[u8], edns: Option<Edns>) -> u8 {
    let dnssec_ok = edns.is_some_and(|edns| edns.dnssec_ok);
    (u8::from(dnssec_ok) * DNSSEC_OK)
        | (u8::from(packet[3] & 0x10 != 0) * CHECKING_DISABLED)
        | (u8::from(packet[2] & 0x01 != 0) * RECURSION_DESIRED)
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
    fn every_octet_at_every_place_is_lower_cased_as_the_standard_library_does() {
        for at in 0..19 {
            for octet in 0..=255 {
                let mut name = *b"@AZ[`az{\x80\xC1\xDA\xFF Mm\x00\x3F.Q";
                name[at] = octet;
                let mut out = [0; 19];
                lower(&name, &mut out);
                assert_eq!(out[..], name.to_ascii_lowercase());
            }
        }
    }

    #[test]
    fn a_key_in_used_room_is_that_of_its_own_query() {
        let mut scratch = Scratch::new();
        let (long, short) = (packet(), message::question("A.b.", RecordType::HTTPS, None));
        assert!(Query::parse_in(&long, &mut scratch).is_ok());
        let query = Query::parse_in(&short, &mut scratch).ok().unwrap();
        assert_eq!(query.key(), b"\x01a\x01b\x00\x00\x41\x00\x01\x04");
        assert_eq!(query.key(), Query::parse(&short).ok().unwrap().key());
        assert_eq!(query.question(), b"\x01A\x01b\x00\x00\x41\x00\x01");
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
    fn the_serial_of_an_ixfr_request_is_read() {
        let mut packet = message::question("cluster.local.", RecordType::IXFR, None);
        assert_eq!(Query::parse(&packet).ok().unwrap().known_serial(), None);
        packet[9] = 1;
        packet.extend(b"\xc0\x0c\x00\x06\x00\x01\x00\x00\x00\x00\x00\x18\xc0\x0c\xc0\x0c");
        packet.extend([0, 0, 1, 2].iter().chain(&[0; 16]));
        assert_eq!(Query::parse(&packet).ok().unwrap().known_serial(), Some(258));
        let rdata_len = packet.len() - 25;
        packet[rdata_len] -= 1;
        packet.pop();
        assert_eq!(Query::parse(&packet).ok().unwrap().known_serial(), None, "half a SOA");
    }

    #[test]
    fn a_second_opt_is_a_format_error() {
        let mut packet = packet();
        let opt = packet[packet.len() - 11..].to_vec();
        packet.extend_from_slice(&opt);
        packet[11] = 2;
        let question_end = packet.len() - 2 * opt.len();
        let refused = Some(Unanswerable::RefuseWithOpt { question_end });
        assert_eq!(Query::parse(&packet).err(), refused);
    }

    #[test]
    fn only_an_opt_record_that_can_be_reached_is_answered_with_one() {
        let whole = packet();
        let question_end = whole.len() - 11;
        let mut half_an_option = whole.clone();
        half_an_option.extend_from_slice(&[0, 10, 0]);
        half_an_option[question_end + 10] = 3;
        let refused = Some(Unanswerable::RefuseWithOpt { question_end });
        assert_eq!(Query::parse(&half_an_option).err(), refused);
        let formerr = Some(Unanswerable::Refuse(Rcode::FORMERR));
        for end in HEADER_LEN..whole.len() {
            assert_eq!(Query::parse(&whole[..end]).err(), formerr, "cut at {end}");
        }
    }
}

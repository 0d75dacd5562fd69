//! Writes one reply into a caller's buffer: header and question echoed, records copied or
//! composed, OPT last but reserved first.
//!
//! ```text
//! Reply::to(query, limit, out) ─► answer(..) | record(..)* ─► finish() = octets to send
//! ```
//!
//! Room for OPT is set aside at once, so a truncated reply still carries it (RFC 6891 §7).
//! TC is set when a record of the answer or authority section did not fit; a dropped additional
//! record is no truncation (RFC 2181 §9).

use std::ops::Range;

use super::answer::{Answer, Run};
use super::{Ede, HEADER_LEN, Query, Rcode, RecordType, UDP_MAX, walk};

/// Octets of an OPT record without options.
const OPT_LEN: usize = 11;
/// The pointer to the question's name, which is always at offset 12 (RFC 1035 §4.1.4).
const TO_QUESTION: [u8; 2] = [0xC0, HEADER_LEN as u8];

/// A reply under construction. Nothing is allocated.
pub struct Reply<'r> {
    out: &'r mut [u8],
    len: usize,
    /// Where records must end.
    records_end: usize,
    /// Where the reply must end.
    limit: usize,
    counts: [u16; 3],
    rcode: Rcode,
    /// DO bit to echo, if the client sent OPT.
    edns: Option<bool>,
    ede: Option<Ede>,
    authentic_wanted: bool,
}

/// The sections of a message that hold records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Section {
    Answer,
    Authority,
    Additional,
}

/// The owner of a record.
#[derive(Clone, Copy)]
pub enum Owner<'n> {
    /// The name that was asked.
    Question,
    /// A name that lies at this offset of the reply.
    At(usize),
    /// A name in wire form, in two parts.
    Name(&'n [u8], &'n [u8]),
}

impl<'r> Reply<'r> {
    /// Begins a NOERROR reply of at most `limit` octets. `out` must hold `limit`.
    pub fn to(query: &Query<'_>, limit: usize, out: &'r mut [u8]) -> Self {
        let limit = limit.min(out.len());
        let question = query.question();
        let len = HEADER_LEN + question.len();
        let request = query.packet();
        out[..2].copy_from_slice(&request[..2]);
        out[2] = 0x80 | (request[2] & 0x01); // QR, RD echoed
        out[3] = request[3] & 0x10; // CD echoed
        out[4..HEADER_LEN].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
        out[HEADER_LEN..len].copy_from_slice(question);
        let reserved = if query.edns.is_some() { OPT_LEN } else { 0 };
        Self {
            out,
            len,
            records_end: limit - reserved,
            limit,
            counts: [0; 3],
            rcode: Rcode::NOERROR,
            edns: query.edns.map(|edns| edns.dnssec_ok),
            ede: None,
            authentic_wanted: query.authentic_wanted(),
        }
    }

    /// Sets the AA bit.
    pub fn set_authoritative(&mut self) {
        self.out[2] |= 0x04;
    }

    /// Sets the response code.
    pub fn set_rcode(&mut self, rcode: Rcode) {
        self.rcode = rcode;
    }

    /// The response code so far. One that only OPT can tell is SERVFAIL to a client without it: its
    /// lower bits alone may read as NOERROR, a denial (BADVERS) or anything else.
    pub fn rcode(&self) -> Rcode {
        let needs_opt = self.rcode.0 > 0x0F;
        if needs_opt && self.edns.is_none() { Rcode::SERVFAIL } else { self.rcode }
    }

    /// Tells why, to clients that speak EDNS and where there is room. Of several reasons, that
    /// which says most (see [`Ede`]).
    pub fn set_ede(&mut self, ede: Ede) {
        if self.ede.is_none_or(|other| ede.outranks(other)) {
            self.ede = Some(ede);
        }
    }

    /// The reason so far.
    pub fn ede(&self) -> Option<Ede> {
        self.ede
    }

    /// Copies an Answer. `ttl_s` replaces all TTLs; `turn` rotates its addresses.
    pub fn answer(&mut self, answer: &Answer, ttl_s: Option<u32>, turn: u32) {
        self.rcode = answer.rcode;
        if let Some(ede) = answer.ede {
            self.set_ede(ede);
        }
        self.out[2] |= u8::from(answer.authoritative) << 2;
        self.out[3] |= u8::from(answer.recursion_available) << 7;
        self.out[3] |= u8::from(answer.authentic && self.authentic_wanted) << 5;
        let body = answer.body();
        let end = self.len + body.len();
        if end > self.records_end {
            return self.answer_in_part(answer, ttl_s, turn);
        }
        let out = &mut self.out[self.len..end];
        copy_turned(out, body, answer.run, turn);
        if let Some(ttl_s) = ttl_s {
            for at in answer.ttls() {
                out[at..at + 4].copy_from_slice(&ttl_s.to_be_bytes());
            }
        }
        self.len = end;
        self.counts = answer.counts;
    }

    /// Writes the address records of the asked name: `octets` are their RDATA, one behind the
    /// other. Begins `turn` addresses in, so that a reply that holds a part of them holds another
    /// part each time.
    pub fn addresses(&mut self, rtype: RecordType, octets: &[u8], ttl_s: u32, turn: u32) {
        match rtype {
            RecordType::A => self.address_records::<4>(rtype, octets, ttl_s, turn),
            _ => self.address_records::<16>(rtype, octets, ttl_s, turn),
        }
    }

    fn address_records<const LEN: usize>(
        &mut self,
        rtype: RecordType,
        octets: &[u8],
        ttl_s: u32,
        turn: u32,
    ) {
        let (addresses, _) = octets.as_chunks::<LEN>();
        let mut fixed = [0xC0, HEADER_LEN as u8, 0, 0, 0, 1, 0, 0, 0, 0, 0, LEN as u8];
        fixed[2..4].copy_from_slice(&rtype.0.to_be_bytes());
        fixed[6..10].copy_from_slice(&ttl_s.to_be_bytes());
        let first = match addresses.len() {
            0 | 1 => 0,
            count => turn as usize % count,
        };
        let (before, from_first) = addresses.split_at(first);
        let stride = fixed.len() + LEN;
        let room = &mut self.out[self.len..self.records_end];
        let mut written = 0;
        for (slot, address) in room.chunks_exact_mut(stride).zip(from_first.iter().chain(before)) {
            slot[..fixed.len()].copy_from_slice(&fixed);
            slot[fixed.len()..].copy_from_slice(address);
            written += 1;
        }
        self.len += written * stride;
        self.counts[0] += written as u16;
        if written < addresses.len() {
            self.truncate(true);
        }
    }

    /// Copies as many records as fit, whole ones, the run of addresses from its turn on.
    fn answer_in_part(&mut self, answer: &Answer, ttl_s: Option<u32>, turn: u32) {
        let (body, mut at) = (answer.body(), 0);
        for (section, count) in answer.counts.into_iter().enumerate() {
            for _ in 0..count {
                let Some(record) = walk::record(body, at) else { return };
                let from = turned(answer.run, at, turn);
                let octets = &body[from..from + record.end - at];
                if self.len + octets.len() > self.records_end {
                    self.truncate(section < 2);
                    return;
                }
                self.out[self.len..self.len + octets.len()].copy_from_slice(octets);
                if let Some(ttl_s) = ttl_s {
                    let ttl_at = self.len + record.ttl_at - at;
                    self.out[ttl_at..ttl_at + 4].copy_from_slice(&ttl_s.to_be_bytes());
                }
                self.len += octets.len();
                self.counts[section] += 1;
                at = record.end;
            }
        }
    }

    /// Composes one record; RDATA comes in parts. Answers where RDATA begins, or `None` when it
    /// did not fit, which sets TC outside the additional section.
    pub fn record(
        &mut self,
        section: Section,
        owner: Owner<'_>,
        rtype: RecordType,
        ttl_s: u32,
        rdata: &[&[u8]],
    ) -> Option<usize> {
        let rdata_len: usize = rdata.iter().map(|part| part.len()).sum();
        let mut fixed = [0u8; 10];
        fixed[..2].copy_from_slice(&rtype.0.to_be_bytes());
        fixed[3] = 1; // IN
        fixed[4..8].copy_from_slice(&ttl_s.to_be_bytes());
        fixed[8..].copy_from_slice(&u16::try_from(rdata_len).ok()?.to_be_bytes());
        let pointer;
        let owner: [&[u8]; 2] = match owner {
            Owner::Question => [&TO_QUESTION, &[]],
            Owner::At(offset) => {
                let offset = u16::try_from(offset).ok().filter(|offset| *offset < 0x4000)?;
                pointer = (0xC000 | offset).to_be_bytes();
                [&pointer, &[]]
            }
            Owner::Name(first, rest) => [first, rest],
        };
        let total = owner[0].len() + owner[1].len() + fixed.len() + rdata_len;
        if self.len + total > self.records_end {
            self.truncate(section != Section::Additional);
            return None;
        }
        for part in [owner[0], owner[1], &fixed] {
            self.push(part);
        }
        let rdata_at = self.len;
        rdata.iter().for_each(|part| self.push(part));
        self.counts[section as usize] += 1;
        Some(rdata_at)
    }

    /// Where the next record will begin.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no records yet.
    pub fn is_empty(&self) -> bool {
        self.counts == [0; 3]
    }

    /// Octets that records may still take.
    pub fn room(&self) -> usize {
        self.records_end - self.len
    }

    /// Whether TC is set.
    pub fn is_truncated(&self) -> bool {
        self.out[2] & 0x02 != 0
    }

    fn push(&mut self, octets: &[u8]) {
        self.out[self.len..self.len + octets.len()].copy_from_slice(octets);
        self.len += octets.len();
    }

    fn truncate(&mut self, was_required: bool) {
        self.out[2] |= u8::from(was_required) << 1;
    }

    /// Writes counts, code and OPT. Answers the octets to send.
    pub fn finish(mut self) -> usize {
        self.out[3] = (self.out[3] & 0xF0) | (self.rcode().0 & 0x0F) as u8;
        let additional = self.counts[2] + u16::from(self.edns.is_some());
        for (at, count) in [(6, self.counts[0]), (8, self.counts[1]), (10, additional)] {
            self.out[at..at + 2].copy_from_slice(&count.to_be_bytes());
        }
        if let Some(dnssec_ok) = self.edns {
            self.push_opt(dnssec_ok);
        }
        self.len
    }

    /// OPT of RFC 6891 §6.1.2, with the extended error where it fits. Its size never costs a
    /// record.
    fn push_opt(&mut self, dnssec_ok: bool) {
        let (opt, room) = self.out[self.len..self.limit].split_at_mut(OPT_LEN);
        let ede_len = self.ede.map_or(0, |ede| ede.write(room));
        opt.fill(0);
        opt[2] = RecordType::OPT.0 as u8;
        opt[3..5].copy_from_slice(&(UDP_MAX as u16).to_be_bytes());
        opt[5] = (self.rcode.0 >> 4) as u8;
        opt[7] = u8::from(dnssec_ok) << 7;
        opt[9..].copy_from_slice(&(ede_len as u16).to_be_bytes());
        self.len += OPT_LEN + ede_len;
    }
}

/// Writes a reply of the header alone: id, opcode and RD echoed. `packet` has a whole header.
pub fn refuse(packet: &[u8], rcode: Rcode, out: &mut [u8]) -> usize {
    out[..HEADER_LEN].fill(0);
    out[..2].copy_from_slice(&packet[..2]);
    out[2] = 0x80 | (packet[2] & 0x79);
    out[3] = (rcode.0 & 0x0F) as u8;
    HEADER_LEN
}

/// Writes FORMERR with the question, which ends at `question_end` of `packet`, and an OPT record.
pub fn refuse_with_opt(packet: &[u8], question_end: usize, out: &mut [u8]) -> usize {
    refuse(packet, Rcode::FORMERR, out);
    out[5] = 1;
    out[11] = 1;
    out[HEADER_LEN..question_end].copy_from_slice(&packet[HEADER_LEN..question_end]);
    let opt = &mut out[question_end..question_end + OPT_LEN];
    opt.fill(0);
    opt[2] = RecordType::OPT.0 as u8;
    opt[3..5].copy_from_slice(&(UDP_MAX as u16).to_be_bytes());
    question_end + OPT_LEN
}

impl Run {
    /// Where the run lies in the body.
    fn range(self) -> Range<usize> {
        let start = self.start as usize;
        start..start + usize::from(self.stride) * usize::from(self.count)
    }

    /// Where the record lies that comes first.
    fn first(self, turn: u32) -> usize {
        self.range().start + usize::from(self.stride) * (turn % u32::from(self.count)) as usize
    }
}

/// Copies a body, its run rotated by `turn` records.
#[inline]
fn copy_turned(out: &mut [u8], body: &[u8], run: Option<Run>, turn: u32) {
    let Some(run) = run else { return out.copy_from_slice(body) };
    let (Range { start, end }, split) = (run.range(), run.first(turn));
    let middle = start + end - split;
    out[..start].copy_from_slice(&body[..start]);
    out[start..middle].copy_from_slice(&body[split..end]);
    out[middle..end].copy_from_slice(&body[start..split]);
    out[end..].copy_from_slice(&body[end..]);
}

/// The offset of the record that takes the place of the one at `at`.
fn turned(run: Option<Run>, at: usize, turn: u32) -> usize {
    match run.map(|run| (run.range(), run.first(turn))) {
        Some((range, first)) if range.contains(&at) => {
            let from = first + at - range.start;
            if from < range.end { from } else { from - range.len() }
        }
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message::{self, tests::addresses};

    fn octets(count: u8) -> Vec<u8> {
        (1..=count).flat_map(|n| [10, 0, 0, n]).collect()
    }

    /// An Answer as an upstream would send it.
    fn many(count: u8) -> Answer {
        let packet = message::question("Web.shop.svc.cluster.local.", RecordType::A, None);
        let query = Query::parse(&packet).ok().unwrap();
        let mut out = [0; UDP_MAX * 2];
        let mut reply = Reply::to(&query, UDP_MAX * 2, &mut out);
        reply.set_authoritative();
        reply.addresses(RecordType::A, &octets(count), 30, 0);
        let len = reply.finish();
        Answer::from_response(&out[..len], query.question()).unwrap()
    }

    fn reply(answer: &Answer, payload: Option<u16>, turn: u32) -> Vec<u8> {
        let packet = message::question("Web.shop.svc.cluster.local.", RecordType::A, payload);
        let query = Query::parse(&packet).ok().unwrap();
        let mut out = [0; UDP_MAX];
        let mut reply = Reply::to(&query, query.udp_limit(), &mut out);
        reply.answer(answer, None, turn);
        let len = reply.finish();
        out[..len].to_vec()
    }

    #[test]
    fn addresses_turn_and_the_spelling_of_the_question_is_kept() {
        let reply = reply(&many(3), Some(1232), 1);
        let message = message::read(&reply).unwrap();
        assert_eq!(message.queries[0].name().to_string(), "Web.shop.svc.cluster.local.");
        assert_eq!(addresses(&message), ["10.0.0.2", "10.0.0.3", "10.0.0.1"]);
        assert!(message.metadata.authoritative && message.edns.is_some());
    }

    #[test]
    fn what_does_not_fit_is_cut_at_a_record_and_opt_stays() {
        let reply = reply(&many(100), Some(512), 98);
        assert!(reply.len() <= 512);
        let message = message::read(&reply).unwrap();
        assert!(message.metadata.truncation && message.edns.is_some());
        let addresses = addresses(&message);
        assert_eq!(addresses[..3], ["10.0.0.99", "10.0.0.100", "10.0.0.1"]);
        assert_eq!(addresses.len(), 28);
    }

    #[test]
    fn a_client_without_edns_gets_no_opt_and_512_octets() {
        let reply = reply(&many(40), None, 0);
        let message = message::read(&reply).unwrap();
        assert!(reply.len() <= 512 && message.edns.is_none() && message.metadata.truncation);
    }

    #[test]
    fn a_part_of_many_addresses_is_another_part_at_another_turn() {
        let packet = message::question("Web.shop.svc.cluster.local.", RecordType::A, Some(512));
        let query = Query::parse(&packet).ok().unwrap();
        let part = |turn| {
            let mut out = [0; UDP_MAX];
            let mut reply = Reply::to(&query, 512, &mut out);
            reply.addresses(RecordType::A, &octets(100), 5, turn);
            let len = reply.finish();
            let message = message::read(&out[..len]).unwrap();
            assert!(message.metadata.truncation);
            addresses(&message)
        };
        let (first, second) = (part(0), part(98));
        assert_eq!((first.len(), second.len()), (28, 28));
        assert_eq!((&*first[0], &*first[27]), ("10.0.0.1", "10.0.0.28"));
        assert_eq!(second[..3], ["10.0.0.99", "10.0.0.100", "10.0.0.1"]);
    }

    #[test]
    fn of_several_reasons_that_which_says_most_is_told() {
        let (old, denial) = (Ede::stale(Rcode::NXDOMAIN), Ede::none_ready(3));
        for errors in [[old, denial, Ede::NOT_READY], [Ede::NOT_READY, old, denial]] {
            let packet = message::question("example.org.", RecordType::A, Some(1232));
            let query = Query::parse(&packet).ok().unwrap();
            let mut out = [0; UDP_MAX];
            let mut reply = Reply::to(&query, UDP_MAX, &mut out);
            errors[..2].iter().for_each(|ede| reply.set_ede(*ede));
            assert_ne!(reply.ede(), Some(denial));
            reply.answer(&Answer::bare(Rcode::SERVFAIL, Some(errors[2])), None, 0);
            assert_eq!(reply.ede(), Some(Ede::NOT_READY));
        }
    }

    #[test]
    fn an_extended_error_is_told_only_where_it_fits() {
        let failure = Answer::bare(Rcode::SERVFAIL, Some(Ede::NOT_READY));
        let with = reply(&failure, Some(1232), 0);
        assert!(with.ends_with(Ede::NOT_READY.text.as_bytes()));
        let without = reply(&failure, None, 0);
        assert_eq!(without.len(), HEADER_LEN + 32);
    }
}

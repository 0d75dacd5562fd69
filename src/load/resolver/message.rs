//! What travels: a question as resolvers pack it, and a reply as they read it.
//!
//! Replies are octets of a server that may lie: whatever they say, reading stops where they end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::load::record::PacketCounts;
use crate::wire::{Class, HEADER_LEN, Name, Rcode, RecordType, u16_at, walk};

/// One packed question with an id by chance.
#[derive(Clone, Debug)]
pub struct Question {
    packet: Vec<u8>,
    question_end: usize,
}

/// Whether a message answers a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is a response with its id and its question.
    Yes,
    /// It is a response, to something else.
    Other,
    /// It is no DNS response.
    Garbage,
}

impl Question {
    /// A question with RD set and without OPT.
    pub fn new(name: &Name, rtype: RecordType) -> Self {
        let id: u16 = rand::random();
        let mut packet = Vec::with_capacity(HEADER_LEN + name.octets().len() + 4 + OPT_LEN);
        packet.extend_from_slice(&id.to_be_bytes());
        packet.extend_from_slice(&[0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        packet.extend_from_slice(name.octets());
        packet.extend_from_slice(&rtype.0.to_be_bytes());
        packet.extend_from_slice(&Class::IN.0.to_be_bytes());
        let question_end = packet.len();
        Self { packet, question_end }
    }

    /// The same with an OPT record (RFC 6891 §6.1.2) that offers this payload size.
    #[must_use]
    pub fn with_opt(mut self, payload_bytes: u16) -> Self {
        self.packet[11] = 1;
        self.packet.extend_from_slice(&[0, 0, 41]);
        self.packet.extend_from_slice(&payload_bytes.to_be_bytes());
        self.packet.extend_from_slice(&[0; 6]);
        self
    }

    /// The same with another id.
    #[must_use]
    pub fn with_id(mut self, id: u16) -> Self {
        self.packet[..2].copy_from_slice(&id.to_be_bytes());
        self
    }

    /// A and AAAA of a name, with ids that differ.
    pub fn pair(name: &Name) -> [Self; 2] {
        let a = Self::new(name, RecordType::A);
        let mut aaaa = Self::new(name, RecordType::AAAA);
        if aaaa.id() == a.id() {
            aaaa = aaaa.with_id(a.id().wrapping_add(1));
        }
        [a, aaaa]
    }

    /// The id.
    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.packet[0], self.packet[1]])
    }

    /// The type asked for.
    pub fn rtype(&self) -> RecordType {
        let at = self.question_end - 4;
        RecordType(u16::from_be_bytes([self.packet[at], self.packet[at + 1]]))
    }

    /// As it is sent over UDP.
    pub fn octets(&self) -> &[u8] {
        &self.packet
    }

    /// Whether `message` answers this. FORMERR and the like may come without the question (RFC
    /// 1035 §4.1.1), which no resolver here takes.
    pub fn fit(&self, message: &[u8]) -> Fit {
        if message.len() < HEADER_LEN || message[2] & 0x80 == 0 {
            return Fit::Garbage;
        }
        let is_its = message[..2] == self.packet[..2] && self.is_question_of(message);
        if is_its { Fit::Yes } else { Fit::Other }
    }

    /// Whether the question section of a message is this question, in any case of letters.
    fn is_question_of(&self, message: &[u8]) -> bool {
        let fixed_at = self.question_end - 4;
        let name = message.get(HEADER_LEN..fixed_at);
        u16_at(message, 4) == Some(1)
            && name.is_some_and(|it| it.eq_ignore_ascii_case(&self.packet[HEADER_LEN..fixed_at]))
            && message.get(fixed_at..self.question_end)
                == self.packet.get(fixed_at..self.question_end)
    }
}

/// A response with at least a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    message: Vec<u8>,
}

impl Reply {
    /// Takes a message that [`Question::fit`] called a response; `None` for what is shorter than a
    /// header.
    pub fn new(message: Vec<u8>) -> Option<Self> {
        (message.len() >= HEADER_LEN).then_some(Self { message })
    }

    /// The id.
    pub fn id(&self) -> u16 {
        self.u16(0)
    }

    /// The response code of the header.
    pub fn rcode(&self) -> Rcode {
        Rcode(self.u16(2) & 0x0F)
    }

    /// AA.
    pub fn is_authoritative(&self) -> bool {
        self.u16(2) & 0x0400 != 0
    }

    /// TC.
    pub fn is_truncated(&self) -> bool {
        self.u16(2) & 0x0200 != 0
    }

    /// RA.
    pub fn is_recursive(&self) -> bool {
        self.u16(2) & 0x0080 != 0
    }

    /// Records of the answer section, as the header says.
    pub fn answer_count(&self) -> u16 {
        self.u16(6)
    }

    /// Records of the authority section, as the header says.
    pub fn authority_count(&self) -> u16 {
        self.u16(8)
    }

    /// Records of the additional section, as the header says.
    pub fn additional_count(&self) -> u16 {
        self.u16(10)
    }

    /// Whether it says what there is, or that there is nothing: no failure of the server.
    pub fn is_told(&self) -> bool {
        matches!(self.rcode(), Rcode::NOERROR | Rcode::NXDOMAIN)
    }

    /// NOERROR with records.
    pub fn has_answer(&self) -> bool {
        self.rcode() == Rcode::NOERROR && self.answer_count() > 0
    }

    /// The whole message.
    pub fn octets(&self) -> &[u8] {
        &self.message
    }

    /// Records of the answer section, as far as they are whole.
    pub fn answers(&self) -> impl Iterator<Item = walk::Record> {
        let message = &self.message;
        let questions = (0..self.u16(4))
            .try_fold(HEADER_LEN, |at, _| walk::skip_name(message, at).map(|end| end + 4));
        let mut at = questions;
        (0..self.answer_count()).map_while(move |_| {
            let record = walk::record(message, at?)?;
            at = Some(record.end);
            Some(record)
        })
    }

    /// Addresses in the answer section, in order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.answers().filter_map(|record| self.address(&record))
    }

    /// Names in the answer section: of PTR, or targets of SRV.
    pub fn names(&self, rtype: RecordType) -> impl Iterator<Item = Name> {
        let before = if rtype == RecordType::SRV { SRV_FIXED } else { 0 };
        self.answers()
            .filter(move |record| record.rtype == rtype && record.rdata + before < record.end)
            .filter_map(move |record| walk::read_name(&self.message, record.rdata + before))
    }

    /// The smallest TTL of the answer section, in seconds.
    pub fn ttl_s(&self) -> Option<u32> {
        self.answers().map(|record| record.ttl_s).min()
    }

    /// Adds this reply to what came.
    pub fn count(&self, counts: &mut PacketCounts) {
        counts.answered += 1;
        counts.truncated += u64::from(self.is_truncated());
        let by_code = match self.rcode() {
            Rcode::NOERROR => &mut counts.noerror,
            Rcode::NXDOMAIN => &mut counts.nxdomain,
            Rcode::SERVFAIL => &mut counts.servfail,
            Rcode::REFUSED => &mut counts.refused,
            _ => &mut counts.other_code,
        };
        *by_code += 1;
    }

    fn address(&self, record: &walk::Record) -> Option<IpAddr> {
        let rdata = self.message.get(record.rdata..record.end)?;
        match record.rtype {
            RecordType::A => Some(Ipv4Addr::from(<[u8; 4]>::try_from(rdata).ok()?).into()),
            RecordType::AAAA => Some(Ipv6Addr::from(<[u8; 16]>::try_from(rdata).ok()?).into()),
            _ => None,
        }
    }

    fn u16(&self, at: usize) -> u16 {
        u16_at(&self.message, at).expect("a Reply has a header")
    }
}

/// Octets of an OPT record without options.
const OPT_LEN: usize = 11;
/// Octets before the target of SRV (RFC 2782).
const SRV_FIXED: usize = 6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::load::resolver::scripted;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_question_is_packed_as_others_read_it() {
        let question = Question::new(&name("web.shop"), RecordType::AAAA).with_opt(1200);
        let query = crate::wire::Query::parse(question.octets()).ok().unwrap();
        assert_eq!((query.name().to_string(), query.id()), ("web.shop.".into(), question.id()));
        assert_eq!((query.rtype, question.rtype()), (RecordType::AAAA, RecordType::AAAA));
        assert_eq!(query.edns.map(|edns| edns.payload_bytes), Some(1200));
    }

    #[test]
    fn a_reply_fits_its_question_in_any_case_and_no_other() {
        let question = Question::new(&name("web.shop"), RecordType::A);
        let good = scripted::reply(question.octets(), Rcode::NOERROR, &["10.0.0.1"]);
        assert_eq!(question.fit(&good), Fit::Yes);
        let spoilt = |at: usize, by: u8| {
            let mut message = good.clone();
            message[at] ^= by;
            question.fit(&message)
        };
        assert_eq!(spoilt(13, 0x20), Fit::Yes, "another case");
        assert_eq!(spoilt(13, 0x01), Fit::Other, "another name");
        assert_eq!(spoilt(1, 1), Fit::Other, "another id");
        assert_eq!(spoilt(question.question_end - 3, 29), Fit::Other, "another type");
        assert_eq!(spoilt(5, 1), Fit::Other, "no question");
        assert_eq!(spoilt(2, 0x80), Fit::Garbage, "a request");
        assert_eq!(question.fit(&good[..11]), Fit::Garbage);
        assert_eq!(question.fit(&good[..20]), Fit::Other);
    }

    #[test]
    fn addresses_and_names_are_read() {
        let question = Question::new(&name("web.shop"), RecordType::A);
        let octets = scripted::reply(question.octets(), Rcode::NOERROR, &["10.0.0.1", "10.0.0.2"]);
        let reply = Reply::new(octets).unwrap();
        let addresses: Vec<String> = reply.addresses().map(|it| it.to_string()).collect();
        assert_eq!(addresses, ["10.0.0.1", "10.0.0.2"]);
        assert_eq!((reply.ttl_s(), reply.has_answer()), (Some(scripted::TTL_S), true));
        let question = Question::new(&name("1.0.0.10.in-addr.arpa"), RecordType::PTR);
        let octets = scripted::reply(question.octets(), Rcode::NOERROR, &["web.shop"]);
        let reply = Reply::new(octets).unwrap();
        assert_eq!(reply.names(RecordType::PTR).collect::<Vec<_>>(), [name("web.shop")]);
        let question = Question::new(&name("_a._tcp.web"), RecordType::SRV);
        let octets = scripted::reply(question.octets(), Rcode::NOERROR, &["web.shop"]);
        let reply = Reply::new(octets).unwrap();
        assert_eq!(reply.names(RecordType::SRV).collect::<Vec<_>>(), [name("web.shop")]);
    }

    #[test]
    fn two_questions_of_a_pair_have_two_ids() {
        for _ in 0..100 {
            let [a, aaaa] = Question::pair(&name("web"));
            assert_ne!(a.id(), aaaa.id());
        }
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(
            octets in prop::collection::vec(any::<u8>(), 12..200),
            counts in prop::array::uniform2(0..3u8),
        ) {
            let mut octets = octets;
            octets[4..8].copy_from_slice(&[0, counts[0], 0, counts[1]]);
            let question = Question::new(&name("web.shop"), RecordType::A);
            let _ = question.fit(&octets);
            let reply = Reply::new(octets).unwrap();
            reply.count(&mut PacketCounts::default());
            let _ = (reply.addresses().count(), reply.ttl_s());
            let _ = (reply.names(RecordType::PTR).count(), reply.names(RecordType::SRV).count());
        }

        #[test]
        fn no_changed_octet_makes_it_panic(at in 0..80usize, to in any::<u8>()) {
            let question = Question::new(&name("web.shop"), RecordType::SRV);
            let mut octets = scripted::reply(question.octets(), Rcode::NOERROR, &["web", "shop"]);
            let at = at % octets.len();
            octets[at] = to;
            let _ = question.fit(&octets);
            let reply = Reply::new(octets).unwrap();
            let _ = (reply.addresses().count(), reply.names(RecordType::SRV).count());
        }
    }
}

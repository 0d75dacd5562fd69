//! What is sent to an upstream, and what may be taken for its answer. No I/O.
//!
//! RFC 5452 §9.1: a response counts only if it comes from the address that was asked to the port
//! that asked (the socket checks that), with the id, the name, the type and the class of the
//! request. Everything else is [`Received::Ignored`], and the wait goes on; a wrong id is told
//! apart, for then the question goes over TCP, where nobody can guess.

use crate::wire::{Answer, Class, HEADER_LEN, Name, Question, Rcode, RecordType, UDP_MAX, walk};

const RECURSION_DESIRED: u8 = 0x01;
const CHECKING_DISABLED: u8 = 0x10;
const DNSSEC_OK: u8 = 0x80;
/// QR and opcode, of which a response to a QUERY has only QR (RFC 1035 §4.1.1).
const RESPONSE_MASK: u8 = 0xF8;
const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;

/// One question as it is sent, in lower case, with the flags of the client.
/// Nothing else of the client's packet goes out: OPT is our own (RFC 6891 §6.2.1).
#[derive(Clone, Debug)]
pub struct Request {
    section: Vec<u8>,
    recursion_desired: bool,
    checking_disabled: bool,
    dnssec_ok: bool,
    has_edns: bool,
}

/// What a message means to the request that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Received {
    Answer(Answer),
    /// TC: the whole answer is to be had over TCP (RFC 7766 §5).
    Truncated,
    /// The upstream does not know EDNS (RFC 6891 §7).
    EdnsRefused,
    /// A response with another id, from the address that was asked to the port that asked:
    /// somebody may be guessing.
    NearMiss,
    /// Not a response to this request.
    Ignored,
}

impl Request {
    /// The request for a client's question.
    pub fn of(question: &Question) -> Self {
        Self {
            section: question.section().to_vec(),
            recursion_desired: question.recursion_desired(),
            checking_disabled: question.checking_disabled(),
            dnssec_ok: question.dnssec_ok(),
            has_edns: true,
        }
    }

    /// A health probe: `name` NS, with or without RD.
    pub fn probe(name: &Name, recursion_desired: bool) -> Self {
        let mut section = name.octets().to_vec();
        section.extend_from_slice(&RecordType::NS.0.to_be_bytes());
        section.extend_from_slice(&Class::IN.0.to_be_bytes());
        Self {
            section,
            recursion_desired,
            checking_disabled: false,
            dnssec_ok: false,
            has_edns: false,
        }
    }

    /// The same request for an upstream that does not know EDNS.
    pub fn without_edns(self) -> Self {
        Self { has_edns: false, ..self }
    }

    /// The message to send.
    pub fn packet(&self, id: u16) -> Vec<u8> {
        let mut packet = Vec::with_capacity(HEADER_LEN + self.section.len() + 11);
        packet.extend_from_slice(&id.to_be_bytes());
        packet.push(u8::from(self.recursion_desired) * RECURSION_DESIRED);
        packet.push(u8::from(self.checking_disabled) * CHECKING_DISABLED);
        packet.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(self.has_edns)]);
        packet.extend_from_slice(&self.section);
        if self.has_edns {
            self.push_opt(&mut packet);
        }
        packet
    }

    /// Appends OPT: root, type, payload size as class, extended rcode, version, flags, no options.
    fn push_opt(&self, packet: &mut Vec<u8>) {
        packet.push(0);
        packet.extend_from_slice(&RecordType::OPT.0.to_be_bytes());
        packet.extend_from_slice(&(UDP_MAX as u16).to_be_bytes());
        packet.extend_from_slice(&[0, 0, u8::from(self.dnssec_ok) * DNSSEC_OK, 0, 0, 0]);
    }

    /// What `message` means to this request, sent with `id`.
    pub fn judge(&self, id: u16, message: &[u8]) -> Received {
        if !is_response(id, message) {
            let is_guess = message.len() >= HEADER_LEN && message[2] & RESPONSE_MASK == RESPONSE;
            return if is_guess { Received::NearMiss } else { Received::Ignored };
        }
        let opt = extended_rcode(message);
        if self.has_edns && opt.is_none() && self.refuses_edns(message) {
            return Received::EdnsRefused;
        }
        if !self.is_echoed(message) {
            return Received::Ignored;
        }
        if message[2] & TRUNCATED != 0 {
            return Received::Truncated;
        }
        let Ok(mut answer) = Answer::from_response(message, &self.section) else {
            return Received::Ignored;
        };
        // RFC 6891 §6.1.3: the upper bits of the code lie in OPT. BADVERS must not read as NOERROR.
        answer.rcode.0 |= u16::from(opt.unwrap_or(0)) << 4;
        Received::Answer(answer)
    }

    /// Whether the header of a response says that EDNS was too much. A server of before RFC 2671
    /// may have sent no more than the header; all that this can cause is a plainer request.
    fn refuses_edns(&self, message: &[u8]) -> bool {
        let rcode = Rcode(u16::from(message[3] & 0x0F));
        let is_bare = message[4..6] == [0, 0];
        matches!(rcode, Rcode::FORMERR | Rcode::NOTIMP) && (is_bare || self.is_echoed(message))
    }

    /// Whether the question section is ours, in any case.
    fn is_echoed(&self, message: &[u8]) -> bool {
        let (name, numbers) = self.section.split_at(self.section.len() - 4);
        let echoed = message.get(HEADER_LEN..HEADER_LEN + self.section.len());
        // Length octets are below 64 and no letters, so the name can be compared as a whole.
        message[4..6] == [0, 1]
            && echoed.is_some_and(|echoed| {
                echoed[..name.len()].eq_ignore_ascii_case(name) && echoed[name.len()..] == *numbers
            })
    }
}

/// Whether this is a response with our id: enough to show that a probed upstream lives.
pub fn is_response(id: u16, message: &[u8]) -> bool {
    message.len() >= HEADER_LEN
        && message[..2] == id.to_be_bytes()
        && message[2] & RESPONSE_MASK == RESPONSE
}

/// The upper eight bits of the response code, if there is an OPT record.
fn extended_rcode(message: &[u8]) -> Option<u8> {
    let count = |at: usize| u32::from(u16::from_be_bytes([message[at], message[at + 1]]));
    let mut at = HEADER_LEN;
    for _ in 0..count(4) {
        at = walk::skip_name(message, at)?.checked_add(4)?;
    }
    for _ in 0..count(6) + count(8) + count(10) {
        let record = walk::record(message, at)?;
        if record.rtype == RecordType::OPT {
            return message.get(record.ttl_at).copied();
        }
        at = record.end;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Query, message};

    const ID: u16 = 0x1234;

    fn request() -> Request {
        let name = Name::parse("www.example.org").unwrap();
        Request::of(&Question::new(&name, RecordType::A))
    }

    /// An empty response to [`request`] with these second two octets of the header.
    fn response(flags: [u8; 2]) -> Vec<u8> {
        let mut packet = request().without_edns().packet(ID);
        packet[2..4].copy_from_slice(&flags);
        packet
    }

    fn with_opt(mut packet: Vec<u8>, extended_rcode: u8) -> Vec<u8> {
        packet[11] = 1;
        packet.extend_from_slice(&[0, 0, 41, 4, 208, extended_rcode, 0, 0, 0, 0, 0]);
        packet
    }

    #[test]
    fn a_request_carries_the_flags_of_the_client_and_our_payload_size() {
        let mut packet = message::question("WWW.example.ORG.", RecordType::MX, Some(4096));
        packet[3] |= 0x10;
        let flags = packet.len() - 4;
        packet[flags] |= 0x80;
        let asked = Question::of(&Query::parse(&packet).ok().unwrap());

        let sent = Request::of(&asked).packet(ID);
        let query = Query::parse(&sent).ok().unwrap();
        assert_eq!(query.question(), b"\x03www\x07example\x03org\x00\x00\x0f\x00\x01");
        assert!(query.recursion_desired() && query.checking_disabled() && query.dnssec_ok());
        assert_eq!(query.edns.unwrap().payload_bytes, 1232);
        assert_eq!(query.id(), ID);
    }

    #[test]
    fn a_probe_without_recursion_has_no_flag_set() {
        let packet = Request::probe(&Name::root(), false).packet(ID);
        assert_eq!(packet, *b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\0\0\x02\0\x01");
    }

    #[test]
    fn what_does_not_fit_the_request_is_ignored() {
        let good = response([0x80, 0]);
        assert!(matches!(request().judge(ID, &good), Received::Answer(_)));
        let flaws: [(&str, usize, u8); 7] = [
            ("not a response", 2, 0x01),
            ("another opcode", 2, 0xA8),
            ("no question", 5, 0),
            ("two questions", 5, 2),
            ("another name", 14, b'x'),
            ("another type", good.len() - 3, 28),
            ("another class", good.len() - 1, 3),
        ];
        for (flaw, at, value) in flaws {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(request().judge(ID, &bad), Received::Ignored, "{flaw}");
        }
        for end in 0..good.len() {
            assert_eq!(request().judge(ID, &good[..end]), Received::Ignored, "cut at {end}");
        }
    }

    #[test]
    fn a_response_with_another_id_is_a_near_miss() {
        let mut guess = response([0x80, 0]);
        guess[1] ^= 1;
        assert_eq!(request().judge(ID, &guess), Received::NearMiss);
        guess[2] = 0;
        assert_eq!(request().judge(ID, &guess), Received::Ignored, "a request");
    }

    #[test]
    fn the_case_of_the_echoed_name_does_not_matter() {
        let mut shouted = response([0x80, 0]);
        shouted.make_ascii_uppercase();
        assert!(matches!(request().judge(ID, &shouted), Received::Answer(_)));
    }

    #[test]
    fn a_truncated_response_may_be_cut_anywhere_after_the_question() {
        let mut cut = response([0x82, 0]);
        cut[7] = 9;
        assert_eq!(request().judge(ID, &cut), Received::Truncated);
    }

    #[test]
    fn formerr_and_notimp_without_opt_refuse_edns_once() {
        for rcode in [1, 4] {
            let refusal = response([0x80, rcode]);
            assert_eq!(request().judge(ID, &refusal), Received::EdnsRefused);
            assert_eq!(request().judge(ID, &refusal[..12]), Received::Ignored, "header lies");
            let mut bare = refusal[..12].to_vec();
            bare[5] = 0;
            assert_eq!(request().judge(ID, &bare), Received::EdnsRefused);
            assert!(matches!(
                request().without_edns().judge(ID, &refusal),
                Received::Answer(Answer { rcode: Rcode(kept), .. }) if kept == u16::from(rcode)
            ));
            let known = with_opt(refusal, 0);
            assert!(matches!(request().judge(ID, &known), Received::Answer(_)));
        }
    }

    #[test]
    fn the_extended_code_is_part_of_the_code() {
        let badvers = with_opt(response([0x80, 0]), 1);
        let Received::Answer(answer) = request().judge(ID, &badvers) else { panic!("ignored") };
        assert_eq!(answer.rcode, Rcode::BADVERS);
    }

    #[test]
    fn no_flipped_octet_of_a_response_panics() {
        let good = with_opt(response([0x80, 0]), 0);
        for at in 0..good.len() {
            for value in 0..=255 {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = request().judge(ID, &bad);
            }
        }
    }
}

//! `query` statements: the packet of a client, and what every reply to it must echo.
//!
//! ```text
//! query  www.example.org A                    UDP, OPT with 1232 octets, RD
//! query  tcp noedns www.example.org A         over TCP, without OPT
//! query  edns=512 do cd ad nord ch NAME TYPE  other sizes, flags and classes
//! query  version=1 www.example.org A          another version of EDNS
//! query  hex 00 01 …                          these octets
//! ```

use mainstay::wire::{HEADER_LEN, RecordType};

/// The id of queries that are not written in octets.
const ID: [u8; 2] = [0x12, 0x34];

/// One packet to send.
pub struct Packet {
    pub octets: Vec<u8>,
    pub is_tcp: bool,
    /// Octets that the reply may have.
    pub limit: usize,
    /// Octets of header and question; `None` for a packet that was written in octets.
    question_end: Option<usize>,
    edns: Option<Edns>,
}

#[derive(Clone, Copy)]
struct Edns {
    payload_bytes: u16,
    version: u8,
    dnssec_ok: bool,
}

impl Packet {
    /// Reads what follows `query`.
    pub fn read(words: &[&str]) -> Result<Self, String> {
        if let ["hex", octets @ ..] = words {
            let octet = |text: &&str| u8::from_str_radix(text, 16).map_err(|_| text.to_string());
            let octets = octets.iter().map(octet).collect::<Result<_, _>>()?;
            return Ok(Self { octets, is_tcp: false, limit: 512, question_end: None, edns: None });
        }
        let [options @ .., name, rtype] = words else { return Err("not NAME TYPE".into()) };
        let rtype = RecordType::parse(rtype).ok_or(format!("not a type: {rtype}"))?;
        Self::build(options, name, rtype)
    }

    fn build(options: &[&str], name: &str, rtype: RecordType) -> Result<Self, String> {
        let mut edns = Edns { payload_bytes: 1232, version: 0, dnssec_ok: false };
        let (mut has_edns, mut is_tcp, mut class) = (true, false, 1);
        let mut flags = [0x01, 0x00];
        for option in options {
            match option.split_once('=').unwrap_or((option, "")) {
                ("tcp", _) => is_tcp = true,
                ("noedns", _) => has_edns = false,
                ("edns", size) => edns.payload_bytes = number(size)?,
                ("version", version) => edns.version = number(version)?,
                ("do", _) => edns.dnssec_ok = true,
                ("cd", _) => flags[1] |= 0x10,
                ("ad", _) => flags[1] |= 0x20,
                ("nord", _) => flags[0] = 0,
                ("ch", _) => class = 3,
                _ => return Err(format!("not an option of a query: {option}")),
            }
        }
        let edns = has_edns.then_some(edns);
        let mut octets = [&ID[..], &flags, &[0, 1, 0, 0, 0, 0, 0, u8::from(has_edns)]].concat();
        for label in name.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
            octets.push(label.len() as u8);
            octets.extend(label.bytes());
        }
        octets.extend([&[0], &rtype.0.to_be_bytes()[..], &[0, class]].concat());
        let question_end = Some(octets.len());
        octets.extend(edns.iter().flat_map(opt));
        let limit = match edns {
            _ if is_tcp => 65_535,
            Some(edns) => usize::from(edns.payload_bytes).clamp(512, 1232),
            None => 512,
        };
        Ok(Self { octets, is_tcp, limit, question_end, edns })
    }

    /// What is wrong with the frame of a reply, whatever it says: id, QR, RD, CD, the question
    /// octet by octet, OPT exactly when the client sent it, and the size.
    pub fn flaw(&self, reply: &[u8]) -> Option<&'static str> {
        let Some(question_end) = self.question_end else {
            let is_reply = reply[..2] == self.octets[..2] && reply[2] & 0x80 != 0;
            return (!is_reply).then_some("id or QR");
        };
        let (opt, dnssec_ok) = opt_of(reply);
        let is_wrong = [
            ("the id", reply[..2] != self.octets[..2]),
            ("QR, opcode or RD", reply[2] & 0xF9 != 0x80 | self.octets[2]),
            ("CD or Z", reply[3] & 0x50 != self.octets[3] & 0x50),
            (
                "the question",
                reply[4..6] != [0, 1]
                    || reply.get(HEADER_LEN..question_end)
                        != self.octets.get(HEADER_LEN..question_end),
            ),
            ("OPT", opt != self.edns.is_some()),
            ("DO", dnssec_ok != self.edns.is_some_and(|edns| edns.dnssec_ok)),
            ("the size", reply.len() > self.limit),
        ];
        is_wrong.into_iter().find(|(_, is_wrong)| *is_wrong).map(|(what, _)| what)
    }
}

/// Whether there is OPT, and its DO bit.
fn opt_of(reply: &[u8]) -> (bool, bool) {
    let message = mainstay::wire::message::read(reply);
    let edns = message.and_then(|message| message.edns);
    (edns.is_some(), edns.is_some_and(|edns| edns.flags().dnssec_ok))
}

fn opt(edns: &Edns) -> Vec<u8> {
    let [high, low] = edns.payload_bytes.to_be_bytes();
    vec![0, 0, 41, high, low, 0, edns.version, u8::from(edns.dnssec_ok) << 7, 0, 0, 0]
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("not a number: {text:?}"))
}

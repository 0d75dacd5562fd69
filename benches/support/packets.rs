//! Which questions are asked? Prepared packets, flat in one buffer, each with what to expect.

/// Type numbers (RFC 1035 §3.2.2).
pub const A: u16 = 1;
pub const PTR: u16 = 12;
/// NXDOMAIN (RFC 1035 §4.1.1).
pub const NXDOMAIN: u8 = 3;
/// NOERROR.
pub const NOERROR: u8 = 0;

/// OPT with a payload of 1232 octets and nothing else (RFC 6891 §6.1.2).
const OPT: [u8; 11] = [0, 0, 41, 0x04, 0xD0, 0, 0, 0, 0, 0, 0];
/// RD and one question; the id is filled in for each query.
const HEADER: [u8; 12] = [0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];

/// What a right reply has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected {
    pub rcode: u8,
    /// Records in the answer section.
    pub answers: u16,
}

/// Whether questions carry an OPT record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edns {
    With,
    Without,
}

/// Questions, ready to be sent.
#[derive(Default)]
pub struct Packets {
    octets: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    start: u32,
    len: u16,
    expected: Expected,
}

impl Packets {
    /// Adds a question for an absolute name, with or without the dot at its end.
    pub fn ask(&mut self, name: &str, rtype: u16, edns: Edns, expected: Expected) {
        let packet = question(name, rtype, edns);
        let start = u32::try_from(self.octets.len()).expect("less than 4 GiB of questions");
        self.octets.extend_from_slice(&packet);
        self.entries.push(Entry { start, len: packet.len() as u16, expected });
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The octets of a question, with the id 0.
    pub fn packet(&self, index: usize) -> &[u8] {
        let Entry { start, len, .. } = self.entries[index];
        &self.octets[start as usize..][..usize::from(len)]
    }

    /// What to expect of a question.
    pub fn expected(&self, index: usize) -> Expected {
        self.entries[index].expected
    }
}

/// A query with the id 0.
pub fn question(name: &str, rtype: u16, edns: Edns) -> Vec<u8> {
    let mut packet = HEADER.to_vec();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        packet.push(u8::try_from(label.len()).expect("a label of at most 63 octets"));
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend_from_slice(&rtype.to_be_bytes());
    packet.extend_from_slice(&1u16.to_be_bytes());
    if edns == Edns::With {
        packet[11] = 1;
        packet.extend_from_slice(&OPT);
    }
    packet
}

/// The id of a message (RFC 1035 §4.1.1).
pub fn id(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[0], message[1]])
}

/// Whether a message is a whole reply with what was expected.
pub fn is_right(reply: &[u8], expected: Expected) -> bool {
    let is_whole_reply = reply.len() >= 12 && reply[2] & 0x82 == 0x80;
    is_whole_reply
        && reply[3] & 0x0F == expected.rcode
        && u16::from_be_bytes([reply[6], reply[7]]) == expected.answers
}

//! Questions read and replies written, octet by octet, without the code that is tested.

use std::fmt;

use crate::servers::Act;

/// AAAA.
const AAAA: u16 = 28;
/// Octets of the header.
const HEADER_LEN: usize = 12;
/// Seconds that records may be kept: longer than any case takes.
const TTL_S: [u8; 4] = [0, 0, 0, 60];

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// Lower-cased, without the last dot.
    pub name: String,
    pub rtype: u16,
    /// The payload size of EDNS.
    pub edns: Option<u16>,
    /// Where the question section ends.
    end: usize,
}

impl Question {
    pub fn is_ipv6(&self) -> bool {
        self.rtype == AAAA
    }
}

impl fmt::Display for Question {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let rtype = match self.rtype {
            1 => "A".to_owned(),
            AAAA => "AAAA".to_owned(),
            other => format!("TYPE{other}"),
        };
        write!(out, "{rtype} {}", self.name)?;
        self.edns.map_or(Ok(()), |bytes| write!(out, " edns{bytes}"))
    }
}

/// Reads a question. An OPT, if there is one, comes right behind it.
pub fn read(packet: &[u8]) -> Option<Question> {
    let (mut at, mut labels) = (HEADER_LEN, Vec::new());
    loop {
        let len = usize::from(*packet.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(packet.get(at..at + len)?).to_ascii_lowercase());
        at += len;
    }
    let u16_at = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    let end = at + 4;
    let edns = if u16_at(10)? == 1 { u16_at(end + 3) } else { None };
    Some(Question { name: labels.join("."), rtype: u16_at(at)?, edns, end })
}

/// Writes the reply, if there is to be one.
pub fn reply(packet: &[u8], question: &Question, act: Act, is_tcp: bool) -> Option<Vec<u8>> {
    let (rcode, is_truncated, hosts): (u8, bool, &[u8]) = match &act {
        Act::Silent => return None,
        Act::NoData => (0, false, &[]),
        Act::Says(rcode) | Act::SaysLate(rcode) => (*rcode, false, &[]),
        Act::Is(host) => (0, false, std::slice::from_ref(host)),
        Act::IsLong if is_tcp => (0, false, &[1, 2]),
        Act::IsLong => (0, true, &[1]),
    };
    let has_soa = hosts.is_empty() && [0, 3].contains(&rcode);
    let mut reply = packet[..2].to_vec();
    // QR, RD as RFC 1035 §4.1.1 has them, and RA.
    reply.extend([0x81 | u8::from(is_truncated) << 1, 0x80 | rcode]);
    let counts = [1, hosts.len() as u8, u8::from(has_soa), u8::from(question.edns.is_some())];
    reply.extend(counts.iter().flat_map(|count| [0, *count]));
    reply.extend(&packet[HEADER_LEN..question.end]);
    hosts.iter().for_each(|host| write_address(*host, question.rtype, &mut reply));
    if has_soa {
        write_soa(&mut reply);
    }
    if question.edns.is_some() {
        reply.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    }
    Some(reply)
}

fn write_address(host: u8, rtype: u16, reply: &mut Vec<u8>) {
    reply.extend([0xc0, HEADER_LEN as u8]);
    reply.extend(rtype.to_be_bytes());
    reply.extend([0, 1]);
    reply.extend(TTL_S);
    let mut address = vec![0; if rtype == AAAA { 16 } else { 4 }];
    address[0] = if rtype == AAAA { 0xfd } else { 10 };
    *address.last_mut().unwrap() = host;
    reply.extend((address.len() as u16).to_be_bytes());
    reply.extend(address);
}

/// That of the root, with times as short as those of records.
fn write_soa(reply: &mut Vec<u8>) {
    reply.extend([0, 0, 6, 0, 1]);
    reply.extend(TTL_S);
    reply.extend([0, 22, 0, 0]);
    (0..5).for_each(|_| reply.extend(TTL_S));
}

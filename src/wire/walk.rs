//! Walks over a received message without building anything.
//!
//! Every function takes the whole message and an offset and answers `None` where the bytes end
//! too early or break a rule. Compression pointers must point strictly backwards, and never into
//! the header (RFC 9267 §2), and a name may use no more of them than it can have labels.

use super::name::{LABEL_MAX, NAME_MAX};
use super::{HEADER_LEN, Name, RecordType, u16_at, u32_at};

/// Most compression pointers of one name: as many as a name of 255 octets has labels.
const POINTERS_MAX: usize = 127;

/// One resource record as it lies in a message; all offsets count from the start of the message.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Where the owner name begins.
    pub owner: usize,
    pub rtype: RecordType,
    pub class: u16,
    /// Where the four octets of the TTL begin.
    pub ttl_at: usize,
    /// Seconds; a value with the high bit set reads as 0 (RFC 2181 §8).
    pub ttl_s: u32,
    /// Where RDATA begins.
    pub rdata: usize,
    /// Where the next record begins.
    pub end: usize,
}

/// The offset after the name at `at`, which may end in a compression pointer.
pub fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer >= 0xC0 => return (at + 2 <= message.len()).then_some(at + 2),
            length if usize::from(length) <= LABEL_MAX => at += usize::from(length) + 1,
            _ => return None,
        }
    }
}

/// The name at `at`, its pointers followed, in lower case.
pub fn read_name(message: &[u8], at: usize) -> Option<Name> {
    let mut wire = [0u8; NAME_MAX];
    let mut length = 0;
    let mut at = at;
    let mut lowest = at;
    let mut pointers = 0;
    loop {
        match *message.get(at)? {
            0 => return Name::from_wire(&wire[..=length]),
            pointer if pointer >= 0xC0 => {
                let target = usize::from(u16_at(message, at)? & 0x3FFF);
                pointers += 1;
                if target >= lowest || target < HEADER_LEN || pointers > POINTERS_MAX {
                    return None;
                }
                at = target;
                lowest = target;
            }
            octets if usize::from(octets) <= LABEL_MAX => {
                let label = message.get(at..at + usize::from(octets) + 1)?;
                let end = length + label.len();
                // One octet stays free for the root.
                wire.get_mut(length..end).filter(|_| end < NAME_MAX)?.copy_from_slice(label);
                length = end;
                at += label.len();
            }
            _ => return None,
        }
    }
}

/// The resource record at `at`. RDATA is inside the message; what it says is not checked.
pub fn record(message: &[u8], at: usize) -> Option<Record> {
    let fixed = skip_name(message, at)?;
    let length = usize::from(u16_at(message, fixed + 8)?);
    let end = fixed + 10 + length;
    let ttl = u32_at(message, fixed + 4)?;
    (end <= message.len()).then_some(Record {
        owner: at,
        rtype: RecordType(u16_at(message, fixed)?),
        class: u16_at(message, fixed + 2)?,
        ttl_at: fixed + 4,
        ttl_s: if ttl > i32::MAX as u32 { 0 } else { ttl },
        rdata: fixed + 10,
        end,
    })
}

/// Whether the names inside RDATA of the RFC 1035 types are whole (others cannot be compressed,
/// RFC 3597 §4). A reader that follows them must not meet a broken pointer that we passed on.
pub fn rdata_is_sound(message: &[u8], record: &Record) -> bool {
    let names_end = match record.rtype {
        RecordType::CNAME | RecordType::NS | RecordType::PTR | RecordType::DNAME => {
            whole_name(message, record.rdata)
        }
        RecordType::MX => whole_name(message, record.rdata + 2),
        RecordType::SOA => whole_name(message, record.rdata)
            .and_then(|rname| whole_name(message, rname))
            .map(|fixed| fixed + 20),
        RecordType::A => Some(record.rdata + 4),
        RecordType::AAAA => Some(record.rdata + 16),
        _ => Some(record.end),
    };
    names_end == Some(record.end)
}

/// The offset after the name at `at`, when following its pointers ends well too.
fn whole_name(message: &[u8], at: usize) -> Option<usize> {
    read_name(message, at)?;
    skip_name(message, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_must_point_backwards_and_past_the_header() {
        let mut message = vec![0; HEADER_LEN];
        message.extend_from_slice(b"\x01a\x00\x01b\xc0\x0c\xc0\x13\xc0\x02");
        assert_eq!(read_name(&message, 15), Name::parse("b.a").ok());
        assert_eq!(read_name(&message, 19), None, "a pointer to itself");
        assert_eq!(read_name(&message, 21), None, "a pointer into the header");
    }

    #[test]
    fn two_pointers_that_point_at_each_other_end_the_walk() {
        let mut message = vec![0; HEADER_LEN];
        message.extend_from_slice(b"\xc0\x0e\xc0\x0c");
        assert_eq!(read_name(&message, 14), None);
        assert_eq!(read_name(&message, 12), None);
    }
}

//! Walks over a received message without building anything.
//!
//! Every function takes the whole message and an offset and answers `None` where the bytes end
//! too early or break a rule. Compression pointers must point strictly backwards, and never into
//! the header (RFC 9267 §2), so a walk ends after at most 127 labels and [`POINTERS_MAX`] pointers.

use super::name::{LABEL_MAX, NAME_MAX};
use super::{HEADER_LEN, Name, RecordType, u16_at, u32_at};

/// Most compression pointers in one name: one before each label of the longest name. Pointers that
/// lead only to pointers would make a message cost the square of its length.
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

/// Whether RDATA is as long as its type says, and its names are whole. A reader that follows them
/// must not meet a broken pointer that we passed on.
pub fn rdata_is_sound(message: &[u8], record: &Record) -> bool {
    let end = match record.rtype {
        RecordType::A => Some(record.rdata + 4),
        RecordType::AAAA => Some(record.rdata + 16),
        rtype => match names_in(rtype) {
            Some((before, names, behind)) => (0..names)
                .try_fold(record.rdata + before, |at, _| whole_name(message, at))
                .map(|at| at + behind),
            None => Some(record.end),
        },
    };
    end == Some(record.end)
}

/// Appends a record with every name written out, so that it means the same in any message.
pub fn write_out(message: &[u8], record: &Record, out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(read_name(message, record.owner)?.octets());
    out.extend_from_slice(message.get(record.ttl_at - 4..record.rdata)?);
    let rdata_at = out.len();
    let mut at = record.rdata;
    if let Some((before, names, _)) = names_in(record.rtype) {
        out.extend_from_slice(message.get(at..at + before)?);
        at += before;
        for _ in 0..names {
            out.extend_from_slice(read_name(message, at)?.octets());
            at = skip_name(message, at)?;
        }
    }
    out.extend_from_slice(message.get(at..record.end)?);
    let length = u16::try_from(out.len() - rdata_at).ok()?;
    out[rdata_at - 2..rdata_at].copy_from_slice(&length.to_be_bytes());
    Some(())
}

/// Where RDATA holds names that may be compressed (RFC 3597 §4): the octets before them, how many
/// they are, and the octets behind.
fn names_in(rtype: RecordType) -> Option<(usize, usize, usize)> {
    match rtype {
        RecordType::CNAME | RecordType::NS | RecordType::PTR | RecordType::DNAME => Some((0, 1, 0)),
        RecordType::MX => Some((2, 1, 0)),
        RecordType::SRV => Some((6, 1, 0)),
        RecordType::SOA => Some((0, 2, 20)),
        _ => None,
    }
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

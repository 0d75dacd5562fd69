//! DNS bytes: names, questions, answers and replies. No I/O and no clock.
//!
//! ```text
//! received packet ─► Query ─────────────► Reply ─► packet to send
//!                      │ name, type         ▲
//!                      ▼                    │ copied, never re-encoded
//!                 (resolve) ─► Answer ──────┘
//! ```
//!
//! Equal questions have equal length, so the bytes after the question, compression pointers
//! included, are valid for every client that asks it. That is why an [`Answer`] can be shared.
//! [`message`] is the door to hickory-proto: whole messages, off the hit path.

pub mod answer;
pub mod code;
pub mod ede;
pub mod message;
pub mod name;
pub mod query;
pub mod question;
pub mod reply;
pub mod serial;
pub mod walk;

pub use answer::Answer;
pub use code::{Class, Rcode, RecordType};
pub use ede::Ede;
pub use name::{Name, NameRef};
pub use query::{Edns, Query, Scratch, Unanswerable};
pub use question::Question;
pub use reply::{Reply, Section};

/// Octets of the fixed header (RFC 1035 §4.1.1).
pub const HEADER_LEN: usize = 12;
/// Largest reply over UDP to a client without EDNS (RFC 1035 §4.2.1), in octets.
pub const PLAIN_UDP_MAX: usize = 512;
/// Largest reply over UDP that we send, and the payload size that we advertise, in octets.
/// RFC 9715 §3: below every path MTU in use, so that no answer is fragmented.
pub const UDP_MAX: usize = 1232;
/// Largest message over TCP, in octets (RFC 1035 §4.2.2, the two-octet length).
pub const TCP_MAX: usize = 65_535;

/// Reads a big-endian u16 at `at`, if it is inside `bytes`.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let two = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes([two[0], two[1]]))
}

/// Reads a big-endian u32 at `at`, if it is inside `bytes`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

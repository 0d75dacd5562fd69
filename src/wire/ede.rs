//! Extended DNS errors (RFC 8914): why an answer is no better one.
//!
//! ```text
//! 0  15 │ octets behind │ INFO-CODE │ EXTRA-TEXT, for people
//! ```
//!
//! They are for people and counters: no resolver decides by them. So they get the room that the
//! records leave, and never more.

use std::io::Write;

/// Octets of the option before its text: code and length of the option, INFO-CODE.
const FIXED_LEN: usize = 6;

/// An extended DNS error. Of the size of its text's address and two numbers, so that an Answer
/// holds it and a hit copies it for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ede {
    /// The INFO-CODE.
    pub code: u16,
    /// Endpoints of which none is ready, which the text begins with; 0 for other errors.
    unready: u32,
    /// The EXTRA-TEXT: for people, never names or addresses of others.
    pub text: &'static str,
}

#[allow(missing_docs)]
impl Ede {
    pub const STALE: Ede = Ede::fixed(3, "");
    pub const NOT_ASKED: Ede = Ede::fixed(0, "nobody could be asked");
    pub const NOT_READY: Ede = Ede::fixed(14, "the cluster is not known yet");
    pub const NO_REACHABLE_AUTHORITY: Ede = Ede::fixed(22, "no upstream answered");
    pub const NO_UPSTREAM: Ede = Ede::fixed(22, "no upstream is known yet");
    pub const LOOP: Ede = Ede::fixed(22, "every upstream leads back here");
}

impl Ede {
    /// An error whose text is always the same.
    const fn fixed(code: u16, text: &'static str) -> Self {
        Self { code, unready: 0, text }
    }

    /// Every upstream that was asked is out of reach, and the network said so.
    pub const fn network_error(text: &'static str) -> Self {
        Self::fixed(23, text)
    }

    /// Why a headless Service has no address: it has this many endpoints, and none is ready.
    /// INFO-CODE 0 (Other): the registry has none for it.
    pub const fn none_ready(endpoints: u32) -> Self {
        match endpoints {
            0 => Self::fixed(0, "no endpoints"),
            unready => Self { code: 0, unready, text: "endpoints ready" },
        }
    }

    /// Writes the option at the beginning of `room`, without its text where only that is too long
    /// (RFC 8914 §2: it may be empty). Answers its octets, 0 where there is no room at all.
    pub(super) fn write(self, room: &mut [u8]) -> usize {
        let Some((fixed, text)) = room.split_at_mut_checked(FIXED_LEN) else { return 0 };
        let text_len = self.write_text(text).unwrap_or(0);
        fixed[..2].copy_from_slice(&[0, 15]);
        fixed[2..4].copy_from_slice(&(text_len as u16 + 2).to_be_bytes());
        fixed[4..].copy_from_slice(&self.code.to_be_bytes());
        FIXED_LEN + text_len
    }

    /// Writes the whole text. Answers its octets, or `None` where it is longer than `room`.
    fn write_text(self, room: &mut [u8]) -> Option<usize> {
        let mut left = &mut room[..];
        let written = match self.unready {
            0 => left.write_all(self.text.as_bytes()),
            unready => write!(left, "0 of {unready} {}", self.text),
        };
        let left = left.len();
        written.is_ok().then(|| room.len() - left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(ede: Ede, room: usize) -> Vec<u8> {
        let mut octets = vec![0xA5; room];
        let len = ede.write(&mut octets);
        octets.truncate(len);
        octets
    }

    #[test]
    fn the_text_may_hold_a_number() {
        let option = written(Ede::none_ready(3), 64);
        assert_eq!(option, b"\x00\x0F\x00\x18\x00\x000 of 3 endpoints ready");
        let most = written(Ede::none_ready(u32::MAX), 64);
        assert!(most.ends_with(b"0 of 4294967295 endpoints ready"));
        assert!(written(Ede::none_ready(0), 64).ends_with(b"no endpoints"));
    }

    #[test]
    fn a_text_is_written_whole_or_not_and_a_code_too() {
        for (ede, whole) in [(Ede::NOT_READY, 34), (Ede::none_ready(3), 28)] {
            let bare = [&[0, 15, 0, 2][..], &ede.code.to_be_bytes()].concat();
            assert_eq!(written(ede, whole).len(), whole);
            assert_eq!(written(ede, whole - 1), bare);
            assert_eq!(written(ede, FIXED_LEN), bare);
            assert!(written(ede, FIXED_LEN - 1).is_empty());
            assert!(written(ede, 0).is_empty());
        }
    }

    #[test]
    fn an_error_is_no_larger_than_its_text_and_two_numbers() {
        assert_eq!(size_of::<Option<Ede>>(), size_of::<&str>() + 8);
    }
}

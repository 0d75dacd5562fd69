//! Extended DNS errors (RFC 8914): why an answer is no better one.
//!
//! ```text
//! 0  15 │ octets behind │ INFO-CODE │ EXTRA-TEXT, for people
//! ```
//!
//! They are for people and counters: no resolver decides by them. So they get the room that the
//! records leave, and never more. A reply tells one: the first by [`Rank`]; and of a failure from
//! the cache, in an option of its own, that it is one.

use std::io::Write;

use super::{Rcode, u16_at};

/// The option code.
const OPTION: [u8; 2] = [0, 15];
/// INFO-CODE 13, Cached Error.
const CACHED: u16 = 13;
/// Octets of the option before its text: code and length of the option, INFO-CODE.
const FIXED_LEN: usize = 6;

/// An extended DNS error. Of the size of its text's address and one number, so that an Answer
/// holds it and a hit copies it for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ede {
    /// The INFO-CODE.
    pub code: u16,
    rank: Rank,
    /// Whether it is told a second time, from the cache.
    is_cached: bool,
    /// Endpoints of which none is ready, which the text begins with; 0 for other errors.
    unready: u32,
    /// The EXTRA-TEXT: for people, never names or addresses of others.
    pub text: &'static str,
}

/// Which of several reasons a reply tells: the first of these, and of equals the first that was
/// told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Rank {
    /// Why there is no answer at all.
    NoAnswer,
    /// That the answer is old: whatever else is said of it may have changed.
    Old,
    /// What an upstream said of its answer.
    Upstream,
    /// Why the answer is a denial.
    Denial,
}

#[allow(missing_docs)]
impl Ede {
    pub const NOT_ASKED: Ede = Ede::no_answer(0, "nobody could be asked");
    pub const NOT_READY: Ede = Ede::no_answer(14, "the cluster is not known yet");
    pub const NO_REACHABLE_AUTHORITY: Ede = Ede::no_answer(22, "no upstream answered");
    pub const NO_UPSTREAM: Ede = Ede::no_answer(22, "no upstream is known yet");
    pub const LOOP: Ede = Ede::no_answer(22, "every upstream leads back here");
}

impl Ede {
    const fn no_answer(code: u16, text: &'static str) -> Self {
        Self { code, rank: Rank::NoAnswer, is_cached: false, unready: 0, text }
    }

    /// Every upstream that was asked is out of reach, and the network said so.
    pub const fn network_error(text: &'static str) -> Self {
        Self::no_answer(23, text)
    }

    /// The same failure, told again from the cache (RFC 8914 §4.14). It may have had no reason.
    pub(crate) fn cached(why: Option<Self>) -> Self {
        match why {
            Some(why) => Self { is_cached: why.code != CACHED, ..why },
            None => Self::no_answer(CACHED, ""),
        }
    }

    /// An answer with this response code from a cache, after its time (RFC 8767 §4).
    pub fn stale(rcode: Rcode) -> Self {
        Self::old(rcode, "")
    }

    /// An answer with this response code from a Zone whose source is away.
    pub fn frozen(rcode: Rcode) -> Self {
        Self::old(rcode, "the API server is away, this is its last word")
    }

    fn old(rcode: Rcode, text: &'static str) -> Self {
        // RFC 8914 §4.20: an old denial has a code of its own.
        let code = if rcode == Rcode::NXDOMAIN { 19 } else { 3 };
        Self { code, rank: Rank::Old, is_cached: false, unready: 0, text }
    }

    /// Why a headless Service has no address: it has this many endpoints, and none is ready.
    /// INFO-CODE 0 (Other): the registry has none for it.
    pub const fn none_ready(endpoints: u32) -> Self {
        let text = if endpoints == 0 { "no endpoints" } else { "endpoints ready" };
        Self { code: 0, rank: Rank::Denial, is_cached: false, unready: endpoints, text }
    }

    /// What an upstream said, from the options of its OPT record: the first of its extended errors,
    /// in the words of the registry, for its own have no bound and nobody vouches for them.
    pub(super) fn told(mut options: &[u8]) -> Option<Self> {
        loop {
            let length = usize::from(u16_at(options, 2)?);
            let (option, rest) = options.split_at_checked(4 + length)?;
            if option.starts_with(&OPTION) {
                return Self::passed_on(u16_at(option, 4)?);
            }
            options = rest;
        }
    }

    /// The error of an upstream with this code, if our clients are to hear of it.
    fn passed_on(code: u16) -> Option<Self> {
        let text = REGISTRY.get(usize::from(code)).copied().filter(|text| !text.is_empty())?;
        Some(Self { code, rank: Rank::Upstream, is_cached: false, unready: 0, text })
    }

    /// Whether an upstream said so, and not we.
    pub fn is_told(self) -> bool {
        self.rank == Rank::Upstream
    }

    /// Whether a reply tells this rather than `other`.
    pub(super) fn outranks(self, other: Self) -> bool {
        self.rank < other.rank
    }

    /// Writes all that is told at the beginning of `room`. Answers the octets.
    pub(super) fn write(self, room: &mut [u8]) -> usize {
        let written = self.write_option(room);
        match room.get_mut(written..) {
            Some(room) if self.is_cached && written > 0 => {
                written + Self::no_answer(CACHED, "").write_option(room)
            }
            _ => written,
        }
    }

    /// Writes the option at the beginning of `room`, without its text where only that is too long
    /// (RFC 8914 §2: it may be empty). Answers its octets, 0 where there is no room at all.
    fn write_option(self, room: &mut [u8]) -> usize {
        let Some((fixed, text)) = room.split_at_mut_checked(FIXED_LEN) else { return 0 };
        let text_len = self.write_text(text).unwrap_or(0);
        fixed[..2].copy_from_slice(&OPTION);
        fixed[2..4].copy_from_slice(&(text_len as u16 + 2).to_be_bytes());
        fixed[4..].copy_from_slice(&self.code.to_be_bytes());
        FIXED_LEN + text_len
    }

    /// Writes the whole text. Answers its octets, or `None` where it is longer than `room`.
    fn write_text(self, room: &mut [u8]) -> Option<usize> {
        let mut left = &mut room[..];
        let written = match self {
            // RFC 8914 §3: the source should be named, for it will seem to be us.
            Self { rank: Rank::Upstream, text, .. } => write!(left, "upstream: {text}"),
            Self { unready: 0, text, .. } => left.write_all(text.as_bytes()),
            Self { unready, text, .. } => write!(left, "0 of {unready} {text}"),
        };
        let left = left.len();
        written.is_ok().then(|| room.len() - left)
    }
}

/// The registry of IANA by INFO-CODE; empty where a code is not passed on. What is not in it may
/// mean anything, and is not passed on either.
const REGISTRY: [&str; 31] = [
    "", // Other Error, which without its text says nothing.
    "Unsupported DNSKEY Algorithm",
    "Unsupported DS Digest Type",
    "Stale Answer",
    "Forged Answer",
    "DNSSEC Indeterminate",
    "DNSSEC Bogus",
    "Signature Expired",
    "Signature Not Yet Valid",
    "DNSKEY Missing",
    "RRSIGs Missing",
    "No Zone Key Bit Set",
    "NSEC Missing",
    "Cached Error",
    "", // Not Ready: the state of that server. From us it means that the cluster is not known.
    "Blocked",
    "Censored",
    "Filtered",
    "Prohibited",
    "Stale NXDOMAIN Answer",
    "Not Authoritative",
    "Not Supported",
    "No Reachable Authority",
    "Network Error",
    "Invalid Data",
    "Signature Expired before Valid",
    "", // Too Early (RFC 9250 §4.5): about the connection between us and that server.
    "Unsupported NSEC3 Iterations Value",
    "Unable to conform to policy",
    "Synthesized",
    "Invalid Query Type",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_of_an_upstream_is_told_in_the_words_of_the_registry() {
        let cookie = b"\x00\x0A\x00\x08cookie!!";
        let blocked = b"\x00\x0F\x00\x0B\x00\x0Fevil.com!";
        let bogus = b"\x00\x0F\x00\x02\x00\x06";
        let told = Ede::told(&[&cookie[..], &blocked[..], bogus].concat()).unwrap();
        assert_eq!((told.code, told.text, told.is_told()), (15, "Blocked", true));
        assert!(written(told, 64).ends_with(b"\x00\x0Fupstream: Blocked"));
        assert_eq!(Ede::told(bogus).unwrap().text, "DNSSEC Bogus");
    }

    #[test]
    fn what_clients_are_not_to_hear_or_nobody_knows_is_left_out() {
        let told = |code: u16| {
            let code = code.to_be_bytes();
            Ede::told(&[0, 15, 0, 2, code[0], code[1], 0, 15, 0, 2, 0, 15])
        };
        for code in [0, 14, 26, 31, 49_152, u16::MAX] {
            assert_eq!(told(code), None, "{code}");
        }
        assert_eq!(told(30).unwrap().text, "Invalid Query Type");
    }

    #[test]
    fn options_that_are_cut_say_nothing() {
        let whole = b"\x00\x0A\x00\x00\x00\x0F\x00\x02\x00\x0F";
        assert!(Ede::told(whole).is_some());
        for end in 0..whole.len() {
            assert_eq!(Ede::told(&whole[..end]), None, "cut at {end}");
        }
        assert_eq!(Ede::told(b"\x00\x0F\x00\x01\x0F"), None, "half a code");
    }

    #[test]
    fn an_old_denial_has_a_code_of_its_own() {
        assert_eq!(Ede::stale(Rcode::NOERROR).code, 3);
        assert_eq!(Ede::stale(Rcode::NXDOMAIN).code, 19);
    }

    fn written(ede: Ede, room: usize) -> Vec<u8> {
        let mut octets = vec![0xA5; room];
        let len = ede.write(&mut octets);
        octets.truncate(len);
        octets
    }

    #[test]
    fn a_failure_from_the_cache_says_so_behind_its_reason() {
        let again = b"\x00\x0F\x00\x02\x00\x0D";
        assert_eq!(written(Ede::cached(None), 64), again);
        let with_reason = written(Ede::cached(Some(Ede::NO_REACHABLE_AUTHORITY)), 64);
        assert_eq!(with_reason, [&written(Ede::NO_REACHABLE_AUTHORITY, 64)[..], again].concat());
        let room = with_reason.len() - 1;
        let reason = written(Ede::cached(Some(Ede::NO_REACHABLE_AUTHORITY)), room);
        assert_eq!(reason, written(Ede::NO_REACHABLE_AUTHORITY, room));
        assert_eq!(Ede::cached(Some(Ede::cached(None))), Ede::cached(None));
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

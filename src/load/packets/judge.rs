//! What a reply says, and how the lookup ends that it answers. Reads any octets; what does not hold
//! together says nothing.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::ControlFlow;

use crate::load::record::Outcome;
use crate::load::tasks::{Expect, Task};
use crate::load::truth::{Judgement, Said, Verdict};
use crate::wire::walk::{self, Record};
use crate::wire::{HEADER_LEN, Name, Rcode, RecordType, u16_at};

/// Most aliases that are followed, as resolvers do (BIND: 16).
const ALIASES_MAX: usize = 16;

/// What a reply comes to, without its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gist {
    /// Records of the type that was asked for; or some of them, cut off.
    Records,
    /// None of that type.
    NoData,
    /// No such name.
    NxDomain,
    /// A failure, or no reply at all.
    Nothing,
}

/// The fixed part of a message.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub id: u16,
    /// QR: it is no question. And it is about one: opcode QUERY.
    pub is_reply: bool,
    /// TC: there is more than this.
    pub is_cut: bool,
    pub code: Rcode,
}

impl Header {
    /// Reads it, if the message is long enough.
    pub fn read(message: &[u8]) -> Option<Self> {
        let header = message.get(..HEADER_LEN)?;
        Some(Self {
            id: u16::from_be_bytes([header[0], header[1]]),
            is_reply: header[2] & 0xF8 == 0x80,
            is_cut: header[2] & 0x02 != 0,
            code: Rcode(u16::from(header[3] & 0x0F)),
        })
    }

    /// Whether this is the reply of a server that says no without repeating the question.
    pub fn is_bare_refusal(&self, message: &[u8]) -> bool {
        let says_no =
            matches!(self.code, Rcode::FORMERR | Rcode::SERVFAIL | Rcode::NOTIMP | Rcode::REFUSED);
        says_no && message[4..6] == [0, 0]
    }
}

/// Whether all sections of a message hold together.
pub fn is_whole(message: &[u8]) -> bool {
    let Some(header) = message.get(..HEADER_LEN) else { return false };
    let count = |at: usize| usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
    let mut at = HEADER_LEN;
    for _ in 0..count(4) {
        match walk::skip_name(message, at) {
            Some(end) if end + 4 <= message.len() => at = end + 4,
            _ => return false,
        }
    }
    for _ in 0..count(6) + count(8) + count(10) {
        match walk::record(message, at) {
            Some(record) => at = record.end,
            None => return false,
        }
    }
    true
}

/// What a reply whose question ends at `answers_at` comes to; `None` where its answers are broken.
pub fn gist(reply: &[u8], header: Header, answers_at: usize, rtype: RecordType) -> Option<Gist> {
    match header.code {
        Rcode::NOERROR | Rcode::NXDOMAIN => {}
        _ => return Some(Gist::Nothing),
    }
    let mut has_records = false;
    let walked = each_answer(reply, answers_at, |record| {
        has_records |= record.rtype == rtype || rtype == RecordType::ANY;
        match walk::rdata_is_sound(reply, record) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    });
    match header.code {
        // A server may cut a message anywhere.
        _ if walked.is_none() && !header.is_cut => None,
        Rcode::NXDOMAIN => Some(Gist::NxDomain),
        _ if has_records || header.is_cut => Some(Gist::Records),
        _ => Some(Gist::NoData),
    }
}

/// What a reply to `task` says: the records at the end of its aliases.
pub fn said(reply: &[u8], header: Header, answers_at: usize, task: &Task, gist: Gist) -> Said {
    match gist {
        Gist::Nothing => return Said::Nothing,
        Gist::NxDomain => return Said::NxDomain,
        Gist::NoData => return Said::NoData,
        Gist::Records => {}
    }
    let owner = end_of_aliases(reply, answers_at, task);
    let (mut addresses, mut names) = (BTreeSet::new(), BTreeSet::new());
    // What is cut off says nothing, and what is broken was no reply.
    let _ = each_answer(reply, answers_at, |record| {
        let is_of = |name| name == owner;
        if record.rtype == task.rtype && walk::read_name(reply, record.owner).is_some_and(is_of) {
            addresses.extend(address(reply, record));
            names.extend(name(reply, record));
        }
        ControlFlow::Continue(())
    });
    let is_cut = header.is_cut;
    if addresses.is_empty() && names.is_empty() && !is_cut {
        return Said::NoData;
    }
    match task.rtype.is_address() {
        true => Said::Addresses { set: addresses, is_cut },
        false => Said::Names { set: names, is_cut },
    }
}

/// Whether [`Said`] can hold what replies of this type say.
pub fn can_be_said(rtype: RecordType) -> bool {
    rtype.is_address() || matches!(rtype, RecordType::PTR | RecordType::SRV)
}

/// Where the aliases of the answer section lead, in whatever order they are.
fn end_of_aliases(reply: &[u8], answers_at: usize, task: &Task) -> Name {
    let mut owner = task.name.clone();
    for _ in 0..ALIASES_MAX {
        let mut next = None;
        let _ = each_answer(reply, answers_at, |record| {
            let is_alias = record.rtype == RecordType::CNAME && task.rtype != RecordType::CNAME;
            let is_of = |name: Name| name == owner;
            if is_alias && walk::read_name(reply, record.owner).is_some_and(is_of) {
                next = walk::read_name(reply, record.rdata);
            }
            ControlFlow::Continue(())
        });
        match next {
            Some(name) => owner = name,
            None => break,
        }
    }
    owner
}

/// Looks at each record of the answer section; `None` when one of them is broken.
fn each_answer(
    reply: &[u8],
    mut at: usize,
    mut look: impl FnMut(&Record) -> ControlFlow<()>,
) -> Option<()> {
    for _ in 0..u16_at(reply, 6)? {
        let record = walk::record(reply, at)?;
        if look(&record).is_break() {
            return None;
        }
        at = record.end;
    }
    Some(())
}

fn address(reply: &[u8], record: &Record) -> Option<IpAddr> {
    let rdata = &reply[record.rdata..record.end];
    match record.rtype {
        RecordType::A => <[u8; 4]>::try_from(rdata).ok().map(IpAddr::from),
        RecordType::AAAA => <[u8; 16]>::try_from(rdata).ok().map(IpAddr::from),
        _ => None,
    }
}

fn name(reply: &[u8], record: &Record) -> Option<Name> {
    match record.rtype {
        RecordType::PTR => walk::read_name(reply, record.rdata),
        // Priority, weight and port come first.
        RecordType::SRV => walk::read_name(reply, record.rdata + 6),
        _ => None,
    }
}

/// How a lookup ends where nothing but its task tells what is right.
pub fn by_expectation(expect: Expect, gist: Gist) -> Outcome {
    match (gist, expect) {
        (Gist::Nothing, _) => Outcome::TryAgain,
        (Gist::NxDomain, Expect::Exists) => Outcome::UnknownHost,
        (Gist::Records, Expect::Missing) => Outcome::Wrong,
        // An existing name need not have records of the type: AAAA in a cluster without IPv6.
        _ => Outcome::Ok,
    }
}

/// How a lookup ends whose answer was judged.
pub fn by_truth(judgement: Judgement, gist: Gist) -> Outcome {
    match (judgement.verdict, gist) {
        (_, Gist::Nothing) | (Verdict::Lost, _) => Outcome::TryAgain,
        (Verdict::Ok, _) => Outcome::Ok,
        // The name is not there. No application tells that from one without records, so this harms
        // none; the verdict is counted among the untrue ones nevertheless.
        (Verdict::WrongPositive, Gist::NoData) => Outcome::Ok,
        // The application hears the same, whether the denial was true once or never.
        (_, Gist::NxDomain | Gist::NoData) => Outcome::UnknownHost,
        _ => Outcome::Wrong,
    }
}

#[cfg(test)]
mod tests {
    use super::super::question;
    use super::super::tests::{reply, reply_with, task};
    use super::*;
    use crate::wire::UDP_MAX;
    use proptest::prelude::*;

    /// What a reply comes to, and says.
    fn read(reply: &[u8], task: &Task) -> Option<(Gist, Said)> {
        let header = Header::read(reply)?;
        let answers_at = question::end_in(reply, task)?;
        let gist = gist(reply, header, answers_at, task.rtype)?;
        Some((gist, said(reply, header, answers_at, task, gist)))
    }

    fn addresses(all: &[&str]) -> Said {
        let set = all.iter().map(|address| address.parse().unwrap()).collect();
        Said::Addresses { set, is_cut: false }
    }

    fn names(all: &[&str]) -> Said {
        let set = all.iter().map(|name| Name::parse(name).unwrap()).collect();
        Said::Names { set, is_cut: false }
    }

    #[test]
    fn addresses_are_those_at_the_end_of_the_aliases() {
        let asked = task("web.shop", "A");
        let reply = reply_with(
            &asked,
            0,
            &[
                "b.shop A 10.0.0.2",
                "other.shop A 10.9.9.9",
                "a.shop CNAME b.shop",
                "web.shop CNAME a.shop",
                "b.shop A 10.0.0.1",
                "b.shop AAAA 2001:db8::1",
            ],
        );
        let said = addresses(&["10.0.0.1", "10.0.0.2"]);
        assert_eq!(read(&reply, &asked), Some((Gist::Records, said)));
    }

    #[test]
    fn aliases_that_lead_nowhere_or_in_a_circle_are_no_data() {
        let asked = task("web.shop", "A");
        let circle = reply_with(&asked, 0, &["web.shop CNAME a.shop", "a.shop CNAME web.shop"]);
        assert_eq!(read(&circle, &asked), Some((Gist::NoData, Said::NoData)));
        let stranger = reply_with(&asked, 0, &["other.shop A 10.9.9.9"]);
        assert_eq!(read(&stranger, &asked), Some((Gist::Records, Said::NoData)));
    }

    #[test]
    fn every_kind_of_reply_is_read() {
        let (a, aaaa) = (task("web", "A"), task("web", "AAAA"));
        let v6 = reply_with(&aaaa, 0, &["web AAAA 2001:db8::7"]);
        assert_eq!(read(&v6, &aaaa), Some((Gist::Records, addresses(&["2001:db8::7"]))));
        assert_eq!(read(&reply(&a, 0), &a), Some((Gist::NoData, Said::NoData)));
        assert_eq!(read(&reply(&a, 3), &a), Some((Gist::NxDomain, Said::NxDomain)));
        for code in [1, 2, 4, 5, 9, 15] {
            assert_eq!(read(&reply(&a, code), &a), Some((Gist::Nothing, Said::Nothing)));
        }
        let ptr = task("1.0.0.10.in-addr.arpa", "PTR");
        let back = reply_with(&ptr, 0, &["1.0.0.10.in-addr.arpa PTR web.shop"]);
        assert_eq!(read(&back, &ptr), Some((Gist::Records, names(&["web.shop"]))));
        let srv = task("_http._tcp.web", "SRV");
        let ports = reply_with(&srv, 0, &["_http._tcp.web SRV 0 50 80 A.web"]);
        assert_eq!(read(&ports, &srv), Some((Gist::Records, names(&["a.web"]))));
    }

    #[test]
    fn what_was_cut_says_what_is_there() {
        let asked = task("web", "A");
        let mut cut = reply_with(&asked, 0, &["web A 10.0.0.1", "web A 10.0.0.2"]);
        cut[2] |= 0x02;
        cut.truncate(cut.len() - 3);
        let set = BTreeSet::from([IpAddr::from([10, 0, 0, 1])]);
        let said = Said::Addresses { set, is_cut: true };
        assert_eq!(read(&cut, &asked), Some((Gist::Records, said)));
        cut[2] &= !0x02;
        assert_eq!(read(&cut, &asked), None, "broken without TC");
    }

    #[test]
    fn records_with_the_wrong_length_are_broken() {
        let asked = task("web", "A");
        let mut broken = reply_with(&asked, 0, &["web A 10.0.0.1"]);
        let rdlength_at = broken.len() - 5;
        broken[rdlength_at] = 3;
        assert_eq!(read(&broken, &asked), None);
        broken[rdlength_at] = 200;
        assert_eq!(read(&broken, &asked), None);
        assert!(!is_whole(&broken));
    }

    #[test]
    fn outcomes_follow_what_is_expected() {
        use Outcome::{Ok, TryAgain, UnknownHost, Wrong};
        for (gist, exists, missing, any) in [
            (Gist::Records, Ok, Wrong, Ok),
            (Gist::NoData, Ok, Ok, Ok),
            (Gist::NxDomain, UnknownHost, Ok, Ok),
            (Gist::Nothing, TryAgain, TryAgain, TryAgain),
        ] {
            assert_eq!(by_expectation(Expect::Exists, gist), exists, "{gist:?}");
            assert_eq!(by_expectation(Expect::Missing, gist), missing, "{gist:?}");
            assert_eq!(by_expectation(Expect::Any, gist), any, "{gist:?}");
        }
    }

    #[test]
    fn outcomes_follow_the_truth_where_it_is_known() {
        let by = |verdict, gist| by_truth(Judgement { verdict, fresh_after: None }, gist);
        assert_eq!(by(Verdict::Ok, Gist::NxDomain), Outcome::Ok);
        assert_eq!(by(Verdict::WrongNegative, Gist::NxDomain), Outcome::UnknownHost);
        assert_eq!(by(Verdict::WrongNegative, Gist::NoData), Outcome::UnknownHost);
        assert_eq!(by(Verdict::WrongPositive, Gist::Records), Outcome::Wrong);
        assert_eq!(by(Verdict::WrongPositive, Gist::NoData), Outcome::Ok);
        assert_eq!(by(Verdict::Stale, Gist::Records), Outcome::Wrong);
        assert_eq!(by(Verdict::Stale, Gist::NxDomain), Outcome::UnknownHost);
        assert_eq!(by(Verdict::Lost, Gist::Nothing), Outcome::TryAgain);
    }

    /// Replies of every kind, for those who change them.
    fn corpus() -> Vec<(Task, Vec<u8>)> {
        let (a, srv, ptr) =
            (task("web.shop", "A"), task("_a._b.web", "SRV"), task("x.arpa", "PTR"));
        let aliased = ["web.shop CNAME b.shop", "b.shop A 10.0.0.1", "b.shop A 10.0.0.2"];
        vec![
            (a.clone(), reply_with(&a, 0, &aliased)),
            (a.clone(), reply(&a, 3)),
            (srv.clone(), reply_with(&srv, 0, &["_a._b.web SRV 0 50 80 web.shop"])),
            (ptr.clone(), reply_with(&ptr, 0, &["x.arpa PTR web.shop"])),
        ]
    }

    #[test]
    fn no_changed_octet_and_no_cut_makes_reading_panic() {
        for (task, whole) in corpus() {
            assert!(is_whole(&whole) && read(&whole, &task).is_some());
            for end in 0..whole.len() {
                let _ = (read(&whole[..end], &task), is_whole(&whole[..end]));
            }
            for at in 0..whole.len() {
                for octet in
                    [0, 1, 0x3F, 0x40, 0xC0, 0xFF, whole[at] ^ 0x80, whole[at].wrapping_add(1)]
                {
                    let mut changed = whole.clone();
                    changed[at] = octet;
                    let _ = (read(&changed, &task), is_whole(&changed));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_octets_after_the_question_panic(
            which in 0usize..4,
            flags in any::<[u8; 2]>(),
            counts in any::<[u8; 3]>(),
            tail in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let (task, _) = corpus().swap_remove(which);
            let mut room = [0; UDP_MAX];
            let len = question::write(&task, 7, None, &mut room);
            let mut message = room[..len].to_vec();
            message[2..4].copy_from_slice(&flags);
            for (at, count) in [7, 9, 11].into_iter().zip(counts) {
                message[at] = count % 9;
            }
            message.extend_from_slice(&tail);
            if let Some((gist, said)) = read(&message, &task) {
                let is_cut = matches!(
                    said,
                    Said::Addresses { is_cut: true, .. } | Said::Names { is_cut: true, .. }
                );
                prop_assert!(!is_cut || gist == Gist::Records);
            }
            let _ = is_whole(&message);
        }
    }
}

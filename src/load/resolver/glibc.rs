//! `getaddrinfo` and `res_query` of glibc 2.36: which names, and what their answers make of a
//! lookup. [`send`] is which servers, how long and how often.
//!
//! `getaddrinfo` with hints of 0 is meant, as the JVM and most programs call it: both families are
//! asked whatever addresses the host has (AI_ADDRCONFIG filters nothing here), and /etc/hosts is
//! not read. The cases that surprise, all of them as the real one behaves:
//!
//! * NODATA goes on with the search, and is UnknownHost in the end even when another name of it
//!   was SERVFAIL.
//! * SERVFAIL for one family and NODATA for the other counts as NODATA.
//! * Silence ends the search list; then the host as written is asked, and what that says counts: a
//!   server that is silent for one name of the list makes UnknownHost of a Service that exists.
//! * REFUSED by all servers ends the list too.

mod send;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use super::message::Question;
use super::search::{Candidates, Order};
use super::{Failure, Found, Records, ResolvConf};
use crate::load::record::PacketCounts;
use crate::wire::{Name, Rcode, RecordType};
use send::{Answers, Mode, Send};

/// Payload size that glibc offers with `options edns0` (RESOLV_EDNS_BUFFER_SIZE).
const EDNS_PAYLOAD_BYTES: u16 = 1200;

/// One process. glibc keeps what it learns per thread; a client here is one thread.
pub struct Glibc {
    conf: Arc<ResolvConf>,
    /// Which server is first, with `rotate`.
    turn: AtomicUsize,
    /// The [`Mode`]: once a server answered only one of two questions, both are never under way
    /// together again.
    mode: AtomicU8,
}

/// Why a name has no records, as `h_errno` and `errno` tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// HOST_NOT_FOUND.
    NotFound,
    /// NO_DATA.
    NoData,
    /// TRY_AGAIN, and what was read last is SERVFAIL.
    ServFail,
    /// TRY_AGAIN.
    TryAgain,
    /// TRY_AGAIN, and nobody is there: ECONNREFUSED.
    Refused,
    /// NO_RECOVERY.
    NoRecovery,
    /// EMFILE and the like.
    NoSocket,
}

/// What a lookup has heard so far.
struct Heard {
    packets: PacketCounts,
    /// Each question was answered, by NOERROR or NXDOMAIN. What glibc tells does not say: silence
    /// for one name of the list may end as the NXDOMAIN of another.
    is_complete: bool,
}

impl Glibc {
    /// A fresh process.
    pub fn new(conf: Arc<ResolvConf>, seed: u64) -> Self {
        let mode = AtomicU8::new(Mode::of(&conf) as u8);
        Self { conf, turn: AtomicUsize::new(seed as usize % 64), mode }
    }

    /// Addresses of a host.
    pub async fn addresses(&self, host: &str) -> Found {
        let mut heard = Heard::default();
        let candidates = Candidates::of(host, &self.conf);
        let result = self.search(candidates, &mut heard).await.map_err(Why::failure);
        heard.found(result.and_then(not_empty))
    }

    /// Records of an absolute name.
    pub async fn query(&self, name: &Name, rtype: RecordType) -> Found {
        let mut heard = Heard::default();
        let questions = [self.offer(Question::new(name, rtype))];
        let result = self.ask(&questions, &mut heard).await.map_err(Why::failure);
        let records = result.map(|answers| Records::of(answers.replies(), rtype));
        heard.found(records.and_then(not_empty))
    }

    /// The host below each domain, and as written, until one has an answer.
    async fn search(&self, candidates: Candidates, heard: &mut Heard) -> Result<Records, Why> {
        let Candidates { absolute: Some(absolute), listed, order } = candidates else {
            return Err(Why::NotFound);
        };
        let mut first = None;
        if order != Order::Last {
            match self.addresses_of(&absolute, heard).await {
                Err(why) if order == Order::First && why != Why::NoSocket => first = Some(why),
                done => return done,
            }
        }
        let mut seen = Seen { has_nodata: false, has_servfail: false, last: Why::NotFound };
        for name in &listed {
            match self.addresses_of(name, heard).await {
                Err(why) if seen.goes_on(why) => {}
                Err(why @ (Why::Refused | Why::NoSocket)) => return Err(why),
                Err(_) => break,
                done => return done,
            }
        }
        if order == Order::Last && !listed.contains(&absolute) {
            match self.addresses_of(&absolute, heard).await {
                Err(why) if why != Why::NoSocket => seen.last = why,
                done => return done,
            }
        }
        Err(first.unwrap_or_else(|| seen.verdict()))
    }

    /// Addresses of both families of one name. An alias without an address is an answer, which
    /// ends the search: then they are empty.
    async fn addresses_of(&self, name: &Name, heard: &mut Heard) -> Result<Records, Why> {
        let pair = Question::pair(name).map(|question| self.offer(question));
        let questions = if self.conf.no_aaaa { &pair[..1] } else { &pair[..] };
        let answers = self.ask(questions, heard).await?;
        Ok(Records::of(answers.replies(), RecordType::A))
    }

    /// Asks the servers, and judges what they say as `res_query` does.
    async fn ask(&self, questions: &[Question], heard: &mut Heard) -> Result<Answers, Why> {
        let turn = if self.conf.rotate { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let send = Send::new(&self.conf, &self.mode, questions, &mut heard.packets);
        let answers = send.run(turn).await;
        let is_told = |answers: &Answers| answers.replies().filter(|it| it.is_told()).count();
        heard.is_complete &= answers.as_ref().is_ok_and(|it| is_told(it) == questions.len());
        answers.and_then(|answers| judge(&answers).map(|()| answers))
    }

    /// The question with OPT, if that is wanted.
    fn offer(&self, question: Question) -> Question {
        if self.conf.edns0 { question.with_opt(EDNS_PAYLOAD_BYTES) } else { question }
    }
}

impl Default for Heard {
    fn default() -> Self {
        Self { packets: PacketCounts::default(), is_complete: true }
    }
}

impl Heard {
    /// The end of the lookup.
    fn found(self, result: Result<Records, Failure>) -> Found {
        Found::of(result, self.packets).denied_if(self.is_complete)
    }
}

/// What the search list has shown so far.
struct Seen {
    has_nodata: bool,
    has_servfail: bool,
    /// What the last name came to.
    last: Why,
}

impl Seen {
    /// Takes the failure of one name of the list: whether the next one is asked.
    fn goes_on(&mut self, why: Why) -> bool {
        self.last = why;
        self.has_nodata |= why == Why::NoData;
        self.has_servfail |= why == Why::ServFail;
        matches!(why, Why::NotFound | Why::NoData | Why::ServFail)
    }

    /// What `res_search` says in the end: NODATA before SERVFAIL before what came last.
    fn verdict(&self) -> Why {
        match self {
            Self { has_nodata: true, .. } => Why::NoData,
            Self { has_servfail: true, .. } => Why::TryAgain,
            Self { last, .. } => *last,
        }
    }
}

impl Why {
    /// What `getaddrinfo` makes of it: EAI_AGAIN of TRY_AGAIN, EAI_NONAME of all else.
    fn failure(self) -> Failure {
        match self {
            Self::NoSocket => Failure::NoSocket,
            Self::ServFail | Self::TryAgain | Self::Refused => Failure::TryAgain,
            Self::NotFound | Self::NoData | Self::NoRecovery => Failure::UnknownHost,
        }
    }
}

/// Whether the answers are good for the asker, as `res_query` sees them.
fn judge(answers: &Answers) -> Result<(), Why> {
    // Who has one reply only takes it for both.
    let both = [answers.first.as_ref(), answers.second.as_ref()];
    let (Some(first), Some(second)) = (both[0].or(both[1]), both[1].or(both[0])) else {
        return Err(Why::TryAgain);
    };
    if first.has_answer() || second.has_answer() {
        return Ok(());
    }
    let code = if first.rcode() == Rcode::NOERROR { second.rcode() } else { first.rcode() };
    Err(match code {
        Rcode::NXDOMAIN => Why::NotFound,
        Rcode::NOERROR => Why::NoData,
        // Only over TCP: over UDP it is no answer.
        Rcode::SERVFAIL if first.rcode() == Rcode::SERVFAIL => Why::ServFail,
        Rcode::SERVFAIL => Why::TryAgain,
        _ => Why::NoRecovery,
    })
}

/// No records of the type asked for are an unknown host.
fn not_empty(records: Records) -> Result<Records, Failure> {
    if records.is_empty() { Err(Failure::UnknownHost) } else { Ok(records) }
}

#[cfg(test)]
mod tests;

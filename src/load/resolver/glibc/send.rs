//! `res_send` of glibc 2.36: one or two questions to each server in turn, each turn `attempts`
//! times, until one of them answers.
//!
//! ```text
//! server 1 ── timeout ──► server 2 ── timeout·2/n ──► server 3 ── timeout·4/n ──► server 1 …
//!   SERVFAIL, NOTIMP, REFUSED for both, ICMP, a runt: the next server at once
//!   one of two answers in time: again, one after the other; then again, each on its own socket
//!   TC: both again over TCP, and TCP from there on, each server once
//! ```
//!
//! A socket per server lives as long as one call, so an answer that comes after its time-out is
//! taken by the next attempt.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Why;
use crate::load::record::PacketCounts;
use crate::load::resolver::ResolvConf;
use crate::load::resolver::SERVERS_MAX;
use crate::load::resolver::exchange::{
    Event, TCP_WAIT_MAX, Udp, ask_over_tcp, count_misfit, is_exhausted,
};
use crate::load::resolver::message::{Fit, Question, Reply};
use crate::wire::{HEADER_LEN, Rcode};

/// How two questions are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Both at once.
    Parallel = 0,
    /// The second when the first is answered: `single-request`.
    Single = 1,
    /// The same, from another socket: `single-request-reopen`.
    Reopen = 2,
}

/// What a server said, in the order in which it came. `first` is missing when it was SERVFAIL or
/// the like.
#[derive(Debug, Default)]
pub struct Answers {
    pub first: Option<Reply>,
    pub second: Option<Reply>,
}

/// One call.
pub struct Send<'a> {
    conf: &'a ResolvConf,
    mode: &'a AtomicU8,
    questions: &'a [Question],
    packets: &'a mut PacketCounts,
    sockets: [Option<Udp>; SERVERS_MAX],
    buffer: Vec<u8>,
    /// Somebody said something, or at least nobody said that there is nobody.
    got_somewhere: bool,
    /// The code of the reply that was read last into the first place.
    last_code: Rcode,
}

/// What comes after a server.
enum Step {
    Done(Answers),
    NextServer,
    Truncated,
}

/// What a round with one server ended with.
enum Round {
    Over(Step),
    /// Only this came in time.
    OneOfTwo(Reply),
}

/// The two questions of a round.
struct Pending {
    /// Those answered, well or not. A single question has an answered second one.
    is_answered: [bool; 2],
    /// Packets under way for each.
    under_way: [u64; 2],
    answers: Answers,
}

impl Mode {
    /// As resolv.conf says.
    pub fn of(conf: &ResolvConf) -> Self {
        match (conf.single_request_reopen, conf.single_request) {
            (true, _) => Self::Reopen,
            (false, true) => Self::Single,
            (false, false) => Self::Parallel,
        }
    }

    fn load(mode: &AtomicU8) -> Self {
        match mode.load(Ordering::Relaxed) {
            0 => Self::Parallel,
            1 => Self::Single,
            _ => Self::Reopen,
        }
    }
}

impl Answers {
    /// All that there is.
    pub fn replies(&self) -> impl Iterator<Item = &Reply> {
        self.first.iter().chain(&self.second)
    }
}

impl<'a> Send<'a> {
    /// A call with one question, or two of one name.
    pub fn new(
        conf: &'a ResolvConf,
        mode: &'a AtomicU8,
        questions: &'a [Question],
        packets: &'a mut PacketCounts,
    ) -> Self {
        Self {
            conf,
            mode,
            questions,
            packets,
            sockets: [const { None }; SERVERS_MAX],
            buffer: Vec::new(),
            got_somewhere: false,
            last_code: Rcode::NOERROR,
        }
    }

    /// Asks until a server answers; begins with the server of this number.
    pub async fn run(mut self, first: usize) -> Result<Answers, Why> {
        let count = self.conf.used_servers().len();
        for _ in 0..self.conf.attempts() {
            if self.conf.use_vc {
                break;
            }
            for shift in 0..count {
                match self.over_udp((first + shift) % count).await? {
                    Step::Done(answers) => return Ok(answers),
                    Step::NextServer => {}
                    Step::Truncated => {
                        let rest = (shift..count).map(|shift| (first + shift) % count);
                        return self.over_tcp(rest).await;
                    }
                }
            }
        }
        if self.conf.use_vc {
            return self.over_tcp((0..count).map(|shift| (first + shift) % count)).await;
        }
        Err(match self.got_somewhere {
            false => Why::Refused,
            true => self.try_again(),
        })
    }

    /// TRY_AGAIN; the search list goes on only behind a SERVFAIL.
    fn try_again(&self) -> Why {
        if self.last_code == Rcode::SERVFAIL { Why::ServFail } else { Why::TryAgain }
    }

    /// Asks these servers, each once. A connection that is reset is tried a second time.
    async fn over_tcp(mut self, servers: impl Iterator<Item = usize>) -> Result<Answers, Why> {
        let mut is_refused = false;
        for number in servers {
            for is_last in [false, true] {
                match self.ask_over_tcp(number).await {
                    Ok(replies) => {
                        let mut replies = replies.into_iter();
                        return Ok(Answers { first: replies.next(), second: replies.next() });
                    }
                    Err(error) if is_exhausted(&error) => return Err(Why::NoSocket),
                    Err(error) => {
                        is_refused = error.kind() == io::ErrorKind::ConnectionRefused;
                        if is_last || error.kind() != io::ErrorKind::ConnectionReset {
                            break;
                        }
                    }
                }
            }
        }
        Err(if is_refused { Why::Refused } else { self.try_again() })
    }

    async fn ask_over_tcp(&mut self, number: usize) -> io::Result<Vec<Reply>> {
        let server = self.conf.used_servers()[number];
        let until = Instant::now() + TCP_WAIT_MAX;
        ask_over_tcp(server, self.questions, until, self.packets).await
    }

    /// Asks one server, up to three times when it answers only one of two questions.
    async fn over_udp(&mut self, number: usize) -> Result<Step, Why> {
        loop {
            let first = match self.round(number).await? {
                Round::Over(step) => return Ok(step),
                Round::OneOfTwo(first) => first,
            };
            // glibc remembers for good that this server, or a firewall, wants one at a time.
            match Mode::load(self.mode) {
                Mode::Parallel => self.mode.store(Mode::Single as u8, Ordering::Relaxed),
                Mode::Single => {
                    self.mode.store(Mode::Reopen as u8, Ordering::Relaxed);
                    self.close();
                }
                Mode::Reopen => {
                    return Ok(Step::Done(Answers { first: Some(first), second: None }));
                }
            }
        }
    }

    /// Sends and receives until all is said or time is up.
    async fn round(&mut self, number: usize) -> Result<Round, Why> {
        let mode = Mode::load(self.mode);
        let until = Instant::now() + self.patience(number);
        let mut pending = Pending::new(self.questions.len());
        let at_once = if mode == Mode::Parallel { self.questions.len() } else { 1 };
        for question in 0..at_once {
            if !self.send(number, question, &mut pending).await? {
                return Ok(self.nobody_there(&pending));
            }
        }
        loop {
            match self.receive(number, until).await {
                Event::TimedOut => return Ok(self.timed_out(pending)),
                Event::Refused => return Ok(self.nobody_there(&pending)),
                Event::Datagram(_) => {}
            }
            if let Some(step) = self.take(&mut pending) {
                return Ok(Round::Over(step));
            }
            let is_next_due = pending.under_way[1] == 0 && pending.first_came();
            if mode != Mode::Parallel && is_next_due {
                if mode == Mode::Reopen {
                    self.close();
                }
                if !self.send(number, 1, &mut pending).await? {
                    return Ok(self.nobody_there(&pending));
                }
            }
        }
    }

    /// How long this server may take: the later ones share what the first one had.
    fn patience(&self, number: usize) -> Duration {
        let doubled = u64::from(self.conf.timeout_s()) << number;
        let share = if number == 0 { 1 } else { self.conf.used_servers().len() as u64 };
        Duration::from_secs((doubled / share).max(1))
    }

    /// Sends one question; whether that went well.
    async fn send(
        &mut self,
        number: usize,
        question: usize,
        pending: &mut Pending,
    ) -> Result<bool, Why> {
        if self.sockets[number].is_none() {
            match Udp::connected(self.conf.used_servers()[number]) {
                Ok(socket) => self.sockets[number] = Some(socket),
                Err(error) if is_exhausted(&error) => return Err(Why::NoSocket),
                Err(_) => return Ok(false),
            }
        }
        let Some(socket) = &self.sockets[number] else { return Ok(false) };
        let is_sent = socket.send(&self.questions[question], self.packets).await.is_ok();
        pending.under_way[question] += u64::from(is_sent);
        Ok(is_sent)
    }

    async fn receive(&mut self, number: usize, until: Instant) -> Event {
        match &self.sockets[number] {
            Some(socket) => socket.receive(&mut self.buffer, until).await,
            None => Event::Refused,
        }
    }

    /// What a datagram means. `None`: wait on.
    fn take(&mut self, pending: &mut Pending) -> Option<Step> {
        self.got_somewhere = true;
        if self.buffer.len() < HEADER_LEN {
            self.packets.garbage += 1;
            self.close();
            return Some(Step::NextServer);
        }
        let which = self.fitting(pending)?;
        let reply = Reply::new(std::mem::take(&mut self.buffer))?;
        reply.count(self.packets);
        pending.under_way[which] = pending.under_way[which].saturating_sub(1);
        let is_second = self.questions.len() == 2 && pending.some_came();
        if !is_second {
            self.last_code = reply.rcode();
        }
        if is_rejection(&reply) {
            return self.rejected(which, pending);
        }
        if reply.is_truncated() {
            self.close();
            return Some(Step::Truncated);
        }
        pending.is_answered[which] = true;
        let place =
            if is_second { &mut pending.answers.second } else { &mut pending.answers.first };
        *place = Some(reply);
        pending.all_came().then(|| Step::Done(std::mem::take(&mut pending.answers)))
    }

    /// Which open question the datagram answers.
    fn fitting(&mut self, pending: &Pending) -> Option<usize> {
        let fits = || self.questions.iter().map(|question| question.fit(&self.buffer)).enumerate();
        let Some((which, _)) = fits().find(|(_, fit)| *fit == Fit::Yes) else {
            let fit = fits().next().map_or(Fit::Other, |(_, fit)| fit);
            count_misfit(fit, self.packets);
            return None;
        };
        if pending.is_answered[which] {
            self.packets.too_late += 1;
            return None;
        }
        Some(which)
    }

    /// SERVFAIL and the like: the other question may still be answered.
    fn rejected(&mut self, which: usize, pending: &mut Pending) -> Option<Step> {
        if self.questions.len() == 1 {
            self.close();
            return Some(Step::NextServer);
        }
        if !pending.some_came() {
            pending.is_answered[which] = true;
            return None;
        }
        match pending.answers.first.take() {
            Some(first) => Some(Step::Done(Answers { first: Some(first), second: None })),
            None => Some(Step::NextServer),
        }
    }

    fn timed_out(&mut self, pending: Pending) -> Round {
        self.packets.lost += pending.under_way.iter().sum::<u64>();
        match pending.answers.first {
            Some(first) => Round::OneOfTwo(first),
            None => {
                self.got_somewhere = true;
                Round::Over(Step::NextServer)
            }
        }
    }

    /// The network says so; what is under way will not be answered.
    fn nobody_there(&mut self, pending: &Pending) -> Round {
        self.packets.unreachable += pending.under_way.iter().sum::<u64>();
        self.close();
        Round::Over(Step::NextServer)
    }

    /// Closes the sockets to all servers.
    fn close(&mut self) {
        self.sockets = [const { None }; SERVERS_MAX];
    }
}

impl Pending {
    fn new(questions: usize) -> Self {
        let is_answered = [false, questions == 1];
        Self { is_answered, under_way: [0; 2], answers: Answers::default() }
    }

    /// Whether one of two was answered, be it with SERVFAIL.
    fn some_came(&self) -> bool {
        self.is_answered[0] || self.is_answered[1]
    }

    fn all_came(&self) -> bool {
        self.is_answered[0] && self.is_answered[1]
    }

    /// Whether the first was answered well and the second was not asked: glibc forgets to ask it
    /// behind a SERVFAIL, and waits for nothing.
    fn first_came(&self) -> bool {
        self.is_answered == [true, false] && self.answers.first.is_some()
    }
}

/// Whether glibc takes it for no answer: a refusal, or a referral of a server that knows nothing.
fn is_rejection(reply: &Reply) -> bool {
    let is_refusal = [Rcode::SERVFAIL, Rcode::NOTIMP, Rcode::REFUSED].contains(&reply.rcode());
    let is_empty = reply.rcode() == Rcode::NOERROR
        && reply.answer_count() == 0
        && reply.additional_count() == 0;
    is_refusal || is_empty && !reply.is_authoritative() && !reply.is_recursive()
}

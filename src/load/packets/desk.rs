//! The books of one driver: which questions are under way on which socket, what became of them, and
//! what went over the wire. Knows no sockets: messages and the time come as parameters.

use std::sync::Arc;
use std::time::Duration;

use super::judge::{self, Gist, Header};
use super::under_way::{Asked, UnderWay};
use super::{Notes, Settings, question};
use crate::load::record::{PacketCounts, Sample};
use crate::load::resolver::Resolver;
use crate::load::run::Run;
use crate::load::target::Transport;
use crate::load::tasks::{Class, Expect, Task};
use crate::load::truth::{Case, Judgement, Retrial, Said, Sought};
use crate::wire::Rcode;

/// Samples that are handed on at once.
const SAMPLES_MAX: usize = 1024;

/// What a socket brought.
pub enum Event<'a> {
    /// A message of the server.
    Message(&'a [u8]),
    /// A question of ours that the network refused, as much of it as ICMP quoted.
    Refused(&'a [u8]),
    /// The question with this id was not sent: the system did not take it.
    Unsent(u16),
    /// The connection ended. `was_open` tells that it had been made.
    Cut { was_open: bool },
}

/// The books of one driver.
pub struct Desk<N> {
    run: Arc<Run>,
    payload_bytes: Option<u16>,
    is_tcp: bool,
    under_way: Vec<UnderWay>,
    first_client: u32,
    notes: N,
    /// Answers that may yet turn out to be true.
    retrial: Retrial<Ended>,
    samples: Vec<Sample>,
    counts: PacketCounts,
    not_begun: u64,
}

/// A lookup that could not be begun, because too many are under way.
#[derive(Debug)]
pub struct Full;

impl<N: Notes> Desk<N> {
    /// Empty books.
    pub fn new(run: &Arc<Run>, settings: &Settings, notes: N) -> Self {
        let sockets = settings.count();
        Self {
            run: Arc::clone(run),
            payload_bytes: settings.payload_bytes.map(|bytes| bytes.min(super::PAYLOAD_MAX)),
            is_tcp: run.target.transport == Transport::Tcp,
            under_way: (0..sockets).map(|_| UnderWay::new()).collect(),
            first_client: settings.first_client,
            notes,
            retrial: Retrial::default(),
            samples: Vec::with_capacity(SAMPLES_MAX),
            counts: PacketCounts::default(),
            not_begun: 0,
        }
    }

    /// The run.
    pub fn run(&self) -> &Arc<Run> {
        &self.run
    }

    /// How many sockets there are.
    pub fn sockets(&self) -> usize {
        self.under_way.len()
    }

    /// Questions under way on one socket.
    pub fn under_way(&self, socket: usize) -> usize {
        self.under_way[socket].len()
    }

    /// Whether no more questions can be under way on a socket.
    pub fn is_full(&self, socket: usize) -> bool {
        self.under_way[socket].is_full()
    }

    /// Whether nothing is under way, and every answer is judged.
    pub fn is_idle(&self) -> bool {
        self.under_way.iter().all(|under_way| under_way.len() == 0) && self.retrial.is_empty()
    }

    /// Takes a lookup in and writes its question. Answers its length.
    ///
    /// # Errors
    /// Too many are under way on this socket.
    pub fn begin(
        &mut self,
        socket: usize,
        task: Arc<Task>,
        due: Duration,
        now: Duration,
        room: &mut [u8],
    ) -> Result<usize, Full> {
        let len = question::write(&task, 0, self.payload_bytes, room);
        let id = self.under_way[socket].begin(Asked { task, due, sent: now }).ok_or(Full)?;
        room[..2].copy_from_slice(&id.to_be_bytes());
        self.counts.sent += 1;
        self.counts.tcp += u64::from(self.is_tcp);
        self.notes.began_late(now.saturating_sub(due));
        Ok(len)
    }

    /// Counts a lookup that was due and cannot be begun.
    pub fn leave_out(&mut self) {
        self.not_begun += 1;
    }

    /// Ends a lookup for which there is no connection.
    pub fn fail(&mut self, socket: usize, task: Arc<Task>, due: Duration, now: Duration) {
        self.counts.unreachable += 1;
        self.notes.began_late(now.saturating_sub(due));
        self.end_unanswered(socket, Asked { task, due, sent: now }, now, 0);
    }

    /// Writes down what a socket brought.
    pub fn note(&mut self, socket: usize, event: Event<'_>, now: Duration) {
        match event {
            Event::Message(message) => self.hear(socket, message, now),
            Event::Refused(quoted) => self.refuse(socket, quoted, now),
            Event::Unsent(id) => self.take_back(socket, id, now),
            Event::Cut { was_open } => self.cut(socket, was_open, now),
        }
    }

    fn hear(&mut self, socket: usize, message: &[u8], now: Duration) {
        let Some(header) = Header::read(message) else {
            self.counts.garbage += 1;
            return;
        };
        // What came at the last moment is too late whether or not it was looked for before.
        self.time_out(socket, now);
        let Some((answers_at, asked)) = self.asked(socket, header, message) else {
            return self.hear_stray(socket, header, message);
        };
        let Some(gist) = judge::gist(message, header, answers_at, asked.task.rtype) else {
            // It claims to be the reply and cannot be read. Another one may come.
            self.counts.garbage += 1;
            return;
        };
        self.count(header);
        let asked = self.under_way[socket].end(header.id).expect("it was found under this id");
        let said = |task: &Task| judge::said(message, header, answers_at, task, gist);
        self.end(socket, asked, now, (gist, 1), said);
    }

    /// What a message is the reply to, and where its answers begin.
    fn asked(&self, socket: usize, header: Header, message: &[u8]) -> Option<(usize, &Asked)> {
        let asked = self.under_way[socket].asked(header.id).filter(|_| header.is_reply)?;
        match question::end_in(message, &asked.task) {
            Some(answers_at) => Some((answers_at, asked)),
            None if header.is_bare_refusal(message) => Some((message.len(), asked)),
            None => None,
        }
    }

    /// Counts a message that is the reply to nothing under way.
    fn hear_stray(&mut self, socket: usize, header: Header, message: &[u8]) {
        let is_too_late = header.is_reply && self.under_way[socket].is_too_late(header.id, message);
        let counter = match is_too_late {
            true => &mut self.counts.too_late,
            false if judge::is_whole(message) => &mut self.counts.mismatched,
            false => &mut self.counts.garbage,
        };
        *counter += 1;
    }

    fn count(&mut self, header: Header) {
        self.counts.answered += 1;
        self.counts.truncated += u64::from(header.is_cut);
        let counter = match header.code {
            Rcode::NOERROR => &mut self.counts.noerror,
            Rcode::NXDOMAIN => &mut self.counts.nxdomain,
            Rcode::SERVFAIL => &mut self.counts.servfail,
            Rcode::REFUSED => &mut self.counts.refused,
            _ => &mut self.counts.other_code,
        };
        *counter += 1;
    }

    /// Ends the question that ICMP quotes. It is counted once, as unreachable and not as lost too;
    /// a refusal that fits nothing under way says nothing.
    fn refuse(&mut self, socket: usize, quoted: &[u8], now: Duration) {
        let Some(id) = self.refused(socket, quoted) else { return };
        if let Some(asked) = self.under_way[socket].end(id) {
            self.counts.unreachable += 1;
            self.end_unanswered(socket, asked, now, 1);
        }
    }

    /// Which question ICMP quotes. It need not quote more than the ports (RFC 792): then it is the
    /// only one under way, or nobody knows which, and those that were refused time out.
    fn refused(&self, socket: usize, quoted: &[u8]) -> Option<u16> {
        let under_way = &self.under_way[socket];
        let Some(id) = quoted.first_chunk().map(|id| u16::from_be_bytes(*id)) else {
            return under_way.only();
        };
        let asked = under_way.asked(id)?;
        question::may_be_quoted(quoted, &asked.task).then_some(id)
    }

    fn take_back(&mut self, socket: usize, id: u16, now: Duration) {
        self.counts.unreachable += 1;
        self.counts.sent -= 1;
        if let Some(asked) = self.under_way[socket].end(id) {
            self.end_unanswered(socket, asked, now, 0);
        }
    }

    fn end_unanswered(&mut self, socket: usize, asked: Asked, now: Duration, packets: u32) {
        self.end(socket, asked, now, (Gist::Nothing, packets), |_| Said::Nothing);
    }

    /// Ends all questions of a connection that was cut: no reply can come.
    fn cut(&mut self, socket: usize, was_open: bool, now: Duration) {
        // A server may close a connection that nobody uses (RFC 7766 §6.2.3).
        self.counts.tcp_failed += u64::from(!was_open || self.under_way(socket) > 0);
        while let Some(asked) = self.under_way[socket].give_up() {
            self.lose(socket, asked, now);
        }
    }

    /// Ends the questions of a socket that waited for longer than the time-out.
    fn time_out(&mut self, socket: usize, now: Duration) {
        let timeout = self.run.timeout;
        let Some(sent_until) = now.checked_sub(timeout) else { return };
        while let Some(asked) = self.under_way[socket].time_out(sent_until) {
            let given_up = asked.sent + timeout;
            self.lose(socket, asked, given_up);
        }
    }

    fn lose(&mut self, socket: usize, asked: Asked, now: Duration) {
        self.counts.lost += 1;
        self.end_unanswered(socket, asked, now, 1);
    }

    /// Ends a lookup: by the truth where that is known, else by what its task expects.
    fn end(
        &mut self,
        socket: usize,
        asked: Asked,
        now: Duration,
        (gist, packets): (Gist, u32),
        said: impl FnOnce(&Task) -> Said,
    ) {
        let Asked { task, due, sent } = asked;
        let (client, expect) = (self.first_client.saturating_add(socket as u32), task.expect);
        let ended = Ended {
            due,
            took: now.saturating_sub(due),
            class: task.class,
            expect,
            client,
            gist,
            packets,
        };
        let truth = self.run.truth.as_ref().filter(|_| judge::can_be_said(task.rtype));
        let Some(truth) = truth else { return self.write((ended, None)) };
        let started = self.run.course.started;
        let case = Case {
            name: task.name.clone(),
            sought: Sought::by_packet(task.rtype),
            said: said(&task),
            asked: started + sent,
            answered: started + now,
        };
        if let Some(judged) = self.retrial.judge(truth, case, ended) {
            self.write(judged);
        }
    }

    /// Judges answers that have waited for it.
    fn retry(&mut self, now: Duration) {
        let now = self.run.course.started + now;
        let run = Arc::clone(&self.run);
        let Some(truth) = &run.truth else { return };
        while let Some(judged) = self.retrial.due(truth, now) {
            self.write(judged);
        }
    }

    fn write(&mut self, (ended, judgement): (Ended, Option<Judgement>)) {
        if self.samples.len() == SAMPLES_MAX {
            self.hand_on();
        }
        let Ended { due, took, class, expect, client, gist, packets } = ended;
        let outcome = match judgement {
            Some(judgement) => judge::by_truth(judgement, gist),
            None => judge::by_expectation(expect, gist),
        };
        let resolver = Resolver::Packet;
        self.samples.push(Sample {
            due,
            took,
            outcome,
            judgement,
            class,
            resolver,
            client,
            packets,
        });
    }

    /// Ends what timed out, judges what had to wait and hands on what was written down.
    pub fn close(&mut self, now: Duration) {
        for socket in 0..self.sockets() {
            self.time_out(socket, now);
        }
        self.retry(now);
        self.hand_on();
        let counts = std::mem::take(&mut self.counts);
        if counts != PacketCounts::default() {
            self.notes.packets(&counts);
        }
        let not_begun = std::mem::take(&mut self.not_begun);
        if not_begun > 0 {
            self.notes.not_begun(not_begun);
        }
    }

    fn hand_on(&mut self) {
        if !self.samples.is_empty() {
            self.notes.lookups(&self.samples);
            self.samples.clear();
        }
    }

    /// What all was written to.
    pub fn into_notes(self) -> N {
        self.notes
    }
}

/// A lookup that has ended.
#[derive(Clone, Copy, Debug)]
struct Ended {
    due: Duration,
    took: Duration,
    class: Class,
    expect: Expect,
    client: u32,
    gist: Gist,
    packets: u32,
}

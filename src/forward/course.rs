//! The course of one question through the upstreams: whom to ask next, how long to wait, and when
//! to end. Pure: no clock, no socket, no chance; [`Means`] say what may be spent.
//!
//! ```text
//!  next(now) ─► Send ───────► the shell sends           event(try) ◄─ accepted, poor, cut, …
//!            ├► Overdue ────► the upstream is told
//!            ├► Wait(until) ► the shell waits for an event, or until then
//!            └► Done
//! ```
//!
//! A try that is overdue is listened to further: slow is not lost. The next upstream is asked
//! when an answer is late (a hedge, as far as the allowance goes), when a try is overdue, when
//! the network refuses, and when the answer is poor: SERVFAIL of one says little about the name.

mod road;
mod sending;

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use self::road::{BROKEN_MAX, Road};
use self::sending::Sending;
use super::failure::Proto;
use super::health::Standing;

/// Most tries of one question at one upstream over one transport (RFC 9520 §3.1).
pub const TRIES_OF_ONE_MAX: u8 = 3;
/// How long a question waits for those who refused to listen, before each time that they are asked
/// once more: a server that is restarted is back soon. Together short enough for a client to ask
/// another server of ours in time.
pub const PAUSES: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(700)];
/// Most hedges of one question. A third try waits for the time-out of the second.
pub const HEDGES_MAX: u8 = 2;
/// Shortest time that a try over TCP waits: a handshake that has lost a packet takes a second.
pub const TCP_TIME_OUT_MIN: Duration = Duration::from_secs(1);
/// Longest that a question is held because all packets per second are spent.
pub const HOLD_MAX: Duration = Duration::from_millis(100);

/// What is known of one upstream when the question begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leg {
    pub standing: Standing,
    /// How long its first try waits.
    pub time_out: Duration,
    /// When another upstream is asked too.
    pub hedge_after: Duration,
}

/// The rules of one question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Ask over TCP first, because the client did.
    pub over_tcp: bool,
    /// Ask over TCP and nothing else, because the directive says so.
    pub is_tcp_only: bool,
    pub deadline: Instant,
    /// Most tries over all upstreams, below that of the Budget; what one upstream wants asked
    /// otherwise is no other try (as CoreDNS).
    pub tries_max: usize,
    /// Longest that any try waits.
    pub time_out_max: Duration,
    /// Whether to wait, for [`PAUSES`], when all that are left refuse to listen.
    pub rides_out: bool,
}

/// What may be spent, shared with other questions.
pub trait Means {
    /// Takes one try of the Budget of the query.
    fn take_try(&self) -> bool;
    /// Takes one hedge.
    fn take_hedge(&self) -> bool;
    /// Takes one packet to this upstream.
    ///
    /// # Errors
    /// When there will be one.
    fn take_packet(&self, leg: usize, now: Instant) -> Result<(), Instant>;
}

/// Why something is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    First,
    /// The answer is later than it uses to be.
    Hedge,
    /// The last try is overdue.
    Retry,
    /// The last try failed, or was answered poorly.
    Failover,
    /// The same upstream wants another transport, or no EDNS.
    FollowUp,
}

/// One message to one upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Send {
    /// The number of the try, from 0 on.
    pub number: usize,
    pub leg: usize,
    pub proto: Proto,
    pub has_edns: bool,
    pub reason: Reason,
}

/// What a poor answer is worth beside others, the least first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Worth {
    /// The upstream does not want to, or cannot, and says nothing of the name.
    Refusal,
    /// It has tried.
    Failure,
    /// It says something of the name.
    Word,
}

/// How a try went on. All but time-outs come from outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event<A> {
    /// An answer that settles the question.
    Accepted(A),
    /// An answer that another upstream might better.
    Poor(Worth, A),
    /// TC.
    Truncated,
    EdnsRefused,
    /// A response with another id: somebody may be guessing.
    NearMiss,
    /// The network failed, or the upstream hung up.
    Broken,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step<A> {
    Send(Send),
    /// This try is overdue. It is listened to further.
    Overdue(usize),
    /// Wait for an event, until then.
    Wait(Instant),
    Done(Ending<A>),
}

/// The end of a question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending<A> {
    /// The answer, and the try that brought it.
    Answered(usize, A),
    /// Nobody answered.
    Unanswered,
    /// The Budget of the query was spent before anybody could be asked.
    Spent,
    /// No upstream may be sent any more packets for now.
    Paced,
}

/// Where one try is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Waiting,
    Overdue,
    Over,
}

/// One try.
#[derive(Clone, Copy, Debug)]
struct Try {
    leg: usize,
    proto: Proto,
    hedge_at: Instant,
    until: Instant,
    phase: Phase,
    /// Whether the hedge that follows it was decided on.
    is_hedged: bool,
}

/// The course of one question.
#[derive(Debug)]
pub struct Course<A> {
    rules: Rules,
    roads: Vec<Road>,
    tries: Vec<Try>,
    /// Sends that a response asked for: upstream and transport.
    follow_ups: VecDeque<(usize, Proto)>,
    /// The best answer so far.
    held: Option<(usize, Worth, A)>,
    /// Until when a better one is waited for.
    better_until: Option<Instant>,
    accepted: Option<(usize, A)>,
    hedges: u8,
    /// Tries but for follow-ups.
    counted: usize,
    /// Whether a response did not have our id: the rest goes over TCP.
    is_guessed_at: bool,
    /// Until when it may be held for want of packets, from the first time on.
    held_until: Option<Instant>,
    is_spent: bool,
    /// Until when those are waited for who refused to listen.
    paused_until: Option<Instant>,
    pauses: usize,
    /// Why the next try is made.
    reason: Reason,
}

impl<A> Course<A> {
    /// A question to these upstreams, those to be asked first at the beginning.
    pub fn new(legs: impl IntoIterator<Item = Leg>, rules: Rules) -> Self {
        Self {
            rules,
            roads: legs.into_iter().map(Road::new).collect(),
            tries: Vec::new(),
            follow_ups: VecDeque::new(),
            held: None,
            better_until: None,
            accepted: None,
            hedges: 0,
            counted: 0,
            is_guessed_at: false,
            held_until: None,
            is_spent: false,
            paused_until: None,
            pauses: 0,
            reason: Reason::First,
        }
    }

    /// Something happened to a try.
    pub fn event(&mut self, number: usize, event: Event<A>) {
        let Some(attempt) = self.tries.get_mut(number) else { return };
        let (leg, proto) = (attempt.leg, attempt.proto);
        attempt.phase = Phase::Over;
        let Some(road) = self.roads.get_mut(leg) else { return };
        self.reason = Reason::Failover;
        match event {
            Event::Accepted(answer) => self.accepted = Some((number, answer)),
            Event::Poor(worth, answer) => {
                road.was_poor = true;
                if self.held.as_ref().is_none_or(|(_, held, _)| *held < worth) {
                    self.held = Some((number, worth, answer));
                }
            }
            Event::Truncated => {
                road.is_cut = true;
                self.follow_ups.push_back((leg, Proto::Tcp));
            }
            Event::EdnsRefused => {
                road.has_edns = false;
                self.follow_ups.push_back((leg, proto));
            }
            Event::NearMiss => {
                self.is_guessed_at = true;
                self.follow_ups.push_back((leg, Proto::Tcp));
            }
            Event::Broken if proto == Proto::Tcp && !self.rules.is_tcp_only => {
                road.lacks_tcp = true
            }
            Event::Broken => road.broken += 1,
        }
    }

    /// What is to be done now. To be called until it says [`Step::Wait`] or [`Step::Done`].
    pub fn next(&mut self, now: Instant, means: &impl Means) -> Step<A> {
        if let Some((number, answer)) = self.accepted.take() {
            return Step::Done(Ending::Answered(number, answer));
        }
        if now >= self.rules.deadline {
            return self.end(Ending::Unanswered);
        }
        if let Some(number) = self.next_overdue(now) {
            return Step::Overdue(number);
        }
        if self.held.is_some() {
            self.better_until.get_or_insert(now + self.rules.time_out_max);
        }
        if self.paused_until.take_if(|until| *until <= now).is_some() {
            self.roads.iter_mut().for_each(|road| *road = road.rested(&self.rules));
        }
        match self.send_what_is_due(now, means) {
            Sending::Sent(send) => Step::Send(send),
            Sending::NotBefore(at) => Step::Wait(self.wake_at(now).min(at)),
            Sending::Nobody if self.rides_out(now) => Step::Wait(self.wake_at(now)),
            Sending::Nobody if self.is_over(now) => {
                let paced = self.held_until.is_some_and(|until| until <= now);
                self.end(match (self.tries.is_empty(), paced) {
                    (_, true) => Ending::Paced,
                    (true, false) if self.is_spent => Ending::Spent,
                    _ => Ending::Unanswered,
                })
            }
            Sending::Nobody => Step::Wait(self.wake_at(now)),
        }
    }

    /// Whether a later try to another upstream was sent because this one was late. To be asked of
    /// the tries that are left when there is an answer.
    pub fn was_outrun(&self, number: usize, winner: usize) -> bool {
        let (Some(late), Some(won)) = (self.tries.get(number), self.tries.get(winner)) else {
            return false;
        };
        late.phase == Phase::Waiting && late.is_hedged && number < winner && late.leg != won.leg
    }

    fn end(&mut self, without: Ending<A>) -> Step<A> {
        let held = self.held.take();
        Step::Done(held.map_or(without, |(number, _, answer)| Ending::Answered(number, answer)))
    }

    /// The next try whose time is over.
    fn next_overdue(&mut self, now: Instant) -> Option<usize> {
        let is_overdue = |one: &Try| one.phase == Phase::Waiting && one.until <= now;
        let number = self.tries.iter().position(is_overdue)?;
        let late = &mut self.tries[number];
        late.phase = Phase::Overdue;
        if late.proto == Proto::Tcp && !self.rules.is_tcp_only {
            self.roads[late.leg].is_slow_over_tcp = true;
        }
        self.reason = Reason::Retry;
        Some(number)
    }

    /// Whether nothing can come any more that would be worth the wait.
    fn is_over(&self, now: Instant) -> bool {
        let is_heard = |one: &Try| match one.phase {
            Phase::Waiting => true,
            Phase::Overdue => self.held.is_none() || self.may_better(one.leg, now),
            Phase::Over => false,
        };
        self.follow_ups.is_empty() && !self.tries.iter().any(is_heard)
    }

    /// Whether those who refused to listen are waited for, because nobody else is left to be asked.
    fn rides_out(&mut self, now: Instant) -> bool {
        let is_waiting = self.tries.iter().any(|one| one.phase == Phase::Waiting);
        let may_try = !self.is_spent && self.counted < self.rules.tries_max;
        if !self.rules.rides_out || self.held.is_some() || is_waiting || !may_try {
            return false;
        }
        let may_be_back = |road: &Road| {
            let is_asked = |road: Road| road.proto(&self.rules, self.is_guessed_at).is_some();
            road.broken >= BROKEN_MAX && is_asked(road.rested(&self.rules))
        };
        if self.paused_until.is_none()
            && self.held_until.is_none()
            && let Some(pause) = PAUSES.get(self.pauses)
            && self.roads.iter().any(may_be_back)
        {
            self.paused_until = Some(now + *pause);
            self.pauses += 1;
        }
        self.paused_until.is_some()
    }

    /// Whether this upstream may still have a better answer than the poor one that is held: it may
    /// only be slow. Who is down is not waited for.
    fn may_better(&self, leg: usize, now: Instant) -> bool {
        let is_early = self.better_until.is_none_or(|until| now < until);
        let road = &self.roads[leg];
        is_early && !road.was_poor && road.leg.standing != Standing::Down
    }

    fn wake_at(&self, now: Instant) -> Instant {
        let waiting = self.tries.iter().filter(|one| one.phase == Phase::Waiting);
        // A hedge that could not be decided on yet, because a follow-up has to wait, is no reason
        // to wake up.
        let at = waiting.map(|one| match one.is_hedged || one.hedge_at <= now {
            true => one.until,
            false => one.hedge_at.min(one.until),
        });
        let until = self.better_until.filter(|until| *until > now);
        at.chain(until).chain(self.paused_until).fold(self.rules.deadline, Instant::min)
    }
}

#[cfg(test)]
mod tests;

//! One question on its way: does what its [`Course`] says, and tells it what happens.
//!
//! Every try is a future of its own, with its own socket; the first answer that is accepted drops
//! the others. What happens is told to the Upstreams here, once.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use super::allowance::Share;
use super::counters::ForwardCounters;
use super::course::{Course, Ending, Event, Leg, Means, Reason, Rules, Send, Step, Worth};
use super::failure::{Act, Cause, Failure, Path, Proto};
use super::request::{Received, Request};
use super::{Answered, Budget, Config, Error, Upstream};
use crate::wire::answer::Kind;
use crate::wire::{Answer, Question, Rcode};

/// One try under way: its number, and what came of it.
type Flying<'a> =
    Pin<Box<dyn Future<Output = (usize, Result<Received, Failure>)> + std::marker::Send + 'a>>;

/// What all questions of one directive share.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    pub config: &'a Config,
    pub counters: &'a ForwardCounters,
    pub hedges: &'a Share,
}

/// One question on its way.
pub struct Asking<'a> {
    shared: Shared<'a>,
    question: &'a Question,
    budget: &'a Budget,
    upstreams: &'a [Arc<Upstream>],
    course: Course<Answer>,
    rules: Rules,
    flying: FuturesUnordered<Flying<'a>>,
    /// One for each that was sent.
    tries: Vec<Sent>,
    last: Option<Failure>,
    all_by_network: bool,
    /// Whether nothing could be sent at all.
    all_local: bool,
}

/// One try that was sent.
#[derive(Clone, Copy)]
struct Sent {
    leg: usize,
    at: Instant,
    path: Path,
    is_overdue: bool,
    has_ended: bool,
}

/// What this question may spend.
struct Purse<'a> {
    shared: Shared<'a>,
    budget: &'a Budget,
    upstreams: &'a [Arc<Upstream>],
}

impl<'a> Asking<'a> {
    /// A question to these upstreams, in this order.
    pub fn new(
        shared: Shared<'a>,
        question: &'a Question,
        budget: &'a Budget,
        upstreams: &'a [Arc<Upstream>],
        rules: Rules,
    ) -> Self {
        let legs = upstreams.iter().map(|upstream| {
            let rtt = upstream.rtt();
            let time_out = rtt.time_out(rules.time_out_max);
            Leg { standing: upstream.health().standing(), time_out, hedge_after: rtt.hedge_after() }
        });
        Self {
            shared,
            question,
            budget,
            upstreams,
            course: Course::new(legs, rules),
            rules,
            flying: FuturesUnordered::new(),
            tries: Vec::new(),
            last: None,
            all_by_network: true,
            all_local: true,
        }
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// Nobody answered in time, or nothing may be sent any more.
    pub async fn run(&mut self) -> Result<Answered, Error> {
        self.shared.hedges.earn();
        let purse = Purse { shared: self.shared, budget: self.budget, upstreams: self.upstreams };
        loop {
            let step = self.course.next(Instant::now(), &purse);
            if matches!(step, Step::Done(_)) {
                self.doubt_the_silent();
            }
            match step {
                Step::Send(send) => self.send(send),
                Step::Overdue(number) => self.give_up(number),
                Step::Wait(until) => {
                    if let Ok(Some((number, result))) =
                        timeout_at(until, next(&mut self.flying)).await
                    {
                        self.landed(number, result);
                    }
                }
                Step::Done(Ending::Answered(number, answer)) => {
                    return Ok(self.answered(number, answer));
                }
                Step::Done(Ending::Spent) => {
                    self.shared.counters.budgets_spent.add();
                    return Err(self.error(Error::Spent));
                }
                Step::Done(Ending::Paced) => {
                    self.shared.counters.paced.add();
                    return Err(self.error(Error::Paced));
                }
                Step::Done(Ending::Unanswered) => return Err(self.error(Error::Spent)),
            }
        }
    }

    fn send(&mut self, send: Send) {
        let Some(upstream) = self.upstreams.get(send.leg) else { return };
        match send.reason {
            Reason::Hedge => upstream.counters.hedges.add(),
            Reason::Failover | Reason::Retry => upstream.counters.failovers.add(),
            Reason::First | Reason::FollowUp => {}
        }
        let request = Request::of(self.question);
        let request = if send.has_edns { request } else { request.without_edns() };
        let (number, until) = (send.number, self.rules.deadline);
        let mut path = Path { proto: send.proto, local: None, remote: upstream.address() };
        match send.proto {
            Proto::Udp => match upstream.open() {
                Ok(open) => {
                    path = open.1;
                    self.flying.push(Box::pin(async move {
                        (number, upstream.ask_over_udp(&request, open).await)
                    }));
                }
                Err(failure) => self.flying.push(Box::pin(async move { (number, Err(failure)) })),
            },
            Proto::Tcp => {
                // What is idle may be dead: one try finds that out, and the next needs none.
                let is_its = |sent: &Sent| sent.leg == send.leg && sent.path.proto == Proto::Tcp;
                let is_new = self.tries.iter().any(is_its);
                self.flying.push(Box::pin(async move {
                    (number, upstream.ask_over_tcp(&request, until, is_new).await)
                }));
            }
        }
        self.tries.push(Sent {
            leg: send.leg,
            at: Instant::now(),
            path,
            is_overdue: false,
            has_ended: false,
        });
    }

    /// A try is overdue.
    fn give_up(&mut self, number: usize) {
        let Some(sent) = self.tries.get_mut(number) else { return };
        sent.is_overdue = true;
        let failure = sent.path.failed(Act::Read, Cause::TimedOut);
        let upstream = &self.upstreams[sent.leg];
        if sent.path.proto == Proto::Tcp {
            upstream.distrust_connections(sent.at);
        }
        upstream.was_silent(&failure);
        self.note(failure);
    }

    /// A try has ended by itself.
    fn landed(&mut self, number: usize, result: Result<Received, Failure>) {
        let Some(sent) = self.tries.get_mut(number) else { return };
        sent.has_ended = true;
        let sent = *sent;
        let upstream = &self.upstreams[sent.leg];
        let now = Instant::now();
        let took = now - sent.at;
        let event = match result {
            Err(failure) => {
                // A connection that is overdue was counted then.
                if !sent.is_overdue {
                    upstream.broke(&failure);
                    self.note(failure);
                }
                Event::Broken
            }
            Ok(Received::NearMiss | Received::Ignored) => {
                upstream.counters.near_misses.add();
                Event::NearMiss
            }
            Ok(received) => {
                upstream.responded(took, sent.path.proto, sent.is_overdue);
                match received {
                    Received::Answer(answer) => {
                        upstream.counters.response(answer.rcode, took);
                        self.judge(answer)
                    }
                    Received::EdnsRefused => Event::EdnsRefused,
                    _ => Event::Truncated,
                }
            }
        };
        self.course.event(number, event);
    }

    /// Whether another upstream is to be asked before this is passed on.
    fn judge(&self, answer: Answer) -> Event<Answer> {
        if !self.budget.take_octets(answer.heap_bytes()) {
            self.shared.counters.budgets_spent.add();
            return Event::Accepted(answer);
        }
        let failover = super::config::FAILOVER.contains(&answer.rcode)
            || self.shared.config.failover.contains(&answer.rcode);
        match failover {
            true => Event::Poor(worth(&answer), answer),
            false => Event::Accepted(answer),
        }
    }

    /// Who has not even answered late may have lost more than this question.
    fn doubt_the_silent(&self) {
        let has_spoken = |leg| self.tries.iter().any(|sent| sent.leg == leg && sent.has_ended);
        for sent in self.tries.iter().filter(|sent| sent.is_overdue && !has_spoken(sent.leg)) {
            self.upstreams[sent.leg].doubt(Instant::now());
        }
    }

    fn answered(&self, number: usize, answer: Answer) -> Answered {
        for (other, sent) in self.tries.iter().enumerate() {
            if self.course.was_outrun(other, number) {
                self.upstreams[sent.leg].was_outrun();
            }
        }
        let leg = self.tries[number].leg;
        Answered { answer, upstream: self.upstreams[leg].clone() }
    }

    fn note(&mut self, failure: Failure) {
        self.all_by_network &= failure.is_of_network();
        self.all_local &= failure.is_local();
        self.last = Some(failure);
    }

    /// How the last try failed; `otherwise` if there was none.
    fn error(&self, otherwise: Error) -> Error {
        let last = self.last.or_else(|| {
            let sent = self.tries.last()?;
            Some(sent.path.failed(Act::Read, Cause::TimedOut))
        });
        last.map_or(otherwise, |last| {
            if self.all_local && self.last.is_some() {
                return Error::Local(last);
            }
            let all_by_network = self.all_by_network && self.last.is_some();
            Error::Upstream { last, all_by_network }
        })
    }
}

/// What a poor answer is worth beside another one.
fn worth(answer: &Answer) -> Worth {
    match answer.kind() {
        Kind::Failure if answer.rcode == Rcode::SERVFAIL => Worth::Failure,
        Kind::Failure => Worth::Refusal,
        _ => Worth::Word,
    }
}

/// The next try that ends; never, while none is under way.
async fn next<'a>(
    flying: &mut FuturesUnordered<Flying<'a>>,
) -> Option<(usize, Result<Received, Failure>)> {
    match flying.next().await {
        None => std::future::pending().await,
        some => some,
    }
}

impl Means for Purse<'_> {
    fn take_try(&self) -> bool {
        self.budget.has_octets() && self.budget.take_try()
    }

    fn take_hedge(&self) -> bool {
        let is_allowed = self.shared.hedges.spend();
        self.shared.counters.hedges_forgone.add_many(u64::from(!is_allowed));
        is_allowed
    }

    fn take_packet(&self, leg: usize, now: Instant) -> Result<(), Instant> {
        self.upstreams.get(leg).map_or(Ok(()), |upstream| upstream.take_packet(now))
    }
}

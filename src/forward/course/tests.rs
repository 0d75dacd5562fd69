//! The course, event by event.

mod chance;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use super::super::allowance::Share;
use super::super::budget::{TIME_MAX, TRIES_MAX};
use super::*;

const UNKNOWN: Leg = Leg {
    standing: Standing::Healthy,
    time_out: Duration::from_millis(300),
    hedge_after: Duration::from_millis(150),
};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What may be spent in a test.
struct Purse {
    tries: Cell<u32>,
    hedges: Share,
    /// When an upstream has packets again.
    packets_at: RefCell<BTreeMap<usize, Instant>>,
}

impl Purse {
    fn full() -> Self {
        let (tries, hedges) = (Cell::new(TRIES_MAX), Share::new(10));
        Self { tries, hedges, packets_at: RefCell::default() }
    }

    /// As full, but no hedge.
    fn without_hedges() -> Self {
        Self { hedges: Share::new(0), ..Self::full() }
    }
}

impl Means for Purse {
    fn take_try(&self) -> bool {
        let left = self.tries.get();
        self.tries.set(left.saturating_sub(1));
        left > 0
    }

    fn take_hedge(&self) -> bool {
        self.hedges.spend()
    }

    fn take_packet(&self, leg: usize, now: Instant) -> Result<(), Instant> {
        self.packets_at
            .borrow()
            .get(&leg)
            .map_or(Ok(()), |&at| if at <= now { Ok(()) } else { Err(at) })
    }
}

/// A course with its clock and purse.
struct Trip {
    course: Course<&'static str>,
    purse: Purse,
    start: Instant,
    at: Duration,
}

impl Trip {
    fn new(legs: &[Leg], over_tcp: bool, purse: Purse) -> Self {
        let start = Instant::now();
        let (deadline, tries_max) = (start + TIME_MAX, TRIES_MAX as usize);
        let time_out_max = Duration::from_secs(2);
        let (is_tcp_only, rides_out) = (false, true);
        let rules = Rules { over_tcp, is_tcp_only, deadline, tries_max, time_out_max, rides_out };
        Self { course: Course::new(legs.iter().copied(), rules), purse, start, at: Duration::ZERO }
    }

    /// To these upstreams, unknown all of them.
    fn to(count: usize) -> Self {
        Self::new(&vec![UNKNOWN; count], false, Purse::full())
    }

    fn next(&mut self) -> Step<&'static str> {
        self.course.next(self.start + self.at, &self.purse)
    }

    /// The send that is due: upstream, transport, reason.
    fn sent(&mut self) -> (usize, Proto, Reason) {
        match self.next() {
            Step::Send(send) => (send.leg, send.proto, send.reason),
            other => panic!("{other:?} at {:?}", self.at),
        }
    }

    /// Waits as long as is wanted; how long that was since the start, in milliseconds.
    fn wait(&mut self) -> u64 {
        match self.next() {
            Step::Wait(until) => {
                self.at = until - self.start;
                self.at.as_millis() as u64
            }
            other => panic!("{other:?} at {:?}", self.at),
        }
    }

    fn done(&mut self) -> Ending<&'static str> {
        match self.next() {
            Step::Done(ending) => ending,
            other => panic!("{other:?} at {:?}", self.at),
        }
    }
}

#[tokio::test]
async fn u1_a_late_answer_is_hedged_and_the_first_one_counts() {
    let mut trip = Trip::to(2);
    assert_eq!(trip.sent(), (0, Proto::Udp, Reason::First));
    assert_eq!(trip.wait(), 150);
    assert_eq!(trip.sent(), (1, Proto::Udp, Reason::Hedge));
    trip.course.event(1, Event::Accepted("second"));
    assert_eq!(trip.done(), Ending::Answered(1, "second"));
    assert!(trip.course.was_outrun(0, 1) && !trip.course.was_outrun(1, 1));
}

#[tokio::test]
async fn u4_without_an_allowance_the_time_out_leads_to_the_next_upstream() {
    let mut trip = Trip::new(&[UNKNOWN, UNKNOWN], false, Purse::without_hedges());
    trip.sent();
    assert_eq!(trip.wait(), 150);
    assert_eq!(trip.wait(), 300);
    assert_eq!(trip.next(), Step::Overdue(0));
    assert_eq!(trip.sent(), (1, Proto::Udp, Reason::Retry));
}

#[tokio::test]
async fn u4_slow_is_not_lost() {
    let mut trip = Trip::new(&[UNKNOWN, UNKNOWN], false, Purse::without_hedges());
    trip.sent();
    trip.wait();
    trip.wait();
    assert_eq!(trip.next(), Step::Overdue(0));
    trip.sent();
    trip.course.event(0, Event::Accepted("late"));
    assert_eq!(trip.done(), Ending::Answered(0, "late"));
}

#[tokio::test]
async fn u6_the_only_upstream_is_asked_again_from_a_new_socket() {
    let mut trip = Trip::to(1);
    trip.sent();
    assert_eq!(trip.wait(), 150);
    assert_eq!(trip.sent(), (0, Proto::Udp, Reason::Hedge));
}

#[tokio::test]
async fn u2_an_error_of_the_network_leads_on_at_once() {
    let mut trip = Trip::to(2);
    trip.sent();
    trip.course.event(0, Event::Broken);
    assert_eq!(trip.sent(), (1, Proto::Udp, Reason::Failover));
    trip.course.event(1, Event::Broken);
    assert_eq!(trip.sent().0, 0, "one error may have been forged");
    trip.course.event(2, Event::Broken);
    assert_eq!(trip.sent().0, 1);
    trip.course.event(3, Event::Broken);
    assert_eq!(trip.at, Duration::ZERO);
    // Nobody was asked yet, and servers that are restarted are back soon.
    for (number, wait) in [(4, 300), (6, 1000)] {
        assert_eq!(trip.wait(), wait);
        assert_eq!(trip.sent(), (0, Proto::Udp, Reason::Failover));
        trip.course.event(number, Event::Broken);
        assert_eq!(trip.sent(), (1, Proto::Udp, Reason::Failover));
        trip.course.event(number + 1, Event::Broken);
    }
    assert_eq!(trip.done(), Ending::Unanswered);
    assert_eq!(trip.purse.tries.get(), 0);
}

#[tokio::test]
async fn the_only_upstream_may_be_restarted_unless_something_is_known() {
    let refused_twice = |mut trip: Trip| {
        for number in 0..2 {
            assert_eq!(trip.sent(), (0, Proto::Udp, trip.course.reason));
            trip.course.event(number, Event::Broken);
        }
        trip
    };
    let mut trip = refused_twice(Trip::to(1));
    assert_eq!(trip.wait(), 300);
    trip.sent();
    trip.course.event(2, Event::Accepted("back"));
    assert_eq!(trip.done(), Ending::Answered(2, "back"));

    let mut trip = Trip::to(1);
    trip.course.rules.rides_out = false;
    assert_eq!(refused_twice(trip).done(), Ending::Unanswered);
}

#[tokio::test]
async fn who_is_back_is_asked_over_tcp_again_for_a_client_that_came_so() {
    let mut trip = Trip::new(&[UNKNOWN], true, Purse::full());
    for (number, proto) in [Proto::Tcp, Proto::Udp, Proto::Udp].into_iter().enumerate() {
        assert_eq!(trip.sent().1, proto);
        trip.course.event(number, Event::Broken);
    }
    assert_eq!(trip.wait(), 300);
    assert_eq!(trip.sent().1, Proto::Tcp);
}

#[tokio::test]
async fn who_refused_is_asked_once_more_while_another_one_is_silent() {
    let mut trip = Trip::new(&[UNKNOWN, UNKNOWN], false, Purse::without_hedges());
    let mut asked = Vec::new();
    let ending = loop {
        match trip.next() {
            Step::Send(send) => {
                asked.push((send.leg, trip.at.as_millis()));
                if send.leg == 0 {
                    trip.course.event(send.number, Event::Broken);
                }
            }
            Step::Wait(until) => trip.at = until - trip.start,
            Step::Overdue(_) => {}
            Step::Done(ending) => break ending,
        }
    };
    assert_eq!(ending, Ending::Unanswered);
    let silent_since = asked.iter().rposition(|(leg, _)| *leg == 1).unwrap();
    assert_eq!(asked[silent_since + 1..].len(), 2, "{asked:?}");
}

#[tokio::test]
async fn u3_a_poor_answer_is_the_answer_only_if_nobody_has_a_better_one() {
    let mut trip = Trip::to(2);
    trip.sent();
    trip.course.event(0, Event::Poor(Worth::Failure, "SERVFAIL"));
    assert_eq!(trip.sent(), (1, Proto::Udp, Reason::Failover));
    trip.course.event(1, Event::Poor(Worth::Refusal, "REFUSED"));
    assert_eq!(trip.done(), Ending::Answered(0, "SERVFAIL"));

    let mut trip = Trip::to(2);
    trip.sent();
    trip.course.event(0, Event::Poor(Worth::Failure, "SERVFAIL"));
    trip.sent();
    trip.course.event(1, Event::Accepted("good"));
    assert_eq!(trip.done(), Ending::Answered(1, "good"));
}

#[tokio::test]
async fn u3_a_poor_answer_waits_for_who_is_only_slow_and_asks_it_once_more() {
    let slow = || {
        let mut trip = Trip::new(&[UNKNOWN, UNKNOWN], false, Purse::without_hedges());
        trip.sent();
        trip.course.event(0, Event::Poor(Worth::Refusal, "REFUSED"));
        trip.sent();
        assert_eq!((trip.wait(), trip.wait()), (150, 300));
        assert_eq!(trip.next(), Step::Overdue(1));
        assert_eq!(trip.sent(), (1, Proto::Udp, Reason::Retry));
        trip
    };
    let mut trip = slow();
    trip.course.event(1, Event::Accepted("good"));
    assert_eq!(trip.done(), Ending::Answered(1, "good"));

    let mut trip = slow();
    assert_eq!((trip.wait(), trip.wait()), (450, 600));
    assert_eq!(trip.next(), Step::Overdue(2));
    assert_eq!(trip.wait(), 2000);
    assert_eq!(trip.done(), Ending::Answered(0, "REFUSED"), "and no longer than that");
}

#[tokio::test]
async fn u3_the_best_of_poor_answers_is_given() {
    for (first, second, best) in [
        (Worth::Refusal, Worth::Failure, "second"),
        (Worth::Failure, Worth::Word, "second"),
        (Worth::Failure, Worth::Failure, "first"),
        (Worth::Word, Worth::Failure, "first"),
    ] {
        let mut trip = Trip::to(2);
        trip.sent();
        trip.course.event(0, Event::Poor(first, "first"));
        trip.sent();
        trip.course.event(1, Event::Poor(second, "second"));
        let Ending::Answered(_, answer) = trip.done() else { panic!("{first:?} {second:?}") };
        assert_eq!(answer, best);
    }
}

#[tokio::test]
async fn a_client_over_tcp_gets_what_only_udp_brings() {
    let mut trip = Trip::new(&[UNKNOWN], true, Purse::full());
    assert_eq!(trip.sent().1, Proto::Tcp);
    trip.course.event(0, Event::Broken);
    assert_eq!(trip.sent().1, Proto::Udp, "TCP is closed");

    let mut trip = Trip::new(&[UNKNOWN], true, Purse::without_hedges());
    assert_eq!(trip.sent().1, Proto::Tcp);
    assert_eq!((trip.wait(), trip.wait()), (150, 1000));
    assert_eq!(trip.next(), Step::Overdue(0));
    assert_eq!(trip.sent().1, Proto::Udp, "TCP is silent");
    trip.course.event(1, Event::Truncated);
    assert_eq!(trip.sent(), (0, Proto::Tcp, Reason::FollowUp));
}

#[tokio::test]
async fn a_follow_up_that_waits_for_packets_is_no_busy_loop() {
    let mut trip = Trip::to(2);
    trip.sent();
    assert_eq!(trip.wait(), 150);
    assert_eq!(trip.sent(), (1, Proto::Udp, Reason::Hedge));
    assert_eq!(trip.wait(), 300);
    trip.at = ms(299);
    // The second try may be hedged from 300 ms on; the follow-up waits beyond that.
    trip.purse.packets_at.borrow_mut().insert(0, trip.start + ms(370));
    trip.course.event(0, Event::Truncated);
    assert_eq!(trip.wait(), 300);
    assert_eq!(trip.wait(), 370);
}

#[tokio::test]
async fn u3_a_poor_answer_does_not_wait_for_an_upstream_that_is_down() {
    let down = Leg { standing: Standing::Down, ..UNKNOWN };
    let mut trip = Trip::new(&[UNKNOWN, down], false, Purse::full());
    trip.sent();
    trip.course.event(0, Event::Poor(Worth::Failure, "SERVFAIL"));
    assert_eq!(trip.done(), Ending::Answered(0, "SERVFAIL"));
}

#[tokio::test]
async fn u5_what_is_cut_is_fetched_over_tcp_and_without_that_from_another() {
    let mut trip = Trip::to(2);
    trip.sent();
    trip.course.event(0, Event::Truncated);
    assert_eq!(trip.sent(), (0, Proto::Tcp, Reason::FollowUp));
    trip.course.event(1, Event::Broken);
    assert_eq!(trip.sent(), (1, Proto::Udp, Reason::Failover));
    trip.course.event(2, Event::Truncated);
    assert_eq!(trip.sent(), (1, Proto::Tcp, Reason::FollowUp));
    trip.course.event(3, Event::Broken);
    assert_eq!(trip.done(), Ending::Unanswered, "nobody can give it whole");
}

#[tokio::test]
async fn a_guess_sends_all_that_follows_over_tcp_and_stops_nobody() {
    let mut trip = Trip::to(2);
    trip.sent();
    trip.course.event(0, Event::NearMiss);
    assert_eq!(trip.sent(), (0, Proto::Tcp, Reason::FollowUp));
    trip.course.event(1, Event::Broken);
    assert_eq!(trip.sent(), (1, Proto::Tcp, Reason::Failover));
    trip.course.event(2, Event::Broken);
    assert_eq!(trip.sent().1, Proto::Udp, "where TCP is closed");
}

#[tokio::test]
async fn a_guess_ends_at_who_is_silent_over_tcp() {
    let mut trip = Trip::new(&[UNKNOWN], false, Purse::without_hedges());
    trip.sent();
    trip.course.event(0, Event::NearMiss);
    assert_eq!(trip.sent(), (0, Proto::Tcp, Reason::FollowUp));
    assert_eq!((trip.wait(), trip.wait()), (150, 1000));
    assert_eq!(trip.next(), Step::Overdue(1));
    assert_eq!(trip.sent(), (0, Proto::Udp, Reason::Retry));
}

#[tokio::test]
async fn edns_that_is_refused_is_left_out_for_this_question() {
    let mut trip = Trip::to(1);
    trip.sent();
    trip.course.event(0, Event::EdnsRefused);
    let Step::Send(again) = trip.next() else { panic!("nothing is sent") };
    assert_eq!((again.leg, again.proto, again.has_edns), (0, Proto::Udp, false));
}

#[tokio::test]
async fn the_healthy_are_asked_twice_before_those_that_are_down() {
    let down = Leg { standing: Standing::Down, ..UNKNOWN };
    let mut trip = Trip::new(&[UNKNOWN, down], false, Purse::without_hedges());
    let mut asked = Vec::new();
    loop {
        match trip.next() {
            Step::Send(send) => asked.push((send.leg, send.proto)),
            Step::Wait(until) => trip.at = until - trip.start,
            Step::Overdue(_) => {}
            Step::Done(ending) => break assert_eq!(ending, Ending::Unanswered),
        }
    }
    let (udp, tcp) = (Proto::Udp, Proto::Tcp);
    let asked_first = [(0, udp), (0, udp), (1, udp), (0, tcp)];
    assert_eq!(asked[..4], asked_first, "over TCP after two times in vain");
}

#[tokio::test]
async fn a_try_is_left_for_an_upstream_over_udp_alone_when_the_network_was_cut() {
    let near = Leg { time_out: ms(200), hedge_after: ms(20), ..UNKNOWN };
    let mut trip = Trip::new(&[near], false, Purse::full());
    let mut over_udp = Vec::new();
    loop {
        match trip.next() {
            Step::Send(send) if send.proto == Proto::Udp => over_udp.push(trip.at),
            Step::Send(_) | Step::Overdue(_) => {}
            Step::Wait(until) => trip.at = until - trip.start,
            Step::Done(_) => break,
        }
    }
    assert_eq!(over_udp[..2], [ms(0), ms(20)], "{over_udp:?}");
    assert!(over_udp.len() == 3 && over_udp[2] >= ms(1000), "{over_udp:?}");
}

#[tokio::test]
async fn packets_that_are_spent_lead_elsewhere_then_hold_then_fail() {
    let mut trip = Trip::to(2);
    trip.purse.packets_at.borrow_mut().insert(0, trip.start + ms(40));
    assert_eq!(trip.sent(), (1, Proto::Udp, Reason::First));

    let mut trip = Trip::to(1);
    trip.purse.packets_at.borrow_mut().insert(0, trip.start + ms(40));
    assert_eq!(trip.wait(), 40);
    assert_eq!(trip.sent(), (0, Proto::Udp, Reason::First));

    let mut trip = Trip::to(1);
    trip.purse.packets_at.borrow_mut().insert(0, trip.start + HOLD_MAX + ms(1));
    assert_eq!(trip.done(), Ending::Paced);
}

#[tokio::test]
async fn a_spent_budget_asks_nobody() {
    let mut trip = Trip::to(2);
    trip.purse.tries.set(0);
    assert_eq!(trip.done(), Ending::Spent);
}

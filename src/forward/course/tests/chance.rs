//! The course against a network of chance, in virtual time.

use proptest::prelude::*;

use super::super::super::allowance::HEDGE_BURST;
use super::*;

/// What a scripted upstream does with one try.
#[derive(Clone, Copy, Debug)]
enum Act {
    Answer(u64),
    Poor(u64),
    Cut(u64),
    NearMiss(u64),
    RefuseEdns(u64),
    Break(u64),
    Lose,
}

fn act() -> impl Strategy<Value = Act> {
    let delay = prop_oneof![4 => 0..50u64, 2 => 50..400u64, 1 => 400..6000u64];
    (0..12u8, delay).prop_map(|(what, delay)| match what {
        0..=4 => Act::Answer(delay),
        5 => Act::Poor(delay),
        6 => Act::Cut(delay),
        7 => Act::NearMiss(delay),
        8 => Act::RefuseEdns(delay),
        9 => Act::Break(delay),
        _ => Act::Lose,
    })
}

fn leg() -> impl Strategy<Value = Leg> {
    let standing =
        prop_oneof![Just(Standing::Healthy), Just(Standing::Suspect), Just(Standing::Down)];
    (standing, 1..300u64, 1..1700u64).prop_map(|(standing, hedge, more)| Leg {
        standing,
        hedge_after: ms(hedge),
        time_out: ms(hedge + more),
    })
}

/// One question through a network of chance.
#[derive(Debug)]
struct Outcome {
    sends: Vec<(Send, Duration)>,
    ending: Ending<usize>,
    took: Duration,
    /// When the first acceptable answer arrived at somebody who still had its try open.
    acceptable_at: Option<Duration>,
}

fn travel(legs: &[Leg], over_tcp: bool, acts: &[Act], purse: &Purse) -> Outcome {
    let start = Instant::now();
    let (deadline, tries_max) = (start + TIME_MAX, TRIES_MAX as usize);
    let time_out_max = Duration::from_secs(2);
    let (is_tcp_only, rides_out) = (false, true);
    let rules = Rules { over_tcp, is_tcp_only, deadline, tries_max, time_out_max, rides_out };
    let mut course = Course::new(legs.iter().copied(), rules);
    purse.hedges.earn();
    // What arrives when: the order of equal times is that of the tries.
    let mut arrivals: BTreeMap<(Duration, usize), Event<usize>> = BTreeMap::new();
    let (mut at, mut sends, mut acceptable_at) = (Duration::ZERO, Vec::new(), None::<Duration>);
    for _ in 0..1000 {
        match course.next(start + at, purse) {
            Step::Send(send) => {
                let (delay, event) = match acts[send.number % acts.len()] {
                    Act::Answer(delay) => (delay, Event::Accepted(send.number)),
                    Act::Poor(delay) => (delay, Event::Poor(Worth::Failure, send.number)),
                    Act::Cut(delay) if send.proto == Proto::Udp => (delay, Event::Truncated),
                    Act::NearMiss(delay) if send.proto == Proto::Udp => (delay, Event::NearMiss),
                    Act::RefuseEdns(delay) if send.has_edns => (delay, Event::EdnsRefused),
                    Act::Break(delay) => (delay, Event::Broken),
                    _ => (u64::MAX >> 20, Event::Broken),
                };
                if matches!(event, Event::Accepted(_)) {
                    let arrives = at + ms(delay);
                    acceptable_at = Some(acceptable_at.map_or(arrives, |first| first.min(arrives)));
                }
                arrivals.insert((at + ms(delay), send.number), event);
                sends.push((send, at));
            }
            Step::Overdue(_) => {}
            Step::Wait(until) => {
                assert!(until > start + at, "it waits for what is over");
                let until = until - start;
                match arrivals.first_key_value() {
                    Some((&(arrives, _), _)) if arrives <= until => {
                        let ((arrives, number), event) = arrivals.pop_first().unwrap();
                        at = arrives;
                        course.event(number, event);
                    }
                    _ => at = until,
                }
            }
            Step::Done(ending) => return Outcome { sends, ending, took: at, acceptable_at },
        }
    }
    panic!("it never ends: {sends:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_question_ends_in_time_within_its_budget_and_answered_if_anybody_answers(
        legs in proptest::collection::vec(leg(), 1..6),
        over_tcp: bool,
        acts in proptest::collection::vec(act(), 1..9),
    ) {
        let purse = Purse::full();
        let outcome = travel(&legs, over_tcp, &acts, &purse);
        prop_assert!(outcome.took <= TIME_MAX);
        prop_assert!(outcome.sends.len() <= TRIES_MAX as usize);
        for leg in 0..legs.len() {
            for proto in [Proto::Udp, Proto::Tcp] {
                let is_it = |(send, _): &&(Send, Duration)| (send.leg, send.proto) == (leg, proto);
                let tries = outcome.sends.iter().filter(is_it).count();
                // Who refused to listen was not asked.
                let is_refused = |(send, _): &&(Send, Duration)| {
                    matches!(acts[send.number % acts.len()], Act::Break(_))
                };
                let refused = outcome.sends.iter().filter(is_it).filter(is_refused).count();
                let most = usize::from(TRIES_OF_ONE_MAX) + refused.min(PAUSES.len());
                prop_assert!(tries <= most, "{tries} over {proto:?}");
            }
        }
        let hedges = outcome.sends.iter().filter(|(send, _)| send.reason == Reason::Hedge).count();
        prop_assert!(hedges <= usize::from(HEDGES_MAX));
        match (outcome.acceptable_at.filter(|&at| at < TIME_MAX), &outcome.ending) {
            (Some(at), Ending::Answered(number, _)) => {
                let is_good = matches!(acts[number % acts.len()], Act::Answer(_));
                // A poor answer may come first when nobody else is waited for.
                prop_assert!(!is_good || outcome.took == at, "{outcome:?}");
            }
            (Some(_), _) => prop_assert!(false, "an answer was left lying: {outcome:?}"),
            (None, Ending::Answered(number, _)) => {
                prop_assert!(matches!(acts[number % acts.len()], Act::Poor(_)));
            }
            (None, _) => {}
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]

    #[test]
    fn hedges_stay_a_tenth_of_the_questions_whatever_the_network_does(
        acts in proptest::collection::vec(proptest::collection::vec(act(), 1..9), 300),
    ) {
        let purse = Purse::full();
        let mut hedges = 0;
        for acts in &acts {
            purse.tries.set(TRIES_MAX);
            let outcome = travel(&[UNKNOWN; 3], false, acts, &purse);
            let is_hedge = |(send, _): &&(Send, Duration)| send.reason == Reason::Hedge;
            hedges += outcome.sends.iter().filter(is_hedge).count();
        }
        prop_assert!(hedges <= acts.len() / 10 + HEDGE_BURST as usize, "{hedges} hedges");
    }
}

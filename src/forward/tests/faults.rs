//! What happens when upstreams fail, on a paused clock. Rows U of the list of faults.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::super::budget::TIME_MAX;
use super::super::config::Policy;
use super::super::directive::{ALL_DOWN_TIME_MAX, SECOND_OPINION_AFTER};
use super::super::health::Standing;
use super::super::request::Request;
use super::super::scripted::{Act, Asked, LoopbackUpstream, Over, bare, good, truncated};
use super::super::{Budget, Config, Error, Forward, Opinion, course, rtt};
use super::{config, question};
use crate::wire::{Answer, Query, Rcode, RecordType};

/// What the paused clock is off after real work in between.
const SLACK: Duration = Duration::from_millis(2);

async fn ask(forward: &Forward) -> Result<Answer, Error> {
    forward.ask(&question(), false).await
}

/// The response code of the answer.
async fn rcode(forward: &Forward) -> Rcode {
    ask(forward).await.unwrap().rcode
}

/// An upstream that says only this code.
async fn saying(rcode: u8) -> LoopbackUpstream {
    LoopbackUpstream::scripted(move |asked| vec![Act::Send(bare(&asked.packet, rcode, true))]).await
}

fn is_probe(asked: &Asked) -> bool {
    Query::parse(&asked.packet).ok().unwrap().rtype == RecordType::NS
}

#[tokio::test(start_paused = true)]
async fn u1_a_silent_upstream_leads_to_the_next_one_and_is_asked_last_from_then_on() {
    let (silent, honest) = (LoopbackUpstream::silent().await, LoopbackUpstream::honest().await);
    let forward = Forward::start(config(&[silent.address, honest.address])).unwrap();
    let asked = Instant::now();
    for _ in 0..2 {
        assert_eq!(rcode(&forward).await, Rcode::NOERROR);
    }
    assert!(asked.elapsed() <= rtt::HEDGE_UNKNOWN * 2 + SLACK * 2, "{:?}", asked.elapsed());
    let upstreams = forward.upstreams();
    assert_eq!(upstreams[0].health().standing(), Standing::Suspect, "outrun twice");
    let (before, asked) = (silent.asked().len(), Instant::now());
    for _ in 0..20 {
        assert_eq!(rcode(&forward).await, Rcode::NOERROR);
    }
    assert!(asked.elapsed() <= SLACK, "{:?}", asked.elapsed());
    assert!(silent.asked()[before..].iter().all(is_probe), "only probes go there");
    assert_eq!(upstreams[1].counters.hedges.value(), 2);
}

#[tokio::test(start_paused = true)]
async fn u1_an_upstream_that_is_back_is_asked_within_a_second() {
    let answers = Arc::new(AtomicBool::new(false));
    let is_back = answers.clone();
    let first = LoopbackUpstream::scripted(move |asked| match is_back.load(Ordering::Relaxed) {
        true => vec![Act::Send(good(&asked.packet))],
        false => Vec::new(),
    });
    let (first, second) = (first.await, LoopbackUpstream::honest().await);
    let forward = Forward::start(config(&[first.address, second.address])).unwrap();
    // Whatever the phase of its probes is.
    for offset_ms in [0, 130, 260, 390, 5020] {
        answers.store(false, Ordering::Relaxed);
        for _ in 0..5 {
            rcode(&forward).await;
        }
        sleep(Duration::from_millis(offset_ms)).await;
        let standing = || forward.upstreams()[0].health().standing();
        assert_ne!(standing(), Standing::Healthy);
        let before = first.asked().len();
        sleep(Duration::from_secs(1)).await;
        assert!(first.asked().len() <= before + 5, "at most five probes a second");
        answers.store(true, Ordering::Relaxed);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(standing(), Standing::Healthy, "{offset_ms} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn u2_a_closed_port_leads_on_at_once_and_changes_no_order() {
    let honest = LoopbackUpstream::honest().await;
    let closed = LoopbackUpstream::refused();
    let forward = Forward::start(config(&[closed.address, honest.address])).unwrap();
    assert_eq!(rcode(&forward).await, Rcode::NOERROR);
    let upstreams = forward.upstreams();
    assert_eq!(upstreams[0].health().standing(), Standing::Healthy);
    // Neither late nor overdue: the error itself led on.
    assert_eq!(
        (upstreams[1].counters.failovers.value(), upstreams[1].counters.hedges.value()),
        (1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn u3_another_upstream_is_asked_before_a_poor_answer_is_given() {
    for poor in [1, 2, 4, 5] {
        let (failing, honest) = (saying(poor).await, LoopbackUpstream::honest().await);
        let forward = Forward::start(config(&[failing.address, honest.address])).unwrap();
        for _ in 0..10 {
            assert_eq!(rcode(&forward).await, Rcode::NOERROR);
        }
        // Each question begins with it again: that it fails for one name says nothing of others.
        assert_eq!(failing.asked().len(), 10, "{poor}");
        let upstreams = forward.upstreams();
        assert_eq!(upstreams[0].health().standing(), Standing::Healthy);
        assert!(!upstreams[0].is_suspect());
        assert_eq!(upstreams[1].counters.failovers.value(), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn u3_the_first_poor_answer_is_given_when_nobody_has_a_better_one() {
    let (failing, refusing) = (saying(2).await, saying(5).await);
    let forward = Forward::start(config(&[failing.address, refusing.address])).unwrap();
    assert_eq!(rcode(&forward).await, Rcode::SERVFAIL);
    assert_eq!((failing.asked().len(), refusing.asked().len()), (1, 1));
    let mut durations = forward.upstreams()[0].counters.durations().collect::<Vec<_>>();
    durations.retain(|(_, durations)| durations.count > 0);
    assert_eq!((durations[0].0.as_str(), durations.len()), ("SERVFAIL", 1));
}

#[tokio::test(start_paused = true)]
async fn u3_failover_names_more_codes_to_ask_another_upstream_after() {
    let (denying, honest) = (saying(3).await, LoopbackUpstream::honest().await);
    let addresses = [denying.address, honest.address];
    let forward = Forward::start(config(&addresses)).unwrap();
    assert_eq!(rcode(&forward).await, Rcode::NXDOMAIN);
    let more = Config { failover: vec![Rcode::NXDOMAIN], ..config(&addresses) };
    assert_eq!(rcode(&Forward::start(more).unwrap()).await, Rcode::NOERROR);
}

#[tokio::test(start_paused = true)]
async fn u4_an_upstream_that_is_slow_for_once_is_waited_for() {
    let slow = LoopbackUpstream::scripted(|asked| {
        vec![Act::Pause(Duration::from_millis(900)), Act::Send(good(&asked.packet))]
    });
    let slow = slow.await;
    let forward = Forward::start(config(&[slow.address])).unwrap();
    let asked = Instant::now();
    assert_eq!(rcode(&forward).await, Rcode::NOERROR);
    assert!(asked.elapsed() <= Duration::from_millis(900) + SLACK, "the answer to the first try");
    let upstream = &forward.upstreams()[0];
    assert!(upstream.counters.late_answers.value() > 0);
    assert!(!upstream.is_suspect(), "slow is not failing");
    assert!(upstream.rtt().smoothed().unwrap() >= Duration::from_millis(900), "it is learnt");
}

#[tokio::test(start_paused = true)]
async fn u4_hedges_are_a_tenth_of_the_questions_at_most() {
    // Later than the hedge of an unknown upstream, and in time.
    let slow = || {
        LoopbackUpstream::scripted(|asked| {
            vec![Act::Pause(Duration::from_millis(170)), Act::Send(good(&asked.packet))]
        })
    };
    let (one, two) = (slow().await, slow().await);
    let forward = |hedge_percent| {
        Forward::start(Config { hedge_percent, ..config(&[one.address, two.address]) }).unwrap()
    };
    let without = forward(0);
    for _ in 0..3 {
        rcode(&without).await;
    }
    assert_eq!((one.asked().len(), two.asked().len()), (3, 0));
    assert_eq!(without.counters.hedges_forgone.value(), 1, "then its time is known");
    let with = forward(10);
    rcode(&with).await;
    assert_eq!((one.asked().len(), two.asked().len()), (4, 1));
}

/// How long each of `count` questions took, twenty at a time, in order.
async fn times(forward: &Forward, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    while times.len() < count {
        let timed = (0..20).map(|_| async {
            let asked = Instant::now();
            assert_eq!(rcode(forward).await, Rcode::NOERROR);
            asked.elapsed()
        });
        times.extend(join_all(timed).await);
    }
    times.sort();
    times
}

#[tokio::test(start_paused = true)]
async fn u4_with_one_of_two_slow_99_of_100_answers_take_half_a_second_at_most() {
    let slow = LoopbackUpstream::scripted(|asked| {
        vec![Act::Pause(Duration::from_secs(3)), Act::Send(good(&asked.packet))]
    });
    let (slow, honest) = (slow.await, LoopbackUpstream::honest().await);
    let random = Config { policy: Policy::Random, ..config(&[slow.address, honest.address]) };
    let forward = Forward::start(random).unwrap();
    let times = times(&forward, 1000).await;
    assert!(times[989] <= Duration::from_millis(500), "{:?}", times[989]);
    let hedges = forward.upstreams().iter().map(|it| it.counters.hedges.value()).sum::<u64>();
    assert!(hedges <= 1000 / 10 + 10, "{hedges} hedges");
}

#[tokio::test(start_paused = true)]
async fn u4_with_both_slow_every_other_time_nine_of_ten_answers_take_two_seconds_at_most() {
    let (one, two) = (every_other_slow(1).await, every_other_slow(2).await);
    let random = Config { policy: Policy::Random, ..config(&[one.0, two.0]) };
    let forward = Arc::new(Forward::start(random).unwrap());
    let mut asking = JoinSet::new();
    for _ in 0..1000 {
        let forward = Arc::clone(&forward);
        asking.spawn(async move {
            let asked_at = Instant::now();
            assert_eq!(rcode(&forward).await, Rcode::NOERROR);
            asked_at.elapsed()
        });
        sleep(Duration::from_millis(25)).await;
    }
    let mut times = asking.join_all().await;
    times.sort();
    assert!(times[899] <= Duration::from_secs(2), "{:?}", times[899]);
    let packets = one.1.load(Ordering::Relaxed) + two.1.load(Ordering::Relaxed);
    assert!(packets <= 2500, "{packets} packets for 1000 questions");
}

/// An upstream half of whose answers come after 3 s: its address, and the packets that came.
async fn every_other_slow(seed: u64) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let (address, packets) = (socket.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let (counted, mut chance) = (Arc::clone(&packets), StdRng::seed_from_u64(seed));
    tokio::spawn(async move {
        let mut room = [0; 1500];
        loop {
            let (len, from) = socket.recv_from(&mut room).await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            let (packet, socket) = (room[..len].to_vec(), Arc::clone(&socket));
            let late = Duration::from_secs(if chance.random() { 3 } else { 0 });
            tokio::spawn(async move {
                sleep(late).await;
                // Who has its answer listens no longer.
                let _ = socket.send_to(&good(&packet), from).await;
            });
        }
    });
    (address, packets)
}

#[tokio::test(start_paused = true)]
async fn u6_with_30_of_100_packets_lost_99_of_100_answers_take_800_ms_at_most() {
    let lossy = |seed| {
        let chance = Mutex::new(StdRng::seed_from_u64(seed));
        LoopbackUpstream::scripted(move |asked| match chance.lock().random_bool(0.3) {
            true => Vec::new(),
            false => vec![Act::Send(good(&asked.packet))],
        })
    };
    let (one, two) = (lossy(1).await, lossy(2).await);
    let in_turn = Config { policy: Policy::RoundRobin, ..config(&[one.address, two.address]) };
    let times = times(&Forward::start(in_turn).unwrap(), 1000).await;
    assert!(times[989] <= Duration::from_millis(800), "{:?}", times[989]);
}

#[tokio::test(start_paused = true)]
async fn u6_what_was_lost_on_the_way_to_the_only_upstream_is_sent_again_from_another_port() {
    let lossy = LoopbackUpstream::scripted({
        let turn = AtomicBool::new(false);
        move |asked| match turn.fetch_xor(true, Ordering::Relaxed) {
            true => vec![Act::Send(good(&asked.packet))],
            false => Vec::new(),
        }
    });
    let lossy = lossy.await;
    let forward = Forward::start(config(&[lossy.address])).unwrap();
    let asked = Instant::now();
    assert_eq!(rcode(&forward).await, Rcode::NOERROR);
    assert!(asked.elapsed() <= rtt::HEDGE_UNKNOWN + SLACK);
    let asked = lossy.asked();
    assert_eq!(asked.len(), 2);
    assert_ne!(asked[0].from, asked[1].from);
    assert_ne!(asked[0].packet[..2], asked[1].packet[..2]);
}

#[tokio::test(start_paused = true)]
async fn u7_a_second_opinion_is_that_of_another_upstream() {
    let (denying, honest) = (saying(3).await, LoopbackUpstream::honest().await);
    let budget = Budget::new(Instant::now());
    let forward = Forward::start(config(&[denying.address, honest.address])).unwrap();
    let denied = forward.ask_within(&question(), false, &budget).await.unwrap();
    let opinion = forward.second_opinion(&question(), &denied, &budget).await;
    let Opinion::Differs(other) = opinion else { panic!("{opinion:?}") };
    assert_eq!(other.upstream.address(), honest.address);

    let denying_too = saying(3).await;
    let forward = Forward::start(config(&[denying.address, denying_too.address])).unwrap();
    let opinion = forward.second_opinion(&question(), &denied, &budget).await;
    assert!(matches!(opinion, Opinion::Agrees));
    assert_eq!(denying_too.asked().len(), 1);

    let silent = LoopbackUpstream::silent().await;
    let forward = Forward::start(config(&[denying.address, silent.address])).unwrap();
    let opinion = forward.second_opinion(&question(), &denied, &budget).await;
    assert!(matches!(opinion, Opinion::Unknown));
}

#[tokio::test(start_paused = true)]
async fn u7_the_only_upstream_is_asked_again_over_tcp_a_second_later() {
    let wavering = LoopbackUpstream::scripted(|asked| match asked.over {
        Over::Udp => vec![Act::Send(bare(&asked.packet, 3, true))],
        Over::Tcp => vec![Act::Send(good(&asked.packet))],
    });
    let wavering = wavering.await;
    let forward = Forward::start(config(&[wavering.address])).unwrap();
    let budget = Budget::new(Instant::now());
    let denied = forward.ask_within(&question(), false, &budget).await.unwrap();
    let asked = Instant::now();
    let opinion = forward.second_opinion(&question(), &denied, &budget).await;
    assert!(matches!(opinion, Opinion::Differs(_)));
    assert!(asked.elapsed() >= SECOND_OPINION_AFTER);
}

#[tokio::test(start_paused = true)]
async fn u7_who_is_down_or_refuses_has_no_opinion_and_the_same_is_asked_again() {
    let (denying, refusing) = (saying(3).await, saying(5).await);
    let silent = LoopbackUpstream::silent().await;
    let down = Forward::start(config(&[denying.address, silent.address])).unwrap();
    let upstreams = down.upstreams();
    assert!(down.has_another(&upstreams[0]));
    (0..9).for_each(|_| upstreams[1].health().probe_failed());
    assert!(!down.has_another(&upstreams[0]));
    let refused = Forward::start(config(&[denying.address, refusing.address])).unwrap();
    for forward in [down, refused] {
        let (budget, before) = (Budget::new(Instant::now()), denying.count(Over::Tcp));
        let denied = forward.ask_within(&question(), false, &budget).await.unwrap();
        let opinion = forward.second_opinion(&question(), &denied, &budget).await;
        assert!(matches!(opinion, Opinion::Agrees), "{opinion:?}");
        assert_eq!(denying.count(Over::Tcp), before + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn u7_a_second_opinion_takes_a_place_and_no_turn() {
    let (denying, too) = (saying(3).await, saying(3).await);
    let (policy, max_concurrent) = (Policy::RoundRobin, Some(1));
    let config = Config { policy, max_concurrent, ..config(&[denying.address, too.address]) };
    let forward = Forward::start(config).unwrap();
    let (question, budget) = (question(), Budget::new(Instant::now()));
    let denied = forward.ask_within(&question, false, &budget).await.unwrap();
    let opinion = || forward.second_opinion(&question, &denied, &budget);
    let (first, second) = tokio::join!(opinion(), opinion());
    assert!(matches!((first, second), (Opinion::Agrees, Opinion::Unknown)));
    let next = forward.ask_within(&question, false, &budget).await.unwrap();
    assert_ne!(next.upstream.address(), denied.upstream.address(), "it is the other one's turn");
}

#[tokio::test(start_paused = true)]
async fn u7_of_two_denials_the_lesser_is_kept() {
    let (denying, empty) = (saying(3).await, saying(0).await);
    let budget = Budget::new(Instant::now());
    for (first, second, differs) in [(&denying, &empty, true), (&empty, &denying, false)] {
        let forward = Forward::start(config(&[first.address, second.address])).unwrap();
        let denied = forward.ask_within(&question(), false, &budget).await.unwrap();
        let opinion = forward.second_opinion(&question(), &denied, &budget).await;
        assert_eq!(matches!(opinion, Opinion::Differs(_)), differs, "{opinion:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn u7_one_error_of_the_network_makes_nobody_suspect() {
    let honest = LoopbackUpstream::honest().await;
    let closed = LoopbackUpstream::refused();
    let unprobed = Config { max_fails: 0, ..config(&[closed.address, honest.address]) };
    let forward = Forward::start(unprobed).unwrap();
    rcode(&forward).await;
    assert!(!forward.upstreams()[0].is_suspect(), "it may have been forged");
    rcode(&forward).await;
    assert!(forward.upstreams()[0].is_suspect());
}

#[tokio::test(start_paused = true)]
async fn u8_when_all_are_down_a_question_fails_within_two_seconds() {
    let (one, two) = (LoopbackUpstream::silent().await, LoopbackUpstream::silent().await);
    let forward = Forward::start(config(&[one.address, two.address])).unwrap();
    ask(&forward).await.unwrap_err();
    sleep(Duration::from_secs(10)).await;
    let asked = Instant::now();
    ask(&forward).await.unwrap_err();
    assert!(asked.elapsed() <= ALL_DOWN_TIME_MAX + SLACK);
    let fast = Forward::start(Config { fails_fast: true, ..config(&[one.address]) }).unwrap();
    ask(&fast).await.unwrap_err();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(ask(&fast).await, Err(Error::AllDown));
}

#[tokio::test(start_paused = true)]
async fn a_cut_answer_is_fetched_over_tcp_even_where_there_is_one_attempt() {
    let large = LoopbackUpstream::scripted(|asked| match asked.over {
        Over::Udp => vec![Act::Send(truncated(&asked.packet))],
        Over::Tcp => vec![Act::Send(good(&asked.packet))],
    });
    let large = large.await;
    let once = Config { max_connect_attempts: 1, ..config(&[large.address]) };
    assert_eq!(rcode(&Forward::start(once).unwrap()).await, Rcode::NOERROR);
    let silent = LoopbackUpstream::silent().await;
    let once = Config { max_connect_attempts: 1, ..config(&[silent.address]) };
    ask(&Forward::start(once).unwrap()).await.unwrap_err();
    assert_eq!(silent.asked().iter().filter(|asked| !is_probe(asked)).count(), 1);
}

/// A waiting question is to cost little: thousands wait when an upstream is dead.
#[tokio::test]
async fn a_waiting_question_is_small() {
    let silent = LoopbackUpstream::silent().await;
    let forward = Forward::start(config(&[silent.address])).unwrap();
    let (question, budget) = (question(), Budget::new(Instant::now()));
    let size = size_of_val(&forward.ask_within(&question, false, &budget));
    let request = Request::of(&question);
    let upstream = &forward.upstreams()[0];
    let over_udp = size_of_val(&upstream.ask_over_udp(&request, upstream.open().unwrap()));
    let over_tcp = size_of_val(&upstream.ask_over_tcp(&request, Instant::now(), false));
    assert!(size <= 1280, "{size} octets");
    assert!(over_udp <= 1024 && over_tcp <= 1280, "{over_udp} and {over_tcp} octets for each try");
}

#[tokio::test(start_paused = true)]
async fn packets_per_second_hold_a_question_and_then_fail_it() {
    let honest = LoopbackUpstream::honest().await;
    let paced = Config { packets_per_second: Some(20), ..config(&[honest.address]) };
    let forward = Forward::start(paced).unwrap();
    let all = join_all((0..40).map(|_| ask(&forward))).await;
    let answered = all.iter().filter(|answer| answer.is_ok()).count();
    let refused = all.iter().filter(|answer| **answer == Err(Error::Paced)).count();
    assert_eq!(answered + refused, 40);
    assert!((2..=5).contains(&answered), "{answered}: the burst, and what comes in 100 ms");
    assert_eq!(forward.counters.paced.value(), refused as u64);
    assert!(forward.upstreams()[0].counters.packet_waits.value() >= 35);
}

#[test]
fn u12_each_timer_ends_before_that_of_whoever_waits_for_it() {
    // A stub resolver asks again after 5 s (glibc), and a client of a stale answer waits 1.8 s.
    let (glibc, stale_client) = (Duration::from_secs(5), Duration::from_millis(1800));
    let longest = super::super::config::READ_TIMEOUT;
    assert!(rtt::HEDGE_MIN < rtt::TIME_OUT_MIN && rtt::HEDGE_UNKNOWN < rtt::TIME_OUT_UNKNOWN);
    assert!(rtt::HEDGE_MAX < longest && rtt::TIME_OUT_UNKNOWN < longest);
    assert!(longest < TIME_MAX && TIME_MAX < glibc);
    assert!(stale_client < ALL_DOWN_TIME_MAX && ALL_DOWN_TIME_MAX < Duration::from_secs(2));
    assert!(course::HOLD_MAX < rtt::TIME_OUT_MIN && SECOND_OPINION_AFTER < TIME_MAX);
}

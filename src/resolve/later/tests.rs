//! How long an errand waits, for whom, and what it counts.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;
use crate::forward::scripted::good;
use crate::forward::{Config, Forward};
use crate::resolve::config::CacheConfig;
use crate::resolve::flight::Flights;
use crate::resolve::tally;
use crate::wire::RecordType;
use crate::wire::message::tests::response;

/// A directive whose only upstream is never asked.
fn forwarding() -> Forwarding {
    forwarding_to("192.0.2.53:53".parse().unwrap())
}

fn forwarding_to(address: SocketAddr) -> Forwarding {
    forwarding_of(config_of(address))
}

fn config_of(address: SocketAddr) -> Config {
    Config::new(Name::root(), vec![crate::forward::config::Target::Address(address)])
}

fn forwarding_of(config: Config) -> Forwarding {
    let forward = Forward::start(config).unwrap();
    Forwarding { forward, flights: Arc::new(Flights::default()) }
}

/// An upstream that answers probes at once, and each other question after so long.
async fn upstream_after(delay: Duration) -> (SocketAddr, JoinSet<()>) {
    let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
    let (address, mut serving) = (socket.local_addr().unwrap(), JoinSet::new());
    serving.spawn(async move {
        let (mut answers, mut packet) = (JoinSet::new(), [0; 512]);
        while let Ok((octets, from)) = socket.recv_from(&mut packet).await {
            let (socket, asked) = (socket.clone(), packet[..octets].to_vec());
            let is_probe = Query::parse(&asked).ok().unwrap().rtype == RecordType::NS;
            answers.spawn(async move {
                sleep(if is_probe { Duration::ZERO } else { delay }).await;
                socket.send_to(&good(&asked), from).await.unwrap();
            });
        }
    });
    (address, serving)
}

fn block(steps: Vec<Step>) -> Block {
    let (transfers, errors) = (Vec::new(), None);
    Block { steps, transfers, turns_addresses: false, errors, is_published: false }
}

/// A query for `w.example` that came so long ago.
fn errand(age: Duration) -> Errand {
    let packet = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01w\x07example\0\0\x01\0\x01";
    let address = Ipv4Addr::LOCALHOST.into();
    let client = Client { proto: tally::Proto::Udp, address };
    let (plan, arrived) = (Arc::new(Plan { ports: Vec::new() }), Instant::now() - age);
    Errand::new(plan, 53, packet.to_vec(), client, arrived, Purpose::Reply)
}

/// What comes of the errand in this Block.
async fn rcode(errand: Errand, block: &Block) -> Rcode {
    errand.answer(block, &Query::parse(&errand.packet).ok().unwrap()).await.rcode
}

#[tokio::test(start_paused = true)]
async fn what_the_last_server_had_under_way_waits_for_one_exchange() {
    for age_ms in [2200, 4400] {
        let (address, _serving) = upstream_after(EXCHANGE_MIN * 9 / 10).await;
        // Without probes nobody knows that it lives.
        let forwarding = forwarding_of(Config { max_fails: 0, ..config_of(address) });
        let block = block(vec![Step::Forward(forwarding)]);
        let answered = rcode(errand(Duration::from_millis(age_ms)), &block).await;
        assert_eq!(answered, Rcode::NOERROR, "{age_ms} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn u8_a_question_that_is_late_is_told_as_a_time_out() {
    let told = late(&forwarding()).to_string();
    assert_eq!(told, "read udp 192.0.2.53:53: i/o timeout");
}

#[tokio::test(start_paused = true)]
async fn u8_a_question_ends_within_two_seconds_while_nobody_answers_anybody() {
    let (forwarding, arrived) = (forwarding(), Instant::now());
    let until = arrived + Duration::from_millis(4500);
    let wait = || in_time(std::future::pending(), arrived + OUTAGE_PATIENCE, until, &forwarding);
    forwarding.forward.upstreams()[0].health().probe_failed();
    assert!(wait().await.is_none());
    assert_eq!(arrived.elapsed(), OUTAGE_PATIENCE);
    forwarding.flights.outage.answered(now());
    assert!(wait().await.is_none());
    assert_eq!(arrived.elapsed(), until - arrived, "others are answered");
}

#[tokio::test(start_paused = true)]
async fn a_slow_name_is_waited_for_while_its_upstream_answers_probes() {
    let (address, _serving) = upstream_after(Duration::from_millis(2200)).await;
    let block = block(vec![Step::Forward(forwarding_to(address))]);
    assert_eq!(rcode(errand(Duration::ZERO), &block).await, Rcode::NOERROR);
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_is_counted_as_a_hit_and_not_as_a_miss_too() {
    let (address, _serving) = upstream_after(Duration::from_secs(60)).await;
    let question = Question::of(&Query::parse(&errand(Duration::ZERO).packet).ok().unwrap());
    let (section, found) = response("w.example. A NOERROR\nw.example. 10 A 192.0.2.1");
    let found = Answer::from_response(&found, &section).unwrap();
    for (is_known, rcode_then, counted) in
        [(false, Rcode::SERVFAIL, ([0, 0], 1)), (true, Rcode::NOERROR, ([1, 0], 0))]
    {
        let cache = Arc::new(Cache::new(CacheConfig::default(), vec![Name::root()]));
        if is_known {
            cache.store(&question, &found, now());
            sleep(Duration::from_secs(20)).await;
        }
        let steps = vec![Step::Cache(cache.clone()), Step::Forward(forwarding_to(address))];
        assert_eq!(rcode(errand(Duration::ZERO), &block(steps)).await, rcode_then);
        let misses = cache.counters.misses.load(Ordering::Relaxed);
        assert_eq!((cache.counters.hits(), misses), counted, "{rcode_then:?}");
    }
}

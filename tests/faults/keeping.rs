//! U7 to U9, U11, U13: what is kept of upstreams, and for how long.
//!
//! Upstreams do as the test says at the moment; TTLs are a second, so that little is waited for.
//! Times (how long a client waits, how fast refreshes come back) are in scenarios and unit tests on
//! a paused clock: `what_has_expired_is_served_when_upstreams_are_away`, `outage`.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::asker::{Steady, ask, eventually, until};
use crate::server::{Ports, Server};
use crate::upstream::{Act, Asked, LoopbackUpstream, good};

const NAME: &str = "www.example.org.";
const QUESTION: &str = "www.example.org. A";
const FIRST: &str = "NOERROR 192.0.2.1";
const SECOND: &str = "NOERROR 192.0.2.2";
/// Replies after which a promise is believed.
const ENOUGH: f64 = 200.0;
/// Rounds at most of what a busy machine can spoil.
const ROUNDS: usize = 5;
/// What takes less has made nobody ask an upstream again (`HEDGE_MIN`).
const ASKED_AGAIN: Duration = Duration::from_millis(20);

/// What an upstream does; [`Mood::Answers`] with this last octet and this TTL.
#[derive(Clone, Copy)]
enum Mood {
    Silent,
    Fails,
    Denies { ttl_s: u32 },
    Answers { octet: u8, ttl_s: u32 },
}

/// An upstream whose mood can be changed.
struct Moody {
    upstream: LoopbackUpstream,
    mood: Arc<std::sync::Mutex<Mood>>,
    /// Times that it was asked for [`NAME`].
    asked: Arc<AtomicU32>,
}

impl Moody {
    async fn start(mood: Mood) -> Self {
        let (mood, asked) = (Arc::new(std::sync::Mutex::new(mood)), Arc::default());
        let (shared, count): (_, Arc<AtomicU32>) = (mood.clone(), Arc::clone(&asked));
        let upstream = LoopbackUpstream::scripted(move |request| {
            let mood = *shared.lock().unwrap();
            act(mood, request, &count)
        });
        Self { upstream: upstream.await, mood, asked }
    }

    fn now(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

fn act(mood: Mood, request: &Asked, asked: &AtomicU32) -> Vec<Act> {
    let mut message = Message::from_vec(&good(&request.packet)).unwrap();
    let is_probe = message.queries[0].query_type() != RecordType::A;
    if message.queries[0].name() == &Name::from_ascii(NAME).unwrap() {
        asked.fetch_add(1, Ordering::Relaxed);
    }
    message.answers.clear();
    let owner = message.queries[0].name().clone();
    match mood {
        Mood::Silent => return Vec::new(),
        Mood::Fails => message.metadata.response_code = ResponseCode::ServFail,
        _ if is_probe => {}
        Mood::Denies { ttl_s } => {
            message.metadata.response_code = ResponseCode::NXDomain;
            let zone = Name::from_ascii("example.org.").unwrap();
            let soa = SOA::new(zone.clone(), zone.clone(), 1, 2, 3, 4, ttl_s);
            message.authorities.push(Record::from_rdata(zone, ttl_s, RData::SOA(soa)));
        }
        Mood::Answers { octet, ttl_s } => {
            let address = RData::A(A(Ipv4Addr::new(192, 0, 2, octet)));
            message.answers.push(Record::from_rdata(owner, ttl_s, address));
        }
    }
    vec![Act::Send(message.to_vec().unwrap())]
}

/// A server in front of these upstreams, which keeps even what has a TTL of one second.
fn server(name: &str, upstreams: &[&Moody]) -> Server {
    let ports = Ports::free();
    let to: Vec<_> = upstreams.iter().map(|it| it.upstream.address.to_string()).collect();
    let corefile = format!(
        ".:{} {{\n prometheus 127.0.0.1:{}\n cache {{\n success 9984 3600 0\n denial 9984 60 0\n \
         }}\n forward . {} {{\n policy sequential\n }}\n}}\n",
        ports.dns,
        ports.metrics,
        to.join(" ")
    );
    Server::start(name, ports, &corefile)
}

/// Waits until a counter has grown by this much.
fn grown(server: &Server, metric: &str, labels: &[&str], by: f64) {
    let count = || server.metrics().sum(metric, labels).unwrap_or_default();
    let before = count();
    eventually(|| {
        let more = count() - before;
        if more >= by { Ok(()) } else { Err(format!("{metric}: {more} of {by} more")) }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u7_a_denial_of_what_is_known_is_not_believed_alone() {
    let liar = Moody::start(Mood::Answers { octet: 1, ttl_s: 1 }).await;
    let other = Moody::start(Mood::Answers { octet: 1, ttl_s: 1 }).await;
    let server = server("u7", &[&liar, &other]);
    until(server.ports.dns, QUESTION, FIRST);
    liar.now(Mood::Denies { ttl_s: 60 });
    let asking = Steady::start(server.ports.dns, QUESTION, FIRST);
    grown(&server, "mainstay_cache_denials_doubted_total", &[], 1.0);
    grown(&server, "coredns_cache_hits_total", &[], ENOUGH);
    asking.all_right();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u7_a_denial_that_the_other_upstream_repeats_is_believed() {
    let one = Moody::start(Mood::Answers { octet: 1, ttl_s: 1 }).await;
    let other = Moody::start(Mood::Answers { octet: 1, ttl_s: 1 }).await;
    let server = server("u7-agreed", &[&one, &other]);
    until(server.ports.dns, QUESTION, FIRST);
    one.now(Mood::Denies { ttl_s: 60 });
    other.now(Mood::Denies { ttl_s: 60 });
    until(server.ports.dns, QUESTION, "NXDOMAIN");
    let agreed = ["outcome=\"agreed\""];
    let doubted = server.metrics().value("mainstay_cache_denials_doubted_total", &agreed);
    assert!(doubted >= 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u8_what_is_known_is_served_on_when_all_upstreams_are_dead() {
    let upstream = Moody::start(Mood::Answers { octet: 1, ttl_s: 1 }).await;
    let server = server("u8", &[&upstream]);
    until(server.ports.dns, QUESTION, FIRST);
    upstream.now(Mood::Silent);
    let asking = Steady::start(server.ports.dns, QUESTION, FIRST);
    grown(&server, "coredns_cache_served_stale_total", &[], ENOUGH);
    asking.all_right();
    assert_eq!(ask(server.ports.dns, "new.example.org. A"), "SERVFAIL");
    let before = upstream.asked();
    (0..200).for_each(|_| assert_eq!(ask(server.ports.dns, QUESTION), FIRST));
    assert!(upstream.asked() - before < 100, "most are served without a question upstream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u9_answers_are_fresh_when_an_upstream_is_back() {
    let upstream = Moody::start(Mood::Answers { octet: 1, ttl_s: 1 }).await;
    let server = server("u9", &[&upstream]);
    until(server.ports.dns, QUESTION, FIRST);
    upstream.now(Mood::Silent);
    grown_stale(&server);
    assert_eq!(ask(server.ports.dns, "new.example.org. A"), "SERVFAIL");
    upstream.now(Mood::Answers { octet: 2, ttl_s: 60 });
    until(server.ports.dns, QUESTION, SECOND);
    until(server.ports.dns, "new.example.org. A", SECOND);
}

/// Asks until what has expired is served.
fn grown_stale(server: &Server) {
    eventually(|| {
        assert_eq!(ask(server.ports.dns, QUESTION), FIRST);
        let stale = server.metrics().sum("coredns_cache_served_stale_total", &[]);
        if stale.unwrap_or_default() > 0.0 { Ok(()) } else { Err("still fresh".to_owned()) }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u11_the_tier_above_is_down_and_no_denial_outlives_its_time() {
    let above = Moody::start(Mood::Answers { octet: 1, ttl_s: 1 }).await;
    let server = server("u11", &[&above]);
    until(server.ports.dns, QUESTION, FIRST);
    above.now(Mood::Denies { ttl_s: 1 });
    assert_eq!(ask(server.ports.dns, "web.other.example.org. A"), "NXDOMAIN");
    above.now(Mood::Fails);
    until(server.ports.dns, "web.other.example.org. A", "SERVFAIL");
    let asking = Steady::start(server.ports.dns, QUESTION, FIRST);
    grown(&server, "coredns_cache_served_stale_total", &[], ENOUGH);
    asking.all_right();
}

/// Asks twice, which the upstream must be asked `expected` times for. An upstream that is late is
/// asked again, so a round in which a busy machine made it late is made again.
async fn asked_twice_of(ttl_s: u32, expected: u32) -> (Moody, Server) {
    for _ in 0..ROUNDS {
        let upstream = Moody::start(Mood::Answers { octet: 1, ttl_s }).await;
        let server = server("u13", &[&upstream]);
        until(server.ports.dns, "up.example.org. A", FIRST);
        let begun = Instant::now();
        (0..2).for_each(|_| assert_eq!(ask(server.ports.dns, QUESTION), FIRST));
        let (asked, took) = (upstream.asked(), begun.elapsed());
        if asked == expected {
            return (upstream, server);
        }
        assert!(took >= ASKED_AGAIN, "asked {asked} times, not {expected}, for TTL {ttl_s}");
    }
    panic!("the upstream was late in each of {ROUNDS} rounds, TTL {ttl_s}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u13_ttl_0_is_used_once_and_a_ttl_with_the_high_bit_is_large() {
    for (ttl_s, asked_twice) in [(0, 2), (1 << 31, 1), (u32::MAX, 1)] {
        let (upstream, server) = asked_twice_of(ttl_s, asked_twice).await;
        upstream.now(Mood::Fails);
        let expected = if ttl_s == 0 { "SERVFAIL" } else { FIRST };
        assert_eq!(ask(server.ports.dns, QUESTION), expected, "TTL {ttl_s}");
    }
}

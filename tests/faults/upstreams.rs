//! U1 to U6, U10, U12: upstreams that are silent, slow, wrong or unwilling.
//!
//! What is asserted are outcomes and counts; when what happens is shown on a paused clock beside
//! the code (`src/forward/tests/faults.rs`, `src/forward/course/tests.rs`).

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use mainstay::forward::rtt::HEDGE_MIN;
use tempfile::NamedTempFile;

use crate::asker::{ask, eventually, until};
use crate::server::{Ports, Server};
use crate::upstream::{ADDRESS, Act, Asked, LoopbackUpstream, Over, bare, good, truncated};

/// Threads that ask at the same time.
const ASKERS: usize = 10;
/// Rounds at most of what a busy machine can spoil.
const ROUNDS: usize = 5;

/// The real program, forwarding to `targets` without a cache, so that each question is asked.
struct Live {
    server: Server,
}

impl Live {
    fn start(name: &str, targets: &str, options: &str) -> Self {
        let ports = Ports::free();
        Self::start_at(name, ports, targets, options)
    }

    fn start_at(name: &str, ports: Ports, targets: &str, options: &str) -> Self {
        let (dns, metrics) = (ports.dns, ports.metrics);
        let corefile = format!(
            ".:{dns} {{\n errors\n loop\n prometheus 127.0.0.1:{metrics}\n \
             forward . {targets} {{\n policy sequential\n {options}\n }}\n}}\n"
        );
        let server = Server::start(name, ports, &corefile);
        // Until it listens, nobody answers; what nobody answers upstream is answered by then.
        eventually(|| match ask(dns, "up.example. A") {
            lost if lost == "lost" => Err(lost),
            _ => Ok(()),
        });
        Self { server }
    }

    /// Asks for `count` names of their own, several at a time; each answer and how often it came.
    fn ask_many(&self, prefix: &str, count: usize) -> HashMap<String, usize> {
        self.ask_and_time(prefix, count).0
    }

    /// The same, and how long the slowest one took.
    fn ask_and_time(&self, prefix: &str, count: usize) -> (HashMap<String, usize>, Duration) {
        let port = self.server.ports.dns;
        let ask_some = |asker: usize| {
            (asker..count)
                .step_by(ASKERS)
                .map(move |n| timed(|| ask(port, &format!("{prefix}{n}.example. A"))))
        };
        thread::scope(|scope| {
            let askers: Vec<_> = (0..ASKERS)
                .map(|asker| scope.spawn(move || ask_some(asker).collect::<Vec<_>>()))
                .collect();
            let (mut answers, mut slowest) = (HashMap::new(), Duration::ZERO);
            for (answer, took) in askers.into_iter().flat_map(|asker| asker.join().unwrap()) {
                *answers.entry(answer).or_default() += 1;
                slowest = slowest.max(took);
            }
            (answers, slowest)
        })
    }

    /// A metric of one upstream.
    fn metric(&self, name: &str, to: SocketAddr) -> f64 {
        self.server.metrics().value(name, &[&format!("to=\"{to}\"")])
    }
}

/// Does something; its result, and how much later than wanted a thread beside it woke up at worst.
fn beside_a_witness<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    const EACH: Duration = Duration::from_millis(1);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let witness = scope.spawn(|| {
            let mut late = Duration::ZERO;
            while !is_over.load(Ordering::Relaxed) {
                late = late.max(timed(|| thread::sleep(EACH)).1.saturating_sub(EACH));
            }
            late
        });
        let done = act();
        is_over.store(true, Ordering::Relaxed);
        (done, witness.join().unwrap())
    })
}

fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    (act(), begun.elapsed())
}

/// Whether a round, of which this is number `round`, went as it should. One that did not is no
/// proof where something was so late that another upstream was asked meanwhile: a busy machine
/// makes an upstream silent for a moment. It is made again, and not for ever.
fn is_proven(is_right: bool, late: Duration, round: usize, what: &str) -> bool {
    let is_excused = late >= HEDGE_MIN && round < ROUNDS;
    assert!(is_right || is_excused, "{what}; round {round}, {late:?} late");
    is_right
}

/// What all of `count` questions are answered with when all is well.
fn all_right(count: usize) -> HashMap<String, usize> {
    HashMap::from([(right(), count)])
}

fn right() -> String {
    format!("NOERROR {ADDRESS}")
}

/// An upstream that answers rightly while the flag is set, and nothing else.
async fn switched(answers: &Arc<AtomicBool>) -> LoopbackUpstream {
    let answers = answers.clone();
    LoopbackUpstream::scripted(move |asked| match answers.load(Ordering::Relaxed) {
        true => vec![Act::Send(good(&asked.packet))],
        false => Vec::new(),
    })
    .await
}

/// The first label of what was asked for.
fn label(asked: &Asked) -> String {
    let message = Message::from_vec(&asked.packet).unwrap();
    message.queries[0].name().to_ascii().split('.').next().unwrap().to_owned()
}

/// How often an upstream was asked for names that begin so; probes do not.
fn questions(upstream: &LoopbackUpstream, prefix: &str) -> usize {
    upstream.asked().iter().filter(|asked| label(asked).starts_with(prefix)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn u1_nobody_notices_that_one_of_two_upstreams_is_dead() {
    let answers = Arc::new(AtomicBool::new(true));
    let (first, second) = (switched(&answers).await, LoopbackUpstream::honest().await);
    let live = Live::start("u1", &format!("{} {}", first.address, second.address), "");
    assert_eq!(live.ask_many("before", 50), all_right(50));
    answers.store(false, Ordering::Relaxed);
    assert_eq!(live.ask_many("dead", 200), all_right(200));
    assert!(live.metric("mainstay_forward_standing", first.address) > 0.0, "it is known by now");
    // It is asked last, so not at all: but for probes and for what the other one was late with.
    for round in 1.. {
        let prefix = format!("known{round}x");
        let (answers, late) = beside_a_witness(|| live.ask_many(&prefix, 200));
        assert_eq!(answers, all_right(200));
        let went_there = questions(&first, &prefix);
        if is_proven(went_there <= 20, late, round, &format!("{went_there} went there")) {
            break;
        }
    }
    answers.store(true, Ordering::Relaxed);
    eventually(|| {
        ask(live.server.ports.dns, "back.example. A");
        if questions(&first, "back") > 0 { Ok(()) } else { Err("not asked again".into()) }
    });
    assert_eq!(live.ask_many("after", 50), all_right(50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn u2_a_closed_port_leads_to_the_next_upstream() {
    let (closed, honest) = (LoopbackUpstream::refused(), LoopbackUpstream::honest().await);
    let live = Live::start("u2", &format!("{} {}", closed.address, honest.address), "");
    for round in 1.. {
        let time_outs = || live.metric("mainstay_forward_time_outs_total", closed.address);
        let before = time_outs();
        let (answers, late) = beside_a_witness(|| live.ask_many(&format!("a{round}x"), 100));
        assert_eq!(answers, all_right(100));
        if is_proven(time_outs() == before, late, round, "a closed port is not silent") {
            break;
        }
    }
    assert!(live.metric("mainstay_forward_failovers_total", honest.address) >= 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn u3_what_one_upstream_fails_at_another_one_is_asked() {
    for rcode in [2, 5] {
        let failing =
            LoopbackUpstream::scripted(move |asked| match label(asked).starts_with("bad") {
                true => vec![Act::Send(bare(&asked.packet, rcode, true))],
                false => vec![Act::Send(good(&asked.packet))],
            });
        let (failing, honest) = (failing.await, LoopbackUpstream::honest().await);
        for round in 1.. {
            let live = Live::start("u3", &format!("{} {}", failing.address, honest.address), "");
            let (answers, slow_bad) = live.ask_and_time("bad", 50);
            assert_eq!(answers, all_right(50));
            let standing = live.metric("mainstay_forward_standing", failing.address);
            // That it fails for some names is no reason not to ask it for others.
            let fine = format!("fine{round}x");
            let (answers, slow_fine) = live.ask_and_time(&fine, 50);
            assert_eq!(answers, all_right(50));
            let asked = questions(&failing, &fine);
            let what = format!("standing {standing}, asked {asked} times");
            let is_right = standing == 0.0 && asked >= 40;
            if is_proven(is_right, slow_bad.max(slow_fine), round, &what) {
                break;
            }
        }
        let alone = Live::start("u3 alone", &failing.address.to_string(), "");
        let poor = if rcode == 2 { "SERVFAIL" } else { "REFUSED" };
        assert_eq!(ask(alone.server.ports.dns, "bad.example. A"), poor);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn u4_a_slow_upstream_costs_a_tenth_more_questions_at_most() {
    let slow = LoopbackUpstream::scripted(|asked| {
        vec![Act::Pause(Duration::from_secs(3)), Act::Send(good(&asked.packet))]
    });
    let (slow, honest) = (slow.await, LoopbackUpstream::honest().await);
    let live = Live::start("u4", &format!("{} {}", slow.address, honest.address), "");
    assert_eq!(live.ask_many("a", 300), all_right(300));
    let hedges: f64 = [slow.address, honest.address]
        .map(|to| live.metric("mainstay_forward_hedges_total", to))
        .iter()
        .sum();
    assert!(hedges <= 10.0 + 301.0 / 10.0, "{hedges} hedges");
    assert!(live.metric("mainstay_forward_standing", slow.address) > 0.0, "it is asked last");
    assert!(questions(&honest, "a") >= 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn u5_a_cut_answer_is_fetched_whole_from_whoever_has_tcp() {
    let cut = |asked: &Asked| match asked.over {
        Over::Udp => vec![Act::Send(truncated(&asked.packet))],
        Over::Tcp => vec![Act::Send(good(&asked.packet))],
    };
    let (both, udp_only) =
        (LoopbackUpstream::scripted(cut).await, LoopbackUpstream::udp_only(cut).await);
    let live = Live::start("u5", &both.address.to_string(), "");
    assert_eq!(live.ask_many("a", 20), all_right(20));
    assert!(both.count(Over::Tcp) >= 20);
    let honest = LoopbackUpstream::honest().await;
    let targets = format!("{} {}", udp_only.address, honest.address);
    let live = Live::start("u5 without TCP", &targets, "");
    assert_eq!(live.ask_many("b", 20), all_right(20));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn u6_half_of_all_packets_may_be_lost() {
    // Of each name the first none, one or two questions are lost, whoever is asked.
    let seen: Arc<Mutex<HashMap<String, usize>>> = Arc::default();
    let lossy = || {
        let seen = seen.clone();
        LoopbackUpstream::scripted(move |asked| {
            let label = label(asked);
            let number: usize = label.trim_start_matches(char::is_alphabetic).parse().unwrap_or(0);
            let mut seen = seen.lock().unwrap();
            let times = seen.entry(label).or_default();
            *times += 1;
            if *times <= number % 3 { Vec::new() } else { vec![Act::Send(good(&asked.packet))] }
        })
    };
    let (one, two) = (lossy().await, lossy().await);
    let live = Live::start("u6", &format!("{} {}", one.address, two.address), "");
    assert_eq!(live.ask_many("two", 90), all_right(90));
    let live = Live::start("u6 alone", &one.address.to_string(), "");
    assert_eq!(live.ask_many("alone", 90), all_right(90));
}

/// A file that names these servers.
fn resolv_conf(addresses: &[SocketAddr]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    rewrite(&file, addresses);
    file
}

fn rewrite(file: &NamedTempFile, addresses: &[SocketAddr]) {
    let line = |address: &SocketAddr| format!("nameserver [{}]:{}\n", address.ip(), address.port());
    std::fs::write(file.path(), addresses.iter().map(line).collect::<String>()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn u10_a_changed_resolv_conf_is_in_use_soon_and_loses_nothing() {
    let (old, new) = (LoopbackUpstream::honest().await, LoopbackUpstream::honest().await);
    let file = resolv_conf(&[old.address]);
    let live = Live::start("u10", &file.path().display().to_string(), "");
    rewrite(&file, &[new.address]);
    let mut asked = 0;
    eventually(|| {
        asked += 1;
        assert_eq!(ask(live.server.ports.dns, &format!("a{asked}.example. A")), right());
        if questions(&new, "a") > 0 { Ok(()) } else { Err("the new one is not asked".into()) }
    });
    let before = questions(&old, "");
    assert_eq!(live.ask_many("b", 50), all_right(50));
    assert_eq!(questions(&old, ""), before, "the old one is asked no more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn u10_a_loop_that_a_changed_resolv_conf_brings_is_cut_out_and_all_else_served() {
    let ports = Ports::free();
    let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let looping = LoopbackUpstream::scripted(move |asked| {
        // What we are asked comes back to us; the answer, if any, is lost on the way.
        let _ = back.send_to(&asked.packet, (Ipv4Addr::LOCALHOST, ports.dns));
        Vec::new()
    });
    let (looping, honest) = (looping.await, LoopbackUpstream::honest().await);
    let file = resolv_conf(&[honest.address]);
    let live = Live::start_at("u10 loop", ports, &file.path().display().to_string(), "");
    rewrite(&file, &[looping.address, honest.address]);
    let verdict = format!("Loop ({} -> :{})", looping.address, ports.dns);
    let mut asked = 0;
    eventually(|| {
        asked += 1;
        assert_eq!(ask(ports.dns, &format!("a{asked}.example. A")), right());
        let is_told = live.server.log().iter().any(|line| line.contains(&verdict));
        if is_told { Ok(()) } else { Err("nobody tells of the loop".into()) }
    });
    let before = questions(&looping, "b");
    assert_eq!(live.ask_many("b", 50), all_right(50));
    assert_eq!(questions(&looping, "b"), before, "it is asked no more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn u12_a_timer_that_outlasts_its_query_is_told_at_the_start() {
    let honest = LoopbackUpstream::honest().await;
    let live = Live::start("u12", &honest.address.to_string(), "read_timeout 10s");
    until(live.server.ports.dns, "a.example. A", &right());
    eventually(|| {
        let complaints = live.server.complaints();
        let is_told = complaints.iter().any(|line| line.contains("takes 4.5s at most"));
        if is_told { Ok(()) } else { Err(format!("{complaints:?}")) }
    });
}

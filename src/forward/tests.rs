//! How the room behaves, against upstreams on loopback. Time-outs run on a paused clock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::time::{Instant, sleep};

use super::budget::TIME_MAX;
use super::config::{Policy, Target};
use super::directive::TEND_INTERVAL;
use super::resolv::Unusable;
use super::scripted::{Act, Asked, LoopbackUpstream, Over, good, truncated};
use super::{Budget, Config, Error, Forward};
use crate::wire::{Answer, Name, Question, Rcode, RecordType};

mod faults;

/// `www.example.org A`.
pub(super) fn question() -> Question {
    Question::new(&Name::parse("www.example.org").unwrap(), RecordType::A)
}

/// `forward . ADDRESS… { policy sequential }`.
pub(super) fn config(addresses: &[SocketAddr]) -> Config {
    let targets = addresses.iter().copied().map(Target::Address).collect();
    Config { policy: Policy::Sequential, ..Config::new(Name::root(), targets) }
}

pub(super) fn nameserver_lines(addresses: &[SocketAddr]) -> String {
    let line = |address: &SocketAddr| format!("nameserver [{}]:{}\n", address.ip(), address.port());
    addresses.iter().map(line).collect()
}

/// A file that names these addresses; it is gone when the first value is dropped.
pub(super) fn resolv_conf(addresses: &[SocketAddr]) -> (NamedTempFile, Target) {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), nameserver_lines(addresses)).unwrap();
    let target = Target::ResolvConf(file.path().to_path_buf());
    (file, target)
}

impl Forward {
    /// Asks with a whole Budget.
    pub(super) async fn ask(&self, question: &Question, over_tcp: bool) -> Result<Answer, Error> {
        let budget = Budget::new(Instant::now());
        self.ask_within(question, over_tcp, &budget).await.map(|answered| answered.answer)
    }
}

async fn ask(forward: &Forward) -> Result<Answer, Error> {
    forward.ask(&question(), false).await
}

/// The response code of the answer to [`question`].
async fn rcode(forward: &Forward) -> Rcode {
    ask(forward).await.unwrap().rcode
}

#[tokio::test(start_paused = true)]
async fn the_transport_is_that_of_the_client_unless_the_directive_says_otherwise() {
    // force_tcp, prefer_udp, client over TCP → transport
    let table = [
        (false, false, false, Over::Udp),
        (false, false, true, Over::Tcp),
        (false, true, true, Over::Udp),
        (true, false, false, Over::Tcp),
        (true, true, false, Over::Tcp),
    ];
    for (force_tcp, prefer_udp, client_used_tcp, over) in table {
        let honest = LoopbackUpstream::honest().await;
        let config = Config { force_tcp, prefer_udp, ..config(&[honest.address]) };
        let forward = Forward::start(config).unwrap();
        let answer = forward.ask(&question(), client_used_tcp).await.unwrap();
        assert_eq!((answer.rcode, answer.answer_count()), (Rcode::NOERROR, 1));
        assert_eq!((honest.count(over), honest.asked().len()), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_port_leads_to_the_next_upstream_and_takes_nobody_down() {
    let honest = LoopbackUpstream::honest().await;
    let refused = LoopbackUpstream::refused();
    let forward = Forward::start(config(&[refused.address, honest.address])).unwrap();
    assert_eq!(rcode(&forward).await, Rcode::NOERROR);
    let upstreams = forward.upstreams();
    assert_eq!(upstreams[0].counters.failures.value(), 1);
    assert!(!upstreams[0].health().is_down());
}

#[tokio::test]
async fn a_refused_port_alone_is_told_with_a_hint() {
    let refused = LoopbackUpstream::refused();
    let forward = Forward::start(config(&[refused.address])).unwrap();
    let told = ask(&forward).await.unwrap_err().to_string();
    assert!(told.starts_with("read udp 127.0.0.1:"), "{told}");
    assert!(told.contains("read: connection refused; nothing listens there"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn when_nobody_answers_the_time_of_the_question_ends() {
    let silent = LoopbackUpstream::silent().await;
    let forward = Forward::start(config(&[silent.address])).unwrap();
    let asked = Instant::now();
    let told = ask(&forward).await.unwrap_err().to_string();
    assert!(told.ends_with(&format!("{}: i/o timeout", silent.address)), "{told}");
    assert_eq!(asked.elapsed(), TIME_MAX);

    let (refused, third) = (LoopbackUpstream::refused(), LoopbackUpstream::silent().await);
    let addresses = [silent.address, refused.address, third.address];
    let forward = Forward::start(config(&addresses)).unwrap();
    let asked = Instant::now();
    ask(&forward).await.unwrap_err();
    assert_eq!(asked.elapsed().as_secs(), TIME_MAX.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_truncated_response_is_fetched_over_tcp_from_the_same_upstream() {
    let large = LoopbackUpstream::scripted(|asked| match asked.over {
        Over::Udp => vec![Act::Send(truncated(&asked.packet))],
        Over::Tcp => vec![Act::Send(good(&asked.packet))],
    })
    .await;
    let forward = Forward::start(config(&[large.address])).unwrap();
    assert_eq!(ask(&forward).await.unwrap().answer_count(), 1);
    assert_eq!((large.count(Over::Udp), large.count(Over::Tcp)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_truncated_response_without_tcp_leads_to_the_next_upstream() {
    let cut = |asked: &Asked| vec![Act::Send(truncated(&asked.packet))];
    let udp_only = LoopbackUpstream::udp_only(cut).await;
    let cut_everywhere = LoopbackUpstream::scripted(cut).await;
    let honest = LoopbackUpstream::honest().await;
    let addresses = [udp_only.address, cut_everywhere.address, honest.address];
    let forward = Forward::start(config(&addresses)).unwrap();
    assert_eq!(ask(&forward).await.unwrap().answer_count(), 1);
    let failures = |at: usize| forward.upstreams()[at].counters.failures.value();
    assert_eq!([0, 1, 2].map(failures), [1, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_query_over_the_limit_is_refused_at_once_and_counted() {
    let silent = LoopbackUpstream::silent().await;
    let config = Config { max_concurrent: Some(1), ..config(&[silent.address]) };
    let forward = Forward::start(config).unwrap();
    let (first, second) = tokio::join!(ask(&forward), ask(&forward));
    assert!(matches!(first, Err(Error::Upstream { .. })));
    assert_eq!(second, Err(Error::TooMany(1)));
    assert_eq!(forward.counters.rejects.value(), 1);
    assert!(matches!(ask(&forward).await, Err(Error::Upstream { .. })), "the slot is free again");
}

#[tokio::test]
async fn names_within_except_are_not_covered() {
    let name = |text: &str| Name::parse(text).unwrap();
    let mut config = config(&[LoopbackUpstream::refused().address]);
    config.from = name("example.org");
    config.except = vec![name("internal.example.org"), name("a.b.example.org")];
    let forward = Forward::start(config).unwrap();
    let covers = |text: &str| forward.covers(name(text).as_ref());
    assert!(covers("example.org") && covers("www.example.org") && covers("b.example.org"));
    assert!(!covers("internal.example.org") && !covers("x.internal.example.org"));
    assert!(!covers("a.b.example.org") && !covers("org") && !covers("anexample.org"));
}

#[tokio::test(start_paused = true)]
async fn round_robin_asks_each_upstream_in_turn() {
    let (one, two) = (LoopbackUpstream::honest().await, LoopbackUpstream::honest().await);
    let config = Config { policy: Policy::RoundRobin, ..config(&[one.address, two.address]) };
    let forward = Forward::start(config).unwrap();
    for _ in 0..6 {
        rcode(&forward).await;
    }
    assert_eq!((one.asked().len(), two.asked().len()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_rewritten_resolv_conf_is_in_use_soon_and_harms_no_query() {
    let late = LoopbackUpstream::scripted(|asked| {
        vec![Act::Pause(Duration::from_millis(1500)), Act::Send(good(&asked.packet))]
    })
    .await;
    let honest = LoopbackUpstream::honest().await;
    let (file, target) = resolv_conf(&[late.address]);
    let forward = Forward::start(Config::new(Name::root(), vec![target])).unwrap();
    std::fs::write(file.path(), nameserver_lines(&[honest.address])).unwrap();
    sleep(TEND_INTERVAL - Duration::from_secs(1)).await;
    let in_flight = ask(&forward).await.unwrap();
    assert_eq!(in_flight.answer_count(), 1);
    assert_eq!(forward.upstreams()[0].address(), honest.address);
    assert_eq!(rcode(&forward).await, Rcode::NOERROR);
    assert!(late.asked().len() <= 4, "it was asked again while it was slow");
    assert_eq!(honest.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_resolv_conf_that_says_nothing_changes_nothing() {
    let honest = LoopbackUpstream::honest().await;
    let (file, target) = resolv_conf(&[honest.address]);
    let forward = Forward::start(Config::new(Name::root(), vec![target])).unwrap();
    let before = forward.upstreams();
    std::fs::write(file.path(), "# soon\n").unwrap();
    sleep(TEND_INTERVAL * 2).await;
    file.close().unwrap();
    sleep(TEND_INTERVAL * 2).await;
    assert!(Arc::ptr_eq(&before[0], &forward.upstreams()[0]));
    assert!(forward.counters.resolv_failures.value() >= 2);
    assert_eq!(rcode(&forward).await, Rcode::NOERROR);
}

#[tokio::test]
async fn a_directive_without_a_usable_file_does_not_start() {
    let (file, target) = resolv_conf(&[]);
    let started = Forward::start(Config::new(Name::root(), vec![target]));
    let named = file.path().to_path_buf();
    assert_eq!(started.unwrap_err(), Error::Config(Unusable::Empty { file: named }));
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_on_when_the_directive_is_dropped() {
    let silent = LoopbackUpstream::silent().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let forward = Forward::start(config(&[silent.address])).unwrap();
    ask(&forward).await.unwrap_err();
    assert!(tasks() > before, "it tends, and probes");
    drop(forward);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(tasks(), before);
}

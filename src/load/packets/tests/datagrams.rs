//! UDP.

use std::time::{Duration, Instant};

use super::super::{SOCKETS_MAX, Settings, drive_noting};
use super::servers::{Server, nobody, right};
use super::{Seen, Shared, setup};
use crate::load::arrivals::{Arrivals, Profile};
use crate::load::record::Outcome;
use crate::load::target::Transport::Udp;

#[test]
fn every_reply_is_matched_at_a_rate_that_needs_batches() {
    let server = Server::udp(|question| vec![right(question)]);
    let mut setup = setup(server.address, Udp);
    setup.profile = Profile::Constant(50_000.0);
    setup.timeout = Duration::from_secs(1);
    setup.duration = Some(Duration::from_millis(100));
    let seen = setup.drive();
    assert_eq!(seen.samples.len() as u64 + seen.not_begun, 5000, "all that was due");
    // The socket of the script holds some hundred; what it drops is lost.
    assert!(seen.with(Outcome::Ok) > 200, "{:?}", seen.counts);
    assert_eq!(seen.with(Outcome::Ok) as u64, seen.counts.answered);
    assert_eq!((seen.counts.mismatched, seen.counts.garbage), (0, 0));
    let clients: std::collections::BTreeSet<_> = seen.samples.iter().map(|it| it.client).collect();
    assert_eq!(clients.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
}

#[test]
fn drivers_have_clients_of_their_own() {
    let server = Server::udp(|question| vec![right(question)]);
    let mut setup = setup(server.address, Udp);
    setup.part = 2;
    let seen = setup.drive_until(|seen| seen.samples.len() > 50);
    assert!(seen.samples.iter().all(|sample| (8..12).contains(&sample.client)));
}

#[test]
fn nothing_begins_before_the_start() {
    let started = tokio::time::Instant::now() + Duration::from_millis(100);
    let server = Server::udp(move |question| {
        assert!(Instant::now() >= started.into_std());
        vec![right(question)]
    });
    let mut setup = setup(server.address, Udp);
    setup.started = started;
    setup.drive_until(|seen| seen.with(Outcome::Ok) > 50);
}

#[test]
fn a_run_that_is_stopped_before_it_starts_asks_nothing() {
    let server = Server::udp(|question| vec![right(question)]);
    let mut setup = setup(server.address, Udp);
    setup.started = tokio::time::Instant::now() + Duration::from_secs(3600);
    let seen = setup.drive_until(|_| true);
    assert_eq!((seen.begun, seen.counts.sent), (0, 0));
}

#[test]
fn what_is_a_second_late_is_left_out_and_told() {
    let server = Server::udp(|question| vec![right(question)]);
    let mut setup = setup(server.address, Udp);
    let Some(started) = setup.started.checked_sub(Duration::from_secs(10)) else {
        panic!("the clock of the machine has just begun");
    };
    setup.started = started;
    setup.duration = Some(Duration::from_secs(10));
    setup.profile = Profile::Constant(100.0);
    let seen = setup.drive();
    assert!(seen.not_begun >= 900, "{}", seen.not_begun);
    assert_eq!(seen.not_begun + seen.begun, 1000);
    seen.check();
}

#[test]
fn a_server_that_says_nothing_loses_every_lookup() {
    let server = Server::udp(|_| Vec::new());
    let setup = setup(server.address, Udp);
    let seen = setup.drive_until(|seen| seen.counts.lost > 100);
    assert_eq!(seen.with(Outcome::TryAgain) as u64, seen.counts.lost);
    assert_eq!(seen.counts.lost, seen.counts.sent);
    let waited = |took: Duration| took >= setup.timeout;
    assert!(seen.samples.iter().all(|sample| waited(sample.took)), "each had its time");
}

#[test]
fn garbage_is_counted_and_the_reply_behind_it_is_taken() {
    let server = Server::udp(|question| {
        let mut broken = right(question);
        broken.truncate(broken.len() - 2);
        vec![b"tiny".to_vec(), vec![0xFF; 700], Vec::new(), broken, right(question)]
    });
    let mut setup = setup(server.address, Udp);
    // What is broken would take the place of a right reply that is too late.
    setup.timeout = Duration::from_secs(20);
    let is_enough = |seen: &Seen| seen.with(Outcome::Ok) > 100 && seen.counts.garbage >= 400;
    let seen = setup.drive_until(is_enough);
    assert_eq!(seen.counts.mismatched, 0);
}

#[test]
fn replies_to_other_questions_are_no_replies() {
    let server = Server::udp(|question| {
        let (mut name, mut qtype) = (right(question), right(question));
        name[13] ^= 0x01;
        qtype[23] = 28;
        vec![name, qtype, question.to_vec()]
    });
    let is_enough = |seen: &Seen| seen.counts.lost > 100 && seen.counts.mismatched >= 300;
    let seen = setup(server.address, Udp).drive_until(is_enough);
    assert_eq!(seen.with(Outcome::Ok), 0);
}

#[test]
fn late_replies_are_told_from_wrong_ones() {
    let mut held = std::collections::VecDeque::new();
    let hold = Duration::from_millis(150);
    let server = Server::udp(move |question| {
        held.push_back((Instant::now() + hold, right(question)));
        let is_over = |(at, _): &mut (Instant, _)| *at <= Instant::now();
        std::iter::from_fn(|| held.pop_front_if(is_over).map(|(_, reply)| reply)).collect()
    });
    let mut setup = setup(server.address, Udp);
    setup.sockets = 1;
    let seen = setup.drive_until(|seen| seen.counts.too_late > 100);
    assert_eq!((seen.with(Outcome::Ok), seen.counts.mismatched), (0, 0));
    assert!(seen.counts.too_late <= seen.counts.lost);
}

#[test]
fn a_reply_that_comes_twice_is_taken_once() {
    let server = Server::udp(|question| vec![right(question), right(question)]);
    let mut setup = setup(server.address, Udp);
    // Of a reply that is too late, the first is told from a wrong one, and the second is not.
    setup.timeout = Duration::from_secs(20);
    let seen = setup.drive_until(|seen| seen.counts.mismatched > 100);
    assert_eq!(seen.with(Outcome::Ok) as u64, seen.counts.answered);
    assert!(seen.counts.mismatched <= seen.counts.answered);
}

#[test]
fn codes_and_cut_replies_are_counted() {
    let mut code = 0;
    let server = Server::udp(move |question| {
        code = (code + 1) % 6;
        let mut reply = right(question);
        reply[3] = code;
        reply[2] |= if code == 0 { 0x02 } else { 0 };
        match code {
            // FORMERR of the header alone.
            1 => {
                reply.truncate(12);
                reply[4..12].fill(0);
            }
            3 => {
                reply.truncate(12 + 10 + 4);
                reply[7] = 0;
            }
            _ => {}
        }
        vec![reply]
    });
    let is_enough = |seen: &Seen| seen.counts.truncated > 10 && seen.counts.refused > 10;
    let seen = setup(server.address, Udp).drive_until(is_enough);
    let counts = seen.counts;
    assert!(counts.noerror > 0 && counts.servfail > 0 && counts.other_code > 0, "{counts:?}");
    assert_eq!(seen.with(Outcome::UnknownHost) as u64, counts.nxdomain);
    assert_eq!(seen.with(Outcome::Ok) as u64, counts.noerror);
    assert_eq!(counts.truncated, counts.noerror);
}

#[test]
fn a_closed_port_fails_each_lookup_once_and_the_run_goes_on() {
    let address = nobody(101);
    let mut setup = setup(address, Udp);
    setup.timeout = Duration::from_secs(1);
    let mut server = None;
    let seen = setup.drive_through(&mut [&mut |seen| seen.counts.unreachable > 100, &mut |seen| {
        server.get_or_insert_with(|| Server::udp_on(address, |query| vec![right(query)]));
        seen.with(Outcome::Ok) > 100
    }]);
    // ICMP tells which question was refused; where it is sent seldom, time-outs tell the others.
    seen.check();
    assert_eq!(seen.with(Outcome::TryAgain) as u64, seen.counts.unreachable + seen.counts.lost);
}

#[test]
fn more_sockets_than_a_driver_can_have_are_refused() {
    let setup = setup("127.0.0.1:9".parse().unwrap(), Udp);
    let settings = Settings { sockets: SOCKETS_MAX + 1, ..setup.settings() };
    let arrivals = Arrivals::new(&setup.profile, setup.duration, 0, 1, 1);
    let notes = Shared::default();
    let error = drive_noting(&setup.run(), arrivals, &settings, notes).err().unwrap().to_string();
    assert!(error.starts_with("--clients: 257 sockets") && error.ends_with("--threads"), "{error}");
}

//! TCP.

use std::time::Duration;

use super::servers::{Script, Server, nobody, right};
use super::setup;
use crate::load::record::Outcome;
use crate::load::target::Transport::Tcp;

#[test]
fn replies_come_out_of_order_and_each_is_matched() {
    let server = Server::tcp(|| {
        let mut held = Vec::new();
        Box::new(move |question| {
            held.push(right(question));
            match held.len() {
                3 => held.drain(..).rev().collect(),
                _ => Vec::new(),
            }
        })
    });
    let seen = setup(server.address, Tcp).drive_until(|seen| seen.with(Outcome::Ok) > 200);
    assert_eq!(seen.counts.tcp, seen.counts.sent);
    assert_eq!((seen.counts.mismatched, seen.counts.tcp_failed), (0, 0));
}

#[test]
fn a_connection_that_is_cut_is_made_again() {
    let server = Server::tcp(|| {
        let mut left = 20;
        Box::new(move |question| {
            left -= 1;
            vec![if left > 0 { right(question) } else { Vec::new() }]
        })
    });
    let mut setup = setup(server.address, Tcp);
    setup.timeout = Duration::from_secs(20);
    let seen =
        setup.drive_until(|seen| seen.counts.tcp_failed > 10 && seen.with(Outcome::Ok) > 200);
    // Each cut comes in place of a reply, so something was under way.
    assert!(seen.counts.lost >= seen.counts.tcp_failed);
}

#[test]
fn refused_connections_fail_lookups_at_once_until_there_is_a_server() {
    let address = nobody(102);
    let mut setup = setup(address, Tcp);
    setup.timeout = Duration::from_secs(20);
    let mut server = None;
    let seen = setup.drive_through(&mut [
        &mut |seen| seen.counts.tcp_failed > 4 && seen.counts.unreachable > 100,
        &mut |seen| {
            let script = || -> Script { Box::new(|question| vec![right(question)]) };
            server.get_or_insert_with(|| Server::tcp_on(address, script));
            seen.with(Outcome::Ok) > 100
        },
    ]);
    seen.check();
}

#[test]
fn a_server_that_only_listens_loses_every_lookup() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = setup(listener.local_addr().unwrap(), Tcp);
    let seen = setup.drive_until(|seen| seen.counts.lost > 100);
    assert_eq!(seen.with(Outcome::TryAgain) as u64, seen.counts.lost);
}

#[test]
fn garbage_and_wrong_ids_in_a_stream_harm_nothing_else() {
    let server = Server::tcp(|| {
        Box::new(|question| {
            let mut id = right(question);
            id[1] ^= 0xAA;
            vec![vec![7], id, vec![0xFF; 3000], right(question)]
        })
    });
    let seen = setup(server.address, Tcp).drive_until(|seen| seen.with(Outcome::Ok) > 100);
    assert!(seen.counts.garbage >= 200 && seen.counts.mismatched >= 100, "{:?}", seen.counts);
}

#[test]
fn late_replies_on_a_connection_are_told_apart() {
    let server = Server::tcp(|| {
        Box::new(|question| {
            std::thread::sleep(Duration::from_millis(1));
            vec![right(question)]
        })
    });
    // More than four connections serve: replies come later and later.
    let mut setup = setup(server.address, Tcp);
    setup.profile = crate::load::arrivals::Profile::Constant(10_000.0);
    let seen = setup.drive_until(|seen| seen.counts.too_late > 100);
    assert_eq!(seen.counts.mismatched, 0);
}

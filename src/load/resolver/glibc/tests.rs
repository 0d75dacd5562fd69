//! glibc against servers on loopback: which packets, which outcome, how long.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::load::resolver::scripted::{
    Act, Asked, Closed, Flow, Server, addresses, conf, reply, truncated,
};

const BOTH: &[&str] = &["10.0.0.1", "fd00::1"];

/// glibc with the resolv.conf of a Pod.
fn glibc(servers: &[SocketAddr]) -> Glibc {
    with(conf(servers))
}

fn with(conf: ResolvConf) -> Glibc {
    Glibc::new(Arc::new(conf), 0)
}

/// A server whose script is told name and type.
fn server(
    mut script: impl FnMut(&str, RecordType, &[u8]) -> Vec<u8> + core::marker::Send + 'static,
) -> Server {
    Server::start(move |asked| {
        let message = script(&asked.name, asked.rtype, &asked.packet);
        if message.is_empty() { vec![] } else { vec![Act::Send(message)] }
    })
}

fn denied(asked: &Asked) -> Vec<Act> {
    vec![Act::Send(reply(&asked.packet, Rcode::NXDOMAIN, &[]))]
}

/// Names in the order in which they were asked, each once.
fn names(server: &Server) -> Vec<String> {
    let mut names: Vec<String> = server.asked().into_iter().map(|asked| asked.name).collect();
    names.dedup();
    names
}

/// Ports in the order of their first packets, by number.
fn ports(server: &Server) -> Vec<usize> {
    let mut seen = Vec::new();
    let mut number = |port: u16| {
        seen.iter().position(|it| *it == port).unwrap_or_else(|| {
            seen.push(port);
            seen.len() - 1
        })
    };
    server.asked().iter().map(|asked| number(asked.from.port())).collect()
}

/// Plays a case that tells sockets apart by their ports, and once more where they are not these: of
/// 28 000 times once, the kernel gives the port of a socket again that was just closed.
async fn check_ports(expected: &[usize], case: impl AsyncFn() -> Vec<usize>) {
    if case().await != expected {
        assert_eq!(case().await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn nxdomain_goes_on_and_both_families_share_a_socket() {
    let _flow = Flow::start();
    check_ports(&[0, 0, 1, 1], async || {
        let server = server(|name, _, packet| match name {
            "web.shop.svc.cluster.local." => reply(packet, Rcode::NOERROR, BOTH),
            _ => reply(packet, Rcode::NXDOMAIN, &[]),
        });
        let found = glibc(&[server.address]).addresses("web.shop").await;
        assert_eq!(addresses(&found).unwrap(), BOTH);
        let expected = [
            "web.shop.shop.svc.cluster.local. A",
            "web.shop.shop.svc.cluster.local. AAAA",
            "web.shop.svc.cluster.local. A",
            "web.shop.svc.cluster.local. AAAA",
        ];
        assert_eq!(server.log(), expected);
        let expected = PacketCounts {
            sent: 4,
            answered: 4,
            noerror: 2,
            nxdomain: 2,
            ..PacketCounts::default()
        };
        assert_eq!(found.packets, expected);
        ports(&server)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_nowhere_is_unknown() {
    let _flow = Flow::start();
    let server = Server::start(denied);
    let found = glibc(&[server.address]).addresses("nowhere").await;
    assert_eq!(addresses(&found), Err(Failure::UnknownHost));
    assert_eq!(names(&server).last().unwrap(), "nowhere.");
    assert_eq!((found.packets.sent, found.packets.nxdomain), (8, 8));
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_asked_of_the_next_server_at_once() {
    let _flow = Flow::start();
    let begun = Instant::now();
    for code in [Rcode::SERVFAIL, Rcode::REFUSED, Rcode::NOTIMP] {
        let sick = Server::start(move |asked| vec![Act::Send(reply(&asked.packet, code, &[]))]);
        let well = Server::fixed(Rcode::NOERROR, BOTH);
        let found = glibc(&[sick.address, well.address]).addresses("web.").await;
        assert_eq!(addresses(&found).unwrap(), BOTH, "{code}");
        assert_eq!((sick.log().len(), well.log().len(), found.packets.answered), (2, 2, 4));
    }
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn servfail_goes_on_with_the_list_and_says_try_again_in_the_end() {
    let _flow = Flow::start();
    let server = Server::fixed(Rcode::SERVFAIL, &[]);
    let found = glibc(&[server.address]).addresses("web").await;
    assert_eq!(addresses(&found), Err(Failure::TryAgain));
    assert_eq!((found.packets.sent, found.packets.servfail, names(&server).len()), (16, 16, 4));
}

#[tokio::test(start_paused = true)]
async fn refused_ends_the_list() {
    let _flow = Flow::start();
    let server = Server::fixed(Rcode::REFUSED, &[]);
    let found = glibc(&[server.address]).addresses("web").await;
    assert_eq!(addresses(&found), Err(Failure::TryAgain));
    assert_eq!(names(&server), ["web.shop.svc.cluster.local.", "web."]);
}

#[tokio::test(start_paused = true)]
async fn silence_takes_each_attempt_of_each_server_and_ends_the_list() {
    let _flow = Flow::start();
    check_ports(&[0, 0, 0, 0, 1, 1, 1, 1], async || {
        let silent = Server::start(|_| vec![]);
        let begun = Instant::now();
        let found = glibc(&[silent.address]).addresses("web").await;
        assert_eq!(addresses(&found), Err(Failure::TryAgain));
        assert_eq!(begun.elapsed().as_secs(), 20);
        assert_eq!(names(&silent), ["web.shop.svc.cluster.local.", "web."]);
        assert_eq!((found.packets.sent, found.packets.lost, found.packets.answered), (8, 8, 0));
        ports(&silent)
    })
    .await;
}

/// 5 s for the first of three, 10/3 and 20/3 for the others, in whole seconds.
#[tokio::test(start_paused = true)]
async fn later_servers_have_other_times() {
    let _flow = Flow::start();
    let silent: Vec<Server> = (0..3).map(|_| Server::start(|_| vec![])).collect();
    let servers: Vec<SocketAddr> = silent.iter().map(|it| it.address).collect();
    let begun = Instant::now();
    let found = glibc(&servers).addresses("web.").await;
    assert_eq!(addresses(&found), Err(Failure::TryAgain));
    assert_eq!(begun.elapsed().as_secs(), 2 * (5 + 3 + 6));
    let at = |server: &Server| (server.asked()[0].at - begun).as_secs();
    assert_eq!(silent.iter().map(at).collect::<Vec<_>>(), [0, 5, 8]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_behind_its_time_is_taken_by_the_next_attempt() {
    let _flow = Flow::start();
    let mut turn = 0;
    let server = Server::start(move |asked| {
        turn += 1;
        let late = Act::After(Duration::from_secs(6), reply(&asked.packet, Rcode::NOERROR, BOTH));
        if turn <= 2 { vec![late] } else { vec![] }
    });
    let begun = Instant::now();
    let found = glibc(&[server.address]).addresses("web.").await;
    assert_eq!(addresses(&found).unwrap(), BOTH);
    assert_eq!((begun.elapsed().as_secs(), ports(&server)), (6, vec![0, 0, 0, 0]));
    let expected =
        PacketCounts { sent: 4, lost: 2, answered: 2, noerror: 2, ..PacketCounts::default() };
    assert_eq!(found.packets, expected);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_not_taken() {
    let _flow = Flow::start();
    let server = Server::start(|asked| {
        let truth = reply(&asked.packet, Rcode::NOERROR, BOTH);
        let (mut other_id, mut other_name) = (truth.clone(), truth.clone());
        // The pair's ids may be neighbours.
        other_id[0] ^= 0x80;
        other_name[13] = b'x';
        let request = asked.packet.clone();
        vec![Act::Send(other_id), Act::Send(other_name), Act::Send(request), Act::Send(truth)]
    });
    let found = glibc(&[server.address]).addresses("web.").await;
    assert_eq!(addresses(&found).unwrap(), BOTH);
    assert_eq!((found.packets.sent, found.packets.answered), (2, 2));
    // What comes behind the last answer is not read.
    assert_eq!((found.packets.mismatched, found.packets.garbage), (4, 2));
}

#[tokio::test(start_paused = true)]
async fn a_runt_is_the_end_of_a_server() {
    let _flow = Flow::start();
    let runt = Server::start(|_| vec![Act::Send(b"short".to_vec())]);
    let well = Server::fixed(Rcode::NOERROR, BOTH);
    let found = glibc(&[runt.address, well.address]).addresses("web.").await;
    assert_eq!(addresses(&found).unwrap(), BOTH);
    assert_eq!(found.packets.garbage, 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_told_at_once() {
    let _flow = Flow::start();
    let (closed, begun) = (Closed::new(), Instant::now());
    let found = glibc(&[closed.address]).addresses("web").await;
    assert_eq!(addresses(&found), Err(Failure::TryAgain));
    assert!(begun.elapsed() < Duration::from_secs(1));
    let packets = found.packets;
    assert_eq!(packets.sent, packets.unreachable, "{packets:?}");
    let well = Server::fixed(Rcode::NOERROR, BOTH);
    let found = glibc(&[closed.address, well.address]).addresses("web").await;
    assert_eq!(addresses(&found).unwrap(), BOTH);
}

#[tokio::test(start_paused = true)]
async fn nodata_goes_on_and_is_unknown_whatever_else_failed() {
    let _flow = Flow::start();
    let server = server(|name, _, packet| match name {
        "web.shop.svc.cluster.local." => reply(packet, Rcode::NOERROR, &[]),
        "web.svc.cluster.local." => reply(packet, Rcode::SERVFAIL, &[]),
        _ => reply(packet, Rcode::NXDOMAIN, &[]),
    });
    let found = glibc(&[server.address]).addresses("web").await;
    assert_eq!(addresses(&found), Err(Failure::UnknownHost));
    assert_eq!(names(&server).len(), 4);
}

#[tokio::test(start_paused = true)]
async fn servfail_for_one_family_is_no_failure() {
    let _flow = Flow::start();
    for sick in [RecordType::A, RecordType::AAAA] {
        let server = server(move |_, rtype, packet| {
            let code = if rtype == sick { Rcode::SERVFAIL } else { Rcode::NOERROR };
            reply(packet, code, if rtype == sick { &[] } else { BOTH })
        });
        let found = glibc(&[server.address]).addresses("web.").await;
        assert_eq!(addresses(&found).unwrap().len(), 1, "{sick}");
        assert_eq!(server.log().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn one_answer_of_two_makes_it_ask_one_at_a_time_for_good() {
    let _flow = Flow::start();
    check_ports(&[0, 0, 0, 0, 1, 2], async || {
        let server = server(|_, rtype, packet| match rtype {
            RecordType::A => reply(packet, Rcode::NOERROR, BOTH),
            _ => vec![],
        });
        let glibc = glibc(&[server.address]);
        let begun = Instant::now();
        let found = glibc.addresses("web.").await;
        assert_eq!(addresses(&found).unwrap(), ["10.0.0.1"]);
        assert_eq!(server.log(), ["web. A", "web. AAAA"].repeat(3));
        let (ports, took) = (ports(&server), begun.elapsed());
        assert_eq!(took.as_secs(), 15);
        assert_eq!((found.packets.answered, found.packets.lost), (3, 3));
        glibc.addresses("web.").await;
        assert_eq!((server.log().len(), begun.elapsed().as_secs()), (8, 20));
        ports
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_is_asked_again_over_tcp() {
    let _flow = Flow::start();
    let server = Server::start(|asked| match asked.is_tcp {
        true => vec![Act::Send(reply(&asked.packet, Rcode::NOERROR, BOTH))],
        false => vec![Act::Send(truncated(&asked.packet))],
    });
    let found = glibc(&[server.address]).addresses("web.").await;
    assert_eq!(addresses(&found).unwrap(), BOTH);
    assert_eq!(server.log(), ["web. A", "web. AAAA", "tcp web. A", "tcp web. AAAA"]);
    assert_eq!((found.packets.sent, found.packets.tcp, found.packets.truncated), (4, 2, 1));
    assert!(!found.is_cut);
}

#[tokio::test(start_paused = true)]
async fn tcp_that_fails_goes_to_the_next_server_over_tcp() {
    let _flow = Flow::start();
    let cut = Server::start(|asked| match asked.is_tcp {
        true => vec![Act::Cut],
        false => vec![Act::Send(truncated(&asked.packet))],
    });
    let well = Server::fixed(Rcode::NOERROR, BOTH);
    let found = glibc(&[cut.address, well.address]).addresses("web.").await;
    assert_eq!(addresses(&found).unwrap(), BOTH);
    assert_eq!(well.log(), ["tcp web. A", "tcp web. AAAA"]);
    // The second question may have been cut unread, or read: each connection is tried again when
    // it was reset.
    assert!((1..=2).contains(&found.packets.tcp_failed), "{:?}", found.packets);
}

#[tokio::test(start_paused = true)]
async fn options_say_how_questions_travel() {
    let _flow = Flow::start();
    check_ports(&[2, 2, 3, 4], async || {
        let server = Server::fixed(Rcode::NOERROR, BOTH);
        let base = || conf(&[server.address]);
        let log = |from: usize| server.log()[from..].join(", ");
        with(ResolvConf { use_vc: true, ..base() }).addresses("web.").await;
        assert_eq!(log(0), "tcp web. A, tcp web. AAAA");
        let found = with(ResolvConf { no_aaaa: true, ..base() }).addresses("web.").await;
        assert_eq!(
            (log(2), addresses(&found).unwrap()),
            ("web. A".into(), vec!["10.0.0.1".into()])
        );
        with(ResolvConf { single_request: true, ..base() }).addresses("web.").await;
        with(ResolvConf { single_request_reopen: true, ..base() }).addresses("web.").await;
        let ports = ports(&server)[3..].to_vec();
        with(ResolvConf { edns0: true, ..base() }).addresses("web.").await;
        let edns = server.asked()[7].packet.clone();
        assert_eq!(
            crate::wire::Query::parse(&edns).ok().unwrap().edns.unwrap().payload_bytes,
            1200
        );
        let other = Server::fixed(Rcode::NOERROR, BOTH);
        let glibc = with(ResolvConf { rotate: true, ..conf(&[server.address, other.address]) });
        glibc.addresses("web.").await;
        glibc.addresses("web.").await;
        assert_eq!((server.log().len(), other.log().len()), (11, 2));
        ports
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_host_with_many_dots_is_asked_as_written_first() {
    let _flow = Flow::start();
    let server = Server::start(denied);
    let search = conf(&[server.address]).search[..1].to_vec();
    let one = ResolvConf { ndots: 1, search, ..conf(&[server.address]) };
    let found = with(one).addresses("www.example.org").await;
    assert_eq!(addresses(&found), Err(Failure::UnknownHost));
    let expected = ["www.example.org.", "www.example.org.shop.svc.cluster.local."];
    assert_eq!(names(&server), expected);
}

#[tokio::test(start_paused = true)]
async fn records_of_other_types_are_asked_once() {
    let _flow = Flow::start();
    let server = Server::fixed(Rcode::NOERROR, &["web.shop"]);
    let glibc = glibc(&[server.address]);
    let name = Name::parse("1.0.0.10.in-addr.arpa").unwrap();
    let found = glibc.query(&name, RecordType::PTR).await;
    assert_eq!(found.result, Ok(Records::Names([Name::parse("web.shop").unwrap()].into())));
    assert_eq!(server.log(), ["1.0.0.10.in-addr.arpa. PTR"]);
    let server = Server::fixed(Rcode::SERVFAIL, &[]);
    let found = super::tests::glibc(&[server.address]).query(&name, RecordType::SRV).await;
    assert_eq!((found.result, found.packets.sent), (Err(Failure::TryAgain), 2));
    let server = Server::start(denied);
    let found = super::tests::glibc(&[server.address]).query(&name, RecordType::SRV).await;
    assert_eq!((found.result, found.packets.sent), (Err(Failure::UnknownHost), 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_host_is_not_asked() {
    let _flow = Flow::start();
    let server = Server::start(denied);
    for host in ["a..b", "", ".", &"a".repeat(64)] {
        let found = glibc(&[server.address]).addresses(host).await;
        assert_eq!(addresses(&found), Err(Failure::UnknownHost), "{host}");
    }
    let found = glibc(&[]).addresses("web").await;
    assert_eq!(addresses(&found), Err(Failure::TryAgain));
    assert!(server.log().is_empty());
}

//! musl against servers on loopback: which packets, which outcome, how long.

use super::*;
use crate::load::resolver::scripted::{
    Act, Asked, Flow, Server, addresses, conf, reply, truncated,
};

const BOTH: &[&str] = &["10.0.0.1", "fd00::1"];

fn musl(servers: &[&Server]) -> Musl {
    let servers: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    Musl::new(Arc::new(conf(&servers)), 0)
}

fn denied(asked: &Asked) -> Vec<Act> {
    vec![Act::Send(reply(&asked.packet, Rcode::NXDOMAIN, &[]))]
}

#[tokio::test(start_paused = true)]
async fn all_servers_are_asked_at_once_from_one_socket() {
    let _flow = Flow::start();
    let silent = Server::start(|_| vec![]);
    let well = Server::fixed(Rcode::NOERROR, BOTH);
    let found = musl(&[&silent, &well]).addresses("web").await;
    assert_eq!(addresses(&found).unwrap(), BOTH);
    let expected = ["web.shop.svc.cluster.local. A", "web.shop.svc.cluster.local. AAAA"];
    assert_eq!((silent.log(), well.log()), (expected.map(Into::into).into(), silent.log()));
    let from = |server: &Server| server.asked().into_iter().map(|it| it.from).collect::<Vec<_>>();
    assert_eq!(from(&silent), from(&well));
    // Nobody waited for the other server: its answers are not lost.
    assert_eq!((found.packets.sent, found.packets.answered, found.packets.lost), (4, 2, 0));
}

#[tokio::test(start_paused = true)]
async fn nxdomain_goes_on_and_nodata_does_not() {
    let _flow = Flow::start();
    let server = Server::start(|asked| {
        let code = match &asked.name[..] {
            "web.svc.cluster.local." => Rcode::NOERROR,
            _ => Rcode::NXDOMAIN,
        };
        vec![Act::Send(reply(&asked.packet, code, &[]))]
    });
    let found = musl(&[&server]).addresses("web").await;
    assert_eq!(addresses(&found), Err(Failure::UnknownHost));
    assert_eq!(server.log().last().unwrap(), "web.svc.cluster.local. AAAA");
}

#[tokio::test(start_paused = true)]
async fn many_dots_are_asked_as_written_and_nothing_else() {
    let _flow = Flow::start();
    let server = Server::start(denied);
    let found = musl(&[&server]).addresses("a.b.c.d.e.f").await;
    assert_eq!(addresses(&found), Err(Failure::UnknownHost));
    assert_eq!(server.log(), ["a.b.c.d.e.f. A", "a.b.c.d.e.f. AAAA"]);
}

#[tokio::test(start_paused = true)]
async fn silence_takes_the_timeout_once_and_ends_the_list() {
    let _flow = Flow::start();
    let silent = Server::start(|_| vec![]);
    let begun = Instant::now();
    let found = musl(&[&silent]).addresses("web").await;
    assert_eq!(addresses(&found), Err(Failure::TryAgain));
    assert_eq!((begun.elapsed().as_secs(), found.packets.sent, found.packets.lost), (5, 4, 4));
    let again = (silent.asked()[2].at - begun).as_millis();
    assert!((2500..2600).contains(&again), "{again}");
}

#[tokio::test(start_paused = true)]
async fn silence_for_one_family_is_a_failure() {
    let _flow = Flow::start();
    let server = Server::start(|asked| match asked.rtype {
        RecordType::A => vec![Act::Send(reply(&asked.packet, Rcode::NOERROR, BOTH))],
        _ => vec![],
    });
    let found = musl(&[&server]).addresses("web.").await;
    assert_eq!(addresses(&found), Err(Failure::TryAgain));
    assert_eq!(server.log(), ["web. A", "web. AAAA", "web. AAAA"]);
}

#[tokio::test(start_paused = true)]
async fn servfail_is_asked_again_at_once_and_then_waited_for() {
    let _flow = Flow::start();
    let server = Server::fixed(Rcode::SERVFAIL, &[]);
    let begun = Instant::now();
    let found = musl(&[&server]).addresses("web").await;
    assert_eq!(addresses(&found), Err(Failure::TryAgain));
    // Two rounds of two questions, and four more in each.
    assert_eq!((found.packets.sent, found.packets.servfail, found.packets.lost), (12, 12, 0));
    assert_eq!(begun.elapsed().as_secs(), 5);
    let refusing = Server::fixed(Rcode::REFUSED, &[]);
    let found = musl(&[&refusing]).addresses("web").await;
    assert_eq!((addresses(&found), found.packets.sent), (Err(Failure::TryAgain), 4));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_well_makes_up_for_one_that_fails() {
    let _flow = Flow::start();
    let sick = Server::fixed(Rcode::SERVFAIL, &[]);
    let well = Server::start(|asked| {
        let later = std::time::Duration::from_secs(1);
        vec![Act::After(later, reply(&asked.packet, Rcode::NOERROR, BOTH))]
    });
    let found = musl(&[&sick, &well]).addresses("web.").await;
    assert_eq!(addresses(&found).unwrap(), BOTH);
    assert_eq!((sick.log().len(), well.log().len()), (6, 2));
    assert_eq!((found.packets.answered, found.packets.lost), (8, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_behind_a_try_is_taken_until_time_is_up() {
    let _flow = Flow::start();
    let mut turn = 0;
    let server = Server::start(move |asked| {
        turn += 1;
        let later = std::time::Duration::from_secs(3);
        let late = Act::After(later, reply(&asked.packet, Rcode::NOERROR, BOTH));
        if turn <= 2 { vec![late] } else { vec![] }
    });
    let found = musl(&[&server]).addresses("web.").await;
    assert_eq!(addresses(&found).unwrap(), BOTH);
    assert_eq!((found.packets.sent, found.packets.lost, found.packets.answered), (4, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_is_taken_as_it_is() {
    let _flow = Flow::start();
    let server = Server::start(|asked| {
        let mut message = reply(&asked.packet, Rcode::NOERROR, BOTH);
        message[2] |= 0x02;
        vec![Act::Send(message)]
    });
    let found = musl(&[&server]).addresses("web.").await;
    assert_eq!((addresses(&found).unwrap().len(), found.is_cut), (2, true));
    let empty = Server::start(|asked| vec![Act::Send(truncated(&asked.packet))]);
    let found = musl(&[&empty]).addresses("web.").await;
    assert_eq!((addresses(&found), found.packets.tcp), (Err(Failure::UnknownHost), 0));
    const MANY: &[&str] = &["10.0.0.1"; 60];
    let long = Server::fixed(Rcode::NOERROR, MANY);
    let found = musl(&[&long]).addresses("web.").await;
    assert_eq!((addresses(&found).unwrap().len(), found.is_cut), (1, true));
}

#[tokio::test(start_paused = true)]
async fn only_the_id_and_the_sender_are_looked_at() {
    let _flow = Flow::start();
    let server = Server::start(|asked| {
        let (mut other_id, mut other_name) = (
            reply(&asked.packet, Rcode::NOERROR, BOTH),
            reply(&asked.packet, Rcode::NOERROR, BOTH),
        );
        other_id[0] ^= 0x80;
        other_name[13] = b'x';
        vec![Act::Send(vec![0; 3]), Act::Send(other_id), Act::Send(other_name)]
    });
    // One question: the id of another one beside it could be the other id.
    let found = musl(&[&server]).query(&Name::parse("web").unwrap(), RecordType::A).await;
    assert_eq!(addresses(&found).unwrap(), BOTH[..1]);
    assert_eq!((found.packets.garbage, found.packets.mismatched), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn records_of_other_types_are_asked_once() {
    let _flow = Flow::start();
    let server = Server::fixed(Rcode::NOERROR, &["web.shop"]);
    let name = Name::parse("1.0.0.10.in-addr.arpa").unwrap();
    let found = musl(&[&server]).query(&name, RecordType::PTR).await;
    assert_eq!(found.result, Ok(Records::Names([Name::parse("web.shop").unwrap()].into())));
    let server = Server::start(denied);
    let found = musl(&[&server]).query(&name, RecordType::SRV).await;
    assert_eq!((found.result, found.packets.sent), (Err(Failure::UnknownHost), 1));
    let silent = Server::start(|_| vec![]);
    let found = musl(&[&silent]).query(&name, RecordType::SRV).await;
    assert_eq!((found.result, found.packets.lost), (Err(Failure::TryAgain), 2));
}

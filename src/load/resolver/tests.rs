//! What all clients have in common.

use super::scripted::{Act, Asked, Flow, Server, conf, reply};
use super::*;
use crate::wire::Rcode;

const ALL: [Resolver; 6] = [
    Resolver::Glibc,
    Resolver::Musl,
    Resolver::Go,
    Resolver::Jvm,
    Resolver::Netty,
    Resolver::CAres,
];

fn client(resolver: Resolver, server: &Server) -> Client {
    Client::new(resolver, Arc::new(conf(&[server.address])), 1)
}

fn send(asked: &Asked, code: Rcode) -> Act {
    Act::Send(reply(&asked.packet, code, &[]))
}

/// Looks a name up with clients to whom a server that denied but a part of it is UnknownHost.
async fn is_no_denial(resolvers: &[Resolver], script: fn(&Asked) -> Vec<Act>) {
    for &resolver in resolvers {
        let server = Server::start(script);
        let found = client(resolver, &server).addresses("web").await;
        assert_eq!(found.result, Err(Failure::UnknownHost), "{resolver:?}");
        assert!(!found.is_denied, "{resolver:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn denials_of_all_names_are_a_denial() {
    let _flow = Flow::start();
    for code in [Rcode::NXDOMAIN, Rcode::NOERROR] {
        for resolver in ALL {
            let server = Server::start(move |asked| vec![send(asked, code)]);
            let found = client(resolver, &server).addresses("web").await;
            assert_eq!(found.result, Err(Failure::UnknownHost), "{resolver:?} {code}");
            assert!(found.is_denied, "{resolver:?} {code}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn silence_for_a_name_of_the_list_is_no_denial() {
    use Resolver::{Glibc, Go, Jvm, Netty};
    let _flow = Flow::start();
    is_no_denial(&[Glibc, Jvm, Go, Netty], |asked| match &asked.name[..] {
        "web.shop.svc.cluster.local." => vec![],
        _ => vec![send(asked, Rcode::NXDOMAIN)],
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_one_family_is_no_denial() {
    use Resolver::{CAres, Glibc, Jvm, Netty};
    let _flow = Flow::start();
    is_no_denial(&[Glibc, Jvm, Netty, CAres], |asked| match asked.rtype {
        RecordType::A => vec![send(asked, Rcode::SERVFAIL)],
        // The last to come, so that c-ares tells of it.
        _ => {
            let nodata = reply(&asked.packet, Rcode::NOERROR, &[]);
            vec![Act::After(Duration::from_millis(400), nodata)]
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn silence_for_records_of_other_types_is_no_denial() {
    let _flow = Flow::start();
    let name = Name::parse("1.0.0.10.in-addr.arpa").unwrap();
    for resolver in [Resolver::Jvm, Resolver::Netty] {
        let server = Server::start(|_| vec![]);
        let found = client(resolver, &server).query(&name, RecordType::PTR).await;
        assert_eq!((found.result, found.is_denied), (Err(Failure::UnknownHost), false));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_as_old_as_its_question() {
    let _flow = Flow::start();
    for (resolver, took_s) in [(Resolver::Netty, 5), (Resolver::CAres, 2)] {
        // Nothing comes for AAAA: the lookup ends long after the reply for A.
        let server = Server::start(|asked| match asked.rtype {
            RecordType::A => vec![Act::Send(reply(&asked.packet, Rcode::NOERROR, &["10.0.0.1"]))],
            _ => vec![],
        });
        let client = client(resolver, &server);
        assert!(client.addresses("web.").await.result.is_ok());
        let found = client.addresses("web.").await;
        assert!(found.result.is_ok() && found.age.as_secs() >= took_s, "{resolver:?}");
        // c-ares asks for AAAA again.
        assert_eq!(found.is_cached, resolver == Resolver::Netty);
    }
}

#[tokio::test(start_paused = true)]
async fn a_denial_that_c_ares_has_kept_is_old() {
    let _flow = Flow::start();
    let server = Server::start(|asked| {
        let mut message = reply(&asked.packet, Rcode::NXDOMAIN, &[]);
        message[9] = 1;
        // SOA: both names the root, TTL and minimum 30 s.
        message.extend_from_slice(&[0xC0, 12, 0, 6, 0, 1, 0, 0, 0, 30, 0, 22]);
        message.extend_from_slice(&[0; 2 + 16]);
        message.extend_from_slice(&30_u32.to_be_bytes());
        vec![Act::Send(message)]
    });
    let client = client(Resolver::CAres, &server);
    let found = client.addresses("web.").await;
    assert!(found.is_denied && !found.is_cached && found.age.is_zero());
    tokio::time::sleep(Duration::from_secs(20)).await;
    let found = client.addresses("web.").await;
    assert!(found.is_denied && found.is_cached && found.age.as_secs() >= 20);
    let found = client.query(&Name::parse("web").unwrap(), RecordType::A).await;
    assert!(found.is_denied && found.is_cached && found.age.as_secs() >= 20);
    assert_eq!(server.log().len(), 2);
}

/// How many packets the first question of a lookup costs while nobody answers, and for how long.
async fn patience(resolver: Resolver, options: &str) -> (u64, u64) {
    let server = Server::start(|_| vec![]);
    let conf = ResolvConf::parse(options, "f").unwrap().with_servers(vec![server.address]);
    let begun = tokio::time::Instant::now();
    let client = Client::new(resolver, Arc::new(conf), 1);
    let found = client.query(&Name::parse("web").unwrap(), RecordType::PTR).await;
    (found.packets.sent, begun.elapsed().as_secs())
}

#[tokio::test(start_paused = true)]
async fn options_that_are_written_count_though_they_are_defaults_elsewhere() {
    use Resolver::{CAres, Glibc, Go, Netty};
    let _flow = Flow::start();
    assert_eq!(patience(Go, "options attempts:0").await, (1, 5));
    assert_eq!(patience(Glibc, "options attempts:0").await, (0, 0));
    assert_eq!(patience(Netty, "options attempts:0").await, (0, 0));
    assert_eq!(patience(CAres, "options attempts:0 timeout:0").await.0, 3);
    assert_eq!(patience(CAres, "options attempts:2").await.0, 2);
    assert_eq!(patience(CAres, "options timeout:5 attempts:1").await, (1, 5));
    assert_eq!(patience(CAres, "options attempts:1").await, (1, 2));
}

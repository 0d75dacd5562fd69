//! The API server dies: answers stay as they were, and a server that starts then says "not yet".

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::asker::{Steady, ask, eventually, until};
use crate::dig::{self, Over};
use crate::{World, changes, check_all, measured, reload};

/// How long it stays away: long enough for every watch to have failed more than once.
const AWAY: Duration = Duration::from_secs(4);

pub fn freezes_the_answers(world: &mut World) {
    let port = world.live.ports.dns;
    let steady = [
        Steady::start(port, "web.shop.svc A", "NOERROR 10.96.100.1"),
        Steady::start(port, "db.shop.svc A", "NOERROR 10.244.1.21 10.244.1.22"),
        Steady::start(port, "gone.shop.svc A", "NXDOMAIN"),
    ];
    world.plane.kill_api_server();
    sleep(AWAY);
    check_all(&world.live, &crate::names::EXISTING);
    // Nor may a reload forget what is known.
    reload::another_ttl(&world.live);
    assert_eq!(world.live.ready(), 200, "what was ready once stays in service");
    world.plane.start_api_server();
    let returned = Instant::now();
    changes::create(&world.api, "returned", "10.96.120.1");
    until(port, "returned.shop.svc A", "NOERROR 10.96.120.1");
    measured("API server back to the first change answered", returned.elapsed());
    check_all(&world.live, &crate::names::EXISTING);
    let asked: usize = steady.map(|steady| steady.all_right().asked).iter().sum();
    measured("answers meanwhile, none wrong", asked);
}

pub fn start_without_an_api_server(world: &mut World) {
    world.plane.kill_api_server();
    let begun = Instant::now();
    let mut second = world.server("a second mainstay");
    let port = second.ports.dns;
    until(port, "www.example.org. A", "NOERROR 192.0.2.1");
    measured("start to the first foreign name", begun.elapsed());
    // No object can make these exist.
    for question in ["web.shop A", "a.b.c.web.shop.svc A", "web.shop.pod A"] {
        assert_eq!(ask(port, question), "NXDOMAIN", "{question}");
    }
    let held = Instant::now();
    for over in [Over::Udp, Over::Tcp] {
        let reply = dig::ask(port, "web.shop.svc A", over);
        assert_eq!(reply.status, "SERVFAIL");
        assert!(
            reply.ede.as_ref().is_some_and(|ede| ede.starts_with("14 (Not Ready)")),
            "{reply:?}"
        );
    }
    measured("hold of a name that may exist", held.elapsed() / 2);
    // Not even an alias or an address may be told wrong.
    for question in ["pay.shop.svc A", "1.100.96.10.in-addr.arpa. PTR"] {
        assert_eq!(ask(port, question), "SERVFAIL", "{question}");
    }
    assert_eq!((second.ready(), second.health()), (503, 200));
    world.plane.start_api_server();
    let returned = Instant::now();
    until(port, "web.shop.svc A", "NOERROR 10.96.100.1");
    eventually(|| match second.ready() {
        200 => Ok(()),
        status => Err(format!("/ready is {status}")),
    });
    measured("API server back to ready", returned.elapsed());
    check_all(&second, &crate::names::EXISTING);
    assert!(second.is_alive());
    // The first server waits longer and longer between its tries, as all clients of an API server
    // do; the next steps want it to follow again.
    changes::create(&world.api, "again", "10.96.120.2");
    until(world.live.ports.dns, "again.shop.svc A", "NOERROR 10.96.120.2");
    measured("API server back to the first server following", returned.elapsed());
}

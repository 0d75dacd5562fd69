//! SIGTERM: no more traffic is wanted, but all that comes is answered.

use std::time::Instant;

use crate::asker::{Steady, eventually, until};
use crate::dig::{self, Over};
use crate::{World, changes, measured};

pub fn answers_to_the_end(world: &mut World) {
    let port = world.live.ports.dns;
    assert_eq!(world.live.ready(), 200);
    let steady = Steady::start(port, "web.shop.svc A", "NOERROR 10.96.100.1");
    let told = Instant::now();
    world.live.signal("TERM");
    let took = eventually(|| match world.live.ready() {
        503 => Ok(()),
        status => Err(format!("/ready is {status}")),
    });
    measured("SIGTERM to /ready 503", took);
    assert_eq!(world.live.health(), 200, "the kubelet must not kill us meanwhile");
    changes::create(&world.api, "last", "10.96.130.1");
    measured(
        "a Service created after SIGTERM",
        until(port, "last.shop.svc A", "NOERROR 10.96.130.1"),
    );
    let reply = dig::ask(port, "db.shop.svc A", Over::Tcp);
    assert_eq!(reply.status, "NOERROR");
    // Lameduck is 10 s; the asker ends before it does, as clients are sent elsewhere by then.
    let tally = steady.all_right();
    let status = world.live.wait();
    measured("SIGTERM to exit", told.elapsed());
    measured("answers during lameduck", tally.asked);
    assert_eq!(status.code(), Some(0), "{status}");
}

//! P1: what waits for an upstream when the server is killed.

use super::*;

/// An upstream that takes everything, and answers once a gate is open.
fn silent_upstream(gate: &Arc<AtomicBool>) -> (tokio::runtime::Runtime, LoopbackUpstream) {
    let gate = gate.clone();
    upstream(move |asked| match gate.load(Ordering::Relaxed) {
        true => vec![Act::Send(good(&asked.packet))],
        false => Vec::new(),
    })
}

/// Waits until an upstream was asked for a name.
fn until_asked(upstream: &LoopbackUpstream, name: &str) {
    let label = [&[name.len() as u8], name.as_bytes()].concat();
    eventually(|| {
        let asked = upstream.asked();
        let is_it = |packet: &[u8]| packet.windows(label.len()).any(|octets| octets == label);
        let is_there = asked.iter().any(|asked| is_it(&asked.packet));
        is_there.then_some(()).ok_or_else(|| format!("nobody asked for {name}"))
    });
}

#[test]
fn p1_a_query_that_waits_for_an_upstream_is_answered_after_a_kill() {
    let gate = Arc::default();
    let (_runtime, upstream) = silent_upstream(&gate);
    let site = Site::start("p1 under way", As::Supervised, upstream.address.port());
    let (socket, child) = (client(site.server.ports.dns), site.child().unwrap());
    socket.set_read_timeout(Some(HANG)).unwrap();
    socket.send(&question_for("waits.example.org.", 7)).unwrap();
    until_asked(&upstream, "waits");
    kill("KILL", child);
    // The next server asks again by itself, and nobody else does.
    gate.store(true, Ordering::Relaxed);
    let mut reply = [0; 512];
    let length = socket.recv(&mut reply).expect("the answer to what was asked once");
    assert_eq!(
        (&reply[..2], reply[3] & 15, reply[7]),
        (&[0, 7][..], 0, 1),
        "{:?}",
        &reply[..length]
    );
    site.is_up();
    assert_eq!(resumed_and_abandoned(&site), (1.0, 0.0));
}

#[test]
fn p1_a_query_that_was_under_way_at_two_kills_is_not_asked_a_third_time() {
    let (_runtime, upstream) = silent_upstream(&Arc::default());
    let site = Site::start("p1 poison", As::Supervised, upstream.address.port());
    let (socket, first) = (client(site.server.ports.dns), site.child().unwrap());
    socket.send(&question_for("poison.example.org.", 7)).unwrap();
    until_asked(&upstream, "poison");
    kill("KILL", first);
    let second = site.next_child(first);
    let asked = upstream.asked().len();
    // Before it gives up on the upstream: when it answers, it has taken up what was left.
    until(site.server.ports.dns, WEB, RIGHT);
    eventually(|| (upstream.asked().len() > asked).then_some(()).ok_or("asked again".into()));
    kill("KILL", second);
    site.next_child(second);
    site.is_up();
    // Our own question may have been answered just before the kill, and is then answered twice.
    assert_eq!(resumed_and_abandoned(&site).1, 1.0);
}

fn resumed_and_abandoned(site: &Site) -> (f64, f64) {
    let metrics = site.server.metrics();
    let value = |what| metrics.value(&format!("mainstay_errands_{what}_total"), &[]);
    (value("resumed"), value("abandoned"))
}

//! P5: ends by a signal.

use super::*;

/// An upstream that takes a while for each question.
fn slow_upstream() -> (tokio::runtime::Runtime, LoopbackUpstream) {
    upstream(|asked| vec![Act::Pause(Duration::from_millis(1500)), Act::Send(good(&asked.packet))])
}

#[test]
fn p5_an_end_answers_what_is_under_way_and_what_still_comes() {
    let (_runtime, upstream) = slow_upstream();
    let mut site = Site::start("p5", As::Supervised, upstream.address.port());
    let port = site.server.ports.dns;
    let (udp, mut tcp) = (client(port), TcpStream::connect(("127.0.0.1", port)).unwrap());
    udp.set_read_timeout(Some(HANG)).unwrap();
    tcp.set_read_timeout(Some(HANG)).unwrap();
    tcp.write_all(&framed(&question(1))).unwrap();
    read_framed(&mut tcp);
    let steady = Steady::start(port, WEB, RIGHT);
    site.server.signal("TERM");
    site.until_lines("lameduck mode", 1);
    udp.send(&question_for("one.example.org.", 2)).unwrap();
    tcp.write_all(&framed(&question_for("two.example.org.", 3))).unwrap();
    let mut reply = [0; 512];
    assert!(udp.recv(&mut reply).is_ok_and(|_| reply[3] & 15 == 0), "UDP is answered");
    steady.all_right();
    // The upstream takes its time for each: this one is still there when it is quiet.
    assert_eq!(read_framed(&mut tcp)[..2], [0, 3], "TCP is answered");
    // Nobody asks any more: it ends, and the connection ends with FIN and not with RST.
    assert_eq!(tcp.read(&mut reply).unwrap(), 0);
    assert_eq!(site.server.wait().code(), Some(0));
    assert_eq!(site.lines("every accepted query was answered"), 1);
}

#[test]
fn p5_a_second_signal_ends_at_once() {
    for kind in [As::Alone, As::Supervised] {
        let mut site = Site::start_with("p5 twice", kind, 9, |corefile| {
            // So long that only the second signal can be what ends it.
            corefile.replace("lameduck 1s", "lameduck 20s")
        });
        site.server.signal("TERM");
        site.until_lines("lameduck mode", 1);
        // The first second of a supervised server's drain has one signal only.
        eventually(|| {
            site.server.signal("TERM");
            match site.lines("second signal, ending at once") {
                1 => Ok(()),
                _ => Err("it goes on".to_owned()),
            }
        });
        assert_eq!(site.server.wait().code(), Some(0));
    }
}

#[test]
fn p5_a_signal_to_parent_and_child_is_one() {
    let mut site = Site::start("p5 group", As::Supervised, 9);
    let (parent, child) = (site.pid(), site.child().unwrap());
    let steady = Steady::start(site.server.ports.dns, WEB, RIGHT);
    // As systemd does it with the processes of a service.
    let to_both = format!("kill -TERM {child} {parent}");
    assert!(Command::new("sh").args(["-c", &to_both]).status().unwrap().success());
    site.until_lines("lameduck mode", 1);
    // Once the lameduck is over, it goes on because somebody asks.
    sleep(Duration::from_millis(1500));
    steady.all_right();
    assert_eq!(site.server.wait().code(), Some(0));
    assert_eq!(site.lines("every accepted query was answered"), 1);
    assert_eq!(site.lines("second signal"), 0);
}

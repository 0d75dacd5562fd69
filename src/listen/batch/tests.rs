//! Batches over sockets on loopback.

use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::control::Control;
use super::*;

fn pair(address: &str) -> (UdpSocket, UdpSocket) {
    let server = UdpSocket::bind(address).unwrap();
    tell_destination(&server).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (server, client)
}

/// Upper-cases every packet of one batch.
fn shout(batch: &mut Batch, server: &UdpSocket) -> usize {
    let count = batch.receive(server).unwrap();
    for index in 0..count {
        let (packet, reply) = batch.slot(index);
        let len = packet.len();
        reply[..len].copy_from_slice(&packet.to_ascii_uppercase());
        batch.queue(index, len);
    }
    assert_eq!(batch.send(server), 0);
    batch.done();
    count
}

#[test]
fn every_packet_of_many_batches_gets_its_own_reply() {
    for is_plain in [false, true] {
        let (server, client) = pair("127.0.0.1:0");
        client.connect(server.local_addr().unwrap()).unwrap();
        let mut batch = Batch { is_plain, ..Batch::new() };
        for round in 0..5 {
            for n in 0..100 {
                client.send(format!("packet {round} {n}").as_bytes()).unwrap();
            }
            let mut left = 100;
            while left > 0 {
                left -= shout(&mut batch, &server);
            }
            for n in 0..100 {
                let mut reply = [0; 64];
                let len = client.recv(&mut reply).unwrap();
                assert_eq!(reply[..len], *format!("PACKET {round} {n}").as_bytes());
            }
        }
    }
}

#[test]
fn a_reply_leaves_from_the_address_that_was_asked() {
    let (server, client) = pair("0.0.0.0:0");
    let port = server.local_addr().unwrap().port();
    let mut batch = Batch::new();
    // The client takes replies from 127.0.0.5 only.
    client.connect(("127.0.0.5", port)).unwrap();
    client.send(b"batched").unwrap();
    shout(&mut batch, &server);
    let mut reply = [0; 64];
    assert_eq!(client.recv(&mut reply).unwrap(), 7);
    client.send(b"later").unwrap();
    assert_eq!(batch.receive(&server).unwrap(), 1);
    assert_eq!(batch.client(0), Some(IpAddr::from([127, 0, 0, 1])));
    batch.envelope(0).send(&server, b"later!").unwrap();
    assert_eq!(client.recv(&mut reply).unwrap(), 6);
}

#[test]
fn an_oversized_packet_is_cut_and_harms_nobody() {
    let (server, client) = pair("127.0.0.1:0");
    client.connect(server.local_addr().unwrap()).unwrap();
    client.send(&[b'x'; 9000]).unwrap();
    let mut batch = Batch::new();
    assert_eq!(batch.receive(&server).unwrap(), 1);
    assert_eq!(batch.slot(0).0.len(), REQUEST_MAX);
}

#[test]
fn one_who_asks_learns_which_datagram_was_refused() {
    let (server, client) = pair("127.0.0.1:0");
    client.connect(server.local_addr().unwrap()).unwrap();
    keep_refused(&client).unwrap();
    let (mut batch, mut room) = (Batch::new(), [0; 64]);
    assert_eq!(refused(&client, &mut room).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    drop(server);
    for (index, text) in ["first", "second"].iter().enumerate() {
        batch.slot(index).1[..text.len()].copy_from_slice(text.as_bytes());
        batch.queue(index, text.len());
    }
    assert_eq!(batch.send_some(&client, 2).unwrap(), 0);
    assert_eq!(batch.send_some(&client, 0).unwrap(), 1, "ICMP comes before the second");
    let len = refused(&client, &mut room).unwrap();
    assert_eq!(&room[..len], b"first");
    assert_eq!(batch.send_some(&client, 1).unwrap(), 1, "the second is still queued");
    batch.clear();
    assert_eq!(batch.send_some(&client, 0).unwrap(), 0);
}

/// Makes the kernel refuse batches to this thread from now on, as some sandboxes do. `false` where
/// that cannot be had.
fn refuse_batches() -> bool {
    let word_at = |offset| libc::sock_filter {
        code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16,
        jt: 0,
        jf: 0,
        k: offset,
    };
    let unless = |number: libc::c_long, skip| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: 0,
        jf: skip,
        k: number as u32,
    };
    let answer =
        |k| libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k };
    let enosys = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let mut filter = [
        word_at(0),
        unless(libc::SYS_sendmmsg, 1),
        answer(enosys),
        unless(libc::SYS_recvmmsg, 1),
        answer(enosys),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: prctl takes numbers and one pointer to a program, which lives until it returns.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    }
}

#[test]
fn without_batches_one_who_only_sends_sends_one_by_one() {
    let (server, client) = pair("127.0.0.1:0");
    server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    client.connect(server.local_addr().unwrap()).unwrap();
    let sender = std::thread::spawn(move || {
        assert!(refuse_batches(), "a thread may always give rights up");
        let mut batch = Batch::new();
        for (index, text) in ["first", "second"].iter().enumerate() {
            batch.slot(index).1[..text.len()].copy_from_slice(text.as_bytes());
            batch.queue(index, text.len());
        }
        assert_eq!(batch.send_some(&client, 0).unwrap(), 1);
        assert_eq!(batch.send_some(&client, 1).unwrap(), 1);
        batch.clear();
        batch.queue(0, 5);
        assert_eq!(batch.send(&client), 0);
        client
    });
    let mut room = [0; 64];
    for text in ["first", "second", "first"] {
        let len = server.recv(&mut room).unwrap();
        assert_eq!(&room[..len], text.as_bytes());
    }
    sender.join().unwrap();
}

/// A socket, and the other end that everything stays at until it is read.
fn bounded() -> (UdpSocket, UdpSocket) {
    let (one, other) = std::os::unix::net::UnixDatagram::pair().unwrap();
    (OwnedFd::from(one).into(), OwnedFd::from(other).into())
}

/// More batches than any queue of datagrams is long.
const ROUNDS: usize = 1024;
/// Longest wait for what a hang alone keeps away.
const HANG: Duration = Duration::from_secs(30);

fn queue(batch: &mut Batch, count: usize) {
    (0..count).for_each(|index| batch.queue(index, UDP_MAX));
}

#[test]
fn replies_without_room_are_lost_and_are_waited_for_once() {
    // What a socket does whose packets wait for ARP: its buffer has room again after seconds only.
    let (full, silent) = bounded();
    let mut batch = Batch::new();
    let lost = (0..ROUNDS).find_map(|_| {
        queue(&mut batch, BATCH_MAX);
        Some(batch.send(&full)).filter(|lost| *lost > 0)
    });
    assert!(lost.is_some_and(|lost| lost <= BATCH_MAX));
    queue(&mut batch, BATCH_MAX);
    let forever = Duration::from_secs(1 << 20);
    assert_eq!(batch.send_within(&full, forever), BATCH_MAX, "nobody waits a second time");
    silent.set_nonblocking(true).unwrap();
    while silent.recv(&mut [0; UDP_MAX]).is_ok() {}
    batch.queue(0, UDP_MAX);
    assert_eq!(batch.send(&full), 0);
    assert!(!batch.is_clogged, "the next time somebody waits again");
}

#[test]
fn replies_wait_a_moment_for_room_and_are_not_lost() {
    let (full, other) = bounded();
    other.set_read_timeout(Some(HANG)).unwrap();
    // A part of a batch: the kernel says that there is room when a part of the buffer is free.
    const COUNT: usize = 8;
    let reader = std::thread::spawn(move || {
        let read = |_: &usize| other.recv(&mut [0; UDP_MAX]).is_ok();
        (0..ROUNDS * COUNT).take_while(read).count()
    });
    let mut batch = Batch::new();
    for _ in 0..ROUNDS {
        queue(&mut batch, COUNT);
        assert_eq!(batch.send_within(&full, HANG), 0);
    }
    assert_eq!(reader.join().unwrap(), ROUNDS * COUNT);
}

/// A file for a tray, and packets that a process took over it and ended with.
fn taken_by_one_that_ended(packets: &[&[u8]]) -> (OwnedFd, UdpSocket, UdpSocket) {
    let file = tray::file().unwrap();
    let (server, client) = pair("0.0.0.0:0");
    client.connect(("127.0.0.5", server.local_addr().unwrap().port())).unwrap();
    packets.iter().for_each(|packet| assert!(client.send(packet).is_ok()));
    let mut batch = Batch::over(Tray::over(&file).unwrap());
    assert_eq!(batch.take_left(), (0, 0), "a new file is empty");
    assert_eq!(batch.receive(&server).unwrap(), packets.len());
    (file, server, client)
}

#[test]
fn p1_what_a_process_took_and_did_not_answer_is_there_for_the_next_one() {
    let (file, server, client) = taken_by_one_that_ended(&[b"one", b"", b"three"]);
    let mut next = Batch::over(Tray::over(&file).unwrap());
    assert_eq!(next.take_left(), (3, 0));
    assert_eq!([0, 1, 2].map(|index| next.packet(index)), [&b"one"[..], b"", b"three"]);
    next.forget(0);
    assert_eq!(next.packet(0), b"");
    let (packet, reply) = next.slot(2);
    reply[..5].copy_from_slice(packet);
    next.queue(2, 5);
    assert_eq!(next.send(&server), 0);
    let mut reply = [0; 16];
    assert_eq!(client.recv(&mut reply).unwrap(), 5, "from the address that was asked");
    assert_eq!(&reply[..5], b"three");
    next.done();
    // Only one at a time: its headers point into the Batch that was made last.
    let mut third = Batch::over(Tray::over(&file).unwrap());
    assert_eq!(third.take_left(), (0, 0), "it is done");
    client.send(b"four").unwrap();
    assert_eq!(third.receive(&server).unwrap(), 1);
    assert_eq!(Batch::over(Tray::over(&file).unwrap()).take_left(), (1, 0), "no older ones");
}

#[test]
fn p1_what_two_processes_ended_with_is_given_up() {
    let (file, server, client) = taken_by_one_that_ended(&[b"poison", b"innocent"]);
    assert_eq!(Batch::over(Tray::over(&file).unwrap()).take_left(), (2, 0));
    assert_eq!(Batch::over(Tray::over(&file).unwrap()).take_left(), (0, 2));
    let mut next = Batch::over(Tray::over(&file).unwrap());
    assert_eq!(next.take_left(), (0, 0));
    client.send(b"another").unwrap();
    assert_eq!(next.receive(&server).unwrap(), 1);
    assert_eq!(Batch::over(Tray::over(&file).unwrap()).take_left(), (1, 0), "one more chance");
}

#[test]
fn a_tray_of_any_octets_harms_nobody_and_one_of_another_size_is_refused() {
    let (file, server, client) = taken_by_one_that_ended(&[b"packet"]);
    let len = std::fs::File::from(file.try_clone().unwrap()).metadata().unwrap().len();
    std::fs::File::from(file.try_clone().unwrap())
        .write_all_at(&vec![0xFF; len as usize], 0)
        .unwrap();
    let mut batch = Batch::over(Tray::over(&file).unwrap());
    let (count, gone) = batch.take_left();
    assert_eq!(count + gone, BATCH_MAX);
    assert_eq!(batch.envelope(0).peer(), None);
    batch.done();
    client.send(b"after").unwrap();
    assert_eq!((batch.receive(&server).unwrap(), batch.packet(0)), (1, &b"after"[..]));
    std::fs::File::from(file.try_clone().unwrap()).set_len(len - 1).unwrap();
    assert_eq!(Tray::over(&file).err().unwrap().kind(), io::ErrorKind::InvalidData);
}

/// An instant that no packet comes after.
const NEVER: Duration = Duration::from_secs(1 << 40);

#[test]
fn p15_what_waits_is_thrown_away_up_to_an_instant_and_the_rest_is_answered() {
    for (address, asked) in [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.5")] {
        let (server, client) = pair(address);
        client.connect((asked, server.local_addr().unwrap().port())).unwrap();
        let file = tray::file().unwrap();
        let mut batch = Batch::over(Tray::over(&file).unwrap());
        assert_eq!(batch.newest(), None);
        batch.stamp(&server, true).unwrap();
        let send = |count: usize| (0..count).for_each(|_| assert!(client.send(b"waits").is_ok()));
        send(BATCH_MAX * 3);
        assert_eq!(batch.discard(&server, Duration::ZERO), (0, BATCH_MAX), "it is new enough");
        assert_eq!(batch.discard(&server, NEVER), (BATCH_MAX * 2, 0), "all of them");
        assert_eq!(batch.discard(&server, NEVER), (0, 0), "and none is waited for");
        send(BATCH_MAX + 1);
        assert_eq!(batch.discard(&server, NEVER), (BATCH_MAX, 1), "the rest is no queue");
        assert_eq!(batch.packet(0), b"waits", "and is there to be answered");
        send(2);
        assert_eq!(shout(&mut batch, &server), 2);
        assert!(batch.newest().is_some_and(|newest| !newest.is_zero()));
        // From the address that was asked, although the time stands before it.
        assert_eq!(client.recv(&mut [0; 16]).unwrap(), 5);
        batch.stamp(&server, false).unwrap();
        send(1);
        assert_eq!(shout(&mut batch, &server), 1);
        assert_eq!(batch.newest(), None);
        let mut next = Batch::over(Tray::over(&file).unwrap());
        assert_eq!(next.take_left(), (0, 0), "what was thrown away is not answered after a death");
    }
}

#[test]
fn control_messages_of_any_octets_are_read_within_their_bounds() {
    let mut state = 1_u32;
    for _ in 0..20_000 {
        let octets = std::array::from_fn(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Small numbers make more headers that look right.
            if state & 0x300 == 0 { (state >> 24) as u8 } else { (state >> 28) as u8 & 3 }
        });
        let mut control = Control(octets);
        for len in [0, 15, 16, 17, 40, CONTROL_MAX, CONTROL_MAX + 1] {
            assert!(messages(&control, len).all(|message| message.start < CONTROL_MAX));
            assert!(source_only(&mut control, len) <= CONTROL_MAX);
        }
    }
}

//! Workers over sockets on loopback.

use std::cell::Cell;
use std::net::Ipv4Addr;

use tokio::runtime::Handle;

use super::*;
use crate::listen::batch::tray::{self, Tray};
use crate::listen::{Listening, Places, kept, socket};
use crate::wire::{RecordType, message};

const PORT: u16 = 53;
/// Longest wait for what a hang alone keeps away.
const PATIENCE: Duration = Duration::from_secs(30);

thread_local! {
    static IS_WANTED: Cell<bool> = const { Cell::new(false) };
}

/// A bug, where a test of this thread wants one.
pub(super) fn panic_if_wanted() {
    assert!(!IS_WANTED.replace(false), "a test wants a panic");
}

/// A worker that refuses all names, and a client of it.
fn worker() -> (Worker, UdpSocket) {
    worker_at(Ipv4Addr::LOCALHOST)
}

/// The same where nobody has the number of its port for TCP, on a host that only this process
/// draws ports of: they stay free when they are closed.
fn worker_alone() -> (Worker, UdpSocket) {
    let [.., high, low] = std::process::id().to_be_bytes();
    let host = Ipv4Addr::new(127, 112, high, low);
    let is_alone = |(worker, _): &(Worker, UdpSocket)| socket::tcp(worker.key.address).is_ok();
    std::iter::repeat_with(|| worker_at(host)).take(100).find(is_alone).unwrap()
}

fn worker_at(host: Ipv4Addr) -> (Worker, UdpSocket) {
    let port = Port::new(PORT, Vec::new(), Arc::new(Tally::new(String::new(), String::new(), 1)));
    let exchange = Exchange::new(Arc::new(Plan { ports: vec![port] }), Handle::current());
    let socket = UdpSocket::bind((host, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(socket.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let key = Key { proto: kept::Proto::Udp, address: socket.local_addr().unwrap(), number: 0 };
    (Worker::new(exchange, Arc::new(socket), PORT, key, Batch::new()), client)
}

fn ask(client: &UdpSocket, id: u16) {
    let mut packet = message::question("a.example.", RecordType::A, None);
    packet[..2].copy_from_slice(&id.to_be_bytes());
    client.send(&packet).unwrap();
}

#[tokio::test]
async fn p16_a_worker_that_panics_keeps_its_socket_and_answers_what_comes_next() {
    let (mut worker, client) = worker();
    IS_WANTED.set(true);
    ask(&client, 1);
    assert_eq!(worker.turn(), 1);
    assert!(!IS_WANTED.get(), "it has panicked");
    ask(&client, 2);
    assert_eq!(worker.turn(), 1);
    let mut reply = [0; 512];
    assert!(client.recv(&mut reply).unwrap() >= 12);
    assert_eq!(reply[..2], [0, 2], "of the batch at hand nothing is left over");
}

#[tokio::test]
async fn p1_a_worker_answers_what_the_last_one_had_at_hand() {
    let (mut worker, client) = worker();
    let file = tray::file().unwrap();
    let over = |file| Batch::over(Tray::over(file).unwrap());
    let mut last = over(&file);
    (1..=2).for_each(|id| ask(&client, id));
    assert_eq!(last.receive(&worker.socket).unwrap(), 2);
    let parent = kept::Channel::pair().unwrap();
    parent.0.send(&kept::Message::Given).unwrap();
    let kept = kept::Kept::receive(kept::Channel::of_server(parent.1).unwrap()).unwrap();
    let journal = Journal::of(&kept).unwrap();
    worker.batch = over(&file);
    worker.resume_after(&journal, Vec::new());
    let mut reply = [0; 512];
    for id in [1, 2] {
        assert!(client.recv(&mut reply).unwrap() >= 12);
        assert_eq!(reply[..2], [0, id]);
    }
    assert_eq!(journal.resumed.load(Ordering::Relaxed), 2);
    assert_eq!(over(&file).take_left(), (0, 0), "once");
}

#[tokio::test]
async fn p1_what_finds_no_place_after_a_death_is_abandoned_once() {
    let (mut worker, _client) = worker();
    let places = Places { upstream: 1, ..Places::default() };
    let plan = worker.exchange.plan.load_full();
    worker.exchange = Exchange::within(plan, Handle::current(), places, None);
    let parent = kept::Channel::pair().unwrap();
    parent.0.send(&kept::Message::Given).unwrap();
    let kept = kept::Kept::receive(kept::Channel::of_server(parent.1).unwrap()).unwrap();
    let open = || {
        Journal::give_back(&kept);
        Journal::of(&kept).unwrap()
    };
    let (first, key) = (open(), worker.key.clone());
    let note = |peer: &str| {
        let envelope = Envelope::to(peer.parse().unwrap(), &[]).unwrap();
        let (key, lane, packet) = (key.clone(), Lane::Upstream, Vec::new());
        let record = Record { key, port: PORT, lane, envelope, packet };
        first.note(&record, journal::now()).unwrap()
    };
    drop(["127.0.0.1:9", "127.0.0.1:10"].map(note));
    let second = open();
    let left = second.take(&key);
    assert_eq!(left.len(), 2);
    worker.resume_after(&second, left);
    let counts = |journal: &Journal| {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (load(&journal.resumed), load(&journal.abandoned))
    };
    assert_eq!(counts(&second), (1, 1));
    // The errand that has the one place has not run, for this test has not waited for it yet.
    assert_eq!(counts(&open()), (0, 1), "the one under way, and not again the other one");
}

#[tokio::test]
async fn p12_a_start_that_fails_leaves_what_was_taken_to_the_next_try() {
    let file = tray::file().unwrap();
    let (last, client) = worker_alone();
    let address = last.key.address;
    ask(&client, 7);
    let taken = Batch::over(Tray::over(&file).unwrap()).receive(&last.socket).unwrap();
    assert_eq!(taken, 1);
    let parent = kept::Channel::pair().unwrap();
    parent.0.send(&kept::Message::Keep(last.key.of_tray(), file)).unwrap();
    parent.0.send(&kept::Message::Given).unwrap();
    let kept = kept::Kept::receive(kept::Channel::of_server(parent.1).unwrap()).unwrap();
    let (plan, kept) = (last.exchange.plan.load_full(), Arc::new(kept));
    drop(last);
    let start = || {
        let (kept, places) = (Some(kept.clone()), Places::default());
        let exchange = Exchange::within(plan.clone(), Handle::current(), places, kept);
        Listening::prepare(&exchange, address, PORT, 1).unwrap()
    };
    drop(start());
    let mut next = start();
    next.begin();
    let mut reply = [0; 512];
    assert!(client.recv(&mut reply).unwrap() >= 12);
    assert_eq!(reply[..2], [0, 7]);
}

#[tokio::test]
async fn p15_packets_with_no_queue_behind_them_are_answered_however_long_they_waited() {
    let (mut worker, client) = worker();
    let (now, full) = (Instant::now(), BATCH_MAX);
    // Overloaded a moment ago, and stopped for longer than a packet may wait.
    let began = now.checked_sub(super::super::overload::STANDING).unwrap();
    worker.look_for_overload(full, began);
    worker.look_for_overload(full, now);
    assert!(worker.overload.is_on());
    ask(&client, 1);
    ask(&client, 2);
    thread::sleep(super::super::overload::WAIT_MAX * 2);
    assert_eq!(worker.turn(), 2);
    let mut reply = [0; 512];
    for id in [1, 2] {
        assert!(client.recv(&mut reply).unwrap() >= 12);
        assert_eq!(reply[..2], [0, id]);
    }
    assert_eq!(worker.shed.load(Ordering::Relaxed), 0);
}

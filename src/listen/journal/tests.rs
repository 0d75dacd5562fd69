//! One file, read by one server after the other.

use std::net::SocketAddr;

use super::super::Places;
use super::super::batch::Envelope;
use super::super::errands::Errands;
use super::super::kept::{Channel, Message};
use super::*;
use crate::resolve::now::Lane;

const BEGAN: Duration = Duration::from_secs(1000);

fn file() -> OwnedFd {
    memfd_create(c"test", MemfdFlags::CLOEXEC).unwrap()
}

fn open(file: &OwnedFd, now: Duration) -> Arc<Journal> {
    Arc::new(Journal::open(file.try_clone().unwrap(), now).unwrap())
}

fn key(number: usize) -> Key {
    Key { proto: Proto::Udp, address: "[::]:53".parse().unwrap(), number }
}

fn record(peer: &str, packet: &[u8]) -> Record {
    let envelope = Envelope::to(peer.parse().unwrap(), b"from here").unwrap();
    Record { key: key(1), port: 1053, lane: Lane::Upstream, envelope, packet: packet.into() }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Writes queries as a server that dies with them.
fn dies_with(file: &OwnedFd, records: &[Record]) {
    let journal = open(file, BEGAN);
    let slots: Vec<_> = records.iter().map(|record| journal.note(record, BEGAN)).collect();
    assert!(slots.iter().all(Option::is_some));
}

#[test]
fn what_waited_is_there_for_the_next_server_as_it_came() {
    let file = file();
    let peers = ["10.0.0.7:4711", "[fd00::7]:1", "[fe80::1%3]:65535", "[::ffff:10.0.0.7]:9"];
    let mut records = peers.map(|peer| record(peer, b"a question"));
    records[1].lane = Lane::Cluster;
    records[2].key.address = "10.0.0.1:53".parse().unwrap();
    dies_with(&file, &records);
    let next = open(&file, BEGAN + AGE_MAX);
    let mut left = next.take(&key(1));
    assert!(next.take(&key(1)).is_empty() && next.take(&key(0)).is_empty());
    left.extend(next.take(&records[2].key));
    left.sort_by_key(|left| left.number);
    assert_eq!(left.len(), records.len());
    for (left, written) in left.iter().zip(&records) {
        let read = &left.record;
        assert_eq!(left.age(BEGAN + AGE_MAX), Some(AGE_MAX));
        assert_eq!((&read.key, read.port, read.lane), (&written.key, 1053, written.lane));
        assert_eq!(
            (&read.packet[..], read.envelope.control()),
            (&b"a question"[..], &b"from here"[..])
        );
        assert_eq!(read.envelope.peer(), written.envelope.peer());
    }
}

#[test]
fn what_was_answered_is_not_there() {
    let file = file();
    let journal = open(&file, BEGAN);
    journal.note(&record("10.0.0.7:4711", b"answered"), BEGAN).unwrap().end();
    assert_eq!(journal.free.lock().len(), SLOTS);
    let next = open(&file, BEGAN);
    assert!(next.take(&key(1)).is_empty());
    assert_eq!((next.free.lock().len(), load(&next.abandoned)), (SLOTS, 0));
}

#[test]
fn p1_what_was_under_way_at_two_deaths_is_not_asked_a_third_time() {
    let file = file();
    dies_with(&file, &[record("10.0.0.7:4711", b"poison"), record("10.0.0.8:4711", b"innocent")]);
    let second = open(&file, BEGAN);
    let mut slots: Vec<_> =
        second.take(&key(1)).iter().map(|left| second.again(left).unwrap()).collect();
    slots.pop().unwrap().end();
    drop(slots);
    let third = open(&file, BEGAN);
    assert!(third.take(&key(1)).is_empty());
    assert_eq!((load(&third.abandoned), third.free.lock().len()), (1, SLOTS));
    assert_eq!(load(&open(&file, BEGAN).abandoned), 0, "it is gone for good");
}

#[test]
fn p12_a_start_that_fails_leaves_what_waited_to_the_next_try() {
    let (parent, server) = Channel::pair().unwrap();
    let (file, asked) = (file(), record("10.0.0.7:4711", b"a question"));
    drop(open(&file, now()).note(&asked, now()).unwrap());
    parent.send(&Message::Keep(super::key(), file)).unwrap();
    parent.send(&Message::Given).unwrap();
    let kept = Kept::receive(Channel::of_server(server).unwrap()).unwrap();
    for _ in 0..2 {
        assert_eq!(Journal::of(&kept).unwrap().take(&key(1)).len(), 1);
        Journal::give_back(&kept);
    }
}

#[test]
fn an_errand_that_panics_leaves_nothing_and_one_that_is_cut_off_its_query() {
    for (panics, left) in [(true, 0), (false, 1)] {
        let (runtime, file) = (tokio::runtime::Runtime::new().unwrap(), file());
        let errands = Errands::new(runtime.handle().clone(), Places::default());
        let mut place = errands.place(Lane::Upstream, [10, 0, 0, 7].into()).unwrap();
        place.slot = open(&file, BEGAN).note(&record("10.0.0.7:4711", b"a question"), BEGAN);
        let ended = std::thread::spawn(move || {
            let _place = place;
            assert!(!panics, "a test wants a panic");
        });
        assert_eq!(ended.join().is_err(), panics);
        assert_eq!(open(&file, BEGAN).left.lock().len(), left);
    }
}

#[test]
fn what_is_too_old_or_came_to_a_socket_that_is_gone_is_given_up() {
    let file = file();
    let records = [record("10.0.0.7:4711", b"a question")];
    for (now, is_old) in [(BEGAN, false), (BEGAN + AGE_MAX * 2, true), (BEGAN / 2, true)] {
        dies_with(&file, &records);
        let next = open(&file, now);
        assert_eq!(next.left.lock().len(), usize::from(!is_old));
        next.release_rest();
        assert_eq!((load(&next.abandoned), next.free.lock().len()), (1, SLOTS));
    }
}

#[test]
fn a_full_journal_and_a_long_packet_are_counted_and_cost_nothing_else() {
    let journal = open(&file(), BEGAN);
    let long = record("10.0.0.7:4711", &[0; SLOT_OCTETS]);
    assert!(journal.note(&long, BEGAN).is_none());
    let record = record("10.0.0.7:4711", b"a question");
    journal.free.lock().truncate(2);
    let mut slots: Vec<_> = (0..3).filter_map(|_| journal.note(&record, BEGAN)).collect();
    assert_eq!((slots.len(), load(&journal.unwritten)), (2, 2));
    slots.pop();
    assert!(journal.note(&record, BEGAN).is_some(), "a slot that is free again");
}

#[test]
fn a_query_of_any_length_that_is_usual_fits() {
    let peer: SocketAddr = "[fe80::1%3]:65535".parse().unwrap();
    let envelope = Envelope::to(peer, &[0; 40]).unwrap();
    let record = Record { envelope, ..record("[::1]:1", &[0; 384]) };
    assert!(record.write(BEGAN).is_some());
}

#[test]
fn no_octets_panic() {
    let written = record("[fd00::7]:1", b"a question").write(BEGAN).unwrap();
    for (at, _) in written.iter().enumerate() {
        assert!(Left::read(0, &written[..at]).is_none());
        for octet in 0..=u8::MAX {
            let mut octets = written.clone();
            octets[at] = octet;
            let _ = Left::read(0, &octets);
        }
    }
    let file = file();
    let octets = vec![0xA5; SLOTS * SLOT_OCTETS];
    File::from(file.try_clone().unwrap()).write_all_at(&octets, 0).unwrap();
    assert_eq!(load(&open(&file, BEGAN).abandoned), SLOTS as u64);
    assert_eq!(load(&open(&file, BEGAN).abandoned), 0);
}

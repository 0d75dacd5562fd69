//! The books alone, with a clock that the test moves.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::super::desk::{Desk, Event};
use super::super::under_way::UNDER_WAY_MAX;
use super::servers::right;
use super::{Shared, setup, task};
use crate::load::record::Outcome;
use crate::load::target::Transport::Udp;
use crate::wire::UDP_MAX;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn desk(notes: &Shared) -> Desk<Shared> {
    let setup = setup("127.0.0.1:9".parse().unwrap(), Udp);
    Desk::new(&setup.run(), &setup.settings(), notes.clone())
}

/// Begins a lookup and answers its packet.
fn begin(desk: &mut Desk<Shared>, due: Duration, now: Duration) -> Vec<u8> {
    let mut room = [0; UDP_MAX];
    let task = Arc::new(task("web.shop", "A"));
    let len = desk.begin(0, task, due, now, &mut room).unwrap();
    room[..len].to_vec()
}

#[test]
fn latency_counts_from_when_a_lookup_was_due() {
    let notes = Shared::default();
    let mut desk = desk(&notes);
    let question = begin(&mut desk, ms(10), ms(25));
    desk.note(0, Event::Message(&right(&question)), ms(32));
    desk.close(ms(40));
    let sample = notes.0.lock().samples[0];
    assert_eq!((sample.due, sample.took, sample.outcome), (ms(10), ms(22), Outcome::Ok));
    assert_eq!(sample.packets, 1);
}

#[test]
fn the_last_moment_counts_and_the_next_is_too_late() {
    let notes = Shared::default();
    let mut desk = desk(&notes);
    let (first, second) = (begin(&mut desk, ms(0), ms(0)), begin(&mut desk, ms(0), ms(5)));
    desk.note(0, Event::Message(&right(&second)), ms(104));
    desk.note(0, Event::Message(&right(&first)), ms(104));
    desk.close(ms(104));
    let seen = notes.0.lock();
    seen.check();
    assert_eq!((seen.counts.answered, seen.counts.lost, seen.counts.too_late), (1, 1, 1));
    assert_eq!(seen.samples[0].took, ms(100), "it was given up then, whenever that was seen");
}

#[test]
fn another_id_is_no_reply_though_the_question_is_the_same() {
    let notes = Shared::default();
    let mut desk = desk(&notes);
    let question = begin(&mut desk, ms(0), ms(0));
    let mut wrong = right(&question);
    for bit in 0..16 {
        wrong[bit / 8] ^= 1 << (bit % 8);
        desk.note(0, Event::Message(&wrong), ms(1));
        desk.note(1, Event::Message(&right(&question)), ms(1));
    }
    desk.note(0, Event::Message(&right(&question)), ms(1));
    desk.close(ms(1));
    let seen = notes.0.lock();
    seen.check();
    assert_eq!((seen.counts.mismatched, seen.counts.answered), (32, 1));
}

#[test]
fn what_was_refused_is_not_lost_as_well() {
    let notes = Shared::default();
    let mut desk = desk(&notes);
    let (first, second) = (begin(&mut desk, ms(0), ms(0)), begin(&mut desk, ms(1), ms(1)));
    desk.note(0, Event::Refused(&first), ms(2));
    // As little as the id.
    desk.note(0, Event::Refused(&second[..2]), ms(2));
    desk.close(ms(500));
    let seen = notes.0.lock();
    seen.check();
    assert_eq!((seen.counts.unreachable, seen.counts.lost, seen.samples.len()), (2, 0, 2));
}

#[test]
fn a_refusal_that_quotes_no_question_is_that_of_the_only_one() {
    let notes = Shared::default();
    let mut desk = desk(&notes);
    begin(&mut desk, ms(0), ms(0));
    desk.note(0, Event::Refused(&[]), ms(1));
    desk.note(0, Event::Refused(&[]), ms(1));
    let (third, _) = (begin(&mut desk, ms(2), ms(2)), begin(&mut desk, ms(2), ms(2)));
    // One of two, and nobody knows which; one that has ended; one that never was.
    desk.note(0, Event::Refused(&[]), ms(3));
    desk.note(0, Event::Refused(&third), ms(3));
    desk.note(0, Event::Refused(&third), ms(3));
    desk.note(0, Event::Refused(&[!third[0], third[1]]), ms(3));
    desk.close(ms(500));
    let seen = notes.0.lock();
    seen.check();
    assert_eq!((seen.counts.unreachable, seen.counts.lost, seen.samples.len()), (2, 1, 3));
}

#[test]
fn what_the_system_did_not_take_was_not_sent() {
    let notes = Shared::default();
    let mut desk = desk(&notes);
    let question = begin(&mut desk, ms(0), ms(0));
    desk.note(0, Event::Unsent(u16::from_be_bytes([question[0], question[1]])), ms(0));
    desk.close(ms(1));
    let seen = notes.0.lock();
    seen.check();
    assert_eq!((seen.counts.sent, seen.counts.unreachable, seen.samples[0].packets), (0, 1, 0));
}

#[test]
fn a_full_table_is_told_and_bounded() {
    let notes = Shared::default();
    let mut desk = desk(&notes);
    let question = Arc::new(task("web.shop", "A"));
    let mut room = [0; UDP_MAX];
    let mut begin = |desk: &mut Desk<Shared>| {
        desk.begin(0, Arc::clone(&question), ms(0), ms(0), &mut room).is_ok()
    };
    assert_eq!((0..UNDER_WAY_MAX + 10).filter(|_| begin(&mut desk)).count(), UNDER_WAY_MAX);
    assert!(desk.is_full(0) && !desk.is_full(1));
    desk.leave_out();
    desk.close(ms(500));
    let seen = notes.0.lock();
    seen.check();
    assert_eq!((seen.not_begun, seen.counts.lost), (1, UNDER_WAY_MAX as u64));
}

proptest! {
    /// Whatever a server sends, each lookup ends once and the books are right.
    #[test]
    fn no_message_upsets_the_books(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..5), 1..60)
    ) {
        let notes = Shared::default();
        let mut desk = desk(&notes);
        for (now, (at, octet, kind)) in (0u64..).map(|n| ms(n * 7)).zip(changes) {
            let question = begin(&mut desk, now, now);
            let mut message = right(&question);
            let at = at.index(message.len());
            message[at] = octet;
            match kind {
                0 => message.truncate(at),
                1 => message.extend_from_slice(&question),
                _ => {}
            }
            match kind {
                3 => desk.note(0, Event::Refused(&message), now),
                4 => desk.note(0, Event::Message(&question), now),
                _ => desk.note(0, Event::Message(&message), now),
            }
        }
        desk.close(ms(100_000));
        let seen = notes.0.lock();
        prop_assert!(desk.is_idle());
        prop_assert_eq!(seen.begun, seen.samples.len() as u64);
        prop_assert_eq!(seen.counts.sent, seen.begun);
        let counts = &seen.counts;
        prop_assert_eq!(counts.answered + counts.lost + counts.unreachable, seen.begun);
    }
}

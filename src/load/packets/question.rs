//! The packet of a task, and whether a message echoes its question.

use crate::load::tasks::Task;
use crate::wire::{Class, HEADER_LEN, walk};

/// Octets of the OPT record that offers a payload size.
const OPT_LEN: usize = 11;
/// RD alone: what a stub resolver sets.
const RECURSION_DESIRED: u8 = 0x01;

/// Writes the question of a task and answers its length. `room` holds any: 12 octets of header, 259
/// of question, 11 of OPT.
pub fn write(task: &Task, id: u16, payload_bytes: Option<u16>, room: &mut [u8]) -> usize {
    let name = task.name.octets();
    let question_end = HEADER_LEN + name.len() + 4;
    let header = &mut room[..HEADER_LEN];
    header.fill(0);
    header[..2].copy_from_slice(&id.to_be_bytes());
    header[2] = RECURSION_DESIRED;
    header[5] = 1;
    header[11] = u8::from(payload_bytes.is_some());
    let question = &mut room[HEADER_LEN..question_end];
    question[..name.len()].copy_from_slice(name);
    question[name.len()..].copy_from_slice(&fixed(task));
    let Some(payload_bytes) = payload_bytes else { return question_end };
    let opt = &mut room[question_end..question_end + OPT_LEN];
    opt.fill(0);
    opt[2] = 41;
    opt[3..5].copy_from_slice(&payload_bytes.to_be_bytes());
    question_end + OPT_LEN
}

/// Where the question ends in a message that has exactly that of `task`, octet by octet: a server
/// echoes what it was asked.
pub fn end_in(message: &[u8], task: &Task) -> Option<usize> {
    let name = task.name.octets();
    let name_end = HEADER_LEN + name.len();
    let is_same = message.get(4..6)? == [0, 1]
        && message.get(HEADER_LEN..name_end)? == name
        && message.get(name_end..name_end + 4)? == fixed(task);
    is_same.then_some(name_end + 4)
}

/// Name in wire form and type of the one question of a message.
pub fn read(message: &[u8]) -> Option<(&[u8], u16)> {
    let name_end = walk::skip_name(message, HEADER_LEN)?;
    let fixed = message.get(name_end..name_end + 4)?;
    let is_one = message[4..6] == [0, 1];
    is_one.then_some((&message[HEADER_LEN..name_end], u16::from_be_bytes([fixed[0], fixed[1]])))
}

/// Whether what ICMP quoted of a question can be that of `task`: it may be cut anywhere.
pub fn may_be_quoted(quoted: &[u8], task: &Task) -> bool {
    let wanted = task.name.octets().iter().copied().chain(fixed(task));
    quoted.iter().skip(HEADER_LEN).zip(wanted).all(|(octet, wanted)| *octet == wanted)
}

/// Type and class.
fn fixed(task: &Task) -> [u8; 4] {
    let [high, low] = task.rtype.0.to_be_bytes();
    let [class_high, class_low] = Class::IN.0.to_be_bytes();
    [high, low, class_high, class_low]
}

#[cfg(test)]
mod tests {
    use super::super::tests::task;
    use super::*;
    use crate::wire::{Query, UDP_MAX};

    #[test]
    fn a_question_is_one_that_the_server_reads() {
        let task = task("web.shop.svc.cluster.local", "AAAA");
        for payload_bytes in [None, Some(1232)] {
            let mut room = [0xFF; UDP_MAX];
            let len = write(&task, 0xABCD, payload_bytes, &mut room);
            let query = Query::parse(&room[..len]).ok().unwrap();
            assert_eq!((query.id(), query.rtype, query.class), (0xABCD, task.rtype, Class::IN));
            assert_eq!(query.name(), task.name.as_ref());
            assert_eq!(read(&room[..len]), Some((task.name.octets(), task.rtype.0)));
            assert_eq!(query.edns.map(|edns| edns.payload_bytes), payload_bytes);
            assert!(query.recursion_desired() && !query.checking_disabled());
        }
    }

    #[test]
    fn only_the_same_question_is_that_of_the_task() {
        let asked = task("web.shop", "A");
        let mut room = [0; UDP_MAX];
        let len = write(&asked, 1, None, &mut room);
        assert_eq!(end_in(&room[..len], &asked), Some(len));
        for other in [task("web.shop", "AAAA"), task("web.shoq", "A"), task("web", "A")] {
            assert_eq!(end_in(&room[..len], &other), None);
            assert!(!may_be_quoted(&room[..len], &other));
        }
        for end in 0..len {
            assert_eq!(end_in(&room[..end], &asked), None, "cut at {end}");
            assert!(may_be_quoted(&room[..end], &asked), "cut at {end}");
        }
        room[5] = 2;
        assert_eq!(end_in(&room[..len], &asked), None, "two questions");
    }
}

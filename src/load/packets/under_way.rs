//! The questions of one socket that wait for their replies, found by id, the oldest first.
//!
//! ```text
//! by_id[id] ─► flights[place] ◄─► … a list from the oldest to the newest, which time out in order
//! ```
//!
//! An id comes from chance and is never one that is under way. Those of questions that timed out
//! rest until their late reply came, as long as there are others. Memory is what the most that were
//! under way at once need, and nothing is allocated below that.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use rand::RngExt;
use rand::rngs::SmallRng;

use super::question;
use crate::load::tasks::Task;

/// Most questions under way on one socket: half of the ids, so that a free one is found at once.
pub const UNDER_WAY_MAX: usize = 32_768;
/// Free ids that are passed over because a late reply may still come for them.
const RESTING_MAX: usize = 16;
/// No place.
const NONE: u16 = u16::MAX;
/// How many ids there are.
const IDS: usize = 1 << 16;

/// The questions of one socket.
pub struct UnderWay {
    by_id: Box<[u16]>,
    /// By id: the mark of the question that timed out, 0 for none.
    timed_out: Box<[u16]>,
    flights: Vec<Flight>,
    free: Vec<u16>,
    oldest: u16,
    newest: u16,
    dice: SmallRng,
}

/// A question under way.
struct Flight {
    asked: Option<Asked>,
    id: u16,
    older: u16,
    newer: u16,
}

/// What was asked and when, since the start of the run.
pub struct Asked {
    pub task: Arc<Task>,
    pub due: Duration,
    pub sent: Duration,
}

impl UnderWay {
    /// None yet. The ids come from the system's chance and not from the seed of the run: nobody
    /// should know them.
    pub fn new() -> Self {
        Self {
            by_id: vec![NONE; IDS].into(),
            timed_out: vec![0; IDS].into(),
            flights: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            dice: rand::make_rng(),
        }
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.flights.len() - self.free.len()
    }

    /// Whether no more can be.
    pub fn is_full(&self) -> bool {
        self.len() == UNDER_WAY_MAX
    }

    /// Takes a question in and answers its id; none when [full](Self::is_full).
    pub fn begin(&mut self, asked: Asked) -> Option<u16> {
        if self.is_full() {
            return None;
        }
        let id = self.free_id();
        let flight = Flight { asked: Some(asked), id, older: self.newest, newer: NONE };
        let place = match self.free.pop() {
            Some(place) => {
                self.flights[usize::from(place)] = flight;
                place
            }
            None => {
                self.flights.push(flight);
                (self.flights.len() - 1) as u16
            }
        };
        match self.newest {
            NONE => self.oldest = place,
            newest => self.flights[usize::from(newest)].newer = place,
        }
        self.newest = place;
        self.by_id[usize::from(id)] = place;
        Some(id)
    }

    /// An id that is not under way, and if possible not one that a late reply may come for.
    fn free_id(&mut self) -> u16 {
        let first: u16 = self.dice.random();
        let ids = (0..=u16::MAX).map(|step| first.wrapping_add(step));
        let mut free = ids.filter(|id| self.by_id[usize::from(*id)] == NONE);
        let next = free.next().unwrap_or(first);
        let is_fresh = |id: &u16| self.timed_out[usize::from(*id)] == 0;
        let id = std::iter::once(next).chain(free.take(RESTING_MAX)).find(is_fresh).unwrap_or(next);
        self.timed_out[usize::from(id)] = 0;
        id
    }

    /// What was asked with this id.
    pub fn asked(&self, id: u16) -> Option<&Asked> {
        self.flights.get(usize::from(self.by_id[usize::from(id)]))?.asked.as_ref()
    }

    /// The id of the question under way, if there is no other.
    pub fn only(&self) -> Option<u16> {
        let oldest = self.flights.get(usize::from(self.oldest))?;
        (self.oldest == self.newest).then_some(oldest.id)
    }

    /// Takes a question out.
    pub fn end(&mut self, id: u16) -> Option<Asked> {
        let place = std::mem::replace(&mut self.by_id[usize::from(id)], NONE);
        let flight = self.flights.get_mut(usize::from(place))?;
        let asked = flight.asked.take();
        let (older, newer) = (flight.older, flight.newer);
        match self.flights.get_mut(usize::from(older)) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
        match self.flights.get_mut(usize::from(newer)) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        self.free.push(place);
        asked
    }

    /// Takes out the oldest question if it was sent at `sent_until` or before, and marks its id:
    /// its reply may still come.
    pub fn time_out(&mut self, sent_until: Duration) -> Option<Asked> {
        let flight = self.flights.get(usize::from(self.oldest))?;
        let id = flight.id;
        let asked = flight.asked.as_ref().filter(|asked| asked.sent <= sent_until)?;
        self.timed_out[usize::from(id)] = mark(&asked.task);
        self.end(id)
    }

    /// Takes out the oldest question.
    pub fn give_up(&mut self) -> Option<Asked> {
        let id = self.flights.get(usize::from(self.oldest))?.id;
        self.end(id)
    }

    /// Whether a message that fits nothing under way is the reply to a question that timed out. It
    /// is so once.
    pub fn is_too_late(&mut self, id: u16, message: &[u8]) -> bool {
        let resting = &mut self.timed_out[usize::from(id)];
        let is_same = *resting != 0 && mark_in(message) == Some(*resting);
        if is_same {
            *resting = 0;
        }
        is_same
    }
}

/// The mark of a question: never 0.
fn mark(task: &Task) -> u16 {
    mark_of(task.name.octets(), task.rtype.0)
}

/// The mark of the question of a message.
fn mark_in(message: &[u8]) -> Option<u16> {
    let (name, rtype) = question::read(message)?;
    Some(mark_of(name, rtype))
}

fn mark_of(name: &[u8], rtype: u16) -> u16 {
    FixedState::with_seed(0).hash_one((name, rtype)) as u16 | 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::task;
    use super::*;
    use crate::wire::UDP_MAX;
    use proptest::prelude::*;

    fn asked(name: &str, at: u64) -> Asked {
        let at = Duration::from_millis(at);
        Asked { task: task(name, "A").into(), due: at, sent: at }
    }

    fn message(name: &str, id: u16) -> Vec<u8> {
        let mut room = [0; UDP_MAX];
        let len = question::write(&task(name, "A"), id, None, &mut room);
        room[..len].to_vec()
    }

    #[test]
    fn as_many_as_there_is_room_for_have_ids_of_their_own() {
        let mut under_way = UnderWay::new();
        let question = Arc::new(task("web", "A"));
        let due = Duration::ZERO;
        let begin = |under_way: &mut UnderWay| {
            under_way.begin(Asked { task: Arc::clone(&question), due, sent: due })
        };
        let ids: Vec<u16> = std::iter::from_fn(|| begin(&mut under_way)).collect();
        assert_eq!(ids.len(), UNDER_WAY_MAX);
        let different: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(different.len(), UNDER_WAY_MAX);
        assert!(ids.windows(2).filter(|two| two[1] == two[0].wrapping_add(1)).count() < 10_000);
        assert!(under_way.end(ids[7]).is_some() && under_way.end(ids[7]).is_none());
        assert!(begin(&mut under_way).is_some() && begin(&mut under_way).is_none());
    }

    #[test]
    fn a_late_reply_is_told_from_a_wrong_one_and_counts_once() {
        let mut under_way = UnderWay::new();
        let id = under_way.begin(asked("web", 5)).unwrap();
        assert!(!under_way.is_too_late(id, &message("web", id)), "it is in time");
        assert!(under_way.time_out(Duration::from_millis(4)).is_none());
        assert!(under_way.time_out(Duration::from_millis(5)).is_some());
        assert!(under_way.asked(id).is_none());
        assert!(!under_way.is_too_late(id, &message("shop", id)));
        assert!(!under_way.is_too_late(id, b"garbage"));
        assert!(under_way.is_too_late(id, &message("web", id)));
        assert!(!under_way.is_too_late(id, &message("web", id)));
    }

    #[test]
    fn ids_of_those_that_timed_out_rest_while_there_are_others() {
        let mut under_way = UnderWay::new();
        for n in 0..1000 {
            under_way.begin(asked("web", n)).unwrap();
        }
        while under_way.time_out(Duration::from_secs(1)).is_some() {}
        let resting: Vec<usize> = (0..IDS).filter(|id| under_way.timed_out[*id] != 0).collect();
        assert_eq!(resting.len(), 1000);
        for n in 0..10_000 {
            let id = under_way.begin(asked("shop", n)).unwrap();
            assert!(!resting.contains(&usize::from(id)));
        }
    }

    proptest! {
        /// Random steps, beside a plain map.
        #[test]
        fn it_is_a_map_that_knows_its_oldest(
            steps in prop::collection::vec((0u8..4, any::<prop::sample::Index>()), 1..200)
        ) {
            let mut under_way = UnderWay::new();
            let mut model: BTreeMap<u64, u16> = BTreeMap::new();
            for (now, (step, which)) in steps.into_iter().enumerate() {
                let now = now as u64;
                match step {
                    0 | 1 => {
                        let id = under_way.begin(asked("web", now)).unwrap();
                        prop_assert!(!model.values().any(|other| *other == id));
                        model.insert(now, id);
                    }
                    2 if !model.is_empty() => {
                        let at = *model.keys().nth(which.index(model.len())).unwrap();
                        let id = model.remove(&at).unwrap();
                        let ended = under_way.end(id).map(|asked| asked.sent);
                        prop_assert_eq!(ended, Some(Duration::from_millis(at)));
                    }
                    _ => {
                        let until = Duration::from_millis(now / 2);
                        while let Some(asked) = under_way.time_out(until) {
                            let (at, _) = model.pop_first().unwrap();
                            prop_assert_eq!(asked.sent, Duration::from_millis(at));
                        }
                        let is_left = |(at, _): (&u64, &u16)| *at > now / 2;
                        prop_assert!(model.first_key_value().is_none_or(is_left));
                    }
                }
                prop_assert_eq!(under_way.len(), model.len());
                prop_assert!(model.values().all(|id| under_way.asked(*id).is_some()));
            }
        }
    }
}

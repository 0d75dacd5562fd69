//! A cheap look between full lists: how many objects the server counts, and how many the watch has
//! told of.
//!
//! ```text
//! list limit=1 ──► version 207, 1 item and 2 more ─┐ compared once the watch has come to 207:
//! watch ─► 205: 3 objects, 206: 2 objects, 209: … ─┘ 3 there, 2 here, so an event was omitted
//! ```
//!
//! It finds objects that were omitted or not taken away within two minutes, for one object and one
//! number on the wire. Changes of objects are found by full lists alone, and so is all that is
//! omitted of Pods: a server does not count what it chooses by a field, and of Pods we want those
//! at work.

use std::time::Duration;

use tokio::time::Instant;

/// Time between two looks, shortest and longest.
const EVERY_S: (f64, f64) = (50.0, 70.0);
/// Longest wait for the watch to come to the version of an answer. Within that time a bookmark came
/// or the watch was silent for too long; a quiet kind may stand behind versions of others for ever.
const ARRIVAL_MAX: Duration = Duration::from_secs(75);
/// Counts that are kept while an answer is awaited; under more changes the look is given up.
const TRACK_MAX: usize = 4096;

/// What the server counted at a version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Count {
    pub version: u64,
    pub objects: u64,
}

/// The server counts otherwise than we do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mismatch {
    pub server: u64,
    pub ours: u64,
}

/// The looks at one kind.
#[derive(Debug)]
pub(super) struct Canary {
    due: Instant,
    /// How many objects there were from which version on, since the question was asked.
    track: Vec<Count>,
    answer: Option<(Count, Instant)>,
    /// How many more the server has than we can read. It was so after a full list, too.
    excess: i64,
    /// What the last look found, if a full list was its consequence.
    found: Option<Mismatch>,
    /// That list is complete.
    is_listed: bool,
}

impl Mismatch {
    fn excess(self) -> i64 {
        self.server as i64 - self.ours as i64
    }
}

impl Canary {
    /// The first look comes after its time.
    pub(super) fn new(now: Instant) -> Self {
        let (track, answer, found) = (Vec::new(), None, None);
        Self { due: next(now), track, answer, excess: 0, found, is_listed: false }
    }

    /// Whether it is time to ask.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.track.is_empty() && self.due <= now
    }

    /// When something is to be done next.
    pub(super) fn wake_at(&self, now: Instant) -> Instant {
        match self.answer {
            Some((_, latest)) => latest,
            None if self.track.is_empty() => self.due,
            // The question has its own end.
            None => now + ARRIVAL_MAX,
        }
    }

    /// The server is asked, while the watch stands here.
    pub(super) fn ask(&mut self, here: Count) {
        self.track = vec![here];
    }

    /// The watch has moved on.
    pub(super) fn move_on(&mut self, here: Count, now: Instant) {
        let Some(last) = self.track.last() else { return };
        if self.track.len() >= TRACK_MAX {
            return self.stop(now);
        }
        if last.objects != here.objects {
            self.track.push(here);
        }
    }

    /// What the server answered, if it did.
    pub(super) fn answer(&mut self, count: Option<Count>, now: Instant) {
        match count {
            Some(count) => self.answer = Some((count, now + ARRIVAL_MAX)),
            None => self.stop(now),
        }
    }

    /// Compares, once the watch is at `version` or its time is over.
    pub(super) fn compare(&mut self, version: u64, now: Instant) -> Option<Mismatch> {
        let (count, latest) = self.answer?;
        if version < count.version && now < latest {
            return None;
        }
        let ours = self.track.iter().rev().find(|here| here.version <= count.version).copied();
        self.stop(now);
        let mismatch = Mismatch { server: count.objects, ours: ours?.objects };
        if mismatch.excess() == self.excess {
            self.found = None;
            return None;
        }
        // A full list did not change it: we cannot read what the server counts.
        let before = self.found.filter(|_| self.is_listed);
        if before.is_some_and(|found| found.excess() == mismatch.excess()) {
            self.found = None;
            self.excess = mismatch.excess();
            return None;
        }
        (self.found, self.is_listed) = (Some(mismatch), false);
        Some(mismatch)
    }

    /// A full list is complete.
    pub(super) fn listed(&mut self) {
        self.is_listed = true;
    }

    /// How many objects too many we had, when a full list has come.
    pub(super) fn surplus(&self) -> usize {
        self.found.map_or(0, |found| found.ours.saturating_sub(found.server) as usize)
    }

    /// Gives a look up; the next one comes at its time.
    pub(super) fn stop(&mut self, now: Instant) {
        self.track = Vec::new();
        self.answer = None;
        self.due = next(now);
    }
}

/// When to look next; spread, so that replicas do not ask together.
fn next(now: Instant) -> Instant {
    now + Duration::from_secs_f64(rand::random_range(EVERY_S.0..EVERY_S.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(version: u64, objects: u64) -> Count {
        Count { version, objects }
    }

    /// Asks at version 10 with 3 objects, moves on through `moves`, is answered and compares.
    fn look(canary: &mut Canary, moves: &[Count], answer: Count) -> Option<Mismatch> {
        let now = Instant::now();
        canary.ask(at(10, 3));
        moves.iter().for_each(|here| canary.move_on(*here, now));
        canary.answer(Some(answer), now);
        let version = moves.last().map_or(10, |here| here.version);
        canary.compare(version, now).or_else(|| canary.compare(version, now + ARRIVAL_MAX))
    }

    #[test]
    fn a8_counts_are_compared_at_the_version_of_the_answer() {
        let mut canary = Canary::new(Instant::now());
        let moves = [at(12, 4), at(15, 5)];
        assert_eq!(look(&mut canary, &moves, at(10, 3)), None);
        assert_eq!(look(&mut canary, &moves, at(13, 4)), None);
        assert_eq!(look(&mut canary, &moves, at(15, 5)), None);
        let mismatch = Some(Mismatch { server: 5, ours: 4 });
        assert_eq!(look(&mut canary, &moves, at(14, 5)), mismatch);
    }

    #[test]
    fn a8_an_answer_that_is_ahead_is_compared_when_the_watch_had_its_time() {
        let now = Instant::now();
        let mut canary = Canary::new(now);
        canary.ask(at(10, 3));
        canary.answer(Some(at(90, 4)), now);
        assert_eq!(canary.compare(10, now), None);
        canary.move_on(at(80, 4), now);
        assert_eq!(canary.compare(80, now), None);
        assert_eq!(canary.compare(80, now + ARRIVAL_MAX), None, "it came in time");
        assert_eq!(look(&mut canary, &[], at(90, 4)), Some(Mismatch { server: 4, ours: 3 }));
    }

    #[test]
    fn what_a_full_list_does_not_change_is_not_found_again() {
        let mut canary = Canary::new(Instant::now());
        for _ in 0..3 {
            assert!(look(&mut canary, &[], at(10, 5)).is_some(), "as long as no list came");
        }
        canary.listed();
        assert_eq!(look(&mut canary, &[], at(10, 5)), None);
        assert_eq!(look(&mut canary, &[], at(10, 5)), None);
        assert!(look(&mut canary, &[], at(10, 6)).is_some());
        assert!(look(&mut canary, &[], at(10, 3)).is_some(), "and something else again");
    }

    #[test]
    fn a_look_is_given_up_under_too_many_changes() {
        let now = Instant::now();
        let mut canary = Canary::new(now);
        canary.ask(at(1, 0));
        (1..=TRACK_MAX as u64 + 1).for_each(|n| canary.move_on(at(n, n), now));
        canary.answer(Some(at(7, 9)), now);
        assert_eq!(canary.compare(9, now), None);
    }
}

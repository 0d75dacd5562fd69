//! What was so, and since when: versions in the order of time, of which the old ones are forgotten.
//!
//! ```text
//! forgotten │ version ─ since ─► version ─ since ─► version: what is so
//! ```
//!
//! Every version that comes is noted in one queue for the whole cluster, [`Aging`]. It says which
//! histories have something to forget, because it is old enough or because there is no more room:
//! so nothing is ever searched for what is old, and quiet names cost nothing.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// For how long it is remembered what was so. An answer that was true before that is no longer
/// told from one that never was.
pub const HISTORY: Duration = Duration::from_secs(120);
/// Most versions that are remembered, of all names together: over 2 000 changes a second.
pub const VERSIONS_MAX: usize = 1 << 18;
/// Most octets of them, as [`Aging::note`] is told: large Services have large versions.
pub const VERSION_OCTETS_MAX: usize = 128 << 20;

/// The versions of one thing; at least one.
#[derive(Debug)]
pub(super) struct History<T> {
    versions: VecDeque<Version<T>>,
}

#[derive(Debug)]
struct Version<T> {
    /// Of the first one it does not count: it is as old as what is known.
    since: Instant,
    value: T,
}

impl<T: PartialEq> History<T> {
    /// A thing that has always been so, as far as is known.
    pub(super) fn always(value: T, now: Instant) -> Self {
        Self { versions: [Version { since: now, value }].into() }
    }

    /// Notes what is so from `now` on. Answers whether that is another version.
    pub(super) fn push(&mut self, value: T, now: Instant) -> bool {
        if *self.newest() == value {
            return false;
        }
        self.versions.push_back(Version { since: now, value });
        true
    }

    /// Forgets all versions and begins with this one.
    pub(super) fn reset(&mut self, value: T, now: Instant) {
        *self = Self::always(value, now);
    }

    /// Forgets the versions that ended at `until` or before.
    pub(super) fn forget(&mut self, until: Instant) {
        while self.versions.get(1).is_some_and(|next| next.since <= until) {
            self.versions.pop_front();
        }
    }

    /// What is so.
    pub(super) fn newest(&self) -> &T {
        &self.versions.back().expect("a history is never empty").value
    }

    /// How many versions are known.
    pub(super) fn len(&self) -> usize {
        self.versions.len()
    }

    /// Since when the version with this number is so; `None` for the first: always.
    pub(super) fn since(&self, at: usize) -> Option<Instant> {
        self.versions.get(at).filter(|_| at > 0).map(|version| version.since)
    }

    /// The version with this number; the newest where there is none.
    pub(super) fn version(&self, at: usize) -> &T {
        self.versions.get(at).map_or(self.newest(), |version| &version.value)
    }

    /// The version at an instant.
    pub(super) fn at(&self, instant: Option<Instant>) -> &T {
        let Some(instant) = instant else { return self.version(0) };
        let later = self.versions.iter().rev().take_while(|version| version.since > instant);
        self.version((self.len() - later.count()).saturating_sub(1))
    }
}

/// The versions of all histories by age, each with a key that says where it is.
#[derive(Debug)]
pub(super) struct Aging<K> {
    noted: VecDeque<Noted<K>>,
    octets: usize,
    versions_max: usize,
    octets_max: usize,
    /// What was so before is forgotten.
    pub(super) known_from: Option<Instant>,
    /// Versions that were forgotten before their time, for want of room.
    pub(super) overflowed: u64,
}

#[derive(Debug)]
struct Noted<K> {
    at: Instant,
    octets: u32,
    key: K,
}

impl<K> Aging<K> {
    /// An empty one, with its bounds.
    pub(super) fn new(versions_max: usize, octets_max: usize) -> Self {
        Self {
            noted: VecDeque::new(),
            octets: 0,
            versions_max,
            octets_max,
            known_from: None,
            overflowed: 0,
        }
    }

    /// Notes that a version of so many octets came at `now`.
    pub(super) fn note(&mut self, key: K, octets: usize, now: Instant) {
        let octets = u32::try_from(octets).unwrap_or(u32::MAX);
        self.octets += octets as usize;
        self.noted.push_back(Noted { at: now, octets, key });
    }

    /// The next history that has something to forget, and until when: what was so before the
    /// version that was noted then.
    pub(super) fn next(&mut self, now: Instant) -> Option<(K, Instant)> {
        let oldest = self.noted.front()?;
        let is_old = oldest.at + HISTORY <= now;
        let is_full = self.noted.len() > self.versions_max || self.octets > self.octets_max;
        if !is_old && !is_full {
            return None;
        }
        self.overflowed += u64::from(!is_old);
        let Noted { at, octets, key } = self.noted.pop_front()?;
        self.octets -= octets as usize;
        self.known_from = Some(at);
        Some((key, at))
    }

    /// How many versions are noted.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.noted.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_version_holds_from_its_instant_to_that_of_the_next() {
        let start = Instant::now();
        let mut history = History::always('a', start);
        assert!(history.push('b', start + SECOND));
        assert!(!history.push('b', start + 2 * SECOND));
        assert!(history.push('c', start + 3 * SECOND));
        let at = |seconds: u32| *history.at(Some(start + seconds * SECOND));
        assert_eq!([at(0), at(1), at(2), at(3), at(9)], ['a', 'b', 'b', 'c', 'c']);
        assert_eq!((*history.at(None), *history.newest(), history.len()), ('a', 'c', 3));
        assert_eq!(history.since(0), None);
        assert_eq!(history.since(2), Some(start + 3 * SECOND));
    }

    #[test]
    fn what_ended_is_forgotten_and_the_newest_stays() {
        let start = Instant::now();
        let mut history = History::always(0, start);
        (1..5).for_each(|n| assert!(history.push(n, start + n * SECOND)));
        history.forget(start + 2 * SECOND);
        assert_eq!((history.len(), *history.version(0)), (3, 2));
        history.forget(start + 99 * SECOND);
        assert_eq!((history.len(), *history.newest()), (1, 4));
    }

    #[test]
    fn versions_age_in_order_and_go_early_where_there_is_no_room() {
        let start = Instant::now();
        let mut aging = Aging::new(2, 100);
        aging.note('a', 10, start);
        assert_eq!(aging.next(start + HISTORY - SECOND), None);
        assert_eq!(aging.next(start + HISTORY), Some(('a', start)));
        assert_eq!(aging.next(start + HISTORY), None);
        ['b', 'c', 'd'].into_iter().for_each(|key| aging.note(key, 10, start));
        assert_eq!(aging.next(start), Some(('b', start)), "too many");
        assert_eq!(aging.next(start), None);
        aging.note('e', 101, start);
        let forgotten: Vec<char> =
            std::iter::from_fn(|| aging.next(start).map(|(key, _)| key)).collect();
        assert_eq!(forgotten, ['c', 'd', 'e'], "too large");
        assert_eq!((aging.overflowed, aging.len(), aging.known_from), (4, 0, Some(start)));
    }
}

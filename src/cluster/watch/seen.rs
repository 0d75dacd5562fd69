//! Which version of each object arrived, to find out what the watch omitted, and what is older than
//! what we hold.
//!
//! An API server or a proxy can lose an event. A full list repairs that, and this counts it: an
//! object whose version is not newer than the position that the watch had reported, and not the
//! one that we hold, was never told to us. 16 bytes per object.
//!
//! ```text
//!   held      position of the watch
//!     │ 5          │ 90
//!  ───┼────────────┼──────────────►  versions
//!   3 outdated     │ 95 news
//!        50 omitted
//! ```

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashMap;

/// Objects per kind whose version is held; further ones are not checked.
const SEEN_MAX: usize = 1_000_000;

/// The versions of one kind.
#[derive(Default)]
pub(super) struct Seen {
    hasher: RandomState,
    held: HashMap<u64, u64>,
    /// Filled while a list goes on, and held after it.
    listed: Option<HashMap<u64, u64>>,
    /// Where the watch stood when the list began; 0 before anything was held.
    horizon: u64,
    /// A list was complete, so that `held` has all objects.
    is_complete: bool,
}

/// What an object that arrived is to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sight {
    /// As it should be.
    News,
    /// A list shows it, and the watch should have: unless the list is older than the watch.
    Omitted,
    /// A newer version of it is held.
    Outdated,
}

impl Seen {
    /// A full list begins; the watch had come to `version`.
    pub(super) fn begin(&mut self, version: Option<&str>) {
        self.break_off();
        self.listed = Some(HashMap::new());
        let is_known = self.is_complete && self.held.len() < SEEN_MAX;
        self.horizon = version.filter(|_| is_known).and_then(number).unwrap_or(0);
    }

    /// Notes an object, and tells what it is.
    pub(super) fn note(&mut self, namespace: &str, name: &str, version: &str) -> Sight {
        let Some(version) = number(version) else { return Sight::News };
        let key = self.hasher.hash_one((namespace, name));
        let (held, is_listing) = (self.held.get(&key).copied(), self.listed.is_some());
        let is_outdated = held.is_some_and(|held| version < held);
        let target = self.listed.as_mut().unwrap_or(&mut self.held);
        if target.len() < SEEN_MAX || target.contains_key(&key) {
            target.insert(key, held.unwrap_or_default().max(version));
        }
        match () {
            () if is_outdated => Sight::Outdated,
            () if is_listing && version <= self.horizon && held != Some(version) => Sight::Omitted,
            () => Sight::News,
        }
    }

    /// Notes a deletion at `version`; false if something newer is held.
    pub(super) fn forget(&mut self, namespace: &str, name: &str, version: &str) -> bool {
        let key = self.hasher.hash_one((namespace, name));
        if let Some((held, version)) = self.held.get(&key).zip(number(version))
            && version < *held
        {
            return false;
        }
        self.held.remove(&key);
        if let Some(listed) = &mut self.listed {
            listed.remove(&key);
        }
        true
    }

    /// Whether a list was complete, so that all objects are known.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Whether a list is under way.
    pub(super) fn is_listing(&self) -> bool {
        self.listed.is_some()
    }

    /// The list is complete. Answers how many objects it had no more.
    pub(super) fn end(&mut self) -> usize {
        let Some(listed) = self.listed.take() else { return 0 };
        let gone = self.held.keys().filter(|key| !listed.contains_key(*key)).count();
        self.held = listed;
        self.is_complete = true;
        gone
    }

    /// The list is given up: what it brought is held as well, for that was passed on.
    pub(super) fn break_off(&mut self) {
        let Some(listed) = self.listed.take() else { return };
        for (key, version) in listed.into_iter().filter(|(_, version)| *version > self.horizon) {
            self.held.insert(key, version);
        }
    }

    /// How many objects there are; `None` when that is not known.
    pub(super) fn count(&self) -> Option<u64> {
        let is_known = self.is_complete && self.listed.is_none() && self.held.len() < SEEN_MAX;
        is_known.then_some(self.held.len() as u64)
    }
}

/// Versions are opaque by contract and numbers in practice; others are not compared.
pub(super) fn number(version: &str) -> Option<u64> {
    version.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list had `web` at 50, and then the watch came to 100.
    fn seen() -> Seen {
        let mut seen = Seen::default();
        seen.begin(None);
        seen.note("shop", "web", "50");
        seen.end();
        seen.begin(Some("100"));
        seen
    }

    #[test]
    fn a9_only_what_the_watch_had_passed_is_omitted_and_what_is_older_is_outdated() {
        for (version, expected) in [
            ("50", Sight::News),
            ("70", Sight::Omitted),
            ("101", Sight::News),
            ("49", Sight::Outdated),
            ("opaque", Sight::News),
        ] {
            assert_eq!(seen().note("shop", "web", version), expected, "{version}");
        }
    }

    #[test]
    fn the_first_list_repairs_nothing() {
        let mut seen = Seen::default();
        // Where a Snapshot stood, which tells nothing of single objects.
        seen.begin(Some("9"));
        assert_eq!(seen.note("shop", "web", "7"), Sight::News);
        assert_eq!((seen.end(), seen.count()), (0, Some(1)));
        seen.begin(Some("9"));
        assert_eq!(seen.note("shop", "web", "7"), Sight::News);
        assert_eq!(seen.note("shop", "api", "8"), Sight::Omitted);
    }

    #[test]
    fn what_a_list_no_longer_has_is_counted_and_one_that_is_given_up_forgets_nothing() {
        let mut seen = seen();
        seen.note("shop", "api", "105");
        seen.begin(Some("100"));
        assert_eq!(seen.note("shop", "api", "103"), Sight::Outdated, "105 was passed on");
        assert_eq!(seen.end(), 1, "web");
        assert_eq!(seen.count(), Some(1));
    }
}

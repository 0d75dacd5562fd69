//! Which version of each object arrived, to find out in a full list what the watch omitted.
//!
//! An API server or a proxy can lose an event. A full list repairs that, and this counts it: an
//! object whose version is not newer than the position that the watch had reported, and not the
//! one that we hold, was never told to us. Lost deletions are repaired too but not counted, for
//! nothing shows whether the watch had reached them. 16 bytes per object.

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
    /// Where the watch stood when the list began.
    horizon: u64,
}

impl Seen {
    /// A full list begins; the watch had come to `version`.
    pub(super) fn begin(&mut self, version: Option<&str>) {
        self.listed = Some(HashMap::new());
        self.horizon = version.and_then(number).unwrap_or(0);
    }

    /// Notes an object. True when a list shows it and the watch should have.
    pub(super) fn note(&mut self, namespace: &str, name: &str, version: &str) -> bool {
        let Some(version) = number(version) else { return false };
        let key = self.hasher.hash_one((namespace, name));
        let is_listing = self.listed.is_some();
        let target = self.listed.as_mut().unwrap_or(&mut self.held);
        if target.len() < SEEN_MAX || target.contains_key(&key) {
            target.insert(key, version);
        }
        is_listing && version <= self.horizon && self.held.get(&key) != Some(&version)
    }

    /// Notes a deletion.
    pub(super) fn forget(&mut self, namespace: &str, name: &str) {
        let key = self.hasher.hash_one((namespace, name));
        self.held.remove(&key);
        if let Some(listed) = &mut self.listed {
            listed.remove(&key);
        }
    }

    /// The list is complete.
    pub(super) fn end(&mut self) {
        if let Some(listed) = self.listed.take() {
            self.held = listed;
        }
    }
}

/// Versions are opaque by contract and numbers in practice; others are not compared.
pub(super) fn number(version: &str) -> Option<u64> {
    version.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists `web` at `version` while the watch stands at 100; it had told us of `web` at 50.
    fn listed_at(version: &str) -> bool {
        let mut seen = Seen::default();
        seen.note("shop", "web", "50");
        seen.begin(Some("100"));
        seen.note("shop", "web", version)
    }

    #[test]
    fn only_what_the_watch_had_passed_is_a_repair() {
        assert!(!listed_at("50"), "known");
        assert!(listed_at("70"), "omitted");
        assert!(!listed_at("101"), "newer than the watch");
        assert!(!listed_at("opaque"), "not comparable");
    }

    #[test]
    fn the_first_list_repairs_nothing() {
        let mut seen = Seen::default();
        seen.begin(None);
        assert!(!seen.note("shop", "web", "7"));
        seen.end();
        seen.begin(Some("9"));
        assert!(!seen.note("shop", "web", "7"));
        assert!(seen.note("shop", "api", "8"));
    }
}

//! The versions that secondaries have, to send them what changed since (RFC 1995 §5).
//!
//! A version is kept when it is handed out, under the address that got it, and while somebody may
//! still have it: what nobody has nobody asks for, however often the cluster changes. And what
//! somebody else handed out under the same serial, such as another replica, is another picture: its
//! owner gets the whole zone.
//!
//! Versions share what did not change between them. What a version keeps alive on its own is
//! counted in names. When that becomes more than a second zone the oldest go, those that only
//! strangers have first: who may ask because everybody may must not cost listed secondaries theirs.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use crate::cluster::zone::Zone;
use crate::wire::Name;

/// Versions that are kept.
pub const VERSIONS_MAX: usize = 64;
/// Holders of one version that are remembered; those beyond get the whole zone next time.
pub const HOLDERS_MAX: usize = 256;
/// Versions that one holder may have: one address may be several secondaries, or one that failed to
/// keep what it got.
pub const HELD_MAX: usize = 4;
/// Names that older versions may keep alive however small the zone is.
const NAMES_MIN: usize = 4096;

/// Who has a copy of which zone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    pub address: IpAddr,
    pub apex: Name,
    /// Whether the directive names it, so that it is no stranger.
    pub is_listed: bool,
}

/// The versions, oldest first.
#[derive(Default)]
pub struct Journal {
    versions: VecDeque<Version>,
    /// Versions that were given up to stay within the bounds.
    pub dropped: u64,
}

struct Version {
    zone: Arc<Zone>,
    holders: Vec<Holder>,
    /// Names that the next version has otherwise: what this one keeps alive.
    names: usize,
}

impl Journal {
    /// Remembers that `holder` gets this Zone.
    pub fn note(&mut self, zone: &Arc<Zone>, holder: Holder) {
        if !self.versions.back().is_some_and(|last| Arc::ptr_eq(&last.zone, zone)) {
            self.push(zone);
        }
        if self.versions.back_mut().is_some_and(|last| last.add(&holder)) {
            self.release(&holder);
        }
        self.keep_to_bounds(zone);
    }

    fn push(&mut self, zone: &Arc<Zone>) {
        let distance = self.versions.back().map(|last| last.zone.distance(zone, names_max(zone)));
        match (self.versions.back_mut(), distance) {
            (Some(last), Some(Some(names))) => last.names = names,
            (Some(_), _) => self.drop_all(),
            (None, _) => {}
        }
        self.versions.push_back(Version { zone: zone.clone(), holders: Vec::new(), names: 0 });
    }

    /// Forgets what a holder had before its newest versions, and the versions that nobody has then.
    fn release(&mut self, holder: &Holder) {
        let held = |version: &Version| version.holders.contains(holder);
        let mut held = (0..self.versions.len()).rev().filter(|at| held(&self.versions[*at]));
        let Some(at) = held.nth(HELD_MAX) else { return };
        self.versions[at].holders.retain(|it| it != holder);
        if self.versions[at].holders.is_empty() {
            self.remove(at);
        }
    }

    /// Drops versions until what they keep alive is within the bounds. The newest stays.
    fn keep_to_bounds(&mut self, newest: &Zone) {
        let names = |it: &Self| it.versions.iter().map(|version| version.names).sum::<usize>();
        while self.versions.len() > VERSIONS_MAX || names(self) > names_max(newest) {
            let older = self.versions.len().saturating_sub(1);
            let of_strangers = self.versions.iter().take(older).position(|it| !it.is_listed());
            self.remove(of_strangers.unwrap_or(0));
            self.dropped += 1;
        }
    }

    fn remove(&mut self, at: usize) {
        self.versions.remove(at);
        // What the one before it differs in from the next is not what either differed in.
        let Some(next) = self.versions.get(at).map(|next| next.zone.clone()) else { return };
        if let Some(before) = at.checked_sub(1).and_then(|at| self.versions.get_mut(at)) {
            let max = names_max(&next);
            before.names = before.zone.distance(&next, max).unwrap_or(max);
        }
    }

    /// Gives up versions that cannot be compared with the next one.
    fn drop_all(&mut self) {
        self.dropped += self.versions.len() as u64;
        self.versions.clear();
    }

    /// The version with this serial, if that is what `holder` has.
    pub fn find(&self, serial: u32, holder: &Holder) -> Option<Arc<Zone>> {
        let is_it =
            |it: &&Version| it.zone.serial == serial && it.holders.iter().any(|it| it == holder);
        let mut found = self.versions.iter().filter(is_it);
        let version = found.next()?;
        // Two pictures under one serial, which copies in the moment of a publish may be: we cannot
        // tell which of them the holder means.
        found.next().is_none().then(|| version.zone.clone())
    }

    /// Versions at hand.
    pub fn len(&self) -> usize {
        self.versions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.versions.is_empty()
    }
}

impl Version {
    /// Adds a holder, if it is none and there is room. A listed one takes that of a stranger.
    fn add(&mut self, holder: &Holder) -> bool {
        if self.holders.contains(holder) {
            return false;
        }
        if self.holders.len() >= HOLDERS_MAX {
            let stranger = self.holders.iter().position(|it| holder.is_listed && !it.is_listed);
            let Some(stranger) = stranger else { return false };
            self.holders.swap_remove(stranger);
        }
        self.holders.push(holder.clone());
        true
    }

    /// Whether a listed secondary has it.
    fn is_listed(&self) -> bool {
        self.holders.iter().any(|it| it.is_listed)
    }
}

/// Names that older versions may keep alive beside this one.
fn names_max(newest: &Zone) -> usize {
    newest.name_count().max(NAMES_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(serial: u32) -> Arc<Zone> {
        let mut zone = Zone::unsynced();
        zone.serial = serial;
        Arc::new(zone)
    }

    /// The next version of a Zone.
    fn next(zone: &Zone) -> Arc<Zone> {
        let mut next = zone.clone();
        next.serial = next.serial.wrapping_add(1);
        Arc::new(next)
    }

    fn holder(last: u8) -> Holder {
        let apex = Name::parse("cluster.local").unwrap();
        Holder { address: [10, 0, 0, last].into(), apex, is_listed: true }
    }

    #[test]
    fn a_version_is_found_by_those_who_have_it() {
        let mut journal = Journal::default();
        let first = zone(7);
        let second = next(&first);
        journal.note(&first, holder(1));
        journal.note(&second, holder(2));
        assert!(Arc::ptr_eq(&journal.find(7, &holder(1)).unwrap(), &first));
        assert!(journal.find(7, &holder(2)).is_none(), "it had that from somebody else");
        assert!(journal.find(9, &holder(1)).is_none());
        let elsewhere = Holder { apex: Name::root(), ..holder(1) };
        assert!(journal.find(7, &elsewhere).is_none(), "another zone");
    }

    #[test]
    fn two_pictures_of_one_serial_are_not_told_apart() {
        let mut journal = Journal::default();
        let first = zone(7);
        journal.note(&first, holder(1));
        journal.note(&Arc::new((*first).clone()), holder(1));
        assert_eq!(journal.len(), 2);
        assert!(journal.find(7, &holder(1)).is_none());
    }

    #[test]
    fn a_holder_has_its_last_versions_and_what_nobody_has_is_given_up() {
        let mut journal = Journal::default();
        let mut zone = zone(u32::MAX - 3);
        let first = zone.serial;
        journal.note(&zone, holder(1));
        for _ in 0..2 * VERSIONS_MAX {
            zone = next(&zone);
            journal.note(&zone, holder(2));
        }
        assert_eq!((journal.len(), journal.dropped), (1 + HELD_MAX, 0));
        assert!(journal.find(first, &holder(1)).is_some(), "who was away for long");
        let oldest = zone.serial.wrapping_sub(HELD_MAX as u32 - 1);
        assert!(journal.find(oldest, &holder(2)).is_some());
        assert!(journal.find(oldest.wrapping_sub(1), &holder(2)).is_none());
    }

    #[test]
    fn the_oldest_versions_go_and_are_counted() {
        let mut journal = Journal::default();
        let mut zone = zone(7);
        for n in 0..VERSIONS_MAX + 2 {
            zone = next(&zone);
            journal.note(&zone, holder(n as u8));
        }
        assert_eq!((journal.len(), journal.dropped), (VERSIONS_MAX, 2));
        assert!(journal.find(9, &holder(1)).is_none());
        assert!(journal.find(10, &holder(2)).is_some());
    }

    #[test]
    fn strangers_cost_listed_holders_nothing() {
        let mut journal = Journal::default();
        let mut zone = zone(7);
        journal.note(&zone, holder(0));
        let stranger = |n| Holder { is_listed: false, ..holder(n) };
        for n in 0..=2 * VERSIONS_MAX {
            zone = next(&zone);
            journal.note(&zone, stranger(n as u8));
        }
        assert_eq!(journal.len(), VERSIONS_MAX);
        assert!(journal.find(7, &holder(0)).is_some());
        assert!(journal.find(zone.serial, &stranger(2 * VERSIONS_MAX as u8)).is_some());
        for n in 0..HOLDERS_MAX {
            journal.note(&zone, Holder { address: [10, 9, 9, n as u8].into(), ..stranger(0) });
        }
        journal.note(&zone, holder(0));
        assert!(journal.find(zone.serial, &holder(0)).is_some(), "a stranger made room");
    }

    #[test]
    fn holders_of_a_version_are_bounded() {
        let mut journal = Journal::default();
        let zone = zone(7);
        for n in 0..=HOLDERS_MAX {
            let address = [10, 0, (n / 256) as u8, (n % 256) as u8].into();
            journal.note(&zone, Holder { address, ..holder(0) });
        }
        assert!(journal.find(7, &holder(255)).is_some());
        let late = Holder { address: [10, 0, 1, 0].into(), ..holder(0) };
        assert!(journal.find(7, &late).is_none());
    }

    #[test]
    fn versions_that_cannot_be_compared_are_given_up() {
        let mut journal = Journal::default();
        journal.note(&zone(7), holder(1));
        journal.note(&zone(8), holder(1));
        assert_eq!((journal.len(), journal.dropped), (1, 1));
    }
}

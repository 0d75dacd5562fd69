//! Which changes have been seen in answers, so that each counts once.

use std::collections::HashMap;
use std::hash::BuildHasher;

use tokio::time::Instant;

use super::history::HISTORY;
use super::question::Sought;
use super::weigh::{Answer, Past, Shows};
use crate::wire::NameRef;

/// Most names that are remembered with the last change that was seen; later ones are not told of.
pub const SHOWN_MAX: usize = 1 << 16;

/// For each question until when its changes have been seen.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// By a hash of name and question: two that collide cost one figure.
    seen: HashMap<u64, Instant>,
    hasher: foldhash::fast::RandomState,
    swept: Option<Instant>,
    /// Changes that were not told of, for want of room.
    pub(super) overflowed: u64,
}

impl Shown {
    /// The change that this answer is the first to show.
    pub(super) fn first(
        &mut self,
        (name, sought): (NameRef<'_>, Sought),
        answer: &Answer<'_>,
        past: &Past<'_>,
    ) -> Option<Instant> {
        let renewed = past.renewed()?;
        let key = self.hasher.hash_one((name, sought));
        let seen = self.seen.get(&key).copied();
        if seen.is_some_and(|seen| seen >= renewed) {
            return None;
        }
        let shows = answer.shows(past, seen);
        if shows == Shows::Older || !self.has_room(key, answer.to) {
            return None;
        }
        self.seen.insert(key, renewed);
        match shows {
            Shows::Change(since) => Some(since),
            Shows::Nothing | Shows::Older => None,
        }
    }

    /// Makes room by forgetting what the model has forgotten too; at times, for it looks at all.
    fn has_room(&mut self, key: u64, now: Instant) -> bool {
        if self.seen.len() < SHOWN_MAX || self.seen.contains_key(&key) {
            return true;
        }
        if self.swept.is_none_or(|swept| swept + HISTORY / 8 <= now) {
            self.swept = Some(now);
            self.seen.retain(|_, seen| *seen + HISTORY > now);
        }
        let has_room = self.seen.len() < SHOWN_MAX;
        self.overflowed += u64::from(!has_room);
        has_room
    }
}

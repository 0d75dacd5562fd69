//! What of a full list is believed: nothing older than what we hold gets in.
//!
//! ```text
//! list of version 80, watch at 90 ──► refused ──► asked for again, not older than 90
//!                                                   │ three times and 20 s, and no watch goes on
//!                                                   ▼
//!                                   the history of the server went back: taken as it is
//! ```
//!
//! A streaming list tells its version at its end. Until then an object is held back if the watch
//! had passed its version and did not tell of it: it was omitted, or deleted since.

use std::time::Duration;

use tokio::time::Instant;

use crate::cluster::read::Found;
use crate::cluster::watch::Watcher;
use crate::cluster::watch::seen::{Seen, number};
use crate::cluster::watch::trouble::Trouble;

/// Objects that are held back. A list with more of them is asked for in pages.
const SUSPECTS_MAX: usize = 1000;
/// Lists that are refused, and for how long at least, before an older one is the truth: etcd was
/// restored from a backup. Replicas of an API server do not lag that long.
const REFUSALS_MAX: u32 = 3;
const HISTORY_PATIENCE: Duration = Duration::from_secs(20);

/// What is doubted of the list under way and of those before it.
#[derive(Default)]
pub(super) struct Doubts {
    /// Objects held back.
    suspects: Vec<Found>,
    /// The list is known not to be older than the watch.
    pub is_proven: bool,
    repaired: usize,
    /// The first object that was omitted.
    first: Option<String>,
    refusals: Option<Refusals>,
}

/// Lists that were older than the watch, or would have been.
struct Refusals {
    since: Instant,
    count: u32,
    /// Where the watch was at the first one.
    passed: Option<String>,
}

impl Refusals {
    /// None yet, of a watch that stands there.
    fn at(passed: Option<&str>) -> Self {
        Self { since: Instant::now(), count: 0, passed: passed.map(str::to_owned) }
    }
}

impl Doubts {
    /// Whether an older list, or an older event, was refused, and no newer list has come.
    pub(super) fn is_refusing(&self) -> bool {
        self.refusals.is_some()
    }

    /// Notes that something older than `passed` came.
    pub(super) fn refuse(&mut self, passed: Option<&str>) {
        self.refusals.get_or_insert_with(|| Refusals::at(passed)).count += 1;
    }

    fn is_out_of_patience(&self) -> bool {
        self.refusals
            .as_ref()
            .is_some_and(|it| it.count > REFUSALS_MAX && it.since.elapsed() >= HISTORY_PATIENCE)
    }
}

impl Watcher {
    /// The version that a list must not be older than: if one was, and as long as nothing is known
    /// of the objects at our position, which is from before the start then. A streaming list shows
    /// only at its end how old it is.
    pub(super) fn not_older(&self) -> Option<&str> {
        let is_wanted = self.doubts.is_refusing() || !self.seen.is_complete();
        self.passed.as_deref().filter(|_| is_wanted)
    }

    /// A list is asked for. When only older ones came and no watch went on, ours is no history:
    /// nothing of it is asked for any more. A watch that is merely open shows nothing.
    pub(super) fn lose_patience(&mut self) {
        let refusals = self.doubts.refusals.as_ref();
        let Some(refusals) = refusals.filter(|_| self.doubts.is_out_of_patience()) else { return };
        if self.version.is_some() && refusals.passed != self.passed {
            self.doubts.refusals = Some(Refusals::at(self.passed.as_deref()));
            return;
        }
        let had = self.passed.take().unwrap_or_default();
        let resource = self.resource();
        tracing::warn!(resource, had, "the API server has gone back in time; it is followed");
        self.version = None;
        self.seen = Seen::default();
        self.doubts.refusals = None;
    }

    /// A list begins.
    pub(super) fn begin_to_doubt(&mut self) {
        self.doubts.suspects.clear();
        self.doubts.is_proven = false;
        (self.doubts.repaired, self.doubts.first) = (0, None);
    }

    /// Refuses a list of a version that the watch has passed.
    pub(super) fn believe(&mut self, version: &str) -> Result<(), Trouble> {
        let had = self.passed.as_deref().unwrap_or_default();
        if number(had).zip(number(version)).is_none_or(|(had, got)| got >= had) {
            return Ok(());
        }
        let (had, got) = (had.to_owned(), version.to_owned());
        self.feed.kind(self.kind).outdated.add(1);
        Err(Trouble::Older { had, got })
    }

    /// Takes an object of a list that the watch should have told of: at once if the list is known
    /// to be new, else at its end.
    pub(super) async fn suspect(&mut self, found: Found) -> Result<(), Trouble> {
        if self.doubts.is_proven {
            return self.repair(found).await;
        }
        if self.doubts.suspects.len() >= SUSPECTS_MAX {
            return Err(Trouble::Suspect(SUSPECTS_MAX));
        }
        self.doubts.suspects.push(found);
        Ok(())
    }

    /// Something newer came of an object that may be held back, as a change beside a list.
    pub(super) fn clear_of_doubt(&mut self, namespace: &str, name: &str) {
        self.doubts.suspects.retain(|found| found.identity() != (namespace, name));
    }

    /// The list is not older than the watch, so what was held back is true.
    pub(super) async fn pass_suspects_on(&mut self) -> Result<(), Trouble> {
        for found in std::mem::take(&mut self.doubts.suspects) {
            self.repair(found).await?;
        }
        Ok(())
    }

    async fn repair(&mut self, found: Found) -> Result<(), Trouble> {
        if self.doubts.first.is_none() {
            let (namespace, name) = found.identity();
            self.doubts.first = Some(format!("{namespace}/{name}"));
        }
        self.doubts.repaired += 1;
        Ok(self.pass_on(found).await?)
    }

    /// A list is complete, and does not have `gone` objects that were held. Counts what it
    /// repaired, and answers whether that is reason to look again soon. All that are gone were
    /// omitted if the watch had come to the version of the list; else they may have gone since, but
    /// for those that the canary missed.
    pub(super) fn end_doubt(&mut self, gone: usize, is_same: bool) -> bool {
        self.doubts.refusals = None;
        let surplus = if is_same { gone } else { self.canary.surplus().min(gone) };
        self.canary.listed();
        self.canary.stop(Instant::now());
        let repairs = self.doubts.repaired + surplus;
        if repairs == 0 {
            return false;
        }
        self.feed.kind(self.kind).repairs.add(repairs as u64);
        let (resource, first) = (self.resource(), self.doubts.first.take().unwrap_or_default());
        tracing::warn!(
            resource,
            repairs,
            deletions = surplus,
            first,
            "the watch had omitted changes; a full list has repaired them"
        );
        true
    }
}

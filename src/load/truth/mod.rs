//! What the objects of the cluster said at each instant, and so which answers were true.
//!
//! ```text
//! source ─► follow ─► model: objects, and a history of each Service ─┐
//! an answer ─► question: what the name asks for ─► weigh ◄───────────┘─► Verdict
//!                                                    └─ seems wrong: retrial, a moment later
//! ```
//!
//! A model of its own, small on purpose: it shares the reading of objects with the server and
//! nothing of how that makes answers.
//!
//! We hear of a change when the server does, a little earlier or later. So an answer is true if it
//! was so at any instant from the question, less the bound of staleness, up to the answer and what
//! a server may be ahead of us ([`Truth::early`]). An answer that fits nothing that we have heard
//! of so far may fit what we hear of next: what is not final ([`Truth::is_final`]) is judged again
//! by then. [`Retrial`] does that for drivers, [`Truth::judge_later`] for whoever can wait.
//!
//! Not judged, for they depend on how a server is set up: names of Pods and of zones, `dns-version`
//! and `ns.dns`, addresses under names of ports, SRV records of endpoints, and what stands behind
//! an ExternalName (but for no answer at all). Nor is an answer that is not true as far as we know
//! while we know too little: before the first full lists and `staleness` after them, and positive
//! answers while no watch is open. A denial of that time waits until the watches are open, for
//! [`BLIND_MAX`] at most: it is wrong if the name is still there, else nobody knows. Each that is
//! not judged is counted ([`Skips`]).

mod expected;
mod follow;
mod history;
mod model;
mod question;
mod retrial;
mod reverse;
mod shown;
mod weigh;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

pub use follow::Running;
pub use history::{HISTORY, VERSION_OCTETS_MAX, VERSIONS_MAX};
use model::Model;
pub use question::{Family, Sought};
pub use retrial::{Case, Judged, RETRIALS_MAX, Retrial};
pub use shown::SHOWN_MAX;
use shown::Shown;
use weigh::{Answer, Past, Weighed};

use super::Error;
use crate::cluster::object::{Change, Object};
use crate::wire::Name;

/// Largest bound of staleness: the rest of [`HISTORY`] tells stale from wrong.
pub const STALENESS_MAX: Duration = Duration::from_secs(60);

/// Longest wait for a watch, to know whether a denial was wrong: as long as changes are remembered.
pub const BLIND_MAX: Duration = HISTORY;
/// How often it is looked whether a watch is open again.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What an answer said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Addresses of the family, or of both, that was sought. `is_cut` when the server could not
    /// send all (TC): any part of them is right.
    Addresses { set: BTreeSet<IpAddr>, is_cut: bool },
    /// Names: of a PTR, or targets of SRV.
    Names { set: BTreeSet<Name>, is_cut: bool },
    /// The name exists, without such records.
    NoData,
    /// The name does not exist.
    NxDomain,
    /// The one or the other: an application is not told which.
    NoAddress,
    /// Nothing: no answer in time, or a failure of the server.
    Nothing,
}

/// Whether an answer was true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// True at some instant between the question, less the bound, and the answer.
    Ok,
    /// True once, but not within the bound.
    Stale,
    /// A denial, while there were such records all the time; or of the name, while it existed.
    WrongNegative,
    /// Records that never were, as far as is remembered; or that the name exists, while it did not.
    WrongPositive,
    /// No answer.
    Lost,
}

/// A verdict, and how soon a change was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Whether it was true.
    pub verdict: Verdict,
    /// This is the first answer that shows the last change of that name, so long after it.
    pub fresh_after: Option<Duration>,
}

/// Answers that were not judged, by reason. Names outside of the cluster are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Skips {
    /// The cluster was not known yet.
    pub unknown: u64,
    /// The model does not say what is right.
    pub uncovered: u64,
    /// Not true as far as is known, but not enough is known of that time.
    pub forgotten: u64,
    /// The same, while no watch was open.
    pub blind: u64,
    /// Judged at once though that was not final, because too many waited ([`RETRIALS_MAX`]).
    pub overflowed: u64,
    /// Versions that were forgotten before their time; `forgotten` may be a consequence.
    pub versions_overflowed: u64,
    /// Changes whose first answer was not told, because too many names changed.
    pub changes_overflowed: u64,
}

/// The history of the cluster's names.
#[derive(Debug)]
pub struct Truth {
    model: RwLock<Model>,
    shown: Mutex<Shown>,
    staleness: Duration,
    early: Duration,
    /// An API server vouches for the objects, and not a file that anybody can write.
    is_live: bool,
    synced: watch::Sender<bool>,
    counts: Counts,
}

/// See [`Skips`].
#[derive(Debug, Default)]
struct Counts {
    unknown: AtomicU64,
    uncovered: AtomicU64,
    forgotten: AtomicU64,
    blind: AtomicU64,
    overflowed: AtomicU64,
}

impl Truth {
    /// A truth without a source: whoever holds it tells it what there is ([`Truth::hear`]). An
    /// answer may be older than that by `staleness`, and newer by `early`.
    pub fn told(domain: Name, staleness: Duration, early: Duration) -> Self {
        Self {
            model: RwLock::new(Model::new(domain)),
            shown: Mutex::default(),
            staleness,
            early,
            is_live: true,
            synced: watch::Sender::new(false),
            counts: Counts::default(),
        }
    }

    /// Judges an answer by what has been heard of so far. `None` where nothing is known of the
    /// name: it is outside of the cluster, the cluster is not known yet, or what is right depends
    /// on more than its objects. See [`Truth::is_final`].
    pub fn judge(
        &self,
        name: &Name,
        sought: Sought,
        said: &Said,
        asked: Instant,
        answered: Instant,
    ) -> Option<Judgement> {
        let model = self.model.read();
        let Some(known_from) = model.known_from() else { return count(&self.counts.unknown) };
        let past = model.past(name.as_ref(), sought)?;
        let from = asked.checked_sub(self.staleness).unwrap_or(asked);
        let to = answered + self.early;
        let answers = families(sought, said);
        let answers = answers
            .iter()
            .map(|(family, said)| (Answer { said, family: *family, from, to, known_from }, sought));
        let judged = answers.map(|(answer, sought)| {
            let verdict = self.verdict(&model, &answer, &past)?;
            let changed = (verdict == Verdict::Ok)
                .then(|| self.first_to_show(name, sought, &answer, &past))
                .flatten();
            let fresh_after = changed.map(|since| answered.saturating_duration_since(since));
            Some(Judgement { verdict, fresh_after })
        });
        judged.reduce(both)?
    }

    /// The same for a case.
    pub fn judge_case(&self, case: &Case) -> Option<Judgement> {
        self.judge(&case.name, case.sought, &case.said, case.asked, case.answered)
    }

    /// The same, at once where that is final, else as soon as it is.
    pub async fn judge_later(&self, case: &Case) -> Option<Judgement> {
        let judgement = self.judge_case(case);
        if Self::is_final(judgement) {
            return judgement;
        }
        sleep_until(case.answered + self.early).await;
        loop {
            if let Some(judgement) = self.settle(case, Instant::now()) {
                return judgement;
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// The judgement on a case that is older than [`Truth::early`]; `None` while it may have to do
    /// with a change that a closed watch keeps from us.
    fn settle(&self, case: &Case, now: Instant) -> Option<Option<Judgement>> {
        let judgement = self.judge_case(case);
        let is_denial = judgement.is_some_and(|it| it.verdict == Verdict::WrongNegative);
        let from = case.asked.checked_sub(self.staleness).unwrap_or(case.asked);
        if !is_denial || !self.model.read().misses(from, self.early, now) {
            return Some(judgement);
        }
        (now >= case.answered + BLIND_MAX).then(|| count(&self.counts.blind))
    }

    /// Whether a judgement stays, whatever is heard of later. One that does not is to be made
    /// again [`Truth::early`] after the answer.
    pub fn is_final(judgement: Option<Judgement>) -> bool {
        judgement.is_none_or(|it| matches!(it.verdict, Verdict::Ok | Verdict::Lost))
    }

    /// How much earlier than us a server may hear of a change.
    pub fn early(&self) -> Duration {
        self.early
    }

    /// Whether the cluster is known.
    pub fn is_known(&self) -> bool {
        *self.synced.borrow()
    }

    /// Waits until the cluster is known. What it was before that, nobody can tell: for the bound of
    /// staleness longer, answers that seem wrong are not judged.
    ///
    /// # Errors
    /// It is not known in time.
    pub async fn known(&self, patience: Duration) -> Result<(), Error> {
        let mut synced = self.synced.subscribe();
        match timeout(patience, synced.wait_for(|is_synced| *is_synced)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Cluster(format!(
                "the objects of the cluster did not come within {} s; check that its API server \
                 answers, and that namespaces, services and endpointslices may be listed and \
                 watched",
                patience.as_secs_f32()
            ))),
        }
    }

    /// The Namespaces, Services and slices that there are, in order.
    pub fn objects(&self) -> Vec<Arc<Object>> {
        self.model.read().objects()
    }

    /// The addresses that are the cluster's for sure: of Services, and of endpoints that are Pods,
    /// ready or not. None where the objects come from files. Endpoints without a selector
    /// are whatever somebody wrote there, such as a resolver elsewhere.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        if self.is_live { self.model.read().own_addresses() } else { BTreeSet::new() }
    }

    /// Counts what has changed: when it has grown, [`Truth::objects`] are others.
    pub fn generation(&self) -> u64 {
        self.model.read().generation()
    }

    /// Answers that were not judged so far.
    pub fn skips(&self) -> Skips {
        Skips {
            unknown: self.counts.unknown.load(Relaxed),
            uncovered: self.counts.uncovered.load(Relaxed),
            forgotten: self.counts.forgotten.load(Relaxed),
            blind: self.counts.blind.load(Relaxed),
            overflowed: self.counts.overflowed.load(Relaxed),
            versions_overflowed: self.model.read().overflowed(),
            changes_overflowed: self.shown.lock().overflowed,
        }
    }

    /// Counts a case that had to wait and could not.
    fn count_overflow(&self) {
        self.counts.overflowed.fetch_add(1, Relaxed);
    }

    /// Takes changes in that were heard of at `now`, which never goes back.
    pub fn hear(&self, changes: impl IntoIterator<Item = Change>, now: Instant) {
        let mut model = self.model.write();
        changes.into_iter().for_each(|change| model.take(change, now));
        if model.known_from().is_some() {
            self.synced.send_if_modified(|is_synced| !std::mem::replace(is_synced, true));
        }
    }

    /// Forgets what is old, and notes whether we hear of changes at all.
    fn tend(&self, is_open: bool, now: Instant) {
        let mut model = self.model.write();
        model.age(now);
        model.watch(is_open, now);
    }

    fn verdict(&self, model: &Model, answer: &Answer<'_>, past: &Past<'_>) -> Option<Verdict> {
        match answer.weigh(past) {
            // Without a watch, a record that we do not know of may be a new one, and a name that is
            // denied may be gone: the first list or watch that comes tells.
            Weighed::Sure(Verdict::Stale | Verdict::WrongPositive)
                if model.was_blind(answer.from) =>
            {
                count(&self.counts.blind)
            }
            Weighed::Sure(Verdict::WrongNegative) => {
                match self.is_denied_wrongly(model, answer, past) {
                    true => Some(Verdict::WrongNegative),
                    false => count(&self.counts.blind),
                }
            }
            Weighed::Sure(verdict) => Some(verdict),
            Weighed::Uncovered => count(&self.counts.uncovered),
            Weighed::Forgotten => count(&self.counts.forgotten),
        }
    }

    /// Whether a denial is wrong by what was heard after the watches were closed, too: what was
    /// heard then may have happened before.
    fn is_denied_wrongly(&self, model: &Model, answer: &Answer<'_>, past: &Past<'_>) -> bool {
        let missed = model.missed_until(answer.from);
        let to = missed.map_or(answer.to, |until| answer.to.max(until + self.early));
        Answer { to, ..*answer }.weigh(past) == Weighed::Sure(Verdict::WrongNegative)
    }

    /// When the change came that this answer is the first to show.
    fn first_to_show(
        &self,
        name: &Name,
        sought: Sought,
        answer: &Answer<'_>,
        past: &Past<'_>,
    ) -> Option<Instant> {
        // Nothing is locked for names that have not changed, which most have not.
        past.renewed()?;
        let sought = match sought {
            Sought::Addresses(_) => Sought::Addresses(answer.family),
            other => other,
        };
        self.shown.lock().first((name.as_ref(), sought), answer, past)
    }
}

/// Counts an answer that is not judged.
fn count<T>(counter: &AtomicU64) -> Option<T> {
    counter.fetch_add(1, Relaxed);
    None
}

/// An answer as one of each family that it is to be judged for.
fn families<'s>(sought: Sought, said: &'s Said) -> Vec<(Family, Cow<'s, Said>)> {
    let as_it_is = |family| vec![(family, Cow::Borrowed(said))];
    match (sought, said) {
        (_, Said::Nothing) => as_it_is(Family::Both),
        (Sought::Addresses(Family::Both), Said::Addresses { set, is_cut }) if !set.is_empty() => {
            let parts = [Family::V4, Family::V6].into_iter().filter_map(|family| {
                let set: BTreeSet<_> = set.iter().filter(|it| family.has(it)).copied().collect();
                let is_there = !set.is_empty();
                is_there.then_some((family, Cow::Owned(Said::Addresses { set, is_cut: *is_cut })))
            });
            parts.collect()
        }
        (Sought::Addresses(Family::Both), _) => {
            [Family::V4, Family::V6].map(|it| (it, Cow::Owned(Said::NoAddress))).into()
        }
        (Sought::Addresses(family), _) => as_it_is(family),
        _ => as_it_is(Family::Both),
    }
}

/// The judgement on both families of an answer: the worse one.
fn both(one: Option<Judgement>, other: Option<Judgement>) -> Option<Judgement> {
    let is_fault = |it: &Option<Judgement>| it.is_some_and(|it| it.verdict != Verdict::Ok);
    let (Some(first), Some(second)) = (one, other) else {
        return if is_fault(&one) { one } else { other.filter(|_| is_fault(&other)) };
    };
    let verdict = if is_fault(&one) { first.verdict } else { second.verdict };
    Some(Judgement { verdict, fresh_after: first.fresh_after.max(second.fresh_after) })
}

#[cfg(test)]
mod tests;

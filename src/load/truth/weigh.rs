//! Whether an answer was true at some instant of a window, and if not, what was wrong with it.
//!
//! ```text
//!        asked − staleness ├────────── window ──────────┤ answered + early
//! version 1 ───────► version 2 ───────► version 3 ───────────────► version 4
//! true only before: stale       true here: ok             not heard of yet: judge again later
//! ```

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;

use super::expected::{Expected, State};
use super::history::History;
use super::question::{Family, Part, Sought};
use super::{Said, Verdict};
use crate::wire::NameRef;

/// Most versions that are looked at to find when the last change of a name was.
const CHANGES_MAX: usize = 64;

/// What was right for one question, in the order of time.
pub(super) enum Past<'m> {
    /// Always the same.
    Steady(Expected<'m>),
    /// Whether a Namespace exists.
    Namespace(&'m History<bool>),
    /// What a Service is.
    Service(OfService<'m>),
    /// Which Services have an address.
    Address(OfAddress<'m>),
}

/// See [`Past::Service`].
pub(super) struct OfService<'m> {
    pub(super) history: &'m History<Held>,
    pub(super) key: &'m [u8],
    pub(super) asked: (Part<'m>, Sought),
    pub(super) domain: NameRef<'m>,
}

/// What there is of a Service; nothing where it does not exist, or its Namespace does not.
pub(super) type Held = Option<Arc<State>>;

/// See [`Past::Address`].
pub(super) struct OfAddress<'m> {
    owners: Vec<(&'m [u8], &'m History<Held>)>,
    /// When one of them changed.
    instants: Vec<Instant>,
    address: IpAddr,
    sought: Sought,
    domain: NameRef<'m>,
}

impl<'m> OfAddress<'m> {
    /// The past of an address that these Services have, or had.
    pub(super) fn new(
        owners: Vec<(&'m [u8], &'m History<Held>)>,
        (address, sought): (IpAddr, Sought),
        domain: NameRef<'m>,
    ) -> Self {
        let changes = |(_, history): &(_, &'m History<Held>)| {
            (1..history.len()).filter_map(|at| history.since(at)).collect::<Vec<_>>()
        };
        let mut instants: Vec<Instant> = owners.iter().flat_map(changes).collect();
        instants.sort_unstable();
        instants.dedup();
        Self { owners, instants, address, sought, domain }
    }

    fn expected(&self, at: usize) -> Expected<'m> {
        let instant = at.checked_sub(1).and_then(|at| self.instants.get(at)).copied();
        let names = self.owners.iter().filter_map(|(key, history)| {
            let state = history.at(instant).as_ref()?;
            Some(state.names_of(self.address, key, self.domain))
        });
        let (services, hosts): (Vec<_>, Vec<_>) = names.unzip();
        let services: BTreeSet<_> = services.into_iter().flatten().collect();
        let hosts: BTreeSet<_> = hosts.into_iter().flatten().collect();
        match self.sought {
            // Whoever else has the address may be asked (`fallthrough in-addr.arpa`).
            _ if services.is_empty() && hosts.is_empty() => Expected::Elsewhere,
            Sought::Ptr if services.is_empty() => Expected::Names(hosts),
            Sought::Ptr => Expected::OneOf(services),
            _ => Expected::Empty,
        }
    }
}

impl<'m> Past<'m> {
    /// How many versions are known; at least one.
    fn len(&self) -> usize {
        match self {
            Self::Steady(_) => 1,
            Self::Namespace(history) => history.len(),
            Self::Service(service) => service.history.len(),
            Self::Address(address) => address.instants.len() + 1,
        }
    }

    /// Since when a version is so; `None` for the first: always.
    fn since(&self, at: usize) -> Option<Instant> {
        match self {
            Self::Steady(_) => None,
            Self::Namespace(history) => history.since(at),
            Self::Service(service) => service.history.since(at),
            Self::Address(address) => address.instants.get(at.checked_sub(1)?).copied(),
        }
    }

    /// What was right then.
    pub(super) fn expected(&self, at: usize) -> Expected<'_> {
        match self {
            Self::Steady(expected) => expected.clone(),
            Self::Namespace(history) if *history.version(at) => Expected::Empty,
            Self::Namespace(_) => Expected::Missing,
            Self::Service(OfService { history, key, asked, domain }) => {
                let state = history.version(at).as_ref();
                state.map_or(Expected::Missing, |state| state.expected(*asked, key, *domain))
            }
            Self::Address(address) => address.expected(at),
        }
    }

    /// When the last version began, whether or not it changes anything here.
    pub(super) fn renewed(&self) -> Option<Instant> {
        self.since(self.len() - 1)
    }

    /// The last version that began at an instant or before.
    pub(super) fn last_until(&self, instant: Instant) -> usize {
        let began = |at: &usize| self.since(*at).is_none_or(|since| since <= instant);
        (0..self.len()).rev().find(began).unwrap_or(0)
    }
}

/// An answer to one question, and when it may have been true.
#[derive(Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) said: &'a Said,
    pub(super) family: Family,
    pub(super) from: Instant,
    pub(super) to: Instant,
    /// What was so before is not known.
    pub(super) known_from: Instant,
}

/// What is found out about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weighed {
    /// This is so.
    Sure(Verdict),
    /// The model does not say what is right.
    Uncovered,
    /// It was not true as far as is known, but not enough is known of that time.
    Forgotten,
}

impl Answer<'_> {
    /// Weighs it against the past.
    pub(super) fn weigh(&self, past: &Past<'_>) -> Weighed {
        let (first, last) = (past.last_until(self.from), past.last_until(self.to));
        if *self.said == Said::Nothing {
            let is_ours = past.expected(last) != Expected::Elsewhere;
            return if is_ours { Weighed::Sure(Verdict::Lost) } else { Weighed::Uncovered };
        }
        let mut is_sure = true;
        for at in (first..=last).rev() {
            let expected = past.expected(at);
            if expected.fits(self.said, self.family) {
                return Weighed::Sure(Verdict::Ok);
            }
            is_sure &= expected != Expected::Unknown;
            // Elsewhere anything may be true, but for what we know to be old.
            is_sure &= expected != Expected::Elsewhere || matches!(self.said, Said::Names { .. });
        }
        if !is_sure {
            return Weighed::Uncovered;
        }
        if self.from < self.known_from {
            return Weighed::Forgotten;
        }
        self.fault(past, first, last)
    }

    /// What is wrong with an answer that was not true in the window.
    fn fault(&self, past: &Past<'_>, first: usize, last: usize) -> Weighed {
        let is_denied =
            |at: usize| matches!(past.expected(at), Expected::Missing | Expected::Elsewhere);
        let was_true = || (0..first).any(|at| past.expected(at).fits(self.said, self.family));
        match self.said {
            // To say that a name exists which does not is no denial, though it brings no records.
            Said::NoData if (first..=last).all(is_denied) && was_true() => {
                Weighed::Sure(Verdict::Stale)
            }
            Said::NoData if (first..=last).all(is_denied) => Weighed::Sure(Verdict::WrongPositive),
            Said::NxDomain | Said::NoData | Said::NoAddress => {
                Weighed::Sure(Verdict::WrongNegative)
            }
            Said::Nothing => Weighed::Sure(Verdict::Lost),
            Said::Addresses { .. } | Said::Names { .. } if was_true() => {
                Weighed::Sure(Verdict::Stale)
            }
            Said::Names { .. } if matches!(past.expected(last), Expected::Elsewhere) => {
                Weighed::Uncovered
            }
            Said::Addresses { .. } | Said::Names { .. } => Weighed::Sure(Verdict::WrongPositive),
        }
    }

    /// Which change it is the first answer to show, where changes up to `seen` have been shown.
    pub(super) fn shows(&self, past: &Past<'_>, seen: Option<Instant>) -> Shows {
        let last = past.last_until(self.to);
        for at in (1..=last).rev().take(CHANGES_MAX) {
            let Some(since) = past.since(at).filter(|it| seen.is_none_or(|seen| *it > seen)) else {
                break;
            };
            let (before, after) = (past.expected(at - 1), past.expected(at));
            if !after.is_same(&before, self.family) {
                let is_new = after.fits(self.said, self.family);
                let is_old = before.fits(self.said, self.family);
                return if is_new && !is_old { Shows::Change(since) } else { Shows::Older };
            }
        }
        Shows::Nothing
    }
}

/// Whether an answer shows a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    /// There was none.
    Nothing,
    /// It shows what was so before.
    Older,
    /// It shows the one that came at this instant.
    Change(Instant),
}

//! Answers that seem to be wrong, until it is certain that no change is still on its way to us.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::question::Sought;
use super::{Judgement, Said, Truth};
use crate::wire::Name;

/// Most answers that wait; further ones are judged at once, and counted
/// ([`super::Skips::overflowed`]).
pub const RETRIALS_MAX: usize = 1 << 16;

/// One answer to be judged.
#[derive(Clone, Debug)]
pub struct Case {
    /// Whose name.
    pub name: Name,
    /// What was asked of it.
    pub sought: Sought,
    /// What came.
    pub said: Said,
    /// When the question was sent.
    pub asked: Instant,
    /// When the answer came, or was given up.
    pub answered: Instant,
}

/// Cases in waiting, each with what its owner needs to write the judgement down (a sample). One
/// for each thread or task that judges.
#[derive(Debug)]
pub struct Retrial<T> {
    waiting: VecDeque<(Case, T)>,
    room: usize,
}

impl<T> Default for Retrial<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), room: RETRIALS_MAX }
    }
}

/// What was carried along, and the judgement on it.
pub type Judged<T> = (T, Option<Judgement>);

impl<T> Retrial<T> {
    /// Judges a case. `None` when it has to wait, and comes back through [`Retrial::due`].
    pub fn judge(&mut self, truth: &Truth, case: Case, carried: T) -> Option<Judged<T>> {
        let judgement = truth.judge_case(&case);
        if Truth::is_final(judgement) {
            return Some((carried, judgement));
        }
        if self.waiting.len() == self.room {
            truth.count_overflow();
            return Some((carried, judgement));
        }
        self.waiting.push_back((case, carried));
        None
    }

    /// The next case that has waited long enough, with its judgement. To be called until there is
    /// none; answers come in about the order of time, so only the first is looked at.
    pub fn due(&mut self, truth: &Truth, now: Instant) -> Option<Judged<T>> {
        let (case, _) = self.waiting.front()?;
        if case.answered + truth.early() > now {
            return None;
        }
        // Those behind it are of the same time without a watch, or later.
        let judgement = truth.settle(case, now)?;
        let (_, carried) = self.waiting.pop_front()?;
        Some((carried, judgement))
    }

    /// When [`Retrial::due`] has something next.
    pub fn next_due(&self, truth: &Truth) -> Option<Instant> {
        self.waiting.front().map(|(case, _)| case.answered + truth.early())
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
impl<T> Retrial<T> {
    /// One with less room.
    pub(super) fn with_room(room: usize) -> Self {
        Self { room, ..Self::default() }
    }
}

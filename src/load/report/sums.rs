//! Counting and adding of what a report counts.

use super::super::record::{Outcome, PacketCounts};
use super::super::truth::{Skips, Verdict};
use super::{Outcomes, Truths, Unjudged};

impl Outcomes {
    /// Counts one lookup.
    pub fn count(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Ok => &mut self.ok,
            Outcome::UnknownHost => &mut self.unknown_host,
            Outcome::TryAgain => &mut self.try_again,
            Outcome::Slow => &mut self.slow,
            Outcome::Wrong => &mut self.wrong,
        } += 1;
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        for ((_, count), (_, other)) in self.each_mut().into_iter().zip(other.each()) {
            *count = count.saturating_add(other);
        }
    }

    /// All lookups.
    pub fn all(&self) -> u64 {
        self.each().iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Those that failed, see [`Outcome::is_failure`].
    pub fn failed(&self) -> u64 {
        self.unknown_host.saturating_add(self.try_again).saturating_add(self.wrong)
    }

    /// By name, as reports, goals and metrics have it.
    pub fn each(&self) -> [(&'static str, u64); 5] {
        let mut copy = *self;
        copy.each_mut().map(|(name, count)| (name, *count))
    }

    fn each_mut(&mut self) -> [(&'static str, &mut u64); 5] {
        [
            ("ok", &mut self.ok),
            ("unknown_host", &mut self.unknown_host),
            ("try_again", &mut self.try_again),
            ("slow", &mut self.slow),
            ("wrong", &mut self.wrong),
        ]
    }
}

impl Unjudged {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        for ((_, count), (_, other)) in self.each_mut().into_iter().zip(other.each()) {
            *count = count.saturating_add(other);
        }
    }

    /// By name.
    pub fn each(&self) -> [(&'static str, u64); 5] {
        let mut copy = *self;
        copy.each_mut().map(|(name, count)| (name, *count))
    }

    fn each_mut(&mut self) -> [(&'static str, &mut u64); 5] {
        [
            ("unknown", &mut self.unknown),
            ("uncovered", &mut self.uncovered),
            ("forgotten", &mut self.forgotten),
            ("blind", &mut self.blind),
            ("overflowed", &mut self.overflowed),
        ]
    }
}

impl From<Skips> for Unjudged {
    fn from(skips: Skips) -> Self {
        let Skips { unknown, uncovered, forgotten, blind, overflowed, .. } = skips;
        Self { unknown, uncovered, forgotten, blind, overflowed }
    }
}

impl Truths {
    /// Counts one lookup.
    pub fn count(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Ok => &mut self.ok,
            Verdict::Stale => &mut self.stale,
            Verdict::WrongNegative => &mut self.wrong_negative,
            Verdict::WrongPositive => &mut self.wrong_positive,
            Verdict::Lost => &mut self.lost,
        } += 1;
    }

    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        for ((_, count), (_, other)) in self.each_mut().into_iter().zip(other.each()) {
            *count = count.saturating_add(other);
        }
    }

    /// All lookups of which the truth is known.
    pub fn all(&self) -> u64 {
        self.each().iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// By name, as reports, goals and metrics have it.
    pub fn each(&self) -> [(&'static str, u64); 5] {
        let mut copy = *self;
        copy.each_mut().map(|(name, count)| (name, *count))
    }

    fn each_mut(&mut self) -> [(&'static str, &mut u64); 5] {
        [
            ("ok", &mut self.ok),
            ("stale", &mut self.stale),
            ("wrong_negative", &mut self.wrong_negative),
            ("wrong_positive", &mut self.wrong_positive),
            ("lost", &mut self.lost),
        ]
    }
}

impl PacketCounts {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        for ((_, count), (_, other)) in self.each_mut().into_iter().zip(other.each()) {
            *count = count.saturating_add(other);
        }
    }

    /// By name, as metrics have it.
    pub fn each(&self) -> [(&'static str, u64); 15] {
        let mut copy = *self;
        copy.each_mut().map(|(name, count)| (name, *count))
    }

    fn each_mut(&mut self) -> [(&'static str, &mut u64); 15] {
        [
            ("sent", &mut self.sent),
            ("answered", &mut self.answered),
            ("lost", &mut self.lost),
            ("too_late", &mut self.too_late),
            ("mismatched", &mut self.mismatched),
            ("garbage", &mut self.garbage),
            ("noerror", &mut self.noerror),
            ("nxdomain", &mut self.nxdomain),
            ("servfail", &mut self.servfail),
            ("refused", &mut self.refused),
            ("other_code", &mut self.other_code),
            ("truncated", &mut self.truncated),
            ("tcp", &mut self.tcp),
            ("tcp_failed", &mut self.tcp_failed),
            ("unreachable", &mut self.unreachable),
        ]
    }
}

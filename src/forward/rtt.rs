//! How long an upstream takes to answer: the mean, how far it varies, and the times that 19 of 20
//! and one of four answers keep. Pure: every valid answer brings one duration.
//!
//! ```text
//! answer ─► observe ─┬─ smoothed, variation RFC 6298 §2 ─► time_out     when a try is given up
//!                    ├─ p25                 one step each ─► time_out
//!                    └─ p95                 one step each ─► hedge_after when another is asked too
//! ```
//!
//! An upstream that answers either at once or after seconds has a mean and a variation of seconds,
//! by which nothing would be asked again in the time that a client has. So a try waits a few times
//! as long as the quicker answers take, and no longer.
//!
//! [`Rtt::hedge_after`] is always shorter than [`Rtt::time_out`]: a second question is cheaper than
//! a lost one.

use std::time::Duration;

/// Shortest time before another upstream is asked too. A stall of the scheduler is no fault.
pub const HEDGE_MIN: Duration = Duration::from_millis(20);
/// Longest time before another upstream is asked too, whatever this one is used to take.
pub const HEDGE_MAX: Duration = Duration::from_millis(300);
/// The same for an upstream that is not known yet.
pub const HEDGE_UNKNOWN: Duration = Duration::from_millis(150);
/// Shortest time that a try waits. Resolvers that have to ask the world themselves are sometimes
/// slow without being lost.
pub const TIME_OUT_MIN: Duration = Duration::from_millis(200);
/// How long a try waits for an upstream that is not known yet.
pub const TIME_OUT_UNKNOWN: Duration = Duration::from_millis(300);
/// How many times what one of four answers keeps a try waits at most.
const QUICK_TIMES: u32 = 4;
/// Shortest time that this bounds a try to: an upstream that knows some names and has to look for
/// others is to have the time to find them.
pub const TIME_OUT_QUICK: Duration = Duration::from_millis(750);
/// Answers after which the upstream counts as known.
pub const KNOWN_AFTER: u32 = 5;

/// The estimate of one upstream.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Rtt {
    smoothed: Duration,
    variation: Duration,
    p25: Duration,
    p95: Duration,
    /// Answers so far, up to [`KNOWN_AFTER`].
    answers: u32,
}

impl Rtt {
    /// One valid answer took so long.
    pub fn observe(&mut self, took: Duration) {
        if self.answers == 0 {
            let variation = took / 2;
            *self = Self { smoothed: took, variation, p25: took, p95: took, answers: 1 };
            return;
        }
        self.answers = (self.answers + 1).min(KNOWN_AFTER);
        // RFC 6298 §2.3: the variation first, with the mean of before.
        self.variation = (self.variation * 3 + self.smoothed.abs_diff(took)) / 4;
        self.smoothed = (self.smoothed * 7 + took) / 8;
        self.step_p25(took);
        self.step_p95(took);
    }

    /// The mean; `None` before the first answer.
    pub fn smoothed(&self) -> Option<Duration> {
        (self.answers > 0).then_some(self.smoothed)
    }

    /// What 19 of 20 answers keep; `None` before the first answer.
    pub fn p95(&self) -> Option<Duration> {
        (self.answers > 0).then_some(self.p95)
    }

    /// How long the first try of a question waits, `longest` at most.
    pub fn time_out(&self, longest: Duration) -> Duration {
        let waits = match self.is_known() {
            true => (self.smoothed + self.variation * 4).max(self.p95 + self.variation),
            false => TIME_OUT_UNKNOWN.max(self.smoothed * 3),
        };
        let waits = waits.min((self.p25 * QUICK_TIMES).max(TIME_OUT_QUICK));
        // A quarter more than the hedge, so that this has a chance to be the answer.
        waits.max(TIME_OUT_MIN).max(self.hedge_after() * 5 / 4).min(longest)
    }

    /// How long an answer is waited for until another upstream is asked too.
    pub fn hedge_after(&self) -> Duration {
        match self.is_known() {
            true => (self.p95 * 2).clamp(HEDGE_MIN, HEDGE_MAX),
            false => (self.p95 * 2).clamp(HEDGE_UNKNOWN, HEDGE_MAX),
        }
    }

    fn is_known(&self) -> bool {
        self.answers >= KNOWN_AFTER
    }

    /// As [`Self::step_p95`], where three steps up weigh as much as one down. It follows the mean
    /// besides, for that of an upstream that has become slow as a whole is soon far away.
    fn step_p25(&mut self, took: Duration) {
        let p25 = match took >= self.p25 {
            true => self.p25 + self.step().max(self.smoothed.saturating_sub(self.p25) / 4) / 4,
            false => self.p25.saturating_sub(self.step() * 3 / 4),
        };
        self.p25 = p25.min(self.smoothed);
    }

    /// Nineteen steps down weigh as much as one up, so it settles where one answer of twenty is
    /// slower. The step follows the variation, which makes it quick where times are spread; where
    /// they are not, nothing is far from the mean.
    fn step_p95(&mut self, took: Duration) {
        let p95 = match took > self.p95 {
            true => self.p95 + self.step() * 19 / 20,
            false => self.p95.saturating_sub(self.step() / 20),
        };
        self.p95 = p95.clamp(self.smoothed, self.smoothed + self.variation * 6);
    }

    fn step(&self) -> Duration {
        (self.variation / 4).max(self.smoothed / 64)
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// Longest time-out of a try, as by default.
    const LONGEST: Duration = Duration::from_secs(2);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn after(answers: impl IntoIterator<Item = Duration>) -> Rtt {
        let mut rtt = Rtt::default();
        answers.into_iter().for_each(|took| rtt.observe(took));
        rtt
    }

    #[test]
    fn an_unknown_upstream_is_given_a_middle_time() {
        let rtt = Rtt::default();
        assert_eq!((rtt.smoothed(), rtt.p95()), (None, None));
        assert_eq!((rtt.hedge_after(), rtt.time_out(LONGEST)), (HEDGE_UNKNOWN, TIME_OUT_UNKNOWN));
    }

    #[test]
    fn a_near_upstream_is_given_the_shortest_times() {
        let rtt = after([ms(1); 20]);
        assert_eq!((rtt.hedge_after(), rtt.time_out(LONGEST)), (HEDGE_MIN, TIME_OUT_MIN));
    }

    #[test]
    fn a_far_upstream_is_given_its_time() {
        let rtt = after([ms(600); 50]);
        assert_eq!((rtt.smoothed(), rtt.hedge_after()), (Some(ms(600)), HEDGE_MAX));
        assert!((ms(600)..ms(700)).contains(&rtt.time_out(LONGEST)));
        assert_eq!(after([ms(9000); 9]).time_out(LONGEST), LONGEST);
    }

    #[test]
    fn one_answer_of_twenty_is_slower_than_the_p95() {
        for seed in 0..20 {
            let mut chance = StdRng::seed_from_u64(seed);
            let rtt = after((0..5000).map(|_| ms(chance.random_range(1..=100))));
            let p95 = rtt.p95().unwrap();
            assert!((ms(85)..ms(112)).contains(&p95), "seed {seed}: {p95:?}");
        }
    }

    #[test]
    fn a_new_distance_is_learnt_within_a_few_answers() {
        let mut rtt = after([ms(2); 100]);
        (0..20).for_each(|_| rtt.observe(ms(500)));
        assert!(rtt.time_out(LONGEST) > ms(500), "{rtt:?}");
        (0..100).for_each(|_| rtt.observe(ms(2)));
        assert!(rtt.time_out(LONGEST) < ms(250), "{rtt:?}");
    }

    #[test]
    fn u4_one_that_is_quick_or_very_slow_is_not_given_the_time_of_the_slow_ones() {
        for (seed, slow_of_ten) in (0..20).flat_map(|seed| [(seed, 3), (seed, 5)]) {
            let mut chance = StdRng::seed_from_u64(seed);
            let mut rtt = after([ms(2); 20]);
            let waits: Vec<Duration> = (0..1000)
                .map(|_| {
                    let is_slow = chance.random_ratio(slow_of_ten, 10);
                    rtt.observe(ms(if is_slow { 3000 } else { 2 }));
                    rtt.time_out(LONGEST)
                })
                .collect();
            let quick = waits.iter().filter(|waits| **waits <= ms(1000)).count();
            assert!(quick > 500, "seed {seed}: {quick} with {slow_of_ten} of 10 slow");
        }
    }

    #[test]
    fn one_that_knows_some_names_has_the_time_to_find_the_others() {
        let known_or_not = |number: u32| if number.is_multiple_of(2) { ms(1) } else { ms(700) };
        let rtt = after((0..200).map(known_or_not));
        assert!(rtt.time_out(LONGEST) > ms(700), "{rtt:?}");
        let far = after([[ms(2); 100], [ms(1500); 100]].concat());
        assert!(far.time_out(LONGEST) > ms(1500), "{far:?}");
    }

    #[test]
    fn the_hedge_comes_before_the_time_out_whatever_was_seen() {
        let mut chance = StdRng::seed_from_u64(7);
        let mut rtt = Rtt::default();
        for _ in 0..20_000 {
            let scale = 10u64.pow(chance.random_range(0..5));
            rtt.observe(ms(chance.random_range(0..=scale)));
            assert!(rtt.hedge_after() < rtt.time_out(LONGEST), "{rtt:?}");
            assert!(rtt.p95() >= rtt.smoothed());
        }
    }
}

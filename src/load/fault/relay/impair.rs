//! What happens to questions and answers on their way. Reads no clock: time is a parameter.
//!
//! Several impairments may be in force; of two of one kind the later one counts. Over UDP:
//!
//! ```text
//! question ─► black hole? ─► beyond the rate? ─► lost by chance? ─► SERVFAIL? ─► TC? ─► upstream
//! client  ◄────────────── later by the delay ◄── black hole? ◄──────────────────────── answer
//! ```
//!
//! TCP has no loss and no truncation, and what is beyond the rate waits for its turn: there the
//! kernel sends again. A black hole swallows its messages and leaves connections open.

use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

/// How much of the rate may come at once.
const BURST: Duration = Duration::from_millis(100);

/// One way in which an upstream is worse than it should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Impairment {
    /// Nothing comes through, in either direction.
    Blackhole,
    /// Each answer comes later by this.
    Delay(Duration),
    /// This part of the questions is lost, 0 to 1.
    Loss(f64),
    /// Each question is answered SERVFAIL.
    Servfail,
    /// Each question over UDP gets an empty answer with TC.
    Truncate,
    /// So many questions per second come through, with a tenth of a second's worth at once, as
    /// cloud networks limit packets to their resolvers.
    Pps(u32),
}

/// What happens to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on.
    Pass,
    /// A black hole takes it.
    Swallowed,
    /// Chance takes it.
    Lost,
    /// It is beyond the rate.
    BeyondRate,
    /// It is answered SERVFAIL.
    Servfail,
    /// It is answered with TC.
    Truncate,
}

/// What is in force.
pub(super) struct Impairments(Mutex<State>);

struct State {
    /// As many as there are faults at a time.
    in_force: Vec<(u64, Impairment)>,
    begun: u64,
    dice: StdRng,
    /// From when on the rate allows the next question, without a burst.
    free_at: Option<Instant>,
}

impl Impairments {
    /// None.
    pub(super) fn new(seed: u64) -> Self {
        let dice = StdRng::seed_from_u64(seed);
        Self(Mutex::new(State { in_force: Vec::new(), begun: 0, dice, free_at: None }))
    }

    pub(super) fn begin(&self, impairment: Impairment) -> u64 {
        let mut state = self.0.lock();
        state.begun += 1;
        let number = state.begun;
        state.in_force.push((number, impairment));
        number
    }

    pub(super) fn end(&self, number: u64) {
        self.0.lock().in_force.retain(|(begun, _)| *begun != number);
    }

    /// What happens to a question over UDP.
    pub(super) fn datagram(&self, now: Instant) -> Fate {
        let mut state = self.0.lock();
        if state.has(Impairment::Blackhole) {
            return Fate::Swallowed;
        }
        if state.rate().is_some() && state.wait(now) > BURST {
            return Fate::BeyondRate;
        }
        state.pay(now);
        if state.loss().is_some_and(|share| state.dice.random_bool(share)) {
            return Fate::Lost;
        }
        match () {
            () if state.has(Impairment::Servfail) => Fate::Servfail,
            () if state.has(Impairment::Truncate) => Fate::Truncate,
            () => Fate::Pass,
        }
    }

    /// What happens to a question over TCP, and how long it has to wait for that.
    pub(super) fn message(&self, now: Instant) -> (Fate, Duration) {
        let mut state = self.0.lock();
        if state.has(Impairment::Blackhole) {
            return (Fate::Swallowed, Duration::ZERO);
        }
        let wait = if state.rate().is_some() { state.wait(now) } else { Duration::ZERO };
        state.pay(now);
        let fate = if state.has(Impairment::Servfail) { Fate::Servfail } else { Fate::Pass };
        (fate, wait.saturating_sub(BURST))
    }

    /// How much later an answer comes; `None` when it never does.
    pub(super) fn answer(&self) -> Option<Duration> {
        let state = self.0.lock();
        if state.has(Impairment::Blackhole) {
            return None;
        }
        let delay = state.last(|it| match it {
            Impairment::Delay(delay) => Some(delay),
            _ => None,
        });
        Some(delay.unwrap_or_default())
    }
}

impl State {
    /// What the last of those says that say something.
    fn last<T>(&self, says: impl Fn(Impairment) -> Option<T>) -> Option<T> {
        self.in_force.iter().rev().find_map(|(_, impairment)| says(*impairment))
    }

    fn has(&self, wanted: Impairment) -> bool {
        self.in_force.iter().any(|(_, impairment)| *impairment == wanted)
    }

    fn loss(&self) -> Option<f64> {
        self.last(|it| match it {
            Impairment::Loss(share) => Some(share.clamp(0.0, 1.0)),
            _ => None,
        })
    }

    fn rate(&self) -> Option<u32> {
        self.last(|it| match it {
            Impairment::Pps(rate) => Some(rate.max(1)),
            _ => None,
        })
    }

    /// How far ahead of its rate a question would be.
    fn wait(&self, now: Instant) -> Duration {
        self.free_at.map_or(Duration::ZERO, |free_at| free_at.saturating_duration_since(now))
    }

    /// Counts a question against the rate.
    fn pay(&mut self, now: Instant) {
        self.free_at = self.rate().map(|rate| {
            let free_at = self.free_at.map_or(now, |free_at| free_at.max(now));
            free_at + Duration::from_secs(1) / rate
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many questions, evenly over a second, pass.
    fn passing(impairments: &Impairments, start: Instant, count: u32) -> u32 {
        let at = |number| start + Duration::from_secs(1) * number / count;
        let fates = (0..count).map(|number| impairments.datagram(at(number)));
        fates.filter(|fate| *fate == Fate::Pass).count().try_into().unwrap()
    }

    #[test]
    fn nothing_happens_without_an_impairment() {
        let impairments = Impairments::new(1);
        assert_eq!(passing(&impairments, Instant::now(), 1000), 1000);
        assert_eq!(impairments.answer(), Some(Duration::ZERO));
    }

    #[test]
    fn a_black_hole_takes_both_directions_until_it_ends() {
        let impairments = Impairments::new(1);
        let (first, second) =
            (impairments.begin(Impairment::Blackhole), impairments.begin(Impairment::Blackhole));
        for number in [first, second] {
            assert_eq!(impairments.datagram(Instant::now()), Fate::Swallowed);
            assert_eq!(impairments.message(Instant::now()).0, Fate::Swallowed);
            assert_eq!(impairments.answer(), None);
            impairments.end(number);
        }
        assert_eq!(impairments.datagram(Instant::now()), Fate::Pass);
        assert_eq!(impairments.answer(), Some(Duration::ZERO));
    }

    #[test]
    fn the_later_delay_counts() {
        let impairments = Impairments::new(1);
        let delay = |ms| Impairment::Delay(Duration::from_millis(ms));
        impairments.begin(delay(800));
        let second = impairments.begin(delay(200));
        assert_eq!(impairments.answer(), Some(Duration::from_millis(200)));
        impairments.end(second);
        assert_eq!(impairments.answer(), Some(Duration::from_millis(800)));
    }

    #[test]
    fn loss_is_the_same_for_the_same_seed() {
        let lost = |seed| {
            let impairments = Impairments::new(seed);
            impairments.begin(Impairment::Loss(0.3));
            let now = Instant::now();
            (0..1000).map(|_| impairments.datagram(now) == Fate::Lost).collect::<Vec<_>>()
        };
        let count = lost(7).iter().filter(|is_lost| **is_lost).count();
        assert!((250..350).contains(&count), "{count}");
        assert_eq!(lost(7), lost(7));
        assert_ne!(lost(7), lost(8));
    }

    #[test]
    fn nothing_and_everything_can_be_lost() {
        for (share, fate) in [(0.0, Fate::Pass), (1.0, Fate::Lost)] {
            let impairments = Impairments::new(1);
            impairments.begin(Impairment::Loss(share));
            let now = Instant::now();
            assert!((0..100).all(|_| impairments.datagram(now) == fate));
        }
    }

    #[test]
    fn the_rate_holds_second_after_second() {
        let impairments = Impairments::new(1);
        let number = impairments.begin(Impairment::Pps(1024));
        let start = Instant::now();
        // A tenth of a second's worth, 102, is there at once.
        let passed = passing(&impairments, start, 10_000);
        assert!((1024..=1130).contains(&passed), "{passed}");
        let passed = passing(&impairments, start + Duration::from_secs(1), 10_000);
        assert!((1020..=1028).contains(&passed), "{passed}");
        assert_eq!(passing(&impairments, start + Duration::from_secs(3), 1000), 1000);
        impairments.end(number);
        assert_eq!(passing(&impairments, start + Duration::from_secs(4), 10_000), 10_000);
    }

    #[test]
    fn over_tcp_what_is_beyond_the_rate_waits() {
        let impairments = Impairments::new(1);
        impairments.begin(Impairment::Pps(10));
        impairments.begin(Impairment::Loss(1.0));
        impairments.begin(Impairment::Truncate);
        let now = Instant::now();
        let waits: Vec<_> = (0..4).map(|_| impairments.message(now)).collect();
        let ms = |ms| (Fate::Pass, Duration::from_millis(ms));
        assert_eq!(waits, [ms(0), ms(0), ms(100), ms(200)]);
    }
}

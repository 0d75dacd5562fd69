//! Who was without names, and for how long: the lookups of each client, in the order in which they
//! were due.
//!
//! Lookups arrive as they end. A failure that ends late, after a lookup that was due later has
//! succeeded, is no outage until its own end: the successes of the last seconds are remembered for
//! that, one in [`GRAIN`], so an outage may be told longer than it was by so much.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use foldhash::fast::FixedState;
use parking_lot::Mutex;

use super::super::resolver::Resolver;
use super::super::work::Class;
use super::Sample;

/// Most clients that are followed; the lookups of further ones are counted by
/// [`Clients::refused`] and nobody is told whether they are stuck. More than `--clients` can be.
pub const CLIENTS_MAX: usize = 131_072;
/// Locks that the clients are shared out among.
const STRIPES: usize = 64;
/// Of the successes of a client, one in this time is remembered.
const GRAIN: Duration = Duration::from_millis(100);
/// So many, and so long: what takes longer to fail is told as an outage until then.
const SUCCESSES_MAX: usize = 64;
/// See [`SUCCESSES_MAX`].
const SUCCESS_AGE_MAX: Duration = Duration::from_secs(10);

/// All clients.
#[derive(Debug)]
pub struct Clients {
    stripes: Vec<Mutex<Stripe>>,
}

/// Some of the clients.
#[derive(Debug, Default)]
struct Stripe {
    clients: HashMap<(Resolver, u32), Client, FixedState>,
    stuck: u64,
    refused: u64,
}

/// One client, over all kinds of names and by kind.
#[derive(Debug, Default)]
struct Client {
    all: Course,
    by_class: Vec<(Class, Course)>,
}

impl Default for Clients {
    fn default() -> Self {
        Self { stripes: (0..STRIPES).map(|_| Mutex::default()).collect() }
    }
}

impl Clients {
    /// Takes one lookup into account.
    pub fn record(&self, sample: &Sample) {
        let mut stripe = self.stripes[sample.client as usize % STRIPES].lock();
        let key = (sample.resolver, sample.client);
        let is_full = stripe.clients.len() == CLIENTS_MAX / STRIPES;
        if is_full && !stripe.clients.contains_key(&key) {
            stripe.refused += 1;
            return;
        }
        let client = stripe.clients.entry(key).or_default();
        let was_stuck = client.all.is_stuck;
        client.record(sample);
        match (was_stuck, client.all.is_stuck) {
            (false, true) => stripe.stuck += 1,
            (true, false) => stripe.stuck -= 1,
            _ => {}
        }
    }

    /// How many there are, and how many of them are stuck.
    pub fn counts(&self) -> (u64, u64) {
        self.stripes.iter().fold((0, 0), |(clients, stuck), stripe| {
            let stripe = stripe.lock();
            (clients + stripe.clients.len() as u64, stuck + stripe.stuck)
        })
    }

    /// Lookups of clients that have no place here.
    pub fn refused(&self) -> u64 {
        self.stripes.iter().map(|stripe| stripe.lock().refused).sum()
    }

    /// Tells each client to `tell`, `None` for all kinds of names together, in a run that ended
    /// at `ended`.
    pub fn each(&self, ended: Duration, mut tell: impl FnMut(Resolver, Option<Class>, Standing)) {
        for stripe in &self.stripes {
            for ((resolver, _), client) in &stripe.lock().clients {
                tell(*resolver, None, client.all.standing(ended));
                for (class, course) in &client.by_class {
                    tell(*resolver, Some(*class), course.standing(ended));
                }
            }
        }
    }
}

impl Client {
    fn record(&mut self, sample: &Sample) {
        self.all.record(sample);
        let known = self.by_class.iter().position(|(class, _)| *class == sample.class);
        let index = known.unwrap_or_else(|| {
            self.by_class.push((sample.class, Course::default()));
            self.by_class.len() - 1
        });
        self.by_class[index].1.record(sample);
    }
}

/// How a client stands at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The longest time from a failure to the next success.
    pub longest_outage: Duration,
    /// The last lookup failed.
    pub is_stuck: bool,
}

/// The lookups of one client.
#[derive(Debug, Default)]
struct Course {
    last_due: Duration,
    /// Whether the lookup that was due last failed.
    is_stuck: bool,
    longest: Duration,
    /// When the first and the last failure were due that no success has followed.
    open: Option<(Duration, Duration)>,
    /// Successes of late: when they were due, and when they ended.
    successes: VecDeque<(Duration, Duration)>,
}

impl Course {
    fn record(&mut self, sample: &Sample) {
        if sample.due >= self.last_due {
            self.last_due = sample.due;
            self.is_stuck = sample.outcome.is_failure();
        }
        let ended = sample.due + sample.took;
        if sample.outcome.is_failure() {
            self.fail(sample.due, ended);
        } else {
            self.succeed(sample.due, ended);
        }
    }

    fn fail(&mut self, due: Duration, ended: Duration) {
        let later = self.successes.iter().filter(|(success, _)| *success >= due);
        match later.map(|(_, ended)| *ended).min() {
            Some(success) => {
                self.longest = self.longest.max(success.min(ended).saturating_sub(due))
            }
            None => {
                let (first, last) = self.open.unwrap_or((due, due));
                self.open = Some((first.min(due), last.max(due)));
            }
        }
    }

    fn succeed(&mut self, due: Duration, ended: Duration) {
        if let Some((first, last)) = self.open.filter(|(first, _)| *first <= due) {
            self.longest = self.longest.max(ended.saturating_sub(first));
            // A failure that was due after this success still waits for one.
            self.open = (last > due).then_some((last, last));
        }
        self.remember(due, ended);
    }

    fn remember(&mut self, due: Duration, ended: Duration) {
        let is_near = self.successes.back().is_some_and(|(last, _)| due < *last + GRAIN);
        if is_near {
            return;
        }
        let is_old = |(_, at): &(Duration, Duration)| *at + SUCCESS_AGE_MAX < ended;
        while self.successes.front().is_some_and(is_old) || self.successes.len() == SUCCESSES_MAX {
            self.successes.pop_front();
        }
        self.successes.push_back((due, ended));
    }

    fn standing(&self, ended: Duration) -> Standing {
        let open = self.open.map_or(Duration::ZERO, |(first, _)| ended.saturating_sub(first));
        Standing { longest_outage: self.longest.max(open), is_stuck: self.is_stuck }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    const OK: Outcome = Outcome::Ok;
    const FAILED: Outcome = Outcome::UnknownHost;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn sample(client: u32, due: u64, took: u64, outcome: Outcome) -> Sample {
        Sample {
            due: ms(due),
            took: ms(took),
            outcome,
            judgement: None,
            class: Class::Service,
            resolver: Resolver::Glibc,
            client,
            packets: 1,
        }
    }

    /// How a client stands at 60 s after these lookups (due, took, outcome), in order of their end.
    fn standing(lookups: &[(u64, u64, Outcome)]) -> (u64, bool) {
        let mut course = Course::default();
        for (due, took, outcome) in lookups {
            course.record(&sample(0, *due, *took, *outcome));
        }
        let standing = course.standing(ms(60_000));
        (standing.longest_outage.as_millis() as u64, standing.is_stuck)
    }

    #[test]
    fn an_outage_lasts_from_its_first_failure_to_the_end_of_the_next_success() {
        let lookups = [(0, 1, OK), (1000, 5, FAILED), (2000, 5, FAILED), (3000, 200, OK)];
        assert_eq!(standing(&lookups), (2200, false));
        assert_eq!(standing(&[(0, 1, OK)]), (0, false));
        let slow = [(1000, 5, FAILED), (2000, 1500, Outcome::Slow)];
        assert_eq!(standing(&slow), (2500, false));
    }

    #[test]
    fn an_outage_without_an_end_lasts_to_the_end_of_the_run() {
        assert_eq!(standing(&[(0, 1, OK), (10_000, 5, FAILED)]), (50_000, true));
    }

    #[test]
    fn who_is_stuck_is_told_by_when_lookups_were_due() {
        // The first lookup takes 5 s to fail, while later ones succeed at once.
        let late = [(10_000, 5, OK), (10_500, 5, OK), (9_900, 5_000, FAILED)];
        let (outage, is_stuck) = standing(&late);
        assert!(!is_stuck);
        assert_eq!(outage, 105, "from 9.9 s to the success that ended at 10.005 s");
        assert!(standing(&[(10_000, 5, FAILED), (9_000, 3_000, OK)]).1);
    }

    #[test]
    fn a_success_that_was_due_between_two_failures_ends_only_the_first() {
        let lookups = [(10_000, 100, FAILED), (14_000, 100, FAILED), (12_000, 3_000, OK)];
        assert_eq!(standing(&lookups), (46_000, true));
    }

    #[test]
    fn a_failure_that_ends_after_all_remembered_successes_lasts_as_long_as_itself_at_most() {
        let mut lookups: Vec<_> = (0..1000).map(|at| (1000 + at * 100, 1, OK)).collect();
        lookups.push((500, 101_000, FAILED));
        let (outage, is_stuck) = standing(&lookups);
        assert!(outage <= 101_000 && !is_stuck);
        let mut course = Course::default();
        for (due, took, outcome) in lookups {
            course.record(&sample(0, due, took, outcome));
        }
        assert!(course.successes.len() <= SUCCESSES_MAX);
    }

    #[test]
    fn clients_are_counted_by_resolver_and_number_and_those_beyond_are_refused() {
        let clients = Clients::default();
        for client in 0..CLIENTS_MAX as u32 + 10 {
            clients.record(&sample(client, 0, 1, FAILED));
        }
        assert_eq!(clients.counts(), (CLIENTS_MAX as u64, CLIENTS_MAX as u64));
        assert_eq!(clients.refused(), 10);
        clients.record(&sample(0, 5, 1, OK));
        assert_eq!(clients.counts().1, CLIENTS_MAX as u64 - 1);
    }

    #[test]
    fn each_class_has_its_own_outages() {
        let clients = Clients::default();
        clients.record(&sample(1, 1000, 1, FAILED));
        clients.record(&Sample { class: Class::Foreign, ..sample(1, 2000, 1, OK) });
        let mut told = Vec::new();
        clients.each(ms(10_000), |_, class, standing| told.push((class, standing.is_stuck)));
        told.sort_unstable();
        assert_eq!(
            told,
            [(None, false), (Some(Class::Service), true), (Some(Class::Foreign), false)]
        );
    }
}

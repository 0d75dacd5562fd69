//! Who was without names, and for how long: the lookups of each client, in the order in which they
//! were due.
//!
//! Lookups arrive as they end. A failure that ends late, after a lookup that was due later has
//! succeeded, is no outage until its own end: the successes of the last seconds are remembered for
//! that, one in [`GRAIN`], so an outage may be told longer than it was by so much. Likewise the
//! failures that no success has followed are remembered for a success that ends late.
//!
//! A client is stuck when its last [`STUCK_FAILURES`] lookups failed and none that was due later
//! succeeded. Failures of names that need an upstream count only for clients that ask no others:
//! while an upstream is away they fail by turns with names of the cluster, which do not.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use foldhash::fast::FixedState;
use parking_lot::Mutex;

use super::super::resolver::Resolver;
use super::super::tasks::Class;
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

/// From so many failures in a row on a client is stuck: one is any lost datagram.
const STUCK_FAILURES: u32 = 2;
/// Spans of failures of a client that are remembered; when full, neighbours become one.
const SPANS_MAX: usize = 64;

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
    is_stuck: bool,
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
        let was_stuck = client.is_stuck;
        client.record(sample);
        match (was_stuck, client.is_stuck) {
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
                let all = client.all.standing(ended);
                tell(*resolver, None, Standing { is_stuck: client.is_stuck, ..all });
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
        self.is_stuck = self.would_be_stuck();
    }

    /// What makes it stuck: the failures that count, since the last success of any name.
    fn would_be_stuck(&self) -> bool {
        let has_others = self.by_class.iter().any(|(class, _)| !needs_upstream(*class));
        let counting =
            self.by_class.iter().filter(|(class, _)| !has_others || !needs_upstream(*class));
        let failures = counting.map(|(_, course)| course.failures_after(self.all.last_success));
        failures.sum::<u32>() >= STUCK_FAILURES
    }
}

/// Whether such names fail with an upstream, whatever the cluster is like.
fn needs_upstream(class: Class) -> bool {
    matches!(class, Class::Foreign | Class::ExternalName | Class::Random)
}

/// How a client stands at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The longest time from a failure to the next success.
    pub longest_outage: Duration,
    /// Its last lookups failed: see the head of this file.
    pub is_stuck: bool,
}

/// The lookups of one client.
#[derive(Debug, Default)]
struct Course {
    /// When the last success was due, if there was one.
    last_success: Option<Duration>,
    longest: Duration,
    /// The failures that no success has followed, by when they were due.
    open: Vec<Span>,
    /// Successes of late: when they were due, and when they ended.
    successes: VecDeque<(Duration, Duration)>,
}

/// Failures that were due one soon after the other.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: Duration,
    last: Duration,
    failures: u32,
}

impl Course {
    fn record(&mut self, sample: &Sample) {
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
            None => self.open(due),
        }
    }

    /// Remembers a failure that waits for a success.
    fn open(&mut self, due: Duration) {
        let index = self.open.partition_point(|span| span.first <= due);
        let before = index.checked_sub(1).map(|before| &mut self.open[before]);
        match before.filter(|span| due <= span.last.max(span.first + GRAIN)) {
            Some(span) => {
                span.last = span.last.max(due);
                span.failures = span.failures.saturating_add(1);
            }
            None => self.open.insert(index, Span { first: due, last: due, failures: 1 }),
        }
        if self.open.len() > SPANS_MAX {
            self.open = self.open.chunks(2).map(Span::joined).collect();
        }
    }

    fn succeed(&mut self, due: Duration, ended: Duration) {
        self.last_success = self.last_success.max(Some(due));
        if let Some(first) = self.open.first().map(|span| span.first).filter(|first| *first <= due)
        {
            self.longest = self.longest.max(ended.saturating_sub(first));
            // Failures that were due after this success still wait for one.
            self.open.retain(|span| span.last > due);
            if let Some(span) = self.open.first_mut().filter(|span| span.first <= due) {
                *span = Span { first: due, last: span.last, failures: 1 };
            }
        }
        self.remember(due, ended);
    }

    /// How many lookups failed that were due after that.
    fn failures_after(&self, success: Option<Duration>) -> u32 {
        let later = self.open.iter().rev().take_while(|span| Some(span.last) > success);
        later.fold(0, |failures, span| match Some(span.first) > success {
            true => failures.saturating_add(span.failures),
            // At least its last one.
            false => failures.saturating_add(1),
        })
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
        let first = self.open.first();
        let open = first.map_or(Duration::ZERO, |span| ended.saturating_sub(span.first));
        let is_stuck = self.failures_after(self.last_success) >= STUCK_FAILURES;
        Standing { longest_outage: self.longest.max(open), is_stuck }
    }
}

impl Span {
    /// Neighbours as one.
    fn joined(spans: &[Self]) -> Self {
        let last = spans[spans.len() - 1].last;
        let failures = spans.iter().map(|span| span.failures).fold(0, u32::saturating_add);
        Self { first: spans[0].first, last, failures }
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
        let lookups = [(0, 1, OK), (10_000, 5, FAILED), (20_000, 5, FAILED)];
        assert_eq!(standing(&lookups), (50_000, true));
    }

    #[test]
    fn who_is_stuck_is_told_by_when_lookups_were_due() {
        // The first lookup takes 5 s to fail, while later ones succeed at once.
        let late = [(10_000, 5, OK), (10_500, 5, OK), (9_900, 5_000, FAILED)];
        let (outage, is_stuck) = standing(&late);
        assert!(!is_stuck);
        assert_eq!(outage, 105, "from 9.9 s to the success that ended at 10.005 s");
        assert!(standing(&[(10_000, 5, FAILED), (11_000, 5, FAILED), (9_000, 9_000, OK)]).1);
    }

    #[test]
    fn one_failure_at_the_end_sticks_nobody() {
        assert!(!standing(&[(0, 1, OK), (59_000, 5, FAILED)]).1);
        let between = [(1000, 5, FAILED), (2000, 5, OK), (3000, 5, FAILED)];
        assert!(!standing(&between).1);
        assert!(standing(&[(59_000, 5, FAILED), (59_001, 5, FAILED)]).1, "however near");
    }

    #[test]
    fn a_late_success_ends_only_the_failures_before_it() {
        let lookups = [
            (10_000, 5, FAILED),
            (13_000, 5, FAILED),
            (20_000, 5, FAILED),
            (12_000, 9_000, OK),
            (60_000, 5, OK),
        ];
        assert_eq!(standing(&lookups), (47_005, false), "from 13 s to the end of the success");
    }

    #[test]
    fn a_long_outage_is_remembered_in_few_spans() {
        let mut course = Course::default();
        for at in 0..10_000 {
            course.record(&sample(0, at * 200, 5, FAILED));
        }
        assert!(course.open.len() <= SPANS_MAX);
        assert_eq!(course.failures_after(None), 10_000);
        course.record(&sample(0, 1_000_000, 1_500_000, OK));
        let outage = course.standing(ms(4_000_000)).longest_outage;
        assert!(outage >= ms(2_999_800) && outage <= ms(3_000_000), "{outage:?}");
    }

    #[test]
    fn foreign_names_stick_nobody_who_asks_others_too() {
        let of = |class, due, outcome| Sample { class, ..sample(0, due, 1, outcome) };
        let stuck = |lookups: &[Sample]| {
            let clients = Clients::default();
            lookups.iter().for_each(|sample| clients.record(sample));
            clients.counts().1 == 1
        };
        use Class::{Foreign, Headless, Service};
        let foreign = [of(Foreign, 1000, FAILED), of(Foreign, 2000, FAILED)];
        assert!(stuck(&foreign), "who asks nothing else is");
        let with_others = [of(Service, 0, OK), foreign[0], foreign[1]];
        assert!(!stuck(&with_others));
        let others = [foreign[0], of(Service, 2000, FAILED), of(Headless, 3000, FAILED)];
        assert!(stuck(&others));
        let any_success = [others[0], others[1], others[2], of(Foreign, 4000, OK)];
        assert!(!stuck(&any_success), "it gets answers");
    }

    #[test]
    fn a_success_that_was_due_between_two_failures_ends_only_the_first() {
        let lookups = [(10_000, 100, FAILED), (14_000, 100, FAILED), (12_000, 3_000, OK)];
        assert_eq!(standing(&lookups), (46_000, false));
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
            clients.record(&sample(client, 1, 1, FAILED));
        }
        assert_eq!(clients.counts(), (CLIENTS_MAX as u64, CLIENTS_MAX as u64));
        assert_eq!(clients.refused(), 20);
        clients.record(&sample(0, 5, 1, OK));
        assert_eq!(clients.counts().1, CLIENTS_MAX as u64 - 1);
    }

    #[test]
    fn each_class_has_its_own_outages() {
        let clients = Clients::default();
        clients.record(&sample(1, 1000, 1, FAILED));
        clients.record(&sample(1, 1500, 1, FAILED));
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

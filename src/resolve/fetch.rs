//! What a Flight does: asks upstream, doubts a denial of what is known, keeps what is said.
//!
//! ```text
//! ask ─┬─ Answer ──────────────────────────────────────────► keep ─► land
//!      ├─ denial of what is known ─► second opinion ─┬─ agrees ─► keep the denial
//!      │                                             ├─ differs ─► keep the other's Answer
//!      │                                             └─ unknown ─► land what was known before
//!      └─ nobody answers ─► keep the failure; an outage begins
//! ```
//!
//! A recursive upstream has no authority over the names it denies, so doubting it breaks no rule of
//! RFC 8767; an upstream in trouble denies what exists.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::cache::{Cache, Doubt};
use super::entry::{Entry, Freshness};
use super::flight::{Flights, Landed, Landing};
use super::step::Forwarding;
use super::tally::Proto;
use crate::forward::{Answered, Budget, Error, Forward, Opinion};
use crate::wire::answer::Kind;
use crate::wire::{Answer, Question, Rcode, RecordType};

/// How long a client waits for a second opinion when nothing speaks against the denial but that its
/// upstream has failed lately.
const SUSPECT_PATIENCE: Duration = Duration::from_millis(500);
/// The same when an address of the name is known and something else of it was asked for: longer
/// than the only upstream is left alone, and shorter than a query waits while nobody answers.
const NAME_PATIENCE: Duration = Duration::from_millis(1500);
/// TTL of a denial that nobody else could be asked about, in seconds: the next one may know better.
const UNSURE_TTL_S: u32 = 5;
/// How often we look whether an outage is over, and how long each look waits.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const LOOK_PATIENCE: Duration = Duration::from_millis(900);
/// Fewest queries that a directive must allow at once for these looks: they take one place.
const LOOK_CONCURRENT_MIN: usize = 8;

/// One question with all that is needed to have it answered.
pub(super) struct Fetch {
    pub forwarding: Forwarding,
    pub cache: Option<Arc<Cache>>,
    pub question: Question,
    pub proto: Proto,
    /// That of the query which set out: who joins later has its own deadline.
    pub budget: Arc<Budget>,
    /// Whether something that has expired may be served, so that a failure is to be told at once.
    pub has_stale: bool,
    /// Told when a denial is doubted, so that whoever has what is known need not wait for the end.
    pub doubted: Arc<Notify>,
}

/// What is to be done with an Answer.
enum Belief {
    Keep(Answer),
    /// Given to who asked and to nobody else.
    Pass(Answer),
    /// What was known before.
    Known(Arc<Entry>),
}

impl Fetch {
    /// Asks upstream and keeps what it says; also keeps that nobody answered (RFC 9520 §3.2).
    pub async fn run(self) -> Landing {
        let is_tcp = self.proto == Proto::Tcp;
        let forward = &self.forwarding.forward;
        let answered = match self.has_stale {
            true => forward.ask_within(&self.question, is_tcp, &self.budget).await,
            false => forward.ask_patiently(&self.question, is_tcp, &self.budget).await,
        };
        match answered {
            Ok(answered) => {
                self.note_answer();
                let belief = self.weigh(answered).await;
                Ok(Arc::new(self.land(belief)))
            }
            Err(error) => {
                self.note_failure(&error);
                Err(Arc::new(error))
            }
        }
    }

    /// Whether an Answer is to be believed, which only a denial may not be.
    async fn weigh(&self, answered: Answered) -> Belief {
        let Some(cache) = self.cache.as_deref().filter(|_| is_denial(&answered.answer)) else {
            return Belief::Keep(answered.answer);
        };
        let known = cache.doubts(&self.question, now());
        // What is asked for may be denied alone, but not the name: clients that ask for both
        // families give up for the NXDOMAIN of one.
        let is_name_known = answered.answer.kind() == Kind::NxDomain
            && (known.is_some() || cache.knows_name(&self.question, now()));
        if known.is_none() && !is_name_known && !self.is_suspect(&answered) {
            return Belief::Keep(answered.answer);
        }
        // Whoever waits for what is known got it at once; others wait for the opinion.
        let patience = match &known {
            Some(_) => None,
            None if is_name_known => Some(NAME_PATIENCE),
            None => Some(SUSPECT_PATIENCE),
        };
        // Whoever asks meanwhile gets what is known at once.
        cache.refresh_failed(&self.question, now());
        self.doubted.notify_one();
        let (belief, doubt) = match (self.second_opinion(&answered, patience).await, known) {
            (Opinion::Agrees, _) => (Belief::Keep(answered.answer), Doubt::Agreed),
            (Opinion::Differs(other), _) if other.answer.kind() != Kind::Failure => {
                (Belief::Keep(other.answer), Doubt::Differed)
            }
            (_, Some(known)) => (Belief::Known(known), Doubt::Unknown),
            // The name exists, so nothing is left of the denial but that this type has nothing.
            (_, None) if is_name_known => {
                let mut nothing = Answer::bare(Rcode::NOERROR, None);
                nothing.recursion_available = answered.answer.recursion_available;
                (Belief::Pass(nothing), Doubt::Unknown)
            }
            (_, None) => (Belief::Pass(answered.answer), Doubt::Unknown),
        };
        cache.counters.doubted(doubt);
        belief
    }

    async fn second_opinion(&self, denied: &Answered, patience: Option<Duration>) -> Opinion {
        let opinion = self.forwarding.forward.second_opinion(&self.question, denied, &self.budget);
        match patience {
            None => opinion.await,
            Some(patience) => timeout(patience, opinion).await.unwrap_or(Opinion::Unknown),
        }
    }

    /// Whether the upstream has failed lately and another one can be asked.
    fn is_suspect(&self, answered: &Answered) -> bool {
        answered.upstream.is_suspect() && self.forwarding.forward.has_another(&answered.upstream)
    }

    fn land(&self, belief: Belief) -> Landed {
        match belief {
            Belief::Keep(answer) => {
                let ttl_s = self.keep(&answer);
                Landed { answer, ttl_s, is_kept: false }
            }
            Belief::Pass(answer) => Landed { answer, ttl_s: Some(UNSURE_TTL_S), is_kept: false },
            Belief::Known(entry) => {
                let ttl_s = match entry.freshness(now()) {
                    Freshness::Fresh(left_s) => Some(left_s),
                    _ => Some(UNSURE_TTL_S),
                };
                Landed { answer: entry.answer.clone(), ttl_s, is_kept: true }
            }
        }
    }

    /// Keeps an Answer. The result is the TTL to send.
    fn keep(&self, answer: &Answer) -> Option<u32> {
        let cache = self.cache.as_ref()?;
        if answer.kind() == Kind::Failure {
            cache.refresh_failed(&self.question, now());
        }
        let stored = cache.store(&self.question, answer, now());
        stored.filter(|_| !cache.config.keep_ttl).map(|entry| entry.ttl.as_secs() as u32)
    }

    fn note_answer(&self) {
        end_outage(&self.forwarding.flights, self.cache.as_deref());
    }

    fn note_failure(&self, error: &Error) {
        let Error::Upstream { .. } = error else { return };
        if let Some(cache) = &self.cache {
            cache.refresh_failed(&self.question, now());
            cache.store(&self.question, &Answer::bare(Rcode::SERVFAIL, error.ede()), now());
        }
        let Forwarding { forward, flights } = &self.forwarding;
        let can_look = forward.config().max_concurrent.is_none_or(|max| max >= LOOK_CONCURRENT_MIN);
        if flights.outage.failed(now()) && can_look && flights.outage.claim_look() {
            let cache = self.cache.as_ref().map(Arc::downgrade).unwrap_or_default();
            // Ends with the outage, or with the directive.
            tokio::spawn(look_for_the_end(Arc::downgrade(forward), Arc::downgrade(flights), cache));
        }
    }
}

/// Asks for the name of health probes until somebody answers, whatever it says: names that failed
/// are kept so, and nobody may come to ask for another.
async fn look_for_the_end(forward: Weak<Forward>, flights: Weak<Flights>, cache: Weak<Cache>) {
    loop {
        sleep(LOOK_INTERVAL).await;
        let (Some(forward), Some(flights)) = (forward.upgrade(), flights.upgrade()) else { return };
        if !flights.outage.is_on() {
            return flights.outage.end_look();
        }
        let question = Question::new(&forward.config().health_check.domain, RecordType::NS);
        let budget = Budget::new(Instant::now());
        let look = forward.ask_within(&question, false, &budget);
        match timeout(LOOK_PATIENCE, look).await {
            Ok(Ok(_)) => end_outage(&flights, cache.upgrade().as_deref()),
            Err(_) | Ok(Err(Error::Upstream { .. } | Error::AllDown)) => flights.outage.confirm(),
            // We did not ask, which says nothing of the upstreams.
            Ok(Err(_)) => {}
        }
    }
}

fn end_outage(flights: &Flights, cache: Option<&Cache>) {
    if flights.outage.answered(now())
        && let Some(cache) = cache
    {
        cache.outage_ended();
    }
}

fn is_denial(answer: &Answer) -> bool {
    matches!(answer.kind(), Kind::NoData | Kind::NxDomain)
}

/// The clock of the runtime, which tests can stop.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

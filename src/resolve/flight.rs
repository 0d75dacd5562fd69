//! One question on its way to upstreams, shared by all clients that wait for it.
//!
//! The first who asks starts the Flight, a task of its own: it lands and fills the cache even when
//! every client has gone. Those who come while it is under way wait for the same Answer, so a
//! crowd behind one name costs one query upstream (and a spoofer gets one chance, RFC 5452 §5).

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::outage::Outage;
use crate::wire::answer::Kind;
use crate::wire::{Answer, Question};

/// Flights under way at once, for one `forward` directive; beyond it new questions are refused.
pub const FLIGHTS_MAX: usize = 8192;

/// What a Flight brings: an Answer, or why there is none.
pub type Landing = Result<Arc<Landed>, Arc<crate::forward::Error>>;

/// An Answer that has arrived.
pub struct Landed {
    pub answer: Answer,
    /// TTL to send instead of the upstream's, in seconds, when the Answer was cached.
    pub ttl_s: Option<u32>,
    /// Whether this is what was known before, because the upstream's denial of it is doubted.
    pub is_kept: bool,
}

type UnderWay = HashMap<Question, watch::Receiver<Option<Landing>>>;

impl Landed {
    /// Whether the upstream reports a failure.
    pub fn is_failure(&self) -> bool {
        self.answer.kind() == Kind::Failure
    }
}

/// The Flights of one `forward` directive.
#[derive(Default)]
pub struct Flights {
    under_way: Mutex<UnderWay>,
    /// Whether any upstream answers at all.
    pub outage: Outage,
    /// Questions that joined a Flight of somebody else.
    pub joined: AtomicU64,
    /// Questions refused because too many Flights were under way.
    pub refused: AtomicU64,
}

impl Flights {
    /// The Answer of the Flight of this question, which `start` begins if none is under way.
    /// `None` when there are too many.
    ///
    /// Not an async function: its future would have room for `start` as long as it waits.
    pub fn join<F>(
        self: &Arc<Self>,
        question: &Question,
        start: F,
    ) -> impl Future<Output = Option<Landing>> + use<F>
    where
        F: Future<Output = Landing> + Send + 'static,
    {
        let landing = self.board(question, start);
        async move {
            let mut landing = landing?;
            let landed = landing.wait_for(Option::is_some).await;
            // The sender is gone without a word only if its task panicked.
            landed.ok().and_then(|landed| landed.clone())
        }
    }

    fn board<F>(
        self: &Arc<Self>,
        question: &Question,
        start: F,
    ) -> Option<watch::Receiver<Option<Landing>>>
    where
        F: Future<Output = Landing> + Send + 'static,
    {
        let mut under_way = self.under_way.lock();
        if let Some(landing) = under_way.get(question) {
            self.joined.fetch_add(1, Ordering::Relaxed);
            return Some(landing.clone());
        }
        if under_way.len() >= FLIGHTS_MAX {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(question.clone(), receiver.clone());
        let seat = Seat { flights: self.clone(), question: question.clone() };
        // Ends by itself: an exchange has a total time-out.
        tokio::spawn(async move {
            let landed = start.await;
            drop(seat);
            let _ = sender.send(Some(landed));
        });
        Some(receiver)
    }

    /// Flights under way.
    pub fn len(&self) -> usize {
        self.under_way.lock().len()
    }

    /// Whether no Flight is under way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A place among the Flights under way, given back even when the task panics.
struct Seat {
    flights: Arc<Flights>,
    question: Question,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.flights.under_way.lock().remove(&self.question);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Name, Rcode, RecordType};

    #[tokio::test]
    async fn a_crowd_behind_one_question_starts_one_flight() {
        let flights = Arc::new(Flights::default());
        let question = Question::new(&Name::parse("w.example").unwrap(), RecordType::A);
        let (release, gate) = tokio::sync::watch::channel(false);
        let started = Arc::new(AtomicU64::new(0));
        let crowd: Vec<_> = (0..100)
            .map(|_| {
                let (flights, question) = (flights.clone(), question.clone());
                let (mut gate, started) = (gate.clone(), started.clone());
                tokio::spawn(async move {
                    let fetch = async move {
                        started.fetch_add(1, Ordering::Relaxed);
                        gate.wait_for(|open| *open).await.unwrap();
                        let answer = Answer::bare(Rcode::NXDOMAIN, None);
                        Ok(Arc::new(Landed { answer, ttl_s: None, is_kept: false }))
                    };
                    flights.join(&question, fetch).await
                })
            })
            .collect();
        while flights.joined.load(Ordering::Relaxed) < 99 {
            tokio::task::yield_now().await;
        }
        release.send(true).unwrap();
        for client in crowd {
            let landing = client.await.unwrap().unwrap().unwrap();
            assert_eq!(landing.answer.rcode, Rcode::NXDOMAIN);
        }
        assert_eq!(started.load(Ordering::Relaxed), 1);
        assert!(flights.is_empty());
    }

    #[tokio::test]
    async fn a_flight_that_panics_frees_its_place() {
        let flights = Arc::new(Flights::default());
        let question = Question::new(&Name::root(), RecordType::NS);
        let landing = flights.join(&question, async { panic!("a bug") }).await;
        assert!(landing.is_none() && flights.is_empty());
    }
}

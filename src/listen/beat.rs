//! Whether the threads that answer still move.
//!
//! Each one counts its turns, also those in which nothing came. Whoever looks judges by
//! [`Stillness`], which tells a thread that hangs from a machine that stood still.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often one looks.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A look that comes this late says nothing: the machine was paused, or is so busy that others may
/// have had no turn either.
const LOOK_LATE: Duration = Duration::from_millis(750);

/// The threads that are looked at.
#[derive(Default)]
pub struct Beats(Mutex<Vec<Watched>>);

/// A thread, and how it is judged.
struct Watched {
    name: String,
    patience: Duration,
    turns: Weak<AtomicU64>,
    stillness: Stillness,
}

/// The counter of one thread, which is looked at as long as this lives.
#[derive(Clone, Default)]
pub struct Beat(Arc<AtomicU64>);

impl Beats {
    /// Looks at a thread from here on; `patience` is how long it may stand still.
    pub fn start(&self, name: String, patience: Duration, now: Instant) -> Beat {
        let beat = Beat::default();
        let (turns, stillness) = (Arc::downgrade(&beat.0), Stillness::new(now));
        self.0.lock().push(Watched { name, patience, turns, stillness });
        beat
    }

    /// The name of a thread that has stood still for longer than it may.
    pub fn stuck(&self, now: Instant) -> Option<String> {
        let mut threads = self.0.lock();
        threads.retain(|thread| thread.turns.strong_count() > 0);
        let mut stuck = None;
        for thread in &mut *threads {
            let turns = thread.turns.upgrade().map_or(0, |turns| turns.load(Ordering::Relaxed));
            if thread.stillness.look(turns, now) > thread.patience {
                stuck = Some(thread.name.clone());
            }
        }
        stuck
    }
}

impl Beat {
    /// Counts a turn.
    pub fn turn(&self) {
        // Only this thread writes: no locked instruction is needed.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

/// How long a count has not changed while somebody was awake to see it.
pub struct Stillness {
    count: u64,
    since: Instant,
    looked: Instant,
}

impl Stillness {
    /// Begins to look.
    pub fn new(now: Instant) -> Self {
        Self { count: 0, since: now, looked: now }
    }

    /// Looks, and tells for how long there was no change. To be called each [`LOOK_EVERY`].
    pub fn look(&mut self, count: u64, now: Instant) -> Duration {
        let is_late = now.saturating_duration_since(self.looked) > LOOK_LATE;
        if count != self.count || is_late {
            (self.count, self.since) = (count, now);
        }
        self.looked = now;
        now.saturating_duration_since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p16_a_thread_that_stands_still_is_named_and_one_that_has_ended_is_not() {
        let (beats, mut now) = (Beats::default(), Instant::now());
        let patience = Duration::from_secs(2);
        let (one, other) =
            (beats.start("one".into(), patience, now), beats.start("other".into(), patience, now));
        for _ in 0..8 {
            now += LOOK_EVERY;
            one.turn();
            assert_eq!(beats.stuck(now), None);
        }
        now += LOOK_EVERY;
        one.turn();
        assert_eq!(beats.stuck(now), Some("other".to_owned()));
        drop(other);
        assert_eq!(beats.stuck(now), None);
    }

    #[test]
    fn p9_a_machine_that_was_paused_accuses_nobody() {
        let (beats, mut now) = (Beats::default(), Instant::now());
        let patience = Duration::from_secs(2);
        let _beat = beats.start("one".into(), patience, now);
        now += Duration::from_secs(600);
        assert_eq!(beats.stuck(now), None);
        for _ in 0..8 {
            now += LOOK_EVERY;
            assert_eq!(beats.stuck(now), None, "it gets its whole time after the pause");
        }
        assert!(beats.stuck(now + LOOK_EVERY).is_some());
    }
}

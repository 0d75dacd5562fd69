//! What a process keeps of what it has looked up, within bounds that the real ones lack.
//!
//! What nobody needs is swept out when there is twice as much as the sweep before left, so that a
//! canary that runs for weeks keeps what is fresh and little more.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

/// Most that is kept. Where there is no room, names are looked up each time.
pub const KEPT_MAX: usize = 65_536;
/// Fewer are not swept.
const SWEPT_MIN: usize = 1024;
/// A full map of fresh things is looked through so often.
const FULL_SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A map with bounds.
pub struct Kept<K, V> {
    map: HashMap<K, V>,
    /// A sweep is due with so many.
    sweep_at: usize,
    swept: Instant,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self { map: HashMap::new(), sweep_at: SWEPT_MIN, swept: Instant::now() }
    }
}

impl<K: Hash + Eq, V> Kept<K, V> {
    /// What is kept of a key.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.map.get(key)
    }

    /// Keeps a value, if there is room; `is_needed` says what a sweep leaves. Whether it is kept.
    pub fn insert(&mut self, key: K, value: V, is_needed: impl Fn(&V) -> bool) -> bool {
        if self.is_sweep_due() {
            self.map.retain(|_, value| is_needed(value));
            self.sweep_at = (2 * self.map.len()).clamp(SWEPT_MIN, KEPT_MAX);
            self.swept = Instant::now();
        }
        let has_room = self.map.len() < KEPT_MAX || self.map.contains_key(&key);
        if has_room {
            self.map.insert(key, value);
        }
        has_room
    }

    fn is_sweep_due(&self) -> bool {
        let len = self.map.len();
        len >= self.sweep_at && (len < KEPT_MAX || self.swept.elapsed() >= FULL_SWEEP_EVERY)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_is_stale_does_not_pile_up() {
        let mut kept = Kept::default();
        for number in 0..100_000_u32 {
            // The last hundred are needed.
            assert!(kept.insert(number, number, |value| value + 100 > number));
            assert!(kept.map.len() <= SWEPT_MIN, "{number}");
        }
        assert_eq!(kept.get(&99_999), Some(&99_999));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_map_is_swept_once_a_second() {
        let (mut kept, looks) = (Kept::default(), Cell::new(0));
        let insert = |kept: &mut Kept<usize, bool>, number, is_needed| {
            kept.insert(number, true, |_| {
                looks.set(looks.get() + 1);
                is_needed
            })
        };
        for number in 0..KEPT_MAX {
            assert!(insert(&mut kept, number, true));
        }
        looks.set(0);
        for number in 0..100 {
            assert!(!insert(&mut kept, KEPT_MAX + number, true));
        }
        assert!(insert(&mut kept, 7, true), "there is a place already");
        assert_eq!(looks.get(), 0);
        tokio::time::advance(FULL_SWEEP_EVERY).await;
        assert!(insert(&mut kept, KEPT_MAX, false));
        assert_eq!((looks.get(), kept.map.len()), (KEPT_MAX, 1));
    }
}

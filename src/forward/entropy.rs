//! Numbers that nobody can guess: query ids, source ports and probe names.
//!
//! All come from the thread's ChaCha generator, which is seeded and reseeded by the operating
//! system. No small generator: its state can be recovered from a few ids (as BIND CVE-2025-40780),
//! and no pool of ports per thread, for it can be mapped (as Unbound CVE-2026-50252).

use rand::{Rng, RngExt};

/// Lowest source port that is drawn. RFC 5452 §9.2: the largest range there is, so not the
/// 28 232 ports of the kernel's ephemeral range but 64 512.
pub const PORT_MIN: u16 = 1024;

/// An id for one request (RFC 5452 §9.1: all 16 bits).
pub fn id() -> u16 {
    rand::rng().random()
}

/// A source port for one request.
pub fn port() -> u16 {
    rand::rng().random_range(PORT_MIN..=u16::MAX)
}

/// A label of 64 random bits in hexadecimal, for a probe that nobody can forge.
pub fn label() -> String {
    let bits: u64 = rand::rng().random();
    format!("{bits:016x}")
}

/// The generator, for a shuffle.
pub fn source() -> impl Rng {
    rand::rng()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const DRAWS: usize = 2_000;
    const BUCKETS: usize = 16;

    /// How many of the draws fall into each sixteenth of the range.
    fn spread(draws: &[u16], min: u16) -> [usize; BUCKETS] {
        let width = (65_536 - usize::from(min)).div_ceil(BUCKETS);
        let mut buckets = [0; BUCKETS];
        for draw in draws {
            buckets[usize::from(draw - min) / width] += 1;
        }
        buckets
    }

    /// 125 draws are expected in a bucket, with a deviation of 11: the bounds are six deviations
    /// away, so that an honest generator fails once in 10⁸ runs.
    fn assert_even(draws: &[u16], min: u16) {
        let buckets = spread(draws, min);
        assert!(buckets.iter().all(|count| (60..=190).contains(count)), "{buckets:?}");
        let distinct = draws.iter().collect::<HashSet<_>>().len();
        assert!(distinct > DRAWS - 100, "only {distinct} different draws");
    }

    #[test]
    fn ports_are_spread_over_all_unprivileged_ports() {
        let draws: Vec<u16> = (0..DRAWS).map(|_| port()).collect();
        assert_even(&draws, PORT_MIN);
    }

    #[test]
    fn ids_are_spread_over_all_sixteen_bits() {
        let draws: Vec<u16> = (0..DRAWS).map(|_| id()).collect();
        assert_even(&draws, 0);
    }

    #[test]
    fn a_probe_label_is_a_whole_label_and_never_the_same() {
        let labels: HashSet<String> = (0..DRAWS).map(|_| label()).collect();
        assert_eq!(labels.len(), DRAWS);
        assert!(labels.iter().all(|label| label.len() == 16));
    }
}

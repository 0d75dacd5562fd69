//! Latencies in few octets: 16 buckets per power of two, so that a value is known to 3.2 %.
//!
//! For what there is much of (a histogram per slot of the timeline); percentiles of the whole run
//! come from HdrHistograms, which are exact to 0.1 %.

use super::super::report::histogram::LONGEST_US;

/// Buckets per power of two.
const PER_OCTAVE: u32 = 16;
/// Their logarithm.
const OCTAVE_BITS: u32 = PER_OCTAVE.ilog2();
/// Buckets up to [`LONGEST_US`].
const BUCKETS: usize = index(LONGEST_US) + 1;

/// Counts by latency. A count wraps after 2³² of the same latency, which is hours at the highest
/// rate: differences of two readings stay right, and no slot of a timeline lasts as long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Buckets {
    counts: Box<[u32; BUCKETS]>,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]) }
    }
}

impl Buckets {
    /// Counts one latency in microseconds.
    pub fn record(&mut self, us: u64) {
        let count = &mut self.counts[index(us.min(LONGEST_US))];
        *count = count.wrapping_add(1);
    }

    /// Adds the counts of another.
    pub fn add(&mut self, other: &Self) {
        for (count, other) in self.counts.iter_mut().zip(other.counts.iter()) {
            *count = count.wrapping_add(*other);
        }
    }

    /// What was counted since an earlier reading of the same.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = self.clone();
        for (count, earlier) in since.counts.iter_mut().zip(earlier.counts.iter()) {
            *count = count.wrapping_sub(*earlier);
        }
        since
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    /// The latency in microseconds that this part (0 to 1) did not exceed: the middle of its
    /// bucket. Zero where there is nothing.
    pub fn quantile(&self, part: f64) -> f64 {
        let rank = ((self.count() as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return middle(index);
            }
        }
        0.0
    }
}

/// The bucket of a latency: exact below [`PER_OCTAVE`], then by its highest bits.
const fn index(us: u64) -> usize {
    if us < PER_OCTAVE as u64 {
        return us as usize;
    }
    let shift = us.ilog2() - OCTAVE_BITS;
    (shift * PER_OCTAVE) as usize + (us >> shift) as usize
}

/// The middle of a bucket.
fn middle(index: usize) -> f64 {
    let per_octave = PER_OCTAVE as usize;
    if index < per_octave {
        return index as f64;
    }
    let shift = index / per_octave - 1;
    let low = ((index - shift * per_octave) as u64) << shift;
    low as f64 + ((1_u64 << shift) - 1) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_is_known_to_a_thirtieth(us in 1..=LONGEST_US) {
            let seen = middle(index(us));
            prop_assert!((seen - us as f64).abs() <= us as f64 / 31.0, "{us} is {seen}");
        }

        #[test]
        fn quantiles_are_near_those_of_the_values(
            mut values in prop::collection::vec(1..LONGEST_US, 1..200),
            part in 0.0..=1.0_f64,
        ) {
            let mut buckets = Buckets::default();
            values.iter().for_each(|us| buckets.record(*us));
            values.sort_unstable();
            let rank = ((values.len() as f64 * part).ceil() as usize).max(1);
            let right = values[rank - 1] as f64;
            prop_assert!((buckets.quantile(part) - right).abs() <= right / 31.0);
        }
    }

    #[test]
    fn what_is_longer_than_the_longest_is_in_the_last_bucket() {
        let mut buckets = Buckets::default();
        buckets.record(u64::MAX);
        assert_eq!(buckets.count(), 1);
        assert!(buckets.quantile(1.0) >= LONGEST_US as f64 * 0.96);
    }

    #[test]
    fn the_difference_is_what_came_since() {
        let mut buckets = Buckets::default();
        assert_eq!(buckets.quantile(0.5), 0.0);
        buckets.record(100);
        let earlier = buckets.clone();
        buckets.record(5000);
        let since = buckets.since(&earlier);
        assert_eq!(since.count(), 1);
        assert!((since.quantile(0.5) - 5000.0).abs() < 160.0);
        let mut sum = earlier;
        sum.add(&since);
        assert_eq!(sum, buckets);
    }
}

//! How long did it take? A log-linear histogram of nanoseconds: 64 steps per power of two, so a
//! quantile is at most 1.6 % above the truth.

use std::time::Duration;

const STEPS: u64 = 64;
const STEPS_LOG2: u32 = STEPS.ilog2();
/// Up to 2^40 ns, 18 minutes.
const BUCKETS: usize = ((40 - STEPS_LOG2 + 1) as usize) * STEPS as usize;

/// Counts of durations.
#[derive(Clone)]
pub struct Histogram {
    buckets: Box<[u32]>,
    count: u64,
    max_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS].into(), count: 0, max_ns: 0 }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, ns: u64) {
        let bucket = bucket(ns).min(BUCKETS - 1);
        self.buckets[bucket] += 1;
        self.count += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }

    /// The duration that this part (0 to 1) of all do not exceed; zero when nothing was counted.
    pub fn quantile(&self, part: f64) -> Duration {
        let rank = ((self.count as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return Duration::from_nanos(top(bucket).min(self.max_ns));
            }
        }
        self.max()
    }
}

/// Values below [`STEPS`] have a bucket each; above, the six bits after the first one count.
fn bucket(ns: u64) -> usize {
    if ns < STEPS {
        return ns as usize;
    }
    let shift = ns.ilog2() - STEPS_LOG2;
    (u64::from(shift) * STEPS + (ns >> shift)) as usize
}

/// The largest value of a bucket.
fn top(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    ((bucket - shift * STEPS + 1) << shift) - 1
}

//! What the queries of one Block came to, counted once per Verdict.
//!
//! Each worker has a [`Pen`], and with it a shard that nobody else writes: counting shares no cache
//! line and needs no locked instruction. The last shard is for everybody else, such as the runtime.
//! `ops` sums the shards when it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::wire::{Rcode, RecordType};

/// Types that have a label of their own, as in CoreDNS; every other one counts as `other`.
pub const TYPES: [RecordType; 17] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::CNAME,
    RecordType::DNSKEY,
    RecordType::DS,
    RecordType::HTTPS,
    RecordType::MX,
    RecordType::NS,
    RecordType::NSEC,
    RecordType::NSEC3,
    RecordType::PTR,
    RecordType::RRSIG,
    RecordType::SOA,
    RecordType::SRV,
    RecordType::SVCB,
    RecordType::TXT,
    RecordType::ANY,
];
/// Response codes that are counted: 0 to 10 and BADVERS.
pub const RCODES: usize = 12;
/// Upper bounds of the duration buckets, in µs: 0.25 ms · 2ⁿ (as CoreDNS).
pub const DURATION_US: [u64; 16] = {
    let mut bounds = [250; 16];
    let mut n = 1;
    while n < bounds.len() {
        bounds[n] = bounds[n - 1] * 2;
        n += 1;
    }
    bounds
};
/// Upper bounds of the size buckets, in octets (as CoreDNS).
pub const SIZE_BYTES: [u64; 14] =
    [0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000];

/// The transport of a query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Proto {
    Udp,
    Tcp,
}

/// Which Step gave the reply: the `plugin` label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Author {
    None,
    Kubernetes,
    Cache,
    Forward,
    External,
}

/// The labels of [`Author`], in its order.
pub const AUTHORS: [&str; 5] = ["", "kubernetes", "cache", "forward", "k8s_external"];

/// One query and its reply, to be counted.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// The number of the Block; `None` when there is no Block for it.
    pub block: Option<usize>,
    pub proto: Proto,
    pub is_ipv6: bool,
    pub rtype: RecordType,
    pub dnssec_ok: bool,
    pub rcode: Rcode,
    pub author: Author,
    pub request_bytes: usize,
    pub reply_bytes: usize,
}

/// The counters of one Block on one listen port.
pub struct Tally {
    /// Such as `dns://:53`.
    pub server: String,
    /// The zone of the Block, or `dropped` for queries that no Block is for.
    pub zone: String,
    shards: Box<[Shard]>,
}

/// A histogram with `N` bounded buckets.
pub struct Histogram<const N: usize> {
    buckets: [AtomicU64; N],
    over: AtomicU64,
    sum: AtomicU64,
}

/// The right to count in a shard of a [`Tally`]: in one of its own as long as one is free, or in
/// the shared one. Gives the shard back when it is dropped.
pub struct Pen {
    tally: Arc<Tally>,
    shard: usize,
}

/// Counters of one writer, on cache lines of their own.
#[repr(align(128))]
#[derive(Default)]
struct Shard {
    /// Whether a [`Pen`] has it.
    is_taken: AtomicBool,
    /// By transport, family and type.
    requests: [[[AtomicU64; TYPES.len() + 1]; 2]; 2],
    /// By code and author.
    responses: [[AtomicU64; AUTHORS.len()]; RCODES],
    dnssec_ok: AtomicU64,
    duration_us: Histogram<16>,
    request_bytes: [Histogram<14>; 2],
    reply_bytes: [Histogram<14>; 2],
}

/// The sums over all shards.
#[derive(Default, Clone)]
#[allow(missing_docs)]
pub struct Totals {
    pub requests: [[[u64; TYPES.len() + 1]; 2]; 2],
    pub responses: [[u64; AUTHORS.len()]; RCODES],
    pub dnssec_ok: u64,
    pub duration_us: HistogramTotal,
    pub request_bytes: [HistogramTotal; 2],
    pub reply_bytes: [HistogramTotal; 2],
}

/// A histogram at rest: counts per bucket (not cumulative), the last one without bound, and the
/// sum.
#[derive(Default, Clone)]
#[allow(missing_docs)]
pub struct HistogramTotal {
    pub buckets: Vec<u64>,
    pub sum: u64,
}

impl Tally {
    /// Counters with a shard for each worker, and one for the runtime.
    pub fn new(server: String, zone: String, workers: usize) -> Self {
        Self { server, zone, shards: (0..=workers).map(|_| Shard::default()).collect() }
    }

    /// Counts queries whose replies took the same time, for those without a [`Pen`].
    pub fn count(&self, batch: &[Served], elapsed: Duration) {
        self.shards[self.shared()].count(batch, elapsed, add_shared);
    }

    /// The shard that everybody may write.
    fn shared(&self) -> usize {
        self.shards.len() - 1
    }

    /// Everything counted so far.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in &self.shards {
            for (sum, cell) in totals
                .requests
                .as_flattened_mut()
                .as_flattened_mut()
                .iter_mut()
                .zip(shard.requests.as_flattened().as_flattened())
            {
                *sum += read(cell);
            }
            let responses = shard.responses.as_flattened();
            for (sum, cell) in totals.responses.as_flattened_mut().iter_mut().zip(responses) {
                *sum += read(cell);
            }
            totals.dnssec_ok += read(&shard.dnssec_ok);
            shard.duration_us.add_to(&mut totals.duration_us);
            for proto in 0..2 {
                shard.request_bytes[proto].add_to(&mut totals.request_bytes[proto]);
                shard.reply_bytes[proto].add_to(&mut totals.reply_bytes[proto]);
            }
        }
        totals
    }
}

impl Pen {
    /// A pen for this Tally.
    pub fn of(tally: &Arc<Tally>) -> Self {
        // Acquire: what the last owner has counted is there before this one goes on.
        let take = |shard: &Shard| !shard.is_taken.swap(true, Ordering::Acquire);
        let own = &tally.shards[..tally.shared()];
        let shard = own.iter().position(take).unwrap_or(tally.shared());
        Self { tally: tally.clone(), shard }
    }

    /// Counts queries whose replies took the same time.
    pub fn count(&self, batch: &[Served], elapsed: Duration) {
        let shard = &self.tally.shards[self.shard];
        match self.shard == self.tally.shared() {
            true => shard.count(batch, elapsed, add_shared),
            false => shard.count(batch, elapsed, add_own),
        }
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        self.tally.shards[self.shard].is_taken.store(false, Ordering::Release);
    }
}

impl Shard {
    fn count(&self, batch: &[Served], elapsed: Duration, add: impl Fn(&AtomicU64, u64) + Copy) {
        for served in batch {
            let (proto, family) = (served.proto as usize, usize::from(served.is_ipv6));
            add(&self.requests[proto][family][type_number(served.rtype)], 1);
            let rcode = usize::from(served.rcode.0).min(RCODES - 1);
            add(&self.responses[rcode][served.author as usize], 1);
            if served.dnssec_ok {
                add(&self.dnssec_ok, 1);
            }
            self.request_bytes[proto].count(&SIZE_BYTES, served.request_bytes as u64, 1, add);
            self.reply_bytes[proto].count(&SIZE_BYTES, served.reply_bytes as u64, 1, add);
        }
        let (us, replies) = (elapsed.as_micros() as u64, batch.len() as u64);
        self.duration_us.count(&DURATION_US, us, replies, add);
    }
}

/// The number of a type in [`TYPES`]; behind the last one for all others.
fn type_number(rtype: RecordType) -> usize {
    const NUMBERS: [u8; 256] = {
        let mut numbers = [TYPES.len() as u8; 256];
        let mut number = 0;
        while number < TYPES.len() {
            numbers[TYPES[number].0 as usize] = number as u8;
            number += 1;
        }
        numbers
    };
    NUMBERS.get(usize::from(rtype.0)).map_or(TYPES.len(), |&number| usize::from(number))
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self {
            buckets: [const { AtomicU64::new(0) }; N],
            over: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }
}

impl<const N: usize> Histogram<N> {
    /// Counts a value, seen so many times, under the first bound that holds it.
    #[inline]
    fn count(
        &self,
        bounds: &[u64; N],
        value: u64,
        times: u64,
        add: impl Fn(&AtomicU64, u64) + Copy,
    ) {
        let bucket = bounds.iter().position(|&bound| value <= bound);
        add(bucket.map_or(&self.over, |bucket| &self.buckets[bucket]), times);
        add(&self.sum, value * times);
    }

    /// Adds the counts to a total.
    fn add_to(&self, total: &mut HistogramTotal) {
        total.buckets.resize(N + 1, 0);
        let cells = self.buckets.iter().chain([&self.over]);
        for (sum, cell) in total.buckets.iter_mut().zip(cells) {
            *sum += read(cell);
        }
        total.sum += read(&self.sum);
    }
}

/// The value of label `family`: 1 is IPv4, 2 is IPv6 (as CoreDNS).
pub const FAMILIES: [&str; 2] = ["1", "2"];

/// Adds to a cell that anybody may write.
fn add_shared(cell: &AtomicU64, count: u64) {
    cell.fetch_add(count, Ordering::Relaxed);
}

/// Adds to a cell that nobody else writes: a locked instruction costs several times as much.
fn add_own(cell: &AtomicU64, count: u64) {
    cell.store(read(cell) + count, Ordering::Relaxed);
}

fn read(cell: &AtomicU64) -> u64 {
    cell.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVED: Served = Served {
        block: Some(0),
        proto: Proto::Udp,
        is_ipv6: false,
        rtype: RecordType::A,
        dnssec_ok: true,
        rcode: Rcode::NXDOMAIN,
        author: Author::Kubernetes,
        request_bytes: 60,
        reply_bytes: 130,
    };

    fn tally(workers: usize) -> Arc<Tally> {
        Arc::new(Tally::new("dns://:53".into(), ".".into(), workers))
    }

    #[test]
    fn the_totals_are_the_sum_of_the_shards() {
        let tally = tally(2);
        let pens = [Pen::of(&tally), Pen::of(&tally)];
        pens.iter().for_each(|pen| pen.count(&[SERVED], Duration::from_micros(300)));
        tally.count(&[SERVED], Duration::from_micros(300));
        let odd = Served { rtype: RecordType(4711), proto: Proto::Tcp, is_ipv6: true, ..SERVED };
        pens[0].count(&[odd], Duration::from_secs(60));
        let totals = tally.totals();
        assert_eq!(totals.requests[0][0][0], 3);
        assert_eq!(totals.requests[1][1][TYPES.len()], 1);
        assert_eq!(totals.responses[3][Author::Kubernetes as usize], 4);
        assert_eq!((totals.dnssec_ok, totals.duration_us.sum), (4, 60_000_900));
        assert_eq!((totals.duration_us.buckets[1], totals.duration_us.buckets[16]), (3, 1));
        assert_eq!(totals.reply_bytes[0].buckets[2], 3);
    }

    #[test]
    fn more_threads_than_shards_lose_no_count() {
        const THREADS: usize = 6;
        const BATCHES: usize = 2_000;
        let tally = tally(2);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..BATCHES {
                        // A new one each time, as if each batch met another Plan.
                        Pen::of(&tally).count(&[SERVED; 3], Duration::from_micros(7));
                    }
                });
            }
        });
        let (totals, count) = (tally.totals(), (3 * THREADS * BATCHES) as u64);
        assert_eq!((totals.requests[0][0][0], totals.dnssec_ok), (count, count));
        assert_eq!((totals.duration_us.buckets[0], totals.duration_us.sum), (count, 7 * count));
        assert_eq!(
            (totals.request_bytes[0].sum, totals.reply_bytes[0].sum),
            (60 * count, 130 * count)
        );
    }

    #[test]
    fn every_type_with_a_label_has_its_number() {
        for (number, rtype) in TYPES.into_iter().enumerate() {
            assert_eq!(type_number(rtype), number);
        }
        assert_eq!(type_number(RecordType(0)), TYPES.len());
        assert_eq!(type_number(RecordType(256)), TYPES.len());
    }
}

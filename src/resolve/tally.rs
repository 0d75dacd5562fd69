//! What the queries of one Block came to, counted once per Verdict.
//!
//! Each worker has a shard of its own, so that counting shares no cache line; the last shard is
//! for what is answered later, on the runtime. `ops` sums the shards when it is asked.

use std::sync::atomic::{AtomicU64, Ordering};
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
}

/// The labels of [`Author`], in its order.
pub const AUTHORS: [&str; 4] = ["", "kubernetes", "cache", "forward"];

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

/// Counters of one writer, on cache lines of their own.
#[repr(align(128))]
#[derive(Default)]
struct Shard {
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

    /// Counts a query and its reply. `worker` is the number of the worker; any other value is the
    /// runtime.
    pub fn count(&self, worker: usize, served: &Served, elapsed: Duration) {
        let shard = &self.shards[worker.min(self.shards.len() - 1)];
        let proto = served.proto as usize;
        let rtype = TYPES.iter().position(|&rtype| rtype == served.rtype).unwrap_or(TYPES.len());
        add(&shard.requests[proto][usize::from(served.is_ipv6)][rtype]);
        let rcode = usize::from(served.rcode.0).min(RCODES - 1);
        add(&shard.responses[rcode][served.author as usize]);
        if served.dnssec_ok {
            add(&shard.dnssec_ok);
        }
        shard.duration_us.count(&DURATION_US, elapsed.as_micros() as u64);
        shard.request_bytes[proto].count(&SIZE_BYTES, served.request_bytes as u64);
        shard.reply_bytes[proto].count(&SIZE_BYTES, served.reply_bytes as u64);
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
    /// Counts a value under the first bound that holds it.
    pub fn count(&self, bounds: &[u64; N], value: u64) {
        let bucket = bounds.iter().position(|&bound| value <= bound);
        add(bucket.map_or(&self.over, |bucket| &self.buckets[bucket]));
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Adds the counts to a total.
    pub fn add_to(&self, total: &mut HistogramTotal) {
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

fn add(cell: &AtomicU64) {
    cell.fetch_add(1, Ordering::Relaxed);
}

fn read(cell: &AtomicU64) -> u64 {
    cell.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_are_the_sum_of_the_shards() {
        let tally = Tally::new("dns://:53".into(), ".".into(), 2);
        let served = Served {
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
        for worker in [0, 1, usize::MAX] {
            tally.count(worker, &served, Duration::from_micros(300));
        }
        let odd = Served { rtype: RecordType(4711), proto: Proto::Tcp, is_ipv6: true, ..served };
        tally.count(0, &odd, Duration::from_secs(60));
        let totals = tally.totals();
        assert_eq!(totals.requests[0][0][0], 3);
        assert_eq!(totals.requests[1][1][TYPES.len()], 1);
        assert_eq!(totals.responses[3][Author::Kubernetes as usize], 4);
        assert_eq!((totals.dnssec_ok, totals.duration_us.sum), (4, 60_000_900));
        assert_eq!((totals.duration_us.buckets[1], totals.duration_us.buckets[16]), (3, 1));
        assert_eq!(totals.reply_bytes[0].buckets[2], 3);
    }
}

//! What does one query cost between recvmmsg and sendmmsg, at 1 000 and at 100 000 names?
//!
//! Names are chosen at random, so that caches of the processor help as little as they would in a
//! cluster. For comparison: what hickory-proto needs to read the same question and write the same
//! answer, without looking anything up.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use hickory_proto::op::Message;
use hickory_proto::rr::{RData, Record, rdata::A};
use mainstay::resolve::now::{Client, Now, answer_now};
use mainstay::resolve::step::Desk;
use mainstay::resolve::tally::Proto;
use mainstay::wire::{RecordType, UDP_MAX};

#[path = "../tests/support/plan.rs"]
mod plan;

/// Names asked for, beyond which the choice repeats. A power of two.
const ASKED: usize = 1 << 16;
const CLIENT: Client = Client { proto: Proto::Udp, address: IpAddr::V4(Ipv4Addr::LOCALHOST) };

/// A kind of question about the Service with a number.
type Question = fn(usize) -> (String, RecordType);

/// The kinds, by the name of their row.
const QUESTIONS: [(&str, Question); 7] = [
    ("cluster IP", |n| (format!("s{n}.n{}.svc.cluster.local.", n % 16), RecordType::A)),
    ("headless, 5 addresses", |n| (format!("h{n}.n{}.svc.cluster.local.", n % 16), RecordType::A)),
    ("NODATA", |n| (format!("s{n}.n{}.svc.cluster.local.", n % 16), RecordType::AAAA)),
    ("search-list NXDOMAIN", |n| {
        (format!("s{n}.n1.svc.cluster.local.n1.svc.cluster.local."), RecordType::A)
    }),
    ("NXDOMAIN of a Service", |n| (format!("x{n}.n1.svc.cluster.local."), RecordType::A)),
    ("PTR", |n| {
        let [a, b, c, d] = (0x6000_0000 + n as u32 * 8).to_be_bytes();
        (format!("{d}.{c}.{b}.{a}.in-addr.arpa."), RecordType::PTR)
    }),
    ("cache hit", |n| (format!("www{n}.example.org."), RecordType::A)),
];

fn fast_path(criterion: &mut Criterion) {
    for names in [1_000, 100_000] {
        let fixture = plan::fixture(names, None);
        let mut group = criterion.benchmark_group(format!("{names} names"));
        for (row, question) in QUESTIONS {
            let requests = requests(names, question);
            if row == "cache hit" {
                let now = Instant::now();
                requests.iter().for_each(|request| fixture.keep(request, [192, 0, 2, 1], now));
            }
            answer(&mut group, row, &fixture, &requests);
        }
        group.finish();
    }
    compare(criterion);
}

/// Requests in random order, every other one with OPT.
fn requests(names: usize, question: Question) -> Vec<Vec<u8>> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let request = |n: usize| {
        // xorshift: the same names in each run.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let (name, rtype) = question(state as usize % names);
        plan::request(&name, rtype, n.is_multiple_of(2).then_some(1232))
    };
    (0..ASKED).map(request).collect()
}

fn answer(
    group: &mut BenchmarkGroup<'_, WallTime>,
    row: &str,
    fixture: &plan::Fixture,
    requests: &[Vec<u8>],
) {
    let port = fixture.plan.port(plan::PORT).expect("the Plan of the fixture");
    let (mut desk, mut out, now) = (Desk::new(), [0; UDP_MAX], Instant::now());
    let mut next = 0;
    group.bench_function(row, |bencher| {
        bencher.iter(|| {
            next = (next + 1) & (ASKED - 1);
            match answer_now(port, &requests[next], CLIENT, now, &mut desk, &mut out) {
                Now::Send { served, .. } => black_box(served.reply_bytes),
                _ => panic!("{row} is not answered at once"),
            }
        });
    });
}

/// The same question through a library that builds messages.
fn compare(criterion: &mut Criterion) {
    let (name, rtype) = QUESTIONS[0].1(7);
    let request = plan::request(&name, rtype, Some(1232));
    criterion.bench_function("hickory-proto reads it and writes the reply", |bencher| {
        bencher.iter(|| {
            let query = Message::from_vec(black_box(&request)).expect("a right request");
            let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
            let name = query.queries[0].name().clone();
            reply.add_queries(query.queries);
            reply.add_answer(Record::from_rdata(name, 30, RData::A(A::new(10, 96, 0, 1))));
            reply.edns = query.edns;
            reply.to_vec().expect("it fits")
        });
    });
}

criterion_group!(benches, fast_path);
criterion_main!(benches);

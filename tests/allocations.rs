//! An answer at once costs no allocation: neither from the Zone nor from the cache.
//!
//! A test binary of its own, because it counts what its thread asks of the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use mainstay::resolve::now::{Client, Now, answer_now};
use mainstay::resolve::step::Desk;
use mainstay::resolve::tally::{Proto, Served};
use mainstay::wire::{Ede, Query, Rcode, RecordType, Reply, UDP_MAX};

#[path = "support/plan.rs"]
mod plan;

/// The system's allocator, with a count for each thread.
struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator with the caller's own arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        COUNT.set(COUNT.get() + 1);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Calls of the allocator by this thread while `work` runs.
fn calls(work: impl FnOnce()) -> u64 {
    let before = COUNT.get();
    work();
    COUNT.get() - before
}

/// How often each question is asked: more than any lease or batch in a worker is long.
const ROUNDS: u32 = 1_000;

/// Asks a question with and without OPT, and checks that it is answered so and costs nothing.
fn check(name: &str, rtype: RecordType, expected: (Rcode, usize)) {
    let (fixture, now) = (plan::fixture(50, None), Instant::now());
    let port = fixture.plan.port(plan::PORT).unwrap();
    for payload_bytes in [None, Some(1232)] {
        let request = plan::request(name, rtype, payload_bytes);
        if !name.ends_with(".local.") && !name.ends_with(".arpa.") {
            fixture.keep(&request, [192, 0, 2, 1], now);
        }
        let (mut desk, mut out) = (Desk::new(), [0; UDP_MAX]);
        let mut ask = || served(answer_now(port, &request, CLIENT, now, &mut desk, &mut out));
        let served = ask();
        let rounds = || (0..ROUNDS).for_each(|_| assert_eq!(ask().rcode, served.rcode));
        assert_eq!(calls(rounds), 0, "{name} {rtype}");
        let answers = usize::from(u16::from_be_bytes([out[6], out[7]]));
        assert_eq!((served.rcode, answers), expected, "{name} {rtype}");
    }
}

const CLIENT: Client = Client { proto: Proto::Udp, address: IpAddr::V4(Ipv4Addr::LOCALHOST) };

/// What was sent at once.
fn served(now: Now) -> Served {
    let Now::Send { served, refresh: false } = now else { panic!("not answered at once") };
    served
}

#[test]
fn the_counter_sees_what_is_allocated() {
    assert!(calls(|| drop(std::hint::black_box(vec![1u8, 2, 3]))) >= 2);
    assert_eq!(calls(|| assert_eq!(std::hint::black_box([1u8, 2, 3])[0], 1)), 0);
}

#[test]
fn a_service_costs_no_allocation() {
    check("web.shop.svc.cluster.local.", RecordType::A, (Rcode::NOERROR, 1));
    check("web.shop.svc.cluster.local.", RecordType::AAAA, (Rcode::NOERROR, 0));
}

#[test]
fn a_headless_service_costs_no_allocation() {
    check("db.shop.svc.cluster.local.", RecordType::A, (Rcode::NOERROR, plan::ENDPOINTS));
    check("db-1.db.shop.svc.cluster.local.", RecordType::A, (Rcode::NOERROR, 1));
}

#[test]
fn a_name_of_the_search_list_costs_no_allocation() {
    for name in [
        "web.shop.svc.cluster.local.shop.svc.cluster.local.",
        "web.shop.svc.cluster.local.svc.cluster.local.",
        "www.example.org.cluster.local.",
    ] {
        check(name, RecordType::A, (Rcode::NXDOMAIN, 0));
    }
}

#[test]
fn a_reverse_name_costs_no_allocation() {
    check("1.0.96.10.in-addr.arpa.", RecordType::PTR, (Rcode::NOERROR, 1));
    check("1.0.0.10.in-addr.arpa.", RecordType::PTR, (Rcode::NOERROR, 1));
}

#[test]
fn a_service_record_costs_no_allocation() {
    check("_http._tcp.web.shop.svc.cluster.local.", RecordType::SRV, (Rcode::NOERROR, 1));
    let all = (Rcode::NOERROR, plan::ENDPOINTS);
    check("_http._tcp.db.shop.svc.cluster.local.", RecordType::SRV, all);
}

#[test]
fn a_pod_by_its_address_costs_no_allocation() {
    check("10-1-2-3.shop.pod.cluster.local.", RecordType::A, (Rcode::NOERROR, 1));
    check("5678-abcd--1.shop.pod.cluster.local.", RecordType::AAAA, (Rcode::NOERROR, 1));
}

#[test]
fn the_zone_itself_costs_no_allocation() {
    check("cluster.local.", RecordType::SOA, (Rcode::NOERROR, 1));
    check("cluster.local.", RecordType::NS, (Rcode::NOERROR, 1));
    check("dns-version.cluster.local.", RecordType::TXT, (Rcode::NOERROR, 1));
}

#[test]
fn an_extended_error_with_a_number_costs_no_allocation() {
    let request = plan::request("db.shop.svc.cluster.local.", RecordType::A, Some(1232));
    let (query, mut out) = (Query::parse(&request).ok().unwrap(), [0; UDP_MAX]);
    let mut write = || {
        let mut reply = Reply::to(&query, UDP_MAX, &mut out);
        reply.set_ede(Ede::none_ready(3));
        reply.finish()
    };
    let rounds = || (0..ROUNDS).for_each(|_| assert!(write() > request.len()));
    assert_eq!(calls(rounds), 0);
}

#[test]
fn a_cached_name_costs_no_allocation() {
    check("www.example.org.", RecordType::A, (Rcode::NOERROR, 1));
}

//! How many times the CPU of a bare UDP echo does a query cost that is answered?
//!
//! Both servers take turns in one run, with the same client: one thread, 128 requests in flight,
//! closed loop. The echo receives and sends batches as our workers do and does nothing else. What
//! counts is the CPU time of the serving thread, user and system, per reply; the result is the
//! median of the ratios of neighbouring rounds.
//!
//! Client and server share one core on purpose. On two cores the faster server waits more often
//! and gets smaller batches, so that the echo costs more per reply than the server that works;
//! on one core each runs when the other has nothing left to do, and both servers get full batches.

#![allow(unsafe_code)]

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mainstay::listen::batch::Batch;
use mainstay::listen::{Exchange, Listening, socket};
use mainstay::wire::RecordType;

#[path = "../tests/support/plan.rs"]
mod plan;

/// Pairs of rounds.
const ROUNDS: usize = 7;
/// Time of one round.
const ROUND: Duration = Duration::from_millis(700);
/// Requests in flight.
const IN_FLIGHT: usize = 128;
/// Services in the cluster, asked for in turn.
const SERVICES: usize = 10_000;
/// Threads of ours are found by the first letters of their name.
const WORKER: &str = "udp-";
const ECHO: &str = "echo";

fn main() {
    // `cargo test --benches` only wants to see that it runs.
    let rounds = if std::env::args().any(|argument| argument == "--bench") { ROUNDS } else { 0 };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _guard = runtime.enter();
    let fixture = plan::fixture(SERVICES, None);
    let exchange = Exchange::new(fixture.plan.clone(), runtime.handle().clone());
    let listening =
        Listening::open(&exchange, LOOPBACK.parse().expect("an address"), plan::PORT, 1)
            .expect("a free port");
    let stop = Arc::new(AtomicBool::new(false));
    let (echo, echo_thread) = start_echo(stop.clone());
    let mut client = Client::new();
    let mut ratios = Vec::new();
    println!("round   echo ns/reply   mainstay ns/reply   ratio");
    for round in 1..=rounds {
        let (bare, ours) =
            (client.cost(echo, ECHO, round), client.cost(listening.address, WORKER, round));
        ratios.push(ours / bare);
        println!("{round:>5}   {bare:>13.0}   {ours:>17.0}   {:>5.2}", ours / bare);
    }
    ratios.sort_by(f64::total_cmp);
    if let Some(median) = ratios.get(ratios.len() / 2) {
        println!("median ratio: {median:.2}");
    }
    stop.store(true, Ordering::Relaxed);
    echo_thread.join().expect("the echo ends");
    runtime.block_on(listening.close(Duration::from_secs(1)));
}

const LOOPBACK: &str = "127.0.0.1:0";

/// Sends back what it gets, in batches.
fn start_echo(stop: Arc<AtomicBool>) -> (SocketAddr, thread::JoinHandle<()>) {
    let server = socket::udp(LOOPBACK.parse().expect("an address")).expect("a free port");
    let address = server.local_addr().expect("a bound socket");
    let run = move || {
        let mut batch = Batch::new();
        while !stop.load(Ordering::Relaxed) {
            let Ok(count) = batch.receive(&server) else { continue };
            for index in 0..count {
                let (packet, reply) = batch.slot(index);
                let len = packet.len().min(reply.len());
                reply[..len].copy_from_slice(&packet[..len]);
                batch.queue(index, len);
            }
            batch.send(&server);
        }
    };
    (address, thread::Builder::new().name(ECHO.into()).spawn(run).expect("a thread"))
}

/// A closed loop with a number of requests in flight, over one socket. It sends and receives in
/// batches as the servers do, so that it is not slower than they are.
struct Client {
    socket: UdpSocket,
    batch: Batch,
    requests: Vec<Vec<u8>>,
    next: usize,
}

impl Client {
    fn new() -> Self {
        let socket = UdpSocket::bind(LOOPBACK).expect("a free port");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a socket option");
        let request = |n: usize| {
            let name = format!("s{n}.n{}.svc.cluster.local.", n % 16);
            plan::request(&name, RecordType::A, Some(1232))
        };
        let requests = (0..SERVICES).map(request).collect();
        Self { socket, batch: Batch::new(), requests, next: 0 }
    }

    /// CPU time per reply of the threads with this name, in nanoseconds. The core changes with each
    /// round, because two are never quite equal.
    fn cost(&mut self, server: SocketAddr, threads: &str, round: usize) -> f64 {
        pin(&thread_ids(""), round);
        pin(&thread_ids(threads), round);
        self.drive(server, ROUND / 10);
        let before = cpu_ns(threads);
        let replies = self.drive(server, ROUND);
        (cpu_ns(threads) - before) as f64 / replies as f64
    }

    /// Keeps requests in flight for so long. Answers how many replies came.
    fn drive(&mut self, server: SocketAddr, time: Duration) -> usize {
        for _ in 0..IN_FLIGHT {
            let request = &self.requests[self.next];
            self.socket.send_to(request, server).expect("room in the buffer");
            self.next = (self.next + 7) % self.requests.len();
        }
        let (began, mut replies) = (Instant::now(), 0);
        while began.elapsed() < time {
            replies += self.turn();
        }
        let mut left = IN_FLIGHT;
        while left > 0 {
            left -= self.batch.receive(&self.socket).expect("the last replies");
        }
        replies + IN_FLIGHT
    }

    /// Takes the replies that are there and asks as many questions.
    fn turn(&mut self) -> usize {
        let count = self.batch.receive(&self.socket).expect("no request is lost");
        for index in 0..count {
            let request = &self.requests[self.next];
            self.batch.slot(index).1[..request.len()].copy_from_slice(request);
            self.batch.queue(index, request.len());
            self.next = (self.next + 7) % self.requests.len();
        }
        assert_eq!(self.batch.send(&self.socket), 0);
        count
    }
}

/// Our threads whose name begins so; an empty name is the thread that asks.
fn thread_ids(name: &str) -> Vec<i32> {
    if name.is_empty() {
        return vec![0];
    }
    let tasks = fs::read_dir("/proc/self/task").expect("Linux");
    let ids = tasks.filter_map(|task| task.ok()?.file_name().to_str()?.parse().ok());
    let is_named = |id: &i32| {
        let found = fs::read_to_string(format!("/proc/self/task/{id}/comm"));
        found.is_ok_and(|found| found.starts_with(name))
    };
    ids.filter(is_named).collect()
}

/// CPU time of these threads so far.
fn cpu_ns(name: &str) -> u64 {
    let of = |id: i32| {
        let text =
            fs::read_to_string(format!("/proc/self/task/{id}/schedstat")).expect("schedstat");
        text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).expect("a number")
    };
    thread_ids(name).into_iter().map(of).sum()
}

/// Keeps threads on one core.
fn pin(threads: &[i32], core: usize) {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    for &thread in threads {
        // SAFETY: zero is an empty set, and the set outlives the call; a thread that has gone is an
        // error that may be left alone.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(core % cores, &mut set);
            libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &set);
        }
    }
}

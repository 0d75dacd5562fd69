//! Do cluster names suffer from floods? Of other names, of garbage, and of silent connections.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::World;
use crate::churn::questions;
use crate::steady::Steady;
use crate::subject::{Program, Subject};
use crate::support::apiserver::ApiServer;
use crate::support::apiserver::objects::mix;
use crate::support::packets::{A, Edns, NXDOMAIN, question};
use crate::support::report::{Cell, Table};

/// Queries for names of the cluster per second.
const QUERIES: u64 = 5_000;
/// Datagrams of a flood per second.
const FLOOD: u64 = 5_000;
/// Connections opened per second.
const CONNECTIONS: u64 = 2_000;
/// Connections that a flood keeps: beyond the limit of all clients together.
const CONNECTIONS_MAX: usize = 4_500;
/// Open files that a flood of connections needs, here and in the server.
const FILES_MIN: u64 = CONNECTIONS_MAX as u64 + 500;
/// Addresses that connections come from: the limit of one client is reached by each of them.
const CLIENTS: u8 = 70;
const MIB: f64 = 1024.0 * 1024.0;
const ABOUT: &str = "\
5 000 q/s for ClusterIPs while one flood runs: 5 000 datagrams or 2 000 connections a second, of \
which the latest 4 500 stay open on the client's side. Latency of the cluster names in µs, timed \
from the send, and against the time before the floods; both CPUs are kept awake by idle-class \
spinners. `grown`: peak of the resident memory over that time. `flood`: what was sent or opened. \
The counters are those of /metrics, by how much they rose.";

/// What is counted of refusals, with the label that tells it apart.
const COUNTERS: [(&str, &str); 7] = [
    ("mainstay_packets_ignored_total", ""),
    ("coredns_dns_responses_total", "FORMERR"),
    ("mainstay_errands_refused_total", ""),
    ("mainstay_flights_refused_total", ""),
    ("mainstay_flights_joined_total", ""),
    ("mainstay_tcp_refused_total", ""),
    ("coredns_cache_evictions_total", ""),
];

/// A flood.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Distinct names, of an upstream that never answers.
    Unanswered,
    /// Distinct names that do not exist, says the upstream.
    Denied,
    /// One name, of an upstream that never answers.
    Same,
    Garbage,
    /// Connections of one client that say nothing.
    SilentClient,
    /// Connections of many clients that say nothing.
    SilentClients,
}

const KINDS: [(Kind, &str); 6] = [
    (Kind::Unanswered, "distinct names, silent upstream"),
    (Kind::Denied, "distinct names, NXDOMAIN"),
    (Kind::Same, "one name, silent upstream"),
    (Kind::Garbage, "garbage"),
    (Kind::SilentClient, "silent connections of a client"),
    (Kind::SilentClients, "silent connections of 70 clients"),
];

pub fn measure(world: &World) -> Result<Table, String> {
    let columns = [
        ("p50", 0),
        ("p99", 0),
        ("p99 / quiet", 2),
        ("lost, %", 2),
        ("grown, MiB", 1),
        ("flood", 0),
        ("counters", 0),
    ];
    let files = raise_open_files();
    let mut table = Table::new("Floods", ABOUT, "server and flood", &columns);
    let api = world.api();
    for program in world.programs() {
        let quiet = flood(world, &program, &api, None)?;
        let quiet_p99 = quiet.p99;
        table.row(&format!("{}, quiet", program.name), quiet.cells(quiet_p99));
        for (kind, name) in KINDS {
            // A server that fails under one flood is still asked under the next.
            let cells = if kind.connects() && files < FILES_MIN {
                let why = format!("{files} open files are allowed, {FILES_MIN} are needed");
                vec![Cell::Skipped(why)]
            } else {
                match flood(world, &program, &api, Some(kind)) {
                    Ok(endured) => endured.cells(quiet_p99),
                    Err(problem) => vec![Cell::Text(format!("failed: {problem}"))],
                }
            };
            table.row(&format!("{}, {name}", program.name), cells);
        }
    }
    Ok(table)
}

/// What a server endured.
struct Endured {
    p50: f64,
    p99: f64,
    lost: f64,
    grown: f64,
    flood: String,
    counters: String,
}

impl Endured {
    fn cells(self, quiet_p99: f64) -> Vec<Cell> {
        let numbers = [self.p50, self.p99, self.p99 / quiet_p99, self.lost, self.grown];
        let mut cells = numbers.map(|it| Cell::Measured(vec![it])).to_vec();
        cells.extend([self.flood, self.counters].map(Cell::Text));
        cells
    }
}

impl Kind {
    /// Whether it opens connections.
    fn connects(self) -> bool {
        matches!(self, Self::SilentClient | Self::SilentClients)
    }
}

/// Raises the soft limit of open files to the hard one. Tells how many may be open.
fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = setrlimit(Resource::Nofile, raised).map_or(limit.current, |()| limit.maximum);
    // None is no limit.
    files.unwrap_or(u64::MAX)
}

/// Asks a fresh server for names of the cluster, while a flood runs.
fn flood(
    world: &World,
    program: &Program,
    api: &ApiServer,
    kind: Option<Kind>,
) -> Result<Endured, String> {
    let upstream = Upstream::start(kind == Some(Kind::Denied)).map_err(|e| e.to_string())?;
    let subject = program.start(&api.url(), Some(upstream.address))?;
    subject.wait_known(&world.cluster)?;
    subject.wait_rest();
    let before = subject.memory().now;
    subject.reset_peak();
    let counted = counts(&subject);
    let steady = Steady::start(subject.address, questions(&world.cluster), QUERIES)?;
    let flood = kind.map(|kind| Flood::start(kind, subject.address));
    sleep(Duration::from_secs(if world.options.quick { 4 } else { 10 }));
    let tally = steady.stop();
    let counters = told(&counted, &counts(&subject));
    // Also when an answer was wrong: the flood would go on beside the next server.
    let flood = flood.map_or(String::new(), Flood::stop);
    let tally = tally?;
    Ok(Endured {
        p50: tally.quantile_us(0.5),
        p99: tally.quantile_us(0.99),
        lost: tally.lost_percent(),
        grown: subject.memory().peak.saturating_sub(before) as f64 / MIB,
        flood,
        counters,
    })
}

fn counts(subject: &Subject) -> Vec<f64> {
    COUNTERS.iter().map(|(name, word)| subject.metric(name, &[word])).collect()
}

/// Those that rose, and by how much.
fn told(before: &[f64], after: &[f64]) -> String {
    let rises = COUNTERS.iter().zip(before.iter().zip(after));
    let told = rises.filter(|(_, (before, after))| after > before).map(|((name, word), (b, a))| {
        let name = name.trim_end_matches("_total");
        format!("{name}{}{word} {}", if word.is_empty() { "" } else { " " }, a - b)
    });
    told.collect::<Vec<_>>().join(", ")
}

/// A flood under way.
struct Flood {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Tries>,
}

/// What a flood tried.
#[derive(Default)]
struct Tries {
    made: u64,
    failed: u64,
}

impl Tries {
    /// Counts one, and gives back what came of it.
    fn count<T>(&mut self, outcome: Option<T>) -> Option<T> {
        self.made += 1;
        self.failed += u64::from(outcome.is_none());
        outcome
    }
}

impl Flood {
    fn start(kind: Kind, target: SocketAddr) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let thread = thread::spawn(move || match kind {
            Kind::SilentClient => connections(target, 1, &over),
            Kind::SilentClients => connections(target, CLIENTS, &over),
            _ => datagrams(kind, target, &over),
        });
        Self { is_over, thread }
    }

    /// Ends it, and tells what it tried.
    fn stop(self) -> String {
        self.is_over.store(true, Ordering::Relaxed);
        let Tries { made, failed } = self.thread.join().expect("it does not panic");
        format!("{made}, of which {failed} failed")
    }
}

/// Calls `once` with consecutive numbers, at a rate.
fn pace(per_second: u64, is_over: &AtomicBool, mut once: impl FnMut(u64)) {
    let began = Instant::now();
    for number in 0.. {
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        let due = Duration::from_nanos(number * 1_000_000_000 / per_second);
        sleep(due.saturating_sub(began.elapsed()));
        once(number);
    }
}

fn datagrams(kind: Kind, target: SocketAddr, is_over: &AtomicBool) -> Tries {
    let mut tries = Tries::default();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(target).expect("loopback");
    pace(FLOOD, is_over, |number| {
        let packet = match kind {
            Kind::Garbage => garbage(number),
            Kind::Same => question("the.same.example.", A, Edns::With),
            _ => question(&format!("x{number}.flood.example."), A, Edns::With),
        };
        // Whatever comes back is dropped by the kernel when the buffer is full.
        tries.count(socket.send(&packet).ok());
    });
    tries
}

/// Octets of chance: of all lengths, and every other time behind a right header.
fn garbage(number: u64) -> Vec<u8> {
    let len = mix(number) % 512;
    let mut octets: Vec<u8> = (0..len).map(|at| mix(number << 16 | at) as u8).collect();
    if number.is_multiple_of(2) && octets.len() >= 12 {
        octets[..12].copy_from_slice(&[7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    }
    octets
}

/// Opens connections from so many addresses, says nothing, and keeps the latest of them.
fn connections(target: SocketAddr, clients: u8, is_over: &AtomicBool) -> Tries {
    let (mut kept, mut tries) = (VecDeque::new(), Tries::default());
    pace(CONNECTIONS, is_over, |number| {
        if kept.len() == CONNECTIONS_MAX {
            kept.pop_front();
        }
        let client = 1 + (number % u64::from(clients)) as u8;
        kept.extend(tries.count(connect(target, [127, 0, 1, client])));
    });
    tries
}

fn connect(target: SocketAddr, client: [u8; 4]) -> Option<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
    socket.bind(&SocketAddr::from((client, 0)).into()).ok()?;
    socket.connect_timeout(&target.into(), Duration::from_millis(100)).ok()?;
    Some(socket.into())
}

/// An upstream that says no, or nothing.
pub struct Upstream {
    pub address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    pub fn start(denies: bool) -> std::io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let address = socket.local_addr()?;
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let thread = thread::spawn(move || {
            let mut packet = [0; 4096];
            while !over.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut packet) else { continue };
                if denies {
                    let _ = socket.send_to(&denial(&packet[..len]), from);
                }
            }
        });
        Ok(Self { address, is_over, thread: Some(thread) })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// NXDOMAIN with a SOA, so that it is kept (RFC 2308 §5).
fn denial(request: &[u8]) -> Vec<u8> {
    let name = request[12..].iter().position(|octet| *octet == 0).unwrap_or(0);
    let mut reply = request[..12 + name + 5].to_vec();
    reply[2..12].copy_from_slice(&[0x81, 0x80 | NXDOMAIN, 0, 1, 0, 0, 0, 1, 0, 0]);
    // The owner is the root, and so are the names in the SOA.
    reply.extend_from_slice(&[0, 0, 6, 0, 1, 0, 0, 0, 60, 0, 22, 0, 0]);
    reply.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 60, 0, 0, 0, 60, 0, 0, 0, 60, 0, 0, 0, 60]);
    reply
}

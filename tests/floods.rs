//! Floods: whatever strangers send, every question about the cluster is answered rightly meanwhile,
//! each table stays within its bound, and what was refused is counted.
//!
//! Nothing here depends on how fast anything is: what `benches/cluster` measures is not asserted.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, ResponseCode};
use mainstay::forward::Forward;
use mainstay::forward::config::{Config, Target};
use mainstay::listen::errands::UPSTREAM_MAX;
use mainstay::listen::tcp::{CONNECTIONS_MAX, FIRST_MESSAGE_TIMEOUT, PER_CLIENT_MAX};
use mainstay::listen::{Exchange, Listening};
use mainstay::resolve::flight::Flights;
use mainstay::resolve::now::Lane;
use mainstay::resolve::step::Forwarding;
use mainstay::wire::{Name, RecordType};
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::time::timeout;

#[path = "support/plan.rs"]
mod plan;
#[path = "support/upstream.rs"]
mod upstream;

use plan::{Fixture, PORT, fixture};
use upstream::{Act, LoopbackUpstream, bare};

/// Longest that a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Packets of a flood between two questions about the cluster.
const PORTION: u16 = 50;
const NXDOMAIN: u8 = 3;

/// A server under flood.
struct Flooded {
    exchange: Arc<Exchange>,
    listening: Listening,
    fixture: Fixture,
    flights: Arc<Flights>,
    /// Those who ask about the cluster.
    client: UdpSocket,
    /// Questions that they have asked.
    asked: u16,
    /// Those who flood.
    stranger: UdpSocket,
    /// Replies that these got.
    replies: u64,
}

impl Flooded {
    async fn with(upstream: SocketAddr) -> Self {
        let flights = Arc::new(Flights::default());
        let config = Config::new(Name::root(), vec![Target::Address(upstream)]);
        let config = Config { prefer_udp: true, ..config };
        let forward = Forward::start(config).unwrap();
        let fixture = fixture(10, Some(Forwarding { forward, flights: flights.clone() }));
        let exchange = Exchange::new(fixture.plan.clone(), Handle::current());
        let listening = Listening::open(&exchange, "127.0.0.1:0".parse().unwrap(), PORT, 2);
        let listening = listening.unwrap();
        let (client, stranger) =
            (connected(listening.address).await, connected(listening.address).await);
        Self { exchange, listening, fixture, flights, client, asked: 0, stranger, replies: 0 }
    }

    /// Sends a packet, and asks about the cluster after each portion of them.
    async fn flood(&mut self, packets: impl Iterator<Item = Vec<u8>>) {
        for (packet, number) in packets.zip(1_u16..) {
            self.stranger.send(&packet).await.unwrap();
            if number.is_multiple_of(PORTION) {
                self.ask_the_cluster().await;
                self.drain();
            }
        }
    }

    /// Asks for names of each kind over UDP. A server that is held up would not answer in time.
    async fn ask_the_cluster(&mut self) {
        let n = self.asked % 10;
        for (name, addresses) in [("s", 1), ("h", plan::ENDPOINTS)] {
            self.asked += 1;
            let request = request(&format!("{name}{n}.n{n}.svc.cluster.local."), self.asked);
            self.client.send(&request).await.unwrap();
            let mut reply = [0; 4096];
            let len = timeout(PATIENCE, self.client.recv(&mut reply)).await.expect("a reply");
            let reply = Message::from_vec(&reply[..len.unwrap()]).unwrap();
            let seen = (reply.metadata.id, reply.metadata.response_code, reply.answers.len());
            assert_eq!(seen, (self.asked, ResponseCode::NoError, addresses), "{name}{n}");
        }
    }

    /// Floods, and waits after each portion until each packet was replied to or counted: a reply
    /// that finds a full buffer would be neither.
    async fn flood_and_account(&mut self, packets: impl Iterator<Item = Vec<u8>>) {
        let all: Vec<_> = packets.collect();
        let mut sent = 0;
        for portion in all.chunks(usize::from(PORTION)) {
            self.flood(portion.iter().cloned()).await;
            sent += portion.len() as u64;
            until_equal("replied to, or counted", || {
                self.drain();
                (self.replies + self.refused() + load(&self.exchange.counters.ignored), sent)
            })
            .await;
        }
    }

    /// Takes what the strangers were told.
    fn drain(&mut self) {
        while self.stranger.try_recv(&mut [0; 4096]).is_ok() {
            self.replies += 1;
        }
    }

    fn refused(&self) -> u64 {
        load(&self.exchange.errands.refused)
    }
}

async fn connected(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // A connected socket takes datagrams from the asked address only.
    socket.connect(server).await.unwrap();
    socket
}

fn request(name: &str, id: u16) -> Vec<u8> {
    let mut packet = plan::request(name, RecordType::A, Some(1232));
    packet[..2].copy_from_slice(&id.to_be_bytes());
    packet
}

fn foreign(count: u16) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|n| request(&format!("x{n}.flood.example."), n))
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Waits until both sides are equal.
async fn until_equal(what: &str, mut sides: impl FnMut() -> (u64, u64)) {
    let began = Instant::now();
    loop {
        let (left, right) = sides();
        if left == right {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: {left} is not {right}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The names that an upstream was asked for.
fn names(upstream: &LoopbackUpstream) -> u64 {
    let question =
        |packet: &[u8]| packet[12..].split(|octet| *octet == 0).next().map(<[u8]>::to_vec);
    let asked = upstream.asked();
    let names: BTreeSet<_> = asked.iter().filter_map(|asked| question(&asked.packet)).collect();
    // A probe of its health asks for the root.
    names.iter().filter(|name| !name.is_empty()).count() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn distinct_names_without_an_answer_take_no_place_of_the_cluster() {
    const FREE: usize = 64;
    const SENT: u16 = 2_000;
    let silent = LoopbackUpstream::silent().await;
    let mut flooded = Flooded::with(silent.address).await;
    let errands = &flooded.exchange.errands;
    let places: Vec<_> =
        (FREE..UPSTREAM_MAX).map(|_| errands.place(Lane::Upstream).unwrap()).collect();
    flooded.flood(foreign(SENT)).await;
    assert!(flooded.exchange.errands.under_way() <= UPSTREAM_MAX);
    assert!(flooded.refused() > 0);
    until_equal("asked upstream, or counted as refused", || {
        (names(&silent) + flooded.refused(), SENT.into())
    })
    .await;
    drop(places);
}

#[tokio::test(flavor = "multi_thread")]
async fn distinct_names_that_do_not_exist_stay_within_the_cache() {
    const SENT: u16 = 12_000;
    let denying = LoopbackUpstream::udp_only(|asked| vec![Act::Send(denial(&asked.packet))]).await;
    let mut flooded = Flooded::with(denying.address).await;
    flooded.fixture.keep(&request("kept.example.", 0), [192, 0, 2, 1], Instant::now());
    flooded.flood_and_account(foreign(SENT)).await;
    let cache = &flooded.fixture.cache;
    // The cache tidies up behind the answers.
    until_equal("within the bound", || {
        let [_, denials] = cache.entry_counts();
        (denials.max(cache.config.denial.capacity), cache.config.denial.capacity)
    })
    .await;
    assert!(load(&cache.counters.evictions_denial) > 0);
    assert_eq!(load(&cache.counters.evictions_success), 0, "denials take no room of answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_without_an_answer_costs_one_question() {
    const SENT: u16 = 2_000;
    let silent = LoopbackUpstream::silent().await;
    let mut flooded = Flooded::with(silent.address).await;
    flooded.flood((0..SENT).map(|id| request("the.same.example.", id))).await;
    let flights = flooded.flights.clone();
    until_equal("all but the first joined", || (load(&flights.joined), u64::from(SENT) - 1)).await;
    assert_eq!((names(&silent), flooded.refused(), load(&flights.refused)), (1, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_refused_or_ignored_and_counted() {
    const SENT: u16 = 4_000;
    let honest = LoopbackUpstream::honest().await;
    let mut flooded = Flooded::with(honest.address).await;
    flooded.flood_and_account((0..SENT).map(garbage)).await;
    assert_eq!(flooded.refused(), 0);
    assert!(flooded.replies > 0 && load(&flooded.exchange.counters.ignored) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_as_many_as_their_bounds_allow() {
    let clients = CONNECTIONS_MAX / PER_CLIENT_MAX + 2;
    let wanted = clients as u64 * PER_CLIENT_MAX as u64;
    // Both ends of each are here.
    if getrlimit(Resource::Nofile).current.is_some_and(|files| files < 2 * wanted + 200) {
        assert!(std::env::var_os("CI").is_none(), "too few open files are allowed");
        eprintln!("SKIPPED: too few open files are allowed; raise `ulimit -n` to {}", 3 * wanted);
        return;
    }
    let honest = LoopbackUpstream::honest().await;
    let mut flooded = Flooded::with(honest.address).await;
    let (began, mut kept) = (Instant::now(), Vec::new());
    for client in 0..clients {
        for _ in 0..PER_CLIENT_MAX {
            kept.push(
                silent_connection([127, 0, 2, client as u8], flooded.listening.address).await,
            );
        }
        flooded.ask_the_cluster().await;
    }
    if began.elapsed() < FIRST_MESSAGE_TIMEOUT {
        let over = wanted - CONNECTIONS_MAX as u64;
        let counters = &flooded.exchange.counters;
        until_equal("refused", || (load(&counters.tcp_refused), over)).await;
    } else {
        eprintln!("SKIPPED: the count of refused connections; the first ones ended meanwhile");
    }
    flooded.ask_the_cluster().await;
}

/// Opens a connection from an address, and says nothing.
async fn silent_connection(client: [u8; 4], server: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((client, 0).into()).unwrap();
    timeout(PATIENCE, socket.connect(server)).await.expect("it is accepted or closed").unwrap()
}

/// NXDOMAIN with a SOA, so that it is kept (RFC 2308 §5).
fn denial(request: &[u8]) -> Vec<u8> {
    let mut reply = bare(request, NXDOMAIN, false);
    reply[9] = 1;
    // The owner is the root, and so are the names in it.
    reply.extend([0, 0, 6, 0, 1, 0, 0, 0, 60, 0, 22, 0, 0]);
    reply.extend([[0, 0, 0, 1]; 1].concat());
    reply.extend([[0, 0, 0, 60]; 4].concat());
    reply
}

/// Octets of chance (xorshift), every other time behind a right header.
fn garbage(number: u16) -> Vec<u8> {
    let mut state = u64::from(number) << 32 | 0x9E37_79B9;
    let mut octet = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    let len = usize::from(number % 300);
    let mut octets: Vec<u8> = (0..len).map(|_| octet()).collect();
    if number.is_multiple_of(2) && len >= 12 {
        octets[..12].copy_from_slice(&[7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    }
    octets
}

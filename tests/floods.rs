//! Floods: whatever strangers send, every question about the cluster is answered rightly meanwhile,
//! each table stays within its bound, and what was refused is counted.
//!
//! Nothing here depends on how fast anything is: what `benches/cluster` measures is not asserted.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
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
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::time::timeout;

#[path = "support/plan.rs"]
mod plan;
#[path = "support/skip.rs"]
mod skip;
#[path = "support/upstream.rs"]
mod upstream;

use plan::{Fixture, PORT, fixture};
use skip::skip;
use upstream::{Act, LoopbackUpstream, bare};

/// Longest that a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Packets of a flood between two questions about the cluster.
const PORTION: u16 = 50;
/// How often a check is tried that has to be done before a connection ends for its silence.
const TRIES: usize = 5;
/// Open files beside those of connections that a test opens.
const OTHER_FILES: u64 = 200;
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
            let reply = self.ask(&format!("{name}{n}.n{n}.svc.cluster.local.")).await;
            let seen = (reply.metadata.response_code, reply.answers.len());
            assert_eq!(seen, (ResponseCode::NoError, addresses), "{name}{n}");
        }
    }

    /// Asks for an address as those do who ask about the cluster.
    async fn ask(&mut self, name: &str) -> Message {
        self.asked += 1;
        self.client.send(&request(name, self.asked)).await.unwrap();
        let mut reply = [0; 4096];
        let len = timeout(PATIENCE, self.client.recv(&mut reply)).await.expect("a reply");
        let reply = Message::from_vec(&reply[..len.unwrap()]).unwrap();
        assert_eq!(reply.metadata.id, self.asked, "{name}");
        reply
    }

    /// Opens so many silent connections of each client, one after the other, waits until `excess`
    /// were refused or made room, and tells how many it were. Nothing
    /// when that took so long that the first one may have ended meanwhile.
    async fn silent_connections(
        &mut self,
        clients: Range<u8>,
        each: usize,
        excess: u64,
    ) -> Option<u64> {
        let (began, mut kept) = (Instant::now(), Vec::new());
        for client in clients {
            for _ in 0..each {
                kept.push(silent_connection([127, 0, 2, client], self.listening.address).await);
            }
            self.ask_the_cluster().await;
        }
        let is_quick = began.elapsed() < FIRST_MESSAGE_TIMEOUT / 2;
        // They are accepted in their order, and counted before they are closed: when all are
        // decided, so many have lost their place as there are too many.
        let counters = &self.exchange.counters;
        let refused = || load(&counters.tcp_refused) + load(&counters.tcp_idle_closed);
        until_equal("closed", || (refused().max(excess), refused())).await;
        let is_in_time = began.elapsed() < FIRST_MESSAGE_TIMEOUT;
        let refused = refused();
        self.ask_the_cluster().await;
        // What was opened quickly and yet not refused in time is no matter of speed.
        (is_in_time || is_quick).then_some(refused)
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

/// The address of one client among many.
fn client(number: usize) -> IpAddr {
    IpAddr::from((number as u32).to_be_bytes())
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

/// The name of each question that an upstream was asked.
fn asked_for(upstream: &LoopbackUpstream) -> Vec<Vec<u8>> {
    let name = |packet: &[u8]| packet[12..].split(|octet| *octet == 0).next().map(<[u8]>::to_vec);
    let asked = upstream.asked();
    let names = asked.iter().filter_map(|asked| name(&asked.packet));
    // A probe of its health asks for the root.
    names.filter(|name| !name.is_empty()).collect()
}

/// How many names an upstream was asked for.
fn names(upstream: &LoopbackUpstream) -> u64 {
    asked_for(upstream).into_iter().collect::<BTreeSet<_>>().len() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn distinct_names_without_an_answer_take_no_place_of_the_cluster() {
    const FREE: usize = 64;
    const SENT: u16 = 2_000;
    let silent = LoopbackUpstream::silent().await;
    let mut flooded = Flooded::with(silent.address).await;
    let errands = &flooded.exchange.errands;
    let places: Vec<_> =
        (FREE..UPSTREAM_MAX).map(|n| errands.place(Lane::Upstream, client(n)).unwrap()).collect();
    flooded.flood(foreign(SENT)).await;
    assert!(flooded.exchange.errands.under_way() <= UPSTREAM_MAX);
    until_equal("asked upstream, or counted as refused", || {
        (names(&silent) + flooded.refused(), SENT.into())
    })
    .await;
    assert!(flooded.refused() > 0);
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
    let kept = flooded.ask("kept.example.").await;
    let addresses: Vec<_> = kept.answers.iter().map(|it| it.data.to_string()).collect();
    assert_eq!(addresses, ["192.0.2.1"], "an answer is kept in spite of denials");
    assert!(!asked_for(&denying).contains(&b"\x04kept\x07example".to_vec()), "asked upstream");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_without_an_answer_costs_few_questions() {
    const SENT: u16 = 2_000;
    // A Flight ends after some seconds and the next question begins another one, so how many join
    // depends on the machine, but for those that come while the first one is under way.
    const JOINED_MIN: u64 = SENT as u64 / 10;
    const QUESTIONS_MAX: usize = SENT as usize / 20;
    let silent = LoopbackUpstream::silent().await;
    let mut flooded = Flooded::with(silent.address).await;
    flooded.flood((0..SENT).map(|id| request("the.same.example.", id))).await;
    let flights = flooded.flights.clone();
    until_equal("joined", || (load(&flights.joined).min(JOINED_MIN), JOINED_MIN)).await;
    until_equal("asked upstream", || (names(&silent), 1)).await;
    assert_eq!((flooded.refused(), load(&flights.refused)), (0, 0));
    let questions = asked_for(&silent).len();
    assert!(questions <= QUESTIONS_MAX, "{questions} questions upstream");
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
async fn silent_connections_of_a_client_are_as_many_as_its_bound_allows() {
    let honest = LoopbackUpstream::honest().await;
    for _ in 0..TRIES {
        let mut flooded = Flooded::with(honest.address).await;
        if let Some(refused) = flooded.silent_connections(0..1, PER_CLIENT_MAX + 1, 1).await {
            assert_eq!(refused, 1);
            return;
        }
    }
    panic!("connections are opened too slowly to see that one beyond the bound is refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_are_as_many_as_the_bound_of_all_allows() {
    let clients = CONNECTIONS_MAX / PER_CLIENT_MAX + 2;
    let wanted = (clients * PER_CLIENT_MAX) as u64;
    // Both ends of each are here.
    let needed = 2 * wanted + OTHER_FILES;
    let files = raise_open_files();
    if files < needed {
        skip(&format!("{files} open files are allowed, {needed} are needed; raise `ulimit -Hn`"));
        return;
    }
    let honest = LoopbackUpstream::honest().await;
    for _ in 0..TRIES {
        let mut flooded = Flooded::with(honest.address).await;
        let (clients, excess) = (0..clients as u8, wanted - CONNECTIONS_MAX as u64);
        let refused = flooded.silent_connections(clients, PER_CLIENT_MAX, excess).await;
        if let Some(refused) = refused {
            assert_eq!(refused, excess);
            return;
        }
    }
    skip("connections are opened so slowly that the first one ends before the last one comes");
}

/// Raises the soft limit of open files to the hard one. Tells how many may be open.
fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = setrlimit(Resource::Nofile, raised).map_or(limit.current, |()| limit.maximum);
    // None is no limit.
    files.unwrap_or(u64::MAX)
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

//! The listeners on real sockets of loopback: what is asked is answered, from where it was asked,
//! whatever else clients send, and nobody can keep others from it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use mainstay::forward::Forward;
use mainstay::forward::config::{Config, Target};
use mainstay::listen::tcp::{
    FIRST_MESSAGE_TIMEOUT, IDLE_TIMEOUT, IN_FLIGHT_MAX, PER_CLIENT_MAX, WRITE_TIMEOUT,
};
use mainstay::listen::{Exchange, Listening};
use mainstay::resolve::flight::Flights;
use mainstay::resolve::now::Lane;
use mainstay::resolve::step::Forwarding;
use mainstay::resolve::transfer::Shared;
use mainstay::wire::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

#[path = "support/plan.rs"]
mod plan;
#[path = "support/upstream.rs"]
mod upstream;

use plan::{Fixture, PORT, fixture, fixture_to_all};
use upstream::LoopbackUpstream;

/// Longest that a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time given to connections at the end.
const CLOSING: Duration = Duration::from_secs(5);
/// Step of a clock that a test moves.
const STEP: Duration = Duration::from_millis(250);
const WEB: &str = "web.shop.svc.cluster.local.";

/// A listener with what it answers from.
struct Serving {
    exchange: Arc<Exchange>,
    listening: Listening,
    fixture: Fixture,
}

impl Serving {
    /// Listens on `address` with two workers; other names are asked of `upstream`.
    fn on(address: &str, upstream: Option<SocketAddr>) -> Self {
        Self::of(address, fixture(10, upstream.map(forwarding)))
    }

    fn of(address: &str, fixture: Fixture) -> Self {
        let exchange = Exchange::new(fixture.plan.clone(), Handle::current());
        let listening = Listening::open(&exchange, address.parse().unwrap(), PORT, 2).unwrap();
        Self { exchange, listening, fixture }
    }

    fn on_loopback(upstream: Option<SocketAddr>) -> Self {
        Self::on("127.0.0.1:0", upstream)
    }

    fn port(&self) -> u16 {
        self.listening.address.port()
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.listening.address).await.unwrap()
    }

    async fn udp(&self, server: &str) -> UdpSocket {
        let server: IpAddr = server.parse().unwrap();
        let own = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let socket = UdpSocket::bind(own).await.unwrap();
        // A connected socket takes datagrams from the asked address only.
        socket.connect((server, self.port())).await.unwrap();
        socket
    }
}

fn forwarding(upstream: SocketAddr) -> Forwarding {
    let config = Config::new(Name::root(), vec![Target::Address(upstream)]);
    let config = Config { prefer_udp: true, ..config };
    Forwarding { forward: Forward::start(config).unwrap(), flights: Arc::new(Flights::default()) }
}

/// A request for an address, with this id.
fn request(name: &str, id: u16) -> Vec<u8> {
    let mut packet = plan::request(name, RecordType::A, Some(1232));
    packet[..2].copy_from_slice(&id.to_be_bytes());
    packet
}

async fn ask(socket: &UdpSocket, packet: &[u8]) -> Message {
    socket.send(packet).await.unwrap();
    let mut reply = [0; 4096];
    let len = timeout(PATIENCE, socket.recv(&mut reply)).await.expect("a reply").unwrap();
    Message::from_vec(&reply[..len]).unwrap()
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [&(packet.len() as u16).to_be_bytes()[..], packet].concat()
}

/// The next reply, or `None` at the end of the connection.
async fn next(stream: &mut TcpStream) -> Option<Message> {
    let read = async {
        let len = stream.read_u16().await.ok()?;
        let mut reply = vec![0; usize::from(len)];
        stream.read_exact(&mut reply).await.ok()?;
        Some(Message::from_vec(&reply).unwrap())
    };
    timeout(PATIENCE, read).await.expect("a reply, or the end")
}

async fn ids(stream: &mut TcpStream, count: usize) -> Vec<u16> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let reply = next(stream).await.expect("as many replies as requests");
        assert_eq!((reply.metadata.response_code, reply.answers.len()), (ResponseCode::NoError, 1));
        ids.push(reply.metadata.id);
    }
    ids
}

#[tokio::test]
async fn replies_leave_from_the_address_that_was_asked() {
    let upstream = LoopbackUpstream::honest().await;
    for (bind, servers) in
        [("0.0.0.0:0", &["127.0.0.1", "127.0.0.2"][..]), ("[::]:0", &["::1", "127.0.0.2"])]
    {
        if std::net::UdpSocket::bind(bind).is_err() {
            eprintln!("{bind} is left out: this machine has no IPv6");
            continue;
        }
        let serving = Serving::on(bind, Some(upstream.address));
        for server in servers {
            let socket = serving.udp(server).await;
            assert_eq!(ask(&socket, &request(WEB, 1)).await.answers.len(), 1, "{server} at once");
            let name = format!("www-{}.example.", server.replace([':', '.'], "-"));
            assert_eq!(ask(&socket, &request(&name, 2)).await.answers.len(), 1, "{server} later");
        }
        serving.listening.close(CLOSING).await;
    }
}

#[tokio::test]
async fn many_clients_at_once_lose_nothing() {
    let serving = Serving::on_loopback(None);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..64u16 {
        let socket = serving.udp("127.0.0.1").await;
        clients.spawn(async move {
            for n in 0..50 {
                let id = client << 8 | n;
                let name = format!("s{}.n{}.svc.cluster.local.", n % 10, n % 10);
                let reply = ask(&socket, &request(&name, id)).await;
                assert_eq!((reply.metadata.id, reply.answers.len()), (id, 1), "{name}");
            }
        });
    }
    assert_eq!(clients.join_all().await.len(), 64);
    assert_eq!(serving.exchange.counters.send_errors.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_is_no_query_harms_nobody() {
    let serving = Serving::on_loopback(None);
    let socket = serving.udp("127.0.0.1").await;
    let mut response = request(WEB, 7);
    response[2] |= 0x80;
    for ignored in [&b""[..], b"x", &[0xFF; 11], &[0xFF; 4000], &response] {
        socket.send(ignored).await.unwrap();
    }
    let half = &request(WEB, 8)[..20];
    assert_eq!(ask(&socket, half).await.metadata.response_code, ResponseCode::FormErr);
    let refused = ask(&socket, &[0; 9000]).await;
    assert_eq!(refused.metadata.response_code, ResponseCode::FormErr, "cut to our longest request");
    assert_eq!(ask(&socket, &request(WEB, 9)).await.metadata.id, 9);
    assert_eq!(serving.exchange.counters.ignored.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn two_hundred_requests_in_one_write_are_all_answered() {
    let serving = Serving::on_loopback(None);
    let mut stream = serving.connect().await;
    let all: Vec<u8> = (0..200).flat_map(|id| framed(&request(WEB, id))).collect();
    stream.write_all(&all).await.unwrap();
    assert_eq!(ids(&mut stream, 200).await, (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_request_that_waits_holds_up_none_behind_it() {
    let slow = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let serving = Serving::on_loopback(Some(slow.local_addr().unwrap()));
    let mut stream = serving.connect().await;
    let all = [request("www.example.", 1), request(WEB, 2), request(WEB, 3)];
    stream.write_all(&all.map(|packet| framed(&packet)).concat()).await.unwrap();
    assert_eq!(ids(&mut stream, 2).await, [2, 3]);
    answer_one(&slow).await;
    assert_eq!(ids(&mut stream, 1).await, [1]);
}

/// Answers the next request that an upstream gets.
async fn answer_one(upstream: &UdpSocket) {
    let mut packet = [0; 4096];
    let (len, client) = upstream.recv_from(&mut packet).await.unwrap();
    upstream.send_to(&upstream::good(&packet[..len]), client).await.unwrap();
}

#[tokio::test]
async fn frames_may_come_in_any_pieces_and_of_any_size() {
    let serving = Serving::on_loopback(None);
    let mut stream = serving.connect().await;
    stream.set_nodelay(true).unwrap();
    for octet in framed(&request(WEB, 1)) {
        stream.write_all(&[octet]).await.unwrap();
    }
    assert_eq!(ids(&mut stream, 1).await, [1]);
    let nothing = framed(b"");
    let ignored = framed(&[0xFF; 65_535]);
    let refused = framed(&[0; 65_535]);
    let right = framed(&request(WEB, 2));
    stream.write_all(&[nothing, ignored, refused, right].concat()).await.unwrap();
    let first = next(&mut stream).await.unwrap();
    assert_eq!(first.metadata.response_code, ResponseCode::FormErr);
    assert_eq!(ids(&mut stream, 1).await, [2]);
}

#[tokio::test]
async fn one_client_cannot_take_all_connections() {
    let serving = Serving::on_loopback(None);
    let mut held = Vec::new();
    for id in 0..PER_CLIENT_MAX as u16 {
        let mut stream = serving.connect().await;
        stream.write_all(&framed(&request(WEB, id))).await.unwrap();
        assert_eq!(ids(&mut stream, 1).await, [id]);
        held.push(stream);
    }
    assert!(next(&mut serving.connect().await).await.is_none(), "one too many");
    assert_eq!(serving.exchange.counters.tcp_refused.load(Ordering::Relaxed), 1);
    let other = TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.9:0".parse().unwrap()).unwrap();
    let mut other = other.connect(serving.listening.address).await.unwrap();
    other.write_all(&framed(&request(WEB, 900))).await.unwrap();
    assert_eq!(ids(&mut other, 1).await, [900], "another client has places of its own");
}

/// How long the server leaves a connection open in which nothing happens, on a clock that goes in
/// steps. One that jumps by itself does not wait for what is on its way through a socket.
async fn end_of(stream: &mut TcpStream) -> Duration {
    tokio::time::pause();
    let began = Instant::now();
    let (mut end, mut room) = (None, [0; 1]);
    settle().await;
    while end.is_none() && began.elapsed() < 10 * IDLE_TIMEOUT {
        tokio::time::advance(STEP).await;
        settle().await;
        end = tokio::select! {
            biased;
            end = stream.read(&mut room) => Some(end),
            () = tokio::task::yield_now() => None,
        };
    }
    let took = began.elapsed();
    tokio::time::resume();
    assert!(matches!(end, Some(Ok(0))), "the server ends it: {end:?}");
    took
}

/// Lets all happen that happens at one moment of a clock that stands.
async fn settle() {
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(1));
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_connection_without_a_message_ends() {
    let serving = Serving::on_loopback(None);
    let mut silent = serving.connect().await;
    assert!(end_of(&mut silent).await <= FIRST_MESSAGE_TIMEOUT + Duration::from_secs(1));
    let mut half = serving.connect().await;
    half.write_all(&[0, 40, 1, 2, 3]).await.unwrap();
    assert!(end_of(&mut half).await <= FIRST_MESSAGE_TIMEOUT + Duration::from_secs(1));
}

#[tokio::test]
async fn an_idle_connection_ends() {
    let serving = Serving::on_loopback(None);
    let mut stream = serving.connect().await;
    stream.write_all(&framed(&request(WEB, 1))).await.unwrap();
    ids(&mut stream, 1).await;
    let took = end_of(&mut stream).await;
    assert!(took > FIRST_MESSAGE_TIMEOUT && took <= IDLE_TIMEOUT + Duration::from_secs(1));
}

#[tokio::test]
async fn a_refresh_behind_a_reply_does_not_keep_an_idle_connection_open() {
    let silent = LoopbackUpstream::silent().await;
    let serving = Serving::on_loopback(Some(silent.address));
    let asked = request("www.example.", 1);
    let long_ago = std::time::Instant::now() - Duration::from_secs(600);
    serving.fixture.keep(&asked, [192, 0, 2, 1], long_ago);
    let mut stream = serving.connect().await;
    stream.write_all(&framed(&asked)).await.unwrap();
    assert_eq!(ids(&mut stream, 1).await, [1]);
    assert_eq!(serving.fixture.cache.counters.prefetches.load(Ordering::Relaxed), 1);
    end_of(&mut stream).await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_left() {
    const REQUESTS: u16 = 3_000;
    let serving = Serving::on_loopback(None);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(serving.listening.address).await.unwrap();
    let big = request("big.shop.svc.cluster.local.", 1);
    let all: Vec<u8> = (0..REQUESTS).flat_map(|_| framed(&big)).collect();
    stream.write_all(&all).await.unwrap();
    tokio::time::pause();
    tokio::time::sleep(2 * WRITE_TIMEOUT).await;
    tokio::time::resume();
    let mut replies = 0;
    while next(&mut stream).await.is_some() {
        replies += 1;
    }
    assert!(replies < REQUESTS, "24 MB cannot wait in buffers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_said_everything_still_gets_all_replies() {
    let upstream = LoopbackUpstream::honest().await;
    let serving = Serving::on_loopback(Some(upstream.address));
    let mut stream = serving.connect().await;
    let count = 2 * IN_FLIGHT_MAX as u16 + 50;
    let one = |id| framed(&request(&format!("n{id}.example."), id));
    let all: Vec<u8> = (0..count).flat_map(one).collect();
    stream.write_all(&all).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut ids = ids(&mut stream, usize::from(count)).await;
    ids.sort_unstable();
    assert_eq!(ids, (0..count).collect::<Vec<_>>());
    assert!(next(&mut stream).await.is_none());
}

#[tokio::test]
async fn p5_what_was_sent_before_the_end_is_answered_also_on_connections_that_wait() {
    const EACH: usize = 20;
    let serving = Serving::on_loopback(None);
    let mut known = Vec::new();
    for _ in 0..EACH {
        let mut stream = serving.connect().await;
        stream.write_all(&framed(&request(WEB, 1))).await.unwrap();
        assert_eq!(ids(&mut stream, 1).await, [1]);
        known.push(stream);
    }
    // From here on the only thread is ours: nothing of this is seen before the end is.
    let unseen = (0..EACH).map(|_| {
        let stream = std::net::TcpStream::connect(serving.listening.address).unwrap();
        stream.set_nonblocking(true).unwrap();
        TcpStream::from_std(stream).unwrap()
    });
    let mut streams: Vec<TcpStream> = known.into_iter().chain(unseen).collect();
    for stream in &streams {
        let socket = socket2::SockRef::from(stream);
        socket.send(&framed(&request(WEB, 2))).unwrap();
    }
    let closed = tokio::spawn(serving.listening.close(CLOSING));
    for stream in &mut streams {
        assert_eq!(ids(stream, 1).await, [2]);
        // What comes too late is no reason for RST.
        let _ = stream.write_all(&framed(&request(WEB, 3))).await;
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    }
    drop(streams);
    closed.await.unwrap();
}

#[tokio::test]
async fn what_is_in_flight_at_the_end_is_answered() {
    let slow = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let serving = Serving::on_loopback(Some(slow.local_addr().unwrap()));
    let mut stream = serving.connect().await;
    let all = [request("www.example.", 1), request(WEB, 2)];
    stream.write_all(&all.map(|packet| framed(&packet)).concat()).await.unwrap();
    assert_eq!(ids(&mut stream, 1).await, [2]);
    let closed = tokio::spawn(serving.listening.close(CLOSING));
    answer_one(&slow).await;
    assert_eq!(ids(&mut stream, 1).await, [1]);
    assert!(next(&mut stream).await.is_none());
    closed.await.unwrap();
}

#[tokio::test]
async fn upstreams_without_a_place_left_do_not_hold_up_the_cluster() {
    let silent = LoopbackUpstream::silent().await;
    let serving = Serving::on_loopback(Some(silent.address));
    let errands = &serving.exchange.errands;
    let mut clients = (0_u32..).map(|number| IpAddr::from(number.to_be_bytes()));
    let place = || errands.place(Lane::Upstream, clients.next()?);
    let places: Vec<_> = std::iter::from_fn(place).collect();
    assert_eq!(places.len(), mainstay::listen::errands::UPSTREAM_MAX);
    let refused = errands.refused.load(Ordering::Relaxed);
    let socket = serving.udp("127.0.0.1").await;
    socket.send(&request("www.example.", 1)).await.unwrap();
    assert_eq!(ask(&socket, &request(WEB, 2)).await.metadata.id, 2);
    let mut stream = serving.connect().await;
    let all = [request("www.example.", 3), request(WEB, 4)];
    stream.write_all(&all.map(|packet| framed(&packet)).concat()).await.unwrap();
    assert_eq!(ids(&mut stream, 1).await, [4]);
    // Errands set out after the answers of their batch have left, so the count may come later.
    while errands.refused.load(Ordering::Relaxed) < refused + 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(errands.refused.load(Ordering::Relaxed), refused + 2);
    assert!(silent.asked().is_empty());
}

/// Transfers that one client asks for: more than buffers hold.
const TRANSFERS: u16 = 100;
/// Their ids begin here.
const TRANSFER_ID: u16 = 1000;

/// A listener that lets everybody have its zone, and a client that asks for it many times between
/// two other names, and reads nothing yet.
async fn transferring(upstream: SocketAddr) -> (Serving, Arc<Shared>, TcpStream) {
    let shared = Arc::new(Shared::new());
    let fixture = fixture_to_all(500, Some(forwarding(upstream)), &shared);
    let serving = Serving::of("127.0.0.1:0", fixture);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(serving.listening.address).await.unwrap();
    let mut all = framed(&request("www.example.", 1));
    for n in 0..TRANSFERS {
        let mut packet = plan::request("cluster.local.", RecordType::AXFR, None);
        packet[..2].copy_from_slice(&(TRANSFER_ID + n).to_be_bytes());
        all.extend(framed(&packet));
    }
    all.extend(framed(&request(WEB, 2)));
    stream.write_all(&all).await.unwrap();
    until(|| shared.under_way() == 1).await;
    (serving, shared, stream)
}

/// Waits until something is so.
async fn until(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("it becomes so");
}

/// The ids of all replies until the connection ends or `last` has come, each run of one once.
async fn runs(stream: &mut TcpStream, last: u16) -> Vec<u16> {
    let mut runs = Vec::new();
    while runs.last() != Some(&last) {
        let Ok(len) = timeout(PATIENCE, stream.read_u16()).await.expect("a reply or the end")
        else {
            break;
        };
        let mut reply = vec![0; usize::from(len)];
        if stream.read_exact(&mut reply).await.is_err() {
            break;
        }
        runs.push(u16::from_be_bytes([reply[0], reply[1]]));
        runs.dedup();
    }
    runs
}

fn cut(shared: &Shared) -> u64 {
    shared.counters.cut.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_beside_transfers_is_answered_between_and_behind_them() {
    let slow = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (serving, shared, mut stream) = transferring(slow.local_addr().unwrap()).await;
    answer_one(&slow).await;
    until(|| serving.exchange.errands.under_way() == 0).await;
    let runs = runs(&mut stream, 2).await;
    let place = |id: u16| runs.iter().position(|it| *it == id).expect("it is answered");
    assert!(place(1) < place(TRANSFER_ID + TRANSFERS - 1), "it need not wait for all of them");
    assert_eq!(place(2), runs.len() - 1, "it came behind all of them");
    assert_eq!(runs.len(), usize::from(TRANSFERS) + 2, "each is whole: {runs:?}");
    assert_eq!((cut(&shared), shared.under_way()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_to_a_slow_reader_ends_with_the_server() {
    let silent = LoopbackUpstream::silent().await;
    let (serving, shared, mut stream) = transferring(silent.address).await;
    let Serving { listening, .. } = serving;
    let ((), runs) = tokio::join!(listening.close(CLOSING), runs(&mut stream, 2));
    assert!(!runs.contains(&(TRANSFER_ID + TRANSFERS - 1)), "the rest is not waited for");
    assert_eq!((cut(&shared), shared.under_way()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_gives_the_place_of_its_transfer_back() {
    let silent = LoopbackUpstream::silent().await;
    let (_serving, shared, mut stream) = transferring(silent.address).await;
    next(&mut stream).await.expect("it began");
    drop(stream);
    until(|| shared.under_way() == 0).await;
    assert_eq!(cut(&shared), 1);
}

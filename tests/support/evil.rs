//! An upstream for a plain `#[test]`, whose behaviour changes while it runs.
//!
//! It answers every A question with its own address and every other one with NODATA, unless it is
//! told to be silent, slow, unwilling or wrong: for all names, or for one. It runs on a thread of
//! its own, on a loopback port that stays the same when it is closed and opened.

#![allow(dead_code, reason = "each test uses what it needs")]

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::ports;

/// Longest wait for the end of its threads.
const STOP_MAX: Duration = Duration::from_secs(10);
/// Longest wait for its port.
const OPEN_MAX: Duration = Duration::from_secs(10);
/// Between two tries to have it.
const OPEN_AGAIN_AFTER: Duration = Duration::from_millis(10);
/// TTL of its records unless it is told otherwise.
const TTL_S: u32 = 60;
/// Upstreams drop by chance, and alike in every run.
const SEED: u64 = 1;

/// What an upstream does.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Way {
    Good,
    /// Takes everything and says nothing.
    Silent,
    /// Answers after this time.
    Slow(Duration),
    /// Drops this share, in percent, over UDP.
    Lossy(u32),
    /// Answers this share, in percent, after this time; the rest at once.
    SlowAtTimes(u32, Duration),
    /// This response code and nothing else: 2 for SERVFAIL, 5 for REFUSED, 1 for FORMERR …
    Code(u16),
    /// TC over UDP, all over TCP.
    Cut,
    /// TC over UDP, silence over TCP.
    CutAndMute,
    /// NXDOMAIN with a SOA of this minimum in seconds.
    NxDomain(u32),
    /// NXDOMAIN without a SOA.
    NxDomainBare,
    /// NODATA with a SOA of this minimum in seconds.
    NoData(u32),
    /// A positive answer under another id, and then the right one.
    WrongIdFirst,
    /// Octets that are no message, and then the right answer.
    GarbageFirst,
}

/// Over what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Over {
    Udp,
    Tcp,
}

/// The upstream. Dropping it closes it.
pub struct Evil {
    address: SocketAddr,
    desk: Arc<Desk>,
    runtime: Mutex<Option<Runtime>>,
}

/// How to answer, and what was asked.
struct Desk {
    script: Mutex<Script>,
    /// Lower case, with the last dot.
    asked: Mutex<BTreeMap<(String, Over), u64>>,
    chance: Mutex<StdRng>,
}

struct Script {
    way: Way,
    of_names: HashMap<String, Way>,
    answer: Ipv4Addr,
    ttl_s: u32,
}

impl Evil {
    /// Starts one that answers every A question with `answer`.
    pub fn start(answer: Ipv4Addr, way: Way) -> Self {
        let script = Script { way, of_names: HashMap::new(), answer, ttl_s: TTL_S };
        let chance = Mutex::new(StdRng::seed_from_u64(SEED));
        let desk = Desk { script: Mutex::new(script), asked: Mutex::default(), chance };
        let address = (Ipv4Addr::LOCALHOST, ports::free()).into();
        let evil = Self { address, desk: Arc::new(desk), runtime: Mutex::new(None) };
        evil.open();
        evil
    }

    /// Where it is, for the directive `forward`.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does from here on.
    pub fn set(&self, way: Way) {
        self.desk.script.lock().way = way;
    }

    /// What it does about one name, such as `www.example.org.`.
    pub fn set_for(&self, name: &str, way: Way) {
        self.desk.script.lock().of_names.insert(name.to_owned(), way);
    }

    /// Answers with another address from here on, as if the name had moved.
    pub fn answer_with(&self, answer: Ipv4Addr) {
        self.desk.script.lock().answer = answer;
    }

    /// Gives its records this TTL.
    pub fn ttl(&self, ttl_s: u32) {
        self.desk.script.lock().ttl_s = ttl_s;
    }

    /// Nobody listens any more: UDP is refused by ICMP, TCP by RST.
    pub fn close(&self) {
        if let Some(runtime) = self.runtime.lock().take() {
            runtime.shutdown_timeout(STOP_MAX);
        }
    }

    /// Listens again, on the same port.
    pub fn open(&self) {
        let mut running = self.runtime.lock();
        assert!(running.is_none(), "it is open already");
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        let runtime = threads.worker_threads(1).enable_all().build().unwrap();
        let (udp, tcp) = runtime.block_on(sockets(self.address));
        runtime.spawn(serve_udp(Arc::clone(&self.desk), udp));
        runtime.spawn(serve_tcp(Arc::clone(&self.desk), tcp));
        *running = Some(runtime);
    }

    /// How often a name was asked for, over anything.
    pub fn asked(&self, name: &str) -> u64 {
        [Over::Udp, Over::Tcp].into_iter().map(|over| self.asked_over(name, over)).sum()
    }

    /// How often a name was asked for over one of both.
    pub fn asked_over(&self, name: &str, over: Over) -> u64 {
        let asked = self.desk.asked.lock();
        asked.get(&(name.to_ascii_lowercase(), over)).copied().unwrap_or_default()
    }

    /// How often anything was asked for.
    pub fn asked_at_all(&self) -> u64 {
        self.desk.asked.lock().values().sum()
    }

    /// Forgets what was asked for.
    pub fn forget(&self) {
        self.desk.asked.lock().clear();
    }
}

impl Drop for Evil {
    fn drop(&mut self) {
        self.close();
    }
}

/// Its sockets. A server under test asks from random ports, so one of its sockets may have the
/// number for a moment.
async fn sockets(address: SocketAddr) -> (UdpSocket, TcpListener) {
    let begun = Instant::now();
    loop {
        let both: std::io::Result<_> =
            async { Ok((UdpSocket::bind(address).await?, TcpListener::bind(address).await?)) }
                .await;
        match both {
            Ok(both) => return both,
            Err(error) => assert!(begun.elapsed() < OPEN_MAX, "{address}: {error}"),
        }
        tokio::time::sleep(OPEN_AGAIN_AFTER).await;
    }
}

/// What is sent, one after the other.
struct Reply {
    after: Duration,
    messages: Vec<Vec<u8>>,
}

impl Desk {
    /// What to do about a request. None about what cannot be read.
    fn reply(&self, packet: &[u8], over: Over) -> Option<Reply> {
        let request = Message::from_vec(packet).ok()?;
        let name = request.queries.first()?.name().to_string().to_ascii_lowercase();
        *self.asked.lock().entry((name.clone(), over)).or_default() += 1;
        let script = self.script.lock();
        let way = script.of_names.get(&name).copied().unwrap_or(script.way);
        let good = || script.good(&request);
        let at_once = |messages| Some(Reply { after: Duration::ZERO, messages });
        match way {
            Way::Good => at_once(vec![good()]),
            Way::Silent => None,
            Way::CutAndMute if over == Over::Tcp => None,
            Way::Lossy(percent) if over == Over::Udp && self.is_hit(percent) => None,
            Way::Slow(after) => Some(Reply { after, messages: vec![good()] }),
            Way::SlowAtTimes(percent, after) if self.is_hit(percent) => {
                Some(Reply { after, messages: vec![good()] })
            }
            Way::Code(code) => at_once(vec![denial(&request, code, None)]),
            Way::Cut | Way::CutAndMute if over == Over::Udp => at_once(vec![cut(&request)]),
            Way::NxDomain(minimum) => at_once(vec![denial(&request, 3, Some(minimum))]),
            Way::NxDomainBare => at_once(vec![denial(&request, 3, None)]),
            Way::NoData(minimum) => at_once(vec![denial(&request, 0, Some(minimum))]),
            Way::WrongIdFirst => {
                let mut wrong = good();
                wrong[0] ^= 0xFF;
                at_once(vec![wrong, good()])
            }
            Way::GarbageFirst => at_once(vec![vec![0xFF; 40], good()]),
            Way::Lossy(_) | Way::SlowAtTimes(..) | Way::Cut | Way::CutAndMute => {
                at_once(vec![good()])
            }
        }
    }

    fn is_hit(&self, percent: u32) -> bool {
        self.chance.lock().random_range(0..100) < percent
    }
}

impl Script {
    /// The right answer.
    fn good(&self, request: &Message) -> Vec<u8> {
        let question = &request.queries[0];
        if question.query_type() != RecordType::A {
            return denial(request, 0, Some(self.ttl_s));
        }
        let mut response = response(request, 0);
        let address = RData::A(A(self.answer));
        response.add_answer(Record::from_rdata(question.name().clone(), self.ttl_s, address));
        response.to_vec().unwrap()
    }
}

/// A response without records.
fn response(request: &Message, code: u16) -> Message {
    let mut response = request.clone();
    response.metadata.message_type = MessageType::Response;
    response.metadata.recursion_available = true;
    response.metadata.response_code = ResponseCode::from((code >> 4) as u8, (code & 15) as u8);
    response
}

/// A response code, with a SOA if its minimum is given.
fn denial(request: &Message, code: u16, minimum: Option<u32>) -> Vec<u8> {
    let mut response = response(request, code);
    if let Some(minimum) = minimum {
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let soa =
            SOA::new(name("ns.example."), name("root.example."), 1, 7200, 1800, 86_400, minimum);
        response.add_authority(Record::from_rdata(Name::root(), minimum, RData::SOA(soa)));
    }
    response.to_vec().unwrap()
}

/// TC and no records.
fn cut(request: &Message) -> Vec<u8> {
    let mut response = response(request, 0);
    response.metadata.truncation = true;
    response.to_vec().unwrap()
}

async fn serve_udp(desk: Arc<Desk>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut later = JoinSet::new();
    let mut buffer = vec![0; 65_535];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        while later.try_join_next().is_some() {}
        let Some(reply) = desk.reply(&buffer[..length], Over::Udp) else { continue };
        let socket = Arc::clone(&socket);
        // One that is slow keeps nobody else waiting.
        later.spawn(async move {
            pause(reply.after).await;
            for message in reply.messages {
                drop(socket.send_to(&message, from).await);
            }
        });
    }
}

async fn serve_tcp(desk: Arc<Desk>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(serve_connection(Arc::clone(&desk), stream));
    }
}

/// Serves until the client hangs up. Without an answer the connection stays open.
async fn serve_connection(desk: Arc<Desk>, mut stream: TcpStream) {
    while let Ok(length) = stream.read_u16().await {
        let mut packet = vec![0; usize::from(length)];
        if stream.read_exact(&mut packet).await.is_err() {
            return;
        }
        let Some(reply) = desk.reply(&packet, Over::Tcp) else { continue };
        pause(reply.after).await;
        for message in reply.messages {
            let framed = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
            if stream.write_all(&framed).await.is_err() {
                return;
            }
        }
    }
}

/// Waits, but never a tick of the clock for nothing.
async fn pause(time: Duration) {
    if time > Duration::ZERO {
        tokio::time::sleep(time).await;
    }
}

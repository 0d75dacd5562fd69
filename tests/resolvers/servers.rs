//! The name servers: they answer as the script of a case says, and write down who asked what.
//!
//! ```text
//! round   packets come ─► held ─► none came for QUIET ─► all replies leave at once ─► next round
//! ```
//!
//! What came in one round was sent without waiting for any of its replies: so the order of things
//! can be compared, and no time has to be.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Notify, mpsc};

use crate::octets::{self, Question};

/// The servers' addresses; `s1` is the first.
pub const SERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 11), Ipv4Addr::new(127, 0, 0, 12)];
/// A round ends when nothing came for so long: longer than a program takes between two packets
/// that it sends at once, shorter than any time-out.
const QUIET: Duration = Duration::from_millis(80);
/// How long after the others of its round a late reply leaves: longer than a program that is
/// stopped takes to read those, shorter than any time-out.
const LATE: Duration = Duration::from_millis(200);
/// Where name servers listen.
const PORT: u16 = 53;

/// What a server does with a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// This address: 10.0.0.N or fd00::N, as was asked.
    Is(u8),
    /// Two addresses; over UDP the first of them, with TC.
    IsLong,
    NoData,
    /// Any other code (RFC 1035 §4.1.1).
    Says(u8),
    /// The same, behind all replies of its round: c-ares asks again for what failed if it reads the
    /// failure together with the other family's addresses, and not if it has read those before.
    SaysLate(u8),
    Silent,
}

/// NXDOMAIN: there is no such name.
pub const NXDOMAIN: Act = Act::Says(3);
/// SERVFAIL.
pub const SERVFAIL: Act = Act::Says(2);
/// SERVFAIL, when all else has been read.
pub const LATE_SERVFAIL: Act = Act::SaysLate(2);
/// REFUSED.
pub const REFUSED: Act = Act::Says(5);

/// Says what to do with a question that comes to the server of this number, from 1.
pub type Script = fn(server: usize, name: &str, is_ipv6: bool) -> Act;

/// One question that came.
#[derive(Clone, Debug)]
pub struct Event {
    /// It was sent after a reply of the round before.
    pub round: usize,
    /// How many rounds with a reply were before.
    pub replied: usize,
    /// From 1.
    pub server: usize,
    pub is_tcp: bool,
    /// The socket that it came from.
    pub peer: SocketAddr,
    pub question: Question,
}

impl Event {
    /// What those that are asked again have in common, before anything was heard.
    fn place(&self) -> (usize, usize, bool, SocketAddr, &str) {
        (self.replied, self.server, self.is_tcp, self.peer, &self.question.name)
    }
}

/// Running servers.
pub struct Servers {
    state: Arc<Mutex<State>>,
}

/// Whether late, the server, the type of the question.
type Order = (bool, usize, u16);

/// What all servers share.
#[derive(Default)]
struct State {
    script: Option<Script>,
    events: Vec<Event>,
    /// Whichever task was faster, they leave in this order.
    held: Vec<(Order, Held)>,
    round: usize,
    replied: usize,
    /// When the last question came.
    last: Option<Instant>,
}

/// A reply that waits for the end of its round.
enum Held {
    Udp(Arc<UdpSocket>, SocketAddr, Vec<u8>),
    Tcp(mpsc::UnboundedSender<Vec<u8>>, Vec<u8>),
}

impl Servers {
    /// Listens at port 53 of all addresses.
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let came = Arc::new(Notify::new());
        for (address, server) in SERVERS.into_iter().zip(1..) {
            let address = SocketAddr::new(IpAddr::V4(address), PORT);
            let udp = Arc::new(UdpSocket::bind(address).await.unwrap());
            let tcp = TcpListener::bind(address).await.unwrap();
            let desk = Desk { server, state: Arc::clone(&state), came: Arc::clone(&came) };
            tokio::spawn(serve_udp(udp, desk.clone()));
            tokio::spawn(serve_tcp(tcp, desk));
        }
        tokio::spawn(end_rounds(Arc::clone(&state), came));
        Self { state }
    }

    /// Answers by this script from here on, with nothing written down.
    pub fn begin(&self, script: Script) {
        *self.state.lock().unwrap() = State { script: Some(script), ..State::default() };
    }

    /// All that came since, in order, with what was still on its way when the program ended.
    pub async fn events(&self) -> Vec<Event> {
        tokio::time::sleep(QUIET).await;
        self.state.lock().unwrap().events.clone()
    }
}

/// Where the questions of one server are taken.
#[derive(Clone)]
struct Desk {
    server: usize,
    state: Arc<Mutex<State>>,
    came: Arc<Notify>,
}

impl Desk {
    /// Writes a question down; its reply is held, if it gets one.
    fn take(
        &self,
        packet: &[u8],
        peer: SocketAddr,
        is_tcp: bool,
        hold: impl FnOnce(Vec<u8>) -> Held,
    ) {
        let Some(question) = octets::read(packet) else { return };
        let mut state = self.state.lock().unwrap();
        let Some(script) = state.script else { return };
        let act = script(self.server, &question.name, question.is_ipv6());
        let order = (matches!(act, Act::SaysLate(_)), self.server, question.rtype);
        let reply = octets::reply(packet, &question, act, is_tcp).map(hold);
        state.held.extend(reply.map(|held| (order, held)));
        let (round, replied) = (state.round, state.replied);
        state.events.push(Event { round, replied, server: self.server, is_tcp, peer, question });
        state.last = Some(Instant::now());
        self.came.notify_one();
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, desk: Desk) {
    let mut packet = [0; 2048];
    loop {
        // ICMP errors of clients that went away come out here too.
        let Ok((len, peer)) = socket.recv_from(&mut packet).await else { continue };
        let reply = |reply| Held::Udp(Arc::clone(&socket), peer, reply);
        desk.take(&packet[..len], peer, false, reply);
    }
}

async fn serve_tcp(listener: TcpListener, desk: Desk) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else { continue };
        tokio::spawn(serve_connection(stream, peer, desk.clone()));
    }
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, desk: Desk) {
    let (mut questions, mut replies) = stream.into_split();
    let (sender, mut held) = mpsc::unbounded_channel::<Vec<u8>>();
    let writer = tokio::spawn(async move {
        while let Some(reply) = held.recv().await {
            let len = u16::try_from(reply.len()).unwrap().to_be_bytes();
            if replies.write_all(&[&len, &reply[..]].concat()).await.is_err() {
                return;
            }
        }
    });
    while let Some(packet) = read_framed(&mut questions).await {
        desk.take(&packet, peer, true, |reply| Held::Tcp(sender.clone(), reply));
    }
    drop(sender);
    let _ = writer.await;
}

async fn read_framed(stream: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let len = stream.read_u16().await.ok()?;
    let mut packet = vec![0; usize::from(len)];
    stream.read_exact(&mut packet).await.ok()?;
    Some(packet)
}

/// Sends what is held, all at once, whenever nothing came for [`QUIET`].
async fn end_rounds(state: Arc<Mutex<State>>, came: Arc<Notify>) {
    loop {
        came.notified().await;
        while let Some(rest) = rest(&state) {
            tokio::time::sleep(rest).await;
        }
        end_round(&mut state.lock().unwrap());
    }
}

/// How long the round still has, unless it is over.
fn rest(state: &Mutex<State>) -> Option<Duration> {
    let last = state.lock().unwrap().last?;
    QUIET.checked_sub(last.elapsed())
}

fn end_round(state: &mut State) {
    state.round += 1;
    state.replied += usize::from(!state.held.is_empty());
    let mut held = std::mem::take(&mut state.held);
    held.sort_by_key(|(order, _)| *order);
    for ((is_late, ..), held) in held {
        match is_late {
            true => drop(tokio::spawn(async move {
                tokio::time::sleep(LATE).await;
                held.send();
            })),
            false => held.send(),
        }
    }
}

impl Held {
    /// Who went away needs no reply.
    fn send(self) {
        match self {
            Self::Udp(socket, peer, reply) => drop(socket.try_send_to(&reply, peer)),
            Self::Tcp(sender, reply) => drop(sender.send(reply)),
        }
    }
}

/// What came as lines that can be compared: those of a round sorted, sockets numbered as they
/// appear, `--` where a reply was waited for. A and AAAA that are asked again have timers of their
/// own, and c-ares adds chance to them: which of both comes first is not compared.
pub fn lines(mut events: Vec<Event>) -> Vec<String> {
    events.sort_by_key(|event| {
        let question = &event.question;
        (event.round, event.server, event.is_tcp, question.name.clone(), question.rtype)
    });
    let alike = |one: &Event, other: &Event| one.place() == other.place();
    for tries in events.chunk_by_mut(alike) {
        let mut seen = BTreeMap::new();
        let count = |event: &Event| {
            let count = seen.entry(event.question.rtype).or_insert(0);
            *count += 1;
            (*count, event.question.rtype)
        };
        let orders: Vec<(usize, u16)> = tries.iter().map(count).collect();
        let mut ordered: Vec<_> = orders.into_iter().zip(tries.iter().cloned()).collect();
        ordered.sort_by_key(|(order, _)| *order);
        tries.iter_mut().zip(ordered).for_each(|(place, (_, event))| *place = event);
    }
    let mut numbers = BTreeMap::new();
    let mut lines = Vec::new();
    let mut replied = 0;
    for event in events {
        if event.replied > replied {
            replied = event.replied;
            lines.push("--".to_owned());
        }
        let next = numbers.len() + 1;
        let number = numbers.entry((event.is_tcp, event.peer)).or_insert(next);
        let over = if event.is_tcp { "tcp" } else { "udp" };
        lines.push(format!("{over} s{} #{number} {}", event.server, event.question));
    }
    lines
}

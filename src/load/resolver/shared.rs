//! A socket, or a connection, that many questions share, as Netty and c-ares have it.
//!
//! ```text
//! ask ──► table: id → who waits ──► socket ──► server
//!                  ▲                   │
//!                  └──── reader ◄──────┘   what fits no question under way is a stray
//! ```
//!
//! The reader ends with the value.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::exchange::{Event, Udp, count_misfit, is_exhausted, is_same};
use super::message::{Fit, Question, Reply};
use crate::load::record::PacketCounts;

/// Most questions under way on one socket. Half of all ids, so that a free one is found soon.
pub const UNDER_WAY_MAX: usize = 32_768;
/// Most questions that wait to be written to a connection; whoever asks beyond waits.
const QUEUE_MAX: usize = 1024;
/// Questions without a reply in time that are remembered, so that late replies are told from
/// others. Beyond, all are forgotten.
const GIVEN_UP_MAX: usize = 4096;
/// The reader looks at an idle socket so often; a socket without packets costs nothing else.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// Pause after an error of the socket, so that one that stays does not take all of a core.
const AFTER_ERROR: Duration = Duration::from_millis(1);

/// The socket.
pub struct Shared {
    way: Way,
    table: Arc<Table>,
    reader: AbortHandle,
    is_retired: AtomicBool,
}

/// How questions leave.
enum Way {
    /// To one server.
    Connected(Arc<Udp>),
    /// To any.
    Unconnected(Arc<Udp>),
    /// Over TCP, each behind its length.
    Stream(mpsc::Sender<Vec<u8>>),
}

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Nothing came in time.
    TimedOut,
    /// The network says that nobody is there.
    Refused,
    /// No socket, or too many questions under way: nothing was asked.
    NoSocket,
}

/// Who waits for which reply.
#[derive(Default)]
struct Table {
    waiting: Mutex<HashMap<u16, Waiting>>,
    /// Whose reply is not waited for any more.
    given_up: Mutex<HashMap<u16, (Question, SocketAddr)>>,
    /// What came for nobody, until somebody takes it.
    strays: Mutex<PacketCounts>,
}

/// A question under way.
struct Waiting {
    question: Question,
    server: SocketAddr,
    reply: oneshot::Sender<Result<Reply, Lost>>,
}

/// Takes a question out of the table, however its wait ends.
struct Place<'t> {
    table: &'t Table,
    id: u16,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let left = self.table.waiting.lock().remove(&self.id);
        if let Some(Waiting { question, server, .. }) = left {
            self.table.give_up(question, server);
        }
    }
}

impl Shared {
    /// A socket for one server.
    ///
    /// # Errors
    /// The system's.
    pub fn connected(server: SocketAddr) -> io::Result<Self> {
        Ok(Self::new(Udp::connected(server)?, Way::Connected))
    }

    /// A socket for several servers.
    ///
    /// # Errors
    /// The system's.
    pub fn unconnected(servers: &[SocketAddr]) -> io::Result<Self> {
        Ok(Self::new(Udp::unconnected(servers)?, Way::Unconnected))
    }

    /// A connection, which is made when the first question waits for it.
    pub fn stream(server: SocketAddr) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let table = Arc::new(Table::default());
        let task = tokio::spawn(serve_stream(server, queue, Arc::clone(&table)));
        Self::of(Way::Stream(sender), table, task.abort_handle())
    }

    fn new(udp: Udp, way: impl FnOnce(Arc<Udp>) -> Way) -> Self {
        let (udp, table) = (Arc::new(udp), Arc::new(Table::default()));
        let reader = tokio::spawn(read(Arc::clone(&udp), Arc::clone(&table)));
        Self::of(way(udp), table, reader.abort_handle())
    }

    fn of(way: Way, table: Arc<Table>, reader: AbortHandle) -> Self {
        Self { way, table, reader, is_retired: AtomicBool::new(false) }
    }

    /// Takes no more new questions, if whoever makes them asks.
    pub fn retire(&self) {
        self.is_retired.store(true, Ordering::Relaxed);
    }

    /// Whether it takes no more new questions.
    pub fn is_retired(&self) -> bool {
        let is_cut = matches!(&self.way, Way::Stream(sender) if sender.is_closed());
        is_cut || self.is_retired.load(Ordering::Relaxed)
    }

    /// What came for nobody since the last time: too late, forged or broken.
    pub fn strays(&self) -> PacketCounts {
        std::mem::take(&mut *self.table.strays.lock())
    }

    /// Asks once, under an id that nobody else has here, and waits for the reply of that server.
    ///
    /// # Errors
    /// That there is none.
    pub async fn ask(
        &self,
        server: SocketAddr,
        question: Question,
        until: Instant,
        counts: &mut PacketCounts,
    ) -> Result<Reply, Lost> {
        let (question, reply) = self.table.enter(question, server).ok_or(Lost::NoSocket)?;
        let _place = Place { table: &self.table, id: question.id() };
        match timeout_at(until, self.send(&question, server, counts)).await {
            Ok(sent) => sent?,
            // The queue of a connection that is not made yet is full: nothing was sent.
            Err(_) => {
                counts.tcp_failed += u64::from(self.is_stream());
                return Err(Lost::TimedOut);
            }
        }
        let came = match timeout_at(until, reply).await {
            Ok(Ok(came)) => came,
            // The reader ends with us alone.
            Ok(Err(_)) | Err(_) => Err(Lost::TimedOut),
        };
        match &came {
            Ok(reply) => reply.count(counts),
            Err(Lost::Refused) if self.is_stream() => {
                counts.tcp_failed += 1;
                counts.lost += 1;
            }
            Err(Lost::Refused) => counts.unreachable += 1,
            Err(_) => counts.lost += 1,
        }
        came
    }

    fn is_stream(&self) -> bool {
        matches!(self.way, Way::Stream(_))
    }

    async fn send(
        &self,
        question: &Question,
        server: SocketAddr,
        counts: &mut PacketCounts,
    ) -> Result<(), Lost> {
        let sent = match &self.way {
            Way::Connected(udp) => udp.send(question, counts).await,
            Way::Unconnected(udp) => udp.send_to(question, server, counts).await,
            Way::Stream(sender) => {
                if sender.send(framed(question)).await.is_err() {
                    counts.tcp_failed += 1;
                    return Err(Lost::Refused);
                }
                counts.sent += 1;
                counts.tcp += 1;
                return Ok(());
            }
        };
        sent.map_err(|error| Lost::of(&error))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Lost {
    /// What an error of a socket means.
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            _ if is_exhausted(error) => Self::NoSocket,
            io::ErrorKind::TimedOut => Self::TimedOut,
            _ => Self::Refused,
        }
    }
}

impl Table {
    /// Finds a free id for a question; `None` when too many are under way.
    fn enter(
        &self,
        question: Question,
        server: SocketAddr,
    ) -> Option<(Question, oneshot::Receiver<Result<Reply, Lost>>)> {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= UNDER_WAY_MAX {
            return None;
        }
        let (reply, receiver) = oneshot::channel();
        // There are free ids, so this ends.
        let mut id = question.id();
        loop {
            if let Entry::Vacant(place) = waiting.entry(id) {
                let question = question.with_id(id);
                place.insert(Waiting { question: question.clone(), server, reply });
                return Some((question, receiver));
            }
            id = rand::random();
        }
    }

    fn give_up(&self, question: Question, server: SocketAddr) {
        let mut given_up = self.given_up.lock();
        if given_up.len() >= GIVEN_UP_MAX {
            given_up.clear();
        }
        given_up.insert(question.id(), (question, server));
    }

    /// Whether a datagram answers a question that was given up. That is told once.
    fn is_too_late(&self, from: SocketAddr, id: u16, datagram: &[u8]) -> bool {
        let mut given_up = self.given_up.lock();
        let is_late = given_up.get(&id).is_some_and(|(question, server)| {
            is_same(*server, from) && question.fit(datagram) == Fit::Yes
        });
        is_late && given_up.remove(&id).is_some()
    }

    /// Hands a datagram to whom it is for.
    fn take(&self, from: SocketAddr, datagram: &[u8]) {
        let id = datagram.first_chunk().copied().map(u16::from_be_bytes);
        let mut waiting = self.waiting.lock();
        let fit = match id.and_then(|id| waiting.get(&id)) {
            Some(its) if is_same(its.server, from) => its.question.fit(datagram),
            _ if datagram.get(2).is_some_and(|flags| flags & 0x80 != 0) => Fit::Other,
            _ => Fit::Garbage,
        };
        let its = id.filter(|_| fit == Fit::Yes).and_then(|id| waiting.remove(&id));
        drop(waiting);
        match (its, Reply::new(datagram.to_vec())) {
            // Who does not wait any more has gone this instant.
            (Some(its), Some(reply)) => drop(its.reply.send(Ok(reply))),
            _ if id.is_some_and(|id| self.is_too_late(from, id, datagram)) => {
                self.strays.lock().too_late += 1;
            }
            _ => count_misfit(fit, &mut self.strays.lock()),
        }
    }

    /// Tells all that nobody is there.
    fn refuse(&self) {
        for (_, its) in self.waiting.lock().drain() {
            drop(its.reply.send(Err(Lost::Refused)));
        }
    }
}

/// Hands out what comes, for ever.
async fn read(udp: Arc<Udp>, table: Arc<Table>) {
    let mut datagram = Vec::new();
    loop {
        match udp.receive(&mut datagram, Instant::now() + LOOK_EVERY).await {
            Event::Datagram(from) => table.take(from, &datagram),
            Event::Refused => {
                table.refuse();
                tokio::time::sleep(AFTER_ERROR).await;
            }
            Event::TimedOut => {}
        }
    }
}

/// Connects and goes on until the connection ends; then nobody waits for it any more.
async fn serve_stream(server: SocketAddr, mut queue: mpsc::Receiver<Vec<u8>>, table: Arc<Table>) {
    if let Ok(stream) = TcpStream::connect(server).await {
        let (mut replies, mut questions) = stream.into_split();
        tokio::select! {
            () = write_stream(&mut questions, &mut queue) => {}
            () = read_stream(&mut replies, server, &table) => {}
        }
    }
    // What enters the table from here on hears it from the queue.
    queue.close();
    table.refuse();
}

async fn write_stream(stream: &mut OwnedWriteHalf, queue: &mut mpsc::Receiver<Vec<u8>>) {
    while let Some(question) = queue.recv().await {
        if stream.write_all(&question).await.is_err() {
            return;
        }
    }
}

async fn read_stream(stream: &mut OwnedReadHalf, server: SocketAddr, table: &Table) {
    while let Ok(len) = stream.read_u16().await {
        let mut message = vec![0; usize::from(len)];
        if stream.read_exact(&mut message).await.is_err() {
            return;
        }
        table.take(server, &message);
    }
}

/// Behind its length (RFC 1035 §4.2.2).
fn framed(question: &Question) -> Vec<u8> {
    let octets = question.octets();
    // A question is shorter than 600 octets.
    [&(octets.len() as u16).to_be_bytes(), octets].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::resolver::scripted::{self, Act, Flow, Server};
    use crate::wire::{Name, Rcode, RecordType};

    fn question(name: &str) -> Question {
        Question::new(&Name::parse(name).unwrap(), RecordType::A)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    /// A socket or a connection of each kind.
    fn each(server: &Server) -> [Shared; 3] {
        [
            Shared::connected(server.address).unwrap(),
            Shared::unconnected(&[server.address]).unwrap(),
            Shared::stream(server.address),
        ]
    }

    #[tokio::test(start_paused = true)]
    async fn questions_with_one_id_find_their_replies() {
        let _flow = Flow::start();
        let server = Server::fixed(Rcode::NOERROR, &["10.0.0.1"]);
        for shared in each(&server) {
            let (mut one, mut other) = (PacketCounts::default(), PacketCounts::default());
            let [a, b] = ["a", "b"].map(|name| question(name).with_id(7));
            let both = tokio::join!(
                shared.ask(server.address, a, soon(), &mut one),
                shared.ask(server.address, b, soon(), &mut other)
            );
            assert!(both.0.is_ok() && both.1.is_ok());
            one.add(&other);
            assert_eq!((one.sent, one.answered, one.lost), (2, 2, 0));
            assert!(shared.table.waiting.lock().is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_and_strays_are_counted() {
        let _flow = Flow::start();
        let server = Server::start(|_| {
            let stray = scripted::reply(question("other").octets(), Rcode::NOERROR, &[]);
            vec![Act::Send(stray), Act::Send(b"x".to_vec())]
        });
        for shared in each(&server) {
            let mut counts = PacketCounts::default();
            let asked = shared.ask(server.address, question("a"), soon(), &mut counts).await;
            assert_eq!((asked, counts.sent, counts.lost), (Err(Lost::TimedOut), 1, 1));
            let strays = shared.strays();
            assert_eq!((strays.mismatched, strays.garbage), (1, 1));
            assert!(shared.table.waiting.lock().is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_behind_its_time_is_too_late() {
        let _flow = Flow::start();
        let server = Server::start(|asked| {
            let reply = scripted::reply(&asked.packet, Rcode::NOERROR, &[]);
            let late = Act::After(Duration::from_secs(6), reply);
            vec![late.clone(), late]
        });
        for shared in [
            Shared::connected(server.address).unwrap(),
            Shared::unconnected(&[server.address]).unwrap(),
        ] {
            let mut counts = PacketCounts::default();
            let asked = shared.ask(server.address, question("a"), soon(), &mut counts).await;
            assert_eq!(asked, Err(Lost::TimedOut));
            tokio::time::sleep(Duration::from_secs(2)).await;
            let strays = shared.strays();
            assert_eq!((strays.too_late, strays.mismatched), (1, 1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_never_made_holds_nobody_longer() {
        // Nobody takes from the queue, as while a connection is being made.
        let (sender, _queue) = mpsc::channel(1);
        sender.try_send(Vec::new()).unwrap();
        let idle = tokio::spawn(std::future::pending::<()>()).abort_handle();
        let shared = Shared::of(Way::Stream(sender), Arc::default(), idle);
        let (mut counts, begun) = (PacketCounts::default(), Instant::now());
        let server = "127.0.0.1:9".parse().unwrap();
        let asked = shared.ask(server, question("a"), soon(), &mut counts).await;
        assert_eq!((asked, begun.elapsed().as_secs()), (Err(Lost::TimedOut), 5));
        assert_eq!((counts.sent, counts.lost, counts.tcp_failed), (0, 0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_there_and_a_cut_connection_are_told() {
        let _flow = Flow::start();
        let closed = scripted::Closed::new();
        let cut = Server::start(|_| vec![Act::Cut]);
        for (shared, server) in [
            (Shared::connected(closed.address).unwrap(), closed.address),
            (Shared::stream(closed.address), closed.address),
            (Shared::stream(cut.address), cut.address),
        ] {
            let mut counts = PacketCounts::default();
            let asked = shared.ask(server, question("a"), soon(), &mut counts).await;
            assert_eq!(asked, Err(Lost::Refused));
            assert_eq!(counts.lost + counts.unreachable, counts.sent);
        }
    }

    #[tokio::test]
    async fn too_many_questions_find_no_place() {
        let table = Table::default();
        let server = "127.0.0.1:9".parse().unwrap();
        let mut held = Vec::new();
        for _ in 0..UNDER_WAY_MAX {
            held.push(table.enter(question("a"), server).unwrap());
        }
        assert!(table.enter(question("a"), server).is_none());
    }
}

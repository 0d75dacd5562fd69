//! TCP: own framing on the runtime. Pipelined, answered out of order, bounded (RFC 7766, RFC 9210).
//!
//! ```text
//! read ─► whole frames ─► answer_now ─┬─► replies in one write
//!                             ├─ errand ─► reply when it is there
//!                             └─ stream ─► one message after the other
//! ```
//!
//! Replies to all frames of one read leave in one write: measured 15 times cheaper than a write
//! each. A connection that has reached its errands in flight is not read until one returns, so
//! that a client cannot make us hold more than it could wait for. While a zone is transferred, the
//! connection does nothing else (RFC 5936 §4.1): its messages are made as fast as they are taken.
//! Replies that were waited for leave between two transfers. The end of the server ends a transfer
//! too, since its client may take minutes for it.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Exchange;
use super::connections::{Full, Place};
use crate::resolve::later::{Errand, Purpose};
use crate::resolve::now::{Client, Lane, Now, answer_now};
use crate::resolve::plan::{Plan, Port};
use crate::resolve::step::Desk;
use crate::resolve::tally::{Proto, Served, Tally};
use crate::resolve::transfer::Stream;
use crate::wire::TCP_MAX;

pub use super::connections::{CONNECTIONS_MAX, Connections, IDLE_MIN, PER_CLIENT_MAX};

/// Errands in flight of one connection; beyond it the connection is not read.
pub const IN_FLIGHT_MAX: usize = 100;
/// Time for the first whole message.
pub const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(3);
/// Time for each further message; only a whole message starts it anew (RFC 7766 §6.2.3).
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the client to take our replies.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a whole zone transfer, so that slow clients cannot keep all places for ever: 10 MB at
/// 17 kB/s.
pub const TRANSFER_TIMEOUT: Duration = Duration::from_secs(600);
/// Replies are written out when so many octets wait, so that one read cannot make us hold more.
const WRITE_BYTES: usize = 64 << 10;
/// Octets asked of the socket at once.
const READ_BYTES: usize = 16 << 10;
/// How often a connection that ends looks whether its errands have.
const FINISH_INTERVAL: Duration = Duration::from_millis(20);
/// Time that a connection of a client which has asked nothing yet gets for its question, when the
/// server ends.
const GREETING_MAX: Duration = Duration::from_secs(1);
/// Time that clients get to close when the server ends. What they still send meanwhile is thrown
/// away: closed with octets unread, a connection ends with RST, which takes replies along.
const LINGER_MAX: Duration = Duration::from_secs(1);
/// Connections that are still accepted in the end: as many as wait at most.
const LAST_ACCEPTS_MAX: usize = 1024;
/// Pause after accept failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

thread_local! {
    /// Shared by the connections of a thread.
    static ROOM: RefCell<Room> = RefCell::new(Room { reply: vec![0; TCP_MAX], sent: Vec::new() });
}

/// What is needed while the messages of one read are answered.
struct Room {
    reply: Vec<u8>,
    /// To be counted when all are answered.
    sent: Vec<Served>,
}

/// Accepts connections until `stop` says so; then answers what is in flight and ends.
pub async fn serve(
    exchange: Arc<Exchange>,
    listener: TcpListener,
    port: u16,
    stop: watch::Receiver<bool>,
) {
    let mut stopped = stop.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = ended(&mut stopped) => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if let Some(connection) = Connection::admit(&exchange, port, peer) {
                        connections.spawn(connection.run(stream, stop.clone()));
                    }
                }
                Err(_) => {
                    // Most likely there are no file descriptors left. The connection that has done
                    // nothing for longest has the one that is missing.
                    exchange.counters.accept_errors.fetch_add(1, Ordering::Relaxed);
                    make_room(&exchange);
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    // To these clients they are open, and questions may be in them.
    for (stream, peer) in waiting(listener) {
        if let Some(connection) = Connection::admit(&exchange, port, peer) {
            connections.spawn(connection.run(stream, stop.clone()));
        }
    }
    while connections.join_next().await.is_some() {}
}

/// The connections that wait to be accepted; then the listener is gone.
fn waiting(listener: TcpListener) -> Vec<(TcpStream, SocketAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let accept = || {
        let (stream, peer) = listener.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer))
    };
    std::iter::from_fn(accept).take(LAST_ACCEPTS_MAX).collect()
}

/// A place for a new connection, if need be that of one that has long done nothing.
fn admit(exchange: &Exchange, client: IpAddr) -> Option<Place> {
    let take = || exchange.connections.take(client, Instant::now());
    let mut taken = take();
    if matches!(taken, Err(Full::All)) && make_room(exchange) {
        taken = take();
    }
    if taken.is_err() {
        exchange.counters.tcp_refused.fetch_add(1, Ordering::Relaxed);
    }
    taken.ok()
}

fn make_room(exchange: &Exchange) -> bool {
    let is_made = exchange.connections.make_room(Instant::now());
    exchange.counters.tcp_idle_closed.fetch_add(is_made.into(), Ordering::Relaxed);
    is_made
}

/// One connection.
struct Connection {
    exchange: Arc<Exchange>,
    port: u16,
    client: Client,
    desk: Desk,
    /// Read, and not yet a whole message.
    input: Vec<u8>,
    /// Replies, framed, not yet written.
    output: Vec<u8>,
    /// A zone transfer that is to be sent before anything else is answered.
    transfer: Option<Transfer>,
    /// Whether any message has been answered.
    has_asked: bool,
    place: Place,
    in_flight: Arc<Semaphore>,
    sender: mpsc::Sender<Landed>,
    receiver: mpsc::Receiver<Landed>,
}

/// A reply that was waited for. Its place is free when the connection has taken it.
struct Landed {
    reply: Vec<u8>,
    _place: OwnedSemaphorePermit,
}

/// A zone transfer that has been let.
struct Transfer {
    stream: Box<Stream>,
    served: Served,
    tally: Arc<Tally>,
}

/// What ends a wait.
enum Event {
    Read,
    Reply(Landed),
    /// Nothing came in time.
    Due,
    End,
}

impl Connection {
    /// A new connection, if there is a place for it.
    fn admit(exchange: &Arc<Exchange>, port: u16, peer: SocketAddr) -> Option<Self> {
        let place = admit(exchange, peer.ip())?;
        Some(Self::new(exchange.clone(), port, peer, place))
    }

    fn new(exchange: Arc<Exchange>, port: u16, peer: SocketAddr, place: Place) -> Self {
        let address = peer.ip().to_canonical();
        let (sender, receiver) = mpsc::channel(IN_FLIGHT_MAX);
        Self {
            exchange,
            port,
            client: Client { proto: Proto::Tcp, address },
            desk: Desk::small(),
            input: Vec::new(),
            output: Vec::new(),
            transfer: None,
            has_asked: false,
            place,
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            sender,
            receiver,
        }
    }

    async fn run(mut self, mut stream: TcpStream, mut stop: watch::Receiver<bool>) {
        // Replies are written whole; waiting for more to come would only delay them.
        let _ = stream.set_nodelay(true);
        let mut since = Instant::now();
        let mut deadline = since + FIRST_MESSAGE_TIMEOUT;
        loop {
            if !self.has_errands() {
                self.place.rests_since(since);
            }
            let event = self.wait(&mut stream, deadline, &mut stop).await;
            self.place.works();
            match event {
                Event::End => break,
                // A client that waits for us is not idle.
                Event::Due if self.has_errands() => deadline = Instant::now() + IDLE_TIMEOUT,
                Event::Due => break,
                Event::Read => {}
                Event::Reply(landed) => push(&mut self.output, &landed.reply),
            }
            match self.answer(&mut stream, &mut stop).await {
                Ok(0) => {}
                Ok(_) => {
                    self.has_asked = true;
                    since = Instant::now();
                    deadline = since + IDLE_TIMEOUT;
                }
                Err(_) => return,
            }
        }
        let _ = timeout(WRITE_TIMEOUT, self.finish(&mut stream, &mut stop)).await;
    }

    /// Waits for octets, for a reply, for the deadline, or for the end of the server.
    async fn wait(
        &mut self,
        stream: &mut TcpStream,
        deadline: Instant,
        stop: &mut watch::Receiver<bool>,
    ) -> Event {
        let free = self.in_flight.available_permits();
        self.input.reserve(READ_BYTES);
        tokio::select! {
            Some(landed) = self.receiver.recv() => Event::Reply(landed),
            read = stream.read_buf(&mut self.input), if free > 0 => match read {
                Ok(octets) if octets > 0 => Event::Read,
                _ => Event::End,
            },
            () = sleep_until(deadline) => Event::Due,
            () = self.place.gives_way() => Event::End,
            () = ended(stop) => Event::End,
        }
    }

    /// Answers all whole messages, and writes. Tells how many there were.
    async fn answer(
        &mut self,
        stream: &mut TcpStream,
        stop: &mut watch::Receiver<bool>,
    ) -> io::Result<usize> {
        let input = std::mem::take(&mut self.input);
        let (mut rest, mut count) = (&input[..], 0);
        while frame(rest).is_some() && self.in_flight.available_permits() > 0 {
            count += self.answer_some(&mut rest);
            self.write(stream).await?;
            if let Some(transfer) = self.transfer.take() {
                tokio::select! {
                    // In this order: a client that reads fast may have asked for any number.
                    biased;
                    () = ended(stop) => return Err(io::ErrorKind::ConnectionAborted.into()),
                    sent = self.send(transfer, stream) => sent?,
                }
                while let Ok(landed) = self.receiver.try_recv() {
                    push(&mut self.output, &landed.reply);
                }
            }
        }
        self.write(stream).await?;
        let consumed = input.len() - rest.len();
        self.input = input;
        // Only behind whole messages: a half one that grows by octets is not moved each time.
        if consumed > 0 {
            self.input.drain(..consumed);
        }
        Ok(count)
    }

    /// Answers messages until there is enough to write, and counts their replies together. Tells
    /// how many there were.
    fn answer_some(&mut self, rest: &mut &[u8]) -> usize {
        let began = Instant::now();
        let plan = self.exchange.plan.load_full();
        let mut count = 0;
        ROOM.with_borrow_mut(|room| {
            room.sent.clear();
            while let Some((message, behind)) = frame(rest) {
                let is_full = self.output.len() >= WRITE_BYTES || self.transfer.is_some();
                if self.in_flight.available_permits() == 0 || is_full {
                    break;
                }
                if let Some(port) = plan.port(self.port) {
                    self.answer_one(&plan, port, message, began, room);
                }
                (*rest, count) = (behind, count + 1);
            }
            let elapsed = began.elapsed();
            for served in room.sent.chunk_by(|one, other| one.block == other.block) {
                let port = plan.port(self.port);
                port.into_iter().for_each(|it| it.tally(served[0].block).count(served, elapsed));
            }
        });
        count
    }

    fn answer_one(
        &mut self,
        plan: &Arc<Plan>,
        port: &Port,
        message: &[u8],
        began: Instant,
        room: &mut Room,
    ) {
        let reply = &mut room.reply;
        match answer_now(port, message, self.client, began.into_std(), &mut self.desk, reply) {
            Now::Send { served, refresh } => {
                push(&mut self.output, &reply[..served.reply_bytes]);
                room.sent.push(served);
                if refresh {
                    let errand = || self.errand(plan, message, Purpose::Refresh);
                    let client = self.client.address;
                    self.exchange.errands.run(Lane::Upstream, client, errand, |_| {});
                }
            }
            Now::Stream { served, stream } => {
                let tally = port.tally(served.block).clone();
                self.transfer = Some(Transfer { stream, served, tally });
            }
            Now::Later(lane) => self.answer_later(plan, message, lane),
            Now::Ignore => {
                self.exchange.counters.ignored.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn answer_later(&self, plan: &Arc<Plan>, message: &[u8], lane: Lane) {
        let Ok(place) = self.in_flight.clone().try_acquire_owned() else { return };
        let arrived = Instant::now();
        let errand = || self.errand(plan, message, Purpose::Reply);
        let sender = self.sender.clone();
        self.exchange.errands.run(lane, self.client.address, errand, move |done| {
            done.tally.count(&[done.served], arrived.elapsed());
            // Never full: there are as many places as replies and errands in flight.
            let _ = sender.try_send(Landed { reply: done.reply, _place: place });
        });
    }

    fn errand(&self, plan: &Arc<Plan>, message: &[u8], purpose: Purpose) -> Errand {
        let (plan, packet, arrived) = (plan.clone(), message.to_vec(), Instant::now());
        Errand::new(plan, self.port, packet, self.client, arrived, purpose)
    }

    /// Sends a zone, message by message.
    async fn send(&mut self, transfer: Transfer, stream: &mut TcpStream) -> io::Result<()> {
        let Transfer { stream: mut messages, mut served, tally } = transfer;
        let began = Instant::now();
        let mut sent = Ok(());
        while let Some(message) = messages.next_message() {
            served.reply_bytes += message.len();
            push(&mut self.output, message);
            sent = self.write(stream).await;
            if sent.is_ok() && began.elapsed() > TRANSFER_TIMEOUT {
                sent = Err(io::ErrorKind::TimedOut.into());
            }
            if sent.is_err() {
                break;
            }
        }
        tally.count(&[served], began.elapsed());
        sent
    }

    async fn write(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        if !self.output.is_empty() {
            timeout(WRITE_TIMEOUT, stream.write_all(&self.output)).await??;
            self.output.clear();
        }
        Ok(())
    }

    /// Whether a reply is still to come.
    fn has_errands(&self) -> bool {
        self.in_flight.available_permits() < IN_FLIGHT_MAX
    }

    /// Answers what was read, also the frames that had no place in flight yet, and says goodbye.
    async fn finish(
        &mut self,
        stream: &mut TcpStream,
        stop: &mut watch::Receiver<bool>,
    ) -> io::Result<()> {
        let is_end_of_all = *stop.borrow();
        if is_end_of_all {
            self.read_last(stream).await;
        }
        while self.has_errands() || frame(&self.input).is_some() {
            // An errand that found no place on its lane gives its place back without a reply, so
            // the wait is cut into short ones.
            if let Ok(Some(landed)) = timeout(FINISH_INTERVAL, self.receiver.recv()).await {
                push(&mut self.output, &landed.reply);
            }
            self.answer(stream, stop).await?;
        }
        stream.shutdown().await?;
        if is_end_of_all {
            let _ = timeout(LINGER_MAX, self.linger(stream)).await;
        }
        Ok(())
    }

    /// Reads what came before the end, and had not been seen.
    async fn read_last(&mut self, stream: &mut TcpStream) {
        let patience = if self.has_asked { FINISH_INTERVAL } else { GREETING_MAX };
        self.input.reserve(READ_BYTES);
        let _ = timeout(patience, stream.read_buf(&mut self.input)).await;
    }

    /// Throws away what comes until the client closes.
    async fn linger(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        loop {
            self.input.clear();
            if stream.read_buf(&mut self.input).await? == 0 {
                return Ok(());
            }
        }
    }
}

/// Waits until the server ends, or is gone.
async fn ended(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The first whole message, and what is behind it.
fn frame(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = input.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Appends a framed reply.
fn push(output: &mut Vec<u8>, reply: &[u8]) {
    // A reply is at most TCP_MAX octets long, which fits.
    output.extend_from_slice(&(reply.len() as u16).to_be_bytes());
    output.extend_from_slice(reply);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_one_by_one_and_half_ones_wait() {
        let input = [0, 2, b'a', b'b', 0, 0, 0, 3, b'c'];
        let (first, rest) = frame(&input).unwrap();
        assert_eq!(first, b"ab");
        let (empty, rest) = frame(rest).unwrap();
        assert!(empty.is_empty());
        assert!(frame(rest).is_none());
        assert!(frame(&[0]).is_none());
    }
}

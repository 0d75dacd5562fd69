//! The UDP workers: one thread per core and listen address, each with a socket of its own.
//!
//! ```text
//! recvmmsg ─► answer_now for each packet ─► sendmmsg
//!                   └─ Later ─► errand on the runtime ─► sendmsg on the same socket
//! ```
//!
//! A worker waits for its socket and for nothing else. If answering panics, the worker drops the
//! batch at hand and goes on with the same socket. The panic hook of `ops` counts and tells. When
//! more comes than it can answer, it throws away what has waited longest ([`super::overload`]).

use std::io;
use std::net::UdpSocket;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::Guard;

use super::batch::{BATCH_MAX, Batch, Envelope};
use super::errands::Place;
use super::journal::{self, Journal, Left, Record};
use super::kept::Key;
use super::overload::{Change, Overload};
use super::{Duty, Exchange};
use crate::resolve::later::{Errand, Purpose};
use crate::resolve::now::{Client, Lane, Now, answer_now, read_ahead};
use crate::resolve::plan::{Plan, Port};
use crate::resolve::step::Desk;
#[cfg(test)]
use crate::resolve::tally::Tally;
use crate::resolve::tally::{Pen, Proto, Served};

/// Pause after an error of the socket, so that a lasting one does not spin.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Batches that a worker still answers when it is told to end: what its socket's buffer can hold.
const FINISH_BATCHES_MAX: usize = 256;

/// Packets of a batch from which on it pays to look ahead.
const AHEAD_MIN: usize = 4;

/// One worker.
struct Worker {
    exchange: Arc<Exchange>,
    socket: Arc<UdpSocket>,
    key: Key,
    port: u16,
    batch: Batch,
    desk: Desk,
    /// The Plan of the last batch, to see when it was swapped.
    plan: Option<Arc<Plan>>,
    /// Where replies are counted, in the order of [`Port::tallies`].
    pens: Vec<Pen>,
    /// Replies of the batch at hand, to be counted when they are sent.
    sent: Vec<Served>,
    /// Packets of the batch at hand that become errands.
    later: Vec<Waiting>,
    overload: Overload,
    /// Only what is there already is still answered.
    is_ending: bool,
    /// Packets thrown away under overload.
    shed: Arc<AtomicU64>,
}

/// A packet that has to wait for somebody.
struct Waiting {
    /// Its slot of the batch.
    index: usize,
    client: Client,
    lane: Lane,
    purpose: Purpose,
}

/// Starts a worker. It ends soon after its `duty` does.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(
    exchange: Arc<Exchange>,
    socket: UdpSocket,
    port: u16,
    key: Key,
    mut duty: Duty,
) -> io::Result<JoinHandle<()>> {
    let socket = Arc::new(socket);
    let name = format!("udp-{port}-{}", key.number);
    let left = exchange.journal.as_ref().map(|journal| journal.take(&key)).unwrap_or_default();
    // Here and not in the thread: before what nobody took is released, and before another try of a
    // start that fails takes the same.
    let batch = Batch::over(exchange.tray(&key.of_tray()));
    let run = move || {
        let mut worker = Worker::new(exchange, socket, port, key, batch);
        // What came to one that never begins is for whoever has the socket next.
        if duty.goes_on() {
            worker.resume(left);
            while duty.goes_on() {
                worker.turn();
            }
            worker.finish();
        }
    };
    thread::Builder::new().name(name).spawn(run)
}

impl Worker {
    fn new(
        exchange: Arc<Exchange>,
        socket: Arc<UdpSocket>,
        port: u16,
        key: Key,
        mut batch: Batch,
    ) -> Self {
        let desk = Desk::new();
        // A socket that was kept may still have what one that ended under overload asked for.
        let _ = batch.stamp(&socket, false);
        let sent = Vec::with_capacity(BATCH_MAX);
        let (pens, later) = (Vec::new(), Vec::new());
        exchange.counters.receive_drops.watch(&socket);
        let (overload, shed) = (Overload::default(), exchange.counters.shed.of(port));
        let (plan, is_ending) = (None, false);
        Self {
            exchange,
            socket,
            key,
            port,
            batch,
            desk,
            plan,
            pens,
            sent,
            later,
            overload,
            is_ending,
            shed,
        }
    }

    /// Answers what has arrived before the end.
    fn finish(&mut self) {
        self.is_ending = true;
        (0..FINISH_BATCHES_MAX).take_while(|_| self.turn() > 0).count();
    }

    /// Receives one batch and answers it. Tells how many packets there were.
    fn turn(&mut self) -> usize {
        let received = match self.is_ending {
            true => self.batch.receive_at_once(&self.socket),
            false => self.batch.receive(&self.socket),
        };
        match received {
            Ok(received) => {
                let now = Instant::now();
                self.look_for_overload(received, now);
                // Behind a batch that is not full nothing waits: what it holds is the newest.
                let count = match self.overload.is_on() && received == BATCH_MAX {
                    true => self.shed(received, now),
                    false => received,
                };
                self.handle(count, now);
                return received;
            }
            // Nothing came: what is not needed any more must not be held by an idle worker.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let now = Instant::now();
                self.look_for_overload(0, now);
                self.plan = Some(self.newest_plan());
                self.desk.hot.tidy_idle(now);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Such as ECONNREFUSED of a client that has gone: not ours, and not lasting.
            Err(_) => {
                self.exchange.counters.receive_errors.fetch_add(1, Ordering::Relaxed);
                thread::sleep(ERROR_PAUSE);
            }
        }
        0
    }

    /// Answers a batch, whatever happens meanwhile.
    fn handle(&mut self, count: usize, now: Instant) {
        if catch_unwind(AssertUnwindSafe(|| self.answer(count, now))).is_err() {
            self.desk = Desk::new();
            self.sent.clear();
            self.later.clear();
        }
        self.batch.done();
    }

    /// Notes a batch. Under overload, and only then, the kernel tells when packets came.
    fn look_for_overload(&mut self, count: usize, now: Instant) {
        let is_on = match self.overload.saw(count == BATCH_MAX, now) {
            Change::None => return,
            Change::Begins => true,
            Change::Ends => false,
        };
        // Without the time nothing can be thrown away, and all is answered in its order.
        let _ = self.batch.stamp(&self.socket, is_on);
    }

    /// Under overload, throws the batch at hand away if it waited too long, and all behind it that
    /// did. Answers how many packets are at hand then.
    #[cold]
    fn shed(&mut self, count: usize, now: Instant) -> usize {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let limit = self.overload.limit(self.batch.newest(), wall, now);
        let Some(limit) = limit else { return count };
        let (gone, at_hand) = self.batch.discard(&self.socket, limit);
        self.shed.fetch_add((count + gone) as u64, Ordering::Relaxed);
        at_hand
    }

    /// The Plan to answer from; the worker's own Entries belong to the last one.
    fn newest_plan(&mut self) -> Arc<Plan> {
        let newest = self.exchange.plan.load();
        match self.plan.take().filter(|plan| Arc::ptr_eq(plan, &newest)) {
            Some(plan) => plan,
            None => {
                self.desk.hot.clear();
                // The old pens first: they may hold the very shards that the new ones want.
                self.pens.clear();
                let tallies = newest.port(self.port).into_iter().flat_map(Port::tallies);
                self.pens.extend(tallies.map(Pen::of));
                Guard::into_inner(newest)
            }
        }
    }

    /// Answers a batch.
    fn answer(&mut self, count: usize, began: Instant) {
        #[cfg(test)]
        tests::panic_if_wanted();
        let plan = self.newest_plan();
        match plan.port(self.port) {
            Some(port) => self.answer_all(&plan, port, count, began),
            None => self.ignore(count),
        }
        self.desk.hot.tidy(began);
        self.plan = Some(plan);
    }

    fn answer_all(&mut self, plan: &Arc<Plan>, port: &Port, count: usize, began: Instant) {
        if count >= AHEAD_MIN {
            let packets = (0..count).map(|index| self.batch.packet(index));
            read_ahead(port, packets, &mut self.desk);
        }
        for index in 0..count {
            self.answer_one(port, index, began);
        }
        let lost = self.batch.send(&self.socket);
        if lost > 0 {
            self.exchange.counters.send_errors.fetch_add(lost as u64, Ordering::Relaxed);
        }
        // One clock read serves the batch: its packets came and left together.
        let elapsed = began.elapsed();
        for served in self.sent.chunk_by(|one, other| one.block == other.block) {
            self.pens[served[0].block.map_or(0, |number| number + 1)].count(served, elapsed);
        }
        self.sent.clear();
        // An errand costs more than an answer, so those set out when the answers have left.
        let mut later = std::mem::take(&mut self.later);
        for waiting in later.drain(..) {
            self.send_later(plan, waiting, began.into());
        }
        self.later = later;
    }

    fn answer_one(&mut self, port: &Port, index: usize, now: Instant) {
        let Some(address) = self.batch.client(index) else { return self.ignore(1) };
        let client = Client { proto: Proto::Udp, address };
        let (packet, reply) = self.batch.slot(index);
        match answer_now(port, packet, client, now, &mut self.desk, reply) {
            Now::Send { served, refresh } => {
                self.batch.queue(index, served.reply_bytes);
                self.sent.push(served);
                if refresh {
                    let (lane, purpose) = (Lane::Upstream, Purpose::Refresh);
                    self.later.push(Waiting { index, client, lane, purpose });
                }
            }
            Now::Later(lane) => {
                self.later.push(Waiting { index, client, lane, purpose: Purpose::Reply });
            }
            // A zone does not fit a datagram, so that is only begun over TCP.
            Now::Stream { .. } | Now::Ignore => self.ignore(1),
        }
    }

    fn ignore(&self, count: usize) {
        self.exchange.counters.ignored.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn send_later(&mut self, plan: &Arc<Plan>, waiting: Waiting, arrived: tokio::time::Instant) {
        let Waiting { index, client, lane, purpose } = waiting;
        let Some(mut place) = self.exchange.errands.place(lane, client.address) else { return };
        let (envelope, packet) = (self.batch.envelope(index), self.batch.packet(index).to_vec());
        let record = Record { key: self.key.clone(), port: self.port, lane, envelope, packet };
        let journal = self.exchange.journal.as_ref().filter(|_| purpose == Purpose::Reply);
        place.slot = journal.and_then(|journal| journal.note(&record, journal::now()));
        let errand = Errand::new(plan.clone(), self.port, record.packet, client, arrived, purpose);
        self.set_out(place, errand, envelope);
    }

    /// Takes up what the last server had under way at this socket when it died: the errands, and
    /// what it had at hand and had not noted as an errand.
    fn resume(&mut self, left: Vec<Left>) {
        if let Some(journal) = self.exchange.journal.clone() {
            self.resume_after(&journal, left);
        }
    }

    fn resume_after(&mut self, journal: &Arc<Journal>, left: Vec<Left>) {
        let (count, gone) = self.batch.take_left();
        for index in 0..count {
            let (packet, peer) = (self.batch.packet(index), self.batch.envelope(index).peer());
            let is_it = |it: &Record| it.packet == packet && it.envelope.peer() == peer;
            if left.iter().any(|left| is_it(&left.record)) {
                self.batch.forget(index);
            }
        }
        self.resume_errands(journal, left);
        journal.abandoned.fetch_add(gone as u64, Ordering::Relaxed);
        if count > 0 {
            let resumed = (0..count).filter(|index| !self.batch.packet(*index).is_empty()).count();
            journal.resumed.fetch_add(resumed as u64, Ordering::Relaxed);
            self.handle(count, Instant::now());
        }
    }

    /// Asks again. The time of an errand goes on to run.
    fn resume_errands(&mut self, journal: &Arc<Journal>, left: Vec<Left>) {
        let plan = self.newest_plan();
        let now = Instant::now();
        for left in left {
            let age = left.age(journal::now()).unwrap_or_default();
            let arrived = now.checked_sub(age).unwrap_or(now).into();
            // First of all: if it kills us too, that was its last try.
            let Some(slot) = journal.again(&left) else { continue };
            let Record { port, lane, envelope, packet, .. } = left.record;
            let address = envelope.peer().map(|peer| peer.ip().to_canonical());
            let place = |address| Some((address, self.exchange.errands.place(lane, address)?));
            let Some((address, mut place)) = address.and_then(place) else {
                slot.abandon();
                continue;
            };
            journal.resumed.fetch_add(1, Ordering::Relaxed);
            place.slot = Some(slot);
            let client = Client { proto: Proto::Udp, address };
            let reply = Purpose::Reply;
            let errand = Errand::new(plan.clone(), port, packet, client, arrived, reply);
            self.set_out(place, errand, envelope);
        }
        self.plan = Some(plan);
    }

    /// Runs an errand and sends its reply.
    fn set_out(&self, place: Place, errand: Errand, envelope: Envelope) {
        let (socket, exchange) = (self.socket.clone(), self.exchange.clone());
        let (purpose, arrived) = (errand.purpose, errand.arrived);
        self.exchange.errands.run_at(place, errand, move |done| {
            if purpose == Purpose::Refresh {
                return;
            }
            if envelope.send(&socket, &done.reply).is_err() {
                exchange.counters.send_errors.fetch_add(1, Ordering::Relaxed);
            }
            done.tally.count(&[done.served], arrived.elapsed());
        });
    }
}

#[cfg(test)]
mod tests;

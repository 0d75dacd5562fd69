//! How much does a server answer, and how soon? The load generator of the benches, over UDP.
//!
//! Closed loop: so many questions are in flight at any time; a reply lets the next one go. Open
//! loop: a question is due at a fixed rate whatever the server does, and its latency counts from
//! when it was due. One thread, which never sleeps: the server pays for no wake-up of its client.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use mainstay::listen::batch::{BATCH_MAX, Batch};
use socket2::{Domain, Socket, Type};

use super::histogram::Histogram;
use super::packets::{Expected, Packets, id, is_right};
use super::random::Random;
use super::server::shown;

/// A question without a reply for so long is asked again, and counted as lost.
const LOST_AFTER: Duration = Duration::from_millis(100);
/// Time between two looks for lost ones.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A question of the open loop that leaves this much after it was due is counted as late.
const LATE_AFTER: Duration = Duration::from_micros(100);
/// Most questions in flight per socket of the open loop: a stall of the server of 100 ms at
/// 80 000 q/s. Beyond that they wait here, and their latency goes on.
const OPEN_FLIGHTS: usize = 1024;
/// Questions in flight while each is asked once.
const EACH_FLIGHTS: usize = 32;
/// How often each is asked until there is a reply.
const EACH_TRIES: usize = 30;
/// Receive buffer of each socket, in octets.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// What to ask whom, and how.
#[derive(Clone)]
pub struct Load<'a> {
    pub target: SocketAddr,
    pub packets: &'a Packets,
    /// The server sends the question back, with QR set.
    pub is_echo: bool,
    pub sockets: usize,
    pub pace: Pace,
    /// Time before the measured window.
    pub warm_up: Duration,
    pub window: Duration,
    pub seed: u64,
}

/// When the next question goes out.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As soon as one of so many was answered.
    InFlight(usize),
    /// So many per second.
    PerSecond(f64),
}

/// What came of it, in the measured window.
#[derive(Default)]
pub struct Outcome {
    pub answered: u64,
    pub elapsed: Duration,
    /// CPU time of the server.
    pub cpu: Duration,
    /// Without a reply in time, and asked again.
    pub lost: u64,
    /// Replies to no question in flight.
    pub stray: u64,
    /// Replies with another code or another number of answers.
    pub wrong: u64,
    pub first_wrong: Option<String>,
    /// Questions of the open loop that left late.
    pub late: u64,
    /// Of the open loop.
    pub latency: Histogram,
}

impl Outcome {
    /// Queries per second.
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64()
    }

    /// CPU time of the server for one query, in microseconds.
    pub fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.answered as f64
    }

    /// The part of one CPU that the server used.
    pub fn utilisation(&self) -> f64 {
        self.cpu.as_secs_f64() / self.elapsed.as_secs_f64()
    }

    /// That of a warm-up, of which only wrong replies are kept: they are wrong at any time.
    pub fn only_wrong(&mut self) -> Self {
        let Self { wrong, first_wrong, .. } = std::mem::take(self);
        Self { wrong, first_wrong, ..Self::default() }
    }

    /// Fails when a reply was wrong or nothing was answered.
    ///
    /// # Errors
    /// What was wrong.
    pub fn checked(self) -> Result<Self, String> {
        match &self.first_wrong {
            Some(reply) => Err(format!("{} wrong replies, the first: {reply}", self.wrong)),
            None if self.answered == 0 => Err("no reply at all".to_owned()),
            None => Ok(self),
        }
    }
}

impl Load<'_> {
    /// Asks. `cpu_time` tells that of the server, at the begin and the end of the window.
    ///
    /// # Errors
    /// A socket cannot be opened, or a reply was wrong.
    pub fn run(&self, mut cpu_time: impl FnMut() -> Duration) -> Result<Outcome, String> {
        let fails = |error| format!("cannot ask {}: {error}", self.target);
        let mut asker = Asker::new(self).map_err(fails)?;
        let began = Instant::now();
        asker.run_until(began, began + self.warm_up);
        // Those in flight over the edge count where they are answered.
        asker.outcome = asker.outcome.only_wrong();
        let (before, start) = (cpu_time(), Instant::now());
        asker.run_until(began, start + self.window);
        let (after, end) = (cpu_time(), Instant::now());
        let mut outcome = asker.outcome;
        outcome.elapsed = end - start;
        outcome.cpu = after.saturating_sub(before);
        outcome.checked()
    }
}

/// The state of a run.
struct Asker<'a> {
    load: &'a Load<'a>,
    lanes: Vec<Lane>,
    /// Never received into, so that its slots name no peer and the sockets' own is used.
    sending: Batch,
    receiving: Batch,
    random: Random,
    outcome: Outcome,
    /// Questions of the open loop that were sent.
    sent: u64,
    looked: Instant,
}

/// A socket and its questions in flight.
struct Lane {
    socket: UdpSocket,
    flights: Vec<Flight>,
    /// Those that are not in flight.
    free: Vec<u16>,
}

/// A question; its place among the flights is in the low bits of its id.
#[derive(Clone, Copy)]
struct Flight {
    packet: u32,
    /// The high bits are new for each question.
    id: u16,
    is_out: bool,
    due: Instant,
    sent: Instant,
}

impl<'a> Asker<'a> {
    fn new(load: &'a Load<'a>) -> std::io::Result<Self> {
        let flights = match load.pace {
            Pace::InFlight(all) => (all / load.sockets).max(1),
            Pace::PerSecond(_) => OPEN_FLIGHTS,
        };
        let lane = |_| Lane::new(load.target, flights);
        Ok(Self {
            load,
            lanes: (0..load.sockets).map(lane).collect::<Result<_, _>>()?,
            sending: Batch::new(),
            receiving: Batch::new(),
            random: Random::new(load.seed),
            outcome: Outcome::default(),
            sent: 0,
            looked: Instant::now(),
        })
    }

    fn run_until(&mut self, began: Instant, end: Instant) {
        let interval = match self.load.pace {
            Pace::InFlight(_) => None,
            Pace::PerSecond(rate) => Some(Duration::from_secs_f64(1.0 / rate)),
        };
        loop {
            let now = Instant::now();
            if now >= end {
                return;
            }
            for lane in 0..self.lanes.len() {
                self.receive(lane);
                if interval.is_none() {
                    self.refill(lane, now);
                }
            }
            if let Some(interval) = interval {
                self.send_due(began, interval);
            }
            if now - self.looked > LOOK_EVERY {
                self.looked = now;
                self.ask_again(now);
            }
        }
    }

    /// Takes the replies that have come.
    fn receive(&mut self, lane: usize) {
        let lane = &mut self.lanes[lane];
        let Ok(count) = self.receiving.receive(&lane.socket) else { return };
        let now = Instant::now();
        for index in 0..count {
            let reply = self.receiving.slot(index).0;
            let place = lane.place(reply);
            let Some(place) = place else {
                self.outcome.stray += 1;
                continue;
            };
            let flight = &mut lane.flights[usize::from(place)];
            flight.is_out = false;
            lane.free.push(place);
            let expected = self.load.expected(flight.packet);
            if !is_right(reply, expected) {
                self.outcome.wrong += 1;
                let text = || format!("not {expected:?}: {}", shown(reply));
                self.outcome.first_wrong.get_or_insert_with(text);
            }
            self.outcome.answered += 1;
            if matches!(self.load.pace, Pace::PerSecond(_)) {
                self.outcome.latency.record((now - flight.due).as_nanos() as u64);
            }
        }
    }

    /// Asks as much as may be in flight.
    fn refill(&mut self, lane: usize, now: Instant) {
        let lane = &mut self.lanes[lane];
        while !lane.free.is_empty() {
            let mut queued = 0;
            while queued < BATCH_MAX
                && let Some(place) = lane.free.pop()
            {
                let packet = self.random.below(self.load.packets.len());
                let id = lane.take_off(place, packet, now, now);
                queue(&mut self.sending, queued, self.load.packets.packet(packet), id);
                queued += 1;
            }
            self.sending.send(&lane.socket);
        }
    }

    /// Asks what is due, each on the next socket.
    fn send_due(&mut self, began: Instant, interval: Duration) {
        loop {
            let now = Instant::now();
            let due = began + Duration::from_nanos(interval.as_nanos() as u64 * self.sent);
            let lane = self.sent as usize % self.lanes.len();
            let lane = &mut self.lanes[lane];
            if due > now {
                return;
            }
            let Some(place) = lane.free.pop() else { return };
            let packet = self.random.below(self.load.packets.len());
            let id = lane.take_off(place, packet, due, now);
            queue(&mut self.sending, 0, self.load.packets.packet(packet), id);
            self.sending.send(&lane.socket);
            self.sent += 1;
            self.outcome.late += u64::from(now - due > LATE_AFTER);
        }
    }

    /// Asks the lost ones again, with the same id.
    fn ask_again(&mut self, now: Instant) {
        for lane in &mut self.lanes {
            for flight in &mut lane.flights {
                if flight.is_out && now - flight.sent > LOST_AFTER {
                    flight.sent = now;
                    self.outcome.lost += 1;
                    let packet = self.load.packets.packet(flight.packet as usize);
                    queue(&mut self.sending, 0, packet, flight.id);
                    self.sending.send(&lane.socket);
                }
            }
        }
    }
}

impl Load<'_> {
    fn expected(&self, packet: u32) -> Expected {
        match self.is_echo {
            true => Expected { rcode: 0, answers: 0 },
            false => self.packets.expected(packet as usize),
        }
    }
}

impl Lane {
    fn new(target: SocketAddr, flights: usize) -> std::io::Result<Self> {
        let socket = Socket::new(Domain::for_address(target), Type::DGRAM, None)?;
        // As much as the kernel grants: replies must not be lost on our side.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        socket.connect(&target.into())?;
        socket.set_nonblocking(true)?;
        let now = Instant::now();
        let flight = Flight { packet: 0, id: 0, is_out: false, due: now, sent: now };
        // A power of two, so that the id can hold the place in its low bits.
        let flights = vec![flight; flights.next_power_of_two()];
        let free = (0..flights.len() as u16).collect();
        Ok(Self { socket: socket.into(), flights, free })
    }

    /// Which of the flights a reply is for.
    fn place(&self, reply: &[u8]) -> Option<u16> {
        let id = (reply.len() >= 12).then(|| id(reply))?;
        let place = id & (self.flights.len() - 1) as u16;
        let flight = &self.flights[usize::from(place)];
        (flight.is_out && flight.id == id).then_some(place)
    }

    /// Puts a question in flight. Answers its id.
    fn take_off(&mut self, place: u16, packet: usize, due: Instant, sent: Instant) -> u16 {
        let step = self.flights.len() as u16;
        let flight = &mut self.flights[usize::from(place)];
        let id = (flight.id & !(step - 1)).wrapping_add(step) | place;
        *flight = Flight { packet: packet as u32, id, is_out: true, due, sent };
        id
    }
}

/// Asks each question once, some at a time, and again what gets no reply: fills caches, and checks
/// all replies.
///
/// # Errors
/// A wrong reply, or none after [`EACH_TRIES`].
pub fn ask_each(target: SocketAddr, packets: &Packets) -> Result<(), String> {
    let fails = |error| format!("cannot ask {target}: {error}");
    let lane = Lane::new(target, 1).map_err(fails)?;
    lane.socket.set_nonblocking(false).map_err(fails)?;
    lane.socket.set_read_timeout(Some(LOST_AFTER)).map_err(fails)?;
    let all: Vec<usize> = (0..packets.len()).collect();
    all.chunks(EACH_FLIGHTS).try_for_each(|chunk| ask_chunk(&lane.socket, packets, chunk))
}

fn ask_chunk(socket: &UdpSocket, packets: &Packets, chunk: &[usize]) -> Result<(), String> {
    let mut left = chunk.to_vec();
    let mut reply = [0; 4096];
    for _ in 0..EACH_TRIES {
        for index in &left {
            let mut packet = packets.packet(*index).to_vec();
            packet[..2].copy_from_slice(&(*index as u16).to_be_bytes());
            socket.send(&packet).map_err(|error| error.to_string())?;
        }
        while !left.is_empty()
            && let Ok(len) = socket.recv(&mut reply)
        {
            let place = left.iter().position(|index| *index as u16 == id(&reply));
            let Some(place) = place else { continue };
            let expected = packets.expected(left.swap_remove(place));
            if !is_right(&reply[..len], expected) {
                return Err(format!("not {expected:?}: {}", shown(&reply[..len])));
            }
        }
        if left.is_empty() {
            return Ok(());
        }
    }
    Err(format!("no reply to {}", shown(packets.packet(left[0]))))
}

fn queue(batch: &mut Batch, index: usize, packet: &[u8], id: u16) {
    let room = batch.slot(index).1;
    room[..packet.len()].copy_from_slice(packet);
    room[..2].copy_from_slice(&id.to_be_bytes());
    batch.queue(index, packet.len());
}

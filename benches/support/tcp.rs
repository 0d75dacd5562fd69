//! How much does a server answer over TCP? So many questions in flight on each of some connections.
//!
//! The questions that follow upon the replies of one read leave in one write. The client looks for
//! replies every 50 µs, without sleeping.

use std::hint::spin_loop;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::asker::Outcome;
use super::packets::{Packets, id, is_right};
use super::random::Random;
use super::server::shown;

/// A connection without a reply for so long is opened anew, and its questions count as lost.
const STUCK_AFTER: Duration = Duration::from_secs(1);
/// Time between two looks at the connections. A client that looked all the time would take every
/// reply alone and ask the next question alone, which costs a server twice what clients that wait
/// in the kernel cost it; and one that waits there would let the server pay for its wake-ups.
const LOOK_EVERY: Duration = Duration::from_micros(50);
const BUFFER_BYTES: usize = 256 << 10;

/// What to ask whom, and how.
pub struct Load<'a> {
    pub target: SocketAddr,
    pub packets: &'a Packets,
    pub connections: usize,
    /// On each connection.
    pub in_flight: usize,
    pub warm_up: Duration,
    pub window: Duration,
    pub seed: u64,
}

impl Load<'_> {
    /// Asks. `cpu_time` tells that of the server, at the begin and the end of the window.
    ///
    /// # Errors
    /// The server takes no connection, or a reply was wrong.
    pub fn run(&self, mut cpu_time: impl FnMut() -> Duration) -> Result<Outcome, String> {
        let mut random = Random::new(self.seed);
        let open = |_| Connection::open(self.target, self.in_flight);
        let connections: Result<Vec<_>, _> = (0..self.connections).map(open).collect();
        let mut connections =
            connections.map_err(|error| format!("cannot connect to {}: {error}", self.target))?;
        let mut outcome = Outcome::default();
        self.run_until(&mut connections, &mut random, &mut outcome, self.warm_up);
        let mut outcome = outcome.only_wrong();
        let (before, start) = (cpu_time(), Instant::now());
        self.run_until(&mut connections, &mut random, &mut outcome, self.window);
        let (after, end) = (cpu_time(), Instant::now());
        outcome.elapsed = end - start;
        outcome.cpu = after.saturating_sub(before);
        outcome.checked()
    }

    fn run_until(
        &self,
        connections: &mut [Connection],
        random: &mut Random,
        outcome: &mut Outcome,
        span: Duration,
    ) {
        let mut look = Instant::now();
        let end = look + span;
        loop {
            let now = Instant::now();
            if now < look {
                spin_loop();
                continue;
            }
            look = now + LOOK_EVERY;
            if now >= end {
                return;
            }
            for connection in &mut *connections {
                let is_open = connection.turn(self.packets, random, outcome, now).is_ok();
                if is_open && now - connection.heard < STUCK_AFTER {
                    continue;
                }
                outcome.lost += self.in_flight as u64;
                if let Ok(fresh) = Connection::open(self.target, self.in_flight) {
                    *connection = fresh;
                }
            }
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// The packet of each question in flight, by its id.
    flights: Vec<Option<usize>>,
    free: Vec<u16>,
    outgoing: Vec<u8>,
    written: usize,
    incoming: Vec<u8>,
    filled: usize,
    heard: Instant,
}

impl Connection {
    fn open(target: SocketAddr, in_flight: usize) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&target, Duration::from_secs(2))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            flights: vec![None; in_flight],
            free: (0..in_flight as u16).collect(),
            outgoing: Vec::with_capacity(BUFFER_BYTES),
            written: 0,
            incoming: vec![0; BUFFER_BYTES],
            filled: 0,
            heard: Instant::now(),
        })
    }

    /// Takes replies, and asks as much as may be in flight.
    fn turn(
        &mut self,
        packets: &Packets,
        random: &mut Random,
        outcome: &mut Outcome,
        now: Instant,
    ) -> std::io::Result<()> {
        match self.stream.read(&mut self.incoming[self.filled..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(len) => {
                self.filled += len;
                self.heard = now;
                self.take_replies(packets, outcome)?;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        while let Some(place) = self.free.pop() {
            let packet = random.below(packets.len());
            self.flights[usize::from(place)] = Some(packet);
            self.frame(packets.packet(packet), place);
        }
        self.write()
    }

    fn frame(&mut self, packet: &[u8], id: u16) {
        self.outgoing.extend_from_slice(&(packet.len() as u16).to_be_bytes());
        self.outgoing.extend_from_slice(&id.to_be_bytes());
        self.outgoing.extend_from_slice(&packet[2..]);
    }

    fn write(&mut self) -> std::io::Result<()> {
        while self.written < self.outgoing.len() {
            match self.stream.write(&self.outgoing[self.written..]) {
                Ok(len) => self.written += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.outgoing.clear();
        self.written = 0;
        Ok(())
    }

    /// Takes all whole replies; what is left moves to the front.
    fn take_replies(&mut self, packets: &Packets, outcome: &mut Outcome) -> std::io::Result<()> {
        let mut start = 0;
        while let Some(len) = frame_len(&self.incoming[start..self.filled]) {
            let reply = &self.incoming[start + 2..start + 2 + len];
            start += 2 + len;
            let place = if len >= 12 { id(reply) } else { u16::MAX };
            let flight = self.flights.get_mut(usize::from(place)).and_then(Option::take);
            let packet = flight.ok_or(ErrorKind::InvalidData)?;
            self.free.push(place);
            outcome.answered += 1;
            if !is_right(reply, packets.expected(packet)) {
                outcome.wrong += 1;
                outcome.first_wrong.get_or_insert_with(|| shown(reply));
            }
        }
        self.incoming.copy_within(start..self.filled, 0);
        self.filled -= start;
        Ok(())
    }
}

/// The length of the message at the front, when it is there as a whole (RFC 1035 §4.2.2).
fn frame_len(octets: &[u8]) -> Option<usize> {
    let len = usize::from(u16::from_be_bytes([*octets.first()?, *octets.get(1)?]));
    (octets.len() >= 2 + len).then_some(len)
}

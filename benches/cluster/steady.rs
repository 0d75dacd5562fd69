//! How late are answers at a fixed rate? A client that sleeps between its questions, for it shares
//! its CPU with the API server.
//!
//! One thread sends what is due and another one receives. Both run before everything else of their
//! CPU where the system lets them, so that what they measure is the server and not each other.

use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::CLIENT_CPU;
use crate::subject::SERVER_CPU;
use crate::support::apiserver::objects::mix;
use crate::support::histogram::Histogram;
use crate::support::machine::pin;
use crate::support::packets::{Packets, id, is_right};
use crate::support::server::shown;

/// Ids of DNS messages.
const IDS: usize = 1 << 16;
/// Time that is not measured at the begin.
const WARM_UP: Duration = Duration::from_millis(500);
/// Longest wait for a reply before a look at whether it is over.
const PATIENCE: Duration = Duration::from_millis(200);

/// What is shown of a wrong reply, in octets.
const SHOWN_BYTES: usize = 200;

/// A client at work.
pub struct Steady {
    is_over: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<Tally>,
    awake: [JoinHandle<()>; 2],
}

/// What came of it.
#[derive(Default)]
pub struct Tally {
    pub sent: u64,
    pub answered: u64,
    pub wrong: u64,
    pub first_wrong: Option<String>,
    pub latency: Histogram,
}

/// What both threads know.
struct Shared {
    socket: UdpSocket,
    packets: Packets,
    began: Instant,
    /// When the question of an id left, in ns since the begin; 0 when it is not in flight.
    sent_ns: Box<[AtomicU64]>,
    is_over: Arc<AtomicBool>,
}

impl Steady {
    /// Begins to ask.
    pub fn start(target: SocketAddr, packets: Packets, per_second: u64) -> Result<Self, String> {
        let open = || {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(target)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        let socket = open().map_err(|error: std::io::Error| format!("cannot ask: {error}"))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let sent_ns = (0..IDS).map(|_| AtomicU64::new(0)).collect();
        let began = Instant::now();
        let shared = Shared { socket, packets, began, sent_ns, is_over: is_over.clone() };
        let receiving = Arc::new(shared);
        let sending = receiving.clone();
        let sender = thread::spawn(move || sending.send(per_second));
        let receiver = thread::spawn(move || receiving.receive());
        let awake = [SERVER_CPU, CLIENT_CPU].map(|cpu| {
            let over = is_over.clone();
            thread::spawn(move || keep_awake(cpu, &over))
        });
        Ok(Self { is_over, sender, receiver, awake })
    }

    /// Ends, and tells what came of it.
    ///
    /// # Errors
    /// A reply was wrong.
    pub fn stop(self) -> Result<Tally, String> {
        self.is_over.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("the sender does not panic");
        let tally = self.receiver.join().expect("the receiver does not panic");
        for thread in self.awake {
            thread.join().expect("it does not panic");
        }
        match tally.first_wrong {
            Some(reply) => Err(format!("{} wrong replies, the first: {reply}", tally.wrong)),
            None => Ok(Tally { sent, ..tally }),
        }
    }
}

impl Tally {
    /// The part of the questions that got no reply, in percent.
    pub fn lost_percent(&self) -> f64 {
        100.0 * (1.0 - self.answered as f64 / self.sent.max(1) as f64)
    }

    /// A quantile of the latency, in µs.
    pub fn quantile_us(&self, part: f64) -> f64 {
        self.latency.quantile(part).as_secs_f64() * 1e6
    }
}

impl Shared {
    fn send(&self, per_second: u64) -> u64 {
        run_first();
        let mut packet = Vec::new();
        let mut sent = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            let due = Duration::from_nanos(sent * 1_000_000_000 / per_second);
            thread::sleep(due.saturating_sub(self.began.elapsed()));
            let number = sent as u16;
            packet.clear();
            packet.extend_from_slice(self.packets.packet(self.chosen(number)));
            packet[..2].copy_from_slice(&number.to_be_bytes());
            let now = self.began.elapsed().as_nanos() as u64;
            self.sent_ns[usize::from(number)].store(now, Ordering::Release);
            // A full buffer is a question that gets no reply.
            let _ = self.socket.send(&packet);
            sent += 1;
        }
        sent
    }

    fn receive(&self) -> Tally {
        run_first();
        let (mut tally, mut reply) = (Tally::default(), [0; 4096]);
        loop {
            let Ok(len) = self.socket.recv(&mut reply) else {
                if self.is_over.load(Ordering::Relaxed) {
                    return tally;
                }
                continue;
            };
            let now = self.began.elapsed();
            let number = if len >= 12 { id(&reply) } else { 0 };
            let sent_ns = self.sent_ns[usize::from(number)].swap(0, Ordering::Acquire);
            if sent_ns == 0 {
                continue;
            }
            tally.answered += 1;
            let expected = self.packets.expected(self.chosen(number));
            if !is_right(&reply[..len], expected) {
                tally.wrong += 1;
                tally.first_wrong.get_or_insert_with(|| shown(&reply[..len.min(SHOWN_BYTES)]));
            }
            if now > WARM_UP {
                tally.latency.record((now.as_nanos() as u64).saturating_sub(sent_ns));
            }
        }
    }

    /// Which question has this id.
    fn chosen(&self, number: u16) -> usize {
        mix(number.into()) as usize % self.packets.len()
    }
}

/// Puts the calling thread before all others of its CPU. Without the right to do so it shares.
pub fn run_first() {
    schedule(&["--fifo", "--pid", "10"]);
}

/// Keeps a CPU from halting, with a thread that runs when no other one wants to: to wake a halted
/// CPU of a virtual machine takes up to milliseconds, which are not the server's.
fn keep_awake(cpu: usize, is_over: &AtomicBool) {
    if pin(&[cpu]).is_ok() && schedule(&["--idle", "--pid", "0"]) {
        while !is_over.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    }
}

/// Has the calling thread scheduled otherwise, if we may.
fn schedule(wish: &[&str]) -> bool {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let mut chrt = Command::new("chrt");
    chrt.args(wish).arg(thread).stdout(Stdio::null()).stderr(Stdio::null());
    chrt.status().is_ok_and(|status| status.success())
}

//! When is a change seen? A client asks for the probes all the time, and notes each address that it
//! had not seen before.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::steady::run_first;
use crate::subject::address_in;
use crate::support::apiserver::objects::Cluster;
use crate::support::apiserver::store::{Edited, now_us};
use crate::support::histogram::Histogram;
use crate::support::packets::{A, Edns, question};

/// Longest wait for a reply.
const REPLY_MAX: Duration = Duration::from_millis(500);
/// Time between two questions: the precision of what is measured.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// Longest wait for the last change.
const LAST_MAX: Duration = Duration::from_secs(20);

/// A client that looks at the first probes of a cluster.
pub struct Looking {
    is_over: Arc<AtomicBool>,
    probes: usize,
    /// The number of the latest address of any probe.
    latest: Arc<std::sync::atomic::AtomicU32>,
    thread: JoinHandle<Vec<Vec<Sighting>>>,
}

/// The first time that an address was seen.
#[derive(Clone, Copy, Debug)]
struct Sighting {
    number: u32,
    at_us: u64,
}

/// How long changes took until they were seen.
#[derive(Default)]
pub struct Seen {
    pub delays: Histogram,
    pub never: usize,
}

impl Looking {
    pub fn start(target: SocketAddr, cluster: &Cluster, probes: usize) -> Result<Self, String> {
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        socket.connect(target).map_err(|error| error.to_string())?;
        socket.set_read_timeout(Some(REPLY_MAX)).map_err(|error| error.to_string())?;
        let name = |probe| cluster.dns_name(cluster.services + probe);
        let questions: Vec<_> =
            (0..probes).map(|probe| question(&name(probe), A, Edns::Without)).collect();
        let is_over = Arc::new(AtomicBool::new(false));
        let latest = Arc::default();
        let (over, newest) = (is_over.clone(), Arc::clone(&latest));
        let thread = thread::spawn(move || look(&socket, &questions, &over, &newest));
        Ok(Self { is_over, probes, latest, thread })
    }

    /// Waits for the last of the changes, and tells how long each took.
    pub fn stop(self, moves: &[Edited]) -> Seen {
        let last = moves.iter().map(|edited| Cluster::probe_number(edited.address)).max();
        let began = Instant::now();
        while Some(self.latest.load(Ordering::Relaxed)) < last && began.elapsed() < LAST_MAX {
            thread::sleep(Duration::from_millis(10));
        }
        self.is_over.store(true, Ordering::Relaxed);
        let sightings = self.thread.join().expect("it does not panic");
        let mut seen = Seen::default();
        for (at, edited) in moves.iter().enumerate() {
            let number = Cluster::probe_number(edited.address);
            // A later address of the same probe shows this change too.
            let of_probe = &sightings[at % self.probes];
            match of_probe.iter().find(|sighting| sighting.number >= number) {
                Some(it) => seen.delays.record(it.at_us.saturating_sub(edited.at_us) * 1000),
                None => seen.never += 1,
            }
        }
        seen
    }
}

impl Seen {
    /// A quantile, in ms.
    pub fn quantile_ms(&self, part: f64) -> f64 {
        self.delays.quantile(part).as_secs_f64() * 1e3
    }

    pub fn max_ms(&self) -> f64 {
        self.delays.max().as_secs_f64() * 1e3
    }
}

fn look(
    socket: &UdpSocket,
    questions: &[Vec<u8>],
    is_over: &AtomicBool,
    latest: &std::sync::atomic::AtomicU32,
) -> Vec<Vec<Sighting>> {
    run_first();
    let mut sightings: Vec<Vec<Sighting>> = vec![Vec::new(); questions.len()];
    let mut reply = [0; 4096];
    for turn in 0_usize.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep(LOOK_EVERY);
        let probe = turn % questions.len();
        let mut packet = questions[probe].clone();
        packet[..2].copy_from_slice(&(turn as u16).to_be_bytes());
        if socket.send(&packet).is_err() {
            continue;
        }
        let Some(address) = reply_to(socket, turn as u16, &mut reply) else { continue };
        let (number, at_us) = (Cluster::probe_number(address), now_us());
        if sightings[probe].last().is_none_or(|last| last.number < number) {
            sightings[probe].push(Sighting { number, at_us });
            latest.fetch_max(number, Ordering::Relaxed);
        }
    }
    sightings
}

/// The address in the reply of this id; those of earlier questions are passed over.
fn reply_to(socket: &UdpSocket, id: u16, reply: &mut [u8]) -> Option<Ipv4Addr> {
    loop {
        let len = socket.recv(reply).ok()?;
        if reply[..len].starts_with(&id.to_be_bytes()) {
            return address_in(&reply[..len]);
        }
    }
}

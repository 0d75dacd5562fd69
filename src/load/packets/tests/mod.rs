//! What drivers make of servers that answer rightly, wrongly, twice, late, or not at all. Servers
//! are scripts on loopback; no test asks how long anything took.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::Value;

use super::{Notes, Settings, drive_noting, question};
use crate::load::arrivals::{Arrivals, Profile};
use crate::load::record::{Outcome, PacketCounts, Recorder, Sample};
use crate::load::run::{Course, Run};
use crate::load::target::{Target, Transport};
use crate::load::tasks::{Class, Expect, Task, Work};
use crate::wire::{Name, RecordType, UDP_MAX};

mod connections;
mod datagrams;
mod desk;
mod servers;

/// Until a test that waits for something is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A name that exists.
pub fn task(host: &str, rtype: &str) -> Task {
    Task {
        host: host.into(),
        name: Name::parse(host).unwrap(),
        rtype: RecordType::parse(rtype).unwrap(),
        class: Class::Service,
        expect: Expect::Exists,
    }
}

/// The reply to a task without records.
pub fn reply(task: &Task, code: u8) -> Vec<u8> {
    reply_with(task, code, &[])
}

/// The reply to a task with answers such as `web.shop A 10.0.0.1`.
pub fn reply_with(task: &Task, code: u8, answers: &[&str]) -> Vec<u8> {
    let mut room = [0; UDP_MAX];
    let len = question::write(task, 0, None, &mut room);
    let mut reply = room[..len].to_vec();
    reply[2] |= 0x80;
    reply[3] = code;
    reply[7] = answers.len() as u8;
    answers.iter().for_each(|answer| push_record(&mut reply, answer));
    reply
}

fn push_record(reply: &mut Vec<u8>, text: &str) {
    let words: Vec<&str> = text.split(' ').collect();
    let name = |text: &str| Name::parse(text).unwrap().octets().to_vec();
    let number = |word: &&str| word.parse::<u16>().unwrap().to_be_bytes();
    let rdata = match words[1] {
        "A" => words[2].parse::<std::net::Ipv4Addr>().unwrap().octets().to_vec(),
        "AAAA" => words[2].parse::<std::net::Ipv6Addr>().unwrap().octets().to_vec(),
        "SRV" => words[2..5].iter().flat_map(number).chain(name(words[5])).collect(),
        _ => name(words[2]),
    };
    reply.extend(name(words[0]));
    reply.extend(RecordType::parse(words[1]).unwrap().0.to_be_bytes());
    reply.extend([0, 1, 0, 0, 0, 5]);
    reply.extend((rdata.len() as u16).to_be_bytes());
    reply.extend(rdata);
}

/// What a driver wrote down.
#[derive(Clone, Default)]
pub struct Seen {
    samples: Vec<Sample>,
    counts: PacketCounts,
    begun: u64,
    not_begun: u64,
}

impl Seen {
    fn with(&self, outcome: Outcome) -> usize {
        self.samples.iter().filter(|sample| sample.outcome == outcome).count()
    }

    /// What holds whatever the server did: each lookup ended once, each packet became of something.
    #[track_caller]
    fn check(&self) {
        let counts = &self.counts;
        assert_eq!(self.begun, self.samples.len() as u64, "each that began ended once");
        let sent: u64 = self.samples.iter().map(|sample| u64::from(sample.packets)).sum();
        assert_eq!(sent, counts.sent);
        assert_eq!(counts.answered + counts.lost + counts.unreachable, self.begun, "{counts:?}");
        let codes = [counts.noerror, counts.nxdomain, counts.servfail, counts.refused];
        assert_eq!(codes.iter().sum::<u64>() + counts.other_code, counts.answered);
        assert_eq!(self.with(Outcome::Slow), 0, "who is slow is not for drivers to say");
    }
}

/// Notes that a test reads while the driver writes.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<Seen>>);

impl Notes for Shared {
    fn lookups(&mut self, samples: &[Sample]) {
        self.0.lock().samples.extend_from_slice(samples);
    }

    fn packets(&mut self, counts: &PacketCounts) {
        let total = &mut self.0.lock().counts;
        *total = sum(total, counts);
    }

    fn began_late(&mut self, _by: Duration) {
        self.0.lock().begun += 1;
    }

    fn not_begun(&mut self, count: u64) {
        self.0.lock().not_begun += count;
    }
}

/// Adds all counts, by whatever names they have.
fn sum(one: &PacketCounts, other: &PacketCounts) -> PacketCounts {
    let mut total = serde_json::to_value(one).unwrap();
    let other = serde_json::to_value(other).unwrap();
    for (name, count) in total.as_object_mut().unwrap() {
        *count = Value::from(count.as_u64().unwrap() + other[name].as_u64().unwrap());
    }
    serde_json::from_value(total).unwrap()
}

/// A run to be.
pub struct Setup {
    pub server: std::net::SocketAddr,
    pub transport: Transport,
    pub profile: Profile,
    pub duration: Option<Duration>,
    pub started: tokio::time::Instant,
    pub timeout: Duration,
    pub sockets: usize,
    pub part: usize,
}

/// 2 000 a second until the test has seen enough.
pub fn setup(server: std::net::SocketAddr, transport: Transport) -> Setup {
    Setup {
        server,
        transport,
        profile: Profile::Constant(2000.0),
        duration: None,
        started: tokio::time::Instant::now(),
        timeout: Duration::from_millis(100),
        sockets: 4,
        part: 0,
    }
}

impl Setup {
    fn run(&self) -> Arc<Run> {
        let course = Course::new(self.started, self.duration);
        let work = Work::uniform(vec![Arc::new(task("web.shop", "A"))]);
        Arc::new(Run {
            target: Target { servers: vec![self.server], transport: self.transport },
            work: ArcSwap::from_pointee(work),
            truth: None,
            recorder: Recorder::new(course.clone(), Duration::from_secs(1)),
            course,
            timeout: self.timeout,
            seed: 1,
        })
    }

    fn settings(&self) -> Settings {
        let first_client = (self.part * self.sockets) as u32;
        Settings { sockets: self.sockets, payload_bytes: Some(1232), first_client }
    }

    /// Drives until the run ends by itself.
    pub fn drive(&self) -> Seen {
        self.drive_until(|_| false)
    }

    /// Drives until enough was seen, and answers what was.
    #[track_caller]
    pub fn drive_until(&self, is_enough: impl Fn(&Seen) -> bool) -> Seen {
        let seen = self.drive_through(&mut [&mut |seen| is_enough(seen)]);
        seen.check();
        seen
    }

    /// Drives until each has seen enough, one after the other.
    pub fn drive_through(&self, steps: &mut [&mut dyn FnMut(&Seen) -> bool]) -> Seen {
        let (run, notes) = (self.run(), Shared::default());
        let driver = {
            let (run, notes, settings) = (Arc::clone(&run), notes.clone(), self.settings());
            let arrivals =
                Arrivals::new(&self.profile, self.duration, self.part, self.part + 1, run.seed);
            std::thread::spawn(move || drive_noting(&run, arrivals, &settings, notes).map(drop))
        };
        let given_up = Instant::now() + PATIENCE;
        for step in steps {
            while !driver.is_finished() && !step(&notes.0.lock()) {
                assert!(Instant::now() < given_up, "{:?}", notes.0.lock().counts);
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        run.course.stop();
        driver.join().unwrap().unwrap();
        Arc::into_inner(notes.0).unwrap().into_inner()
    }
}

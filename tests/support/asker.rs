//! A small client for what `dig` is too slow for: asking again until something changes, and asking
//! all the time while something else happens.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use mainstay::wire::Rcode;

/// Longest time for a reply. Answers of the cluster take well under a millisecond, but the machine
/// may be busy.
const REPLY_MAX: Duration = Duration::from_secs(10);
/// Longest time until a change arrives.
pub const CHANGE_MAX: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Pause between the queries of a steady asker: some hundred per second.
const STEADY_EVERY: Duration = Duration::from_millis(4);

/// Asks for `web.shop.svc A` (under the cluster's zone); answers `NOERROR 10.96.0.1`, with records
/// sorted, or `lost`.
pub fn ask(port: u16, question: &str) -> String {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_read_timeout(Some(REPLY_MAX)).unwrap();
    let request = request(question);
    // Nobody listens: the port told us so.
    if socket.send(&request).is_err() {
        return "lost".to_owned();
    }
    let mut buffer = [0; 4096];
    match socket.recv(&mut buffer) {
        Ok(length) => short(&buffer[..length], &request),
        Err(_) => "lost".to_owned(),
    }
}

fn request(question: &str) -> Vec<u8> {
    let (name, rtype) = question.split_once(' ').unwrap();
    let zone = if name.ends_with('.') { "" } else { ".cluster.local." };
    let name = Name::from_ascii(format!("{name}{zone}")).unwrap();
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, rtype.parse::<RecordType>().unwrap()));
    message.to_vec().unwrap()
}

fn short(reply: &[u8], request: &[u8]) -> String {
    assert_eq!(reply[..2], request[..2], "the id of the reply");
    let message = Message::from_vec(reply).unwrap();
    let mut records: Vec<_> =
        message.answers.iter().map(|record| record.data.to_string()).collect();
    records.sort();
    records.insert(0, Rcode(message.metadata.response_code.into()).to_string());
    records.join(" ")
}

/// Waits until the answer is `expected`; answers how long that took.
pub fn until(port: u16, question: &str, expected: &str) -> Duration {
    let mut last = String::new();
    eventually(|| {
        last = ask(port, question);
        if last == expected { Ok(()) } else { Err(format!("{question}: {last}, not {expected}")) }
    })
}

/// Waits until `look` finds what it wants; answers how long that took.
pub fn eventually(mut look: impl FnMut() -> Result<(), String>) -> Duration {
    let begun = Instant::now();
    loop {
        match look() {
            Ok(()) => return begun.elapsed(),
            Err(missing) => assert!(begun.elapsed() < CHANGE_MAX, "too late: {missing}"),
        }
        sleep(LOOK_EVERY);
    }
}

/// Asks the same question all the time, and expects the same answer each time.
pub struct Steady {
    is_over: Arc<AtomicBool>,
    asking: JoinHandle<Tally>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Tally {
    pub asked: usize,
    /// All that was not expected.
    pub wrong: Vec<String>,
    pub slowest: Duration,
}

impl Steady {
    /// Begins to ask.
    pub fn start(port: u16, question: &'static str, expected: &'static str) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let asking = thread::spawn(move || {
            let mut tally = Tally::default();
            while !over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let answer = ask(port, question);
                tally.asked += 1;
                tally.slowest = tally.slowest.max(begun.elapsed());
                if answer != expected {
                    tally.wrong.push(answer);
                }
                sleep(STEADY_EVERY);
            }
            tally
        });
        Self { is_over, asking }
    }

    /// Ends, and tells what came of it.
    pub fn end(self) -> Tally {
        self.is_over.store(true, Ordering::Relaxed);
        self.asking.join().unwrap()
    }

    /// Ends, and checks that no answer was lost or wrong.
    pub fn all_right(self) -> Tally {
        let tally = self.end();
        assert!(tally.asked > 0);
        assert!(tally.wrong.is_empty(), "of {}: {:?}", tally.asked, tally.wrong);
        tally
    }
}

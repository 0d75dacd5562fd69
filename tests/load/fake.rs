//! DNS servers on loopback that do what a test says, on threads of their own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::ports;
use crate::running::wait_until;

/// How often a server looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What to send, and how much later.
pub type Replies = Vec<(Duration, Vec<u8>)>;

/// A server over UDP. Dropping it ends it.
pub struct Fake {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// Does with each question what `script` says.
    pub fn udp(script: impl FnMut(&[u8]) -> Replies + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(LOOK_EVERY)).unwrap();
        let address = socket.local_addr().unwrap();
        Self::spawn(address, move |asked, is_over| serve_udp(&socket, script, &asked, &is_over))
    }

    /// Answers each question over TCP with the octets that `script` says, and closes the connection
    /// where it says nothing.
    pub fn tcp(script: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(script);
        Self::spawn(address, move |asked, is_over| {
            while !is_over.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(LOOK_EVERY);
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                let (script, asked) = (Arc::clone(&script), Arc::clone(&asked));
                thread::spawn(move || serve_tcp(stream, &*script, &asked));
            }
        })
    }

    /// Answers all with one address.
    pub fn good() -> Self {
        Self::udp(|question| at_once(address(question)))
    }

    /// Answers nothing.
    pub fn silent() -> Self {
        Self::udp(|_| Vec::new())
    }

    fn spawn(
        address: SocketAddr,
        serve: impl FnOnce(Arc<Mutex<Vec<String>>>, Arc<AtomicBool>) + Send + 'static,
    ) -> Self {
        let (asked, is_over) = (Arc::default(), Arc::default());
        let its = (Arc::clone(&asked), Arc::clone(&is_over));
        let thread = Some(thread::spawn(move || serve(its.0, its.1)));
        Self { address, asked, is_over, thread }
    }

    /// The names and types that were asked, in order: `web.shop. 1`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until so many were asked.
    pub fn wait_for(&self, count: usize) {
        wait_until("questions come", || self.asked.lock().unwrap().len() >= count);
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

fn serve_udp(
    socket: &UdpSocket,
    mut script: impl FnMut(&[u8]) -> Replies,
    asked: &Mutex<Vec<String>>,
    is_over: &AtomicBool,
) {
    let mut room = [0; 1500];
    while !is_over.load(Ordering::Relaxed) {
        // A time-out, or the refusal of an earlier reply by who has left.
        let Ok((len, from)) = socket.recv_from(&mut room) else { continue };
        asked.lock().unwrap().push(title(&room[..len]));
        for (delay, reply) in script(&room[..len]) {
            if delay.is_zero() {
                let _ = socket.send_to(&reply, from);
                continue;
            }
            let socket = socket.try_clone().unwrap();
            thread::spawn(move || {
                thread::sleep(delay);
                let _ = socket.send_to(&reply, from);
            });
        }
    }
}

fn serve_tcp(
    mut stream: TcpStream,
    script: &dyn Fn(&[u8]) -> Option<Vec<u8>>,
    asked: &Mutex<Vec<String>>,
) {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut question = vec![0; u16::from_be_bytes(length).into()];
        if stream.read_exact(&mut question).is_err() {
            return;
        }
        asked.lock().unwrap().push(title(&question));
        let Some(octets) = script(&question) else { return };
        if stream.write_all(&octets).is_err() {
            return;
        }
    }
}

/// Where nobody listens.
pub fn closed() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], ports::free()))
}

/// One reply, at once.
pub fn at_once(reply: Vec<u8>) -> Replies {
    vec![(Duration::ZERO, reply)]
}

/// A message as TCP has it: behind its length.
pub fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// The reply with one address.
pub fn address(question: &[u8]) -> Vec<u8> {
    let mut reply = code(question, 0);
    reply[7] = 1;
    reply.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 192, 0, 2, 1]);
    reply
}

/// The reply with a code and no records.
pub fn code(question: &[u8], code: u8) -> Vec<u8> {
    let mut reply = question[..question_end(question)].to_vec();
    reply[2] = 0x81;
    reply[3] = 0x80 | code;
    reply[4..12].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    reply
}

fn question_end(question: &[u8]) -> usize {
    let mut at = 12;
    while question[at] != 0 {
        at += 1 + usize::from(question[at]);
    }
    at + 5
}

/// Name and type of a question as text.
fn title(question: &[u8]) -> String {
    let end = question_end(question);
    let mut text = String::new();
    let mut at = 12;
    while question[at] != 0 {
        let next = at + 1 + usize::from(question[at]);
        text.push_str(&String::from_utf8_lossy(&question[at + 1..next]));
        text.push('.');
        at = next;
    }
    format!("{text} {}", u16::from_be_bytes([question[end - 4], question[end - 3]]))
}

//! Servers that do what a script says, over UDP and TCP, until they are dropped.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{reply_with, task};

/// Time between two looks whether a server is to end.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a server does with a question: it sends these messages.
pub type Script = Box<dyn FnMut(&[u8]) -> Vec<Vec<u8>> + Send>;

/// A server, which ends when it is dropped.
pub struct Server {
    pub address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The right answer to the task of [`super::Setup`], with the id of a question.
pub fn right(question: &[u8]) -> Vec<u8> {
    let mut reply = reply_with(&task("web.shop", "A"), 0, &["web.shop A 10.0.0.1"]);
    reply[..2].copy_from_slice(&question[..2]);
    reply
}

/// An address on which nobody listens: each process and each test has hosts of its own.
pub fn nobody(test: u8) -> SocketAddr {
    let [.., high, low] = std::process::id().to_be_bytes();
    (Ipv4Addr::new(127, test, high, low), 5386).into()
}

impl Server {
    fn new(address: SocketAddr, serve: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || serve(&is_over))
        };
        Self { address, is_over, thread: Some(thread) }
    }

    /// Over UDP, on a port of its own.
    pub fn udp(script: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        Self::udp_on((Ipv4Addr::LOCALHOST, 0).into(), script)
    }

    /// Over UDP.
    pub fn udp_on(
        address: SocketAddr,
        mut script: impl FnMut(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(LOOK_EVERY)).unwrap();
        Self::new(socket.local_addr().unwrap(), move |is_over| {
            let mut room = [0; 4096];
            while !is_over.load(Ordering::Relaxed) {
                let Ok((len, client)) = socket.recv_from(&mut room) else { continue };
                for message in script(&room[..len]) {
                    // A client that has ended refuses; that is its right.
                    let _ = socket.send_to(&message, client);
                }
            }
        })
    }

    /// Over TCP: each connection has a script of its own. A message without octets cuts it.
    pub fn tcp_on(address: SocketAddr, script: impl Fn() -> Script + Send + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self::new(listener.local_addr().unwrap(), move |is_over| {
            std::thread::scope(|scope| {
                while !is_over.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((stream, _)) => {
                            let script = script();
                            scope.spawn(move || serve(stream, script, is_over));
                        }
                        Err(_) => std::thread::sleep(LOOK_EVERY / 10),
                    }
                }
            });
        })
    }

    /// Over TCP, on a port of its own.
    pub fn tcp(script: impl Fn() -> Script + Send + 'static) -> Self {
        Self::tcp_on((Ipv4Addr::LOCALHOST, 0).into(), script)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

/// Serves one connection until it ends.
fn serve(mut stream: TcpStream, mut script: Script, is_over: &AtomicBool) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(LOOK_EVERY)).unwrap();
    let (mut input, mut room) = (Vec::new(), [0; 4096]);
    while !is_over.load(Ordering::Relaxed) {
        match stream.read(&mut room) {
            Ok(0) => return,
            Ok(len) => input.extend_from_slice(&room[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
        while let Some(question) = take_frame(&mut input) {
            for message in script(&question) {
                let mut frame = (message.len() as u16).to_be_bytes().to_vec();
                frame.extend(&message);
                if message.is_empty() || stream.write_all(&frame).is_err() {
                    let _ = stream.shutdown(Shutdown::Both);
                    return;
                }
            }
        }
    }
}

fn take_frame(input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let len = usize::from(u16::from_be_bytes(*input.first_chunk()?));
    let frame = input.get(2..2 + len)?.to_vec();
    input.drain(..2 + len);
    Some(frame)
}

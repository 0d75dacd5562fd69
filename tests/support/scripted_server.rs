//! Servers on loopback that do what a test says, and a clock that lets sockets keep up.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::{Failure, Found, Records, ResolvConf};
use crate::wire::{HEADER_LEN, Name, Rcode, RecordType, walk};

#[path = "closed.rs"]
#[allow(clippy::duplicate_mod)] // Unit tests have it for upstreams and for resolvers.
mod closed;

pub use closed::Closed;

/// TTL of all records.
pub const TTL_S: u32 = 30;

/// One question as the server saw it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// From where.
    pub from: SocketAddr,
    /// Over a connection.
    pub is_tcp: bool,
    /// The whole request.
    pub packet: Vec<u8>,
    /// The name.
    pub name: String,
    /// The type.
    pub rtype: RecordType,
    /// When, on the clock of the test.
    pub at: Instant,
}

/// What to do about it, in order.
#[derive(Clone, Debug)]
pub enum Act {
    /// Send this.
    Send(Vec<u8>),
    /// Send this later. Over UDP only.
    After(Duration, Vec<u8>),
    /// Close the connection.
    Cut,
}

/// A server that listens on UDP and TCP.
pub struct Server {
    /// Where.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    task: JoinHandle<()>,
}

type Script = Arc<Mutex<dyn FnMut(&Asked) -> Vec<Act> + Send>>;

impl Server {
    /// A server that asks `script` what to do about each request. No requests that cannot be read.
    pub fn start(script: impl FnMut(&Asked) -> Vec<Act> + Send + 'static) -> Self {
        let (udp, tcp) = sockets();
        let address = udp.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let desk = Desk { asked: Arc::clone(&asked), script: Arc::new(Mutex::new(script)) };
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let udp = Arc::new(udp);
            let mut packet = Vec::with_capacity(4096);
            loop {
                packet.clear();
                tokio::select! {
                    received = udp.recv_buf_from(&mut packet) => {
                        if let Ok((_, from)) = received {
                            desk.answer_udp(&udp, from, &packet, &mut connections).await;
                        }
                    }
                    accepted = tcp.accept() => {
                        let (stream, from) = accepted.unwrap();
                        connections.spawn(desk.clone().serve_tcp(stream, from));
                    }
                }
            }
        });
        Self { address, asked, task }
    }

    /// A server that answers with one code and these records, the addresses by their family.
    pub fn fixed(code: Rcode, records: &'static [&'static str]) -> Self {
        Self::start(move |asked| vec![Act::Send(reply(&asked.packet, code, records))])
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    /// The same as text: `web.shop. A`, and `tcp web.shop. A` over a connection.
    pub fn log(&self) -> Vec<String> {
        let line = |asked: &Asked| {
            let how = if asked.is_tcp { "tcp " } else { "" };
            format!("{how}{} {}", asked.name, asked.rtype)
        };
        self.asked.lock().iter().map(line).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A UDP socket and a listener on the same port.
fn sockets() -> (UdpSocket, TcpListener) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    for _ in 0..100 {
        let udp = std::net::UdpSocket::bind(any).unwrap();
        if let Ok(tcp) = std::net::TcpListener::bind(udp.local_addr().unwrap()) {
            udp.set_nonblocking(true).unwrap();
            tcp.set_nonblocking(true).unwrap();
            return (UdpSocket::from_std(udp).unwrap(), TcpListener::from_std(tcp).unwrap());
        }
    }
    panic!("no port is free for both UDP and TCP");
}

/// Where requests are written down and answers come from.
#[derive(Clone)]
struct Desk {
    asked: Arc<Mutex<Vec<Asked>>>,
    script: Script,
}

impl Desk {
    /// What to do about a request.
    fn acts(&self, from: SocketAddr, is_tcp: bool, packet: &[u8]) -> Vec<Act> {
        let Some(name) = walk::read_name(packet, HEADER_LEN) else { return Vec::new() };
        let type_at = HEADER_LEN + name.octets().len();
        let rtype = RecordType(u16::from_be_bytes([packet[type_at], packet[type_at + 1]]));
        let name = name.to_string();
        let packet = packet.to_vec();
        let asked = Asked { from, is_tcp, packet, name, rtype, at: Instant::now() };
        self.asked.lock().push(asked.clone());
        (self.script.lock())(&asked)
    }

    async fn answer_udp(
        &self,
        udp: &Arc<UdpSocket>,
        from: SocketAddr,
        packet: &[u8],
        later: &mut JoinSet<()>,
    ) {
        for act in self.acts(from, false, packet) {
            match act {
                Act::Send(message) => drop(udp.send_to(&message, from).await),
                Act::After(delay, message) => {
                    let udp = Arc::clone(udp);
                    later.spawn(async move {
                        tokio::time::sleep(delay).await;
                        drop(udp.send_to(&message, from).await);
                    });
                }
                Act::Cut => {}
            }
        }
    }

    async fn serve_tcp(self, mut stream: TcpStream, from: SocketAddr) {
        while let Ok(length) = stream.read_u16().await {
            let mut packet = vec![0; usize::from(length)];
            if stream.read_exact(&mut packet).await.is_err() {
                return;
            }
            for act in self.acts(from, true, &packet) {
                let Act::Send(message) = act else { return };
                let framed = [&(message.len() as u16).to_be_bytes(), &message[..]].concat();
                if stream.write_all(&framed).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The resolv.conf of a Pod with these servers.
pub fn conf(servers: &[SocketAddr]) -> ResolvConf {
    ResolvConf::of_pod("shop", "cluster.local", servers.to_vec()).unwrap()
}

/// The addresses that were found, as text; the failure otherwise.
pub fn addresses(found: &Found) -> Result<Vec<String>, Failure> {
    let texts = |set: &BTreeSet<IpAddr>| set.iter().map(ToString::to_string).collect();
    found.result.clone().map(|records| match records {
        Records::Addresses(set) => texts(&set),
        Records::Names(set) => set.iter().map(ToString::to_string).collect(),
    })
}

/// A reply to a request: with this code and these records, where they are of the type asked for:
/// addresses by their family, names as PTR, SRV or CNAME.
pub fn reply(request: &[u8], code: Rcode, records: &[&str]) -> Vec<u8> {
    let name = walk::read_name(request, HEADER_LEN).unwrap();
    let question_end = HEADER_LEN + name.octets().len() + 4;
    let rtype =
        RecordType(u16::from_be_bytes([request[question_end - 4], request[question_end - 3]]));
    let rdata: Vec<Vec<u8>> = records.iter().filter_map(|text| rdata(text, rtype)).collect();
    let mut message = request[..question_end].to_vec();
    message[2] = 0x85;
    message[3] = 0x80 | code.0 as u8;
    message[4..HEADER_LEN].copy_from_slice(&[0, 1, 0, rdata.len() as u8, 0, 0, 0, 0]);
    for rdata in rdata {
        message.extend_from_slice(&[0xC0, HEADER_LEN as u8]);
        message.extend_from_slice(&rtype.0.to_be_bytes());
        message.extend_from_slice(&[0, 1]);
        message.extend_from_slice(&TTL_S.to_be_bytes());
        message.extend_from_slice(&(rdata.len() as u16).to_be_bytes());
        message.extend_from_slice(&rdata);
    }
    message
}

/// The same, cut: with TC and without records.
pub fn truncated(request: &[u8]) -> Vec<u8> {
    let mut message = reply(request, Rcode::NOERROR, &[]);
    message[2] |= 0x02;
    message
}

/// RDATA of a type, if `text` is for it.
fn rdata(text: &str, rtype: RecordType) -> Option<Vec<u8>> {
    match rtype {
        RecordType::A => Some(text.parse::<Ipv4Addr>().ok()?.octets().to_vec()),
        RecordType::AAAA => Some(text.parse::<std::net::Ipv6Addr>().ok()?.octets().to_vec()),
        RecordType::SRV => {
            Some([&[0, 0, 0, 100, 0, 80], Name::parse(text).ok()?.octets()].concat())
        }
        _ => Some(Name::parse(text).ok()?.octets().to_vec()),
    }
}

/// Lets a paused clock run, fast: tokio's own advance jumps to the next time-out although a packet
/// is on its way to a socket. Between two steps all sockets are served.
pub struct Flow(JoinHandle<()>);

impl Flow {
    /// From here on until it is dropped. The clock must be paused.
    pub fn start() -> Self {
        /// Looks at the sockets in one step: a question, its answer, and what follows from it.
        const LOOKS: usize = 12;
        Self(tokio::spawn(async {
            loop {
                for _ in 0..LOOKS {
                    tokio::task::yield_now().await;
                }
                tokio::time::advance(Duration::from_millis(5)).await;
            }
        }))
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.0.abort();
    }
}

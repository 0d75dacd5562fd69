//! The servers for names outside of the cluster: every name below `example.org` has an address;
//! nothing else exists. On request half of the replies are late.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Runtime;

/// How late a late reply is.
const LATE: Duration = Duration::from_secs(3);
/// TTL of all records: short, so that caches ask again while a run lasts.
const TTL: [u8; 4] = [0, 0, 0, 5];
/// The domain that has names, as octets of a question.
const DOMAIN: &[u8] = b"\x07example\x03org\x00";
/// Octets of a header.
const HEADER: usize = 12;

/// The running servers. Dropping it ends them.
pub struct Upstreams {
    is_slow: Arc<AtomicBool>,
    _runtime: Runtime,
}

impl Upstreams {
    /// Starts a server on each of the addresses.
    pub fn start(addresses: &[Ipv4Addr]) -> Self {
        let runtime = Runtime::new().unwrap();
        let is_slow = Arc::new(AtomicBool::new(false));
        for &address in addresses {
            let address = SocketAddr::from((address, 53));
            let socket = runtime.block_on(UdpSocket::bind(address)).unwrap();
            let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
            runtime.spawn(serve_udp(Arc::new(socket), Arc::clone(&is_slow)));
            runtime.spawn(serve_tcp(listener, Arc::clone(&is_slow)));
        }
        Self { is_slow, _runtime: runtime }
    }

    /// From here on half of the replies are late, or none.
    pub fn be_slow(&self, is_slow: bool) {
        self.is_slow.store(is_slow, Ordering::Relaxed);
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, is_slow: Arc<AtomicBool>) {
    let mut packet = [0; 2048];
    loop {
        // ICMP errors of servers that went away come out here too.
        let Ok((len, peer)) = socket.recv_from(&mut packet).await else { continue };
        let Some(reply) = reply(&packet[..len]) else { continue };
        let (socket, is_slow) = (Arc::clone(&socket), Arc::clone(&is_slow));
        tokio::spawn(async move {
            delay(&is_slow).await;
            // Who went away needs no reply.
            drop(socket.send_to(&reply, peer).await);
        });
    }
}

async fn serve_tcp(listener: TcpListener, is_slow: Arc<AtomicBool>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(serve_connection(stream, Arc::clone(&is_slow)));
    }
}

async fn serve_connection(mut stream: TcpStream, is_slow: Arc<AtomicBool>) -> Option<()> {
    loop {
        let mut packet = vec![0; usize::from(stream.read_u16().await.ok()?)];
        stream.read_exact(&mut packet).await.ok()?;
        let reply = reply(&packet)?;
        delay(&is_slow).await;
        stream.write_u16(u16::try_from(reply.len()).ok()?).await.ok()?;
        stream.write_all(&reply).await.ok()?;
    }
}

async fn delay(is_slow: &AtomicBool) {
    if is_slow.load(Ordering::Relaxed) && rand::random() {
        tokio::time::sleep(LATE).await;
    }
}

/// The reply to a question: an address for A and AAAA below the domain, nothing for other types
/// there, and no such name elsewhere.
fn reply(packet: &[u8]) -> Option<Vec<u8>> {
    let mut end = HEADER;
    while *packet.get(end)? != 0 {
        end += usize::from(packet[end]) + 1;
    }
    let (name, kind) = (packet.get(HEADER..=end)?, *packet.get(end + 2)?);
    let is_known = name.to_ascii_lowercase().ends_with(DOMAIN);
    let address: &[u8] = match kind {
        1 if is_known => &[198, 51, 100, 7],
        28 if is_known => &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7],
        _ => &[],
    };
    let mut reply = packet.get(..end + 5)?.to_vec();
    let answers = u8::from(!address.is_empty());
    // QR and RD; RA and the code.
    reply[2..4].copy_from_slice(&[0x81, if is_known { 0x80 } else { 0x83 }]);
    reply[4..HEADER].copy_from_slice(&[0, 1, 0, answers, 0, 0, 0, 0]);
    if answers > 0 {
        reply.extend([0xc0, HEADER as u8, 0, kind, 0, 1]);
        reply.extend(TTL);
        reply.extend([0, address.len() as u8]);
        reply.extend(address);
    }
    Some(reply)
}

//! The rest of the Internet: answers every A question with one address, for as long as anybody
//! may keep it.

use std::net::{SocketAddr, UdpSocket};
use std::thread;

use crate::questions::foreign;
use crate::support::packets::A;

/// One day, in seconds.
const TTL_S: u32 = 86_400;

/// Answers on a free port of loopback until the program ends.
///
/// # Errors
/// Those of the socket.
pub fn start() -> std::io::Result<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    thread::spawn(move || {
        let mut packet = [0; 4096];
        while let Ok((len, peer)) = socket.recv_from(&mut packet) {
            if let Some(reply) = answer(&packet[..len]) {
                // Who asked has gone: nobody is to be told.
                let _ = socket.send_to(&reply, peer);
            }
        }
    });
    Ok(address)
}

/// The reply, without OPT.
fn answer(packet: &[u8]) -> Option<Vec<u8>> {
    let name_len = packet.get(12..)?.iter().position(|octet| *octet == 0)? + 1;
    let mut reply = packet.get(..12 + name_len + 4)?.to_vec();
    let is_a = reply[12 + name_len..][..2] == A.to_be_bytes();
    // QR and RA.
    reply[2] |= 0x80;
    reply[3] = 0x80;
    reply[4..12].copy_from_slice(&[0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    if is_a {
        // RFC 1035 §4.1.4: the name is that of the question, at octet 12.
        reply.extend_from_slice(&[0xC0, 12, 0, 1, 0, 1]);
        reply.extend_from_slice(&TTL_S.to_be_bytes());
        reply.extend_from_slice(&[0, 4]);
        reply.extend_from_slice(&foreign().octets());
    }
    Some(reply)
}

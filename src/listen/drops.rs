//! Counts what workers never saw or did not look at: packets without room in a socket's buffer,
//! and packets that were thrown away under overload.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::batch;

/// Packets that the kernel dropped because a socket's buffer was full.
#[derive(Default)]
pub struct ReceiveDrops(Mutex<Watched>);

#[derive(Default)]
struct Watched {
    total: u64,
    /// The open sockets, and what each told last. As many as there are workers.
    sockets: Vec<(Weak<UdpSocket>, u32)>,
}

impl ReceiveDrops {
    /// Counts those of a socket too, from when it was opened, as long as it is open.
    pub fn watch(&self, socket: &Arc<UdpSocket>) {
        let mut watched = self.0.lock();
        watched.sockets.retain(|(socket, _)| socket.strong_count() > 0);
        watched.sockets.push((Arc::downgrade(socket), 0));
    }

    /// Asks the kernel, and tells how many there were so far.
    pub fn total(&self) -> u64 {
        let mut watched = self.0.lock();
        let mut new = 0;
        for (socket, seen) in &mut watched.sockets {
            let Some(drops) = socket.upgrade().and_then(|it| batch::drops(&it).ok()) else {
                continue;
            };
            // The kernel's number wraps around.
            new += u64::from(drops.wrapping_sub(*seen));
            *seen = drops;
        }
        watched.total += new;
        watched.total
    }
}

/// Packets thrown away under overload, by listen port.
#[derive(Default)]
pub struct Shed(Mutex<BTreeMap<u16, Arc<AtomicU64>>>);

impl Shed {
    /// The counter of a port.
    pub fn of(&self, port: u16) -> Arc<AtomicU64> {
        self.0.lock().entry(port).or_default().clone()
    }

    /// All counts so far.
    pub fn totals(&self) -> Vec<(u16, u64)> {
        let all = self.0.lock();
        all.iter().map(|(port, count)| (*port, count.load(Ordering::Relaxed))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p18_packets_without_room_are_counted_once() {
        let socket = socket2::Socket::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        socket.set_recv_buffer_size(4096).unwrap();
        let socket = Arc::new(UdpSocket::from(socket));
        let drops = ReceiveDrops::default();
        drops.watch(&socket);
        assert_eq!(drops.total(), 0);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..200 {
            client.send_to(&[0; 512], socket.local_addr().unwrap()).unwrap();
        }
        socket.set_nonblocking(true).unwrap();
        let received = std::iter::from_fn(|| socket.recv(&mut [0; 512]).ok()).count() as u64;
        assert!(received < 200);
        assert_eq!(drops.total(), 200 - received);
        assert_eq!(drops.total(), 200 - received);
        drop(socket);
        assert_eq!(drops.total(), 200 - received, "a counter does not go back");
    }
}

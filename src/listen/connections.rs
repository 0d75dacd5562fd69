//! The places of TCP connections: how many there are, of whom, and which one gives way.
//!
//! When all are taken, the connection that has done nothing for longest makes room for a new one:
//! refusing the newest would let silent connections keep everybody else out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Connections at once, over all clients and listeners (RFC 9210 §4.2 leaves the number to us).
pub const CONNECTIONS_MAX: usize = 4096;
/// Connections at once of one client address. Loose, because a whole node may stand behind one.
pub const PER_CLIENT_MAX: usize = 64;
/// A connection that has done nothing for less time than this keeps its place: its first message
/// may be under way.
pub const IDLE_MIN: Duration = Duration::from_millis(200);

/// In place of an instant: something is under way.
const BUSY: u64 = u64::MAX;

/// The places of all connections.
pub struct Connections {
    max: usize,
    /// Instants are kept as milliseconds since this one.
    born: Instant,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    number: u64,
    seats: HashMap<u64, Arc<Seat>>,
    by_client: HashMap<IpAddr, usize>,
}

/// What is known of one connection.
struct Seat {
    client: IpAddr,
    idle_since_ms: AtomicU64,
    gives_way: Notify,
}

/// The place of one connection, given back when it is dropped.
pub struct Place {
    connections: Arc<Connections>,
    number: u64,
    seat: Arc<Seat>,
}

/// Why there is no place.
#[derive(PartialEq, Eq, Debug)]
pub enum Full {
    /// This client has its share.
    Client,
    All,
}

impl Connections {
    /// So many places.
    pub fn new(max: usize) -> Self {
        Self { max, born: Instant::now(), open: Mutex::default() }
    }

    /// Takes a place for a connection of this client.
    ///
    /// # Errors
    /// [`Full`] tells whose places are taken.
    pub fn take(self: &Arc<Self>, client: IpAddr, now: Instant) -> Result<Place, Full> {
        let mut open = self.open.lock();
        let own = open.by_client.get(&client).copied().unwrap_or(0);
        if own >= PER_CLIENT_MAX {
            return Err(Full::Client);
        }
        if open.seats.len() >= self.max {
            return Err(Full::All);
        }
        open.number += 1;
        let number = open.number;
        let idle_since_ms = AtomicU64::new(self.ms(now));
        let seat = Arc::new(Seat { client, idle_since_ms, gives_way: Notify::new() });
        open.seats.insert(number, seat.clone());
        open.by_client.insert(client, own + 1);
        Ok(Place { connections: self.clone(), number, seat })
    }

    /// Takes the place of the connection that has done nothing for longest, and has it end. `false`
    /// when every one does something, or did a moment ago.
    pub fn make_room(&self, now: Instant) -> bool {
        let mut open = self.open.lock();
        let now_ms = self.ms(now);
        let is_long =
            |since_ms: u64| since_ms.saturating_add(IDLE_MIN.as_millis() as u64) <= now_ms;
        let since = |seat: &Arc<Seat>| seat.idle_since_ms.load(Ordering::Relaxed);
        let oldest = open.seats.iter().min_by_key(|(_, seat)| since(seat));
        let Some(number) = oldest.filter(|(_, seat)| is_long(since(seat))).map(|(n, _)| *n) else {
            return false;
        };
        if let Some(seat) = open.leave(number) {
            seat.gives_way.notify_one();
        }
        true
    }

    fn ms(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.born).as_millis() as u64
    }
}

impl Open {
    /// Gives a place back, if that has not been done.
    fn leave(&mut self, number: u64) -> Option<Arc<Seat>> {
        let seat = self.seats.remove(&number)?;
        match self.by_client.get_mut(&seat.client) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(self.by_client.remove(&seat.client)),
        }
        Some(seat)
    }
}

impl Place {
    /// Nothing has been under way since `since`.
    pub fn rests_since(&self, since: Instant) {
        self.seat.idle_since_ms.store(self.connections.ms(since), Ordering::Relaxed);
    }

    /// Something is under way.
    pub fn works(&self) {
        self.seat.idle_since_ms.store(BUSY, Ordering::Relaxed);
    }

    /// Waits until this connection has to make room.
    pub async fn gives_way(&self) {
        self.seat.gives_way.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(self.connections.open.lock().leave(self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[tokio::test(start_paused = true)]
    async fn one_client_cannot_take_all_places() {
        let (connections, now) = (Arc::new(Connections::new(CONNECTIONS_MAX)), Instant::now());
        let take = |last| connections.take(client(last), now);
        let mut taken: Vec<_> = (0..PER_CLIENT_MAX).map(|_| take(1).ok().unwrap()).collect();
        assert_eq!(take(1).err(), Some(Full::Client));
        assert!(take(2).is_ok());
        taken.pop();
        assert!(take(1).is_ok());
        taken.clear();
        assert!(connections.open.lock().by_client.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn p13_the_connection_that_is_idle_for_longest_makes_room() {
        let (connections, start) = (Arc::new(Connections::new(3)), Instant::now());
        let places: Vec<_> = (0..3).map(|n| connections.take(client(n), start).ok()).collect();
        let [Some(busy), Some(long), Some(short)] = &places[..] else { panic!("no places") };
        busy.works();
        short.rests_since(start + IDLE_MIN);
        assert_eq!(connections.take(client(9), start).err(), Some(Full::All));
        assert!(!connections.make_room(start + IDLE_MIN / 2), "all did something a moment ago");
        assert!(connections.make_room(start + IDLE_MIN));
        long.gives_way().await;
        let _new = connections.take(client(9), start + IDLE_MIN).ok().unwrap();
        assert!(!connections.make_room(start + IDLE_MIN));
        assert_eq!(connections.open.lock().seats.len(), 3);
        drop(places);
        assert_eq!(connections.open.lock().seats.len(), 1, "a place is given back once");
    }
}

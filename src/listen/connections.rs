//! The places of TCP connections: how many there are, of whom, and which one gives way.
//!
//! When all are taken, the client with the most connections makes room for a new one, with the one
//! that has done nothing for longest: refusing the newest would let silent connections keep
//! everybody else out.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::errands::key;

/// Connections at once, over all clients and listeners (RFC 9210 §4.2 leaves the number to us).
pub const CONNECTIONS_MAX: usize = 4096;
/// Connections at once of one client (of IPv6, one /64). Loose, because a whole node may stand
/// behind one.
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
    by_client: HashMap<u128, usize>,
}

/// What is known of one connection.
struct Seat {
    client: u128,
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
        let client = key(client);
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

    /// Takes the place of a connection that has long done nothing, and has it end: of the client
    /// that has the most, the one that is idle for longest. `false` when every one does something,
    /// or did a moment ago.
    pub fn make_room(&self, now: Instant) -> bool {
        let mut open = self.open.lock();
        let now_ms = self.ms(now);
        let is_long = |since_ms: u64| {
            since_ms != BUSY && since_ms.saturating_add(IDLE_MIN.as_millis() as u64) <= now_ms
        };
        let since = |seat: &Arc<Seat>| seat.idle_since_ms.load(Ordering::Relaxed);
        let idle = open.seats.iter().filter(|(_, seat)| is_long(since(seat)));
        let own = |seat: &Seat| open.by_client.get(&seat.client).copied().unwrap_or(0);
        let least = idle.min_by_key(|(_, seat)| (Reverse(own(seat)), since(seat)));
        let Some(number) = least.map(|(number, _)| *number) else { return false };
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
    async fn p13_who_has_most_connections_makes_room_first() {
        let (connections, start) = (Arc::new(Connections::new(4)), Instant::now());
        let take = |last, at| connections.take(client(last), at).ok().unwrap();
        let lonely = take(1, start);
        let crowd: Vec<_> = (1..=3).map(|n| take(2, start + IDLE_MIN * n)).collect();
        assert!(connections.make_room(start + IDLE_MIN * 9));
        crowd[0].gives_way().await;
        let left = connections.open.lock().by_client.clone();
        assert_eq!((left[&key(client(1))], left[&key(client(2))]), (1, 2));
        drop(lonely);
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_of_64_bits_is_one_client_of_ipv6() {
        let (connections, now) = (Arc::new(Connections::new(CONNECTIONS_MAX)), Instant::now());
        let take = |host: u128| {
            let address = std::net::Ipv6Addr::from_bits((0xfd00 << 112) + host);
            connections.take(address.into(), now)
        };
        let _taken: Vec<_> = (0..PER_CLIENT_MAX as u128).map(|n| take(n).ok().unwrap()).collect();
        assert_eq!(take(PER_CLIENT_MAX as u128).err(), Some(Full::Client));
        assert!(take(1 << 64).is_ok());
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

//! Carries packets that have to wait from the workers to the runtime, and their replies back.
//!
//! Two lanes, each bounded: names of the cluster keep places of their own, so that slow upstreams
//! cannot starve them, and no client can take all places of the others. A packet without a place is
//! dropped and counted; its client asks again, which is kinder than a quick failure that Java keeps
//! for ten seconds.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Places;
use super::journal::Slot;
use crate::resolve::later::{Done, Errand};
use crate::resolve::now::Lane;

/// Errands that may wait for upstreams at once.
pub const UPSTREAM_MAX: usize = 8192;
/// Errands that may wait for the cluster at once.
pub const CLUSTER_MAX: usize = 4096;
/// One client (of IPv6, one /64) may have one of so many places of a lane. Loose, because a
/// whole node may stand behind one address: 1024 of 8192 are 2 000 misses/s at half a second each.
const CLIENT_SHARE: usize = 8;
/// Fewest places of a client, however few there are.
const PER_CLIENT_MIN: usize = 64;
/// While memory is short, one of so many places for upstreams is given away.
const SHORT_SHARE: usize = 4;

/// How often the end looks whether all errands have ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// The places for errands.
pub struct Errands {
    runtime: Handle,
    places: Places,
    upstream: Arc<Semaphore>,
    cluster: Arc<Semaphore>,
    /// Who has them, by lane: an ExternalName keeps its place of the cluster while upstreams are
    /// asked for its target.
    of_upstream: Arc<Clients>,
    of_cluster: Arc<Clients>,
    is_memory_short: AtomicBool,
    /// Packets dropped because their lane was full.
    pub refused: AtomicU64,
    /// Packets dropped because their client had too many others.
    pub refused_by_client: AtomicU64,
}

/// How many places of a lane each client has taken.
#[derive(Default)]
struct Clients(Mutex<HashMap<u128, usize>>);

/// A place in a lane, given back when it is dropped.
pub struct Place {
    _lane: OwnedSemaphorePermit,
    _of_client: Option<OfClient>,
    /// Where its errand is written, for the next server.
    pub slot: Option<Slot>,
}

/// An errand that panics has ended: it is not to be asked again, nor counted as one that the server
/// died with.
impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(slot) = self.slot.take()
        {
            slot.end();
        }
    }
}

/// One of the places of a client.
struct OfClient {
    clients: Arc<Clients>,
    client: u128,
}

impl Clients {
    /// Takes a place of a client, of which there are `max`.
    fn take(self: &Arc<Self>, client: IpAddr, max: usize) -> Option<OfClient> {
        let client = key(client);
        let mut taken = self.0.lock();
        let own = taken.entry(client).or_default();
        // An entry that was just made has a place, because `max` is at least one.
        if *own >= max {
            return None;
        }
        *own += 1;
        Some(OfClient { clients: self.clone(), client })
    }
}

impl Drop for OfClient {
    fn drop(&mut self) {
        let mut taken = self.clients.0.lock();
        match taken.get_mut(&self.client) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(taken.remove(&self.client)),
        }
    }
}

/// Who counts as one client: an address, and of IPv6 all of one /64, which one host may have.
pub(super) fn key(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
    }
}

impl Errands {
    /// Errands on this runtime.
    pub fn new(runtime: Handle, places: Places) -> Self {
        Self {
            runtime,
            places,
            upstream: Arc::new(Semaphore::new(places.upstream)),
            cluster: Arc::new(Semaphore::new(places.cluster)),
            of_upstream: Arc::default(),
            of_cluster: Arc::default(),
            is_memory_short: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            refused_by_client: AtomicU64::new(0),
        }
    }

    /// Says whether memory is short. Then only few wait for upstreams; the cluster's lane is as
    /// before.
    pub fn set_memory_short(&self, is_short: bool) {
        self.is_memory_short.store(is_short, Ordering::Relaxed);
    }

    /// Takes a place in a lane for a packet of this client, if there is one.
    pub fn place(&self, lane: Lane, client: IpAddr) -> Option<Place> {
        let (semaphore, kept) = match lane {
            Lane::Upstream => (&self.upstream, self.kept_free()),
            Lane::Cluster => (&self.cluster, 0),
        };
        let has_room = semaphore.available_permits() > kept;
        let taken = has_room.then(|| semaphore.clone().try_acquire_owned().ok()).flatten();
        let Some(_lane) = taken else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let (clients, places) = match lane {
            Lane::Upstream => (&self.of_upstream, self.places.upstream),
            Lane::Cluster => (&self.of_cluster, self.places.cluster),
        };
        let _of_client = clients.take(client, (places / CLIENT_SHARE).max(PER_CLIENT_MIN));
        if _of_client.is_none() {
            self.refused_by_client.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Place { _lane, _of_client, slot: None })
    }

    /// Places for upstreams that nobody gets.
    fn kept_free(&self) -> usize {
        let is_short = self.is_memory_short.load(Ordering::Relaxed);
        if is_short { self.places.upstream - self.places.upstream / SHORT_SHARE } else { 0 }
    }

    /// Runs an errand and hands its end to `deliver`. Nothing happens when its lane is full.
    pub fn run(
        &self,
        lane: Lane,
        client: IpAddr,
        errand: impl FnOnce() -> Errand,
        deliver: impl FnOnce(Done) + Send + 'static,
    ) {
        if let Some(place) = self.place(lane, client) {
            self.run_at(place, errand(), deliver);
        }
    }

    /// Runs an errand that has its place, and hands its end to `deliver`.
    pub fn run_at(
        &self,
        mut place: Place,
        errand: Errand,
        deliver: impl FnOnce(Done) + Send + 'static,
    ) {
        // Ends by itself: every wait of an errand has a time-out. `drained` waits for it.
        self.runtime.spawn(async move {
            if let Some(done) = errand.run().await {
                deliver(done);
            }
            if let Some(slot) = place.slot.take() {
                slot.end();
            }
            drop(place);
        });
    }

    /// Errands under way in both lanes.
    pub fn under_way(&self) -> usize {
        let free = self.upstream.available_permits() + self.cluster.available_permits();
        self.places.upstream + self.places.cluster - free
    }

    /// Waits until no errand is under way, at most `patience`. Answers how many are left.
    pub async fn drained(&self, patience: Duration) -> usize {
        let none = async {
            while self.under_way() > 0 {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
        };
        let _ = tokio::time::timeout(patience, none).await;
        self.under_way()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errands(upstream: usize) -> Errands {
        let places = Places { upstream, cluster: 2, ..Places::default() };
        Errands::new(Handle::current(), places)
    }

    fn load(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn one_client_cannot_take_all_places_of_a_lane() {
        for (lane, free) in [(Lane::Upstream, Lane::Cluster), (Lane::Cluster, Lane::Upstream)] {
            let (upstream, cluster) = (PER_CLIENT_MIN * 2, PER_CLIENT_MIN * 2);
            let places = Places { upstream, cluster, ..Places::default() };
            let errands = Errands::new(Handle::current(), places);
            let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
            let place = |client| errands.place(lane, client);
            let mut taken: Vec<_> = (0..PER_CLIENT_MIN).map(|_| place(one).unwrap()).collect();
            assert!(place(one).is_none() && place(other).is_some());
            assert_eq!((load(&errands.refused), load(&errands.refused_by_client)), (0, 1));
            assert!(errands.place(free, one).is_some(), "its own capacity");
            taken.pop();
            assert!(place(one).is_some());
            taken.clear();
            let clients = [&errands.of_upstream, &errands.of_cluster];
            assert!(clients.iter().all(|clients| clients.0.lock().is_empty()));
            assert_eq!(errands.under_way(), 0);
        }
    }

    #[test]
    fn a_network_of_64_bits_is_one_client_of_ipv6() {
        let of = |text: &str| key(text.parse().unwrap());
        assert_eq!(of("fd00::1"), of("fd00::2:0:0:1"));
        assert_ne!(of("fd00:0:0:1::1"), of("fd00::1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"), "as sockets of both families have it");
    }

    #[tokio::test]
    async fn p14_short_memory_leaves_few_places_for_upstreams_and_all_for_the_cluster() {
        let errands = errands(SHORT_SHARE * 4);
        let client = IpAddr::from([10, 0, 0, 1]);
        let place = |lane| errands.place(lane, client);
        errands.set_memory_short(true);
        let foreign: Vec<_> = std::iter::from_fn(|| place(Lane::Upstream)).collect();
        let cluster: Vec<_> = std::iter::from_fn(|| place(Lane::Cluster)).collect();
        assert_eq!((foreign.len(), cluster.len()), (4, 2));
        errands.set_memory_short(false);
        assert!(place(Lane::Upstream).is_some());
    }
}

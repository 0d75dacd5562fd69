//! Which client socket is pinned to which server, as nf_conntrack has it. Reads no clock: time is
//! a parameter.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

/// How long a flow lives after its last packet (`nf_conntrack_udp_timeout`).
pub const UDP_TIMEOUT: Duration = Duration::from_secs(30);
/// The same for one that was answered once and is older than [`STREAM_AFTER`], whether or not it
/// is answered still (`nf_conntrack_udp_timeout_stream`).
pub const UDP_STREAM_TIMEOUT: Duration = Duration::from_secs(120);
/// When a flow that was answered counts as a stream (nf_conntrack_proto_udp.c).
const STREAM_AFTER: Duration = Duration::from_secs(2);
/// Flows at a time (`nf_conntrack_max` of a small node). Beyond, packets of new flows are dropped.
pub const FLOWS_MAX: usize = 65_536;

/// When kube-proxy deletes the flows of a server that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleanup {
    /// So long after its removal: the way of the change to the node, and kube-proxy's own pace.
    After(Duration),
    /// Never, as happens to Services without endpoints (kubernetes/kubernetes#139628).
    Never,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// To this server.
    To(SocketAddr),
    /// There is no server.
    Nowhere,
    /// There is no room for another flow.
    Full,
}

/// The table of flows, and the servers.
pub(super) struct Flows {
    /// Those that new flows go to.
    backends: Vec<SocketAddr>,
    /// Those that were removed and still have flows, with the time of their removal.
    removed: HashMap<SocketAddr, Instant>,
    flows: HashMap<SocketAddr, Flow>,
    cleanup: Cleanup,
    dice: StdRng,
    /// No flow ends before: looking for ended ones is linear work.
    full_until: Option<Instant>,
}

/// One client socket.
struct Flow {
    backend: SocketAddr,
    begun_at: Instant,
    /// Unless there is another packet.
    ends_at: Instant,
    is_replied: bool,
}

impl Flows {
    /// No servers and no flows.
    pub(super) fn new(cleanup: Cleanup, seed: u64) -> Self {
        Self {
            backends: Vec::new(),
            removed: HashMap::new(),
            flows: HashMap::new(),
            cleanup,
            dice: StdRng::seed_from_u64(seed),
            full_until: None,
        }
    }

    /// Adds a server. Flows that it still has from before stay.
    pub(super) fn add(&mut self, backend: SocketAddr, now: Instant) {
        self.clean(now);
        self.removed.remove(&backend);
        if !self.backends.contains(&backend) {
            self.backends.push(backend);
        }
    }

    /// Removes a server.
    pub(super) fn remove(&mut self, backend: SocketAddr, now: Instant) {
        self.clean(now);
        self.backends.retain(|other| *other != backend);
        self.removed.entry(backend).or_insert(now);
    }

    /// Where a packet of a client goes. It refreshes its flow, or begins one.
    pub(super) fn route(&mut self, client: SocketAddr, now: Instant) -> Route {
        if let Some(flow) = self.pinned(client, now) {
            flow.use_at(now);
            return Route::To(flow.backend);
        }
        self.flows.remove(&client);
        let Some(backend) = self.choose() else { return Route::Nowhere };
        if !self.has_room(now) {
            return Route::Full;
        }
        self.flows.insert(client, Flow::new(backend, now));
        Route::To(backend)
    }

    /// Notes that a server answers a client. `false` if the flow is not there any more or is with
    /// another server: then the answer has the address of its server, and no client takes it.
    pub(super) fn answered(&mut self, client: SocketAddr, by: SocketAddr, now: Instant) -> bool {
        let Some(flow) = self.pinned(client, now).filter(|flow| flow.backend == by) else {
            return false;
        };
        flow.use_at(now);
        flow.is_replied = true;
        true
    }

    /// A server by chance.
    pub(super) fn choose(&mut self) -> Option<SocketAddr> {
        match self.backends.len() {
            0 => None,
            count => Some(self.backends[self.dice.random_range(0..count)]),
        }
    }

    /// The living flow of a client.
    fn pinned(&mut self, client: SocketAddr, now: Instant) -> Option<&mut Flow> {
        let backend = self.flows.get(&client).filter(|flow| flow.is_alive(now))?.backend;
        if self.is_cleaned(backend, now) {
            return None;
        }
        self.flows.get_mut(&client)
    }

    /// Whether the flows of a server are deleted.
    fn is_cleaned(&self, backend: SocketAddr, now: Instant) -> bool {
        self.removed.get(&backend).is_some_and(|removed_at| self.cleanup.is_over(*removed_at, now))
    }

    /// Makes room by forgetting flows that have ended.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.flows.len() < FLOWS_MAX {
            return true;
        }
        if self.full_until.is_some_and(|full_until| now < full_until) {
            return false;
        }
        self.clean(now);
        self.full_until = self.flows.values().map(|flow| flow.ends_at).min();
        self.flows.len() < FLOWS_MAX
    }

    /// Forgets flows that have ended, and servers that have none left to lose.
    fn clean(&mut self, now: Instant) {
        let mut flows = std::mem::take(&mut self.flows);
        flows.retain(|_, flow| flow.is_alive(now) && !self.is_cleaned(flow.backend, now));
        self.flows = flows;
        let cleanup = self.cleanup;
        self.removed.retain(|_, removed_at| !cleanup.is_over(*removed_at, now));
    }
}

impl Cleanup {
    /// Whether the flows of a server that was removed then are deleted.
    fn is_over(self, removed_at: Instant, now: Instant) -> bool {
        match self {
            Self::After(lag) => now >= removed_at + lag,
            Self::Never => false,
        }
    }
}

impl Flow {
    /// A flow that a client begins.
    fn new(backend: SocketAddr, now: Instant) -> Self {
        Self { backend, begun_at: now, ends_at: now + UDP_TIMEOUT, is_replied: false }
    }

    /// Lets it live on from a packet.
    fn use_at(&mut self, now: Instant) {
        let is_stream = self.is_replied && now > self.begun_at + STREAM_AFTER;
        self.ends_at = now + if is_stream { UDP_STREAM_TIMEOUT } else { UDP_TIMEOUT };
    }

    fn is_alive(&self, now: Instant) -> bool {
        now < self.ends_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1);
    const B: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 2);

    fn client(number: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, (number >> 16) as u8, 1], (number & 0xFFFF) as u16))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn flows(cleanup: Cleanup, backends: &[SocketAddr], now: Instant) -> Flows {
        let mut flows = Flows::new(cleanup, 1);
        backends.iter().for_each(|backend| flows.add(*backend, now));
        flows
    }

    #[test]
    fn new_flows_are_spread_and_each_stays_where_it_is() {
        let now = Instant::now();
        let mut flows = flows(Cleanup::Never, &[A, B], now);
        let first: Vec<Route> = (0..100).map(|number| flows.route(client(number), now)).collect();
        let again: Vec<Route> = (0..100).map(|number| flows.route(client(number), now)).collect();
        assert_eq!(first, again);
        let to_a = first.iter().filter(|route| **route == Route::To(A)).count();
        assert!((30..70).contains(&to_a), "{to_a}");
    }

    #[test]
    fn a_client_with_one_socket_stays_with_a_server_that_is_gone_as_long_as_it_asks() {
        let start = Instant::now();
        let mut flows = flows(Cleanup::Never, &[A], start);
        assert_eq!(flows.route(client(1), start), Route::To(A));
        flows.remove(A, start);
        flows.add(B, start);
        for second in (5..600).step_by(5) {
            assert_eq!(flows.route(client(1), start + seconds(second)), Route::To(A));
        }
        assert_eq!(flows.route(client(2), start), Route::To(B));
        let later = start + seconds(595) + UDP_TIMEOUT;
        assert_eq!(flows.route(client(1), later), Route::To(B));
    }

    #[test]
    fn flows_of_a_removed_server_end_after_the_lag() {
        let start = Instant::now();
        let mut flows = flows(Cleanup::After(seconds(2)), &[A], start);
        flows.route(client(1), start);
        flows.remove(A, start);
        flows.add(B, start);
        let just_before = start + seconds(2) - Duration::from_millis(1);
        assert_eq!(flows.route(client(1), just_before), Route::To(A));
        assert_eq!(flows.route(client(1), start + seconds(2)), Route::To(B));
    }

    #[test]
    fn without_a_lag_flows_move_at_once() {
        let start = Instant::now();
        let mut flows = flows(Cleanup::After(Duration::ZERO), &[A, B], start);
        for number in 0..50 {
            flows.route(client(number), start);
        }
        flows.remove(A, start);
        assert!((0..50).all(|number| flows.route(client(number), start) == Route::To(B)));
    }

    #[test]
    fn a_server_that_comes_back_in_time_keeps_its_flows_and_later_not() {
        let start = Instant::now();
        let mut flows = flows(Cleanup::After(seconds(8)), &[A], start);
        flows.route(client(1), start);
        flows.remove(A, start);
        flows.add(A, start + seconds(7));
        assert!(flows.flows.contains_key(&client(1)));
        flows.remove(A, start + seconds(7));
        flows.add(A, start + seconds(15));
        assert!(!flows.flows.contains_key(&client(1)));
        assert!(flows.removed.is_empty());
    }

    #[test]
    fn without_servers_new_flows_go_nowhere_and_old_ones_stay() {
        let now = Instant::now();
        let mut flows = flows(Cleanup::Never, &[A], now);
        flows.route(client(1), now);
        flows.remove(A, now);
        assert_eq!(flows.route(client(2), now), Route::Nowhere);
        assert_eq!(flows.route(client(1), now), Route::To(A));
    }

    #[test]
    fn a_flow_that_was_answered_lives_longer_after_two_seconds() {
        let start = Instant::now();
        let mut flows = flows(Cleanup::Never, &[A], start);
        for number in [1, 2, 3] {
            flows.route(client(number), start);
        }
        assert!(flows.answered(client(1), A, start + seconds(1)));
        assert!(flows.answered(client(2), A, start + seconds(1)));
        // The packet makes it a stream; without one it ends as any other.
        flows.route(client(1), start + seconds(20));
        flows.route(client(3), start + seconds(20));
        flows.remove(A, start + seconds(20));
        flows.add(B, start + seconds(20));
        assert_eq!(flows.route(client(2), start + seconds(31)), Route::To(B));
        assert_eq!(flows.route(client(3), start + seconds(50)), Route::To(B), "never answered");
        assert_eq!(flows.route(client(1), start + seconds(139)), Route::To(A));
        assert_eq!(flows.route(client(1), start + seconds(258)), Route::To(A));
        assert_eq!(flows.route(client(1), start + seconds(378)), Route::To(B));
    }

    #[test]
    fn answers_refresh_a_flow_too() {
        let start = Instant::now();
        let mut flows = flows(Cleanup::Never, &[A], start);
        flows.route(client(1), start);
        flows.remove(A, start);
        flows.add(B, start);
        assert!(flows.answered(client(1), A, start + seconds(20)));
        assert_eq!(flows.route(client(1), start + seconds(45)), Route::To(A));
    }

    #[test]
    fn a_server_that_a_flow_has_left_answers_nobody() {
        let start = Instant::now();
        let mut flows = flows(Cleanup::After(Duration::ZERO), &[A], start);
        flows.route(client(1), start);
        flows.add(B, start);
        flows.remove(A, start);
        assert!(!flows.answered(client(1), A, start), "the flow is deleted");
        assert_eq!(flows.route(client(1), start), Route::To(B));
        assert!(!flows.answered(client(1), A, start));
        assert!(flows.answered(client(1), B, start));
        assert!(!flows.answered(client(2), B, start), "there never was a flow");
    }

    #[test]
    fn a_full_table_drops_new_flows_until_old_ones_end() {
        let start = Instant::now();
        let mut flows = flows(Cleanup::Never, &[A], start);
        for number in 0..FLOWS_MAX {
            flows.route(client(number), start);
        }
        assert_eq!(flows.route(client(FLOWS_MAX), start), Route::Full);
        assert_eq!(flows.route(client(FLOWS_MAX), start + seconds(29)), Route::Full);
        assert_eq!(flows.route(client(0), start + seconds(29)), Route::To(A));
        assert_eq!(flows.route(client(FLOWS_MAX), start + seconds(30)), Route::To(A));
        assert_eq!(flows.flows.len(), 2);
    }
}

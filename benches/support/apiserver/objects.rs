//! What does a large cluster look like? Objects as a Kubernetes API server writes them, each one a
//! function of its number, so that every run and every process has the same.
//!
//! The numbers follow the order in which an API server lists: by Namespace, then by name.

use std::net::Ipv4Addr;

use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A cluster, as the few numbers that all of its objects follow from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cluster {
    /// Services, the huge one included and the probes not.
    pub services: usize,
    pub namespaces: usize,
    pub endpoints: Endpoints,
    /// How many of a hundred Services are headless; every other one of these has hostnames.
    pub headless_percent: u64,
    /// Endpoints of one huge headless Service; 0 makes none.
    pub huge_endpoints: usize,
    /// Headless Services of one endpoint each, whose address tells which change it came with.
    pub probes: usize,
    /// Whether objects carry `managedFields`, as they do in every real cluster.
    pub has_managed_fields: bool,
}

/// How many endpoints a Service has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Endpoints {
    /// All the same number, at most [`SLICE_MAX`].
    Each(usize),
    /// 2 to 50, 14.5 on average.
    Mixed,
}

/// How a Service is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    ClusterIp,
    Headless,
    /// Headless, and each endpoint has a name of its own, as in a StatefulSet.
    Stateful,
    Huge,
    Probe,
}

/// An EndpointSlice that can change.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The number of its Service.
    pub service: usize,
    /// Its number among the slices of the Service.
    pub part: usize,
    pub endpoints: Vec<Endpoint>,
    /// When it last changed; none for one that is as it was listed.
    pub changed: Option<Timestamp>,
}

/// One endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    pub address: Ipv4Addr,
    pub is_ready: bool,
}

/// Endpoints per slice, as the controller has it.
pub const SLICE_MAX: usize = 100;
/// Endpoints of ten consecutive Services under [`Endpoints::Mixed`].
const MIX: [usize; 10] = [2, 3, 3, 5, 8, 10, 14, 20, 30, 50];
/// First ClusterIP, endpoint, endpoint of the huge Service, and address of a probe.
const CLUSTER_IP: u32 = 0x0A60_0000;
const ENDPOINT: u32 = 0x0A80_0000;
const HUGE_ENDPOINT: u32 = 0x0AC8_0000;
const PROBE: u32 = 0xAC10_0000;
/// Addresses that probes go through before they repeat.
const PROBE_ADDRESSES: u32 = 1 << 20;
const WORDS: [&str; 8] =
    ["api", "cart", "search", "payments", "session", "inventory-cache", "web", "recommendation"];

impl Cluster {
    /// 10 000 Services in 500 Namespaces with 150 000 endpoints: the large cluster.
    pub fn large() -> Self {
        Self {
            services: 10_000,
            namespaces: 500,
            endpoints: Endpoints::Mixed,
            headless_percent: 10,
            huge_endpoints: 5_000,
            probes: 16,
            has_managed_fields: true,
        }
    }

    /// The same mix with another number of Services, 20 to a Namespace, without a huge one.
    pub fn of(services: usize) -> Self {
        let namespaces = services.div_ceil(20);
        Self { services, namespaces, huge_endpoints: 0, ..Self::large() }
    }

    /// The Services, probes included.
    pub fn all_services(&self) -> usize {
        self.services + self.probes
    }

    /// The number of the huge Service, if there is one.
    pub fn huge(&self) -> Option<usize> {
        (self.huge_endpoints > 0).then_some(self.services / 2)
    }

    pub fn role(&self, n: usize) -> Role {
        let dice = mix(n as u64);
        match n {
            _ if n >= self.services => Role::Probe,
            _ if self.huge() == Some(n) => Role::Huge,
            _ if dice % 100 >= self.headless_percent => Role::ClusterIp,
            _ if dice & 0x1_0000 == 0 => Role::Headless,
            _ => Role::Stateful,
        }
    }

    pub fn namespace(&self, n: usize) -> String {
        let at = n * self.namespaces / self.services;
        format!("team-{:03}", at.min(self.namespaces - 1))
    }

    /// The name of a Service. That of a probe sorts last.
    pub fn name(&self, n: usize) -> String {
        match n.checked_sub(self.services) {
            Some(probe) => format!("zz-probe-{probe:02}"),
            None => format!("svc-{n:06}-{}", WORDS[n % WORDS.len()]),
        }
    }

    /// `name.namespace.svc.cluster.local.`
    pub fn dns_name(&self, n: usize) -> String {
        format!("{}.{}.svc.cluster.local.", self.name(n), self.namespace(n))
    }

    /// The name of an endpoint of a [`Role::Stateful`] Service.
    pub fn hostname(&self, n: usize, endpoint: usize) -> String {
        format!("{}-{endpoint}", self.name(n))
    }

    pub fn cluster_ip(&self, n: usize) -> Ipv4Addr {
        // The first addresses of the network are for the control plane.
        Ipv4Addr::from_bits(CLUSTER_IP + 16 + n as u32)
    }

    /// How many endpoints a Service is listed with.
    pub fn endpoint_count(&self, n: usize) -> usize {
        match (self.role(n), self.endpoints) {
            (Role::Probe, _) => 1,
            (Role::Huge, _) => self.huge_endpoints,
            (_, Endpoints::Each(count)) => count,
            (_, Endpoints::Mixed) => MIX[n % MIX.len()],
        }
    }

    /// The address of an endpoint, listed or added later.
    pub fn endpoint(&self, n: usize, at: usize) -> Ipv4Addr {
        let before = match self.endpoints {
            Endpoints::Each(count) => n * count,
            Endpoints::Mixed => {
                n / MIX.len() * MIX.iter().sum::<usize>()
                    + MIX[..n % MIX.len()].iter().sum::<usize>()
            }
        };
        match self.role(n) {
            Role::Probe => Self::probe_address((n - self.services) as u32),
            Role::Huge => Ipv4Addr::from_bits(HUGE_ENDPOINT + at as u32),
            _ => Ipv4Addr::from_bits(ENDPOINT + (before + at) as u32),
        }
    }

    /// The address that a probe gets with the change of this number.
    pub fn probe_address(change: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(PROBE + change % PROBE_ADDRESSES)
    }

    /// The number of the change that a probe's address came with.
    pub fn probe_number(address: Ipv4Addr) -> u32 {
        address.to_bits().wrapping_sub(PROBE)
    }

    /// All endpoints of the cluster.
    pub fn endpoint_total(&self) -> usize {
        (0..self.all_services()).map(|n| self.endpoint_count(n)).sum()
    }

    /// All slices, as they are listed. Those of the probes are last.
    pub fn slices(&self) -> Vec<Slice> {
        (0..self.all_services()).flat_map(|n| self.slices_of(n)).collect()
    }

    fn slices_of(&self, service: usize) -> impl Iterator<Item = Slice> {
        let count = self.endpoint_count(service);
        (0..count.div_ceil(SLICE_MAX)).map(move |part| {
            let range = part * SLICE_MAX..count.min((part + 1) * SLICE_MAX);
            let endpoint = |at| Endpoint { address: self.endpoint(service, at), is_ready: true };
            Slice { service, part, endpoints: range.map(endpoint).collect(), changed: None }
        })
    }
}

/// Five characters as Kubernetes makes them up for names.
pub fn suffix(number: u64) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut dice = mix(number);
    let mut next = || {
        let letter = ALPHABET[(dice % 27) as usize];
        dice /= 27;
        char::from(letter)
    };
    (0..5).map(|_| next()).collect()
}

/// A UID (RFC 9562 §5.4).
pub fn uid(kind: u64, number: u64) -> String {
    let (high, low) = (mix(kind << 48 | number), mix(kind << 56 ^ number.rotate_left(17)));
    format!(
        "{:08x}-{:04x}-4{:03x}-9{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xFFFF,
        high & 0xFFF,
        low >> 52,
        low & 0xFFFF_FFFF_FFFF
    )
}

/// A number that looks like chance (splitmix64).
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

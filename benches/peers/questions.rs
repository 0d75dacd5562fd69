//! What is asked: five kinds of questions, about the Services of the stand-in API server.

use std::net::Ipv4Addr;

use crate::support::apiserver::objects::{Cluster, Endpoints, Role};
use crate::support::packets::{A, Edns, Expected, NOERROR, NXDOMAIN, PTR, Packets, question};
use crate::support::server::Probe;

/// Ready endpoints of each Service.
pub const ENDPOINTS: usize = 5;

/// A kind of question about a Service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    ClusterIp,
    Headless,
    NxDomain,
    Ptr,
    Foreign,
}

/// So many Services in 500 Namespaces, half of them headless.
pub fn cluster(services: usize) -> Cluster {
    Cluster {
        services,
        namespaces: 500,
        endpoints: Endpoints::Each(ENDPOINTS),
        headless_percent: 50,
        huge_endpoints: 0,
        probes: 1,
        has_managed_fields: false,
    }
}

/// The address of every foreign name.
pub fn foreign() -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 53)
}

impl Kind {
    pub const ALL: [Self; 5] =
        [Self::ClusterIp, Self::Headless, Self::NxDomain, Self::Ptr, Self::Foreign];

    /// For tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::ClusterIp => "ClusterIP A",
            Self::Headless => "headless A, 5 endpoints",
            Self::NxDomain => "search-list NXDOMAIN with SOA",
            Self::Ptr => "PTR",
            Self::Foreign => "cached foreign name",
        }
    }

    /// For `--only`.
    pub fn word(self) -> &'static str {
        match self {
            Self::ClusterIp => "clusterip",
            Self::Headless => "headless",
            Self::NxDomain => "nxdomain",
            Self::Ptr => "ptr",
            Self::Foreign => "foreign",
        }
    }

    /// Questions about `asked` Services of a cluster, evenly spread.
    pub fn packets(self, cluster: &Cluster, asked: usize, edns: Edns) -> Packets {
        let mut packets = Packets::default();
        for n in self.numbers(cluster, asked) {
            packets.ask(&self.name(cluster, n), self.rtype(), edns, self.expected());
        }
        packets
    }

    /// Some questions, and what their replies must hold.
    pub fn samples(self, cluster: &Cluster, asked: usize) -> Vec<Probe> {
        let probe = |n| Probe {
            packet: question(&self.name(cluster, n), self.rtype(), Edns::With),
            expected: self.expected(),
            holds: self.holds(cluster, n),
        };
        let numbers = self.numbers(cluster, asked);
        let step = numbers.len().div_ceil(10);
        numbers.iter().step_by(step).chain(numbers.last()).map(|n| probe(*n)).collect()
    }

    /// The Services that are asked for. A large cluster has a few less than half of each sort.
    pub fn numbers(self, cluster: &Cluster, asked: usize) -> Vec<usize> {
        let is_headless = self == Self::Headless;
        let is_mine = |n: &usize| (cluster.role(*n) == Role::ClusterIp) != is_headless;
        let all: Vec<usize> = (0..cluster.services).filter(is_mine).collect();
        (0..asked).map(|at| all[at * all.len() / asked]).collect()
    }

    /// The name that is asked for, without the last dot.
    pub fn name(self, cluster: &Cluster, n: usize) -> String {
        match self {
            Self::ClusterIp | Self::Headless => cluster.dns_name(n).trim_end_matches('.').into(),
            // What a Pod asks first when its program wants `www-000001.example.org`.
            Self::NxDomain => {
                format!("www-{n:06}.example.org.{}.svc.cluster.local", cluster.namespace(n))
            }
            Self::Ptr => {
                let [a, b, c, d] = cluster.cluster_ip(n).octets();
                format!("{d}.{c}.{b}.{a}.in-addr.arpa")
            }
            Self::Foreign => format!("www-{n:06}.example.org"),
        }
    }

    fn rtype(self) -> u16 {
        if self == Self::Ptr { PTR } else { A }
    }

    fn expected(self) -> Expected {
        match self {
            Self::ClusterIp | Self::Ptr | Self::Foreign => Expected { rcode: NOERROR, answers: 1 },
            Self::Headless => Expected { rcode: NOERROR, answers: ENDPOINTS as u16 },
            Self::NxDomain => Expected { rcode: NXDOMAIN, answers: 0 },
        }
    }

    /// What the reply must hold, each as octets.
    fn holds(self, cluster: &Cluster, n: usize) -> Vec<Vec<u8>> {
        let octets = |address: Ipv4Addr| address.octets().to_vec();
        match self {
            Self::ClusterIp => vec![octets(cluster.cluster_ip(n))],
            Self::Headless => (0..ENDPOINTS).map(|at| octets(cluster.endpoint(n, at))).collect(),
            // A SOA record: its type and class.
            Self::NxDomain => vec![vec![0, 6, 0, 1]],
            Self::Ptr => vec![cluster.name(n).into()],
            Self::Foreign => vec![octets(foreign())],
        }
    }
}

//! The resolvers of applications, as they behave on the wire: glibc, musl, Go, the JVM, Netty and
//! c-ares. `tests/resolvers` holds each to the packets that the real one sends.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::record::PacketCounts;
use crate::wire::{Name, RecordType};

/// Whose behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resolver {
    /// One packet, no resolver: [`super::packets`].
    Packet,
    /// `getaddrinfo` of glibc.
    Glibc,
    /// `getaddrinfo` of musl.
    Musl,
    /// Go's own resolver (`netgo`).
    Go,
    /// `InetAddress`: glibc with caches (30 s, failures 10 s) and a lock per name.
    Jvm,
    /// Netty's `DnsNameResolver`: one UDP socket for ever.
    Netty,
    /// c-ares, as in Node.js and Envoy: one socket per server.
    CAres,
}

impl Resolver {
    /// As written on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::Glibc => "glibc",
            Self::Musl => "musl",
            Self::Go => "go",
            Self::Jvm => "jvm",
            Self::Netty => "netty",
            Self::CAres => "c-ares",
        }
    }
}

/// resolv.conf, or what a Pod would have there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// At most [`SERVERS_MAX`] are used.
    pub servers: Vec<SocketAddr>,
    /// Search domains, in order.
    pub search: Vec<Name>,
    /// Names with fewer dots go through the search list first. Default 1; Kubernetes writes 5.
    pub ndots: u8,
    /// `timeout`, `attempts`: seconds per try and tries per server. Default 5 and 2.
    pub timeout_s: u8,
    /// See `timeout_s`.
    pub attempts: u8,
    /// Another server first each time.
    pub rotate: bool,
    /// A, then AAAA.
    pub single_request: bool,
    /// The same, each with a socket of its own.
    pub single_request_reopen: bool,
    /// TCP always.
    pub use_vc: bool,
    /// Never AAAA (glibc 2.36).
    pub no_aaaa: bool,
}

/// Most servers that resolvers use (glibc's MAXNS).
pub const SERVERS_MAX: usize = 3;

/// An application process with its resolver: its sockets and caches live as long as it does.
pub struct Client {
    resolver: Resolver,
    conf: Arc<ResolvConf>,
}

/// What one lookup came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What the application got.
    pub result: Result<Records, Failure>,
    /// What went over the wire for it.
    pub packets: PacketCounts,
    /// It came from a cache of the client; nothing was asked.
    pub is_cached: bool,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// Addresses of both families.
    Addresses(BTreeSet<IpAddr>),
    /// Names: of a PTR, or targets of SRV.
    Names(BTreeSet<Name>),
}

/// How an application hears that it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// EAI_NONAME, `no such host`, ENOTFOUND: a denial, or no address.
    UnknownHost,
    /// EAI_AGAIN, `i/o timeout`, ETIMEOUT, SERVFAIL. The JVM and Netty throw UnknownHostException
    /// for these too: their clients say [`Failure::UnknownHost`].
    TryAgain,
}

impl Client {
    /// A fresh process.
    pub fn new(resolver: Resolver, conf: Arc<ResolvConf>, _seed: u64) -> Self {
        Self { resolver, conf }
    }

    /// Addresses of a host, both families, as `getaddrinfo(AF_UNSPEC)` or the like does.
    pub async fn addresses(&self, _host: &str) -> Found {
        let _ = (self.resolver, &self.conf);
        Found { result: Err(Failure::TryAgain), packets: PacketCounts::default(), is_cached: false }
    }

    /// Records of another type of an absolute name (PTR, SRV), with the same servers and time-outs.
    pub async fn query(&self, _name: &Name, _rtype: RecordType) -> Found {
        Found { result: Err(Failure::TryAgain), packets: PacketCounts::default(), is_cached: false }
    }
}

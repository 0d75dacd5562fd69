//! The resolvers of applications, as they behave on the wire: glibc, musl, Go, the JVM, Netty and
//! c-ares. `tests/resolvers` holds each to the packets that the real one sends.
//!
//! ```text
//! host ─► search: candidates ─► glibc, musl, …: which server, when, what then ─► Found
//! conf ─► ResolvConf ─┘              │ message: Question, Reply
//!                                    └ exchange: sockets, each packet counted
//! ```

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::record::PacketCounts;
use crate::wire::{Name, RecordType};

pub mod conf;
pub mod search;

pub mod message;

pub mod exchange;
pub mod kept;
pub mod shared;

pub mod glibc;
pub mod musl;

pub mod cares;
pub mod go;
pub mod jvm;
pub mod netty;

#[cfg(test)]
#[path = "../../../tests/support/scripted_server.rs"]
pub mod scripted;

pub use conf::{ResolvConf, SERVERS_MAX};

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

/// An application process with its resolver: its sockets and caches live as long as it does.
pub struct Client(Kind);

/// The resolver of a client with its state. Each has the same three functions.
enum Kind {
    Glibc(glibc::Glibc),
    Musl(musl::Musl),
    Go(go::Go),
    Jvm(jvm::Jvm),
    Netty(netty::Netty),
    CAres(cares::CAres),
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
    /// For how long it had been there. Such an answer was true then, if at all.
    pub age: Duration,
    /// A server denied the name, or that it has such records. Not so for a time-out that the
    /// application hears of in the same way.
    pub is_denied: bool,
    /// The server had more than it could send, and the resolver took what there was.
    pub is_cut: bool,
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
    /// We have no socket or port left: the lookup never began, and nobody else is to blame.
    NoSocket,
}

impl Client {
    /// A fresh process. `Packet` has no resolver; whoever makes a client of it gets glibc's.
    pub fn new(resolver: Resolver, conf: Arc<ResolvConf>, seed: u64) -> Self {
        Self(match resolver {
            Resolver::Packet | Resolver::Glibc => Kind::Glibc(glibc::Glibc::new(conf, seed)),
            Resolver::Musl => Kind::Musl(musl::Musl::new(conf, seed)),
            Resolver::Go => Kind::Go(go::Go::new(conf, seed)),
            Resolver::Jvm => Kind::Jvm(jvm::Jvm::new(conf, seed)),
            Resolver::Netty => Kind::Netty(netty::Netty::new(conf, seed)),
            Resolver::CAres => Kind::CAres(cares::CAres::new(conf, seed)),
        })
    }

    /// A fresh process of Node.js that calls `resolve4` and `resolve6`: c-ares without search list,
    /// EDNS and cache, which takes SERVFAIL for an answer.
    pub fn node(conf: Arc<ResolvConf>, seed: u64) -> Self {
        Self(Kind::CAres(cares::CAres::node(conf, seed)))
    }

    /// Addresses of a host, both families, as `getaddrinfo(AF_UNSPEC)` or the like does.
    pub async fn addresses(&self, host: &str) -> Found {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Found::of(Ok(Records::Addresses([address].into())), PacketCounts::default());
        }
        match &self.0 {
            Kind::Glibc(client) => client.addresses(host).await,
            Kind::Musl(client) => client.addresses(host).await,
            Kind::Go(client) => client.addresses(host).await,
            Kind::Jvm(client) => client.addresses(host).await,
            Kind::Netty(client) => client.addresses(host).await,
            Kind::CAres(client) => client.addresses(host).await,
        }
    }

    /// Records of another type of an absolute name (PTR, SRV), with the same servers and time-outs.
    pub async fn query(&self, name: &Name, rtype: RecordType) -> Found {
        match &self.0 {
            Kind::Glibc(client) => client.query(name, rtype).await,
            Kind::Musl(client) => client.query(name, rtype).await,
            Kind::Go(client) => client.query(name, rtype).await,
            Kind::Jvm(client) => client.query(name, rtype).await,
            Kind::Netty(client) => client.query(name, rtype).await,
            Kind::CAres(client) => client.query(name, rtype).await,
        }
    }
}

impl Found {
    /// What came over the wire, whole.
    pub fn of(result: Result<Records, Failure>, packets: PacketCounts) -> Self {
        let is_denied = result == Err(Failure::UnknownHost);
        Self { result, packets, is_cached: false, age: Duration::ZERO, is_denied, is_cut: false }
    }

    /// The same, no denial where not all that was asked was denied.
    #[must_use]
    pub fn denied_if(self, is_all_denied: bool) -> Self {
        Self { is_denied: self.is_denied && is_all_denied, ..self }
    }
}

impl Records {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Addresses(set) => set.is_empty(),
            Self::Names(set) => set.is_empty(),
        }
    }

    /// What replies to one type hold: addresses for A and AAAA, names for all others.
    pub fn of<'r>(
        replies: impl IntoIterator<Item = &'r message::Reply>,
        rtype: RecordType,
    ) -> Self {
        let replies = replies.into_iter();
        if rtype.is_address() {
            Self::Addresses(replies.flat_map(message::Reply::addresses).collect())
        } else {
            Self::Names(replies.flat_map(|reply| reply.names(rtype)).collect())
        }
    }
}

#[cfg(test)]
mod tests;

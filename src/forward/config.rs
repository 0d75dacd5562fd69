//! What a `forward` directive says.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use super::budget::TIME_MAX;
use crate::wire::{Name, Rcode};

/// Most targets of one directive (as CoreDNS).
pub const TARGETS_MAX: usize = 15;

/// Longest that one try waits, unless the directive says otherwise (as CoreDNS).
pub const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Questions of a hundred that may be hedged, unless the directive says otherwise.
pub const HEDGE_PERCENT: u32 = 10;
/// Response codes that say little about a name and much about who gave them: another upstream is
/// asked before they are answered.
pub const FAILOVER: [Rcode; 4] = [Rcode::SERVFAIL, Rcode::REFUSED, Rcode::FORMERR, Rcode::NOTIMP];

/// One `forward` directive. Equal Configs share their upstreams across a reload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Names at or below are forwarded.
    pub from: Name,
    pub to: Vec<Target>,
    /// Names at or below are not.
    pub except: Vec<Name>,
    pub policy: Policy,
    /// Ask over TCP always.
    pub force_tcp: bool,
    /// Ask over UDP even when the client came over TCP.
    pub prefer_udp: bool,
    /// An idle TCP connection to an upstream is kept this long. Default 10 s.
    pub expire: Duration,
    /// A TCP connection to an upstream is used no longer than this; zero is no limit.
    pub max_age: Duration,
    /// Idle TCP connections kept for each upstream; zero is as many as we keep at most.
    pub max_idle_conns: usize,
    /// Longest that one try waits, whatever the upstream is used to take. Default 2 s.
    pub read_timeout: Duration,
    /// Most tries for one query, below our own bound; zero is that bound.
    pub max_connect_attempts: u32,
    /// Response codes that another upstream is asked after, beside [`FAILOVER`].
    pub failover: Vec<Rcode>,
    /// Fail at once while all upstreams are down, instead of asking any.
    pub fails_fast: bool,
    /// The address that upstreams are asked from, if the host does not choose it.
    pub source_address: Option<IpAddr>,
    /// Questions of a hundred for which a second upstream may be asked before the first has
    /// failed. Default 10.
    pub hedge_percent: u32,
    /// Packets per second to each upstream; zero is no limit, `None` what is known of the address.
    pub packets_per_second: Option<u32>,
    /// Failed probes in a row after which an upstream is down; 0 never takes one down. Default 2.
    pub max_fails: u32,
    /// Queries in flight before more are refused; `None` is no limit of this directive.
    pub max_concurrent: Option<usize>,
    pub health_check: HealthCheck,
}

/// How a failing upstream is probed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthCheck {
    /// Time between probes. Default 0.5 s.
    pub interval: Duration,
    /// Whether probes ask for recursion. Default true.
    pub recursion: bool,
    /// The name that is asked for NS. Default the root.
    pub domain: Name,
}

/// Where to forward to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    Address(SocketAddr),
    /// The nameservers of a file in the syntax of resolv.conf, read again when it changes.
    ResolvConf(PathBuf),
}

/// Which upstream is asked first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub enum Policy {
    #[default]
    Random,
    RoundRobin,
    Sequential,
}

impl Config {
    /// A directive without options.
    pub fn new(from: Name, to: Vec<Target>) -> Self {
        Self {
            from,
            to,
            except: Vec::new(),
            policy: Policy::default(),
            force_tcp: false,
            prefer_udp: false,
            expire: Duration::from_secs(10),
            max_age: Duration::ZERO,
            max_idle_conns: 0,
            read_timeout: READ_TIMEOUT,
            max_connect_attempts: 0,
            failover: Vec::new(),
            fails_fast: false,
            source_address: None,
            hedge_percent: HEDGE_PERCENT,
            packets_per_second: None,
            max_fails: 2,
            max_concurrent: None,
            health_check: HealthCheck {
                interval: Duration::from_millis(500),
                recursion: true,
                domain: Name::root(),
            },
        }
    }
}

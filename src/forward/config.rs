//! What a `forward` directive says.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::wire::Name;

/// Most targets of one directive (as CoreDNS).
pub const TARGETS_MAX: usize = 15;

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

//! The cases: a resolv.conf, names that are looked up one after the other by one process, and what
//! the servers say.

use crate::servers::{Act, LATE_SERVFAIL, NXDOMAIN, REFUSED, SERVFAIL, Script};

/// One case.
pub struct Case {
    pub name: &'static str,
    /// resolv.conf.
    pub conf: &'static str,
    /// What is looked up, in order.
    pub hosts: &'static [&'static str],
    pub script: Script,
}

impl Case {
    /// Whether this resolver is tried. c-ares waits twice as long each round, Node.js four rounds
    /// whatever resolv.conf says: that takes half a minute.
    pub fn is_for(&self, resolver: &str) -> bool {
        let is_slow = match resolver {
            "node" => self.name.starts_with("both are silent") || self.name == "silence, twice",
            "c-ares" => self.name == "both are silent",
            _ => false,
        };
        !is_slow
    }
}

/// That of a Pod, as it is but for `timeout`: nobody wants to wait for five seconds here.
const POD: &str = "search shop.svc.cluster.local svc.cluster.local cluster.local\n\
    nameserver 127.0.0.11\noptions ndots:5 timeout:1\n";
/// That of a host, with two servers.
const TWO: &str = "search corp.example\n\
    nameserver 127.0.0.11\nnameserver 127.0.0.12\noptions timeout:1\n";
const ONCE: &str = "nameserver 127.0.0.11\noptions timeout:1 attempts:1\n";
const TWO_ONCE: &str =
    "nameserver 127.0.0.11\nnameserver 127.0.0.12\noptions timeout:1 attempts:1\n";
const SINGLE: &str = "nameserver 127.0.0.11\noptions timeout:1 single-request\n";
const REOPEN: &str = "nameserver 127.0.0.11\noptions timeout:1 single-request-reopen\n";
const TCP: &str = "nameserver 127.0.0.11\noptions timeout:1 use-vc\n";
const NO_AAAA: &str = "nameserver 127.0.0.11\noptions timeout:1 no-aaaa\n";

/// All of them.
pub const CASES: &[Case] = &[
    Case { name: "found at once", conf: POD, hosts: &["web"], script: shop },
    Case { name: "found at the third", conf: POD, hosts: &["far.away"], script: shop },
    Case { name: "not found in the list", conf: POD, hosts: &["nowhere"], script: shop },
    Case { name: "foreign from a Pod", conf: POD, hosts: &["www.example.org"], script: shop },
    Case { name: "dots >= ndots", conf: TWO, hosts: &["www.example.org"], script: shop },
    Case { name: "dots >= ndots, denied", conf: TWO, hosts: &["x.example.org"], script: shop },
    Case { name: "dots >= ndots, in the list", conf: TWO, hosts: &["on.intranet"], script: shop },
    Case { name: "last dot", conf: POD, hosts: &["www.example.org."], script: shop },
    Case { name: "last dot, denied", conf: POD, hosts: &["x.example.org."], script: shop },
    Case { name: "no AAAA", conf: POD, hosts: &["v4"], script: shop },
    Case { name: "no AAAA of the second", conf: POD, hosts: &["v4.svc"], script: shop },
    Case { name: "NODATA in the list", conf: POD, hosts: &["empty"], script: shop },
    Case { name: "SERVFAIL in the list", conf: POD, hosts: &["sick"], script: shop },
    Case { name: "silence in the list", conf: POD, hosts: &["mute"], script: shop },
    Case { name: "SERVFAIL for AAAA", conf: POD, hosts: &["half"], script: shop },
    Case { name: "silence for AAAA", conf: POD, hosts: &["slow"], script: shop },
    Case { name: "SERVFAIL of the first", conf: TWO, hosts: &["a.example.org"], script: servfail },
    Case { name: "REFUSED of the first", conf: TWO, hosts: &["a.example.org"], script: refused },
    Case { name: "SERVFAIL of both", conf: TWO, hosts: &["a.example.org."], script: all_servfail },
    Case { name: "first is silent", conf: TWO, hosts: &["a.example.org"], script: first_silent },
    Case {
        name: "first is silent, twice",
        conf: TWO,
        hosts: &["a.example.org", "b.example.org"],
        script: first_silent,
    },
    Case { name: "both are silent", conf: TWO, hosts: &["a.example.org."], script: all_silent },
    Case {
        name: "both are silent, attempts:1",
        conf: TWO_ONCE,
        hosts: &["a.example.org."],
        script: all_silent,
    },
    Case { name: "silence, twice", conf: ONCE, hosts: &["a.b.", "a.b."], script: all_silent },
    Case { name: "truncated", conf: POD, hosts: &["long"], script: shop },
    Case { name: "single-request", conf: SINGLE, hosts: &["www.example.org"], script: shop },
    Case { name: "single-request-reopen", conf: REOPEN, hosts: &["www.example.org"], script: shop },
    Case { name: "use-vc", conf: TCP, hosts: &["www.example.org"], script: shop },
    Case { name: "no-aaaa", conf: NO_AAAA, hosts: &["www.example.org"], script: shop },
    Case { name: "two names", conf: POD, hosts: &["web", "v4"], script: shop },
    Case { name: "the same twice", conf: POD, hosts: &["web", "web"], script: shop },
    Case { name: "denied twice", conf: POD, hosts: &["nowhere", "nowhere"], script: shop },
    Case { name: "SERVFAIL twice", conf: POD, hosts: &["sick", "sick"], script: shop },
];

/// Names of a shop and of the world.
fn shop(_server: usize, name: &str, is_ipv6: bool) -> Act {
    match name {
        "web.shop.svc.cluster.local"
        | "far.away.cluster.local"
        | "www.example.org"
        | "on.intranet.corp.example" => Act::Is(1),
        "v4.shop.svc.cluster.local" | "v4.svc.cluster.local" if !is_ipv6 => Act::Is(4),
        "v4.shop.svc.cluster.local" | "v4.svc.cluster.local" => Act::NoData,
        "empty.shop.svc.cluster.local" => Act::NoData,
        "empty.svc.cluster.local" => Act::Is(5),
        "sick.shop.svc.cluster.local" => SERVFAIL,
        "sick.svc.cluster.local" => Act::Is(6),
        "mute.shop.svc.cluster.local" => Act::Silent,
        "mute.svc.cluster.local" => Act::Is(7),
        "half.shop.svc.cluster.local" if is_ipv6 => LATE_SERVFAIL,
        "half.shop.svc.cluster.local" => Act::Is(8),
        "slow.shop.svc.cluster.local" if is_ipv6 => Act::Silent,
        "slow.shop.svc.cluster.local" => Act::Is(9),
        "long.shop.svc.cluster.local" => Act::IsLong,
        _ => NXDOMAIN,
    }
}

fn servfail(server: usize, _name: &str, _is_ipv6: bool) -> Act {
    if server == 1 { SERVFAIL } else { Act::Is(2) }
}

fn refused(server: usize, _name: &str, _is_ipv6: bool) -> Act {
    if server == 1 { REFUSED } else { Act::Is(2) }
}

fn all_servfail(_server: usize, _name: &str, _is_ipv6: bool) -> Act {
    SERVFAIL
}

fn first_silent(server: usize, _name: &str, _is_ipv6: bool) -> Act {
    if server == 1 { Act::Silent } else { Act::Is(2) }
}

fn all_silent(_server: usize, _name: &str, _is_ipv6: bool) -> Act {
    Act::Silent
}

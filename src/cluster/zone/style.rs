//! How a zone calls what is its own: the names of the cluster and those of `k8s_external` differ.

use super::apex::{DENIAL_TTL_MAX_S, SOA_TTL_MAX_S};

/// Names without the zone, in wire form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Style {
    /// The label between a Service and the zone, if there is one.
    pub below: &'static [u8],
    /// The server itself, in SOA and NS.
    pub name_server: Box<[u8]>,
    /// Who is responsible, in SOA.
    pub hostmaster: Box<[u8]>,
    /// Longest TTL of the SOA record, in seconds.
    pub soa_ttl_max_s: u32,
    /// Longest TTL of a denial, in seconds.
    pub denial_ttl_max_s: u32,
}

impl Style {
    /// That of the cluster: `web.shop.svc`, `ns.dns` and `hostmaster`.
    pub fn cluster() -> Self {
        Self {
            below: b"\x03svc",
            name_server: (*b"\x02ns\x03dns").into(),
            hostmaster: (*b"\x0ahostmaster").into(),
            soa_ttl_max_s: SOA_TTL_MAX_S,
            denial_ttl_max_s: DENIAL_TTL_MAX_S,
        }
    }

    /// That of `k8s_external`: `web.shop`, `ns1.<apex>` and `hostmaster.<apex>`, where `apex` is a
    /// label with its length octet.
    pub fn external(apex: &[u8]) -> Self {
        Self {
            below: b"",
            name_server: [b"\x03ns1", apex].concat().into(),
            hostmaster: [b"\x0ahostmaster", apex].concat().into(),
            soa_ttl_max_s: u32::MAX,
            denial_ttl_max_s: u32::MAX,
        }
    }
}

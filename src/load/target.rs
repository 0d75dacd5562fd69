//! The server under test, and whether we may load it.

use std::net::SocketAddr;

/// How questions travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Transport {
    /// Datagrams; what is cut is asked again over TCP by resolvers that do so.
    #[default]
    Udp,
    /// Connections.
    Tcp,
}

/// The servers that are asked, as in resolv.conf: the first is the one that packets go to.
#[derive(Clone, Debug)]
pub struct Target {
    /// At least one.
    pub servers: Vec<SocketAddr>,
    /// Transport of packets without a resolver.
    pub transport: Transport,
}

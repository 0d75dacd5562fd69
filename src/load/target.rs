//! The server under test, and whether we may load it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::Error;
use super::resolver::{ResolvConf, Resolver};

/// Packets per second that any server may be sent. What a laptop or a busy Node sends is of
/// that order, so nobody's server or network suffers; a load above it can take down a resolver that
/// others depend on, and looks like an attack to those who run it.
pub const RATE_FREE_MAX: f64 = 1000.0;

/// A and AAAA.
const FAMILIES: usize = 2;

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

impl Target {
    /// Whether these servers may get a load that is `peak_rate` packets per second at its highest,
    /// see [`worst_packets`]. `is_owned` is what the operator says, `cluster` the addresses of
    /// Services and Pods of the cluster that the names are from, `further` are servers that relays
    /// pass the load on to.
    ///
    /// # Errors
    /// A server is no address of one host, or is somebody else's as far as we know.
    pub fn check(
        &self,
        peak_rate: f64,
        is_owned: bool,
        cluster: &BTreeSet<IpAddr>,
        further: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<(), Error> {
        if self.servers.is_empty() {
            return Err(Error::Config("no server to ask; name one, such as 127.0.0.1:53".into()));
        }
        let servers: Vec<_> = self.servers.iter().copied().chain(further).collect();
        servers.iter().try_for_each(is_one_host).map_err(Error::Config)?;
        // A rate that is no number is not below the bound either.
        if is_owned || peak_rate <= RATE_FREE_MAX {
            return Ok(());
        }
        let is_ours = |server: &IpAddr| server.is_loopback() || cluster.contains(server);
        let mut addresses = servers.iter().map(|server| server.ip().to_canonical());
        match addresses.find(|address| !is_ours(address)) {
            None => Ok(()),
            Some(address) => Err(Error::Config(format!(
                "{address} is neither on loopback nor of the cluster, and {peak_rate:.0} packets \
                 per second, which these lookups may make, may hurt others; stay at \
                 {RATE_FREE_MAX:.0}, or write --yes-i-own-this-server if it is yours"
            ))),
        }
    }
}

/// Packets that one lookup of a resolver may make, when no server answers: each name of the search
/// list, A and AAAA, each attempt. musl asks all servers at once, others one after the other.
pub fn worst_packets(resolver: Resolver, conf: &ResolvConf) -> f64 {
    if resolver == Resolver::Packet {
        return 1.0;
    }
    let servers = if resolver == Resolver::Musl { conf.used_servers().len().max(1) } else { 1 };
    let attempts = usize::from(conf.attempts().max(1));
    ((conf.search.len() + 1) * FAMILIES * servers * attempts) as f64
}

/// Whether an address is that of one host, which nothing but a lookup reaches.
fn is_one_host(server: &SocketAddr) -> Result<(), String> {
    let address = server.ip().to_canonical();
    let (what, remedy) = match address {
        _ if address.is_unspecified() => {
            ("no address of a server", "write 127.0.0.1 for this host")
        }
        _ if address.is_multicast() => ("a multicast group", "name one server"),
        IpAddr::V4(v4) if v4.is_broadcast() => ("the broadcast address", "name one server"),
        _ if server.port() == 0 => ("without a port", "write the port, mostly 53"),
        _ => return Ok(()),
    };
    Err(format!("{server} is {what}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(servers: &[&str], rate: f64, is_owned: bool) -> Result<(), String> {
        check_with(servers, &[], rate, is_owned)
    }

    fn check_with(
        servers: &[&str],
        further: &[&str],
        rate: f64,
        is_owned: bool,
    ) -> Result<(), String> {
        let servers = servers.iter().map(|server| server.parse().unwrap()).collect();
        let target = Target { servers, transport: Transport::Udp };
        let cluster = ["10.96.0.10", "fd00::10"].map(|address| address.parse().unwrap());
        let further = further.iter().map(|server| server.parse().unwrap());
        target.check(rate, is_owned, &cluster.into(), further).map_err(|error| error.to_string())
    }

    #[test]
    fn own_servers_get_any_rate() {
        for server in [
            "127.0.0.1:53",
            "127.9.9.9:5353",
            "[::1]:53",
            "[::ffff:127.0.0.1]:53",
            "10.96.0.10:53",
            "[::ffff:10.96.0.10]:53",
            "[fd00::10]:53",
        ] {
            assert_eq!(check(&[server], 200_000.0, false), Ok(()), "{server}");
        }
    }

    #[test]
    fn others_get_little_unless_the_operator_says_so() {
        for server in ["8.8.8.8:53", "10.96.0.11:53", "169.254.20.10:53", "[::ffff:8.8.8.8]:53"] {
            assert_eq!(check(&[server], RATE_FREE_MAX, false), Ok(()));
            assert_eq!(check(&[server], 200_000.0, true), Ok(()));
            let text = check(&[server], 1000.5, false).unwrap_err();
            assert!(text.contains("write --yes-i-own-this-server"), "{text}");
            assert!(check(&[server], f64::NAN, false).is_err());
        }
        let text = check(&["127.0.0.1:53", "8.8.8.8:53"], 5000.0, false).unwrap_err();
        assert!(text.starts_with("8.8.8.8 is neither on loopback"), "{text}");
    }

    #[test]
    fn relays_are_no_way_around() {
        let relayed = |to, rate, is_owned| check_with(&["127.0.0.1:53"], &[to], rate, is_owned);
        let text = relayed("8.8.8.8:53", 5000.0, false).unwrap_err();
        assert!(text.starts_with("8.8.8.8 is neither on loopback"), "{text}");
        assert_eq!(relayed("8.8.8.8:53", 1000.0, false), Ok(()));
        assert_eq!(relayed("8.8.8.8:53", 5000.0, true), Ok(()));
        assert_eq!(relayed("127.0.0.9:53", 5000.0, false), Ok(()));
    }

    #[test]
    fn lookups_are_more_packets_than_one() {
        let servers = ["10.0.0.1:53", "10.0.0.2:53"].map(|it| it.parse().unwrap());
        let conf = ResolvConf::of_pod("shop", "cluster.local", servers.into()).unwrap();
        assert_eq!(worst_packets(Resolver::Packet, &conf), 1.0);
        assert_eq!(worst_packets(Resolver::Glibc, &conf), 16.0);
        assert_eq!(worst_packets(Resolver::Musl, &conf), 32.0);
    }

    #[test]
    fn what_is_no_host_is_never_asked() {
        for (server, expected) in [
            ("0.0.0.0:53", "write 127.0.0.1"),
            ("[::]:53", "write 127.0.0.1"),
            ("[::ffff:0.0.0.0]:53", "write 127.0.0.1"),
            ("224.0.0.251:5353", "multicast"),
            ("[ff02::fb]:5353", "multicast"),
            ("255.255.255.255:53", "broadcast"),
            ("127.0.0.1:0", "port"),
        ] {
            let text = check(&["127.0.0.1:53", server], 1.0, true).unwrap_err();
            assert!(text.starts_with(server) && text.contains(expected), "{text}");
        }
        assert!(check(&[], 1.0, true).unwrap_err().contains("name one"));
    }
}

//! The addresses of this host, for `ns.dns` and the NS records of the cluster zone.
//!
//! Read from `/proc/net`, which needs no privilege and no library. Loopback and link-local
//! addresses are left out: nobody else can ask them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses that others may reach this host by, sorted.
pub fn addresses() -> Vec<IpAddr> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let mut all = parse_v4(&read("/proc/net/fib_trie"));
    all.extend(parse_v6(&read("/proc/net/if_inet6")));
    all.sort_unstable();
    all.dedup();
    all
}

/// In `fib_trie` an own address is a leaf `|-- 10.0.0.5`, followed by `/32 host LOCAL`.
fn parse_v4(text: &str) -> Vec<IpAddr> {
    let mut last = None;
    let mut all = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(leaf) = line.strip_prefix("|-- ") {
            last = leaf.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL" {
            all.extend(last.filter(|address| !address.is_loopback() && !address.is_link_local()));
        }
    }
    all.into_iter().map(IpAddr::V4).collect()
}

/// In `if_inet6` a line begins with 32 hexadecimal digits; the fourth column is the scope.
fn parse_v6(text: &str) -> Vec<IpAddr> {
    let address = |line: &str| {
        let mut columns = line.split_whitespace();
        let address = Ipv6Addr::from(u128::from_str_radix(columns.next()?, 16).ok()?);
        let scope = columns.nth(2)?;
        (scope == "00").then_some(IpAddr::V6(address))
    };
    text.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_found_and_loopback_is_not() {
        let trie = "Local:\n  +-- 10.244.0.0/24 2 0 2\n     |-- 10.244.0.5\n        /32 host LOCAL\n\
                    \x20    |-- 10.244.0.255\n        /32 link BROADCAST\n\
                    \x20    |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert_eq!(parse_v4(trie), ["10.244.0.5".parse::<IpAddr>().unwrap()]);
        let v6 = "fd000000000000000000000000000005 02 40 00 80 eth0\n\
                  00000000000000000000000000000001 01 80 10 80 lo\n\
                  fe80000000000000a8bbccfffe000001 02 40 20 80 eth0\nnonsense\n";
        assert_eq!(parse_v6(v6), ["fd00::5".parse::<IpAddr>().unwrap()]);
    }
}

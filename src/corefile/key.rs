//! Zones as they are written: names, and networks that stand for reverse zones; and the keys of a
//! server block, `[dns://]zone[:port]`.

use std::net::{IpAddr, Ipv6Addr};

use super::problem::{Location, Problem, shown};
use crate::wire::{Name, NameRef};

/// Schemes that CoreDNS serves and Mainstay does not, each with a transport of its own.
const SCHEMES_NOT_YET: &[&str] = &["tls", "quic", "grpc", "https", "https3"];

/// A zone that a server block answers for, and the port where it listens.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    pub zone: Name,
    pub port: u16,
}

/// Reads the keys that one word stands for; a network may stand for several.
///
/// # Errors
/// A scheme other than `dns`, a bad port or a bad zone.
pub(super) fn keys(word: &str, port_default: u16, at: &Location) -> Result<Vec<Key>, Problem> {
    let problem = |text: String| Problem::new(at, word, text);
    let text = without_scheme(word).map_err(problem)?;
    let (zone, port) = split_port(text, port_default).map_err(problem)?;
    // As in CoreDNS, `:5353` is the root zone at that port.
    let zones = match zone {
        "" if !text.is_empty() => vec![Name::root()],
        zone => zones(zone).map_err(problem)?,
    };
    Ok(zones.into_iter().map(|zone| Key { zone, port }).collect())
}

/// Reads a name, or the reverse zones of a network such as `10.96.0.0/12`.
///
/// # Errors
/// Says what is wrong with the zone and quotes it.
pub(super) fn zones(word: &str) -> Result<Vec<Name>, String> {
    if word.is_empty() {
        return Err("a zone is empty; is an environment variable unset?".to_owned());
    }
    if let Some((address, prefix)) = network(word) {
        let bits = prefix.parse().ok().filter(|bits| *bits <= width(address));
        let bits = bits.ok_or_else(|| format!("{} is not a network", shown(word)))?;
        return Ok(reverse_zones(address, bits));
    }
    if word.contains(':') {
        return Err(format!(
            "zone {} holds a \":\"; neither scheme nor port stand here",
            shown(word)
        ));
    }
    if !word.bytes().all(|octet| octet.is_ascii_graphic()) {
        return Err(format!("zone {} is not ASCII; write it as xn--…", shown(word)));
    }
    Name::parse(word)
        .map(|name| vec![name])
        .map_err(|error| format!("zone {}: {error}", shown(word)))
}

/// Whether a zone holds the names of addresses.
pub(super) fn is_reverse(zone: NameRef<'_>) -> bool {
    ["in-addr.arpa", "ip6.arpa"]
        .iter()
        .any(|root| Name::parse(root).is_ok_and(|root| zone.is_within(root.as_ref())))
}

/// Cuts `dns://` off.
fn without_scheme(word: &str) -> Result<&str, String> {
    let Some((scheme, rest)) = word.split_once("://") else { return Ok(word) };
    match scheme.to_ascii_lowercase().as_str() {
        "dns" => Ok(rest),
        known if SCHEMES_NOT_YET.contains(&known) => {
            Err(format!("scheme {} is not supported yet; serve plain dns://", shown(known)))
        }
        _ => Err(format!("unknown scheme {}; use dns:// or none", shown(scheme))),
    }
}

/// Cuts the port off, which is what follows the last colon, if that is digits only.
fn split_port(text: &str, port_default: u16) -> Result<(&str, u16), String> {
    let Some((zone, digits)) = text.rsplit_once(':') else { return Ok((text, port_default)) };
    if digits.contains('/') {
        return Ok((text, port_default));
    }
    match digits.parse() {
        Ok(port) => Ok((zone, port)),
        Err(_) => Err(format!("{} is not a port", shown(digits))),
    }
}

/// The address and the prefix length of what looks like a network. `0/25.2.0.192.in-addr.arpa`
/// (RFC 2317 §4) does not.
fn network(word: &str) -> Option<(IpAddr, &str)> {
    let (address, prefix) = word.split_once('/')?;
    Some((address.parse().ok()?, prefix))
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The zones that make up a network: cut at octets (RFC 1035 §3.5) or nibbles (RFC 3596 §2.5), so
/// at most 128 of them.
fn reverse_zones(address: IpAddr, bits: u32) -> Vec<Name> {
    let (unit, root) = if address.is_ipv4() { (8, "in-addr.arpa") } else { (4, "ip6.arpa") };
    // Both families are handled left-aligned in 128 bits.
    let address = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => Ipv6Addr::to_bits(v6),
    };
    let aligned = bits.next_multiple_of(unit);
    let network = address & u128::MAX.checked_shl(128 - bits).unwrap_or(0);
    (0..1u128 << (aligned - bits))
        .map(|n| network | n.checked_shl(128 - aligned).unwrap_or(0))
        .filter_map(|start| Name::parse(&reverse_name(start, aligned, unit, root)).ok())
        .collect()
}

/// The name of the first `bits` of an address, unit by unit from the last.
fn reverse_name(address: u128, bits: u32, unit: u32, root: &str) -> String {
    let mut name = String::new();
    for end in (unit..=bits).rev().step_by(unit as usize) {
        let value = (address >> (128 - end)) & ((1 << unit) - 1);
        name += &if unit == 8 { format!("{value}.") } else { format!("{value:x}.") };
    }
    name + root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(word: &str) -> Result<Vec<String>, String> {
        let at = Location { file: "Corefile".into(), line: 1 };
        match keys(word, 53, &at) {
            Ok(keys) => Ok(keys.iter().map(|key| format!("{}:{}", key.zone, key.port)).collect()),
            Err(problem) => Err(problem.text),
        }
    }

    #[test]
    fn keys_have_a_zone_and_a_port() {
        for (word, key) in [
            (".", ".:53"),
            (".:5353", ".:5353"),
            (":5353", ".:5353"),
            ("Cluster.Local", "cluster.local.:53"),
            ("cluster.local.:1053", "cluster.local.:1053"),
            ("dns://example.org:54", "example.org.:54"),
            ("DNS://.", ".:53"),
            ("10.0.0.0/8", "10.in-addr.arpa.:53"),
            ("2001:db8::/32:54", "8.b.d.0.1.0.0.2.ip6.arpa.:54"),
            ("2001:db8::/32", "8.b.d.0.1.0.0.2.ip6.arpa.:53"),
            ("0/25.2.0.192.in-addr.arpa", "0/25.2.0.192.in-addr.arpa.:53"),
        ] {
            assert_eq!(read(word), Ok(vec![key.to_owned()]), "{word}");
        }
    }

    #[test]
    fn bad_keys_say_what_is_wrong() {
        for (word, text) in [
            ("tls://.", "scheme \"tls\" is not supported yet; serve plain dns://"),
            ("https://example.org", "scheme \"https\" is not supported yet; serve plain dns://"),
            ("ftp://.", "unknown scheme \"ftp\"; use dns:// or none"),
            (".:", "\"\" is not a port"),
            (".:65536", "\"65536\" is not a port"),
            (".:dns", "\"dns\" is not a port"),
            ("", "a zone is empty; is an environment variable unset?"),
            ("dns://", "a zone is empty; is an environment variable unset?"),
            ("a..b", "zone \"a..b\": empty label"),
            ("10.0.0.0/33", "\"10.0.0.0/33\" is not a network"),
            ("10.0.0.0/x", "\"10.0.0.0/x\" is not a network"),
            ("fd00::1:53", "zone \"fd00::1\" holds a \":\"; neither scheme nor port stand here"),
            ("bücher.example", "zone \"bücher.example\" is not ASCII; write it as xn--…"),
        ] {
            assert_eq!(read(word), Err(text.to_owned()), "{word}");
        }
    }

    #[test]
    fn networks_become_aligned_reverse_zones() {
        let of = |word: &str| -> Vec<String> {
            zones(word).unwrap().iter().map(ToString::to_string).collect()
        };
        let services = of("10.96.0.0/12");
        assert_eq!(services.len(), 16);
        assert_eq!(
            (services[0].as_str(), services[15].as_str()),
            ("96.10.in-addr.arpa.", "111.10.in-addr.arpa.")
        );
        assert_eq!(of("10.96.77.1/12"), services);
        assert_eq!(of("192.0.2.0/24"), ["2.0.192.in-addr.arpa."]);
        assert_eq!(of("192.0.2.1/32"), ["1.2.0.192.in-addr.arpa."]);
        assert_eq!(of("192.0.2.0/25").len(), 128);
        assert_eq!(of("0.0.0.0/0"), ["in-addr.arpa."]);
        assert_eq!(of("::/0"), ["ip6.arpa."]);
        assert_eq!(of("fd00::/7"), ["c.f.ip6.arpa.", "d.f.ip6.arpa."]);
        assert_eq!(of("::1/128")[0].len(), "0.".len() * 32 + "ip6.arpa.".len());
    }

    #[test]
    fn reverse_zones_are_told_from_others() {
        for (name, expected) in [
            ("10.in-addr.arpa", true),
            ("ip6.arpa", true),
            ("arpa", false),
            ("cluster.local", false),
        ] {
            assert_eq!(is_reverse(Name::parse(name).unwrap().as_ref()), expected, "{name}");
        }
    }
}

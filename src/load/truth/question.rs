//! What a name asks for (Kubernetes DNS specification 1.1.0 §2), read without the server's help.
//!
//! ```text
//! svc, ns.svc                     names that only have others below them
//! web.shop.svc                    a Service: 3web4shop is its key, as it lies in the name
//! db-0.db.shop.svc                an endpoint of it
//! _http._tcp.web.shop.svc         a port of it
//! …pod, …_zone…, dns-version, dns not covered: what they say depends on how a server is set up
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::name::{LABEL_MAX, Labels};
use crate::wire::{NameRef, RecordType};

/// What is sought under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sought {
    /// Addresses.
    Addresses(Family),
    /// Targets of SRV records.
    Srv,
    /// The names of an address.
    Ptr,
    /// Records that no object of the cluster makes.
    Other,
}

/// Which addresses are sought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
    /// What an application gets from `getaddrinfo`: the answers to two questions, which may be of
    /// two instants. So each family is judged for itself, and one of which nothing came is not
    /// judged where the other one came: resolvers do not say why.
    Both,
}

impl Sought {
    /// What one packet asks for.
    pub fn by_packet(rtype: RecordType) -> Self {
        match rtype {
            RecordType::A => Self::Addresses(Family::V4),
            RecordType::AAAA => Self::Addresses(Family::V6),
            RecordType::SRV => Self::Srv,
            RecordType::PTR => Self::Ptr,
            _ => Self::Other,
        }
    }

    /// What an application looks up: addresses are those of both families.
    pub fn by_application(rtype: RecordType) -> Self {
        match Self::by_packet(rtype) {
            Self::Addresses(_) => Self::Addresses(Family::Both),
            other => other,
        }
    }
}

impl Family {
    /// Whether an address is sought.
    pub(super) fn has(self, address: &IpAddr) -> bool {
        match self {
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
            Self::Both => true,
        }
    }
}

/// What a name below the cluster domain means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning<'n> {
    /// The domain itself.
    Apex,
    /// `svc`.
    Container,
    /// By its label, with the length octet.
    Namespace(&'n [u8]),
    /// A Service, or a name below it.
    Service { key: &'n [u8], part: Part<'n> },
    /// No object makes this name.
    Impossible,
    /// The model does not cover it.
    Uncovered,
}

/// What of a Service is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part<'n> {
    /// All of it.
    Whole,
    /// An endpoint, by its label.
    Host(&'n [u8]),
    /// A port and a protocol, without underscores. `is_plain` where there were none, which servers
    /// need not understand.
    Port { port: &'n [u8], protocol: &'n [u8], is_plain: bool },
}

/// Reads the octets before the cluster domain.
pub(super) fn meaning(prefix: &[u8]) -> Meaning<'_> {
    let labels: Vec<&[u8]> = Labels::of(prefix).collect();
    if labels.contains(&&b"_zone"[..]) {
        return Meaning::Uncovered;
    }
    // The octets of the label with this number and of all others up to the last.
    let from = |at: usize| {
        let before: usize = labels[..at].iter().map(|label| label.len() + 1).sum();
        &prefix[before..prefix.len() - b"\x03svc".len()]
    };
    let of = |at: usize, part| Meaning::Service { key: from(at), part };
    match labels[..] {
        [] => Meaning::Apex,
        [.., b"pod"] | [b"dns-version"] | [b"dns"] | [b"ns", b"dns"] => Meaning::Uncovered,
        [b"svc"] => Meaning::Container,
        [_, b"svc"] => Meaning::Namespace(from(0)),
        [_, _, b"svc"] => of(0, Part::Whole),
        [host, _, _, b"svc"] => of(1, Part::Host(host)),
        // Lone underscores ask CoreDNS for any port; nobody else knows them.
        [b"_", _, _, _, b"svc"] | [_, b"_", _, _, b"svc"] => Meaning::Uncovered,
        [port, protocol, _, _, b"svc"] => {
            let (port, protocol) = (plain(port), plain(protocol));
            let is_plain = from(2).len() + port.len() + protocol.len() + 8 != prefix.len();
            of(2, Part::Port { port, protocol, is_plain })
        }
        _ => Meaning::Impossible,
    }
}

fn plain(label: &[u8]) -> &[u8] {
    label.strip_prefix(b"_").unwrap_or(label)
}

/// A label with its length octet, in lower case; `None` for a text that can be no label.
pub(super) fn label_key(label: &str) -> Option<Vec<u8>> {
    let length = u8::try_from(label.len()).ok().filter(|length| *length > 0)?;
    let octets = label.bytes().map(|octet| octet.to_ascii_lowercase());
    (label.len() <= LABEL_MAX).then(|| std::iter::once(length).chain(octets).collect())
}

/// The key of a Service.
pub(super) fn service_key(namespace: &str, name: &str) -> Option<Vec<u8>> {
    let mut key = label_key(name)?;
    key.extend(label_key(namespace)?);
    Some(key)
}

/// The label of the Namespace in the key of a Service.
pub(super) fn namespace_of(key: &[u8]) -> &[u8] {
    let name = key.first().map_or(0, |length| usize::from(*length) + 1);
    key.get(name..).unwrap_or_default()
}

/// The label of an endpoint without hostname: `10-0-0-1`, `fd00--1`; as a label may not end in a
/// dash, `fd00--0` for `fd00::` (as CoreDNS).
pub(super) fn dashed(address: &IpAddr) -> String {
    let text = address.to_string().replace(['.', ':'], "-");
    if text.ends_with('-') { text + "0" } else { text }
}

/// The address that makes this label.
pub(super) fn undashed(label: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(label).ok()?;
    let v4 = text.replace('-', ".").parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    let address = v4.or_else(|| text.replace('-', ":").parse::<Ipv6Addr>().ok().map(IpAddr::V6))?;
    (dashed(&address) == text).then_some(address)
}

/// The address that a reverse name is of (RFC 1035 §3.5, RFC 3596 §2.5).
pub(super) fn reverse_address(name: NameRef<'_>) -> Option<IpAddr> {
    let mut labels: Vec<&str> =
        name.labels().map(std::str::from_utf8).collect::<Result<_, _>>().ok()?;
    labels.reverse();
    match labels[..] {
        ["arpa", "in-addr", ref octets @ ..] if octets.len() == 4 => {
            octets.join(".").parse::<Ipv4Addr>().ok().map(IpAddr::V4)
        }
        ["arpa", "ip6", ref digits @ ..] if digits.len() == 32 => {
            let is_digit = |digit: &&str| digit.len() == 1;
            let bits = digits.iter().all(is_digit).then(|| digits.concat())?;
            let bits = u128::from_str_radix(&bits, 16).ok()?;
            Some(Ipv6Addr::from(bits).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Name;

    fn read(text: &str) -> String {
        let (name, domain) = (Name::parse(text).unwrap(), Name::parse("d").unwrap());
        let prefix = name.as_ref().without_suffix(domain.as_ref()).unwrap();
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        let key = |key: &[u8]| text(key).replace(['\x03', '\x04'], "/");
        match meaning(prefix) {
            Meaning::Namespace(label) => format!("Namespace {}", key(label)),
            Meaning::Service { key: of, part: Part::Whole } => key(of),
            Meaning::Service { key: of, part: Part::Host(host) } => {
                format!("{} of {}", text(host), key(of))
            }
            Meaning::Service { key: of, part: Part::Port { port, protocol, is_plain } } => {
                let plain = if is_plain { " plain" } else { "" };
                format!("{} {}{plain} of {}", text(port), text(protocol), key(of))
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn names_mean_what_the_specification_says() {
        let cases = [
            ("d", "Apex"),
            ("svc.d", "Container"),
            ("shop.svc.d", "Namespace /shop"),
            ("web.shop.svc.d", "/web/shop"),
            ("db-0.web.shop.svc.d", "db-0 of /web/shop"),
            ("_http._tcp.web.shop.svc.d", "http tcp of /web/shop"),
            ("http._tcp.web.shop.svc.d", "http tcp plain of /web/shop"),
            ("http.tcp.web.shop.svc.d", "http tcp plain of /web/shop"),
            ("_._tcp.web.shop.svc.d", "Uncovered"),
            ("a.b.c.web.shop.svc.d", "Impossible"),
            ("web.shop.d", "Impossible"),
            ("web.d", "Impossible"),
            ("1-2-3-4.shop.pod.d", "Uncovered"),
            ("pod.d", "Uncovered"),
            ("eu.pin._zone.web.shop.svc.d", "Uncovered"),
            ("dns-version.d", "Uncovered"),
            ("ns.dns.d", "Uncovered"),
        ];
        for (name, expected) in cases {
            assert_eq!(read(name), expected, "{name}");
        }
    }

    #[test]
    fn an_address_has_one_label() {
        for text in ["10.0.0.1", "fd00::1", "fd00::", "::", "1:2:3:4:5:6:7:8"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(undashed(dashed(&address).as_bytes()), Some(address), "{text}");
        }
        for label in ["10-0-0", "010-0-0-1", "fd00-0--1", "web", "", "fd00--"] {
            assert_eq!(undashed(label.as_bytes()), None, "{label}");
        }
    }

    #[test]
    fn reverse_names_are_read() {
        let address = |text: &str| {
            reverse_address(Name::parse(text).unwrap().as_ref()).map(|it| it.to_string())
        };
        assert_eq!(address("4.3.2.1.in-addr.arpa").as_deref(), Some("1.2.3.4"));
        assert_eq!(address("3.2.1.in-addr.arpa"), None);
        assert_eq!(address("04.3.2.1.in-addr.arpa"), None);
        let v6 = format!("1.{}d.f.ip6.arpa", "0.".repeat(29));
        assert_eq!(address(&v6).as_deref(), Some("fd00::1"));
        assert_eq!(address(&format!("+.{}d.f.ip6.arpa", "0.".repeat(29))), None);
        assert_eq!(address(&v6.replace("1.", "11.")), None);
    }

    #[test]
    fn a_key_is_made_of_labels_only() {
        assert_eq!(service_key("shop", "Web").as_deref(), Some(&b"\x03web\x04shop"[..]));
        assert_eq!(namespace_of(b"\x03web\x04shop"), b"\x04shop");
        assert_eq!(service_key("shop", ""), None);
        assert_eq!(service_key(&"a".repeat(64), "web"), None);
    }
}

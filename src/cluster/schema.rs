//! The grammar of cluster names (Kubernetes DNS specification 1.1.0 §2): what a name could mean,
//! before anybody looks whether it exists.
//!
//! ```text
//! ""                               the apex
//! svc | pod                        empty non-terminals
//! <ns>.svc | <ns>.pod              a Namespace
//! <svc>.<ns>.svc                   a Service
//! <endpoint>.<svc>.<ns>.svc        an endpoint
//! <port>.<proto>.<svc>.<ns>.svc    a port; the underscores may be left out (as CoreDNS); what is
//!                                  no protocol makes the name impossible
//! <endpoint>.<cluster>.<svc>.<ns>.svc           an imported endpoint, in a zone of a cluster set
//! <zone>.pin|prefer._zone.<svc>.<ns>.svc        the endpoints in a zone, which may have dots
//! <address>.<ns>.pod               a Pod by address; labels in front are ignored (as CoreDNS)
//! dns-version | ns.dns             the specification's version, the server itself
//! ```
//!
//! Names are wire octets in lower case; a Service is keyed by its two labels, `3web4shop`, just as
//! they lie in the query. Nothing here reads a clock or a Zone.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::NameRef;
use crate::wire::name::{LABEL_MAX, Labels};

/// Most labels that a name of this grammar has before the zone.
const LABELS_MAX: usize = 6;

/// Longest RFC 1123 subdomain, in characters.
pub const SUBDOMAIN_MAX: usize = 253;

/// Whether the API server would accept a text as the name of a Service or a Namespace (RFC 1123
/// label): lower-case letters, digits and inner hyphens, at most 63.
pub fn is_label(text: &str) -> bool {
    text.len() <= LABEL_MAX && has_label_characters(text)
}

/// Whether it would accept it as the name of another object (RFC 1123 subdomain): labels with dots
/// between, at most 253 characters, and each of them may be as long as that.
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= SUBDOMAIN_MAX && text.split('.').all(has_label_characters)
}

fn has_label_characters(text: &str) -> bool {
    let is_inner = |octet: u8| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'-');
    !text.is_empty() && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// What a name means under the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning<'n> {
    Apex,
    /// `svc`, `pod` or `dns`: names below exist.
    EmptyNonTerminal,
    /// `<ns>.svc`, by its label with the length octet.
    Namespace(&'n [u8]),
    /// `<ns>.pod`.
    PodNamespace(&'n [u8]),
    /// A Service by its key.
    Service(&'n [u8]),
    Endpoint {
        /// With the length octet.
        label: &'n [u8],
        service: &'n [u8],
    },
    Port {
        port: &'n [u8],
        protocol: &'n [u8],
        service: &'n [u8],
    },
    /// So many labels that it exists at most as a [`Zonal`] name, which is looked at only where
    /// such names exist: a search list makes many of them.
    Long,
    Pod {
        address: IpAddr,
        namespace: &'n [u8],
    },
    /// `dns-version`.
    Version,
    /// `ns.dns`.
    NameServer,
    /// No object can make this name exist.
    Impossible,
}

/// Reads the labels before the zone, as [`NameRef::without_suffix`] gives them.
pub fn meaning(prefix: &[u8]) -> Meaning<'_> {
    let mut starts = [0usize; LABELS_MAX];
    let mut count = 0;
    let mut at = 0;
    while at < prefix.len() {
        if count == LABELS_MAX {
            return Meaning::Long;
        }
        starts[count] = at;
        count += 1;
        at += usize::from(prefix[at]) + 1;
    }
    let label = |index: usize| {
        let start = starts[index];
        &prefix[start + 1..start + 1 + usize::from(prefix[start])]
    };
    let Some(last) = count.checked_sub(1) else { return Meaning::Apex };
    // The octets from a label up to the `svc` or `pod` at the end.
    let tail = |index: usize| &prefix[starts[index]..starts[last]];
    match (label(last), last) {
        (b"svc" | b"pod" | b"dns", 0) => Meaning::EmptyNonTerminal,
        (b"svc", 1) => Meaning::Namespace(tail(0)),
        (b"svc", 2) => Meaning::Service(tail(0)),
        (b"svc", 3) => Meaning::Endpoint { label: &prefix[..starts[1]], service: tail(1) },
        // As CoreDNS: two lone underscores ask for every port, which is the Service.
        (b"svc", 4) if label(0) == b"_" && label(1) == b"_" => Meaning::Service(tail(2)),
        (b"svc", 4) => Meaning::Port {
            port: without_underscore(label(0)),
            protocol: without_underscore(label(1)),
            service: tail(2),
        },
        (b"svc", 5) => Meaning::Long,
        (b"pod", 1) => Meaning::PodNamespace(tail(0)),
        (b"pod", 2..=4) => pod(label(last - 2), tail(last - 1)),
        (b"dns-version", 0) => Meaning::Version,
        (b"dns", 1) if label(0) == b"ns" => Meaning::NameServer,
        _ => Meaning::Impossible,
    }
}

fn pod<'n>(label: &[u8], namespace: &'n [u8]) -> Meaning<'n> {
    dashed_address(label).map_or(Meaning::Impossible, |address| Meaning::Pod { address, namespace })
}

/// A name for the endpoints of a Service in one zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Zonal<'n> {
    /// The labels of the zone, with their length octets.
    pub zone: &'n [u8],
    /// Whether all endpoints stand in where the zone has none (`prefer`, not `pin`).
    pub prefers: bool,
    pub service: &'n [u8],
}

/// Reads a [`Meaning::Long`] name, whose zone may have many labels (as CoreDNS).
pub fn zonal(prefix: &[u8]) -> Option<Zonal<'_>> {
    let mut zone_octets = 0;
    loop {
        let rest = &prefix[zone_octets..];
        zone_octets += usize::from(*rest.first()?) + 1;
        let behind = &prefix[zone_octets..];
        let (prefers, behind) = match behind.strip_prefix(b"\x03pin\x05_zone") {
            Some(behind) => (false, behind),
            None => match behind.strip_prefix(b"\x06prefer\x05_zone") {
                Some(behind) => (true, behind),
                None => continue,
            },
        };
        // The zone ends at the last such pair: what is behind it is a Service.
        if let Meaning::Service(service) = short(behind) {
            return Some(Zonal { zone: &prefix[..zone_octets], prefers, service });
        }
    }
}

/// The meaning of three labels; others are Impossible here.
fn short(prefix: &[u8]) -> Meaning<'_> {
    let mut labels = Labels::of(prefix);
    let three = [labels.next(), labels.next(), labels.next(), labels.next()];
    match three {
        [Some(_), Some(_), Some(b"svc"), None] => Meaning::Service(&prefix[..prefix.len() - 4]),
        _ => Meaning::Impossible,
    }
}

/// Whether one of these labels begins with an underscore, which a port and a protocol may do and an
/// endpoint and its cluster do not.
pub fn has_underscore(labels: &[u8]) -> bool {
    Labels::of(labels).any(|label| label.starts_with(b"_"))
}

fn without_underscore(label: &[u8]) -> &[u8] {
    label.strip_prefix(b"_").unwrap_or(label)
}

/// Reads `10-1-2-3` or `5678-abcd--1`: three dashes and no two in a row are IPv4 (as CoreDNS).
pub fn dashed_address(label: &[u8]) -> Option<IpAddr> {
    let dashes = label.iter().filter(|octet| **octet == b'-').count();
    let is_ipv4 = dashes == 3 && !label.windows(2).any(|pair| pair == b"--");
    let mut text = [0u8; LABEL_MAX];
    let text = text.get_mut(..label.len())?;
    for (slot, octet) in text.iter_mut().zip(label) {
        *slot = match octet {
            b'-' if is_ipv4 => b'.',
            b'-' => b':',
            other => *other,
        };
    }
    let text = std::str::from_utf8(text).ok()?;
    if is_ipv4 {
        text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
    } else {
        text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    }
}

/// Room for one label with its length octet.
pub type LabelRoom = [u8; LABEL_MAX + 1];

/// The label of an endpoint without hostname, with its length octet: the address with dashes. A
/// label cannot end in a dash, so `abcd::` becomes `abcd--0`.
pub fn dashed<'r>(address: &IpAddr, room: &'r mut LabelRoom) -> &'r [u8] {
    let mut rest = &mut room[1..];
    write!(rest, "{address}").expect("a label has room for every address");
    let mut len = LABEL_MAX - rest.len();
    for octet in &mut room[1..=len] {
        if matches!(octet, b'.' | b':') {
            *octet = b'-';
        }
    }
    if room[len] == b'-' {
        len += 1;
        room[len] = b'0';
    }
    room[0] = len as u8;
    &room[..=len]
}

/// The key of a Service, `3web4shop`, or `None` when a label is empty or longer than 63 octets.
pub fn service_key(name: &str, namespace: &str) -> Option<Box<[u8]>> {
    let mut key = Vec::with_capacity(name.len() + namespace.len() + 2);
    push_label(&mut key, name)?;
    push_label(&mut key, namespace)?;
    Some(key.into())
}

/// One label in wire form, lower-cased.
pub fn label_key(label: &str) -> Option<Box<[u8]>> {
    let mut key = Vec::with_capacity(label.len() + 1);
    push_label(&mut key, label)?;
    Some(key.into())
}

/// Labels with dots between, in wire form, lower-cased.
pub fn labels_key(labels: &str) -> Option<Box<[u8]>> {
    let mut key = Vec::with_capacity(labels.len() + 1);
    labels.split('.').try_for_each(|label| push_label(&mut key, label))?;
    Some(key.into())
}

fn push_label(key: &mut Vec<u8>, label: &str) -> Option<()> {
    let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
    key.push(length);
    key.extend(label.bytes().map(|octet| octet.to_ascii_lowercase()));
    Some(())
}

/// The address that a name under `in-addr.arpa` or `ip6.arpa` stands for (RFC 1035 §3.5,
/// RFC 3596 §2.5).
pub fn reverse_address(name: NameRef<'_>) -> Option<IpAddr> {
    let octets = name.octets();
    if let Some(labels) = octets.strip_suffix(b"\x07in-addr\x04arpa\x00") {
        let mut address = [0u8; 4];
        let mut slots = address.iter_mut().rev();
        for label in Labels::of(labels) {
            *slots.next()? = decimal(label)?;
        }
        return slots.next().is_none().then(|| Ipv4Addr::from(address).into());
    }
    let labels = octets.strip_suffix(b"\x03ip6\x04arpa\x00")?;
    let mut bits = 0u128;
    let mut count = 0;
    for label in Labels::of(labels) {
        let [digit] = label else { return None };
        bits |= u128::from((*digit as char).to_digit(16)?).checked_shl(4 * count)?;
        count += 1;
    }
    // As CoreDNS: an IPv4-mapped address is the IPv4 address.
    (count == 32).then(|| Ipv6Addr::from(bits).to_canonical())
}

/// A decimal octet without leading zeros: each address has one name.
fn decimal(label: &[u8]) -> Option<u8> {
    if label.len() > 1 && label[0] == b'0' || !label.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(label).ok()?.parse().ok()
}

/// Whether a zone holds reverse names.
pub fn is_reverse(zone: NameRef<'_>) -> bool {
    let octets = zone.octets();
    octets.ends_with(b"\x07in-addr\x04arpa\x00") || octets.ends_with(b"\x03ip6\x04arpa\x00")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Name;

    fn read(text: &str) -> String {
        let name = Name::parse(text).unwrap();
        let octets = &name.octets()[..name.octets().len() - 1];
        match meaning(octets) {
            Meaning::Service(key) => format!("service {}", String::from_utf8_lossy(key)),
            Meaning::Endpoint { label, service } => format!(
                "endpoint {} of {}",
                String::from_utf8_lossy(&label[1..]),
                String::from_utf8_lossy(service)
            ),
            Meaning::Long => match zonal(octets) {
                Some(Zonal { zone, prefers, service }) => format!(
                    "zone {}{} of {}",
                    String::from_utf8_lossy(zone),
                    if prefers { " or all" } else { "" },
                    String::from_utf8_lossy(service)
                ),
                None => "Long".into(),
            },
            Meaning::Port { port, protocol, service, .. } => format!(
                "port {} {} of {}",
                String::from_utf8_lossy(port),
                String::from_utf8_lossy(protocol),
                String::from_utf8_lossy(service)
            ),
            Meaning::Pod { address, .. } => format!("pod {address}"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn every_form_of_the_grammar_is_read() {
        for (name, meaning) in [
            (".", "Apex"),
            ("svc", "EmptyNonTerminal"),
            ("pod", "EmptyNonTerminal"),
            ("dns", "EmptyNonTerminal"),
            ("web.shop.svc", "service \u{3}web\u{4}shop"),
            ("10-1-2-3.web.shop.svc", "endpoint 10-1-2-3 of \u{3}web\u{4}shop"),
            ("_tcp.web.shop.svc", "endpoint _tcp of \u{3}web\u{4}shop"),
            ("_http._tcp.web.shop.svc", "port http tcp of \u{3}web\u{4}shop"),
            ("http.tcp.web.shop.svc", "port http tcp of \u{3}web\u{4}shop"),
            ("_http._.web.shop.svc", "port http  of \u{3}web\u{4}shop"),
            ("_._.web.shop.svc", "service \u{3}web\u{4}shop"),
            ("a.b.c.web.shop.svc", "Long"),
            ("a.pin._zone.web.shop.svc", "zone \u{1}a of \u{3}web\u{4}shop"),
            ("b.a.prefer._zone.web.shop.svc", "zone \u{1}b\u{1}a or all of \u{3}web\u{4}shop"),
            (
                "a.pin._zone.b.pin._zone.web.shop.svc",
                "zone \u{1}a\u{3}pin\u{5}_zone\u{1}b of \u{3}web\u{4}shop",
            ),
            ("pin._zone.web.shop.svc", "port pin zone of \u{3}web\u{4}shop"),
            ("a.stay._zone.web.shop.svc", "Long"),
            ("a.pin._zone.web.shop.pod", "Impossible"),
            ("a.pin._zone.x.web.shop.svc", "Long"),
            ("a.b.c.d.e.f.g.h.svc", "Long"),
            ("10-1-2-3.shop.pod", "pod 10.1.2.3"),
            ("x.10-1-2-3.shop.pod", "pod 10.1.2.3"),
            ("5678-abcd--1.shop.pod", "pod 5678:abcd::1"),
            ("10-1-2.shop.pod", "Impossible"),
            ("web.shop.pod", "Impossible"),
            ("dns-version", "Version"),
            ("x.dns-version", "Impossible"),
            ("ns.dns", "NameServer"),
            ("other.dns", "Impossible"),
            ("web.shop", "Impossible"),
        ] {
            assert_eq!(read(name), meaning, "{name}");
        }
    }

    #[test]
    fn labels_and_subdomains_are_what_the_api_server_accepts() {
        for text in ["a", "0", "a-b", "a--b", &"a".repeat(63)] {
            assert!(is_label(text) && is_subdomain(text), "{text}");
        }
        for text in ["", "-a", "a-", "A", "a_b", "é", "a b"] {
            assert!(!is_label(text) && !is_subdomain(text), "{text}");
        }
        for text in ["a.b", "0.a-b.c", &"a".repeat(64), &"a".repeat(253)] {
            assert!(!is_label(text) && is_subdomain(text), "{text}");
        }
        for text in [".", "a.", ".a", "a..b", "a.-b", &"a".repeat(254)] {
            assert!(!is_label(text) && !is_subdomain(text), "{text}");
        }
    }

    #[test]
    fn reverse_names_are_addresses_of_whole_octets() {
        let address = |text: &str| reverse_address(Name::parse(text).unwrap().as_ref());
        assert_eq!(address("3.2.1.10.in-addr.arpa"), "10.1.2.3".parse().ok());
        assert_eq!(address("2.1.10.in-addr.arpa"), None);
        assert_eq!(address("4.3.2.1.10.in-addr.arpa"), None);
        assert_eq!(address("03.2.1.10.in-addr.arpa"), None);
        assert_eq!(address("256.2.1.10.in-addr.arpa"), None);
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.c.b.a.8.7.6.5.ip6.arpa";
        assert_eq!(address(v6), "5678:abcd::1".parse().ok());
        let mapped = "3.0.2.0.1.0.a.0.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa";
        assert_eq!(address(mapped), "10.1.2.3".parse().ok());
        assert_eq!(address(&format!("0.{v6}")), None);
        assert_eq!(address(&v6[2..]), None);
    }

    #[test]
    fn an_address_label_never_ends_in_a_dash() {
        let dashed = |text: &str| dashed(&text.parse().unwrap(), &mut [0; 64]).to_vec();
        assert_eq!(dashed("10.1.2.3"), b"\x0810-1-2-3");
        assert_eq!(dashed("abcd::"), b"\x07abcd--0");
        let longest = dashed("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        assert_eq!((longest.len(), longest[0]), (40, 39));
    }
}

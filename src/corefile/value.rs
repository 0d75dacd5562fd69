//! Values as Go writes them: durations and addresses to listen on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Units of a duration, in nanoseconds; a longer unit stands before one that is its beginning.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
/// Digits after the point that count; a nanosecond has no more in any unit.
const FRACTION_DIGITS_MAX: usize = 13;

/// Reads `5s`, `1m30s`, `0.5s` or `0` (as Go's `time.ParseDuration`, without the negative ones).
pub(super) fn duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let (part, after) = duration_part(rest)?;
        total = total.checked_add(part)?;
        rest = after;
    }
    (!text.is_empty()).then(|| Duration::from_nanos(total))
}

/// Reads one number with its unit, in nanoseconds, and returns what follows.
fn duration_part(text: &str) -> Option<(u64, &str)> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), digits);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let (unit_ns, rest) =
        UNITS.iter().find_map(|(name, ns)| Some((*ns, rest.strip_prefix(name)?)))?;
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let part = whole.checked_mul(unit_ns)?.checked_add(fraction_ns(fraction, unit_ns)?)?;
    Some((part, rest))
}

/// What the digits after the point are worth.
fn fraction_ns(digits: &str, unit_ns: u64) -> Option<u64> {
    let digits = &digits[..digits.len().min(FRACTION_DIGITS_MAX)];
    if digits.is_empty() {
        return Some(0);
    }
    let scale = 10u128.pow(digits.len() as u32);
    u64::try_from(digits.parse::<u128>().ok()? * u128::from(unit_ns) / scale).ok()
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Reads `:9153`, `localhost:9153`, `0.0.0.0:9153` or `[::1]:9153`.
///
/// No host and the unspecified IPv4 address mean every address of both families, `[::]`, as for
/// Go's `net.Listen`: a probe over IPv6 reaches a Corefile that says `0.0.0.0:9153`.
pub(super) fn listen_address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.rsplit_once(':')?;
    let port = digits_only(port)?.parse().ok()?;
    let address = match host {
        "" => Ipv6Addr::UNSPECIFIED.into(),
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        host => match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
            Some(inner) => IpAddr::V6(inner.parse().ok()?),
            None => IpAddr::V4(host.parse().ok()?),
        },
    };
    let is_every = address.is_unspecified();
    Some(SocketAddr::new(if is_every { Ipv6Addr::UNSPECIFIED.into() } else { address }, port))
}

/// The text, if it is digits: `u16::from_str` takes a `+` too.
pub(super) fn digits_only(text: &str) -> Option<&str> {
    text.bytes().all(|octet| octet.is_ascii_digit()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, ms) in [
            ("5s", Some(5_000)),
            ("1m30s", Some(90_000)),
            ("500ms", Some(500)),
            ("1h", Some(3_600_000)),
            ("0.5s", Some(500)),
            (".5s", Some(500)),
            ("1.s", Some(1_000)),
            ("1.5h", Some(5_400_000)),
            ("2000us", Some(2)),
            ("2000µs", Some(2)),
            ("3000000ns", Some(3)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("0.1234567890123456789s", Some(123)),
            ("5", None),
            ("s", None),
            (".s", None),
            ("-5s", None),
            ("5s5", None),
            ("5 s", None),
            ("1d", None),
            ("", None),
            ("99999999999999999999h", None),
            ("999999999999h", None),
        ] {
            let read = duration(text).map(|duration| duration.as_millis() as u64);
            assert_eq!(read, ms, "{text}");
        }
    }

    #[test]
    fn addresses_are_read_as_go_reads_them() {
        for (text, address) in [
            (":9153", Some("[::]:9153")),
            ("0.0.0.0:9153", Some("[::]:9153")),
            ("[::]:9153", Some("[::]:9153")),
            ("localhost:9153", Some("127.0.0.1:9153")),
            ("169.254.20.10:8080", Some("169.254.20.10:8080")),
            ("[::1]:80", Some("[::1]:80")),
            (":0", Some("[::]:0")),
            ("9153", None),
            ("example.org:80", None),
            ("::1:80", None),
            ("[127.0.0.1]:80", None),
            (":http", None),
            (":+80", None),
            (":65536", None),
            (":", None),
            ("", None),
        ] {
            assert_eq!(listen_address(text), address.map(|a| a.parse().unwrap()), "{text}");
        }
    }
}

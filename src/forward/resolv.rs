//! Where a directive forwards to: addresses of the Corefile and nameservers of resolv.conf.
//!
//! Of a resolv.conf only `nameserver` counts (`search` and `options` are the client's business).
//! An address may have a scope (`fe80::1%eth0`) and, as in OpenBSD, a port: `[192.0.2.1]:5353`.
//! Anything from `#` or `;` on is a comment.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};

use super::config::{TARGETS_MAX, Target};
use super::upstream::Place;

/// Octets read of one file; kubelet's are below 4 KiB.
pub const FILE_BYTES_MAX: u64 = 65_536;
const PORT: u16 = 53;

/// Why the targets of a directive cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unusable {
    #[error("forward: cannot read {file}: {reason}; mount the file or name addresses instead")]
    Unreadable { file: PathBuf, reason: String },
    #[error(
        "forward: no nameserver in {file}; add a line \"nameserver ADDRESS\" or name addresses"
    )]
    Empty { file: PathBuf },
    #[error("forward: no upstream given; add at least one address or file")]
    NoTarget,
}

/// Where a directive forwards to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Places {
    /// At most [`TARGETS_MAX`], in the order of the directive, each address once.
    pub kept: Vec<Place>,
    /// How many more there were.
    pub surplus: usize,
    /// What stood behind `nameserver` and is no address.
    pub unread: Vec<String>,
}

/// Reads the files among the targets and puts all places in order. Blocks.
///
/// # Errors
/// A file that cannot be read, or that names nobody, makes the whole directive unusable: what it
/// should have said is unknown, so the caller keeps what it has.
pub fn places(targets: &[Target]) -> Result<Places, Unusable> {
    let mut places = Places::default();
    for target in targets {
        match target {
            Target::Address(address) => places.add(*address, None),
            Target::ResolvConf(file) => {
                let found = nameservers(file)?;
                places.unread.extend(found.unread);
                for address in found.addresses {
                    places.add(address, Some(file));
                }
            }
        }
    }
    if places.kept.is_empty() { Err(Unusable::NoTarget) } else { Ok(places) }
}

impl Places {
    fn add(&mut self, address: SocketAddr, file: Option<&Path>) {
        if self.kept.iter().any(|place| place.address == address) {
            return;
        }
        if self.kept.len() == TARGETS_MAX {
            self.surplus += 1;
        } else {
            self.kept.push(Place { address, file: file.map(Path::to_path_buf) });
        }
    }
}

/// The `nameserver` lines of a file.
#[derive(Default)]
struct Nameservers {
    addresses: Vec<SocketAddr>,
    unread: Vec<String>,
}

/// The nameservers of a file.
fn nameservers(file: &Path) -> Result<Nameservers, Unusable> {
    let text = read(file).map_err(|error| Unusable::Unreadable {
        file: file.to_path_buf(),
        reason: error.to_string(),
    })?;
    let found = parse(&text, interface_index);
    if found.addresses.is_empty() {
        return Err(Unusable::Empty { file: file.to_path_buf() });
    }
    Ok(found)
}

fn read(file: &Path) -> io::Result<String> {
    let mut octets = Vec::new();
    File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("larger than 64 KiB"));
    }
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

/// The addresses of the `nameserver` lines; `scope` gives the index of an interface.
fn parse(text: &str, scope: impl Fn(&str) -> Option<u32>) -> Nameservers {
    let mut found = Nameservers::default();
    for line in text.lines() {
        let said = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = said.split_whitespace();
        let (Some("nameserver"), Some(word)) = (words.next(), words.next()) else { continue };
        match address(word, &scope) {
            Some(address) => found.addresses.push(address),
            None => found.unread.push(word.to_string()),
        }
    }
    found
}

/// Reads `192.0.2.1`, `2001:db8::1`, `fe80::1%eth0`, each also as `[…]` and `[…]:port`.
fn address(word: &str, scope: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let (host, port) = match word.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => (word, ""),
    };
    let port = if port.is_empty() { PORT } else { port.strip_prefix(':')?.parse().ok()? };
    match host.split_once('%') {
        None => Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, port)),
        Some((ip, zone)) => {
            let ip: Ipv6Addr = ip.parse().ok()?;
            Some(SocketAddrV6::new(ip, port, 0, zone.parse().ok().or_else(|| scope(zone))?).into())
        }
    }
}

/// The index of a network interface, as the kernel publishes it.
fn interface_index(name: &str) -> Option<u32> {
    // The kernel allows 15 octets without a slash; more must not become part of a path.
    if name.is_empty() || name.len() > 15 || name.contains('/') || name.starts_with("..") {
        return None;
    }
    let file = Path::new("/sys/class/net").join(name).join("ifindex");
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<String> {
        let scope = |name: &str| (name == "eth0").then_some(2);
        parse(text, scope).addresses.iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn nameservers_are_read_and_all_else_is_not() {
        let text = "# made by hand\n\
                    search shop.svc.cluster.local\n\
                    nameserver 192.0.2.1 # the first\n\
                    \tnameserver\t2001:db8::1;the second\n\
                    ;nameserver 192.0.2.9\n\
                    nameservers 192.0.2.9\n\
                    options ndots:5\n";
        assert_eq!(parsed(text), ["192.0.2.1:53", "[2001:db8::1]:53"]);
    }

    #[test]
    fn addresses_may_have_a_scope_and_a_port() {
        let text = "nameserver fe80::1%eth0\n\
                    nameserver fe80::2%7\n\
                    nameserver [fe80::3%eth0]:5353\n\
                    nameserver [192.0.2.1]:5353\n\
                    nameserver [192.0.2.2]\n";
        let expected = [
            "[fe80::1%2]:53",
            "[fe80::2%7]:53",
            "[fe80::3%2]:5353",
            "192.0.2.1:5353",
            "192.0.2.2:53",
        ];
        assert_eq!(parsed(text), expected);
    }

    #[test]
    fn lines_that_are_no_address_are_left_out() {
        for word in ["localhost", "192.0.2.1:53", "fe80::1%none", "[::1", "[::1]x", "1%eth0"] {
            let found = parse(&format!("nameserver\nnameserver {word}\n"), |_| None);
            assert!(found.addresses.is_empty(), "{word}");
            assert_eq!(found.unread, [word]);
        }
    }

    #[test]
    fn the_loopback_interface_has_an_index_and_a_path_has_none() {
        assert!(interface_index("lo").is_some());
        assert_eq!(interface_index("../net/lo"), None);
    }

    #[test]
    fn fifteen_places_are_kept_each_once() {
        let target = |last: u8| Target::Address(SocketAddr::from(([192, 0, 2, last], 53)));
        let targets: Vec<Target> = (0..20).chain([0, 1]).map(target).collect();
        let places = places(&targets).unwrap();
        assert_eq!((places.kept.len(), places.surplus), (TARGETS_MAX, 5));
        assert_eq!(places.kept[14].address.to_string(), "192.0.2.14:53");
    }

    #[test]
    fn a_file_that_names_nobody_is_an_error_with_a_remedy() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let empty = places(&[Target::ResolvConf(file.path().to_path_buf())]).unwrap_err();
        let told = empty.to_string();
        assert!(told.contains(file.path().to_str().unwrap()) && told.contains("add a line"));
        let missing = places(&[Target::ResolvConf("/nowhere/resolv.conf".into())]).unwrap_err();
        assert!(missing.to_string().starts_with("forward: cannot read /nowhere/resolv.conf: "));
        assert_eq!(places(&[]), Err(Unusable::NoTarget));
    }
}

//! resolv.conf as glibc reads it: line by line, a keyword at the very beginning, the last `search`
//! or `domain` wins, what is unknown is skipped.
//!
//! Skipped too is what a libc would skip; but a line that its writer took for something and that a
//! libc takes for something else is an error here: a run with other settings than one thinks is
//! worth nothing. The environment (`LOCALDOMAIN`, `RES_OPTIONS`) and the domain of the host's own
//! name are not looked at: a run must not depend on where it was started.

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::exchange::plain;
use crate::load::Error;
use crate::wire::Name;

/// resolv.conf, or what a Pod would have there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvConf {
    /// At most [`SERVERS_MAX`] are used.
    pub servers: Vec<SocketAddr>,
    /// Search domains, in order.
    pub search: Vec<Name>,
    /// Names with fewer dots go through the search list first. Default 1; Kubernetes writes 5.
    pub ndots: u8,
    /// `timeout`: seconds per try, where it is written. See [`ResolvConf::timeout_s`].
    pub timeout_s: Option<u8>,
    /// `attempts`: tries per server, where it is written. See [`ResolvConf::attempts`].
    pub attempts: Option<u8>,
    /// Another server first each time.
    pub rotate: bool,
    /// A, then AAAA.
    pub single_request: bool,
    /// The same, each with a socket of its own.
    pub single_request_reopen: bool,
    /// TCP always.
    pub use_vc: bool,
    /// Never AAAA (glibc 2.36).
    pub no_aaaa: bool,
    /// OPT in each question of glibc. Others offer EDNS, or do not, by themselves.
    pub edns0: bool,
}

/// Most servers that resolvers use (glibc's MAXNS).
pub const SERVERS_MAX: usize = 3;
/// Most search domains: what Kubernetes lets a Pod have. glibc has no limit since 2.26.
pub const SEARCH_MAX: usize = 32;
/// Octets read of one file; kubelet's are below 4 KiB.
pub const FILE_BYTES_MAX: u64 = 65_536;
/// `timeout` is cut to that (glibc's RES_MAXRETRANS), in seconds.
pub const TIMEOUT_S_MAX: u8 = 30;
/// `attempts` are cut to that (glibc's RES_MAXRETRY).
pub const ATTEMPTS_MAX: u8 = 5;
/// `ndots` is cut to that (glibc's RES_MAXNDOTS).
pub const NDOTS_MAX: u8 = 15;

/// `timeout` of the libcs and Go where none is written. Others have their own.
const TIMEOUT_S_DEFAULT: u8 = 5;
/// `attempts`, likewise.
const ATTEMPTS_DEFAULT: u8 = 2;
/// The port of `nameserver` lines that name none.
const PORT: u16 = 53;
/// What a line can begin with and mean something.
const KEYWORDS: [&str; 4] = ["nameserver", "search", "domain", "options"];

impl Default for ResolvConf {
    /// An empty file, without the server on loopback that the libcs ask then.
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout_s: None,
            attempts: None,
            rotate: false,
            single_request: false,
            single_request_reopen: false,
            use_vc: false,
            no_aaaa: false,
            edns0: false,
        }
    }
}

impl ResolvConf {
    /// What kubelet writes for a Pod of that namespace (`dnsPolicy: ClusterFirst`).
    ///
    /// # Errors
    /// A namespace or a domain that is no domain name.
    pub fn of_pod(namespace: &str, domain: &str, servers: Vec<SocketAddr>) -> Result<Self, Error> {
        let name = |text: String| {
            Name::parse(&text)
                .map_err(|error| Error::Config(format!("search domain {text:?}: {error}")))
        };
        let search = vec![
            name(format!("{namespace}.svc.{domain}"))?,
            name(format!("svc.{domain}"))?,
            name(domain.to_owned())?,
        ];
        Ok(Self { search, ndots: 5, ..Self::default() }.with_servers(servers))
    }

    /// Reads a file. Blocks.
    ///
    /// # Errors
    /// What cannot be read, and as [`ResolvConf::parse`].
    pub fn read(path: &Path) -> Result<Self, Error> {
        let remedy = "give --resolv-conf a file as /etc/resolv.conf";
        let text = text_of(path).map_err(|error| Error::File {
            path: path.to_path_buf(),
            error,
            remedy,
        })?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads a text; `file` is what errors call it. There may be no `nameserver` in it.
    ///
    /// # Errors
    /// Lines that do not mean to a libc what they seem to mean, with file and line.
    pub fn parse(text: &str, file: &str) -> Result<Self, Error> {
        let mut conf = Self::default();
        for (line, number) in text.lines().zip(1..) {
            let wrong = |what: String| Error::Config(format!("{file}:{number}: {what}"));
            conf.line(line).map_err(wrong)?;
        }
        Ok(conf)
    }

    /// The same, asking these servers.
    #[must_use]
    pub fn with_servers(self, servers: Vec<SocketAddr>) -> Self {
        // As replies come from them.
        Self { servers: servers.into_iter().map(plain).collect(), ..self }
    }

    /// Seconds per try, of the libcs and Go.
    pub fn timeout_s(&self) -> u8 {
        self.timeout_s.unwrap_or(TIMEOUT_S_DEFAULT)
    }

    /// Tries per server, of the libcs and Go.
    pub fn attempts(&self) -> u8 {
        self.attempts.unwrap_or(ATTEMPTS_DEFAULT)
    }

    /// The servers that are used.
    pub fn used_servers(&self) -> &[SocketAddr] {
        &self.servers[..self.servers.len().min(SERVERS_MAX)]
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let mut words = line.split_ascii_whitespace();
        let Some(keyword) = words.next().filter(|word| KEYWORDS.contains(word)) else {
            return Ok(());
        };
        if !line.starts_with(keyword) {
            return Err(format!("glibc and musl skip an indented line; begin it with {keyword:?}"));
        }
        match keyword {
            "nameserver" => self.nameserver(words.next()),
            "search" => self.search(words),
            "domain" => self.search(words.take(1)),
            _ => words.try_for_each(|word| self.option(word)),
        }
    }

    fn nameserver(&mut self, word: Option<&str>) -> Result<(), String> {
        let address = word.and_then(address).ok_or_else(|| {
            format!("{:?} is no address; write it as nameserver 10.96.0.10", word.unwrap_or(""))
        })?;
        if self.servers.len() < SERVERS_MAX {
            self.servers.push(plain(address));
        } else {
            // As the libcs do, which say nothing.
            tracing::warn!(
                "nameserver {address} is not asked: resolvers use {SERVERS_MAX} of them"
            );
        }
        Ok(())
    }

    fn search<'w>(&mut self, words: impl Iterator<Item = &'w str>) -> Result<(), String> {
        let domain = |word: &str| match word.starts_with(['#', ';']) {
            true => Err(format!("{word:?} is a search domain to a libc; comments need own lines")),
            false => Name::parse(word).map_err(|error| format!("search domain {word:?}: {error}")),
        };
        let search: Vec<Name> = words.take(SEARCH_MAX + 1).map(domain).collect::<Result<_, _>>()?;
        if search.len() > SEARCH_MAX {
            return Err(format!(
                "more than {SEARCH_MAX} search domains; Kubernetes allows no more"
            ));
        }
        // glibc and musl keep what they had when nothing follows.
        if !search.is_empty() {
            self.search = search;
        }
        Ok(())
    }

    fn option(&mut self, word: &str) -> Result<(), String> {
        match word.split_once(':') {
            Some(("ndots", value)) => self.ndots = number(word, value, NDOTS_MAX)?,
            Some(("timeout", value)) => self.timeout_s = Some(number(word, value, TIMEOUT_S_MAX)?),
            Some(("attempts", value)) => self.attempts = Some(number(word, value, ATTEMPTS_MAX)?),
            _ => self.flag(word)?,
        }
        Ok(())
    }

    fn flag(&mut self, word: &str) -> Result<(), String> {
        match word {
            "rotate" => self.rotate = true,
            "single-request" => self.single_request = true,
            "single-request-reopen" => self.single_request_reopen = true,
            "use-vc" => self.use_vc = true,
            "no-aaaa" => self.no_aaaa = true,
            "edns0" => self.edns0 = true,
            "no-tld-query" | "no_tld_query" => {
                return Err(format!("option {word:?} is not simulated; remove it"));
            }
            "ndots" | "timeout" | "attempts" => {
                return Err(format!("option {word:?} needs a number; write it as {word}:2"));
            }
            _ => {}
        }
        Ok(())
    }
}

/// A number of an option, cut to its largest value as glibc does.
fn number(word: &str, value: &str, max: u8) -> Result<u8, String> {
    let is_number = !value.is_empty() && value.bytes().all(|octet| octet.is_ascii_digit());
    if !is_number {
        return Err(format!("{word:?}: {value:?} is no number; a libc reads 0 there"));
    }
    // What does not fit is more than any maximum.
    Ok(value.parse().unwrap_or(u8::MAX).min(max))
}

/// Reads `192.0.2.1`, `2001:db8::1`, and, as in OpenBSD, `[…]:port`.
fn address(word: &str) -> Option<SocketAddr> {
    let Some(rest) = word.strip_prefix('[') else {
        return Some(SocketAddr::new(word.parse::<IpAddr>().ok()?, PORT));
    };
    let (host, port) = rest.split_once(']')?;
    let port = if port.is_empty() { PORT } else { port.strip_prefix(':')?.parse().ok()? };
    Some(SocketAddr::new(host.parse().ok()?, port))
}

fn text_of(path: &Path) -> io::Result<String> {
    let mut octets = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("larger than 64 KiB"));
    }
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> ResolvConf {
        ResolvConf::parse(text, "resolv.conf").unwrap()
    }

    fn error(text: &str) -> String {
        ResolvConf::parse(text, "resolv.conf").unwrap_err().to_string()
    }

    fn search(conf: &ResolvConf) -> Vec<String> {
        conf.search.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_file_of_a_pod_is_read_as_it_is_made() {
        let text = "search shop.svc.cluster.local svc.cluster.local cluster.local\n\
                    nameserver 10.96.0.10\noptions ndots:5\n";
        let servers = vec!["10.96.0.10:53".parse().unwrap()];
        assert_eq!(parse(text), ResolvConf::of_pod("shop", "cluster.local", servers).unwrap());
    }

    #[test]
    fn numbers_are_cut_and_servers_too() {
        let conf = parse(
            "options ndots:99 timeout:300 attempts:9 rotate use-vc single-request\n\
             nameserver 10.0.0.1\nnameserver ::1\nnameserver [10.0.0.3]:5353\nnameserver 10.0.0.4",
        );
        assert_eq!((conf.ndots, conf.timeout_s(), conf.attempts()), (15, 30, 5));
        assert!(conf.rotate && conf.use_vc && conf.single_request && !conf.single_request_reopen);
        let servers: Vec<String> = conf.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[::1]:53", "10.0.0.3:5353"]);
    }

    #[test]
    fn written_defaults_are_told_from_none() {
        let (written, none) = (parse("options timeout:5 attempts:2"), parse(""));
        assert_eq!((written.timeout_s, written.attempts), (Some(5), Some(2)));
        assert_eq!((none.timeout_s, none.attempts), (None, None));
        assert_eq!((none.timeout_s(), none.attempts()), (5, 2));
    }

    #[test]
    fn servers_are_as_their_replies_come() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:53".parse().unwrap();
        let of_pod = ResolvConf::of_pod("shop", "cluster.local", vec![mapped]).unwrap();
        let plain = ["10.0.0.1:53".parse().unwrap()];
        assert_eq!(of_pod.servers, plain);
        assert_eq!(parse("nameserver ::ffff:10.0.0.1").servers, plain);
    }

    #[test]
    fn the_last_of_search_and_domain_wins() {
        assert_eq!(search(&parse("search a.b c\ndomain d e\nsearch\n")), ["d."]);
        assert_eq!(search(&parse("domain d\nsearch a.b C")), ["a.b.", "c."]);
    }

    #[test]
    fn what_a_libc_skips_is_skipped() {
        let text = "# nameserver 1\n; search x\nsortlist 10.0.0.0\noptions debug trust-ad new:1\n\
                    nameserver 10.0.0.1 # first\nfoo\n\n";
        let servers = vec!["10.0.0.1:53".parse().unwrap()];
        assert_eq!(parse(text), ResolvConf { servers, ..ResolvConf::default() });
    }

    #[test]
    fn what_means_something_else_than_it_seems_is_told_with_its_line() {
        assert_eq!(
            error("search a\nnameserver kube-dns"),
            "resolv.conf:2: \"kube-dns\" is no address; write it as nameserver 10.96.0.10"
        );
        for text in [
            "  nameserver 10.0.0.1",
            "nameserver",
            "search a # b",
            "search a..b",
            "options ndots:x",
            "options ndots",
            "options timeout:-1",
            "options no-tld-query",
        ] {
            assert!(error(text).starts_with("resolv.conf:1: "), "{text}");
        }
        assert!(error(&format!("search {}", "a ".repeat(33))).contains("more than 32"));
        assert!(ResolvConf::of_pod("a..b", "cluster.local", vec![]).is_err());
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(octets in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = ResolvConf::parse(&String::from_utf8_lossy(&octets), "f");
        }

        #[test]
        fn no_words_make_it_panic(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "nameserver", "search", "domain", "options", "ndots:", "timeout:99999999999",
                    "attempts:0", "\n", " ", "\t", "#", "[::1]:", "10.0.0.1", "a.b", "\r", ":", "é",
                ]),
                0..30,
            )
        ) {
            if let Ok(conf) = ResolvConf::parse(&words.concat(), "f") {
                prop_assert!(conf.servers.len() <= SERVERS_MAX && conf.search.len() <= SEARCH_MAX);
            }
        }
    }
}

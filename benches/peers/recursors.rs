//! The caches of Debian: each on one CPU and one thread, with all other names from our upstream.

use std::net::SocketAddr;
use std::path::Path;

use crate::programs::{Peer, SERVER_CPU, folder_with, free_port, local, start};

/// A server and how it is started.
pub struct Recursor {
    pub name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    /// Its configuration: file and text, with `PORT` and `UPSTREAM`.
    file: &'static str,
    text: &'static str,
    /// Between address and port of the upstream.
    separator: char,
    /// What it is asked for its version, and which word of the reply that is.
    pub version: (&'static str, &'static str),
}

pub const ALL: [Recursor; 4] = [
    Recursor {
        name: "Unbound",
        program: "/usr/sbin/unbound",
        arguments: &["-d", "-c", "unbound.conf"],
        file: "unbound.conf",
        text: UNBOUND,
        separator: '@',
        version: ("/usr/sbin/unbound", "-V"),
    },
    Recursor {
        name: "Knot Resolver",
        program: "/usr/sbin/kresd",
        arguments: &["-n", "-c", "kresd.conf", "."],
        file: "kresd.conf",
        text: KRESD,
        separator: '@',
        version: ("/usr/sbin/kresd", "--version"),
    },
    Recursor {
        name: "PowerDNS Recursor",
        program: "/usr/sbin/pdns_recursor",
        arguments: &["--config-dir=."],
        file: "recursor.conf",
        text: PDNS,
        separator: ':',
        version: ("/usr/sbin/pdns_recursor", "--version"),
    },
    Recursor {
        name: "dnsmasq",
        program: "/usr/sbin/dnsmasq",
        arguments: &["-k", "-C", "dnsmasq.conf"],
        file: "dnsmasq.conf",
        text: DNSMASQ,
        separator: '#',
        version: ("/usr/sbin/dnsmasq", "--version"),
    },
];

const UNBOUND: &str = "\
server:
    interface: 127.0.0.1
    port: PORT
    num-threads: 1
    do-daemonize: no
    chroot: \"\"
    username: \"\"
    directory: \".\"
    pidfile: \"\"
    use-syslog: no
    logfile: \"\"
    verbosity: 0
    module-config: \"iterator\"
    do-not-query-localhost: no
    so-rcvbuf: 4m
    msg-cache-size: 128m
    rrset-cache-size: 256m
    incoming-num-tcp: 200
forward-zone:
    name: \".\"
    forward-addr: UPSTREAM
remote-control:
    control-enable: no
";

const KRESD: &str = "\
net.listen('127.0.0.1', PORT, { kind = 'dns' })
cache.size = 512 * MB
trust_anchors.remove('.')
policy.add(policy.all(policy.FORWARD('UPSTREAM')))
";

const PDNS: &str = "\
local-address=127.0.0.1
local-port=PORT
forward-zones-recurse=.=UPSTREAM
dnssec=off
threads=1
pdns-distributes-queries=no
daemon=no
disable-syslog=yes
quiet=yes
loglevel=3
socket-dir=.
write-pid=no
security-poll-suffix=
qname-minimization=no
max-cache-entries=1000000
max-packetcache-entries=1000000
max-tcp-clients=200
";

const DNSMASQ: &str = "\
port=PORT
listen-address=127.0.0.1
bind-interfaces
no-resolv
no-hosts
server=UPSTREAM
cache-size=250000
dns-forward-max=1000
user=root
pid-file=
log-facility=-
";

impl Recursor {
    /// Starts it.
    ///
    /// # Errors
    /// It is not installed.
    pub fn start(&self, upstream: SocketAddr) -> Result<Peer, String> {
        installed(self.program)?;
        let port = free_port();
        let upstream = format!("{}{}{}", upstream.ip(), self.separator, upstream.port());
        let text = self.text.replace("PORT", &port.to_string()).replace("UPSTREAM", &upstream);
        let folder = folder_with(&[(self.file, &text)])?;
        let arguments = self.arguments.iter().map(|&it| it.to_owned()).collect();
        let server = start(self.name, SERVER_CPU, Path::new(self.program), arguments, folder)?;
        Ok(Peer { server, address: local(port), metrics: None, is_echo: false })
    }
}

/// # Errors
/// The program is not there.
pub fn installed(program: &str) -> Result<(), String> {
    let path = Path::new(program);
    let name = path.file_name().unwrap_or_default().display();
    let why = || format!("{name} is not installed; `run` does it as root");
    path.exists().then_some(()).ok_or_else(why)
}

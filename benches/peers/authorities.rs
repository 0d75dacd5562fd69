//! The authoritative servers of Debian: each on one CPU and one worker, with a zone of the same
//! names.

use std::fmt::Write;
use std::path::Path;

use crate::programs::{Peer, SERVER_CPU, folder_with, free_port, local, start};
use crate::questions::Kind;
use crate::recursors::installed;
use crate::site::Site;

/// A server and how it is started.
pub struct Authority {
    pub name: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    /// Its configuration, with `PORT`.
    text: &'static str,
    pub version: (&'static str, &'static str),
}

pub const ALL: [Authority; 2] = [
    Authority {
        name: "NSD",
        program: "/usr/sbin/nsd",
        arguments: &["-d", "-c", "server.conf"],
        text: NSD,
        version: ("/usr/sbin/nsd", "-v"),
    },
    Authority {
        name: "Knot DNS",
        program: "/usr/sbin/knotd",
        arguments: &["-c", "server.conf"],
        text: KNOT,
        version: ("/usr/sbin/knotd", "--version"),
    },
];

/// Debian's NSD limits the rate of like replies unless it is told not to.
const NSD: &str = "\
server:
    ip-address: 127.0.0.1@PORT
    server-count: 1
    username: \"\"
    zonesdir: \".\"
    database: \"\"
    pidfile: \"\"
    zonelistfile: \"zone.list\"
    xfrdfile: \"\"
    xfrdir: \".\"
    receive-buffer-size: 4194304
    send-buffer-size: 4194304
    tcp-count: 200
    minimal-responses: yes
    rrl-ratelimit: 0
    rrl-whitelist-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: \"cluster.local\"
    zonefile: \"zone\"
";

const KNOT: &str = "\
server:
    listen: 127.0.0.1@PORT
    rundir: \".\"
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    tcp-max-clients: 200
database:
    storage: \".\"
log:
  - target: stderr
    any: warning
zone:
  - domain: cluster.local
    storage: \".\"
    file: zone
    zonefile-sync: -1
    journal-content: none
";

/// The names that are asked for, as a zone.
pub fn zone(site: &Site) -> String {
    let mut text = "\
$ORIGIN cluster.local.
$TTL 30
@ SOA ns.dns hostmaster 1 7200 1800 86400 30
@ NS ns.dns
ns.dns A 10.96.0.10
"
    .to_owned();
    for n in Kind::ClusterIp.numbers(&site.cluster, site.names) {
        let (name, address) = (site.cluster.dns_name(n), site.cluster.cluster_ip(n));
        writeln!(text, "{name} A {address}").expect("memory");
    }
    text
}

impl Authority {
    /// Starts it, and checks what it answers.
    ///
    /// # Errors
    /// It is not installed, or answers wrongly.
    pub fn start(&self, site: &Site, zone: &str) -> Result<Peer, String> {
        installed(self.program)?;
        let port = free_port();
        let text = self.text.replace("PORT", &port.to_string());
        let folder = folder_with(&[("server.conf", &text), ("zone", zone)])?;
        let arguments = self.arguments.iter().map(|&it| it.to_owned()).collect();
        let server = start(self.name, SERVER_CPU, Path::new(self.program), arguments, folder)?;
        let mut peer = Peer { server, address: local(port), metrics: None, is_echo: false };
        site.check(&mut peer, &[Kind::ClusterIp, Kind::NxDomain])?;
        Ok(peer)
    }
}

//! Knot DNS and NSD as secondaries, on a port of loopback, in a folder of their own.

use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::ZONES;
use crate::process::Process;
use crate::server::Server;

/// A running secondary.
pub struct Secondary {
    process: Process,
    pub port: u16,
    /// What it logs of a zone that came by differences; empty when it logs nothing of the kind.
    sign: &'static str,
    _folder: TempDir,
}

/// Whether a program is installed.
pub fn is_here(program: &str) -> bool {
    let version = if program == "knotd" { "--version" } else { "-v" };
    let mut command = command(program);
    command
        .arg(version)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// A program, also where Debian keeps servers.
fn command(program: &str) -> Command {
    let installed = Path::new("/usr/sbin").join(program);
    Command::new(if installed.exists() { installed } else { program.into() })
}

impl Secondary {
    /// Knot DNS with the zones of the primary.
    pub fn knot(port: u16, primary: u16) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().display();
        let zones: String = ZONES
            .iter()
            .map(|zone| format!("  - domain: {zone}\n    master: primary\n    acl: all\n"))
            .collect();
        let config = format!(
            "server:\n    rundir: {path}\n    listen: 127.0.0.1@{port}\n\
             database:\n    storage: {path}\n\
             log:\n  - target: stderr\n    any: info\n\
             remote:\n  - id: primary\n    address: 127.0.0.1@{primary}\n\
             acl:\n  - id: all\n    address: 127.0.0.1\n    action: [notify, transfer]\n\
             template:\n  - id: default\n    storage: {path}\n\
             zone:\n{zones}"
        );
        let file = folder.path().join("knot.conf");
        std::fs::write(&file, config).unwrap();
        let process = Process::start("knotd", command("knotd").arg("-c").arg(file));
        Self { process, port, sign: "IXFR, incoming", _folder: folder }
    }

    /// NSD with the zones of the primary.
    pub fn nsd(port: u16, primary: u16) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().display();
        let zones: String = ZONES
            .iter()
            .map(|zone| {
                format!(
                    "zone:\n    name: {zone}\n    zonefile: {path}/{zone}zone\n\
                     \x20   request-xfr: 127.0.0.1@{primary} NOKEY\n\
                     \x20   allow-notify: 127.0.0.1 NOKEY\n\
                     \x20   provide-xfr: 127.0.0.1 NOKEY\n"
                )
            })
            .collect();
        let config = format!(
            "server:\n    ip-address: 127.0.0.1@{port}\n    server-count: 1\n    verbosity: 2\n\
             \x20   username: \"\"\n    chroot: \"\"\n    database: \"\"\n    zonesdir: {path}\n\
             \x20   pidfile: {path}/nsd.pid\n    xfrdfile: {path}/xfrd.state\n    xfrdir: {path}\n\
             \x20   zonelistfile: {path}/zone.list\n\
             remote-control:\n    control-enable: no\n{zones}"
        );
        let file = folder.path().join("nsd.conf");
        std::fs::write(&file, config).unwrap();
        let process = Process::start("nsd", command("nsd").arg("-d").arg("-c").arg(file));
        Self { process, port, sign: "received update to serial", _folder: folder }
    }

    /// Shows by its own word that it followed by differences, and had nothing to complain of.
    pub fn check(&self, primary: &Server) {
        let log = self.process.log();
        let count = log.iter().filter(|line| line.contains(self.sign)).count();
        assert!(count > 0, "no {:?} in\n{}", self.sign, log.join("\n"));
        // NSD 4.6 says so of itself when it takes up two versions at once and misses the first one;
        // it has the second one then, which is what is compared.
        let is_ours = |line: &&String| !line.contains("update failed, restarting transfer");
        for word in ["error:", "bad packet", "FORMERR", "malformed"] {
            let of_word = log.iter().filter(|line| line.contains(word));
            let bad: Vec<&String> = of_word.filter(is_ours).collect();
            assert!(bad.is_empty(), "{bad:#?} of a primary that says {:?}", primary.complaints());
        }
    }
}

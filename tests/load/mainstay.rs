//! A Mainstay on loopback with a small cluster in a file.

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use mainstay::wire::{RecordType, message};
use tempfile::TempDir;

use crate::ports;
use crate::process::Process;
use crate::running::wait_until;

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mainstay");

/// A Service with an address, and one without.
pub const OBJECTS: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.1.1, ports: [{name: http, port: 80, protocol: TCP}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, ports: [{name: sql, port: 5432, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints:
- {addresses: [10.244.0.1], hostname: db-0, conditions: {ready: true}}
- {addresses: [10.244.0.2], hostname: db-1, conditions: {ready: true}}
ports: [{name: sql, port: 5432, protocol: TCP}]
";

/// Files of a server, and its port.
pub struct Site {
    folder: TempDir,
    port: u16,
}

/// A running one. Dropping it kills it.
pub struct Mainstay {
    site: Site,
    process: Process,
}

impl Site {
    /// With more directives, such as `forward`.
    pub fn new(directives: &str) -> Self {
        let (folder, port) = (TempDir::new().unwrap(), ports::free());
        let objects = folder.path().join("objects.yaml");
        std::fs::write(&objects, OBJECTS).unwrap();
        let corefile = format!(
            ".:{port} {{\n    kubernetes cluster.local in-addr.arpa ip6.arpa {{\n        \
             manifests {}\n    }}\n    {directives}\n}}\n",
            objects.display()
        );
        std::fs::write(folder.path().join("Corefile"), corefile).unwrap();
        Self { folder, port }
    }

    /// Where it answers.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The file of its objects.
    pub fn manifests(&self) -> String {
        self.folder.path().join("objects.yaml").display().to_string()
    }

    /// The command that starts it.
    pub fn words(&self) -> Vec<String> {
        let corefile = self.folder.path().join("Corefile").display().to_string();
        [PROGRAM, "-conf", &corefile, "--bind=127.0.0.1", "--workers=1"].map(str::to_owned).into()
    }
}

impl Mainstay {
    /// Starts one, and waits until it answers.
    pub fn start(directives: &str) -> Self {
        let site = Site::new(directives);
        let words = site.words();
        let process = Process::start("mainstay", Command::new(&words[0]).args(&words[1..]));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        socket.connect(site.address()).unwrap();
        let question = message::question("web.shop.svc.cluster.local.", RecordType::A, None);
        wait_until("Mainstay answers", || {
            let mut reply = [0; 512];
            let is_sent = socket.send(&question).is_ok();
            // Records, not SERVFAIL before the first sync.
            is_sent && socket.recv(&mut reply).is_ok() && reply[7] == 1
        });
        Self { site, process }
    }

    pub fn address(&self) -> String {
        self.site.address()
    }

    pub fn manifests(&self) -> String {
        self.site.manifests()
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether SIGSTOP holds it.
    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        stat.rsplit(')').next().unwrap().starts_with(" T")
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.process.ended().is_some()
    }
}

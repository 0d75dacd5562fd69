//! CoreDNS and Mainstay, each with one server block per variant of the `kubernetes` directive.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::ports;
use crate::process::Process;

/// Names the variants to run, with commas between; else all.
const CHOSEN: &str = "PARITY_VARIANTS";
/// Longest time until both listen.
const START_MAX: Duration = Duration::from_secs(60);

/// One way to write the directive.
pub struct Variant {
    pub name: &'static str,
    /// Zones, then options.
    zones: &'static str,
    options: &'static str,
}

impl Variant {
    /// Whether a zone is among those of the directive.
    pub fn serves(&self, zone: &str) -> bool {
        self.zones.split(' ').any(|it| it == zone)
    }

    /// Whether a reverse name of the cluster's endpoints belongs to the directive, and the slices
    /// are watched.
    pub fn serves_address(&self, name: &str) -> bool {
        let is_served = self.serves("in-addr.arpa") || name.ends_with(".244.10.in-addr.arpa");
        is_served && !self.says("noendpoints")
    }

    /// Whether a word is among the options.
    pub fn says(&self, option: &str) -> bool {
        self.options.split_whitespace().any(|word| word == option)
    }
}

/// As kubeadm writes it; then options that change what the others say.
pub const VARIANTS: [Variant; 6] = [
    Variant {
        name: "defaults",
        zones: "cluster.local in-addr.arpa ip6.arpa",
        options: "pods insecure\nfallthrough in-addr.arpa ip6.arpa\nttl 30",
    },
    Variant {
        name: "verified",
        zones: "cluster.local in-addr.arpa ip6.arpa",
        options: "pods verified\nendpoint_pod_names",
    },
    Variant {
        name: "noendpoints",
        zones: "cluster.local in-addr.arpa ip6.arpa",
        options: "ignore empty_service\nnoendpoints\nfallthrough staging.svc.cluster.local",
    },
    Variant {
        name: "empty-service",
        zones: "cluster.local in-addr.arpa ip6.arpa",
        options: "ignore empty_service\nttl 0",
    },
    Variant {
        name: "zonal",
        zones: "cluster.local clusterset.local in-addr.arpa ip6.arpa",
        options: "zonal\nmulticluster clusterset.local\npods insecure",
    },
    Variant {
        name: "dual-stack",
        zones: "cluster.local 10.96.0.0/12 10.244.0.0/16 fd00:10:96::/112 fd00:10:244::/64",
        options: "ttl 3600",
    },
];

/// One variant on both servers.
pub struct Pair {
    pub variant: &'static Variant,
    /// The port of CoreDNS.
    pub theirs: u16,
    /// The port of Mainstay.
    pub ours: u16,
}

/// Both servers. Dropping it ends them.
pub struct Servers {
    pub pairs: Vec<Pair>,
    /// Whether no variant was left out.
    pub are_all: bool,
    coredns: Process,
    mainstay: Process,
    _folder: TempDir,
}

impl Servers {
    /// Starts both, and waits until they listen.
    pub fn start(coredns: &Path, kubeconfig: &Path, upstream: &str) -> Self {
        let pairs = chosen();
        let folder = TempDir::new().unwrap();
        let corefile = |name: &str, port: &dyn Fn(&Pair) -> u16| {
            let path = folder.path().join(name);
            let blocks = pairs.iter().map(|pair| block(pair, port(pair), kubeconfig, upstream));
            std::fs::write(&path, blocks.collect::<String>()).unwrap();
            path
        };
        let start = |program: &Path, name: &str, corefile: PathBuf, arguments: &[&str]| {
            Process::start(name, Command::new(program).arg("-conf").arg(corefile).args(arguments))
        };
        let theirs = start(coredns, "CoreDNS", corefile("theirs", &|pair| pair.theirs), &[]);
        let mainstay = Path::new(env!("CARGO_BIN_EXE_mainstay"));
        let ours = corefile("ours", &|pair| pair.ours);
        let ours = start(mainstay, "Mainstay", ours, &["--workers=1"]);
        let are_all = pairs.len() == VARIANTS.len();
        let mut servers = Self { pairs, are_all, coredns: theirs, mainstay: ours, _folder: folder };
        servers.wait();
        servers
    }

    /// CoreDNS listens when it knows the cluster, Mainstay at once.
    fn wait(&mut self) {
        let begun = Instant::now();
        let ports = self.pairs.iter().flat_map(|pair| [pair.theirs, pair.ours]);
        for port in ports.collect::<Vec<_>>() {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
                for server in [&mut self.coredns, &mut self.mainstay] {
                    assert!(
                        server.ended().is_none(),
                        "a server ended: {}",
                        server.log().join("\n")
                    );
                }
                assert!(begun.elapsed() < START_MAX, "nobody listens on port {port}");
                sleep(Duration::from_millis(10));
            }
        }
    }
}

/// The server block of a variant. The root belongs to the upstream, for targets that are outside.
fn block(pair: &Pair, port: u16, kubeconfig: &Path, upstream: &str) -> String {
    let Variant { zones, options, .. } = pair.variant;
    let mut text = format!(".:{port} {{\n    kubernetes {zones} {{\n");
    writeln!(text, "        kubeconfig {}", kubeconfig.display()).unwrap();
    options.lines().for_each(|option| writeln!(text, "        {option}").unwrap());
    writeln!(text, "    }}\n    forward . {upstream}\n    errors\n}}").unwrap();
    text
}

fn chosen() -> Vec<Pair> {
    let wanted = std::env::var(CHOSEN).unwrap_or_default();
    let wanted: Vec<&str> = wanted.split(',').filter(|name| !name.is_empty()).collect();
    for name in &wanted {
        assert!(VARIANTS.iter().any(|variant| variant.name == *name), "{CHOSEN}: no {name:?}");
    }
    let is_wanted = |variant: &&Variant| wanted.is_empty() || wanted.contains(&variant.name);
    let pair = |variant| Pair { variant, theirs: ports::free(), ours: ports::free() };
    VARIANTS.iter().filter(is_wanted).map(pair).collect()
}

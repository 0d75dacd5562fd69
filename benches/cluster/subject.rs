//! Which server is measured, and how is it told of the cluster? Mainstay and CoreDNS, with the same
//! Corefile.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::apiserver::objects::{Cluster, Role, mix};
use crate::support::apiserver::store::now_us;
use crate::support::machine::{self, Memory};
use crate::support::packets::{A, Edns, Expected, NOERROR, PTR, is_right, question};
use crate::support::server::{Probe, Server, Start, ask, check};

/// Where servers run.
pub const SERVER_CPU: usize = 0;
/// Longest time until a cluster is known.
const KNOWN_MAX: Duration = Duration::from_secs(60);
/// Time between two looks at a server that does not know the cluster yet.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Names that are looked at once the last one is known.
const SAMPLES: usize = 300;
/// A server is at rest when it has used less than a hundredth of a CPU for so long.
const REST: Duration = Duration::from_secs(2);
/// Longest wait for that.
const REST_MAX: Duration = Duration::from_secs(30);

/// A program to measure.
#[derive(Clone, Debug)]
pub struct Program {
    pub name: String,
    pub path: PathBuf,
}

/// A running server.
pub struct Subject {
    pub server: Server,
    pub address: SocketAddr,
    metrics: SocketAddr,
}

impl Program {
    pub fn is_mainstay(&self) -> bool {
        self.name.starts_with("mainstay")
    }

    /// Starts it with the cluster of an API server. Other names are asked of `upstream`.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn start(&self, api: &str, upstream: Option<SocketAddr>) -> Result<Subject, String> {
        self.start_with(api, upstream, None)
    }

    /// The same with a folder for what outlives it, if it is one that keeps something.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn start_with(
        &self,
        api: &str,
        upstream: Option<SocketAddr>,
        state: Option<&Path>,
    ) -> Result<Subject, String> {
        let folder = TempDir::new().map_err(|error| format!("no folder: {error}"))?;
        let [port, metrics, health, ready] = free_ports();
        let forward = upstream.map_or(String::new(), |it| format!("    forward . {it}\n"));
        let corefile = format!(
            ".:{port} {{
    errors
    health 127.0.0.1:{health}
    ready 127.0.0.1:{ready}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        endpoint {api}
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }}
    prometheus 127.0.0.1:{metrics}
{forward}    cache 30 {{
        disable success cluster.local
        disable denial cluster.local
    }}
    loadbalance
}}
"
        );
        let fails = |error| format!("cannot write a Corefile: {error}");
        std::fs::write(folder.path().join("Corefile"), corefile).map_err(fails)?;
        let state = state.map(|path| ("MAINSTAY_STATE".to_owned(), path.display().to_string()));
        let server = Server::start(Start {
            name: &self.name,
            cpus: &SERVER_CPU.to_string(),
            program: &self.path,
            arguments: ["-conf", "Corefile"].map(str::to_owned).to_vec(),
            folder,
            environment: state.into_iter().collect(),
        })?;
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Subject { server, address: local(port), metrics: local(metrics) })
    }

    /// Version, as the program tells it.
    pub fn version(&self) -> String {
        let argument = if self.is_mainstay() { "--version" } else { "-version" };
        let output = std::process::Command::new(&self.path).arg(argument).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let line = text.unwrap_or_default().lines().next().unwrap_or_default().to_owned();
        format!("{line} ({})", self.path.file_name().unwrap_or_default().display())
    }
}

impl Subject {
    pub fn memory(&self) -> Memory {
        machine::memory(self.server.pid())
    }

    pub fn reset_peak(&self) {
        machine::reset_peak(self.server.pid());
    }

    /// Waits until the name that is listed last is known, and then looks at a sample of all.
    /// Answers when that was, in µs since the epoch.
    ///
    /// # Errors
    /// Names are not known in time, or not rightly.
    pub fn wait_known(&self, cluster: &Cluster) -> Result<u64, String> {
        let last = probe(cluster, cluster.all_services() - 1);
        self.wait_right(&last)?;
        let known_us = now_us();
        let stride = (cluster.all_services() / SAMPLES).max(1);
        for n in (0..cluster.all_services()).step_by(stride) {
            for probe in [probe(cluster, n), reverse_probe(cluster, n)] {
                let reply = ask(self.address, &probe.packet).map_err(|error| error.to_string())?;
                check(&reply, &probe).map_err(|why| format!("Service {n}: {why}"))?;
            }
        }
        Ok(known_us)
    }

    /// Asks until the answer is right.
    ///
    /// # Errors
    /// It is not, in time.
    pub fn wait_right(&self, probe: &Probe) -> Result<(), String> {
        let socket = UdpSocket::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
        socket.connect(self.address).map_err(|error| error.to_string())?;
        socket.set_read_timeout(Some(LOOK_EVERY)).map_err(|error| error.to_string())?;
        let began = Instant::now();
        let mut reply = [0; 4096];
        while began.elapsed() < KNOWN_MAX {
            let asked = Instant::now();
            // Nobody may listen yet.
            if socket.send(&probe.packet).is_ok()
                && let Ok(len) = socket.recv(&mut reply)
                && check(&reply[..len], probe).is_ok()
            {
                return Ok(());
            }
            // A server that says at once that it does not know yet is not to be kept busy by us.
            std::thread::sleep(LOOK_EVERY.saturating_sub(asked.elapsed()));
        }
        Err(format!("{}: not known in {KNOWN_MAX:?}\n{}", self.server.name, self.server.log()))
    }

    /// Waits until it does nothing any more, and until its memory stays.
    pub fn wait_rest(&self) {
        let began = Instant::now();
        while began.elapsed() < REST_MAX {
            let (cpu, memory) = (self.server.cpu_time(), self.memory().now);
            std::thread::sleep(REST);
            let used = self.server.cpu_time().saturating_sub(cpu);
            let change = self.memory().now.abs_diff(memory);
            if used < REST / 100 && change < memory / 100 {
                return;
            }
        }
    }

    /// The sum of all samples of a metric whose labels hold these words.
    pub fn metric(&self, name: &str, words: &[&str]) -> f64 {
        let page = scrape(self.metrics).unwrap_or_default();
        let lines = page.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                && words.iter().all(|word| line.contains(word))
        });
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

/// The question for the address of a Service, and what is right.
pub fn probe(cluster: &Cluster, n: usize) -> Probe {
    let (name, address) = match cluster.role(n) {
        Role::ClusterIp => (cluster.dns_name(n), cluster.cluster_ip(n)),
        Role::Probe => (cluster.dns_name(n), cluster.endpoint(n, 0)),
        Role::Stateful => {
            let at = mix(n as u64) as usize % cluster.endpoint_count(n);
            let name = format!("{}.{}", cluster.hostname(n, at), cluster.dns_name(n));
            (name, cluster.endpoint(n, at))
        }
        // An endpoint without a name is called after its address.
        Role::Headless | Role::Huge => {
            let at = mix(n as u64) as usize % cluster.endpoint_count(n);
            let address = cluster.endpoint(n, at);
            let label = address.to_string().replace('.', "-");
            (format!("{label}.{}", cluster.dns_name(n)), address)
        }
    };
    let expected = Expected { rcode: NOERROR, answers: 1 };
    let packet = question(&name, A, Edns::With);
    Probe { packet, expected, holds: vec![address.octets().to_vec()] }
}

/// The question for the name of a ClusterIP or an endpoint, and what is right.
fn reverse_probe(cluster: &Cluster, n: usize) -> Probe {
    let address = match cluster.role(n) {
        Role::ClusterIp => cluster.cluster_ip(n),
        _ => cluster.endpoint(n, 0),
    };
    let [a, b, c, d] = address.octets();
    let packet = question(&format!("{d}.{c}.{b}.{a}.in-addr.arpa."), PTR, Edns::With);
    let label = cluster.name(n).into_bytes();
    Probe { packet, expected: Expected { rcode: NOERROR, answers: 1 }, holds: vec![label] }
}

/// The address in a reply with one A record and nothing behind it.
pub fn address_in(reply: &[u8]) -> Option<Ipv4Addr> {
    let is_one = is_right(reply, Expected { rcode: NOERROR, answers: 1 });
    let octets: [u8; 4] = *reply.last_chunk()?;
    is_one.then(|| octets.into())
}

/// A port of loopback where nobody listens.
pub fn closed_port() -> u16 {
    let [port] = free_ports();
    port
}

/// Ports of loopback that nobody has, neither for UDP nor for TCP.
fn free_ports<const N: usize>() -> [u16; N] {
    // All are held until all are chosen, so that no two are the same.
    let held: [_; N] = std::array::from_fn(|_| {
        std::iter::repeat_with(|| UdpSocket::bind("127.0.0.1:0").expect("a free port"))
            .find_map(|udp| {
                let port = udp.local_addr().ok()?.port();
                let tcp = TcpListener::bind(("127.0.0.1", port)).ok()?;
                Some((port, udp, tcp))
            })
            .expect("it repeats for ever")
    });
    held.map(|(port, ..)| port)
}

/// The page of /metrics.
fn scrape(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: bench\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

/// A program at a path.
pub fn program(name: &str, path: &Path) -> Program {
    Program { name: name.to_owned(), path: path.to_owned() }
}

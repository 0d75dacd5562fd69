//! How Mainstay, CoreDNS and the echo are started.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::packets::{Expected, NOERROR};
use crate::support::server::{Probe, Server, Start};

/// The Corefile of every kubeadm cluster.
const KUBEADM: &str = include_str!("../../tests/corefiles/valid/kubeadm.Corefile");
/// The echo, in C.
const ECHO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/echo.c");
/// Time that a server may take until it answers: 200 000 Services have to be read.
const START_MAX: Duration = Duration::from_secs(60);
/// The CPU of a server under test. The questions come from [`CLIENT_CPU`].
pub const SERVER_CPU: &str = "0";
pub const CLIENT_CPU: usize = 1;

/// A server that answers.
pub struct Peer {
    pub server: Server,
    pub address: SocketAddr,
    /// Where its metrics are, if it has some.
    pub metrics: Option<SocketAddr>,
    pub is_echo: bool,
}

/// Where a server gets its cluster and its other names, and what it may use.
#[derive(Clone)]
pub struct Setting {
    /// URL of the API server.
    pub api: String,
    pub upstream: SocketAddr,
    /// As `taskset -c` has them.
    pub cpus: &'static str,
    /// Of Mainstay; none leaves it the choice.
    pub workers: Option<usize>,
    /// Foreign names that are kept; none as the stock Corefile has it, 9984 for 30 s.
    pub foreign_names: Option<usize>,
}

impl Peer {
    /// The name for tables.
    pub fn name(&self) -> &str {
        &self.server.name
    }

    /// Waits until it answers all of these rightly.
    ///
    /// # Errors
    /// It does not.
    pub fn wait(&mut self, probes: &[Probe]) -> Result<(), String> {
        for probe in probes {
            self.server.wait(self.address, probe, START_MAX)?;
        }
        Ok(())
    }
}

/// A port of 127.0.0.1 that nobody has, neither for UDP nor for TCP.
pub fn free_port() -> u16 {
    loop {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port of loopback");
        let address = socket.local_addr().expect("the port that it was bound to");
        if TcpListener::bind(address).is_ok() {
            return address.port();
        }
    }
}

/// Loopback with a port.
pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Compiles the echo into a folder.
///
/// # Errors
/// There is no C compiler.
pub fn compile_echo(folder: &Path) -> Result<PathBuf, String> {
    let program = folder.join("echo");
    let status = Command::new("cc").args(["-O2", "-o"]).arg(&program).arg(ECHO).status();
    match status {
        Ok(status) if status.success() => Ok(program),
        Ok(status) => Err(format!("cc echo.c: {status}")),
        Err(error) => Err(format!("cannot run cc: {error}; install a C compiler")),
    }
}

/// The echo. With `octets`, its replies are that long.
///
/// # Errors
/// It does not start.
pub fn echo(program: &Path, octets: Option<usize>) -> Result<Peer, String> {
    let port = free_port();
    let mut arguments = vec![port.to_string()];
    arguments.extend(octets.map(|octets| octets.to_string()));
    let name = octets.map_or("echo".to_owned(), |octets| format!("echo of {octets} octets"));
    let server = start(&name, SERVER_CPU, program, arguments, folder()?)?;
    let mut peer = Peer { server, address: local(port), metrics: None, is_echo: true };
    let packet = vec![0; 12];
    let expected = Expected { rcode: NOERROR, answers: 0 };
    peer.wait(&[Probe { packet, expected, holds: Vec::new() }])?;
    Ok(peer)
}

/// Mainstay, with the Corefile of kubeadm.
///
/// # Errors
/// It does not start.
pub fn mainstay(name: &str, program: &Path, setting: &Setting) -> Result<Peer, String> {
    let mut arguments = ["--bind", "127.0.0.1", "-conf", "Corefile"].map(str::to_owned).to_vec();
    if let Some(workers) = setting.workers {
        arguments.extend(["--workers".to_owned(), workers.to_string()]);
    }
    corefile_server(name, program, arguments, "", setting)
}

/// CoreDNS, with the Corefile of kubeadm.
///
/// # Errors
/// It does not start.
pub fn coredns(program: &Path, setting: &Setting) -> Result<Peer, String> {
    let arguments = ["-conf", "Corefile"].map(str::to_owned).to_vec();
    corefile_server("CoreDNS", program, arguments, "\n    bind 127.0.0.1", setting)
}

fn corefile_server(
    name: &str,
    program: &Path,
    arguments: Vec<String>,
    bind: &str,
    setting: &Setting,
) -> Result<Peer, String> {
    let [port, health, ready, metrics] = std::array::from_fn(|_| free_port());
    let text = kubeadm(setting, bind, [port, health, ready, metrics]);
    let folder = folder_with(&[("Corefile", &text)])?;
    let server = start(name, setting.cpus, program, arguments, folder)?;
    Ok(Peer { server, address: local(port), metrics: Some(local(metrics)), is_echo: false })
}

/// The stock Corefile, on loopback.
fn kubeadm(setting: &Setting, bind: &str, [port, health, ready, metrics]: [u16; 4]) -> String {
    let mut text = KUBEADM.to_owned();
    let cache = match setting.foreign_names {
        Some(names) => format!("cache 3600 {{\n       success {names} 3600"),
        None => "cache 30 {".to_owned(),
    };
    for (from, to) in [
        (".:53 {", format!(".:{port} {{{bind}")),
        ("health {", format!("health 127.0.0.1:{health} {{")),
        ("    ready\n", format!("    ready 127.0.0.1:{ready}\n")),
        ("pods insecure", format!("endpoint {}\n       pods insecure", setting.api)),
        ("prometheus :9153", format!("prometheus 127.0.0.1:{metrics}")),
        ("/etc/resolv.conf", setting.upstream.to_string()),
        ("cache 30 {", cache),
    ] {
        assert_eq!(text.matches(from).count(), 1, "{from:?} in the Corefile of kubeadm");
        text = text.replace(from, &to);
    }
    text
}

/// Starts a program in its folder.
///
/// # Errors
/// It cannot be run.
pub fn start(
    name: &str,
    cpus: &str,
    program: &Path,
    arguments: Vec<String>,
    folder: TempDir,
) -> Result<Server, String> {
    Server::start(Start { name, cpus, program, arguments, folder, environment: Vec::new() })
}

/// A folder with these files.
///
/// # Errors
/// There is no room for temporary files.
pub fn folder_with(files: &[(&str, &str)]) -> Result<TempDir, String> {
    let folder = folder()?;
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::write(path, text).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(folder)
}

/// A folder for a server.
///
/// # Errors
/// There is no room for temporary files.
pub fn folder() -> Result<TempDir, String> {
    TempDir::new().map_err(|error| format!("cannot make a folder: {error}"))
}

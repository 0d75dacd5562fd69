//! One server of a drill: its Corefile, its ports and its process.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::step::Kind;
use crate::load::Error;
use crate::load::fault::process::{Output, Server};

/// What a Corefile of a drill is made of: as kubeadm writes it, on ports of its own.
const COREFILE: &str = "\
.:{port} {
    errors
    health 127.0.0.1:{health} {
        lameduck {lameduck}
    }
    ready 127.0.0.1:{ready}
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        {source}
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    forward . {upstream} {
        max_concurrent 1000
    }
    cache 30 {
        disable success cluster.local
        disable denial cluster.local
    }
    reload 2s 1s
    loadbalance
}
";
/// What makes it wrong: a directive that no server has.
const BROKEN: &str = "    no-such-directive\n";
/// Longest time from a start to `/ready`.
const READY_MAX: Duration = Duration::from_secs(60);
/// Between two looks at it.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Where ports are looked for: below those that the kernel gives to clients.
const PORTS: std::ops::Range<u16> = 15_000..32_000;
/// How many are tried.
const TRIES: usize = 1000;

/// A server as the drill's user names it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// `mainstay`, or what `--peer` says.
    pub name: String,
    /// The command with `{conf}` where the Corefile goes, and `{state}` where a folder of its own
    /// goes, which outlives its process.
    pub command: String,
    /// Whether it can take objects from manifests.
    pub reads_manifests: bool,
}

/// What all replicas of a drill have alike.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Where Corefiles and logs are.
    pub folder: PathBuf,
    /// The line of `kubernetes` that names the source.
    pub source: String,
    /// The relay in front of the upstream.
    pub upstream: SocketAddr,
    /// How long a server goes on after SIGTERM.
    pub lameduck: Duration,
    /// A cgroup that the process joins.
    pub cgroup: Option<PathBuf>,
}

/// One server.
pub struct Replica {
    /// Its process.
    pub server: Server,
    /// Where it answers.
    pub address: SocketAddr,
    ready: SocketAddr,
    corefile: String,
    path: PathBuf,
}

impl Replica {
    /// Starts one. It does not answer yet.
    ///
    /// # Errors
    /// No ports, no folder, no such program.
    pub fn start(subject: &Subject, setting: &Setting) -> Result<Self, Error> {
        let [address, health, ready] = free_ports()?;
        let path = setting.folder.join(format!("{}.{}.Corefile", subject.name, address.port()));
        let corefile = COREFILE
            .replace("{port}", &address.port().to_string())
            .replace("{health}", &health.port().to_string())
            .replace("{ready}", &ready.port().to_string())
            .replace("{lameduck}", &format!("{}ms", setting.lameduck.as_millis()))
            .replace("{source}", &setting.source)
            .replace("{upstream}", &setting.upstream.to_string());
        write(&path, &corefile)?;
        let state = path.with_extension("state");
        std::fs::create_dir_all(&state).map_err(|error| {
            let remedy = "name a folder with --out that can be written";
            Error::File { path: state.clone(), error, remedy }
        })?;
        let mut command = subject.command.replace("{conf}", &quoted(&path)?);
        command = command.replace("{state}", &quoted(&state)?);
        if let Some(cgroup) = &setting.cgroup {
            command = in_cgroup(&command, cgroup);
        }
        let log = path.with_extension("log");
        let server = Server::start(&command, Output::File(log))?;
        Ok(Self { server, address, ready, corefile, path })
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// It ended, or does not get ready: with its last lines.
    pub async fn ready(&self) -> Result<(), Error> {
        let look = async {
            while !is_ready(self.ready).await {
                self.server.alive().await?;
                sleep(LOOK_EVERY).await;
            }
            Ok(())
        };
        let late = || Err(format!("not ready after {READY_MAX:?}; its log is {}", self.log()));
        timeout(READY_MAX, look).await.unwrap_or_else(|_| late()).map_err(Error::Config)
    }

    /// Writes a Corefile that is wrong, or the right one again.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn rewrite(&self, kind: Kind) -> Result<(), Error> {
        match kind {
            Kind::Good => write(&self.path, &self.corefile),
            Kind::Broken => {
                write(&self.path, &self.corefile.replacen("{\n", &format!("{{\n{BROKEN}"), 1))
            }
        }
    }

    fn log(&self) -> String {
        self.path.with_extension("log").display().to_string()
    }
}

/// A path as a word of a command.
fn quoted(path: &Path) -> Result<String, Error> {
    let word = shlex::try_quote(&path.to_string_lossy()).map(|word| word.into_owned());
    word.map_err(|_| Error::Config("--out has a zero octet in it".to_owned()))
}

/// The same command, in a cgroup from its first instruction on.
fn in_cgroup(command: &str, cgroup: &Path) -> String {
    let script = format!("echo $$ > {}/cgroup.procs && exec {command}", cgroup.display());
    format!("sh -c '{}'", script.replace('\'', r"'\''"))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let remedy = "name a folder with --out that can be written";
    let fail = |error| Error::File { path: path.to_owned(), error, remedy };
    std::fs::write(path, text).map_err(fail)
}

/// Whether a page says 200. One question over a fresh connection.
async fn is_ready(page: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(page).await?;
        stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n").await?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.map(|_| head)
    };
    let said = timeout(Duration::from_secs(1), ask).await;
    said.is_ok_and(|head| head.is_ok_and(|head| head.ends_with(b" 200")))
}

/// Ports of loopback that nobody has, over UDP and TCP.
///
/// # Errors
/// All that were tried are taken.
pub fn free_ports<const COUNT: usize>() -> Result<[SocketAddr; COUNT], Error> {
    let mut dice = rand::rng();
    let mut found = Vec::new();
    for _ in 0..TRIES {
        if found.len() == COUNT {
            break;
        }
        let port = dice.random_range(PORTS);
        let is_free = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
            && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if is_free && !found.contains(&address) {
            found.push(address);
        }
    }
    let few = "too few free ports on loopback; end some servers";
    found.try_into().map_err(|_| Error::Config(few.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_keeps_its_quotes_in_a_cgroup() {
        let command = in_cgroup("coredns -conf 'a b'", Path::new("/sys/fs/cgroup/x"));
        let words = shlex::split(&command).unwrap();
        assert_eq!(words[..2], ["sh", "-c"]);
        assert_eq!(words[2], "echo $$ > /sys/fs/cgroup/x/cgroup.procs && exec coredns -conf 'a b'");
    }

    #[test]
    fn ports_differ() {
        let [one, other] = free_ports().unwrap();
        assert_ne!(one, other);
    }
}

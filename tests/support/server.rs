//! Runs the real `mainstay` with the Corefile of kubeadm, on loopback ports of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tempfile::TempDir;

use crate::ports;
use crate::process::Process;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mainstay");
/// Names another build of it, such as an optimised one for a long run.
const OTHER: &str = "FAULTS_MAINSTAY";
/// What kubeadm gives every cluster.
const KUBEADM: &str = include_str!("../corefiles/valid/kubeadm.Corefile");
/// Longest lameduck and drain.
const END_MAX: Duration = Duration::from_secs(30);

/// The ports of one server.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub dns: u16,
    pub health: u16,
    pub ready: u16,
    pub metrics: u16,
}

impl Ports {
    /// Four that are free.
    pub fn free() -> Self {
        let [dns, health, ready, metrics] = std::array::from_fn(|_| ports::free());
        Self { dns, health, ready, metrics }
    }

    /// The Corefile of kubeadm with these ports, `source` as the source of the cluster, and
    /// `upstream` in the place of `/etc/resolv.conf`.
    pub fn kubeadm(&self, source: &str, upstream: &str) -> String {
        let Self { dns, health, ready, metrics } = self;
        let mut text = KUBEADM.to_owned();
        for (from, to) in [
            (".:53 {", format!(".:{dns} {{")),
            ("health {", format!("health 127.0.0.1:{health} {{")),
            ("lameduck 5s", "lameduck 10s".to_owned()),
            ("    ready\n", format!("    ready 127.0.0.1:{ready}\n")),
            ("pods insecure", format!("{source}\n       pods insecure")),
            ("prometheus :9153", format!("prometheus 127.0.0.1:{metrics}")),
            ("/etc/resolv.conf", upstream.to_owned()),
            ("    reload\n", "    reload 2s 1s\n".to_owned()),
        ] {
            assert_eq!(text.matches(from).count(), 1, "{from:?} in the Corefile of kubeadm");
            text = text.replace(from, &to);
        }
        text
    }
}

/// A running server. Dropping it kills it.
pub struct Server {
    process: Process,
    folder: TempDir,
    pub ports: Ports,
}

impl Server {
    /// Starts a server with this Corefile. It need not be ready yet.
    pub fn start(name: &str, ports: Ports, corefile: &str) -> Self {
        Self::start_with(name, ports, corefile, |path| vec!["-conf".into(), path.into()])
    }

    /// Starts a server with arguments that name the path of the Corefile. It listens on loopback
    /// unless they say where.
    pub fn start_with(
        name: &str,
        ports: Ports,
        corefile: &str,
        arguments: impl FnOnce(&Path) -> Vec<PathBuf>,
    ) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("Corefile");
        std::fs::write(&path, corefile).unwrap();
        let mut arguments = arguments(&path);
        if !arguments.iter().any(|word| word.to_string_lossy().starts_with("--bind=")) {
            arguments.push("--bind=127.0.0.1".into());
        }
        let mut command = Command::new(program());
        command.args(arguments).arg("--workers=2");
        Self { process: Process::start(name, &mut command), folder, ports }
    }

    /// Starts a server in a shell that did this before, such as `ulimit -n 256`.
    #[allow(dead_code)] // Not all test programs do.
    pub fn start_after(name: &str, ports: Ports, corefile: &str, before: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("Corefile");
        std::fs::write(&path, corefile).unwrap();
        let mut command = Command::new("sh");
        let script = format!("{before} && exec \"$0\" \"$@\"");
        command.args(["-c", &script, PROGRAM, "--bind=127.0.0.1", "--workers=1", "-conf"]);
        Self { process: Process::start(name, command.arg(path)), folder, ports }
    }

    /// Where its Corefile is.
    pub fn corefile(&self) -> PathBuf {
        self.folder.path().join("Corefile")
    }

    /// Changes its Corefile on disk.
    pub fn edit(&self, change: impl FnOnce(String) -> String) {
        let before = std::fs::read_to_string(self.corefile()).unwrap();
        let after = change(before.clone());
        assert_ne!(before, after, "the edit changes something");
        // Written aside and moved, as editors and the kubelet do: never half a file.
        let aside = self.folder.path().join("aside");
        std::fs::write(&aside, after).unwrap();
        std::fs::rename(aside, self.corefile()).unwrap();
    }

    /// The status of `/ready`; 0 when nobody answers.
    pub fn ready(&self) -> u16 {
        get(self.ports.ready, "/ready").map_or(0, |(status, _)| status)
    }

    /// The status of `/health`; 0 when nobody answers.
    pub fn health(&self) -> u16 {
        get(self.ports.health, "/health").map_or(0, |(status, _)| status)
    }

    /// What is scraped.
    pub fn metrics(&self) -> Metrics {
        Metrics(get(self.ports.metrics, "/metrics").expect("/metrics answers").1)
    }

    /// What it has logged.
    pub fn log(&self) -> Vec<String> {
        self.process.log()
    }

    /// Log lines that an operator should look at.
    pub fn complaints(&self) -> Vec<String> {
        let is_complaint = |line: &String| line.starts_with("[WARN") || line.starts_with("[ERR");
        self.log().into_iter().filter(is_complaint).collect()
    }

    /// Its process, and those that it started, which are last.
    pub fn processes(&self) -> Vec<u32> {
        let id = self.process.id();
        let tasks = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
        let children =
            tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        let children: Vec<String> = children.collect();
        let children = children.iter().flat_map(|text| text.split_whitespace());
        std::iter::once(id).chain(children.filter_map(|child| child.parse().ok())).collect()
    }

    /// Sends a signal by its name without SIG.
    pub fn signal(&self, signal: &str) {
        self.process.signal(signal);
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        self.process.ended().is_none()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait(END_MAX)
    }
}

/// Where the program is.
pub fn program() -> PathBuf {
    std::env::var_os(OTHER).map_or_else(|| PROGRAM.into(), PathBuf::from)
}

/// One scrape of `/metrics`.
pub struct Metrics(String);

impl Metrics {
    /// The sum of the samples of a name whose labels hold all of `labels`, such as `proto="udp"`.
    /// `None` when there is no such sample.
    pub fn sum(&self, name: &str, labels: &[&str]) -> Option<f64> {
        let samples = self.0.lines().filter_map(|line| line.rsplit_once(' '));
        let values: Vec<f64> = samples
            .filter(|(sample, _)| {
                sample.split('{').next() == Some(name)
                    && labels.iter().all(|label| sample.contains(label))
            })
            .map(|(_, value)| value.parse().unwrap())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// As [`Metrics::sum`], of a sample that must be there.
    pub fn value(&self, name: &str, labels: &[&str]) -> f64 {
        self.sum(name, labels).unwrap_or_else(|| panic!("no {name} {labels:?} in\n{}", self.0))
    }
}

/// Fetches a page: status and body.
fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: e2e\r\nconnection: close\r\n\r\n").ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    let (head, body) = reply.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

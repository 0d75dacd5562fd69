//! The sandbox of a Pod: a network namespace with a link to the host, and the resolv.conf that a
//! kubelet would write.
//!
//! ```text
//! sandbox  .2 ── veth ── .1, .3  host, where servers listen on port 53
//! ```
//!
//! The addresses are of 198.18.0.0/15, which no network has (RFC 2544). All of it goes when the
//! value is dropped; what a killed run left goes when the next one begins.

use std::ffi::OsStr;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::leftovers;

/// What the names of our namespaces begin with; the id of the process follows.
const PREFIX: &str = "mainstay-conformance-";
/// Longest time for a program that looks up few names, in seconds: none of them may wait for long.
const PROGRAM_MAX_S: usize = 60;
/// How many more arguments make that a second longer. 1 000 take a second when all is well.
const ARGUMENTS_PER_S: usize = 50;
/// Where the kernel's namespaces have their names.
const NAMES: &str = "/run/netns";
/// Where `ip netns exec` looks for files that stand in for those of /etc.
const FILES: &str = "/etc/netns";

/// Puts the files of the first argument in the place of those of /etc, and runs the others.
const MOUNT: &str = r#"
for file in "$0"/*; do mount --bind "$file" "/etc/${file##*/}" || exit; done; exec "$@""#;

/// A network namespace with files of its own.
pub struct Sandbox {
    name: String,
    /// Where the server of the cluster listens, and another one.
    pub servers: [Ipv4Addr; 2],
}

/// Where a program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Network {
    /// In that of the Pod.
    Pod,
    /// In that of the host, with the resolv.conf of the Pod: `ClusterFirstWithHostNet`.
    Host,
}

impl Sandbox {
    /// Makes the namespace and its link.
    ///
    /// # Errors
    /// Why it cannot be had on this machine.
    pub fn new() -> Result<Self, String> {
        remove_leftovers();
        let id = std::process::id();
        let address =
            |host: u8| Ipv4Addr::new(198, 18, (id >> 5) as u8, (id as u8 % 32) * 8 + host);
        let servers = [address(1), address(3)];
        let sandbox = Self { name: format!("{PREFIX}{id}"), servers };
        sandbox.link(address(2)).map_err(|error| format!("no network namespaces: {error}"))?;
        fs::create_dir_all(sandbox.files()).map_err(|error| format!("{FILES}: {error}"))?;
        // A daemon of the host, such as systemd-resolved, would answer from outside of the sandbox.
        sandbox.write("nsswitch.conf", "hosts: files dns\n");
        Ok(sandbox)
    }

    fn link(&self, own: Ipv4Addr) -> Result<(), String> {
        let id = std::process::id();
        let (name, host, pod) = (&self.name, format!("msc{id}"), format!("msp{id}"));
        tool("timeout", &["1", "true"])?;
        ip(&format!("netns add {name}"))?;
        ip(&format!("link add {host} type veth peer name {pod} netns {name}"))?;
        for server in self.servers {
            ip(&format!("addr add {server}/29 dev {host}"))?;
        }
        ip(&format!("link set {host} up"))?;
        ip(&format!("-n {name} addr add {own}/29 dev {pod}"))?;
        ip(&format!("-n {name} link set {pod} up"))?;
        ip(&format!("-n {name} link set lo up"))
    }

    /// The resolv.conf that a kubelet writes for a Pod of this Namespace (`ClusterFirst`).
    pub fn cluster_first(&self, namespace: &str) -> String {
        self.resolv_conf(&cluster_searches(namespace).join(" "), 5)
    }

    /// One for the server of the cluster with these search paths.
    pub fn resolv_conf(&self, searches: &str, ndots: u8) -> String {
        resolv_conf(self.servers[0], searches, ndots)
    }

    /// Puts a resolv.conf in place, for programs that start from here on.
    pub fn configure(&self, resolv_conf: &str) {
        self.write("resolv.conf", resolv_conf);
    }

    /// Runs a program to its end; answers what it prints, whatever its exit code. It has a minute,
    /// and a little more for each of its arguments, of which some are names that it looks up.
    pub fn run<A: AsRef<OsStr>>(
        &self,
        network: Network,
        program: &Path,
        arguments: &[A],
    ) -> String {
        let longest_s = PROGRAM_MAX_S + arguments.len() / ARGUMENTS_PER_S;
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL".to_owned(), longest_s.to_string()]);
        match network {
            Network::Pod => self.in_pod(&mut command),
            Network::Host => self.on_host(&mut command),
        }
        let output = command.arg(program).args(arguments).output();
        let output = output.expect("timeout was there before");
        // It kills itself as well.
        assert_eq!(output.status.signal(), None, "{program:?} did not end in {longest_s} s");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.is_empty(), "{program:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn in_pod(&self, command: &mut Command) {
        command.args(["ip", "netns", "exec", &self.name]);
    }

    /// A mount namespace gives the host's network another resolv.conf, as a container has it.
    fn on_host(&self, command: &mut Command) {
        command.args(["unshare", "--mount", "sh", "-c", MOUNT]).arg(self.files());
    }

    fn files(&self) -> PathBuf {
        Path::new(FILES).join(&self.name)
    }

    /// Writes a file that stands in for the one of /etc, where the host has it.
    fn write(&self, file: &str, text: &str) {
        if Path::new("/etc").join(file).exists() {
            fs::write(self.files().join(file), text).unwrap();
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        remove(&self.name);
        // Not while somebody else has files there.
        let _ = fs::remove_dir(FILES);
    }
}

/// The search paths of a Pod of this Namespace.
pub fn cluster_searches(namespace: &str) -> [String; 3] {
    let in_cluster = |labels: &str| format!("{labels}cluster.local");
    [in_cluster(&format!("{namespace}.svc.")), in_cluster("svc."), in_cluster("")]
}

/// A resolv.conf.
pub fn resolv_conf(server: Ipv4Addr, searches: &str, ndots: u8) -> String {
    format!("search {searches}\nnameserver {server}\noptions ndots:{ndots}\n")
}

/// Removes what runs left that did not come to their end.
fn remove_leftovers() {
    let Ok(names) = fs::read_dir(NAMES) else { return };
    for name in names.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let id = name.strip_prefix(PREFIX).and_then(|id| id.parse().ok());
        if id.is_some_and(|id| !leftovers::is_alive(id)) {
            remove(&name);
        }
    }
}

/// Removes a namespace and its files. Its end of the link goes with it, and so the other one.
fn remove(name: &str) {
    let _ = ip(&format!("netns delete {name}"));
    let _ = fs::remove_dir_all(Path::new(FILES).join(name));
}

fn ip(words: &str) -> Result<(), String> {
    tool("ip", &words.split(' ').collect::<Vec<_>>())
}

fn tool(name: &str, words: &[&str]) -> Result<(), String> {
    let output = Command::new(name).args(words).output();
    let output = output.map_err(|error| format!("{name}: {error}; install iproute2, coreutils"))?;
    let reason = String::from_utf8_lossy(&output.stderr);
    let failed = || format!("{name} {}: {}", words.join(" "), reason.trim_end());
    output.status.success().then_some(()).ok_or_else(failed)
}

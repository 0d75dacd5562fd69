//! A small cluster in network namespaces: one for the applications, four for Pods of DNS servers,
//! and the node between them, which is the namespace that we run in.
//!
//! ```text
//! applications 10.244.0.2 ─┐                        ┌─ 10.244.1.2 … 10.244.4.2  DNS servers
//!                          node: DNAT of 10.96.0.10 ┤
//!                          (nftables, conntrack)    └─ 192.0.2.53, .54  upstreams (on the node)
//!                                                      203.0.113.1      API server (on the node)
//! ```
//!
//! The test starts itself in namespaces of processes, mounts and networks of its own, so all of it
//! goes with the process, whatever happens to it.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

/// The address of the Service of the cluster's DNS.
pub const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// Where DNS servers find the API server, which listens on loopback; its certificate has this too.
pub const API_SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The servers for names outside of the cluster.
pub const UPSTREAMS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 53), Ipv4Addr::new(192, 0, 2, 54)];
/// How many Pods of DNS servers there may be at a time: two, and those that replace them.
pub const PODS: u8 = 4;
/// The namespace of the applications.
const APPLICATIONS: &str = "applications";
/// What runs inside of the new namespaces before we do: names of namespaces and temporary files
/// that nobody else sees, and the files of the first argument in the place of those of /etc.
const PREPARE: &str = r#"
mkdir -p /run/netns && mount -t tmpfs none /run/netns && mkdir /run/netns/tmp || exit
export TMPDIR=/run/netns/tmp
ip link set lo up || exit
for file in "$0"/*; do mount --bind "$file" "/etc/${file##*/}" || exit; done
exec "$@""#;
/// The resolv.conf of a Pod of the Namespace `shop`, as a kubelet writes it.
const RESOLV_CONF: &str = "search shop.svc.cluster.local svc.cluster.local cluster.local
nameserver 10.96.0.10
options ndots:5
";
/// The rules of the node, as kube-proxy has them, and a way to lose what goes to an upstream.
const RULES: &str = "
table ip node {
    chain endpoints {
    }
    chain services {
        type nat hook prerouting priority dstnat
        ip daddr 10.96.0.10 meta l4proto { tcp, udp } th dport 53 jump endpoints
        ip daddr 203.0.113.1 meta l4proto tcp dnat to 127.0.0.1
    }
    chain no_endpoints {
        type filter hook prerouting priority filter
        ip daddr 10.96.0.10 reject with icmp type port-unreachable
    }
    chain lost {
        type filter hook input priority filter
    }
}
";

/// A command that runs its arguments in namespaces of their own, with files for those of /etc, for
/// at most so many seconds.
pub fn unshare(files: &Path, longest_s: u64) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", &longest_s.to_string(), "unshare", "--mount", "--net", "--pid"]);
    command.args(["--fork", "--kill-child", "--mount-proc", "sh", "-c", PREPARE]).arg(files);
    command
}

/// Why there cannot be such a world on this machine.
pub fn is_possible(files: &Path) -> Result<(), String> {
    // Each fails where the kernel or a package has no such thing.
    let try_all = "ip netns add x && ip link add one type veth peer name other netns x &&
        nft add table ip x && nft 'add chain ip x y { type nat hook prerouting priority 0; }' &&
        conntrack -L >/dev/null";
    let output = unshare(files, 60).args(["sh", "-c", try_all]).output();
    let output = output.map_err(|error| format!("timeout: {error}; install coreutils"))?;
    let why = String::from_utf8_lossy(&output.stderr);
    let remedy = "run as root; install util-linux, iproute2, nftables, conntrack";
    let failed = || format!("no network namespaces with NAT: {}; {remedy}", why.trim());
    output.status.success().then_some(()).ok_or_else(failed)
}

/// Writes the files that stand in for those of /etc, where the machine has them.
pub fn write_files(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    let files = [
        ("resolv.conf", RESOLV_CONF),
        // A daemon of the host, such as systemd-resolved, would answer from outside.
        ("nsswitch.conf", "hosts: files dns\n"),
        ("hosts", "127.0.0.1 localhost\n"),
        ("gai.conf", ""),
    ];
    for (file, text) in files {
        if Path::new("/etc").join(file).exists() {
            std::fs::write(folder.join(file), text).unwrap();
        }
    }
}

/// Makes the namespaces, links and rules.
pub fn build() {
    // Pods reach loopback of the node only by our rule for the API server.
    for (setting, value) in [("ip_forward", "1"), ("conf/all/route_localnet", "1")] {
        std::fs::write(format!("/proc/sys/net/ipv4/{setting}"), value).unwrap();
    }
    for address in UPSTREAMS {
        ip(&format!("addr add {address}/32 dev lo"));
    }
    link(APPLICATIONS, 0);
    // Netty asks for AAAA where an interface has an IPv6 address that is not of the loopback.
    ip(&format!("-n {APPLICATIONS} addr add fd53::1/128 dev lo"));
    (1..=PODS).for_each(|pod| link(&pod_namespace(pod), pod));
    nft(RULES);
}

/// Makes a namespace that the node routes to.
fn link(name: &str, number: u8) {
    let (node, own) = (Ipv4Addr::new(10, 244, number, 1), Ipv4Addr::new(10, 244, number, 2));
    ip(&format!("netns add {name}"));
    ip(&format!("link add veth{number} type veth peer name eth0 netns {name}"));
    ip(&format!("addr add {node}/30 dev veth{number}"));
    ip(&format!("link set veth{number} up"));
    ip(&format!("-n {name} addr add {own}/30 dev eth0"));
    ip(&format!("-n {name} link set eth0 up"));
    ip(&format!("-n {name} link set lo up"));
    ip(&format!("-n {name} route add default via {node}"));
}

/// The address of a Pod of the DNS, of which the first is 1.
pub fn pod_address(pod: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, pod, 2)
}

fn pod_namespace(pod: u8) -> String {
    format!("dns{pod}")
}

/// A command that runs its arguments in a Pod of the DNS.
pub fn in_pod(pod: u8) -> Command {
    in_namespace(&pod_namespace(pod))
}

/// A command that runs its arguments beside the applications.
pub fn in_applications() -> Command {
    in_namespace(APPLICATIONS)
}

fn in_namespace(name: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{name}")).arg("--");
    command
}

/// Sends what is new to one of these Pods by chance, as kube-proxy does; with none of them, what
/// is new is refused. Flows of Pods that are `gone` are forgotten.
pub fn route(pods: &[u8], gone: &[u8]) {
    let mut rules = String::from("flush chain ip node endpoints\n");
    // As the statistics of kube-proxy: the first of n takes one in n, the next one of the rest.
    for (at, &pod) in pods.iter().enumerate() {
        let chance = match pods.len() - at {
            1 => String::new(),
            left => format!("numgen random mod {left} == 0 "),
        };
        let address = pod_address(pod);
        rules += &format!(
            "add rule ip node endpoints {chance}meta l4proto {{ tcp, udp }} dnat to {address}\n"
        );
    }
    nft(&rules);
    gone.iter().for_each(|&pod| forget(pod));
}

/// Forgets flows of UDP to a Pod, as kube-proxy does when its endpoint goes. There may be none.
fn forget(pod: u8) {
    let (service, pod) = (CLUSTER_IP.to_string(), pod_address(pod).to_string());
    let mut command = Command::new("conntrack");
    command.args(["-D", "-p", "udp", "--orig-dst", &service, "--reply-src", &pod]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().expect("conntrack is there");
}

/// Loses all that is sent to these upstreams, and to no other.
pub fn lose(upstreams: &[Ipv4Addr]) {
    let mut rules = String::from("flush chain ip node lost\n");
    for upstream in upstreams {
        rules += &format!("add rule ip node lost ip daddr {upstream} drop\n");
    }
    nft(&rules);
}

fn nft(rules: &str) {
    let mut command = Command::new("nft");
    let pipes = command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().expect("nft is there");
    child.stdin.take().expect("it is piped").write_all(rules.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}{rules}", String::from_utf8_lossy(&output.stderr));
}

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().expect("ip is there");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}

//! What cannot be served is refused with a message that says what to do.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::asker::{ask, eventually, until};
use crate::process::Process;
use crate::server::{PROGRAM, Ports, Server};
use crate::{World, measured};

/// Longest time until a refusal.
const REFUSED_MAX: Duration = Duration::from_secs(20);
/// Somebody without rights.
const NOBODY: u32 = 65_534;

pub fn say_what_to_do(world: &mut World) {
    corefiles();
    command_line();
    kubeconfigs(world);
    tokens(world);
    ports_in_use(world);
    privileged_port();
}

/// Runs the program to its end: exit code and all that it wrote.
fn run(arguments: &[&str]) -> (Option<i32>, String) {
    Process::run(&arguments.join(" "), Command::new(PROGRAM).args(arguments), REFUSED_MAX)
}

/// Checks that the program ends with this code, and says this.
fn check(arguments: &[&str], code: i32, says: &str) {
    let (ended, text) = run(arguments);
    assert_eq!(ended, Some(code), "{arguments:?}: {text}");
    assert!(text.contains(says), "{arguments:?} says {text:?}, not {says:?}");
    assert!(!text.contains("panicked"), "{text}");
}

fn corefiles() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, octets: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, octets).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let binary: Vec<u8> = (0..4096u32).map(|number| (number * 7 + 128) as u8).collect();
    let cases = [
        (write("empty", b""), "there is no server block in it"),
        (write("binary", &binary), "the file is not UTF-8 text"),
        (write("circle", b"import circle\n"), "leads back to itself"),
        (write("unknown", b".:53 {\n  frobnicate\n}\n"), "unknown:2"),
        (write("open", b".:53 {\n  errors\n"), "open:"),
        (folder.path().to_str().unwrap().to_owned(), "is a directory"),
        (folder.path().join("missing").to_str().unwrap().to_owned(), "there is no such file"),
    ];
    for (path, says) in &cases {
        check(&["-conf", path], 1, says);
        check(&["check", path], 1, says);
    }
    let good = write("good", b".:53 {\n  forward . 192.0.2.53\n}\n");
    check(&["check", &good], 0, "right, 1 server block");
    unreadable(Path::new(&good));
}

/// Root reads everything, so somebody else tries.
fn unreadable(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o000)).unwrap();
    if let Some((code, text)) = as_nobody(&["-conf", path.to_str().unwrap()]) {
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("cannot be read"), "{text}");
    }
}

/// Runs the program without rights; `None` when this user cannot become another.
fn as_nobody(arguments: &[&str]) -> Option<(Option<i32>, String)> {
    let command = || {
        let mut command = Command::new(PROGRAM);
        command.uid(NOBODY).gid(NOBODY);
        command
    };
    // We are not root, or the program is where not everybody may start it.
    if let Err(error) = command().arg("-version").output() {
        measured("not tried as another user", error.to_string());
        return None;
    }
    Some(Process::run("as nobody", command().args(arguments), REFUSED_MAX))
}

fn command_line() {
    check(&["-version"], 0, env!("CARGO_PKG_VERSION"));
    check(&["--version"], 0, env!("CARGO_PKG_VERSION"));
    check(&["-plugins"], 0, "dns.kubernetes");
    check(&["--help"], 0, "mainstay demo");
    check(&["-nonsense"], 2, "--help");
    check(&["-conf"], 2, "--conf");
    check(&["-dns.port=70000"], 2, "70000");
    check(&["check"], 2, "FILE");
}

fn kubeconfigs(world: &World) {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let whole = std::fs::read_to_string(&world.kubeconfig).unwrap();
    let cases = [
        (folder.path().join("missing").to_str().unwrap().to_owned(), "cannot be read"),
        (write("garbage", "}{ \u{1}"), "is no kubeconfig"),
        (write("no-context", &whole.replace("current-context", "other")), "no current context"),
        (format!("{} nobody", world.kubeconfig.display()), "has no context \"nobody\""),
    ];
    for (source, says) in cases {
        drop(goes_on(world, &source, says));
    }
    // Once the file is right, nobody has to restart anything.
    let path = write("late", "}{");
    let server = goes_on(world, &path, "is no kubeconfig");
    write("late", &whole);
    until(server.ports.dns, "web.shop.svc A", "NOERROR 10.96.100.1");
}

/// Starts a server with credentials that cannot be used: it says so, and serves what it can.
fn goes_on(world: &World, kubeconfig: &str, says: &str) -> Server {
    let ports = Ports::free();
    let mut server = Server::start(says, ports, &corefile(world, ports, kubeconfig));
    eventually(|| {
        let complaints = server.complaints();
        let is_said = complaints.iter().any(|line| line.contains(says));
        is_said.then_some(()).ok_or(format!("{complaints:?}"))
    });
    // The complaint may come before the sockets are open.
    until(ports.dns, "web.shop.svc A", "SERVFAIL");
    assert_eq!(ask(ports.dns, "www.example.org. A"), "NOERROR 192.0.2.1", "{says}");
    assert_eq!(server.ready(), 503);
    assert!(server.is_alive());
    server
}

fn corefile(world: &World, ports: Ports, kubeconfig: &str) -> String {
    ports.kubeadm(&format!("kubeconfig {kubeconfig}"), &world.upstream())
}

/// A token that is refused may be renewed, so we go on; the log says what to do.
fn tokens(world: &World) {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": "gone", "namespace": "default" },
    });
    world.api.apply(&account);
    let token = world.api.token("default", "gone");
    world.api.delete("/api/v1/namespaces/default/serviceaccounts/gone");
    for (name, token) in [("revoked", token.as_str()), ("wrong", "no.such.token")] {
        let kubeconfig = world.plane.kubeconfig(name, token);
        let kubeconfig = kubeconfig.to_str().unwrap();
        drop(goes_on(world, kubeconfig, "renew the token or certificate in"));
    }
}

fn ports_in_use(world: &World) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("Corefile");
    let refused = |ports: Ports, taken: u16| {
        let kubeconfig = world.kubeconfig.to_str().unwrap();
        std::fs::write(&path, corefile(world, ports, kubeconfig)).unwrap();
        let text = format!(":{taken}");
        let arguments = ["-conf", path.to_str().unwrap(), "--bind=127.0.0.1"];
        check(&arguments, 1, "in use");
        check(&arguments, 1, &text);
    };
    let ports = Ports::free();
    let tcp = TcpListener::bind(("127.0.0.1", ports.dns)).unwrap();
    refused(ports, ports.dns);
    drop(tcp);
    let udp = UdpSocket::bind(("127.0.0.1", ports.dns)).unwrap();
    refused(ports, ports.dns);
    drop(udp);
    for page in [ports.health, ports.ready, ports.metrics] {
        let _taken = TcpListener::bind(("127.0.0.1", page)).unwrap();
        refused(ports, page);
    }
    // A second mainstay does not share the port of the first, though its UDP sockets could.
    refused(Ports { dns: world.live.ports.dns, ..ports }, world.live.ports.dns);
    assert_eq!(ask(world.live.ports.dns, "web.shop.svc A"), "NOERROR 10.96.100.1");
}

/// The largest port that needs a right, whatever the machine says it is.
fn privileged_port() {
    let setting = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first_free: u16 = setting.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    let Some(port) = first_free.checked_sub(1).filter(|port| *port > 0) else { return };
    let folder = TempDir::new().unwrap();
    let everybody = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), everybody).unwrap();
    let path = folder.path().join("Corefile");
    std::fs::write(&path, format!(".:{port} {{\n  forward . 192.0.2.53\n}}\n")).unwrap();
    let arguments = ["-conf", path.to_str().unwrap(), "--bind=127.0.0.1"];
    if let Some((code, text)) = as_nobody(&arguments) {
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("CAP_NET_BIND_SERVICE"), "{text}");
    }
}

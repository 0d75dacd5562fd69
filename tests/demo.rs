//! The first command of the README: the demo starts, says what it serves, answers, and ends.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mainstay::wire::{RecordType, message};

#[path = "support/ports.rs"]
mod ports;

/// The demo on a free port; killed when it is dropped.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the demo and reads what it says up to its last line.
fn start(port: u16) -> (Demo, Vec<String>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .args(["demo", "--port", &port.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let demo = Demo(child);
    let mut said = Vec::new();
    for line in output.lines().map(Result::unwrap) {
        let is_last = line.starts_with("End with");
        said.push(line);
        if is_last {
            break;
        }
    }
    (demo, said)
}

/// The records that the demo answers, in text.
fn ask(port: u16, name: &str, rtype: RecordType) -> Vec<String> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.send_to(&message::question(name, rtype, Some(1232)), ("127.0.0.1", port)).unwrap();
    let mut reply = [0; 1232];
    let len = socket.recv(&mut reply).unwrap();
    let message = message::read(&reply[..len]).unwrap();
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

#[test]
fn the_demo_says_what_to_try_and_answers_it() {
    let port = ports::free();
    let (_demo, said) = start(port);
    assert_eq!(said.iter().filter(|line| line.trim().starts_with("dig ")).count(), 5, "{said:#?}");
    assert_eq!(ask(port, "web.shop.svc.cluster.local.", RecordType::A), ["10.96.10.1"]);
    assert_eq!(ask(port, "web.staging.svc.cluster.local.", RecordType::A), ["10.96.20.1"]);
    assert_eq!(ask(port, "db-0.db.shop.svc.cluster.local.", RecordType::A), ["10.244.1.21"]);
    let srv = ask(port, "_postgres._tcp.db.shop.svc.cluster.local.", RecordType::SRV);
    assert_eq!(srv.len(), 3, "{srv:?}");
    let ptr = ask(port, "1.10.96.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(ptr, ["web.shop.svc.cluster.local."]);
    assert!(ask(port, "search.shop.svc.cluster.local.", RecordType::A).is_empty());
}

#[test]
fn a_port_in_use_gets_a_clear_line() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let output = Command::new(env!("CARGO_BIN_EXE_mainstay"))
        .args(["demo", "--port", &port.to_string()])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("127.0.0.1:{port}/tcp is in use")), "{said}");
    assert!(said.contains("--port"), "{said}");
}

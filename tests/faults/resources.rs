//! Too little of something: memory, files, time on a core, room in a buffer.

pub mod cgroup;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::asker::{ask, eventually, until};
use crate::server::{Metrics, Ports, Server};
use crate::skip::skip;
use crate::upstream::{ADDRESS, Act, LoopbackUpstream, good};
use cgroup::Cgroup;

/// The cluster of every server here.
const CLUSTER: &str = "manifests src/app/demo.yaml";
const KNOWN: &str = "kubernetes.default.svc A";
const KNOWN_ANSWER: &str = "NOERROR 10.96.0.1";
/// Longest wait for what a hang alone would keep away.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a client waits for more.
const SILENCE: Duration = Duration::from_millis(50);
const NO_CGROUP: &str = "no cgroup can be made here; run as root with cgroups mounted";

/// A server that knows its cluster, after `before` in its shell.
fn start(name: &str, upstream: SocketAddr, before: &str) -> Server {
    let ports = Ports::free();
    // More than any flood here fills, so that only memory bounds it.
    let cache = "cache 30 {\n       success 1000000\n       denial 1000000";
    let corefile = ports.kubeadm(CLUSTER, &upstream.to_string()).replace("cache 30 {", cache);
    let server = Server::start_after(name, ports, &corefile, before);
    eventually(|| match server.ready() {
        200 => Ok(()),
        status => Err(format!("ready: {status}")),
    });
    server
}

fn answers_the_cluster(server: &Server) {
    assert_eq!(ask(server.ports.dns, KNOWN), KNOWN_ANSWER);
}

/// A question for an A record that can be told from others by its number.
fn question(name: &str, number: u32) -> Vec<u8> {
    let id = (number as u16).to_be_bytes();
    let mut packet = [&id[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        packet.push(label.len() as u8);
        packet.extend(label.as_bytes());
    }
    packet.extend([0, 0, 1, 0, 1]);
    packet
}

/// A client at an address of its own on loopback, with room for many replies.
fn client(number: u32, server: &Server) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.bind(&SocketAddr::from((address(number), 0)).into()).unwrap();
    // As root, more than the kernel gives to everybody.
    if sockopt::set_socket_recv_buffer_size_force(&socket, 4 << 20).is_err() {
        let _ = socket.set_recv_buffer_size(4 << 20);
    }
    let socket = UdpSocket::from(socket);
    socket.connect((Ipv4Addr::LOCALHOST, server.ports.dns)).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket
}

/// The address of a client.
fn address(number: u32) -> Ipv4Addr {
    let [_, _, high, low] = number.to_be_bytes();
    Ipv4Addr::new(127, 1, high, low)
}

/// Asks for so many names, a portion from each client, and waits until one is answered or silent
/// before the next one. Tells how many answers came.
fn flood(server: &Server, names: u32, name: impl Fn(u32) -> String) -> u64 {
    const PORTION: u32 = 100;
    let mut answered = 0;
    for from in (0..names).step_by(PORTION as usize) {
        let socket = client(from / PORTION, server);
        for number in from..from + PORTION {
            socket.send(&question(&name(number), number)).unwrap();
        }
        let mut room = [0; 2048];
        for _ in 0..PORTION {
            if socket.recv(&mut room).is_err() {
                break;
            }
            answered += 1;
        }
    }
    answered
}

/// An upstream that is silent about some names and has 500 octets for each other.
async fn wordy() -> LoopbackUpstream {
    LoopbackUpstream::udp_only(|asked| {
        if asked.packet.windows(6).any(|octets| octets == b"silent") {
            return Vec::new();
        }
        let mut reply = good(&asked.packet);
        // One TXT record beside the address, as additional.
        reply[11] = 1;
        reply.extend([0, 0, 16, 0, 1, 0, 0, 14, 16, 1, 44, 255]);
        reply.extend([b'x'; 255]);
        reply.extend([vec![44], vec![b'x'; 44]].concat());
        vec![Act::Send(reply)]
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_a_flood_of_names_stays_below_nine_tenths_of_the_memory() {
    /// What it has at rest, in a build for tests, is half of this.
    const LIMIT: u64 = 64 << 20;
    let Some(cgroup) = Cgroup::of_memory(LIMIT) else { return skip(NO_CGROUP) };
    let upstream = wordy().await;
    let mut server = start("p3", upstream.address, &cgroup.join());
    assert_eq!(server.metrics().value("mainstay_memory_limit_bytes", &[]), LIMIT as f64);
    for round in 0..7 {
        flood(&server, 3_000, |n| format!("x{round}-{n}.flood.example."));
        flood(&server, 300, |n| format!("x{round}-{n}.silent.example."));
        answers_the_cluster(&server);
        let used = server.metrics().value("process_resident_memory_bytes", &[]);
        assert!(used <= LIMIT as f64 * 0.9, "{used} octets are in use");
    }
    assert!(server.is_alive());
    assert_eq!(cgroup.oom_kills(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p14_short_memory_shrinks_caches_and_the_cluster_is_answered() {
    let upstream = wordy().await;
    let plenty = start("p14-plenty", upstream.address, "true");
    let used = plenty.metrics().value("process_resident_memory_bytes", &[]);
    assert_eq!(plenty.metrics().value("mainstay_memory_pressure", &[]), 0.0);
    drop(plenty);
    // So little that what it uses at rest is more than 80 % of it.
    let Some(cgroup) = Cgroup::of_memory((used * 1.15) as u64) else { return skip(NO_CGROUP) };
    let mut server = start("p14", upstream.address, &cgroup.join());
    eventually(|| {
        let is_short = server.metrics().value("mainstay_memory_pressure", &[]) == 1.0;
        is_short.then_some(()).ok_or_else(|| "no pressure".to_owned())
    });
    let kept = flood(&server, 4_000, |n| format!("x{n}.flood.example."));
    assert!(kept > 0, "some foreign names are answered");
    answers_the_cluster(&server);
    eventually(|| {
        let told = server.complaints().iter().any(|line| line.contains("memory is short"));
        told.then_some(()).ok_or_else(|| "nothing is told".to_owned())
    });
    eventually(|| {
        let shrinks = server.metrics().value("mainstay_memory_shrinks_total", &[]);
        (shrinks > 0.0).then_some(()).ok_or_else(|| "no cache has given memory back".to_owned())
    });
    until(server.ports.dns, "www.example. A", &format!("NOERROR {ADDRESS}"));
    answers_the_cluster(&server);
    assert!(server.is_alive());
    assert_eq!(cgroup.oom_kills(), 0);
}

/// Opens a connection from an address, and says nothing.
fn connect(from: Ipv4Addr, server: &Server) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, server.ports.dns));
    socket.connect_timeout(&to.into(), PATIENCE).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Asks over TCP; `false` when the connection ends without an answer.
fn asks_over_tcp(mut stream: TcpStream) -> bool {
    let question = question("kubernetes.default.svc.cluster.local.", 7);
    let framed = [&(question.len() as u16).to_be_bytes()[..], &question].concat();
    let mut reply = [0; 4];
    stream.write_all(&framed).is_ok() && stream.read_exact(&mut reply).is_ok() && reply[3] == 7
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p13_a_thousand_connections_and_256_files_leave_udp_and_upstreams_alone() {
    const CLIENTS: u32 = 1_000;
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    if getrlimit(Resource::Nofile).current.is_some_and(|files| files < u64::from(CLIENTS) * 2) {
        return skip("2 000 open files are needed; raise `ulimit -Hn`");
    }
    let upstream = LoopbackUpstream::honest().await;
    let mut server = start("p13", upstream.address, "ulimit -n 256");
    let held: Vec<_> = (0..CLIENTS).map(|n| connect(address(n / 32), &server)).collect();
    for number in 0..50 {
        answers_the_cluster(&server);
        let foreign = ask(server.ports.dns, &format!("x{number}.example. A"));
        assert_eq!(foreign, format!("NOERROR {ADDRESS}"));
    }
    let metrics = server.metrics();
    let turned_away = ["mainstay_tcp_refused_total", "mainstay_tcp_idle_closed_total"];
    assert!(turned_away.iter().map(|name| metrics.value(name, &[])).sum::<f64>() > 0.0);
    // Half of what is not reserved is for connections; the other half stays for upstreams.
    let files = metrics.value("process_open_fds", &[]);
    assert!(files <= 256.0 - 96.0, "{files} files are open");
    // One who has just come gets in, while all of them are still there or again.
    eventually(|| {
        let got_in = asks_over_tcp(connect(address(9_999), &server));
        got_in.then_some(()).ok_or_else(|| "no place over TCP".to_owned())
    });
    drop(held);
    eventually(|| {
        let got_in = asks_over_tcp(connect(address(9_998), &server));
        got_in.then_some(()).ok_or_else(|| "it does not recover".to_owned())
    });
    assert!(server.is_alive());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p15_more_than_a_throttled_server_can_answer_sheds_the_oldest_only() {
    const QUOTA_MS: u64 = 20;
    let Some(cgroup) = Cgroup::of_cpu(QUOTA_MS) else { return skip(NO_CGROUP) };
    let upstream = LoopbackUpstream::honest().await;
    let mut server = start("p15", upstream.address, &cgroup.join());
    let (is_over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let known = question("kubernetes.default.svc.cluster.local.", 1);
    thread::scope(|scope| {
        let socket = client(1, &server);
        let sender = socket.try_clone().unwrap();
        let (is_over, answered, known) = (&is_over, &answered, &known);
        scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let has_come = socket.recv(&mut [0; 512]).is_ok();
                answered.fetch_add(has_come.into(), Ordering::Relaxed);
            }
        });
        scope.spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                (0..64).for_each(|_| drop(sender.send(known)));
                thread::sleep(Duration::from_millis(2));
            }
        });
        let over = Over(is_over);
        eventually(|| {
            let shed = shed(&server.metrics());
            if shed > 0.0 { Ok(()) } else { Err("nothing is shed".to_owned()) }
        });
        let before = answered.load(Ordering::Relaxed);
        eventually(|| {
            assert_eq!(server.health(), 200);
            let more = answered.load(Ordering::Relaxed) - before;
            if more > 1_000 { Ok(()) } else { Err(format!("{more} answers under overload")) }
        });
        drop(over);
    });
    // What is left of the flood has gone when nothing was shed for a while.
    let mut last = shed(&server.metrics());
    eventually(|| {
        thread::sleep(Duration::from_secs(1));
        let before = std::mem::replace(&mut last, shed(&server.metrics()));
        if before == last { Ok(()) } else { Err(format!("{} more are shed", last - before)) }
    });
    until(server.ports.dns, KNOWN, KNOWN_ANSWER);
    let shed_then = shed(&server.metrics());
    (0..100).for_each(|_| answers_the_cluster(&server));
    assert_eq!(shed(&server.metrics()), shed_then, "who is not overloaded answers all");
    assert!(server.is_alive());
}

/// Ends a flood, also when a check fails.
struct Over<'o>(&'o AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn shed(metrics: &Metrics) -> f64 {
    metrics.sum("coredns_shed_dropped_total", &["reason=\"query\""]).unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p17_foreign_names_are_answered_before_the_api_server_says_a_word() {
    let upstream = LoopbackUpstream::honest().await;
    // It accepts and says nothing.
    let api = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let source = format!("endpoint http://{}", api.local_addr().unwrap());
    let ports = Ports::free();
    let corefile = ports.kubeadm(&source, &upstream.address.to_string());
    let server = Server::start_after("p17", ports, &corefile, "true");
    until(ports.dns, "www.example. A", &format!("NOERROR {ADDRESS}"));
    assert_eq!(server.ready(), 503);
    let (asked, _) = api.accept().expect("it has asked, or is about to");
    until(ports.dns, "other.example. A", &format!("NOERROR {ADDRESS}"));
    assert_eq!((server.ready(), server.health()), (503, 200));
    drop(asked);
}

/// Sends so many questions to a server that stands still, and counts those that are answered when
/// it goes on, each once.
fn burst(server: &Server, count: u32) -> u64 {
    let socket = client(1, server);
    server.signal("STOP");
    for number in 0..count {
        // The number is in the name, because an id has only 16 bits.
        let name = format!("x{number}.default.svc.cluster.local.");
        socket.send(&question(&name, number)).unwrap();
    }
    // Who reads is ready before replies come, so that only the server's buffer is too small.
    let receiver = socket.try_clone().unwrap();
    let receiving = thread::spawn(move || receive(&receiver));
    server.signal("CONT");
    receiving.join().unwrap()
}

/// Counts replies until none has come for a while, each once.
fn receive(socket: &UdpSocket) -> u64 {
    let (mut seen, mut room) = (HashSet::new(), [0; 2048]);
    let mut quiet_since = Instant::now();
    while quiet_since.elapsed() < Duration::from_secs(2) {
        let Ok(length) = socket.recv(&mut room) else { continue };
        quiet_since = Instant::now();
        let label = usize::from(room[12]);
        assert!(length > 13 + label);
        assert!(seen.insert(room[13..13 + label].to_vec()), "answered twice");
    }
    seen.len() as u64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p18_a_burst_waits_in_the_buffer_and_what_finds_no_room_is_counted() {
    /// 50 000 a second for 100 ms.
    const FITS: u32 = 5_000;
    const TOO_MANY: u32 = 40_000;
    let upstream = LoopbackUpstream::honest().await;
    let server = start("p18", upstream.address, "true");
    let dropped = || server.metrics().value("mainstay_receive_drops_total", &[]) as u64;
    if receive_buffer_max() < 4 << 20 && !rustix::process::geteuid().is_root() {
        return skip("net.core.rmem_max is less than 4 MiB, and only root may have more");
    }
    assert_eq!((burst(&server, FITS), dropped()), (u64::from(FITS), 0));
    let answered = burst(&server, TOO_MANY);
    let lost = dropped() + shed(&server.metrics()) as u64;
    assert!(dropped() > 0);
    assert_eq!(answered + lost, u64::from(TOO_MANY), "{answered} answered, {lost} counted");
    answers_the_cluster(&server);
}

/// The largest receive buffer that anybody may have.
fn receive_buffer_max() -> usize {
    let probe = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let probe = SockRef::from(&probe);
    let _ = probe.set_recv_buffer_size(64 << 20);
    // The kernel tells twice what it was asked for.
    probe.recv_buffer_size().unwrap() / 2
}

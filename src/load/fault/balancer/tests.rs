//! A balancer in front of stubs on loopback.

use std::sync::atomic::Ordering;

use tokio::io::AsyncWriteExt;

use super::super::relay::{Between, Relay, To};
use super::super::waiting::until_tasks;
use super::*;
use crate::wire::{RecordType, message};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

async fn stub() -> Relay {
    Relay::start(Between { listen: ANY, to: To::Stub }, 1).await.unwrap()
}

async fn balancer(backends: &[SocketAddr], cleanup: Cleanup) -> Balancer {
    Balancer::start(ANY, backends, cleanup, 1).await.unwrap()
}

/// A client that keeps its socket.
struct Client(UdpSocket);

impl Client {
    async fn of(balancer: &Balancer) -> Self {
        let socket = UdpSocket::bind(ANY).await.unwrap();
        socket.connect(balancer.listen()).await.unwrap();
        Self(socket)
    }

    async fn ask(&self, id: u16) {
        let mut question = message::question("www.example.org.", RecordType::A, None);
        question[..2].copy_from_slice(&id.to_be_bytes());
        self.0.send(&question).await.unwrap();
    }

    /// The id of the next answer.
    async fn answer(&self) -> u16 {
        let mut buffer = [0; 512];
        self.0.recv(&mut buffer).await.unwrap();
        u16::from_be_bytes([buffer[0], buffer[1]])
    }
}

fn asked(stub: &Relay) -> u64 {
    stub.counters().questions.load(Ordering::Relaxed)
}

async fn wait_for(what: &str, counter: &AtomicU64, count: u64) {
    until_tasks(what, || counter.load(Ordering::Relaxed) >= count).await;
}

#[tokio::test]
async fn clients_are_spread_over_servers_and_stay_with_theirs() {
    let (a, b) = (stub().await, stub().await);
    let balancer = balancer(&[a.listen(), b.listen()], Cleanup::Never).await;
    for _ in 0..20 {
        let client = Client::of(&balancer).await;
        let before = asked(&a);
        for id in 0..4 {
            client.ask(id).await;
            assert_eq!(client.answer().await, id);
        }
        assert!([0, 4].contains(&(asked(&a) - before)));
    }
    assert!(asked(&a) > 0 && asked(&b) > 0);
}

#[tokio::test]
async fn a_pinned_client_is_stuck_and_a_fresh_one_is_not() {
    let (a, b) = (stub().await, stub().await);
    let balancer = balancer(&[a.listen()], Cleanup::Never).await;
    let pinned = Client::of(&balancer).await;
    pinned.ask(1).await;
    assert_eq!(pinned.answer().await, 1);
    balancer.remove(a.listen());
    balancer.add(b.listen()).await.unwrap();
    drop(a);
    pinned.ask(2).await;
    let fresh = Client::of(&balancer).await;
    fresh.ask(3).await;
    assert_eq!(fresh.answer().await, 3);
    // The refusal of the dead server's port reaches nobody.
    let nothing = pinned.0.try_recv(&mut [0; 512]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(asked(&b), 1);
}

#[tokio::test]
async fn a_clean_up_without_a_lag_lets_a_pinned_client_go() {
    let (a, b) = (stub().await, stub().await);
    let balancer = balancer(&[a.listen()], Cleanup::After(Duration::ZERO)).await;
    let client = Client::of(&balancer).await;
    client.ask(1).await;
    assert_eq!(client.answer().await, 1);
    balancer.add(b.listen()).await.unwrap();
    balancer.remove(a.listen());
    client.ask(2).await;
    assert_eq!((client.answer().await, asked(&a), asked(&b)), (2, 1, 1));
}

#[tokio::test]
async fn without_servers_there_is_silence() {
    let balancer = balancer(&[], Cleanup::Never).await;
    let client = Client::of(&balancer).await;
    client.ask(1).await;
    client.0.send(b"short").await.unwrap();
    let mut stream = TcpStream::connect(balancer.listen()).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let counters = balancer.counters();
    wait_for("2 nowhere", &counters.nowhere, 2).await;
    wait_for("1 garbage", &counters.garbage, 1).await;
    let nothing = stream.try_read(&mut [0; 8]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
    let a = stub().await;
    balancer.add(a.listen()).await.unwrap();
    client.ask(2).await;
    assert_eq!(client.answer().await, 2);
}

#[tokio::test]
async fn connections_stay_with_a_server_that_was_removed() {
    let a = stub().await;
    let balancer = balancer(&[a.listen()], Cleanup::After(Duration::ZERO)).await;
    let mut stream = TcpStream::connect(balancer.listen()).await.unwrap();
    wait_for("1 connections", &balancer.counters().connections, 1).await;
    // A first answer shows that the connection has its server.
    for _ in 0..2 {
        let question = message::question("www.example.org.", RecordType::A, None);
        stream.write_u16(question.len() as u16).await.unwrap();
        stream.write_all(&question).await.unwrap();
        let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut answer).await.unwrap();
        balancer.remove(a.listen());
    }
    assert_eq!(asked(&a), 2);
}

#[tokio::test]
async fn servers_are_bounded() {
    let balancer = balancer(&[], Cleanup::Never).await;
    for number in 0..BACKENDS_MAX {
        let backend = SocketAddr::from(([127, 0, 0, 2], 1024 + number as u16));
        balancer.add(backend).await.unwrap();
    }
    let error = balancer.add(SocketAddr::from(([127, 0, 0, 3], 53))).await.unwrap_err();
    assert_eq!(error.to_string(), "a balancer has at most 64 servers");
}

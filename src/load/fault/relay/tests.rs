//! Relays on loopback: what passes, what does not, and what is counted.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::waiting::until_tasks;
use super::*;
use crate::wire::message;
use crate::wire::{HEADER_LEN, Rcode, RecordType};

/// A client of a relay: a socket with a fresh port.
struct Client(UdpSocket);

impl Client {
    async fn of(listen: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(listen).await.unwrap();
        Self(socket)
    }

    async fn ask(&self, id: u16) {
        self.0.send(&question(id)).await.unwrap();
    }

    async fn answer(&self) -> Vec<u8> {
        let mut buffer = vec![0; 4096];
        let length = self.0.recv(&mut buffer).await.unwrap();
        buffer.truncate(length);
        buffer
    }
}

fn question(id: u16) -> Vec<u8> {
    let mut question = message::question("www.example.org.", RecordType::A, Some(1232));
    question[..2].copy_from_slice(&id.to_be_bytes());
    question
}

fn id(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[0], message[1]])
}

fn rcode(message: &[u8]) -> Rcode {
    Rcode(u16::from(message[3] & 0x0F))
}

fn counted(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Waits until something was counted so often.
async fn wait_for(what: &str, counter: &AtomicU64, count: u64) {
    until_tasks(what, || counted(counter) >= count).await;
}

async fn relay(to: To) -> Relay {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    Relay::start(Between { listen, to }, 1).await.unwrap()
}

/// A relay, and the stub that it asks.
async fn relay_and_stub() -> (Relay, Relay) {
    let stub = relay(To::Stub).await;
    (relay(To::Server(stub.listen())).await, stub)
}

async fn ask_over_tcp(stream: &mut TcpStream, id: u16) {
    let question = question(id);
    stream.write_u16(question.len() as u16).await.unwrap();
    stream.write_all(&question).await.unwrap();
}

async fn answer_over_tcp(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = vec![0; stream.read_u16().await.unwrap().into()];
    stream.read_exact(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn answers_find_back_to_their_clients_with_their_ids() {
    let (relay, _stub) = relay_and_stub().await;
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(Client::of(relay.listen()).await);
    }
    for client in &clients {
        client.ask(7).await;
        client.ask(8).await;
    }
    for client in &clients {
        let mut ids = [id(&client.answer().await), id(&client.answer().await)];
        ids.sort_unstable();
        assert_eq!(ids, [7, 8]);
    }
    assert_eq!(counted(&relay.counters().questions), 80);
}

#[tokio::test]
async fn what_is_no_question_goes_no_further() {
    let (relay, stub) = relay_and_stub().await;
    let client = Client::of(relay.listen()).await;
    client.0.send(b"short").await.unwrap();
    let mut response = question(1);
    response[2] |= 0x80;
    client.0.send(&response).await.unwrap();
    client.ask(2).await;
    assert_eq!(id(&client.answer().await), 2);
    assert_eq!(counted(&relay.counters().garbage), 2);
    assert_eq!(counted(&stub.counters().questions), 1);
}

#[tokio::test]
async fn a_black_hole_swallows_until_it_ends() {
    let (relay, stub) = relay_and_stub().await;
    let client = Client::of(relay.listen()).await;
    let hole = relay.begin(Impairment::Blackhole);
    client.ask(1).await;
    wait_for("1 swallowed", &relay.counters().swallowed, 1).await;
    relay.end(hole);
    client.ask(2).await;
    assert_eq!(id(&client.answer().await), 2);
    assert_eq!(counted(&stub.counters().questions), 1);
}

#[tokio::test]
async fn an_answer_that_is_under_way_falls_into_the_hole_too() {
    let upstream = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let relay = relay(To::Server(upstream.local_addr().unwrap())).await;
    let client = Client::of(relay.listen()).await;
    client.ask(1).await;
    let mut buffer = [0; 512];
    let (length, from) = upstream.recv_from(&mut buffer).await.unwrap();
    relay.begin(Impairment::Blackhole);
    upstream.send_to(&stub::answer(&buffer[..length]), from).await.unwrap();
    wait_for("1 swallowed", &relay.counters().swallowed, 1).await;
    assert_eq!(counted(&relay.counters().answers), 0);
}

#[tokio::test(start_paused = true)]
async fn a_delay_holds_answers_back_and_later_ones_overtake_them() {
    let (relay, _stub) = relay_and_stub().await;
    let client = Client::of(relay.listen()).await;
    let delay = relay.begin(Impairment::Delay(Duration::from_millis(50)));
    client.ask(1).await;
    wait_for("1 delayed", &relay.counters().delayed, 1).await;
    relay.end(delay);
    client.ask(2).await;
    // The clock goes on when the test has nothing to do, and not before it has this answer.
    wait_for("1 answer", &relay.counters().answers, 1).await;
    assert_eq!([id(&client.answer().await), id(&client.answer().await)], [2, 1]);
}

#[tokio::test]
async fn servfail_and_truncation_never_ask_the_upstream() {
    let (relay, stub) = relay_and_stub().await;
    let client = Client::of(relay.listen()).await;
    let cut = relay.begin(Impairment::Truncate);
    client.ask(1).await;
    let answer = client.answer().await;
    assert_eq!((id(&answer), rcode(&answer), answer[2] & 0x02), (1, Rcode::NOERROR, 0x02));
    assert_eq!(&answer[6..8], [0, 0]);
    // Over TCP it comes whole.
    let mut stream = TcpStream::connect(relay.listen()).await.unwrap();
    ask_over_tcp(&mut stream, 2).await;
    let answer = answer_over_tcp(&mut stream).await;
    assert_eq!((id(&answer), &answer[6..8]), (2, &[0, 1][..]));
    relay.end(cut);
    relay.begin(Impairment::Servfail);
    client.ask(3).await;
    let answer = client.answer().await;
    assert_eq!((id(&answer), rcode(&answer)), (3, Rcode::SERVFAIL));
    assert_eq!(answer[HEADER_LEN..HEADER_LEN + 21], question(3)[HEADER_LEN..HEADER_LEN + 21]);
    ask_over_tcp(&mut stream, 4).await;
    let answer = answer_over_tcp(&mut stream).await;
    assert_eq!((id(&answer), rcode(&answer)), (4, Rcode::SERVFAIL));
    assert_eq!(counted(&stub.counters().questions), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_beyond_the_rate_is_dropped_and_counted() {
    let relay = relay(To::Stub).await;
    relay.begin(Impairment::Pps(1));
    let client = Client::of(relay.listen()).await;
    for id in 0..3 {
        client.ask(id).await;
    }
    wait_for("2 beyond_rate", &relay.counters().beyond_rate, 2).await;
    assert_eq!(id(&client.answer().await), 0);
    assert_eq!(counted(&relay.counters().answers), 1);
}

#[tokio::test]
async fn connections_carry_many_questions_and_end_with_the_upstream() {
    let (relay, stub) = relay_and_stub().await;
    let mut stream = TcpStream::connect(relay.listen()).await.unwrap();
    let hole = relay.begin(Impairment::Blackhole);
    ask_over_tcp(&mut stream, 1).await;
    wait_for("1 swallowed", &relay.counters().swallowed, 1).await;
    relay.end(hole);
    for id in 2..5 {
        ask_over_tcp(&mut stream, id).await;
    }
    for expected in 2..5 {
        assert_eq!(id(&answer_over_tcp(&mut stream).await), expected);
    }
    drop(stub);
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn answers_come_after_the_client_has_said_all() {
    let (relay, _stub) = relay_and_stub().await;
    let mut stream = TcpStream::connect(relay.listen()).await.unwrap();
    ask_over_tcp(&mut stream, 9).await;
    stream.shutdown().await.unwrap();
    assert_eq!(id(&answer_over_tcp(&mut stream).await), 9);
}

#[tokio::test]
async fn an_upstream_that_is_away_is_silence_over_udp_and_the_end_over_tcp() {
    let (udp, tcp) = listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let gone = udp.local_addr().unwrap();
    drop((udp, tcp));
    let relay = relay(To::Server(gone)).await;
    let client = Client::of(relay.listen()).await;
    for id in 0..4 {
        client.ask(id).await;
    }
    wait_for("4 questions", &relay.counters().questions, 4).await;
    let mut stream = TcpStream::connect(relay.listen()).await.unwrap();
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
    assert_eq!(counted(&relay.counters().unreachable), 1);
    assert_eq!(counted(&relay.counters().answers), 0);
}

#[tokio::test]
async fn a_relay_ends_when_it_is_dropped() {
    let relay = relay(To::Stub).await;
    let listen = relay.listen();
    let mut stream = TcpStream::connect(listen).await.unwrap();
    drop(relay);
    assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
}

#[test]
fn relays_are_read_and_what_is_none_is_refused() {
    let read = |text: &str| Between::parse(text).map_err(|error| error.to_string());
    let listen = SocketAddr::from(([127, 0, 0, 1], 5300));
    assert_eq!(read("127.0.0.1:5300=stub"), Ok(Between { listen, to: To::Stub }));
    let to = To::Server("[2001:db8::1]:53".parse().unwrap());
    assert_eq!(read("127.0.0.1:5300=2001:db8::1"), Ok(Between { listen, to }));
    for (text, why) in [
        ("127.0.0.1:5300", "there is no `=`"),
        ("5300=stub", "LISTEN is no ADDRESS:PORT"),
        ("127.0.0.1:5300=stubb", "TO is neither an address nor stub"),
        ("127.0.0.1:5300=127.0.0.1:5300", "it would ask itself"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(why) && error.contains("=stub"), "{error}");
    }
}

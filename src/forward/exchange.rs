//! One question over UDP.
//!
//! Each query has a socket of its own, connected, on a port that we draw (RFC 5452 §9.2): nothing
//! is pooled that could be mapped. The socket lives as long as the wait. Whatever arrives that is
//! not the answer is counted and does not end the wait: not a short datagram, not a forged one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::counters::Counter;
use super::entropy;
use super::failure::{Act, Cause, Failure, Path, Proto};
use super::request::{Received, Request, is_response};
use crate::wire::{HEADER_LEN, Rcode};

/// Ports drawn for one query before the kernel may choose: with a tenth of all ports taken, one
/// query in 10⁸ gets there.
const PORT_DRAWS_MAX: usize = 8;
/// Octets received of one datagram. More than the 1232 that we advertise, for upstreams that
/// ignore it: a datagram that was cut by us would not parse.
const DATAGRAM_MAX: usize = 4096;

/// Sends the request and waits for what it may be answered with, however long that takes.
///
/// # Errors
/// The network's.
pub async fn ask(
    (socket, path): (UdpSocket, Path),
    request: &Request,
    mismatched: &Counter,
) -> Result<Received, Failure> {
    converse(
        socket,
        path,
        |id| request.packet(id),
        |id, message| match request.judge(id, message) {
            Received::Ignored => {
                mismatched.add();
                None
            }
            received => {
                mismatched.add_many(u64::from(received == Received::NearMiss));
                Some(received)
            }
        },
    )
    .await
}

/// Sends the request and waits for any response to it.
///
/// # Errors
/// The network's, and the time-out at `until`.
pub async fn probe(
    request: &Request,
    (remote, source): (SocketAddr, Option<IpAddr>),
    until: Instant,
) -> Result<(), Failure> {
    let packet = |id| request.packet(id);
    let is_it = |id, message: &[u8]| is_response(id, message).then_some(());
    wait(packet, (source, remote), until, is_it).await
}

/// Tells a secondary that a zone has changed, and waits for its response code (RFC 1996 §3).
/// `notice` is the message, whose id is drawn here; it leaves from `source` if that is given.
///
/// # Errors
/// As [`probe`].
pub async fn notify(
    notice: &[u8],
    source: Option<IpAddr>,
    remote: SocketAddr,
    until: Instant,
) -> Result<Rcode, Failure> {
    let packet = |id: u16| [&id.to_be_bytes(), &notice[2..]].concat();
    // QR, and the opcode that was sent (RFC 1996 §4.7).
    let is_it = |id: u16, message: &[u8]| {
        let is_its = message.len() >= HEADER_LEN && message[..2] == id.to_be_bytes();
        let is_response = is_its && message[2] & 0xF8 == 0x80 | notice[2] & 0x78;
        is_response.then(|| Rcode(u16::from(message[3] & 0x0F)))
    };
    wait(packet, (source, remote), until, is_it).await
}

/// A socket of its own for one query, and both ends of it.
///
/// # Errors
/// No socket, no port, or no way there.
pub fn open(remote: SocketAddr, source: Option<IpAddr>) -> Result<(UdpSocket, Path), Failure> {
    let path = Path { proto: Proto::Udp, local: None, remote };
    // An address of the other family cannot be the source.
    let source = source.filter(|source| source.is_ipv4() == remote.is_ipv4());
    let socket = connect(source.unwrap_or(unspecified(remote)), remote)
        .map_err(|error| path.failed(Act::Dial, error))?;
    let local = socket.local_addr().ok();
    Ok((socket, Path { local, ..path }))
}

/// Sends a packet and waits until `accept` takes a datagram.
async fn wait<T>(
    packet: impl Fn(u16) -> Vec<u8>,
    (source, remote): (Option<IpAddr>, SocketAddr),
    until: Instant,
    accept: impl Fn(u16, &[u8]) -> Option<T>,
) -> Result<T, Failure> {
    let (socket, path) = open(remote, source)?;
    let timed_out = |_| Err(path.failed(Act::Read, Cause::TimedOut));
    timeout_at(until, converse(socket, path, packet, accept)).await.unwrap_or_else(timed_out)
}

/// Sends a packet and waits for ever until `accept` takes a datagram.
async fn converse<T>(
    socket: UdpSocket,
    path: Path,
    packet: impl Fn(u16) -> Vec<u8>,
    accept: impl Fn(u16, &[u8]) -> Option<T>,
) -> Result<T, Failure> {
    let id = entropy::id();
    let sent = socket.send(&packet(id)).await;
    sent.map_err(|error| path.failed(Act::Write, error))?;
    loop {
        readable(&socket).await.map_err(|error| path.failed(Act::Read, error))?;
        match receive(&socket, path.remote, |message| accept(id, message)) {
            Ok(Some(taken)) => return Ok(taken),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(path.failed(Act::Read, error)),
        }
    }
}

/// Waits for a datagram.
///
/// # Errors
/// What ICMP says, which is no datagram and has to be asked for.
async fn readable(socket: &UdpSocket) -> io::Result<()> {
    let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
    if ready.is_error() {
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        // Nothing is wrong, so the next wait is to wait for it again.
        let none = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _ = socket.try_io(Interest::ERROR, none);
    }
    Ok(())
}

/// Receives one datagram from `remote`. Not async, so that its buffer lies on the stack of the
/// thread and not in what waits: thousands may wait for a silent upstream.
fn receive<T>(
    socket: &UdpSocket,
    remote: SocketAddr,
    accept: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Option<T>> {
    let mut buffer = [0; DATAGRAM_MAX];
    let (length, source) = socket.try_recv_from(&mut buffer)?;
    // What came between bind and connect is still in the queue, whoever sent it.
    let is_remote = (source.ip(), source.port()) == (remote.ip(), remote.port());
    Ok(is_remote.then(|| accept(&buffer[..length])).flatten())
}

/// A connected socket on a port of our choice.
fn connect(local: IpAddr, remote: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(remote), Type::DGRAM, Some(Protocol::UDP))?;
    if remote.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    bind(&socket, local)?;
    socket.connect(&remote.into())?;
    UdpSocket::from_std(socket.into())
}

/// Binds to a drawn port; another one if it is taken.
fn bind(socket: &Socket, local: IpAddr) -> io::Result<()> {
    for _ in 0..PORT_DRAWS_MAX {
        match socket.bind(&SocketAddr::new(local, entropy::port()).into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            done => return done,
        }
    }
    socket.bind(&SocketAddr::new(local, 0).into())
}

/// The wildcard address of the family of `remote`.
fn unspecified(remote: SocketAddr) -> IpAddr {
    match remote {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::forward::Forward;
    use crate::forward::scripted::{Act, LoopbackUpstream, Over, good};
    use crate::forward::tests::{config, question};

    /// A way to spoil a good response.
    type Spoil = fn(&mut Vec<u8>);

    /// Octets of the question section of [`question`] and of what lies before the answer.
    const ANSWER_AT: usize = 12 + 17 + 4;

    const LIES: [(&str, Spoil); 19] = [
        ("nothing", |message| message.clear()),
        ("one octet", |message| message.truncate(1)),
        ("less than a header", |message| message.truncate(11)),
        ("only a header", |message| message.truncate(12)),
        ("half a question", |message| message.truncate(20)),
        ("a record cut short", |message| message.truncate(ANSWER_AT + 5)),
        ("garbage", |message| message.fill(0xA5)),
        ("another id", |message| message[1] ^= 1),
        ("a request", |message| message[2] &= 0x7F),
        ("another opcode", |message| message[2] |= 0x28),
        ("no question", |message| message[5] = 0),
        ("two questions", |message| message[5] = 2),
        ("another name", |message| message[13] = b'x'),
        ("a longer name", |message| message[12] = 7),
        ("another type", |message| message[ANSWER_AT - 3] = 28),
        ("another class", |message| message[ANSWER_AT - 1] = 3),
        ("more records than there are", |message| message[7] = 200),
        ("a name that points at itself", |message| message[ANSWER_AT + 1] = ANSWER_AT as u8),
        ("an address of five octets", |message| message[ANSWER_AT + 11] = 5),
    ];

    #[tokio::test(start_paused = true)]
    async fn a_lie_is_counted_and_the_truth_behind_it_is_taken() {
        for (lie, spoil) in LIES {
            let liar = LoopbackUpstream::scripted(move |asked| {
                let truth = good(&asked.packet);
                let mut lie = truth.clone();
                spoil(&mut lie);
                vec![Act::Send(lie), Act::Send(truth)]
            })
            .await;
            let forward = Forward::start(config(&[liar.address])).unwrap();
            let answer = forward.ask(&question(), false).await.unwrap();
            let counters = &forward.upstreams()[0].counters;
            assert_eq!(answer.answer_count(), 1, "{lie}");
            // Whoever is guessed at is asked again over TCP, where the lie is passed over too.
            let near = counters.near_misses.value();
            assert_eq!(near, u64::from(lie == "another id"), "{lie}");
            let seen = (counters.mismatched.value(), counters.failures.value());
            assert_eq!(seen, (1 + near, 0), "{lie}");
            let over = (liar.count(Over::Udp), liar.count(Over::Tcp));
            assert_eq!(over, (1, near as usize), "{lie}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_guess_sends_the_question_over_tcp_where_a_flood_of_them_changes_nothing() {
        let liar = LoopbackUpstream::scripted(|asked| {
            let truth = good(&asked.packet);
            let guess = |id: u16| Act::Send([&id.to_be_bytes(), &truth[2..]].concat());
            let id = u16::from_be_bytes([truth[0], truth[1]]);
            let guesses = (1..100).map(|step| guess(id.wrapping_add(step)));
            guesses.chain([Act::Send(truth.clone())]).collect()
        })
        .await;
        let forward = Forward::start(config(&[liar.address])).unwrap();
        assert!(forward.ask(&question(), false).await.is_ok());
        let counters = &forward.upstreams()[0].counters;
        assert_eq!((counters.near_misses.value(), counters.mismatched.value()), (1, 1 + 99));
        assert_eq!((liar.count(Over::Udp), liar.count(Over::Tcp)), (1, 1));
    }

    #[tokio::test]
    async fn each_query_comes_from_a_port_of_its_own_with_an_id_of_its_own() {
        let honest = LoopbackUpstream::honest().await;
        let forward = Forward::start(config(&[honest.address])).unwrap();
        for _ in 0..50 {
            forward.ask(&question(), false).await.unwrap();
        }
        let asked = honest.asked();
        let ports: HashSet<u16> = asked.iter().map(|asked| asked.from.port()).collect();
        let ids: HashSet<&[u8]> = asked.iter().map(|asked| &asked.packet[..2]).collect();
        assert!(ports.len() >= 48 && ids.len() >= 48, "{} ports, {} ids", ports.len(), ids.len());
    }

    #[tokio::test]
    async fn a_taken_port_is_drawn_again() {
        let remote: SocketAddr = "127.0.0.1:53".parse().unwrap();
        let open: Vec<UdpSocket> = (0..500).map(|_| open(remote, None).unwrap().0).collect();
        let ports: HashSet<u16> =
            open.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        assert_eq!(ports.len(), open.len());
    }
}

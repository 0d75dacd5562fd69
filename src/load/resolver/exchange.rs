//! The sockets: questions out, whatever comes in, and the end of the wait.
//!
//! Every packet is counted here, so that what is sent is what is answered, lost, unreachable, or
//! no longer waited for. Whether a datagram fits, and what follows from it, is the resolver's.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

use super::message::{Fit, Question, Reply};
use crate::load::record::PacketCounts;

/// Octets received of one datagram: more than any EDNS offer of a resolver here.
pub const DATAGRAM_MAX: usize = 4096;
/// Messages that are skipped on one connection before it counts as cut: a server that sends what
/// nobody asked for does not hold a lookup for ever.
const SKIPPED_MAX: usize = 16;

/// What ends a wait: a datagram, or an ICMP message, which alone does not make a socket readable.
const READ_OR_ERROR: Interest = Interest::READABLE.add(Interest::ERROR);

/// A UDP socket.
pub struct Udp {
    socket: UdpSocket,
    /// Whom it is connected to.
    server: Option<SocketAddr>,
}

/// What a wait for a datagram ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A datagram lies in the buffer; from there.
    Datagram(SocketAddr),
    /// The network says that nobody is there (ICMP). Only connected sockets hear of it.
    Refused,
    /// Nothing came in time.
    TimedOut,
}

impl Udp {
    /// A socket that sends to, and receives from, one server.
    ///
    /// # Errors
    /// No more sockets, no more ports, no route.
    pub fn connected(server: SocketAddr) -> io::Result<Self> {
        let socket = open(Domain::for_address(server))?;
        socket.connect(&server.into())?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, server: Some(server) })
    }

    /// A socket for several servers: of IPv6 with addresses mapped when one of them is of IPv6.
    ///
    /// # Errors
    /// No more sockets, no more ports.
    pub fn unconnected(servers: &[SocketAddr]) -> io::Result<Self> {
        let is_v6 = servers.iter().any(SocketAddr::is_ipv6);
        let socket = open(if is_v6 { Domain::IPV6 } else { Domain::IPV4 })?;
        let local: SocketAddr = if is_v6 {
            socket.set_only_v6(false)?;
            (Ipv6Addr::UNSPECIFIED, 0).into()
        } else {
            (Ipv4Addr::UNSPECIFIED, 0).into()
        };
        socket.bind(&local.into())?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, server: None })
    }

    /// Where it is.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends on a connected socket. What cannot be sent is counted as unreachable.
    ///
    /// # Errors
    /// The network's: an ICMP message about what was sent before comes as an error of this too.
    pub async fn send(&self, question: &Question, counts: &mut PacketCounts) -> io::Result<()> {
        let sent = match SockRef::from(&self.socket).send(question.octets()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.socket.send(question.octets()).await
            }
            done => done,
        };
        note_sent(sent, counts)
    }

    /// Sends on an unconnected socket. What cannot be sent is counted as unreachable.
    ///
    /// # Errors
    /// The network's.
    pub async fn send_to(
        &self,
        question: &Question,
        server: SocketAddr,
        counts: &mut PacketCounts,
    ) -> io::Result<()> {
        let server = self.mapped(server);
        let sent = match SockRef::from(&self.socket).send_to(question.octets(), &server.into()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.socket.send_to(question.octets(), server).await
            }
            done => done,
        };
        note_sent(sent, counts)
    }

    /// Waits for one datagram, of at most [`DATAGRAM_MAX`] octets.
    pub async fn receive(&self, buffer: &mut Vec<u8>, until: Instant) -> Event {
        let received = self.socket.async_io(READ_OR_ERROR, || self.receive_now(buffer));
        match timeout_at(until, received).await {
            Ok(Ok(from)) => Event::Datagram(from),
            Ok(Err(_)) => Event::Refused,
            Err(_) => Event::TimedOut,
        }
    }

    /// What lies in the socket. Thousands wait at once for a silent server: there is room for a
    /// datagram only when one is there.
    fn receive_now(&self, buffer: &mut Vec<u8>) -> io::Result<SocketAddr> {
        let mut datagram = [0; DATAGRAM_MAX];
        let socket = SockRef::from(&self.socket);
        let from = match self.server {
            Some(server) => server,
            None => socket.peek_sender()?.as_socket().ok_or(io::ErrorKind::InvalidData)?,
        };
        let octets = (&*socket).read(&mut datagram)?;
        buffer.clear();
        buffer.extend_from_slice(&datagram[..octets]);
        Ok(plain(from))
    }

    /// An address of IPv4 as a socket of IPv6 has it.
    fn mapped(&self, server: SocketAddr) -> SocketAddr {
        let is_v6 = self.socket.local_addr().is_ok_and(|local| local.is_ipv6());
        match server {
            SocketAddr::V4(v4) if is_v6 => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            other => other,
        }
    }
}

/// The address of IPv4 behind a mapped one.
pub fn plain(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => (v4, address.port()).into(),
        // With its scope, without which nobody reaches a link-local one.
        IpAddr::V6(_) => address,
    }
}

/// Whether both are one server. The kernel knows the scope of an address where it is not written.
pub fn is_same(server: SocketAddr, from: SocketAddr) -> bool {
    let of = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    of(server) == of(from)
}

/// A datagram socket of its own, that does not block.
fn open(domain: Domain) -> io::Result<Socket> {
    Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))
}

fn note_sent(sent: io::Result<usize>, counts: &mut PacketCounts) -> io::Result<()> {
    counts.sent += 1;
    counts.unreachable += u64::from(sent.is_err());
    sent.map(drop)
}

/// Whether it is us who have no socket, or no port, left: the server is not to blame.
pub fn is_exhausted(error: &io::Error) -> bool {
    /// ENFILE and EMFILE of Linux, which have no kind of their own.
    const TABLES_FULL: [i32; 2] = [23, 24];
    error.raw_os_error().is_some_and(|number| TABLES_FULL.contains(&number))
        || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// Notes a datagram that is no reply to what is under way.
pub fn count_misfit(fit: Fit, counts: &mut PacketCounts) {
    match fit {
        Fit::Garbage => counts.garbage += 1,
        Fit::Yes | Fit::Other => counts.mismatched += 1,
    }
}

/// Asks all questions on one new connection, in one write, and waits for all replies, which come in
/// any order. A connection that fails is counted, with the questions that it leaves unanswered.
///
/// # Errors
/// The network's, `TimedOut` at `until`, `UnexpectedEof` for a connection that was closed.
pub async fn ask_over_tcp(
    server: SocketAddr,
    questions: &[Question],
    until: Instant,
    counts: &mut PacketCounts,
) -> io::Result<Vec<Reply>> {
    let mut replies = Vec::with_capacity(questions.len());
    let asked = match timeout_at(until, connect_and_ask(server, questions, counts)).await {
        Ok(asked) => asked,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    let done = match asked {
        Ok(mut stream) => {
            let received = receive_all(&mut stream, questions, &mut replies, counts);
            let timed_out = Err(io::ErrorKind::TimedOut.into());
            let received = timeout_at(until, received).await.unwrap_or(timed_out);
            counts.lost += (questions.len() - replies.len()) as u64;
            received
        }
        Err(error) => Err(error),
    };
    counts.tcp_failed += u64::from(done.is_err());
    done.map(|()| replies)
}

/// Connects and sends all questions, each behind its length (RFC 1035 §4.2.2).
async fn connect_and_ask(
    server: SocketAddr,
    questions: &[Question],
    counts: &mut PacketCounts,
) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(server).await?;
    let mut octets = Vec::new();
    for question in questions {
        octets.extend_from_slice(&(question.octets().len() as u16).to_be_bytes());
        octets.extend_from_slice(question.octets());
    }
    stream.write_all(&octets).await?;
    counts.sent += questions.len() as u64;
    counts.tcp += questions.len() as u64;
    Ok(stream)
}

/// Receives until each question has its reply.
async fn receive_all(
    stream: &mut TcpStream,
    questions: &[Question],
    replies: &mut Vec<Reply>,
    counts: &mut PacketCounts,
) -> io::Result<()> {
    for _ in 0..questions.len() + SKIPPED_MAX {
        let mut message = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut message).await?;
        let is_open = |question: &&Question| !replies.iter().any(|it| it.id() == question.id());
        let fits = questions.iter().filter(is_open).map(|question| question.fit(&message));
        match fits.max_by_key(|fit| *fit == Fit::Yes).unwrap_or(Fit::Other) {
            Fit::Yes => {
                let reply = Reply::new(message).ok_or(io::ErrorKind::InvalidData)?;
                reply.count(counts);
                replies.push(reply);
            }
            other => count_misfit(other, counts),
        }
        if replies.len() == questions.len() {
            return Ok(());
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// How long a question over TCP may take. glibc has no limit of its own but those of the kernel
/// (127 s for a connection, none for a reply); a run has to end.
pub const TCP_WAIT_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::resolver::scripted::{self, Act, Flow, Server};
    use crate::wire::{Name, Rcode, RecordType};

    fn question() -> Question {
        Question::new(&Name::parse("web.shop").unwrap(), RecordType::A)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test(start_paused = true)]
    async fn a_datagram_comes_back_and_silence_ends_in_time() {
        let _flow = Flow::start();
        let mut turn = 0;
        let server = Server::start(move |asked| {
            turn += 1;
            let reply = scripted::reply(&asked.packet, Rcode::NOERROR, &["10.0.0.1"]);
            if turn == 1 { vec![Act::Send(reply)] } else { vec![] }
        });
        let (mut counts, mut buffer) = (PacketCounts::default(), Vec::new());
        let udp = Udp::connected(server.address).unwrap();
        let question = question();
        udp.send(&question, &mut counts).await.unwrap();
        assert_eq!(udp.receive(&mut buffer, soon()).await, Event::Datagram(server.address));
        assert_eq!(question.fit(&buffer), Fit::Yes);
        let udp = Udp::unconnected(&[server.address, "[::1]:9".parse().unwrap()]).unwrap();
        udp.send_to(&question, server.address, &mut counts).await.unwrap();
        assert_eq!(udp.receive(&mut buffer, soon()).await, Event::TimedOut);
        assert_eq!((counts.sent, counts.unreachable, server.asked().len()), (2, 0, 2));
    }

    #[test]
    fn servers_are_known_by_address_and_port() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (server, from, expected) in [
            ("[::ffff:10.0.0.1]:53", "10.0.0.1:53", true),
            ("[fe80::1%2]:53", "[fe80::1%3]:53", true),
            ("10.0.0.1:53", "10.0.0.1:54", false),
            ("10.0.0.1:53", "10.0.0.2:53", false),
        ] {
            assert_eq!(is_same(address(server), address(from)), expected, "{server}");
        }
        assert_eq!(plain(address("[::ffff:10.0.0.1]:53")), address("10.0.0.1:53"));
        assert_eq!(plain(address("[fe80::1%2]:53")), address("[fe80::1%2]:53"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_port_is_told_by_the_network() {
        let _flow = Flow::start();
        let closed = scripted::Closed::new();
        let (mut counts, mut buffer) = (PacketCounts::default(), Vec::new());
        let udp = Udp::connected(closed.address).unwrap();
        udp.send(&question(), &mut counts).await.unwrap();
        assert_eq!(udp.receive(&mut buffer, soon()).await, Event::Refused);
    }

    #[tokio::test(start_paused = true)]
    async fn two_questions_go_over_one_connection() {
        let _flow = Flow::start();
        let server = Server::start(|asked| {
            let stray = scripted::reply(question().octets(), Rcode::NOERROR, &[]);
            let reply = scripted::reply(&asked.packet, Rcode::NOERROR, &["10.0.0.1"]);
            vec![Act::Send(b"short".to_vec()), Act::Send(stray), Act::Send(reply)]
        });
        let mut counts = PacketCounts::default();
        let pair = Question::pair(&Name::parse("web.shop").unwrap());
        let replies = ask_over_tcp(server.address, &pair, soon(), &mut counts).await.unwrap();
        assert_eq!(replies.len(), 2);
        let expected = PacketCounts {
            sent: 2,
            tcp: 2,
            answered: 2,
            noerror: 2,
            garbage: 2,
            mismatched: 2,
            ..PacketCounts::default()
        };
        assert_eq!(counts, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_that_fail_are_counted() {
        let _flow = Flow::start();
        let cut = Server::start(|_| vec![Act::Cut]);
        let silent = Server::start(|_| vec![]);
        let endless = Server::start(|_| vec![Act::Send(vec![0; 9]); 40]);
        let closed = scripted::Closed::new();
        for (server, kind, sent) in [
            (cut.address, io::ErrorKind::UnexpectedEof, 1),
            (silent.address, io::ErrorKind::TimedOut, 1),
            (endless.address, io::ErrorKind::InvalidData, 1),
            (closed.address, io::ErrorKind::ConnectionRefused, 0),
        ] {
            let mut counts = PacketCounts::default();
            let asked = ask_over_tcp(server, &[question()], soon(), &mut counts).await;
            assert_eq!(asked.unwrap_err().kind(), kind);
            assert_eq!((counts.tcp_failed, counts.sent, counts.lost), (1, sent, sent), "{kind:?}");
        }
    }
}

//! A port of loopback where nobody listens, and that nobody else gets meanwhile.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Socket, Type};

/// How many ports are tried.
const TRIES: usize = 100;

/// The port, until it is dropped. UDP is refused by ICMP, for its socket talks to itself; TCP by
/// RST, for its socket does not listen.
pub struct Closed {
    /// Where.
    pub address: SocketAddr,
    _udp: UdpSocket,
    _tcp: Socket,
}

impl Closed {
    /// One.
    #[allow(clippy::new_without_default)] // A port is taken: there is nothing default about it.
    pub fn new() -> Self {
        (0..TRIES).find_map(|_| Self::try_new()).expect("a port is free for both UDP and TCP")
    }

    /// None where somebody has the number for TCP.
    fn try_new() -> Option<Self> {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = udp.local_addr().unwrap();
        let tcp = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        tcp.bind(&address.into()).ok()?;
        udp.connect(address).unwrap();
        Some(Self { address, _udp: udp, _tcp: tcp })
    }
}

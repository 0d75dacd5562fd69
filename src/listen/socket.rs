//! Opens the listening sockets, and says what to do when one cannot be opened.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};

use super::batch;

/// Receive buffer of each UDP socket, in octets. The kernel's 208 KiB drop packets at some 200
/// small ones in flight; 4 MiB hold 10 000 q/s for a third of a second and more, also while a
/// server that has died is started anew.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Send buffer of each UDP socket, in octets. The kernel's 208 KiB are full of the replies that
/// wait for one neighbour to answer ARP, or of a burst that a link of 1 Gbit/s takes 2 ms for.
const SEND_BUFFER_BYTES: usize = 4 << 20;
/// How often a worker that has nothing to do looks whether it is to stop.
const WAKE_INTERVAL: Duration = Duration::from_millis(500);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Why a socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "{address}/{proto} is in use; stop the server that has it, or choose another with --port"
    )]
    InUse { address: SocketAddr, proto: &'static str },
    #[error(
        "may not listen on {address}/{proto}: grant CAP_NET_BIND_SERVICE, or choose a port above 1023 with --port"
    )]
    Forbidden { address: SocketAddr, proto: &'static str },
    #[error("cannot listen on {address}/{proto}: {source}")]
    Other { address: SocketAddr, proto: &'static str, source: io::Error },
}

/// The addresses to listen on when none is named: all, in one socket for both families, or in one
/// for IPv4 where the kernel has no IPv6.
pub fn wildcard(port: u16) -> SocketAddr {
    let v6 = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let has_v6 = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))
        .and_then(|socket| {
            socket.set_only_v6(false)?;
            socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())
        })
        .is_ok();
    if has_v6 { v6 } else { SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)) }
}

/// A TCP listener. Opened before the UDP sockets: it shares its port with nobody, so a second
/// server on the port is found even though UDP sockets of one user may share theirs.
///
/// # Errors
/// See [`Error`].
pub fn tcp(address: SocketAddr) -> Result<std::net::TcpListener, Error> {
    let open = || {
        let socket = new(address, Type::STREAM, Protocol::TCP)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    open().map_err(|source| explain(address, "tcp", source))
}

/// A UDP socket of one worker; the kernel spreads clients over all of one port.
///
/// # Errors
/// See [`Error`].
pub fn udp(address: SocketAddr) -> Result<UdpSocket, Error> {
    let open = || {
        let socket = new(address, Type::DGRAM, Protocol::UDP)?;
        socket.set_reuse_port(true)?;
        // The kernel clamps these to net.core.rmem_max and wmem_max for those without
        // CAP_NET_ADMIN; more is better, less still works.
        if sockopt::set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER_BYTES).is_err() {
            let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        }
        if sockopt::set_socket_send_buffer_size_force(&socket, SEND_BUFFER_BYTES).is_err() {
            let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
        }
        socket.bind(&address.into())?;
        let socket = UdpSocket::from(socket);
        if address.ip().is_unspecified() {
            batch::tell_destination(&socket)?;
        }
        Ok(socket)
    };
    open().map_err(|source| explain(address, "udp", source))
}

/// Lets a worker wait at a socket, whatever its last owner did with it.
///
/// # Errors
/// It is no socket that can be waited at.
pub fn make_waiting(socket: &UdpSocket) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(WAKE_INTERVAL))
}

/// Waits until there is room to send; tells whether there is.
pub fn gets_room(socket: &UdpSocket, patience: Duration) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::OUT)];
    poll(&mut fds, patience.try_into().ok().as_ref()).is_ok_and(|count| count > 0)
}

fn new(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    }
    Ok(socket)
}

fn explain(address: SocketAddr, proto: &'static str, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::AddrInUse => Error::InUse { address, proto },
        io::ErrorKind::PermissionDenied => Error::Forbidden { address, proto },
        _ => Error::Other { address, proto, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_the_remedy() {
        let first = tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = tcp(address).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "{address}/tcp is in use; stop the server that has it, or choose another with --port"
            )
        );
    }

    #[test]
    fn buffers_are_as_large_as_we_may_have_them() {
        let plain = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        plain.set_send_buffer_size(SEND_BUFFER_BYTES).unwrap();
        plain.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
        let ours = Socket::from(udp("127.0.0.1:0".parse().unwrap()).unwrap());
        assert!(ours.send_buffer_size().unwrap() >= plain.send_buffer_size().unwrap());
        assert!(ours.recv_buffer_size().unwrap() >= plain.recv_buffer_size().unwrap());
    }

    #[test]
    fn workers_share_a_udp_port() {
        let first = udp("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(udp(first.local_addr().unwrap()).is_ok());
    }
}

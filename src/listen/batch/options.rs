//! What sockets are asked for, and tell, beside packets.

use std::io;
use std::mem::size_of;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// Words of what the kernel tells about a socket's memory, and the place of its drops among them
/// (SK_MEMINFO_DROPS and SK_MEMINFO_VARS of linux/sock_diag.h).
const MEMORY_WORDS: usize = 9;
const DROPS_WORD: usize = 8;

/// Asks the kernel to tell to which address each datagram was sent, so that the reply can leave
/// from it (RFC 2181 §4.1). For sockets bound to a wildcard address.
///
/// # Errors
/// Those of setsockopt.
pub fn tell_destination(socket: &UdpSocket) -> io::Result<()> {
    let (level, option) = match socket.local_addr()? {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    set_int(socket, level, option, 1)
}

/// Packets that a socket had no room for, since it was opened.
///
/// # Errors
/// Those of getsockopt.
pub fn drops(socket: &UdpSocket) -> io::Result<u32> {
    let mut words = [0_u32; MEMORY_WORDS];
    let mut len = size_of::<[u32; MEMORY_WORDS]>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` octets, which is the size of `words`, and the length.
    let result = unsafe {
        let (level, option) = (libc::SOL_SOCKET, libc::SO_MEMINFO);
        let fd = socket.as_raw_fd();
        libc::getsockopt(fd, level, option, words.as_mut_ptr().cast(), &raw mut len)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(words[DROPS_WORD]) }
}

/// Asks the kernel to keep the datagrams that ICMP says were refused, for [`refused`]. For
/// connected sockets.
///
/// # Errors
/// Those of setsockopt.
pub fn keep_refused(socket: &UdpSocket) -> io::Result<()> {
    let (level, option) = match socket.local_addr()? {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVERR),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    };
    set_int(socket, level, option, 1)
}

/// Takes a datagram of ours that was refused, as much of it as ICMP quoted, and answers its length.
///
/// # Errors
/// `WouldBlock` when there is none (left).
pub fn refused(socket: &UdpSocket, room: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `room.len()` octets into `room`, which is borrowed mutably.
    let len = unsafe {
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        libc::recv(socket.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), flags)
    };
    usize::try_from(len).map_err(|_| io::Error::last_os_error())
}

/// Sets an option that is one number.
pub fn set_int(
    socket: &impl AsRawFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the option takes one int, which lives until the call returns.
    let result = unsafe {
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

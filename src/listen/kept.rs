//! Sockets that outlive the process that answers on them: a parent holds each one too, and gives
//! them to the next server. What arrives meanwhile waits in their buffers.
//!
//! ```text
//! server ── Keep(key)+socket, Release(key), Serving, Serves(what), Beat, Stuck(thread) ──► parent
//! server ◄── Keep(key)+socket …, Given ── parent, once, before anything else
//! ```
//!
//! Memory is kept in the same way: what has been taken from a socket and is not answered yet is in
//! the `tray` of its worker or in the `journal`.
//!
//! A message is one datagram of a Unix socket pair, text with at most one socket beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::cmsg_space;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair, sockopt,
};

use super::beat::Beats;

/// Sockets and trays that a parent keeps at most: 1024 workers on four addresses.
pub const KEPT_MAX: usize = 8192;
/// Octets of a message.
const MESSAGE_MAX: usize = 256;
/// Time that the parent gets to take a message before the server goes on without it.
const SEND_MAX: Duration = Duration::from_secs(1);

/// Which socket it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key {
    /// `udp` or `tcp`; or `journal` and `tray`, which are no sockets and kept as such.
    pub proto: Proto,
    pub address: SocketAddr,
    /// The number of the worker; 0 for TCP.
    pub number: usize,
}

impl Key {
    /// That of the tray of the worker that has this socket.
    pub fn of_tray(&self) -> Self {
        Self { proto: Proto::Tray, ..self.clone() }
    }
}

/// The transport of a socket, or what is kept instead of one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs)]
pub enum Proto {
    Udp,
    Tcp,
    Journal,
    Tray,
}

/// What server and parent tell each other.
#[derive(Debug)]
pub enum Message {
    /// Hold this socket too.
    Keep(Key, OwnedFd),
    /// Close it: its port is not served any more.
    Release(Key),
    /// These were all.
    Given,
    /// The server answers.
    Serving,
    /// What it serves, by its fingerprint: for the next one.
    Serves(String),
    /// The server lives.
    Beat,
    /// A thread of the server has not moved for too long.
    Stuck(String),
}

/// One end of the pair.
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends: the one of the parent, and the one of the server.
    ///
    /// # Errors
    /// No more open files.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self(one), other))
    }

    /// The end of the server, where a parent that does not take messages holds nobody up.
    ///
    /// # Errors
    /// It is no socket.
    pub fn of_server(end: OwnedFd) -> io::Result<Self> {
        sockopt::set_socket_timeout(&end, sockopt::Timeout::Send, Some(SEND_MAX))?;
        Ok(Self(end))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The other end is gone, or takes nothing.
    pub fn send(&self, message: &Message) -> io::Result<()> {
        self.send_with(message, SendFlags::NOSIGNAL)
    }

    /// Sends a message if there is room.
    ///
    /// # Errors
    /// As [`Channel::send`]; `WouldBlock` when there is no room.
    pub fn try_send(&self, message: &Message) -> io::Result<()> {
        self.send_with(message, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
    }

    fn send_with(&self, message: &Message, flags: SendFlags) -> io::Result<()> {
        let text = message.to_string();
        let mut room = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut room);
        let sockets: Option<[BorrowedFd<'_>; 1]> = match message {
            Message::Keep(_, socket) => Some([socket.as_fd()]),
            _ => None,
        };
        if let Some(sockets) = &sockets {
            beside.push(SendAncillaryMessage::ScmRights(sockets));
        }
        sendmsg(&self.0, &[IoSlice::new(text.as_bytes())], &mut beside, flags)?;
        Ok(())
    }

    /// Waits for the next message; `None` when the other end is gone. What cannot be read is
    /// skipped.
    ///
    /// # Errors
    /// The socket is broken; `WouldBlock` when there is none and it does not wait.
    pub fn receive(&self) -> io::Result<Option<Message>> {
        loop {
            let mut text = [0; MESSAGE_MAX];
            let mut room = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
            let mut beside = RecvAncillaryBuffer::new(&mut room);
            let mut parts = [IoSliceMut::new(&mut text)];
            let got = recvmsg(&self.0, &mut parts, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
            let sockets = beside.drain().filter_map(|beside| match beside {
                RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
                _ => None,
            });
            let socket = sockets.flatten().next();
            if got.bytes == 0 && socket.is_none() {
                return Ok(None);
            }
            if got.flags.contains(ReturnFlags::CTRUNC) {
                tracing::warn!("a socket is not kept, for want of open files: raise their limit");
            }
            let is_whole = !got.flags.contains(ReturnFlags::TRUNC);
            let text = text.get(..got.bytes).and_then(|octets| std::str::from_utf8(octets).ok());
            if let Some(message) = text.filter(|_| is_whole).and_then(|text| read(text, socket)) {
                return Ok(Some(message));
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep(key, _) => write!(f, "keep {key}"),
            Self::Release(key) => write!(f, "release {key}"),
            Self::Given => f.write_str("given"),
            Self::Serving => f.write_str("serving"),
            Self::Serves(what) => write!(f, "serves {what}"),
            Self::Beat => f.write_str("beat"),
            Self::Stuck(thread) => write!(f, "stuck {thread}"),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let proto = match self.proto {
            Proto::Udp => "udp",
            Proto::Tcp => "tcp",
            Proto::Journal => "journal",
            Proto::Tray => "tray",
        };
        write!(f, "{proto} {} {}", self.address, self.number)
    }
}

/// Reads a message.
fn read(text: &str, socket: Option<OwnedFd>) -> Option<Message> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    Some(match word {
        "keep" => Message::Keep(read_key(rest)?, socket?),
        "release" => Message::Release(read_key(rest)?),
        "given" => Message::Given,
        "serving" => Message::Serving,
        "serves" => Message::Serves(rest.to_owned()),
        "beat" => Message::Beat,
        "stuck" => Message::Stuck(rest.to_owned()),
        _ => return None,
    })
}

fn read_key(text: &str) -> Option<Key> {
    let mut words = text.split(' ');
    let proto = match words.next()? {
        "udp" => Proto::Udp,
        "tcp" => Proto::Tcp,
        "journal" => Proto::Journal,
        "tray" => Proto::Tray,
        _ => return None,
    };
    let (address, number) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(Key { proto, address, number })
}

/// What a server got from its parent, and its way to tell it more.
pub struct Kept {
    pub channel: Channel,
    /// Of all threads that the parent wants to see move.
    pub beats: Arc<Beats>,
    held: Mutex<Held>,
}

/// Sockets of a server that has not started yet: where a start fails, the next try takes the same.
#[derive(Default)]
struct Held {
    /// Given or opened. Empty once the server serves.
    sockets: BTreeMap<Key, OwnedFd>,
    /// Those in use.
    taken: BTreeSet<Key>,
    /// Whether the server serves; from then on, what it closes the parent closes too.
    is_settled: bool,
    /// To be released, when the parent takes messages again.
    unreleased: Vec<Key>,
}

impl Kept {
    /// Takes what the parent gives.
    ///
    /// # Errors
    /// The parent is gone, or this is no parent.
    pub fn receive(channel: Channel) -> io::Result<Self> {
        let mut sockets = BTreeMap::new();
        loop {
            match channel.receive()? {
                Some(Message::Keep(key, socket)) if sockets.len() < KEPT_MAX => {
                    sockets.insert(key, socket);
                }
                Some(Message::Given) => break,
                Some(_) => {}
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let held = Mutex::new(Held { sockets, ..Held::default() });
        Ok(Self { channel, beats: Arc::default(), held })
    }

    /// How many UDP sockets of an address were given: as many workers are needed, so that none of
    /// them is left with what waits in it.
    pub fn workers(&self, address: SocketAddr) -> usize {
        let held = self.held.lock();
        let is_its = |key: &&Key| key.proto == Proto::Udp && key.address == address;
        held.sockets.keys().filter(is_its).map(|key| key.number + 1).max().unwrap_or(0)
    }

    /// A socket that was given, or opened by a start that failed.
    pub fn take(&self, key: &Key) -> Option<OwnedFd> {
        let mut held = self.held.lock();
        if held.taken.contains(key) {
            return None;
        }
        let taken = match held.sockets.get(key)?.try_clone() {
            Ok(socket) => socket,
            // Without open files the one that there is goes, and another try has none.
            Err(_) => held.sockets.remove(key)?,
        };
        held.taken.insert(key.clone());
        Some(taken)
    }

    /// Has a new socket kept. Where that fails everything works, but for what arrives while the
    /// server is started anew.
    pub fn keep(&self, key: &Key, socket: impl AsFd) {
        let send = || {
            let own = socket.as_fd().try_clone_to_owned()?;
            self.channel.send(&Message::Keep(key.clone(), socket.as_fd().try_clone_to_owned()?))?;
            Ok::<_, io::Error>(own)
        };
        match send() {
            Ok(own) => self.held.lock().hold(key, own),
            Err(error) => {
                tracing::warn!("the socket {key} is not kept for the next server: {error}");
            }
        }
    }

    /// Has a socket closed; while the server starts, only given back.
    pub fn release(&self, key: Key) {
        let mut held = self.held.lock();
        held.taken.remove(&key);
        if held.is_settled {
            held.unreleased.push(key);
            drop(held);
            self.retry_releases();
        }
    }

    /// The server serves: has those closed that nobody took, since the Corefile has changed.
    pub fn release_rest(&self) {
        let mut held = self.held.lock();
        let sockets = std::mem::take(&mut held.sockets);
        let rest: Vec<Key> = sockets.into_keys().filter(|key| !held.taken.contains(key)).collect();
        held.unreleased.extend(rest);
        held.is_settled = true;
        held.taken.clear();
        drop(held);
        self.retry_releases();
    }

    /// Tells the parent what to close, as far as it takes messages.
    pub fn retry_releases(&self) {
        let mut held = self.held.lock();
        while let Some(key) = held.unreleased.pop() {
            let message = Message::Release(key.clone());
            if self.channel.try_send(&message).is_err() {
                return held.unreleased.push(key);
            }
        }
    }
}

impl Held {
    /// Holds a socket that is in use, for another try.
    fn hold(&mut self, key: &Key, socket: OwnedFd) {
        if !self.is_settled {
            self.sockets.insert(key.clone(), socket);
            self.taken.insert(key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn key(number: usize) -> Key {
        Key { proto: Proto::Udp, address: "127.0.0.1:53".parse().unwrap(), number }
    }

    fn pair() -> (Channel, Channel) {
        let (parent, server) = Channel::pair().unwrap();
        (parent, Channel::of_server(server).unwrap())
    }

    #[test]
    fn a_socket_comes_back_with_what_waits_in_it() {
        let (parent, server) = pair();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        parent.send(&Message::Given).unwrap();
        let first = Kept::receive(server).unwrap();
        first.keep(&key(0), &socket);
        drop((first, socket));
        let Some(Message::Keep(of, held)) = parent.receive().unwrap() else { panic!("no socket") };
        assert_eq!(of, key(0));
        assert!(parent.receive().unwrap().is_none(), "the server is gone");
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"waits", address).unwrap();
        let (parent, server) = pair();
        parent.send(&Message::Keep(of, held)).unwrap();
        parent.send(&Message::Given).unwrap();
        let second = Kept::receive(server).unwrap();
        assert_eq!(second.workers("127.0.0.1:53".parse().unwrap()), 1);
        let taken = UdpSocket::from(second.take(&key(0)).unwrap());
        let mut buffer = [0; 16];
        assert_eq!(taken.recv(&mut buffer).unwrap(), 5);
        assert!(second.take(&key(0)).is_none());
    }

    #[test]
    fn what_nobody_took_is_released() {
        let (parent, server) = pair();
        let socket = || OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        for number in [0, 2] {
            parent.send(&Message::Keep(key(number), socket())).unwrap();
        }
        parent.send(&Message::Given).unwrap();
        let kept = Kept::receive(server).unwrap();
        assert_eq!(kept.workers(key(0).address), 3, "a gap is filled with a new socket");
        kept.take(&key(0)).unwrap();
        kept.release_rest();
        drop(kept);
        assert!(matches!(parent.receive().unwrap(), Some(Message::Release(of)) if of == key(2)));
        assert!(parent.receive().unwrap().is_none());
    }

    #[test]
    fn p12_a_start_that_fails_leaves_its_sockets_to_the_next_try() {
        let (parent, server) = pair();
        let socket = || OwnedFd::from(UdpSocket::bind("127.0.0.1:0").unwrap());
        parent.send(&Message::Keep(key(0), socket())).unwrap();
        parent.send(&Message::Given).unwrap();
        let kept = Kept::receive(server).unwrap();
        let port = |socket: OwnedFd| UdpSocket::from(socket).local_addr().unwrap().port();
        let first = port(kept.take(&key(0)).unwrap());
        kept.keep(&key(1), socket());
        (0..2).for_each(|number| kept.release(key(number)));
        assert_eq!(port(kept.take(&key(0)).unwrap()), first, "the same one");
        kept.release_rest();
        kept.release(key(0));
        drop(kept);
        let said: Vec<String> =
            std::iter::from_fn(|| parent.receive().unwrap()).map(|it| it.to_string()).collect();
        let expected = [1, 1, 0].map(|number| key(number).to_string());
        let words = ["keep", "release", "release"];
        let expected: Vec<_> =
            words.iter().zip(expected).map(|(word, key)| format!("{word} {key}")).collect();
        assert_eq!(said, expected, "nothing is released before one try serves");
    }

    #[test]
    fn what_the_parent_does_not_take_is_released_later() {
        let (parent, server) = pair();
        parent.send(&Message::Given).unwrap();
        let kept = Kept::receive(server).unwrap();
        kept.release_rest();
        while kept.channel.try_send(&Message::Beat).is_ok() {}
        kept.release(key(0));
        while !kept.held.lock().unreleased.is_empty() {
            assert!(matches!(parent.receive().unwrap(), Some(Message::Beat)));
            kept.retry_releases();
        }
        drop(kept);
        let last = std::iter::from_fn(|| parent.receive().unwrap()).last();
        assert!(matches!(last, Some(Message::Release(of)) if of == key(0)));
    }

    #[test]
    fn messages_are_read_as_they_were_written_and_odd_ones_are_not() {
        for text in [
            "given",
            "serving",
            "serves 4711",
            "beat",
            "stuck udp-53-0",
            "release tcp [::]:53 0",
            "release journal 0.0.0.0:0 0",
            "release tray [::]:53 7",
        ] {
            assert_eq!(read(text, None).unwrap().to_string(), text);
        }
        for text in ["", "keep", "keep udp 127.0.0.1:53 0", "release udp 127.0.0.1 0", "release x"]
        {
            assert!(read(text, None).is_none(), "{text:?}");
        }
    }
}

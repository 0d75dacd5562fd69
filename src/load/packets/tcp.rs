//! Persistent TCP connections with many questions under way on each (RFC 7766 §6.2.1). What is cut
//! or refused is connected anew, later each time it fails.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use socket2::{Domain, Socket, Type};

use super::desk::Event;
use super::driver::Wire;
use super::udp::timespec;
use crate::wire::{TCP_MAX, UDP_MAX};

/// Most octets that wait until the server reads. Beyond that the connection is cut: it does not.
const WAITING_MAX: usize = 4 << 20;
/// Time until a connection is made anew, the first time and at most. It doubles.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// See [`PAUSE_MIN`].
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Octets that are read at once.
const READ_BYTES: usize = 64 << 10;
/// Reads from one connection before the next one has its turn.
const READS_MAX: usize = 4;
/// Longest message with its length.
const FRAME_MAX: usize = TCP_MAX + 2;

/// The connections of one driver.
pub struct Connections {
    server: SocketAddr,
    lines: Vec<Line>,
    /// What is read goes here first.
    room: Box<[u8]>,
    /// A connection that is not made by then never will be.
    timeout: Duration,
}

/// A connection, or the pause until the next try.
struct Line {
    stream: Option<TcpStream>,
    /// The server was there: something was written or read.
    was_open: bool,
    /// When it was opened, or cut.
    since: Instant,
    /// Until the next try.
    pause: Duration,
    /// Frames to send, of which the first `written` octets are.
    out: Vec<u8>,
    written: usize,
    /// The beginning of a frame that was read.
    input: Vec<u8>,
}

impl Connections {
    /// Connections to `server`, which [`Wire::look`] makes.
    pub fn new(server: SocketAddr, count: usize, timeout: Duration) -> Self {
        let lines = (0..count).map(|_| Line::new()).collect();
        Self { server, lines, room: vec![0; READ_BYTES].into(), timeout }
    }
}

impl Wire for Connections {
    fn is_open(&self, socket: usize) -> bool {
        self.lines[socket].stream.is_some()
    }

    fn put(&mut self, socket: usize, write: impl FnOnce(&mut [u8]) -> usize) {
        let out = &mut self.lines[socket].out;
        let start = out.len();
        out.resize(start + 2 + UDP_MAX, 0);
        let len = write(&mut out[start + 2..]);
        out[start..start + 2].copy_from_slice(&(len as u16).to_be_bytes());
        out.truncate(if len > 0 { start + 2 + len } else { start });
    }

    fn send(&mut self, socket: usize, note: impl FnMut(Event<'_>)) {
        let line = &mut self.lines[socket];
        if line.write().is_err() {
            line.cut(self.server, note);
        }
    }

    fn receive(&mut self, socket: usize, mut note: impl FnMut(Event<'_>)) -> bool {
        let line = &mut self.lines[socket];
        // What a server sent before it closed still counts.
        let has_come = line.read(&mut self.room, &mut note);
        if has_come.is_err() || line.write().is_err() {
            line.cut(self.server, note);
        }
        has_come.unwrap_or(true)
    }

    fn look(&mut self, socket: usize, note: impl FnMut(Event<'_>)) {
        let line = &mut self.lines[socket];
        let is_hopeless = !line.was_open && line.since.elapsed() > self.timeout;
        match &line.stream {
            Some(_) if is_hopeless => line.cut(self.server, note),
            Some(_) => {}
            None if line.since.elapsed() < line.pause => {}
            None => match connect(self.server) {
                Ok(stream) => {
                    (line.stream, line.since) = (Some(stream), Instant::now());
                    line.pause = line.pause.max(PAUSE_MIN);
                }
                Err(_) => line.cut(self.server, note),
            },
        }
    }

    fn wait(&mut self, at_most: Duration, has_come: &mut [bool]) {
        let open = self.lines.iter().enumerate().filter_map(|(at, line)| Some((at, line.waits()?)));
        let (places, mut waiting): (Vec<_>, Vec<_>) = open.unzip();
        if poll(&mut waiting, timespec(at_most).as_ref()).is_ok_and(|count| count > 0) {
            for (place, waited) in places.into_iter().zip(&waiting) {
                has_come[place] |= !waited.revents().is_empty();
            }
        }
    }
}

impl Line {
    /// Not connected, and to be so at once.
    fn new() -> Self {
        Self {
            stream: None,
            was_open: false,
            since: Instant::now(),
            pause: Duration::ZERO,
            out: Vec::new(),
            written: 0,
            input: Vec::new(),
        }
    }

    /// What it waits for, if it is connected or about to be.
    fn waits(&self) -> Option<PollFd<'_>> {
        let stream: BorrowedFd<'_> = self.stream.as_ref()?.as_fd();
        let has_to_write = self.written < self.out.len() || !self.was_open;
        let flags = if has_to_write { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        Some(PollFd::from_borrowed_fd(stream, flags))
    }

    /// Writes as much as the system takes.
    fn write(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if !self.was_open && self.out.is_empty() {
            // Only the system knows whether the connection was made.
            self.was_open = stream.peer_addr().is_ok();
        }
        while self.written < self.out.len() {
            match stream.write(&self.out[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.written += count;
                    self.was_open = true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.out.drain(..self.written);
        self.written = 0;
        match self.out.len() <= WAITING_MAX {
            true => Ok(()),
            false => Err(ErrorKind::OutOfMemory.into()),
        }
    }

    /// Reads what has come, and answers whether that was anything.
    fn read(&mut self, room: &mut [u8], note: &mut impl FnMut(Event<'_>)) -> io::Result<bool> {
        let Some(stream) = &mut self.stream else { return Ok(false) };
        let mut has_come = false;
        for _ in 0..READS_MAX {
            match stream.read(room) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    (has_come, self.was_open, self.pause) = (true, true, Duration::ZERO);
                    self.input.extend_from_slice(&room[..count]);
                    take_frames(&mut self.input, note);
                    if count < room.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(has_come)
    }

    /// Gives the connection up. After one that brought replies the next one is made at once, as
    /// servers close what they served. Otherwise there is a pause, which is longer each time.
    fn cut(&mut self, server: SocketAddr, mut note: impl FnMut(Event<'_>)) {
        note(Event::Cut { was_open: self.was_open });
        let stream = self.pause.is_zero().then(|| connect(server).ok()).flatten();
        let pause = (self.pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
        *self = Self { stream, pause, ..Self::new() };
    }
}

/// Takes the whole messages from the front of what was read.
fn take_frames(input: &mut Vec<u8>, note: &mut impl FnMut(Event<'_>)) {
    let mut at = 0;
    while let Some([high, low]) = input.get(at..at + 2) {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(message) = input.get(at + 2..at + 2 + len) else { break };
        note(Event::Message(message));
        at += 2 + len;
    }
    input.drain(..at);
    debug_assert!(input.len() < FRAME_MAX);
}

/// Begins a connection; whether it comes about is known later.
fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&server.into()) {
        Ok(()) => {}
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

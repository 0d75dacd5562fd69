//! Connected UDP sockets: many datagrams per system call, and ICMP by question.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

use super::desk::Event;
use super::driver::Wire;
use crate::listen::batch::{self, BATCH_MAX, Batch, REQUEST_MAX};

/// Largest reply that is read, and so the largest payload that is offered, in octets.
pub const PAYLOAD_MAX: u16 = REQUEST_MAX as u16;
/// Receive buffer that is asked for, in octets: replies must not be lost on our side.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// How often a datagram is sent again that the system did not take. Errors of earlier datagrams,
/// which ICMP brought, are told to the next one; each is told once.
const SEND_TRIES: usize = 8;
/// How long a full send buffer may stay so.
const SEND_WAIT: Duration = Duration::from_millis(5);
/// Batches that are taken from one socket before the next one has its turn.
const BATCHES_MAX: usize = 4;
/// Refused questions that are taken from one socket before the next one has its turn.
const REFUSED_MAX: usize = 1024;

/// The sockets of one driver.
pub struct Sockets {
    sockets: Vec<UdpSocket>,
    sending: Batch,
    receiving: Batch,
    /// Ids of the questions that are to be sent.
    ids: Vec<u16>,
    /// Sockets of which refused questions are to be taken.
    have_refused: Vec<bool>,
}

impl Sockets {
    /// Opens sockets that are connected to `server`, each with a port of its own.
    ///
    /// # Errors
    /// Those of the system.
    pub fn open(server: SocketAddr, count: usize) -> io::Result<Self> {
        Ok(Self {
            sockets: (0..count).map(|_| connect(server)).collect::<Result<_, _>>()?,
            sending: Batch::new(),
            receiving: Batch::new(),
            ids: Vec::with_capacity(BATCH_MAX),
            have_refused: vec![false; count],
        })
    }

    /// Sends from place `first` on. Answers the place that it came to.
    fn send_from(
        &mut self,
        socket: usize,
        first: usize,
        note: &mut impl FnMut(Event<'_>),
    ) -> usize {
        for _ in 0..SEND_TRIES {
            match self.sending.send_some(&self.sockets[socket], first) {
                Ok(sent) => {
                    // It stopped at an error, which nobody tells any more.
                    self.have_refused[socket] |= first + sent < self.ids.len();
                    return first + sent;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let mut writable = [PollFd::new(&self.sockets[socket], PollFlags::OUT)];
                    let _ = poll(&mut writable, timespec(SEND_WAIT).as_ref());
                }
                Err(_) => take_refused(&self.sockets[socket], note),
            }
        }
        note(Event::Unsent(self.ids[first]));
        first + 1
    }
}

impl Wire for Sockets {
    fn is_open(&self, _socket: usize) -> bool {
        true
    }

    fn put(&mut self, _socket: usize, write: impl FnOnce(&mut [u8]) -> usize) {
        let place = self.ids.len();
        let room = self.sending.slot(place).1;
        let len = write(room);
        if len > 0 {
            self.ids.push(u16::from_be_bytes([room[0], room[1]]));
            self.sending.queue(place, len);
        }
    }

    fn send(&mut self, socket: usize, mut note: impl FnMut(Event<'_>)) {
        let mut next = 0;
        while next < self.ids.len() {
            next = self.send_from(socket, next, &mut note);
        }
        self.sending.clear();
        self.ids.clear();
    }

    fn receive(&mut self, socket: usize, mut note: impl FnMut(Event<'_>)) -> bool {
        if std::mem::take(&mut self.have_refused[socket]) {
            take_refused(&self.sockets[socket], &mut note);
        }
        let socket = &self.sockets[socket];
        for round in 0..BATCHES_MAX {
            match self.receiving.receive(socket) {
                Ok(count) => {
                    (0..count).for_each(|at| note(Event::Message(self.receiving.packet(at))));
                    if count < BATCH_MAX {
                        return true;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return round > 0,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    take_refused(socket, &mut note);
                    return true;
                }
            }
        }
        true
    }

    fn look(&mut self, _socket: usize, _note: impl FnMut(Event<'_>)) {}

    fn wait(&mut self, at_most: Duration, has_come: &mut [bool]) {
        let readable = |socket| PollFd::new(socket, PollFlags::IN);
        let mut waiting: Vec<_> = self.sockets.iter().map(readable).collect();
        if poll(&mut waiting, timespec(at_most).as_ref()).is_ok_and(|count| count > 0) {
            for (socket, waited) in waiting.iter().enumerate() {
                has_come[socket] |= !waited.revents().is_empty();
                self.have_refused[socket] |= waited.revents().contains(PollFlags::ERR);
            }
        }
    }
}

/// A time as the system wants it.
pub fn timespec(time: Duration) -> Option<Timespec> {
    Timespec::try_from(time).ok()
}

fn connect(server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(server), Type::DGRAM, None)?;
    // As much as the kernel grants.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    socket.connect(&server.into())?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from(socket);
    batch::keep_refused(&socket)?;
    Ok(socket)
}

/// Takes the questions that ICMP brought back.
fn take_refused(socket: &UdpSocket, note: &mut impl FnMut(Event<'_>)) {
    let mut room = [0; 512];
    for _ in 0..REFUSED_MAX {
        match batch::refused(socket, &mut room) {
            Ok(len) => note(Event::Refused(&room[..len])),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

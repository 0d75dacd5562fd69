//! A UDP socket to one server that many clients share: each question is lent an id of its own, and
//! its answer gets back the one that it came with.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use parking_lot::Mutex;
use tokio::net::UdpSocket;

use crate::wire::HEADER_LEN;

/// Questions on one line that wait for their answer. Beyond, the oldest one loses its id: at
/// 10 000 questions a second, whoever waited for it has given up.
const WAITING_MAX: u16 = 16_384;
/// Lines to one server, so that its workers, which the kernel chooses by port, all get their part.
pub(crate) const LINES: usize = 8;

/// A socket to one server.
pub(crate) struct Line {
    socket: UdpSocket,
    ids: Mutex<Ids>,
}

/// Who waits for which id.
struct Ids {
    lent: Vec<Option<Waiting>>,
    next: u16,
}

/// A question under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    client: SocketAddr,
    id: [u8; 2],
}

/// What became of a question that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is under way.
    Ok,
    /// The same, and an older one will never find back.
    Overrun,
    /// The kernel would not have it.
    Unreachable,
}

impl Line {
    /// A line from a port by chance.
    pub(crate) async fn open(server: SocketAddr) -> std::io::Result<Self> {
        let any = match server {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(server).await?;
        Ok(Self { socket, ids: Mutex::new(Ids::new()) })
    }

    /// Sends a question, which has a whole header.
    pub(crate) async fn ask(&self, question: &mut [u8], client: SocketAddr) -> Sent {
        let id = [question[0], question[1]];
        let (lent, is_overrun) = self.ids.lock().lend(Waiting { client, id });
        question[..2].copy_from_slice(&lent.to_be_bytes());
        // The first error may be the refusal of an earlier question (ICMP).
        if self.socket.send(question).await.is_err() && self.socket.send(question).await.is_err() {
            return Sent::Unreachable;
        }
        if is_overrun { Sent::Overrun } else { Sent::Ok }
    }

    /// Waits for an answer. `None` is a datagram that nobody waits for, or a refusal: it says
    /// nothing to clients, as on a network where the server is away.
    pub(crate) async fn answer(&self, buffer: &mut [u8]) -> Option<(SocketAddr, usize)> {
        let Ok(length) = self.socket.recv(buffer).await else {
            tokio::task::yield_now().await;
            return None;
        };
        let answer = buffer.get_mut(..length).filter(|answer| answer.len() >= HEADER_LEN)?;
        let lent = u16::from_be_bytes([answer[0], answer[1]]);
        let waiting = self.ids.lock().give_back(lent)?;
        answer[..2].copy_from_slice(&waiting.id);
        Some((waiting.client, length))
    }
}

impl Ids {
    fn new() -> Self {
        Self { lent: vec![None; WAITING_MAX.into()], next: 0 }
    }

    /// Lends the id that was lent the longest time ago. Answers whether somebody waited for it.
    fn lend(&mut self, waiting: Waiting) -> (u16, bool) {
        let id = self.next;
        self.next = (id + 1) % WAITING_MAX;
        (id, self.lent[usize::from(id)].replace(waiting).is_some())
    }

    /// Who waits for it; nobody does any more.
    fn give_back(&mut self, id: u16) -> Option<Waiting> {
        self.lent.get_mut(usize::from(id))?.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(number: u16) -> Waiting {
        Waiting { client: ([127, 0, 0, 1], number).into(), id: number.to_be_bytes() }
    }

    #[test]
    fn an_id_comes_back_once() {
        let mut ids = Ids::new();
        let (first, _) = ids.lend(waiting(1));
        let (second, _) = ids.lend(waiting(2));
        assert_eq!(ids.give_back(second), Some(waiting(2)));
        assert_eq!(ids.give_back(second), None);
        assert_eq!(ids.give_back(first), Some(waiting(1)));
        assert_eq!(ids.give_back(u16::MAX), None);
    }

    #[test]
    fn the_oldest_question_loses_its_id_when_there_are_too_many() {
        let mut ids = Ids::new();
        assert!((0..WAITING_MAX).all(|number| ids.lend(waiting(number)) == (number, false)));
        ids.give_back(1);
        assert_eq!(ids.lend(waiting(20_000)), (0, true));
        assert_eq!(ids.lend(waiting(20_001)), (1, false));
        assert_eq!(ids.give_back(0), Some(waiting(20_000)));
    }
}

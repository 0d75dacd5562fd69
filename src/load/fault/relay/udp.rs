//! The UDP side of a relay.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::impair::Fate;
use super::late::{Late, send};
use super::line::{LINES, Line, Sent};
use super::{Shared, To, count, stub};
use crate::wire::TCP_MAX;

/// A relay's socket, and the way back to clients.
#[derive(Clone)]
struct Udp {
    socket: Arc<UdpSocket>,
    shared: Arc<Shared>,
    late: Late,
    /// None for a stub.
    lines: Arc<[Line]>,
}

/// Starts the tasks of one socket.
pub(super) async fn start(
    socket: UdpSocket,
    shared: &Arc<Shared>,
    tasks: &mut JoinSet<()>,
) -> std::io::Result<()> {
    let mut lines = Vec::new();
    if let To::Server(server) = shared.to {
        for _ in 0..LINES {
            lines.push(Line::open(server).await?);
        }
    }
    let (socket, shared, lines) = (Arc::new(socket), Arc::clone(shared), Arc::from(lines));
    let late = Late::start(Arc::clone(&socket), Arc::clone(&shared), tasks);
    let udp = Udp { socket, shared, late, lines };
    for number in 0..udp.lines.len() {
        tasks.spawn(udp.clone().take_answers(number));
    }
    tasks.spawn(udp.take_questions());
    Ok(())
}

impl Udp {
    async fn take_questions(self) {
        let mut buffer = vec![0; TCP_MAX];
        loop {
            match self.socket.recv_from(&mut buffer).await {
                Ok((length, client)) => self.question(&mut buffer[..length], client).await,
                // Out of memory, or the like: others are to run first.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    async fn take_answers(self, number: usize) {
        let mut buffer = vec![0; TCP_MAX];
        loop {
            if let Some((client, length)) = self.lines[number].answer(&mut buffer).await {
                self.answer(&buffer[..length], client).await;
            }
        }
    }

    async fn question(&self, question: &mut [u8], client: SocketAddr) {
        let counters = &self.shared.counters;
        if !stub::is_question(question) {
            return count(&counters.garbage);
        }
        count(&counters.questions);
        match self.shared.impairments.datagram(Instant::now()) {
            Fate::Swallowed => count(&counters.swallowed),
            Fate::Lost => count(&counters.lost),
            Fate::BeyondRate => count(&counters.beyond_rate),
            Fate::Servfail => self.made(&stub::servfail(question), client).await,
            Fate::Truncate => self.made(&stub::truncated(question), client).await,
            Fate::Pass => self.pass(question, client).await,
        }
    }

    /// Sends a question on, or answers it.
    async fn pass(&self, question: &mut [u8], client: SocketAddr) {
        let counters = &self.shared.counters;
        let Some(line) = self.lines.get(usize::from(client.port()) % LINES) else {
            return self.made(&stub::answer(question), client).await;
        };
        match line.ask(question, client).await {
            Sent::Ok => {}
            Sent::Overrun => count(&counters.overrun),
            Sent::Unreachable => count(&counters.unreachable),
        }
    }

    /// Sends an answer of our own.
    async fn made(&self, answer: &[u8], client: SocketAddr) {
        count(&self.shared.counters.made);
        self.answer(answer, client).await;
    }

    /// Sends an answer back, at its time.
    async fn answer(&self, answer: &[u8], client: SocketAddr) {
        match self.shared.impairments.answer() {
            None => count(&self.shared.counters.swallowed),
            Some(delay) if delay.is_zero() => {
                send(&self.socket, answer, client, &self.shared).await;
            }
            Some(delay) => self.late.hold(answer, client, delay).await,
        }
    }
}

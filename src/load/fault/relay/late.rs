//! Answers that come later: a bounded waiting room on the runtime's clock.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::{Shared, count};

/// Answers that may be held back at a time: 13 s at 5 000 a second, some 15 MB.
pub(super) const HELD_MAX: usize = 65_536;
/// Answers on their way into the waiting room.
const ARRIVING_MAX: usize = 1024;

/// The way into the waiting room.
#[derive(Clone)]
pub(super) struct Late(Sender<Held>);

/// An answer that waits.
struct Held {
    due: Instant,
    client: SocketAddr,
    octets: Box<[u8]>,
}

impl Late {
    /// Opens a waiting room, from where answers leave by this socket.
    pub(super) fn start(
        socket: Arc<UdpSocket>,
        shared: Arc<Shared>,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let (sender, arriving) = channel(ARRIVING_MAX);
        tasks.spawn(async move { send_when_due(arriving, &socket, &shared).await });
        Self(sender)
    }

    /// Holds an answer back.
    pub(super) async fn hold(&self, octets: &[u8], client: SocketAddr, delay: Duration) {
        let held = Held { due: Instant::now() + delay, client, octets: octets.into() };
        // The room is closed when the relay ends.
        let _ = self.0.send(held).await;
    }
}

async fn send_when_due(mut arriving: Receiver<Held>, socket: &UdpSocket, shared: &Shared) {
    let mut held: BTreeMap<(Instant, u64), Held> = BTreeMap::new();
    let mut number = 0;
    loop {
        let first = held.first_key_value().map(|((due, _), _)| *due);
        tokio::select! {
            answer = arriving.recv() => {
                let Some(answer) = answer else { return };
                if held.len() >= HELD_MAX {
                    count(&shared.counters.delayed_full);
                    continue;
                }
                count(&shared.counters.delayed);
                number += 1;
                held.insert((answer.due, number), answer);
            }
            () = at(first) => {
                let Some((_, answer)) = held.pop_first() else { continue };
                send(socket, &answer.octets, answer.client, shared).await;
            }
        }
    }
}

/// Sends an answer to a client. One that is gone is no loss.
pub(super) async fn send(socket: &UdpSocket, octets: &[u8], client: SocketAddr, shared: &Shared) {
    if socket.send_to(octets, client).await.is_ok() {
        count(&shared.counters.answers);
    }
}

/// Waits for an instant; for ever without one.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

//! The TCP side of a relay: messages with two octets of length, many on one connection.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::impair::Fate;
use super::{Shared, To, count, stub};

/// Connections at a time.
pub(super) const CONNECTIONS_MAX: usize = 1024;
/// Answers of one connection that wait for their time. Beyond, the upstream waits.
const QUEUED_MAX: usize = 256;
/// Longest handshake with the upstream.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// An answer on its way back.
type Due = (Instant, Vec<u8>);

/// Serves connections for ever.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(_) if connections.len() >= CONNECTIONS_MAX => count(&shared.counters.refused),
                Ok((client, _)) => {
                    connections.spawn(connection(client, Arc::clone(&shared)));
                }
                // Out of files: some will be given back.
                Err(_) => sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection until either side ends it.
async fn connection(client: TcpStream, shared: Arc<Shared>) {
    let _ = client.set_nodelay(true);
    let (questions, back) = client.into_split();
    let (sender, due) = channel(QUEUED_MAX);
    let exchange = async {
        match shared.to {
            To::Stub => drop(take_questions(questions, None, &sender, &shared).await),
            To::Server(server) => match timeout(CONNECT_MAX, TcpStream::connect(server)).await {
                Ok(Ok(upstream)) => between(questions, upstream, &sender, &shared).await,
                _ => count(&shared.counters.unreachable),
            },
        }
        drop(sender);
    };
    tokio::join!(exchange, send_when_due(back, due, &shared));
}

/// Relays between a client and its upstream until the upstream ends it.
async fn between(
    questions: OwnedReadHalf,
    upstream: TcpStream,
    sender: &Sender<Due>,
    shared: &Shared,
) {
    let _ = upstream.set_nodelay(true);
    let (answers, onward) = upstream.into_split();
    let asked = async {
        // The end of the questions closes `onward`; answers may still come.
        if take_questions(questions, Some(onward), sender, shared).await.is_ok() {
            std::future::pending().await
        }
    };
    tokio::select! {
        () = asked => {}
        _ = take_answers(answers, sender, shared) => {}
    }
}

async fn take_questions(
    mut questions: OwnedReadHalf,
    mut onward: Option<OwnedWriteHalf>,
    sender: &Sender<Due>,
    shared: &Shared,
) -> io::Result<()> {
    while let Some(question) = read(&mut questions).await? {
        if !stub::is_question(&question) {
            count(&shared.counters.garbage);
            return Err(io::ErrorKind::InvalidData.into());
        }
        count(&shared.counters.questions);
        let (fate, wait) = shared.impairments.message(Instant::now());
        if !wait.is_zero() {
            count(&shared.counters.beyond_rate);
            sleep(wait).await;
        }
        match (fate, &mut onward) {
            (Fate::Swallowed, _) => count(&shared.counters.swallowed),
            (Fate::Servfail, _) => made(stub::servfail(&question), sender, shared).await?,
            (_, None) => made(stub::answer(&question), sender, shared).await?,
            (_, Some(onward)) => write(onward, &question).await?,
        }
    }
    Ok(())
}

async fn take_answers(
    mut answers: OwnedReadHalf,
    sender: &Sender<Due>,
    shared: &Shared,
) -> io::Result<()> {
    while let Some(answer) = read(&mut answers).await? {
        queue(answer, sender, shared).await?;
    }
    Ok(())
}

/// Sends an answer of our own.
async fn made(answer: Vec<u8>, sender: &Sender<Due>, shared: &Shared) -> io::Result<()> {
    count(&shared.counters.made);
    queue(answer, sender, shared).await
}

/// Has an answer sent back, at its time.
async fn queue(answer: Vec<u8>, sender: &Sender<Due>, shared: &Shared) -> io::Result<()> {
    let Some(delay) = shared.impairments.answer() else {
        count(&shared.counters.swallowed);
        return Ok(());
    };
    if !delay.is_zero() {
        count(&shared.counters.delayed);
    }
    let sent = sender.send((Instant::now() + delay, answer)).await;
    sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

/// Sends answers in the order in which they came.
async fn send_when_due(mut back: OwnedWriteHalf, mut due: Receiver<Due>, shared: &Shared) {
    while let Some((at, answer)) = due.recv().await {
        sleep_until(at).await;
        if write(&mut back, &answer).await.is_err() {
            return;
        }
        count(&shared.counters.answers);
    }
}

/// Reads one message; `None` at the end.
async fn read(from: &mut OwnedReadHalf) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match from.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    from.read_exact(&mut message).await?;
    Ok(Some(message))
}

/// Writes one message.
async fn write(to: &mut OwnedWriteHalf, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    to.write_all(&framed).await
}

//! Worker 0 before the start: hears who is there, and starts when all are.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{info, warn};

use super::call::{Call, Hello, hear_call, say};

/// Connections that have not said who they are. More wait in the system's queue.
const STRANGERS_MAX: usize = 64;
/// How long one may take to say it, and a worker to answer a ping.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// Pings per worker; the fastest counts.
const PINGS: usize = 3;
/// From the moment when all are there to the start: enough for all to hear of it.
const START_AFTER: Duration = Duration::from_secs(2);
/// Rest after a failed accept. Without file descriptors it would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The others, by index.
pub(super) type Workers = BTreeMap<u32, TcpStream>;

/// Waits for all, and tells them when to start. The error is those that are missing at the end.
pub(super) async fn gather(
    listener: &TcpListener,
    own: &Hello,
    until: Instant,
) -> Result<(Instant, Workers), Vec<u32>> {
    let mut workers = Workers::new();
    loop {
        let waited = timeout_at(until, admit_all(listener, own, &mut workers)).await;
        if waited.is_err() {
            return Err((1..own.workers).filter(|index| !workers.contains_key(index)).collect());
        }
        let distances = measure(&mut workers).await;
        if workers.len() + 1 == own.workers as usize {
            return Ok((start(&mut workers, &distances).await, workers));
        }
    }
}

/// Admits workers until none is missing.
async fn admit_all(listener: &TcpListener, own: &Hello, workers: &mut Workers) {
    let mut strangers = JoinSet::new();
    while workers.len() + 1 < own.workers as usize {
        tokio::select! {
            accepted = listener.accept(), if strangers.len() < STRANGERS_MAX => match accepted {
                Ok((stream, _)) => {
                    strangers.spawn(timeout(ANSWER_TIME_MAX, introduced(stream)));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(heard) = strangers.join_next() => {
                // Who says nothing in time, or something else, is no worker.
                if let Ok(Ok(Ok((stream, hello)))) = heard {
                    admit(stream, &hello, own, workers).await;
                }
            }
        }
    }
}

/// Hears who is at the other end.
async fn introduced(mut stream: TcpStream) -> io::Result<(TcpStream, Hello)> {
    stream.set_nodelay(true)?;
    match hear_call(&mut stream).await? {
        Call::Hello(hello) => Ok((stream, hello)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Takes a worker in, or tells it why not.
async fn admit(mut stream: TcpStream, hello: &Hello, own: &Hello, workers: &mut Workers) {
    let index = hello.index;
    match refusal(hello, own, workers) {
        None => {
            workers.insert(index, stream);
            info!(index, here = workers.len() + 1, of = own.workers, "a worker is there");
        }
        Some(why) => {
            warn!(index, "a worker is refused: {why}");
            // One that does not hear it will find its connection closed.
            let _ = timeout(ANSWER_TIME_MAX, say(&mut stream, &Call::Refused(why))).await;
        }
    }
}

/// Why a worker may not take part.
fn refusal(hello: &Hello, own: &Hello, workers: &Workers) -> Option<String> {
    let Hello { version, index, workers: count, digest } = hello;
    if *version != own.version {
        Some(format!("it is version {version}, worker 0 is {}; use one image", own.version))
    } else if *count != own.workers {
        Some(format!("it has --workers {count}, worker 0 has {}", own.workers))
    } else if *digest != own.digest {
        Some("its command line is not that of worker 0; all but --index must be equal".to_owned())
    } else if *index == 0 || *index >= own.workers {
        Some(format!("--index {index} is not one of 1 to {}", own.workers - 1))
    } else if workers.get(index).is_some_and(is_open) {
        Some(format!("--index {index} is here already; give each worker its own"))
    } else {
        None
    }
}

/// Whether the other end is still there. A Pod that was replaced is not.
fn is_open(stream: &TcpStream) -> bool {
    let nothing_came = stream.try_read(&mut [0]);
    nothing_came.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// Round trips to all. Those that do not answer are no longer among the workers.
async fn measure(workers: &mut Workers) -> BTreeMap<u32, Duration> {
    let pings = workers.iter_mut().map(|(index, stream)| async {
        let round_trip = timeout(ANSWER_TIME_MAX, ping(stream)).await;
        (*index, round_trip.ok().and_then(Result::ok))
    });
    let measured = join_all(pings).await;
    let mut distances = BTreeMap::new();
    for (index, round_trip) in measured {
        match round_trip {
            Some(round_trip) => _ = distances.insert(index, round_trip),
            None => {
                warn!(index, "a worker went before the start; waiting for it again");
                workers.remove(&index);
            }
        }
    }
    distances
}

/// The fastest of a few round trips.
async fn ping(stream: &mut TcpStream) -> io::Result<Duration> {
    let mut fastest = Duration::MAX;
    for _ in 0..PINGS {
        let begun = Instant::now();
        say(stream, &Call::Ping).await?;
        if hear_call(stream).await? != Call::Pong {
            return Err(io::ErrorKind::InvalidData.into());
        }
        fastest = fastest.min(begun.elapsed());
    }
    Ok(fastest)
}

/// Tells all in how long to start, less the time that the word takes to come to them.
async fn start(workers: &mut Workers, distances: &BTreeMap<u32, Duration>) -> Instant {
    let at = Instant::now() + START_AFTER;
    let words = workers.iter_mut().map(|(index, stream)| async move {
        let on_its_way = distances.get(index).copied().unwrap_or_default() / 2;
        let left = at.saturating_duration_since(Instant::now()).saturating_sub(on_its_way);
        let start = Call::Start { in_us: left.as_micros() as u64 };
        // One that went is missed when its report does not come.
        let _ = timeout(ANSWER_TIME_MAX, say(stream, &start)).await;
    });
    join_all(words).await;
    at
}

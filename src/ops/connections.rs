//! The connections of one listener: few, short, and no client can hold them against another.
//!
//! One request per connection, with one time limit for all of it, so neither slow senders nor slow
//! readers stay. When the listener is full the oldest connection gives way: refusing the newest
//! would let 32 silent connections keep the kubelet's probe out, and so restart us.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::Counters;

/// Open connections of one listener.
const CONNECTIONS_MAX: usize = 32;
/// From accept to the last octet of the reply (CoreDNS: 5 s for each of the phases).
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(5);
/// Octets of a request's head, and of what is buffered of a reply.
const REQUEST_OCTETS_MAX: usize = 8 * 1024;
/// Rest after a failed accept. Without file descriptors it would fail again at once; ours end soon.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts on `listener`, for ever. A connection gets the router of the moment.
pub(super) async fn accept(
    listener: TcpListener,
    router: watch::Receiver<Router>,
    counters: Counters,
) {
    let mut connections = Connections { tasks: JoinSet::new(), oldest: VecDeque::new(), counters };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => connections.admit(stream, router.borrow().clone()),
            Err(_) => {
                connections.counters.http_accept_errors.inc();
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The open connections, oldest first. Dropping them closes them.
struct Connections {
    tasks: JoinSet<()>,
    oldest: VecDeque<AbortHandle>,
    counters: Counters,
}

impl Connections {
    /// Serves `stream`, after making room for it.
    fn admit(&mut self, stream: TcpStream, router: Router) {
        self.reap();
        if self.oldest.len() == CONNECTIONS_MAX
            && let Some(connection) = self.oldest.pop_front()
        {
            connection.abort();
            self.counters.http_crowded_out.inc();
        }
        let serving = serve(stream, router, self.counters.clone());
        self.oldest.push_back(self.tasks.spawn(serving));
    }

    /// Forgets those that ended.
    fn reap(&mut self) {
        // A panic of one was counted and told when it happened.
        while self.tasks.try_join_next().is_some() {}
        self.oldest.retain(|connection| !connection.is_finished());
    }
}

/// Answers the one request of `stream`.
async fn serve<S>(stream: S, router: Router, counters: Counters)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(REQUEST_OCTETS_MAX);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // A request that is not HTTP, or a client that left, is the client's affair.
    if tokio::time::timeout(CONNECTION_TIME_MAX, connection).await.is_err() {
        counters.http_timeouts.inc();
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    /// Serves one end of a pipe that holds `room` octets; the other end is the client.
    fn served(room: usize) -> (tokio::io::DuplexStream, Counters, tokio::task::JoinHandle<()>) {
        let (client, server) = duplex(room);
        let counters = Counters::default();
        let router = Router::new().route("/", get(async || "x".repeat(100_000)));
        (client, counters.clone(), tokio::spawn(serve(server, router, counters)))
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_sends_half_a_request_is_closed_and_counted() {
        let (mut client, counters, serving) = served(1024);
        client.write_all(b"GET / HTTP/1.1\r\nhost").await.unwrap();
        serving.await.unwrap();
        assert_eq!(client.read(&mut [0; 16]).await.unwrap(), 0);
        assert_eq!(counters.http_timeouts.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn client_that_does_not_read_is_closed_and_counted() {
        let (mut client, counters, serving) = served(64);
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        serving.await.unwrap();
        assert_eq!(counters.http_timeouts.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn one_connection_answers_one_request() {
        let (mut client, counters, serving) = served(1 << 20);
        let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        client.write_all(&request.repeat(2)).await.unwrap();
        let mut replies = String::new();
        client.read_to_string(&mut replies).await.unwrap();
        serving.await.unwrap();
        assert_eq!(replies.matches("HTTP/1.1 200 OK").count(), 1);
        assert!(replies.contains("connection: close"));
        assert_eq!(counters.http_timeouts.get(), 0);
    }
}

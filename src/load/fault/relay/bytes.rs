//! A relay of octets in front of the API server. While it is down, connections are cut and new
//! ones are refused, as with a server whose process is gone.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::count;
use super::tcp::CONNECTIONS_MAX;
use crate::load::Error;

/// Longest handshake with the server.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Handshakes that the kernel keeps for us.
const BACKLOG: u32 = 1024;
/// Pause before a port is tried again that somebody has taken meanwhile.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A relay at work. Dropping it ends it.
pub struct ByteRelay {
    listen: SocketAddr,
    /// How many want it down.
    down: watch::Sender<usize>,
    /// Whether it is down.
    is_down: watch::Receiver<bool>,
    counters: Arc<Counters>,
    task: AbortHandle,
}

/// What became of connections.
#[derive(Debug, Default)]
pub struct Counters {
    /// That came.
    pub accepted: AtomicU64,
    /// That were cut because it was to be down.
    pub cut: AtomicU64,
    /// That were refused because there were too many.
    pub refused: AtomicU64,
    /// For which the server was away.
    pub unreachable: AtomicU64,
}

/// What its task holds.
struct Task {
    to: String,
    listen: SocketAddr,
    down: watch::Receiver<usize>,
    is_down: watch::Sender<bool>,
    counters: Arc<Counters>,
}

impl ByteRelay {
    /// Reads `LISTEN=TO` of `--api` and listens. TO may be a name.
    ///
    /// # Errors
    /// What is wrong with the text, or a port that cannot be had.
    pub async fn start(text: &str) -> Result<Self, Error> {
        let (listen, to) = parse(text)?;
        let system = |error| Error::System { what: format!("--api: listen on {listen}"), error };
        let listener = TcpListener::bind(listen).await.map_err(system)?;
        let listen = listener.local_addr().map_err(system)?;
        let (down, is_down) = (watch::Sender::new(0), watch::Sender::new(false));
        let counters = Arc::new(Counters::default());
        let task = Task {
            to,
            listen,
            down: down.subscribe(),
            is_down: is_down.clone(),
            counters: Arc::clone(&counters),
        };
        let task = tokio::spawn(task.run(listener)).abort_handle();
        Ok(Self { listen, down, is_down: is_down.subscribe(), counters, task })
    }

    /// Where it listens.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// What became of connections so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Has all connections cut and new ones refused. Each call needs an [`ByteRelay::up`].
    pub fn down(&self) {
        self.down.send_modify(|wanted| *wanted += 1);
    }

    /// Waits until connections are refused.
    pub async fn is_down(&self) {
        let mut is_down = self.is_down.clone();
        // The task ends with us.
        let _ = is_down.wait_for(|is_down| *is_down).await;
    }

    /// Takes one [`ByteRelay::down`] back; connections are taken soon after the last one.
    pub fn up(&self) {
        self.down.send_modify(|wanted| *wanted = wanted.saturating_sub(1));
    }

    /// Waits until connections are taken.
    pub async fn is_up(&self) {
        let mut is_down = self.is_down.clone();
        let _ = is_down.wait_for(|is_down| !*is_down).await;
    }
}

impl Drop for ByteRelay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads `LISTEN=TO`.
fn parse(text: &str) -> Result<(SocketAddr, String), Error> {
    let fail = |what: &str| {
        let example = "write it as 127.0.0.1:6444=10.0.0.1:6443";
        Error::Config(format!("--api {text:?}: {what}; {example}"))
    };
    let (listen, to) = text.split_once('=').ok_or_else(|| fail("there is no `=`"))?;
    let listen = listen.parse().map_err(|_| fail("LISTEN is no ADDRESS:PORT"))?;
    let to = to.trim_start_matches("https://").trim_end_matches('/');
    let port = to.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    if port.and_then(|(_, port)| port.parse::<u16>().ok()).is_none() {
        return Err(fail("TO is no HOST:PORT"));
    }
    Ok((listen, to.to_owned()))
}

impl Task {
    async fn run(mut self, mut listener: TcpListener) {
        loop {
            self.serve(&listener).await;
            close(listener);
            listener = self.wait_until_up().await;
        }
    }

    /// Takes connections until it is to be down. Those that are open are cut with it.
    async fn serve(&self, listener: &TcpListener) {
        let (mut connections, mut down) = (JoinSet::new(), self.down.clone());
        self.is_down.send_replace(false);
        loop {
            tokio::select! {
                () = wanted_down(&mut down) => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((client, _)) if connections.len() < CONNECTIONS_MAX => {
                        count(&self.counters.accepted);
                        connections.spawn(self.relay(client));
                    }
                    Ok(_) => count(&self.counters.refused),
                    Err(_) => sleep(RETRY_AFTER).await,
                },
            }
        }
        while connections.join_next().await.is_some() {}
    }

    /// Relays one connection until either side ends it, or it is cut.
    fn relay(&self, mut client: TcpStream) -> impl Future<Output = ()> + use<> {
        let (to, counters) = (self.to.clone(), Arc::clone(&self.counters));
        let mut down = self.down.clone();
        async move {
            let both = async {
                match timeout(CONNECT_MAX, TcpStream::connect(&to)).await {
                    Ok(Ok(mut server)) => {
                        let _ = (client.set_nodelay(true), server.set_nodelay(true));
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                    _ => count(&counters.unreachable),
                }
            };
            tokio::select! {
                () = both => {}
                () = wanted_down(&mut down) => {
                    count(&counters.cut);
                    // It is closed with RST then.
                    let _ = client.set_zero_linger();
                }
            }
        }
    }

    /// Holds the port without listening on it, which refuses connections, until it is to be up.
    async fn wait_until_up(&mut self) -> TcpListener {
        let mut held = hold(self.listen).ok();
        self.is_down.send_replace(true);
        // The sender ends this task when it goes.
        let _ = self.down.wait_for(|wanted| *wanted == 0).await;
        loop {
            let listening = held.take().map_or_else(|| hold(self.listen), Ok);
            match listening.and_then(|socket| socket.listen(BACKLOG)) {
                Ok(listener) => return listener,
                Err(_) => sleep(RETRY_AFTER).await,
            }
        }
    }
}

/// Waits until somebody wants the relay down.
async fn wanted_down(down: &mut watch::Receiver<usize>) {
    // The sender ends our task when it goes.
    let _ = down.wait_for(|wanted| *wanted > 0).await;
}

/// Closes a listener, also for a child that has just been forked and holds it until its program
/// begins: to close our descriptor is not enough then, and the kernel would go on taking
/// connections.
fn close(listener: TcpListener) {
    // A listener that cannot be taken from the runtime is closed with it.
    let Ok(listener) = listener.into_std() else { return };
    let _ = std::net::TcpStream::from(OwnedFd::from(listener)).shutdown(Shutdown::Both);
}

/// A socket with this address that does not listen. Where it can, it shares the address with
/// nobody: only connections that have just ended forbid that.
fn hold(address: SocketAddr) -> io::Result<TcpSocket> {
    bound(address, false).or_else(|_| bound(address, true))
}

fn bound(address: SocketAddr, is_shared: bool) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(is_shared)?;
    socket.bind(address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A server that sends back what it gets.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let (mut read, mut write) = client.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        address
    }

    async fn connected(relay: &ByteRelay) -> TcpStream {
        let mut client = TcpStream::connect(relay.listen()).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        let mut said = [0; 5];
        client.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"hello");
        client
    }

    #[tokio::test]
    async fn connections_are_cut_and_refused_until_it_is_up_again() {
        let relay = ByteRelay::start(&format!("127.0.0.1:0={}", echo().await)).await.unwrap();
        let mut client = connected(&relay).await;
        relay.down();
        relay.down();
        relay.is_down().await;
        let cut = client.read_u8().await.unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::ConnectionReset);
        for _ in 0..2 {
            let refused = TcpStream::connect(relay.listen()).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        }
        relay.up();
        let refused = TcpStream::connect(relay.listen()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        relay.up();
        relay.is_up().await;
        connected(&relay).await;
        let counted = |counter: &AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        assert_eq!((counted(&relay.counters().accepted), counted(&relay.counters().cut)), (2, 1));
    }

    #[tokio::test]
    async fn a_server_that_is_away_ends_the_connection() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let relay = ByteRelay::start(&format!("127.0.0.1:0={gone}")).await.unwrap();
        let mut client = TcpStream::connect(relay.listen()).await.unwrap();
        assert_eq!(client.read(&mut [0; 8]).await.unwrap_or(0), 0);
    }

    #[tokio::test]
    async fn what_is_no_relay_is_refused_with_an_example() {
        for (text, why) in [
            ("127.0.0.1:6444", "there is no `=`"),
            ("6444=10.0.0.1:6443", "LISTEN is no ADDRESS:PORT"),
            ("127.0.0.1:6444=10.0.0.1", "TO is no HOST:PORT"),
            ("127.0.0.1:6444=:6443", "TO is no HOST:PORT"),
        ] {
            let error = ByteRelay::start(text).await.err().unwrap().to_string();
            assert!(error.contains(why) && error.contains("127.0.0.1:6444=10."), "{error}");
        }
        let (_, to) = parse("127.0.0.1:0=https://api.example.org:6443/").unwrap();
        assert_eq!(to, "api.example.org:6443");
    }
}

//! One question over TCP (RFC 7766).
//!
//! A connection carries one exchange at a time and is kept for the next one for `expire`. An
//! exchange owns its connection: when it is dropped half way, so is the connection, and no late
//! response can meet another question.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};

use super::counters::UpstreamCounters;
use super::entropy;
use super::failure::{Act, Cause, Failure, Path, Proto};
use super::request::{Received, Request, is_response};

/// Idle connections kept for one upstream. Enough for a node that asks over TCP only, at the
/// 100 or so exchanges a second that each of them can carry.
pub const IDLE_MAX: usize = 16;

/// The idle connections to one upstream.
#[derive(Debug)]
pub struct Connections {
    remote: SocketAddr,
    limits: Limits,
    /// The one used last is at the end.
    idle: Mutex<Vec<Idle>>,
}

/// What connections to one upstream are held to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// An idle one is closed after this.
    pub expire: Duration,
    /// One this old is not used again; zero is no limit.
    pub age_max: Duration,
    /// Idle ones kept; zero is [`IDLE_MAX`].
    pub idle_max: usize,
    /// The address that they come from, if the host does not choose it.
    pub source: Option<IpAddr>,
}

/// A connection without an exchange.
#[derive(Debug)]
struct Idle {
    stream: TcpStream,
    opened: Instant,
    since: Instant,
}

/// A connection with an exchange on it.
struct Busy {
    stream: TcpStream,
    opened: Instant,
    path: Path,
}

impl Connections {
    /// None yet.
    pub fn new(remote: SocketAddr, limits: Limits) -> Self {
        Self { remote, limits, idle: Mutex::default() }
    }

    /// Sends the request and waits for what it may be answered with: on an idle connection, unless
    /// a new one is wanted.
    ///
    /// # Errors
    /// The network's, the time-out at `until`, and a response that is truncated even here.
    pub async fn ask(
        &self,
        request: &Request,
        until: Instant,
        is_new: bool,
        counters: &UpstreamCounters,
    ) -> Result<Received, Failure> {
        let idle = if is_new { None } else { self.take(Instant::now()) };
        if let Some(connection) = idle {
            counters.tcp_reused.add();
            match self.converse(connection, request, until, counters).await {
                // RFC 7766 §6.2.4: the other side may close an idle connection whenever it likes,
                // so this says nothing about the upstream.
                Err(failure) if failure.is_closed() => {}
                done => return done,
            }
        }
        counters.tcp_opened.add();
        let connection = Busy::open(self.remote, self.limits.source, until).await?;
        self.converse(connection, request, until, counters).await
    }

    /// Idle connections at this moment.
    pub fn idle_count(&self) -> usize {
        self.idle.lock().len()
    }

    /// Closes connections that have been idle for too long.
    pub fn sweep(&self, now: Instant) {
        self.idle.lock().retain(|idle| idle.is_fresh(now, &self.limits));
    }

    /// Closes connections that were idle at that time already: what forgot one of them, as a NAT or
    /// a restarted upstream does, has forgotten all.
    pub fn distrust(&self, at: Instant) {
        self.idle.lock().retain(|idle| idle.since > at);
    }

    /// One exchange on this connection, which is kept if that goes well.
    async fn converse(
        &self,
        mut connection: Busy,
        request: &Request,
        until: Instant,
        counters: &UpstreamCounters,
    ) -> Result<Received, Failure> {
        let judge = |id, message: &[u8]| match request.judge(id, message) {
            // Nobody can guess here: who is connected may lie as it likes, and confuses us with an
            // answer to somebody else at most.
            Received::Ignored | Received::NearMiss => {
                counters.mismatched.add();
                None
            }
            received => Some(received),
        };
        let received = connection.exchange(request, until, judge).await?;
        if received == Received::Truncated {
            return Err(connection.path.failed(Act::Read, Cause::Truncated));
        }
        self.keep(connection, Instant::now(), counters);
        Ok(received)
    }

    /// The idle connection that was used last, if one is alive.
    fn take(&self, now: Instant) -> Option<Busy> {
        let mut idle = self.idle.lock();
        while let Some(last) = idle.pop() {
            if last.is_fresh(now, &self.limits) && last.is_silent() {
                return Some(Busy::new(last.stream, last.opened, self.remote));
            }
        }
        None
    }

    fn keep(&self, connection: Busy, since: Instant, counters: &UpstreamCounters) {
        let Busy { stream, opened, .. } = connection;
        let mut idle = self.idle.lock();
        let idle_max = if self.limits.idle_max == 0 { IDLE_MAX } else { self.limits.idle_max };
        if idle.len() < idle_max.min(IDLE_MAX) {
            idle.push(Idle { stream, opened, since });
        } else {
            counters.tcp_surplus.add();
        }
    }
}

/// Sends the request on a new connection and waits for any response to it.
///
/// # Errors
/// As [`Connections::ask`].
pub async fn probe(
    request: &Request,
    (remote, source): (SocketAddr, Option<IpAddr>),
    until: Instant,
) -> Result<(), Failure> {
    let mut connection = Busy::open(remote, source, until).await?;
    let accept = |id, message: &[u8]| is_response(id, message).then_some(());
    connection.exchange(request, until, accept).await
}

impl Idle {
    fn is_fresh(&self, now: Instant, limits: &Limits) -> bool {
        let (idle_for, age) = (now.duration_since(self.since), now.duration_since(self.opened));
        idle_for < limits.expire && (limits.age_max.is_zero() || age < limits.age_max)
    }

    /// Whether nothing was received since: neither the end, nor a response to nobody.
    fn is_silent(&self) -> bool {
        let read = self.stream.try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Busy {
    fn new(stream: TcpStream, opened: Instant, remote: SocketAddr) -> Self {
        let local = stream.local_addr().ok();
        Self { stream, opened, path: Path { proto: Proto::Tcp, local, remote } }
    }

    async fn open(
        remote: SocketAddr,
        source: Option<IpAddr>,
        until: Instant,
    ) -> Result<Self, Failure> {
        let path = Path { proto: Proto::Tcp, local: None, remote };
        let connected = timeout_at(until, connect(remote, source)).await;
        let stream = connected
            .map_err(|_| path.failed(Act::Dial, Cause::TimedOut))?
            .map_err(|error| path.failed(Act::Dial, error))?;
        // A request is one write, so waiting for more of it only costs time. If the option
        // cannot be set, the exchange is slower and just as right.
        let _ = stream.set_nodelay(true);
        Ok(Self::new(stream, Instant::now(), remote))
    }

    /// Sends the request and reads messages until `accept` takes one.
    async fn exchange<T>(
        &mut self,
        request: &Request,
        until: Instant,
        accept: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> Result<T, Failure> {
        let path = self.path;
        let id = entropy::id();
        let talk = async {
            self.write(&request.packet(id))
                .await
                .map_err(|error| path.failed(Act::Write, error))?;
            loop {
                let message = self.read().await.map_err(|error| path.failed(Act::Read, error))?;
                if let Some(taken) = accept(id, &message) {
                    return Ok(taken);
                }
            }
        };
        let timed_out = |_| Err(path.failed(Act::Read, Cause::TimedOut));
        timeout_at(until, talk).await.unwrap_or_else(timed_out)
    }

    /// Writes a message behind its length, in one segment (RFC 7766 §8).
    async fn write(&mut self, message: &[u8]) -> io::Result<()> {
        // A request is a name, some numbers and OPT: far below 65 536 octets.
        let mut framed = (message.len() as u16).to_be_bytes().to_vec();
        framed.extend_from_slice(message);
        self.stream.write_all(&framed).await
    }

    async fn read(&mut self) -> io::Result<Vec<u8>> {
        let length = self.stream.read_u16().await?;
        let mut message = vec![0; usize::from(length)];
        self.stream.read_exact(&mut message).await?;
        Ok(message)
    }
}

/// A connection, from `source` if that is given and of the same family.
async fn connect(remote: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source.filter(|source| source.is_ipv4() == remote.is_ipv4()) {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(remote).await
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use futures_util::future::join_all;
    use tokio::time::sleep;

    use super::*;
    use crate::forward::directive::TEND_INTERVAL;
    use crate::forward::scripted::{Act, LoopbackUpstream, Over, good};
    use crate::forward::tests::{config, question};
    use crate::forward::{Config, Forward};

    fn over_tcp(remote: SocketAddr) -> Arc<Forward> {
        Forward::start(Config { force_tcp: true, ..config(&[remote]) }).unwrap()
    }

    async fn ask(forward: &Forward) {
        assert_eq!(forward.ask(&question(), false).await.unwrap().answer_count(), 1);
    }

    /// Connections opened and used again.
    fn connections(forward: &Forward) -> (u64, u64) {
        let counters = &forward.upstreams()[0].counters;
        (counters.tcp_opened.value(), counters.tcp_reused.value())
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_used_again() {
        let honest = LoopbackUpstream::honest().await;
        let forward = over_tcp(honest.address);
        for _ in 0..3 {
            ask(&forward).await;
        }
        assert_eq!(connections(&forward), (1, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn exchanges_at_the_same_time_have_connections_of_their_own() {
        let honest = LoopbackUpstream::honest().await;
        let forward = over_tcp(honest.address);
        tokio::join!(ask(&forward), ask(&forward), ask(&forward));
        assert_eq!(connections(&forward), (3, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_closed_when_it_expires() {
        let honest = LoopbackUpstream::honest().await;
        let forward = over_tcp(honest.address);
        ask(&forward).await;
        let upstream = &forward.upstreams()[0];
        let expire = forward.config().expire;
        sleep(expire - TEND_INTERVAL).await;
        assert_eq!(upstream.idle_connections(), 1);
        sleep(TEND_INTERVAL * 2).await;
        assert_eq!(upstream.idle_connections(), 0, "it is closed without being asked for");
        ask(&forward).await;
        assert_eq!(connections(&forward), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_closed_while_idle_is_nobodys_fault() {
        let hasty =
            LoopbackUpstream::scripted(|asked| vec![Act::Send(good(&asked.packet)), Act::HangUp]);
        let hasty = hasty.await;
        let forward = over_tcp(hasty.address);
        for _ in 0..3 {
            ask(&forward).await;
        }
        assert_eq!(connections(&forward).0, 3);
        assert_eq!(forward.upstreams()[0].counters.failures.value(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_closed_in_the_face_of_a_request_is_opened_again() {
        let served = Mutex::new(HashSet::new());
        let once = LoopbackUpstream::scripted(move |asked| {
            let is_first = served.lock().insert(asked.from);
            vec![if is_first { Act::Send(good(&asked.packet)) } else { Act::HangUp }]
        });
        let once = once.await;
        let forward = over_tcp(once.address);
        for _ in 0..3 {
            ask(&forward).await;
        }
        assert_eq!(connections(&forward), (3, 2));
        assert_eq!(forward.upstreams()[0].counters.failures.value(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_idle_connections_are_kept() {
        let honest = LoopbackUpstream::honest().await;
        let forward = over_tcp(honest.address);
        join_all((0..IDLE_MAX + 3).map(|_| ask(&forward))).await;
        let upstream = &forward.upstreams()[0];
        assert_eq!(upstream.idle_connections(), IDLE_MAX);
        assert_eq!(upstream.counters.tcp_surplus.value(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_over_tcp_only_is_probed_over_tcp() {
        let silent = LoopbackUpstream::silent().await;
        let forward = over_tcp(silent.address);
        forward.ask(&question(), false).await.unwrap_err();
        sleep(Duration::from_secs(10)).await;
        assert!(forward.upstreams()[0].health().is_down());
        assert_eq!(silent.count(Over::Udp), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lie_on_a_stream_is_passed_over() {
        let liar = LoopbackUpstream::scripted(|asked| {
            let truth = good(&asked.packet);
            let mut lie = truth.clone();
            lie[0] ^= 0xFF;
            vec![Act::Send(Vec::new()), Act::Send(lie), Act::Send(truth)]
        })
        .await;
        let forward = over_tcp(liar.address);
        ask(&forward).await;
        assert_eq!(forward.upstreams()[0].counters.mismatched.value(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn dead_connections_cost_one_try_and_are_closed() {
        let served = Mutex::new(HashSet::new());
        let once = LoopbackUpstream::scripted(move |asked| {
            let is_first = served.lock().insert(asked.from);
            if is_first { vec![Act::Send(good(&asked.packet))] } else { Vec::new() }
        });
        let once = once.await;
        let config = Config { force_tcp: true, hedge_percent: 0, ..config(&[once.address]) };
        let forward = Forward::start(config).unwrap();
        join_all((0..5).map(|_| ask(&forward))).await;
        let upstream = &forward.upstreams()[0];
        assert_eq!(upstream.idle_connections(), 5);
        ask(&forward).await;
        assert_eq!(connections(&forward), (6, 1));
        assert_eq!(upstream.idle_connections(), 1, "the new one");
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_response_never_meets_the_next_question() {
        let late = LoopbackUpstream::scripted(|asked| {
            vec![Act::Pause(Duration::from_secs(9)), Act::Send(good(&asked.packet))]
        })
        .await;
        let forward = over_tcp(late.address);
        for _ in 0..2 {
            forward.ask(&question(), false).await.unwrap_err();
        }
        assert_eq!(connections(&forward).1, 0, "a connection that owes a response is not kept");
    }
}

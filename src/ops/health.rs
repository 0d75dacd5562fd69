//! Whether we live: `/health`, and the probe that asks it as the kubelet would.
//!
//! `/health` is 200 for as long as the process can answer, in lameduck too: a restart heals nothing
//! that `/ready` reports. Once a second we ask it ourselves, through the socket, and publish how
//! long that took (as CoreDNS plugin/health): a host without CPU to spare shows here first.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;

use super::{Counters, Throttle};

/// Time between two probes (as CoreDNS).
const PERIOD: Duration = Duration::from_secs(1);
/// A probe that takes longer has failed (as CoreDNS).
const TIMEOUT: Duration = Duration::from_secs(3);
/// A probe that takes longer is worth a warning (as CoreDNS).
const SLOW: Duration = Duration::from_secs(1);
/// Octets of the reply that we read: enough for the status line and our own headers.
const REPLY_OCTETS_MAX: u64 = 1024;

/// The page.
pub(super) async fn page() -> &'static str {
    "OK"
}

/// Asks `/health` at `address` once a second, for ever.
pub(super) async fn probe(address: SocketAddr, counters: Counters) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut warnings = Throttle::default();
    loop {
        ticks.tick().await;
        let Err(trouble) = probe_once(address, &counters).await else { continue };
        if let Some(times) = warnings.admit(Instant::now()) {
            tracing::warn!(plugin = "health", times, "Local health request {trouble}");
        }
    }
}

/// Asks once and counts it.
///
/// # Errors
/// What an operator should know about this probe.
async fn probe_once(address: SocketAddr, counters: &Counters) -> Result<(), String> {
    let start = Instant::now();
    let asked = tokio::time::timeout(TIMEOUT, ask(through_loopback(address))).await;
    let took = start.elapsed();
    counters.health_seconds.observe(took.as_secs_f64());
    match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Err(error) => {
            counters.health_failures.inc();
            Err(format!("to {address} failed: {error}"))
        }
        Ok(()) if took > SLOW => Err(format!("to {address} took more than 1s: {took:?}")),
        Ok(()) => Ok(()),
    }
}

/// The address at which we reach our own listener. Unspecified means every address of the host, and
/// the loopback of IPv4 is there even where IPv6 is switched off.
fn through_loopback(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    address
}

/// Fetches the page.
///
/// # Errors
/// The connection fails, or the status is not 200.
async fn ask(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await?;
    let mut reply = Vec::new();
    stream.take(REPLY_OCTETS_MAX).read_to_end(&mut reply).await?;
    if reply.starts_with(b"HTTP/1.1 200 ") {
        return Ok(());
    }
    Err(io::Error::other("the status is not 200"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn probe_of_a_listener_that_is_gone_counts_as_failed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let counters = Counters::default();
        assert!(probe_once(address, &counters).await.unwrap_err().contains("failed"));
        assert_eq!(counters.health_failures.get(), 1);
    }

    #[tokio::test]
    async fn probe_that_gets_another_status_counts_as_failed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counters = Counters::default();
        let answer = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n").await.unwrap();
        };
        let (result, ()) = tokio::join!(probe_once(address, &counters), answer);
        result.unwrap_err();
        assert_eq!(counters.health_failures.get(), 1);
    }

    #[test]
    fn unspecified_address_is_asked_through_loopback() {
        let asked = |text: &str| through_loopback(text.parse().unwrap()).to_string();
        assert_eq!(asked("[::]:8080"), "127.0.0.1:8080");
        assert_eq!(asked("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(asked("169.254.20.10:8080"), "169.254.20.10:8080");
    }
}

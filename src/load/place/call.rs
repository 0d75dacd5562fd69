//! What workers tell each other: JSON behind its length in octets (32 bits, big-endian).
//!
//! ```text
//! worker 0   ◄── Hello ──   worker 1 …        (or Refused ──►, and the connection ends)
//!            ── Ping ──►  ◄── Pong ──         how far away they are
//!            ── Start ──►
//!                  the run
//!            ── Enough ──►  ◄── Report ──
//!            ── Thanks ──►
//! ```

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest call but a report, in octets.
pub(super) const CALL_OCTETS_MAX: usize = 4 * 1024;
/// Longest report, in octets: 3 000 slots are 1 MB, and a histogram is 10 kB.
pub(super) const REPORT_OCTETS_MAX: usize = 16 * 1024 * 1024;

/// One call, from worker 0 to another or back.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Call {
    /// Who wants to take part.
    Hello(Hello),
    /// Who may not, and why.
    Refused(String),
    /// Answered at once with `Pong`.
    Ping,
    /// Answers `Ping`.
    Pong,
    /// The run starts in so many microseconds.
    Start { in_us: u64 },
    /// The run has ended for worker 0; the next thing that it reads is a report.
    Enough,
    /// The report has come.
    Thanks,
}

/// What has to be equal for all workers, but `index`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Version of the program.
    pub version: String,
    /// Which worker, from 1.
    pub index: u32,
    /// How many there are in all.
    pub workers: u32,
    /// Of the command line.
    pub digest: u64,
}

/// Says `what`.
pub(super) async fn say<T: Serialize>(stream: &mut TcpStream, what: &T) -> io::Result<()> {
    let text = serde_json::to_vec(what).map_err(io::Error::other)?;
    let octets = u32::try_from(text.len()).map_err(io::Error::other)?;
    stream.write_all(&[&octets.to_be_bytes()[..], &text].concat()).await
}

/// Hears something of at most `octets_max`.
///
/// # Errors
/// What the connection says, and InvalidData for what is too long or nothing that we know.
pub(super) async fn hear<T: DeserializeOwned>(
    stream: &mut TcpStream,
    octets_max: usize,
) -> io::Result<T> {
    let octets = stream.read_u32().await? as usize;
    if octets > octets_max {
        let text = format!("{octets} octets where {octets_max} may come");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    // Room grows with what comes, not with what was announced.
    let mut text = Vec::new();
    stream.take(octets as u64).read_to_end(&mut text).await?;
    if text.len() < octets {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&text)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

/// Hears one call.
pub(super) async fn hear_call(stream: &mut TcpStream) -> io::Result<Call> {
    hear(stream, CALL_OCTETS_MAX).await
}

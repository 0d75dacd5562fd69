//! The process of the server under test: one that runs already, or one that we start and start
//! again when it died, as a kubelet does.
//!
//! ```text
//! --pid             ─► foreign   signals alone; it is never ours to start or to end
//! --server-command  ─► started   a group of its own; dropping it kills the whole group
//! ```

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::load::Error;

mod family;
mod foreign;
mod started;
mod tail;

use foreign::Foreign;
use started::Started;

/// From the death of the server to its next start.
pub const RESTART_AFTER: Duration = Duration::from_secs(2);

/// Takes one away if there is any, and answers how many there were. A continuation without a stop,
/// as a file of steps may say it, takes none.
fn take_one(stops: &AtomicU32) -> Option<u32> {
    stops.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |stops| stops.checked_sub(1)).ok()
}

/// The server under test.
pub struct Server(Kind);

/// Whose it is.
enum Kind {
    Foreign(Foreign),
    Started(Started),
}

/// Where the output of a started server goes. Its last lines are kept for error texts anyway.
#[derive(Clone, Debug, Default)]
pub enum Output {
    /// Nowhere else.
    #[default]
    Kept,
    /// To our standard error.
    Shown,
    /// To the end of a file.
    File(PathBuf),
}

impl Server {
    /// The process of this id.
    ///
    /// # Errors
    /// It is not there, or not ours to signal.
    pub fn attach(pid: u32) -> Result<Self, Error> {
        Ok(Self(Kind::Foreign(Foreign::attach(pid)?)))
    }

    /// Starts a command without a shell, in a process group of its own.
    ///
    /// # Errors
    /// Open quotes, a program that is not there, an output file that cannot be written.
    pub fn start(command: &str, output: Output) -> Result<Self, Error> {
        Ok(Self(Kind::Started(Started::start(command, output)?)))
    }

    /// Whether it comes again when it died.
    pub fn is_ours(&self) -> bool {
        matches!(self.0, Kind::Started(_))
    }

    /// SIGKILL, to the whole group of a server that we started.
    ///
    /// # Errors
    /// It is gone.
    pub fn kill9(&self) -> Result<(), String> {
        self.end_with(Signal::KILL)
    }

    /// SIGKILL to what the process of a server started: to the one that serves, where a parent
    /// keeps its sockets. Without such a parent to the server itself.
    ///
    /// # Errors
    /// It is gone.
    pub fn crash(&self) -> Result<(), String> {
        match &self.0 {
            Kind::Foreign(process) => process.signal(Signal::KILL),
            Kind::Started(process) => process.crash(),
        }
    }

    /// SIGTERM.
    ///
    /// # Errors
    /// It is gone.
    pub fn term(&self) -> Result<(), String> {
        self.end_with(Signal::TERM)
    }

    /// SIGTERM to one that is not to be started again.
    ///
    /// # Errors
    /// It is gone.
    pub fn retire(&self) -> Result<(), String> {
        match &self.0 {
            Kind::Foreign(process) => process.signal(Signal::TERM),
            Kind::Started(process) => process.retire(),
        }
    }

    /// SIGSTOP. Each call needs a [`Server::cont`].
    ///
    /// # Errors
    /// It is gone.
    pub fn stop(&self) -> Result<(), String> {
        match &self.0 {
            Kind::Foreign(process) => process.stop(),
            Kind::Started(process) => process.stop(),
        }
    }

    /// SIGCONT, when this was the last of the stops. What died meanwhile needs none.
    pub fn cont(&self) {
        match &self.0 {
            Kind::Foreign(process) => process.cont(),
            Kind::Started(process) => process.cont(),
        }
    }

    /// SIGTERM, its end, and a new start at once.
    ///
    /// # Errors
    /// It is gone, or not ours to start.
    pub async fn restart(&self) -> Result<(), String> {
        match &self.0 {
            Kind::Foreign(_) => Err("only --server-command can be started again".to_owned()),
            Kind::Started(process) => process.restart().await,
        }
    }

    /// Waits until it runs.
    ///
    /// # Errors
    /// It ended too often to be started again: why, with its last lines.
    pub async fn alive(&self) -> Result<(), String> {
        match &self.0 {
            Kind::Foreign(process) => process.alive(),
            Kind::Started(process) => process.alive().await,
        }
    }

    /// How often it was started.
    pub fn starts(&self) -> u32 {
        match &self.0 {
            Kind::Foreign(_) => 0,
            Kind::Started(process) => process.starts(),
        }
    }

    /// How it ended the last time, with its last lines; `None` when it never did.
    pub fn ended(&self) -> Option<String> {
        match &self.0 {
            Kind::Foreign(process) => process.alive().err(),
            Kind::Started(process) => process.ended(),
        }
    }

    /// The id of its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        match &self.0 {
            Kind::Foreign(process) => process.alive().ok().map(|()| process.pid()),
            Kind::Started(process) => process.pid(),
        }
    }

    fn end_with(&self, signal: Signal) -> Result<(), String> {
        match &self.0 {
            Kind::Foreign(process) => process.signal(signal),
            Kind::Started(process) => process.end_with(signal),
        }
    }
}

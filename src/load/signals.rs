//! Signals that ask us to end: Ctrl-C, what Kubernetes sends to a Pod, a terminal that went.
//!
//! Whoever starts or stops servers listens first: from then on these signals do not end the process
//! at once, and what it did to others is undone on its way out.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Error;

/// Hears SIGINT and SIGTERM, and SIGHUP and SIGQUIT unless whoever started us had them ignored.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Option<Signal>,
    quit: Option<Signal>,
}

impl Signals {
    /// Listens from here on: the process does not end by these signals any more.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn listen() -> Result<Self, Error> {
        // `nohup` must stay what it is.
        let ignored = ignored(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
        let unless_ignored = |kind: SignalKind| match is_in(ignored, kind) {
            true => Ok(None),
            false => hear(kind).map(Some),
        };
        Ok(Self {
            interrupt: hear(SignalKind::interrupt())?,
            terminate: hear(SignalKind::terminate())?,
            hang_up: unless_ignored(SignalKind::hangup())?,
            quit: unless_ignored(SignalKind::quit())?,
        })
    }

    /// Waits for the next one. May be dropped at any time.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = heard(&mut self.hang_up) => {}
            () = heard(&mut self.quit) => {}
        }
    }
}

fn hear(kind: SignalKind) -> Result<Signal, Error> {
    signal(kind).map_err(|error| Error::System { what: "listen for signals".to_owned(), error })
}

async fn heard(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}

/// The signals that a process ignores, one bit each, from its `/proc/PID/status`.
fn ignored(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or_default()
}

/// Whether a signal is among those of [`ignored`].
fn is_in(bits: u64, kind: SignalKind) -> bool {
    bits >> (kind.as_raw_value() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_nohup_ignores_is_found() {
        let status = "Name:\tmainstay\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\n";
        let ignored = ignored(status);
        assert!(is_in(ignored, SignalKind::hangup()));
        assert!(!is_in(ignored, SignalKind::quit()));
        assert!(!is_in(super::ignored("no such line"), SignalKind::hangup()));
    }

    #[tokio::test]
    async fn each_signal_that_asks_us_to_end_is_heard() {
        // Under `nohup` too: whoever runs the tests may have had some of them ignored.
        let hang_up = Some(hear(SignalKind::hangup()).unwrap());
        let quit = Some(hear(SignalKind::quit()).unwrap());
        let mut signals = Signals { hang_up, quit, ..Signals::listen().unwrap() };
        for name in ["INT", "TERM", "HUP", "QUIT"] {
            let to = std::process::id().to_string();
            let sent = std::process::Command::new("kill").args(["-s", name, &to]).status();
            assert!(sent.unwrap().success());
            signals.next().await;
        }
    }
}

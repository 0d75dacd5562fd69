//! Any command of the shell as a fault. One that lasts is run twice: `MAINSTAY_FAULT` is `begin`,
//! and then `end`.

use std::pin::pin;
use std::process::Stdio;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::FusedFuture;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, copy, sink};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Tells a command which half of a fault it is.
pub const VARIABLE: &str = "MAINSTAY_FAULT";

/// Longest time of what undoes a fault.
const END_MAX: Duration = Duration::from_secs(60);
/// Longest wait for its last words after its end: what it leaves in the background holds its
/// standard error open.
const SAID_MAX: Duration = Duration::from_millis(500);
/// Octets of its standard error that are kept, for the error text.
const SAID_BYTES_MAX: usize = 4096;

/// Which half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Begin,
    End,
}

/// A command that runs, and its children: dropping it kills them all.
pub(super) struct Running {
    child: Child,
    group: Option<Pid>,
}

/// Runs a command to its end.
///
/// # Errors
/// What it said when it failed.
pub(super) async fn run(shell: &str, half: Half) -> Result<(), String> {
    let mut running = Running::start(shell, half)?;
    running.ended().await
}

/// Runs what undoes a fault, for a bounded time.
///
/// # Errors
/// What it said when it failed.
pub(super) async fn undo(shell: &str) -> Result<(), String> {
    timeout(END_MAX, run(shell, Half::End))
        .await
        .unwrap_or_else(|_| Err(format!("it did not end within {} s", END_MAX.as_secs())))
}

/// Runs what undoes a fault without waiting for it, for those who cannot.
pub(super) fn undo_at_once(shell: &str) {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", shell]).env(VARIABLE, Half::End.as_str());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(error) = command.spawn() {
        tracing::warn!("a fault cannot be undone: {shell}: {error}");
    }
}

impl Half {
    fn as_str(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::End => "end",
        }
    }
}

impl Running {
    fn start(shell: &str, half: Half) -> Result<Self, String> {
        let mut command = Command::new("sh");
        command.args(["-c", shell]).env(VARIABLE, half.as_str()).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| format!("sh cannot be started: {error}"))?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { child, group })
    }

    /// Waits for its end. What it leaves in the background goes on.
    async fn ended(&mut self) -> Result<(), String> {
        let (mut from, mut said) = (self.child.stderr.take(), Vec::new());
        let status = {
            let mut reading = pin!(read(from.as_mut(), &mut said).fuse());
            let status = loop {
                tokio::select! {
                    status = self.child.wait() => break status,
                    () = &mut reading => {}
                }
            };
            if !reading.is_terminated() {
                let _ = timeout(SAID_MAX, reading).await;
            }
            status
        };
        let said = last_line(&said);
        self.group = None;
        if let Some(mut from) = from {
            // Nobody waits for it: it ends with those who write there, whom a closed pipe kills.
            tokio::spawn(async move { copy(&mut from, &mut sink()).await });
        }
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("the command ended with {status}{said}")),
            Err(error) => Err(format!("the command is lost: {error}")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended in this moment.
        let _ = self.group.map(|group| kill_process_group(group, Signal::KILL));
    }
}

/// Reads what a command says, and keeps the end of it.
async fn read(from: Option<impl AsyncRead + Unpin>, said: &mut Vec<u8>) {
    let Some(mut from) = from else { return };
    let mut chunk = [0; 512];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        said.extend_from_slice(&chunk[..count]);
        let surplus = said.len().saturating_sub(SAID_BYTES_MAX);
        said.drain(..surplus);
    }
}

/// The last line of what a command said, as the end of an error text.
fn last_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    last.map(|line| format!(": {}", line.trim())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_knows_its_half() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let shell = format!("echo \"$MAINSTAY_FAULT\" >> '{}'", log.display());
        run(&shell, Half::Begin).await.unwrap();
        undo(&shell).await.unwrap();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "begin\nend\n");
    }

    #[tokio::test]
    async fn a_command_that_fails_says_why() {
        let error = run("echo first >&2; echo no such device >&2; exit 3", Half::Begin).await;
        let expected = "the command ended with exit status: 3: no such device";
        assert_eq!(error.unwrap_err(), expected);
        let error = run("exit 3", Half::Begin).await.unwrap_err();
        assert_eq!(error, "the command ended with exit status: 3");
    }

    #[tokio::test]
    async fn what_a_command_leaves_behind_holds_nobody_up_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (go, log) = (folder.path().join("go"), folder.path().join("log"));
        let shell = format!(
            "(until [ -e '{}' ]; do sleep 0.01; done; echo late >&2; echo on > '{}') & \
             echo said >&2; exit 3",
            go.display(),
            log.display()
        );
        let error = run(&shell, Half::Begin).await.unwrap_err();
        assert_eq!(error, "the command ended with exit status: 3: said");
        std::fs::write(&go, "").unwrap();
        while std::fs::read_to_string(&log).unwrap_or_default() != "on\n" {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_command_that_is_dropped_is_killed_with_its_children() {
        let running = Running::start("sleep 1000 & wait", Half::Begin).unwrap();
        let group = running.group.unwrap();
        drop(running);
        while rustix::process::test_kill_process_group(group).is_ok() {
            tokio::task::yield_now().await;
        }
    }
}

//! Which server is measured? A process pinned to CPUs, with a folder of its own, ended with us.

use std::fs::{self, File};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::machine;
use super::packets::{Expected, is_right};

/// Time that a server may take to end before it is killed.
const END_MAX: Duration = Duration::from_millis(500);
/// Time between two probes.
const PROBE_EVERY: Duration = Duration::from_millis(50);
/// Time for one reply.
const ASK_MAX: Duration = Duration::from_secs(2);
/// Lines of the log that are shown of a server that fails.
const LOG_LINES: usize = 20;

/// A running server.
pub struct Server {
    pub name: String,
    child: Child,
    folder: TempDir,
}

/// How to start a server.
pub struct Start<'a> {
    pub name: &'a str,
    /// As `taskset -c` has them: `0`, or `0,1`.
    pub cpus: &'a str,
    pub program: &'a Path,
    pub arguments: Vec<String>,
    /// Where it runs, with its files. Its log becomes `log` there.
    pub folder: TempDir,
    pub environment: Vec<(String, String)>,
}

/// A question that the server is to answer rightly before it is measured.
pub struct Probe {
    pub packet: Vec<u8>,
    pub expected: Expected,
    /// Octets that must all be in the reply, such as addresses.
    pub holds: Vec<Vec<u8>>,
}

impl Server {
    /// Starts a server.
    ///
    /// # Errors
    /// The program cannot be run.
    pub fn start(start: Start<'_>) -> Result<Self, String> {
        let Start { name, cpus, program, arguments, folder, environment } = start;
        let file = program.file_name().unwrap_or_default().display();
        let fails = |error| format!("{name}: cannot run {file}: {error}");
        let log = File::create(folder.path().join("log")).map_err(fails)?;
        let child = Command::new("taskset")
            .args(["-c", cpus])
            .arg(program)
            .args(arguments)
            .envs(environment)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(fails)?)
            .stderr(log)
            .spawn()
            .map_err(fails)?;
        Ok(Self { name: name.to_owned(), child, folder })
    }

    /// The process. `taskset` becomes the program, so it is its number too.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its folder.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// CPU time since it started.
    pub fn cpu_time(&self) -> Duration {
        machine::cpu_time(self.pid())
    }

    /// Waits until it answers rightly, at most `limit`. Answers how long that took.
    ///
    /// # Errors
    /// It ended, or did not answer rightly in time; with the end of its log.
    pub fn wait(
        &mut self,
        address: SocketAddr,
        probe: &Probe,
        limit: Duration,
    ) -> Result<Duration, String> {
        let began = Instant::now();
        loop {
            let Err(problem) = ask_and_check(address, probe) else {
                return Ok(began.elapsed());
            };
            let ended = self.child.try_wait().ok().flatten();
            if began.elapsed() > limit || ended.is_some() {
                let ended = ended.map(|it| format!(" (it ended, {it})")).unwrap_or_default();
                return Err(format!("{}: {problem}{ended}\n{}", self.name, self.log()));
            }
            thread::sleep(PROBE_EVERY);
        }
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        let _ = kill_process(pid, Signal::TERM);
        let began = Instant::now();
        while began.elapsed() < END_MAX {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until the answer is right, at most `limit`.
///
/// # Errors
/// What is wrong with the last one.
pub fn until(address: SocketAddr, probe: &Probe, limit: Duration) -> Result<(), String> {
    let began = Instant::now();
    loop {
        match ask_and_check(address, probe) {
            Err(_) if began.elapsed() < limit => thread::sleep(PROBE_EVERY),
            verdict => return verdict,
        }
    }
}

/// Asks once over UDP.
///
/// # Errors
/// Those of the socket; there is a time-out.
pub fn ask(address: SocketAddr, packet: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(ASK_MAX))?;
    socket.connect(address)?;
    socket.send(packet)?;
    let mut reply = vec![0; 65_535];
    let len = socket.recv(&mut reply)?;
    reply.truncate(len);
    Ok(reply)
}

/// Asks once, and checks the reply.
fn ask_and_check(address: SocketAddr, probe: &Probe) -> Result<(), String> {
    let reply = ask(address, &probe.packet).map_err(|error| format!("no reply: {error}"))?;
    check(&reply, probe)
}

/// Whether a reply has what its probe is to see.
///
/// # Errors
/// What is wrong.
pub fn check(reply: &[u8], probe: &Probe) -> Result<(), String> {
    if !is_right(reply, probe.expected) {
        return Err(format!("wrong reply, not {:?}: {}", probe.expected, shown(reply)));
    }
    let has = |part: &[u8]| reply.windows(part.len().max(1)).any(|it| it == part);
    match probe.holds.iter().find(|part| !has(part)) {
        Some(part) => Err(format!("{} is not in the reply {}", shown(part), shown(reply))),
        None => Ok(()),
    }
}

/// A message as text: octets that print, and others in hexadecimal.
pub fn shown(message: &[u8]) -> String {
    message.escape_ascii().to_string()
}

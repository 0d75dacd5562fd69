//! A child process: its log is collected, and it never outlives its owner.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Lines that are shown of a process when a step fails.
const TAIL_LINES: usize = 40;
/// Pause between two looks at whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A running program. Dropping it kills it; while panicking, that shows the end of its log.
pub struct Process {
    name: String,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Process {
    /// Starts a program without input.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let pipes = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap_or_else(|error| panic!("{name}: {error}"));
        let log = Arc::default();
        let readers = vec![
            collect(child.stdout.take().expect("it is piped"), &log),
            collect(child.stderr.take().expect("it is piped"), &log),
        ];
        Self { name: name.to_owned(), child, log, readers }
    }

    /// What it has written so far, both streams together.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Its id.
    #[allow(dead_code)] // Not all test programs ask for it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name without SIG. `kill` is in every shell.
    pub fn signal(&self, signal: &str) {
        let line = format!("kill -{signal} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &line]).status().unwrap();
        assert!(status.success(), "{}: {line}", self.name);
    }

    /// Kills it with SIGKILL and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end, with all of its log read.
    pub fn wait(&mut self, longest: Duration) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                self.readers.drain(..).for_each(|reader| reader.join().unwrap());
                return status;
            }
            assert!(begun.elapsed() < longest, "{} did not end in {longest:?}", self.name);
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Runs a program to its end: exit code and all that it wrote.
    pub fn run(name: &str, command: &mut Command, longest: Duration) -> (Option<i32>, String) {
        let mut process = Self::start(name, command);
        let code = process.wait(longest).code();
        (code, process.log().join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let mut log = self.log();
            log.retain(|line| !is_chatter(line));
            let tail = &log[log.len().saturating_sub(TAIL_LINES)..];
            eprintln!("--- the end of the log of {} ---\n{}\n---", self.name, tail.join("\n"));
        }
    }
}

/// Whether a line is one of the many that Kubernetes logs when all is well (`I1122 05:58:03 …`).
fn is_chatter(line: &str) -> bool {
    line.strip_prefix('I').is_some_and(|rest| rest.starts_with(|char: char| char.is_ascii_digit()))
}

fn collect(stream: impl Read + Send + 'static, log: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let log = Arc::clone(log);
    thread::spawn(move || {
        let mut lines = BufReader::new(stream).split(b'\n');
        while let Some(Ok(line)) = lines.next() {
            log.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
        }
    })
}

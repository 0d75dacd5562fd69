//! Runs `mainstay load` as users do: words in, exit status, standard error and reports out.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mainstay::load::report::Report;
use mainstay::load::report::json;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_mainstay");
/// A run that has not ended by then hangs.
const END_MAX: Duration = Duration::from_secs(120);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A run of `mainstay load`. Dropping it kills it.
pub struct Load {
    child: Child,
    folder: TempDir,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// What `--json` wrote.
    pub report: Option<Report>,
    /// The folder of the run.
    folder: TempDir,
}

impl Load {
    /// Starts it in a folder of its own, where it writes `report.json`.
    pub fn start(words: &[&str]) -> Self {
        Self::start_in(TempDir::new().unwrap(), &[words, &["--json", "report.json"]].concat())
    }

    /// Starts it with these words alone, in this folder.
    pub fn start_in(folder: TempDir, words: &[&str]) -> Self {
        let file = |name| File::create(folder.path().join(name)).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("load").args(words).current_dir(folder.path()).stdin(Stdio::null());
        command.stdout(file("stdout")).stderr(file("stderr")).env_remove("JOB_COMPLETION_INDEX");
        let child = command.spawn().unwrap();
        Self { child, folder }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// A file of its folder; empty where there is none yet.
    pub fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let mut status = None;
        wait_until("the load ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let code = status.and_then(|status: ExitStatus| status.code());
        let folder = std::mem::replace(&mut self.folder, TempDir::new().unwrap());
        let read = |name| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let path = folder.path().join("report.json");
        let report = path.exists().then(|| json::read(&path).unwrap());
        Ended { code, stdout: read("stdout"), stderr: read("stderr"), report, folder }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// The report.
    pub fn report(&self) -> &Report {
        let said = &self.stderr;
        self.report.as_ref().unwrap_or_else(|| panic!("no report; exit {:?}: {said}", self.code))
    }

    /// A file that it wrote in its folder.
    pub fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    /// Where that would be.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Runs it to its end.
pub fn run(words: &[&str]) -> Ended {
    Load::start(words).end()
}

/// Runs it to its end with names in a file; `words` are split at blanks.
pub fn run_with_names(names: &str, words: &str) -> Ended {
    start_with_names(names, words).end()
}

/// Starts it with names in a file; `words` are split at blanks.
pub fn start_with_names(names: &str, words: &str) -> Load {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("names"), names).unwrap();
    let mut all: Vec<&str> = words.split_whitespace().collect();
    all.extend(["--names", "names", "--json", "report.json"]);
    Load::start_in(folder, &all)
}

/// Waits until something is so.
///
/// # Panics
/// It is not so for too long.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < END_MAX, "waited in vain until {what}");
        thread::sleep(LOOK_EVERY);
    }
}

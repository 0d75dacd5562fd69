//! What runs leave that are killed: their programs go on. Each run marks the programs that it
//! starts, by a variable of their environment with its own id, so that the next one can tell them
//! from all others and end them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// The variable that marks a run and what it starts. Its value is the id of the run.
const MARK: &str = "MAINSTAY_CONFORMANCE";
/// What the program of a run is called, so that a process that got the same id later is none.
const PROGRAM: &str = "conformance";

/// Marks this run: it begins again, as the same process, with the mark.
pub fn mark() {
    let id = std::process::id().to_string();
    if std::env::var(MARK).is_ok_and(|marked| marked == id) {
        return;
    }
    let program = std::env::current_exe().unwrap();
    let error = Command::new(program).args(std::env::args_os().skip(1)).env(MARK, id).exec();
    panic!("cannot begin again: {error}");
}

/// Ends the run and all that it started when it takes longer than this.
pub fn end_after(longest: Duration) {
    thread::spawn(move || {
        thread::sleep(longest);
        eprintln!("FAILED  not over after {longest:?}: the step after the last one above hangs");
        kill_marked(|id| id == std::process::id());
        std::process::exit(1);
    });
}

/// Kills the programs of runs that are over.
pub fn remove() {
    kill_marked(|id| !is_alive(id));
}

/// Whether this id is that of a run.
pub fn is_alive(id: u32) -> bool {
    let name = fs::read_to_string(format!("/proc/{id}/comm"));
    name.is_ok_and(|name| name.starts_with(PROGRAM))
}

/// Kills what such runs started, but never this process.
fn kill_marked(is_meant: impl Fn(u32) -> bool) {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let name = process.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Some(run) = run_of(&process.path()).filter(|run| is_meant(*run)) else { continue };
        if id != std::process::id() {
            eprintln!("        ending process {id} of run {run}");
            let _ = Command::new("sh").args(["-c", &format!("kill -KILL {id}")]).status();
        }
    }
}

/// The run that started a process.
fn run_of(process: &Path) -> Option<u32> {
    let environment = fs::read(process.join("environ")).ok()?;
    let marks = environment.split(|octet| *octet == 0);
    let mut marks = marks.filter_map(|line| std::str::from_utf8(line).ok()?.strip_prefix(MARK));
    marks.next()?.strip_prefix('=')?.parse().ok()
}

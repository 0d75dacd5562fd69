//! A server that we started: it is started again after it died, later and later when it does not
//! stay, and its whole process group is killed when we let go of it.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::tail::{self, Tail};
use super::{Output, RESTART_AFTER, family};
use crate::load::Error;

/// Longest time from SIGTERM to the end, as the grace period of a Pod; then comes SIGKILL.
const TERM_MAX: Duration = Duration::from_secs(30);
/// A server that lived so long had started well.
const STEADY_AFTER: Duration = Duration::from_secs(10);
/// Longest wait for its last words, which somebody else may hold back.
const OUTPUT_MAX: Duration = Duration::from_millis(500);
/// Longest pause before a start.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Deaths of its own, one soon after the other, after which a server is not started any more.
const DEATHS_MAX: u32 = 8;

/// A server that is kept running.
pub(super) struct Started {
    life: Arc<Life>,
    keeper: JoinHandle<()>,
}

/// One life of it.
struct Born {
    child: Child,
    /// All that it wrote is read.
    output_ended: oneshot::Receiver<()>,
}

/// What the keeper and the faults share.
struct Life {
    words: Vec<String>,
    output: Output,
    /// The leader of the group, while it runs.
    pid: Mutex<Option<Pid>>,
    state: watch::Sender<State>,
    tail: Arc<Mutex<Tail>>,
    /// Stops of this life without their continuation.
    stops: AtomicU32,
    /// We have sent what will end it: its death says nothing against it.
    is_meant: AtomicBool,
    /// There is no life after this one.
    is_last: AtomicBool,
    /// A start must not wait.
    at_once: Notify,
}

/// How it goes.
#[derive(Clone, Default)]
struct State {
    starts: u32,
    is_alive: bool,
    /// How it ended the last time.
    ended: Option<String>,
    has_given_up: bool,
}

impl Started {
    /// Starts a command, and a task that keeps it running.
    pub(super) fn start(command: &str, output: Output) -> Result<Self, Error> {
        let fail = |why: &str| Error::Config(format!("--server-command {command:?}: {why}"));
        let words = shlex::split(command).ok_or_else(|| fail("a quote is not closed"))?;
        if words.is_empty() {
            return Err(fail("there is no program in it"));
        }
        let life = Arc::new(Life {
            words,
            output,
            pid: Mutex::new(None),
            state: watch::Sender::new(State::default()),
            tail: Arc::default(),
            stops: AtomicU32::new(0),
            is_meant: AtomicBool::new(false),
            is_last: AtomicBool::new(false),
            at_once: Notify::new(),
        });
        let born = life.spawn()?;
        let keeper = tokio::spawn(Arc::clone(&life).keep(born));
        Ok(Self { life, keeper })
    }

    /// Sends what ends it.
    pub(super) fn end_with(&self, signal: Signal) -> Result<(), String> {
        self.life.is_meant.store(true, Ordering::Release);
        self.life.signal(signal)
    }

    /// Ends it for good, also where it waits for its next start.
    pub(super) fn retire(&self) -> Result<(), String> {
        self.life.is_last.store(true, Ordering::Release);
        self.end_with(Signal::TERM)
    }

    /// Kills what serves below the process that we started, or that process.
    pub(super) fn crash(&self) -> Result<(), String> {
        let children = self.life.pid.lock().map(family::children).unwrap_or_default();
        if children.is_empty() {
            return self.end_with(Signal::KILL);
        }
        let kill = |pid| kill_process(pid, Signal::KILL);
        children.into_iter().try_for_each(kill).map_err(|error| error.to_string())
    }

    pub(super) fn stop(&self) -> Result<(), String> {
        self.life.signal(Signal::STOP)?;
        self.life.stops.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn cont(&self) {
        if super::take_one(&self.life.stops) == Some(1) {
            // It may have died meanwhile: then nothing is left to do.
            let _ = self.life.signal(Signal::CONT);
        }
    }

    pub(super) async fn restart(&self) -> Result<(), String> {
        let mut state = self.life.state.subscribe();
        let before = state.borrow_and_update().starts;
        self.end_with(Signal::TERM)?;
        let is_dead = |state: &State| !state.is_alive || state.starts > before;
        if timeout(TERM_MAX, state.wait_for(is_dead)).await.is_err() {
            self.end_with(Signal::KILL)?;
        }
        self.life.at_once.notify_one();
        let is_back = |state: &State| state.is_alive && state.starts > before || state.has_given_up;
        // The sender is in `self`.
        let _ = state.wait_for(is_back).await;
        self.given_up()
    }

    pub(super) async fn alive(&self) -> Result<(), String> {
        let mut state = self.life.state.subscribe();
        let _ = state.wait_for(|state| state.is_alive || state.has_given_up).await;
        self.given_up()
    }

    pub(super) fn starts(&self) -> u32 {
        self.life.state.borrow().starts
    }

    pub(super) fn ended(&self) -> Option<String> {
        self.life.state.borrow().ended.clone()
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.life.pid.lock().map(|pid| pid.as_raw_nonzero().get().unsigned_abs())
    }

    fn given_up(&self) -> Result<(), String> {
        let state = self.life.state.borrow();
        let why = || state.ended.clone().unwrap_or_default();
        if state.has_given_up { Err(why()) } else { Ok(()) }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.keeper.abort();
        // Aborting is not at once, and kills the leader alone. A stopped process dies of this too.
        let _ = self.life.signal(Signal::KILL);
    }
}

impl Life {
    /// Starts the command once.
    fn spawn(&self) -> Result<Born, Error> {
        let fail = |error| Error::System { what: format!("start {}", self.words[0]), error };
        let (reader, writer) = std::io::pipe().map_err(fail)?;
        let tail = Arc::clone(&self.tail);
        let output_ended = tail::collect(reader, self.onward()?, tail).map_err(fail)?;
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        command.stdout(writer.try_clone().map_err(fail)?).stderr(writer);
        let child = command.spawn().map_err(fail)?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        // Nobody has stopped this one, whatever was done to the one before.
        self.stops.store(0, Ordering::Relaxed);
        *self.pid.lock() = pid;
        self.is_meant.store(false, Ordering::Release);
        self.state.send_modify(|state| {
            state.starts += 1;
            state.is_alive = true;
        });
        Ok(Born { child, output_ended })
    }

    /// Where the output goes beside the tail.
    fn onward(&self) -> Result<Option<Box<dyn Write + Send>>, Error> {
        Ok(match &self.output {
            Output::Kept => None,
            Output::Shown => Some(Box::new(std::io::stderr())),
            Output::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                let remedy = "name a file that can be written for the output of the server";
                let fail = |error| Error::File { path: path.clone(), error, remedy };
                Some(Box::new(file.map_err(fail)?))
            }
        })
    }

    /// Starts it again each time that it died.
    async fn keep(self: Arc<Self>, mut born: Born) {
        let mut deaths = 0;
        loop {
            let born_at = Instant::now();
            let status = born.child.wait().await;
            let is_meant = self.is_meant.load(Ordering::Acquire);
            // Its children may hold its ports, and its output.
            let pid = self.pid.lock().take();
            let _ = pid.map(|pid| kill_process_group(pid, Signal::KILL));
            let _ = timeout(OUTPUT_MAX, born.output_ended).await;
            self.note_death(status);
            let is_steady = is_meant || born_at.elapsed() >= STEADY_AFTER;
            deaths = if is_steady { 0 } else { deaths + 1 };
            born = match self.revive(&mut deaths).await {
                Some(born) => born,
                None => return,
            };
        }
    }

    /// Waits its time and starts it; what cannot be started has died once more. `None` is the end.
    async fn revive(&self, deaths: &mut u32) -> Option<Born> {
        while *deaths < DEATHS_MAX {
            tokio::select! {
                () = sleep(pause(*deaths)) => {}
                () = self.at_once.notified() => {}
            }
            if self.is_last.load(Ordering::Acquire) {
                break;
            }
            match self.spawn() {
                Ok(born) => return Some(born),
                Err(error) => {
                    self.state.send_modify(|state| state.ended = Some(error.to_string()));
                    *deaths += 1;
                }
            }
        }
        self.state.send_modify(|state| state.has_given_up = true);
        None
    }

    /// Writes down that it died.
    fn note_death(&self, status: std::io::Result<ExitStatus>) {
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let last = self.tail.lock().shown();
        let last = if last.is_empty() { last } else { format!("; its last lines: {last}") };
        let ended = format!("{} ended with {how}{last}", self.words[0]);
        self.state.send_modify(|state| {
            state.is_alive = false;
            state.ended = Some(ended);
        });
    }

    /// Sends a signal to the group.
    fn signal(&self, signal: Signal) -> Result<(), String> {
        // The lock is held, so that the number is not given back meanwhile.
        let pid = self.pid.lock();
        let Some(pid) = *pid else {
            let ended = self.state.borrow().ended.clone().unwrap_or_default();
            return Err(format!("the server does not run: {ended}"));
        };
        // The end of a container begins with a signal to its first process only.
        let sent = match signal {
            Signal::TERM => kill_process_group(pid, signal),
            _ => family::signal_all(pid, signal),
        };
        sent.map_err(|error| format!("{} cannot be signalled: {error}", self.words[0]))
    }
}

/// How long a server that died so often on its own is left alone.
fn pause(deaths: u32) -> Duration {
    let doublings = deaths.saturating_sub(1).min(DEATHS_MAX);
    (RESTART_AFTER * 2_u32.pow(doublings)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::super::waiting::until_tasks;
    use super::*;

    /// Waits for so many lines in a file that servers write to.
    async fn lines(path: &Path, count: usize) -> Vec<String> {
        let lines = || -> Vec<String> {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        };
        until_tasks("lines of a server", || lines().len() >= count).await;
        lines()
    }

    /// Whether a process is there, and no zombie.
    fn is_there(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap().starts_with(" Z"))
    }

    /// Waits for the end of the `count`th life.
    async fn ended(server: &Started, starts: u32) {
        let mut state = server.life.state.subscribe();
        state.wait_for(|state| state.starts == starts && !state.is_alive).await.unwrap();
    }

    async fn started(server: &Started, starts: u32) {
        let mut state = server.life.state.subscribe();
        state.wait_for(|state| state.starts == starts && state.is_alive).await.unwrap();
    }

    fn to_file(path: &Path) -> Output {
        Output::File(path.to_owned())
    }

    #[tokio::test]
    async fn a_server_that_was_killed_is_started_again() {
        let server = Started::start("sleep 1000", Output::Kept).unwrap();
        server.alive().await.unwrap();
        let first = server.pid().unwrap();
        server.end_with(Signal::KILL).unwrap();
        ended(&server, 1).await;
        assert!(server.stop().unwrap_err().contains("does not run: sleep ended with signal: 9"));
        // The pause before the start is not what this test is about.
        server.life.at_once.notify_one();
        started(&server, 2).await;
        assert_ne!(server.pid(), Some(first));
        assert!(server.ended().unwrap().contains("signal: 9"));
    }

    #[tokio::test]
    async fn stops_end_with_the_life_that_they_stopped() {
        let server = Started::start("sleep 1000", Output::Kept).unwrap();
        server.cont();
        server.stop().unwrap();
        server.end_with(Signal::KILL).unwrap();
        ended(&server, 1).await;
        server.life.at_once.notify_one();
        started(&server, 2).await;
        server.stop().unwrap();
        assert_eq!(server.life.stops.load(Ordering::Relaxed), 1);
        server.cont();
        server.cont();
        assert_eq!(server.life.stops.load(Ordering::Relaxed), 0);
        let stat = format!("/proc/{}/stat", server.pid().unwrap());
        let is_stopped = || std::fs::read_to_string(&stat).unwrap().contains(") T");
        until_tasks("the end of a stop", || !is_stopped()).await;
    }

    #[tokio::test]
    async fn a_restart_waits_for_the_end_and_starts_anew() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let script = "exec 2>/dev/null; trap \"echo term; exit 0\" TERM; echo up; \
                      while :; do sleep 0.01; done";
        let server = Started::start(&format!("sh -c '{script}'"), to_file(&log)).unwrap();
        lines(&log, 1).await;
        server.restart().await.unwrap();
        assert_eq!(lines(&log, 3).await, ["up", "term", "up"]);
        assert_eq!(server.starts(), 2);
        assert_eq!(
            server.ended().unwrap(),
            "sh ended with exit status: 0; its last lines: up | term"
        );
    }

    #[tokio::test]
    async fn a_server_that_was_retired_is_not_started_again() {
        let server = Started::start("sleep 1000", Output::Kept).unwrap();
        server.retire().unwrap();
        ended(&server, 1).await;
        // The pause before a start is not what this test is about.
        server.life.at_once.notify_one();
        assert!(server.alive().await.unwrap_err().contains("signal: 15"));
        assert_eq!((server.starts(), server.pid()), (1, None));
    }

    #[tokio::test]
    async fn nothing_of_the_group_outlives_us_even_when_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let command = "sh -c 'sleep 1000 & echo $!; echo $$; wait'";
        let server = Started::start(command, to_file(&log)).unwrap();
        let pids = lines(&log, 2).await;
        assert!(pids.iter().all(|pid| is_there(pid)));
        server.stop().unwrap();
        drop(server);
        until_tasks("the end of a group", || !pids.iter().any(|pid| is_there(pid))).await;
    }

    #[tokio::test]
    async fn children_of_a_server_that_died_end_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let command = "sh -c 'sleep 1000 & echo $!; exit 3'";
        let server = Started::start(command, to_file(&log)).unwrap();
        let pids = lines(&log, 1).await;
        ended(&server, 1).await;
        until_tasks("the end of a child", || !is_there(&pids[0])).await;
        assert!(server.ended().unwrap().contains("sh ended with exit status: 3"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_does_not_stay_is_given_up_with_its_last_words() {
        let server = Started::start("sh -c 'echo no such zone >&2; exit 1'", Output::Kept).unwrap();
        let mut state = server.life.state.subscribe();
        state.wait_for(|state| state.has_given_up).await.unwrap();
        assert_eq!(server.starts(), DEATHS_MAX);
        let why = server.alive().await.unwrap_err();
        assert!(why.contains("sh ended with exit status: 1"), "{why}");
    }

    #[test]
    fn pauses_grow_and_end() {
        let pauses: Vec<u64> = (0..=DEATHS_MAX).map(|deaths| pause(deaths).as_secs()).collect();
        assert_eq!(pauses, [2, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[tokio::test]
    async fn commands_that_cannot_run_are_refused_with_the_option() {
        for (command, why) in [
            ("sh -c 'x", "--server-command \"sh -c 'x\": a quote is not closed"),
            (" ", "there is no program in it"),
            ("/nonexistent/server", "start /nonexistent/server: No such file"),
        ] {
            let error = Started::start(command, Output::Kept).err().unwrap().to_string();
            assert!(error.contains(why), "{error}");
        }
        let output = Output::File("/nonexistent/log".into());
        let error = Started::start("true", output).err().unwrap().to_string();
        assert!(error.starts_with("/nonexistent/log: No such file"), "{error}");
    }
}

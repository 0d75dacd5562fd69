//! `serve --supervised`: a small parent that keeps the sockets, and starts the server anew when it
//! dies or hangs.
//!
//! ```text
//! parent ─ starts ─► server ─ opens sockets, sends each ─► parent
//!    ▲                  └─ dies, or is killed because it hangs
//!    └──── starts the next one, with the same sockets: what has arrived is answered by that
//! ```
//!
//! The parent parses nothing that comes from the network and runs one thread, so there is little
//! that could end it. It judges a server by its beats, on the monotonic clock and only while it was
//! awake itself: a machine that was paused accuses nobody, nor does one that gives us no time. A
//! server that a debugger holds is let be. As process 1 it also reaps orphans.

mod backoff;
mod channel;
mod death;
pub mod server_end;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::Error;
use super::arguments::ServeArguments;
use super::limits;
use super::serve::PidFile;
use crate::listen::beat::{LOOK_EVERY, Stillness};
use crate::listen::kept::{Channel, KEPT_MAX, Key, Message};
use crate::ops::{self, log};
use backoff::Backoff;
use channel::Line;
use death::{Death, OomKills, Restarts};

/// How long a server may be silent before it is killed and started anew (P16).
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How long it may take to start: it reads files, which may lie on a slow disk.
const START_MAX: Duration = Duration::from_secs(30);
/// Tells a server that it has a parent, and how often that had to start one anew.
pub const VARIABLE: &str = "MAINSTAY_RESTARTS";
/// Tells it what the last one served, by its fingerprint.
pub const SERVED_VARIABLE: &str = "MAINSTAY_SERVED";
/// This program, also when its file has been replaced.
const OURSELVES: &str = "/proc/self/exe";

/// Signals that are handed on, and whether they end us. SIGHUP means nothing to a server, and must
/// not end us either.
const HANDED_ON: [(Signal, bool); 5] = [
    (Signal::TERM, true),
    (Signal::INT, true),
    (Signal::QUIT, true),
    (Signal::USR1, false),
    (Signal::HUP, false),
];

/// Keeps a server alive until a signal ends it.
pub fn run(arguments: &ServeArguments) -> ExitCode {
    let flush = match log::start(&ops::Counters::default()) {
        Ok(flush) => flush,
        Err(error) => return told(&error),
    };
    // It holds every socket of the server, and each message about one brings another.
    limits::lift_open_files();
    let code = supervise(arguments).unwrap_or_else(|error| told(&error));
    drop(flush);
    code
}

fn told(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}

fn supervise(arguments: &ServeArguments) -> Result<ExitCode, Error> {
    if arguments.conf.as_deref().is_some_and(|path| path.as_os_str() == "stdin") {
        return Err(Error::Usage(
            "--supervised reads the Corefile again for each server it starts, which standard input \
             cannot give twice; name a file with -conf, or leave out --supervised \
             (MAINSTAY_SUPERVISED)",
        ));
    }
    let io = |what: &str| {
        let what = what.to_owned();
        move |source| Error::Io { what, source }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(io("cannot start the supervisor"))?.block_on(async {
        let mut signals = Signals::listen().map_err(io("cannot listen for signals"))?;
        let _pidfile = PidFile::write(arguments.pidfile.as_deref())?;
        Supervisor::new().live(&mut signals).await.map_err(io("cannot start the server"))
    })
}

/// The signals that we get.
struct Signals {
    handed_on: Vec<(Signal, bool, tokio::signal::unix::Signal)>,
    child: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let kind = |which: Signal| SignalKind::from_raw(which.as_raw());
        let listen = |(which, ends)| Ok((which, ends, signal(kind(which))?));
        let handed_on = HANDED_ON.into_iter().map(listen).collect::<std::io::Result<_>>()?;
        Ok(Self { handed_on, child: signal(SignalKind::child())? })
    }

    /// The next one.
    async fn next(&mut self) -> Event {
        let waits = self.handed_on.iter_mut().map(|(which, ends, signal)| {
            let event = Event::HandOn(*which, *ends);
            Box::pin(async move {
                signal.recv().await;
                event
            })
        });
        tokio::select! {
            (event, ..) = futures_util::future::select_all(waits) => event,
            _ = self.child.recv() => Event::ChildEnded,
        }
    }
}

/// What a signal means.
enum Event {
    /// It is for the server; the flag says whether it ends us.
    HandOn(Signal, bool),
    ChildEnded,
}

/// The parent.
struct Supervisor {
    kept: BTreeMap<Key, OwnedFd>,
    restarts: Restarts,
    backoff: Backoff,
    oom_kills: OomKills,
    /// Whether any server has answered yet.
    has_served: bool,
    /// What the last one that did served; empty before.
    served: String,
    /// A signal has asked us to end.
    is_ending: bool,
    /// Signals that wait for a server that can take them, each once.
    pending: Vec<Signal>,
}

/// A server that runs.
struct Running {
    pid: Pid,
    line: Line,
    since: Instant,
    signs: Signs,
    /// Why it was killed.
    killed: Option<String>,
}

/// The signs of life of a server.
struct Signs {
    is_serving: bool,
    beats: u64,
    stillness: Stillness,
}

impl Signs {
    fn new(now: Instant) -> Self {
        Self { is_serving: false, beats: 0, stillness: Stillness::new(now) }
    }

    /// It answers from here on, and shows it by its beats.
    fn serves(&mut self) {
        (self.is_serving, self.beats) = (true, self.beats + 1);
    }

    /// What is wrong with it. Beats before it serves say nothing: a start that hangs has them too.
    fn wrong(&mut self, now: Instant) -> Option<String> {
        let (beats, patience) = match self.is_serving {
            true => (self.beats, SILENCE_MAX),
            false => (0, START_MAX),
        };
        let silence = self.stillness.look(beats, now);
        (silence > patience).then(|| match self.is_serving {
            true => format!("hung: no sign of life for {}", Seconds(silence)),
            false => format!("hung: it did not serve within {}", Seconds(silence)),
        })
    }
}

impl Supervisor {
    fn new() -> Self {
        Self {
            kept: BTreeMap::new(),
            restarts: Restarts::default(),
            backoff: Backoff::default(),
            oom_kills: OomKills::watch(),
            has_served: false,
            served: String::new(),
            is_ending: false,
            pending: Vec::new(),
        }
    }

    /// Starts servers until one ends as it should, or we are told to end.
    async fn live(mut self, signals: &mut Signals) -> std::io::Result<ExitCode> {
        loop {
            let started = self.start();
            let death = match started {
                Ok(running) => self.watch(running, signals).await,
                // Such as for want of processes: it passes, and the sockets are held meanwhile.
                Err(error) if self.has_served => Death::unborn(&error),
                Err(error) => return Err(error),
            };
            if let Some(code) = death.end(self.has_served, self.is_ending) {
                return Ok(code);
            }
            self.restarts.count(&death);
            let pause = self.backoff.next(death.lived);
            tracing::error!("the server {death}; starting it again in {pause:?}");
            if !self.pause(pause, signals).await {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }

    /// Starts a server, and has all sockets given to it.
    fn start(&self) -> std::io::Result<Running> {
        let (channel, end) = Channel::pair()?;
        let mut command = Command::new(OURSELVES);
        let mut arguments = std::env::args_os();
        command.arg0(arguments.next().unwrap_or_else(|| "mainstay".into()));
        // A process group of its own: a terminal's Ctrl-C is for us, and comes to it once.
        command.args(arguments).stdin(Stdio::from(end)).process_group(0);
        command.env(VARIABLE, self.restarts.to_string());
        command.env(SERVED_VARIABLE, &self.served);
        let child = command.spawn()?;
        let pid = Pid::from_child(&child);
        let mut line = Line::new(channel)?;
        for (key, socket) in &self.kept {
            line.push(Message::Keep(key.clone(), socket.try_clone()?));
        }
        line.push(Message::Given);
        let now = Instant::now();
        Ok(Running { pid, line, since: now, signs: Signs::new(now), killed: None })
    }

    /// Looks after a server until it has ended.
    async fn watch(&mut self, mut running: Running, signals: &mut Signals) -> Death {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = running.line.next() => self.take(message, &mut running),
                event = signals.next() => {
                    if let Event::HandOn(signal, ends) = event {
                        self.hand_on(signal, ends, &running);
                    }
                }
                _ = looks.tick() => running.look(),
            }
            if let Some(status) = reap(running.pid) {
                // What it said last still counts, such as which sockets it has let go.
                while let Some(message) = running.line.rest() {
                    self.take_last(message);
                }
                let oom_killed = self.oom_kills.has_grown();
                return Death::of(status, running.killed, oom_killed, running.since.elapsed());
            }
        }
    }

    /// Does what the server says.
    fn take(&mut self, message: Option<Message>, running: &mut Running) {
        match message {
            Some(Message::Serving) => {
                self.has_served = true;
                running.signs.serves();
                for signal in self.pending.drain(..) {
                    let _ = kill_process(running.pid, signal);
                }
            }
            Some(Message::Beat) => running.signs.beats += 1,
            Some(Message::Stuck(thread)) => {
                running.accuse(format!("hung: thread {thread} did not move for too long"));
            }
            Some(message) => self.take_last(message),
            // The end of it is told by a signal.
            None => {}
        }
    }

    /// What one that has ended said last: its process id may be somebody else's.
    fn take_last(&mut self, message: Message) {
        match message {
            Message::Keep(key, socket) => self.keep(key, socket),
            Message::Release(key) => drop(self.kept.remove(&key)),
            Message::Serving => self.has_served = true,
            Message::Serves(what) => self.served = what,
            Message::Given | Message::Beat | Message::Stuck(_) => {}
        }
    }

    fn keep(&mut self, key: Key, socket: OwnedFd) {
        if self.kept.len() < KEPT_MAX {
            self.kept.insert(key, socket);
        } else {
            tracing::warn!("{key} is not kept: there are {KEPT_MAX} sockets already");
        }
    }

    /// Hands a signal on.
    fn hand_on(&mut self, signal: Signal, ends: bool, running: &Running) {
        self.is_ending |= ends;
        // A server that does not listen yet would die of it.
        if !ends && !running.signs.is_serving {
            return self.hold(signal);
        }
        let _ = kill_process(running.pid, signal);
    }

    /// Keeps a signal for the next server that can take it.
    fn hold(&mut self, signal: Signal) {
        if signal != Signal::HUP && !self.pending.contains(&signal) {
            self.pending.push(signal);
        }
    }

    /// Waits before the next start. Answers whether there is to be one.
    async fn pause(&mut self, pause: Duration, signals: &mut Signals) -> bool {
        let end = tokio::time::Instant::now() + pause;
        loop {
            tokio::select! {
                biased;
                event = signals.next() => match event {
                    Event::HandOn(_, true) => return false,
                    Event::HandOn(signal, false) => self.hold(signal),
                    Event::ChildEnded => {}
                },
                () = sleep_until(end) => return true,
            }
        }
    }
}

impl Running {
    /// Looks whether it still moves.
    fn look(&mut self) {
        if let Some(wrong) = self.signs.wrong(Instant::now()) {
            self.accuse(wrong);
        }
    }

    /// Kills it, unless a debugger holds it.
    fn accuse(&mut self, why: String) {
        if self.killed.is_none() && !death::is_traced(self.pid) {
            let _ = kill_process(self.pid, Signal::KILL);
            self.killed = Some(why);
        }
    }
}

/// A time in whole seconds.
struct Seconds(Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} s", self.0.as_secs())
    }
}

/// Takes all children away that have ended. As process 1 there may be orphans of others too.
fn reap(server: Pid) -> Option<WaitStatus> {
    let ended = std::iter::from_fn(|| wait(WaitOptions::NOHANG).ok().flatten());
    ended.filter(|(pid, _)| *pid == server).map(|(_, status)| status).last()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::kept::Proto;

    /// The seconds after which a server is accused that beats `beats` times a look.
    fn accused_after(is_serving: bool, beats: u64) -> Option<u64> {
        let (start, looks_max) = (Instant::now(), 400);
        let mut signs = Signs::new(start);
        if is_serving {
            signs.serves();
        }
        (1..=looks_max).find_map(|look| {
            signs.beats += beats;
            let now = start + LOOK_EVERY * look;
            signs.wrong(now).map(|_| now.duration_since(start).as_secs())
        })
    }

    #[test]
    fn p16_a_start_that_hangs_is_found_although_it_beats() {
        assert_eq!(accused_after(true, 1), None);
        assert_eq!(accused_after(true, 0), Some(SILENCE_MAX.as_secs()));
        for beats in [0, 1] {
            assert_eq!(accused_after(false, beats), Some(START_MAX.as_secs()), "{beats} beats");
        }
    }

    #[test]
    fn signals_wait_for_a_server_that_can_take_them_each_once() {
        let mut supervisor = Supervisor::new();
        for signal in [Signal::USR1, Signal::HUP, Signal::USR1] {
            supervisor.hold(signal);
        }
        assert_eq!(supervisor.pending, [Signal::USR1]);
    }

    #[test]
    fn what_a_dead_server_said_last_keeps_sockets_and_signals_for_the_next_one() {
        let mut supervisor = Supervisor::new();
        supervisor.hold(Signal::USR1);
        let address = "127.0.0.1:53".parse().unwrap();
        let key = Key { proto: Proto::Udp, address, number: 0 };
        let socket = || OwnedFd::from(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let keep = Message::Keep(key.clone(), socket());
        [Message::Serving, keep, Message::Stuck("udp-53-0".into()), Message::Beat]
            .into_iter()
            .for_each(|message| supervisor.take_last(message));
        assert!(supervisor.has_served && supervisor.kept.contains_key(&key));
        assert_eq!(supervisor.pending, [Signal::USR1]);
        supervisor.take_last(Message::Release(key));
        assert!(supervisor.kept.is_empty());
    }
}

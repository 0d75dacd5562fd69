//! A process that somebody else started. It is held by a descriptor, so that a later process of
//! the same number never gets its signals.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal, test_kill_process,
};

use crate::load::Error;

/// A process that is not ours to start or to end.
pub(super) struct Foreign {
    pid: Pid,
    /// `None` on kernels without such descriptors (before Linux 5.3).
    held: Option<OwnedFd>,
    /// Program and owner, for error texts.
    name: String,
    /// Stops without their continuation.
    stops: AtomicU32,
}

impl Foreign {
    /// Takes hold of a process.
    pub(super) fn attach(number: u32) -> Result<Self, Error> {
        let fail = |why: String| Error::Config(format!("--pid {number}: {why}"));
        if number == std::process::id() {
            return Err(fail("that is this program; give the process of the DNS server".into()));
        }
        let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| fail("no process has this number".into()))?;
        let gone = || fail("no such process; `pgrep -a NAME` finds it".into());
        let held = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(held) => Some(held),
            Err(Errno::NOSYS | Errno::PERM) => None,
            // Numbers of threads are no processes.
            Err(_) => return Err(gone()),
        };
        let name = name(number);
        match test_kill_process(pid) {
            Ok(()) => Ok(Self { pid, held, name, stops: AtomicU32::new(0) }),
            Err(Errno::PERM) => {
                Err(fail(format!("{name} is not ours to signal; run as its owner or as root")))
            }
            Err(_) => Err(gone()),
        }
    }

    /// Its number.
    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends a signal to it alone.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), String> {
        let sent = match &self.held {
            Some(held) => pidfd_send_signal(held, signal),
            None => kill_process(self.pid, signal),
        };
        sent.map_err(|error| match error {
            Errno::SRCH => format!("{} is gone", self.name),
            error => format!("{} cannot be signalled: {error}", self.name),
        })
    }

    pub(super) fn stop(&self) -> Result<(), String> {
        self.signal(Signal::STOP)?;
        self.stops.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn cont(&self) {
        if super::take_one(&self.stops) == Some(1) {
            // It may be gone: then nothing is left to do.
            let _ = self.signal(Signal::CONT);
        }
    }

    /// Whether it is there. A zombie that its parent has not noticed is not.
    pub(super) fn alive(&self) -> Result<(), String> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()));
        let is_there = match stat {
            Ok(stat) => !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")),
            Err(error) => error.kind() != ErrorKind::NotFound,
        };
        if is_there { Ok(()) } else { Err(format!("{} is gone", self.name)) }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if self.stops.load(Ordering::Relaxed) > 0 {
            let _ = self.signal(Signal::CONT);
        }
    }
}

/// `process 123 (coredns, uid 0)`.
fn name(number: u32) -> String {
    let read = |file| std::fs::read_to_string(format!("/proc/{number}/{file}")).unwrap_or_default();
    let status = read("status");
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    let uid = uid.and_then(|line| line.split_whitespace().next()).unwrap_or("?");
    format!("process {number} ({}, uid {uid})", read("comm").trim())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command};

    use super::super::super::waiting::until;
    use super::*;

    /// A process that ends with its test.
    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> Self {
            let child = Command::new("sleep").arg("1000").spawn().unwrap();
            // The kernel lets the parent go on a moment before the child has its name.
            let comm = format!("/proc/{}/comm", child.id());
            until("the name of a child", || std::fs::read_to_string(&comm).unwrap() == "sleep\n");
            Self(child)
        }

        /// Whether the kernel says that it is stopped.
        fn is_stopped(&self) -> bool {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
            stat.rsplit(')').next().unwrap().starts_with(" T")
        }

        fn wait_until_stopped(&self, is_stopped: bool) {
            let what = if is_stopped { "a stop" } else { "the end of a stop" };
            until(what, || self.is_stopped() == is_stopped);
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn a_stopped_process_goes_on_after_the_last_of_its_stops() {
        let sleeper = Sleeper::start();
        let process = Foreign::attach(sleeper.0.id()).unwrap();
        process.stop().unwrap();
        process.stop().unwrap();
        sleeper.wait_until_stopped(true);
        process.cont();
        assert!(sleeper.is_stopped());
        process.cont();
        process.cont();
        sleeper.wait_until_stopped(false);
    }

    #[test]
    fn a_stopped_process_goes_on_when_we_let_go_of_it() {
        let sleeper = Sleeper::start();
        let process = Foreign::attach(sleeper.0.id()).unwrap();
        process.stop().unwrap();
        sleeper.wait_until_stopped(true);
        drop(process);
        sleeper.wait_until_stopped(false);
    }

    #[test]
    fn a_process_that_died_is_an_error_that_names_it() {
        let mut sleeper = Sleeper::start();
        let number = sleeper.0.id();
        let process = Foreign::attach(number).unwrap();
        assert_eq!((process.alive(), process.pid()), (Ok(()), number));
        process.signal(Signal::TERM).unwrap();
        assert_eq!(sleeper.0.wait().unwrap().signal(), Some(15));
        let gone = format!("process {number} (sleep, uid {})", rustix::process::getuid());
        assert_eq!(process.signal(Signal::KILL).unwrap_err(), format!("{gone} is gone"));
        assert_eq!(process.alive().unwrap_err(), format!("{gone} is gone"));
        let error = Foreign::attach(number).err().unwrap().to_string();
        assert!(error.starts_with(&format!("--pid {number}: no such process")), "{error}");
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for (number, why) in [
            (0, "no process has this number"),
            (u32::MAX, "no process has this number"),
            (std::process::id(), "that is this program"),
        ] {
            let error = Foreign::attach(number).err().unwrap().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}

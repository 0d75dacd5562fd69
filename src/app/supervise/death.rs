//! How a server ended, and what that means: the end of us too, or another start.

use std::fmt;
use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{Pid, WaitStatus};

/// The end of one server.
#[derive(Debug)]
pub struct Death {
    how: How,
    pub lived: Duration,
}

/// What ended it.
#[derive(PartialEq, Eq, Debug)]
enum How {
    Exit(i32),
    Signal(i32),
    /// The kernel, for want of memory.
    OutOfMemory,
    /// We, because it did not move.
    Hung(String),
    /// It could not be started.
    Unborn(String),
}

impl Death {
    /// Reads the status of a server. `killed` says why we killed it, if we did.
    pub fn of(
        status: WaitStatus,
        killed: Option<String>,
        oom_killed: bool,
        lived: Duration,
    ) -> Self {
        let how = match (killed, status.exit_status(), status.terminating_signal()) {
            (_, Some(code), _) => How::Exit(code),
            // It had ended by itself before our signal came, which a long core dump delays.
            (_, None, Some(signal)) if signal != KILL => How::Signal(signal),
            (Some(why), ..) => How::Hung(why),
            (None, _, Some(KILL)) if oom_killed => How::OutOfMemory,
            (None, _, signal) => How::Signal(signal.unwrap_or_default()),
        };
        Self { how, lived }
    }

    /// It could not be started.
    pub fn unborn(error: &std::io::Error) -> Self {
        Self { how: How::Unborn(error.to_string()), lived: Duration::ZERO }
    }

    /// The code with which we end too, if we do: when a signal asked for it, when it ended well,
    /// and when it refused to serve at all, which another start would not change.
    pub fn end(&self, has_served: bool, is_ending: bool) -> Option<ExitCode> {
        match self.how {
            How::Exit(0) => Some(ExitCode::SUCCESS),
            How::Exit(code) if is_ending || !has_served => Some(exit_code(code)),
            // What was handed on came before it listened for signals: it had nothing to finish.
            How::Signal(INTERRUPT | TERMINATE) if is_ending => Some(ExitCode::SUCCESS),
            // As a shell has it.
            How::Signal(signal) if is_ending => Some(exit_code(128 + signal)),
            _ if is_ending => Some(ExitCode::FAILURE),
            _ => None,
        }
    }
}

fn exit_code(code: i32) -> ExitCode {
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.how {
            How::Exit(code) => write!(f, "ended with code {code}"),
            How::Signal(signal) => match SIGNALS.iter().find(|(number, _)| number == signal) {
                Some((_, name)) => write!(f, "was killed by {name}"),
                None => write!(f, "was killed by signal {signal}"),
            },
            How::OutOfMemory => f.write_str(
                "was killed by the kernel, for the memory of its control group is used up: raise \
                 the limit",
            ),
            How::Hung(why) => write!(f, "{why}"),
            How::Unborn(error) => write!(f, "could not be started: {error}"),
        }?;
        match self.lived.as_secs() {
            0 => write!(f, " after {} ms", self.lived.as_millis()),
            seconds => write!(f, " after {seconds} s"),
        }
    }
}

/// How often a server was started again, by the reason.
#[derive(Default, Debug)]
pub struct Restarts {
    counts: [u64; REASONS.len()],
}

/// The label `reason`.
pub const REASONS: [&str; 4] = ["exit", "signal", "oom", "hung"];

impl Restarts {
    /// Counts one.
    pub fn count(&mut self, death: &Death) {
        let reason = match death.how {
            How::Exit(_) | How::Unborn(_) => 0,
            How::Signal(_) => 1,
            How::OutOfMemory => 2,
            How::Hung(_) => 3,
        };
        self.counts[reason] += 1;
    }
}

/// As a server is told: one number for each reason.
impl fmt::Display for Restarts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.counts.map(|count| count.to_string());
        f.write_str(&words.join(" "))
    }
}

/// Reads what a server was told.
pub fn read_restarts(text: &str) -> Vec<(&'static str, u64)> {
    let counts = text.split(' ').map(|word| word.parse().unwrap_or(0));
    REASONS.into_iter().zip(counts).collect()
}

const INTERRUPT: i32 = 2;
const KILL: i32 = 9;
const TERMINATE: i32 = 15;
/// Signals that end a server, by their number on every architecture that we run on.
const SIGNALS: [(i32, &str); 11] = [
    (1, "SIGHUP"),
    (INTERRUPT, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (KILL, "SIGKILL"),
    (11, "SIGSEGV"),
    (TERMINATE, "SIGTERM"),
    (31, "SIGSYS"),
];

/// How often the kernel killed in our control group for want of memory.
pub struct OomKills(Option<u64>);

impl OomKills {
    /// Begins to count.
    pub fn watch() -> Self {
        Self(oom_kills())
    }

    /// Whether there was another one.
    pub fn has_grown(&mut self) -> bool {
        let before = std::mem::replace(&mut self.0, oom_kills());
        self.0.zip(before).is_some_and(|(now, before)| now > before)
    }
}

/// The count of our control group; `None` where it is not to be seen.
fn oom_kills() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut texts =
        groups.lines().flat_map(accounts).filter_map(|path| fs::read_to_string(path).ok());
    texts.find_map(|text| oom_kills_in(&text))
}

/// Where a group's kills are counted, by its line of `/proc/self/cgroup`: `0::/a` or `4:memory:/a`.
/// Inside of a container that may be its path on the host, where only the root of what is mounted
/// exists; so that is the second place.
fn accounts(line: &str) -> Vec<String> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (root, file) = match fields.next() {
        Some("") => ("/sys/fs/cgroup", "memory.events"),
        Some(names) if names.split(',').any(|name| name == "memory") => {
            ("/sys/fs/cgroup/memory", "memory.oom_control")
        }
        _ => return Vec::new(),
    };
    let own = fields.next().unwrap_or_default().trim_end_matches('/');
    [own, ""].map(|group| format!("{root}{group}/{file}")).to_vec()
}

fn oom_kills_in(events: &str) -> Option<u64> {
    events.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// Whether a debugger holds a process.
pub fn is_traced(pid: Pid) -> bool {
    let path = format!("/proc/{}/status", pid.as_raw_nonzero());
    let status = fs::read_to_string(path).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|pid| pid.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(how: How) -> Death {
        Death { how, lived: Duration::from_millis(1500) }
    }

    fn code(code: u8) -> Option<String> {
        Some(format!("{:?}", ExitCode::from(code)))
    }

    #[test]
    fn a_server_that_refuses_to_serve_ends_us_and_one_that_served_is_started_again() {
        let end = |how, has_served, is_ending| {
            death(how).end(has_served, is_ending).map(|code| format!("{code:?}"))
        };
        assert_eq!(end(How::Exit(1), false, false), code(1));
        assert_eq!(end(How::Exit(2), true, false), None);
        assert_eq!(end(How::Exit(0), true, false), code(0));
        assert_eq!(end(How::Signal(11), false, false), None);
        assert_eq!(end(How::Signal(11), true, true), code(139));
        assert_eq!(end(How::Signal(TERMINATE), false, true), code(0), "before it could drain");
        assert_eq!(end(How::Signal(TERMINATE), true, false), None);
        assert_eq!(end(How::Hung(String::new()), true, true), code(1));
        assert_eq!(end(How::OutOfMemory, true, false), None);
    }

    /// The status of a shell that sends itself a signal.
    #[expect(clippy::zombie_processes, reason = "it is waited for by its id, as the parent does")]
    fn killed_by(signal: &str) -> WaitStatus {
        let kill = format!("ulimit -c 0; kill -{signal} $$");
        let child = std::process::Command::new("sh").args(["-c", &kill]).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let status = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        status.unwrap().unwrap().1
    }

    #[test]
    fn who_dies_of_its_own_signal_did_not_hang_even_if_we_killed_it_meanwhile() {
        let how = |signal, killed: Option<&str>, oom_killed| {
            Death::of(killed_by(signal), killed.map(String::from), oom_killed, Duration::ZERO).how
        };
        assert_eq!(how("SEGV", Some("hung"), false), How::Signal(11));
        assert_eq!(how("SEGV", None, true), How::Signal(11));
        assert_eq!(how("KILL", Some("hung"), false), How::Hung("hung".into()));
        assert_eq!(how("KILL", None, true), How::OutOfMemory);
        assert_eq!(how("KILL", None, false), How::Signal(KILL));
    }

    #[test]
    fn the_line_says_why() {
        for (how, text) in [
            (How::Exit(2), "ended with code 2 after 1 s"),
            (How::Signal(11), "was killed by SIGSEGV after 1 s"),
            (How::Signal(40), "was killed by signal 40 after 1 s"),
            (How::Hung("hung: thread udp-53-0".into()), "hung: thread udp-53-0 after 1 s"),
        ] {
            assert_eq!(death(how).to_string(), text);
        }
        assert!(death(How::OutOfMemory).to_string().contains("raise the limit"));
    }

    #[test]
    fn restarts_are_handed_to_the_next_server() {
        let mut restarts = Restarts::default();
        restarts.count(&death(How::Signal(9)));
        restarts.count(&death(How::Hung(String::new())));
        restarts.count(&death(How::Hung(String::new())));
        let told = read_restarts(&restarts.to_string());
        assert_eq!(told, [("exit", 0), ("signal", 1), ("oom", 0), ("hung", 2)]);
        assert!(read_restarts("x y").iter().all(|(_, count)| *count == 0));
    }

    #[test]
    fn oom_kills_are_read_from_the_control_group() {
        assert_eq!(oom_kills_in("low 0\noom 2\noom_kill 1\noom_group_kill 0\n"), Some(1));
        assert_eq!(oom_kills_in("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(oom_kills_in("low 0\n"), None);
    }

    #[test]
    fn p3_a_kill_for_memory_is_looked_for_in_groups_of_both_versions() {
        let v2 = ["/sys/fs/cgroup/pod/dns/memory.events", "/sys/fs/cgroup/memory.events"];
        assert_eq!(accounts("0::/pod/dns"), v2);
        assert_eq!(accounts("0::/"), [v2[1], v2[1]]);
        let v1 = ["dns/memory.oom_control", "memory.oom_control"];
        let v1 = v1.map(|path| format!("/sys/fs/cgroup/memory/{path}"));
        assert_eq!(accounts("4:memory:/dns"), v1);
        assert_eq!(accounts("4:hugetlb,memory:/dns"), v1);
        assert!(accounts("2:cpuacct:/dns").is_empty());
    }
}

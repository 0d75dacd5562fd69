//! A cgroup of a test, of version 2 or 1. Making one needs root.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Where the hierarchies of version 1 are, by what they bound.
const FOLDER: &str = "/sys/fs/cgroup";

/// Looks at whether a killed process has left, and the pause between two.
const LOOKS: u32 = 500;
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How many names are tried: a run that was killed, with the same number of a process, has left
/// some.
const NAMES: u32 = 8;

/// A bound on what processes get. Dropping it kills those that are left, and removes it.
pub struct Cgroup {
    path: PathBuf,
    is_v2: bool,
}

impl Cgroup {
    /// One that bounds memory, in octets, and gives no swap beside. `None` where none may be made.
    pub fn of_memory(bytes: u64) -> Option<Self> {
        let cgroup = Self::new("memory")?;
        let file = if cgroup.is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
        cgroup.write(file, &bytes.to_string())?;
        // Without swap, as most nodes have it; where the kernel has none there is no such file.
        match cgroup.is_v2 {
            true => cgroup.write("memory.swap.max", "0"),
            false => cgroup.write("memory.memsw.limit_in_bytes", &bytes.to_string()),
        };
        Some(cgroup)
    }

    /// One that gets so many milliseconds of each 100 of one core.
    pub fn of_cpu(ms: u64) -> Option<Self> {
        let cgroup = Self::new("cpu")?;
        let quota_us = ms * 1000;
        if cgroup.is_v2 {
            cgroup.write("cpu.max", &format!("{quota_us} 100000"))?;
        } else {
            cgroup.write("cpu.cfs_period_us", "100000")?;
            cgroup.write("cpu.cfs_quota_us", &quota_us.to_string())?;
        }
        Some(cgroup)
    }

    /// What a shell does to join it.
    pub fn join(&self) -> String {
        format!("echo $$ > {}/cgroup.procs", self.path.display())
    }

    /// How many of its processes were killed for their memory.
    pub fn oom_kills(&self) -> u64 {
        let file = if self.is_v2 { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.path.join(file)).unwrap();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.unwrap_or("0").trim().parse().unwrap()
    }

    /// Such as a server whose parent was killed when a check failed.
    fn kill_all(&self) {
        let pids = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        let pids = pids.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?));
        for pid in pids {
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    fn new(controller: &str) -> Option<Self> {
        (0..NAMES).find_map(|_| Self::of_the_next_name(controller))
    }

    fn of_the_next_name(controller: &str) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("mainstay-faults-{}-{number}", std::process::id());
        let is_v2 = fs::exists(format!("{FOLDER}/cgroup.controllers")).unwrap_or(false);
        let path = match is_v2 {
            true => PathBuf::from(FOLDER).join(name),
            false => PathBuf::from(FOLDER).join(controller).join(name),
        };
        fs::create_dir(&path).ok()?;
        Some(Self { path, is_v2 })
    }

    fn write(&self, file: &str, text: &str) -> Option<()> {
        fs::write(self.path.join(file), text).ok()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..LOOKS {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            self.kill_all();
            sleep(LOOK_EVERY);
        }
    }
}

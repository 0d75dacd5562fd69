//! The processes that a server started: a container ends and stands still with all of them.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Generations that are looked at: a shell, a parent, a server, and one to spare.
const DEPTH_MAX: usize = 4;

/// The children of a process, as the kernel lists them; none where it does not.
pub(super) fn children(pid: Pid) -> Vec<Pid> {
    let number = pid.as_raw_nonzero();
    let path = format!("/proc/{number}/task/{number}/children");
    let list = std::fs::read_to_string(path).unwrap_or_default();
    let pids = list.split_whitespace().filter_map(|pid| pid.parse().ok());
    pids.filter_map(Pid::from_raw).collect()
}

/// All descendants, parents first.
fn descendants(pid: Pid) -> Vec<Pid> {
    let (mut all, mut last) = (Vec::new(), vec![pid]);
    for _ in 0..DEPTH_MAX {
        last = last.into_iter().flat_map(children).collect();
        all.extend(&last);
    }
    all
}

/// Sends a signal to a group, and to what its leader started in groups of its own.
pub(super) fn signal_all(leader: Pid, signal: Signal) -> rustix::io::Result<()> {
    let family = descendants(leader);
    let sent = kill_process_group(leader, signal);
    for pid in family {
        // It may have ended with its parent.
        let _ = kill_process(pid, signal);
    }
    sent
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::super::super::waiting::until;
    use super::*;

    #[test]
    fn what_a_process_started_in_a_group_of_its_own_ends_with_it() {
        let script = "setsid sleep 1000 & wait";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).process_group(0).stdin(Stdio::null());
        let mut shell = shell.spawn().unwrap();
        let leader = Pid::from_child(&shell);
        until("the child of a shell", || !children(leader).is_empty());
        let child = children(leader)[0];
        signal_all(leader, Signal::KILL).unwrap();
        shell.wait().unwrap();
        // An orphan is a zombie until somebody reaps it.
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", child.as_raw_nonzero()));
        until("the end of an orphan", || !stat().is_ok_and(|stat| !stat.contains(") Z ")));
    }
}

//! On which machine, and what does a process cost it? Read from /proc.

use std::fs;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_setaffinity};

/// Ticks per second of /proc/PID/stat: USER_HZ is 100 on every Linux that we run on.
const TICK: Duration = Duration::from_millis(10);

/// Pins the calling thread, and those that it starts from then on, to these CPUs.
///
/// # Errors
/// There is no such CPU.
pub fn pin(cpus: &[usize]) -> Result<(), String> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|cpu| set.set(*cpu));
    sched_setaffinity(None, &set).map_err(|error| format!("cannot pin to CPU {cpus:?}: {error}"))
}

/// CPU time of a process and its children, in nanoseconds of the scheduler. It holds what the
/// kernel did in the context of the process, soft interrupts included.
pub fn cpu_time(pid: u32) -> Duration {
    let mut total = ended_children(pid);
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return total };
    for task in tasks.flatten() {
        let read = |file| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let ran_ns = read("schedstat").split(' ').next().and_then(|ns| ns.parse().ok());
        total += Duration::from_nanos(ran_ns.unwrap_or(0));
        let children = read("children");
        total += children.split_whitespace().flat_map(str::parse).map(cpu_time).sum::<Duration>();
    }
    total
}

/// How long the threads of a process were ready to run and something else ran instead.
pub fn waited(pid: u32) -> Duration {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let waited_ns = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').nth(1)?.parse::<u64>().ok()
    });
    Duration::from_nanos(waited_ns.sum())
}

/// CPU time of children that have ended, in ticks.
fn ended_children(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold blanks; proc(5) counts from 1 and has cutime as number 16.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(13).take(2);
    TICK * ticks.flat_map(str::parse::<u32>).sum::<u32>()
}

/// Resident memory of a process, in octets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// VmRSS.
    pub now: u64,
    /// VmHWM.
    pub peak: u64,
}

/// Resident memory of a process; zero when it has ended.
pub fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let octets = |key| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    };
    Memory { now: octets("VmRSS:"), peak: octets("VmHWM:") }
}

/// Begins the count of the peak anew, where the kernel lets us.
pub fn reset_peak(pid: u32) {
    // proc(5), clear_refs: 5 resets VmHWM.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// Processor, CPUs and kernel, in one line.
pub fn description() -> String {
    // Not what this process may use: benches pin themselves.
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpus = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    let gib = kib.unwrap_or(0) >> 20;
    format!("{}, {cpus} CPUs, {gib} GiB, Linux {}", processor(), kernel.trim())
}

fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split(':').nth(1)?.trim().to_owned())
    };
    let model = value("model name").unwrap_or_else(|| "an unnamed processor".into());
    let family = value("cpu family").map(|family| format!(" (family {family})"));
    model + &family.unwrap_or_default()
}

/// Median, least and greatest of some measurements.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

/// The spread of measurements; none when there are none.
pub fn spread(measured: &[f64]) -> Option<Spread> {
    let mut sorted = measured.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let is_even = sorted.len().is_multiple_of(2);
    let median = if is_even { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] };
    Some(Spread { median, min, max })
}

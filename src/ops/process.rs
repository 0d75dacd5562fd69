//! What the process uses, under the names that every Prometheus client has.
//!
//! Read from `/proc/self` at each scrape. A file that cannot be read leaves out its metrics and no
//! others: a sandbox may hide some.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Ticks per second of the times in `/proc` (USER_HZ, 100 on every architecture that we run on).
const TICKS_PER_SECOND: f64 = 100.0;

/// Publishes `process_…`.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        if let Some(stat) = read("/proc/self/stat").as_deref().and_then(Stat::parse) {
            counter(&mut encoder, "process_cpu_seconds", "CPU time used", stat.cpu_seconds)?;
            if let Some(booted) = read("/proc/stat").as_deref().and_then(boot_seconds) {
                let started = booted + stat.start_seconds;
                let text = "Start of the process since the epoch";
                gauge(&mut encoder, "process_start_time_seconds", text, started)?;
            }
        }
        let status = read("/proc/self/status").unwrap_or_default();
        for (name, text, field) in [
            ("process_resident_memory_bytes", "Memory in use", "VmRSS:"),
            ("process_virtual_memory_bytes", "Address space in use", "VmSize:"),
        ] {
            if let Some(bytes) = status_bytes(&status, field) {
                gauge(&mut encoder, name, text, bytes)?;
            }
        }
        if let Some(count) = open_fds() {
            gauge(&mut encoder, "process_open_fds", "Open file descriptors", count)?;
        }
        if let Some(limit) = read("/proc/self/limits").as_deref().and_then(max_fds) {
            gauge(&mut encoder, "process_max_fds", "File descriptors allowed", limit)?;
        }
        Ok(())
    }
}

/// The text of a small file of `/proc`.
fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Writes a gauge without labels.
fn gauge(encoder: &mut DescriptorEncoder, name: &str, text: &str, value: f64) -> fmt::Result {
    encoder.encode_descriptor(name, text, None, MetricType::Gauge)?.encode_gauge(&value)
}

/// Writes a counter without labels; the encoder adds `_total`.
fn counter(encoder: &mut DescriptorEncoder, name: &str, text: &str, value: f64) -> fmt::Result {
    encoder
        .encode_descriptor(name, text, None, MetricType::Counter)?
        .encode_counter::<NoLabelSet, _, u64>(&value, None)
}

/// What we need of `/proc/self/stat`.
#[derive(PartialEq, Debug)]
struct Stat {
    cpu_seconds: f64,
    /// Since the system booted.
    start_seconds: f64,
}

impl Stat {
    /// Reads the line; the fields are numbered from 1 in proc_pid_stat(5).
    fn parse(line: &str) -> Option<Self> {
        // Field 2 is the name of the program, in parentheses and with any character inside.
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
        let (user, system, start) = (ticks(14)?, ticks(15)?, ticks(22)?);
        Some(Self {
            cpu_seconds: (user + system) / TICKS_PER_SECOND,
            start_seconds: start / TICKS_PER_SECOND,
        })
    }
}

/// When the system booted, in seconds since the epoch, from `/proc/stat`.
fn boot_seconds(text: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

/// A size of `/proc/self/status`, which has them in KiB whatever the page size.
fn status_bytes(text: &str, field: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: f64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

/// How many file descriptors are open.
fn open_fds() -> Option<f64> {
    // The one that reads the folder is listed too.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

/// The soft limit of open files in `/proc/self/limits`.
fn max_fds(text: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match value.split_ascii_whitespace().next()? {
        "unlimited" => Some(f64::INFINITY),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_the_program_may_contain_spaces_and_parentheses() {
        let line = "42 (a ) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 4 0 12345 99 7 0";
        let expected = Stat { cpu_seconds: 3.0, start_seconds: 123.45 };
        assert_eq!(Stat::parse(line), Some(expected));
    }

    #[test]
    fn cut_or_strange_text_is_no_measurement() {
        for line in ["", "42", "42 (a) S 1 2", "42 (a) S 1 2 3 4 5 6 7 8 9 10 x 50 0 0 20 0 4 0 1"]
        {
            assert_eq!(Stat::parse(line), None, "{line:?}");
        }
        assert_eq!(boot_seconds("btime \n"), None);
        assert_eq!(status_bytes("VmRSS:\n", "VmRSS:"), None);
        assert_eq!(max_fds("Max open files\n"), None);
    }

    #[test]
    fn sizes_limits_and_boot_time_are_read_in_their_units() {
        assert_eq!(status_bytes("Name: x\nVmRSS:\t    2048 kB\n", "VmRSS:"), Some(2_097_152.0));
        assert_eq!(max_fds("Max open files   1024   4096   files\n"), Some(1024.0));
        assert_eq!(
            max_fds("Max open files   unlimited   unlimited   files\n"),
            Some(f64::INFINITY)
        );
        assert_eq!(boot_seconds("cpu 1 2\nbtime 1700000000\n"), Some(1.7e9));
    }
}

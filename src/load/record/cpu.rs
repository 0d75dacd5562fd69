//! CPU time of this process.

use std::fs;
use std::time::Instant;

/// Ticks per second of the times in `/proc` (USER_HZ, 100 on every architecture that we run on).
const TICKS_PER_SECOND: f64 = 100.0;

/// A reading at the start.
#[derive(Debug)]
pub(super) struct CpuTime {
    seconds: Option<f64>,
    at: Instant,
}

impl CpuTime {
    /// Reads the first time.
    pub fn start() -> Self {
        Self { seconds: seconds(), at: Instant::now() }
    }

    /// Cores that were busy since. Zero where `/proc` is hidden.
    pub fn cores(&self) -> f64 {
        let elapsed = self.at.elapsed().as_secs_f64();
        match (self.seconds, seconds()) {
            (Some(first), Some(last)) if elapsed > 0.0 => (last - first).max(0.0) / elapsed,
            _ => 0.0,
        }
    }
}

/// CPU time so far.
fn seconds() -> Option<f64> {
    parse(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// Fields 14 and 15 of proc_pid_stat(5). Field 2, a name in parentheses, may hold any character.
fn parse(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(14 - 3);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_added() {
        let line = "42 (a ) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 4 0 12345 99 7 0";
        assert_eq!(parse(line), Some(3.0));
        for line in ["", "42", "42 (a) S 1 2", "42 (a) S 1 2 3 4 5 6 7 8 9 10 x 50 0"] {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }
}

//! One line about a run under way, once a second on a terminal, every ten seconds elsewhere.

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use super::super::record::Snapshot;
use super::shown::{count, line, ms};

/// How often it is told where nobody can overwrite a line.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
/// Columns where the terminal does not say.
const COLUMNS: usize = 80;

/// Where and how the line is written.
#[derive(Debug)]
pub struct Live {
    manner: Manner,
    last: Option<Snapshot>,
    /// A line is on the terminal that has no end yet.
    is_open: bool,
}

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Over the line before.
    Terminal,
    /// Line by line.
    Plain,
    /// Not at all.
    Quiet,
}

impl Live {
    /// A line on standard error, unless it is to be quiet.
    pub fn on_stderr(is_quiet: bool) -> Self {
        let manner = match stderr().is_terminal() {
            _ if is_quiet => Manner::Quiet,
            true => Manner::Terminal,
            false => Manner::Plain,
        };
        Self { manner, last: None, is_open: false }
    }

    /// Tells how the run stands. Called once a second.
    pub fn tell(&mut self, snapshot: Snapshot) {
        if let Some(text) = self.text(snapshot, columns()) {
            // A standard error that is closed is no reason to end a run.
            let _ = stderr().write_all(text.as_bytes());
        }
    }

    /// Ends the line, before anything else is written.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let _ = stderr().write_all(b"\n");
        }
    }

    /// What to write, if anything.
    fn text(&mut self, snapshot: Snapshot, columns: usize) -> Option<String> {
        let since = self.last.as_ref().map_or(Duration::ZERO, |last| last.elapsed);
        let is_due = snapshot.elapsed >= since + PLAIN_EVERY;
        match self.manner {
            Manner::Quiet => return None,
            Manner::Plain if !is_due => return None,
            Manner::Plain | Manner::Terminal => {}
        }
        let told = told(&snapshot, self.last.as_ref());
        self.last = Some(snapshot);
        if self.manner == Manner::Plain {
            return Some(told + "\n");
        }
        self.is_open = true;
        // One column stays free: some terminals begin a new line after the last one.
        let short: String = told.chars().take(columns.saturating_sub(1)).collect();
        Some(format!("\r{short}\x1b[K"))
    }
}

/// Columns of the terminal.
fn columns() -> usize {
    let told = rustix::termios::tcgetwinsize(stderr()).map(|size| usize::from(size.ws_col));
    told.ok().filter(|columns| *columns > 0).unwrap_or(COLUMNS)
}

/// The line: what matters most comes first, because the end may be cut.
fn told(snapshot: &Snapshot, last: Option<&Snapshot>) -> String {
    let failed = snapshot.outcomes.failed();
    let mut parts = vec![progress(snapshot), rate(snapshot, last)];
    parts.push(match failed {
        0 => "0 failed".to_owned(),
        failed => format!("{} FAILED{}", count(failed), ago(snapshot)),
    });
    parts.push(percentiles(snapshot, last));
    if snapshot.stuck_clients > 0 {
        parts.push(format!("{} stuck", count(snapshot.stuck_clients)));
    }
    parts.push(phase(snapshot));
    let late = snapshot.late + snapshot.not_begun;
    if late > 0 {
        parts.push(format!("{} late or never begun", count(late)));
    }
    parts.retain(|part| !part.is_empty());
    parts.join(" | ")
}

/// How far it is, and how long it takes.
fn progress(snapshot: &Snapshot) -> String {
    let elapsed = snapshot.elapsed.as_secs();
    let Some(duration) = snapshot.duration else { return span(elapsed) };
    let left = duration.saturating_sub(snapshot.elapsed).as_secs_f64().ceil() as u64;
    let percent = if duration.is_zero() {
        100.0
    } else {
        (snapshot.elapsed.as_secs_f64() / duration.as_secs_f64() * 100.0).min(100.0)
    };
    format!("{percent:3.0} %, {} left", span(left))
}

/// Seconds as people say them.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Lookups per second that ended since the last line.
fn rate(snapshot: &Snapshot, last: Option<&Snapshot>) -> String {
    let (before, at) = last.map_or((0, Duration::ZERO), |last| (last.outcomes.all(), last.elapsed));
    let seconds = snapshot.elapsed.saturating_sub(at).as_secs_f64();
    if seconds <= 0.0 {
        return String::new();
    }
    let ended = snapshot.outcomes.all().saturating_sub(before);
    format!("{}/s", count((ended as f64 / seconds).round() as u64))
}

/// How long ago the last failure was.
fn ago(snapshot: &Snapshot) -> String {
    snapshot.last_failure.map_or_else(String::new, |at| {
        format!(", last {} ago", span(snapshot.elapsed.saturating_sub(at).as_secs()))
    })
}

/// Of the lookups that ended since the last line.
fn percentiles(snapshot: &Snapshot, last: Option<&Snapshot>) -> String {
    let latencies = match last {
        Some(last) => snapshot.latencies.since(&last.latencies),
        None => snapshot.latencies.clone(),
    };
    if latencies.count() == 0 {
        return "nothing ended".to_owned();
    }
    let quantile = |part| ms(latencies.quantile(part) / 1000.0);
    format!("p50 {} p99 {}", quantile(0.5), quantile(0.99))
}

/// What goes on.
fn phase(snapshot: &Snapshot) -> String {
    if snapshot.elapsed.is_zero() {
        return "about to start".to_owned();
    }
    if !snapshot.under_way.is_empty() {
        return line(&snapshot.under_way.join(" "));
    }
    if snapshot.is_ending { "waiting for the last ones".to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::super::super::record::{Outcome, Recorder, Sample, Shard};
    use super::super::super::resolver::Resolver;
    use super::super::super::run::Course;
    use super::super::super::tasks::Class;
    use super::*;

    fn lookup(shard: &Shard, due_s: u64, took_ms: u64, outcome: Outcome) {
        shard.lookups(&[Sample {
            due: Duration::from_secs(due_s),
            took: Duration::from_millis(took_ms),
            outcome,
            judgement: None,
            class: Class::Service,
            resolver: Resolver::Glibc,
            client: 0,
            packets: 1,
        }]);
    }

    /// Snapshots at 1 s, with a good lookup, and at 10 s, with 18 failed ones more.
    fn snapshots() -> (Snapshot, Snapshot) {
        let course = Course::new(Instant::now(), Some(Duration::from_secs(100)));
        let recorder = Recorder::new(course, Duration::from_secs(1));
        let shard = recorder.shard();
        lookup(&shard, 0, 10, Outcome::Ok);
        let first = Snapshot { elapsed: Duration::from_secs(1), ..recorder.snapshot() };
        (0..18).for_each(|_| lookup(&shard, 7, 500, Outcome::UnknownHost));
        let mut second = Snapshot { elapsed: Duration::from_secs(10), ..recorder.snapshot() };
        second.under_way = vec!["stop@5s..15s".to_owned()];
        (first, second)
    }

    fn live(manner: Manner) -> Live {
        Live { manner, last: None, is_open: false }
    }

    #[test]
    fn the_line_tells_of_the_time_since_the_last_one() {
        let (first, second) = snapshots();
        let text = told(&first, None);
        assert!(text.starts_with("  1 %, 1m39s left | 1/s | 0 failed | p50 9.98"), "{text}");
        let text = told(&second, Some(&first));
        let wanted = " 10 %, 1m30s left | 2/s | 18 FAILED, last 2s ago | p50 ";
        assert!(text.starts_with(wanted), "{text}");
        assert!(text.ends_with(" | 1 stuck | stop@5s..15s"), "{text}");
        let quiet = Snapshot { elapsed: Duration::from_secs(11), ..second.clone() };
        assert!(told(&quiet, Some(&second)).contains("| 0/s | 18 FAILED, last 3s ago | nothing"));
    }

    #[test]
    fn a_terminal_has_one_line_of_its_width() {
        let (first, second) = snapshots();
        let mut live = live(Manner::Terminal);
        assert!(live.text(first, 200).unwrap().starts_with("\r  1 %"));
        let text = live.text(second, 20).unwrap();
        assert_eq!(text, "\r 10 %, 1m30s left |\x1b[K");
        assert!(live.is_open);
    }

    #[test]
    fn elsewhere_a_line_comes_every_ten_seconds() {
        let (first, second) = snapshots();
        let mut plain = live(Manner::Plain);
        assert_eq!(plain.text(first.clone(), 80), None);
        let text = plain.text(second.clone(), 20).unwrap();
        assert!(text.ends_with("stop@5s..15s\n") && !text.contains('\r'), "{text}");
        assert_eq!(plain.text(second.clone(), 80), None);
        assert_eq!(live(Manner::Quiet).text(second, 80), None);
    }

    #[test]
    fn spans_are_short() {
        assert_eq!([5, 65, 3700, 90_000].map(span).join(" "), "5s 1m05s 1h01m 1d01h");
    }

    #[test]
    fn a_run_without_an_end_and_one_that_has_not_begun_are_told() {
        let (first, _) = snapshots();
        let canary = Snapshot { duration: None, ..first.clone() };
        assert!(told(&canary, None).starts_with("1s | 1/s"), "{}", told(&canary, None));
        let ahead = Snapshot { elapsed: Duration::ZERO, ..first };
        assert!(told(&ahead, None).ends_with("about to start"));
    }
}

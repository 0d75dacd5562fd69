//! The `errors` directive: one line per failed query, in CoreDNS's shape, or one per period for
//! those that match a `consolidate` rule.
//!
//! Names of clients' questions appear here because the operator asked for it with the directive.
//! Lines are bounded per second; what is left out is counted and told.

use std::fmt::Display;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::config::ErrorsConfig;
use crate::wire::{Question, Rcode};

/// Lines written per second at most; an outage must not fill the disk.
const LINES_PER_SECOND: u32 = 100;

/// The error log of one Block.
pub struct ErrorLog {
    config: ErrorsConfig,
    state: Mutex<State>,
}

struct State {
    /// When each rule began to count, and how many matched since.
    rules: Vec<Option<(Instant, u64)>>,
    second: Option<Instant>,
    lines: u32,
    left_out: u64,
}

/// A line to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    pub level: tracing::Level,
    pub text: String,
}

impl ErrorLog {
    /// The log of a directive.
    pub fn new(config: ErrorsConfig) -> Self {
        let rules = vec![None; config.consolidate.len()];
        let state = State { rules, second: None, lines: 0, left_out: 0 };
        Self { config, state: Mutex::new(state) }
    }

    /// Whether this is the log that such a directive asks for.
    pub fn is_of(&self, config: &ErrorsConfig) -> bool {
        self.config == *config
    }

    /// Takes a failed query.
    pub fn tell(&self, question: &Question, rcode: Rcode, error: &dyn Display, now: Instant) {
        let text = format!("{} {question}: {error}", rcode.0);
        self.lines(text, now).iter().for_each(write);
    }

    /// Writes the summaries of the periods that have ended. To be called about once a second.
    pub fn tick(&self, now: Instant) {
        self.ended(now).iter().for_each(write);
    }

    /// Writes what was counted so far, when the log is replaced.
    pub fn end(&self, now: Instant) {
        let longest = self.config.consolidate.iter().map(|rule| rule.period).max();
        self.tick(now + longest.unwrap_or_default());
    }

    /// The lines that one error gives.
    fn lines(&self, text: String, now: Instant) -> Vec<Line> {
        let mut lines = self.ended(now);
        let rule = self.config.consolidate.iter().position(|rule| rule.pattern.is_match(&text));
        let mut state = self.state.lock();
        let Some(index) = rule else {
            lines.extend(state.bounded(text, now));
            return lines;
        };
        let rule = &self.config.consolidate[index];
        match &mut state.rules[index] {
            Some((_, count)) => *count += 1,
            counting @ None => {
                *counting = Some((now, u64::from(!rule.show_first)));
                let first = rule.show_first.then_some(Line { level: rule.level, text });
                lines.extend(first);
            }
        }
        lines
    }

    fn ended(&self, now: Instant) -> Vec<Line> {
        let mut state = self.state.lock();
        let mut lines = Vec::new();
        for (rule, counting) in self.config.consolidate.iter().zip(&mut state.rules) {
            let Some((since, count)) = *counting else { continue };
            if now.saturating_duration_since(since) < rule.period {
                continue;
            }
            *counting = None;
            if count > 0 {
                let (pattern, period) = (rule.pattern.as_str(), seconds(rule.period));
                let text = format!("{count} errors like '{pattern}' occurred in last {period}");
                lines.push(Line { level: rule.level, text });
            }
        }
        lines
    }
}

impl State {
    /// The line, unless this second had too many.
    fn bounded(&mut self, text: String, now: Instant) -> Vec<Line> {
        let mut lines = Vec::new();
        let is_same = self
            .second
            .is_some_and(|second| now.saturating_duration_since(second) < Duration::from_secs(1));
        if !is_same {
            (self.second, self.lines) = (Some(now), 0);
            if self.left_out > 0 {
                let text = format!("{} more errors were left out", self.left_out);
                lines.push(Line { level: tracing::Level::ERROR, text });
                self.left_out = 0;
            }
        }
        if self.lines < LINES_PER_SECOND {
            self.lines += 1;
            lines.push(Line { level: tracing::Level::ERROR, text });
        } else {
            self.left_out += 1;
        }
        lines
    }
}

/// Writes a period as Go does: `30s`, `5m0s`.
fn seconds(period: Duration) -> String {
    let total = period.as_secs();
    match (total / 60, total % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}

fn write(line: &Line) {
    let text = &line.text;
    match line.level {
        tracing::Level::ERROR => tracing::error!(plugin = "errors", "{text}"),
        tracing::Level::WARN => tracing::warn!(plugin = "errors", "{text}"),
        tracing::Level::INFO => tracing::info!(plugin = "errors", "{text}"),
        _ => tracing::debug!(plugin = "errors", "{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::config::Consolidate;

    fn rule(show_first: bool) -> ErrorsConfig {
        let pattern = regex::Regex::new("timeout$").unwrap();
        let (period, level) = (Duration::from_secs(90), tracing::Level::WARN);
        ErrorsConfig { consolidate: vec![Consolidate { period, pattern, level, show_first }] }
    }

    fn texts(lines: Vec<Line>) -> Vec<String> {
        lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn errors_that_match_are_told_once_per_period() {
        let (log, start) = (ErrorLog::new(rule(false)), Instant::now());
        for _ in 0..3 {
            assert!(log.lines("2 a. A: i/o timeout".into(), start).is_empty());
        }
        assert_eq!(texts(log.lines("2 a. A: refused".into(), start)), ["2 a. A: refused"]);
        let later = start + Duration::from_secs(90);
        let summary = "3 errors like 'timeout$' occurred in last 1m30s";
        assert_eq!(texts(log.ended(later)), [summary]);
        assert!(log.ended(later).is_empty());
    }

    #[test]
    fn the_first_of_a_period_can_be_shown_at_once() {
        let (log, start) = (ErrorLog::new(rule(true)), Instant::now());
        let line = || "2 a. A: i/o timeout".to_owned();
        assert_eq!(texts(log.lines(line(), start)), [line()]);
        assert!(log.ended(start + Duration::from_secs(91)).is_empty(), "it was told already");
    }

    #[test]
    fn an_outage_does_not_fill_the_disk() {
        let (log, start) = (ErrorLog::new(ErrorsConfig::default()), Instant::now());
        let told = (0..1_000).flat_map(|_| log.lines("2 a. A: x".into(), start)).count();
        assert_eq!(told, LINES_PER_SECOND as usize);
        let next = log.lines("2 a. A: x".into(), start + Duration::from_secs(1));
        assert_eq!(texts(next), ["900 more errors were left out", "2 a. A: x"]);
    }
}

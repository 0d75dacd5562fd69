//! How figures are written for people, and tables of them.

use std::io::IsTerminal;

/// Milliseconds, with three digits that say something.
pub fn ms(ms: f64) -> String {
    match ms {
        ms if ms >= 100_000.0 => format!("{:.0} s", ms / 1000.0),
        ms if ms >= 1000.0 => format!("{:.2} s", ms / 1000.0),
        ms if ms >= 100.0 => format!("{ms:.0} ms"),
        ms if ms >= 10.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.3} ms"),
    }
}

/// Seconds since something, to the millisecond.
pub fn seconds(s: f64) -> String {
    format!("{s:.3} s")
}

/// A count, in groups of three digits.
pub fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A part in percent. Neither none nor all is rounded to: one failure of a million is seen.
pub fn percent(part: u64, of: u64) -> String {
    if of == 0 {
        return "-".to_owned();
    }
    let percent = part as f64 * 100.0 / of as f64;
    match percent {
        _ if part == 0 => "0 %".to_owned(),
        _ if part == of => "100 %".to_owned(),
        percent if percent < 0.01 => "< 0.01 %".to_owned(),
        percent if percent > 99.99 => "> 99.99 %".to_owned(),
        percent => format!("{percent:.2} %"),
    }
}

/// The time of day, UTC, of an instant of the run.
pub fn clock(started_unix_ms: u64, at_s: f64) -> String {
    let second = (started_unix_ms as f64 / 1000.0 + at_s) as u64 % 86_400;
    format!("{:02}:{:02}:{:02} UTC", second / 3600, second / 60 % 60, second % 60)
}

/// A text of a file or a command line as part of one line: it moves no cursor.
pub fn line(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { ' ' } else { it }).collect()
}

/// `1 client`, `2 clients`.
pub fn many(number: u64, what: &str) -> String {
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

/// Colours, where they are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint {
    is_on: bool,
}

impl Paint {
    /// None.
    pub const PLAIN: Self = Self { is_on: false };

    /// Colours for standard output, when it is a terminal and NO_COLOR says nothing
    /// (no-color.org).
    pub fn for_stdout() -> Self {
        let is_dumb = std::env::var_os("TERM").is_some_and(|it| it == "dumb");
        let is_refused = std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
        Self { is_on: std::io::stdout().is_terminal() && !is_dumb && !is_refused }
    }

    /// What is wrong.
    pub fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// What is right.
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// What is doubtful.
    pub fn doubtful(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// What heads a part.
    pub fn head(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.is_on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Rows of the same number of columns: the first one to the left, figures to the right.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these heads.
    pub fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|&head| head.to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| line(cell)).collect());
    }

    /// Whether it has nothing but its heads.
    pub fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The lines, aligned, each with two blanks before it. The last column is not filled.
    pub fn text(&self, paint: Paint) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            let line = line.trim_end();
            let line = if index == 0 { paint.head(line) } else { line.to_owned() };
            text.extend(["  ", &line, "\n"]);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_never_hide_the_last_one() {
        assert_eq!(
            [0.12345, 12.345, 123.45, 1234.5, 123_456.0].map(ms).join(" "),
            "0.123 ms 12.3 ms 123 ms 1.23 s 123 s"
        );
        assert_eq!([0, 12, 999, 1000, 1_234_567].map(count).join(" "), "0 12 999 1,000 1,234,567");
        assert_eq!(percent(1, 1_000_000), "< 0.01 %");
        assert_eq!(percent(999_999, 1_000_000), "> 99.99 %");
        assert_eq!(
            [percent(0, 5), percent(5, 5), percent(7, 1000), percent(0, 0)].join(" "),
            "0 % 100 % 0.70 % -"
        );
        assert_eq!(many(1, "client") + " " + &many(2000, "lookup"), "1 client 2,000 lookups");
        assert_eq!(clock(1_700_000_000_000, 12.5), "22:13:32 UTC");
        assert_eq!(line("a\x1b[2J\nb"), "a [2J b");
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["", "p50", "p99"]);
        assert!(table.is_empty());
        table.row(vec!["all".into(), "1 ms".into(), "200 ms".into()]);
        table.row(vec!["external-name".into(), "10 ms".into()]);
        let wanted = "                   p50     p99\n  all             1 ms  200 ms\n  external-name  10 ms\n";
        assert_eq!(table.text(Paint::PLAIN), wanted);
    }

    #[test]
    fn colours_are_only_where_they_are_on() {
        assert_eq!(Paint::PLAIN.bad("x"), "x");
        let paint = Paint { is_on: true };
        assert_eq!(paint.bad("x"), "\x1b[1;31mx\x1b[0m");
    }
}

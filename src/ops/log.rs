//! The log, in CoreDNS's shape, so that what reads its lines keeps working.
//!
//! ```text
//! [INFO] plugin/reload: Running configuration SHA512 = 5bd0…
//! [WARNING] plugin/forward: upstream is down upstream=10.0.0.2:53 failures=3
//! [DEBUG] kube_client::client: …
//! ```
//!
//! A call site names its directive in the field `plugin`, and values in fields of their own:
//! `tracing::warn!(plugin = "forward", upstream = %address, failures, "upstream is down")`. Without
//! `plugin` there is no prefix; an event of another crate is prefixed by its target. There are no
//! timestamps, as CoreDNS has none: container runtimes add them.
//!
//! One event is one line: control characters in messages and values are escaped, so nothing that
//! comes from the network can begin a line of its own.
//!
//! `MAINSTAY_LOG` filters (`debug`, `info,mainstay::forward=trace`). Colours only on a terminal,
//! and not with `NO_COLOR` (no-color.org).

use std::env;
use std::fmt::{self, Write};
use std::io::{self, IsTerminal};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::outlet::Outlet;
use super::{Counters, Error, Flush};

/// The variable that filters.
const FILTER_VARIABLE: &str = "MAINSTAY_LOG";
/// The filter without it. A prefix covers its crates: `kube` is `kube_client` too.
const FILTER_DEFAULT: &str = "info,hyper=warn,tower=warn,kube=info";
/// Octets of a line; what is longer is cut and marked.
const LINE_OCTETS_MAX: usize = 4096;

/// Starts the log on standard output. The caller holds [`Flush`] until the process ends.
///
/// # Errors
/// [`Error::Thread`]; [`Error::Bug`] when the log was started before.
pub fn start(counters: &Counters) -> Result<Flush, Error> {
    start_on(io::stdout(), io::stdout().is_terminal(), FILTER_DEFAULT, counters)
}

/// The same for a command whose output is its result: warnings, on standard error.
///
/// # Errors
/// As [`start`].
pub fn start_beside_output(counters: &Counters) -> Result<Flush, Error> {
    start_on(io::stderr(), io::stderr().is_terminal(), "warn", counters)
}

fn start_on(
    to: impl io::Write + Send + 'static,
    is_terminal: bool,
    default: &str,
    counters: &Counters,
) -> Result<Flush, Error> {
    let outlet = Outlet::start(to, counters.log_lines_lost.clone())?;
    let flush = outlet.flush_at_end();
    let wanted = env::var(FILTER_VARIABLE).ok();
    let (filter, complaint) = filter(wanted.as_deref(), default);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(wants_colours(is_terminal, env::var_os("NO_COLOR").as_deref()))
        .event_format(Shape)
        .with_writer(move || outlet.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|_| Error::Bug("the log was started twice"))?;
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
    Ok(flush)
}

/// The filter, and what is wrong with the one that was wanted. A typing error in it must not keep a
/// cluster without DNS, so the default takes its place.
fn filter(wanted: Option<&str>, default: &str) -> (EnvFilter, Option<String>) {
    let Some(wanted) = wanted.filter(|text| !text.is_empty()) else {
        return (EnvFilter::new(default), None);
    };
    EnvFilter::try_new(wanted).map(|filter| (filter, None)).unwrap_or_else(|error| {
        let complaint = format!(
            "{FILTER_VARIABLE} {wanted:?}: {error}; write a level or target=level, separated by \
             commas; using {default:?}"
        );
        (EnvFilter::new(default), Some(complaint))
    })
}

/// Whether lines are coloured; `no_color` counts when it is not empty.
fn wants_colours(is_terminal: bool, no_color: Option<&std::ffi::OsStr>) -> bool {
    is_terminal && no_color.is_none_or(|value| value.is_empty())
}

/// Formats one event as one line.
struct Shape;

impl<S, N> FormatEvent<S, N> for Shape
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut words = Words::default();
        event.record(&mut words);
        let label = label(*event.metadata().level(), writer.has_ansi_escapes());
        let line = words.line(event.metadata().target());
        writeln!(writer, "{label} {line}")
    }
}

/// `[WARNING]`, and so on, as CoreDNS writes them.
fn label(level: Level, is_coloured: bool) -> &'static str {
    match (level, is_coloured) {
        (Level::ERROR, false) => "[ERROR]",
        (Level::WARN, false) => "[WARNING]",
        (Level::INFO, false) => "[INFO]",
        (Level::DEBUG, false) => "[DEBUG]",
        (Level::TRACE, false) => "[TRACE]",
        (Level::ERROR, true) => "\x1b[31m[ERROR]\x1b[0m",
        (Level::WARN, true) => "\x1b[33m[WARNING]\x1b[0m",
        (Level::INFO, true) => "\x1b[32m[INFO]\x1b[0m",
        (Level::DEBUG, true) => "\x1b[34m[DEBUG]\x1b[0m",
        (Level::TRACE, true) => "\x1b[35m[TRACE]\x1b[0m",
    }
}

/// What an event says.
#[derive(Default)]
struct Words {
    plugin: String,
    message: String,
    /// ` key=value` each.
    fields: String,
}

impl Words {
    /// The line after its label.
    fn line(&self, target: &str) -> String {
        let prefix = match (self.plugin.as_str(), target.split("::").next()) {
            ("", Some("mainstay")) => String::new(),
            ("", _) => format!("{target}: "),
            (plugin, _) => format!("plugin/{plugin}: "),
        };
        let mut line = format!("{prefix}{}{}", self.message, self.fields);
        if line.len() > LINE_OCTETS_MAX {
            let is_boundary = |at: &usize| line.is_char_boundary(*at);
            line.truncate((0..=LINE_OCTETS_MAX).rev().find(is_boundary).unwrap_or(0));
            line.push_str(" [cut]");
        }
        line
    }

    /// Adds a value to where it belongs.
    fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let into = match field.name() {
            "plugin" => &mut self.plugin,
            "message" => &mut self.message,
            name => {
                let name = name.strip_prefix("r#").unwrap_or(name);
                self.fields.extend([" ", name, "="]);
                &mut self.fields
            }
        };
        // Writing to a String fails only when a value's own Display does; then it says no more.
        let _ = Escape(into).write_fmt(value);
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        let is_word = !value.is_empty() && !value.contains([' ', '"', '=']);
        match field.name() {
            "plugin" | "message" => self.put(field, format_args!("{value}")),
            _ if is_word => self.put(field, format_args!("{value}")),
            _ => self.put(field, format_args!("{value:?}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format_args!("{value:?}"));
    }
}

/// Passes text on with its control characters escaped.
struct Escape<'a>(&'a mut String);

impl fmt::Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            match char.is_control() {
                true => self.0.extend(char.escape_default()),
                false => self.0.push(char),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(octets);
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the log has after `events`.
    fn logged(is_coloured: bool, events: impl FnOnce()) -> String {
        let lines = Lines::default();
        let sink = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(is_coloured)
            .event_format(Shape)
            .with_writer(move || sink.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, events);
        String::from_utf8(lines.0.lock().clone()).unwrap()
    }

    #[test]
    fn lines_have_the_shape_of_coredns() {
        let text = logged(false, || {
            tracing::info!(plugin = "reload", "Running configuration SHA512 = {}", "5bd0");
            tracing::warn!(plugin = "forward", upstream = %"10.0.0.2:53", failures = 3, "is down");
            tracing::error!(plugin = "errors", "2 host. A: i/o timeout");
            tracing::info!("Reloading complete");
            tracing::debug!(zone = "a b", empty = "", r#type = ?Some(1), "asked");
        });
        assert_eq!(
            text,
            "[INFO] plugin/reload: Running configuration SHA512 = 5bd0\n\
             [WARNING] plugin/forward: is down upstream=10.0.0.2:53 failures=3\n\
             [ERROR] plugin/errors: 2 host. A: i/o timeout\n\
             [INFO] Reloading complete\n\
             [DEBUG] asked zone=\"a b\" empty=\"\" type=Some(1)\n"
        );
    }

    #[test]
    fn event_of_another_crate_is_prefixed_by_its_target() {
        let text = logged(false, || tracing::warn!(target: "kube_client::client", "no route"));
        assert_eq!(text, "[WARNING] kube_client::client: no route\n");
    }

    #[test]
    fn value_from_the_network_cannot_begin_a_line() {
        let evil = "a\n[ERROR] plugin/errors: forged\u{1b}[2J";
        let text = logged(false, || tracing::info!(name = %evil, other = evil, "got {evil}"));
        assert_eq!(text.matches('\n').count(), 1);
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn endless_line_is_cut_between_characters() {
        let text = logged(false, || tracing::info!("{}", "ä".repeat(LINE_OCTETS_MAX)));
        assert!(text.len() < LINE_OCTETS_MAX + 32);
        assert!(text.ends_with("ä [cut]\n"));
    }

    #[test]
    fn colours_need_a_terminal_and_no_no_color() {
        use std::ffi::OsStr;
        assert!(wants_colours(true, None));
        assert!(wants_colours(true, Some(OsStr::new(""))));
        assert!(!wants_colours(true, Some(OsStr::new("1"))));
        assert!(!wants_colours(false, None));
        let text = logged(true, || tracing::warn!("careful"));
        assert_eq!(text, "\u{1b}[33m[WARNING]\u{1b}[0m careful\n");
    }

    #[test]
    fn filter_that_cannot_be_read_is_told_and_replaced_by_the_default() {
        let (default, complaint) = filter(None, FILTER_DEFAULT);
        assert!(complaint.is_none());
        let (replaced, complaint) = filter(Some("mainstay=loud"), FILTER_DEFAULT);
        assert_eq!(replaced.to_string(), default.to_string());
        assert!(complaint.unwrap().starts_with("MAINSTAY_LOG \"mainstay=loud\": "));
        assert!(filter(Some("debug"), FILTER_DEFAULT).1.is_none());
    }
}

//! A run under way in the text formats of Prometheus and OpenMetrics.
//!
//! Labels come from a fixed list each: kinds of client, kinds of names, outcomes. A target or a
//! name is never one, so the number of series does not grow with what is asked.

use std::fmt::Write;
use std::time::UNIX_EPOCH;

use super::super::record::tally::{BOUNDS_US, Counts};
use super::super::record::{Snapshot, class_name};

/// Which of the text formats. They differ in the names of counters, in units and in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `text/plain; version=0.0.4`, which every collector reads.
    Plain,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
}

impl Format {
    /// For the header of the reply.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What the client reads, by its `Accept`.
    pub fn accepted(accept: &str) -> Self {
        let is_open = accept.contains("application/openmetrics-text");
        if is_open { Self::OpenMetrics } else { Self::Plain }
    }
}

/// All metrics of a run under way.
pub fn text(snapshot: &Snapshot, format: Format) -> String {
    let mut page = Page { text: String::new(), format, name: "" };
    lookups(&mut page, snapshot);
    truth(&mut page, snapshot);
    latency(&mut page, snapshot);
    packets(&mut page, snapshot);
    clients(&mut page, snapshot);
    generator(&mut page, snapshot);
    page.family("mainstay_load_build_info", "gauge", "The version that is running");
    page.sample("", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    page.end()
}

fn lookups(page: &mut Page, snapshot: &Snapshot) {
    page.family("mainstay_load_lookups", "counter", "Lookups that ended, by outcome");
    for group in &snapshot.groups {
        let (resolver, class) = (group.resolver.name(), class_name(group.class));
        for (outcome, count) in group.outcomes.each() {
            let labels = [("resolver", resolver), ("class", class), ("outcome", outcome)];
            page.sample("_total", &labels, count as f64);
        }
    }
    page.family("mainstay_load_sent", "counter", "Packets that were sent for lookups that ended");
    for group in &snapshot.groups {
        let labels = [("resolver", group.resolver.name()), ("class", class_name(group.class))];
        page.sample("_total", &labels, group.packets as f64);
    }
}

fn truth(page: &mut Page, snapshot: &Snapshot) {
    let text = "Lookups whose answer was checked against the cluster, by verdict";
    page.family("mainstay_load_truth", "counter", text);
    for (verdict, count) in snapshot.truths().each() {
        page.sample("_total", &[("verdict", verdict)], count as f64);
    }
}

fn latency(page: &mut Page, snapshot: &Snapshot) {
    let text = "From when a lookup was due to its end";
    page.family("mainstay_load_latency_seconds", "histogram", text);
    let groups = snapshot.groups.chunk_by(|a, b| a.resolver == b.resolver);
    for of_resolver in groups {
        let Some((first, others)) = of_resolver.split_first() else { continue };
        let mut sum = first.clone();
        others.iter().for_each(|other| sum.add(other));
        histogram(page, &sum);
    }
}

fn histogram(page: &mut Page, counts: &Counts) {
    let resolver = ("resolver", counts.resolver.name());
    let mut seen = 0;
    for (bound, count) in BOUNDS_US.iter().zip(counts.by_bound) {
        seen += count;
        let le = (*bound as f64 / 1e6).to_string();
        page.sample("_bucket", &[resolver, ("le", &le)], seen as f64);
    }
    let all = counts.by_bound.iter().sum::<u64>() as f64;
    page.sample("_bucket", &[resolver, ("le", "+Inf")], all);
    page.sample("_sum", &[resolver], counts.sum_us as f64 / 1e6);
    page.sample("_count", &[resolver], all);
}

fn packets(page: &mut Page, snapshot: &Snapshot) {
    let text = "Packets, by what they were: one may be several, such as answered and nxdomain";
    page.family("mainstay_load_packets", "counter", text);
    for (kind, count) in snapshot.packets.each() {
        page.sample("_total", &[("kind", kind)], count as f64);
    }
}

fn clients(page: &mut Page, snapshot: &Snapshot) {
    page.family("mainstay_load_clients", "gauge", "Clients that looked up anything");
    page.sample("", &[], snapshot.clients as f64);
    let text = "Clients whose last two lookups or more failed, but for names that need an upstream";
    page.family("mainstay_load_stuck_clients", "gauge", text);
    page.sample("", &[], snapshot.stuck_clients as f64);
    let text = "Lookups of clients that are too many to be followed";
    page.family("mainstay_load_clients_refused", "counter", text);
    page.sample("_total", &[], snapshot.clients_refused as f64);
    let text = "When the last failed lookup ended; 0 as long as none failed";
    page.family("mainstay_load_last_failure_timestamp_seconds", "gauge", text);
    let started = snapshot.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let failed = snapshot.last_failure.map_or(0.0, |at| (started + at).as_secs_f64());
    page.sample("", &[], failed);
}

fn generator(page: &mut Page, snapshot: &Snapshot) {
    let text = "Lookups that began more than 1 ms late: the fault of this client";
    page.family("mainstay_load_late", "counter", text);
    page.sample("_total", &[], snapshot.late as f64);
    page.family("mainstay_load_not_begun", "counter", "Lookups that were due and never begun");
    page.sample("_total", &[], snapshot.not_begun as f64);
    page.family("mainstay_load_faults", "counter", "Faults that were done");
    page.sample("_total", &[], snapshot.faults as f64);
}

/// The text so far.
struct Page {
    text: String,
    format: Format,
    /// The family that samples belong to.
    name: &'static str,
}

impl Page {
    /// Begins a family; `sample` goes on with it.
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        // The older format names a counter as its samples are.
        let suffix = if self.format == Format::Plain && kind == "counter" { "_total" } else { "" };
        self.line(format_args!("# HELP {name}{suffix} {}", escape(help, self.format)));
        self.line(format_args!("# TYPE {name}{suffix} {kind}"));
        if self.format == Format::OpenMetrics && name.ends_with("_seconds") {
            self.line(format_args!("# UNIT {name} seconds"));
        }
        self.name = name;
    }

    /// Adds a sample of the family.
    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: f64) {
        let mut text = String::new();
        for (name, value) in labels {
            let comma = if text.is_empty() { "" } else { "," };
            // Writing to a String does not fail.
            let _ = write!(text, "{comma}{name}=\"{}\"", escape_label(value));
        }
        let labels = if text.is_empty() { text } else { format!("{{{text}}}") };
        let name = self.name;
        self.line(format_args!("{name}{suffix}{labels} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// Escapes a help text: only OpenMetrics escapes quotes there.
fn escape(text: &str, format: Format) -> String {
    match format {
        Format::Plain => text.replace('\\', r"\\").replace('\n', r"\n"),
        Format::OpenMetrics => escape_label(text),
    }
}

/// Escapes the value of a label.
fn escape_label(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::time::Duration;

    use tokio::time::Instant;

    use super::super::super::record::{Outcome, Recorder, Sample};
    use super::super::super::resolver::Resolver;
    use super::super::super::run::Course;
    use super::super::super::tasks::Class;
    use super::*;

    fn snapshot() -> Snapshot {
        let recorder = Recorder::new(Course::new(Instant::now(), None), Duration::from_secs(1));
        let shard = recorder.shard();
        for at in 0..100_u64 {
            let outcome = if at % 10 == 0 { Outcome::UnknownHost } else { Outcome::Ok };
            let resolver = if at % 2 == 0 { Resolver::CAres } else { Resolver::Jvm };
            let class = if at % 3 == 0 { Class::ExternalName } else { Class::Service };
            shard.lookups(&[Sample {
                due: Duration::from_millis(at),
                took: Duration::from_micros(at * at * 3000),
                outcome,
                judgement: None,
                class,
                resolver,
                client: (at % 5) as u32,
                packets: 4,
            }]);
        }
        recorder.snapshot()
    }

    /// Reads the older format, or OpenMetrics, as strictly as collectors do.
    fn read(text: &str) -> BTreeMap<String, f64> {
        let (mut samples, mut families) = (BTreeMap::new(), BTreeSet::new());
        let mut family = (String::new(), String::new());
        for text in text.lines() {
            if let Some(typed) = text.strip_prefix("# TYPE ") {
                let (name, kind) = typed.split_once(' ').unwrap();
                assert!(families.insert(name.to_owned()), "{name} twice");
                family = (name.to_owned(), kind.to_owned());
                continue;
            }
            if text.starts_with('#') {
                continue;
            }
            let (name, labels, value) = sample(text).unwrap_or_else(|| panic!("{text:?}"));
            let suffix = name.strip_prefix(&*family.0).unwrap_or_else(|| panic!("{text:?}"));
            let fits = match &*family.1 {
                "counter" => ["", "_total"].contains(&suffix) && name.ends_with("_total"),
                "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
                _ => suffix.is_empty(),
            };
            assert!(fits, "{text:?} in {family:?}");
            let key = format!("{name}{labels}");
            assert!(samples.insert(key, value).is_none(), "{text:?} twice");
        }
        samples
    }

    /// Name, labels and value of a line.
    fn sample(text: &str) -> Option<(&str, &str, f64)> {
        let (series, value) = text.rsplit_once(' ')?;
        let (name, labels) = series.split_at(series.find('{').unwrap_or(series.len()));
        let is_word = |word: &str| {
            let is_letter = |it: char| it.is_ascii_lowercase() || it == '_';
            !word.is_empty() && word.chars().all(is_letter)
        };
        // No label of ours has a comma or a quote in it.
        let is_label = |label: &str| {
            let (name, value) = label.split_once('=').unwrap_or_default();
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            is_word(name) && value.is_some_and(|value| !value.contains(['"', '\\', '\n']))
        };
        let inner = labels.strip_prefix('{').and_then(|labels| labels.strip_suffix('}'));
        let fits = labels.is_empty() || inner.is_some_and(|it| it.split(',').all(is_label));
        (fits && is_word(name)).then_some((name, labels, value.parse().ok()?))
    }

    #[test]
    fn both_formats_say_the_same() {
        let snapshot = snapshot();
        let plain = text(&snapshot, Format::Plain);
        let open = text(&snapshot, Format::OpenMetrics);
        assert_eq!(read(&plain), read(&open));
        assert!(open.ends_with("# EOF\n") && !plain.contains("# EOF"));
        assert!(plain.contains("# TYPE mainstay_load_lookups_total counter\n"));
        assert!(open.contains("# TYPE mainstay_load_lookups counter\n"));
        assert!(open.contains("# UNIT mainstay_load_latency_seconds seconds\n"));
        assert_eq!(Format::accepted("application/openmetrics-text;q=1,*/*"), Format::OpenMetrics);
        assert_eq!(Format::accepted("*/*"), Format::Plain);
    }

    #[test]
    fn counts_are_those_of_the_run() {
        let samples = read(&text(&snapshot(), Format::Plain));
        let lookups = samples.iter().filter(|it| it.0.starts_with("mainstay_load_lookups_total"));
        assert_eq!(lookups.map(|it| it.1).sum::<f64>(), 100.0);
        let key = "mainstay_load_latency_seconds_bucket{resolver=\"c-ares\",le=\"+Inf\"}";
        assert_eq!(samples[key], 50.0);
        assert_eq!(samples["mainstay_load_latency_seconds_count{resolver=\"jvm\"}"], 50.0);
        assert!(samples["mainstay_load_last_failure_timestamp_seconds"] > 1.6e9);
        assert_eq!(samples["mainstay_load_clients"], 10.0);
    }

    #[test]
    fn buckets_rise() {
        let samples = read(&text(&snapshot(), Format::Plain));
        let mut buckets: Vec<(f64, f64)> = samples
            .iter()
            .filter_map(|(key, count)| {
                let le =
                    key.strip_prefix("mainstay_load_latency_seconds_bucket{resolver=\"jvm\",")?;
                let le = le.strip_prefix("le=\"")?.strip_suffix("\"}")?;
                Some((le.parse().unwrap_or(f64::INFINITY), *count))
            })
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert_eq!(buckets.len(), BOUNDS_US.len() + 1);
        assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{buckets:?}");
        // 1² · 3 ms is the fastest of them.
        assert_eq!(buckets.iter().find(|it| it.0 == 0.005), Some(&(0.005, 1.0)));
    }

    #[test]
    fn labels_are_escaped() {
        assert_eq!(escape_label("a\"b\\c\nd"), r#"a\"b\\c\nd"#);
        assert_eq!(escape("a\"b\\c\nd", Format::Plain), r#"a"b\\c\nd"#);
    }
}

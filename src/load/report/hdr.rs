//! A log of HdrHistograms, as HdrHistogram's own tools read it: one interval, the run, with a tag
//! per kind of name and per kind of client.
//!
//! Those tools take values for nanoseconds, so it has nanoseconds.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::super::Error;
use super::{Group, Report, histogram, json};

/// Nanoseconds per microsecond.
const NS_PER_US: u64 = 1000;
/// Nanoseconds per millisecond, in which the log tells the longest.
const NS_PER_MS: f64 = 1e6;

/// Writes the log, to standard output for `-`.
///
/// # Errors
/// The file cannot be written, or the report (of another program) has broken histograms.
pub fn write(report: &Report, path: &Path) -> Result<(), Error> {
    let log = log(report).map_err(|why| Error::Config(format!("{}: {why}", path.display())))?;
    json::write_file(path, &log)
}

/// The log.
///
/// # Errors
/// What is wrong with the histograms of the report.
pub fn log(report: &Report) -> Result<Vec<u8>, String> {
    let mut log = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let started = UNIX_EPOCH + Duration::from_millis(report.started_unix_ms);
    let mut builder = IntervalLogWriterBuilder::new();
    builder
        .add_comment(&format!("[Latencies in nanoseconds, logged by {}]", line(&report.made_by)))
        .with_start_time(started)
        .with_base_time(started)
        .with_max_value_divisor(NS_PER_MS);
    let mut writer =
        builder.begin_log_with(&mut log, &mut serializer).map_err(|error| error.to_string())?;
    let length = Duration::try_from_secs_f64(report.duration_s).unwrap_or_default();
    for (name, group) in tagged(report) {
        let histogram = nanoseconds(&histogram::decode(&group.latency.histogram)?);
        let tag = Tag::new(&name).filter(|tag| !tag.is_empty());
        writer
            .write_histogram(&histogram, Duration::ZERO, length, tag)
            .map_err(|error| error.to_string())?;
    }
    Ok(log)
}

/// All groups with their tags; all lookups have none.
fn tagged<'r>(report: &'r Report) -> impl Iterator<Item = (String, &'r Group)> {
    let of = |kind: &'static str, groups: &'r BTreeMap<String, Group>| {
        groups.iter().map(move |(name, group)| (format!("{kind}.{}", word(name)), group))
    };
    std::iter::once((String::new(), &report.total))
        .chain(of("class", &report.by_class))
        .chain(of("resolver", &report.by_resolver))
}

/// The same values a thousand times as large.
fn nanoseconds(microseconds: &Histogram<u64>) -> Histogram<u64> {
    let mut histogram = histogram::empty();
    for value in microseconds.iter_recorded() {
        let middle = microseconds.median_equivalent(value.value_iterated_to());
        let ns = middle.saturating_mul(NS_PER_US);
        histogram::record_n(&mut histogram, ns, value.count_at_value());
    }
    histogram
}

/// A tag cannot have commas and blanks, which a report of another program may have.
fn word(name: &str) -> String {
    name.replace(|c: char| c == ',' || c.is_whitespace() || c.is_control(), "_")
}

/// A text as part of one line.
fn line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::super::sample;
    use super::*;

    /// Tags and histograms of a log, as the reader of the crate sees them.
    fn read_log(log: &[u8]) -> Vec<(String, Histogram<u64>)> {
        let read = |entry| match entry {
            LogEntry::Interval(interval) => Some((
                interval.tag().map(|tag| tag.as_str().to_owned()).unwrap_or_default(),
                histogram::decode(interval.encoded_histogram()).unwrap(),
            )),
            _ => None,
        };
        IntervalLogIterator::new(log).filter_map(|entry| read(entry.unwrap())).collect()
    }

    #[test]
    fn each_group_is_an_interval_in_nanoseconds() {
        let report = sample::report();
        let intervals = read_log(&log(&report).unwrap());
        let tags: Vec<&str> = intervals.iter().map(|(tag, _)| &**tag).collect();
        assert_eq!(tags, ["", "class.service", "resolver.glibc"]);
        for (_, histogram) in &intervals {
            assert_eq!(histogram.len(), 1000);
            let p50 = histogram.value_at_quantile(0.5) as f64 / NS_PER_MS;
            assert!((p50 - report.total.latency.p50).abs() < 0.002 * p50, "{p50}");
        }
    }

    #[test]
    fn odd_names_make_no_odd_lines() {
        let mut report = sample::report();
        let group = report.total.clone();
        report.by_class.insert("a b,c\nd".to_owned(), group);
        report.made_by = "x\ny".to_owned();
        let text = String::from_utf8(log(&report).unwrap()).unwrap();
        assert!(text.contains("Tag=class.a_b_c_d,0.000,30.000,10.0"), "{text}");
        assert!(text.starts_with("#[Latencies in nanoseconds, logged by x y]\n#[StartTime: 17000"));
    }

    #[test]
    fn a_broken_histogram_is_said() {
        let mut report = sample::report();
        report.total.latency.histogram = "HIST".to_owned();
        assert!(log(&report).unwrap_err().contains("histogram"));
    }
}

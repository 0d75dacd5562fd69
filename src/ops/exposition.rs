//! `/metrics`: one registry, in the OpenMetrics text format or in the older one of Prometheus.
//!
//! Who asks for OpenMetrics in `Accept` gets it; everybody else gets the older format, because many
//! collectors (promtool, Telegraf, agents of vendors) read nothing else. The formats differ in the
//! names of counters in `# HELP` and `# TYPE`, in `# UNIT` and in the end mark, so [`plain`]
//! derives one from the other. Only counters, gauges and histograms are published: the older format
//! refuses the types `info` and `unknown`.

use std::collections::HashSet;
use std::fmt;

use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::Counters;
use super::counters::present;
use super::process::Process;

/// Content type of OpenMetrics.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Content type of the older text format.
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What was built (`coredns_build_info`).
#[derive(Clone, Copy, Debug)]
pub struct Build {
    pub version: &'static str,
    /// Commit of the source.
    pub revision: &'static str,
}

impl Collector for Build {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        // CoreDNS has the version of its compiler here; dashboards group by the label.
        let labels =
            [("version", self.version), ("revision", self.revision), ("goversion", "none (rust)")];
        let text = "The version that is running";
        present(&mut encoder, "coredns_build_info", text, std::iter::once(labels))
    }
}

/// The registry and its page. Complete before it is shared: rooms add their collectors at start.
#[derive(Debug)]
pub struct Exposition {
    registry: Registry,
    counters: Counters,
}

impl Exposition {
    /// The numbers of the process and of `counters`.
    pub fn new(counters: Counters, build: Build) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(build));
        registry.register_collector(Box::new(Process));
        counters.register(&mut registry);
        Self { registry, counters }
    }

    /// Where a room adds its numbers: a collector, or a counter without its `_total`.
    pub fn registry_mut(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// The counters that belong to no room.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The page, in the format that `Accept` asks for.
    pub(super) fn page(&self, headers: &HeaderMap) -> Response {
        let Ok(text) = self.open_metrics() else {
            return (StatusCode::INTERNAL_SERVER_ERROR, "a collector failed").into_response();
        };
        if accepts_open_metrics(headers) {
            return ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response();
        }
        ([(CONTENT_TYPE, PLAIN)], plain(&text)).into_response()
    }

    /// All metrics in the format of OpenMetrics.
    ///
    /// # Errors
    /// A collector failed; nothing in here does.
    pub fn open_metrics(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Whether the client names OpenMetrics among what it reads. Prometheus prefers it where it does.
fn accepts_open_metrics(headers: &HeaderMap) -> bool {
    let names = |value: &axum::http::HeaderValue| {
        value.to_str().is_ok_and(|text| text.contains("application/openmetrics-text"))
    };
    headers.get_all(ACCEPT).iter().any(names)
}

/// The older text format of the same metrics.
fn plain(open_metrics: &str) -> String {
    let counter = |line: &'_ str| -> Option<_> {
        Some(line.strip_prefix("# TYPE ")?.strip_suffix(" counter")?.to_owned())
    };
    let counters: HashSet<String> = open_metrics.lines().filter_map(counter).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines() {
        if line == "# EOF" || line.starts_with("# UNIT ") {
            continue;
        }
        match described(line).filter(|(_, name, _)| counters.contains(*name)) {
            Some((keyword, name, rest)) => text.extend([keyword, name, "_total ", rest]),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// Splits `# HELP name text` and `# TYPE name type` after the keyword and after the name.
fn described(line: &str) -> Option<(&str, &str, &str)> {
    let keyword = ["# HELP ", "# TYPE "].into_iter().find(|keyword| line.starts_with(keyword))?;
    let (name, rest) = line[keyword.len()..].split_once(' ')?;
    Some((keyword, name, rest))
}

//! What a scrape of `/metrics` gets: the names, types and labels that dashboards were made for.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use mainstay::ops::{
    Build, Counters, Exposition, Listen, Page, Pages, PluginEnabled, RunningPlan, Sources,
};

const OPEN_METRICS: &str = "application/openmetrics-text";

/// A reply of `/metrics`.
struct Scrape {
    head: String,
    body: String,
}

impl Scrape {
    /// The value of a sample by its name and labels as written.
    fn value(&self, sample: &str) -> f64 {
        let found = self.samples().find(|(name, _)| *name == sample);
        found.unwrap_or_else(|| panic!("no {sample} in\n{}", self.body)).1
    }

    fn samples(&self) -> impl Iterator<Item = (&str, f64)> {
        self.body.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            (sample, value.parse().unwrap())
        })
    }

    /// Type by name of family.
    fn types(&self) -> BTreeMap<&str, &str> {
        let described = self.body.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        described.map(|line| line.split_once(' ').unwrap()).collect()
    }
}

/// Counts and publishes something of everything.
fn counters() -> Counters {
    let counters = Counters::default();
    counters.panics.inc();
    counters.reload_failed.inc_by(2);
    let enabled = |name: &str| PluginEnabled {
        server: "dns://:53".to_owned(),
        zone: ".".to_owned(),
        view: String::new(),
        name: name.to_owned(),
    };
    let plugins = vec![enabled("kubernetes"), enabled("cache")];
    counters.publish(RunningPlan { sha512: "5bd0".to_owned(), plugins });
    counters
}

fn scrape(counters: Counters, accept: &str) -> Scrape {
    let build = Build { version: "1.2.3", revision: "abc\"def" };
    let exposition = Arc::new(Exposition::new(counters, build));
    let mut pages = Pages::start(Sources { readiness: Arc::default(), exposition }).unwrap();
    let address = "127.0.0.1:0".parse().unwrap();
    let bound = pages.listen(&[Listen { page: Page::Metrics, address }]).unwrap();
    let mut stream = TcpStream::connect(bound[0]).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    Scrape { head: head.to_owned(), body: body.to_owned() }
}

#[test]
fn names_labels_and_values_are_those_of_coredns() {
    let scrape = scrape(counters(), OPEN_METRICS);
    for (sample, value) in [
        (r#"coredns_build_info{version="1.2.3",revision="abc\"def",goversion="none (rust)"}"#, 1.0),
        (r#"coredns_reload_version_info{hash="sha512",value="5bd0"}"#, 1.0),
        (r#"coredns_plugin_enabled{server="dns://:53",zone=".",view="",name="kubernetes"}"#, 1.0),
        (r#"coredns_plugin_enabled{server="dns://:53",zone=".",view="",name="cache"}"#, 1.0),
        ("coredns_panics_total", 1.0),
        ("coredns_reload_failed_total", 2.0),
        ("coredns_health_request_failures_total", 0.0),
        ("coredns_health_request_duration_seconds_count", 0.0),
        (r#"coredns_health_request_duration_seconds_bucket{le="0.00025"}"#, 0.0),
        (r#"coredns_health_request_duration_seconds_bucket{le="2.5"}"#, 0.0),
        (r#"coredns_health_request_duration_seconds_bucket{le="+Inf"}"#, 0.0),
        ("mainstay_log_lines_lost_total", 0.0),
    ] {
        assert_eq!(scrape.value(sample), value, "{sample}");
    }
}

#[test]
fn process_has_the_standard_names_and_plausible_values() {
    let scrape = scrape(counters(), OPEN_METRICS);
    assert!(scrape.value("process_cpu_seconds_total") >= 0.0);
    assert!(scrape.value("process_resident_memory_bytes") > 100_000.0);
    assert!(
        scrape.value("process_virtual_memory_bytes")
            >= scrape.value("process_resident_memory_bytes")
    );
    assert!(scrape.value("process_open_fds") >= 3.0);
    assert!(scrape.value("process_max_fds") >= scrape.value("process_open_fds"));
    // After 2020, in seconds.
    assert!(scrape.value("process_start_time_seconds") > 1.5e9);
}

#[test]
fn open_metrics_is_marked_ended_and_names_counters_without_total() {
    let scrape = scrape(counters(), "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    assert!(scrape.head.contains("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(scrape.body.ends_with("\n# EOF\n"));
    let types = scrape.types();
    assert_eq!(types["coredns_panics"], "counter");
    assert_eq!(types["coredns_build_info"], "gauge");
    assert_eq!(types["coredns_reload_version_info"], "gauge");
    assert_eq!(types["coredns_health_request_duration_seconds"], "histogram");
}

#[test]
fn older_text_format_names_counters_as_their_samples() {
    let scrape = scrape(counters(), "*/*");
    assert!(scrape.head.contains("text/plain; version=0.0.4; charset=utf-8"));
    assert!(!scrape.body.contains("# EOF") && !scrape.body.contains("# UNIT"));
    let types = scrape.types();
    assert_eq!(types["coredns_panics_total"], "counter");
    assert_eq!(types["process_cpu_seconds_total"], "counter");
    assert!(scrape.body.contains("# HELP coredns_panics_total "));
    assert_eq!(scrape.value("coredns_panics_total"), 1.0);
}

/// The reader of client_golang, as in promtool, refuses other types and repeated families.
#[test]
fn both_formats_hold_only_types_that_go_reads_and_each_sample_once() {
    for accept in [OPEN_METRICS, "text/plain"] {
        let scrape = scrape(counters(), accept);
        for (family, of) in scrape.types() {
            assert!(["counter", "gauge", "histogram"].contains(&of), "{family} {of}");
        }
        let count = scrape.body.lines().filter(|line| line.starts_with("# TYPE ")).count();
        assert_eq!(scrape.types().len(), count);
        let names: BTreeMap<_, _> = scrape.samples().collect();
        assert_eq!(names.len(), scrape.samples().count());
    }
}

#[test]
fn plan_that_is_published_replaces_the_former_whole() {
    let counters = counters();
    counters.publish(RunningPlan { sha512: "aaaa".to_owned(), plugins: Vec::new() });
    let scrape = scrape(counters, OPEN_METRICS);
    assert!(!scrape.body.contains("5bd0") && !scrape.body.contains("coredns_plugin_enabled{"));
    assert_eq!(scrape.value(r#"coredns_reload_version_info{hash="sha512",value="aaaa"}"#), 1.0);
}

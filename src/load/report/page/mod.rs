//! The report as one page for people: it needs no other file, no network and no server.
//!
//! ```text
//! Report ──► words.js: sentences and tables ─┐
//!        ──► plots.js: plots, as inline SVG ─┼─► page.html, with style, scripts and figures
//! curves ──► percentiles up to 99.999… % ────┘
//! ```
//!
//! The browser may load nothing (Content-Security-Policy), and whatever a report says is text to
//! it: names come from command lines and files of others.

use serde::Serialize;

use super::{Group, Report};

mod curve;

use curve::Curve;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const WORDS: &str = include_str!("words.js");
const PLOTS: &str = include_str!("plots.js");
const SCRIPT: &str = include_str!("page.js");

/// What the scripts of the page read.
#[derive(Serialize)]
struct Figures<'a> {
    report: &'a Report,
    /// Of all lookups, then by kind of client, then by kind of name.
    curves: Vec<Curve>,
}

/// The page.
pub fn write(report: &Report) -> String {
    let figures = Figures { curves: curves(report), report: &without_histograms(report) };
    let figures = serde_json::to_string(&figures).expect("a report has no keys but texts");
    // Last, because it may hold any text; the others are ours.
    PAGE.replace("/* page.css */", STYLE)
        .replace("/* words.js */", WORDS)
        .replace("/* plots.js */", PLOTS)
        .replace("/* page.js */", SCRIPT)
        .replace("\"figures\"", &escape(&figures))
}

/// JSON that may stand inside of a script element: nothing in it can end the element.
fn escape(json: &str) -> String {
    // Outside of strings JSON has none of these, and in them the escape means the same.
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

/// The percentile curves of all groups that have a histogram.
fn curves(report: &Report) -> Vec<Curve> {
    let total = Curve::new("all", "total", &report.total.latency);
    let of = |kind, name: &String, group: &Group| Curve::new(kind, name, &group.latency);
    let resolvers = report.by_resolver.iter().map(|(name, group)| of("resolver", name, group));
    let classes = report.by_class.iter().map(|(name, group)| of("class", name, group));
    [total].into_iter().chain(resolvers).chain(classes).flatten().collect()
}

/// The page shows curves instead: a histogram is long, and no browser reads it.
fn without_histograms(report: &Report) -> Report {
    let mut report = report.clone();
    let groups = report.by_class.values_mut().chain(report.by_resolver.values_mut());
    for group in groups.chain([&mut report.total]) {
        group.latency.histogram.clear();
    }
    report.generator.lateness.histogram.clear();
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_report_says_ends_the_script_or_becomes_markup() {
        let title = "</script><img src=x onerror=alert(1)><!-- & /* page.js */ \"figures\"";
        let page = write(&Report { title: title.to_owned(), ..Report::default() });
        assert!(!page.contains("<img src=x"));
        assert_eq!(page.matches("</script>").count(), 2);
        let figures = page.split("type=\"application/json\">").nth(1).unwrap();
        let figures = figures.split("</script>").next().unwrap();
        let read: serde_json::Value = serde_json::from_str(figures).unwrap();
        assert_eq!(read["report"]["title"], title);
    }

    #[test]
    fn the_page_names_nothing_that_a_browser_would_load() {
        let page = write(&Report::default());
        assert!(page.contains("default-src 'none'"));
        // The one address is the name of a language, which nobody fetches.
        let addresses = page.replace("http://www.w3.org/2000/svg", "");
        for word in ["http:", "https:", "src=", "@import", "url(", "<link", "/* page.", "/* words"]
        {
            assert!(!addresses.contains(word), "{word}");
        }
    }

    #[test]
    fn histograms_are_left_out() {
        let mut report = Report::default();
        report.total.latency.histogram = "HISTFAAAAC".to_owned();
        assert!(!write(&report).contains("HISTFAAAAC"));
    }
}

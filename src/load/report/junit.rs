//! Goals as test cases, for what shows the results of builds.
//!
//! Without goals there is one case for the whole run and one for each fault: no lookup failed.

use std::fmt::Write;
use std::path::Path;

use super::super::Error;
use super::super::record::COMPLETE;
use super::{FaultMark, Report, json};

/// One test case.
struct Case {
    name: String,
    /// Why it failed.
    failure: Option<String>,
}

/// Writes the test cases, to standard output for `-`.
///
/// # Errors
/// The file cannot be written.
pub fn write(report: &Report, path: &Path) -> Result<(), Error> {
    json::write_file(path, text(report).as_bytes())
}

/// The test cases as XML.
pub fn text(report: &Report) -> String {
    let cases = cases(report);
    let failures = cases.iter().filter(|case| case.failure.is_some()).count();
    let counts = format!("tests=\"{}\" failures=\"{failures}\"", cases.len());
    let time = format!("time=\"{:.3}\"", report.duration_s);
    let name = escape(&format!("mainstay {}", report.title));
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts} {time}>\n  \
         <testsuite name=\"{name}\" {counts} errors=\"0\" skipped=\"0\" {time}>\n"
    );
    cases.iter().for_each(|case| add(&mut text, case, &name, &time));
    text.push_str("  </testsuite>\n</testsuites>\n");
    text
}

fn add(text: &mut String, case: &Case, class: &str, time: &str) {
    // Writing to a String does not fail.
    let name = escape(&case.name);
    let _ = write!(text, "    <testcase classname=\"{class}\" name=\"{name}\" {time}");
    let _ = match &case.failure {
        None => writeln!(text, "/>"),
        Some(why) => {
            let why = escape(why);
            writeln!(text, ">\n      <failure message=\"{why}\">{why}</failure>\n    </testcase>")
        }
    };
}

fn cases(report: &Report) -> Vec<Case> {
    if !report.slo.is_empty() {
        let goals = report.slo.iter().map(|goal| Case {
            name: goal.goal.clone(),
            failure: (!goal.is_met).then(|| format!("{}: seen {}", goal.goal, goal.seen)),
        });
        return goals.collect();
    }
    let all = Case { name: "no failed lookups".to_owned(), failure: whole(report) };
    std::iter::once(all).chain(report.faults.iter().map(fault)).collect()
}

/// Why the run as a whole is no success.
fn whole(report: &Report) -> Option<String> {
    let recovery = &report.total.recovery;
    if report.total.lookups == 0 {
        return Some("no lookup ended".to_owned());
    }
    if report.ended != COMPLETE {
        return Some(format!("the run did not come to its end: {}", report.ended));
    }
    (recovery.failed > 0).then(|| {
        let last = recovery.last_failure_s.unwrap_or_default();
        let of = report.total.lookups;
        format!("{} of {of} lookups failed, the last one at {last:.3} s", recovery.failed)
    })
}

fn fault(fault: &FaultMark) -> Case {
    let failed = (fault.failed > 0).then(|| {
        let last = fault.last_failure_after_s.unwrap_or_default();
        format!("{} lookups failed, the last one {last:.3} s after the fault", fault.failed)
    });
    let not_done = fault.error.as_ref().map(|why| format!("it could not be done: {why}"));
    Case { name: format!("no failed lookups after {}", fault.what), failure: not_done.or(failed) }
}

/// Escapes text of elements and attributes. XML 1.0 has no way to write other control characters.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\n' | '\t' | '\r' => escaped.push(' '),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            control if control < ' ' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::{Goal, sample};
    use super::*;

    #[test]
    fn each_goal_is_a_case() {
        let goal = |goal: &str, seen: &str, is_met| Goal {
            goal: goal.to_owned(),
            seen: seen.to_owned(),
            is_met,
        };
        let slo = vec![goal("p99<5ms", "9.90 ms", false), goal("unknown_host<=7", "7", true)];
        let text = text(&Report { slo, ..sample::report() });
        assert!(text.contains("<testsuites tests=\"2\" failures=\"1\" time=\"30.000\">"), "{text}");
        assert!(text.contains("name=\"unknown_host&lt;=7\" time=\"30.000\"/>"), "{text}");
        let failure = "<failure message=\"p99&lt;5ms: seen 9.90 ms\">";
        assert!(text.contains(failure), "{text}");
    }

    #[test]
    fn without_goals_each_fault_is_a_case() {
        let told = text(&sample::report());
        assert!(told.contains("tests=\"2\" failures=\"2\""), "{told}");
        assert!(told.contains("7 of 1000 lookups failed, the last one at 12.500 s"), "{told}");
        assert!(told.contains("name=\"no failed lookups after kill9@10s\""), "{told}");
        assert!(text(&sample::with(0)).contains("tests=\"2\" failures=\"0\""));
        let empty = text(&Report::default());
        assert!(empty.contains("no lookup ended"), "nothing is no success: {empty}");
    }

    #[test]
    fn a_run_that_did_not_come_to_its_end_is_a_failure() {
        let ended = "interrupted".to_owned();
        let text = text(&Report { ended, ..sample::with(0) });
        assert!(text.contains("did not come to its end: interrupted"), "{text}");
    }

    #[test]
    fn a_fault_that_was_not_done_is_a_failure() {
        let mut report = sample::with(0);
        report.faults[0].error = Some("no <process>".to_owned());
        assert!(text(&report).contains("it could not be done: no &lt;process&gt;"));
    }

    #[test]
    fn no_text_breaks_the_xml() {
        let nasty: String = (0..=255_u8).map(char::from).chain(['\u{ffff}', '😀']).collect();
        let goals = vec![Goal { goal: nasty.clone(), seen: nasty, is_met: false }];
        let text = text(&Report { slo: goals, ..sample::report() });
        assert!(text.chars().all(|it| it >= ' ' || it == '\n'));
        let entities = ["amp;", "lt;", "gt;", "quot;", "apos;"];
        let is_entity = |rest: &str| entities.iter().any(|entity| rest.starts_with(entity));
        assert!(text.split('&').skip(1).all(is_entity), "{text}");
        assert_eq!(text.matches('<').count(), text.matches('>').count());
        assert_eq!(text.matches("<testcase").count(), 1);
    }
}

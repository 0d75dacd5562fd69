//! The results as tables.

use crate::cases::{self, Case};
use crate::runs::Outcome;
use crate::{OURS, THEIRS};

/// How the servers are called in tables.
const SERVERS: [(&str, &str); 2] = [(OURS, "Mainstay"), (THEIRS, "CoreDNS")];

/// For each fault a row, for each application a column: how many lookups failed with Mainstay and
/// with CoreDNS. At the end, when the last one did.
pub fn table(outcomes: &[Outcome]) -> String {
    let applications = applications(outcomes);
    let mut text = head_of_table(&applications, "last failure", "rules follow after");
    for case in cases_of(outcomes) {
        let counts = applications.iter().map(|application| {
            beside(|server| find(outcomes, &case, server, application).map(count))
        });
        let last = beside(|server| last(outcomes, &case, server));
        let cells: Vec<String> = counts.chain([last]).collect();
        text += &format!("| {} | {} |\n", head(&case), cells.join(" | "));
    }
    text
}

/// For each fault and server a row, for each application a column: failed lookups of all, when the
/// last one failed, and how long the slowest one took.
pub fn details(outcomes: &[Outcome]) -> String {
    let applications = applications(outcomes);
    let mut text = head_of_table(&applications, "server", "rules follow after");
    for case in cases_of(outcomes) {
        for (server, title) in SERVERS {
            let of = |application: &&str| find(outcomes, &case, server, application).map(detail);
            let cells: Vec<String> = applications.iter().filter_map(of).collect();
            text += &format!("| {} | {} | {title} |\n", head(&case), cells.join(" | "));
        }
    }
    text
}

fn head_of_table(applications: &[&str], last: &str, lag: &str) -> String {
    let names = applications.join(" | ");
    let columns = "---|".repeat(applications.len() + 1);
    format!("| what happens | {lag} | {names} | {last} |\n|---|---|{columns}\n")
}

/// The applications, in the order that they come in.
fn applications(outcomes: &[Outcome]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for outcome in outcomes {
        if !names.contains(&&*outcome.application) {
            names.push(&outcome.application);
        }
    }
    names
}

/// What was measured, in the order that we tell it in.
fn cases_of(outcomes: &[Outcome]) -> Vec<Case> {
    let is_same =
        |case: &Case, other: &Case| case.fault == other.fault && case.lag_s == other.lag_s;
    let mut cases: Vec<Case> = Vec::new();
    for case in cases::all().into_iter().chain(cases::short()) {
        let is_known = cases.iter().any(|other| is_same(&case, other));
        if !is_known && outcomes.iter().any(|outcome| outcome.is_of(&case)) {
            cases.push(case);
        }
    }
    cases
}

/// What happens, and how late the rules follow, where they do.
fn head(case: &Case) -> String {
    let lag = if case.has_lag() { format!("{} s", case.lag_s) } else { String::new() };
    format!("{} | {lag}", case.fault)
}

/// What is said of both servers.
fn beside(of: impl Fn(&str) -> Option<String>) -> String {
    SERVERS.map(|(server, _)| of(server).unwrap_or_else(|| "?".to_owned())).join(" · ")
}

fn count(outcome: &Outcome) -> String {
    outcome.sums.failed.to_string()
}

fn detail(outcome: &Outcome) -> String {
    let sums = &outcome.sums;
    let last = outcome.last_s.map_or(String::new(), |last_s| format!(", last {last_s:.1} s"));
    format!("{} of {}{last}, slowest {:.1} s", sums.failed, sums.lookups, sums.slowest_s)
}

/// When the last lookup of all applications failed.
fn last(outcomes: &[Outcome], case: &Case, server: &str) -> Option<String> {
    let of_both = outcomes.iter().filter(|outcome| outcome.is_of(case));
    let of_server: Vec<&Outcome> = of_both.filter(|outcome| outcome.server == server).collect();
    let last = of_server.iter().filter_map(|outcome| outcome.last_s).reduce(f64::max);
    let text = last.map_or("never".to_owned(), |last_s| format!("{last_s:.1} s"));
    (!of_server.is_empty()).then_some(text)
}

fn find<'a>(
    outcomes: &'a [Outcome],
    case: &Case,
    server: &str,
    application: &str,
) -> Option<&'a Outcome> {
    outcomes.iter().find(|outcome| {
        outcome.is_of(case) && outcome.server == server && outcome.application == application
    })
}

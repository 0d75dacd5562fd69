//! The directives, one file per family, each a table of its options.

mod cache;
pub(super) mod external;
mod forward;
mod kubernetes;
mod ops;
mod simple;
mod transfer;

use super::ServerBlock;
use super::grammar::{Form, Row};
use super::parse::Statement;
use super::problem::{Findings, Problem, shown};
use super::suggest::nearest;

/// A directive as the server block sees it.
pub(super) struct Directive {
    pub name: &'static str,
    /// Whether one block may hold several, as `forward` and `transfer` may.
    pub repeats: bool,
    pub rows: fn() -> Vec<Row>,
    pub apply: fn(&mut ServerBlock, &Statement, &mut Findings),
}

impl Directive {
    /// Takes name and repetition from the form of the directive's own line.
    const fn new<C>(
        line: &Form<C>,
        rows: fn() -> Vec<Row>,
        apply: fn(&mut ServerBlock, &Statement, &mut Findings),
    ) -> Self {
        Self { name: line.name, repeats: line.repeats, rows, apply }
    }
}

/// All of them, in the order of a Corefile of kubeadm.
pub(super) const DIRECTIVES: [&Directive; 13] = [
    &ops::ERRORS,
    &ops::HEALTH,
    &ops::READY,
    &kubernetes::KUBERNETES,
    &external::EXTERNAL,
    &transfer::TRANSFER,
    &ops::PROMETHEUS,
    &forward::FORWARD,
    &cache::CACHE,
    &simple::LOOP,
    &ops::RELOAD,
    &simple::LOADBALANCE,
    &simple::SHED,
];

/// The names of all directives, in the order of a Corefile of kubeadm.
pub fn directive_names() -> impl Iterator<Item = &'static str> {
    DIRECTIVES.iter().map(|directive| directive.name)
}

/// The other directives of CoreDNS (its plugin.cfg), and the external ones of common builds.
const NOT_YET: [&str; 48] = [
    "acl",
    "any",
    "auto",
    "autopath",
    "azure",
    "bind",
    "bufsize",
    "cancel",
    "chaos",
    "clouddns",
    "debug",
    "dns64",
    "dnssec",
    "dnstap",
    "erratic",
    "etcd",
    "file",
    "geoip",
    "grpc",
    "grpc_server",
    "header",
    "hosts",
    "https",
    "https3",
    "local",
    "log",
    "metadata",
    "minimal",
    "multisocket",
    "nomad",
    "nsid",
    "on",
    "pprof",
    "proxyproto",
    "quic",
    "rewrite",
    "root",
    "route53",
    "secondary",
    "sign",
    "template",
    "timeouts",
    "tls",
    "trace",
    "tsig",
    "unbound",
    "view",
    "whoami",
];

/// Directives that CoreDNS removed, and what took their place.
const REMOVED: [(&str, &str); 3] = [
    ("proxy", "use \"forward\""),
    ("federation", "federation of clusters no longer exists, so remove it"),
    ("upstream", "it is not needed, so remove it"),
];

/// Finds a directive by the first word of its line.
pub(super) fn find(name: &str) -> Option<&'static Directive> {
    DIRECTIVES.into_iter().find(|directive| directive.name == name)
}

/// Checks the directives of a block against each other.
pub(super) fn check(block: &ServerBlock, statements: &[Statement], findings: &mut Findings) {
    transfer::check(block, statements, findings);
}

/// Says what an unknown directive is, as far as we can tell.
pub(super) fn unknown(statement: &Statement) -> Problem {
    let word = statement.name();
    let problem = |text: String| Problem::new(&statement.at, word, text);
    if NOT_YET.contains(&word) {
        return problem(format!(
            "\"{word}\" is a CoreDNS directive that Mainstay does not support yet"
        ));
    }
    if let Some((_, instead)) = REMOVED.iter().find(|(name, _)| *name == word) {
        return problem(format!("\"{word}\" was removed from CoreDNS; {instead}"));
    }
    if let Some(directive) = owner_of_option(word) {
        return problem(format!(
            "unknown directive \"{word}\"; it is an option of \"{directive}\""
        ));
    }
    problem(format!("unknown directive {}", shown(word)))
        .suggesting(nearest(word, DIRECTIVES.into_iter().map(|directive| directive.name)))
}

/// The directive that has an option of this name.
fn owner_of_option(word: &str) -> Option<&'static str> {
    let has_option =
        |directive: &&Directive| (directive.rows)().iter().skip(1).any(|row| row.name == word);
    DIRECTIVES.into_iter().find(has_option).map(|directive| directive.name)
}

/// The table of the README: every directive and option, one line each, in Markdown.
pub fn directives_table() -> String {
    let mut table = String::from("| directive | meaning |\n|---|---|\n");
    for directive in DIRECTIVES {
        for (n, row) in (directive.rows)().iter().enumerate() {
            let indent = if n == 0 { "" } else { "&nbsp;&nbsp;&nbsp;&nbsp;" };
            let usage = format!("{} {}", row.name, row.arguments);
            // A bar inside a cell would end it, even between backticks.
            let usage = usage.trim_end().replace('|', "\\|");
            table += &format!("| {indent}`{usage}` | {} |\n", row.meaning);
        }
    }
    table
}

/// Reads directives in a block `. { … }`, for the tests of this folder.
#[cfg(test)]
mod testing {
    use super::super::{Corefile, Options, Origin, ServerBlock, load};

    /// The block and its warnings.
    pub(super) fn read(directives: &str) -> (ServerBlock, Vec<String>) {
        let Corefile { mut blocks, warnings, .. } = load_block(directives).unwrap();
        (blocks.remove(0), texts(&warnings))
    }

    /// The problems of a block that cannot be loaded, without their file.
    pub(super) fn problems(directives: &str) -> Vec<String> {
        match load_block(directives) {
            Ok(_) => panic!("loads, but should not: {directives}"),
            Err(problems) => texts(&problems),
        }
    }

    /// Checks that each text has exactly the problem beside it.
    pub(super) fn check_problems(cases: &[(&str, &str)]) {
        for (directives, problem) in cases {
            assert_eq!(problems(directives), [*problem], "{directives}");
        }
    }

    /// The directives begin on line 2.
    fn load_block(directives: &str) -> Result<Corefile, Vec<super::Problem>> {
        load(&Origin::Stdin(format!(". {{\n{directives}\n}}\n").into()), &Options::default())
    }

    fn texts(problems: &[super::Problem]) -> Vec<String> {
        problems.iter().map(|p| p.to_string().replace("stdin:", "")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::check_problems;
    use super::*;

    #[test]
    fn unknown_directives_are_told_apart() {
        check_problems(&[
            ("forwrad . 1.1.1.1", "2 - unknown directive \"forwrad\"; did you mean \"forward\"?"),
            ("banana", "2 - unknown directive \"banana\""),
            ("hosts", "2 - \"hosts\" is a CoreDNS directive that Mainstay does not support yet"),
            ("proxy . 1.1.1.1", "2 - \"proxy\" was removed from CoreDNS; use \"forward\""),
            ("lameduck 5s", "2 - unknown directive \"lameduck\"; it is an option of \"health\""),
        ]);
    }

    #[test]
    fn no_directive_is_both_supported_and_not() {
        assert!(NOT_YET.iter().all(|name| find(name).is_none()));
        assert!(REMOVED.iter().all(|(name, _)| find(name).is_none() && !NOT_YET.contains(name)));
    }

    #[test]
    fn the_table_has_a_line_for_every_directive_and_option() {
        let table = directives_table();
        let rows: usize = DIRECTIVES.iter().map(|directive| (directive.rows)().len()).sum();
        assert_eq!(table.lines().count(), rows + 2);
        assert!(table.contains("| `loop` |"), "{table}");
        assert!(table.contains("`pods disabled\\|insecure\\|verified`"), "{table}");
        assert!(table.lines().all(|line| line.replace("\\|", "").matches('|').count() == 3));
    }
}

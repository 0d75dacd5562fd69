//! The tree of one file → the tree that is meant: imports and snippets put in place, variables
//! replaced by their values.
//!
//! Whatever the files say, this ends: no text is imported while it is being imported, and depth,
//! imports, words and octets are bounded over all files together.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Options;
use super::env::substitute;
use super::glob;
use super::lexer::lines;
use super::parse::{Statement, tree};
use super::problem::{Findings, Location, Problem, shown};
use super::source::{Failure, Source};

/// Imports inside imports.
pub const IMPORT_DEPTH_MAX: usize = 32;
/// Imports over all, as CoreDNS bounds its snippets.
pub const IMPORTS_MAX: usize = 10_000;
/// Words over all, each as often as it is imported.
pub const WORDS_MAX: usize = 100_000;
/// Octets of these words, with the values of variables.
pub const OCTETS_MAX: usize = 8 << 20;

/// Puts everything in place.
///
/// # Errors
/// The text itself has no tree. What is wrong beyond goes to the findings.
pub(super) fn expand(
    source: &Source,
    options: &Options,
    findings: &mut Findings,
) -> Result<Vec<Statement>, Problem> {
    let statements = tree(lines(&source.text, &source.file)?)?;
    let mut expansion = Expansion {
        variable: options.variable,
        findings,
        snippets: HashMap::new(),
        open: vec![Opened { name: source.file.to_string(), identity: source.identity.clone() }],
        imports: 0,
        words: 0,
        octets: 0,
        is_spent: false,
    };
    Ok(expansion.statements(statements, &source.folder, Level::Top))
}

/// Where statements stand; snippets are defined at the top only.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Top,
    Inside,
}

/// A text that is being put in place.
struct Opened {
    name: String,
    /// `None` for a snippet, which its name tells.
    identity: Option<PathBuf>,
}

/// A named list of statements.
struct Snippet {
    at: Location,
    body: Vec<Statement>,
    folder: PathBuf,
}

/// The state over all files.
struct Expansion<'f> {
    variable: fn(&str) -> Option<String>,
    findings: &'f mut Findings,
    snippets: HashMap<String, Arc<Snippet>>,
    /// From the first file to the text at hand.
    open: Vec<Opened>,
    imports: usize,
    words: usize,
    octets: usize,
    /// A bound is reached: told once, and everything after it is left out.
    is_spent: bool,
}

impl Expansion<'_> {
    /// Expands statements of one file; a problem with one does not hide those of the next.
    fn statements(
        &mut self,
        statements: Vec<Statement>,
        folder: &Path,
        level: Level,
    ) -> Vec<Statement> {
        let mut expanded = Vec::new();
        for statement in statements {
            if self.is_spent {
                break;
            }
            match self.statement(statement, folder, level) {
                Ok(some) => expanded.extend(some),
                Err(problem) => self.findings.problem(problem),
            }
        }
        expanded
    }

    fn statement(
        &mut self,
        mut statement: Statement,
        folder: &Path,
        level: Level,
    ) -> Result<Vec<Statement>, Problem> {
        if level == Level::Top && is_snippet(&statement) {
            return self.define(statement, folder).map(|()| Vec::new());
        }
        self.substitute(&mut statement)?;
        if statement.name() == "import" {
            return self.import(&statement, folder, level);
        }
        statement.body = statement.body.map(|body| self.statements(body, folder, Level::Inside));
        Ok(vec![statement])
    }

    /// Replaces the variables in the words of a statement, and counts what it costs.
    fn substitute(&mut self, statement: &mut Statement) -> Result<(), Problem> {
        for word in &mut statement.words {
            *word = substitute(word, self.variable, |name| {
                let text =
                    format!("environment variable {} is not set and reads as empty", shown(name));
                self.findings.warn(Problem::new(&statement.at, name, text));
            });
            self.octets += word.len();
        }
        self.words += statement.words.len().max(1);
        self.within(self.words, WORDS_MAX, "words", &statement.at)?;
        self.within(self.octets, OCTETS_MAX, "octets", &statement.at)
    }

    /// Ends the expansion when a bound is reached.
    fn within(&mut self, n: usize, max: usize, of: &str, at: &Location) -> Result<(), Problem> {
        self.is_spent = n > max;
        match self.is_spent {
            true => {
                Err(Problem::new(at, "", format!("the imports add up to more than {max} {of}")))
            }
            false => Ok(()),
        }
    }

    fn define(&mut self, statement: Statement, folder: &Path) -> Result<(), Problem> {
        let name = statement.name().trim_matches(['(', ')']).to_owned();
        if let Some(first) = self.snippets.get(&name) {
            let text = format!("snippet {} is already defined at {}", shown(&name), first.at);
            return Err(Problem::new(&statement.at, &name, text));
        }
        let Statement { at, body, .. } = statement;
        let snippet = Snippet { at, body: body.unwrap_or_default(), folder: folder.to_owned() };
        self.snippets.insert(name, Arc::new(snippet));
        Ok(())
    }

    /// Puts a snippet, a file or the files of a pattern in the place of an `import`.
    fn import(
        &mut self,
        statement: &Statement,
        folder: &Path,
        level: Level,
    ) -> Result<Vec<Statement>, Problem> {
        let [_, target] = statement.words.as_slice() else {
            let text = "\"import\" takes the name of one snippet, or one path or pattern";
            return Err(Problem::new(&statement.at, "import", text));
        };
        if statement.body.is_some() {
            return Err(Problem::new(&statement.at, "import", "\"import\" takes no block"));
        }
        match self.snippets.get(target).cloned() {
            Some(snippet) => self.import_snippet(target, &snippet, &statement.at, level),
            None if glob::is_pattern(target) => {
                self.import_pattern(target, folder, statement, level)
            }
            None => self.import_file(&folder.join(target), target, &statement.at, level),
        }
    }

    fn import_snippet(
        &mut self,
        name: &str,
        snippet: &Snippet,
        at: &Location,
        level: Level,
    ) -> Result<Vec<Statement>, Problem> {
        self.enter(Opened { name: format!("({name})"), identity: None }, at)?;
        let expanded = self.statements(snippet.body.clone(), &snippet.folder, level);
        self.open.pop();
        Ok(expanded)
    }

    fn import_pattern(
        &mut self,
        pattern: &str,
        folder: &Path,
        statement: &Statement,
        level: Level,
    ) -> Result<Vec<Statement>, Problem> {
        let at = &statement.at;
        let files = glob::matches(folder, pattern)
            .map_err(|error| Problem::new(at, pattern, format!("{}: {error}", shown(pattern))))?;
        if files.is_empty() {
            // The Corefiles of AKS and k3s import patterns that usually match nothing.
            let text = format!("no file matches the import pattern {}", shown(pattern));
            self.findings.warn(Problem::new(at, pattern, text));
        }
        let mut expanded = Vec::new();
        for file in files {
            match self.import_file(&file, pattern, at, level) {
                Ok(statements) => expanded.extend(statements),
                Err(problem) => self.findings.problem(problem),
            }
        }
        Ok(expanded)
    }

    fn import_file(
        &mut self,
        path: &Path,
        word: &str,
        at: &Location,
        level: Level,
    ) -> Result<Vec<Statement>, Problem> {
        let source = Source::open(path).map_err(|failure| unreadable(&failure, word, at))?;
        let statements = tree(lines(&source.text, &source.file)?)?;
        let opened = Opened { name: source.file.to_string(), identity: source.identity };
        self.enter(opened, at)?;
        let expanded = self.statements(statements, &source.folder, level);
        self.open.pop();
        Ok(expanded)
    }

    /// Refuses a text that is being imported already, and imports beyond the bounds.
    fn enter(&mut self, opened: Opened, at: &Location) -> Result<(), Problem> {
        let is_same = |other: &Opened| match (&other.identity, &opened.identity) {
            (Some(one), Some(two)) => one == two,
            (None, None) => other.name == opened.name,
            _ => false,
        };
        if self.open.iter().any(is_same) {
            let text = format!("the import of {} leads back to itself", shown(&opened.name));
            return Err(Problem::new(at, &opened.name, text));
        }
        self.imports += 1;
        self.within(self.imports, IMPORTS_MAX, "imports", at)?;
        self.within(self.open.len(), IMPORT_DEPTH_MAX, "imports inside imports", at)?;
        self.open.push(opened);
        Ok(())
    }
}

/// Whether a statement is `(name) { … }`.
fn is_snippet(statement: &Statement) -> bool {
    let name = statement.name();
    statement.words.len() == 1
        && statement.body.is_some()
        && name.len() > 2
        && name.starts_with('(')
        && name.ends_with(')')
}

fn unreadable(failure: &Failure, word: &str, at: &Location) -> Problem {
    let text = format!("cannot import {}: {}", shown(&failure.file), failure.reason);
    Problem::new(at, word, text)
}

#[cfg(test)]
mod tests {
    use super::super::{Corefile, Origin, load};
    use super::*;

    fn variable(name: &str) -> Option<String> {
        (name == "SNIPPET").then(|| "common".to_owned())
    }

    fn load_text(text: &str) -> Result<Corefile, Vec<String>> {
        load_origin(&Origin::Stdin(text.into()))
    }

    fn load_origin(origin: &Origin) -> Result<Corefile, Vec<String>> {
        load(origin, &Options { variable, ..Options::default() })
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    /// Writes files into a folder, which lives as long as the result.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn load_in(folder: &tempfile::TempDir) -> Result<Corefile, Vec<String>> {
        let prefix = format!("{}/", folder.path().display());
        load_origin(&Origin::File(folder.path().join("Corefile")))
            .map_err(|problems| problems.iter().map(|text| text.replace(&prefix, "")).collect())
    }

    #[test]
    fn a_snippet_is_put_in_place_wherever_it_is_imported() {
        let corefile = load_text(
            "(inner) {\n loop\n}\n(common) {\n ready\n import inner\n}\n\
             . {\n import {$SNIPPET}\n}\nb. {\n import common\n}\n",
        )
        .unwrap();
        assert!(corefile.blocks.iter().all(|block| block.ready.is_some() && block.loop_detection));
    }

    #[test]
    fn options_may_be_imported_too() {
        let corefile =
            load_text("(slow) {\n lameduck 9s\n}\n. {\n health {\n  import slow\n }\n}\n").unwrap();
        assert_eq!(corefile.blocks[0].health.unwrap().lameduck.as_secs(), 9);
    }

    #[test]
    fn files_are_found_relative_to_the_file_that_imports_them() {
        let folder = folder(&[
            ("Corefile", "import zones/*.server\n. {\n import parts/common\n}\n"),
            ("zones/a.server", "a. {\n import ../parts/common\n}\n"),
            ("zones/b.server", "b. {\n ready\n}\n"),
            ("parts/common", "import more\n"),
            ("parts/more", "ready\n"),
        ]);
        let corefile = load_in(&folder).unwrap();
        let zones: Vec<_> =
            corefile.blocks.iter().map(|block| block.keys[0].zone.to_string()).collect();
        assert_eq!(zones, ["a.", "b.", "."]);
        assert!(corefile.blocks.iter().all(|block| block.ready.is_some()));
    }

    #[test]
    fn a_pattern_without_files_is_a_warning_and_a_missing_file_is_a_problem() {
        let corefile = load_text(". {\n import /nowhere/*.override\n ready\n}\n").unwrap();
        assert_eq!(
            corefile.warnings[0].to_string(),
            "stdin:2 - no file matches the import pattern \"/nowhere/*.override\""
        );
        assert_eq!(
            load_text(". {\n import /nowhere/x\n ready\n}\n").unwrap_err(),
            ["stdin:2 - cannot import \"/nowhere/x\": there is no such file"]
        );
    }

    #[test]
    fn problems_in_an_imported_file_are_told_at_its_own_lines() {
        let folder = folder(&[
            ("Corefile", ". {\n import a\n import b\n}\n"),
            ("a", "\n\nforwrad . 1.1.1.1\n"),
            ("b", "health {\n"),
        ]);
        assert_eq!(
            load_in(&folder).unwrap_err(),
            [
                "b:1 - \"{\" is never closed; add a \"}\" on a line of its own",
                "a:3 - unknown directive \"forwrad\"; did you mean \"forward\"?",
            ]
        );
    }

    #[test]
    fn imports_that_lead_back_to_themselves_are_cut() {
        let files = folder(&[
            ("Corefile", ". {\n import a\n}\n"),
            ("a", "import b\n"),
            ("b", "import ./a\n"),
        ]);
        assert_eq!(
            load_in(&files).unwrap_err(),
            ["b:1 - the import of \"./a\" leads back to itself"]
        );
        let own = folder(&[("Corefile", "import Corefile\n")]);
        assert_eq!(
            load_in(&own).unwrap_err(),
            ["Corefile:1 - the import of \"Corefile\" leads back to itself"]
        );
        assert_eq!(
            load_text("(a) {\n import a\n}\n. {\n import a\n}\n").unwrap_err(),
            ["stdin:2 - the import of \"(a)\" leads back to itself"]
        );
    }

    #[test]
    fn imports_that_multiply_are_bounded() {
        let mut text = String::from("(s0) {\n ready\n}\n");
        for level in 1..=30 {
            let below = level - 1;
            text += &format!("(s{level}) {{\n import s{below}\n import s{below}\n}}\n");
        }
        text += ". {\n import s30\n}\n";
        let problems = load_text(&text).unwrap_err();
        assert!(problems[0].contains("add up to more than 10000 imports"), "{problems:?}");
        assert_eq!(problems.iter().filter(|text| text.contains("add up")).count(), 1);
        let wide =
            format!("(s) {{\n {}\n}}\n. {{\n{}}}\n", "x ".repeat(1000), " import s\n".repeat(200));
        assert!(load_text(&wide).unwrap_err()[0].contains("more than 100000 words"));
    }

    #[test]
    fn an_import_names_exactly_one_thing() {
        for (line, problem) in [
            (
                "import",
                "stdin:2 - \"import\" takes the name of one snippet, or one path or pattern",
            ),
            (
                "import a b",
                "stdin:2 - \"import\" takes the name of one snippet, or one path or pattern",
            ),
            ("import a {\n }", "stdin:2 - \"import\" takes no block"),
            (
                "import */*",
                "stdin:2 - \"*/*\": an import pattern may hold one \"*\" and no \"?\" or \"[\"",
            ),
        ] {
            assert_eq!(load_text(&format!(". {{\n {line}\n ready\n}}\n")).unwrap_err(), [problem]);
        }
        assert_eq!(
            load_text("(a) {\n}\n(a) {\n}\n. {\n ready\n}\n").unwrap_err(),
            ["stdin:3 - snippet \"a\" is already defined at stdin:1"]
        );
    }

    #[test]
    fn a_variable_that_is_not_set_is_told() {
        let corefile = load_text(". {\n ready {$NONE}:8181\n}\n").unwrap();
        assert_eq!(
            corefile.warnings[0].to_string(),
            "stdin:2 - environment variable \"NONE\" is not set and reads as empty"
        );
    }
}

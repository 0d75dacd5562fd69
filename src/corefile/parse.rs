//! Lines → the tree of statements of one file.
//!
//! Each file is balanced by itself: a half-written import is told at its own line, and cannot
//! close the block that imports it.

use super::lexer::{Brace, Line};
use super::problem::{Location, Problem};

/// Braces inside braces. A directive with options needs 2.
const NESTING_MAX: usize = 8;

/// One line, and what stands in its braces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Statement {
    pub at: Location,
    /// Empty when a `{` stands alone on its line.
    pub words: Vec<String>,
    pub body: Option<Vec<Statement>>,
}

/// Nests lines by their braces.
///
/// # Errors
/// A brace without its counterpart, or nesting beyond [`NESTING_MAX`].
pub(super) fn tree(lines: Vec<Line>) -> Result<Vec<Statement>, Problem> {
    let mut top = Vec::new();
    let mut open: Vec<Statement> = Vec::new();
    for Line { at, words, brace } in lines {
        match brace {
            Brace::Opens if open.len() == NESTING_MAX => return Err(too_deep(&at)),
            Brace::Opens => open.push(Statement { at, words, body: Some(Vec::new()) }),
            Brace::Closes => {
                let closed = open.pop().ok_or_else(|| never_opened(&at))?;
                innermost(&mut top, &mut open).push(closed);
            }
            Brace::Absent => {
                innermost(&mut top, &mut open).push(Statement { at, words, body: None });
            }
        }
    }
    match open.last() {
        Some(statement) => Err(never_closed(&statement.at)),
        None => Ok(top),
    }
}

impl Statement {
    /// The first word: what the statement is about.
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }
}

/// Where the next statement belongs.
fn innermost<'t>(top: &'t mut Vec<Statement>, open: &'t mut [Statement]) -> &'t mut Vec<Statement> {
    match open.last_mut() {
        Some(statement) => statement.body.get_or_insert_default(),
        None => top,
    }
}

fn too_deep(at: &Location) -> Problem {
    Problem::new(at, "{", format!("blocks are nested deeper than {NESTING_MAX}"))
}

fn never_opened(at: &Location) -> Problem {
    Problem::new(at, "}", "\"}\" closes nothing; remove it or add the missing \"{\" before it")
}

fn never_closed(at: &Location) -> Problem {
    Problem::new(at, "{", "\"{\" is never closed; add a \"}\" on a line of its own")
}

#[cfg(test)]
mod tests {
    use super::super::lexer::lines;
    use super::*;

    fn parse(text: &str) -> Result<Vec<Statement>, String> {
        let told = |problem: Problem| problem.to_string();
        tree(lines(text, &"Corefile".into()).map_err(told)?).map_err(told)
    }

    #[test]
    fn braces_nest_statements() {
        let top = parse(". {\n health {\n  lameduck 5s\n }\n ready\n}\nb {\n}").unwrap();
        assert_eq!(top.len(), 2);
        let body = top[0].body.as_ref().unwrap();
        assert_eq!((body[0].name(), body[1].name()), ("health", "ready"));
        assert_eq!(body[0].body.as_ref().unwrap()[0].words, ["lameduck", "5s"]);
        assert_eq!(body[1].body, None);
        assert_eq!(top[1].body, Some(vec![]));
    }

    #[test]
    fn unbalanced_braces_name_the_line_of_the_brace() {
        for (text, problem) in [
            (
                ". {\n errors\n",
                "Corefile:1 - \"{\" is never closed; add a \"}\" on a line of its own",
            ),
            (
                ". {\n health {\n",
                "Corefile:2 - \"{\" is never closed; add a \"}\" on a line of its own",
            ),
            (
                ". {\n}\n}\n",
                "Corefile:3 - \"}\" closes nothing; remove it or add the missing \"{\" before it",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), problem);
        }
        let deep = "a {\n".repeat(NESTING_MAX + 1);
        assert_eq!(parse(&deep).unwrap_err(), "Corefile:9 - blocks are nested deeper than 8");
    }
}

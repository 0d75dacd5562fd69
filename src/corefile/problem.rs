//! What is wrong with a Corefile, and where: `Corefile:12 - unknown directive "forwrad"; did you
//! mean "forward"?`
//!
//! Reading goes on after a [`Problem`], so that one look at the log mends the whole file.

use std::fmt;
use std::sync::Arc;

/// Problems that are told of one file; what is beyond is only counted, in the last of them.
const PROBLEMS_MAX: usize = 50;
/// Characters of a word that are shown.
const SHOWN_CHARS_MAX: usize = 60;

/// A line of a file.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Location {
    /// The file as the operator named it, or `stdin`.
    pub file: Arc<str>,
    /// From 1; 0 is the file as a whole.
    pub line: u32,
}

/// One thing that an operator should mend, or should know of.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub struct Problem {
    pub at: Location,
    /// The offending word as it is written; empty when the problem is no single word.
    pub word: String,
    /// What is wrong and what to write instead; it names the word.
    pub text: String,
    /// The known word that is nearest to the offending one.
    pub suggestion: Option<String>,
}

/// What a reading has found so far.
#[derive(Default, Debug)]
pub(super) struct Findings {
    problems: Told,
    warnings: Told,
}

/// The first [`PROBLEMS_MAX`] of a kind, and the number of the others.
#[derive(Default, Debug)]
struct Told {
    told: Vec<Problem>,
    untold: usize,
}

impl Location {
    /// A file as a whole.
    pub(super) fn whole(file: Arc<str>) -> Self {
        Self { file, line: 0 }
    }
}

impl Problem {
    /// A problem with one word, or with none.
    pub(super) fn new(at: &Location, word: &str, text: impl Into<String>) -> Self {
        Self { at: at.clone(), word: word.to_owned(), text: text.into(), suggestion: None }
    }

    /// Adds the known word that was probably meant.
    pub(super) fn suggesting(mut self, known: Option<&str>) -> Self {
        self.suggestion = known.map(str::to_owned);
        self
    }
}

impl Findings {
    /// Notes what makes the file unusable.
    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.add(problem);
    }

    /// Notes what the operator should know although the file is usable.
    pub(super) fn warn(&mut self, warning: Problem) {
        self.warnings.add(warning);
    }

    /// Whether nothing has made the file unusable.
    pub(super) fn is_clean(&self) -> bool {
        self.problems.told.is_empty()
    }

    /// The warnings of a usable file.
    ///
    /// # Errors
    /// The problems of an unusable one.
    pub(super) fn conclude(self) -> Result<Vec<Problem>, Vec<Problem>> {
        if self.is_clean() { Ok(self.warnings.finish()) } else { Err(self.problems.finish()) }
    }
}

impl Told {
    fn add(&mut self, problem: Problem) {
        if self.told.len() < PROBLEMS_MAX {
            self.told.push(problem);
        } else {
            self.untold += 1;
        }
    }

    /// The list, with a last line that counts what is left out.
    fn finish(mut self) -> Vec<Problem> {
        if let Some(last) = self.told.last().filter(|_| self.untold > 0) {
            let text = format!("and {} more", self.untold);
            let more = Problem::new(&Location::whole(last.at.file.clone()), "", text);
            self.told.push(more);
        }
        self.told
    }
}

/// Quotes a word for a message: shortened, and with control characters made visible.
pub(super) fn shown(word: &str) -> String {
    let mut text = String::from("\"");
    for letter in word.chars().take(SHOWN_CHARS_MAX) {
        if letter.is_control() {
            text.extend(letter.escape_default());
        } else {
            text.push(letter);
        }
    }
    if word.chars().nth(SHOWN_CHARS_MAX).is_some() {
        text.push('…');
    }
    text.push('"');
    text
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} - {}", self.at, self.text)?;
        match &self.suggestion {
            Some(known) => write!(f, "; did you mean \"{known}\"?"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: u32) -> Location {
        Location { file: "Corefile".into(), line }
    }

    #[test]
    fn a_problem_tells_file_line_and_suggestion() {
        let problem = Problem::new(&at(12), "forwrad", "unknown directive \"forwrad\"")
            .suggesting(Some("forward"));
        assert_eq!(
            problem.to_string(),
            "Corefile:12 - unknown directive \"forwrad\"; did you mean \"forward\"?"
        );
        assert_eq!(Problem::new(&at(0), "", "is empty").to_string(), "Corefile - is empty");
    }

    #[test]
    fn a_flood_of_problems_is_cut_and_counted() {
        let mut findings = Findings::default();
        for line in 1..=60 {
            findings.problem(Problem::new(&at(line), "", "no"));
        }
        let told = findings.conclude().unwrap_err();
        assert_eq!(told.len(), PROBLEMS_MAX + 1);
        assert_eq!(told.last().unwrap().to_string(), "Corefile - and 10 more");
    }

    #[test]
    fn odd_words_are_shown_harmlessly() {
        assert_eq!(shown("a\u{1b}[31m"), "\"a\\u{1b}[31m\"");
        assert_eq!(shown(r"^a\.b$"), r#""^a\.b$""#);
        assert_eq!(shown(&"x".repeat(100)).chars().count(), SHOWN_CHARS_MAX + 3);
    }
}

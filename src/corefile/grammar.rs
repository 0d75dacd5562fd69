//! How a directive and its options are read: one [`Form`] for each, which holds its name, its
//! arguments, what it means, and the function that reads it.
//!
//! The same table reads the Corefile, finds the word that was meant, and prints the documentation,
//! so none of the three can disagree with another.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::key;
use super::parse::Statement;
use super::problem::{Findings, Problem, shown};
use super::suggest::nearest;
use super::value;
use crate::wire::Name;

/// One kind of line, read into a configuration `C`.
pub(super) struct Form<C: 'static> {
    pub name: &'static str,
    /// As documented, such as `[ZONES…]`; empty when there are none.
    pub arguments: &'static str,
    pub meaning: &'static str,
    /// Whether a second line adds to the first.
    pub repeats: bool,
    pub read: fn(&mut C, &mut Arguments<'_>) -> Result<(), Problem>,
}

/// A directive and what may stand in its braces.
pub(super) struct Grammar<C: 'static> {
    pub line: Form<C>,
    pub options: &'static [Form<C>],
    /// Options that CoreDNS has and Mainstay has not.
    pub not_yet: &'static [&'static str],
}

/// One line of the documentation.
pub(super) struct Row {
    pub name: &'static str,
    pub arguments: &'static str,
    pub meaning: &'static str,
}

impl<C> Form<C> {
    fn row(&self) -> Row {
        Row { name: self.name, arguments: self.arguments, meaning: self.meaning }
    }

    /// Reads one line and refuses arguments that are left over.
    fn apply(
        &self,
        config: &mut C,
        statement: &Statement,
        findings: &mut Findings,
    ) -> Result<(), Problem> {
        let mut arguments = Arguments { row: self.row(), statement, taken: 0, findings };
        (self.read)(config, &mut arguments)?;
        match arguments.next() {
            Some(left_over) => Err(arguments.refuse(left_over)),
            None => Ok(()),
        }
    }
}

impl<C> Grammar<C> {
    /// The directive, then its options.
    pub(super) fn rows(&self) -> Vec<Row> {
        std::iter::once(self.line.row()).chain(self.options.iter().map(Form::row)).collect()
    }

    /// Reads a directive over the defaults in `config`; tells every problem on the way.
    pub(super) fn read(&self, mut config: C, statement: &Statement, findings: &mut Findings) -> C {
        if let Err(problem) = self.line.apply(&mut config, statement, findings) {
            findings.problem(problem);
        }
        let mut seen = Vec::new();
        for option in statement.body.iter().flatten() {
            if let Err(problem) = self.option(&mut config, option, &mut seen, findings) {
                findings.problem(problem);
            }
        }
        config
    }

    fn option(
        &self,
        config: &mut C,
        option: &Statement,
        seen: &mut Vec<&'static str>,
        findings: &mut Findings,
    ) -> Result<(), Problem> {
        let form = self.options.iter().find(|form| form.name == option.name());
        let form = form.ok_or_else(|| self.unknown(option))?;
        if option.body.is_some() {
            let text = format!("option \"{}\" of \"{}\" takes no block", form.name, self.line.name);
            return Err(Problem::new(&option.at, form.name, text));
        }
        if seen.contains(&form.name) && !form.repeats {
            let text = format!("option \"{}\" is given twice; the last one counts", form.name);
            findings.warn(Problem::new(&option.at, form.name, text));
        }
        seen.push(form.name);
        form.apply(config, option, findings)
    }

    fn unknown(&self, option: &Statement) -> Problem {
        let (word, directive) = (option.name(), self.line.name);
        if self.not_yet.contains(&word) {
            let text = format!(
                "\"{word}\" is a CoreDNS option of \"{directive}\" that Mainstay does not support \
                 yet"
            );
            return Problem::new(&option.at, word, text);
        }
        let text = format!("unknown option {} of \"{directive}\"", shown(word));
        Problem::new(&option.at, word, text)
            .suggesting(nearest(word, self.options.iter().map(|form| form.name)))
    }
}

/// The words of one line, taken one after the other.
pub(super) struct Arguments<'s> {
    row: Row,
    statement: &'s Statement,
    taken: usize,
    findings: &'s mut Findings,
}

impl<'s> Arguments<'s> {
    /// The next word, if there is one.
    pub(super) fn next(&mut self) -> Option<&'s str> {
        let word = self.statement.words.get(self.taken + 1)?;
        self.taken += 1;
        Some(word)
    }

    /// The next word, without taking it.
    pub(super) fn peek(&self) -> Option<&'s str> {
        self.statement.words.get(self.taken + 1).map(String::as_str)
    }

    /// The next word.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn word(&mut self) -> Result<&'s str, Problem> {
        self.require()?;
        Ok(self.next().unwrap_or_default())
    }

    /// Checks that there is another word.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn require(&self) -> Result<(), Problem> {
        let name = self.row.name;
        match self.peek() {
            Some(_) => Ok(()),
            None => {
                let text = format!("\"{name}\" lacks an argument; write {}", self.usage());
                Err(self.problem(name, text))
            }
        }
    }

    /// All that are left, at least one.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn words(&mut self) -> Result<Vec<&'s str>, Problem> {
        let first = self.word()?;
        Ok(std::iter::once(first).chain(std::iter::from_fn(|| self.next())).collect())
    }

    /// Takes a number.
    ///
    /// # Errors
    /// There is none, or it is outside the bounds.
    pub(super) fn number<N>(&mut self, bounds: RangeInclusive<N>) -> Result<N, Problem>
    where
        N: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let word = self.word()?;
        let number = value::digits_only(word).and_then(|digits| digits.parse().ok());
        number.filter(|number| bounds.contains(number)).ok_or_else(|| {
            let (low, high) = bounds.into_inner();
            self.problem(word, format!("{} is not a number from {low} to {high}", shown(word)))
        })
    }

    /// Takes a duration.
    ///
    /// # Errors
    /// There is none, or it has no unit, or is negative.
    pub(super) fn duration(&mut self) -> Result<Duration, Problem> {
        let word = self.word()?;
        value::duration(word).ok_or_else(|| {
            let text = format!("{} is not a duration; write it like 5s or 1m30s", shown(word));
            self.problem(word, text)
        })
    }

    /// Takes a duration of at least `min`.
    ///
    /// # Errors
    /// As [`Arguments::duration`], or it is shorter.
    pub(super) fn duration_from(&mut self, min: Duration) -> Result<Duration, Problem> {
        let word = self.peek().unwrap_or_default();
        match self.duration()? {
            short if short < min => {
                Err(self.problem(word, format!("{} is shorter than {min:?}", shown(word))))
            }
            enough => Ok(enough),
        }
    }

    /// Takes an address to listen on, or the default when there is no word.
    ///
    /// # Errors
    /// The word is not an address with a port.
    pub(super) fn listen(
        &mut self,
        default: std::net::SocketAddr,
    ) -> Result<std::net::SocketAddr, Problem> {
        let Some(word) = self.next() else { return Ok(default) };
        value::listen_address(word).ok_or_else(|| {
            let text = format!(
                "{} is not an address with a port; write it like :8080 or 127.0.0.1:8080",
                shown(word)
            );
            self.problem(word, text)
        })
    }

    /// Takes one of some words, and returns what stands for it.
    ///
    /// # Errors
    /// There is none, or it is another word.
    pub(super) fn choice<T: Copy>(&mut self, choices: &[(&str, T)]) -> Result<T, Problem> {
        let word = self.word()?;
        let found = choices.iter().find(|(name, _)| *name == word);
        found.map(|(_, meant)| *meant).ok_or_else(|| {
            self.refuse(word).suggesting(nearest(word, choices.iter().map(|(name, _)| *name)))
        })
    }

    /// Takes all words that are left as zones; networks become several.
    ///
    /// # Errors
    /// One of them is not a zone.
    pub(super) fn zones(&mut self) -> Result<Vec<Name>, Problem> {
        let mut zones = Vec::new();
        while let Some(word) = self.next() {
            for zone in key::zones(word).map_err(|text| self.problem(word, text))? {
                if !zones.contains(&zone) {
                    zones.push(zone);
                }
            }
        }
        Ok(zones)
    }

    /// Takes the path of a file, which is relative to the working directory as in CoreDNS.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn path(&mut self) -> Result<PathBuf, Problem> {
        self.word().map(PathBuf::from)
    }

    /// A problem with this line.
    pub(super) fn problem(&self, word: &str, text: impl Into<String>) -> Problem {
        Problem::new(&self.statement.at, word, text)
    }

    /// A problem with a word that does not belong on this line.
    pub(super) fn refuse(&self, word: &str) -> Problem {
        let text =
            format!("\"{}\" does not take {}; write {}", self.row.name, shown(word), self.usage());
        self.problem(word, text)
    }

    /// Tells something about this line that does not stop us.
    pub(super) fn warn(&mut self, text: impl Into<String>) {
        let warning = self.problem(self.row.name, text);
        self.findings.warn(warning);
    }

    /// Tells that this line is accepted for old Corefiles and does nothing.
    pub(super) fn without_effect(&mut self, why: &str) {
        while self.next().is_some() {}
        self.warn(format!("\"{}\" has no effect: {why}", self.row.name));
    }

    fn usage(&self) -> String {
        format!("\"{} {}\"", self.row.name, self.row.arguments).replace(" \"", "\"")
    }
}

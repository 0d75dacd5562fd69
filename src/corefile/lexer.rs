//! Text → lines of words.
//!
//! The dialect is Caddy's: words stand between white space; `"…"` keeps white space and line
//! ends, and only `\"` is an escape in it; `#` begins a comment, even in the middle of a word; a
//! byte order mark and carriage returns count for nothing. `{` ends its line, `}` begins one.

use std::iter::{Filter, Peekable};
use std::str::Chars;
use std::sync::Arc;

use super::problem::{Location, Problem};

/// One line with something on it.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Line {
    pub at: Location,
    pub words: Vec<String>,
    pub brace: Brace,
}

/// What a line does to the nesting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Brace {
    Absent,
    /// The line ends with `{`.
    Opens,
    /// The line is a `}`.
    Closes,
}

/// Cuts a text into lines.
///
/// # Errors
/// A quotation that does not end, or a brace in the middle of a line.
pub(super) fn lines(text: &str, file: &Arc<str>) -> Result<Vec<Line>, Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_kept: fn(&char) -> bool = |letter| *letter != '\r';
    let mut lexer = Lexer { file, line: 1, rest: text.chars().filter(is_kept).peekable() };
    let mut lines = Vec::new();
    let mut current = lexer.blank();
    loop {
        let at = lexer.here();
        let token = lexer.token()?;
        if current.is_blank() {
            current.at = at.clone();
        }
        match token {
            Some(Token::Word(word)) if current.brace == Brace::Absent => current.words.push(word),
            Some(Token::Open) if current.brace == Brace::Absent => current.brace = Brace::Opens,
            Some(Token::Word(_) | Token::Open) => return Err(after_open(&at)),
            Some(Token::Close) if current.is_blank() => {
                lines.push(Line { at, words: Vec::new(), brace: Brace::Closes });
            }
            Some(Token::Close) => return Err(before_close(&at)),
            Some(Token::LineEnd) if current.is_blank() => {}
            Some(Token::LineEnd) => lines.push(std::mem::replace(&mut current, lexer.blank())),
            None if current.is_blank() => return Ok(lines),
            None => lines.push(std::mem::replace(&mut current, lexer.blank())),
        }
    }
}

/// What the letters form.
enum Token {
    Word(String),
    Open,
    Close,
    LineEnd,
}

/// The text without carriage returns.
type Letters<'t> = Peekable<Filter<Chars<'t>, fn(&char) -> bool>>;

/// The place in the text.
struct Lexer<'t> {
    file: &'t Arc<str>,
    line: u32,
    rest: Letters<'t>,
}

impl Line {
    fn is_blank(&self) -> bool {
        self.words.is_empty() && self.brace == Brace::Absent
    }
}

impl Lexer<'_> {
    fn here(&self) -> Location {
        Location { file: self.file.clone(), line: self.line }
    }

    fn blank(&self) -> Line {
        Line { at: self.here(), words: Vec::new(), brace: Brace::Absent }
    }

    /// The next token; `None` at the end of the text.
    fn token(&mut self) -> Result<Option<Token>, Problem> {
        while let Some(&letter) = self.rest.peek() {
            match letter {
                '\n' => {
                    self.take();
                    return Ok(Some(Token::LineEnd));
                }
                '#' => self.skip_comment(),
                '"' => return self.quoted().map(|word| Some(Token::Word(word))),
                blank if blank.is_whitespace() => drop(self.take()),
                _ => return Ok(Some(self.bare())),
            }
        }
        Ok(None)
    }

    /// The next letter; counts the lines.
    fn take(&mut self) -> Option<char> {
        let letter = self.rest.next()?;
        self.line = self.line.saturating_add(u32::from(letter == '\n'));
        Some(letter)
    }

    fn skip_comment(&mut self) {
        while self.rest.next_if(|letter| *letter != '\n').is_some() {}
    }

    /// A word without quotes, or a brace.
    fn bare(&mut self) -> Token {
        let mut word = String::new();
        while let Some(letter) = self.rest.next_if(|c| !c.is_whitespace() && *c != '#') {
            word.push(letter);
        }
        match word.as_str() {
            "{" => Token::Open,
            "}" => Token::Close,
            _ => Token::Word(word),
        }
    }

    /// A word in quotes, which end it even when a letter follows.
    fn quoted(&mut self) -> Result<String, Problem> {
        let at = self.here();
        let mut word = String::new();
        self.take();
        loop {
            match self.take() {
                Some('"') => return Ok(word),
                Some('\\') if self.rest.peek() == Some(&'"') => word.extend(self.take()),
                Some(letter) => word.push(letter),
                None => {
                    return Err(Problem::new(&at, "\"", "the quotation never ends; add a '\"'"));
                }
            }
        }
    }
}

fn after_open(at: &Location) -> Problem {
    Problem::new(at, "{", "\"{\" must be the last word of its line")
}

fn before_close(at: &Location) -> Problem {
    Problem::new(at, "}", "\"}\" must stand on a line of its own")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines, written as `number: words|brace`.
    fn cut(text: &str) -> Result<Vec<String>, String> {
        let lines = lines(text, &"Corefile".into()).map_err(|problem| problem.to_string())?;
        let write = |line: Line| {
            let brace = match line.brace {
                Brace::Absent => "",
                Brace::Opens => "|{",
                Brace::Closes => "|}",
            };
            format!("{}: {}{brace}", line.at.line, line.words.join("|"))
        };
        Ok(lines.into_iter().map(write).collect())
    }

    #[test]
    fn words_quotes_comments_and_braces_are_cut_as_caddy_cuts_them() {
        for (text, lines) in [
            (". {\n errors\n}\n", vec!["1: .|{", "2: errors", "3: |}"]),
            ("\u{feff}.:53 {\r\n}\r\n", vec!["1: .:53|{", "2: |}"]),
            ("a#b c\nd # e", vec!["1: a", "2: d"]),
            ("a \"b # c\" d", vec!["1: a|b # c|d"]),
            (r#"a "say \"hi\" \d" b"#, vec![r#"1: a|say "hi" \d|b"#]),
            ("a \"b\nc\" d\ne", vec!["1: a|b\nc|d", "3: e"]),
            ("\"a\"b c\"d", vec!["1: a|b|c\"d"]),
            ("a \"\" b", vec!["1: a||b"]),
            ("} }\n} b {", vec!["1: |}", "1: |}", "2: |}", "2: b|{"]),
            ("a \"{\" \"}\"", vec!["1: a|{|}"]),
            ("{$X} {{ .Name }}", vec!["1: {$X}|{{|.Name|}}"]),
            ("", vec![]),
            ("\n # nothing\n\t\n", vec![]),
        ] {
            assert_eq!(cut(text).unwrap(), lines, "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_cut_names_the_line() {
        for (text, problem) in [
            ("a\nb \"c\nd", "Corefile:2 - the quotation never ends; add a '\"'"),
            ("health { lameduck", "Corefile:1 - \"{\" must be the last word of its line"),
            ("a { {", "Corefile:1 - \"{\" must be the last word of its line"),
            ("\nlameduck 5s }", "Corefile:2 - \"}\" must stand on a line of its own"),
        ] {
            assert_eq!(cut(text).unwrap_err(), problem, "{text:?}");
        }
    }
}

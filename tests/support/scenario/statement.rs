//! The text of a scenario, as statements. What they mean is not known here.

/// A line number and what is wrong there.
pub type Failure = (usize, String);

/// One statement.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Where it begins, from 1.
    pub line: usize,
    pub word: String,
    /// What follows the word, split at `;` and at line ends. Never empty.
    pub items: Vec<String>,
    /// The indented lines as they are written.
    pub block: String,
}

/// Reads all statements.
pub fn read(text: &str) -> Result<Vec<Statement>, Failure> {
    let mut statements: Vec<Statement> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let (number, trimmed) = (number + 1, line.trim());
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if !line.starts_with(char::is_whitespace) {
            let (word, rest) = trimmed.split_once(char::is_whitespace).unwrap_or((trimmed, ""));
            let (word, items) = (word.to_owned(), split(rest));
            statements.push(Statement { line: number, word, items, block: String::new() });
            continue;
        }
        let last = statements.last_mut();
        let last = last.ok_or((number, "an indented line continues nothing".to_owned()))?;
        last.items.extend(split(trimmed));
        last.block += &format!("{line}\n");
    }
    Ok(statements)
}

fn split(text: &str) -> Vec<String> {
    text.split(';').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}

impl Statement {
    /// The words of the first item.
    pub fn words(&self) -> Vec<&str> {
        self.items.first().map(|item| item.split_whitespace().collect()).unwrap_or_default()
    }

    /// A failure here.
    pub fn fails(&self, what: impl Into<String>) -> Failure {
        (self.line, what.into())
    }
}

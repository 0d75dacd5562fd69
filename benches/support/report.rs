//! What was measured? Tables as Markdown for people and as JSON for programs.

use std::fmt::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::machine::{description, spread};
use super::plot::{self, Bar, Panel};

/// All that a run measured.
pub struct Report {
    pub title: String,
    /// Names and versions of the programs, and how they were run.
    pub versions: Vec<(String, String)>,
    pub tables: Vec<Table>,
}

/// Measurements that are read beside each other.
pub struct Table {
    pub title: String,
    /// What was done, and how to read it.
    pub about: String,
    /// What the first column holds, such as `server`.
    pub of: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
}

/// What is measured.
#[derive(Clone)]
pub struct Column {
    pub name: String,
    pub decimals: usize,
}

/// One server, or one kind of question.
pub struct Row {
    pub name: String,
    /// As many as there are columns.
    pub cells: Vec<Cell>,
}

/// A measurement.
#[derive(Clone, Debug)]
pub enum Cell {
    /// One value of each round.
    Measured(Vec<f64>),
    /// A fact or a verdict.
    Text(String),
    /// Why there is nothing.
    Skipped(String),
    Empty,
}

impl Column {
    pub fn new(name: &str, decimals: usize) -> Self {
        Self { name: name.to_owned(), decimals }
    }
}

impl Cell {
    /// The median of what was measured.
    pub fn median(&self) -> Option<f64> {
        let Self::Measured(values) = self else { return None };
        spread(values).map(|spread| spread.median)
    }

    fn markdown(&self, decimals: usize) -> String {
        match self {
            Self::Measured(values) => match spread(values) {
                Some(it) if values.len() > 1 => {
                    let (median, min, max) = (it.median, it.min, it.max);
                    format!("{median:.decimals$} [{min:.decimals$}–{max:.decimals$}]")
                }
                Some(it) => format!("{:.decimals$}", it.median),
                None => "SKIPPED".to_owned(),
            },
            Self::Text(text) => told(text),
            Self::Skipped(why) => format!("SKIPPED: {}", told(why)),
            Self::Empty => String::new(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Measured(values) => match spread(values) {
                Some(it) => json!({
                    "median": it.median, "min": it.min, "max": it.max, "rounds": values,
                }),
                None => Value::Null,
            },
            Self::Text(text) => json!(told(text)),
            Self::Skipped(why) => json!({ "skipped": told(why) }),
            Self::Empty => Value::Null,
        }
    }
}

impl Table {
    pub fn new(title: &str, about: &str, of: &str, columns: &[(&str, usize)]) -> Self {
        let columns = columns.iter().map(|(name, decimals)| Column::new(name, *decimals)).collect();
        let [title, about, of] = [title, about, of].map(str::to_owned);
        Self { title, about, of, columns, rows: Vec::new() }
    }

    /// What a table is that could not be measured at all.
    pub fn failed(title: &str, problem: &str) -> Self {
        let mut table = Self::new(title, "It could not be measured.", "table", &[("problem", 0)]);
        table.row(title, vec![Cell::Skipped(format!("failed: {problem}"))]);
        table
    }

    /// Adds a row.
    pub fn row(&mut self, name: &str, cells: Vec<Cell>) {
        self.rows.push(Row { name: name.to_owned(), cells });
    }

    /// As Markdown, with its title as a heading.
    pub fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n{}\n\n| {} |", self.title, self.about, self.of);
        self.columns.iter().for_each(|column| write!(text, " {} |", column.name).expect("memory"));
        text += "\n|---|";
        text += &"---:|".repeat(self.columns.len());
        for row in &self.rows {
            write!(text, "\n| {} |", row.name).expect("memory");
            for (cell, column) in row.cells.iter().zip(&self.columns) {
                write!(text, " {} |", cell.markdown(column.decimals)).expect("memory");
            }
        }
        text + "\n"
    }

    fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let cells = row.cells.iter().zip(&self.columns);
            let mut object: serde_json::Map<String, Value> =
                cells.map(|(cell, column)| (column.name.clone(), cell.json())).collect();
            object.insert(self.of.clone(), json!(row.name));
            Value::Object(object)
        });
        json!({ "title": self.title, "about": self.about, "rows": rows.collect::<Vec<_>>() })
    }

    /// What was measured in a row, in the column of this name.
    pub fn measured<'a>(&self, row: &'a Row, column: &str) -> Option<&'a [f64]> {
        let place = self.columns.iter().position(|it| it.name == column)?;
        match row.cells.get(place)? {
            Cell::Measured(values) => Some(values),
            _ => None,
        }
    }

    /// A panel of bars, one for each row that was measured; `ours` begins the names of our bars.
    pub fn panel(&self, title: &str, column: &str, ours: &str) -> Panel {
        let bars = self.rows.iter().filter_map(|row| {
            let (name, is_ours) = (row.name.clone(), row.name.starts_with(ours));
            Some(Bar { name, spread: spread(self.measured(row, column)?)?, is_ours })
        });
        let decimals = self.columns.iter().find(|it| it.name == column).map(|it| it.decimals);
        let (title, decimals) = (title.to_owned(), decimals.unwrap_or_default());
        Panel { title, decimals, bars: bars.collect() }
    }
}

impl Report {
    /// As Markdown: machine and versions first, then all tables.
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n\n", self.title);
        writeln!(
            text,
            "Machine: {}. Medians with [least–greatest] of all rounds.\n",
            description()
        )
        .expect("memory");
        for (name, version) in &self.versions {
            writeln!(text, "- {name}: {}", told(version)).expect("memory");
        }
        for table in &self.tables {
            text += "\n";
            text += &table.markdown();
        }
        text
    }

    /// As JSON, with the values of all rounds.
    pub fn json(&self) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let versions: serde_json::Map<String, Value> =
            self.versions.iter().map(|(name, text)| (name.clone(), json!(told(text)))).collect();
        let tables: Vec<Value> = self.tables.iter().map(Table::json).collect();
        json!({
            "title": self.title, "unix_time_s": now.as_secs(), "machine": description(),
            "versions": versions, "tables": tables,
        })
    }

    /// Writes `NAME.md`, `NAME.json` and `NAME.svg` into a folder.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, folder: &Path, name: &str, panels: &[Panel]) -> std::io::Result<()> {
        let json = serde_json::to_string_pretty(&self.json())? + "\n";
        std::fs::write(folder.join(format!("{name}.md")), self.markdown())?;
        std::fs::write(folder.join(format!("{name}.json")), json)?;
        std::fs::write(folder.join(format!("{name}.svg")), plot::svg(&self.title, panels))
    }
}

/// The first line of a text, with file names in place of absolute paths: reports are published, and
/// neither logs nor the folders of one machine belong there.
fn told(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let ends = |it: char| it.is_whitespace() || "\"'`=:,([{<".contains(it);
    line.split_inclusive(ends).map(file_name).collect()
}

/// A word, or the last part of a path.
fn file_name(word: &str) -> &str {
    let is_path = word.starts_with('/') && word[1..].starts_with(|it: char| it.is_alphanumeric());
    if is_path { word.rsplit('/').next().unwrap_or(word) } else { word }
}

//! The table in `README.md` has all rows of the failure list, and the tests that are named in it
//! and those that there are are the same.
//!
//! A test belongs to a row if its name begins with it: `a7_…`. `ROWS_WRITE=1` writes the names of
//! tests into the table; whatever else its last column says stays.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Families of rows, and how many each has.
const FAMILIES: [(char, usize); 3] = [('A', 17), ('P', 18), ('U', 13)];
/// Where tests of rows are.
const PLACES: [&str; 2] = ["tests/faults", "src"];
/// Ends each name of a test, and what stands after them.
const BREAK: &str = "<br>";
/// Wants the table to be written.
const WRITE: &str = "ROWS_WRITE";

/// A line of the table.
struct Row {
    name: String,
    /// Fault and requirement.
    said: [String; 2],
    /// Names of tests, as `file::function`.
    tests: Vec<String>,
    /// What else shows it, or why nothing can.
    rest: String,
}

impl Row {
    /// Reads `| A7 | fault | requirement | shown by |`; other lines are no rows.
    fn read(line: &str) -> Option<Self> {
        let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').collect();
        let name = cells[0].trim();
        if !pattern(r"^[APU]\d+$").is_match(name) {
            return None;
        }
        let [_, fault, requirement, shown] = &cells[..] else { panic!("four cells: {line}") };
        let (tests, rest): (Vec<&str>, Vec<&str>) =
            shown.trim().split(BREAK).partition(|item| is_test(item));
        let bare = |item: &str| item.trim().trim_matches('`').to_owned();
        Some(Self {
            name: name.to_owned(),
            said: [fault, requirement].map(|cell| cell.trim().to_owned()),
            tests: tests.into_iter().map(bare).collect(),
            rest: rest.join(BREAK),
        })
    }

    fn write(&self) -> String {
        let tests = self.tests.iter().map(|test| format!("`{test}`"));
        let rest = (!self.rest.is_empty()).then(|| self.rest.clone());
        let shown: Vec<String> = tests.chain(rest).collect();
        let [fault, requirement] = &self.said;
        format!("| {} | {fault} | {requirement} | {} |", self.name, shown.join(BREAK))
    }
}

/// Whether an item is the name of a test of a row, and nothing else.
fn is_test(item: &str) -> bool {
    pattern(r"^`[^`]+::[apu]\d+_\w+`$").is_match(item.trim())
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> PathBuf {
    root().join("tests/faults/README.md")
}

/// The rows of the table.
fn rows(page: &str) -> Vec<Row> {
    page.lines().filter_map(Row::read).collect()
}

/// All rows that there must be.
fn names() -> impl Iterator<Item = String> {
    FAMILIES.iter().flat_map(|(family, count)| (1..=*count).map(move |n| format!("{family}{n}")))
}

/// The tests that are named after rows, by row, in order of files and lines.
fn tests() -> BTreeMap<String, Vec<String>> {
    let mut tests: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let named = pattern(r"(?:^|\s)fn (([apu]\d+)_\w+)\(");
    let is_attribute = pattern(r"^\s*#\[(tokio::)?test\b");
    for (file, text) in sources() {
        let mut is_marked = false;
        for line in text.lines() {
            is_marked |= is_attribute.is_match(line);
            if let Some(found) = named.captures(line).filter(|_| is_marked) {
                let row = found[2].to_uppercase();
                tests.entry(row).or_default().push(format!("{file}::{}", &found[1]));
            }
            is_marked &= !line.contains("fn ");
        }
    }
    tests
}

/// The sources with their paths; those beside this file are named without their folder.
fn sources() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> = PLACES.iter().map(|place| root().join(place)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
                let name = name.strip_prefix("tests/faults/").unwrap_or(name).to_owned();
                sources.push((name, std::fs::read_to_string(path).unwrap()));
            }
        }
    }
    sources.sort();
    sources
}

/// Writes the names of tests into the page, where that is wanted.
fn write() {
    let page = page();
    let (text, tests) = (std::fs::read_to_string(&page).unwrap(), tests());
    let lines = text.lines().map(|line| match Row::read(line) {
        Some(row) => {
            let tests = tests.get(&row.name).cloned().unwrap_or_default();
            Row { tests, ..row }.write()
        }
        None => line.to_owned(),
    });
    let text = lines.map(|line| line + "\n").collect::<String>();
    std::fs::write(page, text).unwrap();
}

/// What is named beside tests has to be there: `drill NAME`, a file below `tests`, a function in a
/// file.
fn missing_of(rest: &str) -> Vec<String> {
    let mut missing = Vec::new();
    for found in pattern("(drill )?`([^`]+)`").captures_iter(rest) {
        let (file, function) = found[2].split_once("::").unwrap_or((&found[2], ""));
        let file = if found.get(1).is_some() { format!("drills/{file}.toml") } else { file.into() };
        let places = ["tests/faults", "tests", ""].map(|place| root().join(place).join(&file));
        let Some(path) = places.into_iter().find(|path| path.exists()) else {
            missing.push(format!("there is no {file}"));
            continue;
        };
        let text = || std::fs::read_to_string(&path).unwrap();
        if !function.is_empty() && !text().contains(&format!("fn {function}(")) {
            missing.push(format!("{file} has no test {function}"));
        }
    }
    missing
}

#[test]
fn the_table_has_every_row_and_every_test_of_it() {
    if std::env::var_os(WRITE).is_some() {
        write();
    }
    let rows = rows(&std::fs::read_to_string(page()).unwrap());
    let found: Vec<&str> = rows.iter().map(|row| &*row.name).collect();
    assert_eq!(found, names().collect::<Vec<_>>(), "the rows of the table");
    let mut tests = tests();
    let mut wrong = Vec::new();
    for row in &rows {
        let there = tests.remove(&row.name).unwrap_or_default();
        let gone = row.tests.iter().filter(|test| !there.contains(test));
        wrong.extend(gone.map(|test| format!("{}: there is no test {test}", row.name)));
        let new = there.iter().filter(|test| !row.tests.contains(test));
        wrong.extend(new.map(|test| format!("{}: {test} is not in the table", row.name)));
        let missing = missing_of(&row.rest).into_iter();
        wrong.extend(missing.map(|what| format!("{}: {what}", row.name)));
        if row.tests.is_empty() && row.rest.trim().is_empty() {
            wrong.push(format!("{}: nothing shows it", row.name));
        }
    }
    wrong.extend(tests.into_iter().map(|(row, of)| format!("{row} is no row: {of:?}")));
    assert!(wrong.is_empty(), "{WRITE}=1 writes names of tests\n  {}", wrong.join("\n  "));
}

#[test]
fn a_row_is_read_and_written_alike() {
    let line = "| A7 | silent | found | `x.rs::a7_b`<br>`src/y.rs::a7_c`<br>drill `z`, and why |";
    let row = Row::read(line).unwrap();
    assert_eq!(row.tests, ["x.rs::a7_b", "src/y.rs::a7_c"]);
    assert_eq!((&*row.rest, row.write()), ("drill `z`, and why", line.to_owned()));
    assert!(Row::read("| row | fault | requirement | shown by |").is_none());
    assert_eq!(missing_of("drill `none`, `rows.rs`, `rows.rs::nothing`").len(), 2);
    assert_eq!(names().count(), 48);
}

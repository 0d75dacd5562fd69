//! The report as a file, which the next program reads: written whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::Error;
use super::{Report, SCHEMA};

/// Largest report that is read. Ours are below 2 MB.
const OCTETS_MAX: u64 = 64 << 20;
/// What stands for standard input or output.
const STANDARD: &str = "-";

/// Writes a report, to standard output for `-`.
///
/// # Errors
/// The file cannot be written. What was there before is still there.
pub fn write(report: &Report, path: &Path) -> Result<(), Error> {
    let mut text = to_string(report);
    text.push('\n');
    write_file(path, text.as_bytes())
}

/// A report as JSON: one field to a line, so that two can be laid side by side.
pub fn to_string(report: &Report) -> String {
    serde_json::to_string_pretty(report).expect("a report has only text as keys")
}

/// A report as JSON in one line, for the way from worker to coordinator.
pub fn to_line(report: &Report) -> String {
    serde_json::to_string(report).expect("a report has only text as keys")
}

/// Writes a file of any form of a report beside its place and moves it there, so that nobody reads
/// half of it and a full disk costs no earlier one. `-` is standard output.
///
/// # Errors
/// The file cannot be written.
pub fn write_file(path: &Path, octets: &[u8]) -> Result<(), Error> {
    let remedy = "free space, or name another file; other reports are not touched";
    let failed = |error| Error::File { path: path.to_owned(), error, remedy };
    if path == Path::new(STANDARD) {
        return io::stdout().write_all(octets).map_err(failed);
    }
    if is_special(path) {
        // A pipe or a terminal cannot be replaced by a file.
        return fs::write(path, octets).map_err(failed);
    }
    let beside = beside(path).map_err(failed)?;
    let written = write_whole(&beside, octets).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // It may not exist; there is nothing else to do about it.
        let _ = fs::remove_file(&beside);
    }
    written.map_err(failed)
}

/// Whether there is something that is no file, such as a pipe.
fn is_special(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|it| !it.is_file() && !it.is_dir())
}

/// The name under which it is written first.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    Ok(path.with_file_name(hidden))
}

fn write_whole(path: &Path, octets: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(octets)?;
    // A full disk may be told only here.
    file.sync_all()
}

/// Reads a report that `--json` wrote, from standard input for `-`.
///
/// # Errors
/// It cannot be read, is no report, or one of a version that this program does not know.
pub fn read(path: &Path) -> Result<Report, Error> {
    let remedy = "name a file that `mainstay load --json` wrote";
    let text = text(path).map_err(|error| Error::File { path: path.to_owned(), error, remedy })?;
    parse(&text).map_err(|why| Error::Config(format!("{}: {why}", path.display())))
}

fn text(path: &Path) -> io::Result<String> {
    use io::Read;
    let mut text = String::new();
    if path == Path::new(STANDARD) {
        io::stdin().take(OCTETS_MAX).read_to_string(&mut text)?;
    } else {
        File::open(path)?.take(OCTETS_MAX).read_to_string(&mut text)?;
    }
    Ok(text)
}

/// Reads a report.
///
/// # Errors
/// Why it is none.
pub fn parse(text: &str) -> Result<Report, String> {
    /// What every version has.
    #[derive(Deserialize)]
    struct Head {
        schema: Option<String>,
    }
    let other = |why: String| format!("no report of `mainstay load --json`: {why}");
    let head: Head = serde_json::from_str(text).map_err(|error| other(error.to_string()))?;
    match head.schema.as_deref() {
        Some(SCHEMA) => {}
        Some(schema) => return Err(wrong_version(schema)),
        None => return Err(other("it has no `schema`".to_owned())),
    }
    serde_json::from_str(text).map_err(|error| other(error.to_string()))
}

/// Why a report of this schema is not read.
fn wrong_version(schema: &str) -> String {
    let number = |schema: &str| {
        let (name, number) = schema.rsplit_once('/')?;
        (name == "mainstay.load").then(|| number.parse::<u64>().ok())?
    };
    match (number(schema), number(SCHEMA)) {
        (Some(theirs), Some(ours)) if theirs > ours => format!(
            "version {theirs} of the report, and this program knows version {ours}; read it \
             with the newer mainstay that wrote it"
        ),
        (Some(theirs), Some(ours)) => format!(
            "version {theirs} of the report, and this program knows only version {ours}; make it \
             again"
        ),
        _ => format!("no report of `mainstay load --json`: its schema is {schema:?}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::sample;
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        let report = sample::report();
        write(&report, &path).unwrap();
        assert_eq!(read(&path).unwrap(), report);
        assert_eq!(parse(&to_line(&report)).unwrap(), report);
        assert!(!to_line(&report).contains('\n'));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_cannot_be_written_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        fs::create_dir(&path).unwrap();
        let error = write(&sample::report(), &path).unwrap_err().to_string();
        assert!(error.contains("report.json") && error.contains("name another file"), "{error}");
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write(&sample::report(), &folder.path().join("none/report.json")).is_err());
        assert!(write(&sample::report(), Path::new("/")).is_err());
    }

    #[test]
    fn a_full_disk_is_one_line() {
        let full = Path::new("/dev/full");
        if !full.exists() {
            assert!(std::env::var_os("CI").is_none(), "no {}", full.display());
            eprintln!("SKIPPED: no {}", full.display());
            return;
        }
        let error = write(&sample::report(), full).unwrap_err().to_string();
        assert!(error.contains("No space left") && error.lines().count() == 1, "{error}");
        assert!(full.exists());
    }

    #[test]
    fn other_files_and_versions_are_told_apart() {
        for (text, told) in [
            ("", "no report of"),
            ("[1]", "no report of"),
            ("{}", "it has no `schema`"),
            (r#"{"schema":"k6/1"}"#, r#"its schema is "k6/1""#),
            (r#"{"schema":"mainstay.load/2","total":7}"#, "the newer mainstay that wrote it"),
            (r#"{"schema":"mainstay.load/0"}"#, "make it again"),
            (r#"{"schema":"mainstay.load/1","total":7}"#, "invalid type"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(told) && error.lines().count() == 1, "{text}: {error}");
        }
        assert!(parse(r#"{"schema":"mainstay.load/1","of_later":1}"#).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,60}", cut in 0_usize..2000) {
            let _ = parse(&text);
            let whole = to_string(&sample::report());
            let _ = parse(whole.get(..cut.min(whole.len())).unwrap_or_default());
        }
    }
}

//! Names from a file, as dnsperf reads them: a name and a type on each line.
//!
//! ```text
//! ; a comment, and so is what begins with #
//! web.shop.svc.cluster.local A
//! web.shop                          the type is A where none is written
//! _http._tcp.web.shop. SRV          a last dot: resolvers leave the search list alone
//! example.org TYPE65
//! ```
//!
//! As in dnsperf a name is absolute for packets, with its last dot or without. Unlike dnsperf a
//! line that makes no sense is no warning: the load does not begin, for nobody could tell later
//! what was asked.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use super::Task;
use super::list::{self, Full, List, NAMES_MAX, OCCURRENCES_MAX};
use crate::load::Error;
use crate::wire::{Name, RecordType};

/// Longest line, in octets: a name of 255 octets that are all escaped, its type and a comment.
pub const LINE_OCTETS_MAX: usize = 2048;
/// Bad lines that are told; the others are counted.
const BAD_TOLD_MAX: usize = 5;
/// After so many bad lines the file is something else, and is read no further.
const BAD_LINES_MAX: usize = 1000;
/// Commands of dynamic updates in dnsperf's files.
const UPDATE_WORDS: [&str; 5] = ["require", "prohibit", "add", "delete", "send"];
/// Types that dnsperf knows and that nothing else here needs to know.
const MORE_TYPES: [(&str, u16); 14] = [
    ("RP", 17),
    ("AFSDB", 18),
    ("LOC", 29),
    ("CERT", 37),
    ("A6", 38),
    ("SSHFP", 44),
    ("NSEC3PARAM", 51),
    ("SMIMEA", 53),
    ("CDS", 59),
    ("CDNSKEY", 60),
    ("OPENPGPKEY", 61),
    ("ZONEMD", 63),
    ("SPF", 99),
    ("URI", 256),
];

/// Reads a file; `-` is standard input. A name that occurs often is the same task each time.
///
/// # Errors
/// The file cannot be read, is empty, has lines that make no sense, or too many.
pub fn read(path: &Path) -> Result<Vec<Arc<Task>>, Error> {
    let title = list::title(path);
    match read_from(&title, list::open(path)?, List::default()) {
        Ok(tasks) => Ok(tasks),
        Err(Trouble::Unreadable(error)) => Err(list::unreadable(path, error)),
        Err(Trouble::Wrong(text)) => Err(Error::Config(text)),
    }
}

/// Why there is no list.
#[derive(Debug)]
enum Trouble {
    Unreadable(std::io::Error),
    Wrong(String),
}

/// Reads lines one after the other into an empty list.
fn read_from(title: &str, source: impl Read, mut list: List) -> Result<Vec<Arc<Task>>, Trouble> {
    let (mut lines, mut bad) = (BufReader::new(source), Bad::default());
    let mut line = Vec::with_capacity(LINE_OCTETS_MAX);
    for number in 1u64.. {
        if !next_line(&mut lines, &mut line).map_err(Trouble::Unreadable)? {
            break;
        }
        if number == 1 && is_capture(&line) {
            let text = format!("{title}: this is a capture, not a list; use --capture {title}");
            return Err(Trouble::Wrong(text));
        }
        let Err(problem) = add(&line, number, &mut list) else { continue };
        match problem {
            Problem::Full => return Err(Trouble::Wrong(full(title))),
            Problem::Line(what) => bad.note(format!("{title}:{number}: {what}")),
        }
        if bad.count == BAD_LINES_MAX {
            break;
        }
    }
    if bad.count > 0 {
        return Err(Trouble::Wrong(bad.into_text(title)));
    }
    if list.is_empty() {
        return Err(Trouble::Wrong(format!(
            "{title}: there is no name in it; write one on each line, such as: www.example.org A"
        )));
    }
    Ok(list.into_tasks())
}

/// Reads a line, without its end; false after the last. One that is too long is cut behind its
/// longest, and the rest of it is dropped.
fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let room = LINE_OCTETS_MAX as u64 + 2;
    if lines.by_ref().take(room).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() != Some(&b'\n') && line.len() as u64 == room {
        lines.skip_until(b'\n')?;
    }
    while line.last().is_some_and(u8::is_ascii_whitespace) {
        line.pop();
    }
    Ok(true)
}

/// Whether a file begins as pcap, pcapng or Frame Streams do.
fn is_capture(line: &[u8]) -> bool {
    line.len() >= 4 && crate::load::capture::Format::of(line).is_some()
}

/// What is wrong with a line.
enum Problem {
    Full,
    Line(String),
}

/// Adds what a line asks for, if it is no comment.
fn add(line: &[u8], number: u64, list: &mut List) -> Result<(), Problem> {
    if line.len() > LINE_OCTETS_MAX {
        let what = format!("longer than {LINE_OCTETS_MAX} octets; one name to a line");
        return Err(Problem::Line(what));
    }
    let text = std::str::from_utf8(line).map_err(|_| {
        Problem::Line("not UTF-8; write octets above 127 as \\DDD, in decimal".into())
    })?;
    // Editors of some systems put a byte order mark in front.
    let text = if number == 1 { text.trim_start_matches('\u{feff}') } else { text };
    let Some((host, rtype)) = question(text).map_err(Problem::Line)? else { return Ok(()) };
    let name = name(host).map_err(Problem::Line)?;
    list.push(&host.to_ascii_lowercase(), name, rtype).map_err(|Full| Problem::Full)
}

/// Splits a line into name and type; `None` for comments and blank lines.
fn question(text: &str) -> Result<Option<(&str, RecordType)>, String> {
    let is_comment = |word: &&str| word.starts_with([';', '#']);
    let mut words = text.split_ascii_whitespace().take_while(|word| !is_comment(word));
    let Some(host) = words.next() else { return Ok(None) };
    let (second, more) = (words.next(), words.count());
    let is_update = UPDATE_WORDS.iter().any(|word| word.eq_ignore_ascii_case(host));
    if is_update && (more > 0 || second.is_none()) {
        return Err(format!(
            "{host:?} is part of a dynamic update, which would change a zone; only questions can \
             be asked, as NAME TYPE"
        ));
    }
    if more > 0 {
        let class = second.is_some_and(|word| word.eq_ignore_ascii_case("IN"));
        let remedy = if class { "leave out the class IN" } else { "leave out the rest" };
        return Err(format!("more than a name and a type; {remedy}"));
    }
    let rtype = second.map_or(Ok(RecordType::A), record_type)?;
    Ok(Some((host, rtype)))
}

/// Reads a type that can be asked for.
fn record_type(text: &str) -> Result<RecordType, String> {
    let more = MORE_TYPES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    let known = RecordType::parse(text).or_else(|| more.map(|(_, number)| RecordType(*number)));
    match known {
        Some(rtype) if list::is_lookup(rtype) => Ok(rtype),
        Some(rtype) => Err(format!("{rtype} is no lookup; ask for A, AAAA, SRV, PTR or the like")),
        None => Err(format!(
            "type {text:?} is not known; write a name such as A, AAAA or SRV, or its number as \
             TYPE65"
        )),
    }
}

/// Reads a name.
fn name(host: &str) -> Result<Name, String> {
    Name::parse(host).map_err(|error| format!("{host:?} is no domain name: {error}"))
}

/// What to do about a list that is too long.
fn full(title: &str) -> String {
    format!(
        "{title}: more than {NAMES_MAX} different names or {OCCURRENCES_MAX} lines; use a part of \
         it: shuf -n {NAMES_MAX} FILE"
    )
}

/// Lines that make no sense.
#[derive(Default)]
struct Bad {
    told: Vec<String>,
    count: usize,
}

impl Bad {
    /// Counts one, and keeps it if it is among the first.
    fn note(&mut self, text: String) {
        self.count += 1;
        if self.told.len() < BAD_TOLD_MAX {
            self.told.push(text);
        }
    }

    /// All that is to be told.
    fn into_text(mut self, title: &str) -> String {
        if self.count > self.told.len() {
            let more = if self.count == BAD_LINES_MAX { " or more" } else { "" };
            let (count, told) = (self.count, self.told.len());
            self.told.push(format!(
                "{title}: {count} bad lines{more}, of which the first {told} are told; correct or \
                 remove them"
            ));
        }
        self.told.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Class, Expect};
    use super::*;

    fn tasks(text: &[u8]) -> Vec<(String, String)> {
        let show =
            |task: &Arc<Task>| (task.host.to_string(), format!("{} {}", task.name, task.rtype));
        read_from("q.txt", text, List::default()).unwrap().iter().map(show).collect()
    }

    fn refusal(text: impl AsRef<[u8]>) -> String {
        match read_from("q.txt", text.as_ref(), List::default()) {
            Err(Trouble::Wrong(text)) => text,
            other => panic!("{other:?}"),
        }
    }

    fn pair(host: &str, question: &str) -> (String, String) {
        (host.into(), question.into())
    }

    #[test]
    fn a_file_of_dnsperf_is_read() {
        let text =
            b"\xef\xbb\xbf; a comment\n\nwww.Example.org A\r\n\tb.example\taaaa  ; why\n# x\n\
                     web.shop\nweb.shop. SRV # last\nx TYPE65\ny sshfp\nsend A\n. NS";
        assert_eq!(
            tasks(text),
            [
                pair("www.example.org", "www.example.org. A"),
                pair("b.example", "b.example. AAAA"),
                pair("web.shop", "web.shop. A"),
                pair("web.shop.", "web.shop. SRV"),
                pair("x", "x. HTTPS"),
                pair("y", "y. TYPE44"),
                pair("send", "send. A"),
                pair(".", ". NS"),
            ]
        );
    }

    #[test]
    fn nothing_is_known_of_listed_names() {
        let tasks = read_from("q.txt", &b"a A\na A"[..], List::default()).unwrap();
        assert_eq!((tasks[0].class, tasks[0].expect), (Class::Listed, Expect::Any));
        assert!(Arc::ptr_eq(&tasks[0], &tasks[1]));
    }

    #[test]
    fn a_line_that_makes_no_sense_is_told_with_its_place_and_the_remedy() {
        let label = "a".repeat(64);
        for (line, expected) in [
            ("a AAA", "q.txt:2: type \"AAA\" is not known; write a name such as A, AAAA"),
            ("a TYPE65536", "q.txt:2: type \"TYPE65536\" is not known"),
            ("a AXFR", "q.txt:2: AXFR is no lookup; ask for A"),
            ("a TYPE0", "q.txt:2: TYPE0 is no lookup"),
            ("a IN A", "q.txt:2: more than a name and a type; leave out the class IN"),
            ("a A b", "q.txt:2: more than a name and a type; leave out the rest"),
            (".example A", "q.txt:2: \".example\" is no domain name: empty label"),
            ("a..b A", "is no domain name: empty label"),
            ("a\\9 A", "bad escape"),
            (&label, "a label is longer than 63 octets"),
            ("add www 3600 A 10.0.0.1", "\"add\" is part of a dynamic update"),
            ("send", "\"send\" is part of a dynamic update"),
            ("prohibit a b", "only questions can be asked, as NAME TYPE"),
        ] {
            let text = refusal(format!("ok A\n{line}\nok A"));
            assert!(text.contains(expected), "{line}: {text}");
            assert!(text.starts_with("q.txt:2: ") && !text.contains('\n'), "{text}");
        }
        let text = refusal([b"a A\n" as &[u8], b"\xff A"].concat());
        assert!(text.starts_with("q.txt:2: not UTF-8"), "{text}");
    }

    #[test]
    fn a_long_line_is_one_bad_line_and_takes_no_memory() {
        let long = "a".repeat(LINE_OCTETS_MAX + 5000);
        let text = refusal(format!("{long} A\nb A\n{long}"));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("q.txt:1: longer than 2048 octets"), "{text}");
        assert!(lines[1].starts_with("q.txt:3: longer"), "{text}");
        let exact = format!("{}\nb BAD", " ".repeat(LINE_OCTETS_MAX));
        assert!(refusal(exact).starts_with("q.txt:2: type"));
    }

    #[test]
    fn the_first_bad_lines_are_told_and_the_others_counted() {
        let text = refusal("a BAD\n".repeat(12));
        assert_eq!(text.lines().count(), BAD_TOLD_MAX + 1);
        assert!(text.ends_with(
            "q.txt: 12 bad lines, of which the first 5 are told; correct or remove them"
        ));
        let text = refusal("a BAD\n".repeat(BAD_LINES_MAX * 2));
        assert!(text.contains("1000 bad lines or more"), "{text}");
    }

    #[test]
    fn a_file_without_names_is_refused() {
        for text in ["", "\n\n", "; only\n# comments"] {
            assert!(refusal(text).contains("there is no name in it; write one on each line"));
        }
        assert!(refusal(b"\xd4\xc3\xb2\xa1\x02\x00").contains("use --capture q.txt"));
    }

    #[test]
    fn a_list_that_takes_too_much_memory_is_refused_with_the_remedy() {
        let read = read_from("q.txt", &b"a A\na A\nb A"[..], List::bounded(1, 10));
        let Err(Trouble::Wrong(text)) = read else { panic!("{read:?}") };
        assert!(text.starts_with("q.txt: more than 2000000 different names"), "{text}");
        assert!(text.contains("shuf -n"), "{text}");
    }

    #[test]
    fn files_that_cannot_be_read_are_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone.txt");
        let text = read(&gone).unwrap_err().to_string();
        assert!(text.contains("gone.txt") && text.contains("check the path"), "{text}");
        let text = read(folder.path()).unwrap_err().to_string();
        assert!(text.contains("name a file in it"), "{text}");
        let file = folder.path().join("q.txt");
        std::fs::write(&file, "a.example AAAA\n").unwrap();
        assert_eq!(read(&file).unwrap().len(), 1);
    }
}

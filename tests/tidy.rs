//! The rules of the house that a compiler does not check: who may import whom, which file is the
//! door of which dependency, how a file looks. Each breach is told with file and line.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use regex::Regex;

/// The rooms, and those that each may import. Imports follow the packet and never come back; only
/// `app` knows all. `corefile` reads the configuration types of the rooms, see [`CONFIG_ONLY`].
const ROOMS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("cluster", &["wire"]),
    ("forward", &["wire"]),
    ("resolve", &["cluster", "forward", "wire"]),
    ("listen", &["resolve", "wire"]),
    ("corefile", &["cluster", "forward", "resolve", "wire"]),
    ("ops", &["resolve", "cluster", "forward", "wire"]),
    ("load", &["cluster", "listen", "ops", "wire"]),
    ("app", &["cluster", "corefile", "forward", "listen", "load", "ops", "resolve", "wire"]),
];

/// Room, and what it may import of another: any other module is none of its business.
const PARTS: &[(&str, &str, &[&str])] = &[
    ("corefile", "cluster", CONFIG_ONLY),
    ("corefile", "forward", CONFIG_ONLY),
    ("corefile", "resolve", CONFIG_ONLY),
    ("resolve", "cluster", &["config", "published", "snapshot", "zone"]),
    ("load", "cluster", &["config", "feed", "object", "pods", "positions", "source"]),
    ("load", "listen", &["batch"]),
    ("load", "ops", &["http", "log"]),
];
const CONFIG_ONLY: &[&str] = &["config"];

/// The doors: dependency, and the files and folders of `src` that may use it.
const DOORS: &[(&str, &[&str])] = &[
    ("axum", &["ops/"]),
    ("base64", &["load/report/histogram.rs"]),
    ("clap", &["app/arguments.rs", "load/arguments.rs"]),
    ("equivalent", &["resolve/cache.rs"]),
    ("etherparse", &["load/capture/"]),
    ("flate2", &["load/report/histogram.rs"]),
    ("hashbrown", &["cluster/watch/seen.rs"]),
    ("hdrhistogram", &["load/record/", "load/report/"]),
    ("hickory_proto", &["wire/message.rs"]),
    ("http", &["cluster/", "ops/"]),
    ("http_body_util", &["cluster/pods.rs", "cluster/watch/"]),
    ("hyper", &["ops/connections.rs"]),
    ("hyper_util", &["cluster/connect.rs", "ops/connections.rs"]),
    ("k8s_openapi", &["cluster/read/"]),
    ("kube", &["cluster/connect.rs", "cluster/pods.rs", "cluster/selector.rs", "cluster/watch/"]),
    ("libc", &["listen/batch.rs", "listen/batch/"]),
    ("memchr", &["cluster/watch/lines.rs"]),
    ("mimalloc", &["main.rs"]),
    (
        "rustix",
        &[
            "app/limits.rs",
            "app/supervise/",
            "listen/batch/",
            "listen/journal.rs",
            "listen/kept.rs",
            "listen/socket.rs",
            "load/fault/",
            "load/packets/",
            "load/report/live.rs",
        ],
    ),
    ("moka", &["resolve/cache.rs"]),
    ("prometheus_client", &["ops/"]),
    ("pcap_file", &["load/capture/"]),
    ("prost", &["load/capture/"]),
    ("rand_distr", &["load/arrivals.rs", "load/tasks/popularity.rs"]),
    ("regex", &["corefile/directives/", "resolve/config.rs", "resolve/errors.rs"]),
    ("rustls", &["cluster/connect.rs"]),
    ("serde", &["cluster/", "load/"]),
    ("serde_json", &["cluster/", "load/"]),
    ("serde_saphyr", &["cluster/manifest/"]),
    ("sha2", &["cluster/snapshot/", "corefile/fingerprint.rs"]),
    ("shlex", &["load/drill/", "load/fault/"]),
    ("socket2", &["forward/exchange.rs", "listen/", "load/packets/", "load/resolver/"]),
    ("toml", &["load/drill/"]),
    ("tower", &["cluster/connect.rs"]),
    ("tracing_subscriber", &["ops/log.rs"]),
    ("triomphe", &["cluster/trie.rs"]),
];

/// Dependencies without a door, because they are a way of writing and not a way in or out.
const EVERYWHERE: &[&str] = &[
    "arc_swap",
    "foldhash",
    "futures_util",
    "parking_lot",
    "rand",
    "thiserror",
    "tokio",
    "tracing",
];

/// Files and folders that read no clock and open no socket: time is a parameter there.
const TIMELESS: &[&str] = &[
    "wire/",
    "resolve/",
    "cluster/hosts.rs",
    "cluster/index.rs",
    "cluster/object.rs",
    "cluster/records.rs",
    "cluster/schema.rs",
    "cluster/trie.rs",
    "cluster/trie/",
    "cluster/zone/",
    "forward/choose.rs",
    "forward/health.rs",
    "forward/request.rs",
];

/// Those among them that may, with the reason.
const TIMED: &[(&str, &str)] = &[
    ("resolve/later.rs", "an errand waits, on the runtime's clock, which tests can stop"),
    ("resolve/fetch.rs", "as errands do, whose Flights these are"),
];

/// Names that say nothing.
const BANNED: &[&str] = &[
    "common",
    "context",
    "contexts",
    "data",
    "engine",
    "helper",
    "helpers",
    "info",
    "manager",
    "managers",
    "misc",
    "processor",
    "util",
    "utils",
];

/// Longest line, in characters, and longest file, in lines.
const COLUMNS_MAX: usize = 100;
const LINES_MAX: usize = 600;

/// A file of the repository.
struct File {
    /// From the root of the repository.
    path: String,
    text: String,
}

impl File {
    /// Where it is in `src`.
    fn in_src(&self) -> &str {
        self.path.strip_prefix("src/").unwrap_or(&self.path)
    }

    fn room(&self) -> &str {
        let first = self.in_src().split('/').next().unwrap_or_default();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// All lines of code, numbered, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().zip(1..).filter_map(|(line, number)| {
            let is_comment = line.trim_start().starts_with("//");
            (!is_comment).then(|| (number, line.split(" // ").next().unwrap_or(line)))
        })
    }

    /// The lines of code that run in production.
    fn production(&self) -> impl Iterator<Item = (usize, &str)> {
        let tests = pattern(r"#\[cfg\(test\)\]\n(pub\S+ )?mod \w+ \{").find(&self.text);
        let end = match tests {
            _ if self.path.ends_with("/tests.rs") || self.path.contains("/tests/") => 0,
            Some(tests) => self.text[..tests.start()].lines().count(),
            None => usize::MAX,
        };
        self.code().take_while(move |(number, _)| *number <= end)
    }

    fn is_in(&self, places: &[&str]) -> bool {
        let path = self.in_src();
        places.iter().any(|place| path == *place || place.ends_with('/') && path.starts_with(place))
    }

    fn breach(&self, line: usize, what: impl Display) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

/// Every text file below a folder of the repository.
fn files(folder: &str) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.extend((name != "target" && name != ".git").then_some(path));
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                let path = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.push(File { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!files.is_empty(), "{folder} has no files");
    files
}

fn rust(folder: &str) -> Vec<File> {
    files(folder).into_iter().filter(|file| file.path.ends_with(".rs")).collect()
}

/// Fails with all breaches, one to a line.
fn report(rule: &str, breaches: Vec<String>) {
    assert!(breaches.is_empty(), "{rule}\n  {}\n", breaches.join("\n  "));
}

/// Checks each line of code of `src`.
fn check_src(rule: &str, check: impl Fn(&File, &str) -> Option<String>) {
    let mut breaches = Vec::new();
    for file in rust("src") {
        for (number, line) in file.code() {
            breaches.extend(check(&file, line).map(|what| file.breach(number, what)));
        }
    }
    report(rule, breaches);
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).unwrap()
}

#[test]
fn imports_follow_the_packet_and_never_come_back() {
    let import = pattern(r"\bcrate::(\w+)(?:::(\w+))?");
    let rooms: BTreeSet<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    check_src("a room imports what is not below it", |file, line| {
        let (_, below) = ROOMS.iter().find(|(room, _)| *room == file.room())?;
        import.captures_iter(line).find_map(|found| {
            let (room, module) = (found.get(1)?.as_str(), found.get(2).map(|it| it.as_str()));
            if !rooms.contains(room) || room == file.room() {
                return None;
            }
            if !below.contains(&room) {
                return Some(format!("{} may not import {room}", file.room()));
            }
            let parts = PARTS.iter().find(|(from, to, _)| (*from, *to) == (file.room(), room));
            let is_allowed =
                parts.is_none_or(|(_, _, parts)| parts.contains(&module.unwrap_or("")));
            (!is_allowed).then(|| format!("{} may not know {room}::{module:?}", file.room()))
        })
    });
}

/// `use crate::{a, b}` would hide rooms from the rule above.
#[test]
fn every_import_names_its_room() {
    check_src("an import hides its room", |_, line| {
        line.contains("crate::{").then(|| "write one `use` for each room".to_owned())
    });
}

#[test]
fn every_file_of_src_belongs_to_a_room() {
    let loose = rust("src").into_iter().filter(|file| {
        let is_known = ROOMS.iter().any(|(room, _)| *room == file.room());
        !is_known && !["lib.rs", "main.rs"].contains(&file.in_src())
    });
    let breaches = loose.map(|file| file.breach(1, "in no room; add it to ROOMS")).collect();
    report("a file without a room", breaches);
}

#[test]
fn only_app_is_known_to_main() {
    let import = pattern(r"\bmainstay::(\w+)");
    check_src("main knows more than app", |file, line| {
        let found = import.captures(line).filter(|_| file.path == "src/main.rs")?;
        (&found[1] != "app").then(|| format!("main may not import {}", &found[1]))
    });
}

#[test]
fn every_dependency_has_its_door() {
    let used = pattern(r"(?:^|[^\w:.>])(\w+)::");
    check_src("a dependency comes in by another door", |file, line| {
        used.captures_iter(line).find_map(|found| {
            let (name, doors) = DOORS.iter().find(|(name, _)| *name == &found[1])?;
            (!file.is_in(doors)).then(|| format!("{name} belongs to {}", doors.join(", ")))
        })
    });
}

/// A door that nobody uses, or a dependency without one, is a table that lies.
#[test]
fn the_table_of_doors_is_that_of_the_manifest() {
    let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    let manifest = manifest.unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let is_line = |line: &&str| !line.starts_with('#') && line.contains('=');
    let named = section.lines().filter(is_line).map(|line| line.split(' ').next().unwrap());
    let named: BTreeSet<String> = named.map(|name| name.replace('-', "_")).collect();
    let doors = DOORS.iter().map(|(name, _)| *name);
    let known: BTreeSet<String> =
        doors.chain(EVERYWHERE.iter().copied()).map(str::to_owned).collect();
    assert_eq!(named, known, "Cargo.toml on the left, this file on the right");
    let sources = rust("src");
    for (name, doors) in DOORS {
        for door in *doors {
            let word = pattern(&format!(r"\b{name}::"));
            let uses = |file: &&File| file.is_in(&[door]) && word.is_match(&file.text);
            assert!(sources.iter().any(|file| uses(&file)), "{door} does not use {name}");
        }
    }
}

#[test]
fn every_file_begins_with_its_purpose_and_keeps_to_the_page() {
    let mut breaches = Vec::new();
    for file in ["src", "tests", "benches"].into_iter().flat_map(rust) {
        // The crate's own docs are the README beside it.
        let is_told =
            file.text.starts_with("//! ") || file.text.starts_with("#![doc = include_str!");
        if !is_told {
            breaches.push(file.breach(1, "begins without a `//!` sentence"));
        }
        let lines = file.text.lines().count();
        if lines > LINES_MAX {
            breaches.push(file.breach(lines, format!("longer than {LINES_MAX} lines")));
        }
        for (line, number) in file.text.lines().zip(1..) {
            let columns = line.chars().count();
            // A text stays whole, so that it can be searched for; rustfmt leaves it alone too.
            if columns > COLUMNS_MAX && !line.contains('"') {
                breaches.push(file.breach(number, format!("{columns} columns")));
            }
        }
    }
    report("the look of a file", breaches);
}

#[test]
fn no_module_has_a_name_that_says_nothing() {
    let declared = pattern(r"^\s*(?:pub(?:\([^)]*\))? )?mod (\w+)");
    let mut breaches = Vec::new();
    for file in rust("src") {
        let words = file.in_src().split(['/', '.', '_']).map(str::to_owned);
        breaches
            .extend(words.filter(|word| BANNED.contains(&&**word)).map(|it| file.breach(1, it)));
        for (number, line) in file.code() {
            let name = declared.captures(line).map(|found| found[1].to_owned());
            let banned = name.filter(|name| name.split('_').any(|word| BANNED.contains(&word)));
            breaches.extend(banned.map(|name| file.breach(number, name)));
        }
    }
    report("a module with a name that says nothing", breaches);
}

/// A bug in a test is a failed test; in production it is an outage.
#[test]
fn production_code_does_not_unwrap() {
    let mut breaches = Vec::new();
    for file in rust("src") {
        let unwraps = file.production().filter(|(_, line)| line.contains(".unwrap()"));
        breaches.extend(unwraps.map(|(number, _)| {
            file.breach(number, "unwrap(); return an error, or expect(\"the invariant\")")
        }));
    }
    report("unwrap outside tests", breaches);
}

#[test]
fn unsafe_code_is_in_one_place() {
    let word = pattern(r"\bunsafe\s*(\{|fn|impl|extern)|allow\(unsafe_code\)");
    check_src("unsafe code", |file, line| {
        let is_found = word.is_match(line) && !file.is_in(&["listen/batch.rs", "listen/batch/"]);
        is_found.then(|| "unsafe belongs to listen/batch".to_owned())
    });
}

#[test]
fn what_decides_reads_no_clock_and_opens_no_socket() {
    let outside = pattern(r"\bInstant::now\b|\bSystemTime\b|\b(Udp|Tcp)(Socket|Stream|Listener)\b");
    let timed: Vec<&str> = TIMED.iter().map(|(path, _)| *path).collect();
    let mut breaches = Vec::new();
    let mut used = BTreeSet::new();
    for file in rust("src").iter().filter(|file| file.is_in(TIMELESS)) {
        for (number, line) in file.production().filter(|(_, line)| outside.is_match(line)) {
            if file.is_in(&timed) {
                used.insert(file.in_src().to_owned());
            } else {
                breaches
                    .push(file.breach(number, format!("takes no part in time: {}", line.trim())));
            }
        }
    }
    report("a clock or a socket where time is a parameter", breaches);
    assert_eq!(used.len(), TIMED.len(), "an exception that nobody needs");
}

/// What works only on the machine that it was written on, or tells about it.
#[test]
fn no_file_names_a_path_of_one_machine() {
    let path = pattern(r#"(?:^|[^\w./$}~-])/(?:tmp|root|home/\w+|work)(?:/|\b)"#);
    let mut breaches = Vec::new();
    for file in files("").into_iter().filter(|file| file.path != "tests/tidy.rs") {
        for (line, number) in file.text.lines().zip(1..) {
            breaches.extend(path.find(line).map(|found| file.breach(number, found.as_str())));
        }
    }
    report("a path of one machine", breaches);
}

#[test]
fn the_rules_see_what_they_forbid() {
    let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
    let source =
        file("src/wire/a.rs", "// x.unwrap()\nlet a = 1; // b\n#[cfg(test)]\nmod tests {\n}");
    let production: Vec<_> = source.production().collect();
    assert_eq!(production, [(2, "let a = 1;")]);
    assert_eq!(source.code().count(), 4);
    assert_eq!((source.room(), file("src/app.rs", "").room()), ("wire", "app"));
    assert!(source.is_in(&["wire/"]) && source.is_in(&["wire/a.rs"]) && !source.is_in(&["wire"]));
    assert_eq!(source.breach(2, "no"), "src/wire/a.rs:2: no");
}

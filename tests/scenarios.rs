//! Behaviour, one file each: every `tests/scenarios/*.txt` is run against the real Plan in process.
//!
//! ```text
//! # Kubernetes DNS spec §2.4.1
//! cluster  service shop/web headless; endpoint 10.0.0.1; endpoint 10.0.0.2 unready
//! query    web.shop.svc.cluster.local A
//! expect   NOERROR aa  web.shop.svc.cluster.local 5 A 10.0.0.1
//! time     +6s
//! ```
//!
//! A statement begins at the left margin with its word; lines that are indented continue it, and
//! `;` parts it as a new line does. Lines that begin with `#` say why, and cite.
//!
//! `own ADDRESS…` Addresses of this server, before all else; by default none.
//! `corefile` The Corefile, indented; it comes first. `$up` stands for the address of a scripted
//!   upstream of that name. Without it, [`world::COREFILE`]. A later one is a reload.
//! `cluster …` What the API server says; see [`cluster`]. Everything is listed from the start,
//!   unless `cluster unsynced` comes first; then `cluster synced` ends the lists.
//! `upstream NAME …` What a scripted upstream answers from here on; see [`script`].
//! `query OPTION… NAME TYPE` One packet; see [`client`]. `query hex 00 01 …` sends these octets.
//! `expect RCODE FLAG… RECORD; …` What comes back to the earliest query without a verdict, in
//!   full; see [`shape`]. `expect drop` is no reply, `expect held` is none so far.
//! `orders N OPTION… NAME TYPE` In how many orders the records come when one asks many times.
//! `asked N`, `asked NAME N`, `asked NAME tcp N` Questions that upstreams got, without probes.
//! `refreshed` Waits until the refreshes behind the replies have ended.
//! `time +6s` Moves the clock, which stands otherwise.
//!
//! The clock is tokio's, paused. Loopback I/O is real, and a paused clock would jump while it is
//! under way; so a blocking task, which holds the clock (`tokio::time::pause`), lives as long as
//! the scenario. It is also the watchdog: nothing may take [`world::PATIENCE`] of real time.
//!
//! `SCENARIO=part-of-a-name` runs those files only.

use std::path::{Path, PathBuf};

#[path = "support/scenario/client.rs"]
mod client;
#[path = "support/scenario/cluster.rs"]
mod cluster;
#[path = "support/scenario/script.rs"]
mod script;
#[path = "support/scenario/shape.rs"]
mod shape;
#[path = "support/scenario/statement.rs"]
mod statement;
#[path = "support/upstream.rs"]
mod upstream;
#[path = "support/scenario/world.rs"]
mod world;

/// The scenarios, in the order of their names.
fn scenarios() -> Vec<PathBuf> {
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    let entries = std::fs::read_dir("tests/scenarios").unwrap().map(|entry| entry.unwrap().path());
    let is_wanted = |path: &PathBuf| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        path.extension().is_some_and(|kind| kind == "txt") && stem.contains(&wanted)
    };
    let mut files: Vec<PathBuf> = entries.filter(is_wanted).collect();
    files.sort();
    files
}

/// Runs one scenario; the error is `file:line: what`.
fn check(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).unwrap();
    check_text(&text).map_err(|(line, what)| format!("{}:{line}: {what}", path.display()))
}

fn check_text(text: &str) -> Result<(), statement::Failure> {
    let statements = statement::read(text)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(world::run(&statements))
}

#[test]
fn every_scenario_comes_out_as_written() {
    let paths = scenarios();
    assert!(!paths.is_empty(), "no scenario in tests/scenarios");
    let failures: Vec<String> = paths.iter().filter_map(|path| check(path).err()).collect();
    println!("{} scenarios ran", paths.len());
    assert!(failures.is_empty(), "{} failed\n\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn what_comes_out_otherwise_is_told_with_its_line() {
    let service = "cluster service shop/web clusterip 10.96.0.1\n";
    let query = "query web.shop.svc.cluster.local A\n";
    let answer = "web.shop.svc.cluster.local 5 A 10.96.0.1";
    let fails = |text: String| check_text(&text).expect_err(&text);
    for wrong in [
        format!("expect NXDOMAIN aa {answer}"),
        format!("expect NOERROR {answer}"),
        format!("expect NOERROR aa ra {answer}"),
        format!("expect NOERROR aa ede=14 {answer}"),
        format!("expect NOERROR aa {answer}; {answer}"),
        format!("expect NOERROR aa; because nobody knows; {answer}"),
        "expect NOERROR aa".into(),
        "expect NOERROR aa web.shop.svc.cluster.local 4 A 10.96.0.1".into(),
        "expect NOERROR aa Web.shop.svc.cluster.local 5 A 10.96.0.1".into(),
        format!("expect NOERROR aa; authority {answer}"),
        "expect NOERROR aa; answers 2".into(),
        "expect drop".into(),
        "expect held".into(),
    ] {
        let (line, what) = fails(format!("{service}{query}{wrong}"));
        assert_eq!(line, 3, "{wrong}: {what}");
    }
    assert_eq!(fails(format!("{query}asked 0")).1, "a query has no expect");
    assert_eq!(fails("asked 1".into()), (1, "asked 0".into()));
    assert!(fails("corefile\n nonsense {".into()).1.contains("stdin"));
    assert!(fails("reload".into()).1.contains("not a statement"));
}

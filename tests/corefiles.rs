//! Loads every file below `tests/corefiles`, and shows that no text, however broken, does more than
//! be refused.

use std::path::{Path, PathBuf};

use mainstay::corefile::{Options, Origin, load};
use proptest::prelude::*;
use proptest::sample::Index;

/// The Corefiles in a folder of the corpus, in the order of their names.
fn corpus(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new("tests/corefiles").join(folder);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_corefile = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "Corefile");
    let mut files: Vec<PathBuf> = entries.filter(is_corefile).collect();
    assert!(!files.is_empty());
    files.sort();
    files
}

/// What follows `# keyword: ` at the top of a file.
fn announced(path: &Path, keyword: &str) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let prefix = format!("# {keyword}: ");
    text.lines().map_while(|line| line.strip_prefix(&prefix)).map(str::to_owned).collect()
}

/// The problems as text, with names of files relative to the folder of `path`.
fn texts(path: &Path, problems: &[mainstay::corefile::Problem]) -> Vec<String> {
    let folder = format!("{}/", path.parent().unwrap().display());
    problems.iter().map(|problem| problem.to_string().replace(&folder, "")).collect()
}

fn options() -> Options {
    Options { variable: |_| None, ..Options::default() }
}

#[test]
fn every_valid_corefile_loads_with_the_warnings_that_it_announces() {
    for path in corpus("valid") {
        match load(&Origin::File(path.clone()), &options()) {
            Ok(corefile) => {
                let warnings = texts(&path, &corefile.warnings);
                assert_eq!(warnings, announced(&path, "warns"), "{}", path.display());
            }
            Err(problems) => panic!("{}: {:#?}", path.display(), texts(&path, &problems)),
        }
    }
}

#[test]
fn every_invalid_corefile_has_exactly_the_problems_that_it_announces() {
    for path in corpus("invalid") {
        match load(&Origin::File(path.clone()), &options()) {
            Ok(_) => panic!("{} loads", path.display()),
            Err(problems) => {
                let problems = texts(&path, &problems);
                assert_eq!(problems, announced(&path, "expect"), "{}", path.display());
            }
        }
    }
}

#[test]
fn a_corefile_cut_off_anywhere_is_loaded_or_refused_but_never_panics() {
    let text = std::fs::read("tests/corefiles/valid/kubeadm.Corefile").unwrap();
    for end in 0..text.len() {
        let outcome = load(&Origin::Stdin(text[..end].to_vec()), &options());
        let problems = outcome.map(|_| Vec::new()).unwrap_or_else(|problems| problems);
        assert!(problems.len() <= 1, "{end}: {problems:#?}");
    }
}

/// Text that looks like a Corefile from afar.
fn words() -> impl Strategy<Value = String> {
    const WORDS: &[&str] = &[
        "{",
        "}",
        "\n",
        "\n",
        " ",
        "#",
        "\"",
        "\\\"",
        "\\",
        ",",
        ".",
        ".:53",
        "cluster.local",
        "10.96.0.0/12",
        "::/3",
        "(a)",
        "import a",
        "import",
        "{$HOME}",
        "{%X",
        "errors",
        "consolidate",
        "health",
        "lameduck",
        "5s",
        "ready",
        "kubernetes",
        "ttl 30",
        "forward",
        "/etc/resolv.conf",
        "[::1]:53",
        "cache 30",
        "serve_stale",
        "prefetch",
        "10%",
        "loop",
        "reload",
        "99999999999999999999",
        "-1",
        "é",
    ];
    let word =
        prop_oneof![8 => prop::sample::select(WORDS).prop_map(str::to_owned), 1 => "\\PC{0,3}"];
    prop::collection::vec(word, 0..60).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_octets_never_panic(octets in prop::collection::vec(any::<u8>(), 0..512)) {
        let _ = load(&Origin::Stdin(octets), &options());
    }

    #[test]
    fn random_words_never_panic(text in words()) {
        let _ = load(&Origin::Stdin(text.into_bytes()), &options());
    }

    #[test]
    fn changed_corefiles_never_panic(
        file in any::<Index>(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>(), any::<bool>()), 1..8),
    ) {
        let mut octets = std::fs::read(file.get(&corpus("valid"))).unwrap();
        for (at, octet, is_removed) in changes {
            let at = at.index(octets.len());
            if is_removed {
                octets.remove(at);
            } else {
                octets[at] = octet;
            }
        }
        let _ = load(&Origin::Stdin(octets), &options());
    }
}

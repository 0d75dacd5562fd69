//! Every crate of the tree has a licence that `deny.toml` allows. Offline, so that it needs no
//! tool.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The list `allow` of `deny.toml`.
fn allowed() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("deny.toml")).unwrap();
    let list = text.split_once("\nallow = [").unwrap().1.split_once(']').unwrap().0;
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Name and licence expression of every crate that we could link, ourselves included.
fn crates() -> Vec<(String, String)> {
    // Only of this platform: cargo has not fetched the crates of others.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--locked", "--format-version", "1"])
        .args(["--filter-platform", &platform])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages.map(|package| (text(&package["name"]), text(&package["license"]))).collect()
}

/// Whether a licence expression (SPDX, with the older `/` for OR) can be met by `allowed` alone.
fn is_met(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest, allowed) && rest.is_empty()
}

/// Alternatives; AND binds closer than OR.
fn any_of(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut is_met = all_of(words, allowed);
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        is_met |= all_of(words, allowed);
    }
    is_met
}

/// Licences that all apply.
fn all_of(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut is_met = one(words, allowed);
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        is_met &= one(words, allowed);
    }
    is_met
}

/// One licence, with its exception, or an expression in parentheses.
fn one(words: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let is_met = any_of(words, allowed);
            let Some((&")", rest)) = words.split_first() else { return false };
            *words = rest;
            is_met
        }
        [name, "WITH", exception, rest @ ..] => {
            *words = rest;
            allowed.contains(&format!("{name} WITH {exception}"))
        }
        [name, rest @ ..] => {
            *words = rest;
            allowed.contains(*name)
        }
        [] => false,
    }
}

#[test]
fn every_crate_has_a_licence_that_is_allowed() {
    let (allowed, crates) = (allowed(), crates());
    assert!(crates.len() > 100, "the tree is larger than {}", crates.len());
    let refused: Vec<_> = crates.iter().filter(|(_, licence)| !is_met(licence, &allowed)).collect();
    assert!(refused.is_empty(), "not allowed by deny.toml: {refused:?}");
}

/// A list that only grows is no list.
#[test]
fn every_allowed_licence_is_named_by_some_crate() {
    let (allowed, crates) = (allowed(), crates());
    for licence in &allowed {
        let named = |(_, expression): &&(String, String)| expression.contains(licence.as_str());
        assert!(crates.iter().any(|one| named(&one)), "no crate names {licence}");
    }
}

#[test]
fn expressions_are_read_with_their_precedence() {
    let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT", true),
        ("Unlicense/MIT", true),
        ("MIT AND GPL-3.0-only", false),
        ("GPL-3.0-only OR MIT AND ISC", true),
        ("(GPL-3.0-only OR MIT) AND ISC", true),
        ("(MIT OR ISC) AND GPL-3.0-only", false),
        ("Apache-2.0 WITH LLVM-exception", true),
        ("Apache-2.0", false),
        ("none", false),
        ("", false),
        ("(MIT", false),
    ] {
        assert_eq!(is_met(expression, &allowed), expected, "{expression:?}");
    }
}

//! Which Mainstays are measured: the one just built, or those of the command line.

use std::path::PathBuf;

/// Labels and paths of what `--mainstay [LABEL=]PATH` names; each label begins with `name`.
pub fn mainstays(asked: &[String], name: &str) -> Vec<(String, PathBuf)> {
    if asked.is_empty() {
        return vec![(name.to_owned(), env!("CARGO_BIN_EXE_mainstay").into())];
    }
    let binary = |(number, text): (usize, &String)| match text.split_once('=') {
        Some((label, path)) => (format!("{name} {label}"), absolute(path)),
        None if number == 0 => (name.to_owned(), absolute(text)),
        None => (format!("{name} {}", number + 1), absolute(text)),
    };
    asked.iter().enumerate().map(binary).collect()
}

/// Servers run in folders of their own.
fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

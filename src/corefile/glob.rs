//! File patterns of `import` with one `*`: `/etc/coredns/custom/*.override`.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Entries of a folder that are looked at for one pattern.
const ENTRIES_MAX: usize = 10_000;

/// Why a pattern cannot be followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum GlobError {
    #[error("an import pattern may hold one \"*\" and no \"?\" or \"[\"")]
    TooWild,
    #[error("the folder holds more than {ENTRIES_MAX} entries")]
    TooMany,
}

/// Whether a text is a pattern rather than a path.
pub(super) fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// The files that match relative to `folder`, in the order of their names; a folder that cannot be
/// read has none.
///
/// # Errors
/// More than one wildcard, or a folder with more than [`ENTRIES_MAX`] entries.
pub(super) fn matches(folder: &Path, pattern: &str) -> Result<Vec<PathBuf>, GlobError> {
    if pattern.matches('*').count() != 1 || pattern.contains(['?', '[']) {
        return Err(GlobError::TooWild);
    }
    let (above, wild, below) = split(Path::new(pattern));
    let (before, after) = wild.split_once('*').unwrap_or_default();
    let folder = folder.join(above);
    let mut found = Vec::new();
    for name in entries(&folder)? {
        if fits(&name.to_string_lossy(), before, after) {
            found.extend(reached(folder.join(name), &below));
        }
    }
    found.sort();
    Ok(found)
}

/// What a matching entry leads to. A link that leads nowhere stays: that is a problem to be told.
fn reached(entry: PathBuf, below: &Path) -> Option<PathBuf> {
    if below.as_os_str().is_empty() {
        return (!is_hidden_folder(&entry)).then_some(entry);
    }
    Some(entry.join(below)).filter(|path| path.exists())
}

/// The folder before the wildcard, the component with it, and the path below.
fn split(pattern: &Path) -> (PathBuf, String, PathBuf) {
    let (mut folder, mut wild, mut below) = (PathBuf::new(), String::new(), PathBuf::new());
    for component in pattern.components() {
        let text = component.as_os_str().to_string_lossy();
        match component {
            Component::Normal(_) if text.contains('*') => wild = text.into_owned(),
            _ if wild.is_empty() => folder.push(component),
            _ => below.push(component),
        }
    }
    (folder, wild, below)
}

/// The names in a folder.
fn entries(folder: &Path) -> Result<Vec<OsString>, GlobError> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(listing) = folder.read_dir() else { return Ok(Vec::new()) };
    let entries = listing.flatten().take(ENTRIES_MAX + 1);
    let names: Vec<OsString> = entries.map(|entry| entry.file_name()).collect();
    if names.len() > ENTRIES_MAX { Err(GlobError::TooMany) } else { Ok(names) }
}

fn fits(name: &str, before: &str, after: &str) -> bool {
    name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
}

/// The kubelet keeps the versions of a mounted ConfigMap in folders such as `..data`; what
/// `import dir/*` means are the files beside them.
fn is_hidden_folder(path: &Path) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    is_hidden && path.is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_star_finds_files_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.server", "a.server", "a.override", ".server", "ab"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        std::fs::create_dir(folder.path().join("..data")).unwrap();
        std::fs::create_dir(folder.path().join("zone")).unwrap();
        std::fs::write(folder.path().join("zone/Corefile"), "").unwrap();
        let find = |pattern: &str| -> Vec<String> {
            let found = matches(folder.path(), pattern).unwrap();
            let below = |path: PathBuf| {
                path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned()
            };
            found.into_iter().map(below).collect()
        };
        assert_eq!(find("*.server"), [".server", "a.server", "b.server"]);
        assert_eq!(find("a*"), ["a.override", "a.server", "ab"]);
        assert_eq!(find("*/Corefile"), ["zone/Corefile"]);
        assert_eq!(find("none/*.server"), [""; 0]);
        assert!(!find("*").contains(&"..data".to_owned()));
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found_so_that_it_can_be_told() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("lost.server");
        std::os::unix::fs::symlink("/nowhere", &link).unwrap();
        assert_eq!(matches(folder.path(), "*.server"), Ok(vec![link]));
    }

    #[test]
    fn more_than_one_wildcard_is_refused() {
        for pattern in ["*/*.server", "?.server", "[ab].server"] {
            assert!(is_pattern(pattern));
            assert_eq!(matches(Path::new(""), pattern), Err(GlobError::TooWild));
        }
    }
}

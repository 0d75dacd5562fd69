//! Which files there are, and whether they changed.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Most files of all paths together.
pub(super) const FILES_MAX: usize = 4096;
/// Largest file, in bytes: a dump of 10 000 Services with their slices is about half of it.
pub(super) const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Deepest folder below a path: symbolic links may form circles.
const DEPTH_MAX: usize = 8;
/// Most folders of all paths together.
const FOLDERS_MAX: usize = 1024;
/// Endings of files that are read.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// What changes when a file does. The change time sees what the modification time can hide: an
/// edit of the same length in the same tick, or a file put in the place of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    length: u64,
    inode: (u64, u64),
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What is under the paths.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub files: BTreeMap<PathBuf, Stamp>,
    /// Files and folders that cannot be looked at, and why.
    pub missing: BTreeMap<PathBuf, String>,
    folders: usize,
}

/// Looks under `roots`. Names that begin with a dot are passed by, as the `..data` of a mounted
/// ConfigMap is, whose files are also linked beside it.
pub(super) fn scan(roots: &[PathBuf]) -> Scan {
    let mut scan = Scan::default();
    for root in roots {
        match fs::metadata(root) {
            Ok(found) if found.is_dir() => scan.look_into(root, 0),
            Ok(found) if found.is_file() => scan.add(root.clone(), &found),
            Ok(_) => scan.refuse(root, "it is neither a file nor a folder"),
            Err(error) => scan.miss(root, &error),
        }
    }
    scan
}

/// Reads a file.
///
/// # Errors
/// Why it cannot be read, as text.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    let length = read.map_err(|error| error.to_string())?;
    if length as u64 > FILE_BYTES_MAX {
        return Err(format!("it is too large; split it into files below {FILE_BYTES_MAX} bytes"));
    }
    Ok(text)
}

impl Scan {
    /// Adds the files in a folder and below.
    fn look_into(&mut self, folder: &Path, depth: usize) {
        self.folders += 1;
        if depth > DEPTH_MAX || self.folders > FOLDERS_MAX {
            return self.refuse(folder, "there are too many folders, or they are too deep");
        }
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return self.miss(folder, &error),
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            // Follows symbolic links, which is how ConfigMaps are mounted.
            match fs::metadata(&path) {
                Ok(found) if found.is_dir() => self.look_into(&path, depth + 1),
                Ok(found) if found.is_file() && has_known_ending(&path) => self.add(path, &found),
                Ok(_) => {}
                Err(error) => self.miss(&path, &error),
            }
        }
    }

    /// Adds a file, as long as there is room.
    fn add(&mut self, path: PathBuf, found: &Metadata) {
        if self.files.len() >= FILES_MAX {
            self.refuse(&path, "there are too many files");
        } else {
            self.files.insert(path, Stamp::of(found));
        }
    }

    /// Notes a path that cannot be looked at.
    fn miss(&mut self, path: &Path, error: &io::Error) {
        self.refuse(path, &error.to_string());
    }

    /// Notes a path that is left out, and why.
    fn refuse(&mut self, path: &Path, reason: &str) {
        if self.missing.len() < FILES_MAX {
            self.missing.insert(path.to_owned(), reason.to_owned());
        }
    }
}

impl Stamp {
    /// Takes the stamp from what the file system says.
    fn of(found: &Metadata) -> Self {
        Self {
            length: found.len(),
            inode: (found.dev(), found.ino()),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// Whether a file in a folder is meant for us.
fn has_known_ending(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known))
}

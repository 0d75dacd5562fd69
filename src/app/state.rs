//! The folder in which a server keeps what it wants to find again after a restart: the Snapshot,
//! and the last Corefile that was right.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::cluster::snapshot::file;

/// The folder when none is named. It is used where it is there and can be written to, and never
/// made: a Deployment that wants it mounts it.
pub const STATE_DEFAULT: &str = "/var/lib/mainstay";

/// The folder. What is in it can be used, though perhaps nothing new can be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    folder: PathBuf,
}

impl State {
    /// The folder that is named, or the default one. `None` if it cannot be used, which is told in
    /// one line: everything else works without it.
    pub fn open(named: Option<&Path>) -> Option<Self> {
        let folder = named.unwrap_or(Path::new(STATE_DEFAULT)).to_owned();
        let probed = {
            let folder = folder.clone();
            file::in_time(move || (fs::read_dir(&folder).map(drop), probe(&folder)))
        };
        let (is_readable, error) = match probed {
            Ok((_, Ok(()))) => return Some(Self { folder }),
            Ok((Ok(()), Err(error))) => (true, error),
            // One slow moment, perhaps: what reads and writes there does not wait for it for long.
            Err(error) if error.kind() == ErrorKind::TimedOut => {
                tracing::warn!(
                    "{}: {error}; it is tried again whenever it is needed",
                    folder.display()
                );
                return Some(Self { folder });
            }
            Ok((Err(error), Err(_))) | Err(error) => (false, error),
        };
        tell(&folder, &error, named.is_some(), is_readable);
        is_readable.then_some(Self { folder })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Tells that nothing is kept. Whoever named the folder wants it; the default one need not be
/// there.
fn tell(folder: &Path, error: &std::io::Error, is_named: bool, is_readable: bool) {
    let lost = match is_readable {
        true => "what is there is used, and nothing new is kept for the next start",
        false => "nothing is kept for the next start",
    };
    let text = format!(
        "{}: {error}; {lost}; mount a folder there that can be written to, or name another with \
         --state",
        folder.display()
    );
    if is_named || is_readable {
        tracing::warn!("{text}");
    } else {
        tracing::info!("{text}");
    }
}

/// Tries to write to a folder. The name is always the same, so that nothing piles up where we were
/// ended in the middle.
fn probe(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(".probe");
    fs::write(&path, b"")?;
    match fs::remove_file(&path) {
        // Another process that uses the folder was faster.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_on_a_slow_disk_is_kept() {
        let folder = tempfile::TempDir::new().unwrap();
        let probe = folder.path().join(".probe");
        // Who opens it to write waits for somebody who reads.
        let made = std::process::Command::new("mkfifo").arg(&probe).status();
        assert!(made.unwrap().success());
        let state = State::open(Some(folder.path()));
        assert_eq!(state.unwrap().folder(), folder.path());
        drop(fs::File::open(&probe));
    }

    #[test]
    fn a_folder_is_used_where_it_can_be_written_to_and_never_made() {
        let parent = tempfile::TempDir::new().unwrap();
        let state = State::open(Some(parent.path())).unwrap();
        assert_eq!(state.folder(), parent.path());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0, "nothing is left behind");
        // A folder in the place of the probe: it cannot be written, as on a disk that is read-only.
        fs::create_dir(parent.path().join(".probe")).unwrap();
        assert_eq!(State::open(Some(parent.path())), Some(state), "what is there can be read");
        let missing = parent.path().join("missing");
        assert_eq!(State::open(Some(&missing)), None);
        assert!(!missing.exists());
    }
}

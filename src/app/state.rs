//! The folder in which a server keeps what it wants to find again after a restart: the Snapshot,
//! and the last Corefile that was right.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder when none is named. It is used where it is there and can be written to, and never
/// made: a Deployment that wants it mounts it.
pub const STATE_DEFAULT: &str = "/var/lib/mainstay";

/// The folder, which could be written to at the start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    folder: PathBuf,
}

impl State {
    /// The folder that is named, or the default one. `None` if it cannot be used, which is told in
    /// one line: everything else works without it.
    pub fn open(named: Option<&Path>) -> Option<Self> {
        let folder = named.unwrap_or(Path::new(STATE_DEFAULT)).to_owned();
        match probe(&folder) {
            Ok(()) => Some(Self { folder }),
            Err(error) => {
                tell(&folder, &error, named.is_some());
                None
            }
        }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Tells that nothing is kept. Whoever named the folder wants it; the default one need not be
/// there.
fn tell(folder: &Path, error: &std::io::Error, is_named: bool) {
    let text = format!(
        "{}: {error}; nothing is kept for the next start; mount a folder there that can be written \
         to, or name another with --state",
        folder.display()
    );
    if is_named {
        tracing::warn!("{text}");
    } else {
        tracing::info!("{text}");
    }
}

/// Tries to write to a folder.
fn probe(folder: &Path) -> std::io::Result<()> {
    let path = folder.join(format!(".probe-{}", std::process::id()));
    fs::write(&path, b"")?;
    fs::remove_file(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_used_where_it_can_be_written_to_and_never_made() {
        let parent = tempfile::TempDir::new().unwrap();
        let state = State::open(Some(parent.path())).unwrap();
        assert_eq!(state.folder(), parent.path());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0, "nothing is left behind");
        let missing = parent.path().join("missing");
        assert_eq!(State::open(Some(&missing)), None);
        assert!(!missing.exists());
    }
}

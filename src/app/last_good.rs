//! A copy of the last Corefile that was served, for a start at which the file is missing or wrong.
//!
//! It stands by itself, imports and variables in place, and is readable as any Corefile is:
//! `mainstay check` takes it too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::state::State;
use crate::corefile::{self, Corefile, Origin};

/// Its name in the folder of the state.
const NAME: &str = "Corefile.last-good";
/// Begins the file.
const HEADLINE: &str = "# The last Corefile that was served, with imports and variables in place. \
                        Read at start when the Corefile is missing or wrong.\n";

/// The copy.
pub struct LastGood {
    /// `None` when there is no folder to keep it in.
    path: Option<PathBuf>,
    options: corefile::Options,
    /// What is in the file, or was refused: neither is tried again.
    kept: Option<Arc<str>>,
}

impl LastGood {
    /// The copy in this folder. `options` are those with which Corefiles are read.
    pub fn new(state: Option<&State>, options: corefile::Options) -> Self {
        let path = state.map(|state| state.folder().join(NAME));
        // Its text holds no variables; what looks like one is a word.
        let options =
            corefile::Options { variable: |name| Some(format!("{{${name}}}")), ..options };
        Self { path, options, kept: None }
    }

    /// Where it is.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The Corefile in it. `None` when there is none, or none that is right.
    pub async fn load(&self) -> Option<Corefile> {
        let (path, options) = (self.path.clone()?, self.options);
        let read = move || corefile::load(&Origin::File(path), &options).ok();
        tokio::task::spawn_blocking(read).await.ok().flatten()
    }

    /// Keeps a Corefile that is served, when it has changed. A disk that takes nothing costs one
    /// line of the log and nothing else.
    pub async fn keep(&mut self, corefile: &Corefile) {
        let Some(path) = self.path.clone() else { return };
        if self.kept.as_ref() == Some(&corefile.resolved) {
            return;
        }
        self.kept = Some(corefile.resolved.clone());
        let (corefile, options) = (corefile.clone(), self.options);
        let shown = path.display().to_string();
        let write = move || keep(&path, &corefile, &options);
        let written = tokio::task::spawn_blocking(write).await;
        if let Err(error) = written.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            tracing::warn!("{shown}: {error}; this Corefile is not kept for the next start");
        }
    }
}

/// Writes the copy, if it reads as the Corefile does.
fn keep(path: &Path, corefile: &Corefile, options: &corefile::Options) -> io::Result<()> {
    let text = format!("{HEADLINE}{}", corefile.resolved);
    let again = corefile::load(&Origin::Stdin(text.clone().into()), options);
    if !again.is_ok_and(|again| again.fingerprint == corefile.fingerprint) {
        return Err(io::Error::other("it holds words that cannot be written down as one text"));
    }
    if fs::read(path).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(());
    }
    replace(path, text.as_bytes())
}

/// Replaces a file, so that after a loss of power there is the old one or the new one.
fn replace(path: &Path, octets: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    let written = write(&aside, octets).and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        // Half of it takes room on a disk that may be full.
        let _ = fs::remove_file(&aside);
    }
    written?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn write(path: &Path, octets: &[u8]) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(octets)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn read(text: &str) -> Corefile {
        let options = corefile::Options::default();
        corefile::load(&Origin::Stdin(text.into()), &options).unwrap()
    }

    fn copy(folder: &Path) -> LastGood {
        LastGood::new(State::open(Some(folder)).as_ref(), corefile::Options::default())
    }

    #[tokio::test]
    async fn p12_what_was_served_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        assert!(copy(folder.path()).load().await.is_none());
        let corefile = read("(s) {\n cache 30\n}\n.:54 {\n import s\n}\n");
        copy(folder.path()).keep(&corefile).await;
        let found = copy(folder.path()).load().await.unwrap();
        assert_eq!(found.fingerprint, corefile.fingerprint);
        let file = folder.path().join(NAME);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
        fs::write(&file, "nonsense {").unwrap();
        assert!(copy(folder.path()).load().await.is_none());
    }

    #[tokio::test]
    async fn it_is_written_only_when_it_has_changed() {
        let folder = tempfile::tempdir().unwrap();
        let mut copy = copy(folder.path());
        copy.keep(&read(". {\n cache 30\n}\n")).await;
        fs::remove_file(folder.path().join(NAME)).unwrap();
        copy.keep(&read(". {\n cache  30 # s\n}\n")).await;
        assert!(copy.load().await.is_none());
        copy.keep(&read(". {\n cache 31\n}\n")).await;
        assert!(copy.load().await.is_some());
    }
}

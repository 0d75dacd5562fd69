//! A copy of the last Corefile that was served, for a start at which the file is missing or wrong.
//!
//! It stands by itself, imports and variables in place, and is readable as any Corefile is:
//! `mainstay check` takes it too.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::state::State;
use crate::cluster::snapshot::file;
use crate::corefile::{self, Corefile, Origin};

/// Its name in the folder of the state.
const NAME: &str = "Corefile.last-good";
/// Begins the file; then comes a line that says which Corefile it was.
const HEADLINE: &str = "# The last Corefile that was served, with imports and variables in place. \
                        Read at start when the Corefile is missing or wrong.\n";

/// The copy.
pub struct LastGood {
    copy: Arc<Copy>,
    /// The newest Corefile that is served, for the task that writes.
    wanted: watch::Sender<Option<Corefile>>,
    writer: Option<JoinHandle<()>>,
}

/// What the task that writes knows of it, too.
struct Copy {
    /// `None` when there is no folder to keep it in.
    path: Option<PathBuf>,
    /// Headlines, of which the second names the Corefile: the copy of another one is not used.
    head: String,
    options: corefile::Options,
    /// What is in the file.
    kept: Mutex<Option<Arc<str>>>,
}

impl LastGood {
    /// The copy in this folder of the Corefile from there. `options` are those with which Corefiles
    /// are read.
    pub fn new(state: Option<&State>, origin: &Origin, options: corefile::Options) -> Self {
        let path = state.map(|state| state.folder().join(NAME));
        // Its text holds no variables; what looks like one is a word.
        let options =
            corefile::Options { variable: |name| Some(format!("{{${name}}}")), ..options };
        let head = format!("{HEADLINE}# It is {}.\n", describe(origin));
        let copy = Copy { path, head, options, kept: Mutex::default() };
        Self { copy: Arc::new(copy), wanted: watch::Sender::new(None), writer: None }
    }

    /// Where it is.
    pub fn path(&self) -> Option<&Path> {
        self.copy.path.as_deref()
    }

    /// The Corefile in it. `None` when there is none, or none that is right, or the disk hangs.
    pub fn load(&self) -> Option<Corefile> {
        let copy = self.copy.clone();
        file::in_time(move || copy.load()).ok().flatten()
    }

    /// Keeps a Corefile that is served, when it has changed. Nobody waits for the disk; one that
    /// takes nothing costs one line of the log and nothing else.
    pub fn keep(&mut self, corefile: &Corefile) {
        if self.path().is_none() || self.copy.kept.lock().as_ref() == Some(&corefile.resolved) {
            return;
        }
        self.wanted.send_replace(Some(corefile.clone()));
        if self.writer.is_none() {
            let mut wanted = self.wanted.subscribe();
            wanted.mark_changed();
            self.writer = Some(tokio::spawn(write_newest(wanted, self.copy.clone())));
        }
    }

    /// Waits until what was kept is written.
    #[cfg(test)]
    async fn written(self) {
        drop(self.wanted);
        if let Some(writer) = self.writer {
            writer.await.expect("it writes to its end");
        }
    }
}

/// Names where a Corefile comes from, in one line that is the same at the next start.
fn describe(origin: &Origin) -> String {
    match origin {
        Origin::File(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            format!("{path:?}")
        }
        Origin::Stdin(_) => "standard input".to_owned(),
        Origin::Builtin(_) => "that of the program".to_owned(),
    }
}

/// Writes what is wanted, one after the other; of those that come meanwhile, the newest.
async fn write_newest(mut wanted: watch::Receiver<Option<Corefile>>, copy: Arc<Copy>) {
    let mut told: Option<Arc<str>> = None;
    while wanted.changed().await.is_ok() {
        let Some(corefile) = wanted.borrow_and_update().clone() else { continue };
        let text = corefile.resolved.clone();
        let write = {
            let copy = copy.clone();
            move || copy.keep(&corefile)
        };
        let written = tokio::task::spawn_blocking(write).await;
        match written.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(()) => *copy.kept.lock() = Some(text),
            Err(error) if told.as_ref() != Some(&text) => {
                let path = copy.path.as_deref().unwrap_or(Path::new("")).display();
                tracing::warn!("{path}: {error}; this Corefile is not kept for the next start");
                told = Some(text);
            }
            Err(_) => {}
        }
    }
}

impl Copy {
    fn load(&self) -> Option<Corefile> {
        let path = self.path.clone()?;
        if !fs::read_to_string(&path).ok()?.starts_with(&self.head) {
            tracing::info!("{} is of another Corefile and is not used", path.display());
            return None;
        }
        corefile::load(&Origin::File(path), &self.options).ok()
    }

    /// Writes the copy, if it reads as the Corefile does.
    fn keep(&self, corefile: &Corefile) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let text = format!("{}{}", self.head, corefile.resolved);
        let again = corefile::load(&Origin::Stdin(text.clone().into()), &self.options);
        if !again.is_ok_and(|again| again.fingerprint == corefile.fingerprint) {
            return Err(io::Error::other("it holds words that cannot be written down as one text"));
        }
        if fs::read(path).is_ok_and(|known| known == text.as_bytes()) {
            return Ok(());
        }
        replace(path, text.as_bytes())
    }
}

/// Replaces a file, so that after a loss of power there is the old one or the new one.
fn replace(path: &Path, octets: &[u8]) -> io::Result<()> {
    // A name of our own: two processes may share a folder while one takes over from the other.
    let name = format!(".{NAME}-{}-{:08x}.new", std::process::id(), rand::random::<u32>());
    let aside = path.with_file_name(name);
    let written = write(&aside, octets).and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        // Half of it takes room on a disk that may be full.
        let _ = fs::remove_file(&aside);
    }
    written?;
    path.parent().map_or(Ok(()), file::flush)
}

fn write(path: &Path, octets: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
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

    fn copy_of(folder: &Path, origin: &str) -> LastGood {
        let (state, origin) = (State::open(Some(folder)), Origin::File(origin.into()));
        LastGood::new(state.as_ref(), &origin, corefile::Options::default())
    }

    fn copy(folder: &Path) -> LastGood {
        copy_of(folder, "/etc/coredns/Corefile")
    }

    async fn keep(folder: &Path, corefile: &Corefile) {
        let mut copy = copy(folder);
        copy.keep(corefile);
        copy.written().await;
    }

    #[tokio::test]
    async fn p12_what_was_served_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        assert!(copy(folder.path()).load().is_none());
        let corefile = read("(s) {\n cache 30\n}\n.:54 {\n import s\n}\n");
        keep(folder.path(), &corefile).await;
        let found = copy(folder.path()).load().unwrap();
        assert_eq!(found.fingerprint, corefile.fingerprint);
        let file = folder.path().join(NAME);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
        fs::write(&file, "nonsense {").unwrap();
        assert!(copy(folder.path()).load().is_none());
    }

    #[tokio::test]
    async fn p12_the_copy_of_another_corefile_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        keep(folder.path(), &read(". {\n cache 30\n}\n")).await;
        assert!(copy_of(folder.path(), "/etc/coredns/other/Corefile").load().is_none());
        assert!(copy(folder.path()).load().is_some());
    }

    #[tokio::test]
    async fn it_is_written_only_when_it_has_changed_and_again_when_that_failed() {
        let folder = tempfile::tempdir().unwrap();
        let (corefile, path) = (read(". {\n cache 30\n}\n"), folder.path().join(NAME));
        let mut copy = copy(folder.path());
        // A folder in its place: it cannot be written.
        fs::create_dir_all(path.join("inside")).unwrap();
        let failing = copy.copy.clone();
        assert!(
            tokio::task::spawn_blocking({
                let corefile = corefile.clone();
                move || failing.keep(&corefile)
            })
            .await
            .unwrap()
            .is_err()
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
        fs::remove_dir_all(&path).unwrap();
        copy.keep(&corefile);
        while copy.copy.kept.lock().is_none() {
            tokio::task::yield_now().await;
        }
        fs::remove_file(&path).unwrap();
        copy.keep(&read(". {\n cache  30 # s\n}\n"));
        assert!(copy.load().is_none());
        copy.keep(&read(". {\n cache 31\n}\n"));
        copy.written().await;
        assert!(path.exists());
    }
}

//! Where the text of a Corefile comes from: bounded, and UTF-8 or refused.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::problem::{Location, Problem};

/// Octets of one file. A ConfigMap holds 1 MiB at most.
pub const FILE_OCTETS_MAX: usize = 1 << 20;

/// Where a Corefile comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A file; what it imports is found relative to its folder.
    File(PathBuf),
    /// What was read from standard input.
    Stdin(Vec<u8>),
    /// A text that the program brings along.
    Builtin(&'static str),
}

/// The text of one file.
pub(super) struct Source {
    /// As problems name it.
    pub file: Arc<str>,
    /// Where its imports are looked for.
    pub folder: PathBuf,
    /// Tells two imports of one file from each other, whatever way leads to it; `None` is no file.
    pub identity: Option<PathBuf>,
    pub text: String,
}

impl Origin {
    /// Takes the text.
    ///
    /// # Errors
    /// It cannot be read, is not UTF-8, or is longer than [`FILE_OCTETS_MAX`].
    pub(super) fn read(&self) -> Result<Source, Problem> {
        match self {
            Self::File(path) => Source::open(path),
            Self::Stdin(octets) => Source::of("stdin", octets),
            Self::Builtin(text) => Source::of("built-in Corefile", text.as_bytes()),
        }
        .map_err(|failure| Problem::new(&Location::whole(failure.file), "", failure.reason))
    }
}

/// Why there is no text.
pub(super) struct Failure {
    pub file: Arc<str>,
    pub reason: String,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// As [`Origin::read`].
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let file: Arc<str> = path.to_string_lossy().into();
        let octets = match read_bounded(path) {
            Ok(octets) => octets,
            Err(error) => return Err(Failure { file, reason: reason(error.kind()) }),
        };
        let text = match decode(&octets) {
            Ok(text) => text,
            Err(reason) => return Err(Failure { file, reason }),
        };
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        let identity = Some(path.canonicalize().unwrap_or_else(|_| path.to_owned()));
        Ok(Self { file, folder, identity, text })
    }

    /// Takes a text that is no file.
    fn of(file: &str, octets: &[u8]) -> Result<Self, Failure> {
        let text = decode(octets).map_err(|reason| Failure { file: file.into(), reason })?;
        Ok(Self { file: file.into(), folder: PathBuf::new(), identity: None, text })
    }
}

/// Reads one octet more than allowed, so that `decode` sees an oversized file for what it is.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    File::open(path)?.take(FILE_OCTETS_MAX as u64 + 1).read_to_end(&mut octets)?;
    Ok(octets)
}

fn decode(octets: &[u8]) -> Result<String, String> {
    if octets.len() > FILE_OCTETS_MAX {
        return Err(format!("the file is larger than {FILE_OCTETS_MAX} octets"));
    }
    match std::str::from_utf8(octets) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => {
            Err(format!("the file is not UTF-8 text, from octet {} on", error.valid_up_to()))
        }
    }
}

fn reason(kind: ErrorKind) -> String {
    match kind {
        ErrorKind::NotFound => "there is no such file".to_owned(),
        other => format!("the file cannot be read: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(origin: &Origin) -> String {
        origin.read().err().unwrap().to_string()
    }

    #[test]
    fn what_is_no_text_is_refused_with_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let large = folder.path().join("large");
        std::fs::write(&large, vec![b'#'; FILE_OCTETS_MAX + 1]).unwrap();
        assert!(refusal(&Origin::File(large)).ends_with("larger than 1048576 octets"));
        let missing = Origin::File("/nowhere/Corefile".into());
        assert_eq!(refusal(&missing), "/nowhere/Corefile - there is no such file");
        assert!(refusal(&Origin::File(folder.path().into())).contains("cannot be read"));
        assert_eq!(
            refusal(&Origin::Stdin(b".:53 {\xff".to_vec())),
            "stdin - the file is not UTF-8 text, from octet 6 on"
        );
    }
}

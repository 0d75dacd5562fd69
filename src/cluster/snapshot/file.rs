//! The file of a Snapshot: what surrounds its sections, and how it gets to the disk.
//!
//! ```text
//! "MAINSTAY" │ version │ length of all │ written at │ identity │ section … │ SHA-256 of all before
//! ```
//!
//! It is written beside its place, flushed, moved there, and the folder is flushed: whatever ends
//! that half-way, the file in place is the old one or the new one, and whole.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use sha2::{Digest, Sha256};

use super::octets::{Cursor, Writer};

/// Largest file that is written or read, in octets: some hundred times a cluster of 10 000
/// Services.
pub const SIZE_MAX: u64 = 256 * 1024 * 1024;
/// How old a file may be: as long as somebody may take to mend an API server over a holiday. What
/// is older has more addresses that are somebody else's by now than names that nobody else knows.
pub const AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Longest that a start waits for a disk.
pub const WAIT_MAX: Duration = Duration::from_secs(2);
/// The same where the disk let that start wait in vain a moment ago, and what a moment is.
const HUNG_WAIT_MAX: Duration = Duration::from_millis(100);
const HUNG_FOR: Duration = Duration::from_secs(10);
/// What every file begins with.
const MAGIC: &[u8; 8] = b"MAINSTAY";
/// The form of what follows. Files of another one are not read.
const VERSION: u32 = 1;
/// Octets before and after what is in the file.
const HEAD_LEN: usize = 8 + 4 + 8 + 8;
const CHECKSUM_LEN: usize = 32;
/// How long what a broken write left behind is spared: it may be a write of somebody else.
const LEFTOVER_AGE: Duration = Duration::from_secs(60);
/// What the names of files of clusters begin with, and how many octets of a checksum follow.
pub const STEM: &str = "cluster-";
const SHORT_NAME_LEN: usize = 8;
/// The name of the file of hot Answers.
pub const ANSWERS: &str = "answers";
/// The end of the name of a file, and of one that is not yet in its place.
const SUFFIX: &str = ".snapshot";
const SUFFIX_ASIDE: &str = ".snapshot.new";
/// Only we may read what names there are.
const MODE: u32 = 0o600;

/// A file in the making.
pub struct Draft(Writer);

/// What a file is that was found whole.
pub struct Opened<'f> {
    /// When what is in it was true, in seconds since the epoch.
    pub written_s: u64,
    sections: Cursor<'f>,
}

/// Why a file is not used. Each is told in one line, and the start goes on without it.
#[derive(Debug, thiserror::Error)]
pub enum Reject {
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("it is larger than {SIZE_MAX} octets")]
    TooLarge,
    #[error("it is no Snapshot, or a part of one")]
    Truncated,
    #[error("it is of version {0}, and we read version {VERSION}")]
    Version(u32),
    #[error("its checksum is wrong: it was damaged or changed")]
    Corrupt,
    #[error("it is of another zone, scope or source than the Corefile has: {0}")]
    Foreign(String),
    #[error("the folder has only those of other zones, scopes or sources")]
    OnlyOthers,
    #[error("it is {} days old, and more than {} are too many", .0 / 86_400, AGE_MAX.as_secs() / 86_400)]
    Old(u64),
    #[error("bug: what is in it cannot be read, though its checksum is right")]
    Garbled,
}

impl Reject {
    /// All labels of metrics.
    pub const LABELS: [&str; 5] = ["unreadable", "corrupt", "version", "foreign", "old"];

    /// The label, by its place in [`Reject::LABELS`].
    pub fn label(&self) -> usize {
        match self {
            Self::Unreadable(_) => 0,
            Self::TooLarge | Self::Truncated | Self::Corrupt | Self::Garbled => 1,
            Self::Version(_) => 2,
            Self::Foreign(_) | Self::OnlyOthers => 3,
            Self::Old(_) => 4,
        }
    }
}

impl Draft {
    /// Begins a file of `identity` with what was true at `written_s`.
    pub fn new(identity: &str, written_s: u64) -> Self {
        let mut writer = Writer::default();
        writer.raw(MAGIC);
        writer.raw(&VERSION.to_le_bytes());
        writer.raw(&[0; 8]);
        writer.raw(&written_s.to_le_bytes());
        writer.text(identity);
        Self(writer)
    }

    /// Adds a section.
    pub fn section(&mut self, tag: u8, write: impl FnOnce(&mut Writer)) {
        self.0.section(tag, write);
    }

    /// The whole file.
    pub fn seal(self) -> Vec<u8> {
        let mut octets = self.0.into_octets();
        let length = (octets.len() + CHECKSUM_LEN) as u64;
        octets[12..20].copy_from_slice(&length.to_le_bytes());
        let checksum = Sha256::digest(&octets);
        octets.extend_from_slice(&checksum);
        octets
    }
}

/// Checks a file of `identity`. A clock that was behind when it was written makes it new, not
/// wrong.
///
/// # Errors
/// See [`Reject`].
pub fn open<'f>(octets: &'f [u8], identity: &str, now_s: u64) -> Result<Opened<'f>, Reject> {
    let body_end = octets.len().checked_sub(CHECKSUM_LEN).filter(|end| *end >= HEAD_LEN);
    let body_end = body_end.filter(|_| octets.starts_with(MAGIC)).ok_or(Reject::Truncated)?;
    let (body, checksum) = octets.split_at(body_end);
    let mut cursor = Cursor::new(&body[MAGIC.len()..]);
    let mut head = || {
        let version = u32::from_le_bytes(cursor.raw()?);
        let length = u64::from_le_bytes(cursor.raw()?);
        Some((version, length, u64::from_le_bytes(cursor.raw()?)))
    };
    let (version, length, written_s) = head().ok_or(Reject::Truncated)?;
    if version != VERSION {
        return Err(Reject::Version(version));
    }
    if length != octets.len() as u64 {
        return Err(Reject::Truncated);
    }
    if Sha256::digest(body)[..] != *checksum {
        return Err(Reject::Corrupt);
    }
    let found = cursor.text().ok_or(Reject::Garbled)?;
    if found != identity {
        return Err(Reject::Foreign(difference(found, identity)));
    }
    let age_s = now_s.saturating_sub(written_s);
    if age_s > AGE_MAX.as_secs() {
        return Err(Reject::Old(age_s));
    }
    Ok(Opened { written_s, sections: cursor })
}

/// The first part of an identity that is another one; parts are separated by `; `.
fn difference(found: &str, wanted: &str) -> String {
    let mut pairs = found.split("; ").zip(wanted.split("; "));
    let (found, wanted) = pairs.find(|(found, wanted)| found != wanted).unwrap_or((found, wanted));
    format!("\"{found}\", not \"{wanted}\"")
}

impl<'f> Opened<'f> {
    /// The next section, `None` after the last one.
    ///
    /// # Errors
    /// A bug of ours: the checksum was right.
    pub fn section(&mut self) -> Result<Option<(u8, Cursor<'f>)>, Reject> {
        if self.sections.is_empty() {
            return Ok(None);
        }
        self.sections.section().map(Some).ok_or(Reject::Garbled)
    }
}

/// The path of a file with this name in a folder.
pub fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{SUFFIX}"))
}

/// Reads a file, if it is there.
///
/// # Errors
/// It cannot be read, or is too large.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, Reject> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    if length > SIZE_MAX {
        return Err(Reject::TooLarge);
    }
    // The length of a file that is there, and not one that it tells of itself.
    let mut octets = Vec::with_capacity(length as usize);
    file.take(SIZE_MAX + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > SIZE_MAX { Err(Reject::TooLarge) } else { Ok(Some(octets)) }
}

/// Does what needs the disk in a thread of its own, which is left alone when it takes longer than a
/// start may wait. A start reads several files: where the disk let one wait in vain, the others get
/// a moment only, for nobody is answered meanwhile.
///
/// # Errors
/// The disk hangs, or there is no thread to be had.
pub fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    thread_local! {
        /// Of the thread that starts.
        static HUNG: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    let is_hung = HUNG.get().is_some_and(|at| at.elapsed() < HUNG_FOR);
    let done = within(if is_hung { HUNG_WAIT_MAX } else { WAIT_MAX }, work);
    let hangs = matches!(&done, Err(error) if error.kind() == io::ErrorKind::TimedOut);
    HUNG.set(hangs.then(Instant::now));
    done
}

fn within<T: Send + 'static>(
    longest: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    // Nobody may wait for it any more.
    let work = move || drop(sender.send(work()));
    std::thread::Builder::new().name("disk".to_owned()).spawn(work)?;
    receiver.recv_timeout(longest).map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("the disk takes more than {longest:?}"))
    })
}

/// Puts a file in its place; whatever goes wrong, the old one stays.
///
/// # Errors
/// The disk is full, read-only or broken.
pub fn write(path: &Path, octets: &[u8]) -> io::Result<()> {
    if octets.len() as u64 > SIZE_MAX {
        return Err(io::Error::other(format!("it would be larger than {SIZE_MAX} octets")));
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    // They take room that may be needed.
    sweep(folder, SystemTime::now(), Sweep::Leftovers);
    let aside = aside(path);
    let written = write_aside(&aside, octets).and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        // It holds room on a disk that may be full.
        let _ = fs::remove_file(&aside);
    }
    written?;
    flush(folder)?;
    sweep(folder, SystemTime::now(), Sweep::Old);
    Ok(())
}

/// Flushes a folder, where there is such a thing: some disks cannot, and the file is in its place.
///
/// # Errors
/// The disk is broken.
pub fn flush(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
        {
            Ok(())
        }
        flushed => flushed,
    }
}

fn write_aside(aside: &Path, octets: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(aside)?;
    file.write_all(octets)?;
    file.sync_all()
}

/// A name of our own: two processes may share a folder while one takes over from the other.
fn aside(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let (process, random) = (std::process::id(), rand::random::<u32>());
    path.with_file_name(format!(".{stem}-{process}-{random:08x}{SUFFIX_ASIDE}"))
}

/// What to remove from a folder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sweep {
    /// What broken writes have left.
    Leftovers,
    /// Files that are too old to be read. Only after a good write: then there is a newer one.
    Old,
}

/// Removes files of ours, and never one of somebody else, whatever its name is like.
fn sweep(folder: &Path, now: SystemTime, what: Sweep) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let (stem, bearable) = match what {
            Sweep::Leftovers => (stem_aside(&name), LEFTOVER_AGE),
            Sweep::Old => (name.strip_suffix(SUFFIX), 2 * AGE_MAX),
        };
        if !stem.is_some_and(is_ours) {
            continue;
        }
        let modified = entry.metadata().and_then(|found| found.modified());
        let age = modified.ok().and_then(|at| now.duration_since(at).ok());
        if age.is_some_and(|age| age > bearable) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether this is the stem of the name of a file that we write.
fn is_ours(stem: &str) -> bool {
    let is_short_name = |text: &str| text.len() == 2 * SHORT_NAME_LEN && is_hexadecimal(text);
    stem == ANSWERS || stem.strip_prefix(STEM).is_some_and(is_short_name)
}

/// The stem in the name of a file that is not yet in its place.
fn stem_aside(name: &str) -> Option<&str> {
    let inner = name.strip_prefix('.')?.strip_suffix(SUFFIX_ASIDE)?;
    let (stem, random) = inner.rsplit_once('-')?;
    let (stem, process) = stem.rsplit_once('-')?;
    let is_process = !process.is_empty() && process.bytes().all(|octet| octet.is_ascii_digit());
    (is_process && random.len() == 8 && is_hexadecimal(random)).then_some(stem)
}

fn is_hexadecimal(text: &str) -> bool {
    text.bytes().all(|octet| octet.is_ascii_digit() || (b'a'..=b'f').contains(&octet))
}

/// Whether a folder has a file of somebody else.
pub fn has_others(folder: &Path, own: &Path, stem: &str) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(stem) && name.ends_with(SUFFIX) && entry.path() != own
    })
}

/// A short name that is the same for the same text in every version of the program.
pub fn short_name(text: &str) -> String {
    Sha256::digest(text)[..SHORT_NAME_LEN].iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const NOW_S: u64 = 1_800_000_000;

    fn sealed() -> Vec<u8> {
        let mut draft = Draft::new("zone a; source b", NOW_S);
        draft.section(3, |writer| writer.text("what is kept"));
        draft.seal()
    }

    fn reason(octets: &[u8], identity: &str, now_s: u64) -> String {
        open(octets, identity, now_s).err().unwrap().to_string()
    }

    #[test]
    fn what_is_sealed_is_opened() {
        let octets = sealed();
        let mut opened = open(&octets, "zone a; source b", NOW_S + 5).ok().unwrap();
        assert_eq!(opened.written_s, NOW_S);
        let (tag, mut section) = opened.section().unwrap().unwrap();
        assert_eq!((tag, section.text()), (3, Some("what is kept")));
        assert!(opened.section().unwrap().is_none());
    }

    #[test]
    fn p11_what_is_old_foreign_cut_or_of_another_version_is_told_apart() {
        let octets = sealed();
        let other = reason(&octets, "zone c; source b", NOW_S);
        assert!(other.ends_with("\"zone a\", not \"zone c\""), "{other}");
        for cut in 0..octets.len() {
            assert!(open(&octets[..cut], "zone a; source b", NOW_S).is_err(), "{cut}");
        }
        let week_s = AGE_MAX.as_secs();
        assert!(open(&octets, "zone a; source b", NOW_S + week_s).is_ok());
        assert!(
            reason(&octets, "zone a; source b", NOW_S + week_s + 1).starts_with("it is 7 days")
        );
        let mut newer = octets.clone();
        newer[8] = 2;
        assert!(reason(&newer, "zone a; source b", NOW_S).contains("of version 2"));
        assert!(reason(b"# a text", "", NOW_S).contains("no Snapshot"));
    }

    #[test]
    fn p8_a_file_from_the_future_is_new() {
        assert!(open(&sealed(), "zone a; source b", 0).is_ok());
        assert!(open(&sealed(), "zone a; source b", NOW_S - 86_400).is_ok());
    }

    #[test]
    fn a_file_is_only_for_us_and_leaves_nothing_beside_it() {
        use std::os::unix::fs::PermissionsExt;
        let folder = TempDir::new().unwrap();
        let path = path(folder.path(), "cluster-1");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_broken_writes_left_is_removed_after_a_while_and_nothing_else_is() {
        let folder = TempDir::new().unwrap();
        let ours = [
            ".cluster-0123456789abcdef-9-00000000.snapshot.new",
            ".answers-9-0a0b0c0d.snapshot.new",
            "cluster-0123456789abcdef.snapshot",
            "answers.snapshot",
        ];
        let others = [
            "Corefile",
            "etcd.snapshot",
            "cluster-1.snapshot",
            "cluster-0123456789ABCDEF.snapshot",
            "my-answers.snapshot",
            ".etcd.snapshot.new",
            ".etcd-9-00000000.snapshot.new",
            ".answers-x-00000000.snapshot.new",
        ];
        let make = |name: &&str| fs::write(folder.path().join(name), b"half").unwrap();
        ours.iter().chain(&others).for_each(make);
        let left = |age: Duration, what| {
            sweep(folder.path(), SystemTime::now() + age, what);
            assert!(others.iter().all(|name| folder.path().join(name).exists()));
            ours.map(|name| folder.path().join(name).exists())
        };
        assert_eq!(left(Duration::ZERO, Sweep::Leftovers), [true; 4]);
        assert_eq!(left(3 * AGE_MAX, Sweep::Leftovers), [false, false, true, true]);
        assert_eq!(left(2 * LEFTOVER_AGE, Sweep::Old), [false, false, true, true]);
        assert_eq!(left(3 * AGE_MAX, Sweep::Old), [false; 4]);
    }

    #[test]
    fn old_files_go_after_a_good_write_only() {
        let folder = TempDir::new().unwrap();
        let old = path(folder.path(), &format!("{STEM}{}", short_name("old")));
        fs::write(&old, b"old").unwrap();
        File::options()
            .write(true)
            .open(&old)
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        let blocked = folder.path().join("answers.snapshot");
        fs::create_dir_all(blocked.join("inside")).unwrap();
        assert!(write(&blocked, b"new").is_err());
        assert!(old.exists());
        write(&path(folder.path(), "cluster-1"), b"new").unwrap();
        assert!(!old.exists());
    }

    #[test]
    fn p10_a_disk_that_hangs_is_not_waited_for() {
        let (gate, hangs) = std::sync::mpsc::channel::<()>();
        let error = within(Duration::from_millis(10), move || hangs.recv().is_ok()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(within(Duration::from_secs(60), || 7).unwrap(), 7);
        drop(gate);
    }

    #[test]
    fn p10_a_write_that_fails_leaves_the_old_file() {
        let folder = TempDir::new().unwrap();
        let path = path(folder.path(), "cluster-1");
        write(&path, b"old").unwrap();
        let too_large = vec![0; SIZE_MAX as usize + 1];
        assert!(write(&path, &too_large).is_err());
        // A folder in the place of the file: the last step fails.
        let blocked = folder.path().join("blocked.snapshot");
        fs::create_dir_all(blocked.join("inside")).unwrap();
        assert!(write(&blocked, b"new").is_err());
        assert!(write(&folder.path().join("missing/a.snapshot"), b"new").is_err());
        assert_eq!(read(&path).unwrap().unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}

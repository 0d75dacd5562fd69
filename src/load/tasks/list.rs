//! A list of tasks while it is read: each thing to look up is kept once, however often it occurs.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use super::{Class, Expect, Task};
use crate::load::Error;
use crate::wire::{Name, RecordType};

/// Most different things to look up of one file or capture. Each takes some 250 octets.
pub const NAMES_MAX: usize = 2_000_000;
/// Most of them when each counts as often as it occurs. Each occurrence takes 8 octets.
pub const OCCURRENCES_MAX: usize = 20_000_000;

/// What was read so far.
pub(in crate::load) struct List {
    occurrences: Vec<Arc<Task>>,
    known: HashSet<Known, foldhash::fast::RandomState>,
    names_max: usize,
    occurrences_max: usize,
}

/// A list that would take too much memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::load) struct Full;

/// A task that is one with another of the same spelling and type.
struct Known(Arc<Task>);

impl Default for List {
    fn default() -> Self {
        Self::bounded(NAMES_MAX, OCCURRENCES_MAX)
    }
}

impl List {
    /// An empty one with room for so many different names, and so many in all.
    pub(in crate::load) fn bounded(names_max: usize, occurrences_max: usize) -> Self {
        let (occurrences, known) = (Vec::new(), HashSet::default());
        Self { occurrences, known, names_max, occurrences_max }
    }

    /// Adds what nothing is known of.
    ///
    /// # Errors
    /// There is no room for it.
    pub(in crate::load) fn push(
        &mut self,
        host: &str,
        name: Name,
        rtype: RecordType,
    ) -> Result<(), Full> {
        let (class, expect) = (Class::Listed, Expect::Any);
        let task = Known(Arc::new(Task { host: host.into(), name, rtype, class, expect }));
        if self.occurrences.len() == self.occurrences_max {
            return Err(Full);
        }
        match self.known.get(&task) {
            Some(known) => self.occurrences.push(Arc::clone(&known.0)),
            None if self.known.len() == self.names_max => return Err(Full),
            None => {
                self.occurrences.push(Arc::clone(&task.0));
                self.known.insert(task);
            }
        }
        Ok(())
    }

    /// All of it, in the order in which it was read.
    pub(in crate::load) fn into_tasks(self) -> Vec<Arc<Task>> {
        self.occurrences
    }

    /// Whether nothing was read.
    pub(in crate::load) fn is_empty(&self) -> bool {
        self.occurrences.is_empty()
    }
}

impl Hash for Known {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.0.host, self.0.rtype).hash(state);
    }
}

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        (&self.0.host, self.0.rtype) == (&other.0.host, other.0.rtype)
    }
}

impl Eq for Known {}

/// Whether a question of this type is a lookup: a transfer, or what stands outside of the question,
/// is none.
pub(in crate::load) fn is_lookup(rtype: RecordType) -> bool {
    let others = [RecordType::OPT, RecordType::TSIG, RecordType::AXFR, RecordType::IXFR];
    rtype.0 != 0 && !others.contains(&rtype)
}

/// Opens a file; `-` is standard input.
pub(in crate::load) fn open(path: &Path) -> Result<Box<dyn Read>, Error> {
    if path == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    Ok(Box::new(file))
}

/// What to do about a file that cannot be read.
pub(in crate::load) fn unreadable(path: &Path, error: io::Error) -> Error {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "check the path, or write - to read standard input",
        io::ErrorKind::IsADirectory => "name a file in it",
        io::ErrorKind::PermissionDenied => "let the user of this program read it",
        _ => "check that it is a file that can be read to its end",
    };
    Error::File { path: path.into(), error, remedy }
}

/// The file as messages call it.
pub(in crate::load) fn title(path: &Path) -> String {
    if path == Path::new("-") { "standard input".into() } else { path.display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_occurs_often_is_kept_once() {
        let mut list = List::default();
        for (host, rtype) in [("a", 1), ("b", 1), ("a", 1), ("a", 28), ("a.", 1)] {
            let name = Name::parse(host).unwrap();
            list.push(host, name, RecordType(rtype)).unwrap();
        }
        let tasks = list.into_tasks();
        assert_eq!(tasks.len(), 5);
        assert!(Arc::ptr_eq(&tasks[0], &tasks[2]));
        assert!(tasks.iter().skip(3).all(|task| !Arc::ptr_eq(task, &tasks[0])));
    }

    #[test]
    fn a_full_list_takes_no_more() {
        let mut list = List::bounded(1, 2);
        let mut push = |host| list.push(host, Name::parse(host).unwrap(), RecordType::A);
        assert_eq!(
            (push("a"), push("b"), push("a"), push("a")),
            (Ok(()), Err(Full), Ok(()), Err(Full))
        );
        assert_eq!(list.into_tasks().len(), 2);
    }

    #[test]
    fn transfers_are_no_lookups() {
        assert!(is_lookup(RecordType::ANY) && is_lookup(RecordType(65280)));
        assert!(!is_lookup(RecordType::AXFR) && !is_lookup(RecordType(0)));
    }
}

//! Raises the limit of open files to what the process may have.
//!
//! Each question upstream has a socket of its own and each TCP client one, so the usual soft limit
//! of 1024 would end in SERVFAIL long before our own bounds. The hard limit is what was granted.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Below this many files a busy server may run out: room for the errands of a node.
const FILES_MIN: u64 = 4096;

/// Raises the soft limit to the hard one, and warns when that is little.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    if let Some(files) = files.filter(|files| *files < FILES_MIN) {
        tracing::warn!(
            "only {files} open files are allowed; raise the limit to {FILES_MIN} or more"
        );
    }
}

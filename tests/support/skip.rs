//! Says that a check cannot be made here.

use std::io::Write;

/// Tells why. What a test prints is shown only when it fails, so this goes to the program's own
/// standard error.
///
/// # Panics
/// In CI, where nothing may be skipped.
pub fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "not skipped in CI: {why}");
    let told = format!("SKIPPED: {why}\n");
    std::io::stderr().write_all(told.as_bytes()).expect("standard error is there");
}

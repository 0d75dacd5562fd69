//! The CoreDNS that Mainstay is compared with, built once by `tests/coredns/build`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names the program of CoreDNS, as `tests/run` does.
const COREDNS: &str = "MAINSTAY_COREDNS";
/// Exit code of the build script: cannot be had here.
const NOT_HERE: i32 = 77;

/// The program of CoreDNS.
///
/// # Errors
/// Why it cannot be had on this machine.
pub fn coredns() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os(COREDNS) {
        return Ok(path.into());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/coredns/build");
    let output = Command::new(script)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("tests/coredns/build cannot run: {error}"))?;
    match output.status.code() {
        Some(0) => {}
        Some(NOT_HERE) => return Err("no CoreDNS on this machine, as told above".to_owned()),
        code => panic!("tests/coredns/build failed: {code:?}"),
    }
    let text = String::from_utf8(output.stdout).unwrap();
    Ok(PathBuf::from(text.lines().last().expect("the last line is the program")))
}

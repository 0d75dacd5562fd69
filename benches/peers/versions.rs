//! Which programs were measured?

use std::path::Path;
use std::process::Command;

use crate::World;
use crate::{authorities, recursors};

/// Names and versions of all programs, as they tell them.
pub fn all(world: &World) -> Vec<(String, String)> {
    let mut versions = vec![("command".to_owned(), command())];
    for (label, program) in &world.binaries {
        versions.push((label.clone(), version(program, "--version")));
    }
    versions.push(("echo".to_owned(), version(Path::new("cc"), "--version")));
    if let Some(program) = &world.options.coredns {
        versions.push(("CoreDNS".to_owned(), version(program, "-version")));
    }
    let recursors = recursors::ALL.iter().map(|it| (it.name, it.version));
    let authorities = authorities::ALL.iter().map(|it| (it.name, it.version));
    for (name, (program, argument)) in recursors.chain(authorities) {
        versions.push((name.to_owned(), version(Path::new(program), argument)));
    }
    versions
}

/// The arguments, with file names in place of paths.
fn command() -> String {
    let argument = |text: String| {
        let (label, value) = text.rsplit_once('=').unwrap_or(("", &text));
        let path = Path::new(value);
        match path.file_name().filter(|_| path.is_absolute() || path.exists()) {
            Some(file) if label.is_empty() => file.display().to_string(),
            Some(file) => format!("{label}={}", file.display()),
            None => text,
        }
    };
    std::env::args().skip(1).map(argument).collect::<Vec<_>>().join(" ")
}

/// The first line with a digit of what a program says of itself.
fn version(program: &Path, argument: &str) -> String {
    let Ok(output) = Command::new(program).arg(argument).output() else {
        return "not installed".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| line.contains(|it: char| it.is_ascii_digit()));
    line.unwrap_or_default().trim().to_owned()
}

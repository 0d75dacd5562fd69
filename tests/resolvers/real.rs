//! The real resolvers: a small program for each, made here.

use std::path::Path;
use std::process::Command;

use crate::programs::{self, Program, cached, path, run};

/// Where the sources of the programs are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/resolvers");

/// Makes the program of one resolver in this folder.
pub type Make = fn(&Path) -> Result<Program, String>;

/// All of them; the names are those of our profiles.
pub const ALL: [(&str, Make); 7] = [
    ("glibc", |folder| programs::glibc(&source("lookup.c"), folder)),
    ("musl", |folder| programs::musl(&source("lookup.c"), folder)),
    ("go", |folder| programs::go(&source("go"), folder)),
    ("jvm", |folder| programs::jvm(&source("Lookup.java"), folder)),
    ("netty", |folder| programs::netty(&source("NettyLookup.java"), folder)),
    ("node", |_| programs::node(&source("lookup.js"))),
    ("c-ares", c_ares),
];

fn c_ares(_folder: &Path) -> Result<Program, String> {
    let target = cached("c-ares", &source("c-ares/Cargo.lock"))?;
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--manifest-path", &source("c-ares/Cargo.toml")]);
    build.arg("--target-dir").arg(&target);
    run("the crate of c-ares must be in reach once", &mut build)?;
    let program = path(&target, "debug/lookup");
    let version = run("", Command::new(&program).arg("--version"))?;
    Ok(Program { name: "c-ares", version, command: vec![program] })
}

fn source(file: &str) -> String {
    format!("{SOURCES}/{file}")
}

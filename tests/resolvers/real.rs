//! The real resolvers: a small program for each, made here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the sources of the programs are.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/resolvers");
/// Where the installer of Go puts it, which is not on PATH.
const GO_ROOT: &str = "/usr/local/go/bin/go";
/// The JVM's options: it is started often, and lives for a second.
const JVM: [&str; 3] = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];

/// A program that looks up its arguments with one resolver.
pub struct Real {
    /// Also of our profile.
    pub name: &'static str,
    /// With what it was made.
    pub version: String,
    /// The program and what comes before the names.
    pub command: Vec<String>,
}

/// Makes the program of one resolver in this folder.
pub type Make = fn(&Path) -> Result<Real, String>;

/// All of them.
pub const ALL: [(&str, Make); 7] = [
    ("glibc", glibc),
    ("musl", musl),
    ("go", go),
    ("jvm", jvm),
    ("netty", netty),
    ("node", node),
    ("c-ares", c_ares),
];

fn glibc(folder: &Path) -> Result<Real, String> {
    let program = path(folder, "glibc");
    let source = source("lookup.c");
    run("install gcc", Command::new("cc").args(["-o", &program, &source]))?;
    let version = run("", Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
    Ok(real("glibc", version, vec![program]))
}

fn musl(folder: &Path) -> Result<Real, String> {
    let program = path(folder, "musl");
    let source = source("lookup.c");
    let mut compile = Command::new("musl-gcc");
    run("install musl-tools", compile.args(["-static", "-o", &program, &source]))?;
    Ok(real("musl", musl_version(), vec![program]))
}

/// musl tells its version when its loader is run without arguments, and fails.
fn musl_version() -> String {
    let loaders = fs::read_dir("/lib").into_iter().flatten().flatten();
    let is_musl = |name: &str| name.starts_with("ld-musl-");
    let loader = loaders
        .map(|it| it.path())
        .find(|it| it.file_name().and_then(|name| name.to_str()).is_some_and(is_musl));
    let said = loader
        .and_then(|it| Command::new(it).output().ok())
        .unwrap_or_else(|| Command::new("true").output().expect("true is everywhere"));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    let version = said.lines().find(|line| line.starts_with("Version"));
    format!("musl {}", version.unwrap_or("of an unknown version"))
}

fn go(folder: &Path) -> Result<Real, String> {
    let program = path(folder, "go");
    let is_here = Command::new("go").arg("version").output().is_ok();
    let compiler = if is_here { "go" } else { GO_ROOT };
    let mut build = Command::new(compiler);
    build.args(["build", "-o", &program, "."]).current_dir(source("go"));
    // Settings of the caller must not change what is built.
    build.envs([("CGO_ENABLED", "0"), ("GOTOOLCHAIN", "local")]);
    build.envs([("GOFLAGS", ""), ("GOWORK", "off")]).env_remove("GODEBUG");
    run("install Go", &mut build)?;
    let version = run("", Command::new(&program).arg("--version"))?;
    Ok(real("go", version, vec![program]))
}

fn jvm(folder: &Path) -> Result<Real, String> {
    let version = compile_java(folder, "Lookup.java", ".")?;
    let classes = folder.to_string_lossy();
    let command = [&JVM[..], &["-cp", &classes, "Lookup"]].concat();
    Ok(real("jvm", version, owned(&command)))
}

fn netty(folder: &Path) -> Result<Real, String> {
    let jars = cached("netty", "netty/pom.xml")?;
    if !jars.exists() {
        fetch_netty(&jars)?;
    }
    let path = format!("{}:{}/*", folder.display(), jars.display());
    let java = compile_java(folder, "NettyLookup.java", &path)?;
    let pom = fs::read_to_string(source("netty/pom.xml")).expect("it is there");
    let netty = pom.split("<version>").nth(2).and_then(|rest| rest.split('<').next());
    let version = format!("Netty {} on {java}", netty.unwrap_or("?"));
    let command = [&JVM[..], &["-cp", &path, "NettyLookup"]].concat();
    Ok(real("netty", version, owned(&command)))
}

/// Fetches Netty's jars into a folder, which is there only when all are.
fn fetch_netty(jars: &Path) -> Result<(), String> {
    let half = jars.with_extension(format!("{}", std::process::id()));
    let mut maven = Command::new("timeout");
    maven.args(["300", "mvn", "-B", "-q", "-f", &source("netty/pom.xml")]);
    maven.arg("dependency:copy-dependencies");
    maven.arg(format!("-DoutputDirectory={}", half.display()));
    run("install maven; Maven Central must be in reach once", &mut maven)?;
    // Another run may have been faster.
    if fs::rename(&half, jars).is_err() {
        let _ = fs::remove_dir_all(&half);
    }
    Ok(())
}

fn node(_folder: &Path) -> Result<Real, String> {
    let print = "`Node.js ${process.version}, c-ares ${process.versions.ares}`";
    let version = run("install nodejs", Command::new("node").args(["-p", print]))?;
    Ok(real("node", version, owned(&["node", &source("lookup.js")])))
}

fn c_ares(_folder: &Path) -> Result<Real, String> {
    let target = cached("c-ares", "c-ares/Cargo.lock")?;
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--locked", "--manifest-path", &source("c-ares/Cargo.toml")]);
    build.arg("--target-dir").arg(&target);
    run("c-ares from crates.io must be in reach once", &mut build)?;
    let program = path(&target, "debug/lookup");
    let version = run("", Command::new(&program).arg("--version"))?;
    Ok(real("c-ares", version, vec![program]))
}

fn compile_java(folder: &Path, file: &str, class_path: &str) -> Result<String, String> {
    let mut compile = Command::new("javac");
    compile.args(["-cp", class_path, "-d"]).arg(folder).arg(source(file));
    run("install default-jdk-headless", &mut compile)?;
    run("", Command::new("javac").arg("--version")).map(|version| version.replace("javac", "JDK"))
}

/// A folder outside of the tree that outlives us, for what is made from a file of this name.
fn cached(what: &str, made_from: &str) -> Result<PathBuf, String> {
    let text = fs::read(source(made_from)).map_err(|error| format!("{made_from}: {error}"))?;
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("MAINSTAY_CACHE").map(PathBuf::from).or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
        cache.map(|cache| cache.join("mainstay"))
    });
    let cache = cache.ok_or("no HOME to keep a cache in")?;
    fs::create_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    let sum = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |sum, octet| {
        (sum ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
    });
    Ok(cache.join(format!("{what}-{:012x}", sum & 0xffff_ffff_ffff)))
}

fn real(name: &'static str, version: String, command: Vec<String>) -> Real {
    Real { name, version, command }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn path(folder: &Path, file: &str) -> String {
    folder.join(file).to_str().expect("our paths are text").to_owned()
}

fn source(file: &str) -> String {
    format!("{SOURCES}/{file}")
}

/// Runs a command to its end: what it printed, or what to do when it failed.
fn run(remedy: &str, command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}; {remedy}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{name}: {}; {remedy}", errors.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

//! Programs that look names up with the resolvers of applications, made from sources of a test.
#![allow(dead_code)] // Each test makes its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The jars of Netty that its programs use.
const NETTY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/resolvers/netty/pom.xml");
/// Where the installer of Go puts it, which is not on PATH.
const GO_ROOT: &str = "/usr/local/go/bin/go";
/// The JVM's options: it is started often, and lives for a short time.
const JVM: [&str; 3] = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];

/// A program that looks names up with one resolver.
pub struct Program {
    /// The resolver.
    pub name: &'static str,
    /// With what it was made.
    pub version: String,
    /// The program and what comes before its arguments.
    pub command: Vec<String>,
}

/// Compiles a C program with the C library of this machine.
pub fn glibc(source: &str, folder: &Path) -> Result<Program, String> {
    let program = path(folder, "glibc");
    run("install gcc", Command::new("cc").args(["-pthread", "-o", &program, source]))?;
    let version = run("", Command::new("getconf").arg("GNU_LIBC_VERSION"))?;
    Ok(Program { name: "glibc", version, command: vec![program] })
}

/// Compiles a C program with musl.
pub fn musl(source: &str, folder: &Path) -> Result<Program, String> {
    let program = path(folder, "musl");
    let mut compile = Command::new("musl-gcc");
    run("install musl-tools", compile.args(["-static", "-o", &program, source]))?;
    Ok(Program { name: "musl", version: musl_version(), command: vec![program] })
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

/// Compiles a Go program, a folder, without C.
pub fn go(source: &str, folder: &Path) -> Result<Program, String> {
    let program = path(folder, "go");
    let is_here = Command::new("go").arg("version").output().is_ok();
    let compiler = if is_here { "go" } else { GO_ROOT };
    let mut build = Command::new(compiler);
    build.args(["build", "-o", &program, "."]).current_dir(source);
    // Settings of the caller must not change what is built.
    build.envs([("CGO_ENABLED", "0"), ("GOTOOLCHAIN", "local")]);
    build.envs([("GOFLAGS", ""), ("GOWORK", "off")]).env_remove("GODEBUG");
    run("install Go", &mut build)?;
    let version = run("", Command::new(&program).arg("--version"))?;
    Ok(Program { name: "go", version, command: vec![program] })
}

/// Compiles a Java program, a file with the name of its class.
pub fn jvm(source: &str, folder: &Path) -> Result<Program, String> {
    let version = compile_java(folder, source, ".")?;
    let classes = folder.to_string_lossy();
    let command = [&JVM[..], &["-cp", &classes, class(source)]].concat();
    Ok(Program { name: "jvm", version, command: owned(&command) })
}

/// The same, of a program that uses Netty.
pub fn netty(source: &str, folder: &Path) -> Result<Program, String> {
    let jars = cached("netty", NETTY)?;
    if !jars.exists() {
        fetch_netty(&jars)?;
    }
    let path = format!("{}:{}/*", folder.display(), jars.display());
    let java = compile_java(folder, source, &path)?;
    let pom = fs::read_to_string(NETTY).expect("it is there");
    let netty = pom.split("<version>").nth(2).and_then(|rest| rest.split('<').next());
    let version = format!("Netty {} on {java}", netty.unwrap_or("?"));
    let command = [&JVM[..], &["-cp", &path, class(source)]].concat();
    Ok(Program { name: "netty", version, command: owned(&command) })
}

/// Fetches Netty's jars into a folder, which is there only when all are.
fn fetch_netty(jars: &Path) -> Result<(), String> {
    let half = jars.with_extension(format!("{}", std::process::id()));
    let mut maven = Command::new("timeout");
    maven.args(["300", "mvn", "-B", "-q", "-f", NETTY]);
    maven.arg("dependency:copy-dependencies");
    maven.arg(format!("-DoutputDirectory={}", half.display()));
    run("install maven; Maven Central must be in reach once", &mut maven)?;
    // Another run may have been faster.
    if fs::rename(&half, jars).is_err() {
        let _ = fs::remove_dir_all(&half);
    }
    Ok(())
}

/// Runs a script with Node.js.
pub fn node(source: &str) -> Result<Program, String> {
    let print = "`Node.js ${process.version}, c-ares ${process.versions.ares}`";
    let version = run("install nodejs", Command::new("node").args(["-p", print]))?;
    Ok(Program { name: "node", version, command: owned(&["node", source]) })
}

/// Compiles a Java file into a folder; answers the version of the compiler.
fn compile_java(folder: &Path, source: &str, class_path: &str) -> Result<String, String> {
    let mut compile = Command::new("javac");
    // What it uses of the same folder is compiled with it.
    let sources = Path::new(source).parent().unwrap_or(Path::new("."));
    compile.args(["-cp", class_path, "-d"]).arg(folder).arg("-sourcepath").arg(sources).arg(source);
    run("install default-jdk-headless", &mut compile)?;
    run("", Command::new("javac").arg("--version")).map(|version| version.replace("javac", "JDK"))
}

/// The class of a Java file.
fn class(source: &str) -> &str {
    let file = source.rsplit('/').next().unwrap_or(source);
    file.trim_end_matches(".java")
}

/// A folder outside of the tree that outlives us, for what is made from this file.
pub fn cached(what: &str, made_from: &str) -> Result<PathBuf, String> {
    let text = fs::read(made_from).map_err(|error| format!("{made_from}: {error}"))?;
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

/// Words as a command has them.
fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// The path of a file in a folder of ours.
pub fn path(folder: &Path, file: &str) -> String {
    folder.join(file).to_str().expect("our paths are text").to_owned()
}

/// Runs a command to its end: what it printed, or what to do when it failed.
pub fn run(remedy: &str, command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}; {remedy}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{name}: {}; {remedy}", errors.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

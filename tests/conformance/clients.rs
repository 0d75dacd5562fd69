//! Those who ask: programs of glibc and musl, `getent`, and `dig` with the search list.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::dig::{self, Over, Reply};
use crate::sandbox::{Network, Sandbox};

/// Looks names up with getaddrinfo(3).
const LOOKUP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/lookup.c");

/// What that says of names that do not exist.
const NOT_THERE: &str = "not there";

/// A resolver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Client {
    /// glibc, by a program of its own package.
    Getent,
    Glibc,
    Musl,
    Dig(Over),
}

/// Every one of them.
pub const ALL: [Client; 5] =
    [Client::Getent, Client::Glibc, Client::Musl, Client::Dig(Over::Udp), Client::Dig(Over::Tcp)];

/// What a name is found to be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The end of its aliases; not told by `dig`.
    pub canonical: Option<String>,
    /// Sorted.
    pub addresses: Vec<IpAddr>,
    /// Why it could not be found out: no reply, SERVFAIL. None where the name, or a record, was
    /// said not to exist. `getent` does not tell the two apart.
    pub failure: Option<String>,
}

/// The compiled programs.
pub struct Programs {
    folder: TempDir,
}

impl Programs {
    /// Compiles `lookup.c` with both C libraries.
    ///
    /// # Errors
    /// What is missing on this machine.
    pub fn compile() -> Result<Self, String> {
        let folder = TempDir::new().map_err(|error| format!("no folder: {error}"))?;
        let programs = Self { folder };
        compile("cc", &[], &programs.path("glibc"))?;
        compile("musl-gcc", &["-static"], &programs.path("musl"))?;
        let is_here = Command::new("getent").args(["hosts", "127.0.0.1"]).output().is_ok();
        is_here.then_some(programs).ok_or("no getent".to_owned())
    }

    fn path(&self, library: &str) -> PathBuf {
        self.folder.path().join(library)
    }

    /// Looks up names one after the other; each finds its own place in the result.
    pub fn find(
        &self,
        client: Client,
        sandbox: &Sandbox,
        network: Network,
        names: &[&str],
    ) -> Vec<Found> {
        let run = |program: &Path, words: &[&str]| sandbox.run(network, program, words);
        let found: Vec<Found> = match client {
            Client::Getent => names
                .iter()
                .map(|name| from_getent(&run(Path::new("getent"), &["ahosts", name])))
                .collect(),
            Client::Glibc => from_lookup(&run(&self.path("glibc"), names)),
            Client::Musl => from_lookup(&run(&self.path("musl"), names)),
            Client::Dig(over) => {
                names.iter().map(|name| from_dig(&dig_all(sandbox, network, name, over))).collect()
            }
        };
        assert_eq!(found.len(), names.len(), "one result each of {client:?}: {found:?}");
        found
    }

    /// Checks that every client finds this name of an address, and no other.
    pub fn find_name(&self, sandbox: &Sandbox, address: &str, name: &str) {
        let programs = [
            (Path::new("getent"), vec!["hosts", address]),
            (&self.path("glibc"), vec![address]),
            (&self.path("musl"), vec![address]),
        ];
        for (program, words) in programs {
            let output = sandbox.run(Network::Pod, program, &words);
            let found: Vec<&str> = output.split_whitespace().skip(1).collect();
            assert_eq!(found, [name], "the name of {address} by {program:?}");
        }
        let expected = [format!("PTR {}", name.trim_end_matches(".cluster.local"))];
        for over in [Over::Udp, Over::Tcp] {
            let words = dig_words(&["-x", address], over);
            let reply = dig::read(&sandbox.run(Network::Pod, Path::new("dig"), &words));
            let found: Vec<String> = reply.answer.into_iter().map(|record| record.value).collect();
            assert_eq!(found, expected, "the name of {address} by dig {over:?}");
            assert_eq!(reply.status, "NOERROR", "the name of {address} by dig {over:?}");
        }
    }
}

/// Asks with `dig +search`.
pub fn ask(sandbox: &Sandbox, network: Network, question: &str, over: Over) -> Reply {
    let question: Vec<&str> = question.split(' ').collect();
    dig::read(&sandbox.run(network, Path::new("dig"), &dig_words(&question, over)))
}

fn dig_words<'q>(question: &[&'q str], over: Over) -> Vec<&'q str> {
    let transport = if over == Over::Tcp { "+tcp" } else { "+notcp" };
    let mut words = vec!["+search", "+tries=1", "+time=10", transport, "+noall", "+comments"];
    words.extend(["+answer", "+authority", "+additional"]);
    words.extend(question);
    words
}

/// The replies about both families.
fn dig_all(sandbox: &Sandbox, network: Network, name: &str, over: Over) -> [Reply; 2] {
    ["A", "AAAA"].map(|rtype| ask(sandbox, network, &format!("{name} {rtype}"), over))
}

fn compile(compiler: &str, flags: &[&str], to: &Path) -> Result<(), String> {
    let mut command = Command::new(compiler);
    command.args(["-O1", "-Wall", "-Wextra", "-Werror"]).args(flags).arg("-o").arg(to).arg(LOOKUP);
    let output = command.output();
    let output = output.map_err(|error| format!("{compiler}: {error}; install gcc, musl-tools"))?;
    // What does not compile must not look like what is not there.
    assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Reads `10.96.0.1  STREAM  kubernetes.default.svc.cluster.local`.
fn from_getent(output: &str) -> Found {
    let lines = output.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let streams: Vec<_> = lines.filter(|words| words.get(1) == Some(&"STREAM")).collect();
    let canonical = streams.first().and_then(|words| words.get(2)).map(|name| (*name).to_owned());
    Found::new(canonical, streams.iter().map(|words| words[0]))
}

/// Reads what `lookup.c` prints.
fn from_lookup(output: &str) -> Vec<Found> {
    let read = |line: &str| match line.split_once(" - ") {
        Some((_, NOT_THERE)) => Found::new(None, [].into_iter()),
        Some((_, failure)) => Found::failed(failure),
        None => {
            let mut words = line.split(' ').skip(1);
            Found::new(words.next().map(str::to_owned), words)
        }
    };
    output.lines().map(read).collect()
}

fn from_dig(replies: &[Reply]) -> Found {
    let is_answer = |reply: &&Reply| ["NOERROR", "NXDOMAIN"].contains(&&*reply.status);
    if let Some(failed) = replies.iter().find(|reply| !is_answer(reply)) {
        return Found::failed(&format!("status {:?}", failed.status));
    }
    let records = replies.iter().flat_map(|reply| &reply.answer);
    let values = records.filter_map(|record| record.value.split_once(' '));
    let is_address = |(rtype, _): &(&str, &str)| ["A", "AAAA"].contains(rtype);
    Found::new(None, values.filter(is_address).map(|(_, address)| address))
}

impl Found {
    fn new<'w>(canonical: Option<String>, words: impl Iterator<Item = &'w str>) -> Self {
        let mut addresses: Vec<IpAddr> = words.map(|word| word.parse().expect(word)).collect();
        addresses.sort();
        Self { canonical, addresses, failure: None }
    }

    fn failed(why: &str) -> Self {
        Self { canonical: None, addresses: Vec::new(), failure: Some(why.to_owned()) }
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} {:?}", self.canonical, self.addresses)?;
        self.failure.iter().try_for_each(|why| write!(formatter, ", failed: {why}"))
    }
}

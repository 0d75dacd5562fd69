//! Asks with the real `dig`, and reads what it prints.

use std::fmt;
use std::process::{Command, Stdio};

/// What the cluster's names end in. Records are written without it, to be read at a glance.
const ZONE: &str = ".cluster.local.";

/// The transport that is asked over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    Udp,
    Tcp,
}

/// A reply as `dig` shows it. Records are sorted: their order may turn.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Reply {
    /// `NOERROR`, `NXDOMAIN`, …; empty without a reply.
    pub status: String,
    /// `qr aa rd ra`.
    pub flags: String,
    pub answer: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
    /// The Extended DNS Error, such as `14 (Not Ready)`.
    pub ede: Option<String>,
}

/// One record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Record {
    pub owner: String,
    pub ttl_s: u32,
    /// Type and RDATA.
    pub value: String,
}

/// Whether `dig` is there.
pub fn is_here() -> bool {
    Command::new("dig").arg("-v").stderr(Stdio::null()).status().is_ok()
}

/// Asks `question`, such as `web.shop.svc A` or `-x 10.96.0.1`. A name under `svc`, `pod`, `dns`
/// and so on is put under the cluster's zone unless it ends in a dot.
pub fn ask(port: u16, question: &str, over: Over) -> Reply {
    let port = port.to_string();
    let mut command = Command::new("dig");
    command.args(["@127.0.0.1", "-p", &port, "+tries=1", "+time=10", "+nosearch"]);
    command.args(["+noall", "+comments", "+answer", "+authority", "+additional"]);
    command.arg(if over == Over::Tcp { "+tcp" } else { "+notcp" });
    command.args(arguments(question));
    let output = command.output().expect("dig was there before");
    read(&String::from_utf8_lossy(&output.stdout))
}

fn arguments(question: &str) -> Vec<String> {
    match question.split_once(' ').expect("a question has a name and a type") {
        ("-x", address) => vec!["-x".to_owned(), address.to_owned()],
        (name, rtype) if name.ends_with('.') => vec![name.to_owned(), rtype.to_owned()],
        (name, rtype) => vec![format!("{name}{ZONE}"), rtype.to_owned()],
    }
}

impl Reply {
    /// Code and answer section in one line: `NOERROR A 10.96.0.1`. The owner stands before a record
    /// whose owner is not that of the question.
    pub fn short(&self, question: &str) -> String {
        let asked = arguments(question)[0].trim_end_matches('.').replace(".cluster.local", "");
        let shown = self.answer.iter().map(|record| {
            let is_asked = record.owner == asked || question.starts_with("-x");
            if is_asked { record.value.clone() } else { format!("{record}") }
        });
        std::iter::once(self.status.clone()).chain(shown).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.owner, self.value)
    }
}

/// Reads what `dig +noall +comments +answer +authority +additional` prints.
pub fn read(output: &str) -> Reply {
    let mut reply = Reply::default();
    let mut section = "";
    for line in output.lines() {
        if let Some((_, rest)) = line.split_once("status: ") {
            reply.status = rest.split(',').next().unwrap_or_default().to_owned();
        } else if let Some(rest) = line.strip_prefix(";; flags: ") {
            reply.flags = rest.split(';').next().unwrap_or_default().to_owned();
        } else if let Some(rest) = line.strip_prefix("; EDE: ") {
            reply.ede = Some(rest.to_owned());
        } else if let Some(rest) = line.strip_prefix(";; ") {
            section = rest.split(' ').next().unwrap_or_default();
        } else if !line.is_empty() && !line.starts_with(';') {
            match section {
                "ANSWER" => reply.answer.push(record(line)),
                "AUTHORITY" => reply.authority.push(record(line)),
                "ADDITIONAL" => reply.additional.push(record(line)),
                other => panic!("a record in section {other:?}: {line}"),
            }
        }
    }
    for records in [&mut reply.answer, &mut reply.authority, &mut reply.additional] {
        records.sort();
    }
    reply
}

/// Reads `web.shop.svc.cluster.local. 30 IN A 10.96.0.1`.
fn record(line: &str) -> Record {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [owner, ttl_s, _class, rest @ ..] = &fields[..] else { panic!("no record: {line}") };
    let short = |name: &str| match name.strip_suffix(ZONE) {
        Some(rest) => rest.to_owned(),
        None => name.trim_end_matches('.').to_owned(),
    };
    let value: Vec<String> = rest.iter().map(|field| short(field)).collect();
    Record { owner: short(owner), ttl_s: ttl_s.parse().unwrap(), value: value.join(" ") }
}

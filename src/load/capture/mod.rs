//! Names from what was captured: pcap, pcapng, or dnstap in Frame Streams.
//!
//! ```text
//! file ── Format::of ─┬─ pcap   records, blocks ─► packet   link, IP, UDP, TCP ─┬─► query ─► List
//!                     └─ dnstap frames, messages ──────────────────────────────┘
//! ```
//!
//! Each query counts as often as it was captured. What is no query is counted by reason. A file
//! that breaks off or makes no sense from some octet on is used up to there, with a warning. Names
//! are as they were on the wire, search lists applied, so their hosts have a last dot.

mod dnstap;
mod packet;
mod pcap;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::Error;
use super::tasks::Task;
use super::tasks::list::{self, Full, List, NAMES_MAX, OCCURRENCES_MAX};
use crate::wire::{self, Query};

/// What was captured.
#[derive(Debug)]
pub struct Captured {
    /// A task for each query, in order; one that occurs often is the same task each time.
    pub tasks: Vec<Arc<Task>>,
    /// What else was in it.
    pub counts: Counts,
    /// What the operator should know, a line each.
    pub warnings: Vec<String>,
}

/// How many packets or messages there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub packets: u64,
    /// Queries in them.
    pub queries: u64,
    /// Packets without one, by reason.
    pub skipped: BTreeMap<Skip, u64>,
}

/// Why a packet or a message is not asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Skip {
    /// Answers.
    Response,
    /// Packets that are neither UDP nor TCP over IP.
    OtherProtocol,
    /// Segments without a whole query, handshakes among them.
    NoWholeQuery,
    /// A part of an IP packet.
    Fragment,
    /// The capture has the first octets only (`tcpdump -s`).
    Cut,
    /// UDP that is no DNS query of one question.
    NotDns,
    /// mDNS, LLMNR and NetBIOS, which look like DNS.
    Neighbours,
    /// A class other than IN, or a transfer.
    NoLookup,
    /// Messages of dnstap about something else than the query of a client.
    OtherMessage,
    /// A link layer that is not known here.
    UnknownLink,
}

/// The kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// libpcap's.
    Pcap,
    /// Its successor.
    PcapNg,
    /// Frame Streams of `protobuf:dnstap.Dnstap`.
    Dnstap,
    /// Packed by a program of this name.
    Packed(&'static str),
}

/// Octets that tell the format.
const MAGIC_OCTETS: usize = 4;

/// Reads a capture; `-` is standard input.
///
/// # Errors
/// The file cannot be read, is no capture, or has no query.
pub fn read(path: &Path) -> Result<Captured, Error> {
    let title = list::title(path);
    let source = list::open(path)?;
    read_from(&title, source).map_err(|trouble| match trouble {
        Trouble::Unreadable(error) => list::unreadable(path, error),
        Trouble::Wrong(text) => Error::Config(text),
    })
}

/// Why there is nothing to ask.
#[derive(Debug)]
enum Trouble {
    Unreadable(std::io::Error),
    Wrong(String),
}

/// Reads whatever format it is.
fn read_from(title: &str, mut source: impl Read) -> Result<Captured, Trouble> {
    let mut magic = Vec::with_capacity(MAGIC_OCTETS);
    let read = source.by_ref().take(MAGIC_OCTETS as u64).read_to_end(&mut magic);
    read.map_err(Trouble::Unreadable)?;
    let format = Format::of(&magic);
    let source = std::io::Cursor::new(magic).chain(source);
    let mut intake = Intake::default();
    let end = match format {
        Some(Format::Pcap) => pcap::read(source, &mut intake),
        Some(Format::PcapNg) => pcap::read_blocks(source, &mut intake),
        Some(Format::Dnstap) => dnstap::read(source, &mut intake),
        Some(Format::Packed(program)) => {
            let text = format!("{title}: packed; write {program} -dc {title} | … --capture -");
            return Err(Trouble::Wrong(text));
        }
        None => {
            return Err(Trouble::Wrong(format!(
                "{title}: neither pcap, pcapng nor dnstap in Frame Streams; for a list of names \
                 use --names {title}"
            )));
        }
    };
    intake.finish(title, end)
}

impl Format {
    /// Tells the format by the first octets of a file.
    pub fn of(magic: &[u8]) -> Option<Self> {
        Some(match magic.get(..MAGIC_OCTETS)? {
            [0xa1, 0xb2, 0xc3, 0xd4] | [0xd4, 0xc3, 0xb2, 0xa1] => Self::Pcap,
            // With nanoseconds.
            [0xa1, 0xb2, 0x3c, 0x4d] | [0x4d, 0x3c, 0xb2, 0xa1] => Self::Pcap,
            [0x0a, 0x0d, 0x0d, 0x0a] => Self::PcapNg,
            [0, 0, 0, 0] => Self::Dnstap,
            [0x1f, 0x8b, ..] => Self::Packed("gzip"),
            [0x28, 0xb5, 0x2f, 0xfd] => Self::Packed("zstd"),
            [0xfd, b'7', b'z', b'X'] => Self::Packed("xz"),
            _ => return None,
        })
    }
}

/// How the reading of a file ended.
enum End {
    /// With the file.
    Complete,
    /// Before it: why.
    Broken(String),
    /// There is no room for more.
    Full,
    /// The system could not read on.
    Unreadable(std::io::Error),
}

/// Where packets go.
#[derive(Default)]
struct Intake {
    list: List,
    counts: Counts,
}

impl Intake {
    /// Takes the query that a message is.
    fn message(&mut self, message: &[u8]) -> Result<Result<(), Skip>, Full> {
        if message.len() >= wire::HEADER_LEN && message[2] & 0x80 != 0 {
            return Ok(Err(Skip::Response));
        }
        let Ok(query) = Query::parse(message) else { return Ok(Err(Skip::NotDns)) };
        if query.class != wire::Class::IN || !list::is_lookup(query.rtype) {
            return Ok(Err(Skip::NoLookup));
        }
        let name = query.name().to_name();
        self.list.push(&name.to_string(), name, query.rtype)?;
        self.counts.queries += 1;
        Ok(Ok(()))
    }

    /// Counts a packet, with the reason where there was no query in it.
    fn count(&mut self, outcome: Result<(), Skip>) {
        self.counts.packets += 1;
        if let Err(skip) = outcome {
            *self.counts.skipped.entry(skip).or_default() += 1;
        }
    }

    /// What came of it all.
    fn finish(self, title: &str, end: End) -> Result<Captured, Trouble> {
        let Self { list, counts } = self;
        let mut warnings = Vec::new();
        match end {
            End::Complete => {}
            End::Unreadable(error) => return Err(Trouble::Unreadable(error)),
            End::Broken(why) if !list.is_empty() => warnings.push(format!(
                "{title}: {why} after {} packets; what is before is used",
                counts.packets
            )),
            End::Broken(why) => {
                return Err(Trouble::Wrong(format!(
                    "{title}: {why}, and no query before; {counts}"
                )));
            }
            End::Full => warnings.push(format!(
                "{title}: more than {NAMES_MAX} different names or {OCCURRENCES_MAX} queries; the \
                 first {} packets are used",
                counts.packets
            )),
        }
        if list.is_empty() {
            return Err(Trouble::Wrong(format!(
                "{title}: no DNS query in it: {counts}; capture what clients send, such as \
                 tcpdump -w FILE port 53"
            )));
        }
        Ok(Captured { tasks: list.into_tasks(), counts, warnings })
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} packets, {} queries", self.packets, self.queries)?;
        for (index, (skip, count)) in self.skipped.iter().enumerate() {
            let before = if index == 0 { "; skipped: " } else { ", " };
            write!(f, "{before}{count} {}", skip.text())?;
        }
        Ok(())
    }
}

impl Skip {
    /// As messages call it.
    fn text(self) -> &'static str {
        match self {
            Self::Response => "responses",
            Self::OtherProtocol => "neither UDP nor TCP",
            Self::NoWholeQuery => "TCP without a whole query",
            Self::Fragment => "fragments",
            Self::Cut => "cut by the capture",
            Self::NotDns => "no query of one question",
            Self::Neighbours => "mDNS, LLMNR or NetBIOS",
            Self::NoLookup => "transfers or classes other than IN",
            Self::OtherMessage => "not about a client's query",
            Self::UnknownLink => "of an unknown link layer",
        }
    }
}

#[cfg(test)]
mod tests;

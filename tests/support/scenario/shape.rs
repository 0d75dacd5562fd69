//! `expect` statements and replies, in one written form that can be compared.
//!
//! ```text
//! expect  NOERROR aa  web.shop.svc.cluster.local 5 A 10.0.0.1
//! expect  NXDOMAIN aa  soa cluster.local
//! expect  SERVFAIL ede=14; because the cluster is not known yet
//! expect  NOERROR aa ordered
//!         www.example.org 30 A 192.0.2.2
//!         www.example.org 30 A 192.0.2.1
//!         authority  example.org 30 NS ns.example.org
//!         additional ns.example.org 30 A 192.0.2.9
//! expect  NOERROR aa tc; answers 28
//! ```
//!
//! The flags are those of `aa ra tc ad`, all of them; `ede=N` are the extended errors, if any, and
//! `because TEXT` the text of the first, which need not be told. A section that is not mentioned is
//! empty. Order does not count, unless `ordered`. `*` stands for any one word. `answers N` and
//! `additionals N` count records instead of naming them.
//! `soa ZONE [TTL]` is the authority section of a denial of ours, with TTL 5 and any serial;
//! `soa ZONE [TTL] apex LABEL` that of a zone of `k8s_external`.

use std::fmt;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RData, Record};
use hickory_proto::serialize::txt::Parser;
use mainstay::wire::Rcode;

/// A reply, or what is expected of one.
#[derive(Default, Debug)]
pub struct Shape {
    rcode: String,
    flags: Vec<String>,
    /// Lines of the answer, authority and additional section.
    sections: [Lines; 3],
    is_ordered: bool,
    /// The text of the extended error.
    because: Option<String>,
}

#[derive(Debug)]
enum Lines {
    Are(Vec<String>),
    Count(usize),
}

impl Default for Lines {
    fn default() -> Self {
        Self::Are(Vec::new())
    }
}

/// Where a record stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    Answer,
    Authority,
    Additional,
}

const FLAGS: [&str; 4] = ["aa", "ra", "tc", "ad"];

impl Shape {
    /// Reads what follows `expect`.
    pub fn expected(items: &[String]) -> Result<Self, String> {
        let mut shape = Self::default();
        let mut items = items.iter();
        let head: Vec<&str> = items.next().ok_or("no code")?.split_whitespace().collect();
        shape.rcode = head[0].to_owned();
        let is_flag =
            |word: &&str| FLAGS.contains(word) || *word == "ordered" || word.starts_with("ede=");
        let count = head[1..].iter().take_while(|word| is_flag(word)).count();
        let (flags, first) = head[1..].split_at(count);
        shape.is_ordered = flags.contains(&"ordered");
        shape.flags =
            flags.iter().filter(|flag| **flag != "ordered").map(|flag| (*flag).into()).collect();
        shape.flags.sort();
        let first = (!first.is_empty()).then(|| first.join(" "));
        for item in first.iter().chain(items) {
            shape.expect(item)?;
        }
        Ok(shape)
    }

    fn expect(&mut self, item: &str) -> Result<(), String> {
        let words: Vec<&str> = item.split_whitespace().collect();
        let count = |text: &str| text.parse().map_err(|_| format!("not a number: {text}"));
        match words[..] {
            ["because", ..] => self.because = Some(words[1..].join(" ")),
            ["answers", number] => self.sections[0] = Lines::Count(count(number)?),
            ["additionals", number] => self.sections[2] = Lines::Count(count(number)?),
            ["soa", zone] => self.push(Section::Authority, soa(zone, "5"))?,
            ["soa", zone, ttl_s] => self.push(Section::Authority, soa(zone, ttl_s))?,
            ["soa", zone, "apex", label] => {
                self.push(Section::Authority, soa_outside(zone, label, "5"))?;
            }
            ["soa", zone, ttl_s, "apex", label] => {
                self.push(Section::Authority, soa_outside(zone, label, ttl_s))?;
            }
            _ => {
                let (section, rest) = section_of(item);
                self.push(section, rest.split_whitespace().collect::<Vec<_>>().join(" "))?;
            }
        }
        Ok(())
    }

    fn push(&mut self, section: Section, line: String) -> Result<(), String> {
        match &mut self.sections[section as usize] {
            Lines::Are(lines) => lines.push(line),
            Lines::Count(_) => return Err("a section is counted or told, not both".into()),
        }
        Ok(())
    }

    /// Reads a reply.
    pub fn of(reply: &[u8]) -> Result<Self, String> {
        // A reply of the header alone is a message too, but hickory-proto reads it as well.
        let message = Message::from_vec(reply).map_err(|error| error.to_string())?;
        let metadata = &message.metadata;
        let set = [
            ("aa", metadata.authoritative),
            ("ra", metadata.recursion_available),
            ("tc", metadata.truncation),
            ("ad", metadata.authentic_data),
        ];
        let flags = set.iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| (*flag).to_owned());
        let (edes, texts): (Vec<_>, Vec<_>) = edes(&message).into_iter().unzip();
        let because = texts.into_iter().next();
        let mut flags: Vec<String> = flags.chain(edes).collect();
        flags.sort();
        let lines = |records: &[Record]| Lines::Are(records.iter().map(line).collect());
        Ok(Self {
            rcode: Rcode(u16::from(message.metadata.response_code)).to_string(),
            flags,
            sections: [
                lines(&message.answers),
                lines(&message.authorities),
                lines(&message.additionals),
            ],
            is_ordered: true,
            because,
        })
    }

    /// Whether a reply is as expected here.
    pub fn matches(&self, reply: &Self) -> bool {
        let mut sections = self.sections.iter().zip(&reply.sections);
        self.rcode == reply.rcode
            && self.flags == reply.flags
            && (self.because.is_none() || self.because == reply.because)
            && sections.all(|(expected, got)| self.lines_match(expected, got))
    }

    fn lines_match(&self, expected: &Lines, got: &Lines) -> bool {
        let Lines::Are(got) = got else { return false };
        let expected = match expected {
            Lines::Count(count) => return *count == got.len(),
            Lines::Are(lines) => lines,
        };
        let mut rest: Vec<&String> = got.iter().collect();
        let each_has_its_own = expected.iter().all(|line| {
            let at = match self.is_ordered {
                true => rest.first().filter(|other| line_matches(line, other)).map(|_| 0),
                false => rest.iter().position(|other| line_matches(line, other)),
            };
            at.map(|at| rest.remove(at)).is_some()
        });
        each_has_its_own && rest.is_empty()
    }
}

fn line_matches(expected: &str, got: &str) -> bool {
    let (mut expected, mut got) = (expected.split(' '), got.split(' '));
    loop {
        match (expected.next(), got.next()) {
            (None, None) => return true,
            (Some(word), Some(other)) if word == "*" || word == other => {}
            _ => return false,
        }
    }
}

fn soa(zone: &str, ttl_s: &str) -> String {
    let record_ttl_s = ttl_s.parse().unwrap_or(300).min(300);
    format!("{zone} {record_ttl_s} SOA ns.dns.{zone} hostmaster.{zone} * 7200 1800 86400 {ttl_s}")
}

fn soa_outside(zone: &str, label: &str, ttl_s: &str) -> String {
    let names = format!("ns1.{label}.{zone} hostmaster.{label}.{zone}");
    format!("{zone} {ttl_s} SOA {names} * 7200 1800 86400 {ttl_s}")
}

fn section_of(item: &str) -> (Section, &str) {
    let sections = [("authority ", Section::Authority), ("additional ", Section::Additional)];
    let found =
        sections.iter().find_map(|(word, section)| Some((*section, item.strip_prefix(word)?)));
    found.unwrap_or((Section::Answer, item))
}

/// Reads a record as upstreams send it, in zone file form; names need no dot at their end.
pub fn record(item: &str) -> Result<(Section, Record), String> {
    let (section, text) = section_of(item);
    let parsed = Parser::new(format!("{text}\n"), None, Some(Name::root())).parse();
    let (_, sets) = parsed.map_err(|error| format!("{text}: {error}"))?;
    let record = sets.values().flat_map(|set| set.records_without_rrsigs()).next().cloned();
    record.map(|record| (section, record)).ok_or(format!("no record: {text}"))
}

/// `owner ttl TYPE data`.
fn line(record: &Record) -> String {
    let data = match &record.data {
        RData::CNAME(target) => name(&target.0),
        RData::NS(target) => name(&target.0),
        RData::PTR(target) => name(&target.0),
        RData::SRV(srv) => {
            format!("{} {} {} {}", srv.priority, srv.weight, srv.port, name(&srv.target))
        }
        RData::MX(mx) => format!("{} {}", mx.preference, name(&mx.exchange)),
        RData::SOA(soa) => format!(
            "{} {} {} {} {} {} {}",
            name(&soa.mname),
            name(&soa.rname),
            soa.serial,
            soa.refresh,
            soa.retry,
            soa.expire,
            soa.minimum
        ),
        other => other.to_string(),
    };
    format!("{} {} {} {data}", name(&record.name), record.ttl, record.record_type())
}

/// A name as it is spelled, without the last dot.
pub fn name(name: &Name) -> String {
    let text = name.to_ascii();
    if text == "." { text } else { text.trim_end_matches('.').to_owned() }
}

/// The extended errors (RFC 8914): their codes as flags, and their texts.
fn edes(message: &Message) -> Vec<(String, String)> {
    let options = message.edns.as_ref().map(|edns| edns.options().get_all(EdnsCode::Unknown(15)));
    let read = |option: &EdnsOption| {
        let EdnsOption::Unknown(_, octets) = option else { return None };
        let (code, text) = octets.split_first_chunk()?;
        let code = format!("ede={}", u16::from_be_bytes(*code));
        Some((code, String::from_utf8_lossy(text).into_owned()))
    };
    options.unwrap_or_default().into_iter().filter_map(read).collect()
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.rcode, self.flags.join(" "))?;
        if let Some(because) = &self.because {
            write!(f, "; because {because}")?;
        }
        for (section, lines) in ["", "authority ", "additional "].iter().zip(&self.sections) {
            match lines {
                Lines::Count(count) => write!(f, "\n         {section}{count} records")?,
                Lines::Are(lines) => {
                    for line in lines {
                        write!(f, "\n         {section}{line}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

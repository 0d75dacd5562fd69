//! Questions: a name and a type, spelled and carried in one of thirty ways.

use std::collections::BTreeSet;
use std::fmt;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::fixture::LARGE;
use crate::names::{Names, ZONES};
use crate::servers::Variant;

/// What is asked of every name.
pub const TYPES: [(u16, &str); 11] = [
    (1, "A"),
    (28, "AAAA"),
    (33, "SRV"),
    (16, "TXT"),
    (5, "CNAME"),
    (12, "PTR"),
    (2, "NS"),
    (6, "SOA"),
    (15, "MX"),
    (65, "HTTPS"),
    (255, "ANY"),
];
pub const A: u16 = 1;
pub const PTR: u16 = 12;
/// What a client may say of itself: no EDNS, or a payload size and the DO bit.
const EDNS: [Option<(u16, bool)>; 5] =
    [None, Some((512, false)), Some((1232, false)), Some((4096, false)), Some((1232, true))];
/// Ways to ask one question: spellings × transports × EDNS.
const WAYS: usize = 3 * 2 * EDNS.len();
/// The bits of a request that a server has to repeat, or not to: RD, CD and AD.
const FLAGS: [u16; 4] = [0x0100, 0x0110, 0x0120, 0x0000];
/// The DO bit in the TTL field of OPT (RFC 6891 §6.1.3).
const DO: u16 = 0x8000;

/// How a question is carried.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Over {
    Udp,
    Tcp,
}

/// One question.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Question {
    /// In wire form, as it is spelled.
    pub name: Vec<u8>,
    pub rtype: u16,
    pub over: Over,
    pub edns: Option<(u16, bool)>,
    pub flags: u16,
}

impl Question {
    /// The packet of it, with the id 0.
    pub fn packet(&self) -> Vec<u8> {
        let mut packet = vec![0, 0];
        packet.extend(self.flags.to_be_bytes());
        packet.extend([0, 1, 0, 0, 0, 0, 0, u8::from(self.edns.is_some())]);
        packet.extend(&self.name);
        packet.extend(self.rtype.to_be_bytes());
        packet.extend([0, 1]);
        if let Some((size, is_secure)) = self.edns {
            packet.extend([0, 0, 41]);
            packet.extend(size.to_be_bytes());
            packet.extend([0, 0]);
            packet.extend(if is_secure { DO } else { 0 }.to_be_bytes());
            packet.extend([0, 0]);
        }
        packet
    }

    /// The same question over TCP, where everything fits.
    pub fn over_tcp(&self) -> Self {
        Self { over: Over::Tcp, ..self.clone() }
    }

    /// Largest reply that the client takes.
    pub fn size_max(&self) -> usize {
        match (self.over, self.edns) {
            (Over::Tcp, _) => 65_535,
            (Over::Udp, None) => 512,
            (Over::Udp, Some((size, _))) => usize::from(size.max(512)),
        }
    }

    /// The name of its type.
    pub fn type_name(&self) -> &'static str {
        TYPES.iter().find(|(number, _)| *number == self.rtype).expect("we ask for these only").1
    }

    /// Its name as text, in lower case.
    pub fn name_text(&self) -> String {
        text(&self.name).to_lowercase()
    }
}

impl fmt::Display for Question {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, over, edns, flags, .. } = self;
        write!(formatter, "{} {} over {over:?}, ", text(name), self.type_name())?;
        match edns {
            None => write!(formatter, "no EDNS")?,
            Some((size, is_secure)) => {
                write!(formatter, "EDNS {size}{}", if *is_secure { " DO" } else { "" })?;
            }
        }
        write!(formatter, ", flags {flags:04x}")
    }
}

/// Asks for every name and type in `ways` of the thirty, so that all of them come equally often,
/// and for large names in all of them.
pub fn systematic(names: &Names, variant: &Variant, ways: usize) -> Vec<Question> {
    let mut questions = Vec::new();
    let mut turn = 0;
    for name in whole_names(names, variant) {
        let ways = if LARGE.contains(&&*name) { WAYS } else { ways };
        for (rtype, _) in TYPES {
            for _ in 0..ways {
                questions.push(question(&name, rtype, turn));
                // A step that has no divisor in common with the thirty comes to all of them.
                turn += 7;
            }
        }
    }
    questions
}

/// Asks `count` random questions about these names.
pub fn random(names: &Names, variant: &Variant, count: usize, dice: &mut StdRng) -> Vec<Question> {
    let names: Vec<String> = whole_names(names, variant).collect();
    let draw = |_| {
        let name = names.choose(dice).expect("there are names");
        let (rtype, _) = *TYPES.choose(dice).expect("there are types");
        question(name, rtype, dice.random_range(0..WAYS * FLAGS.len() * 64))
    };
    (0..count).map(draw).collect()
}

/// Leaves out the questions that CoreDNS says nothing to, which would each take seconds.
pub fn without_silence(mut questions: Vec<Question>, nameless: &BTreeSet<String>) -> Vec<Question> {
    questions.retain(|question| {
        let name = question.name_text();
        let name = name.trim_end_matches('.');
        let is_silent = |end: &String| name == end || name.ends_with(&format!(".{end}"));
        question.rtype != PTR || !name.ends_with(".arpa") || !nameless.iter().any(is_silent)
    });
    questions
}

/// A source of chance that a run can be repeated with.
pub fn dice(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// One question in one of the ways.
pub fn question(name: &str, rtype: u16, turn: usize) -> Question {
    let (spelling, way) = (turn % 3, turn / 3 % (WAYS / 3));
    let name = wire(name);
    let spelled = name.iter().enumerate().map(|(at, octet)| match spelling {
        0 => *octet,
        1 => octet.to_ascii_uppercase(),
        _ if (at * 7 + turn).is_multiple_of(3) => octet.to_ascii_uppercase(),
        _ => *octet,
    });
    Question {
        name: spelled.collect(),
        rtype,
        over: if way % 2 == 0 { Over::Udp } else { Over::Tcp },
        edns: EDNS[way / 2],
        flags: FLAGS[turn / WAYS % FLAGS.len()],
    }
}

fn whole_names(names: &Names, variant: &Variant) -> impl Iterator<Item = String> {
    let zones = ZONES.iter().filter(|zone| variant.serves(zone));
    let inside =
        zones.flat_map(|zone| names.inside.iter().map(move |name| format!("{name}.{zone}")));
    inside.chain(names.whole.iter().cloned())
}

/// The wire form of a name in zone file form. Empty labels are left out.
pub fn wire(name: &str) -> Vec<u8> {
    let mut labels = vec![Vec::new()];
    let mut octets = name.bytes();
    while let Some(octet) = octets.next() {
        match octet {
            b'.' => labels.push(Vec::new()),
            b'\\' => labels.last_mut().unwrap().push(escaped(&mut octets)),
            other => labels.last_mut().unwrap().push(other),
        }
    }
    labels.retain(|label| !label.is_empty());
    let labels = labels.iter().flat_map(|label| [&[label.len() as u8], &label[..]].concat());
    labels.chain([0]).collect()
}

/// `\.` or `\010` (RFC 1035 §5.1).
fn escaped(octets: &mut impl Iterator<Item = u8>) -> u8 {
    let digit = |octet: Option<u8>| octet.expect("three digits") - b'0';
    match octets.next().expect("something is escaped") {
        octet if octet.is_ascii_digit() => {
            (octet - b'0') * 100 + digit(octets.next()) * 10 + digit(octets.next())
        }
        octet => octet,
    }
}

/// A name in wire form as text.
pub fn text(name: &[u8]) -> String {
    let mut text = String::new();
    let mut at = 0;
    while name[at] != 0 {
        let end = at + 1 + usize::from(name[at]);
        for octet in &name[at + 1..end] {
            match octet {
                b'.' | b'\\' => text.extend(['\\', *octet as char]),
                b'!'..=b'~' => text.push(*octet as char),
                other => text.push_str(&format!("\\{other:03}")),
            }
        }
        text.push('.');
        at = end;
    }
    if text.is_empty() { ".".to_owned() } else { text }
}

//! A reply as it can be compared: names whole, sections sorted, no id. Shares no code with the
//! servers.

use std::fmt;

use crate::questions::{TYPES, text};

/// Octets of the header.
const HEADER_LEN: usize = 12;
/// Types whose RDATA holds names, with the octets before the first of them and their number.
const WITH_NAMES: [(u16, usize, usize); 6] =
    [(2, 0, 1), (5, 0, 1), (6, 0, 2), (12, 0, 1), (15, 2, 1), (33, 6, 1)];
const SOA: u16 = 6;
const OPT: u16 = 41;
/// The option of Extended DNS Errors (RFC 8914).
pub const EDE: u16 = 15;

pub const AA: u16 = 0x0400;
pub const TC: u16 = 0x0200;
pub const RA: u16 = 0x0080;

pub const NOERROR: u16 = 0;
pub const SERVFAIL: u16 = 2;
pub const NXDOMAIN: u16 = 3;

/// One record. The serial of a SOA is 0: it is a clock.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Record {
    /// In wire form, as it is spelled.
    pub owner: Vec<u8>,
    pub rtype: u16,
    pub class: u16,
    pub ttl_s: u32,
    /// With names in full.
    pub rdata: Vec<u8>,
}

/// What OPT says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Edns {
    pub payload_bytes: u16,
    pub version: u8,
    pub flags: u16,
    /// Code and value.
    pub options: Vec<(u16, Vec<u8>)>,
}

/// All of a reply but its id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// Those of the header, without the code.
    pub flags: u16,
    /// With the upper bits from OPT.
    pub rcode: u16,
    pub question: Vec<u8>,
    pub answer: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
    pub edns: Option<Edns>,
    /// Octets of the packet; not compared.
    pub len: Length,
}

/// A length, equal to every other.
#[derive(Clone, Copy, Debug)]
pub struct Length(pub usize);

impl PartialEq for Length {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Length {}

impl Reply {
    /// Reads a packet.
    ///
    /// # Errors
    /// Where it is broken.
    pub fn read(packet: &[u8]) -> Result<Self, String> {
        let mut reader = Reader { packet, at: HEADER_LEN };
        let count = |at| u16::from_be_bytes([packet[at], packet[at + 1]]);
        if packet.len() < HEADER_LEN {
            return Err("no header".to_owned());
        }
        let head = count(2);
        let mut reply = Self {
            flags: head & !0xF,
            rcode: head & 0xF,
            question: reader.question(count(4))?,
            answer: reader.section(count(6))?,
            authority: reader.section(count(8))?,
            additional: reader.section(count(10))?,
            edns: None,
            len: Length(packet.len()),
        };
        if reader.at != packet.len() {
            return Err(format!("{} octets behind the end", packet.len() - reader.at));
        }
        reply.take_edns()?;
        Ok(reply)
    }

    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Every record but OPT.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.answer.iter().chain(&self.authority).chain(&self.additional)
    }

    /// The same without OPT.
    pub fn without_edns(&self) -> Self {
        Self { edns: None, ..self.clone() }
    }

    fn take_edns(&mut self) -> Result<(), String> {
        let found: Vec<usize> =
            (0..self.additional.len()).filter(|at| self.additional[*at].rtype == OPT).collect();
        let [at] = found[..] else {
            return if found.is_empty() { Ok(()) } else { Err("two OPT records".to_owned()) };
        };
        let record = self.additional.remove(at);
        if record.owner != [0] {
            return Err("OPT does not belong to the root".to_owned());
        }
        let [upper, version, high, low] = record.ttl_s.to_be_bytes();
        self.rcode |= u16::from(upper) << 4;
        self.edns = Some(Edns {
            payload_bytes: record.class,
            version,
            flags: u16::from_be_bytes([high, low]),
            options: options(&record.rdata)?,
        });
        Ok(())
    }
}

fn options(mut rdata: &[u8]) -> Result<Vec<(u16, Vec<u8>)>, String> {
    let mut options = Vec::new();
    while let [a, b, c, d, rest @ ..] = rdata {
        let len = usize::from(u16::from_be_bytes([*c, *d]));
        let value = rest.get(..len).ok_or("an option is cut")?;
        options.push((u16::from_be_bytes([*a, *b]), value.to_vec()));
        rdata = &rest[len..];
    }
    if rdata.is_empty() { Ok(options) } else { Err("an option is cut".to_owned()) }
}

/// Where in a packet is being read.
struct Reader<'p> {
    packet: &'p [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, len: usize) -> Result<&[u8], String> {
        let octets = self.packet.get(self.at..self.at + len).ok_or("the packet is cut")?;
        self.at += len;
        Ok(octets)
    }

    fn u16(&mut self) -> Result<u16, String> {
        Ok(u16::from_be_bytes(self.take(2)?.try_into().unwrap()))
    }

    /// A name in full. Pointers may only go back.
    fn name(&mut self) -> Result<Vec<u8>, String> {
        let (mut name, mut at, mut end) = (Vec::new(), self.at, None);
        loop {
            let len = *self.packet.get(at).ok_or("a name is cut")?;
            if len & 0xC0 == 0xC0 {
                let low = *self.packet.get(at + 1).ok_or("a pointer is cut")?;
                end.get_or_insert(at + 2);
                let to = usize::from(len & 0x3F) << 8 | usize::from(low);
                if to >= at {
                    return Err("a pointer goes forward".to_owned());
                }
                at = to;
                continue;
            }
            let next = at + 1 + usize::from(len);
            name.extend(self.packet.get(at..next).ok_or("a label is cut")?);
            at = next;
            if len == 0 {
                self.at = end.unwrap_or(at);
                return Ok(name);
            }
        }
    }

    /// The whole question section.
    fn question(&mut self, count: u16) -> Result<Vec<u8>, String> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.extend(self.name()?);
            all.extend(self.take(4)?);
        }
        Ok(all)
    }

    fn section(&mut self, count: u16) -> Result<Vec<Record>, String> {
        let mut records = (0..count).map(|_| self.record()).collect::<Result<Vec<_>, _>>()?;
        records.sort_unstable();
        Ok(records)
    }

    fn record(&mut self) -> Result<Record, String> {
        let (owner, rtype, class) = (self.name()?, self.u16()?, self.u16()?);
        let ttl_s = u32::from_be_bytes(self.take(4)?.try_into().unwrap());
        let end = usize::from(self.u16()?) + self.at;
        let mut rdata = Vec::new();
        if let Some((_, before, names)) = WITH_NAMES.iter().find(|(number, ..)| *number == rtype) {
            rdata.extend(self.take(*before)?);
            for _ in 0..*names {
                rdata.extend(self.name()?);
            }
        }
        let rest = end.checked_sub(self.at).ok_or("RDATA is longer than it says")?;
        rdata.extend(self.take(rest)?);
        if rtype == SOA {
            let serial = rdata.len().checked_sub(20).ok_or("a SOA is cut")?;
            rdata[serial..serial + 4].fill(0);
        }
        Ok(Record { owner, rtype, class, ttl_s, rdata })
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let codes = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
        let code = codes.get(usize::from(self.rcode)).copied().unwrap_or("other code");
        write!(formatter, "{code}, {} octets, flags", self.len.0)?;
        let names = [(AA, "aa"), (TC, "tc"), (0x100, "rd"), (RA, "ra"), (0x20, "ad"), (0x10, "cd")];
        for (flag, name) in names {
            if self.has(flag) {
                write!(formatter, " {name}")?;
            }
        }
        if let Some(Edns { payload_bytes, version, flags, options }) = &self.edns {
            write!(formatter, "; EDNS {payload_bytes} version {version} flags {flags:04x}")?;
            for (code, value) in options {
                write!(formatter, " option {code} {}", String::from_utf8_lossy(value))?;
            }
        }
        for (section, records) in
            [("", &self.answer), ("authority ", &self.authority), ("additional ", &self.additional)]
        {
            const SHOWN: usize = 6;
            for record in records.iter().take(SHOWN) {
                write!(formatter, "\n      {section}{record}")?;
            }
            if records.len() > SHOWN {
                write!(formatter, "\n      {section}… {} records", records.len())?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Record {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, rtype, ttl_s, rdata, .. } = self;
        let known = TYPES.iter().find(|(number, _)| number == rtype);
        let name = known.map_or_else(|| format!("TYPE{rtype}"), |(_, name)| (*name).to_owned());
        write!(formatter, "{} {ttl_s} {name} ", text(owner))?;
        let address = |octets: &[u8]| match octets.len() {
            4 => std::net::Ipv4Addr::from(<[u8; 4]>::try_from(octets).unwrap()).to_string(),
            _ => std::net::Ipv6Addr::from(<[u8; 16]>::try_from(octets).unwrap()).to_string(),
        };
        match (rtype, rdata.len()) {
            (1, 4) | (28, 16) => formatter.write_str(&address(rdata)),
            (33, 7..) => {
                let number = |at: usize| u16::from_be_bytes([rdata[at], rdata[at + 1]]);
                let [priority, weight, port] = [0, 2, 4].map(number);
                write!(formatter, "{priority} {weight} {port} {}", text(&rdata[6..]))
            }
            (2 | 5 | 6 | 12, _) => formatter.write_str(&text(rdata)),
            _ => write!(formatter, "{:?}", String::from_utf8_lossy(rdata)),
        }
    }
}

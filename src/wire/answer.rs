//! Everything of a response after the question, immutable and shared.
//!
//! An Answer keeps the octets of its sections without OPT, the offsets of its TTLs, and where its
//! last run of address records lies, so that [`super::Reply`] can copy it, set the TTLs and turn
//! the addresses without reading a record again.

use super::walk::{self, Record};
use super::{Ede, HEADER_LEN, Name, Rcode, RecordType, TCP_MAX, u16_at, u32_at};

/// Most resource records that one Answer of an upstream may carry, over all sections. A larger
/// one is a flaw of the upstream; 65 535 octets cannot hold more than 5 461 useful records.
pub const RECORDS_MAX: usize = 6_000;
/// Longest chain of CNAME and DNAME records that we follow (reliability: BIND 11, CoreDNS 10).
pub const CHAIN_MAX: usize = 11;

/// The sections of a response, ready to be copied behind any spelling of its question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    pub rcode: Rcode,
    /// The AA bit.
    pub authoritative: bool,
    /// The RA bit.
    pub recursion_available: bool,
    /// The AD bit, to be passed on to clients that ask for it (RFC 6840 §5.8).
    pub authentic: bool,
    /// Why this is no better answer (RFC 8914).
    pub ede: Option<Ede>,
    /// Whether the chain of the answer section ends in a record of the asked type.
    pub(super) is_complete: bool,
    /// Records in the answer, authority and additional section.
    pub(super) counts: [u16; 3],
    pub(super) run: Option<Run>,
    octets: Octets,
}

/// Everything of variable length, in one allocation: the key of the question, if the Answer was
/// put behind one, then the records, then the offsets of their TTLs, in two octets each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Octets {
    all: Box<[u8]>,
    body_at: u32,
    ttls_at: u32,
}

/// A run of address records of one owner and one size: they may be sent in any order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// Offset in the body.
    pub start: u32,
    /// Octets of one record.
    pub stride: u16,
    /// Records; at least 2.
    pub count: u16,
}

/// What kind of statement an Answer makes about its question (RFC 2308 §2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A chain that ends in records of the asked type.
    Found,
    /// The name exists, the type does not.
    NoData,
    /// The name does not exist.
    NxDomain,
    /// Everything else: no statement about the name.
    Failure,
}

/// Why a response of an upstream cannot be used. None of these ends the wait for a good one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Flaw {
    #[error("not a whole response")]
    Malformed,
    #[error("not a response to this question")]
    OtherQuestion,
    #[error("the chain of CNAMEs is too long or does not begin at the question")]
    BrokenChain,
}

impl Answer {
    /// An Answer without records.
    pub fn bare(rcode: Rcode, ede: Option<Ede>) -> Self {
        Self {
            rcode,
            authoritative: false,
            recursion_available: false,
            authentic: false,
            ede,
            is_complete: false,
            counts: [0; 3],
            run: None,
            octets: Octets::default(),
        }
    }

    /// Takes what may be kept of a response: the chain of the answer section and, for a negative
    /// one, the authority section with its SOA. Other authority and additional records are left
    /// out (RFC 5452 §6: nothing that was not asked for is believed).
    ///
    /// `question` is the question section of the request, in the case it was sent.
    ///
    /// # Errors
    /// See [`Flaw`].
    pub fn from_response(response: &[u8], question: &[u8]) -> Result<Self, Flaw> {
        let start = check_question(response, question)?;
        let sections = Sections::read(response, start).ok_or(Flaw::Malformed)?;
        let chain = sections.follow(response, question)?;
        let ede = sections.ede(response);
        if chain.is_whole(sections.answers()) {
            return Ok(Self { ede, ..sections.keep(response, start, &chain) });
        }
        // Other names lie between, or the chain is out of order. Pointers cannot move, so what is
        // kept is written anew.
        let clean = sections.rewrite(response, start, &chain).ok_or(Flaw::BrokenChain)?;
        let sections = Sections::read(&clean, start).ok_or(Flaw::Malformed)?;
        Ok(Self { ede, ..sections.keep(&clean, start, &chain) })
    }

    /// What this Answer says about the name.
    pub fn kind(&self) -> Kind {
        match self.rcode {
            Rcode::NXDOMAIN => Kind::NxDomain,
            Rcode::NOERROR if self.is_complete => Kind::Found,
            // An alias whose end has no such record, too (RFC 2308 §2.2).
            Rcode::NOERROR => Kind::NoData,
            _ => Kind::Failure,
        }
    }

    /// The smallest TTL of all records, in seconds; `None` without records.
    pub fn ttl_min(&self) -> Option<u32> {
        self.ttls().filter_map(|at| u32_at(self.body(), at)).min()
    }

    /// Seconds that a negative Answer may be kept: the lesser of the TTL and the MINIMUM of its
    /// SOA. RFC 2308 §5: without a SOA there is no negative TTL, so the Answer must not be cached.
    pub fn negative_ttl(&self) -> Option<u32> {
        let ttl_at = self.soa_at()?;
        let length = usize::from(u16_at(self.body(), ttl_at + 4)?);
        let minimum = u32_at(self.body(), ttl_at + 6 + length.checked_sub(4)?)?;
        // The aliases that lead to the denial have TTLs of their own.
        Some(self.ttl_min()?.min(minimum))
    }

    /// The response that [`Answer::from_response`] makes this Answer of again, behind a question
    /// section.
    pub fn to_response(&self, question: &[u8]) -> Vec<u8> {
        let mut response = Vec::with_capacity(HEADER_LEN + question.len() + self.body().len());
        let flags = [
            0x80 | u8::from(self.authoritative) << 2,
            u8::from(self.recursion_available) << 7 | u8::from(self.authentic) << 5,
        ];
        response.extend([0, 0, flags[0], flags[1] | self.rcode.0 as u8 & 0x0f, 0, 1]);
        self.counts.iter().for_each(|count| response.extend(count.to_be_bytes()));
        response.extend_from_slice(question);
        response.extend_from_slice(self.body());
        response
    }

    /// Octets that this Answer takes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.octets.all.len()
    }

    /// The same Answer with the key of its question in front, in the same allocation: who compares
    /// the key has the records at hand.
    pub fn behind(&self, key: &[u8]) -> Self {
        let ttls = self.ttls().map(|at| at as u16);
        Self { octets: Octets::new(key, self.body(), ttls), ..self.bare_copy() }
    }

    /// The key that this Answer was put behind; empty without one.
    #[inline]
    pub fn key(&self) -> &[u8] {
        &self.octets.all[..self.octets.body_at as usize]
    }

    /// Reads an octet at either end, so that all of a small Answer is near the processor.
    #[inline]
    pub fn touch(&self) -> u8 {
        let ends = [self.octets.all.first(), self.octets.all.last()];
        ends.into_iter().flatten().fold(0, |seen, octet| seen ^ octet)
    }

    /// The records.
    #[inline]
    pub(super) fn body(&self) -> &[u8] {
        &self.octets.all[self.octets.body_at as usize..self.octets.ttls_at as usize]
    }

    /// Offsets of TTLs in the body.
    #[inline]
    pub(super) fn ttls(&self) -> impl ExactSizeIterator<Item = usize> {
        let (offsets, _) = self.octets.all[self.octets.ttls_at as usize..].as_chunks::<2>();
        offsets.iter().map(|at| usize::from(u16::from_ne_bytes(*at)))
    }

    /// Everything but the octets.
    fn bare_copy(&self) -> Self {
        Self { octets: Octets::default(), ede: self.ede, ..*self }
    }

    /// Records in the answer section.
    pub fn answer_count(&self) -> u16 {
        self.counts[0]
    }

    /// Offset in the body of the TTL of a SOA in the authority section.
    fn soa_at(&self) -> Option<usize> {
        let authority = usize::from(self.counts[0])..usize::from(self.counts[0] + self.counts[1]);
        let (skipped, count) = (authority.start, authority.len());
        self.ttls()
            .skip(skipped)
            .take(count)
            .find(|&at| u16_at(self.body(), at - 4) == Some(RecordType::SOA.0))
    }
}

impl Octets {
    fn new(key: &[u8], body: &[u8], ttls: impl ExactSizeIterator<Item = u16>) -> Self {
        let mut all = Vec::with_capacity(key.len() + body.len() + 2 * ttls.len());
        all.extend_from_slice(key);
        all.extend_from_slice(body);
        let ttls_at = all.len() as u32;
        ttls.for_each(|at| all.extend_from_slice(&at.to_ne_bytes()));
        Self { all: all.into(), body_at: key.len() as u32, ttls_at }
    }
}

/// Checks the header and the question of a response; answers the offset after the question.
fn check_question(response: &[u8], question: &[u8]) -> Result<usize, Flaw> {
    let end = HEADER_LEN + question.len();
    let is_response = response.get(2).is_some_and(|flags| flags & 0xF8 == 0x80);
    if !is_response || u16_at(response, 4) != Some(1) {
        return Err(Flaw::Malformed);
    }
    let echoed = response.get(HEADER_LEN..end).ok_or(Flaw::OtherQuestion)?;
    // Length octets are below 64 and no letters, so one comparison serves for the whole question;
    // type and class are compared exactly.
    let name = question.len() - 4;
    if !echoed[..name].eq_ignore_ascii_case(&question[..name]) || echoed[name..] != question[name..]
    {
        return Err(Flaw::OtherQuestion);
    }
    Ok(end)
}

/// The records of a response, walked once.
struct Sections {
    rcode: u8,
    records: Vec<Record>,
    counts: [usize; 3],
}

impl Sections {
    fn read(response: &[u8], start: usize) -> Option<Self> {
        let counts = [6, 8, 10].map(|at| u16_at(response, at).map_or(0, usize::from));
        let total: usize = counts.iter().sum();
        if total > RECORDS_MAX {
            return None;
        }
        // The counts come from the wire, so nothing is reserved on their word.
        let mut records = Vec::new();
        let mut at = start;
        for _ in 0..total {
            let record = walk::record(response, at)?;
            at = record.end;
            records.push(record);
        }
        Some(Self { rcode: response[3] & 0x0F, records, counts })
    }

    fn answers(&self) -> &[Record] {
        &self.records[..self.counts[0]]
    }

    fn authorities(&self) -> &[Record] {
        &self.records[self.counts[0]..self.counts[0] + self.counts[1]]
    }

    /// Why the upstream has no better answer, as it says in OPT.
    fn ede(&self, response: &[u8]) -> Option<Ede> {
        let additionals = &self.records[self.counts[0] + self.counts[1]..];
        let opt = additionals.iter().find(|record| record.rtype == RecordType::OPT)?;
        Ede::told(&response[opt.rdata..opt.end])
    }

    /// Follows the chain that begins at the question through the answer section, whatever the order
    /// of its records.
    ///
    /// # Errors
    /// `BrokenChain` when it is too long, `Malformed` where a name or address cannot be read.
    fn follow(&self, response: &[u8], question: &[u8]) -> Result<Chain, Flaw> {
        let sound = |record: &Record| walk::rdata_is_sound(response, record);
        if !self.answers().iter().chain(self.authorities()).all(sound) {
            return Err(Flaw::Malformed);
        }
        let asked = RecordType(u16_at(question, question.len() - 4).ok_or(Flaw::Malformed)?);
        let class = u16_at(question, question.len() - 2).ok_or(Flaw::Malformed)?;
        let mut left: Vec<(Name, Record)> = Vec::new();
        for record in self.answers().iter().filter(|record| record.class == class) {
            let owner = walk::read_name(response, record.owner).ok_or(Flaw::Malformed)?;
            left.push((owner, *record));
        }
        let end = Name::from_wire(question).ok_or(Flaw::Malformed)?;
        let mut chain = Chain { records: Vec::new(), end, is_complete: false };
        let mut passed = Vec::new();
        while let Some(alias) = chain.take(&mut left, asked) {
            let next = walk::read_name(response, alias.rdata).ok_or(Flaw::Malformed)?;
            passed.push(std::mem::replace(&mut chain.end, next));
            if passed.len() > CHAIN_MAX || passed.contains(&chain.end) {
                return Err(Flaw::BrokenChain);
            }
        }
        Ok(chain)
    }

    /// Whether the authority section is the proof of a denial: a SOA of a zone that holds the end
    /// of the chain, and nothing from outside of that zone (RFC 2308 §3, bailiwick).
    fn has_proof(&self, response: &[u8], chain: &Chain) -> bool {
        let owners = || {
            self.authorities()
                .iter()
                .map(|record| (record.rtype, walk::read_name(response, record.owner)))
        };
        let soa = owners().find_map(|(rtype, owner)| owner.filter(|_| rtype == RecordType::SOA));
        let Some(zone) = soa.filter(|zone| chain.end.as_ref().is_within(zone.as_ref())) else {
            return false;
        };
        owners()
            .all(|(_, owner)| owner.is_some_and(|owner| owner.as_ref().is_within(zone.as_ref())))
    }

    /// The response with the chain and the authority section alone, all names written out.
    fn rewrite(&self, response: &[u8], start: usize, chain: &Chain) -> Option<Vec<u8>> {
        let mut clean = response[..start].to_vec();
        clean[6..8].copy_from_slice(&(chain.records.len() as u16).to_be_bytes());
        clean[10..HEADER_LEN].fill(0);
        for record in chain.records.iter().chain(self.authorities()) {
            walk::write_out(response, record, &mut clean)?;
            if clean.len() > TCP_MAX {
                return None;
            }
        }
        Some(clean)
    }

    /// Cuts the body off behind the last section that is kept.
    fn keep(self, response: &[u8], start: usize, chain: &Chain) -> Answer {
        let has_proof = !chain.is_complete && self.has_proof(response, chain);
        let kept = if has_proof { self.counts[0] + self.counts[1] } else { self.counts[0] };
        let records = &self.records[..kept];
        let end = records.last().map_or(start, |record| record.end);
        Answer {
            rcode: Rcode(u16::from(self.rcode)),
            authoritative: response[2] & 0x04 != 0,
            recursion_available: response[3] & 0x80 != 0,
            authentic: response[3] & 0x20 != 0,
            ede: None,
            is_complete: chain.is_complete,
            counts: [self.counts[0] as u16, (kept - self.counts[0]) as u16, 0],
            run: find_run(response, self.answers(), start),
            octets: Octets::new(
                &[],
                &response[start..end],
                records.iter().map(|record| (record.ttl_at - start) as u16),
            ),
        }
    }
}

/// The chain of an answer section.
struct Chain {
    /// In the order of the chain.
    records: Vec<Record>,
    /// The last name.
    end: Name,
    /// Whether there is a record of the asked type.
    is_complete: bool,
}

impl Chain {
    /// Takes the records of the last name, signatures included, and the DNAME above it. Answers the
    /// alias that leads on.
    fn take(&mut self, left: &mut Vec<(Name, Record)>, asked: RecordType) -> Option<Record> {
        let mut alias = None;
        left.retain(|(owner, record)| {
            let is_above =
                || record.rtype == RecordType::DNAME && self.end.as_ref().is_within(owner.as_ref());
            let is_here = *owner == self.end || is_above();
            if is_here {
                self.records.push(*record);
                self.is_complete |= record.rtype == asked || asked == RecordType::ANY;
                alias = alias.or((record.rtype == RecordType::CNAME).then_some(*record));
            }
            !is_here
        });
        alias.filter(|_| !self.is_complete)
    }

    /// Whether the answer section is this chain already.
    fn is_whole(&self, answers: &[Record]) -> bool {
        self.records.len() == answers.len()
            && self.records.iter().zip(answers).all(|(kept, sent)| kept.owner == sent.owner)
    }
}

/// The run of equal-sized address records of one owner that ends the answer section.
fn find_run(response: &[u8], answers: &[Record], start: usize) -> Option<Run> {
    let last = answers.last().filter(|record| record.rtype.is_address())?;
    let fixed = |record: &Record| &response[record.owner..record.rdata];
    // A TTL of its own would travel with its record, so the fixed part is compared with its TTL.
    let alike = |record: &&Record| {
        record.end - record.owner == last.end - last.owner && fixed(record) == fixed(last)
    };
    let count = answers.iter().rev().take_while(alike).count();
    let stride = last.end - last.owner;
    let first = last.end - stride * count;
    // A message has at most 65 535 octets.
    let run = Run { start: (first - start) as u32, stride: stride as u16, count: count as u16 };
    (count > 1).then_some(run)
}

#[cfg(test)]
mod tests;

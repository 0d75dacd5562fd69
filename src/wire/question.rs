//! A question apart from its packet: the key of caches and Flights, and what is asked upstream.

use std::fmt;

use super::query::{CHECKING_DISABLED, DNSSEC_OK, KEY_FIXED, RECURSION_DESIRED};
use super::{Class, Name, NameRef, Query, RecordType};

/// A question and everything of its request that can change the answer (DO, CD, RD).
/// Name in lower case, type, class, one octet of flags, in one allocation.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Question(Box<[u8]>);

impl Question {
    /// The question of a query.
    pub fn of(query: &Query<'_>) -> Self {
        Self(query.key().into())
    }

    /// A question of our own, with RD set.
    pub fn new(name: &Name, rtype: RecordType) -> Self {
        let mut octets = name.octets().to_vec();
        octets.extend_from_slice(&rtype.0.to_be_bytes());
        octets.extend_from_slice(&Class::IN.0.to_be_bytes());
        octets.push(RECURSION_DESIRED);
        Self(octets.into())
    }

    /// The question of such octets as [`Question::octets`] has; `None` of others.
    pub fn from_octets(octets: &[u8]) -> Option<Self> {
        let name = Name::from_wire(octets)?;
        let is_sound = octets.strip_prefix(name.octets())?.len() == KEY_FIXED;
        is_sound.then(|| Self(octets.into()))
    }

    /// The name asked for.
    pub fn name(&self) -> NameRef<'_> {
        NameRef::trusted(&self.0[..self.0.len() - KEY_FIXED])
    }

    /// The type asked for.
    pub fn rtype(&self) -> RecordType {
        RecordType(self.u16_from_end(5))
    }

    /// The class asked for.
    pub fn class(&self) -> Class {
        Class(self.u16_from_end(3))
    }

    /// Name, type and class in wire form: the question section.
    pub fn section(&self) -> &[u8] {
        &self.0[..self.0.len() - 1]
    }

    /// The DO bit.
    pub fn dnssec_ok(&self) -> bool {
        self.flags() & DNSSEC_OK != 0
    }

    /// The CD bit.
    pub fn checking_disabled(&self) -> bool {
        self.flags() & CHECKING_DISABLED != 0
    }

    /// The RD bit.
    pub fn recursion_desired(&self) -> bool {
        self.flags() & RECURSION_DESIRED != 0
    }

    /// The octets that identify the question, as [`Query::key`].
    pub fn octets(&self) -> &[u8] {
        &self.0
    }

    /// The questions for the addresses of the same name, with and without DO and CD.
    pub fn addresses(&self) -> impl Iterator<Item = Self> {
        let of = |rtype| (0..4).map(move |flags| (rtype, flags));
        let all = of(RecordType::A).chain(of(RecordType::AAAA));
        all.map(|(rtype, flags)| self.asking(rtype, flags))
    }

    /// The same name and class with another type, and with these of DO and CD.
    fn asking(&self, rtype: RecordType, signing: u8) -> Self {
        let (mut octets, at) = (self.0.clone(), self.0.len() - KEY_FIXED);
        octets[at..at + 2].copy_from_slice(&rtype.0.to_be_bytes());
        let kept = self.flags() & !(DNSSEC_OK | CHECKING_DISABLED);
        octets[at + KEY_FIXED - 1] = kept | signing & (DNSSEC_OK | CHECKING_DISABLED);
        Self(octets)
    }

    fn flags(&self) -> u8 {
        self.0[self.0.len() - 1]
    }

    fn u16_from_end(&self, back: usize) -> u16 {
        let at = self.0.len() - back;
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name(), self.rtype())
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::message;

    #[test]
    fn the_questions_for_addresses_differ_in_type_and_flags_only() {
        let question = Question::new(&Name::parse("example.org").unwrap(), RecordType::MX);
        let all: Vec<Question> = question.addresses().collect();
        let distinct: std::collections::HashSet<&Question> = all.iter().collect();
        assert_eq!((all.len(), distinct.len()), (8, 8));
        let is_its = |it: &Question| it.name() == question.name() && it.recursion_desired();
        assert!(all.iter().all(is_its));
        let signed = |it: &&Question| it.dnssec_ok() && it.checking_disabled();
        assert_eq!(all.iter().filter(signed).count(), 2);
    }

    #[test]
    fn the_key_of_a_query_equals_that_of_the_same_question() {
        let packet = message::question("Example.ORG.", RecordType::MX, None);
        let query = Query::parse(&packet).ok().unwrap();
        let question = Question::new(&Name::parse("example.org").unwrap(), RecordType::MX);
        assert_eq!(Question::of(&query), question);
        assert_eq!(question.to_string(), "example.org. MX");
        assert_eq!((question.class(), question.recursion_desired()), (Class::IN, true));
        assert_eq!(question.section().len(), 13 + 4);
        let octets = question.octets();
        assert_eq!(Question::from_octets(octets), Some(question.clone()));
        let upper = octets.to_ascii_uppercase();
        for other in [&octets[1..], &octets[..octets.len() - 1], &upper, b"", b"\0\0\0"] {
            assert_eq!(Question::from_octets(other), None, "{other:?}");
        }
    }
}

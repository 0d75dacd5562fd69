//! A question apart from its packet: the key of caches and Flights, and what is asked upstream.

use std::borrow::Borrow;
use std::fmt;

use super::name::NAME_MAX;
use super::{Class, Name, NameRef, Query, RecordType};

/// Octets of the longest key: name, type, class and one octet of flags.
const KEY_MAX: usize = NAME_MAX + 5;
const DNSSEC_OK: u8 = 1;
const CHECKING_DISABLED: u8 = 2;
const RECURSION_DESIRED: u8 = 4;

/// A question and everything of its request that can change the answer (DO, CD, RD).
/// Name in lower case, type, class, one octet of flags, in one allocation.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Question(Box<[u8]>);

/// A [`Question`] on the stack, to look one up without allocating.
pub struct QuestionKey {
    octets: [u8; KEY_MAX],
    len: usize,
}

impl Question {
    /// A question of our own, with RD set.
    pub fn new(name: &Name, rtype: RecordType) -> Self {
        let mut octets = name.octets().to_vec();
        octets.extend_from_slice(&rtype.0.to_be_bytes());
        octets.extend_from_slice(&Class::IN.0.to_be_bytes());
        octets.push(RECURSION_DESIRED);
        Self(octets.into())
    }

    /// The name asked for.
    pub fn name(&self) -> NameRef<'_> {
        NameRef::trusted(&self.0[..self.0.len() - 5])
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

    /// Octets of the key in memory.
    pub fn size_bytes(&self) -> usize {
        self.0.len()
    }

    fn flags(&self) -> u8 {
        self.0[self.0.len() - 1]
    }

    fn u16_from_end(&self, back: usize) -> u16 {
        let at = self.0.len() - back;
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }
}

impl QuestionKey {
    /// The key of a query.
    pub fn of(query: &Query<'_>) -> Self {
        let mut octets = [0; KEY_MAX];
        let name = query.name().octets();
        octets[..name.len()].copy_from_slice(name);
        let mut len = name.len();
        octets[len..len + 2].copy_from_slice(&query.rtype.0.to_be_bytes());
        octets[len + 2..len + 4].copy_from_slice(&query.class.0.to_be_bytes());
        octets[len + 4] = (u8::from(query.dnssec_ok()) * DNSSEC_OK)
            | (u8::from(query.checking_disabled()) * CHECKING_DISABLED)
            | (u8::from(query.recursion_desired()) * RECURSION_DESIRED);
        len += 5;
        Self { octets, len }
    }

    /// The octets that identify the question.
    pub fn octets(&self) -> &[u8] {
        &self.octets[..self.len]
    }

    /// Copies the key to the heap.
    pub fn to_question(&self) -> Question {
        Question(self.octets().into())
    }
}

impl Borrow<[u8]> for Question {
    fn borrow(&self) -> &[u8] {
        &self.0
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
    fn a_key_found_on_the_stack_equals_the_one_on_the_heap() {
        let packet = message::question("Example.ORG.", RecordType::MX, None);
        let query = Query::parse(&packet).ok().unwrap();
        let key = QuestionKey::of(&query);
        let question = Question::new(&Name::parse("example.org").unwrap(), RecordType::MX);
        assert_eq!(key.to_question(), question);
        assert_eq!(question.to_string(), "example.org. MX");
        assert_eq!((question.class(), question.recursion_desired()), (Class::IN, true));
        assert_eq!(question.section().len(), 13 + 4);
    }
}

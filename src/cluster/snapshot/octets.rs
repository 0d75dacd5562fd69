//! Octets of a Snapshot, written and read: numbers of variable length, texts and sections with
//! their length in front.
//!
//! What is read is checked at each step, and nothing is made room for because the file says how
//! much will come: a count is only ever as long as what is really there.

use std::net::IpAddr;

/// Most octets of a number: 64 bits, 7 to an octet.
const NUMBER_OCTETS_MAX: usize = 10;
/// Families of addresses.
const V4: u8 = 4;
const V6: u8 = 6;

/// What is written.
#[derive(Default)]
pub struct Writer(Vec<u8>);

/// What is still to be read. Each step that finds no sense in what lies there answers `None`.
#[derive(Clone, Copy)]
pub struct Cursor<'f>(&'f [u8]);

impl Writer {
    pub fn octet(&mut self, octet: u8) {
        self.0.push(octet);
    }

    pub fn flag(&mut self, is_set: bool) {
        self.0.push(is_set.into());
    }

    /// A number, in seven bits to an octet, the lowest first.
    pub fn number(&mut self, mut number: u64) {
        while number > 0x7f {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    /// Octets with their length in front.
    pub fn octets(&mut self, octets: &[u8]) {
        self.number(octets.len() as u64);
        self.0.extend_from_slice(octets);
    }

    pub fn text(&mut self, text: &str) {
        self.octets(text.as_bytes());
    }

    /// A text or none.
    pub fn option(&mut self, text: Option<&str>) {
        self.flag(text.is_some());
        text.into_iter().for_each(|text| self.text(text));
    }

    pub fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.octet(V4);
                self.raw(&address.octets());
            }
            IpAddr::V6(address) => {
                self.octet(V6);
                self.raw(&address.octets());
            }
        }
    }

    /// Several of something, with their number in front.
    pub fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.number(items.len() as u64);
        items.iter().for_each(|item| write(self, item));
    }

    /// Octets whose length the reader knows.
    pub(super) fn raw(&mut self, octets: &[u8]) {
        self.0.extend_from_slice(octets);
    }

    /// A section: a tag, eight octets of length, and what `write` writes.
    pub(super) fn section(&mut self, tag: u8, write: impl FnOnce(&mut Self)) {
        self.octet(tag);
        let length_at = self.0.len();
        self.raw(&[0; 8]);
        write(self);
        let length = (self.0.len() - length_at - 8) as u64;
        self.0[length_at..length_at + 8].copy_from_slice(&length.to_le_bytes());
    }

    /// How much is written.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of it.
    pub fn into_octets(self) -> Vec<u8> {
        self.0
    }
}

impl<'f> Cursor<'f> {
    pub fn new(octets: &'f [u8]) -> Self {
        Self(octets)
    }

    /// Whether all is read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn octet(&mut self) -> Option<u8> {
        self.raw::<1>().map(|[octet]| octet)
    }

    pub fn flag(&mut self) -> Option<bool> {
        match self.octet()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for at in 0..NUMBER_OCTETS_MAX {
            let octet = self.octet()?;
            number |= u64::from(octet & 0x7f).checked_shl(7 * at as u32)?;
            if octet & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub fn octets(&mut self) -> Option<&'f [u8]> {
        let length = self.number()?;
        self.take(length)
    }

    pub fn text(&mut self) -> Option<&'f str> {
        std::str::from_utf8(self.octets()?).ok()
    }

    /// A text or none.
    pub fn option(&mut self) -> Option<Option<&'f str>> {
        Some(if self.flag()? { Some(self.text()?) } else { None })
    }

    pub fn address(&mut self) -> Option<IpAddr> {
        match self.octet()? {
            V4 => Some(self.raw::<4>()?.into()),
            V6 => Some(self.raw::<16>()?.into()),
            _ => None,
        }
    }

    /// Several of something. Each takes at least one octet, so a wrong number ends with the octets.
    pub fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.number()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(read(self)?);
        }
        Some(items)
    }

    /// So many octets as they are.
    pub(super) fn raw<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (octets, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*octets)
    }

    /// The next section: its tag and what is in it.
    pub(super) fn section(&mut self) -> Option<(u8, Self)> {
        let tag = self.octet()?;
        let length = u64::from_le_bytes(self.raw()?);
        Some((tag, Self(self.take(length)?)))
    }

    fn take(&mut self, length: u64) -> Option<&'f [u8]> {
        let (octets, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(octets)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            number: u64, text: String, option: Option<String>, v4: [u8; 4], v6: [u8; 16],
        ) {
            let mut writer = Writer::default();
            writer.section(7, |writer| {
                writer.number(number);
                writer.text(&text);
                writer.option(option.as_deref());
                writer.address(v4.into());
                writer.list(&[IpAddr::from(v6)], |writer, address| writer.address(*address));
            });
            let octets = writer.into_octets();
            let mut cursor = Cursor::new(&octets);
            let (tag, mut section) = cursor.section().unwrap();
            prop_assert_eq!(tag, 7);
            prop_assert_eq!(section.number(), Some(number));
            prop_assert_eq!(section.text(), Some(&*text));
            prop_assert_eq!(section.option(), Some(option.as_deref()));
            prop_assert_eq!(section.address(), Some(v4.into()));
            prop_assert_eq!(section.list(Cursor::address), Some(vec![v6.into()]));
            prop_assert!(section.is_empty() && cursor.is_empty());
        }
    }

    #[test]
    fn a_count_that_lies_ends_with_the_octets() {
        let mut writer = Writer::default();
        writer.number(u64::MAX);
        writer.octet(1);
        let octets = writer.into_octets();
        assert_eq!(Cursor::new(&octets).list(Cursor::octet), None);
        assert_eq!(Cursor::new(&octets).octets(), None);
        assert_eq!(Cursor::new(&[0xff; 20]).number(), None);
        assert_eq!(Cursor::new(&[2]).flag(), None);
        assert_eq!(Cursor::new(&[0xff, 0, 1]).text(), None);
    }
}

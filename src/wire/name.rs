//! Domain names in uncompressed wire form, ASCII-lowercased (RFC 4343), at most 255 octets.
//!
//! A [`Name`] owns its octets, a [`NameRef`] borrows them. Labels are octets from end to end:
//! text is read and written only at the edges (Corefile, logs), with RFC 1035 §5.1 escapes.

use std::fmt;

/// Longest name, in octets, with its length octets and the root (RFC 1035 §2.3.4).
pub const NAME_MAX: usize = 255;
/// Longest label, in octets (RFC 1035 §2.3.4).
pub const LABEL_MAX: usize = 63;

/// An owned domain name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

/// A borrowed domain name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameRef<'a>(&'a [u8]);

/// Why a text is not a domain name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    #[error("empty label")]
    EmptyLabel,
    #[error("a label is longer than 63 octets")]
    LabelTooLong,
    #[error("the name is longer than 255 octets")]
    TooLong,
    #[error("bad escape; use \\DDD with three digits up to 255, or a backslash and one character")]
    BadEscape,
}

impl Name {
    /// The root, `.`.
    pub fn root() -> Self {
        Self(Box::new([0]))
    }

    /// Reads presentation form; the trailing dot is optional, `.` and the empty text are the root.
    ///
    /// # Errors
    /// Labels over 63 octets, names over 255, empty labels, bad escapes.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let mut wire = Vec::with_capacity(text.len() + 2);
        let mut label = Vec::new();
        let mut octets = text.bytes().peekable();
        if text == "." {
            return Ok(Self::root());
        }
        while let Some(octet) = octets.next() {
            match octet {
                b'.' => push_label(&mut wire, &mut label)?,
                b'\\' => label.push(unescape(&mut octets)?),
                other => label.push(other),
            }
        }
        if !label.is_empty() {
            push_label(&mut wire, &mut label)?;
        }
        wire.push(0);
        if wire.len() > NAME_MAX {
            return Err(NameError::TooLong);
        }
        Ok(Self(wire.into()))
    }

    /// Joins labels, from the leftmost on, under `suffix`.
    ///
    /// # Errors
    /// As [`Name::parse`]; an empty label is an error too.
    pub fn from_labels<'l>(
        labels: impl IntoIterator<Item = &'l [u8]>,
        suffix: NameRef<'_>,
    ) -> Result<Self, NameError> {
        let mut wire = Vec::new();
        for label in labels {
            push_label(&mut wire, &mut label.to_vec())?;
        }
        wire.extend_from_slice(suffix.octets());
        if wire.len() > NAME_MAX {
            return Err(NameError::TooLong);
        }
        Ok(Self(wire.into()))
    }

    /// Takes a name in wire form without compression pointers, from the start of `wire`.
    pub fn from_wire(wire: &[u8]) -> Option<Self> {
        let mut end = 0;
        while *wire.get(end)? != 0 {
            let length = usize::from(wire[end]);
            if length > LABEL_MAX {
                return None;
            }
            end += length + 1;
        }
        if end >= NAME_MAX {
            return None;
        }
        Some(Self(wire[..=end].to_ascii_lowercase().into()))
    }

    /// Borrows the name.
    pub fn as_ref(&self) -> NameRef<'_> {
        NameRef(&self.0)
    }

    /// The wire form.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl<'a> NameRef<'a> {
    /// Wraps octets that a parser of this room has checked and lower-cased.
    pub(super) fn trusted(octets: &'a [u8]) -> Self {
        Self(octets)
    }

    /// The wire form.
    pub fn octets(self) -> &'a [u8] {
        self.0
    }

    /// Whether this is the root.
    pub fn is_root(self) -> bool {
        self.0.len() == 1
    }

    /// The labels from the leftmost on, without the root.
    pub fn labels(self) -> Labels<'a> {
        Labels(&self.0[..self.0.len() - 1])
    }

    /// The octets before `zone`, if this name is `zone` or below it.
    pub fn without_suffix(self, zone: NameRef<'_>) -> Option<&'a [u8]> {
        let split = self.0.len().checked_sub(zone.0.len())?;
        if zone.is_root() {
            return Some(&self.0[..split]);
        }
        if self.0[split..] != *zone.0 {
            return None;
        }
        // The tail may match in the middle of a label, so the labels are walked up to the split.
        let mut at = 0;
        while at < split {
            at += usize::from(self.0[at]) + 1;
        }
        (at == split).then(|| &self.0[..split])
    }

    /// Whether this name is `zone` or below it.
    pub fn is_within(self, zone: NameRef<'_>) -> bool {
        self.without_suffix(zone).is_some()
    }

    /// The name without its leftmost label; `None` for the root.
    pub fn parent(self) -> Option<NameRef<'a>> {
        let first = usize::from(*self.0.first()?);
        (first != 0).then(|| NameRef(&self.0[first + 1..]))
    }

    /// Copies the name.
    pub fn to_name(self) -> Name {
        Name(self.0.into())
    }
}

/// The labels of a name, or of the part of it before a zone, from the leftmost on.
#[derive(Clone, Copy)]
pub struct Labels<'a>(&'a [u8]);

impl<'a> Labels<'a> {
    /// Walks octets that came from [`NameRef::without_suffix`].
    pub fn of(prefix: &'a [u8]) -> Self {
        Self(prefix)
    }
}

impl<'a> Iterator for Labels<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (&length, rest) = self.0.split_first()?;
        let (label, rest) = rest.split_at_checked(usize::from(length))?;
        self.0 = rest;
        Some(label)
    }
}

/// Ends a label while a text is read.
fn push_label(wire: &mut Vec<u8>, label: &mut Vec<u8>) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::EmptyLabel);
    }
    if label.len() > LABEL_MAX {
        return Err(NameError::LabelTooLong);
    }
    wire.push(label.len() as u8);
    wire.extend(label.drain(..).map(|octet| octet.to_ascii_lowercase()));
    Ok(())
}

/// Reads what follows a backslash (RFC 1035 §5.1).
fn unescape(octets: &mut impl Iterator<Item = u8>) -> Result<u8, NameError> {
    let first = octets.next().ok_or(NameError::BadEscape)?;
    if !first.is_ascii_digit() {
        return Ok(first);
    }
    let mut value = u16::from(first - b'0');
    for _ in 0..2 {
        let digit = octets.next().filter(u8::is_ascii_digit).ok_or(NameError::BadEscape)?;
        value = value * 10 + u16::from(digit - b'0');
    }
    u8::try_from(value).map_err(|_| NameError::BadEscape)
}

impl fmt::Display for NameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for label in self.labels() {
            for &octet in label {
                match octet {
                    b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => {
                        write!(f, "\\{}", octet as char)?;
                    }
                    b'!'..=b'~' => write!(f, "{}", octet as char)?,
                    other => write!(f, "\\{other:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

impl fmt::Debug for NameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_ref().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn names_are_lower_cased_and_the_last_dot_is_optional() {
        assert_eq!(name("Web.Shop.SVC."), name("web.shop.svc"));
        assert_eq!(name("web.shop").to_string(), "web.shop.");
        assert_eq!(name("."), Name::root());
        assert_eq!(name(""), Name::root());
    }

    #[test]
    fn escapes_survive_a_round_trip() {
        let odd = name(r"a\.b\000.c");
        assert_eq!(odd.octets(), b"\x04a.b\x00\x01c\x00");
        assert_eq!(name(&odd.to_string()), odd);
        assert_eq!(Name::parse(r"a\25"), Err(NameError::BadEscape));
        assert_eq!(Name::parse(r"a\256"), Err(NameError::BadEscape));
    }

    #[test]
    fn limits_of_rfc_1035_hold() {
        assert_eq!(Name::parse("a..b"), Err(NameError::EmptyLabel));
        assert_eq!(Name::parse(&"a".repeat(64)), Err(NameError::LabelTooLong));
        let label = "a".repeat(63);
        assert!(Name::parse(&format!("{label}.{label}.{label}.{}", &label[..61])).is_ok());
        assert_eq!(
            Name::parse(&format!("{label}.{label}.{label}.{}", &label[..62])),
            Err(NameError::TooLong)
        );
    }

    #[test]
    fn a_suffix_matches_at_label_borders_only() {
        let zone = name("cluster.local");
        let below = name("web.cluster.local");
        assert_eq!(below.as_ref().without_suffix(zone.as_ref()), Some(&b"\x03web"[..]));
        assert_eq!(zone.as_ref().without_suffix(zone.as_ref()), Some(&b""[..]));
        assert!(!name("local").as_ref().is_within(zone.as_ref()));
        // The last octets of this label spell the wire form of the zone.
        let spoof = Name::from_wire(b"\x0fa\x07cluster\x05local\x00").unwrap();
        assert!(!spoof.as_ref().is_within(zone.as_ref()));
    }

    #[test]
    fn wire_names_end_in_time() {
        assert_eq!(Name::from_wire(b"\x03WEB\x00rest"), Some(name("web")));
        assert_eq!(Name::from_wire(b"\x03we"), None);
        assert_eq!(Name::from_wire(b"\xc0\x0c"), None);
        assert_eq!(Name::from_wire(&[1; 400]), None);
    }
}

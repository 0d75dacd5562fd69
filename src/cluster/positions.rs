//! Where the watches of a cluster stand: a resource version per kind.

use std::collections::BTreeMap;

use super::object::Kind;

/// Resource versions from which watches can go on. A kind without one is listed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Positions(BTreeMap<Kind, Box<str>>);

impl Positions {
    /// The position of a kind.
    pub fn get(&self, kind: Kind) -> Option<&str> {
        self.0.get(&kind).map(|version| &**version)
    }

    /// Notes the position of a kind; an empty version is none.
    pub fn set(&mut self, kind: Kind, version: &str) {
        if version.is_empty() {
            self.0.remove(&kind);
        } else {
            self.0.insert(kind, version.into());
        }
    }

    /// Whether no kind has one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_version_is_no_position() {
        let mut positions = Positions::default();
        positions.set(Kind::Slice, "7");
        assert_eq!(positions.get(Kind::Slice), Some("7"));
        positions.set(Kind::Slice, "");
        assert!(positions.is_empty());
    }
}

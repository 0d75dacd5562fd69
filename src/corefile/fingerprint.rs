//! Tells whether two readings mean the same, so that a reload can leave well alone.

use std::fmt;

use sha2::{Digest, Sha512};

use super::parse::Statement;

/// SHA-512 over what is meant: words and nesting, with imports in place and variables replaced.
/// White space, comments and the names of files do not count.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 64]);

impl Fingerprint {
    pub(super) fn of(statements: &[Statement]) -> Self {
        let mut hash = Sha512::new();
        add(&mut hash, statements);
        Self(hash.finalize().into())
    }
}

/// Adds statements with their counts and lengths, so that no two trees give the same octets.
fn add(hash: &mut Sha512, statements: &[Statement]) {
    add_length(hash, statements.len());
    for statement in statements {
        add_length(hash, statement.words.len());
        for word in &statement.words {
            add_length(hash, word.len());
            hash.update(word);
        }
        hash.update([u8::from(statement.body.is_some())]);
        if let Some(body) = &statement.body {
            add(hash, body);
        }
    }
}

fn add_length(hash: &mut Sha512, length: usize) {
    hash.update((length as u64).to_be_bytes());
}

/// Lower-case hexadecimal, as CoreDNS logs it.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Options, Origin, load};
    use super::*;

    fn of(text: &str, variable: fn(&str) -> Option<String>) -> Fingerprint {
        let options = Options { variable, ..Options::default() };
        load(&Origin::Stdin(text.into()), &options).unwrap().fingerprint
    }

    fn plain(text: &str) -> Fingerprint {
        of(text, |_| None)
    }

    #[test]
    fn only_what_is_meant_counts() {
        let one = plain(". {\n cache 30\n}\n");
        assert_eq!(one, plain("# same\n. {\n\n  cache \"30\" # s\r\n}"));
        assert_eq!(one, plain("(c) {\n cache 30\n}\n. {\n import c\n}"));
        assert_ne!(one, plain(". {\n cache 31\n}\n"));
        assert_ne!(plain("a b {\n}"), plain("a {\n}\nb {\n}"));
        assert_eq!(one.to_string().len(), 128);
    }

    #[test]
    fn values_of_variables_count() {
        let text = ". {\n cache {$TTL}\n}\n";
        let thirty = of(text, |_| Some("30".to_owned()));
        assert_eq!(thirty, plain(". {\n cache 30\n}\n"));
        assert_ne!(thirty, of(text, |_| Some("31".to_owned())));
    }
}

//! Numbers with names: record types, classes and response codes (IANA DNS parameters).

use std::fmt;

/// A resource record type (RFC 1035 §3.2.2 and later). Unknown ones print as `TYPE65280` (RFC 3597
/// §5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RecordType(pub u16);

/// A class (RFC 1035 §3.2.4). Everything that we serve is `IN`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Class(pub u16);

/// A response code with the EDNS extension (RFC 6895 §2.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Rcode(pub u16);

macro_rules! numbers {
    ($kind:ident, $table:ident, $($name:ident = $value:literal),+ $(,)?) => {
        #[allow(missing_docs)]
        impl $kind {
            $(pub const $name: $kind = $kind($value);)+
        }
        const $table: &[(u16, &str)] = &[$(($value, stringify!($name))),+];
    };
}

numbers!(
    RecordType,
    TYPES,
    A = 1,
    NS = 2,
    CNAME = 5,
    SOA = 6,
    PTR = 12,
    HINFO = 13,
    MX = 15,
    TXT = 16,
    AAAA = 28,
    SRV = 33,
    NAPTR = 35,
    DNAME = 39,
    OPT = 41,
    DS = 43,
    RRSIG = 46,
    NSEC = 47,
    DNSKEY = 48,
    NSEC3 = 50,
    TLSA = 52,
    SVCB = 64,
    HTTPS = 65,
    TSIG = 250,
    IXFR = 251,
    AXFR = 252,
    ANY = 255,
    CAA = 257,
);
numbers!(Class, CLASSES, IN = 1, CH = 3, HS = 4, NONE = 254, ANY = 255);
numbers!(
    Rcode,
    RCODES,
    NOERROR = 0,
    FORMERR = 1,
    SERVFAIL = 2,
    NXDOMAIN = 3,
    NOTIMP = 4,
    REFUSED = 5,
    YXDOMAIN = 6,
    YXRRSET = 7,
    NXRRSET = 8,
    NOTAUTH = 9,
    NOTZONE = 10,
    BADVERS = 16,
);

/// The name of `value` in a table of [`numbers!`].
fn known(table: &'static [(u16, &'static str)], value: u16) -> Option<&'static str> {
    table.iter().find(|(number, _)| *number == value).map(|(_, name)| *name)
}

impl RecordType {
    /// The mnemonic, for types that have one here.
    pub fn mnemonic(self) -> Option<&'static str> {
        known(TYPES, self.0)
    }

    /// Reads a mnemonic in any case, or `TYPEn` (RFC 3597 §5).
    pub fn parse(text: &str) -> Option<Self> {
        let upper = text.to_ascii_uppercase();
        let number = TYPES.iter().find(|(_, name)| *name == upper).map(|(number, _)| *number);
        number.or_else(|| upper.strip_prefix("TYPE")?.parse().ok()).map(Self)
    }

    /// Whether this is A or AAAA.
    pub fn is_address(self) -> bool {
        self == Self::A || self == Self::AAAA
    }
}

impl Rcode {
    /// Reads a mnemonic in any case.
    pub fn parse(text: &str) -> Option<Self> {
        let upper = text.to_ascii_uppercase();
        RCODES.iter().find(|(_, name)| *name == upper).map(|(number, _)| Self(*number))
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mnemonic() {
            Some(name) => f.write_str(name),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match known(CLASSES, self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "CLASS{}", self.0),
        }
    }
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match known(RCODES, self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "RCODE{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_print_and_parse_as_in_rfc_3597() {
        assert_eq!(RecordType::AAAA.to_string(), "AAAA");
        assert_eq!(RecordType(65280).to_string(), "TYPE65280");
        assert_eq!(RecordType::parse("srv"), Some(RecordType::SRV));
        assert_eq!(RecordType::parse("TYPE999"), Some(RecordType(999)));
        assert_eq!(RecordType::parse("bogus"), None);
        assert_eq!(Rcode::parse("nxdomain"), Some(Rcode::NXDOMAIN));
    }
}

//! Addresses packed one behind the other, those of IPv4 first: 4 octets or 16 for each.

use std::net::IpAddr;

use crate::wire::RecordType;

/// Packed addresses where they lie.
#[derive(Clone, Copy, Default)]
pub(super) struct Addresses<'z> {
    pub(super) v4: &'z [u8],
    pub(super) v6: &'z [u8],
}

/// Packs addresses. Answers their octets, and how many of these are IPv4.
///
/// # Panics
/// Of 4 GiB of addresses, which do not fit the machine that would tell us of them.
pub(super) fn pack(addresses: impl IntoIterator<Item = IpAddr>) -> (Vec<u8>, u32) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for address in addresses {
        match address {
            IpAddr::V4(address) => v4.extend(address.octets()),
            IpAddr::V6(address) => v6.extend(address.octets()),
        }
    }
    let v4_octets = u32::try_from(v4.len()).expect("a Service has fewer than 2^30 addresses");
    v4.extend(v6);
    (v4, v4_octets)
}

impl<'z> Addresses<'z> {
    /// Addresses of which so many octets are IPv4.
    pub(super) fn of(octets: &'z [u8], v4_octets: u32) -> Self {
        let (v4, v6) = octets.split_at(v4_octets as usize);
        Self { v4, v6 }
    }

    /// The octets of one family.
    pub(super) fn octets(self, rtype: RecordType) -> &'z [u8] {
        if rtype == RecordType::A { self.v4 } else { self.v6 }
    }

    /// All of them.
    pub(super) fn iter(self) -> impl Iterator<Item = IpAddr> + Clone + use<'z> {
        let v4 = self.v4.as_chunks::<4>().0.iter().map(|octets| IpAddr::from(*octets));
        v4.chain(self.v6.as_chunks::<16>().0.iter().map(|octets| IpAddr::from(*octets)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_found_by_family_and_in_order() {
        let texts = ["fd00::1", "10.0.0.2", "10.0.0.1", "fd00::2"];
        let (octets, v4_octets) = pack(texts.map(|text| text.parse().unwrap()));
        let addresses = Addresses::of(&octets, v4_octets);
        let all: Vec<String> = addresses.iter().map(|address| address.to_string()).collect();
        assert_eq!(all, ["10.0.0.2", "10.0.0.1", "fd00::1", "fd00::2"]);
        assert_eq!(addresses.octets(RecordType::A), [10, 0, 0, 2, 10, 0, 0, 1]);
        assert_eq!(addresses.octets(RecordType::AAAA).len(), 32);
    }
}

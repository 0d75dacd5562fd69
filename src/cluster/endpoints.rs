//! Endpoints as they are read, and packed as they are kept.

use std::fmt;
use std::net::IpAddr;

use super::packed::Addresses;
use crate::wire::name::LABEL_MAX;

/// Most addresses of one endpoint (as the API server has it); further ones are left out.
pub const ENDPOINT_ADDRESSES_MAX: usize = 100;
/// Flags of a packed endpoint.
const IS_READY: u8 = 1;
const HAS_ZONE: u8 = 2;

/// One ready or not ready endpoint, as it is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    pub addresses: Vec<IpAddr>,
    /// `conditions.ready`, where absent means true.
    pub ready: bool,
    pub hostname: Option<Box<str>>,
    /// Where it runs (`zone`), in lower case; kept for `zonal` only.
    pub zone: Option<Box<str>>,
}

/// The endpoints of a slice, packed: a large cluster has some hundred thousand, and each takes 8
/// octets here that would take 80 as an [`Endpoint`].
///
/// ```text
/// flags │ IPv4 count │ IPv6 count │ hostname length │ addresses … │ hostname … │ [length │ zone …]
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Endpoints(Box<[u8]>);

/// One endpoint where it lies.
#[derive(Clone, Copy)]
pub struct Packed<'e> {
    pub ready: bool,
    pub hostname: Option<&'e str>,
    pub zone: Option<&'e str>,
    addresses: Addresses<'e>,
}

impl Endpoints {
    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Packed<'_>> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let ([flags, v4, v6, hostname], octets) = rest.split_first_chunk()?;
            let (v4, octets) = octets.split_at_checked(usize::from(*v4) * 4)?;
            let (v6, octets) = octets.split_at_checked(usize::from(*v6) * 16)?;
            let (hostname, octets) = octets.split_at_checked(usize::from(*hostname))?;
            rest = octets;
            let zone = if flags & HAS_ZONE == 0 { None } else { split_text(&mut rest) };
            let hostname = text(hostname);
            let (ready, addresses) = (flags & IS_READY != 0, Addresses { v4, v6 });
            Some(Packed { ready, hostname, zone, addresses })
        })
    }

    /// The octets, for a Snapshot.
    pub(super) fn octets(&self) -> &[u8] {
        &self.0
    }

    /// Endpoints from octets that were of [`Endpoints::octets`]; `None` of others.
    pub(super) fn from_octets(octets: &[u8]) -> Option<Self> {
        let mut rest = octets;
        while !rest.is_empty() {
            let (head, behind) = rest.split_first_chunk::<4>()?;
            let [flags, v4, v6, hostname] = head.map(usize::from);
            let (_, behind) = behind.split_at_checked(v4 * 4 + v6 * 16)?;
            let (hostname, behind) = behind.split_at_checked(hostname)?;
            rest = behind;
            let has_zone = flags & usize::from(HAS_ZONE) != 0;
            let is_sound = hostname.is_empty() || text(hostname).is_some();
            if !is_sound || has_zone && split_text(&mut rest).is_none() {
                return None;
            }
        }
        Some(Self(octets.into()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Packed<'_> {
    /// The addresses, those of IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter()
    }
}

impl From<Packed<'_>> for Endpoint {
    fn from(packed: Packed<'_>) -> Self {
        Self {
            addresses: packed.addresses().collect(),
            ready: packed.ready,
            hostname: packed.hostname.map(Into::into),
            zone: packed.zone.map(Into::into),
        }
    }
}

impl FromIterator<Endpoint> for Endpoints {
    /// Packs endpoints, each with at most [`ENDPOINT_ADDRESSES_MAX`] addresses.
    fn from_iter<I: IntoIterator<Item = Endpoint>>(endpoints: I) -> Self {
        let mut octets = Vec::new();
        for endpoint in endpoints {
            let hostname = label(&endpoint.hostname).unwrap_or_default();
            let zone = label(&endpoint.zone);
            let (mut v4, mut v6) = (Vec::new(), Vec::new());
            for address in endpoint.addresses.iter().take(ENDPOINT_ADDRESSES_MAX) {
                match address {
                    IpAddr::V4(address) => v4.push(address.octets()),
                    IpAddr::V6(address) => v6.push(address.octets()),
                }
            }
            let ready = if endpoint.ready { IS_READY } else { 0 };
            let flags = if zone.is_some() { ready | HAS_ZONE } else { ready };
            octets.extend([flags, v4.len() as u8, v6.len() as u8, hostname.len() as u8]);
            octets.extend_from_slice(v4.as_flattened());
            octets.extend_from_slice(v6.as_flattened());
            octets.extend_from_slice(hostname.as_bytes());
            if let Some(zone) = zone {
                octets.push(zone.len() as u8);
                octets.extend_from_slice(zone.as_bytes());
            }
        }
        Self(octets.into())
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(Endpoint::from)).finish()
    }
}

/// A text that is short enough to be a label, which values of labels are too.
fn label(text: &Option<Box<str>>) -> Option<&str> {
    text.as_deref().filter(|text| (1..=LABEL_MAX).contains(&text.len()))
}

/// A text that is there.
fn text(octets: &[u8]) -> Option<&str> {
    std::str::from_utf8(octets).ok().filter(|text| !text.is_empty())
}

/// Takes a text with its length in front.
fn split_text<'e>(rest: &mut &'e [u8]) -> Option<&'e str> {
    let (length, octets) = rest.split_first()?;
    let (taken, octets) = octets.split_at_checked(usize::from(*length))?;
    *rest = octets;
    text(taken)
}

//! A query as a slot has it.
//!
//! ```text
//! state, tries, lane │ ms │ address, worker, port of the socket │ client │ control │ packet
//! ```
//!
//! Whatever is there, reading it ends with a query or with nothing.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

use super::super::batch::Envelope;
use super::super::kept::{Key, Proto};
use crate::resolve::now::Lane;

/// Octets of a slot: some hundred for where the query came from, the rest for its packet, which has
/// seldom more than 300. Eight slots fill a page, so that a kill never leaves half of one.
pub const SLOT_OCTETS: usize = 512;
/// How often a query is asked again because a server has died with it.
pub const TRIES_MAX: u8 = 1;
/// The first octet of a slot that nobody uses, and of one that somebody does.
pub const FREE: u8 = 0;
const USED: u8 = 0xA5;
/// Where a slot counts its tries.
pub const TRIES_AT: u64 = 1;

/// A query that waits, and where its reply goes.
#[derive(Clone)]
pub struct Record {
    /// The socket that it came to.
    pub key: Key,
    /// The port of the Plan that serves it.
    pub port: u16,
    pub lane: Lane,
    pub envelope: Envelope,
    pub packet: Vec<u8>,
}

/// What the last server had under way.
pub struct Left {
    pub number: usize,
    /// When it came, on the monotonic clock.
    came: Duration,
    pub record: Record,
}

impl Left {
    /// How long ago it came; `None` if that is still to be.
    pub fn age(&self, now: Duration) -> Option<Duration> {
        now.checked_sub(self.came)
    }

    /// Reads a slot in use; `None` when it was tried before, or makes no sense.
    pub fn read(number: usize, slot: &[u8]) -> Option<Self> {
        let mut rest = Octets(slot);
        let [state, tries, lane] = rest.take()?;
        if state != USED || tries >= TRIES_MAX {
            return None;
        }
        let lane = match lane {
            0 => Lane::Cluster,
            1 => Lane::Upstream,
            _ => return None,
        };
        let came = Duration::from_millis(u64::from_le_bytes(rest.take()?));
        let (address, worker) = (rest.address()?, u32::from_le_bytes(rest.take()?));
        let key = Key { proto: Proto::Udp, address, number: usize::try_from(worker).ok()? };
        let port = u16::from_le_bytes(rest.take()?);
        let envelope = Envelope::to(rest.address()?, rest.block()?)?;
        let packet = rest.block()?.to_vec();
        Some(Self { number, came, record: Record { key, port, lane, envelope, packet } })
    }
}

impl Record {
    /// As a slot has it; `None` when it does not fit into one.
    pub fn write(&self, now: Duration) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(SLOT_OCTETS);
        out.extend([USED, 0, u8::from(self.lane == Lane::Upstream)]);
        out.extend(u64::try_from(now.as_millis()).ok()?.to_le_bytes());
        put_address(&mut out, self.key.address);
        out.extend(u32::try_from(self.key.number).ok()?.to_le_bytes());
        out.extend(self.port.to_le_bytes());
        put_address(&mut out, self.envelope.peer()?);
        for block in [self.envelope.control(), &self.packet] {
            out.extend(u16::try_from(block.len()).ok()?.to_le_bytes());
            out.extend(block);
        }
        (out.len() <= SLOT_OCTETS).then_some(out)
    }
}

fn put_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(address) => {
            out.push(4);
            out.extend(address.ip().octets());
        }
        SocketAddr::V6(address) => {
            out.push(6);
            out.extend(address.ip().octets());
            out.extend(address.flowinfo().to_le_bytes());
            out.extend(address.scope_id().to_le_bytes());
        }
    }
    out.extend(address.port().to_le_bytes());
}

/// What is still to be read.
struct Octets<'s>(&'s [u8]);

impl<'s> Octets<'s> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    /// As many octets as the two before them say.
    fn block(&mut self) -> Option<&'s [u8]> {
        let len = u16::from_le_bytes(self.take()?);
        let (head, rest) = self.0.split_at_checked(len.into())?;
        self.0 = rest;
        Some(head)
    }

    fn address(&mut self) -> Option<SocketAddr> {
        let [family] = self.take()?;
        Some(match family {
            4 => {
                let ip = Ipv4Addr::from(self.take::<4>()?);
                SocketAddrV4::new(ip, self.port()?).into()
            }
            6 => {
                let ip = Ipv6Addr::from(self.take::<16>()?);
                let (flow, scope) = (self.take()?, self.take()?);
                let (flow, scope) = (u32::from_le_bytes(flow), u32::from_le_bytes(scope));
                SocketAddrV6::new(ip, self.port()?, flow, scope).into()
            }
            _ => return None,
        })
    }

    fn port(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }
}

//! From the octets of a packet to the query in it: link layer, IP, UDP or TCP.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{EtherType, LaxNetSlice, LaxSlicedPacket, TransportSlice};

use super::{Intake, Skip};
use crate::load::tasks::list::Full;

/// Ports of protocols that look like DNS and are none: NetBIOS names, mDNS, LLMNR. A test server
/// may well listen on that of mDNS, which is therefore known by its groups.
const NETBIOS_PORT: u16 = 137;
const LLMNR_PORT: u16 = 5355;

/// Link layers, by their numbers in captures (`LINKTYPE_*`).
const NULL: u32 = 0;
const ETHERNET: u32 = 1;
const RAW: [u32; 3] = [101, 12, 14];
const LOOP: u32 = 108;
const LINUX_SLL: u32 = 113;
const IPV4: u32 = 228;
const IPV6: u32 = 229;
const LINUX_SLL2: u32 = 276;
/// Of the number of a link layer, the bits that are the number; others tell about checksums.
const LINK_MASK: u32 = 0xffff;

/// A packet as it was captured.
pub(super) struct Packet<'p> {
    /// Number of the link layer.
    pub link: u32,
    /// The octets that were captured.
    pub octets: &'p [u8],
    /// There were more of them on the wire.
    pub is_cut: bool,
}

/// Takes the queries of a packet, and counts it.
pub(super) fn take(packet: &Packet<'_>, intake: &mut Intake) -> Result<(), Full> {
    let outcome = match queries(packet, intake)? {
        // What follows from the missing octets is not told as if the sender had done it.
        Err(Skip::NotDns | Skip::NoWholeQuery) if packet.is_cut => Err(Skip::Cut),
        outcome => outcome,
    };
    intake.count(outcome);
    Ok(())
}

/// Takes the queries of a packet.
fn queries(packet: &Packet<'_>, intake: &mut Intake) -> Result<Result<(), Skip>, Full> {
    let (ether_type, octets) = match network(packet.link & LINK_MASK, packet.octets) {
        Ok(network) => network,
        Err(skip) => return Ok(Err(skip)),
    };
    let parsed = LaxSlicedPacket::from_ether_type(ether_type, octets);
    let Some(net) = &parsed.net else { return Ok(Err(Skip::OtherProtocol)) };
    match &parsed.transport {
        Some(TransportSlice::Udp(udp)) => {
            let port = udp.destination_port();
            if to(net).is_multicast() || port == LLMNR_PORT || port == NETBIOS_PORT {
                return Ok(Err(Skip::Neighbours));
            }
            intake.message(udp.payload())
        }
        Some(TransportSlice::Tcp(tcp)) => segment(tcp.payload(), intake),
        None if net.ip_payload_ref().is_some_and(|payload| payload.fragmented) => {
            Ok(Err(Skip::Fragment))
        }
        _ => Ok(Err(Skip::OtherProtocol)),
    }
}

/// Takes the queries of a segment, each with its length in front (RFC 1035 §4.2.2). One that goes
/// on in the next segment is not put together: resolvers send a query in one piece.
fn segment(mut payload: &[u8], intake: &mut Intake) -> Result<Result<(), Skip>, Full> {
    let mut outcome = Err(Skip::NoWholeQuery);
    while let Some((length, rest)) = payload.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((message, rest)) = rest.split_at_checked(length) else { break };
        payload = rest;
        match intake.message(message)? {
            Ok(()) => outcome = Ok(()),
            Err(Skip::NotDns) => break,
            Err(skip) => outcome = outcome.or(Err(skip)),
        }
    }
    Ok(outcome)
}

/// Strips the link layer: what is behind it, and of which type that is.
fn network(link: u32, octets: &[u8]) -> Result<(EtherType, &[u8]), Skip> {
    let (type_at, behind) = match link {
        ETHERNET => (12, 14),
        LINUX_SLL => (14, 16),
        LINUX_SLL2 => (0, 20),
        NULL | LOOP => return ip(octets.get(4..).unwrap_or_default()),
        IPV4 | IPV6 => return ip(octets),
        _ if RAW.contains(&link) => return ip(octets),
        _ => return Err(Skip::UnknownLink),
    };
    let ether_type = octets.get(type_at..type_at + 2).ok_or(Skip::OtherProtocol)?;
    let behind = octets.get(behind..).ok_or(Skip::OtherProtocol)?;
    Ok((EtherType(u16::from_be_bytes([ether_type[0], ether_type[1]])), behind))
}

/// An IP packet, whose first half octet tells the version.
fn ip(octets: &[u8]) -> Result<(EtherType, &[u8]), Skip> {
    match octets.first().map(|octet| octet >> 4) {
        Some(4) => Ok((EtherType::IPV4, octets)),
        Some(6) => Ok((EtherType::IPV6, octets)),
        _ => Err(Skip::OtherProtocol),
    }
}

/// The destination.
fn to(net: &LaxNetSlice<'_>) -> IpAddr {
    match net {
        LaxNetSlice::Ipv4(ip) => IpAddr::from(ip.header().destination()),
        LaxNetSlice::Ipv6(ip) => IpAddr::from(ip.header().destination()),
        LaxNetSlice::Arp(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    }
}

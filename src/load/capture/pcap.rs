//! Packets of pcap and pcapng files.
//!
//! Packets are taken raw: what the library checks refuses packets that were cut (`tcpdump -s`) and
//! blocks with odd options, neither of which matters here.

use std::io::{ErrorKind, Read};

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{PcapNgReader, RawBlock};
use pcap_file::{Endianness, PcapError};

use super::packet::{self, Packet};
use super::{End, Intake};

/// Most interfaces of a section.
const INTERFACES_MAX: usize = 4096;
/// Types of blocks.
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Reads a pcap file.
pub(super) fn read(source: impl Read, intake: &mut Intake) -> End {
    let mut reader = match PcapReader::new(source) {
        Ok(reader) => reader,
        Err(error) => return broken(error),
    };
    let link = u32::from(reader.header().datalink);
    while let Some(next) = reader.next_raw_packet() {
        let raw = match next {
            Ok(raw) => raw,
            Err(error) => return broken(error),
        };
        let is_cut = raw.incl_len < raw.orig_len;
        let packet = Packet { link, octets: &raw.data, is_cut };
        if packet::take(&packet, intake).is_err() {
            return End::Full;
        }
    }
    End::Complete
}

/// Reads a pcapng file.
pub(super) fn read_blocks(source: impl Read, intake: &mut Intake) -> End {
    let mut reader = match PcapNgReader::new(source) {
        Ok(reader) => reader,
        Err(error) => return broken(error),
    };
    let mut links = Vec::new();
    loop {
        let endianness = reader.section().endianness;
        let block = match reader.next_raw_block() {
            None => return End::Complete,
            Some(Ok(block)) => block,
            Some(Err(error)) => return broken(error),
        };
        match block.type_ {
            SECTION => links.clear(),
            INTERFACE if links.len() == INTERFACES_MAX => {
                return End::Broken(format!("more than {INTERFACES_MAX} interfaces"));
            }
            INTERFACE => links.push(u32::from(number16(&block.body, 0, endianness))),
            _ => {}
        }
        let Some(packet) = packet_of(&block, &links, endianness) else { continue };
        if packet::take(&packet, intake).is_err() {
            return End::Full;
        }
    }
}

/// The packet that a block brings.
fn packet_of<'b>(
    block: &'b RawBlock<'_>,
    links: &[u32],
    endianness: Endianness,
) -> Option<Packet<'b>> {
    let body = &*block.body;
    let number = |at| number32(body, at, endianness);
    let (interface, captured, original, at) = match block.type_ {
        ENHANCED_PACKET => (number(0), number(12), number(16), 20),
        OLD_PACKET => (u32::from(number16(body, 0, endianness)), number(12), number(16), 20),
        SIMPLE_PACKET => (0, number(0).min(body.len() as u32), number(0), 4),
        _ => return None,
    };
    let octets = body.get(at..).unwrap_or_default();
    let octets = &octets[..octets.len().min(captured as usize)];
    // A packet of an interface that was never told has a link layer that nobody knows.
    let link = links.get(interface as usize).copied().unwrap_or(u32::MAX);
    Some(Packet { link, octets, is_cut: (octets.len() as u64) < u64::from(original) })
}

/// A number of four octets; zero where there are none.
fn number32(body: &[u8], at: usize, endianness: Endianness) -> u32 {
    let octets = body.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
    if endianness.is_big() { u32::from_be_bytes(octets) } else { u32::from_le_bytes(octets) }
}

/// A number of two octets; zero where there are none.
fn number16(body: &[u8], at: usize, endianness: Endianness) -> u16 {
    let octets = body.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
    if endianness.is_big() { u16::from_be_bytes(octets) } else { u16::from_le_bytes(octets) }
}

/// What an error means for what was read before.
fn broken(error: PcapError) -> End {
    match error {
        PcapError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            End::Broken("the capture breaks off".into())
        }
        PcapError::IoError(error) => End::Unreadable(error),
        error => End::Broken(format!("the capture makes no sense ({error})")),
    }
}

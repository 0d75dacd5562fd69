//! The messages of one transfer, written one by one.

use super::counters::Place;
use crate::cluster::zone::{Record, Records};
use crate::wire::reply::Owner;
use crate::wire::{HEADER_LEN, Query, Reply, Section, TCP_MAX};

/// Octets of one message. Compression pointers reach over 16 KiB (RFC 1035 §4.1.4), so a message
/// that is larger would save nothing.
pub const MESSAGE_MAX: usize = 16 << 10;
/// The pointer to the question's name, which is the zone.
pub(super) const TO_APEX: [u8; 2] = [0xC0, HEADER_LEN as u8];
/// Type, class, TTL and length of a record.
const FIXED_LEN: usize = 10;

const _: () = assert!(MESSAGE_MAX <= TCP_MAX);

/// A transfer under way.
pub struct Stream {
    request: Vec<u8>,
    records: Records,
    /// Did not fit the last message.
    held: Option<Record>,
    message: Vec<u8>,
    place: Place,
}

/// The owner of the last record, and where in the message it lies.
type Last = (Box<[u8]>, usize);

impl Stream {
    /// Begins to answer a request with these records.
    pub(super) fn new(query: &Query<'_>, records: Records, place: Place) -> Self {
        let (request, message) = (query.packet().to_vec(), vec![0; MESSAGE_MAX]);
        Self { request, records, held: None, message, place }
    }

    /// The next message, or `None` behind the last one.
    pub fn next_message(&mut self) -> Option<&[u8]> {
        let query = Query::parse(&self.request).ok()?;
        let mut reply = Reply::to(&query, MESSAGE_MAX, &mut self.message);
        reply.set_authoritative();
        let mut last = None;
        while let Some(record) = self.held.take().or_else(|| self.records.next()) {
            // A record is at most 600 octets long, so one always fits an empty message.
            if !fits(&record, &reply) {
                self.held = Some(record);
                break;
            }
            last = Some(write_behind(record, last, &mut reply));
        }
        if reply.is_empty() {
            self.place.end();
            return None;
        }
        let len = reply.finish();
        Some(&self.message[..len])
    }
}

/// Whether there is room for a record.
fn fits(record: &Record, reply: &Reply<'_>) -> bool {
    record.owner.len() + TO_APEX.len() + FIXED_LEN + record.rdata.len() <= reply.room()
}

/// Writes a record into the answer section of a reply that asks for its zone.
pub(super) fn write(record: &Record, reply: &mut Reply<'_>) {
    let owner = match &*record.owner {
        [] => Owner::Question,
        labels => Owner::Name(labels, &TO_APEX),
    };
    reply.record(Section::Answer, owner, record.rtype, record.ttl_s, &[&record.rdata]);
}

/// The same, its name as a pointer when the last record had that name.
fn write_behind(record: Record, last: Option<Last>, reply: &mut Reply<'_>) -> Last {
    match last {
        Some((owner, at)) if owner == record.owner && !owner.is_empty() => {
            let rdata = [&*record.rdata];
            reply.record(Section::Answer, Owner::At(at), record.rtype, record.ttl_s, &rdata);
            (owner, at)
        }
        _ => {
            let at = reply.len();
            write(&record, reply);
            (record.owner, at)
        }
    }
}

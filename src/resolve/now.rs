//! The synchronous half of the journey: a packet goes in, a reply comes out, or the word that
//! somebody has to be waited for.
//!
//! No clock is read and no socket touched here: time is a parameter, and the caller sends.

use std::net::IpAddr;
use std::time::Instant;

use super::plan::{Block, Port};
use super::step::{Desk, Step, Verdict, Wait};
use super::tally::{Author, Proto, Served};
use super::transfer::Stream;
use crate::wire::{
    Answer, Class, Query, Rcode, RecordType, Reply, Scratch, TCP_MAX, Unanswerable, reply,
};

/// The client side of a query.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    pub proto: Proto,
    /// An IPv4 address is one, however it came.
    pub address: IpAddr,
}

/// What to do with a packet.
pub enum Now {
    /// Send the reply, whose length is in `served`.
    Send {
        served: Served,
        /// Also run the packet as an errand that refreshes the cache.
        refresh: bool,
    },
    /// Send these messages one after the other, over TCP.
    Stream { served: Served, stream: Box<Stream> },
    /// The answer has to be waited for: run the packet as an errand of this lane.
    Later(Lane),
    /// Send nothing.
    Ignore,
}

/// For whom an errand waits. Each has places of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Lane {
    Cluster,
    Upstream,
}

/// Answers a packet at once, if that is possible.
pub fn answer_now(
    port: &Port,
    packet: &[u8],
    client: Client,
    now: Instant,
    desk: &mut Desk,
    out: &mut [u8],
) -> Now {
    let mut scratch = Scratch::new();
    let query = match Query::parse_in(packet, &mut scratch) {
        Ok(query) => query,
        Err(Unanswerable::Ignore) => return Now::Ignore,
        Err(Unanswerable::Refuse(rcode)) => {
            return refuse(packet, rcode, client, reply::refuse(packet, rcode, out));
        }
        Err(Unanswerable::RefuseWithOpt { question_end }) => {
            let reply_bytes = reply::refuse_with_opt(packet, question_end, out);
            return refuse(packet, Rcode::FORMERR, client, reply_bytes);
        }
    };
    let mut reply = Reply::to(&query, client.limit(&query), out);
    let block = port.block_number(&query);
    let verdict = match block {
        Some(number) if query.is_transfer() && !port.block(number).transfers.is_empty() => {
            let author = Author::Kubernetes;
            if let Some(stream) = port.block(number).transfer(&query, client, now, &mut reply) {
                let served = Served { block, author, ..client.asks(&query) };
                return Now::Stream { served, stream: Box::new(stream) };
            }
            Verdict::Reply(author)
        }
        Some(number) => port.block(number).answer_now(&query, now, desk, &mut reply),
        None => {
            reply.set_rcode(Rcode::REFUSED);
            Verdict::Reply(Author::None)
        }
    };
    let (author, refresh) = match verdict {
        Verdict::Reply(author) => (author, false),
        Verdict::ReplyAndRefresh(author) => (author, true),
        // An alias may end in the cluster, so it must not wait behind slow upstreams either.
        Verdict::Ask(Wait::Cluster | Wait::Alias(_)) => return Now::Later(Lane::Cluster),
        Verdict::Ask(_) | Verdict::Next => return Now::Later(Lane::Upstream),
    };
    let (rcode, reply_bytes) = (reply.rcode(), reply.finish());
    let served = Served { block, author, rcode, reply_bytes, ..client.asks(&query) };
    Now::Send { served, refresh }
}

/// Reads what the answers to a batch of packets will need, so that the waits for memory overlap.
/// Changes no answer. Does nothing while everything is near the processor.
pub fn read_ahead<'b>(port: &Port, packets: impl Iterator<Item = &'b [u8]>, desk: &mut Desk) {
    let large = port.large();
    if large.is_none() && !desk.looks_ahead() {
        return;
    }
    let mut scratch = Scratch::new();
    for packet in packets {
        let Ok(query) = Query::parse_in(packet, &mut scratch) else { continue };
        if let Some(number) = port.block_number(&query) {
            port.block(number).foresee(&query, large.as_ref(), desk);
        }
    }
    desk.read_ahead(large.as_ref());
}

/// What is counted of a packet that is not a query that can be read.
fn refuse(packet: &[u8], rcode: Rcode, client: Client, reply_bytes: usize) -> Now {
    let served = Served {
        block: None,
        proto: client.proto,
        is_ipv6: client.address.is_ipv6(),
        rtype: RecordType(0),
        dnssec_ok: false,
        rcode,
        author: Author::None,
        request_bytes: packet.len(),
        reply_bytes,
    };
    Now::Send { served, refresh: false }
}

impl Block {
    /// Goes through the Steps until one answers. A Query that no Step is for gets SERVFAIL, as at
    /// the end of CoreDNS's chain.
    pub fn answer_now(
        &self,
        query: &Query<'_>,
        now: Instant,
        desk: &mut Desk,
        reply: &mut Reply<'_>,
    ) -> Verdict {
        if let Some(rcode) = gate(query, self) {
            reply.set_rcode(rcode);
            return Verdict::Reply(Author::None);
        }
        desk.turns_addresses = self.turns_addresses;
        for step in &self.steps {
            match step.answer_now(query, now, desk, reply) {
                Verdict::Next => continue,
                verdict => return verdict,
            }
        }
        reply.answer(&Answer::bare(Rcode::SERVFAIL, None), None, 0);
        Verdict::Reply(Author::None)
    }
}

/// Codes that need no look-up: an unknown version of EDNS (RFC 6891 §6.1.3); a zone transfer
/// where no directive lets anybody have one; a class that no Step of the Block can serve (as
/// CoreDNS: only `forward` takes classes other than IN).
pub(super) fn gate(query: &Query<'_>, block: &Block) -> Option<Rcode> {
    if query.edns.is_some_and(|edns| edns.version > 0) {
        return Some(Rcode::BADVERS);
    }
    let forwards = || block.steps.iter().any(|step| matches!(step, Step::Forward(_)));
    (query.is_transfer() || query.class != Class::IN && !forwards()).then_some(Rcode::REFUSED)
}

impl Client {
    /// Octets that a reply may have.
    pub fn limit(&self, query: &Query<'_>) -> usize {
        match self.proto {
            Proto::Udp => query.udp_limit(),
            Proto::Tcp => TCP_MAX,
        }
    }

    /// What is counted of a query before it is answered.
    pub(super) fn asks(&self, query: &Query<'_>) -> Served {
        Served {
            block: None,
            proto: self.proto,
            is_ipv6: self.address.is_ipv6(),
            rtype: query.rtype,
            dnssec_ok: query.dnssec_ok(),
            rcode: Rcode::NOERROR,
            author: Author::None,
            request_bytes: query.packet().len(),
            reply_bytes: 0,
        }
    }
}

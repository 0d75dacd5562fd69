//! Go's own resolver: its rules for servers, time-outs and search lists.
//!
//! ```text
//! host ─► candidates ─┬─ A ────► server 1, 2, … twice, a new socket each ─┬─► addresses, or next
//!                     └─ AAAA ─► server 1, 2, … twice, a new socket each ─┘
//! ```
//!
//! As net/dnsclient_unix.go of Go 1.26. A reply with TC is asked again over TCP, with the time-out
//! begun anew. An error of the host as written is told rather than one of the search list.
//! Lookups of one name at the same time are not shared, as by `LookupHost`; those of `Dial` are.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use super::exchange::{Event, Udp, ask_over_tcp, count_misfit, is_exhausted};
use super::message::{Fit, Question, Reply};
use super::search::Candidates;
use super::{Failure, Found, Records, ResolvConf};
use crate::load::record::PacketCounts;
use crate::wire::{Name, Rcode, RecordType};

/// The payload size that it offers.
const PAYLOAD_BYTES: u16 = 1232;
/// What is asked of each name.
const FAMILIES: [RecordType; 2] = [RecordType::A, RecordType::AAAA];

/// One process.
pub struct Go {
    conf: Arc<ResolvConf>,
    /// Where the next question begins with `rotate`.
    turn: AtomicUsize,
}

/// Why one question has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Error {
    /// There is no such name, or no such record: no other server is asked.
    NoSuchHost,
    /// Silence, the network, a code that makes no sense.
    Other,
    /// We have no socket left.
    NoSocket,
}

/// How one question ended, with what went over the wire for it.
type Tried = (Result<Reply, Error>, PacketCounts);

impl Go {
    /// A fresh process.
    pub fn new(conf: Arc<ResolvConf>, _seed: u64) -> Self {
        Self { conf, turn: AtomicUsize::new(0) }
    }

    /// Addresses of a host.
    pub async fn addresses(&self, host: &str) -> Found {
        let candidates = Candidates::of(host, &self.conf);
        let as_written = candidates.absolute.clone();
        let (mut counts, mut addresses) = (PacketCounts::default(), BTreeSet::new());
        let mut error = None;
        // What is told may be of another name, or of the other family.
        let mut is_all_denied = true;
        for name in candidates.all() {
            for (tried, packets) in self.both(&name).await {
                counts.add(&packets);
                is_all_denied &= matches!(tried, Ok(_) | Err(Error::NoSuchHost));
                match tried {
                    Ok(reply) => addresses.extend(reply.addresses()),
                    Err(own) if error.is_none() || Some(&name) == as_written.as_ref() => {
                        error = Some(own);
                    }
                    Err(_) => {}
                }
            }
            if !addresses.is_empty() {
                return Found::of(Ok(Records::Addresses(addresses)), counts);
            }
        }
        let failure = error.map_or(Failure::UnknownHost, Failure::from);
        Found::of(Err(failure), counts).denied_if(is_all_denied)
    }

    /// Records of an absolute name.
    pub async fn query(&self, name: &Name, rtype: RecordType) -> Found {
        let (tried, counts) = self.try_name(name, rtype).await;
        let records = tried.map(|reply| Records::of([&reply], rtype)).map_err(Failure::from);
        let found = records.and_then(|records| match records.is_empty() {
            true => Err(Failure::UnknownHost),
            false => Ok(records),
        });
        Found::of(found, counts)
    }

    /// A and AAAA of a name, in the order in which they end.
    async fn both(&self, name: &Name) -> Vec<Tried> {
        if self.conf.single_request || self.conf.single_request_reopen {
            let mut tried = Vec::with_capacity(FAMILIES.len());
            for rtype in FAMILIES {
                tried.push(self.try_name(name, rtype).await);
            }
            return tried;
        }
        let asked =
            FAMILIES.map(|rtype| -> BoxFuture<'_, Tried> { Box::pin(self.try_name(name, rtype)) });
        asked.into_iter().collect::<FuturesUnordered<_>>().collect().await
    }

    /// Asks all servers in turn, `attempts` times, at least once (net/dnsconfig_unix.go).
    async fn try_name(&self, name: &Name, rtype: RecordType) -> Tried {
        let servers = self.conf.used_servers();
        let step = usize::from(self.conf.rotate);
        let offset = self.turn.fetch_add(step, Ordering::Relaxed);
        let mut counts = PacketCounts::default();
        let mut last = Error::Other;
        for _ in 0..self.conf.attempts().max(1) {
            for at in 0..servers.len() {
                let server = servers[(offset.wrapping_add(at)) % servers.len()];
                match self.exchange(server, name, rtype, &mut counts).await {
                    Err(error @ Error::Other) => last = error,
                    done => return (done, counts),
                }
            }
        }
        (Err(last), counts)
    }

    /// One question to one server, over TCP where the datagram was cut.
    async fn exchange(
        &self,
        server: SocketAddr,
        name: &Name,
        rtype: RecordType,
        counts: &mut PacketCounts,
    ) -> Result<Reply, Error> {
        let question = Question::new(name, rtype).with_opt(PAYLOAD_BYTES);
        if !self.conf.use_vc {
            let reply = over_udp(server, &question, self.until(), counts).await?;
            if !reply.is_truncated() {
                return sensible(reply, rtype);
            }
        }
        let asked = ask_over_tcp(server, &[question], self.until(), counts).await;
        let replies = asked.map_err(|error| Error::of(&error))?;
        sensible(replies.into_iter().next().ok_or(Error::Other)?, rtype)
    }

    fn until(&self) -> Instant {
        // Less than a second is a second: Go 1.26 net/dnsconfig_unix.go.
        Instant::now() + Duration::from_secs(self.conf.timeout_s().max(1).into())
    }
}

impl Error {
    fn of(error: &std::io::Error) -> Self {
        if is_exhausted(error) { Self::NoSocket } else { Self::Other }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::NoSuchHost => Self::UnknownHost,
            Error::Other => Self::TryAgain,
            Error::NoSocket => Self::NoSocket,
        }
    }
}

/// Sends once and waits for what fits; all else is skipped as a forgery.
async fn over_udp(
    server: SocketAddr,
    question: &Question,
    until: Instant,
    counts: &mut PacketCounts,
) -> Result<Reply, Error> {
    let udp = Udp::connected(server).map_err(|error| Error::of(&error))?;
    udp.send(question, counts).await.map_err(|error| Error::of(&error))?;
    let mut datagram = Vec::new();
    loop {
        match udp.receive(&mut datagram, until).await {
            Event::Datagram(_) => match question.fit(&datagram) {
                Fit::Yes => {
                    let reply = Reply::new(datagram).ok_or(Error::Other)?;
                    reply.count(counts);
                    return Ok(reply);
                }
                other => count_misfit(other, counts),
            },
            Event::Refused => {
                counts.unreachable += 1;
                return Err(Error::Other);
            }
            Event::TimedOut => {
                counts.lost += 1;
                return Err(Error::Other);
            }
        }
    }
}

/// A reply that answers; a denial ends the search for a server, all else does not.
fn sensible(reply: Reply, rtype: RecordType) -> Result<Reply, Error> {
    let is_bare = reply.answer_count() == 0 && reply.additional_count() == 0;
    match reply.rcode() {
        Rcode::NXDOMAIN => Err(Error::NoSuchHost),
        // A referral of a server that does not recurse.
        Rcode::NOERROR if is_bare && !reply.is_authoritative() && !reply.is_recursive() => {
            Err(Error::Other)
        }
        Rcode::NOERROR if reply.answers().any(|record| record.rtype == rtype) => Ok(reply),
        Rcode::NOERROR => Err(Error::NoSuchHost),
        _ => Err(Error::Other),
    }
}

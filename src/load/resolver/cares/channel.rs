//! A channel of c-ares: what is kept, and one question through all its tries.
//!
//! ```text
//! kept? ─► the best server ─► its socket ─► reply ─► kept, the server is good
//!               ▲                             │
//!               └── failures + 1 ◄── SERVFAIL, silence, refusal: `tries` per server
//! ```
//!
//! As ares_process.c and ares_qcache.c of c-ares 1.34.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::servers::Servers;
use super::{Ended, Flavour};
use crate::load::record::PacketCounts;
use crate::load::resolver::kept::Kept as Replies;
use crate::load::resolver::message::{Question, Reply};
use crate::load::resolver::shared::{Lost, Shared};
use crate::load::resolver::{Failure, ResolvConf};
use crate::wire::{HEADER_LEN, Name, Rcode, RecordType, u32_at, walk};

/// The payload size that it offers.
const PAYLOAD_BYTES: u16 = 1232;
/// Tries per server where resolv.conf does not say.
const TRIES: u8 = 3;
/// Longest time that a reply is kept, in seconds.
const KEPT_S_MAX: u32 = 3600;
/// Questions that fail together are all counted before one of them is sent again.
const TOGETHER: Duration = Duration::from_millis(1);

/// One channel.
pub struct Channel {
    conf: Arc<ResolvConf>,
    flavour: Flavour,
    servers: Servers,
    kept: Mutex<Replies<(Name, RecordType), Kept>>,
    /// Packets of probes and strays, which no lookup has counted yet.
    unclaimed: Mutex<PacketCounts>,
}

/// A reply, until its TTLs end.
struct Kept {
    reply: Reply,
    /// When it was asked for: it was true then, if at all.
    asked: Instant,
    until: Instant,
}

/// Why a question has no reply with records, or without them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Error {
    /// NXDOMAIN.
    NoName,
    /// SERVFAIL or REFUSED.
    Code,
    /// Silence, a refusal of the network, any other code.
    Other,
    /// We have no socket left.
    NoSocket,
}

/// One question on its way through the servers.
struct Try<'q> {
    name: &'q Name,
    rtype: RecordType,
    begun: Instant,
    /// How often it failed.
    count: usize,
    is_tcp: bool,
    has_edns: bool,
    packets: PacketCounts,
    socket: Option<Arc<Shared>>,
}

impl Channel {
    /// A fresh one.
    pub fn new(conf: Arc<ResolvConf>, seed: u64, flavour: Flavour) -> Self {
        let servers = Servers::new(&conf, seed);
        let (kept, unclaimed) = (Mutex::default(), Mutex::default());
        Self { conf, flavour, servers, kept, unclaimed }
    }

    /// What went over the wire that no lookup has counted.
    pub fn strays(&self) -> PacketCounts {
        std::mem::take(&mut *self.unclaimed.lock())
    }

    /// Ends what goes on beside lookups.
    pub fn end(&self) {
        self.servers.end_probes();
    }

    /// One question through all its tries; none more once `is_enough`.
    pub async fn ask(
        self: &Arc<Self>,
        name: &Name,
        rtype: RecordType,
        is_enough: &AtomicBool,
    ) -> Ended {
        if let Some((reply, age)) = self.kept(name, rtype) {
            let (result, packets) = (told(reply), PacketCounts::default());
            return Ended { result, packets, is_cached: true, age, _socket: None };
        }
        let mut under_way = self.first(name, rtype);
        let result = self.try_all(&mut under_way, is_enough).await;
        let Try { packets, socket, .. } = under_way;
        Ended { result, packets, is_cached: false, age: Duration::ZERO, _socket: socket }
    }

    fn first<'q>(&self, name: &'q Name, rtype: RecordType) -> Try<'q> {
        Try {
            name,
            rtype,
            begun: Instant::now(),
            count: 0,
            is_tcp: self.conf.use_vc && self.flavour.hears_use_vc,
            has_edns: self.flavour.has_edns,
            packets: PacketCounts::default(),
            socket: None,
        }
    }

    /// Finds out beside a question whether a server that failed is back.
    fn probe(self: &Arc<Self>, used: usize, under_way: &Try<'_>) {
        if under_way.count > 0 {
            return;
        }
        let Some(at) = self.servers.to_probe(used) else { return };
        let (channel, name, rtype) = (Arc::clone(self), under_way.name.clone(), under_way.rtype);
        let probe = tokio::spawn(async move {
            let mut under_way = channel.first(&name, rtype);
            match channel.try_once(at, &mut under_way).await {
                Ok(reply) if !is_failure(&reply) => channel.servers.is_good(at),
                _ => channel.servers.failed(at),
            }
            channel.unclaimed.lock().add(&under_way.packets);
        });
        self.servers.probing(at, probe.abort_handle());
    }

    async fn try_all(
        self: &Arc<Self>,
        under_way: &mut Try<'_>,
        is_enough: &AtomicBool,
    ) -> Result<Reply, Error> {
        let tries = self.tries() * self.servers.len();
        loop {
            let at = self.servers.best(self.conf.rotate).ok_or(Error::Other)?;
            self.probe(at, under_way);
            let error = match self.try_once(at, under_way).await {
                Ok(reply) if is_without_edns(&reply) && under_way.has_edns => {
                    under_way.has_edns = false;
                    continue;
                }
                Ok(reply) if reply.is_truncated() && !under_way.is_tcp => {
                    under_way.is_tcp = true;
                    continue;
                }
                Ok(reply) if self.flavour.is_checking && is_failure(&reply) => {
                    told(reply).err().unwrap_or(Error::Other)
                }
                Ok(reply) => {
                    self.servers.is_good(at);
                    self.keep(under_way, &reply);
                    return told(reply);
                }
                Err(Lost::NoSocket) => return Err(Error::NoSocket),
                Err(Lost::TimedOut | Lost::Refused) => Error::Other,
            };
            self.servers.failed(at);
            under_way.count += 1;
            tokio::time::sleep(TOGETHER).await;
            if under_way.count >= tries || is_enough.load(Ordering::Relaxed) {
                return Err(error);
            }
        }
    }

    /// Asks one server, and with the first try perhaps one that failed before.
    async fn try_once(&self, at: usize, under_way: &mut Try<'_>) -> Result<Reply, Lost> {
        let begun = Instant::now();
        let until = begun + self.servers.patience(at, under_way.count);
        let mut question = Question::new(under_way.name, under_way.rtype);
        if under_way.has_edns {
            question = question.with_opt(PAYLOAD_BYTES);
        }
        let server = self.servers.address(at);
        let socket = match under_way.is_tcp {
            true => self.servers.stream(at),
            false => self.servers.socket(at).ok_or(Lost::NoSocket)?,
        };
        under_way.socket = Some(Arc::clone(&socket));
        let asked = socket.ask(server, question, until, &mut under_way.packets).await;
        if asked == Err(Lost::TimedOut) {
            socket.retire();
        }
        self.unclaimed.lock().add(&socket.strays());
        let is_measured = |reply: &Reply| !is_failure(reply);
        if asked.as_ref().is_ok_and(is_measured) {
            self.servers.took(at, begun.elapsed());
        }
        asked
    }

    fn tries(&self) -> usize {
        // What is 0 counts as not written (ares_sysconfig_files.c).
        let from_conf = self.conf.attempts.filter(|attempts| *attempts > 0).unwrap_or(TRIES);
        self.flavour.tries.unwrap_or(from_conf).into()
    }

    /// A reply that is kept, and for how long it has been there.
    fn kept(&self, name: &Name, rtype: RecordType) -> Option<(Reply, Duration)> {
        let kept = self.kept.lock();
        let kept = kept.get(&(name.clone(), rtype)).filter(|kept| kept.is_fresh())?;
        Some((kept.reply.clone(), kept.asked.elapsed()))
    }

    fn keep(&self, under_way: &Try<'_>, reply: &Reply) {
        let ttl_s = kept_s(reply).filter(|ttl_s| *ttl_s > 0 && self.flavour.has_cache);
        let Some(ttl_s) = ttl_s else { return };
        let until = Instant::now() + Duration::from_secs(ttl_s.into());
        let kept = Kept { reply: reply.clone(), asked: under_way.begun, until };
        let key = (under_way.name.clone(), under_way.rtype);
        self.kept.lock().insert(key, kept, Kept::is_fresh);
    }
}

impl Kept {
    fn is_fresh(&self) -> bool {
        Instant::now() < self.until
    }
}

impl Error {
    /// How the application hears of it.
    pub fn failure(self) -> Failure {
        match self {
            Self::NoName => Failure::UnknownHost,
            Self::Code | Self::Other => Failure::TryAgain,
            Self::NoSocket => Failure::NoSocket,
        }
    }
}

/// For how long a reply may be kept: that of its records, or of the SOA of a denial (RFC 2308 §5).
fn kept_s(reply: &Reply) -> Option<u32> {
    let is_kept = matches!(reply.rcode(), Rcode::NOERROR | Rcode::NXDOMAIN);
    if reply.is_truncated() || !is_kept {
        return None;
    }
    let ttl_s = if reply.has_answer() { reply.ttl_s() } else { negative_ttl_s(reply) };
    ttl_s.map(|ttl_s| ttl_s.min(KEPT_S_MAX))
}

fn negative_ttl_s(reply: &Reply) -> Option<u32> {
    let message = reply.octets();
    let questions_end = walk::skip_name(message, HEADER_LEN)? + 4;
    let at = reply.answers().last().map_or(questions_end, |record| record.end);
    let soa = walk::record(message, at).filter(|record| record.rtype == RecordType::SOA)?;
    let minimum_s = u32_at(message, soa.end.checked_sub(4)?)?;
    Some(soa.ttl_s.min(minimum_s))
}

/// A server that does not know EDNS (RFC 6891 §7).
fn is_without_edns(reply: &Reply) -> bool {
    reply.rcode() == Rcode::FORMERR && reply.additional_count() == 0
}

fn is_failure(reply: &Reply) -> bool {
    matches!(reply.rcode(), Rcode::SERVFAIL | Rcode::NOTIMP | Rcode::REFUSED)
}

/// A reply as `ares_query` tells of it.
fn told(reply: Reply) -> Result<Reply, Error> {
    match reply.rcode() {
        Rcode::NOERROR => Ok(reply),
        Rcode::NXDOMAIN => Err(Error::NoName),
        Rcode::SERVFAIL | Rcode::REFUSED => Err(Error::Code),
        _ => Err(Error::Other),
    }
}

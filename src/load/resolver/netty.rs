//! Netty's `DnsNameResolver`, as its builder makes it: one UDP socket for ever.
//!
//! ```text
//! host ─► kept? ─► candidates ─┬─ A ────► server 1, 2, … once each ─┬─► addresses, or next
//!                              └─ AAAA ─► server 1, 2, … once each ─┘
//! ```
//!
//! As io.netty.resolver.dns of Netty 4.1.128. Another server is asked after any reply but NOERROR
//! and an authoritative NXDOMAIN; one that is silent ends the search. `attempts` is the most
//! questions per candidate, 16 where resolv.conf does not say; `rotate`, `use-vc` and the like mean
//! nothing to it. What is cut is used as it is. All failures are UnknownHostException.
//! It asks for AAAA where the host has an IPv6 address that is not link-local; this always does.
//! Aliases are not followed: servers of clusters send their addresses along.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::kept::Kept as Names;
use super::message::{Question, Reply};
use super::search::{Candidates, Order};
use super::shared::{Lost, Shared};
use super::{Failure, Found, Records, ResolvConf};
use crate::load::record::PacketCounts;
use crate::wire::{Name, Rcode, RecordType};

/// The payload size that it offers.
const PAYLOAD_BYTES: u16 = 4096;
/// Most questions per candidate where resolv.conf does not say.
const QUESTIONS_MAX: usize = 16;
/// The time-out where resolv.conf does not say, in seconds.
const TIMEOUT_S: u8 = 5;
/// What stands for no time-out at all, which `timeout:0` means: more than a lookup may take.
const FOREVER: Duration = Duration::from_secs(3600);

/// One process.
pub struct Netty {
    conf: Arc<ResolvConf>,
    socket: Mutex<Option<Arc<Shared>>>,
    names: Mutex<Names<Name, Kept>>,
}

/// Addresses of a name, until the first of their TTLs ends.
struct Kept {
    addresses: BTreeSet<IpAddr>,
    is_cut: bool,
    /// When they were asked for: they were true then, if at all.
    asked: Instant,
    until: Instant,
}

/// What the questions for one candidate share.
struct Context<'n> {
    name: &'n Name,
    socket: &'n Shared,
    /// Questions that may still be asked.
    left: AtomicUsize,
    /// Types whose questions are under way.
    under_way: AtomicUsize,
    found: Mutex<Gathered>,
}

/// What was found so far.
#[derive(Default)]
struct Gathered {
    addresses: BTreeSet<IpAddr>,
    ttl_s: Option<u32>,
    is_cut: bool,
    packets: PacketCounts,
    /// No server said anything about one of the types.
    is_untold: bool,
    /// How the last question of all ended.
    last: Option<End>,
}

/// How the questions of one type ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// With records, or with a reply that has none: the search goes on.
    Told,
    /// The network or silence: it does not.
    Unheard,
    /// We have no place for it.
    NoSocket,
}

impl Netty {
    /// A fresh process.
    pub fn new(conf: Arc<ResolvConf>, _seed: u64) -> Self {
        Self { conf, socket: Mutex::default(), names: Mutex::default() }
    }

    /// Addresses of a host.
    pub async fn addresses(&self, host: &str) -> Found {
        let candidates = Candidates::of(host, &self.conf);
        if let Some(found) = self.kept(&candidates) {
            return found;
        }
        let Some(socket) = self.socket() else {
            return Found::of(Err(Failure::NoSocket), PacketCounts::default());
        };
        let mut packets = socket.strays();
        let mut is_all_denied = true;
        for name in self.in_order(candidates) {
            let asked = Instant::now();
            let gathered = self.resolve(&name, &socket).await;
            packets.add(&gathered.packets);
            // Silence leaves names of the search list unasked.
            is_all_denied &= !gathered.is_untold && gathered.last != Some(End::Unheard);
            match gathered.last {
                _ if !gathered.addresses.is_empty() => {
                    return self.keep(name, gathered, asked, packets);
                }
                Some(End::NoSocket) => return Found::of(Err(Failure::NoSocket), packets),
                Some(End::Unheard) => break,
                Some(End::Told) | None => {}
            }
        }
        Found::of(Err(Failure::UnknownHost), packets).denied_if(is_all_denied)
    }

    /// Records of an absolute name.
    pub async fn query(&self, name: &Name, rtype: RecordType) -> Found {
        let mut packets = PacketCounts::default();
        let Some(socket) = self.socket() else {
            return Found::of(Err(Failure::NoSocket), packets);
        };
        let mut is_told = false;
        for &server in self.conf.used_servers().iter().take(self.questions_max()) {
            let question = Question::new(name, rtype).with_opt(PAYLOAD_BYTES);
            match socket.ask(server, question, self.until(), &mut packets).await {
                Ok(reply) => {
                    let records = Records::of([&reply], rtype);
                    if !records.is_empty() {
                        let is_cut = reply.is_truncated();
                        return Found { is_cut, ..Found::of(Ok(records), packets) };
                    }
                    is_told |= reply.is_told();
                }
                Err(Lost::NoSocket) => return Found::of(Err(Failure::NoSocket), packets),
                Err(_) => {}
            }
        }
        Found::of(Err(Failure::UnknownHost), packets).denied_if(is_told)
    }

    /// The list before the host as written, or behind it; one with a dot at its end has no list,
    /// and neither has any with `ndots:0`.
    fn in_order(&self, candidates: Candidates) -> Vec<Name> {
        match candidates.order {
            Order::First if self.conf.ndots == 0 => candidates.absolute.into_iter().collect(),
            _ => candidates.all(),
        }
    }

    /// The socket, opened by whoever asks first.
    fn socket(&self) -> Option<Arc<Shared>> {
        let mut socket = self.socket.lock();
        if socket.is_none() {
            *socket = Shared::unconnected(self.conf.used_servers()).ok().map(Arc::new);
        }
        socket.clone()
    }

    /// A and AAAA of a name.
    async fn resolve(&self, name: &Name, socket: &Shared) -> Gathered {
        let context = Context {
            name,
            socket,
            left: AtomicUsize::new(self.questions_max()),
            under_way: AtomicUsize::new(2),
            found: Mutex::default(),
        };
        tokio::join!(
            self.resolve_type(RecordType::A, &context),
            self.resolve_type(RecordType::AAAA, &context)
        );
        context.found.into_inner()
    }

    /// Asks the servers in turn.
    async fn resolve_type(&self, rtype: RecordType, context: &Context<'_>) {
        let mut packets = PacketCounts::default();
        let (mut end, mut is_told) = (End::Told, false);
        let take_one = |left: usize| left.checked_sub(1);
        for &server in self.conf.used_servers() {
            let (order, fetch) = (Ordering::Relaxed, &context.left);
            if fetch.fetch_update(order, order, take_one).is_err() {
                break;
            }
            let question = Question::new(context.name, rtype).with_opt(PAYLOAD_BYTES);
            let asked = context.socket.ask(server, question, self.until(), &mut packets).await;
            end = match &asked {
                Ok(_) => End::Told,
                Err(Lost::NoSocket) => End::NoSocket,
                Err(Lost::TimedOut | Lost::Refused) => End::Unheard,
            };
            is_told |= asked.as_ref().is_ok_and(Reply::is_told);
            if asked.is_ok_and(|reply| context.is_last_word(&reply)) {
                break;
            }
        }
        context.under_way.fetch_sub(1, Ordering::Relaxed);
        let mut found = context.found.lock();
        found.packets.add(&packets);
        found.is_untold |= !is_told;
        found.last = Some(end);
    }

    fn questions_max(&self) -> usize {
        // `attempts:0` makes every lookup fail, and nothing is asked.
        self.conf.attempts.map_or(QUESTIONS_MAX, usize::from)
    }

    fn until(&self) -> Instant {
        let patience = match self.conf.timeout_s.unwrap_or(TIMEOUT_S) {
            0 => FOREVER,
            timeout_s => Duration::from_secs(timeout_s.into()),
        };
        Instant::now() + patience
    }

    /// What is kept for the host as written, or below any search domain.
    fn kept(&self, candidates: &Candidates) -> Option<Found> {
        let names = self.names.lock();
        let mut asked = candidates.absolute.iter().chain(&candidates.listed);
        let kept = asked.find_map(|name| names.get(name).filter(|kept| kept.is_fresh()))?;
        Some(Found {
            is_cached: true,
            age: kept.asked.elapsed(),
            is_cut: kept.is_cut,
            ..Found::of(Ok(Records::Addresses(kept.addresses.clone())), PacketCounts::default())
        })
    }

    fn keep(&self, name: Name, gathered: Gathered, asked: Instant, packets: PacketCounts) -> Found {
        let Gathered { addresses, ttl_s, is_cut, .. } = gathered;
        let ttl = Duration::from_secs(ttl_s.unwrap_or(0).into());
        if let Some(until) = Instant::now().checked_add(ttl).filter(|_| !ttl.is_zero()) {
            let kept = Kept { addresses: addresses.clone(), is_cut, asked, until };
            self.names.lock().insert(name, kept, Kept::is_fresh);
        }
        Found { is_cut, ..Found::of(Ok(Records::Addresses(addresses)), packets) }
    }
}

impl Context<'_> {
    /// Takes a reply; whether no other server is asked for this type. NOERROR without addresses is
    /// the last word only while the other type is under way: the last of both tries all servers.
    fn is_last_word(&self, reply: &Reply) -> bool {
        let mut found = self.found.lock();
        if reply.has_answer() {
            found.addresses.extend(reply.addresses());
            found.ttl_s = found.ttl_s.into_iter().chain(reply.ttl_s()).min();
            found.is_cut |= reply.is_truncated();
        }
        let is_denied = reply.rcode() == Rcode::NXDOMAIN && reply.is_authoritative();
        let is_told = reply.rcode() == Rcode::NOERROR || is_denied;
        let is_last = self.under_way.load(Ordering::Relaxed) == 1;
        is_told && !(is_last && found.addresses.is_empty())
    }
}

impl Kept {
    fn is_fresh(&self) -> bool {
        Instant::now() < self.until
    }
}

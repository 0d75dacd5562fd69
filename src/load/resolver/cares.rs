//! c-ares 1.34: `ares_getaddrinfo` as it is without options, and the way Node.js uses it.
//!
//! ```text
//! host ─► candidates ─┬─ A ────► channel ─┬─► addresses, or next
//!                     └─ AAAA ─► channel ─┘
//! ```
//!
//! The reply that comes last decides whether the search goes on: after a denial it does, after
//! anything else it does not, but for names of one label (ares_getaddrinfo.c).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::message::Reply;
use super::search::Candidates;
use super::shared::Shared;
use super::{Failure, Found, Records, ResolvConf};
use crate::load::record::PacketCounts;
use crate::wire::{Name, RecordType};

mod channel;
mod servers;

use channel::{Channel, Error};

/// One process.
pub struct CAres {
    conf: Arc<ResolvConf>,
    flavour: Flavour,
    channel: Arc<Channel>,
}

/// How a program uses the library.
#[derive(Clone, Copy, Debug)]
struct Flavour {
    /// Names go through the search list.
    is_searching: bool,
    /// An OPT in each question.
    has_edns: bool,
    /// Replies are kept by their TTLs.
    has_cache: bool,
    /// SERVFAIL, NOTIMP and REFUSED send a question to the next server.
    is_checking: bool,
    /// `use-vc` is heard. Without options the library forgets it (ares_init.c).
    hears_use_vc: bool,
    /// Tries per server; `None` is resolv.conf's or the library's.
    tries: Option<u8>,
}

/// Without options: gRPC, curl and, but for time-outs, Envoy.
const PLAIN: Flavour = Flavour {
    is_searching: true,
    has_edns: true,
    has_cache: true,
    is_checking: true,
    hears_use_vc: false,
    tries: None,
};
/// `resolve4` and `resolve6` of Node.js 20 (src/cares_wrap.cc). `lookup` is the libc's.
const NODE: Flavour = Flavour {
    is_searching: false,
    has_edns: false,
    has_cache: false,
    is_checking: false,
    hears_use_vc: true,
    tries: Some(4),
};

/// How one question ended.
struct Ended {
    result: Result<Reply, Error>,
    packets: PacketCounts,
    is_cached: bool,
    /// For how long the reply had been kept.
    age: Duration,
    /// Keeps the socket from being closed before the next question uses it.
    _socket: Option<Arc<Shared>>,
}

impl CAres {
    /// A fresh process of a program that uses the library as it is.
    pub fn new(conf: Arc<ResolvConf>, seed: u64) -> Self {
        Self::with(conf, seed, PLAIN)
    }

    /// A fresh process of Node.js.
    pub fn node(conf: Arc<ResolvConf>, seed: u64) -> Self {
        Self::with(conf, seed, NODE)
    }

    fn with(conf: Arc<ResolvConf>, seed: u64, flavour: Flavour) -> Self {
        let channel = Arc::new(Channel::new(Arc::clone(&conf), seed, flavour));
        Self { conf, flavour, channel }
    }

    /// Addresses of a host.
    pub async fn addresses(&self, host: &str) -> Found {
        let candidates = Candidates::of(host, &self.conf);
        let names = match self.flavour.is_searching {
            true => candidates.all(),
            false => candidates.absolute.into_iter().collect(),
        };
        let mut packets = self.channel.strays();
        let (mut failure, mut held) = (Failure::UnknownHost, Vec::new());
        let (mut is_all_denied, mut age) = (true, Duration::ZERO);
        let mut is_cached = !names.is_empty();
        for name in names {
            let ended = self.both(&name).await;
            ended.iter().for_each(|one| packets.add(&one.packets));
            is_cached &= ended.iter().all(|one| one.is_cached);
            age = age.max(oldest(&ended));
            if let Some(found) = found(&ended, &packets) {
                return Found { is_cached, ..found };
            }
            is_all_denied &= ended.iter().all(Ended::is_told);
            failure = self.failure(&ended);
            if failure != Failure::UnknownHost && !self.goes_on(&name, &ended) {
                break;
            }
            held = ended;
        }
        drop(held);
        let failed = Found::of(Err(failure), packets).denied_if(is_all_denied);
        Found { is_cached, age, ..failed }
    }

    /// Records of an absolute name.
    pub async fn query(&self, name: &Name, rtype: RecordType) -> Found {
        let ended = self.channel.ask(name, rtype, &AtomicBool::new(false)).await;
        let result = match &ended.result {
            Ok(reply) => match Records::of([reply], rtype) {
                records if records.is_empty() => Err(Failure::UnknownHost),
                records => Ok(records),
            },
            Err(error) => Err(error.failure()),
        };
        let (is_cached, age) = (ended.is_cached, ended.age);
        Found { is_cached, age, ..Found::of(result, ended.packets) }
    }

    /// A and AAAA of a name, in the order in which they end. With an address of IPv4, AAAA is not
    /// tried again.
    async fn both(&self, name: &Name) -> Vec<Ended> {
        let [of_a, of_aaaa] = [AtomicBool::new(false), AtomicBool::new(false)];
        let a: BoxFuture<'_, Ended> = Box::pin(async {
            let ended = self.channel.ask(name, RecordType::A, &of_a).await;
            let has_addresses = ended.result.as_ref().is_ok_and(Reply::has_answer);
            let is_enough = self.flavour.is_searching && has_addresses;
            of_aaaa.store(is_enough, Ordering::Relaxed);
            ended
        });
        let aaaa: BoxFuture<'_, Ended> =
            Box::pin(self.channel.ask(name, RecordType::AAAA, &of_aaaa));
        [a, aaaa].into_iter().collect::<FuturesUnordered<_>>().collect().await
    }

    /// What the application hears. Node has both outcomes; `ares_getaddrinfo` tells the last.
    fn failure(&self, ended: &[Ended]) -> Failure {
        let mut failures = ended.iter().map(|one| match &one.result {
            Ok(_) => Failure::UnknownHost,
            Err(error) => error.failure(),
        });
        let is_telling = |failure: &Failure| *failure != Failure::UnknownHost;
        match self.flavour.is_searching {
            true => failures.next_back().unwrap_or(Failure::TryAgain),
            false => failures.find(is_telling).unwrap_or(Failure::UnknownHost),
        }
    }

    /// Whether a failure that is no denial lets the search go on: SERVFAIL and REFUSED of a name of
    /// one label do.
    fn goes_on(&self, name: &Name, ended: &[Ended]) -> bool {
        let is_coded = |one: &Ended| matches!(one.result, Err(Error::Code));
        ended.last().is_some_and(is_coded) && name.as_ref().labels().count() == 1
    }
}

impl Ended {
    /// Whether a server told what there is, or that there is nothing.
    fn is_told(&self) -> bool {
        matches!(self.result, Ok(_) | Err(Error::NoName))
    }
}

impl Drop for CAres {
    fn drop(&mut self) {
        self.channel.end();
    }
}

/// How old the oldest of the replies is.
fn oldest(ended: &[Ended]) -> Duration {
    ended.iter().map(|one| one.age).max().unwrap_or_default()
}

/// The addresses, if there are any.
fn found(ended: &[Ended], packets: &PacketCounts) -> Option<Found> {
    let replies = || ended.iter().filter_map(|one| one.result.as_ref().ok());
    let addresses: BTreeSet<_> = replies().flat_map(Reply::addresses).collect();
    (!addresses.is_empty()).then(|| Found {
        age: oldest(ended),
        is_cut: replies().any(Reply::is_truncated),
        ..Found::of(Ok(Records::Addresses(addresses)), *packets)
    })
}

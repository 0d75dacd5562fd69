//! Zone transfers to secondaries: AXFR and IXFR (RFC 5936, RFC 1995).
//!
//! ```text
//! request ─► may this peer? ─► what does it have? ─┬─ the same      one SOA
//!                                                  ├─ a version     what changed since
//!                                                  └─ else          the whole zone
//! ```
//!
//! A transfer is a [`Stream`] of messages that is written as fast as its client reads. It holds the
//! Zone that it began with, so a change in between neither waits for it nor shows in it.

mod counters;
mod stream;

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;

pub use counters::{Counters, Kind, PER_PEER_MAX, Refusal, Shared, TRANSFERS_MAX};
pub use stream::{MESSAGE_MAX, Stream};

use super::config::TransferConfig;
use super::journal::{Holder, Journal};
use super::kubernetes::Kubernetes;
use super::now::Client;
use super::plan::Block;
use super::tally::Proto;
use crate::cluster::published::Published;
use crate::cluster::zone::{Records, Version, Zone};
use crate::wire::{Class, Ede, Name, Query, Rcode, RecordType, Reply, serial};
use stream::TO_APEX;

/// The opcode NOTIFY, and AA (RFC 1996 §3.7).
const NOTIFY: u8 = 0x24;

/// A `transfer` directive at run time.
pub struct Transfer {
    pub config: TransferConfig,
    /// The zones that may be transferred: those of the `kubernetes` directive beside this one that
    /// the directive covers.
    apexes: Vec<Name>,
    kubernetes: Kubernetes,
    journal: Mutex<Journal>,
    /// Set when the directive begins to answer: the serial under which an older Plan showed the
    /// zones, perhaps otherwise.
    begun: OnceLock<Option<u32>>,
    shared: Arc<Shared>,
}

impl Transfer {
    /// A directive over what the `kubernetes` directive beside it shows.
    pub fn new(
        config: TransferConfig,
        apexes: Vec<Name>,
        kubernetes: Kubernetes,
        shared: Arc<Shared>,
    ) -> Self {
        let (journal, begun) = (Mutex::default(), OnceLock::new());
        Self { config, apexes, kubernetes, journal, begun, shared }
    }

    /// Whether this part would answer as one made of these.
    pub fn is_same(&self, config: &TransferConfig, apexes: &[Name], other: &Kubernetes) -> bool {
        self.config == *config && self.apexes == apexes && self.kubernetes.shows_as(other)
    }

    /// Called when a Plan with this directive begins to answer; nothing is transferred before. The
    /// first time, zones that are known already get another serial, so that who has them from an
    /// older Plan learns that they may look otherwise.
    pub fn begin(&self) {
        self.begun.get_or_init(|| {
            let zone = self.published().zone();
            zone.is_synced.then(|| {
                self.published().renew();
                zone.serial
            })
        });
    }

    /// The zones that may be transferred.
    pub fn apexes(&self) -> &[Name] {
        &self.apexes
    }

    /// Where the Zones come from.
    pub fn published(&self) -> &Arc<Published> {
        &self.kubernetes.published
    }

    /// The counters of all directives.
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// The Zone that is handed out now. `None` while the cluster is not known, or has no serial yet
    /// for the way that it is shown.
    pub fn offered(&self, now: Instant) -> Option<Arc<Zone>> {
        // What must not be handed out must not be what everybody gets for a while.
        self.newest()?;
        Some(self.published().copy(now)).filter(|zone| self.is_right(zone))
    }

    /// The newest Zone, of which nobody gets more than the SOA. `None` as for [`Self::offered`].
    fn newest(&self) -> Option<Arc<Zone>> {
        Some(Arc::clone(&self.published().zone())).filter(|zone| self.is_right(zone))
    }

    fn is_right(&self, zone: &Zone) -> bool {
        let is_new = |old: Option<u32>| old.is_none_or(|old| serial::is_newer(zone.serial, old));
        zone.is_synced && self.begun.get().is_some_and(|old| is_new(*old))
    }

    /// A NOTIFY message for one zone, with id 0 and its SOA (RFC 1996 §3.7).
    pub fn notice(&self, apex: &Name, zone: &Arc<Zone>) -> Vec<u8> {
        let soa = self.version(zone.clone(), apex).soa();
        let mut message = vec![0, 0, NOTIFY, 0, 0, 1, 0, 1, 0, 0, 0, 0];
        message.extend_from_slice(apex.octets());
        message.extend_from_slice(&[0, RecordType::SOA.0 as u8, 0, Class::IN.0 as u8]);
        message.extend_from_slice(&TO_APEX);
        message.extend_from_slice(&[0, RecordType::SOA.0 as u8, 0, Class::IN.0 as u8]);
        message.extend_from_slice(&soa.ttl_s.to_be_bytes());
        message.extend_from_slice(&(soa.rdata.len() as u16).to_be_bytes());
        message.extend_from_slice(&soa.rdata);
        message
    }

    /// Answers a request, or begins to.
    fn answer(
        &self,
        query: &Query<'_>,
        client: Client,
        now: Instant,
        reply: &mut Reply<'_>,
    ) -> Result<Option<Stream>, Refusal> {
        if !self.config.lets(client.address) {
            return Err(Refusal::Peer);
        }
        let is_ixfr = query.rtype == RecordType::IXFR;
        if client.proto == Proto::Udp && !is_ixfr {
            return Err(Refusal::Udp);
        }
        let is_it = |apex: &&Name| query.class == Class::IN && apex.as_ref() == query.name();
        let apex = self.apexes.iter().find(is_it).ok_or(Refusal::Zone)?;
        let known = query.known_serial();
        if is_ixfr && known.is_none() {
            return Err(Refusal::Malformed);
        }
        let is_udp = client.proto == Proto::Udp;
        let offered = if is_udp { self.newest() } else { self.offered(now) };
        let offered = offered.ok_or(Refusal::NotReady)?;
        let newest = self.version(offered, apex);
        if !newest.is_known() {
            return Err(Refusal::NotReady);
        }
        let is_newer = known.is_none_or(|known| serial::is_newer(newest.zone.serial, known));
        // RFC 1995 §2: what does not fit a datagram is one SOA, and the client comes over TCP.
        if is_ixfr && (is_udp || !is_newer) {
            stream::write(&newest.soa(), reply);
            reply.set_authoritative();
            self.shared.counters.count_sent(Kind::Soa);
            return Ok(None);
        }
        let place = self.shared.place(client.address).ok_or(Refusal::Busy)?;
        let is_listed = self.config.lists(client.address);
        let holder = Holder { address: client.address, apex: apex.clone(), is_listed };
        let (records, kind) = self.records(newest, holder, known.filter(|_| is_ixfr));
        self.shared.counters.count_sent(kind);
        Ok(Some(Stream::new(query, records, place)))
    }

    /// What a secondary gets that has the version `known`, or none.
    fn records(&self, new: Version, holder: Holder, known: Option<u32>) -> (Records, Kind) {
        let old = {
            let mut journal = self.journal.lock();
            let old = known.and_then(|serial| journal.find(serial, &holder));
            let forgotten = journal.dropped;
            journal.note(&new.zone, holder);
            let forgotten = journal.dropped - forgotten;
            self.shared.counters.forgotten.fetch_add(forgotten, Ordering::Relaxed);
            old
        };
        let old = old.map(|old| self.version(old, &new.apex));
        match old.and_then(|old| new.clone().changes_since(old)) {
            Some(changes) => (changes, Kind::Ixfr),
            None if known.is_some() => (new.whole(), Kind::IxfrWhole),
            None => (new.whole(), Kind::Axfr),
        }
    }

    fn version(&self, zone: Arc<Zone>, apex: &Name) -> Version {
        self.kubernetes.version(zone, apex)
    }
}

impl Block {
    /// Answers AXFR and IXFR. `None` when the reply is all there is to send.
    pub fn transfer(
        &self,
        query: &Query<'_>,
        client: Client,
        now: Instant,
        reply: &mut Reply<'_>,
    ) -> Option<Stream> {
        if query.edns.is_some_and(|edns| edns.version > 0) {
            reply.set_rcode(Rcode::BADVERS);
            return None;
        }
        let configs = self.transfers.iter().map(|transfer| &transfer.config);
        let Some(number) = TransferConfig::covering(configs, query.name()) else {
            reply.set_rcode(Rcode::REFUSED);
            return None;
        };
        let transfer = &self.transfers[number];
        match transfer.answer(query, client, now, reply) {
            Ok(stream) => stream,
            Err(refusal) => {
                transfer.counters().count_refused(refusal);
                reply.set_rcode(refusal.rcode());
                if refusal == Refusal::NotReady {
                    reply.set_ede(Ede::NOT_READY);
                }
                None
            }
        }
    }
}

impl TransferConfig {
    /// Whether a client at this address may have the zones.
    fn lets(&self, address: IpAddr) -> bool {
        self.to_anybody || self.lists(address)
    }

    /// Whether this address is named.
    fn lists(&self, address: IpAddr) -> bool {
        self.to.iter().any(|peer| peer.ip() == address)
    }
}

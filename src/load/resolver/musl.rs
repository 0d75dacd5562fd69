//! `getaddrinfo` and `res_query` of musl 1.2.3 (Debian 12, Alpine 3.16).
//!
//! ```text
//! all questions ─► all servers at once, from one socket ─► again each timeout/attempts ─► timeout
//! ```
//!
//! The first NOERROR or NXDOMAIN for a question counts, whoever it comes from. SERVFAIL is asked
//! again at once, twice per question, and after that is as good as silence; so are other codes.
//! Only NXDOMAIN goes on with the search list: NODATA, and silence for one family, end it. There is
//! no TCP (that came with 1.2.4): of what is larger than 512 octets, or cut, what is there counts.
//! `rotate`, `single-request`, `use-vc` and `no-aaaa` mean nothing to it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::exchange::{Event, Udp, count_misfit, is_exhausted, is_same};
use super::message::{Fit, Question, Reply};
use super::search::Candidates;
use super::{Failure, Found, Records, ResolvConf};
use crate::load::record::PacketCounts;
use crate::wire::{HEADER_LEN, Name, PLAIN_UDP_MAX, Rcode, RecordType};

/// Most addresses of one lookup (musl's MAXADDRS).
const ADDRESSES_MAX: usize = 48;
/// How often a SERVFAIL is asked again at once, for each question of a call.
const SERVFAIL_RETRIES: usize = 2;

/// One process.
pub struct Musl {
    conf: Arc<ResolvConf>,
}

/// What one name came to.
enum Step {
    Found { addresses: BTreeSet<IpAddr>, is_cut: bool },
    NextName,
    Failed(Failure),
}

impl Musl {
    /// A fresh process.
    pub fn new(conf: Arc<ResolvConf>, _seed: u64) -> Self {
        Self { conf }
    }

    /// Addresses of a host.
    pub async fn addresses(&self, host: &str) -> Found {
        let mut packets = PacketCounts::default();
        for name in Candidates::of(host, &self.conf).all_or_absolute() {
            let pair = Question::pair(&name);
            let step = match Call::new(&self.conf, &pair, &mut packets) {
                Ok(call) => judge(&call.run(PLAIN_UDP_MAX).await),
                Err(failure) => Step::Failed(failure),
            };
            match step {
                Step::NextName => {}
                Step::Failed(failure) => return Found::of(Err(failure), packets),
                Step::Found { addresses, is_cut } => {
                    let found = Found::of(Ok(Records::Addresses(addresses)), packets);
                    return Found { is_cut, ..found };
                }
            }
        }
        Found::of(Err(Failure::UnknownHost), packets)
    }

    /// Records of an absolute name.
    pub async fn query(&self, name: &Name, rtype: RecordType) -> Found {
        let mut packets = PacketCounts::default();
        let questions = [Question::new(name, rtype)];
        let call = match Call::new(&self.conf, &questions, &mut packets) {
            Ok(call) => call,
            Err(failure) => return Found::of(Err(failure), packets),
        };
        // The buffer is the caller's, and large enough for what comes over UDP.
        let reply = call.run(usize::MAX).await.pop().flatten();
        let result = match &reply {
            None => Err(Failure::TryAgain),
            Some(reply) => Ok(Records::of([reply], rtype))
                .and_then(|it| if it.is_empty() { Err(Failure::UnknownHost) } else { Ok(it) }),
        };
        let is_cut = reply.is_some_and(|reply| reply.is_truncated());
        Found { is_cut, ..Found::of(result, packets) }
    }
}

/// What the replies, in the order of the questions, make of a name.
fn judge(replies: &[Option<Reply>]) -> Step {
    for reply in replies {
        match reply.as_ref().map(Reply::rcode) {
            None => return Step::Failed(Failure::TryAgain),
            Some(Rcode::NXDOMAIN) => return Step::NextName,
            Some(_) => {}
        }
    }
    let replies = || replies.iter().flatten();
    let all: Vec<IpAddr> = replies().flat_map(Reply::addresses).take(ADDRESSES_MAX + 1).collect();
    if all.is_empty() {
        return Step::Failed(Failure::UnknownHost);
    }
    // A datagram that fills the buffer may have been longer.
    let is_short = |reply: &Reply| reply.is_truncated() || reply.octets().len() >= PLAIN_UDP_MAX;
    let is_cut = replies().any(is_short) || all.len() > ADDRESSES_MAX;
    Step::Found { addresses: all.into_iter().take(ADDRESSES_MAX).collect(), is_cut }
}

/// One call of `res_msend`.
struct Call<'a> {
    conf: &'a ResolvConf,
    questions: &'a [Question],
    packets: &'a mut PacketCounts,
    socket: Udp,
    replies: Vec<Option<Reply>>,
    /// Packets under way for each question.
    under_way: Vec<u64>,
    /// SERVFAILs that are still asked again at once.
    retries: usize,
}

impl<'a> Call<'a> {
    fn new(
        conf: &'a ResolvConf,
        questions: &'a [Question],
        packets: &'a mut PacketCounts,
    ) -> Result<Self, Failure> {
        let socket = Udp::unconnected(conf.used_servers()).map_err(|error| {
            if is_exhausted(&error) { Failure::NoSocket } else { Failure::TryAgain }
        })?;
        let (replies, under_way) = (vec![None; questions.len()], vec![0; questions.len()]);
        Ok(Self { conf, questions, packets, socket, replies, under_way, retries: 0 })
    }

    /// Asks until each question has its answer or time is up. Of a datagram, `octets_max` are read.
    async fn run(mut self, octets_max: usize) -> Vec<Option<Reply>> {
        let timeout = Duration::from_secs(self.conf.timeout_s().into());
        let interval = timeout / u32::from(self.conf.attempts().max(1));
        let begun = Instant::now();
        let mut buffer = Vec::new();
        let mut due = begun;
        while !self.is_done() && begun.elapsed() < timeout {
            if Instant::now() >= due {
                self.ask_all().await;
                due = Instant::now() + interval;
            }
            match self.socket.receive(&mut buffer, due).await {
                Event::TimedOut => {}
                // Nothing that musl could do about it.
                Event::Refused => sleep_until(due).await,
                Event::Datagram(from) => {
                    buffer.truncate(octets_max);
                    self.take(from, &mut buffer).await;
                }
            }
        }
        if !self.is_done() {
            self.lose();
        }
        self.replies
    }

    fn is_done(&self) -> bool {
        self.replies.iter().all(Option::is_some)
    }

    /// Sends all that is open to all servers.
    async fn ask_all(&mut self) {
        self.lose();
        for which in 0..self.questions.len() {
            if self.replies[which].is_none() {
                for server in self.conf.used_servers() {
                    self.ask(which, *server).await;
                }
            }
        }
        self.retries = SERVFAIL_RETRIES * self.questions.len();
    }

    /// Sends one question to one server. What cannot be sent is as good as lost.
    async fn ask(&mut self, which: usize, server: SocketAddr) {
        let sent = self.socket.send_to(&self.questions[which], server, self.packets).await;
        self.under_way[which] += u64::from(sent.is_ok());
    }

    /// Gives up on what is open and under way.
    fn lose(&mut self) {
        for (reply, under_way) in self.replies.iter().zip(&mut self.under_way) {
            self.packets.lost += if reply.is_none() { *under_way } else { 0 };
            *under_way = 0;
        }
    }

    async fn take(&mut self, from: SocketAddr, buffer: &mut Vec<u8>) {
        let Some(which) = self.fitting(from, buffer) else { return };
        let Some(reply) = Reply::new(std::mem::take(buffer)) else { return };
        reply.count(self.packets);
        self.under_way[which] = self.under_way[which].saturating_sub(1);
        match reply.rcode() {
            // Another server was faster.
            _ if self.replies[which].is_some() => {}
            Rcode::NOERROR | Rcode::NXDOMAIN => self.replies[which] = Some(reply),
            Rcode::SERVFAIL if self.retries > 0 => {
                self.retries -= 1;
                self.ask(which, from).await;
            }
            _ => {}
        }
    }

    /// Whether replies to a question are still to come, of any server.
    fn is_awaited(&self, which: usize) -> bool {
        self.replies[which].is_none() || self.under_way[which] > 0
    }

    /// Which question a datagram answers. musl looks at the id, and not at the question.
    fn fitting(&mut self, from: SocketAddr, message: &[u8]) -> Option<usize> {
        let is_ours = self.conf.used_servers().iter().any(|server| is_same(*server, from));
        let id = message.get(..2);
        let which = self.questions.iter().position(|it| id == it.octets().get(..2));
        match which {
            _ if message.len() < HEADER_LEN => self.packets.garbage += 1,
            Some(which) if is_ours && self.is_awaited(which) => return Some(which),
            Some(_) if is_ours => self.packets.too_late += 1,
            _ => count_misfit(Fit::Other, self.packets),
        }
        None
    }
}

#[cfg(test)]
mod tests;

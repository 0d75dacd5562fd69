//! `InetAddress` of the JVM: glibc's resolver behind a cache and a lock per name.
//!
//! ```text
//! host ─► kept? ─► answer                      30 s an answer, 10 s a failure of any kind
//!           └────► the name's lock ─► glibc    whoever else wants the name waits for that
//! ```
//!
//! As java.net.InetAddress of JDK 17 without a SecurityManager. All failures are
//! UnknownHostException.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::glibc::Glibc;
use super::kept::Kept as Names;
use super::{Failure, Found, Records, ResolvConf};
use crate::load::record::PacketCounts;
use crate::wire::{Name, RecordType};

/// How long an answer is kept (`networkaddress.cache.ttl`, without a SecurityManager).
pub const KEPT: Duration = Duration::from_secs(30);
/// How long a failure is kept (`networkaddress.cache.negative.ttl`).
pub const FAILURE_KEPT: Duration = Duration::from_secs(10);

/// One process.
pub struct Jvm {
    libc: Glibc,
    names: Mutex<Names<String, Arc<Slot>>>,
}

/// The place of a name. Held while the name is looked up: the lock is what is simulated.
type Slot = tokio::sync::Mutex<Option<Kept>>;

/// What was found, and when.
struct Kept {
    result: Result<Records, Failure>,
    is_denied: bool,
    is_cut: bool,
    /// When it was asked for: it was true then, if at all.
    asked: Instant,
    /// When it came: it is kept from there on.
    at: Instant,
}

impl Jvm {
    /// A fresh process.
    pub fn new(conf: Arc<ResolvConf>, seed: u64) -> Self {
        Self { libc: Glibc::new(conf, seed), names: Mutex::default() }
    }

    /// Addresses of a host.
    pub async fn addresses(&self, host: &str) -> Found {
        let Some(slot) = self.slot(host) else { return self.look_up(host).await };
        let mut kept = slot.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.is_fresh()) {
            return kept.found();
        }
        let asked = Instant::now();
        let found = self.look_up(host).await;
        let (result, at) = (found.result.clone(), Instant::now());
        let Found { is_denied, is_cut, .. } = found;
        // It is not the JVM who has no socket, but we.
        let is_its = result != Err(Failure::NoSocket);
        *kept = is_its.then_some(Kept { result, is_denied, is_cut, asked, at });
        found
    }

    /// Records of an absolute name. They are not kept.
    pub async fn query(&self, name: &Name, rtype: RecordType) -> Found {
        thrown(self.libc.query(name, rtype).await)
    }

    async fn look_up(&self, host: &str) -> Found {
        thrown(self.libc.addresses(host).await)
    }

    /// The place of a name, if there is one left.
    fn slot(&self, host: &str) -> Option<Arc<Slot>> {
        let mut names = self.names.lock();
        if let Some(slot) = names.get(host) {
            return Some(Arc::clone(slot));
        }
        let slot: Arc<Slot> = Arc::default();
        names.insert(host.to_owned(), Arc::clone(&slot), is_needed).then_some(slot)
    }
}

impl Kept {
    fn is_fresh(&self) -> bool {
        let kept = if self.result.is_ok() { KEPT } else { FAILURE_KEPT };
        self.at.elapsed() < kept
    }

    fn found(&self) -> Found {
        Found {
            result: self.result.clone(),
            packets: PacketCounts::default(),
            is_cached: true,
            age: self.asked.elapsed(),
            is_denied: self.is_denied,
            is_cut: self.is_cut,
        }
    }
}

/// Whether somebody looks the name up, or what was found is fresh.
fn is_needed(slot: &Arc<Slot>) -> bool {
    Arc::strong_count(slot) > 1
        || slot.try_lock().map_or(true, |kept| kept.as_ref().is_some_and(Kept::is_fresh))
}

/// UnknownHostException, whatever it was.
fn thrown(found: Found) -> Found {
    let result = found.result.map_err(|failure| match failure {
        Failure::TryAgain | Failure::UnknownHost => Failure::UnknownHost,
        Failure::NoSocket => Failure::NoSocket,
    });
    Found { result, ..found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::resolver::scripted::{self, Act, Flow, Server};
    use crate::wire::Rcode;

    fn client(server: &Server) -> Jvm {
        let conf = ResolvConf::default().with_servers(vec![server.address]);
        Jvm::new(Arc::new(conf), 1)
    }

    #[tokio::test(start_paused = true)]
    async fn answers_are_kept_for_thirty_seconds() {
        let _flow = Flow::start();
        let server = Server::fixed(Rcode::NOERROR, &["10.0.0.1"]);
        let client = client(&server);
        assert!(!client.addresses("web.").await.is_cached);
        tokio::time::sleep(KEPT - Duration::from_secs(1)).await;
        let found = client.addresses("web.").await;
        assert!(found.is_cached && found.result.is_ok() && found.age >= FAILURE_KEPT);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(!client.addresses("web.").await.is_cached);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_failure_is_an_unknown_host_for_ten_seconds() {
        let _flow = Flow::start();
        let server = Server::fixed(Rcode::SERVFAIL, &[]);
        let client = client(&server);
        for is_cached in [false, true] {
            let found = client.addresses("web.").await;
            assert_eq!((found.result, found.is_cached), (Err(Failure::UnknownHost), is_cached));
        }
        tokio::time::sleep(FAILURE_KEPT).await;
        assert!(!client.addresses("web.").await.is_cached);
    }

    #[tokio::test(start_paused = true)]
    async fn the_age_of_an_answer_counts_from_its_question() {
        let _flow = Flow::start();
        // AAAA comes with the second attempt, 5 s later.
        let mut turn = 0;
        let server = Server::start(move |asked| {
            turn += 1;
            let reply = scripted::reply(&asked.packet, Rcode::NOERROR, &["10.0.0.1"]);
            if turn == 2 { vec![] } else { vec![Act::Send(reply)] }
        });
        let (client, begun) = (client(&server), Instant::now());
        assert!(!client.addresses("web.").await.is_cached);
        assert!(begun.elapsed() >= Duration::from_secs(5));
        assert!(client.addresses("web.").await.age >= Duration::from_secs(5));
        // Kept from the end on.
        tokio::time::sleep(KEPT - Duration::from_secs(1)).await;
        assert!(client.addresses("web.").await.is_cached);
    }

    #[tokio::test(start_paused = true)]
    async fn who_wants_a_name_that_is_looked_up_waits_for_it() {
        let _flow = Flow::start();
        let server = Server::fixed(Rcode::NOERROR, &["10.0.0.1"]);
        let client = client(&server);
        let both = tokio::join!(client.addresses("web."), client.addresses("web."));
        assert!(!both.0.is_cached && both.1.is_cached);
        assert_eq!(both.0.result, both.1.result);
    }
}

//! Tells secondaries that the cluster has changed: NOTIFY (RFC 1996).
//!
//! One task per secondary, so that one that is away delays nobody. A change on an idle server is
//! told at once; under churn a secondary is told when another copy is handed out, and what came in
//! between is told together.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::cluster::zone::Zone;
use crate::forward;
use crate::resolve::transfer::Transfer;
use crate::wire::{Name, Rcode};

/// Times that a NOTIFY is sent until it is answered (RFC 1996 §3.6).
pub const TRIES_MAX: u32 = 5;
/// Time for the answer to the first; doubled for each further one.
pub const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
/// How often it is told that a secondary does not answer.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

/// Starts the tasks of one directive. They end with `tasks`.
pub fn start(transfer: &Arc<Transfer>, tasks: &mut JoinSet<()>) {
    transfer.begin();
    for secondary in &transfer.config.to {
        tasks.spawn(tell(transfer.clone(), *secondary));
    }
}

/// Tells one secondary of every change.
async fn tell(transfer: Arc<Transfer>, secondary: SocketAddr) {
    let mut generations = transfer.published().generations();
    let mut complaints = Complaints::of(secondary);
    let mut seen = 0;
    loop {
        let newer = generations.wait_for(|generation| *generation > seen).await;
        // The sender lives as long as the Published that `transfer` holds.
        let Ok(newest) = newer.map(|generation| *generation) else { return };
        // Whoever is told comes at once, and must not get what was handed out before. Not more than
        // one wait: under churn others may always be a moment earlier, with a Zone that is new too.
        if let Some(at) = transfer.published().next_copy(Instant::now().into_std()) {
            sleep_until(at.into()).await;
        }
        let Some(zone) = transfer.offered(Instant::now().into_std()) else {
            // What will be offered has another generation.
            seen = newest;
            continue;
        };
        if zone.generation <= seen {
            continue;
        }
        seen = zone.generation;
        tell_of(&transfer, &zone, &mut complaints).await;
    }
}

/// Tells a secondary that this Zone can be had.
async fn tell_of(transfer: &Transfer, zone: &Arc<Zone>, complaints: &mut Complaints) {
    let counters = transfer.counters();
    for apex in transfer.apexes() {
        let notice = transfer.notice(apex, zone);
        match notify(&notice, transfer.config.source, complaints.secondary).await {
            Ok(()) => {
                counters.notified.fetch_add(1, Ordering::Relaxed);
                complaints.forget(apex);
            }
            Err(Untold::Refused(rcode)) => {
                counters.declined.fetch_add(1, Ordering::Relaxed);
                complaints.refused(apex, rcode);
            }
            Err(Untold::Away(why)) => {
                counters.unanswered.fetch_add(1, Ordering::Relaxed);
                complaints.away(apex, &why);
                // It will not hear of the others either; its own refresh brings them all.
                return;
            }
        }
    }
}

/// Why a secondary does not know of a change.
enum Untold {
    /// It does not want to. It may serve some of the zones, so the others are told.
    Refused(Rcode),
    /// Nobody answers.
    Away(String),
}

/// Sends one NOTIFY until it is answered.
async fn notify(
    notice: &[u8],
    source: Option<IpAddr>,
    secondary: SocketAddr,
) -> Result<(), Untold> {
    let mut why = String::new();
    for attempt in 0..TRIES_MAX {
        let begun = Instant::now();
        let until = begun + FIRST_TIMEOUT * 2u32.pow(attempt);
        match forward::notify(notice, source, secondary, until).await {
            Ok(Rcode::NOERROR) => return Ok(()),
            // RFC 1996 §3.6: any answer ends the tries.
            Ok(rcode) => return Err(Untold::Refused(rcode)),
            Err(failure) => why = failure.to_string(),
        }
        // A port that is closed fails at once, and may be open when its program has started.
        sleep_until(until).await;
    }
    Err(Untold::Away(why))
}

/// What was logged of a secondary, so that it is not logged at each change.
struct Complaints {
    secondary: SocketAddr,
    away: Option<Instant>,
    /// The zones that it refuses.
    refused: Vec<Name>,
}

impl Complaints {
    fn of(secondary: SocketAddr) -> Self {
        Self { secondary, away: None, refused: Vec::new() }
    }

    /// It takes this zone.
    fn forget(&mut self, apex: &Name) {
        self.refused.retain(|it| it != apex);
    }

    /// Once per zone: whoever serves some of the zones answers so each time.
    fn refused(&mut self, apex: &Name, rcode: Rcode) {
        if self.refused.contains(apex) {
            return;
        }
        self.refused.push(apex.clone());
        tracing::warn!(
            plugin = "transfer",
            "secondary {} answers {rcode} when it is told that {apex} has changed; unless it \
             serves that zone, name the zones that it does behind \"transfer\"",
            self.secondary
        );
    }

    fn away(&mut self, apex: &Name, why: &str) {
        if self.away.is_none_or(|last| last.elapsed() >= TELL_INTERVAL) {
            self.away = Some(Instant::now());
            tracing::warn!(
                plugin = "transfer",
                "secondary {} was not told that {apex} has changed: {why}; see whether it runs and \
                 takes UDP there; until then it follows at its own refresh",
                self.secondary
            );
        }
    }
}

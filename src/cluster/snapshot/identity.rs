//! Which cluster it is that the API server shows: asked as soon as it answers, and again until it
//! is known. Watches that go on from a Snapshot wait for it, and nothing else does.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Keeping;
use crate::cluster::config::Source;
use crate::cluster::connect::ApiServer;
use crate::cluster::feed::Feed;
use crate::cluster::live::Identity;
use crate::cluster::watch::{Told, ask_uid};

/// First and longest pause before an API server is asked again. Short: watches wait for it.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// The same after one that does not want to tell, which costs full lists and no more.
const UNTOLD_PAUSE: Duration = Duration::from_secs(5 * 60);
/// How long an API server that answers may leave open which cluster it is. One that starts denies
/// everything for a moment, for it does not know its roles yet; and watches do not wait for ever.
const PATIENCE: Duration = Duration::from_secs(30);
/// First and longest wait for an answer. It is one small object, and watches wait for it; but one
/// that is as slow as this is waited for, as lists are.
const ANSWER: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// How often somebody may come to want a Snapshot, by a reload.
const PLACE_INTERVAL: Duration = Duration::from_secs(5);
/// How often it is told that an API server is away.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

/// What is known of the UID of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::cluster) enum Uid {
    /// The API server has not answered yet.
    Unknown,
    /// It does not tell.
    Untold,
    Is(String),
}

/// Finds out which cluster it is, if anybody wants a Snapshot of it.
pub(in crate::cluster) async fn learn(
    identity: &Identity,
    feed: &Arc<Feed>,
    keeping: &Arc<Keeping>,
) {
    if matches!(identity.source, Source::Manifests(_) | Source::Embedded(_)) {
        return;
    }
    let mut server = None;
    let mut pause = PAUSE.0;
    let mut doubt = Doubt::default();
    let mut patience = ANSWER.0;
    let mut told: Option<Instant> = None;
    loop {
        // A start from a Snapshot waits for what is learnt, also where nothing is kept any more.
        while keeping.place().is_none() && keeping.restored_uid().is_none() {
            sleep(PLACE_INTERVAL).await;
        }
        let begun = Instant::now();
        let asked = ask(&mut server, identity, feed, patience).await;
        patience = more_patience(patience, begun.elapsed());
        pause = (pause * 2).min(PAUSE.1);
        let is_over = doubt.is_over(&asked, Instant::now());
        if is_over {
            keeping.tell_uid(Uid::Untold);
        }
        let why = match asked {
            Told::Uid(uid) => return keeping.tell_uid(Uid::Is(uid)),
            Told::Nothing(why) => {
                pause = if is_over { UNTOLD_PAUSE } else { pause };
                why
            }
            Told::Busy(why) | Told::Away(why) => why,
        };
        if told.is_none_or(|told| told.elapsed() >= TELL_INTERVAL) {
            told = Some(Instant::now());
            tell(keeping, &why);
        }
        sleep(pause.mul_f64(rand::random_range(0.75..1.0))).await;
    }
}

/// How long the next answer is waited for, when one took that long or did not come.
fn more_patience(patience: Duration, took: Duration) -> Duration {
    if took < patience { patience } else { (patience * 2).min(ANSWER.1) }
}

/// Since when an API server answers, and does not tell which cluster it is of.
#[derive(Default)]
struct Doubt(Option<Instant>);

impl Doubt {
    /// Whether that has lasted long enough to go on without knowing.
    fn is_over(&mut self, told: &Told, now: Instant) -> bool {
        match told {
            Told::Away(_) | Told::Uid(_) => false,
            Told::Nothing(_) | Told::Busy(_) => now - *self.0.get_or_insert(now) >= PATIENCE,
        }
    }
}

/// Without a Snapshot the watches say what is wrong.
fn tell(keeping: &Keeping, why: &str) {
    if keeping.restored_uid().is_some() {
        tracing::warn!(
            plugin = "kubernetes",
            "{why}; that leaves open whether the Snapshot is of this cluster; answering from it"
        );
    }
}

async fn ask(
    server: &mut Option<Arc<ApiServer>>,
    Identity { source, scope }: &Identity,
    feed: &Arc<Feed>,
    patience: Duration,
) -> Told {
    if server.is_none() {
        match ApiServer::open(source, scope.api).await {
            Ok(opened) => *server = Some(Arc::new(opened)),
            Err(error) => return Told::Away(error.to_string()),
        }
    }
    match server {
        Some(server) => ask_uid(server, feed, patience).await,
        None => Told::Away("bug: no API server".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p7_an_api_server_that_is_slow_is_waited_for_as_long_as_it_is_for_lists() {
        let next = |patience, took_s| more_patience(patience, Duration::from_secs(took_s));
        assert_eq!(next(ANSWER.0, 1), ANSWER.0, "who refuses at once is not slow");
        let mut patience = ANSWER.0;
        for _ in 0..4 {
            patience = next(patience, patience.as_secs());
        }
        assert_eq!(patience, crate::cluster::watch::Timing::default().answer);
    }

    #[test]
    fn p7_a_refusal_is_repeated_for_half_a_minute_before_it_counts() {
        let begun = Instant::now();
        for told in [Told::Nothing(String::new()), Told::Busy(String::new())] {
            let mut doubt = Doubt::default();
            assert!(!doubt.is_over(&Told::Away(String::new()), begun));
            let begun = begun + 10 * PATIENCE;
            assert!(!doubt.is_over(&told, begun));
            assert!(!doubt.is_over(&told, begun + PATIENCE / 2));
            assert!(!doubt.is_over(&Told::Away(String::new()), begun + PATIENCE));
            assert!(doubt.is_over(&told, begun + PATIENCE), "and then watches wait no more");
        }
    }
}

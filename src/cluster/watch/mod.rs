//! Watching one kind of object: list, follow, resume, and never give up.
//!
//! ```text
//!            ┌───────── version forgotten: 410, a version went backwards, a list is due ─────────┐
//!            ▼                                                                                   │
//!   list ──► follow ──► ended, cut, stalled, refused, unreachable ──► wait ──► resume from version
//! ```
//!
//! A watch may lie: stall without an end (`follow` resumes it, then lists), omit events (`canary`
//! counts, full lists compare with what was `seen`), or come from a replica that lags (`doubts`).
//!
//! Written by us because a stock reflector keeps a second copy of all objects, cannot resume, and
//! notices a silent server only after minutes. What the Index holds stays until a full list is
//! complete: a server that is away, or fails in the middle of a list, empties nothing.

mod api;
mod backoff;
mod canary;
mod doubts;
mod follow;
mod lines;
mod list;
mod missing;
mod notices;
mod seen;
#[cfg(test)]
mod tests;
mod trouble;
mod uid;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep};

use crate::cluster::connect::ApiServer;
use crate::cluster::feed::{Fault, Feed};
use crate::cluster::flaws::Flaws;
use crate::cluster::object::Kind;
use crate::cluster::outlet::Outlet;
use crate::cluster::read::Bookmark;
use crate::cluster::watch::api::Api;
use crate::cluster::watch::backoff::Backoff;
use crate::cluster::watch::canary::Canary;
use crate::cluster::watch::doubts::Doubts;
use crate::cluster::watch::list::Style;
use crate::cluster::watch::missing::Lack;
use crate::cluster::watch::notices::Notices;
use crate::cluster::watch::seen::Seen;
use crate::cluster::watch::trouble::Trouble;
pub(super) use crate::cluster::watch::uid::{Told, ask as ask_uid};

/// How patient a watch is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Longest wait for the head of an answer, and between pieces of a page.
    pub answer: Duration,
    /// Longest silence in the first streaming list; then pages are tried.
    pub progress: Duration,
    /// Longest wait for a piece of a list that is due while a watch could go on: until it is there
    /// or given up, we are told of no change.
    pub due: Duration,
    /// Longest streaming list; then pages are tried. Long, because a large cluster over a slow
    /// link must not be cut off.
    pub streaming: Duration,
    /// Longest silence of a watch. Servers send a bookmark every minute, up to 2 s late
    /// (kube-apiserver, `defaultBookmarkFrequency`).
    pub silence: Duration,
    /// A watch that was open this long was no failure, even if nothing happened.
    pub steady: Duration,
    /// First and longest wait before a watch is resumed. Short: a resume costs the server one
    /// request, and until it succeeds our picture ages.
    pub backoff: (Duration, Duration),
    /// First and longest wait before a full list, which is dear (as client-go).
    pub relist_backoff: (Duration, Duration),
    /// First and longest wait before an API that is missing is looked for again. The first is
    /// short, because a server that starts does not know its roles and resources yet; the longest
    /// is for a cluster that will never have it.
    pub missing: (Duration, Duration),
    /// `timeoutSeconds` of watches, shortest and longest: spread, so that not all end at once.
    pub watch_s: (u32, u32),
    /// Time between full lists that look for omitted events, ±10 %: what is omitted is repaired
    /// within ten minutes, where a list takes less than half a minute. Of Pods too, which are many
    /// and come whole: some KiB each, so hundreds of MiB for 150 000. Only `pods verified` asks for
    /// them.
    pub reconcile: Duration,
    /// The same after a line that could not be read, and after a list that had to repair something.
    pub doubt: Duration,
    /// When a position from before the start is checked with a full list, shortest and longest: it
    /// may come from a past that lied.
    pub proof_s: (u64, u64),
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(60),
            progress: Duration::from_secs(10),
            due: Duration::from_secs(20),
            streaming: Duration::from_secs(120),
            silence: Duration::from_secs(68),
            steady: Duration::from_secs(5),
            backoff: (Duration::from_millis(500), Duration::from_secs(5)),
            relist_backoff: (Duration::from_millis(800), Duration::from_secs(30)),
            missing: (Duration::from_secs(5), Duration::from_secs(5 * 60)),
            watch_s: (240, 294),
            reconcile: Duration::from_secs(8 * 60),
            doubt: Duration::from_secs(2 * 60),
            proof_s: (20, 50),
        }
    }
}

/// What an API server answers that was asked for a version that it has not come to (`Too large
/// resource version`).
const TOO_NEW: u16 = 504;
/// A full list that is older than this makes the next one no repetition.
const RELIST_QUIET: Duration = Duration::from_secs(60);
/// Wait after a panic, which is a bug of ours, before all is listed anew.
const PANIC_PAUSE: Duration = Duration::from_secs(5);

/// The watch of one kind.
struct Watcher {
    kind: Kind,
    api: Api,
    outlet: Outlet,
    feed: Arc<Feed>,
    timing: Timing,
    /// Where to resume; `None` asks for a full list.
    version: Option<String>,
    /// The last position that the server reported, kept when a full list is asked for.
    passed: Option<String>,
    style: Style,
    page_size: u32,
    seen: Seen,
    flaws: Flaws,
    notices: Notices,
    failures: Backoff,
    relists: Backoff,
    /// Lists that were due and did not come.
    put_offs: Backoff,
    lacks: Backoff,
    lack: Lack,
    doubts: Doubts,
    canary: Canary,
    listed_at: Option<Instant>,
    /// When as many full lists may come as at the start.
    lists_full_at: Instant,
    reconcile_at: Instant,
    /// A full list is to come now, and if it fails the watch goes on.
    is_due: bool,
    /// When the last line arrived, or the watch was opened.
    heard_at: Instant,
    /// The last watch did its work before it ended.
    was_steady: bool,
    /// A watch fell silent, and nothing was heard since.
    was_silent: bool,
}

/// What an event was.
#[derive(Debug)]
enum Taken {
    /// An object at this version, which may be empty.
    Object(Box<str>),
    Bookmark(Bookmark),
    /// Counted and left out.
    Nothing,
}

/// Watches `kind` until nobody receives Changes any more, from a position on if there is one. A
/// panic begins anew with a full list.
pub(super) async fn run(
    kind: Kind,
    server: Arc<ApiServer>,
    outlet: Outlet,
    feed: Arc<Feed>,
    timing: Timing,
    position: Option<String>,
) {
    let mut position = position;
    loop {
        let mut watcher = Watcher::new(kind, &server, &outlet, &feed, timing);
        if let Some(position) = position.take() {
            let (shortest, longest) = timing.proof_s;
            let after = Duration::from_secs(rand::random_range(shortest..=longest));
            watcher.reconcile_at = Instant::now() + after;
            watcher.passed = Some(position.clone());
            watcher.version = Some(position);
        }
        if AssertUnwindSafe(watcher.run()).catch_unwind().await.is_ok() {
            return;
        }
        tracing::error!(resource = kind.resource(), "bug: the watch panicked; it begins anew");
        sleep(PANIC_PAUSE).await;
    }
}

impl Watcher {
    fn new(
        kind: Kind,
        server: &Arc<ApiServer>,
        outlet: &Outlet,
        feed: &Arc<Feed>,
        timing: Timing,
    ) -> Self {
        let api = Api::new(kind, outlet.scope(), Arc::clone(server), Arc::clone(feed), timing);
        let backoff = |(shortest, longest)| Backoff::new(shortest, longest);
        let now = Instant::now();
        Self {
            kind,
            api,
            outlet: outlet.clone(),
            feed: Arc::clone(feed),
            timing,
            version: None,
            passed: None,
            style: Style::Streaming,
            page_size: list::PAGE_SIZE,
            seen: Seen::default(),
            flaws: Flaws::default(),
            notices: Notices::default(),
            failures: backoff(timing.backoff),
            relists: backoff(timing.relist_backoff),
            put_offs: backoff((list::LIST_PAUSE, timing.reconcile)),
            lacks: backoff(timing.missing),
            lack: Lack::default(),
            doubts: Doubts::default(),
            canary: Canary::new(now),
            listed_at: None,
            lists_full_at: now,
            reconcile_at: now + timing.reconcile,
            is_due: false,
            heard_at: now,
            was_steady: false,
            was_silent: false,
        }
    }

    async fn run(mut self) {
        loop {
            self.was_steady = false;
            let why = match self.open().await {
                Ok(lines) => self.follow(lines).await,
                Err(why) => why,
            };
            if matches!(why, Trouble::Hangup) {
                return;
            }
            self.note(&why).await;
            let pause = self.pause(&why).max(self.until_list());
            tokio::select! {
                () = sleep(pause) => {}
                () = self.outlet.closed() => return,
            }
        }
    }

    /// Opens a stream of changes, after a full list if the position is unknown or a list is due.
    async fn open(&mut self) -> Result<lines::Lines, Trouble> {
        if self.version.is_none() || std::mem::take(&mut self.is_due) {
            match self.list_what_is_there().await {
                Ok(Some(lines)) => return Ok(lines),
                Ok(None) => {}
                Err(why) if self.version.is_none() || matches!(why, Trouble::Hangup) => {
                    return Err(why);
                }
                Err(why) => self.put_off(why).await?,
            }
        }
        self.api.resume(self.version.as_deref().unwrap_or_default()).await
    }

    /// Counts and tells why a list or watch ended, and has credentials read again if need be.
    async fn note(&mut self, why: &Trouble) {
        if !matches!(why, Trouble::Absent(_)) {
            self.forget_absence();
        }
        let Some(fault) = why.fault() else { return };
        self.feed.kind(self.kind).fail(fault);
        self.count_refusal(why);
        if self.is_bearable(why) {
            self.tell_lack(why, fault);
        } else if let Some(held_back) = self.notices.tell(fault, Instant::now()) {
            self.tell(why, fault, held_back);
        }
        if matches!(fault, Fault::Unauthorized | Fault::Unreachable) {
            self.api.renew().await;
        }
    }

    /// Counts what shows that the server is behind us: asked for what is newer, it gives up (504).
    fn count_refusal(&mut self, why: &Trouble) {
        let is_behind = match why {
            Trouble::Older { .. } | Trouble::Backwards { .. } => true,
            Trouble::Server { code, .. } => self.not_older().is_some() && *code == TOO_NEW,
            _ => false,
        };
        if is_behind {
            self.doubts.refuse(self.passed.as_deref());
        }
    }

    fn tell(&self, why: &Trouble, fault: Fault, held_back: u64) {
        let (resource, remedy) = (self.resource(), self.remedy(fault));
        // API servers restart and forget; a watch that goes on after that needs nobody.
        if matches!(fault, Fault::Cut | Fault::Expired) {
            tracing::info!(resource, held_back, "{why}; answering from what is known");
        } else {
            tracing::warn!(resource, held_back, "{why}{remedy}; answering from what is known");
        }
    }

    /// What the operator should do, to be put after the fault.
    fn remedy(&self, fault: Fault) -> String {
        match fault {
            Fault::Unauthorized => format!("; {}", self.api.remedy()),
            Fault::Forbidden => format!(
                "; let a ClusterRole of our ServiceAccount allow the verbs list and watch on the \
                 resource {} of the apiGroup \"{}\"",
                self.resource(),
                self.api.resource().group,
            ),
            _ => String::new(),
        }
    }

    /// How long to wait before the next try; decides whether that is a full list.
    fn pause(&mut self, why: &Trouble) -> Duration {
        if self.was_steady {
            self.failures.succeed();
        }
        match why {
            _ if self.is_bearable(why) => self.pause_of_lack(why),
            Trouble::Ended => Duration::ZERO,
            Trouble::Due => {
                self.is_due = true;
                Duration::ZERO
            }
            // It has waited long enough, and only another try shows whether the server is there.
            Trouble::Stalled(_) if self.was_steady && self.failures.failures() == 0 => {
                self.failures.fail();
                Duration::ZERO
            }
            Trouble::Expired(_) | Trouble::Backwards { .. } | Trouble::Older { .. } => {
                self.pause_before_list()
            }
            // What is in their place has versions of its own.
            Trouble::Absent(_) if self.kind == Kind::Slice => self.pause_of_slices(why),
            _ => why.wait(self.failures.fail()),
        }
    }

    /// Full lists are dear, so a server that forgets at once is asked ever more slowly.
    fn pause_before_list(&mut self) -> Duration {
        self.version = None;
        if self.listed_at.is_some_and(|at| at.elapsed() >= RELIST_QUIET) {
            self.relists.succeed();
        }
        self.relists.fail()
    }

    /// The watch works (again).
    fn recover(&mut self) {
        if self.failures.failures() > 0 {
            let failures = self.failures.failures();
            tracing::info!(resource = self.resource(), failures, "watching again");
        }
        self.failures.succeed();
    }

    fn stand_at(&mut self, version: &str) {
        self.feed.kind(self.kind).set_version(version);
        for kept in [&mut self.version, &mut self.passed] {
            let kept = kept.get_or_insert_default();
            kept.clear();
            kept.push_str(version);
        }
    }

    /// Something was left out that may matter, so the next full list comes sooner.
    fn doubt(&mut self, what: &str) {
        let now = Instant::now();
        self.feed.kind(self.kind).fail(Fault::Garbage);
        if let Some(held_back) = self.notices.tell(Fault::Garbage, now) {
            let resource = self.resource();
            tracing::warn!(resource, held_back, "{what}; it is left out, a full list follows");
        }
        self.list_soon(now + self.timing.doubt);
    }
}

//! What is known of a source: per kind how fresh it is and what went wrong, and the requests.
//!
//! Sources write, `ops` reads; every field stands for itself, so relaxed order is enough.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::cluster::config::Scope;
use crate::cluster::object::Kind;

/// The state of one source. Outlives it: a source that starts again goes on counting.
#[derive(Debug)]
pub struct Feed {
    started: Instant,
    watched: Vec<Kind>,
    kinds: [KindFeed; Kind::ALL.len()],
    pub requests: Requests,
}

/// The state of one kind.
#[derive(Debug, Default)]
pub struct KindFeed {
    synced: AtomicBool,
    /// What is known is from before the start, and the source has not confirmed it.
    restored: AtomicBool,
    following: AtomicBool,
    /// The source does not have the kind, so there is nothing that could be old.
    absent: AtomicBool,
    /// Milliseconds from the start to the last event, plus one; 0 before the first.
    heard: AtomicU64,
    /// The same of the last watch that ended otherwise than by its silence.
    left: AtomicU64,
    version: Mutex<String>,
    /// Watches that were opened after another one had ended.
    pub restarts: Count,
    /// Full lists that were completed, the first one included.
    pub relists: Count,
    /// Objects that made no sense and were left out, as a whole or in part.
    pub skipped: Count,
    /// Objects that cannot change an answer: slices of no Service or of host names, Pods without an
    /// address.
    pub foreign: Count,
    /// Endpoint addresses that were left out.
    pub dropped_addresses: Count,
    /// Objects of a full list that the watch should have told us of before.
    pub repairs: Count,
    /// Lists, and objects of them, that were older than what we hold, and so were refused.
    pub outdated: Count,
    /// Services that lost their last endpoint and kept it for a moment, for slices move.
    pub held: Count,
    errors: [Count; Fault::ALL.len()],
}

/// An open watch: however its task ends, nobody takes it for open after that.
#[must_use = "dropping it ends the watch"]
pub(super) struct Following {
    feed: Arc<Feed>,
    kind: Kind,
    is_silent: bool,
}

impl Following {
    /// Ends a watch that was silent for too long: it kept nothing fresh since it was last heard.
    pub(super) fn end_silent(mut self) {
        self.is_silent = true;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let state = self.feed.kind(self.kind);
        state.set_following(false);
        if !self.is_silent {
            state.left.store(self.feed.stamp(Instant::now()), Relaxed);
        }
    }
}

/// What can go wrong with a source, as a label of metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// No connection, or no answer.
    Unreachable,
    /// HTTP 401.
    Unauthorized,
    /// HTTP 403.
    Forbidden,
    /// HTTP 429.
    Throttled,
    /// HTTP or in-stream 410: our resource version is too old.
    Expired,
    /// Other HTTP 4xx.
    Refused,
    /// HTTP 5xx.
    Server,
    /// A stream that ended inside of a line, or before it said anything.
    Cut,
    /// A line that is no event, or is too long; a file that is no manifest.
    Garbage,
    /// A stream on which nothing arrived for too long.
    Stalled,
    /// A resource version older than one that we had.
    Backwards,
    /// The server counts other objects than the watch has told of.
    Omitted,
}

/// A counter.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

/// The requests to the API server (`coredns_kubernetes_rest_client_*`).
#[derive(Debug, Default)]
pub struct Requests {
    host: OnceLock<String>,
    /// By status code; 0 is no answer. HTTP has at most 900 codes, so this is bounded.
    codes: Mutex<BTreeMap<u16, u64>>,
    /// From a request to the headers of its answer.
    pub answers: Durations,
    /// What requests were held up by our own rate limit, most of them not at all.
    pub waits: Durations,
}

/// How long things took.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [Count; BUCKETS_S.len()],
    count: Count,
    sum_us: Count,
}

/// The one verb that we use: lists and watches are both GET.
pub const METHOD: &str = "GET";
/// Upper bounds of [`Durations`], in seconds (Prometheus default, as CoreDNS has it).
pub const BUCKETS_S: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

impl Feed {
    /// A Feed of the kinds in `scope` that tells ages from `started` on.
    pub fn new(started: Instant, scope: &Scope) -> Self {
        let (watched, kinds) = (scope.kinds().collect(), Default::default());
        Self { started, watched, kinds, requests: Requests::default() }
    }

    /// The kinds that are watched.
    pub fn watched(&self) -> &[Kind] {
        &self.watched
    }

    /// The state of `kind`.
    pub fn kind(&self, kind: Kind) -> &KindFeed {
        &self.kinds[kind as usize]
    }

    /// The watched kinds that names of Services wait for, because they were never listed.
    pub(super) fn awaited(&self) -> impl Iterator<Item = Kind> {
        let awaited = self.watched.iter().filter(|kind| !self.kind(**kind).is_synced());
        awaited.copied().filter(|kind| Kind::OF_SERVICES.contains(kind))
    }

    /// Whether names of Services are from before the start, as far as one of their kinds goes.
    pub(super) fn is_restored(&self) -> bool {
        Kind::OF_SERVICES.into_iter().any(|kind| self.kind(kind).is_restored())
    }

    /// Notes that a watch of `kind` is open, until what is answered is dropped.
    pub(super) fn follow(self: &Arc<Self>, kind: Kind) -> Following {
        self.kind(kind).set_following(true);
        Following { feed: Arc::clone(self), kind, is_silent: false }
    }

    /// When something was last heard of `kind`.
    pub fn heard_at(&self, kind: Kind) -> Option<Instant> {
        self.time(self.kind(kind).heard.load(Relaxed))
    }

    /// When `kind` was last known to be as in the cluster: now, while a watch is open that is not
    /// silent; else when that ended, or when something was heard beside it.
    pub(super) fn fresh_at(&self, kind: Kind, now: Instant) -> Option<Instant> {
        let state = self.kind(kind);
        if state.is_following() {
            return Some(now);
        }
        self.time(state.heard.load(Relaxed).max(state.left.load(Relaxed)))
    }

    /// Notes that a watch of `kind` was opened, or that an event, a bookmark or a list arrived.
    pub(super) fn hear(&self, kind: Kind, now: Instant) {
        self.kind(kind).heard.store(self.stamp(now), Relaxed);
    }

    /// Milliseconds from the start to a time, plus one.
    fn stamp(&self, at: Instant) -> u64 {
        let ms = at.saturating_duration_since(self.started).as_millis();
        u64::try_from(ms).unwrap_or(u64::MAX - 1) + 1
    }

    /// The time of such a stamp; none for 0.
    fn time(&self, stamp: u64) -> Option<Instant> {
        Some(self.started + Duration::from_millis(stamp.checked_sub(1)?))
    }

    /// Notes that `kind` is known at `version` from before the start. It counts as listed, and as
    /// stale until the source confirms it.
    pub(super) fn restore(&self, kind: Kind, version: &str) {
        let state = self.kind(kind);
        state.set_version(version);
        state.synced.store(true, Relaxed);
        state.restored.store(true, Relaxed);
    }

    /// Notes that nothing is known: what was from before the start is of another cluster.
    pub(super) fn forget(&self) {
        for state in &self.kinds {
            state.set_version("");
            state.synced.store(false, Relaxed);
            state.confirm();
            state.set_absent(false);
        }
    }
}

impl KindFeed {
    /// Whether all objects are known: by a full list, or from before the start.
    pub fn is_synced(&self) -> bool {
        self.synced.load(Relaxed)
    }

    /// Whether what is known is from before the start, and the source has not confirmed it.
    pub fn is_restored(&self) -> bool {
        self.restored.load(Relaxed)
    }

    /// Whether a watch is open.
    pub fn is_following(&self) -> bool {
        self.following.load(Relaxed)
    }

    /// The resource version that has arrived; empty without one.
    pub fn version(&self) -> String {
        self.version.lock().clone()
    }

    /// How often `fault` happened.
    pub fn errors(&self, fault: Fault) -> u64 {
        self.errors[fault as usize].value()
    }

    /// Counts a fault.
    pub(super) fn fail(&self, fault: Fault) {
        self.errors[fault as usize].add(1);
    }

    /// Notes a complete list.
    pub(super) fn listed(&self) {
        self.relists.add(1);
        self.synced.store(true, Relaxed);
        self.confirm();
        self.set_absent(false);
    }

    /// Whether the source does not have the kind.
    pub(super) fn is_absent(&self) -> bool {
        self.absent.load(Relaxed)
    }

    /// Notes whether the source has the kind.
    pub(super) fn set_absent(&self, is_absent: bool) {
        self.absent.store(is_absent, Relaxed);
    }

    /// Notes that a watch was opened or has ended.
    pub(super) fn set_following(&self, is_following: bool) {
        self.following.store(is_following, Relaxed);
    }

    /// Notes that the source has confirmed what is from before the start: by a full list, or by an
    /// event of a watch that goes on from there.
    pub(super) fn confirm(&self) {
        self.restored.store(false, Relaxed);
    }

    /// Notes the position of the watch.
    pub(super) fn set_version(&self, version: &str) {
        let mut kept = self.version.lock();
        kept.clear();
        kept.push_str(version);
    }
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 12] = [
        Self::Unreachable,
        Self::Unauthorized,
        Self::Forbidden,
        Self::Throttled,
        Self::Expired,
        Self::Refused,
        Self::Server,
        Self::Cut,
        Self::Garbage,
        Self::Stalled,
        Self::Backwards,
        Self::Omitted,
    ];

    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Throttled => "throttled",
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::Server => "server",
            Self::Cut => "cut",
            Self::Garbage => "garbage",
            Self::Stalled => "stalled",
            Self::Backwards => "backwards",
            Self::Omitted => "omitted",
        }
    }
}

impl Count {
    /// The count so far.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Counts `more`.
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }
}

impl Requests {
    /// Host and port of the API server; empty without one.
    pub fn host(&self) -> &str {
        self.host.get().map_or("", String::as_str)
    }

    /// Requests by status code; code 0 counts those without an answer (`<error>` in CoreDNS).
    pub fn by_code(&self) -> Vec<(u16, u64)> {
        self.codes.lock().iter().map(|(code, count)| (*code, *count)).collect()
    }

    /// Names the API server. The first name stays: a source does not change its server.
    pub(super) fn set_host(&self, host: &str) {
        self.host.get_or_init(|| host.to_owned());
    }

    /// Counts a request by its status code, 0 for none.
    pub(super) fn count(&self, code: u16, took: Duration) {
        *self.codes.lock().entry(code).or_default() += 1;
        self.answers.record(took);
    }
}

impl Durations {
    /// How many are in each bucket of [`BUCKETS_S`], not cumulative; longer ones are only in the
    /// count.
    pub fn buckets(&self) -> [u64; BUCKETS_S.len()] {
        std::array::from_fn(|at| self.buckets[at].value())
    }

    /// Their count and their sum.
    pub fn total(&self) -> (u64, Duration) {
        (self.count.value(), Duration::from_micros(self.sum_us.value()))
    }

    /// Counts one.
    pub(super) fn record(&self, took: Duration) {
        if let Some(at) = BUCKETS_S.iter().position(|bound| took.as_secs_f64() <= *bound) {
            self.buckets[at].add(1);
        }
        self.count.add(1);
        self.sum_us.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_own_place_and_label() {
        for (at, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, at, "{}", fault.label());
        }
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at, "{}", kind.resource());
        }
    }

    #[test]
    fn names_of_services_wait_for_kinds_that_are_watched_and_for_no_pods_or_imports() {
        let awaited = |feed: &Feed| feed.awaited().collect::<Vec<_>>();
        let scope = Scope { pods: true, imports: true, ..Scope::default() };
        let feed = Feed::new(Instant::now(), &scope);
        assert_eq!(awaited(&feed), Kind::OF_SERVICES);
        feed.kind(Kind::Service).listed();
        assert_eq!(awaited(&feed), [Kind::Namespace, Kind::Slice]);
        feed.kind(Kind::Namespace).listed();
        feed.kind(Kind::Slice).listed();
        assert_eq!(awaited(&feed), []);
    }

    #[test]
    fn what_is_restored_is_known_and_counts_as_such_until_the_source_confirms_it() {
        let start = Instant::now();
        let feed = Feed::new(start, &Scope::default());
        let state = |kind| (feed.kind(kind).is_synced(), feed.kind(kind).is_restored());
        for kind in Kind::OF_SERVICES {
            feed.restore(kind, "7");
            assert_eq!((feed.kind(kind).version(), state(kind)), ("7".into(), (true, true)));
        }
        assert_eq!(feed.awaited().count(), 0);
        assert_eq!(feed.heard_at(Kind::Slice), None);
        for kind in Kind::OF_SERVICES {
            feed.hear(kind, start);
            feed.kind(kind).set_following(true);
            assert_eq!(state(kind), (true, true), "an answer alone confirms nothing");
        }
        feed.kind(Kind::Slice).confirm();
        feed.kind(Kind::Service).listed();
        assert_eq!(state(Kind::Slice), (true, false));
        assert_eq!(state(Kind::Service), (true, false));
        assert_eq!(state(Kind::Namespace), (true, true));
    }

    #[test]
    fn an_event_at_the_very_start_counts_as_heard() {
        let start = Instant::now();
        let feed = Feed::new(start, &Scope::default());
        assert_eq!(feed.heard_at(Kind::Slice), None);
        feed.hear(Kind::Slice, start);
        assert_eq!(feed.heard_at(Kind::Slice), Some(start));
    }

    #[test]
    fn a_request_falls_into_one_bucket_and_slow_ones_into_none() {
        let requests = Requests::default();
        requests.count(200, Duration::from_millis(20));
        requests.count(200, Duration::from_secs(11));
        requests.count(0, Duration::ZERO);
        assert_eq!(requests.answers.buckets(), [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(requests.answers.total(), (3, Duration::from_millis(11_020)));
        assert_eq!(requests.by_code(), [(0, 1), (200, 2)]);
    }
}

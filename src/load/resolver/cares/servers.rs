//! The servers of a channel: which is asked, for how long, over which socket.
//!
//! The one that failed least often since it was last good is asked first, among equals the one that
//! failed longest ago, then in the order of resolv.conf. A time-out is five times the average of a
//! minute, once there is one, and doubles with each round (ares_metrics.c, ares_process.c). A
//! socket is closed when nothing is under way on it, and takes nothing new after a time-out.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::load::resolver::ResolvConf;
use crate::load::resolver::shared::Shared;

/// The time-out where resolv.conf does not say.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Bounds of a time-out before it doubles.
const PATIENCE_MIN: Duration = Duration::from_millis(250);
/// See [`PATIENCE_MIN`].
const PATIENCE_MAX: Duration = Duration::from_secs(5);
/// How many averages make a time-out.
const AVERAGES: u32 = 5;
/// How many replies make an average.
const REPLIES_MIN: u32 = 3;
/// How long an average lasts.
const MINUTE: Duration = Duration::from_secs(60);
/// Failures are not counted beyond.
const FAILURES_MAX: u32 = 16;
/// A server that failed is tried beside one question in so many.
const PROBE_CHANCE: u32 = 10;
/// So long after it failed last.
const PROBE_AFTER: Duration = Duration::from_secs(5);
/// Doublings of a time-out at most.
const ROUNDS_MAX: u32 = 16;

/// All servers.
pub struct Servers {
    all: Mutex<Vec<Server>>,
    random: Mutex<StdRng>,
    timeout: Duration,
}

/// One server.
struct Server {
    address: SocketAddr,
    failures: u32,
    failed_at: Option<Instant>,
    socket: Weak<Shared>,
    stream: Weak<Shared>,
    /// The question that finds out whether it is back.
    probe: Option<AbortHandle>,
    /// Since when the averages count, and those of the minute before and of this one.
    since: Instant,
    before: Average,
    now: Average,
}

/// How long replies took.
#[derive(Clone, Copy, Default)]
struct Average {
    count: u32,
    total: Duration,
}

impl Servers {
    /// Those of resolv.conf, of which nothing is known.
    pub fn new(conf: &ResolvConf, seed: u64) -> Self {
        // What is 0 counts as not written (ares_sysconfig_files.c).
        let written = conf.timeout_s.filter(|timeout_s| *timeout_s > 0);
        let timeout = written.map_or(TIMEOUT, |it| Duration::from_secs(it.into()));
        let all = conf.used_servers().iter().copied().map(Server::new).collect();
        let random = Mutex::new(StdRng::seed_from_u64(seed));
        Self { all: Mutex::new(all), random, timeout }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.lock().len()
    }

    /// The one to ask: with `rotate` any of those that failed least.
    pub fn best(&self, is_rotating: bool) -> Option<usize> {
        let all = self.all.lock();
        let least = all.iter().map(|server| server.failures).min()?;
        let best = (0..all.len()).filter(|at| all[*at].failures == least);
        if is_rotating {
            let count = best.clone().count();
            return best.clone().nth(self.random.lock().random_range(0..count));
        }
        best.min_by_key(|at| (all[*at].failed_at, *at))
    }

    /// Where it is.
    pub fn address(&self, at: usize) -> SocketAddr {
        self.all.lock()[at].address
    }

    /// Its socket, a new one where none is open.
    pub fn socket(&self, at: usize) -> Option<Arc<Shared>> {
        let server = &mut self.all.lock()[at];
        let open = server.socket.upgrade().filter(|socket| !socket.is_retired());
        let socket = open.or_else(|| Shared::connected(server.address).ok().map(Arc::new))?;
        server.socket = Arc::downgrade(&socket);
        Some(socket)
    }

    /// Its connection, likewise.
    pub fn stream(&self, at: usize) -> Arc<Shared> {
        let server = &mut self.all.lock()[at];
        let open = server.stream.upgrade().filter(|stream| !stream.is_retired());
        let stream = open.unwrap_or_else(|| Arc::new(Shared::stream(server.address)));
        server.stream = Arc::downgrade(&stream);
        stream
    }

    /// How long to wait for its reply to a question that has failed so often.
    pub fn patience(&self, at: usize, failed: usize) -> Duration {
        let (average, count) = {
            let mut all = self.all.lock();
            (all[at].average(), all.len())
        };
        let initial = average.map_or(self.timeout, |average| average * AVERAGES);
        let least = initial.clamp(PATIENCE_MIN, PATIENCE_MAX);
        let rounds = u32::try_from(failed / count).unwrap_or(ROUNDS_MAX).min(ROUNDS_MAX);
        if rounds == 0 {
            return least;
        }
        let part = self.random.lock().random_range(0.5..=1.0);
        (least * (1 << rounds)).mul_f64(part).max(least)
    }

    /// It gave a reply that is no failure, after so long.
    pub fn took(&self, at: usize, took: Duration) {
        self.all.lock()[at].took(took);
    }

    /// It is as good as new.
    pub fn is_good(&self, at: usize) {
        let server = &mut self.all.lock()[at];
        (server.failures, server.failed_at) = (0, None);
    }

    /// By chance one that failed and that nobody finds out about, to be asked beside `used`.
    pub fn to_probe(&self, used: usize) -> Option<usize> {
        let is_due = |server: &Server| {
            let is_ripe = server.failed_at.is_some_and(|at| at.elapsed() >= PROBE_AFTER);
            is_ripe && server.probe.as_ref().is_none_or(AbortHandle::is_finished)
        };
        let at = self.all.lock().iter().position(is_due).filter(|at| *at != used)?;
        let is_drawn = self.random.lock().random_ratio(1, PROBE_CHANCE);
        is_drawn.then_some(at)
    }

    /// Keeps the task that asks it.
    pub fn probing(&self, at: usize, task: AbortHandle) {
        self.all.lock()[at].probe = Some(task);
    }

    /// Ends all such tasks.
    pub fn end_probes(&self) {
        self.all.lock().iter().filter_map(|server| server.probe.as_ref()).for_each(|it| it.abort());
    }

    /// It failed once more.
    pub fn failed(&self, at: usize) {
        let server = &mut self.all.lock()[at];
        server.failures = (server.failures + 1).min(FAILURES_MAX);
        server.failed_at = Some(Instant::now());
    }
}

impl Server {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            failures: 0,
            failed_at: None,
            socket: Weak::new(),
            stream: Weak::new(),
            probe: None,
            since: Instant::now(),
            before: Average::default(),
            now: Average::default(),
        }
    }

    /// That of this minute, or of the one before, once there were enough replies.
    fn average(&mut self) -> Option<Duration> {
        self.turn();
        [self.now, self.before].into_iter().find_map(|average| {
            (average.count >= REPLIES_MIN).then(|| average.total / average.count)
        })
    }

    fn took(&mut self, took: Duration) {
        self.turn();
        self.now.count += 1;
        self.now.total += took;
    }

    /// Begins another minute when one has passed.
    fn turn(&mut self) {
        let passed = self.since.elapsed();
        if passed >= MINUTE {
            self.before = if passed < 2 * MINUTE { self.now } else { Average::default() };
            (self.now, self.since) = (Average::default(), Instant::now());
        }
    }
}

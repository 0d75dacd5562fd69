//! Lookups of applications: each is due when it is due, on some client, with its resolver.
//!
//! ```text
//! due ─► task, client ─► a tokio task: Client ─► Found ─► judged ─► Batch ─► Shard
//!   └ too late, or too many under way: not begun           (flushed by the driver)
//! ```
//!
//! A thread keeps the time and tells the driver of each lookup when it is due. Whatever makes that
//! late is told as lateness.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use super::Error;
use super::arrivals::{Arrivals, seed_of};
use super::record::{Outcome, PacketCounts, Sample, Shard};
use super::resolver::{Client, Failure, Found, Records, ResolvConf, Resolver};
use super::run::{Course, Run};
use super::tasks::{Expect, Task};
use super::truth::{Case, Judgement, Said, Sought, Verdict};

/// How long one lookup may take before it is given up as lost, without its packets: longer than
/// three silent servers take with the defaults and nine search domains, each of whose names Go
/// asks for 30 s. Only options far beyond (`timeout:30 attempts:5`) need more.
pub const LOOKUP_MAX: Duration = Duration::from_secs(300);
/// How late a lookup may begin. What the machine cannot make does not pile up for ever.
pub const BEHIND_MAX: Duration = Duration::from_secs(1);
/// Lookups that have ended and wait for their judgement; more keep their place among those under
/// way until then.
pub const JUDGED_LATER_MAX: u32 = 1 << 16;
/// What `under_way_max` is cut to: more sockets than any system has.
pub const UNDER_WAY_LIMIT: u32 = 1 << 20;
/// How long records wait for the recorder, at most, while lookups are due.
const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// Lookups that are begun in a row before those under way get the thread.
const BEGUN_AT_ONCE_MAX: u64 = 64;
/// Lookups that are due and wait for the driver.
const DUE_MAX: usize = 1024;
/// Samples that wait for the recorder; more are written at once.
const SAMPLES_MAX: usize = 4096;

/// The clients of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Their resolvers, in turns.
    pub resolvers: Vec<Resolver>,
    /// How many clients (processes, as it were) there are. Default 20 of each resolver.
    pub clients: usize,
    /// The number of the first of them; the others follow.
    pub first_client: u32,
    /// Most lookups under way; what is due beyond is counted as not sent. Default 20 000.
    pub under_way_max: usize,
    /// Search list, ndots, time-outs and options.
    pub conf: Arc<ResolvConf>,
}

/// A client with its place in the report.
struct Seat {
    client: Client,
    resolver: Resolver,
    number: u32,
}

/// What ended since the last flush.
#[derive(Default)]
struct Ended {
    samples: Vec<Sample>,
    packets: PacketCounts,
    not_begun: u64,
}

/// Places of lookups, whose permits come back when they end.
#[derive(Clone)]
struct Places {
    under_way: Arc<Semaphore>,
    under_way_max: u32,
    /// For those that wait for their judgement.
    judged_later: Arc<Semaphore>,
}

/// Where lookups write, and the driver reads.
struct Batch {
    ended: Mutex<Ended>,
    shard: Shard,
}

/// Looks up as `arrivals` say until they end or the run is stopped; then waits for what is under
/// way, which [`LOOKUP_MAX`] bounds.
///
/// # Errors
/// Settings without resolvers or clients, or a thread that cannot be started.
pub async fn drive(run: &Arc<Run>, arrivals: Arrivals, settings: &Settings) -> Result<(), Error> {
    let (sender, due) = mpsc::channel(DUE_MAX);
    let course = run.course.clone();
    let seed = own_seed(run.seed, settings.first_client, arrivals.part());
    let keep_time = move || keep_time(arrivals, &course, &sender);
    let thread = std::thread::Builder::new().name("arrivals".to_owned()).spawn(keep_time);
    thread.map_err(|error| Error::System { what: "start a thread".to_owned(), error })?;
    drive_at(run, due, settings, seed).await
}

/// The seed of one driver: no two kinds of client, nor two workers, ask the same names in the same
/// order, as whoever is second would find all of them in the server's cache.
fn own_seed(seed: u64, first_client: u32, part: usize) -> u64 {
    seed_of(seed ^ u64::from(first_client) << 20, part)
}

/// Tells of each lookup when it is due. A thread of its own: the timers of tokio are late by a
/// millisecond or two, which would be most of the latency of a good server.
fn keep_time(arrivals: Arrivals, course: &Course, due: &mpsc::Sender<Duration>) {
    for at in arrivals {
        loop {
            if course.is_stopped() {
                return;
            }
            match at.checked_sub(course.elapsed()).filter(|ahead| !ahead.is_zero()) {
                Some(ahead) => std::thread::sleep(ahead.min(FLUSH_EVERY)),
                None => break,
            }
        }
        // Nobody listens: the driver has ended.
        if due.blocking_send(at).is_err() {
            return;
        }
    }
}

/// When lookups are due: each is told at that time, and may be asked for again when the asking was
/// given up.
trait Due {
    /// The next one.
    async fn next(&mut self) -> Option<Duration>;
}

impl Due for mpsc::Receiver<Duration> {
    async fn next(&mut self) -> Option<Duration> {
        self.recv().await
    }
}

/// The same with any instants: tests choose theirs.
async fn drive_at(
    run: &Arc<Run>,
    mut dues: impl Due,
    settings: &Settings,
    seed: u64,
) -> Result<(), Error> {
    let seats = seats(settings, seed)?;
    let places = Places::new(settings.under_way_max);
    let shard = run.recorder.shard();
    let batch = Arc::new(Batch { ended: Mutex::default(), shard });
    let mut dice = SmallRng::seed_from_u64(seed);
    let mut flushes = interval(FLUSH_EVERY);
    flushes.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for turn in 0_u64.. {
        // A driver that is behind never sleeps: the lookups that it began must run too.
        if turn % BEGUN_AT_ONCE_MAX == 0 {
            tokio::task::yield_now().await;
        }
        let due = tokio::select! {
            biased;
            () = run.course.stopped() => break,
            _ = flushes.tick() => {
                batch.flush();
                continue;
            }
            due = dues.next() => due,
        };
        let Some(due) = due else { break };
        let behind = run.course.elapsed().saturating_sub(due);
        if behind > BEHIND_MAX {
            batch.shard.not_begun(1);
            continue;
        }
        batch.shard.began_late(behind);
        let seat = Arc::clone(&seats[dice.random_range(0..seats.len())]);
        let task = run.work.load().pick(&mut dice);
        begin(run, due, task, seat, &batch, &places);
    }
    places.wait_for_all(&batch).await;
    Ok(())
}

/// Clients, each of the next resolver.
fn seats(settings: &Settings, seed: u64) -> Result<Vec<Arc<Seat>>, Error> {
    if settings.resolvers.is_empty() || settings.clients == 0 {
        return Err(Error::Config("no clients; give --resolver and --clients 1 or more".into()));
    }
    let seat = |number: usize| {
        let resolver = settings.resolvers[number % settings.resolvers.len()];
        let seed = seed.wrapping_add(number as u64);
        let client = Client::new(resolver, Arc::clone(&settings.conf), seed);
        let number = settings.first_client.saturating_add(number as u32);
        Arc::new(Seat { client, resolver, number })
    };
    Ok((0..settings.clients).map(seat).collect())
}

/// Begins one lookup, if there is a place for it.
fn begin(
    run: &Arc<Run>,
    due: Duration,
    task: Arc<Task>,
    seat: Arc<Seat>,
    batch: &Arc<Batch>,
    places: &Places,
) {
    let Ok(place) = Arc::clone(&places.under_way).try_acquire_owned() else {
        batch.shard.not_begun(1);
        return;
    };
    let lookup = Lookup { run: Arc::clone(run), due, task, seat };
    // `wait_for_all` waits for the place that comes back with its end.
    tokio::spawn(lookup.end(Arc::clone(batch), place, places.clone()));
}

impl Places {
    fn new(under_way_max: usize) -> Self {
        let under_way_max = under_way_max.min(UNDER_WAY_LIMIT as usize) as u32;
        Self {
            under_way: Arc::new(Semaphore::new(under_way_max as usize)),
            under_way_max,
            judged_later: Arc::new(Semaphore::new(JUDGED_LATER_MAX as usize)),
        }
    }

    /// Gives a place back for one among those that wait for their judgement, if there is one.
    fn after_lookup(&self, place: OwnedSemaphorePermit) -> OwnedSemaphorePermit {
        Arc::clone(&self.judged_later).try_acquire_owned().unwrap_or(place)
    }

    /// Waits until all places are back, and writes down what ended.
    async fn wait_for_all(&self, batch: &Batch) {
        let until = Instant::now() + LOOKUP_MAX;
        loop {
            let step = until.min(Instant::now() + FLUSH_EVERY);
            let all = timeout_at(step, self.all()).await;
            batch.flush();
            if all.is_ok() || Instant::now() >= until {
                return;
            }
        }
    }

    /// Takes all places. In this order: a lookup changes from the first kind to the second.
    async fn all(&self) {
        let Self { under_way, under_way_max, judged_later } = self;
        // Nobody closes them.
        let _places = (
            under_way.acquire_many(*under_way_max).await,
            judged_later.acquire_many(JUDGED_LATER_MAX).await,
        );
    }
}

impl Batch {
    fn add(&self, sample: Option<Sample>, packets: &PacketCounts) {
        let mut ended = self.ended.lock();
        ended.not_begun += u64::from(sample.is_none());
        ended.samples.extend(sample);
        ended.packets.add(packets);
        let is_full = ended.samples.len() >= SAMPLES_MAX;
        drop(ended);
        if is_full {
            self.flush();
        }
    }

    fn flush(&self) {
        let ended = std::mem::take(&mut *self.ended.lock());
        if !ended.samples.is_empty() || ended.not_begun > 0 {
            self.shard.lookups(&ended.samples);
            self.shard.packets(&ended.packets);
        }
        if ended.not_begun > 0 {
            self.shard.not_begun(ended.not_begun);
        }
    }
}

/// One lookup.
struct Lookup {
    run: Arc<Run>,
    due: Duration,
    task: Arc<Task>,
    seat: Arc<Seat>,
}

impl Lookup {
    /// Asks, judges, and gives the place back.
    async fn end(self, batch: Arc<Batch>, place: OwnedSemaphorePermit, places: Places) {
        let asked = Instant::now();
        let found = self.ask().await;
        let took = self.run.course.elapsed().saturating_sub(self.due);
        if found.result == Err(Failure::NoSocket) {
            return batch.add(None, &found.packets);
        }
        // The place is for the lookup; whether it was right may be known later.
        let place = places.after_lookup(place);
        let judgement = self.judge(&found, asked).await;
        batch.add(Some(self.sample(&found, took, judgement)), &found.packets);
        drop(place);
    }

    async fn ask(&self) -> Found {
        let client = &self.seat.client;
        let found = async {
            if self.task.rtype.is_address() {
                client.addresses(&self.task.host).await
            } else {
                client.query(&self.task.name, self.task.rtype).await
            }
        };
        let lost = || Found::of(Err(Failure::TryAgain), PacketCounts::default());
        timeout(LOOKUP_MAX, found).await.unwrap_or_else(|_| lost())
    }

    fn sample(&self, found: &Found, took: Duration, judgement: Option<Judgement>) -> Sample {
        Sample {
            due: self.due,
            took,
            outcome: outcome(found, judgement.as_ref(), self.task.expect),
            judgement,
            class: self.task.class,
            resolver: self.seat.resolver,
            client: self.seat.number,
            packets: u32::try_from(found.packets.sent).unwrap_or(u32::MAX),
        }
    }

    /// What truth says. A cached answer was true, if at all, when it was stored.
    async fn judge(&self, found: &Found, asked: Instant) -> Option<Judgement> {
        let truth = self.run.truth.as_ref()?;
        let case = Case {
            name: self.task.name.clone(),
            sought: Sought::by_application(self.task.rtype),
            said: said(found),
            asked: asked.checked_sub(found.age).unwrap_or(asked),
            answered: Instant::now(),
        };
        truth.judge_later(&case).await
    }
}

/// What an application was told, as truth judges it.
fn said(found: &Found) -> Said {
    let is_cut = found.is_cut;
    match &found.result {
        Ok(Records::Addresses(set)) => Said::Addresses { set: set.clone(), is_cut },
        Ok(Records::Names(set)) => Said::Names { set: set.clone(), is_cut },
        // Applications cannot tell a denial from a name without addresses.
        Err(Failure::UnknownHost) if found.is_denied => Said::NoAddress,
        Err(_) => Said::Nothing,
    }
}

/// How a lookup ended. Truth, where it is known, is above what was expected.
fn outcome(found: &Found, judgement: Option<&Judgement>, expect: Expect) -> Outcome {
    let is_true = |expected: bool| match judgement {
        Some(judgement) => judgement.verdict == Verdict::Ok,
        None => expected,
    };
    match found.result {
        Ok(_) if is_true(expect != Expect::Missing) => Outcome::Ok,
        Ok(_) => Outcome::Wrong,
        // Silence makes an UnknownHostException too; that is never right.
        Err(Failure::UnknownHost) if found.is_denied && is_true(expect != Expect::Exists) => {
            Outcome::Ok
        }
        Err(Failure::UnknownHost) => Outcome::UnknownHost,
        Err(Failure::TryAgain | Failure::NoSocket) => Outcome::TryAgain,
    }
}

#[cfg(test)]
mod tests;

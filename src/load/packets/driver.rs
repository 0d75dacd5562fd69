//! The loop of one thread: what is due goes out, what came is written down, and what is left of the
//! time it sleeps.
//!
//! It never waits for the server. What it cannot send in time is late, and what is
//! [`BEHIND_MAX`] late is left out and told: then this machine is too slow, and not the server.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::Notes;
use super::desk::{Desk, Event, Full};
use crate::listen::batch::BATCH_MAX;
use crate::load::arrivals::{Arrivals, seed_of};
use crate::load::tasks::Task;

/// Shortest time for which it sleeps: waking up takes some 50 µs.
pub const SLEEP_MIN: Duration = Duration::from_micros(200);
/// How much earlier than due it wakes up.
const WAKE_BEFORE: Duration = Duration::from_micros(60);
/// How late a lookup may begin. What the machine cannot make does not pile up for ever.
pub const BEHIND_MAX: Duration = Duration::from_secs(1);
/// Time between two looks at what timed out and at the end of the run; also how long it takes until
/// a sample is handed on.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Looks of which one is at sockets that should be silent, too.
const LOOKS_PER_SWEEP: u32 = 10;

/// Sockets of one kind.
pub trait Wire {
    /// Whether questions can be put on a socket. Where not, there is no connection.
    fn is_open(&self, socket: usize) -> bool;
    /// Adds a question to what is sent next on a socket: `write` writes it and answers its length,
    /// or 0 for none. At most [`BATCH_MAX`] until they are sent.
    fn put(&mut self, socket: usize, write: impl FnOnce(&mut [u8]) -> usize);
    /// Sends what was put.
    fn send(&mut self, socket: usize, note: impl FnMut(Event<'_>));
    /// Takes what has come on a socket, and answers whether that was anything.
    fn receive(&mut self, socket: usize, note: impl FnMut(Event<'_>)) -> bool;
    /// Does what is to be done from time to time.
    fn look(&mut self, socket: usize, note: impl FnMut(Event<'_>));
    /// Sleeps until something came, and at most so long. Marks the sockets on which it came.
    fn wait(&mut self, at_most: Duration, has_come: &mut [bool]);
}

/// A thread's sockets, books and arrivals.
pub struct Driver<W, N> {
    wire: W,
    desk: Desk<N>,
    arrivals: Arrivals,
    /// When the next lookup is due; `None` when there are no more.
    due: Option<Duration>,
    /// The socket of the next batch.
    socket: usize,
    /// Sockets on which something may wait.
    has_come: Vec<bool>,
    dice: SmallRng,
    started: Instant,
    looked: Duration,
    looks: u32,
}

impl<W: Wire, N: Notes> Driver<W, N> {
    /// A driver that has not begun.
    pub fn new(wire: W, desk: Desk<N>, mut arrivals: Arrivals) -> Self {
        let dice = SmallRng::seed_from_u64(seed_of(!desk.run().seed, arrivals.part()));
        let due = arrivals.next();
        let (started, sockets) = (desk.run().course.started.into_std(), desk.sockets());
        let has_come = vec![false; sockets];
        let looked = Duration::ZERO;
        Self { wire, desk, arrivals, due, socket: 0, has_come, dice, started, looked, looks: 0 }
    }

    /// Asks until the arrivals end or the run is stopped, and nothing is under way any more.
    pub fn drive(mut self) -> N {
        // Sleep is cut short by 50 µs less than otherwise; where that is refused, packets are late.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        self.look(Duration::ZERO);
        self.wait_for_start();
        while self.due.is_some() || !self.desk.is_idle() {
            let now = self.started.elapsed();
            if now.saturating_sub(self.looked) >= LOOK_EVERY {
                self.look(now);
            }
            let has_begun = self.begin_due(now);
            let has_heard = self.receive();
            if !has_begun && !has_heard {
                self.rest();
            }
        }
        self.desk.close(self.started.elapsed());
        let _ = rustix::thread::set_current_timer_slack(None);
        self.desk.into_notes()
    }

    /// Workers may be told to start together, at an instant that is still to come.
    fn wait_for_start(&mut self) {
        while !self.desk.run().course.is_stopped() {
            let ahead = self.started.saturating_duration_since(Instant::now());
            if ahead.is_zero() {
                return;
            }
            std::thread::sleep(ahead.min(LOOK_EVERY));
        }
        self.due = None;
    }

    /// Does what need not be done for each packet.
    fn look(&mut self, now: Duration) {
        self.looked = now;
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(LOOKS_PER_SWEEP) {
            self.has_come.fill(true);
        }
        if self.desk.run().course.is_stopped() {
            self.due = None;
        }
        for socket in 0..self.desk.sockets() {
            let desk = &mut self.desk;
            self.wire.look(socket, |event| desk.note(socket, event, now));
        }
        self.desk.close(now);
    }

    /// Sends what is due, as one batch on the next socket, and answers whether that was anything.
    fn begin_due(&mut self, now: Duration) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        let socket = self.next_socket();
        let run = std::sync::Arc::clone(self.desk.run());
        let work = run.work.load();
        for _ in 0..BATCH_MAX {
            let Some(due) = self.due.filter(|due| *due <= now) else { break };
            if now - due > BEHIND_MAX {
                self.desk.leave_out();
            } else {
                let task = work.pick(&mut self.dice);
                self.begin(socket, task, due, now);
            }
            self.due = self.arrivals.next();
        }
        let desk = &mut self.desk;
        self.wire.send(socket, |event| desk.note(socket, event, now));
        true
    }

    fn begin(&mut self, socket: usize, task: std::sync::Arc<Task>, due: Duration, now: Duration) {
        if !self.wire.is_open(socket) {
            return self.desk.fail(socket, task, due, now);
        }
        let desk = &mut self.desk;
        let mut is_full = false;
        self.wire.put(socket, |room| {
            desk.begin(socket, task, due, now, room).unwrap_or_else(|Full| {
                is_full = true;
                0
            })
        });
        if is_full {
            self.desk.leave_out();
        }
    }

    /// The next socket that takes questions; the next one at all if none does.
    fn next_socket(&mut self) -> usize {
        let sockets = self.desk.sockets();
        let next = self.socket;
        let takes = |socket: &usize| self.wire.is_open(*socket) && !self.desk.is_full(*socket);
        let socket = (0..sockets).map(|step| (next + step) % sockets).find(takes).unwrap_or(next);
        self.socket = (socket + 1) % sockets;
        socket
    }

    /// Takes what has come on sockets where something is under way or was seen to come.
    fn receive(&mut self) -> bool {
        let mut has_heard = false;
        for socket in 0..self.desk.sockets() {
            if self.desk.under_way(socket) > 0 || self.has_come[socket] {
                self.has_come[socket] = false;
                let (desk, started) = (&mut self.desk, self.started);
                let mut now = None;
                has_heard |= self.wire.receive(socket, |event| {
                    // What came with one call came at one time.
                    let now = *now.get_or_insert_with(|| started.elapsed());
                    desk.note(socket, event, now);
                });
            }
        }
        has_heard
    }

    /// Sleeps, unless something is due soon.
    fn rest(&mut self) {
        let now = self.started.elapsed();
        let look_at = self.looked + LOOK_EVERY;
        let wake_at = self.due.map_or(look_at, |due| look_at.min(due.saturating_sub(WAKE_BEFORE)));
        let sleep = wake_at.saturating_sub(now);
        if sleep + WAKE_BEFORE >= SLEEP_MIN {
            self.wire.wait(sleep, &mut self.has_come);
        }
    }
}

//! How a run stands: for the live line and for metrics, once a second.

use std::time::{Duration, SystemTime};

use super::super::report::{Outcomes, Truths};
use super::buckets::Buckets;
use super::tally::Counts;
use super::{PacketCounts, Recorder};

/// The counts of a run so far.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When the run began.
    pub started_at: SystemTime,
    /// How long ago that was; zero before it.
    pub elapsed: Duration,
    /// How long lookups become due; `None` until it is stopped.
    pub duration: Option<Duration>,
    /// No more lookups become due: those under way still end.
    pub is_ending: bool,
    /// By kind of name and client.
    pub groups: Vec<Counts>,
    /// All of them.
    pub outcomes: Outcomes,
    /// All latencies. Differences of two snapshots tell of the time between.
    pub latencies: Buckets,
    /// What went over the wire.
    pub packets: PacketCounts,
    /// When the last failure ended.
    pub last_failure: Option<Duration>,
    /// Clients whose last lookups failed, two or more: [`super::clients`].
    pub stuck_clients: u64,
    /// Clients that looked up anything.
    pub clients: u64,
    /// Lookups of clients that are too many to be followed.
    pub clients_refused: u64,
    /// Lookups that began late.
    pub late: u64,
    /// Lookups that were never begun.
    pub not_begun: u64,
    /// Faults that go on, as written.
    pub under_way: Vec<String>,
    /// Faults that were done.
    pub faults: u64,
}

impl Snapshot {
    /// Verdicts of all lookups.
    pub fn truths(&self) -> Truths {
        let mut truths = Truths::default();
        self.groups.iter().for_each(|group| truths.add(&group.truths));
        truths
    }

    fn group(&mut self, counts: &Counts) {
        self.outcomes.add(&counts.outcomes);
        let key = (counts.resolver, counts.class);
        match self.groups.binary_search_by_key(&key, |it| (it.resolver, it.class)) {
            Ok(index) => self.groups[index].add(counts),
            Err(index) => self.groups.insert(index, counts.clone()),
        }
    }
}

impl Recorder {
    /// How the run stands.
    pub fn snapshot(&self) -> Snapshot {
        let elapsed = self.course.elapsed();
        let (clients, stuck_clients) = self.clients.counts();
        let (under_way, faults) = {
            let faults = self.faults.lock();
            (faults.under_way(elapsed), faults.done())
        };
        let mut snapshot = Snapshot {
            started_at: self.course.started_at,
            elapsed,
            duration: self.course.duration,
            is_ending: self.is_ending(elapsed),
            groups: Vec::new(),
            outcomes: Outcomes::default(),
            latencies: Buckets::default(),
            packets: PacketCounts::default(),
            last_failure: None,
            stuck_clients,
            clients,
            clients_refused: self.clients.refused(),
            late: 0,
            not_begun: 0,
            under_way,
            faults,
        };
        self.sum_cells(&mut snapshot);
        snapshot
    }

    fn is_ending(&self, elapsed: Duration) -> bool {
        self.course.is_stopped() || self.course.duration.is_some_and(|it| elapsed >= it)
    }

    fn sum_cells(&self, snapshot: &mut Snapshot) {
        let cells = self.cells.lock().clone();
        for cell in cells {
            let cell = cell.lock();
            for tally in &cell.tallies {
                snapshot.group(&tally.counts);
                snapshot.last_failure = snapshot.last_failure.max(tally.last_failure());
            }
            snapshot.latencies.add(&cell.latencies);
            snapshot.packets.add(&cell.packets);
            snapshot.late += cell.late;
            snapshot.not_begun += cell.not_begun;
        }
    }
}

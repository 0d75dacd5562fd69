//! Makes the report of what was written down.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use super::super::report::generator::{self, Begun};
use super::super::report::{Generator, Group, Plan, Recovery, Report, SCHEMA, histogram};
use super::super::resolver::Resolver;
use super::super::tasks::Class;
use super::clients::Standing;
use super::tally::Tally;
use super::{PacketCounts, Recorder};

/// How a run ended that came to its end.
pub const COMPLETE: &str = "complete";

/// Everything of a run, added up.
#[derive(Default)]
struct Sums {
    total: Option<Tally>,
    by_class: BTreeMap<Class, Tally>,
    by_resolver: BTreeMap<Resolver, Tally>,
    packets: PacketCounts,
    begun: Begun,
    last_due: Duration,
    last_end: Duration,
    last_late_begin: Duration,
}

impl Sums {
    fn tally(&mut self, tally: &Tally) {
        let (class, resolver) = (tally.counts.class, tally.counts.resolver);
        let fresh = || Tally::new(class, resolver);
        self.total.get_or_insert_with(fresh).add(tally);
        self.by_class.entry(class).or_insert_with(fresh).add(tally);
        self.by_resolver.entry(resolver).or_insert_with(fresh).add(tally);
    }
}

impl Recorder {
    /// The report of the run so far. `ended` is [`COMPLETE`], `interrupted`, or why it ended;
    /// goals are for `report::slo` to judge.
    pub fn report(&self, plan: Plan, title: &str, ended: &str) -> Report {
        let mut sums = self.sums();
        let mut report = Report {
            schema: SCHEMA.to_owned(),
            made_by: concat!("mainstay ", env!("CARGO_PKG_VERSION")).to_owned(),
            title: title.to_owned(),
            started_unix_ms: self.started_unix_ms(),
            duration_s: self.lasted(&sums).as_secs_f64(),
            ended: ended.to_owned(),
            plan,
            total: sums.total.as_ref().map(Tally::group).unwrap_or_default(),
            by_class: groups(&sums.by_class, class_name),
            by_resolver: groups(&sums.by_resolver, |it| it.name()),
            packets: sums.packets,
            timeline: self.timeline.lock().report(),
            faults: self.failures.lock().marks(&self.faults.lock()),
            unjudged: Default::default(),
            generator: Generator::default(),
            slo: Vec::new(),
            workers: 1,
        };
        self.clients.each(self.lasted(&sums), |resolver, class, standing| {
            tell(&mut report, resolver, class, standing);
        });
        // One that fell behind took longer to begin than they took to become due.
        sums.begun.span = self.due_span(&sums, ended).max(sums.last_late_begin);
        sums.begun.lookups = report.total.lookups;
        report.generator = generator::judge(&sums.begun, self.cpu.cores());
        report
    }

    /// Adds up all cells, and hands the slots under way to the timeline.
    fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        let cells = self.cells.lock().clone();
        for cell in cells {
            let mut cell = cell.lock();
            self.timeline.lock().take(&mut cell.pending);
            cell.tallies.iter().for_each(|tally| sums.tally(tally));
            sums.packets.add(&cell.packets);
            histogram::add(&mut sums.begun.lateness, &cell.lateness);
            sums.begun.late += cell.late;
            sums.begun.not_begun += cell.not_begun;
            sums.last_due = sums.last_due.max(cell.last_due);
            sums.last_end = sums.last_end.max(cell.last_end);
            sums.last_late_begin = sums.last_late_begin.max(cell.last_late_begin);
        }
        sums
    }

    /// Until the last lookup ended; without any, until now.
    fn lasted(&self, sums: &Sums) -> Duration {
        if sums.total.is_some() { sums.last_end } else { self.course.elapsed() }
    }

    /// For how long lookups became due: as planned, or until the last one that was, when the run
    /// ended before.
    fn due_span(&self, sums: &Sums, ended: &str) -> Duration {
        let planned = self.course.duration.filter(|_| ended == COMPLETE);
        planned.unwrap_or(sums.last_due)
    }

    fn started_unix_ms(&self) -> u64 {
        let since = self.course.started_at.duration_since(UNIX_EPOCH);
        since.map_or(0, |since| since.as_millis() as u64)
    }
}

/// The groups of a report.
fn groups<K>(
    tallies: &BTreeMap<K, Tally>,
    name: impl Fn(K) -> &'static str,
) -> BTreeMap<String, Group>
where
    K: Copy,
{
    tallies.iter().map(|(key, tally)| (name(*key).to_owned(), tally.group())).collect()
}

/// Adds what is known of one client.
fn tell(report: &mut Report, resolver: Resolver, class: Option<Class>, standing: Standing) {
    match class {
        Some(class) => {
            if let Some(group) = report.by_class.get_mut(class_name(class)) {
                stand(&mut group.recovery, standing);
            }
        }
        None => {
            stand(&mut report.total.recovery, standing);
            if let Some(group) = report.by_resolver.get_mut(resolver.name()) {
                stand(&mut group.recovery, standing);
            }
        }
    }
}

fn stand(recovery: &mut Recovery, standing: Standing) {
    let outage_s = standing.longest_outage.as_secs_f64();
    recovery.longest_outage_s = recovery.longest_outage_s.max(outage_s);
    recovery.stuck_clients += u64::from(standing.is_stuck);
    recovery.clients += 1;
}

/// A kind of name, as in reports and metrics.
pub fn class_name(class: Class) -> &'static str {
    match class {
        Class::Service => "service",
        Class::Headless => "headless",
        Class::Host => "host",
        Class::ExternalName => "external-name",
        Class::Foreign => "foreign",
        Class::Missing => "missing",
        Class::Ptr => "ptr",
        Class::Srv => "srv",
        Class::Random => "random",
        Class::Listed => "listed",
    }
}

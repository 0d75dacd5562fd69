//! How soon is a change seen, and what do many changes cost those who ask meanwhile?

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::World;
use crate::steady::{Steady, Tally};
use crate::subject::{Program, Subject};
use crate::support::apiserver::objects::{Cluster, Role};
use crate::support::apiserver::{ApiServer, Churn};
use crate::support::packets::{A, Edns, Expected, NOERROR, Packets};
use crate::support::report::{Cell, Table};
use crate::visible::{Looking, Seen};

/// Queries per second under churn.
const QUERIES: u64 = 10_000;
/// Questions that are chosen from.
const NAMES: usize = 5_000;
/// Changes per second whose way to an answer is measured.
const SAMPLED: u64 = 50;
/// Probes that are looked at under churn: each is asked for about once a millisecond.
const PROBES: usize = 4;

const ABOUT_CHANGE: &str = "\
One EndpointSlice changes five times a second, and nothing else happens. From when the API server \
gives the event to its watches until a client that looks every 0.2 ms has an answer with the new \
address, in ms.";
const ABOUT_CHURN: &str = "\
EndpointSlices all over the cluster change while 10 000 q/s are asked for ClusterIPs, all on one \
core. `visible`: from the event to the answer, of 50 changes a second; the stand-in API server \
encodes each event as protobuf for CoreDNS on the clients' CPU, so CoreDNS's times hold that too. \
`query p99`: in µs, timed from the send, and before the churn began. Both CPUs are kept awake by \
idle-class spinners. `memory`: the peak against the memory of the server at rest, before any \
churn. `cores`: CPU time of the server per second of churn, the queries included.";
const ABOUT_PUBLISH: &str = "\
CPU time of the server for one changed EndpointSlice, at 1 000 changes/s and without queries, in a \
small and in a large cluster of the same mix.";

/// `change`: an idle server.
pub fn measure_one(world: &World) -> Result<Table, String> {
    let columns = [("changes", 0), ("median", 2), ("p99", 2), ("max", 2), ("never seen", 0)];
    let mut table = Table::new("One change", ABOUT_CHANGE, "server", &columns);
    let mut api = world.api();
    let time = Duration::from_secs(if world.options.quick { 4 } else { 12 });
    for program in world.programs() {
        let subject = world.ready(&program, &api)?;
        let churn = Churn { per_second: 5, time, probe_every: 1, probes: 1 };
        let looking = Looking::start(subject.address, &world.cluster, churn.probes)?;
        api.begin_churn(churn);
        let churned = api.end_churn();
        let seen = looking.stop(&churned.moves);
        let cells = [
            churned.changes as f64,
            seen.quantile_ms(0.5),
            seen.quantile_ms(0.99),
            seen.max_ms(),
            seen.never as f64,
        ];
        table.row(&program.name, cells.map(|it| Cell::Measured(vec![it])).to_vec());
    }
    Ok(table)
}

/// `churn`: many changes, and many queries.
pub fn measure_many(world: &World) -> Result<Table, String> {
    let columns = [
        ("changes/s", 0),
        ("visible p50, ms", 1),
        ("visible p99, ms", 1),
        ("visible max, ms", 1),
        ("never seen", 0),
        ("query p50", 0),
        ("query p99", 0),
        ("quiet p99", 0),
        ("p99 / quiet", 2),
        ("lost, %", 2),
        ("memory", 3),
        ("cores", 2),
    ];
    let mut table = Table::new("Churn", ABOUT_CHURN, "server", &columns);
    for program in world.programs() {
        let mut api = world.api();
        let subject = world.ready(&program, &api)?;
        let at_rest = subject.memory().now;
        let quiet = quiet(world, &subject)?;
        for (per_second, seconds) in [(1_000, 20), (10_000, 60)] {
            let seconds = if world.options.quick { seconds / 5 } else { seconds };
            let cells = match storm(world, &subject, &mut api, per_second, seconds) {
                Ok(storm) => storm.cells(&quiet, at_rest),
                Err(problem) => vec![Cell::Text(format!("failed: {problem}"))],
            };
            table.row(&format!("{}, {per_second}/s", program.name), cells);
            subject.wait_rest();
        }
    }
    Ok(table)
}

/// `publish`: the cost of a change.
pub fn measure_publish(world: &World) -> Result<Table, String> {
    let columns = [("100 Services, µs", 1), ("10 000 Services, µs", 1), ("ratio", 2)];
    let mut table = Table::new("Cost of a change", ABOUT_PUBLISH, "server", &columns);
    for program in world.programs() {
        let small = cost_us(world, &program, &Cluster::of(100))?;
        let large = cost_us(world, &program, &Cluster::of(10_000))?;
        let cells = [small, large, large / small];
        table.row(&program.name, cells.map(|it| Cell::Measured(vec![it])).to_vec());
    }
    Ok(table)
}

/// What a churn came to.
struct Storm {
    per_second: f64,
    seen: Seen,
    tally: Tally,
    /// The greatest resident memory, in octets.
    peak: u64,
    cores: f64,
}

impl Storm {
    fn cells(&self, quiet: &Tally, at_rest: u64) -> Vec<Cell> {
        let quiet = quiet.quantile_us(0.99);
        let cells = [
            self.per_second,
            self.seen.quantile_ms(0.5),
            self.seen.quantile_ms(0.99),
            self.seen.max_ms(),
            self.seen.never as f64,
            self.tally.quantile_us(0.5),
            self.tally.quantile_us(0.99),
            quiet,
            self.tally.quantile_us(0.99) / quiet,
            self.tally.lost_percent(),
            self.peak as f64 / at_rest as f64,
            self.cores,
        ];
        cells.map(|it| Cell::Measured(vec![it])).to_vec()
    }
}

/// Questions for ClusterIPs.
pub fn questions(cluster: &Cluster) -> Packets {
    let mut packets = Packets::default();
    let stride = (cluster.services / NAMES).max(1);
    let numbers = (0..cluster.services).step_by(stride);
    for n in numbers.filter(|n| cluster.role(*n) == Role::ClusterIp) {
        let expected = Expected { rcode: NOERROR, answers: 1 };
        packets.ask(&cluster.dns_name(n), A, Edns::With, expected);
    }
    packets
}

fn quiet(world: &World, subject: &Subject) -> Result<Tally, String> {
    let steady = Steady::start(subject.address, questions(&world.cluster), QUERIES)?;
    // The looks at the probes belong to the load, so they are there in both.
    let looking = Looking::start(subject.address, &world.cluster, PROBES)?;
    sleep(Duration::from_secs(if world.options.quick { 3 } else { 8 }));
    let tally = steady.stop();
    looking.stop(&[]);
    tally
}

fn storm(
    world: &World,
    subject: &Subject,
    api: &mut ApiServer,
    per_second: u64,
    seconds: u64,
) -> Result<Storm, String> {
    let time = Duration::from_secs(seconds);
    let churn = Churn { per_second, time, probe_every: per_second / SAMPLED, probes: PROBES };
    subject.reset_peak();
    let looking = Looking::start(subject.address, &world.cluster, PROBES)?;
    let steady = Steady::start(subject.address, questions(&world.cluster), QUERIES)?;
    let (cpu, began) = (subject.server.cpu_time(), Instant::now());
    api.begin_churn(churn);
    let churned = api.end_churn();
    let used = subject.server.cpu_time().saturating_sub(cpu);
    let cores = used.as_secs_f64() / began.elapsed().as_secs_f64();
    let tally = steady.stop();
    let seen = looking.stop(&churned.moves);
    // Not before all has ended: it would go on beside the next churn.
    let tally = tally?;
    let peak = subject.memory().peak;
    let per_second = churned.changes as f64 / churned.took.as_secs_f64();
    Ok(Storm { per_second, seen, tally, peak, cores })
}

fn cost_us(world: &World, program: &Program, cluster: &Cluster) -> Result<f64, String> {
    let mut api = ApiServer::start(cluster, crate::CLIENT_CPU, 0);
    let subject = program.start(&api.url(), None)?;
    subject.wait_known(cluster)?;
    subject.wait_rest();
    let time = Duration::from_secs(if world.options.quick { 3 } else { 10 });
    // No probe moves but the first change.
    let churn = Churn { per_second: 1_000, time, probe_every: u64::MAX, probes: 1 };
    let before = subject.server.cpu_time();
    api.begin_churn(churn);
    let changes = api.end_churn().changes;
    // What waits is part of the cost.
    subject.wait_rest();
    let cpu = subject.server.cpu_time().saturating_sub(before);
    Ok(cpu.as_secs_f64() * 1e6 / changes as f64)
}

//! What does it cost a server when its API server comes and goes?

use std::thread::sleep;
use std::time::{Duration, Instant};

use mainstay::load::fault::relay::ByteRelay;

use crate::World;
use crate::churn::questions;
use crate::steady::{Steady, Tally};
use crate::subject::Subject;
use crate::support::apiserver::answers::Style;
use crate::support::apiserver::{ApiServer, Churn};
use crate::support::report::{Cell, Table};

/// Queries per second.
const QUERIES: u64 = 5_000;
/// Changes per second.
const CHANGES: u64 = 50;
/// Time for which the API server is there, and for which it is away.
const HALF: Duration = Duration::from_secs(5);
const ABOUT: &str = "\
5 000 q/s for ClusterIPs and 50 changes/s of EndpointSlices for 60 s, with an API server that \
is there all the time; then the same while all its connections are cut and new ones refused, for \
5 s out of 10. `steady` and `flapping`: CPU time of the server, in s. `lists`: how often a kind \
was listed anew meanwhile, where watches could have gone on. `lost`: queries without a reply while \
it flapped.";

pub fn measure(world: &World) -> Result<Table, String> {
    let columns =
        [("steady, s", 2), ("flapping, s", 2), ("ratio", 3), ("lists", 0), ("lost, %", 2)];
    let mut table = Table::new("A flapping API server", ABOUT, "server", &columns);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    for program in world.programs() {
        let mut api = world.api();
        let between = format!("127.0.0.1:0={}", api.address);
        let relay = runtime.block_on(ByteRelay::start(&between));
        let relay = relay.map_err(|error| error.to_string())?;
        let subject = program.start(&format!("http://{}", relay.listen()), None)?;
        subject.wait_known(&world.cluster)?;
        subject.wait_rest();
        let (steady, _) = spent(world, &subject, &mut api, sleep)?;
        api.asked();
        let (flapping, tally) = spent(world, &subject, &mut api, |time| flap(&relay, time))?;
        let asked = api.asked();
        let lists = asked.iter().filter(|it| matches!(it.style, Style::Stream | Style::Page));
        let cells =
            [steady, flapping, flapping / steady, lists.count() as f64, tally.lost_percent()];
        table.row(&program.name, cells.map(|it| Cell::Measured(vec![it])).to_vec());
    }
    Ok(table)
}

/// CPU time of a server that is asked and whose cluster changes, in s.
fn spent(
    world: &World,
    subject: &Subject,
    api: &mut ApiServer,
    meanwhile: impl FnOnce(Duration),
) -> Result<(f64, Tally), String> {
    let time = Duration::from_secs(if world.options.quick { 20 } else { 60 });
    let steady = Steady::start(subject.address, questions(&world.cluster), QUERIES)?;
    // No probe moves but the first change.
    api.begin_churn(Churn { per_second: CHANGES, time, probe_every: u64::MAX, probes: 1 });
    let before = subject.server.cpu_time();
    meanwhile(time);
    let used = subject.server.cpu_time().saturating_sub(before);
    api.end_churn();
    Ok((used.as_secs_f64(), steady.stop()?))
}

/// Takes the API server away and gives it back, until the time is over.
fn flap(relay: &ByteRelay, time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        relay.down();
        sleep(HALF);
        relay.up();
        sleep(HALF);
    }
}

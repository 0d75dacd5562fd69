//! How soon does a server answer that has just been started?

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::World;
use crate::floods::Upstream;
use crate::subject::{Program, Subject, closed_port, probe};
use crate::support::packets::{A, Edns, Expected, NXDOMAIN, question};
use crate::support::report::{Cell, Table};
use crate::support::server::Probe;

/// Longest wait for a Snapshot: they are written every 30 s at most.
const SNAPSHOT_MAX: Duration = Duration::from_secs(60);
/// Time between two looks for it.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const ABOUT: &str = "\
From before the program is executed to the first right answer, in ms, on one core. `foreign`: the \
answer of an upstream on loopback, without a Snapshot and without an API server; Mainstay is to \
take 100 ms at most. `API server`: a ClusterIP, without a Snapshot, once the API server has told \
of it. `Snapshot`: the same without an API server, from the Snapshot that a server has left, which \
is to take 300 ms at most; CoreDNS has none, so that without an API server it knows no name of the \
cluster.";

pub fn measure(world: &World) -> Result<Table, String> {
    let columns = [("foreign, ms", 1), ("API server, ms", 1), ("Snapshot, ms", 1)];
    let mut table = Table::new("Starts", ABOUT, "server", &columns);
    for program in world.programs() {
        let foreign = rounds(world, || foreign_ms(&program))?;
        let listed = rounds(world, || listed_ms(world, &program))?;
        let restored = match program.is_mainstay() {
            true => restored(world, &program)?,
            false => Cell::Text("no Snapshot".to_owned()),
        };
        table.row(&program.name, vec![foreign, listed, restored]);
    }
    Ok(table)
}

fn rounds(world: &World, measure: impl FnMut() -> Result<f64, String>) -> Result<Cell, String> {
    let all = std::iter::repeat_with(measure).take(world.rounds());
    all.collect::<Result<_, _>>().map(Cell::Measured)
}

/// The first answer of an upstream, while nobody listens where the API server is to be.
fn foreign_ms(program: &Program) -> Result<f64, String> {
    let upstream = Upstream::start(true).map_err(|error| error.to_string())?;
    let packet = question("www.example.", A, Edns::With);
    let denied =
        Probe { packet, expected: Expected { rcode: NXDOMAIN, answers: 0 }, holds: Vec::new() };
    let nowhere = format!("http://127.0.0.1:{}", closed_port());
    first_ms(&folder()?, &denied, |state| {
        program.start_with(&nowhere, Some(upstream.address), Some(state))
    })
}

/// The first answer about the cluster from what the API server tells.
fn listed_ms(world: &World, program: &Program) -> Result<f64, String> {
    let api = world.api();
    let first = probe(&world.cluster, 0);
    first_ms(&folder()?, &first, |state| program.start_with(&api.url(), None, Some(state)))
}

/// The first answer about the cluster from a Snapshot.
fn restored(world: &World, program: &Program) -> Result<Cell, String> {
    let state = folder()?;
    let url = {
        let api = world.api();
        leave_snapshot(world, program, &api.url(), state.path())?;
        api.url()
    };
    let first = probe(&world.cluster, 0);
    rounds(world, || first_ms(&state, &first, |state| program.start_with(&url, None, Some(state))))
}

/// Runs a server until it has written its Snapshot.
fn leave_snapshot(world: &World, program: &Program, api: &str, state: &Path) -> Result<(), String> {
    let subject = program.start_with(api, None, Some(state))?;
    subject.wait_known(&world.cluster)?;
    let began = Instant::now();
    while subject.metric("mainstay_snapshot_written_total", &[]) < 1.0 {
        if began.elapsed() > SNAPSHOT_MAX {
            return Err(format!("{}: no Snapshot\n{}", program.name, subject.server.log()));
        }
        sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Time from a start until the first right answer.
fn first_ms(
    state: &TempDir,
    probe: &Probe,
    start: impl FnOnce(&Path) -> Result<Subject, String>,
) -> Result<f64, String> {
    let began = Instant::now();
    let subject = start(state.path())?;
    subject.wait_right(probe)?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

fn folder() -> Result<TempDir, String> {
    TempDir::new().map_err(|error| format!("no folder: {error}"))
}

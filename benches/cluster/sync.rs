//! How much memory does the cluster take, how much a relist on top, and how soon is it known?

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::World;
use crate::subject::{Program, Subject};
use crate::support::apiserver::ApiServer;
use crate::support::apiserver::answers::Style;
use crate::support::report::{Cell, Table};

/// Kinds that are watched.
const KINDS: usize = 3;
/// Longest wait for a relist to begin.
const RELIST_MAX: Duration = Duration::from_secs(60);
/// Memory that has not fallen for so long stays.
const STAYS: Duration = Duration::from_secs(30);
/// Longest wait for that.
const STAYS_MAX: Duration = Duration::from_secs(150);
/// Time between two looks at the memory.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const MIB: f64 = 1024.0 * 1024.0;
const ABOUT: &str = "\
Resident memory once the server is at rest after its first sync; its peak while all is listed anew \
after a 410; the time from the first octet of the first list until the name that is listed last is \
answered, on one core. A sample of all names is checked then. Paged: the API server refuses \
streaming lists. `of CoreDNS` is against the steady memory of CoreDNS in the same style. ";
const ABOUT_REST: &str = "\
`rest`: the time given to each server before its steady memory is read, and before that after the \
relist: until it uses no CPU and its memory has not fallen for 30 s, at most 150 s, for Go gives \
memory back slowly. To save time, paged lists are measured in one round, for all servers.";
const ABOUT_QUICK: &str = "\
`rest`: the time given to each server before its steady memory is read, and before that after the \
relist: until it uses no CPU. That is too short to compare memory, for Go gives it back slowly.";

/// What one start of a server came to.
struct Sync {
    seconds: f64,
    steady: f64,
    peak: f64,
    after: f64,
    rest_seconds: f64,
    rest_after_seconds: f64,
}

pub fn measure(world: &World) -> Result<Table, String> {
    let columns = [
        ("steady, MiB", 1),
        ("of CoreDNS", 3),
        ("peak of a relist, MiB", 1),
        ("peak / steady", 2),
        ("after it, MiB", 1),
        ("all names known, s", 2),
        ("rest, s", 0),
        ("rest after it, s", 0),
    ];
    let about_rest = if world.options.quick { ABOUT_QUICK } else { ABOUT_REST };
    let about = format!("{ABOUT}{about_rest}");
    let mut table = Table::new("Memory and sync", &about, "server", &columns);
    let mut api = world.api();
    for (style, is_streaming) in [("streaming", true), ("paged", false)] {
        api.set_streaming(is_streaming);
        // CoreDNS first: the others are put in relation to it.
        let mut coredns = None;
        for program in world.programs().iter().rev() {
            let rounds = if is_streaming { world.rounds() } else { 1 };
            let syncs = (0..rounds).map(|_| sync(world, program, &mut api));
            let syncs = syncs.collect::<Result<Vec<_>, _>>()?;
            let cells = cells(&syncs, coredns);
            if !program.is_mainstay() {
                coredns = cells[0].median();
            }
            table.row(&format!("{}, {style}", program.name), cells);
        }
    }
    Ok(table)
}

fn cells(syncs: &[Sync], coredns: Option<f64>) -> Vec<Cell> {
    let all = |pick: fn(&Sync) -> f64| Cell::Measured(syncs.iter().map(pick).collect());
    let of_coredns = match coredns {
        Some(coredns) => Cell::Measured(syncs.iter().map(|it| it.steady / coredns).collect()),
        None => Cell::Empty,
    };
    vec![
        all(|it| it.steady),
        of_coredns,
        all(|it| it.peak),
        all(|it| it.peak / it.steady),
        all(|it| it.after),
        all(|it| it.seconds),
        all(|it| it.rest_seconds),
        all(|it| it.rest_after_seconds),
    ]
}

fn sync(world: &World, program: &Program, api: &mut ApiServer) -> Result<Sync, String> {
    api.asked();
    let subject = program.start(&api.url(), None)?;
    let known_us = subject.wait_known(&world.cluster)?;
    let asked = api.asked();
    let lists = asked.iter().filter(|asked| matches!(asked.style, Style::Stream | Style::Page));
    let begun_us = lists.map(|asked| asked.begun_us).min().ok_or("it listed nothing")?;
    let rest_seconds = rest(world, &subject);
    let steady = subject.memory().now as f64 / MIB;
    subject.reset_peak();
    api.expire();
    wait_relist(program, api)?;
    subject.wait_rest();
    subject.wait_known(&world.cluster)?;
    let rest_after_seconds = rest(world, &subject);
    let memory = subject.memory();
    Ok(Sync {
        seconds: known_us.saturating_sub(begun_us) as f64 / 1e6,
        steady,
        peak: memory.peak as f64 / MIB,
        after: memory.now as f64 / MIB,
        rest_seconds,
        rest_after_seconds,
    })
}

/// Waits until the server is at rest and, for results to publish, until its memory stays. Tells how
/// long that took, in seconds.
fn rest(world: &World, subject: &Subject) -> f64 {
    let began = Instant::now();
    subject.wait_rest();
    let (mut least, mut fell) = (subject.memory().now, Instant::now());
    while !world.options.quick && fell.elapsed() < STAYS && began.elapsed() < STAYS_MAX {
        sleep(LOOK_EVERY);
        let now = subject.memory().now;
        if now < least {
            (least, fell) = (now, Instant::now());
        }
    }
    began.elapsed().as_secs_f64()
}

/// Waits until all kinds are asked for anew: clients pause for a random time before they do.
fn wait_relist(program: &Program, api: &mut ApiServer) -> Result<(), String> {
    let (began, mut kinds) = (Instant::now(), BTreeSet::new());
    while kinds.len() < KINDS {
        if began.elapsed() > RELIST_MAX {
            return Err(format!("{}: it did not list all anew after 410", program.name));
        }
        sleep(Duration::from_millis(100));
        let asked = api.asked();
        let lists = asked.iter().filter(|it| matches!(it.style, Style::Stream | Style::Page));
        kinds.extend(lists.map(|it| it.kind as usize));
    }
    Ok(())
}

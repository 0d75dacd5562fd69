//! `mainstay load`: from the command line to an exit status.
//!
//! ```text
//! Settings ─► Names ─► Stage (servers, relays) ─► join others ─► drive, play, tell ─► Report
//! ```
//!
//! Ctrl-C ends the arrivals, and what is under way is waited for; a second one ends that too.
//! Either way the report so far is written, and what we started or stopped is put right. Before the
//! first lookup there is nothing to report, and it ends us at once.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};

use super::Error;
use super::arguments::{CompareArguments, LoadArguments, LoadCommand, RunArguments};
use super::drive::Drivers;
use super::fault::stage::{self, Stage};
use super::names::Names;
use super::place::{canary, coordinator};
use super::record::{COMPLETE, Recorder};
use super::report::live::Live;
use super::report::shown::Paint;
use super::report::{Plan, Report, compare, hdr, json, junit, merge, metrics, page, slo, text};
use super::resolver::Resolver;
use super::run::{Course, Run};
use super::settings::Settings;
use super::signals::Signals;
use super::target::{Transport, worst_packets};
use super::{awake, drill};
use crate::ops::http::TextPages;

/// Goals were missed.
pub const MISSED: u8 = 1;
/// The run could not be made, or its report not be written.
pub const NOT_MADE: u8 = 2;
/// From the end of the preparations to the first lookup of a worker that is alone.
const START_IN: Duration = Duration::from_millis(50);
/// How long what undoes a fault may take when the run was left by a second Ctrl-C.
const UNDO_MAX: Duration = Duration::from_secs(1);
/// How much later than worker 0 the others may begin, and end.
const APART_MAX: Duration = Duration::from_millis(200);
/// How often a run for ever looks whether the cluster has other names.
const RENEW_EVERY: Duration = Duration::from_secs(60);

/// Does what the arguments say.
pub fn run(arguments: &LoadArguments) -> ExitCode {
    let result = match &arguments.command {
        None => block_on(load(&arguments.run)),
        Some(LoadCommand::Compare(arguments)) => compare(arguments),
        Some(LoadCommand::Drill(arguments)) => {
            block_on(drill::run(arguments)).and_then(|text| say(&text).map(|()| 0))
        }
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("mainstay load: {error}");
            ExitCode::from(NOT_MADE)
        }
    }
}

fn block_on<T>(future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Error::System { what: "start threads".to_owned(), error })?;
    let result = runtime.block_on(future);
    // A driver that was left behind by a second Ctrl-C must not hold us up.
    runtime.shutdown_background();
    result
}

/// Writes to standard output; a pipe that was closed is no error.
fn say(text: &str) -> Result<(), Error> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::System { what: "write to standard output".to_owned(), error })
        }
        _ => Ok(()),
    }
}

fn compare(arguments: &CompareArguments) -> Result<u8, Error> {
    let [before, after] = &arguments.reports[..] else {
        return Err(Error::Config("compare takes two reports".to_owned()));
    };
    let comparison = compare::compare(&json::read(before)?, &json::read(after)?);
    let comparison = comparison.map_err(Error::Config)?;
    say(&if arguments.json { comparison.json() } else { comparison.text(Paint::for_stdout()) })?;
    Ok(0)
}

/// One run. Answers the exit status.
async fn load(arguments: &RunArguments) -> Result<u8, Error> {
    let mut signals = Signals::listen()?;
    let settings = Settings::read(arguments)?;
    let Prepared { names, stage, start } = tokio::select! {
        prepared = Prepared::new(arguments, &settings) => prepared?,
        // What was started until then ends as it is dropped.
        () = signals.next() => return Err(Error::Config(BEFORE.to_owned())),
    };
    let at = start.as_ref().map_or_else(|| Instant::now() + START_IN, |start| start.at);
    let run = Arc::new(prepare(arguments, &settings, &names, Course::new(at, settings.duration)));
    let pages = pages(arguments, &settings, &run)?;
    let delivery = start.map(|start| start.delivery);
    let stages = (&names, &stage);
    let driven = drive(arguments, &settings, stages, &run, delivery.as_ref(), &mut signals).await;
    drop(pages);
    note_faults(&settings, &run);

    // A driver that failed does not make what the others saw untold.
    let (ended, mut error) = match driven {
        Ok(ended) => (ended.to_owned(), None),
        Err(error) => (error.to_string(), Some(error)),
    };
    let mut report = run.recorder.report(plan(arguments, &settings, &names), "load", &ended);
    report.unjudged = names.truth.as_ref().map(|(it, _)| it.skips().into()).unwrap_or_default();
    if let Some(delivery) = delivery {
        match deliver(delivery, &report, &mut signals).await {
            Ok(Some(whole)) => report = whole,
            // The other workers have done their part.
            Ok(None) => return error.map_or(Ok(0), Err),
            Err(lost) => {
                report.ended = lost.to_string();
                error.get_or_insert(lost);
            }
        }
    }
    report.slo = slo::evaluate(&settings.goals, &report);
    match error {
        // There is nothing to tell but that.
        Some(error) if report.total.lookups == 0 => Err(error),
        error => tell(arguments, &report).and_then(|()| error.map_or(Ok(status(&report)), Err)),
    }
}

/// Why a run was not made that somebody stopped early.
const BEFORE: &str = "interrupted before the first lookup; what was started has been ended";

/// What a run needs before its first lookup.
struct Prepared {
    names: Names,
    stage: Stage,
    start: Option<coordinator::Start>,
}

impl Prepared {
    async fn new(arguments: &RunArguments, settings: &Settings) -> Result<Self, Error> {
        let names = Names::gather(arguments, settings).await?;
        let is_owned = arguments.yes_i_own_this_server;
        let relayed = stage::Setting::of(arguments).relayed()?;
        let worst = arguments.resolver.iter().map(|it| worst_packets(*it, &settings.conf));
        let peak = settings.peak_rate() * worst.fold(1.0, f64::max);
        settings.target.check(peak, is_owned, &names.addresses(), relayed)?;
        let stage = match settings.plays_faults() {
            true => open(arguments, settings).await?,
            false => Stage::open(&stage::Setting::default()).await?,
        };
        let start = match settings.workers.clone() {
            Some(workers) => Some(coordinator::join(workers).await?),
            None => None,
        };
        Ok(Self { names, stage, start })
    }
}

/// Sets the stage, and waits until the server on it answers.
async fn open(arguments: &RunArguments, settings: &Settings) -> Result<Stage, Error> {
    let address = settings.target.servers[0];
    if arguments.server_command.is_some() {
        awake::nobody(address).await?;
    }
    let stage = Stage::open(&stage::Setting::of(arguments)).await?;
    stage.check(&settings.faults, settings.duration)?;
    if let Some(server) = stage.server().filter(|server| server.is_ours()) {
        awake::wait(server, address).await?;
    }
    Ok(stage)
}

/// Says of each fault that was not done why, so that no goal is met without it. A worker that
/// carries out none says when worker 0 did: failures here belong to those too.
fn note_faults(settings: &Settings, run: &Run) {
    let elapsed = run.course.elapsed();
    for fault in &settings.faults {
        if settings.plays_faults() {
            run.recorder.fault_missed(&fault.written, fault.at, "the run ended before");
        } else if fault.at <= elapsed {
            run.recorder.fault(&fault.written, fault.at, fault.until);
        }
    }
}

/// Brings the reports of all workers together, unless somebody has waited long enough.
async fn deliver(
    delivery: coordinator::Delivery,
    own: &Report,
    signals: &mut Signals,
) -> Result<Option<Report>, Error> {
    tokio::select! {
        delivered = delivery.deliver(own.clone(), merged) => delivered,
        () = signals.next() => {
            Err(Error::Config("interrupted before the reports of all workers were there".to_owned()))
        }
    }
}

/// The exit status. Without goals, a run that only somebody stopped is as good as another.
fn status(report: &Report) -> u8 {
    match &*report.ended {
        _ if report.slo.iter().any(|goal| !goal.is_met) => MISSED,
        COMPLETE | INTERRUPTED => 0,
        _ => NOT_MADE,
    }
}

fn merged(reports: Vec<Report>) -> Report {
    merge::merge(reports).unwrap_or_else(|why| Report { ended: why, ..Report::default() })
}

fn prepare(arguments: &RunArguments, settings: &Settings, names: &Names, course: Course) -> Run {
    Run {
        target: settings.target.clone(),
        work: ArcSwap::from_pointee(names.work.clone()),
        truth: names.truth.as_ref().map(|(truth, _)| Arc::clone(truth)),
        recorder: Recorder::new(course.clone(), settings.slow),
        course,
        timeout: settings.timeout,
        seed: arguments.seed,
    }
}

fn drivers(arguments: &RunArguments, settings: &Settings) -> Drivers {
    Drivers {
        profile: settings.profile.clone(),
        resolvers: arguments.resolver.clone(),
        clients: arguments.clients as usize,
        threads: usize::from(arguments.threads),
        worker: (arguments.index as usize, arguments.workers.max(1) as usize),
        conf: Arc::clone(&settings.conf),
    }
}

/// Serves metrics while the run goes on.
fn pages(
    arguments: &RunArguments,
    settings: &Settings,
    run: &Arc<Run>,
) -> Result<Option<TextPages>, Error> {
    let address = settings.canary.map(|canary| canary.metrics).or(arguments.metrics);
    let recorder = Arc::clone(&run.recorder);
    let text = move |accept: &str| {
        let format = metrics::Format::accepted(accept);
        (format.content_type(), metrics::text(&recorder.snapshot(), format))
    };
    address.map(|address| canary::serve(address, Arc::new(text))).transpose()
}

/// Runs until all lookups have ended, and tells meanwhile. Answers how it ended.
async fn drive(
    arguments: &RunArguments,
    settings: &Settings,
    (names, stage): (&Names, &Stage),
    run: &Arc<Run>,
    delivery: Option<&coordinator::Delivery>,
    signals: &mut Signals,
) -> Result<&'static str, Error> {
    let drivers = drivers(arguments, settings);
    let faults = if settings.plays_faults() { &settings.faults[..] } else { &[] };
    let mut driving = std::pin::pin!(async {
        drivers.drive(run).await?;
        if delivery.is_some() {
            others_too(&run.course).await;
        }
        Ok(())
    });
    let mut playing = std::pin::pin!(stage.play(faults, &run.course, &run.recorder));
    let mut live = Live::on_stderr(arguments.quiet);
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut renewing = interval(RENEW_EVERY);
    renewing.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut is_playing, mut is_called_off) = (true, false);
    let (mut is_interrupted, mut is_left) = (false, false);
    let mut ended = COMPLETE;
    let result = loop {
        tokio::select! {
            driven = &mut driving => break driven.map(|()| ended),
            () = &mut playing, if is_playing => is_playing = false,
            () = signals.next() => {
                is_left = is_interrupted;
                is_interrupted = true;
                if is_left {
                    break Ok(INTERRUPTED);
                }
                if is_early(&run.course) {
                    ended = INTERRUPTED;
                }
                live.end();
                eprintln!("interrupted; waiting for what is under way, Ctrl-C again to leave it");
            }
            () = called_off(delivery), if !is_called_off => {
                is_called_off = true;
                // Else only what is under way is left.
                if is_early(&run.course) {
                    ended = INTERRUPTED;
                }
            }
            _ = seconds.tick() => live.tell(run.recorder.snapshot()),
            _ = renewing.tick() => renew(names, settings, run),
        }
    };
    run.course.stop();
    live.end();
    if is_playing {
        tokio::select! {
            biased;
            () = &mut playing => {}
            // What is not undone by then is as it is dropped, without waiting for it.
            () = sleep(UNDO_MAX), if is_left => {}
            () = signals.next() => {}
        }
    }
    result
}

/// Makes no more lookups due. Answers whether that ends the run before its time: one without an end
/// of its own has no other.
fn is_early(course: &Course) -> bool {
    course.stop();
    course.duration.is_some_and(|duration| course.elapsed() < duration)
}

/// How a run ended that somebody stopped.
const INTERRUPTED: &str = "interrupted";

/// Waits until worker 0 is gone.
async fn called_off(delivery: Option<&coordinator::Delivery>) {
    match delivery {
        Some(delivery) => delivery.called_off().await,
        None => std::future::pending().await,
    }
}

/// Waits until no lookups of other workers are due: asking for their reports ends their runs.
async fn others_too(course: &Course) {
    let Some(duration) = course.duration else { return };
    tokio::select! {
        () = sleep_until(course.started + duration + APART_MAX) => {}
        () = course.stopped() => {}
    }
}

/// Gives a run without end the names that the cluster has by this time. Others keep theirs, so
/// that they can be repeated.
fn renew(names: &Names, settings: &Settings, run: &Run) {
    if settings.duration.is_none()
        && let Some(work) = names.renewed(settings)
    {
        run.work.store(Arc::new(work));
    }
}

fn plan(arguments: &RunArguments, settings: &Settings, names: &Names) -> Plan {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let transport = match settings.target.transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    };
    Plan {
        servers: settings.target.servers.iter().map(ToString::to_string).collect(),
        transport: transport.to_owned(),
        arrivals: settings.profile.to_string(),
        names: format!("{}: {}", names.from, names.work.describe()),
        name_count: names.work.name_count() as u64,
        resolvers: arguments.resolver.iter().map(|it: &Resolver| it.name().to_owned()).collect(),
        clients: drivers(arguments, settings).client_count() as u64,
        seed: arguments.seed,
        slow_ms: ms(settings.slow),
        staleness_ms: names.truth.as_ref().map(|_| ms(settings.staleness)),
    }
}

/// Writes all reports that are wanted. One that cannot be written keeps no other from being so.
fn tell(arguments: &RunArguments, report: &Report) -> Result<(), Error> {
    let to_stdout = |path: &&std::path::PathBuf| path.as_os_str() == "-";
    let mut written = vec![
        arguments.json.as_ref().map(|path| json::write(report, path)),
        arguments.hdr.as_ref().map(|path| hdr::write(report, path)),
        arguments.junit.as_ref().map(|path| junit::write(report, path)),
        arguments.html.as_ref().map(|path| json::write_file(path, page::write(report).as_bytes())),
    ];
    let files = [&arguments.json, &arguments.hdr, &arguments.junit, &arguments.html];
    if !files.into_iter().flatten().any(|path| to_stdout(&path)) {
        written.push(Some(say(&text::summary(report, Paint::for_stdout()))));
    }
    let mut errors = written.into_iter().flatten().filter_map(Result::err);
    let Some(first) = errors.next() else { return Ok(()) };
    errors.for_each(|error| eprintln!("mainstay load: {error}"));
    Err(first)
}

#[cfg(test)]
mod tests {
    use super::super::report::Goal;
    use super::*;

    #[test]
    fn the_exit_status_is_that_of_the_goals_and_of_the_end() {
        let goal = |is_met| vec![Goal { is_met, ..Goal::default() }];
        for (ended, slo, code) in [
            (COMPLETE, Vec::new(), 0),
            (COMPLETE, goal(true), 0),
            (COMPLETE, goal(false), MISSED),
            (INTERRUPTED, Vec::new(), 0),
            ("without worker 3, which vanished", Vec::new(), NOT_MADE),
            ("without worker 3, which vanished", goal(false), MISSED),
        ] {
            let report = Report { ended: ended.to_owned(), slo, ..Report::default() };
            assert_eq!(status(&report), code, "{ended}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_is_interrupted_only_before_its_end() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let courses = [None, seconds(10), seconds(20)].map(|it| Course::new(Instant::now(), it));
        tokio::time::advance(Duration::from_secs(15)).await;
        assert_eq!(courses.each_ref().map(is_early), [false, false, true]);
        assert!(courses.iter().all(Course::is_stopped));
    }
}

//! Drills: runs as files, with servers that are started for them, faults and their tables.
//!
//! ```text
//!                      ┌─► replica 0 ─┐              ┌─► relay ─► API server, or manifests
//! clients ─► balancer ─┤              ├─ Corefile ───┤
//!                      └─► replica 1 ─┘              └─► relay ─► upstream that answers all
//! ```
//!
//! Each server under test, Mainstay first and then its peers, goes through the same steps with
//! the same names at the same rate. The files are in `tests/drills` and part of the binary.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::Error;
use super::arguments::DrillArguments;
use super::arrivals::Profile;
use super::drive::Drivers;
use super::fault::relay::{Between, ByteRelay, Relay, To};
use super::record::{COMPLETE, Recorder};
use super::report::{Plan, Report, json, page};
use super::resolver::ResolvConf;
use super::run::{Course, Run};
use super::signals::Signals;
use super::target::{Target, Transport};
use super::tasks::mix::{self, Mix};
use super::tasks::popularity::Popularity;
use super::tasks::{Recipe, Work, cluster};
use super::truth::Truth;
use crate::cluster::config::Source;
use crate::cluster::pods::Hands;
use crate::wire::Name;

mod ending;
pub mod file;
mod flood;
mod kubeconfig;
mod objects;
mod replica;
mod site;
pub mod step;
mod table;

use file::Drill;
use replica::{Setting, Subject};
use site::Site;

/// Domain of the cluster.
const DOMAIN: &str = "cluster.local";
/// A right answer later than this is slow.
const SLOW: Duration = Duration::from_secs(1);
/// How old an answer may be and still be true.
const STALENESS: Duration = Duration::from_secs(1);
/// A packet without a reply for so long is lost.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time until the objects are known to us.
const KNOWN_MAX: Duration = Duration::from_secs(60);
/// Time between the start of servers and of lookups.
const SETTLE: Duration = Duration::from_secs(1);
/// Names outside of the cluster.
const FOREIGN_NAMES: usize = 2000;
/// How a run ended that somebody stopped.
const INTERRUPTED: &str = "interrupted";
/// Of all chance in a drill: each server gets the same lookups at the same times.
const SEED: u64 = 1;

/// Runs the drill of the arguments, or lists all. Answers what is to be printed.
///
/// # Errors
/// No such drill, or one that cannot be run here.
pub async fn run(arguments: &DrillArguments) -> Result<String, Error> {
    let Some(name) = &arguments.name else { return Ok(table::list(&Drill::built_in())) };
    let scale = arguments.scale;
    if !(scale.is_finite() && (0.01..=100.0).contains(&scale)) {
        return Err(Error::Config(format!("--scale {scale}: give a factor from 0.01 to 100")));
    }
    let drill = Drill::open(name)?.scaled(scale);
    if drill.needs_api() && arguments.kubeconfig.is_none() {
        return Err(Error::Config(format!(
            "{name} changes objects or cuts off the API server; name one with --kubeconfig FILE"
        )));
    }
    let place = Place::new(arguments, &drill).await?;
    let mut signals = Signals::listen()?;
    let mut results = Vec::new();
    for subject in subjects(arguments)? {
        if !subject.reads_manifests && arguments.kubeconfig.is_none() {
            let name = &subject.name;
            eprintln!("SKIPPED: {name} has no manifests; name an API server with --kubeconfig");
            continue;
        }
        eprintln!("{}: {}, {} s", drill.name, subject.name, drill.duration.as_secs());
        let result = place.measure(&drill, &subject, &mut signals).await;
        let is_whole = result.as_ref().is_ok_and(|result| result.report.ended == COMPLETE);
        results.push((subject, result));
        if !is_whole {
            break;
        }
    }
    // Whatever happened, nothing stays behind and nothing that was measured is lost.
    place.leave().await;
    conclude(arguments, &drill, &place, results)
}

/// Writes the reports, and the table of those that came about.
fn conclude(
    arguments: &DrillArguments,
    drill: &Drill,
    place: &Place,
    results: Vec<(Subject, Result<Measured, Error>)>,
) -> Result<String, Error> {
    let (mut measured, mut failed) = (Vec::new(), None);
    for (subject, result) in results {
        match result {
            Ok(result) => {
                if arguments.out.is_some() {
                    place.write(drill, &subject, &result.report)?;
                }
                measured.push((subject.name, result));
            }
            Err(error) => failed = Some(format!("{}: {error}", subject.name)),
        }
    }
    let table = table::results(drill, &measured);
    match failed {
        Some(why) if measured.is_empty() => Err(Error::Config(why)),
        Some(why) => Err(Error::Config(format!("{why}\n\n{table}"))),
        None => Ok(table),
    }
}

/// What a server did in a drill.
pub struct Measured {
    /// All figures.
    pub report: Report,
    /// What is to be known beside them.
    pub notes: Vec<String>,
}

/// Mainstay, and the peers of the command line.
fn subjects(arguments: &DrillArguments) -> Result<Vec<Subject>, Error> {
    let own = std::env::current_exe()
        .map_err(|error| Error::System { what: "find our own program".to_owned(), error })?;
    let quoted = shlex_quoted(&own)?;
    let mut subjects = vec![Subject {
        name: "mainstay".to_owned(),
        command: format!("{quoted} serve --supervised --state {{state}} -conf {{conf}} --quiet"),
        reads_manifests: true,
    }];
    for peer in &arguments.peer {
        let wrong = || {
            let how = "write NAME=COMMAND with {conf} for its Corefile";
            Error::Config(format!("--peer {peer:?}: {how}"))
        };
        let (name, command) = peer.split_once('=').ok_or_else(wrong)?;
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        if name.is_empty() || !name.chars().all(is_word) || !command.contains("{conf}") {
            return Err(wrong());
        }
        let (name, command) = (name.to_owned(), command.to_owned());
        subjects.push(Subject { name, command, reads_manifests: false });
    }
    Ok(subjects)
}

/// A path as a word of a command line.
fn shlex_quoted(path: &Path) -> Result<String, Error> {
    let text = path.to_str().filter(|text| !text.contains('\''));
    text.map(|text| format!("'{text}'")).ok_or_else(|| {
        Error::Config(format!("{}: this path cannot be written in a command", path.display()))
    })
}

/// What all servers of a drill share.
struct Place {
    /// For reports and logs.
    folder: PathBuf,
    /// For what nobody else may read, and nobody wants afterwards.
    private: PathBuf,
    kubeconfig: Option<PathBuf>,
    hands: Option<Arc<Hands>>,
    cgroup: Option<Cgroup>,
}

impl Place {
    async fn new(arguments: &DrillArguments, drill: &Drill) -> Result<Self, Error> {
        let private = std::env::temp_dir().join(format!(
            "mainstay-drill-{}-{:016x}",
            std::process::id(),
            rand::random::<u64>()
        ));
        let remedy = "name a folder for temporary files with TMPDIR";
        // One that is there already may be somebody's trap.
        std::fs::DirBuilder::new().mode(0o700).create(&private).map_err(|error| Error::File {
            path: private.clone(),
            error,
            remedy,
        })?;
        let folder = arguments.out.clone().unwrap_or_else(|| private.clone());
        let remedy = "name a folder that can be written with --out";
        std::fs::create_dir_all(&folder).map_err(|error| Error::File {
            path: folder.clone(),
            error,
            remedy,
        })?;
        let hands = match &arguments.kubeconfig {
            Some(path) => Some(Arc::new(hands(path).await?)),
            None => None,
        };
        let cgroup = drill.memory_mib.map(Cgroup::new).transpose()?;
        let kubeconfig = arguments.kubeconfig.clone();
        Ok(Self { folder, private, kubeconfig, hands, cgroup })
    }

    /// Takes one server through the drill. A signal ends it, and what was measured stays.
    async fn measure(
        &self,
        drill: &Drill,
        subject: &Subject,
        signals: &mut Signals,
    ) -> Result<Measured, Error> {
        let prepared = tokio::select! {
            prepared = self.prepare(drill, subject) => prepared,
            () = signals.next() => Err(Error::Config("interrupted before the first lookup".into())),
        };
        let (mut site, run, following) = prepared?;
        let drivers = drivers(drill, site.address())?;
        let (course, recorder) = (run.course.clone(), Arc::clone(&run.recorder));
        let mut ended = COMPLETE;
        let drive = async {
            let mut driving = std::pin::pin!(drivers.drive(&run));
            let driven = loop {
                tokio::select! {
                    driven = &mut driving => break driven,
                    () = signals.next() => match ended {
                        COMPLETE => {
                            ended = INTERRUPTED;
                            course.stop();
                        }
                        // The second one: what is under way is left.
                        _ => break Ok(()),
                    }
                }
            };
            course.stop();
            driven
        };
        let (driven, ()) = tokio::join!(drive, site.play(&drill.steps, &course, &recorder));
        following.stop().await;
        driven?;
        let mut report = run.recorder.report(plan(drill, &run, subject), &drill.name, ended);
        if ended == COMPLETE {
            let is_left = tokio::select! {
                () = site.ended(&mut report) => false,
                // What still runs is killed with the site.
                () = signals.next() => true,
            };
            if is_left {
                report.ended = INTERRUPTED.to_owned();
            }
        }
        Ok(Measured { notes: table::notes(drill, &report, &site), report })
    }

    /// Starts everything around a server, and the server.
    async fn prepare(
        &self,
        drill: &Drill,
        subject: &Subject,
    ) -> Result<(Site, Arc<Run>, super::truth::Running), Error> {
        self.make_objects().await?;
        let (api, source) = self.source().await?;
        let upstream = Relay::start(Between { listen: site::ANY, to: To::Stub }, SEED).await?;
        let setting = Setting {
            folder: self.folder.clone(),
            source,
            upstream: upstream.listen(),
            lameduck: drill.lameduck,
            cgroup: self.cgroup.as_ref().map(|cgroup| cgroup.path.clone()),
        };
        let (truth, following) = self.truth().await?;
        let relays = (api, self.hands.clone());
        let site = Site::open(drill, subject, setting, upstream, relays).await?;
        let run = prepare(drill, &site, truth)?;
        Ok((site, run, following))
    }

    /// Makes the objects as they are at the start.
    async fn make_objects(&self) -> Result<(), Error> {
        let Some(hands) = &self.hands else {
            let path = self.manifest();
            let text = objects::list().to_string();
            let remedy = "name a folder that can be written with --out";
            return std::fs::write(&path, text).map_err(|error| Error::File {
                path,
                error,
                remedy,
            });
        };
        for object in objects::without_addresses() {
            hands.apply(&object).await.map_err(|refusal| Error::Cluster(refusal.to_string()))?;
        }
        Ok(())
    }

    fn manifest(&self) -> PathBuf {
        self.private.join("objects.yaml")
    }

    /// What `kubernetes` in the Corefile says of its source, and the relay in between.
    async fn source(&self) -> Result<(Option<ByteRelay>, String), Error> {
        let Some(path) = &self.kubeconfig else {
            return Ok((None, format!("manifests {}", self.manifest().display())));
        };
        let remedy = "name a kubeconfig that can be read with --kubeconfig";
        let text = std::fs::read_to_string(path).map_err(|error| Error::File {
            path: path.clone(),
            error,
            remedy,
        })?;
        let wrong = |why: String| Error::Config(format!("{}: {why}", path.display()));
        let [port] = replica::free_ports()?;
        let (server, text) = kubeconfig::relayed(&text, port).map_err(wrong)?;
        let relay = ByteRelay::start(&format!("{port}={server}")).await?;
        // It may have credentials in it.
        let copy = self.private.join("kubeconfig");
        let remedy = "name a folder for temporary files with TMPDIR";
        std::fs::write(&copy, text).map_err(|error| Error::File {
            path: copy.clone(),
            error,
            remedy,
        })?;
        Ok((Some(relay), format!("kubeconfig {}", copy.display())))
    }

    async fn truth(&self) -> Result<(Arc<Truth>, super::truth::Running), Error> {
        let source = match &self.kubeconfig {
            Some(path) => source_of(path),
            None => Source::Manifests(vec![self.manifest()]),
        };
        let (truth, following) = Truth::follow(source, domain(), STALENESS).await?;
        truth.known(KNOWN_MAX).await?;
        Ok((truth, following))
    }

    fn write(&self, drill: &Drill, subject: &Subject, report: &Report) -> Result<(), Error> {
        let stem = format!("{}.{}", drill.name, subject.name);
        json::write(report, &self.folder.join(format!("{stem}.json")))?;
        let page = page::write(report);
        json::write_file(&self.folder.join(format!("{stem}.html")), page.as_bytes())
    }

    /// Takes away what was made, but for the Namespace.
    async fn leave(&self) {
        if let Some(hands) = &self.hands {
            for object in objects::all().iter().rev().filter(|it| it["kind"] != "Namespace") {
                if let Err(refusal) = hands.delete(object).await {
                    eprintln!("an object of the drill was not deleted: {refusal}");
                }
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is in it is ours alone.
        let _ = std::fs::remove_dir_all(&self.private);
    }
}

fn source_of(kubeconfig: &Path) -> Source {
    Source::Kubeconfig { path: kubeconfig.to_owned(), context: None }
}

async fn hands(kubeconfig: &Path) -> Result<Hands, Error> {
    let opened = Hands::open(&source_of(kubeconfig)).await;
    opened.map_err(|error| Error::Cluster(error.to_string()))
}

fn domain() -> Name {
    Name::parse(DOMAIN).expect("it is a name")
}

/// A run over the names of the drill's objects.
fn prepare(drill: &Drill, site: &Site, truth: Arc<Truth>) -> Result<Arc<Run>, Error> {
    let recipe = Recipe {
        popularity: Popularity::Uniform,
        mix: Mix::parse(&drill.mix)?,
        foreign: mix::foreign(&foreign_names())?,
        domain: domain(),
        namespace: objects::NAMESPACE.into(),
        seed: SEED,
    };
    let objects = truth.objects();
    let own = |task: &Arc<super::tasks::Task>| objects::is_ours(&task.name.to_string());
    let tasks = cluster::tasks(objects.iter().map(|it| &**it), &domain(), objects::NAMESPACE);
    let work = Work::build(tasks.into_iter().filter(own).collect(), &recipe)?;
    let course = Course::new(Instant::now() + SETTLE, Some(drill.duration));
    Ok(Arc::new(Run {
        target: Target { servers: vec![site.address()], transport: Transport::Udp },
        work: ArcSwap::from_pointee(work),
        truth: Some(truth),
        recorder: Recorder::new(course.clone(), SLOW),
        course,
        timeout: TIMEOUT,
        seed: SEED,
    }))
}

/// So many that most lookups of one come later than its TTL: a cache may help, but cannot hide what
/// ails the upstream.
fn foreign_names() -> Vec<String> {
    (0..FOREIGN_NAMES).map(|number| format!("host-{number}.example.org")).collect()
}

fn drivers(drill: &Drill, server: std::net::SocketAddr) -> Result<Drivers, Error> {
    Ok(Drivers {
        profile: Profile::Poisson(drill.rate),
        resolvers: drill.resolvers.clone(),
        clients: drill.clients_each as usize * drill.resolvers.len(),
        threads: 1,
        worker: (0, 1),
        conf: Arc::new(ResolvConf::of_pod(objects::NAMESPACE, DOMAIN, vec![server])?),
    })
}

fn plan(drill: &Drill, run: &Run, subject: &Subject) -> Plan {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    Plan {
        servers: vec![subject.name.clone()],
        transport: "udp".to_owned(),
        arrivals: Profile::Poisson(drill.rate).to_string(),
        names: run.work.load().describe(),
        name_count: run.work.load().name_count() as u64,
        resolvers: drill.resolvers.iter().map(|it| it.name().to_owned()).collect(),
        clients: u64::from(drill.clients_each) * drill.resolvers.len() as u64,
        seed: SEED,
        slow_ms: ms(SLOW),
        staleness_ms: Some(ms(STALENESS)),
    }
}

/// A cgroup with a bound on memory. Dropping it removes it.
struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    fn new(mib: u32) -> Result<Self, Error> {
        let path = PathBuf::from(format!("/sys/fs/cgroup/mainstay-drill-{}", std::process::id()));
        let remedy = "this drill bounds memory by a cgroup (version 2), which needs root";
        let write = |file: &str, text: String| std::fs::write(path.join(file), text);
        let fails = |error| Error::File { path: path.clone(), error, remedy };
        std::fs::create_dir(&path).map_err(fails)?;
        let cgroup = Self { path: path.clone() };
        write("memory.max", (u64::from(mib) << 20).to_string()).map_err(fails)?;
        // Without swap, memory that is full is full. Kernels without swap accounting lack the file.
        let _ = write("memory.swap.max", "0".to_owned());
        Ok(cgroup)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The processes in it have ended before; one that has not keeps it there.
        let _ = std::fs::remove_dir(&self.path);
    }
}

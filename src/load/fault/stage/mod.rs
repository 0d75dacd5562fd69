//! What faults act upon, and their course: each is done at its time and undone at its end.
//!
//! Nothing stays as a fault has made it: when the run is stopped, what is in force is undone at
//! once, and so it is when [`Stage::play`] is dropped. Spans without an end last as long as
//! lookups become due, so that those under way at the end find a server that answers.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep_until;

use super::command::{self, Half};
use super::process::{Output, Server};
use super::relay::{Between, ByteRelay, Impairment, Relay, To};
use super::{Action, Fault, pods};
use crate::cluster::config::Source;
use crate::cluster::pods::Hands;
use crate::load::Error;
use crate::load::arguments::RunArguments;
use crate::load::record::Recorder;
use crate::load::run::Course;

/// Relays that one run may have.
pub const RELAYS_MAX: usize = 16;

/// What faults act upon.
pub struct Stage {
    // The server goes before what it depends on.
    server: Option<Server>,
    upstreams: Vec<Relay>,
    api: Option<ByteRelay>,
    hands: Option<Hands>,
}

/// What a stage is made of, as on the command line.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// `--pid`
    pub pid: Option<u32>,
    /// `--server-command`
    pub server_command: Option<String>,
    /// Where the output of that goes.
    pub output: Output,
    /// `--upstream`
    pub upstreams: Vec<String>,
    /// `--api`
    pub api: Option<String>,
    /// The cluster whose objects are changed.
    pub cluster: Option<Source>,
    /// Of all chance.
    pub seed: u64,
}

/// What is told of a fault.
#[derive(Clone, Debug, PartialEq)]
enum Note<'f> {
    /// It was done at that time, and undone at that.
    Done { what: &'f Fault, at: Duration, until: Option<Duration> },
    /// It could not be done.
    Failed { what: &'f Fault, at: Duration, why: String },
}

/// How a fault is undone: dropping it does.
enum Undo<'s> {
    /// There is nothing to undo.
    Nothing,
    /// SIGCONT.
    Continue(&'s Server),
    /// Impairments of relays end.
    Mend(Vec<(&'s Relay, u64)>),
    /// The API server comes back.
    Up(&'s ByteRelay),
    /// The same command, told that this is the end.
    Run(&'s str),
}

impl Setting {
    /// What the command line says.
    pub fn of(arguments: &RunArguments) -> Self {
        let context = arguments.context.clone();
        let kubeconfig = arguments.kubeconfig.clone();
        let cluster = kubeconfig.map(|path| Source::Kubeconfig { path, context });
        let cluster = cluster.or_else(|| arguments.cluster.then_some(Source::InCluster));
        Self {
            pid: arguments.pid,
            server_command: arguments.server_command.clone(),
            output: Output::Kept,
            upstreams: arguments.upstream.clone(),
            api: arguments.api.clone(),
            cluster,
            seed: arguments.seed,
        }
    }
}

impl Setting {
    /// The servers that relays pass questions on to.
    ///
    /// # Errors
    /// An `--upstream` that cannot be read.
    pub fn relayed(&self) -> Result<Vec<SocketAddr>, Error> {
        let to = |text: &String| match Between::parse(text)?.to {
            To::Server(server) => Ok(Some(server)),
            To::Stub => Ok(None),
        };
        self.upstreams.iter().filter_map(|text| to(text).transpose()).collect()
    }
}

impl Stage {
    /// Sets up relays, and then the server, which may need them as it starts.
    ///
    /// # Errors
    /// Options that are wrong, ports that cannot be had, a server that cannot be started.
    pub async fn open(setting: &Setting) -> Result<Self, Error> {
        if setting.upstreams.len() > RELAYS_MAX {
            return Err(Error::Config(format!("--upstream: at most {RELAYS_MAX} relays")));
        }
        let mut upstreams = Vec::new();
        for (text, number) in setting.upstreams.iter().zip(0..) {
            let seed = setting.seed.wrapping_add(number);
            upstreams.push(Relay::start(Between::parse(text)?, seed).await?);
        }
        let api = match &setting.api {
            Some(text) => Some(ByteRelay::start(text).await?),
            None => None,
        };
        let hands = match &setting.cluster {
            Some(source) => Some(hands(source).await?),
            None => None,
        };
        let server = match (&setting.server_command, setting.pid) {
            (Some(command), _) => Some(Server::start(command, setting.output.clone())?),
            (None, pid) => pid.map(Server::attach).transpose()?,
        };
        Ok(Self { server, upstreams, api, hands })
    }

    /// The process of the server.
    pub fn server(&self) -> Option<&Server> {
        self.server.as_ref()
    }

    /// The relays to upstreams, as written.
    pub fn upstreams(&self) -> &[Relay] {
        &self.upstreams
    }

    /// The relay to the API server.
    pub fn api(&self) -> Option<&ByteRelay> {
        self.api.as_ref()
    }

    /// Finds faults that cannot be done in a run of that length, before it begins.
    ///
    /// # Errors
    /// Which option is missing.
    pub fn check(&self, faults: &[Fault], duration: Option<Duration>) -> Result<(), Error> {
        for fault in faults {
            if let Some(missing) = self.missing(&fault.action) {
                return Err(Error::Config(format!("--fault {fault}: {missing}")));
            }
            if let Some(duration) = duration.filter(|duration| fault.at >= *duration) {
                let text = format!("the run is over after {} s", duration.as_secs_f64());
                let remedy = "make --duration longer or the fault earlier";
                return Err(Error::Config(format!("--fault {fault}: {text}; {remedy}")));
            }
        }
        Ok(())
    }

    /// What of the stage a fault would miss, and how to get it.
    fn missing(&self, action: &Action) -> Option<&'static str> {
        use Action::*;
        match action {
            Kill9 | Stop | Term if self.server.is_none() => {
                Some("there is no server to signal; give --pid or --server-command")
            }
            Restart if !self.server.as_ref().is_some_and(Server::is_ours) => {
                Some("only a server that we start can be started anew; give --server-command")
            }
            BlackholeUpstream | DelayUpstream(_) | LossUpstream(_) | ServfailUpstream
            | TruncateUpstream | PpsUpstream(_)
                if self.upstreams.is_empty() =>
            {
                Some(
                    "there is no relay to an upstream; give --upstream LISTEN=TO and let the server \
                     forward to LISTEN",
                )
            }
            ApiDown if self.api.is_none() => Some(
                "there is no relay to the API server; give --api LISTEN=TO and let the server \
                     watch LISTEN",
            ),
            DeletePod { .. } | RolloutRestart { .. } if self.hands.is_none() => {
                Some("there is no cluster to change; give --cluster or --kubeconfig")
            }
            _ => None,
        }
    }

    /// Does all faults at their times, and undoes them. Ends when all are undone, or the run is
    /// over.
    pub async fn play(&self, faults: &[Fault], course: &Course, recorder: &Recorder) {
        self.play_to(faults, course, &|note| match note {
            Note::Done { what, at, until } => recorder.fault(&what.written, at, until),
            Note::Failed { what, at, why } => recorder.fault_failed(&what.written, at, &why),
        })
        .await;
    }

    async fn play_to<'s>(
        &'s self,
        faults: &'s [Fault],
        course: &Course,
        note: &(impl Fn(Note<'s>) + Sync),
    ) {
        join_all(faults.iter().map(|fault| self.play_one(fault, course, note))).await;
    }

    async fn play_one<'s>(
        &'s self,
        what: &'s Fault,
        course: &Course,
        note: &(impl Fn(Note<'s>) + Sync),
    ) {
        tokio::select! {
            () = sleep_until(course.started + what.at) => {}
            () = over(course) => return,
        }
        let at = course.elapsed();
        let failed = |why| note(Note::Failed { what, at, why });
        let begun = tokio::select! {
            // What is done just as the run ends is told as done.
            biased;
            begun = self.begin(what) => begun,
            // What is half done is undone as it is dropped.
            () = over(course) => Ok(Undo::Nothing),
        };
        let undo = match begun {
            Ok(undo) => undo,
            Err(why) => return failed(why),
        };
        note(Note::Done { what, at, until: None });
        if matches!(undo, Undo::Nothing) {
            return;
        }
        tokio::select! {
            () = until(course, what.until) => {}
            () = over(course) => {}
        }
        if let Err(why) = undo.carry_out().await {
            failed(format!("it cannot be undone: {why}"));
        }
        note(Note::Done { what, at, until: Some(course.elapsed()) });
    }

    /// Does a fault.
    async fn begin<'s>(&'s self, fault: &'s Fault) -> Result<Undo<'s>, String> {
        use Action::*;
        match &fault.action {
            Kill9 => self.process()?.kill9()?,
            Term => self.process()?.term()?,
            Restart => self.process()?.restart().await?,
            Stop => {
                self.process()?.stop()?;
                return Ok(Undo::Continue(self.process()?));
            }
            BlackholeUpstream => return Ok(self.impair(Impairment::Blackhole)),
            DelayUpstream(delay) => return Ok(self.impair(Impairment::Delay(*delay))),
            LossUpstream(share) => return Ok(self.impair(Impairment::Loss(*share))),
            ServfailUpstream => return Ok(self.impair(Impairment::Servfail)),
            TruncateUpstream => return Ok(self.impair(Impairment::Truncate)),
            PpsUpstream(rate) => return Ok(self.impair(Impairment::Pps(*rate))),
            ApiDown => {
                let api = self.api.as_ref().ok_or("there is no --api")?;
                api.down();
                let undo = Undo::Up(api);
                api.is_down().await;
                return Ok(undo);
            }
            DeletePod { namespace, selector } => {
                pods::delete(self.hands()?, namespace, selector).await?;
            }
            RolloutRestart { namespace, kind, name } => {
                pods::restart(self.hands()?, namespace, kind, name).await?;
            }
            Command(shell) if fault.until.is_some() => {
                let undo = Undo::Run(shell);
                command::run(shell, Half::Begin).await?;
                return Ok(undo);
            }
            Command(shell) => command::run(shell, Half::Begin).await?,
        }
        Ok(Undo::Nothing)
    }

    /// Makes all upstreams worse.
    fn impair(&self, impairment: Impairment) -> Undo<'_> {
        let begun = self.upstreams.iter().map(|relay| (relay, relay.begin(impairment)));
        Undo::Mend(begun.collect())
    }

    fn process(&self) -> Result<&Server, String> {
        self.server.as_ref().ok_or_else(|| "there is no server".to_owned())
    }

    fn hands(&self) -> Result<&Hands, String> {
        self.hands.as_ref().ok_or_else(|| "there is no cluster".to_owned())
    }
}

impl Undo<'_> {
    /// Undoes it, and waits for that.
    async fn carry_out(self) -> Result<(), String> {
        let Self::Run(shell) = self else { return Ok(()) };
        let ended = command::undo(shell).await;
        // It is done; dropping it would do it again.
        std::mem::forget(self);
        ended
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        match self {
            Self::Nothing => {}
            Self::Continue(server) => server.cont(),
            Self::Mend(begun) => begun.iter().for_each(|(relay, number)| relay.end(*number)),
            Self::Up(api) => api.up(),
            Self::Run(shell) => command::undo_at_once(shell),
        }
    }
}

/// Reads the credentials of a cluster.
async fn hands(source: &Source) -> Result<Hands, Error> {
    Hands::open(source).await.map_err(|error| Error::Cluster(error.to_string()))
}

/// Waits until no more lookups are due.
async fn over(course: &Course) {
    tokio::select! {
        () = course.stopped() => {}
        () = until(course, course.duration) => {}
    }
}

/// Waits for a time of the run; for ever without one.
async fn until(course: &Course, time: Option<Duration>) {
    match time {
        Some(time) => sleep_until(course.started + time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;

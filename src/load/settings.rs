//! What the command line means: everything is read and checked before anything is started.

use std::sync::Arc;
use std::time::Duration;

use super::Error;
use super::arguments::RunArguments;
use super::arrivals::{Profile, parse_time};
use super::fault::Fault;
use super::place::canary::Canary;
use super::place::coordinator;
use super::report::slo::{self, Objective};
use super::resolver::{ResolvConf, SERVERS_MAX};
use super::target::{Target, Transport};
use super::tasks::Recipe;
use super::tasks::mix::{self, Mix};
use super::tasks::popularity::Popularity;
use crate::cluster::config::Source;
use crate::wire::Name;

/// Arrivals unless the command line says: what no server minds.
const PROFILE_DEFAULT: &str = "poisson:20";

/// A run, as wanted.
pub struct Settings {
    /// When lookups are due.
    pub profile: Profile,
    /// For how long; `None` for ever.
    pub duration: Option<Duration>,
    /// A packet without a reply for so long is lost.
    pub timeout: Duration,
    /// A right answer that takes longer is slow.
    pub slow: Duration,
    /// How old an answer may be and still be true.
    pub staleness: Duration,
    /// Who is asked.
    pub target: Target,
    /// How clients with a resolver ask.
    pub conf: Arc<ResolvConf>,
    /// What names are made of.
    pub recipe: Recipe,
    /// Where objects come from.
    pub source: Option<Source>,
    /// What is done meanwhile.
    pub faults: Vec<Fault>,
    /// What decides the exit status.
    pub goals: Vec<Objective>,
    /// It runs for ever.
    pub canary: Option<Canary>,
    /// Others run with it.
    pub workers: Option<coordinator::Settings>,
}

impl Settings {
    /// Reads the command line.
    ///
    /// # Errors
    /// The first option that is wrong, and what to write.
    pub fn read(arguments: &RunArguments) -> Result<Self, Error> {
        let canary = Canary::new(arguments)?;
        let profile = profile(arguments, canary.as_ref())?;
        let duration = match canary {
            Some(_) => None,
            None => Some(time("--duration", &arguments.duration)?).filter(|it| !it.is_zero()),
        };
        let goals = arguments.slo.as_deref().map(slo::parse).transpose();
        let faults = arguments.fault.iter().map(|text| Fault::parse(text));
        let recipe = recipe(arguments)?;
        let conf = conf(arguments)?;
        let transport = arguments.transport;
        Ok(Self {
            profile,
            duration,
            timeout: positive("--timeout", &arguments.timeout)?,
            slow: positive("--slow", &arguments.slow)?,
            staleness: time("--staleness", &arguments.staleness)?,
            target: target(&conf, transport)?,
            conf: Arc::new(conf),
            recipe,
            source: source(arguments)?,
            faults: faults.collect::<Result<_, _>>()?,
            goals: goals.map_err(Error::Config)?.unwrap_or_default(),
            canary,
            workers: coordinator::Settings::new(arguments)?,
        })
    }

    /// The domain of the cluster.
    pub fn domain(&self) -> &Name {
        &self.recipe.domain
    }

    /// Whether this worker starts servers and relays and carries out faults: all of them would do
    /// the same to one cluster.
    pub fn plays_faults(&self) -> bool {
        self.workers.as_ref().is_none_or(|worker| worker.index == 0)
    }

    /// The highest rate of the run, in lookups per second.
    pub fn peak_rate(&self) -> f64 {
        self.profile.peak_rate()
    }
}

fn profile(arguments: &RunArguments, canary: Option<&Canary>) -> Result<Profile, Error> {
    let (option, text) = match (canary, arguments.rate, &arguments.profile) {
        (Some(canary), _, _) => ("--canary", canary.profile()),
        (None, Some(rate), _) => ("--rate", format!("constant:{rate}")),
        (None, None, Some(profile)) => ("--profile", profile.clone()),
        (None, None, None) => ("--profile", PROFILE_DEFAULT.to_owned()),
    };
    Profile::parse(&text).map_err(|why| Error::Config(format!("{option} {why}")))
}

fn time(option: &str, text: &str) -> Result<Duration, Error> {
    parse_time(text).map_err(|why| Error::Config(format!("{option}: {why}")))
}

fn positive(option: &str, text: &str) -> Result<Duration, Error> {
    match time(option, text)? {
        Duration::ZERO => Err(Error::Config(format!("{option} {text}: give more than nothing"))),
        time => Ok(time),
    }
}

fn conf(arguments: &RunArguments) -> Result<ResolvConf, Error> {
    let servers = arguments.servers.clone();
    match &arguments.resolv_conf {
        None => {
            let namespace = &arguments.namespace;
            let conf = ResolvConf::of_pod(namespace, &arguments.cluster_domain, servers);
            // The domain has been read before.
            conf.map_err(|why| Error::Config(format!("--namespace {namespace:?}: {why}")))
        }
        Some(path) if servers.is_empty() => ResolvConf::read(path),
        Some(path) => Ok(ResolvConf::read(path)?.with_servers(servers)),
    }
}

fn target(conf: &ResolvConf, transport: Transport) -> Result<Target, Error> {
    let servers = conf.used_servers().to_vec();
    if servers.is_empty() {
        return Err(Error::Config(
            "no server to ask; name one, such as `mainstay load 10.96.0.10`, or a file with \
             --resolv-conf"
                .to_owned(),
        ));
    }
    if conf.servers.len() > SERVERS_MAX {
        return Err(Error::Config(format!(
            "{} servers to ask; resolvers use {SERVERS_MAX}, leave out the others",
            conf.servers.len()
        )));
    }
    Ok(Target { servers, transport })
}

fn recipe(arguments: &RunArguments) -> Result<Recipe, Error> {
    let domain = &arguments.cluster_domain;
    let wrong = |error| Error::Config(format!("--cluster-domain {domain:?}: {error}"));
    Ok(Recipe {
        popularity: popularity(arguments)?,
        mix: Mix::parse(&arguments.mix)?,
        foreign: mix::foreign(&arguments.foreign)?,
        domain: Name::parse(domain).map_err(wrong)?,
        namespace: arguments.namespace.as_str().into(),
        seed: arguments.seed,
    })
}

/// Captures and lists say by themselves what is asked often.
fn popularity(arguments: &RunArguments) -> Result<Popularity, Error> {
    match &arguments.popularity {
        Some(text) => Popularity::parse(text),
        None if arguments.names.is_some() || arguments.capture.is_some() => {
            Ok(Popularity::AsListed)
        }
        None => Popularity::parse("zipf"),
    }
}

fn source(arguments: &RunArguments) -> Result<Option<Source>, Error> {
    if let Some(path) = &arguments.kubeconfig {
        let (path, context) = (path.clone(), arguments.context.clone());
        return Ok(Some(Source::Kubeconfig { path, context }));
    }
    // A server waits for files that are not there yet; here somebody has mistyped them.
    for path in &arguments.manifests {
        let remedy = "name files or folders of objects with --manifests";
        let missing = |error| Error::File { path: path.clone(), error, remedy };
        path.metadata().map_err(missing)?;
    }
    Ok(match arguments.manifests.is_empty() {
        false => Some(Source::Manifests(arguments.manifests.clone())),
        true => arguments.cluster.then_some(Source::InCluster),
    })
}

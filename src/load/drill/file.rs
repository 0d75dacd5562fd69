//! A drill as a file, and those that are part of the binary.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::step::{Act, Step};
use crate::load::Error;
use crate::load::arrivals::parse_time;
use crate::load::fault::balancer::Cleanup;
use crate::load::resolver::Resolver;

/// A drill.
#[derive(Clone, Debug)]
pub struct Drill {
    /// Name of its file without `.toml`.
    pub name: String,
    /// What it asks, in a sentence.
    pub question: String,
    /// How long lookups become due.
    pub duration: Duration,
    /// Lookups per second, of all clients together.
    pub rate: f64,
    /// Kinds of client.
    pub resolvers: Vec<Resolver>,
    /// Clients of each kind.
    pub clients_each: u32,
    /// Shares of names, as `--mix` has them.
    pub mix: String,
    /// Servers at the start. One is asked directly, as a node's cache is; more are behind a
    /// balancer, as a Service is.
    pub replicas: usize,
    /// When the balancer moves flows away from a server that is gone, as kube-proxy does.
    pub lag: Cleanup,
    /// How long a server goes on answering after SIGTERM (`lameduck`).
    pub lameduck: Duration,
    /// Memory that the server may have, in MiB; beyond that the kernel kills it.
    pub memory_mib: Option<u32>,
    /// What happens.
    pub steps: Vec<Step>,
}

/// The same as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    question: String,
    duration: String,
    #[serde(default = "rate")]
    rate: f64,
    #[serde(default = "resolvers")]
    resolvers: Vec<Resolver>,
    #[serde(default = "clients_each")]
    clients_each: u32,
    #[serde(default = "mix")]
    mix: String,
    #[serde(default = "replicas")]
    replicas: usize,
    #[serde(default = "none")]
    lag: String,
    #[serde(default = "lameduck")]
    lameduck: String,
    memory_mib: Option<u32>,
    steps: Vec<String>,
}

/// The drills of the binary: name and text.
const BUILT_IN: &[(&str, &str)] = &[
    ("kill9-node", include_str!("../../../tests/drills/kill9-node.toml")),
    ("stop-node", include_str!("../../../tests/drills/stop-node.toml")),
    ("rollout-node", include_str!("../../../tests/drills/rollout-node.toml")),
    ("rollout-deploy", include_str!("../../../tests/drills/rollout-deploy.toml")),
    ("scale-zero-and-back", include_str!("../../../tests/drills/scale-zero-and-back.toml")),
    ("node-death", include_str!("../../../tests/drills/node-death.toml")),
    ("api-down-restart", include_str!("../../../tests/drills/api-down-restart.toml")),
    ("upstream-blackhole", include_str!("../../../tests/drills/upstream-blackhole.toml")),
    ("upstream-pps-1024", include_str!("../../../tests/drills/upstream-pps-1024.toml")),
    ("oom", include_str!("../../../tests/drills/oom.toml")),
    ("crash-node", include_str!("../../../tests/drills/crash-node.toml")),
    ("headless-churn", include_str!("../../../tests/drills/headless-churn.toml")),
    ("config-error", include_str!("../../../tests/drills/config-error.toml")),
];

/// Most replicas of a drill.
const REPLICAS_MAX: usize = 8;
/// Longest duration of a drill: one that needs more is a load for `mainstay load`.
const DURATION_MAX: Duration = Duration::from_secs(3600);
/// Most changes of endpoints per second.
const CHURN_MAX: u32 = 1000;
/// Highest rate of a drill, in lookups per second.
const RATE_MAX: f64 = 20_000.0;

impl Drill {
    /// All that are part of the binary.
    pub fn built_in() -> Vec<Self> {
        let parse = |(name, text): &(&str, &str)| Self::parse(name, text);
        BUILT_IN.iter().map(parse).collect::<Result<_, _>>().expect("a test reads them all")
    }

    /// The drill of this name, or of this file.
    ///
    /// # Errors
    /// There is none, or it is wrong.
    pub fn open(name: &str) -> Result<Self, Error> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Self::parse(name, text).map_err(Error::Config);
        }
        let path = Path::new(name);
        let remedy = "`mainstay load drill` lists the drills; a file of yours ends in .toml";
        let text = std::fs::read_to_string(path).map_err(|error| Error::File {
            path: path.to_owned(),
            error,
            remedy,
        })?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Self::parse(&stem, &text).map_err(|why| Error::Config(format!("{name}: {why}")))
    }

    fn parse(name: &str, text: &str) -> Result<Self, String> {
        let written: Written =
            toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        let steps = written.steps.iter().map(|line| Step::parse(line)).collect::<Result<_, _>>()?;
        let drill = Self {
            name: name.to_owned(),
            question: written.question,
            duration: parse_time(&written.duration)?,
            rate: written.rate,
            resolvers: written.resolvers,
            clients_each: written.clients_each,
            mix: written.mix,
            replicas: written.replicas,
            lag: lag(&written.lag)?,
            lameduck: parse_time(&written.lameduck)?,
            memory_mib: written.memory_mib,
            steps,
        };
        drill.check()?;
        Ok(drill)
    }

    fn check(&self) -> Result<(), String> {
        let within = |is: bool, what: &str| if is { Ok(()) } else { Err(what.to_owned()) };
        within((1..=REPLICAS_MAX).contains(&self.replicas), "replicas is from 1 to 8")?;
        within(self.rate > 0.0 && self.rate <= RATE_MAX, "rate is above 0 and at most 20000")?;
        within(!self.duration.is_zero() && self.duration <= DURATION_MAX, "duration is up to 1h")?;
        within(!self.resolvers.is_empty(), "resolvers names at least one")?;
        within((1..=1000).contains(&self.clients_each), "clients_each is from 1 to 1000")?;
        within(self.steps.is_sorted_by_key(|step| step.at), "steps are in the order of time")?;
        let last = self.steps.last().map_or(Duration::ZERO, |step| step.at);
        within(last < self.duration, "steps end before the duration does")?;
        let is_bounded = |act: &Act| match act {
            Act::Scale(count) => *count <= REPLICAS_MAX,
            Act::Churn(rate) => *rate <= CHURN_MAX,
            Act::Flood(rate) => f64::from(*rate) <= RATE_MAX,
            _ => true,
        };
        for step in &self.steps {
            let text = &step.text;
            within(is_bounded(&step.act), &format!("step {text:?}: that is too many"))?;
            let is_there = step.act.replica().is_none_or(|n| n < self.replicas);
            within(is_there, &format!("step {:?}: there is no such replica", step.text))?;
        }
        Ok(())
    }

    /// Whether clients ask a balancer, as they do where replicas come and go.
    pub fn is_balanced(&self) -> bool {
        let moves = |step: &Step| matches!(step.act, Act::Roll | Act::Scale(_) | Act::Remove(_));
        self.replicas > 1 || self.steps.iter().any(moves)
    }

    /// When something is done for the first time, but for what is so from the start.
    pub fn first_step(&self) -> Option<&Step> {
        self.steps.iter().find(|step| !step.at.is_zero())
    }

    /// The same drill, with all times multiplied.
    pub fn scaled(mut self, by: f64) -> Self {
        self.duration = self.duration.mul_f64(by);
        self.steps.iter_mut().for_each(|step| step.at = step.at.mul_f64(by));
        self
    }

    /// Whether a step changes or cuts off the API server.
    pub fn needs_api(&self) -> bool {
        self.steps.iter().any(|step| step.act.needs_api())
    }
}

/// `never` is what kube-proxy does when a Service has lost all endpoints
/// (kubernetes/kubernetes#139628).
fn lag(text: &str) -> Result<Cleanup, String> {
    match text {
        "never" => Ok(Cleanup::Never),
        _ => parse_time(text).map(Cleanup::After),
    }
}

fn rate() -> f64 {
    120.0
}

fn resolvers() -> Vec<Resolver> {
    use Resolver::*;
    vec![Glibc, Musl, Go, Jvm, Netty, CAres]
}

fn clients_each() -> u32 {
    10
}

fn mix() -> String {
    "foreign=20,missing=5".to_owned()
}

fn replicas() -> usize {
    1
}

fn none() -> String {
    "0s".to_owned()
}

/// What kubeadm has.
fn lameduck() -> String {
    "5s".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_drill_of_the_binary_is_right() {
        let drills = Drill::built_in();
        assert_eq!(drills.len(), BUILT_IN.len());
        for drill in drills {
            assert!(drill.question.ends_with('?'), "{} asks nothing", drill.name);
            assert!(!drill.steps.is_empty(), "{} does nothing", drill.name);
        }
    }

    #[test]
    fn every_file_is_part_of_the_binary() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drills");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let drills = files.filter(|path| path.extension().is_some_and(|end| end == "toml"));
        assert_eq!(drills.count(), BUILT_IN.len());
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told() {
        let right = "question = 'q?'\nduration = '30s'\nsteps = ['10s kill 0']";
        assert!(Drill::parse("x", right).is_ok());
        for (wrong, why) in [
            (right.replace("kill 0", "kill 1"), "no such replica"),
            (right.replace("10s kill", "40s kill"), "before the duration"),
            (right.replace("30s", "2h"), "1h"),
            (format!("replicas = 9\n{right}"), "1 to 8"),
            (right.replace("kill 0", "scale 9"), "too many"),
            (right.replace("kill 0", "churn 5000"), "too many"),
            (format!("speed = 9\n{right}"), "unknown field `speed`"),
            ("steps = []".to_owned(), "missing field"),
        ] {
            let error = Drill::parse("x", &wrong).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn all_times_are_scaled() {
        let drill = Drill::open("kill9-node").unwrap();
        let half = drill.clone().scaled(0.5);
        assert_eq!(half.duration, drill.duration / 2);
        assert_eq!(half.steps[0].at, drill.steps[0].at / 2);
    }
}

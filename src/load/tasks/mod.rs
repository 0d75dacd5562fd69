//! What is asked: names with their kind, how often each, and what is expected.
//!
//! ```text
//! names    a file as dnsperf reads it ┐
//! capture  pcap, pcapng, dnstap       ├─► list ─► popularity  how often each ┬─► Work::pick
//! cluster  Kubernetes objects         ┘           mix         shares by kind ┘
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

use super::Error;
use crate::wire::{Name, RecordType};

pub mod cluster;
pub(super) mod list;
pub mod mix;
pub mod names;
pub mod popularity;

pub use list::{NAMES_MAX, OCCURRENCES_MAX};
pub use mix::Mix;
pub use popularity::Popularity;

use mix::Fresh;
use popularity::Pool;

/// A kind of names, for which figures are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A Service with an address of its own.
    Service,
    /// A headless Service.
    Headless,
    /// A named endpoint of a headless Service, as StatefulSets have them.
    Host,
    /// A Service that is another name.
    ExternalName,
    /// A name outside of the cluster.
    Foreign,
    /// A name that does not exist.
    Missing,
    /// An address whose name is asked for.
    Ptr,
    /// Ports and targets of a Service.
    Srv,
    /// A label by chance below some name: no cache knows it.
    Random,
    /// From a file or a capture; nothing is known of it.
    Listed,
}

impl Class {
    /// As it is written in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Headless => "headless",
            Self::Host => "host",
            Self::ExternalName => "external-name",
            Self::Foreign => "foreign",
            Self::Missing => "missing",
            Self::Ptr => "ptr",
            Self::Srv => "srv",
            Self::Random => "random",
            Self::Listed => "listed",
        }
    }
}

/// What a right answer is, where no [`super::truth`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The name exists: NXDOMAIN is a failure.
    Exists,
    /// The name does not exist: NXDOMAIN is right, an address is wrong.
    Missing,
    /// Any reply with NOERROR or NXDOMAIN is right.
    Any,
}

/// One thing to look up.
#[derive(Clone, Debug)]
pub struct Task {
    /// As an application writes it (`web.shop`), for resolvers with search lists.
    pub host: Box<str>,
    /// What that means when all is well, for packets and for truth.
    pub name: Name,
    /// A for addresses: resolvers ask for AAAA too.
    pub rtype: RecordType,
    /// Its kind.
    pub class: Class,
    /// What a right answer is.
    pub expect: Expect,
}

/// A source of tasks: names with popularity and shares. Cheap to copy; each driver has its own
/// dice, so what is asked depends on the seed alone.
#[derive(Clone, Debug)]
pub struct Work(Arc<Sources>);

/// What else than its list work is made of.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// How often each name.
    pub popularity: Popularity,
    /// Shares by kind, beside the list.
    pub mix: Mix,
    /// For the share of foreign names, as [`mix::foreign`] reads them.
    pub foreign: Vec<Arc<Task>>,
    /// Domain of the cluster.
    pub domain: Name,
    /// Namespace of the clients.
    pub namespace: Box<str>,
    /// Decides which names are popular.
    pub seed: u64,
}

/// Where tasks are drawn from, with their shares.
#[derive(Debug)]
struct Sources {
    /// At least one. Each with the part of the lookups that is drawn from it or one before.
    shares: Box<[(f64, Source)]>,
    popularity: Popularity,
}

/// Where tasks are drawn from.
#[derive(Debug)]
enum Source {
    /// Names as they come.
    List(Pool),
    /// Those of a kind of the mix.
    Kind(&'static str, Pool),
    /// Names that are made when they are asked for.
    Random(Fresh),
}

impl Work {
    /// Work over these tasks, each as likely as the other.
    ///
    /// # Panics
    /// There is none.
    pub fn uniform(tasks: Vec<Arc<Task>>) -> Self {
        let popularity = Popularity::AsListed;
        let pool = Pool::new(tasks, popularity, 0).expect("there is a task");
        Self(Arc::new(Sources { shares: [(1.0, Source::List(pool))].into(), popularity }))
    }

    /// Work over a list, in which the same task may occur often, and beside it the shares of the
    /// mix. PTR and SRV names of a cluster are drawn for their shares only: applications seldom
    /// ask for them, and a cluster has as many of them as of all others.
    ///
    /// # Errors
    /// The mix asks for a kind of which no name is known, or leaves a share for an empty list.
    pub fn build(list: Vec<Arc<Task>>, recipe: &Recipe) -> Result<Self, Error> {
        let mix = &recipe.mix;
        let (ptr, srv) = (RecordType::PTR, RecordType::SRV);
        let mut shares = Shares { recipe, shares: Vec::new(), sum: 0.0 };
        shares.add("foreign", mix.foreign, || recipe.foreign.clone())?;
        shares.add("missing", mix.missing, || mix::missing(&list, recipe))?;
        shares.add("ptr", mix.ptr, || mix::of_type(&list, ptr, Class::Ptr))?;
        shares.add("srv", mix.srv, || mix::of_type(&list, srv, Class::Srv))?;
        if mix.random > 0.0 {
            shares.push(mix.random, Source::Random(Fresh::new(recipe)?));
        }
        if mix.rest() > 0.0 {
            let is_apart = |task: &Arc<Task>| matches!(task.class, Class::Ptr | Class::Srv);
            let tasks = list.into_iter().filter(|task| !is_apart(task)).collect();
            let pool = Pool::new(tasks, recipe.popularity, recipe.seed).ok_or_else(|| {
                Error::Config(format!(
                    "no name to ask for: the list is empty, and {} % of the lookups are from it; \
                     name a list with --names, --capture, --cluster or --manifests, or let the \
                     shares of --mix be 100 % in all",
                    mix.rest()
                ))
            })?;
            shares.push(mix.rest(), Source::List(pool));
        }
        let shares = shares.shares.into();
        Ok(Self(Arc::new(Sources { shares, popularity: recipe.popularity })))
    }

    /// The next thing to look up.
    pub fn pick(&self, dice: &mut impl Rng) -> Arc<Task> {
        let shares = &self.0.shares;
        let index = match shares.len() {
            1 => 0,
            count => {
                let part: f64 = dice.random();
                shares.iter().position(|(until, _)| part < *until).unwrap_or(count - 1)
            }
        };
        match &shares[index].1 {
            Source::List(pool) | Source::Kind(_, pool) => pool.draw(dice),
            Source::Random(fresh) => fresh.draw(dice),
        }
    }

    /// How many different names there are, without those by chance.
    pub fn name_count(&self) -> usize {
        self.0.shares.iter().filter_map(|(_, source)| source.pool()).map(|pool| pool.names).sum()
    }

    /// What it is, in a line.
    pub fn describe(&self) -> String {
        let mut before = 0.0;
        let parts = self.0.shares.iter().map(|(until, source)| {
            let percent = ((until - before) * 1e4).round() / 1e2;
            before = *until;
            format!("{percent} % {}", source.describe())
        });
        let parts: Vec<String> = parts.collect();
        format!("{}, {}", parts.join(", "), self.0.popularity)
    }
}

impl Source {
    /// Its names, if they are known before.
    fn pool(&self) -> Option<&Pool> {
        match self {
            Self::List(pool) | Self::Kind(_, pool) => Some(pool),
            Self::Random(_) => None,
        }
    }

    /// What it is.
    fn describe(&self) -> String {
        match self {
            Self::List(pool) => format!("of {}", by_class(pool)),
            Self::Kind(kind, pool) => format!("{kind} ({})", pool.names),
            Self::Random(fresh) => format!("random {}", fresh.describe()),
        }
    }
}

/// Shares, one after the other.
struct Shares<'r> {
    recipe: &'r Recipe,
    shares: Vec<(f64, Source)>,
    sum: f64,
}

impl Shares<'_> {
    /// Adds a kind of the mix, if it has a share.
    fn add(
        &mut self,
        kind: &'static str,
        percent: f64,
        tasks: impl FnOnce() -> Vec<Arc<Task>>,
    ) -> Result<(), Error> {
        if percent == 0.0 {
            return Ok(());
        }
        let pool = Pool::new(tasks(), self.recipe.popularity, self.recipe.seed);
        let pool = pool.ok_or_else(|| no_name(kind, percent))?;
        self.push(percent, Source::Kind(kind, pool));
        Ok(())
    }

    /// Adds a source.
    fn push(&mut self, percent: f64, source: Source) {
        self.sum += percent / 100.0;
        self.shares.push((self.sum, source));
    }
}

/// What to do when a kind has a share and no names.
fn no_name(kind: &str, percent: f64) -> Error {
    let (what, remedy) = match kind {
        "foreign" => ("name outside of the cluster", "name one with --foreign"),
        "ptr" => {
            ("address", "use --cluster or --manifests, or put names of type PTR into the list")
        }
        "srv" => (
            "named port of a Service",
            "use --cluster or --manifests, or put names of type SRV into the list",
        ),
        _ => ("such name", "use a shorter --cluster-domain"),
    };
    Error::Config(format!(
        "--mix {kind}={percent}: no {what} is known; {remedy}, or leave {kind} out"
    ))
}

/// How many names of a pool are of each kind.
fn by_class(pool: &Pool) -> String {
    let mut counts: BTreeMap<Class, std::collections::HashSet<*const Task>> = BTreeMap::new();
    for task in pool.iter() {
        counts.entry(task.class).or_default().insert(Arc::as_ptr(task));
    }
    let parts: Vec<String> =
        counts.iter().map(|(class, tasks)| format!("{} {}", tasks.len(), class.name())).collect();
    format!("{} names ({})", pool.names, parts.join(", "))
}

/// A name in the cluster as an application in the Namespace `clients` writes it.
fn host(labels: &[&str], namespace: &str, clients: &str) -> Box<str> {
    let mut labels = labels.to_vec();
    if namespace != clients {
        labels.push(namespace);
    }
    labels.join(".").into()
}

#[cfg(test)]
mod tests;

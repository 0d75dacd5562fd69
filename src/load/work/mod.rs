//! What is asked: names with their kind, how often each, and what is expected.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::wire::{Name, RecordType};

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
pub struct Work {
    tasks: Arc<[Arc<Task>]>,
}

impl Work {
    /// Work over these tasks, each as likely as the other.
    pub fn uniform(tasks: Vec<Arc<Task>>) -> Self {
        Self { tasks: tasks.into() }
    }

    /// The next thing to look up.
    pub fn pick(&self, dice: &mut impl rand::Rng) -> Arc<Task> {
        use rand::RngExt;
        Arc::clone(&self.tasks[dice.random_range(0..self.tasks.len())])
    }
}

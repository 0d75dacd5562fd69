//! What a `kubernetes` directive says.

use std::path::PathBuf;

use super::schema;
use crate::wire::{Name, NameRef};

/// TTL of cluster records, in seconds (CoreDNS `ttl`): default 5, at most 3600.
pub const TTL_DEFAULT_S: u32 = 5;
/// Largest TTL of cluster records, in seconds.
pub const TTL_MAX_S: u32 = 3600;

/// One `kubernetes` directive. Those of equal source and Namespaces share one Index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The zones that it serves, forward and reverse; at least one is not a reverse zone.
    pub zones: Vec<Name>,
    pub source: Source,
    /// The only Namespaces to expose; empty exposes all.
    pub namespaces: Vec<String>,
    pub pods: Pods,
    /// TTL of all records, in seconds.
    pub ttl_s: u32,
    pub fallthrough: Fallthrough,
}

impl Config {
    /// The zone of PTR targets: the first that is not a reverse zone.
    pub fn primary_zone(&self) -> &Name {
        let is_forward = |zone: &&Name| !schema::is_reverse(zone.as_ref());
        self.zones.iter().find(is_forward).unwrap_or(&self.zones[0])
    }
}

/// Where the objects come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// The API server of the cluster that we run in, with the Pod's ServiceAccount.
    InCluster,
    /// A kubeconfig file, with its current context or the named one.
    Kubeconfig { path: PathBuf, context: Option<String> },
    /// An API server by URL.
    Endpoint { url: String, tls: Option<Tls> },
    /// Files or folders of manifests.
    Manifests(Vec<PathBuf>),
    /// Manifests that the program brings along: name and text of each.
    Embedded(&'static [(&'static str, &'static str)]),
}

/// Files of a client certificate, its key, and the authority of the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
}

/// Names such as `10-1-2-3.shop.pod.cluster.local`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Pods {
    /// No such name exists.
    #[default]
    Disabled,
    /// Every address is answered in a Namespace that exists, whether or not such a Pod runs.
    Insecure,
}

/// Which missing names are left to the Steps that follow.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Fallthrough {
    #[default]
    Never,
    Always,
    /// Only names in these zones.
    Zones(Vec<Name>),
}

impl Fallthrough {
    /// Whether a missing `name` is left to the next Step.
    pub fn covers(&self, name: NameRef<'_>) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Zones(zones) => zones.iter().any(|zone| name.is_within(zone.as_ref())),
        }
    }
}

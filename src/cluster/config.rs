//! What a `kubernetes` directive says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::object::Kind;
use super::schema;
pub use super::selector::Selector;
use super::zone::Zone;
use crate::wire::{Name, NameRef};

/// TTL of cluster records, in seconds (CoreDNS `ttl`): default 5, at most 3600.
pub const TTL_DEFAULT_S: u32 = 5;
/// Largest TTL of cluster records, in seconds.
pub const TTL_MAX_S: u32 = 3600;

/// How long a cluster may stay unknown before that is told (CoreDNS `startup_timeout`). Nothing
/// waits for it: names of the cluster are held for a moment, all others are answered.
pub const STARTUP_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// One `kubernetes` directive. Those of equal source and scope share one Index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The zones that it serves, forward and reverse; at least one is not a reverse zone.
    pub zones: Vec<Name>,
    /// Those of them that hold the Services of a cluster set (`multicluster`).
    pub multicluster: Vec<Name>,
    pub source: Source,
    pub scope: Scope,
    pub pods: Pods,
    /// TTL of all records, in seconds.
    pub ttl_s: u32,
    pub fallthrough: Fallthrough,
    /// Whether a Service with a cluster IP and no ready endpoint has no name
    /// (`ignore empty_service`).
    pub ignores_empty: bool,
    pub snapshot: Snapshot,
}

/// Where a Snapshot of the cluster is kept.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Snapshot {
    /// In the folder for the state of the server, if it has one.
    #[default]
    WithState,
    /// In this folder.
    In(PathBuf),
    /// Nowhere.
    Off,
}

impl Snapshot {
    /// The folder, where `state` is that of the server.
    pub fn folder<'f>(&'f self, state: Option<&'f Path>) -> Option<&'f Path> {
        match self {
            Self::WithState => state,
            Self::In(folder) => Some(folder),
            Self::Off => None,
        }
    }
}

/// What of a cluster is watched, and what is kept of it.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The only Namespaces to expose; empty exposes all.
    pub namespaces: Vec<String>,
    /// Which Namespaces are exposed (`namespace_labels`).
    pub namespace_labels: Option<Selector>,
    /// Which Services, EndpointSlices, Pods and ServiceImports count (`labels`).
    pub labels: Option<Selector>,
    /// Whether EndpointSlices are watched; `noendpoints` turns that off.
    pub endpoints: bool,
    /// Whether Pods are watched (`pods verified`).
    pub pods: bool,
    /// Whether ServiceImports are watched (`multicluster`).
    pub imports: bool,
    pub kept: Kept,
    pub api: ApiLimits,
    /// How long the cluster may stay unknown before that is told.
    pub startup_timeout: Duration,
}

impl PartialEq for Scope {
    /// Whether the same is known and asked for in the same way. `startup_timeout` does not count:
    /// it is over when it could change, and no cluster is worth losing for it.
    fn eq(&self, other: &Self) -> bool {
        let key = |it: &Self| (it.endpoints, it.pods, it.imports, it.kept, it.api);
        key(self) == key(other)
            && self.namespaces == other.namespaces
            && self.namespace_labels == other.namespace_labels
            && self.labels == other.labels
    }
}

// The rates are numbers from a file and never NaN.
impl Eq for Scope {}

/// What is kept of an object beyond the rule.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Kept {
    /// The zone of each endpoint (`zonal`).
    pub zones: bool,
    /// The names of Pods, as names of endpoints without hostname (`endpoint_pod_names`).
    pub pod_names: bool,
    /// The addresses outside of the cluster (`k8s_external`).
    pub externals: bool,
}

/// How hard the API server may be asked. 0 is no limit.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct ApiLimits {
    /// Requests per second (`apiserver_qps`).
    pub qps: f32,
    /// Requests at once, after a pause (`apiserver_burst`).
    pub burst: u32,
    /// Requests without an answer yet (`apiserver_max_inflight`).
    pub in_flight: u32,
}

impl Default for Scope {
    /// Everything that a directive without options watches.
    fn default() -> Self {
        Self {
            namespaces: Vec::new(),
            namespace_labels: None,
            labels: None,
            endpoints: true,
            pods: false,
            imports: false,
            kept: Kept::default(),
            api: ApiLimits::default(),
            startup_timeout: STARTUP_TIMEOUT_DEFAULT,
        }
    }
}

impl Scope {
    /// Whether objects of this kind are watched.
    pub fn watches(&self, kind: Kind) -> bool {
        match kind {
            Kind::Namespace | Kind::Service => true,
            // The slices of imported Services are among the others.
            Kind::Slice => self.endpoints,
            Kind::Pod => self.pods,
            Kind::Import => self.imports,
        }
    }

    /// The kinds that are watched, in the order in which a source lists them.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(|kind| self.watches(*kind))
    }

    /// Whether a Zone knows every kind that is watched.
    pub fn is_known(&self, zone: &Zone) -> bool {
        zone.is_synced && (zone.knows_pods || !self.pods) && (zone.knows_imports || !self.imports)
    }

    /// Which objects of a kind count.
    pub fn selector(&self, kind: Kind) -> Option<&Selector> {
        if kind == Kind::Namespace { self.namespace_labels.as_ref() } else { self.labels.as_ref() }
    }
}

impl Config {
    /// The zone of PTR targets: the first that is not a reverse zone.
    pub fn primary_zone(&self) -> &Name {
        primary_zone(&self.zones)
    }
}

/// The first zone that is not a reverse zone.
pub fn primary_zone(zones: &[Name]) -> &Name {
    let is_forward = |zone: &&Name| !schema::is_reverse(zone.as_ref());
    zones.iter().find(is_forward).unwrap_or(&zones[0])
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
    /// Only the addresses of Pods that run in the Namespace are answered.
    Verified,
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
    /// What `fallthrough [ZONES…]` says.
    pub fn to(zones: Vec<Name>) -> Self {
        if zones.is_empty() { Self::Always } else { Self::Zones(zones) }
    }

    /// Whether a missing `name` is left to the next Step.
    pub fn covers(&self, name: NameRef<'_>) -> bool {
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Zones(zones) => zones.iter().any(|zone| name.is_within(zone.as_ref())),
        }
    }
}

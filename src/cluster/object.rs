//! The slim objects: what of a Namespace, Service, EndpointSlice, Pod or ServiceImport can change
//! an answer.

use std::net::IpAddr;

pub use super::endpoints::{ENDPOINT_ADDRESSES_MAX, Endpoint, Endpoints};
use crate::wire::Name;

/// Namespace and name of an object; the namespace of a Namespace is empty.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ObjectKey {
    pub namespace: Box<str>,
    pub name: Box<str>,
}

/// The kinds that are watched.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Kind {
    Namespace,
    Service,
    Slice,
    Pod,
    /// A Service of a cluster set.
    Import,
}

impl Kind {
    /// All kinds, in the order in which a source lists them.
    pub const ALL: [Self; 5] =
        [Self::Namespace, Self::Service, Self::Slice, Self::Pod, Self::Import];

    /// The kinds that names of Services depend on. Of the others there may be none, or they may not
    /// be shown to us, and only names of their own depend on that.
    pub const OF_SERVICES: [Self; 3] = [Self::Namespace, Self::Service, Self::Slice];

    /// The resource in URLs, RBAC rules, logs and labels of metrics.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::Service => "services",
            Self::Slice => "endpointslices",
            Self::Pod => "pods",
            Self::Import => "serviceimports",
        }
    }
}

/// One object as the Index takes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Object {
    Namespace(Box<str>),
    Service(Service),
    Slice(Slice),
    Pod(Pod),
    /// A ServiceImport, which is found as a Service is: by addresses or by endpoints.
    Import(Service),
}

impl Object {
    /// The kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::Service(_) => Kind::Service,
            Self::Slice(_) => Kind::Slice,
            Self::Pod(_) => Kind::Pod,
            Self::Import(_) => Kind::Import,
        }
    }

    /// The key; the namespace of a Namespace is empty.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Namespace(name) => ObjectKey { namespace: "".into(), name: name.clone() },
            Self::Service(service) | Self::Import(service) => service.key.clone(),
            Self::Slice(slice) => slice.key.clone(),
            Self::Pod(pod) => pod.key.clone(),
        }
    }

    /// The Namespace that it is, or lives in.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Namespace(name) => name,
            Self::Service(service) | Self::Import(service) => &service.key.namespace,
            Self::Slice(slice) => &slice.key.namespace,
            Self::Pod(pod) => &pod.key.namespace,
        }
    }
}

/// A Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    pub key: ObjectKey,
    pub role: Role,
    pub ports: Vec<Port>,
    /// Whether the control plane finds its endpoints, for a label of the metrics.
    pub has_selector: bool,
    /// Where it is to be reached from outside, each once; kept for `k8s_external` only.
    pub externals: Box<[External]>,
}

/// Where a Service is to be reached from outside of the cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum External {
    /// `spec.externalIPs`, or that of a load balancer.
    Address(IpAddr),
    /// The name of a load balancer that tells no address.
    Host(Name),
}

/// How a Service is found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Role {
    /// By the addresses of `spec.clusterIPs`, duplicates dropped. None are allocated yet when
    /// empty.
    ClusterIp(Vec<IpAddr>),
    /// By its ready endpoints (`clusterIP: None`).
    Headless,
    /// By another name (`spec.externalName`), as written.
    ExternalName(Box<str>),
}

/// An EndpointSlice, or an object `Endpoints`, whose subsets are the parts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slice {
    pub key: ObjectKey,
    /// The Service (label `kubernetes.io/service-name`), in the Namespace of the slice.
    pub service: Option<Box<str>>,
    /// The imported Service that it also, or only, belongs to.
    pub import: Option<Import>,
    pub parts: Box<[Part]>,
    /// `endpoints.kubernetes.io/last-change-trigger-time`, in milliseconds since the epoch.
    pub triggered_ms: Option<u64>,
}

/// What a slice says of the cluster set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Import {
    /// The ServiceImport (label `multicluster.kubernetes.io/service-name`).
    pub service: Box<str>,
    /// The cluster of the endpoints (label `multicluster.kubernetes.io/source-cluster`); empty
    /// when it is not told.
    pub cluster: Box<str>,
}

/// Endpoints that have the same ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    pub endpoints: Endpoints,
    pub ports: Box<[Port]>,
}

/// A Pod that runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pod {
    pub key: ObjectKey,
    /// `status.podIPs`, of both families.
    pub addresses: Box<[IpAddr]>,
}

/// A named or unnamed port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Port {
    /// Empty when unnamed.
    pub name: Box<str>,
    pub protocol: Protocol,
    pub number: u16,
}

/// The transport of a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// What a source tells the Index. Sources send; the task that owns the Index receives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The object exists and looks like this.
    Apply(Object),
    /// The object is there, but makes no sense as it is: what was known of it stays until it makes
    /// sense again or is gone.
    Keep(Kind, ObjectKey),
    /// The object is gone. For a Namespace, `name` is its name and `namespace` is empty.
    Delete(Kind, ObjectKey),
    /// A full list of the kind begins: what is not applied before its `ListEnd` is gone then. A
    /// list that broke off begins again with another `ListBegin`; what the first one applied does
    /// not count any more.
    ListBegin(Kind),
    /// The list is complete.
    ListEnd(Kind),
    /// The list is given up, and what it applied is true: changes go on from where they were.
    ListGiveUp(Kind),
}

/// Changes that may wait for the task that owns the Index; a source that is faster waits too.
pub const CHANGES_MAX: usize = 4096;

impl Protocol {
    const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// Whether a port name may have this label, without its underscore; an empty one is any.
    pub fn is_asked_by(label: &[u8]) -> bool {
        label.is_empty() || Self::ALL.iter().any(|protocol| protocol.label() == label)
    }

    /// The label of port names, in lower case.
    pub fn label(self) -> &'static [u8] {
        match self {
            Self::Tcp => b"tcp",
            Self::Udp => b"udp",
            Self::Sctp => b"sctp",
        }
    }
}

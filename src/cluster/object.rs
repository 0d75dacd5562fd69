//! The slim objects: what of a Namespace, Service or EndpointSlice can change an answer.

use std::fmt;
use std::net::IpAddr;

use crate::wire::name::LABEL_MAX;

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
}

impl Kind {
    /// All kinds, in the order in which a source lists them.
    pub const ALL: [Self; 3] = [Self::Namespace, Self::Service, Self::Slice];

    /// The resource in URLs, RBAC rules, logs and labels of metrics.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::Service => "services",
            Self::Slice => "endpointslices",
        }
    }
}

/// One object as the Index takes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Object {
    Namespace(Box<str>),
    Service(Service),
    Slice(Slice),
}

impl Object {
    /// The kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::Service(_) => Kind::Service,
            Self::Slice(_) => Kind::Slice,
        }
    }

    /// The Namespace that it is, or lives in.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Namespace(name) => name,
            Self::Service(service) => &service.key.namespace,
            Self::Slice(slice) => &slice.key.namespace,
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

/// An EndpointSlice of a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Slice {
    pub key: ObjectKey,
    /// The Service (label `kubernetes.io/service-name`), in the Namespace of the slice.
    pub service: Box<str>,
    pub endpoints: Endpoints,
    pub ports: Vec<Port>,
    /// `endpoints.kubernetes.io/last-change-trigger-time`, in milliseconds since the epoch.
    pub triggered_ms: Option<u64>,
}

/// One ready or not ready endpoint, as it is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    pub addresses: Vec<IpAddr>,
    /// `conditions.ready`, where absent means true.
    pub ready: bool,
    pub hostname: Option<Box<str>>,
}

/// The endpoints of a slice, packed: a large cluster has some hundred thousand, and each takes 8
/// octets here that would take 80 as an [`Endpoint`].
///
/// ```text
/// is ready │ IPv4 count │ IPv6 count │ hostname length │ addresses … │ hostname …
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Endpoints(Box<[u8]>);

/// One endpoint where it lies.
#[derive(Clone, Copy)]
pub struct Packed<'e> {
    pub ready: bool,
    pub hostname: Option<&'e str>,
    v4: &'e [u8],
    v6: &'e [u8],
}

impl Endpoints {
    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Packed<'_>> {
        let mut rest = &*self.0;
        std::iter::from_fn(move || {
            let ([ready, v4, v6, hostname], octets) = rest.split_first_chunk()?;
            let (v4, octets) = octets.split_at_checked(usize::from(*v4) * 4)?;
            let (v6, octets) = octets.split_at_checked(usize::from(*v6) * 16)?;
            let hostname = octets.split_at_checked(usize::from(*hostname))?;
            rest = hostname.1;
            let hostname = std::str::from_utf8(hostname.0).ok().filter(|name| !name.is_empty());
            Some(Packed { ready: *ready != 0, hostname, v4, v6 })
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Packed<'_> {
    /// The addresses, those of IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.as_chunks::<4>().0.iter().map(|octets| IpAddr::from(*octets));
        v4.chain(self.v6.as_chunks::<16>().0.iter().map(|octets| IpAddr::from(*octets)))
    }
}

impl From<Packed<'_>> for Endpoint {
    fn from(packed: Packed<'_>) -> Self {
        Self {
            addresses: packed.addresses().collect(),
            ready: packed.ready,
            hostname: packed.hostname.map(Into::into),
        }
    }
}

impl FromIterator<Endpoint> for Endpoints {
    /// Packs endpoints, each with at most [`ENDPOINT_ADDRESSES_MAX`] addresses.
    fn from_iter<I: IntoIterator<Item = Endpoint>>(endpoints: I) -> Self {
        let mut octets = Vec::new();
        for endpoint in endpoints {
            let hostname = endpoint.hostname.as_deref().filter(|name| name.len() <= LABEL_MAX);
            let hostname = hostname.unwrap_or_default();
            let (mut v4, mut v6) = (Vec::new(), Vec::new());
            for address in endpoint.addresses.iter().take(ENDPOINT_ADDRESSES_MAX) {
                match address {
                    IpAddr::V4(address) => v4.push(address.octets()),
                    IpAddr::V6(address) => v6.push(address.octets()),
                }
            }
            let counts = [v4.len() as u8, v6.len() as u8, hostname.len() as u8];
            octets.extend([u8::from(endpoint.ready)].iter().chain(&counts));
            octets.extend_from_slice(v4.as_flattened());
            octets.extend_from_slice(v6.as_flattened());
            octets.extend_from_slice(hostname.as_bytes());
        }
        Self(octets.into())
    }
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(Endpoint::from)).finish()
    }
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
    /// The object is gone. For a Namespace, `name` is its name and `namespace` is empty.
    Delete(Kind, ObjectKey),
    /// A full list of the kind begins: what is not applied before its `ListEnd` is gone then. A
    /// list that broke off begins again with another `ListBegin`; what the first one applied does
    /// not count any more.
    ListBegin(Kind),
    /// The list is complete.
    ListEnd(Kind),
}

/// Most addresses of one endpoint (as the API server has it); further ones are left out.
pub const ENDPOINT_ADDRESSES_MAX: usize = 100;

/// Changes that may wait for the task that owns the Index; a source that is faster waits too.
pub const CHANGES_MAX: usize = 4096;

impl Protocol {
    /// The label of port names, in lower case.
    pub fn label(self) -> &'static [u8] {
        match self {
            Self::Tcp => b"tcp",
            Self::Udp => b"udp",
            Self::Sctp => b"sctp",
        }
    }
}

//! The fields that we read, as the API server spells them. Everything else is passed over.
//!
//! All are optional here: what must be there is said where it is used, with the name of the field.

use std::borrow::Cow;
use std::ops::Deref;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

/// Text that the API server does not check. It may have characters that JSON escapes, and then it
/// cannot be borrowed.
#[derive(Deserialize)]
pub(super) struct Unchecked<'a>(#[serde(borrow)] Cow<'a, str>);

impl Deref for Unchecked<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// An object of any kind.
#[derive(Deserialize)]
pub(super) struct RawHead<'a> {
    #[serde(borrow)]
    pub metadata: RawIdentity<'a>,
}

/// The metadata that every object has, and nothing that could be flawed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawIdentity<'a> {
    #[serde(borrow)]
    pub name: Option<&'a str>,
    #[serde(borrow)]
    pub namespace: Option<&'a str>,
    #[serde(borrow)]
    pub resource_version: Option<&'a str>,
}

/// A Namespace or a bookmark: nothing but metadata.
#[derive(Deserialize)]
pub(super) struct RawNamespace<'a> {
    #[serde(borrow)]
    pub metadata: RawMetadata<'a>,
}

/// A Service.
#[derive(Deserialize)]
pub(super) struct RawService<'a> {
    #[serde(borrow)]
    pub metadata: RawMetadata<'a>,
    pub spec: Option<RawSpec<'a>>,
    /// A [`RawServiceStatus`], for those who ask for it.
    #[serde(borrow)]
    pub status: Option<&'a RawValue>,
}

/// The `status` of a Service.
#[derive(Deserialize)]
pub(super) struct RawServiceStatus<'a> {
    #[serde(borrow, rename = "loadBalancer")]
    pub balancer: Option<RawBalancer<'a>>,
}

/// Its load balancer.
#[derive(Deserialize)]
pub(super) struct RawBalancer<'a> {
    #[serde(borrow)]
    pub ingress: Option<Vec<RawIngress<'a>>>,
}

/// One way into it.
#[derive(Deserialize)]
pub(super) struct RawIngress<'a> {
    #[serde(borrow)]
    pub ip: Option<&'a str>,
    #[serde(borrow)]
    pub hostname: Option<&'a str>,
}

/// An EndpointSlice.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawSlice<'a> {
    #[serde(borrow)]
    pub metadata: RawMetadata<'a>,
    #[serde(borrow)]
    pub address_type: Option<&'a str>,
    /// The API server sends null for an empty list.
    pub endpoints: Option<Vec<RawEndpoint<'a>>>,
    pub ports: Option<Vec<RawPort<'a>>>,
}

/// The metadata of an object.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawMetadata<'a> {
    #[serde(borrow)]
    pub name: Option<&'a str>,
    #[serde(borrow)]
    pub namespace: Option<&'a str>,
    #[serde(borrow)]
    pub resource_version: Option<&'a str>,
    pub labels: Option<RawLabels<'a>>,
    pub annotations: Option<RawAnnotations<'a>>,
}

/// A Pod.
#[derive(Deserialize)]
pub(super) struct RawPod<'a> {
    #[serde(borrow)]
    pub metadata: RawMetadata<'a>,
    pub status: Option<RawStatus<'a>>,
}

/// The `status` of a Pod.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawStatus<'a> {
    #[serde(borrow)]
    pub phase: Option<&'a str>,
    #[serde(borrow, rename = "podIP")]
    pub pod_ip: Option<&'a str>,
    #[serde(borrow, rename = "podIPs")]
    pub pod_ips: Option<Vec<RawPodIp<'a>>>,
}

/// One address of a Pod.
#[derive(Deserialize)]
pub(super) struct RawPodIp<'a> {
    #[serde(borrow)]
    pub ip: Option<&'a str>,
}

/// A ServiceImport.
#[derive(Deserialize)]
pub(super) struct RawImport<'a> {
    #[serde(borrow)]
    pub metadata: RawMetadata<'a>,
    pub spec: Option<RawImportSpec<'a>>,
}

/// The `spec` of a ServiceImport.
#[derive(Deserialize)]
pub(super) struct RawImportSpec<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<&'a str>,
    #[serde(borrow)]
    pub ips: Option<Vec<&'a str>>,
    pub ports: Option<Vec<RawPort<'a>>>,
}

/// The labels that count.
#[derive(Deserialize)]
pub(super) struct RawLabels<'a> {
    #[serde(borrow, rename = "kubernetes.io/service-name")]
    pub service_name: Option<&'a str>,
    #[serde(borrow, rename = "multicluster.kubernetes.io/service-name")]
    pub import_name: Option<&'a str>,
    #[serde(borrow, rename = "multicluster.kubernetes.io/source-cluster")]
    pub source_cluster: Option<&'a str>,
}

/// The annotations that count.
#[derive(Deserialize)]
pub(super) struct RawAnnotations<'a> {
    #[serde(borrow, rename = "k8s.io/initial-events-end")]
    pub initial_events_end: Option<&'a str>,
    #[serde(borrow, rename = "endpoints.kubernetes.io/last-change-trigger-time")]
    pub last_change: Option<Unchecked<'a>>,
}

/// The `spec` of a Service.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawSpec<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<&'a str>,
    #[serde(borrow, rename = "clusterIP")]
    pub cluster_ip: Option<&'a str>,
    #[serde(borrow, rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<&'a str>>,
    #[serde(borrow)]
    pub external_name: Option<&'a str>,
    /// Texts, for those who ask for them.
    #[serde(borrow, rename = "externalIPs")]
    pub external_ips: Option<&'a RawValue>,
    pub ports: Option<Vec<RawPort<'a>>>,
    /// Whether it is there is all that counts.
    pub selector: Option<IgnoredAny>,
}

/// A port of a Service or a slice.
#[derive(Deserialize)]
pub(super) struct RawPort<'a> {
    #[serde(borrow)]
    pub name: Option<&'a str>,
    #[serde(borrow)]
    pub protocol: Option<&'a str>,
    /// The API server does not check its range in slices.
    pub port: Option<i64>,
}

/// An endpoint of a slice.
#[derive(Deserialize)]
pub(super) struct RawEndpoint<'a> {
    #[serde(borrow)]
    pub addresses: Option<Vec<&'a str>>,
    pub conditions: Option<RawConditions>,
    #[serde(borrow)]
    pub hostname: Option<&'a str>,
    #[serde(borrow)]
    pub zone: Option<Unchecked<'a>>,
    #[serde(borrow, rename = "targetRef")]
    pub target: Option<RawTarget<'a>>,
}

/// The object behind an endpoint.
#[derive(Deserialize)]
pub(super) struct RawTarget<'a> {
    #[serde(borrow)]
    pub name: Option<Unchecked<'a>>,
}

/// The condition of an endpoint that counts (`serving` and `terminating` do not, as in CoreDNS).
#[derive(Deserialize)]
pub(super) struct RawConditions {
    pub ready: Option<bool>,
}

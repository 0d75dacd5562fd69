//! The text of a manifest → Objects. YAML with several documents, JSON, and lists of either.
//!
//! Each object becomes the JSON that an API server would send and goes through the one reader of
//! [`crate::cluster::read`], so that a file can hold nothing that a server could not. The selectors
//! that a server would apply are applied here. Objects `Endpoints` are taken as slices: whoever
//! writes endpoints by hand often writes those, and an address that is in both is one address.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::cluster::config::Scope;
use crate::cluster::object::{Kind, Object};
use crate::cluster::read::{Flaw, Found, Reading, read, read_endpoints};

/// The other kind of slices.
const ENDPOINTS: &str = "Endpoints";
/// Deepest nesting of lists in lists.
const LISTS_MAX: usize = 4;
/// Bounds of the YAML parser: what a file of the largest size can hold, and no more.
const YAML_NODES_MAX: usize = 32_000_000;
/// Most that aliases may add; manifests hardly use them.
const YAML_ALIASED_MAX: usize = 100_000;

/// What is in a text.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub objects: Vec<Object>,
    pub flaws: Vec<Flaw>,
    /// Slices of no Service or of host names, Pods without an address.
    pub foreign: u64,
    /// Endpoint addresses left out.
    pub dropped: u64,
}

/// Why a text is no manifest.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Broken {
    pub line: Option<u64>,
    pub reason: String,
}

/// Reads what `scope` watches of a text; `path` tells JSON from YAML.
///
/// # Errors
/// The text is not YAML or JSON. A flawed object is no error, it is left out.
pub(super) fn parse(path: &Path, text: &str, scope: &Scope) -> Result<Parsed, Broken> {
    let is_json = path.extension().is_some_and(|ending| ending == "json");
    let documents = if is_json { parse_json(text)? } else { parse_yaml(text)? };
    let mut parsed = Parsed::default();
    for document in documents {
        parsed.take(document, scope, None, 0);
    }
    Ok(parsed)
}

/// Reads JSON documents, one after the other.
fn parse_json(text: &str) -> Result<Vec<Value>, Broken> {
    let documents = serde_json::Deserializer::from_str(text).into_iter();
    documents.collect::<Result<_, serde_json::Error>>().map_err(|error| Broken {
        line: u64::try_from(error.line()).ok(),
        reason: error.to_string(),
    })
}

/// Reads YAML documents; empty ones are none.
fn parse_yaml(text: &str) -> Result<Vec<Value>, Broken> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_events: 2 * YAML_NODES_MAX,
            max_nodes: YAML_NODES_MAX,
            max_documents: YAML_NODES_MAX,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: YAML_ALIASED_MAX,
        },
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| Broken {
        line: error.location().map(|at| at.line()),
        reason: error.to_string().lines().next().unwrap_or_default().to_owned(),
    })
}

impl Parsed {
    /// Takes a document. `listed` is the kind that its list declares for it.
    fn take(&mut self, mut document: Value, scope: &Scope, listed: Option<&str>, depth: usize) {
        let name = document.get("kind").and_then(Value::as_str).or(listed).map(str::to_owned);
        let Some(name) = name else { return };
        if let Some(element) = name.strip_suffix("List") {
            let element = Some(element).filter(|element| !element.is_empty());
            if let Some(Value::Array(items)) = document.get_mut("items").map(Value::take)
                && depth < LISTS_MAX
            {
                items.into_iter().for_each(|item| self.take(item, scope, element, depth + 1));
            }
        } else if let Some(kind) = kind(&name, document.get("apiVersion"))
            && scope.watches(kind)
            && scope.selector(kind).is_none_or(|selector| selector.matches(&labels(&document)))
        {
            if kind != Kind::Namespace {
                set_default_namespace(&mut document);
            }
            let json = document.to_string();
            self.take_reading(
                kind,
                match &*name {
                    ENDPOINTS => read_endpoints(scope.kept, &json).map(named_apart),
                    _ => read(kind, scope.kept, &json),
                },
            );
        }
    }

    /// Takes what a document of a kind that we know says.
    fn take_reading(&mut self, kind: Kind, reading: Result<Reading, Flaw>) {
        match reading {
            Ok(reading) => {
                self.flaws.extend(reading.flaw(kind));
                self.dropped += u64::from(reading.dropped);
                match reading.found {
                    Found::Object(object) => self.objects.push(object),
                    Found::Foreign(_) => self.foreign += 1,
                }
            }
            Err(flaw) => self.flaws.push(flaw),
        }
    }
}

/// The kind, by name and API group: others have a kind `Service` too.
fn kind(name: &str, api_version: Option<&Value>) -> Option<Kind> {
    let api_version = api_version.and_then(Value::as_str);
    match (name, api_version) {
        ("Namespace", Some("v1") | None) => Some(Kind::Namespace),
        ("Service", Some("v1") | None) => Some(Kind::Service),
        ("EndpointSlice", Some("discovery.k8s.io/v1") | None) => Some(Kind::Slice),
        (ENDPOINTS, Some("v1") | None) => Some(Kind::Slice),
        ("Pod", Some("v1") | None) => Some(Kind::Pod),
        ("ServiceImport", Some("multicluster.x-k8s.io/v1alpha1") | None) => Some(Kind::Import),
        _ => None,
    }
}

/// An EndpointSlice in the files may have the name of an `Endpoints`, but none has a slash in it.
fn named_apart(mut reading: Reading) -> Reading {
    if let Found::Object(Object::Slice(slice)) = &mut reading.found {
        slice.key.name = format!("{}/{ENDPOINTS}", slice.key.name).into();
    }
    reading
}

/// The labels of a document, as far as they are some.
fn labels(document: &Value) -> BTreeMap<String, String> {
    let labels = document.pointer("/metadata/labels").and_then(Value::as_object);
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    labels.into_iter().flatten().filter_map(text).collect()
}

/// An object without a Namespace goes where `kubectl apply` would put it.
fn set_default_namespace(document: &mut Value) {
    if let Some(Value::Object(metadata)) = document.get_mut("metadata") {
        let namespace = metadata.entry("namespace").or_insert(Value::Null);
        if namespace.is_null() || namespace == "" {
            *namespace = "default".into();
        }
    }
}

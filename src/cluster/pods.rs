//! Changes to a cluster, for those who test how DNS bears them: Pods that are deleted, rollouts,
//! objects that come and go. Nothing that serves DNS comes here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use kube::client::Body;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::cluster::config::{ApiLimits, Source};
use crate::cluster::connect::ApiServer;
use crate::cluster::error::Error;

/// What can be restarted, in lower case.
pub const WORKLOADS: &[&str] = &["deployment", "daemonset", "statefulset"];

/// Most Pods that one selector may delete: more is a slip of the hand.
pub const PODS_MAX: usize = 500;
/// Longest time for one answer of the API server.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Largest answer, in octets: [`PODS_MAX`] Pods of some 20 KiB.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Who the API server notes as the owner of what is applied.
const FIELD_MANAGER: &str = "mainstay-load";

/// Kinds of objects that can be changed: kind, API, and the resource in URLs and RBAC rules.
const KINDS: &[(&str, &str, &str)] = &[
    ("ConfigMap", "/api/v1", "configmaps"),
    ("DaemonSet", "/apis/apps/v1", "daemonsets"),
    ("Deployment", "/apis/apps/v1", "deployments"),
    ("EndpointSlice", "/apis/discovery.k8s.io/v1", "endpointslices"),
    ("Namespace", "/api/v1", "namespaces"),
    ("Pod", "/api/v1", "pods"),
    ("Service", "/api/v1", "services"),
    ("StatefulSet", "/apis/apps/v1", "statefulsets"),
];

/// A cluster that may be changed.
pub struct Hands {
    server: ApiServer,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A right is missing.
    #[error(
        "the API server does not allow to {verb} {resource} in {place}: {message}; grant the verb \
         {verb} on {resource}"
    )]
    Forbidden { verb: &'static str, resource: String, place: String, message: String },
    /// The credentials are not accepted.
    #[error("the API server does not accept our credentials; {0}")]
    Unauthorized(String),
    /// There is no such object.
    #[error("{0} is not there; check namespace and name")]
    Absent(String),
    /// Nothing to do, or too much.
    #[error("{0}")]
    Wrong(String),
    /// The API server said no.
    #[error("the API server refuses to {verb} {what} ({code}: {message})")]
    Refused { verb: &'static str, what: String, code: u16, message: String },
    /// It did not say anything.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
}

/// One request.
struct Call<'c> {
    /// As RBAC rules name it.
    verb: &'static str,
    method: Method,
    at: &'c Place<'c>,
    query: String,
    content: &'static str,
    body: Value,
}

/// Where an object is, or all of a kind when it has no name.
#[derive(Clone, Copy)]
struct Place<'o> {
    root: &'static str,
    resource: &'static str,
    namespace: Option<&'o str>,
    name: Option<&'o str>,
}

/// The `Status` of the API server.
#[derive(Default, Deserialize)]
struct Status {
    message: Option<String>,
}

impl Hands {
    /// Reads the credentials. Nothing is sent yet.
    ///
    /// # Errors
    /// What is missing or wrong in files and settings.
    pub async fn open(source: &Source) -> Result<Self, Error> {
        Ok(Self { server: ApiServer::open(source, ApiLimits::default()).await? })
    }

    /// Deletes all Pods of a selector, each with its own grace period. Answers how many.
    ///
    /// # Errors
    /// No Pod, more than [`PODS_MAX`], or what the API server said.
    pub async fn delete_pods(&self, namespace: &str, selector: &str) -> Result<usize, Refusal> {
        let pods = Place::of_kind("Pod", Some(namespace), None)?;
        let query = format!("labelSelector={}&limit={}", escaped(selector), PODS_MAX + 1);
        let list = self.call(Call { query, ..Call::new("list", Method::GET, &pods) }).await?;
        let names = names(&list);
        match names.len() {
            0 => return Err(Refusal::Wrong(format!("no Pod in {namespace} has {selector}"))),
            count if count > PODS_MAX => {
                let text = format!("{selector} selects more than {PODS_MAX} Pods of {namespace}");
                return Err(Refusal::Wrong(text));
            }
            _ => {}
        }
        for name in &names {
            let pod = Place { name: Some(name), ..pods };
            gone_is_fine(self.call(Call::new("delete", Method::DELETE, &pod)).await)?;
        }
        Ok(names.len())
    }

    /// Starts a rollout as `kubectl rollout restart` does: one of [`WORKLOADS`].
    ///
    /// # Errors
    /// What the API server said.
    pub async fn restart(&self, namespace: &str, kind: &str, name: &str) -> Result<(), Refusal> {
        let workload = Place::of_kind(kind, Some(namespace), Some(name))?;
        let at = rfc3339(SystemTime::now());
        let annotations = json!({ "kubectl.kubernetes.io/restartedAt": at });
        let body = json!({ "spec": { "template": { "metadata": { "annotations": annotations }}}});
        let content = "application/strategic-merge-patch+json";
        let call = Call { content, body, ..Call::new("patch", Method::PATCH, &workload) };
        self.call(call).await.map(drop)
    }

    /// Makes an object so, or creates it, as `kubectl apply --server-side` does.
    ///
    /// # Errors
    /// An object without kind or name, or what the API server said.
    pub async fn apply(&self, object: &Value) -> Result<(), Refusal> {
        let place = Place::of(object)?;
        let query = format!("fieldManager={FIELD_MANAGER}&force=true");
        let (content, body) = ("application/apply-patch+yaml", object.clone());
        let call = Call { query, content, body, ..Call::new("patch", Method::PATCH, &place) };
        self.call(call).await.map(drop)
    }

    /// Deletes an object at once, as far as its own finalizers let it. One that is not there is
    /// deleted already.
    ///
    /// # Errors
    /// An object without kind or name, or what the API server said.
    pub async fn delete(&self, object: &Value) -> Result<(), Refusal> {
        let place = Place::of(object)?;
        let body = json!({ "gracePeriodSeconds": 0 });
        let call = Call { body, ..Call::new("delete", Method::DELETE, &place) };
        gone_is_fine(self.call(call).await)
    }

    /// Reads an object; `None` when it is not there.
    ///
    /// # Errors
    /// An object without kind or name, or what the API server said.
    pub async fn read(&self, object: &Value) -> Result<Option<Value>, Refusal> {
        let place = Place::of(object)?;
        match self.call(Call::new("get", Method::GET, &place)).await {
            Ok(found) => Ok(Some(found)),
            Err(Refusal::Absent(_)) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Sends a request and reads its answer.
    async fn call(&self, call: Call<'_>) -> Result<Value, Refusal> {
        let answer = timeout(ANSWER_MAX, self.exchange(&call)).await;
        let (status, body) = answer.map_err(|_| {
            Refusal::Unreachable(format!("no answer within {} s", ANSWER_MAX.as_secs()))
        })??;
        if !status.is_success() {
            return Err(self.refusal(&call, status, &body));
        }
        serde_json::from_slice(&body)
            .map_err(|error| Refusal::Unreachable(format!("its answer cannot be read: {error}")))
    }

    async fn exchange(&self, call: &Call<'_>) -> Result<(StatusCode, Vec<u8>), Refusal> {
        let fail = |error: &dyn std::error::Error| Refusal::Unreachable(chain(error));
        let answer = self.server.client().send(call.request()?).await;
        let (head, body) = answer.map_err(|error| fail(&error))?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| fail(error.as_ref()))?;
        Ok((head.status, body.to_bytes().to_vec()))
    }

    /// What an answer other than 2xx means.
    fn refusal(&self, call: &Call<'_>, status: StatusCode, body: &[u8]) -> Refusal {
        let said: Status = serde_json::from_slice(body).unwrap_or_default();
        let message = one_line(&said.message.unwrap_or_default());
        let (verb, what) = (call.verb, call.at.to_string());
        match status.as_u16() {
            401 => Refusal::Unauthorized(self.server.remedy()),
            403 => Refusal::Forbidden {
                verb,
                resource: call.at.resource.to_owned(),
                place: call.at.namespace.unwrap_or("the cluster").to_owned(),
                message,
            },
            404 => Refusal::Absent(what),
            code => Refusal::Refused { verb, what, code, message },
        }
    }
}

impl<'c> Call<'c> {
    /// A request without query and body.
    fn new(verb: &'static str, method: Method, at: &'c Place<'c>) -> Self {
        let (query, content, body) = (String::new(), "application/json", Value::Null);
        Self { verb, method, at, query, content, body }
    }

    fn request(&self) -> Result<Request<Body>, Refusal> {
        let body = match &self.body {
            Value::Null => Body::empty(),
            body => Body::from(body.to_string().into_bytes()),
        };
        Request::builder()
            .method(self.method.clone())
            .uri(format!("{}?{}", self.at.path(), self.query))
            .header("content-type", self.content)
            .body(body)
            .map_err(|error| Refusal::Wrong(format!("{} makes no URL: {error}", self.at)))
    }
}

impl<'o> Place<'o> {
    /// Where objects of this kind are, in any case of letters.
    fn of_kind(
        kind: &str,
        namespace: Option<&'o str>,
        name: Option<&'o str>,
    ) -> Result<Self, Refusal> {
        let known = KINDS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(kind));
        let (_, root, resource) = known.ok_or_else(|| {
            let kinds: Vec<_> = KINDS.iter().map(|(kind, ..)| *kind).collect();
            Refusal::Wrong(format!("kind {kind:?} is none of {}", kinds.join(", ")))
        })?;
        if let Some(part) = [namespace, name].into_iter().flatten().find(|part| !is_name(part)) {
            return Err(Refusal::Wrong(format!("{part:?} is no name of an object")));
        }
        Ok(Self { root, resource, namespace, name })
    }

    /// Where this object is.
    fn of(object: &'o Value) -> Result<Self, Refusal> {
        let kind = object["kind"].as_str().unwrap_or_default();
        let metadata = &object["metadata"];
        let name = metadata["name"].as_str().ok_or_else(|| {
            Refusal::Wrong("an object without metadata.name; give it one".to_owned())
        })?;
        Self::of_kind(kind, metadata["namespace"].as_str(), Some(name))
    }

    fn path(&self) -> String {
        let namespace = self.namespace.map(|it| format!("/namespaces/{it}")).unwrap_or_default();
        let name = self.name.map(|it| format!("/{it}")).unwrap_or_default();
        format!("{}{namespace}/{}{name}", self.root, self.resource)
    }
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.resource)?;
        [self.namespace, self.name].into_iter().flatten().try_for_each(|part| write!(f, "/{part}"))
    }
}

/// Whether a text can be a part of a URL's path and the name of an object.
pub fn is_name(part: &str) -> bool {
    let is_sound = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_');
    !part.is_empty() && !part.starts_with('.') && part.bytes().all(is_sound)
}

/// The names of the objects of a list.
fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    items.iter().filter_map(|item| item["metadata"]["name"].as_str()).map(str::to_owned).collect()
}

/// Somebody else may delete what we delete.
fn gone_is_fine(answer: Result<Value, Refusal>) -> Result<(), Refusal> {
    match answer {
        Ok(_) | Err(Refusal::Absent(_)) => Ok(()),
        Err(refusal) => Err(refusal),
    }
}

/// A text as a value of a URL's query (RFC 3986 §2.1).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for octet in text.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(octet.into());
            }
            _ => escaped.push_str(&format!("%{octet:02X}")),
        }
    }
    escaped
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    one_line(&text)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A time as RFC 3339 writes it, in UTC.
fn rfc3339(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a day since 1970-01-01. Years begin in March here, so that a leap day
/// ends them: 153 days are five months from then on.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_the_paths_of_the_api() {
        let slice =
            json!({ "kind": "EndpointSlice", "metadata": { "name": "a", "namespace": "b" }});
        let path = "/apis/discovery.k8s.io/v1/namespaces/b/endpointslices/a";
        assert_eq!(Place::of(&slice).unwrap().path(), path);
        let namespace = json!({ "kind": "Namespace", "metadata": { "name": "shop" }});
        assert_eq!(Place::of(&namespace).unwrap().path(), "/api/v1/namespaces/shop");
        let set = Place::of_kind("statefulset", Some("b"), Some("a")).unwrap();
        assert_eq!(set.path(), "/apis/apps/v1/namespaces/b/statefulsets/a");
        assert!(WORKLOADS.iter().all(|kind| Place::of_kind(kind, None, None).is_ok()));
    }

    #[test]
    fn what_has_no_path_is_refused_with_a_reason() {
        for (object, why) in [
            (json!({}), "without metadata.name"),
            (json!({ "kind": "Secret", "metadata": { "name": "a" }}), "\"Secret\" is none of"),
            (json!({ "kind": "Pod", "metadata": { "name": "../a" }}), "\"../a\" is no name"),
            (json!({ "kind": "Pod", "metadata": { "name": "a?b" }}), "\"a?b\" is no name"),
            (json!({ "kind": "Pod", "metadata": { "name": "" }}), "\"\" is no name"),
        ] {
            let error = Place::of(&object).err().unwrap().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn selectors_survive_a_url() {
        assert_eq!(escaped("a/b=c,d in (e)"), "a%2Fb%3Dc%2Cd%20in%20%28e%29");
    }

    #[test]
    fn times_are_written_as_the_api_writes_them() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_795_356_095, "2026-11-22T14:01:35Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }
}

//! A client of a real API server: objects are JSON, and every call waits.
#![allow(dead_code)] // Each test uses its own part.

use std::path::Path;

use http::{Method, Request, StatusCode};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// A client with the credentials of one kubeconfig.
pub struct Kubeapi {
    client: Client,
    runtime: Runtime,
}

/// What the API server said, if it was no.
#[derive(Debug)]
pub struct Refusal {
    /// 0 when it did not answer.
    pub code: u16,
    pub text: String,
}

impl Kubeapi {
    /// A client for the current context of a file.
    pub fn new(kubeconfig: &Path) -> Self {
        let runtime = Runtime::new().unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let file = Kubeconfig::read_from(kubeconfig).unwrap();
        let options = KubeConfigOptions::default();
        let client = runtime.block_on(async {
            let config = Config::from_custom_kubeconfig(file, &options).await.unwrap();
            Client::try_from(config).unwrap()
        });
        Self { client, runtime }
    }

    /// Whether the server takes requests.
    pub fn is_ready(&self) -> bool {
        let request = Request::get("/readyz").body(Vec::new()).unwrap();
        self.runtime.block_on(self.client.request_text(request)).is_ok_and(|text| text == "ok")
    }

    /// Reads one object, or a list.
    pub fn read(&self, path: &str) -> Result<Value, Refusal> {
        self.call(Method::GET, path, "application/json", &Value::Null)
    }

    /// Applies an object as `kubectl apply --server-side` does, then its status, which the API
    /// takes on a path of its own. Answers the object as the server keeps it.
    pub fn apply(&self, object: &Value) -> Value {
        let path = path(object);
        let applied = self
            .call(
                Method::PATCH,
                &format!("{path}?fieldManager=e2e&force=true"),
                "application/apply-patch+yaml",
                object,
            )
            .unwrap_or_else(|refusal| panic!("apply {path}: {refusal:?}"));
        if let Some(status) = object.get("status") {
            self.patch(&format!("{path}/status"), &json!({ "status": status }));
        }
        applied
    }

    /// Creates an object that must not be there; cheaper for the server than applying it. Answers
    /// the object as the server keeps it.
    pub fn create(&self, object: &Value) -> Value {
        let path = path(object);
        let folder = &path[..path.rfind('/').expect("a path has parts")];
        self.call(Method::POST, folder, "application/json", object)
            .unwrap_or_else(|refusal| panic!("create {path}: {refusal:?}"))
    }

    /// Applies all objects of a text.
    pub fn apply_all(&self, yaml: &str) {
        documents(yaml).iter().for_each(|object| drop(self.apply(object)));
    }

    /// Merges a change into an object.
    pub fn patch(&self, path: &str, change: &Value) {
        self.call(Method::PATCH, path, "application/merge-patch+json", change)
            .unwrap_or_else(|refusal| panic!("patch {path}: {refusal:?}"));
    }

    /// Deletes an object at once, Pods too, which no kubelet would end.
    pub fn delete(&self, path: &str) {
        self.delete_after(path, 0);
    }

    /// Deletes an object. A Pod is about to end for so many seconds.
    pub fn delete_after(&self, path: &str, seconds: u32) {
        // In the body: with one, the API server does not look at the query.
        let options = json!({ "gracePeriodSeconds": seconds });
        self.call(Method::DELETE, path, "application/json", &options)
            .unwrap_or_else(|refusal| panic!("delete {path}: {refusal:?}"));
    }

    /// A token of a ServiceAccount, as the kubelet gets one for a Pod.
    pub fn token(&self, namespace: &str, account: &str) -> String {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        let wish = json!({ "spec": { "expirationSeconds": 600 } });
        let review = self.call(Method::POST, &path, "application/json", &wish).unwrap();
        review["status"]["token"].as_str().unwrap().to_owned()
    }

    /// Calls the API with a body of this content type; null is none.
    ///
    /// # Errors
    /// What the API server said.
    pub fn call(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: &Value,
    ) -> Result<Value, Refusal> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder().method(method).uri(path).header("content-type", kind);
        let request = request.body(body).unwrap();
        self.runtime.block_on(self.client.request(request)).map_err(|error| match error {
            kube::Error::Api(status) => Refusal { code: status.code, text: status.message },
            other => Refusal { code: 0, text: other.to_string() },
        })
    }
}

/// Whether a call was refused as forbidden.
pub fn is_forbidden<T>(result: &Result<T, Refusal>) -> bool {
    let code = StatusCode::FORBIDDEN.as_u16();
    result.as_ref().is_err_and(|refusal| refusal.code == code)
}

/// The documents of a YAML text, without empty ones.
pub fn documents(yaml: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    all.into_iter().filter(|document| !document.is_null()).collect()
}

/// The path of an object.
pub fn path(object: &Value) -> String {
    let field = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{object}")).to_owned();
    let (version, kind) = (field(&object["apiVersion"]), field(&object["kind"]));
    let root = if version.contains('/') { "apis" } else { "api" };
    let name = field(&object["metadata"]["name"]);
    let plural = match kind.as_str() {
        "PodDisruptionBudget" => "poddisruptionbudgets".to_owned(),
        "NetworkPolicy" => "networkpolicies".to_owned(),
        kind => format!("{}s", kind.to_lowercase()),
    };
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("/{root}/{version}/namespaces/{namespace}/{plural}/{name}"),
        None => format!("/{root}/{version}/{plural}/{name}"),
    }
}

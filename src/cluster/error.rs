//! Why a source of objects cannot start. Each text names the thing and the remedy.

use std::path::PathBuf;

/// A fault of the configuration, found before anything is watched. What goes wrong later (an API
/// server that is away, refused credentials) is counted, logged and tried again instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no ServiceAccount here.
    #[error(
        "not in a cluster: {0}; run in a Pod with a ServiceAccount, or give the kubernetes \
         directive an `endpoint` or a `kubeconfig`"
    )]
    NotInCluster(String),
    /// The kubeconfig cannot be used.
    #[error("kubeconfig {}: {reason}", .path.display())]
    Kubeconfig { path: PathBuf, reason: String },
    /// `endpoint` is no URL.
    #[error("endpoint \"{url}\": {reason}; write it as https://host:6443")]
    Endpoint { url: String, reason: String },
    /// A file of `tls` cannot be read.
    #[error("tls file {}: {reason}; check the path and its permissions", .path.display())]
    TlsFile { path: PathBuf, reason: std::io::Error },
    /// Certificates, keys or tokens were read but cannot be used.
    #[error("credentials of {origin}: {reason}; replace them by valid PEM files or a valid token")]
    Credentials { origin: String, reason: String },
    /// The thread that reads credentials died.
    #[error("bug: {0}")]
    Bug(&'static str),
}

//! The connection to an API server: credentials, TLS, and a socket that notices a dead peer.
//!
//! Requests are never repeated in here: the watch has its own backoff, and one that can be seen.
//! kube reads the ServiceAccount token and its CA file again by itself, once a minute. All other
//! credentials are read again by [`ApiServer::renew`], after a request was refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tower::{BoxError, ServiceBuilder};

use crate::cluster::config::{ApiLimits, Source, Tls};
use crate::cluster::error::Error;
use crate::cluster::limits::Limits;

/// An API server and how we prove who we are.
pub(super) struct ApiServer {
    /// `None` for a client that cannot be made again.
    source: Option<Source>,
    host: String,
    limits: Limits,
    client: Mutex<Client>,
    /// When the credentials were read again last.
    renewed_at: Mutex<Option<Instant>>,
}

/// Shortest time between two readings of the credentials.
const RENEW_EVERY: Duration = Duration::from_secs(60);
/// Longest time for reading credentials: a plugin asks somebody over the network.
const BUILD_MAX: Duration = Duration::from_secs(20);
/// Readings under way, at most: plugins that hang are not ended.
const BUILDS_MAX: usize = 4;
/// Longest time for a TCP handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Silence before a connection is probed; a dead peer is noticed after 10 s + 3 × 3 s.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
/// Time between probes.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(3);
/// Probes without an answer that make a peer dead.
const KEEPALIVE_PROBES: u32 = 3;
/// Longest time that sent data may stay unacknowledged.
const USER_TIMEOUT: Duration = Duration::from_secs(20);

impl ApiServer {
    /// Reads the credentials. Nothing is sent yet: a server that is away is no error.
    ///
    /// # Errors
    /// What is missing or wrong in files and settings.
    pub(super) async fn open(source: &Source, limits: ApiLimits) -> Result<Self, Error> {
        let config = config(source).await?;
        let host = config.cluster_url.authority().map_or("", |at| at.as_str()).to_owned();
        let mut server = Self::with_client(client(source, config).await?, limits);
        server.host = host;
        server.source = Some(source.clone());
        Ok(server)
    }

    /// Wraps a client that exists already.
    pub(super) fn with_client(client: Client, limits: ApiLimits) -> Self {
        let now = Instant::now();
        let (limits, renewed_at) = (Limits::new(limits, now), Mutex::default());
        Self { source: None, host: String::new(), limits, client: Mutex::new(client), renewed_at }
    }

    /// The client with the latest credentials.
    pub(super) fn client(&self) -> Client {
        self.client.lock().clone()
    }

    /// How hard it may be asked.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Host and port.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Reads the credentials again, once a minute at most. The old ones stay when that fails.
    pub(super) async fn renew(&self) {
        let Some(source) = self.source.as_ref().filter(|_| self.is_renewal_due()) else { return };
        let renewed = match config(source).await {
            Ok(config) => client(source, config).await,
            Err(error) => Err(error),
        };
        match renewed {
            Ok(client) => *self.client.lock() = client,
            Err(error) => tracing::warn!("the credentials cannot be read again: {error}"),
        }
    }

    /// What an operator should do when the credentials are refused.
    pub(super) fn remedy(&self) -> String {
        match &self.source {
            Some(Source::Kubeconfig { path, .. }) => {
                format!("renew the token or certificate in {}", path.display())
            }
            Some(Source::Endpoint { tls: Some(tls), .. }) => {
                format!("renew the client certificate {}", tls.cert.display())
            }
            Some(Source::Endpoint { tls: None, .. }) => {
                "give the kubernetes directive a `tls` certificate, or use a `kubeconfig`".into()
            }
            _ => "check the ServiceAccount of the Pod and its mounted token".into(),
        }
    }

    /// Claims the renewal of this minute; only one of the watches gets it.
    fn is_renewal_due(&self) -> bool {
        let mut renewed_at = self.renewed_at.lock();
        let is_due = renewed_at.is_none_or(|at| at.elapsed() >= RENEW_EVERY);
        if is_due {
            *renewed_at = Some(Instant::now());
        }
        is_due
    }
}

/// Reads the settings of a source.
async fn config(source: &Source) -> Result<Config, Error> {
    match source {
        Source::InCluster => {
            Config::incluster().map_err(|reason| Error::NotInCluster(reason.to_string()))
        }
        Source::Kubeconfig { path, context } => kubeconfig(path, context.clone()).await,
        Source::Endpoint { url, tls } => endpoint(url, tls.as_ref()),
        Source::Manifests(_) | Source::Embedded(_) => Err(Error::Bug("manifests have no server")),
    }
}

/// Reads a kubeconfig file, in its named or current context.
async fn kubeconfig(path: &Path, context: Option<String>) -> Result<Config, Error> {
    let fail = |reason| Error::Kubeconfig { path: path.into(), reason: explain(reason) };
    let file = Kubeconfig::read_from(path).map_err(fail)?;
    let options = KubeConfigOptions { context, ..Default::default() };
    Config::from_custom_kubeconfig(file, &options).await.map_err(fail)
}

/// Says what is wrong with a kubeconfig, and the remedy.
fn explain(reason: KubeconfigError) -> String {
    use KubeconfigError as Kind;
    match reason {
        Kind::ReadConfig(io, _) => {
            format!("cannot be read: {io}; check the path and its permissions")
        }
        Kind::Parse(yaml) => format!("is no kubeconfig: {}", first_line(&yaml.to_string())),
        Kind::CurrentContextNotSet => {
            "names no current context; name one after the file in the directive".into()
        }
        Kind::LoadContext(name) => {
            format!("has no context \"{name}\"; `kubectl config get-contexts` lists them")
        }
        Kind::LoadClusterOfContext(name) => {
            format!("has no cluster \"{name}\", which the context uses; add it to the file")
        }
        Kind::MissingClusterUrl => "its cluster has no `server`; add the URL".into(),
        other => format!("{other}; correct the file"),
    }
}

/// Parsers draw their finding over several lines; a log line has one.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Builds settings from a URL and certificate files. kube reads the CA file again by itself.
fn endpoint(url: &str, tls: Option<&Tls>) -> Result<Config, Error> {
    let fail = |reason: String| Error::Endpoint { url: url.to_owned(), reason };
    let uri: http::Uri = url.parse().map_err(|reason| fail(format!("no URL: {reason}")))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(fail("neither http nor https".into()));
    }
    let mut config = Config::new(uri);
    if let Some(tls) = tls {
        config.auth_info.client_certificate = Some(readable(&tls.cert)?);
        config.auth_info.client_key = Some(readable(&tls.key)?);
        readable(&tls.ca)?;
        config.root_cert_file = Some(tls.ca.clone());
    }
    Ok(config)
}

/// Makes sure that a file can be read.
fn readable(path: &PathBuf) -> Result<String, Error> {
    let fail = |reason| Error::TlsFile { path: path.clone(), reason };
    std::fs::read(path).map_err(fail)?;
    path.to_str().map(str::to_owned).ok_or_else(|| fail(std::io::ErrorKind::InvalidInput.into()))
}

/// Builds the client, in time.
async fn client(source: &Source, config: Config) -> Result<Client, Error> {
    let origin = origin(source);
    match timeout(BUILD_MAX, build_aside(config)).await {
        Ok(built) => built?.map_err(|reason| reason.to_string()),
        Err(_) => Err(format!("no credentials within {} s", BUILD_MAX.as_secs())),
    }
    .map_err(|reason| Error::Credentials { origin, reason })
}

/// Builds a client where that delays nobody. An `exec` plugin of a kubeconfig runs in here; one
/// that hangs keeps its place.
async fn build_aside(config: Config) -> Result<Result<Client, kube::Error>, Error> {
    static PLACES: Semaphore = Semaphore::const_new(BUILDS_MAX);
    let place = match config.auth_info.exec {
        Some(_) => Some(PLACES.acquire().await),
        None => None,
    };
    let build = move || {
        let _place = place;
        build(&config)
    };
    match tokio::task::spawn_blocking(build).await {
        Ok(built) => Ok(built),
        Err(ended) if ended.is_panic() => Err(Error::Bug("reading credentials panicked")),
        // The runtime ends, and this task with it.
        Err(_) => std::future::pending().await,
    }
}

/// Where the credentials come from, for error texts.
fn origin(source: &Source) -> String {
    match source {
        Source::Kubeconfig { path, .. } => format!("kubeconfig {}", path.display()),
        Source::Endpoint { url, .. } => format!("endpoint {url}"),
        _ => "the ServiceAccount".into(),
    }
}

/// Puts the layers of a client together: URL, credentials, headers, TLS, TCP.
fn build(config: &Config) -> Result<Client, kube::Error> {
    install_crypto();
    let https = config.rustls_https_connector_with_connector(tcp())?;
    let http: legacy::Client<_, Body> = legacy::Client::builder(TokioExecutor::new()).build(https);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}

/// Chooses ring for all TLS of the program. Somebody else may have done so before.
fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A TCP connector that notices dead peers; kube's own has no keepalive.
fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE_AFTER));
    tcp.set_keepalive_interval(Some(KEEPALIVE_EVERY));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    tcp.set_tcp_user_timeout(Some(USER_TIMEOUT));
    tcp
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one request, and tells the token that it came with.
    async fn token(listener: &TcpListener) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let end = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        stream.write_all(end).await.unwrap();
        let request = String::from_utf8(request).unwrap();
        let line = request.lines().find_map(|line| line.strip_prefix("authorization: Bearer "));
        line.unwrap_or_default().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a11_a_plugin_that_hangs_is_not_waited_for() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("config");
        let exec = "{apiVersion: client.authentication.k8s.io/v1, command: sleep, args: [\"2\"], \
                    interactiveMode: Never}";
        let text = format!(
            "{{current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}],
            clusters: [{{name: c, cluster: {{server: \"http://127.0.0.1:1\"}}}}],
            users: [{{name: u, user: {{exec: {exec}}}}}]}}"
        );
        std::fs::write(&path, text).unwrap();
        let source = Source::Kubeconfig { path, context: None };
        let opening =
            tokio::spawn(async move { ApiServer::open(&source, ApiLimits::default()).await });
        for _ in 0..9 {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(BUILD_MAX).await;
        let error = opening.await.unwrap().err().expect("it hangs").to_string();
        assert!(error.contains("no credentials within 20 s"), "{error}");
    }

    #[tokio::test]
    async fn a11_credentials_are_read_again_when_they_are_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("config");
        let write = |token: &str| {
            let text = format!(
                "{{current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}],
                clusters: [{{name: c, cluster: {{server: \"http://{address}\"}}}}],
                users: [{{name: u, user: {{token: {token}}}}}]}}"
            );
            std::fs::write(&path, text).unwrap();
        };
        write("old");
        let source = Source::Kubeconfig { path: path.clone(), context: None };
        let server = ApiServer::open(&source, ApiLimits::default()).await.unwrap();
        let ask = || async {
            let request = http::Request::get("/").body(Body::empty()).unwrap();
            let client = server.client();
            tokio::join!(client.send(request), token(&listener)).1
        };
        assert_eq!(ask().await, "old");
        write("new");
        server.renew().await;
        assert_eq!(ask().await, "new");
        write("newer");
        server.renew().await;
        assert_eq!(ask().await, "new", "once a minute");
    }
}

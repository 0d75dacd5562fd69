//! Starts a source of objects and owns its tasks.

use std::sync::Arc;

use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;

use crate::cluster::config::{Scope, Source};
use crate::cluster::connect::ApiServer;
use crate::cluster::error::Error;
use crate::cluster::feed::Feed;
use crate::cluster::manifest;
use crate::cluster::object::Change;
use crate::cluster::outlet::Outlet;
use crate::cluster::positions::Positions;
use crate::cluster::watch::{self, Timing};

/// A source at work. Dropping it ends its tasks soon, [`Running::stop`] waits for that.
#[derive(Debug)]
#[must_use = "dropping it ends the source"]
pub struct Running {
    tasks: JoinSet<()>,
}

impl Running {
    /// Ends the source and waits until no further Change can come.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Starts to send Changes of what `scope` watches of `source`, after `positions`. A server that is
/// away is no error: it is tried until it answers.
///
/// # Errors
/// Credentials and settings that are missing or wrong.
pub async fn start(
    source: &Source,
    scope: &Scope,
    changes: Sender<Change>,
    feed: Arc<Feed>,
    positions: &Positions,
) -> Result<Running, Error> {
    let outlet = Outlet::new(changes, scope);
    let mut tasks = JoinSet::new();
    match source {
        Source::Manifests(paths) => {
            tasks.spawn(manifest::watch_files(paths.clone(), outlet, feed));
        }
        Source::Embedded(texts) => {
            tasks.spawn(manifest::send_embedded(texts, outlet, feed));
        }
        Source::InCluster | Source::Kubeconfig { .. } | Source::Endpoint { .. } => {
            let server = ApiServer::open(source, scope.api).await?;
            feed.requests.set_host(server.host());
            watch_all(Arc::new(server), &outlet, &feed, Timing::default(), positions, &mut tasks);
        }
    }
    Ok(Running { tasks })
}

/// Starts one watch per kind: each has its own pace and its own troubles.
pub(super) fn watch_all(
    server: Arc<ApiServer>,
    outlet: &Outlet,
    feed: &Arc<Feed>,
    timing: Timing,
    positions: &Positions,
    tasks: &mut JoinSet<()>,
) {
    for kind in outlet.scope().kinds() {
        let (server, feed) = (Arc::clone(&server), Arc::clone(feed));
        let position = positions.get(kind).map(str::to_owned);
        tasks.spawn(watch::run(kind, server, outlet.clone(), feed, timing, position));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use tempfile::TempDir;
    use tokio::sync::mpsc::channel;
    use tokio::time::{Duration, Instant};

    use super::*;
    use crate::cluster::config::Tls;
    use crate::cluster::feed::Fault;
    use crate::cluster::object::{CHANGES_MAX, Kind};
    use crate::cluster::scripted_api::{Ask, Reply, Script, Step};

    fn feed() -> Arc<Feed> {
        Arc::new(Feed::new(Instant::now(), &Scope::default()))
    }

    /// The text of the error of a source that must not start.
    async fn refusal(source: Source) -> String {
        let (sender, _changes) = channel(CHANGES_MAX);
        start(&source, &Scope::default(), sender, feed(), &Positions::default())
            .await
            .unwrap_err()
            .to_string()
    }

    fn kubeconfig(path: &Path, context: Option<&str>) -> Source {
        Source::Kubeconfig { path: path.to_owned(), context: context.map(str::to_owned) }
    }

    fn kubeconfig_text(server: &str, user: &str) -> String {
        format!(
            "apiVersion: v1
kind: Config
current-context: here
contexts: [{{name: here, context: {{cluster: c, user: u}}}}]
clusters: [{{name: c, cluster: {{server: \"{server}\"}}}}]
users: [{{name: u, user: {user}}}]
"
        )
    }

    /// A server where every kind is listed at once.
    fn empty_cluster() -> Arc<Script> {
        let script = Arc::new(Script::default());
        let annotations = r#"{"k8s.io/initial-events-end":"true"}"#;
        let end = format!(
            r#"{{"type":"BOOKMARK","object":{{"metadata":{{"resourceVersion":"1","annotations":{annotations}}}}}}}"#
        );
        for kind in Scope::default().kinds() {
            let reply = Reply::lines([end.clone()]).then(Step::Hold);
            script.on(Ask::Stream, kind.resource(), reply);
        }
        script
    }

    async fn assert_syncs(source: Source) -> Arc<Feed> {
        let (sender, mut changes) = channel(CHANGES_MAX);
        let feed = feed();
        let running =
            start(&source, &Scope::default(), sender, Arc::clone(&feed), &Positions::default())
                .await
                .unwrap();
        let mut ends = 0;
        while ends < Scope::default().kinds().count() {
            ends += usize::from(matches!(changes.recv().await, Some(Change::ListEnd(_))));
        }
        running.stop().await;
        assert_eq!(changes.recv().await, None);
        feed
    }

    #[tokio::test]
    async fn an_endpoint_is_watched_for_all_kinds() {
        let address = empty_cluster().listen().await;
        let url = format!("http://{address}");
        let feed = assert_syncs(Source::Endpoint { url, tls: None }).await;
        assert_eq!(feed.requests.host(), address.to_string());
        assert_eq!(feed.requests.by_code(), [(200, 3)]);
    }

    #[tokio::test]
    async fn a_kubeconfig_is_watched_with_its_token() {
        let address = empty_cluster().listen().await;
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("config");
        fs::write(&path, kubeconfig_text(&format!("http://{address}"), "{token: t}")).unwrap();
        assert_syncs(kubeconfig(&path, None)).await;
        assert!(
            refusal(kubeconfig(&path, Some("there"))).await.contains("has no context \"there\"")
        );
    }

    #[tokio::test]
    async fn an_unreachable_server_is_counted_and_tried() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let (sender, _changes) = channel(CHANGES_MAX);
        let feed = feed();
        let source = Source::Endpoint { url, tls: None };
        let running =
            start(&source, &Scope::default(), sender, Arc::clone(&feed), &Positions::default())
                .await
                .unwrap();
        while feed.kind(Kind::Slice).errors(Fault::Unreachable) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        running.stop().await;
        assert_eq!(feed.awaited().collect::<Vec<_>>(), Kind::OF_SERVICES);
    }

    #[tokio::test]
    async fn a_kubeconfig_that_cannot_be_used_is_refused_with_the_remedy() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("config");
        let text = refusal(kubeconfig(&path, None)).await;
        assert!(
            text.starts_with(&format!("kubeconfig {}: cannot be read: ", path.display())),
            "{text}"
        );
        let certificate = "{client-certificate: /nowhere/cert, client-key: /nowhere/key}";
        let cases = [
            ("kind: [".into(), "is no kubeconfig: "),
            ("clusters: 7".into(), "is no kubeconfig: "),
            (String::new(), "names no current context"),
            ("current-context: a".into(), "has no context \"a\""),
            (kubeconfig_text("", "{}").replace("cluster: c", "cluster: d"), "has no cluster \"d\""),
            (kubeconfig_text("http://[", "{}"), "failed to parse cluster url"),
            (kubeconfig_text("https://127.0.0.1:1", certificate), "/nowhere/cert"),
            (
                kubeconfig_text("https://127.0.0.1:1", "{tokenFile: /nowhere/token}"),
                "/nowhere/token",
            ),
            (kubeconfig_text("https://127.0.0.1:1", "{exec: {command: /nowhere/login}}"), "exec"),
        ];
        for (config, expected) in cases {
            fs::write(&path, &config).unwrap();
            let text = refusal(kubeconfig(&path, None)).await;
            assert!(text.contains(expected), "{config}\n{text}");
            assert!(text.contains(&*path.to_string_lossy()) && !text.contains('\n'), "{text}");
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_cannot_be_used_is_refused_with_the_remedy() {
        let endpoint = |url: &str, tls| Source::Endpoint { url: url.into(), tls };
        for url in ["", "api.example", "ftp://a", "https://[", "api.example:6443"] {
            let text = refusal(endpoint(url, None)).await;
            assert!(text.contains("write it as https://host:6443"), "{url}: {text}");
        }
        let folder = TempDir::new().unwrap();
        let junk = folder.path().join("junk.pem");
        fs::write(&junk, "junk").unwrap();
        let gone = PathBuf::from("/nowhere/ca.pem");
        let tls = |ca: &PathBuf| Tls { cert: junk.clone(), key: junk.clone(), ca: ca.clone() };
        let text = refusal(endpoint("https://127.0.0.1:1", Some(tls(&gone)))).await;
        assert!(text.starts_with("tls file /nowhere/ca.pem: "), "{text}");
        let text = refusal(endpoint("https://127.0.0.1:1", Some(tls(&junk)))).await;
        assert!(text.starts_with("credentials of endpoint https://127.0.0.1:1: "), "{text}");
    }

    #[tokio::test]
    async fn a_program_outside_of_a_cluster_says_so() {
        let text = refusal(Source::InCluster).await;
        assert!(text.starts_with("not in a cluster: ") && text.contains("kubeconfig"), "{text}");
    }
}

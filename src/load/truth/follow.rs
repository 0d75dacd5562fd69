//! Hears of the objects: from the API server or from files, on the same way as a server does.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, Receiver};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};

use super::Truth;
use crate::cluster::config::{Scope, Source};
use crate::cluster::feed::Feed;
use crate::cluster::object::{CHANGES_MAX, Change, Kind};
use crate::cluster::positions::Positions;
use crate::cluster::source;
use crate::load::Error;
use crate::wire::Name;

/// How much earlier than us a server may hear of a change that an API server tells: both have the
/// same watch, but this machine may be busy with making load.
const EARLY_OF_WATCH: Duration = Duration::from_millis(500);
/// The same for files, which each of both looks at once a second, twice when they have changed.
const EARLY_OF_FILES: Duration = Duration::from_millis(2500);
/// Changes that are taken in one go, so that judges wait no longer than that for the model.
const BATCH_MAX: usize = 64;
/// How often it is looked whether the watches are open, and forgotten what is old. Much less than
/// [`EARLY_OF_WATCH`], so that a case is never judged before it is known that we were blind.
const TEND_INTERVAL: Duration = Duration::from_millis(100);

/// A truth that follows the cluster. Dropping it ends that.
#[derive(Debug)]
#[must_use = "dropping it ends the watch"]
pub struct Running {
    source: Option<source::Running>,
    task: JoinHandle<()>,
}

impl Running {
    /// Ends the watch and waits until no further change can come.
    pub async fn stop(mut self) {
        if let Some(source) = self.source.take() {
            source.stop().await;
        }
        self.task.abort();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Truth {
    /// Follows a cluster, whose names are below `domain`. An answer may be older than what we know
    /// by `staleness`. An API server that is away is no error; see [`Truth::known`].
    ///
    /// # Errors
    /// A source that cannot be used, and a `staleness` over [`super::STALENESS_MAX`].
    pub async fn follow(
        source: Source,
        domain: Name,
        staleness: Duration,
    ) -> Result<(Arc<Self>, Running), Error> {
        if staleness > super::STALENESS_MAX {
            return Err(Error::Config(format!(
                "--staleness {staleness:?}: what was true so long ago is forgotten; give at most \
                 {:?}",
                super::STALENESS_MAX
            )));
        }
        let is_watched = !matches!(source, Source::Manifests(_) | Source::Embedded(_));
        let early = if is_watched { EARLY_OF_WATCH } else { EARLY_OF_FILES };
        let truth = Arc::new(Self { is_live: is_watched, ..Self::told(domain, staleness, early) });
        let scope = Scope::default();
        let feed = Arc::new(Feed::new(Instant::now(), &scope));
        let (sender, changes) = mpsc::channel(CHANGES_MAX);
        let nowhere = Positions::default();
        let running = source::start(&source, &scope, sender, Arc::clone(&feed), &nowhere)
            .await
            .map_err(|error| Error::Cluster(error.to_string()))?;
        let feed = is_watched.then_some(feed);
        let task = tokio::spawn(hear(Arc::clone(&truth), changes, feed));
        Ok((truth, Running { source: Some(running), task }))
    }
}

/// Takes changes in until the source ends.
async fn hear(truth: Arc<Truth>, mut changes: Receiver<Change>, feed: Option<Arc<Feed>>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut tending = interval(TEND_INTERVAL);
    loop {
        tokio::select! {
            received = changes.recv_many(&mut batch, BATCH_MAX) => match received {
                0 => return,
                _ => truth.hear(batch.drain(..), Instant::now()),
            },
            _ = tending.tick() => {
                truth.tend(feed.as_deref().is_none_or(is_open), Instant::now());
            }
        }
    }
}

/// Whether all that names of Services depend on is being watched.
fn is_open(feed: &Feed) -> bool {
    Kind::OF_SERVICES.into_iter().all(|kind| feed.kind(kind).is_following())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn domain() -> Name {
        Name::parse("cluster.local").unwrap()
    }

    #[tokio::test]
    async fn manifests_are_followed_like_a_cluster() {
        let folder = TempDir::new().unwrap();
        let service = "apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1]}
";
        fs::write(folder.path().join("web.yaml"), service).unwrap();
        let source = Source::Manifests(vec![folder.path().to_owned()]);
        let (truth, running) = Truth::follow(source, domain(), Duration::ZERO).await.unwrap();
        truth.known(Duration::from_secs(60)).await.unwrap();
        let kinds: Vec<Kind> = truth.objects().iter().map(|object| object.kind()).collect();
        assert_eq!(kinds, [Kind::Namespace, Kind::Service]);
        assert_eq!(truth.addresses().len(), 0, "a file vouches for no address");
        assert!(truth.generation() > 0);
        running.stop().await;
    }

    #[tokio::test]
    async fn what_cannot_be_followed_is_refused_with_the_remedy() {
        let refusal = async |source, staleness| {
            Truth::follow(source, domain(), staleness).await.unwrap_err().to_string()
        };
        let text = refusal(Source::Embedded(&[]), Duration::from_secs(61)).await;
        assert!(text.starts_with("--staleness 61s: ") && text.ends_with("at most 60s"), "{text}");
        let path = "/nowhere/config".into();
        let source = Source::Kubeconfig { path, context: None };
        let text = refusal(source, Duration::ZERO).await;
        assert!(text.starts_with("kubeconfig /nowhere/config: cannot be read"), "{text}");
    }
}

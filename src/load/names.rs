//! Where the names of a run come from: files, captures, a cluster.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::Error;
use super::arguments::RunArguments;
use super::capture;
use super::settings::Settings;
use super::tasks::{Task, Work, cluster, names};
use super::truth::{Running, Truth};

/// Longest time until the objects of the cluster are known.
const KNOWN_MAX: Duration = Duration::from_secs(60);

/// The names of a run and what is known of them.
pub struct Names {
    /// What is looked up.
    pub work: Work,
    /// Where it is from, in a few words.
    pub from: String,
    /// What is right, for names of the cluster.
    pub truth: Option<(Arc<Truth>, Running)>,
    listed: Vec<Arc<Task>>,
}

impl Names {
    /// Reads all of them, and waits for the cluster.
    ///
    /// # Errors
    /// Nothing to ask, a file that is wrong, a cluster that does not answer.
    pub async fn gather(arguments: &RunArguments, settings: &Settings) -> Result<Self, Error> {
        let (mut listed, mut from) = (Vec::new(), Vec::new());
        if let Some(path) = &arguments.names {
            listed.extend(names::read(path)?);
            from.push(file_name("names", path));
        }
        if let Some(path) = &arguments.capture {
            let captured = capture::read(path)?;
            captured.warnings.iter().for_each(|warning| eprintln!("{warning}"));
            listed.extend(captured.tasks);
            from.push(file_name("capture", path));
        }
        let truth = match &settings.source {
            None => None,
            Some(source) => {
                from.push("cluster".to_owned());
                let domain = settings.domain().clone();
                let truth = Truth::follow(source.clone(), domain, settings.staleness).await?;
                truth.0.known(KNOWN_MAX).await?;
                Some(truth)
            }
        };
        let work = work(&listed, truth.as_ref().map(|(truth, _)| &**truth), settings)?;
        if from.is_empty() {
            from.push("names of --foreign and by chance".to_owned());
        }
        Ok(Self { work, from: from.join(", "), truth, listed })
    }

    /// Addresses of the cluster, where one is known.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        self.truth.as_ref().map(|(truth, _)| truth.addresses()).unwrap_or_default()
    }

    /// The names of the cluster as it is by this time, beside the others. `None` when there are
    /// none any more: then those of before are asked on.
    pub fn renewed(&self, settings: &Settings) -> Option<Work> {
        let (truth, _) = self.truth.as_ref()?;
        work(&self.listed, Some(truth), settings).ok()
    }
}

fn work(listed: &[Arc<Task>], truth: Option<&Truth>, settings: &Settings) -> Result<Work, Error> {
    let mut tasks = listed.to_vec();
    if let Some(truth) = truth {
        let objects = truth.objects();
        let objects = objects.iter().map(|object| &**object);
        tasks.extend(cluster::tasks(objects, settings.domain(), &settings.recipe.namespace));
    }
    Work::build(tasks, &settings.recipe)
}

/// Only the last part: a report goes to others, whom the folders of this machine do not concern.
fn file_name(kind: &str, path: &std::path::Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    format!("{kind} {}", name.to_string_lossy())
}

//! Where the Corefile comes from, and which one a start serves: the one on disk, or the last one
//! that was right.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::arguments::ServeArguments;
use super::last_good::LastGood;
use super::{Error, Options, Server};
use crate::corefile::{self, Corefile, Origin, builtin};
use crate::ops;

/// Corefile that is read when none is named (as CoreDNS).
const COREFILE_DEFAULT: &str = "Corefile";
/// Largest Corefile from standard input, in octets.
const STDIN_MAX: u64 = 1 << 20;

/// Where the Corefile comes from, to read it again.
pub struct ConfSource {
    pub origin: Origin,
    pub options: corefile::Options,
}

impl ConfSource {
    pub fn new(arguments: &ServeArguments) -> Result<Self, Error> {
        let options = corefile::Options { port: arguments.port, ..corefile::Options::default() };
        Ok(Self { origin: origin(arguments.conf.as_deref())?, options })
    }

    /// Reads the Corefile, apart from what must not wait for a slow disk.
    pub async fn load(&self) -> Result<Corefile, Error> {
        let (origin, options) = (self.origin.clone(), self.options);
        let read = tokio::task::spawn_blocking(move || corefile::load(&origin, &options)).await;
        let bug = |_| Error::Usage("reading the Corefile panicked; please report it");
        read.map_err(bug)?.map_err(Error::Corefile)
    }
}

pub fn tell_warnings(corefile: &Corefile) {
    for warning in &corefile.warnings {
        tracing::warn!("{warning}");
    }
}

/// Finds the Corefile: the named one, `stdin`, the one in this folder, or in a cluster our own.
///
/// # Errors
/// When there is none, or standard input cannot be read.
pub fn origin(named: Option<&Path>) -> Result<Origin, Error> {
    match named {
        Some(path) if path == Path::new("stdin") => {
            let mut text = Vec::new();
            let read = std::io::stdin().take(STDIN_MAX + 1).read_to_end(&mut text);
            read.map_err(|source| Error::Io { what: "cannot read stdin".into(), source })?;
            Ok(Origin::Stdin(text))
        }
        Some(path) => Ok(Origin::File(path.to_owned())),
        None if Path::new(COREFILE_DEFAULT).exists() => {
            Ok(Origin::File(PathBuf::from(COREFILE_DEFAULT)))
        }
        None if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => {
            Ok(Origin::Builtin(builtin::CLUSTER))
        }
        None => Err(Error::Usage(
            "there is no Corefile here, and this is no cluster; name one with -conf FILE, \
             or try `mainstay demo`",
        )),
    }
}

/// Which Corefile a start serves.
pub enum Served {
    File,
    /// The last one that was right, because the file cannot be served; with why.
    Copy(String),
    /// The last one that was right, until the file has been looked at as at a reload.
    CopyFirst,
}

/// What a start is made of.
pub struct Start<'s> {
    pub source: &'s ConfSource,
    pub options: Options,
    pub counters: &'s ops::Counters,
    pub last_good: &'s LastGood,
}

impl Start<'_> {
    /// Starts to serve the Corefile, or if that cannot be, the last one that could. The first start
    /// makes do with what there is; a restart must not let in what a reload has refused, so it
    /// serves what was served, and the file then passes what a reload has to.
    pub async fn start(&self, served_before: &str) -> Result<(Server, Served), Error> {
        let error = match self.source.load().await {
            Ok(corefile) => {
                if let Some(server) = self.serve_before(&corefile, served_before).await {
                    return Ok((server, Served::CopyFirst));
                }
                tell_warnings(&corefile);
                match self.serve(corefile.clone()).await {
                    Ok(server) => return Ok((server, Served::File)),
                    Err(error) => return self.serve_instead(Some(&corefile), error).await,
                }
            }
            Err(error) => error,
        };
        self.serve_instead(None, error).await
    }

    async fn serve(&self, corefile: Corefile) -> Result<Server, Error> {
        Server::start(corefile, self.options.clone(), self.counters.clone()).await
    }

    /// Serves what the last process did, if that was not this Corefile and there is a copy of it.
    async fn serve_before(&self, corefile: &Corefile, served_before: &str) -> Option<Server> {
        let is_it = |it: &Corefile| it.fingerprint.to_string() == served_before;
        if served_before.is_empty() || is_it(corefile) {
            return None;
        }
        let (copy, path) = self.other_copy(Some(corefile)).filter(|(copy, _)| is_it(copy))?;
        let has_clusters = copy.blocks.iter().any(|block| block.kubernetes.is_some());
        tracing::info!("the Corefile is not the one that was served last, which is in {path}");
        match self.serve(copy).await {
            Ok(mut server) => {
                if has_clusters {
                    server.knew_clusters();
                }
                self.counters.last_good_in_use.set(1);
                Some(server)
            }
            Err(error) => {
                tracing::error!("{path} cannot be served: {error}; trying the Corefile");
                None
            }
        }
    }

    /// Serves the copy, because of this error.
    async fn serve_instead(
        &self,
        corefile: Option<&Corefile>,
        error: Error,
    ) -> Result<(Server, Served), Error> {
        // What is wrong elsewhere no other Corefile mends.
        if !matches!(error, Error::Corefile(_) | Error::Listen(_) | Error::Ops(_)) {
            return Err(error);
        }
        let Some((copy, path)) = self.other_copy(corefile) else { return Err(error) };
        let text = error.to_string();
        tracing::error!(
            "THE COREFILE CANNOT BE SERVED: {}; serving the last one that could be, from {path}; \
             correct the Corefile, and it is taken over",
            text.replace('\n', "; ")
        );
        match self.serve(copy).await {
            Ok(server) => {
                self.counters.reload_failed.inc();
                self.counters.last_good_in_use.set(1);
                Ok((server, Served::Copy(text)))
            }
            Err(other) => {
                tracing::error!("{path} cannot be served either: {other}");
                Err(error)
            }
        }
    }

    /// The last Corefile that could be served, if it is not this one, and where it is.
    fn other_copy(&self, corefile: Option<&Corefile>) -> Option<(Corefile, String)> {
        let copy = self.last_good.load()?;
        let is_same = corefile.is_some_and(|corefile| corefile.fingerprint == copy.fingerprint);
        let path = self.last_good.path()?.display().to_string();
        (!is_same).then_some((copy, path))
    }
}

//! Text → tokens → directives → [`Corefile`], the configuration as it is written.
//!
//! ```text
//! Origin ─source─► text ─lexer─► lines ─parse─► statements ─import, env─┐
//!                                                                       ▼
//! Corefile ◄─directives─ server blocks ◄─block, key─ statements with everything in place
//!                                                            └─► Fingerprint
//! ```
//!
//! The dialect and the meaning of each directive are those of CoreDNS. What would change answers
//! and is not understood is a [`Problem`], never skipped; all problems of a file are told at once.
//! Files are bounded in size, imports in depth and number, so reading always ends.

mod block;
pub mod builtin;
mod directives;
mod env;
mod fingerprint;
mod glob;
mod grammar;
mod import;
mod key;
mod lexer;
mod parse;
mod problem;
mod resolved;
mod source;
mod suggest;
mod value;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use directives::{directive_names, directives_table};
pub use fingerprint::Fingerprint;
pub use key::Key;
pub use problem::{Location, Problem};
pub use source::Origin;

use crate::cluster::config::Config as ClusterConfig;
use crate::forward::config::Config as ForwardConfig;
use crate::resolve::config::{CacheConfig, ErrorsConfig, ExternalConfig, TransferConfig};
use crate::wire::Name;
use problem::Findings;

/// Port of a server block that names none.
pub const PORT_DEFAULT: u16 = 53;

/// A Corefile that is right.
#[derive(Clone, Debug)]
pub struct Corefile {
    /// In the order of the file; at least one. No two serve the same zone at the same port.
    pub blocks: Vec<ServerBlock>,
    /// What the operator should know.
    pub warnings: Vec<Problem>,
    /// Equal when nothing changed but white space, comments and names of files.
    pub fingerprint: Fingerprint,
    /// What was read, as one text with imports in place and variables replaced.
    pub resolved: Arc<str>,
}

/// One server block: what is done for queries to some zones.
#[derive(Clone, Debug)]
pub struct ServerBlock {
    pub at: Location,
    /// At least one.
    pub keys: Vec<Key>,
    pub errors: Option<ErrorsConfig>,
    pub health: Option<Health>,
    pub ready: Option<Ready>,
    /// Where `/metrics` is answered.
    pub prometheus: Option<SocketAddr>,
    pub kubernetes: Option<ClusterConfig>,
    /// Only beside `kubernetes`, which then keeps what this needs.
    pub external: Option<ExternalConfig>,
    /// Who may have the zones of `kubernetes` as a whole.
    pub transfer: Vec<TransferConfig>,
    pub cache: Option<CacheConfig>,
    /// In the order of the file, which is the order in which they are tried.
    pub forward: Vec<ForwardConfig>,
    /// Whether queries that come back to us are looked for (`loop`).
    pub loop_detection: bool,
    pub reload: Option<Reload>,
    /// Whether the order of addresses changes from answer to answer.
    pub loadbalance: bool,
    /// `shed`: says what is so without it too.
    pub shed: bool,
}

/// A `health` directive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Health {
    /// `[::]` means every address of both families.
    pub listen: SocketAddr,
    /// Keeps answering for so long after it is told to stop. Default 0.
    pub lameduck: Duration,
}

/// A `ready` directive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready {
    /// `[::]` means every address of both families.
    pub listen: SocketAddr,
    pub monitor: Monitor,
}

/// Whether readiness can be lost again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Monitor {
    /// What was ready once stays ready.
    UntilReady,
    /// Readiness is looked at each time.
    Continuously,
}

/// A `reload` directive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reload {
    /// Time between two looks at the files.
    pub interval: Duration,
    /// Random part of it, at most half.
    pub jitter: Duration,
}

/// What a Corefile does not say itself.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Port of server blocks that name none. Default [`PORT_DEFAULT`].
    pub port: u16,
    /// Looks an environment variable up. Default: those of the process.
    pub variable: fn(&str) -> Option<String>,
}

/// Reads a Corefile.
///
/// # Errors
/// Everything that is wrong with it, in the order of the stages above.
pub fn load(origin: &Origin, options: &Options) -> Result<Corefile, Vec<Problem>> {
    let mut findings = Findings::default();
    let mut corefile = read(origin, options, &mut findings).map_err(|problem| vec![problem])?;
    corefile.warnings = findings.conclude()?;
    Ok(corefile)
}

/// Goes through all stages; an error ends them at once. Warnings are among the findings.
fn read(origin: &Origin, options: &Options, findings: &mut Findings) -> Result<Corefile, Problem> {
    let source = origin.read()?;
    let statements = import::expand(&source, options, findings)?;
    let (fingerprint, resolved) = (Fingerprint::of(&statements), resolved::text(&statements));
    let blocks = block::blocks(statements, options.port, findings);
    if blocks.is_empty() && findings.is_clean() {
        let text = "there is no server block in it; begin one with a zone, such as \".:53 {\"";
        return Err(Problem::new(&Location::whole(source.file), "", text));
    }
    Ok(Corefile { blocks, warnings: Vec::new(), fingerprint, resolved: resolved.into() })
}

impl ServerBlock {
    /// A block without keys and directives.
    fn new(at: Location) -> Self {
        Self {
            at,
            keys: Vec::new(),
            errors: None,
            health: None,
            ready: None,
            prometheus: None,
            kubernetes: None,
            external: None,
            transfer: Vec::new(),
            cache: None,
            forward: Vec::new(),
            loop_detection: false,
            reload: None,
            loadbalance: false,
            shed: false,
        }
    }

    /// The zones of its keys, each once.
    pub fn zones(&self) -> Vec<Name> {
        let mut zones: Vec<Name> = Vec::new();
        for key in &self.keys {
            if !zones.contains(&key.zone) {
                zones.push(key.zone.clone());
            }
        }
        zones
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { port: PORT_DEFAULT, variable: |name| std::env::var(name).ok() }
    }
}

//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Measures what a large cluster costs Mainstay, beside CoreDNS on the same stand-in API server.
///
/// The server runs on CPU 0; the API server and the clients share CPU 1. Only ratios of one run
/// count: machines differ, and one machine differs from hour to hour. `benches/cluster/run` builds
/// what is to be measured, and then runs this program.
#[derive(Parser, Debug)]
#[command(name = "cluster", version, after_help = EXAMPLES)]
pub struct Options {
    /// Measure only this table; may be repeated
    #[arg(long, value_name = "TABLE", value_parser = TABLES)]
    pub only: Vec<String>,
    /// Fewer rounds and shorter times: to compare while working, not to publish
    #[arg(long)]
    pub quick: bool,
    /// Measure this binary instead of the one just built; with several, each in turn
    #[arg(long, value_name = "[LABEL=]PATH")]
    pub mainstay: Vec<String>,
    /// The CoreDNS to measure; `tests/coredns/build` prints the path of one
    #[arg(long, value_name = "PATH")]
    pub coredns: Option<PathBuf>,
    /// Services of the cluster, instead of 10 000 with one huge headless Service among them
    #[arg(long, value_name = "NUMBER")]
    pub services: Option<usize>,
    /// Folder for results.md, results.json and results.svg [default: only print]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// The tables, in their order.
pub const TABLES: [&str; 8] =
    ["start", "memory", "change", "churn", "publish", "flaps", "huge", "floods"];

const EXAMPLES: &str = "\
Tables:
  start    from the start to the first answer: foreign, from the API server, from a Snapshot
  memory   resident memory, the peak of a relist, and the time until all names are known
  change   one changed EndpointSlice, until its answer is seen
  churn    1 000 and 10 000 changes/s under 10 000 q/s
  publish  CPU per change in a small and in a large cluster
  flaps    CPU while the API server comes and goes
  huge     the answer with 5 000 endpoints, over UDP and TCP
  floods   cluster names under floods of other names, garbage and silent connections

Examples:
  cluster --only memory --quick --mainstay target/release/mainstay
  cluster --only memory --mainstay old=PATH --mainstay new=PATH --coredns PATH";

impl Options {
    /// Whether a table is to be measured.
    pub fn wants(&self, table: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == table)
    }
}

//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Measures what a query costs Mainstay, beside a bare echo server and beside its peers.
///
/// Servers run on CPU 0, the questions come from CPU 1. Only ratios of one run count: machines
/// differ, and one machine differs from hour to hour. `benches/peers/run` installs and builds what
/// is to be measured, and then runs this program.
#[derive(Parser, Debug)]
#[command(name = "peers", version, after_help = EXAMPLES)]
pub struct Options {
    /// Measure only this: a table, or words of a cell such as `udp/ptr/1000/edns`; may be repeated
    #[arg(long, value_name = "WORDS")]
    pub only: Vec<String>,
    /// Rounds, of which the median counts [default: 5, or 3 with --quick]
    #[arg(long, value_name = "NUMBER")]
    pub rounds: Option<usize>,
    /// Shorter windows and fewer rounds: to compare while working, not to publish
    #[arg(long)]
    pub quick: bool,
    /// Measure this binary instead of the one just built; with several, each in turn
    #[arg(long, value_name = "[LABEL=]PATH")]
    pub mainstay: Vec<String>,
    /// The CoreDNS to measure; `tests/coredns/build` prints the path of one
    #[arg(long, value_name = "PATH")]
    pub coredns: Option<PathBuf>,
    /// Folder for results.md, results.json and results.svg [default: only print]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// Names of the large cluster, and the tables that ask for them.
const LARGE: usize = 100_000;
const LARGE_TABLES: [&str; 3] = ["udp", "caches", "authorities"];

const EXAMPLES: &str = "\
Tables: udp, coredns, caches, authorities, tcp, rates, scaling, idle, changes
Words of a cell of udp: clusterip headless nxdomain ptr foreign; 1000 100000; edns plain
Words of caches and authorities: 1000 100000

Examples:
  peers --only udp --quick                       what a query costs, beside the echo
  peers --only udp/foreign/100000 --rounds 9     one kind of question, more closely
  peers --only udp --mainstay old=PATH --mainstay new=PATH
                                                 two binaries, each round one after the other";

/// Lengths of one measurement.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub rounds: usize,
    pub warm_up: Duration,
    /// At saturation.
    pub window: Duration,
    /// At a fixed rate.
    pub steady: Duration,
    /// Before idle servers are measured.
    pub rest: Duration,
    pub idle: Duration,
}

impl Options {
    pub fn times(&self) -> Times {
        let ms = Duration::from_millis;
        let times = match self.quick {
            true => Times {
                rounds: 3,
                warm_up: ms(80),
                window: ms(400),
                steady: ms(1000),
                rest: ms(10_000),
                idle: ms(5000),
            },
            false => Times {
                rounds: 5,
                warm_up: ms(100),
                window: ms(600),
                steady: ms(3000),
                rest: ms(20_000),
                idle: ms(10_000),
            },
        };
        Times { rounds: self.rounds.unwrap_or(times.rounds).max(1), ..times }
    }

    /// Whether a cell is to be measured, by its words.
    pub fn wants(&self, words: &[&str]) -> bool {
        let is_named = |only: &String| only.split('/').all(|word| words.contains(&word));
        self.only.is_empty() || self.only.iter().any(is_named)
    }

    /// Whether any cell of a table may be wanted.
    pub fn wants_table(&self, table: &str) -> bool {
        let is_named = |only: &String| only.split('/').next() == Some(table);
        self.only.is_empty() || self.only.iter().any(is_named)
    }

    /// Whether so many names are to be asked for; only `udp` can do without the smaller number.
    pub fn wants_names(&self, names: usize) -> bool {
        let size = names.to_string();
        let is_size = |word: &str| word.parse::<usize>().is_ok();
        let is_named = |only: &String| {
            let mut sizes = only.split('/').filter(|word| is_size(word)).peekable();
            let is_any = sizes.peek().is_none();
            is_any
                && (names < LARGE || LARGE_TABLES.contains(&only.split('/').next().unwrap_or("")))
                || sizes.any(|word| word == size)
        };
        self.only.is_empty() || self.only.iter().any(is_named)
    }
}

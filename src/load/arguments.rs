//! The command line of `mainstay load`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::resolver::Resolver;
use super::target::Transport;

#[derive(Args, Debug, Clone)]
#[command(args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
pub struct LoadArguments {
    #[command(subcommand)]
    pub command: Option<LoadCommand>,
    #[command(flatten)]
    pub run: Box<RunArguments>,
}

const AFTER_HELP: &str = "\
Examples:
  mainstay load 127.0.0.1:5353 --names queries.txt --rate 5000
  mainstay load 10.96.0.10 --cluster --resolver glibc,musl,jvm --rate 200 --duration 5m \\
      --fault delete-pod:kube-system/k8s-app=kube-dns@60s --html report.html
  mainstay load 127.0.0.1:5353 --names q.txt --server-command './coredns -conf Corefile' \\
      --fault kill9@10s --slo 'unknown_host=0,recovery<2s'
  mainstay load compare before.json after.json

Faults, each with @WHEN or @FROM..UNTIL:
  kill9, stop, term, restart                 the process of --pid or --server-command
  blackhole-upstream, delay-upstream:800ms, loss-upstream:30%, servfail-upstream,
  truncate-upstream, pps-upstream:1024       the relay of --upstream
  api-down                                   the relay of --api
  delete-pod:NAMESPACE/SELECTOR, rollout-restart:NAMESPACE/KIND/NAME
                                             through the Kubernetes API
  command:'SHELL COMMAND'                    anything else

Goals of --slo, comma-separated, with < <= = >= >:
  p50 p90 p99 p999 max mean (5ms), ok unknown_host try_again slow wrong failed lost
  wrong_negative wrong_positive stale stuck_clients late not_begun (0 or 0.1%),
  recovery longest_outage fresh_after (2s), rate (5000), amplification (2.5);
  of one kind of name or client: service.failed=0, glibc.p99<5ms

Exit status: 0 all goals met, 1 a goal was missed or the run did not come to its end with goals,
2 the run could not be made or not be told.";

/// What else than a run.
#[derive(Subcommand, Debug, Clone)]
pub enum LoadCommand {
    /// Lay two reports side by side, with confidence intervals
    Compare(CompareArguments),
    /// Run a drill: servers, load and faults as one file
    Drill(DrillArguments),
}

#[derive(Args, Debug, Clone)]
pub struct RunArguments {
    /// DNS servers with port.
    #[arg(help = "DNS servers, ADDRESS[:PORT] [default: those of --resolv-conf]")]
    #[arg(value_name = "SERVER", value_parser = server)]
    pub servers: Vec<SocketAddr>,

    /// Lookups per second; short for --profile constant:RATE
    #[arg(long, value_name = "RATE", help_heading = "When", conflicts_with = "profile")]
    #[arg(allow_negative_numbers = true)] // They are refused with a better text.
    pub rate: Option<f64>,
    /// constant:RATE, poisson:RATE, ramp:FROM..TO/TIME, step:RATE,RATE,…/TIME
    /// (default poisson:20)
    #[arg(long, value_name = "PROFILE", help_heading = "When")]
    pub profile: Option<String>,
    /// How long lookups become due; 0s for ever
    #[arg(long, value_name = "TIME", help_heading = "When", default_value = "30s")]
    pub duration: String,
    /// Repeat a run: same names, same times
    #[arg(long, value_name = "NUMBER", help_heading = "When", default_value_t = 1)]
    pub seed: u64,

    /// Names and types, one per line, as dnsperf reads them
    #[arg(long, value_name = "FILE", help_heading = "What")]
    pub names: Option<PathBuf>,
    /// Names of a capture: pcap, pcapng, or dnstap
    #[arg(long, value_name = "FILE", help_heading = "What")]
    pub capture: Option<PathBuf>,
    /// Names of the cluster that we are in, or of --kubeconfig
    #[arg(long, help_heading = "What")]
    pub cluster: bool,
    /// The cluster of a kubeconfig, implies --cluster
    #[arg(long, value_name = "FILE", help_heading = "What")]
    pub kubeconfig: Option<PathBuf>,
    /// Its context
    #[arg(long, value_name = "NAME", help_heading = "What", requires = "kubeconfig")]
    pub context: Option<String>,
    /// Names of the objects in these files or folders
    #[arg(long, value_name = "PATH", help_heading = "What")]
    #[arg(conflicts_with_all = ["kubeconfig", "cluster"])]
    pub manifests: Vec<PathBuf>,
    /// Domain of the cluster
    #[arg(long, value_name = "DOMAIN", help_heading = "What", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// How often each name: as-listed (default of --names and --capture), uniform, zipf or
    /// zipf:EXPONENT (default of a cluster)
    #[arg(long, value_name = "KIND", help_heading = "What")]
    pub popularity: Option<String>,
    /// Percent of the lookups by kind, the rest as they come:
    /// foreign=10,missing=5,ptr=2,srv=2,random=1
    #[arg(long, value_name = "SHARES", help_heading = "What", default_value = "")]
    pub mix: String,
    /// Names outside of the cluster for `foreign`, may be repeated
    #[arg(long, value_name = "NAME", help_heading = "What", default_value = "www.example.org")]
    pub foreign: Vec<String>,

    /// packet, or application resolvers: glibc, musl, go, jvm, netty, c-ares; several share the
    /// load evenly
    #[arg(long, value_name = "KIND,…", help_heading = "How", value_delimiter = ',')]
    #[arg(default_value = "packet")]
    pub resolver: Vec<Resolver>,
    /// Clients (processes with a resolver, or sockets) of this worker, shared among the resolvers.
    /// Packets have at most 256 per thread
    #[arg(long, value_name = "NUMBER", help_heading = "How", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub clients: u32,
    /// resolv.conf with search list and options [default: that of a Pod in --namespace]
    #[arg(long, value_name = "FILE", help_heading = "How")]
    pub resolv_conf: Option<PathBuf>,
    /// Namespace of the clients, for their search list
    #[arg(long, value_name = "NAME", help_heading = "How", default_value = "default")]
    pub namespace: String,
    /// Transport of packets without a resolver
    #[arg(long, value_name = "KIND", help_heading = "How", default_value = "udp")]
    pub transport: Transport,
    /// Threads that send packets
    #[arg(long, value_name = "NUMBER", help_heading = "How", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=64))]
    pub threads: u8,
    /// A packet without a reply for so long is lost
    #[arg(long, value_name = "TIME", help_heading = "How", default_value = "5s")]
    pub timeout: String,
    /// A right answer that took longer is slow
    #[arg(long, value_name = "TIME", help_heading = "How", default_value = "1s")]
    pub slow: String,
    /// How old an answer may be and still count as true, where the cluster tells what is
    #[arg(long, value_name = "TIME", help_heading = "How", default_value = "1s")]
    pub staleness: String,

    /// What to do meanwhile, such as kill9@10s or delay-upstream:800ms@5s..15s; may be repeated.
    /// Of several workers, number 0 does it
    #[arg(long, value_name = "FAULT", help_heading = "Faults")]
    pub fault: Vec<String>,
    /// Process of the server, for faults
    #[arg(long, value_name = "PID", help_heading = "Faults")]
    pub pid: Option<u32>,
    /// Start the server with this command, and again 2 s after it died
    #[arg(long, value_name = "COMMAND", help_heading = "Faults", conflicts_with = "pid")]
    pub server_command: Option<String>,
    /// Relay to an upstream, LISTEN=UPSTREAM: the server under test forwards to LISTEN.
    /// `LISTEN=stub` answers by itself
    #[arg(long, value_name = "LISTEN=TO", help_heading = "Faults")]
    pub upstream: Vec<String>,
    /// Relay to the API server, LISTEN=TO: the server under test watches LISTEN
    #[arg(long, value_name = "LISTEN=TO", help_heading = "Faults")]
    pub api: Option<String>,

    /// Write the report: JSON for machines
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub json: Option<PathBuf>,
    /// One page with plots, no other file needed
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub html: Option<PathBuf>,
    /// Log of HdrHistograms, by kind of name and resolver
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub hdr: Option<PathBuf>,
    /// Goals as test cases
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub junit: Option<PathBuf>,
    /// Serve /metrics here while it runs
    #[arg(long, value_name = "ADDRESS", help_heading = "Reports")]
    pub metrics: Option<SocketAddr>,
    /// Goals that decide the exit status, such as 'p99<5ms,unknown_host=0,recovery<2s'
    #[arg(long, value_name = "GOALS", help_heading = "Reports")]
    pub slo: Option<String>,
    /// Nothing but the result
    #[arg(long, help_heading = "Reports")]
    pub quiet: bool,

    /// Run for ever at this low rate, with metrics on :9253 unless --metrics says where
    #[arg(long, value_name = "RATE", help_heading = "Places")]
    #[arg(conflicts_with_all = ["rate", "profile", "duration"], allow_negative_numbers = true)]
    pub canary: Option<f64>,
    /// Workers of an Indexed Job that start together and whose reports become one
    #[arg(long, value_name = "NUMBER", help_heading = "Places", default_value_t = 1)]
    pub workers: u32,
    /// Number of this worker, from 0
    #[arg(long, value_name = "NUMBER", help_heading = "Places", env = "JOB_COMPLETION_INDEX")]
    #[arg(default_value_t = 0)]
    pub index: u32,
    /// Where worker 0 is (HOST:PORT); worker 0 listens on that port
    #[arg(long, value_name = "HOST:PORT", help_heading = "Places")]
    pub coordinator: Option<String>,
    /// Allow more than 1 000 packets per second for a server that is neither on loopback nor of the
    /// cluster
    #[arg(long, help_heading = "Places")]
    pub yes_i_own_this_server: bool,
}

#[derive(Args, Debug, Clone)]
pub struct CompareArguments {
    /// Reports that `--json` wrote: the first is what the second is compared with
    #[arg(value_name = "FILE", num_args = 2)]
    pub reports: Vec<PathBuf>,
    /// JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug, Clone)]
pub struct DrillArguments {
    /// Name of a drill, or its file; without one: list them
    pub name: Option<String>,
    /// Peer beside Mainstay, NAME=COMMAND with {conf} for its Corefile, such as
    /// 'coredns=./coredns -conf {conf}'; may be repeated
    #[arg(long, value_name = "NAME=COMMAND")]
    pub peer: Vec<String>,
    /// API server whose objects the drill makes and changes; peers without manifests need it
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Folder for reports, one JSON and one page per server
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Part of the duration that the drill's file says
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    pub scale: f64,
}

/// Reads ADDRESS or ADDRESS:PORT, port 53 by default.
fn server(text: &str) -> Result<SocketAddr, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    bare.map(|address| SocketAddr::new(address, 53)).or_else(|_| text.parse()).map_err(
        |_: std::net::AddrParseError| {
            format!("{text:?} is no address; write it as 10.96.0.10, 127.0.0.1:5353 or [::1]:5353")
        },
    )
}

impl ValueEnum for Transport {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Udp, Self::Tcp]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }))
    }
}

impl ValueEnum for Resolver {
    fn value_variants<'a>() -> &'a [Self] {
        use Resolver::*;
        &[Packet, Glibc, Musl, Go, Jvm, Netty, CAres]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.name()))
    }
}

/// The arguments of a run from the words of a command line.
#[cfg(test)]
pub fn run(words: &str) -> RunArguments {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        load: LoadArguments,
    }
    let words = ["load"].into_iter().chain(words.split_whitespace());
    *<Line as clap::Parser>::try_parse_from(words).expect("a command line that is right").load.run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_all_goals() {
        for (name, _) in super::super::report::slo::METRICS {
            let is_named = AFTER_HELP.split(|it: char| !it.is_alphanumeric() && it != '_');
            assert!(is_named.into_iter().any(|word| word == *name), "{name}");
        }
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        use clap::Parser;
        #[derive(Parser, Debug)]
        struct Line {
            #[command(flatten)]
            _run: RunArguments,
        }
        for (words, other) in [
            ("--canary 5 --duration 60s", "--duration"),
            ("--cluster --manifests x.yaml", "--manifests"),
            ("--kubeconfig x --manifests x.yaml", "--manifests"),
        ] {
            let words = ["load"].into_iter().chain(words.split_whitespace());
            let error = Line::try_parse_from(words).unwrap_err().to_string();
            assert!(error.contains("cannot be used with") && error.contains(other), "{error}");
        }
        assert!(Line::try_parse_from(["load", "--canary", "5"]).is_ok());
    }
}

//! The command line: ours, and CoreDNS's as it is.
//!
//! CoreDNS's long options have one dash (`-conf`, `-dns.port`), as Go's flag package has them. They
//! are rewritten before clap sees them, so that a Deployment's `args` work unchanged.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::load::arguments::LoadArguments;

/// Long options that CoreDNS writes with one dash.
const ONE_DASH: [&str; 6] = ["conf", "dns.port", "quiet", "pidfile", "plugins", "version"];

/// The cluster DNS that does not let go.
///
/// Serves the Corefile that your cluster already has, as a drop-in replacement for CoreDNS and
/// kube-dns: `mainstay -conf /etc/coredns/Corefile`. Try it without a cluster: `mainstay demo`.
#[derive(Parser, Debug)]
#[command(name = "mainstay", version, args_conflicts_with_subcommands = true)]
#[command(after_help = AFTER_HELP)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub serve: ServeArguments,
}

const AFTER_HELP: &str = "\
Environment:
  MAINSTAY_LOG  what to log, such as `debug` or `info,mainstay::forward=trace` [default: info]
  NO_COLOR      when set, no colours on a terminal

Signals:
  SIGTERM, SIGINT  not ready at once, go on for `health { lameduck }` and until nobody asks,
                   finish, end; twice: end now
  SIGUSR1          read the Corefile again";

/// What to do. Without a word: serve.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Serve a Corefile (the default)
    Serve(ServeArguments),
    /// Serve an example cluster on loopback, no Kubernetes needed
    Demo(DemoArguments),
    /// Check a Corefile: tells every problem with file and line, and what to write instead
    Check(CheckArguments),
    /// Load a DNS server and tell how many lookups failed, and when the last one did
    Load(LoadArguments),
}

#[derive(Args, Debug, Clone)]
pub struct ServeArguments {
    /// Corefile to load, or `stdin` [default: ./Corefile; in a cluster without one: like kubeadm]
    #[arg(long, value_name = "FILE")]
    pub conf: Option<PathBuf>,
    /// Port of server blocks that name none
    #[arg(long = "dns.port", short = 'p', alias = "port", value_name = "PORT")]
    #[arg(default_value_t = crate::corefile::PORT_DEFAULT)]
    pub port: u16,
    /// Address to listen on, may be repeated [default: all]
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Vec<IpAddr>,
    /// UDP workers per listen address [default: one per core, at most 16]
    #[arg(long, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// Folder for what the next start may use: the Snapshot, the last Corefile that was right
    /// [default: /var/lib/mainstay where that can be written to]
    #[arg(long, value_name = "FOLDER", env = "MAINSTAY_STATE")]
    pub state: Option<PathBuf>,
    /// Keep the sockets in a small parent, which starts the server anew when it dies or hangs
    #[arg(long, env = "MAINSTAY_SUPERVISED")]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    pub supervised: bool,
    /// Do not print zones and version at start
    #[arg(long)]
    pub quiet: bool,
    /// Write the process id to this file
    #[arg(long, value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// List the directives and end
    #[arg(long)]
    pub plugins: bool,
}

#[derive(Args, Debug, Clone)]
pub struct DemoArguments {
    /// Port of 127.0.0.1 to answer on, UDP and TCP
    #[arg(long, short, default_value_t = 5353)]
    pub port: u16,
}

#[derive(Args, Debug, Clone)]
pub struct CheckArguments {
    /// The Corefile, or `stdin`
    pub file: PathBuf,
}

impl Arguments {
    /// Reads the arguments of the process. Ends it with a message when they are wrong.
    pub fn read(arguments: impl Iterator<Item = OsString>) -> Self {
        Self::parse_from(arguments.map(with_two_dashes))
    }
}

/// Writes CoreDNS's one-dash options with two.
fn with_two_dashes(argument: OsString) -> OsString {
    let Some(text) = argument.to_str() else { return argument };
    let Some(rest) = text.strip_prefix('-') else { return argument };
    let name = rest.split('=').next().unwrap_or(rest);
    if ONE_DASH.contains(&name) { format!("-{text}").into() } else { argument }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn read(line: &str) -> Arguments {
        Arguments::read(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn the_arguments_of_coredns_work_unchanged() {
        let serve = read("coredns -conf /etc/coredns/Corefile -dns.port=1053 -quiet").serve;
        assert_eq!(serve.conf, Some("/etc/coredns/Corefile".into()));
        assert_eq!((serve.port, serve.quiet), (1053, true));
        assert_eq!(read("coredns -p 54 -pidfile /run/x --conf stdin").serve.port, 54);
    }

    #[test]
    fn sub_commands_have_their_own() {
        assert!(matches!(
            read("mainstay demo --port 5300").command,
            Some(Command::Demo(DemoArguments { port: 5300 }))
        ));
        assert!(matches!(read("mainstay serve -conf X").command, Some(Command::Serve(_))));
        assert!(matches!(read("mainstay check Corefile").command, Some(Command::Check(_))));
        assert!(matches!(read("mainstay load 127.0.0.1").command, Some(Command::Load(_))));
    }
}

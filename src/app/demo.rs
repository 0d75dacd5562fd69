//! `mainstay demo`: an example cluster on loopback, no Kubernetes needed.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;

use super::arguments::DemoArguments;
use super::serve::{default_workers, runtime};
use super::{Error, Options, Server};
use crate::cluster::config::Source;
use crate::corefile::{self, Corefile, Origin};
use crate::forward::resolv;
use crate::ops::{self, Page, log};

/// The example cluster.
const MANIFESTS: &[(&str, &str)] = &[("demo.yaml", include_str!("demo.yaml"))];
/// The Corefile of the demo: kubeadm's, on loopback.
const COREFILE: &str = include_str!("demo.Corefile");
/// Where other names are forwarded to.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Serves the example cluster until a signal ends it.
pub fn run(arguments: &DemoArguments) -> ExitCode {
    let counters = ops::Counters::default();
    counters.watch_panics();
    let result = log::start(&counters)
        .map_err(Error::from)
        .and_then(|flush| serve(arguments, counters).map(|()| drop(flush)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &DemoArguments, counters: ops::Counters) -> Result<(), Error> {
    runtime()?.block_on(async {
        let bind = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let options = Options { bind, workers: default_workers(), state: None, kept: None };
        let server = start(corefile(arguments.port)?, options, counters).await?;
        say(&guide(&server, arguments.port));
        let ended = tokio::signal::ctrl_c().await;
        server.drain().await;
        ended.map_err(|source| Error::Io { what: "cannot listen for signals".into(), source })
    })
}

/// The Corefile of the demo with the example cluster in it.
fn corefile(port: u16) -> Result<Corefile, Error> {
    let options = corefile::Options { port, ..corefile::Options::default() };
    let mut corefile =
        corefile::load(&Origin::Builtin(COREFILE), &options).map_err(Error::Corefile)?;
    for block in &mut corefile.blocks {
        if let Some(kubernetes) = &mut block.kubernetes {
            kubernetes.source = Source::Embedded(MANIFESTS);
        }
        // A machine without a resolver can still show cluster names.
        let is_usable = |forward: &crate::forward::Config| match resolv::places(&forward.to) {
            Ok(_) => true,
            Err(unusable) => {
                say(&format!("only cluster names are answered: {unusable}\n"));
                false
            }
        };
        block.forward.retain(is_usable);
    }
    Ok(corefile)
}

/// Starts to serve. The pages of a demo may be anywhere, so free ports are taken for them where
/// theirs are in use.
async fn start(
    mut corefile: Corefile,
    options: Options,
    counters: ops::Counters,
) -> Result<Server, Error> {
    match Server::start(corefile.clone(), options.clone(), counters.clone()).await {
        Err(Error::Ops(ops::Error::AddressInUse { .. })) => {}
        result => return result,
    }
    for block in &mut corefile.blocks {
        let pages = [
            block.health.as_mut().map(|health| &mut health.listen),
            block.ready.as_mut().map(|ready| &mut ready.listen),
            block.prometheus.as_mut(),
        ];
        pages.into_iter().flatten().for_each(|address| address.set_port(0));
    }
    Server::start(corefile, options, counters).await
}

/// Writes to standard output; a pipe that was closed is no reason to end.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// What is served, and what to try.
fn guide(server: &Server, port: u16) -> String {
    let pages: String = server
        .pages()
        .iter()
        .map(|listen| {
            let path = match listen.page {
                Page::Health => "health",
                Page::Ready => "ready",
                Page::Metrics => "metrics",
            };
            format!("  http://{}/{path}\n", listen.address)
        })
        .collect();
    let lines: String = TRY
        .iter()
        .map(|(question, meaning)| {
            format!("  dig @127.0.0.1 -p {port} +noall +answer {question:<47} # {meaning}\n")
        })
        .collect();
    let forwards = server.corefile().blocks.iter().any(|block| !block.forward.is_empty());
    let others = match forwards {
        true => format!("; all others are forwarded to {RESOLV_CONF}"),
        false => String::new(),
    };
    format!(
        "Mainstay {} answers for an example cluster on 127.0.0.1:{port}, UDP and TCP.\n\
         Names under cluster.local come from memory{others}.\n\
         \n{pages}\nTry:\n{lines}\nEnd with Ctrl-C.\n",
        super::BUILD.version,
    )
}

/// Five questions worth asking.
const TRY: [(&str, &str); 5] = [
    ("web.shop.svc.cluster.local", "a Service, by its cluster IP"),
    ("db-0.db.shop.svc.cluster.local A", "a Pod of a StatefulSet, by its hostname"),
    ("_postgres._tcp.db.shop.svc.cluster.local SRV", "ports and hosts of a headless Service"),
    ("web.shop.svc.cluster.local AAAA", "the same Service, by its IPv6 address"),
    ("-x 10.96.10.1", "which Service has this address?"),
];

//! `kubernetes`: the names of the cluster.

use std::path::PathBuf;

use super::Directive;
use crate::cluster::config::{
    Config, Fallthrough, Pods, Scope, Selector, Snapshot, Source, TTL_DEFAULT_S, TTL_MAX_S, Tls,
};
use crate::corefile::ServerBlock;
use crate::corefile::grammar::{Arguments, Form, Grammar};
use crate::corefile::key::is_reverse;
use crate::corefile::parse::Statement;
use crate::corefile::problem::{Problem, shown};
use crate::wire::Name;

pub(super) const KUBERNETES: Directive = Directive::new(
    &GRAMMAR.line,
    || GRAMMAR.rows(),
    |block, statement, findings| {
        let draft = GRAMMAR.read(Draft::default(), statement, findings);
        match draft.finish(block, statement) {
            Ok(config) => block.kubernetes = Some(config),
            Err(problem) => findings.problem(problem),
        }
    },
);

/// Largest bound on requests to an API server; more is no bound.
const API_MAX: u32 = 1_000_000;

/// The options before they are checked against each other.
#[derive(Default)]
struct Draft {
    zones: Vec<Name>,
    endpoint: Option<String>,
    tls: Option<Tls>,
    kubeconfig: Option<(PathBuf, Option<String>)>,
    manifests: Vec<PathBuf>,
    scope: Scope,
    multicluster: Vec<Name>,
    pods: Pods,
    ttl_s: Option<u32>,
    fallthrough: Fallthrough,
    ignores_empty: bool,
    snapshot: Snapshot,
}

const GRAMMAR: Grammar<Draft> = Grammar {
    line: Form {
        name: "kubernetes",
        arguments: "[ZONES…]",
        meaning: "Answers for the Services of the cluster in ZONES (default: those of the block), \
                  of which at least one is not a reverse zone. A network such as `10.96.0.0/12` \
                  stands for its reverse zones.",
        repeats: false,
        read: |draft, arguments| {
            draft.zones = arguments.zones()?;
            Ok(())
        },
    },
    options: &[
        Form {
            name: "endpoint",
            arguments: "URL",
            meaning: "The API server to watch. Default: that of the cluster we run in.",
            repeats: false,
            read: read_endpoint,
        },
        Form {
            name: "tls",
            arguments: "CERT KEY CA",
            meaning: "Files of the client certificate, its key and the authority, for `endpoint`.",
            repeats: false,
            read: |draft, arguments| {
                let (cert, key) = (arguments.path()?, arguments.path()?);
                draft.tls = Some(Tls { cert, key, ca: arguments.path()? });
                Ok(())
            },
        },
        Form {
            name: "kubeconfig",
            arguments: "FILE [CONTEXT]",
            meaning: "Watches the cluster of a kubeconfig file instead.",
            repeats: false,
            read: |draft, arguments| {
                draft.kubeconfig = Some((arguments.path()?, arguments.next().map(str::to_owned)));
                Ok(())
            },
        },
        Form {
            name: "manifests",
            arguments: "PATHS…",
            meaning: "Takes the objects from manifests, files or folders, instead of an API \
                      server. Not in CoreDNS.",
            repeats: true,
            read: |draft, arguments| {
                draft.manifests.extend(arguments.words()?.into_iter().map(PathBuf::from));
                Ok(())
            },
        },
        Form {
            name: "namespaces",
            arguments: "NAMES…",
            meaning: "Answers only for these Namespaces.",
            repeats: true,
            read: read_namespaces,
        },
        Form {
            name: "pods",
            arguments: "disabled|insecure|verified",
            meaning: "Whether names such as `10-1-2-3.shop.pod` exist: none, all, or those of Pods \
                      that run, for which Pods are watched. Default `disabled`.",
            repeats: false,
            read: read_pods,
        },
        Form {
            name: "ttl",
            arguments: "SECONDS",
            meaning: "TTL of all records, 0 to 3600. Default 5. That of denials is 5 at most.",
            repeats: false,
            read: |draft, arguments| {
                draft.ttl_s = Some(arguments.number(0..=TTL_MAX_S)?);
                Ok(())
            },
        },
        Form {
            name: "fallthrough",
            arguments: "[ZONES…]",
            meaning: "Leaves names that do not exist, in ZONES or at all, to what comes after.",
            repeats: false,
            read: |draft, arguments| {
                draft.fallthrough = Fallthrough::to(arguments.zones()?);
                Ok(())
            },
        },
        Form {
            name: "namespace_labels",
            arguments: "SELECTOR",
            meaning: "Answers only for Namespaces with such labels, such as `team in (web, shop)`.",
            repeats: false,
            read: |draft, arguments| {
                draft.scope.namespace_labels = Some(read_selector(arguments)?);
                Ok(())
            },
        },
        Form {
            name: "labels",
            arguments: "SELECTOR",
            meaning: "Answers only from Services, EndpointSlices, Pods and ServiceImports with such \
                      labels.",
            repeats: false,
            read: |draft, arguments| {
                draft.scope.labels = Some(read_selector(arguments)?);
                Ok(())
            },
        },
        Form {
            name: "endpoint_pod_names",
            arguments: "",
            meaning: "Names endpoints without a hostname by their Pod, not by their address.",
            repeats: false,
            read: |draft, _| {
                draft.scope.kept.pod_names = true;
                Ok(())
            },
        },
        Form {
            name: "noendpoints",
            arguments: "",
            meaning: "Watches no EndpointSlices: headless Services and endpoints have no names.",
            repeats: false,
            read: |draft, _| {
                draft.scope.endpoints = false;
                Ok(())
            },
        },
        Form {
            name: "ignore",
            arguments: "empty_service",
            meaning: "Gives a Service without a ready endpoint no name, so that clients go on to \
                      their next search domain.",
            repeats: false,
            read: |draft, arguments| {
                draft.ignores_empty = arguments.choice(&[("empty_service", true)])?;
                Ok(())
            },
        },
        Form {
            name: "zonal",
            arguments: "",
            meaning: "Answers `eu-1a.pin._zone.db.shop.svc` with the endpoints of `db` in that \
                      zone, and `eu-1a.prefer._zone.…` with all of them where there are none.",
            repeats: false,
            read: |draft, _| {
                draft.scope.kept.zones = true;
                Ok(())
            },
        },
        Form {
            name: "multicluster",
            arguments: "ZONES…",
            meaning: "Answers in ZONES, which are among those of the directive, for the \
                      ServiceImports of a cluster set.",
            repeats: false,
            read: read_multicluster,
        },
        Form {
            name: "snapshot",
            arguments: "FOLDER|off",
            meaning: "Where a Snapshot of the cluster is kept, which answers at the next start \
                      until the API server does. Default: the folder of `--state`. Not in CoreDNS.",
            repeats: false,
            read: |draft, arguments| {
                let path = arguments.path()?;
                let is_off = path.as_os_str() == "off";
                draft.snapshot = if is_off { Snapshot::Off } else { Snapshot::In(path) };
                Ok(())
            },
        },
        Form {
            name: "startup_timeout",
            arguments: "DURATION",
            meaning: "How long the cluster may stay unknown before the log says so. Nothing waits \
                      for it. Default 5s.",
            repeats: false,
            read: |draft, arguments| {
                draft.scope.startup_timeout = arguments.duration()?;
                Ok(())
            },
        },
        Form {
            name: "apiserver_qps",
            arguments: "NUMBER",
            meaning: "Most requests per second to the API server. Default 0, no bound.",
            repeats: false,
            read: |draft, arguments| {
                draft.scope.api.qps = read_rate(arguments)?;
                Ok(())
            },
        },
        Form {
            name: "apiserver_burst",
            arguments: "NUMBER",
            meaning: "How many requests may come at once after a pause, for `apiserver_qps`. \
                      Default 0, which is 10.",
            repeats: false,
            read: |draft, arguments| {
                draft.scope.api.burst = arguments.number(0..=API_MAX)?;
                Ok(())
            },
        },
        Form {
            name: "apiserver_max_inflight",
            arguments: "NUMBER",
            meaning: "Most requests that wait for an answer of the API server. Default 0, no bound.",
            repeats: false,
            read: |draft, arguments| {
                draft.scope.api.in_flight = arguments.number(0..=API_MAX)?;
                Ok(())
            },
        },
        Form {
            name: "upstream",
            arguments: "[ADDRESSES…]",
            meaning: "Accepted with a warning: external names are always resolved by this server.",
            repeats: true,
            read: |_, arguments| {
                arguments.without_effect("CoreDNS removed it; external names need no upstream");
                Ok(())
            },
        },
        Form {
            name: "resyncperiod",
            arguments: "[DURATION]",
            meaning: "Accepted with a warning: watches need no resync.",
            repeats: true,
            read: |_, arguments| {
                arguments.without_effect("CoreDNS removed it; watches need no resync");
                Ok(())
            },
        },
        Form {
            name: "transfer",
            arguments: "[to ADDRESSES…]",
            meaning: "Accepted with a warning: transfers have a directive of their own.",
            repeats: true,
            read: |_, arguments| {
                let why = "CoreDNS removed it; write a \"transfer\" directive beside it";
                arguments.without_effect(why);
                Ok(())
            },
        },
    ],
    not_yet: &[],
};

fn read_endpoint(draft: &mut Draft, arguments: &mut Arguments<'_>) -> Result<(), Problem> {
    let url = arguments.word()?;
    if !(url.starts_with("https://") || url.starts_with("http://")) {
        let text = format!("{} is not a URL; write it like https://192.0.2.1:6443", shown(url));
        return Err(arguments.problem(url, text));
    }
    draft.endpoint = Some(url.to_owned());
    if arguments.next().is_some() {
        while arguments.next().is_some() {}
        // As CoreDNS, which once balanced over all of them.
        arguments.warn("\"endpoint\" takes one URL; the others are not used");
    }
    Ok(())
}

fn read_namespaces(draft: &mut Draft, arguments: &mut Arguments<'_>) -> Result<(), Problem> {
    for word in arguments.words()? {
        if !is_namespace(word) {
            let text = format!("{} cannot be the name of a Namespace", shown(word));
            return Err(arguments.problem(word, text));
        }
        draft.scope.namespaces.push(word.to_owned());
    }
    Ok(())
}

/// Whether the API server would accept the name (RFC 1123 label, in lower case).
fn is_namespace(word: &str) -> bool {
    let is_inner = |octet: u8| matches!(octet, b'a'..=b'z' | b'0'..=b'9' | b'-');
    (1..=63).contains(&word.len())
        && word.bytes().all(is_inner)
        && !word.starts_with('-')
        && !word.ends_with('-')
}

fn read_pods(draft: &mut Draft, arguments: &mut Arguments<'_>) -> Result<(), Problem> {
    draft.pods = arguments.choice(&[
        ("disabled", Pods::Disabled),
        ("insecure", Pods::Insecure),
        ("verified", Pods::Verified),
    ])?;
    draft.scope.pods = draft.pods == Pods::Verified;
    Ok(())
}

/// Reads the rest of the line as one label selector, as CoreDNS does.
fn read_selector(arguments: &mut Arguments<'_>) -> Result<Selector, Problem> {
    let text = arguments.words()?.join(" ");
    Selector::parse(&text).map_err(|reason| {
        arguments.problem(&text, format!("{} is no label selector: {reason}", shown(&text)))
    })
}

fn read_multicluster(draft: &mut Draft, arguments: &mut Arguments<'_>) -> Result<(), Problem> {
    arguments.require()?;
    draft.multicluster = arguments.zones()?;
    draft.scope.imports = true;
    Ok(())
}

/// Reads a number of requests per second, which may have decimals.
fn read_rate(arguments: &mut Arguments<'_>) -> Result<f32, Problem> {
    let word = arguments.word()?;
    let is_right = |rate: &f32| rate.is_finite() && (0.0..=API_MAX as f32).contains(rate);
    word.parse().ok().filter(is_right).ok_or_else(|| {
        let text = format!("{} is not a number from 0 to {API_MAX}", shown(word));
        arguments.problem(word, text)
    })
}

impl Draft {
    /// Checks the options against each other and against the block.
    fn finish(mut self, block: &ServerBlock, statement: &Statement) -> Result<Config, Problem> {
        let problem = |text: &str| Problem::new(&statement.at, "kubernetes", text);
        if self.zones.is_empty() {
            self.zones = block.zones();
        }
        // Without zones the keys of the block are wrong, which is told already.
        let is_reverse_only = self.zones.iter().all(|zone| is_reverse(zone.as_ref()));
        if is_reverse_only && !self.zones.is_empty() {
            return Err(problem(
                "\"kubernetes\" has reverse zones only; add the cluster domain, such as \
                 cluster.local",
            ));
        }
        self.check_scope().map_err(|text| problem(&text))?;
        Ok(Config {
            zones: std::mem::take(&mut self.zones),
            multicluster: std::mem::take(&mut self.multicluster),
            scope: std::mem::take(&mut self.scope),
            pods: self.pods,
            ttl_s: self.ttl_s.unwrap_or(TTL_DEFAULT_S),
            fallthrough: std::mem::take(&mut self.fallthrough),
            ignores_empty: self.ignores_empty,
            snapshot: std::mem::take(&mut self.snapshot),
            source: self.source().map_err(problem)?,
        })
    }

    /// What cannot stand together (as CoreDNS).
    fn check_scope(&self) -> Result<(), String> {
        let scope = &self.scope;
        if !scope.namespaces.is_empty() && scope.namespace_labels.is_some() {
            return Err("\"namespaces\" and \"namespace_labels\" exclude each other".into());
        }
        if scope.kept.zones && !scope.endpoints {
            return Err("\"zonal\" needs the endpoints; remove \"noendpoints\"".into());
        }
        match self.multicluster.iter().find(|zone| !self.zones.contains(zone)) {
            Some(zone) => Err(format!(
                "\"multicluster\" names {zone}, which is no zone of the directive; add it to \
                 \"kubernetes\""
            )),
            None => Ok(()),
        }
    }

    /// The one source that is given.
    fn source(self) -> Result<Source, &'static str> {
        if self.tls.is_some() && self.endpoint.is_none() {
            return Err("\"tls\" needs an \"endpoint\" beside it");
        }
        match (self.endpoint, self.kubeconfig, self.manifests) {
            (None, None, paths) if paths.is_empty() => Ok(Source::InCluster),
            (None, None, paths) => Ok(Source::Manifests(paths)),
            (Some(url), None, paths) if paths.is_empty() => {
                Ok(Source::Endpoint { url, tls: self.tls })
            }
            (None, Some((path, context)), paths) if paths.is_empty() => {
                Ok(Source::Kubeconfig { path, context })
            }
            _ => Err("\"kubernetes\" takes one of \"endpoint\", \"kubeconfig\" and \"manifests\""),
        }
    }
}

#[cfg(test)]
mod tests;

//! `kubernetes`: the names of the cluster.

use std::path::PathBuf;

use super::Directive;
use crate::cluster::config::{Config, Fallthrough, Pods, Source, TTL_DEFAULT_S, TTL_MAX_S, Tls};
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

/// The options before they are checked against each other.
#[derive(Default)]
struct Draft {
    zones: Vec<Name>,
    endpoint: Option<String>,
    tls: Option<Tls>,
    kubeconfig: Option<(PathBuf, Option<String>)>,
    manifests: Vec<PathBuf>,
    namespaces: Vec<String>,
    pods: Pods,
    ttl_s: Option<u32>,
    fallthrough: Fallthrough,
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
            arguments: "disabled|insecure",
            meaning: "Whether names such as `10-1-2-3.shop.pod` exist. Default `disabled`.",
            repeats: false,
            read: read_pods,
        },
        Form {
            name: "ttl",
            arguments: "SECONDS",
            meaning: "TTL of all records, 0 to 3600. Default 5.",
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
                let zones = arguments.zones()?;
                draft.fallthrough =
                    if zones.is_empty() { Fallthrough::Always } else { Fallthrough::Zones(zones) };
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
    ],
    not_yet: &[
        "apiserver_burst",
        "apiserver_max_inflight",
        "apiserver_qps",
        "endpoint_pod_names",
        "ignore",
        "labels",
        "multicluster",
        "namespace_labels",
        "noendpoints",
        "startup_timeout",
        "transfer",
        "zonal",
    ],
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
        draft.namespaces.push(word.to_owned());
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
    if arguments.peek() == Some("verified") {
        let text = "\"pods verified\" is not supported yet; write \"pods insecure\"";
        return Err(arguments.problem("verified", text));
    }
    draft.pods = arguments.choice(&[("disabled", Pods::Disabled), ("insecure", Pods::Insecure)])?;
    Ok(())
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
        Ok(Config {
            zones: std::mem::take(&mut self.zones),
            namespaces: std::mem::take(&mut self.namespaces),
            pods: self.pods,
            ttl_s: self.ttl_s.unwrap_or(TTL_DEFAULT_S),
            fallthrough: std::mem::take(&mut self.fallthrough),
            source: self.source().map_err(problem)?,
        })
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
mod tests {
    use super::*;
    use crate::corefile::directives::testing::{check_problems, read};

    fn kubernetes(directive: &str) -> Config {
        let (block, warnings) = read(directive);
        assert_eq!(warnings, [""; 0], "{directive}");
        block.kubernetes.unwrap()
    }

    fn with_option(option: &str) -> Config {
        kubernetes(&format!("kubernetes cluster.local {{\n {option}\n}}"))
    }

    fn names(texts: &[&str]) -> Vec<Name> {
        texts.iter().map(|text| Name::parse(text).unwrap()).collect()
    }

    #[test]
    fn zones_are_names_and_networks() {
        let plain = kubernetes("kubernetes cluster.local in-addr.arpa ip6.arpa");
        assert_eq!(plain.zones, names(&["cluster.local", "in-addr.arpa", "ip6.arpa"]));
        assert_eq!((plain.ttl_s, plain.pods), (TTL_DEFAULT_S, Pods::Disabled));
        assert_eq!((plain.source, plain.fallthrough), (Source::InCluster, Fallthrough::Never));
        assert_eq!(kubernetes("kubernetes a 10.96.0.0/12").zones.len(), 17);
        // Without zones, those of the block count.
        assert_eq!(kubernetes("kubernetes").zones, names(&["."]));
    }

    #[test]
    fn options_are_read() {
        assert_eq!(with_option("pods insecure").pods, Pods::Insecure);
        assert_eq!(with_option("pods disabled").pods, Pods::Disabled);
        assert_eq!(with_option("ttl 0").ttl_s, 0);
        assert_eq!(with_option("ttl 3600").ttl_s, 3600);
        assert_eq!(with_option("fallthrough").fallthrough, Fallthrough::Always);
        let zones = names(&["in-addr.arpa", "ip6.arpa"]);
        let option = "fallthrough in-addr.arpa ip6.arpa";
        assert_eq!(with_option(option).fallthrough, Fallthrough::Zones(zones));
        assert_eq!(with_option("namespaces shop\n namespaces web-1").namespaces, ["shop", "web-1"]);
    }

    #[test]
    fn each_source_is_read() {
        let tls = Tls { cert: "c".into(), key: "k".into(), ca: "ca".into() };
        for (option, source) in [
            (
                "endpoint http://192.0.2.1",
                Source::Endpoint { url: "http://192.0.2.1".into(), tls: None },
            ),
            (
                "endpoint https://192.0.2.1:6443\n tls c k ca",
                Source::Endpoint { url: "https://192.0.2.1:6443".into(), tls: Some(tls) },
            ),
            ("kubeconfig f", Source::Kubeconfig { path: "f".into(), context: None }),
            ("kubeconfig f x", Source::Kubeconfig { path: "f".into(), context: Some("x".into()) }),
            ("manifests a b", Source::Manifests(vec!["a".into(), "b".into()])),
        ] {
            assert_eq!(with_option(option).source, source, "{option}");
        }
    }

    #[test]
    fn what_has_no_effect_is_a_warning() {
        for (option, warning) in [
            (
                "upstream 192.0.2.1",
                "3 - \"upstream\" has no effect: CoreDNS removed it; external names need no \
                 upstream",
            ),
            (
                "resyncperiod 5m",
                "3 - \"resyncperiod\" has no effect: CoreDNS removed it; watches need no resync",
            ),
            (
                "endpoint http://a http://b",
                "3 - \"endpoint\" takes one URL; the others are not used",
            ),
        ] {
            let (block, warnings) = read(&format!("kubernetes a {{\n {option}\n}}"));
            assert!(block.kubernetes.is_some());
            assert_eq!(warnings, [warning]);
        }
    }

    #[test]
    fn what_it_does_not_take_is_told() {
        for (option, problem) in [
            ("endpoint", "3 - \"endpoint\" lacks an argument; write \"endpoint URL\""),
            (
                "endpoint 192.0.2.1:6443",
                "3 - \"192.0.2.1:6443\" is not a URL; write it like https://192.0.2.1:6443",
            ),
            ("tls c k", "3 - \"tls\" lacks an argument; write \"tls CERT KEY CA\""),
            ("tls c k ca", "2 - \"tls\" needs an \"endpoint\" beside it"),
            (
                "kubeconfig",
                "3 - \"kubeconfig\" lacks an argument; write \"kubeconfig FILE [CONTEXT]\"",
            ),
            (
                "kubeconfig f x y",
                "3 - \"kubeconfig\" does not take \"y\"; write \"kubeconfig FILE [CONTEXT]\"",
            ),
            ("manifests", "3 - \"manifests\" lacks an argument; write \"manifests PATHS…\""),
            (
                "kubeconfig f\n manifests m",
                "2 - \"kubernetes\" takes one of \"endpoint\", \"kubeconfig\" and \"manifests\"",
            ),
            ("namespaces", "3 - \"namespaces\" lacks an argument; write \"namespaces NAMES…\""),
            ("namespaces shop Web", "3 - \"Web\" cannot be the name of a Namespace"),
            ("pods", "3 - \"pods\" lacks an argument; write \"pods disabled|insecure\""),
            (
                "pods insecur",
                "3 - \"pods\" does not take \"insecur\"; write \"pods disabled|insecure\"; did you \
                 mean \"insecure\"?",
            ),
            (
                "pods verified",
                "3 - \"pods verified\" is not supported yet; write \"pods insecure\"",
            ),
            ("ttl", "3 - \"ttl\" lacks an argument; write \"ttl SECONDS\""),
            ("ttl 3601", "3 - \"3601\" is not a number from 0 to 3600"),
            ("ttl 5s", "3 - \"5s\" is not a number from 0 to 3600"),
            ("fallthrough a..b", "3 - zone \"a..b\": empty label"),
            (
                "zonal",
                "3 - \"zonal\" is a CoreDNS option of \"kubernetes\" that Mainstay does not \
                 support yet",
            ),
            (
                "falthrough",
                "3 - unknown option \"falthrough\" of \"kubernetes\"; did you mean \
                 \"fallthrough\"?",
            ),
        ] {
            let directive = format!("kubernetes a {{\n {option}\n}}");
            check_problems(&[(&directive, problem)]);
        }
        check_problems(&[
            (
                "kubernetes 10.96.0.0/12",
                "2 - \"kubernetes\" has reverse zones only; add the cluster domain, such as \
                 cluster.local",
            ),
            (
                "kubernetes cluster.local:53",
                "2 - zone \"cluster.local:53\" holds a \":\"; neither scheme nor port stand here",
            ),
        ]);
    }
}

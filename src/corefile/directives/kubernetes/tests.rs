//! Options, their bounds, and what is told of wrong ones.

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
    assert_eq!(
        with_option("namespaces shop\n namespaces web-1").scope.namespaces,
        ["shop", "web-1"]
    );
}

#[test]
fn the_place_of_the_snapshot_is_read() {
    let folder = |option: &str| {
        let snapshot = with_option(option).snapshot;
        snapshot.folder(Some("state".as_ref())).map(|folder| folder.display().to_string())
    };
    assert_eq!(folder("ttl 5").as_deref(), Some("state"));
    assert_eq!(folder("snapshot /keep").as_deref(), Some("/keep"));
    assert_eq!(folder("snapshot off"), None);
}

#[test]
fn what_is_watched_is_read() {
    let scope = |option: &str| with_option(option).scope;
    assert_eq!(scope("ttl 5"), Scope::default());
    assert!(scope("pods verified").pods && !scope("pods insecure").pods);
    assert!(!scope("noendpoints").endpoints);
    assert!(scope("zonal").kept.zones && scope("endpoint_pod_names").kept.pod_names);
    assert!(with_option("ignore empty_service").ignores_empty);
    let labels = scope("labels app=web\n namespace_labels a in (b,c)");
    assert_eq!(labels.labels.unwrap().to_string(), "app=web");
    assert_eq!(labels.namespace_labels.unwrap().to_string(), "a in (b,c)");
    assert_eq!(scope("startup_timeout 1m").startup_timeout.as_secs(), 60);
    let api = scope("apiserver_qps 2.5\n apiserver_burst 7\n apiserver_max_inflight 3").api;
    assert_eq!((api.qps, api.burst, api.in_flight), (2.5, 7, 3));
    let clusterset = kubernetes("kubernetes a b {\n multicluster b\n}");
    assert_eq!(clusterset.multicluster, names(&["b"]));
    assert!(clusterset.scope.imports);
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
            "transfer to *",
            "3 - \"transfer\" has no effect: CoreDNS removed it; write a \"transfer\" directive \
             beside it",
        ),
        ("endpoint http://a http://b", "3 - \"endpoint\" takes one URL; the others are not used"),
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
        ("kubeconfig", "3 - \"kubeconfig\" lacks an argument; write \"kubeconfig FILE [CONTEXT]\""),
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
        ("pods", "3 - \"pods\" lacks an argument; write \"pods disabled|insecure|verified\""),
        (
            "pods insecur",
            "3 - \"pods\" does not take \"insecur\"; write \"pods disabled|insecure|verified\"; did you \
             mean \"insecure\"?",
        ),
        ("ttl", "3 - \"ttl\" lacks an argument; write \"ttl SECONDS\""),
        ("ttl 3601", "3 - \"3601\" is not a number from 0 to 3600"),
        ("ttl 5s", "3 - \"5s\" is not a number from 0 to 3600"),
        ("fallthrough a..b", "3 - zone \"a..b\": empty label"),
        ("zonal x", "3 - \"zonal\" does not take \"x\"; write \"zonal\""),
        ("zonal\n noendpoints", "2 - \"zonal\" needs the endpoints; remove \"noendpoints\""),
        (
            "namespaces a\n namespace_labels b=c",
            "2 - \"namespaces\" and \"namespace_labels\" exclude each other",
        ),
        (
            "multicluster b",
            "2 - \"multicluster\" names b., which is no zone of the directive; add it to \
             \"kubernetes\"",
        ),
        ("multicluster", "3 - \"multicluster\" lacks an argument; write \"multicluster ZONES…\""),
        ("ignore empty", "3 - \"ignore\" does not take \"empty\"; write \"ignore empty_service\""),
        ("apiserver_qps -1", "3 - \"-1\" is not a number from 0 to 1000000"),
        ("apiserver_burst 1.5", "3 - \"1.5\" is not a number from 0 to 1000000"),
        ("startup_timeout 5", "3 - \"5\" is not a duration; write it like 5s or 1m30s"),
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

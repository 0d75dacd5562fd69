//! What of a slice is kept on request, and what is odd in one without costing the rest.

use super::*;
use crate::cluster::object::Import;

#[test]
fn a_zone_and_the_name_of_a_pod_are_kept_on_request() {
    let endpoints = json!([
        {"addresses": ["10.1.0.1"], "zone": "EU-1a", "targetRef": {"kind": "Pod", "name": "web-0"}},
        {"addresses": ["10.1.0.2"], "hostname": "b", "targetRef": {"name": "web-1"}, "zone": null},
        {"addresses": ["10.1.0.3"], "targetRef": {"name": "web.2"}},
        {"addresses": ["10.1.0.4"], "targetRef": {"name": "w".repeat(64)}},
    ]);
    let json = with(SLICE, "/endpoints", endpoints);
    let read = |kept| match read(Kind::Slice, kept, &json).unwrap().found {
        Found::Object(Object::Slice(slice)) => slice,
        other => panic!("{other:?}"),
    };
    let kept = read(Kept { zones: true, pod_names: true, externals: false });
    let told: Vec<_> = kept.parts[0].endpoints.iter().map(|it| (it.hostname, it.zone)).collect();
    let none = (None, None);
    assert_eq!(told, [(Some("web-0"), Some("eu-1a")), (Some("b"), None), none, none]);
    let slim = read(Kept::default());
    let told: Vec<_> = slim.parts[0].endpoints.iter().map(|it| (it.hostname, it.zone)).collect();
    assert_eq!(told, [none, (Some("b"), None), none, none]);
}

#[test]
fn a_slice_may_belong_to_a_service_and_to_an_import() {
    let with_label = |name: &str, value: &str, json: &str| {
        with(json, &format!("/metadata/labels/multicluster.kubernetes.io~1{name}"), json!(value))
    };
    let json = with_label("source-cluster", "c1", &with_label("service-name", "db", SLICE));
    let import = Import { service: "db".into(), cluster: "c1".into() };
    let both = slice(&json).0;
    assert_eq!((both.service.as_deref(), both.import.as_ref()), (Some("web"), Some(&import)));
    let json = with(&json, "/metadata/labels/kubernetes.io~1service-name", Value::Null);
    let one = slice(&json).0;
    assert_eq!((one.service, one.import), (None, Some(import)));
}

#[test]
fn a_label_of_the_cluster_set_that_is_no_name_costs_no_local_service() {
    let with_labels = |names: [&str; 3]| {
        let [service, name, cluster] = names;
        let labels = json!({
            "kubernetes.io/service-name": service,
            "multicluster.kubernetes.io/service-name": name,
            "multicluster.kubernetes.io/source-cluster": cluster,
        });
        let reading =
            read(Kind::Slice, Kept::default(), &with(SLICE, "/metadata/labels", labels)).unwrap();
        let odd = reading.odd.unwrap_or_default();
        match reading.found {
            Found::Object(Object::Slice(slice)) => {
                let import = slice.import.map(|it| (it.service.into(), it.cluster.into()));
                (slice.service.map(String::from), import, odd)
            }
            _ => (None, None, odd),
        }
    };
    let import = |cluster: &str| Some((String::from("db"), String::from(cluster)));
    let web = || Some(String::from("web"));
    assert_eq!(with_labels(["web", "db", "EAST"]), (web(), import("east"), String::new()));
    for (names, service, import, told) in [
        (["web", "db", "prod.eu"], web(), import(""), "prod.eu"),
        (["web", "D.B", "east"], web(), None, "D.B"),
        (["Web", "db", "east"], None, import("east"), "Web"),
        (["Web", "D.B", "east"], None, None, "Web"),
    ] {
        let (found, imported, odd) = with_labels(names);
        assert_eq!((found, imported), (service, import), "{names:?}");
        assert!(odd.contains(told), "{odd}");
    }
}

#[test]
fn a_port_of_a_slice_that_makes_no_sense_costs_only_itself() {
    for port in [
        json!({"name": "a", "port": 0}),
        json!({"name": "a", "port": -1}),
        json!({"name": "a", "port": 70_000}),
        json!({"name": "A", "port": 1}),
        json!({"name": "a", "port": 1, "protocol": "ICMP"}),
    ] {
        let ports = json!([port, {"name": "b", "port": 65_535}]);
        let odd = read(Kind::Slice, Kept::default(), &with(SLICE, "/ports", ports.clone()));
        let odd = odd.unwrap().odd.expect("it is told");
        assert!(!odd.is_empty() && odd.len() <= REASON_MAX, "{odd}");
        let (slice, _) = slice(&with(SLICE, "/ports", ports));
        let b = Port { name: "b".into(), protocol: Protocol::Tcp, number: 65_535 };
        assert_eq!((&*slice.parts[0].ports, slice.parts[0].endpoints.len()), (&[b][..], 4));
        let core = json!({"metadata": {"name": "a", "namespace": "b"},
            "subsets": [{"addresses": [{"ip": "10.1.0.1"}], "ports": [port]}]});
        assert!(read_endpoints(Kept::default(), &core.to_string()).unwrap().odd.is_some());
    }
    assert_eq!(read(Kind::Slice, Kept::default(), SLICE).unwrap().odd, None);
}

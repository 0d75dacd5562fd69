//! Objects as the API server writes them, and as only a fuzzer does.

mod slices;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NAMESPACE: &str =
    r#"{"metadata":{"name":"shop","resourceVersion":"3"},"spec":{},"status":{}}"#;
const SERVICE: &str = r#"{"metadata":{"name":"web","namespace":"shop","resourceVersion":"7"},
    "spec":{"type":"ClusterIP","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1","fd00::1"],
    "ports":[{"name":"http","protocol":"TCP","port":80,"targetPort":"x"},
             {"name":"dns","protocol":"UDP","port":53},{"port":443,"name":null}]}}"#;
const SLICE: &str = r#"{"metadata":{"name":"web-x7.a","namespace":"shop","resourceVersion":"9",
    "labels":{"app":"web","kubernetes.io/service-name":"web"},
    "annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"2026-01-02T03:04:05Z"}},
    "addressType":"IPv4",
    "endpoints":[{"addresses":["10.1.0.1"],"conditions":{"ready":true},"hostname":"web-0"},
                 {"addresses":["10.1.0.2"],"conditions":{"ready":null}},
                 {"addresses":["10.1.0.3"],"conditions":{"ready":false,"serving":true}},
                 {"addresses":["10.1.0.4"]}],
    "ports":[{"name":"","protocol":"SCTP","port":9,"appProtocol":"x"},{"name":"any","port":null}]}"#;

fn service(json: &str) -> Service {
    match read(Kind::Service, Kept::default(), json).unwrap().found {
        Found::Object(Object::Service(service)) => service,
        other => panic!("{other:?}"),
    }
}

fn slice(json: &str) -> (Slice, u32) {
    let reading = read(Kind::Slice, Kept::default(), json).unwrap();
    match reading.found {
        Found::Object(Object::Slice(slice)) => (slice, reading.dropped),
        other => panic!("{other:?}"),
    }
}

/// `json` with the value at the JSON pointer `at` replaced, or added.
fn with(json: &str, at: &str, value: Value) -> String {
    let mut document: Value = serde_json::from_str(json).unwrap();
    let (parent, key) = at.rsplit_once('/').unwrap();
    let key = key.replace("~1", "/");
    match document.pointer_mut(parent).unwrap() {
        Value::Object(fields) => drop(fields.insert(key, value)),
        Value::Array(items) => items[key.parse::<usize>().unwrap()] = value,
        other => panic!("{other}"),
    }
    document.to_string()
}

/// `SERVICE` with another `spec`.
fn spec(spec: Value) -> Service {
    service(&with(SERVICE, "/spec", spec))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_namespace_is_its_name() {
    let reading = read(Kind::Namespace, Kept::default(), NAMESPACE).unwrap();
    assert_eq!(reading.found, Found::Object(Object::Namespace("shop".into())));
    assert_eq!(&*reading.version, "3");
}

#[test]
fn a_service_has_its_addresses_and_ports() {
    let service = service(SERVICE);
    assert_eq!(service.role, Role::ClusterIp(vec![ip("10.0.0.1"), ip("fd00::1")]));
    let port = |name: &str, protocol, number| Port { name: name.into(), protocol, number };
    assert_eq!(
        service.ports,
        [
            port("http", Protocol::Tcp, 80),
            port("dns", Protocol::Udp, 53),
            port("", Protocol::Tcp, 443)
        ]
    );
}

#[test]
fn the_role_of_a_service_follows_its_type_and_addresses() {
    let one = |text: &str| Role::ClusterIp(vec![ip(text)]);
    let named = |text: &str| Role::ExternalName(text.into());
    let cases = [
        (json!({}), Role::ClusterIp(vec![])),
        (json!({"clusterIP": ""}), Role::ClusterIp(vec![])),
        (json!({"clusterIP": "", "clusterIPs": [""]}), Role::ClusterIp(vec![])),
        (json!({"clusterIP": null, "clusterIPs": null}), Role::ClusterIp(vec![])),
        (json!({"clusterIP": "10.0.0.9"}), one("10.0.0.9")),
        (json!({"clusterIP": "10.0.0.9", "clusterIPs": []}), one("10.0.0.9")),
        (json!({"clusterIPs": ["10.0.0.9", "10.0.0.9"]}), one("10.0.0.9")),
        (json!({"type": "LoadBalancer", "clusterIP": "10.0.0.9"}), one("10.0.0.9")),
        (json!({"type": "TypeOfTheFuture", "clusterIP": "10.0.0.9"}), one("10.0.0.9")),
        (json!({"clusterIP": "None"}), Role::Headless),
        (json!({"clusterIP": "None", "clusterIPs": ["None"]}), Role::Headless),
        (json!({"type": "ExternalName", "externalName": "Db.example."}), named("Db.example.")),
        (json!({"type": "ExternalName", "externalName": "a", "clusterIP": "None"}), named("a")),
    ];
    for (value, role) in cases {
        assert_eq!(spec(value.clone()).role, role, "{value}");
    }
}

#[test]
fn a_slice_has_its_endpoints_ports_and_trigger_time() {
    let (slice, dropped) = slice(SLICE);
    assert_eq!((slice.service.as_deref(), &*slice.key.name, dropped), (Some("web"), "web-x7.a", 0));
    let ready: Vec<_> = slice.parts[0].endpoints.iter().map(|endpoint| endpoint.ready).collect();
    assert_eq!(ready, [true, true, false, true]);
    assert_eq!(slice.parts[0].endpoints.iter().next().unwrap().hostname, Some("web-0"));
    assert_eq!(
        *slice.parts[0].ports,
        [Port { name: "".into(), protocol: Protocol::Sctp, number: 9 }]
    );
    assert_eq!(slice.triggered_ms, Some(1_767_323_045_000));
}

#[test]
fn a_trigger_time_that_is_none_is_left_out() {
    let at = "/metadata/annotations/endpoints.kubernetes.io~1last-change-trigger-time";
    for (text, expected) in [
        ("", None),
        ("yesterday", None),
        ("1969-12-31T23:59:59Z", None),
        ("2026-13-01T00:00:00Z", None),
        ("1970-01-01T01:00:00.250+01:00", Some(250)),
    ] {
        assert_eq!(slice(&with(SLICE, at, json!(text))).0.triggered_ms, expected, "{text}");
    }
}

#[test]
fn texts_that_the_api_server_does_not_check_may_have_escapes() {
    let annotations = r#"{"endpoints.kubernetes.io/last-change-trigger-time":"\u003cnow\u003e"}"#;
    let endpoint = r#"{"addresses":["10.1.0.1"],"zone":"Rack\u00261","targetRef":{"name":"a\"b"}}"#;
    let json = format!(
        r#"{{"metadata":{{"name":"a","namespace":"b","annotations":{annotations},
            "labels":{{"kubernetes.io/service-name":"web"}}}},
            "addressType":"IPv4","endpoints":[{endpoint}]}}"#
    );
    let kept = Kept { zones: true, pod_names: true, externals: false };
    let Found::Object(Object::Slice(slice)) = read(Kind::Slice, kept, &json).unwrap().found else {
        panic!("no slice");
    };
    let first = slice.parts[0].endpoints.iter().next().unwrap();
    assert_eq!((first.zone, first.hostname, slice.triggered_ms), (Some("rack&1"), None, None));
    let core = r#"{"metadata":{"name":"a","namespace":"b"},
        "subsets":[{"addresses":[{"ip":"10.1.0.1","targetRef":{"name":"a\u0026b"}}]}]}"#;
    assert!(read_endpoints(kept, core).is_ok());
}

#[test]
fn addresses_that_no_client_must_be_sent_to_are_dropped() {
    let v4 = ["127.0.0.1", "0.0.0.0", "224.0.0.1", "169.254.1.1", "fd00::1", "", "10.1.0.999", "x"];
    let v6 = ["::1", "::", "ff02::1", "fe80::1", "fe80::1%eth0", "10.1.0.1", "::ffff:127.0.0.1"];
    for (address_type, bad, good) in [("IPv4", &v4[..], "10.1.0.1"), ("IPv6", &v6[..], "fd00::7")] {
        for bad in bad {
            let json = with(SLICE, "/addressType", json!(address_type));
            let endpoints = json!([{"addresses": [bad, good, good]}, {"addresses": [bad]}]);
            let (slice, dropped) = slice(&with(&json, "/endpoints", endpoints));
            assert_eq!(dropped, 2, "{bad}");
            assert_eq!(slice.parts[0].endpoints.len(), 1, "{bad}");
            let first = slice.parts[0].endpoints.iter().next().unwrap();
            assert_eq!(first.addresses().collect::<Vec<_>>(), [ip(good)], "{bad}");
        }
    }
}

#[test]
fn null_is_an_empty_list() {
    for at in ["/endpoints", "/ports", "/endpoints/0/addresses", "/endpoints/0/conditions"] {
        slice(&with(SLICE, at, Value::Null));
    }
    assert_eq!(service(&with(SERVICE, "/spec/ports", Value::Null)).ports, []);
}

#[test]
fn slices_that_no_name_depends_on_are_foreign() {
    let key = ObjectKey { namespace: "shop".into(), name: "web-x7.a".into() };
    for json in [
        with(SLICE, "/addressType", json!("FQDN")),
        with(SLICE, "/metadata/labels", Value::Null),
        with(SLICE, "/metadata/labels", json!({"app": "web"})),
        with(SLICE, "/metadata/labels/kubernetes.io~1service-name", json!("")),
    ] {
        assert_eq!(
            read(Kind::Slice, Kept::default(), &json).unwrap().found,
            Found::Foreign(key.clone()),
            "{json}"
        );
    }
}

const POD: &str = r#"{"metadata":{"name":"web-0.a","namespace":"shop","resourceVersion":"4"},
    "spec":{"hostNetwork":true},"status":{"phase":"Running","podIP":"10.1.0.1",
    "podIPs":[{"ip":"10.1.0.1"},{"ip":"fd00::1"},{}]}}"#;
const IMPORT: &str = r#"{"metadata":{"name":"db","namespace":"shop","resourceVersion":"5"},
    "spec":{"type":"ClusterSetIP","ips":["10.2.0.1"],"ports":[{"name":"sql","port":5432}]}}"#;

#[test]
fn a_pod_has_the_addresses_of_both_families_while_it_runs() {
    let found = |json: &str| read(Kind::Pod, Kept::default(), json).unwrap().found;
    let Found::Object(Object::Pod(pod)) = found(POD) else { panic!("{:?}", found(POD)) };
    assert_eq!(
        (&*pod.key.name, &*pod.addresses),
        ("web-0.a", &[ip("10.1.0.1"), ip("fd00::1")][..])
    );
    let old = with(POD, "/status", json!({"phase": "Running", "podIP": "10.1.0.9"}));
    assert!(
        matches!(found(&old), Found::Object(Object::Pod(pod)) if *pod.addresses == [ip("10.1.0.9")])
    );
    let long = with(POD, "/metadata/name", json!("w".repeat(253)));
    assert!(matches!(found(&long), Found::Object(Object::Pod(_))), "labels of any length");
    let ending = with(POD, "/metadata/deletionTimestamp", json!("2026-01-02T03:04:05Z"));
    assert_eq!(found(&ending), Found::Object(Object::Pod(pod.clone())));
    for json in [
        with(POD, "/status", Value::Null),
        with(POD, "/status/phase", json!("Succeeded")),
        with(POD, "/status/phase", json!("Failed")),
    ] {
        assert_eq!(found(&json), Found::Foreign(pod.key.clone()), "{json}");
    }
    assert!(read(Kind::Pod, Kept::default(), &with(POD, "/status/podIP", json!("x"))).is_err());
}

#[test]
fn an_import_has_addresses_or_endpoints() {
    let role = |json: &str| match read(Kind::Import, Kept::default(), json).unwrap().found {
        Found::Object(Object::Import(import)) => import.role,
        other => panic!("{other:?}"),
    };
    assert_eq!(role(IMPORT), Role::ClusterIp(vec![ip("10.2.0.1")]));
    assert_eq!(role(&with(IMPORT, "/spec/ips", Value::Null)), Role::ClusterIp(vec![]));
    assert_eq!(role(&with(IMPORT, "/spec/type", json!("Headless"))), Role::Headless);
    assert!(read(Kind::Import, Kept::default(), &with(IMPORT, "/spec", Value::Null)).is_err());
}

#[test]
fn what_we_do_not_read_may_be_anything() {
    for at in ["/metadata/managedFields", "/metadata/uid", "/status"] {
        assert_eq!(service(&with(SERVICE, at, json!([{"x": "\u{1f600}\n\""}]))), service(SERVICE));
    }
    for at in ["/endpoints/0/targetRef", "/endpoints/0/nodeName", "/metadata/labels/app"] {
        assert_eq!(slice(&with(SLICE, at, json!({"a": [1.5, null]}))), slice(SLICE));
    }
}

#[test]
fn objects_that_make_no_sense_are_flaws() {
    let long = "a".repeat(64);
    let services = [
        ("/metadata/name", json!("Web")),
        ("/metadata/name", json!("web.api")),
        ("/metadata/name", json!("-web")),
        ("/metadata/name", json!("web-")),
        ("/metadata/name", json!("w_b")),
        ("/metadata/name", json!("wéb")),
        ("/metadata/name", json!("w\"b")),
        ("/metadata/name", json!("w\u{0}b")),
        ("/metadata/name", json!("")),
        ("/metadata/name", json!(long)),
        ("/metadata/name", json!(7)),
        ("/metadata/name", json!(["web"])),
        ("/metadata/name", Value::Null),
        ("/metadata/namespace", json!("Shop")),
        ("/metadata/namespace", json!("")),
        ("/metadata/namespace", json!("..")),
        ("/metadata/namespace", json!(long)),
        ("/metadata/namespace", json!(true)),
        ("/metadata/namespace", Value::Null),
        ("/metadata/resourceVersion", json!(5)),
        ("/metadata/labels", json!("x")),
        ("/metadata/annotations", json!([1])),
        ("/metadata", Value::Null),
        ("/spec", Value::Null),
        ("/spec", json!("x")),
        ("/spec/type", json!(1)),
        ("/spec/clusterIPs", json!("10.0.0.1")),
        ("/spec/clusterIPs", json!([10])),
        ("/spec/clusterIPs", json!(["10.0.0.256"])),
        ("/spec/clusterIPs", json!(["010.0.0.1"])),
        ("/spec/clusterIPs", json!(["none"])),
        ("/spec/ports", json!({})),
        ("/spec/ports/0", Value::Null),
        ("/spec/ports/0/port", json!(0)),
        ("/spec/ports/0/port", json!(65_536)),
        ("/spec/ports/0/port", json!(-1)),
        ("/spec/ports/0/port", json!(80.5)),
        ("/spec/ports/0/port", json!("80")),
        ("/spec/ports/0/port", Value::Null),
        ("/spec/ports/0/protocol", json!("tcp")),
        ("/spec/ports/0/protocol", json!("ICMP")),
        ("/spec/ports/0/name", json!("HTTP")),
        ("/spec/ports/0/name", json!(long)),
        ("/spec/ports/0/name", json!(80)),
        ("/spec", json!({"type": "ExternalName"})),
        ("/spec", json!({"type": "ExternalName", "externalName": ""})),
        ("/spec", json!({"type": "ExternalName", "externalName": "."})),
        ("/spec", json!({"type": "ExternalName", "externalName": "a..b"})),
        ("/spec", json!({"type": "ExternalName", "externalName": long})),
        ("/spec", json!({"type": "ExternalName", "externalName": "a.".repeat(128)})),
    ];
    for (at, value) in services {
        let flaw = read(Kind::Service, Kept::default(), &with(SERVICE, at, value.clone()));
        assert!(flaw.is_err(), "{at} {value}");
    }
    let slices = [
        ("/metadata/name", json!("web..a")),
        ("/metadata/name", json!("a.".repeat(127) + "b")),
        ("/metadata/labels/kubernetes.io~1service-name", json!(1)),
        ("/addressType", Value::Null),
        ("/addressType", json!("ipv4")),
        ("/addressType", json!(4)),
        ("/endpoints", json!({})),
        ("/endpoints/0", json!(1)),
        ("/endpoints/0/addresses", json!("10.1.0.1")),
        ("/endpoints/0/addresses", json!([1])),
        ("/endpoints/0/addresses", json!([null])),
        ("/endpoints/0/conditions", json!(true)),
        ("/endpoints/0/conditions/ready", json!("true")),
        ("/endpoints/0/hostname", json!("Web-0")),
        ("/endpoints/0/hostname", json!("a.b")),
        ("/endpoints/0/hostname", json!(long)),
        ("/ports", json!(80)),
        ("/ports/0/port", json!(80.5)),
    ];
    for (at, value) in slices {
        assert!(
            read(Kind::Slice, Kept::default(), &with(SLICE, at, value.clone())).is_err(),
            "{at} {value}"
        );
    }
    for name in [json!("Shop"), json!("a.b"), json!(long), json!(1), Value::Null] {
        let json = with(NAMESPACE, "/metadata/name", name.clone());
        assert!(read(Kind::Namespace, Kept::default(), &json).is_err(), "{name}");
    }
    for text in ["", "null", "[]", "{}", "7", "\"x\"", "{\"metadata\":", "\u{0}"] {
        for kind in Kind::ALL {
            assert!(read(kind, Kept::default(), text).is_err(), "{kind:?} {text}");
        }
    }
}

#[test]
fn a_flaw_names_its_object_and_a_short_reason() {
    let json = with(SERVICE, "/spec/ports/0/port", json!(70_000));
    let flaw = read(Kind::Service, Kept::default(), &json).unwrap_err();
    let key = ObjectKey { namespace: "shop".into(), name: "web".into() };
    assert_eq!((flaw.key, flaw.version.as_deref()), (Some(key), Some("7")));
    assert!(flaw.reason.contains("70000"), "{}", flaw.reason);
    let json = with(SERVICE, "/spec/clusterIPs", json!(["x".repeat(5000)]));
    assert_eq!(read(Kind::Service, Kept::default(), &json).unwrap_err().reason.len(), REASON_MAX);
}

#[test]
fn the_identity_is_read_from_objects_of_any_shape() {
    let json = r#"{"metadata":{"name":"Odd","namespace":"shop","labels":7},"spec":[]}"#;
    let head = read_head(json).unwrap();
    assert_eq!((&*head.key.name, &*head.key.namespace, &*head.version), ("Odd", "shop", ""));
    assert_eq!(read_head(r#"{"metadata":{"name":""}}"#), None);
}

#[test]
fn a_bookmark_tells_its_version_and_whether_the_list_ends() {
    let read = |annotations: &str| {
        read_bookmark(&format!(
            r#"{{"metadata":{{"resourceVersion":"9","annotations":{annotations}}}}}"#
        ))
    };
    assert!(read(r#"{"k8s.io/initial-events-end":"true"}"#).unwrap().ends_list);
    assert!(!read("null").unwrap().ends_list);
    assert!(!read(r#"{"k8s.io/initial-events-end":"false"}"#).unwrap().ends_list);
    assert_eq!(read_bookmark(r#"{"metadata":{"resourceVersion":""}}"#), None);
}

/// Any JSON value, not deep.
fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,80}".prop_map(Value::from),
        Just(json!("None")),
        Just(json!("ExternalName")),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("name|port|ready|x", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// All places of a value, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (key.replace('/', "~1"), value)).collect()
        }
        Value::Array(items) => {
            items.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect()
        }
        _ => Vec::new(),
    };
    for (key, child) in children {
        let at = format!("{at}/{key}");
        places(child, &at, found);
        found.push(at);
    }
}

proptest! {
    #[test]
    fn no_change_of_a_value_panics(which: prop::sample::Index, value in any_value()) {
        for json in [NAMESPACE, SERVICE, SLICE, POD, IMPORT] {
            let mut found = Vec::new();
            places(&serde_json::from_str(json).unwrap(), "", &mut found);
            let changed = with(json, which.get::<String>(&found), value.clone());
            for kind in Kind::ALL {
                let _ = read(kind, Kept::default(), &changed);
            }
            let _ = (read_head(&changed), read_bookmark(&changed));
        }
    }

    #[test]
    fn no_change_of_an_octet_panics(at: prop::sample::Index, octet: u8) {
        for json in [NAMESPACE, SERVICE, SLICE, POD, IMPORT] {
            let mut octets = json.as_bytes().to_vec();
            let at = at.index(octets.len());
            octets[at] = octet;
            if let Ok(text) = std::str::from_utf8(&octets) {
                let _ = Kind::ALL.map(|kind| read(kind, Kept::default(), text));
            }
            let _ = read(Kind::Slice, Kept::default(), &String::from_utf8_lossy(&octets[..at]));
        }
    }
}

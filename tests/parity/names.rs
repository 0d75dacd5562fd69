//! Every name that an object could have, and the ones beside it that it must not have.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use crate::fixture::OUTSIDE;
use crate::objects::{CLUSTER_LABEL, items, kind_of, name_of, service_of};

/// The zones of the cluster's names.
pub const ZONES: [&str; 2] = ["cluster.local", "clusterset.local"];

/// Names as they are written in a zone file, without the last dot. Those of ZONES are there without
/// their zone; whole names, such as reverse ones, apart.
#[derive(Default)]
pub struct Names {
    pub inside: BTreeSet<String>,
    pub whole: BTreeSet<String>,
}

impl Names {
    /// The names of all objects, and those of every cluster.
    pub fn of<'o>(objects: impl IntoIterator<Item = &'o Value>) -> Self {
        let mut names = Self::default();
        objects.into_iter().for_each(|object| names.add(object));
        names
    }

    /// The names that are there, or are not, whatever the objects.
    pub fn fixed() -> Self {
        let mut names = Self::default();
        names.inside.extend(FIXED.iter().map(|name| (*name).to_owned()));
        names.whole.extend(WHOLE.iter().map(|name| (*name).to_owned()));
        names.whole.extend(OUTSIDE.iter().map(|name| (*name).to_owned()));
        names
    }

    /// Takes in those of others.
    pub fn extend(&mut self, others: Self) {
        self.inside.extend(others.inside);
        self.whole.extend(others.whole);
    }

    /// Adds the names of one object.
    pub fn add(&mut self, object: &Value) {
        let (namespace, name) = name_of(object);
        match kind_of(object) {
            "Namespace" => self.namespace(name),
            "Service" => self.service(object, namespace, name),
            "ServiceImport" => self.service(object, namespace, name),
            "EndpointSlice" => self.slice(object, namespace),
            "Pod" => self.pod(object, namespace, name),
            other => panic!("no names for {other}"),
        }
    }

    fn inside(&mut self, name: String) {
        self.inside.insert(name);
    }

    fn namespace(&mut self, name: &str) {
        for end in ["svc", "pod", "dns"] {
            self.inside(format!("{name}.{end}"));
        }
        for below in ["none", "*", "10-0-0-1", "fd00--1"] {
            self.inside(format!("{below}.{name}.svc"));
            self.inside(format!("{below}.{name}.pod"));
        }
    }

    fn service(&mut self, object: &Value, namespace: &str, name: &str) {
        let service = format!("{name}.{namespace}.svc");
        self.inside(service.clone());
        self.inside(format!("{name}.nowhere.svc"));
        self.inside(format!("{name}.{namespace}.pod"));
        for below in ["none", "_tcp", "_", "a.b.c", "eu-west-1a.pin._zone", "x.prefer._zone"] {
            self.inside(format!("{below}.{service}"));
        }
        self.ports(&object["spec"]["ports"], &service);
        for field in ["clusterIPs", "ips"] {
            items(&object["spec"][field]).for_each(|ip| self.address(ip));
        }
    }

    fn ports(&mut self, ports: &Value, service: &str) {
        for below in ["_none._tcp", "_._tcp", "_._", "_http._none", "_zone._pin"] {
            self.inside(format!("{below}.{service}"));
        }
        for port in items(ports) {
            let name = port["name"].as_str().unwrap_or_default();
            let protocol = port["protocol"].as_str().unwrap_or("TCP").to_lowercase();
            let other = if protocol == "tcp" { "udp" } else { "tcp" };
            self.inside(format!("_{name}._{protocol}.{service}"));
            self.inside(format!("_{name}._{other}.{service}"));
            self.inside(format!("_{name}._.{service}"));
            if !name.is_empty() {
                self.inside(format!("{name}.{protocol}.{service}"));
                self.inside(format!("__{name}._{protocol}.{service}"));
                self.inside(format!("x._{name}._{protocol}.{service}"));
            }
        }
    }

    fn slice(&mut self, object: &Value, namespace: &str) {
        let Some(service) = service_of(object) else { return self.endpoints(object, None) };
        let service = format!("{service}.{namespace}.svc");
        self.inside(service.clone());
        self.ports(&object["ports"], &service);
        self.endpoints(object, Some(&service));
    }

    fn endpoints(&mut self, object: &Value, service: Option<&str>) {
        let cluster = object["metadata"]["labels"][CLUSTER_LABEL].as_str();
        for endpoint in items(&object["endpoints"]) {
            items(&endpoint["addresses"]).for_each(|address| self.address(address));
            let Some(service) = service else { continue };
            let dashed = items(&endpoint["addresses"]).filter_map(Value::as_str).map(dashed);
            let labels = [&endpoint["hostname"], &endpoint["targetRef"]["name"]];
            let labels: BTreeSet<String> =
                labels.into_iter().filter_map(Value::as_str).map(str::to_owned).collect();
            for label in dashed.chain(labels).filter(|label| label.len() < 64) {
                self.inside(format!("{label}.{service}"));
                self.inside(format!("{label}.{}.{service}", cluster.unwrap_or("east")));
                self.inside(format!("_{label}.north.{service}"));
                self.inside(format!("x.{label}.{service}"));
            }
            if let Some(zone) = endpoint["zone"].as_str() {
                self.zonal(zone, service);
            }
        }
    }

    fn zonal(&mut self, zone: &str, service: &str) {
        for directive in ["pin", "prefer", "none"] {
            self.inside(format!("{zone}.{directive}._zone.{service}"));
            self.inside(format!("far.{directive}._zone.{service}"));
        }
        self.inside(format!("{zone}.pin.zone.{service}"));
        self.inside(format!("pin._zone.{service}"));
        self.inside(format!("_zone.{service}"));
        self.inside(format!("_http._tcp.{zone}.pin._zone.{service}"));
        self.inside(format!("{zone}.pin._zone.{}", service.replace(".svc", ".pod")));
    }

    fn pod(&mut self, object: &Value, namespace: &str, name: &str) {
        self.inside(format!("{name}.{namespace}.pod"));
        for ip in items(&object["status"]["podIPs"]) {
            self.address(&ip["ip"]);
            let label = dashed(ip["ip"].as_str().unwrap());
            for place in [namespace, "empty", "nowhere"] {
                self.inside(format!("{label}.{place}.pod"));
            }
            self.inside(format!("{label}.{namespace}.svc"));
            self.inside(format!("x.{label}.{namespace}.pod"));
            self.inside(format!("x.y.{label}.{namespace}.pod"));
            self.inside(format!("x.y.z.{label}.{namespace}.pod"));
        }
    }

    fn address(&mut self, address: &Value) {
        let Some(address) = address.as_str().and_then(|text| text.parse::<IpAddr>().ok()) else {
            return;
        };
        let reverse = reverse(&address);
        self.whole.insert(format!("x.{reverse}"));
        self.whole.insert(reverse.split_once('.').unwrap().1.to_owned());
        self.whole.insert(reverse);
    }
}

/// The label of an address, as the specification has it.
pub fn dashed(address: &str) -> String {
    let label = address.replace(['.', ':'], "-");
    if label.ends_with('-') { format!("{label}0") } else { label }
}

/// The name of an address in the reverse zones.
pub fn reverse(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let digits = format!("{:032x}", v6.to_bits());
            let labels: Vec<String> = digits.chars().rev().map(String::from).collect();
            format!("{}.ip6.arpa", labels.join("."))
        }
    }
}

/// Names that belong to no object.
const FIXED: [&str; 40] = [
    "",
    "svc",
    "pod",
    "dns",
    "dns-version",
    "x.dns-version",
    "ns.dns",
    "x.ns.dns",
    "other.dns",
    "ns",
    "x",
    "x.y.z",
    "*",
    "*.svc",
    "*.*.svc",
    "*.shop.svc",
    "web.*.svc",
    "any.web.shop.svc",
    "nowhere.svc",
    "nowhere.pod",
    "web.nowhere.svc",
    "x.web.nowhere.svc",
    "_http._tcp.web.nowhere.svc",
    "10-0-0-1.nowhere.pod",
    "web.shop",
    "web.shop.svc.x",
    "svc.svc",
    "svc.svc.svc",
    "pod.pod.pod",
    "1-2-3.shop.pod",
    "1-2-3-4-5.shop.pod",
    "1-2--3-4.shop.pod",
    "256-1-1-1.shop.pod",
    "01-2-3-4.shop.pod",
    "--1.shop.pod",
    "--ffff-10-1-2-3.shop.pod",
    "fd00--1.shop.pod",
    r"web\.shop.svc",
    r"we\010b.shop.svc",
    "cluster.local",
];

/// Whole names that belong to no object.
const WHOLE: [&str; 27] = [
    "in-addr.arpa",
    "ip6.arpa",
    "10.in-addr.arpa",
    "96.10.in-addr.arpa",
    "100.96.10.in-addr.arpa",
    "0.0.0.d.f.ip6.arpa",
    "9.9.9.10.in-addr.arpa",
    "9.99.96.10.in-addr.arpa",
    "x.9.99.96.10.in-addr.arpa",
    "01.100.96.10.in-addr.arpa",
    "256.100.96.10.in-addr.arpa",
    "svc.96.10.in-addr.arpa",
    "shop.svc.96.10.in-addr.arpa",
    "web.shop.svc.96.10.in-addr.arpa",
    "10-0-0-1.shop.pod.96.10.in-addr.arpa",
    "dns-version.96.10.in-addr.arpa",
    "ns.dns.96.10.in-addr.arpa",
    "svc.in-addr.arpa",
    "pod.in-addr.arpa",
    "web.shop.svc.in-addr.arpa",
    "dns-version.in-addr.arpa",
    "ns.dns.in-addr.arpa",
    "ns.dns.ip6.arpa",
    // The IPv4 address of a Service, written as IPv6.
    "1.0.4.6.0.6.a.0.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa",
    "9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa",
    "g.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.1.0.0.0.0.d.f.ip6.arpa",
    "local",
];

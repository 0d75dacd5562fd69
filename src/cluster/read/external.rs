//! What of a Service is to be reached from outside of the cluster (`k8s_external`).

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::raw::{RawIngress, RawServiceStatus};
use crate::cluster::object::External;
use crate::wire::Name;

/// Most addresses and host names of one Service; further ones are left out.
const EXTERNALS_MAX: usize = 1000;

/// Reads `spec.externalIPs` and `status.loadBalancer.ingress`, each once. What makes no sense costs
/// itself only, because the Service has its names inside all the same.
pub(super) fn read(ips: Option<&RawValue>, status: Option<&RawValue>) -> Box<[External]> {
    let ips: Vec<&str> = ips.and_then(parsed).unwrap_or_default();
    let balancer = status.and_then(parsed).and_then(|status: RawServiceStatus<'_>| status.balancer);
    let ingress = balancer.and_then(|balancer| balancer.ingress).unwrap_or_default();
    let texts = ips.into_iter().chain(ingress.iter().filter_map(told));
    let mut externals = Vec::new();
    for external in texts.take(EXTERNALS_MAX).filter_map(external) {
        if !externals.contains(&external) {
            externals.push(external);
        }
    }
    externals.into()
}

fn parsed<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

/// What a load balancer tells: an address, else a host name (as CoreDNS).
fn told<'a>(ingress: &RawIngress<'a>) -> Option<&'a str> {
    ingress.ip.filter(|ip| !ip.is_empty()).or(ingress.hostname)
}

/// Reads either; clouds also write an address where a host name belongs.
fn external(text: &str) -> Option<External> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(External::Address(address.to_canonical()));
    }
    let name = Name::parse(text).ok().filter(|name| !name.as_ref().is_root())?;
    Some(External::Host(name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::cluster::config::Kept;
    use crate::cluster::object::{External, Kind, Object};
    use crate::cluster::read::{Found, read};

    fn externals(ips: Value, status: Value, is_kept: bool) -> Vec<String> {
        let spec = json!({"clusterIP": "10.0.0.1", "externalIPs": ips});
        let metadata = json!({"name": "web", "namespace": "shop"});
        let json = json!({"metadata": metadata, "spec": spec, "status": status}).to_string();
        let kept = Kept { externals: is_kept, ..Kept::default() };
        let Ok(Found::Object(Object::Service(service))) =
            read(Kind::Service, kept, &json).map(|reading| reading.found)
        else {
            panic!("no Service: {json}");
        };
        let text = |external: &External| match external {
            External::Address(address) => address.to_string(),
            External::Host(name) => format!("name {name}"),
        };
        service.externals.iter().map(text).collect()
    }

    fn balancer(ingress: Value) -> Value {
        json!({"loadBalancer": {"ingress": ingress}})
    }

    #[test]
    fn addresses_and_host_names_are_read_in_order_and_once() {
        let ingress = json!([
            {"ip": "192.0.2.2", "hostname": "not.this.example"},
            {"ip": "", "hostname": "LB.example.org"},
            {"hostname": "2001:db8::1"},
            {"hostname": "lb.example.org."},
            {"ip": "192.0.2.1"},
            {"ports": []},
        ]);
        assert_eq!(
            externals(json!(["192.0.2.1"]), balancer(ingress), true),
            ["192.0.2.1", "192.0.2.2", "name lb.example.org.", "2001:db8::1"]
        );
    }

    #[test]
    fn what_makes_no_sense_costs_itself_only() {
        let ingress = json!([{"hostname": "a..b"}, {"hostname": "."}, {"ip": "192.0.2.3"}]);
        assert_eq!(externals(json!(null), balancer(ingress), true), ["192.0.2.3"]);
        assert!(externals(json!([]), balancer(json!(null)), true).is_empty());
        assert!(externals(json!(null), json!({"loadBalancer": null}), true).is_empty());
        assert!(externals(json!(null), json!(null), true).is_empty());
        assert!(externals(json!("192.0.2.1"), json!([7]), true).is_empty());
    }

    #[test]
    fn nothing_is_kept_where_nobody_asks_for_it() {
        let status = balancer(json!([{"ip": "192.0.2.2"}]));
        assert!(externals(json!(["192.0.2.1"]), status, false).is_empty());
    }
}

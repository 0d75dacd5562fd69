//! Names of a cluster, from its objects, as the Kubernetes DNS specification 1.1.0 and CoreDNS
//! have them.
//!
//! ```text
//! Service with addresses   web.shop.svc A, _http._tcp.web.shop.svc SRV, its addresses PTR
//! headless Service         db.shop.svc A; of its ready endpoints db-0.db.shop.svc A (those with a
//!                          hostname), SRV of their named ports, their addresses PTR
//! ExternalName             mail.shop.svc A
//! ```
//!
//! This is what applications ask for, not all that is answered: endpoints of Services with
//! addresses, Pods by address and unnamed ports have names that nobody uses. What is right changes
//! with the cluster; [`crate::load::truth`] follows that, and a task says only what was right when
//! it was made.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::{Class, Expect, Task, host};
use crate::cluster::object::{Object, Part, Port, Role, Service, Slice};
use crate::wire::{Name, NameRef, RecordType};

/// Tasks for all names, each once and in the order of names, whatever the order of the objects is.
/// `namespace` is that of the clients: they write only the name of a Service there.
pub fn tasks<'o>(
    objects: impl IntoIterator<Item = &'o Object>,
    domain: &Name,
    namespace: &str,
) -> Vec<Arc<Task>> {
    let mut services = Vec::new();
    let mut slices: HashMap<(&str, &str), Vec<&Slice>> = HashMap::new();
    for object in objects {
        match object {
            Object::Service(service) => services.push(service),
            Object::Slice(slice) => {
                let Some(service) = slice.service.as_deref() else { continue };
                slices.entry((&*slice.key.namespace, service)).or_default().push(slice);
            }
            Object::Namespace(_) | Object::Pod(_) | Object::Import(_) => {}
        }
    }
    let mut names = Names { tasks: BTreeMap::new(), domain: domain.as_ref(), clients: namespace };
    for service in services {
        let slices = slices.get(&(&*service.key.namespace, &*service.key.name));
        names.add(service, slices.map_or(&[], Vec::as_slice));
    }
    names.tasks.into_values().map(Arc::new).collect()
}

/// The names so far.
struct Names<'n> {
    tasks: BTreeMap<(Name, RecordType), Task>,
    domain: NameRef<'n>,
    clients: &'n str,
}

impl Names<'_> {
    /// Adds all names of a Service.
    fn add(&mut self, service: &Service, slices: &[&Slice]) {
        match &service.role {
            // None are allocated yet: there is no such name, and soon there will be.
            Role::ClusterIp(addresses) if addresses.is_empty() => {}
            Role::ClusterIp(addresses) => {
                let rtype = address_type(addresses.iter().copied());
                self.put(service, &[], rtype, Class::Service, Expect::Exists);
                service.ports.iter().for_each(|port| self.put_port(service, port));
                addresses.iter().for_each(|address| self.put_address(*address));
            }
            Role::Headless => self.add_headless(service, slices),
            Role::ExternalName(target) => {
                // As CoreDNS: an address is no name, so there is nothing to point to.
                let is_address = target.parse::<IpAddr>().is_ok();
                let expect = if is_address { Expect::Missing } else { Expect::Exists };
                self.put(service, &[], RecordType::A, Class::ExternalName, expect);
            }
        }
    }

    /// Adds the names of a headless Service. Without ready endpoints there are none, not even its
    /// own (Kubernetes DNS specification §2.4.1), but applications ask for that.
    fn add_headless(&mut self, service: &Service, slices: &[&Slice]) {
        let parts: Vec<&Part> = slices.iter().flat_map(|slice| &slice.parts).collect();
        let addresses: Vec<IpAddr> = parts.iter().flat_map(|part| ready(part)).collect();
        let expect = if addresses.is_empty() { Expect::Missing } else { Expect::Exists };
        let rtype = address_type(addresses.iter().copied());
        self.put(service, &[], rtype, Class::Headless, expect);
        for part in parts.iter().filter(|part| ready(part).next().is_some()) {
            part.ports.iter().for_each(|port| self.put_port(service, port));
            for endpoint in part.endpoints.iter().filter(|endpoint| endpoint.ready) {
                let Some(hostname) = endpoint.hostname else { continue };
                let rtype = address_type(endpoint.addresses());
                self.put(service, &[hostname], rtype, Class::Host, Expect::Exists);
            }
        }
        addresses.into_iter().for_each(|address| self.put_address(address));
    }

    /// Adds a port, if it has a name.
    fn put_port(&mut self, service: &Service, port: &Port) {
        if port.name.is_empty() {
            return;
        }
        let name = format!("_{}", port.name);
        let protocol = match port.protocol.label() {
            b"tcp" => "_tcp",
            b"udp" => "_udp",
            _ => "_sctp",
        };
        self.put(service, &[&name, protocol], RecordType::SRV, Class::Srv, Expect::Exists);
    }

    /// Adds a name at a Service, or below it. One that cannot be a domain name has no records.
    fn put(
        &mut self,
        service: &Service,
        labels: &[&str],
        rtype: RecordType,
        class: Class,
        expect: Expect,
    ) {
        let key = &service.key;
        let below = labels.iter().copied().chain([&*key.name, &*key.namespace, "svc"]);
        let Ok(name) = Name::from_labels(below.map(str::as_bytes), self.domain) else { return };
        let labels: Vec<&str> = labels.iter().copied().chain([&*key.name]).collect();
        let host = host(&labels, &key.namespace, self.clients);
        self.insert(Task { host, name, rtype, class, expect });
    }

    /// Adds the name of an address.
    fn put_address(&mut self, address: IpAddr) {
        let Ok(name) = Name::parse(&reverse(address)) else { return };
        let (host, rtype) = (name.to_string().into(), RecordType::PTR);
        self.insert(Task { host, name, rtype, class: Class::Ptr, expect: Expect::Exists });
    }

    /// Adds a task; of those that are alike the first stays.
    fn insert(&mut self, task: Task) {
        self.tasks.entry((task.name.clone(), task.rtype)).or_insert(task);
    }
}

/// The addresses of the ready endpoints.
fn ready(part: &Part) -> impl Iterator<Item = IpAddr> {
    let ready = part.endpoints.iter().filter(|endpoint| endpoint.ready);
    ready.flat_map(|endpoint| endpoint.addresses().collect::<Vec<_>>())
}

/// A, unless there are IPv6 addresses only: a single packet would find nothing then. Resolvers ask
/// for both.
fn address_type(mut addresses: impl Iterator<Item = IpAddr>) -> RecordType {
    let Some(first) = addresses.next() else { return RecordType::A };
    let is_v6 = first.is_ipv6() && addresses.all(|address| address.is_ipv6());
    if is_v6 { RecordType::AAAA } else { RecordType::A }
}

/// The name of an address (RFC 1035 §3.5, RFC 3596 §2.5).
pub(super) fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa.")
        }
        IpAddr::V6(address) => {
            let octets = address.octets();
            let nibbles =
                octets.iter().rev().map(|octet| format!("{:x}.{:x}.", octet & 15, octet >> 4));
            nibbles.collect::<String>() + "ip6.arpa."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::object::{Endpoint, ObjectKey, Protocol};

    fn key(namespace: &str, name: &str) -> ObjectKey {
        ObjectKey { namespace: namespace.into(), name: name.into() }
    }

    fn port(name: &str, protocol: Protocol) -> Port {
        Port { name: name.into(), protocol, number: 80 }
    }

    fn service(namespace: &str, name: &str, role: Role) -> Object {
        let ports = vec![port("http", Protocol::Tcp), port("", Protocol::Tcp)];
        let key = key(namespace, name);
        Object::Service(Service { key, role, ports, has_selector: true, externals: [].into() })
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn with_addresses(namespace: &str, name: &str, texts: &[&str]) -> Object {
        service(namespace, name, Role::ClusterIp(addresses(texts)))
    }

    fn endpoint(hostname: Option<&str>, address: &str, ready: bool) -> Endpoint {
        let hostname = hostname.map(Into::into);
        Endpoint { addresses: addresses(&[address]), ready, hostname, zone: None }
    }

    fn slice(namespace: &str, service: &str, endpoints: Vec<Endpoint>) -> Object {
        let ports = [port("sql", Protocol::Tcp), port("gossip", Protocol::Udp)].into();
        let parts = [Part { endpoints: endpoints.into_iter().collect(), ports }].into();
        let (key, service) = (key(namespace, "slice"), Some(service.into()));
        Object::Slice(Slice { key, service, import: None, parts, triggered_ms: None })
    }

    /// Each task as `host = name type class`, with `?` where the name is missing.
    fn shown(objects: &[Object]) -> Vec<String> {
        let domain = Name::parse("cluster.local").unwrap();
        let show = |task: &Arc<Task>| {
            let mark = if task.expect == Expect::Missing { "?" } else { "" };
            let (host, name) = (&task.host, task.name.to_string());
            let name = name.trim_end_matches("svc.cluster.local.");
            format!("{host} = {name} {} {}{mark}", task.rtype, task.class.name())
        };
        let mut shown: Vec<_> = tasks(objects, &domain, "default").iter().map(show).collect();
        shown.sort();
        shown
    }

    #[test]
    fn a_service_with_addresses_has_names_for_itself_its_ports_and_its_addresses() {
        let objects = [
            Object::Namespace("shop".into()),
            with_addresses("shop", "web", &["10.96.0.1", "fd00::1"]),
        ];
        assert_eq!(
            shown(&objects),
            [
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. = \
                 1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa. PTR ptr",
                "1.0.96.10.in-addr.arpa. = 1.0.96.10.in-addr.arpa. PTR ptr",
                "_http._tcp.web.shop = _http._tcp.web.shop. SRV srv",
                "web.shop = web.shop. A service",
            ]
        );
    }

    #[test]
    fn a_service_in_the_clients_namespace_is_written_without_it() {
        let shown = shown(&[with_addresses("default", "web", &["10.96.0.1"])]);
        assert!(shown.contains(&"web = web.default. A service".to_owned()), "{shown:?}");
    }

    #[test]
    fn a_service_of_ipv6_alone_is_asked_for_aaaa() {
        let shown = shown(&[with_addresses("default", "web", &["fd00::1"])]);
        assert!(shown.contains(&"web = web.default. AAAA service".to_owned()), "{shown:?}");
    }

    #[test]
    fn a_service_without_addresses_yet_has_no_names() {
        assert_eq!(shown(&[with_addresses("default", "web", &[])]), [""; 0]);
    }

    #[test]
    fn a_headless_service_has_the_names_of_its_ready_endpoints() {
        let endpoints = vec![
            endpoint(Some("db-0"), "10.0.0.1", true),
            endpoint(Some("db-1"), "10.0.0.2", false),
            endpoint(None, "10.0.0.3", true),
        ];
        let objects = [slice("shop", "db", endpoints), service("shop", "db", Role::Headless)];
        assert_eq!(
            shown(&objects),
            [
                "1.0.0.10.in-addr.arpa. = 1.0.0.10.in-addr.arpa. PTR ptr",
                "3.0.0.10.in-addr.arpa. = 3.0.0.10.in-addr.arpa. PTR ptr",
                "_gossip._udp.db.shop = _gossip._udp.db.shop. SRV srv",
                "_sql._tcp.db.shop = _sql._tcp.db.shop. SRV srv",
                "db-0.db.shop = db-0.db.shop. A host",
                "db.shop = db.shop. A headless",
            ]
        );
    }

    #[test]
    fn a_headless_service_without_ready_endpoints_is_missing() {
        let unready = slice("shop", "db", vec![endpoint(Some("db-0"), "10.0.0.1", false)]);
        let elsewhere = slice("other", "db", vec![endpoint(None, "10.0.0.2", true)]);
        let objects = [service("shop", "db", Role::Headless), unready, elsewhere];
        assert_eq!(shown(&objects), ["db.shop = db.shop. A headless?"]);
    }

    #[test]
    fn endpoints_of_a_service_with_addresses_have_no_names() {
        let endpoints = vec![endpoint(Some("web-0"), "10.0.0.1", true)];
        let objects =
            [with_addresses("shop", "web", &["10.96.0.1"]), slice("shop", "web", endpoints)];
        assert!(
            shown(&objects)
                .iter()
                .all(|task| !task.contains("web-0") && !task.contains("1.0.0.10"))
        );
    }

    #[test]
    fn an_external_name_that_is_an_address_is_missing() {
        let name = |name, target: &str| service("shop", name, Role::ExternalName(target.into()));
        assert_eq!(
            shown(&[name("mail", "mail.example.org"), name("wrong", "192.0.2.1")]),
            ["mail.shop = mail.shop. A external-name", "wrong.shop = wrong.shop. A external-name?"]
        );
    }

    #[test]
    fn the_order_of_the_objects_does_not_matter() {
        let mut objects = vec![
            with_addresses("shop", "web", &["10.96.0.1"]),
            with_addresses("default", "a", &["10.96.0.2"]),
            service("shop", "db", Role::Headless),
            slice("shop", "db", vec![endpoint(None, "10.0.0.1", true)]),
        ];
        let domain = Name::parse("cluster.local").unwrap();
        let names = |objects: &[Object]| {
            let tasks = tasks(objects, &domain, "default");
            tasks.iter().map(|task| (task.name.clone(), task.rtype)).collect::<Vec<_>>()
        };
        let before = names(&objects);
        assert_eq!(before.len(), 3 + 3 + 4);
        objects.reverse();
        assert_eq!(names(&objects), before);
    }

    #[test]
    fn names_that_cannot_be_are_left_out() {
        let long = "a".repeat(64);
        let objects =
            [with_addresses("shop", &long, &["10.96.0.1"]), with_addresses("shop", "", &[])];
        assert_eq!(shown(&objects), ["1.0.96.10.in-addr.arpa. = 1.0.96.10.in-addr.arpa. PTR ptr"]);
    }
}

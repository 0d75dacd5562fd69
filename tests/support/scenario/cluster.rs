//! `cluster` statements, as the Changes that a source would send.
//!
//! ```text
//! cluster  service shop/web clusterip 10.96.0.1,fd00::1; port http 80/tcp; endpoint 10.0.0.1
//! cluster  service shop/db headless; port 5432/tcp
//!          endpoint 10.0.0.2,fd01::2 hostname db-0; endpoint 10.0.0.3 unready
//!          endpoints 10.1.0.1 10.1.0.200                         one each from first to last
//! cluster  service shop/ext external example.org
//! cluster  service shop/web clusterip 10.96.0.1; external 192.0.2.1,lb.example.org   reached so
//! cluster  slice shop/web-2 of web; port …; endpoint … zone eu-1a   one more slice
//! cluster  import shop/db headless | ips 10.1.2.3; port …          a ServiceImport
//! cluster  slice shop/db-c1 imported db from c1; port …; endpoint …
//! cluster  pod shop/web-0 10.0.0.1,fd00::1
//! cluster  namespace empty
//! cluster  delete service shop/web | slice shop/web-2 | namespace shop | import … | pod …
//! cluster  unsynced | relist                                      full lists begin …
//! cluster  synced                                                 … and end
//! cluster  away | back [pods|serviceimports]                      it has been for a minute …
//! ```
//!
//! A `service` brings its Namespace and, as the control plane does, one slice per family of
//! endpoints. Without `port` it has none; `clusterip` without an address is not allocated yet.

use std::net::{IpAddr, Ipv4Addr};

use mainstay::cluster::object::{
    Change, Endpoint, External, Import, Kind, Object, ObjectKey, Part, Pod, Port, Protocol, Role,
    Service, Slice,
};
use mainstay::wire::Name;

/// What a statement says about the cluster.
pub fn changes(items: &[String]) -> Result<Vec<Change>, String> {
    let words: Vec<&str> = items.first().ok_or("nothing said")?.split_whitespace().collect();
    match words[..] {
        ["unsynced" | "relist"] => Ok(Kind::ALL.map(Change::ListBegin).into()),
        ["synced"] => Ok(Kind::ALL.map(Change::ListEnd).into()),
        ["namespace", name] => Ok(vec![namespace(name)]),
        ["service", name, "headless"] => service(key(name)?, Role::Headless, &items[1..]),
        ["service", name, "external", target] => {
            service(key(name)?, Role::ExternalName(target.into()), &items[1..])
        }
        ["service", name, "clusterip"] => {
            service(key(name)?, Role::ClusterIp(Vec::new()), &items[1..])
        }
        ["service", name, "clusterip", addresses] => {
            service(key(name)?, Role::ClusterIp(list(addresses)?), &items[1..])
        }
        ["slice", name, "of", service] => {
            let service = Some(service.into());
            Ok(vec![slice(key(name)?, service, None, parts(&items[1..])?)])
        }
        ["slice", name, "imported", service, "from", cluster] => {
            let import = Import { service: service.into(), cluster: cluster.into() };
            Ok(vec![slice(key(name)?, None, Some(import), parts(&items[1..])?)])
        }
        ["import", name, "headless"] => import(name, Role::Headless, &items[1..]),
        ["import", name, "ips", addresses] => {
            import(name, Role::ClusterIp(list(addresses)?), &items[1..])
        }
        ["pod", name, addresses] => {
            let pod = Pod { key: key(name)?, addresses: list(addresses)?.into() };
            Ok(vec![namespace(&pod.key.namespace), Change::Apply(Object::Pod(pod))])
        }
        ["delete", "pod", name] => Ok(vec![Change::Delete(Kind::Pod, key(name)?)]),
        ["delete", "import", name] => Ok(vec![Change::Delete(Kind::Import, key(name)?)]),
        ["delete", "namespace", name] => {
            let key = ObjectKey { namespace: "".into(), name: name.into() };
            Ok(vec![Change::Delete(Kind::Namespace, key)])
        }
        ["delete", "slice", name] => Ok(vec![Change::Delete(Kind::Slice, key(name)?)]),
        ["delete", "service", name] => {
            let key = key(name)?;
            let slices =
                FAMILIES.map(|family| Change::Delete(Kind::Slice, slice_key(&key, family)));
            Ok([Change::Delete(Kind::Service, key)].into_iter().chain(slices).collect())
        }
        _ => Err(format!("not a cluster statement: {}", items[0])),
    }
}

const FAMILIES: [&str; 2] = ["ipv4", "ipv6"];

fn namespace(name: &str) -> Change {
    Change::Apply(Object::Namespace(name.into()))
}

fn service(key: ObjectKey, role: Role, items: &[String]) -> Result<Vec<Change>, String> {
    let (externals, items) = outside(items)?;
    let (ports, endpoints) = parts(&items)?;
    let slices = FAMILIES.map(|family| {
        let endpoints = endpoints.iter().filter_map(|endpoint| of_family(endpoint, family));
        let parts = (ports.clone(), endpoints.collect());
        slice(slice_key(&key, family), Some(key.name.clone()), None, parts)
    });
    let namespace = namespace(&key.namespace);
    let service = Service { key, role, ports, has_selector: true, externals };
    let objects = [namespace, Change::Apply(Object::Service(service))];
    Ok(objects.into_iter().chain(slices).collect())
}

/// Takes `external 192.0.2.1,lb.example.org` out of what is said of a Service.
fn outside(items: &[String]) -> Result<(Box<[External]>, Vec<String>), String> {
    let (outside, rest): (Vec<_>, Vec<_>) =
        items.iter().cloned().partition(|item| item.starts_with("external "));
    let words = outside.iter().flat_map(|item| item.split_whitespace().skip(1));
    let external = |text: &str| match text.parse() {
        Ok(address) => Ok(External::Address(address)),
        Err(_) => Name::parse(text).map(External::Host).map_err(plain),
    };
    let externals = words.flat_map(|word| word.split(',')).map(external).collect::<Result<_, _>>();
    Ok((externals?, rest))
}

fn slice(
    key: ObjectKey,
    service: Option<Box<str>>,
    import: Option<Import>,
    (ports, endpoints): (Vec<Port>, Vec<Endpoint>),
) -> Change {
    let endpoints = endpoints.into_iter().collect();
    let parts = [Part { endpoints, ports: ports.into() }].into();
    Change::Apply(Object::Slice(Slice { key, service, import, parts, triggered_ms: None }))
}

fn import(name: &str, role: Role, items: &[String]) -> Result<Vec<Change>, String> {
    let (key, (ports, _)) = (key(name)?, parts(items)?);
    let namespace = namespace(&key.namespace);
    let externals = Box::default();
    let import = Service { key, role, ports, has_selector: false, externals };
    Ok(vec![namespace, Change::Apply(Object::Import(import))])
}

fn slice_key(service: &ObjectKey, family: &str) -> ObjectKey {
    let name = format!("{}-{family}", service.name).into();
    ObjectKey { namespace: service.namespace.clone(), name }
}

/// The part of an endpoint that a slice of this family holds.
fn of_family(endpoint: &Endpoint, family: &str) -> Option<Endpoint> {
    let mut endpoint = endpoint.clone();
    endpoint.addresses.retain(|address| address.is_ipv4() == (family == "ipv4"));
    (!endpoint.addresses.is_empty()).then_some(endpoint)
}

fn parts(items: &[String]) -> Result<(Vec<Port>, Vec<Endpoint>), String> {
    let (mut ports, mut endpoints) = (Vec::new(), Vec::new());
    for item in items {
        let words: Vec<&str> = item.split_whitespace().collect();
        match words[..] {
            ["port", number] => ports.push(port("", number)?),
            ["port", name, number] => ports.push(port(name, number)?),
            ["endpoints", first, last] => {
                let [first, last] =
                    [first, last].map(|text| text.parse::<Ipv4Addr>().map(u32::from));
                let (first, last) = first.and_then(|first| Ok((first, last?))).map_err(plain)?;
                endpoints.extend((first..=last).map(|bits| plain_endpoint(bits.into())));
            }
            ["endpoint", addresses, ref rest @ ..] => endpoints.push(endpoint(addresses, rest)?),
            _ => return Err(format!("neither port nor endpoint: {item}")),
        }
    }
    Ok((ports, endpoints))
}

fn plain_endpoint(address: Ipv4Addr) -> Endpoint {
    Endpoint { addresses: vec![address.into()], ready: true, hostname: None, zone: None }
}

fn endpoint(addresses: &str, mut rest: &[&str]) -> Result<Endpoint, String> {
    let (addresses, ready) = (list(addresses)?, true);
    let mut endpoint = Endpoint { addresses, ready, hostname: None, zone: None };
    loop {
        rest = match rest {
            [] => return Ok(endpoint),
            ["hostname", name, rest @ ..] => {
                endpoint.hostname = Some((*name).into());
                rest
            }
            ["zone", name, rest @ ..] => {
                endpoint.zone = Some((*name).into());
                rest
            }
            [word @ ("ready" | "unready"), rest @ ..] => {
                endpoint.ready = *word == "ready";
                rest
            }
            other => return Err(format!("not about an endpoint: {other:?}")),
        }
    }
}

/// `80/tcp`.
fn port(name: &str, text: &str) -> Result<Port, String> {
    let (number, protocol) = text.split_once('/').ok_or(format!("not a port: {text}"))?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return Err(format!("not a protocol: {protocol}")),
    };
    Ok(Port { name: name.into(), protocol, number: number.parse().map_err(plain)? })
}

fn key(text: &str) -> Result<ObjectKey, String> {
    let (namespace, name) = text.split_once('/').ok_or(format!("not NAMESPACE/NAME: {text}"))?;
    Ok(ObjectKey { namespace: namespace.into(), name: name.into() })
}

/// Addresses with commas between.
pub fn list(text: &str) -> Result<Vec<IpAddr>, String> {
    text.split(',').map(|one| one.parse().map_err(|_| format!("not an address: {one}"))).collect()
}

fn plain(error: impl ToString) -> String {
    error.to_string()
}

//! The objects of a drill: a small cluster, the same for each server.

use serde_json::{Value, json};

/// The Namespace of the clients and of all names. It stays when the drill is over.
pub const NAMESPACE: &str = "mainstay-drill";
/// Services with an address.
const SERVICES: u8 = 40;
/// Headless Services.
const HEADLESS: u8 = 10;
/// Endpoints of each of them.
const ENDPOINTS: u8 = 3;
/// What an ExternalName is another name for.
const OUTSIDE: &str = "www.example.org";

/// All of them, in the order in which they can be made.
pub fn all() -> Vec<Value> {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE },
    });
    let mut objects = vec![namespace];
    objects.extend((0..SERVICES).map(service));
    objects.extend((0..HEADLESS).flat_map(|number| [headless(number), slice(number, 0)]));
    objects.push(external());
    objects
}

/// All of them, for an API server that gives addresses to Services itself.
pub fn without_addresses() -> Vec<Value> {
    let mut objects = all();
    for object in &mut objects {
        // Indexing would add a `spec` where there is none.
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
            && spec.get("clusterIP").is_some_and(|address| address != "None")
        {
            spec.remove("clusterIP");
        }
    }
    objects
}

/// As one list, for a manifest.
pub fn list() -> Value {
    json!({ "apiVersion": "v1", "kind": "List", "items": all() })
}

/// Whether a name, in presentation form, is that of one of them.
pub fn is_ours(name: &str) -> bool {
    name.split('.').any(|label| label == NAMESPACE)
}

fn metadata(name: &str) -> Value {
    json!({ "name": name, "namespace": NAMESPACE })
}

fn service(number: u8) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(&format!("web-{number}")),
        "spec": {
            "clusterIP": format!("10.96.77.{}", number + 1),
            "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }],
        },
    })
}

fn headless(number: u8) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(&format!("db-{number}")),
        "spec": {
            "clusterIP": "None",
            "ports": [{ "name": "sql", "port": 5432, "protocol": "TCP" }],
        },
    })
}

fn external() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata("partner"),
        "spec": { "type": "ExternalName", "externalName": OUTSIDE },
    })
}

/// The endpoints of a headless Service, after it was changed `turn` times: each change gives the
/// next endpoint another address.
pub fn slice(number: u8, turn: u32) -> Value {
    let endpoints: Vec<Value> = (0..ENDPOINTS).map(|at| endpoint(number, at, turn)).collect();
    let name = format!("db-{number}");
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-x"), "namespace": NAMESPACE,
            "labels": { "kubernetes.io/service-name": name },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "sql", "port": 5432, "protocol": "TCP" }],
        "endpoints": endpoints,
    })
}

fn endpoint(number: u8, at: u8, turn: u32) -> Value {
    // How often this one has changed: every third change is its own.
    let changes = (turn + u32::from(ENDPOINTS) - 1 - u32::from(at)) / u32::from(ENDPOINTS);
    let last = 1 + changes % 250;
    json!({
        "addresses": [format!("10.244.{}.{last}", number * ENDPOINTS + at)],
        "hostname": format!("db-{number}-{at}"),
        "conditions": { "ready": true },
    })
}

/// Which headless Service changes next, and how often it will have changed.
pub fn churned(change: u32) -> (u8, u32) {
    let number = (change % u32::from(HEADLESS)) as u8;
    (number, change / u32::from(HEADLESS) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(slice: &Value) -> Vec<String> {
        let endpoints = slice["endpoints"].as_array().unwrap().iter();
        endpoints.map(|endpoint| endpoint["addresses"][0].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn each_change_gives_one_endpoint_another_address() {
        let mut before = addresses(&slice(3, 0));
        assert_eq!(before, ["10.244.9.1", "10.244.10.1", "10.244.11.1"]);
        for turn in 1..2000 {
            let after = addresses(&slice(3, turn));
            let changed = before.iter().zip(&after).filter(|(one, other)| one != other);
            assert_eq!(changed.count(), 1, "turn {turn}");
            before = after;
        }
    }

    #[test]
    fn services_change_in_turns() {
        assert_eq!(churned(0), (0, 1));
        assert_eq!(churned(9), (9, 1));
        assert_eq!(churned(10), (0, 2));
    }
}

//! ExternalName Services: the alias, its change, and its end as a Service with an address.

use serde_json::json;

use crate::clients::Client;
use crate::sandbox::Network;
use crate::{NAMESPACE, World, objects, upstream};

const NAME: &str = "dns-test-service-3";

/// The alias is what the Service says at the time; who follows it finds the address behind.
pub fn change(world: &World) {
    let full = format!("{NAME}.{NAMESPACE}.svc.cluster.local");
    let path = format!("/api/v1/namespaces/{NAMESPACE}/services/{NAME}");
    let outside = upstream::ADDRESS.to_string();
    let spec = json!({ "type": "ExternalName", "externalName": "foo.example.com" });
    world.api.create(&objects::service(NAMESPACE, NAME, &spec));
    world.answers(&format!("{full} CNAME"), "NOERROR, CNAME foo.example.com");
    follows(world, "foo.example.com");
    world.finds(&full, &[&outside]);

    world.api.patch(&path, &json!({ "spec": { "externalName": "bar.example.com" } }));
    world.answers(&format!("{full} CNAME"), "NOERROR, CNAME bar.example.com");
    follows(world, "bar.example.com");
    world.finds(NAME, &[&outside]);

    let port = json!({ "name": "http", "port": 80, "protocol": "TCP" });
    let spec = json!({ "type": "ClusterIP", "externalName": null, "ports": [port] });
    world.api.patch(&path, &json!({ "spec": spec }));
    let address = objects::cluster_ip(&world.api.read(&path).unwrap());
    world.finds(&full, &[&address]);
    world.finds(NAME, &[&address]);
    world.answers(&format!("{full} CNAME"), "NOERROR");
}

/// Programs are told the end of the alias as the canonical name.
fn follows(world: &World, end: &str) {
    for client in [Client::Getent, Client::Glibc, Client::Musl] {
        let found = world.programs.find(client, &world.sandbox, Network::Pod, &[NAME]).remove(0);
        assert_eq!(found.canonical.as_deref(), Some(end), "by {client:?}: {found:?}");
    }
}

//! A dump of the cluster answers as the cluster does, without an API server.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::asker::eventually;
use crate::dig::{self, Over, Record, Reply};
use crate::names::{EXISTING, MISSING};
use crate::server::{Ports, Server};
use crate::{World, measured};

/// What a dump is made of.
const PATHS: [&str; 3] =
    ["/api/v1/namespaces", "/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices"];

pub fn answer_as_the_api_server_does(world: &mut World) {
    let folder = TempDir::new().unwrap();
    let dump = dump(world);
    let yaml = serde_saphyr::to_string(&dump).unwrap();
    std::fs::write(folder.path().join("cluster.yaml"), yaml).unwrap();
    std::fs::write(folder.path().join("cluster.json"), dump.to_string()).unwrap();
    for file in ["cluster.yaml", "cluster.json"] {
        let ports = Ports::free();
        let source = format!("manifests {}", folder.path().join(file).display());
        let corefile = ports.kubeadm(&source, &world.upstream());
        let second = Server::start(file, ports, &corefile);
        eventually(|| match second.ready() {
            200 => Ok(()),
            status => Err(format!("/ready is {status}")),
        });
        assert_eq!(second.complaints(), [""; 0]);
        compare(&world.live, &second);
    }
}

/// As `kubectl get namespaces,services,endpointslices -A -o yaml` writes it.
fn dump(world: &World) -> Value {
    let mut items = Vec::new();
    for path in PATHS {
        let list = world.api.read(path).unwrap();
        let kind = list["kind"].as_str().unwrap().trim_end_matches("List").to_owned();
        for item in list["items"].as_array().unwrap() {
            // In a list of one kind the API leaves out what each object is; kubectl puts it back.
            let mut item = item.clone();
            item["apiVersion"] = list["apiVersion"].clone();
            item["kind"] = json!(kind);
            items.push(item);
        }
    }
    measured("objects in the dump", items.len());
    json!({ "apiVersion": "v1", "kind": "List", "metadata": { "resourceVersion": "" }, "items": items })
}

fn compare(live: &Server, second: &Server) {
    for (question, _) in EXISTING.iter().chain(&MISSING) {
        let ask = |server: &Server| comparable(dig::ask(server.ports.dns, question, Over::Tcp));
        assert_eq!(ask(live), ask(second), "{question}");
    }
}

/// Without what differs by nature: the serial of the SOA, and TTLs that count down in the cache.
fn comparable(mut reply: Reply) -> Reply {
    let sections = [&mut reply.answer, &mut reply.authority, &mut reply.additional];
    for record in sections.into_iter().flatten() {
        let Record { value, ttl_s, .. } = record;
        *ttl_s = 0;
        if value.starts_with("SOA ") {
            let fields: Vec<&str> = value.split(' ').collect();
            *value = [&fields[..3], &fields[4..]].concat().join(" ");
        }
    }
    reply
}

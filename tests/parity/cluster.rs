//! The objects of the cluster, as the API server has them, and the marks that show when both
//! servers have seen the last change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};

use crate::ask::ask;
use crate::control_plane::ControlPlane;
use crate::kubeapi::Kubeapi;
use crate::names::{dashed, reverse};
use crate::objects::{
    SERVICE_LABEL, alias, headless, import, imported, items, kind_of, name_of, namespace, pod,
    slice,
};
use crate::questions::{Question, question, wire};
use crate::reply::Reply;
use crate::servers::{Pair, Servers};

/// Longest time until a change has arrived everywhere.
const CHANGE_MAX: Duration = Duration::from_secs(60);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(3);
/// The namespace of the marks.
const MARKS: &str = "marks";

const A: u16 = 1;
const CNAME: u16 = 5;

/// What is in the API server.
pub struct Cluster {
    api: Kubeapi,
    /// By kind, namespace and name.
    pub objects: BTreeMap<String, Value>,
    /// The number of the last marks.
    mark: u16,
}

/// What exists in the cluster, as `service.namespace`.
#[derive(Default)]
pub struct Facts {
    pub services: BTreeSet<String>,
    /// Those of the type ExternalName.
    pub aliases: BTreeSet<String>,
    /// Reverse names of addresses in slices of no Service of this cluster.
    pub nameless: BTreeSet<String>,
    /// ServiceImports with addresses and without ports.
    pub portless_imports: BTreeSet<String>,
    /// The addresses of Pods that are not the first of their Pod, as `fd00--1.namespace`.
    pub second_addresses: BTreeSet<String>,
}

impl Facts {
    /// Whether names below this one may exist.
    pub fn has_endpoints(&self, service: &str) -> bool {
        self.services.contains(service) && !self.aliases.contains(service)
    }
}

impl Cluster {
    pub fn new(plane: &ControlPlane) -> Self {
        let mut cluster = Self { api: plane.admin(), objects: BTreeMap::new(), mark: 0 };
        cluster.api.apply(&crate::fixture::definition());
        cluster.wait_for_imports();
        cluster.api.apply(&namespace(MARKS));
        for object in crate::fixture::objects() {
            cluster.apply(object);
        }
        cluster
    }

    /// Creates or changes an object.
    pub fn apply(&mut self, object: Value) {
        self.api.apply(&object);
        self.objects.insert(key(&object), object);
    }

    /// Deletes an object at once. A Namespace leaves what is in it behind, as the API does until
    /// its controller has cleaned up.
    pub fn delete(&mut self, object: &Value) {
        self.api.delete(&path(object));
        if kind_of(object) == "Namespace" {
            let mut body = object.clone();
            body["spec"] = json!({ "finalizers": [] });
            let finalize = format!("{}/finalize", path(object));
            self.api.call(Method::PUT, &finalize, "application/json", &body).unwrap();
        }
        self.objects.remove(&key(object));
    }

    /// Begins the end of a Pod, which no kubelet brings about. One that has ended is gone at once.
    pub fn terminate(&mut self, pod: &Value) {
        self.api.delete_after(&path(pod), 600);
        if ["Succeeded", "Failed"].map(Some).contains(&pod["status"]["phase"].as_str()) {
            self.objects.remove(&key(pod));
        } else {
            self.objects.get_mut(&key(pod)).unwrap()["metadata"]["deletionTimestamp"] =
                json!("soon");
        }
    }

    /// Whether a namespace exists.
    pub fn has_namespace(&self, name: &str) -> bool {
        self.objects.contains_key(&format!("Namespace /{name}"))
    }

    /// What exists.
    pub fn facts(&self) -> Facts {
        let mut facts = Facts { nameless: self.nameless(), ..Facts::default() };
        for object in self.objects.values().filter(|object| kind_of(object) == "Service") {
            let (namespace, name) = name_of(object);
            if !self.has_namespace(namespace) {
                continue;
            }
            let name = format!("{name}.{namespace}");
            if object["spec"]["externalName"].is_string() {
                facts.aliases.insert(name.clone());
            }
            facts.services.insert(name);
        }
        let imports = self.objects.values().filter(|object| kind_of(object) == "ServiceImport");
        let is_portless = |import: &&Value| {
            import["spec"]["ips"].is_array() && items(&import["spec"]["ports"]).next().is_none()
        };
        facts.portless_imports = imports
            .filter(is_portless)
            .map(|import| {
                let (namespace, name) = name_of(import);
                format!("{name}.{namespace}")
            })
            .collect();
        for object in self.objects.values().filter(|object| kind_of(object) == "Pod") {
            let (namespace, _) = name_of(object);
            for ip in items(&object["status"]["podIPs"]).skip(1) {
                let label = dashed(ip["ip"].as_str().unwrap());
                facts.second_addresses.insert(format!("{label}.{namespace}"));
            }
        }
        facts
    }

    /// See [`Facts::nameless`].
    fn nameless(&self) -> BTreeSet<String> {
        let slices = self.objects.values().filter(|object| {
            kind_of(object) == "EndpointSlice"
                && object["metadata"]["labels"][SERVICE_LABEL].is_null()
        });
        let endpoints = slices.flat_map(|slice| items(&slice["endpoints"]));
        let ready = endpoints.filter(|it| it["conditions"]["ready"] != json!(false));
        let addresses = ready.flat_map(|endpoint| items(&endpoint["addresses"]));
        addresses.map(|address| reverse(&address.as_str().unwrap().parse().unwrap())).collect()
    }

    /// Waits until both servers have seen all that was changed, whatever its kind.
    pub fn settle(&mut self, servers: &Servers) -> Duration {
        let begun = Instant::now();
        self.mark += 1;
        self.set_marks();
        for pair in &servers.pairs {
            let (questions, expected) = self.marks(pair);
            for (server, port) in [("CoreDNS", pair.theirs), ("Mainstay", pair.ours)] {
                loop {
                    let replies = ask(server, port, &questions);
                    let missing = replies.iter().zip(&questions).zip(&expected).find_map(
                        |((reply, question), expected)| {
                            let reply = Reply::read(reply).unwrap();
                            (!is_shown(&reply, expected)).then(|| format!("{question}: {reply}"))
                        },
                    );
                    let Some(missing) = missing else { break };
                    let variant = pair.variant.name;
                    assert!(
                        begun.elapsed() < CHANGE_MAX,
                        "{server}, {variant}: has not seen mark {}: {missing}",
                        self.mark
                    );
                    sleep(LOOK_EVERY);
                }
            }
        }
        begun.elapsed()
    }

    /// The last object of each kind that changes.
    fn set_marks(&self) {
        let [slice_ip, pod_ip, import_ip, far_ip] = self.addresses().map(|it| it.to_string());
        let path = |name: &str| format!("{MARKS}/{name}");
        for object in [
            namespace(&format!("mark-{}", self.mark)),
            alias(&path("service"), &self.target()),
            headless(&path("slice"), &[]),
            slice(&path("slice"), "slice", &[], &[&slice_ip]),
            pod(&path(&format!("pod-{}", self.mark)), &[&pod_ip], "Running"),
            import(&path("import"), &[&import_ip], &["/TCP/1"]),
            import(&path("far"), &[], &["/TCP/1"]),
            imported(&path("far"), "far", "mars", &["/TCP/1"], &[&far_ip]),
        ] {
            self.api.apply(&object);
        }
    }

    /// What to ask for the marks, and the RDATA that shows them; none where the name is enough.
    fn marks(&self, pair: &Pair) -> (Vec<Question>, Vec<Option<Vec<u8>>>) {
        let [slice_ip, pod_ip, import_ip, far_ip] = self.addresses();
        let octets = |address: Ipv4Addr| Some(address.octets().to_vec());
        let mut marks = vec![
            (format!("mark-{}.svc.cluster.local", self.mark), A, None),
            (format!("service.{MARKS}.svc.cluster.local"), CNAME, Some(wire(&self.target()))),
        ];
        if !pair.variant.says("noendpoints") {
            marks.push((format!("slice.{MARKS}.svc.cluster.local"), A, octets(slice_ip)));
        }
        if pair.variant.says("verified") {
            let label = pod_ip.to_string().replace('.', "-");
            marks.push((format!("{label}.{MARKS}.pod.cluster.local"), A, octets(pod_ip)));
        }
        if pair.variant.says("multicluster") {
            marks.push((format!("import.{MARKS}.svc.clusterset.local"), A, octets(import_ip)));
            marks.push((format!("far.{MARKS}.svc.clusterset.local"), A, octets(far_ip)));
        }
        let ask = |(name, rtype, _): &(String, u16, _)| question(name, *rtype, 0);
        (marks.iter().map(ask).collect(), marks.into_iter().map(|(.., rdata)| rdata).collect())
    }

    fn addresses(&self) -> [Ipv4Addr; 4] {
        let [high, low] = self.mark.to_be_bytes();
        [250, 251, 252, 253].map(|second| Ipv4Addr::new(10, second, high, low))
    }

    fn target(&self) -> String {
        format!("mark-{}.example.org", self.mark)
    }

    fn wait_for_imports(&self) {
        let begun = Instant::now();
        while self.api.read("/apis/multicluster.x-k8s.io/v1alpha1/serviceimports").is_err() {
            assert!(begun.elapsed() < CHANGE_MAX, "the API server has no ServiceImports");
            sleep(LOOK_EVERY);
        }
    }
}

fn is_shown(reply: &Reply, expected: &Option<Vec<u8>>) -> bool {
    match expected {
        Some(rdata) => reply.answer.iter().any(|record| record.rdata == *rdata),
        None => reply.rcode == 0,
    }
}

/// The key of an object among all.
pub fn key(object: &Value) -> String {
    let (namespace, name) = name_of(object);
    format!("{} {namespace}/{name}", kind_of(object))
}

fn path(object: &Value) -> String {
    crate::kubeapi::path(object)
}

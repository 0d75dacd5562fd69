//! Changes to a real cluster: what is applied, restarted and deleted, and what a refusal says.

use mainstay::cluster::config::Source;
use mainstay::cluster::pods::{Hands, Refusal};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::control_plane::ControlPlane;
use crate::kubeapi::{Kubeapi, documents};
use crate::skip::skip;

/// A Namespace with what a drill has in it. The ServiceAccount may list Pods and read Deployments.
const OBJECTS: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: weak, namespace: shop}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: weak, namespace: shop}
rules: [{apiGroups: [''], resources: [pods], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: weak, namespace: shop}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: weak}
subjects: [{kind: ServiceAccount, name: weak, namespace: shop}]
";

/// The cluster, and who changes it.
struct World {
    plane: ControlPlane,
    api: Kubeapi,
    runtime: Runtime,
    hands: Hands,
}

impl World {
    fn start(plane: ControlPlane) -> Self {
        let api = plane.admin();
        documents(OBJECTS).iter().for_each(|object| drop(api.apply(object)));
        let runtime = Runtime::new().unwrap();
        let hands = open(&runtime, plane.admin_kubeconfig());
        Self { plane, api, runtime, hands }
    }

    fn apply(&self, object: &Value) {
        self.runtime.block_on(self.hands.apply(object)).unwrap();
    }

    fn read(&self, object: &Value) -> Option<Value> {
        self.runtime.block_on(self.hands.read(object)).unwrap()
    }

    fn delete(&self, object: &Value) {
        self.runtime.block_on(self.hands.delete(object)).unwrap();
    }

    fn delete_pods(&self, selector: &str) -> Result<usize, Refusal> {
        self.runtime.block_on(self.hands.delete_pods("shop", selector))
    }

    fn restart(&self, kind: &str, name: &str) -> Result<(), Refusal> {
        self.runtime.block_on(self.hands.restart("shop", kind, name))
    }
}

fn open(runtime: &Runtime, path: std::path::PathBuf) -> Hands {
    let source = Source::Kubeconfig { path, context: None };
    runtime.block_on(Hands::open(&source)).unwrap()
}

fn template() -> Value {
    let containers = json!([{ "name": "c", "image": "registry.example/c" }]);
    json!({ "metadata": { "labels": { "app": "web" } }, "spec": { "containers": containers } })
}

fn pod(name: &str) -> Value {
    let mut pod = template();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = name.into();
    pod["metadata"]["namespace"] = "shop".into();
    pod
}

fn workload(kind: &str) -> Value {
    let selector = json!({ "matchLabels": { "app": "web" } });
    json!({
        "apiVersion": "apps/v1", "kind": kind,
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "selector": selector, "template": template() },
    })
}

fn service(ports: &[u16]) -> Value {
    let port = |port: &u16| json!({ "name": format!("p{port}"), "port": port });
    let ports: Vec<Value> = ports.iter().map(port).collect();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "namespace": "shop" },
        "spec": { "clusterIP": "None", "ports": ports },
    })
}

fn slice(addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> =
        addresses.iter().map(|address| json!({ "addresses": [address] })).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": "web-1", "namespace": "shop",
            "labels": { "kubernetes.io/service-name": "web" } },
        "endpoints": endpoints,
    })
}

#[test]
fn a_cluster_is_changed_as_told_and_refusals_say_what_is_missing() {
    let plane = match ControlPlane::without_controllers() {
        Ok(plane) => plane,
        Err(why) => return skip(&why),
    };
    let mut world = World::start(plane);
    objects_come_change_and_go(&world);
    pods_of_a_selector_are_deleted_and_no_other(&world);
    workloads_are_restarted(&world);
    missing_rights_are_named(&world);
    an_api_server_that_is_away_is_told(&mut world);
}

fn objects_come_change_and_go(world: &World) {
    for object in [service(&[80]), slice(&["10.0.0.1", "10.0.0.2"])] {
        assert_eq!(world.read(&object), None);
        world.apply(&object);
    }
    world.apply(&service(&[80, 443]));
    let ports = world.read(&service(&[])).unwrap()["spec"]["ports"].as_array().unwrap().len();
    assert_eq!(ports, 2);
    world.apply(&slice(&[]));
    assert_eq!(world.read(&slice(&[])).unwrap()["endpoints"].as_array().map_or(0, Vec::len), 0);
    // Deleting twice is no error: somebody else may have been faster.
    for object in [service(&[]), slice(&[]), service(&[])] {
        world.delete(&object);
        assert_eq!(world.read(&object), None);
    }
}

fn pods_of_a_selector_are_deleted_and_no_other(world: &World) {
    ["web-1", "web-2", "other"].iter().for_each(|name| world.apply(&pod(name)));
    let mut other = pod("other");
    other["metadata"]["labels"]["app"] = "other".into();
    world.apply(&other);
    assert_eq!(world.delete_pods("app in (web),!gone").unwrap(), 2);
    assert!(world.read(&pod("other")).is_some());
    assert_eq!(world.read(&pod("web-1")), None);
    let error = world.delete_pods("app=web").unwrap_err().to_string();
    assert_eq!(error, "no Pod in shop has app=web");
}

fn workloads_are_restarted(world: &World) {
    for kind in ["Deployment", "DaemonSet", "StatefulSet"] {
        world.apply(&workload(kind));
        world.restart(&kind.to_lowercase(), "web").unwrap();
        let found = world.read(&workload(kind)).unwrap();
        let annotations = &found["spec"]["template"]["metadata"]["annotations"];
        let at = annotations["kubectl.kubernetes.io/restartedAt"].as_str().unwrap();
        assert!(at.ends_with('Z') && at.len() == 20, "{at}");
        assert_eq!(found["metadata"]["generation"], 2);
    }
    let error = world.restart("deployment", "gone").unwrap_err().to_string();
    assert_eq!(error, "deployments/shop/gone is not there; check namespace and name");
}

fn missing_rights_are_named(world: &World) {
    world.apply(&pod("web-1"));
    let token = world.api.token("shop", "weak");
    let weak = open(&world.runtime, world.plane.kubeconfig("weak", &token));
    let error = world.runtime.block_on(weak.delete_pods("shop", "app=web")).unwrap_err();
    let error = error.to_string();
    assert!(error.ends_with("grant the verb delete on pods"), "{error}");
    let error = world.runtime.block_on(weak.delete_pods("default", "app=web")).unwrap_err();
    assert!(error.to_string().ends_with("grant the verb list on pods"), "{error}");
    let error = world.runtime.block_on(weak.restart("shop", "deployment", "web")).unwrap_err();
    assert!(error.to_string().ends_with("grant the verb patch on deployments"), "{error}");
    let stranger = open(&world.runtime, world.plane.kubeconfig("stranger", "wrong"));
    let error = world.runtime.block_on(stranger.restart("shop", "deployment", "web")).unwrap_err();
    assert!(error.to_string().contains("does not accept our credentials; renew"), "{error}");
}

fn an_api_server_that_is_away_is_told(world: &mut World) {
    world.plane.kill_api_server();
    let error = world.restart("deployment", "web").unwrap_err().to_string();
    assert!(error.starts_with("the API server cannot be reached: "), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

//! What `deploy/kustomize/base` brings is enough, and its Deployment fits the program.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::asker::eventually;
use crate::control_plane::ControlPlane;
use crate::kubeapi::{self, Kubeapi};
use crate::server::{Ports, Server};
use crate::upstream::LoopbackUpstream;
use crate::{World, measured};

const NAMESPACE: &str = "kube-system";

/// Applies the base, and starts a server with its rights and its arguments.
pub fn first_server(plane: ControlPlane) -> World {
    let api = plane.admin();
    eventually(|| api.read("/api/v1/namespaces/kube-system").map_or(Err("it".into()), |_| Ok(())));
    let deployment = apply_base(&api);
    let kubeconfig = plane.kubeconfig("mainstay", &api.token(NAMESPACE, "coredns"));
    check_rights(&Kubeapi::new(&kubeconfig));
    api.apply_all(include_str!("objects.yaml"));

    let runtime = Runtime::new().unwrap();
    let upstream = runtime.block_on(LoopbackUpstream::honest());
    let ports = Ports::free();
    let source = format!("kubeconfig {}", kubeconfig.display());
    let corefile = ports.kubeadm(&source, &upstream.address.to_string());
    let arguments = |path: &Path| arguments(&deployment, path);
    let live = Server::start_with("mainstay", ports, &corefile, arguments);
    let took = eventually(|| match live.ready() {
        200 => Ok(()),
        status => Err(format!("/ready is {status}")),
    });
    measured("start to ready", took);
    assert_eq!(live.complaints(), [""; 0], "the rights are enough");
    assert_eq!(live.health(), 200);
    World { live, api, plane, upstream, kubeconfig, _runtime: runtime }
}

/// Applies the resources of the base as kustomize would; answers the Deployment as it is kept.
fn apply_base(api: &Kubeapi) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kustomize/base");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let kustomization = kubeapi::documents(&read("kustomization.yaml")).remove(0);
    assert_eq!(kustomization["namespace"], NAMESPACE);
    let mut deployment = Value::Null;
    for file in kustomization["resources"].as_array().unwrap() {
        for mut object in kubeapi::documents(&read(file.as_str().unwrap())) {
            let kind = object["kind"].as_str().unwrap().to_owned();
            if !kind.starts_with("Cluster") {
                object["metadata"]["namespace"] = json!(NAMESPACE);
            }
            let kept = api.apply(&object);
            if kind == "Deployment" {
                deployment = kept;
            }
        }
    }
    assert!(deployment.is_object(), "the base has a Deployment");
    deployment
}

/// The arguments of the container, with the folder that it mounts replaced by that of `corefile`.
fn arguments(deployment: &Value, corefile: &Path) -> Vec<PathBuf> {
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let mount = container["volumeMounts"][0]["mountPath"].as_str().unwrap();
    let here = corefile.parent().unwrap().to_str().unwrap();
    let words = container["args"].as_array().unwrap().iter();
    let words = words.map(|word| word.as_str().unwrap().replace(mount, here).into());
    let words: Vec<PathBuf> = words.collect();
    assert!(words.iter().any(|word| word == corefile), "{words:?} name the Corefile");
    words
}

/// What is granted arrives moments later, and nothing else is granted.
fn check_rights(ours: &Kubeapi) {
    let granted =
        ["/api/v1/services", "/api/v1/namespaces", "/apis/discovery.k8s.io/v1/endpointslices"];
    for path in granted {
        eventually(|| ours.read(path).map(drop).map_err(|refusal| format!("{path}: {refusal:?}")));
    }
    for path in ["/api/v1/pods", "/api/v1/secrets", "/api/v1/nodes", "/api/v1/configmaps"] {
        assert!(kubeapi::is_forbidden(&ours.read(path)), "{path}");
    }
}

//! What the manifests in `deploy/` promise: a change in place of CoreDNS, with the least rights.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The longest `lameduck` of the Corefiles that clusters ship with (OpenShift), in seconds.
const LAMEDUCK_S_MAX: u64 = 20;
/// Then we finish what is in flight, in seconds.
const DRAIN_S_MAX: u64 = mainstay::app::DRAIN_MAX.as_secs();

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

/// Every YAML file below `folder`.
fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let is_yaml = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "yaml");
    let below = folders.iter().flat_map(|folder| yaml_files(folder));
    files.into_iter().filter(is_yaml).chain(below).collect()
}

/// The documents of one file.
fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// The objects of the base.
fn base() -> Vec<Value> {
    let folder = deploy().join("kustomize/base");
    let kustomization = documents(&folder.join("kustomization.yaml")).remove(0);
    let resources = kustomization["resources"].as_array().unwrap().clone();
    resources.iter().flat_map(|name| documents(&folder.join(name.as_str().unwrap()))).collect()
}

/// The only object of `kind` in the base.
fn only(kind: &str) -> Value {
    let mut found: Vec<_> = base().into_iter().filter(|object| object["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}");
    found.remove(0)
}

/// The Pod that the Deployment makes.
fn pod() -> Value {
    only("Deployment")["spec"]["template"].clone()
}

/// Its only container.
fn container() -> Value {
    let containers = pod()["spec"]["containers"].as_array().unwrap().clone();
    assert_eq!(containers.len(), 1);
    containers[0].clone()
}

#[test]
fn every_yaml_file_parses_and_names_what_it_is() {
    let files = yaml_files(&deploy());
    assert!(!files.is_empty());
    for path in files {
        for document in documents(&path) {
            for field in ["apiVersion", "kind"] {
                assert!(document[field].is_string(), "{path:?} has no {field}");
            }
        }
    }
}

#[test]
fn base_holds_every_file_of_its_folder() {
    let folder = deploy().join("kustomize/base");
    let listed = documents(&folder.join("kustomization.yaml"))[0]["resources"].clone();
    let mut names: Vec<_> = yaml_files(&folder)
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .filter(|name| name != "kustomization.yaml")
        .collect();
    names.sort();
    let mut listed: Vec<String> = serde_json::from_value(listed).unwrap();
    listed.sort();
    assert_eq!(names, listed);
}

/// The address of the Service is in every kubelet, and the Corefile is the operator's.
#[test]
fn base_leaves_service_and_corefile_alone() {
    let mut kinds: Vec<_> = base().iter().map(|object| object["kind"].to_string()).collect();
    kinds.sort();
    assert_eq!(
        kinds,
        [
            "\"ClusterRole\"",
            "\"ClusterRoleBinding\"",
            "\"Deployment\"",
            "\"PodDisruptionBudget\"",
            "\"ServiceAccount\""
        ]
    );
}

#[test]
fn deployment_takes_the_place_of_coredns() {
    let deployment = only("Deployment");
    assert_eq!(deployment["metadata"]["name"], "coredns");
    assert_eq!(deployment["metadata"]["labels"]["k8s-app"], "kube-dns");
    let selector = json!({ "matchLabels": { "k8s-app": "kube-dns" } });
    assert_eq!(deployment["spec"]["selector"], selector);
    assert_eq!(only("PodDisruptionBudget")["spec"]["selector"], selector);
    assert_eq!(pod()["metadata"]["labels"]["k8s-app"], "kube-dns");
    assert_eq!(pod()["spec"]["serviceAccountName"], "coredns");
    assert_eq!(container()["name"], "coredns");
    assert_eq!(container()["args"], json!(["-conf", "/etc/coredns/Corefile"]));
    assert_eq!(pod()["spec"]["volumes"][0]["configMap"], json!({ "name": "coredns" }));
}

#[test]
fn rollout_never_takes_a_ready_pod_away_before_its_successor_is_ready() {
    let spec = only("Deployment")["spec"].clone();
    let expected = json!({ "maxUnavailable": 0, "maxSurge": 1 });
    assert_eq!(spec["strategy"]["rollingUpdate"], expected);
    assert!(spec["replicas"].is_null(), "an autoscaler owns the number of replicas");
}

#[test]
fn ports_and_probes_are_those_of_coredns() {
    let port =
        |name, port, protocol| json!({ "name": name, "containerPort": port, "protocol": protocol });
    let ports =
        json!([port("dns", 53, "UDP"), port("dns-tcp", 53, "TCP"), port("metrics", 9153, "TCP")]);
    assert_eq!(container()["ports"], ports);
    let get = |path, port| json!({ "path": path, "port": port, "scheme": "HTTP" });
    assert_eq!(container()["livenessProbe"]["httpGet"], get("/health", 8080));
    assert_eq!(container()["readinessProbe"]["httpGet"], get("/ready", 8181));
}

#[test]
fn rights_are_list_and_watch_of_what_has_a_name() {
    let rules = only("ClusterRole")["rules"].clone();
    let verbs = json!(["list", "watch"]);
    let core =
        json!({ "apiGroups": [""], "resources": ["namespaces", "services"], "verbs": verbs });
    let slices = json!({
        "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": verbs
    });
    assert_eq!(rules, json!([core, slices]));
    let binding = only("ClusterRoleBinding");
    assert_eq!(binding["roleRef"]["name"], only("ClusterRole")["metadata"]["name"]);
    assert_eq!(binding["subjects"][0]["name"], only("ServiceAccount")["metadata"]["name"]);
    assert_eq!(binding["subjects"].as_array().unwrap().len(), 1);
}

/// What an option of the Corefile reads besides is in a component of its own.
#[test]
fn components_add_one_right_to_read_each() {
    for (component, group, resource) in
        [("pods-verified", "", "pods"), ("multicluster", "multicluster.x-k8s.io", "serviceimports")]
    {
        let folder = deploy().join("kustomize/components").join(component);
        let kustomization = documents(&folder.join("kustomization.yaml")).remove(0);
        assert_eq!(kustomization["kind"], "Component");
        assert_eq!(kustomization["resources"], json!(["rbac.yaml"]));
        let objects = documents(&folder.join("rbac.yaml"));
        let [role, binding] = &objects[..] else { panic!("{component}: {objects:?}") };
        let verbs = json!(["list", "watch"]);
        let rule = json!({ "apiGroups": [group], "resources": [resource], "verbs": verbs });
        assert_eq!(role["rules"], json!([rule]));
        assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
        assert_eq!(binding["subjects"], only("ClusterRoleBinding")["subjects"]);
    }
}

#[test]
fn container_can_bind_port_53_and_nothing_more() {
    let expected = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"], "add": ["NET_BIND_SERVICE"] }
    });
    assert_eq!(container()["securityContext"], expected);
    let pod = pod()["spec"]["securityContext"].clone();
    assert_eq!(pod["runAsNonRoot"], true);
    assert_eq!(pod["runAsUser"], 65532);
    assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault");
}

#[test]
fn pod_has_time_for_lameduck_and_drain() {
    let grace = pod()["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace > LAMEDUCK_S_MAX + DRAIN_S_MAX, "{grace} s");
}

#[test]
fn pod_does_not_resolve_through_itself_and_is_not_evicted_first() {
    assert_eq!(pod()["spec"]["dnsPolicy"], "Default");
    assert_eq!(pod()["spec"]["priorityClassName"], "system-cluster-critical");
}

#[test]
fn pods_spread_over_hosts_and_zones_but_run_on_one_node_too() {
    let constraints = pod()["spec"]["topologySpreadConstraints"].as_array().unwrap().clone();
    let keys: Vec<_> = constraints.iter().map(|one| one["topologyKey"].as_str().unwrap()).collect();
    assert_eq!(keys, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]);
    assert!(constraints.iter().all(|one| one["whenUnsatisfiable"] == "ScheduleAnyway"));
}

#[test]
fn image_runs_as_the_user_of_the_manifest_and_answers_to_both_names() {
    let text = fs::read_to_string(deploy().join("Containerfile")).unwrap();
    let user = pod()["spec"]["securityContext"]["runAsUser"].to_string();
    assert!(text.contains(&format!("\nUSER {user}:{user}\n")));
    assert!(text.contains("\nENTRYPOINT [\"/mainstay\"]\n"));
    assert!(text.contains("ln -s mainstay /image/coredns"));
}

#[test]
fn image_is_named_once_and_has_a_version() {
    let file = deploy().join("kustomize/base/kustomization.yaml");
    let image = documents(&file)[0]["images"][0].clone();
    assert_eq!(image["name"], container()["image"]);
    assert!(image["newTag"].as_str().unwrap().starts_with('v'));
}

#[test]
fn the_image_is_built_from_all_that_cargo_looks_for() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/.containerignore");
    let ignored = std::fs::read_to_string(path).unwrap();
    let ignored: Vec<&str> = ignored.lines().filter(|line| !line.starts_with('#')).collect();
    // Cargo refuses a manifest whose declared targets are not there, even if it builds another.
    for folder in ["src", "tests", "benches", "Cargo.toml", "Cargo.lock"] {
        assert!(!ignored.contains(&folder), "{folder} is left out of the image's context");
    }
}

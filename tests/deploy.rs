//! What the manifests in `deploy/` promise: a change in place of CoreDNS, with the least rights.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use mainstay::load::arguments::{LoadArguments, RunArguments};
use mainstay::load::place::{canary, coordinator};
use serde_json::{Value, json};

/// The longest `lameduck` of the Corefiles that clusters ship with (OpenShift), in seconds. We go
/// on for as long while somebody asks.
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
fn a_restart_finds_its_sockets_and_its_state() {
    let text = fs::read_to_string(deploy().join("Containerfile")).unwrap();
    assert!(text.contains("\nENV MAINSTAY_SUPERVISED=1\n"));
    let mounts = container()["volumeMounts"].as_array().unwrap().clone();
    let state = mounts.iter().find(|it| it["mountPath"] == "/var/lib/mainstay").unwrap().clone();
    assert!(state["readOnly"].is_null());
    let volumes = pod()["spec"]["volumes"].as_array().unwrap().clone();
    let volume = volumes.iter().find(|it| it["name"] == state["name"]).unwrap();
    assert!(volume["emptyDir"].is_object(), "{volume}");
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

/// The loads that a kustomization of their own makes.
const LOADS: &[&str] = &["job", "indexed-job", "canary"];

/// The objects of one load, without those of the base.
fn load(name: &str) -> Vec<Value> {
    let folder = deploy().join("load").join(name);
    let kustomization = documents(&folder.join("kustomization.yaml")).remove(0);
    let resources = kustomization["resources"].as_array().unwrap().clone();
    let files = resources.iter().map(|file| file.as_str().unwrap()).filter(|it| *it != "../base");
    files.flat_map(|file| documents(&folder.join(file))).collect()
}

/// What runs it: a Job or a Deployment.
fn workload(name: &str) -> Value {
    load(name).into_iter().find(|object| object["spec"]["template"].is_object()).unwrap()
}

/// Its command line, read as the program reads it.
fn command_line(name: &str) -> RunArguments {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        load: LoadArguments,
    }
    let container = workload(name)["spec"]["template"]["spec"]["containers"][0].clone();
    let args: Vec<String> = serde_json::from_value(container["args"].clone()).unwrap();
    assert_eq!(args[0], "load");
    *Line::try_parse_from(args).unwrap_or_else(|error| panic!("{name}: {error}")).load.run
}

#[test]
fn every_load_is_the_base_and_files_of_its_folder() {
    for name in LOADS {
        let folder = deploy().join("load").join(name);
        let kustomization = documents(&folder.join("kustomization.yaml")).remove(0);
        let mut listed: Vec<String> =
            serde_json::from_value(kustomization["resources"].clone()).unwrap();
        assert_eq!(listed.remove(0), "../base");
        let is_resource = |name: &String| name != "kustomization.yaml" && !name.contains("example");
        let names = yaml_files(&folder).into_iter();
        let mut names: Vec<_> =
            names.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        names.retain(is_resource);
        names.sort();
        listed.sort();
        assert_eq!(names, listed);
        let image = &documents(&deploy().join("kustomize/base/kustomization.yaml"))[0]["images"];
        assert_eq!(kustomization["images"], *image, "{name}");
    }
}

#[test]
fn loads_ask_the_dns_of_the_cluster_as_its_pods_do() {
    for name in LOADS {
        let run = command_line(name);
        assert!(run.servers.is_empty() && run.cluster, "{name}");
        assert_eq!(run.resolv_conf.unwrap(), Path::new("/etc/resolv.conf"));
        let pod = workload(name)["spec"]["template"]["spec"].clone();
        assert_eq!(workload(name)["metadata"]["namespace"], run.namespace);
        assert!(pod["dnsPolicy"].is_null(), "{name}: ClusterFirst is what applications have");
        assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
        assert!(pod["containers"][0]["resources"]["limits"]["memory"].is_string());
    }
}

#[test]
fn loads_run_with_no_more_than_the_server_does() {
    for name in LOADS {
        let spec = workload(name)["spec"]["template"]["spec"].clone();
        assert_eq!(spec["securityContext"], pod()["spec"]["securityContext"], "{name}");
        let own = spec["containers"][0].clone();
        assert_eq!(own["securityContext"], container()["securityContext"], "{name}");
        assert_eq!(spec["serviceAccountName"], "mainstay-load");
    }
}

#[test]
fn loads_may_read_what_has_a_name_and_break_only_what_a_component_allows() {
    let base = documents(&deploy().join("load/base/rbac.yaml"));
    let [account, role, binding] = &base[..] else { panic!("{base:?}") };
    assert_eq!(role["rules"], only("ClusterRole")["rules"]);
    let subject = json!([{
        "kind": "ServiceAccount", "name": account["metadata"]["name"],
        "namespace": account["metadata"]["namespace"]
    }]);
    assert_eq!(binding["subjects"], subject);
    let folder = deploy().join("load/faults");
    assert_eq!(documents(&folder.join("kustomization.yaml"))[0]["kind"], "Component");
    let faults = documents(&folder.join("rbac.yaml"));
    let [role, binding] = &faults[..] else { panic!("{faults:?}") };
    let rules = json!([
        { "apiGroups": [""], "resources": ["pods"], "verbs": ["list", "delete"] },
        { "apiGroups": ["apps"], "resources": ["deployments", "daemonsets"], "verbs": ["patch"] },
    ]);
    // A Role, not a ClusterRole: nothing outside of the namespace of the DNS.
    assert_eq!((&role["kind"], &role["rules"]), (&json!("Role"), &rules));
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    assert_eq!(binding["subjects"], subject);
}

#[test]
fn jobs_end_by_themselves_and_load_once() {
    for name in ["job", "indexed-job"] {
        let job = workload(name)["spec"].clone();
        assert_eq!(job["backoffLimit"], 0);
        assert_eq!(job["template"]["spec"]["restartPolicy"], "Never");
        let deadline_s = job["activeDeadlineSeconds"].as_u64().unwrap();
        let minutes = command_line(name).duration;
        let run_s = 60 * minutes.strip_suffix('m').unwrap().parse::<u64>().unwrap();
        // Workers wait for each other, and worker 0 for their reports.
        let waits = coordinator::JOIN_TIME_MAX + coordinator::REPORT_TIME_MAX;
        assert!(deadline_s > run_s + waits.as_secs(), "{name}");
        assert!(command_line(name).slo.is_some(), "{name}: nothing decides whether it failed");
    }
}

#[test]
fn workers_of_the_indexed_job_find_the_first() {
    let run = command_line("indexed-job");
    let settings = coordinator::Settings::new(&run).unwrap().unwrap();
    let job = workload("indexed-job");
    let pod = &job["spec"]["template"];
    assert_eq!(job["spec"]["completionMode"], "Indexed");
    assert_eq!(job["spec"]["completions"], settings.workers);
    assert_eq!(job["spec"]["parallelism"], settings.workers);
    let service =
        load("indexed-job").into_iter().find(|object| object["kind"] == "Service").unwrap();
    assert_eq!(service["spec"]["clusterIP"], "None");
    assert_eq!(service["spec"]["publishNotReadyAddresses"], true);
    assert_eq!(service["spec"]["selector"], pod["metadata"]["labels"]);
    assert_eq!(service["metadata"]["name"], pod["spec"]["subdomain"]);
    let (job, service) = (&job["metadata"]["name"], &service["metadata"]["name"]);
    let host = format!("{}-0.{}", job.as_str().unwrap(), service.as_str().unwrap());
    assert_eq!(settings.host, host);
    assert_eq!(pod["spec"]["containers"][0]["ports"][0]["containerPort"], settings.port);
}

#[test]
fn the_canary_is_slow_and_is_scraped_where_it_listens() {
    let canary = canary::Canary::new(&command_line("canary")).unwrap().unwrap();
    assert_eq!(canary.rate, 5.0);
    let container = workload("canary")["spec"]["template"]["spec"]["containers"][0].clone();
    assert_eq!(container["ports"][0]["containerPort"], canary.metrics.port());
    let probe = json!({ "path": "/healthz", "port": canary.metrics.port(), "scheme": "HTTP" });
    assert_eq!(container["livenessProbe"]["httpGet"], probe);
    let alerts = documents(&deploy().join("load/canary/alerts.example.yaml"));
    let [monitor, rules] = &alerts[..] else { panic!("{alerts:?}") };
    let labels = &workload("canary")["spec"]["selector"]["matchLabels"];
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], *labels);
    assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["port"], container["ports"][0]["name"]);
    for rule in rules["spec"]["groups"][0]["rules"].as_array().unwrap() {
        assert!(rule["expr"].as_str().unwrap().contains("mainstay_load_"), "{rule}");
    }
}

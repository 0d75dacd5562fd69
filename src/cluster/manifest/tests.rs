//! Manifests as files and as text: what is read, what is refused, and what a change brings.

use std::fs;

use tempfile::TempDir;
use tokio::sync::mpsc::{Receiver, channel};

use super::text::parse;
use super::*;
use crate::cluster::object::{Change, ObjectKey, Role};
use crate::cluster::selector::Selector;

const WEB: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}
";

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn manifests(folder: &TempDir) -> Manifests {
    let feed = Arc::new(Feed::new(Instant::now(), &Scope::default()));
    Manifests::new(vec![folder.path().to_owned()], Scope::default(), feed)
}

/// Namespace and name of each Service and slice.
fn names(objects: &[Object]) -> Vec<String> {
    let name = |object: &Object| {
        let ObjectKey { namespace, name } = object.key();
        if namespace.is_empty() { name.into() } else { format!("{namespace}/{name}") }
    };
    objects.iter().map(name).collect()
}

fn parse_yaml(text: &str) -> text::Parsed {
    parse(Path::new("a.yaml"), text, &Scope::default()).unwrap()
}

#[test]
fn all_documents_and_lists_of_a_text_are_read() {
    let text = format!(
        "# comment\n---\n{WEB}---\n---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: empty}}\n---
apiVersion: v1
kind: List
items:
- {{apiVersion: v1, kind: Service, metadata: {{name: api}}, spec: {{clusterIP: None}}}}
- apiVersion: v1
  kind: ServiceList
  items:
  - metadata: {{name: db, namespace: data}}
    spec: {{type: ExternalName, externalName: db.example}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, namespace: shop, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
endpoints: [{{addresses: [10.1.0.1, 127.0.0.1]}}]
"
    );
    let parsed = parse_yaml(&text);
    assert_eq!(
        names(&parsed.objects),
        ["shop/web", "empty", "default/api", "data/db", "shop/web-1"]
    );
    assert_eq!((parsed.flaws.len(), parsed.dropped), (0, 1));
}

#[test]
fn yaml_none_is_headless_and_json_reads_the_same() {
    let yaml = "{kind: Service, metadata: {name: a}, spec: {clusterIP: None}}";
    let json = r#"{"kind":"Service","metadata":{"name":"a"},"spec":{"clusterIP":"None"}}"#;
    let from_json = parse(Path::new("a.json"), json, &Scope::default()).unwrap();
    assert_eq!(parse_yaml(yaml).objects, from_json.objects);
    let Object::Service(service) = &from_json.objects[0] else { panic!() };
    assert_eq!(service.role, Role::Headless);
}

#[test]
fn endpoints_are_read_as_slices_beside_the_others() {
    let text = "
kind: Endpoints
metadata: {name: web, namespace: shop}
subsets: [{addresses: [{ip: 10.1.0.1}, {ip: 127.0.0.1}], ports: [{port: 80}]}]
---
kind: EndpointsList
items: [{metadata: {name: api}}]
---
kind: EndpointSlice
metadata: {name: web, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
";
    let parsed = parse_yaml(text);
    assert_eq!(
        names(&parsed.objects),
        ["shop/web/Endpoints", "default/api/Endpoints", "shop/web"],
        "none replaces the other"
    );
    assert_eq!((parsed.flaws.len(), parsed.dropped), (0, 1));
    let Object::Slice(slice) = &parsed.objects[0] else { panic!() };
    assert_eq!((slice.service.as_deref(), slice.parts[0].endpoints.len()), (Some("web"), 1));
}

#[test]
fn selectors_are_applied_as_an_api_server_would() {
    let text = "
{kind: Namespace, metadata: {name: a, labels: {team: x}}}
---
{kind: Namespace, metadata: {name: b}}
---
{kind: Service, metadata: {name: kept, labels: {app: web}}, spec: {}}
---
{kind: Service, metadata: {name: dropped, labels: {app: db}}, spec: {}}
---
{kind: Service, metadata: {name: odd, labels: {app: 7}}, spec: {}}
---
{kind: Endpoints, metadata: {name: bare}}
---
{kind: Endpoints, metadata: {name: ready, labels: {app: web}}}
";
    let selector = |text| Some(Selector::parse(text).unwrap());
    let select = |labels, namespace_labels| {
        let scope = Scope { labels, namespace_labels, ..Scope::default() };
        names(&parse(Path::new("a.yaml"), text, &scope).unwrap().objects)
    };
    assert_eq!(
        select(selector("app=web"), selector("team")),
        ["a", "default/kept", "default/ready/Endpoints"]
    );
    assert_eq!(
        select(selector("!app"), selector("!team")),
        ["b", "default/odd", "default/bare/Endpoints"]
    );
    assert_eq!(select(None, None).len(), 7);
}

#[test]
fn other_kinds_are_passed_by() {
    let texts = [
        "{kind: Pod, apiVersion: v1, metadata: {name: a}}",
        "{kind: Service, apiVersion: serving.knative.dev/v1, metadata: {name: a}}",
        "{kind: 7}",
        "just text",
        "[1, 2]",
        "",
        "{kind: List}",
        "{kind: List, items: 7}",
    ];
    for text in texts {
        let parsed = parse_yaml(text);
        assert!(parsed.objects.is_empty() && parsed.flaws.is_empty(), "{text}");
    }
}

#[test]
fn a_broken_text_tells_its_line() {
    let broken =
        parse(Path::new("a.yaml"), &format!("{WEB}---\nkind: [\n"), &Scope::default()).unwrap_err();
    assert!(broken.line.is_some_and(|line| line >= 6), "{broken:?}");
    let broken = parse(Path::new("a.json"), "{\n\"kind\": \n", &Scope::default()).unwrap_err();
    assert_eq!(broken.line, Some(3), "{broken:?}");
}

#[test]
fn aliases_do_not_explode() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(9);
        text += &format!("a{level}: &a{level} [{before}]\n");
    }
    assert!(parse(Path::new("a.yaml"), &text, &Scope::default()).is_err());
}

#[test]
fn a_change_of_a_file_is_noticed_and_nothing_else_is() {
    let folder = folder(&[("a.yaml", WEB), ("sub/b.yml", ""), ("notes.txt", WEB)]);
    let mut manifests = manifests(&folder);
    assert_eq!(names(&manifests.poll().unwrap()), ["shop/web"]);
    assert_eq!(manifests.poll(), None);
    fs::write(folder.path().join("a.yaml"), format!("{WEB}# comment\n")).unwrap();
    assert_eq!(settled(&mut manifests), None);
    fs::write(folder.path().join("sub/b.yml"), WEB.replace("web", "api")).unwrap();
    assert_eq!(names(&settled(&mut manifests).unwrap()), ["shop/web", "shop/api"]);
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    assert_eq!(names(&manifests.poll().unwrap()), ["shop/api"]);
}

#[test]
fn a_file_swapped_for_one_of_the_same_length_is_noticed() {
    let folder = folder(&[("a.yaml", WEB)]);
    let mut manifests = manifests(&folder);
    manifests.poll();
    let beside = folder.path().join(".new");
    fs::write(&beside, WEB.replace("web", "api")).unwrap();
    fs::rename(&beside, folder.path().join("a.yaml")).unwrap();
    assert_eq!(names(&settled(&mut manifests).unwrap()), ["shop/api"]);
}

#[test]
fn a_broken_file_keeps_its_last_good_objects() {
    let folder = folder(&[("a.yaml", WEB), ("b.yaml", "")]);
    let mut manifests = manifests(&folder);
    manifests.poll();
    fs::write(folder.path().join("a.yaml"), "kind: Service\n  metadata: {").unwrap();
    assert_eq!(settled(&mut manifests), None);
    fs::write(folder.path().join("b.yaml"), WEB.replace("web", "api")).unwrap();
    assert_eq!(names(&settled(&mut manifests).unwrap()), ["shop/web", "shop/api"]);
    assert_eq!(manifests.feed.kind(Kind::Service).errors(Fault::Garbage), 1);
    fs::write(folder.path().join("a.yaml"), WEB.replace("web", "new")).unwrap();
    assert_eq!(names(&settled(&mut manifests).unwrap()), ["shop/new", "shop/api"]);
}

#[test]
fn a_dump_that_is_being_written_over_empties_nothing() {
    let folder = folder(&[("a.yaml", WEB)]);
    let mut manifests = manifests(&folder);
    manifests.poll();
    let path = folder.path().join("a.yaml");
    fs::write(&path, "").unwrap();
    assert_eq!(settled(&mut manifests), None, "emptied, and not yet written");
    fs::write(&path, "---\n").unwrap();
    assert_eq!(manifests.poll(), None, "half-written");
    fs::write(&path, format!("{WEB}---\n{}", WEB.replace("web", "api"))).unwrap();
    assert_eq!(names(&settled(&mut manifests).unwrap()), ["shop/web", "shop/api"]);
}

/// Looks twice: a file that has changed counts when it has stayed for a look.
fn settled(manifests: &mut Manifests) -> Option<Vec<Object>> {
    assert_eq!(manifests.poll(), None);
    manifests.poll()
}

#[test]
fn a_path_that_is_not_there_yet_is_looked_for_and_one_that_goes_keeps_its_objects() {
    let folder = TempDir::new().unwrap();
    let late = folder.path().join("late");
    let feed = Arc::new(Feed::new(Instant::now(), &Scope::default()));
    let mut manifests = Manifests::new(vec![late.clone()], Scope::default(), feed);
    assert_eq!(manifests.poll(), Some(Vec::new()));
    assert_eq!(manifests.feed.heard_at(Kind::Service), None);
    fs::create_dir(&late).unwrap();
    fs::write(late.join("a.yaml"), WEB).unwrap();
    assert_eq!(names(&manifests.poll().unwrap()), ["shop/web"]);
    assert!(manifests.feed.heard_at(Kind::Service).is_some());
    fs::rename(&late, folder.path().join("away")).unwrap();
    assert_eq!(manifests.poll(), None);
    assert_eq!(names(&manifests.collect()), ["shop/web"]);
}

#[test]
fn a_mounted_config_map_is_read_once() {
    let folder = folder(&[("..2026/a.yaml", WEB)]);
    std::os::unix::fs::symlink("..2026", folder.path().join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/a.yaml", folder.path().join("a.yaml")).unwrap();
    assert_eq!(names(&manifests(&folder).poll().unwrap()), ["shop/web"]);
}

#[test]
fn folders_that_link_to_themselves_end() {
    let folder = folder(&[("a.yaml", WEB)]);
    std::os::unix::fs::symlink(".", folder.path().join("self")).unwrap();
    let objects = manifests(&folder).poll().unwrap();
    assert!(names(&objects).iter().all(|name| name == "shop/web"));
}

#[test]
fn a_flawed_object_costs_only_itself() {
    let folder = folder(&[("a.yaml", &format!("{WEB}---\n{}", WEB.replace("web", "Web")))]);
    let mut manifests = manifests(&folder);
    assert_eq!(names(&manifests.poll().unwrap()), ["shop/web"]);
    assert_eq!(manifests.feed.kind(Kind::Service).skipped.value(), 1);
}

async fn drain(changes: &mut Receiver<Change>) -> Vec<Change> {
    let mut got = Vec::new();
    while got.last() != Some(&Change::ListEnd(Kind::Slice)) {
        got.push(changes.recv().await.unwrap());
    }
    got
}

fn listed(names: &[&str]) -> Vec<Change> {
    let parsed = names.iter().flat_map(|name| parse_yaml(&WEB.replace("web", name)).objects);
    let services: Vec<_> = parsed.map(Change::Apply).collect();
    let namespace = (!names.is_empty()).then(|| Change::Apply(Object::Namespace("shop".into())));
    let mut all = vec![Change::ListBegin(Kind::Namespace)];
    all.extend(namespace);
    all.extend([Change::ListEnd(Kind::Namespace), Change::ListBegin(Kind::Service)]);
    all.extend(services);
    let slices = [Change::ListBegin(Kind::Slice), Change::ListEnd(Kind::Slice)];
    all.push(Change::ListEnd(Kind::Service));
    all.extend(slices);
    all
}

#[tokio::test(start_paused = true)]
async fn a_change_sends_everything_again_as_full_lists() {
    let folder = folder(&[]);
    let (sender, mut changes) = channel(2);
    let feed = Arc::new(Feed::new(Instant::now(), &Scope::default()));
    let paths = vec![folder.path().to_owned()];
    let task =
        tokio::spawn(watch_files(paths, Outlet::new(sender, &Scope::default()), Arc::clone(&feed)));
    assert_eq!(drain(&mut changes).await, listed(&[]));
    fs::write(folder.path().join("a.yaml"), WEB).unwrap();
    assert_eq!(drain(&mut changes).await, listed(&["web"]));
    assert_eq!(feed.awaited().count(), 0);
    drop(changes);
    task.await.unwrap();
}

#[tokio::test]
async fn embedded_texts_are_sent_once() {
    let (sender, mut changes) = channel(64);
    let feed = Arc::new(Feed::new(Instant::now(), &Scope::default()));
    let outlet = Outlet::new(sender, &Scope::default());
    let source = tokio::spawn(send_embedded(&[("a.yaml", WEB)], outlet, Arc::clone(&feed)));
    assert_eq!(drain(&mut changes).await, listed(&["web"]));
    // A source that ends is one that broke, and everything would begin anew.
    assert!(feed.awaited().count() == 0 && !source.is_finished());
    drop(changes);
    source.await.unwrap();
}

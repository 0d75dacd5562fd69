//! Random changes of the cluster: creates, updates, deletes and flips of readiness.

use std::collections::BTreeMap;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedMutRandom, IndexedRandom};
use serde_json::{Value, json};

use crate::cluster::{Cluster, key};
use crate::fixture::OUTSIDE;
use crate::names::Names;
use crate::objects::{
    SERVICE_LABEL, alias, headless, import, imported, kind_of, name_of, namespace, pod, service,
    slice,
};

/// Changes in one history.
const CHANGES: std::ops::RangeInclusive<usize> = 10..=20;
/// Where things change. Few names, so that objects meet.
const NAMESPACES: [&str; 4] = ["h0", "h1", "h2", "h3"];
const SERVICES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const PORTS: [&[&str]; 5] = [
    &["http/TCP/80"],
    &["/TCP/80"],
    &["a/TCP/53", "b/UDP/53"],
    &["http/TCP/8080", "admin/TCP/81", "q/SCTP/82"],
    &["http/UDP/80"],
];
/// What may be said of an endpoint.
const WORDS: [&[&str]; 3] = [
    &["", " hostname=x", " hostname=y", " hostname=10-246-0-1"],
    &["", " ready=true", " ready=true", " ready=false"],
    &["", " pod=p0", " pod=p1", " terminating serving=true"],
];

/// Where an endpoint may be. The zone of an address does not change, for it is that of its node.
const ZONES: [&str; 3] = ["", " zone=east-1a", " zone=EAST-1B.x"];

/// Makes one history, and answers the names of all that it touched.
pub fn run(cluster: &mut Cluster, number: u16, dice: &mut StdRng) -> Names {
    let before = cluster.objects.clone();
    for turn in 0..dice.random_range(CHANGES) {
        let serial = number * 32 + turn as u16;
        change(cluster, serial, dice);
    }
    touched(&before, &cluster.objects)
}

/// The names of what is not as it was.
fn touched(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Names {
    let changed = |here: &BTreeMap<String, Value>, there: &BTreeMap<String, Value>| {
        let is_changed = |(key, object): &(&String, &Value)| there.get(*key) != Some(*object);
        Names::of(here.iter().filter(is_changed).map(|(_, object)| object))
    };
    let mut names = changed(before, after);
    names.extend(changed(after, before));
    names
}

fn change(cluster: &mut Cluster, serial: u16, dice: &mut StdRng) {
    match dice.random_range(0..100) {
        0..25 => new_service(cluster, serial, dice),
        25..50 => new_slice(cluster, dice),
        50..65 => flip(cluster, dice),
        65..75 => remove(cluster, &["Service", "ServiceImport"], dice),
        75..80 => remove(cluster, &["EndpointSlice"], dice),
        80..90 => change_pod(cluster, dice),
        90..96 => new_import(cluster, serial, dice),
        _ => change_namespace(cluster, dice),
    }
}

/// A namespace that exists: the API server takes nothing for one that does not.
fn place(cluster: &Cluster, dice: &mut StdRng) -> Option<&'static str> {
    let name = pick(&NAMESPACES, dice);
    cluster.has_namespace(name).then_some(name)
}

fn pick<T: Copy>(all: &[T], dice: &mut StdRng) -> T {
    *all.choose(dice).expect("there is a choice")
}

/// Puts a Service in the place of what has its name.
fn new_service(cluster: &mut Cluster, serial: u16, dice: &mut StdRng) {
    let Some(place) = place(cluster, dice) else { return };
    let path = format!("{place}/{}", pick(&SERVICES, dice));
    let v4 = format!("10.96.{}.{}", 128 + serial / 250, 1 + serial % 250);
    let v6 = format!("fd00:10:96::{:x}", 0x8000 + serial);
    let ports = pick(&PORTS, dice);
    let object = match dice.random_range(0..10) {
        0..3 => service(&path, &[&v4], ports),
        3 => service(&path, &[&v6], ports),
        4 => service(&path, &[&v4, &v6], ports),
        5 => headless(&path, &[]),
        6..8 => headless(&path, ports),
        _ => alias(&path, &target(dice)),
    };
    // Most fields of a Service cannot change: another one takes its place.
    if let Some(old) = cluster.objects.get(&key(&object)).cloned() {
        cluster.delete(&old);
    }
    cluster.apply(object);
}

fn target(dice: &mut StdRng) -> String {
    match dice.random_range(0..4) {
        0 => pick(&OUTSIDE, dice).to_owned(),
        1 => "web.shop.svc.cluster.local".to_owned(),
        _ => {
            let (name, place) = (pick(&SERVICES, dice), pick(&NAMESPACES, dice));
            format!("{name}.{place}.svc.cluster.local")
        }
    }
}

/// A slice, new or in the place of another one.
fn new_slice(cluster: &mut Cluster, dice: &mut StdRng) {
    let Some(place) = place(cluster, dice) else { return };
    let (name, is_v6) = (pick(&SERVICES, dice), dice.random_range(0..4) == 0);
    let ports = if dice.random_range(0..5) == 0 { &[] } else { pick(&PORTS, dice) };
    let endpoints = endpoints(is_v6, dice);
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let family = if is_v6 { 6 } else { 4 };
    let number = dice.random_range(0..2);
    let object = match dice.random_range(0..6) {
        0 => {
            let cluster = pick(&["east", "West"], dice);
            let path = format!("{place}/mc-{name}-{family}-{number}");
            imported(&path, name, cluster, ports, &endpoints)
        }
        _ => slice(&format!("{place}/{name}-{family}-{number}"), name, ports, &endpoints),
    };
    // The family of a slice is read from its endpoints, and cannot change.
    let is_new = !cluster.objects.contains_key(&key(&object));
    if !endpoints.is_empty() || is_new && !is_v6 {
        cluster.apply(object);
    }
}

fn endpoints(is_v6: bool, dice: &mut StdRng) -> Vec<String> {
    let endpoint = |dice: &mut StdRng| {
        let host = dice.random_range(1..=12);
        let address =
            if is_v6 { format!("fd00:10:246::{host:x}") } else { format!("10.246.0.{host}") };
        let words: String = WORDS.iter().map(|words| pick(words, dice)).collect();
        address + ZONES[host % ZONES.len()] + &words
    };
    (0..dice.random_range(0..5)).map(|_| endpoint(dice)).collect()
}

/// Changes the readiness of one endpoint, or to whom the slice belongs.
fn flip(cluster: &mut Cluster, dice: &mut StdRng) {
    let Some(mut object) = any(cluster, &["EndpointSlice"], dice) else { return };
    let endpoints = object["endpoints"].as_array_mut().unwrap();
    if let Some(endpoint) = endpoints.choose_mut(dice) {
        let was_ready = endpoint["conditions"]["ready"] != json!(false);
        endpoint["conditions"]["ready"] = json!(!was_ready);
    }
    let labels = &mut object["metadata"]["labels"];
    if dice.random_range(0..8) == 0 && labels[SERVICE_LABEL].is_string() {
        labels[SERVICE_LABEL] = json!(pick(&SERVICES, dice));
    }
    cluster.apply(object);
}

fn remove(cluster: &mut Cluster, kinds: &[&str], dice: &mut StdRng) {
    if let Some(object) = any(cluster, kinds, dice) {
        cluster.delete(&object);
    }
}

/// One of the objects of a kind that histories made, in a namespace that exists.
fn any(cluster: &Cluster, kinds: &[&str], dice: &mut StdRng) -> Option<Value> {
    let is_ours = |object: &&Value| {
        let place = name_of(object).0;
        kinds.contains(&kind_of(object))
            && NAMESPACES.contains(&place)
            && cluster.has_namespace(place)
    };
    let all: Vec<&Value> = cluster.objects.values().filter(is_ours).collect();
    all.choose(dice).map(|object| (*object).clone())
}

fn change_pod(cluster: &mut Cluster, dice: &mut StdRng) {
    let Some(place) = place(cluster, dice) else { return };
    let path = format!("{place}/p{}", dice.random_range(0..4));
    let host = dice.random_range(1..=12);
    let (v4, v6) = (format!("10.246.0.{host}"), format!("fd00:10:246::{host:x}"));
    let phase = pick(&["Running", "Running", "Pending", "Succeeded", "Failed"], dice);
    let object = match dice.random_range(0..3) {
        0 => pod(&path, &[&v4], phase),
        1 => pod(&path, &[&v4, &v6], phase),
        _ => pod(&path, &[&v6, &v4], phase),
    };
    match cluster.objects.get(&key(&object)).cloned() {
        Some(old) if old["metadata"]["deletionTimestamp"].is_string() => cluster.delete(&old),
        Some(old) if dice.random_range(0..4) == 0 => cluster.delete(&old),
        Some(old) if dice.random_range(0..3) == 0 => cluster.terminate(&old),
        _ => cluster.apply(object),
    }
}

fn new_import(cluster: &mut Cluster, serial: u16, dice: &mut StdRng) {
    let Some(place) = place(cluster, dice) else { return };
    let path = format!("{place}/{}", pick(&SERVICES, dice));
    let v4 = format!("10.97.{}.{}", serial / 250, 1 + serial % 250);
    let v6 = format!("fd00:10:97::{serial:x}");
    let ports = pick(&PORTS, dice);
    cluster.apply(match dice.random_range(0..3) {
        0 => import(&path, &[], ports),
        1 => import(&path, &[&v4], ports),
        _ => import(&path, &[&v4, &v6], ports),
    });
}

fn change_namespace(cluster: &mut Cluster, dice: &mut StdRng) {
    let object = namespace(pick(&NAMESPACES, dice));
    if cluster.objects.contains_key(&key(&object)) {
        cluster.delete(&object);
    } else {
        cluster.apply(object);
    }
}

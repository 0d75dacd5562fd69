//! What is asked, for lists, shares and seeds.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

/// A listed name.
pub(super) fn task(host: &str) -> Arc<Task> {
    task_of(host, RecordType::A, Class::Listed)
}

fn task_of(host: &str, rtype: RecordType, class: Class) -> Arc<Task> {
    let name = Name::parse(host).unwrap();
    Arc::new(Task { host: host.into(), name, rtype, class, expect: Expect::Any })
}

/// A small cluster.
pub(super) fn cluster() -> Vec<Arc<Task>> {
    vec![
        task_of("web.shop.svc.cluster.local", RecordType::A, Class::Service),
        task_of("api.default.svc.cluster.local", RecordType::A, Class::Service),
        task_of("db-0.db.shop.svc.cluster.local", RecordType::A, Class::Host),
        task_of("_http._tcp.web.shop.svc.cluster.local", RecordType::SRV, Class::Srv),
        task_of("1.0.96.10.in-addr.arpa", RecordType::PTR, Class::Ptr),
    ]
}

/// What is made of `mix` in a cluster.
pub(super) fn recipe(mix: &str, namespace: &str) -> Recipe {
    Recipe {
        popularity: Popularity::Uniform,
        mix: Mix::parse(mix).unwrap(),
        foreign: mix::foreign(&["www.example.org"]).unwrap(),
        domain: Name::parse("cluster.local").unwrap(),
        namespace: namespace.into(),
        seed: 1,
    }
}

const PICKS: u64 = 100_000;

/// How many of the picks are of each class.
fn classes(work: &Work) -> BTreeMap<Class, u64> {
    let mut dice = StdRng::seed_from_u64(1);
    let mut counts = BTreeMap::new();
    for _ in 0..PICKS {
        *counts.entry(work.pick(&mut dice).class).or_default() += 1;
    }
    counts
}

fn refusal(list: Vec<Arc<Task>>, mix: &str) -> String {
    Work::build(list, &recipe(mix, "default")).unwrap_err().to_string()
}

#[test]
fn shares_are_kept() {
    let mix = "foreign=10,missing=5,ptr=2,srv=2,random=1";
    let counts = classes(&Work::build(cluster(), &recipe(mix, "default")).unwrap());
    let percents = [
        (Class::Foreign, 10),
        (Class::Missing, 5),
        (Class::Ptr, 2),
        (Class::Srv, 2),
        (Class::Random, 1),
        (Class::Service, 80 * 2 / 3),
        (Class::Host, 80 / 3),
    ];
    assert_eq!(counts.len(), percents.len());
    for (class, percent) in percents {
        let expected = PICKS / 100 * percent;
        let margin = PICKS / 300 + expected / 20;
        assert!(counts[&class].abs_diff(expected) < margin, "{class:?}: {counts:?}");
    }
}

#[test]
fn ptr_and_srv_names_of_a_cluster_are_for_their_shares_only() {
    let counts = classes(&Work::build(cluster(), &recipe("", "default")).unwrap());
    assert_eq!(Vec::from_iter(counts.keys()), [&Class::Service, &Class::Host]);
}

#[test]
fn listed_types_are_asked_for_as_they_come_and_fill_a_share_too() {
    let ptr = task_of("1.2.0.192.in-addr.arpa", RecordType::PTR, Class::Listed);
    let work = Work::build(vec![ptr, task("a.example")], &recipe("ptr=50", "default")).unwrap();
    let counts = classes(&work);
    assert_eq!(Vec::from_iter(counts.keys()), [&Class::Ptr, &Class::Listed]);
    assert!(counts[&Class::Ptr].abs_diff(PICKS / 2) < PICKS / 50);
    assert_eq!(work.name_count(), 3);
}

#[test]
fn the_same_seed_asks_the_same() {
    let picks = |recipe: &Recipe, seed| {
        let work = Work::build(cluster(), recipe).unwrap();
        let mut dice = StdRng::seed_from_u64(seed);
        let picked = (0..200).map(|_| work.pick(&mut dice));
        picked.map(|task| (task.host.to_string(), task.rtype)).collect::<Vec<_>>()
    };
    for popularity in [Popularity::AsListed, Popularity::Uniform, Popularity::Zipf(1.0)] {
        let mut recipe = recipe("foreign=20,missing=20,random=20", "default");
        recipe.popularity = popularity;
        assert_eq!(picks(&recipe, 7), picks(&recipe, 7));
        assert_ne!(picks(&recipe, 7), picks(&recipe, 8));
    }
}

#[test]
fn copies_share_their_names() {
    let work = Work::build(cluster(), &recipe("", "default")).unwrap();
    assert!(Arc::ptr_eq(&work.0, &work.clone().0));
    let tasks = cluster();
    let work = Work::uniform(tasks.clone());
    let picked = work.pick(&mut StdRng::seed_from_u64(1));
    assert!(tasks.iter().any(|task| Arc::ptr_eq(task, &picked)));
    assert_eq!(work.name_count(), 5);
}

#[test]
fn a_line_tells_what_is_asked() {
    let mut recipe = recipe("foreign=10,missing=2.5,random=0.1", "default");
    recipe.popularity = Popularity::Zipf(1.0);
    let mut list = cluster();
    list.push(Arc::clone(&list[0]));
    let work = Work::build(list, &recipe).unwrap();
    assert_eq!(
        work.describe(),
        "10 % foreign (1), 2.5 % missing (1000), 0.1 % random below example.org., \
         87.4 % of 3 names (2 service, 1 host), zipf:1.0"
    );
    assert_eq!(work.name_count(), 1 + 1000 + 3);
}

#[test]
fn what_cannot_be_asked_is_refused_with_the_remedy() {
    let names = || vec![task("a.example")];
    for (list, mix, expected) in [
        (Vec::new(), "", "no name to ask for: the list is empty, and 100 % of the lookups"),
        (Vec::new(), "missing=40", "and 60 % of the lookups are from it; name a list with --names"),
        (names(), "ptr=2", "--mix ptr=2: no address is known; use --cluster or --manifests"),
        (names(), "srv=2", "no named port of a Service is known"),
    ] {
        let text = refusal(list, mix);
        assert!(text.contains(expected), "{text}");
    }
    let mut recipe = recipe("foreign=1", "default");
    recipe.foreign.clear();
    let text = Work::build(names(), &recipe).unwrap_err().to_string();
    assert!(text.contains("name one with --foreign, or leave foreign out"), "{text}");
}

#[test]
fn an_empty_list_is_right_where_the_mix_is_all() {
    let work = Work::build(Vec::new(), &recipe("random=60,missing=40", "default")).unwrap();
    let counts = classes(&work);
    assert_eq!(Vec::from_iter(counts.keys()), [&Class::Missing, &Class::Random]);
}

#[test]
fn classes_are_named_as_reports_have_them() {
    for class in [Class::Service, Class::ExternalName, Class::Ptr, Class::Listed] {
        assert_eq!(serde_json::to_value(class).unwrap(), class.name());
    }
}

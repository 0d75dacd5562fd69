//! What happens where the API server has no such API, or does not show it.

use super::*;
use crate::cluster::index::Index;
use crate::cluster::object::Slice;
use crate::cluster::zone::Zone;

/// The longest wait for what is missing.
const LONGEST: Duration = Duration::from_secs(5 * 60);

fn import_json(name: &str, version: u32) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"shop","resourceVersion":"{version}"}},
            "spec":{{"type":"Headless"}}}}"#
    )
    .replace('\n', " ")
}

fn import(name: &str) -> Change {
    let Change::Apply(Object::Service(service)) = apply(name) else { unreachable!() };
    Change::Apply(Object::Import(service))
}

/// A slice of the Service `web` in the flavour of the discovery API.
fn slice_json(address: &str, version: u32) -> String {
    format!(
        r#"{{"metadata":{{"name":"web-x","namespace":"shop","resourceVersion":"{version}",
            "labels":{{"kubernetes.io/service-name":"web"}}}},
            "addressType":"IPv4","endpoints":[{{"addresses":["{address}"]}}]}}"#
    )
    .replace('\n', " ")
}

/// The same in that of the core.
fn endpoints_json(address: &str, version: u32) -> String {
    format!(
        r#"{{"metadata":{{"name":"web","namespace":"shop","resourceVersion":"{version}"}},
            "subsets":[{{"addresses":[{{"ip":"{address}"}}]}}]}}"#
    )
    .replace('\n', " ")
}

impl Rig {
    /// What was asked for, whichever resource it was; what was asked again and again counts once.
    fn asked_in_order(&self, resources: &[&str]) -> Vec<(Ask, String)> {
        let mut asked: Vec<_> =
            resources.iter().flat_map(|resource| self.script.asked(resource)).collect();
        asked.retain(|asked| asked.ask != Ask::Count || asked.resource == "endpointslices");
        asked.sort_by_key(|asked| asked.at);
        asked.dedup_by(|a, b| (a.ask, &a.resource) == (b.ask, &b.resource));
        asked.into_iter().map(|asked| (asked.ask, asked.resource)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_crd_there_are_no_imports_until_it_is_installed() {
    let kind = Kind::Import;
    let missing = std::iter::repeat_with(|| (Ask::Stream, Reply::status(404))).take(12);
    let stream = Reply::lines([event("ADDED", &import_json("db", 5)), list_end(10)]);
    let installed = [(Ask::Stream, stream.then(Step::Hold))];
    let start = Instant::now();
    let mut rig = watch(kind, missing.chain(installed));
    rig.expect([begin(kind), end(kind)]).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(rig.feed.kind(kind).is_synced());
    // Nothing more is said until there is something.
    rig.expect([begin(kind), import("db"), end(kind)]).await;
    let pauses = pauses(&rig);
    assert!(pauses[11] >= LONGEST.mul_f64(0.7) && pauses[11] <= LONGEST, "{pauses:?}");
    assert_eq!(rig.feed.kind(kind).repairs.value(), 0);
    assert!(rig.asked().iter().all(|(ask, _)| *ask == Ask::Stream), "no pages of what is missing");
}

#[tokio::test(start_paused = true)]
async fn imports_that_were_there_are_given_up_only_when_their_api_stays_away() {
    let kind = Kind::Import;
    let stream = Reply::lines([event("ADDED", &import_json("db", 5)), list_end(10)]);
    let missing = std::iter::repeat_with(|| (Ask::Stream, Reply::status(404))).take(12);
    let replies = [(Ask::Stream, stream), (Ask::Watch, Reply::status(404))];
    let mut rig = watch(kind, replies.into_iter().chain(missing));
    rig.expect([begin(kind), import("db"), end(kind)]).await;
    let start = Instant::now();
    rig.expect([begin(kind), end(kind)]).await;
    let took = start.elapsed();
    assert!(took >= LONGEST && took < 3 * LONGEST, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a3_imports_whose_api_went_away_grow_old_until_it_is_sure_that_there_are_none() {
    let kind = Kind::Import;
    let stream = Reply::lines([event("ADDED", &import_json("db", 5)), list_end(10)]);
    let missing = std::iter::repeat_with(|| (Ask::Stream, Reply::status(404))).take(12);
    let replies = [(Ask::Stream, stream), (Ask::Watch, Reply::status(404))];
    let mut rig = watch(kind, replies.into_iter().chain(missing));
    rig.expect([begin(kind), import("db"), end(kind)]).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let now = Instant::now();
    let age = now - rig.feed.fresh_at(kind, now).unwrap();
    assert!(age >= Duration::from_secs(110), "{age:?}: a 404 says nothing of what is served");
    assert!(!rig.feed.kind(kind).is_absent());
    rig.expect([begin(kind), end(kind)]).await;
    assert!(rig.feed.kind(kind).is_absent());
}

#[tokio::test(start_paused = true)]
async fn a3_one_look_that_fails_makes_nothing_old_that_is_known_to_be_absent() {
    let kind = Kind::Import;
    let missing = std::iter::repeat_with(|| (Ask::Stream, Reply::status(404))).take(8);
    let failing = (Ask::Stream, Reply::status(503));
    let mut rig = watch(kind, missing.chain([failing]));
    rig.expect([begin(kind), end(kind)]).await;
    let state = rig.feed.kind(kind);
    while !state.is_absent() {
        tokio::task::yield_now().await;
    }
    let start = Instant::now();
    while state.is_absent() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(start.elapsed() > LONGEST, "the last looks were minutes apart");
    let now = Instant::now();
    let age = now - rig.feed.fresh_at(kind, now).unwrap();
    assert!(age < Duration::from_secs(5), "{age:?}");
}

#[tokio::test(start_paused = true)]
async fn imports_are_given_up_only_when_nothing_but_404_comes() {
    let kind = Kind::Import;
    let list = || Reply::lines([event("ADDED", &import_json("db", 5)), list_end(10)]);
    let before = [(Ask::Stream, list()), (Ask::Watch, Reply::status(404))];
    let missing = || (Ask::Stream, Reply::status(404));
    let failing = std::iter::repeat_with(|| (Ask::Stream, Reply::status(500))).take(100);
    let after = [missing(), (Ask::Stream, list().then(Step::Hold))];
    let mut rig = watch(kind, before.into_iter().chain([missing()]).chain(failing).chain(after));
    let start = Instant::now();
    let listed = || [begin(kind), import("db"), end(kind)];
    rig.expect(listed().into_iter().chain(listed())).await;
    assert!(start.elapsed() > LONGEST, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_watch_had_listed_is_not_given_up_at_once() {
    let kind = Kind::Import;
    let missing = std::iter::repeat_with(|| (Ask::Stream, Reply::status(404))).take(12);
    let mut rig = watch(kind, missing);
    rig.feed.kind(kind).listed();
    let start = Instant::now();
    rig.expect([begin(kind), end(kind)]).await;
    assert!(start.elapsed() >= LONGEST, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_seen_is_left_unknown_and_asked_for_ever_more_slowly() {
    for kind in [Kind::Import, Kind::Pod] {
        let refused = std::iter::repeat_with(|| (Ask::Stream, Reply::status(403))).take(12);
        let granted = [(Ask::Stream, Reply::lines([list_end(10)]).then(Step::Hold))];
        let start = Instant::now();
        let mut rig = watch(kind, refused.chain(granted));
        rig.expect([begin(kind), end(kind)]).await;
        assert!(start.elapsed() > 5 * LONGEST.mul_f64(0.7), "{:?}", start.elapsed());
        assert_eq!(rig.errors(Fault::Forbidden), 12);
        assert!(rig.asked().iter().all(|(ask, _)| *ask == Ask::Stream), "no pages either");
    }
}

#[tokio::test(start_paused = true)]
async fn core_kinds_that_are_refused_are_asked_for_as_before() {
    for code in [403, 404] {
        let refused = std::iter::repeat_with(|| (Ask::Stream, Reply::status(code))).take(9);
        let granted = [(Ask::Stream, Reply::lines([list_end(10)]).then(Step::Hold))];
        let mut rig = watch(Kind::Service, refused.chain(granted));
        rig.expect([BEGIN, END]).await;
        assert!(pauses(&rig).iter().all(|pause| *pause <= Duration::from_secs(5)));
    }
}

#[tokio::test(start_paused = true)]
async fn endpoints_take_the_place_of_slices_until_those_are_there() {
    let kind = Kind::Slice;
    let mut rig = watch(kind, [(Ask::Stream, Reply::status(404))]);
    let endpoints = Reply::lines([event("ADDED", &endpoints_json("10.1.0.1", 5)), list_end(10)]);
    rig.script.on(Ask::Stream, "endpoints", endpoints);
    let mut change = Reply::lines([event("MODIFIED", &endpoints_json("10.1.0.2", 11))]);
    for version in 12..24 {
        change = change.then(Step::Wait(Duration::from_secs(60)));
        change = change.then(Step::Send(bookmark(version) + "\n"));
    }
    rig.script.on(Ask::Watch, "endpoints", change);
    // Slices are looked for beside the watch, and none are found yet. Then the server is upgraded.
    rig.script.on(Ask::Count, "endpointslices", Reply::status(404));
    let start = Instant::now();
    let slices = Reply::lines([event("ADDED", &slice_json("10.1.0.3", 5)), list_end(14)]);
    rig.script.on(Ask::Stream, "endpointslices", slices.then(Step::Hold));

    let mut index = index_of_web();
    for (ends, expected) in [(1, "10.1.0.2"), (1, "10.1.0.3")] {
        rig.feed_index(&mut index, ends, expected).await;
    }
    let took = start.elapsed();
    // With the next look, or with the next full list.
    assert!(took >= LONGEST && took < 2 * LONGEST + Duration::from_secs(10), "{took:?}");
    assert_eq!(
        rig.asked_in_order(&["endpointslices", "endpoints"]),
        [
            (Ask::Stream, "endpointslices"),
            (Ask::Stream, "endpoints"),
            (Ask::Watch, "endpoints"),
            (Ask::Count, "endpointslices"),
            (Ask::Stream, "endpointslices"),
        ]
        .map(|(ask, resource)| (ask, resource.to_owned()))
    );
    assert_eq!(rig.feed.kind(kind).repairs.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn slices_of_a_snapshot_are_not_waited_for_where_there_are_only_endpoints() {
    let refused = |ask| (ask, Reply::status(404));
    let replies = [refused(Ask::Watch), refused(Ask::Stream)];
    let mut rig = watch_from(Kind::Slice, Some("10"), &Scope::default(), replies);
    rig.feed.restore(Kind::Slice, "10");
    let endpoints = Reply::lines([event("ADDED", &endpoints_json("10.1.0.1", 5)), list_end(10)]);
    rig.script.on(Ask::Stream, "endpoints", endpoints.then(Step::Hold));
    let (start, mut index) = (Instant::now(), index_of_web());
    rig.feed_index(&mut index, 1, "10.1.0.1").await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

/// An Index that knows the Service `web` and is to learn its endpoints.
fn index_of_web() -> Index {
    let mut index = Index::after(&Zone::unsynced(), &Scope::default());
    let namespace = Change::Apply(Object::Namespace("shop".into()));
    for (kind, object) in [(Kind::Namespace, namespace), (Kind::Service, apply("web"))] {
        [begin(kind), object, end(kind)].into_iter().for_each(|change| index.take(change));
    }
    index
}

impl Rig {
    /// Lets the Index take Changes until so many lists have ended and `web` has this address, and
    /// checks that it has no other.
    async fn feed_index(&mut self, index: &mut Index, mut lists: u32, expected: &str) {
        let is_there = |index: &mut Index, address: &str| {
            index.publish(1);
            let octets = address.parse::<std::net::Ipv4Addr>().unwrap().octets();
            index.zone().addresses.get(&octets).is_some()
        };
        while lists > 0 || !is_there(index, expected) {
            let change = self.changes.recv().await.unwrap();
            lists -= u32::from(change == end(Kind::Slice));
            index.take(change);
        }
        for other in ["10.1.0.1", "10.1.0.2", "10.1.0.3"].into_iter().filter(|it| *it != expected) {
            assert!(!is_there(index, other), "{other} besides {expected}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_without_slices_and_endpoints_is_tried_until_it_has_them() {
    let kind = Kind::Slice;
    let missing = std::iter::repeat_with(|| (Ask::Stream, Reply::status(404))).take(1);
    let mut rig = watch(kind, missing);
    for _ in 0..3 {
        rig.script.on(Ask::Stream, "endpoints", Reply::status(404));
        rig.script.on(Ask::Count, "endpointslices", Reply::status(404));
    }
    let endpoints = Reply::lines([event("ADDED", &endpoints_json("10.1.0.1", 5)), list_end(10)]);
    rig.script.on(Ask::Stream, "endpoints", endpoints.then(Step::Hold));
    rig.expect([begin(kind)]).await;
    let Some(Change::Apply(Object::Slice(Slice { service, .. }))) = rig.changes.recv().await else {
        panic!("no slice");
    };
    assert_eq!(service.as_deref(), Some("web"));
    rig.expect([end(kind)]).await;
}

#[tokio::test(start_paused = true)]
async fn a_slice_api_that_is_missing_later_is_replaced_then() {
    let kind = Kind::Slice;
    let stream = Reply::lines([event("ADDED", &slice_json("10.1.0.3", 5)), list_end(10)]);
    let missing = std::iter::repeat_with(|| (Ask::Stream, Reply::status(404))).take(30);
    let replies = [(Ask::Stream, stream), (Ask::Watch, Reply::status(404))];
    let mut rig = watch(kind, replies.into_iter().chain(missing));
    let endpoints = Reply::lines([event("ADDED", &endpoints_json("10.1.0.1", 2)), list_end(3)]);
    rig.script.on(Ask::Stream, "endpoints", endpoints.then(Step::Hold));
    let mut index = index_of_web();
    rig.feed_index(&mut index, 1, "10.1.0.3").await;
    let start = Instant::now();
    rig.feed_index(&mut index, 1, "10.1.0.1").await;
    let took = start.elapsed();
    assert!(took >= LONGEST && took < LONGEST + Duration::from_secs(60), "{took:?}");
    assert!(rig.asked().len() < 25, "{} requests", rig.asked().len());
    assert_eq!(rig.errors(Fault::Backwards), 0);
}

#[tokio::test(start_paused = true)]
async fn one_404_takes_no_slices_away() {
    let kind = Kind::Slice;
    let list = |address: &str| {
        Reply::lines([event("ADDED", &slice_json(address, 5)), list_end(10), gone()])
    };
    let replies = [
        (Ask::Stream, list("10.1.0.3")),
        (Ask::Stream, Reply::status(404)),
        (Ask::Stream, list("10.1.0.2").then(Step::Hold)),
    ];
    let start = Instant::now();
    let mut rig = watch(kind, replies);
    let mut index = index_of_web();
    rig.feed_index(&mut index, 1, "10.1.0.3").await;
    rig.feed_index(&mut index, 1, "10.1.0.2").await;
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    assert!(rig.script.asked("endpoints").is_empty());
}

#[tokio::test(start_paused = true)]
async fn endpoints_stay_until_slices_can_be_listed() {
    let kind = Kind::Slice;
    let mut rig = watch(kind, [(Ask::Stream, Reply::status(404))]);
    for (address, version) in [("10.1.0.1", 5), ("10.1.0.2", 11)] {
        let endpoints = [event("ADDED", &endpoints_json(address, version)), list_end(version + 1)];
        rig.script.on(Ask::Stream, "endpoints", Reply::lines(endpoints).then(Step::Hold));
    }
    // They can be seen, but not watched.
    rig.script.on(Ask::Stream, "endpointslices", Reply::status(403));
    let start = Instant::now();
    let mut index = index_of_web();
    rig.feed_index(&mut index, 1, "10.1.0.1").await;
    rig.feed_index(&mut index, 1, "10.1.0.2").await;
    assert!(start.elapsed() < LONGEST + Duration::from_secs(10), "{:?}", start.elapsed());
}

#[tokio::test]
async fn the_remedy_names_the_resource_that_is_asked_for() {
    let scope = Scope::default();
    let (sender, _changes) = channel(1);
    let client = kube::Client::new(Arc::new(Script::default()).router(), "default");
    let server = Arc::new(ApiServer::with_client(client, scope.api));
    let feed = Arc::new(Feed::new(Instant::now(), &scope));
    let outlet = Outlet::new(sender, &scope);
    let mut watcher = Watcher::new(Kind::Slice, &server, &outlet, &feed, Timing::default());
    watcher.api.turn_to(api::Resource::ENDPOINTS);
    let remedy = watcher.remedy(Fault::Forbidden);
    assert!(remedy.contains("resource endpoints of the apiGroup \"\""), "{remedy}");
}

//! Objects that are odd, flawed, or change what they belong to.

use super::*;
use crate::cluster::index::Index;
use crate::cluster::zone::Zone;

#[tokio::test(start_paused = true)]
async fn null_lists_of_a_slice_are_empty() {
    let slice = r#"{"metadata":{"name":"web-1","namespace":"shop","resourceVersion":"11",
        "labels":{"kubernetes.io/service-name":"web"}},
        "addressType":"IPv4","endpoints":null,"ports":null}"#
        .replace('\n', " ");
    let stream = Reply::lines([list_end(10), event("ADDED", &slice)]).then(Step::Hold);
    let mut rig = watch(Kind::Slice, [(Ask::Stream, stream)]);
    rig.expect([Change::ListBegin(Kind::Slice), Change::ListEnd(Kind::Slice)]).await;
    let Some(Change::Apply(Object::Slice(slice))) = rig.changes.recv().await else {
        panic!("no slice");
    };
    let Part { endpoints, ports } = &slice.parts[0];
    let service = slice.service.as_deref();
    assert_eq!((service, endpoints.len(), ports.len()), (Some("web"), 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_flawed_object_costs_itself_and_can_be_deleted() {
    let flawed = service_json("bad", 12).replace(r#""None""#, "7");
    let stream = Reply::lines([
        event("ADDED", &flawed),
        added("web", 5),
        list_end(10),
        event("MODIFIED", &flawed),
        event("DELETED", &flawed),
    ]);
    let mut rig = watch(Kind::Service, [(Ask::Stream, stream.then(Step::Hold))]);
    let keep = || Change::Keep(Kind::Service, key("bad"));
    rig.expect([BEGIN, keep(), apply("web"), END, keep(), delete("bad")]).await;
    assert_eq!(rig.feed.kind(Kind::Service).skipped.value(), 2);
    assert_eq!(rig.feed.kind(Kind::Service).version(), "12");
}

#[tokio::test(start_paused = true)]
async fn what_is_left_out_of_an_object_is_counted_and_the_rest_is_taken() {
    let slice = r#"{"metadata":{"name":"web-1","namespace":"shop","resourceVersion":"11",
        "labels":{"kubernetes.io/service-name":"web"}},
        "addressType":"IPv4","endpoints":[{"addresses":["10.1.0.1"]}],"ports":[{"port":70000}]}"#
        .replace('\n', " ");
    let stream = Reply::lines([list_end(10), event("MODIFIED", &slice)]).then(Step::Hold);
    let mut rig = watch(Kind::Slice, [(Ask::Stream, stream)]);
    rig.expect([Change::ListBegin(Kind::Slice), Change::ListEnd(Kind::Slice)]).await;
    let Some(Change::Apply(Object::Slice(slice))) = rig.changes.recv().await else {
        panic!("no slice");
    };
    let Part { endpoints, ports } = &slice.parts[0];
    assert_eq!((endpoints.len(), ports.len()), (1, 0));
    assert_eq!(rig.feed.kind(Kind::Slice).skipped.value(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_known_of_an_object_stays_while_it_is_flawed() {
    let flawed = service_json("web", 12).replace(r#""None""#, "7");
    let first = Reply::lines([added("web", 5), list_end(10), event("MODIFIED", &flawed), gone()]);
    let gone_at_21 = flawed.replace("12", "21");
    let second = [event("ADDED", &flawed), list_end(20), event("DELETED", &gone_at_21)];
    let replies = [(Ask::Stream, first), (Ask::Stream, Reply::lines(second).then(Step::Hold))];
    let mut rig = watch(Kind::Service, replies);
    let mut index = Index::after(&Zone::unsynced(), &Scope::default());
    let mut is_known = Vec::new();
    // A list, a change, a list, and the deletion.
    for changes in [3, 1, 3, 1] {
        for _ in 0..changes {
            index.take(rig.changes.recv().await.unwrap());
        }
        is_known.push(index.service(&key("web")).is_some());
    }
    assert_eq!(is_known, [true, true, true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_slice_that_loses_its_service_is_deleted() {
    let slice = r#"{"metadata":{"name":"web-1","namespace":"shop"},"addressType":"IPv4"}"#;
    let stream = Reply::lines([list_end(10), event("MODIFIED", slice)]).then(Step::Hold);
    let mut rig = watch(Kind::Slice, [(Ask::Stream, stream)]);
    rig.expect([
        Change::ListBegin(Kind::Slice),
        Change::ListEnd(Kind::Slice),
        Change::Delete(Kind::Slice, key("web-1")),
    ])
    .await;
    assert_eq!(rig.feed.kind(Kind::Slice).foreign.value(), 1);
}

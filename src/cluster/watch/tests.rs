//! A watch against a scripted API server, on a paused clock.

mod lies;
mod missing;
mod objects;
mod outages;
mod requests;

use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinHandle;

use super::*;
use crate::cluster::config::{ApiLimits, Scope};
use crate::cluster::object::{Change, Object, ObjectKey, Part, Role, Service};
use crate::cluster::outlet::Outlet;
use crate::cluster::scripted_api::{Ask, Reply, Script, Step};

/// A watch of one kind at work.
struct Rig {
    script: Arc<Script>,
    feed: Arc<Feed>,
    changes: Receiver<Change>,
    task: JoinHandle<()>,
    kind: Kind,
}

fn watch(kind: Kind, replies: impl IntoIterator<Item = (Ask, Reply)>) -> Rig {
    watch_exposed(kind, &[], replies)
}

fn watch_exposed(
    kind: Kind,
    namespaces: &[&str],
    replies: impl IntoIterator<Item = (Ask, Reply)>,
) -> Rig {
    let namespaces = namespaces.iter().map(|name| (*name).to_owned()).collect();
    watch_scope(kind, &Scope { namespaces, ..Scope::default() }, replies)
}

fn watch_scope(kind: Kind, scope: &Scope, replies: impl IntoIterator<Item = (Ask, Reply)>) -> Rig {
    watch_from(kind, None, scope, replies)
}

fn watch_from(
    kind: Kind,
    position: Option<&str>,
    scope: &Scope,
    replies: impl IntoIterator<Item = (Ask, Reply)>,
) -> Rig {
    let script = Arc::new(Script::default());
    for (ask, reply) in replies {
        script.on(ask, kind.resource(), reply);
    }
    let (sender, changes) = channel(64);
    let feed = Arc::new(Feed::new(Instant::now(), scope));
    let client = kube::Client::new(script.router(), "default");
    let server = Arc::new(ApiServer::with_client(client, scope.api));
    let outlet = Outlet::new(sender, scope);
    let (timing, position) = (Timing::default(), position.map(str::to_owned));
    let task = tokio::spawn(run(kind, server, outlet, Arc::clone(&feed), timing, position));
    Rig { script, feed, changes, task, kind }
}

impl Rig {
    async fn expect(&mut self, changes: impl IntoIterator<Item = Change>) {
        for expected in changes {
            let asked = || self.script.asked(self.kind.resource());
            let got = self.changes.recv().await;
            assert_eq!(got.as_ref(), Some(&expected), "asked {:#?}", asked());
        }
    }

    /// What was asked: kind of question and resource version or continue token. The canary is left
    /// out, for it comes at any time.
    fn asked(&self) -> Vec<(Ask, String)> {
        let asked = self.script.asked(self.kind.resource()).into_iter();
        asked
            .filter(|asked| asked.ask != Ask::Count)
            .map(|asked| {
                let field = if asked.ask == Ask::Page { "continue" } else { "resourceVersion" };
                (asked.ask, asked.query.get(field).cloned().unwrap_or_default())
            })
            .collect()
    }

    fn errors(&self, fault: Fault) -> u64 {
        self.feed.kind(self.kind).errors(fault)
    }
}

fn service_json(name: &str, version: u32) -> String {
    format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"shop","uid":"u","resourceVersion":"{version}"}},
            "spec":{{"clusterIP":"None"}}}}"#
    )
    .replace('\n', " ")
}

fn event(kind: &str, object: &str) -> String {
    format!(r#"{{"type":"{kind}","object":{object}}}"#)
}

fn added(name: &str, version: u32) -> String {
    event("ADDED", &service_json(name, version))
}

fn bookmark(version: u32) -> String {
    event("BOOKMARK", &format!(r#"{{"metadata":{{"resourceVersion":"{version}"}}}}"#))
}

fn list_end(version: u32) -> String {
    let annotations = r#"{"k8s.io/initial-events-end":"true"}"#;
    event(
        "BOOKMARK",
        &format!(r#"{{"metadata":{{"resourceVersion":"{version}","annotations":{annotations}}}}}"#),
    )
}

fn gone() -> String {
    event("ERROR", r#"{"kind":"Status","code":410,"reason":"Expired","message":"too old"}"#)
}

fn page(items: &[String], token: &str, version: u32) -> Reply {
    let items = items.join(",");
    Reply::body(format!(
        r#"{{"metadata":{{"resourceVersion":"{version}","continue":"{token}"}},"items":[{items}]}}"#
    ))
}

fn begin(kind: Kind) -> Change {
    Change::ListBegin(kind)
}

fn end(kind: Kind) -> Change {
    Change::ListEnd(kind)
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "shop".into(), name: name.into() }
}

fn apply(name: &str) -> Change {
    let (role, ports, externals) = (Role::Headless, Vec::new(), Box::default());
    let service = Service { key: key(name), role, ports, has_selector: false, externals };
    Change::Apply(Object::Service(service))
}

fn delete(name: &str) -> Change {
    Change::Delete(Kind::Service, key(name))
}

const BEGIN: Change = Change::ListBegin(Kind::Service);
const END: Change = Change::ListEnd(Kind::Service);
const GIVE_UP: Change = Change::ListGiveUp(Kind::Service);

#[tokio::test(start_paused = true)]
async fn a_streaming_list_goes_on_as_the_watch() {
    let stream = Reply::lines([
        added("web", 5),
        list_end(10),
        event("MODIFIED", &service_json("api", 11)),
        event("DELETED", &service_json("web", 12)),
    ]);
    let mut rig = watch(Kind::Service, [(Ask::Stream, stream.then(Step::Hold))]);
    rig.expect([BEGIN, apply("web"), END, apply("api"), delete("web")]).await;
    assert_eq!(rig.asked(), [(Ask::Stream, String::new())]);
    assert!(rig.feed.kind(Kind::Service).is_synced());
    assert!(rig.feed.kind(Kind::Service).is_following());
    let asked = &rig.script.asked("services")[0].query;
    assert_eq!(asked["resourceVersionMatch"], "NotOlderThan");
    assert_eq!(asked["allowWatchBookmarks"], "true");
    assert!((240..=294).contains(&asked["timeoutSeconds"].parse().unwrap()));
}

#[tokio::test(start_paused = true)]
async fn a_watch_whose_task_is_ended_does_not_count_as_open() {
    let stream = Reply::lines([list_end(10), added("web", 11)]).then(Step::Hold);
    let mut rig = watch(Kind::Service, [(Ask::Stream, stream)]);
    rig.expect([BEGIN, END, apply("web")]).await;
    assert!(rig.feed.kind(Kind::Service).is_following());
    rig.task.abort();
    assert!(rig.task.await.unwrap_err().is_cancelled());
    assert!(!rig.feed.kind(Kind::Service).is_following());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_streaming_lists_is_asked_for_pages_from_then_on() {
    let mut rig = watch(
        Kind::Service,
        [
            (Ask::Stream, Reply::status(400)),
            (Ask::Page, page(&[service_json("web", 5)], "", 10)),
            (Ask::Watch, Reply::lines([gone()])),
            (Ask::Page, page(&[service_json("api", 15)], "", 20)),
        ],
    );
    rig.expect([BEGIN, apply("web"), END, BEGIN, apply("api"), END]).await;
    let asked: Vec<_> = rig.asked().into_iter().map(|(ask, _)| ask).collect();
    assert_eq!(asked[..4], [Ask::Stream, Ask::Page, Ask::Watch, Ask::Page]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ignores_the_flag_is_asked_for_pages() {
    let ignores = Reply::lines([added("web", 5)]).then(Step::Hold);
    let mut rig = watch(
        Kind::Service,
        [(Ask::Stream, ignores), (Ask::Page, page(&[service_json("web", 5)], "", 10))],
    );
    rig.expect([BEGIN, apply("web"), BEGIN, apply("web"), END]).await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_that_ignores_the_flag_is_asked_for_pages() {
    let mut busy = Reply::lines([]);
    for version in 0..60 {
        busy = busy.then(Step::Wait(Duration::from_secs(5)));
        busy = busy.then(Step::Send(added("web", version) + "\n"));
    }
    let mut rig = watch(Kind::Service, [(Ask::Stream, busy), (Ask::Page, page(&[], "", 99))]);
    let mut begins = 0;
    while begins < 2 {
        begins += u32::from(rig.changes.recv().await == Some(BEGIN));
    }
    rig.expect([END]).await;
}

#[tokio::test(start_paused = true)]
async fn pages_are_followed_by_their_tokens() {
    let mut rig = watch(
        Kind::Service,
        [
            (Ask::Stream, Reply::status(422)),
            (Ask::Page, page(&[service_json("a", 1), service_json("b", 2)], "t1", 10)),
            (Ask::Page, page(&[service_json("c", 3)], "t2", 10)),
            (Ask::Page, page(&[service_json("d", 4)], "", 10)),
            (Ask::Watch, Reply::lines([added("e", 11)]).then(Step::Hold)),
        ],
    );
    rig.expect([BEGIN, apply("a"), apply("b"), apply("c"), apply("d"), END, apply("e")]).await;
    let asked = rig.asked();
    assert_eq!(
        asked[1..],
        [
            (Ask::Page, String::new()),
            (Ask::Page, "t1".into()),
            (Ask::Page, "t2".into()),
            (Ask::Watch, "10".into())
        ]
    );
    assert_eq!(rig.script.asked("services")[1].query["limit"], "200");
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_begins_the_list_again() {
    let mut rig = watch(
        Kind::Service,
        [
            (Ask::Stream, Reply::status(400)),
            (Ask::Page, page(&[service_json("a", 1)], "t1", 10)),
            (Ask::Page, Reply::status(410)),
            (Ask::Stream, Reply::status(400)),
            (Ask::Page, page(&[service_json("b", 2)], "", 11)),
        ],
    );
    rig.expect([BEGIN, apply("a"), BEGIN, apply("b"), END]).await;
    assert_eq!(rig.errors(Fault::Expired), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_resumes_at_the_last_bookmark() {
    let mut rig = watch(
        Kind::Service,
        [
            (Ask::Stream, Reply::lines([list_end(10), bookmark(17)])),
            (Ask::Watch, Reply::lines([added("web", 18)])),
            (Ask::Watch, Reply::lines([added("api", 19)]).then(Step::Hold)),
        ],
    );
    rig.expect([BEGIN, END, apply("web"), apply("api")]).await;
    assert_eq!(rig.asked()[1..], [(Ask::Watch, "17".into()), (Ask::Watch, "18".into())]);
    assert_eq!(rig.feed.kind(Kind::Service).restarts.value(), 2);
    assert_eq!(rig.feed.kind(Kind::Service).version(), "19");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_forgotten_leads_to_a_full_list() {
    for refusal in [Reply::status(410), Reply::lines([gone()])] {
        let mut rig = watch(
            Kind::Service,
            [
                (Ask::Stream, Reply::lines([list_end(10), bookmark(11)])),
                (Ask::Watch, refusal),
                (Ask::Stream, Reply::lines([added("web", 20), list_end(30)]).then(Step::Hold)),
            ],
        );
        rig.expect([BEGIN, END, BEGIN, apply("web"), END]).await;
        assert_eq!(rig.asked()[1..], [(Ask::Watch, "11".into()), (Ask::Stream, String::new())]);
        assert_eq!(rig.errors(Fault::Expired), 1);
        assert_eq!(rig.feed.kind(Kind::Service).relists.value(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_forgets_at_once_is_listed_ever_more_slowly() {
    let forgets = || (Ask::Stream, Reply::lines([list_end(10), gone()]));
    let mut rig = watch(Kind::Service, std::iter::repeat_with(forgets).take(6));
    for _ in 0..6 {
        rig.expect([BEGIN, END]).await;
    }
    let (least, pauses) = (Duration::from_secs(30), pauses(&rig));
    let is_slow = |two: &[Duration]| two[0] + two[1] >= least;
    assert!(pauses.windows(2).all(is_slow), "two at once, at most: {pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_cut_inside_of_a_line_resumes_after_the_last_whole_one() {
    let cut = || Step::Send(added("half", 13)[..30].to_owned());
    for end in [vec![cut()], vec![cut(), Step::Break], vec![Step::Break]] {
        let first = Reply::lines([list_end(10), added("web", 12)]);
        let first = end.into_iter().fold(first, Reply::then);
        let rest = Reply::lines([added("half", 13)]).then(Step::Hold);
        let mut rig = watch(Kind::Service, [(Ask::Stream, first), (Ask::Watch, rest)]);
        rig.expect([BEGIN, END, apply("web"), apply("half")]).await;
        assert_eq!(rig.asked()[1], (Ask::Watch, "12".into()));
        assert_eq!(rig.errors(Fault::Cut), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_garbage_line_costs_itself_and_brings_the_next_list_forward() {
    let lines =
        ["<html>", "{}", r#"{"type":"ODD","object":{}}"#, r#"{"type":"DELETED","object":[]}"#]
            .map(str::to_owned);
    let stream = Reply::lines([list_end(10)].into_iter().chain(lines).chain([added("web", 11)]));
    let mut rig = watch(
        Kind::Service,
        [
            (Ask::Stream, stream.then(Step::Hold)),
            (Ask::Stream, Reply::lines([list_end(12)]).then(Step::Hold)),
        ],
    );
    let start = Instant::now();
    rig.expect([BEGIN, END, apply("web"), BEGIN, END]).await;
    assert_eq!(rig.errors(Fault::Garbage), 4);
    assert!(start.elapsed() <= Timing::default().doubt + Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_huge_line_costs_only_its_object() {
    let huge = event("ADDED", &format!(r#"{{"x":"{}"}}"#, "x".repeat(lines::LINE_MAX)));
    let stream = Reply::lines([list_end(10), huge, added("web", 12)]).then(Step::Hold);
    let mut rig = watch(Kind::Service, [(Ask::Stream, stream)]);
    rig.expect([BEGIN, END, apply("web")]).await;
    assert_eq!(rig.errors(Fault::Garbage), 1);
}

#[tokio::test(start_paused = true)]
async fn refused_rights_are_tried_until_they_are_granted() {
    let mut rig = watch(
        Kind::Service,
        [
            (Ask::Stream, Reply::status(403)),
            (Ask::Stream, Reply::status(401)),
            (Ask::Stream, Reply::status(503)),
            (Ask::Stream, Reply::lines([list_end(10)]).then(Step::Hold)),
        ],
    );
    rig.expect([BEGIN, END]).await;
    for fault in [Fault::Forbidden, Fault::Unauthorized, Fault::Server] {
        assert_eq!(rig.errors(fault), 1, "{}", fault.label());
    }
    assert_eq!(rig.feed.requests.by_code(), [(200, 1), (401, 1), (403, 1), (503, 1)]);
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let (sender, _changes) = channel(1);
    let client = kube::Client::new(Arc::new(Script::default()).router(), "default");
    let server = Arc::new(ApiServer::with_client(client, ApiLimits::default()));
    let feed = Arc::new(Feed::new(Instant::now(), &Scope::default()));
    let outlet = Outlet::new(sender, &Scope::default());
    let watcher = Watcher::new(Kind::Slice, &server, &outlet, &feed, Timing::default());
    let remedy = watcher.remedy(Fault::Forbidden);
    for word in ["list and watch", "endpointslices", "\"discovery.k8s.io\"", "ClusterRole"] {
        assert!(remedy.contains(word), "{remedy}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_us_to_slow_down_is_obeyed() {
    let mut rig = watch(
        Kind::Service,
        [
            (Ask::Stream, Reply::status(429).retry_after(20)),
            (Ask::Stream, Reply::lines([list_end(10)]).then(Step::Hold)),
        ],
    );
    rig.expect([BEGIN, END]).await;
    assert!(pauses(&rig)[0] >= Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn a7_a_silent_watch_is_opened_again_at_its_version_within_90_seconds() {
    let mut rig = watch(
        Kind::Service,
        [
            (Ask::Stream, Reply::lines([list_end(10)]).then(Step::Hold)),
            (Ask::Watch, Reply::lines([added("web", 11)]).then(Step::Hold)),
        ],
    );
    rig.expect([BEGIN, END, apply("web")]).await;
    assert_eq!(rig.asked()[1], (Ask::Watch, "10".into()));
    assert_eq!(rig.errors(Fault::Stalled), 1);
    assert!(pauses(&rig)[0] < Duration::from_secs(70));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_asked_again() {
    let mut rig = watch(Kind::Service, []);
    // Nothing is scripted, so even the pages stay silent.
    rig.expect([BEGIN, BEGIN]).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(rig.asked().len() > 3, "{:?}", rig.asked());
    assert!(!rig.feed.kind(Kind::Service).is_synced());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_at_once_is_asked_ever_more_slowly() {
    let ends = || (Ask::Watch, Reply::lines([]));
    let list = (Ask::Stream, Reply::lines([list_end(10)]));
    let mut rig =
        watch(Kind::Service, std::iter::once(list).chain(std::iter::repeat_with(ends).take(6)));
    rig.expect([BEGIN, END]).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_growing_pauses(&rig);
    assert!(rig.errors(Fault::Cut) >= 6);
    assert_eq!(rig.feed.kind(Kind::Service).relists.value(), 1);
}

#[tokio::test(start_paused = true)]
async fn only_exposed_namespaces_pass_and_a_single_one_is_chosen_by_the_server() {
    let stream = || Reply::lines([added("web", 5), list_end(10)]).then(Step::Hold);
    let mut both = watch_exposed(Kind::Service, &["a", "b"], [(Ask::Stream, stream())]);
    both.expect([BEGIN, END]).await;
    assert!(!both.script.asked("services")[0].query.contains_key("fieldSelector"));
    let mut one = watch_exposed(Kind::Service, &["shop"], [(Ask::Stream, stream())]);
    one.expect([BEGIN, apply("web"), END]).await;
    let query = &one.script.asked("services")[0].query;
    assert_eq!(query["fieldSelector"], "metadata.namespace%3Dshop");
}

#[tokio::test(start_paused = true)]
async fn the_watch_ends_when_nobody_receives() {
    let rig = watch(Kind::Service, [(Ask::Stream, Reply::status(500))]);
    drop(rig.changes);
    rig.task.await.unwrap();
}

/// The times between the questions.
fn pauses(rig: &Rig) -> Vec<Duration> {
    let mut asked = rig.script.asked(rig.kind.resource());
    asked.retain(|asked| asked.ask != Ask::Count);
    asked.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

/// Jitter is ±25 % of a doubling wait, so every second one is longer for sure.
fn assert_growing_pauses(rig: &Rig) {
    let pauses = pauses(rig);
    let is_growing = |at: usize| pauses[at + 2] > pauses[at];
    assert!(pauses.len() >= 5 && (0..3).all(is_growing), "{pauses:?}");
}

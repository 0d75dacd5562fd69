//! What is asked of the API server, and how often.

use super::*;
use crate::cluster::selector::Selector;

fn selector(text: &str) -> Option<Selector> {
    Some(Selector::parse(text).unwrap())
}

#[tokio::test(start_paused = true)]
async fn selectors_are_in_lists_streams_and_resumed_watches() {
    let scope = Scope {
        labels: selector("app in (a, b),!old"),
        namespace_labels: selector("team=x"),
        ..Scope::default()
    };
    for (kind, expected) in [
        (Kind::Service, "app+in+%28a%2Cb%29%2C%21old"),
        (Kind::Slice, "app+in+%28a%2Cb%29%2C%21old"),
        (Kind::Pod, "app+in+%28a%2Cb%29%2C%21old"),
        (Kind::Import, "app+in+%28a%2Cb%29%2C%21old"),
        (Kind::Namespace, "team%3Dx"),
    ] {
        let replies = [
            (Ask::Stream, Reply::status(400)),
            (Ask::Page, page(&[], "t", 9)),
            (Ask::Page, page(&[], "", 9)),
        ];
        let mut rig = watch_scope(kind, &scope, replies);
        rig.expect([begin(kind), end(kind)]).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let asked = rig.script.asked(kind.resource());
        let asks: Vec<_> = asked.iter().map(|asked| asked.ask).collect();
        assert_eq!(asks, [Ask::Stream, Ask::Page, Ask::Page, Ask::Watch]);
        for asked in asked {
            assert_eq!(asked.query["labelSelector"], expected, "{kind:?} {:?}", asked.ask);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requests_keep_to_the_rate_and_their_waits_are_counted() {
    let api = ApiLimits { qps: 0.1, burst: 2, in_flight: 1 };
    let scope = Scope { api, ..Scope::default() };
    // Streams are open, so they would hold the only place for ever if they held it.
    let ends = || (Ask::Watch, Reply::lines([bookmark(11)]));
    let stream = [(Ask::Stream, Reply::lines([list_end(10), bookmark(11)]))];
    let mut rig =
        watch_scope(Kind::Service, &scope, stream.into_iter().chain([ends(), ends(), ends()]));
    rig.expect([BEGIN, END]).await;
    tokio::time::sleep(Duration::from_secs(45)).await;
    let pauses: Vec<_> = pauses(&rig).iter().map(|it| it.as_secs_f32().round()).collect();
    assert_eq!(pauses, [0.0, 10.0, 10.0, 10.0], "of the burst, and then of the rate");
    let waits = &rig.feed.requests.waits;
    assert_eq!((waits.total().0, waits.buckets()[0]), (5, 2));
    assert!(waits.total().1 >= Duration::from_secs(29), "{:?}", waits.total());
}

#[tokio::test(start_paused = true)]
async fn an_open_watch_holds_no_place() {
    let scope =
        Scope { api: ApiLimits { in_flight: 1, ..ApiLimits::default() }, ..Scope::default() };
    let script = Arc::new(Script::default());
    for resource in ["namespaces", "services"] {
        script.on(Ask::Stream, resource, Reply::lines([list_end(10)]).then(Step::Hold));
    }
    let (sender, mut changes) = channel(64);
    let client = kube::Client::new(script.router(), "default");
    let server = Arc::new(ApiServer::with_client(client, scope.api));
    let feed = Arc::new(Feed::new(Instant::now(), &scope));
    let outlet = Outlet::new(sender, &scope);
    for kind in [Kind::Namespace, Kind::Service] {
        let (server, outlet, feed) = (server.clone(), outlet.clone(), feed.clone());
        tokio::spawn(run(kind, server, outlet, feed, Timing::default(), None));
    }
    let start = Instant::now();
    for _ in 0..4 {
        changes.recv().await.unwrap();
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(feed.kind(Kind::Namespace).is_synced() && feed.kind(Kind::Service).is_synced());
}

#[tokio::test(start_paused = true)]
async fn only_pods_at_work_are_asked_for() {
    let phases =
        "status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed%2Cstatus.phase%21%3DUnknown";
    for (namespaces, expected) in [
        (&[][..], phases.to_owned()),
        (&["a", "b"][..], phases.to_owned()),
        (&["shop"][..], format!("metadata.namespace%3Dshop%2C{phases}")),
    ] {
        let stream = Reply::lines([list_end(10)]);
        let mut rig = watch_exposed(Kind::Pod, namespaces, [(Ask::Stream, stream)]);
        rig.expect([begin(Kind::Pod), end(Kind::Pod)]).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let asked = rig.script.asked("pods");
        assert_eq!(asked.len(), 2, "a stream and a watch");
        for asked in asked {
            assert_eq!(asked.query["fieldSelector"], expected);
        }
    }
}

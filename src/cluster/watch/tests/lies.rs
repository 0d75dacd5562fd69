//! A7 to A9: an API server that stalls, omits, repeats, shuffles, and goes back in time.

use super::*;
use crate::cluster::object::Pod;

/// The answer to the question how many there are.
fn count(version: u32, objects: u32) -> (Ask, Reply) {
    let (item, more) = (service_json("first", 1), objects - 1);
    let token = match more {
        0 => String::new(),
        more => format!(r#","continue":"t","remainingItemCount":{more}"#),
    };
    let metadata = format!(r#"{{"resourceVersion":"{version}"{token}}}"#);
    (Ask::Count, Reply::body(format!(r#"{{"metadata":{metadata},"items":[{item}]}}"#)))
}

/// A list that goes on as a watch, and says nothing for now.
fn list(lines: impl IntoIterator<Item = String>) -> (Ask, Reply) {
    (Ask::Stream, Reply::lines(lines).then(Step::Hold))
}

fn state(rig: &Rig) -> &crate::cluster::feed::KindFeed {
    rig.feed.kind(Kind::Service)
}

fn added_pod(name: &str, address: u8, version: u32) -> String {
    let metadata =
        format!(r#"{{"name":"{name}","namespace":"shop","resourceVersion":"{version}"}}"#);
    let status = format!(r#"{{"phase":"Running","podIP":"10.0.0.{address}"}}"#);
    event("ADDED", &format!(r#"{{"metadata":{metadata},"status":{status}}}"#))
}

fn pod(name: &str, address: u8) -> Change {
    let addresses = [[10, 0, 0, address].into()].into();
    Change::Apply(Object::Pod(Pod { key: key(name), addresses }))
}

const TEN_MINUTES: Duration = Duration::from_secs(600);

/// A bookmark every minute, as an API server sends them.
fn bookmarks(mut reply: Reply, versions: impl IntoIterator<Item = u32>) -> Reply {
    for version in versions {
        reply = reply.then(Step::Wait(Duration::from_secs(60)));
        reply = reply.then(Step::Send(bookmark(version) + "\n"));
    }
    reply.then(Step::Hold)
}

#[tokio::test(start_paused = true)]
async fn a7_a_watch_that_is_told_of_by_bookmarks_alone_stays_open() {
    let stream = bookmarks(Reply::lines([list_end(10)]), 11..16);
    let mut rig = watch(Kind::Service, [(Ask::Stream, stream)]);
    rig.expect([BEGIN, END]).await;
    tokio::time::sleep(Duration::from_secs(310)).await;
    assert_eq!((rig.asked().len(), rig.errors(Fault::Stalled)), (1, 0));
    assert_eq!(state(&rig).version(), "15");
    // From here on nothing comes.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.asked()[1], (Ask::Watch, "15".into()));
}

#[tokio::test(start_paused = true)]
async fn a7_half_a_line_is_no_sign_of_life() {
    let mut stream = Reply::lines([list_end(10)]);
    for octet in ["{", "\"", "t", "y", "p", "e"] {
        stream = stream.then(Step::Wait(Duration::from_secs(30)));
        stream = stream.then(Step::Send(octet.to_owned()));
    }
    let mut rig = watch(Kind::Service, [(Ask::Stream, stream)]);
    rig.expect([BEGIN, END]).await;
    tokio::time::sleep(Duration::from_secs(90)).await;
    assert_eq!(rig.asked()[1..], [(Ask::Watch, "10".into())]);
}

#[tokio::test(start_paused = true)]
async fn a7_a_server_whose_watches_open_and_say_nothing_is_listed_within_150_seconds() {
    let silent = || (Ask::Watch, Reply::lines([]).then(Step::Hold));
    let mut replies = vec![list([added("web", 5), list_end(10)])];
    for n in 2..6 {
        let news = [added("web", 5), added("new", 10 * n - 1), list_end(10 * n)];
        replies.extend([silent(), list(news)]);
    }
    let mut rig = watch(Kind::Service, replies);
    rig.expect([BEGIN, apply("web"), END]).await;
    for _ in 2..6 {
        let start = Instant::now();
        rig.expect([BEGIN, apply("web"), apply("new"), END]).await;
        let took = start.elapsed();
        assert!((120..150).contains(&took.as_secs()), "{took:?}");
    }
    assert_eq!(rig.asked()[1..3], [(Ask::Watch, "10".into()), (Ask::Stream, String::new())]);
}

#[tokio::test(start_paused = true)]
async fn a8_an_omitted_change_is_repaired_within_ten_minutes_and_counted() {
    let first = [added("web", 5), added("api", 6), list_end(10), bookmark(90)];
    let second = [added("web", 50), added("api", 6), added("new", 95), list_end(99)];
    let mut rig =
        watch(Kind::Service, [list(first), list(second), list([added("web", 50), list_end(120)])]);
    let start = Instant::now();
    rig.expect([BEGIN, apply("web"), apply("api"), END]).await;
    // What is in doubt comes when the list is known to be new.
    rig.expect([BEGIN, apply("api"), apply("new"), apply("web"), END]).await;
    assert!(start.elapsed() < TEN_MINUTES, "{:?}", start.elapsed());
    assert_eq!(state(&rig).repairs.value(), 1);
    // Whoever omits one omits others: the next list comes sooner.
    let start = Instant::now();
    rig.expect([BEGIN, apply("web"), END]).await;
    assert!(start.elapsed() <= Duration::from_secs(133), "{:?}", start.elapsed());
    assert_eq!(state(&rig).repairs.value(), 1);
}

#[tokio::test(start_paused = true)]
async fn a8_omitted_changes_of_pods_are_repaired_within_ten_minutes_and_counted() {
    // `web` was given another address, `old` has gone and `new` has come.
    let first = [added_pod("web", 1, 5), added_pod("old", 2, 6), list_end(10)];
    let first = bookmarks(Reply::lines(first), [90; 20]);
    let second = list([added_pod("web", 3, 50), added_pod("new", 4, 51), list_end(95)]);
    let mut rig = watch(Kind::Pod, [(Ask::Stream, first), second]);
    let (begin, end) = (|| begin(Kind::Pod), || end(Kind::Pod));
    let start = Instant::now();
    rig.expect([begin(), pod("web", 1), pod("old", 2), end()]).await;
    rig.expect([begin(), pod("web", 3), pod("new", 4), end()]).await;
    assert!(start.elapsed() < TEN_MINUTES, "{:?}", start.elapsed());
    tokio::task::yield_now().await;
    // That `old` is gone may be news that was still under way, in a list that is newer.
    assert_eq!(rig.feed.kind(Kind::Pod).repairs.value(), 2);
    let asked = rig.script.asked(Kind::Pod.resource());
    assert!(asked.iter().all(|asked| asked.ask != Ask::Count), "it would count others too");
}

#[tokio::test(start_paused = true)]
async fn a8_what_is_held_back_does_not_undo_what_came_after_it() {
    let first = [added("web", 5), added("api", 6), list_end(10), bookmark(90)];
    let mut second = vec![added("web", 50), added("api", 60)];
    second.push(event("MODIFIED", &service_json("web", 120)));
    second.push(event("DELETED", &service_json("api", 121)));
    second.push(list_end(122));
    let mut rig = watch(Kind::Service, [list(first), list(second)]);
    rig.expect([BEGIN, apply("web"), apply("api"), END]).await;
    rig.expect([BEGIN, apply("web"), delete("api"), END]).await;
}

#[tokio::test(start_paused = true)]
async fn a8_an_object_that_was_never_told_of_is_missed_by_its_number() {
    let first = bookmarks(Reply::lines([added("web", 5), list_end(10)]), [20, 30, 40]);
    let second = [added("web", 5), added("lost", 15), list_end(60)];
    let replies = [(Ask::Stream, first), count(25, 2), list(second)];
    let mut rig = watch(Kind::Service, replies);
    let start = Instant::now();
    rig.expect([BEGIN, apply("web"), END]).await;
    rig.expect([BEGIN, apply("web"), apply("lost"), END]).await;
    assert!(start.elapsed() < Duration::from_secs(150), "{:?}", start.elapsed());
    assert_eq!((rig.errors(Fault::Omitted), state(&rig).repairs.value()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a8_an_object_that_was_not_taken_away_is_missed_by_its_number() {
    let first = bookmarks(Reply::lines([added("web", 5), added("old", 6), list_end(10)]), [20, 30]);
    let replies = [(Ask::Stream, first), count(25, 1), list([added("web", 5), list_end(60)])];
    let mut rig = watch(Kind::Service, replies);
    let start = Instant::now();
    rig.expect([BEGIN, apply("web"), apply("old"), END, BEGIN, apply("web"), END]).await;
    assert!(start.elapsed() < Duration::from_secs(150), "{:?}", start.elapsed());
    assert_eq!((rig.errors(Fault::Omitted), state(&rig).repairs.value()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a8_an_object_that_was_not_taken_away_is_counted_where_the_server_counts_none() {
    // One of a version that the watch had come to tells for sure that a deletion was omitted.
    for (version, repairs) in [(90, 1), (91, 0)] {
        let first = Reply::lines([added("web", 5), added("old", 6), list_end(10)]);
        let first = bookmarks(first, [90; 20]);
        let second = list([added("web", 5), list_end(version)]);
        let mut rig = watch_exposed(Kind::Service, &["shop"], [(Ask::Stream, first), second]);
        rig.expect([BEGIN, apply("web"), apply("old"), END, BEGIN, apply("web"), END]).await;
        tokio::task::yield_now().await;
        assert_eq!(state(&rig).repairs.value(), repairs, "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn a8_numbers_that_agree_lead_to_no_list() {
    let stream = bookmarks(Reply::lines([added("web", 5), list_end(10)]), [20, 30, 40, 50, 60]);
    let replies = [(Ask::Stream, stream), count(25, 1), count(45, 1), count(80, 1)];
    let mut rig = watch(Kind::Service, replies);
    rig.expect([BEGIN, apply("web"), END]).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!((rig.asked().len(), rig.errors(Fault::Omitted)), (1, 0));
    let counted = rig.script.asked("services").into_iter().filter(|asked| asked.ask == Ask::Count);
    assert!((2..=4).contains(&counted.count()), "each one and a pause");
}

#[tokio::test(start_paused = true)]
async fn a8_what_the_server_chooses_for_us_is_not_counted() {
    let replies = [list([list_end(10)])];
    let mut rig = watch_exposed(Kind::Service, &["shop"], replies);
    rig.expect([BEGIN, END]).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    assert!(rig.script.asked("services").iter().all(|asked| asked.ask != Ask::Count));
}

#[tokio::test(start_paused = true)]
async fn a8_repeated_events_change_nothing_and_shuffled_ones_lead_to_a_list() {
    let stream = [list_end(10), added("web", 11), added("web", 11), added("api", 13)];
    let shuffled = stream.into_iter().chain([added("late", 12), added("never", 14)]);
    let again = [added("web", 11), added("api", 13), added("late", 12), list_end(20)];
    let mut rig = watch(Kind::Service, [list(shuffled), list(again)]);
    rig.expect([BEGIN, END, apply("web"), apply("web"), apply("api")]).await;
    rig.expect([BEGIN, apply("web"), apply("api"), apply("late"), END]).await;
    assert_eq!((rig.errors(Fault::Backwards), state(&rig).repairs.value()), (1, 1));
    assert_eq!(rig.asked()[1], (Ask::Stream, "13".into()), "not older than the watch");
}

#[tokio::test(start_paused = true)]
async fn a9_an_event_older_than_the_watch_is_never_applied() {
    for old in ["MODIFIED", "DELETED"].map(|kind| event(kind, &service_json("web", 9))) {
        let stream = [added("web", 5), list_end(10), old];
        let mut rig = watch(Kind::Service, [list(stream), list([added("web", 5), list_end(12)])]);
        rig.expect([BEGIN, apply("web"), END, BEGIN, apply("web"), END]).await;
        assert_eq!((rig.errors(Fault::Backwards), state(&rig).repairs.value()), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a9_a_list_older_than_the_watch_is_refused_and_asked_for_again() {
    let first = Reply::lines([added("web", 5), list_end(10), added("new", 12), gone()]);
    // Another replica: it has not seen that `gone` was deleted, and `web` as it was before.
    let older = [added("web", 4), added("gone", 6), list_end(8)];
    let newer = [added("web", 5), added("new", 12), list_end(13)];
    let mut rig = watch(Kind::Service, [(Ask::Stream, first), list(older), list(newer)]);
    rig.expect([BEGIN, apply("web"), END, apply("new")]).await;
    let keep = Change::Keep(Kind::Service, key("web"));
    rig.expect([BEGIN, keep, BEGIN, apply("web"), apply("new"), END]).await;
    let asked = rig.asked();
    assert_eq!(asked[1..], [(Ask::Stream, String::new()), (Ask::Stream, "12".into())]);
    let query = rig.script.asked("services").pop().unwrap().query;
    assert_eq!(query["resourceVersionMatch"], "NotOlderThan");
    assert_eq!(state(&rig).outdated.value(), 2, "the list and `web`");
}

#[tokio::test(start_paused = true)]
async fn a9_an_older_list_in_pages_is_refused_before_anything_of_it_is_taken() {
    let replies = [
        (Ask::Stream, Reply::status(400)),
        (Ask::Page, page(&[service_json("web", 5)], "", 10)),
        (Ask::Watch, Reply::lines([added("new", 12), gone()])),
        (Ask::Page, page(&[service_json("gone", 6)], "", 8)),
        (Ask::Page, page(&[service_json("web", 5), service_json("new", 12)], "", 12)),
    ];
    let mut rig = watch(Kind::Service, replies);
    rig.expect([BEGIN, apply("web"), END, apply("new"), BEGIN]).await;
    rig.expect([BEGIN, apply("web"), apply("new"), END]).await;
    let queries = rig.script.asked("services");
    let page = queries.iter().rfind(|asked| asked.ask == Ask::Page).unwrap();
    assert_eq!(page.query["resourceVersion"], "12");
    assert_eq!(page.query["resourceVersionMatch"], "NotOlderThan");
}

#[tokio::test(start_paused = true)]
async fn a9_a_server_that_went_back_for_good_is_followed_after_some_refusals() {
    // etcd was restored: versions are smaller for ever.
    let restored = || list([added("web", 3), list_end(4)]);
    let mut replies = vec![list([added("web", 5), list_end(10), bookmark(4)])];
    replies.push((Ask::Stream, Reply::status(504)));
    replies.extend(std::iter::repeat_with(restored).take(9));
    let mut rig = watch(Kind::Service, replies);
    let start = Instant::now();
    rig.expect([BEGIN, apply("web"), END]).await;
    let mut refused = 0;
    loop {
        match rig.changes.recv().await.unwrap() {
            BEGIN => {}
            change if change == apply("web") => break,
            change => {
                assert_eq!(change, Change::Keep(Kind::Service, key("web")));
                refused += 1;
            }
        }
    }
    rig.expect([END]).await;
    let took = start.elapsed();
    assert!(refused >= 2 && took > Duration::from_secs(20), "{refused} in {took:?}");
    assert!(took < Duration::from_secs(90), "{took:?}");
    assert_eq!(state(&rig).repairs.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn a9_a_due_list_that_is_older_leaves_the_watch_as_it_was() {
    let first = bookmarks(Reply::lines([added("web", 5), list_end(10)]), 11..30);
    let mut rig = watch(
        Kind::Service,
        [
            (Ask::Stream, first),
            list([added("gone", 4), list_end(8)]),
            (Ask::Watch, Reply::lines([added("new", 40)]).then(Step::Hold)),
        ],
    );
    rig.expect([BEGIN, apply("web"), END, BEGIN, GIVE_UP, apply("new")]).await;
    let asked = rig.asked();
    assert_eq!(asked[1].0, Ask::Stream);
    assert_eq!(asked[2].0, Ask::Watch, "at the position of before");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_goes_on_from_a_snapshot_is_proven_within_a_minute() {
    let replies = [
        (Ask::Watch, Reply::lines([added("new", 12)]).then(Step::Hold)),
        list([added("new", 12), list_end(20)]),
    ];
    let mut rig = watch_from(Kind::Service, Some("10"), &Scope::default(), replies);
    let start = Instant::now();
    rig.expect([apply("new"), BEGIN, apply("new"), END]).await;
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    // Nothing older gets in: what the Snapshot holds is not known here.
    assert_eq!(rig.asked(), [(Ask::Watch, "10".into()), (Ask::Stream, "12".into())]);
    assert_eq!(state(&rig).repairs.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn p7_what_is_restored_is_confirmed_by_an_event_or_a_whole_list_and_by_no_answer() {
    // The version is forgotten, and the list that follows takes its time.
    let mut listing = Reply::lines([added("web", 5)]).then(Step::Wait(Duration::from_secs(9)));
    listing = listing.then(Step::Send(list_end(20) + "\n")).then(Step::Hold);
    let replies = [(Ask::Watch, Reply::lines([gone()])), (Ask::Stream, listing)];
    let mut rig = watch_from(Kind::Service, Some("10"), &Scope::default(), replies);
    rig.feed.restore(Kind::Service, "10");
    rig.expect([BEGIN, apply("web")]).await;
    assert!(state(&rig).is_restored());
    rig.expect([END]).await;
    tokio::task::yield_now().await;
    assert!(!state(&rig).is_restored());
    let goes_on = Reply::lines([]).then(Step::Wait(Duration::from_secs(9)));
    let goes_on = goes_on.then(Step::Send(bookmark(12) + "\n")).then(Step::Hold);
    let rig = watch_from(Kind::Service, Some("10"), &Scope::default(), [(Ask::Watch, goes_on)]);
    rig.feed.restore(Kind::Service, "10");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(state(&rig).is_following() && state(&rig).is_restored());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!state(&rig).is_restored());
}

#[tokio::test(start_paused = true)]
async fn a9_a_server_that_went_back_for_good_is_followed_though_watches_can_be_opened() {
    // It lists what is older, refuses to list what is newer, and lets watches wait for it.
    let mut rig = watch(Kind::Service, [list([added("web", 50), list_end(90)])]);
    rig.expect([BEGIN, apply("web"), END]).await;
    rig.script.on(Ask::Stream, "services", list([added("web", 3), list_end(4)]).1);
    for n in 0..40 {
        let newer =
            if n < 12 { Reply::status(504) } else { list([added("web", 3), list_end(4)]).1 };
        rig.script.on(Ask::Stream, "services", newer);
        rig.script.on(Ask::Watch, "services", Reply::lines([]).then(Step::Hold));
    }
    let start = Instant::now();
    while rig.changes.recv().await.unwrap() != END {
        assert!(start.elapsed() < TEN_MINUTES, "{:?}", rig.asked());
    }
    // What is asked for then names no version of before.
    assert_eq!(state(&rig).version(), "4");
}

#[tokio::test(start_paused = true)]
async fn a7_a_watch_that_falls_silent_again_and_again_is_as_old_as_its_last_sign() {
    let mut rig = watch(Kind::Service, [list([added("web", 5), list_end(10)])]);
    for _ in 0..9 {
        rig.script.on(Ask::Watch, "services", Reply::lines([]).then(Step::Hold));
    }
    rig.expect([BEGIN, apply("web"), END]).await;
    let heard = rig.feed.heard_at(Kind::Service);
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let now = Instant::now();
        let fresh_at = rig.feed.fresh_at(Kind::Service, now);
        assert!(fresh_at == heard || now - heard.unwrap() < Duration::from_secs(70));
    }
    assert!(rig.errors(Fault::Stalled) >= 2);
}

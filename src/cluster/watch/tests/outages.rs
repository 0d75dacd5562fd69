//! A4, A6: an API server that comes and goes, that is overloaded, and that is slow.

use super::*;

#[tokio::test(start_paused = true)]
async fn a4_a_server_that_flaps_is_listed_once_and_followed_from_where_it_was() {
    // Up for five seconds, away for five.
    let up = |ask, lines: Vec<String>| {
        (ask, Reply::lines(lines).then(Step::Wait(Duration::from_secs(5))).then(Step::Break))
    };
    let mut replies = vec![up(Ask::Stream, vec![list_end(10)])];
    for version in 0..60 {
        replies.push((Ask::Watch, Reply::status(503)));
        replies.push(up(Ask::Watch, vec![added(&format!("s{version}"), 11 + version)]));
    }
    let mut rig = watch(Kind::Service, replies);
    rig.expect([BEGIN, END]).await;
    let names: Vec<String> = (0..60).map(|version| format!("s{version}")).collect();
    rig.expect(names.iter().map(|name| apply(name))).await;
    assert_eq!(rig.feed.kind(Kind::Service).relists.value(), 1);
}

#[tokio::test(start_paused = true)]
async fn a4_a_server_that_flaps_and_forgets_is_listed_once_in_30_seconds() {
    // Each time that it comes back, it has forgotten our version; and half of its lists are cut.
    let mut replies = vec![(Ask::Stream, Reply::lines([added("web", 5), list_end(10)]))];
    for n in 0..40 {
        let whole = Reply::lines([added("web", 5), list_end(20 + n), gone()]);
        let cut = Reply::lines([added("web", 5)]).then(Step::Break);
        replies.push((Ask::Watch, Reply::status(503)));
        replies.push((Ask::Watch, Reply::status(410)));
        replies.push((Ask::Stream, if n % 2 == 0 { whole } else { cut }));
    }
    let mut rig = watch(Kind::Service, replies);
    let drain = async { while rig.changes.recv().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_secs(600), drain).await;
    let asked = rig.script.asked("services");
    let lists: Vec<_> = asked.iter().filter(|asked| asked.ask == Ask::Stream).collect();
    let pauses: Vec<_> = lists.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!((8..=22).contains(&lists.len()), "{} lists in ten minutes", lists.len());
    let is_slow = |two: &[Duration]| two[0] + two[1] >= Duration::from_secs(30);
    assert!(pauses.windows(2).all(is_slow), "two at once, at most: {pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a6_a_due_list_that_is_refused_does_not_end_the_watch() {
    let first = Reply::lines([added("web", 5), list_end(10)]).then(Step::Hold);
    for refusal in [Reply::status(429).retry_after(7), Reply::status(500), Reply::status(503)] {
        let first = first.clone();
        let mut rig = watch(Kind::Service, [(Ask::Stream, first)]);
        for _ in 0..20 {
            rig.script.on(Ask::Watch, "services", Reply::lines([]).then(Step::Hold));
        }
        rig.expect([BEGIN, apply("web"), END]).await;
        rig.script.on(Ask::Stream, "services", refusal);
        rig.script.on(Ask::Stream, "services", Reply::lines([list_end(30)]).then(Step::Hold));
        rig.expect([BEGIN, END]).await;
        let asked = rig.asked();
        let at = asked.iter().rposition(|(ask, _)| *ask == Ask::Stream).unwrap();
        assert_eq!(asked[at - 1], (Ask::Watch, "10".into()), "{asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a6_a_server_that_hangs_on_lists_is_followed_most_of_the_time() {
    let hangs = Reply::lines([added("web", 5)]).then(Step::Hold);
    for hanging in [None, Some(hangs)] {
        let first = Reply::lines([added("web", 5), list_end(10)]).then(Step::Hold);
        let mut rig = watch(Kind::Service, [(Ask::Stream, first)]);
        rig.expect([BEGIN, apply("web"), END]).await;
        for _ in 0..60 {
            let mut follows = Reply::lines([]);
            for _ in 0..9 {
                follows = follows.then(Step::Send(bookmark(11) + "\n"));
                follows = follows.then(Step::Wait(Duration::from_secs(60)));
            }
            rig.script.on(Ask::Watch, "services", follows);
            hanging.iter().for_each(|it| rig.script.on(Ask::Stream, "services", it.clone()));
        }
        let drain = async { while rig.changes.recv().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(3600), drain).await;
        let mut asked = rig.script.asked("services");
        asked.retain(|asked| asked.ask != Ask::Count);
        let blind = asked.windows(2).skip(1).filter(|pair| pair[0].ask != Ask::Watch);
        let blind: Vec<Duration> = blind.map(|pair| pair[1].at - pair[0].at).collect();
        assert!((5..25).contains(&blind.len()), "{} lists in an hour", blind.len());
        // A short time at first; then as long as for any answer, or a list that is slow would never
        // be had.
        assert!(blind[0].as_secs() <= 25, "{blind:?}");
        assert!(blind.iter().all(|blind| blind.as_secs() <= 65), "{blind:?}");
        let sum: Duration = blind.iter().sum();
        assert!(sum < Duration::from_secs(3600 / 3), "{blind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a6_a_list_that_drips_for_a_minute_is_waited_for() {
    let mut slow = Reply::lines([]);
    for n in 1..=6 {
        slow = slow.then(Step::Wait(Duration::from_secs(9)));
        slow = slow.then(Step::Send(added(&format!("s{n}"), n) + "\n"));
    }
    slow = slow.then(Step::Wait(Duration::from_secs(9)));
    let slow = slow.then(Step::Send(list_end(9) + "\n")).then(Step::Hold);
    // A server that is known may pause for nearly a minute.
    let first = Reply::lines([added("web", 5), list_end(10), gone()]);
    let pausing = Reply::lines([]).then(Step::Wait(Duration::from_secs(55)));
    let pausing = pausing.then(Step::Send(list_end(12) + "\n")).then(Step::Hold);
    let mut rig = watch(Kind::Service, [(Ask::Stream, slow)]);
    rig.expect([BEGIN].into_iter().chain((1..=6).map(|n| apply(&format!("s{n}"))))).await;
    rig.expect([END]).await;
    let mut rig = watch(Kind::Service, [(Ask::Stream, first), (Ask::Stream, pausing)]);
    rig.expect([BEGIN, apply("web"), END, BEGIN, END]).await;
    assert_eq!(rig.errors(Fault::Stalled), 0);
}

#[tokio::test(start_paused = true)]
async fn a6_pages_become_smaller_while_a_server_fails_and_the_list_goes_on() {
    let mut rig = watch(
        Kind::Service,
        [
            (Ask::Stream, Reply::status(400)),
            (Ask::Page, page(&[service_json("a", 1)], "t1", 10)),
            (Ask::Page, Reply::status(500)),
            (Ask::Page, Reply::status(429).retry_after(20)),
            (Ask::Page, page(&[service_json("b", 2)], "t2", 10)),
            (Ask::Page, page(&[service_json("c", 3)], "", 10)),
            (Ask::Watch, Reply::lines([gone()])),
            (Ask::Page, page(&[], "", 20)),
        ],
    );
    let start = Instant::now();
    rig.expect([BEGIN, apply("a"), apply("b"), apply("c"), END]).await;
    assert!(start.elapsed() >= Duration::from_secs(20), "as long as it had asked for");
    rig.expect([BEGIN, END]).await;
    let asked = rig.script.asked("services").into_iter();
    let pages: Vec<_> = asked
        .filter(|asked| asked.ask == Ask::Page)
        .map(|asked| {
            let token = asked.query.get("continue").cloned().unwrap_or_default();
            (token, asked.query["limit"].clone())
        })
        .collect();
    let expected = [("", "200"), ("t1", "200"), ("t1", "100"), ("t1", "50"), ("t2", "50")];
    let expected = expected.map(|(token, limit)| (token.to_owned(), limit.to_owned()));
    assert_eq!(pages[..5], expected);
    assert_eq!(pages[5], (String::new(), "100".into()), "and larger again");
}

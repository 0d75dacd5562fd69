//! Workers on loopback, some of which do not behave.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::super::report::Group;
use super::*;

/// Worker 0's socket, and the settings of a worker by its index.
async fn place(workers: u32) -> (TcpListener, impl Fn(u32) -> Settings) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let settings = move |index| Settings {
        host: "localhost".to_owned(),
        port,
        index,
        workers,
        digest: 7,
        join_within: Duration::from_secs(60),
        report_within: Duration::from_secs(60),
    };
    (listener, settings)
}

/// A report of so many lookups.
fn report(lookups: u64) -> Report {
    let total = Group { lookups, ..Group::default() };
    let (schema, ended) = (SCHEMA.to_owned(), "complete".to_owned());
    Report { schema, total, ended, workers: 1, ..Report::default() }
}

/// Adds them up.
fn merge(reports: Vec<Report>) -> Report {
    let lookups = reports.iter().map(|report| report.total.lookups).sum();
    Report { workers: reports.len() as u32, ..report(lookups) }
}

/// A whole run of one of the others.
async fn run(settings: Settings) -> Result<Option<Report>, Error> {
    let lookups = u64::from(settings.index);
    let start = come(settings).await?;
    start.delivery.called_off().await;
    start.delivery.deliver(report(lookups), merge).await
}

#[tokio::test]
async fn all_start_at_the_same_instant_and_their_reports_become_one() {
    let (listener, settings) = place(4).await;
    let others: Vec<_> = (1..4).map(|index| tokio::spawn(come(settings(index)))).collect();
    let first = receive(&listener, settings(0)).await.unwrap();
    assert!(first.at > Instant::now());
    let mut delivered = Vec::new();
    for (other, lookups) in others.into_iter().zip([10, 100, 1000]) {
        let start = other.await.unwrap().unwrap();
        // Half of a round trip on loopback, whatever else this machine does; 2 s were possible.
        let apart = start.at.max(first.at) - start.at.min(first.at);
        assert!(apart < Duration::from_secs(1), "{apart:?}");
        delivered.push(tokio::spawn(start.delivery.deliver(report(lookups), merge)));
    }
    let whole = first.delivery.deliver(report(1), merge).await.unwrap().unwrap();
    assert_eq!((whole.total.lookups, whole.workers, &*whole.ended), (1111, 4, "complete"));
    for other in delivered {
        assert_eq!(other.await.unwrap().unwrap(), None);
    }
}

#[tokio::test]
async fn a_worker_that_vanishes_is_named_and_the_others_are_reported() {
    let (listener, settings) = place(4).await;
    let stays = tokio::spawn(run(settings(2)));
    let leave = [1, 3].map(|index| tokio::spawn(come(settings(index))));
    let first = receive(&listener, settings(0)).await.unwrap();
    for worker in leave {
        drop(worker.await.unwrap().unwrap());
    }
    let whole = first.delivery.deliver(report(5), merge).await.unwrap().unwrap();
    assert_eq!((whole.total.lookups, whole.workers), (7, 2));
    assert_eq!(whole.ended, "without workers 1, 3, which vanished");
    assert_eq!(stays.await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn a_worker_that_goes_before_the_start_may_be_replaced() {
    let (listener, settings) = place(3).await;
    let mut gone = connect(&settings(1)).await.unwrap();
    say(&mut gone, &Call::Hello(settings(1).hello())).await.unwrap();
    drop(gone);
    let others = [2, 1].map(|index| tokio::spawn(run(settings(index))));
    let first = receive(&listener, settings(0)).await.unwrap();
    let whole = first.delivery.deliver(report(5), merge).await.unwrap().unwrap();
    assert_eq!((whole.workers, &*whole.ended), (3, "complete"));
    for other in others {
        assert_eq!(other.await.unwrap().unwrap(), None);
    }
}

/// Nothing of it is a worker.
#[tokio::test]
async fn garbage_silence_and_what_is_too_long_keep_nobody_out() {
    let (listener, settings) = place(2).await;
    let silent = connect(&settings(1)).await.unwrap();
    for octets in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\0\0\x04null", b"\xff\xff\xff\xff{}", b"\0\0"]
    {
        let mut stranger = connect(&settings(1)).await.unwrap();
        stranger.write_all(octets).await.unwrap();
        stranger.shutdown().await.unwrap();
    }
    let other = tokio::spawn(run(settings(1)));
    let first = receive(&listener, settings(0)).await.unwrap();
    let whole = first.delivery.deliver(report(1), merge).await.unwrap().unwrap();
    assert_eq!((whole.workers, &*whole.ended), (2, "complete"));
    other.await.unwrap().unwrap();
    drop(silent);
}

/// What worker 0 says to somebody who introduces itself like this while it waits.
async fn refused(change: impl Fn(&mut Hello)) -> String {
    let (listener, settings) = place(3).await;
    let (stranger, here) = (settings(1), settings(2));
    let waiting = tokio::spawn(async move { receive(&listener, settings(0)).await });
    let mut present = connect(&here).await.unwrap();
    say(&mut present, &Call::Hello(here.hello())).await.unwrap();
    let mut hello = stranger.hello();
    change(&mut hello);
    // Two come in any order; whoever comes second with an index is told so.
    let mut stream = connect(&stranger).await.unwrap();
    say(&mut stream, &Call::Hello(hello)).await.unwrap();
    let first = tokio::select! {
        call = hear_call(&mut stream) => call,
        call = hear_call(&mut present) => call,
    };
    waiting.abort();
    match first.unwrap() {
        Call::Refused(why) => why,
        call => panic!("{call:?}"),
    }
}

#[tokio::test]
async fn who_does_not_belong_here_is_told_why() {
    let why = refused(|hello| hello.version = "0.0.9".to_owned()).await;
    assert!(why.contains("it is version 0.0.9") && why.ends_with("use one image"), "{why}");
    let why = refused(|hello| hello.digest = 8).await;
    assert!(why.contains("its command line is not that of worker 0"), "{why}");
    let why = refused(|hello| hello.workers = 9).await;
    assert!(why.contains("it has --workers 9, worker 0 has 3"), "{why}");
    for index in [0, 3, u32::MAX] {
        let why = refused(|hello| hello.index = index).await;
        assert_eq!(why, format!("--index {index} is not one of 1 to 2"));
    }
    let why = refused(|hello| hello.index = 2).await;
    assert_eq!(why, "--index 2 is here already; give each worker its own");
}

#[tokio::test]
async fn a_refused_worker_gives_up_at_once() {
    let (listener, settings) = place(2).await;
    let waiting = tokio::spawn({
        let own = settings(0);
        async move { receive(&listener, own).await }
    });
    let error = come(Settings { digest: 8, ..settings(1) }).await.unwrap_err().to_string();
    assert!(error.starts_with("worker 0 refuses this worker: its command line"), "{error}");
    waiting.abort();
}

#[tokio::test]
async fn who_waits_in_vain_says_for_whom() {
    let (listener, settings) = place(4).await;
    let short = |index| Settings { join_within: Duration::from_millis(300), ..settings(index) };
    let other =
        tokio::spawn(come(Settings { join_within: Duration::from_secs(60), ..settings(2) }));
    let error = receive(&listener, short(0)).await.unwrap_err().to_string();
    assert!(error.starts_with("workers 1, ") && error.contains("3 did not come"), "{error}");
    other.abort();
    drop(listener);
    let error = come(short(1)).await.unwrap_err().to_string();
    assert!(error.contains(": no start within 0.3 s: "), "{error}");
}

#[tokio::test]
async fn a_report_that_is_too_long_or_none_is_missed() {
    for octets in [&b"\x7f\xff\xff\xff{"[..], b"\0\0\0\x02{}", b"\0\0\0\x09{}"] {
        let (listener, settings) = place(2).await;
        let other = tokio::spawn(come(settings(1)));
        let first = receive(&listener, settings(0)).await.unwrap();
        let End::First(mut stream) = other.await.unwrap().unwrap().delivery.end else { panic!() };
        stream.write_all(octets).await.unwrap();
        stream.shutdown().await.unwrap();
        let whole = first.delivery.deliver(report(1), merge).await.unwrap().unwrap();
        assert_eq!(whole.ended, "without worker 1, which vanished");
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
}

#[tokio::test]
async fn others_are_called_off_when_worker_0_is_gone_and_say_so() {
    let (listener, settings) = place(2).await;
    let other = tokio::spawn(run(settings(1)));
    drop(receive(&listener, settings(0)).await.unwrap());
    let error = other.await.unwrap().unwrap_err().to_string();
    assert!(error.starts_with("worker 0 did not take the report of worker 1: "), "{error}");
}

mod command_line {
    use super::super::super::super::arguments::run;
    use super::*;

    fn settings(words: &str) -> Result<Option<Settings>, String> {
        Settings::new(&run(words)).map_err(|error| error.to_string())
    }

    #[test]
    fn one_worker_needs_nobody() {
        assert_eq!(settings("--rate 5"), Ok(None));
    }

    #[test]
    fn a_worker_knows_its_number_and_where_the_first_is() {
        let found =
            settings("--workers 3 --index 2 --coordinator load-0.load:9254").unwrap().unwrap();
        assert_eq!(
            (&*found.host, found.port, found.index, found.workers),
            ("load-0.load", 9254, 2, 3)
        );
        let found = settings("--workers 2 --coordinator [::1]:9254").unwrap().unwrap();
        assert_eq!(&*found.host, "::1");
    }

    #[test]
    fn digests_are_equal_for_all_workers_of_one_load() {
        let digest = |words: &str| {
            let words = format!("--workers 3 --coordinator a:1 {words}");
            settings(&words).unwrap().unwrap().digest
        };
        assert_eq!(digest("--index 1 --json a"), digest("--index 2"));
        assert_ne!(digest("--rate 5"), digest("--rate 6"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_told_with_its_remedy() {
        for (words, expected) in [
            ("--workers 0", "--workers 0: give a number from 1 to 1000"),
            ("--workers 3", "--workers 3: say where worker 0 is, --coordinator HOST:PORT"),
            ("--workers 3 --index 3", "--index 3: give a number from 0 to 2"),
        ] {
            assert_eq!(settings(words).unwrap_err(), expected);
        }
        for place in ["load-0", "load-0:", ":9254", "load-0:0", "load-0:99999"] {
            let error = settings(&format!("--workers 2 --coordinator {place}")).unwrap_err();
            assert!(error.ends_with("write it as HOST:PORT, such as load-0.load:9254"), "{error}");
        }
    }
}

//! The course of faults on a paused clock, with real processes, relays and commands.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::super::waiting::until;
use super::*;

/// Notes as text: `WHAT AT..UNTIL`, in seconds.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn add(&self, note: Note<'_>) {
        let text = match note {
            Note::Done { what, at, until: None } => format!("{what} {}", at.as_secs()),
            Note::Done { what, at, until: Some(until) } => {
                format!("{what} {}..{}", at.as_secs(), until.as_secs())
            }
            Note::Failed { what, why, .. } => format!("{what} failed: {why}"),
        };
        self.0.lock().push(text);
    }

    fn taken(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock())
    }
}

fn faults(texts: &[&str]) -> Vec<Fault> {
    texts.iter().map(|text| Fault::parse(text).unwrap()).collect()
}

fn course(seconds: u64) -> Course {
    Course::new(Instant::now(), Some(Duration::from_secs(seconds)))
}

async fn stage(setting: Setting) -> Stage {
    Stage::open(&setting).await.unwrap()
}

fn with_server() -> Setting {
    Setting { server_command: Some("sleep 1000".into()), ..Setting::default() }
}

fn with_stub() -> Setting {
    Setting { upstreams: vec!["127.0.0.1:0=stub".into()], ..Setting::default() }
}

/// Plays faults to their end.
async fn played(stage: &Stage, texts: &[&str], course: &Course) -> Vec<String> {
    let (faults, notes) = (faults(texts), Notes::default());
    stage.check(&faults, course.duration).unwrap();
    stage.play_to(&faults, course, &|note| notes.add(note)).await;
    notes.taken()
}

/// Waits until the kernel says that a process is stopped, or goes on.
fn wait_until_stopped(pid: u32, is_stopped: bool) {
    let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let what = if is_stopped { "a stop" } else { "the end of a stop" };
    until(what, || stat().rsplit(')').next().unwrap().starts_with(" T") == is_stopped);
}

/// A command that writes its half to a file.
fn writes_to(path: &Path) -> String {
    format!("echo $MAINSTAY_FAULT >> {}", path.display())
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_at_its_time() {
    let (stage, course) = (stage(with_server()).await, course(60));
    let pid = stage.server().unwrap().pid().unwrap();
    let look = async {
        sleep_until(course.started + Duration::from_secs(15)).await;
        wait_until_stopped(pid, true);
        sleep_until(course.started + Duration::from_secs(21)).await;
        wait_until_stopped(pid, false);
    };
    let (notes, ()) = tokio::join!(played(&stage, &["stop@10s..20s"], &course), look);
    assert_eq!(notes, ["stop@10s..20s 10", "stop@10s..20s 10..20"]);
}

#[tokio::test(start_paused = true)]
async fn a_span_without_an_end_lasts_as_long_as_the_run() {
    let (stage, course) = (stage(with_server()).await, course(30));
    let notes = played(&stage, &["stop@10s"], &course).await;
    assert_eq!(notes, ["stop@10s 10", "stop@10s 10..30"]);
    wait_until_stopped(stage.server().unwrap().pid().unwrap(), false);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_force_is_undone_when_the_run_is_stopped_and_the_rest_never_done() {
    let (stage, course) = (stage(with_server()).await, course(60));
    let stop = async {
        sleep_until(course.started + Duration::from_secs(12)).await;
        course.stop();
    };
    let texts = ["stop@10s..20s", "kill9@30s"];
    let (notes, ()) = tokio::join!(played(&stage, &texts, &course), stop);
    assert_eq!(notes, ["stop@10s..20s 10", "stop@10s..20s 10..12"]);
    wait_until_stopped(stage.server().unwrap().pid().unwrap(), false);
    assert_eq!(stage.server().unwrap().starts(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_in_force_is_undone_when_the_play_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let (stage, course) = (stage(with_server()).await, course(60));
    let command = format!("command:'{}'@5s..20s", writes_to(&log));
    let texts = ["stop@10s..20s", command.as_str()];
    // The command runs in real time, in which the paused clock stands still while we look.
    let until_stopped = async {
        sleep_until(course.started + Duration::from_secs(6)).await;
        while read(&log).is_empty() {
            tokio::task::yield_now().await;
        }
        sleep_until(course.started + Duration::from_secs(12)).await;
    };
    tokio::select! {
        _ = played(&stage, &texts, &course) => panic!("it was to last"),
        () = until_stopped => {}
    }
    wait_until_stopped(stage.server().unwrap().pid().unwrap(), false);
    while read(&log) != "begin\nend\n" {
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_command_that_lasts_runs_twice_and_one_that_fails_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let (stage, course) = (stage(Setting::default()).await, course(60));
    let command = format!("command:'{}'@1ms..2ms", writes_to(&log));
    let notes = played(&stage, &[&command, "command:'exit 3'@1ms"], &course).await;
    assert_eq!(read(&log), "begin\nend\n");
    let failed = "command:'exit 3'@1ms failed: the command ended with exit status: 3";
    assert!(notes.contains(&failed.to_owned()) && notes.len() == 3, "{notes:?}");
}

#[tokio::test(start_paused = true)]
async fn impairments_of_all_upstreams_begin_and_end() {
    let mut setting = with_stub();
    setting.upstreams.push("127.0.0.1:0=stub".into());
    let (stage, course) = (stage(setting).await, course(60));
    let swallowed = |stage: &Stage| {
        let counters = stage.upstreams().iter().map(Relay::counters);
        counters.map(|it| it.swallowed.load(std::sync::atomic::Ordering::Relaxed)).sum::<u64>()
    };
    let ask = async {
        sleep_until(course.started + Duration::from_secs(6)).await;
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for relay in stage.upstreams() {
            client.send_to(&[0; 12], relay.listen()).unwrap();
        }
        while swallowed(&stage) < 2 {
            tokio::task::yield_now().await;
        }
    };
    let texts = ["blackhole-upstream@5s..15s", "delay-upstream:800ms@5s..15s"];
    let (notes, ()) = tokio::join!(played(&stage, &texts, &course), ask);
    assert_eq!(notes.len(), 4);
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(&[0; 12], stage.upstreams()[0].listen()).unwrap();
    let counters = stage.upstreams()[0].counters();
    while counters.answers.load(std::sync::atomic::Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(swallowed(&stage), 2);
}

#[tokio::test]
async fn the_api_server_goes_and_comes_back() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = format!("127.0.0.1:0={}", server.local_addr().unwrap());
    let stage = stage(Setting { api: Some(api), ..Setting::default() }).await;
    let course = course(60);
    let listen = stage.api().unwrap().listen();
    let (faults, notes) = (faults(&["api-down@1ms"]), Notes::default());
    let add = |note: Note<'_>| notes.add(note);
    let play = stage.play_to(&faults, &course, &add);
    let look = async {
        stage.api().unwrap().is_down().await;
        assert!(TcpStream::connect(listen).await.is_err());
        course.stop();
    };
    tokio::join!(play, look);
    assert_eq!(notes.taken().len(), 2);
    stage.api().unwrap().is_up().await;
    TcpStream::connect(listen).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_gone_is_told_and_the_run_goes_on() {
    let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let stage = stage(Setting { pid: Some(child.id()), ..Setting::default() }).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let course = course(60);
    let notes = played(&stage, &["term@0s", "stop@1ms..2ms"], &course).await;
    assert_eq!(notes.len(), 2);
    assert!(notes.iter().all(|note| note.ends_with("is gone")), "{notes:?}");
}

#[tokio::test]
async fn what_is_missing_is_said_before_the_run() {
    let empty = stage(Setting::default()).await;
    for (text, option) in [
        ("kill9@1s", "--pid or --server-command"),
        ("stop@1s", "--pid or --server-command"),
        ("restart@1s", "give --server-command"),
        ("delay-upstream:1s@1s", "give --upstream LISTEN=TO"),
        ("api-down@1s", "give --api LISTEN=TO"),
        ("delete-pod:a/b=c@1s", "--cluster or --kubeconfig"),
        ("rollout-restart:a/deployment/c@1s", "--cluster or --kubeconfig"),
    ] {
        let error = empty.check(&faults(&[text]), None).unwrap_err().to_string();
        assert!(error.starts_with(&format!("--fault {text}: ")), "{error}");
        assert!(error.contains(option) && !error.contains('\n'), "{error}");
    }
    empty.check(&faults(&["command:true@1s"]), None).unwrap();
    let run = Some(Duration::from_secs(30));
    let error = empty.check(&faults(&["command:true@30s"]), run).unwrap_err().to_string();
    assert!(error.contains("the run is over after 30 s"), "{error}");
    let pid = Setting { pid: Some(1), ..Setting::default() };
    if let Ok(attached) = Stage::open(&pid).await {
        let error = attached.check(&faults(&["restart@1s"]), None).unwrap_err().to_string();
        assert!(error.contains("only a server that we start"), "{error}");
        attached.check(&faults(&["term@1s"]), None).unwrap();
    }
}

#[tokio::test]
async fn a_play_can_be_a_task_of_its_own() {
    let (stage, course) = (Arc::new(stage(with_stub()).await), course(60));
    let recorder = Recorder::new(course.clone(), Duration::from_secs(1));
    let faults = faults(&["loss-upstream:30%@1ms..2ms"]);
    let play = async move { stage.play(&faults, &course, &recorder).await };
    tokio::spawn(play).await.unwrap();
}

#[tokio::test]
async fn a_server_starts_after_its_relays_and_one_that_cannot_is_an_error() {
    let setting = Setting { server_command: Some("/nonexistent".into()), ..with_stub() };
    let error = Stage::open(&setting).await.err().unwrap().to_string();
    assert!(error.starts_with("start /nonexistent: "), "{error}");
    let setting = Setting { upstreams: vec!["127.0.0.1:0=stub".into(); 17], ..Setting::default() };
    assert!(Stage::open(&setting).await.is_err());
}

#[test]
fn who_is_asked_behind_relays_is_known_before_they_run() {
    let mut setting = with_stub();
    setting.upstreams.push("127.0.0.1:0=8.8.8.8".into());
    assert_eq!(setting.relayed().unwrap(), ["8.8.8.8:53".parse().unwrap()]);
    setting.upstreams.push("nowhere".into());
    assert!(setting.relayed().is_err());
}

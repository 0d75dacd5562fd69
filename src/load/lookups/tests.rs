//! Lookups against servers on loopback, on a clock of their own.

use std::net::IpAddr;
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::*;
use crate::cluster::object::{Change, Kind, Object, ObjectKey, Role, Service};
use crate::load::record::Recorder;
use crate::load::resolver::scripted::{self, Act, Asked, Flow, Server};
use crate::load::run::Course;
use crate::load::target::{Target, Transport};
use crate::load::tasks::{Class, Work};
use crate::load::truth::Truth;
use crate::wire::{Name, Rcode, RecordType};

fn run(server: &Server, rtype: RecordType) -> Arc<Run> {
    let task = Task {
        host: "web.shop.svc.d.".into(),
        name: Name::parse("web.shop.svc.d").unwrap(),
        rtype,
        class: Class::Service,
        expect: Expect::Exists,
    };
    let course = Course::new(Instant::now(), None);
    assert!(course.started_at <= SystemTime::now());
    Arc::new(Run {
        target: Target { servers: vec![server.address], transport: Transport::Udp },
        work: ArcSwap::from_pointee(Work::uniform(vec![Arc::new(task)])),
        truth: None,
        recorder: Recorder::new(course.clone(), Duration::from_secs(1)),
        course,
        timeout: Duration::from_secs(5),
        seed: 1,
    })
}

fn denied(asked: &Asked) -> Act {
    Act::Send(scripted::reply(&asked.packet, Rcode::NXDOMAIN, &[]))
}

/// That of a cluster with the Service `web`, certain two seconds later.
fn truth() -> Truth {
    let truth = Truth::told(Name::parse("d").unwrap(), Duration::ZERO, Duration::from_secs(2));
    let key = ObjectKey { namespace: "shop".into(), name: "web".into() };
    let role = Role::ClusterIp([IpAddr::from([10, 96, 0, 1])].into_iter().collect());
    let (ports, externals) = (Vec::new(), Box::default());
    let service = Service { key, role, ports, has_selector: true, externals };
    let objects = [Object::Namespace("shop".into()), Object::Service(service)];
    truth.hear(Kind::OF_SERVICES.map(Change::ListBegin), Instant::now());
    truth.hear(objects.map(Change::Apply), Instant::now());
    truth.hear(Kind::OF_SERVICES.map(Change::ListEnd), Instant::now());
    truth
}

fn settings(server: &Server, under_way_max: usize) -> Settings {
    let conf = Arc::new(scripted::conf(&[server.address]));
    Settings { resolvers: vec![Resolver::Glibc], clients: 3, first_client: 0, under_way_max, conf }
}

/// Instants on the clock of the test.
struct At {
    started: Instant,
    left: std::collections::VecDeque<Duration>,
}

impl Due for At {
    async fn next(&mut self) -> Option<Duration> {
        let due = *self.left.front()?;
        tokio::time::sleep_until(self.started + due).await;
        self.left.pop_front()
    }
}

fn at(run: &Run, milliseconds: &[u64]) -> At {
    let left = milliseconds.iter().map(|it| Duration::from_millis(*it)).collect();
    At { started: run.course.started, left }
}

#[tokio::test(start_paused = true)]
async fn each_lookup_begins_when_it_is_due_whatever_the_server_does() {
    let _flow = Flow::start();
    let server = Server::start(|_| vec![]);
    let run = run(&server, RecordType::A);
    drive_at(&run, at(&run, &[0, 300, 300, 900]), &settings(&server, 10), 1).await.unwrap();
    let started = run.course.started;
    let mut first: Vec<(u16, u128)> = Vec::new();
    for asked in server.asked() {
        if !first.iter().any(|(port, _)| *port == asked.from.port()) {
            first.push((asked.from.port(), (asked.at - started).as_millis()));
        }
    }
    let begun: Vec<u128> = first.iter().map(|(_, at)| at / 100).collect();
    assert_eq!(begun, [0, 3, 3, 9]);
    // The last one has waited for two attempts of 5 s.
    assert!(run.course.elapsed() >= Duration::from_millis(10_900));
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_place_is_not_begun() {
    let _flow = Flow::start();
    let server = Server::start(|_| vec![]);
    let run = run(&server, RecordType::PTR);
    drive_at(&run, at(&run, &[0, 10, 20, 30]), &settings(&server, 2), 1).await.unwrap();
    assert_eq!(server.asked().len(), 4, "two lookups, two attempts each");
}

#[tokio::test(start_paused = true)]
async fn what_is_far_behind_is_not_begun() {
    let _flow = Flow::start();
    let server = Server::start(|it| vec![denied(it)]);
    let run = run(&server, RecordType::PTR);
    tokio::time::advance(Duration::from_secs(5)).await;
    let dues = at(&run, &[0, 3_900, 4_500, 6_000]);
    drive_at(&run, dues, &settings(&server, 10), 1).await.unwrap();
    assert_eq!((server.asked().len(), run.recorder.snapshot().not_begun), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_judgement_holds_no_place() {
    let _flow = Flow::start();
    let server = Server::start(|it| vec![denied(it)]);
    let run = Arc::into_inner(run(&server, RecordType::A)).unwrap();
    let run = Arc::new(Run { truth: Some(Arc::new(truth())), ..run });
    let dues = at(&run, &[1_000, 1_300, 1_600]);
    drive_at(&run, dues, &settings(&server, 1), 1).await.unwrap();
    let snapshot = run.recorder.snapshot();
    assert_eq!((snapshot.not_begun, snapshot.truths().wrong_negative), (0, 3));
}

#[test]
fn drivers_have_dice_of_their_own() {
    let drivers = [(0, 0), (20, 0), (40, 0), (0, 1), (20, 1), (0, 2)];
    let seeds: std::collections::HashSet<u64> =
        drivers.map(|(first_client, part)| own_seed(7, first_client, part)).into();
    assert_eq!(seeds.len(), drivers.len());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_begins_no_more() {
    let _flow = Flow::start();
    let server =
        Server::start(|it| vec![Act::Send(scripted::reply(&it.packet, Rcode::NOERROR, &[]))]);
    let run = run(&server, RecordType::PTR);
    let course = run.course.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        course.stop();
    });
    drive_at(&run, at(&run, &[0, 100, 9_000]), &settings(&server, 10), 1).await.unwrap();
    assert_eq!(server.asked().len(), 2);
    assert!(run.course.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn clients_are_needed() {
    let server = Server::start(|_| vec![]);
    let none = Settings { clients: 0, ..settings(&server, 1) };
    let run = run(&server, RecordType::A);
    assert!(drive_at(&run, at(&run, &[0]), &none, 1).await.is_err());
}

#[test]
fn outcomes_follow_truth_and_else_what_is_expected() {
    let found = |result| Found::of(result, PacketCounts::default());
    let some = || found(Ok(Records::Addresses(["10.0.0.1".parse().unwrap()].into())));
    let unknown = || found(Err(Failure::UnknownHost));
    let silent = || Found { is_denied: false, ..unknown() };
    let judged = |verdict| Judgement { verdict, fresh_after: None };
    for (found, verdict, expect, expected) in [
        (some(), None, Expect::Exists, Outcome::Ok),
        (some(), None, Expect::Any, Outcome::Ok),
        (some(), None, Expect::Missing, Outcome::Wrong),
        (unknown(), None, Expect::Exists, Outcome::UnknownHost),
        (unknown(), None, Expect::Any, Outcome::Ok),
        (unknown(), None, Expect::Missing, Outcome::Ok),
        (silent(), None, Expect::Any, Outcome::UnknownHost),
        (silent(), None, Expect::Missing, Outcome::UnknownHost),
        (silent(), Some(Verdict::Lost), Expect::Missing, Outcome::UnknownHost),
        (found(Err(Failure::TryAgain)), None, Expect::Missing, Outcome::TryAgain),
        (some(), Some(Verdict::Stale), Expect::Exists, Outcome::Wrong),
        (some(), Some(Verdict::Ok), Expect::Missing, Outcome::Ok),
        (unknown(), Some(Verdict::Ok), Expect::Exists, Outcome::Ok),
        (unknown(), Some(Verdict::WrongNegative), Expect::Any, Outcome::UnknownHost),
        (found(Err(Failure::TryAgain)), Some(Verdict::Lost), Expect::Any, Outcome::TryAgain),
    ] {
        assert_eq!(outcome(&found, verdict.map(judged).as_ref(), expect), expected);
    }
}

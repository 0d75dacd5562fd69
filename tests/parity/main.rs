//! Mainstay answers for the names of a cluster as CoreDNS does, or differs on purpose.
//!
//! ```text
//! API server ─┬─► CoreDNS,  a port per variant ◄─┐
//!             └─► Mainstay, a port per variant ◄─┴─ the same questions: equal, or a row of
//! histories ─► API server                           differences.md, or the test fails
//! ```
//!
//! Where CoreDNS or the API server cannot be had, the test is skipped, but not in CI. README.md
//! tells more.

#[allow(dead_code, reason = "nothing is stopped here")]
#[path = "../support/control_plane.rs"]
mod control_plane;
#[path = "../support/coredns.rs"]
mod coredns;
#[path = "../support/kubeapi.rs"]
mod kubeapi;
#[path = "../support/ports.rs"]
mod ports;
#[allow(dead_code, reason = "nothing is stopped here")]
#[path = "../support/process.rs"]
mod process;
#[allow(dead_code, reason = "there are no steps here")]
#[path = "../support/steps.rs"]
mod steps;
#[path = "../support/upstream.rs"]
mod upstream;

mod ask;
mod cluster;
mod compare;
mod differences;
mod fixture;
mod histories;
mod names;
mod objects;
mod outside;
mod questions;
mod reply;
mod servers;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use cluster::Cluster;
use compare::Tally;
use control_plane::ControlPlane;
use names::Names;
use servers::Servers;
use steps::skip::skip;
use tokio::runtime::Runtime;

/// What cargo calls this test.
const NAME: &str = "parity";
/// Of the thirty ways to ask, how many are used for each name and type.
const WAYS: usize = 1;
/// The same for the names of our own Service, which are few.
const OWN_WAYS: usize = 7;
/// Fewest systematic questions.
const SYSTEMATIC_MIN: usize = 20_000;
/// Random histories.
const HISTORIES: u16 = 200;
/// Questions after each history and for each variant: about what it touched, and about all.
const AFTER_TOUCHED: usize = 220;
const AFTER_ALL: usize = 80;
/// Names a seed, to repeat a run; else one is chosen and shown.
const SEED: &str = "PARITY_SEED";
/// Names another number of histories.
const FEWER: &str = "PARITY_HISTORIES";

fn main() {
    if !steps::is_wanted(NAME) {
        return;
    }
    if let Some((coredns, plane)) = steps::or_skipped(prepare()) {
        run(&coredns, &plane);
    }
}

fn prepare() -> Result<(PathBuf, ControlPlane), String> {
    let coredns = coredns::coredns()?;
    Ok((coredns, ControlPlane::without_controllers()?))
}

fn run(coredns: &std::path::Path, plane: &ControlPlane) {
    let begun = Instant::now();
    let runtime = Runtime::new().unwrap();
    let upstream = runtime.block_on(outside::upstream());
    let mut cluster = Cluster::new(plane);
    let kubeconfig = plane.admin_kubeconfig();
    let servers = Servers::start(coredns, &kubeconfig, &upstream.address.to_string());
    let took = cluster.settle(&servers);
    let say = |what: String| println!("{:6.1} s  {what}", begun.elapsed().as_secs_f64());
    say(format!("{} objects, seen after {took:.1?}", cluster.objects.len()));

    let mut tallies: Vec<Tally> = servers.pairs.iter().map(|_| Tally::default()).collect();
    let mut names = Names::of(cluster.objects.values());
    names.extend(Names::fixed());
    let facts = cluster.facts();
    for (pair, total) in servers.pairs.iter().zip(&mut tallies) {
        let questions = questions::systematic(&names, pair.variant, WAYS);
        let questions = questions::without_silence(questions, &facts.nameless);
        assert!(questions.len() >= SYSTEMATIC_MIN, "{} questions are too few", questions.len());
        let mut tally = compare::compare(pair, &questions, &facts, "at first");
        compare::silence(pair, &facts.nameless, &mut tally);
        say(format!("{}: {tally}", pair.variant.name));
        total.add(tally);
    }
    own_names(&mut cluster, &servers, &mut tallies, &say);
    histories(&mut cluster, &servers, &mut tallies, &say);
    report(&servers, tallies);
}

/// Asks for the name servers, with Services that lead to this host.
fn own_names(
    cluster: &mut Cluster,
    servers: &Servers,
    tallies: &mut [Tally],
    say: &impl Fn(String),
) {
    let Some(own) = compare::own_address(&servers.pairs[0]) else {
        return skip("names of our own Service: the host has loopback addresses only");
    };
    let mut names = Names::default();
    names.inside.extend(["", "dns", "ns.dns"].map(str::to_owned));
    names.whole.extend(["in-addr.arpa", "ns.dns.in-addr.arpa"].map(str::to_owned));
    for objects in fixture::own_services(&own) {
        objects.iter().for_each(|object| cluster.apply(object.clone()));
        cluster.settle(servers);
        names.extend(Names::of(&objects));
        for (pair, total) in servers.pairs.iter().zip(&mut *tallies) {
            let questions = questions::systematic(&names, pair.variant, OWN_WAYS);
            let when = "as a Service of the cluster";
            total.add(compare::compare(pair, &questions, &cluster.facts(), when));
        }
        objects.iter().for_each(|object| cluster.delete(object));
    }
    let found: usize = tallies.iter().map(|tally| tally.unexplained).sum();
    say(format!("names of our own Service: {found} unexplained"));
}

/// Changes the cluster, waits, compares; again and again.
fn histories(
    cluster: &mut Cluster,
    servers: &Servers,
    tallies: &mut [Tally],
    say: &impl Fn(String),
) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    // What CI refuses is to be refused each time; what only chance finds is looked for elsewhere.
    let is_ci = std::env::var_os("CI").is_some();
    let seed = number(SEED).unwrap_or_else(|| if is_ci { 1 } else { rand::random() });
    let count = number(FEWER).map_or(HISTORIES, |count| count as u16);
    say(format!("{count} histories, {SEED}={seed}"));
    let mut dice = questions::dice(seed);
    for history in 1..=count {
        let touched = histories::run(cluster, history, &mut dice);
        cluster.settle(servers);
        let facts = cluster.facts();
        let mut all = Names::of(cluster.objects.values());
        all.extend(Names::fixed());
        for (pair, total) in servers.pairs.iter().zip(&mut *tallies) {
            let mut questions = questions::random(&all, pair.variant, AFTER_ALL, &mut dice);
            if !touched.inside.is_empty() {
                questions.extend(questions::random(
                    &touched,
                    pair.variant,
                    AFTER_TOUCHED,
                    &mut dice,
                ));
            }
            let questions = questions::without_silence(questions, &facts.nameless);
            total.add(compare::compare(
                pair,
                &questions,
                &facts,
                &format!("after history {history}"),
            ));
        }
        if history % 20 == 0 {
            let found: usize = tallies.iter().map(|tally| tally.unexplained).sum();
            say(format!(
                "history {history}, {} objects, {found} unexplained",
                cluster.objects.len()
            ));
        }
    }
}

fn report(servers: &Servers, tallies: Vec<Tally>) {
    let mut total = Tally::default();
    for (pair, tally) in servers.pairs.iter().zip(tallies) {
        println!("{}: {tally}", pair.variant.name);
        total.add(tally);
    }
    for (id, count) in &total.reasons {
        println!("    {id}: {count}");
    }
    total.show_unexplained();
    println!("{total}");
    let reasons: BTreeSet<&str> = total.reasons.keys().copied().collect();
    assert_eq!(total.unexplained, 0, "answers differ, as shown above");
    differences::check_table(&reasons, servers.are_all);
}

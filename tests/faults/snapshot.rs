//! A1, A2, P7, P8, P10, P11: starts with and without a Snapshot.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hickory_proto::op::Message;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::api::Ask;
use crate::asker::{eventually, until};
use crate::evil::{Evil, Way};
use crate::fake_cluster::objects::{headless, namespace, ready, service, slice};
use crate::fake_cluster::{FakeCluster, Fault};
use crate::process::Process;
use crate::query;
use crate::server::{PROGRAM, Ports, Server};
use crate::skip::skip;
use crate::stand::{Stand, until_ready};

/// What the cluster of these tests answers.
const KNOWN: [(&str, &str); 4] = [
    ("web.shop.svc A", "10.96.0.1"),
    ("db.shop.svc A", "10.0.0.1"),
    ("_http._tcp.web.shop.svc SRV", "0 100 80 web.shop.svc.cluster.local."),
    ("1.0.96.10.in-addr.arpa. PTR", "web.shop.svc.cluster.local."),
];
/// What it denies.
const DENIED: &str = "none.shop.svc A";
/// A name of somebody else, and its address.
const FOREIGN: &str = "www.example.org. A";
const FOREIGN_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Extended DNS errors.
const STALE: u16 = 3;
const NOT_READY: u16 = 14;
const STALE_DENIAL: u16 = 19;

fn cluster() -> FakeCluster {
    let cluster = FakeCluster::start();
    cluster.apply(service("shop", "web", &["10.96.0.1"]));
    cluster.apply(headless("shop", "db"));
    cluster.apply(slice("shop", "db-1", "db", &[ready("10.0.0.1")]));
    cluster
}

fn with_state(cluster: &FakeCluster, folder: &TempDir) -> Stand {
    let state = format!("--state={}", folder.path().display());
    Stand::of(cluster).argument(state)
}

/// A folder with what a server of this cluster has left.
fn left_by_a_server(stand: &Stand) {
    let mut server = stand.start_ready("first");
    end(&mut server);
}

fn end(server: &mut Server) {
    server.signal("TERM");
    assert!(server.wait().success());
}

/// The file of the cluster in a folder.
fn file(folder: &Path) -> PathBuf {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("cluster-") && name.ends_with(".snapshot")
    };
    entries.into_iter().find(is_it).expect("there is a Snapshot")
}

/// Waits for the first reply, and answers with it.
fn first(port: u16, question: &str) -> Message {
    let begun = Instant::now();
    loop {
        if let Some(reply) = query::udp_within(port, question, Duration::from_secs(10)) {
            return reply;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{question}: nobody answers");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Checks that all of the Snapshot is answered, and said to be old.
fn assert_known_but_old(port: u16) {
    for (question, value) in KNOWN {
        let reply = first(port, question);
        assert_eq!(query::values(&reply), [value], "{question}");
        assert_eq!(query::extended_error(&reply), Some(STALE), "{question}");
        assert!(query::ttl(&reply).unwrap() <= 5, "{question}");
    }
    let reply = first(port, DENIED);
    assert_eq!(query::code(&reply), "NXDOMAIN");
    assert_eq!(query::extended_error(&reply), Some(STALE_DENIAL));
    assert!(query::ttl(&reply).unwrap() <= 5);
}

/// Checks that a server without a Snapshot says nothing that it does not know.
fn assert_unknown(server: &Server) {
    let port = server.ports.dns;
    let reply = first(port, KNOWN[0].0);
    assert_eq!(query::code(&reply), "SERVFAIL");
    assert_eq!(query::extended_error(&reply), Some(NOT_READY));
    assert_eq!(server.ready(), 503);
}

/// Lines of the log about Snapshots that are not used.
fn rejections(server: &Server) -> Vec<String> {
    let is_one = |line: &String| line.contains("is not used");
    server.log().into_iter().filter(is_one).collect()
}

#[test]
fn a1_a_start_without_the_api_server_answers_from_the_snapshot_and_reconciles() {
    let (cluster, folder) = (cluster(), TempDir::new().unwrap());
    let stand = with_state(&cluster, &folder).kubernetes("ttl 30");
    left_by_a_server(&stand);
    cluster.stop();
    let begun = Instant::now();
    let server = stand.start("second");
    let port = server.ports.dns;
    first(port, KNOWN[0].0);
    eprintln!("a1: first answer {:?} after the start, in a debug build", begun.elapsed());
    assert_known_but_old(port);
    until_ready(&server);
    assert_eq!(server.metrics().value("mainstay_snapshot_restored_objects", &[]), 6.0);
    // Meanwhile the cluster changes; the watches tell all of it.
    cluster.apply(service("shop", "new", &["10.96.0.9"]));
    cluster.delete("services", "shop", "web");
    let position = cluster.requests("services").len();
    // A kind that does not change is confirmed by a bookmark.
    cluster.bookmark_every(Duration::from_secs(1));
    cluster.resume();
    until(port, "new.shop.svc A", "NOERROR 10.96.0.9");
    until(port, "web.shop.svc A", "NXDOMAIN");
    let asked = cluster.requests("services")[position..].to_vec();
    assert_eq!(asked[0].ask, Ask::Watch, "it goes on where it was: {asked:?}");
    eventually(|| match query::extended_error(&first(port, "db.shop.svc A")) {
        None => Ok(()),
        other => Err(format!("still {other:?}")),
    });
    assert_eq!(query::ttl(&first(port, "db.shop.svc A")), Some(30));
}

#[test]
fn a1_a_forgotten_version_costs_a_list_and_no_answer() {
    let (cluster, folder) = (cluster(), TempDir::new().unwrap());
    let stand = with_state(&cluster, &folder);
    left_by_a_server(&stand);
    cluster.stop();
    cluster.delete("services", "shop", "web");
    cluster.apply(service("shop", "new", &["10.96.0.9"]));
    cluster.compact();
    let server = stand.start("second");
    let port = server.ports.dns;
    assert_known_but_old(port);
    let steady = crate::asker::Steady::start(port, "db.shop.svc A", "NOERROR 10.0.0.1");
    cluster.resume();
    until(port, "new.shop.svc A", "NOERROR 10.96.0.9");
    until(port, "web.shop.svc A", "NXDOMAIN");
    steady.all_right();
}

#[test]
fn a2_a_start_without_anything_says_only_what_is_sure() {
    let cluster = FakeCluster::stopped();
    let upstream = Evil::start(FOREIGN_ADDRESS, Way::Good);
    let begun = Instant::now();
    let server = Stand::of(&cluster).upstream(&upstream).start("a2");
    let port = server.ports.dns;
    assert_eq!(query::values(&first(port, FOREIGN)), [FOREIGN_ADDRESS.to_string()]);
    eprintln!("a2: first foreign answer {:?} after the start, in a debug build", begun.elapsed());
    for impossible in ["a.b A", "web.shop.srv A", "x.y.z.cluster.local.cluster.local. A"] {
        assert_eq!(query::code(&first(port, impossible)), "NXDOMAIN", "{impossible}");
    }
    assert_unknown(&server);
    // Twice: nobody kept the first answer.
    assert_unknown(&server);
    let addresses = ["1.0.96.10.in-addr.arpa. PTR", "1.0.0.10.in-addr.arpa. PTR"];
    for address in addresses {
        let reply = first(port, address);
        assert_eq!(query::code(&reply), "SERVFAIL", "{address}");
        assert_eq!(upstream.asked(address.trim_end_matches(" PTR")), 0, "{address} leaked");
    }
    cluster.apply(service("shop", "web", &["10.96.0.1"]));
    cluster.resume();
    until(port, "web.shop.svc A", "NOERROR 10.96.0.1");
    until_ready(&server);
}

#[test]
fn p7_a_node_that_boots_without_a_network_answers_what_it_knew() {
    let (cluster, folder) = (cluster(), TempDir::new().unwrap());
    let upstream = Evil::start(FOREIGN_ADDRESS, Way::Good);
    let stand = with_state(&cluster, &folder).upstream(&upstream).cache("serve_stale");
    let mut server = stand.start_ready("first");
    let ports = server.ports;
    until(ports.dns, FOREIGN, "NOERROR 192.0.2.1");
    end(&mut server);
    cluster.stop();
    upstream.close();
    // The Answers go only to a route that is the same, and so is its port.
    let server = stand.start_at("second", ports);
    assert_known_but_old(server.ports.dns);
    assert_eq!(query::values(&first(ports.dns, FOREIGN)), [FOREIGN_ADDRESS.to_string()]);
}

#[test]
fn p7_what_a_killed_server_wrote_is_enough() {
    let (cluster, folder) = (cluster(), TempDir::new().unwrap());
    let stand = with_state(&cluster, &folder);
    let mut server = stand.start_ready("first");
    eventually(|| {
        let written = server.metrics().sum("mainstay_snapshot_written_total", &[]);
        if written >= Some(1.0) { Ok(()) } else { Err(format!("written: {written:?}")) }
    });
    server.signal("KILL");
    server.wait();
    cluster.stop();
    assert_known_but_old(stand.start("second").ports.dns);
}

#[test]
fn p7_the_snapshot_of_another_cluster_is_replaced_by_what_is_true() {
    let (cluster, folder) = (cluster(), TempDir::new().unwrap());
    let stand = with_state(&cluster, &folder);
    left_by_a_server(&stand);
    // Behind the same address there is another cluster by now, with versions that go on.
    cluster.delete("namespaces", "", "kube-system");
    cluster.apply(namespace("kube-system"));
    cluster.delete("services", "shop", "web");
    let position = cluster.requests("services").len();
    let before = fs::read(file(folder.path())).unwrap();
    cluster.fail("services", Fault::Refuse(403, 0));
    let server = stand.start("second");
    // Without the lists of this cluster nothing is known, and nothing is kept in its name.
    until(server.ports.dns, "web.shop.svc A", "SERVFAIL");
    assert!(fs::read(file(folder.path())).unwrap() == before, "nothing of it is written");
    cluster.heal();
    until(server.ports.dns, "web.shop.svc A", "NXDOMAIN");
    let asked = cluster.requests("services")[position..].to_vec();
    assert_eq!(asked[0].ask, Ask::Stream, "it lists all: {asked:?}");
    let told = server.log().into_iter().filter(|line| line.contains("of another cluster"));
    assert_eq!(told.count(), 1);
}

/// Writes another time into a file, as a clock that was wrong would have.
fn redate(path: &Path, written_s: u64) {
    let mut octets = fs::read(path).unwrap();
    octets[20..28].copy_from_slice(&written_s.to_le_bytes());
    let end = octets.len() - 32;
    let checksum = Sha256::digest(&octets[..end]);
    octets[end..].copy_from_slice(&checksum);
    fs::write(path, octets).unwrap();
}

#[test]
fn p8_a_clock_that_jumps_makes_a_snapshot_older_and_nothing_worse() {
    const HOUR_S: i64 = 3600;
    let (cluster, folder) = (cluster(), TempDir::new().unwrap());
    let stand = with_state(&cluster, &folder);
    left_by_a_server(&stand);
    cluster.stop();
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let path = file(folder.path());
    let year_2038 = 1 << 31;
    let jumps = [HOUR_S, -HOUR_S, 24 * HOUR_S, -24 * HOUR_S, year_2038 - now_s as i64];
    for jump_s in jumps {
        redate(&path, now_s.checked_add_signed(jump_s).unwrap());
        let mut server = stand.start("jumped");
        assert_known_but_old(server.ports.dns);
        let age = server.metrics().value("mainstay_snapshot_age_seconds", &[]);
        assert!((0.0..26.0 * 3600.0).contains(&age), "{jump_s}: {age}");
        server.signal("KILL");
        server.wait();
    }
}

/// Runs a server whose state is on a disk of so many octets, with what is done there before.
fn on_a_small_disk(stand: &Stand, ports: Ports, folder: &TempDir, before: &str) -> Process {
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let corefile = folder.path().join("Corefile");
    fs::write(&corefile, stand.corefile(ports)).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=8k none {disk} && {before} && \
         exec {PROGRAM} -conf {corefile} --bind=127.0.0.1 --workers=1 --state={disk}",
        disk = disk.display(),
        corefile = corefile.display(),
    );
    Process::start("small disk", Command::new("unshare").args(["-m", "sh", "-c", &script]))
}

#[test]
fn p10_a_full_disk_costs_no_answer_and_leaves_the_old_file() {
    let mut mount = Command::new("unshare");
    mount.args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]);
    if !mount.output().is_ok_and(|it| it.status.success()) {
        return skip("p10: no disk can be mounted here");
    }
    let (cluster, folder) = (cluster(), TempDir::new().unwrap());
    let kept = TempDir::new().unwrap();
    left_by_a_server(&with_state(&cluster, &kept));
    let old = file(kept.path());
    let (name, before) = (old.file_name().unwrap(), fs::read(&old).unwrap());
    // One page for the old file, one for the rest: there is none left for a new one. The probe of
    // the start needs none.
    let fill = format!(
        "cp {old} {disk}/ && head -c 4096 /dev/zero > {disk}/rest",
        old = old.display(),
        disk = folder.path().join("disk").display()
    );
    let ports = Ports::free();
    let mut process = on_a_small_disk(&Stand::of(&cluster), ports, &folder, &fill);
    until(ports.dns, "web.shop.svc A", "NOERROR 10.96.0.1");
    let steady = crate::asker::Steady::start(ports.dns, "db.shop.svc A", "NOERROR 10.0.0.1");
    cluster.apply(service("shop", "new", &["10.96.0.9"]));
    until(ports.dns, "new.shop.svc A", "NOERROR 10.96.0.9");
    let told = |process: &Process| {
        let log = process.log().into_iter();
        log.filter(|line| line.contains("cannot be written")).collect::<Vec<_>>()
    };
    eventually(|| match told(&process).len() {
        0 => Err("nobody says that the disk is full".to_owned()),
        _ => Ok(()),
    });
    assert!(told(&process)[0].contains("No space left"), "{:?}", told(&process));
    let inside = PathBuf::from(format!("/proc/{}/root{}", process.id(), folder.path().display()));
    let found = fs::read(inside.join("disk").join(name)).unwrap();
    assert!(found == before, "the old file stays");
    let left = fs::read_dir(inside.join("disk")).unwrap().map(|entry| entry.unwrap().file_name());
    let left = left.filter(|name| name.to_string_lossy().contains(".snapshot")).count();
    assert_eq!(left, 1, "nothing of the failed write is left");
    steady.all_right();
    process.signal("TERM");
    assert!(process.wait(Duration::from_secs(30)).success());
    let clusters = told(&process).into_iter().filter(|line| line.contains("cluster-"));
    assert_eq!(clusters.count(), 1, "{:?}", told(&process));
}

#[test]
fn p10_a_folder_that_is_gone_is_told_and_used_again_when_it_is_back() {
    let (cluster, folder) = (cluster(), TempDir::new().unwrap());
    let place = folder.path().join("state");
    fs::create_dir(&place).unwrap();
    let option = format!("snapshot {}", place.display());
    let mut server = Stand::of(&cluster).kubernetes(&option).start_ready("p10");
    fs::remove_dir_all(&place).unwrap();
    eventually(|| match server.metrics().value("mainstay_snapshot_failures_total", &[]) {
        0.0 => Err("no failure is counted".to_owned()),
        _ => Ok(()),
    });
    assert_eq!(query::values(&first(server.ports.dns, "web.shop.svc A")), ["10.96.0.1"]);
    fs::create_dir(&place).unwrap();
    end(&mut server);
    assert!(file(&place).exists());
}

#[test]
fn p11_a_damaged_old_or_foreign_snapshot_costs_one_line_and_nothing_else() {
    let (cluster, folder) = (cluster(), TempDir::new().unwrap());
    let stand = with_state(&cluster, &folder);
    left_by_a_server(&stand);
    cluster.stop();
    let path = file(folder.path());
    let whole = fs::read(&path).unwrap();
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let damages: [(&str, &dyn Fn()); 5] = [
        ("no Snapshot, or a part", &|| fs::write(&path, &whole[..whole.len() / 2]).unwrap()),
        ("no Snapshot, or a part", &|| fs::write(&path, b"").unwrap()),
        ("checksum is wrong", &|| {
            let mut octets = whole.clone();
            octets[whole.len() / 2] ^= 1;
            fs::write(&path, octets).unwrap();
        }),
        ("of version 9", &|| {
            let mut octets = whole.clone();
            octets[8] = 9;
            fs::write(&path, octets).unwrap();
        }),
        ("9 days old", &|| {
            fs::write(&path, &whole).unwrap();
            redate(&path, now_s - 9 * 86_400);
        }),
    ];
    for (reason, damage) in damages {
        damage();
        let mut server = stand.start("damaged");
        assert_unknown(&server);
        let told = rejections(&server);
        assert!(matches!(&told[..], [line] if line.contains(reason)), "{reason}: {told:?}");
        server.signal("KILL");
        server.wait();
    }
    fs::write(&path, &whole).unwrap();
    let foreign = stand.kubernetes("namespaces shop").start("foreign");
    assert_unknown(&foreign);
    let told = rejections(&foreign);
    assert!(matches!(&told[..], [line] if line.contains("other zones, scopes")), "{told:?}");
}

#[test]
fn p11_half_a_write_is_cleaned_up_and_the_whole_file_is_used() {
    let (cluster, folder) = (cluster(), TempDir::new().unwrap());
    let stand = with_state(&cluster, &folder);
    left_by_a_server(&stand);
    cluster.stop();
    let half = folder.path().join(".cluster-0123456789abcdef-2-00000003.snapshot.new");
    fs::write(&half, b"MAINST").unwrap();
    let old = SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().write(true).open(&half).unwrap().set_modified(old).unwrap();
    let mut server = stand.start("second");
    assert_known_but_old(server.ports.dns);
    // By the next write, which is at the end here.
    end(&mut server);
    assert!(!half.exists());
}

#[test]
fn a_reload_moves_the_snapshot_and_keeps_the_cluster() {
    let (cluster, folder) = (cluster(), TempDir::new().unwrap());
    let mut server = Stand::of(&cluster).start_ready("moved");
    let lists = cluster.count(Ask::Stream, "services");
    let option = format!("pods insecure\n        snapshot {}", folder.path().display());
    server.edit(|text| text.replace("pods insecure", &option));
    server.signal("USR1");
    eventually(|| match server.log().iter().any(|line| line.contains("Reloading complete")) {
        true => Ok(()),
        false => Err("not reloaded".to_owned()),
    });
    end(&mut server);
    assert!(file(folder.path()).exists());
    assert_eq!(cluster.count(Ask::Stream, "services"), lists, "nothing was listed again");
}

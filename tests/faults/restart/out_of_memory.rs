//! A server that the kernel kills because the memory of its control group is used up.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::fake_cluster::FakeCluster;
use crate::fake_cluster::objects::service;
use crate::resources::cgroup::Cgroup;
use crate::skip::skip;
use crate::stand::{Stand, until_ready};

use super::*;

/// Several times what parent and server have, so that whoever eats the rest is the largest.
const LIMIT: u64 = 256 << 20;
const SIGKILL: i32 = 9;

/// A process in a group that takes memory until the kernel ends it.
fn eater(cgroup: &Cgroup) -> Process {
    // It keeps a last line that never ends.
    let script = format!("{} && exec tail /dev/zero", cgroup.join());
    Process::start("eater", Command::new("sh").args(["-c", &script]))
}

/// Makes the kernel choose this process before all others of its group.
fn offer(pid: u32) {
    std::fs::write(format!("/proc/{pid}/oom_score_adj"), "1000").unwrap();
}

/// A supervised server in a group, which has written down what it knows of the cluster.
fn start_in(cgroup: &Cgroup, cluster: &FakeCluster, state: &TempDir) -> Server {
    let ports = Ports::free();
    let supervised = format!(
        "{} && export MAINSTAY_SUPERVISED=1 MAINSTAY_STATE={}",
        cgroup.join(),
        state.path().display()
    );
    let corefile = Stand::of(cluster).corefile(ports);
    let server = Server::start_after("p3", ports, &corefile, &supervised);
    until_ready(&server);
    eventually(|| {
        let written = server.metrics().sum("mainstay_snapshot_written_total", &[]);
        if written >= Some(1.0) { Ok(()) } else { Err(format!("written: {written:?}")) }
    });
    server
}

#[test]
fn p3_a_server_that_the_kernel_kills_for_memory_is_started_anew_and_loses_nothing() {
    const BURST: u16 = 100;
    let Some(cgroup) = Cgroup::of_memory(LIMIT) else {
        return skip("no cgroup can be made here; run as root with cgroups mounted");
    };
    let (cluster, state) = (FakeCluster::start(), TempDir::new().unwrap());
    cluster.apply(service("shop", "web", &["10.96.1.1"]));
    let mut server = start_in(&cgroup, &cluster, &state);
    let [parent, child] = server.processes()[..] else { panic!("a parent and a server") };
    // Whoever serves next knows only what was written down.
    cluster.stop();
    // Held, the server answers nothing, and the parent does not take that for a hang.
    hold(parent);
    hold(child);
    let before = client(server.ports.dns);
    burst(&before, BURST);
    offer(child);
    // With the server gone it goes on, until it is the largest itself: then there is room again.
    let ended = eater(&cgroup).wait(HANG);
    assert_eq!(ended.signal(), Some(SIGKILL));
    assert_eq!(cgroup.oom_kills(), 2, "the server, and who ate");
    let while_nobody_lives = client(server.ports.dns);
    burst(&while_nobody_lives, BURST);
    kill("CONT", parent);
    for socket in [before, while_nobody_lives] {
        assert_eq!(collect(&socket, BURST).len(), usize::from(BURST));
    }
    let [same, next] = server.processes()[..] else { panic!("a parent and a server") };
    assert!(same == parent && next != child && server.is_alive());
    let told =
        "the server was killed by the kernel, for the memory of its control group is used up";
    assert_eq!(server.log().iter().filter(|line| line.contains(told)).count(), 1);
    let metrics = server.metrics();
    assert_eq!(metrics.value("mainstay_restarts_total", &["reason=\"oom\""]), 1.0);
    // What it answers from, for there is no API server that it could have asked.
    assert!(metrics.value("mainstay_snapshot_restored_objects", &[]) > 0.0);
    assert_eq!(cgroup.oom_kills(), 2);
}

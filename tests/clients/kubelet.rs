//! What a node and its cluster do about servers: containers that end are started again, ready ones
//! get into the rules, and the rules follow late.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::Process;
use crate::world;

/// Pause before a container that ended by itself is started again: a kubelet looks once a second.
const RESTART: Duration = Duration::from_secs(1);
/// The same where all of the container was killed.
const RECREATE: Duration = Duration::from_secs(4);
/// `terminationGracePeriodSeconds` of kubeadm's Deployment: its default.
const GRACE: Duration = Duration::from_secs(30);
/// `periodSeconds` of a probe: the least that a kubelet knows.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Longest time to ask for `/ready`.
const PROBE_MAX: Duration = Duration::from_millis(200);

/// A program that serves, with arguments that `{state}` stands for the folder of a Pod in.
pub struct Program {
    pub path: PathBuf,
    pub arguments: Vec<String>,
}

/// A Pod with one container.
pub struct Pod {
    /// Of all Pods, from 1 on.
    pub number: u8,
    state: PathBuf,
    process: Option<Process>,
    /// Whether the container was ready once.
    is_ready: bool,
    /// When it is asked whether it is.
    probed: Instant,
    /// When it is started again.
    back: Option<Instant>,
    /// When SIGKILL comes, after SIGTERM.
    ends: Option<Instant>,
    /// What all containers of it wrote.
    log: Vec<String>,
}

impl Pod {
    /// Starts the container of a Pod, whose state is in a folder.
    pub fn start(number: u8, program: &Program, folder: &Path) -> Self {
        let state = folder.join(format!("state{number}"));
        std::fs::create_dir(&state).unwrap();
        let mut pod = Self {
            number,
            state,
            process: None,
            is_ready: false,
            probed: Instant::now(),
            back: None,
            ends: None,
            log: Vec::new(),
        };
        pod.start_container(program);
        pod
    }

    fn start_container(&mut self, program: &Program) {
        let state = self.state.to_string_lossy();
        let mut command = world::in_pod(self.number);
        command
            .arg(&program.path)
            .args(program.arguments.iter().map(|it| it.replace("{state}", &state)));
        self.process = Some(Process::start(&format!("DNS server {}", self.number), &mut command));
        self.back = None;
        // CoreDNS says that it is ready a moment before it listens.
        self.probed = Instant::now() + PROBE_EVERY;
    }

    /// Whether Mainstay has written what it knows of the cluster (`cluster-….snapshot`).
    pub fn has_snapshot(&self) -> bool {
        let files = std::fs::read_dir(&self.state).into_iter().flatten().flatten();
        let mut names = files.filter_map(|file| file.file_name().into_string().ok());
        names.any(|name| name.starts_with("cluster-") && name.ends_with(".snapshot"))
    }

    /// Kills the process that serves: the child, where a parent keeps its sockets.
    pub fn crash(&mut self) {
        let Some(process) = &mut self.process else { return };
        match children(process.id()).first() {
            Some(child) => kill(*child),
            None => process.kill(),
        }
    }

    /// Kills all of the container, as when its memory is used up.
    pub fn kill_container(&mut self) {
        let children = self.process.as_ref().map_or(vec![], |process| children(process.id()));
        if let Some(process) = &mut self.process {
            process.kill();
        }
        children.into_iter().for_each(kill);
        self.end_container(Instant::now() + RECREATE);
    }

    fn end_container(&mut self, back: Instant) {
        if let Some(process) = self.process.take() {
            self.log.extend(process.log());
            self.log.push("--- the container ended ---".to_owned());
        }
        self.is_ready = false;
        self.back = self.ends.is_none().then_some(back);
    }

    /// Tells the container to end; what is deleted is not ready from then on.
    pub fn terminate(&mut self) {
        if let Some(process) = &self.process {
            process.signal("TERM");
        }
        self.ends = Some(Instant::now() + GRACE);
    }

    /// What a kubelet does now and then.
    fn look(&mut self, program: &Program, now: Instant) {
        if self.process.as_mut().is_some_and(|process| process.ended().is_some()) {
            self.end_container(now + RESTART);
        }
        if self.back.is_some_and(|back| back <= now) {
            self.start_container(program);
        }
        if self.ends.is_some_and(|ends| ends <= now) && self.process.is_some() {
            self.kill_container();
        }
        // Probes fail three times in a row before one that was ready is not.
        if !self.is_ready && self.process.is_some() && self.probed <= now {
            self.is_ready = probe(self.number);
            self.probed = now + PROBE_EVERY;
        }
    }

    fn is_ready(&self) -> bool {
        self.is_ready && self.ends.is_none()
    }

    /// All that its containers wrote.
    pub fn log(&self) -> String {
        let now = self.process.iter().flat_map(Process::log);
        let lines: Vec<String> = self.log.iter().cloned().chain(now).collect();
        lines.join("\n") + "\n"
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.kill_container();
    }
}

/// The Pods of the DNS, and the rules that lead to them.
pub struct Deployment<'a> {
    program: &'a Program,
    folder: &'a Path,
    pub pods: Vec<Pod>,
    /// How many of the Pods are still to be replaced, the first ones.
    to_replace: usize,
    lag: Duration,
    /// Nothing is told to the node: no API server.
    pub is_frozen: bool,
    told: Vec<u8>,
    routed: Vec<u8>,
    under_way: VecDeque<(Instant, Vec<u8>)>,
}

impl<'a> Deployment<'a> {
    /// Starts two Pods. Rules follow what becomes of them this late.
    pub fn start(program: &'a Program, folder: &'a Path, lag: Duration) -> Self {
        let pods = [1, 2].map(|number| Pod::start(number, program, folder)).into();
        let (told, routed, under_way) = (Vec::new(), Vec::new(), VecDeque::new());
        let is_frozen = false;
        Self { program, folder, pods, to_replace: 0, lag, is_frozen, told, routed, under_way }
    }

    /// Waits until all Pods are ready, and routes to them.
    pub fn wait_until_ready(&mut self, longest: Duration) {
        let begun = Instant::now();
        while self.ready().len() < self.pods.len() {
            assert!(begun.elapsed() < longest, "not ready: {}", self.pods[0].log());
            std::thread::sleep(Duration::from_millis(50));
            self.pods.iter_mut().for_each(|pod| pod.look(self.program, Instant::now()));
        }
        self.told = self.ready();
        self.route(self.told.clone());
    }

    fn ready(&self) -> Vec<u8> {
        self.pods.iter().filter(|pod| pod.is_ready()).map(|pod| pod.number).collect()
    }

    /// Replaces all Pods, from here on: a new one is started; when it is ready, an old one ends.
    pub fn replace_all(&mut self) {
        self.to_replace = self.pods.len();
        self.start_next();
    }

    fn start_next(&mut self) {
        let number = u8::try_from(self.pods.len() + 1).expect("there are few");
        assert!(number <= world::PODS);
        self.pods.push(Pod::start(number, self.program, self.folder));
    }

    /// Whether all old Pods were told to end.
    pub fn is_settled(&self) -> bool {
        self.to_replace == 0
    }

    /// What the cluster does now and then.
    pub fn look(&mut self) {
        let now = Instant::now();
        self.pods.iter_mut().for_each(|pod| pod.look(self.program, now));
        if self.to_replace > 0 && self.pods.last().is_some_and(Pod::is_ready) {
            self.to_replace -= 1;
            let old = self.pods.iter_mut().find(|pod| pod.ends.is_none());
            old.expect("some are left").terminate();
            if self.to_replace > 0 {
                self.start_next();
            }
        }
        self.tell(now);
    }

    fn tell(&mut self, now: Instant) {
        let ready = self.ready();
        if ready != self.told && !self.is_frozen {
            self.told.clone_from(&ready);
            self.under_way.push_back((now + self.lag, ready));
        }
        while self.under_way.front().is_some_and(|(due, _)| *due <= now) {
            let (_, pods) = self.under_way.pop_front().expect("it was there");
            self.route(pods);
        }
    }

    fn route(&mut self, pods: Vec<u8>) {
        let gone: Vec<u8> = self.routed.iter().filter(|pod| !pods.contains(pod)).copied().collect();
        world::route(&pods, &gone);
        self.routed = pods;
    }

    /// Ends all Pods for good.
    pub fn stop_all(&mut self) {
        for pod in &mut self.pods {
            pod.terminate();
            pod.kill_container();
        }
    }
}

impl Drop for Deployment<'_> {
    fn drop(&mut self) {
        // Flows of one run must not lead the next one astray.
        world::route(&[], &[1, 2, 3, 4]);
    }
}

/// The processes that a process started.
fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |id: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // The name, in parentheses, may have spaces.
        let parent_is = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1));
        parent_is.is_some_and(|it| it == parent.to_string())
    };
    ids.filter(is_child).collect()
}

fn kill(id: u32) {
    // It may have ended meanwhile.
    let _ = Command::new("sh").args(["-c", &format!("kill -KILL {id} 2>/dev/null")]).status();
}

/// Whether `/ready` of a Pod says so.
fn probe(pod: u8) -> bool {
    let ask = || -> std::io::Result<String> {
        let address = SocketAddr::from((world::pod_address(pod), 8181));
        let mut stream = TcpStream::connect_timeout(&address, PROBE_MAX)?;
        stream.set_read_timeout(Some(PROBE_MAX))?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n")?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        Ok(reply)
    };
    ask().is_ok_and(|reply| reply.starts_with("HTTP/1.1 200"))
}

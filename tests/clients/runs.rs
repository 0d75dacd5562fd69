//! Inside of a world: runs of one server, one after the other.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::applications::{self, Application, Sums};
use crate::cases::{self, Act, Case};
use crate::control_plane::ControlPlane;
use crate::kubelet::{Deployment, Pod, Program};
use crate::process::Process;
use crate::upstream::Upstreams;
use crate::{objects, world};

/// The Corefile of kubeadm, which both servers have.
const KUBEADM: &str = include_str!("../corefiles/valid/kubeadm.Corefile");
/// Longest time until both servers are ready.
const READY_MAX: Duration = Duration::from_secs(60);
/// Longest time until a Snapshot is there. The first look is after 5 s, the next some 30 s later.
const SNAPSHOT_MAX: Duration = Duration::from_secs(90);
/// Pause between two looks at what is due.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What a world is for.
#[derive(Serialize, Deserialize)]
pub struct Job {
    /// How the results call the server.
    pub server: String,
    pub program: PathBuf,
    pub is_short: bool,
    /// Which of the runs: those with this rest when divided.
    pub share: usize,
    pub shares: usize,
    pub applications: Vec<Application>,
    /// Where the programs of applications are, results and logs go.
    pub folder: PathBuf,
}

/// How an application fared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    pub fault: String,
    pub lag_s: u64,
    pub server: String,
    pub application: String,
    pub sums: Sums,
    /// When the last lookup failed, in seconds since the fault.
    pub last_s: Option<f64>,
}

impl Outcome {
    /// Whether it is one of this case.
    pub fn is_of(&self, case: &Case) -> bool {
        self.fault == case.fault && self.lag_s == case.lag_s
    }

    /// The file with what the application wrote.
    pub fn log(&self) -> String {
        log_of(&self.fault, self.lag_s, &self.server, &self.application)
    }
}

/// The file with what an application or a Pod wrote.
fn log_of(fault: &str, lag_s: u64, server: &str, who: &str) -> String {
    let name = format!("{fault} {lag_s} s {server} {who}.log");
    name.replace(['`', ':', ','], "").replace(' ', "-")
}

impl Job {
    /// The file of the results.
    pub fn results(&self) -> PathBuf {
        self.folder.join(format!("{}.{}.json", self.server, self.share))
    }

    /// Does all of it. The caller has brought us into namespaces of our own.
    pub fn run(&self) {
        end_with_the_caller();
        world::build();
        let mut world = World::start();
        let cases = if self.is_short { cases::short() } else { cases::all() };
        let mut outcomes = Vec::new();
        for case in cases.iter().skip(self.share).step_by(self.shares) {
            outcomes.extend(self.measure(case, &mut world));
        }
        std::fs::write(self.results(), serde_json::to_string(&outcomes).unwrap()).unwrap();
    }

    fn measure(&self, case: &Case, world: &mut World) -> Vec<Outcome> {
        let begun = Instant::now();
        let folder = TempDir::new().unwrap();
        let program = self.program(folder.path(), &world.kubeconfig);
        let mut servers = Deployment::start(&program, folder.path(), case.lag());
        servers.wait_until_ready(READY_MAX);
        if self.is_ours() && case.acts.iter().any(|(_, act)| *act == Act::ApiDown) {
            wait_for_snapshots(&servers.pods);
        }
        let all: Vec<Process> = self.applications.iter().map(|it| it.start(case.seconds)).collect();
        let fault_s = world.play(case, &mut servers);
        let ended: Vec<(Sums, String)> = all.into_iter().map(applications::end).collect();
        for pod in &servers.pods {
            self.keep(case, &pod.number.to_string(), &pod.log());
        }
        drop(servers);
        world.mend();
        let took = begun.elapsed().as_secs();
        println!("  {}, rules after {} s, {}: took {took} s", case.fault, case.lag_s, self.server);
        let of = |(application, (sums, log)): (&Application, (Sums, String))| {
            self.keep(case, &application.name, &log);
            let last_s = (sums.failed > 0).then_some(sums.last_failure_s - fault_s);
            Outcome {
                fault: case.fault.to_owned(),
                lag_s: case.lag_s,
                server: self.server.clone(),
                application: application.name.clone(),
                sums,
                last_s,
            }
        };
        self.applications.iter().zip(ended).map(of).collect()
    }

    /// Keeps what somebody wrote, for who wants to know more.
    fn keep(&self, case: &Case, who: &str, text: &str) {
        let name = log_of(case.fault, case.lag_s, &self.server, who);
        std::fs::write(self.folder.join(name), text).unwrap();
    }

    fn is_ours(&self) -> bool {
        self.server == crate::OURS
    }

    /// The server with kubeadm's Corefile, which differs in what is elsewhere.
    fn program(&self, folder: &Path, kubeconfig: &Path) -> Program {
        let upstreams = world::UPSTREAMS.map(|it| it.to_string()).join(" ");
        let mut text = KUBEADM.to_owned();
        for (from, to) in [
            ("pods insecure", format!("kubeconfig {}\n       pods insecure", kubeconfig.display())),
            ("/etc/resolv.conf", upstreams),
        ] {
            assert_eq!(text.matches(from).count(), 1, "{from:?} in the Corefile of kubeadm");
            text = text.replace(from, &to);
        }
        let corefile = folder.join("Corefile");
        std::fs::write(&corefile, text).unwrap();
        let corefile = corefile.to_string_lossy().into_owned();
        let ours = ["serve", "--supervised", "--state", "{state}", "--conf"];
        let words = if self.is_ours() { &ours[..] } else { &["-conf"] };
        let mut arguments: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        arguments.push(corefile);
        Program { path: self.program.clone(), arguments }
    }
}

/// Waits until all have a Snapshot, as servers have that run for long.
fn wait_for_snapshots(pods: &[Pod]) {
    let begun = Instant::now();
    while !pods.iter().all(Pod::has_snapshot) {
        assert!(begun.elapsed() < SNAPSHOT_MAX, "no Snapshot was written in {SNAPSHOT_MAX:?}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Ends us, and so all of our namespaces, when who started us is gone.
fn end_with_the_caller() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
}

/// What is there for all runs.
struct World {
    plane: ControlPlane,
    is_api_down: bool,
    upstreams: Upstreams,
    /// For the servers.
    kubeconfig: PathBuf,
    _folder: TempDir,
}

impl World {
    fn start() -> Self {
        let plane = ControlPlane::without_controllers().expect("it was looked for before");
        let admin = plane.admin();
        objects::create(&admin);
        let folder = TempDir::new().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        let text = std::fs::read_to_string(plane.admin_kubeconfig()).unwrap();
        let (from, to) = ("https://127.0.0.1:", format!("https://{}:", world::API_SERVER));
        assert!(text.contains(from), "the API server is elsewhere");
        std::fs::write(&kubeconfig, text.replace(from, &to)).unwrap();
        let upstreams = Upstreams::start(&world::UPSTREAMS);
        Self { plane, is_api_down: false, upstreams, kubeconfig, _folder: folder }
    }

    /// Does what is due when it is, until all lookups were begun; answers when the fault was, in
    /// seconds since the epoch.
    fn play(&mut self, case: &Case, servers: &mut Deployment) -> f64 {
        let begun = Instant::now();
        let mut acts = case.acts.iter().peekable();
        let mut fault_s = None;
        // A machine that paused may have no time left for the last acts, but they are done.
        while begun.elapsed() < Duration::from_secs(case.seconds) || acts.peek().is_some() {
            if let Some((_, act)) =
                acts.next_if(|(at, _)| begun.elapsed() >= Duration::from_secs(*at))
            {
                fault_s.get_or_insert_with(now_s);
                self.act(*act, servers);
            }
            servers.look();
            std::thread::sleep(LOOK_EVERY);
        }
        assert!(acts.next().is_none() && servers.is_settled(), "too short for {}", case.fault);
        fault_s.expect("each case has a fault")
    }

    fn act(&mut self, act: Act, servers: &mut Deployment) {
        match act {
            Act::Crash(pod) => servers.pods[pod].crash(),
            Act::KillContainer(pod) => servers.pods[pod].kill_container(),
            Act::Roll => servers.replace_all(),
            Act::ApiDown => {
                self.plane.kill_api_server();
                self.is_api_down = true;
                servers.is_frozen = true;
            }
            Act::ApiUp => {
                self.raise_api_server();
                servers.is_frozen = false;
            }
            Act::UpstreamDead => world::lose(&world::UPSTREAMS[..1]),
            Act::UpstreamSlow => self.upstreams.be_slow(true),
            Act::StopAll => servers.stop_all(),
        }
    }

    fn raise_api_server(&mut self) {
        self.plane.start_api_server();
        self.is_api_down = false;
    }

    /// Makes all as it was.
    fn mend(&mut self) {
        world::lose(&[]);
        self.upstreams.be_slow(false);
        if self.is_api_down {
            self.raise_api_server();
        }
    }
}

fn now_s() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs_f64()
}

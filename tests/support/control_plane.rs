//! A real etcd, kube-apiserver and kube-controller-manager on loopback, in a folder of their own.
//!
//! See tests/controlplane/README.md for where the programs come from and what the flags are for.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::kubeapi::Kubeapi;
use crate::ports;
use crate::process::Process;

/// The token of an administrator who may do all.
pub const ADMIN: &str = "e2e-admin";
/// What of the API server and its controllers is there to be had elsewhere.
const CONTROLLERS: &str = "endpoints-controller,endpointslice-controller,\
     endpointslice-mirroring-controller,namespace-controller,serviceaccount-controller,\
     root-ca-certificate-publisher-controller";
/// Longest time until the API server answers. It is about 3 s on an idle machine.
const START_MAX: Duration = Duration::from_secs(120);
/// Exit code of the build script: cannot be had here.
const NOT_HERE: i32 = 77;

/// The three processes. Dropping it ends them and removes their data.
pub struct ControlPlane {
    // The order of the fields is that of the end: the clients of each go before it does.
    controllers: Option<Process>,
    api_server: Option<Process>,
    _etcd: Process,
    folder: TempDir,
    programs: PathBuf,
    pub etcd_port: u16,
    pub port: u16,
}

impl ControlPlane {
    /// Starts all three and waits until the API server answers.
    ///
    /// # Errors
    /// Why they cannot be had on this machine.
    pub fn start() -> Result<Self, String> {
        let mut plane = Self::without_controllers()?;
        plane.start_controllers();
        Ok(plane)
    }

    /// The same without controllers, for those who write every object by hand.
    ///
    /// # Errors
    /// Why they cannot be had on this machine.
    pub fn without_controllers() -> Result<Self, String> {
        let programs = programs()?;
        let folder = TempDir::new().map_err(|error| format!("no folder for data: {error}"))?;
        let key = folder.path().join("sa.key");
        let openssl = Command::new("openssl")
            .args(["genrsa", "-out"])
            .arg(&key)
            .arg("2048")
            .stderr(Stdio::null())
            .status();
        if !openssl.is_ok_and(|status| status.success()) {
            return Err("no openssl to make a key with; install it".to_owned());
        }
        let tokens = format!("{ADMIN},admin,admin,system:masters\n");
        std::fs::write(folder.path().join("tokens.csv"), tokens).unwrap();
        let (etcd_port, port) = (ports::free(), ports::free());
        let etcd = start_etcd(&programs, folder.path(), etcd_port);
        let (controllers, api_server) = (None, None);
        let mut plane =
            Self { controllers, api_server, _etcd: etcd, folder, programs, etcd_port, port };
        plane.start_api_server();
        Ok(plane)
    }

    /// Starts the API server and waits until it answers.
    pub fn start_api_server(&mut self) {
        let (folder, key) = (self.folder.path(), self.folder.path().join("sa.key"));
        let mut command = Command::new(self.programs.join("kube-apiserver"));
        command
            .arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port))
            .args(["--bind-address=127.0.0.1", "--advertise-address=203.0.113.1"])
            .arg(format!("--secure-port={}", self.port))
            .arg(format!("--cert-dir={}", folder.join("certs").display()))
            .arg(format!("--token-auth-file={}", folder.join("tokens.csv").display()))
            .args(["--authorization-mode=RBAC"])
            .args(["--service-account-issuer=https://kubernetes.default.svc"])
            .arg(format!("--service-account-key-file={}", key.display()))
            .arg(format!("--service-account-signing-key-file={}", key.display()))
            .args(["--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112"])
            // Names of Services may begin with a digit: on by default from 1.36 on.
            .args(["--feature-gates=RelaxedServiceNameValidation=true"])
            .args(["--disable-admission-plugins=ServiceAccount"]);
        self.api_server = Some(Process::start("kube-apiserver", &mut command));
        self.wait_for_api_server();
    }

    /// Kills the API server as a node that loses power does.
    pub fn kill_api_server(&mut self) {
        self.api_server.as_mut().expect("it was started").kill();
    }

    /// A client with all rights.
    pub fn admin(&self) -> Kubeapi {
        Kubeapi::new(&self.admin_kubeconfig())
    }

    /// The path of a kubeconfig with all rights.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.kubeconfig("admin", ADMIN)
    }

    /// Writes a kubeconfig with this token; answers its path.
    pub fn kubeconfig(&self, name: &str, token: &str) -> PathBuf {
        let path = self.folder.path().join(format!("{name}.kubeconfig"));
        let authority = self.folder.path().join("certs/apiserver.crt");
        let text = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "e2e",
            "contexts": [{ "name": "e2e", "context": { "cluster": "e2e", "user": name } }],
            "users": [{ "name": name, "user": { "token": token } }],
            "clusters": [{ "name": "e2e", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port),
                "certificate-authority": authority,
            } }],
        });
        std::fs::write(&path, text.to_string()).unwrap();
        path
    }

    fn start_controllers(&mut self) {
        let folder = self.folder.path();
        let mut command = Command::new(self.programs.join("kube-controller-manager"));
        command
            .arg(format!("--kubeconfig={}", self.kubeconfig("controllers", ADMIN).display()))
            .args(["--leader-elect=false", "--secure-port=0"])
            .arg(format!("--controllers={CONTROLLERS}"))
            .arg(format!("--root-ca-file={}", folder.join("certs/apiserver.crt").display()))
            .arg(format!("--service-account-private-key-file={}", folder.join("sa.key").display()));
        self.controllers = Some(Process::start("kube-controller-manager", &mut command));
    }

    fn wait_for_api_server(&mut self) {
        let begun = Instant::now();
        let certificate = self.folder.path().join("certs/apiserver.crt");
        let is_ready = |plane: &Self| certificate.exists() && plane.admin().is_ready();
        while !is_ready(self) {
            let ended = self.api_server.as_mut().and_then(Process::ended);
            assert!(ended.is_none(), "the API server ended: {ended:?}");
            assert!(begun.elapsed() < START_MAX, "the API server does not answer");
            sleep(Duration::from_millis(50));
        }
    }
}

/// The folder with the programs.
fn programs() -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/controlplane/build");
    let output = Command::new(script)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("tests/controlplane/build cannot run: {error}"))?;
    match output.status.code() {
        Some(0) => {}
        Some(NOT_HERE) => return Err("no control plane on this machine, as told above".to_owned()),
        // What was broken must not look like what is not there.
        code => panic!("tests/controlplane/build failed: {code:?}"),
    }
    let text = String::from_utf8(output.stdout).unwrap();
    Ok(PathBuf::from(text.lines().last().expect("the last line is the folder")))
}

fn start_etcd(programs: &Path, folder: &Path, port: u16) -> Process {
    let url = format!("http://127.0.0.1:{port}");
    let mut command = Command::new(programs.join("etcd"));
    command
        .arg(format!("--data-dir={}", folder.join("etcd").display()))
        .args(["--unsafe-no-fsync", "--log-level=error"])
        .arg(format!("--listen-client-urls={url}"))
        .arg(format!("--advertise-client-urls={url}"))
        .args(["--listen-peer-urls=http://127.0.0.1:0"]);
    Process::start("etcd", &mut command)
}

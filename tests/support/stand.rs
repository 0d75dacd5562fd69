//! Starts the real `mainstay` between a [`FakeCluster`] and upstreams that are [`Evil`].

#![allow(dead_code, reason = "each test uses what it needs")]

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::evil::Evil;
use crate::fake_cluster::FakeCluster;
use crate::server::{Ports, Server};

/// What the server is told. Nothing is kept for its next start unless `argument("--state=…")` names
/// a folder.
#[derive(Clone)]
pub struct Stand {
    endpoint: String,
    upstreams: Vec<SocketAddr>,
    kubernetes: Vec<String>,
    forward: Vec<String>,
    cache: Vec<String>,
    directives: Vec<String>,
    arguments: Vec<PathBuf>,
}

impl Stand {
    /// A server of this cluster, as kubeadm sets it up, without upstreams.
    pub fn of(cluster: &FakeCluster) -> Self {
        Self {
            endpoint: cluster.url(),
            upstreams: Vec::new(),
            kubernetes: Vec::new(),
            forward: Vec::new(),
            cache: Vec::new(),
            directives: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// Forwards to one more upstream.
    pub fn upstream(self, upstream: &Evil) -> Self {
        self.upstream_at(upstream.address())
    }

    /// The same by its address.
    pub fn upstream_at(mut self, upstream: SocketAddr) -> Self {
        self.upstreams.push(upstream);
        self
    }

    /// An option of `kubernetes`, such as `ttl 5`.
    pub fn kubernetes(mut self, option: &str) -> Self {
        self.kubernetes.push(option.to_owned());
        self
    }

    /// An option of `forward`, such as `policy sequential`.
    pub fn forward(mut self, option: &str) -> Self {
        self.forward.push(option.to_owned());
        self
    }

    /// An option of `cache`, such as `serve_stale`.
    pub fn cache(mut self, option: &str) -> Self {
        self.cache.push(option.to_owned());
        self
    }

    /// A directive of the server block, such as `shed 1000`.
    pub fn directive(mut self, line: &str) -> Self {
        self.directives.push(line.to_owned());
        self
    }

    /// An argument of the program, such as `--supervised`.
    pub fn argument(mut self, argument: impl Into<PathBuf>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Its Corefile.
    pub fn corefile(&self, ports: Ports) -> String {
        let Ports { dns, health, ready, metrics } = ports;
        let lines = |options: &[String]| {
            options.iter().map(|option| format!("\n        {option}")).collect::<String>()
        };
        let forward = match self.upstreams[..] {
            [] => String::new(),
            ref all => {
                let all: Vec<String> = all.iter().map(ToString::to_string).collect();
                format!("forward . {} {{{}\n    }}", all.join(" "), lines(&self.forward))
            }
        };
        format!(
            ".:{dns} {{
    errors
    health 127.0.0.1:{health} {{
        lameduck 1s
    }}
    ready 127.0.0.1:{ready}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        endpoint {endpoint}
        pods insecure
        fallthrough in-addr.arpa ip6.arpa{kubernetes}
    }}
    prometheus 127.0.0.1:{metrics}
    {forward}
    cache 30 {{
        disable success cluster.local
        disable denial cluster.local{cache}
    }}
    reload 2s 1s
    loadbalance{directives}
}}
",
            endpoint = self.endpoint,
            kubernetes = lines(&self.kubernetes),
            cache = lines(&self.cache),
            directives = lines(&self.directives),
        )
    }

    /// Starts it on ports of its own. It need not be ready yet.
    pub fn start(&self, name: &str) -> Server {
        self.start_at(name, Ports::free())
    }

    /// Starts it on these ports, such as those of one that has ended.
    pub fn start_at(&self, name: &str, ports: Ports) -> Server {
        Server::start_with(name, ports, &self.corefile(ports), |path| {
            let conf = ["-conf".into(), path.to_owned()];
            conf.into_iter().chain(self.arguments.iter().cloned()).collect()
        })
    }

    /// Starts it and waits until it is ready.
    pub fn start_ready(&self, name: &str) -> Server {
        let server = self.start(name);
        until_ready(&server);
        server
    }
}

/// Waits until a server is ready.
pub fn until_ready(server: &Server) {
    crate::asker::eventually(|| match server.ready() {
        200 => Ok(()),
        status => Err(format!("ready: {status}")),
    });
}

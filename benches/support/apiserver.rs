//! What would a Kubernetes API server say? A stand-in that holds a made-up cluster of any size,
//! lists and watches as the real one does, and makes as many changes per second as it is told to.
//!
//! ```text
//! the bench ── orders, one JSON line each, on stdin ──► this program again, as `apiserver`,
//!           ◄─ one JSON line for each on stdout ─────── on a core and a port of its own
//! ```
//!
//! It ends with its standard input, so it never outlives the bench. [`ApiServer`] is its handle
//! in the bench; [`run`] is that other process: call it first thing in `main`.

use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use axum::serve::ListenerExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub mod answers;
mod json;
pub mod objects;
mod protobuf;
pub mod store;

use answers::{Answers, Asked, gone};
use objects::{Cluster, mix};
use store::{Edit, Edited, Store};

/// The argument that makes a bench this server.
const ROLE: &str = "apiserver";
/// Pause between two portions of churn.
const TICK: Duration = Duration::from_millis(1);

/// An order to the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Order {
    /// Answers [`Churned`] when it is over.
    Churn(Churn),
    /// Ends all watches with 410.
    Expire,
    /// Gives streaming lists, or refuses them.
    Streaming(bool),
    /// Answers what was asked since the last such order, as [`Asked`].
    Asked,
}

/// Changes at a rate, spread evenly over the time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Churn {
    pub per_second: u64,
    pub time: Duration,
    /// Every change of this number moves a probe; the others flip an endpoint anywhere.
    pub probe_every: u64,
    /// How many of the probes are moved, one after the other.
    pub probes: usize,
}

/// What a churn came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Churned {
    pub changes: u64,
    /// How long it took: more than asked when the server could not keep up.
    pub took: Duration,
    /// The moves of probes, in their order.
    pub moves: Vec<Edited>,
}

/// The server in a process of its own. Dropping it ends that.
pub struct ApiServer {
    child: Child,
    orders: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    pub address: SocketAddr,
}

impl ApiServer {
    /// Starts a server for `cluster` on a core. A port of 0 is any that is free.
    pub fn start(cluster: &Cluster, cpu: usize, port: u16) -> Self {
        let program = std::env::current_exe().expect("a running program has a path");
        let mut child = Command::new("taskset")
            .args(["-c", &cpu.to_string()])
            .arg(program)
            .args([ROLE, &port.to_string()])
            .arg(serde_json::to_string(cluster).expect("numbers are JSON"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("taskset is there; it is part of util-linux");
        let orders = child.stdin.take();
        let mut replies = BufReader::new(child.stdout.take().expect("it is piped"));
        let address = read_line(&mut replies);
        Self { child, orders, replies, address }
    }

    /// What a Corefile or a kubeconfig calls it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Begins a churn; [`Self::end_churn`] waits for its end.
    pub fn begin_churn(&mut self, churn: Churn) {
        self.send(&Order::Churn(churn));
    }

    pub fn end_churn(&mut self) -> Churned {
        read_line(&mut self.replies)
    }

    /// Ends all watches with 410, and forgets what they could resume from.
    pub fn expire(&mut self) {
        self.tell(&Order::Expire)
    }

    /// Gives streaming lists (the default), or refuses them as an old server does.
    pub fn set_streaming(&mut self, is_streaming: bool) {
        self.tell(&Order::Streaming(is_streaming))
    }

    /// What was asked since the last call.
    pub fn asked(&mut self) -> Vec<Asked> {
        self.tell(&Order::Asked)
    }

    fn tell<T: DeserializeOwned>(&mut self, order: &Order) -> T {
        self.send(order);
        read_line(&mut self.replies)
    }

    fn send(&mut self, order: &Order) {
        let orders = self.orders.as_mut().expect("it is only taken at the end");
        write_line(orders, order);
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Becomes the server if the arguments of the program say so; does not return then.
pub fn run() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some(ROLE) {
        return;
    }
    let port: u16 = arguments.next().and_then(|port| port.parse().ok()).expect("a port");
    let cluster = arguments.next().expect("a cluster");
    let cluster = serde_json::from_str(&cluster).expect("a cluster as JSON");
    let store = Store::new(cluster);
    store.prepare();
    let answers = Answers::new(Arc::new(store));
    let router = answers.router();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let listener =
            tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        thread::spawn(move || obey(&answers, address));
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        axum::serve(listener, router).await.expect("it serves until the end");
    });
}

/// Takes orders until there are no more, and ends the process then.
fn obey(answers: &Answers, address: SocketAddr) {
    let mut replies = stdout();
    write_line(&mut replies, &address);
    for order in stdin().lines().map_while(Result::ok) {
        match serde_json::from_str(&order).expect("an order") {
            Order::Churn(wish) => write_line(&mut replies, &churn(&answers.store, wish)),
            Order::Asked => write_line(&mut replies, &answers.take_asked()),
            Order::Expire => {
                answers.store.expire(&gone());
                write_line(&mut replies, &());
            }
            Order::Streaming(is_streaming) => {
                answers.is_streaming.store(is_streaming, Ordering::Relaxed);
                write_line(&mut replies, &());
            }
        }
    }
    std::process::exit(0);
}

fn churn(store: &Store, wish: Churn) -> Churned {
    let begun = Instant::now();
    let slices = (store.slice_count() - store.cluster.probes) as u64;
    let total = wish.per_second * wish.time.as_millis() as u64 / 1000;
    let (mut made, mut moves) = (0, Vec::new());
    while made < total {
        let due = wish.per_second * begun.elapsed().as_micros() as u64 / 1_000_000;
        for change in made..due.min(total) {
            if change % wish.probe_every == 0 {
                let probe = moves.len() % wish.probes;
                moves.push(store.edit(Edit::Move { probe }));
            } else {
                let (slice, endpoint) = (mix(change) % slices, mix(!change) % 1024);
                store.edit(Edit::Flip { slice: slice as usize, endpoint: endpoint as usize });
            }
        }
        made = made.max(due.min(total));
        thread::sleep(TICK);
    }
    Churned { changes: made, took: begun.elapsed(), moves }
}

fn write_line(out: &mut impl Write, value: &impl Serialize) {
    let mut line = serde_json::to_string(value).expect("it is JSON");
    line.push('\n');
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).expect("somebody reads it");
}

fn read_line<T: DeserializeOwned>(from: &mut impl BufRead) -> T {
    let mut line = String::new();
    from.read_line(&mut line).expect("the API server lives");
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("API server: {error}: {line}"))
}

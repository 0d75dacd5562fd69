//! Runs the statements of one scenario: the Plan, its clusters, its upstreams and its clients.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use mainstay::app::compile::{Setting, compile};
use mainstay::app::parts::Parts;
use mainstay::cluster::live::{Cluster, Identity};
use mainstay::cluster::object::{Change, Kind};
use mainstay::corefile::{self, Corefile, Origin};
use mainstay::resolve::later::{Errand, Purpose};
use mainstay::resolve::now::{Client, Now, answer_now};
use mainstay::resolve::plan::Plan;
use mainstay::resolve::step::Desk;
use mainstay::resolve::tally::Proto;
use mainstay::wire::TCP_MAX;
use tokio::sync::mpsc::Sender;
use tokio::task::{JoinHandle, JoinSet, yield_now};
use tokio::time::{Instant, advance};

use super::client::Packet;
use super::cluster;
use super::script::Scripted;
use super::shape::Shape;
use super::statement::{Failure, Statement};
use super::upstream::Over;

/// Most real time that one scenario may take. Without a bug none waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The Corefile of scenarios that bring none: kubeadm's directives, with their defaults.
pub const COREFILE: &str = "
    .:53 {
        kubernetes cluster.local in-addr.arpa ip6.arpa {
            pods insecure
            fallthrough in-addr.arpa ip6.arpa
        }
        forward . $up
        cache 30
        loadbalance
    }
";
/// The clock moves in steps of this, so that what wakes at its time also acts at its time.
const STEP: Duration = Duration::from_millis(100);
/// Questions of one `orders` statement: that one of three orders never comes has odds of 10⁻¹¹.
const ORDERS_ASKED: usize = 64;
/// Most steps of one `time` statement.
const STEPS_MAX: u32 = 200;
/// Turns of the runtime after which everything that can go on has gone on: each looks for I/O
/// once, and a question over TCP takes some ten.
const TURNS: usize = 24;

/// Runs all statements.
pub async fn run(statements: &[Statement]) -> Result<(), Failure> {
    let (release, released) = mpsc::channel::<()>();
    // The clock stands while a blocking task runs. It ends when `release` is dropped, or in time.
    let watchdog = tokio::task::spawn_blocking(move || {
        let _ = released.recv_timeout(PATIENCE);
    });
    let ran = World::start(statements, watchdog).await;
    drop(release);
    ran
}

struct World {
    own: Vec<IpAddr>,
    upstreams: BTreeMap<String, Scripted>,
    /// All that the clusters were told, for those that a reload starts.
    told: Vec<Change>,
    senders: Vec<Sender<Change>>,
    parts: Parts,
    plan: Arc<Plan>,
    desk: Desk,
    waiting: VecDeque<Waiting>,
    refreshes: JoinSet<()>,
    watchdog: JoinHandle<()>,
}

/// A query without a verdict.
struct Waiting {
    packet: Packet,
    reply: Reply,
}

/// Where its reply is.
enum Reply {
    Here(Option<Vec<u8>>),
    Later(JoinHandle<Option<Vec<u8>>>),
}

impl World {
    async fn start(statements: &[Statement], watchdog: JoinHandle<()>) -> Result<(), Failure> {
        let mut world = Self {
            own: Vec::new(),
            upstreams: BTreeMap::new(),
            told: Vec::new(),
            senders: Vec::new(),
            parts: Parts::default(),
            plan: Arc::new(Plan { ports: Vec::new() }),
            desk: Desk::new(),
            waiting: VecDeque::new(),
            refreshes: JoinSet::new(),
            watchdog,
        };
        // What the Plan is made of comes before all else, so that the default can be made late.
        let rest = statements.iter().position(|it| !["own", "corefile"].contains(&&*it.word));
        let (first, rest) = statements.split_at(rest.unwrap_or(statements.len()));
        for statement in first {
            world.run(statement).await.map_err(|what| statement.fails(what))?;
        }
        if world.plan.ports.is_empty() {
            world.load(COREFILE).await.map_err(|what| (1, what))?;
        }
        let is_unsynced = statements.iter().any(|it| it.items == ["unsynced"]);
        if !is_unsynced {
            let begin = Kind::ALL.map(Change::ListBegin);
            world.tell(begin.into_iter().chain(Kind::ALL.map(Change::ListEnd))).await;
        }
        for statement in rest {
            world.run(statement).await.map_err(|what| statement.fails(what))?;
        }
        match world.waiting.is_empty() {
            true => Ok(()),
            false => Err((statements.last().unwrap().line, "a query has no expect".into())),
        }
    }

    async fn run(&mut self, statement: &Statement) -> Result<(), String> {
        let words = statement.words();
        match statement.word.as_str() {
            "corefile" => self.load(&statement.block).await,
            "own" => {
                self.own = cluster::list(&words.join(","))?;
                Ok(())
            }
            "cluster" if matches!(words[..], ["away" | "back"]) => {
                for cluster in &self.parts.clusters {
                    cluster.published.set_stale(words == ["away"]);
                }
                Ok(())
            }
            "cluster" if matches!(words[..], ["away" | "back", _]) => {
                let kind = Kind::ALL.into_iter().find(|kind| kind.resource() == words[1]);
                let kind = kind.ok_or(format!("not a kind: {}", words[1]))?;
                for cluster in &self.parts.clusters {
                    cluster.published.set_kind_stale(kind, words[0] == "away");
                }
                Ok(())
            }
            "cluster" => {
                self.tell(cluster::changes(&statement.items)?).await;
                Ok(())
            }
            "upstream" => {
                let name = words.first().copied().unwrap_or_default();
                self.upstream(name)?.learn(&statement.items)?;
                settle().await;
                Ok(())
            }
            "query" => self.query(Packet::read(&words)?),
            "expect" => self.expect(&statement.items).await,
            "orders" => self.orders(&words),
            "asked" => self.asked(&words).await,
            "refreshed" => self.refreshed().await,
            "time" => move_clock(words.first().copied().unwrap_or_default()).await,
            other => Err(format!("not a statement: {other}")),
        }
    }

    fn upstream(&mut self, name: &str) -> Result<&mut Scripted, String> {
        self.upstreams.get_mut(name).ok_or(format!("the Corefile has no ${name}"))
    }

    /// Compiles a Corefile, or reloads.
    async fn load(&mut self, text: &str) -> Result<(), String> {
        let corefile = self.read(text).await?;
        for server in &corefile.blocks {
            let Some(config) = &server.kubernetes else { continue };
            if self.parts.clusters.iter().any(|cluster| cluster.identity == Identity::of(config)) {
                continue;
            }
            let (cluster, sender) = Cluster::told(Identity::of(config));
            self.parts.clusters.push(Arc::new(cluster));
            for change in &self.told {
                sender.send(change.clone()).await.unwrap();
            }
            self.senders.push(sender);
        }
        let setting = Setting { workers: 1, own_addresses: self.own.clone().into() };
        let compiled = compile(&corefile, &self.parts, &setting);
        (self.plan, self.parts) = compiled.map_err(|error| error.to_string())?;
        // As a UDP worker, when the Plan was swapped.
        self.desk.hot.clear();
        settle().await;
        Ok(())
    }

    /// Reads a Corefile, and starts the upstreams that it names.
    async fn read(&mut self, text: &str) -> Result<Corefile, String> {
        let mut text = text.to_owned();
        while let Some(at) = text.find('$') {
            let name: String =
                text[at + 1..].chars().take_while(char::is_ascii_alphanumeric).collect();
            if !self.upstreams.contains_key(&name) {
                self.upstreams.insert(name.clone(), Scripted::start().await);
            }
            let address = self.upstreams[&name].address.to_string();
            text = text.replacen(&format!("${name}"), &address, 1);
        }
        let origin = Origin::Stdin(text.into_bytes());
        let options = corefile::Options { variable: |_| None, ..corefile::Options::default() };
        corefile::load(&origin, &options).map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            lines.join("\n")
        })
    }

    /// Tells every cluster, and waits until it has published.
    async fn tell(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            self.told.push(change.clone());
            for sender in &self.senders {
                sender.send(change.clone()).await.unwrap();
            }
        }
        settle().await;
    }

    fn query(&mut self, packet: Packet) -> Result<(), String> {
        let proto = if packet.is_tcp { Proto::Tcp } else { Proto::Udp };
        let client = Client { proto, address: IpAddr::V4(Ipv4Addr::LOCALHOST) };
        let port = self.plan.ports.first().ok_or("the Corefile has no port")?;
        let mut out = vec![0; TCP_MAX];
        let now = Instant::now().into_std();
        let reply = match answer_now(port, &packet.octets, client, now, &mut self.desk, &mut out) {
            Now::Ignore => Reply::Here(None),
            Now::Send { served, refresh } => {
                if refresh {
                    let errand = self.errand(&packet, client, Purpose::Refresh);
                    self.refreshes.spawn(async move { drop(errand.run().await) });
                }
                Reply::Here(Some(out[..served.reply_bytes].to_vec()))
            }
            // A script's zone fits one message.
            Now::Stream { mut stream, .. } => {
                Reply::Here(stream.next_message().map(<[u8]>::to_vec))
            }
            Now::Later(_) => {
                let errand = self.errand(&packet, client, Purpose::Reply);
                let run = async move { errand.run().await.map(|done| done.reply) };
                Reply::Later(tokio::spawn(run))
            }
        };
        self.waiting.push_back(Waiting { packet, reply });
        Ok(())
    }

    fn errand(&self, packet: &Packet, client: Client, purpose: Purpose) -> Errand {
        let (plan, port) = (self.plan.clone(), self.plan.ports[0].number);
        Errand::new(plan, port, packet.octets.clone(), client, Instant::now(), purpose)
    }

    async fn expect(&mut self, items: &[String]) -> Result<(), String> {
        if items == ["held"] {
            return self.expect_held().await;
        }
        let Waiting { packet, reply } = self.waiting.pop_front().ok_or("no query before")?;
        let reply = match reply {
            Reply::Here(reply) => reply,
            Reply::Later(task) => {
                self.await_or_bark(task, "no reply; does it wait for `time`?").await?.unwrap()
            }
        };
        let reply = match (reply, items == ["drop"]) {
            (None, true) => return Ok(()),
            (None, false) => return Err("nothing came back".into()),
            (Some(reply), true) => return Err(format!("got      {}", Shape::of(&reply)?)),
            (Some(reply), false) => reply,
        };
        let (expected, got) = (Shape::expected(items)?, Shape::of(&reply)?);
        if !expected.matches(&got) {
            return Err(format!("\nexpected {expected}\ngot      {got}"));
        }
        match packet.flaw(&reply) {
            Some(flaw) => Err(format!("{flaw} is not as it should be\ngot      {reply:02x?}")),
            None => Ok(()),
        }
    }

    /// Asks one question many times and counts the orders in which its records come.
    fn orders(&mut self, words: &[&str]) -> Result<(), String> {
        let (expected, question) = words.split_first().ok_or("not NUMBER OPTION… NAME TYPE")?;
        let mut orders = BTreeSet::new();
        for _ in 0..ORDERS_ASKED {
            self.query(Packet::read(question)?)?;
            match self.waiting.pop_back() {
                Some(Waiting { reply: Reply::Here(Some(reply)), .. }) => {
                    orders.insert(Shape::of(&reply)?.to_string());
                }
                _ => return Err("no reply at once".into()),
            }
        }
        let got = orders.len().to_string();
        if got == *expected { Ok(()) } else { Err(format!("orders {got}")) }
    }

    async fn expect_held(&mut self) -> Result<(), String> {
        settle().await;
        let first = self.waiting.front().ok_or("no query before")?;
        match &first.reply {
            Reply::Later(task) if !task.is_finished() => Ok(()),
            _ => Err("the reply has come".into()),
        }
    }

    async fn asked(&mut self, words: &[&str]) -> Result<(), String> {
        let (name, over, expected) = match *words {
            [number] => (None, None, number),
            [name, number] => (Some(name), None, number),
            [name, "tcp", number] => (Some(name), Some(Over::Tcp), number),
            [name, "udp", number] => (Some(name), Some(Over::Udp), number),
            _ => return Err("not [NAME [tcp|udp]] NUMBER".into()),
        };
        settle().await;
        let wanted =
            self.upstreams.iter().filter(|(other, _)| name.is_none_or(|name| name == *other));
        let got: usize = wanted.map(|(_, upstream)| upstream.count(over)).sum();
        if got.to_string() == expected { Ok(()) } else { Err(format!("asked {got}")) }
    }

    async fn refreshed(&mut self) -> Result<(), String> {
        let mut refreshes = std::mem::take(&mut self.refreshes);
        if refreshes.is_empty() {
            return Err("nothing is being refreshed".into());
        }
        let all = async move { while refreshes.join_next().await.is_some() {} };
        self.await_or_bark(all, "a refresh does not end").await
    }

    /// Waits while the clock stands.
    async fn await_or_bark<T>(
        &mut self,
        wait: impl Future<Output = T>,
        bark: &str,
    ) -> Result<T, String> {
        tokio::select! {
            biased;
            done = wait => Ok(done),
            _ = &mut self.watchdog => Err(bark.to_owned()),
        }
    }
}

/// Lets everything go on that does not wait for time.
async fn settle() {
    for _ in 0..TURNS {
        yield_now().await;
    }
}

/// `+6s` or `+1500ms`.
async fn move_clock(text: &str) -> Result<(), String> {
    let number = text.strip_prefix('+').ok_or("not +6s or +100ms")?;
    let unit = number.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let count: u64 = number[..number.len() - unit.len()].parse().map_err(|_| "no number")?;
    let total = match unit {
        "ms" => Duration::from_millis(count),
        "s" => Duration::from_secs(count),
        _ => return Err(format!("not a unit: {unit}")),
    };
    let step = STEP.max(total / STEPS_MAX);
    let end = Instant::now() + total;
    settle().await;
    while Instant::now() < end {
        advance(step.min(end - Instant::now())).await;
        settle().await;
    }
    Ok(())
}

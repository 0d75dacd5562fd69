//! A Plan like that of kubeadm's Corefile over a made-up cluster, without Corefile and Kubernetes.
#![allow(dead_code, reason = "each test uses what it needs")]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mainstay::cluster::config::{Config, Fallthrough, Pods, Scope, Snapshot, Source};
use mainstay::cluster::index::Index;
use mainstay::cluster::object::{
    Change, Endpoint, Kind, Object, ObjectKey, Part, Port as ServicePort, Protocol, Role, Service,
    Slice,
};
use mainstay::cluster::published::Published;
use mainstay::resolve::cache::Cache;
use mainstay::resolve::config::{CacheConfig, Prefetch, TransferConfig};
use mainstay::resolve::kubernetes::Kubernetes;
use mainstay::resolve::plan::{Block, Plan, Port, Zoned};
use mainstay::resolve::step::{Forwarding, Step};
use mainstay::resolve::tally::Tally;
use mainstay::resolve::transfer::{Shared, Transfer};
use mainstay::wire::{Answer, Name, Query, Question, RecordType, message};

/// The listen port of the Plan.
pub const PORT: u16 = 53;
/// Ready endpoints of each headless Service.
pub const ENDPOINTS: usize = 5;
/// Entries that the cache has room for: more than any bench asks for.
const CACHED_MAX: u64 = 200_000;
/// Counters of workers.
const WORKERS: usize = 4;
/// Namespaces beside `shop`.
const NAMESPACES: usize = 16;

/// A Plan with what its tests put into it.
pub struct Fixture {
    pub plan: Arc<Plan>,
    pub cache: Arc<Cache>,
}

/// A cluster with `web` and `db` in `shop`, and `count` Services `s<n>` and `h<n>` in `n<n % 16>`;
/// `forwarding` is asked for all other names.
pub fn fixture(count: usize, forwarding: Option<Forwarding>) -> Fixture {
    fixture_with(count, forwarding, None)
}

/// The same, and everybody may have its zone as a whole.
pub fn fixture_to_all(
    count: usize,
    forwarding: Option<Forwarding>,
    shared: &Arc<Shared>,
) -> Fixture {
    fixture_with(count, forwarding, Some(shared))
}

fn fixture_with(
    count: usize,
    forwarding: Option<Forwarding>,
    shared: Option<&Arc<Shared>>,
) -> Fixture {
    let zones = ["cluster.local", "in-addr.arpa"].map(name).to_vec();
    let config = Config {
        fallthrough: Fallthrough::Zones(vec![zones[1].clone()]),
        zones,
        source: Source::Embedded(&[]),
        multicluster: Vec::new(),
        scope: Scope::default(),
        pods: Pods::Insecure,
        ttl_s: 30,
        ignores_empty: false,
        snapshot: Snapshot::Off,
    };
    let published = Arc::new(Published::new());
    let kubernetes = || Kubernetes::new(&config, Vec::new().into(), published.clone());
    let transfers = shared.map(|shared| transfer(kubernetes(), shared)).into_iter().collect();
    publish(count, &published);
    let kubernetes = kubernetes();
    let prefetch = Prefetch { amount: 1, window: Duration::from_secs(60), percentage: 90 };
    let mut config = CacheConfig { prefetch: Some(prefetch), ..CacheConfig::default() };
    config.success.capacity = CACHED_MAX;
    let cache = Arc::new(Cache::new(config, vec![Name::root()]));
    let mut steps = vec![Step::Kubernetes(kubernetes), Step::Cache(cache.clone())];
    steps.extend(forwarding.map(Step::Forward));
    let block = Block { steps, transfers, turns_addresses: true, errors: None, is_published: true };
    let tally = |zone: &str| Arc::new(Tally::new("dns://:53".into(), zone.into(), WORKERS));
    let zoned = Zoned { zone: Name::root(), block: Arc::new(block), tally: tally(".") };
    let port = Port::new(PORT, vec![zoned], tally("dropped"));
    Fixture { plan: Arc::new(Plan { ports: vec![port] }), cache }
}

/// Lets everybody have `cluster.local`.
fn transfer(kubernetes: Kubernetes, shared: &Arc<Shared>) -> Arc<Transfer> {
    let zones = vec![Name::root()];
    let config = TransferConfig { zones, to_anybody: true, to: Vec::new(), source: None };
    let apexes = vec![name("cluster.local")];
    let transfer = Transfer::new(config, apexes, kubernetes, shared.clone());
    transfer.begin();
    Arc::new(transfer)
}

/// A request in the client's spelling.
pub fn request(name: &str, rtype: RecordType, payload_bytes: Option<u16>) -> Vec<u8> {
    message::question(name, rtype, payload_bytes)
}

impl Fixture {
    /// Keeps one address for the question of this request.
    pub fn keep(&self, request: &[u8], address: [u8; 4], now: Instant) {
        let query = Query::parse(request).expect("a right request");
        let mut response = request[..12 + query.question().len()].to_vec();
        response[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        response.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4]);
        response.extend(address);
        let answer = Answer::from_response(&response, query.question()).expect("a right response");
        let question = Question::of(&query);
        self.cache.store(&question, &answer, now).expect("it may be kept");
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a constant of this file")
}

/// Publishes the Zone of the cluster.
fn publish(count: usize, published: &Published) {
    let mut index = Index::after(&published.zone(), &Scope::default());
    Kind::ALL.iter().for_each(|kind| index.take(Change::ListBegin(*kind)));
    objects(count).for_each(|object| index.take(Change::Apply(object)));
    Kind::ALL.iter().for_each(|kind| index.take(Change::ListEnd(*kind)));
    published.store(index.publish(1).expect("every kind is known"));
}

fn objects(count: usize) -> impl Iterator<Item = Object> {
    let namespaces = (0..NAMESPACES).map(|n| format!("n{n}")).chain(["shop".to_owned()]);
    let namespaces = namespaces.map(|name| Object::Namespace(name.into()));
    let named = [
        service("shop", "web", Role::ClusterIp(vec![[10, 96, 0, 1].into()])),
        service("shop", "db", Role::Headless),
        slice("shop", "db", [10, 0, 0, 0], true),
        service("shop", "ext", Role::ExternalName("www.example.org".into())),
        service("shop", "big", Role::Headless),
    ];
    let big = (0..100u8).map(|n| slice_named(&format!("big-{n}"), "big", [10, 7, n, 0]));
    namespaces.chain(named).chain(big).chain((0..count).flat_map(numbered))
}

/// A Service with a cluster IP, and a headless one with its slice.
fn numbered(n: usize) -> [Object; 3] {
    let namespace = format!("n{}", n % NAMESPACES);
    let base = (n as u32 * 8).to_be_bytes();
    let address = |first: u8| [first | base[0], base[1], base[2], base[3]];
    [
        service(&namespace, &format!("s{n}"), Role::ClusterIp(vec![address(0x60).into()])),
        service(&namespace, &format!("h{n}"), Role::Headless),
        slice(&namespace, &format!("h{n}"), address(0x70), false),
    ]
}

fn service(namespace: &str, name: &str, role: Role) -> Object {
    let key = ObjectKey { namespace: namespace.into(), name: name.into() };
    let externals = Box::default();
    Object::Service(Service { key, role, ports: vec![port()], has_selector: true, externals })
}

/// The endpoints of a Service: the addresses that follow `base`, with hostnames or without.
fn slice(namespace: &str, service: &str, base: [u8; 4], has_hostnames: bool) -> Object {
    let endpoint = |n: usize| Endpoint {
        addresses: vec![IpAddr::V4(Ipv4Addr::from(u32::from_be_bytes(base) + n as u32))],
        ready: true,
        hostname: has_hostnames.then(|| format!("{service}-{n}").into()),
        zone: None,
    };
    let endpoints = (1..=ENDPOINTS).map(endpoint).collect();
    Object::Slice(Slice {
        key: ObjectKey { namespace: namespace.into(), name: format!("{service}-1").into() },
        service: Some(service.into()),
        import: None,
        parts: [Part { endpoints, ports: [port()].into() }].into(),
        triggered_ms: None,
    })
}

fn slice_named(slice_name: &str, owner: &str, base: [u8; 4]) -> Object {
    let Object::Slice(mut object) = slice("shop", owner, base, false) else { unreachable!() };
    object.key.name = slice_name.into();
    Object::Slice(object)
}

fn port() -> ServicePort {
    ServicePort { name: "http".into(), protocol: Protocol::Tcp, number: 80 }
}

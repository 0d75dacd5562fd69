//! What each request for a zone gets, on each transport, without a socket.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RData;
use mainstay::cluster::config::{Config, Fallthrough, Pods, Scope, Source};
use mainstay::cluster::index::Index;
use mainstay::cluster::object::{Change, Object, ObjectKey, Role, Service};
use mainstay::cluster::published::{COPY_INTERVAL, Published};
use mainstay::cluster::zone::Zone;
use mainstay::resolve::config::TransferConfig;
use mainstay::resolve::kubernetes::Kubernetes;
use mainstay::resolve::now::{Client, Now, answer_now};
use mainstay::resolve::plan::{Block, Port, Zoned};
use mainstay::resolve::step::Desk;
use mainstay::resolve::tally::{Proto, Tally};
use mainstay::resolve::transfer::{
    MESSAGE_MAX, PER_PEER_MAX, Shared, Stream, TRANSFERS_MAX, Transfer,
};
use mainstay::wire::{Name, RecordType, TCP_MAX, message};

const APEX: &str = "cluster.local.";
const PEER: [u8; 4] = [192, 0, 2, 1];
const STRANGER: [u8; 4] = [192, 0, 2, 9];

/// A server of one zone, and the Index behind it.
struct World {
    index: Index,
    published: Arc<Published>,
    port: Port,
    shared: Arc<Shared>,
    /// When requests come.
    now: Instant,
}

/// What a request got.
struct Got {
    messages: Vec<Message>,
    longest: usize,
}

impl World {
    fn new(to_anybody: bool) -> Self {
        let apex = Name::parse(APEX).unwrap();
        let config = Config {
            zones: vec![apex.clone()],
            multicluster: Vec::new(),
            source: Source::Embedded(&[]),
            scope: Scope::default(),
            pods: Pods::Disabled,
            ttl_s: 5,
            fallthrough: Fallthrough::Never,
            ignores_empty: false,
            snapshot: Default::default(),
        };
        let published = Arc::new(Published::new());
        let kubernetes = Kubernetes::new(&config, Vec::new().into(), published.clone());
        let to = vec![SocketAddr::new(PEER.into(), 53)];
        let config = TransferConfig { zones: vec![Name::root()], to_anybody, to, source: None };
        let shared = Arc::new(Shared::new());
        let transfer = Transfer::new(config, vec![apex], kubernetes, shared.clone());
        transfer.begin();
        let block = Block {
            steps: Vec::new(),
            transfers: vec![Arc::new(transfer)],
            turns_addresses: false,
            errors: None,
            is_published: false,
        };
        let tally = || Arc::new(Tally::new("dns://:53".into(), ".".into(), 1));
        let zoned = Zoned { zone: Name::root(), block: Arc::new(block), tally: tally() };
        let index = Index::after(&Zone::unsynced(), &Scope::default());
        let (port, now) = (Port::new(53, vec![zoned], tally()), Instant::now());
        Self { index, published, port, shared, now }
    }

    /// Lists a cluster of so many Services.
    fn with_services(mut self, count: u16) -> Self {
        let kinds: Vec<_> = Scope::default().kinds().collect();
        kinds.iter().for_each(|kind| self.index.take(Change::ListBegin(*kind)));
        self.index.take(Change::Apply(Object::Namespace("shop".into())));
        (0..count).for_each(|n| self.index.take(service(n, 1)));
        kinds.iter().for_each(|kind| self.index.take(Change::ListEnd(*kind)));
        self.publish(7);
        self
    }

    fn publish(&mut self, now_unix_s: u32) {
        self.published.store(self.index.publish(now_unix_s).unwrap());
    }

    fn change(&mut self, change: Change, now_unix_s: u32) {
        self.index.take(change);
        self.publish(now_unix_s);
        self.now += COPY_INTERVAL;
    }

    fn ask(&self, request: &[u8], proto: Proto, from: [u8; 4]) -> Result<Message, Box<Stream>> {
        let client = Client { proto, address: IpAddr::from(from) };
        let mut out = vec![0; TCP_MAX];
        let mut desk = Desk::small();
        match answer_now(&self.port, request, client, self.now, &mut desk, &mut out) {
            Now::Send { served, .. } => Ok(Message::from_vec(&out[..served.reply_bytes]).unwrap()),
            Now::Stream { stream, .. } => Err(stream),
            Now::Later(_) | Now::Ignore => panic!("a transfer is answered at once"),
        }
    }

    fn transfer(&self, request: &[u8], from: [u8; 4]) -> Got {
        let mut stream = match self.ask(request, Proto::Tcp, from) {
            Ok(message) => return Got { messages: vec![message], longest: 0 },
            Err(stream) => stream,
        };
        let (mut messages, mut longest) = (Vec::new(), 0);
        while let Some(octets) = stream.next_message() {
            longest = longest.max(octets.len());
            messages.push(Message::from_vec(octets).unwrap());
        }
        Got { messages, longest }
    }

    fn refused(&self, reason: &str) -> u64 {
        self.shared.counters.refused().find(|(name, _)| *name == reason).unwrap().1
    }
}

impl Got {
    /// Types of all records, each run of a type once.
    fn shape(&self) -> Vec<String> {
        let records = self.messages.iter().flat_map(|message| &message.answers);
        let mut shape: Vec<String> = records.map(|it| it.record_type().to_string()).collect();
        shape.dedup();
        shape
    }

    fn serials(&self) -> Vec<u32> {
        let records = self.messages.iter().flat_map(|message| &message.answers);
        records
            .filter_map(|record| match &record.data {
                RData::SOA(soa) => Some(soa.serial),
                _ => None,
            })
            .collect()
    }
}

fn service(n: u16, last: u8) -> Change {
    let [high, low] = n.to_be_bytes();
    Change::Apply(Object::Service(Service {
        key: ObjectKey { namespace: "shop".into(), name: format!("web-{n}").into() },
        role: Role::ClusterIp(vec![[10, high, low, last].into()]),
        ports: Vec::new(),
        externals: Default::default(),
        has_selector: true,
    }))
}

fn axfr(name: &str) -> Vec<u8> {
    message::question(name, RecordType::AXFR, None)
}

/// A request of somebody who has the zone with this serial.
fn ixfr(serial: u32) -> Vec<u8> {
    let mut packet = message::question(APEX, RecordType::IXFR, None);
    packet[9] = 1;
    packet.extend(b"\xc0\x0c\x00\x06\x00\x01\x00\x00\x00\x00\x00\x18\xc0\x0c\xc0\x0c");
    packet.extend(serial.to_be_bytes());
    packet.extend([0; 16]);
    packet
}

fn code(answer: Result<Message, Box<Stream>>) -> ResponseCode {
    answer.ok().expect("nothing is transferred").metadata.response_code
}

#[test]
fn a_large_zone_comes_in_whole_messages() {
    let world = World::new(false).with_services(2_000);
    let got = world.transfer(&axfr("Cluster.LOCAL."), PEER);
    assert_eq!(got.shape(), ["SOA", "NS", "TXT", "A", "SOA"]);
    let count: usize = got.messages.iter().map(|message| message.answers.len()).sum();
    assert_eq!(count, 2_000 + 4);
    assert!(got.messages.len() > 3 && got.longest <= MESSAGE_MAX, "{}", got.longest);
    assert!(got.longest > MESSAGE_MAX - 700, "messages are full");
    for message in &got.messages {
        assert!(message.metadata.authoritative && !message.metadata.truncation);
        assert_eq!(message.queries[0].name().to_string(), "Cluster.LOCAL.");
    }
    assert_eq!(world.shared.under_way(), 0);
    let cut = world.shared.counters.cut.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(cut, 0, "it came to its end");
}

#[test]
fn a_secondary_gets_what_changed_since_it_was_there() {
    let mut world = World::new(false).with_services(50);
    assert_eq!(world.transfer(&axfr(APEX), PEER).serials(), [7, 7]);
    world.change(service(3, 2), 8);
    world.change(service(50, 1), 9);
    let got = world.transfer(&ixfr(7), PEER);
    assert_eq!(got.serials(), [9, 7, 9, 9], "two versions in one");
    let count: usize = got.messages.iter().map(|message| message.answers.len()).sum();
    assert_eq!(count, 4 + 1 + 2);
    assert_eq!(world.transfer(&ixfr(9), PEER).serials(), [9], "nothing is newer");
    assert_eq!(world.transfer(&ixfr(10), PEER).serials(), [9], "we are older");
    assert_eq!(world.transfer(&ixfr(8), PEER).serials(), [9, 9], "nobody got that one");
}

#[test]
fn who_comes_within_a_second_gets_what_others_got_and_the_rest_later() {
    let mut world = World::new(true).with_services(5);
    world.transfer(&axfr(APEX), PEER);
    let begin = world.now;
    world.change(service(3, 2), 8);
    world.now = begin + COPY_INTERVAL / 2;
    assert_eq!(world.transfer(&axfr(APEX), STRANGER).serials(), [7, 7]);
    assert_eq!(world.transfer(&ixfr(7), PEER).serials(), [7], "nothing else is handed out yet");
    world.now = begin + COPY_INTERVAL;
    assert_eq!(world.transfer(&ixfr(7), PEER).serials(), [8, 7, 8, 8]);
    assert_eq!(world.transfer(&ixfr(7), STRANGER).serials(), [8, 7, 8, 8]);
}

#[test]
fn who_has_it_from_another_replica_gets_the_whole_zone() {
    let mut world = World::new(true).with_services(5);
    world.transfer(&axfr(APEX), PEER);
    world.change(service(3, 2), 8);
    assert_eq!(world.transfer(&ixfr(7), STRANGER).serials(), [8, 8]);
    assert_eq!(world.transfer(&ixfr(7), PEER).serials(), [8, 7, 8, 8]);
}

#[test]
fn serials_are_compared_over_the_end_of_their_numbers() {
    let mut world = World::new(false).with_services(5);
    world.change(service(3, 2), 1 << 30);
    world.change(service(3, 3), (1 << 31) + 5);
    world.change(service(3, 4), u32::MAX);
    world.transfer(&axfr(APEX), PEER);
    // The clock has gone round; the serial goes on.
    world.change(service(3, 5), 3);
    assert_eq!(world.transfer(&ixfr(u32::MAX), PEER).serials(), [3, u32::MAX, 3, 3]);
    assert_eq!(world.transfer(&ixfr(4), PEER).serials(), [3]);
}

#[test]
fn who_may_not_have_it_is_told_so_and_counted() {
    let world = World::new(false).with_services(5);
    let (tcp, udp) = (Proto::Tcp, Proto::Udp);
    for (request, proto, from, rcode, reason) in [
        (axfr(APEX), tcp, STRANGER, ResponseCode::Refused, "peer"),
        (ixfr(7), tcp, STRANGER, ResponseCode::Refused, "peer"),
        (ixfr(7), udp, STRANGER, ResponseCode::Refused, "peer"),
        (axfr(APEX), udp, PEER, ResponseCode::Refused, "udp"),
        (axfr("svc.cluster.local."), tcp, PEER, ResponseCode::NotAuth, "zone"),
        (axfr("."), tcp, PEER, ResponseCode::NotAuth, "zone"),
        (
            message::question(APEX, RecordType::IXFR, None),
            tcp,
            PEER,
            ResponseCode::FormErr,
            "malformed",
        ),
    ] {
        let before = world.refused(reason);
        assert_eq!(code(world.ask(&request, proto, from)), rcode, "{reason}");
        assert_eq!(world.refused(reason), before + 1, "{reason}");
    }
}

#[test]
fn over_udp_there_is_one_soa() {
    let world = World::new(false).with_services(5);
    let answer = world.ask(&ixfr(1), Proto::Udp, PEER).ok().unwrap();
    assert!(answer.metadata.authoritative);
    assert_eq!(Got { messages: vec![answer], longest: 0 }.serials(), [7]);
}

#[test]
fn a_cluster_that_is_not_known_is_not_transferred() {
    let world = World::new(true);
    assert_eq!(code(world.ask(&axfr(APEX), Proto::Tcp, PEER)), ResponseCode::ServFail);
    assert_eq!(world.refused("not_ready"), 1);
}

#[test]
fn transfers_under_way_are_bounded_and_keep_their_zone() {
    let mut world = World::new(true).with_services(5);
    let begin = |world: &World, peer| world.ask(&axfr(APEX), Proto::Tcp, peer).err();
    let peers = |n: usize| [192, 0, 2, 1 + (n / PER_PEER_MAX) as u8];
    let mut streams = Vec::new();
    for n in 0..TRANSFERS_MAX {
        assert!(n % PER_PEER_MAX > 0 || n == 0 || begin(&world, peers(n - 1)).is_none(), "{n}");
        streams.push(begin(&world, peers(n)).expect("others have a place"));
    }
    let refused = world.refused("busy");
    assert_eq!(refused as usize, TRANSFERS_MAX / PER_PEER_MAX - 1, "one too many of one peer");
    assert_eq!(code(world.ask(&axfr(APEX), Proto::Tcp, [192, 0, 2, 99])), ResponseCode::Refused);
    assert_eq!((world.refused("busy"), world.shared.under_way()), (refused + 1, TRANSFERS_MAX));
    world.change(service(3, 2), 8);
    let first = streams[0].next_message().map(|octets| Message::from_vec(octets).unwrap());
    assert_eq!(Got { messages: first.into_iter().collect(), longest: 0 }.serials(), [7, 7]);
    drop(streams);
    let cut = world.shared.counters.cut.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(cut, TRANSFERS_MAX as u64, "none of them came to its end");
    assert!(begin(&world, PEER).is_some());
}

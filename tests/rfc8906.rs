//! The checks of RFC 8906 §8 (A Common Operational Problem in DNS Servers: Failure to Communicate),
//! and what RFC 6891 §7 says of OPT records that make no sense.
//!
//! The real `mainstay` is asked by the real `dig`, over UDP and TCP, about the zone of a cluster
//! and about one that it forwards: there about a name that nobody asked for before, and then again,
//! for the second answer is a cached one.

#[path = "support/asker.rs"]
#[allow(dead_code)] // Only what waits.
mod asker;
#[path = "support/packets.rs"]
mod packets;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/process.rs"]
#[allow(dead_code)]
mod process;
#[path = "support/server.rs"]
#[allow(dead_code)]
mod server;
#[path = "support/skip.rs"]
mod skip;
#[path = "support/upstream.rs"]
mod upstream;

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use packets::{Packet, Section, option};
use server::{Ports, Server};
use skip::skip;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use upstream::{Act, Asked, LoopbackUpstream};

/// Names at most that one check is made with, where a busy machine makes the upstream late.
const TRIES: usize = 5;
/// What takes less has made nobody ask an upstream again (`HEDGE_MIN`).
const ASKED_AGAIN: Duration = Duration::from_millis(20);
/// Checks of RFC 8906: section, words of `dig` with ZONE, and the expected reply. AUTH stands for
/// the flag of whoever knows the zone: `aa` where we do, `ra` where the upstream recurses.
const CHECKS: [(&str, &str, &str); 19] = [
    // Basic DNS.
    ("8.1.1", "+noedns +noad +norec soa ZONE", "QUERY NOERROR qr AUTH, SOA"),
    ("8.1.2", "+noedns +noad +norec type1000 ZONE", "QUERY NOERROR qr AUTH"),
    ("8.1.3.1", "+noedns +noad +norec +cd soa ZONE", "QUERY NOERROR qr AUTH cd, SOA"),
    ("8.1.3.2", "+noedns +norec +ad soa ZONE", "QUERY NOERROR qr AUTH, SOA"),
    ("8.1.3.3", "+noedns +noad +norec +zflag soa ZONE", "QUERY NOERROR qr AUTH, SOA"),
    ("8.1.3.4", "+noedns +noad +rec soa ZONE", "QUERY NOERROR qr RD AUTH, SOA"),
    ("8.1.4", "+noedns +noad +opcode=15 +norec +header-only", "RESERVED15 NOTIMP qr"),
    ("8.1.4", "+noedns +noad +opcode=15 +norec soa ZONE", "RESERVED15 NOTIMP qr"),
    ("8.1.5", "+noedns +noad +norec +tcp soa ZONE", "QUERY NOERROR qr AUTH, SOA"),
    // EDNS.
    ("8.2.1", "+edns=0 +noad +norec soa ZONE", "QUERY NOERROR qr AUTH, SOA, EDNS 0"),
    ("8.2.2", "+edns=1 +noednsneg +noad +norec soa ZONE", "QUERY BADVERS qr, EDNS 0"),
    ("8.2.3", "+edns=0 +noad +norec +ednsopt=100 soa ZONE", "QUERY NOERROR qr AUTH, SOA, EDNS 0"),
    (
        "8.2.4",
        "+edns=0 +noad +norec +ednsflags=0x40 soa ZONE",
        "QUERY NOERROR qr AUTH, SOA, EDNS 0",
    ),
    (
        "8.2.5",
        "+edns=1 +noednsneg +noad +norec +ednsflags=0x40 soa ZONE",
        "QUERY BADVERS qr, EDNS 0",
    ),
    ("8.2.6", "+edns=1 +noednsneg +noad +norec +ednsopt=100 soa ZONE", "QUERY BADVERS qr, EDNS 0"),
    (
        "8.2.7",
        "+norec +dnssec +bufsize=512 +ignore dnskey ZONE",
        "QUERY NOERROR qr AUTH, EDNS 0 do",
    ),
    ("8.2.8", "+edns=0 +noad +norec +dnssec soa ZONE", "QUERY NOERROR qr AUTH, SOA, EDNS 0 do"),
    ("8.2.9", "+edns=1 +noednsneg +noad +norec +dnssec soa ZONE", "QUERY BADVERS qr, EDNS 0 do"),
    (
        "8.2.10",
        "+edns=0 +noad +norec +cookie +nsid +expire +subnet=0.0.0.0/0 soa ZONE",
        "QUERY NOERROR qr AUTH, SOA, EDNS 0",
    ),
];

/// What else must not disturb: flags of responses in requests, other opcodes, each option alone.
const MORE: [(&str, &str); 12] = [
    ("+noedns +noad +rec +tcflag soa ZONE", "QUERY NOERROR qr RD AUTH, SOA"),
    ("+noedns +noad +rec +aaflag soa ZONE", "QUERY NOERROR qr RD AUTH, SOA"),
    ("+noedns +noad +rec +raflag soa ZONE", "QUERY NOERROR qr RD AUTH, SOA"),
    ("+noedns +noad +norec +opcode=status soa ZONE", "STATUS NOTIMP qr"),
    ("+noedns +noad +norec +opcode=notify soa ZONE", "NOTIFY NOTIMP qr"),
    ("+noedns +noad +norec +opcode=update soa ZONE", "UPDATE NOTIMP qr"),
    ("+noad +norec +cookie=0102030405060708 soa ZONE", "QUERY NOERROR qr AUTH, SOA, EDNS 0"),
    ("+noad +norec +nsid soa ZONE", "QUERY NOERROR qr AUTH, SOA, EDNS 0"),
    ("+noad +norec +subnet=192.0.2.0/24 soa ZONE", "QUERY NOERROR qr AUTH, SOA, EDNS 0"),
    ("+noad +norec +keepalive soa ZONE", "QUERY NOERROR qr AUTH, SOA, EDNS 0"),
    ("+noad +norec +padding=64 soa ZONE", "QUERY NOERROR qr AUTH, SOA, EDNS 0"),
    (
        "+noad +norec +ednsopt=65535:00ff +ednsflags=0x7fff soa ZONE",
        "QUERY NOERROR qr AUTH, SOA, EDNS 0",
    ),
];

/// The zones, and who knows them.
const ZONES: [(&str, &str); 2] = [("cluster.local.", "aa"), ("example.org.", "ra")];
/// Addresses of the name `many` in each zone: more than 512 octets, less than 1 232.
const MANY: usize = 60;
/// Longest time for a reply.
const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn every_check_of_the_rfc_is_passed_over_udp_and_tcp() {
    let Some(asked) = Subject::new() else { return };
    for (section, words, expected) in CHECKS {
        asked.check(section, words, expected);
    }
}

#[test]
fn flags_opcodes_and_options_that_mean_nothing_here_do_not_disturb() {
    let Some(asked) = Subject::new() else { return };
    for (words, expected) in MORE {
        asked.check("more", words, expected);
    }
}

#[test]
fn a_truncated_reply_keeps_its_opt_record() {
    let Some(asked) = Subject::new() else { return };
    for (name, flags) in [("many.shop.svc.cluster.local.", "aa tc"), ("many.example.org.", "tc ra")]
    {
        let words = format!("+norec +noad +dnssec +bufsize=512 +ignore a {name}");
        let cut = asked.ask(&words, "+notcp");
        assert!(cut.starts_with(&format!("QUERY NOERROR qr {flags}, A, A")), "{cut}");
        assert!(cut.ends_with(", A, EDNS 0 do"), "{cut}");
        let flags = flags.replace("tc", "");
        let whole = format!("QUERY NOERROR qr {}{}, EDNS 0 do", flags.trim(), ", A".repeat(MANY));
        assert_eq!(asked.ask(&words, "+tcp"), whole);
    }
}

/// RFC 6891 §7: the requestor must be able to tell a server that does not know EDNS, which sends
/// FORMERR without OPT, from one that did not understand this OPT.
#[test]
fn an_opt_record_that_makes_no_sense_is_a_format_error_with_opt() {
    let Some(asked) = Subject::new() else { return };
    let soa = |zone: &str| Packet::query(zone, packets::rtype::SOA);
    let half = option(10, &[7; 8])[..6].to_vec();
    for (zone, _) in ZONES {
        for (what, packet) in [
            ("half an option", soa(zone).opt(1232, 0, &half)),
            ("half the head of an option", soa(zone).opt(1232, 0, &[0, 10, 0])),
            ("two OPT records", soa(zone).opt(1232, 0, b"").opt(1232, 0, b"")),
            ("OPT of a name", {
                let name = packets::wire("a");
                soa(zone).classed(Section::Additional, &name, (packets::rtype::OPT, 1232), 0, b"")
            }),
        ] {
            for reply in asked.exchange(&packet.0) {
                let message = Message::from_vec(&reply).unwrap();
                assert_eq!(u16::from(message.metadata.response_code), 1, "{what}: {message:?}");
                assert!(message.edns.is_some(), "{what}: {message:?}");
                assert_eq!(message.queries.len(), 1, "{what}: {message:?}");
            }
        }
    }
}

/// What is cut off in the middle has no OPT to answer; it is a format error all the same.
#[test]
fn a_packet_that_ends_too_early_is_a_format_error() {
    let Some(asked) = Subject::new() else { return };
    let whole =
        Packet::query("cluster.local", packets::rtype::SOA).opt(1232, 0, &option(10, &[7; 8]));
    for end in 12..whole.len() {
        for reply in asked.exchange(&whole.0[..end]) {
            assert_eq!((reply[2] & 0x80, reply[3] & 0x0F), (0x80, 1), "cut at {end}: {reply:?}");
        }
    }
}

/// What came of a question that was asked twice.
#[derive(Debug)]
struct Seen {
    /// How often the upstream was asked at each of both times.
    forwarded: [usize; 2],
    first_took: Duration,
}

/// A server with a cluster and an upstream.
struct Subject {
    live: Server,
    upstream: LoopbackUpstream,
    /// Names that were made, see [`Subject::fresh`].
    made: Cell<usize>,
    _folder: TempDir,
    _runtime: Runtime,
}

impl Subject {
    /// Starts it; `None` where `dig` is missing.
    fn new() -> Option<Self> {
        if Command::new("dig").arg("-v").output().is_err() {
            skip("no dig; install bind9-dnsutils");
            return None;
        }
        let folder = TempDir::new().unwrap();
        let manifest = folder.path().join("cluster.json");
        std::fs::write(&manifest, cluster().to_string()).unwrap();
        let runtime = Runtime::new().unwrap();
        let upstream = runtime.block_on(LoopbackUpstream::scripted(answer));
        let ports = Ports::free();
        let source = format!("manifests {}", manifest.display());
        let corefile = ports.kubeadm(&source, &upstream.address.to_string());
        let live = Server::start("mainstay", ports, &corefile);
        asker::eventually(|| match live.ready() {
            200 => Ok(()),
            status => Err(format!("/ready is {status}")),
        });
        Some(Self { live, upstream, made: Cell::new(0), _folder: folder, _runtime: runtime })
    }

    /// Asks about both zones over both transports, twice, and compares. The upstream must be asked
    /// the first time, where its answer is expected at all, and only then.
    fn check(&self, section: &str, words: &str, expected: &str) {
        for (zone, by) in ZONES {
            // `dig` shows `rd` behind `aa` and before `ra`.
            let flags = if by == "aa" { "aa rd" } else { "rd ra" };
            let shown = expected.replace("RD AUTH", flags).replace("AUTH", by);
            let is_forwarded = by == "ra" && expected.contains("AUTH");
            for transport in ["+notcp", "+tcp"] {
                let is_proven = (0..TRIES).any(|_| {
                    let name = if by == "ra" { self.fresh(zone) } else { zone.to_owned() };
                    let words = words.replace("ZONE", &name);
                    let what = format!("§{section}: dig {transport} {words}");
                    let seen = self.ask_twice(&what, (&words, transport), &name, &shown);
                    let wanted = [usize::from(is_forwarded), 0];
                    // The upstream is asked again where it was late, which is no fault of ours.
                    let is_late = is_forwarded && seen.first_took >= ASKED_AGAIN;
                    assert!(
                        seen.forwarded == wanted || is_late,
                        "{what}: {seen:?}, not {wanted:?}"
                    );
                    seen.forwarded == wanted
                });
                assert!(is_proven, "§{section}: {words}: the upstream is late each time");
            }
        }
    }

    /// Asks twice, and checks the replies.
    fn ask_twice(&self, what: &str, dig: (&str, &str), name: &str, shown: &str) -> Seen {
        let mut first_took = None;
        let forwarded = [(); 2].map(|()| {
            let (before, begun) = (self.forwarded(name), Instant::now());
            assert_eq!(self.ask(dig.0, dig.1), shown, "{what}");
            first_took.get_or_insert(begun.elapsed());
            self.forwarded(name) - before
        });
        Seen { forwarded, first_took: first_took.unwrap_or_default() }
    }

    /// A name in a forwarded zone that is in no cache.
    fn fresh(&self, zone: &str) -> String {
        self.made.set(self.made.get() + 1);
        format!("check-{}.{zone}", self.made.get())
    }

    /// How often the upstream was asked about a name.
    fn forwarded(&self, name: &str) -> usize {
        let name = Name::from_ascii(name).unwrap();
        let is_about =
            |asked: &Asked| Message::from_vec(&asked.packet).unwrap().queries[0].name() == &name;
        self.upstream.asked().iter().filter(|asked| is_about(asked)).count()
    }

    fn ask(&self, words: &str, transport: &str) -> String {
        let port = self.live.ports.dns.to_string();
        let mut command = Command::new("dig");
        command.args(["@127.0.0.1", "-p", &port, "+tries=1", "+time=10", "+nocookie", transport]);
        command.args(["+noall", "+comments", "+answer"]).args(words.split(' '));
        summary(&String::from_utf8(command.output().unwrap().stdout).unwrap())
    }

    /// Sends octets over UDP and TCP; both must be replied to.
    fn exchange(&self, packet: &[u8]) -> [Vec<u8>; 2] {
        let address = ("127.0.0.1", self.live.ports.dns);
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(packet, address).unwrap();
        let mut udp = vec![0; 1232];
        let len = socket.recv(&mut udp).unwrap_or_else(|error| panic!("{packet:?}: {error}"));
        udp.truncate(len);
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&[&(packet.len() as u16).to_be_bytes()[..], packet].concat()).unwrap();
        let mut len = [0; 2];
        stream.read_exact(&mut len).unwrap_or_else(|error| panic!("{packet:?}: {error}"));
        let mut tcp = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut tcp).unwrap();
        [udp, tcp]
    }
}

/// What `dig` shows, in a line: opcode, code, flags, then types of the answer, then EDNS with its
/// version, flags and options.
fn summary(output: &str) -> String {
    let (mut head, mut answer, mut edns) = (String::new(), String::new(), String::new());
    for line in output.lines() {
        if let Some(rest) = line.strip_prefix(";; ->>HEADER<<- opcode: ") {
            head = rest.split(", id:").next().unwrap().replace(", status:", "");
        } else if let Some(rest) = line.strip_prefix(";; flags:") {
            // What must be zero is shown behind the flags.
            head += rest.split("; QUERY").next().unwrap();
        } else if let Some(rest) = line.strip_prefix("; EDNS: version: ") {
            let shown = rest.split("; udp:").next().unwrap().replace(", flags:", "");
            edns = format!(", EDNS {}", shown.trim_end_matches(';'));
        } else if let Some(option) = line.strip_prefix("; ") {
            edns += &format!(", option {option}");
        } else if !line.is_empty() && !line.starts_with(';') {
            answer += ", ";
            answer += line.split_whitespace().nth(3).unwrap();
        }
    }
    head + &answer + &edns
}

/// A headless Service with many addresses.
fn cluster() -> serde_json::Value {
    let endpoints: Vec<_> = (1..=MANY)
        .map(|host| serde_json::json!({ "addresses": [format!("10.244.1.{host}")] }))
        .collect();
    serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": [
        { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } },
        {
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "name": "many", "namespace": "shop" },
            "spec": { "clusterIP": "None", "ports": [{ "port": 80 }] },
        },
        {
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "name": "many-1", "namespace": "shop",
                "labels": { "kubernetes.io/service-name": "many" },
            },
            "endpoints": endpoints, "ports": [{ "port": 80 }],
        },
    ] })
}

/// A recursive upstream: every name has a SOA and many addresses. All else is denied, with the SOA
/// that lets a cache keep that.
fn answer(asked: &Asked) -> Vec<Act> {
    let request = Message::from_vec(&asked.packet).unwrap();
    let question = request.queries[0].clone();
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.recursion_available = true;
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    let owner = || question.name().clone();
    let name = |text: &str| Name::from_ascii(text).unwrap();
    let soa = SOA::new(name("ns.example.org."), name("root.example.org."), 1, 2, 3, 4, 60);
    let soa = |owner: Name| Record::from_rdata(owner, 60, RData::SOA(soa));
    match question.query_type() {
        RecordType::SOA => _ = response.add_answer(soa(owner())),
        RecordType::A => {
            for host in 1..=MANY {
                let address = RData::A(A([192, 0, 2, host as u8].into()));
                response.add_answer(Record::from_rdata(owner(), 60, address));
            }
        }
        _ => _ = response.add_authority(soa(name("example.org."))),
    }
    response.add_query(question);
    if let Some(edns) = request.edns {
        response.set_edns(edns);
    }
    vec![Act::Send(response.to_vec().unwrap())]
}

//! Captures of every kind, made here; and what is left of them when they are broken.

use etherparse::PacketBuilder;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message as _;

use super::*;
use crate::load::tasks::{Class, Expect};
use crate::wire::{Name, RecordType};

const ETHERNET: u32 = 1;

/// A question of one name, as it is on the wire.
fn query(name: &str, rtype: RecordType) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(Name::parse(name).unwrap().octets());
    message.extend_from_slice(&rtype.0.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

fn a(name: &str) -> Vec<u8> {
    query(name, RecordType::A)
}

fn response(name: &str) -> Vec<u8> {
    let mut message = a(name);
    message[2] |= 0x80;
    message
}

/// A query with its length in front.
fn framed(name: &str) -> Vec<u8> {
    let message = a(name);
    [&(message.len() as u16).to_be_bytes()[..], &message].concat()
}

/// A datagram over IPv4, without a link layer.
fn datagram(port: u16, payload: &[u8]) -> Vec<u8> {
    written(PacketBuilder::ipv4([10, 0, 0, 1], [10, 96, 0, 10], 64).udp(40_000, port), payload)
}

fn datagram_v6(payload: &[u8]) -> Vec<u8> {
    written(PacketBuilder::ipv6([1; 16], [2; 16], 64).udp(40_000, 53), payload)
}

fn written(
    builder: etherparse::PacketBuilderStep<etherparse::UdpHeader>,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = Vec::new();
    builder.write(&mut packet, payload).unwrap();
    packet
}

fn segment_of(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ipv4([10, 0, 0, 1], [10, 96, 0, 10], 64).tcp(40_000, 53, 1, 4096);
    let mut packet = Vec::new();
    builder.write(&mut packet, payload).unwrap();
    packet
}

/// An Ethernet header, VLAN tags included, before a packet.
fn ethernet(types: &[u16], packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for (index, ether_type) in types.iter().enumerate() {
        // A tag follows each type but the last.
        frame.extend_from_slice(&ether_type.to_be_bytes());
        frame.extend_from_slice(if index + 1 < types.len() { &[0, 7] } else { &[] });
    }
    [frame, packet.to_vec()].concat()
}

fn over_ethernet(packet: &[u8]) -> Vec<u8> {
    ethernet(&[0x0800], packet)
}

/// A pcap file.
fn pcap(link: u32, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0];
    file.extend_from_slice(&link.to_le_bytes());
    for packet in packets {
        let length = (packet.len() as u32).to_le_bytes();
        file.extend_from_slice(&[[0; 4], [0; 4], length, length].concat());
        file.extend_from_slice(packet);
    }
    file
}

/// A block of a pcapng file.
fn block(kind: u32, body: &[u8], number: fn(u32) -> [u8; 4]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let length = number(padded as u32 + 12);
    let padding = vec![0; padded - body.len()];
    [&number(kind)[..], &length, body, &padding, &length].concat()
}

/// A pcapng file with an interface and a packet in each kind of block.
fn pcapng(packet: &[u8], number: fn(u32) -> [u8; 4], is_big: bool) -> Vec<u8> {
    let link: &[u8] = if is_big { &[0, 1, 0, 0] } else { &[1, 0, 0, 0] };
    let length = number(packet.len() as u32);
    let section = [&number(0x1a2b_3c4d)[..], &[0; 4], &[0xff; 8]].concat();
    // A comment that is no UTF-8 must not matter, nor a block that nobody knows.
    let padding = vec![0; packet.len().next_multiple_of(4) - packet.len()];
    let code = if is_big { [0, 1, 0, 2] } else { [1, 0, 2, 0] };
    let comment = [&code[..], &[0xff, 0xfe, 0, 0], &[0; 4]].concat();
    let enhanced = [&number(0)[..], &[0; 8], &length, &length, packet, &padding, &comment].concat();
    let old = [&[0; 4][..], &[0; 8], &length, &length, packet].concat();
    let simple = [&length[..], packet].concat();
    [
        block(0x0a0d_0d0a, &section, number),
        block(1, &[link, &[0; 4], &[0; 4]].concat(), number),
        block(77, b"what", number),
        block(6, &enhanced, number),
        block(2, &old, number),
        block(3, &simple, number),
    ]
    .concat()
}

/// A control frame of Frame Streams.
fn control(kind: u32, content: Option<&[u8]>) -> Vec<u8> {
    let mut body = kind.to_be_bytes().to_vec();
    if let Some(content) = content {
        body.extend_from_slice(&[[0, 0, 0, 1], (content.len() as u32).to_be_bytes()].concat());
        body.extend_from_slice(content);
    }
    [&[0; 4][..], &(body.len() as u32).to_be_bytes(), &body].concat()
}

/// A message of dnstap in its frame.
fn tapped(kind: i32, query: Option<Vec<u8>>) -> Vec<u8> {
    let message = Some(dnstap::Message { kind, query_message: query });
    let frame = dnstap::Dnstap { message, kind: 1 }.encode_to_vec();
    [&(frame.len() as u32).to_be_bytes()[..], &frame].concat()
}

const DNSTAP: Option<&[u8]> = Some(b"protobuf:dnstap.Dnstap");

fn dnstap_file() -> Vec<u8> {
    let start = control(2, DNSTAP);
    let frames =
        [tapped(5, Some(a("a.example"))), tapped(6, None), tapped(1, Some(a("b.example")))];
    [start, frames.concat(), tapped(7, Some(a("up.example"))), control(3, None)].concat()
}

fn captured(file: &[u8]) -> Captured {
    read_from("c.pcap", file).unwrap()
}

fn hosts(captured: &Captured) -> Vec<String> {
    captured.tasks.iter().map(|task| task.host.to_string()).collect()
}

fn refusal(file: &[u8]) -> String {
    match read_from("c.pcap", file) {
        Err(Trouble::Wrong(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// How many packets were skipped, by reason.
fn skipped(packets: &[Vec<u8>]) -> Vec<(Skip, u64)> {
    let mut packets = packets.to_vec();
    packets.push(over_ethernet(&datagram(53, &a("ok.example"))));
    let captured = captured(&pcap(ETHERNET, &packets));
    assert_eq!(captured.counts.queries, 1);
    captured.counts.skipped.into_iter().collect()
}

#[test]
fn queries_are_asked_again_as_they_were() {
    let file = pcap(
        ETHERNET,
        &[
            over_ethernet(&datagram(53, &query("Web.Shop.svc.cluster.local", RecordType::AAAA))),
            over_ethernet(&datagram(5353, &a("b.example"))),
            over_ethernet(&datagram(53, &a("b.example"))),
        ],
    );
    let captured = captured(&file);
    assert_eq!(hosts(&captured), ["web.shop.svc.cluster.local.", "b.example.", "b.example."]);
    let first = &captured.tasks[0];
    assert_eq!(
        (first.rtype, first.class, first.expect),
        (RecordType::AAAA, Class::Listed, Expect::Any)
    );
    assert!(Arc::ptr_eq(&captured.tasks[1], &captured.tasks[2]));
    assert_eq!(captured.counts.to_string(), "3 packets, 3 queries");
    assert_eq!(captured.warnings, [""; 0]);
}

#[test]
fn every_link_layer_is_read() {
    let (v4, v6) = (datagram(53, &a("four.example")), datagram_v6(&a("six.example")));
    let sll = |packet: &[u8]| [&[0; 14][..], &[8, 0], packet].concat();
    let sll2 = |packet: &[u8]| [&[0x86, 0xdd][..], &[0; 18], packet].concat();
    let null = |packet: &[u8]| [&[2, 0, 0, 0][..], packet].concat();
    for (link, packet) in [
        (1, over_ethernet(&v4)),
        (1, ethernet(&[0x86dd], &v6)),
        (1, ethernet(&[0x8100, 0x0800], &v4)),
        (1, ethernet(&[0x88a8, 0x8100, 0x86dd], &v6)),
        (113, sll(&v4)),
        (276, sll2(&v6)),
        (101, v4.clone()),
        (101, v6.clone()),
        (12, v4.clone()),
        (228, v4.clone()),
        (229, v6.clone()),
        (0, null(&v4)),
        (108, null(&v6)),
    ] {
        assert_eq!(captured(&pcap(link, &[packet])).counts.queries, 1, "link layer {link}");
    }
    assert!(refusal(&pcap(105, &[v4])).contains("1 of an unknown link layer"));
}

#[test]
fn pcapng_is_read_in_both_orders_of_octets() {
    let packet = over_ethernet(&datagram(53, &a("a.example")));
    let little = pcapng(&packet, u32::to_le_bytes, false);
    let big = pcapng(&packet, u32::to_be_bytes, true);
    for file in [little.clone(), big.clone(), [little, big].concat()] {
        let captured = captured(&file);
        assert!(captured.counts.queries.is_multiple_of(3) && captured.counts.skipped.is_empty());
        assert_eq!(captured.warnings, [""; 0]);
    }
}

#[test]
fn queries_over_tcp_are_taken_when_they_are_whole() {
    let both = [framed("a.example"), framed("b.example")].concat();
    let cut = &both[..both.len() - 1];
    let packets = [both.clone(), cut.to_vec(), Vec::new(), vec![0xff; 100]];
    let packets: Vec<_> = packets.iter().map(|it| over_ethernet(&segment_of(it))).collect();
    let captured = captured(&pcap(ETHERNET, &packets));
    assert_eq!(hosts(&captured), ["a.example.", "b.example.", "a.example."]);
    assert_eq!(Vec::from_iter(captured.counts.skipped), [(Skip::NoWholeQuery, 2)]);
}

#[test]
fn what_is_no_query_is_counted_by_reason() {
    let udp = |payload: &[u8]| over_ethernet(&datagram(53, payload));
    assert_eq!(skipped(&[udp(&response("a.example"))]), [(Skip::Response, 1)]);
    assert_eq!(skipped(&[udp(b"garbage"), udp(&[])]), [(Skip::NotDns, 2)]);
    assert_eq!(skipped(&[udp(&query("example", RecordType::AXFR))]), [(Skip::NoLookup, 1)]);
    let mut chaos = a("version.bind");
    *chaos.last_mut().unwrap() = 3;
    assert_eq!(skipped(&[udp(&chaos)]), [(Skip::NoLookup, 1)]);
    let group = PacketBuilder::ipv4([10, 0, 0, 1], [224, 0, 0, 251], 1).udp(5353, 5353);
    let group = over_ethernet(&written(group, &a("printer.local")));
    let netbios = over_ethernet(&datagram(137, &a("host.example")));
    assert_eq!(skipped(&[group, netbios]), [(Skip::Neighbours, 2)]);
    let arp = ethernet(&[0x0806], &[0; 28]);
    assert_eq!(skipped(&[arp, vec![1, 2, 3], Vec::new()]), [(Skip::OtherProtocol, 3)]);
}

#[test]
fn fragments_and_cut_packets_are_told_apart() {
    let mut fragment = datagram(53, &a("a.example"));
    // More fragments follow.
    fragment[6] = 0x20;
    assert_eq!(skipped(&[over_ethernet(&fragment)]), [(Skip::Fragment, 1)]);
    let whole = over_ethernet(&datagram(53, &a("a.example")));
    let mut file = pcap(ETHERNET, &[whole.clone(), whole[..whole.len() - 3].to_vec()]);
    let length_on_the_wire = file.len() - (whole.len() - 3) - 4;
    file[length_on_the_wire] += 3;
    let captured = captured(&file);
    assert_eq!(Vec::from_iter(captured.counts.skipped), [(Skip::Cut, 1)]);
}

#[test]
fn dnstap_tells_what_clients_asked() {
    let captured = captured(&dnstap_file());
    assert_eq!(hosts(&captured), ["a.example.", "b.example."]);
    let counts = captured.counts.to_string();
    assert_eq!(counts, "4 packets, 2 queries; skipped: 2 not about a client's query");
    let socket = [control(4, DNSTAP), control(1, DNSTAP), dnstap_file()].concat();
    assert_eq!(self::captured(&socket).tasks.len(), 2);
    let killed = dnstap_file();
    let without_stop = &killed[..killed.len() - control(3, None).len()];
    assert_eq!(self::captured(without_stop).warnings, [""; 0]);
}

#[test]
fn a_capture_that_breaks_off_is_used_up_to_there() {
    let packet = over_ethernet(&datagram(53, &a("a.example")));
    for file in [
        pcap(ETHERNET, &[packet.clone(), packet.clone()]),
        pcapng(&packet, u32::to_le_bytes, false),
        [control(2, DNSTAP), tapped(5, Some(a("a.example"))), tapped(5, Some(a("b.example")))]
            .concat(),
    ] {
        let captured = captured(&file[..file.len() - 5]);
        assert!(captured.counts.queries > 0);
        let warning = &captured.warnings[0];
        assert!(warning.starts_with("c.pcap: the capture breaks off after"), "{warning}");
        assert!(warning.ends_with("what is before is used"), "{warning}");
    }
}

#[test]
fn a_frame_that_makes_no_sense_ends_the_reading() {
    let start = [control(2, DNSTAP), tapped(5, Some(a("a.example")))].concat();
    for (rest, expected) in [
        (u32::MAX.to_be_bytes().to_vec(), "a frame of 4294967295 octets makes no sense"),
        ([[0; 4], [0, 0, 0, 3]].concat(), "a control frame of 3 octets"),
        (control(9, None), "an unknown control frame"),
        (
            [[0; 4], [0, 0, 0, 12], [0, 0, 0, 2], [0, 0, 0, 1], [0, 0, 0, 9]].concat(),
            "a broken control",
        ),
    ] {
        let warning = captured(&[start.clone(), rest].concat()).warnings.remove(0);
        assert!(warning.contains(expected), "{warning}");
    }
    let text = refusal(&control(2, Some(b"protobuf:other")));
    assert!(text.contains("hold no protobuf:dnstap.Dnstap"), "{text}");
}

#[test]
fn a_file_without_queries_is_refused_with_what_it_has() {
    let text = refusal(&pcap(ETHERNET, &[over_ethernet(&datagram(53, &response("a.example")))]));
    assert!(
        text.contains("no DNS query in it: 1 packets, 0 queries; skipped: 1 responses"),
        "{text}"
    );
    assert!(text.contains("tcpdump -w FILE port 53"), "{text}");
    for file in [&b""[..], b"a.example A\n", b"\xd4\xc3"] {
        assert!(refusal(file).contains("neither pcap, pcapng nor dnstap"));
    }
    assert!(refusal(b"\x1f\x8b\x08\x00").contains("gzip -dc c.pcap"));
    assert!(refusal(&pcap(ETHERNET, &[])[..20]).contains("breaks off, and no query before"));
    let gone = read(Path::new("/nowhere/c.pcap")).unwrap_err().to_string();
    assert!(gone.contains("check the path"), "{gone}");
}

#[test]
fn what_does_not_fit_into_memory_is_left_out_with_a_warning() {
    let packets = ["a", "b", "c"].map(|name| over_ethernet(&datagram(53, &a(name))));
    let mut intake = Intake { list: List::bounded(2, 10), ..Intake::default() };
    let end = pcap::read(&pcap(ETHERNET, &packets)[..], &mut intake);
    let captured = intake.finish("c.pcap", end).unwrap();
    assert_eq!(hosts(&captured), ["a.", "b."]);
    let warning = &captured.warnings[0];
    assert!(warning.ends_with("the first 2 packets are used"), "{warning}");
}

/// A few of every kind of packet and file.
fn files() -> Vec<Vec<u8>> {
    let packets = vec![
        over_ethernet(&datagram(53, &a("web.shop.svc.cluster.local"))),
        ethernet(&[0x8100, 0x86dd], &datagram_v6(&query("b.example", RecordType::AAAA))),
        over_ethernet(&segment_of(&[framed("a.example"), framed("b.example")].concat())),
    ];
    vec![
        pcap(ETHERNET, &packets),
        pcapng(&packets[1], u32::to_le_bytes, false),
        pcapng(&packets[2], u32::to_be_bytes, true),
        dnstap_file(),
    ]
}

proptest! {
    /// Whatever is wrong with a capture, it costs itself and what is behind it.
    #[test]
    fn broken_captures_never_panic(
        which in 0usize..4,
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..12),
        length in any::<Index>(),
    ) {
        let mut file = files().swap_remove(which);
        for (at, octet) in changes {
            let at = at.index(file.len());
            file[at] = octet;
        }
        file.truncate(length.index(file.len()) + 1);
        if let Ok(captured) = read_from("c.pcap", &file[..]) {
            prop_assert_eq!(captured.tasks.len() as u64, captured.counts.queries);
            let skipped: u64 = captured.counts.skipped.values().sum();
            prop_assert!(skipped <= captured.counts.packets);
        }
    }

    /// The same for packets alone, of every link layer.
    #[test]
    fn broken_packets_never_panic(
        link in prop::sample::select(vec![0u32, 1, 101, 108, 113, 228, 276]),
        octets in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut intake = Intake::default();
        let packet = packet::Packet { link, octets: &octets, is_cut: false };
        prop_assert!(packet::take(&packet, &mut intake).is_ok());
        prop_assert_eq!(intake.counts.packets, 1);
    }
}

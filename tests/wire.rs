//! DNS bytes against an independent reader (hickory-proto) and against those who forge them.
//!
//! Whatever we accept means the same to the other reader; whatever we write can be read by it; and
//! nothing that arrives can make us panic, or cost more than time linear in its length.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Record, RecordType as ProtoType};
use mainstay::wire::answer::Kind;
use mainstay::wire::{
    Answer, Ede, HEADER_LEN, Query, Question, Rcode, Reply, TCP_MAX, UDP_MAX, Unanswerable, reply,
    walk,
};
use proptest::prelude::*;

#[path = "support/packets.rs"]
mod packets;

use packets::{Packet, Section, pointer, rtype, wire};

/// Everything of the corpus.
fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    [packets::queries(), packets::responses(), packets::hostile_responses()].concat()
}

/// The question section of a message of the corpus.
fn question_of(packet: &[u8]) -> Option<&[u8]> {
    let end = walk::skip_name(packet, HEADER_LEN)? + 4;
    packet.get(HEADER_LEN..end)
}

/// Two spellings of one question, and a request in the second.
fn in_capitals(question: &[u8], with_opt: bool) -> Vec<u8> {
    let (name, rest) = question.split_at(question.len() - 4);
    let rtype = u16::from_be_bytes([rest[0], rest[1]]);
    let mut packet = Packet::asking(0x0100, &name.to_ascii_uppercase(), rtype);
    let class_at = packet.len() - 2;
    packet.0[class_at..].copy_from_slice(&rest[2..]);
    if with_opt { packet.opt(1232, 0, b"").0 } else { packet.0 }
}

/// Writes a reply of at most `limit` octets.
fn reply_to(packet: &[u8], limit: usize, fill: impl FnOnce(&mut Reply<'_>)) -> Vec<u8> {
    let query = Query::parse(packet).expect("the test asks a right question");
    let mut out = vec![0xAA; limit];
    let mut reply = Reply::to(&query, limit, &mut out);
    fill(&mut reply);
    let len = reply.finish();
    out.truncate(len);
    out
}

/// Goes through everything that reads foreign octets. Must not panic.
fn read_all_ways(packet: &[u8], question: &[u8]) {
    let mut out = [0xAA; UDP_MAX];
    match Query::parse(packet) {
        Ok(query) => {
            check_reply(packet, query.udp_limit(), &Answer::bare(Rcode::SERVFAIL, None));
            let _ = Question::of(&query);
        }
        Err(Unanswerable::RefuseWithOpt { question_end }) => {
            let len = reply::refuse_with_opt(packet, question_end, &mut out);
            let message = Message::from_vec(&out[..len]).expect("a reply can be read");
            assert_eq!(message.metadata.response_code, ResponseCode::FormErr);
            assert!(message.queries.len() == 1 && message.edns.is_some());
        }
        Err(Unanswerable::Refuse(rcode)) => {
            assert_eq!(reply::refuse(packet, rcode, &mut out), HEADER_LEN);
        }
        Err(Unanswerable::Ignore) => {}
    }
    if let Ok(answer) = Answer::from_response(packet, question) {
        for limit in [512, UDP_MAX, TCP_MAX] {
            let request = in_capitals(question, true);
            let reply = reply_to(&request, limit, |reply| reply.answer(&answer, Some(7), 3));
            // What they can read of an upstream, they can read of us. Only pointers in types that
            // must not have any (RFC 3597 §4) may lose their target when strangers are taken out.
            let kept = usize::from(answer.answer_count());
            if Message::from_vec(packet).is_ok_and(|original| original.answers.len() == kept) {
                Message::from_vec(&reply).expect("as readable as the original");
            }
        }
        let _ = (answer.kind(), answer.ttl_min(), answer.negative_ttl(), answer.heap_bytes());
    }
    for at in 0..packet.len().min(80) {
        let _ = walk::read_name(packet, at);
        let record = walk::record(packet, at);
        record.map(|record| walk::rdata_is_sound(packet, &record));
    }
}

/// What every reply must be, whatever it carries. Answers what the other reader makes of it.
fn check_reply(request: &[u8], limit: usize, answer: &Answer) -> Message {
    let reply = reply_to(request, limit, |reply| reply.answer(answer, None, 0));
    let query = Query::parse(request).unwrap();
    assert!(reply.len() <= limit, "{} octets where {limit} are allowed", reply.len());
    assert_eq!(reply[..2], request[..2], "the id");
    assert_eq!(&reply[HEADER_LEN..HEADER_LEN + query.question().len()], query.question());
    let message = Message::from_vec(&reply).expect("the other reader takes every reply of ours");
    assert_eq!(message.edns.is_some(), query.edns.is_some(), "OPT is answered with OPT");
    message
}

#[test]
fn every_request_of_the_corpus_is_read_as_the_other_reader_reads_it() {
    for (what, packet) in packets::queries() {
        assert!(Query::parse(&packet).is_ok(), "{what}");
        assert!(agrees(&packet), "{what}: the other reader does not take it");
    }
}

/// Checks that an accepted packet means the same to hickory-proto. `false` where one of both does
/// not take it at all.
fn agrees(packet: &[u8]) -> bool {
    let (Ok(query), Ok(message)) = (Query::parse(packet), Message::from_vec(packet)) else {
        return false;
    };
    let [question] = &message.queries[..] else { panic!("one question, they say {message:?}") };
    assert_eq!(query.name().to_string(), display(question.name()));
    assert_eq!(query.rtype.0, u16::from(question.query_type()));
    assert_eq!(query.class.0, u16::from(question.query_class()));
    assert_eq!(query.id(), message.metadata.id);
    assert_eq!(query.recursion_desired(), message.metadata.recursion_desired);
    assert_eq!(query.checking_disabled(), message.metadata.checking_disabled);
    let theirs = message
        .edns
        .as_ref()
        .map(|edns| (edns.max_payload().max(512), edns.flags().dnssec_ok, edns.version()));
    let ours = query.edns.map(|edns| (edns.payload_bytes, edns.dnssec_ok, edns.version));
    assert_eq!(ours, theirs);
    true
}

/// Their name, as we would print it.
fn display(name: &hickory_proto::rr::Name) -> String {
    let labels = name.iter().map(<[u8]>::to_ascii_lowercase);
    let mut wire: Vec<u8> =
        labels.flat_map(|label| [vec![label.len() as u8], label].concat()).collect();
    wire.push(0);
    mainstay::wire::Name::from_wire(&wire).expect("their names obey RFC 1035 too").to_string()
}

#[test]
fn no_cut_and_no_changed_octet_of_the_corpus_panics() {
    for (_, packet) in corpus() {
        let question = question_of(&packet).expect("the corpus has whole questions").to_vec();
        for end in 0..=packet.len() {
            read_all_ways(&packet[..end], &question);
        }
        for at in 0..packet.len() {
            for value in [0, 1, 0x0C, 0x3F, 0x40, 0x7F, 0x80, 0xC0, 0xFF, packet[at] ^ 0x20] {
                let mut bad = packet.clone();
                bad[at] = value;
                read_all_ways(&bad, &question);
                agrees(&bad);
            }
        }
    }
}

#[test]
fn a_response_means_the_same_when_it_is_replied_under_another_spelling() {
    for (what, response) in packets::responses() {
        let question = question_of(&response).unwrap();
        let answer = Answer::from_response(&response, question).expect(what);
        let original = Message::from_vec(&response).expect(what);
        let message = check_reply(&in_capitals(question, true), TCP_MAX, &answer);
        assert_eq!(message.answers, on_the_chain(&original), "{what}");
        assert_eq!(message.metadata.response_code, original.metadata.response_code, "{what}");
        if matches!(answer.kind(), Kind::NoData | Kind::NxDomain) {
            assert_eq!(message.authorities, original.authorities, "{what}");
        }
    }
}

/// The records of the answer section without those that nobody asked for.
fn on_the_chain(message: &Message) -> Vec<Record> {
    let is_stranger = |record: &&Record| record.name.to_string() != "evil.com.";
    message.answers.iter().filter(is_stranger).cloned().collect()
}

#[test]
fn a_ttl_takes_the_place_of_every_ttl() {
    for (what, response) in packets::responses() {
        let question = question_of(&response).unwrap();
        let answer = Answer::from_response(&response, question).expect(what);
        for limit in [512, TCP_MAX] {
            let request = in_capitals(question, false);
            let reply = reply_to(&request, limit, |reply| reply.answer(&answer, Some(7), 1));
            let message = Message::from_vec(&reply).expect(what);
            assert!(message.answers.iter().all(|record| record.ttl == 7), "{what}");
        }
    }
}

#[test]
fn addresses_turn_without_loss_at_every_turn_and_size() {
    let (_, response) = &packets::responses()[1];
    let question = question_of(response).unwrap();
    let answer = Answer::from_response(response, question).unwrap();
    let request = in_capitals(question, true);
    for limit in [512, UDP_MAX] {
        for turn in 0..31 {
            let reply = reply_to(&request, limit, |reply| reply.answer(&answer, None, turn));
            let message = Message::from_vec(&reply).unwrap();
            let mut last = message.answers.iter().map(last_octet).collect::<Vec<_>>();
            assert_eq!(last[0], 1 + (turn % 30) as u8);
            assert_eq!(message.metadata.truncation, last.len() < 30);
            last.sort_unstable();
            last.dedup();
            assert_eq!(last.len(), message.answers.len(), "no address twice");
        }
    }
}

fn last_octet(record: &Record) -> u8 {
    let hickory_proto::rr::RData::A(address) = &record.data else { panic!("an address") };
    address.octets()[3]
}

#[test]
fn an_extended_error_goes_to_those_who_speak_edns() {
    let failure = Answer::bare(Rcode::SERVFAIL, Some(Ede::NOT_READY));
    let with = Packet::query("example.org", rtype::A).opt(1232, 0, b"").0;
    let message = check_reply(&with, UDP_MAX, &failure);
    let option = hickory_proto::rr::rdata::opt::EdnsCode::Unknown(15);
    assert!(message.edns.unwrap().option(option).is_some());
    let without = Packet::query("example.org", rtype::A).0;
    check_reply(&without, UDP_MAX, &failure);
}

/// The reply with it is the reply without it, and behind that, where there is room, the reason.
#[test]
fn an_extended_error_costs_no_record_and_never_truncates() {
    let errors = [Ede::NOT_READY, Ede::none_ready(u32::MAX), Ede::stale(Rcode::NXDOMAIN)];
    for (what, response) in packets::responses() {
        let question = question_of(&response).unwrap();
        let mut answer = Answer::from_response(&response, question).expect(what);
        answer.ede = None;
        let request = in_capitals(question, true);
        let whole = reply_to(&request, TCP_MAX, |reply| reply.answer(&answer, None, 0)).len();
        let least = HEADER_LEN + question.len() + 11;
        for limit in whole.saturating_sub(60).max(least)..(whole + 60).min(TCP_MAX) {
            let without = reply_to(&request, limit, |reply| reply.answer(&answer, None, 0));
            let told = errors.map(|ede| {
                let with = reply_to(&request, limit, |reply| {
                    reply.answer(&answer, None, 0);
                    reply.set_ede(ede);
                });
                // All up to the length of the options, which ends OPT: TC and the counts too.
                let same = without.len() - 2;
                assert_eq!(with[..same], without[..same], "{what} at {limit}");
                assert!(with.len() <= limit, "{what}: {} octets at {limit}", with.len());
                Message::from_vec(&with).expect(what);
                with.len() > without.len()
            });
            assert_eq!(told, [limit - without.len() >= 6; 3], "{what} at {limit}");
        }
    }
}

/// BADVERS and its like need OPT to be told. Their lower bits alone would read as NOERROR: a
/// denial.
#[test]
fn an_extended_code_never_reads_as_a_denial_without_opt() {
    let packet = Packet::query("example.org", rtype::A).0;
    for rcode in 16..32 {
        let message = check_reply(&packet, UDP_MAX, &Answer::bare(Rcode(rcode), None));
        assert_eq!(message.metadata.response_code, hickory_proto::op::ResponseCode::ServFail);
    }
}

/// Each name of a message is read by following its pointers; a ladder of pointers without labels
/// between them would make that cost the square of the length.
#[test]
fn a_ladder_of_pointers_is_refused_instead_of_climbed() {
    for owner_in_chain in [true, false] {
        let response = ladder(owner_in_chain);
        assert!(response.len() <= TCP_MAX);
        let question = question_of(&response).unwrap();
        assert!(Answer::from_response(&response, question).is_err());
    }
}

/// 16 KiB of pointers that each point to the one before, and thousands of records whose owner is
/// the last of them.
fn ladder(owner_in_chain: bool) -> Vec<u8> {
    let packet = Packet::response("www.example.org", rtype::TXT);
    let first = packet.len() + 12;
    let rungs: Vec<u8> = (0..8_000)
        .flat_map(
            |rung| if rung == 0 { pointer(HEADER_LEN) } else { pointer(first + 2 * (rung - 1)) },
        )
        .collect();
    let top = pointer(first + 2 * 7_999);
    let mut packet = packet.answer(65_280, 60, &rungs);
    if !owner_in_chain {
        packet = packet.record(Section::Answer, &wire("evil.com"), rtype::A, 60, &[6; 4]);
    }
    while packet.len() < TCP_MAX - 16 {
        packet = packet.record(Section::Answer, &top, rtype::TXT, 60, &[0]);
    }
    packet.0
}

#[test]
fn the_largest_response_is_taken_whole() {
    let mut packet = Packet::response("www.example.org", rtype::A);
    while packet.len() + 16 <= TCP_MAX {
        packet = packet.answer(rtype::A, 60, &[192, 0, 2, 1]);
    }
    let question = question_of(&packet.0).unwrap().to_vec();
    let answer = Answer::from_response(&packet.0, &question).unwrap();
    assert!(answer.answer_count() > 4_000);
    let message = check_reply(&in_capitals(&question, false), TCP_MAX, &answer);
    assert_eq!(message.answers.len(), usize::from(answer.answer_count()));
    let cut = check_reply(&in_capitals(&question, true), UDP_MAX, &answer);
    assert!(cut.metadata.truncation && cut.answers.len() > 60);
}

/// Labels of any octets, at most so long together that they are a name.
fn any_name() -> impl Strategy<Value = Vec<u8>> {
    let label = proptest::collection::vec(any::<u8>(), 1..=63);
    proptest::collection::vec(label, 0..8).prop_filter_map("too long", |labels| {
        let mut wire: Vec<u8> = labels
            .into_iter()
            .flat_map(|label| [vec![label.len() as u8], label].concat())
            .collect();
        wire.push(0);
        (wire.len() <= 255).then_some(wire)
    })
}

/// EDNS options with any content.
fn any_options() -> impl Strategy<Value = Vec<u8>> {
    // Codes 3 to 14 have a syntax of their own, which the other reader may insist on.
    let option = (15u16.., proptest::collection::vec(any::<u8>(), 0..40));
    proptest::collection::vec(option, 0..4).prop_map(|options| {
        options.iter().flat_map(|(code, value)| packets::option(*code, value)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_right_request_means_the_same_to_both_readers(
        name in any_name(),
        (rtype, class) in any::<(u16, u16)>(),
        flags in (any::<bool>(), any::<bool>(), any::<bool>()),
        opt in proptest::option::of((any::<u16>(), any::<bool>(), any_options())),
    ) {
        let (rd, cd, ad) = flags;
        let flags = u16::from(rd) << 8 | u16::from(cd) << 4 | u16::from(ad) << 5;
        let mut packet = Packet::asking(flags, &name, rtype);
        let end = packet.len();
        packet.0[end - 2..].copy_from_slice(&class.to_be_bytes());
        if let Some((payload_bytes, dnssec_ok, options)) = opt {
            packet = packet.opt(payload_bytes, u32::from(dnssec_ok) << 15, &options);
        }
        prop_assert!(agrees(&packet.0));
    }

    #[test]
    fn no_octets_panic(octets in proptest::collection::vec(any::<u8>(), 0..700)) {
        read_all_ways(&octets, &[0, 0, 1, 0, 1]);
        agrees(&octets);
    }

    /// Octets that pass the first gates, so that the deeper ones are tried too.
    #[test]
    fn no_records_panic(
        mut octets in proptest::collection::vec(any::<u8>(), 40..400),
        is_response in any::<bool>(),
    ) {
        let head = Packet::asking(if is_response { 0x8180 } else { 0x0100 }, &[0], 1).0;
        octets[..head.len()].copy_from_slice(&head);
        let counts = if is_response { [0, 3, 0, 2, 0, 2] } else { [0, 0, 0, 0, 0, 2] };
        octets[6..12].copy_from_slice(&counts);
        read_all_ways(&octets, &[0, 0, 1, 0, 1]);
        agrees(&octets);
    }

    #[test]
    fn a_reply_keeps_to_its_limit_and_can_be_read(
        name in any_name(),
        payload_bytes in proptest::option::of(any::<u16>()),
        count in 0usize..200,
        is_ipv6 in any::<bool>(),
        turn in any::<u32>(),
        ttl_s in proptest::option::of(any::<u32>()),
    ) {
        use mainstay::wire::{RecordType, TCP_MAX};
        let rtype = if is_ipv6 { RecordType::AAAA } else { RecordType::A };
        let length = if is_ipv6 { 16 } else { 4 };
        let octets: Vec<u8> = (0..count * length).map(|n| (n / length) as u8).collect();
        let packet = Packet::asking(0x0100, &name, rtype.0);
        let write = |reply: &mut Reply<'_>| reply.addresses(rtype, &octets, 30, turn);
        let whole = reply_to(&packet.0, TCP_MAX, write);
        let answer = Answer::from_response(&whole, &packet.0[HEADER_LEN..]).unwrap();
        let packet = match payload_bytes {
            Some(payload_bytes) => packet.opt(payload_bytes, 0, b""),
            None => packet,
        };
        let limit = Query::parse(&packet.0).unwrap().udp_limit();
        let message = check_reply(&packet.0, limit, &answer);
        prop_assert_eq!(message.metadata.truncation, message.answers.len() < count);
        let reply = reply_to(&packet.0, limit, |reply| reply.answer(&answer, ttl_s, turn));
        let turned = Message::from_vec(&reply).unwrap();
        prop_assert_eq!(turned.answers.len(), message.answers.len());
        let is_asked = |record: &Record| record.record_type() == ProtoType::from(rtype.0);
        prop_assert!(turned.answers.iter().all(is_asked));
        prop_assert_eq!(reply_to(&packet.0, limit, write).len(), reply.len(), "written at once");
    }
}

//! What is kept of a response, and what of one is refused.

use super::*;
use crate::wire::message::tests::{response, sections};

fn take(text: &str) -> Result<Answer, Flaw> {
    let (question, response) = response(text);
    Answer::from_response(&response, &question)
}

#[test]
fn the_chain_is_kept_and_strangers_are_left_out() {
    let answer = take(
        "www.example.org. A NOERROR\n\
         www.example.org. 300 CNAME web.example.net.\n\
         web.example.net. 60 A 192.0.2.1\n\
         evil.example.com. 60 A 192.0.2.66\n\
         web.example.net. 60 A 192.0.2.2",
    )
    .unwrap();
    assert_eq!(answer.answer_count(), 3);
    assert_eq!(answer.kind(), Kind::Found);
    assert_eq!(answer.ttl_min(), Some(60));
    assert_eq!(answer.run.unwrap().count, 2);
}

#[test]
fn a_negative_answer_without_soa_has_no_ttl() {
    let bare = take("x.example.org. A NXDOMAIN").unwrap();
    assert_eq!((bare.kind(), bare.negative_ttl()), (Kind::NxDomain, None));
    let with = take(
        "x.example.org. A NXDOMAIN\n\
         ; authority\n\
         example.org. 900 SOA ns.example.org. root.example.org. 1 2 3 4 60",
    )
    .unwrap();
    assert_eq!(with.negative_ttl(), Some(60));
    let nodata = take(
        "x.example.org. AAAA NOERROR\n\
         ; authority\n\
         example.org. 30 SOA ns.example.org. root.example.org. 1 2 3 4 60",
    )
    .unwrap();
    assert_eq!((nodata.kind(), nodata.negative_ttl()), (Kind::NoData, Some(30)));
}

#[test]
fn an_extended_error_is_kept_and_takes_no_room_of_the_records() {
    for text in [
        "x.example.org. A NXDOMAIN",
        "x.example.org. A NOERROR\nx.example.org. 60 A 192.0.2.1",
        "x.example.org. A NOERROR\nevil.com. 60 A 192.0.2.66\nx.example.org. 60 A 192.0.2.1",
    ] {
        let (question, mut response) = response(text);
        let plain = Answer::from_response(&response, &question).unwrap();
        response[11] = 1;
        response.extend_from_slice(b"\0\0\x29\x04\xD0\0\0\0\0\0\x07\0\x0F\0\x03\0\x0F!");
        let mut told = Answer::from_response(&response, &question).unwrap();
        assert_eq!(told.ede.map(|ede| (ede.code, ede.text)), Some((15, "Blocked")), "{text}");
        assert_eq!(told.behind(b"key").ede, told.ede);
        told.ede = None;
        assert_eq!(told, plain, "{text}");
    }
}

#[test]
fn an_alias_without_its_end_is_no_answer_to_keep() {
    let bare = take("www.example.org. A NOERROR\nwww.example.org. 300 CNAME x.example.org.");
    let bare = bare.unwrap();
    assert_eq!((bare.kind(), bare.negative_ttl()), (Kind::NoData, None));
    let cname = "www.example.org. CNAME NOERROR\nwww.example.org. 300 CNAME x.example.org.";
    assert_eq!(take(cname).unwrap().kind(), Kind::Found);
}

#[test]
fn an_answer_behind_its_key_says_the_same() {
    let answer = take(
        "x.example.org. AAAA NOERROR\n\
         ; authority\n\
         example.org. 30 SOA ns.example.org. root.example.org. 1 2 3 4 60",
    )
    .unwrap();
    let behind = answer.behind(b"key");
    assert_eq!((answer.key(), behind.key()), (&b""[..], &b"key"[..]));
    assert_eq!(behind.body(), answer.body());
    assert!(behind.ttls().eq(answer.ttls()));
    assert_eq!(behind.negative_ttl(), Some(30));
    assert_eq!(behind.behind(b""), answer);
}

#[test]
fn a_chain_out_of_order_is_put_in_order() {
    let answer = take(
        "www.example.org. A NOERROR\n\
         b.example.net. 60 A 192.0.2.1\n\
         a.example.net. 60 CNAME b.example.net.\n\
         www.example.org. 60 CNAME a.example.net.",
    )
    .unwrap();
    assert_eq!((answer.kind(), answer.answer_count()), (Kind::Found, 3));
}

#[test]
fn a_soa_from_outside_of_the_chain_proves_nothing() {
    let foreign = take(
        "x.example.org. A NXDOMAIN\n\
         ; authority\n\
         example.com. 900 SOA ns.example.com. root.example.com. 1 2 3 4 60",
    )
    .unwrap();
    assert_eq!((foreign.kind(), foreign.negative_ttl()), (Kind::NxDomain, None));
}

#[test]
fn a_response_to_another_question_is_refused() {
    let (question, _) = response("a.example. A NOERROR");
    let (_, other) = response("b.example. A NOERROR");
    assert_eq!(Answer::from_response(&other, &question), Err(Flaw::OtherQuestion));
    let (_, mut request) = response("a.example. A NOERROR");
    request[2] &= 0x7F;
    assert_eq!(Answer::from_response(&request, &question), Err(Flaw::Malformed));
}

#[test]
fn no_cut_and_no_flipped_octet_of_a_response_panics() {
    let (question, good) = sections();
    for end in 0..good.len() {
        let _ = Answer::from_response(&good[..end], &question);
    }
    for at in 0..good.len() {
        for value in [0, 1, 0x3F, 0x40, 0x7F, 0xC0, 0xFF] {
            let mut bad = good.clone();
            bad[at] = value;
            let _ = Answer::from_response(&bad, &question);
        }
    }
}

#[test]
fn an_answer_makes_the_response_that_makes_it() {
    let texts = [
        "w.example. A NOERROR\nw.example. 300 A 192.0.2.1\nw.example. 60 A 192.0.2.2",
        "w.example. A NOERROR\nw.example. 300 CNAME v.example.\nv.example. 60 A 192.0.2.2",
        "w.example. A NXDOMAIN\n; authority\nexample. 9 SOA ns.example. r.example. 1 2 3 4 60",
    ];
    for text in texts {
        let (section, response) = crate::wire::message::tests::response(text);
        let answer = Answer::from_response(&response, &section).unwrap();
        let again = answer.behind(b"key").to_response(&section);
        assert_eq!(Answer::from_response(&again, &section).unwrap(), answer, "{text}");
    }
}

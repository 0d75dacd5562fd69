//! The upstream of both servers: names outside of the cluster, and one answer for each.

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::upstream::{Act, LoopbackUpstream};

/// TTL of all records, in seconds. Neither server changes it, for neither has a cache.
const TTL_S: u32 = 77;

/// `www` has addresses, `alias` leads to it, `empty` has no records, `broken` fails, others do not
/// exist.
pub async fn upstream() -> LoopbackUpstream {
    LoopbackUpstream::scripted(|asked| vec![Act::Send(answer(&asked.packet))]).await
}

fn answer(request: &[u8]) -> Vec<u8> {
    let mut message = Message::from_vec(request).unwrap();
    message.metadata.message_type = MessageType::Response;
    message.metadata.recursion_available = true;
    message.metadata.authentic_data = false;
    let question = message.queries[0].clone();
    let name = question.name().to_lowercase().to_ascii();
    match name.trim_end_matches('.') {
        "www.example.org" => addresses(&mut message, question.name(), question.query_type()),
        "alias.example.org" => {
            let target = Name::from_ascii("www.example.org.").unwrap();
            let cname = RData::CNAME(CNAME(target.clone()));
            message.add_answer(Record::from_rdata(question.name().clone(), TTL_S, cname));
            if !matches!(question.query_type(), RecordType::CNAME | RecordType::ANY) {
                addresses(&mut message, &target, question.query_type());
            }
        }
        "empty.example.org" => deny(&mut message),
        "broken.example.org" => message.metadata.response_code = ResponseCode::ServFail,
        _ => {
            message.metadata.response_code = ResponseCode::NXDomain;
            deny(&mut message);
        }
    }
    message.to_vec().unwrap()
}

fn addresses(message: &mut Message, owner: &Name, rtype: RecordType) {
    let data = match rtype {
        RecordType::A => vec![RData::A(A::new(192, 0, 2, 1)), RData::A(A::new(192, 0, 2, 2))],
        RecordType::AAAA => vec![RData::AAAA(AAAA::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))],
        _ => return deny(message),
    };
    for data in data {
        message.add_answer(Record::from_rdata(owner.clone(), TTL_S, data));
    }
}

/// Adds the SOA that a denial needs (RFC 2308 §3), of a zone of two labels.
fn deny(message: &mut Message) {
    let name = |text: &str| Name::from_ascii(text).unwrap();
    let zone = message.queries[0].name().trim_to(2);
    let soa = SOA::new(name("ns.example.org."), name("root.example.org."), 1, 7200, 1800, 9, 60);
    message.add_authority(Record::from_rdata(zone, TTL_S, RData::SOA(soa)));
}

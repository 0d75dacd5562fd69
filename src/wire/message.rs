//! The door to hickory-proto: whole messages built and read, off the hit path.
//!
//! Used for probes (loop, health), for the chains of ExternalName Services, and as the oracle of
//! the tests. Octets of upstreams come here only after [`super::Answer`] has taken them.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::{Name as ProtoName, RData, Record, rdata};

use super::{Answer, HEADER_LEN, Name, NameRef, RecordType};

/// A request for `name` with id 0 and RD set; `payload_bytes` adds OPT.
///
/// # Panics
/// When `name` is not a domain name: callers pass constants and names of their own making.
pub fn question(name: &str, rtype: RecordType, payload_bytes: Option<u16>) -> Vec<u8> {
    let name = ProtoName::from_ascii(name).expect("the caller made this name");
    request(name, rtype, payload_bytes)
}

/// A request for `name` on behalf of `query`: its type, its CD and DO bits, with RD set.
pub fn question_for(query: &super::Query<'_>, name: NameRef<'_>) -> Option<Vec<u8>> {
    let mut message = read(&request(proto_name(name)?, query.rtype, None))?;
    message.metadata.checking_disabled = query.checking_disabled();
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(super::UDP_MAX as u16);
        edns.set_dnssec_ok(query.dnssec_ok());
        message.set_edns(edns);
    }
    message.to_vec().ok()
}

fn request(name: ProtoName, rtype: RecordType, payload_bytes: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Question::query(name, rtype.0.into()));
    if let Some(payload_bytes) = payload_bytes {
        let mut edns = Edns::new();
        edns.set_max_payload(payload_bytes);
        message.set_edns(edns);
    }
    message.to_vec().expect("one question always fits")
}

/// Reads a whole message.
pub fn read(octets: &[u8]) -> Option<Message> {
    Message::from_vec(octets).ok()
}

/// The Answer to `name` that is a CNAME to `target` followed by what `inner`, a whole reply to
/// `target`, says. The response code is that of the end of the chain (RFC 6604 §3).
pub fn chained(
    name: NameRef<'_>,
    rtype: RecordType,
    ttl_s: u32,
    target: &Name,
    inner: Option<&[u8]>,
) -> Option<Answer> {
    let inner = inner.and_then(read);
    let mut message = Message::new(0, MessageType::Response, OpCode::Query);
    message.add_query(Question::query(proto_name(name)?, rtype.0.into()));
    let cname = RData::CNAME(rdata::CNAME(proto_name(target.as_ref())?));
    message.add_answer(Record::from_rdata(proto_name(name)?, ttl_s, cname));
    match inner {
        Some(inner) => {
            message.metadata.response_code = inner.metadata.response_code;
            message.metadata.recursion_available = inner.metadata.recursion_available;
            message.answers.extend(inner.answers);
            message.authorities = inner.authorities;
        }
        None => message.metadata.response_code = ResponseCode::ServFail,
    }
    let octets = message.to_vec().ok()?;
    let question = octets.get(HEADER_LEN..HEADER_LEN + name.octets().len() + 4)?.to_vec();
    let mut answer = Answer::from_response(&octets, &question).ok()?;
    answer.authoritative = true;
    Some(answer)
}

/// A name as hickory-proto holds it.
fn proto_name(name: NameRef<'_>) -> Option<ProtoName> {
    ProtoName::from_labels(name.labels()).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::Rcode;
    use super::*;
    use hickory_proto::serialize::txt::Parser;

    /// Builds question and response from text: `name type rcode`, then records in zone file form,
    /// those behind a line `; authority` in the authority section.
    pub(crate) fn response(text: &str) -> (Vec<u8>, Vec<u8>) {
        let mut lines = text.lines();
        let head: Vec<&str> = lines.next().unwrap().split(' ').collect();
        let request = question(head[0], RecordType::parse(head[1]).unwrap(), None);
        let mut message = read(&request).unwrap();
        message.metadata.message_type = MessageType::Response;
        message.metadata.response_code =
            ResponseCode::from(0, Rcode::parse(head[2]).unwrap().0 as u8);
        let mut authority = false;
        for line in lines {
            authority |= line.trim() == "; authority";
            let section = if authority { &mut message.authorities } else { &mut message.answers };
            section.extend(records(line.trim()));
        }
        (request[HEADER_LEN..].to_vec(), message.to_vec().unwrap())
    }

    fn records(line: &str) -> Vec<Record> {
        if line.starts_with(';') {
            return Vec::new();
        }
        let text = format!("{line}\n");
        let origin = ProtoName::root();
        let (_, sets) = Parser::new(text, None, Some(origin)).parse().unwrap();
        sets.values().flat_map(|set| set.records_without_rrsigs().cloned()).collect()
    }

    /// A response with something in every section.
    pub(crate) fn sections() -> (Vec<u8>, Vec<u8>) {
        response(
            "www.example.org. MX NOERROR\n\
             www.example.org. 300 CNAME web.example.org.\n\
             web.example.org. 60 MX 10 mail.example.org.\n\
             ; authority\n\
             example.org. 900 SOA ns.example.org. root.example.org. 1 2 3 4 60",
        )
    }

    /// The addresses of an answer section, in order.
    pub(crate) fn addresses(message: &Message) -> Vec<String> {
        message.answers.iter().map(|record| record.data.to_string()).collect()
    }

    #[test]
    fn a_chain_ends_with_the_code_of_its_target() {
        let name = Name::parse("ext.shop.svc.cluster.local").unwrap();
        let target = Name::parse("gone.example.org").unwrap();
        let (_, inner) = response("gone.example.org. A NXDOMAIN");
        let answer = chained(name.as_ref(), RecordType::A, 5, &target, Some(&inner)).unwrap();
        assert_eq!((answer.rcode, answer.answer_count()), (Rcode::NXDOMAIN, 1));
        let failed = chained(name.as_ref(), RecordType::A, 5, &target, None).unwrap();
        assert_eq!((failed.rcode, failed.answer_count()), (Rcode::SERVFAIL, 1));
    }
}

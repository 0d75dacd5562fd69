//! One question to the server under test, and all that its reply says.

#![allow(dead_code, reason = "each test uses what it needs")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RecordType};
use mainstay::wire::Rcode;

/// Longest time for a reply unless the test says otherwise: only what hangs takes so long.
pub const REPLY_MAX: Duration = Duration::from_secs(20);
/// Payload that is asked for over UDP.
const PAYLOAD_OCTETS: u16 = 1232;

/// A request for `web.shop.svc A` (under the cluster's zone) or `www.example.org. A`, with EDNS.
pub fn request(question: &str) -> Vec<u8> {
    let (name, rtype) = question.split_once(' ').expect("a question has a name and a type");
    let zone = if name.ends_with('.') { "" } else { ".cluster.local." };
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let name = Name::from_ascii(format!("{name}{zone}")).unwrap();
    message.add_query(Query::query(name, rtype.parse::<RecordType>().unwrap()));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD_OCTETS);
    message.set_edns(edns);
    message.to_vec().unwrap()
}

/// The reply over UDP; `None` when there is none in time.
pub fn udp(port: u16, question: &str) -> Option<Message> {
    udp_within(port, question, REPLY_MAX)
}

/// The same with a time.
pub fn udp_within(port: u16, question: &str, longest: Duration) -> Option<Message> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_read_timeout(Some(longest)).unwrap();
    let request = request(question);
    socket.send(&request).ok()?;
    let mut buffer = [0; 65_535];
    let length = socket.recv(&mut buffer).ok()?;
    assert_eq!(buffer[..2], request[..2], "the id of the reply");
    Some(Message::from_vec(&buffer[..length]).unwrap())
}

/// The reply over a connection of its own.
pub fn tcp(port: u16, question: &str) -> Option<Message> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(REPLY_MAX)).unwrap();
    let request = request(question);
    stream.write_all(&(request.len() as u16).to_be_bytes()).ok()?;
    stream.write_all(&request).ok()?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut reply).ok()?;
    Some(Message::from_vec(&reply).unwrap())
}

/// Its code: `NOERROR`, `NXDOMAIN`, …
pub fn code(reply: &Message) -> String {
    Rcode(reply.metadata.response_code.into()).to_string()
}

/// The values of its answer section, sorted.
pub fn values(reply: &Message) -> Vec<String> {
    let mut values: Vec<String> =
        reply.answers.iter().map(|record| record.data.to_string()).collect();
    values.sort();
    values
}

/// The smallest TTL of its answer and authority sections.
pub fn ttl(reply: &Message) -> Option<u32> {
    reply.answers.iter().chain(&reply.authorities).map(|record| record.ttl).min()
}

/// Its Extended DNS Error (RFC 8914), such as 3 for a stale answer.
pub fn extended_error(reply: &Message) -> Option<u16> {
    match reply.edns.as_ref()?.option(EdnsCode::from(15))? {
        EdnsOption::Unknown(_, octets) => {
            Some(u16::from_be_bytes(octets.get(..2)?.try_into().ok()?))
        }
        other => panic!("an Extended DNS Error that is read as {other:?}"),
    }
}

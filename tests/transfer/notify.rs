//! NOTIFY as a secondary sees it, also one that is slow to answer.

use std::net::{SocketAddr, UdpSocket};

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{RData, RecordType};

use crate::asker::{CHANGE_MAX, eventually};
use crate::cluster::{CHANGES, Cluster};
use crate::server::Server;
use crate::{ZONES, primary, primary_with};

/// A secondary that does what the test says.
struct Scripted(UdpSocket);

impl Scripted {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(CHANGE_MAX)).unwrap();
        Self(socket)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// The next NOTIFY and who sent it.
    fn receive(&self) -> (Message, SocketAddr) {
        let mut buffer = [0; 4096];
        let (length, from) = self.0.recv_from(&mut buffer).expect("a NOTIFY comes");
        (Message::from_vec(&buffer[..length]).unwrap(), from)
    }

    fn answer(&self, (notice, from): (Message, SocketAddr), rcode: ResponseCode) {
        let id = notice.metadata.id;
        let mut answer = Message::new(id, MessageType::Response, OpCode::Notify);
        answer.metadata.response_code = rcode;
        answer.queries = notice.queries;
        self.0.send_to(&answer.to_vec().unwrap(), from).unwrap();
    }
}

/// Zone and serial of a NOTIFY.
fn read(notice: &Message) -> (String, u32) {
    let metadata = &notice.metadata;
    assert_eq!((metadata.op_code, metadata.message_type), (OpCode::Notify, MessageType::Query));
    assert!(metadata.authoritative);
    let [question] = &notice.queries[..] else { panic!("{notice:?}") };
    let [answer] = &notice.answers[..] else { panic!("{notice:?}") };
    assert_eq!(question.query_type(), RecordType::SOA);
    assert_eq!(question.name(), &answer.name);
    let RData::SOA(soa) = &answer.data else { panic!("{answer:?}") };
    (question.name().to_string(), soa.serial)
}

fn counted(server: &Server, name: &str) -> f64 {
    server.metrics().value(name, &[])
}

#[test]
fn each_zone_is_told_until_that_is_answered_and_again_when_something_changes() {
    let secondary = Scripted::new();
    let cluster = Cluster::new(3);
    let server = primary(&cluster, &secondary.address().to_string());
    let lost = secondary.receive();
    let again = secondary.receive();
    assert_eq!(read(&lost.0), read(&again.0), "it was not answered");
    let (zone, serial) = read(&again.0);
    assert_eq!(zone, ZONES[0]);
    secondary.answer(again, ResponseCode::NoError);
    let other = secondary.receive();
    assert_eq!(read(&other.0), (ZONES[1].to_owned(), serial));
    secondary.answer(other, ResponseCode::NoError);
    eventually(|| match counted(&server, "mainstay_notifies_total") {
        2.0 => Ok(()),
        count => Err(format!("{count} are counted")),
    });
    cluster.write(CHANGES[1]);
    let changed = secondary.receive();
    assert!(read(&changed.0).1 > serial, "the serial has grown");
    // Any answer ends the tries, also one that says no. It may take the other zone nevertheless.
    secondary.answer(changed, ResponseCode::NotAuth);
    let other = secondary.receive();
    assert_eq!(read(&other.0).0, ZONES[1]);
    secondary.answer(other, ResponseCode::NoError);
    eventually(|| match counted(&server, "mainstay_notifies_total") {
        3.0 => Ok(()),
        count => Err(format!("{count} are counted")),
    });
    assert_eq!(counted(&server, "mainstay_notifies_refused_total"), 1.0);
    assert_eq!(counted(&server, "mainstay_notifies_unanswered_total"), 0.0, "it is not away");
    // The line comes right behind the count.
    eventually(|| match &server.complaints()[..] {
        [one] if one.contains("answers NOTAUTH when it is told that cluster.local.") => Ok(()),
        complaints => Err(format!("{complaints:?}")),
    });
}

#[test]
fn who_is_told_of_a_zone_is_who_may_have_it() {
    let (all, one) = (Scripted::new(), Scripted::new());
    let cluster = Cluster::new(3);
    let directives = format!(
        "transfer {{\n to {}\n}}\ntransfer {} {{\n to {}\n}}",
        all.address(),
        ZONES[0],
        one.address()
    );
    let _server = primary_with(&cluster, &directives);
    for (secondary, zone) in [(&all, ZONES[1]), (&one, ZONES[0])] {
        let notice = secondary.receive();
        assert_eq!(read(&notice.0).0, zone);
        secondary.answer(notice, ResponseCode::NoError);
    }
    cluster.write(CHANGES[1]);
    for (secondary, zone) in [(&all, ZONES[1]), (&one, ZONES[0])] {
        assert_eq!(read(&secondary.receive().0).0, zone, "the next is of the same zone");
    }
}

//! Writes objects where the API server keeps them, as a restored backup of etcd does. It sees them
//! as it sees its own writes, and tells its watches.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

/// Connections that write.
const WRITERS: usize = 16;

/// Longest silence while it is written to or read from.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Writes objects under their keys, each with a revision of its own, as the API server does: a
/// watch that is cut between two objects of one revision would miss the second.
pub fn put(port: u16, objects: &[(String, Value)]) {
    let share = objects.len().div_ceil(WRITERS);
    std::thread::scope(|scope| {
        for some in objects.chunks(share) {
            scope.spawn(move || some.iter().for_each(|(key, object)| put_one(port, key, object)));
        }
    });
}

fn put_one(port: u16, key: &str, object: &Value) {
    let (key, value) = (base64(key.as_bytes()), base64(object.to_string().as_bytes()));
    let reply = post(port, "/v3/kv/put", &json!({ "key": key, "value": value }).to_string());
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
}

fn post(port: u16, path: &str, body: &str) -> String {
    let address = (Ipv4Addr::LOCALHOST, port).into();
    let mut stream = TcpStream::connect_timeout(&address, SILENCE_MAX).expect("etcd listens");
    stream.set_read_timeout(Some(SILENCE_MAX)).unwrap();
    stream.set_write_timeout(Some(SILENCE_MAX)).unwrap();
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nhost: etcd\r\nconnection: close\r\n");
    write!(stream, "{head}content-length: {length}\r\n\r\n{body}").expect("etcd reads");
    let mut reply = String::new();
    let read = stream.read_to_string(&mut reply);
    read.unwrap_or_else(|error| panic!("etcd did not reply in {SILENCE_MAX:?}: {error}"));
    reply
}

/// RFC 4648 §4, as JSON has octets.
fn base64(octets: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for three in octets.chunks(3) {
        let octet = |place: usize| u32::from(three.get(place).copied().unwrap_or(0));
        let bits = octet(0) << 16 | octet(1) << 8 | octet(2);
        for place in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place > three.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

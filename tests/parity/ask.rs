//! Asks a server many questions at a time, over UDP and TCP.

use std::collections::BTreeSet;
use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::questions::{Over, Question};

/// Questions under way on one socket.
const WINDOW: usize = 48;
/// Longest silence until the questions under way are asked again: datagrams may be lost.
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// Silences until the server is given up.
const TRIES: usize = 4;
/// Ids are 16 bits, and a number is not used twice in a batch.
const BATCH: usize = 60_000;

/// The replies to questions, in their order.
pub fn ask(server: &str, port: u16, questions: &[Question]) -> Vec<Vec<u8>> {
    let packets: Vec<Vec<u8>> = questions.iter().map(Question::packet).collect();
    let of = |over| (0..questions.len()).filter(move |at| questions[*at].over == over);
    let (udp, tcp): (Vec<usize>, Vec<usize>) = (of(Over::Udp).collect(), of(Over::Tcp).collect());
    let mut replies = vec![Vec::new(); questions.len()];
    let (by_udp, by_tcp) = thread::scope(|scope| {
        let by_udp = scope.spawn(|| batches(&packets, &udp, |batch| over_udp(server, port, batch)));
        let by_tcp = batches(&packets, &tcp, |batch| over_tcp(server, port, batch));
        (by_udp.join().unwrap(), by_tcp)
    });
    for (at, reply) in udp.into_iter().zip(by_udp).chain(tcp.into_iter().zip(by_tcp)) {
        replies[at] = reply;
    }
    replies
}

/// Whether a server says nothing to a question, asked three times over UDP.
pub fn is_silent(port: u16, question: &Question) -> bool {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(250))).unwrap();
    (0..3).all(|_| {
        socket.send(&question.packet()).unwrap();
        socket.recv(&mut [0; 512]).is_err()
    })
}

fn batches(
    packets: &[Vec<u8>],
    wanted: &[usize],
    send: impl Fn(Batch) -> Vec<Vec<u8>>,
) -> Vec<Vec<u8>> {
    let batch = |chunk: &[usize]| send(Batch::new(chunk.iter().map(|at| packets[*at].clone())));
    wanted.chunks(BATCH).flat_map(batch).collect()
}

/// Packets whose ids are their numbers, and what came back.
struct Batch {
    packets: Vec<Vec<u8>>,
    replies: Vec<Vec<u8>>,
    next: usize,
    under_way: BTreeSet<usize>,
}

impl Batch {
    fn new(packets: impl Iterator<Item = Vec<u8>>) -> Self {
        let packets: Vec<Vec<u8>> = (0u16..)
            .zip(packets)
            .map(|(id, mut packet)| {
                packet[..2].copy_from_slice(&id.to_be_bytes());
                packet
            })
            .collect();
        let replies = vec![Vec::new(); packets.len()];
        Self { packets, replies, next: 0, under_way: BTreeSet::new() }
    }

    /// The next packet to send, if there is room in the window.
    fn take(&mut self) -> Option<&[u8]> {
        if self.under_way.len() == WINDOW || self.next == self.packets.len() {
            return None;
        }
        self.under_way.insert(self.next);
        self.next += 1;
        Some(&self.packets[self.next - 1])
    }

    /// Takes a reply. One that came before is not taken again.
    fn put(&mut self, reply: &[u8]) {
        let at = usize::from(u16::from_be_bytes([reply[0], reply[1]]));
        if self.under_way.remove(&at) {
            self.replies[at] = reply.to_vec();
        }
    }

    fn is_done(&self) -> bool {
        self.under_way.is_empty() && self.next == self.packets.len()
    }

    fn give_up(&self, server: &str, why: &str) -> ! {
        let first = self.under_way.first().map(|at| &self.packets[*at]);
        panic!("{server}: {why}; no reply to {} packets, {first:02x?}", self.under_way.len());
    }
}

fn over_udp(server: &str, port: u16, mut batch: Batch) -> Vec<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_read_timeout(Some(SILENCE_MAX)).unwrap();
    let mut buffer = vec![0; 65_535];
    let mut tries = 0;
    while !batch.is_done() {
        while let Some(packet) = batch.take() {
            // What is lost is sent again.
            let _ = socket.send(packet);
        }
        match socket.recv(&mut buffer) {
            Ok(len) if len >= 2 => batch.put(&buffer[..len]),
            _ if tries == TRIES => batch.give_up(server, "silent over UDP"),
            _ => {
                tries += 1;
                let again = batch.under_way.iter().map(|at| &batch.packets[*at]);
                again.for_each(|packet| drop(socket.send(packet)));
            }
        }
    }
    batch.replies
}

fn over_tcp(server: &str, port: u16, mut batch: Batch) -> Vec<Vec<u8>> {
    let mut tries = 0;
    while !batch.is_done() {
        let before = batch.under_way.len() + batch.packets.len() - batch.next;
        if let Err(error) = over_connection(port, &mut batch) {
            // A server may close a connection after so many questions; the rest goes on another.
            let after = batch.under_way.len() + batch.packets.len() - batch.next;
            tries = if after < before { 0 } else { tries + 1 };
            if tries > TRIES {
                batch.give_up(server, &format!("TCP: {error}"));
            }
        }
    }
    batch.replies
}

fn over_connection(port: u16, batch: &mut Batch) -> std::io::Result<()> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    let (mut writer, mut reader) = (&stream, BufReader::new(&stream));
    let again: Vec<u8> =
        batch.under_way.iter().flat_map(|at| framed(&batch.packets[*at])).collect();
    writer.write_all(&again)?;
    while !batch.is_done() {
        let mut frames = Vec::new();
        while let Some(packet) = batch.take() {
            frames.extend(framed(packet));
        }
        writer.write_all(&frames)?;
        let mut len = [0; 2];
        reader.read_exact(&mut len)?;
        let mut reply = vec![0; usize::from(u16::from_be_bytes(len))];
        reader.read_exact(&mut reply)?;
        batch.put(&reply);
    }
    Ok(())
}

fn framed(packet: &[u8]) -> Vec<u8> {
    [&(packet.len() as u16).to_be_bytes(), packet].concat()
}

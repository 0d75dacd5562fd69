//! What does the answer with 5 000 endpoints cost, and how much of it is there?

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::World;
use crate::subject::Subject;
use crate::support::packets::{A, Edns, question};
use crate::support::report::{Cell, Table};

/// Answers that are compared with each other.
const COMPARED: usize = 20;
/// Questions in flight.
const IN_FLIGHT: usize = 16;
const REPLY_MAX: Duration = Duration::from_secs(2);
const ABOUT: &str = "\
A of a headless Service with 5 000 ready endpoints. UDP with a payload of 1232 octets: how many \
addresses, whether TC says that there are more, how many different sets 20 answers had, and how \
many addresses these had together. TCP: how many addresses; the 64 KiB of a message hold some \
4 090 A records, so nobody can send all. Where replies differ in their number it is the least and \
the greatest. CPU time of the server for one answer, with 16 in flight, in µs. `lost`: questions \
over UDP without a reply.";

pub fn measure(world: &World) -> Result<Table, String> {
    let columns = [
        ("UDP addresses", 0),
        ("TC", 0),
        ("different sets of 20", 0),
        ("addresses of 20", 0),
        ("CPU, UDP", 1),
        ("TCP addresses", 0),
        ("CPU, TCP", 1),
        ("lost", 0),
    ];
    let mut table = Table::new("The huge answer", ABOUT, "server", &columns);
    let huge =
        world.cluster.huge().ok_or("the cluster has no huge Service; leave --services out")?;
    let name = world.cluster.dns_name(huge);
    let api = world.api();
    let window = Duration::from_secs(if world.options.quick { 1 } else { 3 });
    for program in world.programs() {
        let subject = world.ready(&program, &api)?;
        let cells = both(&subject, &name, window);
        let cells = cells.unwrap_or_else(|error| vec![Cell::Text(format!("failed: {error}"))]);
        table.row(&program.name, cells);
    }
    Ok(table)
}

fn both(subject: &Subject, name: &str, window: Duration) -> std::io::Result<Vec<Cell>> {
    let udp = over_udp(subject, name, window)?;
    let (addresses, cpu_us) = over_tcp(subject, name, window)?;
    let measured = |value| Cell::Measured(vec![value]);
    Ok(vec![
        udp.addresses.cell(),
        Cell::Text(if udp.is_truncated { "yes" } else { "no" }.to_owned()),
        measured(udp.sets as f64),
        measured(udp.together as f64),
        measured(udp.cpu_us),
        addresses.cell(),
        measured(cpu_us),
        measured(udp.lost as f64),
    ])
}

/// How many addresses replies had.
struct Counts {
    least: u16,
    most: u16,
}

impl Counts {
    const NONE: Self = Self { least: u16::MAX, most: 0 };

    /// Takes the count of a reply.
    fn take(&mut self, reply: &[u8]) {
        let count = count_in(reply);
        (self.least, self.most) = (self.least.min(count), self.most.max(count));
    }

    fn cell(&self) -> Cell {
        match self {
            Self { least, most } if least == most => Cell::Measured(vec![f64::from(*most)]),
            Self { least, most } if least > most => Cell::Text("none".to_owned()),
            Self { least, most } => Cell::Text(format!("{least} to {most}")),
        }
    }
}

/// What came over UDP.
struct Datagrams {
    addresses: Counts,
    is_truncated: bool,
    /// Different sets of addresses.
    sets: usize,
    /// Different addresses in all of them.
    together: usize,
    cpu_us: f64,
    /// Questions without a reply.
    lost: usize,
}

fn over_udp(subject: &Subject, name: &str, window: Duration) -> std::io::Result<Datagrams> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(subject.address)?;
    socket.set_read_timeout(Some(REPLY_MAX))?;
    let packet = question(name, A, Edns::With);
    let mut reply = vec![0; 65_535];
    let (mut sets, mut together) = (BTreeSet::new(), BTreeSet::new());
    let (mut addresses, mut is_truncated, mut lost) = (Counts::NONE, true, 0);
    for _ in 0..COMPARED {
        socket.send(&packet)?;
        let Ok(len) = socket.recv(&mut reply) else {
            lost += 1;
            continue;
        };
        addresses.take(&reply[..len]);
        let set = addresses_in(&reply[..len], packet.len() - OPT_BYTES);
        is_truncated &= reply[2] & 0x02 != 0;
        together.extend(set.iter().copied());
        sets.insert(set);
    }
    let (before, began) = (subject.server.cpu_time(), Instant::now());
    let mut answers = 0;
    while began.elapsed() < window {
        for _ in 0..IN_FLIGHT {
            socket.send(&packet)?;
        }
        for came in 0..IN_FLIGHT {
            // What does not come in time will not come, nor what was sent behind it.
            let Ok(len) = socket.recv(&mut reply) else {
                lost += IN_FLIGHT - came;
                break;
            };
            addresses.take(&reply[..len]);
            answers += 1;
        }
    }
    let cpu_us = cpu_us(subject, before, answers);
    let (sets, together) = (sets.len(), together.len());
    Ok(Datagrams { addresses, is_truncated, sets, together, cpu_us, lost })
}

/// How many addresses there are, and what an answer costs. Servers may set TC: not all have room.
fn over_tcp(subject: &Subject, name: &str, window: Duration) -> std::io::Result<(Counts, f64)> {
    let packet = question(name, A, Edns::Without);
    let framed = [&(packet.len() as u16).to_be_bytes()[..], &packet].concat();
    let all = framed.repeat(IN_FLIGHT);
    let mut stream = TcpStream::connect(subject.address)?;
    stream.set_read_timeout(Some(REPLY_MAX))?;
    let (before, began) = (subject.server.cpu_time(), Instant::now());
    let (mut answers, mut addresses, mut reply) = (0, Counts::NONE, vec![0; 65_535]);
    while began.elapsed() < window {
        stream.write_all(&all)?;
        for _ in 0..IN_FLIGHT {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let reply = &mut reply[..usize::from(u16::from_be_bytes(length))];
            stream.read_exact(reply)?;
            addresses.take(reply);
            answers += 1;
        }
    }
    Ok((addresses, cpu_us(subject, before, answers)))
}

/// The OPT record behind a question, in octets.
const OPT_BYTES: usize = 11;
/// An A record whose owner is a pointer, in octets.
const RECORD_BYTES: usize = 16;

/// The addresses of a reply that repeats no name, sorted.
fn addresses_in(reply: &[u8], records_at: usize) -> Vec<[u8; 4]> {
    let records = reply.get(records_at..).unwrap_or_default().chunks_exact(RECORD_BYTES);
    let records = records.take(count_in(reply).into());
    let mut addresses: Vec<[u8; 4]> =
        records.map(|record| *record.last_chunk().expect("16 octets")).collect();
    addresses.sort_unstable();
    addresses
}

/// The count of records in the answer section; none in what is shorter than a header.
fn count_in(reply: &[u8]) -> u16 {
    reply.get(6..8).map_or(0, |octets| u16::from_be_bytes([octets[0], octets[1]]))
}

fn cpu_us(subject: &Subject, before: Duration, answers: u64) -> f64 {
    let used = subject.server.cpu_time().saturating_sub(before);
    used.as_secs_f64() * 1e6 / answers.max(1) as f64
}

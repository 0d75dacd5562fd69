//! Free ports of loopback, for programs that want a number before they start.
//!
//! They are chosen below those that the kernel gives to clients: a port that is closed for a
//! restart would else be taken by somebody's connection meanwhile.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::sync::Mutex;

use rand::RngExt;

/// Where ports are looked for: above the well-known ones, below the kernel's range.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// What was given away, so that no two callers get the same.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that nobody has, over UDP and TCP, on all addresses.
pub fn free() -> u16 {
    let mut given = GIVEN.lock().unwrap();
    let port = std::iter::repeat_with(|| rand::rng().random_range(PORTS))
        .find(|&port| !given.contains(&port) && is_free(port))
        .expect("the iterator does not end");
    given.insert(port);
    port
}

fn is_free(port: u16) -> bool {
    let loopback = (Ipv4Addr::LOCALHOST, port);
    let udp = UdpSocket::bind(loopback).is_ok();
    let tcp = TcpListener::bind(loopback).is_ok();
    // Machines without IPv6 have nothing to collide with there.
    let tcp6 = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port));
    udp && tcp && !tcp6.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse)
}

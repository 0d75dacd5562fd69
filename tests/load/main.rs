//! The load-testing harness as users run it, on loopback, and against what it acts upon: a real API
//! server.

#[allow(dead_code)] // Other test programs use the rest.
#[path = "../support/control_plane.rs"]
mod control_plane;
#[path = "../support/kubeapi.rs"]
mod kubeapi;
#[path = "../support/ports.rs"]
mod ports;
#[allow(dead_code)] // Other test programs use the rest.
#[path = "../support/process.rs"]
mod process;
#[path = "../support/skip.rs"]
mod skip;

mod fake;
mod mainstay;
mod running;

mod ends;
mod faults;
mod good;
mod input;
mod places;
mod pods;
mod servers;
mod workers;

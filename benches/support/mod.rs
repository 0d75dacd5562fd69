//! What the benches of whole servers share: a load generator, servers to ask, and reports.
#![allow(dead_code, reason = "each bench uses what it needs")]

pub mod apiserver;
pub mod asker;
pub mod binaries;
pub mod histogram;
pub mod machine;
pub mod packets;
pub mod plot;
pub mod random;
pub mod report;
pub mod server;
pub mod tcp;
